"""Fido client for the images of other telescopes that are nearest to exposures."""

import dataclasses
import functools

import numpy as np

import astropy.units as u
from astropy.table import TableAttribute
from astropy.time import Time
from astropy.utils.masked import Masked
from sunpy.net import attrs as a
from sunpy.net.base_client import BaseClient, QueryResponseTable, convert_row_to_table
from sunpy.time import parse_time
from sunpy.util.exceptions import warn_user

from esis_ndcube.net import jsoc, vso
from esis_ndcube.net.attrs import Context, Exposures, Flight, MaxGap, attrs_by_type, known_flights, short_name
from esis_ndcube.net.download import (
    ArchiveError,
    RemoteFile,
    download,
    list_names,
    make_folders,
    missing_files,
    results,
)
from esis_ndcube.net.paths import require_columns, target_path
from esis_ndcube.net.retry import RetryPolicy
from esis_ndcube.net.series import SERIES, find_series
from esis_ndcube.utils.times import nearest_in_time

__all__ = ["ContextResponse", "ESISContextClient"]

# A header that is this far from the requested record belongs to another image.
_SAME = 1 * u.s
# All images of the time between the first exposure and the last are listed.
_LONGEST = 1 * u.day


class ContextResponse(QueryResponseTable):
    """
    Images nearest to exposures, one row per exposure.

    Columns ``Exposure`` (middle of the exposure), ``Time`` (of the image), ``Delta t`` (image minus exposure),
    ``Gap`` (true where there is no image; its time and difference are masked then), ``Context`` and ``Instrument``.

    Examples
    --------
    >>> from sunpy.net import Fido, attrs as a
    >>> import esis_ndcube.net
    >>> Fido.search(a.esis.Flight.f1, a.esis.Context.aia_304)[0]["Delta t"].max()  # doctest: +REMOTE_DATA
    """

    hide_keys = ["Record", "Instrument"]
    notify = TableAttribute()
    requests = TableAttribute()


class ESISContextClient(BaseClient):
    """
    Images of SDO/AIA and SDO/HMI nearest to the exposures of ESIS.

    A search takes ``a.esis.Context`` and either ``a.esis.Exposures`` or ``a.esis.Flight``, and optionally
    ``a.esis.MaxGap`` and ``a.jsoc.Notify``. It gives one row per exposure. Images are those of the Joint Science
    Operations Center (JSOC) whose quality is good.

    Examples
    --------
    >>> import esis_ndcube.net
    >>> from sunpy.net import Fido, attrs as a
    >>> result = Fido.search(a.esis.Flight.f1, a.esis.Context.aia_304)  # doctest: +REMOTE_DATA
    >>> files = Fido.fetch(result, path="aia")  # doctest: +SKIP
    """

    policy = RetryPolicy()

    @property
    def info_url(self):
        """Source of the images (`str`)."""
        return "http://jsoc.stanford.edu"

    def search(self, *query):
        """
        Find the image nearest to each exposure, in one request.

        Parameters
        ----------
        *query
            Attributes.

        Returns
        -------
        `ContextResponse`
            One row per exposure.

        Raises
        ------
        ArchiveError
            If JSOC does not answer.
        ValueError
            If the query lacks the images or the exposures, or has too much, the exposures are of more than a day, or
            the flight has no times of its exposures.

        Warns
        -----
        sunpy.util.exceptions.SunpyUserWarning
            If there is no image near enough to some exposures.

        Examples
        --------
        >>> import esis_ndcube.net
        >>> from sunpy.net import Fido, attrs as a
        >>> result = Fido.search(a.esis.Flight.f1, a.esis.Context.aia_304)  # doctest: +REMOTE_DATA
        """
        query = attrs_by_type(query)
        _check_query(query)
        series = query[Context].series
        times = query[Exposures].times if Exposures in query else query[Flight].flight.light_times
        max_gap = query[MaxGap].value if MaxGap in query else series.max_gap
        span = times.max() - times.min()
        if span > _LONGEST:
            msg = f"got exposures over {span.to(u.day):.1f}, expected at most {_LONGEST:g}: search flight by flight"
            raise ValueError(msg)
        margin = max_gap + 1 * u.s
        records = jsoc.find_records(series, times.min() - margin, times.max() + margin, self.policy)
        response = _response(self, series, times, records, max_gap)
        if a.jsoc.Notify in query:
            response.notify = query[a.jsoc.Notify].value
        _report_gaps(response, max_gap, records)
        return response

    @convert_row_to_table
    def fetch(
        self,
        query_results,
        *,
        path=None,
        downloader=None,
        progress=True,
        overwrite=False,
        provider="jsoc",
        site=None,
        wait=True,
        **kwargs,
    ):
        """
        Fetch the images that are not there yet, each once.

        Parameters
        ----------
        query_results : `ContextResponse`
            The result of a search, or a part of it.
        path : path-like, optional
            Folder, or pattern with ``{file}``.
        downloader : `parfive.Downloader`, optional
            Its settings are used: of progress, overwriting, headers, proxies and session; the files are fetched over
            one connection.
        progress : `bool`, optional
            Show progress.
        overwrite : `bool` or ``"unique"``, optional
            Whether to fetch files that are there again, under their name or a new one.
        provider : {"jsoc", "vso"}, optional
            Where to fetch from. JSOC needs a registered e-mail address, from ``a.jsoc.Notify`` or the environment
            variable ``JSOC_EMAIL``; the Virtual Solar Observatory needs none.
        site : `str`, optional
            Which mirror of the Virtual Solar Observatory to use, as for `sunpy.net.vso.VSOClient.fetch`.
        wait : `bool`, optional
            Not used: the files are there when this method returns.
        **kwargs
            Not used; other clients have settings of their own.

        Returns
        -------
        `parfive.Results`
            Names of the files, each once, in the order of the rows. Files that could not be fetched are its errors:
            nothing is left of them, and fetching the same rows again tries them again.

        Raises
        ------
        ValueError
            If there is no e-mail address, or it is not registered, an argument is not as above, or the rows lack
            columns.

        Examples
        --------
        >>> import esis_ndcube.net
        >>> from sunpy.net import Fido, attrs as a
        >>> result = Fido.search(a.esis.Flight.f1, a.esis.Context.aia_304)  # doctest: +REMOTE_DATA
        >>> files = Fido.fetch(result, path="aia", provider="vso")  # doctest: +SKIP
        """
        if provider not in ("jsoc", "vso"):
            msg = f"got provider {provider!r}, expected 'jsoc' or 'vso'"
            raise ValueError(msg)
        require_columns(query_results, ["Time", "Gap", "Context", "Record"])
        session = None
        if downloader is not None:
            settings = downloader.config
            progress, overwrite, session = settings.progress, settings.overwrite, settings.config
        rows = {(row["Context"], row["Record"]): row for row in query_results if not row["Gap"]}
        files = {key: _remote_file(row, path, overwrite) for key, row in rows.items()}
        missing = missing_files(files.values(), overwrite=overwrite)
        # No archive is asked for files that cannot be kept.
        errors = make_folders(missing)
        left = {file.path for file in missing} - errors.keys()
        wanted = {key: row for key, row in rows.items() if files[key].path in left}
        find = self._export if provider == "jsoc" else functools.partial(self._look_up, site=site)
        for context in dict.fromkeys(context for context, _ in wanted):
            part = {record: row for (of, record), row in wanted.items() if of == context}
            try:
                urls = find(query_results, find_series(context), part)
                reason = f"is not offered for download by {provider.upper()}; try again later"
            except ArchiveError as error:
                urls, reason = {}, str(error)
            for record in part:
                file = files[context, record]
                files[context, record] = dataclasses.replace(file, url=urls.get(record) or "")
                if not urls.get(record):
                    errors[file.path] = reason
        located = [files[key] for key in wanted if files[key].path not in errors]
        errors |= download(located, policy=self.policy, connections=1, progress=progress, config=session)
        return results(files.values(), errors, policy=self.policy, source=self.info_url)

    def _export(self, response, series, rows):
        email = jsoc.find_email(response.notify)
        names = sorted(rows)
        requests = response.requests or {}
        key = " ".join([series.name, *names])
        # A second try asks for files that JSOC may have made in the meantime.
        earlier = [request for known, request in requests.items() if {series.name, *names} <= set(known.split())]

        def remember(request):
            response.requests = {**requests, key: request}

        request = earlier[-1] if earlier else None
        return jsoc.export(series, names, email, self.policy, request=request, remember=remember)

    def _look_up(self, response, series, rows, *, site):
        times = Time([row["Time"].isot for row in rows.values()], scale="utc")
        return dict(zip(rows, vso.find_urls(series, times, self.policy, site=site), strict=True))

    @classmethod
    def _can_handle_query(cls, *query):
        # Queries that cannot be answered are accepted too, so that the user hears why: nobody else knows these
        # attributes.
        return any(isinstance(attr, Context | Exposures | MaxGap) for attr in query)

    @classmethod
    def _attrs_module(cls):
        return "esis", "esis_ndcube.net.attrs"

    @classmethod
    def register_values(cls):
        """
        Name the values that attributes can have.

        Returns
        -------
        `dict`
            Names and descriptions, by attribute.

        Examples
        --------
        >>> from esis_ndcube.net import ESISContextClient
        >>> [attr.__name__ for attr in ESISContextClient.register_values()]
        ['Context', 'Flight']
        """
        return {
            Context: [(series.name, series.title) for series in SERIES.values()],
            # The attribute is there under both of its names.
            Flight: [(name, str(flight)) for flight in known_flights() for name in (short_name(flight), flight.name)],
        }


def _check_query(query):
    """Name the attributes that a query lacks, or has too many of."""
    given = ", ".join(kind.__name__ for kind in query)
    other = query.keys() - {Context, Exposures, Flight, MaxGap, a.jsoc.Notify}
    if Context not in query or len({Exposures, Flight} & query.keys()) != 1 or other:
        msg = (
            f"got a query with {given}, expected a.esis.Context and either a.esis.Exposures or a.esis.Flight, and "
            "optionally a.esis.MaxGap and a.jsoc.Notify"
        )
        raise ValueError(msg)


def _response(client, series, times, records, max_gap):
    nearest, delta = nearest_in_time(records.times, times, max_gap)
    gap = np.array([index is None for index in nearest])
    image_times = times.copy()
    if not gap.all():
        image_times[~gap] = records.times[[index for index in nearest if index is not None]]
    if gap.any():
        image_times[gap] = np.ma.masked
    return ContextResponse(
        {
            "Exposure": times,
            "Time": image_times,
            "Delta t": Masked(delta * u.s, mask=gap),
            "Gap": gap,
            "Context": [series.name] * len(times),
            "Instrument": [series.instrument] * len(times),
            "Record": ["" if index is None else records.names[index] for index in nearest],
        },
        client=client,
    )


def _report_gaps(response, max_gap, records):
    gaps = response["Exposure"][response["Gap"]]
    if not len(gaps):
        return
    rejected = f" ({records.rejected} of bad quality)" if records.rejected else ""
    warn_user(
        f"{len(gaps)} of {len(response)} exposures have no usable image{rejected} within {max_gap:g}: "
        f"{list_names([time.isot[:19] for time in gaps])}"
    )


def _remote_file(row, path, overwrite):
    series = find_series(row["Context"])
    observed = row["Time"]

    def is_near(value):
        return abs(parse_time(str(value)).utc - observed) < _SAME

    expected = {"T_OBS": is_near}
    if series.wavelength is not None:
        expected["WAVELNTH"] = lambda value: np.isclose(float(value), series.wavelength.to_value(u.AA))
    target = target_path(path, series.file_name(row["Record"]), row, unique=overwrite == "unique")
    return RemoteFile(target, expected=expected)
