"""What pictures of cubes have in common: which pixels they show, and on what scale."""

import numpy as np

from astropy.visualization import AsinhStretch, ImageNormalize

COLORMAP = "inferno"
DIVERGING = "RdBu_r"
_PERCENTILES = 0.5, 99.7


def invalid(cube):
    """Pixels that are masked or not finite, of the data's shape."""
    bad = ~np.isfinite(cube.data)
    return bad if cube.mask is None else bad | cube.mask


def flagged(cube, flag):
    """Pixels with a flag, of the data's shape."""
    return np.zeros(cube.data.shape, dtype=bool) if cube.flags is None else cube.flags & flag != 0


def intensity_norm(values):
    """The scale of images of which these are valid values."""
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, _PERCENTILES) if values.size else (0, 1)
    return ImageNormalize(vmin=max(low, 0), vmax=max(high, 1e-6), stretch=AsinhStretch(0.3), clip=False)


def difference_limit(values):
    """Where the scale of differences ends on both sides, of which these are valid values."""
    return max(np.percentile(np.abs(values), _PERCENTILES[1]), 1e-6) if values.size else 1
