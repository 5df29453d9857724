"""Calibrated frames that are kept in files, so that each is calibrated once."""

import io
import logging
import shutil
import uuid
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from esis_ndcube.utils.output import temporary_output

_log = logging.getLogger(__name__)

# Bytes of the disk that are left for other programs.
_FREE = 2**30
_PLANES = "data", "sigma", "flags"


@dataclass(frozen=True)
class Scratch:
    """
    A folder for the planes of frames; in the same folder, files of another cube have other names.

    A file that cannot be written or read is not an error: its frame is calibrated again. ``reserved`` bytes of the disk
    are left for the cube that is made from the frames.
    """

    folder: Path
    reserved: int
    own: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def read(self, frame):
        """The planes of a frame, or None."""
        try:
            # Each part is read to its end, where its checksum is compared; numpy may stop before.
            with zipfile.ZipFile(self._path(frame)) as kept:
                return tuple(np.load(io.BytesIO(kept.read(f"{name}.npy"))) for name in _PLANES)
        except FileNotFoundError:
            return None
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            _log.info("Frame %s of channel %s is calibrated again: %s", frame.frame_number, frame.channel, error)
            return None

    def write(self, frame, images):
        """Keep the planes of a frame, if there is space for them."""
        try:
            needed = sum(image.nbytes for image in images)
            if shutil.disk_usage(self.folder).free < _FREE + self.reserved + needed:
                return
            # Another thread may do the same.
            with temporary_output(self._path(frame), overwrite=True, durable=False) as temporary:
                np.savez(temporary, **dict(zip(_PLANES, images, strict=True)))
        except OSError as error:
            _log.info("Frame %s of channel %s is not kept: %s", frame.frame_number, frame.channel, error)

    def _path(self, frame):
        return self.folder / f"{self.own}_{frame.channel}_{frame.frame_number:05d}.npz"
