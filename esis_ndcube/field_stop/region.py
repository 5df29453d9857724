"""Where a spectral line's field stop lies, where other lines overlap it, and where there is light."""

import numpy as np
from scipy.ndimage import binary_dilation

from esis_ndcube.utils.arrays import plain_arrays

__all__ = ["distance_inside", "line_region", "lit_region", "overlapping_lines"]

# Something stands in the light where blocks of this many pixels have less than this fraction of the brightness of
# bright blocks. The darkest blocks of the quiet Sun in the 2019 flight have 0.1 of it, and 0.05 in the last exposure.
_BLOCK = 16
_DARK = 0.04
_BRIGHT = 95


@plain_arrays("x", "y")
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
        The smallest distance from the lines through the sides; NaN if a coordinate is NaN.

    Examples
    --------
    >>> from esis_ndcube.field_stop import distance_inside
    >>> distance_inside([(0, 0), (4, 0), (4, 4), (0, 4)], [2, 1, 5], [2, 2, 2])
    array([ 2.,  1., -1.])
    """
    from esis_ndcube.field_stop._polygon import smallest_distance

    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    distance = np.empty(x.shape)
    smallest_distance(side_lines(vertices), x.ravel(), y.ravel(), distance.reshape(-1))
    return distance


def side_lines(vertices):
    """Coefficients (a, b, c) of the distance a x + b y + c from each side."""
    vertices = np.asarray(vertices, dtype=float)
    along = np.roll(vertices, -1, axis=0) - vertices
    dx, dy = (along / np.hypot(*along.T)[:, None]).T
    return np.column_stack([-dy, dx, dy * vertices[:, 0] - dx * vertices[:, 1]])


@plain_arrays("x", "y")
def line_region(flight, channel, line, x, y, *, margin=0.0, shift=(0.0, 0.0)):
    """
    The detector positions that show a line: inside of its field stop and in its columns.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    channel : `int`
        Channel number.
    line : `str` or `~esis_ndcube.flight.Line`
        The line; a contaminant, which has no columns of its own, is given as `~esis_ndcube.flight.Line`.
    x, y : array-like
        Detector pixels of one shape, or two that broadcast.
    margin : `float`, optional
        Distance in pixels to keep from the sides of the field stop.
    shift : `tuple` of `float`, optional
        Shift (u, v) of the field stop from the flight's polygon in this exposure, as
        `~esis_ndcube.field_stop.find_edges` finds it. All lines have the same shift, and the columns stay.

    Returns
    -------
    `numpy.ndarray`
        Boolean.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.field_stop import line_region
    >>> line_region(ESIS_1, 2, "O V", [1540, 1000], [500, 500])
    array([ True, False])
    """
    from esis_ndcube.field_stop._polygon import inside as find_inside

    line = flight.line(line) if isinstance(line, str) else line
    sides = side_lines(flight.field_stop(channel, line) + np.asarray(shift, dtype=float))
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    inside = np.empty(x.shape, dtype=bool)
    find_inside(sides, float(margin), x.ravel(), y.ravel(), inside.reshape(-1))
    if line.columns is not None:
        first, stop = line.columns
        inside &= (x >= first - 0.5 + margin) & (x <= stop - 0.5 - margin)
    return inside


@plain_arrays("image", "valid")
def lit_region(image, valid):
    """
    The pixels that light reaches.

    An obstacle in the beam, or a broken part of the camera, leaves dark areas. Their edges look sharper to a
    registration filter than anything on the Sun.
    An area counts as dark if its mean, in blocks of 16 pixels, is below 0.04 of the 95th percentile of all blocks.
    Blocks beside dark blocks may hold the edge, and count as dark too.
    Sky far off the limb is dark too.

    Parameters
    ----------
    image : `numpy.ndarray`
        Frame without bias, dark signal and stray light, shape (y, x).
    valid : `numpy.ndarray`
        Valid pixels, of that shape; others are not looked at.

    Returns
    -------
    `numpy.ndarray`
        True where there is light, and where no pixels are valid, of that shape.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.field_stop import lit_region
    >>> image = np.full((64, 96), 100.0)
    >>> image[:, 64:] = 0.5
    >>> lit_region(image, np.ones(image.shape, dtype=bool)).any(axis=0).nonzero()[0].max()
    np.int64(47)
    """
    valid = valid.astype(bool) & np.isfinite(image)
    count = _block_sums(valid.astype(np.int32))
    known = count >= _BLOCK**2 // 4
    if not known.any():
        return np.ones(image.shape, dtype=bool)
    level = _block_sums(np.where(valid, image, 0)) / np.maximum(count, 1)
    dark = known & (level < _DARK * np.percentile(level[known], _BRIGHT))
    if not dark.any():
        return np.ones(image.shape, dtype=bool)
    dark = binary_dilation(dark, structure=np.ones((3, 3)))
    rows, columns = image.shape
    return ~dark.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[:rows, :columns]


def _block_sums(array):
    for axis, size in enumerate(array.shape):
        array = np.add.reduceat(array, np.arange(0, size, _BLOCK), axis=axis)
    return array


def overlapping_lines(flight, line):
    """
    The other lines whose field stops overlap that of a line on the detector.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `str` or `~esis_ndcube.flight.Line`
        The line.

    Returns
    -------
    `list` of `~esis_ndcube.flight.Line`
        Brightest first.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.field_stop import overlapping_lines
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
