"""Normalization of cubes: factors, their errors, and what is kept."""

import numpy as np
import pytest
from helpers import assert_cubes_equal, make_cube

from astropy.nddata import StdDevUncertainty
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESIS_1, ESISLevel3Cube
from esis_ndcube.corrections.normalize import image_means, masked_means, normalization_factors, normalize_intensities
from esis_ndcube.flags import Flag
from esis_ndcube.registration import Alignment
from esis_ndcube.resample import detector_coordinates, interpolate, propagate_uncertainty

GAIN = np.array([[0.5, 0.9, 0.7], [0.8, 1.0, 0.6]])


@pytest.fixture(scope="module")
def sun():
    return np.random.default_rng(1).uniform(5, 50, (12, 14))


def make(sun):
    """The same Sun in all images, but for a factor; other light in one corner of one channel."""
    cube = make_cube((2, 3, 12, 14), alignments=True)
    meta = cube[:].meta
    del meta["normalization"]
    data = (GAIN[..., None, None] * sun).astype(np.float32)
    mask, flags = np.zeros(data.shape, bool), np.zeros(data.shape, np.uint8)
    flags[:, 1, :4], data[:, 1, :4] = Flag.OVERLAP, 999
    mask[1, :, :, :3], data[1, :, :, :3] = True, np.nan
    sigma = StdDevUncertainty(np.sqrt(np.abs(np.nan_to_num(data, nan=1.0))))
    return ESISLevel3Cube(data, wcs=cube.wcs, uncertainty=sigma, mask=mask, flags=flags, meta=meta, unit=cube.unit)


@pytest.fixture
def cube(sun):
    return make(sun)


@pytest.fixture(scope="module")
def normalized(sun):
    """The cube after its normalization, which tests must not change."""
    return make(sun).normalize_intensities()


@pytest.fixture(scope="module")
def table(sun):
    return make(sun).masked_means()


def test_factors_are_the_gains(cube):
    before = cube.data.copy()
    result = cube.normalize_intensities()
    np.testing.assert_allclose(result.normalization, 1 / GAIN, rtol=1e-6)
    np.testing.assert_array_equal(cube.data, before)
    assert cube.normalization is None
    assert result.history[:-1] == cube.history
    assert result.history[-1].name == "normalize_intensities"
    assert result.history[-1].parameters == {"region": "clean"}
    np.testing.assert_allclose(result.data, cube.data / GAIN[..., None, None], rtol=1e-6)
    np.testing.assert_allclose(result.uncertainty.array, cube.uncertainty.array / GAIN[..., None, None], rtol=1e-6)
    np.testing.assert_array_equal(result.mask, cube.mask)
    np.testing.assert_array_equal(result.flags, cube.flags)
    assert (result.unit, result.line) == (cube.unit, cube.line)


@pytest.mark.slow
def test_where_another_line_is_everywhere(cube):
    """As while a cube is formed: a warning, and the valid region."""
    cube.flags[0, 0] = Flag.OVERLAP
    with pytest.warns(SunpyUserWarning, match="another line overlaps all of the region"):
        table = cube.masked_means()
    assert set(table["pixels"]) == {12 * 11}
    with pytest.warns(SunpyUserWarning, match="another line overlaps all of the region"):
        result = cube.normalize_intensities()
    means, *_ = image_means(cube.data, cube.mask, 0 * cube.flags)
    np.testing.assert_array_equal(result.normalization, normalization_factors(means))


@pytest.mark.slow
def test_a_given_region_is_in_the_history(cube):
    region = np.zeros((12, 14), bool)
    region[6:, 6:] = True
    assert cube.normalize_intensities(region=region).history[-1].parameters == {"region": "given"}


def test_twice_is_an_error(normalized):
    with pytest.raises(ValueError, match=r"normalized already.*normalize=False"):
        normalized.normalize_intensities()


def test_file_keeps_factors_and_errors(normalized, tmp_path):
    normalized.write(tmp_path / "n.fits")
    back = ESISLevel3Cube.read(tmp_path / "n.fits")
    assert_cubes_equal(back, normalized)
    np.testing.assert_array_equal(back[1, 2].normalization_error, normalized.normalization_error[1, 2])
    with pytest.raises(ValueError, match="normalized already"):
        back.normalize_intensities()


def test_table_of_means(cube, sun, table):
    np.testing.assert_allclose(table["mean"].value, (GAIN * sun[4:, 3:].mean()).ravel(), rtol=1e-6)
    assert list(table["frame_number"]) == [109] * 3 + [110] * 3
    assert list(table["channel"]) == [1, 2, 3] * 2
    assert set(table["pixels"]) == {88}
    assert table["mean"].unit == cube.unit
    assert (table["time"] == cube.time[[0, 0, 0, 1, 1, 1]]).all()


def test_errors_of_the_factors(normalized, table):
    """Without an alignment the correlation of the noise is not known, and no error is made up."""
    assert np.isnan(table["error"][0])
    assert np.isnan(normalized.normalization_error[0, 0])
    relative = (table["error"] / table["mean"]).value.reshape(2, 3)
    assert normalized.normalization_error[1, 1] == 0
    expected = np.hypot(relative, relative[1, 1]) / GAIN
    np.testing.assert_allclose(normalized.normalization_error[0, 1:], expected[0, 1:], rtol=1e-6)


@pytest.mark.slow
def test_image_that_can_not_be_measured_is_masked(cube):
    cube.data[0, 1] = np.nan
    result = cube.normalize_intensities()
    assert np.isnan(result.normalization[0, 1])
    assert result.mask[0, 1].all()
    assert (result.flags[0, 1] & Flag.MISSING).all()
    assert not result.mask[0, 0].any()


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (np.ones((3, 4), bool), r"shape \(3, 4\)"),
        (np.ones((12, 14)), "type float64"),
        (np.zeros((12, 14), bool), "without a pixel"),
        (np.ones((12, 14), bool), "36 of 168 pixels of the region are invalid in exposure 1, channel index 0"),
    ],
)
def test_wrong_regions(cube, region, words):
    with pytest.raises(ValueError, match=words):
        masked_means(cube, region=region)


def test_a_slice_has_no_channels(cube):
    for function in (masked_means, normalize_intensities):
        with pytest.raises(ValueError, match=r"expected \(time, channel, y, x\)"):
            function(cube[0])


@pytest.mark.slow
def test_error_of_the_mean_by_monte_carlo():
    """Noise drawn on the detector and resampled: the scatter of the means is their stated error."""
    rng = np.random.default_rng(3)
    base = make_cube((1, 1, 90, 100), alignments=True)
    alignment = Alignment.from_pose(ESIS_1, 1, frame_number=109, line="O V", time=base.time[0], grid=ESIS_1.grid)
    meta = base[:].meta
    del meta["normalization"]
    meta["alignment_final"][0, 0] = alignment
    # A piece of the detector that holds the small grid.
    u_pixel, v_pixel = detector_coordinates(alignment, base.wcs[0, 0], (90, 100))
    u_pixel, v_pixel = (x - np.floor(x.min()) + 20 for x in (u_pixel, v_pixel))
    size = int(max(u_pixel.max(), v_pixel.max())) + 20
    region = np.zeros((90, 100), bool)
    region[10:80, 10:90] = True
    images = [
        interpolate(rng.normal(20, 3, (size, size)).astype(np.float32), u_pixel, v_pixel, order="bicubic")[0]
        for _ in range(400)
    ]
    means = [image[region].mean(dtype=float) for image in images]
    array = images[-1]
    sigma = propagate_uncertainty(np.full((size, size), 3.0), u_pixel, v_pixel)
    cube = ESISLevel3Cube(
        array[None, None],
        wcs=base.wcs,
        uncertainty=StdDevUncertainty(sigma[None, None]),
        mask=np.zeros((1, 1, 90, 100), bool),
        flags=np.zeros((1, 1, 90, 100), np.uint8),
        meta=meta,
        unit=base.unit,
    )
    error = cube.masked_means(region=region)["error"][0].value
    # 400 draws know the scatter to 3.5 %; three times that.
    assert abs(np.std(means) / error - 1) < 0.11
    independent = np.sqrt(np.sum(sigma[region] ** 2)) / region.sum()
    assert error > 1.3 * independent
