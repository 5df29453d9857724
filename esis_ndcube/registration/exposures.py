"""Co-align all frames of a flight: with a reference image, then with one channel."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.ndimage import binary_erosion, map_coordinates

import astropy.units as u
from sunpy.util.exceptions import warn_user

from esis_ndcube.mask import line_region, lit_region
from esis_ndcube.parallel import delayed, share, stream
from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.registration.correlate import maximize_correlation
from esis_ndcube.registration.joint import fit_joint
from esis_ndcube.registration.prefilter import log_difference_of_gaussians
from esis_ndcube.registration.reference import bin_image, pixel_size, prepare_references
from esis_ndcube.registration.search import coarse_search
from esis_ndcube.registration.transform import PolynomialTransform

__all__ = ["Coalignment", "coalign"]

# Pixels this close to the edge of the field stop are not used: the filter sees the edge there.
_MARGIN = 3.0
# A fit that scores less has locked on noise: on blank frames scores are 0.01, on the weakest good ones above 0.2.
_MIN_SCORE = 0.1
# A channel stretched or sheared by more than this against the flight's pose is no image of the Sun.
_MAX_STRETCH = 0.1
_PYRAMID = (4, 2, 1)
# Fewest pixels in the overlap that make a fit; so few of a coarse level show too little to start from.
_LEAST, _LEAST_COARSE = 200, 1000
_MODELS = "independent", "joint"
# Where the search looks if the fit from the flight's pose fails: degrees, factors, and arcsec.
_ROLLS = np.arange(-6.0, 6.5)
_SCALES = (0.96, 0.98, 1.0, 1.02, 1.04)
_SHIFT = 48.0


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
    shared = [share(image, workers=workers) for image in references.images]
    tasks = (_aligning(level1, index, line, references, shared, reference_channel, workers) for index in range(count))
    results = stream(tasks, total=count, workers=workers, description="Aligning" if progress else None)
    linear, final = (np.empty((count, len(channels)), dtype=object) for _ in range(2))
    for index, (first, second) in enumerate(results):
        linear[index], final[index] = first, second
    _report(final)
    joint = fit_joint(final, reference_channel=reference_channel) if model == "joint" else None
    if joint is not None:
        final = joint.alignments
    times = [references.nearest(time).time for time in level1.time]
    return Coalignment(linear, final, references.grid, references.name, times, reference_channel, joint)


def _aligning(level1, index, line, references, shared, reference_channel, workers):
    """The task to align one exposure, of which it gets the frames only, and the reference image nearest in time."""
    flight, frame = level1.flight, int(level1.frame[index])
    poses = [
        Alignment.from_pose(flight, channel, frame=frame, line=line, time=time, grid=references.grid)
        for channel, time in zip(level1.channel, level1.meta["mid_time"][index], strict=True)
    ]
    bad = np.zeros(level1.data.shape[1:], dtype=bool) if level1.mask is None else level1.mask[index]
    images, bad = (share(array, workers=workers) for array in (level1.data[index], bad))
    reference = shared[references.images.index(references.nearest(level1.time[index]))]
    task = partial(_align_exposure, poses=poses, flight=flight, reference_channel=reference_channel)
    return delayed(task, images, bad, reference)


def _align_exposure(images, bad, reference, *, poses, flight, reference_channel):
    """Linear and final alignments of the channels of one exposure."""
    frames = [_Frame(*parts, flight) for parts in zip(images, bad, poses, strict=True)]
    linear = [_fit_linear(frame, reference) for frame in frames]
    numbers = [pose.channel for pose in poses]
    anchor = numbers.index(reference_channel)
    if linear[anchor] is None or not linear[anchor].converged:
        return linear, list(linear)
    anchored = _fit_anchor(frames[anchor], linear[anchor], reference)
    target = _on_grid(frames[anchor], anchored.transform)
    final = []
    for frame, first, number in zip(frames, linear, numbers, strict=True):
        if first is None or not first.converged:
            final.append(first)
        elif number == reference_channel:
            final.append(anchored)
        else:
            final.append(_fit_final(frame, first, target, f"channel {reference_channel}"))
    return linear, final


class _Frame:
    """One Level-1 frame, filtered on demand at the levels of the pyramid."""

    def __init__(self, image, bad, pose, flight):
        self.pose, self.flight = pose, flight
        rows, columns = image.shape
        y, x = np.ogrid[:rows, :columns]
        inside = line_region(flight, pose.channel, pose.line, x, y, margin=_MARGIN)
        where = np.nonzero(inside)
        if not len(where[0]):
            self.box, self.image, self.valid = (slice(0, 0),) * 2, image[:0, :0], inside[:0, :0]
            return
        # Only the line's part of the detector is filtered.
        self.box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in where)
        self.image = np.asarray(image[self.box], dtype=np.float32)
        self.valid = inside[self.box] & ~np.asarray(bad[self.box]) & np.isfinite(self.image)
        self.valid &= lit_region(self.image, self.valid)
        # A constant image is no Sun.
        if self.valid.any() and np.ptp(self.image[self.valid]) == 0:
            self.valid = np.zeros_like(self.valid)

    @property
    def missing(self):
        return not self.valid.any()

    def filtered(self, factor, widths):
        """Filtered image and valid pixels after binning, and the map from frame pixels to its pixels."""
        image, valid = bin_image(self.image, self.valid, factor)
        scale = self.flight.detector.pixel_scale.to_value(u.arcsec)[::-1] * factor
        fine, coarse = (tuple(width / scale) for width in widths.to_value(u.arcsec))
        return log_difference_of_gaussians(image, fine, coarse, valid=valid), valid

    def to_binned(self, transform, factor):
        """The same transform between binned grid and binned frame pixels."""
        offset = np.array([self.box[1].start, self.box[0].start]) + (factor - 1) / 2
        coefficients = transform.coefficients.copy()
        coefficients[:, 0] -= offset
        origin = (transform.origin - (factor - 1) / 2) / factor
        return PolynomialTransform(coefficients / factor, origin, transform.scale / factor)

    def from_binned(self, transform, factor):
        """Undo `to_binned`."""
        offset = np.array([self.box[1].start, self.box[0].start]) + (factor - 1) / 2
        coefficients = transform.coefficients * factor
        coefficients[:, 0] += offset
        origin = transform.origin * factor + (factor - 1) / 2
        return PolynomialTransform(coefficients, origin, transform.scale * factor)


def _fit_linear(frame, reference):
    pose = frame.pose
    if frame.missing:
        return replace(pose, stage="linear", reference=reference.name, converged=False, reason="no valid pixels")
    levels = reference.levels(frame.flight, _PYRAMID)
    fit, transform = _descend(frame, levels, pose.transform)
    if _failed(fit):
        # The pose may be too far off for the fit; the search costs as much as ten of them.
        second, other = _descend(frame, levels, _search(frame, levels[0]))
        if not _failed(second):
            fit, transform = second, other
    return _alignment(pose, fit, transform, "linear", reference.name, levels[-1].widths[0], levels[-1].factor)


def _descend(frame, levels, transform):
    """Fit at the coarsest level, and from there at the finest, where the fit begins on few rows by itself."""
    for level in levels[:1] + levels[1:][-1:]:
        image, valid = frame.filtered(level.factor, level.widths)
        fit = maximize_correlation(
            level.image,
            image,
            frame.to_binned(transform, level.factor),
            mask=level.mask,
            valid=valid,
            min_pixels=_LEAST if level is levels[-1] else _LEAST_COARSE,
        )
        if np.isfinite(fit.score):
            transform = frame.from_binned(fit.transform, level.factor)
    return fit, transform


def _search(frame, level):
    image, valid = frame.filtered(level.factor, level.widths)
    pixel = pixel_size(frame.pose.grid) * level.factor
    found, _ = coarse_search(
        level.image,
        image,
        frame.to_binned(frame.pose.transform, level.factor),
        mask=level.mask,
        valid=valid,
        rolls=_ROLLS,
        scales=_SCALES,
        shift=_SHIFT / pixel,
    )
    return frame.from_binned(found, level.factor)


def _failed(fit):
    return not (fit.converged and fit.score >= _MIN_SCORE)


def _fit_anchor(frame, linear, reference):
    """Final alignment of the reference channel: quadratic, where the reference image shows the distortion."""
    if not reference.detailed:
        return replace(linear, stage="final")
    level = reference.levels(frame.flight, _PYRAMID)[-1]
    image, valid = frame.filtered(level.factor, level.widths)
    start = linear.transform.renormalized(linear.transform.origin, linear.transform.scale, degree=2)
    fit = maximize_correlation(level.image, image, frame.to_binned(start, level.factor), mask=level.mask, valid=valid)
    transform = frame.from_binned(fit.transform, level.factor)
    result = _alignment(linear, fit, transform, "final", reference.name, level.widths[0], level.factor)
    return result if result.converged else replace(linear, stage="final")


def _on_grid(frame, transform):
    """The filtered frame on the grid, and the grid pixels that it covers."""
    widths = frame.flight.registration_widths
    image, valid = frame.filtered(1, widths)
    rows, columns = frame.pose.grid.array_shape
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    coordinates = np.stack(frame.to_binned(transform, 1)(x, y)[::-1])
    target = map_coordinates(image, coordinates, order=3, mode="constant")
    covered = map_coordinates(valid.astype(np.float32), coordinates, order=1, mode="constant") > 0.999
    return target, binary_erosion(covered, iterations=2)


def _fit_final(frame, linear, target, name):
    image, valid = frame.filtered(1, frame.flight.registration_widths)
    start = linear.transform.renormalized(linear.transform.origin, linear.transform.scale, degree=2)
    fit = maximize_correlation(target[0], image, frame.to_binned(start, 1), mask=target[1], valid=valid)
    transform = frame.from_binned(fit.transform, 1)
    return _alignment(linear, fit, transform, "final", name, frame.flight.registration_widths[0], 1)


def _alignment(start, fit, transform, stage, name, fine, factor):
    failed = _failed(fit)
    stretched = not failed and _stretch(transform, start) > _MAX_STRETCH
    reason = fit.reason
    if stretched:
        reason = "shape is far from the pose's"
    elif failed and fit.converged:
        reason = f"score {fit.score:.3f} is too low"
    # The filter correlates neighboring pixels, so that there are fewer independent ones than pixels.
    correlated = 4 * np.pi * (fine.to_value(u.arcsec) / (pixel_size(start.grid) * factor)) ** 2
    return replace(
        start,
        transform=transform,
        stage=stage,
        reference=name,
        score=float(fit.score),
        iterations=fit.iterations,
        n_pixels=fit.n_pixels,
        converged=not failed and not stretched,
        reason=reason,
        condition=fit.condition,
        covariance=fit.covariance * max(correlated, 1.0) * factor**2,
    )


def _stretch(transform, start):
    """Largest change of length between two maps at the middle of the grid, relative."""
    x, y = start.transform.origin
    change = np.linalg.solve(start.transform.jacobian(x, y), transform.jacobian(x, y))
    return np.abs(np.linalg.svd(change, compute_uv=False) - 1).max()


def _report(alignments):
    bad = [a for a in alignments.flat if a is not None and not a.converged]
    if bad:
        rows = ", ".join(f"frame {a.frame} channel {a.channel} ({a.reason})" for a in bad)
        warn_user(f"{len(bad)} of {alignments.size} frames could not be aligned and are left out: {rows}")
    weak = {a.frame for a in alignments.flat if a is not None and a.converged and a.stage == "linear"}
    if weak:
        warn_user(
            f"in frames {sorted(weak)} the reference channel could not be aligned: their other channels are "
            f"aligned with the reference image only"
        )
