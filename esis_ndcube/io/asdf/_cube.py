"""Converters of cubes and of their WCS."""

import pkgutil

import numpy as np

from asdf.extension import Converter
from astropy.io import fits
from ndcube.meta import NDMeta

from esis_ndcube.corrections.vignetting import Vignetting
from esis_ndcube.flight import Flight
from esis_ndcube.io._layout import TABLES, UNCERTAINTIES, kinds_of, swap_name
from esis_ndcube.io._values import decode, encode_named, pack_alignments, unit_text, unpack_alignments
from esis_ndcube.io._writing import check_parts
from esis_ndcube.wcs import SlicedESISWCS
from esis_ndcube.wcs._axes import Exposures, table_hdu
from esis_ndcube.wcs._coordinates import added_coordinates
from esis_ndcube.wcs.fitswcs import from_header


class CubeConverter(Converter):
    """A cube with everything that it holds. ndcube's own converter only takes its `~ndcube.NDCube`."""

    tags = ("asdf://esis-ndcube/tags/cube-*",)
    types = (
        "esis_ndcube.cube.ESISCube",
        "esis_ndcube.level1.cube.ESISLevel1Cube",
        "esis_ndcube.level3.cube.ESISLevel3Cube",
        "esis_ndcube.level3.context.ContextCube",
        "esis_ndcube.level3.velocity.cube.ESISVelocityCube",
    )

    def to_yaml_tree(self, obj, tag, ctx):
        wcs = obj.wcs.low_level_wcs
        check_parts(obj, wcs._wcs if isinstance(wcs, SlicedESISWCS) else wcs)
        node = {"class": type(obj).__name__, "data": _array(obj.data, "data"), "wcs": wcs}
        if obj.unit is not None:
            node["unit"] = _unit(obj.unit)
        if getattr(obj.uncertainty, "array", None) is not None:
            part = {"kind": obj.uncertainty.uncertainty_type, "array": _array(obj.uncertainty.array, "uncertainty")}
            unit = obj.uncertainty.unit
            node["uncertainty"] = part if unit is None else part | {"unit": _unit(unit)}
        if obj.mask is not None:
            # Any value can stand for true.
            node["mask"] = np.asarray(obj.mask, dtype=bool) if np.ndim(obj.mask) else bool(obj.mask)
        if obj.flags is not None:
            node["flags"] = _array(obj.flags, "flags")
        if obj.meta is not None:
            node["meta"] = _meta_tree(obj.meta)
        coords = added_coordinates(obj).items()
        node["global_coords"] = {
            name: encode_named(coord, f"global coordinate {name!r}", arrays=True) for name, coord in coords
        }
        return node

    def from_yaml_tree(self, node, tag, ctx):
        parts = {"data": self._read(node["data"]), "wcs": node["wcs"], "unit": node.get("unit")}
        if "uncertainty" in node:
            part = node["uncertainty"]
            kind = UNCERTAINTIES[part["kind"]]
            parts["uncertainty"] = kind(self._read(part["array"]), unit=part.get("unit"), copy=False)
        if "mask" in node:
            parts["mask"] = node["mask"] if isinstance(node["mask"], bool) else self._read(node["mask"])
        if "flags" in node:
            parts["flags"] = self._read(node["flags"])
        if "meta" in node:
            parts["meta"] = _meta_from_tree(node["meta"], parts["data"].shape)
        # One of the types above, which are classes of later rooms, and are there when a file is read.
        (name,) = (name for name in self.types if name.rpartition(".")[2] == node["class"])
        cube = pkgutil.resolve_name(name)(**parts)
        for name, coord in node["global_coords"].items():
            physical_type, value = decode(coord)
            cube.global_coords.add(name, physical_type, value)
        return cube

    def _read(self, array):
        # A copy: views of the file end with it.
        return np.array(array)


class OutlineConverter(CubeConverter):
    """A cube whose arrays stay in the file: zeros stand for them."""

    def _read(self, array):
        return np.broadcast_to(np.zeros((), array.dtype), array.shape)


class WCSConverter(Converter):
    """The WCS of a cube: a FITS header, its tables, and the facts that a header alone does not hold exactly."""

    tags = ("asdf://esis-ndcube/tags/wcs-*",)
    types = ("esis_ndcube.wcs.fitswcs.ESISWCS",)

    def to_yaml_tree(self, obj, tag, ctx):
        tables = [
            {"name": tab.name, "values": tab.data[tab.name].ravel().astype(float), "unit": tab.columns[0].unit or ""}
            for tab in obj.table_hdus()
        ]
        node = {
            "header": obj.to_header(relax=True).tostring(sep="\n", endcard=False, padding=False),
            "pixel_shape": [int(n) for n in obj.pixel_shape],
            "tables": tables,
            "dropped": [list(entry) for entry in obj._dropped],
        }
        if obj._channels is not None:
            node["channels"] = obj._channels
        if obj._exposures is not None:
            parts = {name: getattr(obj._exposures, name) for name in ("seconds", "duration", "observer")}
            node["exposures"] = {name: part for name, part in parts.items() if part is not None}
        return node

    def from_yaml_tree(self, node, tag, ctx):
        tables = [table_hdu(part["name"], np.array(part["values"]), part["unit"]) for part in node["tables"]]
        exposures = channels = None
        if "exposures" in node:
            parts = {name: np.array(part) for name, part in node["exposures"].items()}
            exposures = Exposures(parts["seconds"], parts.get("duration"), parts.get("observer"))
        if "channels" in node:
            channels = np.array(node["channels"])
        dropped = tuple(tuple(entry) for entry in node["dropped"])
        header = fits.Header.fromstring(node["header"], sep="\n")
        return from_header(header, tables, tuple(node["pixel_shape"]), exposures, channels, dropped)


class SlicedWCSConverter(Converter):
    """A row or a column of a WCS."""

    tags = ("asdf://esis-ndcube/tags/sliced_wcs-*",)
    types = ("esis_ndcube.wcs._sliced.SlicedESISWCS",)

    def to_yaml_tree(self, obj, tag, ctx):
        return {"wcs": obj._wcs, "kept": [isinstance(item, slice) for item in obj._slices_array]}

    def from_yaml_tree(self, node, tag, ctx):
        return SlicedESISWCS(node["wcs"], tuple(slice(None) if kept else 0 for kept in node["kept"]))


def _array(array, name):
    array = np.asarray(array)
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        msg = f"got {name} of type {array.dtype}, expected bool, integers, floats or complex numbers of 64 bits at most"
        raise TypeError(msg)
    return array


def _unit(unit):
    if unit_text(unit) != unit.to_string() or not hasattr(unit, "bases"):
        msg = (
            f"got the unit {unit_text(unit)!r}, which ASDF cannot hold exactly: convert to another unit, or write FITS"
        )
        raise TypeError(msg)
    return unit


def _meta_tree(meta):
    """Metadata as a tree, with their axes if they know them."""
    values = []
    for key, value, kind in kinds_of(meta):
        if kind == "alignment":
            shape, table = pack_alignments(value)
            entry = {"kind": "alignments", "shape": shape, "value": table}
        elif kind == "history":
            entry = {"kind": "history", "value": list(value)}
        elif kind is not None:
            # Flight and vignetting have converters of their own, for trees without a cube.
            entry = (
                {"kind": "object", "value": value}
                if isinstance(value, (Flight, Vignetting))
                else {"kind": "correction", "value": value.to_table()}
            )
        else:
            entry = {"kind": "value", "value": encode_named(value, f"metadata {key!r}", arrays=True)}
        values.append({"key": swap_name(key), **entry})
    tree = {"values": values}
    if isinstance(meta, NDMeta):
        tree["axes"] = {swap_name(key): [int(axis) for axis in axes] for key, axes in meta.axes.items()}
        tree["comments"] = {swap_name(key): comment for key, comment in meta.key_comments.items()}
    return tree


def _meta_from_tree(tree, shape):
    """Undo `_meta_tree`."""
    meta = {}
    flight = next((entry["value"] for entry in tree["values"] if isinstance(entry.get("value"), Flight)), None)
    for entry in tree["values"]:
        value = entry.get("value")
        if entry["kind"] == "alignments":
            value = unpack_alignments(entry["shape"], value)
        elif entry["kind"] == "history":
            value = tuple(value)
        elif entry["kind"] == "correction":
            value = TABLES[entry["key"]].from_table(value, flight)
        elif entry["kind"] == "value":
            value = decode(value)
        meta[swap_name(entry["key"])] = value
    if "axes" in tree:
        axes = {swap_name(key): list(of) for key, of in tree["axes"].items()}
        comments = {swap_name(key): comment for key, comment in tree["comments"].items()}
        return NDMeta(meta, key_comments=comments, axes=axes, data_shape=shape)
    return meta
