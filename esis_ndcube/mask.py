"""Where a spectral line's field stop lies, where other lines overlap it, and what is clean in all images."""

import numpy as np
from scipy.ndimage import binary_dilation

from esis_ndcube._arrays import plain_arrays
from esis_ndcube._checks import check_cube
from esis_ndcube.flags import Flag
from esis_ndcube.instrument import line_key

__all__ = ["clean_region", "distance_inside", "line_region", "lit_region", "overlapping_lines"]

# Something stands in the light where blocks of this many pixels have less than this fraction of what bright blocks
# have. The darkest blocks of the quiet Sun in the 2019 flight have 0.1 of it, in the last exposure 0.05.
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
        The smallest distance from the lines through the sides; NaN where a coordinate is.

    Examples
    --------
    >>> from esis_ndcube.mask import distance_inside
    >>> distance_inside([(0, 0), (4, 0), (4, 4), (0, 4)], [2, 1, 5], [2, 2, 2])
    array([ 2.,  1., -1.])
    """
    from esis_ndcube._polygon import smallest_distance

    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    distance = np.empty(x.shape)
    smallest_distance(_sides(vertices), x.ravel(), y.ravel(), distance.reshape(-1))
    return distance


def _sides(vertices):
    """Coefficients (a, b, c) of the distance a x + b y + c from each side."""
    vertices = np.asarray(vertices, dtype=float)
    along = np.roll(vertices, -1, axis=0) - vertices
    dx, dy = (along / np.hypot(*along.T)[:, None]).T
    return np.column_stack([-dy, dx, dy * vertices[:, 0] - dx * vertices[:, 1]])


@plain_arrays("x", "y")
def line_region(flight, channel, line, x, y, *, margin=0.0, shift=(0.0, 0.0)):
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
    shift : `tuple` of `float`, optional
        How far (u, v) the field stop is from the flight's polygon in this exposure, as
        `~esis_ndcube.edges.find_edges` finds it. The field stop is one for all lines, and the columns stay.

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
    from esis_ndcube import _polygon

    line = flight.line(line) if isinstance(line, str) else line
    sides = _sides(flight.field_stop(channel, line) + np.asarray(shift, dtype=float))
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    inside = np.empty(x.shape, dtype=bool)
    _polygon.inside(sides, float(margin), x.ravel(), y.ravel(), inside.reshape(-1))
    if line.columns is not None:
        first, stop = line.columns
        inside &= (x >= first - 0.5 + margin) & (x <= stop - 0.5 - margin)
    return inside


@plain_arrays("image", "valid")
def lit_region(image, valid):
    """
    Where light reaches the detector at all.

    Something in the beam, or a part of the camera that does not work, leaves dark areas whose edges look sharper to a
    registration filter than anything on the Sun.
    An area counts as dark if its mean, in blocks of 16 pixels, is below 0.04 of the 95th percentile of all blocks;
    blocks beside dark ones, which may hold the edge, go with them.
    Sky far off the limb is dark too.

    Parameters
    ----------
    image : `numpy.ndarray`
        Frame without bias, dark signal and stray light, shape (y, x).
    valid : `numpy.ndarray`
        Pixels to look at, of that shape.

    Returns
    -------
    `numpy.ndarray`
        True where there is light, and where no pixels are valid, of that shape.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.mask import lit_region
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


def clean_region(cube, *, channels=None, lines=None, frames=None):
    """
    The region that is valid and free of other lines' light in all images of a choice.

    It is the opposite of a mask: True is good. What to give to an array's index, not to ``mask=``.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Cube with mask and flags, shape (time, channel, y, x).
    channels : `int` or sequence of `int`, optional
        Channel numbers, by default all.
    lines : `str` or sequence of `str`, optional
        Names of the other lines to keep clear of, ``"all"`` of those that overlap, or an empty sequence for none;
        by default the brightest one.
    frames : `int` or sequence of `int`, optional
        Raw frame numbers, by default all.

    Returns
    -------
    `numpy.ndarray`
        Boolean, shape (y, x), True where clean. Images without any valid pixel do not count.

    Raises
    ------
    ValueError
        If a channel, frame or line is not there, the cube has not these axes or no flags, or the images have no clean
        region in common.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.mask import clean_region
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> clean = clean_region(cube, channels=[2, 3])  # doctest: +SKIP
    >>> cube.difference(2, 3).data[:, clean].mean()  # doctest: +SKIP
    """
    check_cube(cube, 3)
    if cube.data.ndim != 4 or cube.flags is None:
        flags = "no flags" if cube.flags is None else "flags"
        msg = f"got a cube of shape {cube.data.shape} with {flags}, expected (time, channel, y, x) with flags"
        raise ValueError(msg)
    if cube.channel is None:
        msg = "got a cube without channel numbers, expected one with the WCS of form_level3 or level3_wcs"
        raise ValueError(msg)
    pick_channels = _pick("channel", cube.channel, channels)
    pick_frames = range(cube.data.shape[0]) if frames is None else _pick("frame", cube.frame, frames)
    bits, others = _overlap(cube, lines)
    clean = np.ones(cube.data.shape[-2:], dtype=bool)
    seen = False
    for index in ((i, j) for i in pick_frames for j in pick_channels):
        good = np.isfinite(np.asarray(cube.data[index])) & ~np.asarray(cube._mask_part(index))
        if not good.any():
            continue
        seen = True
        clean &= good & (np.asarray(cube.flags[index]) & bits == 0)
        for other in others:
            clean &= ~_image_region(cube, index, other)
    if not (seen and clean.any()):
        msg = (
            f"channels {', '.join(str(cube.channel[j]) for j in pick_channels)} have no clean region in common in "
            f"{len(pick_frames)} exposures: choose fewer channels or frames, or lines=[] to allow other lines' light"
        )
        raise ValueError(msg)
    return clean


def _pick(name, numbers, wanted):
    """Indices of channel or frame numbers."""
    if wanted is None:
        return range(len(numbers))
    indices = []
    for number in np.atleast_1d(wanted):
        found = np.flatnonzero(np.asarray(numbers) == number)
        if not found.size:
            msg = f"got {name} {number}, expected one of {', '.join(map(str, numbers))}"
            raise ValueError(msg)
        indices.append(int(found[0]))
    if not indices:
        msg = f"got no {name}, expected at least one of {', '.join(map(str, numbers))}"
        raise ValueError(msg)
    return indices


def _overlap(cube, lines):
    """Flag bits of the lines to keep clear of, and the lines that have no bit of their own."""
    if lines is None:
        return Flag.OVERLAP, []
    if cube.flight is None or cube.line is None:
        msg = "this cube does not know its flight and line: leave lines out for the brightest overlapping one"
        raise ValueError(msg)
    known = overlapping_lines(cube.flight, cube.line)
    if isinstance(lines, str):
        lines = [line.name for line in known] if lines == "all" else [lines]
    names = {line_key(line.name): line for line in known}
    for name in lines:
        if line_key(name) not in names:
            msg = f"got line {name!r}, expected lines that overlap {cube.line}: {', '.join(x.name for x in known)}"
            raise ValueError(msg)
    wanted = {line_key(name) for name in lines}
    bits, others = Flag(0), [line for key, line in names.items() if key in wanted]
    if known and known[0] in others:
        bits |= Flag.OVERLAP
        others.remove(known[0])
    if others and len(others) == len(known) - 1:
        # The plane of the fainter lines is all of them together.
        bits |= Flag.OVERLAP_FAINT
        others = []
    return bits, others


def _image_region(cube, index, line):
    """Where a line's field stop lies in one image, through its alignment."""
    alignments = cube.applied_alignment
    alignment = None if alignments is None else alignments[index]
    if alignment is None:
        msg = f"this cube has no alignment to place {line.name} with: leave lines out, or take lines='all'"
        raise ValueError(msg)
    from esis_ndcube.resample import detector_coordinates

    position = detector_coordinates(alignment, cube.wcs[index], cube.data.shape[-2:])
    meta = cube.meta or {}
    shift = [meta[key][index] if key in meta else 0.0 for key in ("field_stop_u", "field_stop_v")]
    return line_region(cube.flight, alignment.channel, line, *position, shift=shift)


def _meet(flight, channel, first, second):
    """Whether the images of the field stop in two lines, which lie side by side, overlap."""
    (a, b), (c, d) = ((stop.min(), stop.max()) for stop in _columns(flight, channel, first, second))
    return a < d and c < b


def _columns(flight, channel, *lines):
    return (flight.field_stop(channel, line)[:, 0] for line in lines)
