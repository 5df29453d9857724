"""Frozen facts of one flight, read from a configuration file."""

from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np

import astropy.constants as const
import astropy.units as u
from astropy.time import Time
from astropy.wcs import WCS

from esis_ndcube.flight.file import in_ranges, parse_flight
from esis_ndcube.flight.instrument import (
    Archive,
    Channel,
    Detector,
    FlightError,
    FrameFiles,
    Line,
    LinePose,
    Passband,
    line_key,
)

__all__ = ["ESIS_1", "ESIS_2", "Flight", "FlightError"]


@dataclass(frozen=True, eq=False)
class Flight:
    """
    Frozen facts of one flight.

    Use `Flight.read` to make a flight from a configuration file, or take the ready-made `~esis_ndcube.ESIS_1`
    or `~esis_ndcube.ESIS_2`.

    Attributes
    ----------
    name, title, instrument : `str`
        Short name, title and instrument.
    launch : `~astropy.time.Time`
        Time of launch.
    reference_channel : `int`
        Number of the channel that the others are aligned with.
    files : `~esis_ndcube.flight.FrameFiles`
        File naming and header keywords.
    cadence, clock_offset : `~astropy.units.Quantity`
        Time from frame to frame, and a correction that is added to the time stamps.
    light_frames, dark_frames : `tuple`
        Ranges ``(first, last)`` of frame numbers, both included.
    time_stamp : `str`
        Whether a time stamp is the ``"start"``, ``"middle"`` or ``"end"`` of the exposure.
    detector : `~esis_ndcube.flight.Detector`
        Detector layout and conversion.
    field_stop_sides : `int`
        Number of sides of the field stop, a regular polygon with a side across the dispersion.
    field_stop_width : `~astropy.units.Quantity`
        Width of the field stop across its flats.
    vignetting_zero, vignetting_width : `~astropy.units.Quantity`
        Distances of the vignetting formula.
    vignetting_margin : `~astropy.units.Quantity`
        Columns at either side of the output grid that straight lines through differences of channels leave out.
    reference : `~esis_ndcube.flight.Passband`
        The images that lines are aligned with, except lines that have their own.
    registration_widths : `~astropy.units.Quantity`
        Fine and coarse Gaussian width of the registration filter.
    grid_shape : `tuple` of `int`
        Rows and columns of the output grid.
    grid_crpix, grid_crval, grid_cdelt : `tuple` of `float`
        FITS keywords of the output grid, x before y, in arcsec and FITS (1-based) pixels.
    pose_frame : `int`
        Raw frame number at which the channels' starting poses hold.
    pose_line : `str`
        Name of the line for which they hold.
    pose_pivot : `tuple` of `float`
        Grid pixel (x, y) about which they are written.
    lines : `tuple` of `~esis_ndcube.flight.Line`
        Lines of the passband.
    channels : `tuple` of `~esis_ndcube.flight.Channel`
        Channels, by number.
    not_measured : `tuple` of `str`
        Entries whose values are nominal, because they were not measured yet.
    archive : `~esis_ndcube.flight.Archive` or None
        Address of the public raw frames.
    toml : `str`
        The configuration that the flight was read from, so that a file can carry it.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> print(ESIS_1)
    ESIS_1: First flight of ESIS, NASA sounding rocket 36.320
    >>> ESIS_1.detector.shape
    (1040, 2048)
    >>> [channel.camera for channel in ESIS_1.channels]
    ['ESIS1', 'ESIS2', 'ESIS3', 'ESIS4']
    """

    name: str
    title: str
    instrument: str
    launch: Time
    reference_channel: int
    files: FrameFiles
    cadence: u.Quantity
    clock_offset: u.Quantity
    light_frames: tuple
    dark_frames: tuple
    time_stamp: str
    detector: Detector
    field_stop_sides: int
    field_stop_width: u.Quantity
    vignetting_zero: u.Quantity
    vignetting_width: u.Quantity
    vignetting_margin: u.Quantity
    reference: Passband
    registration_widths: u.Quantity
    grid_shape: tuple[int, int]
    grid_crpix: tuple[float, float]
    grid_crval: tuple[float, float]
    grid_cdelt: tuple[float, float]
    pose_frame: int
    pose_line: str
    pose_pivot: tuple[float, float]
    lines: tuple[Line, ...]
    channels: tuple[Channel, ...]
    not_measured: tuple[str, ...]
    archive: Archive | None
    toml: str

    @classmethod
    def read(cls, path):
        """
        Read a flight from a configuration file.

        Parameters
        ----------
        path : path-like
            A TOML file laid out as ``esis_ndcube/flight/esis_1.toml``.

        Returns
        -------
        `Flight`
            The flight.

        Raises
        ------
        FlightError
            If the file is not TOML, or a value is missing or impossible; the message names the entry.
        OSError
            If the file cannot be read.

        Examples
        --------
        >>> from importlib.resources import files
        >>> from esis_ndcube import Flight
        >>> Flight.read(files("esis_ndcube.flight") / "esis_1.toml").name
        'ESIS_1'
        """
        path = path if hasattr(path, "read_text") else Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            msg = f"{path} is not a flight file in TOML: {error}"
            raise FlightError(msg) from error
        return cls.from_toml(text, source=str(path))

    @classmethod
    def from_toml(cls, text, *, source="<string>"):
        """
        Make a flight from the text of a configuration file.

        Parameters
        ----------
        text : `str`
            The configuration, in the form of a file for `Flight.read`.
        source : `str`, optional
            Name of the configuration in error messages.

        Returns
        -------
        `Flight`
            The flight.

        Raises
        ------
        FlightError
            As `Flight.read`.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Flight
        >>> Flight.from_toml(ESIS_1.toml) == ESIS_1
        True
        """
        return cls(**parse_flight(text, source))

    def __getstate__(self):
        # astropy pickles a WCS with 14 digits; so the grid is made anew.
        return {name: value for name, value in self.__dict__.items() if name != "grid"}

    def __eq__(self, other):
        return isinstance(other, Flight) and self.toml == other.toml

    def __hash__(self):
        return hash(self.toml)

    def __str__(self):
        return f"{self.name}: {self.title}"

    def __repr__(self):
        return f"<Flight {self.name}: {len(self.channels)} channels, {', '.join(self.formable_lines)}>"

    @property
    def formable_lines(self):
        """Names of the lines for which a Level-3 cube can be formed (`list` of `str`)."""
        return [line.name for line in self.lines if line.columns is not None]

    def line(self, name):
        """
        Look up a line for which a cube can be formed.

        Parameters
        ----------
        name : `str` or `~esis_ndcube.flight.Line`
            Name of the line; case and blanks do not matter.

        Returns
        -------
        `~esis_ndcube.flight.Line`
            The line.

        Raises
        ------
        ValueError
            If the flight has no such line, or has it only as a contaminant.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.line("he i").wavelength
        <Quantity 584.334 Angstrom>
        """
        wanted = line_key(getattr(name, "name", name))
        for line in self.lines:
            if line.columns is not None and line_key(line.name) == wanted:
                return line
        msg = f"unknown line {name!r}: flight {self.name} forms cubes of {', '.join(self.formable_lines)}"
        raise ValueError(msg)

    def line_reference(self, name):
        """
        Look up the images of the Sun that a line is aligned with.

        Parameters
        ----------
        name : `str` or `~esis_ndcube.flight.Line`
            The line.

        Returns
        -------
        `~esis_ndcube.flight.Passband`
            The line's own images, or those of the flight.

        Examples
        --------
        >>> from esis_ndcube import ESIS_2
        >>> [ESIS_2.line_reference(line).name for line in ESIS_2.formable_lines]
        ['AIA 171', 'AIA 211']
        """
        return self.line(name).reference or self.reference

    def channel(self, number):
        """
        Look up a channel by its number.

        Parameters
        ----------
        number : `int`
            Channel number, from 1.

        Returns
        -------
        `~esis_ndcube.flight.Channel`
            The channel.

        Raises
        ------
        ValueError
            If the flight has no such channel.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.channel(2).camera
        'ESIS2'
        """
        for channel in self.channels:
            if channel.number == number:
                return channel
        numbers = ", ".join(str(channel.number) for channel in self.channels)
        msg = f"unknown channel {number!r}: flight {self.name} has channels {numbers}"
        raise ValueError(msg)

    def is_light(self, frame_number):
        """
        Whether a raw frame looked at the Sun.

        Parameters
        ----------
        frame_number : `int`
            Raw frame number.

        Returns
        -------
        `bool`
            True for a light frame.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.is_light(124), ESIS_1.is_light(99)
        (True, False)
        """
        return in_ranges(frame_number, self.light_frames)

    def is_dark(self, frame_number):
        """
        Whether a raw frame is a dark.

        Parameters
        ----------
        frame_number : `int`
            Raw frame number.

        Returns
        -------
        `bool`
            True for a dark frame.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.is_dark(124), ESIS_1.is_dark(99)
        (False, True)
        """
        return in_ranges(frame_number, self.dark_frames)

    @property
    def light_times(self):
        """Middles of the exposures of all public light frames, by the time line (`~astropy.time.Time`)."""
        frames = self.require_archive().frames
        return self.mid_time([n for first, last in frames for n in range(first, last + 1) if self.is_light(n)])

    def require_archive(self):
        """
        Look up the archive of the public raw frames.

        Returns
        -------
        `~esis_ndcube.flight.Archive`
            The archive.

        Raises
        ------
        FlightError
            If the flight has no archive.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.require_archive().frames
        ((96, 166),)
        """
        if self.archive is None:
            msg = f"flight {self.name} has no public raw frames: its file has no [archive] table"
            raise FlightError(msg)
        return self.archive

    def mid_time(self, frame_number):
        """
        Middle of exposures by the time line: the archive's time, and the cadence.

        Parameters
        ----------
        frame_number : array-like of `int`
            Raw frame numbers.

        Returns
        -------
        `~astropy.time.Time`
            The times, UTC; the times in the headers may differ a little.

        Raises
        ------
        FlightError
            If the flight has no archive.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.mid_time(109).isot
        '2019-09-30T18:06:06.642'
        """
        archive = self.require_archive()
        return archive.time + (np.asarray(frame_number) - archive.time_frame) * self.cadence

    def electrons_per_photon(self, line):
        """
        Mean number of electrons that one photon of a line frees.

        Parameters
        ----------
        line : `str` or `~esis_ndcube.flight.Line`
            The line.

        Returns
        -------
        `~astropy.units.Quantity`
            Electrons per photon: photon energy over the energy per electron.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.electrons_per_photon("O V").round(2)
        <Quantity 5.47 electron / ph>
        """
        energy = (const.h * const.c / self.line(line).wavelength).to(u.eV)
        return (energy / self.detector.energy_per_electron).to_value(u.one) * u.electron / u.photon

    def line_offset(self, line):
        """
        Distance on the detector between the pose's line and another line, by the flight's dispersion.

        Parameters
        ----------
        line : `str` or `~esis_ndcube.flight.Line`
            The line; contaminants are given as `~esis_ndcube.flight.Line`.

        Returns
        -------
        `float`
            Offset along x in pixels, positive toward longer wavelength.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> round(ESIS_1.line_offset("He I"))
        -1227
        """
        line = line if isinstance(line, Line) else self.line(line)
        return self._distance(line, self.line(self.pose_line).wavelength)

    def _distance(self, line, wavelength):
        return float(((line.wavelength - wavelength) / self.detector.dispersion).to_value(u.one))

    def line_pose(self, channel, line=None):
        """
        The place where a channel sees a line.

        Between the lines in which the channel was measured, and beyond them, its pose changes linearly with wavelength.
        A channel that was measured in one line only is shifted along x by the flight's dispersion.

        Parameters
        ----------
        channel : `int`
            Channel number.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            The line, a contaminant as `~esis_ndcube.flight.Line`; by default the line in which the flight's pose was
            measured.

        Returns
        -------
        `~esis_ndcube.flight.LinePose`
            Pose and image of the field stop.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.line_pose(2, "He I").center.round(1)
        array([305.1, 499.5])
        """
        poses = self.channel(channel).poses
        line = self.line(self.pose_line if line is None else line) if not isinstance(line, Line) else line
        first, *rest = sorted(poses, key=lambda pose: abs(pose.wavelength - line.wavelength))
        if first.wavelength == line.wavelength:
            return first
        if not rest:
            shift = np.array([self._distance(line, first.wavelength), 0])
            return LinePose(line.wavelength, first.center + shift, first.matrix, first.field_stop + shift)
        weight = ((line.wavelength - first.wavelength) / (rest[0].wavelength - first.wavelength)).to_value(u.one)
        center, matrix, field_stop = (
            (1 - weight) * getattr(first, name) + weight * getattr(rest[0], name)
            for name in ("center", "matrix", "field_stop")
        )
        return LinePose(line.wavelength, center, matrix, field_stop)

    def pose(self, channel, line=None):
        """
        Starting pose of a channel: the affine map from output grid to detector pixels.

        Parameters
        ----------
        channel : `int`
            Channel number.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            As for `line_pose`.

        Returns
        -------
        `numpy.ndarray`
            Shape (2, 3): ``[u, v] = pose @ [x, y, 1]``.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> (ESIS_1.pose(1) @ [634.5, 634.5, 1]).round(1)
        array([1476.8,  600. ])
        """
        pose = self.line_pose(channel, line)
        return np.column_stack([pose.matrix, pose.center - pose.matrix @ np.asarray(self.pose_pivot)])

    def field_stop(self, channel, line=None):
        """
        Image of the field stop on the detector.

        Parameters
        ----------
        channel : `int`
            Channel number.
        line : `str` or `~esis_ndcube.flight.Line`, optional
            As for `line_pose`.

        Returns
        -------
        `numpy.ndarray`
            Vertices (u, v) in pixels of the active area, counter-clockwise, shape (sides, 2).

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> ESIS_1.field_stop(2).shape
        (8, 2)
        """
        return self.line_pose(channel, line).field_stop

    @cached_property
    def grid(self):
        """The celestial WCS of the output grid, without time and observer (`~astropy.wcs.WCS`)."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "HPLN-TAN", "HPLT-TAN"
        wcs.wcs.cunit = "arcsec", "arcsec"
        wcs.wcs.crpix = self.grid_crpix
        wcs.wcs.crval = self.grid_crval
        wcs.wcs.cdelt = self.grid_cdelt
        wcs.array_shape = self.grid_shape
        wcs.wcs.set()
        return wcs


ESIS_1 = Flight.read(resources.files("esis_ndcube.flight") / "esis_1.toml")
"""The first flight of ESIS, 2019-09-30, NASA sounding rocket 36.320."""

ESIS_2 = Flight.read(resources.files("esis_ndcube.flight") / "esis_2.toml")
"""The second flight of ESIS, planned for 2027, by its design: nothing was measured yet."""
