"""Alignments as a table, and back."""

import math

import numpy as np

import astropy.units as u
from astropy.table import Table
from astropy.time import Time

from esis_ndcube.registration._errors import Misfit
from esis_ndcube.registration.alignment import COVARIANCES, Alignment, grid_from_header, grid_header
from esis_ndcube.registration.transform import TERMS, PolynomialTransform

__all__ = ["alignments_from_table", "alignments_to_table"]

_SCALARS = {
    "channel": "i4",
    "frame_number": "i4",
    "line": str,
    "stage": str,
    "reference": str,
    "score": "f8",
    "iterations": "i4",
    "n_pixels": "i4",
    "converged": bool,
    "reason": str,
    "condition": "f8",
}
_MISFIT = {"degree": "i4", "statistic": "f8", "probability": "f8", "size": "f8"}
_NO_MISFIT = Misfit(-1, np.nan, np.nan, np.nan)
_TIME = "jd1", "jd2", "scale", "format"
# Limit, which is more images than any flight has.
_MOST = 10**6


def alignments_to_table(alignments):
    """
    Write alignments as a table.

    Parameters
    ----------
    alignments : array-like of `~esis_ndcube.Alignment` or `None`
        Shape (time, channel).

    Returns
    -------
    `~astropy.table.Table`
        A row per alignment; the grids' header and the array's shape are in its ``meta``.

    Raises
    ------
    ValueError
        If the alignments are on different grids.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration import Alignment, alignments_from_table, alignments_to_table
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> alignments_from_table(alignments_to_table([[alignment, None]]))
    array([[<Alignment pose of channel 1, frame 124, O V>, None]], dtype=object)
    """
    array = np.empty(np.shape(alignments)[:2] if np.ndim(alignments) else (), dtype=object)
    array[...] = alignments
    table = Table()
    table.meta["SHAPE"] = " ".join(map(str, array.shape))
    items = [(index, item) for index, item in np.ndenumerate(array) if item is not None]
    if not items:
        return table
    # Nearly always all alignments have the same grid, whose header takes a while to write.
    grids = {id(item.grid): item.grid for _, item in items}
    headers = {grid_header(grid) for grid in grids.values()}
    shapes = {item.shape for _, item in items}
    if len(headers) > 1 or len(shapes) > 1:
        msg = f"got alignments on {len(headers)} grids and {len(shapes)} detector shapes, expected one of each"
        raise ValueError(msg)
    table.meta["GRID"] = headers.pop()
    table.meta["DETSHAPE"] = " ".join(map(str, shapes.pop()))
    index = np.array([index for index, _ in items]).reshape(len(items), -1)
    table["index"] = index
    for name, kind in _SCALARS.items():
        table[name] = np.array([getattr(item, name) for _, item in items], dtype=kind)
    # These columns are for readers of the file; they follow from the others.
    table["status"] = [item.status for _, item in items]
    table["error"] = [item.error.to_value(u.arcsec) for _, item in items]
    table["error"].unit = u.arcsec
    if any(item.misfit for _, item in items):
        misfits = [item.misfit or _NO_MISFIT for _, item in items]
        for name, kind in _MISFIT.items():
            table[f"misfit_{name}"] = np.array([getattr(misfit, name) for misfit in misfits], dtype=kind)
    for name in _TIME:
        table[name] = [getattr(item.time, name) for _, item in items]
    size = max(item.transform.coefficients.shape[1] for _, item in items)
    table["degree"] = [item.transform.degree for _, item in items]
    table["origin"] = np.array([item.transform.origin for _, item in items])
    table["length"] = [item.transform.scale for _, item in items]
    coefficients = np.full((len(items), 2, size), np.nan)
    covariances = {name: np.full((len(items), 2 * size, 2 * size), np.nan) for name in COVARIANCES}
    for row, (_, item) in enumerate(items):
        n = item.transform.coefficients.shape[1]
        coefficients[row, :, :n] = item.transform.coefficients
        for name, array in covariances.items():
            if getattr(item, name) is not None:
                array[row, : 2 * n, : 2 * n] = getattr(item, name)
    table["coefficients"] = coefficients
    for name, array in covariances.items():
        table[name] = array
    return table


def swap_columns(table):
    """Give columns of alignments the names that they have in files, or the names in Python; in place."""
    for old, new in (("frame_number", "frame"), ("frame", "frame_number")):
        if old in table.colnames:
            table.rename_column(old, new)
            break
    return table


def alignments_from_table(table):
    """
    Read alignments from a table.

    Parameters
    ----------
    table : `~astropy.table.Table`
        A table that `alignments_to_table` wrote.

    Returns
    -------
    `numpy.ndarray`
        Objects `~esis_ndcube.Alignment` or `None`, of the shape that was written.

    Raises
    ------
    ValueError
        If the table lacks a necessary column, or is for more than a million images.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration import Alignment, alignments_from_table, alignments_to_table
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> alignments_from_table(alignments_to_table([[alignment], [None]])).shape
    (2, 1)
    """
    try:
        shape = tuple(int(n) for n in str(table.meta["SHAPE"]).split())
        if math.prod(shape) > _MOST:
            msg = f"got alignments of shape {shape}, expected {_MOST} at most"
            raise ValueError(msg)
        result = np.empty(shape, dtype=object)
        if not len(table):
            return result
        grid = grid_from_header(table.meta["GRID"])
        detector = tuple(int(n) for n in str(table.meta["DETSHAPE"]).split())
        for row in table:
            n = TERMS[int(row["degree"])]
            scalars = {
                name: str(row[name]) if kind is str else np.dtype(kind).type(row[name]).item()
                for name, kind in _SCALARS.items()
            }
            reference = row["reference_covariance"][: 2 * n, : 2 * n]
            time = Time(row["jd1"], row["jd2"], format="jd", scale=str(row["scale"]))
            time.format = str(row["format"])
            result[tuple(row["index"])] = Alignment(
                transform=PolynomialTransform(row["coefficients"][:, :n], row["origin"], row["length"]),
                grid=grid,
                time=time,
                shape=detector,
                covariance=row["covariance"][: 2 * n, : 2 * n],
                reference_covariance=None if np.isnan(reference).all() else reference,
                misfit=_misfit(row),
                **scalars,
            )
    except (KeyError, IndexError) as error:
        msg = f"not a table of alignments: {error!r} is missing or wrong"
        raise ValueError(msg) from error
    return result


def _misfit(row):
    # Only tables with tested maps have such columns.
    if "misfit_degree" not in row.colnames or row["misfit_degree"] == _NO_MISFIT.degree:
        return None
    return Misfit(**{name: np.dtype(kind).type(row[f"misfit_{name}"]).item() for name, kind in _MISFIT.items()})
