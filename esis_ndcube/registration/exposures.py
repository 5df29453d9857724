"""Co-align all frames of a flight: with a reference image, then with one channel."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

import astropy.units as u
from sunpy.util.exceptions import warn_user

from esis_ndcube.flags import Flag
from esis_ndcube.registration._fitting import align_exposure, carry_exposure
from esis_ndcube.registration._frame import Frame
from esis_ndcube.registration._grid import pixel_size
from esis_ndcube.registration.alignment import UNCONFIRMED, Alignment
from esis_ndcube.registration.coalignment import Coalignment
from esis_ndcube.registration.joint import LEAST_EXPOSURES, fit_joint, usable_times
from esis_ndcube.registration.reference import Once, prepare_references
from esis_ndcube.registration.transform import TERMS
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.parallel import compute, delayed, share, stream

__all__ = ["coalign_frames"]

_MODELS = "independent", "joint"
_DEGREES = tuple(degree for degree in TERMS if degree > 1)


def coalign_frames(
    level1,
    reference=None,
    *,
    line=None,
    reference_channel=None,
    model=None,
    degree=2,
    max_gap=None,
    rotate=False,
    workers=None,
    progress=False,
):
    """
    Align every frame of a Level-1 cube with the Sun.

    First an affine map aligns each frame with the reference image nearest in time. Then a quadratic map aligns the
    frame with the reference channel of the same exposure.
    The reference channel's own quadratic map is fitted to the reference image if its pixels are fine enough; otherwise
    the map stays affine, and its distortion is common to all channels.
    All fits maximize the correlation of images filtered by `log_difference_of_gaussians`. Each fit starts from the
    flight's own pose, or from a coarse search about the pose if that fails. So no result depends on another exposure's.
    Smooth gradients of the line-of-sight velocity look like distortion and go into the quadratic map: do not read
    mean or slowly varying velocities from aligned images.

    Parameters
    ----------
    level1 : `~esis_ndcube.ESISLevel1Cube`
        The frames, shape (time, channel, y, x).
    reference : `~sunpy.map.GenericMap`, `list` of them, `~ndcube.NDCube` or `int`, optional
        Images of the Sun, of which each exposure uses the one nearest in time: Maps; a Level-3 cube, whose images in
        its own reference channel are used (``cube[:, :1]`` chooses channel 1); a context cube or any other cube with
        axes (time, y, x) or (y, x) in helioprojective coordinates and with times.
        Images of observers far from the Earth are brought to the Earth's view on the sphere of the Sun.
        Or the number of a channel, in the exposure nearest to that of the flight's pose, with the pointing of that
        pose; by default the reference channel.
    line : `str`, optional
        The spectral line, by default the line in which the flight's pose was measured.
    reference_channel : `int`, optional
        Number of the channel that the others are aligned with, by default the flight's choice.
    model : `str`, optional
        ``"joint"``: one static distortion per channel and rigid motions are fitted to the maps of all exposures
        (`~esis_ndcube.registration.fit_joint`), which needs three exposures or more. Frames that are too weak for a map
        of their own get the model's map, shifted onto them. A warning says where the distortion was not static.
        ``"independent"``: every exposure has its own quadratic maps, which have larger errors and do not depend on the
        other exposures. By default ``"joint"`` if three exposures or more have a good map of the reference channel, and
        ``"independent"`` otherwise; the result's ``options`` say which model was used.
    degree : `int`, optional
        Degree of the final maps, 2 or 3. Cubic maps follow a distortion that has cubic terms. They have larger errors,
        most of which the joint model averages away.
    max_gap : `~astropy.units.Quantity`, optional
        Largest time between an exposure and its reference; exposures without one are not aligned.
    rotate : `bool`, optional
        Whether to rotate the surface of the Sun in the reference to the time of each exposure, with sunpy's model of
        its differential rotation. By default the rotation is left in, as published: the exposure is aligned with the
        Sun at the time of the reference, and the coordinates of the disk center come out 0.0026 arcsec too far east for
        each second that the reference is earlier. Beyond the limb the reference stays as it is.
    workers : `int`, optional
        Number of threads; by default Dask's active scheduler decides.
    progress : `bool`, optional
        Show progress bars.

    Returns
    -------
    `~esis_ndcube.registration.Coalignment`
        Alignments of both stages. A failed fit has ``converged=False``, and a warning names it.
        `Alignment.status <esis_ndcube.Alignment.status>` tells weak alignments from good ones.

    Raises
    ------
    ValueError
        If the line, the channel or the model is unknown, a reference does not overlap the field of view, none is
        within ``max_gap`` of any exposure, or there are too few exposures for the joint model.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube, coalign
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> coalign(level1).final[0, 0]  # doctest: +SKIP
    <Alignment final of channel 1, frame 109, O V>
    """
    check_cube(level1, 1)
    if level1.data.ndim != 4:
        msg = (
            f"got a Level-1 cube of shape {level1.data.shape}, expected axes (time, channel, y, x): choose exposures "
            f"by ranges, for example cube[:1], and give a single frame as an array, cube[0, 0].data"
        )
        raise ValueError(msg)
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
    if model not in (*_MODELS, None):
        msg = f"got model {model!r}, expected {' or '.join(map(repr, _MODELS))}, or None to choose by the exposures"
        raise ValueError(msg)
    if degree not in _DEGREES:
        msg = f"got degree {degree!r} for the final maps, expected {' or '.join(map(str, _DEGREES))}"
        raise ValueError(msg)
    references = prepare_references(
        level1, reference, line=line, reference_channel=reference_channel, max_gap=max_gap, rotate=rotate
    )
    count = len(level1.frame_number)
    align = partial(align_exposure, reference_channel=reference_channel, degree=degree)
    tasks = _tasks(level1, line, references, dict.fromkeys(range(count), align), workers)
    linear, final = (np.empty((count, len(channels)), dtype=object) for _ in range(2))
    with stream(tasks, total=count, workers=workers, description="Aligning" if progress else None) as results:
        for index, rows in enumerate(results):
            linear[index], final[index] = (_with_grid(row, references.grid) for row in rows)
    anchor = channels.index(reference_channel)
    _report_misfits(final)
    if model is None:
        model = "joint" if len(usable_times(final, anchor)) >= LEAST_EXPOSURES else "independent"
    joint = fit_joint(final, reference_channel=reference_channel) if model == "joint" else None
    if joint is not None:
        final = joint.alignments.copy()
        weak = {
            t: partial(carry_exposure, row=row, joint=joint, time=t)
            for t, row in enumerate(final)
            if references.images[t] is not None and not all(alignment.converged for alignment in row)
        }
        for t, row in zip(weak, compute(_tasks(level1, line, references, weak, workers), workers=workers), strict=True):
            final[t] = _with_grid(row, references.grid)
    final = _confirmed(final, anchor)
    _report_losses(final, anchor)
    options = {
        "model": model,
        "degree": degree,
        "max_gap": None if max_gap is None else u.Quantity(max_gap).to_value(u.s),
        "rotate": rotate,
    }
    return Coalignment(
        linear, final, references.grid, line, references.name, references.times, reference_channel, options, joint
    )


@dataclass(frozen=True, eq=False)
class _Exposure:
    """The part of the cube that the alignment of one exposure needs."""

    poses: list
    images: tuple
    bad: tuple
    flight: object
    reference: object

    def loaded(self):
        """The same with the reference on the grid."""
        return replace(self, reference=self.reference.load())

    def frames(self):
        """The frames, in the form that the fits take."""
        return [
            Frame(image, bad, pose, self.flight)
            for image, bad, pose in zip(self.images, self.bad, self.poses, strict=True)
        ]


def _tasks(level1, line, references, functions, workers):
    """Tasks that call a function with the exposure of each index."""
    flight, last = level1.flight, None
    for index, function in functions.items():
        frame_number = int(level1.frame_number[index])
        poses = [
            Alignment.from_pose(flight, channel, frame_number=frame_number, line=line, time=time, grid=references.grid)
            for channel, time in zip(level1.channel, level1.meta["mid_time"][index], strict=True)
        ]
        bad = level1._mask_part(index)
        if level1.flags is not None:
            bad = bad | (level1.flags[index] & int(Flag.INVALID) != 0)
        # Image by image: Dask would copy lazy ones into one array.
        images, bad = (
            [share(part[c], workers=workers) for c in range(len(poses))] for part in (level1.data[index], bad)
        )
        # Exposures that follow each other and have the same reference share it, also in other processes.
        image = references.images[index]
        if last is None or image is not last[0]:
            last = image, share(None if image is None else Once(image), workers=workers)
        yield delayed(partial(_call, function, poses, flight), last[1], *images, *bad)


def _call(function, poses, flight, reference, *images):
    number = len(poses)
    return function(_Exposure(poses, images[:number], images[number:], flight, reference))


def _with_grid(row, grid):
    """The alignments with one common grid; from another process each brings one, which would add up."""
    return [replace(alignment, grid=grid) for alignment in row]


def _confirmed(alignments, anchor):
    """The alignments, with a note to those of the reference channel that no other channel confirms."""
    result = alignments.copy()
    for row, exposure in zip(result, alignments, strict=True):
        others = {a.status for a in exposure if a.channel != exposure[anchor].channel and a.converged}
        if others == {"weak"} and exposure[anchor].converged:
            row[anchor] = replace(exposure[anchor], reason=UNCONFIRMED)
    return result


def _report_losses(alignments, anchor):
    bad = [a for a in alignments.flat if a is not None and not a.converged]
    if bad:
        rows = ", ".join(f"frame {a.frame_number} channel {a.channel} ({a.reason})" for a in bad)
        warn_user(f"{len(bad)} of {alignments.size} frames could not be aligned and are left out: {rows}")
    weak = [
        row[anchor].frame_number for row in alignments if not row[anchor].converged and any(a.converged for a in row)
    ]
    if weak:
        warn_user(
            f"in frames {weak} the reference channel could not be aligned: their other channels are aligned with the "
            f"reference image only"
        )


def _report_misfits(alignments):
    if small := [a for a in alignments.flat if a is not None and a.converged and _is_too_small(a)]:
        rows = ", ".join(
            f"frame {a.frame_number} channel {a.channel} (degree {a.misfit.degree}, {a.misfit.size:.2g} pixels)"
            for a in small
        )
        warn_user(
            f"{len(small)} of {alignments.size} maps lack terms of the next degree, which exceed their stated errors: "
            f"{rows}{'; give degree=3 for cubic maps' if any(a.misfit.degree == 3 for a in small) else ''}"
        )


def _is_too_small(alignment):
    """Whether the missing terms of a map would change it by more than its stated error."""
    misfit, transform = alignment.misfit, alignment.transform
    if misfit is None or not misfit.significant:
        return False
    stretch = np.sqrt(abs(np.linalg.det(transform.jacobian(*transform.origin))))
    return misfit.size * pixel_size(alignment.grid) / stretch > alignment.error.to_value(u.arcsec)
