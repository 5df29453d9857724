"""ASDF files of cubes: everything that a cube holds, there and back to the last bit."""

from pathlib import Path

from esis_ndcube.io.asdf.entry_points import get_extensions
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.utils.checks import check_cube, is_cube
from esis_ndcube.utils.output import temporary_output

__all__ = ["read_asdf", "write_asdf"]


def write_asdf(cube, path, *, overwrite=False):
    """
    Write a cube to an ASDF file; ``cube.write("cube.asdf")`` does the same.

    The file is written under a temporary name and then moved, so that there never is half a file.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        A cube, or any part of one, also those that FITS can not express, as one row.
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether to replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is not set.
    ModuleNotFoundError
        If asdf is not installed.
    OSError
        If the file can not be written.
    TypeError
        If the cube has metadata, extra coordinates or a PSF that the file can not hold.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.wcs import level1_wcs
    >>> wcs = level1_wcs((5, 7), Time(["2019-09-30T18:08:00"]), [1, 2])
    >>> cube = ESISCube(np.zeros((1, 2, 5, 7)), wcs=wcs, unit="electron")
    >>> folder = getfixture("tmp_path")
    >>> cube[0, 1, 3].write(folder / "row.asdf")
    >>> ESISCube.read(folder / "row.asdf").shape
    (7,)
    """
    check_cube(cube)
    asdf = _asdf()
    with temporary_output(path, overwrite=overwrite) as temporary:
        asdf.AsdfFile({"cube": cube}).write_to(temporary)


def read_asdf(path, cls, *, outline=False):
    """
    Read a cube from an ASDF file; ``ESISLevel3Cube.read("cube.asdf")`` does the same.

    Parameters
    ----------
    path : path-like
        A file that `write_asdf` wrote, or any other with a cube under the key ``cube``.
    cls : `type`
        Class of the cube; `~esis_ndcube.cube.ESISCube` reads any.
    outline : `bool`, optional
        Whether to leave out the arrays, to see what a file holds: those of the cube are zeros and take no memory.
        Checksums are not verified.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube, of the class that was written.

    Raises
    ------
    ~esis_ndcube.io.fits.CubeFileError
        If the file is not such a file, is damaged, or holds another class of cube.
    FileNotFoundError
        If there is no such file.
    ModuleNotFoundError
        If asdf is not installed.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.io.asdf import read_asdf
    >>> cube = read_asdf("l3.asdf", ESISLevel3Cube)  # doctest: +SKIP
    """
    asdf = _asdf()
    path = Path(path)
    with path.open("rb") as stream:
        try:
            options = {"lazy_load": outline, "validate_checksums": not outline}
            if outline:
                options["extensions"] = get_extensions(outline=True)
            with asdf.config_context() as config:
                # By default only older versions of asdf compare what they read with the schemas.
                config.validate_on_read = True
                with asdf.open(stream, memmap=False, **options) as file:
                    cube = file.tree.get("cube")
        except Exception as error:  # damage can meet asdf, and the YAML parser under it, anywhere
            msg = f"{path} is damaged or not ASDF: {error}"
            raise CubeFileError(msg) from error
    if not is_cube(cube):
        msg = f"{path} is not a cube of esis_ndcube: it holds no cube under the key 'cube'"
        raise CubeFileError(msg)
    if not isinstance(cube, cls):
        kind = type(cube).__name__
        msg = f"{path} holds a cube of class {kind}, expected class {cls.__name__}: read it with {kind}.read"
        raise CubeFileError(msg)
    return cube


def _asdf():
    try:
        import asdf_astropy  # noqa: F401  without it units and tables fail one by one

        import asdf
    except ModuleNotFoundError as error:
        msg = f"ASDF files need {error.name}, which is not installed: pip install 'esis_ndcube[asdf]'"
        raise ModuleNotFoundError(msg, name=error.name) from error
    return asdf
