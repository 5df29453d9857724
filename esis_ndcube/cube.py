"""The base of both cubes: slices keep everything, and the WCS stays FITS."""

import copy

import numpy as np

from astropy.nddata import NDData, NDUncertainty
from astropy.wcs.wcsapi import SlicedLowLevelWCS
from ndcube import ExtraCoords, NDCube, NDCubeSequence
from ndcube.meta import NDMeta

from esis_ndcube._arrays import split_mask
from esis_ndcube._cube_display import CubeDisplay
from esis_ndcube._cube_operations import CubeOperations
from esis_ndcube.io import CubeIO
from esis_ndcube.wcs import ESISWCS, SlicedESISWCS, normalize_item

__all__ = ["ESISCube"]


class ESISCube(CubeIO, CubeOperations, CubeDisplay, NDCube):
    """
    Cube of exposures and channels.

    An `~ndcube.NDCube` with array axes (time, channel, y, x), or part of one.
    Slicing with integers and ranges keeps the class, unit, mask, flags, uncertainty and metadata, and gives a
    true FITS WCS wherever FITS can express it; negative indices count from the end.

    Parameters
    ----------
    data : array-like
        Shape (time, channel, y, x).
    wcs : `~esis_ndcube.wcs.ESISWCS`
        The WCS.
    uncertainty : `~astropy.nddata.NDUncertainty`, optional
        Uncertainty of the data.
    mask : array-like of `bool` or `int`, optional
        True where the data are invalid; of integers those that are not 0. What is masked in a `numpy.ma.MaskedArray` or
        an astropy ``Masked`` array as well is invalid too.
    meta : `~ndcube.meta.NDMeta` or `dict`, optional
        Metadata; those of an `~ndcube.meta.NDMeta` that belong to axes are sliced.
    unit : `~astropy.units.Unit`, optional
        Unit of the data.
    flags : array-like of unsigned integers, optional
        Bits of `~esis_ndcube.flags.Flag`, of the data's shape.
    copy : `bool`, optional
        Whether to copy what is given.
    **kwargs
        As `~ndcube.NDCube`.

    Raises
    ------
    ValueError
        If mask, flags or uncertainty are not of the data's shape, or the mask is neither of `bool` nor of integers.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.wcs import level1_wcs
    >>> times = Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10.4"])
    >>> cube = ESISCube(np.zeros((2, 3, 5, 7)), wcs=level1_wcs((5, 7), times, [1, 2, 3]), unit="electron")
    >>> cube[-1, 0].time.isot, cube[-1, 0].channel
    ('2019-09-30T18:08:10.400', 1)
    """

    # Level of processing that `read` expects in a file; None for any.
    _level = None

    def __init__(
        self,
        data,
        wcs=None,
        uncertainty=None,
        mask=None,
        meta=None,
        unit=None,
        *,
        flags=None,
        copy=False,
        **kwargs,
    ):
        if flags is None:
            flags = getattr(data, "flags", None) if isinstance(data, NDCube) else None
        meta = getattr(data, "meta", None) if meta is None and isinstance(data, NDCube) else meta
        if not isinstance(data, NDData):
            # Astropy would take one of the two for both.
            data, masked = split_mask(data)
            mask = masked if mask is None else mask if masked is None else parse_mask(mask) | masked
        if isinstance(meta, NDMeta):
            # ndcube writes the shape of the data into it.
            meta = copy_meta(meta)
        super().__init__(data, wcs=wcs, uncertainty=uncertainty, mask=mask, meta=meta, unit=unit, copy=copy, **kwargs)
        self._flags = None
        if flags is not None:
            # What has a type is an array already, perhaps a lazy one.
            self._flags = flags if hasattr(flags, "dtype") and not copy else np.array(flags)
            if self._flags.dtype.kind != "u":
                msg = f"got flags of type {self._flags.dtype}, expected unsigned integers"
                raise ValueError(msg)
        parts = {
            "mask": self.mask,
            "flags": self._flags,
            "uncertainty": getattr(self.uncertainty, "array", None),
        }
        for name, part in parts.items():
            if np.ndim(part) and np.shape(part) != self.data.shape:
                msg = f"got {name} of shape {np.shape(part)}, expected that of the data, {self.data.shape}"
                raise ValueError(msg)

    @property
    def mask(self):
        """What is invalid (`numpy.ndarray` of `bool`, perhaps lazy; or one `bool` for all pixels), or None."""
        return self._mask

    @mask.setter
    def mask(self, value):
        self._mask = parse_mask(value)

    @property
    def uncertainty(self):
        """Uncertainty of the data (`~astropy.nddata.NDUncertainty`), or None."""
        return self._uncertainty

    @uncertainty.setter
    def uncertainty(self, value):
        array = getattr(value, "array", value)
        if array is not None and np.ndim(array) == 0 and isinstance(value, NDUncertainty):
            # One value for all pixels can not be sliced.
            value = type(value)(np.broadcast_to(array, self.data.shape), unit=value.unit, copy=False)
        NDCube.uncertainty.fset(self, None if array is None else value)

    @property
    def flags(self):
        """Bits of `~esis_ndcube.flags.Flag` for each pixel (`numpy.ndarray`), or None."""
        return self._flags

    @property
    def time(self):
        """Mid-exposure times (`~astropy.time.Time`, UTC, shape (time,)); scalar for a single exposure."""
        return self._from_wcs("times")

    @property
    def channel(self):
        """Channel numbers (`numpy.ndarray` of `int`, shape (channel,)); an `int` for a single channel."""
        return self._from_wcs("channels")

    @property
    def frame(self):
        """Raw frame numbers (`numpy.ndarray` of `int`, shape (time,)); an `int` for a single exposure."""
        frame = self._get_meta("frame")
        return int(frame) if frame is not None and np.ndim(frame) == 0 else frame

    @property
    def line(self):
        """The spectral line's name (`str`), or None for a cube of the whole passband."""
        return self._get_meta("line")

    @property
    def flight(self):
        """The flight (`~esis_ndcube.Flight`), or None if not known."""
        return self._get_meta("flight")

    @property
    def mid_time(self):
        """Mid-exposure times of every frame (`~astropy.time.Time`, shape (time, channel)), or None."""
        return self._get_meta("mid_time")

    @property
    def exposure(self):
        """Exposure times of every frame (`~astropy.units.Quantity`, shape (time, channel)), or None."""
        return self._get_meta("exposure")

    @property
    def history(self):
        """What was done to the data (`tuple` of `~esis_ndcube.provenance.ProcessingStep`)."""
        return tuple(self._get_meta("history") or ())

    def __getitem__(self, item):
        # All of it is done here and not in ndcube: that shares the dictionary of added global coordinates
        # between cube and slice, takes the metadata off the cube while it slices, and copies them deeply.
        if isinstance(item, list) and any(isinstance(x, slice) for x in item):
            # NDCubeSequence.index_as_cube says so what it means as a tuple.
            item = tuple(item)
        item = normalize_item(item, self.data.shape)
        if not any(isinstance(x, slice) for x in item):
            msg = f"got the index {item} of a single value, expected at least one range: index `.data` instead"
            raise IndexError(msg)
        meta = _slice_meta(self.meta, item, self.data.shape) if isinstance(self.meta, NDMeta) else copy_meta(self.meta)
        sliced = type(self)(**{**self._slice(item), "meta": meta})
        sliced._global_coords._internal_coords = copy.copy(self._global_coords._internal_coords)
        sliced._extra_coords = self._slice_extra_coords(item)
        return sliced

    def explode_along_axis(self, axis):
        """
        Take the cube apart along an axis.

        Parameters
        ----------
        axis : `int`
            Array axis; negative ones count from the end.

        Returns
        -------
        `~ndcube.NDCubeSequence`
            The parts, each with its own metadata, and a copy of the cube's.

        Raises
        ------
        IndexError
            If there is no such axis, or no other.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> [exposure.frame for exposure in cube.explode_along_axis(0)]  # doctest: +SKIP
        """
        if not -self.data.ndim <= axis < self.data.ndim:
            msg = f"got axis {axis}, expected {-self.data.ndim} to {self.data.ndim - 1}"
            raise IndexError(msg)
        before = (slice(None),) * (axis % self.data.ndim)
        parts = [self[(*before, index)] for index in range(self.shape[axis])]
        return NDCubeSequence(parts, meta=copy_meta(self.meta))

    def _slice(self, item):
        kwargs = super()._slice(item)
        kwargs["flags"] = None if self._flags is None else self._flags[item]
        return kwargs

    def _slice_extra_coords(self, item):
        # Those of ndcube are shared by cube and slice if they are empty, and forget what was sliced away before.
        own = self.extra_coords
        extra = ExtraCoords()
        if own._lookup_tables:
            extra = own[item]
        elif not own.is_empty:
            # Those of a WCS, which need not have all axes; its pixel axes are counted from the other end.
            axes = [len(item) - 1 - int(pixel) for pixel in own.mapping]
            kept = [axis for axis, x in enumerate(item) if isinstance(x, slice)]
            if left := [axis for axis in axes if axis in kept]:
                low = getattr(own.wcs, "low_level_wcs", own.wcs)
                extra.wcs = SlicedLowLevelWCS(low, tuple(item[axis] for axis in axes[::-1]))
                extra.mapping = tuple(len(kept) - 1 - kept.index(axis) for axis in left)
        extra._dropped_tables = [*own._dropped_tables, *extra._dropped_tables]
        return extra

    def _slice_mask(self, item):
        # One value for all pixels is no array to slice, of which astropy would tell each time.
        return self.mask[item] if np.ndim(self.mask) else self.mask

    def _slice_wcs(self, item):
        return self.wcs[item] if isinstance(self.wcs, (ESISWCS, SlicedESISWCS)) else super()._slice_wcs(item)

    def _new_instance(self, **kwargs):
        kwargs.setdefault("flags", self._flags)
        return super()._new_instance(**kwargs)

    def __getstate__(self):
        # A plotter refers to its figure, and is made anew on demand.
        return {key: value for key, value in self.__dict__.items() if not key.endswith("plotter")}

    def _mask_part(self, item):
        """The mask of a part of the cube, of its shape also where it is one value or none; perhaps lazy."""
        return np.broadcast_to(False if self.mask is None else self.mask, self.data.shape)[item]

    def _from_wcs(self, name):
        if isinstance(self.wcs, (ESISWCS, SlicedESISWCS)):
            return getattr(self.wcs, name)
        return None

    def _get_meta(self, key):
        return None if self.meta is None else self.meta.get(key)


def forget_channel(wcs):
    """
    Take the memory of a channel off the WCS of a cube that is of no single one.

    Parameters
    ----------
    wcs : `~esis_ndcube.wcs.ESISWCS` or `~esis_ndcube.wcs.SlicedESISWCS`
        The WCS of a cube whose channel was sliced away.

    Returns
    -------
    `~esis_ndcube.wcs.ESISWCS` or `~esis_ndcube.wcs.SlicedESISWCS`
        A copy.
    """
    wcs = wcs.deepcopy() if isinstance(wcs, ESISWCS) else wcs
    inner = wcs if isinstance(wcs, ESISWCS) else wcs._wcs
    inner._dropped = tuple(entry for entry in inner._dropped if entry[0] != "channel")
    inner._channels = None
    return wcs


def parse_mask(mask):
    """
    Make a mask one of `bool`.

    Parameters
    ----------
    mask : array-like of `bool` or `int`
        The mask, perhaps lazy, or one value, or None.

    Returns
    -------
    array-like of `bool`
        The same array, if it is one of `bool`; of integers, where they are not 0.

    Raises
    ------
    ValueError
        If it is of another type.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.cube import parse_mask
    >>> parse_mask(np.array([0, 1, 64]))
    array([False,  True,  True])
    """
    if mask is None or isinstance(mask, bool):
        return mask
    mask = mask if hasattr(mask, "dtype") else np.asarray(mask)
    if mask.dtype.kind not in "biu":
        msg = f"got a mask of type {mask.dtype}, expected bool, True where data are invalid: compare it with a value"
        raise ValueError(msg)
    return mask if mask.dtype == bool else mask != 0


class _Meta(NDMeta):
    """Metadata that can be pickled: ndcube's set their items before they are ready."""

    def __reduce__(self):
        return type(self), (dict(self), self.key_comments, self.axes, self.data_shape)


def copy_meta(meta):
    """
    Copy metadata, the container and not the values.

    Parameters
    ----------
    meta : `~ndcube.meta.NDMeta` or `dict`
        The metadata.

    Returns
    -------
    `~ndcube.meta.NDMeta` or `dict`
        The copy; of an `~ndcube.meta.NDMeta` with its axes and comments.

    Examples
    --------
    >>> from esis_ndcube.cube import copy_meta
    >>> copy_meta({"line": "O V"})
    {'line': 'O V'}
    """
    if not isinstance(meta, NDMeta):
        return copy.copy(meta)
    return _Meta(dict(meta), key_comments=dict(meta.key_comments), axes=dict(meta.axes), data_shape=meta.data_shape)


def _slice_meta(meta, item, shape):
    """Slice the values that belong to axes."""
    kept = [axis for axis, x in enumerate(item) if isinstance(x, slice)]
    values, axes = dict(meta), {}
    for key, of in meta.axes.items():
        of = [int(axis) for axis in of]
        value = values[key]
        if tuple(np.shape(value)) != tuple(shape[axis] for axis in of):
            msg = f"got metadata {key!r} of shape {np.shape(value)}, expected one for each index of axes {of}"
            raise ValueError(msg)
        values[key] = value[tuple(item[axis] for axis in of)]
        if left := [kept.index(axis) for axis in of if axis in kept]:
            axes[key] = left
    comments = {key: text for key, text in meta.key_comments.items() if key in values}
    return _Meta(
        values,
        key_comments=comments,
        axes=axes,
        data_shape=[item[axis].stop - item[axis].start for axis in kept],
    )
