"""Compiled sums of the squares of the weights that `reproject` gives the pixels of an image."""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def overlap_squares(x, y, rows, columns):
    """
    Sum of the squares of the parts that the pixels of an image have in each pixel of another grid.

    ``x`` and ``y`` are the positions of the corners of the grid's pixels on the image, shape (n + 1, m + 1).
    The sides of a pixel are straight on the image.
    """
    result = np.full((x.shape[0] - 1, x.shape[1] - 1), np.nan)
    # A polygon, in a band of a row, and in a pixel: each side that cuts it adds at most one corner.
    polygon, band, part, spare = np.empty((2, 12)), np.empty((2, 12)), np.empty((2, 12)), np.empty((2, 12))
    for i in range(result.shape[0]):
        for j in range(result.shape[1]):
            for corner, (k, m) in enumerate(((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j))):
                polygon[0, corner], polygon[1, corner] = x[k, m], y[k, m]
            if not np.isfinite(polygon[:, :4]).all():
                continue
            total, squares = 0.0, 0.0
            first, last = _covered(polygon[1], 4, rows)
            for row in range(first, last):
                n = _clipped(polygon, 4, spare, 1, row - 0.5, 1.0)
                n = _clipped(spare, n, band, 1, row + 0.5, -1.0)
                left, right = _covered(band[0], n, columns)
                for column in range(left, right):
                    k = _clipped(band, n, spare, 0, column - 0.5, 1.0)
                    k = _clipped(spare, k, part, 0, column + 0.5, -1.0)
                    area = _area(part, k)
                    total += area
                    squares += area * area
            if total > 0:
                result[i, j] = squares / (total * total)
    return result


@numba.njit(cache=True, nogil=True)
def _covered(values, n, size):
    """First pixel of an axis that is covered by n corners, and the pixel after the last."""
    if n == 0:
        return 0, 0
    low, high = values[:n].min(), values[:n].max()
    return int(max(np.floor(low + 0.5), 0)), int(min(np.floor(high + 0.5) + 1, size))


@numba.njit(cache=True, nogil=True)
def _clipped(source, n, target, axis, level, sign):
    """Clip a polygon of n corners at a level into another polygon, and return the number of its corners."""
    count = 0
    for i in range(n):
        k = (i + 1) % n
        here, there = sign * (source[axis, i] - level), sign * (source[axis, k] - level)
        if here >= 0:
            target[:, count] = source[:, i]
            count += 1
        if (here >= 0) != (there >= 0):
            target[:, count] = source[:, i] + (source[:, k] - source[:, i]) * (here / (here - there))
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _area(polygon, n):
    twice = 0.0
    for i in range(n):
        k = (i + 1) % n
        twice += polygon[0, i] * polygon[1, k] - polygon[0, k] * polygon[1, i]
    return abs(twice) / 2


@numba.njit(cache=True, nogil=True)
def kernel_squares(x, y, jacobian, rows, columns, gaussian, width, region, filled, nearest, cyclic_x, cyclic_y):
    """
    Sum of the squares of the weights of DeForest (2004), as in `reproject.reproject_adaptive`.

    The kernel, a Gaussian or the product of two Hann windows, is laid about the position (x, y) on the image. The
    Jacobian, shape (n, m, 2, 2), stretches it, but nowhere to a smaller width than on a grid as fine as the image.
    Where the surroundings are ``filled`` they have weight too, and where the ``nearest`` pixel stands for them it has
    theirs.
    """
    result = np.full(x.shape, np.nan)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            m = jacobian[i, j]
            u, v = x[i, j], y[i, j]
            if not (np.isfinite(m).all() and np.isfinite(u) and np.isfinite(v)):
                continue
            # Singular values and rotations in closed form.
            e, f = (m[0, 0] + m[1, 1]) / 2, (m[0, 0] - m[1, 1]) / 2
            g, h = (m[1, 0] + m[0, 1]) / 2, (m[1, 0] - m[0, 1]) / 2
            q, r = np.hypot(e, h), np.hypot(f, g)
            first, second = max(1.0, q + r), max(1.0, q - r)
            a, b = np.arctan2(g, f), np.arctan2(h, e)
            phi, theta = (b + a) / 2, (b - a) / 2
            cp, sp, ct, st = np.cos(phi), np.sin(phi), np.cos(theta), np.sin(theta)
            if gaussian:
                wide = high = region / 2 * max(first, second)
            else:
                wide = abs(cp * first * ct - sp * second * st) + abs(-cp * first * st - sp * second * ct)
                high = abs(sp * first * ct + cp * second * st) + abs(-sp * first * st + cp * second * ct)
            total, squares = 0.0, 0.0
            top, bottom = int(np.ceil(v - high)), int(np.floor(v + high)) + 1
            left, right = int(np.ceil(u - wide)), int(np.floor(u + wide)) + 1
            beyond = nearest and (top < 0 or left < 0 or bottom > rows or right > columns)
            above, before = _nearest(top, rows, cyclic_y), _nearest(left, columns, cyclic_x)
            shared = np.zeros((bottom - top, right - left) if beyond else (0, 0))
            for row in range(top, bottom):
                for column in range(left, right):
                    inside = (cyclic_y or 0 <= row < rows) and (cyclic_x or 0 <= column < columns)
                    if not (inside or filled or nearest):
                        continue
                    du, dv = column - u, row - v
                    along, across = (cp * du + sp * dv) / first, (-sp * du + cp * dv) / second
                    s, t = ct * along + st * across, -st * along + ct * across
                    if gaussian:
                        weight = np.exp(-(s * s + t * t) / (width * width) * 2)
                    elif abs(s) < 1 and abs(t) < 1:
                        weight = (np.cos(s * np.pi) + 1) * (np.cos(t * np.pi) + 1)
                    else:
                        weight = 0.0
                    total += weight
                    if beyond:
                        place = _nearest(row, rows, cyclic_y) - above, _nearest(column, columns, cyclic_x) - before
                        shared[place] += weight
                    elif inside:
                        squares += weight * weight
            if beyond:
                squares = (shared * shared).sum()
            if total * total > 0:
                result[i, j] = squares / (total * total)
            elif total > 0:
                # So far out in the tails one pixel has nearly all of the weight.
                result[i, j] = 1.0
    return result


@numba.njit(cache=True, nogil=True)
def _nearest(place, size, cyclic):
    return place if cyclic else min(max(place, 0), size - 1)
