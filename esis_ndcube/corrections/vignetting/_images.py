"""The needs of this package for the images of a cube."""

import numpy as np

from esis_ndcube.corrections.correction import image_positions
from esis_ndcube.field_stop.region import distance_inside, overlapping_lines
from esis_ndcube.flags import Flag
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_axes, check_cube

# Another line matters if it covers this share of the clean pixels.
_MATTERS = 0.02


def check(cube):
    """Raise a `ValueError` if the images cannot be compared with one another."""
    check_cube(cube, 3)
    check_axes(cube, "flight", "line", "flags")
    if cube.data.shape[1] < 2:
        msg = f"got a cube of channel {cube.channel[0]} only, expected two or more to compare"
        raise ValueError(msg)


def chosen_alignments(cube):
    """The alignments that the images were made with, shape (time, channel)."""
    alignments = cube.alignment
    if alignments is None:
        msg = "got a cube without alignments, which carry the vignetting to the Sun: expected one of form_level3"
        raise ValueError(msg)
    return alignments


def clean_pixels(cube, time, channel):
    """True where an image has light of the line, and no light of the brightest line that overlaps it, shape (y, x)."""
    flags = np.asarray(cube.flags[time, channel])
    return ~np.asarray(invalid_pixels(cube.data, cube.mask, (time, channel))) & (flags & Flag.OVERLAP == 0)


def second_lines(cube, alignments):
    """Lines that fall on the clean pixels, which leave out the brightest overlapping line: so all are fainter."""
    line = cube.flight.line(cube.line)
    others = overlapping_lines(cube.flight, line)[1:]
    share = np.zeros(len(others))
    # The field stops are fixed on the detectors: one image of each channel shows them.
    first = [next((i for i, item in enumerate(column) if item is not None), None) for column in alignments.T]
    images = [(time, channel) for channel, time in enumerate(first) if time is not None]
    for time, channel in images:
        clean = clean_pixels(cube, time, channel)
        u_pixel, v_pixel = image_positions(alignments[time, channel], cube.wcs.celestial, clean.shape)
        u_pixel, v_pixel = u_pixel[clean], v_pixel[clean]
        for number, other in enumerate(others if clean.any() else ()):
            stop = cube.flight.field_stop(alignments[time, channel].channel, other)
            share[number] += np.mean(distance_inside(stop, u_pixel, v_pixel) >= 0) / len(images)
    return [other for other, value in zip(others, share, strict=True) if value > _MATTERS]
