"""The requirements of functions on their cubes and arrays."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_axes, find_number


@pytest.mark.parametrize("mask", [None, False, True, np.array([[True, False], [False, False]])])
@pytest.mark.parametrize("lazy", [False, True])
def test_invalid_pixels(mask, lazy):
    data = np.array([[1.0, 2.0], [np.nan, np.inf]])
    expected = ~np.isfinite(data) | (False if mask is None else mask)
    if lazy:
        data, mask = da.from_array(data), da.from_array(mask) if np.ndim(mask) else mask
    for item in (..., 0, (1, slice(None)), (..., slice(None, None, 2))):
        np.testing.assert_array_equal(invalid_pixels(data, mask, item), expected[item])


def test_numbers_are_found():
    assert find_number("channel", np.int64(3), np.array([2, 3])) == 1
    assert find_number("frame", 5, 5) == 0
    for numbers, text in (([1, 2], "1, 2"), (4, "4"), ([], "it knows none")):
        with pytest.raises(ValueError, match=f"^got channel 7, expected one of {text}$"):
            find_number("channel", 7, numbers)
    with pytest.raises(ValueError, match="got channel '2', expected one of 1, 2"):
        find_number("channel", "2", [1, 2])
    with pytest.raises(ValueError, match="got frame 7, expected one of the cube's: 8"):
        find_number("frame", 7, [8], "the cube's: ")


def test_axes_and_attributes():
    cube = SimpleNamespace(data=np.zeros((1, 2, 3, 4)), line="O V", flags=None)
    check_axes(cube, "line")
    with pytest.raises(ValueError, match="got a cube without flags, expected one of form_level3, or part of one"):
        check_axes(cube, "line", "flags")
    cube.data = cube.data[0]
    with pytest.raises(ValueError, match=r"got a cube of shape \(2, 3, 4\), expected \(time, channel, y, x\): slice"):
        check_axes(cube)
