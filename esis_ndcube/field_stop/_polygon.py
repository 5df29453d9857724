"""Compiled distances from the sides of a convex polygon."""

import numba
import numpy as np

_BLOCK = 2048


@numba.njit(cache=True, nogil=True)
def smallest_distance(sides, x, y, result):
    """
    Smallest of a x + b y + c over the sides (a, b, c), for every pixel.

    ``x``, ``y`` and ``result`` are flat; a coordinate that is NaN gives NaN.
    """
    for i in range(x.size):
        best = np.inf
        for side in range(sides.shape[0]):
            distance = sides[side, 0] * x[i] + sides[side, 1] * y[i] + sides[side, 2]
            # False for NaN, which stays
            if not distance >= best:
                best = distance
        result[i] = best


@numba.njit(cache=True, nogil=True)
def inside(sides, margin, x, y, result):
    """
    Whether a x + b y + c is at least ``margin`` for all sides (a, b, c), for every pixel.

    ``x``, ``y`` and ``result`` are flat; a coordinate that is NaN is not inside.
    """
    # The sides are tested together for a block that stays in the cache: the processor then does several pixels at once.
    for start in range(0, x.size, _BLOCK):
        part_x, part_y, part = x[start : start + _BLOCK], y[start : start + _BLOCK], result[start : start + _BLOCK]
        part[:] = True
        for side in range(sides.shape[0]):
            a, b, c = sides[side, 0], sides[side, 1], sides[side, 2]
            for i in range(part.size):
                part[i] &= a * part_x[i] + b * part_y[i] + c >= margin
