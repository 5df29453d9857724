"""Small values and tables, in the forms that files can hold, and back without loss."""

import base64
import json
from functools import partial

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.utils.masked import Masked

from esis_ndcube.registration.alignment_table import alignments_from_table, alignments_to_table, swap_columns

# A value that JSON lacks is an object with this key, which names its kind.
_KIND = "@"


def encode(value, *, arrays=False):
    """
    Turn a value into a form that JSON can hold, or with ``arrays`` ASDF, which keeps arrays of numbers.

    A value is a string, number, array, `~astropy.units.Quantity`, `~astropy.time.Time`, None, or tuples, lists and
    dictionaries of them; anything else raises a `TypeError`.

    Examples
    --------
    >>> import astropy.units as u
    >>> from esis_ndcube.io._values import decode, encode
    >>> decode(encode({"a": (1, 2 * u.s)}))
    {'a': (1, <Quantity 2. s>)}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    inner = partial(encode, arrays=arrays)
    if isinstance(value, u.Quantity):
        return {_KIND: "quantity", "unit": unit_text(value.unit), "value": inner(value.value)}
    if isinstance(value, Time):
        parts = {name: inner(np.asarray(part)) for name, part in zip(("jd1", "jd2"), exact_jd(value), strict=True)}
        return {
            _KIND: "time",
            "scale": value.scale,
            "format": value.format,
            "precision": value.precision,
        } | parts
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return {_KIND: "strings", "shape": list(value.shape), "items": value.ravel().tolist()}
    masked = isinstance(value, (np.ma.MaskedArray, Masked))
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc" and not masked:
        # ASDF has no longdouble.
        if arrays and isinstance(value, np.ndarray) and value.ndim and value.dtype.char not in "gG":
            return value
        text = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {_KIND: kind, "dtype": value.dtype.str, "shape": list(value.shape), "bytes": text}
    if type(value) is tuple:
        return {_KIND: "tuple", "items": [inner(item) for item in value]}
    if type(value) is list:
        return [inner(item) for item in value]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {_KIND: "dict", "items": {key: inner(item) for key, item in value.items()}}
    if isinstance(value, str):
        return str(value)
    msg = f"got a value of type {type(value).__name__}, which a file cannot hold"
    raise TypeError(msg)


def decode(value):
    """Turn an encoded value back into the value."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if hasattr(value, "dtype"):
        # Not a view of the file, which may be closed.
        return np.array(value)
    if not isinstance(value, dict):
        return value
    kind = value[_KIND]
    if kind == "quantity":
        number = decode(value["value"])
        # Whole numbers stay whole.
        return u.Quantity(number, value["unit"], dtype=getattr(number, "dtype", np.inexact))
    if kind == "time":
        return time_from_jd(decode(value["jd1"]), decode(value["jd2"]), value)
    if kind == "strings":
        return np.array(value["items"], dtype=str).reshape(value["shape"])
    if kind in ("array", "scalar"):
        array = np.frombuffer(base64.b64decode(value["bytes"]), dtype=value["dtype"]).reshape(value["shape"])
        return array.copy() if kind == "array" else array[()]
    if kind == "tuple":
        return tuple(decode(item) for item in value["items"])
    return {key: decode(item) for key, item in value["items"].items()}


def encode_named(value, what, **options):
    """As `encode`, with an error that names the value."""
    try:
        return encode(value, **options)
    except TypeError as error:
        msg = f"{what}: {error}; remove it first"
        raise TypeError(msg) from error


def pack_alignments(value):
    """The shape of alignments, one or an array of them, and their table."""
    # Not np.shape: an alignment has a `shape` of its own, which is that of the detector.
    array = np.empty(value.shape if isinstance(value, np.ndarray) else (), dtype=object)
    array[...] = value
    return list(array.shape), swap_columns(alignments_to_table(array.reshape(1, -1)))


def unpack_alignments(shape, table):
    """Undo `pack_alignments`."""
    array = alignments_from_table(swap_columns(table)).reshape(shape)
    return array if shape else array[()]


def unit_text(unit):
    """
    Write a unit so that it can be read, with all digits of its scale, or raise a `TypeError` if astropy could not.

    Examples
    --------
    >>> import astropy.units as u
    >>> from esis_ndcube.io._values import unit_text
    >>> unit_text(u.ph / u.pix), unit_text(u.Unit(u.ph / 3))
    ('ph / pix', '0.3333333333333333 ph')
    """
    text, scale = unit.to_string(), getattr(unit, "scale", 1.0)
    if scale != 1 and getattr(u.Unit(text, parse_strict="silent"), "scale", None) != scale:
        # astropy writes six digits.
        text = f"{float(scale)!r} {(unit / u.Unit(scale)).to_string()}".rstrip()
    if u.Unit(text, parse_strict="silent") != unit:
        msg = f"got the unit {text!r}, which astropy cannot read again: convert to one of its own units first"
        raise TypeError(msg)
    return text


def exact_jd(time):
    """The two numbers of days that make a time; NaN where it is masked."""
    mask = np.asarray(time.mask)
    parts = (getattr(part, "unmasked", part) for part in (time.jd1, time.jd2))
    return tuple(np.where(mask, np.nan, part) for part in parts)


def time_from_jd(jd1, jd2, form):
    """Make a time from the output of `exact_jd`; ``form`` has its scale, format and precision."""
    jd1, jd2 = np.asarray(jd1), np.asarray(jd2)
    mask = np.isnan(jd1)
    if mask.any():
        jd1, jd2 = (Masked(np.where(mask, 0.0, part), mask=mask) for part in (jd1, jd2))
    time = Time(jd1, jd2, format="jd", scale=form["scale"], precision=form["precision"])
    time.format = form["format"]
    return time


def escape(text):
    r"""
    Make a string safe for FITS, which has only ASCII and no blanks at the end; nearly all strings stay as they are.

    Examples
    --------
    >>> from esis_ndcube.io._values import escape
    >>> escape("a.fits"), escape("ä ")
    ('a.fits', '\\u00e4\\u0020')
    """
    text = json.dumps(str(text))[1:-1].replace('\\"', '"')
    return text if text == text.rstrip() else text[:-1] + "\\u0020"


def unescape(text):
    """Undo `escape`."""
    return json.loads('"' + str(text).replace('"', '\\"') + '"')


def hdu_from_table(table, name):
    """Write the columns of a table, numbers and strings, as an HDU; its ``meta`` are left out."""
    plain = Table()
    for column in table.columns.values():
        values = np.asarray(column)
        if values.dtype.kind == "U":
            values = np.array([escape(text) for text in values.ravel()], dtype=str).reshape(values.shape)
        plain[column.name] = values
        plain[column.name].unit = column.unit
    hdu = fits.BinTableHDU(name=name) if not plain.columns else fits.table_to_hdu(plain)
    hdu.name = name
    return hdu


def table_from_hdu(hdu):
    """Read a table that `hdu_from_table` wrote."""
    table = Table()
    for column in hdu.columns if hdu.columns is not None else ():
        values = np.asarray(hdu.data[column.name])
        if values.dtype.kind in "SU":
            values = np.array([unescape(text) for text in values.astype(str).ravel()], dtype=str).reshape(values.shape)
        else:
            values = values.astype(values.dtype.newbyteorder("="))
        table[column.name] = values
        table[column.name].unit = column.unit
    return table
