"""Co-align any two images."""

from dataclasses import dataclass, field, replace

import numpy as np

import astropy.units as u
from sunpy.util.exceptions import warn_user

from esis_ndcube.registration._image_inputs import parse_image, sample_pixels, start_from_wcs
from esis_ndcube.registration._pair import Pair
from esis_ndcube.registration.correlate import maximize_correlation
from esis_ndcube.registration.image_alignment import ImageAlignment
from esis_ndcube.registration.prefilter import median_of
from esis_ndcube.registration.search import coarse_search
from esis_ndcube.registration.transform import (
    PolynomialTransform,
    binned,
    center_and_scale,
    exponents,
    point_covariances,
    rms_distance,
    stretch_and_turn,
    unbinned,
)

__all__ = ["Search", "coalign_images"]

_DEGREES = {"shift": 0, "affine": 1, "quadratic": 2, "cubic": 3}
# Least number of pixels in the overlap for a fit, and additional pixels for each coefficient.
_LEAST, _LEAST_PER_COEFFICIENT = 60, 20
# Distance from the maximum at which a fit has converged, in pixels of the coarser image.
_TOLERANCE = 0.005
# Images are binned for the first fits as long as both have this many rows and columns left, ...
_LEAST_SIZE = 24
_LARGEST_FACTOR = 8
# ... and for the search until none has more.
_SEARCH_SIZE = 256
# A score that is this many times the least one convinces; a lower one is compared with scores from other starts.
_CONVINCING = 2.0
# Images are too small if chance makes more than this of the score.
_LARGEST_LIMIT = 0.9
# If its score does not convince, a map is that of a false maximum if it is stretched by more than this against its
# start, or turned by more than this (in radian); ...
_MAX_STRETCH, _MAX_TURN = 0.08, 0.05
# ... and also if it is more uncertain than this, RMS in pixels of the coarser image.
_MAX_SIGMA = 1.0
# Pixels that are fixed on the detector drew a map if the map moves without them, by this many standard deviations and
# by more than this in pixels.
_MOVED, _LEAST_MOVED = 3.0, 0.02
# A start that stretches one direction by this many times the other is no map of an image.
_LARGEST_CONDITION = 1e6
# Points along each axis at which maps are compared.
_POINTS = 9


@dataclass(frozen=True, eq=False)
class Search:
    """
    The range of a search for an image whose position is not known well enough for a fit.

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
        If the shift is negative, or there are no rolls or positive scales to try.

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
            msg = (
                f"got shift {self.shift}, rolls {rolls} and scales {scales}, expected a shift of at least 0, and at "
                "least one roll and one scale above 0"
            )
            raise ValueError(msg)
        object.__setattr__(self, "rolls", rolls)
        object.__setattr__(self, "scales", scales)


def coalign_images(image, reference, *, transform="affine", start=None, widths=(1.0, 8.0), search=None, surface=None):
    """
    Align one image with another.

    The fit maximizes the correlation of the images (`~esis_ndcube.registration.maximize_correlation`), first on binned
    pixels, then on all. Before it a filter makes images of different brightness and passband comparable
    (`~esis_ndcube.registration.log_difference_of_gaussians`).
    The fit captures displacements of ten pixels, and of twenty pixels in images of 250 pixels or more; ``search`` finds
    larger displacements.

    Parameters
    ----------
    image, reference : array-like
        An array with axes (y, x), a pair (array, WCS), a `~sunpy.map.GenericMap`, or an `~astropy.nddata.NDData` or
        `~ndcube.NDCube` with axes (y, x). Pixels that are NaN or masked do not count.
        The images may have different shapes and pixels of different size.
    transform : `str`, optional
        ``"shift"``, ``"affine"``, ``"quadratic"`` or ``"cubic"``: the polynomial map from reference to image pixels.
        A shift leaves roll, scale and shear as they are in the start. There is no rigid transform: fit an affine map
        and look at its ``decompose``.
    start : `~esis_ndcube.registration.PolynomialTransform`, optional
        Map from reference pixels to image pixels, from which the fit starts. By default the map follows from the two
        WCS, if both images have one, with sunpy's transformation between observers; otherwise it leads to equal pixels.
    widths : `tuple` of `float` or None, optional
        Widths (sigma) of the filter's fine and coarse Gaussian, in pixels of the image with the larger pixels.
        The filter takes a logarithm: subtract a bias first.
        With None the images are correlated as they are, which suits images with negative values, for example
        magnetograms.
    search : `Search` or `bool`, optional
        Range of the search for the image before the fit; True for shifts up to half of the larger image's shorter side.
    surface : `int`, optional
        Also return the correlation surface, for shifts up to this many pixels of the reference about the solution.

    Returns
    -------
    `ImageAlignment`
        Look at ``converged`` before you use the result: it is False if the images have nothing in common.

    Raises
    ------
    TypeError
        If one of the arguments is not an image.
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
    pair = Pair(image, reference, widths, start)
    if search is not None and search is not False:
        start = _search(pair, start, search)
    attempt = _best(pair, start, degree)
    if attempt.trouble is None:
        attempt = _off_the_detector(attempt, start)
    fit = attempt.fit
    alignment = ImageAlignment(
        transform=fit.transform,
        kind=transform,
        score=float(fit.score),
        converged=attempt.trouble is None,
        reason=attempt.trouble or fit.reason,
        n_pixels=fit.n_pixels,
        covariance=fit.covariance,
        surface=None if surface is None else attempt.pair.surface(fit.transform, surface),
        reference_shape=reference.data.shape,
        image_shape=image.data.shape,
        reference_wcs=reference.wcs,
        misfit=fit.misfit,
    )
    if alignment.converged:
        _warn_of_misfit(alignment, _sigma(attempt))
    return alignment


def _warn_of_misfit(alignment, sigma):
    misfit = alignment.misfit
    if misfit.significant and misfit.size > sigma:
        larger = next((name for name, degree in _DEGREES.items() if degree == misfit.degree), None)
        advice = f"fit transform={larger!r}" if larger else "no transform here follows them"
        warn_user(
            f"the images need terms of degree {misfit.degree}, which the {alignment.kind} transform lacks: it is off "
            f"by about {misfit.size:.2g} pixels where its own error is {sigma:.2g} (RMS): {advice}"
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
    median = median_of(image.data, image.valid)
    if not median > 0:
        msg = (
            f"got {name} with a median of {median:.3g}, expected one above 0, because the filter takes the logarithm "
            f"of the brightness: mask dark pixels, add the level that was subtracted, or give widths=None for no filter"
        )
        raise ValueError(msg)


def _start(image, reference, start, degree):
    origin, scale = center_and_scale(reference.data.shape)
    degree = max(degree, 1)
    if start is not None:
        if not isinstance(start, PolynomialTransform):
            msg = f"got a start of type {type(start).__name__}, expected a PolynomialTransform"
            raise TypeError(msg)
        jacobian = start.jacobian(*origin)
        if not (np.isfinite(start.coefficients).all() and np.linalg.cond(jacobian) < _LARGEST_CONDITION):
            msg = (
                f"got a start with coefficients {start.coefficients.tolist()}, expected finite numbers, and a map that "
                f"does not lay the image on a line"
            )
            raise ValueError(msg)
        return start.renormalized(origin, scale, degree=max(degree, start.degree))
    if image.wcs is not None and reference.wcs is not None:
        return start_from_wcs(image, reference, degree)
    return PolynomialTransform.from_affine(np.eye(2, 3), origin=origin, scale=scale).renormalized(
        origin, scale, degree=degree
    )


@dataclass(frozen=True, eq=False)
class _Attempt:
    """A fit of a degree, the filtered pair, the least score to trust, and the reason not to trust the fit."""

    pair: object
    degree: int
    fit: object
    limit: float
    trouble: str | None

    @property
    def rank(self):
        return self.trouble is None, np.nan_to_num(self.fit.score, nan=-1.0)


def _best(pair, start, degree):
    """The fit from coarse to fine pixels, or on the fine ones at once if the first fit does not convince."""
    factors = [factor for factor in (8, 4, 2) if factor <= _LARGEST_FACTOR and pair.smallest() >= factor * _LEAST_SIZE]
    # The coarsest pixels of a large image show enough for the fit on the finest, which itself begins on few rows.
    ways = [factors[:1], factors, ()] if pair.check_factor > 1 else [factors, ()] if factors else [()]
    best = None
    for some in ways:
        attempt = _attempt(pair, start, degree, some)
        if best is None or attempt.rank > best.rank:
            best = attempt
        if best.trouble is None and best.fit.score >= _CONVINCING * best.limit:
            return best
    if best.fit.n_pixels < _LEAST:
        msg = (
            f"the images overlap by {best.fit.n_pixels} pixels, expected at least {_LEAST}: "
            f"give a better start=, or search=True to look for one image in the other"
        )
        raise ValueError(msg)
    inverted = _attempt(pair.inverted(), start, degree, factors)
    if inverted.trouble is None and inverted.rank > best.rank:
        reason = f"the contrast is inverted: the negative image has score {inverted.fit.score:.3f}"
        best = replace(best, trouble=reason)
    return best


def _attempt(pair, start, degree, factors):
    transform = start
    for factor in factors:
        fit = _fit_binned(pair, transform, factor, min(degree, 1), errors=False)
        if fit.converged:
            transform = fit.transform
    if transform is start:
        fit = _fit_binned(pair, start, 1, degree, errors=False)
        if not fit.converged:
            return _Attempt(pair, degree, fit, np.inf, fit.reason)
        transform = fit.transform
    # The filter sees an edge where an image ends: once the place is known, both images have the edge in the same place.
    pair = pair.trimmed(transform)
    return _judged(pair, _fit_binned(pair, transform, 1, degree), start, degree)


def _judged(pair, fit, start, degree):
    """The attempt, with the reason not to trust its fit."""
    needed = _LEAST + _LEAST_PER_COEFFICIENT * 2 * len(exponents(degree))
    if fit.n_pixels < needed:
        return _Attempt(
            pair, degree, fit, np.inf, f"too small: {fit.n_pixels} pixels overlap, expected at least {needed}"
        )
    limit = pair.least_score(fit, degree)
    attempt = _Attempt(pair, degree, fit, limit, None)
    sigma = _sigma(attempt)
    trouble = None
    if not fit.converged:
        trouble = fit.reason
    elif limit > _LARGEST_LIMIT:
        trouble = f"too small: unrelated images like these reach a score of {limit:.2f}"
    elif not fit.score >= limit:
        trouble = f"score {fit.score:.3f} is below {limit:.3f}"
    elif not sigma <= _MAX_SIGMA * max(pair.scale, 1.0):
        trouble = f"the error of the map is {sigma:.2g} pixels"
    elif fit.score < _CONVINCING * limit and _is_far(start, fit.transform):
        trouble = f"the map is stretched or turned, at a score of {fit.score:.3f} that does not convince"
    return replace(attempt, trouble=trouble)


def _is_far(start, transform):
    """Whether a map is stretched or turned too much against another."""
    stretch, turn = stretch_and_turn(start, transform)
    return stretch > _MAX_STRETCH or abs(turn) > _MAX_TURN


def _sigma(attempt):
    """Stated error of a map, RMS over the overlap in pixels of the image, both coordinates together."""
    transform, (reference, image) = attempt.fit.transform, attempt.pair.images
    x, y = sample_pixels(reference.data.shape, _POINTS)
    u, v = transform(x, y)
    rows, columns = image.data.shape
    inside = (u > 0) & (v > 0) & (u < columns - 1) & (v < rows - 1)
    if not inside.any():
        return np.inf
    terms = transform.terms(x, y)[inside]
    variances = np.trace(point_covariances(terms, attempt.fit.covariance), axis1=1, axis2=2)
    return float(np.sqrt(variances.mean()))


def _off_the_detector(attempt, start):
    """
    The attempt, if it does not rest on features at the same pixels of both images; else an attempt without these
    pixels.

    Hot pixels, the edge of a field stop and unmarked gaps stay where they are on the detector. They draw the map to the
    place where equal pixels lie on each other.
    """
    pair, transform = attempt.pair, attempt.fit.transform
    shapes = [one.data.shape for one in pair.images]
    if shapes[0] != shapes[1]:
        return attempt
    factor = pair.check_factor
    # Whole blocks are left out: the rest of a binned pixel has its middle elsewhere.
    fixed = pair.fixed(factor)
    if not fixed.any():
        return attempt
    rest = pair.where(~fixed, ~fixed)
    fit = _fit_binned(rest, transform, factor, attempt.degree)
    moved = rms_distance(fit.transform, transform, *sample_pixels(shapes[0], _POINTS))
    sigma = _sigma(replace(attempt, fit=fit))
    if fit.converged and moved <= max(_MOVED * sigma, _LEAST_MOVED) and fit.score >= attempt.limit:
        return attempt
    # The pixels in common had drawn it: fit anew without them, from the start.
    other = _best(rest, start, attempt.degree)
    share = f"{fixed.mean():.2%} of the pixels stand out, or are dark, in the same place of both images"
    if other.trouble is not None:
        return replace(attempt, trouble=f"{share}, and without them the images are not aligned ({other.trouble})")
    warn_user(f"{share}, and had drawn the alignment by {moved:.2g} pixels: they are left out; mask them")
    return other


def _fit_binned(pair, start, factor, degree, *, errors=True):
    (reference, mask), (image, valid) = pair.filtered(factor)
    # In pixels of the image, which may be much finer than those of the reference.
    options = {"mask": mask, "valid": valid, "min_pixels": _LEAST, "tolerance": _TOLERANCE * max(pair.scale, 1.0)}
    first = binned(start, factor)
    fit = maximize_correlation(reference, image, first, degree=degree, errors=errors, **options)
    if degree > 1 and not fit.converged:
        # From a good affine map the terms of higher degree start in the linear regime.
        affine = maximize_correlation(reference, image, first, degree=1, errors=False, **options)
        if affine.converged:
            fit = maximize_correlation(reference, image, affine.transform, degree=degree, errors=errors, **options)
    return replace(
        fit,
        transform=unbinned(fit.transform, factor),
        covariance=fit.covariance * factor**2,
        misfit=fit.misfit and fit.misfit.binned(1 / factor),
    )


def _search(pair, start, search):
    """The start, turned, scaled and shifted to the place where the coarse images look most alike."""
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
    # The smaller image is moved over the larger one.
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
