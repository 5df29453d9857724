"""A short selection of our parents' own tests, run on our classes; run.py runs all of them."""

import pytest
from run import run
from swap import KINDS, SUITES, known_versions, read_reasons


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.short])
@pytest.mark.slow
def test_parents_tests_pass_on_ours(name, tmp_path):
    suite = SUITES[name]
    if suite.version not in known_versions(name):
        known = ", ".join(known_versions(name))
        pytest.skip(f"reasons.toml knows {suite.package} {known}, and {suite.version} is installed")
    done, counts = run(name, suite.short, folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert counts["passed"] > 10


FILE = "astropy/nddata/tests/test_nddata.py"


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        # NDData does not slice, and does not add.
        ([], "test_slicing_not_supported"),
        (["test_slicing_not_supported", "test_arithmetic_not_supported"], "XPASS(strict)"),
        (["test_slicing_not_supported", "test_gone"], "test_gone"),
    ],
)
@pytest.mark.slow
def test_the_run_fails_where_the_reasons_are_not_right(expected, words, tmp_path):
    reasons = tmp_path / "reasons.toml"
    tests = [f"{FILE}::{name}" for name in expected]
    reasons.write_text(f"[['astropy.nddata'.'0']]\nkind = 'not applicable'\nwhy = 'It is so.'\ntests = {tests}\n")
    selected = ["astropy.nddata.tests.test_nddata", "-k", "not_supported"]
    done, _ = run("astropy.nddata", selected, f"--reasons={reasons}", folder=tmp_path)
    assert done.returncode
    assert words in done.stdout


@pytest.mark.parametrize("name", SUITES)
def test_reasons_are_of_a_kind_and_stand_once(name):
    tests = [test for entry in read_reasons(name) for test in entry["tests"]]
    assert len(tests) == len(set(tests))
    for entry in read_reasons(name):
        assert set(entry) == {"kind", "why", "tests"}
        assert entry["kind"] in KINDS
        assert entry["why"].endswith(".")
