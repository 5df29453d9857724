"""The fits of one exposure: each frame to the reference image, then to the reference channel."""

from dataclasses import replace

import numpy as np

from esis_ndcube.field_stop.region import line_region
from esis_ndcube.registration._frame import on_grid
from esis_ndcube.registration.correlate import correlation, maximize_correlation
from esis_ndcube.registration.joint import carried
from esis_ndcube.registration.reference import pixel_size
from esis_ndcube.registration.search import coarse_search
from esis_ndcube.registration.transform import PolynomialTransform, stretch_and_turn

__all__ = ["align_exposure", "carry_exposure"]

# A fit to the reference channel with a lower score has locked on noise: on blank frames scores are 0.01, on the weakest
# good frames above 0.18.
_MIN_SCORE = 0.1
# False maxima of the correlation with the reference image, far from the true one, reach 0.16; the weakest good frames
# have 0.29. A fit with a lower score than the convincing one is compared with fits from other starts.
_MIN_SUN_SCORE, _CONVINCING = 0.2, 0.25
# Noise may correlate in a small corner: the least part of the field of view, or of the reference, that a fit uses.
_LEAST_OVERLAP = 0.05
# A channel stretched or sheared by more than this against the flight's pose is no image of the Sun.
_MAX_STRETCH = 0.1
_PYRAMID = (4, 2, 1)
# Distance in grid pixels of the points over which an affine map is the nearest to a bent one.
_SAMPLE = 16
# Least number of pixels in the overlap for a fit; a coarse level with fewer pixels shows too little to start from.
_LEAST, _LEAST_COARSE = 200, 1000
# For fits between channels, which are the last ones: one more pass brings them this near to their maximum.
_FINE_TOLERANCE = 0.001
# Range of the search if the fit from the flight's pose fails: degrees, factors, and arcsec.
_ROLLS = np.arange(-6.0, 6.5)
_SCALES = (0.96, 0.98, 1.0, 1.02, 1.04)
_SHIFT = 48.0


def align_exposure(exposure, reference_channel, degree):
    """Linear and final alignments of the channels of one exposure."""
    if exposure.reference is None:
        reason = {"reference": "none", "converged": False, "reason": "no reference within max_gap"}
        lost = [replace(pose, stage="linear", **reason) for pose in exposure.poses]
        return lost, lost
    exposure = exposure.loaded()
    frames = exposure.frames()
    linear, bent = zip(*(_fit_to_reference(frame, exposure.reference, degree) for frame in frames), strict=True)
    numbers = [pose.channel for pose in exposure.poses]
    anchor = numbers.index(reference_channel)
    if not bent[anchor].converged:
        return linear, bent
    target = on_grid(frames[anchor], bent[anchor].transform)
    final = []
    for frame, first, number in zip(frames, bent, numbers, strict=True):
        if not first.converged or number == reference_channel:
            final.append(first)
        else:
            final.append(_fit_final(frame, first, target, bent[anchor], degree))
    return linear, final


def carry_exposure(exposure, row, joint, time):
    """
    Final alignments of one exposure; a failed alignment is replaced by the map of the joint model, shifted onto the
    image.

    A shift can still be found in frames that are too weak for a whole map.
    """
    exposure = exposure.loaded()
    frames, row = exposure.frames(), list(row)
    anchor = [frame.pose.channel for frame in frames].index(joint.reference_channel)
    # The reference channel comes first: the others are shifted onto it.
    for channel in sorted(range(len(row)), key=lambda c: c != anchor):
        frame, expected = frames[channel], joint.predict(time, channel)
        if row[channel].converged or expected is None or frame.missing:
            continue
        if channel == anchor:
            level = exposure.reference.levels(frame.flight, _PYRAMID)[-1]
            reference, name = (level.image, level.mask), exposure.reference.name
            factor, widths, least = level.factor, level.widths, _MIN_SUN_SCORE
        elif row[anchor].converged:
            reference, name = on_grid(frames[anchor], row[anchor].transform), f"channel {joint.reference_channel}"
            factor, widths, least = 1, frame.flight.registration_widths, _MIN_SCORE
        else:
            continue
        image, valid = frame.filtered(factor, widths)
        start = frame.to_binned(expected[0], factor)
        fit = maximize_correlation(reference[0], image, start, mask=reference[1], valid=valid, degree=0)
        limits = {"least": least, "possible": _possible(frame, reference[1], factor)}
        found = _alignment(frame.pose, fit, frame.from_binned(fit.transform, factor), "final", name, factor, **limits)
        if found.converged:
            covariance, reason = found.covariance + expected[1], "shifted from the joint model"
            row[channel] = replace(found, covariance=covariance, reason=reason, misfit=None)
            if channel != anchor:
                row[channel] = _measured_against(row[channel], row[anchor])
    return row


def _fit_to_reference(frame, reference, degree):
    """
    The linear alignment with the reference image, and one of a higher degree if the reference shows the distortion.

    Strong features pull an affine map that is fitted to images which bend against each other. So the bent map is
    fitted, and the linear alignment is the affine map nearest to it over the field of view.
    """
    pose = frame.pose
    if frame.missing:
        lost = replace(pose, stage="linear", reference=reference.name, converged=False, reason="no valid pixels")
        return lost, lost
    levels = reference.levels(frame.flight, _PYRAMID)
    level = levels[-1]
    attempts = []
    image, valid = frame.filtered(level.factor, level.widths)
    masks = {"mask": level.mask, "valid": valid}
    limits = {"least": _MIN_SUN_SCORE, "possible": _possible(frame, level.mask, level.factor)}
    for some, start in _starts(frame, levels):
        fit, transform = _descend(frame, some, start)
        attempts.append(_alignment(pose, fit, transform, "linear", reference.name, level.factor, **limits))
        if attempts[-1].converged and attempts[-1].score >= _CONVINCING:
            break
    linear = max(attempts, key=lambda attempt: (attempt.converged, np.nan_to_num(attempt.score, nan=-1)))
    if not linear.converged or not reference.detailed:
        return linear, replace(linear, stage="final")
    transform = linear.transform
    start = frame.to_binned(transform.renormalized(transform.origin, transform.scale, degree=degree), level.factor)
    fit = maximize_correlation(level.image, image, start, **masks)
    transform = frame.from_binned(fit.transform, level.factor)
    bent = _alignment(pose, fit, transform, "final", reference.name, level.factor, **limits)
    if not bent.converged:
        return linear, replace(linear, stage="final")
    affine, covariance = _nearest_affine(bent, frame)
    score = correlation(level.image, image, frame.to_binned(affine, level.factor), **masks)
    known = {
        "transform": affine,
        "covariance": covariance,
        "reference_covariance": None,
        "score": score,
        "misfit": None,
    }
    return replace(bent, stage="linear", **known), bent


def _starts(frame, levels):
    """Levels of the fit with their starts, which are tried one after the other until a fit succeeds."""
    yield levels, frame.pose.transform
    # On few coarse pixels noise may lead away from a near pose.
    yield levels[1:] or levels, frame.pose.transform
    # Or the pose is too far away for a fit; the search costs as much as ten fits.
    yield levels, _search(frame, levels[0])


def _nearest_affine(alignment, frame):
    """The affine map nearest to a bent one over the field of view, and its covariance."""
    transform, (rows, columns) = alignment.transform, alignment.grid.array_shape
    y, x = (a.ravel() for a in np.mgrid[0:rows:_SAMPLE, 0:columns:_SAMPLE].astype(float))
    inside = line_region(frame.flight, alignment.channel, alignment.line, *transform(x, y))
    terms = transform.terms(x[inside], y[inside])
    # The terms of an affine map come first.
    project = np.linalg.lstsq(terms[:, :3], terms, rcond=None)[0]
    affine = PolynomialTransform(transform.coefficients @ project.T, transform.origin, transform.scale)
    both = np.kron(np.eye(2), project)
    return affine, both @ alignment.covariance @ both.T


def _descend(frame, levels, transform):
    """Fit at the coarsest level, and from there at the finest level, where the fit itself begins on few rows."""
    for level in levels[:1] + levels[1:][-1:]:
        image, valid = frame.filtered(level.factor, level.widths)
        fit = maximize_correlation(
            level.image,
            image,
            frame.to_binned(transform, level.factor),
            mask=level.mask,
            valid=valid,
            min_pixels=_LEAST if level is levels[-1] else _LEAST_COARSE,
            errors=level is levels[-1],
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


def _fit_final(frame, first, target, anchor, degree):
    """Alignment of a degree with the reference channel on the grid, where the alignment ``anchor`` has put it."""
    image, valid = frame.filtered(1, frame.flight.registration_widths)
    start = first.transform.renormalized(first.transform.origin, first.transform.scale, degree=degree)
    fit = maximize_correlation(
        target[0], image, frame.to_binned(start, 1), mask=target[1], valid=valid, tolerance=_FINE_TOLERANCE
    )
    name = f"channel {anchor.channel}"
    limits = {"least": _MIN_SCORE, "possible": _possible(frame, target[1], 1)}
    found = _alignment(first, fit, frame.from_binned(fit.transform, 1), "final", name, 1, **limits)
    return _measured_against(found, anchor)


def _measured_against(found, anchor):
    return replace(found, reference_covariance=carried(anchor.transform, found.transform, anchor.covariance))


def _possible(frame, mask, factor):
    """Approximate number of pixels of the reference that a frame with light everywhere can overlap."""
    transform = frame.pose.transform
    per_pixel = np.abs(np.linalg.det(transform.jacobian(*transform.origin))) * factor**2
    return min(np.count_nonzero(mask), frame.n_field / per_pixel)


def _alignment(start, fit, transform, stage, name, factor, *, least, possible):
    trouble = None if fit.converged else fit.reason
    if trouble is None and not fit.score >= least:
        trouble = f"score {fit.score:.3f} is too low"
    if trouble is None and fit.n_pixels < _LEAST_OVERLAP * possible:
        trouble = f"only {fit.n_pixels} of about {possible:.0f} pixels overlap"
    if trouble is None and stretch_and_turn(start.transform, transform)[0] > _MAX_STRETCH:
        trouble = "shape is far from the pose's"
    return replace(
        start,
        transform=transform,
        stage=stage,
        reference=name,
        score=float(fit.score),
        iterations=fit.iterations,
        n_pixels=fit.n_pixels,
        converged=trouble is None,
        reason=trouble or fit.reason,
        condition=fit.condition,
        covariance=fit.covariance * factor**2,
        reference_covariance=None,
        misfit=fit.misfit and fit.misfit.binned(1 / factor),
    )
