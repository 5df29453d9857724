"""The public objects of the package: what the reference lists."""

import importlib
import inspect
import re
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.rst"


def public_modules():
    return re.findall(r"automodapi:: ([\w.]+)", REFERENCE.read_text())


def public_objects():
    """Every public object once, under the name of the module that defines it."""
    objects = {}
    for name in public_modules():
        module = importlib.import_module(name)
        for key in getattr(module, "__all__", ()):
            thing = getattr(module, key)
            if not (inspect.isclass(thing) or inspect.isroutine(thing)):
                continue
            if not thing.__module__.startswith("esis_ndcube"):
                continue
            label = f"{thing.__module__}.{thing.__qualname__}"
            objects[label] = thing
            if inspect.isclass(thing):
                for name_of, member in methods(thing):
                    objects[f"{label}.{name_of}"] = member
    return objects


def methods(cls):
    """Public methods and properties that the package defines for a class, also in bases that are not public."""
    for base in cls.__mro__:
        if not base.__module__.startswith("esis_ndcube"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or (is_dataclass(cls) and name in {field.name for field in fields(cls)}):
                continue
            if isinstance(member, classmethod | staticmethod):
                yield name, member.__func__
            elif inspect.isfunction(member) or isinstance(member, property | cached_property):
                yield name, member
