"""Compiled evaluation of splines at scattered positions, as in `scipy.ndimage.map_coordinates`."""

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _weights(position, order, weights):
    """Weights of a B-spline at a position: index of the first of its ``order + 1`` coefficients."""
    if order == 0:
        weights[0] = 1.0
        return math.floor(position + 0.5)
    if order == 2:
        first = math.floor(position + 0.5)
        t = position - first
        weights[0] = 0.5 * (0.5 - t) * (0.5 - t)
        weights[1] = 0.75 - t * t
        weights[2] = 0.5 * (0.5 + t) * (0.5 + t)
        return first - 1
    first = math.floor(position)
    t = position - first
    s = 1.0 - t
    if order == 1:
        weights[0] = s
        weights[1] = t
        return first
    weights[0] = s * s * s / 6.0
    weights[1] = (t * t * (t - 2.0) * 3.0 + 4.0) / 6.0
    weights[2] = (s * s * (s - 2.0) * 3.0 + 4.0) / 6.0
    weights[3] = t * t * t / 6.0
    return first - 1


@numba.njit(cache=True, nogil=True)
def _bilinear(image, u, v):
    """Bilinear interpolation, with the edge continued."""
    rows, columns = image.shape
    u = min(max(u, 0.0), columns - 1.0)
    v = min(max(v, 0.0), rows - 1.0)
    i, j = int(u), int(v)
    right, up = min(i + 1, columns - 1), min(j + 1, rows - 1)
    fu, fv = u - i, v - j
    low = (1.0 - fu) * image[j, i] + fu * image[j, right]
    high = (1.0 - fu) * image[up, i] + fu * image[up, right]
    return (1.0 - fv) * low + fv * high


@numba.njit(cache=True, nogil=True)
def evaluate(coefficients, pad, order, good, least, u, v, array, footprint):
    """
    Evaluate a spline where the detector is valid.

    ``coefficients`` belong to a frame with ``pad`` more pixels on each side. ``good`` has the shape of the frame, or is
    empty if all pixels are valid. ``u``, ``v``, ``array`` and ``footprint`` are flat, and the last two are filled. They
    are NaN and False where less than ``least`` of the bilinear weight is on good pixels.
    """
    rows = coefficients.shape[0] - 2 * pad
    columns = coefficients.shape[1] - 2 * pad
    wu, wv = np.empty(4), np.empty(4)
    for k in range(u.size):
        array[k] = np.nan
        footprint[k] = False
        # The footprint ends at the outer edges of the pixels, as in reproject. NaN fails too.
        if not (u[k] >= -0.5 and u[k] <= columns - 0.5 and v[k] >= -0.5 and v[k] <= rows - 0.5):
            continue
        if good.size and _bilinear(good, u[k], v[k]) < least:
            continue
        i = _weights(u[k] + pad, order, wu)
        j = _weights(v[k] + pad, order, wv)
        total = 0.0
        if order == 3:
            # The usual case with loops of fixed length, which are twice as fast.
            for b in range(4):
                row = 0.0
                for a in range(4):
                    row += wu[a] * coefficients[j + b, i + a]
                total += wv[b] * row
        else:
            for b in range(order + 1):
                row = 0.0
                for a in range(order + 1):
                    row += wu[a] * coefficients[j + b, i + a]
                total += wv[b] * row
        array[k] = total
        footprint[k] = True


@numba.njit(cache=True, nogil=True)
def deviations(variance, table, u, v, result):
    """
    Standard deviation, from the variance of the pixels and the factors of the interpolation.

    ``table`` holds the factors at fractions 0 to 1 of a pixel in v and u, both included; ``u``, ``v`` and ``result``
    are flat.
    """
    steps = table.shape[0] - 1
    for k in range(u.size):
        if not (math.isfinite(u[k]) and math.isfinite(v[k])):
            result[k] = np.nan
            continue
        i = int((u[k] - math.floor(u[k])) * steps + 0.5)
        j = int((v[k] - math.floor(v[k])) * steps + 0.5)
        result[k] = math.sqrt(max(_bilinear(variance, u[k], v[k]) * table[j, i], 0.0))


@numba.njit(cache=True, nogil=True)
def nearest(image, u, v, result):
    """
    Value of the nearest pixel, with the edge continued.

    ``u``, ``v`` and ``result`` are flat; nothing is written where a coordinate is not finite.
    """
    rows, columns = image.shape
    for k in range(u.size):
        if math.isfinite(u[k]) and math.isfinite(v[k]):
            i = int(min(max(np.rint(u[k]), 0.0), columns - 1.0))
            j = int(min(max(np.rint(v[k]), 0.0), rows - 1.0))
            result[k] = image[j, i]
