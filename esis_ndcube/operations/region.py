"""Means over a region, with the error from noise that neighboring pixels share."""

from dataclasses import dataclass

import numpy as np

import astropy.units as u

from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_cube, named_axes
from esis_ndcube.utils.noise import bin_variance
from esis_ndcube.utils.uncertainty import standard_deviation

__all__ = ["RegionMean", "region_mean"]


@dataclass(frozen=True, eq=False)
class RegionMean:
    """
    The mean over a region in each image of a cube.

    Attributes
    ----------
    mean : `~astropy.units.Quantity`
        Means, of the shape of the cube without its image axes; NaN if no pixel is valid.
    uncertainty : `~astropy.units.Quantity` or None
        Their standard deviations, of that shape; None if the cube has no uncertainty.
    pixels : `numpy.ndarray` of `int`
        Number of valid pixels in the region.

    Examples
    --------
    >>> import astropy.units as u
    >>> from esis_ndcube.operations import RegionMean
    >>> RegionMean([2.0] * u.ph, [0.1] * u.ph, [25]).mean
    <Quantity [2.] ph>
    """

    mean: u.Quantity
    uncertainty: u.Quantity | None
    pixels: np.ndarray


def region_mean(cube, region):
    r"""
    Mean over a region of each image of a cube.

    The variance of the mean of n pixels is :math:`\sum_{ij} \rho_{ij}\,\sigma_i \sigma_j / n^2`, with the uncertainties
    of the pixels and the correlation of their noise, ``cube.noise_correlation``. Without this correlation, the pixels
    count as independent. Errors that all pixels share, for example errors of the vignetting or of the normalization,
    are not included.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube, with axes y and x.
    region : `numpy.ndarray` of `bool`, `~esis_ndcube.corrections.masks.PolygonMask` or `~regions.Region`
        True where to take the mean, of the shape (y, x) or that of the cube; a polygon, for a cube of shape (time,
        channel, y, x); or a region of `regions` in pixels or on the sky, which contains the pixels whose centers are
        inside of it. Masked pixels and pixels that are not finite do not count.

    Returns
    -------
    `RegionMean`
        The means, their uncertainties and the number of pixels.

    Raises
    ------
    TypeError
        If the arguments are not a cube and a region.
    ValueError
        If the cube has no axes y and x, or the region has another shape or no pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import StdDevUncertainty
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.operations import region_mean
    >>> from esis_ndcube.wcs import level1_wcs
    >>> wcs = level1_wcs((4, 5), Time(["2019-09-30T18:08:00"]), [1])
    >>> sigma = StdDevUncertainty(np.ones((1, 1, 4, 5)))
    >>> cube = ESISCube(np.ones((1, 1, 4, 5)), wcs=wcs, uncertainty=sigma, unit="electron")
    >>> result = region_mean(cube, np.ones((4, 4), dtype=bool) @ np.eye(4, 5, dtype=bool))
    >>> result.uncertainty, result.pixels
    (<Quantity [[0.25]] electron>, array([[16]]))
    """
    check_cube(cube)
    if named_axes(cube)[-2:] != ["y", "x"]:
        msg = f"got a cube with axes {named_axes(cube)}, expected y and x at the end: slice with ranges"
        raise ValueError(msg)
    inside = _parse(cube, region)
    # Pixels outside of the region are not read.
    rows, columns = (
        np.flatnonzero(inside.any(axis=tuple(set(range(inside.ndim)) - {axis})))
        for axis in (-2 % inside.ndim, -1 % inside.ndim)
    )
    part = (..., slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    leading = cube.shape[:-2]
    inside = np.broadcast_to(inside[part], (*leading, *inside[part].shape[-2:]))
    sigma, correlation = standard_deviation(cube, cube.unit), cube.noise_correlation
    correlation = np.ones((1, 1)) if correlation is None else correlation
    means, errors, counts = (np.full(leading, np.nan), np.full(leading, np.nan), np.zeros(leading, dtype=int))
    channel = named_axes(cube).index("channel") if "channel" in named_axes(cube) else None
    for index in np.ndindex(leading):
        place = (*index, *part[1:])
        good = inside[index] & ~np.asarray(invalid_pixels(cube.data, cube.mask, place))
        counts[index] = good.sum()
        if not counts[index]:
            continue
        means[index] = np.asarray(cube.data[place], dtype=float)[good].mean()
        if sigma is not None:
            own = correlation if correlation.ndim == 2 else correlation[index[channel]]
            noise = np.where(good, np.asarray(sigma[place], dtype=float), 0)
            errors[index] = np.sqrt(bin_variance(noise, own, noise.shape)[0, 0]) / counts[index]
    unit = u.dimensionless_unscaled if cube.unit is None else cube.unit
    return RegionMean(means * unit, None if sigma is None else errors * unit, counts)


def _parse(cube, region):
    """True inside of the region, of the shape (y, x) or that of the cube."""
    shape = cube.shape[-2:]
    if hasattr(region, "evaluate"):
        inside = region.evaluate(cube)
    elif hasattr(region, "to_mask") or hasattr(region, "to_pixel"):
        inside = _parse_astropy(cube, region, shape)
    else:
        inside = np.asarray(region)
        if inside.dtype != bool:
            msg = (
                f"got a region of type {type(region).__name__}, expected an array of bool, a PolygonMask or a region "
                "of the package regions"
            )
            raise TypeError(msg)
    if inside.shape not in (shape, cube.shape):
        msg = f"got a region of shape {inside.shape}, expected {shape} or the shape of the cube, {cube.shape}"
        raise ValueError(msg)
    if not inside.any():
        msg = "got a region without a pixel of the cube, expected at least one: does it lie elsewhere on the Sun?"
        raise ValueError(msg)
    return inside


def _parse_astropy(cube, region, shape):
    if hasattr(region, "to_pixel"):
        wcs = cube.wcs
        if not getattr(wcs, "has_celestial", False):
            msg = "got a region on the sky and a cube without coordinates on the sky, expected a region in pixels"
            raise ValueError(msg)
        region = region.to_pixel(wcs.celestial)
    image = region.to_mask(mode="center").to_image(shape)
    return np.zeros(shape, dtype=bool) if image is None else image.astype(bool)
