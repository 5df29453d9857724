"""The part that all measures of quality share: checks of the cube, and filters."""

import numpy as np

from esis_ndcube.flags import Flag
from esis_ndcube.registration import log_difference_of_gaussians
from esis_ndcube.utils.checks import check_axes, check_cube

# All offsets are measured on images filtered with Gaussians of these widths in pixels.
FINE, COARSE = 1.0, 8.0


def check(cube, *, flags=False):
    """Refuse a cube without all four axes, or without flags where they are needed."""
    check_cube(cube, 3)
    check_axes(cube, "frame_number", "channel", *["flags"] * flags)


def field_stop(cube, time, channel):
    """Pixels inside of the field stop, whatever their value, shape (y, x)."""
    return np.asarray(cube.flags[time, channel]) & (Flag.OUTSIDE | Flag.MISSING) == 0


def filtered(image, valid):
    """An image, filtered for the measurement of offsets."""
    return log_difference_of_gaussians(image, FINE, COARSE, valid=valid)


def coefficient(a, b, good):
    """Correlation coefficient of two finite images where they are good; NaN if one of them is constant there."""
    from esis_ndcube.quality._kernel import common_sums

    n, x, y, xx, yy, xy = common_sums(compiled_type(a).ravel(), compiled_type(b).ravel(), np.ravel(good))
    if n < 2:
        return np.nan
    xx, yy, xy = xx - x * x / n, yy - y * y / n, xy - x * y / n
    return float(xy / np.sqrt(xx * yy)) if xx > 0 and yy > 0 else np.nan


def compiled_type(array):
    """The array in the form that compiled sums take: contiguous, and of single precision only if it is so already."""
    return np.ascontiguousarray(array, dtype=np.float32 if array.dtype == np.float32 else float)
