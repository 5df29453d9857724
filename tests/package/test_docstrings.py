"""
Every public name says what it takes, gives and raises, and shows an example.

Public is what stands in the ``__all__`` of a module that docs/reference.rst lists, and the methods and properties of
classes in it that are the package's own and have no underscore.
Other modules are rooms for the builders: what is in their ``__all__`` has a docstring.

Functions, classes and methods have the sections of numpydoc: ``Parameters`` that are exactly those of the signature,
each with its type, ``Returns`` or ``Yields`` if something is returned, ``Raises`` that names what is raised in the
body itself, and ``Examples``.
Properties are attributes, and have a docstring that names a type or what they are like, in back quotes.
"""

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
import textwrap
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property

import pytest
from public import public_modules, public_objects

import esis_ndcube

SECTION = re.compile(r"^(?P<name>[A-Z][A-Za-z ]+)\n-{3,}$", re.MULTILINE)


def other_modules():
    found = pkgutil.walk_packages(esis_ndcube.__path__, "esis_ndcube.")
    return sorted({module.name for module in found} - set(public_modules()))


def sections(doc):
    parts, last, start = {}, "Summary", 0
    for match in SECTION.finditer(doc):
        parts[last] = doc[start : match.start()]
        last, start = match["name"], match.end()
    parts[last] = doc[start:]
    return parts


def documented_names(text):
    """The names of the entries of a section, at the margin."""
    names = []
    for line in text.splitlines():
        if line and not line[0].isspace() and not line.startswith(".."):
            names += [name.strip(" `*~") for name in line.split(" : ")[0].split(",")]
    return names


def without_type(parts):
    """Entries of parameters and attributes that do not say their type; what takes all the others has none."""
    lines = (parts.get("Parameters", "") + parts.get("Attributes", "")).splitlines()
    entries = [line for line in lines if line and not line[0].isspace() and not line.startswith((".", "*"))]
    return [entry for entry in entries if " : " not in entry]


def source_tree(function):
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]


def own_nodes(tree):
    """Nodes of a function's body, without those of functions inside of it."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from own_nodes(child)


def raised(tree):
    names = set()
    for node in own_nodes(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(call, ast.Name) and call.id[0].isupper():
                names.add(call.id)
    return names


def documented_error(name, text):
    """Whether an error, or a built-in one that it is a kind of, is named."""
    kinds = [kind.__name__ for kind in getattr(builtins, name, Exception).__mro__ if issubclass(kind, Exception)]
    return any(re.search(rf"\b{kind}\b", text) for kind in (name, *kinds) if kind != "Exception")


def returns_something(tree):
    return any(
        (isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None")
        or isinstance(node, ast.Yield | ast.YieldFrom)
        for node in own_nodes(tree)
    )


def faults(label, thing):
    doc = inspect.getdoc(thing)
    if not doc:
        return ["no docstring"]
    if isinstance(thing, property | cached_property):
        return [] if re.search(r"(?<!`)`[^`]+`(?!`)", doc) else ["no type"]
    parts, found = sections(doc), []
    if inspect.isclass(thing):
        return class_faults(thing, parts)
    tree = source_tree(thing)
    parameters = list(inspect.signature(thing).parameters)
    if parameters and parameters[0] in ("self", "cls"):
        parameters = parameters[1:]
    names = documented_names(parts.get("Parameters", ""))
    if sorted(names) != sorted(parameters):
        found.append(f"documents parameters {names}, has {parameters}")
    if bare := without_type(parts):
        found.append(f"no type of {bare}")
    if returns_something(tree) and not {"Returns", "Yields"} & parts.keys():
        found.append("no Returns")
    if missing := sorted(name for name in raised(tree) if not documented_error(name, parts.get("Raises", ""))):
        found.append(f"raises {missing}, not documented")
    if ">>>" not in parts.get("Examples", ""):
        found.append("no Examples")
    return found


def class_faults(cls, parts):
    found = []
    if ">>>" not in parts.get("Examples", "") and not issubclass(cls, Warning):
        found.append("no Examples")
    if (bare := without_type(parts)) and not issubclass(cls, Enum):
        found.append(f"no type of {bare}")
    if is_dataclass(cls) or hasattr(cls, "_fields"):
        expected = [f.name for f in fields(cls) if not f.name.startswith("_")] if is_dataclass(cls) else cls._fields
        names = documented_names(parts.get("Attributes", "") + parts.get("Parameters", ""))
        if missing := [name for name in expected if name not in names]:
            found.append(f"attributes {missing} not documented")
    elif "__init__" in vars(cls) and not issubclass(cls, Exception | Enum):
        parameters = list(inspect.signature(cls.__init__).parameters)[1:]
        if names := documented_names(parts.get("Parameters", "")):
            if names != parameters:
                found.append(f"documents parameters {names}, has {parameters}")
        elif parameters:
            found.append("no Parameters")
    return found


OBJECTS = public_objects()


@pytest.mark.parametrize("label", OBJECTS)
def test_docstring_is_complete(label):
    found = faults(label, OBJECTS[label])
    assert not found, f"{label}: {'; '.join(found)}"


@pytest.mark.parametrize("name", other_modules())
def test_other_modules_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__
    bare = [key for key in getattr(module, "__all__", ()) if not getattr(module, key).__doc__]
    assert not bare


def no_docs(x, y=1):
    return x


def good_docs(x):
    """
    Double.

    Parameters
    ----------
    x : `int`
        A number.

    Returns
    -------
    `int`
        Twice.

    Raises
    ------
    ValueError
        If negative.

    Examples
    --------
    >>> good_docs(1)
    2
    """
    if x < 0:
        raise ValueError
    return 2 * x


def test_test_sees_what_is_missing():
    assert faults("no_docs", no_docs) == ["no docstring"]
    assert faults("good_docs", good_docs) == []
    whole = good_docs.__doc__
    try:
        for lost, fault in {
            "    x : `int`\n": "documents parameters [], has ['x']",
            " : `int`": "no type of ['x']",
            "    Returns\n    -------\n    `int`\n        Twice.\n": "no Returns",
            "    ValueError\n": "raises ['ValueError'], not documented",
            "    >>> good_docs(1)\n": "no Examples",
        }.items():
            assert lost in whole
            good_docs.__doc__ = whole.replace(lost, "")
            assert faults("good_docs", good_docs) == [fault], lost
    finally:
        good_docs.__doc__ = whole
