"""Reference images on the grid, filtered at the levels of the pyramid."""

import threading
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.ndimage import binary_erosion

import astropy.units as u
from astropy.time import Time
from astropy.wcs import WCS
from sunpy.util.exceptions import warn_user

from esis_ndcube.field_stop.region import line_region
from esis_ndcube.registration._grid import observed_grid, pixel_size
from esis_ndcube.registration._reference_sources import FrameSource, reference_sources
from esis_ndcube.registration._view import longitude_latitude, place_near_earth, shifts
from esis_ndcube.registration.prefilter import log_difference_of_gaussians
from esis_ndcube.utils.times import nearest_in_time
from esis_ndcube.wcs._sun import wrap

__all__ = ["Once", "Reference", "References", "bin_image", "observed_grid", "pixel_size", "prepare_references"]

# A coarse reference does not show structures narrower than this many of its pixels.
_RESOLUTION = 0.6
# Images of two passbands differ most at large scales: the coarse Gaussian is this much of the flight's, ...
_COARSE = 0.5
# ... but at least this many times the fine one.
_WIDTH_RATIO = 4
# A reference with pixels larger than this, in pixels of the grid, does not show the quadratic distortion of a channel.
_DETAIL = 2.0
# Least part of the field of view that a reference must cover.
_MIN_COVERAGE = 0.5
# In this time the Sun turns by about 1.6 arcsec at the disk center.
_LONG_GAP = 10 * u.min


@dataclass(frozen=True, eq=False)
class Level:
    """A filtered reference after binning by ``factor``, with the filter's ``widths``."""

    factor: int
    widths: u.Quantity
    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Reference:
    """
    One reference image on the grid.

    Attributes
    ----------
    name : `str`
        Name of the reference.
    time : `~astropy.time.Time`
        Time of the reference.
    data : `numpy.ndarray`
        The image on the grid, shape (y, x), NaN for missing values.
    pixel : `float`
        Size of the grid's pixels in arcsec.
    resolution : `float`
        Size of the image's own pixels in arcsec.
    detailed : `bool`
        Whether the image is good enough to fit the quadratic distortion of the reference channel.
    """

    name: str
    time: Time
    data: np.ndarray
    pixel: float
    resolution: float
    detailed: bool
    _levels: dict = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __getstate__(self):
        return {**self.__dict__, "_levels": {}, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())

    def load(self):
        """The reference itself, which is on the grid already."""
        return self

    def levels(self, flight, factors):
        """
        Filtered images, coarse to fine.

        Parameters
        ----------
        flight : `~esis_ndcube.Flight`
            The flight, whose ``registration_widths`` are the widths of the filter on unbinned images.
        factors : `tuple` of `int`
            Binning factors, falling by 2.

        Returns
        -------
        `list` of `Level`
            The levels, without those finer than the reference's own resolution.
        """
        fine, coarse = flight.registration_widths.to_value(u.arcsec)
        with self._lock:
            return [
                self._level(factor, fine, coarse)
                for factor in factors
                if factor == max(factors) or self._fine_width(factor, fine) < 2 * factor * fine
            ]

    def _fine_width(self, factor, fine):
        return max(factor * fine, _RESOLUTION * self.resolution)

    def _level(self, factor, fine, coarse):
        key = factor, fine, coarse
        if key not in self._levels:
            width = self._fine_width(factor, fine)
            widths = np.array([width, max(_COARSE * factor * coarse, _WIDTH_RATIO * width)])
            image, valid = bin_image(self.data, np.isfinite(self.data), factor)
            filtered = log_difference_of_gaussians(image, *(widths / (self.pixel * factor)), valid=valid)
            self._levels[key] = Level(factor, widths * u.arcsec, filtered, binary_erosion(valid, iterations=2))
        return self._levels[key]


@dataclass(frozen=True, eq=False)
class References:
    """
    The reference images of a flight.

    Attributes
    ----------
    images : `list`
        For each exposure an object whose ``load()`` gives the `Reference`, or None if none is near enough.
    grid : `~astropy.wcs.WCS`
        The grid with the references' observer.
    name : `str`
        Source of the pointing.
    """

    images: list
    grid: WCS
    name: str

    @property
    def times(self):
        """Time of the image of each exposure, None if there is none (`list`)."""
        return [None if image is None else image.time for image in self.images]


def bin_image(image, valid, factor):
    """
    Mean of the valid pixels in square blocks.

    Parameters
    ----------
    image, valid : `numpy.ndarray`
        Shape (y, x).
    factor : `int` or `tuple` of `int`
        Size of the blocks, along y and x; rows and columns beyond the last whole block are dropped.

    Returns
    -------
    image, valid : `numpy.ndarray`
        Shape (y // factor, x // factor); a block is valid if half of its pixels are.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.registration.reference import bin_image
    >>> bin_image(np.array([[1.0, 2.0], [3.0, np.nan]]), np.array([[True, True], [True, False]]), 2)[0]
    array([[2.]])
    """
    if factor == 1:
        return image, valid
    from esis_ndcube.registration._blur import block_sums

    high, wide = np.broadcast_to(factor, 2).tolist()
    precision = np.float32 if image.dtype == np.float32 else np.float64
    image, valid = np.ascontiguousarray(image, dtype=precision), np.ascontiguousarray(valid, dtype=bool)
    count, total = block_sums(image, valid, high, wide)
    return total / np.maximum(count, 1), count * 2 >= high * wide


def prepare_references(level1, reference, *, line, reference_channel, max_gap=None, rotate=False):
    """
    Bring the references for a Level-1 cube to the flight's grid.

    Parameters
    ----------
    level1 : `~esis_ndcube.ESISLevel1Cube`
        The frames.
    reference : `~sunpy.map.GenericMap`, `list`, `~ndcube.NDCube`, `int` or None
        As for `~esis_ndcube.coalign`.
    line : `str`
        The spectral line.
    reference_channel : `int`
        Number of the channel that is the reference if no other is given.
    max_gap : `~astropy.units.Quantity`, optional
        Largest time between an exposure and its reference.
    rotate : `bool`, optional
        Whether to rotate the Sun in the reference to the time of each exposure.

    Returns
    -------
    `References`
        The reference of each exposure on the grid.

    Raises
    ------
    TypeError
        If a reference is of none of these kinds.
    ValueError
        If a reference does not overlap the field of view, or no reference is near enough in time.
    """
    flight = level1.flight
    sources = reference_sources(level1, reference, line=line, reference_channel=reference_channel)
    chosen = _nearest(sources, level1.time, max_gap)
    used = [sources[index] for index in sorted({*chosen} - {None})]
    grid = observed_grid(flight, place_near_earth(used[0], used[0].time), used[0].time)
    task = partial(_Task, flight, pixel_size(grid), _field_of_view(flight, reference_channel, line))
    if rotate:
        images = [
            None if index is None else task(sources[index], shifts(sources[index], flight, turned_to=time))
            for index, time in zip(chosen, level1.time, strict=True)
        ]
    else:
        images = {index: task(sources[index], shifts(sources[index], flight)) for index in {*chosen} - {None}}
        if len(images) == 1:
            # One image for all exposures is brought to the grid here; several images are brought later, one by one.
            images = {index: image.load() for index, image in images.items()}
        images = [images.get(index) for index in chosen]
    names = sorted({source.name for source in used})
    name = names[0] if len(names) == 1 else f"{len(used)} images, {names[0]} to {names[-1]}"
    return References(images, grid, name)


def _nearest(sources, times, max_gap):
    """Index of the source nearest to each time, or None if there is none within ``max_gap``."""
    chosen, seconds = nearest_in_time([source.time for source in sources], times, max_gap)
    gaps = np.abs(seconds) * u.s
    if all(index is None for index in chosen):
        msg = (
            f"no reference is within {u.Quantity(max_gap).to(u.s)} of an exposure, "
            f"the nearest is {gaps.min():.1f} away: is the date right, or max_gap too small?"
        )
        raise ValueError(msg)
    # The user asked for a frame of the flight itself.
    if max_gap is None and not isinstance(sources[0], FrameSource):
        warn_of_gap("reference images", gaps.max())
    return chosen


def warn_of_gap(images, gap, argument="max_gap"):
    """
    Warn of images that were taken long before or after the exposures.

    Parameters
    ----------
    images : `str`
        Name of the images.
    gap : `~astropy.units.Quantity`
        Largest time between an exposure and its image.
    argument : `str`, optional
        The argument that allows the gap; None if there is none.
    """
    if gap > _LONG_GAP:
        unit, name = (u.min, "minutes") if gap < 2 * u.day else (u.day, "days")
        number = gap.to_value(unit)
        value = f"{np.ceil(number):.0f} * u.{unit}" if argument == "max_gap" else ""
        advice = "" if argument is None else f" If this is wanted, give {argument}={value}"
        warn_user(
            f"the {images} are up to {number:.0f} {name} away from the exposures, in which the Sun turns and "
            f"changes: is the date right?{advice}"
        )


@dataclass(frozen=True, eq=False)
class _Task:
    """A reference that is brought to the grid when it is needed, so that not all references are held at once."""

    flight: object
    pixel: float
    field_of_view: np.ndarray
    source: object
    shift: np.ndarray

    def __reduce__(self):
        # The image on the grid travels to other processes: it is small, and astropy would round the WCS of the source.
        return Reference.load, (self.load(),)

    @property
    def time(self):
        return self.source.time

    def load(self):
        source, where = self.source, longitude_latitude(self.flight, self.shift)
        data = source.resample(*where, self.pixel)
        covered = np.isfinite(data[self.field_of_view]).mean()
        if covered < _MIN_COVERAGE:
            msg = (
                f"the reference {source.name} covers {covered:.0%} of the field of view, expected at least "
                f"{_MIN_COVERAGE:.0%}: it must show the Sun around "
                f"{_center(self.flight, self.field_of_view)} arcsec"
            )
            raise ValueError(msg)
        detailed = source.detailed and source.resolution <= _DETAIL * self.pixel
        return Reference(source.name, source.time, data, self.pixel, source.resolution, detailed)


class Once:
    """A reference that several exposures share; the first brings it to the grid, and the last drops it."""

    def __init__(self, image):
        self._image, self._loaded, self._lock = image, None, threading.Lock()

    def __reduce__(self):
        return Reference.load, (self.load(),)

    def load(self):
        """The `Reference`."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._image.load()
            return self._loaded


def _field_of_view(flight, channel, line):
    """Grid pixels that the flight's pose puts into the field stop."""
    rows, columns = flight.grid_shape
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    matrix = flight.pose(channel, line)
    return line_region(flight, channel, line, *np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1))


def _center(flight, region):
    y, x = np.argwhere(region).mean(0)
    lon, lat = flight.grid.pixel_to_world_values(x, y)
    return f"({wrap(lon) * 3600:.0f}, {lat * 3600:.0f})"
