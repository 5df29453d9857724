"""Find the sides of the field stop in the frames: the true place of the octagon in an exposure."""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy.ndimage import map_coordinates

import astropy.units as u
from astropy.table import QTable

from esis_ndcube.field_stop._edge_profile import RiseFinder
from esis_ndcube.field_stop.region import side_lines
from esis_ndcube.flags import Flag, frame_flags
from esis_ndcube.flight import Flight
from esis_ndcube.utils.arrays import plain_arrays
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.parallel import compute, delayed

__all__ = ["FieldStopEdges", "find_edges", "find_shift"]

_STEP = 0.5
# Each side is cut into this many parts, which are found one by one, and corners are left out.
_PARTS = 8
_CORNER = 0.08
# A rise below this many standard deviations of its height is no edge.
_CONTRAST = 5.0
# With fewer parts on fewer sides a shift along both axes is not known.
_LEAST = 6
# Tukey's biweight, 95 % efficient for normal errors.
_TUKEY = 4.685
# In detector pixels: how far from the prediction an edge is looked for, and the error above which a shift is no better
# than no shift.
_REACH = 8.0
_LARGEST_ERROR = 1.0


@dataclass(frozen=True, eq=False)
class FieldStopEdges:
    """
    Places of the sides of the field stop in the frames, relative to the flight's own polygon.

    Attributes
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `str`
        The spectral line.
    frame_numbers, channels : `tuple` of `int`
        Raw frame numbers and channel numbers.
    shift : `numpy.ndarray`
        Found minus predicted position on the detector (u, v) in pixels, shape (time, channel, 2); NaN if not found.
    error : `numpy.ndarray`
        Standard deviations of the shifts, of the shape of ``shift``, from how well the parts of the sides agree. They
        include errors of the polygon's form, so that the motion from exposure to exposure is known better than they
        say.
    sides : `numpy.ndarray`
        Found minus predicted position of every side along its inward normal, before any shift, in pixels; shape
        (time, channel, side). Side k runs from vertex k to the next. NaN where a side is not seen.
    side_errors : `numpy.ndarray`
        Standard deviations of ``sides``, from the parts of a side; a side is seen if half of its parts are seen.
    parts : `numpy.ndarray`
        Number of parts of the side that show the edge, shape (time, channel, side).

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube
    >>> from esis_ndcube.field_stop import find_edges
    >>> from esis_ndcube.simulate import simulate_flight
    >>> simulated = simulate_flight(size=4, n_exposures=2, n_darks=3, missing=False, blank=False)
    >>> files = simulated.write(getfixture("tmp_path"))
    >>> edges = find_edges(ESISLevel1Cube.from_raw(files.raw, simulated.flight))
    >>> edges.shift.shape
    (2, 4, 2)
    """

    flight: Flight
    line: str
    frame_numbers: tuple[int, ...]
    channels: tuple[int, ...]
    shift: np.ndarray
    error: np.ndarray
    sides: np.ndarray
    side_errors: np.ndarray
    parts: np.ndarray

    def __post_init__(self):
        for name in ("shift", "error", "sides", "side_errors", "parts"):
            array = np.array(getattr(self, name))
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def residual(self):
        """Residuals of ``sides`` after the shift (`numpy.ndarray`, shape (time, channel, side))."""
        normals = np.stack([side_lines(self.flight.field_stop(number, self.line))[:, :2] for number in self.channels])
        return self.sides - np.einsum("tcd,csd->tcs", self.shift, normals)

    def shift_of(self, frame_number, channel):
        """
        The shift of one image.

        Parameters
        ----------
        frame_number, channel : `int`
            Raw frame number and channel number.

        Returns
        -------
        `numpy.ndarray`
            Shift (u, v) in pixels; NaN if it was not found.

        Raises
        ------
        ValueError
            If the image is not among those that were searched.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel1Cube
        >>> from esis_ndcube.field_stop import find_edges
        >>> edges = find_edges(ESISLevel1Cube.from_raw("frames"))  # doctest: +SKIP
        >>> edges.shift_of(124, 2)  # doctest: +SKIP
        """
        if frame_number not in self.frame_numbers or channel not in self.channels:
            msg = (
                f"got frame {frame_number!r}, channel {channel!r}, expected one of frames "
                f"{', '.join(map(str, self.frame_numbers))} and of channels {', '.join(map(str, self.channels))}"
            )
            raise ValueError(msg)
        return self.shift[self.frame_numbers.index(frame_number), self.channels.index(channel)]

    def placement(self, *, largest_error=_LARGEST_ERROR):
        """
        The shifts that place the field stop of every image.

        Each image is placed by its own edges alone, so that its place does not depend on the other images. The shift is
        0 if it was not found, or if its error is so large that no shift is better; the flight's polygon then stays
        where it is.

        Parameters
        ----------
        largest_error : `float`, optional
            Standard deviation, in detector pixels, above which a shift is not used; the limit holds for either axis.

        Returns
        -------
        `numpy.ndarray`
            Shifts (u, v) in pixels, shape (time, channel, 2), all finite, as `~esis_ndcube.field_stop.line_region`
            takes them.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel1Cube
        >>> from esis_ndcube.field_stop import find_edges
        >>> edges = find_edges(ESISLevel1Cube.from_raw("frames"))  # doctest: +SKIP
        >>> edges.placement().shape  # doctest: +SKIP
        (29, 4, 2)
        """
        return _place(self.shift, self.error, largest_error)

    def table(self):
        """
        The shifts as a table.

        Returns
        -------
        `~astropy.table.QTable`
            A row per image: ``frame_number``, ``channel``, ``du``, ``dv`` and their errors in detector pixels,
            ``parts``, and ``residual``, the largest distance of a side from the shifted polygon.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel1Cube
        >>> from esis_ndcube.field_stop import find_edges
        >>> edges = find_edges(ESISLevel1Cube.from_raw("frames"))  # doctest: +SKIP
        >>> edges.table()["residual"].max()  # doctest: +SKIP
        """
        rows = np.indices(self.shift.shape[:2]).reshape(2, -1)
        left = np.abs(self.residual).reshape(-1, self.sides.shape[-1])
        worst = np.where(np.isfinite(left).any(-1), np.where(np.isfinite(left), left, -np.inf).max(-1), np.nan)
        table = QTable(
            {"frame_number": np.array(self.frame_numbers)[rows[0]], "channel": np.array(self.channels)[rows[1]]}
        )
        for axis, name in enumerate(("du", "dv")):
            table[name] = self.shift[..., axis].ravel() * u.pix
            table[f"{name}_error"] = self.error[..., axis].ravel() * u.pix
        table["parts"] = self.parts.sum(-1).ravel()
        table["residual"] = worst * u.pix
        return table


def find_edges(cube, *, line=None, reach=_REACH, workers=None):
    """
    Find the sides of the field stop in every frame.

    Across each side the brightness falls from the Sun's to that of stray light and other lines.
    The flight's polygon predicts the sides. Each side is cut into parts. The brightness is averaged along a part, and a
    smoothed step is fitted to the profile across it. One shift for each image is then fitted to all parts, robustly.
    The field stop moves on the detectors as the instrument warms, independently of the Sun. So the shifts of Level-1
    frames need no alignment.
    A side is not searched if it is closer than ``reach`` + 8 pixels to the end of the detector, or of the line's
    columns.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel1Cube` or `~esis_ndcube.ESISLevel3Cube`
        Frames, shape (time, channel, y, x), or a Level-3 cube, whose images are read through its alignments.
    line : `str`, optional
        The spectral line; by default that of the cube, or of the flight's pose.
    reach : `float`, optional
        Largest distance from the prediction, in detector pixels.
    workers : `int`, optional
        Number of threads; by default Dask's active scheduler decides.

    Returns
    -------
    `FieldStopEdges`
        Shifts and sides; NaN for images with less than two visible sides.

    Raises
    ------
    ValueError
        If the cube is not four-dimensional, has no flight, or is a Level-3 cube of another line.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube
    >>> from esis_ndcube.field_stop import find_edges
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> print(find_edges(level1, line="O V").table())  # doctest: +SKIP
    """
    check_cube(cube, 1, 3)
    flight = cube.flight
    if flight is None or cube.data.ndim != 4:
        msg = f"got a cube of shape {cube.data.shape}, expected (time, channel, y, x) of a known flight"
        raise ValueError(msg)
    if not reach > 0:
        msg = f"got reach {reach!r}, expected a distance above 0 in detector pixels"
        raise ValueError(msg)
    line = flight.line(line or cube.line or flight.pose_line)
    if cube.line not in (None, line.name):
        msg = f"got a cube of {cube.line}, expected one of {line.name}: give Level-1 frames, which have all lines"
        raise ValueError(msg)
    shape = cube.data.shape[:2]
    tasks = [delayed(partial(_find_in_cube, cube, index, line, reach)) for index in np.ndindex(shape)]
    found = compute(tasks, workers=workers)
    parts = [np.array(part).reshape(*shape, -1) for part in zip(*found, strict=True)]
    return FieldStopEdges(flight, line.name, tuple(map(int, cube.frame_number)), tuple(map(int, cube.channel)), *parts)


@plain_arrays("image", "flags")
def find_shift(image, flags, *, flight, channel, line, first_column=0):
    """
    The shift that places the field stop of one image.

    It is the shift that `find_edges` and `FieldStopEdges.placement` find for that image.

    Parameters
    ----------
    image : `numpy.ndarray`
        Frame on the detector, shape (y, x), or some of its columns.
    flags : `numpy.ndarray` or `None`
        Its `~esis_ndcube.flags.Flag` bits, of that shape.
    flight : `~esis_ndcube.Flight`
        The flight.
    channel : `int`
        Channel number.
    line : `str` or `~esis_ndcube.flight.Line`
        The spectral line.
    first_column : `int`, optional
        Detector column that the image begins with.

    Returns
    -------
    `numpy.ndarray`
        Shift (u, v) in detector pixels; 0 if it was not found, or is not known to a pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.field_stop import find_shift
    >>> from esis_ndcube.field_stop import line_region
    >>> v, u = np.indices(ESIS_1.detector.shape)
    >>> image = line_region(ESIS_1, 2, "O V", u, v, shift=(1, -2)).astype(float)
    >>> find_shift(image, None, flight=ESIS_1, channel=2, line="O V").round(1)
    array([ 1., -2.])
    """
    line = flight.line(line) if isinstance(line, str) else line
    found = _find_in_image(
        image, flags, flight, channel, line, _REACH, lambda u_pixel, v_pixel: (v_pixel, u_pixel - first_column)
    )
    return _place(*found[:2], _LARGEST_ERROR)


def _place(shift, error, largest_error):
    # False for NaN
    known = (np.isfinite(shift) & (error <= largest_error)).all(axis=-1, keepdims=True)
    return np.where(known, shift, 0.0)


@cache
def _finder(reach):
    """Distances from a predicted side, and the search for a rise there."""
    # The profile extends beyond the farthest rise, or else there would be no level on one side of the rise.
    half = reach + 8.0
    distance = np.arange(-round(half / _STEP), round(half / _STEP) + 1) * _STEP
    return distance, RiseFinder(distance, reach)


def _find_in_cube(cube, index, line, reach):
    flags = None if cube.flags is None else cube.flags[index]
    if cube._level == 1:
        flags = frame_flags(cube, index)
    channel = int(cube.channel[index[1]])
    position = _array_position(cube, index)
    return _find_in_image(cube.data[index], flags, cube.flight, channel, line, reach, position)


def _find_in_image(image, flags, flight, channel, line, reach, position):
    """Shift, its error, sides, their errors and numbers of parts; ``position`` finds row and column of (u, v)."""
    vertices = flight.field_stop(channel, line)
    # Inward normals of the sides.
    normals, sides = side_lines(vertices)[:, :2], len(vertices)
    none = np.full(2, np.nan), np.full(2, np.nan), np.full(sides, np.nan), np.full(sides, np.nan), np.zeros(sides, int)
    if position is None:
        return none
    distance, finder = _finder(reach)
    profiles = _profiles(image, flags, flight.detector, line, vertices, normals, distance, position)
    place, error, contrast = finder(profiles.reshape(-1, distance.size))
    side = np.repeat(np.arange(sides), _PARTS)
    seen = np.isfinite(place) & np.isfinite(error) & (contrast > _CONTRAST)
    place, side = place[seen], side[seen]
    means, errors, counts = none[2].copy(), none[3].copy(), np.bincount(side, minlength=sides)
    for k in np.flatnonzero(counts >= _PARTS / 2):
        here = place[side == k]
        means[k] = np.median(here)
        # The error of a median, from the median absolute deviation.
        errors[k] = 1.253 * 1.483 * np.median(np.abs(here - means[k])) / np.sqrt(here.size)
    design = normals[side]
    if len(place) < _LEAST or np.linalg.cond(design) > 10:
        return none[0], none[1], means, errors, counts
    shift, variance = _robust_shift(design, place)
    return shift, np.sqrt(variance), means, errors, counts


def _robust_shift(design, place):
    """Shift and its variances by iteratively reweighted least squares."""
    shift = np.linalg.lstsq(design, place, rcond=None)[0]
    for _ in range(30):
        left = place - design @ shift
        # The scale is not below the limit of a profile, so that perfect agreement does not divide by zero.
        scale = max(1.483 * np.median(np.abs(left)), 1e-3)
        weight = np.clip(1 - (left / (_TUKEY * scale)) ** 2, 0, None) ** 2
        normal = (design * weight[:, None]).T @ design
        new = np.linalg.solve(normal, design.T @ (weight * place))
        step, shift = np.abs(new - shift).max(), new
        if step < 1e-6:
            break
    # The variance of an M-estimator: the derivative of the solved equation, and its scatter, for the two fitted
    # numbers.
    left = place - design @ shift
    square = np.minimum((left / (_TUKEY * scale)) ** 2, 1)
    slope = (1 - square) * (1 - 5 * square)
    bread = np.linalg.inv((design * slope[:, None]).T @ design)
    influence = design * ((1 - square) ** 2 * left)[:, None]
    covariance = bread @ influence.T @ influence @ bread * place.size / (place.size - 2)
    return shift, np.diag(covariance)


def _profiles(image, flags, detector, line, vertices, normals, distance, position):
    """Mean brightness across the parts of the sides, shape (side, part, distance)."""
    rows, columns = detector.shape
    ends = np.roll(vertices, -1, axis=0)
    # About a sample per pixel along the sides.
    count = max(4, round(np.hypot(*(ends - vertices).T).max() * (1 - 2 * _CORNER) / _PARTS))
    along = np.linspace(_CORNER, 1 - _CORNER, 2 * _PARTS * count + 1)[1::2]
    at = vertices[:, None] + along[:, None] * (ends - vertices)[:, None]
    at = at[:, :, None] + distance[:, None] * normals[:, None, None]
    u_pixel, v_pixel = at[..., 0], at[..., 1]
    first, stop = line.columns
    inside = (u_pixel >= first) & (u_pixel <= min(stop, columns) - 1) & (v_pixel >= 0) & (v_pixel <= rows - 1)
    image = np.array(image, dtype=float)
    if flags is not None:
        image[np.asarray(flags) & (Flag.BAD_PIXEL | Flag.SATURATED | Flag.MISSING) != 0] = np.nan
    values = map_coordinates(image, position(u_pixel, v_pixel), order=1, cval=np.nan)
    # Only lines that are complete across the side, or else solar structure would look like a step.
    values[~(inside & np.isfinite(values)).all(axis=-1)] = np.nan
    values = values.reshape(len(vertices), _PARTS, count, distance.size)
    used = np.isfinite(values[..., 0]).sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(values, axis=2) / np.where(used >= count / 2, used, np.nan)[..., None]


def _array_position(cube, index):
    """Function that finds row and column in the cube's image of detector pixels; None without an alignment."""
    if not hasattr(cube, "alignment"):
        return lambda u_pixel, v_pixel: (v_pixel, u_pixel)
    alignments = cube.alignment
    alignment = None if alignments is None else alignments[index]
    if alignment is None or not alignment.converged:
        return None
    wcs = cube.wcs[index]

    def position(u_pixel, v_pixel):
        world = alignment.detector_to_world(u_pixel, v_pixel)
        values = (q.to_value(unit) for q, unit in zip(world, wcs.world_axis_units, strict=True))
        x, y = wcs.world_to_pixel_values(*values)
        return y, x

    return position
