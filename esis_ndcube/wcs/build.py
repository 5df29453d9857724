"""The WCS of a new cube."""

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from sunpy.sun import constants

from esis_ndcube.wcs._axes import TABLES, channel_cards, exposures_of, set_axis, table_hdu, time_cards
from esis_ndcube.wcs.fitswcs import from_header

__all__ = ["level1_wcs", "level3_wcs"]

# Keywords that stay of the header of an output grid: its dates and its observer are not those of the cube.
_CELESTIAL = ("CTYPE", "CUNIT", "CRPIX", "CRVAL", "CDELT", "PC", "PV", "LONPOLE", "LATPOLE")


def level3_wcs(celestial, times, channels, *, observer=None, exposure_time=None, rsun=None):
    """
    WCS of a Level-3 cube.

    Parameters
    ----------
    celestial : `~astropy.wcs.WCS`
        Two-dimensional WCS of the output grid, with ``array_shape``.
    times : `~astropy.time.Time`
        Mid-exposure times, increasing, shape (time,).
    channels : sequence of `int`
        Channel numbers, increasing; they need not be consecutive.
    observer : `~astropy.coordinates.SkyCoord` or coordinate frame, optional
        Place of the observer, one position or one for each time; by default Earth.
    exposure_time : `~astropy.units.Quantity`, optional
        Exposure time, one or one for each time.
    rsun : `~astropy.units.Quantity`, optional
        Radius of the Sun; by default that of ``celestial``, or else sunpy's.

    Returns
    -------
    `ESISWCS`
        Array axes (time, channel, y, x).

    Raises
    ------
    ValueError
        If the celestial WCS is not two-dimensional or its shape is unknown, or if times or channels do not
        increase.

    Examples
    --------
    >>> from astropy.time import Time
    >>> import astropy.units as u
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.wcs import level3_wcs
    >>> times = Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10.4"])
    >>> wcs = level3_wcs(ESIS_1.grid, times, [1, 3], exposure_time=10 * u.s)
    >>> wcs[0].wcs.datebeg
    '2019-09-30T18:07:55.000000000'
    >>> wcs.channels
    array([1, 3])
    """
    if celestial.naxis != 2 or not celestial.has_celestial or celestial.has_distortion:
        msg = f"got a WCS with axes {list(celestial.wcs.ctype)}, expected two celestial ones without distortion"
        raise ValueError(msg)
    if celestial.array_shape is None:
        msg = "got a celestial WCS of unknown size, expected one with `array_shape` set"
        raise ValueError(msg)
    exposures, reference = exposures_of(times, exposure_time, observer=observer, earth=True)
    prm = celestial.wcs
    header = fits.Header([card for card in celestial.to_header().cards if card.keyword.startswith(_CELESTIAL)])
    if rsun is None:
        if prm.aux.rsun_ref is None:
            rsun = constants.radius
        else:
            rsun = prm.aux.rsun_ref * u.m
    wcs = _assemble(header, celestial.pixel_shape, exposures, channels, reference)
    # A header of astropy has 14 digits; the numbers themselves have more.
    wcs.wcs.crpix = [*prm.crpix, *wcs.wcs.crpix[2:]]
    wcs.wcs.crval = [*prm.crval, *wcs.wcs.crval[2:]]
    wcs.wcs.cdelt = [*prm.get_cdelt(), *wcs.wcs.cdelt[2:]]
    pc = wcs.wcs.get_pc().copy()
    pc[:2, :2] = prm.get_pc()
    wcs.wcs.pc = pc
    wcs.wcs.lonpole, wcs.wcs.latpole = prm.lonpole, prm.latpole
    if pv := prm.get_pv():
        wcs.wcs.set_pv([*pv, *(parameter for parameter in wcs.wcs.get_pv() if parameter[0] > 2)])
    wcs.wcs.aux.rsun_ref = u.Quantity(rsun).to_value("m")
    wcs.wcs.set()
    return wcs._stamp()


def level1_wcs(shape, times, channels, exposure_time=None):
    """
    WCS of a Level-1 cube: detector pixels, channel and time.

    Parameters
    ----------
    shape : `tuple` of `int`
        Rows and columns of the detector.
    times : `~astropy.time.Time`
        Mid-exposure times, increasing, shape (time,).
    channels : sequence of `int`
        Channel numbers, increasing; they need not be consecutive.
    exposure_time : `~astropy.units.Quantity`, optional
        Exposure time, one or one for each time.

    Returns
    -------
    `ESISWCS`
        Array axes (time, channel, y, x); the detector coordinates are 0 in the center of the first pixel.

    Raises
    ------
    ValueError
        If times or channels do not increase.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube.wcs import level1_wcs
    >>> wcs = level1_wcs((1040, 2048), Time(["2019-09-30T18:08:00"]), [1, 2])
    >>> wcs.world_axis_physical_types[:2]
    ['custom:pos.detector.x', 'custom:pos.detector.y']
    """
    exposures, reference = exposures_of(times, exposure_time)
    header = fits.Header()
    for axis, letter in enumerate("XY", start=1):
        cards = {"CTYPE": f"DET{letter}", "CUNIT": "pixel", "CRPIX": 1.0, "CRVAL": 0.0, "CDELT": 1.0}
        set_axis(header, axis, cards)
    return _assemble(header, (shape[1], shape[0]), exposures, channels, reference)._stamp()


def _assemble(header, pixel_shape, exposures, channels, reference):
    """Add the channel and the time axis to the header of an image."""
    channels = np.asarray(channels)
    if channels.ndim != 1 or not channels.size or channels.dtype.kind not in "iu" or (np.diff(channels) <= 0).any():
        msg = f"got the channels {channels.tolist()}, expected increasing whole numbers"
        raise ValueError(msg)
    header = header.copy()
    header["WCSAXES"] = 4
    tables = []
    for number, (cards, table) in enumerate([channel_cards(channels), time_cards(exposures)], start=3):
        set_axis(header, number, cards)
        if table is not None:
            tables.append(table_hdu(TABLES[cards["CTYPE"]], table, cards["CUNIT"]))
    header["TIMESYS"] = "UTC"
    header["DATEREF"] = Time(reference, format="mjd", scale="utc").isot[:10]
    header["MJDREF"] = reference
    shape = *pixel_shape, channels.size, exposures.seconds.size
    return from_header(header, tables, shape, exposures, channels.astype(int))
