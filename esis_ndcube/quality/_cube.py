"""What all measures of quality ask of a cube."""

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
    """Pixels inside the field stop, whatever their value, shape (y, x)."""
    return np.asarray(cube.flags[time, channel]) & (Flag.OUTSIDE | Flag.MISSING) == 0


def filtered(image, valid):
    """An image as all offsets are measured on it."""
    return log_difference_of_gaussians(image, FINE, COARSE, valid=valid)


def coefficient(a, b):
    """Correlation coefficient of two sets of values; NaN if one of them is constant."""
    a, b = (np.asarray(x, dtype=float) for x in (a, b))
    if a.size < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return np.nan
    return float(np.corrcoef(a, b)[0, 1])
