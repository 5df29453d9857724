"""Images as text that an HTML page holds itself."""

import base64
import io

import numpy as np
from matplotlib import colormaps
from PIL import Image

_QUALITY = 80


def shrink(image, side):
    """Means of the valid pixels of blocks, at most ``side`` of them; NaN where less than half of them are."""
    factor = max(1, -(-max(image.shape) // side))
    # A narrow image keeps a pixel.
    factors = [min(factor, n) for n in image.shape]
    rows, columns = (n // f for n, f in zip(image.shape, factors, strict=True))
    blocks = image[: rows * factors[0], : columns * factors[1]].reshape(rows, factors[0], columns, factors[1])
    good = np.isfinite(blocks)
    count = good.sum(axis=(1, 3))
    total = np.where(good, blocks, 0).sum(axis=(1, 3))
    return np.where(2 * count >= factors[0] * factors[1], total / np.maximum(count, 1), np.nan)


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
