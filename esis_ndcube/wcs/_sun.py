"""Observers of the Sun: their places, and the view of one observer in the coordinates of another."""

import numpy as np

import astropy.units as u
from astropy.coordinates import (
    CartesianRepresentation,
    Longitude,
    SkyCoord,
    SphericalRepresentation,
    UnitSphericalRepresentation,
)
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseWCSWrapper, HighLevelWCSWrapper
from astropy.wcs.wcsapi.high_level_api import high_level_objects_to_values, values_to_high_level_objects
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective, SphericalScreen, get_earth

# The depth below the surface that rounding may bring a point to, as for sunpy.
_DEPTH = 1 * u.m


def seen(sky, frame, *, screen=None):
    """
    Coordinates in another frame, NaN if its observer does not see them.

    A direction without a distance ends on the surface of the Sun; beyond its limb it ends on a screen, or nowhere.
    In sunpy a screen is a setting that all threads share. This function neither uses nor changes it.

    Parameters
    ----------
    sky : `~astropy.coordinates.SkyCoord`
        The coordinates.
    frame : `~astropy.coordinates.BaseCoordinateFrame`
        The frame; a frame without observer sees everything.
    screen : `~astropy.coordinates.SkyCoord`, optional
        Center of a sphere through the center of the Sun, as in `sunpy.coordinates.SphericalScreen`.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        Directions in that frame.
    """
    there = sky = sky.frame
    if not there.is_equivalent_frame(frame):
        there = _with_distance(there, screen).transform_to(frame)
    values = there.data.represent_as(UnitSphericalRepresentation)
    hidden = is_hidden(there, sky)
    lon, lat = (np.where(hidden, np.nan, value) for value in (values.lon, values.lat))
    # Small negative longitudes would lose digits on the way around the circle.
    lon = Longitude(lon, wrap_angle=values.lon.wrap_angle, copy=False)
    return SkyCoord(frame.realize_frame(UnitSphericalRepresentation(lon, lat)))


def is_hidden(there, sky):
    """Whether the Sun hides the coordinates ``there``, which come from those of ``sky``, from their observer."""
    there, sky = (coordinate.frame if isinstance(coordinate, SkyCoord) else coordinate for coordinate in (there, sky))
    if not hasattr(there, "is_visible") or _is_direction(there):
        return np.zeros(there.shape, dtype=bool)
    sun = there.observer.radius * CartesianRepresentation(1, 0, 0)
    height = (sun - there.cartesian).norm()
    # If two frames do not agree on the size of the Sun, the first frame defines its surface. From one date to the other
    # the Sun moves by 12 m a second, and points on its surface may come to lie below it.
    surface = np.fmin(getattr(sky, "rsun", there.rsun), height)
    return ~there.is_visible(tolerance=there.rsun - surface + _DEPTH)


def _with_distance(sky, screen):
    """Directions in helioprojective coordinates as places; others stay as they are."""
    if not isinstance(sky, Helioprojective) or sky.observer is None or not _is_direction(sky):
        return sky
    direction = sky.represent_as(UnitSphericalRepresentation)
    lon, lat = direction.lon, direction.lat
    # The nearer of the two points where the line of sight meets the surface.
    along = -2 * sky.observer.radius * (np.cos(lat) * np.cos(lon))
    with np.errstate(invalid="ignore"):
        distance = (-along - np.sqrt(along**2 - 4 * (sky.observer.radius**2 - sky.rsun**2))) / 2
    if screen is not None:
        # Only beyond the limb: the screen of another observer may lie before a part of the disk.
        distance = np.where(np.isnan(distance), SphericalScreen(screen).calculate_distance(sky), distance)
    return sky.realize_frame(SphericalRepresentation(lon, lat, distance))


def _is_direction(sky):
    return sky.data.norm().unit == u.one


def celestial_frame(wcs):
    """The frame of a WCS whose world coordinates are a position on the sky."""
    return high_level(wcs).pixel_to_world(0, 0).frame.replicate_without_data()


def seen_pixels(first, second, x, y, *, screen=None):
    """Pixels of the second WCS with the same places as pixels of the first, NaN for none; as `seen`."""
    first, second = high_level(first), high_level(second)
    return second.world_to_pixel(seen(first.pixel_to_world(x, y), celestial_frame(second), screen=screen))


def same_directions(first, second, *, dates=True):
    """Whether world values of two WCS mean the same directions: of one observer, and with ``dates`` of one time."""
    if not isinstance(first, WCS) or first.naxis != 2:
        return False
    for name in ("world_axis_physical_types", "world_axis_units"):
        if getattr(first, name) != getattr(second, name):
            return False
    observation = _observation(first, dates)
    # Nothing is said by a WCS without observer and time.
    return observation == _observation(second, dates) or all(value in (None, "") for value in observation)


def _observation(wcs, dates):
    """Observer and time as a WCS states them."""
    aux, prm = wcs.wcs.aux, wcs.wcs
    place = aux.hgln_obs, aux.crln_obs, aux.hglt_obs, aux.dsun_obs
    return (*place, prm.dateavg, prm.dateobs) if dates else place


def observer(wcs):
    """The observer of a WCS in helioprojective coordinates, or None."""
    frame = celestial_frame(wcs)
    return frame_observer(frame) if isinstance(frame, Helioprojective) else None


def frame_observer(frame):
    """The observer of a frame, or None."""
    found = getattr(frame, "observer", None)
    # A frame without time has only a name.
    return None if isinstance(found, str) else found


def grid_observer(grid, time):
    """The observer that a FITS WCS names, at a time, or the Earth."""
    aux = grid.wcs.aux
    if aux is None or aux.hgln_obs is None:
        return get_earth(time)
    return HeliographicStonyhurst(aux.hgln_obs * u.deg, aux.hglt_obs * u.deg, aux.dsun_obs * u.m, obstime=time)


def stonyhurst(place, time):
    """A place in Stonyhurst coordinates of a time."""
    return SkyCoord(place).transform_to(HeliographicStonyhurst(obstime=time))


def place_values(place):
    """Stonyhurst longitude and latitude in deg and distance in m, as in FITS."""
    return place.lon.to_value(u.deg), place.lat.to_value(u.deg), place.radius.to_value(u.m)


def wrap(angle, half=180):
    """Angles between minus and plus half a turn; a WCS gives longitudes between 0 and 360 degrees."""
    return (angle + half) % (2 * half) - half


class SeenWCS(BaseWCSWrapper):
    """
    The pixels of one WCS in the coordinates of another, as `seen`.

    Functions that map pixels between the two then need not know of observers.
    """

    def __init__(self, wcs, other, *, screen=None):
        # The base class describes the world.
        super().__init__(high_level(other).low_level_wcs)
        self._own, self._screen = high_level(wcs), screen

    @property
    def pixel_shape(self):
        return self._own.low_level_wcs.pixel_shape

    @property
    def pixel_bounds(self):
        return self._own.low_level_wcs.pixel_bounds

    @property
    def pixel_axis_names(self):
        return self._own.low_level_wcs.pixel_axis_names

    def pixel_to_world_values(self, *pixels):
        sky = seen(self._own.pixel_to_world(*pixels), celestial_frame(self._wcs), screen=self._screen)
        return tuple(high_level_objects_to_values(sky, low_level_wcs=self._wcs))

    def world_to_pixel_values(self, *world):
        (sky,) = values_to_high_level_objects(*world, low_level_wcs=self._wcs)
        return self._own.world_to_pixel(seen(sky, celestial_frame(self._own), screen=self._screen))


def high_level(wcs):
    """A WCS of astropy's interface in a form that gives coordinates and not numbers."""
    return wcs if isinstance(wcs, BaseHighLevelWCS) else HighLevelWCSWrapper(wcs)
