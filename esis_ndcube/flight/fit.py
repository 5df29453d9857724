"""Poses of a flight, fitted to positions on the sky and on the detector."""

import tomllib
from dataclasses import dataclass

import numpy as np
import tomli_w

import astropy.units as u
from astropy.table import Table

from esis_ndcube.flight.flight import Flight
from esis_ndcube.flight.instrument import line_key

__all__ = ["FlightFit", "LineFit", "fit_flight"]

_POSITIONS = {"longitude": u.arcsec, "latitude": u.arcsec, "u": u.pix, "v": u.pix}
# Three points fit exactly, whatever their errors; a fourth point shows the errors.
_FEWEST = 4
# Points that lie on a line to within this many pixels (root mean square) do not show the scale across the line.
_SPREAD = 1.0
_MARKS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class LineFit:
    """
    How well a pose fits the points of one channel in one line.

    Attributes
    ----------
    channel : `int`
        Channel number.
    line : `str`
        Name of the line.
    points : `int`
        Number of points.
    residual : `float`
        Error of one coordinate of a point in detector pixels: the root mean square of the residuals, for the number of
        points less those that the fit needs.

    Examples
    --------
    >>> from esis_ndcube.flight import LineFit
    >>> print(LineFit(1, "Ne VII", 25, 0.12))
    channel 1 in Ne VII: 25 points, residual 0.120 pixels
    """

    channel: int
    line: str
    points: int
    residual: float

    def __str__(self):
        return f"channel {self.channel} in {self.line}: {self.points} points, residual {self.residual:.3f} pixels"


@dataclass(frozen=True, eq=False)
class FlightFit:
    """
    A flight with fitted poses.

    Attributes
    ----------
    flight : `~esis_ndcube.Flight`
        The flight; its ``toml`` is the text of the flight file.
    lines : `tuple` of `LineFit`
        One for each channel and line of the table.

    Examples
    --------
    >>> from esis_ndcube import ESIS_2
    >>> from esis_ndcube.flight import FlightFit, LineFit
    >>> print(FlightFit(ESIS_2, (LineFit(1, "Ne VII", 25, 0.12), LineFit(1, "Si XII", 25, 0.13))))
    channel 1 in Ne VII: 25 points, residual 0.120 pixels
    channel 1 in Si XII: 25 points, residual 0.130 pixels
    """

    flight: Flight
    lines: tuple[LineFit, ...]

    def __str__(self):
        return "\n".join(map(str, self.lines))


def fit_flight(table, flight):
    """
    Fit the poses of a flight to a table of positions on the sky and on the detector.

    The positions come from a ray trace or from a test with stars. Each channel and line gets the affine pose that fits
    its points best. A channel with two lines or more also gets its ``dispersion_angle`` from the distance of the lines,
    and ``dispersion`` becomes the mean of those channels. Entries for which the table has no points stay as they are.

    Parameters
    ----------
    table : `~astropy.table.Table`
        A row for each point: ``channel``, a number; ``line``, the name of one of the flight's lines; ``longitude`` and
        ``latitude`` on the sky in arcsec; and ``u`` and ``v`` on the active detector area in pixels. Columns may have
        units. The column ``corner`` may be left out: true or 1 marks the points that are corners of the field stop.
    flight : `~esis_ndcube.Flight`
        The flight whose entries are replaced.

    Returns
    -------
    `FlightFit`
        The flight with fitted poses, and the residuals.

    Raises
    ------
    TypeError
        If the table is of another class.
    ValueError
        If the table lacks a column or has too few points, points on a line, or channels, lines or corners that the
        flight does not have.
    FlightError
        If the fitted poses make no flight, for example because they disagree with ``dispersion_angle``.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from esis_ndcube import ESIS_2
    >>> from esis_ndcube.flight import fit_flight
    >>> points = Table({"longitude": [-200, 200, 200, -200], "latitude": [-200, -200, 200, 200]})
    >>> points["channel"], points["line"] = 2, "Ne VII"
    >>> points["u"], points["v"] = [-30, 767, 1096, 300], [294, -25, 745, 1064]
    >>> fit = fit_flight(points, ESIS_2)
    >>> print(fit)
    channel 2 in Ne VII: 4 points, residual 0.354 pixels
    >>> fit.flight.channel(2).matrix.round(3)
    array([[ 0.757,  0.313],
           [-0.303,  0.731]])
    """
    table = _checked(table)
    x, y, column, row = _positions(table, flight)
    corner = _corners(table)
    known = {line_key(line.name): line for line in flight.lines}
    keys = np.array([line_key(name) for name in table["line"]])
    if unknown := set(keys) - set(known):
        names = ", ".join(sorted({str(name) for name in table["line"] if line_key(name) in unknown}))
        msg = f"got the line {names}, expected lines of flight {flight.name}: {', '.join(n.name for n in flight.lines)}"
        raise ValueError(msg)
    toml = tomllib.loads(flight.toml)
    entries = {entry["number"]: entry for entry in toml["channels"]}
    found, dispersions = [], []
    for number in np.unique(table["channel"]).tolist():
        # It raises the error for an unknown channel.
        flight.channel(number)
        poses = {}
        for line in (line for key, line in known.items() if key in keys[table["channel"] == number]):
            rows = (table["channel"] == number) & (keys == line_key(line.name))
            name = f"channel {number} in {line.name}"
            points = np.column_stack([x[rows], y[rows]]) - flight.pose_pivot
            center, matrix, residual = _fit(points, np.column_stack([column[rows], row[rows]]), name)
            entry = _line_entry(entries[number], line.name, flight.pose_line)
            entry |= {"center": center.tolist(), "matrix": matrix.tolist()}
            if (marked := rows & corner).any():
                entry["field_stop"] = _ordered(column[marked], row[marked], flight.field_stop_sides, name)
            poses[line.wavelength.to_value(u.AA)] = center, matrix
            found.append(LineFit(number, line.name, len(points), residual))
        if len(poses) > 1:
            per_pixel, angle = _dispersion(poses, flight.grid_cdelt, number)
            entries[number]["dispersion_angle"] = angle
            dispersions.append(per_pixel)
    if dispersions:
        toml["detector"]["dispersion"] = f"{np.mean(dispersions)} Angstrom"
    fitted = Flight.from_toml(tomli_w.dumps(toml), source=f"{flight.name} with fitted poses")
    return FlightFit(fitted, tuple(found))


def _checked(table):
    """A copy of the columns that are needed, none of which is missing or has empty cells."""
    if not isinstance(table, Table):
        msg = f"got {type(table).__name__}, expected an astropy Table: Table.read makes one of a file"
        raise TypeError(msg)
    needed = ["channel", "line", *_POSITIONS]
    if missing := [name for name in needed if name not in table.colnames]:
        msg = (
            f"got a table without {', '.join(missing)}, expected the columns {', '.join(needed)}, and corner if "
            "corners of the field stop are marked"
        )
        raise ValueError(msg)
    table = Table(table[[name for name in [*needed, "corner"] if name in table.colnames]])
    if not len(table):
        msg = "got a table without rows, expected a row for each point"
        raise ValueError(msg)
    if empty := [name for name in table.colnames if np.any(getattr(table[name], "mask", False))]:
        msg = f"got empty cells in {', '.join(empty)}, expected a value in every row: fill them in, or remove the rows"
        raise ValueError(msg)
    # Names in FITS files are bytes.
    table.convert_bytestring_to_unicode()
    if table["channel"].dtype.kind not in "iu":
        msg = f"got the column channel of kind {table['channel'].dtype}, expected numbers of channels: 1, 2, ..."
        raise ValueError(msg)
    return table


def _positions(table, flight):
    """The points on the flight's grid and on the detector, in pixels."""
    values = []
    for name, unit in _POSITIONS.items():
        try:
            values.append(u.Quantity(table[name], unit, dtype=float))
        except (TypeError, ValueError) as error:
            msg = (
                f"got a column {name} that is not in {unit}, expected numbers in {unit}, or in a unit like it ({error})"
            )
            raise ValueError(msg) from error
    longitude, latitude, column, row = values
    x, y = flight.grid.world_to_pixel_values(longitude.to_value(u.deg), latitude.to_value(u.deg))
    points = np.array([x, y, column.value, row.value])
    if not np.isfinite(points).all():
        index = np.flatnonzero(~np.isfinite(points).all(axis=0))[0]
        given = ", ".join(f"{name} = {value[index]}" for name, value in zip(_POSITIONS, values, strict=True))
        msg = f"got {given} in row {index + 1}, expected finite numbers, and a place on the flight's grid"
        raise ValueError(msg)
    return points


def _corners(table):
    if "corner" not in table.colnames:
        return np.zeros(len(table), dtype=bool)
    # A table in CSV has the words.
    words = [str(value).lower() for value in table["corner"]]
    if wrong := sorted(set(words) - _MARKS.keys()):
        msg = (
            f"got {wrong[0]!r} in the column corner, expected 1 or true for a corner, and 0 or false for another point"
        )
        raise ValueError(msg)
    return np.array([_MARKS[word] for word in words])


def _fit(points, pixels, name):
    """The affine map from points to pixels: its value at (0, 0), its matrix, and the error of a coordinate."""
    if len(points) < _FEWEST:
        msg = f"{name}: got {len(points)} points, expected at least {_FEWEST}: three fit exactly and show no error"
        raise ValueError(msg)
    for place, positions in {"grid": points, "detector": pixels}.items():
        spread = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False)[1] / np.sqrt(len(positions))
        if spread < _SPREAD:
            msg = (
                f"{name}: got points that lie on a line to {spread:.2g} pixels of the {place}, expected points that "
                "are spread over the field in both directions"
            )
            raise ValueError(msg)
    middle, shift = points.mean(axis=0), pixels.mean(axis=0)
    matrix = np.linalg.lstsq(points - middle, pixels - shift, rcond=None)[0].T
    rest = pixels - shift - (points - middle) @ matrix.T
    residual = float(np.sqrt((rest**2).sum() / (2 * (len(points) - 3))))
    return shift - matrix @ middle, matrix, residual


def _line_entry(channel, line, pose_line):
    """The table of a flight file that holds a channel's pose in a line."""
    if line == pose_line:
        return channel
    entries = channel.setdefault("lines", [])
    for entry in entries:
        if entry["name"] == line:
            return entry
    entries.append({"name": line})
    return entries[-1]


def _ordered(column, row, sides, name):
    """Corners counter-clockwise from the direction of u, as the sides of the field stop are."""
    if len(column) != sides:
        msg = f"{name}: got {len(column)} corners of the field stop, expected none, or all {sides}"
        raise ValueError(msg)
    angles = np.arctan2(row - row.mean(), column - column.mean()) % (2 * np.pi)
    return np.column_stack([column, row])[np.argsort(angles)].tolist()


def _dispersion(poses, cdelt, number):
    """Wavelength per pixel along u in angstrom, and the direction on the sky of increasing wavelength in degrees."""
    centers, matrices = (np.array(parts) for parts in zip(*poses.values(), strict=True))
    slope = np.polyfit(list(poses), centers, 1)[0]
    if slope[0] <= 0:
        msg = (
            f"channel {number}: got u that falls by {-slope[0]:.3g} pixels per angstrom, expected u to grow toward "
            "longer wavelength: turn the images, so that u and v change sign, or correct the names of the lines"
        )
        raise ValueError(msg)
    x, y = np.linalg.solve(matrices.mean(axis=0), slope) * cdelt
    return 1 / slope[0], float(np.degrees(np.arctan2(y, x)))
