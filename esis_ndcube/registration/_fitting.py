"""The fits of one exposure: each frame to the reference image, then to the reference channel."""

from dataclasses import replace

import numpy as np

from esis_ndcube.mask import line_region
from esis_ndcube.registration._frame import Frame, on_grid
from esis_ndcube.registration.correlate import correlation, maximize_correlation
from esis_ndcube.registration.reference import pixel_size
from esis_ndcube.registration.search import coarse_search
from esis_ndcube.registration.transform import PolynomialTransform

__all__ = ["align_exposure"]

# A fit that scores less has locked on noise: on blank frames scores are 0.01, on the weakest good ones above 0.2.
_MIN_SCORE = 0.1
# A channel stretched or sheared by more than this against the flight's pose is no image of the Sun.
_MAX_STRETCH = 0.1
_PYRAMID = (4, 2, 1)
# Distance in grid pixels of the points over which an affine map is the nearest to a quadratic one.
_SAMPLE = 16
# Fewest pixels in the overlap that make a fit; so few of a coarse level show too little to start from.
_LEAST, _LEAST_COARSE = 200, 1000
# Of the fits between channels, which nothing comes after: one pass more brings them this near to their maximum.
_FINE_TOLERANCE = 0.001
# Where the search looks if the fit from the flight's pose fails: degrees, factors, and arcsec.
_ROLLS = np.arange(-6.0, 6.5)
_SCALES = (0.96, 0.98, 1.0, 1.02, 1.04)
_SHIFT = 48.0


def align_exposure(exposure, reference_channel):
    """Linear and final alignments of the channels of one exposure."""
    frames = [
        Frame(image, bad, pose, exposure.flight)
        for image, bad, pose in zip(exposure.images, exposure.bad, exposure.poses, strict=True)
    ]
    linear, bent = zip(*(_fit_to_reference(frame, exposure.reference) for frame in frames), strict=True)
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
            final.append(_fit_final(frame, first, target, bent[anchor]))
    return linear, final


def _fit_to_reference(frame, reference):
    """
    The linear alignment with the reference image, and the quadratic one where that shows the distortion.

    An affine map that is fitted to images which bend against each other is pulled by the features that happen to be
    strong. So the quadratic map is fitted, and the affine map nearest to it over the field of view is the linear one.
    """
    pose = frame.pose
    if frame.missing:
        lost = replace(pose, stage="linear", reference=reference.name, converged=False, reason="no valid pixels")
        return lost, lost
    levels = reference.levels(frame.flight, _PYRAMID)
    level = levels[-1]
    attempts = []
    for some, start in _starts(frame, levels):
        fit, transform = _descend(frame, some, start)
        attempts.append(_alignment(pose, fit, transform, "linear", reference.name, level.factor))
        if attempts[-1].converged:
            break
    linear = attempts[-1] if attempts[-1].converged else attempts[0]
    if not linear.converged or not reference.detailed:
        return linear, replace(linear, stage="final")
    image, valid = frame.filtered(level.factor, level.widths)
    transform = linear.transform
    start = frame.to_binned(transform.renormalized(transform.origin, transform.scale, degree=2), level.factor)
    masks = {"mask": level.mask, "valid": valid}
    fit = maximize_correlation(level.image, image, start, **masks)
    bent = _alignment(pose, fit, frame.from_binned(fit.transform, level.factor), "final", reference.name, level.factor)
    if not bent.converged:
        return linear, replace(linear, stage="final")
    affine, covariance = _nearest_affine(bent, frame)
    score = correlation(level.image, image, frame.to_binned(affine, level.factor), **masks)
    known = {"transform": affine, "covariance": covariance, "reference_covariance": None, "score": score}
    return replace(bent, stage="linear", **known), bent


def _starts(frame, levels):
    """Levels to go through and what to start from, to be tried one after the other until a fit succeeds."""
    yield levels, frame.pose.transform
    # On few coarse pixels noise may lead away from a pose that is near.
    yield levels[1:] or levels, frame.pose.transform
    # Or the pose is too far off for a fit; the search costs as much as ten of them.
    yield levels, _search(frame, levels[0])


def _nearest_affine(alignment, frame):
    """The affine map nearest to a quadratic one over the field of view, and its covariance."""
    transform, (rows, columns) = alignment.transform, alignment.grid.array_shape
    y, x = (a.ravel() for a in np.mgrid[0:rows:_SAMPLE, 0:columns:_SAMPLE].astype(float))
    inside = line_region(frame.flight, alignment.channel, alignment.line, *transform(x, y))
    x, y = ((a[inside] - o) / transform.scale for a, o in zip((x, y), transform.origin, strict=True))
    terms = np.stack([x**i * y**j for i, j in transform.exponents], axis=1)
    # The terms of an affine map come first.
    project = np.linalg.lstsq(terms[:, :3], terms, rcond=None)[0]
    affine = PolynomialTransform(transform.coefficients @ project.T, transform.origin, transform.scale)
    both = np.kron(np.eye(2), project)
    return affine, both @ alignment.covariance @ both.T


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


def _fit_final(frame, first, target, anchor):
    """Quadratic alignment with the reference channel on the grid, where the alignment ``anchor`` has put it."""
    image, valid = frame.filtered(1, frame.flight.registration_widths)
    start = first.transform.renormalized(first.transform.origin, first.transform.scale, degree=2)
    fit = maximize_correlation(
        target[0], image, frame.to_binned(start, 1), mask=target[1], valid=valid, tolerance=_FINE_TOLERANCE
    )
    found = _alignment(first, fit, frame.from_binned(fit.transform, 1), "final", f"channel {anchor.channel}", 1)
    return replace(found, reference_covariance=_carried(anchor, found))


def _carried(anchor, found):
    """What an alignment's errors become in one that was measured against it, as covariance of its coefficients."""
    here, there = (a.transform.jacobian(*a.transform.origin) for a in (found, anchor))
    size = found.transform.coefficients.shape[1]
    lower = anchor.transform.coefficients.shape[1]
    carry = np.kron(here @ np.linalg.inv(there), np.eye(size, lower))
    return carry @ anchor.covariance @ carry.T


def _alignment(start, fit, transform, stage, name, factor):
    failed = not (fit.converged and fit.score >= _MIN_SCORE)
    stretched = not failed and _stretch(transform, start) > _MAX_STRETCH
    reason = fit.reason
    if stretched:
        reason = "shape is far from the pose's"
    elif failed and fit.converged:
        reason = f"score {fit.score:.3f} is too low"
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
        covariance=fit.covariance * factor**2,
        reference_covariance=None,
    )


def _stretch(transform, start):
    """Largest change of length between two maps at the middle of the grid, relative."""
    x, y = start.transform.origin
    change = np.linalg.solve(start.transform.jacobian(x, y), transform.jacobian(x, y))
    return np.abs(np.linalg.svd(change, compute_uv=False) - 1).max()
