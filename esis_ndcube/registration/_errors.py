"""How well a fit determines its transform, and whether the transform is large enough."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import fdtrc

from esis_ndcube.registration.transform import exponents, point_covariances

# Blocks of this many pixels of the reference are taken as independent: they are several times as long as the
# correlation by the filter. Small images have smaller blocks, so that there are this many blocks for each polynomial
# term.
_BLOCK, _LEAST_BLOCK = 48, 8
_PER_TERM = 5
# An event is improbable if it has less than this probability.
_IMPROBABLE = 1e-3


@dataclass(frozen=True)
class Misfit:
    """
    Test whether the terms of the next degree are missing in a transform.

    Attributes
    ----------
    degree : `int`
        Degree of the terms that were tested, one more than that of the fit.
    statistic : `float`
        Hotelling's T-squared of their coefficients, divided by their number and corrected for the number of blocks. It
        has an F distribution if no terms are missing; NaN if the images are too small to tell.
    probability : `float`
        Probability of a larger statistic if no terms are missing.
    size : `float`
        Effect of the terms, RMS over the overlap in pixels of the image, less the part that noise causes.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube import coalign
    >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(120, 120)), 2))
    >>> coalign(scene[5:105, 8:108], scene[:100, :100], transform="shift").misfit.degree
    1
    """

    degree: int
    statistic: float
    probability: float
    size: float

    @property
    def significant(self):
        """Whether noise alone would hardly give such a statistic (`bool`)."""
        return bool(self.probability < _IMPROBABLE)

    def binned(self, factor):
        """
        The same test in pixels that are larger by a factor.

        Parameters
        ----------
        factor : `float`
            The factor; below 1 for smaller pixels.

        Returns
        -------
        `Misfit`
            The test with another size.

        Examples
        --------
        >>> from esis_ndcube.registration import Misfit
        >>> Misfit(degree=3, statistic=4.0, probability=1e-4, size=0.5).binned(1 / 2).size
        1.0
        """
        return replace(self, size=self.size / factor)


def block_statistics(reference, image, transform, degree):
    r"""
    Covariance of the coefficients of a fit, and the `Misfit`, from the marked images of the fit.

    With the reference r, the warped image w and its gradient g, the fit solves :math:`\sum_b s_b = 0`, where
    :math:`s = \sum e\,g \otimes t` over a block of pixels, t are the polynomial terms and e is the residual :math:`r -
    \beta w` of the two images about their means.
    The covariance is :math:`A^{-1} B A^{-T}` with :math:`B = \sum_b s_b s_b^T` and the response :math:`A = \sum \nabla
    r\,g^T \otimes t t^T`. It includes noise that neighboring pixels share, and features that differ between the images.
    In A the gradient of the reference stands in the place of the gradient of the warped image, which Gauss-Newton steps
    have: the noise of the warped image makes a maximum look sharper than it is.
    Such an estimate is called robust, or a sandwich (White 1980); with blocks, it is the estimate of Conley (1999).

    The same sums with the terms of the next degree give the step that a fit of these terms would make, and its
    covariance (a score test, Rao 1948).
    """
    from esis_ndcube.registration._kernel import block_sums, warped

    size = transform.coefficients.size
    known = np.full((size, size), np.nan)
    missing = Misfit(degree + 1, np.nan, np.nan, np.nan)
    free = np.tile(transform.exponents.sum(1) <= degree, 2)
    wanted = _PER_TERM * free.sum() / 2
    block = int(np.clip(np.sqrt(np.isfinite(reference).sum() / wanted), _LEAST_BLOCK, _BLOCK))
    there = warped(image, reference.shape, transform.grids, transform.origin, transform.scale)
    table = block_sums(reference, there, block)
    row, column = np.nonzero(table[..., 0])
    # Each block has a score along x and one along y.
    if row.size < free.sum():
        return known, missing
    table = table[row, column]
    n, r, w, ww, rw = table.sum(axis=0)[:5]
    slope = (rw - r * w / n) / (ww - w * w / n)
    level = (r - slope * w) / n
    residual = table[:, 7:9] - slope * table[:, 9:11] - level * table[:, 5:7]
    products = table[:, 11:].reshape(-1, 2, 2)
    products = (products + products.transpose(0, 2, 1)) / 2
    x, y = ((index + 0.5) * block - 0.5 for index in (column, row))
    jacobian = transform.jacobian(*transform.origin)
    powers = exponents(degree + 1)
    x, y = ((a - b) / transform.scale for a, b in zip((x, y), transform.origin, strict=True))
    terms = np.stack([x**i * y**j for i, j in powers], axis=-1)
    lower = powers.sum(1) <= degree
    found = _solve(residual, products, terms[:, lower])
    if found is None:
        return known, missing
    turn = np.kron(jacobian, np.eye(lower.sum()))
    known = np.zeros((size, size))
    known[np.ix_(free, free)] = turn @ found[1] @ turn.T
    return known, _misfit(residual, products, terms, ~lower, jacobian, table[:, 0], degree + 1) or missing


def _solve(residual, products, terms):
    """The step that follows from the scores of the blocks, and its covariance; None if they do not determine it."""
    blocks, size = len(terms), 2 * terms.shape[1]
    if blocks < size:
        return None
    scores = (residual[:, :, None] * terms[:, None, :]).reshape(blocks, size)
    response = np.einsum("bij,bk,bl->ikjl", products, terms, terms).reshape(size, size)
    try:
        inverse = np.linalg.inv(response)
    except np.linalg.LinAlgError:
        return None
    step = inverse @ scores.sum(axis=0)
    scores = scores - scores.mean(axis=0)
    freedom = blocks / (blocks - size / 2)
    return step, inverse @ (scores.T @ scores) @ inverse.T * freedom


def _misfit(residual, products, terms, new, jacobian, weights, degree):
    """The `Misfit` from the terms up to the next degree, some of which are new; None if there are too few blocks."""
    found, blocks, count = _solve(residual, products, terms), len(terms), 2 * int(new.sum())
    if found is None or blocks <= count + 1:
        return None
    step, covariance = found
    chosen = np.tile(new, 2)
    try:
        square = step[chosen] @ np.linalg.solve(covariance[np.ix_(chosen, chosen)], step[chosen])
    except np.linalg.LinAlgError:
        return None
    statistic = float(square * (blocks - count) / (count * (blocks - 1)))
    # All of the step, because the lower terms change with the new ones; in pixels of the image.
    change = terms @ step.reshape(2, -1).T @ jacobian.T
    turned = np.kron(jacobian, np.eye(terms.shape[1]))
    noise = np.trace(point_covariances(terms, turned @ covariance @ turned.T), axis1=1, axis2=2)
    excess = np.average((change**2).sum(axis=1) - noise, weights=weights)
    return Misfit(degree, statistic, float(fdtrc(count, blocks - count, statistic)), float(np.sqrt(max(excess, 0.0))))
