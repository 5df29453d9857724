"""FITS files of cubes: they hold everything of a cube, to the last bit."""

import contextlib
import warnings
import zlib
from pathlib import Path

from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from esis_ndcube.io._cards import exposure_header
from esis_ndcube.io._file import cube_file, write_arrays
from esis_ndcube.io._layout import LAYOUT
from esis_ndcube.io._reading import cube_parts, verify_checksums
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.output import check_output
from esis_ndcube.utils.parallel import own_warnings
from esis_ndcube.utils.whole import check_start, is_packed, pass_scarcity, walk_hdus

__all__ = ["CubeFileError", "check_output", "exposure_header", "read_fits", "write_fits"]


class CubeFileError(OSError):
    """
    A file that does not hold a cube, or holds a damaged one.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> path = getfixture("tmp_path") / "letter.fits"
    >>> size = path.write_text("Dear colleagues")
    >>> ESISLevel3Cube.read(path)
    Traceback (most recent call last):
        ...
    esis_ndcube.io.fits.CubeFileError: ... cannot be read as FITS: ...
    """


def write_fits(cube, path, *, overwrite=False):
    """
    Write a cube to a FITS file; ``cube.write(path)`` does the same.

    The file is written under a temporary name and then moved, so that there never is half a file.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        A cube, or any part of a cube that has a FITS WCS.
    path : path-like
        The file; compressed if the name ends in ``.gz``.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is not set.
    OSError
        If the file cannot be written.
    TypeError
        If the metadata contain an object that FITS cannot hold.
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
    check_cube(cube)
    with cube_file(cube, path, overwrite=overwrite) as file:
        write_arrays(cube, file.planes)
        file.finish()


def read_fits(path, cls, *, lazy=False, verify=None, outline=False):
    """
    Read a cube from a FITS file; ``ESISLevel3Cube.read(path)`` does the same.

    Parameters
    ----------
    path : path-like
        A file that `write_fits` wrote.
    cls : `type`
        Class of the cube; `~esis_ndcube.cube.ESISCube` reads any level.
    lazy : `bool`, optional
        Whether to leave the arrays in the file until they are used: the cube then has Dask arrays with a chunk for each
        image. The file must stay in its place, unchanged.
    verify : `bool`, optional
        Whether to verify the checksums, for which all of the file is read; by default true unless ``lazy``.
    outline : `bool`, optional
        Whether to leave out the arrays, to see the contents of a file: the arrays of the cube are zeros and take no
        memory.
        Only the checksums of the tables are verified then.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube.

    Raises
    ------
    CubeFileError
        If the file is not such a file, is damaged, or is of another level or a newer layout.
    FileNotFoundError
        If there is no such file.
    MemoryError
        If there is not enough memory for the cube.
    ValueError
        If ``lazy`` is true and the file is compressed.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.io.fits import read_fits
    >>> cube = read_fits("l3.fits", ESISLevel3Cube, lazy=True)  # doctest: +SKIP
    >>> cube[15, 0].plot()  # doctest: +SKIP
    """
    path = Path(path)
    if lazy and path.is_file() and is_packed(path):
        msg = (
            f"got the compressed file {path}, expected an uncompressed one to read lazily: leave lazy out, or unpack it"
        )
        raise ValueError(msg)
    # Damage can meet astropy anywhere; none of it may pass as a warning.
    damage = (
        *(OSError, ValueError, TypeError, KeyError, IndexError, AttributeError),
        *(MemoryError, RecursionError, EOFError, zlib.error, fits.VerifyError, Warning),
    )
    # The lock covers all of this, because astropy too sets the filters of warnings aside while it reads.
    with own_warnings(), contextlib.ExitStack() as stack:
        try:
            with own_warnings():
                warnings.simplefilter("error", AstropyUserWarning)
                # The file is opened here, because astropy leaves a file open that it cannot read.
                stream = stack.enter_context(path.open("rb"))
                check_start(path)
                hdulist = stack.enter_context(fits.open(stream, lazy_load_hdus=True))
                for hdu in walk_hdus(hdulist):
                    if outline and not hdu.is_image:
                        # In the order of the file, because a step back in a compressed file begins anew.
                        hdu.data  # noqa: B018
                primary = hdulist[0].header
                layout, count = primary.get("ESISFITS"), primary.get("NEXTEND")
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except damage as error:
            pass_scarcity(error, path)
            msg = f"{path} cannot be read as FITS: {error}; get it again"
            if kind := _other_format(path):
                msg = f"{path} is not FITS, and looks like another format: read it with format={kind!r}"
            raise CubeFileError(msg) from error
        if layout is None:
            msg = f"{path} is not a cube of esis_ndcube: its primary header has no keyword ESISFITS"
            raise CubeFileError(msg)
        if layout != LAYOUT:
            msg = f"{path} has layout {layout}, expected {LAYOUT}: install the esis_ndcube that wrote it"
            raise CubeFileError(msg)
        try:
            if verify or (verify is None and not lazy):
                verify_checksums(hdulist, count, images=not outline)
            kind, level = primary["CUBETYPE"], primary.get("LVL_NUM")
            parts = None
            if can_read(cls, kind, level):
                parts = cube_parts(hdulist, path if lazy else None, outline=outline)
        except damage as error:
            pass_scarcity(error, path)
            msg = f"{path} is damaged, get it again: {error}"
            raise CubeFileError(msg) from error
    if parts is None:
        wanted = getattr(cls, "_level", None)
        found = "no level" if level is None else f"level {level}"
        wanted = f"class {cls.__name__}" if wanted is None else f"level {wanted}"
        msg = f"{path} holds a cube of class {kind} and {found}, expected {wanted}: read it with {kind}.read"
        raise CubeFileError(msg)
    coords = parts.pop("global_coords")
    cube = cls(**parts)
    for name, (physical_type, coord) in coords.items():
        cube.global_coords.add(name, physical_type, coord)
    return cube


def can_read(cls, kind, level):
    """Whether a class reads cubes of a class, which is known by its name, and of a level, which may not be known."""
    # ESISCube is the last class, and takes all cubes.
    *bases, most = [base for base in cls.__mro__ if hasattr(base, "_level")]
    if cls is most or (level is not None and level == cls._level):
        return True
    return kind in {each.__name__ for each in (*bases, *_descendants(cls))}


def _descendants(cls):
    """All subclasses of a class."""
    return [each for child in cls.__subclasses__() for each in (child, *_descendants(child))]


def _other_format(path):
    """The format that the beginning of a file shows, if the file is not FITS, or None."""
    with path.open("rb") as stream:
        start = stream.read(5)
    return "asdf" if start == b"#ASDF" else "legacy" if start[:1] == b"\x80" else None
