"""Imports point one way, as the plan in docs/architecture.toml says."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def load():
    spec = importlib.util.spec_from_file_location("architecture", DOCS / "architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


architecture = load()


def test_package_is_as_planned():
    faults = architecture.find_faults(architecture.read_plan())
    assert not faults, "\n".join(["see docs/architecture.toml:", *faults])


@pytest.fixture
def package(tmp_path):
    """A package of three rooms, in order."""
    root = tmp_path / "pkg"
    (root / "c").mkdir(parents=True)
    (root / "__init__.py").write_text("from pkg.c import inner\n")
    (root / "a.py").write_text("import math\n")
    (root / "b.py").write_text("from pkg import a\n")
    (root / "c" / "__init__.py").write_text("")
    (root / "c" / "inner.py").write_text("import pkg.b\nfrom pkg.a import math\nfrom pkg.c import other\n")
    (root / "c" / "other.py").write_text("")
    return root


PLAN = {"layers": [{"rooms": ["a", "b"]}, {"rooms": ["c", "pkg"]}], "facade": []}


def test_right_way_has_no_faults(package):
    assert architecture.find_faults(PLAN, package) == []
    assert architecture.find_imports(package)[0] == {("b", "a"), ("c", "a"), ("c", "b"), ("pkg", "c")}


@pytest.mark.parametrize(
    "wrong",
    [
        "from pkg.c import inner",
        "import pkg.c.inner",
        "import math, pkg.c as later",
        "from pkg import c",
        "if True:\n    from pkg.c.inner import math",
        "class A:\n    from pkg import c",
    ],
)
def test_wrong_way_is_a_fault(package, wrong):
    (package / "a.py").write_text(f"{wrong}\n")
    assert architecture.find_faults(PLAN, package) == ["a imports c, which comes later"]


def test_wrong_way_within_a_layer_is_a_fault(package):
    (package / "a.py").write_text("from pkg.b import a\n")
    assert architecture.find_faults(PLAN, package) == ["a imports b, which comes later"]


def test_import_of_the_whole_package_is_a_fault(package):
    (package / "b.py").write_text("from pkg import inner\n")
    assert architecture.find_faults(PLAN, package) == ["b imports pkg, which comes later"]


def test_facade_is_needed_inside_of_functions_and_must_be_used(package):
    plan = {**PLAN, "facade": [{"from": "a", "to": ["c"]}]}
    assert architecture.find_faults(plan, package) == ["facade of a for c is not there"]
    (package / "a.py").write_text("class A:\n    def f(self):\n        from pkg.c import inner\n")
    assert architecture.find_faults(plan, package) == []
    assert architecture.find_faults(PLAN, package) == ["a imports c, which comes later, in a function: no facade"]
    # At the top of a module no facade helps.
    (package / "a.py").write_text("from pkg.c import inner\ndef f():\n    from pkg.c import inner\n")
    assert architecture.find_faults(plan, package) == ["a imports c, which comes later"]


def test_every_room_has_a_place(package):
    (package / "d.py").write_text("")
    assert architecture.find_faults(PLAN, package) == ["room d has no place in architecture.toml"]
    (package / "d.py").unlink()
    (package / "b.py").unlink()
    assert architecture.find_faults(PLAN, package) == ["architecture.toml has a room b that is not there"]


def test_relative_imports_do_not_hide(package):
    # ruff bans them; the walk would not see them.
    pyproject = (DOCS.parent / "pyproject.toml").read_text()
    assert 'ban-relative-imports = "all"' in pyproject
    assert '"TID"' in pyproject


def test_real_module_that_is_turned_round_is_a_fault(tmp_path):
    import shutil

    copy = shutil.copytree(architecture.PACKAGE, tmp_path / "esis_ndcube", ignore=shutil.ignore_patterns("*.pyc"))
    path = copy / "flags.py"
    path.write_text("from esis_ndcube.report import write_report\n" + path.read_text())
    faults = set(architecture.find_faults(architecture.read_plan(), copy))
    assert faults - set(architecture.find_faults(architecture.read_plan())) == {
        "flags imports report, which comes later"
    }
