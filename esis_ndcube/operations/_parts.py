"""The parts of a cube, taken out and put together again."""

import copy
import warnings
from functools import partial

import numpy as np

import astropy.units as u
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from ndcube import ExtraCoords
from ndcube.utils.exceptions import NDCubeUserWarning
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube.cube import copy_meta
from esis_ndcube.provenance import ProcessingStep


def _same(x):
    return x


def _inverse_square(x):
    return 1 / np.square(x)


def _inverse_root(x):
    return 1 / np.sqrt(x)


# From the standard deviation to what each kind of uncertainty holds, and back.
_KINDS = {
    StdDevUncertainty: (_same, _same),
    VarianceUncertainty: (np.square, np.sqrt),
    InverseVariance: (_inverse_square, _inverse_root),
}


def standard_deviation(nddata, unit=None):
    """
    Standard deviations of the data, in ``unit`` if that is given, or None if there are none.

    An uncertainty of unknown kind gives None too, with a warning. An inverse variance of 0 is an infinite error, and
    that of a negative variance is not known, which is NaN.
    """
    uncertainty = nddata.uncertainty
    if uncertainty is None or uncertainty.array is None:
        return None
    if type(uncertainty) not in _KINDS:
        _warn_dropped(f"it is an {UnknownUncertainty.__name__}, of which nothing is known")
        return None
    sigma = elementwise(_KINDS[type(uncertainty)][1], _floats(uncertainty.array))
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
    return kind(elementwise(_KINDS[kind][0], sigma), copy=False)


def _floats(array):
    """The array in floating numbers that its squares fit into."""
    return array.astype(float) if array.dtype.kind in "biu" else wide(array)


def wide_type(dtype):
    """
    A type that holds sums, differences and products of values of a type.

    Whole numbers become 64 bits long, unsigned ones that are so already floating numbers, as numpy has it for
    these together with signed ones; floating numbers of 16 bits become 32 bits long. Others stay, in native byte order.
    """
    if dtype.kind in "biu":
        return np.dtype(float if dtype == np.uint64 else np.int64)
    return np.result_type(dtype, np.float32) if dtype.kind == "f" else dtype


def wide(array):
    """The array in its `wide_type`."""
    return array.astype(wide_type(array.dtype), copy=False)


def elementwise(function, *arrays):
    """
    Call a function of arrays that can be broadcast, lazily if one of them is lazy.

    No warnings of what comes out infinite or unknown; None and numbers are passed on.
    """
    if not is_lazy(*arrays):
        return _quietly(function, *arrays)
    import dask.array as da

    ndim = max(np.ndim(array) for array in arrays if array is not None)
    pairs = []
    for array in arrays:
        single = array is None or np.ndim(array) == 0
        pairs += (array, None) if single else (da.asarray(array), tuple(range(ndim - np.ndim(array), ndim)))
    return da.blockwise(partial(_quietly, function), tuple(range(ndim)), *pairs)


def _quietly(function, *arrays):
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return function(*arrays)


def warn_without_uncertainty(why):
    """Tell that a result has no uncertainty."""
    _warn_dropped(why)


class LostUncertaintyWarning(NDCubeUserWarning, SunpyUserWarning):
    """A result has no uncertainty: users of ndcube and of sunpy filter it as they filter theirs."""


def _warn_dropped(why):
    warnings.warn(f"the result has no uncertainty: {why}", LostUncertaintyWarning, stacklevel=2)


def invalid_pixels(cube, *, ignore_mask=False):
    """Pixels that are masked or not finite, of the data's shape; perhaps lazy."""
    bad = ~np.isfinite(cube.data)
    return bad if ignore_mask or cube.mask is None else bad | cube.mask


def rebuild(cube, step=None, *, lost=(), keep_extra=True, **parts):
    """
    The cube with some parts replaced, and a step more in its history; nothing of it is shared but arrays.

    Extra coordinates along ``lost`` array axes, which are gone or have other pixels, are left out, and the step names
    them.
    """
    meta = parts.pop("meta", None)
    meta = copy_meta(cube.meta) if meta is None else meta
    if step is not None:
        if dropped := [name for axes, names in _extra_axes(cube) if {*axes} & {*lost} for name in names]:
            known = step.parameters.get("dropped", [])
            step = ProcessingStep(step.name, {**step.parameters, "dropped": [*known, *sorted(dropped)]})
        meta["history"] = (*cube.history, step)
    values = {name: getattr(cube, name) for name in ("data", "uncertainty", "mask", "flags", "unit", "psf")}
    values["wcs"] = parts.pop("wcs", None) or copy.deepcopy(cube.wcs)
    new = type(cube)(**(values | parts), meta=meta)
    carry_coordinates(cube, new, lost, extra=keep_extra)
    return new


def carry_coordinates(cube, new, lost=(), *, extra=True):
    """Give a cube made of another one what was added to its coordinates, but extra ones along ``lost`` array axes."""
    new._global_coords._internal_coords = copy.copy(cube._global_coords._internal_coords)
    if not extra:
        return
    coordinates, ndim = cube.extra_coords, cube.data.ndim
    if not lost or coordinates.is_empty:
        new._extra_coords = cube._slice_extra_coords((slice(None),) * ndim)
        return
    new._extra_coords = own = ExtraCoords()
    own._dropped_tables = list(coordinates._dropped_tables)
    kept = [axis for axis in range(ndim) if axis not in lost or new.data.ndim == ndim]
    for of, table in coordinates._lookup_tables:
        axes = np.atleast_1d(of).tolist()
        if not {*axes} & {*lost}:
            own.add(table.names, tuple(map(kept.index, axes)), copy.copy(table))
    if not coordinates._lookup_tables:
        ((axes, _),) = _extra_axes(cube)
        if not {*axes} & {*lost}:
            own.wcs = coordinates.wcs
            own.mapping = tuple(len(kept) - 1 - kept.index(axis) for axis in axes)


def _extra_axes(cube):
    """Array axes and names of the extra coordinates, of which those of a WCS belong together."""
    coordinates = cube.extra_coords
    if coordinates.is_empty:
        return []
    if coordinates._lookup_tables:
        return [(np.atleast_1d(axes).tolist(), table.names) for axes, table in coordinates._lookup_tables]
    # Pixel axes are counted from the other end.
    return [([cube.data.ndim - 1 - int(pixel) for pixel in coordinates.mapping], list(coordinates.keys()))]


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
