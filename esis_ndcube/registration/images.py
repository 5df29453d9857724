"""Co-align any two images."""

from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import binary_erosion, map_coordinates

import astropy.units as u

from esis_ndcube.registration._image_inputs import parse_image, start_from_wcs
from esis_ndcube.registration.correlate import maximize_correlation
from esis_ndcube.registration.image_alignment import ImageAlignment
from esis_ndcube.registration.prefilter import log_difference_of_gaussians
from esis_ndcube.registration.reference import bin_image
from esis_ndcube.registration.search import coarse_search
from esis_ndcube.registration.surface import chance_score, correlation_surface
from esis_ndcube.registration.transform import PolynomialTransform, binned, center_and_scale, exponents, unbinned

__all__ = ["Search", "coalign_images"]

_DEGREES = {"shift": 0, "affine": 1, "quadratic": 2, "cubic": 3}
# Fewest pixels in the overlap that make a fit.
_LEAST = 200
# Distance from the maximum at which a fit has converged, in pixels of the coarser image.
_TOLERANCE = 0.005
# Images are binned for the first fits as long as both have so many rows and columns left, ...
_LEAST_SIZE = 24
_LARGEST_FACTOR = 8
# ... and for the search until none has more.
_SEARCH_SIZE = 256
# A score is trusted if it is so many times the scatter of that of unrelated images, and so much in addition (squared)
# for each coefficient, with which a fit follows chance: of 300 fits of unrelated images none came as high.
_SIGNIFICANCE, _PER_COEFFICIENT = 5.0, 2.0
# Interpolated validity from which a pixel counts.
_INSIDE = 0.999
# The filter sees the edge of what is valid from this many of its fine widths.
_EDGE = 3.0


@dataclass(frozen=True, eq=False)
class Search:
    """
    Where to look for an image whose position is not known well enough for a fit.

    Parameters
    ----------
    shift : `float`
        Longest shift along each axis, in pixels of the reference.
    rolls : `~astropy.units.Quantity`, optional
        Rolls to try; steps of about 1 deg are small enough.
    scales : array-like, optional
        Scales to try; steps of about 2 % are small enough.

    Raises
    ------
    ValueError
        If the shift is negative, or there is no roll or positive scale to try.

    Examples
    --------
    >>> import astropy.units as u
    >>> from esis_ndcube.registration import Search
    >>> Search(60, rolls=[-1, 0, 1] * u.deg).scales
    (1.0,)
    """

    shift: float
    rolls: u.Quantity = field(default_factory=lambda: [0.0] * u.deg)
    scales: tuple = (1.0,)

    def __post_init__(self):
        rolls, scales = np.atleast_1d(u.Quantity(self.rolls).to(u.deg)), tuple(np.atleast_1d(self.scales).tolist())
        if not (self.shift >= 0 and rolls.size and scales and min(scales) > 0):
            msg = f"got shift {self.shift}, rolls {rolls} and scales {scales}, expected at least 0, and one or more"
            raise ValueError(msg)
        object.__setattr__(self, "rolls", rolls)
        object.__setattr__(self, "scales", scales)


def coalign_images(image, reference, *, transform="affine", start=None, widths=(1.0, 8.0), search=None, surface=None):
    """
    Align one image with another.

    The correlation of the images is maximized (`~esis_ndcube.registration.maximize_correlation`) after a filter that
    makes images of different brightness and passband comparable
    (`~esis_ndcube.registration.log_difference_of_gaussians`), first on binned pixels, then on all.
    The fit captures displacements of ten pixels, and of twenty in images of 250 pixels or more; ``search`` finds
    larger ones.

    Parameters
    ----------
    image, reference : array-like
        An array with axes (y, x), a pair (array, WCS), a `~sunpy.map.GenericMap`, or an `~astropy.nddata.NDData` or
        `~ndcube.NDCube` with axes (y, x). Pixels that are NaN or masked do not count.
        The images may have different shapes and pixels of different size.
    transform : `str`, optional
        ``"shift"``, ``"affine"``, ``"quadratic"`` or ``"cubic"``: the polynomial map from reference to image pixels.
        A shift leaves roll, scale and shear as they are in the start. There is no rigid one: fit an affine map and
        look at its ``decompose``.
    start : `~esis_ndcube.registration.PolynomialTransform`, optional
        Map from reference pixels to image pixels to start from. By default what both WCS say, if both images have
        one, with sunpy's transformation between observers; else the same pixels.
    widths : `tuple` of `float` or None, optional
        Widths (sigma) of the filter's fine and coarse Gaussian, in pixels of the image with the larger ones.
        The filter takes a logarithm: subtract a bias first.
        With None the images are correlated as they are, which suits those that are negative, as magnetograms.
    search : `Search` or `bool`, optional
        Where to look for the image before the fit; True for shifts up to half of the larger image's shorter side.
    surface : `int`, optional
        Return the correlation surface, too, of shifts up to this many pixels of the reference about the solution.

    Returns
    -------
    `ImageAlignment`
        Look at ``converged`` before you use it: where the images have nothing in common it is False.

    Raises
    ------
    TypeError
        If one of them is no image.
    ValueError
        If an image is not two-dimensional, empty or constant, has a WCS that is not celestial, the images do not
        overlap, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube import coalign
    >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(120, 120)), 2))
    >>> alignment = coalign(scene[5:105, 8:108], scene[:100, :100], transform="shift", surface=3)
    >>> [float(value.round(1)) for value in alignment.transform(50, 50)]
    [42.0, 45.0]
    >>> [abs(round(float(value), 1)) for value in alignment.surface.peak]
    [0.0, 0.0, 1.0]
    """
    degree = _degree(transform)
    image, reference = parse_image(image, "an image"), parse_image(reference, "a reference")
    widths = _widths(widths)
    if widths is not None:
        _check_brightness(image, "an image")
        _check_brightness(reference, "a reference")
    start = _start(image, reference, start, degree)
    pair = _Pair(image, reference, widths, start)
    if search is not None and search is not False:
        start = _search(pair, start, search)
    fit = _fit(pair, start, degree)
    if fit.converged:
        # The filter sees an edge where an image ends: both have it in the same place once the place is known.
        pair = pair.trimmed(fit.transform)
        fit = _fit_binned(pair, fit.transform, 1, degree)
    if fit.n_pixels < _LEAST:
        msg = (
            f"the images overlap by {fit.n_pixels} pixels, expected at least {_LEAST}: "
            f"give a better start=, or search=True to look for the one in the other"
        )
        raise ValueError(msg)
    limit = pair.least_score(fit, degree)
    trusted = bool(fit.converged and fit.score >= limit)
    reason = f"score {fit.score:.3f} is below {limit:.3f}" if fit.converged and not trusted else fit.reason
    return ImageAlignment(
        transform=fit.transform,
        kind=transform,
        score=float(fit.score),
        converged=trusted,
        reason=reason,
        n_pixels=fit.n_pixels,
        covariance=fit.covariance,
        surface=None if surface is None else pair.surface(fit.transform, surface),
        reference_shape=reference.data.shape,
        image_shape=image.data.shape,
        reference_wcs=reference.wcs,
    )


def _degree(transform):
    if transform not in _DEGREES:
        msg = f"got transform {transform!r}, expected one of {', '.join(_DEGREES)}"
        raise ValueError(msg)
    return _DEGREES[transform]


def _widths(widths):
    if widths is None:
        return None
    values = np.asarray(widths, dtype=float)
    if values.shape != (2,) or not 0 < values[0] < values[1]:
        msg = f"got widths {widths!r}, expected two, the fine and a larger coarse one in pixels, or None for no filter"
        raise ValueError(msg)
    return values


def _check_brightness(image, name):
    median = float(np.nanmedian(image.data))
    if not median > 0:
        msg = (
            f"got {name} with a median of {median:.3g}, of whose brightness the filter can not take the logarithm: "
            f"mask what is dark, add what was subtracted, or give widths=None for no filter"
        )
        raise ValueError(msg)


def _start(image, reference, start, degree):
    origin, scale = center_and_scale(reference.data.shape)
    degree = max(degree, 1)
    if start is not None:
        if not isinstance(start, PolynomialTransform):
            msg = f"got a start of type {type(start).__name__}, expected a PolynomialTransform"
            raise TypeError(msg)
        return start.renormalized(origin, scale, degree=max(degree, start.degree))
    if image.wcs is not None and reference.wcs is not None:
        return start_from_wcs(image, reference, degree)
    return PolynomialTransform.from_affine(np.eye(2, 3), origin=origin, scale=scale).renormalized(
        origin, scale, degree=degree
    )


class _Pair:
    """Both images, filtered on demand after binning."""

    def __init__(self, image, reference, widths, start):
        self.images = reference, image
        # Image pixels per reference pixel; structures are compared at the resolution of the coarser one.
        middle = ((n - 1) / 2 for n in reference.data.shape[::-1])
        self.scale = float(np.sqrt(abs(np.linalg.det(start.jacobian(*middle)))))
        coarser = max(1.0, 1 / self.scale)
        self.widths = (None, None) if widths is None else (widths * coarser, widths * coarser * self.scale)
        self._filtered = {}

    def least_score(self, fit, degree):
        """What the score of images without anything in common hardly reaches."""
        reference, mask, warped, there = self.on_reference(fit.transform)
        factor = np.sqrt(_SIGNIFICANCE**2 + _PER_COEFFICIENT * 2 * len(exponents(degree)))
        return factor * chance_score(reference, warped, valid=mask & there)

    def filtered(self, factor):
        """Reference and image after binning: filtered, and which of their pixels are valid."""
        if factor not in self._filtered:
            self._filtered[factor] = [
                _prepare(*bin_image(one.data, one.valid, factor), widths)
                for one, widths in zip(self.images, self.widths, strict=True)
            ]
        return self._filtered[factor]

    def trimmed(self, transform):
        """The pair without the pixels that only one of them has."""
        reference, image = self.images
        y, x = np.indices(reference.data.shape, dtype=float)
        v, h = np.indices(image.data.shape, dtype=float)
        result = copy(self)
        result.images = (
            reference.where(_at(image.valid, *transform(x, y))),
            image.where(_at(reference.valid, *transform.inverse(h, v))),
        )
        result._filtered = {}
        return result

    def smallest(self):
        return min(n for one in self.images for n in one.data.shape)

    def on_reference(self, transform):
        """The filtered reference, which of its pixels are valid, and the same of the image on these pixels."""
        (reference, mask), (image, valid) = self.filtered(1)
        y, x = np.indices(reference.shape, dtype=float)
        position = transform(x, y)
        warped = map_coordinates(image, position[::-1], order=1, mode="constant")
        return reference, mask, warped, _at(valid, *position)

    def surface(self, transform, reach):
        """`CorrelationSurface` about a solution."""
        reference, mask, warped, there = self.on_reference(transform)
        return correlation_surface(reference, warped, reach=reach, mask=mask, valid=there)


def _at(valid, x, y):
    """Which positions lie between valid pixels."""
    position = np.nan_to_num(np.stack([y, x]), nan=-2.0)
    return map_coordinates(valid.astype(np.float32), position, order=1, mode="constant") > _INSIDE


def _prepare(image, valid, widths):
    if widths is None:
        return np.where(valid, image - np.mean(image, where=valid), 0).astype(np.float32), valid
    edge = max(int(np.ceil(_EDGE * widths[0])), 1)
    filtered = log_difference_of_gaussians(np.where(valid, image, np.nan), *map(float, widths), valid=valid)
    return filtered, binary_erosion(valid, iterations=edge)


def _fit(pair, start, degree):
    """Fit from coarse to fine pixels; or on the fine ones at once, if that is better."""
    factors = [factor for factor in (8, 4, 2) if factor <= _LARGEST_FACTOR and pair.smallest() >= factor * _LEAST_SIZE]
    transform = start
    for factor in factors:
        fit = _fit_binned(pair, transform, factor, min(degree, 1))
        if fit.converged:
            transform = fit.transform
    fit = _fit_binned(pair, transform, 1, degree)
    if transform is start or (fit.converged and fit.score >= pair.least_score(fit, degree)):
        return fit
    # The coarse pixels may have misled it.
    return max(fit, _fit_binned(pair, start, 1, degree), key=lambda one: np.nan_to_num(one.score, nan=-1.0))


def _fit_binned(pair, start, factor, degree):
    (reference, mask), (image, valid) = pair.filtered(factor)
    # In pixels of the image, which may be much finer than what it is compared with.
    options = {"mask": mask, "valid": valid, "min_pixels": _LEAST, "tolerance": _TOLERANCE * max(pair.scale, 1.0)}
    first = binned(start, factor)
    if degree > 1:
        # From a good affine map the terms of higher degree start in the linear regime.
        fit = maximize_correlation(reference, image, first, degree=1, **options)
        first = fit.transform if fit.converged else first
    fit = maximize_correlation(reference, image, first, degree=degree, **options)
    return replace(fit, transform=unbinned(fit.transform, factor))


def _search(pair, start, search):
    """The start, turned, scaled and shifted to where the coarse images look most alike."""
    shapes = [one.data.shape for one in pair.images]
    if search is True:
        search = Search(max(min(shape) for shape in shapes) / 2)
    if not isinstance(search, Search):
        msg = f"got a search of type {type(search).__name__}, expected True or a Search"
        raise TypeError(msg)
    factor = 1
    while max(map(max, shapes)) > factor * _SEARCH_SIZE and min(map(min, shapes)) >= 2 * factor * _LEAST_SIZE:
        factor *= 2
    (reference, mask), (image, valid) = pair.filtered(factor)
    origin, scale = start.origin, start.scale
    affine = binned(_affine_part(start), factor)
    shift = search.shift / factor
    options = {"rolls": search.rolls.value, "scales": search.scales}
    # The smaller one is moved over the larger one.
    turned = valid.sum() > mask.sum() * pair.scale**2
    if turned:
        reference, mask, image, valid = image, valid, reference, mask
        affine, shift = _inverse(affine), shift * pair.scale
        options = {"rolls": -search.rolls.value, "scales": [1 / value for value in search.scales]}
    shift = min(shift, min(reference.shape) - 1)
    found, score = coarse_search(reference, image, affine, mask=mask, valid=valid, shift=shift, **options)
    if score <= -1:
        msg = "the images do not overlap anywhere in the range of the search: give a wider one, or a better start="
        raise ValueError(msg)
    found = unbinned(_inverse(found) if turned else found, factor)
    return found.renormalized(origin, scale, degree=start.degree)


def _affine_part(transform):
    return PolynomialTransform(transform.coefficients[:, :3], transform.origin, transform.scale)


def _inverse(transform):
    """The inverse of an affine transform."""
    (a, b), (c, d) = np.linalg.inv(transform.jacobian(0.0, 0.0))
    x, y = transform.inverse(0.0, 0.0)
    return PolynomialTransform.from_affine([[a, b, float(x)], [c, d, float(y)]])
