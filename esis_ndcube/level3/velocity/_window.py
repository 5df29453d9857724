"""One velocity in each window, for large displacements."""

import numpy as np

from esis_ndcube.utils._spline import WHOLE, evaluate, prepare

# Windows are these times as wide as the one that is asked for, one after the other.
_STAGES = (4, 2, 1)
_STEPS = 3
# Images are blurred by so many arcsec (sigma), so that noise has no part in gradients.
_BLUR = 1.2
# Standard deviation of the velocity before any image is seen, in km/s.
_EXPECTED = 30.0


def fit_window(frame, width, pattern=None):
    """
    The scene of a frame and its velocity, each of shape (y, x), and the variance of velocity, which is 0.

    Every channel's image is taken back by the velocity so far; the difference of each from their mean then tells a
    further velocity, by least squares in Gaussian windows of the ``width`` (sigma in arcsec), first in wider ones.
    """
    pattern = frame.displacement if pattern is None else pattern
    rows, columns = np.indices(frame.mean.shape, sparse=True)
    # Gaps count little after the blur.
    blurred = frame.smooth(frame.weights, _BLUR)
    images = frame.smooth(frame.weights * frame.images, _BLUR) / np.where(blurred > 0, blurred, 1)
    valid = (frame.weights > 0).astype(np.float32)
    splines = [prepare(one, 3)._replace(good=good) for one, good in zip(images, valid, strict=True)]
    velocity = np.zeros(frame.mean.shape, dtype=np.float32)
    for stage in _STAGES:
        for _ in range(_STEPS):
            # Pixels with a gap among their neighbors do not count.
            moved = (
                evaluate(one, columns + velocity * dx, rows + velocity * dy, least=WHOLE)
                for one, (dx, dy) in zip(splines, pattern, strict=True)
            )
            seen, covered = (np.stack(parts) for parts in zip(*moved, strict=True))
            seen[~covered] = 0
            weights = np.where(covered, frame.weights.max(axis=(1, 2))[:, None, None], 0)
            total = weights.sum(axis=0)
            total[total == 0] = 1
            mean = (weights * seen).sum(axis=0) / total
            y, x = np.gradient(mean)
            slopes = np.stack([dx * x + dy * y for dx, dy in pattern])
            slopes = slopes - (weights * slopes).sum(axis=0) / total
            known = (weights * slopes**2).sum(axis=0)
            step = -(weights * slopes * (seen - mean)).sum(axis=0)
            prior = 1 / (_EXPECTED**2 * 2 * np.pi * (stage * width) ** 2 / np.prod(frame.scale))
            near = frame.smooth(known, stage * width) + prior
            velocity = velocity + (frame.smooth(step, stage * width) - prior * velocity) / near
    scene = np.where((weights > 0).any(axis=0), mean, frame.mean)
    return np.maximum(scene, 1e-3 * scene.mean()), velocity, np.zeros_like(velocity)
