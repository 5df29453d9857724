"""Write the files of a simulated flight."""

import gzip
import os
import tempfile
from pathlib import Path

from astropy.io import fits

__all__ = ["write_image"]


def write_image(path, data, header):
    """
    Write a FITS image, gzipped or tiled as its name says, under a temporary name first.

    Parameters
    ----------
    path : `pathlib.Path`
        Where to.
    data : `numpy.ndarray`
        The image.
    header : `~astropy.io.fits.Header`
        The header.
    """
    if path.suffix == ".fz":
        units = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type="RICE_1")])
    else:
        units = fits.HDUList([fits.PrimaryHDU(data, header)])
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as raw:
            if path.suffix == ".gz":
                # Noise hardly packs: level 1 is many times faster than 9 and nearly as small.
                with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
                    units.writeto(packed)
            else:
                units.writeto(raw)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
