"""The correlation of two images at all shifts about a solution."""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from esis_ndcube.utils.arrays import plain_arrays

__all__ = ["CorrelationSurface", "chance_score", "correlation_surface"]

# A shift tells nothing if less than this part of the overlap is left.
LEAST_OVERLAP = 0.3


@dataclass(frozen=True, eq=False)
class CorrelationSurface:
    """
    Correlation coefficient of a reference with an image at shifts about a solution.

    Attributes
    ----------
    values : `numpy.ndarray`
        Shape (dy, dx): at shift (dx, dy) the correlation of the reference at (x, y) with the image at the place of (x +
        dx, y + dy) in the solution; NaN if too little overlaps.
    dx, dy : `numpy.ndarray`
        The shifts in pixels of the reference.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration import correlation_surface
    >>> scene = np.random.default_rng(1).normal(size=(40, 50))
    >>> surface = correlation_surface(scene[:, 2:], scene[:, :-2], reach=3)
    >>> surface.values.shape, [round(float(value), 2) for value in surface.peak]
    ((7, 7), [2.0, 0.0, 1.0])
    """

    values: np.ndarray
    dx: np.ndarray
    dy: np.ndarray

    @property
    def peak(self):
        """Shift (dx, dy) and height of the maximum, from the parabolas through it and its neighbors (`tuple`)."""
        row, column = np.unravel_index(np.nanargmax(self.values), self.values.shape)
        height, offsets = self.values[row, column], []
        lines = (self.values[row], column), (self.values[:, column], row)
        for line, index in lines:
            low, high = (line[i] if 0 <= i < line.size else np.nan for i in (index - 1, index + 1))
            bend, slope = low - 2 * line[index] + high, (high - low) / 2
            offset = -slope / bend if np.isfinite(bend) and bend < 0 else 0.0
            height = height + slope * offset / 2 if offset else height
            offsets.append(offset)
        return self.dx[column] + offsets[0], self.dy[row] + offsets[1], height


@plain_arrays("reference", "image", "mask", "valid")
def correlation_surface(reference, image, *, reach, mask=None, valid=None):
    """
    Correlate two images of one shape at all shifts up to a reach.

    The correlation coefficient of the pixels that both have in common is computed for all shifts at once by Fourier
    transforms :cite:p:`Padfield2012`.

    Parameters
    ----------
    reference, image : `numpy.ndarray`
        Shape (y, x).
    reach : `int`
        Largest shift in pixels along each axis.
    mask, valid : `numpy.ndarray`, optional
        Pixels of reference and image to use, by default the finite ones. Pixels that are not finite are never used.

    Returns
    -------
    `CorrelationSurface`
        Of shape (2 reach + 1, 2 reach + 1).

    Raises
    ------
    ValueError
        If the images are not of one shape or nothing is valid, or the reach is not between 1 and their size.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration import correlation_surface
    >>> scene = np.random.default_rng(1).normal(size=(40, 50))
    >>> float(correlation_surface(scene, scene, reach=5).values[5, 5].round(6))
    1.0
    """
    shapes = [np.shape(a) for a in (reference, image, mask, valid) if a is not None]
    if len(shapes[0]) != 2 or len(set(shapes)) != 1:
        msg = f"got arrays of shapes {shapes}, expected images and masks of one shape"
        raise ValueError(msg)
    if not 1 <= reach < min(shapes[0]):
        msg = f"got a reach of {reach} pixels, expected 1 to {min(shapes[0]) - 1}, less than the image's size"
        raise ValueError(msg)
    parts, masks = [], []
    for array, chosen in ((reference, mask), (image, valid)):
        good = np.isfinite(array) if chosen is None else np.isfinite(array) & np.asarray(chosen, dtype=bool)
        if not good.any():
            msg = "got an image without valid pixels, expected some in both"
            raise ValueError(msg)
        # About the mean, sums of squares keep their precision.
        parts.append(np.where(good, array - np.mean(array, where=good, dtype=float), 0.0))
        masks.append(good.astype(float))
    shape = [scipy.fft.next_fast_len(n + reach, real=True) for n in shapes[0]]
    first, second = (masked_spectra(*pair, shape) for pair in zip(parts, masks, strict=True))
    shift = np.arange(-reach, reach + 1)
    pairs = (0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1)
    sums = shifted_sums([np.conj(spectrum) for spectrum in first], second, pairs, shape)
    n, r, w, rr, ww, rw = (values[np.ix_(shift, shift)] for values in sums)
    n = np.rint(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (rw - r * w / n) / np.sqrt((rr - r * r / n) * (ww - w * w / n))
    enough = n > max(LEAST_OVERLAP * n[reach, reach], 1)
    return CorrelationSurface(np.where(enough & np.isfinite(values), values, np.nan), shift, shift)


def masked_spectra(image, mask, shape):
    """Fourier transforms of a mask, of an image that is 0 beyond it, and of its square."""
    return [scipy.fft.rfft2(a, shape) for a in (mask, image, image**2)]


def shifted_sums(first, second, pairs, shape):
    """Sums of products at all shifts, of pairs of two images' `masked_spectra`, one of them conjugated."""
    return [scipy.fft.irfft2(first[i] * second[j], shape) for i, j in pairs]


def chance_score(reference, image, *, valid):
    r"""
    Scatter of the correlation coefficient of images that have nothing in common but look like these.

    For images with autocorrelations :math:`\rho` and n pixels its variance is
    :math:`\sum_d \rho_1(d)\,\rho_2(d) / n` (Bartlett 1935): structures that are many pixels wide correlate by chance.

    Parameters
    ----------
    reference, image : `numpy.ndarray`
        Shape (y, x).
    valid : `numpy.ndarray`
        Pixels that are correlated, in that shape.

    Returns
    -------
    `float`
        Standard deviation of the score; infinite if nothing is valid or an image is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration.surface import chance_score
    >>> rng = np.random.default_rng(1)
    >>> one, other = rng.normal(size=(2, 100, 100))
    >>> round(chance_score(one, other, valid=np.ones((100, 100), bool)), 3)
    0.01
    """
    n = int(np.count_nonzero(valid))
    if not n:
        return np.inf
    shape = [scipy.fft.next_fast_len(size, real=True) for size in np.shape(reference)]
    one, other = (
        _power(np.where(valid, array - np.mean(array, where=valid), 0), shape) for array in (reference, image)
    )
    # Half of the spectrum is there; the first column, and the last column for an even number, are not doubled.
    count = np.full(one.shape[1], 2.0)
    count[0] = 1
    count[-1] = 2 if shape[1] % 2 else 1
    total = (one.sum(axis=0, dtype=float) @ count) * (other.sum(axis=0, dtype=float) @ count)
    size = shape[0] * shape[1]
    one *= other
    return float(np.sqrt(size * (one.sum(axis=0, dtype=float) @ count) / total / n)) if total > 0 else np.inf


def _power(image, shape):
    """Power spectrum in units of its mean, so that products do not overflow in single precision."""
    spectrum = scipy.fft.rfft2(image, shape)
    power = spectrum.real**2 + spectrum.imag**2
    return power / max(power.mean(dtype=float), 1e-30)
