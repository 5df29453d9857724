"""Download files, each once, and keep only those that are whole."""

import asyncio
import dataclasses
import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

__all__ = ["ArchiveError", "RemoteFile", "download", "make_folders", "missing_files"]

log = logging.getLogger(__name__)

_NAMED = 5


@dataclass(frozen=True)
class RemoteFile:
    """
    A file to be had.

    Attributes
    ----------
    path : `pathlib.Path`
        Where it belongs.
    url : `str`
        Where it is; empty where that is not known yet.
    expected : `dict`
        What its header has to say, as for `~esis_ndcube.net.validate.check_image`.

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
    overwrite : `bool`, optional
        Whether those that are there count as missing.

    Returns
    -------
    `list` of `RemoteFile`
        Each once.

    Raises
    ------
    ValueError
        If overwriting is anything else, as ``"unique"`` of parfive.

    Examples
    --------
    >>> from esis_ndcube.net.download import RemoteFile, missing_files
    >>> missing_files([RemoteFile(getfixture("tmp_path") / "a.fits")])  # doctest: +SKIP
    """
    if overwrite not in (True, False):
        msg = f"got overwrite={overwrite!r}, expected True or False: files are known by their names"
        raise ValueError(msg)
    missing = []
    for file in {file.path: file for file in files}.values():
        if overwrite or not file.path.exists():
            missing.append(file)
            continue
        try:
            check_image(file.path, expected=file.expected)
        except DamagedFileError as error:
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

    Raises
    ------
    OSError
        If that can not be done, or nothing can be written there.

    Examples
    --------
    >>> from esis_ndcube.net.download import RemoteFile, make_folders
    >>> make_folders([RemoteFile(getfixture("tmp_path") / "aia" / "a.fits")])
    """
    for folder in {file.path.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def download(files, *, policy=None, connections=1, progress=False):
    """
    Download files.

    Each is written under a temporary name, checked, and moved to its place; one that is damaged is tried again.

    Parameters
    ----------
    files : iterable of `RemoteFile`
        The files; those that are there are overwritten.
    policy : `~esis_ndcube.net.RetryPolicy`, optional
        How patient to be.
    connections : `int`, optional
        How many files to fetch at a time.
    progress : `bool`, optional
        Show a progress bar.

    Returns
    -------
    `list` of `pathlib.Path`
        The files.

    Raises
    ------
    ArchiveError
        If files could not be had; those that could are kept.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        For files that have no checksum or do not say what they are, so that wrong ones may have gone unseen.

    Examples
    --------
    >>> from esis_ndcube.net.download import RemoteFile, download
    >>> download([RemoteFile(path, "https://example.org/a.fits")])  # doctest: +SKIP
    """
    policy = policy or RetryPolicy()
    files = list({file.path: file for file in files}.values())
    make_folders(files)
    left, unverified, reasons = list(files), [], {}
    for attempt in range(1, policy.tries + 1):
        with tqdm(total=len(left), desc="Downloading", unit="file", disable=not progress, leave=False) as bar:
            reasons = _download_once(left, policy, connections, bar, unverified)
        left = [file for file in left if file.path in reasons]
        if not left:
            break
        if attempt < policy.tries:
            policy.wait(attempt)
    if unverified:
        names = list_names(sorted({path.name for path in unverified}))
        warn_user(f"unverified, because they lack checksums or keywords, but read from beginning to end: {names}")
    if left:
        names = list_names([f"{file.path.name} ({reasons[file.path]})" for file in left])
        msg = (
            f"{len(left)} of {len(files)} files are missing after {policy.tries} tries: {names}. "
            "What could be had is kept; fetch again to try the rest"
        )
        raise ArchiveError(msg)
    return [file.path for file in files]


def results(paths, urls=()):
    """
    Wrap files in what `sunpy.net.Fido` returns.

    Parameters
    ----------
    paths : iterable of `pathlib.Path`
        The files, each once.
    urls : iterable of `str`, optional
        Where they came from.

    Returns
    -------
    `parfive.Results`
        Their names.
    """
    return Results([str(path) for path in dict.fromkeys(paths)], urls=list(urls))


def list_names(names):
    """
    Write a list that may be long.

    Parameters
    ----------
    names : `list` of `str`
        The items.

    Returns
    -------
    `str`
        The first of them, and how many more there are.
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _download_once(files, policy, connections, bar, unverified):
    """Try each file once; the reasons why some could not be had."""
    # On the same disk, so that a file can be moved into place whole.
    with tempfile.TemporaryDirectory(dir=files[0].path.parent, prefix=".fetch-") as folder:
        temporary = {str(Path(folder, f"{index}-{file.path.name}")): file for index, file in enumerate(files)}
        verified = {}

        def check(path, url, error):
            if error is None:
                verified[str(path)] = check_image(path, expected=temporary[str(path)].expected)
                bar.update()

        downloader = parfive_helpers.Downloader(
            max_conn=connections, max_splits=1, progress=False, config=_session(policy, check)
        )
        for path, file in temporary.items():
            downloader.enqueue_file(file.url, filename=path)
        done = _run(downloader.run_download())
        errors = {error.url: error.exception for error in done.errors}
        for path in done:
            file = temporary[path]
            Path(path).replace(file.path)
            if not verified[path]:
                unverified.append(file.path)
    placed = {temporary[path].path for path in done}
    return {file.path: describe(errors.get(file.url)) for file in files if file.path not in placed}


def _run(coroutine):
    """Run a coroutine in a loop of its own, which is closed, unlike that of parfive."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # As in a notebook.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _session(policy, check):
    """Settings of sunpy's own downloads, a copy of them, with ours."""
    shared = parfive_helpers.config
    seconds = policy.timeout.to_value(u.s)
    return dataclasses.replace(
        shared,
        # A file that is packed in transit has another length than the server says.
        headers={**shared.headers, "Accept-Encoding": "identity"},
        timeouts=aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds),
        done_callbacks=(check,),
    )
