"""The parts of a cube, taken out and put together again."""

import copy

import dask.array as da
import numpy as np

import astropy.units as u

from esis_ndcube.utils.arrays import is_lazy
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.wcs._coordinates import carry_coordinates, extra_axes
from esis_ndcube.wcs.meta import copy_meta


def rebuild(cube, step=None, *, lost=(), **parts):
    """
    The cube with some parts replaced, and one more step in its history; it shares only arrays with the old cube.

    Extra coordinates along ``lost`` array axes are left out, because the axes are gone or have other pixels, and the
    step names
    them.
    """
    meta = parts.pop("meta", None)
    meta = copy_meta(cube.meta) if meta is None else meta
    if step is not None:
        if dropped := [name for axes, names in extra_axes(cube) if {*axes} & {*lost} for name in names]:
            known = step.parameters.get("dropped", [])
            step = ProcessingStep(step.name, {**step.parameters, "dropped": [*known, *sorted(dropped)]})
        meta["history"] = (*cube.history, step)
    values = {name: getattr(cube, name) for name in ("data", "uncertainty", "mask", "flags", "unit", "psf")}
    values["wcs"] = parts.pop("wcs", None) or copy.deepcopy(cube.wcs)
    new = type(cube)(**(values | parts), meta=meta)
    carry_coordinates(cube, new, lost)
    return new


def apply_to_blocks(function, arrays, chunks, new_chunks, dtype):
    """Call a function of arrays of one shape, lazily and by blocks if one of them is lazy."""
    if not is_lazy(*arrays):
        return function(*arrays)
    arrays = [da.asarray(array).rechunk(chunks) for array in arrays]
    return da.map_blocks(function, *arrays, dtype=dtype, chunks=new_chunks, meta=np.empty((0,) * len(chunks), dtype))


def by_bin(array, factors):
    """The array by bins of some pixels along each axis; one more axis at the front holds the pixels of a bin."""
    shape = [n for length, f in zip(array.shape, factors, strict=True) for n in (length // f, f)]
    # At the front: numpy adds up long rows much faster than many short ones.
    order = [*range(1, len(shape), 2), *range(0, len(shape), 2)]
    array = array.reshape(shape).transpose(order)
    return array.reshape(-1, *array.shape[len(factors) :])


def join_values(key, values, bins, *, total=False):
    """
    Metadata of several joined images from the metadata of single images, or None if they differ.

    Exposure times are averaged, or summed for a ``total``, and times are averaged.
    """
    if key == "exposure_time":
        parts = by_bin(values, bins)
        return parts.sum(0) if total else parts.mean(0)
    if key == "mid_time":
        start = np.min(values)
        seconds = (values - start).to_value("s")
        seconds = np.ma.filled(np.ma.array(seconds, mask=values.mask | np.ma.getmaskarray(seconds)), np.nan)
        unknown = np.isnan(seconds)
        count = by_bin(~unknown, bins).sum(0)
        mean = by_bin(np.where(unknown, 0, seconds), bins).sum(0) / np.maximum(count, 1)
        times = start + mean * u.s
        if not count.all():
            times[count == 0] = np.ma.masked
        return times
    parts = by_bin(np.asanyarray(values), bins)
    first = parts[:1]
    same = np.array([a is b for a, b in np.broadcast(parts, first)]) if parts.dtype == object else parts == first
    return parts[0] if np.all(same) else None
