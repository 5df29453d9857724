"""Converters of the objects in a cube's metadata."""

from dataclasses import asdict, fields

import numpy as np

from asdf.extension import Converter

from esis_ndcube.corrections.vignetting import Vignetting
from esis_ndcube.flight import Flight
from esis_ndcube.flight.file import name_quadrants
from esis_ndcube.io._layout import swap_name
from esis_ndcube.io._values import decode, encode
from esis_ndcube.registration import Misfit
from esis_ndcube.registration.alignment import Alignment, grid_from_header, grid_header
from esis_ndcube.registration.transform import PolynomialTransform
from esis_ndcube.utils.provenance import ProcessingStep


class FlightConverter(Converter):
    """The flight, as the text of its configuration file."""

    tags = ("asdf://esis-ndcube/tags/flight-*",)
    types = ("esis_ndcube.flight.Flight",)

    def to_yaml_tree(self, obj, tag, ctx):
        return {"name": obj.name, "toml": obj.toml}

    def from_yaml_tree(self, node, tag, ctx):
        return Flight.from_toml(name_quadrants(node["toml"]), source="the ASDF file")


class ProcessingStepConverter(Converter):
    """A processing step; its parameters are JSON, and so they are YAML too."""

    tags = ("asdf://esis-ndcube/tags/processing_step-*",)
    types = ("esis_ndcube.utils.provenance.ProcessingStep",)

    def to_yaml_tree(self, obj, tag, ctx):
        return {"name": obj.name, "version": obj.version, "parameters": obj.parameters}

    def from_yaml_tree(self, node, tag, ctx):
        return ProcessingStep(node["name"], dict(node["parameters"]), node["version"])


class TransformConverter(Converter):
    """A polynomial map."""

    tags = ("asdf://esis-ndcube/tags/polynomial_transform-*",)
    types = ("esis_ndcube.registration.transform.PolynomialTransform",)

    def to_yaml_tree(self, obj, tag, ctx):
        return {"coefficients": obj.coefficients, "origin": obj.origin, "scale": obj.scale}

    def from_yaml_tree(self, node, tag, ctx):
        return PolynomialTransform(np.array(node["coefficients"]), np.array(node["origin"]), node["scale"])


class AlignmentConverter(Converter):
    """An alignment; its grid is the text of a FITS header, which has all digits."""

    tags = ("asdf://esis-ndcube/tags/alignment-*",)
    types = ("esis_ndcube.registration.alignment.Alignment",)

    def to_yaml_tree(self, obj, tag, ctx):
        node = {}
        for field in fields(obj):
            value = getattr(obj, field.name)
            # Fits leave numbers of numpy, which are not YAML.
            node[swap_name(field.name)] = value.item() if isinstance(value, np.generic) else value
        for name in ("reference_covariance", "misfit"):
            if node[name] is None:
                del node[name]
        if obj.misfit is not None:
            node["misfit"] = asdict(obj.misfit)
        shape = [int(n) for n in obj.shape]
        return node | {"grid": grid_header(obj.grid), "time": encode(obj.time), "shape": shape}

    def from_yaml_tree(self, node, tag, ctx):
        parts = {swap_name(name): part for name, part in node.items()} | {
            "grid": grid_from_header(node["grid"]),
            "time": decode(node["time"]),
            "shape": tuple(node["shape"]),
            "covariance": np.array(node["covariance"]),
        }
        if "reference_covariance" in node:
            parts["reference_covariance"] = np.array(node["reference_covariance"])
        if "misfit" in node:
            parts["misfit"] = Misfit(**node["misfit"])
        return Alignment(**parts)


class VignettingConverter(Converter):
    """The vignetting of a flight."""

    tags = ("asdf://esis-ndcube/tags/vignetting-*",)
    types = ("esis_ndcube.corrections.vignetting.model.Vignetting",)

    def to_yaml_tree(self, obj, tag, ctx):
        node = {field.name: getattr(obj, field.name) for field in fields(obj)}
        return node | {"slopes": dict(obj.slopes), "contamination": dict(obj.contamination)}

    def from_yaml_tree(self, node, tag, ctx):
        return Vignetting(**dict(node) | {"covariance": np.array(node["covariance"])})
