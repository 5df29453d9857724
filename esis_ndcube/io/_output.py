"""Whether a file can be written, and text files that are never half."""

import contextlib
import os
import tempfile
import uuid
from pathlib import Path


def check_output(path, overwrite=False):
    """
    Make sure, before any work is done, that a file can be written.

    Parameters
    ----------
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether it may exist.

    Returns
    -------
    `~pathlib.Path`
        The file.

    Raises
    ------
    FileExistsError
        If it exists and ``overwrite`` is not set.
    OSError
        If its folder is missing or can not be written to, or a folder has its name.

    Examples
    --------
    >>> from esis_ndcube.io.fits import check_output
    >>> check_output("no/such/folder/l3.fits")
    Traceback (most recent call last):
        ...
    FileNotFoundError: can not write l3.fits: there is no folder no/such/folder; make it first
    """
    path = Path(path)
    if path.is_dir():
        msg = f"can not write {path}: it is a folder; give the name of a file"
        raise IsADirectoryError(msg)
    if path.exists() and not overwrite:
        msg = f"{path} exists: give another name, or overwrite=True (--overwrite) to replace it"
        raise FileExistsError(msg)
    if not path.parent.is_dir():
        msg = f"can not write {path.name}: there is no folder {path.parent}; make it first"
        raise FileNotFoundError(msg)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        msg = f"can not write {path.name}: no permission to write in the folder {path.parent.absolute()}"
        raise PermissionError(msg)
    try:
        # Permission is not all it takes: disks are full, and some folders only look like ones.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"can not write {path.name} in the folder {path.parent.absolute()}: {error.strerror}"
        raise OSError(msg) from error
    return path


def write_text(path, text, *, overwrite=False):
    """
    Write a text file, under a temporary name and then moved.

    Parameters
    ----------
    path : path-like
        The file.
    text : `str`
        What to write, as UTF-8.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Returns
    -------
    `~pathlib.Path`
        The file.

    Raises
    ------
    OSError
        As `check_output`.
    """
    with temporary_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


@contextlib.contextmanager
def temporary_output(path, *, overwrite=False):
    """
    Give a file a temporary name while it is written, and its own when that went well.

    Parameters
    ----------
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Yields
    ------
    `~pathlib.Path`
        The temporary name, in the same folder and with the same ending.

    Raises
    ------
    OSError
        As `check_output`.
    """
    path = check_output(path, overwrite)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        check_output(path, overwrite)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
