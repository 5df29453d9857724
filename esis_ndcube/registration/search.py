"""A coarse start for a fit when the pose is not known well enough."""

from itertools import product

import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates

from esis_ndcube.registration.surface import LEAST_OVERLAP, masked_spectra, shifted_sums
from esis_ndcube.registration.transform import PolynomialTransform
from esis_ndcube.utils.arrays import plain_arrays

__all__ = ["coarse_search"]


@plain_arrays("reference", "image", "mask", "valid")
def coarse_search(reference, image, start, *, mask, valid, rolls, scales, shift):
    """
    Find roll, scale and shift of an image by trying them.

    For every roll and scale the image is warped onto the reference. Fourier transforms with masks (Padfield 2012) give
    the normalized correlation of the two images for all shifts at once.
    Shifts count if the images share 30 % of the smaller one's pixels.

    Parameters
    ----------
    reference : `numpy.ndarray`
        Shape (y, x): the filtered reference; it should be coarse, because everything is tried.
    image : `numpy.ndarray`
        Shape (v, u): the filtered image.
    start : `PolynomialTransform`
        Map from reference to image pixels about which to search.
    mask, valid : `numpy.ndarray`
        Pixels of reference and image to use.
    rolls : array-like
        Rolls to try, in degrees.
    scales : array-like
        Scales to try.
    shift : `float`
        Longest shift to try, in pixels of the reference.

    Returns
    -------
    transform : `PolynomialTransform`
        The start, turned, scaled and shifted.
    score : `float`
        The largest correlation; -1 if nothing overlaps.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube.registration import PolynomialTransform, coarse_search
    >>> scene = gaussian_filter(np.random.default_rng(1).normal(size=(90, 90)), 2)
    >>> start = PolynomialTransform.from_affine([[1, 0, 9], [0, 1, -7]])
    >>> ones = np.ones(scene.shape, bool)
    >>> found, _ = coarse_search(
    ...     scene, scene, start, mask=ones, valid=ones, rolls=[0], scales=[1], shift=15
    ... )
    >>> [float(round(value)) for value in found(40, 50)]
    [40.0, 50.0]
    """
    # Products of integers would overflow, and NaN would be in every sum.
    mask, valid = (np.asarray(good, dtype=bool) & np.isfinite(a) for good, a in ((mask, reference), (valid, image)))
    reference, image = (
        np.where(good, a, 0).astype(np.result_type(a, np.float32), copy=False)
        for good, a in ((mask, reference), (valid, image))
    )
    rows, columns = reference.shape
    shape = [scipy.fft.next_fast_len(2 * n, real=True) for n in (rows, columns)]
    mask = mask.astype(np.float32)
    spectra = masked_spectra(reference, mask, shape)
    y, x = np.meshgrid(np.arange(rows, dtype=float), np.arange(columns, dtype=float), indexing="ij")
    middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
    weight = np.asarray(valid, dtype=np.float32)
    best = start, -1.0
    for roll, scale in product(rolls, scales):
        turn = np.radians(roll)
        matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        about = np.column_stack([matrix, middle - matrix @ middle])
        turned = start.compose(PolynomialTransform.from_affine(about, origin=start.origin, scale=start.scale))
        position = np.stack(turned(x, y)[::-1])
        there = map_coordinates(weight, position, order=1, mode="constant") > 0.99
        warped = np.where(there, map_coordinates(image, position, order=1, mode="constant"), 0)
        surface = _correlation(spectra, warped, there, shape, min(mask.sum(), there.sum()))
        score, dx, dy = _peak(surface, shift)
        if score > best[1]:
            moved = np.column_stack([np.eye(2), [-dx, -dy]])
            inner = PolynomialTransform.from_affine(moved, origin=start.origin, scale=start.scale)
            best = turned.compose(inner), score
    return best


def _correlation(spectra, warped, there, shape, count):
    """Normalized correlation at all shifts of the reference against the warped image."""
    other = [np.conj(spectrum) for spectrum in masked_spectra(warped, there.astype(np.float32), shape)]
    overlap, cross, *energy = shifted_sums(spectra, other, ((0, 0), (1, 1), (2, 0), (0, 2)), shape)
    enough = overlap > LEAST_OVERLAP * count
    with np.errstate(divide="ignore", invalid="ignore"):
        # The filter has taken off the means.
        score = cross / np.sqrt(energy[0] * energy[1])
    return np.where(enough & np.isfinite(score), score, -1)


def _peak(surface, shift):
    reach = int(np.ceil(shift))
    steps = np.arange(-reach, reach + 1)
    window = surface[np.ix_(steps, steps)]
    row, column = np.unravel_index(window.argmax(), window.shape)
    return float(window[row, column]), int(steps[column]), int(steps[row])
