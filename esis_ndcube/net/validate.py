"""Tell whether a file that was downloaded is whole."""

import gzip
import io
import warnings
from pathlib import Path

import numpy as np

from astropy.io import fits

from esis_ndcube.utils.parallel import own_warnings

__all__ = ["DamagedFileError", "check_image"]

_GZIP = b"\x1f\x8b"
_ONES = 0xFFFFFFFF


class DamagedFileError(ValueError):
    """
    A file that is not what it should be.

    Examples
    --------
    >>> from esis_ndcube.net.validate import check_image
    >>> check_image(getfixture("tmp_path") / "no.fits")
    Traceback (most recent call last):
        ...
    esis_ndcube.net.validate.DamagedFileError: ...
    """


def check_image(path, *, expected=None):
    """
    Read a FITS image from beginning to end, and check what can be checked.

    That is the gzip checksum of packed files, the checksums in the headers, and the length; without a checksum all
    images are decoded.

    Parameters
    ----------
    path : path-like
        The file.
    expected : `dict`, optional
        Functions by header keyword, that take its value and return whether it is right.

    Returns
    -------
    `bool`
        Whether a checksum says that the file is as it was written, and its header, that it is the one that is expected;
        without the one, a few wrong bytes may go unseen, without the keywords, another image.

    Raises
    ------
    DamagedFileError
        If the file is not FITS, cut short, without an image, damaged, or not the one that is expected.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from esis_ndcube.net.validate import check_image
    >>> path = getfixture("tmp_path") / "image.fits"
    >>> fits.PrimaryHDU([[1, 2], [3, 4]]).writeto(path, checksum=True)
    >>> check_image(path)
    True
    """
    try:
        content = Path(path).read_bytes()
        packed = content.startswith(_GZIP)
        if packed:
            content = gzip.decompress(content)
        if not content.startswith(b"SIMPLE  ="):
            msg = f"begins with {content[:20]!r}, expected a FITS file"
            raise DamagedFileError(msg)
        with own_warnings():
            # What astropy would warn of is checked here, and is an error.
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(content), disable_image_compression=True, lazy_load_hdus=False) as hdul:
                _check_length(hdul, len(content))
                summed = _check_sums(hdul, content)
            with fits.open(io.BytesIO(content)) as hdul:
                known = _check_content(hdul, expected or {}, decode=not summed)
    except DamagedFileError:
        raise
    except Exception as error:  # whatever astropy and the decompressors make of a damaged file
        msg = f"can not be read: {type(error).__name__}: {error}"
        raise DamagedFileError(msg) from error
    return known and (packed or summed)


def _check_length(hdul, size):
    info = hdul.fileinfo(len(hdul) - 1)
    expected = info["datLoc"] + info["datSpan"]
    if size != expected:
        msg = f"is {size} bytes long, expected {expected}"
        raise DamagedFileError(msg)


def _check_sums(hdul, content):
    """Whether every HDU has checksums; they are right."""
    summed = True
    for index, hdu in enumerate(hdul):
        info = hdul.fileinfo(index)
        end = info["datLoc"] + info["datSpan"]
        # By the bytes of the file, as the convention has it: astropy sums a header that it has read and written anew.
        wrong = "CHECKSUM" in hdu.header and _sum(content[info["hdrLoc"] : end]) != 0
        wrong |= "DATASUM" in hdu.header and _sum(content[info["datLoc"] : end]) != int(hdu.header["DATASUM"]) % _ONES
        if wrong:
            msg = f"has a wrong checksum in HDU {index}"
            raise DamagedFileError(msg)
        # An empty primary HDU holds nothing that could be damaged unseen.
        summed &= {"CHECKSUM", "DATASUM"} <= {*hdu.header} or (index == 0 and not hdu.header["NAXIS"])
    return summed


def _sum(content):
    """The ones' complement sum of 32-bit words of the FITS standard, 4.0, appendix J; all ones count as 0."""
    return int(np.frombuffer(content, dtype=">u4").sum(dtype=np.uint64)) % _ONES


def _check_content(hdul, expected, *, decode):
    """Whether the header has all that is expected; what it has is right."""
    images = [hdu for hdu in hdul if hdu.is_image and hdu.header.get("NAXIS")]
    if not images:
        msg = "holds no image"
        raise DamagedFileError(msg)
    if decode:
        for hdu in images:
            hdu.data.sum()
    header = images[0].header
    for keyword, is_right in expected.items():
        if keyword in header and not is_right(header[keyword]):
            msg = f"is another image: its {keyword} is {header[keyword]!r}"
            raise DamagedFileError(msg)
    return expected.keys() <= {*header}
