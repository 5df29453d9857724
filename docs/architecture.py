"""
The architecture of the package: the plan in ``architecture.toml``, and the facts of the source.

Sphinx draws it by the directive ``architecture``, and ``tests/package/test_architecture.py`` compares the two.
"""

import ast
import re
import tomllib
from pathlib import Path

PLAN = Path(__file__).with_name("architecture.toml")
PACKAGE = Path(__file__).parents[1] / "esis_ndcube"


def read_plan(path=PLAN):
    """The plan: ``layers`` and ``function_level`` as the file has them."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def rooms_of(plan):
    """All rooms in order."""
    return [room for layer in plan["layers"] for room in layer["rooms"]]


def find_modules(package=PACKAGE):
    """The source file of each module, by its dotted name."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def room_of(module):
    """The room of a module; the package's own ``__init__.py`` is a room of its name."""
    return [*module.split(".")[1:2], module][0]


def find_imports(package=PACKAGE):
    """Triples (importer, imported, whether in a function): dotted names of modules, and of packages of others."""
    modules = find_modules(package)
    return {
        (module, _longest(name, modules) or name, within)
        for module, path in modules.items()
        for name, within in _imported(ast.parse(path.read_text(encoding="utf-8")))
    }


def _imported(node, in_function=False):
    """Dotted names that a tree imports, and whether in a function."""
    for child in ast.iter_child_nodes(node):
        within = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            yield from ((alias.name, within) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield from ((f"{child.module}.{alias.name}", within) for alias in child.names)
        yield from _imported(child, within)


def _longest(name, modules):
    """The module that a dotted name is, or is in."""
    parts = name.split(".")
    return next((found for n in range(len(parts), 0, -1) if (found := ".".join(parts[:n])) in modules), None)


def find_faults(plan, package=PACKAGE):
    """Deviations of the source from the plan, a sentence for each fault."""
    order = {room: place for place, room in enumerate(rooms_of(plan))}
    modules = find_modules(package)
    found = {room_of(module) for module in modules}
    faults = [f"room {room} has no place in architecture.toml" for room in sorted(found - order.keys())]
    faults += [f"architecture.toml has a room {room} that is not there" for room in sorted(order.keys() - found)]
    if faults:
        return faults
    imports = find_imports(package)
    own = {(one, other) for one, other, _ in imports if other in modules and one != other}
    rooms = {(room_of(one), room_of(other)) for one, other in own}
    faults = [f"{one} imports {other}, which comes later" for one, other in rooms if order[one] < order[other]]
    faults += [f"{' and '.join(circle)} import each other" for circle in find_circles(own)]
    slow = find_slow(plan, imports)
    for one, other, within in imports:
        if within and other not in slow:
            faults.append(f"{one} imports {other} in a function, and neither is slow or optional: do it at the top")
        if not within and other.split(".")[0] != package.name and other in slow and one == package.name:
            faults.append(f"{one} imports {other} at its top")
    return sorted(faults)


def find_circles(pairs):
    """Groups of modules that import each other, of pairs (importer, imported)."""
    after = {}
    for one, other in pairs:
        after.setdefault(one, set()).add(other)
    reach = {}
    for start in after:
        seen, todo = set(), [start]
        while todo:
            new = after.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        reach[start] = seen
    circles = {frozenset(x for x in reach[one] if one in reach.get(x, ())) for one in after if one in reach[one]}
    return sorted(sorted(circle) for circle in circles)


def find_slow(plan, imports):
    """Modules that may be imported in functions: packages of the plan, and modules that need one at their tops."""
    names = tuple(plan["function_level"])
    slow = {other for _, other, _ in imports if other in names or other.startswith(tuple(f"{name}." for name in names))}
    inside = {(one, one.rpartition(".")[0]) for imported in imports for one in imported[:2] if "." in one}
    needs = {(one, other) for one, other, within in imports if not within} | inside
    while more := {one for one, other in needs if other in slow} - slow:
        slow |= more
    return slow


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


def _function_level(plan):
    lines = [".. list-table::", "   :widths: 30 70", ""]
    for name, why in plan["function_level"].items():
        lines += [f"   * - ``{name}``", f"     - {why}"]
    return lines


def setup(app):
    """Make the directive known to Sphinx: it draws the ``diagram``, the ``rooms`` or the list ``function_level``."""
    # The tests that compare the plan with the imports do without docutils.
    from docutils import nodes
    from docutils.parsers.rst import Directive
    from docutils.statemachine import StringList

    class Architecture(Directive):
        required_arguments = 1

        def run(self):
            # Written as reStructuredText and parsed, so that names are links that Sphinx checks.
            lines = {"diagram": _diagram, "rooms": _rooms, "function_level": _function_level}[self.arguments[0]](
                read_plan()
            )
            self.state.document.settings.env.note_dependency(str(PLAN))
            node = nodes.container(classes=["architecture"])
            self.state.nested_parse(StringList(lines, source=str(PLAN)), self.content_offset, node)
            return [node]

    app.add_directive("architecture", Architecture)
    return {"parallel_read_safe": True}
