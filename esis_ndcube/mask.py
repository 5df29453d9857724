"""Where on the detector a spectral line's field stop lies, and where other lines overlap it."""

import numpy as np

__all__ = ["distance_inside", "line_region", "overlapping_lines"]


def distance_inside(vertices, x, y):
    """
    Distance from the sides of a convex polygon, positive inside.

    Parameters
    ----------
    vertices : array-like
        Shape (n, 2), counter-clockwise.
    x, y : array-like
        Coordinates of one shape, or two that broadcast.

    Returns
    -------
    `numpy.ndarray`
        The smallest distance from the lines through the sides; NaN where a coordinate is.

    Examples
    --------
    >>> from esis_ndcube.mask import distance_inside
    >>> distance_inside([(0, 0), (4, 0), (4, 4), (0, 4)], [2, 1, 5], [2, 2, 2])
    array([ 2.,  1., -1.])
    """
    from esis_ndcube._polygon import smallest_distance

    vertices = np.asarray(vertices, dtype=float)
    along = np.roll(vertices, -1, axis=0) - vertices
    dx, dy = (along / np.hypot(*along.T)[:, None]).T
    sides = np.column_stack([-dy, dx, dy * vertices[:, 0] - dx * vertices[:, 1]])
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    distance = np.empty(x.shape)
    smallest_distance(sides, x.ravel(), y.ravel(), distance.reshape(-1))
    return distance


def line_region(flight, channel, line, x, y, *, margin=0.0):
    """
    Which detector positions show a line: inside its field stop and in its columns.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    channel : `int`
        Channel number.
    line : `str` or `~esis_ndcube.instrument.Line`
        The line; contaminants, which have no columns of their own, as `~esis_ndcube.instrument.Line`.
    x, y : array-like
        Detector pixels of one shape, or two that broadcast.
    margin : `float`, optional
        Distance in pixels to keep from the sides of the field stop.

    Returns
    -------
    `numpy.ndarray`
        Boolean.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.mask import line_region
    >>> line_region(ESIS_1, 2, "O V", [1540, 1000], [500, 500])
    array([ True, False])
    """
    line = flight.line(line) if isinstance(line, str) else line
    inside = distance_inside(flight.field_stop(channel, line), x, y) >= margin
    if line.columns is not None:
        first, stop = line.columns
        inside &= (np.asarray(x) >= first - 0.5 + margin) & (np.asarray(x) <= stop - 0.5 - margin)
    return inside


def overlapping_lines(flight, line):
    """
    The other lines whose field stops overlap that of a line on the detector.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `str` or `~esis_ndcube.instrument.Line`
        The line.

    Returns
    -------
    `list` of `~esis_ndcube.instrument.Line`
        Brightest first.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.mask import overlapping_lines
    >>> [line.name for line in overlapping_lines(ESIS_1, "O V")][:2]
    ['Mg X 609', 'Mg X 624']
    """
    line = flight.line(line) if isinstance(line, str) else line
    others = [other for other in flight.lines if other.name != line.name]
    near = [other for other in others if any(_meet(flight, channel.number, line, other) for channel in flight.channels)]
    return sorted(near, key=lambda other: -other.intensity)


def _meet(flight, channel, first, second):
    """Whether the images of the field stop in two lines, which lie side by side, overlap."""
    (a, b), (c, d) = ((stop.min(), stop.max()) for stop in _columns(flight, channel, first, second))
    return a < d and c < b


def _columns(flight, channel, *lines):
    return (flight.field_stop(channel, line)[:, 0] for line in lines)
