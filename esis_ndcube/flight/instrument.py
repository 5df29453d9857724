"""The parts that a flight is made of: spectral lines, channels, the detector, the raw files."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

import astropy.units as u
from astropy.time import Time

__all__ = ["Archive", "ByQuadrant", "Channel", "Detector", "FlightError", "FrameFiles", "Line", "LinePose", "Passband"]

# The entries of a flight file that may be nominal, and what follows for the data.
NOT_MEASURED = {
    "launch": "dates and the place of the Earth are those of another day",
    "files": "frames may have other names and header keywords, so they may not be found",
    "timeline": "darks and light frames may have other numbers, and times may be off by an exposure",
    "gain": "photons and their errors are wrong by as much as the gain, and steps at borders of quadrants stay",
    "read_noise": "errors are wrong where few darks were taken and the Sun is faint",
    "psf_fwhm": "particle hits may stay, or sharp structures may be taken for hits",
    "vignetting_slope": "channels keep a trend of brightness across the field until fit_vignetting has measured it",
    "pose": "without a reference image the pointing is that of the design",
}
# Charge is followed out to this many widths of its Gaussians.
_REACH = 3


class FlightError(ValueError):
    """
    A flight configuration with a missing or impossible value.

    Examples
    --------
    >>> from esis_ndcube import Flight
    >>> Flight.from_toml("name = 36.320")
    Traceback (most recent call last):
        ...
    esis_ndcube.flight.instrument.FlightError: ...
    """


class ByQuadrant(NamedTuple):
    """
    One value for each quadrant of a camera, by name, because there are several orders of quadrants.

    Attributes
    ----------
    low_low, high_low, high_high, low_high : object
        The value at low x and low y, high x and low y, high x and high y, and low x and high y of the raw frame. The
        names have x first.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> ESIS_1.channel(3).gain
    ByQuadrant(low_low=2.57, high_low=2.59, high_high=2.52, low_high=2.53)
    """

    low_low: object
    high_low: object
    high_high: object
    low_high: object


@dataclass(frozen=True)
class Passband:
    """
    The images of the Sun that a line is aligned with.

    Attributes
    ----------
    name, instrument : `str`
        Name of the passband, and the instrument that takes the images.
    wavelength : `~astropy.units.Quantity`
        Wavelength of the passband.

    Examples
    --------
    >>> from esis_ndcube import ESIS_2
    >>> ESIS_2.line_reference("Si XII").name
    'AIA 211'
    """

    name: str
    instrument: str
    wavelength: u.Quantity


@dataclass(frozen=True)
class Line:
    """
    One spectral line of the passband.

    Attributes
    ----------
    name : `str`
        Name of the line, as ``line=`` arguments take it.
    wavelength : `~astropy.units.Quantity`
        Rest wavelength.
    intensity : `float`
        Brightness relative to the brightest line.
    columns : `tuple` of `int`, optional
        First and last + 1 column of the active detector area that the line's field of view occupies.
        A line without columns is known only as a contaminant: no Level-3 cube can be formed of it.
    reference : `Passband`, optional
        The images that the line is aligned with, if they are not those of the flight.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> ESIS_1.line("O V").wavelength
    <Quantity 629.732 Angstrom>
    """

    name: str
    wavelength: u.Quantity
    intensity: float
    columns: tuple[int, int] | None = None
    reference: Passband | None = None


@dataclass(frozen=True, eq=False)
class LinePose:
    """
    The place where a channel sees one line.

    Attributes
    ----------
    wavelength : `~astropy.units.Quantity`
        Wavelength of the line.
    center, matrix : `numpy.ndarray`
        Starting pose, shapes (2,) and (2, 2): ``[u, v] = center + matrix @ ([x, y] - pivot)`` with x, y on the
        flight's output grid and u, v on the active detector area, for the pose's frame.
    field_stop : `numpy.ndarray`
        Vertices (u, v) of the field stop's image, counter-clockwise, shape (sides, 2).

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> ESIS_1.line_pose(2, "O V").field_stop.shape
    (8, 2)
    """

    wavelength: u.Quantity
    center: np.ndarray
    matrix: np.ndarray
    field_stop: np.ndarray


@dataclass(frozen=True, eq=False)
class Channel:
    """
    One channel: a grating, its camera, and its pose.

    Attributes
    ----------
    number : `int`
        Channel number, from 1.
    camera : `str`
        The camera's name in the file headers.
    serial : `int`
        Serial number of the camera.
    dispersion_angle : `~astropy.units.Quantity`
        Direction of increasing wavelength on the sky, counter-clockwise from solar west.
    gain : `ByQuadrant` of `float`
        Electrons per DN.
    bad_columns : `tuple`
        Ranges ``(first, last + 1)`` of unusable columns of the active area.
    poses : `tuple` of `LinePose`
        Places of its lines: first the flight's pose line, then the other lines in which the channel was measured.
    vignetting_slope : `float`
        Published slope of the vignetting across the field stop.
    charge_collection : `float`
        Measured part of the photon noise: the mean square of the charge that a photon leaves in the pixels over its
        mean, relative to that of photons whose charge is collected whole.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> ESIS_1.channel(2).dispersion_angle
    <Quantity 67.5 deg>
    """

    number: int
    camera: str
    serial: int
    dispersion_angle: u.Quantity
    gain: ByQuadrant
    bad_columns: tuple
    poses: tuple[LinePose, ...]
    vignetting_slope: float
    charge_collection: float

    @property
    def center(self):
        """Starting pose's center in the flight's pose line (`numpy.ndarray`)."""
        return self.poses[0].center

    @property
    def matrix(self):
        """Starting pose's matrix in the flight's pose line (`numpy.ndarray`)."""
        return self.poses[0].matrix

    @property
    def field_stop(self):
        """Vertices of the field stop's image in the flight's pose line (`numpy.ndarray`)."""
        return self.poses[0].field_stop


@dataclass(frozen=True, eq=False)
class Detector:
    """
    The camera: the layout of a raw frame, and the effect of a photon.

    Attributes
    ----------
    raw_shape : `tuple` of `int`
        Rows and columns of a raw frame.
    split_column : `int`
        First column of the right-hand quadrants; rows are split in the middle.
    blank_columns, active_columns : `tuple`
        Two ranges ``(first, last + 1)`` of raw columns, left and right: of the blank pixels that show the bias, and of
        the pixels that see light.
    flip_y : `bool`
        Whether the optics flip the image along the raw rows.
    saturation : `float`
        Digital value at and above which a pixel is invalid.
    pixel_scale : `~astropy.units.Quantity`
        Size on the sky of a pixel along x (dispersion) and y.
    dispersion : `~astropy.units.Quantity`
        Wavelength per pixel along x.
    energy_per_electron : `~astropy.units.Quantity`
        Photon energy that frees one electron.
    fano_factor : `float`
        Variance of the electrons of one photon over their mean.
    read_noise : `float`
        Read noise in DN where it cannot be measured from darks.
    psf_fwhm : `float`
        Full width at half maximum of the sharpest point source in pixels: anything sharper is a particle hit.
    stray_light_rows : `int`
        Number of rows at either end of the active area from which stray light is estimated.
    charge_spread : `tuple`
        How charge spreads before it is read: pairs of a part of the charge and the Gaussian width (sigma) in pixels to
        which it spreads. Empty if all charge stays in its pixel.
    typical_signal : `float`
        Electrons of a pixel on the quiet Sun, for which the correlation of the noise is stated.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> ESIS_1.detector.shape
    (1040, 2048)
    """

    raw_shape: tuple[int, int]
    split_column: int
    blank_columns: tuple
    active_columns: tuple
    flip_y: bool
    saturation: float
    pixel_scale: u.Quantity
    dispersion: u.Quantity
    energy_per_electron: u.Quantity
    fano_factor: float
    read_noise: float
    psf_fwhm: float
    stray_light_rows: int
    charge_spread: tuple
    typical_signal: float

    @cached_property
    def charge_kernel(self):
        """
        Part of the charge of a photon in the middle pixel that each pixel gets (`numpy.ndarray`).

        The kernel has odd lengths along both axes and a sum of 1: it holds the Gaussians of ``charge_spread`` over
        square pixels.
        """
        reach = max([round(_REACH * width) for _, width in self.charge_spread], default=0)
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
        for part, width in self.charge_spread:
            line = np.diff(ndtr((np.arange(-reach, reach + 2) - 0.5) / max(width, 1e-9)))
            kernel += part * np.outer(line, line) / line.sum() ** 2
        if not self.charge_spread:
            kernel[0, 0] = 1
        kernel.setflags(write=False)
        return kernel

    @property
    def shape(self):
        """Rows and columns of the active area (`tuple` of `int`)."""
        return self.raw_shape[0], sum(stop - start for start, stop in self.active_columns)


@dataclass(frozen=True, eq=False)
class FrameFiles:
    """
    The names of raw frames, and their header keywords.

    Attributes
    ----------
    pattern : `str`
        File name as a ``str.format`` template of ``channel`` and ``frame_number``.
    time, camera, frame, exposure, measured_exposure : `str`
        Keywords of the time stamp, the camera's name, the frame number, the commanded and the measured exposure.
    exposure_unit, measured_exposure_unit : `~astropy.units.Quantity`
        Unit of the two exposure keywords.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> ESIS_1.files.pattern.format(channel=2, frame=124)
    'ESIS2_00124.fit.gz'
    """

    pattern: str
    time: str
    camera: str
    frame: str
    exposure: str
    exposure_unit: u.Quantity
    measured_exposure: str
    measured_exposure_unit: u.Quantity


def line_key(name):
    """The form of a line's name in which all spellings are equal, for example ``"He I"`` and ``"he i"``."""
    return "".join(str(name).lower().split())


@dataclass(frozen=True, eq=False)
class Archive:
    """
    The archive of the public raw frames of a flight.

    Attributes
    ----------
    short_name : `str`
        Short name of the flight.
    url : `str`
        Beginning of the address of every file; the name of the file follows.
    frames : `tuple`
        Ranges ``(first, last)`` of frame numbers, both included.
    time_frame : `int`
        A raw frame number.
    time : `~astropy.time.Time`
        Middle of that exposure; the cadence gives the times of the other exposures.
    references_url : `str` or None
        Address of a tar file of the reference images, if there is one.
    references_sha256 : `str` or None
        SHA-256 of that file.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> ESIS_1.archive.short_name
    'f1'
    """

    short_name: str
    url: str
    frames: tuple
    time_frame: int
    time: Time
    references_url: str | None = None
    references_sha256: str | None = None
