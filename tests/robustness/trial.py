"""Run a function in a process of its own, with limits, and look at what is left of its files."""

import contextlib
import multiprocessing
import os
import resource
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing import forkserver

# Imports take most of the time of a short trial: all are forked from one process that has done them.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["asdf_astropy", "writers"])


def start_server():
    """Start the process that is forked; it looks for modules where this one does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


@dataclass(frozen=True)
class Ending:
    """
    How a process ended.

    Attributes
    ----------
    code : `int`
        Exit code, the negative number of a signal where one ended it.
    error : `Exception` or None
        The error that its function raised.
    seconds : `float`
        How long the function took, or NaN.
    """

    code: int
    error: Exception | None
    seconds: float


def run_alone(function, *arguments, kill_after=None, limits=None, timeout=120):
    """Call a function in a process of its own, perhaps to be killed after some seconds of its work."""
    start_server()
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_work, args=(theirs, function, arguments, limits or {}))
    process.start()
    theirs.close()
    error, seconds = None, float("nan")
    try:
        if ours.recv() == "begun" and kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        if not ours.poll(timeout):
            process.kill()
            error = TimeoutError(f"no end after {timeout} s")
        else:
            error, seconds = ours.recv()
    except EOFError:
        pass
    process.join()
    return Ending(process.exitcode, error, seconds)


def _work(pipe, function, arguments, limits):
    with contextlib.suppress(KeyboardInterrupt):
        pipe.send("begun")
        start, error = time.perf_counter(), None
        for name, limit in limits.items():
            kind = getattr(resource, name)
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
        try:
            function(*arguments)
        except Exception as raised:
            error = raised
        # A pickled error loses its class where its arguments are not those of the class.
        for name in limits:
            kind = getattr(resource, name)
            resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
        if error is not None:
            error = error if type(error) in (OSError, ValueError, TypeError, MemoryError) else _plain(error)
        pipe.send((error, time.perf_counter() - start))


def _plain(error):
    """The error as one of the classes that are allowed, or with the traceback that shows where another came from."""
    for kind in (OSError, ValueError, TypeError, MemoryError, ImportError):
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError("".join(traceback.format_exception(error)))
