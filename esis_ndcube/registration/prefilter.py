"""The filter that makes images of different brightness and passband comparable."""

from functools import lru_cache

import numpy as np

from esis_ndcube.utils.arrays import plain_arrays

__all__ = ["log_difference_of_gaussians"]

# The logarithm is taken of the image plus this fraction of its median, so that noise in the dark does not blow up.
_FLOOR = 0.2
_TRUNCATE = 3.0
_LARGE = 100_000
# Weights of larger images, in pixels, are not kept.
_KEPT = 4_000_000
# Number of rows that are converted at once.
_ROWS = 64
# A pixel has no value if the filter sees less of the image than this.
_LEAST_WEIGHT = 1e-3


@plain_arrays("image", "valid")
def log_difference_of_gaussians(image, fine, coarse, *, valid=None):
    r"""
    Filter an image for registration.

    .. math:: F = L - G_c * L, \qquad L = \log\left(G_f * I + 0.2\,\mathrm{median}(I)\right)

    with Gaussians normalized over the valid pixels.
    The logarithm keeps bright points from deciding the alignment. Subtracting the coarse Gaussian removes the slow
    trends (vignetting, stray light, the field stop).

    Parameters
    ----------
    image : `numpy.ndarray`
        Shape (y, x).
    fine, coarse : `float` or `tuple` of `float`
        Widths (sigma) of the Gaussians in pixels; two values are for (y, x).
    valid : `numpy.ndarray`, optional
        Pixels to use; by default the finite ones. Pixels that are not finite are never used.

    Returns
    -------
    `numpy.ndarray`
        The filtered image, float32, 0 where invalid.

    Raises
    ------
    ValueError
        If the image is not two-dimensional or ``valid`` has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration import log_difference_of_gaussians
    >>> flat = log_difference_of_gaussians(np.full((20, 20), 7.0), 1, 5)
    >>> bool(abs(flat).max() < 1e-6)
    True
    """
    image = np.asarray(image)
    if image.ndim != 2:
        msg = f"got an image of shape {image.shape}, expected two dimensions"
        raise ValueError(msg)
    finite = np.isfinite(image)
    if valid is not None:
        if np.shape(valid) != image.shape:
            msg = f"got a valid mask of shape {np.shape(valid)}, expected that of the image, {image.shape}"
            raise ValueError(msg)
        finite &= np.asarray(valid, dtype=bool)
    return np.where(finite, filtered_everywhere(image, finite, fine, coarse), 0).astype(np.float32, copy=False)


def filtered_everywhere(image, finite, fine, coarse):
    """The filter of an image; a pixel that is not valid is interpolated between its valid neighbors."""
    if not finite.any():
        return np.zeros(image.shape, dtype=np.float32)
    level = max(median_of(image, finite), 0.0)
    # The median of pure noise would leave the logarithm unbounded.
    largest = max(float(np.max(image, where=finite, initial=0)), -float(np.min(image, where=finite, initial=0)))
    base = level + max(_FLOOR * level, 1e-3 * largest) or 1.0
    # About the median, single precision keeps faint structures on a bright ground; but it holds no larger numbers.
    relative = np.empty(image.shape, dtype=np.float32)
    for start in range(0, len(image), _ROWS):
        rows = slice(start, start + _ROWS)
        above = np.zeros(image[rows].shape)
        np.subtract(image[rows], level, out=above, where=finite[rows], dtype=np.float64)
        relative[rows] = above / base
    logarithm = blur(relative, fine)
    logarithm /= _weight(finite, fine)
    np.maximum(logarithm, np.float32(-level / base), out=logarithm)
    np.log1p(logarithm, out=logarithm)
    background = blur(np.where(finite, logarithm, 0), coarse)
    background /= _weight(finite, coarse)
    logarithm -= background
    return logarithm


def median_of(image, finite):
    """Median of an image; for a large image, of every third row and column, which takes a tenth of the time."""
    step = 3 if image.size > _LARGE and finite[::3, ::3].any() else 1
    return float(np.median(image[::step, ::step][finite[::step, ::step]].astype(np.float64)))


def _pair(sigma):
    return tuple(np.broadcast_to(sigma, 2).tolist())


def blur(image, sigma, truncate=_TRUNCATE):
    """Blur an image, which is 0 outside, by a Gaussian of one width in pixels or two (y, x); in float32."""
    from esis_ndcube.registration._blur import separable

    kernels = (_gaussian(width, truncate) for width in _pair(sigma))
    return separable(np.ascontiguousarray(image, dtype=np.float32), *kernels)


def _gaussian(sigma, truncate):
    """A Gaussian of sum 1, cut off as scipy does it."""
    half = int(truncate * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sigma, 1e-9)) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


def _weight(finite, sigma):
    """Blurred valid pixels, 1 where hardly any are near."""
    if finite.size > _KEPT:
        return _blurred(finite, sigma)
    return _kept_weight(np.packbits(finite).tobytes(), finite.shape, _pair(sigma))


@lru_cache(maxsize=24)
def _kept_weight(key, shape, sigma):
    """The same from packed pixels, which all exposures of a channel share."""
    weight = _blurred(
        np.unpackbits(np.frombuffer(key, dtype=np.uint8), count=shape[0] * shape[1]).reshape(shape), sigma
    )
    weight.setflags(write=False)
    return weight


def _blurred(finite, sigma):
    weight = blur(finite.astype(np.float32), sigma)
    weight[weight < _LEAST_WEIGHT] = 1
    return weight
