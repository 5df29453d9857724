"""Bring all exposures and channels to one brightness."""

import numpy as np

from sunpy.util.exceptions import warn_user

from esis_ndcube.flags import Flag

__all__ = ["clean_means", "normalization_factors"]


def clean_means(data, mask, flags):
    """
    Mean brightness of every image over the region that is clean in all of them.

    Parameters
    ----------
    data : `numpy.ndarray`
        Shape (time, channel, y, x).
    mask : `numpy.ndarray`
        True where invalid, of that shape.
    flags : `numpy.ndarray`
        Bits of `~esis_ndcube.flags.Flag`, of that shape.

    Returns
    -------
    `numpy.ndarray`
        Shape (time, channel); NaN for an image without valid pixels, which does not count for the region.

    Raises
    ------
    ValueError
        If the images have no valid region in common.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        If overlapping lines leave no clean region, so that the valid one is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.normalize import clean_means
    >>> data = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> clean_means(data, data == 0, np.zeros(data.shape, "u1"))
    array([[2., 6.]])
    """
    # One region for all exposures, or else those that lack a channel would be measured on another part of the Sun.
    valid = np.ones(data.shape[-2:], dtype=bool)
    clean = valid.copy()
    present = np.zeros(data.shape[:2], dtype=bool)
    for index in np.ndindex(present.shape):
        good = ~np.asarray(mask[index]) & np.isfinite(np.asarray(data[index]))
        present[index] = good.any()
        if present[index]:
            valid &= good
            clean &= good & (np.asarray(flags[index]) & Flag.OVERLAP == 0)
    if not (present.any() and valid.any()):
        msg = "the images have no valid region in common: there is nothing to normalize by (normalize=False leaves it)"
        raise ValueError(msg)
    if not clean.any():
        warn_user(
            "another line overlaps all of the region that the images have in common: they are normalized with its "
            "light among them"
        )
        clean = valid
    means = np.full(present.shape, np.nan)
    for index in np.argwhere(present):
        means[tuple(index)] = np.asarray(data[tuple(index)])[clean].mean(dtype=float)
    return means


def normalization_factors(means):
    """
    Factors that bring all images to the brightest exposure of the brightest channel.

    Parameters
    ----------
    means : `numpy.ndarray`
        Shape (time, channel), as `clean_means` gives them.

    Returns
    -------
    `numpy.ndarray`
        What to multiply each image by (Parker et al. 2022), of that shape; NaN where the mean is NaN, or not positive.

    Raises
    ------
    ValueError
        If no mean is positive.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.normalize import normalization_factors
    >>> normalization_factors(np.array([[1.0, 2.0], [4.0, np.nan]]))
    array([[ 4.,  2.],
           [ 1., nan]])
    """
    means = np.where(np.asarray(means) > 0, means, np.nan)
    if not np.isfinite(means).any():
        msg = "no image has a positive mean brightness: there is nothing to normalize by"
        raise ValueError(msg)
    return np.nanmax(means) / means
