"""Images as text that an HTML page holds itself."""

import base64
import io

import numpy as np
from matplotlib import colormaps
from PIL import Image

from esis_ndcube.registration.reference import bin_image

_QUALITY = 80


def shrink(image, side):
    """Means of the valid pixels of blocks, at most ``side`` of them; NaN where less than half of them are."""
    factor = max(1, -(-max(image.shape) // side))
    # A narrow image keeps a pixel.
    means, good = bin_image(image, np.isfinite(image), tuple(min(factor, n) for n in image.shape))
    return np.where(good, means, np.nan).astype(float)


def encode(image, colormap):
    """A picture of values from 0 to 1 as the source of an HTML image, north up, transparent where there are no data."""
    image = np.ma.filled(np.ma.asarray(image, dtype=float), np.nan)
    colors = colormaps[colormap](np.nan_to_num(image), bytes=True)
    colors[~np.isfinite(image)] = 0
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colors[::-1])).save(stream, format="webp", quality=_QUALITY)
    return source(stream)


def source(stream):
    """A WebP picture as the source of an HTML image."""
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
