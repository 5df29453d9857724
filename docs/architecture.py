"""
The architecture of the package: what it should be, from ``architecture.toml``, and what it is, from its source.

Sphinx draws it by the directive ``architecture``, and ``tests/test_architecture.py`` compares the two.
"""

import ast
import re
import tomllib
from pathlib import Path

PLAN = Path(__file__).with_name("architecture.toml")
PACKAGE = Path(__file__).parents[1] / "esis_ndcube"


def read_plan(path=PLAN):
    """The plan: ``layers`` and ``facade`` as the file has them."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def rooms_of(plan):
    """All rooms in order."""
    return [room for layer in plan["layers"] for room in layer["rooms"]]


def facade_of(plan):
    """Allowed imports against the order, as pairs of rooms."""
    return {(entry["from"], room) for entry in plan["facade"] for room in entry["to"]}


def find_rooms(package=PACKAGE):
    """The source files of each room; the package's own ``__init__.py`` is a room of its name."""
    rooms = {package.name: [package / "__init__.py"]}
    for path in sorted(package.iterdir()):
        if path.suffix == ".py" and path.stem not in ("__init__", "_version"):
            rooms[path.stem] = [path]
        elif (path / "__init__.py").exists() and (files := sorted(path.rglob("*.py"))):
            rooms[path.name] = files
    return {name: files for name, files in rooms.items() if name != "flights"}


def find_imports(package=PACKAGE):
    """Pairs of rooms (importer, imported): those at the top of modules, and those inside of functions."""
    rooms = find_rooms(package)
    top, inside = set(), set()
    for room, files in rooms.items():
        for path in files:
            for name, in_function in _imported(ast.parse(path.read_text(encoding="utf-8"))):
                target = _room(name, package.name, rooms)
                if target is not None and target != room:
                    (inside if in_function else top).add((room, target))
    return top, inside


def _imported(node, in_function=False):
    """Dotted names that a tree imports, and whether in a function."""
    for child in ast.iter_child_nodes(node):
        within = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            yield from ((alias.name, within) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield from ((f"{child.module}.{alias.name}", within) for alias in child.names)
        yield from _imported(child, within)


def _room(name, package, rooms):
    first, *rest = name.split(".")
    if first != package:
        return None
    return rest[0] if rest and rest[0] in rooms else package


def find_faults(plan, package=PACKAGE):
    """What of the source is not as planned, a sentence for each fault."""
    order = {room: place for place, room in enumerate(rooms_of(plan))}
    found = find_rooms(package)
    faults = [f"room {room} has no place in architecture.toml" for room in sorted(found.keys() - order.keys())]
    faults += [f"architecture.toml has a room {room} that is not there" for room in sorted(order.keys() - found.keys())]
    if faults:
        return faults
    top, inside = find_imports(package)
    allowed = facade_of(plan)
    for one, other in sorted(top):
        if order[one] < order[other]:
            faults.append(f"{one} imports {other}, which comes later")
    upward = {(one, other) for one, other in inside if order[one] < order[other]}
    faults += [f"{one} imports {other}, which comes later, in a function: no facade" for one, other in upward - allowed]
    faults += [f"facade of {one} for {other} is not there" for one, other in allowed - upward]
    return sorted(faults)


def job(room, package=PACKAGE):
    """The first line of a room's docstring: its one job."""
    path = package / "__init__.py" if room == package.name else package / room / "__init__.py"
    path = path if path.exists() else package / f"{room}.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]


def _link(room):
    """A link to a room's reference, if it has one."""
    reference = PLAN.with_name("reference.rst").read_text(encoding="utf-8")
    name = f"{PACKAGE.name}.{room}"
    return f":py:mod:`{room} <{name}>`" if f"automodapi:: {name}\n" in reference else f"``{room}``"


def _diagram(plan):
    lines = []
    for layer in plan["layers"]:
        links = " ".join(_link(room) for room in layer["rooms"])
        lines += [".. container:: layer", "", f"   **{layer['title']}**", "", f"   {links}", ""]
    return lines


def _rooms(plan):
    lines = [".. list-table::", "   :widths: 25 75", ""]
    for layer in plan["layers"]:
        lines += [f"   * - **{layer['title']}**", f"     - *{layer['about']}*"]
        for room in layer["rooms"]:
            lines += [f"   * - {_link(room)}", f"     - {re.sub('`+', '``', job(room))}"]
    return lines


def _facade(plan):
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 20 25 55", ""]
    lines += ["   * - Room", "     - imports", "     - because"]
    for entry in plan["facade"]:
        links = ", ".join(_link(room) for room in entry["to"])
        lines += [f"   * - {_link(entry['from'])}", f"     - {links}", f"     - {entry['why']}"]
    return lines


def setup(app):
    """Make the directive known to Sphinx: it draws the ``diagram``, the ``rooms`` or the ``facade``."""
    # The tests that compare the plan with the imports do without docutils.
    from docutils import nodes
    from docutils.parsers.rst import Directive
    from docutils.statemachine import StringList

    class Architecture(Directive):
        required_arguments = 1

        def run(self):
            # Written as reStructuredText and parsed, so that names are links that Sphinx checks.
            lines = {"diagram": _diagram, "rooms": _rooms, "facade": _facade}[self.arguments[0]](read_plan())
            self.state.document.settings.env.note_dependency(str(PLAN))
            node = nodes.container(classes=["architecture"])
            self.state.nested_parse(StringList(lines, source=str(PLAN)), self.content_offset, node)
            return [node]

    app.add_directive("architecture", Architecture)
    return {"parallel_read_safe": True}
