"""All kinds of writers: what it writes, and whether that is whole."""

import tarfile

import numpy as np
from helpers import assert_cubes_equal, make_alignments, make_cube
from PIL import Image

from astropy.io import fits
from astropy.time import Time

from esis_ndcube import ESIS_1, Coalignment, ESISLevel1Cube, ESISLevel3Cube
from esis_ndcube.corrections.masks import PolygonMask, read_polygons, write_polygons
from esis_ndcube.visualization import animate

SHAPE = 3, 4, 60, 70


CUBE = make_cube(SHAPE, alignments=True)
LEVEL1 = make_cube(SHAPE, level=1)
ALIGNMENTS = make_alignments([123, 124], [1, 2, 3, 4], Time(["2019-09-30T18:08:25", "2019-09-30T18:08:35"]))
FOUND = Coalignment(ALIGNMENTS, ALIGNMENTS, ESIS_1.grid, "O V", "flight pose", [None, None], 2)
POLYGONS = [PolygonMask([(n, n), (n + 9, n), (n, n + 9)]) for n in range(500)]


def expect(condition, problem):
    if not condition:
        raise ValueError(problem)


def check_images(folder):
    files = sorted(folder.glob("*.fits"))
    expect(len(files) == SHAPE[0] * SHAPE[1], f"{len(files)} images")
    for path, image in zip(files, CUBE.data.reshape(-1, *SHAPE[2:]), strict=True):
        with fits.open(path, checksum=True) as hdus:
            np.testing.assert_array_equal(hdus[0].data, image)


def check_archive(path):
    with tarfile.open(path) as archive:
        lengths = [len(archive.extractfile(member).read()) for member in archive]
    expect(len(lengths) == SHAPE[0] * SHAPE[1] and min(lengths) > 0, f"{len(lengths)} images")


def check_movie(path):
    with Image.open(path) as movie:
        expect(movie.n_frames == SHAPE[0], f"{movie.n_frames} pictures")
        movie.seek(SHAPE[0] - 1)
        movie.load()


def check_cube(path):
    assert_cubes_equal(ESISLevel3Cube.read(path), CUBE)


def write(name, path):
    """Write a file of some name to a path, where there may be one."""
    WRITERS[name][0](path)


def check(name, path):
    """Raise an error unless what is at a path is whole."""
    WRITERS[name][1](path)


WRITERS = {
    **dict.fromkeys(
        ("cube.fits", "cube.fits.gz", "cube.asdf"), (lambda path: CUBE.write(path, overwrite=True), check_cube)
    ),
    "level1.fits": (
        lambda path: LEVEL1.write(path, overwrite=True),
        lambda path: assert_cubes_equal(ESISLevel1Cube.read(path), LEVEL1),
    ),
    "images": (lambda path: CUBE.write_images(path, overwrite=True), check_images),
    "images.tar": (
        lambda path: CUBE.write_images(path.with_name("packed"), tar=path, overwrite=True),
        check_archive,
    ),
    "found.ecsv": (
        lambda path: FOUND.write(path, overwrite=True),
        lambda path: expect(Coalignment.read(path).final.shape == ALIGNMENTS.shape, "other alignments"),
    ),
    "polygons.toml": (
        lambda path: write_polygons(POLYGONS, path, overwrite=True),
        lambda path: expect(len(read_polygons(path)) == len(POLYGONS), "other polygons"),
    ),
    "movie.gif": (lambda path: animate(CUBE[:, 0], path, overwrite=True, dpi=20), check_movie),
}
