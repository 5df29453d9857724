"""Files of cubes: ``read`` and ``write`` of both cubes; the formats themselves are in the modules of this package."""

from functools import partial
from pathlib import Path

from astropy.io import registry
from astropy.nddata.mixins.ndio import NDDataRead, NDDataWrite

__all__ = ["CubeIO"]


class _Read(NDDataRead):
    """
    Read a cube from a file.

    Parameters
    ----------
    path : path-like
        The file.
    format : `str`, optional
        Its format: ``"fits"``, ``"asdf"`` or, for a Level-3 cube, ``"legacy"``; by default as the name ends.
    **kwargs
        As `esis_ndcube.io.fits.read_fits`, `esis_ndcube.io.asdf.read_asdf` or `esis_ndcube.io.legacy.read_legacy`.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube, of the class whose ``read`` was called; for ASDF perhaps of a subclass, the one that was written.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP

    Notes
    -----
    Formats are registered with `astropy.io.registry`.
    """

    def __call__(self, path, *, format=None, **kwargs):
        format = format or _format(path)
        if format != "fits" and kwargs.pop("lazy", False):
            msg = f"got lazy=True for the format {format!r}, expected 'fits': read the file, and write it as FITS"
            raise ValueError(msg)
        if format == "legacy":
            # A pickle is read at once.
            kwargs.pop("outline", None)
        return self.registry.read(self._cls, path, format=format, **kwargs)


class _Write(NDDataWrite):
    """
    Write the cube to a file.

    Parameters
    ----------
    path : path-like
        The file.
    overwrite : `bool`, optional
        Whether to replace a file that exists.
    format : `str`, optional
        Its format: ``"fits"`` or ``"asdf"``; by default as the name ends.

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
        self.registry.write(self._instance, path, format=format or _format(path), overwrite=overwrite, **kwargs)


class CubeIO:
    """
    Mixin that gives a class ``read`` and ``write``, through the registry of `astropy.io`.

    The formats are registered for every subclass, so that a class reads its own kind of cube and no other.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    """

    read = registry.UnifiedReadWriteMethod(_Read)
    write = registry.UnifiedReadWriteMethod(_Write)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.register_reader("fits", cls, partial(_read_fits, cls), force=True)
        registry.register_writer("fits", cls, _write_fits, force=True)
        registry.register_reader("asdf", cls, partial(_read_asdf, cls), force=True)
        registry.register_writer("asdf", cls, _write_asdf, force=True)
        registry.register_reader("legacy", cls, partial(_read_legacy, cls), force=True)


def _format(path):
    """The format of a file by the end of its name; FITS unless it is another's."""
    return {".asdf": "asdf", ".pickle": "legacy", ".pkl": "legacy"}.get(Path(path).suffix.lower(), "fits")


# What reads and writes is imported only when it is wanted.
def _read_fits(cls, path, **kwargs):
    from esis_ndcube.io.fits import read_fits

    return read_fits(path, cls, **kwargs)


def _write_fits(cube, path, *, overwrite=False):
    from esis_ndcube.io.fits import write_fits

    write_fits(cube, path, overwrite=overwrite)


def _read_asdf(cls, path, **kwargs):
    from esis_ndcube.io.asdf import read_asdf

    return read_asdf(path, cls, **kwargs)


def _write_asdf(cube, path, *, overwrite=False):
    from esis_ndcube.io.asdf import write_asdf

    write_asdf(cube, path, overwrite=overwrite)


def _read_legacy(cls, path, **kwargs):
    from esis_ndcube.io.legacy import read_legacy

    return read_legacy(path, cls, **kwargs)
