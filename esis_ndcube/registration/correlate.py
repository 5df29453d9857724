"""Maximize the correlation of two images over a polynomial transform, by Gauss-Newton steps."""

from dataclasses import dataclass, replace

import numpy as np

from esis_ndcube.registration._errors import Misfit, block_statistics
from esis_ndcube.registration.transform import PolynomialTransform
from esis_ndcube.utils.arrays import plain_arrays

__all__ = ["Fit", "correlation", "maximize_correlation"]

# A step is never longer than this (RMS over the overlap, in image pixels times the root of the stride): the linear
# model of the image does not hold beyond about the width of the correlated structures.
_MAX_STEP = 3.0
# A change of the score by less than this part of its distance from 1 may come from the interpolation, which smooths
# noise most between pixels.
_INDISTINCT = 0.02
# With at least this many pixels, the fit first uses every sixteenth row, to this many times the tolerance.
_COARSE, _LEAST_COARSE, _COARSE_TOLERANCE = 16, 10_000, 10
# Bounds of the factor by which steps are lengthened.
_RELAXATION = 0.5, 3.0
# Pixels that the interpolation reaches to the left of a position.
_BORDER = 2


@dataclass(frozen=True, eq=False)
class Fit:
    """
    Result of one registration fit.

    Attributes
    ----------
    transform : `PolynomialTransform`
        Map from reference to image pixels.
    score : `float`
        Correlation coefficient of the reference with the warped image at the last pass, one short step before the
        transform; NaN if nothing overlaps.
    iterations : `int`
        Number of passes over the images, including those over every sixteenth row.
    converged : `bool`
        Whether the transform is expected to be nearer to the maximum than the tolerance.
    reason : `str`
        Reason why the fit ended.
    condition : `float`
        Condition number of the normal matrix.
    n_pixels : `int`
        Number of pixels that were correlated.
    covariance : `numpy.ndarray`
        Covariance of the coefficients, all of u before all of v, shape (2 n, 2 n); NaN if the images are too small to
        tell.
    misfit : `Misfit` or None
        Test whether terms of a higher degree are missing; None if nothing overlaps.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration import PolynomialTransform, maximize_correlation
    >>> scene = np.random.default_rng(1).normal(size=(80, 80)).astype("f4")
    >>> start = PolynomialTransform.from_affine([[1, 0, 0], [0, 1, 0]])
    >>> ones = np.ones(scene.shape, bool)
    >>> fit = maximize_correlation(scene, scene, start, mask=ones, valid=ones)
    >>> fit.converged, round(float(fit.score), 3)
    (True, 1.0)
    """

    transform: PolynomialTransform
    score: float
    iterations: int
    converged: bool
    reason: str
    condition: float
    n_pixels: int
    covariance: np.ndarray
    misfit: Misfit | None = None


@dataclass
class _State:
    """Covariances of one pass: of the gradient with itself, the image and the reference; and the step, or None."""

    score: float
    n: int
    gw: np.ndarray
    gr: np.ndarray
    normal: np.ndarray
    step: np.ndarray | None


@plain_arrays("reference", "image", "mask", "valid")
def maximize_correlation(
    reference,
    image,
    start,
    *,
    mask,
    valid,
    degree=None,
    stride=1,
    tolerance=0.005,
    max_iterations=30,
    min_pixels=200,
    errors=True,
):
    """
    Fit the transform that makes an image look most like a reference.

    Enhanced correlation coefficient maximization (Evangelidis & Psarakis 2008, their equations 18 and 20) with a cap on
    the step and step halving.
    The gradient is the central difference of the image, interpolated by cubic polynomials. So noise does not draw the
    fit to places where an interpolation smooths most, between the pixels.
    Noise makes the steps of that method too short, all by about the same factor. The factor is measured from two steps
    that follow each other, and the next steps are lengthened by it.
    Large images are fitted on every sixteenth row first.
    The covariance is estimated from blocks of the images, so that it includes noise that neighboring pixels share, and
    features that differ between the images.

    Parameters
    ----------
    reference : `numpy.ndarray`
        Shape (y, x), float32: the reference.
    image : `numpy.ndarray`
        Shape (v, u), float32: the image.
    start : `PolynomialTransform`
        Map from reference pixels (x, y) to image pixels (u, v), from which the fit starts; its degree is that of the
        result.
    mask : `numpy.ndarray`
        Reference pixels to use, shape (y, x).
    valid : `numpy.ndarray`
        Valid image pixels, shape (v, u). Pixels that are not finite are never used.
    degree : `int`, optional
        Fit the terms up to this degree only and leave the others as they are: 0 fits a shift. By default all terms are
        fitted.
    stride : `int`, optional
        Use every ``stride``-th row of the reference.
    tolerance : `float`, optional
        RMS distance in image pixels from the maximum at which the fit has converged, as far as the last two steps
        tell.
    max_iterations : `int`, optional
        Largest number of passes.
    min_pixels : `int`, optional
        Least number of pixels in the overlap for a fit.
    errors : `bool`, optional
        Whether to estimate the covariance and the misfit, which takes about as long as a pass. Otherwise they are NaN
        and None.

    Returns
    -------
    `Fit`
        The best transform, also if the fit failed: look at ``converged`` and ``score``.

    Raises
    ------
    ValueError
        If a mask has another shape than its image, or the degree is not between 0 and the degree of the start.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube.registration import PolynomialTransform, maximize_correlation
    >>> scene = gaussian_filter(np.random.default_rng(1).normal(size=(80, 80)), 3).astype("f4")
    >>> start = PolynomialTransform.from_affine([[1, 0, 1.5], [0, 1, -1]], origin=(40, 40), scale=40)
    >>> ones = np.ones(scene.shape, bool)
    >>> fit = maximize_correlation(scene, scene, start, mask=ones, valid=ones)
    >>> fit.converged, bool(abs(np.subtract(fit.transform(20, 30), (20, 30))).max() < 0.01)
    (True, True)
    """
    degree = start.degree if degree is None else degree
    _check(reference, image, start, mask, valid, degree)
    if not np.isfinite(start.coefficients).all():
        return _failed(start, 0, "start is not finite")
    reference, image = _marked_pair(reference, image, mask, valid)
    free = np.tile(start.exponents.sum(1) <= degree, 2)
    options = {"max_iterations": max_iterations, "min_pixels": min_pixels}
    sparse, passes, relaxation = stride * _COARSE, 0, 1.0
    if reference[0].size >= _LEAST_COARSE * sparse:
        tolerances = {"tolerance": _COARSE_TOLERANCE * tolerance}
        fit, factor = _climb(reference, image, start, free, sparse, 1.0, **tolerances, **options)
        passes = fit.iterations
        # A fit that fails on few rows may still succeed on all of them.
        if fit.converged:
            start, relaxation = fit.transform, factor
    fit, _ = _climb(reference, image, start, free, stride, relaxation, tolerance=tolerance, **options)
    fit = replace(fit, iterations=fit.iterations + passes)
    if not (errors and np.isfinite(fit.score)):
        return fit
    covariance, misfit = block_statistics(reference[0], image, fit.transform, degree)
    return replace(fit, covariance=covariance, misfit=misfit)


def correlation(reference, image, transform, *, mask, valid):
    """
    Correlation coefficient of a reference with an image that a transform lays on it.

    Parameters
    ----------
    reference, image, transform, mask, valid
        As for `~esis_ndcube.registration.maximize_correlation`.

    Returns
    -------
    `float`
        The coefficient; NaN if nothing overlaps.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration import PolynomialTransform
    >>> from esis_ndcube.registration.correlate import correlation
    >>> scene = np.random.default_rng(1).normal(size=(80, 80))
    >>> same, ones = PolynomialTransform.from_affine([[1, 0, 0], [0, 1, 0]]), np.ones(scene.shape, bool)
    >>> round(correlation(scene, -3 * scene, same, mask=ones, valid=ones), 6)
    -1.0
    """
    _check(reference, image, transform, mask, valid, transform.degree)
    reference, image = _marked_pair(reference, image, mask, valid)
    state = _pass(image, reference, transform, 1, np.ones(transform.coefficients.size, dtype=bool))
    return np.nan if state is None else float(state.score)


def warp(image, valid, transform, shape):
    """
    An image on the pixels of a reference, interpolated by cubic polynomials.

    Parameters
    ----------
    image, valid : `numpy.ndarray`
        Shape (v, u): the image, and its pixels that count.
    transform : `PolynomialTransform`
        Map from reference to image pixels.
    shape : `tuple` of `int`
        Rows and columns of the reference.

    Returns
    -------
    `numpy.ndarray`
        The image of that shape, float32; NaN if one of the sixteen pixels about a position does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration import PolynomialTransform
    >>> from esis_ndcube.registration.correlate import warp
    >>> ramp = np.tile(np.arange(8.0), (8, 1))
    >>> half = PolynomialTransform.from_affine([[1, 0, 0.5], [0, 1, 0]])
    >>> float(warp(ramp, ramp >= 0, half, (8, 8))[4, 4])
    4.5
    """
    from esis_ndcube.registration._kernel import framed, warped

    image, valid = np.ascontiguousarray(image, dtype=np.float32), np.ascontiguousarray(valid, dtype=bool)
    marked = framed(image, valid.view(np.uint8), np.float32(0), _BORDER)
    return warped(marked, tuple(shape), transform.grids, transform.origin, transform.scale)


def _check(reference, image, start, mask, valid, degree):
    for name, array, other in (("mask", mask, reference), ("valid", valid, image)):
        if np.ndim(other) != 2 or np.shape(array) != np.shape(other):
            msg = f"got {name} of shape {np.shape(array)} for an image of shape {np.shape(other)}, expected equal ones"
            raise ValueError(msg)
    if not 0 <= degree <= start.degree:
        msg = f"got degree {degree}, expected 0 to {start.degree}, which is the start's: give a start of higher degree"
        raise ValueError(msg)


def _marked_pair(reference, image, mask, valid):
    """The reference, with the spans of its rows, and the image, in the form for the compiled sums."""
    from esis_ndcube.registration._kernel import spans

    reference = _marked(reference, mask)
    return (reference, spans(reference)), _marked(image, valid, border=_BORDER)


def _marked(image, valid, *, border=0):
    """The image about its mean, with NaN in the border and for pixels that are not valid."""
    from esis_ndcube.registration._kernel import framed

    image = np.ascontiguousarray(image, dtype=np.float32)
    valid = np.ascontiguousarray(valid, dtype=bool)
    # The mean of some pixels only: any level near the mean keeps the sums precise.
    some = image[::8, ::8][valid[::8, ::8]]
    some = some[np.isfinite(some)]
    return framed(image, valid.view(np.uint8), np.float32(some.mean(dtype=float) if some.size else 0), border)


def _climb(reference, image, transform, free, stride, relaxation, *, tolerance, max_iterations, min_pixels):
    """Fit on every ``stride``-th row, from marked images."""
    basis = _basis_products(reference[0], transform)
    # Scale from pixels of the reference, along which the steps are, to pixels of the image.
    jacobian = transform.jacobian(*transform.origin)
    lengths = np.kron(jacobian.T @ jacobian, basis)
    state = _pass(image, reference, transform, stride, free)
    if state is None or state.n < min_pixels:
        return _failed(transform, 0 if state is None else state.n, "no overlap"), 1.0
    iterations, reason, last, before = 1, "iteration limit", None, 1e-30
    while True:
        if state.step is None:
            reason = "singular"
            break
        if last is not None:
            relaxation = _relaxation(*last, state.step, lengths)
        length = _rms(relaxation * state.step, lengths)
        step = relaxation * state.step * min(1.0, _MAX_STEP * np.sqrt(stride) / max(length, 1e-30))
        # The rest after a step relates to that step as the step relates to the one before; the first step has none
        # before it.
        if length * min(1.0, length / before) < tolerance:
            transform, reason = _moved(transform, step, jacobian), "converged"
            break
        length, new = _rms(step, lengths), None
        while new is None and length >= tolerance and iterations < max_iterations:
            trial = _moved(transform, step, jacobian)
            new = _pass(image, reference, trial, stride, free)
            iterations += 1
            if new is None or new.n < min_pixels or _is_worse(new, state, lengths):
                new, step, length = None, step / 2, length / 2
        if new is None:
            # Or the maximum of the sampled correlation is nearer than the tolerance.
            reason = "converged" if length < tolerance else reason
            break
        transform, state, last, before = trial, new, (state.step, step), length
    unknown = np.full(2 * (free.size,), np.nan)
    fit = Fit(
        transform, state.score, iterations, reason == "converged", reason, _condition(state, free), state.n, unknown
    )
    return fit, relaxation


def _is_worse(new, state, lengths):
    """Whether a step was bad: by the score, or if the score does not tell, by the remaining distance."""
    gain, least = new.score - state.score, _INDISTINCT * (1 - state.score)
    if abs(gain) > least or new.step is None:
        return gain < 0
    return _rms(new.step, lengths) > _rms(state.step, lengths)


def _moved(transform, step, jacobian):
    moved = transform.coefficients + jacobian @ step.reshape(2, -1)
    return PolynomialTransform(moved, transform.origin, transform.scale)


def _failed(start, n, reason):
    size = start.coefficients.size
    return Fit(start, np.nan, 0, False, reason, np.inf, n, np.full((size, size), np.nan))


def _pass(image, reference, transform, stride, free):
    """Sums over marked images, of every ``stride``-th row of the reference, and the next step from them."""
    from esis_ndcube.registration._kernel import moments

    powers = transform.exponents
    scalars, pair, single = moments(image, *reference, transform.grids, transform.origin, transform.scale, stride)
    n = scalars[0]
    if n < 2:
        return None
    w, r = scalars[1] / n, scalars[2] / n
    ww, rr, wr = scalars[3] / n - w * w, scalars[4] / n - r * r, scalars[5] / n - w * r
    if not (ww > 0 and rr > 0):
        return None
    i, j = powers.T
    sums = single[:, :, i, j].reshape(3, -1) / n
    total = powers[:, None, :] + powers[None, :, :]
    blocks = pair[:, total[..., 0], total[..., 1]] / n
    normal = np.block([[blocks[0], blocks[1]], [blocks[1], blocks[2]]]) - np.outer(sums[0], sums[0])
    gw, gr = sums[1] - w * sums[0], sums[2] - r * sums[0]
    step = np.zeros(len(free))
    step[free] = _step(ww, wr, gw[free], gr[free], normal[np.ix_(free, free)])
    return _State(wr / np.sqrt(ww * rr), int(n), gw, gr, normal, step if np.isfinite(step).all() else None)


def _step(ww, wr, gw, gr, normal):
    """Step of Evangelidis & Psarakis (2008), equation 18; NaN if there is none."""
    try:
        a, b = np.linalg.solve(normal, np.column_stack([gw, gr])).T
    except np.linalg.LinAlgError:
        return np.full(len(gw), np.nan)
    numerator, denominator = ww - gw @ a, wr - gr @ a
    if denominator > 0:
        factor = numerator / denominator
    else:
        # Equation 20: the images are (nearly) anticorrelated; take the larger of the two bounds.
        factor = max(np.sqrt(abs(gw @ a) / max(gr @ b, 1e-30)), (gr @ a - wr) / (gr @ b))
    return factor * b - a


def _relaxation(direction, step, new, lengths):
    """
    Factor by which steps should be longer, from the change that a step made.

    The method takes all gradients of the warped image as its response to the parameters. The gradients of noise
    simulate a sharper maximum than there is. Along the step, this correction is the secant method.
    """
    response = (direction - new) @ lengths @ step / (step @ lengths @ step)
    return float(np.clip(1 / response, *_RELAXATION)) if response > 0 else 1.0


def _condition(state, free):
    """Condition number of the (column-scaled) normal matrix."""
    normal = state.normal[np.ix_(free, free)]
    diagonal = np.sqrt(np.diag(normal))
    return float(np.linalg.cond(normal / np.outer(diagonal, diagonal))) if (diagonal > 0).all() else np.inf


def _basis_products(reference, transform):
    """Mean products of the polynomial terms over the used pixels, which give the RMS length of a step."""
    step = max(1, int(np.sqrt(reference.size / 2000)))
    y, x = np.nonzero(np.isfinite(reference[::step, ::step]))
    if not len(x):
        x = y = np.zeros(1)
    terms = transform.terms(x * step, y * step)
    return terms.T @ terms / len(terms)


def _rms(step, lengths):
    return np.sqrt(max(step @ lengths @ step, 0.0))
