"""Bad inputs are refused: with the right class, with a message in three parts, in time and without much memory."""

import multiprocessing
import signal
import sys
import warnings
from pathlib import Path

import pytest
from bad_inputs import BAD, BYTES, SECONDS


def refusal(bad, path):
    """A fault in the way that an input is refused, or None."""
    with warnings.catch_warnings():
        # Some libraries warn before they give up.
        warnings.simplefilter("ignore")
        try:
            bad.read(path)
        except bad.error as error:
            missing = [word for word in bad.words if word not in str(error)]
            return f"{missing} not in {str(error)!r}" if missing else None
        except Exception as error:
            return f"got {type(error).__name__}: {error}, expected {bad.error.__name__}"
    return "it was believed"


@pytest.mark.parametrize("bad", [bad for bad in BAD if not bad.bomb], ids=lambda bad: bad.name)
def test_bad_input(bad, tmp_path):
    assert refusal(bad, bad.make(tmp_path)) is None


def under_limits(paths, results):
    """Try bombs in a process of its own, each with a limit of time, all with one of memory."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    for bad, path in paths:
        # Ends the process also in the midst of compiled code.
        signal.alarm(SECONDS)
        results.send((bad.name, refusal(bad, path)))
        signal.alarm(0)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_bombs(tmp_path):
    left = []
    for number, bad in enumerate(bad for bad in BAD if bad.bomb):
        folder = tmp_path / str(number)
        folder.mkdir()
        left.append((bad, bad.make(folder)))
    problems = {}
    while left:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=under_limits, args=(left, sender))
        process.start()
        sender.close()
        try:
            while left:
                name, problem = receiver.recv()
                problems |= {name: problem} if problem else {}
                left.pop(0)
        except EOFError:
            problems[left.pop(0)[0].name] = f"it took more than {SECONDS} s, or too much memory"
        process.join()
    assert problems == {}
