"""The parts that all commands share: the group, and messages in place of tracebacks."""

import contextlib
import logging
import signal
import sys
import threading
import warnings

import click
from tqdm import tqdm

from sunpy import log as sunpy_log

from esis_ndcube.utils.provenance import package_version

# Batch queues, terminals and people end a process by these signals; Windows lacks some of them.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace output files that exist.")

# Errors that are messages to the user.
EXPECTED = ValueError, TypeError, OSError, MemoryError, ImportError


class Command(click.Command):
    """A command that shows its warnings and expected errors as messages, without a traceback."""

    def __init__(self, *args, params=None, **kwargs):
        verbose = click.Option(
            ["--verbose", "-v"], is_flag=True, help="Show more messages, and where each error or warning came from."
        )
        super().__init__(*args, params=[*(params or []), verbose], **kwargs)

    def invoke(self, ctx):
        verbose = ctx.params.pop("verbose")
        with _messages(verbose):
            try:
                with _signals():
                    return super().invoke(ctx)
            except KeyboardInterrupt as error:
                click.echo("Aborted!", err=True)
                # Shells count the exit status in this way.
                raise click.exceptions.Exit(128 + getattr(error, "number", signal.SIGINT)) from error
            except EXPECTED as error:
                if verbose:
                    raise
                raise click.ClickException(str(error) or type(error).__name__) from error


class _Ended(KeyboardInterrupt):
    """Another signal that ends the command as an interrupt does."""

    def __init__(self, number):
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _signals():
    """Let signals end the command in the way of an interrupt, so that it cleans up."""
    # A signal that is ignored stays ignored, for example under nohup. Only the main thread may set handlers.
    main = threading.current_thread() is threading.main_thread()
    numbers = [number for number in _SIGNALS if main and signal.getsignal(number) is signal.SIG_DFL]

    def end(number, _):
        # Some queues send several signals, which must not disturb the cleaning up.
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Ended(number)

    try:
        for number in numbers:
            signal.signal(number, end)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _messages(verbose):
    """Print each warning once, on its own line; with ``verbose`` also print the log of the package."""

    # astropy and sunpy each take over all warnings for their own log when they are first imported.
    def show(message, category, filename, lineno, file=None, line=None):
        lines = str(message).splitlines() or [category.__name__]
        text = f"{message} ({category.__name__}, {filename}:{lineno})" if verbose else lines[0]
        # This function does not break a progress bar.
        tqdm.write(f"Warning: {text}", file=sys.stderr)

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    log, level = logging.getLogger("esis_ndcube"), sunpy_log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    sunpy_log.setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
        sunpy_log.setLevel(level)


@click.group()
@click.version_option(package_version())
def main():
    """Level-3 data of the ESIS sounding rocket, from raw camera frames.

    \b
    Try it without any data:
        esis-ndcube demo demo_output
    """
