"""Ask the Virtual Solar Observatory (VSO), which needs no e-mail address, for the addresses of images."""

import astropy.units as u
from sunpy.net import attrs as a

from esis_ndcube.net.retry import ArchiveError
from esis_ndcube.utils.times import nearest_in_time

__all__ = ["find_urls"]

_SEPARATOR = "\n"


def find_urls(series, times, policy, *, client=None, site=None):
    """
    Find the addresses of images.

    Parameters
    ----------
    series : `~esis_ndcube.net.series.Series`
        Series of the images.
    times : `~astropy.time.Time`
        Times of the images.
    policy : `~esis_ndcube.net.RetryPolicy`
        How many times to try, and how long to wait.
    client : `~sunpy.net.vso.VSOClient`, optional
        The client to ask; by default a new one.
    site : `str`, optional
        Which mirror of the images to use, as for `sunpy.net.vso.VSOClient.fetch`; by default the VSO chooses.

    Returns
    -------
    `list` of `str`
        URLs; an empty text where the VSO has no such image.

    Raises
    ------
    ArchiveError
        If the VSO does not answer.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube.net import RetryPolicy
    >>> from esis_ndcube.net.series import find_series
    >>> from esis_ndcube.net.vso import find_urls
    >>> find_urls(find_series("aia_304"), Time(["2019-09-30T18:08:42"]), RetryPolicy())  # doctest: +SKIP
    """
    what = f"the search for {series.title} at the VSO"
    client = client or policy.call(_connect, policy.timeout, doing="the connection to the VSO")
    query = [
        a.Time(times.min() - series.cadence, times.max() + series.cadence),
        a.Source("SDO"),
        a.Instrument(series.instrument),
        a.Physobs(series.physobs),
    ]
    if series.wavelength is not None:
        query.append(a.Wavelength(series.wavelength))
    found = policy.call(_search, client, query, doing=what)
    # The VSO gives the time of a record, which may differ by seconds from the time of the image: its header decides.
    chosen, _ = nearest_in_time(found["Start Time"] if len(found) else [], times, series.cadence / 2)
    rows = sorted({row for row in chosen if row is not None})
    if not rows:
        return [""] * len(chosen)
    urls = policy.call(_locate, client, found[rows], site, doing=f"the question where {series.title} is at the VSO")
    return ["" if row is None else urls.get(found["fileid"][row], "") for row in chosen]


def _connect(timeout):
    from zeep import Transport

    from sunpy.net.vso.vso import VSOClient, build_client

    # The connection of sunpy waits for answers without end.
    seconds = timeout.to_value(u.s)
    api = build_client(transport=Transport(timeout=seconds, operation_timeout=seconds))
    # Any page would be taken for a description of the service; only the VSO's description has its types.
    api.get_type("VSO:QueryRequest")
    return VSOClient(api=api)


def _search(client, query):
    found = client.search(*query)
    if found.errors:
        raise found.errors[0]
    return found


class _Listener:
    """Stand-in for a downloader, which only writes down the addresses of the files."""

    def __init__(self):
        self.urls = {}

    def enqueue_file(self, url, filename, **kwargs):
        self.urls[str(filename(None, url)).partition(_SEPARATOR)[2]] = url


def _locate(client, rows, site):
    """URLs by the VSO's names of the files."""
    listener = _Listener()
    failed = client.fetch(rows, path=f"{{file}}{_SEPARATOR}{{fileid}}", downloader=listener, wait=False, site=site)
    if not listener.urls:
        msg = f"no files, but {[str(error.exception) for error in failed.errors]}"
        raise ArchiveError(msg)
    return listener.urls
