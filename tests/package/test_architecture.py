"""Imports point one way, as the plan in docs/architecture.toml says."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


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


PLAN = {"layers": [{"rooms": ["a", "b"]}, {"rooms": ["c", "pkg"]}], "function_level": {"numba": "slow"}}


def test_right_way_has_no_faults(package):
    assert architecture.find_faults(PLAN, package) == []
    pairs = {(one, other) for one, other, _ in architecture.find_imports(package) if other.startswith("pkg")}
    assert pairs == {
        ("pkg", "pkg.c.inner"),
        ("pkg.b", "pkg.a"),
        ("pkg.c.inner", "pkg.a"),
        ("pkg.c.inner", "pkg.b"),
        ("pkg.c.inner", "pkg.c.other"),
    }


@pytest.mark.parametrize("place", ["{}", "if True:\n    {}", "class A:\n    {}"])
@pytest.mark.parametrize(
    "wrong", ["from pkg.c import inner", "import pkg.c.inner", "import math, pkg.c as later", "from pkg import c"]
)
def test_wrong_way_is_a_fault(package, wrong, place):
    (package / "a.py").write_text(place.format(wrong) + "\n")
    assert "a imports c, which comes later" in architecture.find_faults(PLAN, package)


@pytest.mark.parametrize(
    "place", ["def f():\n    {}", "class A:\n    def f(self):\n        {}", "async def f():\n    {}"]
)
def test_wrong_way_in_a_function_is_a_fault(package, place):
    (package / "a.py").write_text(place.format("from pkg.c.inner import math") + "\n")
    faults = architecture.find_faults(PLAN, package)
    assert "a imports c, which comes later" in faults
    # A slow package inside does not excuse it.
    (package / "c" / "inner.py").write_text("import numba\n")
    assert "a imports c, which comes later" in architecture.find_faults(PLAN, package)


def test_wrong_way_within_a_layer_is_a_fault(package):
    (package / "a.py").write_text("from pkg.b import math\n")
    assert "a imports b, which comes later" in architecture.find_faults(PLAN, package)


def test_import_of_the_whole_package_is_a_fault(package):
    (package / "b.py").write_text("from pkg import inner\n")
    assert "b imports pkg, which comes later" in architecture.find_faults(PLAN, package)


def test_circle_within_a_room_is_a_fault(package):
    (package / "c" / "other.py").write_text("from pkg.c.inner import math\n")
    assert architecture.find_faults(PLAN, package) == ["pkg.c.inner and pkg.c.other import each other"]


def test_imports_in_functions_are_of_slow_packages(package):
    text = "def f():\n    import numba\n    from numba.core import types\n"
    (package / "a.py").write_text(text)
    assert architecture.find_faults(PLAN, package) == []
    (package / "a.py").write_text(text + "    import math\n")
    (fault,) = architecture.find_faults(PLAN, package)
    assert fault == "pkg.a imports math in a function, and neither is slow or optional: do it at the top"
    # Or of modules that import one.
    (package / "a.py").write_text("import numba\n")
    (package / "b.py").write_text("def f():\n    from pkg import a\n")
    assert architecture.find_faults(PLAN, package) == []
    (package / "a.py").write_text("import math\n")
    (fault,) = architecture.find_faults(PLAN, package)
    assert fault == "pkg.b imports pkg.a in a function, and neither is slow or optional: do it at the top"
    # Or of modules whose package imports one.
    (package / "b.py").write_text("")
    (package / "c" / "__init__.py").write_text("import numba\n")
    (package / "pkg.py").write_text("def f():\n    from pkg.c import inner\n")
    assert architecture.find_faults(PLAN, package) == []
    (package / "c" / "__init__.py").write_text("")
    (fault,) = architecture.find_faults(PLAN, package)
    assert fault == "pkg.pkg imports pkg.c.inner in a function, and neither is slow or optional: do it at the top"


def test_root_is_small():
    entries = [path for path in architecture.PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20
    assert not [path.name for path in entries if path.name.startswith("_") and path.name != "__init__.py"]


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


@pytest.mark.slow
def test_real_module_that_is_turned_round_is_a_fault(tmp_path):
    import shutil

    copy = shutil.copytree(architecture.PACKAGE, tmp_path / "esis_ndcube", ignore=shutil.ignore_patterns("*.pyc"))
    path = copy / "flags.py"
    path.write_text("from esis_ndcube.report import write_report\n" + path.read_text())
    faults = architecture.find_faults(architecture.read_plan(), copy)
    assert "flags imports report, which comes later" in faults


def test_one_module_touches_the_coordinates_of_ndcube():
    private = re.compile(r"\._(internal_coords|global_coords|extra_coords|lookup_tables|dropped_tables)\b")
    found = {name for name, path in architecture.find_modules().items() if private.search(path.read_text())}
    assert found == {"esis_ndcube.wcs._coordinates"}
