"""From the HDUs of a file to the parts of a cube."""

import json

import dask.array as da
import numpy as np

import astropy.units as u
from astropy.io import fits
from ndcube.meta import NDMeta

from esis_ndcube.flight import Flight
from esis_ndcube.flight.file import name_quadrants
from esis_ndcube.io._layout import ALIGNMENTS, COLUMNS, OBSERVER, TABLES, UNCERTAINTIES, swap_name
from esis_ndcube.io._planes import Plane
from esis_ndcube.io._values import decode, table_from_hdu, time_from_jd, unpack_alignments
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.wcs._axes import Exposures
from esis_ndcube.wcs.fitswcs import from_header


def verify_checksums(hdulist, count, *, images=True):
    """Raise a `ValueError` if a file is not whole; ``count`` is the number of extensions it should have."""
    if len(hdulist) != (count or 0) + 1:
        msg = f"it has {len(hdulist) - 1} extensions, expected {count}"
        raise ValueError(msg)
    for hdu in hdulist if images else [hdu for hdu in hdulist if not hdu.is_image]:
        if hdu.verify_checksum() != 1 or hdu.verify_datasum() != 1:
            msg = f"the checksum of {hdu.name or 'the primary HDU'} does not agree"
            raise ValueError(msg)


def cube_parts(hdulist, path=None, *, outline=False):
    """Arguments of the cube's class, and its global coordinates; with ``path`` or ``outline``, arrays are not read."""
    rows = list(table_from_hdu(hdulist["META"]))
    notes = {row["KEY"]: decode(json.loads(row["VALUE"])) for row in rows if row["KIND"] == "note"}

    def read(name):
        table = table_from_hdu(hdulist[name])
        table.meta.update(notes.get(name, {}))
        return table

    def array(name, dtype=None):
        if outline:
            return np.broadcast_to(
                np.zeros((), _type(hdulist[name].header) if dtype is None else dtype), hdulist[name].shape
            )
        return _native(hdulist[name].data, dtype) if path is None else _lazy(hdulist, name, path, dtype)

    data, exposure = hdulist["DATA"], read("EXPOSURE")
    kind = np.dtype(bool) if notes["DATA"].get("bool") else None
    parts = {"data": array("DATA", kind), "wcs": _read_wcs(hdulist, exposure, notes["DATA"]["dropped"])}
    if data.header.get("HASUNIT", True):
        parts["unit"] = u.Unit(data.header.get("BUNIT", ""))
    if "UNCERT" in hdulist:
        hdu = hdulist["UNCERT"]
        unit = hdu.header.get("BUNIT")
        unit = None if unit is None else u.Unit(unit)
        parts["uncertainty"] = UNCERTAINTIES[hdu.header["UNCERTYP"]](array("UNCERT"), unit=unit, copy=False)
    if "MASK" in hdulist:
        single = not hdulist["MASK"].header["ESISDIM"]
        parts["mask"] = bool(hdulist["MASK"].data[0]) if single else array("MASK", np.dtype(bool))
    if "FLAGS" in hdulist:
        parts["flags"] = array("FLAGS")
    flight = _read_flight(read("FLIGHT")) if "FLIGHT" in hdulist else None
    values, axes, comments, coords = {}, {}, {}, {}
    for row in rows:
        key, kind, text = str(row["KEY"]), str(row["KIND"]), json.loads(row["VALUE"])
        if kind == "global":
            coords[key] = decode(text)
        elif kind != "note":
            key = swap_name(key)
            values[key] = _read_value(key, kind, text, read, exposure, flight)
            axes |= {key: of} if (of := json.loads(row["AXES"])) else {}
            comments |= {key: str(row["COMMENT"])} if row["COMMENT"] else {}
    if notes["DATA"]["axes"]:
        values = NDMeta(values, key_comments=comments, axes=axes, data_shape=parts["data"].shape)
    return parts | {"meta": values, "global_coords": coords}


def _native(array, dtype=None):
    return np.array(array, dtype=array.dtype.newbyteorder("=") if dtype is None else dtype)


def _type(header):
    """The type of the values of an image in astropy."""
    bits = header["BITPIX"]
    kind = "f" if bits < 0 else "u" if (bits == 8) != ("BZERO" in header) else "i"
    return np.dtype(f"{kind}{abs(bits) // 8}")


def _lazy(hdulist, name, path, dtype):
    """A Dask array with a chunk for each image."""
    index = hdulist.index_of(name)
    hdu = hdulist[index]
    if dtype is None:
        dtype = _type(hdu.header)
    plane = Plane(path, hdulist.fileinfo(index)["datLoc"], hdu.shape, dtype, watch=True)
    return da.from_array(plane, chunks=(1,) * (plane.ndim - 2) + plane.shape[-2:], name=False, asarray=False)


def _read_wcs(hdulist, exposure, dropped):
    """The WCS of the data, with the numbers of EXPOSURE, which are exact."""
    header = hdulist["DATA"].header
    tables = [fits.BinTableHDU(hdu.data, hdu.header) for hdu in hdulist if hdu.name in ("TIME", "CHANNEL")]
    shape = [header[f"NAXIS{i + 1}"] for i in range(header["NAXIS"])]
    count = exposure.meta["shape"][1]
    exposures = channels = None
    if exposure.meta["time"]:
        column = {name: np.array(exposure[name][::count]) for name in exposure.colnames if name != "FILE"}
        place = [column[name] for name in OBSERVER if name in column]
        exposures = Exposures(column["SECONDS"], column.get("DURATION"), np.column_stack(place) if place else None)
    if exposure.meta["channel"]:
        channels = np.array(exposure["CHANNEL"][:count])
    return from_header(header, tables, shape, exposures, channels, dropped)


def _read_flight(table):
    return Flight.from_toml(name_quadrants("\n".join(table["TOML"].tolist())), source="HDU FLIGHT")


def _read_value(key, kind, text, read, exposure, flight):
    if kind == "json":
        return decode(text)
    if kind == "flight":
        return flight
    if kind == "history":
        steps = read("PROCESSING")["STEP"] if text else ()
        return tuple(ProcessingStep.from_json(str(step)) for step in steps)
    if kind == "alignment":
        return unpack_alignments(text, read(ALIGNMENTS[key]))
    if kind in TABLES:
        return TABLES[kind].from_table(read(kind.upper()), flight)
    if kind != "column":
        msg = f"its metadata {key!r} are of the kind {kind!r}, which this version of esis_ndcube does not know"
        raise ValueError(msg)
    index = tuple(slice(None) if axis in text["axes"] else 0 for axis in ("time", "channel"))
    parts = [np.array(exposure[name]).reshape(exposure.meta["shape"])[index] for name in COLUMNS[key]]
    if "scale" in text:
        return time_from_jd(*parts, text)
    dtype = np.dtype(text["dtype"])
    part = np.asarray(parts[0], dtype=None if dtype.kind == "U" else dtype)
    part = part if text["array"] or "unit" in text else part[()]
    return u.Quantity(part, text["unit"], dtype=dtype) if "unit" in text else part
