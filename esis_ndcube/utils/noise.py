"""
Correlation of the noise of neighboring pixels.

The correlation is an array of odd shape: the correlation of the errors of two pixels by their distance in rows and
columns, 1 in the middle. It is the same for all pixels of an image.
"""

import numpy as np
from scipy.ndimage import convolve1d

# The part beyond the edges of a correlation is less than this part of it.
_LEFT_OUT = 0.005


def autocorrelation(kernel):
    """Sums of products of a kernel and itself, shifted."""
    # Not by Fourier transforms, which leave noise where the result is zero.
    height, width = kernel.shape
    result = np.zeros((2 * height - 1, 2 * width - 1))
    for (row, column), value in np.ndenumerate(kernel):
        result[row : row + height, column : column + width] += value * kernel[::-1, ::-1]
    return result


def trim_correlation(correlation):
    """Leave out edges with nearly no contribution."""
    y, x = (abs(index - n // 2) for index, n in zip(np.indices(correlation.shape), correlation.shape, strict=True))
    ring = np.bincount(np.maximum(x, y).ravel(), np.abs(correlation).ravel())
    beyond = ring.sum() - np.cumsum(ring)
    kept = int(np.argmax(beyond <= _LEFT_OUT * ring.sum()))
    rows, columns = (slice(max(n // 2 - kept, 0), n // 2 + kept + 1) for n in correlation.shape)
    return correlation[rows, columns].copy()


def stack_correlations(correlations):
    """Several correlations, each of its own size, as one array."""
    shape = np.max([one.shape for one in correlations], axis=0)
    return np.stack([_pad(one, [(n - m) // 2 for n, m in zip(shape, one.shape, strict=True)]) for one in correlations])


def bin_correlation(correlation, factors):
    """Correlation of the sums of bins with given numbers of pixels along y and x."""
    # The distance up to which bins reach each other.
    sums = _pad(correlation, [2 * n for n in factors])
    for axis, n in enumerate(factors):
        pairs = n - abs(np.arange(1 - n, n))
        sums = convolve1d(sums, pairs, axis=axis, mode="constant")
    middle = tuple(n // 2 for n in sums.shape)
    return sums[tuple(slice(m % n, None, n) for m, n in zip(middle, factors, strict=True))] / sums[middle]


def _pad(array, margins):
    return np.pad(array, [(margin, margin) for margin in margins])


def keep_axes(correlation, names):
    """Correlation, shape (..., y, x), of images of which only the named axes are left."""
    correlation = np.asarray(correlation, dtype=float)
    for axis, name in ((-1, "x"), (-2, "y")):
        if name not in names:
            correlation = np.take(correlation, correlation.shape[axis] // 2, axis=axis)
    return correlation


def bin_variance(sigma, correlation, factors):
    """
    Variance of the sums of whole bins, with given numbers of pixels along each axis of the correlation, shape (y, x) or
    less.

    ``sigma``, whose last axes are these axes, is 0 where a pixel does not count.
    """
    from esis_ndcube.utils import _noise_kernel

    ndim = correlation.ndim
    leading, image = sigma.shape[: sigma.ndim - ndim], sigma.shape[sigma.ndim - ndim :]
    # A line, or a point, is an image of few pixels.
    more = (1,) * (2 - ndim)
    images = np.ascontiguousarray(sigma, dtype=float).reshape(-1, *more, *image)
    correlation = np.ascontiguousarray(correlation, dtype=float).reshape(*more, *correlation.shape)
    rows, columns = (*more, *factors)
    result = np.empty((len(images), images.shape[1] // rows, images.shape[2] // columns))
    # A bin with an infinite error has an infinite variance, also if it shares nothing with that pixel.
    infinite = np.isinf(images)
    for one, sums in zip(np.where(infinite, 0, images), result, strict=True):
        _noise_kernel.bin_variance(one, correlation, rows, columns, sums)
    if infinite.any():
        blocks = infinite[:, : result.shape[1] * rows, : result.shape[2] * columns]
        blocks = blocks.reshape(len(images), result.shape[1], rows, result.shape[2], columns)
        result[blocks.any(axis=(2, 4))] = np.inf
    return result.reshape(*leading, *(n // f for n, f in zip(image, factors, strict=True)))


def resample_correlation(correlation, jacobian, shared, reach):
    """
    Correlation of the noise of pixels that are made from other pixels.

    ``jacobian`` are the derivatives of the position (x, y) on the other pixels by the new pixel. ``shared`` gives the
    integral of the product of the weights of two new pixels by their distances x and y there, which is 0 beyond
    ``reach``. Returns the correlation, and the variance of a new pixel.
    """
    rows, columns = (np.arange(n) - n // 2 for n in correlation.shape)
    narrow = np.linalg.svd(jacobian, compute_uv=False).min()
    far = int(np.ceil((max(correlation.shape) // 2 + reach) / narrow))
    lags = np.stack(np.meshgrid(*2 * [np.arange(-far, far + 1)]), axis=-1)
    covariance = np.zeros(lags.shape[:2])
    for line, places in zip(covariance, lags @ jacobian.T, strict=True):
        # Weights that are products of weights along x and y are looked up once for each row and column.
        x, y = places.T
        parts = correlation[..., None] * shared(x - columns[:, None], y - rows[:, None, None])
        line[:] = parts.reshape(-1, len(line)).sum(axis=0)
    return trim_correlation(covariance / covariance[far, far]), covariance[far, far]
