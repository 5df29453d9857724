"""Compiled sums over pairs of pixels whose noise is correlated."""

import numba


@numba.njit(cache=True, nogil=True)
def bin_variance(sigma, correlation, rows, columns, result):
    """
    Variance of the sums of bins with given numbers of rows and columns; the image must have a whole number of bins.

    ``sigma``, shape (y, x), is 0 where a pixel does not count.
    """
    up, right = correlation.shape[0] // 2, correlation.shape[1] // 2
    for j in range(result.shape[0]):
        for i in range(result.shape[1]):
            total = 0.0
            for y in range(j * rows, (j + 1) * rows):
                for x in range(i * columns, (i + 1) * columns):
                    here = 0.0
                    for row in range(y, min(y + up + 1, (j + 1) * rows)):
                        # Each pair once: pixels behind in the same row, and all in the rows after it.
                        first = max(x - right, i * columns) if row > y else x + 1
                        for column in range(first, min(x + right + 1, (i + 1) * columns)):
                            here += correlation[up + row - y, right + column - x] * sigma[row, column]
                    total += sigma[y, x] * (sigma[y, x] + 2.0 * here)
            result[j, i] = total
