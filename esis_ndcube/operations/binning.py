"""Cubes with larger pixels and longer exposures."""

import numpy as np

import astropy.units as u
from ndcube.meta import NDMeta
from ndcube.wcs.wrappers import ResampledLowLevelWCS

from esis_ndcube.operations._parts import apply_to_blocks, by_bin, join_values, rebuild
from esis_ndcube.utils.arrays import invalid_pixels, wide_type
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.noise import bin_correlation, bin_variance, keep_axes, trim_correlation
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import make_uncertainty, standard_deviation, warn_without_uncertainty
from esis_ndcube.wcs import ESISWCS, SlicedESISWCS
from esis_ndcube.wcs._coordinates import bin_coordinates
from esis_ndcube.wcs._derived import bin_wcs
from esis_ndcube.wcs.meta import copy_meta, remake_meta, with_entries

__all__ = ["rebin"]

_MEANS = np.mean, np.nanmean
_SUMS = np.sum, np.nansum
_MEDIANS = np.median, np.nanmedian
_LOWEST = np.min, np.nanmin
_HIGHEST = np.max, np.nanmax


def rebin(
    cube,
    bin_shape,
    operation=np.mean,
    *,
    operation_ignores_mask=False,
    handle_mask=np.all,
    correlation_factor=None,
    new_unit=None,
):
    """
    Join pixels, or exposures, in bins.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube.
    bin_shape : sequence of `int` or `~astropy.units.Quantity`
        Number of pixels in a bin along each array axis, a divisor of its length; -1 for all. Channels are not joined.
    operation : callable, optional
        Function that gives the value of a bin: `numpy.mean` or `numpy.sum`, with uncertainty; `numpy.min` or
        `numpy.max`, with the uncertainty of that pixel; or without uncertainty `numpy.median` or any other function of
        a masked array and ``axis``.
    operation_ignores_mask : `bool`, optional
        Whether masked pixels count too. Pixels that are not finite never count.
    handle_mask : callable, optional
        Mask of a bin with some invalid pixels: masked if `numpy.all` or if `numpy.any` are invalid; None for no mask.
    correlation_factor : `float`, optional
        Factor on the standard deviation that means and sums of independent pixels would have. By default errors are
        correlated by ``cube.noise_correlation``, and independent if it is None.
    new_unit : `~astropy.units.Unit`, optional
        Unit of the result, if the operation changes it.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube of the same axes with a FITS WCS. A bin without valid pixels is NaN; a bin that is not masked has the
        flags of its valid pixels.
        Joined exposures have their mean time and the sum of their exposure times in the WCS. ``cube.exposure_time`` is
        the time that the values stand for: the sum for sums, and otherwise the mean. Metadata of single exposures, for
        example raw frames, files and alignments, do not survive if they differ.

    Raises
    ------
    ValueError
        If the bins do not divide the shape, or would join channels.

    Notes
    -----
    A sum is over the valid pixels of a bin, and so lower if some pixels are invalid; a mean is not lower.
    Sums of whole numbers have 64 bits, as in numpy, and other results are floating-point numbers; only the minimum and
    the maximum keep the type.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level3 import ESISLevel3Cube
    >>> from esis_ndcube.operations import rebin
    >>> from esis_ndcube.wcs import level3_wcs
    >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])[:, :, 600:602, 600:604]
    >>> cube = ESISLevel3Cube(np.arange(16.0).reshape(1, 2, 2, 4), wcs=wcs)
    >>> binned = rebin(cube, (1, 1, 2, 2))
    >>> binned.data[0, 0], (binned.wcs.wcs.cdelt[:2] / wcs.wcs.cdelt[:2]).tolist()
    (array([[2.5, 4.5]]), [2.0, 2.0])
    """
    check_cube(cube)
    factors = _parse_bins(cube, bin_shape)
    if all(factor == 1 for factor in factors):
        return cube[...]
    bad = invalid_pixels(cube.data, None if operation_ignores_mask else cube.mask)
    data = _join(_Values(factors, operation), factors, (cube.data, bad), _result_type(cube.data.dtype, operation))
    sigma = standard_deviation(cube, cube.unit)
    if sigma is not None and operation not in (*_MEANS, *_SUMS, *_LOWEST, *_HIGHEST):
        warn_without_uncertainty(f"the uncertainty of {getattr(operation, '__name__', operation)} is not known")
        sigma = None
    if sigma is not None:
        sigma = _bin_sigma(cube, factors, operation, correlation_factor, (cube.data, bad, sigma))
    mask = None
    if cube.mask is not None and handle_mask is not None:
        mask = _join(_Mask(factors, handle_mask), factors, (bad, invalid_pixels(cube.data, cube.mask)), np.dtype(bool))
    flags = cube.flags
    if flags is not None:
        flags = _join(_Flags(factors), factors, (flags, bad), flags.dtype)
    meta, dropped = _bin_meta(cube, factors, operation)
    if cube.noise_correlation is not None:
        meta = with_entries(meta, {"noise_correlation": (_bin_correlations(cube, factors, operation), None)})
    name = getattr(operation, "__name__", str(operation))
    step = {"bins": list(factors), "operation": name} | ({"dropped": dropped} if dropped else {})
    new = rebuild(
        cube,
        ProcessingStep("rebin", step),
        data=data,
        wcs=_bin_wcs(cube.wcs, factors),
        uncertainty=make_uncertainty(cube.uncertainty, sigma),
        mask=mask,
        flags=flags,
        meta=meta,
        unit=cube.unit if new_unit is None else new_unit,
    )
    bin_coordinates(cube, new, factors)
    return new


def _parse_bins(cube, bin_shape):
    shape = cube.shape
    bins = bin_shape.to_value(u.pix) if isinstance(bin_shape, u.Quantity) else bin_shape
    bins = np.atleast_1d(bins)
    if bins.shape != (len(shape),) or not np.all(bins == np.round(bins)):
        msg = f"got bins of {bin_shape}, expected a whole number for each axis of {shape}"
        raise ValueError(msg)
    factors = tuple(n if b == -1 else int(b) for b, n in zip(bins, shape, strict=True))
    if any(factor < 1 or n % factor for factor, n in zip(factors, shape, strict=True)):
        msg = f"got bins of {factors}, expected divisors of the shape {shape}, or -1 for all of an axis: slice it first"
        raise ValueError(msg)
    for name, factor in zip(cube._from_wcs("array_axis_names") or (), factors, strict=False):
        if name == "channel" and factor > 1:
            msg = f"got bins of {factor} channels, expected 1: channels look in different directions (see min_images)"
            raise ValueError(msg)
    return factors


def _join(function, factors, arrays, dtype):
    """Call a function of arrays whose last axis holds the pixels of a bin; lazily for lazy arrays."""
    shape = arrays[0].shape
    # Blocks of one exposure, or bin of exposures, and whole images.
    image = len(shape) - 2
    chunks = tuple(n if axis >= image else f for axis, (n, f) in enumerate(zip(shape, factors, strict=True)))
    regular = [(chunk,) * (n // chunk) for chunk, n in zip(chunks, shape, strict=True)]
    new = tuple(tuple(c // f for c in part) for part, f in zip(regular, factors, strict=True))
    return apply_to_blocks(function, arrays, chunks, new, dtype)


def _result_type(dtype, operation):
    if operation in (*_LOWEST, *_HIGHEST):
        return dtype.newbyteorder("=")
    if dtype.kind == "f":
        return wide_type(dtype)
    # The sums of numpy.
    return np.empty(0, dtype).sum().dtype if operation in _SUMS else np.dtype(float)


class _Values:
    """Values of the bins, from data and their invalid pixels."""

    def __init__(self, factors, operation):
        self.factors, self.operation = factors, operation

    def __call__(self, data, bad):
        dtype = _result_type(data.dtype, self.operation)
        data, bad = by_bin(data, self.factors), by_bin(bad, self.factors)
        good = (~bad).sum(0)
        if self.operation in (*_MEANS, *_SUMS):
            values = np.where(bad, 0, data).sum(0, dtype=float if dtype.kind == "f" else dtype)
            values = values / np.maximum(good, 1) if self.operation in _MEANS else values
        elif self.operation in (*_LOWEST, *_HIGHEST):
            values = np.take_along_axis(data, _extreme(data, bad, self.operation)[None], 0)[0]
        elif self.operation in _MEDIANS:
            # numpy would warn of bins without valid pixels.
            values = np.nanmedian(np.where(bad & (good > 0), np.nan, np.where(bad, 0, data)), 0)
        else:
            values = np.ma.filled(self.operation(np.ma.array(data, mask=bad), axis=0).astype(dtype), 0)
        if dtype.kind == "f":
            values = np.where(good, values, np.nan)
        return values.astype(dtype)


def _extreme(data, bad, operation):
    """Index of the lowest or highest valid value of each bin."""
    if data.dtype.kind == "f":
        least, most = -np.inf, np.inf
    else:
        # Floating-point numbers do not tell large whole numbers apart.
        data = data.astype(np.uint64 if data.dtype.kind == "u" else np.int64)
        least, most = np.iinfo(data.dtype).min, np.iinfo(data.dtype).max
    if operation in _LOWEST:
        return np.where(bad, most, data).argmin(0)
    return np.where(bad, least, data).argmax(0)


def _bin_sigma(cube, factors, operation, factor, arrays):
    """Standard deviations of the bins; each channel has a correlation of its own."""
    dtype = arrays[-1].dtype if arrays[-1].dtype.kind == "f" else np.dtype(float)
    correlation = cube.noise_correlation if factor is None else None
    if correlation is None:
        alone = np.ones(())
        return _join(_Sigma(factors, operation, alone, 1.0 if factor is None else factor), factors, arrays, dtype)
    names = cube.wcs.array_axis_names
    correlation = keep_axes(correlation, names)
    if "channel" not in names:
        return _join(_Sigma(factors, operation, correlation), factors, arrays, dtype)
    axis = names.index("channel")
    places = [(*(slice(None),) * axis, slice(i, i + 1)) for i in range(len(correlation))]
    return np.concatenate(
        [
            _join(_Sigma(factors, operation, one), factors, [array[place] for array in arrays], dtype)
            for one, place in zip(correlation, places, strict=True)
        ],
        axis=axis,
    )


class _Sigma:
    """Standard deviations of the bins, from data, their invalid pixels, and their standard deviations."""

    def __init__(self, factors, operation, correlation, factor=1.0):
        self.factors, self.operation, self.correlation, self.factor = factors, operation, correlation, factor

    def __call__(self, data, bad, sigma):
        dtype = sigma.dtype if sigma.dtype.kind == "f" else float
        bins = [by_bin(array, self.factors) for array in (data, bad)]
        if self.operation in (*_LOWEST, *_HIGHEST):
            sigma = by_bin(sigma, self.factors)
            values = np.take_along_axis(sigma, _extreme(*bins, self.operation)[None], 0)[0]
        else:
            values = self.factor * np.sqrt(self._variance(np.where(bad, 0, sigma)))
            values = values / np.maximum((~bins[1]).sum(0), 1) if self.operation in _MEANS else values
        return np.where(bins[1].all(0), np.nan, values).astype(dtype)

    def _variance(self, sigma):
        """Standard deviations of the sums of the bins."""
        image = sigma.ndim - self.correlation.ndim
        sums = bin_variance(sigma, self.correlation, self.factors[image:])
        # Exposures are independent.
        return by_bin(sums, (*self.factors[:image], *(1,) * self.correlation.ndim)).sum(0)


class _Mask:
    """Mask of the bins, from the pixels that do not count for values and the invalid ones."""

    def __init__(self, factors, handle_mask):
        self.factors, self.handle_mask = factors, handle_mask

    def __call__(self, bad, invalid):
        bad, invalid = (by_bin(array, self.factors) for array in (bad, invalid))
        return bad.all(0) | self.handle_mask(invalid, axis=0)


class _Flags:
    """The flags that are set in the valid pixels of a bin, or in all pixels if none is valid."""

    def __init__(self, factors):
        self.factors = factors

    def __call__(self, flags, bad):
        flags, bad = (by_bin(array, self.factors) for array in (flags, bad))
        ignored = bad & ~bad.all(0)
        return np.bitwise_or.reduce(np.where(ignored, 0, flags).astype(flags.dtype), axis=0)


def _bin_wcs(wcs, factors):
    if isinstance(wcs, (ESISWCS, SlicedESISWCS)):
        return bin_wcs(wcs, factors)
    return ResampledLowLevelWCS(wcs.low_level_wcs, factors[::-1])


def _bin_correlations(cube, factors, operation):
    named = dict(zip(cube.wcs.array_axis_names, factors, strict=True))
    bins = named.get("y", 1), named.get("x", 1)
    known = cube.meta["noise_correlation"]
    if operation in (*_MEANS, *_SUMS):
        return {key: trim_correlation(bin_correlation(one, bins)) for key, one in known.items()}
    # A single pixel stands for each bin.
    steps = [[slice(n // 2 % b, None, b) for n, b in zip(one.shape, bins, strict=True)] for one in known.values()]
    return {key: one[tuple(step)] for (key, one), step in zip(known.items(), steps, strict=True)}


def _bin_meta(cube, factors, operation):
    """Metadata of the bins, and the names of those that did not survive."""
    if not isinstance(cube.meta, NDMeta):
        return copy_meta(cube.meta), []
    values, axes, dropped = dict(cube.meta), {}, []
    for key, of in cube.meta.axes.items():
        of = [int(axis) for axis in of]
        bins = [factors[axis] for axis in of]
        value = values[key]
        if any(n > 1 for n in bins):
            value = join_values(key, value, bins, total=operation in _SUMS)
            if value is None:
                dropped.append(key)
                del values[key]
                continue
        values[key], axes[key] = value, of
    shape = [n // f for n, f in zip(cube.shape, factors, strict=True)]
    return remake_meta(cube.meta, values, axes, shape), dropped
