"""Compiled search for the few pixels of a frame that may be spikes."""

import numba
import numpy as np

_HALF, _ZERO = np.float32(0.5), np.float32(0)


@numba.njit(cache=True, nogil=True)
def preselect(image, sigma, floor, slope, result):
    """Mark the pixels of a float32 image that are at all above one of the pairs beside them, except at its edges."""
    rows, columns = image.shape
    for y in range(1, rows - 1):
        for x in range(1, columns - 1):
            low = (image[y, x + 1] + image[y, x - 1]) * _HALF
            # A pair with NaN makes all values NaN.
            pair = (image[y + 1, x] + image[y - 1, x]) * _HALF
            low = low if low < pair or low != low else pair
            pair = (image[y + 1, x + 1] + image[y - 1, x - 1]) * _HALF
            low = low if low < pair or low != low else pair
            pair = (image[y + 1, x - 1] + image[y - 1, x + 1]) * _HALF
            low = low if low < pair or low != low else pair
            noise = np.sqrt(floor + slope * (low if low > _ZERO else _ZERO))
            result[y, x] = image[y, x] - low > sigma * noise
