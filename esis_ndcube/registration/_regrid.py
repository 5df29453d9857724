"""Images of other telescopes on the grid, by positions that are found on few of its pixels."""

import numpy as np
from scipy.interpolate import RectBivariateSpline

from astropy.wcs.utils import pixel_to_pixel

from esis_ndcube._spline import evaluate, prepare

# Pixels between positions that are computed; between two celestial images they bend by nothing over that distance.
_STEP = 16
# Pixels around those that are needed, for the reach of a spline.
_MARGIN = 16


def regrid(data, wcs, grid, shape, *, bicubic=False):
    """
    Resample an image on a grid.

    Parameters
    ----------
    data : `numpy.ndarray`
        The image, NaN where there is none.
    wcs, grid : `~astropy.wcs.WCS`
        Celestial WCS of the image and of the grid, which may have different observers.
    shape : `tuple` of `int`
        Rows and columns of the grid.
    bicubic : `bool`
        Whether to interpolate by a cubic spline, if the image is finite wherever it is needed; by default bilinear.

    Returns
    -------
    `numpy.ndarray`
        The image on the grid, NaN where there is none, and where half of the pixels that it would be made from have
        none.
    """
    u, v = _positions(wcs, grid, shape)
    columns, rows = (_reach(part, length) for part, length in zip((u, v), data.shape[::-1], strict=True))
    part = np.asarray(data[rows, columns], dtype=float)
    if not part.size:
        return np.full(shape, np.nan)
    order = 3 if bicubic and np.isfinite(part).all() else 1
    return evaluate(prepare(part, order), u - columns.start, v - rows.start)[0]


def _positions(wcs, grid, shape):
    """Pixels of the image of all pixels of the grid; NaN where there is none."""
    y, x = (np.unique(np.append(np.arange(0, length, _STEP), length - 1)) for length in shape)
    few = pixel_to_pixel(grid, wcs, *np.meshgrid(x.astype(float), y.astype(float)))
    if not np.isfinite(few).all() or min(x.size, y.size) < 4:
        y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
        return pixel_to_pixel(grid, wcs, x, y)
    return tuple(RectBivariateSpline(y, x, part, s=0)(*map(np.arange, shape)) for part in few)


def _reach(position, length):
    """The pixels of an image that are needed."""
    position = position[np.isfinite(position)]
    if not position.size:
        return slice(0, 0)
    first, last = np.clip((position.min() - _MARGIN, position.max() + _MARGIN + 1), 0, length)
    return slice(int(first), int(last))
