"""The pointing of the instrument, from the alignments."""

import numpy as np

import astropy.units as u
from astropy.table import QTable

from esis_ndcube.registration._status import image_status
from esis_ndcube.registration.alignment import sky_scale
from esis_ndcube.utils.checks import find_number, named_axes

__all__ = ["pointing_table"]


def pointing_table(alignments, frame_numbers, times, *, flight, line, reference_frame_number=None):
    """
    Motion of the Sun on the detectors.

    For each channel, the point of the Sun in the center of the field stop in the chosen exposure is followed on the
    detector. The linear part of that exposure's alignment brings its motion to the sky.

    Parameters
    ----------
    alignments : `numpy.ndarray` of `~esis_ndcube.Alignment` or None
        Shape (time, channel).
    frame_numbers : sequence of `int`
        Raw frame numbers, shape (time,).
    times : `~astropy.time.Time`
        Mid-exposure times, shape (time,).
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `str`
        The spectral line.
    reference_frame_number : `int`, optional
        Frame number of the chosen exposure; by default that of the flight's pose if it is there, or else the middle
        one.

    Returns
    -------
    `~astropy.table.QTable`
        A row for each exposure and channel with ``time``, ``frame_number``, ``channel``, ``dx`` and ``dy`` (arcsec
        along solar x and y), ``roll`` (deg, positive if the Sun's image turned counter-clockwise) and ``status``, as
        `Alignment.status <esis_ndcube.Alignment.status>`; NaN if there is no alignment.

    Raises
    ------
    ValueError
        If ``reference_frame_number`` is not one of the frames.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1, Alignment
    >>> from esis_ndcube.registration.pointing import pointing_table
    >>> times = Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10"])
    >>> alignments = np.empty((2, 1), dtype=object)
    >>> for i, time in enumerate(times):
    ...     pose = {"frame_number": 124 + i, "line": "O V", "time": time, "grid": ESIS_1.grid}
    ...     alignments[i, 0] = Alignment.from_pose(ESIS_1, 2, **pose)
    >>> table = pointing_table(alignments, [124, 125], times, flight=ESIS_1, line="O V")
    >>> table["dx"]
    <Quantity [0., 0.] arcsec>
    """
    frame_numbers = np.asarray(frame_numbers)
    if reference_frame_number is None:
        reference_frame_number = (
            flight.pose_frame if flight.pose_frame in frame_numbers else frame_numbers[len(frame_numbers) // 2]
        )
    chosen = find_number("reference frame", reference_frame_number, frame_numbers, "the cube's: ")
    values = np.full((*alignments.shape, 3), np.nan)
    numbers = np.zeros(alignments.shape[1], dtype=int)
    for j, column in enumerate(alignments.T):
        numbers[j] = next((alignment.channel for alignment in column if alignment is not None), 0)
        if column[chosen] is None:
            continue
        center = flight.field_stop(numbers[j], line).mean(axis=0)
        for i, alignment in enumerate(column):
            if alignment is not None:
                values[i, j] = _motion(alignment, column[chosen], center)
    table = QTable()
    table["time"] = times[np.repeat(np.arange(frame_numbers.size), numbers.size)]
    table["frame_number"] = np.repeat(frame_numbers, numbers.size)
    table["channel"] = np.tile(numbers, frame_numbers.size)
    for k, (name, unit) in enumerate({"dx": u.arcsec, "dy": u.arcsec, "roll": u.deg}.items()):
        table[name] = values[..., k].ravel() * unit
    table["status"] = [image_status(alignment) for alignment in alignments.ravel()]
    table.meta["reference_frame_number"] = int(reference_frame_number)
    return table


def cube_pointing(cube, reference_frame_number=None):
    """The table of a cube of Level 3, as its method ``pointing`` explains."""
    alignments = cube.alignment_final if cube.alignment_final is not None else cube.alignment_linear
    if alignments is None or cube.frame_number is None:
        msg = "this cube has no alignments: cubes of form_level3, and parts of them, have a pointing"
        raise ValueError(msg)
    named_axes(cube)
    frame_numbers = np.atleast_1d(cube.frame_number)
    return pointing_table(
        by_channel(cube, alignments),
        frame_numbers,
        cube.time.reshape(frame_numbers.size),
        flight=cube.flight,
        line=cube.line,
        reference_frame_number=reference_frame_number,
    )


def by_channel(cube, alignments):
    """Alignments of a cube or of any part of it, shape (time, channel)."""
    # An alignment has a shape of its own.
    array = np.empty(alignments.shape if isinstance(alignments, np.ndarray) else (), dtype=object)
    array[...] = alignments
    shape = np.size(cube.frame_number), np.size(cube.channel)
    if array.size != np.prod(shape):
        msg = (
            f"got alignments of shape {array.shape} in a cube of {shape[0]} exposures and {shape[1]} channels, "
            "expected one for each image: name their axes in the metadata, NDMeta(..., axes={...: (0, 1)})"
        )
        raise ValueError(msg)
    return array.reshape(shape)


def image_alignment(cube, frame_number, channel):
    """The alignment that one image was resampled with."""
    alignments = cube.alignment
    index = []
    for name, argument, number, numbers in (
        ("frame", "frame_number", frame_number, cube.frame_number),
        ("channel", "channel", channel, cube.channel),
    ):
        if numbers is None:
            msg = f"got a cube of no single {name}, which has no detector coordinates: cut out images of one"
            raise ValueError(msg)
        numbers = np.atleast_1d(numbers)
        if number is None and numbers.size > 1:
            msg = f"got a cube of {numbers.size} {name}s, expected one: cut out an image, or give {argument}="
            raise ValueError(msg)
        index.append((0 if number is None else find_number(name, number, numbers), numbers.size))
    (i, rows), (j, columns) = index
    alignment = alignments
    if isinstance(alignments, np.ndarray):
        alignment = alignments.reshape(rows, columns)[i, j]
    if alignment is None:
        msg = (
            f"the image of frame {np.atleast_1d(cube.frame_number)[i]}, channel {np.atleast_1d(cube.channel)[j]} has "
            "no alignment: there was no frame, its fit failed, or the cube does not come from form_level3"
        )
        raise ValueError(msg)
    return alignment


def _motion(alignment, chosen, center):
    """Shift along x and y in arcsec and turn in deg between two alignments of one channel."""
    x, y = (float(np.asarray(value).ravel()[0]) for value in chosen.transform.inverse(*center[:, None]))
    here, there = (np.ravel(t.transform([x], [y])) for t in (alignment, chosen))
    to_sky = sky_scale(chosen.grid) @ np.linalg.inv(_jacobian(chosen, x, y))
    shift = to_sky @ (here - there)
    turn = to_sky @ _jacobian(alignment, x, y) @ np.linalg.inv(sky_scale(chosen.grid))
    # The rotation of the polar decomposition of a 2 x 2 matrix.
    angle = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
    return *shift, np.degrees(angle)


def _jacobian(alignment, x, y):
    return np.reshape(alignment.transform.jacobian([x], [y]), (2, 2))
