"""The commands for flight files."""

import click

from esis_ndcube.cli._base import Command, main
from esis_ndcube.quality import check_flight


@main.group()
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
