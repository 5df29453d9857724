"""Co-align all frames of a flight: with a reference image, then with one channel."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sunpy.util.exceptions import warn_user

from esis_ndcube.parallel import delayed, share, stream
from esis_ndcube.registration._fitting import align_exposure
from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.registration.joint import fit_joint
from esis_ndcube.registration.reference import prepare_references

__all__ = ["Coalignment", "coalign"]

_MODELS = "independent", "joint"


@dataclass(frozen=True, eq=False)
class Coalignment:
    """
    Alignments of all frames of a Level-1 cube.

    Attributes
    ----------
    linear, final : `numpy.ndarray`
        Objects `Alignment`, or `None` where there is no frame, shape (time, channel): after the affine fit to the
        reference and after the quadratic fit to the reference channel.
    grid : `~astropy.wcs.WCS`
        The celestial WCS of the common grid, with its observer.
    reference : `str`
        What the pointing comes from.
    reference_times : `list`
        Time of the reference image of each exposure.
    reference_channel : `int`
        Number of the channel that the others were aligned with.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube, coalign
    >>> alignments = coalign(ESISLevel1Cube.from_raw("frames"))  # doctest: +SKIP
    >>> alignments.linear[0, 0].score, alignments.final[0, 0].score  # doctest: +SKIP
    """

    linear: np.ndarray
    final: np.ndarray
    grid: object
    reference: str
    reference_times: list
    reference_channel: int
    joint: object = None


def coalign(
    level1,
    reference=None,
    *,
    line=None,
    reference_channel=None,
    model="independent",
    workers=None,
    progress=False,
):
    """
    Align every frame of a Level-1 cube with the Sun.

    First each frame is aligned by an affine map with the reference image nearest in time, then by a quadratic one
    with the reference channel of the same exposure.
    The reference channel's own quadratic map is fitted to the reference image, if that has pixels fine enough;
    otherwise it stays affine, and its distortion is common to all channels.
    All fits maximize the correlation of images filtered by `log_difference_of_gaussians`, each from the flight's own
    pose, or from a coarse search about it where that fails, so that no result depends on another exposure's.
    Smooth gradients of the line-of-sight velocity look like distortion and go into the quadratic map: do not read
    mean or slowly varying velocities from aligned images.

    Parameters
    ----------
    level1 : `~esis_ndcube.ESISLevel1Cube`
        The frames, shape (time, channel, y, x).
    reference : `~sunpy.map.GenericMap` or `list` of them, optional
        Images of the Sun; the one nearest in time is used for each exposure.
        By default the reference channel itself, in the exposure nearest to the one that the flight's pose was
        measured in, and pointed by that pose.
    line : `str`, optional
        The spectral line, by default the one that the flight's pose was measured in.
    reference_channel : `int`, optional
        Number of the channel that the others are aligned with, by default the flight's choice.
    model : `str`, optional
        ``"independent"``: every exposure has its own quadratic maps; ``"joint"``: the final alignments are replaced by
        one static distortion per channel and rigid motions (`~esis_ndcube.registration.fit_joint`), which needs three
        exposures or more and is a little more accurate where the distortion really is static.
    workers : `int`, optional
        Number of threads; by default Dask's active scheduler decides.
    progress : `bool`, optional
        Show progress bars.

    Returns
    -------
    `Coalignment`
        Alignments of both stages. A fit that failed is there with ``converged=False``; a warning names it.

    Raises
    ------
    ValueError
        If the line, the channel or the model is unknown, a reference does not overlap the field of view, or there
        are too few exposures for the joint model.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube, coalign
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> coalign(level1).final[0, 0]  # doctest: +SKIP
    <Alignment final of channel 1, frame 109, O V>
    """
    flight = level1.flight
    line = flight.line(flight.pose_line if line is None else line).name
    channels = [int(c) for c in np.atleast_1d(level1.channel)]
    reference_channel = flight.reference_channel if reference_channel is None else reference_channel
    if reference_channel not in channels:
        msg = (
            f"got reference channel {reference_channel}, expected one of the cube's channels {channels}: "
            f"choose it with reference_channel="
        )
        raise ValueError(msg)
    if model not in _MODELS:
        msg = f"got model {model!r}, expected {' or '.join(map(repr, _MODELS))}"
        raise ValueError(msg)
    references = prepare_references(level1, reference, line=line, reference_channel=reference_channel)
    count = len(level1.frame)
    tasks = _tasks(level1, line, references, reference_channel, workers)
    results = stream(tasks, total=count, workers=workers, description="Aligning" if progress else None)
    linear, final = (np.empty((count, len(channels)), dtype=object) for _ in range(2))
    for index, rows in enumerate(results):
        # What comes from another process has a grid of its own each, which would add up.
        rows = [[replace(alignment, grid=references.grid) for alignment in row] for row in rows]
        linear[index], final[index] = rows
    _report(final, channels.index(reference_channel))
    joint = fit_joint(final, reference_channel=reference_channel) if model == "joint" else None
    if joint is not None:
        final = joint.alignments
    times = [references.times[index] for index in references.nearest]
    return Coalignment(linear, final, references.grid, references.name, times, reference_channel, joint)


@dataclass(frozen=True, eq=False)
class _Exposure:
    """What the alignment of one exposure needs, without the rest of the cube."""

    poses: list
    images: np.ndarray
    bad: np.ndarray
    flight: object
    reference: object


def _tasks(level1, line, references, reference_channel, workers):
    """The tasks to align one exposure each; a reference image is kept only as long as exposures need it."""
    flight, images, current = level1.flight, references.stream(workers=workers), None
    for index, (frame, nearest) in enumerate(zip(level1.frame, references.nearest, strict=True)):
        if nearest != current:
            current, reference = nearest, share(next(images), workers=workers)
        poses = [
            Alignment.from_pose(flight, channel, frame=int(frame), line=line, time=time, grid=references.grid)
            for channel, time in zip(level1.channel, level1.meta["mid_time"][index], strict=True)
        ]
        bad = np.zeros(level1.data.shape[1:], dtype=bool) if level1.mask is None else level1.mask[index]
        arrays = (share(array, workers=workers) for array in (level1.data[index], bad))
        yield delayed(partial(_align, poses, flight, reference_channel), *arrays, reference)


def _align(poses, flight, reference_channel, images, bad, reference):
    return align_exposure(_Exposure(poses, images, bad, flight, reference), reference_channel)


def _report(alignments, anchor):
    bad = [a for a in alignments.flat if a is not None and not a.converged]
    if bad:
        rows = ", ".join(f"frame {a.frame} channel {a.channel} ({a.reason})" for a in bad)
        warn_user(f"{len(bad)} of {alignments.size} frames could not be aligned and are left out: {rows}")
    weak = [row[anchor].frame for row in alignments if not row[anchor].converged and any(a.converged for a in row)]
    if weak:
        warn_user(
            f"in frames {weak} the reference channel could not be aligned: their other channels are aligned with the "
            f"reference image only"
        )
