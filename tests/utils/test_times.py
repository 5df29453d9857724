"""The image nearest in time."""

import numpy as np
import pytest

import astropy.units as u
from astropy.time import Time

from esis_ndcube.utils.times import nearest_in_time

START = Time("2019-09-30T18:06:00")


def test_nearest_image_and_how_much_later_it_is():
    images, times = START + [0, 10, 30] * u.s, START + [-2, 5, 18, 90] * u.s
    indices, seconds = nearest_in_time(images, times)
    # Of two that are equally near the first.
    assert indices == [0, 0, 1, 2]
    np.testing.assert_allclose(seconds, [2, -5, -8, -60], rtol=0, atol=1e-6)
    assert nearest_in_time(images, times, 1 / 6 * u.min)[0] == [0, 0, 1, None]


def test_times_of_any_scale_and_one_time():
    indices, seconds = nearest_in_time([START.tai, (START + 1 * u.min).tt], START + 50 * u.s)
    assert indices == [1]
    np.testing.assert_allclose(seconds, [10], rtol=0, atol=1e-6)


@pytest.mark.parametrize("max_gap", [None, 1 * u.s])
def test_no_images(max_gap):
    indices, seconds = nearest_in_time([], START + [0, 1] * u.s, max_gap)
    assert indices == [None, None]
    assert seconds.tolist() == [0, 0]
