"""The documentation names what there is."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from esis_ndcube import ESIS_1

DOCS = Path(__file__).parents[1] / "docs"


def keys_of_flight_file(table, name=""):
    """The keys of each table of a flight file, by the table's heading."""
    keys = {name: {key for key, value in table.items() if not isinstance(value, dict) and not _is_tables(value)}}
    for key, value in table.items():
        inner = f"{name}.{key}".lstrip(".")
        for part in [value] if isinstance(value, dict) else value if _is_tables(value) else ():
            for heading, found in keys_of_flight_file(part, inner).items():
                keys.setdefault(heading, set()).update(found)
    return keys


def _is_tables(value):
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def keys_of_page(text):
    """The first column of the tables of the page, by the heading above."""
    keys, heading = {}, ""
    for line in text.splitlines():
        if match := re.fullmatch(r"``\[+([\w.]+)\]+``", line):
            heading = match[1]
        elif match := re.match(r" +\* - ``(\w+)``$", line):
            keys.setdefault(heading, set()).add(match[1])
    return keys


def test_flight_file_page_has_every_key_and_no_other():
    expected = keys_of_flight_file(tomllib.loads(ESIS_1.toml))
    assert {"pattern", "time"} <= expected["files"]
    assert keys_of_page((DOCS / "flight_file.rst").read_text()) == expected


def documented_modules():
    return re.findall(r"automodapi:: ([\w.]+)", (DOCS / "reference.rst").read_text())


@pytest.mark.parametrize("name", documented_modules())
def test_public_objects_have_an_example(name):
    module = importlib.import_module(name)
    assert module.__doc__
    undocumented = [
        key
        for key in module.__all__
        if callable(getattr(module, key)) and ">>>" not in (getattr(module, key).__doc__ or "")
    ]
    assert not undocumented


def test_every_page_is_in_the_contents():
    pages = {path.stem for path in DOCS.glob("*.rst")} - {"index"}
    assert pages <= {line.strip() for line in (DOCS / "index.rst").read_text().splitlines()}
