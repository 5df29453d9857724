"""Polygons in files."""

import tomllib
from pathlib import Path

import tomli_w

import astropy.units as u

from esis_ndcube.corrections.masks.model import PolygonMask
from esis_ndcube.utils.output import write_text

__all__ = ["read_polygons", "write_polygons"]


def write_polygons(polygons, path, *, overwrite=False):
    """
    Write polygons to a file that people can read and edit.

    Parameters
    ----------
    polygons : sequence of `PolygonMask`
        The polygons.
    path : path-like
        TOML file with a table ``[[polygon]]`` for each polygon: ``coordinates`` ("detector" or "sky"), ``vertices``
        (pixels or arcsec), and ``channels`` and ``frames`` if the polygon is not for all of them.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Raises
    ------
    OSError
        If the file cannot be written, or exists.

    Examples
    --------
    >>> from esis_ndcube.corrections.masks import PolygonMask, read_polygons, write_polygons
    >>> path = getfixture("tmp_path") / "scratches.toml"
    >>> write_polygons([PolygonMask([(1100, 400), (1180, 400), (1180, 420)], channels=[1])], path)
    >>> read_polygons(path)[0].channels
    (1,)
    """
    write_text(path, tomli_w.dumps({"polygon": [polygon.to_dict() for polygon in polygons]}), overwrite=overwrite)


def read_polygons(path):
    """
    Read polygons from a file.

    Parameters
    ----------
    path : path-like
        File as `write_polygons` writes it.

    Returns
    -------
    `list` of `PolygonMask`
        The polygons.

    Raises
    ------
    ValueError
        If the file is not such a file; the message names the wrong polygon.

    Examples
    --------
    >>> from esis_ndcube.corrections.masks import read_polygons
    >>> polygons = read_polygons("scratches.toml")  # doctest: +SKIP
    """
    path = Path(path)
    try:
        tables = list(map(dict, tomllib.loads(path.read_text(encoding="utf-8"))["polygon"]))
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        msg = f"{path} is no file of polygons, expected TOML with a table [[polygon]] for each: {error}"
        raise ValueError(msg) from error
    polygons = []
    for number, table in enumerate(tables, start=1):
        try:
            unit = {"detector": u.pix, "sky": u.arcsec}[table.pop("coordinates")]
            vertices, frame_numbers = table.pop("vertices") * unit, table.pop("frames", None)
            polygons.append(PolygonMask(vertices, frame_numbers=frame_numbers, **table))
        except (ValueError, TypeError, KeyError, OverflowError, u.UnitsError) as error:
            msg = (
                f"{path}, polygon {number}: {error!r}; expected coordinates = 'detector' or 'sky', vertices, and "
                "channels and frames as needed"
            )
            raise ValueError(msg) from error
    return polygons
