"""Run methods on problems, time them, and put it into one table."""

import warnings
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter, process_time

import numpy as np
from bench_methods import Stopped

from astropy.table import Table

import esis_ndcube
from esis_ndcube.registration.correlate import _marked_pair, _pass

_SLOW = 1.0  # seconds; slower fits are not repeated
_TASKS = "sun", "channel"


def run(method, problems, *, repeats=3):
    """
    Run a method on problems of one or more tasks.

    Returns
    -------
    dict
        Per task a list of (error, seconds, stopped), and "reason" if the method failed.
    """
    results = {task: [] for task in _TASKS}
    for problem in problems:
        if problem.task not in method.tasks or len(results[problem.task]) == method.images:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                solution, seconds, stopped = _timed(
                    method.prepare(problem), repeats, perf_counter if method.processes else process_time
                )
            error = problem.error(solution)
        # The message of any exception of a tool is its result.
        except Exception as problem_met:
            # OpenCV begins with its own file and line.
            text = str(problem_met).split("error: (")[-1].splitlines()
            results["reason"] = f"{type(problem_met).__name__}: {text[0] if text else ''}"[:90]
            break
        results[problem.task].append((error, seconds, stopped))
    return results


def _timed(fit, repeats, clock=process_time):
    # Everything runs on one thread, where processor time is the wall time of an otherwise idle machine.
    solution, best = None, np.inf
    for _ in range(repeats):
        begin = clock()
        try:
            found = fit()
        except Stopped as stop:
            return stop.args[0], clock() - begin, True
        seconds = clock() - begin
        if seconds < best:
            solution, best = found, seconds
        if seconds > _SLOW:
            break
    return solution, best, False


def installed(package):
    """Version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        # This package may also be imported from where it is written.
        return esis_ndcube.__version__ if package == "esis_ndcube" else None


def make_table(methods, problems, *, repeats=3, progress=None):
    """
    One row per method: what it fits, its errors and its times.

    A method whose package is missing or that fails is a row with the reason.
    """
    rows = []
    for method in methods:
        number = installed(method.package)
        row = {"method": method.name, "version": number or "-", "fits": method.fits}
        if number is None:
            rows.append({**row, "note": f"{method.package} is not installed"})
            continue
        if progress:
            progress(method.name)
        results = run(method, problems, repeats=repeats)
        note = [results["reason"]] if "reason" in results else []
        for task in _TASKS:
            values = results[task]
            if not values:
                continue
            errors, seconds, stopped = zip(*values, strict=True)
            row |= {f"{task} median": median(errors), f"{task} worst": max(errors), f"{task} s": median(seconds)}
            row |= {f"{task} n": len(errors)}
            if any(stopped):
                note.append(f"{task}: stopped at its time limit")
        if method.filtered:
            seconds = [sum(p.filter_seconds.get(f, np.nan) for f in method.filtered) for p in problems]
            row["filter s"] = float(np.nanmedian(seconds))
        rows.append({**row, "note": "; ".join(note)})
    return _as_table(rows)


def _as_table(rows):
    table = Table()
    for name in ("method", "version", "fits"):
        table[name] = [row[name] for row in rows]
    for task in _TASKS:
        for what in ("median", "worst", "s"):
            table[f"{task} {what}"] = [row.get(f"{task} {what}", np.nan) for row in rows]
        table[f"{task} n"] = [row.get(f"{task} n", 0) for row in rows]
    table["filter s"] = [row.get("filter s", np.nan) for row in rows]
    table["note"] = [row["note"] for row in rows]
    return table


def lines(table):
    """The table as lines of text."""
    # On a copy, because a function cannot be written to a file.
    table = table.copy()
    for column in table.itercols():
        if column.dtype.kind == "f":
            column.info.format = _figure
    align = ["<" if column.dtype.kind in "UO" else ">" for column in table.itercols()]
    return table.pformat(max_lines=-1, max_width=-1, align=align)


def _figure(value):
    if not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.0f}"


def ratios(table, pass_seconds):
    """Ratios that the package promises; NaN where a method is missing."""
    # A method that failed on some image is not a fair comparison.
    table = table[[not note or "stopped" in note for note in table["note"]]]
    seconds = dict(zip(table["method"], table["sun s"], strict=True))
    seconds2 = dict(zip(table["method"], table["channel s"], strict=True))
    error = dict(zip(table["method"], table["sun median"], strict=True))
    missing = float("nan")
    fit, plain = seconds.get("ours", missing), seconds.get("ours, no pyramid", missing)
    result = Table(names=("ratio", "value"), dtype=(str, float))
    for name, seconds_pass in pass_seconds.items():
        result.add_row((f"our affine fit / one pass of resampling and gradient ({name})", fit / seconds_pass))
        result.add_row((f"our quadratic fit / the same pass ({name})", seconds2.get("ours", missing) / seconds_pass))
    ecc = "cv2 ECC, filtered"
    result.add_row((f"{ecc} / ours, no pyramid: time on the same images", seconds.get(ecc, missing) / plain))
    result.add_row((f"{ecc} / ours: time", seconds.get(ecc, missing) / fit))
    result.add_row((f"{ecc} / ours: error", error.get(ecc, missing) / error.get("ours", missing)))
    other = "cv2 ECC, filtered, multi-scale"
    result.add_row((f"{other} / ours: time", seconds.get(other, missing) / fit))
    result.add_row((f"{other} / ours: error", error.get(other, missing) / error.get("ours", missing)))
    result.add_row(("legacy / ours: time", seconds.get("legacy", missing) / fit))
    result.add_row(("legacy / ours: error", error.get("legacy", missing) / error.get("ours", missing)))
    return result


def one_pass(problem, *, repeats=5):
    """Seconds of one bilinear resampling of the image to the grid and its gradient, by library."""
    from scipy.ndimage import map_coordinates, sobel

    reference, mask, image, valid = problem.level(1)
    y, x = np.mgrid[: problem.reference.shape[0], : problem.reference.shape[1]]
    column, row = problem.start(x, y)

    def with_scipy():
        moved = map_coordinates(image, (row, column), order=1)
        return sobel(moved, 0), sobel(moved, 1)

    marked, moving = _marked_pair(reference, image, mask, valid)
    free = np.ones(problem.start.coefficients.size, dtype=bool)
    functions = {"ours, with its sums": lambda: _pass(moving, marked, problem.start, 1, free), "scipy": with_scipy}
    try:
        import cv2
    except ImportError:
        pass
    else:
        cv2.setNumThreads(1)
        maps = column.astype("f4"), row.astype("f4")

        def with_cv2():
            moved = cv2.remap(image, *maps, cv2.INTER_LINEAR)
            return cv2.Sobel(moved, cv2.CV_32F, 0, 1), cv2.Sobel(moved, cv2.CV_32F, 1, 0)

        functions["cv2"] = with_cv2
    return {name: _timed(function, repeats)[1] for name, function in functions.items()}
