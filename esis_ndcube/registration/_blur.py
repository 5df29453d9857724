"""A compiled separable filter, several times faster on one thread than one that computes in double precision."""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def separable(image, along_y, along_x):
    """Convolve a float32 image with symmetric odd kernels (float32) along both axes; it is 0 outside."""
    rows, columns = image.shape
    half_y, half_x = len(along_y) // 2, len(along_x) // 2
    result = np.empty((rows, columns), dtype=np.float32)
    line = np.zeros(columns + 2 * half_x, dtype=np.float32)
    inner = line[half_x : half_x + columns]
    for y in range(rows):
        inner[:] = 0
        for t in range(max(0, half_y - y), min(len(along_y), rows + half_y - y)):
            weight, source = along_y[t], image[y + t - half_y]
            for x in range(columns):
                inner[x] += weight * source[x]
        target = result[y]
        target[:] = 0
        for t in range(len(along_x)):
            weight, source = along_x[t], line[t : t + columns]
            for x in range(columns):
                target[x] += weight * source[x]
    return result
