"""Write the report of a cube: measure, draw, and make one page."""

import base64
import hashlib
from datetime import UTC, datetime

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

import astropy.units as u

from esis_ndcube.corrections import CORRECTIONS
from esis_ndcube.corrections.normalize import NOT_NORMALIZED
from esis_ndcube.quality.tables import summarize
from esis_ndcube.registration._status import image_status
from esis_ndcube.registration.reference import warn_of_gap
from esis_ndcube.report._pictures import image_pictures
from esis_ndcube.report._sections import MEASURES, median, page_figure, provenance_tables, quality_section
from esis_ndcube.report._tables import cell
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_axes, check_cube
from esis_ndcube.utils.output import check_output, write_text
from esis_ndcube.utils.times import nearest_in_time
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference
from esis_ndcube.visualization.style import compares_unnormalized, good_images

__all__ = ["write_report"]


def write_report(cube, path, *, reference=None, source=None, overwrite=False, progress=False):
    """
    Write a page on the quality and the processing of a cube.

    The page has pictures of all exposures with a slider, every measure of `esis_ndcube.quality` as figure and table,
    and the steps of the processing.
    The page is one file, and needs no other file and no network.
    A measure that the cube cannot give is named on the page with the reason.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    path : path-like
        The HTML file to write.
    reference : `~sunpy.map.GenericMap`, optional
        An image of the Sun to compare with.
    source : `str`, optional
        Name of the cube's file, which is shown on the page.
    overwrite : `bool`, optional
        Whether to replace a file that exists.
    progress : `bool`, optional
        Show a progress bar.

    Returns
    -------
    `pathlib.Path`
        The file.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, or no flight, line or frame numbers, or the output is the file from
        which the cube is read lazily.
    OSError
        If the file cannot be written, or exists.

    Examples
    --------
    >>> from esis_ndcube.report import write_report
    >>> from esis_ndcube.simulate import simulate_flight, true_cube
    >>> cube = true_cube(simulate_flight(size=8, n_exposures=2))
    >>> path = write_report(cube, getfixture("tmp_path") / "report.html")
    >>> "<!doctype html>" in path.read_text(encoding="utf-8").lower()
    True
    """
    check_cube(cube, 3)
    path = check_output(path, overwrite, inputs=[cube, reference])
    check_axes(cube, "flight", "line", "frame_number")
    return write_text(path, _template().render(_content(cube, reference, source, progress)), overwrite=overwrite)


def _template():
    environment = Environment(
        loader=PackageLoader("esis_ndcube.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["digest"] = _digest
    return environment.get_template("template.html")


def _digest(text):
    """Hash by which the page's policy allows its own scripts and styles; text from a header is not allowed to run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _content(cube, reference, source, progress):
    """All entries of the template."""
    seen = _seen(cube)
    start = _start(cube, reference, seen)
    frame_number = int(cube.frame_number[start])
    measured = _measure(cube, reference, frame_number, progress)
    tables = {name: table for name, table in measured.items() if not isinstance(table, str)}
    if "correlations" in tables and "tiles" in tables:
        tables["summary"] = summarize(cube, tables["correlations"], tables["tiles"])
    pair = _pair(cube, seen[start])
    shots = tqdm(image_pictures(cube, pair), desc="Drawing exposures", total=cube.shape[0], disable=not progress)
    panels = [f"Channel {number}" for number in cube.channel]
    note = f", {NOT_NORMALIZED}" if compares_unnormalized(cube) else ""
    panels += [] if pair is None else [f"Channel {pair[0]} minus channel {pair[1]}{note}"]
    pictures = _pictures(cube, reference, frame_number, pair)
    sections = tqdm(measured.items(), desc="Drawing figures", disable=not progress)
    quality = [quality_section(MEASURES[name], table, cube) for name, table in sections]
    drawn = [*pictures, *(figure for section in quality for figure in section["figures"])]
    return {
        "title": f"{cube.flight.instrument} {cube.line}, Level 3",
        "subtitle": cube.flight.title,
        "facts": _facts(cube, source),
        "headlines": _headlines(cube, tables),
        "exposures": [
            {"label": _label(cube, index), "note": _note(cube, tables, index, seen[index]), "pictures": sources}
            for index, sources in enumerate(shots)
        ],
        "panels": panels,
        "shape": cube.shape[2:],
        "start": start,
        "line": cube.line,
        "pictures": pictures,
        "quality": quality,
        "widths": sorted({figure["width"] for figure in drawn}),
        "provenance": {
            "tables": provenance_tables(cube),
            "written": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        },
    }


def _measure(cube, reference, frame_number, progress):
    """The table of every measure, or the reason why there is none."""
    measured = {}
    for name, item in tqdm(MEASURES.items(), desc="Measuring", disable=not progress):
        if name in measured or (name == "reference" and reference is None):
            continue
        if item.pairs and cube.shape[1] < 2:
            measured[name] = "the cube has one channel only"
            continue
        try:
            compared = {"reference": reference, "frame_number": frame_number} if name == "reference" else {}
            found = item.measure(cube, **compared)
            measured |= found if isinstance(found, dict) else {name: found}
        except ValueError as error:
            measured[name] = str(error)
    return measured


def _start(cube, reference, seen):
    """The first exposure to show, of those with most good images: nearest to the reference, or else the middle one."""
    count = (seen & good_images(cube)).sum(axis=1)
    best = np.flatnonzero(count == count.max())
    if reference is None:
        return int(best[len(best) // 2])
    (nearest,), seconds = nearest_in_time(cube.time[best], reference.reference_date)
    warn_of_gap("images", abs(seconds[0]) * u.s, None)
    return int(best[nearest])


def _pair(cube, seen):
    """The reference channel and another one of those that have data in an exposure."""
    seen = cube.channel[seen].tolist()
    if len(seen) < 2:
        return None
    first = cube.flight.reference_channel if cube.flight.reference_channel in seen else seen[0]
    later = [number for number in seen if number > first]
    return tuple(sorted((first, later[0] if later else seen[seen.index(first) - 1])))


def _seen(cube):
    """Whether each image has data, shape (time, channel)."""
    return np.array(
        [~np.asarray(invalid_pixels(cube.data, cube.mask, time)).all(axis=(1, 2)) for time in range(cube.shape[0])]
    )


def _label(cube, index):
    return f"Frame {int(cube.frame_number[index])}, {cube.time[index].isot[:19].replace('T', ' ')} UTC"


def _note(cube, tables, index, seen):
    """The measures of one exposure, in words."""
    missing = ", ".join(map(str, cube.channel[~seen]))
    parts = [f"no data of channel {missing}"] if missing else []
    if "summary" in tables:
        row = tables["summary"][index]
        parts.append(f"correlation {cell(row['correlation full'])} (octagon {cell(row['correlation octagon'])})")
        parts.append(f"residual in tiles {cell(row['residual'], '.3f')} pix")
        if cube.alignment is not None:
            weak = f", {row['weak']} weak" if row["weak"] else ""
            parts.append(f"{row['aligned']} of {len(cube.channel)} channels aligned{weak}")
    if "throughput" in tables:
        here = tables["throughput"][tables["throughput"]["frame_number"] == cube.frame_number[index]]
        parts.append(f"relative brightness {cell(median(here['throughput'].value), '.3f')}")
    return ", ".join(parts)


def _facts(cube, source):
    flight = cube.flight
    line = flight.line(cube.line)
    frames, times = cube.frame_number, cube.time
    scale = " × ".join(f"{step:g}" for step in flight.grid_cdelt)
    rows = [
        ("File", source),
        ("Flight", f"{flight.name}: {flight.title}"),
        ("Line", f"{line.name}, {line.wavelength:.3f}"),
        ("Exposures", f"{len(frames)}, frames {frames[0]} to {frames[-1]}"),
        ("Time (UTC)", f"{times[0].isot} to {times[-1].isot}"),
        ("Channels", ", ".join(map(str, cube.channel))),
        ("Images", f"{cube.shape[3]} × {cube.shape[2]} pixels of {scale} arcsec, {cube.unit or 'no unit'}"),
        ("Alignment", cube._summary()["alignment"]),
        ("Pointing from", cube.reference),
        *(kind.fact(kind.of_cube(cube)) for kind in CORRECTIONS if kind.key),
        ("Steps", ", ".join(step.name for step in cube.history)),
        ("Made with", ", ".join(f"esis_ndcube {v}" for v in dict.fromkeys(step.version for step in cube.history))),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _headlines(cube, tables):
    """The numbers at the top of the page: medians, because a last exposure may be nearly without light."""
    found = []
    if "summary" in tables:
        for name, digits, text in (
            ("correlation full", ".4f", "correlation, full frame"),
            ("correlation octagon", ".4f", "correlation, octagon"),
            ("residual", ".3f", "residual in tiles, RMS"),
        ):
            value, unit = median(tables["summary"][name]), tables["summary"][name].unit
            if np.isfinite(value):
                found.append((f"{value:{digits}} {unit or ''}".rstrip(), f"{text}: median of the exposures"))
    if cube.alignment is not None:
        states = [image_status(alignment) for alignment in cube.alignment.flat]
        found.append((f"{states.count('aligned')} of {len(states)}", "images aligned"))
        if count := states.count("weak"):
            found.append((f"{count} of {len(states)}", "images weakly aligned, which are mostly noise"))
    return found


def _pictures(cube, reference, frame_number, pair):
    """Figures of one exposure with axes."""
    where = f"frame {frame_number}"
    drawings = [("All channels", f"The images of all channels of {where}.", lambda: plot_channels(cube, frame_number))]
    if pair is not None:
        text = (
            f"Channel {pair[0]} minus channel {pair[1]}, {where}, without the parts that a bright other line overlaps."
        )
        drawings.append(("Difference of two channels", text, lambda: plot_difference(cube, *pair, frame_number)))
    if reference is not None:
        text = f"The minimum of the channels of {where} beside the reference image."
        drawings.append(("With the reference", text, lambda: plot_with_reference(cube, reference, frame_number)))
    return [page_figure(title, text, draw, lossless=False) for title, text, draw in drawings]
