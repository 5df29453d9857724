"""
Find and mend the marks that particles leave in a frame.

A particle lights up single pixels or thin tracks, while all light that comes through the optics is as wide as their
point spread.
So `find_spikes` looks for marks that are *sharper* than the sharpest image of the optics, not for bright or new ones:
brightenings of the Sun that last for one frame stay.
"""

import numpy as np

from esis_ndcube.utils.arrays import plain_arrays

__all__ = ["estimate_noise", "find_spikes", "mend_spikes"]

_HALF = 3  # windows are 7 x 7: wide enough for a level beside a track, narrow enough to follow the Sun
# The level under a point source: a low one, because the median beside a bright ridge is on the ridge.
_LOW = 0.25
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Means of pixels on opposite sides of a pixel: the steps that each mean includes. A track hides in the pair along it
# and shows in the pair across it; single pixels show best in the mean of all.
_SIDES = ((0,), (1,), (2,), (3,), (0, 1), (0, 1, 2, 3))


@plain_arrays("image")
def estimate_noise(image, *, bins=32):
    """
    Measure how the noise of a frame grows with its signal.

    The scatter about the mean of the four nearest neighbors is taken in bins of the signal, from quartiles,
    so that neither spikes nor the sharpest parts of the Sun enter.
    If the spread of charge has blurred the photons, the noise per pixel is less than in Poisson's law; the measured
    noise is that of a pixel against its neighbors.

    Parameters
    ----------
    image : `numpy.ndarray`
        Frame in any linear unit, shape (y, x); may hold NaN.
    bins : `int`, optional
        Number of bins of the signal.

    Returns
    -------
    floor : `float`
        Variance without signal.
    slope : `float`
        Variance per unit of signal.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.level1.despike import estimate_noise
    >>> rng = np.random.default_rng(1)
    >>> signal = np.tile(np.linspace(0, 500, 512), (512, 1))
    >>> image = 2 * rng.poisson(signal / 2) + rng.normal(0, 6, signal.shape)
    >>> floor, slope = estimate_noise(image)
    >>> bool(abs(floor - 36) < 9), bool(abs(slope - 2) < 0.1)
    (True, True)
    """
    rows, columns = (max(length - 2, 0) for length in image.shape)
    # A few hundred thousand pixels give the same result as all pixels.
    y, x = np.divmod(np.arange(0, rows * columns, max(1, rows * columns // 400_000)), max(columns, 1))
    at = (y + 1) * image.shape[1] + x + 1
    flat = image.ravel()
    # In double precision, so that the type of the image does not matter.
    beside, above = (np.add(flat[at + step], flat[at - step], dtype=float) / 2 for step in (1, image.shape[1]))
    level = (beside + above) / 2
    residual = flat[at] - level
    good = np.isfinite(residual)
    level, residual = level[good], residual[good]
    if len(level) < bins:
        return 0.0, 0.0
    count = len(level) // bins
    order = np.argsort(_coarse(level - np.median(level)), kind="stable")[: count * bins].reshape(bins, count)
    signal = np.maximum(level[order].mean(axis=1), 0)
    # The quartiles of normal values are 1.349 sigma apart; the mean of four neighbors adds a quarter of
    # variance.
    low, high = np.percentile(residual[order], [25, 75], axis=1, overwrite_input=True)
    variance = np.square((high - low) / 1.349) / 1.25
    if not variance.any() or np.ptp(signal) == 0:
        return float(variance.mean()), 0.0
    weight = 1 / np.maximum(variance, 1e-3 * variance.max())
    slope, floor = np.polynomial.polynomial.polyfit(signal, variance, 1, w=weight)[::-1]
    return float(max(floor, variance.min() / 2)), float(max(slope, 0))


@plain_arrays("image")
def find_spikes(image, sigma=4.5, *, fwhm=2.3, grow=3.0, iterations=8, noise=None):
    """
    Find the pixels of a frame that a particle has hit.

    A pixel is a spike if it stands higher above the pixels on both sides of it, in any of four directions,
    than the peak of a point source of width ``fwhm`` would, by ``sigma`` times the noise of that comparison.
    Then the surroundings of the spikes are searched again without them, so that thick tracks are found from their rims
    inward. Neighbors of spikes are also marked if they stand ``grow`` times the local scatter above the level around
    them.

    Parameters
    ----------
    image : `numpy.ndarray`
        Frame in any linear unit, shape (y, x); NaN marks pixels that are known to be invalid.
    sigma : `float`, optional
        Significance.
    fwhm : `float`, optional
        Full width at half maximum in pixels of the sharpest image that the optics can make.
    grow : `float`, optional
        Significance for the neighbors of spikes.
    iterations : `int`, optional
        Largest number of passes.
    noise : `tuple` of 2 `float`, optional
        Variance without signal and per unit of signal; by default measured by `estimate_noise`.

    Returns
    -------
    `numpy.ndarray`
        True for spikes, shape (y, x).

    Raises
    ------
    ValueError
        If ``sigma`` or ``fwhm`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.level1.despike import find_spikes
    >>> image = np.random.default_rng(1).normal(100, 5, (64, 64))
    >>> y, x = np.mgrid[:64, :64]
    >>> image += 400 * np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / 4)  # the Sun
    >>> image[40, 30] += 200  # a particle
    >>> np.argwhere(find_spikes(image)).tolist()
    [[40, 30]]
    """
    for name, value in {"sigma": sigma, "fwhm": fwhm}.items():
        if not value > 0:
            msg = f"got {name}={value!r}, expected more than 0"
            raise ValueError(msg)
    work = np.pad(np.asarray(image, dtype=np.float32), _HALF, mode="reflect")
    noise = estimate_noise(image) if noise is None else noise
    spikes = np.zeros(work.shape, dtype=bool)
    inside = np.zeros(work.shape, dtype=bool)
    inside[_HALF:-_HALF, _HALF:-_HALF] = np.isfinite(image)
    suspects = _preselect(work, sigma, noise) & inside
    for _ in range(iterations):
        found = _choose(suspects, _are_sharp(work, suspects, sigma, fwhm, noise))
        spikes |= found
        # Only neighbors of sharp pixels: neighbors of neighbors would eat their way into the Sun.
        rim = _dilate(found, 1) & ~spikes & inside
        grown = _choose(rim, _stand_out(work, rim, spikes, grow, noise))
        spikes |= grown
        found |= grown
        if not found.any():
            break
        work[spikes] = _interpolate(work, spikes)[0]
        suspects = _dilate(found, 2) & ~spikes & inside
    return _inside(spikes)


@plain_arrays("image", "spikes")
def mend_spikes(image, spikes):
    """
    Replace pixels by the mean of their good neighbors.

    Parameters
    ----------
    image : `numpy.ndarray`
        Frame, shape (y, x); may hold NaN.
    spikes : `numpy.ndarray`
        True for the pixels to replace, same shape.

    Returns
    -------
    mended : `numpy.ndarray`
        Frame with the Gaussian-weighted mean of the good pixels within 3 pixels in place of each spike; NaN if there
        are none. Pixels that touch a spike hold some of its charge, and are used only if there are no others.
    variance : `numpy.ndarray`
        Variance of the replaced values about the truth, one for each spike in the order of ``image[spikes]``: the
        scatter of the good pixels that were used, which includes their noise and the structure of the Sun.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.level1.despike import mend_spikes
    >>> image = np.ones((5, 5))
    >>> image[2, 2] = 100
    >>> mended, variance = mend_spikes(image, image > 10)
    >>> mended[2, 2], variance
    (np.float64(1.0), array([0.]))
    """
    mended = np.array(_floating(image))
    padded, only = np.pad(mended, _HALF, mode="reflect"), np.pad(spikes, _HALF)
    rim = _inside(_dilate(only, 1))
    value, variance = _interpolate(padded, np.pad(rim, _HALF, mode="reflect"), width=1.5, only=only)
    if (alone := ~np.isfinite(value)).any():
        near = _interpolate(padded, np.pad(spikes, _HALF, mode="reflect"), width=1.5, only=only)
        value[alone], variance[alone] = near[0][alone], near[1][alone]
    mended[spikes] = value
    return mended, variance


def _floating(image):
    """A copy in floating-point numbers: sums of integers would overflow, and integers have no NaN."""
    return image.astype(np.result_type(image, np.float32), copy=False)


def _coarse(values):
    """Integers in the order of values to within 1 % of each: 16 bits are sorted ten times as fast as 32."""
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32).view(np.int32) >> 16
    # All but the sign counts backwards in negative numbers.
    return (bits ^ ((bits >> 31) & 0x7FFF)).astype(np.int16)


def _preselect(work, sigma, noise):
    """Pixels that are at all above one of the pairs beside them: few, and cheap to find."""
    from esis_ndcube.level1._despike_kernel import preselect

    suspects = np.zeros(work.shape, dtype=bool)
    preselect(work, np.float32(sigma), *map(np.float32, noise), suspects)
    return suspects


def _are_sharp(work, suspects, sigma, fwhm, noise):
    """Suspects that are sharper than a point source."""
    floor, slope = noise
    windows = _windows(work, suspects)
    (level,), _ = _quantiles(windows, [_LOW])
    center = windows[:, _HALF, _HALF]
    pairs = [(windows[:, _HALF + dy, _HALF + dx] + windows[:, _HALF - dy, _HALF - dx]) / 2 for dy, dx in _STEPS]
    # Height of a point source beside its peak, relative to the peak: 1 or sqrt(2) pixels away.
    relative = [np.exp(-4 * np.log(2) * (dy**2 + dx**2) / fwhm**2) for dy, dx in _STEPS]
    sharp = np.zeros(len(windows), dtype=bool)
    for side in _SIDES:
        beside = sum(pairs[i] for i in side) / len(side)
        share = sum(relative[i] for i in side) / len(side)
        # The peak of the point source that the neighbors would belong to, and the variances of peak and
        # prediction.
        peak = level + np.maximum(beside - level, 0) / share
        variance = floor + slope * np.maximum(peak, 0)
        variance += (floor + slope * np.maximum(beside, 0)) / (2 * len(side) * share**2)
        sharp |= center - peak > sigma * np.sqrt(variance)
    return sharp


def _stand_out(work, rim, spikes, grow, noise):
    """Neighbors of spikes that stand above the level of their surroundings."""
    floor, slope = noise
    windows = _windows(np.where(spikes | rim, np.nan, work), rim)
    (low, level, high), count = _quantiles(windows, [0.25, 0.5, 0.75])
    scatter = np.square((high - low) / 1.349)
    variance = np.maximum(scatter, floor + slope * np.maximum(level, 0))
    return (count >= 5) & (work[rim] - level > grow * np.sqrt(variance))


def _interpolate(work, bad, *, width=1.0, only=None):
    """Gaussian-weighted mean and variance of the good pixels around bad ones inside the padding."""
    only = bad if only is None else only
    windows = _windows(np.where(bad, np.nan, work), only).astype(float)
    offsets = np.arange(-_HALF, _HALF + 1)
    kernel = np.exp(-(offsets[:, np.newaxis] ** 2 + offsets**2) / (2 * width**2))
    weights = np.where(np.isfinite(windows), kernel, 0)
    total = weights.sum(axis=(1, 2))
    windows[weights == 0] = 0
    with np.errstate(invalid="ignore"):
        mean = (weights * windows).sum(axis=(1, 2)) / total
        scatter = (weights * np.square(windows - mean[:, np.newaxis, np.newaxis])).sum(axis=(1, 2)) / total
        # Unbiased scatter of one pixel, plus the error of the mean.
        lost = np.square(weights).sum(axis=(1, 2)) / np.square(total)
        variance = scatter * (1 + lost) / np.maximum(1 - lost, 1e-3)
    return mean, variance


def _quantiles(windows, fractions):
    """Quantiles of the finite pixels of each window (NaN if there are none), and the number of these pixels."""
    ordered = np.sort(windows.reshape(len(windows), (2 * _HALF + 1) ** 2), axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rows = np.arange(len(ordered))
    return [ordered[rows, (fraction * (np.maximum(count, 1) - 1)).astype(int)] for fraction in fractions], count


def _dilate(mask, radius):
    """Marked pixels and all pixels within ``radius`` of them; faster than a morphological filter for few marks."""
    wide = np.zeros(mask.shape, dtype=bool)
    wide[_around(mask, radius)] = True
    return wide


def _inside(padded):
    return padded[_HALF:-_HALF, _HALF:-_HALF]


def _windows(work, where):
    """The 7 x 7 pixels around each marked pixel, shape (marked, 7, 7)."""
    return work[_around(where, _HALF)]


def _around(where, radius):
    """Rows and columns of squares around chosen pixels."""
    # On the flat array, which takes a fifteenth of the time of nonzero in two dimensions.
    y, x = np.divmod(np.flatnonzero(where), where.shape[1])
    offsets = np.arange(-radius, radius + 1)
    return y[:, np.newaxis, np.newaxis] + offsets[:, np.newaxis], x[:, np.newaxis, np.newaxis] + offsets


def _choose(where, which):
    """The marked pixels for which ``which`` holds, as a mask."""
    chosen = np.zeros(where.shape, dtype=bool)
    chosen[where] = which
    return chosen
