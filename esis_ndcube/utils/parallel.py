"""Run many independent tasks with whatever Dask scheduler is active."""

import contextlib
import os
import sys
import threading
import time
import warnings
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

import dask
from dask.delayed import Delayed
from dask.system import CPU_COUNT
from tqdm import tqdm

__all__ = ["compute", "delayed", "own_warnings", "share", "stream"]

_SERIAL = "sync", "synchronous", "single-threaded"
# After this many seconds without any worker, a cluster is given up; a new worker takes a few seconds.
_PATIENCE = 60
_FILTERS = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A process that is forked while another thread has the lock would wait for it forever.
    os.register_at_fork(before=_FILTERS.acquire, after_in_parent=_FILTERS.release, after_in_child=_FILTERS.release)


@contextlib.contextmanager
def own_warnings():
    """
    Set the filters of warnings aside, as `warnings.catch_warnings` does, in one thread at a time.

    All threads share the filters: two threads that set them aside at the same time would leave them so.

    Examples
    --------
    >>> import warnings
    >>> from esis_ndcube.utils.parallel import own_warnings
    >>> with own_warnings():
    ...     warnings.simplefilter("ignore")
    """
    with _FILTERS, warnings.catch_warnings():
        yield


def delayed(function, *arguments):
    """
    A task that calls a function.

    Parameters
    ----------
    function : callable
        The function; use `functools.partial` to bind arguments that Dask must not look into.
    *arguments : object
        Its arguments. Dask collections among them are computed first, all together: their common sources are computed
        once.

    Returns
    -------
    `dask.delayed.Delayed`
        The task.

    Examples
    --------
    >>> from esis_ndcube.utils.parallel import compute, delayed
    >>> compute([delayed(abs, -1), delayed(divmod, 7, 4)])
    [1, (1, 3)]
    """
    # In one list, because Dask optimizes single arguments one by one, and repeats their common parts. Tasks are in a
    # list of their own, because Dask takes one argument for another in a list where collections of two kinds alternate.
    lazy = [dask.is_dask_collection(argument) and not isinstance(argument, Delayed) for argument in arguments]
    arrays = [argument for argument, is_lazy in zip(arguments, lazy, strict=True) if is_lazy]
    others = [argument for argument, is_lazy in zip(arguments, lazy, strict=True) if not is_lazy]
    return dask.delayed(partial(_call, function, lazy), pure=False, traverse=False)(arrays, others)


def _call(function, lazy, arrays, others):
    arrays, others = iter(arrays), iter(others)
    return function(*(next(arrays if is_lazy else others) for is_lazy in lazy))


def compute(tasks, *, workers=None, description=None):
    """
    Compute tasks and return all of their results.

    Parameters
    ----------
    tasks, workers, description
        As for `stream`.

    Returns
    -------
    `list`
        The results, in order.

    Raises
    ------
    ValueError
        If ``workers`` is not positive.

    Examples
    --------
    >>> import dask
    >>> from esis_ndcube.utils.parallel import compute
    >>> compute([dask.delayed(abs)(-1)], workers=1)
    [1]
    """
    with stream(tasks, workers=workers, description=description) as results:
        return list(results)


@contextlib.contextmanager
def stream(tasks, *, workers=None, description=None, total=None):
    """
    Compute tasks, a few at a time, and give their results one by one, within a ``with`` block.

    At most two tasks for each thread are started or waiting to be fetched, so that memory does not grow with the number
    of tasks.
    The tasks run on threads of this process, or on the workers of the active `distributed.Client`. These workers are
    other processes, so that tasks must be possible to pickle, and must return their results.

    Parameters
    ----------
    tasks : iterable of `dask.delayed.Delayed`
        The tasks; each is taken from the iterable only when it is to start.
    workers : `int`, optional
        Number of threads of this process. By default the active client's workers do the work, or as many threads as
        Dask's configuration says, which by default is one for each processor.
    description : `str`, optional
        Title of a progress bar; without a title there is no bar.
    total : `int`, optional
        Number of tasks, for the progress bar; needed only for an iterable without a length.

    Yields
    ------
    iterator
        The results, in the order of the tasks. When the block ends, even by an error, no other task starts, and no task
        runs on a thread of this process any more.

    Raises
    ------
    ConnectionError
        If the workers of the client are all gone and no worker comes for a minute, if its scheduler is gone, or if as
        many workers died in the same task as Dask's setting ``distributed.scheduler.allowed-failures`` allows. The
        results of a single worker that dies are computed again.
    ValueError
        If ``workers`` is not positive.

    Examples
    --------
    >>> import dask
    >>> from esis_ndcube.utils.parallel import stream
    >>> with stream(dask.delayed(abs)(-n) for n in range(10**9)) as results:
    ...     next(results)
    0
    """
    if workers is not None and workers < 1:
        msg = f"got {workers} workers, expected at least 1"
        raise ValueError(msg)
    client = None if workers else _client()
    # A block and not a generator alone: an unfinished generator may be collected in a thread of its own pool, which
    # cannot wait for itself.
    with contextlib.ExitStack() as stack:
        if client is not None:
            threads, submit = sum(client.nthreads().values()), client.compute
        else:
            scheduler = dask.config.get("scheduler", None) if workers is None else None
            threads = workers or dask.config.get("num_workers", None) or CPU_COUNT
            if scheduler in _SERIAL:
                threads = 1
            pool = ThreadPoolExecutor(threads)
            stack.callback(pool.shutdown, cancel_futures=True)
            # The inputs of a task are computed in its own thread, unless another scheduler is requested.
            options = {"scheduler": "sync"} if scheduler in (None, "threads", "threading", *_SERIAL) else {}
            submit = partial(_run_in_pool, pool, options)
        bar = None
        if description is not None:
            total = len(tasks) if total is None and hasattr(tasks, "__len__") else total
            bar = stack.enter_context(tqdm(desc=description, total=total, unit="task", leave=False))
        window = deque()
        stack.callback(_cancel, window)
        # Twice as many as run at once, so that no thread waits while a result is in use.
        result_of = Future.result if client is None else _waiting(client, had_workers=threads > 0)
        yield _results(map(submit, tasks), result_of, window, max(2 * threads, 2), bar)


def share(value, *, workers=None):
    """
    A large value that one or more tasks take as an argument.

    Parameters
    ----------
    value : object
        The value; a Dask collection, which the tasks compute themselves, stays as it is.
    workers : `int`, optional
        As for `stream`.

    Returns
    -------
    object
        A stand-in for the value, for the tasks, so that Dask does not look into it: a `dask.delayed.Delayed`, or, if
        the tasks run on a client's workers, its `distributed.Future` there, so that it is sent only once.

    Examples
    --------
    >>> from esis_ndcube.utils.parallel import compute, delayed, share
    >>> table = share("a large table", workers=2)
    >>> compute([delayed(len, table), delayed(str.upper, table)], workers=2)
    [13, 'A LARGE TABLE']
    """
    client = None if workers else _client()
    if dask.is_dask_collection(value):
        return value
    if client is None:
        return dask.delayed(value, pure=False, traverse=False)
    # A worker that dies loses the values that were scattered to it; the scheduler can repeat those of a task.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PiB"}):
        return client.submit(_same, value, pure=False)


def _same(value):
    return value


def _client():
    """The active client of distributed, or None."""
    # If the package is not imported there is no client, and an import takes long.
    distributed = sys.modules.get("distributed")
    if distributed is None or dask.config.get("scheduler", "distributed") not in ("distributed", "dask.distributed"):
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None


def _results(futures, result_of, window, length, bar):
    while True:
        window.extend(islice(futures, length - len(window)))
        if not window:
            return
        result = result_of(window.popleft())
        if bar is not None:
            bar.update()
        yield result
        # The result is not kept while waiting for the next one.
        del result


def _waiting(client, *, had_workers):
    """A function that waits for the result of a task, and gives up if no worker is left to give it."""
    from distributed import wait

    def wait_for(future):
        nonlocal had_workers
        since = time.monotonic()
        while future.status == "pending":
            with contextlib.suppress(TimeoutError):
                wait(future, timeout=min(_PATIENCE / 4, 5))
            if client.nthreads():
                had_workers, since = True, time.monotonic()
            # A queue may take long to start the first workers.
            elif had_workers and time.monotonic() - since > _PATIENCE:
                msg = f"the cluster has had no worker for {_PATIENCE} s: start workers, and begin again"
                raise ConnectionError(msg)

    return partial(_result_from_cluster, wait_for)


def _result_from_cluster(wait_for, future):
    """The result of a task, or a `ConnectionError` if the cluster cannot give it."""
    from distributed.scheduler import KilledWorker

    try:
        wait_for(future)
        return future.result()
    except KilledWorker as error:
        msg = (
            f"{error.allowed_failures + 1} workers of the cluster died in the same task, {error.task}: look at their "
            "logs, give each more memory or fewer threads, and begin again"
        )
        raise ConnectionError(msg) from error
    except ConnectionError:
        raise
    except (CancelledError, OSError) as error:
        if future.status == "error":
            # The error of the task itself.
            raise
        msg = f"the cluster lost the task {future.key}, its scheduler may be gone: start it, and begin again ({error})"
        raise ConnectionError(msg) from error


def _run_in_pool(pool, options, task):
    return pool.submit(task.compute, **options)


def _cancel(futures):
    for future in futures:
        future.cancel()
