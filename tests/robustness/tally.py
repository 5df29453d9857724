"""
Kill, starve and deceive the package, and count what is lost.

``python tests/robustness/tally.py`` tries everything, or what is named, and prints the table of results and what was
lost; with ``--write`` it also writes docs/robustness_table.inc.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]

from faults import fault_clusters  # noqa: E402
from flights import SimulatedFolder  # noqa: E402
from kills import kill_level3, kill_writers  # noqa: E402
from limits import limit  # noqa: E402
from mutants import mutate  # noqa: E402
from soak import soak  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "robustness_table.inc"
SEED = 20190930


def refuse_inputs(count, flight, folder, rng):
    """Read every bad input; yields what was believed, or refused in other words, or None."""
    from bad_inputs import BAD

    for number, bad in enumerate(BAD):
        place = folder / f"bad{number}"
        place.mkdir()
        yield _refuse(bad, place)


def _refuse(bad, place):
    try:
        bad.read(bad.make(place))
    except Exception as error:
        lacking = [word for word in bad.words if word not in str(error)]
        if isinstance(error, bad.error) and not lacking:
            return None
        return f"{bad.name}: {type(error).__name__}: {error}; it lacks {lacking}"
    return f"{bad.name}: it was believed"


# The trials: name, number of tries, and function.
TRIALS = {
    "level3": ("Kills of the command ``level3``", 50, kill_level3),
    "writers": ("Kills of other writers", 50, kill_writers),
    "limits": ("Limits of files, handles, memory and disk", 20, limit),
    "cluster": ("Faults of a cluster", 20, fault_clusters),
    "inputs": ("Bad inputs", 120, refuse_inputs),
    "mutants": ("Files with changed bytes", 10_000, mutate),
    "soak": ("Lazy exposures", 1000, soak),
}


def try_one(name, share=1.0):
    """Tries, seconds and losses of a trial, of a share of the usual number of tries."""
    _, count, function = TRIALS[name]
    with tempfile.TemporaryDirectory() as folder:
        flight = SimulatedFolder(
            _folder(folder, "flight"), size=5, n_exposures=2, n_darks=2, missing=False, blank=False
        )
        begin, rng = time.monotonic(), np.random.default_rng(SEED)
        ends = list(function(int(np.ceil(share * count)), flight, _folder(folder, name), rng))
    lost = [end for end in ends if end is not None]
    sys.stderr.write(f"{name}: {len(ends)} tried, {len(lost)} lost\n")
    return len(ends), time.monotonic() - begin, lost


def try_all(names, share=1.0):
    """The same of each trial, by its name, each in a process of its own and two at a time."""

    def start(name):
        command = [sys.executable, __file__, name, "--share", str(share), "--json"]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(start, names), strict=True))


def _folder(*parts):
    folder = Path(*parts)
    folder.mkdir()
    return folder


def render(results):
    """The table of the documentation."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    rows = [("What was tried", "Tried", "Survived", "Lost", "Seconds")]
    for name, (tried, seconds, lost) in results.items():
        rows.append((TRIALS[name][0], tried, tried - len(lost), len(lost), round(seconds)))
    for row in rows:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TRIALS)}; by default all of them")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--share", type=float, default=1.0, help="part of the usual number of tries")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    # Started by nohup, or in the background, the command that is to be ended would ignore them.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments.json:
        json.dump(try_one(*arguments.names, arguments.share), sys.stdout)
        return
    results = try_all(arguments.names or TRIALS, arguments.share)
    page = render(results)
    sys.stdout.write(page)
    for _, _, lost in results.values():
        sys.stdout.writelines(f"{problem}\n" for problem in lost)
    if arguments.write:
        PAGE.write_text(page)
    sys.exit(any(lost for _, _, lost in results.values()))


if __name__ == "__main__":
    main()
