"""Many tasks, on threads and on the workers of a cluster."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, repeat

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from helpers import assert_cubes_equal, make_cube

from esis_ndcube import ESISLevel3Cube
from esis_ndcube.operations.binning import _Values
from esis_ndcube.utils.parallel import compute, delayed, share, stream


class Counted:
    """Tasks that say how many of them have been taken and finished."""

    def __init__(self, number, seconds=lambda n: 0):
        self.number, self.seconds, self.taken, self.done, self.lock = number, seconds, 0, [], threading.Lock()

    def __iter__(self):
        for n in range(self.number):
            self.taken += 1
            yield delayed(self.run, n)

    def run(self, n):
        time.sleep(self.seconds(n))
        with self.lock:
            self.done.append(n)
        return n


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_whatever_finishes_first(workers):
    tasks = Counted(12, lambda n: 0.02 * (n % 3 == 0))
    assert compute(tasks, workers=workers) == list(range(12))
    assert sorted(tasks.done) == list(range(12))


def test_few_are_in_flight():
    tasks = Counted(10**6)
    with stream(tasks, workers=3) as results:
        assert tasks.taken == 0
        for n in range(20):
            assert next(results) == n
            assert tasks.taken <= n + 6
    assert len(tasks.done) <= 26


def test_when_the_block_ends_by_an_error_no_task_runs_any_more():
    tasks = Counted(10**6, lambda n: 0.05 * (n > 0))

    def use():
        with stream(tasks, workers=2) as results:
            for _ in results:
                msg = "full"
                raise OSError(msg)

    with pytest.raises(OSError, match="full"):
        use()
    done = len(tasks.done)
    time.sleep(0.2)
    assert len(tasks.done) == done < 10


@pytest.mark.slow
def test_few_are_in_flight_on_a_cluster(client):
    taken = []
    tasks = (taken.append(n) or delayed(partial(pow, n, 2)) for n in range(10**6))
    with stream(tasks) as results:
        for n in range(10):
            assert next(results) == n**2
            assert len(taken) <= n + 4


@pytest.mark.slow
def test_a_client_does_the_work_unless_threads_are_asked_for(client):
    where, here = delayed(os.getpid), os.getpid()
    assert here not in compute([delayed(os.getpid) for _ in range(8)])
    assert compute([where], workers=2) == [here]
    with dask.config.set(scheduler="threads"):
        assert compute([where]) == [here]


@pytest.mark.slow
def test_shared_values_arrive(client):
    table = np.arange(1000.0)
    there = share(table)
    assert isinstance(there, distributed.Future)
    assert share(table, workers=1).compute(scheduler="sync") is table
    assert compute([delayed(np.dot, there, n * table) for n in range(3)]) == [n * (table @ table) for n in range(3)]
    lazy = da.from_array(table)
    assert share(lazy) is lazy


def _kill_once(path, value):
    """The value; the first that gets here kills its process."""
    with contextlib.suppress(FileExistsError):
        path.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return float(value.sum())


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_time_and_no_result(client, tmp_path):
    """Its shared values are lost with it."""
    client.wait_for_workers(2)
    tasks = [delayed(_kill_once, tmp_path / "killed", share(np.full(100, n))) for n in range(6)]
    assert compute(tasks) == [100.0 * n for n in range(6)]
    assert (tmp_path / "killed").exists()


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_given_up(client, cluster, monkeypatch, tmp_path):
    client.wait_for_workers(2)
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    words = r"1 workers of the cluster died in the same task, .*: look at their logs, give each more memory"
    with pytest.raises(ConnectionError, match=words):
        compute([delayed(_kill_once, tmp_path / "killed", np.ones(1))])


@pytest.mark.slow
def test_a_cluster_whose_workers_are_gone(client, monkeypatch):
    """As its client sees it; one that never had any may still wait in a queue."""
    monkeypatch.setattr("esis_ndcube.utils.parallel._PATIENCE", 0.4)
    monkeypatch.setattr(client, "nthreads", lambda: next(answers))
    answers = repeat({})
    assert compute([delayed(time.sleep, 1)]) == [None]
    answers = chain([{"there": 1}] * 2, repeat({}))
    with pytest.raises(
        ConnectionError, match=r"^the cluster has had no worker for 0\.4 s: start workers, and begin again"
    ):
        compute([delayed(time.sleep, 2)])


@pytest.mark.slow
def test_an_error_of_a_task_is_its_own_on_a_cluster(client):
    for error in (OSError("mine"), TimeoutError("mine")):
        with pytest.raises(type(error), match=r"^mine$"):
            compute([delayed(_raise, error)])


def _raise(error):
    raise error


def test_arguments_of_several_kinds_keep_their_places():
    lazy = [da.full((4, 4), value, chunks=2) for value in (1, 3, 5)]
    arguments = [share(0), lazy[0], share(2), lazy[1], 4, lazy[2]]
    (found,) = compute([delayed(lambda *values: [int(np.max(value)) for value in values], *arguments)], workers=1)
    assert found == [0, 1, 2, 3, 4, 5]


def test_what_arguments_have_in_common_is_made_once():
    calls = []
    images = da.ones((3, 4, 4), chunks=(1, 4, 4)).map_blocks(lambda x: calls.append(x.shape) or x, meta=np.ones(0))
    parts = images[1], images[1] > 0, images[1] * 2
    assert compute([delayed(_total, *parts)], workers=1) == [16 + 16 + 32]
    assert calls == [(1, 4, 4)]


def _total(*arrays):
    return sum(array.sum() for array in arrays)


def _fail(n):
    if n == 3:
        msg = "three"
        raise ValueError(msg)
    return n


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_in_its_place(workers):
    with stream((delayed(_fail, n) for n in range(10**6)), workers=workers) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


@pytest.mark.slow
def test_an_error_on_a_cluster(client):
    with pytest.raises(ValueError, match="three"):
        compute([delayed(_fail, n) for n in range(5)])


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_schedulers_of_dask(scheduler):
    with dask.config.set(scheduler=scheduler, num_workers=3):
        names = set(compute([delayed(_thread) for _ in range(9)]))
    assert len(names) == 1 if scheduler == "sync" else len(names) <= 3


def _thread():
    time.sleep(0.01)
    return threading.current_thread().name


def test_no_workers():
    with pytest.raises(ValueError, match="got 0 workers, expected at least 1"):
        compute([], workers=0)
    assert compute([], workers=2) == []


@pytest.mark.slow
def test_progress_bar(capsys):
    assert compute([delayed(abs, -n) for n in range(4)], description="Counting", workers=2) == [0, 1, 2, 3]
    with stream((delayed(abs, -n) for n in range(2)), description="Again", total=2) as results:
        assert list(results) == [0, 1]
    text = capsys.readouterr().err
    assert "Counting:" in text
    assert "0/4" in text
    assert "Again:" in text
    assert "0/2" in text


def in_threads(function):
    """The results of many calls in threads that take turns often, and the filters of warnings that they leave."""
    filters, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: function(), range(10)))
    sys.setswitchinterval(interval)
    left, warnings.filters[:] = list(warnings.filters), filters
    return results, [one for one in left if one not in filters]


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [False, True])
def test_reading_in_threads_leaves_the_filters_of_warnings(lazy, tmp_path):
    cube = make_cube((2, 2, 12, 14))
    cube.write(tmp_path / "l3.fits")
    results, left = in_threads(lambda: ESISLevel3Cube.read(tmp_path / "l3.fits", lazy=lazy))
    assert not left
    for result in results:
        assert_cubes_equal(result, cube)


@pytest.mark.slow
def test_medians_in_threads_leave_the_filters_of_warnings():
    data = np.ones((6, 8), dtype=np.float32)
    bad = np.zeros(data.shape, dtype=bool)
    bad[:2, :2] = True
    results, left = in_threads(lambda: _Values((2, 2), np.median)(data, bad))
    # Others are those that numpy itself leaves.
    assert not [one for one in left if "All-NaN" in str(one)]
    for result in results:
        np.testing.assert_array_equal(result, np.where([[1, 0, 0, 0], [0] * 4, [0] * 4], np.nan, 1))


# Without the package, whose import takes long.
FORKED = """
import importlib.util, os, sys, threading
spec = importlib.util.spec_from_file_location("parallel", sys.argv[1])
parallel = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parallel)
begun, forked = threading.Event(), threading.Event()

def read():
    with parallel.own_warnings():
        begun.set()
        forked.wait(0.2)

thread = threading.Thread(target=read)
thread.start()
begun.wait()
child = os.fork()
if not child:
    with parallel.own_warnings():
        os._exit(3)
forked.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_fork_while_a_thread_has_the_filters_of_warnings():
    command = [sys.executable, "-W", "ignore", "-c", FORKED, sys.modules[stream.__module__].__file__]
    assert subprocess.run(command, timeout=60, check=False).returncode == 3
