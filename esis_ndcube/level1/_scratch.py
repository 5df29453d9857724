"""Calibrated frames that are kept in files, so that each is calibrated once."""

import logging
import shutil
import uuid
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_log = logging.getLogger(__name__)

# So much of the disk is left free for others.
_FREE = 2**30


@dataclass(frozen=True)
class Scratch:
    """
    A folder for the planes of frames; another cube with the same folder has files of other names.

    What can not be written or read is not an error: the frame is calibrated again. Some bytes of the disk are reserved
    for what is made of the frames.
    """

    folder: Path
    reserved: int
    own: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def read(self, frame):
        """The planes of a frame, or None."""
        try:
            # numpy leaves a damaged file open.
            with self._path(frame).open("rb") as stream, np.load(stream) as kept:
                return tuple(kept[name] for name in kept.files)
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            _log.info("Frame %s of channel %s is calibrated again: %s", frame.frame_number, frame.channel, error)
            return None

    def write(self, frame, images):
        """Keep the planes of a frame, if there is space for them."""
        path = self._path(frame)
        # Another thread may do the same.
        temporary = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        try:
            needed = sum(image.nbytes for image in images)
            if shutil.disk_usage(self.folder).free < _FREE + self.reserved + needed:
                return
            with temporary.open("xb") as stream:
                np.savez(stream, *images)
            temporary.replace(path)
        except OSError as error:
            _log.info("Frame %s of channel %s is not kept: %s", frame.frame_number, frame.channel, error)
            temporary.unlink(missing_ok=True)

    def _path(self, frame):
        return self.folder / f"{self.own}_{frame.channel}_{frame.frame_number:05d}.npz"
