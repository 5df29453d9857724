"""Write the file of a cube image by image, so that memory does not grow with their number."""

import contextlib
import gzip
import io
import shutil
from pathlib import Path

import dask
import numpy as np

from astropy.io import fits

from esis_ndcube.io._planes import Plane
from esis_ndcube.io._writing import ImageHDU, cube_arrays, cube_hdus, cube_size
from esis_ndcube.utils.output import reserve, temporary_output
from esis_ndcube.utils.parallel import delayed, stream

_FITS_BLOCK = 2880


@contextlib.contextmanager
def cube_file(cube, path, *, overwrite=False):
    """
    A new file for a cube, moved to its place when the block ends without an error, so that there never is half a file.

    Only shape and type of the cube's arrays are read: write the arrays to the `CubeFile`, and then call
    `CubeFile.finish`.
    The file is compressed if its name ends in ``.gz``.
    """
    with temporary_output(path, overwrite=overwrite, size=cube_size(cube)) as temporary:
        packed = temporary.suffix == ".gz"
        plain = temporary.with_suffix("") if packed else temporary
        yield CubeFile(cube, plain, Path(path).name)
        if packed:
            with plain.open("rb") as source, gzip.GzipFile(temporary, "wb") as target:
                shutil.copyfileobj(source, target, 2**20)


class CubeFile:
    """
    A file of a cube that is being written at a path, and the file's later name.

    Attributes
    ----------
    planes : `dict`
        The `Plane` of each array of the cube, by the name of its HDU; zero at first.
    """

    def __init__(self, cube, path, name):
        self._path, self._name = path, name
        self._begun = self._arrange(cube)
        _, self.planes, end = self._begun
        with path.open("xb") as stream:
            reserve(stream, end)

    def finish(self, cube=None):
        """Write all but the arrays; the cube may be another one, which differs in metadata that are kept in tables."""
        hdus, planes, end = self._begun if cube is None else self._arrange(cube)
        if any(planes[name].offset != plane.offset for name, plane in self.planes.items()):
            msg = "got a cube whose headers have another length than those with which the file was begun"
            raise ValueError(msg)
        others = [hdu for hdu in hdus if not isinstance(hdu, ImageHDU)]
        buffer = io.BytesIO()
        fits.HDUList(others).writeto(buffer, checksum=True)
        content, length = buffer.getbuffer(), _length(hdus[0])
        with self._path.open("r+b") as stream:
            stream.write(content[:length])
            for hdu in hdus:
                if isinstance(hdu, ImageHDU):
                    hdu.plane = self.planes[hdu.name]
                    hdu.add_checksum()
                    stream.seek(hdu.plane.offset - _length(hdu))
                    stream.write(hdu.header.tostring().encode("ascii"))
            stream.seek(end)
            stream.write(content[length:])

    def _arrange(self, cube):
        """The HDUs, the planes and their ends."""
        hdus, arrays = cube_hdus(cube, self._name), cube_arrays(cube)
        hdus.verify("exception")
        hdus.update_extend()
        planes, offset = {}, 0
        for hdu in hdus[: len(arrays) + 1]:
            # This makes room for the two cards; their values come last.
            hdu.add_checksum()
            offset += _length(hdu)
            if isinstance(hdu, ImageHDU):
                array = arrays[hdu.name]
                plane = planes[hdu.name] = Plane(self._path, offset, array.shape, array.dtype)
                offset += -(-plane.nbytes // _FITS_BLOCK) * _FITS_BLOCK
        return hdus, planes, offset


def _length(hdu):
    return len(hdu.header.tostring())


def write_arrays(cube, planes):
    """Write the arrays of a cube, in memory or lazy, image by image to `CubeFile.planes`."""
    arrays = cube_arrays(cube)
    for name in [name for name, array in arrays.items() if array.shape != cube.data.shape]:
        planes[name][()] = np.asarray(arrays.pop(name))
    indices = list(np.ndindex(cube.data.shape[:-2]))
    images = (tuple(array[index] for array in arrays.values()) for index in indices)
    if any(dask.is_dask_collection(array) for array in arrays.values()):
        # They are written together, because they may be made together.
        images = stream(delayed(_arrays, *parts) for parts in images)
    else:
        images = contextlib.nullcontext(images)
    with images as results:
        for index, parts in zip(indices, results, strict=True):
            for name, part in zip(arrays, parts, strict=True):
                planes[name][index] = part


def _arrays(*parts):
    return parts
