"""Tell whether a file that was downloaded is whole."""

import io
import warnings

from astropy.io import fits

from esis_ndcube.utils.parallel import own_warnings
from esis_ndcube.utils.whole import check_hdus, check_start, is_packed, pass_scarcity, read_unpacked

__all__ = ["DamagedFileError", "check_image"]


class DamagedFileError(ValueError):
    """
    A damaged file, or another file than the expected one.

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
    Read a FITS image from beginning to end, and check it.

    The checks are the gzip checksum of packed files, the checksums in the headers, and the length; without a checksum
    all images are decoded.

    Parameters
    ----------
    path : path-like
        The file.
    expected : `dict`, optional
        Functions by header keyword. Each takes the keyword's value and returns whether it is right.

    Returns
    -------
    `bool`
        Whether a checksum confirms that the file is as it was written, and its keywords that it is the expected image.
        Without a checksum, a few wrong bytes may go unseen; without the keywords, another image.

    Raises
    ------
    DamagedFileError
        If the file is not FITS, is cut short, has no image, is damaged, or is not the expected one.
    MemoryError, OSError
        If there is not enough memory, or too many files are open.

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
        check_start(path)
        content = read_unpacked(path)
        if not content.startswith(b"SIMPLE  ="):
            msg = f"begins with {content[:20]!r}, expected a FITS file"
            raise DamagedFileError(msg)
        with own_warnings():
            # These checks make errors of conditions for which astropy only warns.
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(content), disable_image_compression=True, lazy_load_hdus=True) as hdul:
                end, summed = check_hdus(hdul, content)
            if len(content) != end:
                msg = f"is {len(content)} bytes long, expected {end}"
                raise DamagedFileError(msg)
            with fits.open(io.BytesIO(content)) as hdul:
                known = _check_content(hdul, expected or {}, decode=not summed)
    except DamagedFileError:
        raise
    except Exception as error:  # astropy and the decompressors raise many classes for a damaged file
        pass_scarcity(error, path)
        msg = f"cannot be read: {type(error).__name__}: {error}"
        raise DamagedFileError(msg) from error
    return known and (is_packed(path) or summed)


def _check_content(hdul, expected, *, decode):
    """Whether the header has all expected keywords; the values that it has are right."""
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
