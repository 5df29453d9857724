"""Tables that bring the measures of quality together."""

import numpy as np

import astropy.units as u
from astropy.table import Table

from esis_ndcube.quality._cube import check
from esis_ndcube.quality.correlation import correlation_table
from esis_ndcube.quality.shifts import tile_residual
from esis_ndcube.registration._status import image_status

__all__ = ["summary"]


def summary(cube):
    """
    The quality of every exposure in one table.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure: ``frame_number``, ``time``, mean ``correlation`` of the pairs of channels over the full
        frame and over the field stop, RMS ``residual`` of the tiles in pixels, number of channels ``aligned``,
        and of those whose alignment is ``weak``.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, or no flags.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import summary
    >>> summary(ESISLevel3Cube.read("l3.fits")).pprint()  # doctest: +SKIP
    """
    check(cube, flags=True)
    return summarize(cube, correlation_table(cube), tile_residual(cube))


def summarize(cube, correlations, tiles):
    """
    The table of `summary` from measures that are known already.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        The cube.
    correlations, tiles : `~astropy.table.Table`
        As `~esis_ndcube.quality.correlation_table` and `~esis_ndcube.quality.tile_residual` give them.

    Returns
    -------
    `~astropy.table.Table`
        As `summary`.
    """
    rows = []
    for time, frame_number in enumerate(cube.frame_number):
        of_frame = tiles[tiles["frame_number"] == frame_number] if len(tiles) else tiles
        residual = np.sqrt(np.mean(of_frame["dx"] ** 2 + of_frame["dy"] ** 2)) if len(of_frame) else np.nan
        alignments = () if cube.alignment is None else cube.alignment[time]
        states = [image_status(alignment) for alignment in alignments]
        pairs = correlations[correlations["frame_number"] == frame_number]
        means = [_mean(pairs[name]) for name in ("full", "octagon")]
        rows.append(
            (int(frame_number), cube.time[time].isot, *means, residual, states.count("aligned"), states.count("weak"))
        )
    names = "frame_number", "time", "correlation full", "correlation octagon", "residual", "aligned", "weak"
    table = Table(rows=rows, names=names)
    table["residual"].unit = u.pix
    for name in names[2:5]:
        table[name].info.format = ".4f"
    return table


def _mean(values):
    values = np.asarray(values)[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan
