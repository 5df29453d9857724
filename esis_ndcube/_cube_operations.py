"""The operations of cubes as methods and signs; the work is done in `esis_ndcube.operations`."""

import numpy as np

from esis_ndcube.wcs import normalize_item


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

    def rebin(self, bin_shape, operation=np.mean, **options):
        """
        Join pixels, or exposures, in bins.

        Parameters
        ----------
        bin_shape : sequence of `int` or `~astropy.units.Quantity`
            Pixels in a bin along each array axis; -1 for all.
        operation : callable, optional
            What gives the value of a bin, as for `esis_ndcube.operations.rebin`.
        **options
            As there.

        Returns
        -------
        `ESISCube`
            As `esis_ndcube.operations.rebin`: mask, flags, uncertainty and a FITS WCS go along.

        Raises
        ------
        ValueError
            If the bins do not divide the shape, or would join channels.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.rebin((1, 1, 2, 2)).wcs.wcs.cdelt[:2]  # doctest: +SKIP
        """
        from esis_ndcube.operations import rebin

        return rebin(self, bin_shape, operation, **options)

    def to(self, unit, *, equivalencies=()):
        """
        Convert to another unit.

        Parameters
        ----------
        unit : `~astropy.units.Unit` or `str`
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

        return convert_unit(self, unit, equivalencies=equivalencies)

    def reproject_to(self, target_wcs, algorithm="interpolation", **options):
        """
        Resample all images onto another grid of the sky.

        Parameters
        ----------
        target_wcs : `~astropy.wcs.WCS` or `~astropy.io.fits.Header`
            The grid.
        algorithm : `str`, optional
            ``"interpolation"``, ``"adaptive"`` or ``"exact"``, as for `esis_ndcube.operations.reproject_to`.
        **options
            As there.

        Returns
        -------
        `ESISCube`
            As `esis_ndcube.operations.reproject_to`: unit, mask, flags, uncertainty, times, channels and metadata go
            along.

        Raises
        ------
        ValueError
            As `esis_ndcube.operations.reproject_to`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> other = ESISLevel3Cube.read("other.fits")  # doctest: +SKIP
        >>> cube.reproject_to(other.wcs).shape  # doctest: +SKIP
        """
        from esis_ndcube.operations import reproject_to

        return reproject_to(self, target_wcs, algorithm, **options)

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
        return self._combine("add", value)

    def __radd__(self, value):
        return self._combine("add", value, reflected=True)

    def __sub__(self, value):
        return self._combine("subtract", value)

    def __rsub__(self, value):
        return self._combine("subtract", value, reflected=True)

    def __mul__(self, value):
        return self._combine("multiply", value)

    def __rmul__(self, value):
        return self._combine("multiply", value, reflected=True)

    def __truediv__(self, value):
        return self._combine("divide", value)

    def __rtruediv__(self, value):
        return self._combine("divide", value, reflected=True)

    def __pow__(self, value):
        from esis_ndcube.operations import raise_to

        return raise_to(self, value)

    def _combine(self, operation, value, **options):
        from esis_ndcube.operations import combine

        return combine(self, operation, value, **options)
