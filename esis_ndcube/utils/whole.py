"""Tell a damaged file from a machine that cannot read it."""

import contextlib
import errno
import io
import warnings
import zlib
from itertools import count
from pathlib import Path

import numpy as np

from astropy.io import fits

from esis_ndcube.utils.parallel import own_warnings

__all__ = [
    "check_hdus",
    "check_start",
    "is_packed",
    "open_whole",
    "pass_scarcity",
    "read_unpacked",
    "walk_hdus",
]

_GZIP = b"\x1f\x8b"
_ONES = 0xFFFFFFFF
_SUMS = "CHECKSUM", "DATASUM"
# Nothing with more bytes is a header; headers of this package have some 10 kB.
_HEADER = 2**20
# The largest packed images have 4096 x 4096 numbers of 64 bits.
_UNPACKED = 2**28
_SCARCE = {
    errno.ENOMEM: "no memory for all it holds, expected more: use fewer workers, or get it again if it is small",
    errno.EMFILE: "too many open files, expected fewer: close some, or raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files, expected fewer: close some, or wait for other programs",
}


def pass_scarcity(error, path):
    """
    Raise an error about this machine and not about the file: no memory, or no more open files.

    Parameters
    ----------
    error : `Exception`
        The error that was raised while the file was read.
    path : path-like
        The file.

    Raises
    ------
    MemoryError
        If there was no memory.
    OSError
        If too many files were open.

    Examples
    --------
    >>> from esis_ndcube.utils.whole import pass_scarcity
    >>> pass_scarcity(ValueError("no FITS"), "a.fits")
    >>> pass_scarcity(MemoryError(), "a.fits")
    Traceback (most recent call last):
        ...
    MemoryError: a.fits was not read: no memory for all it holds, expected more: use fewer workers, or ...
    """
    cause = error
    while cause is not None:
        number = errno.ENOMEM if isinstance(cause, MemoryError) else getattr(cause, "errno", None)
        if number in _SCARCE:
            msg = f"{path} was not read: {_SCARCE[number]}"
            raise (MemoryError(msg) if number == errno.ENOMEM else OSError(number, msg)) from error
        cause = cause.__cause__ or cause.__context__


def is_packed(path):
    """
    Whether a file is packed by gzip.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    `bool`
        Whether it begins like a packed file.

    Examples
    --------
    >>> from esis_ndcube.utils.whole import is_packed
    >>> path = getfixture("tmp_path") / "letter.txt"
    >>> size = path.write_text("Dear colleagues")
    >>> is_packed(path)
    False
    """
    with Path(path).open("rb") as stream:
        return stream.read(len(_GZIP)) == _GZIP


def read_unpacked(path):
    """
    Read the bytes of a file; a file that is packed by gzip is unpacked, and its own checksum compared.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    `bytes`
        The content.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is packed, and damaged or larger than any image.

    Examples
    --------
    >>> from esis_ndcube.utils.whole import read_unpacked
    >>> path = getfixture("tmp_path") / "letter.txt"
    >>> size = path.write_text("Dear colleagues")
    >>> read_unpacked(path)
    b'Dear colleagues'
    """
    content = Path(path).read_bytes()
    if not content.startswith(_GZIP):
        return content
    content, whole = _unpack(content, _UNPACKED)
    if not whole:
        more = len(content) >= _UNPACKED
        msg = f"it unpacks to more than {_UNPACKED} bytes, expected an image" if more else "it is cut short"
        raise ValueError(msg)
    return content


def _unpack(content, limit):
    """The first bytes of packed content, up to a limit, and whether that is all of it."""
    parts, whole = [], True
    # A file may consist of several packed files, with zeros after the last.
    while whole and (content := content.lstrip(b"\0")):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        # A limit of 0 would be no limit.
        parts.append(member.decompress(content, max(limit, 1)))
        limit -= len(parts[-1])
        content, whole = member.unused_data, member.eof and limit >= 0
    return b"".join(parts), whole


def check_start(path):
    """
    Refuse a file without a header, or with a header that does not end, which otherwise takes long to find out in a
    packed file.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    `bytes`
        The first megabyte of the file, unpacked.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If a header does not end where it must, or the file is packed and damaged.

    Examples
    --------
    >>> import gzip
    >>> from esis_ndcube.utils.whole import check_start
    >>> path = getfixture("tmp_path") / "blank.fits.gz"
    >>> size = path.write_bytes(gzip.compress(2**21 * b" "))
    >>> check_start(path)
    Traceback (most recent call last):
        ...
    ValueError: its header does not end within 1048576 bytes
    """
    with Path(path).open("rb") as stream:
        start = stream.read(_HEADER)
    if start.startswith(_GZIP):
        start, _ = _unpack(start, _HEADER)
    _check_end(start)
    return start


def _check_end(content):
    """Refuse content whose first header does not end where it must."""
    if len(content) >= _HEADER and content.find(b"END     ", 0, _HEADER) < 0:
        msg = f"its header does not end within {_HEADER} bytes"
        raise ValueError(msg)


@contextlib.contextmanager
def open_start(path):
    """
    Open the beginning of a FITS file, which has its first headers, and no large image.

    Parameters
    ----------
    path : path-like
        The file.

    Yields
    ------
    `~astropy.io.fits.HDUList`
        Its HDUs, as far as they begin in the first megabyte.

    Raises
    ------
    OSError, ValueError
        As `check_start`.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from esis_ndcube.utils.whole import open_start
    >>> path = getfixture("tmp_path") / "image.fits"
    >>> fits.PrimaryHDU([[1, 2]]).writeto(path)
    >>> with open_start(path) as hdulist:
    ...     hdulist[0].shape
    (1, 2)
    """
    start = check_start(path)
    with own_warnings():
        warnings.filterwarnings("ignore", message="File may have been truncated")
        with fits.open(io.BytesIO(start), lazy_load_hdus=True) as hdulist:
            yield hdulist


def walk_hdus(hdulist):
    """
    Go through the HDUs of a file, and refuse lengths that would lead back to an earlier place.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        The file, opened with ``lazy_load_hdus=True``.

    Yields
    ------
    HDU
        Each HDU.

    Raises
    ------
    ValueError
        If an HDU has a negative length.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from esis_ndcube.utils.whole import walk_hdus
    >>> [hdu.name for hdu in walk_hdus(fits.HDUList([fits.PrimaryHDU()]))]
    ['PRIMARY']
    """
    for index in count():
        try:
            hdu = hdulist[index]
        except IndexError:
            return
        header = hdu.header
        # No array has more axes than these.
        axes = (f"NAXIS{n + 1}" for n in range(min(header.get("NAXIS", 0), 99)))
        lengths = {key: header.get(key, 0) for key in ("PCOUNT", "GCOUNT", *axes)}
        if wrong := [f"{key} = {length}" for key, length in lengths.items() if length < 0]:
            msg = f"HDU {index} has {', '.join(wrong)}, expected no length below 0"
            raise ValueError(msg)
        yield hdu


@contextlib.contextmanager
def open_whole(path):
    """
    Open a FITS file whose length and checksums agree, as far as it has checksums.

    Parameters
    ----------
    path : path-like
        The file.

    Yields
    ------
    `~astropy.io.fits.HDUList`
        Its content, in memory.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is cut short, or a checksum does not agree.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from esis_ndcube.utils.whole import open_whole
    >>> path = getfixture("tmp_path") / "image.fits"
    >>> fits.PrimaryHDU([[1, 2]]).writeto(path, checksum=True)
    >>> with open_whole(path) as hdulist:
    ...     hdulist[0].data.sum()
    np.int64(3)
    """
    content = read_unpacked(path)
    _check_end(content)
    with fits.open(io.BytesIO(content), disable_image_compression=True, lazy_load_hdus=True) as hdulist:
        end, summed = check_hdus(hdulist, content)
        if summed and len(content) > end:
            msg = f"it has {len(content) - end} bytes after its last HDU, expected none"
            raise ValueError(msg)
        if not any("ZIMAGE" in hdu.header for hdu in hdulist):
            yield hdulist
            return
    with fits.open(io.BytesIO(content)) as hdulist:
        yield hdulist


def check_hdus(hdulist, content):
    """
    Compare the length and the checksums of a FITS file with its bytes.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        The file, opened with ``disable_image_compression=True, lazy_load_hdus=True``.
    content : `bytes`
        All bytes of the file.

    Returns
    -------
    end : `int`
        Position of the end of the last HDU.
    summed : `bool`
        Whether every HDU has checksums; a file without them claims nothing.

    Raises
    ------
    ValueError
        If the file is cut short, or a checksum does not agree.

    Examples
    --------
    >>> import io
    >>> from astropy.io import fits
    >>> from esis_ndcube.utils.whole import check_hdus
    >>> stream = io.BytesIO()
    >>> fits.PrimaryHDU([[1, 2]]).writeto(stream, checksum=True)
    >>> with fits.open(io.BytesIO(stream.getvalue())) as hdulist:
    ...     check_hdus(hdulist, stream.getvalue())
    (5760, True)
    """
    summed, end = True, 0
    content = memoryview(content)
    for index, hdu in enumerate(walk_hdus(hdulist)):
        header, place = hdu.header, hdu.fileinfo()
        end = place["datLoc"] + place["datSpan"]
        if len(content) < end:
            msg = f"it is cut short: {len(content)} bytes, expected {end}"
            raise ValueError(msg)
        # An empty text stands for a sum that is not known. The bytes of the file are summed, as in the convention:
        # astropy would sum a header that it has read and written anew.
        whole, data = (str(header.get(key, "")).strip() for key in _SUMS)
        # Lost bytes move the cards behind them, whose keywords are then wrong.
        cards = bytes(content[place["hdrLoc"] : place["datLoc"]])
        if moved := [key for key in _SUMS if key not in header and f"{key:8}=".encode() in cards]:
            msg = f"the cards of HDU {index} are not where they belong, {' and '.join(moved)} among them"
            raise ValueError(msg)
        wrong = bool(whole) and _sum(content[place["hdrLoc"] : end]) != 0
        wrong |= bool(data) and _sum(content[place["datLoc"] : end]) != int(data) % _ONES
        if wrong:
            msg = f"the checksum of HDU {index} does not agree"
            raise ValueError(msg)
        # An empty primary HDU holds nothing that could be damaged unseen.
        summed &= bool(whole and data) or (index == 0 and not header["NAXIS"])
    return end, summed


def _sum(content):
    """The ones' complement sum of 32-bit words of the FITS standard, 4.0, appendix J; all ones count as 0."""
    return int(np.frombuffer(content, dtype=">u4").sum(dtype=np.uint64)) % _ONES
