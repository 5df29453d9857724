"""How much the pixels of a camera scatter in truth, compared with the stated uncertainty."""

import dask
import numpy as np
from scipy import ndimage, special

import astropy.units as u
from astropy.table import QTable

from esis_ndcube.flags import Flag
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_axes, check_cube
from esis_ndcube.utils.noise import bin_variance
from esis_ndcube.utils.uncertainty import standard_deviation

__all__ = ["noise_table"]

# Photons dominate the scatter of pixels whose stated variance is this many times that of an unlit pixel.
_LIT = 2.5
# Part of the blocks that counts; the rest may be particle hits and flares.
_KEPT = 0.998
# A block counts if this part of it is good.
_FULL = 0.95
# Levels of brightness that the slope is fitted to.
_LEVELS = 12
# Pixels over which gradients are smoothed.
_SMOOTH = 2


def noise_table(cube, *, boxes=(1, 2, 4, 8, 16), orders=(3, 5), quiet=0.7):
    r"""
    Compare the scatter of images with their stated uncertainty.

    The Sun that the frames see drifts by parts of a pixel from frame to frame. A difference of order n of n + 1 frames,

    .. math:: D = \sum_i c_i f_i, \qquad c_i \propto \prod_{j \ne i} \frac{1}{t_i - t_j}, \qquad \sum_i c_i^2 = 1,

    takes out every change that is a polynomial of degree n - 1 in time, also where the frames are not evenly spaced,
    and has the variance of one frame. The variance of its sums over boxes of pixels is compared with that which the
    uncertainty and ``noise_correlation`` of the cube state: the ratio is 1 for all boxes if the statement holds.
    Without a ``noise_correlation``, pixels are taken as independent; if they are not, the ratio rises with the size of
    the box.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel1Cube` or `~esis_ndcube.ESISLevel3Cube`
        Images with uncertainty, shape (time, channel, y, x), with at least one exposure more than the highest order.
        Flagged pixels do not count.
    boxes : sequence of `int`, optional
        Sides of the boxes in pixels.
    orders : sequence of `int`, optional
        Orders of the differences; if the ratios of two orders agree, the drift is gone.
    quiet : `float`, optional
        Part of the lit pixels to measure, the faintest ones; and the same part of these pixels, those with the
        smallest gradients. There the Sun's own changes are smallest in comparison with the noise.

    Returns
    -------
    `~astropy.table.QTable`
        A row per channel, order and box: ``channel``, ``order``, ``box``, ``ratio`` (measured over stated variance),
        ``error`` (of the ratio, by the scatter of the boxes), ``slope`` (of variance per pixel against mean, in the
        unit of the data), ``intercept`` (its square) and ``count`` of boxes. NaN where fewer than two boxes are lit
        and good.

    Raises
    ------
    TypeError
        If the argument is not a cube.
    ValueError
        If it has other axes, no uncertainty or fewer exposures, if exposures have equal times, or if a box or
        ``quiet`` is out of range.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube
    >>> from esis_ndcube.quality import noise_table
    >>> level1 = ESISLevel1Cube.from_raw("frames", frame_numbers=range(118, 128), lazy=True)  # doctest: +SKIP
    >>> noise_table(level1, boxes=(1, 8), orders=[3])["ratio"].round(2)[:2]  # doctest: +SKIP
    <Quantity [0.34, 0.69]>
    """
    check_cube(cube, 1, 3)
    check_axes(cube)
    weights = {int(order): _weights(cube, order) for order in orders}
    boxes = [int(box) for box in boxes]
    largest = min(cube.data.shape[2:])
    if not boxes or not all(1 <= box <= largest for box in boxes):
        msg = f"got boxes {boxes}, expected sides of 1 to {largest} pixels"
        raise ValueError(msg)
    if not 0 < quiet <= 1:
        msg = f"got quiet={quiet}, expected more than 0 and at most 1"
        raise ValueError(msg)
    sigma = standard_deviation(cube, cube.unit)
    if sigma is None:
        msg = "got frames without uncertainty, expected frames with it, to compare the scatter with"
        raise ValueError(msg)
    shared = [np.ones((1, 1))] * cube.shape[1] if cube.noise_correlation is None else cube.noise_correlation
    rows = [
        (int(number), *row)
        for index, number in enumerate(cube.channel)
        for row in _measure(cube, sigma, index, shared[index], weights, boxes, quiet)
    ]
    table = QTable(rows=rows, names=("channel", "order", "box", "ratio", "error", "slope", "intercept", "count"))
    unit = u.dimensionless_unscaled if cube.unit is None else cube.unit
    table["slope"] <<= unit
    table["intercept"] <<= unit**2
    for name in ("ratio", "error", "slope", "intercept"):
        table[name].info.format = ".3f"
    return table


def _weights(cube, order):
    """First exposure of each difference, and the weights of its exposures."""
    count = cube.data.shape[0]
    if order != int(order) or order < 1 or count < order + 1:
        msg = f"got order {order} and {count} exposures, expected an order of at least 1 and one exposure more than it"
        raise ValueError(msg)
    order = int(order)
    seconds = (cube.time - cube.time[0]).to_value("s")
    if len(np.unique(seconds)) < count:
        msg = "got exposures at the same time, expected times that differ"
        raise ValueError(msg)
    found = []
    for first in range(count - order):
        part = seconds[first : first + order + 1]
        apart = np.subtract.outer(part, part) + np.eye(order + 1)
        weights = 1 / np.prod(apart / np.ptp(part), axis=1)
        found.append((first, weights / np.sqrt(np.sum(weights**2))))
    return found


def _measure(cube, sigma, channel, correlation, weights, boxes, quiet):
    """Rows of the table for one channel, without its number."""
    part = slice(None), channel
    bad = invalid_pixels(cube.data, cube.mask, part)
    if cube.flags is not None:
        # The light of other lines has the same noise.
        bad |= (cube.flags[part] & ~np.uint16(Flag.OVERLAP | Flag.OVERLAP_FAINT)) != 0
    # They are read together, because they may be made together.
    frames, variances, bad = dask.compute(cube.data[part].astype(float), sigma[part].astype(float) ** 2, bad)
    bad = (bad | ~np.isfinite(variances)).any(axis=0)
    frames[:, bad], variances[:, bad] = 0, 0
    mean, stated = frames.mean(axis=0), variances.mean(axis=0)
    lit = ~bad
    if lit.any() and cube._level == 1:
        # There is only read noise beyond the field stop.
        lit &= stated > _LIT * np.percentile(stated[lit], 1)
    if lit.any():
        # The Sun's own changes grow with the square of the brightness, and noise with the brightness.
        smooth = _smooth(mean, lit)
        lit &= smooth <= np.quantile(smooth[lit], quiet)
        # The gradients are relative to the noise, so that dark and bright areas count alike.
        steep = ndimage.gaussian_gradient_magnitude(mean, _SMOOTH) / np.sqrt(np.where(lit, stated, 1))
        lit &= steep <= np.quantile(steep[lit], quiet)
    rows, mean = [], np.where(lit, mean, 0)
    for order, found in weights.items():
        parts = [(c, slice(first, first + order + 1)) for first, c in found]
        differences = [
            (
                np.where(lit, np.tensordot(c, frames[s], 1), 0),
                np.sqrt(np.where(lit, np.tensordot(c**2, variances[s], 1), 0)),
            )
            for c, s in parts
        ]
        rows += [(order, box, *_compare(differences, mean, lit, correlation, box)) for box in boxes]
    return rows


def _smooth(image, good):
    """Mean of the good pixels around each pixel."""
    weight = ndimage.gaussian_filter(good.astype(float), _SMOOTH)
    return ndimage.gaussian_filter(np.where(good, image, 0), _SMOOTH) / np.maximum(weight, 1e-6)


def _compare(differences, mean, lit, correlation, box):
    """Ratio, its error, slope, intercept and count of boxes of one size; images are 0 where not lit."""
    count = _sums(lit, box)
    full = count >= _FULL * box**2
    size = int(full.sum())
    if size < 2:
        return np.nan, np.nan, np.nan, np.nan, size
    count, level = count[full], _sums(mean, box)[full] / count[full]
    squares = np.array([_sums(part, box)[full] for part, _ in differences]) ** 2
    whole = [slice(n // box * box) for n in lit.shape]
    stated = np.array([bin_variance(sigma[*whole], correlation, (box, box))[full] for _, sigma in differences])
    ratios = squares / stated
    kept = ratios <= np.quantile(ratios, _KEPT)
    ratios, number = np.where(kept, ratios, 0) / _share(), kept.sum(axis=0)
    # Differences that overlap share frames: only the places are independent.
    places = ratios.sum(axis=0)[number > 0] / number[number > 0]
    error = places.std() / np.sqrt(len(places))
    slope, intercept = _line(np.broadcast_to(level, kept.shape)[kept], (squares / count / _share())[kept])
    return float(np.mean(ratios[kept])), float(error), slope, intercept, size


def _sums(image, box):
    """Sums over boxes that do not overlap."""
    rows, columns = (n // box for n in image.shape)
    image = image[: rows * box, : columns * box].reshape(rows, box, columns, box)
    return image.sum(axis=(1, 3), dtype=float)


def _share():
    """Mean of the squares of a Gaussian that are kept, relative to the mean of all squares."""
    return special.chdtr(3, special.chdtri(1, 1 - _KEPT)) / _KEPT


def _line(level, variance):
    """Slope and intercept of the variance against the mean, in levels with equal numbers of boxes."""
    edges = np.unique(np.quantile(level, np.linspace(0, 1, _LEVELS + 1)))
    if len(edges) < 3:
        return np.nan, np.nan
    place = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, len(edges) - 2)
    number = np.bincount(place, minlength=len(edges) - 1)
    there = number > 0
    x, y = (np.bincount(place, v, minlength=len(edges) - 1)[there] / number[there] for v in (level, variance))
    # The error of a variance grows with the variance.
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(number[there]) / y)
    return float(slope), float(intercept)
