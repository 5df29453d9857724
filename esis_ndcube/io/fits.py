"""FITS files of cubes: everything that a cube holds, there and back to the last bit."""

import contextlib
import os
import tempfile
import uuid
import warnings
from pathlib import Path

from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from esis_ndcube.io._cards import exposure_header
from esis_ndcube.io._layout import LAYOUT
from esis_ndcube.io._reading import cube_parts, verify_checksums
from esis_ndcube.io._writing import cube_hdus

__all__ = ["CubeFileError", "check_output", "exposure_header", "read_fits", "write_fits"]


class CubeFileError(OSError):
    """
    A file that does not hold a cube, or holds it damaged.

    Examples
    --------
    >>> from esis_ndcube.io.fits import read_fits
    >>> path = getfixture("tmp_path") / "letter.fits"
    >>> size = path.write_text("Dear colleagues")
    >>> read_fits(path)
    Traceback (most recent call last):
        ...
    esis_ndcube.io.fits.CubeFileError: ... can not be read as FITS: ...
    """


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


def write_fits(cube, path, *, overwrite=False):
    """
    Write a cube to a FITS file; ``cube.write(path)`` does the same.

    The file is written under a temporary name and then moved, so that there never is half a file.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        A cube, or any part of one that has a FITS WCS.
    path : path-like
        The file; compressed where the name ends in ``.gz``.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is not set.
    OSError
        If the file can not be written.
    TypeError
        If the metadata hold an object that FITS can not.
    ValueError
        If the cube has no FITS WCS.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.wcs import level1_wcs
    >>> wcs = level1_wcs((5, 7), Time(["2019-09-30T18:08:00"]), [1, 2])
    >>> cube = ESISCube(np.zeros((1, 2, 5, 7)), wcs=wcs, unit="electron")
    >>> folder = getfixture("tmp_path")
    >>> cube.write(folder / "cube.fits")
    >>> ESISCube.read(folder / "cube.fits").shape
    (1, 2, 5, 7)
    """
    path = check_output(path, overwrite)
    hdulist = cube_hdus(cube, path.name)
    # With the end of the name kept, since astropy compresses by it.
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        hdulist.writeto(temporary, checksum=True)
        check_output(path, overwrite)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_fits(path, cls=None, *, verify=True):
    """
    Read a cube from a FITS file; ``ESISLevel3Cube.read(path)`` does the same.

    Parameters
    ----------
    path : path-like
        A file that `write_fits` wrote.
    cls : `type`, optional
        Class of the cube; by default `~esis_ndcube.cube.ESISCube`, which reads any level.
    verify : `bool`, optional
        Whether to verify the checksums.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube, all of it in memory.

    Raises
    ------
    CubeFileError
        If the file is not such a file, is damaged, or is of another level or a newer layout.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> from esis_ndcube.io.fits import read_fits
    >>> cube = read_fits("l3.fits")  # doctest: +SKIP
    """
    if cls is None:
        from esis_ndcube.cube import ESISCube as cls
    path = Path(path)
    # Damage can meet astropy anywhere; nothing of it may pass as a warning.
    damage = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, fits.VerifyError, Warning)
    with contextlib.ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", AstropyUserWarning)
                # Opened here, because astropy leaves a file open that it can not read.
                stream = stack.enter_context(path.open("rb"))
                hdulist = stack.enter_context(fits.open(stream, lazy_load_hdus=False))
                primary = hdulist[0].header
                layout, count = primary.get("ESISFITS"), primary.get("NEXTEND")
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except damage as error:
            msg = f"{path} can not be read as FITS: {error}"
            raise CubeFileError(msg) from error
        if layout is None:
            msg = f"{path} is not a cube of esis_ndcube: its primary header has no keyword ESISFITS"
            raise CubeFileError(msg)
        if layout != LAYOUT:
            msg = f"{path} has layout {layout}, expected {LAYOUT}: install the esis_ndcube that wrote it"
            raise CubeFileError(msg)
        try:
            if verify:
                verify_checksums(hdulist, count)
            level = primary.get("LVL_NUM")
            wanted = getattr(cls, "_level", None)
            kind = primary["CUBETYPE"]
            parts = cube_parts(hdulist) if wanted in (None, level) else None
        except damage as error:
            msg = f"{path} is damaged, get it again: {error}"
            raise CubeFileError(msg) from error
    if parts is None:
        msg = f"{path} holds an {kind} of level {level}, expected level {wanted}: read it with {kind}.read"
        raise CubeFileError(msg)
    coords = parts.pop("global_coords")
    cube = cls(**parts)
    for name, (physical_type, coord) in coords.items():
        cube.global_coords.add(name, physical_type, coord)
    return cube
