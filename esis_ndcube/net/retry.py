"""Ask again a server that did not answer."""

import logging
import time
from dataclasses import dataclass

from parfive.utils import FailedDownload, MultiPartDownloadError

import astropy.units as u

__all__ = ["ArchiveError", "RetryPolicy"]

log = logging.getLogger(__name__)


class ArchiveError(OSError):
    """
    A server that does not answer or refuses, or files that could not be fetched whole.

    Examples
    --------
    >>> from esis_ndcube.net import ArchiveError
    >>> raise ArchiveError("1 of 24 files is missing")
    Traceback (most recent call last):
        ...
    esis_ndcube.net.retry.ArchiveError: 1 of 24 files is missing
    """


@dataclass(frozen=True)
class RetryPolicy:
    """
    How many times to ask a server, and how long to wait.

    Attributes
    ----------
    tries : `int`
        How many times to ask.
    pause : `~astropy.units.Quantity`
        How long to wait before the second try; the wait doubles before each further try.
    timeout : `~astropy.units.Quantity`
        A download is given up after this time without a single byte.
    poll : `~astropy.units.Quantity`
        Time between two questions whether an export is ready.
    patience : `~astropy.units.Quantity`
        How long to wait for an export.

    Examples
    --------
    >>> import astropy.units as u
    >>> from esis_ndcube.net import RetryPolicy
    >>> RetryPolicy(tries=2, pause=0 * u.s).tries
    2
    """

    tries: int = 4
    pause: u.Quantity = 2 * u.s
    timeout: u.Quantity = 60 * u.s
    poll: u.Quantity = 5 * u.s
    patience: u.Quantity = 30 * u.min

    def wait(self, attempt):
        """
        Wait before another try.

        Parameters
        ----------
        attempt : `int`
            Number of failed tries.

        Examples
        --------
        >>> import astropy.units as u
        >>> from esis_ndcube.net import RetryPolicy
        >>> RetryPolicy(pause=0 * u.s).wait(1)
        """
        time.sleep(self.pause.to_value(u.s) * 2 ** (attempt - 1))

    def call(self, function, *args, doing, **kwargs):
        """
        Call a function until it works.

        Parameters
        ----------
        function : callable
            Function that asks the server.
        *args, **kwargs
            Its arguments.
        doing : `str`
            Name of the action in error messages.

        Returns
        -------
        object
            The result of the function.

        Raises
        ------
        ArchiveError
            If all tries fail.
        ValueError
            If there are no tries.

        Examples
        --------
        >>> from esis_ndcube.net import RetryPolicy
        >>> RetryPolicy().call(max, 2, 3, doing="the maximum")
        3
        """
        for attempt in range(1, self.tries + 1):
            try:
                return function(*args, **kwargs)
            except Exception as error:  # sockets, HTTP, JSON, and errors of drms for a strange answer
                reason = describe(error)
                log.info("%s: try %d failed: %s", doing, attempt, reason)
                if attempt == self.tries:
                    msg = f"{doing} failed {self.tries} times, at last with {reason}; try again later"
                    raise ArchiveError(msg) from error
            self.wait(attempt)
        msg = f"tries: got {self.tries}, expected at least 1"
        raise ValueError(msg)


def describe(error):
    """
    Describe an error in one line.

    Parameters
    ----------
    error : `Exception`
        The error.

    Returns
    -------
    `str`
        Its class and its text.
    """
    # parfive wraps the answer of a server, at times in another error.
    while isinstance(error, FailedDownload):
        error = error.exception
    answer = error.response if isinstance(error, MultiPartDownloadError) else error
    if isinstance(getattr(answer, "status", None), int):
        return f"HTTP status {answer.status}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
