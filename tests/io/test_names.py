"""Names that differ in files: ours keep the old ones there, and a user's own key is never taken for one of ours."""

import io
import json

import numpy as np
import pytest
from helpers import assert_cubes_equal, daily, make_cube

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from ndcube.meta import NDMeta

from esis_ndcube import ESISLevel3Cube

# Ours in Python, by their names in files.
NAMES = {"frame": "frame_number", "exposure": "exposure_time", "alignment": "alignment_final"}
SHAPE = 3, 2, 4, 5
# Values of a user's own, and the axes that they belong to.
OWN = {
    "text": ("long", ()),
    "none": (None, ()),
    "number": (np.float32(1.5), ()),
    "dictionary": ({"frame": 1, "exposure": (2, None)}, ()),
    "time": (Time("2019-09-30T18:05:00", precision=9), ()),
    "of exposures": (np.array([7, 8, 9]), (0,)),
    "of images": (np.arange(6.0).reshape(3, 2) * u.s, (0, 1)),
    "words of channels": (np.array(["a", "b"]), (1,)),
    "of pixels": (np.arange(20).reshape(4, 5), (2, 3)),
}


@pytest.fixture(params=daily("fits", "asdf"))
def suffix(request):
    if request.param == "asdf":
        pytest.importorskip("asdf")
    return request.param


def keys_in_file(path):
    """The keys of the metadata as they stand in a file."""
    if path.suffix == ".fits":
        with fits.open(path) as hdulist:
            rows = hdulist["META"].data
            return {str(row["KEY"]): json.loads(row["AXES"]) for row in rows if row["KIND"] not in ("note", "global")}
    from asdf.util import load_yaml

    tree = load_yaml(io.BytesIO(path.read_bytes()))["cube"]["meta"]
    return {entry["key"]: list(tree["axes"].get(entry["key"], ())) for entry in tree["values"]}


# Three names at once, so that with every start each name has had each value.
@pytest.mark.parametrize("start", daily(*range(len(OWN))))
def test_own_keys_stand_beside_ours(tmp_path, suffix, start):
    cube, kinds = make_cube(SHAPE, alignments=True), list(OWN)
    own = {name: OWN[kinds[(start + place) % len(kinds)]] for place, name in enumerate(NAMES)}
    for name, (value, axes) in own.items():
        cube.meta.add(name, value, f"my own {name}", axes or None)
    path = tmp_path / f"cube.{suffix}"
    for _ in range(2):
        cube.write(path, overwrite=True)
        back = ESISLevel3Cube.read(path)
        # With every key, type, axis and comment.
        assert_cubes_equal(back, cube)
        for name, (value, _) in own.items():
            assert type(back.meta[name]) is type(value)
        assert back.meta.key_comments == {name: f"my own {name}" for name in NAMES}
        cube = back
    keys = keys_in_file(path)
    for name, (_, axes) in own.items():
        assert keys[name] == list(cube.meta.axes.get(NAMES[name], ()))
        assert keys[NAMES[name]] == list(axes)


@pytest.mark.parametrize("name", NAMES)
def test_own_keys_without_ours(tmp_path, suffix, name):
    """Where ours is not there, nothing takes its place."""
    plain = make_cube(SHAPE)
    for meta in ({name: [1, 2]}, NDMeta({name: "long"})):
        cube = ESISLevel3Cube(plain.data, wcs=plain.wcs, meta=meta)
        cube.write(tmp_path / f"cube.{suffix}", overwrite=True)
        back = ESISLevel3Cube.read(tmp_path / f"cube.{suffix}")
        assert type(back.meta) is type(cube.meta)
        assert dict(back.meta) == dict(meta)
        assert getattr(back, NAMES[name]) is None
