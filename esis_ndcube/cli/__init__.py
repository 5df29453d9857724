"""The ``esis-ndcube`` command."""

import contextlib
import functools
import re
import shlex
import sys
import warnings
from pathlib import Path

import click

import astropy.units as u
import sunpy.map
from sunpy.coordinates import Helioprojective

from esis_ndcube.cli._base import EXPECTED, OVERWRITE, Command, main
from esis_ndcube.cli._flight import flight as flight_group
from esis_ndcube.corrections import CORRECTIONS
from esis_ndcube.flight import ESIS_1, Flight
from esis_ndcube.io.fits import check_output
from esis_ndcube.level1 import ESISLevel1Cube
from esis_ndcube.level1.frames import list_files
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.level3.form import form_level3, level3_size
from esis_ndcube.level3.velocity import velocity_map
from esis_ndcube.quality import summary
from esis_ndcube.registration import coalign
from esis_ndcube.registration.transform import TERMS
from esis_ndcube.report import write_report
from esis_ndcube.simulate.demo import run_demo
from esis_ndcube.utils.output import full_disk_named, hold_space, part_folder, place
from esis_ndcube.utils.whole import is_packed, open_whole, pass_scarcity

__all__ = ["main"]

# Longer lists of parameters are shortened.
_LONG = 4


main.add_command(flight_group)
_command = functools.partial(main.command, cls=Command)
_WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="Number of threads; by default one per processor."
)
_FLIGHT = click.option(
    "--flight",
    "flight_file",
    type=click.Path(exists=True, dir_okay=False),
    help="Flight file (TOML); by default that of the first flight, in 2019.",
)


def _frame_numbers(ctx, parameter, value):
    """The frame numbers of an option, or None."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", value)
    first, last = (int(number or found[1]) for number in found.groups()) if found else (1, 0)
    if first > last:
        msg = (
            f"got {value!r}, expected frame numbers FIRST-LAST in order, for example 120-129, or one number, "
            "for example 124"
        )
        raise click.BadParameter(msg)
    return range(first, last + 1)


def _corrections(command):
    """Add a switch for each correction, which leaves the correction out or asks for one that is not the default."""
    for kind in reversed(CORRECTIONS):
        name = f"--{'no-' if kind.default else ''}{kind.option.replace('_', '-')}"
        switch = {"flag_value": not kind.default, "default": kind.default}
        if kind.takes_file:
            switch = {"type": click.Path(exists=True, dir_okay=False)}
        command = click.option(name, kind.option, help=kind.help, **switch)(command)
    return command


@_command()
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="Level-3 file to write.")
@click.option(
    "--fetch",
    metavar="FLIGHT",
    help="Fetch the public raw frames of a flight, for example 'f1', in place of PATHS. Without --reference, also "
    "fetch the reference images. Files that are there already are not fetched again.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False),
    help="Folder for the files of --fetch; by default a folder with the flight's name in sunpy's download folder.",
)
@click.option("--vso", is_flag=True, help="Fetch references from the VSO, without a registered e-mail address.")
@click.option("--line", help="Spectral line, for example 'O V' or 'He I'; by default the flight's main line.")
@click.option(
    "--all-lines",
    is_flag=True,
    help="Write a file for each line, from one reading of the frames. The name of the line is put before the ending of "
    "OUTPUT: 'l3.fits' gives, for example, 'l3_OV.fits' and 'l3_HeI.fits'. If one line fails, the files of the others "
    "are written.",
)
@click.option(
    "--reference",
    "-r",
    "references",
    multiple=True,
    type=click.Path(),
    help="Image of the Sun to align with, for example SDO/AIA 304: a file, a folder or a pattern in quotes. "
    "Give the option again for more images; each exposure uses the nearest in time. By default the flight's own pose "
    "gives the pointing.",
)
@click.option(
    "--stage",
    type=click.Choice(["linear", "final"]),
    default="final",
    show_default=True,
    help="Stop after the affine alignment with the reference, or also align the channels with one another.",
)
@click.option(
    "--exposures",
    metavar="FIRST-LAST",
    callback=_frame_numbers,
    help="Form only these exposures, by their frame numbers, for example 120-129 or 124; by default all. Images are "
    "scaled to the brightest of these exposures.",
)
@click.option(
    "--reference-channel",
    type=int,
    help="Number of the channel that the others are aligned with; by default the flight's choice.",
)
@click.option(
    "--model",
    type=click.Choice(["independent", "joint"]),
    help="Align each exposure on its own, or all exposures with one static distortion per channel. The default is "
    "joint for three exposures or more.",
)
@click.option(
    "--degree",
    type=click.IntRange(2, max(TERMS)),
    default=2,
    show_default=True,
    help="Degree of the polynomials of the final alignments; degree 3 follows a cubic distortion.",
)
@click.option(
    "--max-gap",
    type=click.FloatRange(min=0),
    help="Longest time in s between an exposure and its reference image; by default any time, with a warning.",
)
@click.option("--rotate", is_flag=True, help="Rotate the Sun in the reference images to the times of the exposures.")
@_corrections
@click.option("--no-despike", is_flag=True, help="Do not remove particle hits.")
@click.option(
    "--darks",
    multiple=True,
    type=click.Path(),
    help="More darks: a file, a folder or a pattern in quotes. Frames of the flight that are no darks are left out; "
    "the frame numbers of other files do not matter.",
)
@click.option("--skip-damaged", is_flag=True, help="Leave out files that cannot be read.")
@_FLIGHT
@_WORKERS
@OVERWRITE
def level3(
    paths,
    output,
    fetch,
    folder,
    vso,
    line,
    all_lines,
    references,
    stage,
    exposures,
    reference_channel,
    model,
    degree,
    max_gap,
    rotate,
    no_despike,
    darks,
    skip_damaged,
    flight_file,
    workers,
    overwrite,
    **corrections,
):
    """Form a Level-3 cube from raw frames.

    PATHS are raw frames, folders of raw frames, or patterns in quotes. The frames must include darks, unless --darks
    gives them; the flight's time line tells darks from light frames.

    With --fetch the frames and the references come from the network. JSOC sends references to registered e-mail
    addresses only: the environment variable JSOC_EMAIL holds the address.

    The unfinished output is in a folder OUTPUT.part beside the output. The command removes this folder at its end, also
    when a signal ends it. A process that is killed leaves the folder, and the next command that makes the same output
    removes it.

    \b
    Examples:
        esis-ndcube level3 --fetch f1 --output l3.fits
        esis-ndcube level3 frames/ --reference aia_304.fits --output l3.fits
        esis-ndcube level3 "frames/*_0012?.fit.gz" darks/ --line "He I" -o he.fits
        esis-ndcube level3 frames/ -r references/ --all-lines -o l3.fits
    """
    # Everything that can be wrong is looked at before anything that takes time.
    files = {kind: corrections[kind.option] for kind in CORRECTIONS if kind.takes_file}
    flight = _read_flight(flight_file)
    if line is not None and all_lines:
        msg = f"got --line {line!r} and --all-lines, expected one of the two"
        raise ValueError(msg)
    outputs = {line: Path(output)}
    if all_lines:
        outputs = {name: _path_of_line(output, name) for name in flight.formable_lines}
    for path in outputs.values():
        check_output(path, overwrite, inputs=[flight_file, *files.values()])
    corrections |= {kind.option: kind.choose(path, flight, line) for kind, path in files.items() if path is not None}
    if line is not None:
        flight.line(line)
    if reference_channel is not None:
        flight.channel(reference_channel)
    if exposures is not None:
        exposures = _light_frames(exposures, flight)
    if (folder or vso) and not fetch:
        msg = "got --folder or --vso without --fetch, expected both or none: add --fetch FLIGHT"
        raise ValueError(msg)
    own_references = bool(references)
    if fetch:
        flight, paths, references = _fetch(fetch, flight_file and flight, paths, references, folder, vso)
    elif not paths:
        msg = "got neither PATHS nor --fetch, expected raw frames, or --fetch with a flight"
        raise ValueError(msg)
    references = list_files(references) if references else []
    inputs = [*list_files(paths), *(list_files(darks) if darks else []), *references]
    for path in outputs.values():
        check_output(path, overwrite, inputs=inputs)
    maps = _read_maps(references)
    if fetch and maps and not own_references:
        from esis_ndcube.net.pointing import point_maps

        maps = point_maps(maps)
    progress = sys.stderr.isatty()
    lost = {}
    with full_disk_named(output), part_folder(output) as folder:
        _name_step("Reading the raw frames")
        level1 = ESISLevel1Cube.from_raw(
            list(paths),
            flight,
            darks=list(darks) or None,
            despike=not no_despike,
            frame_numbers=exposures,
            on_error="skip" if skip_damaged else "raise",
            lazy=True,
            # The calibrated frames are used twice for each line.
            scratch=folder,
            workers=workers,
            progress=progress,
        )
        size = level3_size(level1)
        check_output(outputs[next(iter(outputs))], overwrite, size=size * len(outputs))
        for name, path in outputs.items():
            of_line = f" in {name}" if all_lines else ""
            temporary = folder / path.name
            try:
                with hold_space(temporary, size):
                    _name_step(f"Calibrating and aligning {level1.shape[0]} exposures{of_line}")
                    found = coalign(
                        level1,
                        maps,
                        line=name,
                        reference_channel=reference_channel,
                        model=model,
                        degree=degree,
                        max_gap=None if max_gap is None else max_gap * u.s,
                        rotate=rotate,
                        workers=workers,
                        progress=progress,
                    )
                _name_step(f"Resampling {level1.shape[0]} exposures{of_line}")
                cube = form_level3(
                    level1,
                    found,
                    stage=stage,
                    **corrections,
                    output=temporary,
                    workers=workers,
                    progress=progress,
                )
                description = str(cube)
                check_output(path, overwrite, inputs=inputs)
                place({temporary: path})
            except EXPECTED as error:
                if not all_lines:
                    raise
                lost[name] = error
                continue
            click.echo(description)
            click.echo(f"Written to {path}")
    if lost:
        reasons = "; ".join(f"{name}: {error}" for name, error in lost.items())
        msg = f"{len(lost)} of {len(outputs)} lines have no file: {reasons}"
        raise ValueError(msg) from next(iter(lost.values()))


@main.group()
def fetch():
    """Fetch public files of a flight."""


@fetch.command(cls=Command)
@click.option("--folder", type=click.Path(file_okay=False), help="Folder to make for the images.")
@_FLIGHT
def references(folder, flight_file):
    """Fetch the reference images of a flight that its team published.

    By default the images are in the folder 'references' of a folder with the flight's name in sunpy's download folder.
    A folder that is there already is not fetched again.

    \b
    Example:
        esis-ndcube fetch references --folder aia
    """
    from esis_ndcube.net.fetch import fetch_references

    _name_step("Fetching the reference images")
    found = fetch_references(_read_flight(flight_file), folder)
    click.echo(f"The images are in {found}")


@_command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--quality", is_flag=True, help="Also measure how well the channels agree.")
def info(path, quality):
    """Show what a Level-3 file holds.

    \b
    Example:
        esis-ndcube info l3.fits --quality
    """
    # Only the measurement needs the images.
    cube = ESISLevel3Cube.read(path, outline=not quality)
    # The steps follow with their parameters.
    click.echo("\n".join(line for line in str(cube).splitlines() if not line.startswith("  steps: ")))
    click.echo("\nProcessing:")
    for step in cube.history:
        parameters = ", ".join(f"{key}={_brief(value)}" for key, value in step.parameters.items())
        click.echo(f"  {step.name}({parameters})")
    if cube.data.ndim == 4:
        _print_exposures(cube)
    if quality:
        _print_quality(cube)


@_command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="HTML file to write.")
@click.option("--reference", "-r", type=click.Path(), help="Image of the Sun to compare with, for example SDO/AIA 304.")
@OVERWRITE
def report(path, output, reference, overwrite):
    """Write a page on the quality and the processing of a Level-3 file.

    The page is one HTML file, which needs no network. It has pictures with a slider through the exposures, figures and
    tables.

    \b
    Example:
        esis-ndcube report l3.fits --reference aia_304.fits --output report.html
    """
    check_output(output, overwrite, inputs=[path, reference])
    maps = _read_maps([reference]) if reference else [None]
    if len(maps) > 1:
        msg = f"reference {reference} holds {len(maps)} images, expected one"
        raise ValueError(msg)
    cube = ESISLevel3Cube.read(path)
    name = Path(path).name
    _name_step(f"Measuring and drawing {cube.shape[0]} exposures")
    write_report(cube, output, reference=maps[0], source=name, overwrite=overwrite, progress=sys.stderr.isatty())
    click.echo(f"Written to {output}")


@_command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="FITS or ASDF file to write.")
@click.option(
    "--method",
    default="field",
    show_default=True,
    type=click.Choice(["field", "window"]),
    help="Fit a field that conserves the light, or one velocity in each window.",
)
@click.option(
    "--fwhm",
    default=7.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Width (FWHM) in arcsec of the Gaussian that smooths the maps.",
)
@click.option("--overlap", is_flag=True, help="Also use pixels with light of the brightest other line.")
@OVERWRITE
def velocity(path, output, method, fwhm, overlap, overwrite):
    """Make maps of the line-of-sight velocity from a Level-3 file.

    \b
    Example:
        esis-ndcube velocity l3.fits --output velocity.fits
    """
    check_output(output, overwrite, inputs=[path])
    cube = ESISLevel3Cube.read(path, lazy=Path(path).suffix == ".fits")
    options = {"method": method, "fwhm": fwhm * u.arcsec, "overlap": overlap}
    _name_step("Finding velocities")
    found = velocity_map(cube, **options, progress=sys.stderr.isatty())
    found.write(output, overwrite=overwrite)
    click.echo(str(found))
    click.echo(f"  systematic error: {found.systematic:.1f}")
    click.echo(f"Written to {output}")


@_command()
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--exposures", default=3, show_default=True, type=click.IntRange(min=2), help="Number of exposures.")
@click.option(
    "--size",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Make the field this many times smaller, for a quicker demonstration.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the random numbers.")
@_FLIGHT
@_WORKERS
@OVERWRITE
def demo(directory, exposures, size, seed, flight_file, workers, overwrite):
    """Process a simulated flight whose truth is known.

    The command writes raw frames, reference images, the Level-3 file and pictures to DIRECTORY. It prints how well the
    channels agree, and how far the recovered coordinates are from the true ones.

    \b
    Examples:
        esis-ndcube demo demo_output
        esis-ndcube demo quick_look --size 3 --exposures 2
    """
    click.echo(f"Simulating {exposures} exposures, to be processed in {directory} ...", err=True)
    result = run_demo(
        directory,
        _read_flight(flight_file),
        n_exposures=exposures,
        size=size,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
        inputs=[flight_file],
        progress=sys.stderr.isatty(),
    )
    click.echo(str(result.cube))
    click.echo("\nQuality (residual: between channels; error: recovered minus true coordinates):")
    click.echo("\n".join(result.quality.pformat(max_width=-1)))
    click.echo("\nWritten:")
    for path in (result.path, *result.pictures):
        click.echo(f"  {path}")
    folder = Path(directory)
    command = ["esis-ndcube", "level3", folder / "raw", "--reference", folder / "reference"]
    command += ["--flight", result.flight_file, "--output", folder / "again.fits"]
    click.echo("\nThe same from the raw frames:")
    click.echo(f"  {shlex.join(map(str, command))}")


def _name_step(text):
    """Name a step where no progress bar shows it, for example in the log of a batch queue."""
    if not sys.stderr.isatty():
        click.echo(f"{text} ...", err=True)


def _read_flight(path):
    return ESIS_1 if path is None else Flight.read(path)


def _path_of_line(output, name):
    """The output with the name of a line before its ending, which can be that of a packed file."""
    path = Path(output)
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    return path.with_name(f"{path.name.removesuffix(ending)}_{''.join(name.split())}{ending}")


def _light_frames(numbers, flight):
    found = [number for number in numbers if flight.is_light(number)]
    if not found:
        ranges = ", ".join(f"{first}-{last}" for first, last in flight.light_frames)
        msg = (
            f"got --exposures {numbers[0]}-{numbers[-1]}, expected some of the light frames of {flight.name}, {ranges}"
        )
        raise ValueError(msg)
    return found


def _fetch(name, flight, paths, references, folder, vso):
    """The flight, its raw frames and its reference images, from the network."""
    from esis_ndcube.net.fetch import fetch_flight, named_flight

    if paths:
        msg = f"got {paths[0]} and --fetch {name}, expected one of the two"
        raise ValueError(msg)
    flight = named_flight(name, flight)
    progress = sys.stderr.isatty()
    _name_step(f"Fetching {name}")
    provider = "vso" if vso else "jsoc"
    files = fetch_flight(flight, folder, provider=provider, reference=not references, progress=progress)
    return flight, files.raw, references or files.reference


def _read_maps(paths):
    maps = []
    for path in paths:
        try:
            with warnings.catch_warnings():
                # sunpy would take the first image of a cube.
                warnings.filterwarnings("error", message=".*more than 2 dimensions")
                # sunpy does not compare the checksums.
                with open_whole(path) if _is_fits(path) else contextlib.nullcontext():
                    found = sunpy.map.Map(path)
            frame = found.coordinate_frame
        except Exception as error:
            # sunpy and astropy raise errors of many classes for files that they do not understand.
            pass_scarcity(error, path)
            msg = f"reference {path} is not an image of the Sun that sunpy can read: {error}; get it again"
            raise ValueError(msg) from error
        if not isinstance(frame, Helioprojective):
            msg = f"reference {path} is in {frame.name} coordinates, expected helioprojective ones"
            raise ValueError(msg)
        maps.extend(found if isinstance(found, list) else [found])
    return maps or None


def _is_fits(path):
    with Path(path).open("rb") as stream:
        return stream.read(6) == b"SIMPLE" or is_packed(path)


def _brief(value):
    if isinstance(value, list) and len(value) > _LONG:
        return f"[{value[0]!r}, ..., {value[-1]!r}: {len(value)} in all]"
    if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
        key, part = next(iter(value.items()))
        return f"{{{key!r}: {part!r}, ...: {len(value)} in all}}"
    return repr(value)


def _print_exposures(cube):
    click.echo("\nExposures:")
    click.echo("  frame  time                     channels (score)")
    for frame_number, time, row in zip(cube.frame_number, cube.time, cube.alignment, strict=True):
        scores = ", ".join(f"{a.channel} ({_quality(a)})" for a in row if a is not None)
        click.echo(f"  {frame_number:5d}  {time.isot}  {scores}")


def _quality(alignment):
    weak = f", weak, stated error {alignment.error:.2f}" if alignment.status == "weak" else ""
    return f"{alignment.score:.3f}{weak}" if alignment.converged else f"not aligned: {alignment.reason}"


def _print_quality(cube):
    click.echo("\nQuality:")
    table = summary(cube)
    table.rename_column("frame_number", "frame")
    click.echo("\n".join(table.pformat(max_width=-1)))
