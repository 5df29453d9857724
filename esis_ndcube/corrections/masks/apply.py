"""Mask what is inside of polygons."""

from pathlib import Path

import numpy as np

from esis_ndcube.corrections.masks.files import read_polygons
from esis_ndcube.corrections.masks.model import PolygonMask
from esis_ndcube.flags import Flag
from esis_ndcube.operations._parts import rebuild
from esis_ndcube.utils.arrays import is_lazy
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.provenance import ProcessingStep

__all__ = ["mask_pixels", "mask_polygons"]


def mask_polygons(cube, polygons):
    """
    Mask what is inside of polygons.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        Of any level, shape (time, channel, y, x).
    polygons : `PolygonMask`, sequence of them, or path-like
        The polygons, or a file that `write_polygons` wrote.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube. The polygons stand in its history.

    Raises
    ------
    ValueError
        As `PolygonMask.evaluate`, or if there are no polygons.

    Examples
    --------
    >>> from esis_ndcube.corrections.masks import mask_polygons
    >>> masked = mask_polygons(cube, "scratches.toml")  # doctest: +SKIP
    """
    check_cube(cube)
    if isinstance(polygons, PolygonMask):
        polygons = [polygons]
    elif isinstance(polygons, (str, Path)):
        polygons = read_polygons(polygons)
    polygons = list(polygons)
    if not polygons:
        msg = "got no polygons, expected at least one"
        raise ValueError(msg)
    mask = np.logical_or.reduce([polygon.evaluate(cube) for polygon in polygons])
    step = ProcessingStep("mask_polygons", {"polygons": [polygon.to_dict() for polygon in polygons]})
    return _masked(cube, mask, step)


def mask_pixels(cube, mask):
    """
    Mask pixels, beside those that are masked already.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube, of any level.
    mask : `numpy.ndarray` of `bool`
        True where bad, of the shape of the data or of one of its images; perhaps lazy, though its pixels are counted.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube; what is new in the mask has ``Flag.BAD_PIXEL``.

    Raises
    ------
    ValueError
        If the mask has another shape or is not boolean.

    Examples
    --------
    >>> from esis_ndcube.corrections.masks import mask_pixels
    >>> masked = mask_pixels(cube, cube.data > 500)  # doctest: +SKIP
    """
    check_cube(cube)
    mask = mask if is_lazy(mask) else np.asarray(mask)
    shape = cube.data.shape
    if mask.dtype != bool or mask.shape not in (shape, shape[-2:]):
        msg = f"got a mask of shape {mask.shape} and type {mask.dtype}, expected {shape} or {shape[-2:]} and bool"
        raise ValueError(msg)
    return _masked(cube, np.broadcast_to(mask, shape), ProcessingStep("mask_pixels", {"pixels": int(mask.sum())}))


def _masked(cube, mask, step):
    """A cube with more of it masked."""
    old = False if cube.mask is None else cube.mask
    flags = cube.flags
    if flags is not None:
        flags = np.where(mask & np.logical_not(old), flags | flags.dtype.type(Flag.BAD_PIXEL), flags)
    return rebuild(cube, step, mask=mask | old, flags=flags)
