"""The bits of a cube's flag plane."""

from enum import IntFlag

import dask
import numpy as np

from esis_ndcube.utils.arrays import invalid_pixels

__all__ = ["Flag"]


class Flag(IntFlag):
    """
    The properties of a pixel, as bits of ``cube.flags``.

    `Flag.OVERLAP`, `Flag.OVERLAP_FAINT` and `Flag.SPIKE` inform: the pixel is good sky, and they do not mask it. The
    other bits say that the pixel is invalid; `Flag.INVALID` has all of these bits.

    Attributes
    ----------
    OUTSIDE
        Outside of the field stop or of the detector.
    BAD_PIXEL
        Unusable: a broken detector pixel, or masked by hand.
    SATURATED
        At or above the saturation level.
    SPIKE
        A particle hit, which has been mended.
    MISSING
        No frame.
    OVERLAP
        The brightest other spectral line that overlaps the line falls here too.
    OVERLAP_FAINT
        A fainter spectral line falls here too.

    Examples
    --------
    >>> from esis_ndcube.flags import Flag
    >>> int(Flag.MISSING | Flag.OVERLAP)
    48
    >>> bool(Flag.SPIKE & Flag.INVALID)
    False
    """

    OUTSIDE = 1
    BAD_PIXEL = 2
    SATURATED = 4
    SPIKE = 8
    MISSING = 16
    OVERLAP = 32
    OVERLAP_FAINT = 64

    INVALID = OUTSIDE | BAD_PIXEL | SATURATED | MISSING


def complete_flags(flags, data, mask):
    """
    Complete the flags of an image, so that they say which pixels the mask or the data call invalid.

    Parameters
    ----------
    flags : array-like of unsigned integers, or None
        Bits of `~esis_ndcube.flags.Flag`.
    data : array-like
        The image.
    mask : array-like of `bool`, or None
        True where invalid; one value may stand for all pixels.

    Returns
    -------
    `numpy.ndarray`
        The flags, with ``Flag.BAD_PIXEL`` where they did not say that an invalid pixel is invalid.

    Examples
    --------
    >>> from esis_ndcube.flags import complete_flags
    >>> complete_flags(None, [1.0, 2.0, float("nan")], [True, False, False])
    array([2, 0, 2], dtype=uint16)
    """
    bad = invalid_pixels(np.asarray(data), None if mask is None else np.asarray(mask, dtype=bool))
    flags = np.zeros(bad.shape, np.uint16) if flags is None else np.asarray(flags)
    return np.where(bad & (flags & int(Flag.INVALID) == 0), flags | flags.dtype.type(Flag.BAD_PIXEL), flags)


def frame_flags(cube, index):
    """
    Complete flags of one image of a Level-1 cube, as `complete_flags` makes them.

    Parameters
    ----------
    cube : `~esis_ndcube.level1.ESISLevel1Cube`
        The cube.
    index : `tuple` of `int`
        Indices of exposure and channel.

    Returns
    -------
    `numpy.ndarray`
        Shape (y, x).

    Examples
    --------
    >>> from esis_ndcube.flags import frame_flags
    >>> bad = frame_flags(level1, (0, 1)) & int(Flag.INVALID) != 0  # doctest: +SKIP
    """
    parts = (part[index] if np.ndim(part) else part for part in (cube.flags, cube.data, cube.mask))
    # They are read together, because the parts of a lazy frame are made together.
    return complete_flags(*dask.compute(*parts))
