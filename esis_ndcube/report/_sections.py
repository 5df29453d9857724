"""The sections of the report: each measure, and the processing of the cube."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from astropy.table import Table

from esis_ndcube import quality
from esis_ndcube.corrections import CORRECTIONS
from esis_ndcube.quality import figures
from esis_ndcube.quality.shifts import shift_tables
from esis_ndcube.report._pictures import figure_picture
from esis_ndcube.report._tables import PageTable, cell
from esis_ndcube.utils.provenance import package_version
from esis_ndcube.visualization.style import good_images

_PACKAGES = "numpy", "scipy", "astropy", "sunpy", "ndcube", "reproject"
_EVERY = "Every exposure"
_WEAK = "The figures leave out weakly aligned images, which are mostly noise; the tables have them."


@dataclass(frozen=True)
class Measure:
    """
    One measure of quality in the report.

    Attributes
    ----------
    title, text : `str`
        Heading of the measure.
    measure : callable
        Function that makes the table of a cube, or a `dict` with the table of another measure too.
    figures : `dict`
        Functions that draw the table, by the captions of the figures.
    pairs : `bool`
        Whether the measure compares channels with each other.
    medians : `bool`
        Whether the page has a table of medians over the exposures.
    rows : `bool`
        Whether the page has the table itself.
    """

    title: str
    text: str
    measure: Callable
    figures: dict
    pairs: bool = True
    medians: bool = False
    rows: bool = True


MEASURES = {
    "correlations": Measure(
        "Correlation of the channels",
        "Zero-lag correlation of every pair of channels: over the full frame, where both are valid (octagon), there "
        "without a bright other line (clean), and in the octagon with images clipped at their 99.5th percentile.",
        quality.correlation_table,
        {
            "Full frame": lambda table: figures.plot_correlation(table, "full"),
            "Octagon, clipped": lambda table: figures.plot_correlation(table, "clipped"),
        },
        medians=True,
    ),
    "tiles": Measure(
        "Residual in tiles",
        "How far the channels lie apart in tiles of 128 pixels: errors of the alignment, and motions on the Sun.",
        shift_tables,
        {"RMS of the tiles": figures.plot_residual, "Mean over the exposures": figures.plot_tiles},
        rows=False,
    ),
    "offsets": Measure(
        "Offset of the channels as a whole",
        "The one translation of the second channel that makes it most like the first.",
        quality.pair_offset,
        {_EVERY: figures.plot_pair_offset},
    ),
    "trends": Measure(
        "Trends of the differences",
        "Rise of the straight line through the column means of the masked, normalized differences, from the middle of "
        "the window to its edge. The vignetting that was not corrected causes it.",
        quality.masked_difference_trend,
        {_EVERY: figures.plot_difference_trend},
        medians=True,
    ),
    "throughput": Measure(
        "Brightness",
        "Mean brightness of the common clean region relative to the brightest exposure of the channel. The "
        "atmosphere above the rocket absorbs the missing light.",
        quality.throughput,
        {_EVERY: figures.plot_throughput},
        pairs=False,
    ),
    "reference": Measure(
        "Offset from the reference",
        "Where the channels of the exposure nearest in time lie on the reference image, and their correlation with "
        "it, at its own resolution.",
        quality.offset_to_map,
        {"Every channel": figures.plot_map_offset},
        pairs=False,
    ),
}


def page_figure(title, text, draw, *, lossless=True):
    """
    A figure of the page in both colors.

    Parameters
    ----------
    title, text : `str`
        Caption, and a description for readers who cannot see the figure.
    draw : callable
        Function that makes the figure or axes.
    lossless : `bool`, optional
        Whether the figure has lines, and not images of the Sun.

    Returns
    -------
    `dict`
        Entries for the template.
    """
    light, width, height = figure_picture(draw, dark=False, lossless=lossless)
    dark, *_ = figure_picture(draw, dark=True, lossless=lossless)
    return {"title": title, "text": text, "light": light, "dark": dark, "width": width, "height": height}


def quality_section(measure, table, cube):
    """
    The section of one measure.

    Figures of pairs of channels leave out pairs with a weakly aligned image, whose values would decide the scales.

    Parameters
    ----------
    measure : `Measure`
        The measure.
    table : `~astropy.table.Table` or `str`
        Result of the measure, or the reason why there is none.
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `dict`
        Entries for the template.
    """
    section = {"title": measure.title, "text": measure.text, "missing": "", "figures": [], "tables": []}
    if isinstance(table, str):
        return section | {"missing": table}
    if not len(table):
        return section | {"missing": "no image gives this measure"}
    drawn = table[_good_pairs(table, cube)] if measure.pairs else table
    if len(drawn) < len(table):
        section["text"] += f" {_WEAK}"
    for title, draw in measure.figures.items():
        section["figures"].append(page_figure(title, measure.title, lambda draw=draw: draw(drawn)))
    if measure.medians:
        section["tables"].append(PageTable.of(_pair_medians(table), "Median over the exposures"))
    if measure.rows:
        section["tables"].append(PageTable.of(table, f"{measure.title}, all values"))
    return section


def _good_pairs(table, cube):
    """Rows of pairs of good images; all rows if there are none."""
    places = [{int(number): index for index, number in enumerate(n)} for n in (cube.frame_number, cube.channel)]
    time, first, second = (
        [place[int(number)] for number in table[name]]
        for place, name in zip((places[0], places[1], places[1]), ("frame_number", "first", "second"), strict=True)
    )
    good = good_images(cube)
    good = good[time, first] & good[time, second]
    return good if good.any() else ~good


def _pair_medians(table):
    """Median over the exposures of every pair of channels, NaN left out."""
    columns = table.colnames[3:]
    rows = []
    for pair in dict.fromkeys(zip(table["first"].tolist(), table["second"].tolist(), strict=True)):
        here = table[(table["first"] == pair[0]) & (table["second"] == pair[1])]
        rows.append((*pair, *(median(here[name]) for name in columns)))
    medians = Table(rows=rows, names=table.colnames[1:])
    for name in columns:
        medians[name].unit, medians[name].info.format = table[name].unit, table[name].info.format
    return medians


def median(values):
    """Median of the finite values; NaN if there are none."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan


def provenance_tables(cube):
    """
    How a cube was made.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `list` of `~esis_ndcube.report._tables.PageTable`
        Steps, alignments, corrections and versions, as far as there are any.
    """
    tables = []
    if cube.history:
        rows = [[step.name, _parameters(step), step.version] for step in cube.history]
        tables.append(PageTable("Processing steps", ["Step", "Parameters", "Version"], rows))
    alignments = cube.alignment
    if alignments is not None:
        columns = [
            "Frame",
            "Channel",
            "Stage",
            "Score",
            "Rotation [deg]",
            "Scale x [pix / pix]",
            "Scale y [pix / pix]",
            "u [pix]",
            "v [pix]",
            "Error [arcsec]",
            "Status",
            "Fit",
        ]
        rows = [_alignment_row(item) for item in alignments.flat if item is not None]
        tables.append(PageTable("Alignments (u, v: detector pixel of the grid's center)", columns, rows))
    for kind in CORRECTIONS:
        if (correction := kind.of_cube(cube)) is not None:
            caption, table = correction.report(cube)
            tables.append(PageTable.of(table, caption))
    rows = [["esis_ndcube", package_version()], *([name, version(name)] for name in _PACKAGES)]
    return [*tables, PageTable("Versions that made this page", ["Package", "Version"], rows)]


def _parameters(step):
    return ", ".join(f"{name} = {_brief(value)}" for name, value in step.parameters.items())


def _brief(value):
    if isinstance(value, list) and len(value) > 4:
        return f"[{value[0]!r}, ..., {value[-1]!r}: {len(value)} in all]"
    return str(value)


def _alignment_row(alignment):
    parts = alignment.transform.decompose(*alignment.transform.origin)
    shape = [cell(parts[name]) for name in ("rotation", "scale_x", "scale_y")]
    place = [cell(parts[name], ".2f") for name in ("u", "v")]
    names = [str(alignment.frame_number), str(alignment.channel), alignment.stage]
    return [*names, cell(alignment.score), *shape, *place, cell(alignment.error), alignment.status, alignment.reason]
