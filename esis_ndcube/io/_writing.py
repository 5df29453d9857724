"""From a cube to the HDUs of its file."""

import json

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.table import Table
from ndcube.meta import NDMeta

from esis_ndcube.io._cards import add_cards, add_file_cards
from esis_ndcube.io._layout import ALIGNMENTS, COLUMNS, LAYOUT, OBSERVER, TABLES, kinds_of, swap_name
from esis_ndcube.io._planes import stored_type
from esis_ndcube.io._values import encode, encode_named, exact_jd, hdu_from_table, pack_alignments, unit_text
from esis_ndcube.wcs import ESISWCS, SlicedESISWCS
from esis_ndcube.wcs._axes import TABLES as WCS_TABLES
from esis_ndcube.wcs._coordinates import added_coordinates


def cube_hdus(cube, filename):
    """All parts of a cube except the values of its arrays, as an `~astropy.io.fits.HDUList`."""
    if isinstance(cube.wcs, SlicedESISWCS):
        msg = (
            f"got a cube with a {type(cube.wcs).__name__}, which FITS cannot express: "
            f"keep a range of one row or column, for example cube[..., 10:11, :]"
        )
        raise ValueError(msg)
    check_parts(cube, cube.wcs)
    rows, columns, tables = _meta_rows(cube)
    header = cube.wcs.to_header(relax=True)
    add_cards(header, cube)
    add_file_cards(header, filename)
    if cube.unit is None:
        header["HASUNIT"] = (False, "whether the cube has a unit")
    headers = {
        "DATA": header,
        "UNCERT": _uncertainty_header(cube.uncertainty),
        "MASK": fits.Header([("ESISDIM", np.ndim(cube.mask), "0: one value for all pixels")]),
    }
    images = [_image(name, array, headers.get(name)) for name, array in cube_arrays(cube).items()]
    hdus = [_primary(cube, header), *images, *cube.wcs.table_hdus()]
    tables["EXPOSURE"] = _exposure_table(cube, columns)
    # Text of any length goes to this table: astropy loses parts of long cards.
    notes = {name: dict(table.meta) for name, table in tables.items() if table.meta}
    notes["DATA"] = {"dropped": cube.wcs._dropped, "axes": isinstance(cube.meta, NDMeta)}
    if cube.data.dtype == bool:
        notes["DATA"]["bool"] = True
    rows += [(name, "note", json.dumps(encode(note)), "[]", "") for name, note in notes.items()]
    names = ("KEY", "KIND", "VALUE", "AXES", "COMMENT")
    tables["META"] = Table({name: [row[i] for row in rows] for i, name in enumerate(names)}, dtype=[str] * 5)
    hdus += [hdu_from_table(table, name) for name, table in tables.items()]
    hdus[0].header["NEXTEND"] = (len(hdus) - 1, "number of extensions")
    return fits.HDUList(hdus)


def check_parts(cube, wcs):
    """Refuse parts that no file holds: extra coordinates, a PSF, and a WCS that would not be read again unchanged."""
    if not cube.extra_coords.is_empty or cube.psf is not None:
        msg = "got a cube with extra_coords or psf, which the file cannot hold: remove them first"
        raise TypeError(msg)
    if not isinstance(wcs, ESISWCS):
        msg = (
            f"got a cube with a {type(wcs).__name__}, expected one with an ESISWCS: make it with level3_wcs or "
            "level1_wcs, or of a FITS WCS with ESISWCS(wcs.to_header(relax=True))"
        )
        raise ValueError(msg)
    tables = (wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2)
    problem = {
        f"the key {wcs.wcs.alt!r}": wcs.wcs.alt != " ",
        "preserve_units=True": getattr(wcs, "preserve_units", False),
        "tables of distortion": any(table is not None for table in tables),
        "tables other than those of time and channel": any(
            ctype.endswith("-TAB") and ctype not in WCS_TABLES for ctype in wcs.wcs.ctype
        ),
    }
    if found := [what for what, there in problem.items() if there]:
        msg = (
            f"got a cube whose WCS has {' and '.join(found)}, which the file cannot hold: "
            "give it a WCS in degrees and without these, for example from level3_wcs"
        )
        raise ValueError(msg)


def cube_arrays(cube):
    """The arrays of a cube by the names of their HDUs."""
    mask = cube.mask if np.ndim(cube.mask) or cube.mask is None else [cube.mask]
    if mask is not None:
        # Any value can stand for true; a list has no type.
        mask = (mask if hasattr(mask, "astype") else np.array(mask)).astype(bool, copy=False)
    arrays = {
        "DATA": cube.data,
        "UNCERT": getattr(cube.uncertainty, "array", None),
        "MASK": mask,
        "FLAGS": cube.flags,
    }
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if "UNCERT" in arrays and np.shape(arrays["UNCERT"]) != cube.data.shape:
        msg = f"got one uncertainty for all pixels, {arrays['UNCERT']}, expected an array of shape {cube.data.shape}"
        raise TypeError(msg)
    return arrays


def cube_size(cube):
    """Size in bytes of the arrays of a cube, in memory or lazy."""
    arrays = cube.data, getattr(cube.uncertainty, "array", None), cube.mask, cube.flags
    return sum(getattr(array, "nbytes", 0) for array in arrays)


class ImageHDU(fits.ImageHDU):
    """An image whose data are in the file already, as the `Plane` in its attribute ``plane``."""

    plane = None

    def _calculate_datasum(self):
        # astropy's method needs all of the data in memory.
        total = 0
        for block in () if self.plane is None else self.plane.blocks():
            total = self._compute_checksum(block, total)
        return total


def _image(name, array, header=None):
    """The HDU of an array, with nothing but its shape and type: the values are written by themselves."""
    dtype = stored_type(array.dtype, name)
    dtype = np.uint8 if dtype.kind == "b" else dtype
    return ImageHDU(np.broadcast_to(np.zeros((), dtype), array.shape), header=header, name=name)


def _uncertainty_header(uncertainty):
    if uncertainty is None:
        return None
    header = fits.Header([("UNCERTYP", uncertainty.uncertainty_type, "kind of uncertainty")])
    if uncertainty.unit is not None:
        header["BUNIT"] = unit_text(uncertainty.unit)
    return header


def _primary(cube, data):
    header = fits.Header()
    header["ESISFITS"] = (LAYOUT, "layout of this file")
    header["CUBETYPE"] = (type(cube).__name__, "class of the cube")
    for key in ("FILENAME", "DATE"):
        header.append(data.cards[key])
    wcs = cube.wcs.to_header(relax=True)
    for card in wcs.cards:
        if card.keyword.startswith(("DATE-", "DATEREF", "TIMESYS", "XPOSURE")):
            header.append(card)
    add_cards(header, cube)
    return fits.PrimaryHDU(header=header)


def _meta_rows(cube):
    """The metadata: rows of META, the columns for EXPOSURE and further tables."""
    rows, columns, tables = [], {}, {}
    names = cube.wcs.array_axis_names
    meta = cube.meta if cube.meta is not None else {}
    axes = dict(getattr(meta, "axes", {}))
    comments = dict(getattr(meta, "key_comments", {}))
    for key, value, kind in kinds_of(meta):
        of = [names[axis] for axis in axes.get(key, ())]
        text = None
        if kind == "flight":
            tables["FLIGHT"] = Table({"TOML": np.array(value.toml.split("\n"), dtype=str)})
        elif kind == "history":
            text = len(value)
            if value:
                tables["PROCESSING"] = Table({"STEP": [step.to_json() for step in value]})
        elif kind == "alignment":
            text, tables[ALIGNMENTS[key]] = pack_alignments(value)
        elif kind in TABLES:
            tables[kind.upper()] = value.to_table()
        elif key in COLUMNS and set(of) <= {"time", "channel"} and _is_column(value, len(of)):
            kind = "column"
            text = columns[key] = _column_form(value, of)
        else:
            kind, text = "json", encode_named(value, f"metadata {key!r}")
        numbers = [int(axis) for axis in axes.get(key, ())]
        rows.append((swap_name(key), kind, json.dumps(text), json.dumps(numbers), comments.get(key, "")))
    for key, (physical_type, coord) in added_coordinates(cube).items():
        text = encode_named((physical_type, coord), f"global coordinate {key!r}")
        rows.append((key, "global", json.dumps(text), "[]", ""))
    return rows, columns, tables


def _is_column(value, ndim):
    """Whether a FITS table holds values with this number of axes without loss; others are kept as text."""
    if isinstance(value, (list, tuple, dict)):
        return False
    unit, array = getattr(value, "unit", None), np.asarray(getattr(value, "jd1", value))
    if unit is not None:
        try:
            unit.to_string("fits")
        except ValueError:
            return False
    if array.ndim != ndim or isinstance(value, np.ma.MaskedArray):
        return False
    # int8 would become a logical column.
    return array.dtype.kind in "biufcU" and array.dtype.char not in "bgG"


def _column_form(value, of):
    form = {"axes": of, "dtype": np.asarray(getattr(value, "value", value)).dtype.str}
    if isinstance(value, u.Quantity):
        form["unit"] = unit_text(value.unit)
    elif hasattr(value, "jd1"):
        form |= {"scale": value.scale, "format": value.format, "precision": value.precision}
    form["array"] = isinstance(value, np.ndarray) or hasattr(value, "jd1")
    return form


def _exposure_table(cube, columns):
    """One row for each exposure and channel."""
    wcs = cube.wcs
    channels = np.array([0]) if wcs._channels is None else wcs._channels
    exposures = wcs._exposures
    shape = 1 if exposures is None else exposures.seconds.size, channels.size
    table = Table()
    table["TIME_INDEX"], table["CHANNEL_INDEX"] = (index.ravel() for index in np.indices(shape))
    table["CHANNEL"] = np.broadcast_to(channels, shape).ravel()
    if exposures is not None:
        values = {"SECONDS": exposures.seconds, "DURATION": exposures.duration}
        if exposures.observer is not None:
            values |= dict(zip(OBSERVER, exposures.observer.T, strict=True))
        for name, column in values.items():
            if column is not None:
                table[name] = np.repeat(column, channels.size)
    for key, form in columns.items():
        value = cube.meta[key]
        sizes = [n if axis in form["axes"] else 1 for axis, n in zip(("time", "channel"), shape, strict=True)]
        parts = exact_jd(value) if key == "mid_time" else (getattr(value, "value", value),)
        parts = dict(zip(COLUMNS[key], parts, strict=True))
        if key == "mid_time":
            # For people; the exact time is in the other two columns.
            parts["DATE_AVG"] = np.ma.filled(np.ma.asarray(value.utc.isot), "").astype(str)
        for name, part in parts.items():
            table[name] = np.broadcast_to(np.reshape(part, sizes), shape).ravel()
        if "unit" in form:
            table[name].unit = form["unit"]
    table.meta.update(shape=list(shape), time=exposures is not None, channel=wcs._channels is not None)
    return table
