"""The connection of the classes of cubes with the formats of their files: ``read``, ``write`` and the registry."""

from functools import partial
from pathlib import Path

from astropy.io import registry
from astropy.nddata.mixins.ndio import NDDataRead, NDDataWrite

from esis_ndcube.io.asdf import read_asdf, write_asdf
from esis_ndcube.io.fits import read_fits, write_fits
from esis_ndcube.io.legacy import read_legacy

__all__ = ["CubeRead", "CubeWrite", "register_formats"]


class CubeRead(NDDataRead):
    """
    Read a cube from a file.

    Parameters
    ----------
    path : path-like
        The file.
    format : `str`, optional
        Its format: ``"fits"``, ``"asdf"`` or, for a Level-3 cube, ``"legacy"``; by default it follows from the end of
        the name.
    **kwargs
        As `esis_ndcube.io.fits.read_fits`, `esis_ndcube.io.asdf.read_asdf` or `esis_ndcube.io.legacy.read_legacy`.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube, of the class whose ``read`` was called; from ASDF it may be of a subclass, the class that was written.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP

    Notes
    -----
    Formats are registered with `astropy.io.registry`.
    """

    def __call__(self, path, *, format=None, **kwargs):
        """Read the file."""
        format = format or _format(path)
        if format != "fits" and kwargs.pop("lazy", False):
            msg = f"got lazy=True for the format {format!r}, expected 'fits': read the file, and write it as FITS"
            raise ValueError(msg)
        if format == "legacy":
            # A pickle is read at once.
            kwargs.pop("outline", None)
        return self.registry.read(self._cls, path, format=format, **kwargs)


class CubeWrite(NDDataWrite):
    """
    Write the cube to a file.

    Parameters
    ----------
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether to replace a file that exists.
    format : `str`, optional
        Its format: ``"fits"`` or ``"asdf"``; by default it follows from the end of the name.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> cube[0].write("first_exposure.fits")  # doctest: +SKIP

    Notes
    -----
    Formats are registered with `astropy.io.registry`.
    """

    def __call__(self, path, overwrite=False, *, format=None, **kwargs):
        """Write the file."""
        self.registry.write(self._instance, path, format=format or _format(path), overwrite=overwrite, **kwargs)


def register_formats(cls):
    """
    Let a class of cubes read and write files, through the registry of `astropy.io`.

    Every class has readers of its own, which read its kind of cube and no other.

    Parameters
    ----------
    cls : `type`
        The class.
    """
    # astropy writes its list of formats into the docstrings, once and not after each of these calls.
    with registry.delay_doc_updates(cls):
        for name, read in (("fits", read_fits), ("asdf", read_asdf), ("legacy", read_legacy)):
            registry.register_reader(name, cls, partial(_read, read, cls), force=True)
        registry.register_writer("fits", cls, write_fits, force=True)
        registry.register_writer("asdf", cls, write_asdf, force=True)


def _read(read, cls, path, **options):
    return read(path, cls, **options)


def _format(path):
    """The format of a file by the end of its name; FITS unless the end belongs to another format."""
    return {".asdf": "asdf", ".pickle": "legacy", ".pkl": "legacy"}.get(Path(path).suffix.lower(), "fits")
