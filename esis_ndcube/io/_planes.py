"""Image arrays in a FITS file, which are read and written a part at a time."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Several images' worth, and a multiple of the four bytes that a checksum adds up.
_BLOCK = 2**24


def stored_type(dtype, name):
    """The native type of values that FITS can hold, for any byte order; else a `TypeError` that names the array."""
    dtype = np.dtype(dtype).newbyteorder("=")
    if dtype.kind not in "biuf" or dtype.char in "eg":
        msg = f"got {name} of type {dtype}, expected bool, integers, float32 or float64: convert it with astype first"
        raise TypeError(msg)
    return dtype


def image_data(array, name="DATA"):
    """A copy of an array that astropy writes without a change: contiguous, FITS's byte order, bool as uint8."""
    dtype = stored_type(array.dtype, name)
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    return np.array(array, dtype=dtype.newbyteorder(">"), order="C")


@dataclass(frozen=True)
class FileState:
    """Marks that tell a file from another in its place: length, time, and number on one computer."""

    length: int
    time: int
    number: int
    computer: str

    @classmethod
    def of(cls, path):
        """The marks of a file as it is now."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, platform.node())

    def check(self, path, found):
        """Refuse a file that has been changed or replaced, by the result of `os.stat` or `os.fstat`."""
        # Other computers may number the files of a shared disk in another way.
        replaced = platform.node() == self.computer and found.st_ino != self.number
        if replaced or (found.st_size, found.st_mtime_ns) != (self.length, self.time):
            msg = f"{path} has been changed since it was read lazily: read it again"
            raise OSError(msg)


class Plane:
    """
    The array of an image HDU that is not compressed.

    An index reads a part of the array from the file; assigning to the integer indices of the leading axes writes a
    part. The file is open only meanwhile, and memory is used only for the part, so that the object can be pickled and
    sent to other processes.

    Parameters
    ----------
    path : path-like
        The file.
    offset : `int`
        Position of the array in the file.
    shape : `tuple` of `int`
        Shape of the array.
    dtype : `~numpy.dtype`
        Type of the values in memory, in any byte order; bool is kept as uint8.
    watch : `bool`
        Whether to refuse to read after the file has changed.
    """

    def __init__(self, path, offset, shape, dtype, *, watch=False):
        self.path, self.offset, self.shape = Path(path).absolute(), offset, tuple(shape)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.ndim = len(self.shape)
        self._state = FileState.of(self.path) if watch else None

    @property
    def nbytes(self):
        """Length in the file."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __getitem__(self, item):
        # The same file is checked and read, also when another file takes its place meanwhile.
        with self.path.open("rb") as stream:
            if self._state is not None:
                self._state.check(self.path, os.fstat(stream.fileno()))
            stored = np.memmap(stream, self._bits.newbyteorder(">"), mode="r", offset=self.offset, shape=self.shape)
        values = self._shift(np.array(stored[item], dtype=self._bits))
        return values.astype(bool) if self.dtype == bool else values.view(self.dtype)

    def __setitem__(self, index, values):
        values = np.broadcast_to(np.asarray(values, dtype=self.dtype), self.shape[len(index) :])
        position = int(np.ravel_multi_index(index, self.shape[: len(index)])) if index else 0
        with self.path.open("r+b") as stream:
            stream.seek(self.offset + position * values.nbytes)
            bits = self._shift(np.ascontiguousarray(values).view(self._bits))
            stream.write(bits.astype(self._bits.newbyteorder(">")))

    def blocks(self):
        """All bytes, in turn."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            left = self.nbytes
            while left:
                block = stream.read(min(left, _BLOCK))
                if not block:
                    msg = f"{self.path} is cut short: {left} bytes of an array are missing"
                    raise OSError(msg)
                left -= len(block)
                yield np.frombuffer(block, dtype=np.uint8)

    @property
    def _bits(self):
        return np.dtype(f"u{self.dtype.itemsize}")

    def _shift(self, bits):
        """Turn the highest bit: integers of a kind that FITS lacks are kept with an offset of half their range."""
        size = self.dtype.itemsize
        if (self.dtype.kind == "u" and size > 1) or self.dtype == np.int8:
            return bits ^ self._bits.type(1 << (8 * size - 1))
        return bits
