"""A whole simulated flight: raw frames and reference images with known truth."""

import re
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

import astropy.units as u
from astropy.io import fits

from esis_ndcube.flight import ESIS_1, Flight
from esis_ndcube.simulate import camera, reference
from esis_ndcube.simulate.config import SimulationConfig
from esis_ndcube.simulate.files import write_image
from esis_ndcube.simulate.scene import Sky, recipe, reference_recipe
from esis_ndcube.simulate.shrink import shrink
from esis_ndcube.simulate.truth import Truth, find_line

__all__ = ["SimulatedFiles", "SimulatedFlight", "simulate_flight"]

_SMALL = 3
_FIRST_LIGHT = 120 * u.s  # after launch
_ODD = 1.1235  # cadences


class SimulatedFiles(NamedTuple):
    """
    Files of a simulated flight.

    Attributes
    ----------
    raw : `tuple` of `pathlib.Path`
        Raw frames: darks, light frames, and frames that are neither.
    reference : `tuple` of `pathlib.Path`
        Reference images.

    Examples
    --------
    >>> from esis_ndcube.simulate import simulate_flight
    >>> files = simulate_flight(n_exposures=2, n_darks=3, size=8, missing=False).write(getfixture("tmp_path"))
    >>> len(files.raw)
    36
    """

    raw: tuple[Path, ...]
    reference: tuple[Path, ...]


@dataclass(frozen=True)
class SimulatedFlight:
    """
    A simulated flight; use `simulate_flight` to make one.

    The object holds parameters only and makes each frame on demand: the same frame every time, in any order.

    Attributes
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    config : `SimulationConfig`
        The ingredients.
    frame_numbers, dark_frame_numbers : `tuple` of `int`
        Raw frame numbers of the exposures and of the darks.
    seed : `int`
        Seed of the random numbers.
    reference_cadence : `~astropy.units.Quantity`
        Time from one reference image to the next.

    Examples
    --------
    >>> from esis_ndcube.simulate import simulate_flight
    >>> simulated = simulate_flight(n_exposures=3, size=8)
    >>> simulated.frame_numbers
    (123, 124, 125)
    >>> simulated.raw(124, 1).dtype
    dtype('uint16')
    """

    flight: Flight
    config: SimulationConfig
    frame_numbers: tuple[int, ...]
    dark_frame_numbers: tuple[int, ...]
    seed: int
    reference_cadence: u.Quantity

    def __getstate__(self):
        # Scenes are large and are made again when they are needed.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state):
        for name, value in state.items():
            object.__setattr__(self, name, value)

    @cached_property
    def truth(self):
        """The true geometry and brightness (`Truth`)."""
        return Truth(self.flight, self.config, self.frame_numbers, self.seed)

    @property
    def other_frame_numbers(self):
        """Raw frame numbers of the frames that are neither light nor darks (`tuple` of `int`)."""
        if not self.config.others:
            return ()
        light, dark = self.flight.light_frames, self.flight.dark_frames
        last = max(high for _, high in light)
        gap = range(last + 1, min((low for low, _ in dark if low > last), default=last + 2))
        return tuple(sorted({*self._before, *gap[:1], *gap[-1:]}))

    @property
    def _before(self):
        """Numbers of the two frames before all others."""
        first = min(low for low, _ in (*self.flight.light_frames, *self.flight.dark_frames))
        return range(max(0, first - 2), first)

    def exposure_time(self, frame_number):
        """
        Exposure time of a frame.

        Parameters
        ----------
        frame_number : `int`
            Raw frame number.

        Returns
        -------
        `~astropy.units.Quantity`
            The cadence, except for the first two of `other_frame_numbers`.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> [float(simulated.exposure_time(number).value) for number in (96, 97, 124)]
        [0.0, 11.235, 10.0]
        """
        factors = dict(zip(self._before, (0.0, _ODD), strict=False)) if self.config.others else {}
        return factors.get(frame_number, 1) * self.flight.cadence

    @property
    def missing(self):
        """Frame and channel of the frame that was never written (`tuple` of `int`), or None."""
        return self._fault(self.config.missing, len(self.frame_numbers) // 4, 1)

    @property
    def blank(self):
        """Frame and channel of the frame without light (`tuple` of `int`), or None."""
        return self._fault(self.config.blank, len(self.frame_numbers) - 1 - len(self.frame_numbers) // 4, 2)

    def _fault(self, wanted, exposure, turn):
        if not isinstance(wanted, bool):
            return wanted
        # One exposure alone is kept whole, and so is the reference channel.
        channels = len(self.flight.channels)
        if not wanted or len(self.frame_numbers) < 2 or channels < 2:
            return None
        return self.frame_numbers[exposure], (self.flight.reference_channel - 1 + turn) % channels + 1

    def mid_time(self, frame_number):
        """
        True middle of an exposure.

        Parameters
        ----------
        frame_number : `int`
            Raw frame number, light, dark or other.

        Returns
        -------
        `~astropy.time.Time`
            The time, UTC.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> simulated.mid_time(124).isot
        '2019-09-30T18:08:35.000'
        """
        flight = self.flight
        first = min(low for low, _ in flight.light_frames)
        middle = flight.launch + _FIRST_LIGHT + (frame_number - first + 0.5) * flight.cadence
        if frame_number not in self.other_frame_numbers:
            return middle
        # One exposure ends where the next one begins; the odd exposure ends in time.
        late = self.exposure_time(frame_number + 1) - flight.cadence if frame_number + 1 in self._before else 0 * u.s
        return middle + (flight.cadence - self.exposure_time(frame_number)) / 2 - late

    def photons(self, frame_number, channel, *, line=None):
        """
        Mean photons of a frame, without stray light.

        Parameters
        ----------
        frame_number, channel : `int`
            Raw frame number of an exposure, and channel number.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            One line only, by default all.

        Returns
        -------
        `numpy.ndarray`
            Photons per pixel of the active area, axes (y, x), rows as in Level 1.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> simulated.photons(124, 1, line="O V").shape
        (130, 256)
        """
        return self._signal(frame_number, channel, self._lines if line is None else [find_line(self.flight, line)])[0]

    def spikes(self, frame_number, channel):
        """
        Pixels hit by particles.

        Parameters
        ----------
        frame_number, channel : `int`
            Raw frame number, light, dark or other, and channel number.

        Returns
        -------
        `numpy.ndarray`
            True where hit, axes (y, x), rows as in Level 1.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> int(simulated.spikes(124, 1).sum()) > 0
        True
        """
        rows, columns, _ = camera.hits(self.truth, self._rng("hits", frame_number, channel))
        mask = np.zeros(self.flight.detector.shape, bool)
        mask[rows, columns] = True
        return mask[::-1] if self.flight.detector.flip_y else mask

    def raw(self, frame_number, channel):
        """
        A raw frame.

        Parameters
        ----------
        frame_number, channel : `int`
            Raw frame number, light, dark or other, and channel number.

        Returns
        -------
        `numpy.ndarray`
            Digital numbers, uint16, of the flight's raw shape.

        Raises
        ------
        ValueError
            If the frame or channel is not of this flight.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> simulated.raw(124, 1).shape == simulated.flight.detector.raw_shape
        True
        """
        flight, config, truth = self.flight, self.config, self.truth
        number = flight.channel(channel).number
        if frame_number not in self.frame_numbers + self.dark_frame_numbers + self.other_frame_numbers:
            msg = (
                f"unknown frame {frame_number!r}: exposures are {self.frame_numbers}, darks {self.dark_frame_numbers}, "
                f"others {self.other_frame_numbers}"
            )
            raise ValueError(msg)
        quadrants = camera.Quadrants(truth, number)
        rng = self._rng("noise", frame_number, number)
        electrons = np.zeros(flight.detector.shape, np.float32)
        if frame_number in self.frame_numbers and (frame_number, number) != self.blank:
            photons, gains = self._signal(frame_number, number, self._lines, stray=config.stray_light)
            electrons = camera.signal_electrons(truth, number, photons, gains, rng)
        if flight.detector.flip_y:
            electrons = electrons[::-1].copy()
        rows, columns, energy = camera.hits(truth, self._rng("hits", frame_number, number))
        np.add.at(electrons, (rows, columns), energy.astype(np.float32))
        return camera.read_out(quadrants, electrons, rng)

    def header(self, frame_number, channel):
        """
        Header of a raw frame, with the flight's own keywords.

        Parameters
        ----------
        frame_number, channel : `int`
            Raw frame number and channel number.

        Returns
        -------
        `~astropy.io.fits.Header`
            The header.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> simulated.header(124, 1)["ORIGIN"]
        'esis_ndcube.simulate'
        """
        flight, files = self.flight, self.flight.files
        half = {"start": -0.5, "middle": 0.0, "end": 0.5}[flight.time_stamp] * self.exposure_time(frame_number)
        stamp = self.mid_time(frame_number) + half - flight.clock_offset
        header = fits.Header()
        header[files.time] = stamp.isot + "Z", "Image Timestamp"
        header[files.camera] = flight.channel(channel).camera, "Camera ID"
        header[files.frame] = frame_number, "Image Sequence Number"
        for keyword, unit in (
            (files.exposure, files.exposure_unit),
            (files.measured_exposure, files.measured_exposure_unit),
        ):
            header[keyword] = round((self.exposure_time(frame_number) / unit).to_value(u.one))
        header["ORIGIN"] = "esis_ndcube.simulate", "Not a real flight"
        return header

    @property
    def reference_times(self):
        """Times of the reference images, around all exposures (`~astropy.time.Time`)."""
        first, last = self.mid_time(self.frame_numbers[0]), self.mid_time(self.frame_numbers[-1])
        cadence = self.reference_cadence
        count = int(np.ceil(((last - first) / cadence).to_value(u.one))) + 2
        return first + (np.arange(count) - 0.6) * cadence

    def reference(self, index, line=None):
        """
        A reference image.

        Parameters
        ----------
        index : `int`
            Index into `reference_times`.
        line : `str`, optional
            The line that is aligned with the image; by default the flight's pose line.

        Returns
        -------
        data : `numpy.ndarray`
            The image in DN, axes (y, x).
        header : `~astropy.io.fits.Header`
            A header that `sunpy.map.Map` understands.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> data, header = simulated.reference(0)
        >>> header["CTYPE1"]
        'HPLN-TAN'
        """
        time = self.reference_times[index]
        line = self.flight.line(line or self.flight.pose_line)
        chosen = reference_recipe(self.flight, line)
        passband = self.flight.line_reference(line)
        scene = self._scene(chosen, time)
        return reference.image(self.truth, self._sky, scene, time, self._rng(chosen.name, index), passband)

    def write(self, directory, *, overwrite=False):
        """
        Write raw frames and reference images.

        Parameters
        ----------
        directory : path-like
            Where to write; frames go to ``raw`` and reference images to ``reference`` in it.
        overwrite : `bool`, optional
            Whether to replace files that exist.

        Returns
        -------
        `SimulatedFiles`
            The paths.

        Raises
        ------
        FileExistsError
            If a file exists and may not be replaced; nothing is written then.

        Examples
        --------
        >>> from esis_ndcube.simulate import simulate_flight
        >>> simulated = simulate_flight(n_exposures=2, size=8)
        >>> files = simulated.write("simulated")  # doctest: +SKIP
        """
        directory, flight = Path(directory), self.flight
        raw = {
            (frame_number, channel.number): directory
            / "raw"
            / flight.files.pattern.format(channel=channel.number, frame=frame_number)
            for frame_number in sorted(self.dark_frame_numbers + self.frame_numbers + self.other_frame_numbers)
            for channel in flight.channels
            if (frame_number, channel.number) != self.missing
        }
        stamps = [re.sub(r"\W", "", time.isot[:19]) for time in self.reference_times]
        images = {}
        for line in dict.fromkeys([flight.pose_line, *flight.formable_lines]):
            slug = re.sub(r"\W+", "_", flight.line_reference(line).name.lower())
            for index, stamp in enumerate(stamps):
                images.setdefault(directory / "reference" / f"{slug}_{stamp}.fits", (index, line))
        if not overwrite:
            for path in [*raw.values(), *images]:
                if path.exists():
                    msg = f"{path} exists: choose another directory, or pass overwrite=True"
                    raise FileExistsError(msg)
        for path in [*raw.values(), *images]:
            path.parent.mkdir(parents=True, exist_ok=True)
        for (frame_number, channel), path in raw.items():
            write_image(path, self.raw(frame_number, channel), self.header(frame_number, channel))
        # The scenes of one time are made once.
        for path, (index, line) in sorted(images.items(), key=lambda item: item[1][0]):
            write_image(path, *self.reference(index, line))
        return SimulatedFiles(tuple(raw.values()), tuple(images))

    @property
    def _lines(self):
        return self.flight.lines if self.config.other_lines else [self.flight.line(self.flight.pose_line)]

    def _rng(self, name, *numbers):
        return np.random.default_rng([self.seed, 3, *name.encode(), *map(int, numbers)])

    @cached_property
    def _sky(self):
        flight, truth = self.flight, self.truth
        width = flight.field_stop_width / np.cos(np.pi / flight.field_stop_sides)
        margin = 20 + 2 * np.ptp(truth._center, axis=0).max() + 2 * np.abs(truth.shift).max()
        size = width.to_value(u.arcsec) + margin
        step = 0.5 * flight.detector.pixel_scale.to_value(u.arcsec).min()
        return Sky(self.seed, float(size), float(step))

    @cached_property
    def _pose_time(self):
        return self.mid_time(self.flight.pose_frame)

    def _scene(self, recipe, time):
        """A scene; scenes of the latest time are kept, because the channels share them."""
        seconds = 0.0
        if self.config.evolution:
            seconds = (time - self._pose_time).to_value(u.s)
        kept_at, kept = self.__dict__.get("_kept", (None, {}))
        if kept_at != seconds:
            kept = {}
            object.__setattr__(self, "_kept", (seconds, kept))
        if recipe not in kept:
            kept[recipe] = self._sky.scene(recipe, seconds)
        return kept[recipe]

    def _signal(self, frame_number, channel, lines, stray=0.0):
        """Photons per pixel and mean electrons per photon, rows as in Level 1."""
        flight, time = self.flight, self.mid_time(frame_number)
        photons = np.zeros(flight.detector.shape, np.float32)
        electrons = np.zeros(flight.detector.shape, np.float32)
        for line in lines:
            scene = self._scene(recipe(flight, line), time)
            part, where = camera.line_photons(self.truth, self._sky, scene, frame_number, channel, line)
            if part is not None:
                photons[where] += part
                electrons[where] += part * np.float32(camera.electrons_per_photon(flight, line))
        pose_gain = camera.electrons_per_photon(flight, flight.line(flight.pose_line))
        if stray:
            level = stray * self.truth.extinction[self.frame_numbers.index(frame_number)]
            level *= np.mean(flight.channel(channel).gain)
            photons += np.float32(level / pose_gain)
            electrons += np.float32(level)
        gains = np.divide(electrons, photons, out=np.full_like(photons, pose_gain), where=photons > 0)
        return photons, gains


def simulate_flight(flight=ESIS_1, *, n_exposures=4, size="small", seed=0, n_darks=3, config=None, **ingredients):
    """
    Simulate a flight with known truth.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`, optional
        The flight.
    n_exposures : `int` or None, optional
        Number of exposures, around the frame of the flight's starting pose; None for all light frames.
    size : ``"small"``, ``"full"`` or `float`, optional
        The flight as it is, or a flight whose field of view is this many times smaller (`shrink`).
    seed : `int`, optional
        Seed of the random numbers.
    n_darks : `int`, optional
        Number of dark exposures.
    config : `SimulationConfig`, optional
        The ingredients.
    **ingredients
        Attributes of `SimulationConfig` that differ from ``config``; ``reference_cadence`` too.

    Returns
    -------
    `SimulatedFlight`
        The simulated flight; give its ``flight`` to the pipeline.

    Raises
    ------
    ValueError
        If a number or an ingredient is impossible.

    Examples
    --------
    >>> from esis_ndcube.simulate import simulate_flight
    >>> simulated = simulate_flight(size=8, spikes=0, missing=False)
    >>> simulated.flight.detector.shape
    (130, 256)
    >>> simulated.blank
    (124, 4)
    """
    cadence = u.Quantity(ingredients.pop("reference_cadence", 12 * u.s))
    known = {field.name for field in fields(SimulationConfig)}
    if unknown := sorted(set(ingredients) - known):
        msg = f"unknown ingredients {unknown}: expected some of {sorted(known)}"
        raise ValueError(msg)
    factor = {"small": _SMALL, "full": 1}.get(size, size)
    if isinstance(factor, str):
        msg = f"size: got {size!r}, expected 'small', 'full' or a number of 1 or more"
        raise ValueError(msg)
    flight = shrink(flight, factor)
    light, dark = (
        [frame_number for first, last in ranges for frame_number in range(first, last + 1)]
        for ranges in (flight.light_frames, flight.dark_frames)
    )
    n_exposures = len(light) if n_exposures is None else n_exposures
    _check_number("n_exposures", n_exposures, 1, len(light))
    _check_number("n_darks", n_darks, 0, len(dark))
    middle = light.index(flight.pose_frame) if flight.pose_frame in light else len(light) // 2
    start = min(max(0, middle - n_exposures // 2), len(light) - n_exposures)
    picked = np.linspace(0, len(dark) - 1, n_darks).round().astype(int)
    return SimulatedFlight(
        flight=flight,
        config=replace(config or SimulationConfig(), **ingredients),
        frame_numbers=tuple(light[start : start + n_exposures]),
        dark_frame_numbers=tuple(dark[index] for index in picked),
        seed=int(seed),
        reference_cadence=cadence,
    )


def _check_number(name, number, least, most):
    if not least <= number <= most:
        msg = f"{name}: got {number}, expected {least} to {most}"
        raise ValueError(msg)
