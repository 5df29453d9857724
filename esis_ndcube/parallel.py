"""Run many independent tasks with whatever Dask scheduler is active."""

import contextlib

import dask

__all__ = ["compute", "delayed"]


def delayed(function):
    """
    A task that calls a function without arguments.

    Parameters
    ----------
    function : callable
        Called without arguments; use `functools.partial` to bind some. Dask does not look into them.

    Returns
    -------
    `dask.delayed.Delayed`
        The task.

    Examples
    --------
    >>> from esis_ndcube.parallel import compute, delayed
    >>> compute([delayed(lambda: 1), delayed(lambda: 2)])
    [1, 2]
    """
    return dask.delayed(function, pure=False, traverse=False)()


def compute(tasks, *, workers=None, description=None):
    """
    Compute tasks and return their results in order.

    Parameters
    ----------
    tasks : `list` of `dask.delayed.Delayed`
        The tasks.
    workers : `int`, optional
        Number of threads; by default Dask's active scheduler decides.
    description : `str`, optional
        Title of a progress bar; without it there is none.

    Returns
    -------
    `list`
        The results.

    Raises
    ------
    ValueError
        If ``workers`` is not positive.

    Examples
    --------
    >>> import dask
    >>> from esis_ndcube.parallel import compute
    >>> compute([dask.delayed(abs)(-1)], workers=1)
    [1]
    """
    if workers is not None and workers < 1:
        msg = f"got {workers} workers, expected at least 1"
        raise ValueError(msg)
    scheduler = {} if workers is None else {"scheduler": "threads", "num_workers": workers}
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(scheduler))
        if description is not None:
            from tqdm.dask import TqdmCallback

            stack.enter_context(TqdmCallback(desc=description, unit="task", leave=False))
        return list(dask.compute(*tasks))
