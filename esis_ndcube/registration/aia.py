"""Pointing and noise of images of SDO/AIA, from the tables of its team, with aiapy."""

import warnings
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from sunpy.map import contains_full_disk
from sunpy.map.sources import AIAMap

from esis_ndcube.utils.parallel import own_warnings

__all__ = ["POINTING_KEYWORD", "add_uncertainty", "can_be_pointed", "point_map"]

POINTING_KEYWORD = "PNT_SRC"
"""Header keyword of an image that `~esis_ndcube.registration.aia.point_map` has pointed, with the source (`str`)."""

# Pixels of a full-disk image of Level 1, to which the tables refer.
_SHAPE = 4096, 4096


def can_be_pointed(item):
    """
    Whether the pointing tables hold for an image.

    Parameters
    ----------
    item : `~sunpy.map.GenericMap`
        The image.

    Returns
    -------
    `bool`
        Whether the image is of AIA, of Level 1, and shows the full disk in full resolution.

    Examples
    --------
    >>> import numpy as np
    >>> import sunpy.map
    >>> from esis_ndcube.registration.aia import can_be_pointed
    >>> header = {"telescop": "SDO/AIA", "instrume": "AIA_4", "wavelnth": 304, "waveunit": "angstrom",
    ...           "ctype1": "HPLN-TAN", "ctype2": "HPLT-TAN", "cunit1": "arcsec", "cunit2": "arcsec",
    ...           "t_obs": "2019-09-30T18:08:42", "lvl_num": 1.0}
    >>> can_be_pointed(sunpy.map.Map(np.zeros((4, 4)), header))
    False
    """
    return (
        isinstance(item, AIAMap)
        and item.processing_level == 1
        and item.data.shape == _SHAPE
        and bool(contains_full_disk(item))
    )


def point_map(item, table):
    """
    Point an image by a table, which is more exact than its header.

    Parameters
    ----------
    item : `~sunpy.map.sources.AIAMap`
        The image.
    table : `~astropy.table.QTable`
        The pointing, from ``aiapy.calibrate.util.get_pointing_table``.

    Returns
    -------
    `~sunpy.map.sources.AIAMap`
        The image with another header, whose keyword ``PNT_SRC`` names the table.

    Raises
    ------
    ImportError
        If aiapy is not installed.
    ValueError
        If the table is not for this image, or has no values for it.

    Examples
    --------
    >>> import sunpy.map
    >>> from aiapy.calibrate.util import get_pointing_table  # doctest: +SKIP
    >>> from esis_ndcube.registration.aia import point_map
    >>> aia = sunpy.map.Map("aia_304.fits")  # doctest: +SKIP
    >>> table = get_pointing_table("JSOC", time_range=(aia.date - 12 * u.h, aia.date))  # doctest: +SKIP
    >>> point_map(aia, table).meta["pnt_src"]  # doctest: +SKIP
    'pointing table of AIA'
    """
    update_pointing = _aiapy().update_pointing
    if not can_be_pointed(item):
        msg = (
            f"got {item.name!r} of {item.data.shape[1]} x {item.data.shape[0]} pixels and level "
            f"{item.processing_level}, expected a full-disk image of AIA, 4096 x 4096 pixels of level 1, which its "
            "pointing table is for"
        )
        raise ValueError(msg)
    with own_warnings():
        # aiapy leaves an image as it is if the table does not know it, with a warning.
        warnings.filterwarnings("error", "Missing value in pointing table")
        try:
            pointed = update_pointing(item, pointing_table=table)
        except (IndexError, UserWarning) as error:
            msg = f"the pointing table has no values for {item.name}: {error}"
            raise ValueError(msg) from error
    if item.uncertainty is not None:  # which aiapy drops
        pointed = type(item)(pointed.data, pointed.meta, mask=item.mask, uncertainty=item.uncertainty)
    pointed.meta[POINTING_KEYWORD.lower()] = "pointing table of AIA"
    return pointed


def add_uncertainty(item, table):
    """
    Give an image the uncertainty that follows from its counts and a table of errors.

    Parameters
    ----------
    item : `~sunpy.map.sources.AIAMap`
        The image, in DN.
    table : `~astropy.table.QTable`, path-like or ``"SSW"``
        The errors, or an input from which ``aiapy.calibrate.util.get_error_table`` reads them.

    Returns
    -------
    `~sunpy.map.sources.AIAMap`
        The image with its standard deviation: photon noise, read noise, dark, digits and compression.

    Raises
    ------
    ImportError
        If aiapy is not installed.
    ValueError
        If the image is not from AIA.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube.registration.aia import add_uncertainty
    >>> add_uncertainty(sunpy.map.Map("aia_304.fits"), "SSW").uncertainty.array.max()  # doctest: +SKIP
    """
    calibrate = _aiapy()
    if not isinstance(item, AIAMap):
        msg = f"got the error table of AIA for {item.name!r}, expected an image of AIA"
        raise ValueError(msg)
    if isinstance(table, str | Path):
        from aiapy.calibrate.util import get_error_table

        table = get_error_table(table)
    counts = np.maximum(item.data, 0).ravel() * u.DN / u.pix
    sigma = calibrate.estimate_error(counts, item.wavelength, error_table=table).value.reshape(item.data.shape)
    return type(item)(item.data, item.meta, mask=item.mask, uncertainty=StdDevUncertainty(sigma))


def _aiapy():
    try:
        import aiapy.calibrate
    except ImportError as error:
        msg = "tables of AIA need aiapy: pip install esis_ndcube[aia]"
        raise ImportError(msg) from error
    return aiapy.calibrate
