"""Compiled sums over square blocks of a warped image and its reference, from which the error of a fit is estimated."""

import numba
import numpy as np

from esis_ndcube.registration._kernel import _FLAGS, _FU, _FV, _GOOD, _GU, _GV, _ONE, _R, _W, _ZERO, _fold, _sample

# What is summed, in this order: 1, r, w, w w, r w, then g, g r, g w (u before v) and g times the reference's gradient
# (gu rx, gu ry, gv rx, gv ry).
N_SUMS = 15


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS, error_model="numpy")
def block_sums(image, reference, coefficients, origin, scale, block):
    """
    Sums over blocks of the reference, shape ((y - 1) // block + 1, (x - 1) // block + 1, N_SUMS).

    Images and coefficients are as for `esis_ndcube.registration._kernel.moments`. Pixels at the edge of the reference
    or beside one that is NaN, where it has no gradient, do not count.
    """
    ny, nx = reference.shape
    flat = image.ravel()
    sums = np.zeros(((ny - 1) // block + 1, (nx - 1) // block + 1, N_SUMS))
    curve = np.zeros((2, 4))
    four = np.empty((block, 4), dtype=np.float32)
    work = np.empty((7, block), dtype=np.float32)
    index = np.empty(block, dtype=np.uint32)
    for left in range(0, nx, block):
        # Without the first and the last column.
        first = max(left, 1)
        n = min(left + block, nx - 1) - first
        for y in range(1, ny - 1):
            yy = (y - origin[1]) / scale
            _fold(coefficients, yy, curve)
            for k in range(n):
                work[_R, k] = reference[y, first + k]
            _sample(flat, image.shape, curve, (first - origin[0]) / scale, 1 / scale, n, work, index, four)
            _add(work, reference, y, first, n, sums[y // block, left // block])
    return sums


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _add(work, reference, y, first, n, total):
    """Add the sums of a piece of a row."""
    for k in range(n):
        rx = (reference[y, first + k + 1] - reference[y, first + k - 1]) * np.float32(0.5)
        ry = (reference[y + 1, first + k] - reference[y - 1, first + k]) * np.float32(0.5)
        good = rx + ry == rx + ry
        work[_FU, k] = rx if good else _ZERO
        work[_FV, k] = ry if good else _ZERO
        keep = _ONE if good else _ZERO
        for row in (_GU, _GV, _W, _R, _GOOD):
            work[row, k] *= keep
    count = sr = sw = sww = srw = su = sv = _ZERO
    ur = vr = uw = vw = ux = uy = vx = vy = _ZERO
    for k in range(n):
        gu, gv, w, r = work[_GU, k], work[_GV, k], work[_W, k], work[_R, k]
        rx, ry = work[_FU, k], work[_FV, k]
        count += work[_GOOD, k]
        sr += r
        sw += w
        sww += w * w
        srw += r * w
        su += gu
        sv += gv
        ur += gu * r
        vr += gv * r
        uw += gu * w
        vw += gv * w
        ux += gu * rx
        uy += gu * ry
        vx += gv * rx
        vy += gv * ry
    values = (count, sr, sw, sww, srw, su, sv, ur, vr, uw, vw, ux, uy, vx, vy)
    for m in range(N_SUMS):
        total[m] += values[m]
