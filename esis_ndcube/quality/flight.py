"""Errors of a flight file that show without any frame."""

from dataclasses import dataclass

import numpy as np

import astropy.units as u
from astropy.coordinates import Angle

from esis_ndcube.field_stop import distance_inside, overlapping_lines
from esis_ndcube.flight import Flight, FlightError
from esis_ndcube.flight.instrument import NOT_MEASURED
from esis_ndcube.level3.form import image_size

__all__ = ["FlightCheck", "check_flight"]

# Design and distortion change the scale of a pose by a few per cent, and the dispersion by less.
_NEAR = 0.1
# A Gaussian (sigma, in pixels of the grid) below this is not sampled.
_SAMPLED = 0.5
# The filter removes what is wider than its wide Gaussian, which must leave something of the field.
_WIDEST = 1 / 4
# Channels whose dispersions differ by less than this many degrees cannot tell velocities from shifts.
_APART = 5
# Measured with the first flight by benchmarks/flight_time.py and scale.py (two threads): processor time for a pixel of
# an image of the grid, and memory for a pixel of the grid and one of the detector.
_SECONDS = 1.4 / 1270**2
_BYTES = 1.1e9 / (1270**2 + 1040 * 2048)


@dataclass(frozen=True)
class FlightCheck:
    """
    The result of one check of a flight file.

    Attributes
    ----------
    name : `str`
        Name of the check.
    status : `str`
        ``"ok"``, ``"fault"`` or ``"not known"``.
    text : `str`
        The finding, and how to mend a fault.

    Examples
    --------
    >>> from esis_ndcube.quality import FlightCheck
    >>> print(FlightCheck("parity", "ok", "no pose is mirrored"))
    ok         parity: no pose is mirrored
    """

    name: str
    status: str
    text: str

    def __str__(self):
        return f"{self.status:9}  {self.name}: {self.text}"


def check_flight(path):
    """
    Look for errors in a flight file, without any frame.

    The simulator uses the flight file too, so a rehearsal does not find an error that the file agrees with itself on,
    for example poses that are all mirrored. The checks compare the entries with one another and with the conventions of
    :ref:`flight-file`.

    Parameters
    ----------
    path : path-like or `~esis_ndcube.Flight`
        A flight file, or a flight.

    Returns
    -------
    `tuple` of `FlightCheck`
        One for each check. If the file cannot be understood there is one only, which names the entry.

    Raises
    ------
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.quality import check_flight
    >>> checks = check_flight(ESIS_1)
    >>> any(check.status == "fault" for check in checks)
    False
    >>> print(checks[2])
    ok         parity: no pose is mirrored
    """
    try:
        flight = path if isinstance(path, Flight) else Flight.read(path)
    except FlightError as error:
        return (FlightCheck("entries", "fault", f"{error}; the other checks need a file without such errors"),)
    found = [FlightCheck("entries", "ok", "every key is known, and every value is possible on its own")]
    for name, check in _CHECKS.items():
        status, text = check(flight)
        found.append(FlightCheck(name, status, text))
    return tuple(found)


def _judge(faults, text):
    return ("fault", "; ".join(faults)) if faults else ("ok", text)


def _poses(flight):
    """The channels and their poses in the lines that cubes are formed of."""
    for channel in flight.channels:
        for line in flight.formable_lines:
            yield (
                f"channel {channel.number} in {line}",
                channel,
                flight.line(line),
                flight.line_pose(channel.number, line),
            )


def _angles(flight):
    angles = u.Quantity([channel.dispersion_angle for channel in flight.channels])
    # A file with angles that are far from the poses is refused when it is read.
    directions = [np.linalg.inv(channel.matrix)[:, 0] * flight.grid_cdelt for channel in flight.channels]
    found = Angle([np.arctan2(y, x) for x, y in directions] * u.rad)
    largest = abs((found - angles).wrap_at(180 * u.deg)).max()
    spread = abs(Angle(angles - angles[0]).wrap_at(180 * u.deg)).max()
    faults = []
    if len(angles) > 1 and spread < _APART * u.deg:
        faults = [
            f"all channels disperse along {angles[0].value:g} degrees, expected directions that differ: correct "
            "dispersion_angle and matrix of each channel"
        ]
    return _judge(faults, f"poses and dispersion_angle agree to {largest.to_value(u.deg):.1f} degrees")


def _parity(flight):
    wrong = [name for name, _, _, pose in _poses(flight) if np.linalg.det(pose.matrix) < 0]
    every = len(wrong) == sum(1 for _ in _poses(flight))
    mirrored = "every pose" if every else ", ".join(wrong)
    faults = [
        f"{mirrored} is mirrored, expected u, v to turn in the sense of x, y (a matrix with a positive determinant): "
        "change the sign of the second row of the matrix, and flip_y if the frames are mirrored"
    ]
    return _judge(faults if wrong else [], "no pose is mirrored")


def _scale(flight):
    ratio = np.array(
        [
            np.hypot(*(pose.matrix / flight.grid_cdelt).T) * flight.detector.pixel_scale.value
            for _, _, _, pose in _poses(flight)
        ]
    )
    faults = [
        f"{name} has {u_size:.3f} x {v_size:.3f} of the scale of pixel_scale and cdelt, expected 1 x 1 to "
        f"{_NEAR:.0%}: correct matrix, pixel_scale or cdelt"
        for (name, *_), (u_size, v_size) in zip(_poses(flight), ratio, strict=True)
        if abs(np.log([u_size, v_size])).max() > _NEAR
    ]
    return _judge(faults, f"poses and pixel_scale agree to {abs(ratio - 1).max():.1%}")


def _dispersion(flight):
    ratios = {}
    for channel in flight.channels:
        first, *rest = channel.poses
        for pose in rest:
            expected = ((pose.wavelength - first.wavelength) / flight.detector.dispersion).to_value(u.one)
            ratios[channel.number] = (pose.center[0] - first.center[0]) / expected
    if not ratios:
        return "not known", "no channel has a pose in two lines, which would show an error of dispersion"
    faults = [
        f"the lines of channel {number} lie {ratio:.3f} of the distance apart that dispersion gives, expected 1 to "
        f"{_NEAR:.0%}: correct dispersion, wavelength or center"
        for number, ratio in ratios.items()
        if abs(ratio - 1) > _NEAR
    ]
    return _judge(faults, f"lines lie as dispersion says to {max(abs(r - 1) for r in ratios.values()):.1%}")


def _stop_on_detector(flight):
    rows, columns = flight.detector.shape
    faults, lost = [], 0
    for name, _, line, pose in _poses(flight):
        size = np.ptp(pose.field_stop, axis=0)
        if _area(pose.field_stop) <= 0:
            faults.append(f"the vertices of {name} run clockwise, expected counter-clockwise: reverse their order")
        if size[0] > columns or size[1] > rows:
            faults.append(
                f"the field stop of {name} is {size[0]:.0f} x {size[1]:.0f} pixels, expected at most the detector, "
                f"{columns} x {rows}: correct field_stop or pixel_scale"
            )
        first, stop = line.columns
        middle = pose.field_stop.mean(axis=0)
        if not (first <= middle[0] < stop and 0 <= middle[1] < rows):
            faults.append(
                f"the middle of the field stop of {name} is at {middle.round().tolist()}, expected in rows 0 to {rows} "
                f"and the line's columns {first} to {stop}: correct center or columns"
            )
        lost = max(lost, *(-pose.field_stop.min(axis=0)), *(pose.field_stop.max(axis=0) - (columns, rows)))
    end = f"; it reaches {lost:.0f} pixels beyond, and the light there is lost" if lost > 0.5 else ""
    return _judge(faults, f"the field stop is smaller than the detector{end}")


def _stop_in_grid(flight):
    size = np.array(flight.grid_shape[::-1])
    outer = [[-0.5, -0.5], [size[0] - 0.5, -0.5], size - 0.5, [-0.5, size[1] - 0.5]]
    faults, room = [], np.inf
    for name, _, _, pose in _poses(flight):
        # Corners may be cut; sides may not.
        sides = (pose.field_stop + np.roll(pose.field_stop, -1, axis=0)) / 2
        x, y = np.linalg.solve(pose.matrix, (sides - pose.center).T) + np.array(flight.pose_pivot)[:, None]
        left = distance_inside(outer, x, y).min() * min(flight.grid_cdelt)
        room = min(room, left)
        if left < 0:
            faults.append(
                f"the field stop of {name} reaches {-left:.1f} arcsec beyond the grid, expected it inside: correct "
                "[grid], [pose] or [field_stop]"
            )
    return _judge(
        faults, f"sides of the field stop keep {room:.1f} arcsec from the edge, for the drift of the pointing"
    )


def _lines(flight):
    faults, mixed = [], []
    formable = [flight.line(name) for name in flight.formable_lines]
    for index, line in enumerate(formable):
        # Each pair is told once.
        later = {other.name for other in formable[index + 1 :]}
        others = overlapping_lines(flight, line)
        both = [other.name for other in others if other.name in later]
        if both:
            faults.append(
                f"the field stops of {line.name} and {', '.join(both)} overlap on the detector, expected lines with "
                "columns apart: correct wavelength, dispersion or the width of the field stop"
            )
        both = [other.name for other in formable[index + 1 :] if _share(other.columns, line.columns)]
        if both:
            faults.append(f"the columns of {line.name} and {', '.join(both)} overlap, expected ranges apart")
        contaminants = [other.name for other in others if not other.columns]
        mixed.append(f"{line.name} is mixed with {', '.join(contaminants) or 'no other line'}")
    return _judge(faults, "; ".join(mixed))


def _sampling(flight):
    pixel, width = max(flight.grid_cdelt), flight.field_stop_width.value
    fine, coarse = flight.registration_widths.value
    detector = flight.detector.pixel_scale.value
    faults = []
    if fine < _SAMPLED * pixel:
        faults.append(f"registration.fine is {fine / pixel:.2f} pixels of the grid, expected at least {_SAMPLED}")
    if coarse > _WIDEST * width:
        faults.append(f"registration.coarse is {coarse:g} arcsec, expected at most a quarter of the field stop")
    if pixel > detector.max():
        faults.append(
            f"a pixel of the grid is {pixel:g} arcsec, expected at most that of the detector, {detector.max():g}"
        )
    text = f"the filter is {fine / pixel:.2f} and {coarse / pixel:.2f} pixels wide (sigma); a detector pixel has "
    return _judge(faults, text + f"{detector[0] / pixel:.2f} x {detector[1] / pixel:.2f} pixels of the grid")


def _counts(flight):
    gain = np.mean([channel.gain for channel in flight.channels])
    electrons = flight.electrons_per_photon(flight.pose_line).value
    detector = flight.detector
    noise = detector.read_noise * gain / electrons
    text = f"a photon of {flight.pose_line} gives {electrons / gain:.2f} DN, read noise is {noise:.2f} photons"
    if noise > 1:
        text += " and rules below about that many squared"
    full = detector.saturation * gain
    if not detector.typical_signal:
        return "not known", f"{text}; without typical_signal the counts of the quiet Sun are not known"
    text += f", the quiet Sun {detector.typical_signal / electrons:.1f} photons of {full / electrons:.0f} at saturation"
    faults = [
        f"typical_signal is {detector.typical_signal:g} electrons, expected less than saturation, {full:.0f}: correct "
        "typical_signal, gain or saturation"
    ]
    return _judge(faults if detector.typical_signal >= full else [], text)


def _volume(flight):
    light, dark = (_count(ranges) for ranges in (flight.light_frames, flight.dark_frames))
    channels = len(flight.channels)
    raw = (light + dark) * channels * np.prod(flight.detector.raw_shape) * 2
    level3 = light * channels * image_size(flight)
    text = (
        f"{light} exposures and {dark} darks of {channels} channels: {raw / 1e9:.2f} GB of raw frames, "
        f"{level3 / 1e9:.2f} GB of Level 3 for each line"
    )
    return "ok", text


def _effort(flight):
    grid = int(np.prod(flight.grid_shape))
    seconds = _count(flight.light_frames) * len(flight.channels) * grid * _SECONDS
    memory = (grid + np.prod(flight.detector.shape)) * _BYTES
    return "ok", (
        f"about {seconds / 60:.1f} minutes of processor time and {memory / 1e9:.1f} GB of memory with two threads for "
        "each line, scaled from the first flight"
    )


def _measured(flight):
    if not flight.not_measured:
        return "ok", "no entry is said to be nominal"
    return "not known", "; ".join(f"{name}: {NOT_MEASURED[name]}" for name in flight.not_measured)


def _sky(flight):
    return "not known", (
        "only frames show whether each number belongs to that channel, camera and gain, and whether x grows to the west"
    )


def _area(vertices):
    x, y = np.asarray(vertices).T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def _share(one, other):
    return one[0] < other[1] and other[0] < one[1]


def _count(ranges):
    return sum(last - first + 1 for first, last in ranges)


_CHECKS = {
    "dispersion angles": _angles,
    "parity": _parity,
    "scale": _scale,
    "dispersion": _dispersion,
    "field stop on the detector": _stop_on_detector,
    "field stop in the grid": _stop_in_grid,
    "lines": _lines,
    "sampling": _sampling,
    "counts": _counts,
    "data volume": _volume,
    "time and memory": _effort,
    "not measured": _measured,
    "sky": _sky,
}
