"""The alignment of one image with another, and its uses."""

from dataclasses import dataclass

import numpy as np

import sunpy.map
from astropy.wcs import WCS

from esis_ndcube.registration._errors import Misfit
from esis_ndcube.registration._image_inputs import map_pixels, parse_image, parse_wcs, sample_pixels
from esis_ndcube.registration.surface import CorrelationSurface
from esis_ndcube.registration.transform import PolynomialTransform
from esis_ndcube.utils._spline import evaluate, parse_order, prepare

__all__ = ["ImageAlignment"]

# A Map that takes its pointing from the written keywords is off by rounding only.
_SAME_PIXEL = 1e-4


@dataclass(frozen=True, eq=False)
class ImageAlignment:
    """
    Places of the pixels of one image in another image.

    Attributes
    ----------
    transform : `PolynomialTransform`
        Map from pixels (x, y) of the reference to pixels (u, v) of the image; `inverse` is the other direction.
    kind : `str`
        Fitted kind of map: ``"shift"``, ``"affine"``, ``"quadratic"`` or ``"cubic"``.
    score : `float`
        Correlation of the filtered images.
    converged : `bool`
        Whether the fit ended at a maximum that is higher than one of noise would be.
    reason : `str`
        Reason why the fit ended, or why not to trust it.
    n_pixels : `int`
        Number of pixels that were correlated.
    covariance : `numpy.ndarray`
        Covariance of the coefficients, all of u before all of v, shape (2 n, 2 n); 0 for coefficients that were not
        fitted.
    surface : `CorrelationSurface` or None
        Correlation at shifts about the solution, if it was requested.
    reference_shape, image_shape : `tuple` of `int`
        Rows and columns of reference and image.
    reference_wcs : `~astropy.wcs.wcsapi.BaseHighLevelWCS` or None
        The reference's WCS, if it has one.
    misfit : `~esis_ndcube.registration.Misfit` or None
        Test whether terms are missing in the transform.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube import coalign
    >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(120, 120)), 2))
    >>> alignment = coalign(scene[5:105, 8:108], scene[:100, :100], transform="shift")
    >>> print(alignment)
    ImageAlignment: shift, score 1.000 (converged)
      rotation 0.000 deg, shear 0.000 deg, scale 1.00000 x 1.00000
      reference center at image pixel (41.50, 44.50)
    """

    transform: PolynomialTransform
    kind: str
    score: float
    converged: bool
    reason: str
    n_pixels: int
    covariance: np.ndarray
    surface: CorrelationSurface | None
    reference_shape: tuple[int, int]
    image_shape: tuple[int, int]
    reference_wcs: object = None
    misfit: Misfit | None = None

    def __str__(self):
        x, y = ((n - 1) / 2 for n in self.reference_shape[::-1])
        parts = {key: round(value, 6) + 0.0 for key, value in self.transform.decompose(x, y).items()}
        return (
            f"ImageAlignment: {self.kind}, score {self.score:.3f} ({self.reason})\n"
            f"  rotation {parts['rotation']:.3f} deg, shear {parts['shear']:.3f} deg, "
            f"scale {parts['scale_x']:.5f} x {parts['scale_y']:.5f}\n"
            f"  reference center at image pixel ({parts['u']:.2f}, {parts['v']:.2f})"
        )

    def __repr__(self):
        return f"<{self}>"

    def inverse(self, u, v):
        """
        Pixels of the reference that show the same places as pixels of the image.

        Parameters
        ----------
        u, v : array-like
            Pixels of the image, of one shape.

        Returns
        -------
        x, y : `numpy.ndarray`
            Pixels of the reference.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.ndimage import gaussian_filter
        >>> from esis_ndcube import coalign
        >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(120, 120)), 2))
        >>> alignment = coalign(scene[5:105, 8:108], scene[:100, :100], transform="shift")
        >>> [float(value.round(1)) for value in alignment.inverse(40, 40)]
        [48.0, 45.0]
        """
        return self.transform.inverse(u, v)

    def apply(self, image, *, order="bicubic"):
        """
        Interpolate an image, once, on the pixels of the reference.

        Parameters
        ----------
        image : array-like, `~astropy.nddata.NDData` or `~sunpy.map.GenericMap`
            The image that was aligned, or another image with the same pixels, as `coalign_images` takes it.
        order : `int` or `str`, optional
            Order of the spline: 0 to 3, or ``"nearest-neighbor"``, ``"bilinear"``, ``"biquadratic"``, ``"bicubic"``.

        Returns
        -------
        array : `numpy.ndarray`
            Shape of the reference, float32, NaN outside the footprint.
        footprint : `numpy.ndarray`
            1 where the result has valid input, else 0.

        Raises
        ------
        TypeError
            If the argument is not an image.
        ValueError
            If it does not have the shape of the image that was aligned, or the order is unknown.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.ndimage import gaussian_filter
        >>> from esis_ndcube import coalign
        >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(120, 120)), 2))
        >>> image, reference = scene[5:105, 8:108], scene[:100, :100]
        >>> aligned, footprint = coalign(image, reference, transform="shift").apply(image)
        >>> bool(np.nanmax(np.abs(aligned - reference)) < 0.05), float(footprint.mean().round(2))
        (True, 0.87)
        """
        data = parse_image(image, "an image").data.astype(np.float32)
        if data.shape != self.image_shape:
            msg = f"got an image of shape {data.shape}, expected that of the aligned image, {self.image_shape}"
            raise ValueError(msg)
        y, x = np.indices(self.reference_shape, dtype=float)
        array, footprint = evaluate(prepare(data, parse_order(order)), *self.transform(x, y))
        return array, footprint.astype(float)

    def corrected_wcs(self, wcs=None):
        """
        The image's WCS with corrected pointing.

        CRPIX and the matrix of PC and CDELT change, so that the image's pixels get the coordinates that the reference
        has at the same places; projection, CRVAL, observer and date stay.
        If the observers differ, the correction leaves out their parallax on the sphere of the Sun, as far as an affine
        map can.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`, optional
            The image's own WCS; by default the reference's.

        Returns
        -------
        `~astropy.wcs.WCS`
            A new WCS of the image.

        Raises
        ------
        TypeError
            If the WCS is not one of FITS.
        ValueError
            If the reference has no WCS, the fit failed, or the transform is neither a shift nor affine: CRPIX and PC
            can hold only these.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.ndimage import gaussian_filter
        >>> from astropy.wcs import WCS
        >>> from esis_ndcube import coalign
        >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(120, 120)), 2))
        >>> wcs = WCS(naxis=2)
        >>> wcs.wcs.ctype = "HPLN-TAN", "HPLT-TAN"
        >>> alignment = coalign(scene[5:105, 8:108], (scene[:100, :100], wcs), transform="shift")
        >>> alignment.corrected_wcs().wcs.crpix.round(1)
        array([-8., -5.])
        """
        self._check_pointing()
        reference = parse_wcs(self.reference_wcs, "a reference")
        own = parse_wcs(self.reference_wcs if wcs is None else wcs, "an image")
        fits = own.low_level_wcs
        if not isinstance(fits, WCS) or fits.has_distortion:
            msg = f"got a WCS of type {type(fits).__name__}, expected an astropy.wcs.WCS without distortion"
            raise TypeError(msg)
        x, y = sample_pixels(self.reference_shape)
        u, v = self.transform(x, y)
        there = map_pixels(reference, own, x, y)
        rows, columns = self.image_shape
        use = np.isfinite(there).all(0) & (u >= -0.5) & (u <= columns - 0.5) & (v >= -0.5) & (v <= rows - 0.5)
        terms = np.stack([u, v, np.ones_like(u)], axis=1)[use]
        # From the image's pixels to the pixels that its WCS now has in their place.
        matrix = np.linalg.lstsq(terms, there.T[use], rcond=None)[0].T
        result = fits.deepcopy()
        scale = fits.pixel_scale_matrix @ matrix[:, :2]
        if fits.wcs.has_cd():
            result.wcs.cd = scale
        else:
            result.wcs.pc = scale / np.asarray(fits.wcs.cdelt)[:, None]
        result.wcs.crpix = np.linalg.solve(matrix[:, :2], fits.wcs.crpix - 1 - matrix[:, 2]) + 1
        result.wcs.set()
        result.array_shape = self.image_shape
        return result

    def _check_pointing(self):
        if self.reference_wcs is None:
            msg = "the reference has no WCS, which would give the image's coordinates: use apply()"
            raise ValueError(msg)
        if not self.converged:
            msg = f"the images could not be aligned ({self.reason}): there is no pointing to correct"
            raise ValueError(msg)
        if self.transform.degree > 1:
            msg = f"a {self.kind} transform cannot be written as CRPIX and PC: fit an affine one, or use apply()"
            raise ValueError(msg)

    def align_map(self, image):
        """
        The image's Map with corrected pointing.

        Parameters
        ----------
        image : `~sunpy.map.GenericMap`
            The image that was aligned, or another image with the same pixels and pointing.

        Returns
        -------
        `~sunpy.map.GenericMap`
            A Map of the same data with `corrected_wcs`; programs that know Maps see it aligned with the reference.

        Raises
        ------
        TypeError
            If the argument is not a Map.
        ValueError
            As `corrected_wcs`, or if this kind of Map does not take its pointing from CRPIX, PC and CDELT.

        Examples
        --------
        >>> import sunpy.map
        >>> from esis_ndcube import coalign
        >>> image, reference = sunpy.map.Map("eit.fits"), sunpy.map.Map("trace.fits")  # doctest: +SKIP
        >>> coalign(image, reference).align_map(image).reproject_to(reference.wcs)  # doctest: +SKIP
        """
        if not isinstance(image, sunpy.map.GenericMap):
            msg = f"got {type(image).__name__}, expected a sunpy Map: for other images use corrected_wcs()"
            raise TypeError(msg)
        if image.data.shape != self.image_shape:
            msg = f"got a Map of shape {image.data.shape}, expected that of the aligned image, {self.image_shape}"
            raise ValueError(msg)
        wcs = self.corrected_wcs(image.wcs)
        meta = image.meta.copy()
        for key in [key for key in meta if key.lower().startswith(("crota", "cd1_", "cd2_", "pc1_", "pc2_"))]:
            del meta[key]
        units = [wcs.wcs.cunit[axis].to(unit) for axis, unit in enumerate(image.spatial_units)]
        for axis in range(2):
            meta[f"crpix{axis + 1}"] = float(wcs.wcs.crpix[axis])
            meta[f"cdelt{axis + 1}"] = float(wcs.wcs.cdelt[axis] * units[axis])
            for other in range(2):
                meta[f"pc{axis + 1}_{other + 1}"] = float(wcs.wcs.get_pc()[axis, other])
        result = sunpy.map.Map(image.data, meta, mask=image.mask, uncertainty=image.uncertainty)
        corners = np.array([[0, 0], np.subtract(image.data.shape[::-1], 1)]).T
        there = wcs.world_to_pixel_values(*result.wcs.pixel_to_world_values(*corners))
        if not np.abs(np.subtract(there, corners)).max() < _SAME_PIXEL:
            msg = (
                f"a {type(image).__name__} does not take its pointing from CRPIX, PC and CDELT alone: "
                f"use Map(data, corrected_wcs(map.wcs))"
            )
            raise ValueError(msg)
        return result
