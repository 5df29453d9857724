"""Compiled sums of the registration: one pass over a warped image and its gradient.

The parameters of a polynomial transform enter the gradient as products of the image gradient with X^i Y^j, so all
products of gradients follow from sums of gu*gu, gu*gv and gv*gv times powers of X and Y. The powers of Y are folded in
once per row, which makes the cost of a pass nearly independent of the number of parameters.
"""

import numba
import numpy as np

N_SCALARS = 6


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def moments(image, valid, reference, mask, coefficients, origin, scale, degree, stride):
    """
    Sums over the reference pixels that are in the mask and fall on valid image pixels.

    ``image`` (detector) and ``reference`` (grid) are float32, ``valid`` and ``mask`` uint8; ``coefficients`` has shape
    (2, degree + 1, degree + 1) and holds the factor of X^i Y^j at [:, i, j]. Only every ``stride``-th pixel is used.

    Returns scalars (n, w, r, ww, rr, wr), ``pair`` (3, 2d+1, 2d+1): sums of gu gu, gu gv, gv gv times X^p Y^q, and
    ``single`` (3, 2, d+1, d+1): sums of 1, w, r times gu or gv times X^p Y^q.
    """
    ny, nx = reference.shape
    nv, nu = image.shape
    twice = 2 * degree
    scalars = np.zeros(N_SCALARS)
    pair = np.zeros((3, twice + 1, twice + 1))
    single = np.zeros((3, 2, degree + 1, degree + 1))
    row_pair = np.zeros((3, twice + 1))
    row_single = np.zeros((3, 2, degree + 1))
    cu = np.zeros(4)
    cv = np.zeros(4)
    for y in range(0, ny, stride):
        yy = (y - origin[1]) / scale
        cu[:] = 0.0
        cv[:] = 0.0
        for i in range(degree + 1):
            for j in range(degree - i, -1, -1):
                cu[i] = cu[i] * yy + coefficients[0, i, j]
                cv[i] = cv[i] * yy + coefficients[1, i, j]
        row_pair[:] = 0.0
        row_single[:] = 0.0
        n = 0
        sw = sr = sww = srr = swr = 0.0
        for x in range(0, nx, stride):
            if mask[y, x] == 0:
                continue
            xx = (x - origin[0]) / scale
            uu = ((cu[3] * xx + cu[2]) * xx + cu[1]) * xx + cu[0]
            vv = ((cv[3] * xx + cv[2]) * xx + cv[1]) * xx + cv[0]
            # written so that NaN fails too
            if not (uu >= 0.0 and vv >= 0.0 and uu < nu - 1 and vv < nv - 1):
                continue
            iu = int(uu)
            iv = int(vv)
            if not (valid[iv, iu] and valid[iv, iu + 1] and valid[iv + 1, iu] and valid[iv + 1, iu + 1]):
                continue
            fu = uu - iu
            fv = vv - iv
            a = image[iv, iu]
            b = image[iv, iu + 1]
            c = image[iv + 1, iu]
            d = image[iv + 1, iu + 1]
            gu = (1.0 - fv) * (b - a) + fv * (d - c)
            gv = (1.0 - fu) * (c - a) + fu * (d - b)
            w = (1.0 - fv) * (a + fu * (b - a)) + fv * (c + fu * (d - c))
            r = reference[y, x]
            n += 1
            sw += w
            sr += r
            sww += w * w
            srr += r * r
            swr += w * r
            guu = gu * gu
            guv = gu * gv
            gvv = gv * gv
            power = 1.0
            for p in range(degree + 1):
                pu = gu * power
                pv = gv * power
                row_single[0, 0, p] += pu
                row_single[0, 1, p] += pv
                row_single[1, 0, p] += pu * w
                row_single[1, 1, p] += pv * w
                row_single[2, 0, p] += pu * r
                row_single[2, 1, p] += pv * r
                row_pair[0, p] += guu * power
                row_pair[1, p] += guv * power
                row_pair[2, p] += gvv * power
                power *= xx
            for p in range(degree + 1, twice + 1):
                row_pair[0, p] += guu * power
                row_pair[1, p] += guv * power
                row_pair[2, p] += gvv * power
                power *= xx
        scalars[0] += n
        scalars[1] += sw
        scalars[2] += sr
        scalars[3] += sww
        scalars[4] += srr
        scalars[5] += swr
        power = 1.0
        for q in range(twice + 1):
            for k in range(3):
                for p in range(twice + 1 - q):
                    pair[k, p, q] += row_pair[k, p] * power
                if q <= degree:
                    for p in range(degree + 1 - q):
                        single[k, 0, p, q] += row_single[k, 0, p] * power
                        single[k, 1, p, q] += row_single[k, 1, p] * power
            power *= yy
    return scalars, pair, single
