"""Attributes of queries, as ``a.esis`` once `esis_ndcube.net` is imported."""

from datetime import timedelta
from importlib import resources
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.time import Time, TimeDelta
from sunpy.net.attr import AttrAnd, DataAttr, SimpleAttr, and_
from sunpy.time import parse_time

from esis_ndcube import flight as flight_module
from esis_ndcube.net.series import find_series, plain_name

__all__ = ["Context", "Exposures", "Flight", "MaxGap"]


def __dir__():
    return __all__


class Flight(SimpleAttr):
    """
    The flight.

    Parameters
    ----------
    value : `str` or `~esis_ndcube.Flight`
        Name or short name of a flight that comes with the package, a flight file, or a flight.

    Raises
    ------
    ValueError
        If there is no such flight.

    Examples
    --------
    >>> import esis_ndcube.net
    >>> from sunpy.net import attrs as a
    >>> a.esis.Flight.f1 == a.esis.Flight("ESIS_1")
    True
    """

    def __init__(self, value):
        flight = value if isinstance(value, flight_module.Flight) else _find_flight(value)
        super().__init__(flight.name)
        self.flight = flight


class Exposures(DataAttr):
    """
    Times of exposures; each exposure is given the image that is nearest in time.

    Parameters
    ----------
    times : `~astropy.time.Time`
        Middle of each exposure; or input from which `sunpy.time.parse_time` makes times.

    Raises
    ------
    ValueError
        If there are no times, or some are masked.

    Examples
    --------
    >>> import esis_ndcube.net
    >>> from astropy.time import Time
    >>> from sunpy.net import attrs as a
    >>> a.esis.Exposures(Time(["2019-09-30T18:06:11", "2019-09-30T18:06:21"]))
    <esis_ndcube.net.attrs.Exposures(2 from 2019-09-30T18:06:11.000)>
    """

    def __init__(self, times):
        super().__init__()
        if not np.size(times):
            msg = "got no times, expected the middle of at least one exposure"
            raise ValueError(msg)
        times = parse_time(times).utc
        if np.any(times.mask):
            msg = f"got {np.sum(times.mask)} masked times among {times.size}, expected none: leave them out"
            raise ValueError(msg)
        # Queries are hashed and compared, and arrays of times allow neither.
        self.isot = tuple(np.ravel(Time(times, precision=9).isot).tolist())

    @property
    def times(self):
        """The times (`~astropy.time.Time`, shape (exposures,))."""
        return Time(list(self.isot), format="isot", scale="utc")

    def collides(self, other):
        """
        Whether the two attributes cannot be in one query.

        Parameters
        ----------
        other : `~sunpy.net.attr.Attr`
            Another attribute.

        Returns
        -------
        `bool`
            True for other exposures.

        Examples
        --------
        >>> from astropy.time import Time
        >>> from esis_ndcube.net.attrs import Context, Exposures
        >>> Exposures(Time(["2019-09-30T18:08:36.6"])).collides(Context("AIA 304"))
        False
        """
        return isinstance(other, Exposures)

    def __repr__(self):
        first = Time(self.isot[0], scale="utc").isot
        return f"<{type(self).__module__}.{type(self).__name__}({len(self.isot)} from {first})>"


class Context(SimpleAttr):
    """
    Images of another telescope.

    Parameters
    ----------
    value : `str`
        Name of the series, for example ``"aia_304"``, ``"AIA 304"`` or ``"hmi_los"``.

    Raises
    ------
    ValueError
        If there are no such images.

    Examples
    --------
    >>> import esis_ndcube.net
    >>> from sunpy.net import attrs as a
    >>> a.esis.Context.aia_304.series.cadence
    <Quantity 12. s>
    """

    def __init__(self, value):
        super().__init__(find_series(value).name)

    @property
    def series(self):
        """The series of images (`~esis_ndcube.net.series.Series`)."""
        return find_series(self.value)


class MaxGap(SimpleAttr):
    """
    Largest time between an exposure and its image.

    Parameters
    ----------
    value : `~astropy.units.Quantity`, `~astropy.time.TimeDelta` or `datetime.timedelta`
        The time; without this attribute it is one and a half times the cadence of the images.

    Raises
    ------
    ValueError
        If it is not a finite time above 0.

    Examples
    --------
    >>> import astropy.units as u
    >>> import esis_ndcube.net
    >>> from sunpy.net import attrs as a
    >>> a.esis.MaxGap(1 * u.min).value
    <Quantity 60. s>
    """

    def __init__(self, value):
        msg = f"got {value}, expected one time above 0, for example 12 * u.s"
        try:
            value = TimeDelta(value).to(u.s) if isinstance(value, TimeDelta | timedelta) else u.Quantity(value)
        except TypeError as error:
            raise ValueError(msg) from error
        if not value.unit.is_equivalent(u.s) or not value.isscalar or not 0 * u.s < value < np.inf * u.s:
            raise ValueError(msg)
        super().__init__(value.to(u.s))


def attrs_by_type(query):
    """
    Sort the attributes of a query.

    Parameters
    ----------
    query : iterable of `~sunpy.net.attr.Attr`
        Attributes, some of which may be joined by ``&``.

    Returns
    -------
    `dict`
        Attributes by their type.
    """
    joined = and_(*query)
    return {type(attr): attr for attr in (joined.attrs if isinstance(joined, AttrAnd) else [joined])}


def known_flights():
    """
    The flights that come with the package: every file in its folder of them.

    Returns
    -------
    `list` of `~esis_ndcube.Flight`
        The flights, in the order of their files.
    """
    folder = resources.files("esis_ndcube.flight")
    return [flight_module.Flight.read(path) for path in sorted(folder.iterdir()) if path.name.endswith(".toml")]


def short_name(flight):
    """
    The short name of a flight.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.

    Returns
    -------
    `str`
        The short name of its archive, or else its name.
    """
    return flight.name if flight.archive is None else flight.archive.short_name


def _find_flight(value):
    for flight in known_flights():
        if plain_name(value) in (plain_name(flight.name), plain_name(short_name(flight))):
            return flight
    if Path(str(value)).is_file():
        return flight_module.Flight.read(value)
    names = ", ".join(f"{short_name(flight)} ({flight.name})" for flight in known_flights())
    msg = f"got flight {str(value)!r}, expected {names}, or a flight file"
    raise ValueError(msg)
