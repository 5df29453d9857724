"""Tables of quality, against loops and against brightness that was put in."""

from itertools import combinations

import numpy as np
import pytest
from helpers import daily, make_cube

from ndcube.meta import NDMeta

from esis_ndcube import quality
from esis_ndcube.corrections.vignetting import masked_difference_trend
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.quality import correlation_ratio, correlation_table, pair_correlation, throughput


@pytest.fixture
def cube():
    """Positive images of one scene with noise of their own, unmasked outside of a frame, not normalized."""
    cube = make_cube((4, 3, 30, 34), alignments=True, seed=2)
    rng = np.random.default_rng(3)
    scene = rng.gamma(2.0, 10.0, cube.shape[2:])
    return changed(cube, scene + rng.normal(0, 3, cube.shape))


def changed(cube, data, **values):
    mask = np.ones(cube.shape, bool)
    mask[..., 3:-3, 3:-3] = False
    meta = NDMeta({**cube.meta, "normalization": None, **values}, axes={k: v for k, v in cube.meta.axes.items()
                                                                        if k != "normalization"})  # fmt: skip
    flags = np.zeros(cube.shape, np.uint8)
    flags[:, 0, 10:14] = 32
    return ESISLevel3Cube(
        data, wcs=cube.wcs, uncertainty=cube.uncertainty, mask=mask, flags=flags, meta=meta, unit=cube.unit
    )


def test_correlation_table_is_every_region(cube):
    table = correlation_table(cube, clip=90)
    assert table.colnames == ["frame_number", "first", "second", "full", "octagon", "clean", "clipped"]
    assert len(table) == 4 * 3
    inside = (slice(3, -3), slice(3, -3))
    for row in table:
        a, b = (cube.data[row["frame_number"] - 109, row[name] - 1] for name in ("first", "second"))
        np.testing.assert_allclose(row["full"], np.corrcoef(a.ravel(), b.ravel())[0, 1], rtol=1e-9)
        a, b = a[inside], b[inside]
        np.testing.assert_allclose(row["octagon"], np.corrcoef(a.ravel(), b.ravel())[0, 1], rtol=1e-9)
        clipped = [np.minimum(x, np.percentile(x, 90)).ravel() for x in (a, b)]
        np.testing.assert_allclose(row["clipped"], np.corrcoef(*clipped)[0, 1], rtol=1e-9)
        keep = np.ones(24, bool)
        if row["first"] == 1:
            keep[7:11] = False
        expected = np.corrcoef(a[keep].ravel(), b[keep].ravel())[0, 1]
        np.testing.assert_allclose(row["clean"], expected, rtol=1e-9)
        assert len({row[name] for name in ("full", "octagon", "clipped")}) == 3


def test_correlation_ratio_of_what_both_have(cube):
    data = cube.data + np.random.default_rng(1).normal(0, 10, cube.shape)
    data[2, 1] = np.nan
    other = changed(cube, data)[1:, :]
    table = correlation_ratio(cube[:3], other, region="octagon", clip=95)
    assert list(np.unique(table["frame_number"])) == [110, 111]
    assert len(table) == 2 * 3
    expected = {}
    for name, part in (("correlation", cube), ("other", other)):
        for row in pair_correlation(part, region="octagon", clip=95):
            expected[name, row["frame_number"], row["first"], row["second"]] = row["correlation"]
    for row in table:
        key = row["frame_number"], row["first"], row["second"]
        a, b = (expected[(name, *key)] for name in ("correlation", "other"))
        np.testing.assert_equal(row["ratio"], a / b)
        if row["frame_number"] == 111 and 2 in key[1:]:
            assert np.isnan(row["ratio"])
        else:
            # Noise was added to the other one.
            assert row["ratio"] > 1


def test_correlation_ratio_of_cubes_that_do_not_belong_together(cube):
    with pytest.raises(ValueError, match="got cubes of line O V and He I, expected two of one line"):
        correlation_ratio(cube, changed(cube, cube.data, line="He I"))
    with pytest.raises(ValueError, match="got cubes of flight ESIS_1 and None"):
        correlation_ratio(cube, changed(cube, cube.data, flight=None))
    with pytest.raises(ValueError, match=r"channels 1, 2, and of frames 109, 110, 111, 112, channels 3, expected a"):
        correlation_ratio(cube[:, :2], cube[:, 2:])
    with pytest.raises(ValueError, match="expected a pair of channels in common"):
        correlation_ratio(cube[:2], cube[2:])


BRIGHTNESS = np.array([[0.5, 0.6, np.nan], [1.0, 0.9, 0.8], [0.8, 1.0, 0.4], [0.2, 0.3, 1.0]])
GAINS = np.array([1.0, 3.0, 0.2])


@pytest.mark.slow
@pytest.mark.parametrize("normalize", daily(False, True))
def test_throughput_is_the_brightness_that_was_put_in(cube, normalize):
    scene = np.random.default_rng(4).gamma(2.0, 10.0, cube.shape[2:])
    data = (BRIGHTNESS * GAINS)[..., None, None] * scene
    dim = changed(cube, data)
    if normalize:
        dim = dim.normalize_intensities()
        np.testing.assert_allclose(np.nanmean(dim.data[1, 1]), np.nanmean(dim.data[1, 2]), rtol=1e-9)
    table = throughput(dim)
    assert table.colnames == ["frame_number", "time", "channel", "throughput", "error"]
    np.testing.assert_allclose(table["throughput"].value.reshape(4, 3), BRIGHTNESS, rtol=1e-9)
    means = dim.masked_means()
    relative = (means["error"] / means["mean"]).value.reshape(4, 3)
    for t, c in np.ndindex(4, 3):
        row = table[t * 3 + c]
        assert (row["frame_number"], row["channel"]) == (109 + t, c + 1)
        best = BRIGHTNESS[:, c].tolist().index(1.0)
        expected = 0 if t == best else BRIGHTNESS[t, c] * np.hypot(relative[t, c], relative[best, c])
        # An image without alignment has no error, and neither has what is compared with it.
        np.testing.assert_allclose(row["error"].value, expected if np.isfinite(relative[t, c]) else np.nan, rtol=1e-6)


@pytest.mark.slow
def test_throughput_of_a_channel_without_images(cube):
    data = np.abs(cube.data)
    data[:, 1] = np.nan
    table = throughput(changed(cube, data))
    assert np.isnan(table["throughput"][table["channel"] == 2]).all()
    assert np.nanmax(table["throughput"][table["channel"] == 1]) == 1


def test_trend_has_one_name(cube):
    assert quality.masked_difference_trend is masked_difference_trend
    assert set(quality.__all__) <= set(dir(quality))
    assert len(masked_difference_trend(cube)) == 4 * len(list(combinations(range(3), 2)))
