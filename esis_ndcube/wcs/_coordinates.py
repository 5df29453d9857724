"""Coordinates that users add to cubes: the only module that touches the private parts of ndcube's coordinates."""

import copy

import numpy as np

from astropy.wcs.wcsapi import SlicedLowLevelWCS
from ndcube import ExtraCoords
from ndcube.wcs.wrappers import ResampledLowLevelWCS


def added_coordinates(cube):
    """Physical types and values of the global coordinates that were added, by name."""
    return cube.global_coords._internal_coords


def extra_axes(cube):
    """Array axes and names of the extra coordinates; those of one WCS belong together."""
    own = cube.extra_coords
    if own.is_empty:
        return []
    if own._lookup_tables:
        return [(np.atleast_1d(axes).tolist(), table.names) for axes, table in own._lookup_tables]
    # Pixel axes are counted from the other end.
    return [([cube.data.ndim - 1 - int(pixel) for pixel in own.mapping], list(own.keys()))]


def carry_coordinates(cube, new, lost=()):
    """Copy the added coordinates to a cube made from another, except extra ones along ``lost`` array axes."""
    own, ndim = cube.extra_coords, cube.data.ndim
    if not lost or own.is_empty:
        slice_coordinates(cube, new, (slice(None),) * ndim)
        return
    extra = ExtraCoords()
    kept = [axis for axis in range(ndim) if axis not in lost or new.data.ndim == ndim]
    for of, table in own._lookup_tables:
        axes = np.atleast_1d(of).tolist()
        if not {*axes} & {*lost}:
            extra.add(table.names, tuple(map(kept.index, axes)), copy.copy(table))
    if not own._lookup_tables:
        ((axes, _),) = extra_axes(cube)
        if not {*axes} & {*lost}:
            extra.wcs = own.wcs
            extra.mapping = tuple(len(kept) - 1 - kept.index(axis) for axis in axes)
    _put(cube, new, extra)


def slice_coordinates(cube, new, item):
    """Copy the added coordinates to a slice of a cube."""
    # ndcube shares empty coordinates between cube and slice, and forgets those that were sliced away before.
    own, extra = cube.extra_coords, ExtraCoords()
    if own._lookup_tables:
        extra = own[item]
    elif not own.is_empty:
        # The coordinates of a WCS need not have all axes.
        ((axes, _),) = extra_axes(cube)
        kept = [axis for axis, x in enumerate(item) if isinstance(x, slice)]
        if left := [axis for axis in axes if axis in kept]:
            low = getattr(own.wcs, "low_level_wcs", own.wcs)
            extra.wcs = SlicedLowLevelWCS(low, tuple(item[axis] for axis in axes[::-1]))
            extra.mapping = tuple(len(kept) - 1 - kept.index(axis) for axis in left)
    _put(cube, new, extra)


def bin_coordinates(cube, new, factors):
    """Copy the added coordinates to a cube of bins; extra ones are taken at the middle of the bins."""
    own, extra = cube.extra_coords, ExtraCoords()
    if own._lookup_tables:
        # By default ndcube would take the coordinate of the first pixel.
        extra = own.resample(factors, offset=[(factor - 1) / 2 for factor in factors])
    elif not own.is_empty:
        ((axes, _),) = extra_axes(cube)
        low = getattr(own.wcs, "low_level_wcs", own.wcs)
        extra.wcs = ResampledLowLevelWCS(low, [factors[axis] for axis in axes])
        extra.mapping = own.mapping
    _put(cube, new, extra)


def _put(cube, new, extra):
    new.global_coords._internal_coords = copy.copy(cube.global_coords._internal_coords)
    new._extra_coords = extra
    extra._dropped_tables = [*cube.extra_coords._dropped_tables, *extra._dropped_tables]
