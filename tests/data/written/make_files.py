"""
Make the files that the tests read, and what their version reads from them.

They were written by the version before the package was laid out in rooms (commit c1f35d5), and are to be made anew
only with that::

    git worktree add ../before c1f35d5
    PYTHONPATH=../before python tests/data/written/make_files.py

The cubes are a few pixels of a small simulated flight, so that alignments, vignetting and history are real; all files
are packed, because FITS and text are mostly blanks.
"""

import json
import lzma
import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np

import astropy.units as u
import sunpy.map
from astropy.time import Time
from astropy.wcs import WCS

from esis_ndcube import ESISLevel1Cube, form_level3
from esis_ndcube.cube import ESISCube
from esis_ndcube.flags import Flag
from esis_ndcube.simulate import simulate_flight

FOLDER = Path(__file__).parent


def describe(value):
    """A value as JSON that is the same for the same value, to the last bit, whatever version reads it."""
    kind = type(value).__name__
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, ESISCube):
        parts = {name: getattr(value, name) for name in ("data", "unit", "uncertainty", "mask", "flags", "wcs", "meta")}
        parts["axes"], parts["comments"] = dict(value.meta.axes), dict(value.meta.key_comments)
        coords = value.global_coords
        parts["coords"] = {name: (coords.physical_types[name], coord) for name, coord in coords.items()}
    elif isinstance(value, u.UnitBase):
        kind, parts = "unit", value.to_string()
    elif isinstance(value, u.Quantity):
        parts = value.value, value.unit
    elif isinstance(value, Time):
        parts = np.asarray(value.mask), np.asarray(value.jd1), np.asarray(value.jd2)
        parts = value.scale, value.format, value.precision, *parts
    elif hasattr(value, "uncertainty_type"):
        parts = value.array, value.unit
    elif hasattr(value, "toml"):
        parts = value.toml
    elif isinstance(value, WCS):
        parts = value.to_header_string(relax=True), value.array_shape, [tab.coord for tab in value.wcs.tab]
        if hasattr(value, "_exposures"):
            parts = *parts, value._dropped, value._channels, value._exposures
    elif hasattr(value, "low_level_wcs"):
        parts = type(value.low_level_wcs).__name__, value.low_level_wcs._wcs, value.low_level_wcs.array_shape
    elif is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        parts = list(value.shape), value.ravel().tolist()
    elif isinstance(value, float | np.ndarray | np.generic):
        return [kind, np.asarray(value).dtype.str, list(np.shape(value)), np.asarray(value).tobytes().hex()]
    elif hasattr(value, "items"):
        return {"dict": {str(key): describe(item) for key, item in value.items()}}
    elif isinstance(value, list | tuple):
        return [kind, *map(describe, value)]
    else:
        msg = f"got {kind}, which has no description"
        raise TypeError(msg)
    return {kind: describe(parts)}


def make_cubes(folder):
    """The cubes, by the names of their files."""
    simulated = simulate_flight(size=5, n_darks=2, n_exposures=2, missing=False, blank=False)
    files = simulated.write(folder)
    level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight)
    maps = [sunpy.map.Map(file) for file in files.reference]
    rows, columns = (n // 2 for n in simulated.flight.grid_shape)
    whole = form_level3(level1, maps)
    cube = whole[:, :, rows : rows + 3, columns : columns + 4]
    cube.data[0, 0, 0, 0] = np.nan
    cube.mask[0, 1, 1, 1] = True
    cube.flags[1, 2, 0] |= int(Flag.SPIKE)
    cube.alignment[1, 3] = None
    cube.meta["note"] = {"text": "Ä, and 'quotes' ", "numbers": (1, 2.5, None, [True]), "length": 0.1 * u.arcsec}
    cube.meta["complex"] = np.array([1 + 2j, np.nan])
    cube.meta["times"] = Time(["2019-09-30T18:08:00.123456789", "2019-09-30T18:09:00"], precision=9)
    cube.meta.add("weights", np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4), "of exposures", (0, 1))
    cube.global_coords.add("rocket height", "pos.eq", 260.1 * u.km)
    cube.global_coords.add("launch", "time", Time("2019-09-30T18:05:00"))
    cubes = {"level3": cube, "image": cube[1, 2]}
    cubes["level1"] = level1[:, :, 7:10, 11:15]
    cubes["context"] = cube.context(maps, max_gap=1 * u.hour)
    return {f"{name}.{suffix}": each for name, each in cubes.items() for suffix in ("fits", "asdf")} | {
        "row.asdf": cube[0, 1, 1]
    }


if __name__ == "__main__":
    read = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cube in make_cubes(folder).items():
            path = Path(folder) / name
            cube.write(path)
            (FOLDER / f"{name}.xz").write_bytes(lzma.compress(path.read_bytes()))
            read[name] = describe(type(cube).read(path))
    (FOLDER / "expected.json.xz").write_bytes(lzma.compress(json.dumps(read).encode()))
