"""The ``esis-ndcube`` command."""

import functools
import logging
import sys

import click

__all__ = ["main"]


class _Command(click.Command):
    """A command whose expected errors are messages and not tracebacks."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, OSError) as error:
            if ctx.find_root().params["verbose"]:
                raise
            raise click.ClickException(str(error)) from error


@click.group()
@click.version_option(package_name="esis_ndcube")
@click.option("--verbose", "-v", is_flag=True, help="Log every step, and show where an error came from.")
def main(verbose):
    """Level-3 data of the ESIS sounding rocket, from raw camera frames.

    \b
    Try it without any data:
        esis-ndcube demo demo_output
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")


_command = functools.partial(main.command, cls=_Command)
_WORKERS = click.option("--workers", type=click.IntRange(min=1), help="Number of threads.")
_FLIGHT = click.option(
    "--flight",
    "flight_file",
    type=click.Path(exists=True, dir_okay=False),
    help="Configuration file of the flight; by default the first flight, of 2019.",
)
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Overwrite what is there.")


@_command()
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="Level-3 file to write.")
@click.option("--line", help="Spectral line, as 'O V' or 'He I'; by default the flight's main line.")
@click.option(
    "--reference",
    "-r",
    "references",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Image of the Sun to align with, as SDO/AIA 304; give it again for more, the nearest in time is used. "
    "Without it the flight's own pose is the pointing.",
)
@click.option(
    "--stage",
    type=click.Choice(["linear", "final"]),
    default="final",
    show_default=True,
    help="Stop after the affine alignment with the reference, or align the channels with each other too.",
)
@click.option("--reference-channel", type=int, help="Channel that the others are aligned with.")
@click.option("--no-vignetting", is_flag=True, help="Do not correct the vignetting.")
@click.option("--no-normalize", is_flag=True, help="Do not scale the images to one brightness.")
@click.option("--no-despike", is_flag=True, help="Do not remove particle hits.")
@_FLIGHT
@_WORKERS
@_OVERWRITE
def level3(
    paths,
    output,
    line,
    references,
    stage,
    reference_channel,
    no_vignetting,
    no_normalize,
    no_despike,
    flight_file,
    workers,
    overwrite,
):
    """Form a Level-3 cube from raw frames.

    PATHS are raw frames, folders of them, or patterns in quotes. Darks are told from light frames by the flight's
    time line and must be among them.

    \b
    Example:
        esis-ndcube level3 frames/ --reference aia_304.fits --output l3.fits
    """
    from esis_ndcube.io.fits import check_output
    from esis_ndcube.level1 import ESISLevel1Cube
    from esis_ndcube.pipeline import form_level3

    # Nothing that takes time is done before what can be wrong has been looked at.
    check_output(output, overwrite)
    flight = _read_flight(flight_file)
    if line is not None:
        flight.line(line)
    if reference_channel is not None:
        flight.channel(reference_channel)
    maps = _read_maps(references)
    progress = sys.stderr.isatty()
    level1 = ESISLevel1Cube.from_raw(list(paths), flight, despike=not no_despike, workers=workers, progress=progress)
    cube = form_level3(
        level1,
        maps,
        line=line,
        stage=stage,
        reference_channel=reference_channel,
        vignetting=not no_vignetting,
        normalize=not no_normalize,
        workers=workers,
        progress=progress,
    )
    cube.write(output, overwrite=overwrite)
    click.echo(str(cube))
    click.echo(f"Written to {output}")


@_command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--quality", is_flag=True, help="Measure how well the channels fit on each other as well.")
def info(path, quality):
    """Say what is in a Level-3 file."""
    from esis_ndcube.level3 import ESISLevel3Cube

    cube = ESISLevel3Cube.read(path)
    click.echo(str(cube))
    click.echo(f"  pointing: {cube.reference}")
    click.echo("\nProcessing:")
    for step in cube.history:
        click.echo(f"  {step}")
    if cube.data.ndim != 4:
        return
    click.echo("\nExposures:")
    click.echo("  frame  time                     aligned channels (score)")
    for frame, time, row in zip(cube.frame, cube.time, cube.alignment, strict=True):
        scores = ", ".join(
            f"{a.channel} ({a.score:.3f})" if a.converged else f"{a.channel} ({a.reason})" for a in row if a is not None
        )
        click.echo(f"  {frame:5d}  {time.isot}  {scores}")
    if quality:
        _print_quality(cube)


@_command()
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--exposures", default=3, show_default=True, type=click.IntRange(min=2), help="Number of exposures.")
@click.option("--size", default=1.0, show_default=True, type=click.FloatRange(min=1), help="Shrink the field so much.")
@click.option("--seed", default=0, show_default=True, type=int, help="Seed of the random numbers.")
@_FLIGHT
@_WORKERS
@_OVERWRITE
def demo(directory, exposures, size, seed, flight_file, workers, overwrite):
    """Process a simulated flight whose truth is known.

    Writes raw frames, reference images, the Level-3 file and pictures to DIRECTORY, and prints how well the channels
    fit on each other and how far the recovered coordinates are from the true ones.
    """
    from esis_ndcube.demo import run_demo

    result = run_demo(
        directory,
        _read_flight(flight_file),
        n_exposures=exposures,
        size=size,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
        progress=sys.stderr.isatty(),
    )
    click.echo(str(result.cube))
    click.echo("\nQuality (residual: between channels; error: recovered minus true coordinates):")
    click.echo("\n".join(result.quality.pformat(max_width=-1)))
    click.echo("\nWritten:")
    for path in (result.path, *result.pictures):
        click.echo(f"  {path}")


def _read_flight(path):
    from esis_ndcube.flight import ESIS_1, Flight

    return ESIS_1 if path is None else Flight.read(path)


def _read_maps(paths):
    import sunpy.map

    maps = []
    for path in paths:
        try:
            found = sunpy.map.Map(path)
        except Exception as error:
            # sunpy and astropy raise many kinds for files that they do not understand.
            msg = f"reference {path} is not an image that sunpy can read: {error}"
            raise ValueError(msg) from error
        maps.extend(found if isinstance(found, list) else [found])
    return maps or None


def _print_quality(cube):
    from esis_ndcube.quality import summary

    click.echo("\nQuality:")
    click.echo("\n".join(summary(cube).pformat(max_width=-1)))
