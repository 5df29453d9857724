"""Whether a file can be written, and text files that are never half."""

import contextlib
import os
import tempfile
import uuid
from pathlib import Path

import numpy as np
from dask import is_dask_collection


def check_output(path, overwrite=False, *, inputs=()):
    """
    Make sure, before any work is done, that a file can be written.

    Parameters
    ----------
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether it may exist.
    inputs : iterable, optional
        What the file is made of, none of which it may replace: paths, and objects whose lazy arrays read files; others
        are not looked at.

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
    ValueError
        If it is one of the inputs, by whatever name.

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
    if path.exists():
        _check_inputs(path, inputs)
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


def _check_inputs(path, inputs):
    """Refuse to replace what is read, also where a link or another spelling of its name leads to it."""
    files = [file for item in inputs for file in (_files_of(item) if hasattr(item, "data") else [item])]
    for file in files:
        if isinstance(file, str | os.PathLike) and Path(file).exists() and path.samefile(file):
            name = f"{path}, which is {file}," if str(path) != str(file) else str(path)
            msg = f"got {name} as input and as output; give another name for the output"
            raise ValueError(msg)


def _files_of(cube):
    """The files that lazy arrays of a cube are read from."""
    arrays = [cube.data, getattr(getattr(cube, "uncertainty", None), "array", None)]
    arrays += [getattr(cube, name, None) for name in ("mask", "flags")]
    files = set()
    for array in filter(is_dask_collection, arrays):
        for layer in array.dask.layers.values():
            # What is read stands in the graph as it is; other layers only say what is done with it.
            for value in layer.mapping.values() if hasattr(layer, "mapping") else ():
                listed = isinstance(value, np.ndarray) and value.dtype.kind == "O"
                items = value.flat if listed else [getattr(value, "value", value)]
                files.update(item.path for item in items if hasattr(item, "path"))
    return files


def write_text(path, text, *, overwrite=False):
    """Write a text file as UTF-8, under a temporary name and then moved."""
    with temporary_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


@contextlib.contextmanager
def temporary_output(path, *, overwrite=False, inputs=()):
    """
    Give a file a temporary name while it is written, and its own when that went well.

    The temporary name is in the same folder and has the same ending; parameters and errors are those of `check_output`.
    """
    path = check_output(path, overwrite, inputs=inputs)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        check_output(path, overwrite, inputs=inputs)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
