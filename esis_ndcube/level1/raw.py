"""From raw frames to the planes of a Level-1 cube."""

import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np

from sunpy.util.exceptions import warn_user

from esis_ndcube.flags import Flag
from esis_ndcube.flight.instrument import ByQuadrant
from esis_ndcube.io._planes import FileState
from esis_ndcube.level1._scratch import Scratch
from esis_ndcube.level1.calibration import (
    calibrate,
    electron_variance,
    gain_image,
    line_factors,
    master_dark,
    measure_read_noise,
    orient,
    subtract_bias,
    trim,
)
from esis_ndcube.level1.despike import find_spikes, mend_spikes
from esis_ndcube.level1.frames import FrameError, RawFrame, give_up_or_warn, read_frame
from esis_ndcube.level1.planes import Planes
from esis_ndcube.utils.parallel import compute, delayed, share, stream

__all__ = ["arrange_frames", "calibrate_darks", "fill_planes", "lazy_planes"]

_log = logging.getLogger(__name__)


class _Calibration:
    """The facts that the darks of one camera give."""

    def __init__(self, frames, dark, weight, read_noise):
        self.frames, self.dark, self.weight, self.read_noise = frames, dark, weight, read_noise


def arrange_frames(light, flight, frame_numbers, channels):
    """Light frames by (frame number, channel), and the frame numbers and channels of the cube."""
    if not light:
        msg = f"no light frames of {flight.name}: expected frame numbers {_ranges(flight.light_frames)}"
        raise FrameError(msg)
    there = sorted({frame.channel for frame in light})
    if channels is None:
        channels = there
        if absent := [c.number for c in flight.channels if c.number not in there]:
            warn_user(f"no light frames of channels {absent} of {flight.name}; the cube has channels {there}")
    else:
        channels = sorted({flight.channel(int(number)).number for number in channels})
        if not channels:
            msg = f"got no channels, expected some of {there}"
            raise ValueError(msg)
        if absent := sorted(set(channels) - set(there)):
            msg = f"no light frames of channels {absent}, only of {there}"
            raise ValueError(msg)
    numbers = sorted({frame.frame_number for frame in light if frame.channel in channels})
    if frame_numbers is not None:
        wanted = sorted({int(number) for number in frame_numbers})
        if not wanted or not set(wanted) & set(numbers):
            msg = f"got frames {wanted}, expected some of {numbers}"
            raise ValueError(msg)
        if absent := sorted(set(wanted) - set(numbers)):
            _log.info("Frames %s are not there.", absent)
        numbers = [number for number in numbers if number in wanted]
    slots = {(f.frame_number, f.channel): f for f in light if f.channel in channels and f.frame_number in numbers}
    for number in numbers:
        if absent := [channel for channel in channels if (number, channel) not in slots]:
            warn_user(f"frame {number} is missing in channels {absent}; it is masked there")
    return slots, numbers, channels


def calibrate_darks(frames, channel, flight, on_error, workers):
    """Master dark and read noise of one camera."""
    detector = flight.detector
    images = compute([delayed(partial(_read_dark, frame, flight)) for frame in frames], workers=workers)
    for image in images:
        if isinstance(image, FrameError):
            give_up_or_warn(image, on_error)
    good = [(f, image) for f, image in zip(frames, images, strict=True) if not isinstance(image, FrameError)]
    if not good:
        msg = (
            f"no darks of channel {channel}: expected frame numbers {_ranges(flight.dark_frames)}; "
            "name other files with darks= (--darks)"
        )
        raise FrameError(msg)
    frames, images = zip(*good, strict=True)
    if len(images) < 3:
        # Too few frames to tell a particle's mark by comparing them.
        images = [mend_spikes(image, find_spikes(image, fwhm=detector.psf_fwhm))[0] for image in images]
    if len(images) > 1:
        read_noise = measure_read_noise(images, detector)
    else:
        read_noise = np.full(4, detector.read_noise)
    dark, weight = master_dark(images)
    return _Calibration(frames, dark, weight, read_noise)


def _read_dark(frame, flight):
    try:
        image, _ = subtract_bias(read_frame(frame, flight), flight.detector)
    except FrameError as error:
        return error
    return trim(image, flight.detector)


def fill_planes(slots, numbers, channels, calibration, settings, *, on_error, workers, description):
    """Calibrate all frames into arrays."""
    planes = Planes((len(numbers), len(channels), *settings["flight"].detector.shape))
    shared = {channel: share(calibration[channel], workers=workers) for channel in channels}
    indices = [(i, j) for i, n in enumerate(numbers) for j, c in enumerate(channels) if (n, c) in slots]
    task = partial(_calibrate_frame, **settings)
    tasks = [delayed(task, slots[numbers[i], channels[j]], shared[channels[j]]) for i, j in indices]
    with stream(tasks, workers=workers, description=description) as results:
        for index, (images, problem) in zip(indices, results, strict=True):
            if images is None:
                _report(problem, on_error)
            else:
                planes.data[index], planes.sigma[index], planes.flags[index] = images
    return planes


@dataclass(frozen=True)
class _Watched:
    """A frame whose file is read later."""

    frame: RawFrame
    state: FileState

    @property
    def path(self):
        """The file."""
        return self.frame.path

    def checked(self):
        """The frame, if its file is the one that was found; the reader reports a file that is gone."""
        with contextlib.suppress(FileNotFoundError):
            self.state.check(self.path, self.path.stat())
        return self.frame


def lazy_planes(slots, numbers, channels, calibration, settings, *, on_error, scratch=None):
    """The same as Dask arrays with a chunk for each frame; one task makes all three planes of a frame."""
    frames, darks = np.empty((len(numbers), len(channels)), object), np.empty((1, len(channels)), object)
    for j, channel in enumerate(channels):
        darks[0, j] = calibration[channel]
        for i, number in enumerate(numbers):
            frame = slots.get((number, channel))
            frames[i, j] = None if frame is None else _Watched(frame, FileState.of(frame.path))
    frames, darks = (da.from_array(array, chunks=1, name=False) for array in (frames, darks))
    shape = settings["flight"].detector.shape
    missing = Planes((1, 1, *shape))
    if scratch is not None:
        one = missing.data.nbytes + missing.sigma.nbytes + missing.flags.nbytes
        scratch = Scratch(Path(scratch), reserved=one * len(slots))
    results = da.map_blocks(
        _calibrate_block,
        frames,
        darks,
        dtype=object,
        meta=np.empty((0, 0), object),
        on_error=on_error,
        scratch=scratch,
        **settings,
    )
    chunks = (*results.chunks, *((length,) for length in shape))
    return Planes.of(
        *(
            results.map_blocks(
                _take, which, dtype=plane.dtype, chunks=chunks, new_axis=[2, 3], meta=plane[:0, :0, :0, :0]
            )
            for which, plane in enumerate((missing.data, missing.sigma, missing.flags))
        )
    )


def _calibrate_block(frames, darks, *, on_error, scratch, **settings):
    """One frame's planes, as an array that holds one object."""
    frame, images = frames[0, 0], None
    if frame is not None:
        frame = frame.checked()
    if frame is not None and scratch is not None:
        images = scratch.read(frame)
    if frame is not None and images is None:
        images, problem = _calibrate_frame(frame, darks[0, 0], **settings)
        _report(problem, on_error)
        if images is not None and scratch is not None:
            scratch.write(frame, images)
    if images is None:
        missing = Planes(settings["flight"].detector.shape)
        images = missing.data, missing.sigma, missing.flags
    result = np.empty((1, 1), object)
    result[0, 0] = images
    return result


def _take(results, which):
    return results[0, 0][which][None, None]


def _report(problem, on_error):
    if isinstance(problem, FrameError):
        give_up_or_warn(problem, on_error)
    elif problem:
        warn_user(problem)


def _calibrate_frame(frame, calibration, *, flight, despike):
    """Data, their uncertainty and flags of one frame, or None and a `FrameError` or a warning."""
    detector, channel = flight.detector, flight.channel(frame.channel)
    try:
        raw = read_frame(frame, flight)
    except FrameError as error:
        return None, error
    active = orient(trim(raw, detector), detector)
    if active.min() == active.max():
        return None, f"{frame.path} is blank, all its pixels are {active.flat[0]}; it is masked"
    image, stray = calibrate(raw, calibration.dark, channel, detector)
    flags = np.zeros(image.shape, dtype=np.uint16)
    for columns in channel.bad_columns:
        flags[:, slice(*columns)] |= int(Flag.BAD_PIXEL)
    saturated = active >= detector.saturation
    flags[saturated] |= int(Flag.SATURATED)
    mended = saturated
    if despike or isinstance(despike, dict):
        settings = {"fwhm": detector.psf_fwhm, **(despike if isinstance(despike, dict) else {})}
        spikes = find_spikes(image, **settings)
        flags[spikes] |= int(Flag.SPIKE)
        mended = spikes | saturated
    image, extra = mend_spikes(image, mended)
    noise = gain_image(ByQuadrant(*np.multiply(calibration.read_noise, channel.gain)), detector)
    noise = orient(noise, detector) * np.sqrt(np.float32(1 + calibration.weight))
    charge = {"collection": channel.charge_collection, "kernel": detector.charge_kernel}
    variance = electron_variance(image + stray, line_factors(flight), noise, detector.fano_factor, **charge)
    variance[mended] += extra
    # There is nothing to mend with in the middle of a very thick track.
    flags[~np.isfinite(image)] |= int(Flag.BAD_PIXEL)
    return (image, np.sqrt(variance), flags), None


def _ranges(ranges):
    return ", ".join(f"{first}-{last}" for first, last in ranges)
