"""The benchmark's table, at a tiny size and with what is always installed."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import benchmark

from astropy.table import Table

from esis_ndcube.registration import PolynomialTransform

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which are no package."""
    if not FOLDER.is_dir():
        pytest.skip("the benchmarks are not part of this distribution")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        # The command sets these for itself; they must not stay for other tests.
        for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
            patch.setenv(f"{name}_NUM_THREADS", "1")
        import registration

        yield registration
    for name in [name for name in sys.modules if name == "registration" or name.startswith("bench_")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def problems(bench):
    return bench.make_problems(size=8, seed=1)


@pytest.mark.slow
def test_errors_are_those_of_the_truth(problems):
    tasks = [p.task for p in problems]
    assert (tasks.count("sun"), tasks.count("channel")) == (4, 3)
    for problem in problems:
        assert problem.error(problem.true) < 1e-12
        # A known shift is its own length, and the start is near enough for a fit.
        assert problem.error(lambda x, y, p=problem: p.true(x + 0.3, y - 0.4)) == pytest.approx(0.5, rel=0.02)
        assert problem.error(problem.start) < 6
        assert problem.floor() < 0.2
        assert problem.bend() > 0.1


@pytest.mark.slow
def test_what_is_bent_counts_in_the_channel_task_only(problems):
    """The best affine map has no error in one task, and all of the bend in the other."""
    from bench_problems import polynomial

    for problem in (problems[0], problems[-1]):
        found = polynomial(*problem.points, problem.true(*problem.points), 1, problem.start)
        expected = {"sun": 0.0, "channel": problem.bend()}[problem.task]
        assert problem.error(found) == pytest.approx(expected, abs=1e-9)


def test_binning_a_transform_and_back(bench):
    start = PolynomialTransform([[4, 1, 2], [5, -3, 1]], (20, 30), 10)
    there = bench.methods.binned(start, 4)
    # The middle of a block of 4 pixels is at 1.5 pixels.
    u, v = start(4 * 3 + 1.5, 4 * 5 + 1.5)
    np.testing.assert_allclose(there(3, 5), ((u - 1.5) / 4, (v - 1.5) / 4))
    np.testing.assert_allclose(bench.methods.unbinned(there, 4)(7, 9), start(7, 9))


def test_table_tells_what_is_missing_and_what_failed(bench, problems):
    def broken(problem):
        msg = "no such thing"
        raise RuntimeError(msg)

    methods = [
        *(m for m in bench.all_methods(0.05) if m.package == "esis_ndcube" or m.name == "legacy"),
        bench.Method("broken", "numpy", "nothing", broken),
        bench.Method("absent", "no-such-distribution", "nothing", broken),
        bench.Method("truth", "numpy", "all", lambda p: lambda: p.true),
    ]
    table = bench.make_table(methods, problems[:1] + problems[-1:], repeats=1)
    row = {r["method"]: r for r in table}
    assert row["absent"]["note"] == "no-such-distribution is not installed"
    assert row["broken"]["note"] == "RuntimeError: no such thing"
    assert np.isnan(row["broken"]["sun s"])
    assert row["legacy"]["note"] == "sun: stopped at its time limit"
    assert (row["legacy"]["sun n"], row["legacy"]["channel n"]) == (1, 0)
    assert row["truth"]["sun worst"] < 1e-12
    # A field of 160 pixels has few structures: this is not the accuracy at full size.
    assert 1e-6 < row["ours"]["sun median"] < 1.5
    assert (row["ours"]["channel n"], row["ours"]["filter s"] > 0) == (1, True)
    assert row["ours"]["sun s"] > 0
    text = "\n".join(bench.lines(table))
    assert all(method.name in text for method in methods)
    quotients = bench.ratios(table, {"any": 0.5})
    assert quotients["value"][0] == pytest.approx(row["ours"]["sun s"] / 0.5)


@pytest.mark.slow
def test_command_writes_its_table(bench, tmp_path, capsys):
    path = tmp_path / "table.ecsv"
    arguments = ["--size", "8", "--methods", "no pyramid", "--repeats", "1", "--output", str(path)]
    bench.main(arguments)
    assert "ours, no pyramid" in capsys.readouterr().out
    assert Table.read(path)["method"].tolist() == ["ours, no pyramid"]
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.slow
def test_accuracy_of_a_flight():
    """Three small exposures from poses that are off: filtered images beat raw ones, and the joint model helps."""
    accuracy = benchmark("accuracy")
    table = accuracy.main(["--exposures", "3", "--size", "4", "--seed", "3", "--workers", "1"])
    assert list(table["images"]) == ["filtered", "filtered", "raw", "raw"]
    alone, joint, raw, _ = table
    # One frame is missing and one is blank.
    assert alone["aligned"] == 10
    assert 2 * alone["final median"] < raw["final median"]
    assert alone["final median"] < 0.6
    assert joint["internal worst"] < 0.35
    assert 0.2 < alone["chi2, internal"] < 3


@pytest.mark.slow
def test_time_of_a_flight_by_stage(small_flight, capsys, monkeypatch):
    arguments = [small_flight.path / "raw", "--flight", small_flight.path / "flight.toml", "--exposures", "1"]
    arguments += ["--reference", *small_flight.files.reference, "--neighbors", "--size", "8", "--limit", "0.5"]
    monkeypatch.syspath_prepend(FOLDER)
    benchmark("flight_time").main([str(argument) for argument in arguments])
    text, neighbors = capsys.readouterr().out.split("\n\n")
    *rows, last, threads = text.splitlines()
    totals = []
    for title, stages in (("esis_ndcube", 3), ("bare calls", 6)):
        seconds = [float(row.split(" s")[0].split()[-1]) for row in rows if row.startswith(title)]
        assert len(seconds) == stages + 1
        assert sum(seconds[:-1]) == pytest.approx(seconds[-1], abs=0.05)
        totals.append(seconds[-1])
    assert float(last.removeprefix("ratio ")) == pytest.approx(totals[0] / totals[1], rel=0.1)
    wall, used, ratio = (float(word) for word in re.findall(r"\d+\.\d+", threads))
    assert ratio == pytest.approx(wall / used, rel=0.1)
    for task, package in (("spikes", "esis_ndcube"), ("bicubic resampling", "reproject"), ("affine fit", "legacy way")):
        assert any(row.startswith(task) and package in row for row in neighbors.splitlines())
    assert all("each of 4 images" in row for row in rows if " all " in row)
