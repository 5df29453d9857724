"""Bring all exposures and channels to one brightness."""

import numpy as np

from esis_ndcube.flags import Flag

__all__ = ["clean_means", "normalization_factors"]


def clean_means(data, mask, flags):
    """
    Mean brightness of every image over the region that is clean in all channels.

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
        Shape (time, channel); NaN where a channel has no valid pixels. Such channels do not count for the region.

    Raises
    ------
    ValueError
        If the channels of no exposure have a clean region in common.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.normalize import clean_means
    >>> data = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> clean_means(data, data == 0, np.zeros(data.shape, "u1"))
    array([[2., 6.]])
    """
    means = np.full(data.shape[:2], np.nan)
    for index in range(data.shape[0]):
        bad = np.asarray(mask[index]) | ~np.isfinite(np.asarray(data[index]))
        present = ~bad.all((1, 2))
        if not present.any():
            continue
        clean = ~(bad[present] | (np.asarray(flags[index])[present] & Flag.OVERLAP != 0)).any(0)
        if clean.any():
            means[index, present] = np.asarray(data[index])[present][:, clean].mean(1, dtype=float)
    if not np.isfinite(means).any():
        msg = "the channels have no clean region in common: there is nothing to normalize by"
        raise ValueError(msg)
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
