"""How well a fit determines its transform: the covariance of its coefficients."""

import numpy as np

# Blocks of this many pixels of the reference are taken for independent: several times what the filter correlates.
# Small images have smaller ones, so that there are this many for each polynomial term.
_BLOCK, _LEAST_BLOCK = 48, 8
_PER_TERM = 5


def block_covariance(reference, image, transform, free):
    r"""
    Covariance of the coefficients of a fit, from the images as they were marked for it.

    With the reference r, the warped image w and its gradient g, the fit solves :math:`\sum_b s_b = 0`, where
    :math:`s = \sum e\,g \otimes t` over a block of pixels, t are the polynomial terms and e is what the warped image
    leaves of the reference, :math:`r - \beta w` about their means.
    The covariance is :math:`A^{-1} B A^{-T}` with :math:`B = \sum_b s_b s_b^T`, which knows of noise that neighboring
    pixels share and of features that are not the same in both images, and the response
    :math:`A = \sum \nabla r\,g^T \otimes t t^T`.
    In A the gradient of the reference stands where Gauss-Newton steps have that of the warped image, whose noise makes
    a maximum look sharper than it is.
    Such an estimate is called robust, or a sandwich (White 1980); with blocks, it is that of Conley (1999).
    """
    from esis_ndcube.registration._kernel import block_sums, warped

    wanted = _PER_TERM * free.sum() / 2
    block = int(np.clip(np.sqrt(np.isfinite(reference).sum() / wanted), _LEAST_BLOCK, _BLOCK))
    there = warped(image, reference.shape, transform.grids, transform.origin, transform.scale)
    table = block_sums(reference, there, block)
    row, column = np.nonzero(table[..., 0])
    size = transform.coefficients.size
    nothing = np.full((size, size), np.nan)
    # Each block has a score along x and one along y.
    if row.size < free.sum():
        return nothing
    table = table[row, column]
    n, r, w, ww, rw = table.sum(axis=0)[:5]
    slope = (rw - r * w / n) / (ww - w * w / n)
    level = (r - slope * w) / n
    terms = transform.terms(*((index + 0.5) * block - 0.5 for index in (column, row)))
    # Scores of the blocks, shape (block, 2).
    residual = table[:, 7:9] - slope * table[:, 9:11] - level * table[:, 5:7]
    scores = (residual[:, :, None] * terms[:, None, :]).reshape(row.size, size)
    products = table[:, 11:].reshape(-1, 2, 2)
    products = (products + products.transpose(0, 2, 1)) / 2
    response = np.einsum("bij,bk,bl->ikjl", products, terms, terms).reshape(size, size)
    response, scores = response[np.ix_(free, free)], scores[:, free]
    scores = scores - scores.mean(axis=0)
    try:
        inverse = np.linalg.inv(response)
    except np.linalg.LinAlgError:
        return nothing
    freedom = row.size / (row.size - free.sum() / 2)
    covariance = np.zeros((size, size))
    covariance[np.ix_(free, free)] = inverse @ (scores.T @ scores) @ inverse.T * freedom
    # From pixels of the reference to those of the image.
    turn = np.kron(transform.jacobian(*transform.origin), np.eye(size // 2))
    return turn @ covariance @ turn.T
