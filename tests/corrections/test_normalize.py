"""Normalization, against loops over pixels."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube.corrections.normalize import image_means, normalization_factors
from esis_ndcube.flags import Flag


def clean_means(*arrays):
    means, errors, _ = image_means(*arrays)
    assert np.isnan(errors).all()
    return means


def brute_force(data, mask, flags):
    """Means of all images over the pixels that are good in every image that has any; None if there are none."""
    times, channels, rows, columns = data.shape

    def good(t, c, y, x):
        return not mask[t, c, y, x] and np.isfinite(data[t, c, y, x])

    pixels = [(y, x) for y in range(rows) for x in range(columns)]
    there = [(t, c) for t in range(times) for c in range(channels) if any(good(t, c, *pixel) for pixel in pixels)]
    valid = [pixel for pixel in pixels if all(good(*image, *pixel) for image in there)]
    if not there or not valid:
        return None, False
    clean = [pixel for pixel in valid if not any(flags[(*image, *pixel)] & 32 for image in there)]
    means = np.full((times, channels), np.nan)
    for image in there:
        means[image] = np.mean([float(data[(*image, *pixel)]) for pixel in clean or valid])
    return means, not clean


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.0, 0.1, 0.3]), missing=st.booleans())
def test_brute_force(seed, share, missing):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 4), rng.integers(1, 4), 4, 5
    data = rng.normal(20, 5, shape).astype(np.float32)
    data[rng.random(shape) < share] = rng.choice([np.nan, np.inf])
    mask = rng.random(shape) < share
    flags = np.where(rng.random(shape) < 0.3, rng.integers(0, 128, shape), 0).astype(np.uint8)
    if missing:
        data[0, 0] = np.nan
        mask[-1, -1] = True
    copies = [x.copy() for x in (data, mask, flags)]
    expected, crowded = brute_force(data, mask, flags)
    if expected is None:
        with pytest.raises(ValueError, match="no valid region in common"):
            clean_means(data, mask, flags)
        return
    with pytest.warns(match="another line overlaps") if crowded else contextlib.nullcontext():
        means = clean_means(data, mask, flags)
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    factors = normalization_factors(means)
    good = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(factors), good)
    np.testing.assert_allclose((factors * means)[good], expected[good].max(), rtol=1e-6)
    assert factors[good].min() == 1
    for x, before in zip((data, mask, flags), copies, strict=True):
        np.testing.assert_array_equal(x, before)


def test_one_brightness_of_the_same_sun():
    """Channels and exposures that differ by a factor only come out the same, whatever lies outside."""
    rng = np.random.default_rng(0)
    sun, gain = rng.uniform(5, 50, (30, 40)), rng.uniform(0.5, 1, (3, 4))
    data = gain[..., None, None] * sun
    mask = np.zeros(data.shape, bool)
    mask[:, 2, :10] = True
    flags = np.zeros(data.shape, np.uint8)
    # Light of another line in one channel, and dirt under the mask.
    flags[:, 1, :, 30:] = Flag.OVERLAP
    data[:, 1, :, 30:] += 100
    data[:, 2, :10] = -1e9
    factors = normalization_factors(clean_means(data, mask, flags))
    np.testing.assert_allclose(factors, gain.max() / gain, rtol=1e-12)


def test_faint_overlap_counts():
    data = np.ones((1, 2, 2, 2))
    data[0, 0, 0, 0] = 5
    flags = np.full(data.shape, Flag.OVERLAP_FAINT | Flag.SPIKE, np.uint8)
    np.testing.assert_array_equal(clean_means(data, np.zeros(data.shape, bool), flags), [[2, 1]])


def test_missing_channel_does_not_count_for_the_region():
    data = np.ones((2, 2, 2, 2))
    data[0, 1] = np.nan
    mask = np.isnan(data)
    means = clean_means(data, mask, np.zeros(data.shape, np.uint8))
    np.testing.assert_array_equal(means, [[1, np.nan], [1, 1]])
    np.testing.assert_array_equal(normalization_factors(means), [[1, np.nan], [1, 1]])


def test_overlap_everywhere_is_said_and_lived_with():
    data = np.ones((2, 2, 1, 2))
    data[1] = 2
    flags = np.zeros(data.shape, np.uint8)
    flags[0, :, :, 0] = flags[1, 1, :, 1] = Flag.OVERLAP
    with pytest.warns(SunpyUserWarning, match="another line overlaps all of the region"):
        means = clean_means(data, np.zeros(data.shape, bool), flags)
    np.testing.assert_array_equal(means, [[1, 1], [2, 2]])


def test_all_exposures_are_measured_on_the_same_part_of_the_sun():
    """An exposure that lacks a channel keeps the region of the others."""
    sun = np.array([[10.0, 20.0, 30.0, 40.0]])
    data = np.tile(sun, (2, 2, 1, 1))
    mask = np.zeros(data.shape, bool)
    mask[0, 0] = True
    flags = np.zeros(data.shape, np.uint8)
    flags[:, 0, :, 2:] = Flag.OVERLAP
    np.testing.assert_array_equal(clean_means(data, mask, flags), [[np.nan, 15], [15, 15]])


def test_nothing_to_normalize_by():
    data = np.ones((1, 2, 1, 2))
    mask = np.array([[[[True, False]], [[False, True]]]])
    with pytest.raises(ValueError, match="no valid region in common"):
        clean_means(data, mask, np.zeros(data.shape, np.uint8))
    with pytest.raises(ValueError, match="no image has a positive mean"):
        normalization_factors(np.array([[np.nan, -1.0, 0.0]]))


def test_dark_images_have_no_factor():
    np.testing.assert_array_equal(normalization_factors([[2.0, -1.0, 0.0, 4.0]]), [[2, np.nan, np.nan, 1]])
