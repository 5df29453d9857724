"""The bits of a cube's flag plane."""

from enum import IntFlag

__all__ = ["Flag"]


class Flag(IntFlag):
    """
    What is known about a pixel, as bits of ``cube.flags``.

    `Flag.OVERLAP`, `Flag.OVERLAP_FAINT` and `Flag.SPIKE` inform: the pixel is good sky, and not masked for
    it. The others say that the pixel is invalid: `Flag.INVALID` has all their bits.

    Attributes
    ----------
    OUTSIDE
        Outside of the field stop or of the detector.
    BAD_PIXEL
        Unusable: a broken detector pixel, or masked by hand.
    SATURATED
        At or above the saturation level.
    SPIKE
        A particle hit, mended.
    MISSING
        No frame.
    OVERLAP
        The brightest other spectral line that overlaps the line falls here too.
    OVERLAP_FAINT
        Another, fainter one does.

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
