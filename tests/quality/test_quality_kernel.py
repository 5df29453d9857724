"""Compiled sums over two images, against those of numpy."""

import numpy as np
import pytest

from esis_ndcube.quality._cube import coefficient
from esis_ndcube.quality._kernel import shifted_sums


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (float, 1e-12)])
def test_sums_for_every_shift(dtype, tolerance):
    rng = np.random.default_rng(0)
    second = rng.normal(size=(14, 17)).astype(dtype)
    weight = (rng.random((10, 15)) < 0.7).astype(dtype)
    core = rng.normal(size=weight.shape).astype(dtype) * weight
    found = shifted_sums(core, weight, second)
    assert found.shape == (5, 3, 3)
    for k, m in np.ndindex(5, 3):
        other = second[k : k + 10, m : m + 15].astype(float)
        expected = [(weight * other).sum(), (weight * other**2).sum(), (core * other).sum()]
        np.testing.assert_allclose(found[k, m], expected, rtol=tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8", ">f8", "f2", "i2", "u8"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_coefficient_is_that_of_numpy(dtype, offset):
    rng = np.random.default_rng(1)
    a = (offset + 20 * rng.normal(size=(40, 50)).clip(-4, 4) + 100).astype(dtype)
    b = (a.astype(float) + 10 * rng.normal(size=a.shape)).astype(dtype)
    good = rng.random(a.shape) < 0.5
    expected = np.corrcoef(a[good].astype(float), b[good].astype(float))[0, 1]
    assert coefficient(a, b, good) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_has_no_coefficient(value):
    ramp = np.arange(12.0).reshape(3, 4)
    constant, everywhere = np.full(ramp.shape, value), np.ones(ramp.shape, dtype=bool)
    assert np.isnan(coefficient(constant, ramp, everywhere))
    assert np.isnan(coefficient(ramp, constant, everywhere))
    assert np.isnan(coefficient(ramp, ramp, ~everywhere))
    one = np.arange(12).reshape(3, 4) == 5
    assert np.isnan(coefficient(ramp, ramp, one))
