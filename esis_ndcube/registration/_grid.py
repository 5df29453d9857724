"""The grid of a flight, seen by an observer."""

import numpy as np

import astropy.units as u
from astropy.time import Time
from sunpy.sun import constants

from esis_ndcube.wcs._sun import place_values, stonyhurst


def pixel_size(wcs):
    """
    Size of the pixels of a celestial WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        The WCS, two-dimensional.

    Returns
    -------
    `float`
        Geometric mean of the two sides in arcsec.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration.reference import pixel_size
    >>> round(pixel_size(ESIS_1.grid), 6)
    0.6
    """
    return float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))) * u.Unit(wcs.wcs.cunit[0]).to(u.arcsec)


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
    time = Time(time)
    grid = flight.grid.deepcopy()
    aux = grid.wcs.aux
    aux.hgln_obs, aux.hglt_obs, aux.dsun_obs = place_values(stonyhurst(observer, time))
    aux.rsun_ref = constants.radius.to_value(u.m)
    grid.wcs.dateobs = grid.wcs.dateavg = time.utc.isot
    grid.wcs.set()
    return grid
