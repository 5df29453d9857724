"""Figures of the measures of quality: each function takes the table of one measure and draws it."""

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator

from esis_ndcube.visualization._panels import explain_arrows, new_figure

__all__ = [
    "plot_correlation",
    "plot_correlation_ratio",
    "plot_difference_trend",
    "plot_map_offset",
    "plot_pair_offset",
    "plot_residual",
    "plot_throughput",
    "plot_tiles",
]

_MARKERS = "os^vD<>Pp*Xhd8H"


def plot_correlation(table, column="correlation", *, axes=None):
    """
    Draw the correlation of every pair of channels against the exposure.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table of `~esis_ndcube.quality.pair_correlation` or `~esis_ndcube.quality.correlation_table`.
    column : `str`, optional
        The column to draw.
    axes : `~matplotlib.axes.Axes`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        A line per pair; NaN leaves a gap.

    Raises
    ------
    ValueError
        If the table lacks a column.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from esis_ndcube.quality.figures import plot_correlation
    >>> rows = [(109, 1, 2, 0.91), (110, 1, 2, 0.92), (111, 1, 2, 0.92)]
    >>> axes = plot_correlation(Table(rows=rows, names=("frame_number", "first", "second", "correlation")))
    >>> axes.get_legend_handles_labels()[1]
    ['1-2']
    """
    axes = _plot_groups(axes, table, ("first", "second"), column)
    axes.set(ylabel="Correlation")
    return axes


def plot_correlation_ratio(table, *, axes=None):
    """
    Draw the ratio of two cubes' correlations against the exposure.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table of `~esis_ndcube.quality.correlation_ratio`.
    axes : `~matplotlib.axes.Axes`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        A line per pair, and a line at 1.

    Raises
    ------
    ValueError
        If the table lacks a column.

    Examples
    --------
    >>> from esis_ndcube.quality import correlation_ratio
    >>> from esis_ndcube.quality.figures import plot_correlation_ratio
    >>> axes = plot_correlation_ratio(correlation_ratio(final, linear))  # doctest: +SKIP
    """
    axes = _plot_groups(axes, table, ("first", "second"), "ratio")
    _level(axes, 1)
    # The axis would show a ratio so near to 1 with an offset.
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set(ylabel="Ratio of correlations")
    return axes


def plot_throughput(table, *, axes=None):
    """
    Draw the brightness of every channel relative to its brightest exposure.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table of `~esis_ndcube.quality.throughput`.
    axes : `~matplotlib.axes.Axes`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        A line per channel, with error bars where the errors are known.

    Raises
    ------
    ValueError
        If the table lacks a column.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import throughput
    >>> from esis_ndcube.quality.figures import plot_throughput
    >>> axes = plot_throughput(throughput(ESISLevel3Cube.read("l3.fits")))  # doctest: +SKIP
    """
    axes = _plot_groups(axes, table, ("channel",), "throughput", error="error")
    axes.set(ylabel="Relative brightness")
    return axes


def plot_difference_trend(table, *, axes=None):
    """
    Draw the trends of the masked differences of the channels against the exposure.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table of `~esis_ndcube.corrections.vignetting.masked_difference_trend`.
    axes : `~matplotlib.axes.Axes`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        A line per pair, and a line at 0.

    Raises
    ------
    ValueError
        If the table lacks a column.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import masked_difference_trend
    >>> from esis_ndcube.quality.figures import plot_difference_trend
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> axes = plot_difference_trend(masked_difference_trend(cube))  # doctest: +SKIP
    """
    axes = _plot_groups(axes, table, ("first", "second"), "trend")
    _level(axes, 0)
    axes.set(ylabel=f"Trend of the difference{_unit(table['trend'])}")
    return axes


def plot_residual(tiles, *, axes=None):
    """
    Draw the RMS misalignment in tiles of every pair of channels against the exposure.

    Parameters
    ----------
    tiles : `~astropy.table.Table`
        The table of `~esis_ndcube.quality.tile_residual`.
    axes : `~matplotlib.axes.Axes`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        A line per pair.

    Raises
    ------
    ValueError
        If the table lacks a column.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import tile_residual
    >>> from esis_ndcube.quality.figures import plot_residual
    >>> axes = plot_residual(tile_residual(ESISLevel3Cube.read("l3.fits")))  # doctest: +SKIP
    """
    _check(tiles, "frame_number", "first", "second", "dx", "dy")
    rms = tiles["frame_number", "first", "second"]
    rms["square"] = np.asarray(tiles["dx"]) ** 2 + np.asarray(tiles["dy"]) ** 2
    if len(rms):
        rms = rms.group_by(["frame_number", "first", "second"]).groups.aggregate(np.mean)
    rms["rms"] = np.sqrt(rms["square"])
    axes = _plot_groups(axes, rms, ("first", "second"), "rms")
    axes.set(ylabel="RMS residual in tiles [pixel]")
    axes.set_ylim(bottom=0)
    return axes


def plot_tiles(tiles, frame_number=None, *, figure=None):
    """
    Draw how far the channels of each pair lie apart.

    Parameters
    ----------
    tiles : `~astropy.table.Table`
        The table of `~esis_ndcube.quality.tile_residual`.
    frame_number : `int`, optional
        Raw frame number; by default the mean over all exposures is drawn.
    figure : `~matplotlib.figure.Figure`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        A panel per pair, with an arrow per tile from the first channel to the second.

    Raises
    ------
    ValueError
        If the table lacks a column, or has no tile of the exposure.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import tile_residual
    >>> from esis_ndcube.quality.figures import plot_tiles
    >>> figure = plot_tiles(tile_residual(ESISLevel3Cube.read("l3.fits")), 124)  # doctest: +SKIP
    """
    keys = "first", "second", "x", "y"
    _check(tiles, "frame_number", *keys, "dx", "dy")
    if frame_number is not None:
        tiles = tiles[np.asarray(tiles["frame_number"]) == frame_number]
    if not len(tiles):
        wanted = "any frame" if frame_number is None else f"frame {frame_number}"
        msg = f"got a table without tiles of {wanted}, expected at least one: choose another frame number"
        raise ValueError(msg)
    count = len(np.unique(tiles["frame_number"]))
    title = f"frame {tiles['frame_number'][0]}" if count == 1 else f"mean of {count} exposures"
    tiles = tiles[(*keys, "dx", "dy")].group_by(list(keys)).groups.aggregate(np.mean)
    pairs = list(dict.fromkeys(zip(tiles["first"].tolist(), tiles["second"].tolist(), strict=True)))
    columns = min(len(pairs), 3 if len(pairs) <= 9 else 5)
    rows = -(-len(pairs) // columns)
    figure = new_figure(figure, 0.6 + 2.9 * columns, 0.9 + 2.9 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in panels.flat[len(pairs) :]:
        axis.set_visible(False)
    # One scale for all panels: the longest arrow of a typical field is as long as the step from tile to tile.
    longest = np.percentile(np.hypot(tiles["dx"], tiles["dy"]), 90) or 1
    edges = [(tiles[name].min() - 96, tiles[name].max() + 96) for name in ("x", "y")]
    arrows = {}
    for axis, (first, second) in zip(panels.flat, pairs, strict=False):
        here = tiles[(tiles["first"] == first) & (tiles["second"] == second)]
        parts = (np.asarray(here[name]) for name in ("x", "y", "dx", "dy"))
        arrows[axis] = axis.quiver(
            *parts, angles="xy", scale_units="xy", scale=longest / 96, width=0.006, color="C0", pivot="middle"
        )
        rms = np.sqrt(np.mean(here["dx"] ** 2 + here["dy"] ** 2))
        axis.set_title(f"{first}-{second}: {rms:.3f} px RMS", fontsize="medium")
        axis.set(xlim=edges[0], ylim=edges[1], aspect="equal")
    explain_arrows(
        figure, arrows[panels.flat[0]], longest, f"Offsets of the second channel from the first in tiles, {title}"
    )
    for axis in panels.flat[: len(pairs)]:
        place = axis.get_subplotspec()
        if place.is_first_col():
            axis.set_ylabel("y [pixel]")
        if place.rowspan.start * columns + place.colspan.start + columns >= len(pairs):
            axis.set_xlabel("x [pixel]")
            axis.tick_params(labelbottom=True)
    return figure


def plot_pair_offset(table, *, axes=None):
    """
    Draw the offset of every pair of channels as a whole.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table of `~esis_ndcube.quality.pair_offset`.
    axes : `~matplotlib.axes.Axes`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        A point per exposure and pair in the plane of the two directions.

    Raises
    ------
    ValueError
        If the table lacks a column.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import pair_offset
    >>> from esis_ndcube.quality.figures import plot_pair_offset
    >>> axes = plot_pair_offset(pair_offset(ESISLevel3Cube.read("l3.fits")))  # doctest: +SKIP
    """
    return _scatter(axes, table, ("first", "second"), "pixel")


def plot_map_offset(table, *, axes=None):
    """
    Draw the offset of every channel from a reference image.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        The table of `~esis_ndcube.quality.offset_to_map`; tables of several exposures may be stacked.
    axes : `~matplotlib.axes.Axes`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        A point per exposure and channel in the plane of the two directions.

    Raises
    ------
    ValueError
        If the table lacks a column.

    Examples
    --------
    >>> from esis_ndcube.quality import offset_to_map
    >>> from esis_ndcube.quality.figures import plot_map_offset
    >>> axes = plot_map_offset(offset_to_map(cube, aia))  # doctest: +SKIP
    """
    return _scatter(axes, table, ("channel",), "arcsec")


def _check(table, *columns):
    missing = [name for name in columns if name not in table.colnames]
    if missing:
        msg = f"got a table with columns {', '.join(table.colnames)}, expected {', '.join(missing)} among them"
        raise ValueError(msg)


def _new_axes(axes, width=6.6, height=3.8):
    return new_figure(None, width, height).add_subplot() if axes is None else axes


def _groups(table, keys):
    """Label, style and rows of every channel or pair of channels."""
    numbers = [tuple(int(row[key]) for key in keys) for row in table]
    labels = sorted(set(numbers))
    # The ten colors differ most; further rows are told apart by their markers too.
    colors = colormaps["tab10" if len(labels) <= 10 else "tab20"].colors
    for index, label in enumerate(labels):
        rows = table[[number == label for number in numbers]]
        style = {"color": colors[index % len(colors)], "marker": _MARKERS[index % len(_MARKERS)]}
        yield "-".join(map(str, label)), style, rows


def _plot_groups(axes, table, keys, column, *, error=None):
    _check(table, "frame_number", *keys, column, *([] if error is None else [error]))
    axes = _new_axes(axes)
    for label, style, rows in _groups(table, keys):
        rows = rows[np.argsort(rows["frame_number"])]
        bars = None if error is None else np.asarray(rows[error])
        values = np.asarray(rows[column])
        axes.errorbar(rows["frame_number"], values, yerr=bars, label=label, markersize=4, linewidth=1.2, **style)
    axes.set_xlabel("Frame")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    _legend(axes, keys)
    return axes


def _scatter(axes, table, keys, unit):
    _check(table, "frame_number", *keys, "dx", "dy")
    axes = _new_axes(axes, 5.6, 4.4)
    largest = 0
    for label, style, rows in _groups(table, keys):
        dx, dy = (np.asarray(getattr(rows[name], "value", rows[name]), dtype=float) for name in ("dx", "dy"))
        axes.plot(dx, dy, linestyle="none", markersize=5, label=label, **style)
        found = np.abs(np.concatenate([dx, dy]))
        largest = max(largest, found[np.isfinite(found)].max(initial=0))
    _level(axes, 0)
    axes.axvline(0, color="0.5", linewidth=0.8, zorder=0)
    reach = 1.15 * largest or 1
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.locator_params(nbins=5)
    axes.set(xlabel=f"Offset along x [{unit}]", ylabel=f"Offset along y [{unit}]")
    axes.grid(alpha=0.3)
    _legend(axes, keys)
    return axes


def _legend(axes, keys):
    if axes.get_legend_handles_labels()[1]:
        title = "Channels" if len(keys) == 2 else "Channel"
        axes.legend(title=title, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _level(axes, value):
    axes.axhline(value, color="0.5", linewidth=0.8, zorder=0)


def _unit(column):
    return "" if column.unit is None else f" [{column.unit}]"
