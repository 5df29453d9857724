"""
Run the installed tests of our parents on our classes, and report the tests that do not pass.

``python tests/conformance/run.py`` runs all of them, or those that are named, and prints the table of results;
with ``--write`` it also writes docs/conformance_table.inc.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from swap import KINDS, SUITES, read_reasons  # noqa: E402

# Imports take most of the time of a short run: all runs are forked from one process that has done them.
FORK = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn")
FORK.set_forkserver_preload(["pytest", "esis_ndcube.level3.map", "sunpy.map"])

PAGE = HERE.parents[1] / "docs" / "conformance_table.inc"


def run(name, tests, *options, folder):
    """Run tests of one suite in a process and a folder of their own; its exit code, what it prints, and its counts."""
    root = Path(find_spec(SUITES[name].package).origin).parents[1]
    tally, output = (Path(folder) / name for name in ("tally.json", "output.txt"))
    command = ["-p", "swap", f"--swap={name}", f"--tally={tally}"]
    command += ["-c", str(HERE / "parents.ini"), f"--rootdir={root}", "-p", "no:cacheprovider", "-n0", "-q", "-rfE"]
    # Warnings of other packages about each other are not ours to mend.
    command += ["--tb=short", "-W", "default", "--disable-warnings", *options]
    command += [*(f"--deselect={test}" for test in SUITES[name].without), "--pyargs", *tests]
    process = FORK.Process(target=_run, args=(command, folder, output))
    process.start()
    process.join()
    counts = json.loads(tally.read_text()) if tally.exists() else {}
    return process.exitcode, output.read_text(), counts


def _run(command, folder, output):
    os.chdir(folder)
    os.environ["MPLBACKEND"] = "agg"
    with output.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
        sys.exit(pytest.main(command))


def render(results):
    """The table of the documentation, and below it every reason."""
    columns = ["Ours", "For", "Tests of", "Passed", *(kind.capitalize() for kind in KINDS), "Failed", "Skipped"]
    rows = [columns]
    for name, counts in results.items():
        suite = SUITES[name]
        numbers = [counts.get(key, 0) for key in ("passed", *KINDS, "failed", "skipped")]
        rows.append([f"``{suite.subject}``", f"``{suite.parent}``", f"{name} {suite.version}", *map(str, numbers)])
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    for name in results:
        lines += ["", name, "=" * len(name), ""]
        entries = read_reasons(name)
        if not entries:
            lines.append("No test needs a reason.")
        for entry in entries:
            count = len(entry["tests"])
            tests = "1 line" if count == 1 else f"{count} lines"
            lines += [f"* {entry['kind'].capitalize()} ({tests}): {entry['why']}"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SUITES)}; by default all of them")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    results, failed = {}, False
    for name in arguments.names or SUITES:
        with tempfile.TemporaryDirectory() as folder:
            code, printed, results[name] = run(name, SUITES[name].tests, folder=folder)
        if code:
            failed = True
            sys.stdout.write(printed)
    page = render(results)
    sys.stdout.write(page)
    if arguments.write:
        PAGE.write_text(page)
    sys.exit(failed)


if __name__ == "__main__":
    main()
