"""Fido client for the public raw frames of a flight."""

import numpy as np

from astropy.table import TableAttribute
from astropy.time import Time
from sunpy.net import attrs as a
from sunpy.net.base_client import BaseClient, QueryResponseTable, convert_row_to_table

from esis_ndcube.net.attrs import Context, Exposures, Flight, MaxGap, attrs_by_type
from esis_ndcube.net.download import RemoteFile, download, missing_files, results
from esis_ndcube.net.paths import require_columns, target_path
from esis_ndcube.net.retry import RetryPolicy
from esis_ndcube.utils.times import nearest_in_time

__all__ = ["ESISFlightClient", "FlightResponse"]


class FlightResponse(QueryResponseTable):
    """
    Raw frames of a flight, one row per frame and camera.

    Columns ``Time`` (middle of the exposure by the flight's time line; headers have the measured time), ``Frame``,
    ``Channel``, ``Camera`` and ``Kind``, which is ``"light"``, ``"dark"`` or ``"other"``.

    Examples
    --------
    >>> import esis_ndcube.net
    >>> from sunpy.net import Fido, attrs as a
    >>> frames = Fido.search(a.esis.Flight.f1, a.Level(0))[0]
    >>> len(frames), int((frames["Kind"] == "light").sum())
    (284, 120)
    """

    hide_keys = ["File", "URL"]
    flight = TableAttribute()


class ESISFlightClient(BaseClient):
    """
    Raw frames of the flights of ESIS.

    A search takes ``a.esis.Flight`` and ``a.Level(0)``, and optionally ``a.Time``; its ``near`` gives the one exposure
    that is nearest.
    The flight file holds the addresses of the frames.

    Examples
    --------
    >>> import esis_ndcube.net
    >>> from sunpy.net import Fido, attrs as a
    >>> result = Fido.search(a.esis.Flight.f1, a.Level(0), a.Time("2019-09-30T18:08:30", "2019-09-30T18:08:40"))
    >>> result[0]["Camera"].tolist()
    ['ESIS1', 'ESIS2', 'ESIS3', 'ESIS4']
    >>> files = Fido.fetch(result, path="raw")  # doctest: +SKIP
    """

    policy = RetryPolicy()

    @property
    def info_url(self):
        """Source of the frames (`None`: it depends on the flight)."""
        return

    def search(self, *query):
        """
        List raw frames.

        Parameters
        ----------
        *query
            Attributes.

        Returns
        -------
        `FlightResponse`
            One row per frame and camera.

        Raises
        ------
        ValueError
            If the query lacks the flight or the level, or has too much, or the flight's frames are not public, or the
            level is not 0.

        Examples
        --------
        >>> import esis_ndcube.net
        >>> from sunpy.net import Fido, attrs as a
        >>> len(Fido.search(a.esis.Flight.f1, a.Level(0))[0])
        284
        """
        query = attrs_by_type(query)
        if not {Flight, a.Level} <= query.keys() <= {Flight, a.Level, a.Time}:
            given = ", ".join(kind.__name__ for kind in query)
            msg = f"got a query with {given}, expected a.esis.Flight and a.Level(0), and optionally a.Time"
            raise ValueError(msg)
        flight = query[Flight].flight
        level = str(query[a.Level].value)
        if level not in ("0", "0.0"):
            msg = f"got level {level}, expected 0: make the other levels with ESISLevel1Cube.from_raw and form_level3"
            raise ValueError(msg)
        archive = flight.require_archive()
        numbers = np.concatenate([np.arange(first, last + 1) for first, last in archive.frames])
        times = flight.mid_time(numbers)
        chosen = np.ones(len(numbers), dtype=bool)
        if a.Time in query:
            span = query[a.Time]
            chosen = (times >= span.start) & (times <= span.end)
            if span.near is not None:
                inside = np.flatnonzero(chosen)
                (nearest,), _ = nearest_in_time(times[inside], span.near)
                chosen = inside if nearest is None else inside[[nearest]]
        rows = [
            (time.isot, int(number), channel.number, channel.camera, _kind(flight, number))
            for time, number in zip(times[chosen], numbers[chosen], strict=True)
            for channel in flight.channels
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        time, frame_number, channel, camera, kind = columns
        name = [flight.files.pattern.format(channel=c, frame=f) for c, f in zip(channel, frame_number, strict=True)]
        response = FlightResponse(
            {
                "Time": Time(list(time), scale="utc") if time else Time([], format="mjd", scale="utc"),
                "Frame": np.array(frame_number, dtype=int),
                "Channel": np.array(channel, dtype=int),
                "Camera": np.array(camera, dtype=str),
                "Kind": np.array(kind, dtype=str),
                "File": np.array(name, dtype=str),
                "URL": np.array([archive.url + part for part in name], dtype=str),
            },
            client=self,
        )
        response.flight = flight
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
        max_conn=5,
        wait=True,
        **kwargs,
    ):
        """
        Fetch the raw frames that are not there yet, several at a time.

        Parameters
        ----------
        query_results : `FlightResponse`
            The result of a search, or a part of it.
        path : path-like, optional
            Folder, or pattern with ``{file}``.
        downloader : `parfive.Downloader`, optional
            Its settings are used: of progress, overwriting, the number of connections, headers, proxies and session.
        progress : `bool`, optional
            Show progress.
        overwrite : `bool` or ``"unique"``, optional
            Whether to fetch files that are there again, under their name or a new one.
        max_conn : `int`, optional
            How many files to fetch at a time.
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
            If an argument is not as above, or the rows lack columns.

        Examples
        --------
        >>> import esis_ndcube.net
        >>> from sunpy.net import Fido, attrs as a
        >>> frames = Fido.search(a.esis.Flight.f1, a.Level(0))[0]
        >>> files = Fido.fetch(frames[frames["Kind"] != "other"], path="raw")  # doctest: +SKIP
        """
        require_columns(query_results, ["Frame", "Camera", "File", "URL"])
        session = None
        if downloader is not None:
            settings = downloader.config
            progress, overwrite = settings.progress, settings.overwrite
            max_conn, session = settings.max_conn, settings.config
        files = [_remote_file(row, path, overwrite, query_results.flight.files) for row in query_results]
        wanted = missing_files(files, overwrite=overwrite)
        errors = download(wanted, policy=self.policy, connections=max_conn, progress=progress, config=session)
        return results(files, errors, policy=self.policy)

    @classmethod
    def _can_handle_query(cls, *query):
        # Queries that cannot be answered are accepted too, so that the user hears why, but not those of the other
        # client.
        kinds = {type(attr) for attr in query}
        return Flight in kinds and not kinds & {Context, Exposures, MaxGap}

    @classmethod
    def _attrs_module(cls):
        return "esis", "esis_ndcube.net.attrs"

    @classmethod
    def register_values(cls):
        """
        Name the values that attributes can have; the context client names the flights.

        Returns
        -------
        `dict`
            Nothing.

        Examples
        --------
        >>> from esis_ndcube.net import ESISFlightClient
        >>> [attr.__name__ for attr in ESISFlightClient.register_values()]
        []
        """
        return {}


def _kind(flight, frame_number):
    return "light" if flight.is_light(frame_number) else "dark" if flight.is_dark(frame_number) else "other"


def _remote_file(row, path, overwrite, keys):
    expected = {
        keys.camera: lambda value: str(value).strip() == row["Camera"],
        keys.frame: lambda value: int(value) == row["Frame"],
    }
    return RemoteFile(target_path(path, row["File"], row, unique=overwrite == "unique"), row["URL"], expected)
