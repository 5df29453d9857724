"""Take workers away from a cluster while it works."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import distributed
import numpy as np

from esis_ndcube.utils import parallel
from esis_ndcube.utils.parallel import delayed, share, stream

TASKS, PIXELS = 24, 50_000


def work(image, common, n):
    time.sleep(0.05)
    return float(image.sum() + common.sum() + n)


def die(image, common, n):
    os.kill(os.getpid(), signal.SIGKILL)


def results(function=work):
    """The results of tasks that share values, small and large, with each other."""
    common = share(np.arange(1000.0))
    tasks = (delayed(function, share(np.full(PIXELS, float(n))), common, n) for n in range(TASKS))
    with stream(tasks) as found:
        return list(found)


EXPECTED = [float(PIXELS * n + 499_500 + n) for n in range(TASKS)]


def _compare():
    return None if results() == EXPECTED else "other results"


def fault_clusters(count, flight, folder, rng):
    """Kill workers of clusters; yields what was lost each time, or None."""
    alone = max(count // 10, 1)
    for number in range(count - alone):
        with _cluster(2, "--nanny") as client:
            if number < alone:
                yield _refused(lambda: results(die), "workers of the cluster died in the same task")
                continue
            processes = list(client.run(os.getpid).values())
            # Now and then all of them; others are started in their place.
            killed = processes if number % 5 == 4 else [processes[rng.integers(2)]]
            yield _after(rng.uniform(0.05, 0.5), killed, _compare)
    patience, parallel._PATIENCE = parallel._PATIENCE, 2
    try:
        for _ in range(alone):
            # Without a nanny no other worker is started.
            with _cluster(1, "--no-nanny") as client:
                words = "the cluster has had no worker for 2 s"
                yield _after(0.3, client.run(os.getpid).values(), lambda words=words: _refused(results, words))
    finally:
        parallel._PATIENCE = patience


@contextlib.contextmanager
def _cluster(workers, nanny):
    """The client of a scheduler with workers in processes of their own, which end with the block in any case."""
    # The nannies of a LocalCluster wait forever now and then.
    options = {"n_workers": 0, "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
        contextlib.ExitStack() as stack,
    ):
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, nanny]
        command += ["--nthreads", "1", "--no-dashboard"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for _ in range(workers):
            process = subprocess.Popen(command, env=environment, start_new_session=True, **silent)
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        client.wait_for_workers(workers, timeout=120)
        yield client


def _after(seconds, processes, function):
    """Call a function, and kill processes meanwhile; what it raises, or returns, as text, or None."""

    def kill():
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        timer.join()


def _refused(function, words):
    try:
        function()
    except ConnectionError as error:
        return None if words in str(error) else f"another message: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it ended without an error"
