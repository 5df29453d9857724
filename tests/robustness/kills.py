"""Kill processes at any time, and look whether a file is lost or half."""

import shutil
import signal
import subprocess
import sys
import time
from itertools import cycle, islice

from helpers import assert_cubes_equal
from trial import run_alone
from writers import WRITERS, check, expect, write

from esis_ndcube import ESISLevel3Cube

PRECIOUS = b"an older file"


def kill_writers(count, flight, folder, rng):
    """Kill processes that write files; yields what was lost of each, or None."""
    seconds = {}
    for number, name in enumerate(islice(cycle(WRITERS), count)):
        path = folder / str(number) / name
        path.parent.mkdir()
        if name not in seconds:
            # Once for what is compiled and imported at first use.
            seconds[name] = run_alone(write, name, path).seconds
            path.unlink() if path.is_file() else shutil.rmtree(path)
        old = "." in name and rng.random() < 0.5
        code = None
        # A kill that comes too late is none.
        while code != -signal.SIGKILL:
            if old:
                path.write_bytes(PRECIOUS)
            code = run_alone(write, name, path, kill_after=rng.random() * seconds[name]).code
        yield find_loss(name, path, old)


def find_loss(name, path, old):
    """A fault of the files that a killed process left, or of the next process's files, or None."""
    try:
        expect(path.exists() or not old, "the older file is gone")
        if path.exists() and not (old and path.read_bytes() == PRECIOUS):
            check(name, path)
        left = {each.name for each in path.parent.iterdir() if each != path}
        # The archive is of the folder.
        expect(left <= {f"{name}.part", "packed", "packed.part"}, f"it left {left}")
        ending = run_alone(write, name, path)
        expect(ending.code == 0 and ending.error is None, f"the next process failed: {ending}")
        check(name, path)
        left = [each.name for each in path.parent.iterdir() if each.suffix == ".part"]
        expect(not left, f"the next process left {left}")
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}"
    return None


COMMAND = "from esis_ndcube.cli import main; main(windows_expand_args=False)"
SIGNALS = signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT


def kill_level3(count, flight, folder, rng):
    """Kill and end the command ``level3`` in the midst of its work; yields what was lost of each, or None."""
    path = folder / "l3.fits"
    flight = flight.path
    # Once for what is compiled at first use.
    for _ in range(2):
        path.unlink(missing_ok=True)
        process = start_level3(flight, path)
        begin = time.perf_counter()
        while process.poll() is None and not has_ended(path):
            time.sleep(0.005)
        seconds = time.perf_counter() - begin
        expect(process.wait() == 0, "it failed")
    whole = ESISLevel3Cube.read(path)
    for _ in range(count):
        number, old = SIGNALS[rng.integers(len(SIGNALS))], rng.random() < 0.5
        late = True
        # A signal that comes when the work has ended, while Python tidies up, is none.
        while late:
            path.unlink(missing_ok=True)
            if old:
                path.write_bytes(PRECIOUS)
            process = start_level3(flight, path)
            time.sleep(rng.random() * seconds)
            process.send_signal(number)
            code = process.wait()
            late = code == 0 or (code == -number != -signal.SIGKILL and has_ended(path))
        yield find_loss_of_level3(path, old, number, code, whole)
    # The next command that ends well removes the folders that killed commands left.
    code = start_level3(flight, path).wait()
    if problem := find_loss_of_level3(path, False, 0, code, whole):
        yield problem


def has_ended(path):
    """Whether the file is new and its folder of parts is gone."""
    new = path.exists() and path.stat().st_size != len(PRECIOUS)
    return new and not path.with_name(f"{path.name}.part").exists()


def start_level3(flight, path):
    """The process of the command, when it has begun to write."""
    words = ["level3", flight / "raw", "-r", flight / "reference", "--flight", flight / "flight.toml", "-o", path]
    part = path.with_name(f"{path.name}.part")
    before = part.stat() if part.exists() else None
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words, "--overwrite"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # The import takes seconds, in which there is nothing to lose.
    while process.poll() is None and (not part.exists() or part.stat() == before):
        time.sleep(0.005)
    return process


def find_loss_of_level3(path, old, number, code, whole):
    """A fault of the files that the command left when a signal ended it, or None."""
    try:
        killed = number == signal.SIGKILL
        expect(code == (-number if killed else number and 128 + number), f"its exit code is {code}")
        expect(path.exists() or not old, "the older file is gone")
        if path.exists() and not (old and path.read_bytes() == PRECIOUS):
            assert_cubes_equal(ESISLevel3Cube.read(path), whole)
        left = [each.name for each in path.parent.iterdir() if each != path]
        expect(left == [] or (killed and left == [f"{path.name}.part"]), f"it left {left}")
    except Exception as error:
        return f"level3, signal {number}: {type(error).__name__}: {error}"
    return None
