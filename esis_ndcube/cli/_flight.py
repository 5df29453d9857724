"""The commands for flight files."""

import click

from astropy.io.registry import IORegistryError
from astropy.table import Table

from esis_ndcube.cli._base import OVERWRITE, Command
from esis_ndcube.flight import Flight, fit_flight
from esis_ndcube.quality import check_flight
from esis_ndcube.utils.output import check_output, write_text


@click.group()
def flight():
    """Work with flight files."""


@flight.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.pass_context
def check(context, file):
    """Look for errors in a flight file, without any frame.

    Each line is one check: ok, fault, or not known. The exit status is 1 if there is a fault.

    \b
    Example:
        esis-ndcube flight check next_flight.toml
    """
    checks = check_flight(file)
    for found in checks:
        click.echo(str(found))
    if any(found.status == "fault" for found in checks):
        context.exit(1)


@flight.command(cls=Command)
@click.argument("table", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--flight",
    "flight_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Flight file (TOML) with all other entries.",
)
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="Flight file to write.")
@OVERWRITE
def fit(table, flight_file, output, overwrite):
    """Fit the poses of a flight file to positions on the sky and on the detector.

    TABLE is a file in ECSV, CSV or FITS with a row for each point of a ray trace, or of a test with stars. Its columns
    are channel, line, longitude and latitude (arcsec), u and v (pixels); a column corner may mark the corners of the
    field stop. The output has all entries of the given flight file, without comments.

    \b
    Example:
        esis-ndcube flight fit trace.ecsv --flight design.toml --output next_flight.toml
    """
    check_output(output, overwrite, inputs=[table, flight_file])
    try:
        points = Table.read(table)
    except IORegistryError as error:
        msg = f"{table} is not a table of a known kind, expected a file with the ending .ecsv, .csv or .fits"
        raise ValueError(msg) from error
    found = fit_flight(points, Flight.read(flight_file))
    write_text(output, found.flight.toml, overwrite=overwrite)
    click.echo(str(found))
