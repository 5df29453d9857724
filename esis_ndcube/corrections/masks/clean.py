"""The region that is clean in all images: valid, and free of other lines' light."""

import numpy as np

from esis_ndcube.field_stop import line_region, overlapping_lines
from esis_ndcube.flags import Flag
from esis_ndcube.flight.instrument import line_key
from esis_ndcube.resample import detector_coordinates
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_cube, find_number

__all__ = ["clean_region"]


def clean_region(cube, *, channels=None, lines=None, frame_numbers=None):
    """
    The region that is valid and free of other lines' light in all chosen images.

    The region is the opposite of a mask: True is good. Use it as the index of an array, not as ``mask=``.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Cube with mask and flags, shape (time, channel, y, x).
    channels : `int` or sequence of `int`, optional
        Channel numbers, by default all.
    lines : `str` or sequence of `str`, optional
        Names of the other lines whose light to avoid, ``"all"`` for all lines that overlap, or an empty sequence for no
        line; by default the brightest overlapping line.
    frame_numbers : `int` or sequence of `int`, optional
        Raw frame numbers, by default all.

    Returns
    -------
    `numpy.ndarray`
        Boolean, shape (y, x), True where clean. Images without any valid pixel do not count.

    Raises
    ------
    ValueError
        If the cube lacks a channel, frame or line, or does not have these axes or flags, or if the images have no clean
        region in common.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.corrections.masks import clean_region
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> clean = clean_region(cube, channels=[2, 3])  # doctest: +SKIP
    >>> cube.difference(2, 3).data[:, clean].mean()  # doctest: +SKIP
    """
    check_cube(cube, 3)
    if cube.data.ndim != 4 or cube.flags is None:
        flags = "no flags" if cube.flags is None else "flags"
        msg = f"got a cube of shape {cube.data.shape} with {flags}, expected (time, channel, y, x) with flags"
        raise ValueError(msg)
    if cube.channel is None:
        msg = "got a cube without channel numbers, expected one with the WCS of form_level3 or level3_wcs"
        raise ValueError(msg)
    pick_channels = _pick("channel", cube.channel, channels)
    pick_frames = (
        range(cube.data.shape[0]) if frame_numbers is None else _pick("frame", cube.frame_number, frame_numbers)
    )
    bits, others = _overlap(cube, lines)
    clean = np.ones(cube.data.shape[-2:], dtype=bool)
    seen = False
    for index in ((i, j) for i in pick_frames for j in pick_channels):
        good = ~np.asarray(invalid_pixels(cube.data, cube.mask, index))
        if not good.any():
            continue
        seen = True
        clean &= good & (np.asarray(cube.flags[index]) & bits == 0)
        for other in others:
            clean &= ~_image_region(cube, index, other)
    if not (seen and clean.any()):
        msg = (
            f"channels {', '.join(str(cube.channel[j]) for j in pick_channels)} have no clean region in common in "
            f"{len(pick_frames)} exposures: choose fewer channels or frames, or lines=[] to allow other lines' light"
        )
        raise ValueError(msg)
    return clean


def _pick(name, numbers, wanted):
    """Indices of channel or frame numbers."""
    if wanted is None:
        return range(len(numbers))
    indices = [find_number(name, number, numbers) for number in np.atleast_1d(wanted).tolist()]
    if not indices:
        msg = f"got no {name}, expected at least one of {', '.join(map(str, numbers))}"
        raise ValueError(msg)
    return indices


def _overlap(cube, lines):
    """Flag bits of the lines to avoid, and those lines that have no bit of their own."""
    if lines is None:
        return Flag.OVERLAP, []
    if cube.flight is None or cube.line is None:
        msg = "this cube does not know its flight and line: leave lines out for the brightest overlapping one"
        raise ValueError(msg)
    known = overlapping_lines(cube.flight, cube.line)
    if isinstance(lines, str):
        lines = [line.name for line in known] if lines == "all" else [lines]
    names = {line_key(line.name): line for line in known}
    for name in lines:
        if line_key(name) not in names:
            msg = f"got line {name!r}, expected lines that overlap {cube.line}: {', '.join(x.name for x in known)}"
            raise ValueError(msg)
    wanted = {line_key(name) for name in lines}
    bits, others = Flag(0), [line for key, line in names.items() if key in wanted]
    if known and known[0] in others:
        bits |= Flag.OVERLAP
        others.remove(known[0])
    if others and len(others) == len(known) - 1:
        # One bit stands for all fainter lines together.
        bits |= Flag.OVERLAP_FAINT
        others = []
    return bits, others


def _image_region(cube, index, line):
    """The place of a line's field stop in one image, through its alignment."""
    alignments = cube.alignment
    alignment = None if alignments is None else alignments[index]
    if alignment is None:
        msg = f"this cube has no alignment to place {line.name} with: leave lines out, or take lines='all'"
        raise ValueError(msg)
    position = detector_coordinates(alignment, cube.wcs[index], cube.data.shape[-2:])
    meta = cube.meta or {}
    shift = [meta[key][index] if key in meta else 0.0 for key in ("field_stop_u", "field_stop_v")]
    return line_region(cube.flight, alignment.channel, line, *position, shift=shift)
