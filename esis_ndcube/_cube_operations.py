"""The operations of cubes as methods and signs; the work is done in `esis_ndcube.operations`."""

import copy
import numbers

import numpy as np

import astropy.units as u
from astropy.nddata import NDData
from ndcube.utils.exceptions import warn_user

from esis_ndcube.wcs import ESISWCS, SlicedESISWCS, normalize_item


class CubeOperations:
    """
    Mixin that gives cubes the operations of `esis_ndcube.operations` in place of those of ndcube.

    Those of ndcube lose the unit, mask, uncertainty, WCS or metadata, or compute a wrong uncertainty.
    """

    def crop(self, *points, wcs=None, keepdims=False):
        """
        Cut out the smallest part that contains some points, as `ndcube.NDCube.crop`.

        Parameters
        ----------
        *points : sequences
            Coordinates of each point in world order: position on the Sun, channel and time, of which those that do
            not matter are None. Times before the first exposure or after the last are taken for these; channels may
            be plain numbers.
        wcs : `~astropy.wcs.wcsapi.BaseHighLevelWCS`, optional
            Another WCS or the extra coordinates of the cube, to crop by.
        keepdims : `bool`, optional
            Whether to keep axes of which one pixel is left.

        Returns
        -------
        `ESISCube`
            The part, of the same class.

        Raises
        ------
        ValueError
            If the points lie outside of the cube altogether.

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
            Values of each point in world order: longitude, latitude, channel and time, the last in seconds since the
            midnight before the first exposure; those that do not matter are None. Times and channels are clipped as
            by `crop`.
        units : sequence, optional
            Units of values that have none.
        wcs : `~astropy.wcs.wcsapi.BaseHighLevelWCS`, optional
            Another WCS or the extra coordinates of the cube, to crop by.
        keepdims : `bool`, optional
            Whether to keep axes of which one pixel is left.

        Returns
        -------
        `ESISCube`
            The part, of the same class.

        Raises
        ------
        ValueError
            If the points lie outside of the cube altogether.

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
            What gives the value of a bin, as for `esis_ndcube.operations.rebin`.
        operation_ignores_mask : `bool`, optional
            As there.
        handle_mask : callable, optional
            As there.
        propagate_uncertainties : `bool` or callable, optional
            Whether the result has an uncertainty; other than that of `ndcube.NDCube.rebin` it has one by default.
            A function is called as there.
        new_unit : `~astropy.units.Unit`, optional
            Unit of the result, if the operation changes it.
        **options
            ``correlation_factor``, as there, or options of ``propagate_uncertainties`` if that is a function.

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
        Masked pixels do not count, in medians as little as in means, unless ``operation_ignores_mask`` is true.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.rebin((1, 1, 2, 2)).wcs.wcs.cdelt[:2]  # doctest: +SKIP
        """
        from esis_ndcube.operations import rebin

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
            The unit; also one per second, or per solid angle, for values per exposure and pixel.
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
        from esis_ndcube.operations import convert_unit

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
            As there.
        return_footprint : `bool`, optional
            As there.
        **options
            As there.

        Returns
        -------
        `ESISCube`
            As `esis_ndcube.operations.reproject_to`: unit, mask, flags, uncertainty, times, channels and metadata go
            along.
            A cube whose WCS is none of this package is resampled by `ndcube.NDCube.reproject_to`, with metadata only.

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
        from esis_ndcube.operations import reproject_to

        if isinstance(self.wcs, (ESISWCS, SlicedESISWCS)):
            return reproject_to(
                self, target_wcs, algorithm, shape_out=shape_out, return_footprint=return_footprint, **options
            )
        result = super().reproject_to(target_wcs, algorithm, shape_out, return_footprint, **options)
        if lost := [name for name in ("unit", "mask", "flags", "uncertainty") if getattr(self, name) is not None]:
            warn_user(f"ndcube resamples cubes whose WCS is not of esis_ndcube, without their {', '.join(lost)}")
        return result

    # These two are what cubes crop by, and sequences of them, which want ranges along all axes.
    def _get_crop_item(self, *points, wcs=None, keepdims=True):
        from esis_ndcube.operations import clip_points

        points = clip_points(self, points) if self._is_own(wcs) else points
        item = super()._get_crop_item(*points, wcs=wcs, keepdims=keepdims)
        return normalize_item(item, self.data.shape)

    def _get_crop_by_values_item(self, *points, units=None, wcs=None, keepdims=True):
        from esis_ndcube.operations import clip_points

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
        from esis_ndcube.operations import raise_to

        return NotImplemented if _knows_better(value, "__rpow__") else raise_to(self, value)

    def _combine(self, operation, value, other=None, **options):
        from esis_ndcube.operations import combine

        if other and _knows_better(value, other):
            return NotImplemented
        return combine(self, operation, value, **options)


def _knows_better(value, method):
    """Whether it is an object of another kind, which may know what to do with a cube on its left."""
    known = numbers.Number, np.ndarray, np.generic, list, tuple, str, u.UnitBase, NDData
    return hasattr(value, method) and not isinstance(value, known) and not hasattr(value, "dask")
