"""How much of the Sun's light arrives in every exposure."""

import numpy as np

import astropy.units as u

from esis_ndcube.corrections.normalize import masked_means

__all__ = ["throughput"]


def throughput(cube, *, region=None):
    """
    Brightness of every image relative to the brightest exposure of its channel.

    While a rocket rises and falls, the atmosphere above it absorbs the missing light.
    For a normalized cube the brightness before the normalization is taken, by the factors that the cube keeps.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    region : `numpy.ndarray` of `bool`, optional
        True where to measure, shape (y, x), as for `~esis_ndcube.corrections.normalize.masked_means`.

    Returns
    -------
    `~astropy.table.QTable`
        A row per image: ``frame_number``, ``time``, ``channel``, ``throughput`` and ``error``. The error is from photon
        and read noise of both exposures, and is 0 for the brightest one. Values are NaN as in
        `~esis_ndcube.corrections.normalize.masked_means`.

    Raises
    ------
    ValueError
        As `~esis_ndcube.corrections.normalize.masked_means`.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import throughput
    >>> curve = throughput(ESISLevel3Cube.read("l3.fits"))  # doctest: +SKIP
    >>> curve["throughput"][curve["channel"] == 2].min()  # doctest: +SKIP
    """
    table = masked_means(cube, region=region)
    shape = cube.data.shape[:2]
    means, errors = (table.columns[name].value.reshape(shape) for name in ("mean", "error"))
    if cube.normalization is not None:
        means, errors = means / cube.normalization, errors / cube.normalization
    means = np.where(means > 0, means, np.nan)
    # nanmax would warn of channels without any image.
    best = np.where(np.isfinite(means), means, -np.inf).argmax(axis=0)[None]
    relative = errors / means
    value = means / np.take_along_axis(means, best, axis=0)
    error = value * np.hypot(relative, np.take_along_axis(relative, best, axis=0))
    known = np.isfinite(np.take_along_axis(relative, best, axis=0))
    np.put_along_axis(error, best, np.where(known, 0, np.nan), axis=0)
    result = table["frame_number", "time", "channel"]
    result["throughput"] = value.ravel() * u.one
    result["error"] = error.ravel() * u.one
    for name in ("throughput", "error"):
        result[name].info.format = ".4f"
    return result
