"""Compiled filters, several times faster on one thread than those for any type and window."""

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


@numba.njit(cache=True, nogil=True)
def grown(chosen, reach, outside):
    """Pixels with a chosen one (bool) up to a reach away along both axes; ``outside`` of the image all are, or none."""
    rows, columns = chosen.shape
    before, after = (-1, 0) if outside else (-1 - reach, reach)
    along = np.empty((rows, columns), dtype=np.bool_)
    for y in range(rows):
        last = before
        for x in range(columns):
            if chosen[y, x]:
                last = x
            along[y, x] = x - last <= reach
        last = columns + after
        for x in range(columns - 1, -1, -1):
            if chosen[y, x]:
                last = x
            along[y, x] |= last - x <= reach
    result = np.empty((rows, columns), dtype=np.bool_)
    latest = np.full(columns, before, dtype=np.int32)
    for y in range(rows):
        for x in range(columns):
            latest[x] = y if along[y, x] else latest[x]
            result[y, x] = y - latest[x] <= reach
    latest[:] = rows + after
    for y in range(rows - 1, -1, -1):
        for x in range(columns):
            latest[x] = y if along[y, x] else latest[x]
            result[y, x] |= latest[x] - y <= reach
    return result
