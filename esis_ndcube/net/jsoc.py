"""Ask the Joint Science Operations Center (JSOC) for records of images, and have them exported."""

import logging
import os
import re
import time
from dataclasses import dataclass

import numpy as np

import astropy.units as u
from astropy.time import Time
from sunpy.time import parse_time

from esis_ndcube.net.retry import ArchiveError, describe

__all__ = ["EMAIL_VARIABLE", "Records", "export", "find_email", "find_records"]

log = logging.getLogger(__name__)

EMAIL_VARIABLE = "JSOC_EMAIL"
"""The environment variable that may hold the user's address (`str`)."""

_REGISTER = "http://jsoc.stanford.edu/ajax/register_email.html"
# drms calls this status "not found": for a while after a request it is normal.
_UNKNOWN, _UNKNOWN_TRIES = 6, 5
_KEYS = "T_REC", "T_OBS", "QUALITY"


@dataclass(frozen=True, eq=False)
class Records:
    """
    Records of usable images.

    Attributes
    ----------
    names : `numpy.ndarray` of `str`
        The times in the names of the records, as JSOC writes them.
    times : `~astropy.time.Time`
        When the images were taken, UTC; in order.
    rejected : `int`
        Number of records that were left out, because their images are of bad quality or missing.

    Examples
    --------
    >>> from esis_ndcube.net.jsoc import find_records
    >>> find_records(series, start, end, policy).times  # doctest: +SKIP
    """

    names: np.ndarray
    times: Time
    rejected: int


def find_records(series, start, end, policy):
    """
    Find the usable images in a range of times, in one request.

    Parameters
    ----------
    series : `~esis_ndcube.net.series.Series`
        Series of the images.
    start, end : `~astropy.time.Time`
        The range.
    policy : `~esis_ndcube.net.RetryPolicy`
        How many times to try, and how long to wait.

    Returns
    -------
    `Records`
        The records whose ``QUALITY`` is 0, in order of their time.

    Raises
    ------
    ArchiveError
        If JSOC does not answer, or not as it should.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube.net import RetryPolicy
    >>> from esis_ndcube.net.jsoc import find_records
    >>> from esis_ndcube.net.series import find_series
    >>> span = Time(["2019-09-30T18:06:00", "2019-09-30T18:11:00"])
    >>> find_records(find_series("aia_304"), *span, RetryPolicy())  # doctest: +SKIP
    """
    # In TAI, as sunpy asks: every series understands TAI.
    text = "-".join(moment.tai.strftime("%Y.%m.%d_%H:%M:%S_TAI") for moment in (start, end))
    return policy.call(
        _query, series.record_set(text), doing=f"the search for {series.title} at JSOC, {start.isot} to {end.isot},"
    )


def _query(record_set):
    import drms

    # Numbers as JSOC writes them: a conversion to numbers would lose a hexadecimal QUALITY.
    table = drms.Client().query(record_set, key=list(_KEYS), convert_numeric=False)
    if table.empty:
        return Records(np.array([], dtype=str), Time([], format="mjd", scale="utc"), 0)
    found = {}
    for name, observed, quality in zip(*(table[key] for key in _KEYS), strict=True):
        try:
            usable = int(str(quality), 0) == 0
            observed = parse_time(str(observed)).utc
        except ValueError:
            # A record without an image says "MISSING", or has a time before all calendars.
            usable = False
        if usable:
            found[str(name)] = observed
    names = sorted(found, key=lambda name: found[name].jd)
    times = Time([found[name].isot for name in names], scale="utc") if names else Time([], format="mjd", scale="utc")
    return Records(np.array(names, dtype=str), times, len(table) - len(names))


def find_email(notify=None):
    """
    The address by which JSOC knows the user.

    Parameters
    ----------
    notify : `str`, optional
        The address of the query.

    Returns
    -------
    `str`
        This address, or the one in the environment.

    Raises
    ------
    ValueError
        If there is neither.

    Examples
    --------
    >>> from esis_ndcube.net.jsoc import find_email
    >>> find_email("someone@example.org")
    'someone@example.org'
    """
    email = notify or os.environ.get(EMAIL_VARIABLE)
    if not email:
        msg = (
            f"JSOC exports images to registered e-mail addresses only, and got none: register at {_REGISTER}, then add "
            f"a.jsoc.Notify(address) to the search or set the environment variable {EMAIL_VARIABLE}; or fetch with "
            "provider='vso' (--vso on the command line), which needs no address"
        )
        raise ValueError(msg)
    return email


def export(series, names, email, policy, *, request=None, remember=None):
    """
    Have records exported, in one request, and wait until they are ready.

    Parameters
    ----------
    series : `~esis_ndcube.net.series.Series`
        Series of the images.
    names : sequence of `str`
        The times in the names of the records.
    email : `str`
        The user's registered address.
    policy : `~esis_ndcube.net.RetryPolicy`
        How many times to try, and how long to wait.
    request : `str`, optional
        An earlier request for the same records, which is asked for first.
    remember : callable, optional
        Called with the name of the request as soon as there is one.

    Returns
    -------
    `dict`
        URLs of the files, by the times in the names of their records; some may be missing.

    Raises
    ------
    ArchiveError
        If JSOC does not answer, answers in an unknown form, or refuses, or if the export is not ready in time.
    ValueError
        If the address is not registered.

    Examples
    --------
    >>> from esis_ndcube.net import RetryPolicy
    >>> from esis_ndcube.net.jsoc import export, find_email
    >>> from esis_ndcube.net.series import find_series
    >>> export(find_series("aia_304"), ["2019-09-30T18:08:42Z"], find_email(), RetryPolicy())  # doctest: +SKIP
    """
    import drms

    client = drms.Client()
    what = f"the export of {len(names)} images of {series.title} at JSOC"
    if request is not None:
        try:
            job = policy.call(client.export_from_id, request, doing=f"the question for request {request} at JSOC")
            return _finish(job, what, policy)
        except _PendingError:
            raise
        except ArchiveError as error:
            log.info("Request %s cannot be used any more, a new one is made: %s", request, error)
    if not policy.call(client.check_email, email, doing="the check of the e-mail address at JSOC"):
        msg = (
            f"JSOC does not know the e-mail address {email}: register it at {_REGISTER}, or fetch with provider='vso' "
            "(--vso on the command line), which needs no address"
        )
        raise ValueError(msg)
    record_set = f"{series.record_set(','.join(names))}{{{series.segment}}}"
    # The name that drms writes for these series, after one more request.
    wavelength = "" if series.wavelength is None else ".{WAVELNTH}"
    name_format = f"{series.drms}.{{T_REC:A}}{wavelength}.{{segment}}"

    def ask():
        job = client.export(record_set, method="url", protocol="fits", filenamefmt=name_format, email=email)
        if job.has_finished(skip_update=True):
            job.wait()  # raises what JSOC says, if it refuses
        return job

    job = policy.call(ask, doing=f"{what},")
    if remember is not None and job.id is not None:
        remember(job.id)
    return _finish(job, what, policy)


class _PendingError(ArchiveError):
    """An export that is not ready in time."""


def _finish(job, what, policy):
    """Wait for an export; the result is the URLs of its files by the times of their records."""
    start = time.monotonic()
    unknown = 0
    while not job.has_finished(skip_update=True):
        unknown = unknown + 1 if job.status == _UNKNOWN else 0
        if unknown > _UNKNOWN_TRIES:
            msg = f"{what} failed: JSOC does not know request {job.id} any more; fetch again"
            raise ArchiveError(msg)
        waited = time.monotonic() - start
        if waited > policy.patience.to_value(u.s):
            msg = f"{what} is not ready after {waited:.0f} s: fetch the same result again, to ask for request {job.id}"
            raise _PendingError(msg)
        time.sleep(policy.poll.to_value(u.s))
        policy.call(job.has_finished, doing=f"the question whether {what} is ready")
    try:
        table = job.urls
        return {_record_time(record): url for record, url in zip(table["record"], table["url"], strict=True)}
    except Exception as error:  # drms raises many classes for strange answers
        msg = f"{what} failed with {describe(error)}"
        raise ArchiveError(msg) from error


def _record_time(record):
    """The time in ``series[time][...]{segment}``."""
    return re.match(r"[^\[]*\[([^\]]*)\]", record)[1]
