"""The true places of everything in a simulated flight."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

import astropy.constants as const
import astropy.units as u

from esis_ndcube.flight import Flight, Line
from esis_ndcube.flight.instrument import line_key
from esis_ndcube.simulate.config import SimulationConfig
from esis_ndcube.utils.arrays import plain_arrays

__all__ = ["ExplosiveEvent", "Truth", "find_line"]

# Plane waves of the velocity field: number, and range of their wavelength in field widths.
_WAVES = 6
_WAVELENGTHS = 0.4, 1.2


def find_line(flight, line):
    """
    A line of a flight, including contaminants.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `str` or `~esis_ndcube.flight.Line`, optional
        The line; the flight's pose line by default.

    Returns
    -------
    `~esis_ndcube.flight.Line`
        The line.

    Raises
    ------
    ValueError
        If the flight has no such line.
    """
    if isinstance(line, Line):
        return line
    wanted = line_key(line or flight.pose_line)
    for known in flight.lines:
        if line_key(known.name) == wanted:
            return known
    msg = f"unknown line {line!r}: flight {flight.name} shows {', '.join(known.name for known in flight.lines)}"
    raise ValueError(msg)


@dataclass(frozen=True)
class ExplosiveEvent:
    """
    A compact brightening with Doppler-shifted wings.

    Attributes
    ----------
    position : `tuple` of `float`
        Output-grid pixel (x, y) of the event.
    strength : `tuple` of `float`
        Photons of the whole event in each exposure, in the pose line and before vignetting.
    shifts : `tuple` of `float`
        Displacements of the components along the dispersion, in detector pixels.
    shares : `tuple` of `float`
        Share of each component in the photons.
    width : `float`
        Gaussian width (sigma) in detector pixels.

    Examples
    --------
    >>> from esis_ndcube.simulate import ExplosiveEvent
    >>> event = ExplosiveEvent((697, 526), strength=(2e4, 1e4), shifts=(-4, 0, 4), shares=(0.2, 0.5, 0.3), width=1.2)
    >>> event.strength[0] * event.shares[1]
    10000.0
    """

    position: tuple[float, float]
    strength: tuple[float, ...]
    shifts: tuple[float, ...]
    shares: tuple[float, ...]
    width: float


@dataclass(frozen=True, eq=False)
class Truth:
    """
    True geometry and brightness of a simulated flight.

    The map from the output grid to a detector is the flight's starting pose, seen through the drift and the
    roll of the exposure, plus a distortion that is fixed in the channel: a polynomial of the grid's pixels.
    Doppler shifts move features, not coordinates, and are left out unless ``doppler=True`` asks for the
    smooth velocity field.

    Attributes
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    config : `SimulationConfig`
        The ingredients.
    frame_numbers : `tuple` of `int`
        Raw frame numbers of the exposures.
    seed : `int`
        Seed of the random numbers.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.simulate import simulate_flight
    >>> truth = simulate_flight(ESIS_1, size="small").truth
    >>> u, v = truth.to_detector(124, 2, 100.0, 200.0)
    >>> x, y = truth.to_grid(124, 2, u, v)
    >>> print(x.round(6), y.round(6))
    100.0 200.0
    """

    flight: Flight
    config: SimulationConfig
    frame_numbers: tuple[int, ...]
    seed: int

    def _rng(self, name):
        return np.random.default_rng([self.seed, 1, *name.encode()])

    @cached_property
    def _phase(self):
        """Time of the exposures since the pose frame, in units of all light frames of the flight."""
        total = sum(last - first + 1 for first, last in self.flight.light_frames)
        return (np.array(self.frame_numbers) - self.flight.pose_frame) / total

    @cached_property
    def shift(self):
        """Shift of the Sun (`numpy.ndarray`, shape (time, channel, 2)), along solar x and y in arcsec."""
        config, rng, phase = self.config, self._rng("shift"), self._phase
        channels = len(self.flight.channels)
        drift = phase[:, None] * config.drift.to_value(u.arcsec)
        jitter = 0.01 * config.drift.to_value(u.arcsec) * rng.standard_normal((len(phase), 2))
        rate, offset = rng.uniform(1, 2, (channels, 2)), rng.uniform(0, 2 * np.pi, (channels, 2))
        own = np.cos(2 * np.pi * rate * phase[:, None, None] + offset) * config.channel_drift.to_value(u.arcsec)
        error = config.pose_error.to_value(u.arcsec) * rng.standard_normal((channels, 2))
        return (drift + jitter)[:, None] + own + error

    @cached_property
    def roll(self):
        """Roll of the Sun on the grid (`numpy.ndarray`, shape (time,)), counter-clockwise in radian."""
        return self._rng("roll").standard_normal(len(self.frame_numbers)) * self.config.roll.to_value(u.rad)

    @cached_property
    def distortion(self):
        """
        Distortion of the channels (`numpy.ndarray`, shape (channel, 2, 7)) in detector pixels.

        Axis 1 is (u, v), axis 2 the factors of s**2, s t, t**2, s**3, s**2 t, s t**2, t**3, with s and t the
        distance on the sky from the center of the field stop, along solar x and y, in its half widths.
        """
        draw = self._rng("distortion").uniform(0.3, 1.0, (len(self.flight.channels), 2, 7))
        sign = np.sign(self._rng("distortion sign").uniform(-1, 1, draw.shape))
        return draw * sign * np.repeat([self.config.distortion, self.config.cubic_distortion], [3, 4])

    @cached_property
    def extinction(self):
        """Transmission of the atmosphere (`numpy.ndarray`, shape (time,))."""
        count = len(self.frame_numbers)
        if not self.config.extinction:
            return np.ones(count)
        total = sum(last - first + 1 for first, last in self.flight.light_frames)
        # A short run in the middle of the flight is dimmed less, and only at its very ends.
        share, decay = np.sqrt(count / total), max(0.35, count / 15)
        index = np.arange(count)
        first, last = ((1 - value) * share for value in self.config.extinction)
        return (1 - first * np.exp(-index / decay)) * (1 - last * np.exp(-(count - 1 - index) / decay))

    def focus(self, channel, line=None):
        """
        The place on the detector where the optics do not blur a line's image.

        Parameters
        ----------
        channel : `int`
            Channel number.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            The line, by default the flight's pose line.

        Returns
        -------
        `numpy.ndarray`
            Detector pixel (u, v), inside the field stop.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> simulated.truth.focus(1).shape
        (2,)
        """
        stop = self.flight.field_stop(channel, find_line(self.flight, line))
        away = self._rng("focus").uniform(-0.4, 0.4, (len(self.flight.channels), 2))[channel - 1]
        return stop.mean(axis=0) + away * np.ptp(stop, axis=0) / 2

    def vignetting_slope(self, channel):
        """
        True slope of a channel's vignetting.

        Parameters
        ----------
        channel : `int`
            Channel number.

        Returns
        -------
        `float`
            The slope; 0 if vignetting is switched off.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> simulated.truth.vignetting_slope(1)
        0.436
        """
        return self.flight.channel(channel).vignetting_slope if self.config.vignetting else 0.0

    @plain_arrays("x")
    def vignetting(self, channel, x, *, line=None):
        """
        True vignetting: the data are the Sun times this factor.

        Parameters
        ----------
        channel : `int`
            Channel number.
        x : `numpy.ndarray`
            Detector pixels.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            The line, by default the flight's pose line.

        Returns
        -------
        `numpy.ndarray`
            The factor, of the shape of ``x``.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> bool((simulated.truth.vignetting(1, [150.0, 230.0]) > 1).all())
        True
        """
        flight = self.flight
        stop = flight.field_stop(channel, find_line(flight, line))[:, 0]
        scale = flight.detector.pixel_scale[0].to_value(u.arcsec)
        zero, width = (q.to_value(u.arcsec) for q in (flight.vignetting_zero, flight.vignetting_width))
        r = ((stop.min() + stop.max()) / 2 - np.asarray(x)) * scale
        return 1 + self.vignetting_slope(channel) * (r + zero) / width

    @cached_property
    def _waves(self):
        rng = self._rng("velocity")
        width = self.flight.field_stop_width.to_value(u.arcsec)
        k = 2 * np.pi / (rng.uniform(*_WAVELENGTHS, _WAVES) * width)
        angle = rng.uniform(0, 2 * np.pi, _WAVES)
        return k * np.cos(angle), k * np.sin(angle), rng.uniform(0, 2 * np.pi, _WAVES)

    @plain_arrays("x", "y")
    def velocity(self, x, y):
        """
        The smooth velocity field, away from the observer.

        Parameters
        ----------
        x, y : `numpy.ndarray`
            Output-grid pixels.

        Returns
        -------
        `~astropy.units.Quantity`
            Velocity in km/s, of the shape of ``x``; never above the configured limit.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> simulated.truth.velocity(80.0, 80.0).unit
        Unit("km / s")
        """
        return self._speed(x, y) * u.km / u.s

    def _speed(self, x, y):
        sx, sy = self._arcsec(x, y)
        kx, ky, phase = self._waves
        waves = sum(np.cos(a * sx + b * sy + c) for a, b, c in zip(kx, ky, phase, strict=True))
        return waves * (self.config.velocity.to_value(u.km / u.s) / _WAVES)

    @plain_arrays("x", "y")
    def doppler_shift(self, x, y, *, line=None):
        """
        Displacement along the dispersion by the smooth velocity field.

        Parameters
        ----------
        x, y : `numpy.ndarray`
            Output-grid pixels.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            The line, by default the flight's pose line.

        Returns
        -------
        `numpy.ndarray`
            Detector pixels, positive toward larger u.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> bool(abs(simulated.truth.doppler_shift(80.0, 80.0)) < 0.3)
        True
        """
        return self._speed(x, y) * self._pixels_per_speed(find_line(self.flight, line))

    def _pixels_per_speed(self, line):
        return (line.wavelength / const.c / self.flight.detector.dispersion).to_value(u.s / u.km)

    @plain_arrays("x", "y")
    def to_detector(self, frame_number, channel, x, y, *, line=None, doppler=False):
        """
        Detector pixels of output-grid pixels.

        Parameters
        ----------
        frame_number : `int`
            Raw frame number.
        channel : `int`
            Channel number.
        x, y : `float` or `numpy.ndarray`
            Output-grid pixels, 0-based centers.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            The line, by default the flight's pose line.
        doppler : `bool`, optional
            Whether to add the displacement by the smooth velocity field.

        Returns
        -------
        u, v : `numpy.ndarray`
            Pixels of the active detector area, 0-based centers, of the shape of ``x``.

        Raises
        ------
        ValueError
            If the frame, channel or line is not of this flight.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> column, row = simulated.truth.to_detector(124, 2, 80.0, 80.0)
        >>> float(column.round()), float(row.round())
        (194.0, 62.0)
        """
        return self._map(frame_number, channel, line, doppler)(np.asarray(x, dtype=float), np.asarray(y, dtype=float))

    def _map(self, frame_number, channel, line, doppler):
        """The function that `to_detector` is for one image of one line."""
        time, index = self._index(frame_number), channel - 1
        line = find_line(self.flight, line)
        pose = self.flight.pose(channel, line)
        cos, sin = np.cos(self.roll[time]), np.sin(self.roll[time])
        shift = self.shift[time, index]
        cx, cy = self._center[index]
        half = self.flight.field_stop_width.to_value(u.arcsec) / 2
        pixels_per_speed = self._pixels_per_speed(line) if doppler else None

        def to_detector(x, y):
            sx, sy = self._arcsec(x, y)
            sx, sy = cos * sx - sin * sy + shift[0], sin * sx + cos * sy + shift[1]
            ix, iy = self._pixels(sx, sy)
            s, t = (sx - cx) / half, (sy - cy) / half
            terms = (s * s, s * t, t * t, s * s * s, s * s * t, s * t * t, t * t * t)
            column, row = (
                pose[axis, 0] * ix
                + pose[axis, 1] * iy
                + pose[axis, 2]
                + sum(factor * term for factor, term in zip(self.distortion[index, axis], terms, strict=True))
                for axis in (0, 1)
            )
            return (column + self._speed(x, y) * pixels_per_speed if doppler else column), row

        return to_detector

    @plain_arrays("column", "row")
    def to_grid(self, frame_number, channel, column, row, *, line=None, doppler=False):
        """
        Output-grid pixels of detector pixels: the inverse of `to_detector`.

        Parameters
        ----------
        frame_number, channel : `int`
            Raw frame number and channel number.
        column, row : `float` or `numpy.ndarray`
            Pixels of the active detector area, as `to_detector` returns them.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            As for `to_detector`.
        doppler : `bool`, optional
            As for `to_detector`.

        Returns
        -------
        x, y : `numpy.ndarray`
            Output-grid pixels, within 1e-9 pixels.

        Raises
        ------
        ValueError
            As for `to_detector`, and if the distortion is too strong to be inverted.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> x, y = simulated.truth.to_grid(124, 2, *simulated.truth.to_detector(124, 2, 80.0, 70.0))
        >>> float(x.round(6)), float(y.round(6))
        (80.0, 70.0)
        """
        column, row = np.broadcast_arrays(np.asarray(column, dtype=float), np.asarray(row, dtype=float))
        known = np.isfinite(column) & np.isfinite(row)
        to_detector = self._map(frame_number, channel, line, doppler)
        pose = self.flight.pose(channel, find_line(self.flight, line))
        inverse = np.linalg.inv(pose[:, :2])
        x, y = np.tensordot(inverse, np.stack([column - pose[0, 2], row - pose[1, 2]]), axes=1)
        # The map is nearly its own linear part, so that steps with that part alone converge fast.
        for _ in range(60):
            at = to_detector(x, y)
            dx, dy = np.tensordot(inverse, np.stack([column - at[0], row - at[1]]), axes=1)
            x, y = x + dx, y + dy
            if (np.maximum(np.abs(dx), np.abs(dy))[known] < 1e-10).all():
                return x, y
        msg = "the simulated distortion cannot be inverted: use less of it"
        raise ValueError(msg)

    @cached_property
    def event(self):
        """The explosive event (`ExplosiveEvent`), or None if switched off."""
        if not self.config.event:
            return None
        rng = self._rng("event")
        half = self.flight.field_stop_width.to_value(u.arcsec) / 2
        radius, angle = rng.uniform(0.15, 0.45) * half, rng.uniform(0, 2 * np.pi)
        center = self._center.mean(axis=0)
        position = self._pixels(center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle))
        # It lasts over the middle third of the exposures: of four exposures, the middle two.
        index = np.arange(len(self.frame_numbers)) - (len(self.frame_numbers) - 1) / 2
        strength = np.exp(-0.5 * (index / (len(self.frame_numbers) / 8)) ** 2)
        strength[strength < 0.1] = 0
        strength /= strength.max()
        scale = self.config.event
        return ExplosiveEvent(
            position=tuple(float(value) for value in position),
            strength=tuple((1800 * self.config.brightness * strength).tolist()),
            shifts=tuple(scale * np.array([-0.7, -0.35, 0.0, 0.5, 1.0])),
            shares=(0.1, 0.15, 0.25, 0.25, 0.25),
            width=2.2,
        )

    def _index(self, frame_number):
        if frame_number not in self.frame_numbers:
            msg = f"unknown frame {frame_number!r}: the simulated exposures are {self.frame_numbers}"
            raise ValueError(msg)
        return self.frame_numbers.index(frame_number)

    @cached_property
    def _center(self):
        """Place on the Sun in the center of the field stop in the starting pose, in arcsec, shape (channel, 2)."""
        centers = []
        for channel in self.flight.channels:
            pose = self.flight.pose(channel.number)
            pixel = np.linalg.solve(pose[:, :2], channel.field_stop.mean(axis=0) - pose[:, 2])
            centers.append(self._arcsec(*pixel))
        return np.array(centers)

    def _arcsec(self, x, y):
        flight = self.flight
        return tuple(
            crval + (np.asarray(value) + 1 - crpix) * cdelt
            for value, crval, crpix, cdelt in zip(
                (x, y), flight.grid_crval, flight.grid_crpix, flight.grid_cdelt, strict=True
            )
        )

    def _pixels(self, sx, sy):
        flight = self.flight
        return tuple(
            (value - crval) / cdelt + crpix - 1
            for value, crval, crpix, cdelt in zip(
                (sx, sy), flight.grid_crval, flight.grid_crpix, flight.grid_cdelt, strict=True
            )
        )
