"""
Processor time of ``import esis_ndcube`` and of ``esis-ndcube --help``, beside that of the packages that they import.

Run it alone on the machine::

    python benchmarks/imports.py

Each command is a process of its own; they take turns, and the median of 7 is printed.
The compiled modules are kept, as those of an installed package are.
"""

import os
import resource
import statistics
import subprocess
import sys

TURNS = 7
COMMANDS = {
    "import ndcube": [sys.executable, "-c", "import ndcube"],
    "import ndcube, sunpy.map": [sys.executable, "-c", "import ndcube, sunpy.map"],
    "import esis_ndcube": [sys.executable, "-c", "import esis_ndcube"],
    "esis-ndcube --help": [sys.executable, "-c", "from esis_ndcube.cli import main; main(['--help'])"],
}


def processor_time(command):
    """Seconds of processor time of a process and of those that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    """Print the medians, and their ratios to the first."""
    times = {name: [] for name in COMMANDS}
    for turn in range(TURNS + 1):
        for name, command in COMMANDS.items():
            seconds = processor_time(command)
            if turn:  # the first fills the caches
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["import ndcube"]
    for name, median in medians.items():
        print(f"{name:26} {median:5.2f} s  {median / base:.2f}")


if __name__ == "__main__":
    main()
