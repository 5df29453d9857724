"""Write the files of a simulated flight."""

import gzip

from astropy.io import fits

from esis_ndcube.utils.output import temporary_output


def write_image(path, data, header):
    """Write a FITS image, gzipped or tiled by the end of its name, under a temporary name first."""
    if path.suffix == ".fz":
        units = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type="RICE_1")])
    else:
        units = fits.HDUList([fits.PrimaryHDU(data, header)])
    with temporary_output(path, overwrite=True, durable=False) as temporary, temporary.open("wb") as raw:
        if path.suffix == ".gz":
            # Noise hardly packs: level 1 is many times faster than level 9, and the file nearly as small.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
                units.writeto(packed)
        else:
            units.writeto(raw)
