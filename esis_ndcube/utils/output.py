"""Checks that a file can be written, and output that is never half a file, whatever ends the process."""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import numpy as np
from dask import is_dask_collection

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

_LOCK = "esis_ndcube.lock"
_FULL = errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)
_IMPOSSIBLE = errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP


def check_output(path, overwrite=False, *, inputs=(), size=0):
    """
    Make sure, before any work is done, that a file can be written.

    Parameters
    ----------
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether the file may exist.
    inputs : iterable, optional
        Sources of the file, none of which it may replace: paths, and objects whose lazy arrays read files; other
        objects do not matter.
    size : `int`, optional
        Size of the file in bytes, for which the disk must have space.

    Returns
    -------
    `~pathlib.Path`
        The file.

    Raises
    ------
    FileExistsError
        If it exists and ``overwrite`` is not set.
    OSError
        If its folder is missing or cannot be written to, a folder has its name, or the disk is full.
    ValueError
        If the file is one of the inputs, by whatever name.

    Examples
    --------
    >>> from esis_ndcube.io.fits import check_output
    >>> check_output("no/such/folder/l3.fits")
    Traceback (most recent call last):
        ...
    FileNotFoundError: cannot write l3.fits: there is no folder no/such/folder; make it first
    """
    path = Path(path)
    if path.is_dir():
        msg = f"cannot write {path}: it is a folder; give the name of a file"
        raise IsADirectoryError(msg)
    if path.exists():
        _check_inputs(path, inputs)
    if path.exists() and not overwrite:
        msg = f"{path} exists: give another name, or overwrite=True (--overwrite) to replace it"
        raise FileExistsError(msg)
    folder = _target(path).parent
    if not folder.is_dir():
        msg = f"cannot write {path.name}: there is no folder {folder}; make it first"
        raise FileNotFoundError(msg)
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"cannot write {path.name}: no permission to write in the folder {folder.absolute()}"
        raise PermissionError(msg)
    try:
        # Permission is not enough: disks may be full, and some folders only look like folders.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = f"cannot write {path.name} in the folder {folder.absolute()}: {error.strerror}"
        raise OSError(msg) from error
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _full(path, size, f"{free} bytes are free")
    return path


def _target(path):
    """The place of a file's content: a link stays a link."""
    path = Path(path)
    return path.resolve() if path.is_symlink() else path


class _FullDiskError(OSError):
    pass


def _full(path, size, reason):
    needed = f"it needs {size} bytes, " if size else ""
    folder = _target(path).parent.absolute()
    msg = f"cannot write {path.name} in the folder {folder}: {needed}{reason}; make room, or give another folder"
    return _FullDiskError(msg)


def _check_inputs(path, inputs):
    """Refuse to replace an input, also if a link or another spelling of its name leads to it."""
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
            # The graph holds such a reader as it is; other layers only describe operations.
            for value in layer.mapping.values() if hasattr(layer, "mapping") else ():
                listed = isinstance(value, np.ndarray) and value.dtype.kind == "O"
                items = value.flat if listed else [getattr(value, "value", value)]
                files.update(item.path for item in items if hasattr(item, "path"))
    return files


def write_text(path, text, *, overwrite=False):
    """Write a text file as UTF-8, under a temporary name, and move it to its place."""
    content = text.encode()
    with temporary_output(path, overwrite=overwrite, size=len(content)) as temporary:
        temporary.write_bytes(content)
    return Path(path)


@contextlib.contextmanager
def temporary_output(path, *, overwrite=False, inputs=(), size=0, durable=True):
    """
    Give a file a temporary name while it is written, and its own name when that succeeds.

    The temporary name has the same ending, in a `part_folder` beside the file. Parameters and errors are those of
    `check_output`. A file that is not ``durable`` may be lost when the power fails, but saves the time to wait for the
    disk.
    """
    path = check_output(path, overwrite, inputs=inputs, size=size)
    with full_disk_named(path, size), part_folder(path) as folder:
        yield folder / path.name
        check_output(path, overwrite, inputs=inputs)
        place({folder / path.name: path}, durable=durable)


@contextlib.contextmanager
def full_disk_named(path, size=0):
    """Name the file, and the bytes that it needs, when a disk or a quota is full."""
    try:
        yield
    except _FullDiskError:
        raise
    except OSError as error:
        reason = error
        # Astropy raises another error for it.
        while reason is not None and getattr(reason, "errno", None) not in _FULL:
            reason = reason.__context__
        if reason is None:
            raise
        raise _full(Path(path), size, reason.strerror) from error


@contextlib.contextmanager
def part_folder(path):
    """
    A folder ``NAME.part`` beside a file or folder NAME, for the unfinished content; removed when the block ends.

    A process that is killed leaves the folder, and the next process that makes the same file removes it. If another
    process is at work in the folder, or the disk has no locks that would show it, the folder has some more letters in
    its name.
    """
    path = _target(path)
    with contextlib.ExitStack() as stack:
        yield _take(path.with_name(f"{path.name}.part"), stack) or _take(
            path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part"), stack
        )


def _take(folder, stack):
    """Make a folder, locked until the stack ends, which removes it; or None if the folder is there and in use."""
    _remove_dead(folder)
    try:
        folder.mkdir()
    except FileExistsError:
        return None
    lock = None
    try:
        # The file stays open: the lock ends with the file, and the file with the process.
        lock = stack.enter_context((folder / _LOCK).open("xb"))
        locked = _lock(lock)
        # Between these lines another process may have removed the folder as that of a dead process.
        if locked and not os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat()):
            return None
    except (FileExistsError, FileNotFoundError, BlockingIOError):
        # Another process took the empty folder for a dead one, and perhaps has it now.
        return None
    except BaseException:
        _remove(folder)
        raise
    if not locked:
        # Windows removes no file that is open.
        lock.close()
    stack.callback(_remove, folder)
    return folder


def _remove_dead(folder):
    """Remove a folder that a killed process left; folders of another origin stay."""
    with contextlib.suppress(OSError):
        # The process was killed before it had a lock.
        folder.rmdir()
    with contextlib.suppress(OSError), (folder / _LOCK).open("r+b") as lock:
        if _lock(lock):
            _remove(folder)


def _remove(folder):
    """Remove a folder, its lock last: without a lock the next process would not recognize the folder."""
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            elif item.name != _LOCK:
                item.unlink()
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _lock(stream):
    """Lock an open file; whether system and disk have locks. A `BlockingIOError` if another process has the lock."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def reserve(stream, size):
    """Give an open file its size, and the space on the disk for it if the system can."""
    try:
        os.posix_fallocate(stream.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        # macOS and Windows have no such call, and some disks cannot do it; no other file is empty.
        if size and getattr(error, "errno", errno.EINVAL) not in _IMPOSSIBLE:
            raise
        stream.truncate(size)


@contextlib.contextmanager
def hold_space(path, size):
    """Hold the space on the disk that a file will need, until the block ends and the file is begun."""
    with full_disk_named(path, size), part_folder(path) as folder:
        with (folder / "space").open("wb") as stream:
            reserve(stream, size)
        yield


def place(parts, *, durable=True):
    """
    Move files or folders of one disk to their places, all or none of them, and wait until the disk has them.

    Parameters
    ----------
    parts : `dict`
        The places by the paths. A file that is replaced keeps its mode, and a link to it stays one.
    durable : `bool`, optional
        Whether to wait.
    """
    targets = {part: _target(path) for part, path in parts.items()}
    if durable:
        # Otherwise a file could have its name before its content when the power fails.
        for part in targets:
            for item in [*part.iterdir(), part] if part.is_dir() else [part]:
                _sync(item)
    old = {path for path in targets.values() if path.exists()}
    for part, path in targets.items():
        if path in old:
            shutil.copymode(path, part)
    placed = []
    try:
        for part, path in targets.items():
            part.replace(path)
            placed.append(path)
    except BaseException:
        for path in placed:
            if path not in old:
                path.unlink()
        raise
    if durable:
        for folder in {path.parent for path in targets.values()}:
            _sync(folder)


def _sync(path):
    """Wait until the disk has a file, or the names in a folder."""
    folder = path.is_dir()
    if folder and fcntl is None:
        # Windows opens no folder.
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno not in _IMPOSSIBLE:
            raise
    finally:
        os.close(descriptor)
