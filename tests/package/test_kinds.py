"""Functions that are given no cube, or one of another level, say so."""

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from astropy.time import Time
from ndcube import NDCube

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube
from esis_ndcube.cube import ESISCube
from esis_ndcube.wcs import level1_wcs, level3_wcs

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.rst"
TYPE = re.compile(r"Parameters\n\s+-+\n\s+\w+ : (`~esis_ndcube\.\S*ESIS(?:Level\d)?Cube`(?: or `~\S+Cube`)?)\n")


def find_functions():
    """Public functions whose first parameter is a cube of this package, and the levels that they take."""
    found = {}
    for name in re.findall(r"automodapi:: (\S+)", REFERENCE.read_text()):
        module = importlib.import_module(name)
        for item in getattr(module, "__all__", ()):
            function = getattr(module, item)
            if inspect.isfunction(function) and (match := TYPE.search(function.__doc__ or "")):
                found[function] = [int(level) for level in re.findall(r"Level(\d)Cube", match[1])]
    return found


FUNCTIONS = find_functions()


def test_all_are_found():
    names = {function.__name__ for function in FUNCTIONS}
    assert {"form_level3", "fit_vignetting", "summary", "write_report", "write_fits", "rebin", "mask_pixels"} <= names
    assert len(FUNCTIONS) > 35


@pytest.fixture(scope="module")
def cubes():
    times = Time(["2019-09-30T18:08:00"])
    grid = level3_wcs(ESIS_1.grid, times, [1, 2])[:, :, 600:604, 600:606]
    data = np.ones((1, 2, 4, 6), np.float32)
    return {
        1: ESISLevel1Cube(data, wcs=level1_wcs((4, 6), times, [1, 2]), unit="electron", meta={"flight": ESIS_1}),
        3: ESISLevel3Cube(data, wcs=grid, unit="ph / pix", meta={"flight": ESIS_1, "level": 3}),
        None: ESISCube(data, wcs=grid, unit="ph / pix"),
        "foreign": NDCube(data, wcs=grid),
    }


def call(function, cube):
    """Call a function with a cube, and something for whatever else it must have."""
    others = [p for p in list(inspect.signature(function).parameters.values())[1:] if p.default is p.empty]
    given = {p.name: 1 for p in others if p.kind is p.KEYWORD_ONLY}
    return function(cube, *(1 for p in others if p.kind is p.POSITIONAL_OR_KEYWORD), **given)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("kind", ["nothing", "array", "name", "class", "foreign"])
def test_no_cube(function, kind, cubes):
    given = {"nothing": None, "array": np.ones((1, 2, 4, 6)), "name": "l3.fits", "class": ESISLevel3Cube, **cubes}[kind]
    with pytest.raises(TypeError, match=rf"got {type(given).__name__}, expected an ESIS(Level\d)?Cube"):
        call(function, given)


WRONG = [
    pytest.param(function, level, id=f"{function.__name__}-{level}")
    for function, levels in FUNCTIONS.items()
    for level in (1, 3, None)
    if levels and level not in levels
]


@pytest.mark.parametrize(("function", "level"), WRONG)
def test_another_level(function, level, cubes):
    expected = f"got an {type(cubes[level]).__name__}, expected an ESISLevel{FUNCTIONS[function][0]}Cube"
    with pytest.raises(ValueError, match=expected):
        call(function, cubes[level])
