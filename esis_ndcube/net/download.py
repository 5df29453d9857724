"""Download files, each once, and keep only whole files."""

import asyncio
import dataclasses
import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from parfive import Results
from tqdm import tqdm

import astropy.units as u
from sunpy.util import parfive_helpers
from sunpy.util.exceptions import warn_user

from esis_ndcube.net.retry import ArchiveError, RetryPolicy, describe
from esis_ndcube.net.validate import DamagedFileError, check_image
from esis_ndcube.utils.output import part_folder, place

__all__ = ["ArchiveError", "RemoteFile", "download", "make_folders", "missing_files", "results"]

log = logging.getLogger(__name__)

_NAMED = 5


@dataclass(frozen=True)
class RemoteFile:
    """
    A file to fetch.

    Attributes
    ----------
    path : `pathlib.Path`
        Path of the file on this machine.
    url : `str`
        Address of the file; empty if it is not known yet.
    expected : `dict`
        Expected entries of its header, as for `~esis_ndcube.net.validate.check_image`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from esis_ndcube.net.download import RemoteFile
    >>> RemoteFile(Path("ESIS1_00124.fit.gz")).url
    ''
    """

    path: Path
    url: str = ""
    expected: dict[str, Callable] = field(default_factory=dict, hash=False)


def missing_files(files, *, overwrite=False):
    """
    Find the files that are not there yet, or are damaged.

    Parameters
    ----------
    files : iterable of `RemoteFile`
        The files.
    overwrite : `bool` or ``"unique"``, optional
        Whether files that are there count as missing.

    Returns
    -------
    `list` of `RemoteFile`
        The missing files, each once.

    Raises
    ------
    ValueError
        If ``overwrite`` is anything else.

    Examples
    --------
    >>> from esis_ndcube.net.download import RemoteFile, missing_files
    >>> missing_files([RemoteFile(getfixture("tmp_path") / "a.fits")])  # doctest: +SKIP
    """
    if overwrite not in (True, False, "unique"):
        msg = f"got overwrite={overwrite!r}, expected True, False or 'unique'"
        raise ValueError(msg)
    missing = []
    for file in {file.path: file for file in files}.values():
        try:
            if not overwrite:
                check_image(file.path, expected=file.expected)
                continue
        except DamagedFileError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                log.info("%s %s, and is downloaded again.", file.path, error)
        missing.append(file)
    return missing


def make_folders(files):
    """
    Make the folders that files belong in.

    Parameters
    ----------
    files : iterable of `RemoteFile`
        The files.

    Returns
    -------
    `dict`
        The reason (`str`) why a folder cannot be made or written in, by the paths of the files.

    Examples
    --------
    >>> from esis_ndcube.net.download import RemoteFile, make_folders
    >>> make_folders([RemoteFile(getfixture("tmp_path") / "aia" / "a.fits")])
    {}
    """
    paths = {file.path for file in files}
    errors = {}
    for folder in {path.parent for path in paths}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            errors |= {path: describe(error) for path in paths if path.parent == folder}
    return errors


def download(files, *, policy=None, connections=1, progress=False, config=None):
    """
    Download files.

    Each file is written under a temporary name, checked, and moved to its place; a damaged file is tried again.

    Parameters
    ----------
    files : iterable of `RemoteFile`
        The files; files that are there are overwritten.
    policy : `~esis_ndcube.net.RetryPolicy`, optional
        How many times to try, and how long to wait.
    connections : `int`, optional
        How many files to fetch at a time.
    progress : `bool`, optional
        Show a progress bar.
    config : `parfive.SessionConfig`, optional
        Headers, proxies and session; by default those of sunpy.

    Returns
    -------
    `dict`
        The reason (`str`) why a file could not be fetched, by its path; nothing is left of such a file.

    Raises
    ------
    KeyboardInterrupt
        If the user interrupts; whole files are kept.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        For files without checksums or keywords, in which errors may have gone unseen.

    Examples
    --------
    >>> from esis_ndcube.net.download import RemoteFile, download
    >>> download([RemoteFile(path, "https://example.org/a.fits")])  # doctest: +SKIP
    {}
    """
    policy = policy or RetryPolicy()
    files = {file.path: file for file in files}
    unwritable = make_folders(files.values())
    left, unverified, errors = [files[path] for path in files if path not in unwritable], [], {}
    for attempt in range(1, policy.tries + 1):
        if not left:
            break
        if attempt > 1:
            policy.wait(attempt - 1)
        with tqdm(total=len(left), desc="Downloading", unit="file", disable=not progress, leave=False) as bar:
            errors = _download_once(left, _session(config, policy), connections, bar, unverified)
        left = [file for file in left if file.path in errors]
    if unverified:
        names = list_names(sorted({path.name for path in unverified}))
        warn_user(f"unverified, because they lack checksums or keywords, but read from beginning to end: {names}")
    return unwritable | {path: f"{reason} after {policy.tries} tries" for path, reason in errors.items()}


def results(files, errors, *, policy=None, source=""):
    """
    Report the fetched files as `sunpy.net.Fido` does.

    Parameters
    ----------
    files : iterable of `RemoteFile`
        The files.
    errors : `dict`
        The reason (`str`) why a file could not be fetched, by its path.
    policy : `~esis_ndcube.net.RetryPolicy`, optional
        How many times to try, and how long to wait, when such files are fetched again.
    source : `str`, optional
        The URL in the errors of files whose own URL is not known.

    Returns
    -------
    `parfive.Results`
        Names of the files that are there, each once; the other files are its errors. `sunpy.net.Fido.fetch` of the
        result tries these files again.

    Examples
    --------
    >>> from pathlib import Path
    >>> from esis_ndcube.net.download import RemoteFile, results
    >>> file = RemoteFile(Path("a.fits"), "https://example.org/a.fits")
    >>> results([file], {file.path: "HTTP status 404"}).errors[0].exception
    ArchiveError('a.fits: HTTP status 404')
    """
    done = Results()
    for path, file in {file.path: file for file in files}.items():
        if path not in errors:
            done.append(path=str(path), url=file.url)
            continue
        # The words only: the exception that was raised holds on to files and sockets.
        error = ArchiveError(f"{path.name}: {errors[path]}")
        done.add_error(_Again(file, policy), file.url or source, error)
    return done


def list_names(names):
    """
    Write a list, and shorten it if it is long.

    Parameters
    ----------
    names : `list` of `str`
        The items.

    Returns
    -------
    `str`
        The first items, and the number of the others.
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


@dataclass(frozen=True)
class _Again:
    """
    The place of a file that could not be fetched, in the form that parfive calls when it tries again.

    parfive does not check the files that it fetches, but it fetches no file that is there: so the file is fetched here.
    """

    file: RemoteFile
    policy: RetryPolicy | None

    def __call__(self, response, url):
        if not self.file.url:
            msg = f"{self.file.path.name} has no address yet: fetch the result of the search again"
            raise ArchiveError(msg)
        errors = download([self.file], policy=self.policy)
        # The message has the name of the file.
        for error in results([self.file], errors).errors:
            raise error.exception
        return self.file.path


def _download_once(files, session, connections, bar, unverified):
    """Try each file once; the result says why some files could not be fetched."""
    with ExitStack() as stack:
        # On the same disk as the files, so that each file can be moved into place whole.
        folders = {
            folder: stack.enter_context(part_folder(folder / "fetch"))
            for folder in {file.path.parent for file in files}
        }
        temporary = {str(Path(folders[file.path.parent], str(index))): file for index, file in enumerate(files)}
        verified, errors = {}, {}

        def check(path, url, error):
            if error is None:
                verified[str(path)] = check_image(path, expected=temporary[str(path)].expected)
                bar.update()

        downloader = parfive_helpers.Downloader(
            max_conn=connections,
            max_splits=1,
            progress=False,
            config=dataclasses.replace(session, done_callbacks=(check,)),
        )
        for path, file in temporary.items():
            try:
                downloader.enqueue_file(file.url, filename=path)
            except ValueError as error:  # an address that parfive does not understand
                errors[file.path] = describe(error)
        done = _run(downloader.run_download())
        reasons = {error.url: error.exception for error in done.errors}
        for path in done:
            file = temporary[path]
            try:
                place({Path(path): file.path})
            except OSError as error:
                errors[file.path] = describe(error)
                continue
            if not verified[path]:
                unverified.append(file.path)
        whole = {temporary[path].path for path in done}
    for file in files:
        if file.path in whole or file.path in errors:
            continue
        # parfive says nothing of files that it had not begun when it was stopped.
        reason = reasons.get(file.url, asyncio.CancelledError())
        if isinstance(reason, asyncio.CancelledError):
            raise KeyboardInterrupt
        errors[file.path] = describe(reason)
    return errors


def _run(coroutine):
    """Run a coroutine in a loop of its own, which is closed, unlike the loop of parfive."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # A loop is running already, as in a notebook.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _session(config, policy):
    """A copy of the settings of the user's downloads or of sunpy's, with the settings of this package."""
    config = config or parfive_helpers.config
    seconds = policy.timeout.to_value(u.s)
    return dataclasses.replace(
        config,
        # A file that is packed in transit has another length than the server says.
        headers={**config.headers, "Accept-Encoding": "identity"},
        timeouts=aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds),
    )
