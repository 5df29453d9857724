"""
Random chains of operations: what survives stays where it is, and its noise is what is stated.

``ESIS_CHAINS=2000 pytest tests/operations/test_operation_chains.py`` runs that many.
"""

import functools
import os
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import make_cube

import astropy.units as u
from astropy.nddata import StdDevUncertainty

from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.wcs import level3_wcs

CHAINS = int(os.environ.get("ESIS_CHAINS", "25"))
CUBE = make_cube((4, 3, 24, 24))

STEP = st.tuples(
    st.sampled_from(
        ["slice", "take", "explode", "crop", "rebin", "join", "shift", "scale", "add", "to", "squeeze", "pickle"]
    ),
    st.integers(0, 2**16),
)
SETTINGS = {
    "max_examples": CHAINS,
    "deadline": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
}


class Chain:
    """A cube, and for the pixels of each of its axes the place in the first cube, as numpy has it."""

    def __init__(self, cube, whole=()):
        self.cube = cube
        # Axes that are not cut.
        self.whole = whole
        self.names = ["time", "channel", "y", "x"]
        self.place = {name: np.arange(n, dtype=float) for name, n in zip(self.names, cube.shape, strict=True)}
        # The exposures that are joined in each pixel of the time axis.
        self.seconds = (cube.time - cube.time[0]).to_value("s")

    def axes(self):
        return [name for name in self.names if np.ndim(self.place[name])]

    def apply(self, kind, seed):
        rng, axes, cube = np.random.default_rng(seed), self.axes(), self.cube
        lengths = dict(zip(axes, cube.shape, strict=True))
        if kind == "slice":
            cut = {name: n for name, n in lengths.items() if name not in self.whole}
            ranges = {name: np.array([0, n]) for name, n in lengths.items()}
            ranges |= {name: np.sort(rng.choice(n + 1, 2, replace=False)) for name, n in cut.items()}
            self.cube = cube[tuple(slice(*ranges[name].tolist()) for name in axes)]
            self._take({name: slice(*ranges[name].tolist()) for name in axes})
        elif kind in ("take", "explode"):
            name = ("time", "channel")[rng.integers(2)]
            if name in axes:
                index = int(rng.integers(lengths[name]))
                if kind == "take":
                    self.cube = cube[tuple(index if axis == name else slice(None) for axis in axes)]
                else:
                    self.cube = cube.explode_along_axis(axes.index(name)).data[index]
                self._take({name: index})
        elif kind == "crop":
            x, y = (np.sort(rng.integers(0, lengths[name], 2)) for name in ("x", "y"))
            corners = [cube.wcs.celestial.pixel_to_world(x[i], y[i]) for i in (0, 1)]
            rest = [None] * (len(axes) - 2)
            self.cube = cube.crop(*[[corner, *rest] for corner in corners], keepdims=True)
            self._take({"x": slice(x[0], x[1] + 1), "y": slice(y[0], y[1] + 1)})
        elif kind in ("rebin", "join"):
            joined = ("x", "y") if kind == "rebin" else ("time",)
            bins = {name: int(rng.choice(_divisors(lengths[name]))) for name in joined if name in axes}
            self.cube = cube.rebin([bins.get(name, 1) for name in axes])
            for name, n in bins.items():
                self.place[name] = self.place[name].reshape(-1, n).mean(1)
                if name == "time":
                    self.seconds = self.seconds.reshape(-1, n).mean(1)
        elif kind == "shift":
            shift = rng.integers(-2, 3, 2)
            target = cube.wcs.celestial.deepcopy()
            target.wcs.crpix = target.wcs.crpix - shift
            self.cube = cube.reproject_to(target, shape_out=cube.shape[-2:])
            for name, moved in zip(("x", "y"), shift, strict=True):
                step = np.diff(self.place[name])[0] if lengths[name] > 1 else self.step[name]
                self.place[name] = self.place[name] + moved * step
        elif kind == "scale":
            self.cube = cube * float(rng.uniform(-3, 3))
        elif kind == "add":
            self.cube = cube + float(rng.uniform(-3, 3)) * cube.unit
        elif kind == "pickle":
            self.cube = pickle.loads(pickle.dumps(cube))
        elif kind == "to":
            self.cube = cube.to(cube.unit * float(rng.integers(1, 9)))
        elif kind == "squeeze" and 1 in [lengths.get("time"), lengths.get("channel")]:
            gone = [name for name in ("time", "channel") if lengths.get(name) == 1]
            self.cube = cube.squeeze(tuple(axes.index(name) for name in gone))
            self._take(dict.fromkeys(gone, 0))
        for name in ("x", "y"):
            if len(self.place[name]) > 1:
                self.step[name] = np.diff(self.place[name])[0]
            elif kind == "rebin":
                self.step[name] *= bins[name]

    step = None

    def _take(self, items):
        for name, item in items.items():
            self.place[name] = self.place[name][item]
            if name == "time":
                self.seconds = self.seconds[item]


def _divisors(n):
    return [i for i in range(1, n + 1) if n % i == 0]


def run(cube, steps, **options):
    chain = Chain(cube, **options)
    chain.step = {"x": 1.0, "y": 1.0}
    for kind, seed in steps:
        chain.apply(kind, seed)
    return chain


@pytest.mark.slow
@hypothesis.settings(**SETTINGS)
@hypothesis.given(steps=st.lists(STEP, min_size=1, max_size=6))
def test_surviving_pixels_stay_where_they_are(steps):
    chain = run(CUBE, steps)
    cube = chain.cube
    y, x = np.meshgrid(chain.place["y"], chain.place["x"], indexing="ij")
    expected = CUBE.wcs.celestial.pixel_to_world_values(x, y)
    rows, columns = np.indices(cube.shape[-2:])
    found = cube.wcs.celestial.pixel_to_world_values(columns, rows)
    # Longitudes and latitudes near 0, which may be a turn apart.
    apart = [(np.asarray(a) - b + 180) % 360 - 180 for a, b in zip(found, expected, strict=True)]
    assert np.abs(apart).max() * 3600 < 1e-6
    seconds = (cube.time - CUBE.time[0]).to_value("s")
    assert np.abs(seconds - chain.seconds).max() < 1e-3
    np.testing.assert_array_equal(np.asarray(cube.channel) - 1, chain.place["channel"])


@functools.cache
def trials():
    """Exposures of one scene: the trials, so that a chain is run once; of 700 the scatter is known to 2.7 %."""
    rng, shape = np.random.default_rng(0), (700, *CUBE.shape[1:])
    sigma = rng.uniform(0.5, 1.5, (1, 3, 1, 1)) * np.ones(shape)
    wcs = level3_wcs(CUBE.wcs.celestial, CUBE.time[0] + np.arange(shape[0]) * u.s, CUBE.channel)
    return ESISLevel3Cube(
        10 + sigma * rng.normal(size=shape), wcs=wcs, unit=CUBE.unit, uncertainty=StdDevUncertainty(sigma)
    )


@hypothesis.settings(**SETTINGS | {"max_examples": max(CHAINS // 40, 8)})
@hypothesis.given(
    steps=st.lists(
        STEP.filter(lambda step: step[0] not in ("join", "take", "explode", "squeeze")), min_size=1, max_size=5
    )
)
@pytest.mark.slow
def test_sigma_is_that_of_many_trials(steps):
    result = run(trials(), steps, whole=("time",)).cube
    measured, stated = result.data.std(axis=0), result.uncertainty.array
    assert len(stated) == len(trials().data)
    valid = np.isfinite(measured)
    for channel in range(result.shape[1]):
        good = valid[channel]
        if good.any():
            # Pooled over the pixels, if there are more than one.
            ratio = np.sqrt((stated[0, channel][good] ** 2).mean() / (measured[channel][good] ** 2).mean())
            assert abs(ratio - 1) < 0.1
