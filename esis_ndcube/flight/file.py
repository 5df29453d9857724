"""Read flight files, with errors that name the entry."""

import difflib
import re
import string
import tomllib

import numpy as np

import astropy.units as u
from astropy.coordinates import Angle
from astropy.time import Time

from esis_ndcube.flight.instrument import (
    NOT_MEASURED,
    Archive,
    ByQuadrant,
    Channel,
    Detector,
    FlightError,
    FrameFiles,
    Line,
    LinePose,
    Passband,
)
from esis_ndcube.utils.checks import is_plain_name

# Whole numbers below this are exact as floating-point numbers.
_EXACT = 2**53
# Upper limits, above the numbers of any camera or flight.
_MOST = {"sides": 100, "pixels": 2**15, "frame": 10**6}
# Largest angle between the direction of a pose and the dispersion: distortion and roll cause a degree or two of it.
_NEAR = 15 * u.deg
_WIDTH = re.compile(r"0?\d{0,2}d?")


def parse_flight(text, source):
    """
    Read the text of a flight file.

    Parameters
    ----------
    text : `str`
        TOML.
    source : `str`
        Name of the text in error messages.

    Returns
    -------
    `dict`
        The attributes of a `~esis_ndcube.Flight`.

    Raises
    ------
    FlightError
        If the text is not TOML, or a value is missing or impossible.
    """
    try:
        table = _Table(tomllib.loads(text), source)
    except (ValueError, RecursionError) as error:
        msg = f"{source} is not a flight file in TOML: {error}"
        raise FlightError(msg) from error
    built = _build(table, text)
    table.check_keys()
    return built


def in_ranges(number, ranges):
    """
    Whether a number lies in one of several ranges that include their ends.

    Parameters
    ----------
    number : `int`
        The number.
    ranges : `tuple`
        Ranges ``(first, last)``.

    Returns
    -------
    `bool`
        True if the number lies in a range.
    """
    return any(first <= number <= last for first, last in ranges)


def name_quadrants(text):
    """
    Name the quadrants in the flight text of a cube that was written before quadrants had names.

    Parameters
    ----------
    text : `str`
        TOML. Gains in a list are in the order in which the code of that time applied them, which may be wrong.

    Returns
    -------
    `str`
        TOML that `parse_flight` reads.
    """

    def named(match):
        values = (value.strip() for value in match[1].split(",") if value.strip())
        pairs = zip(ByQuadrant._fields, values, strict=True)
        return f"gain = {{ {', '.join(f'{name} = {value}' for name, value in pairs)} }}"

    return re.sub(r"^gain = \[([^\]]*)\]", named, text, flags=re.MULTILINE)


class _Table:
    """A TOML table that knows its place in the file, so that errors can name it."""

    def __init__(self, values, source, where=""):
        self._values, self._source, self._where = values, source, where
        self._known, self._inner = {}, []

    def check_keys(self):
        """Refuse keys that nothing has asked for, here and in inner tables: they may be misspelt."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                expected = f"{near[0]}, or nothing" if near else f"one of {', '.join(self._known)}"
                self.fail(key, f"got a key that no flight has, expected {expected}")
        for table in self._inner:
            table.check_keys()

    def fail(self, key, problem):
        msg = f"flight file {self._source}: {self._where}{key}: {problem}"
        raise FlightError(msg)

    def get(self, key, kind, *, default=None, positive=False):
        self._known[key] = None
        value = self._values.get(key, default)
        if value is None:
            near = difflib.get_close_matches(key, self._values.keys() - self._known, n=1)
            misspelt = f"; the key {near[0]} may be a misspelling of it" if near else ""
            self.fail(key, f"missing, expected {'a table' if kind is dict else kind.__name__}{misspelt}")
        if kind is float and type(value) is int and abs(value) < _EXACT:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(key, f"got {value!r}, expected {kind.__name__}")
        if kind is float and not np.isfinite(value):
            self.fail(key, f"got {value!r}, expected a finite number")
        if positive and not value > 0:
            self.fail(key, f"got {value!r}, expected more than 0")
        return value

    def has(self, key):
        self._known[key] = None
        return key in self._values

    def table(self, key):
        return self._add(_Table(self.get(key, dict), self._source, f"{self._where}{key}."))

    def _add(self, table):
        self._inner.append(table)
        return table

    def tables(self, key):
        rows = self.get(key, list)
        if not rows or not all(isinstance(row, dict) for row in rows):
            self.fail(key, f"got {rows!r}, expected at least one [[{key}]] table")
        return [self._add(_Table(row, self._source, f"{self._where}{key}[{i}].")) for i, row in enumerate(rows)]

    def quantity(self, key, unit, *, positive=True):
        text = self.get(key, str)
        try:
            value = u.Quantity(text).to(unit)
        except (TypeError, ValueError) as error:
            self.fail(key, f"got {text!r}, expected a quantity in {unit}, for example '1 {unit}' ({error})")
        if not np.isfinite(value) or (positive and value <= 0):
            self.fail(key, f"got {text!r}, expected a quantity above 0")
        return value

    def time(self, key):
        value = self.get(key, object)
        try:
            return Time(value, scale="utc")
        except (KeyError, TypeError, ValueError) as error:
            self.fail(key, f"got {value!r}, expected a date and time ({error})")

    def array(self, key, shape, *, kind=float, positive=False, upper=np.inf):
        """An array; the length of an axis is free where ``shape`` has None, but not 0."""
        value = self.get(key, list)
        try:
            array = np.array(value, dtype=float)
        except (TypeError, ValueError, OverflowError):
            array = np.array(np.nan)
        fits = array.ndim == len(shape) and all(n == m if m else n > 0 for n, m in zip(array.shape, shape, strict=True))
        good = fits and np.isfinite(array).all()
        # Larger numbers do not fit into an integer.
        good = good and (kind is float or ((array == array.round()) & (abs(array) < _EXACT)).all())
        if not good or (positive and (array <= 0).any()):
            sign = "positive " if positive else ""
            form = " x ".join("n" if m is None else str(m) for m in shape)
            self.fail(key, f"got {value!r}, expected {form} {sign}{kind.__name__} numbers")
        if (array > upper).any():
            self.fail(key, f"got {value!r}, expected numbers up to {upper}")
        array = array.astype(kind)
        array.setflags(write=False)
        return array

    def ranges(self, key, count=None, *, upper=None, default=None, closed=False):
        """Ranges of whole numbers as tuples; ``closed`` ranges include their end."""
        if default is not None and not self.has(key):
            return default
        rows = self.array(key, (count, 2), kind=int)
        if (rows < 0).any() or (rows[:, 1] < rows[:, 0] + (not closed)).any():
            self.fail(key, f"got {rows.tolist()}, expected ranges with their start before their end")
        if upper is not None and rows.max() > upper:
            self.fail(key, f"got {rows.tolist()}, expected ranges up to {upper}")
        return tuple(map(tuple, rows.tolist()))


def _build(table, toml):
    detector = _build_detector(table.table("detector"))
    lines = tuple(_build_line(row, detector) for row in table.tables("lines"))
    stop, grid, pose = table.table("field_stop"), table.table("grid"), table.table("pose")
    sides = stop.get("sides", int)
    if not 3 <= sides <= _MOST["sides"]:
        stop.fail("sides", f"got {sides}, expected at least 3 and at most {_MOST['sides']}")
    width = stop.quantity("width", "arcsec")
    radii = (width / 2 / np.cos(np.pi / sides) / detector.pixel_scale).to_value(u.one)
    angles = (np.arange(sides) + 0.5) * 2 * np.pi / sides
    outline = np.column_stack([np.cos(angles), np.sin(angles)]) * radii
    shape = grid.array("shape", (2,), kind=int, positive=True, upper=_MOST["pixels"])
    cdelt = grid.array("cdelt", (2,), positive=True)
    if (width.value > cdelt * shape[::-1]).any():
        size = " x ".join(f"{side:g}" for side in cdelt * shape[::-1])
        stop.fail("width", f"got {width}, expected it to fit into the grid of {size} arcsec")
    pose_line = pose.get("line", str)
    if pose_line not in [line.name for line in lines if line.columns]:
        pose.fail("line", f"got {pose_line!r}, expected the name of a line with columns")
    wavelengths = {line.name: line.wavelength for line in lines}
    channels = tuple(
        _build_channel(row, outline, detector, pose_line, wavelengths, cdelt) for row in table.tables("channels")
    )
    numbers = [channel.number for channel in channels]
    if numbers != list(range(1, len(channels) + 1)):
        table.fail("channels", f"got the numbers {numbers}, expected 1, 2, ... in order")
    reference_channel = table.get("reference_channel", int, positive=True)
    if reference_channel not in numbers:
        table.fail("reference_channel", f"got {reference_channel}, expected one of {numbers}")
    timeline, files = table.table("timeline"), table.table("files")
    time_stamp = timeline.get("time_stamp", str)
    if time_stamp not in ("start", "middle", "end"):
        timeline.fail("time_stamp", f"got {time_stamp!r}, expected 'start', 'middle' or 'end'")
    light = timeline.ranges("light_frames", upper=_MOST["frame"], closed=True)
    dark = timeline.ranges("dark_frames", upper=_MOST["frame"], closed=True)
    if any(first <= end and start <= last for first, last in light for start, end in dark):
        timeline.fail("dark_frames", f"got {dark}, expected no frame of light_frames {light}")
    pose_frame = pose.get("frame", int, positive=True)
    if in_ranges(pose_frame, dark):
        pose.fail("frame", f"got {pose_frame}, expected none of dark_frames {dark}")
    vignetting, reference, registration = (table.table(k) for k in ("vignetting", "reference", "registration"))
    widths = [registration.quantity(key, "arcsec") for key in ("fine", "coarse")]
    if widths[1] <= widths[0]:
        registration.fail("coarse", f"got {widths[1]}, expected more than fine, {widths[0]}")
    return {
        "name": _name(table),
        "title": table.get("title", str),
        "instrument": table.get("instrument", str),
        "launch": table.time("launch"),
        "reference_channel": reference_channel,
        "files": _build_files(files),
        "cadence": timeline.quantity("cadence", "s"),
        "clock_offset": timeline.quantity("clock_offset", "s", positive=False),
        "light_frames": light,
        "dark_frames": dark,
        "time_stamp": time_stamp,
        "detector": detector,
        "field_stop_sides": sides,
        "field_stop_width": width,
        "vignetting_zero": vignetting.quantity("zero", "arcsec"),
        "vignetting_width": vignetting.quantity("width", "arcsec"),
        "vignetting_margin": vignetting.quantity("margin", "arcsec"),
        "reference": _build_passband(reference),
        "registration_widths": u.Quantity(widths),
        "grid_shape": tuple(shape.tolist()),
        "grid_crpix": tuple(grid.array("crpix", (2,)).tolist()),
        "grid_crval": tuple(grid.array("crval", (2,)).tolist()),
        "grid_cdelt": tuple(cdelt.tolist()),
        "pose_frame": pose_frame,
        "pose_line": pose_line,
        "pose_pivot": tuple(pose.array("pivot", (2,)).tolist()),
        "lines": lines,
        "channels": channels,
        "not_measured": _not_measured(table),
        "archive": _build_archive(table.table("archive")) if table.has("archive") else None,
        "toml": toml,
    }


def _name(table):
    name = table.get("name", str)
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        table.fail("name", f"got {name!r}, expected letters, digits and underscores")
    return name


def _not_measured(table):
    names = table.get("not_measured", list, default=[])
    if any(name not in list(NOT_MEASURED) for name in names):
        table.fail("not_measured", f"got {names}, expected some of {', '.join(NOT_MEASURED)}")
    return tuple(names)


def _build_files(table):
    pattern = table.get("pattern", str)
    template = "a template of {channel} and {frame}, of at most 99 characters, for example {frame:05d}"
    try:
        # A pattern with a width of many digits is never filled in.
        for _, field, width, conversion in string.Formatter().parse(pattern):
            if field is not None and (field not in ("channel", "frame") or conversion or not _WIDTH.fullmatch(width)):
                table.fail("pattern", f"got {pattern!r}, expected {template}")
        distinct = {pattern.format(channel=c, frame=f) for c in (1, 2) for f in (1, 2)}
    except (KeyError, IndexError, ValueError) as error:
        table.fail("pattern", f"got {pattern!r}, expected {template} ({error!r})")
    if len(distinct) < 4:
        table.fail("pattern", f"got {pattern!r}, expected both {{channel}} and {{frame}} in it")
    if any(not is_plain_name(name) for name in distinct):
        table.fail("pattern", f"got {pattern!r}, expected the name of a file, without folders")
    return FrameFiles(
        pattern=pattern,
        **{key: table.get(key, str) for key in ("time", "camera", "frame", "exposure", "measured_exposure")},
        exposure_unit=table.quantity("exposure_unit", "s"),
        measured_exposure_unit=table.quantity("measured_exposure_unit", "s"),
    )


def _build_archive(table):
    short_name, url = table.get("short_name", str), table.get("url", str)
    if not re.fullmatch(r"[a-z]\w*", short_name):
        table.fail("short_name", f"got {short_name!r}, expected lower-case letters, digits and underscores")
    references = {}
    if table.has("references_url") or table.has("references_sha256"):
        references = {key: table.get(key, str) for key in ("references_url", "references_sha256")}
        if not re.fullmatch("[0-9a-f]{64}", references["references_sha256"]):
            got = references["references_sha256"]
            table.fail("references_sha256", f"got {got!r}, expected 64 digits of 0 to 9 and a to f")
    for key, address in {"url": url, "references_url": references.get("references_url", url)}.items():
        if not re.match(r"https?://", address):
            table.fail(key, f"got {address!r}, expected an address that begins with https:// or http://")
    return Archive(
        short_name=short_name,
        url=url,
        frames=table.ranges("frames", upper=_MOST["frame"], closed=True),
        time_frame=table.get("time_frame", int, positive=True),
        time=table.time("time"),
        **references,
    )


def _build_detector(table):
    rows, columns = table.array("raw_shape", (2,), kind=int, positive=True, upper=_MOST["pixels"]).tolist()
    split = table.get("split_column", int, positive=True)
    if split >= columns:
        table.fail("split_column", f"got {split}, expected less than the {columns} columns of a raw frame")
    blank = table.ranges("blank_columns", 2, upper=columns)
    active = table.ranges("active_columns", 2, upper=columns)
    for key, (left, right) in {"blank_columns": blank, "active_columns": active}.items():
        if left[1] > split or right[0] < split:
            table.fail(key, f"got {[left, right]}, expected one range on each side of column {split}")
    fano = table.get("fano_factor", float)
    if not 0 <= fano < 1:
        table.fail("fano_factor", f"got {fano}, expected 0 to 1")
    stray = table.get("stray_light_rows", int)
    if not 0 <= stray <= rows // 2:
        table.fail("stray_light_rows", f"got {stray}, expected 0 to {rows // 2}")
    return Detector(
        raw_shape=(rows, columns),
        split_column=split,
        blank_columns=blank,
        active_columns=active,
        flip_y=table.get("flip_y", bool),
        saturation=table.get("saturation", float, positive=True),
        pixel_scale=table.array("pixel_scale", (2,), positive=True) * u.arcsec,
        dispersion=table.quantity("dispersion", "Angstrom"),
        energy_per_electron=table.quantity("energy_per_electron", "eV"),
        fano_factor=fano,
        read_noise=table.get("read_noise", float, positive=True),
        psf_fwhm=table.get("psf_fwhm", float, positive=True),
        stray_light_rows=stray,
        charge_spread=_build_spread(table),
        typical_signal=table.quantity("typical_signal", "electron").value if table.has("charge_spread") else 0.0,
    )


def _build_spread(table):
    if not table.has("charge_spread"):
        return ()
    rows = table.array("charge_spread", (None, 2))
    parts, widths = rows.T
    if (parts <= 0).any() or (widths < 0).any() or (widths > 10).any() or abs(parts.sum() - 1) > 1e-6:
        expected = "parts of the charge that add up to 1, each with a width of 0 to 10 pixels"
        table.fail("charge_spread", f"got {rows.tolist()}, expected {expected}")
    return tuple(map(tuple, rows.tolist()))


def _build_line(table, detector):
    columns = None
    if table.has("columns"):
        columns = tuple(table.array("columns", (2,), kind=int).tolist())
        if not 0 <= columns[0] < columns[1] <= detector.shape[1]:
            table.fail("columns", f"got {columns}, expected a range of the {detector.shape[1]} active columns")
    return Line(
        name=table.get("name", str),
        wavelength=table.quantity("wavelength", "Angstrom"),
        intensity=table.get("intensity", float, positive=True),
        columns=columns,
        reference=_build_passband(table.table("reference")) if table.has("reference") else None,
    )


def _build_passband(table):
    return Passband(
        name=table.get("name", str),
        instrument=table.get("instrument", str),
        wavelength=table.quantity("wavelength", "Angstrom"),
    )


def _build_channel(table, outline, detector, pose_line, wavelengths, cdelt):
    angle = table.get("dispersion_angle", float) * u.deg
    poses = [_build_pose(table, wavelengths[pose_line], outline, angle, cdelt)]
    for row in table.tables("lines") if table.has("lines") else ():
        name = row.get("name", str)
        if name not in wavelengths or wavelengths[name] in [pose.wavelength for pose in poses]:
            row.fail("name", f"got {name!r}, expected another of the lines {', '.join(wavelengths)}")
        poses.append(_build_pose(row, wavelengths[name], outline, angle, cdelt))
    slope = table.get("vignetting_slope", float)
    if not -1 < slope < 1:
        table.fail("vignetting_slope", f"got {slope}, expected -1 to 1")
    collection = table.get("charge_collection", float, default=1.0)
    if not 0 < collection <= 1:
        table.fail("charge_collection", f"got {collection}, expected more than 0 and up to 1")
    return Channel(
        number=table.get("number", int, positive=True),
        camera=table.get("camera", str),
        serial=table.get("serial", int),
        dispersion_angle=angle,
        gain=_build_gain(table),
        bad_columns=table.ranges("bad_columns", upper=detector.shape[1], default=()),
        poses=tuple(poses),
        vignetting_slope=slope,
        charge_collection=collection,
    )


def _build_gain(table):
    given = table.get("gain", object, default={})
    if isinstance(given, list):
        form = ", ".join(f"{name} = ..." for name in ByQuadrant._fields)
        table.fail("gain", f"got the list {given}, whose order is not known, expected gain = {{ {form} }}, x first")
    gain = table.table("gain")
    if unknown := sorted(set(given) - set(ByQuadrant._fields)):
        gain.fail(unknown[0], f"got a key that is no quadrant, expected {', '.join(ByQuadrant._fields)}")
    return ByQuadrant(**{name: gain.get(name, float, positive=True) for name in ByQuadrant._fields})


def _build_pose(table, wavelength, outline, angle, cdelt):
    center = table.array("center", (2,))
    matrix = table.array("matrix", (2, 2))
    if abs(np.linalg.det(matrix)) < 1e-6:
        table.fail("matrix", f"got {matrix.tolist()}, expected a matrix that can be inverted")
    # The direction on the sky of the detector's x, along which wavelength increases.
    x, y = np.linalg.inv(matrix)[:, 0] * cdelt
    found = np.arctan2(y, x) * u.rad
    if abs(Angle(found - angle).wrap_at(180 * u.deg)) > _NEAR:
        text = f"got {matrix.tolist()}, whose x points to {found.to_value(u.deg):.1f} degrees"
        table.fail("matrix", f"{text}, expected about the dispersion_angle of {angle.value:g}")
    stop = table.array("field_stop", (len(outline), 2)) if table.has("field_stop") else center + outline
    stop.setflags(write=False)
    return LinePose(wavelength, center, matrix, stop)
