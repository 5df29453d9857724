"""Mask the pixels inside of polygons."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from esis_ndcube.corrections.correction import Correction, correct
from esis_ndcube.corrections.masks.files import read_polygons
from esis_ndcube.corrections.masks.model import PolygonMask
from esis_ndcube.flags import Flag
from esis_ndcube.operations._parts import rebuild
from esis_ndcube.utils.arrays import is_lazy
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.provenance import ProcessingStep

__all__ = ["HandMask", "mask_pixels", "mask_polygons"]


@dataclass(frozen=True, eq=False)
class HandMask(Correction):
    """
    Polygons that people draw, as a step of the processing.

    Attributes
    ----------
    polygons : `tuple` of `PolygonMask`
        The polygons, at least one.

    Raises
    ------
    ValueError
        If there are no polygons.

    Examples
    --------
    >>> from esis_ndcube.corrections.masks import HandMask, PolygonMask
    >>> scratch = PolygonMask([(1100, 400), (1180, 400), (1180, 420)], channels=1)
    >>> HandMask.of(scratch).history_step().name
    'mask_polygons'
    """

    polygons: tuple

    key = None
    option = "masks"
    help = "Mask the pixels inside of the polygons in this file."
    takes_file = True
    step = "mask_polygons"
    levels = ()
    changes = "mask", "flags"

    def __post_init__(self):
        polygons = tuple(self.polygons)
        if not polygons:
            msg = "got no polygons, expected at least one"
            raise ValueError(msg)
        object.__setattr__(self, "polygons", polygons)

    @classmethod
    def of(cls, polygons):
        """
        Take polygons in any form.

        Parameters
        ----------
        polygons : `PolygonMask`, sequence of them, or path-like
            The polygons, or a file that `write_polygons` wrote.

        Returns
        -------
        `HandMask`
            The mask.

        Examples
        --------
        >>> from esis_ndcube.corrections.masks import HandMask, PolygonMask
        >>> len(HandMask.of(PolygonMask([(0, 0), (4, 0), (4, 4)])).polygons)
        1
        """
        if isinstance(polygons, PolygonMask):
            polygons = [polygons]
        elif isinstance(polygons, (str, Path)):
            polygons = read_polygons(polygons)
        return cls(polygons)

    @classmethod
    def choose(cls, choice, flight, line):
        return super().choose(choice if isinstance(choice, (cls, bool)) else cls.of(choice), flight, line)

    def check_cube(self, cube):
        for polygon in self.polygons:
            polygon._check(cube)

    def apply(self, image):
        bad = np.logical_or.reduce([polygon._inside(image) for polygon in self.polygons])
        mask, flags = _mark(image.mask, image.flags, bad)
        return replace(image, mask=mask, flags=flags)

    def parameters(self):
        return {"polygons": [polygon.to_dict() for polygon in self.polygons]}


def mask_polygons(cube, polygons):
    """
    Mask the pixels inside of polygons.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        A cube of any level, shape (time, channel, y, x).
    polygons : `PolygonMask`, sequence of them, or path-like
        The polygons, or a file that `write_polygons` wrote.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube. Its history holds the polygons.

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
    return correct(cube, HandMask.of(polygons))


def mask_pixels(cube, mask):
    """
    Mask pixels, in addition to those that are masked already.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube, of any level.
    mask : `numpy.ndarray` of `bool`
        True where bad, of the shape of the data or of one of its images; it may be lazy, but its pixels are counted.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube; pixels that were not masked before have ``Flag.BAD_PIXEL``.

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
    """A cube with more masked pixels."""
    mask, flags = _mark(cube.mask, cube.flags, mask)
    return rebuild(cube, step, mask=mask, flags=flags)


def _mark(mask, flags, bad):
    """Mask and flags of an image, or of all of a cube, with more bad pixels."""
    mask = False if mask is None else mask
    if flags is not None:
        flags = np.where(bad & np.logical_not(mask), flags | flags.dtype.type(Flag.BAD_PIXEL), flags)
    return bad | mask, flags
