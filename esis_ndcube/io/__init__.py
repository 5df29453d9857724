"""Files of cubes: ``read`` and ``write`` of both cubes; the formats themselves are in the modules of this package."""

from functools import partial

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
        Its format; there is ``"fits"``.
    **kwargs
        As `esis_ndcube.io.fits.read_fits`.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        The cube, of the class whose ``read`` was called.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP

    Notes
    -----
    Formats are registered with `astropy.io.registry`.
    """

    def __call__(self, path, *, format="fits", **kwargs):
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
        Its format; there is ``"fits"``.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> cube[0].write("first_exposure.fits")  # doctest: +SKIP

    Notes
    -----
    Formats are registered with `astropy.io.registry`.
    """

    def __call__(self, path, overwrite=False, *, format="fits", **kwargs):
        self.registry.write(self._instance, path, format=format, overwrite=overwrite, **kwargs)


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


# What reads and writes is imported only when it is wanted.
def _read_fits(cls, path, **kwargs):
    from esis_ndcube.io.fits import read_fits

    return read_fits(path, cls, **kwargs)


def _write_fits(cube, path, *, overwrite=False):
    from esis_ndcube.io.fits import write_fits

    write_fits(cube, path, overwrite=overwrite)
