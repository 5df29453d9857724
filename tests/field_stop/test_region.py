"""Regions of the detector, against matplotlib's polygons and brute force."""

import tomllib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.path import Path

import astropy.units as u

from esis_ndcube import ESIS_1
from esis_ndcube.field_stop.region import distance_inside, line_region, lit_region, overlapping_lines
from esis_ndcube.flight.instrument import Line
from esis_ndcube.simulate import shrink


@st.composite
def convex_polygons(draw):
    """Points on an ellipse, counter-clockwise."""
    angles = sorted(draw(st.sets(st.integers(0, 35), min_size=3, max_size=9)))
    center = np.array([draw(st.floats(-50, 50)), draw(st.floats(-50, 50))])
    size = np.array([draw(st.floats(5, 40)), draw(st.floats(5, 40))])
    phase = np.radians(10 * np.array(angles) + draw(st.floats(0, 9)))
    return center + size * np.stack([np.cos(phase), np.sin(phase)], axis=1)


@given(vertices=convex_polygons(), seed=st.integers(0, 999))
def test_inside_is_matplotlibs(vertices, seed):
    x, y = np.random.default_rng(seed).uniform(-90, 90, (2, 500))
    distance = distance_inside(vertices, x, y)
    inside = Path(vertices).contains_points(np.stack([x, y], axis=1))
    clear = np.abs(distance) > 1e-6
    np.testing.assert_array_equal((distance > 0)[clear], inside[clear])


@pytest.mark.slow
@given(vertices=convex_polygons(), seed=st.integers(0, 999))
def test_distance_inside_is_that_from_the_border(vertices, seed):
    """The nearest of many points on the border."""
    x, y = np.random.default_rng(seed).uniform(-60, 60, (2, 400))
    inside = distance_inside(vertices, x, y) > 0
    assume(inside.any())
    x, y = x[inside], y[inside]
    t = np.linspace(0, 1, 4001)[:, None]
    best = np.full(x.shape, np.inf)
    for start, stop in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        border = start + t * (stop - start)
        best = np.minimum(best, np.hypot(x - border[:, :1], y - border[:, 1:]).min(0))
    distance = distance_inside(vertices, x, y)
    assert (distance <= best + 1e-9).all()
    # Half a step along a side of at most 80 pixels.
    near = best > 0.1
    np.testing.assert_allclose(distance[near], best[near], atol=2e-3)


def test_distance_broadcasts_and_keeps_nan():
    square = [(0, 0), (4, 0), (4, 4), (0, 4)]
    x, y = np.array([[1.0, np.nan, 3.5]]), np.array([[2.0], [5.0]])
    np.testing.assert_array_equal(distance_inside(square, x, y), [[1, np.nan, 0.5], [-1, np.nan, -1]])
    assert float(distance_inside(square, 2, 2)) == 2


@pytest.mark.parametrize("channel", [1, 2, 3, 4])
@pytest.mark.parametrize("line", ["O V", "He I", "Mg X 609", "Ne VI"])
def test_line_region(channel, line):
    """Polygons of the configuration file, interpolated in wavelength, and the line's columns."""
    found = next(item for item in ESIS_1.lines if item.name == line)
    row = tomllib.loads(ESIS_1.toml)["channels"][channel - 1]
    measured = np.array(row["field_stop"]), np.array(row["lines"][0]["field_stop"])
    assert row["lines"][0]["name"] == "He I"
    weight = (629.732 - found.wavelength.value) / (629.732 - 584.334)
    polygon = (1 - weight) * measured[0] + weight * measured[1]
    y, x = np.mgrid[0:1040:13, 0:2048:13]
    expected = Path(polygon).contains_points(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)
    columns = {"O V": (999, 2048), "He I": (0, 800)}.get(line)
    if columns:
        expected &= (x >= columns[0]) & (x < columns[1])
    region = line_region(ESIS_1, channel, found, x, y)
    assert region.dtype == bool
    np.testing.assert_array_equal(region, expected)
    assert expected.any()
    # Open grids do the same.
    np.testing.assert_array_equal(line_region(ESIS_1, channel, found, x[:1], y[:, :1]), expected)


def test_columns_end_between_pixels():
    x = np.array([998.4, 998.6, 1100.0])
    wide = line_region(ESIS_1, 2, Line("wide", 629.732 * u.AA, 1.0, (999, 1101)), np.array([1100.4, 1100.6]), 500)
    np.testing.assert_array_equal(wide, [True, False])
    moved = Line("moved", 627.0 * u.AA, 1.0, (999, 2048))
    np.testing.assert_array_equal(line_region(ESIS_1, 2, moved, x, 500), [False, True, True])
    np.testing.assert_array_equal(line_region(ESIS_1, 2, moved, x, 500, margin=5), [False, False, True])


def test_margin_keeps_away_from_the_sides():
    y, x = np.mgrid[0:1040:23, 900:2048:23]
    polygon = ESIS_1.field_stop(3)
    narrow = line_region(ESIS_1, 3, "O V", x, y, margin=40.0)
    whole = line_region(ESIS_1, 3, "O V", x, y)
    assert 0 < narrow.sum() < whole.sum()
    t = np.linspace(0, 1, 300)[:, None]
    border = np.concatenate([a + t * (b - a) for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True)])
    distance = np.hypot(x[..., None] - border[:, 0], y[..., None] - border[:, 1]).min(-1)
    clear = np.abs(distance - 40) > 0.5
    np.testing.assert_array_equal(narrow[clear], (whole & (distance > 40))[clear])


def test_unknown_line():
    with pytest.raises(ValueError, match=r"O V, He I"):
        line_region(ESIS_1, 2, "Fe XX", 1, 1)
    with pytest.raises(ValueError, match=r"O V, He I"):
        overlapping_lines(ESIS_1, "Fe XX")
    with pytest.raises(ValueError, match="unknown channel 9"):
        line_region(ESIS_1, 9, "O V", 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("flight", [ESIS_1, shrink(ESIS_1, 4)], ids=["full", "small"])
@pytest.mark.parametrize("line", ["O V", "He I"])
def test_overlapping_lines(flight, line):
    """Lines that share a detector position with the line in some channel, by brute force."""
    rows, columns = flight.detector.shape
    y, x = np.mgrid[0 : rows : max(1, rows // 200), -columns : 2 * columns : max(1, columns // 400)]
    expected = []
    for other in flight.lines:
        polygons = [[flight.field_stop(c.number, item) for item in (flight.line(line), other)] for c in flight.channels]
        points = np.stack([x.ravel(), y.ravel()], axis=1)
        shared = any((Path(a).contains_points(points) & Path(b).contains_points(points)).any() for a, b in polygons)
        if shared and other.name != line:
            expected.append(other)
    found = overlapping_lines(flight, line)
    assert [item.name for item in found] == [
        item.name for item in sorted(expected, key=lambda item: item.intensity, reverse=True)
    ]
    assert found
    # The brightest first: what flags rely on.
    assert all(a.intensity >= b.intensity for a, b in pairwise(found))


@pytest.mark.parametrize("dark", [0.0, -3.0, np.nan])
@pytest.mark.parametrize("edge", [100, 117, 128])
def test_dark_side_of_a_frame_is_found(edge, dark):
    """Nothing beyond the edge is lit, and no more is lost than the blocks beside it; a quiet Sun has no dark part."""
    rng = np.random.default_rng(0)
    image = 100 * np.exp(rng.normal(0, 0.7, (150, 230)))
    valid = np.ones(image.shape, dtype=bool)
    valid[:, :20] = False
    assert lit_region(image, valid).all()
    image[:, edge:] = dark + rng.normal(0, 1, image[:, edge:].shape)
    valid &= np.isfinite(image)
    lit = lit_region(image, valid)
    assert lit[:, : edge - 32].all()
    assert not (lit & valid)[:, edge:].any()


def test_frame_without_pixels_is_not_dark():
    assert lit_region(np.zeros((40, 40)), np.zeros((40, 40), dtype=bool)).all()
    assert lit_region(np.zeros((8, 5)), np.ones((8, 5), dtype=bool)).all()
