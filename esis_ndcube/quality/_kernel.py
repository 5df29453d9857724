"""Compiled sums over two images."""

import numba
import numpy as np

_FLAGS = {"contract", "reassoc", "nsz"}


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS)
def shifted_sums(core, weight, second):
    """
    Sums of w s, w s s and c s for every shift of a second image under a core c and its weights w.

    All arrays are of one floating type. The second image is larger by the number of shifts minus one along both axes;
    the result has shape (shifts along y, shifts along x, 3). Rows are summed in the type of the images, and added in
    double precision.
    """
    rows, columns = core.shape
    high, wide = second.shape[0] - rows + 1, second.shape[1] - columns + 1
    result = np.zeros((high, wide, 3))
    zero = np.zeros(1, core.dtype)[0]
    for y in range(rows):
        c, w = core[y], weight[y]
        for k in range(high):
            for m in range(wide):
                s = second[y + k, m : m + columns]
                first, square, product = zero, zero, zero
                for x in range(columns):
                    part = w[x] * s[x]
                    first += part
                    square += part * s[x]
                    product += c[x] * s[x]
                result[k, m, 0] += first
                result[k, m, 1] += square
                result[k, m, 2] += product
    return result


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS)
def common_sums(a, b, good):
    """
    Number of good pixels, and sums of a, b, a a, b b and a b over them, where the first good value of each is
    subtracted.

    All arrays are flat, and finite also where they are not good. Without the first values the sums keep their
    precision, and the sums of a constant are 0.
    """
    start = 0
    while start < good.size and not good[start]:
        start += 1
    if start == good.size:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    first, second = np.float64(a[start]), np.float64(b[start])
    n, x, y, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(start, good.size):
        # Multiplied and not skipped: the processor then does several pixels at once.
        weight = np.float64(good[i])
        p = (np.float64(a[i]) - first) * weight
        q = (np.float64(b[i]) - second) * weight
        n += weight
        x += p
        y += q
        xx += p * p
        yy += q * q
        xy += p * q
    return n, x, y, xx, yy, xy
