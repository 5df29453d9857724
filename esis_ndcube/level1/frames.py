"""Find raw camera frames, sort them by their headers, and read them."""

import glob
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.time import Time
from sunpy.util.exceptions import warn_user

from esis_ndcube.utils.whole import is_packed, open_start, open_whole, pass_scarcity, read_unpacked, walk_hdus

__all__ = [
    "FrameError",
    "RawFrame",
    "find_frames",
    "list_files",
    "read_frame",
    "sort_frames",
    "stamp_to_middle",
]

_SUFFIXES = tuple(f".{stem}{end}" for stem in ("fit", "fits", "fts") for end in ("", ".gz", ".fz"))
_MEND = "get it again, or pass on_error='skip' (--skip-damaged)"
# Longest exposure in s of any rocket, and largest ratio of an exposure to a cadence.
_LONGEST = 86400
_UNUSUAL = 4

_log = logging.getLogger(__name__)


class FrameError(ValueError):
    """
    Raw frames that are missing, damaged, doubled or not of the flight.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.frames import find_frames
    >>> find_frames(getfixture("tmp_path"), ESIS_1)
    Traceback (most recent call last):
        ...
    esis_ndcube.level1.frames.FrameError: ...
    """


@dataclass(frozen=True)
class RawFrame:
    """
    One raw frame: its place and the facts of its header.

    Attributes
    ----------
    path : `pathlib.Path`
        The file.
    hdu : `int`
        Index of the HDU that holds the image.
    channel : `int`
        Channel number, from 1.
    frame_number : `int`
        Raw frame number.
    stamp : `str`
        Time stamp of the header, UTC.
    exposure_time : `float`
        Measured exposure in s, or the commanded one if the header has no measured one; NaN if it cannot be read.

    Examples
    --------
    >>> from esis_ndcube.level1.frames import RawFrame
    >>> RawFrame("ESIS1_00124.fit.gz", 0, 1, 124, "2019-09-30T18:08:41.642", 10.0).frame_number
    124
    """

    path: Path
    hdu: int
    channel: int
    frame_number: int
    stamp: str
    exposure_time: float

    def mid_time(self, flight):
        """
        Time of mid-exposure.

        Parameters
        ----------
        flight : `~esis_ndcube.Flight`
            The flight, with the meaning of a time stamp, and the error of the clock.

        Returns
        -------
        `~astropy.time.Time`
            Mid-exposure, UTC.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.level1.frames import RawFrame
        >>> frame = RawFrame("ESIS1_00124.fit.gz", 0, 1, 124, "2019-09-30T18:08:41.642", 10.0)
        >>> frame.mid_time(ESIS_1).isot
        '2019-09-30T18:08:36.642'
        """
        return stamp_to_middle(Time(self.stamp, scale="utc"), self.exposure_time, flight)


def stamp_to_middle(stamps, exposure_time, flight):
    """
    Turn the camera's time stamps into times of mid-exposure.

    Parameters
    ----------
    stamps : `~astropy.time.Time`
        Time stamps, any shape.
    exposure_time : array-like of `float`
        Exposures in s, of the same shape.
    flight : `~esis_ndcube.Flight`
        The flight, with the meaning of a time stamp, and the error of the clock.

    Returns
    -------
    `~astropy.time.Time`
        Mid-exposure.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.frames import stamp_to_middle
    >>> stamp_to_middle(Time("2019-09-30T18:08:41.642"), 10, ESIS_1).isot
    '2019-09-30T18:08:36.642'
    """
    halves = {"start": 0.5, "middle": 0.0, "end": -0.5}[flight.time_stamp]
    return stamps + halves * np.asarray(exposure_time) * u.s + flight.clock_offset


def find_frames(paths, flight, *, on_error="raise", used=None):
    """
    Find the raw frames of a flight and read their headers, but not yet their images.

    Frames that will not be used are listed unchecked: an exposure of 0, a wrong shape or a second file of such a frame
    does no harm.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        Files, folders, and glob patterns.
        A folder stands for its files that end in ``.fit``, ``.fits`` or ``.fts``, plain or with ``.gz`` or ``.fz``.
    flight : `~esis_ndcube.Flight`
        The flight, with the header keywords, the cameras, and the shape of a frame.
    on_error : {"raise", "skip"}, optional
        Reaction to a damaged file: stop, or leave it out with a warning.
    used : callable, optional
        Function of a frame number and a channel number that says whether the frame will be used, and so must be right;
        by default light frames and darks are used.

    Returns
    -------
    `list` of `RawFrame`
        Sorted by frame number, then channel, whatever the files are called.

    Raises
    ------
    FrameError
        If nothing is found, or a file is not FITS or does not say which frame it is. For frames that are used, also if
        a file is cut short, has the wrong shape or no exposure, or lacks a keyword, or if two files hold the same
        frame.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        For FITS files that are of none of the flight's cameras (they are left out), for skipped files, and for
        exposures and times that are unlike those of the flight.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.frames import find_frames
    >>> frames = find_frames("flight/raw/", ESIS_1)  # doctest: +SKIP
    >>> len(frames)  # doctest: +SKIP
    284
    """
    check_on_error(on_error)
    used = partial(_in_time_line, flight) if used is None else used
    files = list_files(paths)
    found, unused, strangers = {}, [], []
    for path in files:
        try:
            frame = _read_header(path, flight, used)
            other = found.get((frame.frame_number, frame.channel)) if frame else None
            if other:
                msg = (
                    f"two files hold frame {frame.frame_number} of channel {frame.channel}: "
                    f"{other.path} and {path}; keep one of them"
                )
                raise FrameError(msg)
        except FrameError as error:
            give_up_or_warn(error, on_error)
            continue
        if frame is None:
            strangers.append(path)
        elif used(frame.frame_number, frame.channel):
            found[frame.frame_number, frame.channel] = frame
        else:
            unused.append(frame)
    cameras = ", ".join(channel.camera for channel in flight.channels)
    if strangers:
        warn_user(
            f"{len(strangers)} FITS files are left out, their {flight.files.camera} is none of {cameras}: "
            f"{_some(strangers)}"
        )
    warn_unusual({frame.path: (frame.exposure_time, frame.stamp) for frame in found.values()}, flight)
    if not found and not unused:
        msg = (
            f"no raw frames of {flight.name} among the {len(files)} FITS files in {_describe(paths)}; "
            f"expected {flight.files.camera} = {cameras} in their headers"
        )
        raise FrameError(msg)
    return sorted([*found.values(), *unused], key=lambda frame: (frame.frame_number, frame.channel))


def sort_frames(frames, flight):
    """
    Tell light frames from darks by the flight's time line.

    Parameters
    ----------
    frames : iterable of `RawFrame`
        Frames of the flight.
    flight : `~esis_ndcube.Flight`
        The flight, with the frame numbers of both.

    Returns
    -------
    light, dark : `list` of `RawFrame`
        Light frames and darks. Frames that are neither are left out, with a log message.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.frames import RawFrame, sort_frames
    >>> frames = [RawFrame("a", 0, 1, n, "2019-09-30T18:00:00", 10.0) for n in (99, 104, 124)]
    >>> light, dark = sort_frames(frames, ESIS_1)
    >>> [frame.frame_number for frame in light], [frame.frame_number for frame in dark]
    ([124], [99])
    """
    frames = list(frames)
    light = [frame for frame in frames if flight.is_light(frame.frame_number)]
    dark = [frame for frame in frames if flight.is_dark(frame.frame_number)]
    rest = sorted({frame.frame_number for frame in frames} - {frame.frame_number for frame in light + dark})
    if rest:
        _log.info("Frames %s are neither light frames nor darks of %s, and are not used.", rest, flight.name)
    return light, dark


def read_frame(frame, flight):
    """
    Read the image of a raw frame.

    Parameters
    ----------
    frame : `RawFrame`
        The frame.
    flight : `~esis_ndcube.Flight`
        The flight, with the shape of a frame.

    Returns
    -------
    `numpy.ndarray`
        Digital numbers, in the frame's own integer type and native byte order, shape
        ``flight.detector.raw_shape``.

    Raises
    ------
    FrameError
        If the file is damaged or gone.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.frames import find_frames, read_frame
    >>> frames = find_frames("flight/raw/", ESIS_1)  # doctest: +SKIP
    >>> read_frame(frames[0], ESIS_1).shape  # doctest: +SKIP
    (1040, 2152)
    """
    try:
        with open_whole(frame.path) as hdul:
            shape = hdul[frame.hdu].shape
            # An image of another shape is not unpacked, because it may be of any size.
            data = np.array(hdul[frame.hdu].data) if shape == flight.detector.raw_shape else None
    except Exception as error:  # astropy and the decompressors raise many classes for a damaged file
        pass_scarcity(error, frame.path)
        msg = f"{frame.path} is damaged: {_reason(error)}; {_MEND}"
        raise FrameError(msg) from error
    if data is None:
        msg = (
            f"{frame.path} holds an image of shape {shape}, expected {flight.detector.raw_shape} for {flight.name}: "
            f"{_MEND}, or name its flight with flight= (--flight)"
        )
        raise FrameError(msg)
    if data.dtype.kind == "f" and not np.isfinite(data).any():
        msg = f"{frame.path} holds no number, expected an image of numbers; {_MEND}"
        raise FrameError(msg)
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def may_be_dark(number, flight):
    """Whether a frame that is given as a dark may be one, by its number: a frame of the flight must be a dark."""
    ranges = (*flight.light_frames, *flight.dark_frames, *(flight.archive.frames if flight.archive else ()))
    first, last = min(low for low, _ in ranges), max(high for _, high in ranges)
    return flight.is_dark(number) or not first <= number <= last


def check_on_error(on_error):
    """Refuse an unknown ``on_error``."""
    if on_error not in ("raise", "skip"):
        msg = f"got on_error={on_error!r}, expected 'raise' or 'skip'"
        raise ValueError(msg)


def give_up_or_warn(error, on_error):
    """Raise a `FrameError`, or turn it into a warning if damaged files are to be skipped."""
    if on_error == "raise":
        raise error
    warn_user(f"Skipped: {error}")


def list_files(paths):
    """
    Find the FITS files that a user names.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        Files, folders, and glob patterns, as for `find_frames`.

    Returns
    -------
    `list` of `pathlib.Path`
        Each file once, in the order given.

    Raises
    ------
    FrameError
        If a file or folder does not exist, or there are no FITS files.

    Examples
    --------
    >>> from esis_ndcube.level1.frames import list_files
    >>> list_files("flight/raw/*.fit.gz")  # doctest: +SKIP
    """
    files = []
    for item in _as_list(paths):
        path = Path(item).expanduser()
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.name.lower().endswith(_SUFFIXES) and p.is_file())
        elif path.exists():
            files.append(path)
        elif glob.has_magic(str(path)):
            # Path.glob takes no absolute patterns.
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207
            files += sorted(p for p in map(Path, names) if p.is_file())
        else:
            msg = f"no such file or folder: {path}"
            raise FrameError(msg)
    # A file that is reached in two ways is still one frame.
    files = list({path.resolve(): path for path in reversed(files)}.values())[::-1]
    if not files:
        msg = f"no FITS files in {_describe(paths)}; looked for {', '.join('*' + s for s in _SUFFIXES)}"
        raise FrameError(msg)
    return files


def _as_list(paths):
    if isinstance(paths, (str, Path)) or not isinstance(paths, Iterable):
        return [paths]
    return list(paths)


def _some(paths):
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


def _describe(paths):
    names = [str(path) for path in _as_list(paths)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "an empty list"


def _in_time_line(flight, frame_number, channel):
    """Whether a frame is light or dark, in any channel."""
    return flight.is_light(frame_number) or flight.is_dark(frame_number)


def _read_header(path, flight, used):
    """The frame in a file, or None if it is readable FITS but none of the flight's cameras took it."""
    keys = flight.files
    wanted = (keys.camera, keys.frame, keys.time, keys.exposure, keys.measured_exposure)
    try:
        with open_start(path) as hdul:
            index, hdu = next(((i, hdu) for i, hdu in enumerate(walk_hdus(hdul)) if hdu.header["NAXIS"]), (None, None))
            if hdu is None:
                end = hdul[-1].fileinfo()
                if not is_packed(path) and path.stat().st_size > end["datLoc"] + end["datSpan"]:
                    msg = f"no HDU in what follows HDU {len(hdul) - 1}"
                    raise ValueError(msg)
                return None
            shape, info = hdu.shape, hdu.fileinfo()
            header = read_cards(hdu.header, wanted)
    except Exception as error:  # astropy and the decompressors raise many classes for a damaged file
        pass_scarcity(error, path)
        msg = f"{path} is not a readable FITS file: {_reason(error)}; {_MEND}"
        raise FrameError(msg) from error
    channels = {channel.camera: channel.number for channel in flight.channels}
    channel = channels.get(str(header.get(keys.camera, "")).strip())
    if channel is None:
        return None
    missing = [key for key in (keys.frame, keys.time) if key not in header]
    if keys.measured_exposure not in header and keys.exposure not in header:
        missing.append(keys.exposure)
    number, stamp, exposure_time, problem = _values(header, keys)
    if number is not None and not used(number, channel):
        return RawFrame(Path(path), index, channel, number, stamp, exposure_time)
    if shape != flight.detector.raw_shape:
        msg = (
            f"{path} holds an image of shape {shape}, expected {flight.detector.raw_shape} for {flight.name}: "
            "leave it out, or name its flight with flight= (--flight)"
        )
        raise FrameError(msg)
    _check_length(path, info)
    if missing:
        msg = (
            f"{path} has no header keyword {', '.join(missing)}, expected it in every raw frame of {flight.name}; "
            f"{_MEND}"
        )
        raise FrameError(msg)
    if problem:
        msg = f"{path} has a header value that cannot be read: {problem}; {_MEND}"
        raise FrameError(msg)
    return RawFrame(Path(path), index, channel, number, stamp, exposure_time)


def _values(header, keys):
    """Frame number, time stamp and exposure in s, and the first problem with them."""
    number, stamp, exposure_time, problem = None, str(header.get(keys.time, "")), np.nan, None
    try:
        number = whole_number(header, keys.frame)
        exposure_time = _exposure_time(header, keys)
        check_exposure(exposure_time)
        stamp = read_time(stamp.rstrip("Z"), keys.time, format="isot").isot
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        problem = error
    return number, stamp, exposure_time, problem


def _exposure_time(header, keys):
    """Measured exposure in s, or the commanded one if there is no measured one (or it is 0)."""
    measured = header.get(keys.measured_exposure)
    if measured:
        return float(measured) * keys.measured_exposure_unit.to_value("s")
    return float(header.get(keys.exposure, 0)) * keys.exposure_unit.to_value("s")


def read_cards(header, keys):
    """
    The values of those keywords that are there.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header.
    keys : sequence of `str`
        The keywords.

    Returns
    -------
    `dict`
        The values by keyword.

    Raises
    ------
    ValueError
        If a keyword has two different values.
    """
    found = {}
    for key in keys:
        values = [header[key, n] for n in range(header.count(key))] if key in header else []
        if len(set(values)) > 1:
            msg = f"{key} is there with the values {', '.join(map(repr, values))}, expected one"
            raise ValueError(msg)
        if values:
            found[key] = values[0]
    return found


def whole_number(header, key):
    """The value of a keyword as an `int`; a `ValueError` if it is another kind of number."""
    value = header[key]
    if isinstance(value, bool) or int(value) != float(value):
        msg = f"{key} is {value!r}, expected a whole number"
        raise ValueError(msg)
    return int(value)


def read_time(text, key, **form):
    """A time in UTC; a `ValueError` if the text is not a time."""
    try:
        return Time(text, scale="utc", **form)
    except ValueError as error:
        msg = f"{key} is {text!r}, expected a time such as 2019-09-30T18:08:41.642"
        raise ValueError(msg) from error


def check_exposure(seconds):
    """An exposure in s; a `ValueError` if no rocket can have made it."""
    if not 0 < seconds <= _LONGEST:
        msg = f"exposure {float(f'{seconds:.6g}')} s, expected more than 0 and up to {_LONGEST}"
        raise ValueError(msg)
    return seconds


def warn_unusual(images, flight):
    """
    Warn of exposures and times that are possible, but unlike those of the flight.

    Parameters
    ----------
    images : `dict`
        Exposure in s and time (UTC, in ISO 8601), by file.
    flight : `~esis_ndcube.Flight`
        The flight, with the usual cadence and launch.
    """
    if not images:
        return
    cadence = flight.cadence.to_value(u.s)
    seconds, times = zip(*images.values(), strict=True)
    ratio = np.array(seconds) / cadence
    far = np.abs((Time(list(times), format="isot", scale="utc") - flight.launch).to_value(u.day)) > 1
    cases = {
        f"exposures far from the cadence of {cadence:g} s": (ratio < 1 / _UNUSUAL) | (ratio > _UNUSUAL),
        f"times more than a day from the launch, {flight.launch.isot}": far,
    }
    for case, unusual in cases.items():
        if paths := [path for path, odd in zip(images, unusual, strict=True) if odd]:
            warn_user(f"{len(paths)} files have {case}: {_some(paths)}; are they of {flight.name}?")


def _check_length(path, info):
    """Find a cut-off file by its size, which is long before its image is read."""
    size, expected = path.stat().st_size, info["datLoc"] + info["datSpan"]
    try:
        if is_packed(path):
            with path.open("rb") as stream:
                stream.seek(-4, os.SEEK_END)
                size = int.from_bytes(stream.read(), "little")
            # This is the length of the unpacked content, unless there are several parts, or the end is missing.
            size = size if size == expected else len(read_unpacked(path))
    except ValueError as error:
        msg = f"{path} is damaged: {error}; {_MEND}"
        raise FrameError(msg) from error
    if size < expected:
        msg = f"{path} is cut short: {size} bytes, expected {expected}; {_MEND}"
        raise FrameError(msg)


def _reason(error):
    return f"{type(error).__name__}: {error}"
