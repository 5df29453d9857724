"""The FITS WCS of ESIS cubes: exact exposure times, a channel axis, and slices that stay FITS."""

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

import astropy.units as u
from astropy.coordinates import BaseCoordinateFrame, SkyCoord
from astropy.io import fits
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS
from astropy.wcs.wcsapi import SlicedLowLevelWCS
from astropy.wcs.wcsapi.fitswcs import SlicedFITSWCS

__all__ = ["ESISWCS", "SlicedESISWCS", "level1_wcs", "level3_wcs", "normalize_item"]

# The two axes that are not on the image, by the first four letters of their CTYPE: name of the axis (CNAME),
# and of the -TAB extension and its column.
_TIME, _CHANNEL = "UTC", "CAMERA_ID"
_TABLES = {"UTC-": "TIME", "CAME": "CHANNEL"}
_PHYSICAL_TYPES = {
    "CAMERA_ID": "custom:instrument.channel",
    "CAME": "custom:instrument.channel",
    "DETX": "custom:pos.detector.x",
    "DETY": "custom:pos.detector.y",
}


@dataclass(frozen=True, eq=False)
class _Exposures:
    """What the header of a slice needs to know of each exposure; kept in step with the time axis."""

    seconds: np.ndarray  # mid-exposure, since MJDREF
    duration: np.ndarray | None  # s
    observer: np.ndarray | None  # Stonyhurst longitude and latitude in deg, distance in m

    def __getitem__(self, item):
        return _Exposures(*(None if x is None else x[item] for x in (self.seconds, self.duration, self.observer)))


class ESISWCS(WCS):
    """
    FITS WCS of a cube of exposures and channels.

    The axes of a whole cube are, in FITS order, x, y, channel (``CAMERA_ID``) and time (``UTC--TAB``: the
    time of each exposure stands in a table and is exact, however irregular the exposures are).
    Everything that `~astropy.wcs.WCS` does works; the differences are:

    * Indexing with integers and ranges, in array order (time, channel, y, x), gives an `ESISWCS` again, with
    the
      dates, observer and reference pixel of what is left. Only one row or column of the celestial pair, which
      FITS can not express, gives a `SlicedESISWCS`.
    * The time and channel that were sliced away are remembered in ``dropped_world_dimensions``.
    * It can be pickled, and its header has all digits.

    Channels in even steps make a linear axis; others need a table too, and the axis is then ``CAME-TAB``,
    since FITS allows four letters before ``-TAB``. A single exposure is on a linear ``UTC`` axis whose pixel
    is as wide as the exposure.

    Parameters
    ----------
    *args, **kwargs
        As `~astropy.wcs.WCS`: a header, and the `~astropy.io.fits.HDUList` that holds the tables.

    See Also
    --------
    level3_wcs, level1_wcs : Make one.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.wcs import level3_wcs
    >>> times = Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10.4"])
    >>> wcs = level3_wcs(ESIS_1.grid, times, [1, 2, 3, 4])
    >>> wcs.array_shape
    (2, 4, 1270, 1270)
    >>> wcs[1, 0].wcs.dateavg
    '2019-09-30T18:08:10.400000000'
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._dropped = ()
        self._exposures = None
        self._channels = None
        if args or "header" in kwargs:
            self._exposures, self._channels = self._derive()

    @property
    def times(self):
        """Mid-exposure times (`~astropy.time.Time`, shape (time,)); a scalar where time was sliced away."""
        if self._exposures is None:
            return None
        seconds = self._exposures.seconds
        if self._axis(_TIME) is None:
            seconds = seconds[0]
        return _time_from_seconds(self.wcs.mjdref, seconds)

    @property
    def channels(self):
        """Channel numbers (`numpy.ndarray` of `int`); an `int` where the channel was sliced away."""
        if self._channels is None:
            return None
        return self._channels.copy() if self._axis(_CHANNEL) is not None else int(self._channels[0])

    @property
    def exposure(self):
        """Exposure times (`~astropy.units.Quantity`, as `times`), or None if not known."""
        if self._exposures is None or self._exposures.duration is None:
            return None
        duration = self._exposures.duration * u.s
        return duration if self._axis(_TIME) is not None else duration[0]

    @property
    def array_axis_names(self):
        """Names of the array axes (`list` of `str`): of ``"time"``, ``"channel"``, ``"y"`` and ``"x"``."""
        time, channel = self._axis(_TIME), self._axis(_CHANNEL)
        image = iter("xy" if self.wcs.ctype[0][:4] not in ("HPLT", "DETY") else "yx")
        names = [{time: "time", channel: "channel"}.get(axis) or next(image, "?") for axis in range(self.naxis)]
        return names[::-1]

    @property
    def world_axis_physical_types(self):
        """Physical types of the world axes (`list` of `str`)."""
        names = [ctype.split("-")[0] for ctype in self.wcs.ctype]
        types = super().world_axis_physical_types
        return [kind or _PHYSICAL_TYPES.get(name) for kind, name in zip(types, names, strict=True)]

    @property
    def dropped_world_dimensions(self):
        """World coordinates that were sliced away, in the form that `~ndcube.GlobalCoords` reads (`dict`)."""
        # Made afresh on every access: the functions in it do not pickle.
        dropped = {}
        for name, physical_type, unit, value in self._dropped:
            if physical_type == "time":
                klass = (Time, (), {}, partial(_time_from_seconds, tuple(self.wcs.mjdref)))
            else:
                klass = (u.Quantity, (), {"unit": unit})
            _add_dropped(dropped, name, physical_type, unit, value, (name, 0, "value"), klass)
        return dropped

    def slice(self, view, numpy_order=True):
        """
        Slice by integers and ranges; ``wcs[view]`` does the same.

        Parameters
        ----------
        view : `int`, `slice` or `tuple` of them
            As for `normalize_item`.
        numpy_order : `bool`, optional
            Whether the view is in array order (time, channel, y, x) or in FITS order.

        Returns
        -------
        `ESISWCS` or `SlicedESISWCS`
            The WCS of the slice.

        Raises
        ------
        IndexError
            As `normalize_item`.

        Examples
        --------
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.wcs import level3_wcs
        >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])
        >>> tuple(wcs[0, 1, 100:700, 200:900].wcs.crpix.tolist())
        (413.5, 568.5)
        """
        if self.pixel_shape is None:
            return super().slice(view, numpy_order=numpy_order)
        view = normalize_item(view, self.array_shape if numpy_order else self.pixel_shape)
        view = view[::-1] if numpy_order else view
        drop = [axis for axis, item in enumerate(view) if not isinstance(item, slice)]
        if len(drop) == self.naxis:
            msg = f"got the index {view[::-1]} of a single value, expected at least one range (or index .data)"
            raise IndexError(msg)
        ranges = [item if isinstance(item, slice) else slice(item, item + 1) for item in view]
        coupled = [axis for axis in drop if not self._is_separate(axis)]
        separate = [axis for axis in drop if axis not in coupled]
        wcs = self._cut(ranges, separate)._drop(separate)._stamp()
        if not coupled:
            return wcs
        kept = [item for axis, item in enumerate(view) if axis not in drop or axis in coupled]
        inner = tuple(slice(None) if isinstance(item, slice) else 0 for item in kept)
        return SlicedESISWCS(wcs, inner[::-1])

    def dropaxis(self, dropax):
        """
        Remove an axis, as `~astropy.wcs.WCS.dropaxis`.

        Parameters
        ----------
        dropax : `int`
            Index of the axis in FITS order, from 0.

        Returns
        -------
        `ESISWCS`
            The WCS without the axis.

        Raises
        ------
        ValueError
            If the axis is one of the celestial pair.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.wcs import ESISWCS
        >>> ESISWCS(ESIS_1.grid.to_header()).dropaxis(0)
        Traceback (most recent call last):
            ...
        ValueError: this WCS is already the two-dimensional WCS of an image: no axis can be dropped from it
        """
        if not self._is_separate(range(self.naxis)[dropax]):
            if self.naxis == 2:
                msg = "this WCS is already the two-dimensional WCS of an image: no axis can be dropped from it"
            else:
                msg = (
                    f"got axis {dropax}, one of the celestial pair {self.wcs.lng} and {self.wcs.lat}, which "
                    f"belong together: drop another axis, or index the WCS"
                )
            raise ValueError(msg)
        return super().dropaxis(dropax)

    def to_header(self, relax=None, key=None):
        """
        Make a header, as `~astropy.wcs.WCS.to_header`, with every digit of the numbers.

        Parameters
        ----------
        relax, key
            As `~astropy.wcs.WCS.to_header`.

        Returns
        -------
        `~astropy.io.fits.Header`
            The WCS keywords. The time table of a ``-TAB`` axis is not among them: see `to_fits`.
        """
        header = super().to_header(relax=relax, key=key)
        if key not in (None, self.wcs.alt):
            return header
        exact = self._exact_values()
        for index, card in enumerate(header.cards):
            value = exact.get(card.keyword)
            if value is not None and np.isfinite(value):
                text = f"{card.keyword:8}= {float(value)!r:>20} / {card.comment}"[:80]
                header._cards[index] = fits.Card.fromstring(text)
        return header

    def __reduce__(self):
        # astropy can not pickle a WCS with a -TAB axis.
        state = {key: value for key, value in self.__dict__.items() if not key.endswith("_cache")}
        tables = [(tab.name, tab.data[tab.name].ravel(), tab.columns[0].unit) for tab in self.table_hdus()]
        return _unpickle, (type(self), self.to_header(relax=True).tostring(), tables, state)

    def to_fits(self, relax=False, key=None):
        """
        Make an `~astropy.io.fits.HDUList`, as `~astropy.wcs.WCS.to_fits`, with the tables of ``-TAB`` axes.

        Parameters
        ----------
        relax, key
            As `~astropy.wcs.WCS.to_fits`.

        Returns
        -------
        `~astropy.io.fits.HDUList`
            A primary HDU without data, and one `~astropy.io.fits.BinTableHDU` for each table.
        """
        hdulist = super().to_fits(relax=relax, key=key)
        hdulist.extend(self.table_hdus())
        hdulist[0].header.set("EXTEND", True, after="NAXIS")
        return hdulist

    def table_hdus(self):
        """
        Make the tables that the ``-TAB`` axes refer to.

        Returns
        -------
        `list` of `~astropy.io.fits.BinTableHDU`
            One per ``-TAB`` axis.

        Examples
        --------
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.wcs import level3_wcs
        >>> times = Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10.4"])
        >>> level3_wcs(ESIS_1.grid, times, [1]).table_hdus()[0].data["TIME"].ravel()
        array([65280. , 65290.4])
        """
        hdus = []
        for tab in self.wcs.tab:
            axis = int(tab.map[0])
            hdus.append(_table_hdu(_TABLES[self.wcs.ctype[axis][:4]], tab.coord.ravel(), self.wcs.cunit[axis]))
        return hdus

    def _axis(self, ctype):
        """Index in FITS order of the time or channel axis, or None."""
        for axis, name in enumerate(self.wcs.ctype):
            if name == ctype or (name.endswith("-TAB") and name[:4] == f"{ctype}---"[:4]):
                return axis
        return None

    def _is_separate(self, axis):
        """Whether a pixel axis and its world axis depend on no other."""
        matrix = self.axis_correlation_matrix
        return matrix[axis].sum() == 1 and matrix[:, axis].sum() == 1 and matrix[axis, axis]

    def _derive(self):
        """Exposures and channels as the header alone tells them."""
        seconds = channels = None
        for ctype in (_TIME, _CHANNEL):
            axis = self._axis(ctype)
            if axis is None or not self._naxis[axis]:
                continue
            pixel = np.zeros((self.naxis, self._naxis[axis]))
            pixel[axis] = np.arange(self._naxis[axis])
            values = self.wcs.p2s(pixel.T, 0)["world"][:, axis]
            if ctype == _TIME:
                seconds = values
            else:
                channels = np.round(values).astype(int)
        if seconds is None and self.wcs.dateavg and np.isfinite(self.wcs.mjdref).all():
            reference = Time(*self.wcs.mjdref, format="mjd", scale="utc")
            seconds = np.array([(Time(self.wcs.dateavg, scale="utc") - reference).to_value("s")])
        if seconds is None:
            return None, channels
        duration = None if np.isnan(self.wcs.xposure) else np.full(seconds.size, self.wcs.xposure)
        aux = self.wcs.aux
        place = aux.hgln_obs, aux.hglt_obs, aux.dsun_obs
        observer = None if None in place else np.tile(np.array(place), (seconds.size, 1))
        return _Exposures(seconds, duration, observer), channels

    def _cut(self, ranges, drop):
        """Restrict to ranges, one `slice` per axis in FITS order; the axes ``drop`` are about to go."""
        wcs = super().slice(tuple(ranges[::-1]))
        time, channel = self._axis(_TIME), self._axis(_CHANNEL)
        tables = {}
        if time is not None and self._exposures is not None:
            wcs._exposures = self._exposures[ranges[time]]
            if wcs._naxis[time] != self._naxis[time] and time not in drop:
                tables[time] = _time_cards(wcs._exposures)
        if channel is not None and self._channels is not None:
            wcs._channels = self._channels[ranges[channel]]
            if wcs._naxis[channel] != self._naxis[channel] and channel not in drop:
                cards, table = _channel_cards(wcs._channels)
                if self.wcs.ctype[channel].endswith("TAB"):
                    tables[channel] = cards, table
                else:
                    # As if made for these channels, so that any way to a slice gives the same.
                    for name in ("CRPIX", "CRVAL", "CDELT"):
                        getattr(wcs.wcs, name.lower())[channel] = cards[name]
        if tables:
            wcs = wcs._with_axes(tables)
        return wcs

    def _drop(self, axes):
        """Remove axes of one pixel, and remember where they were."""
        if not axes:
            return self
        world = self.wcs.p2s(np.zeros((1, self.naxis)), 0)["world"][0]
        names, types = self.world_axis_names, self.world_axis_physical_types
        dropped = tuple((names[i] or types[i], types[i], str(self.wcs.cunit[i]), float(world[i])) for i in axes)
        wcs = self.sub([axis + 1 for axis in range(self.naxis) if axis not in axes])
        # In the order of the world axes, and not of the slicing, so that any way to a slice gives the same.
        wcs._dropped = tuple(sorted(self._dropped + dropped))
        return wcs

    def _with_axes(self, cards):
        """Replace axes, given as ``{axis: (cards, values of the table or None)}``."""
        header, tables = self.to_header(), {tab.name: tab for tab in self.table_hdus()}
        for axis, (values, table) in cards.items():
            _set_axis(header, axis + 1, values)
            name = _TABLES[self.wcs.ctype[axis][:4] if self._axis(_TIME) != axis else "UTC-"]
            tables.pop(name, None)
            if table is not None:
                tables[name] = _table_hdu(name, table, values.get("CUNIT", ""))
        wcs = _from_header(header, tables.values(), self._naxis)
        wcs._dropped, wcs._exposures, wcs._channels = self._dropped, self._exposures, self._channels
        return wcs

    def _stamp(self):
        """Write the dates and the observer of the exposures into the WCS; in place, on a new object."""
        # astropy's cache of the frame does not notice a change of DATE-AVG or of the observer.
        self.__dict__.pop("_components_and_classes_cache", None)
        exposures = self._exposures
        if exposures is None:
            return self
        seconds, prm = exposures.seconds, self.wcs
        half = np.zeros(seconds.size) if exposures.duration is None else exposures.duration / 2
        average = seconds[0] if seconds.size == 1 else seconds.mean()
        moments = {"beg": (seconds - half).min(), "avg": average, "end": (seconds + half).max()}
        moments["obs"] = moments["beg"]
        times = _time_from_seconds(prm.mjdref, np.array(list(moments.values())))
        times.precision = 9
        for name, date, mjd in zip(moments, times.isot.tolist(), times.mjd.tolist(), strict=True):
            setattr(prm, f"date{name}", date)
            setattr(prm, f"mjd{name}", mjd)
        if exposures.duration is not None:
            prm.xposure = exposures.duration.mean()
        if exposures.observer is not None:
            nearest = np.abs(seconds - average).argmin()
            prm.aux.hgln_obs, prm.aux.hglt_obs, prm.aux.dsun_obs = exposures.observer[nearest].tolist()
        return self

    def _exact_values(self):
        """Keyword to number, with all digits."""
        prm = self.wcs
        values = {
            "LONPOLE": prm.lonpole,
            "LATPOLE": prm.latpole,
            "MJDREF": sum(prm.mjdref),
            "XPOSURE": prm.xposure,
        }
        pc, cdelt = prm.get_pc(), prm.get_cdelt()
        for i in range(self.naxis):
            values |= {
                f"CRPIX{i + 1}": prm.crpix[i],
                f"CRVAL{i + 1}": prm.crval[i],
                f"CDELT{i + 1}": cdelt[i],
            }
            values |= {f"PC{i + 1}_{j + 1}": pc[i, j] for j in range(self.naxis)}
        values |= {f"PV{i}_{m}": value for i, m, value in prm.get_pv()}
        values |= {f"MJD-{name.upper()}": getattr(prm, f"mjd{name}") for name in ("obs", "beg", "avg", "end")}
        for name in ("hgln_obs", "hglt_obs", "crln_obs", "dsun_obs", "rsun_ref"):
            values[name.upper()] = getattr(prm.aux, name)
        return values


class SlicedESISWCS(SlicedFITSWCS):
    """
    Part of an `ESISWCS` that FITS can not express: a row or a column of the celestial pair.

    Parameters
    ----------
    wcs : `ESISWCS`
        The WCS, of one pixel along the axes that are dropped.
    slices : `tuple`
        Zero for the axes that are dropped, and ``slice(None)`` for the others, in array order.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.wcs import level3_wcs
    >>> row = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])[0, 1, 100]
    >>> row.pixel_n_dim, row.world_n_dim, row.channels
    (1, 2, 2)
    """

    @property
    def times(self):
        """As `ESISWCS.times`."""
        return self._wcs.times

    @property
    def channels(self):
        """As `ESISWCS.channels`."""
        return self._wcs.channels

    @property
    def exposure(self):
        """As `ESISWCS.exposure`."""
        return self._wcs.exposure

    @property
    def array_axis_names(self):
        """As `ESISWCS.array_axis_names`."""
        names = zip(self._wcs.array_axis_names, self._slices_array, strict=True)
        return [name for name, item in names if isinstance(item, slice)]

    @property
    def dropped_world_dimensions(self):
        """As `ESISWCS.dropped_world_dimensions`, with the celestial coordinates where both axes are gone."""
        here = SlicedLowLevelWCS.dropped_world_dimensions.fget(self)
        dropped = self._wcs.dropped_world_dimensions
        if not here or not dropped:
            return here or dropped
        merged = {key: [*here[key], *dropped[key]] for key in dropped if isinstance(dropped[key], list)}
        classes = here["world_axis_object_classes"] | dropped["world_axis_object_classes"]
        return {**merged, "world_axis_object_classes": classes, "serialized_classes": False}

    def __getitem__(self, item):
        item = iter(normalize_item(item, self.array_shape))
        return self._wcs[tuple(next(item) if isinstance(x, slice) else x for x in self._slices_array)]


def normalize_item(item, shape):
    """
    Make an index explicit, after the rules of numpy, or refuse it.

    Parameters
    ----------
    item : `int`, `slice`, ``...`` or `tuple` of them
        The index; negative numbers count from the end.
    shape : `tuple` of `int`
        Shape of what is indexed.

    Returns
    -------
    `tuple` of `int` and `slice`
        One for each axis: an integer from 0, or a range with start and stop.

    Raises
    ------
    IndexError
        If the index is anything else, out of range, has a step, or selects nothing.

    Examples
    --------
    >>> from esis_ndcube.wcs import normalize_item
    >>> normalize_item((-1, ..., slice(-10, None)), (28, 4, 1270, 1270))
    (27, slice(0, 4, None), slice(0, 1270, None), slice(1260, 1270, None))
    """
    shape = tuple(shape)
    items = item if isinstance(item, tuple) else (item,)
    dots = [i for i, x in enumerate(items) if x is Ellipsis]
    if len(dots) > 1:
        msg = f"got more than one '...' in the index {item}, expected at most one"
        raise IndexError(msg)
    if dots:
        fill = (slice(None),) * (len(shape) - len(items) + 1)
        items = items[: dots[0]] + fill + items[dots[0] + 1 :]
    if len(items) > len(shape):
        msg = f"got {len(items)} indices, expected at most {len(shape)}, the number of axes"
        raise IndexError(msg)
    items += (slice(None),) * (len(shape) - len(items))
    return tuple(_normalize_one(x, n, axis) for axis, (x, n) in enumerate(zip(items, shape, strict=True)))


def level3_wcs(celestial, times, channels, *, observer=None, exposure=None, rsun=None):
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
        Where the observer was, one position or one for each time; by default Earth.
    exposure : `~astropy.units.Quantity`, optional
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
    >>> wcs = level3_wcs(ESIS_1.grid, times, [1, 3], exposure=10 * u.s)
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
    exposures, reference = _exposures(times, exposure, observer=observer, earth=True)
    prm = celestial.wcs
    header = celestial.to_header()
    for key in [key for key in header if not re.match(r"C(TYPE|UNIT|RPIX|RVAL|DELT)|PC|PV|L..POLE", key)]:
        del header[key]
    if rsun is None:
        if prm.aux.rsun_ref is None:
            from sunpy.sun import constants

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


def level1_wcs(shape, times, channels, exposure=None):
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
    exposure : `~astropy.units.Quantity`, optional
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
    exposures, reference = _exposures(times, exposure)
    header = fits.Header()
    for axis, letter in enumerate("XY", start=1):
        cards = {"CTYPE": f"DET{letter}", "CUNIT": "pixel", "CRPIX": 1.0, "CRVAL": 0.0, "CDELT": 1.0}
        _set_axis(header, axis, cards)
    return _assemble(header, (shape[1], shape[0]), exposures, channels, reference)._stamp()


def _normalize_one(item, length, axis):
    if isinstance(item, slice):
        if item.step not in (None, 1):
            msg = f"got a step of {item.step} along axis {axis}, expected a range without step"
            raise IndexError(msg)
        try:
            start, stop, _ = item.indices(length)
        except TypeError:
            msg = f"got {item} along axis {axis}, expected a range of integers"
            raise IndexError(msg) from None
        if stop <= start:
            msg = f"got {item.start}:{item.stop} along axis {axis} of length {length}, which selects nothing"
            raise IndexError(msg)
        return slice(start, stop)
    try:
        if isinstance(item, (bool, np.bool_, Iterable)):
            raise TypeError
        index = operator.index(item)
    except TypeError:
        kind = "None" if item is None else type(item).__name__
        msg = f"got {kind} as index of axis {axis}, expected integers and ranges (no masks, lists or None)"
        raise IndexError(msg) from None
    if not -length <= index < length:
        msg = f"got index {index} along axis {axis}, expected {-length} to {length - 1}"
        raise IndexError(msg)
    return index % length


def _time_from_seconds(mjdref, seconds):
    time = Time(*mjdref, format="mjd", scale="utc") + TimeDelta(seconds, format="sec")
    time.format = "isot"
    return time


def _add_dropped(dropped, name, physical_type, unit, value, component, klass):
    lists = {
        "value": value,
        "world_axis_names": name,
        "world_axis_physical_types": physical_type,
        "world_axis_units": unit,
        "world_axis_object_components": component,
    }
    for key, entry in lists.items():
        dropped.setdefault(key, []).append(entry)
    dropped.setdefault("world_axis_object_classes", {})[name] = klass
    dropped["serialized_classes"] = False


def _exposures(times, exposure, *, observer=None, earth=False):
    """The exposures, and the MJD of the midnight before the first, from which their seconds count."""
    times = Time(times, scale="utc") if not isinstance(times, Time) else times.utc
    if times.ndim != 1 or not times.size or np.any(times.masked and times.mask):
        msg = f"got times of shape {times.shape}, expected one known time for each exposure, shape (time,)"
        raise ValueError(msg)
    reference = np.floor(times[0].mjd)
    seconds = np.asarray((times - Time(reference, format="mjd", scale="utc")).to_value("s"), dtype=float)
    if not (np.diff(seconds) > 0).all():
        msg = f"got the times {times.isot.tolist()}, expected increasing ones"
        raise ValueError(msg)
    duration = None
    if exposure is not None:
        duration = np.broadcast_to(u.Quantity(exposure).to_value("s"), seconds.shape).astype(float)
    place = None
    if observer is not None or earth:
        place = _observer_values(observer, times)
    return _Exposures(seconds, duration, place), reference


def _observer_values(observer, times):
    from sunpy.coordinates import HeliographicStonyhurst, get_earth

    if observer is None:
        observer = get_earth(times)
    elif not isinstance(observer, (SkyCoord, BaseCoordinateFrame)):
        msg = f"got an observer of type {type(observer).__name__}, expected a SkyCoord or a coordinate frame"
        raise TypeError(msg)
    else:
        obstime = getattr(observer, "obstime", None)
        obstime = (times if observer.shape else times[0]) if obstime is None else obstime
        observer = observer.transform_to(HeliographicStonyhurst(obstime=obstime))
    values = [observer.lon.to_value("deg"), observer.lat.to_value("deg"), observer.radius.to_value("m")]
    return np.column_stack([np.broadcast_to(value, times.shape) for value in values]).astype(float)


def _time_cards(exposures):
    """Cards of a time axis, and the values of its table or None."""
    cards = {"CTYPE": "UTC--TAB", "CNAME": "time", "CUNIT": "s", "CRPIX": 1.0, "CRVAL": 1.0, "CDELT": 1.0}
    if exposures.seconds.size > 1:
        return cards, exposures.seconds
    # A table of one row can be read at its one pixel only; on a line there are pixel edges, and times
    # outside.
    width = 1.0 if exposures.duration is None else float(exposures.duration[0])
    return cards | {"CTYPE": "UTC", "CRVAL": float(exposures.seconds[0]), "CDELT": width}, None


def _channel_cards(channels):
    """Cards of a channel axis, and the values of its table or None."""
    cards = {"CTYPE": "CAMERA_ID", "CNAME": "channel", "CUNIT": "", "CRPIX": 1.0, "CRVAL": 1.0, "CDELT": 1.0}
    steps = np.unique(np.diff(channels))
    if steps.size > 1:
        return cards | {"CTYPE": "CAME-TAB"}, channels.astype(float)
    return cards | {"CRVAL": float(channels[0]), "CDELT": float(steps[0]) if steps.size else 1.0}, None


def _set_axis(header, number, cards):
    for key in [key for key in header if re.fullmatch(rf"(PS|PV){number}_\d+", key)]:
        del header[key]
    for key, value in cards.items():
        header[f"{key}{number}"] = value
    if cards["CTYPE"].endswith("-TAB"):
        name = _TABLES[cards["CTYPE"][:4]]
        header.update({f"PS{number}_0": name, f"PS{number}_1": name})
        header.update({f"PV{number}_{m}": 1 for m in (1, 2, 3)})


def _table_hdu(name, values, unit):
    column = fits.Column(
        name=name,
        format=f"{len(values)}D",
        dim=f"(1,{len(values)})",
        unit=str(unit or "") or None,
        array=np.asarray(values, dtype=float).reshape(1, -1, 1),
    )
    return fits.BinTableHDU.from_columns([column], name=name, ver=1)


def _unpickle(cls, header, tables, state):
    hdus = [_table_hdu(*table) for table in tables]
    wcs = _from_header(fits.Header.fromstring(header), hdus, state["_naxis"], cls)
    wcs.__dict__.update(state)
    return wcs


def _from_header(header, tables, pixel_shape, cls=ESISWCS):
    # `fix` would only repeat what is set here already, and take most of the time.
    wcs = cls(header, fits.HDUList([fits.PrimaryHDU(), *tables]), fix=False)
    wcs.pixel_shape = tuple(pixel_shape)
    return wcs


def _assemble(header, pixel_shape, exposures, channels, reference):
    """Add the channel and the time axis to the header of an image."""
    channels = np.asarray(channels)
    if channels.ndim != 1 or not channels.size or channels.dtype.kind not in "iu" or (np.diff(channels) <= 0).any():
        msg = f"got the channels {channels.tolist()}, expected increasing whole numbers"
        raise ValueError(msg)
    header = header.copy()
    header["WCSAXES"] = 4
    tables = []
    for number, (cards, table) in enumerate([_channel_cards(channels), _time_cards(exposures)], start=3):
        _set_axis(header, number, cards)
        if table is not None:
            tables.append(_table_hdu(_TABLES[cards["CTYPE"][:4]], table, cards["CUNIT"]))
    header["TIMESYS"] = "UTC"
    header["DATEREF"] = Time(reference, format="mjd", scale="utc").isot[:10]
    header["MJDREF"] = reference
    wcs = _from_header(header, tables, (*pixel_shape, channels.size, exposures.seconds.size))
    wcs._exposures, wcs._channels = exposures, channels.astype(int)
    return wcs
