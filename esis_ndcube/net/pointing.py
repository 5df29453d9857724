"""Point images of AIA by the table at the Joint Science Operations Center (JSOC), which needs no e-mail address."""

import importlib.util
import logging

import astropy.units as u
from sunpy.util.exceptions import warn_user

from esis_ndcube.net.retry import ArchiveError, RetryPolicy
from esis_ndcube.registration.aia import can_be_pointed, point_map

__all__ = ["find_pointing_table", "point_maps"]

log = logging.getLogger(__name__)

# Entries of the table are valid for 3 h, at times for longer.
_BEFORE = 12 * u.h


def point_maps(maps, *, policy=None):
    """
    Point full-disk Level-1 images of AIA by the table of its team, if aiapy is installed.

    Other images are left as they are; without aiapy all images are. The keyword ``PNT_SRC`` shows which images were
    pointed.

    Parameters
    ----------
    maps : `list` of `~sunpy.map.GenericMap`
        The images.
    policy : `~esis_ndcube.net.RetryPolicy`, optional
        How many times to try, and how long to wait.

    Returns
    -------
    `list` of `~sunpy.map.GenericMap`
        The images, in their order.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        If the table cannot be fetched, or has no entry for an image, so that the image is left as it is.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube.net.pointing import point_maps
    >>> maps = point_maps([sunpy.map.Map("aia_304.fits")])  # doctest: +SKIP
    """
    concerned = [item for item in maps if can_be_pointed(item)]
    if not concerned:
        return list(maps)
    if importlib.util.find_spec("aiapy") is None:
        log.info("aiapy is not installed: images of AIA are pointed as their headers say.")
        return list(maps)
    try:
        table = find_pointing_table([item.reference_date for item in concerned], policy=policy)
    except ArchiveError as error:
        warn_user(f"{error}. Images of AIA are pointed as their headers say")
        return list(maps)
    return [_point(item, table) if can_be_pointed(item) else item for item in maps]


def find_pointing_table(times, *, policy=None):
    """
    Ask JSOC for the pointing of AIA.

    Parameters
    ----------
    times : `list` of `~astropy.time.Time`
        When the images were taken.
    policy : `~esis_ndcube.net.RetryPolicy`, optional
        How many times to try, and how long to wait.

    Returns
    -------
    `~astropy.table.QTable`
        The table, as ``aiapy.calibrate.util.get_pointing_table`` gives it.

    Raises
    ------
    ArchiveError
        If JSOC does not answer, or has no entry.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube.net.pointing import find_pointing_table
    >>> find_pointing_table([Time("2019-09-30T18:08:42")])["A_304_X0"]  # doctest: +SKIP
    """
    from aiapy.calibrate.util import get_pointing_table

    policy = policy or RetryPolicy()
    span = min(times) - _BEFORE, max(times)
    return policy.call(
        get_pointing_table,
        "JSOC",
        time_range=tuple(time.utc for time in span),
        doing="the search for the pointing of AIA at JSOC",
    )


def _point(item, table):
    try:
        return point_map(item, table)
    except ValueError as error:
        warn_user(f"{error}; it is pointed as its header says")
        return item
