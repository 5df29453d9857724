"""
The sums of a fit as they were computed before 2026-12, for the comparison of processor time alone.

The image was interpolated linearly, and the derivative of the interpolant was the gradient.
"""

import numba
import numpy as np

from esis_ndcube.registration._kernel import _FLAGS, _PIECE, _ZERO, N_SCALARS, _add_scalars, _fold, framed

__all__ = ["framed", "moments"]

# The first five as in the present kernel.
_GU, _GV, _W, _R, _GOOD, _FU, _FV = range(7)
_ONE = np.float32(1)


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS, error_model="numpy")
def moments(image, reference, coefficients, origin, scale):
    """
    Sums over the reference pixels that are not NaN and fall between four image pixels that are not.

    Both images come from `framed`: ``image`` (detector) with a border of one pixel, ``reference`` (grid) with none.
    ``coefficients`` has shape (2, degree + 1, degree + 1), holds the factor of X^i Y^j at [:, i, j], and must be
    finite.

    Returns scalars (n, w, r, ww, rr, wr), ``pair`` (3, 2d+1, 2d+1): sums of gu gu, gu gv, gv gv times X^p Y^q, and
    ``single`` (3, 2, d+1, d+1): sums of 1, w, r times gu or gv times X^p Y^q.
    """
    ny, nx = reference.shape
    degree = coefficients.shape[1] - 1
    flat = image.ravel()
    twice = 2 * degree
    scalars = np.zeros(N_SCALARS)
    pair = np.zeros((3, twice + 1, twice + 1))
    single = np.zeros((3, 2, degree + 1, degree + 1))
    row_pair = np.zeros((3, twice + 1))
    row_single = np.zeros((3, 2, twice + 1))
    curve = np.zeros((2, 4))
    four = np.empty((_PIECE, 4), dtype=np.float32)
    work = np.empty((7, _PIECE), dtype=np.float32)
    index = np.empty(_PIECE, dtype=np.uint32)
    powers = np.empty((twice + 1, _PIECE), dtype=np.float32)
    for x in range(0, nx, _PIECE):
        n = min(_PIECE, nx - x)
        for k in range(n):
            power = 1.0
            for p in range(twice + 1):
                powers[p, k] = power
                power *= (x + k - origin[0]) / scale
        for y in range(ny):
            yy = (y - origin[1]) / scale
            _fold(coefficients, yy, curve)
            for k in range(n):
                work[_R, k] = reference[y, x + k]
            _sample(flat, image.shape, curve, (x - origin[0]) / scale, 1 / scale, n, work, index, four)
            if not _add_scalars(work, n, scalars):
                continue
            for p in range(twice + 1):
                _sum_gradients(work, powers, p, n, row_pair, row_single)
            power = 1.0
            for q in range(twice + 1):
                for k in range(3):
                    for p in range(twice + 1 - q):
                        pair[k, p, q] += row_pair[k, p] * power
                    for p in range(degree + 1 - q):
                        single[k, 0, p, q] += row_single[k, 0, p] * power
                        single[k, 1, p, q] += row_single[k, 1, p] * power
                power *= yy
    return scalars, pair, single


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _sample(flat, shape, curve, start, step, n, work, index, four):
    """Interpolate the image and its gradient along a curve; 0 where they or the reference are NaN."""
    height, width = shape
    u0, u1, u2, u3 = curve[0, 0] + 1.0, curve[0, 1], curve[0, 2], curve[0, 3]
    v0, v1, v2, v3 = curve[1, 0] + 1.0, curve[1, 1], curve[1, 2], curve[1, 3]
    last_u, last_v = width - 2.0, height - 2.0
    for k in range(n):
        xx = start + k * step
        uu = ((u3 * xx + u2) * xx + u1) * xx + u0
        vv = ((v3 * xx + v2) * xx + v1) * xx + v0
        # Positions outside fall on the border.
        uu = uu if uu > 0.0 else 0.0
        vv = vv if vv > 0.0 else 0.0
        uu = uu if uu < last_u else last_u
        vv = vv if vv < last_v else last_v
        iu, iv = np.int32(uu), np.int32(vv)
        work[_FU, k] = uu - iu
        work[_FV, k] = vv - iv
        index[k] = iv * np.int32(width) + iu
    for k in range(n):
        i = np.uint64(index[k])
        j = i + np.uint64(width)
        a, b, c, d = flat[i], flat[i + np.uint64(1)], flat[j], flat[j + np.uint64(1)]
        four[k, 0], four[k, 1], four[k, 2], four[k, 3] = a, b, c, d
    for k in range(n):
        fu, fv, r = work[_FU, k], work[_FV, k], work[_R, k]
        a = four[k, 0]
        along = four[k, 1] - a
        across = four[k, 2] - a
        twist = four[k, 3] - four[k, 2] - along
        w = a + fu * along + fv * (across + fu * twist)
        good = w + r == w + r
        work[_GU, k] = along + fv * twist if good else _ZERO
        work[_GV, k] = across + fu * twist if good else _ZERO
        work[_W, k] = w if good else _ZERO
        work[_R, k] = r if good else _ZERO
        work[_GOOD, k] = _ONE if good else _ZERO


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _sum_gradients(work, powers, p, n, row_pair, row_single):
    """Sums of the products with X^p; those of single gradients only up to the degree."""
    uu = uv = vv = u1 = v1 = uw = vw = ur = vr = _ZERO
    for k in range(n):
        gu, gv, w, r = work[_GU, k], work[_GV, k], work[_W, k], work[_R, k]
        pu, pv = gu * powers[p, k], gv * powers[p, k]
        uu += pu * gu
        uv += pu * gv
        vv += pv * gv
        u1 += pu
        v1 += pv
        uw += pu * w
        vw += pv * w
        ur += pu * r
        vr += pv * r
    row_pair[0, p], row_pair[1, p], row_pair[2, p] = uu, uv, vv
    row_single[0, 0, p], row_single[0, 1, p] = u1, v1
    row_single[1, 0, p], row_single[1, 1, p] = uw, vw
    row_single[2, 0, p], row_single[2, 1, p] = ur, vr
