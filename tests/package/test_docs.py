"""The documentation names what there is, and what it shows is tested."""

import ast
import functools
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

import sunpy.map

import esis_ndcube
from esis_ndcube import ESIS_1, ESIS_2
from esis_ndcube.cli import main

DOCS = Path(__file__).parents[2] / "docs"


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
    for heading, keys in keys_of_flight_file(tomllib.loads(ESIS_2.toml)).items():
        expected.setdefault(heading, set()).update(keys)
    assert {"pattern", "time"} <= expected["files"]
    assert keys_of_page((DOCS / "flight_file.rst").read_text()) == expected


def pages():
    """All pages that are written by hand, by the name that a table of contents has for them."""
    return {path.stem: path.read_text() for path in sorted(DOCS.glob("*.rst"))}


def test_every_page_is_in_the_contents():
    contents = set()
    for text in pages().values():
        for block in re.findall(r"\.\. toctree::\n((?:[ \t].*\n|\n)+)", text):
            contents |= {line.strip() for line in block.splitlines()}
    assert pages().keys() - {"index"} <= contents


NOT_RUN = re.compile(r"^ *\.\. not run: \w.+$", re.MULTILINE)
TEXTS = pages() | {name: (DOCS.parent / f"{name}.rst").read_text() for name in ("README", "CONTRIBUTING")}


@pytest.mark.parametrize("page", TEXTS)
def test_python_on_pages_is_run_or_says_why_not(page):
    text = TEXTS[page]
    blocks = re.findall(r"((?:.*\n){2})^\.\. code-block:: (?:python|pycon)\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    unmarked = [block for before, block in blocks if ">>>" not in block and not NOT_RUN.search(before)]
    assert not unmarked
    if re.search(r"doctest: \+(SKIP|REMOTE_DATA)|doctest-(skip|remote-data|requires)", text):
        assert NOT_RUN.search(text), "a page with examples that are not run has to say why: `.. not run: reason`"
    # Examples that run are shown as Python.
    assert "::\n\n    >>>" not in text


def commands():
    """Lines of shell on the pages that call our command."""
    for page, text in TEXTS.items():
        for block in re.findall(r"^ *\.\. code-block:: shell\n\n((?: +.*\n|\n)+)", text, re.MULTILINE):
            for line in block.splitlines():
                for command in re.split(r"&&|\|\|", line):
                    if match := re.search(r"(?:^|[\s/])esis-ndcube\s+(.*)", command):
                        yield page, match[1]


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_shell_on_pages_is_understood(page, line):
    name, *arguments = shlex.split(line, comments=True)
    if name == "--help":
        return
    command = main.commands[name]
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    with click.Context(command) as context:
        # Raises an error for options that the command does not know.
        values, left, _ = command.make_parser(context).parse_args(arguments)
    assert not left
    for parameter in command.params:
        value = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and value is not None:
            assert value in parameter.type.choices
        assert not (parameter.required and not value), f"{page}: {parameter.name} is missing"


def test_shell_of_other_tools_is_what_the_project_has():
    """Environments, extras and files that pages name."""
    pyproject = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    for page, text in TEXTS.items():
        for named in re.findall(r"pip install[^\n]*?\[([\w,]+)\]", text):
            assert set(named.split(",")) <= extras.keys(), page
        for script in re.findall(r"\b(?:benchmarks|tests)/[\w.]+\.\w+", text):
            assert (DOCS.parent / script).exists(), f"{page}: {script}"


VARIES = "\0"


def quoted_messages():
    """Messages that the page on troubleshooting quotes, each with the package that prints it."""
    text = (DOCS / "troubleshooting.rst").read_text()
    for message, cause in re.findall(r"^   \* - (``.+)\n     - (.+)$", text, re.MULTILINE):
        printer = sunpy.map if "A warning of sunpy" in cause else esis_ndcube
        for quote in re.findall(r"``(.+?)``", message):
            yield Path(printer.__file__).parent, quote


@functools.cache
def strings(package):
    """The strings of the modules in a folder, except docstrings, with a mark for each part that varies."""
    found = []
    for path in package.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else VARIES for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                found.append(node.value)
    return found


def test_quoted_messages_are_those_that_the_package_prints():
    messages = list(quoted_messages())
    assert messages
    unknown = []
    for package, quote in messages:
        pattern = re.compile(f".*{VARIES}.*".join(map(re.escape, quote.split("..."))))
        if not any(map(pattern.search, strings(package))):
            unknown.append(quote)
    assert not unknown
