"""The parts of which a Level-1 cube is made."""

import numpy as np

import astropy.units as u
from sunpy.util.exceptions import warn_user

from esis_ndcube.flags import Flag

__all__ = ["PHOTONS", "Planes", "Times"]

PHOTONS = u.photon / u.pix
"""Unit of data that are expressed in photons of a line."""


class Planes:
    """
    The arrays of a cube while they are filled: at first all are missing.

    Parameters
    ----------
    shape : `tuple` of `int`
        Shape (time, channel, y, x).

    Examples
    --------
    >>> from esis_ndcube.level1.planes import Planes
    >>> Planes((1, 1, 2, 2)).flags.max()
    np.uint16(16)
    """

    @classmethod
    def of(cls, data, sigma, flags):
        """The given arrays."""
        planes = cls.__new__(cls)
        planes.data, planes.sigma, planes.flags = data, sigma, flags
        return planes

    def __init__(self, shape):
        self.data = np.full(shape, np.nan, dtype=np.float32)
        self.sigma = np.full(shape, np.nan, dtype=np.float32)
        self.flags = np.full(shape, int(Flag.MISSING), dtype=np.uint16)


class Times:
    """
    Times and sources of the frames; all of shape (time, channel).

    Parameters
    ----------
    middle : `~astropy.time.Time`
        Mid-exposure.
    exposure_time : `~astropy.units.Quantity`
        Exposure times, NaN without a frame.
    files : `numpy.ndarray` of `str`
        File names, empty without a frame.
    """

    def __init__(self, middle, exposure_time, files):
        self.middle, self.exposure_time, self.files = middle, exposure_time, files

    @classmethod
    def from_slots(cls, slots, numbers, channels, flight):
        """Times of raw frames; a missing frame gets the mean time of its exposure."""
        shape = len(numbers), len(channels)
        start = min(frame.mid_time(flight) for frame in slots.values())
        offset, exposure_time, files = (
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            np.full(shape, "", dtype=object),
        )
        for i, number in enumerate(numbers):
            for j, channel in enumerate(channels):
                if frame := slots.get((number, channel)):
                    offset[i, j] = (frame.mid_time(flight) - start).to_value(u.s)
                    exposure_time[i, j] = frame.exposure_time
                    files[i, j] = frame.path.name
        return cls.from_offsets(start, offset, exposure_time, files, numbers, flight)

    @classmethod
    def from_offsets(cls, start, offset, exposure_time, files, numbers, flight):
        """Times given in s from ``start``, NaN without a frame."""
        mean = np.nanmean(offset, axis=1, keepdims=True)
        spread = np.nanmax(np.abs(offset - mean), axis=1)
        if (apart := spread > flight.cadence.to_value(u.s) / 2).any():
            late = [n for n, far in zip(numbers, apart, strict=True) if far]
            warn_user(f"the cameras' times of frames {late} are more than half a cadence apart")
        middle = start + np.where(np.isfinite(offset), offset, mean) * u.s
        middle.format = "isot"
        return cls(middle, exposure_time * u.s, files.astype(str))
