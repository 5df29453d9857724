"""Figures of the measures of quality: what is drawn is the table."""

import io
from itertools import combinations

import numpy as np
import pytest
from helpers import daily
from matplotlib.figure import Figure
from matplotlib.quiver import QuiverKey

import astropy.units as u
from astropy.table import QTable, Table

from esis_ndcube.quality import figures

FRAMES = 109, 110, 113


def pairs_table(channels, *columns, frames=FRAMES, unit=None):
    rng = np.random.default_rng(0)
    keys = [(frame, i, j) for frame in frames for i, j in combinations(range(1, channels + 1), 2)]
    table = Table(rows=keys, names=("frame_number", "first", "second"))
    for name in columns:
        table[name] = rng.normal(1, 0.1, len(table))
        table[name].unit = unit
    return table


def tiles_table(channels, frames=FRAMES):
    rng = np.random.default_rng(1)
    rows = [
        (frame, i, j, x, y, *rng.normal(0, 0.1, 2))
        for frame in frames
        for i, j in combinations(range(1, channels + 1), 2)
        for x in (100.0, 196.0)
        for y in (300.0, 396.0, 492.0)
    ]
    return Table(rows=rows, names=("frame_number", "first", "second", "x", "y", "dx", "dy"))


def channels_table(channels, frames=FRAMES):
    rng = np.random.default_rng(2)
    keys = [(frame, c) for frame in frames for c in range(1, channels + 1)]
    table = QTable(rows=keys, names=("frame_number", "channel"))
    table["throughput"], table["error"] = rng.uniform(0, 1, (2, len(table))) * u.one
    table["dx"], table["dy"] = rng.normal(0, 1, (2, len(table))) * u.arcsec
    return table


def draw(artist):
    figure = artist if isinstance(artist, Figure) else artist.figure
    figure.savefig(io.BytesIO(), dpi=40)
    return figure


def lines(axes):
    """The drawn lines, by their labels."""
    found = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle[0] if hasattr(handle, "lines") else handle
        found[label] = np.array(line.get_data(), dtype=float)
    return found


LINES = {
    "plot_correlation": (lambda n, **k: pairs_table(n, "correlation", **k), "correlation"),
    "plot_correlation_ratio": (lambda n, **k: pairs_table(n, "ratio", **k), "ratio"),
    "plot_difference_trend": (lambda n, **k: pairs_table(n, "trend", unit="ph / pix", **k), "trend"),
    "plot_throughput": (channels_table, "throughput"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "frames"), daily((2, FRAMES), (6, FRAMES), (4, (124,))))
@pytest.mark.parametrize("name", LINES)
def test_lines_are_the_table(name, channels, frames):
    make, column = LINES[name]
    table = make(channels, frames=frames)
    table[column][-1] = np.nan
    axes = getattr(figures, name)(table[::-1])
    draw(axes)
    keys = [key for key in ("channel", "first", "second") if key in table.colnames]
    expected = {}
    for row in table:
        label = "-".join(str(row[key]) for key in keys)
        expected.setdefault(label, []).append((row["frame_number"], float(row[column])))
    found = lines(axes)
    assert list(found) == sorted(expected)
    for label, points in expected.items():
        np.testing.assert_array_equal(found[label].T, points)
    styles = {(line.get_color(), line.get_marker()) for line in axes.lines if not line.get_label().startswith("_")}
    styles |= {(bar[0].get_color(), bar[0].get_marker()) for bar in axes.containers}
    assert len(styles) == len(found)
    assert axes.get_xlabel() == "Frame"
    assert "[ph / pix]" in axes.get_ylabel() or column != "trend"


def test_error_bars_of_the_throughput():
    table = channels_table(2)
    table["error"][0] = np.nan
    axes = figures.plot_throughput(table)
    draw(axes)
    for channel, container in zip((1, 2), axes.containers, strict=True):
        here = table[table["channel"] == channel]
        segments = container[2][0].get_segments()
        half = [(segment[1, 1] - segment[0, 1]) / 2 if len(segment) else np.nan for segment in segments]
        np.testing.assert_allclose(half, here["error"].value, rtol=1e-9)


def test_any_column_and_given_axes():
    axes = Figure().add_subplot()
    table = pairs_table(2, "full", "clipped")
    assert figures.plot_correlation(table, "clipped", axes=axes) is axes
    np.testing.assert_array_equal(lines(axes)["1-2"][1], table["clipped"])


def test_residual_is_the_rms_of_the_tiles():
    tiles = tiles_table(3)
    axes = figures.plot_residual(tiles)
    draw(axes)
    found = lines(axes)
    assert list(found) == ["1-2", "1-3", "2-3"]
    for label, values in found.items():
        first, second = map(int, label.split("-"))
        for frame, value in values.T:
            here = tiles[(tiles["frame_number"] == frame) & (tiles["first"] == first) & (tiles["second"] == second)]
            np.testing.assert_allclose(value, np.sqrt(np.mean(here["dx"] ** 2 + here["dy"] ** 2)))
    # Without any tile, as where all channels are missing.
    assert not lines(figures.plot_residual(tiles[:0]))


@pytest.mark.parametrize(
    ("channels", "panels", "frame_number"), daily((2, 1, None), (2, 1, 110), (4, 6, 110), (6, 15, None))
)
def test_tiles_are_arrows(channels, panels, frame_number):
    tiles = tiles_table(channels)
    figure = draw(figures.plot_tiles(tiles, frame_number))
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == panels
    for axis, (first, second) in zip(shown, combinations(range(1, channels + 1), 2), strict=True):
        assert axis.get_title().startswith(f"{first}-{second}: ")
        (arrows,) = [c for c in axis.collections if hasattr(c, "U")]
        here = tiles[(tiles["first"] == first) & (tiles["second"] == second)]
        frames = FRAMES if frame_number is None else (frame_number,)
        for x, y, dx, dy in zip(arrows.X, arrows.Y, arrows.U, arrows.V, strict=True):
            tile = here[(here["x"] == x) & (here["y"] == y) & np.isin(here["frame_number"], frames)]
            assert len(tile) == len(frames)
            np.testing.assert_allclose([dx, dy], [tile["dx"].mean(), tile["dy"].mean()])
    assert ("mean of 3 exposures" if frame_number is None else "frame 110") in figure.get_suptitle()
    # The arrow of the scale has a length in pixels, and touches neither panels nor their titles.
    (key,) = [artist for axis in shown for artist in axis.get_children() if isinstance(artist, QuiverKey)]
    figure.draw_without_rendering()
    assert key.label == f"{key.U:g} pix"
    bottom = key.text.get_window_extent().y0
    assert all(bottom > axis.title.get_window_extent().y1 for axis in shown)
    given = Figure()
    assert figures.plot_tiles(tiles, frame_number, figure=given) is given


@pytest.mark.slow
@pytest.mark.parametrize("channels", [2, 6])
def test_offsets_are_points(channels):
    pairs = pairs_table(channels, "dx", "dy")
    pairs["dx"][0] = np.nan
    found = lines(figures.plot_pair_offset(pairs))
    assert len(found) == channels * (channels - 1) / 2
    np.testing.assert_array_equal(found["1-2"], [pairs[n][(pairs["first"] == 1) & (pairs["second"] == 2)] for n in
                                                 ("dx", "dy")])  # fmt: skip
    table = channels_table(channels)
    axes = figures.plot_map_offset(table)
    draw(axes)
    assert axes.get_xlabel() == "Offset along x [arcsec]"
    for label, (dx, dy) in lines(axes).items():
        here = table[table["channel"] == int(label)]
        np.testing.assert_array_equal([dx, dy], [here["dx"].value, here["dy"].value])
        assert (np.abs([dx, dy]) < axes.get_xlim()[1]).all()
    table["dx"], table["dy"] = np.full((2, len(table)), np.nan) * u.arcsec
    draw(figures.plot_map_offset(table))


@pytest.mark.parametrize("name", figures.__all__)
def test_tables_of_something_else(name):
    with pytest.raises(ValueError, match=r"got a table with columns frame_number, other, expected .* among them"):
        getattr(figures, name)(Table({"frame_number": [1], "other": [2]}))


def test_tiles_of_a_frame_that_is_not_there():
    with pytest.raises(ValueError, match="without tiles of frame 7, expected at least one"):
        figures.plot_tiles(tiles_table(2), 7)
    with pytest.raises(ValueError, match="without tiles of any frame"):
        figures.plot_tiles(tiles_table(2)[:0])
