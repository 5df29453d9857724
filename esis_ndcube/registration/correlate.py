"""Maximize the correlation of two images over a polynomial transform, by Gauss-Newton steps."""

from dataclasses import dataclass

import numpy as np

from esis_ndcube.registration.transform import PolynomialTransform, exponents

__all__ = ["Fit", "maximize_correlation"]

# A step is never longer than this (RMS over the overlap, in image pixels times the stride): beyond about the width of
# the structures that are correlated the linear model of the image does not hold.
_MAX_STEP = 3.0
# The score jitters by this much as pixels enter and leave the overlap; a smaller loss does not make a step a bad one,
# unless it happens again and again.
_JITTER = 1e-4
_MAX_LOSSES = 3


@dataclass(frozen=True, eq=False)
class Fit:
    """
    Result of one registration fit.

    Attributes
    ----------
    transform : `PolynomialTransform`
        Map from reference to image pixels.
    score : `float`
        Correlation coefficient of the reference with the warped image; NaN where nothing overlaps.
    iterations : `int`
        Number of passes over the images.
    converged : `bool`
        Whether the last step was short enough.
    reason : `str`
        Why the fit ended.
    condition : `float`
        Condition number of the normal matrix.
    n_pixels : `int`
        Number of pixels that were correlated.
    covariance : `numpy.ndarray`
        Covariance of the coefficients, all of u before all of v, shape (2 n, 2 n): that of uncorrelated pixel noise,
        to be enlarged by the number of pixels over which the images' differences are correlated.

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


@dataclass
class _State:
    """Sums of one pass, as the covariances that the step needs."""

    score: float
    n: int
    ww: float
    rr: float
    wr: float
    gw: np.ndarray
    gr: np.ndarray
    normal: np.ndarray


def maximize_correlation(
    reference, image, start, *, mask, valid, stride=1, tolerance=0.005, max_iterations=30, min_pixels=200
):
    """
    Fit the transform that makes an image look most like a reference.

    Enhanced correlation coefficient maximization (Evangelidis & Psarakis 2008, their equations 18 and 20) with the
    forward additive update, a cap on the step and step halving.

    Parameters
    ----------
    reference : `numpy.ndarray`
        Shape (y, x), float32: the reference.
    image : `numpy.ndarray`
        Shape (v, u), float32: the image.
    start : `PolynomialTransform`
        Map from reference pixels (x, y) to image pixels (u, v) to start from; its degree is that of the fit.
    mask : `numpy.ndarray`
        Reference pixels to use, shape (y, x).
    valid : `numpy.ndarray`
        Valid image pixels, shape (v, u).
    stride : `int`, optional
        Use every ``stride``-th row and column of the reference.
    tolerance : `float`, optional
        RMS length in image pixels of the step at which the fit has converged.
    max_iterations : `int`, optional
        Largest number of passes.
    min_pixels : `int`, optional
        Fewest pixels in the overlap that make a fit.

    Returns
    -------
    `Fit`
        The best transform found, also where the fit failed: look at ``converged`` and ``score``.

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
    reference, image = (np.ascontiguousarray(a, dtype=np.float32) for a in (reference, image))
    mask, valid = (np.ascontiguousarray(a, dtype=np.uint8) for a in (mask, valid))
    basis = _basis_products(mask, start, stride)
    transform, state = start, _pass(image, valid, reference, mask, start, stride)
    if state is None or state.n < min_pixels:
        return _failed(start, 0 if state is None else state.n, "no overlap")
    step, iterations, reason, halved, losses = None, 1, "iteration limit", 0, 0
    while iterations < max_iterations:
        if not halved:
            step, problem = _step(state)
            if problem:
                reason = problem
                break
            length = _rms(step, basis)
            step *= min(1.0, _MAX_STEP * stride / max(length, 1e-30))
        trial = PolynomialTransform(
            transform.coefficients + step.reshape(2, -1) * 0.5**halved, transform.origin, transform.scale
        )
        length = _rms(step, basis) * 0.5**halved
        new = _pass(image, valid, reference, mask, trial, stride)
        iterations += 1
        allowed = _JITTER if losses < _MAX_LOSSES else 0.0
        if new is not None and new.n >= min_pixels and new.score >= state.score - allowed:
            losses += new.score < state.score
            transform, state, halved = trial, new, 0
            if length < tolerance:
                reason = "converged"
                break
        elif length < tolerance:
            # The maximum of the sampled correlation is nearer than the tolerance.
            reason = "converged"
            break
        else:
            halved += 1
    covariance, condition = _covariance(state)
    return Fit(transform, state.score, iterations, reason == "converged", reason, condition, state.n, covariance)


def _failed(start, n, reason):
    size = start.coefficients.size
    return Fit(start, np.nan, 0, False, reason, np.inf, n, np.full((size, size), np.nan))


def _pass(image, valid, reference, mask, transform, stride):
    from esis_ndcube.registration._kernel import moments

    degree = transform.degree
    powers = exponents(degree)
    grid = np.zeros((2, degree + 1, degree + 1))
    grid[:, powers[:, 0], powers[:, 1]] = transform.coefficients
    scalars, pair, single = moments(
        image, valid, reference, mask, grid, transform.origin, transform.scale, degree, stride
    )
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
    normal = np.block([[blocks[0], blocks[1]], [blocks[1], blocks[2]]])
    return _State(
        score=wr / np.sqrt(ww * rr),
        n=int(n),
        ww=ww,
        rr=rr,
        wr=wr,
        gw=sums[1] - w * sums[0],
        gr=sums[2] - r * sums[0],
        normal=normal - np.outer(sums[0], sums[0]),
    )


def _step(state):
    """Parameter step of Evangelidis & Psarakis (2008), equation 18, and why there is none."""
    try:
        a, b = np.linalg.solve(state.normal, np.column_stack([state.gw, state.gr])).T
    except np.linalg.LinAlgError:
        return None, "singular"
    numerator, denominator = state.ww - state.gw @ a, state.wr - state.gr @ a
    if denominator > 0:
        factor = numerator / denominator
    else:
        # Equation 20: the images are (nearly) anticorrelated; take the larger of the two bounds.
        factor = max(np.sqrt(abs(state.gw @ a) / max(state.gr @ b, 1e-30)), (state.gr @ a - state.wr) / (state.gr @ b))
    step = factor * b - a
    return (step, None) if np.isfinite(step).all() else (None, "singular")


def _covariance(state):
    """Covariance for white noise, and the condition number of the (column-scaled) normal matrix."""
    size = len(state.gw)
    diagonal = np.sqrt(np.diag(state.normal))
    if not (diagonal > 0).all():
        return np.full((size, size), np.nan), np.inf
    scaled = state.normal / np.outer(diagonal, diagonal)
    condition = float(np.linalg.cond(scaled))
    try:
        inverse = np.linalg.inv(scaled) / np.outer(diagonal, diagonal)
    except np.linalg.LinAlgError:
        return np.full((size, size), np.nan), np.inf
    # The reference, scaled to the image by its regression, leaves this variance per pixel.
    residual = state.ww * (1 - state.score**2)
    return inverse * residual / state.n, condition


def _basis_products(mask, transform, stride):
    """Mean products of the polynomial terms over the mask, with which a step's RMS length follows."""
    y, x = np.nonzero(mask[::stride, ::stride])
    if not len(x):
        x = y = np.zeros(1)
    keep = slice(None, None, max(1, len(x) // 2000))
    x = (x[keep] * stride - transform.origin[0]) / transform.scale
    y = (y[keep] * stride - transform.origin[1]) / transform.scale
    terms = np.stack([x**i * y**j for i, j in exponents(transform.degree)])
    return terms @ terms.T / terms.shape[1]


def _rms(step, basis):
    du, dv = step.reshape(2, -1)
    return float(np.sqrt(du @ basis @ du + dv @ basis @ dv))
