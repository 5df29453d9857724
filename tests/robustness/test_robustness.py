"""A short selection of what tally.py tries; that of the command ``level3`` is in tests/test_cli.py."""

import sys

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("needs the processes, limits and /proc of Linux", allow_module_level=True)

from kills import kill_writers
from limits import limit
from mutants import READERS, mutate
from tally import TRIALS, render


def losses(trial, count, folder):
    """Losses in this many tries, or in a few more."""
    ends = list(trial(count, None, folder, np.random.default_rng(0)))
    assert len(ends) >= count
    return [end for end in ends if end is not None]


@pytest.mark.parametrize(("trial", "count"), [(kill_writers, 4), (limit, 4), (mutate, 4 * len(READERS))])
def test_nothing_is_lost_or_believed(trial, count, tmp_path):
    assert not losses(trial, count, tmp_path)


def test_losses_stand_in_the_table():
    assert "     - 3\n     - 1\n     - 2\n" in render({name: (3, 1.0, ["one", "two"]) for name in TRIALS})
