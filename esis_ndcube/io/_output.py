"""Whether a file can be written."""

import os
import tempfile
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
