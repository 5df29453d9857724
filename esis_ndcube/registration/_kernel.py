"""Compiled sums over a reference and a warped image with its gradient, over all pixels or over blocks.

The sums over all pixels are for a fit, the sums over blocks for its error.

The gradient is a central difference of the warped image, which does not contain the noise of the pixel itself. The
image is interpolated by cubic polynomials, whose phase is right to fifth order. The derivative of the interpolation
between neighbors would be worse: noise would drive a fit to places where the interpolation smooths most, which are
between the pixels.

The parameters of a polynomial transform enter as products of the gradient with X^i Y^j, so all products of gradients
follow from sums of rx*rx, rx*ry and ry*ry times powers of X and Y. The powers of Y are folded in once per row, which
makes the cost of a pass nearly independent of the number of parameters.

A row is worked off in short pieces, in single precision and by loops so simple that the compiler turns most of them
into vector instructions: positions, weights, interpolation, sums. The sums of the pieces are added in double precision,
always in the same order.
"""

import numba
import numpy as np

N_SCALARS = 6
# The sums of `block_sums`, in this order: 1, r, w, w w, r w, then wx, wy, wx r, wy r, wx w, wy w, and the gradient of
# the warped image times that of the reference (wx rx, wx ry, wy rx, wy ry).
N_SUMS = 15

_PIECE = 256
# The contents of a row of the work array: gradient, warped image, reference, whether the pixel counts, and the weights
# of four columns and four rows.
_WX, _WY, _W, _R, _GOOD, _WEIGHTS = range(6)
_ROWS = _WEIGHTS + 8
_FLAGS = {"contract", "reassoc", "nsz"}
_ZERO, _ONE, _NAN, _HALF = np.float32(0), np.float32(1), np.float32(np.nan), np.float32(0.5)
_TWO, _SIXTH = np.float32(2), np.float32(1 / 6)


@numba.njit(cache=True, nogil=True)
def framed(image, valid, level, border):
    """
    Copy of a float32 image less a level, with NaN in a border and where it is not valid (uint8) or not finite.

    NaN marks pixels that do not count, because it spreads to every value that is interpolated from them. Without the
    level sums of squares keep their precision.
    """
    rows, columns = image.shape
    result = np.empty((rows + 2 * border, columns + 2 * border), dtype=np.float32)
    for y in range(-border, rows + border):
        if y < 0 or y >= rows:
            result[y + border] = np.nan
            continue
        result[y + border, :border] = np.nan
        result[y + border, border + columns :] = np.nan
        for x in range(columns):
            value = image[y, x] - level
            # False for NaN and infinity.
            good = valid[y, x] != 0 and value - value == _ZERO
            result[y + border, x + border] = value if good else _NAN
    return result


@numba.njit(cache=True, nogil=True)
def spans(reference):
    """First and last pixel that counts in each row of a reference, shape (y, 2)."""
    rows, columns = reference.shape
    result = np.zeros((rows, 2), dtype=np.int64)
    for y in range(rows):
        first, last = 0, columns
        while first < columns and np.isnan(reference[y, first]):
            first += 1
        while last > first and np.isnan(reference[y, last - 1]):
            last -= 1
        result[y] = first, last
    return result


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS, error_model="numpy")
def moments(image, reference, span, coefficients, origin, scale, stride):
    """
    Sums over the reference pixels that are not NaN and fall where the image and its gradient are known.

    Both images come from `framed`: ``image`` (detector) with a border of two pixels, ``reference`` (grid) with none;
    ``span`` comes from `spans`. ``coefficients`` has shape (2, degree + 1, degree + 1), holds the factor of X^i Y^j at
    [:, i, j], and must be finite. Only every ``stride``-th row counts.

    Returns scalars (n, w, r, ww, rr, wr), ``pair`` (3, 2d+1, 2d+1): sums of wx wx, wx wy, wy wy times X^p Y^q, and
    ``single`` (3, 2, d+1, d+1): sums of 1, w, r times wx or wy times X^p Y^q.
    """
    ny, nx = reference.shape
    degree = coefficients.shape[1] - 1
    flat = image.ravel()
    twice = 2 * degree
    scalars = np.zeros(N_SCALARS)
    pair = np.zeros((3, twice + 1, twice + 1))
    single = np.zeros((3, 2, degree + 1, degree + 1))
    row_pair = np.zeros((3, twice + 1))
    row_single = np.zeros((3, 2, degree + 1))
    curve = np.zeros((2, 4))
    work = np.empty((_ROWS, _PIECE), dtype=np.float32)
    index = np.empty(_PIECE, dtype=np.uint32)
    # The last three rows of the warped image, and their numbers.
    rows = np.empty((3, nx), dtype=np.float32)
    known = np.full(3, -1)
    powers = np.empty((twice + 1, nx), dtype=np.float32)
    for x in range(nx):
        power = 1.0
        for p in range(twice + 1):
            powers[p, x] = power
            power *= (x - origin[0]) / scale
    for y in range(1, ny - 1, stride):
        if span[y, 0] >= span[y, 1]:
            continue
        for other in range(y - 1, y + 2):
            if known[other % 3] == other:
                continue
            known[other % 3] = other
            # The columns that the rows of the reference above and below use, too.
            first, last = span[y, 0], span[y, 1]
            for near in range(max(other - 1, 0), min(other + 2, ny)):
                if span[near, 0] < span[near, 1]:
                    first, last = min(first, span[near, 0]), max(last, span[near, 1])
            first, last = max(first - 1, 0), min(last + 1, nx)
            _fold(coefficients, (other - origin[1]) / scale, curve)
            for x in range(first, last, _PIECE):
                n = min(_PIECE, last - x)
                _locate(image.shape, curve, (x - origin[0]) / scale, 1 / scale, n, work, index)
                _interpolate(flat, image.shape[1], n, work, index)
                for k in range(n):
                    rows[other % 3, x + k] = work[_W, k]
        yy = (y - origin[1]) / scale
        last = min(span[y, 1], nx - 1)
        for x in range(max(span[y, 0], 1), last, _PIECE):
            n = min(_PIECE, last - x)
            _load(reference[y], rows[(y - 1) % 3], rows[y % 3], rows[(y + 1) % 3], x, n, work)
            if not _add_scalars(work, n, scalars):
                continue
            for p in range(degree + 1):
                _sum_gradients(work, powers[p, x : x + n], n, p, row_pair, row_single)
            for p in range(degree + 1, twice + 1):
                _sum_pairs(work, powers[p, x : x + n], n, p, row_pair)
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
def _load(reference, above, here, below, x, n, work):
    """Put a piece of reference, warped image and gradient into the work array, and mark the pixels that count."""
    r, left, w, right = reference[x : x + n], here[x - 1 : x - 1 + n], here[x : x + n], here[x + 1 : x + 1 + n]
    up, down = above[x : x + n], below[x : x + n]
    for k in range(n):
        wx, wy = (right[k] - left[k]) * _HALF, (down[k] - up[k]) * _HALF
        total = r[k] + w[k] + wx + wy
        good = total == total
        work[_R, k] = r[k] if good else _ZERO
        work[_W, k] = w[k] if good else _ZERO
        work[_WX, k] = wx if good else _ZERO
        work[_WY, k] = wy if good else _ZERO
        work[_GOOD, k] = _ONE if good else _ZERO


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _fold(coefficients, yy, curve):
    """Fold the powers of Y in: polynomials in X alone are left for a row."""
    degree = coefficients.shape[1] - 1
    curve[:] = 0.0
    for i in range(degree + 1):
        for j in range(degree - i, -1, -1):
            curve[0, i] = curve[0, i] * yy + coefficients[0, i, j]
            curve[1, i] = curve[1, i] * yy + coefficients[1, i, j]


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _locate(shape, curve, start, step, n, work, index):
    """Place of a row in the image: the first of the pixels to interpolate from, and their weights (Lagrange)."""
    height, width = shape
    u0, u1, u2, u3 = curve[0, 0] + 2.0, curve[0, 1], curve[0, 2], curve[0, 3]
    v0, v1, v2, v3 = curve[1, 0] + 2.0, curve[1, 1], curve[1, 2], curve[1, 3]
    last_u, last_v = width - 3.0, height - 3.0
    for k in range(n):
        xx = start + k * step
        uu = ((u3 * xx + u2) * xx + u1) * xx + u0
        vv = ((v3 * xx + v2) * xx + v1) * xx + v0
        # Positions outside fall on the border.
        uu = uu if uu > 1.0 else 1.0
        vv = vv if vv > 1.0 else 1.0
        uu = uu if uu < last_u else last_u
        vv = vv if vv < last_v else last_v
        iu, iv = np.int32(uu), np.int32(vv)
        index[k] = (iv - np.int32(1)) * np.int32(width) + iu - np.int32(1)
        work[_WEIGHTS, k] = uu - iu
        work[_WEIGHTS + 4, k] = vv - iv
    for first in (_WEIGHTS, _WEIGHTS + 4):
        for k in range(n):
            f = work[first, k]
            low, high = f + _ONE, _TWO - f
            inner, outer = low * high * _HALF, f * (_ONE - f) * _SIXTH
            work[first, k] = -outer * high
            work[first + 1, k] = inner * (_ONE - f)
            work[first + 2, k] = inner * f
            work[first + 3, k] = -outer * low


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _interpolate(flat, width, n, work, index):
    """Interpolate the image from four rows of four pixels."""
    down = np.uint64(width)
    for k in range(n):
        a, b, c, d = work[_WEIGHTS, k], work[_WEIGHTS + 1, k], work[_WEIGHTS + 2, k], work[_WEIGHTS + 3, k]
        i = np.uint64(index[k])
        w = _ZERO
        for row in range(_WEIGHTS + 4, _WEIGHTS + 8):
            line = a * flat[i] + b * flat[i + np.uint64(1)] + c * flat[i + np.uint64(2)] + d * flat[i + np.uint64(3)]
            w += work[row, k] * line
            i += down
        work[_W, k] = w


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _add_scalars(work, n, scalars):
    """Add the sums that do not depend on the gradient; return the number of pixels that count."""
    count = sw = sr = sww = srr = swr = _ZERO
    for k in range(n):
        w, r = work[_W, k], work[_R, k]
        count += work[_GOOD, k]
        sw += w
        sr += r
        sww += w * w
        srr += r * r
        swr += w * r
    scalars[0] += count
    scalars[1] += sw
    scalars[2] += sr
    scalars[3] += sww
    scalars[4] += srr
    scalars[5] += swr
    return count


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _sum_gradients(work, power, n, p, row_pair, row_single):
    """Sums of the products with X^p."""
    xx = xy = yy = x1 = y1 = xw = yw = xr = yr = _ZERO
    for k in range(n):
        wx, wy, w, r = work[_WX, k], work[_WY, k], work[_W, k], work[_R, k]
        px, py = wx * power[k], wy * power[k]
        xx += px * wx
        xy += px * wy
        yy += py * wy
        x1 += px
        y1 += py
        xw += px * w
        yw += py * w
        xr += px * r
        yr += py * r
    row_pair[0, p], row_pair[1, p], row_pair[2, p] = xx, xy, yy
    row_single[0, 0, p], row_single[0, 1, p] = x1, y1
    row_single[1, 0, p], row_single[1, 1, p] = xw, yw
    row_single[2, 0, p], row_single[2, 1, p] = xr, yr


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _sum_pairs(work, power, n, p, row_pair):
    """Sums of the products of two gradients with X^p, which have more powers."""
    xx = xy = yy = _ZERO
    for k in range(n):
        wx, wy = work[_WX, k], work[_WY, k]
        px, py = wx * power[k], wy * power[k]
        xx += px * wx
        xy += px * wy
        yy += py * wy
    row_pair[0, p], row_pair[1, p], row_pair[2, p] = xx, xy, yy


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS, error_model="numpy")
def warped(image, shape, coefficients, origin, scale):
    """The image on the pixels of a reference of a shape, NaN where it cannot be interpolated; arguments as above."""
    ny, nx = shape
    flat = image.ravel()
    result = np.empty((ny, nx), dtype=np.float32)
    curve = np.zeros((2, 4))
    work = np.empty((_ROWS, _PIECE), dtype=np.float32)
    index = np.empty(_PIECE, dtype=np.uint32)
    for y in range(ny):
        _fold(coefficients, (y - origin[1]) / scale, curve)
        for x in range(0, nx, _PIECE):
            n = min(_PIECE, nx - x)
            _locate(image.shape, curve, (x - origin[0]) / scale, 1 / scale, n, work, index)
            _interpolate(flat, image.shape[1], n, work, index)
            for k in range(n):
                result[y, x + k] = work[_W, k]
    return result


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS, error_model="numpy")
def seen(valid, shape, coefficients, origin, scale):
    """Pixels of a reference that `warped` interpolates from valid pixels only (bool); arguments as above."""
    height, width = valid.shape[0] + 4, valid.shape[1] + 4
    # Whether the four by four pixels that begin at a pixel are all valid.
    whole = np.zeros((height, width), dtype=np.bool_)
    line = np.empty(width - 4, dtype=np.bool_)
    for y in range(valid.shape[0] - 3):
        for x in range(width - 4):
            line[x] = valid[y, x] & valid[y + 1, x] & valid[y + 2, x] & valid[y + 3, x]
        target = whole[y + 2]
        for x in range(width - 7):
            target[x + 2] = line[x] & line[x + 1] & line[x + 2] & line[x + 3]
    flat = whole.ravel()
    ny, nx = shape
    result = np.empty((ny, nx), dtype=np.bool_)
    curve = np.zeros((2, 4))
    work = np.empty((_ROWS, _PIECE), dtype=np.float32)
    index = np.empty(_PIECE, dtype=np.uint32)
    for y in range(ny):
        _fold(coefficients, (y - origin[1]) / scale, curve)
        for x in range(0, nx, _PIECE):
            n = min(_PIECE, nx - x)
            _locate((height, width), curve, (x - origin[0]) / scale, 1 / scale, n, work, index)
            for k in range(n):
                result[y, x + k] = flat[np.uint64(index[k])]
    return result


@numba.njit(cache=True, nogil=True, fastmath=_FLAGS, error_model="numpy")
def block_sums(reference, image, block):
    """
    Sums over blocks of a reference and a warped image, shape ((y - 1) // block + 1, (x - 1) // block + 1, N_SUMS).

    A pixel does not count at the edge or beside a NaN in one of the images, where there is no gradient.
    """
    ny, nx = reference.shape
    sums = np.zeros(((ny - 1) // block + 1, (nx - 1) // block + 1, N_SUMS))
    work = np.empty((7, block), dtype=np.float32)
    for y in range(1, ny - 1):
        for left in range(0, nx, block):
            # Without the first and the last column.
            first = max(left, 1)
            n = min(left + block, nx - 1) - first
            _add_sums(reference, image, y, first, n, work, sums[y // block, left // block])
    return sums


@numba.njit(nogil=True, fastmath=_FLAGS, inline="always")
def _add_sums(reference, image, y, first, n, work, total):
    """Add the sums of a piece of a row."""
    count = sr = sw = sww = srw = sx = sy = _ZERO
    xr = yr = xw = yw = xx = xy = yx = yy = _ZERO
    for k in range(n):
        j = first + k
        r, w = reference[y, j], image[y, j]
        rx = (reference[y, j + 1] - reference[y, j - 1]) * _HALF
        ry = (reference[y + 1, j] - reference[y - 1, j]) * _HALF
        wx = (image[y, j + 1] - image[y, j - 1]) * _HALF
        wy = (image[y + 1, j] - image[y - 1, j]) * _HALF
        every = r + w + rx + ry + wx + wy
        good = every == every
        work[0, k] = r if good else _ZERO
        work[1, k] = w if good else _ZERO
        work[2, k] = rx if good else _ZERO
        work[3, k] = ry if good else _ZERO
        work[4, k] = wx if good else _ZERO
        work[5, k] = wy if good else _ZERO
        work[6, k] = _ONE if good else _ZERO
    for k in range(n):
        r, w = work[0, k], work[1, k]
        count += work[6, k]
        sr += r
        sw += w
        sww += w * w
        srw += r * w
    for k in range(n):
        r, w, wx, wy = work[0, k], work[1, k], work[4, k], work[5, k]
        sx += wx
        sy += wy
        xr += wx * r
        yr += wy * r
        xw += wx * w
        yw += wy * w
    for k in range(n):
        rx, ry, wx, wy = work[2, k], work[3, k], work[4, k], work[5, k]
        xx += wx * rx
        xy += wx * ry
        yx += wy * rx
        yy += wy * ry
    values = (count, sr, sw, sww, srw, sx, sy, xr, yr, xw, yw, xx, xy, yx, yy)
    for m in range(N_SUMS):
        total[m] += values[m]
