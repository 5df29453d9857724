"""The image that was taken nearest to a time."""

import numpy as np

import astropy.units as u


def nearest_in_time(images, times, max_gap=None):
    """
    For each time the index of the first of the nearest images, or None if there is none within ``max_gap``.

    The second result is the number of seconds from each time to its nearest image, positive if the image is later.
    """
    times = times.reshape(-1)
    if not len(images):
        return [None] * len(times), np.zeros(len(times))
    seconds = np.stack([(image - times).to_value(u.s) for image in images])
    indices = np.abs(seconds).argmin(axis=0)
    seconds = seconds[indices, np.arange(len(times))]
    limit = np.inf if max_gap is None else u.Quantity(max_gap).to_value(u.s)
    near = np.abs(seconds) <= limit
    return [index if within else None for index, within in zip(indices.tolist(), near, strict=True)], seconds
