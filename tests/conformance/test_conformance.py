"""A short selection of our parents' own tests, run on our classes; run.py runs all of them."""

from types import SimpleNamespace

import pytest
from run import run
from swap import KINDS, SUITES, Judge, known_versions, read_reasons


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.short])
@pytest.mark.slow
def test_parents_tests_pass_on_ours(name, tmp_path):
    suite = SUITES[name]
    if suite.version not in known_versions(name):
        known = ", ".join(known_versions(name))
        pytest.skip(f"reasons.toml knows {suite.package} {known}, and {suite.version} is installed")
    code, printed, counts = run(name, suite.short, folder=tmp_path)
    assert code == 0, printed
    assert counts["passed"] > 10


FILE = "astropy/nddata/tests/test_nddata.py"


@pytest.mark.slow
def test_the_run_fails_where_the_reasons_are_not_right(tmp_path):
    """A test that fails without a reason, as ours can be sliced, and one with a reason that passes."""
    reasons = tmp_path / "reasons.toml"
    tests = [f"{FILE}::test_arithmetic_not_supported"]
    reasons.write_text(f"[['astropy.nddata'.'0']]\nkind = 'not applicable'\nwhy = 'It is so.'\ntests = {tests}\n")
    selected = ["astropy.nddata.tests.test_nddata", "-k", "not_supported"]
    code, printed, counts = run("astropy.nddata", selected, f"--reasons={reasons}", folder=tmp_path)
    assert code
    assert counts == {"failed": 2}
    assert "test_slicing_not_supported" in printed
    assert "XPASS(strict)" in printed


def test_tests_with_a_reason_that_are_gone_are_named():
    entries = [{"kind": "not applicable", "why": "It is so.", "tests": [f"{FILE}::test_gone"]}]
    with pytest.raises(pytest.UsageError, match=r"no longer there.*test_gone"):
        Judge(entries, None).pytest_collection_modifyitems([SimpleNamespace(nodeid=f"{FILE}::test_there")])


@pytest.mark.parametrize("name", SUITES)
def test_reasons_are_of_a_kind_and_stand_once(name):
    tests = [test for entry in read_reasons(name) for test in entry["tests"]]
    assert len(tests) == len(set(tests))
    for entry in read_reasons(name):
        assert set(entry) == {"kind", "why", "tests"}
        assert entry["kind"] in KINDS
        assert entry["why"].endswith(".")
