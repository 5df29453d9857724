"""Splines through frames with invalid pixels, and their effect on noise."""

import functools
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates, spline_filter

# An output pixel is valid if at least this much of its bilinear weight falls on valid pixels.
MIN_WEIGHT = 0.5
# This much counts as all of the weight.
WHOLE = 0.999
# Fractions of a pixel in tables of weights, and pixels on either side that have weight.
_STEPS, _HALF = 200, 12
# Distance in pixels beyond which the weights of two interpolated values have nothing in common.
SHARED_REACH = 6
_ORDERS = {"nearest-neighbor": 0, "bilinear": 1, "biquadratic": 2, "bicubic": 3}


def parse_order(order):
    parsed = _ORDERS.get(order, order) if isinstance(order, str) else order
    if isinstance(parsed, str) or parsed not in _ORDERS.values():
        msg = f"got order {order!r}, expected 0 to 3 or one of {', '.join(_ORDERS)}"
        raise ValueError(msg)
    return int(parsed)


class Spline(NamedTuple):
    """A prepared frame: coefficients of ``pad`` more pixels on each side, or None if nothing is valid."""

    coefficients: np.ndarray | None
    pad: int
    order: int
    good: np.ndarray
    dtype: np.dtype


def prepare(frame, order, valid=None):
    dtype = result_type(frame)
    frame = frame.astype(dtype, copy=False)
    good = np.isfinite(frame) if valid is None else np.isfinite(frame) & valid
    pad = 12 if order > 1 else 1
    if not good.any():
        return Spline(None, pad, order, good, dtype)
    if good.all():
        good = np.empty((0, 0), dtype=bool)
    else:
        frame = _fill(frame, good)
    # As in scipy: the edge is continued so far that places beyond do not matter.
    padded = np.pad(frame, pad, mode="edge")
    coefficients = spline_filter(padded, order, output=float, mode="nearest") if order > 1 else padded.astype(float)
    return Spline(coefficients, pad, order, good.astype(np.float32), dtype)


def evaluate(spline, u, v, *, least=MIN_WEIGHT):
    """Values and footprint: where at least this much of the bilinear weight falls on valid pixels."""
    from esis_ndcube.utils import _spline_kernel

    shape, (u, v) = np.broadcast(u, v).shape, _flat(u, v)
    array, footprint = np.full(u.size, np.nan, dtype=spline.dtype), np.zeros(u.size, dtype=bool)
    if spline.coefficients is not None:
        _spline_kernel.evaluate(
            spline.coefficients, spline.pad, spline.order, spline.good, least, u, v, array, footprint
        )
    return array.reshape(shape), footprint.reshape(shape)


def _flat(u, v):
    return (np.ascontiguousarray(part, dtype=float).ravel() for part in np.broadcast_arrays(u, v))


def result_type(frame):
    return np.dtype(np.float32 if frame.dtype.kind == "f" and frame.dtype.itemsize <= 4 else float)


class Variance(NamedTuple):
    """A frame's prepared variance, or None if it is not known, and `variance_factors`."""

    variance: np.ndarray | None
    table: np.ndarray


def prepare_variance(sigma, order, correlation=None):
    variance = np.square(sigma, dtype=np.float32)
    good = np.isfinite(variance)
    if not good.all():
        variance = _fill(variance, good) if good.any() else None
    return Variance(variance, variance_factors(order, correlation))


def deviations(variance, u, v):
    from esis_ndcube.utils import _spline_kernel

    shape, (u, v) = np.broadcast(u, v).shape, _flat(u, v)
    result = np.full(u.size, np.nan, dtype=np.float32)
    if variance.variance is not None:
        _spline_kernel.deviations(variance.variance, variance.table, u, v, result)
    return result.reshape(shape)


def nearest(image, u, v):
    """Value of the nearest pixel, 0 where a coordinate is not finite."""
    from esis_ndcube.utils import _spline_kernel

    shape, (u, v) = np.broadcast(u, v).shape, _flat(u, v)
    result = np.zeros(u.size, dtype=image.dtype)
    _spline_kernel.nearest(image, u, v, result)
    return result.reshape(shape)


def _fill(image, good):
    """Put the nearest good pixel in place of each bad one, which a spline would spread."""
    return image[tuple(distance_transform_edt(~good, return_distances=False, return_indices=True))]


def variance_factors(order, correlation=None):
    """
    Variance of an interpolated value over that of the pixels, at fractions 0, 1/_STEPS, ..., 1 of a pixel in v and u.

    The ratio is the sum of the products of the weights of all pairs of pixels and the correlation of their noise.
    """
    weights = _cardinal_weights(order)
    correlation = np.ones((1, 1)) if correlation is None else correlation
    rows, columns = (_lagged(weights, n // 2) for n in correlation.shape)
    return rows @ correlation @ columns.T


def _cardinal_weights(order):
    """Weights of the pixels -_HALF to _HALF at fractions 0, 1/_STEPS, ..., 1 of a pixel."""
    unit = np.zeros(4 * _HALF + 1)
    unit[2 * _HALF] = 1.0
    spline = spline_filter(unit, order=order) if order > 1 else unit
    fractions = np.linspace(0, 1, _STEPS + 1)
    # The weight of pixel i at position x is the cardinal spline at x - i.
    positions = 2 * _HALF + fractions[:, None] + np.arange(-_HALF, _HALF + 1)
    return map_coordinates(spline, [positions], order=order, prefilter=False, mode="constant")


def _lagged(weights, reach):
    """Sums of the products of the weights of pixels that are -reach to reach apart."""
    size = weights.shape[1]
    padded = np.pad(weights, [(0, 0), (reach, reach)])
    return np.stack([(weights * padded[:, lag : lag + size]).sum(1) for lag in range(2 * reach + 1)], axis=1)


def shared_weights(order):
    """A function: integral of the product of the interpolation weights of two values that are x and y pixels apart."""
    # The weights along a line through all pixels; both ends of the fractions are the same phase.
    line = _cardinal_weights(order)[:-1].T.ravel()
    products = np.correlate(line, line, "full") / _STEPS
    lags = np.arange(1 - line.size, line.size) / _STEPS
    along = functools.partial(np.interp, xp=lags, fp=products, left=0, right=0)
    return lambda x, y: along(x) * along(y)


def response(frequency, order):
    """
    Fourier transform of the interpolation weights at frequencies in cycles per pixel.

    The transform of a B-spline is sinc^(n+1). The filter that makes the spline go through the data divides by that of
    its samples.
    """
    samples = {2: (3 + np.cos(2 * np.pi * frequency)) / 4, 3: (2 + np.cos(2 * np.pi * frequency)) / 3}
    return np.sinc(frequency) ** (order + 1) / samples.get(order, 1.0)
