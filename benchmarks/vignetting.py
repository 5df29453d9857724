"""
Accuracy of the vignetting fits on simulated flights, and their residuals on a real one.

Run ``python benchmarks/vignetting.py``. Simulated cubes have the true geometry, because slopes do not depend on errors
of the alignment of a fraction of a pixel. With ``--cube`` a Level-3 cube of the real flight, made without vignetting
correction and normalization, is fitted in one half of its exposures and judged in the other.
"""

# ruff: noqa: E402
import argparse
import itertools
import os
import sys
import time
import tomllib
from pathlib import Path

for _name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

import numpy as np
import tomli_w

import astropy.units as u
from astropy.table import Table, vstack

from esis_ndcube import ESIS_1, ESISLevel3Cube, Flight
from esis_ndcube.corrections.vignetting import Vignetting, correct_vignetting, fit_vignetting, masked_difference_trend
from esis_ndcube.corrections.vignetting._blocks import block_means
from esis_ndcube.corrections.vignetting._images import chosen_alignments
from esis_ndcube.corrections.vignetting._joint import _LENGTH, _Model
from esis_ndcube.simulate import simulate_flight, true_cube

METHODS = "difference-slopes", "joint"
SECOND = "Mg X 624"
PUBLISHED = {"notebook": [0.436, 0.340, 0.382, 0.495], "paper": [0.35, 0.28, 0.34, 0.60]}


def flight_with(intensity):
    """The flight whose second line has an intensity relative to the main one; 0 leaves all other lines out."""
    table = tomllib.loads(ESIS_1.toml)
    for line in table["lines"]:
        if line["name"] == SECOND:
            line["intensity"] = max(intensity, 1e-9)
    return Flight.from_toml(tomli_w.dumps(table), source=f"{SECOND} at {intensity}")


def simulate(intensities, *, seeds, size, exposures, progress):
    """A row for each seed, intensity, method and channel."""
    rows = []
    for seed in seeds:
        for intensity in intensities:
            flight = flight_with(intensity)
            simulated = simulate_flight(flight, size=size, n_exposures=exposures, seed=seed)
            cube = true_cube(simulated)
            for method in METHODS:
                start = time.process_time()
                try:
                    fit = fit_vignetting(cube, method)
                except ValueError as error:
                    progress(f"seed {seed}, {intensity}, {method}: {error}")
                    continue
                seconds = (time.process_time() - start) / exposures
                for (channel, slope), sigma in zip(fit.slopes.items(), np.sqrt(np.diag(fit.covariance)), strict=True):
                    true = simulated.truth.vignetting_slope(channel)
                    rows.append((seed, intensity, method, channel, true, slope, sigma, fit.systematic, seconds))
                progress(f"seed {seed}, {intensity}, {method}: {fit}")
    names = "seed", "intensity", "method", "channel", "true", "slope", "sigma", "systematic", "seconds"
    return Table(rows=rows, names=names)


def summarize(table):
    """Errors by method and intensity."""
    rows = []
    for method in METHODS:
        for intensity in np.unique(table["intensity"]):
            part = table[(table["method"] == method) & (table["intensity"] == intensity)]
            if not len(part):
                continue
            error = part["slope"] - part["true"]
            sigma = np.hypot(part["sigma"], part["systematic"])
            inside = np.mean(np.abs(error) < sigma)
            seeds, seconds = len(np.unique(part["seed"])), np.median(part["seconds"])
            rows.append((method, intensity, seeds, np.mean(error), np.sqrt(np.mean(error**2)), np.max(np.abs(error)),
                         np.median(part["sigma"]), np.median(sigma), 100 * inside, seconds))  # fmt: skip
    names = "method", "intensity", "seeds", "mean", "RMS", "largest", "sigma", "error bar", "within %", "s/exposure"
    summary = Table(rows=rows, names=names)
    for name in names[3:8]:
        summary[name].info.format = ".4f"
    for name in names[8:]:
        summary[name].info.format = ".1f"
    return summary


def judge(cube):
    """Fit one half of the exposures of a cube and look at the differences in the other half, both ways."""
    half = cube.shape[0] // 2
    halves = cube[:half], cube[half:]
    slopes, trends = [], []
    for fitted, judged in (halves, halves[::-1]):
        for name in ("none", *PUBLISHED, *METHODS):
            if name in METHODS:
                fit = fit_vignetting(fitted, name)
            else:
                numbers = PUBLISHED.get(name, [0] * len(cube.channel))
                fit = Vignetting(dict(zip(cube.channel.tolist(), numbers, strict=True)), cube.flight, cube.line)
            trend = masked_difference_trend(correct_vignetting(judged, fit))
            trend["slopes"], trend["fitted"] = name, int(fitted.frame_number[0])
            trends.append(trend)
    for name in METHODS:
        each = [fit_vignetting(cube[i : i + 1], name) for i in range(cube.shape[0])]
        all_slopes = np.array([list(fit.slopes.values()) for fit in each])
        whole = fit_vignetting(cube, name)
        for index, (channel, slope) in enumerate(whole.slopes.items()):
            sigma = np.sqrt(whole.covariance[index, index])
            scatter = all_slopes[:, index].std(ddof=1)
            published = [values[index] for values in PUBLISHED.values()]
            slopes.append((name, channel, slope, sigma, whole.errors[channel], scatter, *published))
    names = "method", "channel", "slope", "sigma", "error bar", "frame scatter", *PUBLISHED
    slopes = Table(rows=slopes, names=names)
    for name in names[2:]:
        slopes[name].info.format = ".3f"
    return slopes, vstack(trends, metadata_conflicts="silent")


def summarize_trends(trends):
    """Trends by slopes and pair: mean and largest over the exposures of both halves."""
    rows = []
    for key in dict.fromkeys(trends["slopes"]):
        part = trends[trends["slopes"] == key]
        for pair in dict.fromkeys(zip(part["first"].tolist(), part["second"].tolist(), strict=True)):
            these = part[(part["first"] == pair[0]) & (part["second"] == pair[1])]
            trend, tilt = these["trend"], these["tilt"]
            rows.append((key, f"{pair[0]}-{pair[1]}", np.mean(trend), np.max(np.abs(trend)), np.mean(tilt)))
    table = Table(rows=rows, names=("slopes", "pair", "mean trend", "largest trend", "mean tilt"))
    for name in table.colnames[2:]:
        table[name].info.format = ".2f"
    return table


def planes(cube):
    """
    RMS of the planes through the differences of the channels' block means, averaged over pairs and exposures.

    With the images as they are, and without the light of the second line that the joint fit finds in them.
    """
    alignments = chosen_alignments(cube)
    blocks = block_means(cube, alignments, np.ones(alignments.shape, dtype=bool))
    use = (blocks.share > 0) & (blocks.brightness > 0)
    use &= use.sum(axis=1, keepdims=True) >= 2
    model = _Model(blocks, use, (_LENGTH / (cube.flight.grid_cdelt[0] * u.arcsec)).to_value(u.one))
    state, _ = model.fit()
    light = np.zeros(use.shape)
    for time_index in range(len(use)):
        channel, _ = np.nonzero(use[time_index])
        light[time_index][use[time_index]] = (
            np.exp(state.gains[time_index][channel]) * model.second_light(state, time_index)[0]
        )
    columns = cube.shape[3] // blocks.size
    rows = []
    for name in ("none", *PUBLISHED, *METHODS):
        slopes = PUBLISHED.get(name, [0] * cube.shape[1])
        if name in METHODS:
            slopes = list(fit_vignetting(cube, name).slopes.values())
        field = 1 + np.array(slopes)[:, None] * blocks.place
        rows.append((name, *(_planes((blocks.brightness - part) / field, blocks.share * use, columns)
                             for part in (0, light))))  # fmt: skip
    table = Table(rows=rows, names=("slopes", "as it is", "without the second line"))
    for column in table.colnames[1:]:
        table[column].info.format = ".3f"
    return table


def _planes(brightness, share, columns):
    """Mean over pairs and exposures of the RMS of the plane, in the unit of the data."""
    result = []
    for values, weights in zip(brightness, share, strict=True):
        common = (weights > 0).all(axis=0)
        means = np.array([np.average(v[common], weights=w[common]) for v, w in zip(values, weights, strict=True)])
        values = values * (means.max() / means)[:, None]
        for a, b in itertools.combinations(range(len(values)), 2):
            weight = np.where((weights[a] > 0) & (weights[b] > 0), weights[a], 0)
            good = np.flatnonzero(weight)
            terms = np.column_stack([np.ones(len(good)), good % columns, good // columns])
            root = np.sqrt(weight[good])
            factors = np.linalg.lstsq(terms * root[:, None], (values[a] - values[b])[good] * root, rcond=None)[0]
            plane = terms[:, 1:] @ factors[1:]
            result.append(np.sqrt(np.average((plane - np.average(plane, weights=root**2)) ** 2, weights=root**2)))
    return np.mean(result)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--intensities", type=float, nargs="+", default=[0, 0.06, 0.13, 0.25])
    parser.add_argument("--seeds", type=int, default=20, help="number of simulated flights (default: 20)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--size", type=float, default=1, help="how many times smaller the field is (default: 1)")
    parser.add_argument("--exposures", type=int, default=2)
    parser.add_argument("--table", type=Path, help="where to keep the results, as ECSV; if it exists, it is summarized")
    parser.add_argument("--cube", type=Path, help="a Level-3 file of the real flight to judge instead")
    parser.add_argument("--frames", type=int, nargs=2, default=(109, 133), help="its exposures (default: 109 133)")
    options = parser.parse_args(arguments)
    if options.cube:
        cube = ESISLevel3Cube.read(options.cube)
        chosen = np.flatnonzero((cube.frame_number >= options.frames[0]) & (cube.frame_number <= options.frames[1]))
        cube = cube[chosen[0] : chosen[-1] + 1]
        slopes, trends = judge(cube)
        for table in (slopes, summarize_trends(trends), planes(cube)):
            print(*table.pformat(max_lines=-1, max_width=-1), "", sep="\n")
        return slopes, trends
    if options.table and options.table.exists():
        table = Table.read(options.table, format="ascii.ecsv")
    else:
        table = simulate(
            options.intensities,
            seeds=range(options.first, options.first + options.seeds),
            size=options.size,
            exposures=options.exposures,
            progress=lambda text: print(text, file=sys.stderr, flush=True),
        )
        if options.table:
            table.write(options.table, format="ascii.ecsv")
    print(*summarize(table).pformat(max_width=-1), sep="\n")
    return table


if __name__ == "__main__":
    main()
