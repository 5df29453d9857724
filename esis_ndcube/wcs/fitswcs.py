"""The FITS WCS of a cube, whose slices are FITS again."""

from functools import partial

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS, DistortionLookupTable, Sip, WCSBase

from esis_ndcube.wcs._axes import (
    CHANNEL,
    TABLES,
    TIME,
    Exposures,
    channel_cards,
    set_axis,
    table_hdu,
    time_cards,
    time_from_seconds,
)
from esis_ndcube.wcs._digits import all_digits, write_all_digits
from esis_ndcube.wcs._index import normalize_item
from esis_ndcube.wcs._sliced import SlicedESISWCS

__all__ = ["ESISWCS"]

_PHYSICAL_TYPES = {
    "CAMERA_ID": "custom:instrument.channel",
    "CAME": "custom:instrument.channel",
    "DETX": "custom:pos.detector.x",
    "DETY": "custom:pos.detector.y",
}


class ESISWCS(WCS):
    """
    FITS WCS of a cube of exposures and channels.

    The axes of a whole cube are, in FITS order, x, y, channel (``CAMERA_ID``) and time (``UTC--TAB``). A table holds
    the time of each exposure, which is exact, however irregular the exposures are.
    All methods of `~astropy.wcs.WCS` work; the differences are:

    * Indexing with integers and ranges, in array order (time, channel, y, x), gives an `ESISWCS` again, with the
      dates, observer and reference pixel of what is left.
      A single row or column of the celestial pair, which FITS cannot express, gives a `SlicedESISWCS`.
    * The time and channel that were sliced away are remembered in ``dropped_world_dimensions``.
    * It can be pickled, and its header has all digits.

    Channels in even steps make a linear axis. Other channels need a table too, and the axis is then ``CAME-TAB``, since
    FITS allows four letters before ``-TAB``. A single exposure is on a linear ``UTC`` axis whose pixel is as wide as
    the exposure.

    Parameters
    ----------
    *args, **kwargs
        As `~astropy.wcs.WCS`: a header, and the `~astropy.io.fits.HDUList` that holds the tables.

    See Also
    --------
    level3_wcs, level1_wcs : Make such a WCS.

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
        """Mid-exposure times (`~astropy.time.Time`, shape (time,)); a scalar if time was sliced away."""
        if self._exposures is None:
            return None
        seconds = self._exposures.seconds
        if self._axis(TIME) is None:
            seconds = seconds[0]
        return time_from_seconds(self.wcs.mjdref, seconds)

    @property
    def channels(self):
        """Channel numbers (`numpy.ndarray` of `int`); an `int` if the channel was sliced away."""
        if self._channels is None:
            return None
        return self._channels.copy() if self._axis(CHANNEL) is not None else int(self._channels[0])

    @property
    def exposure_time(self):
        """Exposure times (`~astropy.units.Quantity`, as `times`), or None if they are not known."""
        if self._exposures is None or self._exposures.duration is None:
            return None
        duration = self._exposures.duration * u.s
        return duration if self._axis(TIME) is not None else duration[0]

    @property
    def array_axis_names(self):
        """Names of the array axes (`list` of `str`): of ``"time"``, ``"channel"``, ``"y"`` and ``"x"``."""
        time, channel = self._axis(TIME), self._axis(CHANNEL)
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
        if not self._dropped:
            return {}
        # Made afresh on every access: the functions in it cannot be pickled.
        names, types, units, values = map(list, zip(*self._dropped, strict=True))
        time = (Time, (), {}, partial(time_from_seconds, tuple(self.wcs.mjdref)))
        classes = [
            time if kind == "time" else (u.Quantity, (), {"unit": unit})
            for kind, unit in zip(types, units, strict=True)
        ]
        return {
            "value": values,
            "world_axis_names": names,
            "world_axis_physical_types": types,
            "world_axis_units": units,
            "world_axis_object_components": [(name, 0, "value") for name in names],
            "world_axis_object_classes": dict(zip(names, classes, strict=True)),
            "serialized_classes": False,
        }

    def slice(self, view, numpy_order=True):
        """
        Slice by integers and ranges; ``wcs[view]`` does the same.

        Parameters
        ----------
        view : `int`, `slice`, or `tuple` or `list` of them
            As for `normalize_item`; a `list` must contain a range.
            A step along other axes than time and channel makes larger pixels, as in `~astropy.wcs.WCS.slice`.
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
        ValueError
            If no range is left.

        Examples
        --------
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.wcs import level3_wcs
        >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])
        >>> tuple(wcs[0, 1, 100:700, 200:900].wcs.crpix.tolist())
        (413.5, 568.5)
        """
        if isinstance(view, list) and any(isinstance(item, slice) for item in view):
            # Other functions would read a list of numbers as an array of indices.
            view = tuple(view)
        single = [axis for axis in (self._axis(TIME), self._axis(CHANNEL)) if axis is not None]
        if self.pixel_shape is None or (not single and _has_fractions(view)):
            return super().slice(view, numpy_order=numpy_order)
        view = normalize_item(view, self.array_shape if numpy_order else self.pixel_shape, steps=True)
        view = view[::-1] if numpy_order else view
        drop = [axis for axis, item in enumerate(view) if not isinstance(item, slice)]
        if len(drop) == self.naxis:
            msg = (
                "Cannot slice WCS: the resulting WCS should have at least one pixel and one world dimension, "
                f"got the index {view[::-1]} of a single value: index .data"
            )
            raise ValueError(msg)
        for axis in single:
            if isinstance(view[axis], slice) and view[axis].step:
                name = self.array_axis_names[::-1][axis]
                msg = f"got a step of {view[axis].step} along {name}, expected one along x and y only"
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
        relax : `bool` or `int`, optional
            Which extensions of the standard to write, as for `~astropy.wcs.WCS.to_header`.
        key : `str`, optional
            Which of alternative descriptions to write.

        Returns
        -------
        `~astropy.io.fits.Header`
            The WCS keywords. The time table of a ``-TAB`` axis is not among them: see `to_fits`.

        Examples
        --------
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.wcs import level3_wcs
        >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])
        >>> wcs[0, 0].to_header()["CTYPE*"]
        CTYPE1  = 'HPLN-TAN'           / Coordinate type codegnomonic projection
        CTYPE2  = 'HPLT-TAN'           / Coordinate type codegnomonic projection
        """
        header = super().to_header(relax=relax, key=key)
        write_all_digits(header, self, key)
        return header

    def __reduce__(self):
        # astropy cannot pickle a WCS with a -TAB axis.
        state = {key: value for key, value in self.__dict__.items() if not key.endswith("_cache")}
        columns = [(tab.name, tab.columns[0]) for tab in self.table_hdus()]
        tables = [(name, column.array.ravel(), column.unit, column.name) for name, column in columns]
        sip = self.sip and (self.sip.a, self.sip.b, self.sip.ap, self.sip.bp, self.sip.crpix)
        lookup = [
            table and (table.data, tuple(table.crpix), tuple(table.crval), tuple(table.cdelt))
            for table in (self.cpdis1, self.cpdis2, self.det2im1, self.det2im2)
        ]
        place = self.wcs.obsgeo.copy()
        return _unpickle, (type(self), all_digits(self.wcs), self.wcs.alt, tables, sip, lookup, place, state)

    def to_fits(self, relax=False, key=None):
        """
        Make an `~astropy.io.fits.HDUList`, as `~astropy.wcs.WCS.to_fits`, with the tables of ``-TAB`` axes.

        Parameters
        ----------
        relax : `bool` or `int`, optional
            Which extensions of the standard to write, as for `~astropy.wcs.WCS.to_fits`.
        key : `str`, optional
            Which of alternative descriptions to write.

        Returns
        -------
        `~astropy.io.fits.HDUList`
            A primary HDU without data, and one `~astropy.io.fits.BinTableHDU` for each table.

        Examples
        --------
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.wcs import level3_wcs
        >>> times = Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10.4"])
        >>> [hdu.name for hdu in level3_wcs(ESIS_1.grid, times, [1, 2]).to_fits()]
        ['PRIMARY', 'TIME']
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

        Raises
        ------
        ValueError
            If the table of an axis has an index, or several dimensions.

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
        names = {(axis, number): text for axis, number, text in self.wcs.get_ps()}
        for tab in self.wcs.tab:
            axis = int(tab.map[0])
            if tab.M > 1 or (axis + 1, 2) in names:
                msg = f"got the axis {self.wcs.ctype[axis]} with an index or several dimensions, expected one column"
                raise ValueError(msg)
            name, column = names[axis + 1, 0], names[axis + 1, 1]
            hdus.append(table_hdu(name, tab.coord.ravel(), self.wcs.cunit[axis], column))
        return hdus

    def _axis(self, ctypes):
        """Index in FITS order of the axis with one of some CTYPEs, or None."""
        return next((axis for axis, name in enumerate(self.wcs.ctype) if name in ctypes), None)

    def _is_separate(self, axis):
        """Whether a pixel axis and its world axis depend on no other."""
        matrix = self.axis_correlation_matrix
        return matrix[axis].sum() == 1 and matrix[:, axis].sum() == 1 and matrix[axis, axis]

    def _derive(self):
        """Exposures and channels, from the header alone."""
        seconds = channels = None
        # astropy before 7 keeps sizes of two axes only if it knows no sizes.
        shape = self.pixel_shape or [0] * self.naxis
        for kind in (TIME, CHANNEL):
            axis = self._axis(kind)
            if axis is None or not shape[axis]:
                continue
            pixel = np.zeros((self.naxis, shape[axis]))
            pixel[axis] = np.arange(shape[axis])
            values = self.wcs.p2s(pixel.T, 0)["world"][:, axis]
            if kind == TIME:
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
        return Exposures(seconds, duration, observer), channels

    def _cut(self, ranges, drop):
        """Restrict to ranges, one `slice` per axis in FITS order; the axes ``drop`` will be removed next."""
        wcs = super().slice(tuple(ranges[::-1]))
        time, channel = self._axis(TIME), self._axis(CHANNEL)
        tables = {}
        if time is not None and self._exposures is not None:
            wcs._exposures = self._exposures[ranges[time]]
            if wcs._naxis[time] != self._naxis[time] and time not in drop:
                tables[time] = time_cards(wcs._exposures)
        if channel is not None and self._channels is not None:
            wcs._channels = self._channels[ranges[channel]]
            if wcs._naxis[channel] != self._naxis[channel] and channel not in drop:
                cards, table = channel_cards(wcs._channels)
                if self.wcs.ctype[channel].endswith("TAB"):
                    tables[channel] = cards, table
                else:
                    # As if made for these channels, so that any way to a slice gives the same WCS.
                    for name in ("CRPIX", "CRVAL", "CDELT"):
                        getattr(wcs.wcs, name.lower())[channel] = cards[name]
        if tables:
            wcs = wcs._with_axes(tables)
        return wcs

    def _drop(self, axes):
        """Remove axes of one pixel, and remember their places."""
        if not axes:
            return self
        world = self.wcs.p2s(np.zeros((1, self.naxis)), 0)["world"][0]
        names, types = self.world_axis_names, self.world_axis_physical_types
        dropped = tuple((names[i] or types[i], types[i], str(self.wcs.cunit[i]), float(world[i])) for i in axes)
        wcs = self.sub([axis + 1 for axis in range(self.naxis) if axis not in axes])
        # In the order of the world axes, and not of the slicing, so that any way to a slice gives the same WCS.
        wcs._dropped = tuple(sorted(self._dropped + dropped))
        return wcs

    def _with_axes(self, cards):
        """Replace axes, given as ``{axis: (cards, values of the table or None)}``."""
        header, tables = self.to_header(), {tab.name: tab for tab in self.table_hdus()}
        for axis, (values, table) in cards.items():
            set_axis(header, axis + 1, values)
            tables.pop(TABLES.get(self.wcs.ctype[axis]), None)
            if table is not None:
                name = TABLES[values["CTYPE"]]
                tables[name] = table_hdu(name, table, values["CUNIT"])
        return from_header(header, tables.values(), self._naxis, self._exposures, self._channels, self._dropped)

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
        times = time_from_seconds(prm.mjdref, np.array(list(moments.values())))
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


def _has_fractions(view):
    """Whether a range does not consist of whole pixels; astropy takes such a range with a warning."""
    items = view if isinstance(view, tuple) else (view,)
    bounds = [part for item in items if isinstance(item, slice) for part in (item.start, item.stop)]
    return any(not hasattr(bound, "__index__") for bound in bounds if bound is not None)


def from_header(header, tables, pixel_shape, exposures, channels, dropped=()):
    """A WCS from a header, the extensions of its -TAB axes, and the facts that a header alone does not hold exactly."""
    wcs = _parse(ESISWCS, header, tables)
    wcs.pixel_shape = tuple(pixel_shape)
    wcs._exposures, wcs._channels, wcs._dropped = exposures, channels, dropped
    return wcs


def _unpickle(cls, header, key, tables, sip, lookup, place, state):
    tables = [table_hdu(*table) for table in tables]
    wcs = _parse(cls, fits.Header.fromstring(header), tables, key=key, **state["_init_kwargs"])
    if sip or any(lookup):
        sip = sip and Sip(*sip)
        x, y, from_x, from_y = (table and DistortionLookupTable(*table) for table in lookup)
        WCSBase.__init__(wcs, sip, (x, y), wcs.wcs, (from_x, from_y))
    # A header holds half of it.
    wcs.wcs.obsgeo = place
    wcs.__dict__.update(state)
    return wcs


def _parse(cls, header, tables, **kwargs):
    # `fix` would only repeat these settings, and would take most of the time.
    return cls(header, fits.HDUList([fits.PrimaryHDU(), *tables]), fix=False, **kwargs)
