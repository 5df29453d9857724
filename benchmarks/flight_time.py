"""
Processor time from raw frames to a Level-3 file, by stage, beside that of the same work by bare calls.

With the folder of the frames of the 2019 flight, or of a simulated one, and images to align with::

    python benchmarks/flight_time.py frames/ --reference aia_304.fits --exposures 6

The bare calls are the least that the work takes on one thread: every file is read, each image has one pass of
arithmetic, two bilinear resamplings for the fits and two cubic ones for image and uncertainty, and the arrays are
written and synchronized. They give no cube: nothing is found or mended, and the positions are any.
Everything runs once before it is timed, on one exposure, so that nothing is compiled or imported while it is.

With ``--neighbors`` the parts that other packages do too, and the legacy way to align an image, are timed beside
ours on a simulated frame whose truth is known: spikes, resampling, alignment.
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

import sunpy.map
from astropy.io import fits

from esis_ndcube import ESIS_1, ESISLevel1Cube, Flight, coalign, form_level3
from esis_ndcube.level1.frames import find_frames, list_files, sort_frames

# Bytes of a pixel of the cube: value, uncertainty, mask and flags.
_WRITTEN = 4 + 4 + 1 + 1


class Watch:
    """Processor time of named stages, and how long the clock on the wall ran."""

    def __init__(self):
        self.stages, self.wall = {}, 0.0

    def __call__(self, name, function, *args, **kwargs):
        begin, start = time.process_time(), time.perf_counter()
        result = function(*args, **kwargs)
        self.stages[name] = time.process_time() - begin
        self.wall += time.perf_counter() - start
        return result

    @property
    def total(self):
        """Processor time of all stages, in s."""
        return sum(self.stages.values())


def ours(frames, flight, numbers, references, folder, workers=1):
    """Stages of the package, with a scratch folder as the command has it."""
    watch = Watch()
    settings = {"flight": flight, "frame_numbers": numbers, "lazy": True, "scratch": folder, "workers": workers}
    level1 = watch("darks", ESISLevel1Cube.from_raw, frames, **settings)
    found = watch("calibration and alignment", coalign, level1, references, workers=workers)
    output, options = folder / "l3.fits", {"overwrite": True, "workers": workers}
    watch("resampling, corrections, writing", form_level3, level1, found, output=output, **options)
    return watch


def bare(frames, flight, numbers, folder):
    """The same work by calls of astropy, numpy and scipy."""
    light, dark = sort_frames(find_frames(frames, flight), flight)
    light = [frame for frame in light if frame.frame_number in numbers]
    watch = Watch()
    darks = watch("darks", lambda: [fits.getdata(frame.path) for frame in dark])
    level = np.mean(darks[:3], axis=0, dtype=np.float32)
    images = watch("reading", lambda: [fits.getdata(frame.path) for frame in light])
    images = watch("arithmetic", lambda: [(image - level) * np.float32(2.5) for image in images])
    rows, columns = flight.grid_shape
    y, x = np.mgrid[:rows, :columns]
    scale = min(images[0].shape) / max(rows, columns)
    position = scale * (y + 0.1 * x + 0.3), scale * (x + 0.3)
    for name, order in (("two bilinear resamplings", 1), ("two cubic resamplings", 3)):
        watch(name, lambda order=order: [map_coordinates(i, position, order=order) for i in images for _ in range(2)])

    def write():
        with (folder / "bare").open("wb") as stream:
            for _ in images:
                stream.write(bytes(rows * columns * _WRITTEN))
            stream.flush()
            os.fsync(stream.fileno())

    watch("writing", write)
    return watch, len(light)


def main(arguments=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("frames", nargs="+", help="raw frames, folders or patterns")
    parser.add_argument("--reference", nargs="+", default=[], help="images to align with")
    parser.add_argument("--flight", help="configuration file of another flight")
    parser.add_argument("--exposures", type=int, default=6, help="exposures to form (default: 6)")
    parser.add_argument("--neighbors", action="store_true", help="also time other packages on parts of the work")
    parser.add_argument("--size", default="full", help="of the simulated frame for them (default: full)")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which the legacy alignment is stopped")
    options = parser.parse_args(arguments)
    flight = Flight.read(options.flight) if options.flight else ESIS_1
    light, _ = sort_frames(find_frames(options.frames, flight), flight)
    numbers = sorted({frame.frame_number for frame in light})
    middle = len(numbers) // 2
    numbers = numbers[max(middle - options.exposures // 2, 0) :][: options.exposures]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        references = [sunpy.map.Map(path) for path in list_files(options.reference)] or None
        folder = Path(folder)
        ours(options.frames, flight, numbers[:1], references, folder)
        package = ours(options.frames, flight, numbers, references, folder)
        threads = ours(options.frames, flight, numbers, references, folder, workers=os.cpu_count())
        floor, count = bare(options.frames, flight, numbers, folder)
    for title, watch in (("esis_ndcube", package), ("bare calls", floor)):
        for name, seconds in watch.stages.items():
            print(f"{title:12} {name:34} {seconds:6.2f} s")
        print(f"{title:12} {'all':34} {watch.total:6.2f} s, {watch.total / count:.2f} s for each of {count} images")
    print(f"ratio {package.total / floor.total:.2f}")
    print(
        f"on {os.cpu_count()} threads: {threads.wall:.2f} s for {threads.total:.2f} s of processor time, ratio "
        f"{threads.wall / threads.total:.2f}"
    )
    if options.neighbors:
        from bench_neighbors import table

        size = options.size if options.size == "full" else float(options.size)
        print("", *table(size, options.limit).pformat(max_width=-1, align="<"), sep="\n")


if __name__ == "__main__":
    main()
