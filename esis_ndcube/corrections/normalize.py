"""Bring all exposures and channels to one brightness."""

from dataclasses import dataclass, field, replace

import numpy as np

import astropy.units as u
from astropy.table import QTable, Table
from sunpy.util.exceptions import warn_user

from esis_ndcube.corrections.correction import Correction, correct, grid_corner, on_grid
from esis_ndcube.flags import Flag
from esis_ndcube.resample import correlation_factor
from esis_ndcube.utils.arrays import invalid_pixels, plain_arrays
from esis_ndcube.utils.checks import check_axes, check_cube, named_axes
from esis_ndcube.utils.uncertainty import standard_deviation

__all__ = [
    "NOT_NORMALIZED",
    "Normalization",
    "factor_errors",
    "image_means",
    "masked_means",
    "normalization_factors",
    "normalize_intensities",
]

NOT_NORMALIZED = "not normalized: call cube.normalize_intensities() first"


def image_means(data, mask, flags, *, region=None, error=None):
    """
    Mean brightness of every image over one region, by default the region that is clean in all of them.

    All normalizations measure with this function, while a cube is formed and afterwards.

    Parameters
    ----------
    data : `numpy.ndarray`
        Shape (time, channel, y, x).
    mask : `numpy.ndarray` of `bool`
        True where invalid, of that shape, or one value for all, or None.
    flags : `numpy.ndarray`
        Bits of `~esis_ndcube.flags.Flag`, of that shape; not used if a region is given.
    region : `numpy.ndarray` of `bool`, optional
        True where to measure, shape (y, x).
    error : callable, optional
        Function that gives the error of an image's mean, from the image's index (time, channel) and the region.

    Returns
    -------
    means, errors : `numpy.ndarray`
        Shape (time, channel); NaN for an image without valid pixels, which does not count for the region. Errors are
        also NaN if they are not known.
    region : `numpy.ndarray` of `bool`
        True where measured, shape (y, x).

    Raises
    ------
    ValueError
        If the images have no valid region in common, or the given one has invalid pixels in an image that has valid
        ones.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        If overlapping lines leave no clean region, so that the valid region is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.corrections.normalize import image_means
    >>> data = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> means, _, region = image_means(data, data == 0, np.zeros(data.shape, "u1"))
    >>> means, int(region.sum())
    (array([[2., 6.]]), 3)
    """
    # One region for all exposures: otherwise exposures that lack a channel would be measured on another part of the
    # Sun.
    valid = np.ones(data.shape[-2:], dtype=bool)
    clean = valid.copy()
    present = np.zeros(data.shape[:2], dtype=bool)
    for index in np.ndindex(present.shape):
        good = ~np.asarray(invalid_pixels(data, mask, index))
        present[index] = good.any()
        if present[index]:
            valid &= good
            if region is None:
                clean &= good & (np.asarray(flags[index]) & Flag.OVERLAP == 0)
            elif count := int((region & ~good).sum()):
                msg = (
                    f"{count} of {region.sum()} pixels of the region are invalid in exposure {index[0]}, channel "
                    f"index {index[1]}: clean_region() leaves such pixels out"
                )
                raise ValueError(msg)
    if region is None:
        region = _common(valid if present.any() else ~valid, clean)
    means, errors = np.full((2, *present.shape), np.nan)
    for index in map(tuple, np.argwhere(present).tolist()):
        means[index] = np.asarray(data[index])[region].mean(dtype=float)
        if error is not None:
            errors[index] = error(index, region)
    return means, errors, region


def _common(valid, clean):
    """The region to measure: the clean region, or else the region that is valid in all images."""
    if not valid.any():
        msg = "the images have no valid region in common: there is nothing to normalize by (normalize=False leaves it)"
        raise ValueError(msg)
    if clean.any():
        return clean
    warn_user(
        "another line overlaps all of the region that the images have in common: they are normalized with its light "
        "among them"
    )
    return valid


@plain_arrays("means")
def normalization_factors(means):
    """
    Factors that bring all images to the brightest exposure of the brightest channel.

    Parameters
    ----------
    means : `numpy.ndarray`
        Shape (time, channel), as `image_means` gives them.

    Returns
    -------
    `numpy.ndarray`
        Factor of each image (Parker et al. 2022), of that shape; NaN where the mean is NaN, or not positive.

    Raises
    ------
    ValueError
        If no mean is positive.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.corrections.normalize import normalization_factors
    >>> normalization_factors(np.array([[1.0, 2.0], [4.0, np.nan]]))
    array([[ 4.,  2.],
           [ 1., nan]])
    """
    means = np.where(np.asarray(means) > 0, means, np.nan)
    if not np.isfinite(means).any():
        msg = "no image has a positive mean brightness: there is nothing to normalize by"
        raise ValueError(msg)
    return np.nanmax(means) / means


@plain_arrays("means", "errors")
def factor_errors(means, errors):
    """
    Errors of the factors of `normalization_factors`.

    Parameters
    ----------
    means, errors : `numpy.ndarray`
        Shape (time, channel), as `image_means` gives them.

    Returns
    -------
    `numpy.ndarray`
        Errors of that shape, from the errors of the image and of the brightest one. The brightest image itself has the
        factor 1 and no error. NaN where the errors are not known.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.corrections.normalize import factor_errors
    >>> factor_errors(np.array([[1.0, 2.0]]), np.array([[0.03, 0.08]])).round(3)
    array([[0.1, 0. ]])
    """
    factors = normalization_factors(means)
    relative = errors / means
    best = np.unravel_index(np.nanargmax(means), means.shape)
    result = factors * np.hypot(relative, relative[best])
    # The target itself has the factor 1, whatever its noise.
    result[best] = 0 if np.isfinite(relative[best]) else np.nan
    return result


def masked_means(cube, *, region=None):
    """
    Mean brightness of every image over one region, with its error.

    The error is that of photon and read noise. Neighboring pixels share noise by ``cube.noise_correlation``; if it is
    not known, by resampling alone, as in `~esis_ndcube.resample.correlation_factor`.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Cube, shape (time, channel, y, x).
    region : `numpy.ndarray` of `bool`, optional
        True where to measure, shape (y, x); by default that of `image_means`.

    Returns
    -------
    `~astropy.table.QTable`
        A row per image: ``frame_number``, ``time``, ``channel``, ``mean``, ``error`` and ``pixels``.
        The mean is NaN for an image without valid pixels. The error is also NaN if the cube has no uncertainty, or no
        alignment, without which the correlation of the noise is not known.

    Raises
    ------
    ValueError
        If the cube has other axes or no flags, the region has another shape or has invalid pixels in an image that has
        valid ones, or the images have no valid region in common.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        As `image_means`.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.corrections.normalize import masked_means
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> masked_means(cube)["mean"].max()  # doctest: +SKIP
    """
    check_cube(cube, 3)
    named_axes(cube)
    check_axes(cube)
    region = None if region is None else np.asarray(region)
    if region is None and cube.flags is None:
        msg = "got a cube without flags, expected a cube with flags, or a region"
        raise ValueError(msg)
    if region is not None and (region.shape != cube.data.shape[-2:] or region.dtype != bool):
        msg = f"got a region of shape {region.shape} and type {region.dtype}, expected {cube.data.shape[-2:]} and bool"
        raise ValueError(msg)
    if region is not None and not region.any():
        msg = "got a region without a pixel, expected True where to measure"
        raise ValueError(msg)
    shape = cube.data.shape[:2]
    sigma = standard_deviation(cube, cube.unit)
    means, errors, region = image_means(
        cube.data, cube.mask, cube.flags, region=region, error=lambda *place: _mean_error(cube, sigma, *place)
    )
    rows = np.indices(shape).reshape(2, -1)
    unit = u.dimensionless_unscaled if cube.unit is None else cube.unit
    return QTable(
        {
            "frame_number": np.array([_number(cube.frame_number, row) for row in rows[0]]),
            "time": cube.time[rows[0]],
            "channel": np.asarray(cube.channel)[rows[1]],
            "mean": means.ravel() * unit,
            "error": errors.ravel() * unit,
            "pixels": np.full(means.size, region.sum()),
        }
    )


@dataclass(frozen=True, eq=False)
class Normalization(Correction):
    """
    Factors that bring all images to one brightness.

    Attributes
    ----------
    factors : `numpy.ndarray`
        Factor of each image, of the shape of the cube's axes of time and channel; NaN for an image that could not be
        measured.
    errors : `numpy.ndarray`
        Their errors, of that shape; NaN where they are not known.
    region : `str`
        Region of the measurement: ``"clean"`` or ``"given"``.

    Raises
    ------
    ValueError
        If factors and errors differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.corrections.correction import CorrectionImage
    >>> from esis_ndcube.corrections.normalize import Normalization
    >>> image = CorrectionImage(np.ones((1, 2)), index=(0, 1))
    >>> Normalization(np.array([[1.0, 2.5]])).apply(image).data
    array([[2.5, 2.5]])
    """

    factors: np.ndarray
    errors: np.ndarray = field(default=None, repr=False)
    region: str = "clean"

    key = "normalization"
    option = "normalize"
    default = True
    help = "Do not scale the images to one brightness."
    step = "normalize_intensities"
    changes = "data", "sigma", "mask", "flags"
    columns = {"normalization": ("NORM",), "normalization_error": ("NORMERR",)}

    def __post_init__(self):
        factors = np.array(self.factors, dtype=float)
        errors = np.full(factors.shape, np.nan) if self.errors is None else np.array(self.errors, dtype=float)
        if factors.shape != errors.shape:
            msg = f"got factors of shape {factors.shape} and errors of shape {errors.shape}, expected the same"
            raise ValueError(msg)
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "errors", errors)

    @classmethod
    def choose(cls, choice, flight, line):
        return None if choice is True else super().choose(choice, flight, line)

    @classmethod
    def unknown(cls, shape):
        """
        The normalization of images that are not measured yet.

        Parameters
        ----------
        shape : `tuple` of `int`
            Shape of the cube's axes of time and channel.

        Returns
        -------
        `Normalization`
            A normalization with factors of NaN.

        Examples
        --------
        >>> from esis_ndcube.corrections.normalize import Normalization
        >>> Normalization.unknown((1, 2)).factors
        array([[nan, nan]])
        """
        return cls(np.full(shape, np.nan))

    @classmethod
    def fit(cls, cube, *, region=None):
        """
        Measure the images of a cube.

        Parameters
        ----------
        cube : `~esis_ndcube.ESISLevel3Cube`
            Shape (time, channel, y, x).
        region : `numpy.ndarray` of `bool`, optional
            As for `masked_means`.

        Returns
        -------
        `Normalization`
            The factors to the brightest exposure of the brightest channel.

        Raises
        ------
        ValueError
            If no image has a positive mean, or as `masked_means`.

        Warns
        -----
        sunpy.util.exceptions.SunpyUserWarning
            As `image_means`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> from esis_ndcube.corrections.normalize import Normalization
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> Normalization.fit(cube).factors.min()  # doctest: +SKIP
        1.0
        """
        table = masked_means(cube, region=region)
        means, errors = (table[name].value.reshape(cube.data.shape[:2]) for name in ("mean", "error"))
        place = "clean" if region is None else "given"
        return cls(normalization_factors(means), factor_errors(means, errors), place)

    @classmethod
    def of_cube(cls, cube):
        return None if cube.normalization is None else cls(cube.normalization, cube.normalization_error)

    @classmethod
    def check_missing(cls, cube):
        steps = [step.name for step in cube.history if step.name in (cls.step, cls.undo_step)]
        if cube.normalization is not None or steps[-1:] == [cls.step]:
            msg = (
                "this cube is normalized already (see cube.normalization): "
                "form it with normalize=False to normalize it in another way"
            )
            raise ValueError(msg)

    def check_cube(self, cube):
        super().check_cube(cube)
        if self.factors.shape != cube.data.shape[:-2]:
            msg = f"got factors of shape {self.factors.shape}, expected {cube.data.shape[:-2]}, one for each image"
            raise ValueError(msg)

    def apply(self, image):
        factor = self.factors[image.index]
        image = image.times(factor)
        if np.isfinite(factor):
            return image
        flags = None if image.flags is None else image.flags | image.flags.dtype.type(Flag.MISSING)
        return replace(image, mask=None if image.mask is None else np.ones_like(image.mask), flags=flags)

    def undo(self, image):
        return image.over(self.factors[image.index])

    def entries(self):
        axes = tuple(range(self.factors.ndim))
        return {key: (value, axes) for key, value in zip(self.columns, (self.factors, self.errors), strict=True)}

    def parameters(self):
        return {"region": self.region}

    @classmethod
    def fact(cls, correction):
        return "Brightness", NOT_NORMALIZED if correction is None else "normalized"

    def report(self, cube):
        table = Table({"frame": cube.frame_number})
        for number, factors in zip(cube.channel, self.factors.T, strict=True):
            table[f"channel {number}"] = factors
        return "Factors of the normalization", table


def normalize_intensities(cube, *, region=None):
    """
    Scale all images to the brightest exposure of the brightest channel.

    Every image is multiplied by the ratio of the largest of `masked_means` to its own (Parker et al. 2022).

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Cube, shape (time, channel, y, x), not yet normalized.
    region : `numpy.ndarray` of `bool`, optional
        As for `masked_means`.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        A cube with scaled data and uncertainty. ``cube.normalization`` has the factors and ``cube.normalization_error``
        their errors, shape (time, channel). Errors of the factors are not part of the pixels' uncertainty, because all
        pixels of an image share them. An image that cannot be measured has the factor NaN and is masked.

    Raises
    ------
    ValueError
        If the cube is normalized already, no image has a positive mean, or as `masked_means`.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.corrections.normalize import normalize_intensities
    >>> cube = normalize_intensities(ESISLevel3Cube.read("l3.fits"))  # doctest: +SKIP
    >>> cube.normalization.min()  # doctest: +SKIP
    1.0
    """
    check_cube(cube, 3)
    Normalization.check_missing(cube)
    return correct(cube, Normalization.fit(cube, region=region))


def _number(numbers, index):
    return -1 if numbers is None else int(numbers[index])


def _mean_error(cube, sigma, index, region):
    """Standard deviation of an image's mean over the region, NaN if it is not known."""
    if sigma is None:
        return np.nan
    values = np.asarray(sigma[index], dtype=float)[region]
    if cube.noise_correlation is not None:
        # The region is so large that its edge does not matter.
        return np.sqrt(cube.noise_correlation[index[1]].sum() * np.sum(values**2)) / values.size
    alignments = cube.alignment
    alignment = None if alignments is None else alignments[index]
    if alignment is None:
        return np.nan
    order = next((step.parameters["order"] for step in reversed(cube.history) if step.name == "resample"), "bicubic")
    wcs, position = cube.wcs[index], _middle(region)
    if on_grid(alignment, wcs):
        # On its own grid the alignment needs no coordinates on the Sun.
        wcs, position = alignment.grid, position + grid_corner(alignment, wcs)
    factor = correlation_factor(alignment, wcs, order=order, position=tuple(position))
    return factor * np.sqrt(np.sum(values**2)) / values.size


def _middle(region):
    rows, columns = np.nonzero(region)
    return np.array([columns.mean(), rows.mean()])
