"""All steps on a simulated flight: raw frames, Level-3 cube, and its distance from the truth."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sunpy.map
from astropy.table import Table

from esis_ndcube.field_stop.region import line_region
from esis_ndcube.flight import ESIS_1
from esis_ndcube.level1 import ESISLevel1Cube
from esis_ndcube.level3.form import form_level3
from esis_ndcube.quality import summary
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.utils.output import check_output, temporary_output, write_text
from esis_ndcube.utils.times import nearest_in_time
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference
from esis_ndcube.visualization._panels import explain_arrows, new_figure

__all__ = ["Demo", "coordinate_error", "run_demo"]

log = logging.getLogger(__name__)

_STEP = 8
# Upper end of a scale of errors that are all 0, in pixels.
_LEAST = 1e-6
_PICTURES = ("channels.png", "reference.png", "difference.png", "coordinate_error.png")


@dataclass(frozen=True, eq=False)
class Demo:
    """
    The results of a demonstration.

    Attributes
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        The Level-3 cube.
    simulated : `~esis_ndcube.simulate.SimulatedFlight`
        The flight and its truth.
    path : `pathlib.Path`
        The Level-3 file.
    flight_file : `pathlib.Path`
        The configuration file of the simulated flight.
    pictures : `list` of `pathlib.Path`
        The pictures.
    quality : `~astropy.table.Table`
        The table of `~esis_ndcube.quality.summary`, and the error of the coordinates.

    Examples
    --------
    >>> from esis_ndcube.simulate.demo import run_demo
    >>> run_demo("demo_output").cube.shape  # doctest: +SKIP
    (3, 4, 1270, 1270)
    """

    cube: object
    simulated: object
    path: Path
    flight_file: Path
    pictures: list
    quality: Table


def run_demo(
    directory,
    flight=ESIS_1,
    *,
    n_exposures=3,
    size="full",
    seed=0,
    workers=None,
    overwrite=False,
    inputs=(),
    progress=False,
):
    """
    Simulate a flight, process its raw frames, and compare the result with the truth.

    Parameters
    ----------
    directory : path-like
        Where to write raw frames, reference images, the Level-3 file and pictures.
    flight : `~esis_ndcube.Flight`, optional
        The flight to simulate.
    n_exposures : `int`, optional
        Number of exposures.
    size : ``"small"``, ``"full"`` or `float`, optional
        As for `~esis_ndcube.simulate.simulate_flight`.
    seed : `int`, optional
        Seed of the random numbers.
    workers : `int`, optional
        Number of threads.
    overwrite : `bool`, optional
        Whether to overwrite files of an earlier demonstration.
    inputs : iterable of path-like, optional
        Files that may not be replaced, such as the file from which the flight was read.
    progress : `bool`, optional
        Show progress bars.

    Returns
    -------
    `Demo`
        The cube, the truth, and the files.

    Raises
    ------
    FileExistsError
        If files with these names exist.
    ValueError
        If one of the inputs would be replaced.

    Examples
    --------
    >>> from esis_ndcube.simulate.demo import run_demo
    >>> run_demo("demo_output").quality.pprint()  # doctest: +SKIP
    """
    directory = Path(directory)
    simulated = simulate_flight(flight, n_exposures=n_exposures, size=size, seed=seed)
    directory.mkdir(parents=True, exist_ok=True)
    path, flight_file = directory / "l3.fits", directory / "flight.toml"
    for file in (path, flight_file, *(directory / name for name in _PICTURES)):
        check_output(file, overwrite, inputs=inputs)
    log.info("Writing raw frames of a simulated flight to %s", directory)
    files = simulated.write(directory, overwrite=overwrite)
    write_text(flight_file, simulated.flight.toml, overwrite=overwrite)
    level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight, workers=workers, progress=progress)
    maps = [sunpy.map.Map(file) for file in files.reference]
    cube = form_level3(level1, maps, workers=workers, progress=progress)
    cube.write(path, overwrite=overwrite)
    quality = summary(cube)
    errors = [
        [np.nan if a is None or not a.converged else _rms(*coordinate_error(a, simulated)[2:]) for a in row]
        for row in cube.alignment
    ]
    # Some exposures may have no channel that could be aligned.
    quality["error"] = np.ma.masked_invalid(errors).mean(axis=1).filled(np.nan)
    quality["error"].unit = "pix"
    quality["error"].info.format = ".4f"
    passband = simulated.flight.line_reference(cube.line)
    own = [item for item in maps if item.wavelength == passband.wavelength]
    pictures = _draw(cube, own, simulated, directory)
    return Demo(cube, simulated, path, flight_file, pictures, quality)


def coordinate_error(alignment, simulated):
    """
    Distance of recovered coordinates from the true ones.

    Parameters
    ----------
    alignment : `~esis_ndcube.Alignment`
        An alignment of a simulated frame.
    simulated : `~esis_ndcube.simulate.SimulatedFlight`
        The flight and its truth.

    Returns
    -------
    x, y, dx, dy : `numpy.ndarray`
        Pixels of the output grid inside of the field stop, on every eighth row and column, and recovered minus true
        position, in pixels of the grid, of the Sun that the detector shows there.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import Alignment
    >>> from esis_ndcube.simulate.demo import coordinate_error
    >>> from esis_ndcube.simulate import simulate_flight
    >>> simulated = simulate_flight(size=8)
    >>> flight = simulated.flight
    >>> pose = Alignment.from_pose(flight, 1, frame_number=flight.pose_frame, line="O V", time=flight.launch)
    >>> x, y, dx, dy = coordinate_error(pose, simulated)
    >>> bool(np.hypot(dx, dy).max() < 20)
    True
    """
    rows, columns = simulated.flight.grid_shape
    y, x = np.mgrid[:rows:_STEP, :columns:_STEP].astype(float)
    true = simulated.truth.to_detector(alignment.frame_number, alignment.channel, x, y, line=alignment.line)
    found_x, found_y = alignment.transform.inverse(*true)
    inside = line_region(simulated.flight, alignment.channel, alignment.line, *true)
    return x[inside], y[inside], (found_x - x)[inside], (found_y - y)[inside]


def _rms(dx, dy):
    return float(np.sqrt(np.mean(dx**2 + dy**2)))


def _draw(cube, maps, simulated, directory):
    aligned = [[a.channel for a in row if a is not None and a.converged] for row in cube.alignment]
    index = int(np.argmax([len(channels) for channels in aligned]))
    frame_number = int(cube.frame_number[index])
    # The reference channel first: there are no pictures of channels that could not be aligned.
    pair = sorted(aligned[index], key=lambda number: number != cube.flight.reference_channel)[:2]
    (nearest,), _ = nearest_in_time([item.reference_date for item in maps], cube.time[index])
    figures = (
        plot_channels(cube, frame_number),
        plot_with_reference(cube, maps[nearest], frame_number),
        plot_difference(cube, *pair, frame_number) if len(pair) == 2 else None,
        _plot_error(cube, simulated, index),
    )
    made = {directory / name: figure for name, figure in zip(_PICTURES, figures, strict=True) if figure is not None}
    for path, figure in made.items():
        with temporary_output(path, overwrite=True) as temporary:
            figure.savefig(temporary, dpi=100)
    return list(made)


def _plot_error(cube, simulated, index):
    alignments = [a for a in cube.alignment[index] if a is not None and a.converged]
    errors = [coordinate_error(alignment, simulated) for alignment in alignments]
    sizes = [np.hypot(dx, dy) for _, _, dx, dy in errors]
    # One scale for all panels: the longest arrow of a typical field is as long as the step from arrow to arrow.
    limit = max(np.percentile(np.concatenate(sizes), 99), _LEAST)
    step = 8 * _STEP
    figure = new_figure(None, 1 + 4 * len(alignments), 4.8)
    axes = figure.subplots(1, len(alignments), sharex=True, sharey=True, squeeze=False)[0]
    for axis, alignment, (x, y, dx, dy), size in zip(axes, alignments, errors, sizes, strict=True):
        some = (x % step == 0) & (y % step == 0)
        artist = axis.scatter(x, y, c=size, s=4, vmin=0, vmax=limit, cmap="viridis")
        parts = (part[some] for part in (x, y, dx, dy))
        arrows = axis.quiver(*parts, angles="xy", scale_units="xy", scale=limit / step)
        axis.set(title=f"Channel {alignment.channel}: {_rms(dx, dy):.3f} px RMS", aspect="equal")
        axis.set_xlabel("x [pixel]")
    axes[0].set_ylabel("y [pixel]")
    figure.colorbar(artist, ax=axes, label="Recovered minus true position [pixel]", shrink=0.8)
    explain_arrows(figure, arrows, limit, f"Error of the coordinates, frame {int(cube.frame_number[index])}")
    return figure
