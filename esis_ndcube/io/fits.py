"""FITS files of cubes: everything that a cube holds, there and back to the last bit."""

import contextlib
import json
import os
import uuid
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning
from ndcube.meta import NDMeta

from esis_ndcube.flight import Flight
from esis_ndcube.io._values import (
    decode,
    encode,
    escape,
    exact_jd,
    hdu_from_table,
    table_from_hdu,
    time_from_jd,
)
from esis_ndcube.provenance import ProcessingStep, package_version
from esis_ndcube.wcs import ESISWCS

__all__ = ["CubeFileError", "check_output", "exposure_header", "read_fits", "write_fits"]

# Raised when the layout changes so that older versions of the package would misread it; see
# docs/fits_layout.rst.
LAYOUT = 1

_UNCERTAINTIES = {
    kind(None).uncertainty_type: kind
    for kind in (StdDevUncertainty, VarianceUncertainty, InverseVariance, UnknownUncertainty)
}
# Metadata that stand as columns in EXPOSURE, one value for each frame or for each exposure.
_COLUMNS = {
    "frame": ("FRAME",),
    "file": ("FILE",),
    "mid_time": ("JD1", "JD2"),
    "exposure": ("EXPTIME",),
    "normalization": ("NORM",),
}
_ALIGNMENTS = {"alignment": "ALIGNMENT", "alignment_linear": "ALIGNMENT_LINEAR"}


class CubeFileError(OSError):
    """A file that does not hold a cube, or holds it damaged."""


def check_output(path, overwrite=False):
    """
    Make sure, before any work is done, that a file can be written.

    Parameters
    ----------
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether it may exist.

    Returns
    -------
    `~pathlib.Path`
        The file.

    Raises
    ------
    FileExistsError
        If it exists and ``overwrite`` is not set.
    OSError
        If its folder is missing or can not be written to, or a folder has its name.

    Examples
    --------
    >>> from esis_ndcube.io.fits import check_output
    >>> check_output("no/such/folder/l3.fits")
    Traceback (most recent call last):
        ...
    FileNotFoundError: can not write l3.fits: there is no folder no/such/folder; make it first
    """
    path = Path(path)
    if path.is_dir():
        msg = f"can not write {path}: it is a folder; give the name of a file"
        raise IsADirectoryError(msg)
    if path.exists() and not overwrite:
        msg = f"{path} exists: give another name, or overwrite=True (--overwrite) to replace it"
        raise FileExistsError(msg)
    if not path.parent.is_dir():
        msg = f"can not write {path.name}: there is no folder {path.parent}; make it first"
        raise FileNotFoundError(msg)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        msg = f"can not write {path.name}: no permission to write in the folder {path.parent.absolute()}"
        raise PermissionError(msg)
    return path


def write_fits(cube, path, *, overwrite=False):
    """
    Write a cube to a FITS file; ``cube.write(path)`` does the same.

    The file is written under a temporary name and then moved, so that there never is half a file.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        A cube, or any part of one that has a FITS WCS.
    path : path-like
        The file; compressed where the name ends in ``.gz``.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is not set.
    OSError
        If the file can not be written.
    TypeError
        If the metadata hold an object that FITS can not.
    ValueError
        If the cube has no FITS WCS.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.wcs import level1_wcs
    >>> wcs = level1_wcs((5, 7), Time(["2019-09-30T18:08:00"]), [1, 2])
    >>> cube = ESISCube(np.zeros((1, 2, 5, 7)), wcs=wcs, unit="electron")
    >>> folder = getfixture("tmp_path")
    >>> cube.write(folder / "cube.fits")
    >>> ESISCube.read(folder / "cube.fits").shape
    (1, 2, 5, 7)
    """
    path = check_output(path, overwrite)
    hdulist = _hdulist(cube, path.name)
    # With the end of the name kept, since astropy compresses by it.
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        hdulist.writeto(temporary, checksum=True)
        check_output(path, overwrite)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_fits(path, cls=None, *, verify=True):
    """
    Read a cube from a FITS file; ``ESISLevel3Cube.read(path)`` does the same.

    Parameters
    ----------
    path : path-like
        A file that `write_fits` wrote.
    cls : `type`, optional
        Class of the cube; by default `~esis_ndcube.cube.ESISCube`, which reads any level.
    verify : `bool`, optional
        Whether to verify the checksums.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube, all of it in memory.

    Raises
    ------
    CubeFileError
        If the file is not such a file, is damaged, or is of another level or a newer layout.
    FileNotFoundError
        If there is no such file.
    """
    if cls is None:
        from esis_ndcube.cube import ESISCube as cls
    path = Path(path)
    # Damage can meet astropy anywhere; nothing of it may pass as a warning.
    damage = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, fits.VerifyError, Warning)
    with contextlib.ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", AstropyUserWarning)
                # Opened here, because astropy leaves a file open that it can not read.
                stream = stack.enter_context(path.open("rb"))
                hdulist = stack.enter_context(fits.open(stream, lazy_load_hdus=False))
                primary = hdulist[0].header
                layout, count = primary.get("ESISFITS"), primary.get("NEXTEND")
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except damage as error:
            msg = f"{path} can not be read as FITS: {error}"
            raise CubeFileError(msg) from error
        if layout is None:
            msg = f"{path} is not a cube of esis_ndcube: its primary header has no keyword ESISFITS"
            raise CubeFileError(msg)
        if layout != LAYOUT:
            msg = f"{path} has layout {layout}, expected {LAYOUT}: install the esis_ndcube that wrote it"
            raise CubeFileError(msg)
        try:
            if verify:
                _verify(hdulist, count)
            level = primary.get("LVL_NUM")
            wanted = getattr(cls, "_level", None)
            kind = primary["CUBETYPE"]
            parts = _parts(hdulist) if wanted in (None, level) else None
        except damage as error:
            msg = f"{path} is damaged, get it again: {error}"
            raise CubeFileError(msg) from error
    if parts is None:
        msg = f"{path} holds an {kind} of level {level}, expected level {wanted}: read it with {kind}.read"
        raise CubeFileError(msg)
    coords = parts.pop("global_coords")
    cube = cls(**parts)
    for name, (physical_type, coord) in coords.items():
        cube.global_coords.add(name, physical_type, coord)
    return cube


def exposure_header(cube):
    """
    Make the header of an image.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        One exposure of one channel, or a part of it, with axes (y, x).

    Returns
    -------
    `~astropy.io.fits.Header`
        WCS, dates, observer, instrument and unit.

    Raises
    ------
    ValueError
        If the cube is not such an image.
    """
    if not isinstance(cube.wcs, ESISWCS) or cube.wcs.naxis != 2 or cube.wcs.array_axis_names != ["y", "x"]:
        msg = f"got a cube of shape {cube.data.shape}, expected an image of one exposure, as cube[0, 0]"
        raise ValueError(msg)
    header = cube.wcs.to_header(relax=True)
    for axis in (1, 2):
        # Degrees are the unit of the WCS library; arcsec is that of solar images.
        if header.get(f"CUNIT{axis}") == "deg":
            header[f"CUNIT{axis}"] = "arcsec"
            for key in ("CDELT", "CRVAL"):
                header[f"{key}{axis}"] = (header[f"{key}{axis}"] * 3600, "[arcsec]")
    _add_cards(header, cube)
    return header


def _verify(hdulist, count):
    if len(hdulist) != (count or 0) + 1:
        msg = f"it has {len(hdulist) - 1} extensions, expected {count}"
        raise ValueError(msg)
    for hdu in hdulist:
        if hdu.verify_checksum() != 1 or hdu.verify_datasum() != 1:
            msg = f"the checksum of {hdu.name or 'the primary HDU'} does not agree"
            raise ValueError(msg)


def _hdulist(cube, filename):
    if not isinstance(cube.wcs, ESISWCS):
        msg = (
            f"got a cube with a {type(cube.wcs).__name__}, which FITS can not express: "
            f"keep a range of one row or column, as cube[..., 10:11, :]"
        )
        raise ValueError(msg)
    if not cube.extra_coords.is_empty or cube.psf is not None:
        msg = "got a cube with extra_coords or psf, which the file can not hold: remove them first"
        raise TypeError(msg)
    rows, columns, tables = _meta_rows(cube)
    header = cube.wcs.to_header(relax=True)
    _add_cards(header, cube)
    if cube.unit is None:
        header["HASUNIT"] = (False, "whether the cube has a unit")
    hdus = [_primary(cube, filename), _image("DATA", cube.data, header)]
    if cube.uncertainty is not None:
        hdus.append(_uncertainty_hdu(cube.uncertainty))
    if cube.mask is not None:
        mask = np.asarray(cube.mask)
        flat = fits.Header([("ESISDIM", mask.ndim, "0: one value for all pixels")])
        hdus.append(_image("MASK", np.atleast_1d(mask).astype(np.uint8), flat))
    if cube.flags is not None:
        hdus.append(_image("FLAGS", cube.flags))
    hdus += cube.wcs.table_hdus()
    tables["EXPOSURE"] = _exposure_table(cube, columns)
    # Text of any length goes to this table: astropy loses parts of long cards.
    notes = {name: dict(table.meta) for name, table in tables.items() if table.meta}
    notes["DATA"] = {"dropped": cube.wcs._dropped, "axes": isinstance(cube.meta, NDMeta)}
    rows += [(name, "note", json.dumps(encode(note)), "[]", "") for name, note in notes.items()]
    names = ("KEY", "KIND", "VALUE", "AXES", "COMMENT")
    tables["META"] = Table({name: [row[i] for row in rows] for i, name in enumerate(names)}, dtype=[str] * 5)
    hdus += [hdu_from_table(table, name) for name, table in tables.items()]
    hdus[0].header["NEXTEND"] = (len(hdus) - 1, "number of extensions")
    return fits.HDUList(hdus)


def _image(name, array, header=None):
    array = np.asarray(array)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8 or array.dtype == np.float16:
        msg = f"got {name} of type {array.dtype}, expected integers, float32 or float64"
        raise TypeError(msg)
    # astropy swaps the bytes of what it writes in place, unless it can not.
    array = array.view()
    array.flags.writeable = False
    return fits.ImageHDU(array, header=header, name=name)


def _uncertainty_hdu(uncertainty):
    header = fits.Header([("UNCERTYP", uncertainty.uncertainty_type, "kind of uncertainty")])
    if uncertainty.unit is not None:
        header["BUNIT"] = uncertainty.unit.to_string()
    return _image("UNCERT", uncertainty.array, header)


def _primary(cube, filename):
    header = fits.Header()
    header["ESISFITS"] = (LAYOUT, "layout of this file")
    header["CUBETYPE"] = (type(cube).__name__, "class of the cube")
    header["FILENAME"] = escape(filename)
    header["DATE"] = (datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "when this file was written, UTC")
    wcs = cube.wcs.to_header(relax=True)
    for card in wcs.cards:
        if card.keyword.startswith(("DATE-", "DATEREF", "TIMESYS", "XPOSURE")):
            header.append(card)
    _add_cards(header, cube)
    return fits.PrimaryHDU(header=header)


def _add_cards(header, cube):
    """Add the keywords that say what the data are."""
    flight, channel, frame = cube.flight, cube.channel, cube.frame
    cards = {
        "BUNIT": (None if cube.unit is None else cube.unit.to_string(), "unit of the data"),
        "BTYPE": (_data_type(cube.unit), "what the data are"),
        "LVL_NUM": (cube._get_meta("level"), "level of processing"),
        "LINE": (cube.line, "spectral line"),
        "STAGE": (cube._get_meta("stage"), "alignment that the images were made with"),
        "REFERENC": (cube._get_meta("reference"), "where the pointing comes from"),
        "ORIGIN": ("esis_ndcube", "where the data were processed"),
        "CREATOR": (f"esis_ndcube {package_version()}", "software"),
    }
    if flight is not None:
        cards |= {
            "TELESCOP": (flight.instrument, "telescope"),
            "INSTRUME": (flight.instrument, "instrument"),
            "FLIGHT": (flight.name, "flight"),
            "OBS_TITL": (flight.title, "title of the flight"),
        }
        numbers = [] if channel is None else np.atleast_1d(channel)
        cards["DETECTOR"] = (",".join(flight.channel(number).camera for number in numbers), "camera")
        if cube.line is not None:
            wavelength = flight.line(cube.line).wavelength
            cards["WAVELNTH"] = (float(wavelength.value), f"[{wavelength.unit}] wavelength of the line")
            cards["WAVEUNIT"] = (wavelength.unit.to_string(), "unit of WAVELNTH")
    if channel is not None and np.ndim(channel) == 0:
        cards["CHANNEL"] = (int(channel), "channel number")
    if frame is not None and np.ndim(frame) == 0:
        cards["FRAME"] = (int(frame), "raw frame number")
    for n, step in enumerate(cube.history, start=1):
        cards[f"PRSTEP{n}"] = (step.name, "processing step")
        cards[f"PRVER{n}"] = (step.version, "version of esis_ndcube that did it")
        cards[f"PRPARA{n}"] = (json.dumps(step.parameters), "its parameters")
    for key, (value, comment) in cards.items():
        if value is not None and value != "":
            value = escape(value) if isinstance(value, str) else value
            # astropy warns of a comment that has no room.
            header[key] = (value, comment) if len(str(value)) + len(comment) < 60 else value


def _data_type(unit):
    bases = () if unit is None else u.Unit(unit).bases
    return {u.photon: "photons", u.electron: "electrons"}.get(bases[0] if bases else None)


def _meta_rows(cube):
    """The metadata: rows of META, the columns for EXPOSURE and further tables."""
    rows, columns, tables = [], {}, {}
    names = cube.wcs.array_axis_names
    meta = cube.meta if cube.meta is not None else {}
    axes = dict(getattr(meta, "axes", {}))
    comments = dict(getattr(meta, "key_comments", {}))
    for key, value in meta.items():
        of = [names[axis] for axis in axes.get(key, ())]
        kind, text = "json", None
        if key == "flight" and isinstance(value, Flight):
            kind = "flight"
            tables["FLIGHT"] = Table({"TOML": np.array(value.toml.split("\n"), dtype=str)})
        elif key == "history" and isinstance(value, tuple) and all(isinstance(x, ProcessingStep) for x in value):
            kind, text = "history", len(value)
            if value:
                tables["PROCESSING"] = Table({"STEP": [step.to_json() for step in value]})
        elif key in _ALIGNMENTS and value is not None:
            from esis_ndcube.registration.alignment import alignments_to_table

            kind = "alignment"
            # Not np.shape: an alignment has a `shape` of its own, that of the detector.
            array = np.empty(value.shape if isinstance(value, np.ndarray) else (), dtype=object)
            array[...] = value
            text = list(array.shape)
            tables[_ALIGNMENTS[key]] = alignments_to_table(array.reshape(1, -1))
        elif key == "vignetting" and value is not None:
            kind = "vignetting"
            tables["VIGNETTING"] = value.to_table()
        elif key in _COLUMNS and value is not None and set(of) <= {"time", "channel"}:
            kind = "column"
            text = columns[key] = _column_form(value, of)
        if kind == "json":
            try:
                text = encode(value)
            except TypeError as error:
                msg = f"metadata {key!r}: {error}; remove it first"
                raise TypeError(msg) from error
        rows.append(
            (
                key,
                kind,
                json.dumps(text),
                json.dumps([int(axis) for axis in axes.get(key, ())]),
                comments.get(key, ""),
            )
        )
    for key, (physical_type, coord) in cube.global_coords._internal_coords.items():
        try:
            rows.append((key, "global", json.dumps(encode((physical_type, coord))), "[]", ""))
        except TypeError as error:
            msg = f"global coordinate {key!r}: {error}; remove it first"
            raise TypeError(msg) from error
    return rows, columns, tables


def _column_form(value, of):
    form = {"axes": of, "dtype": np.asarray(getattr(value, "value", value)).dtype.str}
    if isinstance(value, u.Quantity):
        form["unit"] = value.unit.to_string()
    elif hasattr(value, "jd1"):
        form |= {"scale": value.scale, "format": value.format, "precision": value.precision}
    form["array"] = isinstance(value, np.ndarray) or hasattr(value, "jd1")
    return form


def _exposure_table(cube, columns):
    """One row for each exposure and channel."""
    wcs = cube.wcs
    channels = np.array([0]) if wcs._channels is None else wcs._channels
    exposures = wcs._exposures
    count = 1 if exposures is None else exposures.seconds.size
    shape = count, channels.size
    table = Table()
    table["TIME_INDEX"], table["CHANNEL_INDEX"] = (index.ravel() for index in np.indices(shape))
    table["CHANNEL"] = np.broadcast_to(channels, shape).ravel()
    if exposures is not None:
        wide = {"SECONDS": exposures.seconds, "DURATION": exposures.duration}
        place = exposures.observer
        wide |= {
            f"{name}_OBS": None if place is None else place[:, i] for i, name in enumerate(("HGLN", "HGLT", "DSUN"))
        }
        for name, values in wide.items():
            if values is not None:
                table[name] = np.repeat(values, channels.size)
    for key, form in columns.items():
        value = cube.meta[key]
        parts = exact_jd(value) if key == "mid_time" else (getattr(value, "value", value),)
        for name, part in zip(_COLUMNS[key], parts, strict=True):
            sizes = [n if axis in form["axes"] else 1 for axis, n in zip(("time", "channel"), shape, strict=True)]
            table[name] = np.broadcast_to(np.reshape(part, sizes), shape).ravel()
        if "unit" in form:
            table[name].unit = form["unit"]
        if key == "mid_time":
            dates = np.ma.filled(np.ma.asarray(value.utc.isot), "") if value.masked else value.utc.isot
            wide = np.reshape(
                dates,
                [n if a in form["axes"] else 1 for a, n in zip(("time", "channel"), shape, strict=True)],
            )
            table["DATE-AVG"] = np.broadcast_to(wide, shape).ravel().astype(str)
    table.meta.update(shape=list(shape), time=exposures is not None, channel=wcs._channels is not None)
    return table


def _parts(hdulist):
    """Arguments of the cube's class."""
    rows = list(table_from_hdu(hdulist["META"]))
    notes = {row["KEY"]: decode(json.loads(row["VALUE"])) for row in rows if row["KIND"] == "note"}

    def read(name):
        table = table_from_hdu(hdulist[name])
        table.meta.update(notes.get(name, {}))
        return table

    data, exposure = hdulist["DATA"], read("EXPOSURE")
    parts = {"data": _native(data.data), "wcs": _read_wcs(hdulist, exposure)}
    parts["wcs"]._dropped = notes["DATA"]["dropped"]
    if data.header.get("HASUNIT", True):
        parts["unit"] = u.Unit(data.header.get("BUNIT", ""))
    if "UNCERT" in hdulist:
        hdu = hdulist["UNCERT"]
        unit = hdu.header.get("BUNIT")
        unit = None if unit is None else u.Unit(unit)
        parts["uncertainty"] = _UNCERTAINTIES[hdu.header["UNCERTYP"]](_native(hdu.data), unit=unit)
    if "MASK" in hdulist:
        mask = hdulist["MASK"].data.astype(bool)
        parts["mask"] = mask if hdulist["MASK"].header["ESISDIM"] else mask[0]
    if "FLAGS" in hdulist:
        parts["flags"] = _native(hdulist["FLAGS"].data)
    values, axes, comments, coords = {}, {}, {}, {}
    for row in rows:
        key, kind, text = str(row["KEY"]), str(row["KIND"]), json.loads(row["VALUE"])
        if kind == "global":
            coords[key] = decode(text)
        elif kind != "note":
            values[key] = _read_value(key, kind, text, read, exposure, values)
            axes |= {key: of} if (of := json.loads(row["AXES"])) else {}
            comments |= {key: str(row["COMMENT"])} if row["COMMENT"] else {}
    if notes["DATA"]["axes"]:
        values = NDMeta(values, key_comments=comments, axes=axes, data_shape=parts["data"].shape)
    return parts | {"meta": values, "global_coords": coords}


def _native(array):
    return np.array(array, dtype=array.dtype.newbyteorder("="))


def _read_wcs(hdulist, exposure):
    from esis_ndcube.wcs import _Exposures, _from_header

    header = hdulist["DATA"].header
    tables = [fits.BinTableHDU(hdu.data, hdu.header) for hdu in hdulist if hdu.name in ("TIME", "CHANNEL")]
    shape = [header[f"NAXIS{i + 1}"] for i in range(header["NAXIS"])]
    wcs = _from_header(header, tables, shape)
    count = exposure.meta["shape"][1]
    wcs._exposures = wcs._channels = None
    if exposure.meta["time"]:
        column = {name: np.array(exposure[name][::count]) for name in exposure.colnames if name != "FILE"}
        place = [column.get(f"{name}_OBS") for name in ("HGLN", "HGLT", "DSUN")]
        observer = None if place[0] is None else np.column_stack(place)
        wcs._exposures = _Exposures(column["SECONDS"], column.get("DURATION"), observer)
    if exposure.meta["channel"]:
        wcs._channels = np.array(exposure["CHANNEL"][:count])
    return wcs


def _read_value(key, kind, text, read, exposure, values):
    if kind == "json":
        return decode(text)
    if kind == "flight":
        return Flight.from_toml("\n".join(read("FLIGHT")["TOML"].tolist()), source="HDU FLIGHT")
    if kind == "history":
        steps = read("PROCESSING")["STEP"] if text else ()
        return tuple(ProcessingStep.from_json(str(step)) for step in steps)
    if kind == "alignment":
        from esis_ndcube.registration.alignment import alignments_from_table

        array = alignments_from_table(read(_ALIGNMENTS[key])).reshape(text)
        return array if text else array[()]
    if kind == "vignetting":
        from esis_ndcube.vignetting import Vignetting

        return Vignetting.from_table(read("VIGNETTING"), values["flight"])
    index = tuple(slice(None) if axis in text["axes"] else 0 for axis in ("time", "channel"))
    parts = [np.array(exposure[name]).reshape(exposure.meta["shape"])[index] for name in _COLUMNS[key]]
    if "scale" in text:
        return time_from_jd(*parts, text)
    dtype = np.dtype(text["dtype"])
    part = np.asarray(parts[0], dtype=None if dtype.kind == "U" else dtype)
    part = part if text["array"] or "unit" in text else part[()]
    return u.Quantity(part, text["unit"], dtype=dtype) if "unit" in text else part
