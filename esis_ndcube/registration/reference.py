"""Reference images on the grid, filtered at the levels of the pyramid."""

import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, map_coordinates

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from sunpy.util.exceptions import warn_user

from esis_ndcube.mask import line_region
from esis_ndcube.parallel import delayed, share, stream
from esis_ndcube.registration._regrid import regrid
from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.registration.prefilter import log_difference_of_gaussians

__all__ = ["Reference", "References", "bin_image", "pixel_size", "prepare_references"]

# Structures narrower than this many pixels of a coarse reference are not in it.
_RESOLUTION = 0.6
# Images of two passbands differ most at large scales: the coarse Gaussian is this much of the flight's, ...
_COARSE = 0.5
# ... but at least this many times the fine one.
_WIDTH_RATIO = 4
# A reference with larger pixels, in pixels of the grid, does not show the quadratic distortion of a channel.
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
        What it is.
    time : `~astropy.time.Time`
        When it was taken.
    data : `numpy.ndarray`
        The image on the grid, shape (y, x), NaN where there is none.
    pixel : `float`
        Size of the grid's pixels in arcsec.
    resolution : `float`
        Size of the image's own pixels in arcsec.
    detailed : `bool`
        Whether it is good enough to fit the quadratic distortion of the reference channel.
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

    def levels(self, flight, factors):
        """
        Filtered images, coarse to fine.

        Parameters
        ----------
        flight : `~esis_ndcube.Flight`
            Its ``registration_widths`` are those of the filter on unbinned images.
        factors : `tuple` of `int`
            Binning factors, falling by 2.

        Returns
        -------
        `list` of `Level`
            Without levels finer than the reference's own resolution supports.
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
    The reference images of a flight, brought to the grid one by one.

    Attributes
    ----------
    nearest : `numpy.ndarray` of `int`
        Index of the reference nearest in time to each exposure.
    times : `list` of `~astropy.time.Time`
        When each was taken.
    items : `list` of `~sunpy.map.GenericMap` or `Reference`
        What they are made from.
    grid : `~astropy.wcs.WCS`
        The grid with the references' observer.
    name : `str`
        What the pointing comes from.
    """

    nearest: np.ndarray
    times: list
    items: list
    grid: WCS
    name: str
    _make: object = field(repr=False)

    def stream(self, *, workers=None):
        """
        Bring them to the grid, a few ahead.

        Parameters
        ----------
        workers : `int`, optional
            As for `~esis_ndcube.parallel.stream`.

        Yields
        ------
        `Reference`
            For the first exposure, and then for each exposure whose reference is not that of the one before.
        """
        changes = np.flatnonzero(np.diff(self.nearest, prepend=-1))
        items = (self.items[index] for index in self.nearest[changes])
        return stream((delayed(self._make, share(item, workers=workers)) for item in items), workers=workers)


def bin_image(image, valid, factor):
    """
    Mean of the valid pixels in square blocks.

    Parameters
    ----------
    image, valid : `numpy.ndarray`
        Shape (y, x).
    factor : `int`
        Size of the blocks; rows and columns beyond the last whole block are dropped.

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
    rows, columns = (n // factor * factor for n in image.shape)
    blocks = rows // factor, factor, columns // factor, factor
    count = valid[:rows, :columns].reshape(blocks).sum((1, 3))
    total = np.where(valid, image, 0)[:rows, :columns].reshape(blocks).sum((1, 3))
    return total / np.maximum(count, 1), count * 2 >= factor**2


def pixel_size(wcs):
    """
    Size of the pixels of a celestial WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Two-dimensional.

    Returns
    -------
    `float`
        Geometric mean of both sides in arcsec.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration.reference import pixel_size
    >>> round(pixel_size(ESIS_1.grid), 6)
    0.6
    """
    return float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))) * u.Unit(wcs.wcs.cunit[0]).to(u.arcsec)


def prepare_references(level1, reference, *, line, reference_channel):
    """
    Find the references that a Level-1 cube needs.

    Parameters
    ----------
    level1 : `~esis_ndcube.ESISLevel1Cube`
        The frames.
    reference : `~sunpy.map.GenericMap`, `list` of them or `None`
        As for `~esis_ndcube.coalign`.
    line : `str`
        The spectral line.
    reference_channel : `int`
        Number of the channel that is its own reference where there is no other.

    Returns
    -------
    `References`
        Their `References.stream` raises a `ValueError` for one that does not overlap the field of view.

    Raises
    ------
    TypeError
        If a reference is not a Map.
    ValueError
        If there is none, or one that is no image of the Sun.
    """
    flight = level1.flight
    if reference is None:
        return _own_reference(level1, line, reference_channel)
    maps = _as_maps(reference)
    dates = Time([item.reference_date for item in maps])
    first = dates[0]
    seconds, wanted = ((times - first).to_value(u.s) for times in (dates, level1.time))
    distance = np.abs(seconds[:, None] - wanted)
    needed, nearest = np.unique(distance.argmin(axis=0), return_inverse=True)
    gap = distance.min(axis=0).max() * u.s
    if gap > _LONG_GAP:
        warn_user(
            f"the reference images are up to {gap.to_value(u.min):.0f} minutes away from the exposures, in which the "
            f"Sun turns and changes: is the date right?"
        )
    observer = maps[0].observer_coordinate
    grid = observed_grid(flight, observer, maps[0].reference_date)
    maps = [maps[i] for i in needed]
    names = sorted({_map_name(item) for item in maps})
    name = names[0] if len(names) == 1 else f"{len(maps)} images, {names[0]} to {names[-1]}"
    make = partial(_from_map, flight=flight, line=line, channel=reference_channel)
    return References(nearest, [item.reference_date for item in maps], maps, grid, name, make)


def _as_maps(reference):
    from sunpy.coordinates import Helioprojective
    from sunpy.map import GenericMap

    maps = [reference] if isinstance(reference, GenericMap) else list(reference)
    for item in maps:
        if not isinstance(item, GenericMap):
            msg = (
                f"got a reference of type {type(item).__name__}, expected sunpy Maps: "
                f"read files with sunpy.map.Map(path)"
            )
            raise TypeError(msg)
        if item.data.ndim != 2 or not isinstance(item.coordinate_frame, Helioprojective):
            msg = f"got the reference {item.name!r}, expected an image of the Sun in helioprojective coordinates"
            raise ValueError(msg)
    if not maps:
        msg = "got an empty list of references, expected at least one sunpy Map, or None for the flight's pose"
        raise ValueError(msg)
    return sorted(maps, key=lambda item: item.reference_date)


def observed_grid(flight, observer, time):
    """
    The flight's grid as seen by an observer at a time.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    observer : `~astropy.coordinates.SkyCoord` or frame
        The observer.
    time : `~astropy.time.Time`
        The time.

    Returns
    -------
    `~astropy.wcs.WCS`
        The grid with observer and dates.

    Examples
    --------
    >>> from sunpy.coordinates import get_earth
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration.reference import observed_grid
    >>> grid = observed_grid(ESIS_1, get_earth("2019-09-30"), "2019-09-30")
    >>> grid.wcs.dateavg
    '2019-09-30T00:00:00.000'
    """
    from sunpy.coordinates import HeliographicStonyhurst
    from sunpy.sun import constants

    time = Time(time)
    position = SkyCoord(observer).transform_to(HeliographicStonyhurst(obstime=time))
    grid = flight.grid.deepcopy()
    grid.wcs.aux.hgln_obs = position.lon.to_value(u.deg)
    grid.wcs.aux.hglt_obs = position.lat.to_value(u.deg)
    grid.wcs.aux.dsun_obs = position.radius.to_value(u.m)
    grid.wcs.aux.rsun_ref = constants.radius.to_value(u.m)
    grid.wcs.dateobs = grid.wcs.dateavg = time.utc.isot
    grid.wcs.set()
    return grid


def _as_it_is(reference):
    return reference


def _from_map(item, *, flight, line, channel):
    grid = observed_grid(flight, item.observer_coordinate, item.reference_date)
    data = item.data if item.mask is None else np.where(item.mask, np.nan, item.data)
    resolution, pixel = pixel_size(item.wcs), pixel_size(grid)
    # A spline is needed where the image is coarser than the grid, but NaN would spread through it.
    data = regrid(data, item.wcs, grid, flight.grid_shape, bicubic=resolution > 1.5 * pixel)
    field_of_view = _field_of_view(flight, channel, line)
    covered = np.isfinite(data[field_of_view]).mean()
    name = _map_name(item)
    if covered < _MIN_COVERAGE:
        msg = (
            f"the reference {name} covers {covered:.0%} of the field of view, expected at least "
            f"{_MIN_COVERAGE:.0%}: it must show the Sun around "
            f"{_center(flight, field_of_view)} arcsec"
        )
        raise ValueError(msg)
    return Reference(name, item.reference_date, data, pixel, resolution, resolution <= _DETAIL * pixel)


def _map_name(item):
    path = item.meta.get("filename") or item.meta.get("file_name")
    label = f"{item.observatory} {item.wavelength}" if not path else Path(str(path)).name
    return f"{label} {item.reference_date.isot}"


def _field_of_view(flight, channel, line):
    """Grid pixels that the flight's pose puts into the field stop."""
    rows, columns = flight.grid_shape
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    matrix = flight.pose(channel, line)
    return line_region(flight, channel, line, *np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1))


def _center(flight, region):
    y, x = np.argwhere(region).mean(0)
    lon, lat = flight.grid.pixel_to_world_values(x, y)
    return f"({(lon + 180) % 360 * 3600 - 648000:.0f}, {lat * 3600:.0f})"


def _own_reference(level1, line, reference_channel):
    """The reference channel near the pose's frame, pointed by the pose."""
    from sunpy.coordinates import get_earth

    flight, index = level1.flight, list(level1.channel).index(reference_channel)
    rows, columns = level1.data.shape[-2:]
    y, x = np.ogrid[:rows, :columns]
    region = line_region(flight, reference_channel, line, x, y)
    for time in np.argsort(np.abs(level1.frame - flight.pose_frame), kind="stable"):
        image = np.where(region, np.asarray(level1.data[time, index]), np.nan)
        if level1.mask is not None:
            image[np.asarray(level1.mask[time, index])] = np.nan
        if np.isfinite(image[region]).mean() > _MIN_COVERAGE and np.nanstd(image) > 0:
            break
    else:
        msg = f"channel {reference_channel} has no usable frame to point the others by: give a reference image"
        raise ValueError(msg)
    mid_time = level1.meta["mid_time"][time, index]
    grid = observed_grid(flight, get_earth(mid_time), mid_time)
    pose = Alignment.from_pose(flight, reference_channel, frame=level1.frame[time], line=line, time=mid_time, grid=grid)
    v, h = np.meshgrid(np.arange(flight.grid_shape[0]), np.arange(flight.grid_shape[1]), indexing="ij")
    position = np.stack(pose.transform(h, v)[::-1])
    valid = map_coordinates(np.isfinite(image).astype(np.float32), position, order=1) > 0.999
    data = map_coordinates(np.nan_to_num(image), position, order=3)
    pixel = pixel_size(grid)
    name = f"flight pose, channel {reference_channel} of frame {int(level1.frame[time])}"
    # The channel bends like itself: its own image can not tell how.
    image = Reference(name, mid_time, np.where(valid, data, np.nan), pixel, pixel, detailed=False)
    return References(np.zeros(len(level1.frame), dtype=int), [mid_time], [image], grid, name, _as_it_is)
