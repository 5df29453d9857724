"""Trends in the differences of channels, in the unit of the data."""

import itertools

import numpy as np

from astropy.table import Table

from esis_ndcube.corrections.normalize import image_means, normalization_factors
from esis_ndcube.corrections.vignetting._difference_slopes import slope_weights, window_columns
from esis_ndcube.corrections.vignetting._images import check, clean_pixels

__all__ = ["masked_difference_trend"]


def masked_difference_trend(cube):
    """
    Trends of the masked differences of the channels.

    The images are normalized if they are not normalized yet. They are compared where two channels are clean.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure and pair of channels: ``frame_number``, ``first``, ``second``; ``mean``, the mean difference,
        first minus second; ``trend``, the rise of the straight line through the column means from the middle of the
        flight's window to its edge (Parker et al. 2022, figure on the vignetting correction); and ``tilt``, the RMS of
        the plane through all clean pixels about its mean. NaN if a channel is missing.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, at least two channels and flags.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.corrections.vignetting import masked_difference_trend
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> masked_difference_trend(cube.correct_vignetting())["trend"].max()  # doctest: +SKIP
    """
    check(cube)
    factors = np.ones(cube.data.shape[:2])
    if cube.normalization is None:
        factors = normalization_factors(image_means(cube.data, cube.mask, cube.flags)[0])
    columns = window_columns(cube)
    rows = []
    for time, frame_number in enumerate(np.atleast_1d(cube.frame_number)):
        images = [np.asarray(image, dtype=float) * f for image, f in zip(cube.data[time], factors[time], strict=True)]
        masks = [clean_pixels(cube, time, c) for c in range(len(images))]
        for a, b in itertools.combinations(range(len(images)), 2):
            mask = masks[a] & masks[b] & np.isfinite(factors[time, a] * factors[time, b])
            values = _measure(np.where(mask, images[a] - images[b], 0), mask, columns)
            rows.append((int(frame_number), int(cube.channel[a]), int(cube.channel[b]), *values))
    table = Table(rows=rows, names=("frame_number", "first", "second", "mean", "trend", "tilt"))
    for name in ("mean", "trend", "tilt"):
        table[name].unit = cube.unit
        table[name].info.format = ".3f"
    return table


def _measure(difference, mask, columns):
    """Mean, trend and tilt of a difference that is 0 where it is masked."""
    counts = mask[:, columns].sum(axis=0)
    if (counts > 0).sum() < 2:
        return np.nan, np.nan, np.nan
    trend = np.sum(difference[:, columns].sum(axis=0) * slope_weights(counts))
    y, x = np.nonzero(mask)
    values = difference[mask]
    terms = np.stack([x - x.mean(), y - y.mean()])
    moments = terms @ terms.T
    gradient = np.linalg.solve(moments, terms @ values)
    return values.mean(), trend, np.sqrt(gradient @ moments @ gradient / len(values))
