"""The parts of a cube, taken out and put together again."""

import copy

import numpy as np

import astropy.units as u
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from sunpy.util.exceptions import warn_user

from esis_ndcube.cube import copy_meta

# From the standard deviation to what each kind of uncertainty holds; the first two also back.
_KINDS = {
    StdDevUncertainty: (lambda x: x, lambda x: x),
    VarianceUncertainty: (np.square, np.sqrt),
    InverseVariance: (lambda x: 1 / np.square(x), lambda x: 1 / np.sqrt(x)),
}


def standard_deviation(nddata, unit=None):
    """
    Standard deviations of the data, in ``unit`` if that is given, or None if there are none.

    An uncertainty of unknown kind gives None too, with a warning.
    """
    uncertainty = nddata.uncertainty
    if uncertainty is None or uncertainty.array is None:
        return None
    if type(uncertainty) not in _KINDS:
        _warn_dropped(f"it is an {UnknownUncertainty.__name__}, of which nothing is known")
        return None
    sigma = _KINDS[type(uncertainty)][1](uncertainty.array)
    own = uncertainty.unit
    if unit is None or own is None:
        return sigma
    factor = _KINDS[type(uncertainty)][1]((1 * own).to_value(_unit_of(type(uncertainty), unit)))
    return sigma if factor == 1 else sigma * factor


def _unit_of(kind, unit):
    return {StdDevUncertainty: unit, VarianceUncertainty: unit**2}.get(kind, unit**-2)


def make_uncertainty(like, sigma):
    """An uncertainty of the kind of another one, or None."""
    if sigma is None:
        return None
    kind = type(like) if type(like) in _KINDS else StdDevUncertainty
    with np.errstate(divide="ignore"):
        return kind(_KINDS[kind][0](sigma), copy=False)


def warn_without_uncertainty(why):
    """Tell that a result has no uncertainty."""
    _warn_dropped(why)


def _warn_dropped(why):
    warn_user(f"the result has no uncertainty: {why}")


def invalid_pixels(cube, *, ignore_mask=False):
    """Pixels that are masked or not finite, of the data's shape; perhaps lazy."""
    bad = ~np.isfinite(cube.data)
    return bad if ignore_mask or cube.mask is None else bad | cube.mask


def rebuild(cube, step=None, *, keep_extra=True, **parts):
    """The cube with some parts replaced, and a step more in its history; nothing of it is shared but arrays."""
    meta = parts.pop("meta", None)
    meta = copy_meta(cube.meta) if meta is None else meta
    if step is not None:
        meta["history"] = (*cube.history, step)
    values = {name: getattr(cube, name) for name in ("data", "uncertainty", "mask", "flags", "unit", "psf")}
    values["wcs"] = parts.pop("wcs", None) or copy.deepcopy(cube.wcs)
    new = type(cube)(**(values | parts), meta=meta)
    new._global_coords._internal_coords = copy.copy(cube._global_coords._internal_coords)
    if keep_extra and not cube.extra_coords.is_empty:
        new._extra_coords = cube.extra_coords[(slice(None),) * cube.data.ndim]
    return new


def is_lazy(*arrays):
    """Whether any of the arrays is a Dask array."""
    return any(hasattr(array, "dask") for array in arrays)


def apply_to_blocks(function, arrays, chunks, new_chunks, dtype):
    """Call a function of arrays of one shape, lazily and by blocks if one of them is lazy."""
    if not is_lazy(*arrays):
        return function(*arrays)
    import dask.array as da

    arrays = [da.asarray(array).rechunk(chunks) for array in arrays]
    return da.map_blocks(function, *arrays, dtype=dtype, chunks=new_chunks, meta=np.empty((0,) * len(chunks), dtype))


def by_bin(array, factors):
    """The array by bins of some pixels along each axis; the pixels of a bin are along a last axis more."""
    shape = [n for length, f in zip(array.shape, factors, strict=True) for n in (length // f, f)]
    order = [*range(0, len(shape), 2), *range(1, len(shape), 2)]
    array = array.reshape(shape).transpose(order)
    return array.reshape(*array.shape[: len(factors)], -1)


def join_values(key, values, bins, *, total=False):
    """
    What metadata of single images say of several that are joined, or None if they differ.

    Exposure times are averaged, or summed for a ``total``, and times are averaged.
    """
    if key == "exposure":
        parts = by_bin(values, bins)
        return parts.sum(-1) if total else parts.mean(-1)
    if key == "mid_time":
        start = np.min(values)
        seconds = (values - start).to_value("s")
        seconds = np.ma.filled(np.ma.array(seconds, mask=values.mask | np.ma.getmaskarray(seconds)), np.nan)
        unknown = np.isnan(seconds)
        count = by_bin(~unknown, bins).sum(-1)
        mean = by_bin(np.where(unknown, 0, seconds), bins).sum(-1) / np.maximum(count, 1)
        times = start + mean * u.s
        if not count.all():
            times[count == 0] = np.ma.masked
        return times
    parts = by_bin(np.asanyarray(values), bins)
    first = parts[..., :1]
    same = np.array([a is b for a, b in np.broadcast(parts, first)]) if parts.dtype == object else parts == first
    return parts[..., 0] if np.all(same) else None
