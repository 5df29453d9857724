"""Noise that neighboring pixels share, against its covariance matrix and against noise that is drawn."""

import copy

import dask.array as da
import numpy as np
import pytest
import regions
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import StdDevUncertainty, VarianceUncertainty
from astropy.time import Time, TimeDelta

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube
from esis_ndcube.corrections.masks import PolygonMask
from esis_ndcube.operations import region_mean
from esis_ndcube.registration import PolynomialTransform
from esis_ndcube.resample import interpolate, propagate_uncertainty, resampled_correlation
from esis_ndcube.utils.noise import autocorrelation, bin_correlation, bin_variance, resample_correlation
from esis_ndcube.wcs import level1_wcs, level3_wcs

KERNEL = np.array([[0.05, 0.1, 0.05], [0.1, 0.4, 0.15], [0.02, 0.1, 0.03]])
SHARED = autocorrelation(KERNEL) / np.sum(KERNEL**2)
# Another one for another channel.
WIDE = autocorrelation(np.ones((3, 2))) / 6


def covariance(sigma, correlation):
    """The matrix of all pairs of pixels of an image."""
    y, x = (index.ravel() for index in np.indices(sigma.shape))
    rows, columns = np.subtract.outer(y, y), np.subtract.outer(x, x)
    up, right = (n // 2 for n in correlation.shape)
    there = (abs(rows) <= up) & (abs(columns) <= right)
    found = correlation[np.where(there, rows + up, 0), np.where(there, columns + right, 0)]
    return np.where(there, found, 0) * np.outer(sigma, sigma)


def make(shape=(2, 2, 12, 10), *, seed=0, correlations=(SHARED, WIDE)):
    rng = np.random.default_rng(seed)
    times = Time("2019-09-30T18:08:00") + TimeDelta(10 * np.arange(shape[0]) * u.s)
    wcs = level3_wcs(ESIS_1.grid, times, range(1, shape[1] + 1))[:, :, 600 : 600 + shape[2], 620 : 620 + shape[3]]
    meta = {str(number): one for number, one in enumerate(correlations, 1)}
    return ESISLevel3Cube(
        rng.normal(size=shape),
        wcs=wcs,
        uncertainty=StdDevUncertainty(rng.uniform(0.5, 2, shape)),
        mask=rng.random(shape) < 0.2,
        meta={"noise_correlation": meta, "flight": ESIS_1},
        unit="ph / pix",
    )


def draw(rng, shape, kernel=KERNEL):
    """Noise of unit variance."""
    return ndimage.convolve(rng.normal(size=shape), kernel, mode="wrap") / np.sqrt(np.sum(kernel**2))


def test_correlation_is_that_of_drawn_noise():
    noise = draw(np.random.default_rng(0), (1000, 1000))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1), (2, 1)):
        measured = np.mean(noise * np.roll(noise, (row, column), (0, 1)))
        assert abs(measured - SHARED[2 + row, 2 + column]) < 0.005


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_variance_of_bins_is_that_of_the_matrix(rows, columns, seed):
    sigma = np.random.default_rng(seed).uniform(0, 1, (2 * rows, 3 * columns))
    matrix = covariance(sigma, SHARED).reshape(2, rows, 3, columns, 2, rows, 3, columns)
    expected = np.einsum("aibjakbl->ab", matrix)
    np.testing.assert_allclose(bin_variance(sigma, SHARED, (rows, columns)), expected, rtol=1e-12)


@pytest.mark.parametrize("bins", [(1, 1), (2, 2), (4, 3), (1, 5)])
def test_correlation_of_bins_is_that_of_the_matrix(bins):
    rows, columns = bins
    matrix = covariance(np.ones((3 * rows, 3 * columns)), SHARED).reshape(3, rows, 3, columns, 3, rows, 3, columns)
    sums = matrix.sum(axis=(1, 3, 5, 7))
    found = bin_correlation(SHARED, bins)
    middle = [n // 2 for n in found.shape]
    expected = sums[:, :, 1, 1] / sums[1, 1, 1, 1]
    np.testing.assert_allclose(
        found[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2], expected, rtol=0, atol=1e-12
    )


def binned_by_hand(cube, index, bins):
    """Standard deviation of the means of bins of one image."""
    rows, columns = bins
    correlation = cube.noise_correlation[index[1]]
    good = ~cube.mask[index]
    matrix = covariance(np.where(good, cube.uncertainty.array[index], 0), correlation)
    shape = cube.shape[2] // rows, rows, cube.shape[3] // columns, columns
    count = good.reshape(shape).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.einsum("aibjakbl->ab", matrix.reshape(*shape, *shape))) / count


@pytest.mark.parametrize("bins", [(2, 2), (3, 5), (12, 10)])
def test_rebin(bins):
    cube = make()
    result = cube.rebin((1, 1, *bins))
    for index in np.ndindex(cube.shape[:2]):
        np.testing.assert_allclose(result.uncertainty.array[index], binned_by_hand(cube, index, bins), rtol=1e-6)
    # Of sums, the same but for the number of pixels; and of independent pixels if that is asked for.
    good = (~cube.mask).reshape(2, 2, 12 // bins[0], bins[0], 10 // bins[1], bins[1]).sum(axis=(3, 5))
    sums = cube.rebin((1, 1, *bins), np.sum).uncertainty.array
    np.testing.assert_allclose(sums, result.uncertainty.array * good, rtol=1e-6)
    independent = cube.rebin((1, 1, *bins), correlation_factor=1).uncertainty.array
    valid = ~result.mask
    assert (result.uncertainty.array >= independent)[valid].all()
    assert np.median(result.uncertainty.array[valid] / independent[valid]) > 1.2


def test_errors_that_are_infinite_or_not_known():
    cube = make()
    cube.mask = None
    sigma = cube.uncertainty.array.copy()
    sigma[0, 0, 1, 1], sigma[1, 1, 7, 8] = np.inf, np.nan
    other = ESISLevel3Cube(
        cube.data, wcs=cube.wcs, uncertainty=StdDevUncertainty(sigma), meta=cube.meta, unit=cube.unit
    )
    found, expected = (one.rebin((1, 1, 3, 5)).uncertainty.array for one in (other, cube))
    assert np.isinf(found[0, 0, 0, 0])
    assert np.isnan(found[1, 1, 2, 1])
    rest = np.isfinite(found)
    assert (~rest).sum() == 2
    np.testing.assert_array_equal(found[rest], expected[rest])
    inside = np.zeros(cube.shape[2:], dtype=bool)
    inside[:3, :3] = True
    assert np.isinf(region_mean(other, inside).uncertainty[0, 0])


def test_exposures_are_independent():
    cube = make()
    parts = np.array([binned_by_hand(cube, index, (3, 5)) for index in np.ndindex(2, 2)]).reshape(2, 2, 4, 2)
    count = (~cube.mask).reshape(2, 2, 4, 3, 2, 5).sum(axis=(3, 5))
    expected = np.sqrt(np.sum((parts * count) ** 2, axis=0)) / count.sum(axis=0)
    result = cube.rebin((2, 1, 3, 5))
    np.testing.assert_allclose(result.uncertainty.array[0], expected, rtol=1e-6)


def test_parts_of_a_cube():
    cube = make()
    binned = cube.rebin((1, 1, 2, 5))
    for item in (np.s_[0], np.s_[:, 1], np.s_[1, 0], np.s_[:, 1:2]):
        bins = (1,) * (cube[item].data.ndim - 2) + (2, 5)
        result = cube[item].rebin(bins)
        np.testing.assert_array_equal(result.uncertainty.array, binned.uncertainty.array[item])
        np.testing.assert_array_equal(result.noise_correlation, binned[item].noise_correlation)
    row = cube[:, 1, 3:4]
    np.testing.assert_allclose(
        cube[:, 1, 3].rebin((1, 5)).uncertainty.array, row.rebin((1, 1, 5)).uncertainty.array[:, 0], rtol=1e-6
    )
    column = cube[0, :, :, 4]
    np.testing.assert_allclose(
        column.rebin((1, 6)).uncertainty.array,
        cube[0, :, :, 4:5].rebin((1, 6, 1)).uncertainty.array[..., 0],
        rtol=1e-6,
    )
    pixel = cube[:, 0, 3:4, 4:5]
    pixel.mask = None
    expected = np.hypot(*pixel.uncertainty.array)[None] / 2
    np.testing.assert_allclose(pixel.rebin((2, 1, 1)).uncertainty.array, expected, rtol=1e-6)


def test_bins_of_bins():
    cube = make((1, 2, 16, 16))
    even = ESISLevel3Cube(
        cube.data, wcs=cube.wcs, uncertainty=StdDevUncertainty(np.ones(cube.shape)), meta=cube.meta, unit=cube.unit
    )
    once, twice = even.rebin((1, 1, 4, 4)), even.rebin((1, 1, 2, 2)).rebin((1, 1, 2, 2))
    np.testing.assert_allclose(once.uncertainty.array, twice.uncertainty.array, rtol=0.01)
    middle = once.noise_correlation.shape[1] // 2, twice.noise_correlation.shape[1] // 2
    near = [
        one.noise_correlation[:, m - 1 : m + 2, m - 1 : m + 2] for one, m in zip((once, twice), middle, strict=True)
    ]
    np.testing.assert_allclose(*near, atol=0.01)


@pytest.mark.parametrize("change", ["lazy", "big-endian", "float32", "read-only", "variance"])
def test_other_arrays_give_the_same(change):
    cube = make()
    expected, sigma, kind = cube.rebin((1, 1, 3, 5)).uncertainty.array, cube.uncertainty.array, StdDevUncertainty
    data = cube.data
    if change == "lazy":
        data, sigma = (da.from_array(array, chunks=(1, 1, 12, 10)) for array in (data, sigma))
    elif change == "big-endian":
        sigma = sigma.astype(">f8")
    elif change == "float32":
        sigma = sigma.astype(np.float32)
    elif change == "read-only":
        sigma.flags.writeable = False
    else:
        kind, sigma = VarianceUncertainty, sigma**2
    other = ESISLevel3Cube(data, wcs=cube.wcs, uncertainty=kind(sigma), mask=cube.mask, meta=cube.meta, unit=cube.unit)
    result = other.rebin((1, 1, 3, 5)).uncertainty.array
    expected = expected**2 if change == "variance" else expected
    assert isinstance(result, da.Array) == (change == "lazy")
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)


def test_differences_have_the_mean_correlation():
    cube = make()
    mean = cube.noise_correlation.mean(axis=0)
    for result in (cube[:, 0] - cube[:, 1], cube.difference(1, 2), cube.min_images()):
        assert result.channel is None
        np.testing.assert_allclose(result.noise_correlation, mean)
    np.testing.assert_array_equal((cube - cube[0]).noise_correlation, cube.noise_correlation)
    # Numbers are exact, and other arrays without correlation are of independent pixels.
    np.testing.assert_array_equal((2 * cube).noise_correlation, cube.noise_correlation)
    alone = copy.copy(cube)
    alone.meta = {"flight": ESIS_1}
    half = (cube - alone).noise_correlation
    np.testing.assert_allclose(half[:, 2, 2], 1)
    np.testing.assert_allclose(half[0, 2, 3], SHARED[2, 3] / 2)


@pytest.mark.parametrize("suffix", ["fits", "asdf"])
def test_files_carry_it(tmp_path, suffix):
    cube = make()
    cube.write(tmp_path / f"cube.{suffix}")
    read = ESISLevel3Cube.read(tmp_path / f"cube.{suffix}")
    np.testing.assert_array_equal(read.noise_correlation, cube.noise_correlation)
    np.testing.assert_array_equal(
        read[:, 1].rebin((1, 3, 5)).uncertainty.array, cube[:, 1].rebin((1, 3, 5)).uncertainty.array
    )


def test_cube_that_does_not_know_it():
    cube = make()
    for meta in (None, {}, {"noise_correlation": None}, {"noise_correlation": {"1": SHARED}}):
        other = ESISLevel3Cube(cube.data, wcs=cube.wcs, uncertainty=cube.uncertainty, mask=cube.mask, meta=meta)
        assert other.noise_correlation is None
        np.testing.assert_array_equal(
            other.rebin((1, 1, 3, 5)).uncertainty.array,
            cube.rebin((1, 1, 3, 5), correlation_factor=1).uncertainty.array,
        )


def region_by_hand(cube, index, inside):
    inside = inside & ~cube.mask[index]
    matrix = covariance(np.where(inside, cube.uncertainty.array[index], 0), cube.noise_correlation[index[1]])
    return cube.data[index][inside].mean(), np.sqrt(matrix.sum()) / inside.sum(), inside.sum()


def test_mean_over_a_region():
    cube = make()
    inside = np.random.default_rng(1).random(cube.shape[2:]) < 0.4
    result = region_mean(cube, inside)
    assert result.mean.unit == result.uncertainty.unit == cube.unit
    for index in np.ndindex(2, 2):
        found = result.mean[index].value, result.uncertainty[index].value, result.pixels[index]
        np.testing.assert_allclose(found, region_by_hand(cube, index, inside), rtol=1e-12)
    one = region_mean(cube[1, 0], inside)
    assert (one.mean, one.uncertainty, one.pixels) == (result.mean[1, 0], result.uncertainty[1, 0], result.pixels[1, 0])
    lazy = ESISLevel3Cube(
        da.from_array(cube.data), wcs=cube.wcs, uncertainty=cube.uncertainty, mask=cube.mask, meta=cube.meta
    )
    np.testing.assert_array_equal(region_mean(lazy, inside).mean.value, result.mean.value)
    np.testing.assert_array_equal(
        region_mean(cube, np.broadcast_to(inside, cube.shape)).uncertainty, result.uncertainty
    )


def test_regions_of_other_kinds():
    cube = make()
    box = np.zeros(cube.shape[2:], dtype=bool)
    box[2:7, 3:8] = True
    expected = region_mean(cube, box)
    wcs = cube[0, 0].wcs.celestial
    corners = wcs.pixel_to_world([2.5, 7.5, 7.5, 2.5], [1.5, 1.5, 6.5, 6.5])
    pixels = regions.RectanglePixelRegion(regions.PixCoord(5, 4), 5, 5)
    sky = regions.PolygonSkyRegion(SkyCoord(corners))
    polygon = PolygonMask.from_skycoord(corners, cube[0, 0])
    for region in (pixels, sky, polygon):
        result = region_mean(cube, region)
        np.testing.assert_array_equal(result.pixels, expected.pixels)
        np.testing.assert_array_equal(result.uncertainty, expected.uncertainty)


@pytest.mark.parametrize(
    ("region", "error", "words"),
    [
        (np.ones((3, 3), bool), ValueError, r"got a region of shape \(3, 3\), expected \(12, 10\)"),
        (np.zeros((12, 10), bool), ValueError, "without a pixel"),
        (np.ones((12, 10)), TypeError, "expected an array of bool"),
        ("here", TypeError, "expected an array of bool"),
        (regions.CirclePixelRegion(regions.PixCoord(500, 500), 3), ValueError, "without a pixel"),
    ],
)
def test_regions_that_are_none(region, error, words):
    with pytest.raises(error, match=words):
        region_mean(make(), region)


def test_region_on_the_sky_of_a_frame():
    frame = ESISLevel1Cube(np.ones((1, 1, 4, 5)), wcs=level1_wcs((4, 5), Time(["2019-09-30T18:08:00"]), [1]))
    with pytest.raises(ValueError, match="without coordinates on the sky"):
        region_mean(frame, regions.CircleSkyRegion(SkyCoord(0 * u.deg, 0 * u.deg), 1 * u.deg))
    result = region_mean(frame, np.ones((4, 5), bool))
    assert result.uncertainty is None
    assert result.mean == 1


def test_region_without_a_valid_pixel():
    cube = make()
    cube.mask = np.ones(cube.shape, bool)
    result = region_mean(cube, np.ones((12, 10), bool))
    assert np.isnan(result.mean).all()
    assert np.isnan(result.uncertainty).all()
    assert (result.pixels == 0).all()


def check_scatter(images, correlation, sigma):
    """The scatter of images, of their sums over 4 x 4 pixels, and what neighbors share."""
    correlation = np.pad(correlation, 1)
    assert abs(images.std() / sigma - 1) < 0.02
    rows, columns = (n // 4 * 4 for n in images.shape[-2:])
    sums = images[:, :rows, :columns].reshape(len(images), rows // 4, 4, columns // 4, 4).sum(axis=(2, 4))
    expected = np.sqrt(bin_variance(np.full((4, 4), sigma), correlation, (4, 4)))
    assert abs(sums.std() / expected.item() - 1) < 0.03
    up, right = (n // 2 for n in correlation.shape)
    neighbors = np.mean(images[:, 1:] * images[:, :-1]), np.mean(images[..., 1:] * images[..., :-1])
    np.testing.assert_allclose(
        np.array(neighbors) / sigma**2, [correlation[up + 1, right], correlation[up, right + 1]], atol=0.02
    )


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "order"), [(0.78, 3), (0.78, 1), (1.4, 3), (0.6, 2), (0.78, 0)])
def test_alignment_by_monte_carlo(scale, order):
    turn = np.radians(23)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    transform = PolynomialTransform.from_affine(np.column_stack([matrix, [150.3, 150.7]]))
    half = int(95 / scale)
    i = np.arange(-half, half) + 0.0
    x, y = transform(i[None, :], i[:, None])
    rng = np.random.default_rng(order)
    images = np.stack([interpolate(draw(rng, (300, 300)), x, y, order=order)[0] for _ in range(12)])
    sigma = propagate_uncertainty(np.ones((300, 300)), x, y, order=order, correlation=SHARED)
    correlation = resampled_correlation(transform, order=order, correlation=SHARED)
    check_scatter(images, correlation, np.sqrt(np.mean(sigma**2)))
    # Each place on a detector pixel has its own uncertainty.
    quarter = sigma < np.quantile(sigma, 0.25)
    if order:
        assert abs(images[:, quarter].std() / np.sqrt(np.mean(sigma[quarter] ** 2)) - 1) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.7, 1.3, 3.1])
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("interpolation", {}),
        ("interpolation", {"order": 3}),
        ("adaptive", {}),
        ("adaptive", {"kernel": "Hann"}),
        ("exact", {}),
    ],
    ids=str,
)
def test_reprojection_by_monte_carlo(scale, algorithm, options):
    shape = (3, 1, 300, 300)
    cube = make((1, 1, 2, 2), correlations=[SHARED])
    times = Time("2019-09-30T18:08:00") + TimeDelta(10 * np.arange(3) * u.s)
    wcs = level3_wcs(ESIS_1.grid, times, [1])[:, :, 400:700, 400:700]
    rng = np.random.default_rng(3)
    cube = ESISLevel3Cube(
        np.stack([draw(rng, shape[2:]) for _ in range(3)])[:, None],
        wcs=wcs,
        uncertainty=StdDevUncertainty(np.ones(shape)),
        meta={"noise_correlation": {"1": SHARED}},
        unit="ph / pix",
    )
    target = wcs.celestial.deepcopy()
    turn = np.radians(17)
    target.wcs.pc = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    target.wcs.cdelt = target.wcs.cdelt * scale
    size = int(200 / scale)
    target.wcs.crpix = np.array([size / 2, size / 2])
    target.wcs.crval = wcs.celestial.wcs_pix2world([[149.3, 149.8]], 0)[0]
    result = cube.reproject_to(target, algorithm, shape_out=(size, size), **options)
    images, sigma = result.data[:, 0], np.sqrt(np.mean(result.uncertainty.array**2))
    assert np.isfinite(images).all()
    check_scatter(images, result.noise_correlation[0], sigma)


def test_grid_of_the_same_pixels():
    correlation, variance = resample_correlation(SHARED, np.eye(2), lambda x, y: ((x == 0) & (y == 0)) * 1.0, 1)
    np.testing.assert_allclose(variance, 1)
    np.testing.assert_allclose(correlation, SHARED)
