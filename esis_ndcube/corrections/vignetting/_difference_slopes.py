"""The published fit: slopes of the column means of differences, reduced to a few numbers per image."""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import least_squares

import astropy.units as u

from esis_ndcube.corrections.correction import image_positions
from esis_ndcube.corrections.vignetting._images import clean_pixels, second_lines
from esis_ndcube.corrections.vignetting.model import stop_position

# Range of slopes that is searched, and number of Chebyshev nodes in it. V has no zero in the field stop for these
# slopes, and the interpolation error is below 1e-7 of the values.
_RANGE = -0.5, 1.0
_NODES = 16
_STARTS = 0.1, 0.4, 0.7

# Standard error of a slope beyond the scatter of the exposures, without and per brightness of second lines: measured on
# 20 simulated flights (benchmarks/vignetting.py).
_SYSTEMATIC = 0.007, 1.25


class SlopesFit(NamedTuple):
    """Slopes in the order of the channels, with their errors."""

    slopes: np.ndarray
    covariance: np.ndarray
    systematic: float
    contamination: dict


def fit_difference_slopes(cube, alignments, present):
    """The slopes that minimize the published objective (`SlopesFit`)."""
    reduced = reduce_images(cube, alignments, present)
    slopes = solve(reduced)
    edge = 1e-3
    if (slopes < _RANGE[0] + edge).any() or (slopes > _RANGE[1] - edge).any():
        msg = (
            f"the slopes {slopes.round(3).tolist()} are at the limit of the search, {_RANGE}: "
            "the images do not determine them"
        )
        raise ValueError(msg)
    # The second lines are not fitted: their brightness is the value that the flight states.
    line = cube.flight.line(cube.line)
    brightness = sum(other.intensity for other in second_lines(cube, alignments)) / line.intensity
    systematic = float(np.hypot(_SYSTEMATIC[0], _SYSTEMATIC[1] * brightness))
    return SlopesFit(slopes, _covariance(reduced, slopes), systematic, {})


class Reduced(NamedTuple):
    """
    The numbers that the objective needs of the images.

    Attributes
    ----------
    pairs : `numpy.ndarray`
        Channel indices of each pair, shape (pair, 2).
    coefficients : `numpy.ndarray`
        Chebyshev coefficients, in the slope of the channel, of each image's part of the slope of its pair's difference,
        shape (node, exposure, pair, 2); NaN for a missing image.
    """

    pairs: np.ndarray
    coefficients: np.ndarray


def reduce_images(cube, alignments, present):
    r"""
    Reduce the images to the numbers of the objective (`Reduced`).

    The slope of a straight line is a weighted sum of the column means. So the slope of a difference of normalized
    images is :math:`g_a(m_a) - g_b(m_b)`, with :math:`g(m) = \sum w I / (1 + m f) / \overline{I / (1 + m f)}`. This is
    a smooth function of one slope for each image and pair, and a few Chebyshev nodes describe it.
    """
    flight, line = cube.flight, cube.flight.line(cube.line)
    count = cube.data.shape[1]
    pairs = np.array(list(itertools.combinations(range(count), 2)))
    columns = window_columns(cube)
    coefficients = np.full((_NODES, cube.data.shape[0], len(pairs), 2), np.nan)
    nodes = _slope(chebyshev.chebpts1(_NODES))
    wcs = cube.wcs.celestial
    for time in np.flatnonzero(present.any(axis=1)):
        here = np.flatnonzero(present[time])
        masks = {c: clean_pixels(cube, time, c) for c in here}
        common = np.logical_and.reduce(list(masks.values()))
        if not common.any():
            msg = (
                f"the channels of frame {np.atleast_1d(cube.frame_number)[time]} have no clean region in common: "
                "the method needs one to normalize the images"
            )
            raise ValueError(msg)
        weights = {
            number: _line_weights(masks[a] & masks[b], columns, cube.frame_number[time])
            for number, (a, b) in enumerate(pairs)
            if present[time, a] and present[time, b]
        }
        for c in here:
            image = np.asarray(cube.data[time, c])
            position, _ = image_positions(alignments[time, c], wcs, image.shape)
            place = stop_position(flight, alignments[time, c].channel, line, position)
            own = [number for number in weights if c in pairs[number]]
            use = masks[c]
            values, place = image[use].astype(float), place[use]
            sums = np.stack([common[use] / common.sum(), *(weights[number][use] for number in own)]) * values
            # One row for each node. The nodes come one by one, so that the memory does not grow with their number.
            table = np.array([sums @ (1 / (1 + slope * place)) for slope in nodes])
            for number, parts in zip(own, (table[:, 1:] / table[:, :1]).T, strict=True):
                side = int(pairs[number][1] == c)
                coefficients[:, time, number, side] = _interpolate(parts)
    return Reduced(pairs, coefficients)


def window_columns(cube):
    """The columns of the flight's window for the fit of lines; the window leaves out a margin of the flight's grid."""
    flight, wcs = cube.flight, cube.wcs.celestial
    margin = round((flight.vignetting_margin / (flight.grid_cdelt[0] * u.arcsec)).to_value(u.one))
    # Columns are counted on the flight's own grid, so that a part of it has the same window.
    shift = round(flight.grid_crpix[0] - wcs.wcs.crpix[0])
    first, stop = margin - shift, flight.grid_shape[1] - margin - shift
    columns = slice(max(0, first), min(cube.data.shape[-1], stop))
    if columns.stop - columns.start < 2:
        msg = f"got a cube without columns {first} to {stop} of its grid, in which lines are fitted"
        raise ValueError(msg)
    return columns


def _line_weights(mask, columns, frame_number):
    """Part of each pixel in the slope of the straight line through the column means; 0 outside of the window."""
    weights = np.zeros(mask.shape)
    counts = mask[:, columns].sum(axis=0)
    if (counts > 0).sum() < 2:
        msg = f"two channels of frame {frame_number} have no clean region in common: a line through it has no slope"
        raise ValueError(msg)
    weights[:, columns] = mask[:, columns] * slope_weights(counts)
    return weights


def slope_weights(counts):
    """
    Weights of column sums in the slope of the straight line through the column means.

    The slope is per half of the window, as `numpy.polynomial.Polynomial.fit` gives it: the rise of the line from the
    window's middle to its edge. Columns without pixels are left out.
    """
    filled = counts > 0
    x = np.where(filled, np.linspace(-1, 1, len(counts)), 0)
    x = np.where(filled, x - x.sum() / filled.sum(), 0)
    return np.divide(x, counts * np.sum(x**2), out=np.zeros(len(counts)), where=filled)


def _slope(x):
    """The slope at a Chebyshev coordinate of -1 to 1."""
    low, high = _RANGE
    return (low + high) / 2 + (high - low) / 2 * np.asarray(x)


def _interpolate(values):
    """Chebyshev coefficients of the polynomial through the values at the nodes, along axis 0."""
    return np.linalg.solve(chebyshev.chebvander(chebyshev.chebpts1(_NODES), _NODES - 1), values)


def _residuals(reduced, slopes):
    """Slopes of the differences, and their derivatives by the slopes of the vignetting."""
    low, high = _RANGE
    x = (2 * np.asarray(slopes) - low - high) / (high - low)
    basis = chebyshev.chebvander(x, _NODES - 1)
    gradient = np.array([chebyshev.chebval(x, chebyshev.chebder(row)) for row in np.eye(_NODES)]).T * 2 / (high - low)
    values, jacobian = [], []
    for number, (a, b) in enumerate(reduced.pairs):
        parts = reduced.coefficients[:, :, number]
        values.append(basis[a] @ parts[..., 0] - basis[b] @ parts[..., 1])
        rows = np.zeros((parts.shape[1], len(slopes)))
        rows[:, a], rows[:, b] = gradient[a] @ parts[..., 0], -gradient[b] @ parts[..., 1]
        jacobian.append(rows)
    values, jacobian = np.stack(values, axis=1), np.stack(jacobian, axis=1)
    return values, jacobian


def objective(reduced, slopes):
    """The published objective, root of the summed squares of the slopes over their number."""
    values, _ = _residuals(reduced, slopes)
    known = np.isfinite(values)
    return float(np.sqrt(np.sum(values[known] ** 2)) / known.sum())


def solve(reduced):
    """The slopes that minimize the objective, the best of several starts."""
    known = np.isfinite(reduced.coefficients).all(axis=(0, 3))
    channels = int(reduced.pairs.max()) + 1
    if not all(known[:, (reduced.pairs == c).any(axis=1)].any() for c in range(channels)):
        msg = "a channel has no exposure in common with another channel: leave it out of the cube"
        raise ValueError(msg)

    def values(slopes):
        return _residuals(reduced, slopes)[0][known]

    def jacobian(slopes):
        return _residuals(reduced, slopes)[1][known]

    fits = [
        least_squares(values, np.full(channels, start), jac=jacobian, bounds=_RANGE, xtol=1e-10, ftol=1e-12)
        for start in _STARTS
    ]
    return min(fits, key=lambda fit: fit.cost).x


def _covariance(reduced, slopes):
    """Covariance by leaving out one exposure at a time, from one Newton step each; NaN for a single exposure."""
    values, jacobian = _residuals(reduced, slopes)
    known = np.isfinite(values)
    jacobian, values = np.where(known[..., None], jacobian, 0), np.where(known, values, 0)
    used = np.flatnonzero(known.any(axis=1))
    normal = np.einsum("tpi,tpj->tij", jacobian, jacobian)
    gradient = np.einsum("tpi,tp->ti", jacobian, values)
    if len(used) < 2:
        return np.full((len(slopes),) * 2, np.nan)
    rest = [np.delete(used, number) for number in range(len(used))]
    steps = np.array([-np.linalg.lstsq(normal[r].sum(0), gradient[r].sum(0), rcond=None)[0] for r in rest])
    steps -= steps.mean(axis=0)
    return steps.T @ steps * (len(used) - 1) / len(used)
