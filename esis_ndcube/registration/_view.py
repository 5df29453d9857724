"""The places that a reference image shows on the grid, for another observer and another time."""

import numpy as np
from scipy.ndimage import map_coordinates

import astropy.units as u
from astropy.coordinates import SkyCoord
from sunpy.coordinates import HeliocentricInertial, HeliographicStonyhurst, Helioprojective, get_earth
from sunpy.sun.models import differential_rotation

from esis_ndcube.wcs._sun import seen, stonyhurst, wrap

# An observer no farther from the Earth than this, for example a satellite, sees the Sun as the Earth does, to within
# 0.7 arcsec.
_NEAR_EARTH = 1e5 * u.km
# Coordinates are transformed at every such pixel of the grid, and the shifts are interpolated between.
_STEP = 8


def place_near_earth(source, time):
    """
    The observer of the grid at a time: the observer of the source if it is near the Earth, else the Earth.

    An observer near the Earth is assumed to keep its position relative to the Earth.
    """
    earth = get_earth(time)
    there, then = stonyhurst(source.observer, source.time), get_earth(source.time)
    if there.separation_3d(then) > _NEAR_EARTH:
        return earth
    # SkyCoords of two times do not mix, but numbers do.
    values = [getattr(there, name) - getattr(then, name) + getattr(earth, name) for name in ("lon", "lat", "radius")]
    return _stonyhurst(*values, time)


def _stonyhurst(lon, lat, radius, time):
    return SkyCoord(lon, lat, radius, frame=HeliographicStonyhurst(obstime=time))


def shifts(source, flight, *, turned_to=None):
    """
    Distance of the coordinates in a source's own view from the coordinates of the grid.

    Parameters
    ----------
    source : `~esis_ndcube.registration._reference_sources.Source`
        The image.
    flight : `~esis_ndcube.Flight`
        The flight, whose grid is used.
    turned_to : `~astropy.time.Time`, optional
        Time of the Sun that the grid shows, to which its surface rotates; by default the image's own time.

    Returns
    -------
    `numpy.ndarray` or None
        Shifts in longitude and latitude (deg) at every `_STEP`-th row and column, shape (2, rows, columns), NaN for
        places that the image did not see; None if the two views are the same.
    """
    view = place_near_earth(source, source.time)
    own = stonyhurst(source.observer, source.time)
    same = own.separation_3d(view) < 1 * u.km
    if same and turned_to is None:
        return None
    rows, columns = ((n - 1) // _STEP + 2 for n in flight.grid_shape)
    y, x = np.mgrid[:rows, :columns] * _STEP
    grid = _world(flight.grid, x, y)
    target = Helioprojective(observer=own, obstime=source.time)
    result = np.zeros_like(grid)
    if not same:
        result = _degrees(seen(_sky(grid, view, source.time), target, screen=own)) - grid
    if turned_to is not None:
        sky = _sky(grid, place_near_earth(source, turned_to), turned_to)
        surface = _turn(sky, source.time)
        # Beyond the limb there is no surface that rotates.
        on_disk = np.isfinite(surface.lon)
        result[:, on_disk] = (_degrees(seen(surface, target)) - grid)[:, on_disk]
    return wrap(result)


def longitude_latitude(flight, shift):
    """Coordinates (deg) of the pixels of the grid in the view that the `shifts` belong to."""
    rows, columns = flight.grid_shape
    y, x = np.mgrid[:rows, :columns].astype(float)
    world = _world(flight.grid.deepcopy(), x, y)
    if shift is not None:
        world += [map_coordinates(part, [y / _STEP, x / _STEP], order=1) for part in shift]
    return world


def _world(grid, x, y):
    units = grid.world_axis_units
    world = np.stack(grid.pixel_to_world_values(x, y))
    world *= np.array([u.Unit(unit).to(u.deg) for unit in units])[:, None, None]
    world[0] = wrap(world[0])
    return world


def _sky(world, observer, time):
    return SkyCoord(Helioprojective(*(world * u.deg), observer=observer, obstime=time))


def _turn(sky, time):
    """
    Direction in which a place of the Sun's surface is seen at another time, NaN beyond the limb.

    The rotation is that of `sunpy.coordinates.propagate_with_solar_surface`, which itself is a setting that all threads
    share.
    """
    then = seen(sky, HeliographicStonyhurst(obstime=sky.obstime))
    rotation = differential_rotation((time - sky.obstime).to(u.day), then.lat, model="howard", frame_time="sidereal")
    lon = then.lon + rotation + _meridian(sky.obstime) - _meridian(time)
    return SkyCoord(lon, then.lat, frame=HeliographicStonyhurst(obstime=time))


def _meridian(time):
    """Inertial longitude of the meridian at which Stonyhurst longitudes begin."""
    return _stonyhurst(0 * u.deg, 0 * u.deg, 1 * u.AU, time).transform_to(HeliocentricInertial(obstime=time)).lon


def _degrees(sky):
    values = np.stack([sky.Tx.to_value(u.deg), sky.Ty.to_value(u.deg)])
    values[0] = wrap(values[0])
    return values
