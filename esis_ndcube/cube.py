"""The base of both cubes: slices keep everything, and the WCS stays FITS."""

import copy
import numbers

import numpy as np

import astropy.units as u
from astropy.io import registry
from astropy.nddata import NDData, NDUncertainty
from ndcube import NDCube, NDCubeSequence
from ndcube.meta import NDMeta
from ndcube.utils.exceptions import warn_user
from ndcube.visualization import PlotterDescriptor

from esis_ndcube.io.connect import CubeRead, CubeWrite, register_formats
from esis_ndcube.operations import clip_points, combine, convert_unit, raise_to, rebin, reproject_to
from esis_ndcube.utils.arrays import parse_mask, split_mask
from esis_ndcube.utils.noise import stack_correlations
from esis_ndcube.visualization import ESISPlotter, animate
from esis_ndcube.visualization._html import cube_html
from esis_ndcube.visualization.text import heading_line, summarize_cube
from esis_ndcube.wcs import ESISWCS, SlicedESISWCS, normalize_item
from esis_ndcube.wcs._coordinates import slice_coordinates
from esis_ndcube.wcs.meta import copy_meta, slice_meta

__all__ = ["ESISCube"]


class ESISCube(NDCube):
    """
    Cube of exposures and channels.

    An `~ndcube.NDCube` with array axes (time, channel, y, x), or part of one.
    Slicing with integers and ranges keeps the class, unit, mask, flags, uncertainty and metadata. The WCS of a slice is
    a true FITS WCS wherever FITS can express it. Negative indices count from the end.

    Parameters
    ----------
    data : array-like
        Shape (time, channel, y, x).
    wcs : `~esis_ndcube.wcs.ESISWCS`
        The WCS.
    uncertainty : `~astropy.nddata.NDUncertainty`, optional
        Uncertainty of the data.
    mask : array-like of `bool` or `int`, optional
        True where the data are invalid; a mask of integers is invalid where it is not 0. Pixels that a
        `numpy.ma.MaskedArray` or an astropy ``Masked`` array masks are invalid too.
    meta : `~ndcube.meta.NDMeta` or `dict`, optional
        Metadata; entries of an `~ndcube.meta.NDMeta` that belong to axes are sliced.
    unit : `~astropy.units.Unit`, optional
        Unit of the data.
    flags : array-like of unsigned integers, optional
        Bits of `~esis_ndcube.flags.Flag`, of the same shape as the data.
    copy : `bool`, optional
        Whether to copy the arguments.
    **kwargs
        As `~ndcube.NDCube`.

    Raises
    ------
    ValueError
        If mask, flags or uncertainty do not have the shape of the data, or the mask is neither of `bool` nor of
        integers.

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

    # Level of processing that `read` expects in a file; None for any level.
    _level = None

    read = registry.UnifiedReadWriteMethod(CubeRead)
    write = registry.UnifiedReadWriteMethod(CubeWrite)
    plotter = PlotterDescriptor(default_type=ESISPlotter)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        register_formats(cls)

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
            # Astropy would take one value of two for both.
            data, masked = split_mask(data)
            mask = masked if mask is None else mask if masked is None else parse_mask(mask) | masked
        if isinstance(meta, NDMeta):
            # ndcube writes the shape of the data into it.
            meta = copy_meta(meta)
        super().__init__(data, wcs=wcs, uncertainty=uncertainty, mask=mask, meta=meta, unit=unit, copy=copy, **kwargs)
        self._flags = None
        if flags is not None:
            # An object with a type is an array already, perhaps a lazy one.
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
                msg = f"got {name} of shape {np.shape(part)}, expected the shape of the data, {self.data.shape}"
                raise ValueError(msg)

    @property
    def mask(self):
        """Mask, true for invalid pixels (`numpy.ndarray` of `bool`, perhaps lazy; or one `bool` for all), or None."""
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
            # One value for all pixels cannot be sliced.
            value = type(value)(np.broadcast_to(array, self.data.shape), unit=value.unit, copy=False)
        NDCube.uncertainty.fset(self, None if array is None else value)

    @property
    def flags(self):
        """Bits of `~esis_ndcube.flags.Flag` for each pixel (`numpy.ndarray`), or None."""
        return self._flags

    @property
    def noise_correlation(self):
        """
        Correlation of the noise of neighboring pixels (`numpy.ndarray`), or None if it is not known.

        The correlation is given by distance in rows and columns of the cube's pixels. Its lengths are odd, and its
        middle is 1. Its shape is (channel, y, x), or (y, x) for a cube without channel axis. Exposures and channels are
        independent.
        The uncertainty is that of single pixels. A mean over several correlated pixels has a larger uncertainty than a
        mean over independent pixels.
        """
        known = self._get_meta("noise_correlation")
        if not isinstance(known, dict):
            return None
        found = [known.get(str(number)) for number in np.atleast_1d(self.channel)]
        if any(one is None for one in found):
            return None
        return stack_correlations(found) if np.ndim(self.channel) else found[0]

    @property
    def time(self):
        """Mid-exposure times (`~astropy.time.Time`, UTC, shape (time,)); scalar for a single exposure."""
        return self._from_wcs("times")

    @property
    def channel(self):
        """Channel numbers (`numpy.ndarray` of `int`, shape (channel,)); an `int` for a single channel."""
        return self._from_wcs("channels")

    @property
    def frame_number(self):
        """Raw frame numbers (`numpy.ndarray` of `int`, shape (time,)); an `int` for a single exposure."""
        frame_number = self._get_meta("frame_number")
        return int(frame_number) if frame_number is not None and np.ndim(frame_number) == 0 else frame_number

    @property
    def line(self):
        """The spectral line's name (`str`), or None for a cube of the whole passband."""
        return self._get_meta("line")

    @property
    def flight(self):
        """The flight (`~esis_ndcube.Flight`), or None if it is not known."""
        return self._get_meta("flight")

    @property
    def mid_time(self):
        """Mid-exposure times of every frame (`~astropy.time.Time`, shape (time, channel)), or None."""
        return self._get_meta("mid_time")

    @property
    def exposure_time(self):
        """Exposure times of every frame (`~astropy.units.Quantity`, shape (time, channel)), or None."""
        return self._get_meta("exposure_time")

    @property
    def history(self):
        """Steps of the processing of the data (`tuple` of `~esis_ndcube.utils.provenance.ProcessingStep`)."""
        return tuple(self._get_meta("history") or ())

    def __getitem__(self, item):
        # This is done here and not in ndcube: ndcube shares the dictionary of added global coordinates between cube and
        # slice, takes the metadata off the cube while it slices, and copies them deeply.
        if isinstance(item, list) and any(isinstance(x, slice) for x in item):
            # NDCubeSequence.index_as_cube passes its index as a tuple.
            item = tuple(item)
        item = normalize_item(item, self.data.shape)
        if not any(isinstance(x, slice) for x in item):
            msg = f"got the index {item} of a single value, expected at least one range: index `.data` instead"
            raise IndexError(msg)
        meta = slice_meta(self.meta, item, self.data.shape) if isinstance(self.meta, NDMeta) else copy_meta(self.meta)
        sliced = type(self)(**{**self._slice(item), "meta": meta})
        slice_coordinates(self, sliced, item)
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
            The parts, each with its own metadata and with a copy of the cube's.

        Raises
        ------
        IndexError
            If there is no such axis, or no other axis.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> [exposure.frame_number for exposure in cube.explode_along_axis(0)]  # doctest: +SKIP
        """
        if not -self.data.ndim <= axis < self.data.ndim:
            msg = f"got axis {axis}, expected {-self.data.ndim} to {self.data.ndim - 1}"
            raise IndexError(msg)
        before = (slice(None),) * (axis % self.data.ndim)
        parts = [self[(*before, index)] for index in range(self.shape[axis])]
        return NDCubeSequence(parts, meta=copy_meta(self.meta))

    def crop(self, *points, wcs=None, keepdims=False):
        """
        Cut out the smallest part that contains some points, as `ndcube.NDCube.crop`.

        Parameters
        ----------
        *points : sequences
            Coordinates of each point in world order: position on the Sun, channel and time; None for a coordinate that
            does not matter. A time before the first exposure or after the last is taken for that exposure. Channels may
            be plain numbers.
        wcs : `~astropy.wcs.wcsapi.BaseHighLevelWCS`, optional
            Another WCS or the extra coordinates of the cube, to crop by.
        keepdims : `bool`, optional
            Whether to keep axes that have one pixel left.

        Returns
        -------
        `ESISCube`
            The part, of the same class.

        Raises
        ------
        ValueError
            If all points lie outside of the cube.

        Examples
        --------
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> start, stop = Time("2019-09-30T18:08:00"), Time("2019-09-30T18:09:00")
        >>> cube.crop([None, 2, start], [None, 3, stop]).channel  # doctest: +SKIP
        array([2, 3])
        """
        return super().crop(*points, wcs=wcs, keepdims=keepdims)

    def crop_by_values(self, *points, units=None, wcs=None, keepdims=False):
        """
        Cut out the smallest part that contains some points, as `ndcube.NDCube.crop_by_values`.

        Parameters
        ----------
        *points : sequences
            Values of each point in world order: longitude, latitude, channel and time; None for a value that does not
            matter. Times are in seconds since the midnight before the first exposure. Times and channels are clipped as
            by `crop`.
        units : sequence, optional
            Units of the values that have no unit.
        wcs : `~astropy.wcs.wcsapi.BaseHighLevelWCS`, optional
            Another WCS or the extra coordinates of the cube, to crop by.
        keepdims : `bool`, optional
            Whether to keep axes that have one pixel left.

        Returns
        -------
        `ESISCube`
            The part, of the same class.

        Raises
        ------
        ValueError
            If all points lie outside of the cube.

        Examples
        --------
        >>> import astropy.units as u
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.crop_by_values([-300 * u.arcsec, -300 * u.arcsec, None, None],
        ...                     [0 * u.arcsec, 0 * u.arcsec, None, None]).shape  # doctest: +SKIP
        (28, 4, 501, 501)
        """
        return super().crop_by_values(*points, units=units, wcs=wcs, keepdims=keepdims)

    def rebin(
        self,
        bin_shape,
        operation=np.mean,
        operation_ignores_mask=False,
        handle_mask=np.all,
        propagate_uncertainties=True,
        new_unit=None,
        **options,
    ):
        """
        Join pixels, or exposures, in bins.

        Parameters
        ----------
        bin_shape : sequence of `int` or `~astropy.units.Quantity`
            Pixels in a bin along each array axis; -1 for all.
        operation : callable, optional
            Function that gives the value of a bin, as for `esis_ndcube.operations.rebin`.
        operation_ignores_mask : `bool`, optional
            As for `esis_ndcube.operations.rebin`.
        handle_mask : callable, optional
            As for `esis_ndcube.operations.rebin`.
        propagate_uncertainties : `bool` or callable, optional
            Whether the result has an uncertainty. By default it has one, unlike the result of `ndcube.NDCube.rebin`. A
            function is called as by `esis_ndcube.operations.rebin`.
        new_unit : `~astropy.units.Unit`, optional
            Unit of the result, if the operation changes it.
        **options
            ``correlation_factor``, as for `esis_ndcube.operations.rebin`, or options of ``propagate_uncertainties`` if
            it is a function.

        Returns
        -------
        `ESISCube`
            As `esis_ndcube.operations.rebin`: mask, flags, uncertainty and a FITS WCS go along.
            A bin without valid pixels is NaN, masked and of unknown uncertainty.

        Raises
        ------
        ValueError
            If the bins do not divide the shape, or would join channels.

        Notes
        -----
        Masked pixels do not count, in medians as in means, unless ``operation_ignores_mask`` is true.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.rebin((1, 1, 2, 2)).wcs.wcs.cdelt[:2]  # doctest: +SKIP
        """
        uncertainty, cube = None, self
        masks = {"operation_ignores_mask": operation_ignores_mask, "handle_mask": handle_mask}
        if callable(propagate_uncertainties):
            own = {**masks, "propagate_uncertainties": propagate_uncertainties, "new_unit": new_unit, **options}
            uncertainty, options = super().rebin(bin_shape, operation, **own).uncertainty, {}
        if propagate_uncertainties is not True:
            cube = copy.copy(self)
            cube.uncertainty = None
        new = rebin(cube, bin_shape, operation, **masks, new_unit=new_unit, **options)
        if uncertainty is not None:
            new.uncertainty = type(uncertainty)(uncertainty.array, unit=uncertainty.unit)
        return new

    def to(self, new_unit, *, equivalencies=()):
        """
        Convert to another unit.

        Parameters
        ----------
        new_unit : `~astropy.units.Unit` or `str`
            The unit; it may also be per second or per solid angle, for values per exposure and pixel.
        equivalencies : `list`, optional
            As for `astropy.units.Unit.to`.

        Returns
        -------
        `ESISCube`
            As `esis_ndcube.operations.convert_unit`.

        Raises
        ------
        ~astropy.units.UnitConversionError
            If the units do not fit.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.to("ph / (s arcsec2)").unit  # doctest: +SKIP
        Unit("ph / (arcsec2 s)")
        """
        return convert_unit(self, new_unit, equivalencies=equivalencies)

    def reproject_to(self, target_wcs, algorithm="interpolation", shape_out=None, return_footprint=False, **options):
        """
        Resample all images onto another grid of the sky.

        Parameters
        ----------
        target_wcs : `~astropy.wcs.WCS` or `~astropy.io.fits.Header`
            The grid.
        algorithm : `str`, optional
            ``"interpolation"``, ``"adaptive"`` or ``"exact"``, as for `esis_ndcube.operations.reproject_to`.
        shape_out : `tuple` of `int`, optional
            As for `esis_ndcube.operations.reproject_to`.
        return_footprint : `bool`, optional
            As for `esis_ndcube.operations.reproject_to`.
        **options
            As for `esis_ndcube.operations.reproject_to`.

        Returns
        -------
        `ESISCube`
            As `esis_ndcube.operations.reproject_to`: unit, mask, flags, uncertainty, times, channels and metadata go
            along.
            A cube whose WCS is not of this package is resampled by `ndcube.NDCube.reproject_to`, with metadata only.

        Raises
        ------
        ValueError
            As `esis_ndcube.operations.reproject_to`.

        Warns
        -----
        ndcube.utils.exceptions.NDCubeUserWarning
            If `ndcube.NDCube.reproject_to` loses something.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> other = ESISLevel3Cube.read("other.fits")  # doctest: +SKIP
        >>> cube.reproject_to(other.wcs).shape  # doctest: +SKIP
        """
        if isinstance(self.wcs, (ESISWCS, SlicedESISWCS)):
            return reproject_to(
                self, target_wcs, algorithm, shape_out=shape_out, return_footprint=return_footprint, **options
            )
        result = super().reproject_to(target_wcs, algorithm, shape_out, return_footprint, **options)
        if lost := [name for name in ("unit", "mask", "flags", "uncertainty") if getattr(self, name) is not None]:
            warn_user(f"ndcube resamples cubes whose WCS is not of esis_ndcube, and loses their {', '.join(lost)}")
        return result

    # Cubes and their sequences crop by these two methods, and sequences want ranges along all axes.
    def _get_crop_item(self, *points, wcs=None, keepdims=True):
        points = clip_points(self, points) if self._is_own(wcs) else points
        item = super()._get_crop_item(*points, wcs=wcs, keepdims=keepdims)
        return normalize_item(item, self.data.shape)

    def _get_crop_by_values_item(self, *points, units=None, wcs=None, keepdims=True):
        points = clip_points(self, points, units=units, values=True) if self._is_own(wcs) else points
        item = super()._get_crop_by_values_item(*points, units=units, wcs=wcs, keepdims=keepdims)
        return normalize_item(item, self.data.shape)

    def _is_own(self, wcs):
        return wcs is None or wcs is self.wcs

    def __neg__(self):
        return self._combine("multiply", -1)

    def __add__(self, value):
        return self._combine("add", value, "__radd__")

    def __radd__(self, value):
        return self._combine("add", value, reflected=True)

    def __sub__(self, value):
        return self._combine("subtract", value, "__rsub__")

    def __rsub__(self, value):
        return self._combine("subtract", value, reflected=True)

    def __mul__(self, value):
        return self._combine("multiply", value, "__rmul__")

    def __rmul__(self, value):
        return self._combine("multiply", value, reflected=True)

    def __truediv__(self, value):
        return self._combine("divide", value, "__rtruediv__")

    def __rtruediv__(self, value):
        return self._combine("divide", value, reflected=True)

    def __pow__(self, value):
        return NotImplemented if _knows_better(value, "__rpow__") else raise_to(self, value)

    def _combine(self, operation, value, other=None, **options):
        if other and _knows_better(value, other):
            return NotImplemented
        return combine(self, operation, value, **options)

    def plot(self, *args, **kwargs):
        """Plot the cube; the descriptor puts the text of `ESISPlotter.plot` here."""
        if self.plotter is None:
            msg = "got a cube without plotter, so that no default plotting functionality is available: set cube.plotter"
            raise NotImplementedError(msg)
        return self.plotter.plot(*args, **kwargs)

    def animate(self, path, **options):
        """
        Write a movie of the exposures.

        Parameters
        ----------
        path : path-like
            The file, ``.gif`` or ``.mp4``.
        **options
            As for `esis_ndcube.visualization.animate`: ``context``, ``fps``, ``norm``, ``cmap``, ``dpi``,
            ``overwrite`` and ``progress``.

        Returns
        -------
        `pathlib.Path`
            The file.

        Raises
        ------
        OSError
            As `esis_ndcube.visualization.animate`, for example if the file exists.
        ValueError
            As `esis_ndcube.visualization.animate`, for example if there is only one exposure.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits", lazy=True)  # doctest: +SKIP
        >>> cube.animate("flight.mp4", progress=True)  # doctest: +SKIP
        >>> cube[:, 0].animate("channel_1.gif", context=cube.context())  # doctest: +SKIP
        """
        return animate(self, path, **options)

    def __str__(self):
        rows = [f"  {name}: {text}" for name, text in self._summary().items() if text]
        return "\n".join([heading_line(self), *rows])

    def __repr__(self):
        return f"<{self}>"

    def _repr_html_(self):
        return cube_html(self, heading_line(self), self._summary())

    def _summary(self):
        """The names and texts that `str` prints."""
        return summarize_cube(self)

    def _slice(self, item):
        kwargs = super()._slice(item)
        kwargs["flags"] = None if self._flags is None else self._flags[item]
        return kwargs

    def _slice_mask(self, item):
        # One value for all pixels is no array to slice; astropy would log that each time.
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
        """The mask of a part of the cube, as an array of its shape also for one value or none; perhaps lazy."""
        return np.broadcast_to(False if self.mask is None else self.mask, self.data.shape)[item]

    def _from_wcs(self, name):
        if isinstance(self.wcs, (ESISWCS, SlicedESISWCS)):
            return getattr(self.wcs, name)
        return None

    def _get_meta(self, key):
        return None if self.meta is None else self.meta.get(key)


register_formats(ESISCube)


def _knows_better(value, method):
    """Whether the object is of another kind, which may define the operation with a cube on its left."""
    known = numbers.Number, np.ndarray, np.generic, list, tuple, str, u.UnitBase, NDData
    return hasattr(value, method) and not isinstance(value, known) and not hasattr(value, "dask")
