"""The inputs of `reproject_alignment`, and the blocks of its work."""

import copy
import dataclasses
import itertools
from pathlib import Path
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
from scipy.ndimage import distance_transform_edt

from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import NDDataBase, UnknownUncertainty
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseLowLevelWCS

from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.utils.arrays import invalid_pixels, split_mask
from esis_ndcube.utils.parallel import compute, share
from esis_ndcube.utils.uncertainty import standard_deviation
from esis_ndcube.wcs._sun import high_level

# Default rows and columns of a block: its coordinates stay in the processor's cache.
_AUTO = 512, 512

_ACCEPTED = """one of
  (array or NDData, Alignment or what its to_gwcs() gives)
  NDData or NDCube whose wcs is what Alignment.to_gwcs() gives, or whose meta["alignment"] is an Alignment
  for reproject_interp: (array, WCS or Header), NDData with a celestial WCS, an image HDU, HDUList or file name"""


class Source(NamedTuple):
    """Frames with their alignment; ``valid``, ``sigma`` and the correlation of noise are None if not known."""

    data: np.ndarray
    alignment: Alignment
    valid: np.ndarray | None
    sigma: np.ndarray | None
    correlation: np.ndarray | None


def parse_input(input_data):
    """The `Source` in the input, or None for input of `reproject_interp`."""
    frame, wcs = input_data, None
    if isinstance(input_data, tuple) and len(input_data) == 2:
        frame, wcs = input_data
    elif isinstance(input_data, NDDataBase):
        wcs = _wcs_of(input_data)
    alignment = wcs if isinstance(wcs, Alignment) else getattr(wcs, "alignment", None)
    if not isinstance(alignment, Alignment):
        _check_foreign(input_data)
        return None
    data, mask = _split_mask(frame)
    valid, sigma = None, None
    if data.dtype.kind not in "buif":
        msg = f"got input_data of type ({type(frame).__name__}, {type(wcs).__name__}), expected {_ACCEPTED}"
        raise TypeError(msg)
    if data.ndim < 2 or data.shape[-2:] != alignment.shape:
        msg = (
            f"got data of shape {data.shape}, expected that of the alignment's detector, {alignment.shape}, at its end"
        )
        raise ValueError(msg)
    if mask is not None:
        valid = np.broadcast_to(~mask, data.shape)
    uncertainty = frame.uncertainty if isinstance(frame, NDDataBase) else None
    if uncertainty is not None and not isinstance(uncertainty, UnknownUncertainty):
        sigma = np.broadcast_to(standard_deviation(frame, frame.unit), data.shape)
    return Source(data, alignment, valid, sigma, _correlation(frame, alignment))


def _correlation(frame, alignment):
    """The metadata of a cube on the noise of the alignment's channel."""
    correlation = getattr(frame, "noise_correlation", None)
    if correlation is None or correlation.ndim == 2:
        return correlation
    places = np.flatnonzero(np.asarray(frame.channel) == alignment.channel)
    return correlation[places[0]] if places.size else None


def _split_mask(given):
    """The values of an array or NDData, and its mask or None."""
    inside = given.data if isinstance(given, NDDataBase) else given
    array, mask = split_mask(inside)
    masks = [mask, given.mask if isinstance(given, NDDataBase) else None]
    masks = [np.asarray(one, dtype=bool) for one in masks if one is not None]
    array = np.asarray(array)
    return array, np.logical_or.reduce([np.broadcast_to(one, array.shape) for one in masks]) if masks else None


def parse_image(input_data, hdu_in):
    """Input for `reproject.reproject_interp`, and the valid pixels, or None if all are valid."""
    if isinstance(input_data, tuple):
        array, wcs = input_data
    elif isinstance(input_data, NDDataBase):
        array, wcs = input_data, input_data.wcs
    else:
        if str(input_data).lower().endswith((".png", ".jpg", ".jpeg")):
            # Pictures that hold their own coordinates have no invalid pixels.
            return input_data, None
        if isinstance(input_data, (str, Path)):
            array, wcs = fits.getdata(input_data, hdu_in, header=True)
        else:
            hdu = input_data[hdu_in] if isinstance(input_data, fits.HDUList) else input_data
            array, wcs = hdu.data, hdu.header
    data, mask = _split_mask(array)
    if data.ndim < 2 or data.dtype.kind not in "buif":
        # `reproject_interp` itself says which input is wrong.
        return input_data, None
    good = ~invalid_pixels(data, mask)
    if good.all():
        # `reproject_interp` does not take masked arrays.
        return ((data, wcs) if isinstance(input_data, tuple) and mask is not None else input_data), None
    return (fill_invalid(data, good), wcs), good


def fill_invalid(images, good):
    """Put the nearest good pixel in place of each bad one, and 0 where there is none."""
    if good.all():
        return images
    filled = np.zeros_like(images)
    for index in np.ndindex(images.shape[:-2]):
        if good[index].any():
            nearest = distance_transform_edt(~good[index], return_distances=False, return_indices=True)
            filled[index] = images[index][tuple(nearest)]
    return filled


def _wcs_of(nddata):
    """The WCS, or the alignment in the metadata of pixels that have no place on the sky yet."""
    wcs = nddata.wcs
    if wcs is not None and _is_celestial(wcs):
        # A resampled image keeps its alignment as well, but is not on the detector anymore.
        return wcs
    meta = nddata.meta or {}
    return meta.get("alignment")


def _is_celestial(wcs):
    low = wcs.low_level_wcs if isinstance(wcs, BaseHighLevelWCS) else wcs
    return any(entry[0] is SkyCoord for entry in low.world_axis_object_classes.values())


def _check_foreign(input_data):
    hdus = fits.HDUList, fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU
    known = isinstance(input_data, (str, Path, *hdus))
    if isinstance(input_data, NDDataBase):
        known = input_data.wcs is not None and _is_celestial(input_data.wcs)
    elif isinstance(input_data, tuple) and len(input_data) == 2:
        projections = fits.Header, BaseLowLevelWCS, BaseHighLevelWCS
        known = isinstance(input_data[0], (np.ndarray, da.Array)) and isinstance(input_data[1], projections)
    if not known:
        kind = type(input_data).__name__
        if isinstance(input_data, tuple):
            kind = f"({', '.join(type(part).__name__ for part in input_data)})"
        msg = f"got input_data of type {kind}, expected {_ACCEPTED}"
        raise TypeError(msg)


def parse_output(output_projection, shape_out, leading=()):
    """High-level WCS of the output, and its shape with the leading dimensions of the input."""
    wcs = output_projection
    if isinstance(wcs, fits.Header):
        wcs = WCS(wcs)
    if not isinstance(wcs, (BaseLowLevelWCS, BaseHighLevelWCS)):
        msg = f"got an output projection of type {type(wcs).__name__}, expected a WCS or a FITS header"
        raise TypeError(msg)
    wcs = high_level(wcs)
    low = wcs.low_level_wcs
    if low.pixel_n_dim != 2:
        msg = f"got an output projection with {low.pixel_n_dim} axes, expected 2: take wcs.celestial"
        raise ValueError(msg)
    if low.world_n_dim != 2 or not _is_celestial(low):
        names = ", ".join(map(str, low.world_axis_physical_types))
        msg = f"got an output projection to {names}, expected a celestial one"
        raise ValueError(msg)
    shape_out = low.array_shape if shape_out is None else tuple(map(int, shape_out))
    if shape_out is not None and len(shape_out) == 2:
        shape_out = (*leading, *shape_out)
    if shape_out is None or len(shape_out) < 2 or shape_out[:-2] != tuple(leading):
        expected = ", ".join([*map(str, leading), "rows", "columns"])
        msg = f"got an output shape of {shape_out}, expected ({expected}): give shape_out"
        raise ValueError(msg)
    return wcs, tuple(shape_out)


def parse_output_array(array, shape, dtype, name):
    """The given array, or a new one."""
    if array is None:
        return np.empty(shape, dtype=dtype)
    if array.shape != shape or array.dtype.kind != "f":
        msg = f"got {name} of shape {array.shape} and type {array.dtype}, expected {shape} and a floating type"
        raise ValueError(msg)
    return array


def parse_blocks(block_size, parallel, shape):
    """Slices along each axis of the output."""
    threads = parallel is False or (isinstance(parallel, (int, np.integer)) and parallel > 0)
    if not threads and parallel != "current-scheduler":
        msg = f"got parallel={parallel!r}, expected True, False, a number of threads or 'current-scheduler'"
        raise ValueError(msg)
    if block_size is None:
        block_size = (-1, -1) if parallel is False else _AUTO
    elif isinstance(block_size, str) and block_size == "auto":
        block_size = _AUTO
    sizes = tuple(block_size) if np.iterable(block_size) and not isinstance(block_size, str) else ()
    if len(sizes) not in (2, len(shape)) or any(n != -1 and n < 1 for n in sizes):
        msg = f"got a block size of {block_size!r}, expected rows and columns, or a size for each axis of {shape}"
        raise ValueError(msg)
    sizes = (-1,) * (len(shape) - len(sizes)) + sizes
    steps = [length if size == -1 else int(size) for length, size in zip(shape, sizes, strict=True)]
    return [
        [slice(first, min(first + step, length)) for first in range(0, length, step)]
        for length, step in zip(shape, steps, strict=True)
    ]


def run_blocks(block, store, shared, wcs, alignment, blocks, parallel):
    """
    Call ``store(rows, columns, block(shared, alignment, wcs, rows, columns))`` for every block.

    Where several calls may run at once, each gets a WCS of its own: a WCS of astropy is not thread-safe.
    """
    places = list(itertools.product(*blocks))
    if parallel is False:
        for place in places:
            store(*place, block(shared, alignment, wcs, *place))
        return
    own = [(dataclasses.replace(alignment, grid=alignment.grid.deepcopy()), copy.deepcopy(wcs)) for _ in places]
    if parallel == "current-scheduler":
        # Another process cannot store into our arrays.
        common = share(shared)
        call = dask.delayed(block, pure=False, traverse=False)
        tasks = [call(common, *args, *place) for args, place in zip(own, places, strict=True)]
        for place, result in zip(places, compute(tasks), strict=True):
            store(*place, result)
        return

    def task(args, place):
        store(*place, block(shared, *args, *place))

    call = dask.delayed(task, pure=False, traverse=False)
    with dask.config.set(scheduler="threads"):
        compute(
            [call(args, place) for args, place in zip(own, places, strict=True)],
            workers=None if parallel is True else int(parallel),
        )
