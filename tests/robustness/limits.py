"""Let files, memory and handles come to an end."""

import contextlib
import os
import signal
import subprocess
from itertools import cycle, islice

from kills import PRECIOUS
from trial import run_alone
from writers import WRITERS, check, expect, write

FILES = [name for name in WRITERS if "." in name and name != "images.tar"]


def limit(count, flight, folder, rng):
    """Write files under limits; yields what was lost each time, or None."""
    kinds = cycle(["RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_AS", "disk"])
    for number, (kind, name) in enumerate(islice(zip(kinds, cycle(FILES), strict=False), count)):
        with _place(folder / str(number), kind) as place:
            if place is not None:
                yield _write(kind, name, place / name, rng)


@contextlib.contextmanager
def _place(folder, kind):
    """A folder, for ``disk`` on a small disk of its own where the system lets us make one."""
    folder.mkdir()
    small = kind == "disk" and os.geteuid() == 0
    if small:
        command = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", folder]
        small = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield folder
    finally:
        if small:
            subprocess.run(["umount", folder], check=True)


def _write(kind, name, path, rng):
    old = rng.random() < 0.5
    if old:
        path.write_bytes(PRECIOUS)
    ending = run_alone(write, name, path, limits=_limits(kind, rng))
    try:
        # Python itself, and libraries, give up where they have no memory for an error.
        aborted = kind == "RLIMIT_AS" and ending.code in (-signal.SIGABRT, -signal.SIGSEGV)
        expect(ending.code == 0 or aborted, f"its exit code is {ending.code}")
        if aborted:
            expect(path.exists() == old, "there is half a file")
        elif ending.error is None:
            check(name, path)
        else:
            # Without memory a library cannot be imported, and Astropy makes a ValueError of it.
            allowed = (OSError, MemoryError, *([ImportError, ValueError] if kind == "RLIMIT_AS" else []))
            expect(isinstance(ending.error, allowed), f"{type(ending.error).__name__}: {ending.error}")
            expect(path.exists() == old and (not old or path.read_bytes() == PRECIOUS), "there is half a file")
            if kind in ("disk", "RLIMIT_FSIZE"):
                text = str(ending.error)
                expect(name in text and "make room, or give another folder" in text, f"another message: {text}")
        left = [each.name for each in path.parent.iterdir() if each != path]
        # Without memory a process cannot even clean up; the next one does.
        expect(not left or (kind == "RLIMIT_AS" and left == [f"{name}.part"]), f"it left {left}")
    except Exception as error:
        return f"{name}, {kind}: {type(error).__name__}: {error}"
    return None


def _limits(kind, rng):
    match kind:
        case "RLIMIT_FSIZE":
            return {kind: int(rng.integers(1, 20_000))}
        case "RLIMIT_NOFILE":
            return {kind: int(rng.integers(8, 16))}
        case "RLIMIT_AS":
            return {kind: int(rng.integers(1, 100)) << 20}
    return {}
