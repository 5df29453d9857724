"""Images as text, which an HTML page holds itself."""

import base64
import io

import numpy as np
from matplotlib import colormaps
from PIL import Image

from esis_ndcube.registration.reference import bin_image
from esis_ndcube.visualization.style import NO_DATA

_QUALITY = 80
# A quick one of 6 methods; files are some per cent larger.
_METHOD = 2


def shrink(image, side):
    """Means of the valid pixels of blocks, at most ``side`` of them; NaN if less than half of a block is valid."""
    factor = max(1, -(-max(image.shape) // side))
    # A narrow image keeps a pixel.
    means, good = bin_image(image, np.isfinite(image), tuple(min(factor, n) for n in image.shape))
    return np.where(good, means, np.nan).astype(float)


def encode(image, colormap):
    """A picture of values from 0 to 1 as the source of an HTML image, north up, gray where there are no data."""
    image = np.ma.filled(np.ma.asarray(image, dtype=float), np.nan)
    colors = colormaps[colormap].with_extremes(bad=NO_DATA)(np.ma.masked_invalid(image), bytes=True)
    return source(Image.fromarray(np.ascontiguousarray(colors[::-1, :, :3])), quality=_QUALITY)


def source(image, **options):
    """A picture as the source of an HTML image, in WebP with options of Pillow."""
    stream = io.BytesIO()
    image.save(stream, format="webp", method=_METHOD, **options)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
