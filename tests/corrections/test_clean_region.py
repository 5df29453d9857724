"""The region that is clean in all images, by loops over pixels."""

import numpy as np
import pytest
from helpers import make_cube

from esis_ndcube import ESISLevel3Cube
from esis_ndcube.corrections.masks import clean_region


@pytest.fixture(scope="module")
def cube():
    cube = make_cube((3, 3, 40, 45), alignments=True, seed=5)
    rng = np.random.default_rng(7)
    mask = rng.random(cube.shape) < 0.03
    data = np.where(rng.random(cube.shape) < 0.01, np.nan, cube.data)
    data[1, 1] = np.nan
    flags = np.where(rng.random(cube.shape) < 0.2, rng.integers(0, 128, cube.shape), 0).astype(np.uint8)
    return ESISLevel3Cube(data, wcs=cube.wcs, mask=mask, flags=flags, meta=cube.meta, unit=cube.unit)


@pytest.mark.parametrize(("lines", "bits"), [(None, 32), ((), 0), ("all", 96), ("mg x 609", 32)])
@pytest.mark.parametrize(("channels", "frames"), [(None, None), ([1, 3], None), (2, [110, 111])])
def test_brute_force(cube, lines, bits, channels, frames):
    pick = [(t, c) for t in range(3) for c in range(3)]
    pick = [(t, c) for t, c in pick if channels is None or c + 1 in np.atleast_1d(channels)]
    pick = [(t, c) for t, c in pick if frames is None or t + 109 in frames]
    # The image without a valid pixel does not count.
    pick.remove((1, 1)) if (1, 1) in pick else None
    expected = np.zeros((40, 45), bool)
    for y, x in np.ndindex(expected.shape):
        expected[y, x] = all(
            not cube.mask[t, c, y, x] and np.isfinite(cube.data[t, c, y, x]) and not cube.flags[t, c, y, x] & bits
            for t, c in pick
        )
    found = cube.clean_region(channels=channels, lines=lines, frame_numbers=frames)
    assert found.dtype == bool
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(found, expected)


def test_a_line_without_flag_needs_an_alignment(cube):
    with pytest.raises(ValueError, match="no alignment to place O III"):
        clean_region(cube, channels=1, frame_numbers=109, lines="O III")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"channels": 9}, "got channel 9, expected one of 1, 2, 3"),
        ({"frame_numbers": [109, 300]}, "got frame 300, expected one of 109, 110, 111"),
        ({"channels": []}, "got no channel"),
        ({"lines": ["Fe XX"]}, r"got line 'Fe XX', expected lines that overlap O V: Mg X 609"),
        ({"channels": 2, "frame_numbers": 110}, "channels 2 have no clean region in common"),
    ],
)
def test_wrong_choices(cube, choice, words):
    with pytest.raises(ValueError, match=words):
        clean_region(cube, **choice)


def test_needs_all_axes_and_flags(cube):
    with pytest.raises(ValueError, match=r"expected \(time, channel, y, x\) with flags"):
        clean_region(cube[0])
    bare = ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=cube.meta)
    with pytest.raises(ValueError, match="with no flags"):
        clean_region(bare)
