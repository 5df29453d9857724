import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from esis_ndcube.utils.arrays import eroded


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 60)])
@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_erosion_is_that_of_scipy(shape, share):
    region = np.random.default_rng(0).random(shape) >= share
    for steps in (1, 4, 12):
        np.testing.assert_array_equal(eroded(region, steps), binary_erosion(region, iterations=steps))
