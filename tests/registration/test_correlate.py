from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest
from helpers import benchmark, daily
from scipy.ndimage import gaussian_filter, map_coordinates

from esis_ndcube.registration import (
    PolynomialTransform,
    correlate,
    log_difference_of_gaussians,
    maximize_correlation,
    prefilter,
)
from esis_ndcube.registration.correlate import _marked_pair, _pass

SIZE = 160


def scene(seed=0, sigma=2.5):
    image = gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE + 80, SIZE + 80)), sigma)
    return (image / image.std()).astype(np.float32)


def true_transform(degree):
    coefficients = np.array(
        [[121.31, 80.37, 3.1, 0.6, -0.4, 0.5, 0.2, 0, 0, -0.2], [118.83, -3.3, 79.2, -0.5, 0.3, 0.4, 0, 0.1, 0.2, 0]]
    )
    return PolynomialTransform(coefficients[:, : {1: 3, 2: 6, 3: 10}[degree]], (79.5, 79.5), 80)


def pair(degree):
    image, transform = scene(), true_transform(degree)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    u, v = transform(x, y)
    return map_coordinates(image, [v, u], order=5).astype(np.float32), image, transform


def start(degree):
    """Shifted by 2 pixels and turned by 1 degree from the truth, without distortion."""
    true = true_transform(degree)
    turn = np.radians(1.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    coefficients = np.zeros_like(true.coefficients)
    coefficients[:, 0] = true.coefficients[:, 0] + [1.6, -1.2]
    coefficients[:, 1:3] = true.coefficients[:, 1:3] @ rotation
    return PolynomialTransform(coefficients, true.origin, true.scale)


def everything(image):
    return np.ones(image.shape, dtype=bool)


def rms_error(found, true):
    y, x = np.mgrid[:SIZE:5, :SIZE:5]
    return np.sqrt(np.mean(np.sum(np.subtract(found(x, y), true(x, y)) ** 2, axis=0)))


def lagrange(fraction):
    """Weights of four points, from -1 to 2: polynomials that are 1 at one of them and 0 at the others."""
    points = np.arange(-1, 3)
    return [np.prod([(fraction - q) / (p - q) for q in points if q != p], axis=0) for p in points.astype(float)]


def central_difference(image, axis):
    """Half the difference of the neighbors, NaN where one of them is missing."""
    result = np.full(image.shape, np.nan)
    inner = [slice(None)] * 2
    inner[axis] = slice(1, -1)
    result[tuple(inner)] = np.gradient(image, axis=axis)[tuple(inner)]
    return result


def sums_by_numpy(reference, image, transform):
    """Number of pixels, correlation and normal matrix as they are defined; NaN marks what does not count."""
    y, x = np.indices(reference.shape)
    u, v = transform(x, y)
    padded = np.pad(image.astype(float), 2, constant_values=np.nan)
    i, j = (np.clip(np.floor(a).astype(int), -1, n - 1) + 2 for a, n in zip((u, v), image.shape[::-1], strict=True))
    w = sum(
        a * b * padded[np.minimum(j + q, len(padded) - 1), np.minimum(i + p, padded.shape[1] - 1)]
        for q, a in zip(range(-1, 3), lagrange(v - np.floor(v)), strict=True)
        for p, b in zip(range(-1, 3), lagrange(u - np.floor(u)), strict=True)
    )
    gradient = [central_difference(w, axis) for axis in (1, 0)]
    terms = np.moveaxis(transform.terms(x, y), -1, 0)
    rows = np.array([w, reference, *(gradient[0] * terms), *(gradient[1] * terms)])
    good = np.isfinite(rows).all(0)
    covariance = np.cov(rows[:, good], bias=True)
    return good.sum(), covariance


def assert_sums_agree(reference, image, transform, *, mask, valid, rtol):
    free = np.ones(transform.coefficients.size, dtype=bool)
    state = _pass(*_marked_pair(reference, image, mask, valid)[::-1], transform, 1, free)
    n, covariance = sums_by_numpy(
        np.where(mask & np.isfinite(reference), reference, np.nan),
        np.where(valid & np.isfinite(image), image, np.nan),
        transform,
    )
    ww, wr, rr = covariance[0, 0], covariance[0, 1], covariance[1, 1]
    gw, gr, normal = covariance[2:, 0], covariance[2:, 1], covariance[2:, 2:]
    assert state.n == n
    assert state.score == pytest.approx(wr / np.sqrt(ww * rr), rel=rtol)
    # The kernel multiplies single-precision pixels.
    scale = np.abs(normal).max()
    for found, expected in ((state.normal, normal), (state.gw, gw), (state.gr, gr)):
        np.testing.assert_allclose(found, expected, atol=rtol * scale)
    return n


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_sums_agree_with_brute_force(degree):
    """Correlation, gradient and normal matrix against their definitions, written out."""
    reference, image, transform = pair(degree)
    rng = np.random.default_rng(3)
    mask = rng.random(reference.shape) > 0.9
    valid = rng.random(image.shape) > 0.01
    assert assert_sums_agree(reference, image, transform, mask=mask, valid=valid, rtol=1e-4) > 1000


def large_pair(noise=0.0, size=640):
    """Wider than a piece of the compiled loops, and large enough for a first fit on few rows; affine."""
    rng = np.random.default_rng(5)
    image = gaussian_filter(rng.normal(size=(size, size)), 2.5)
    image = (image / image.std()).astype(np.float32)
    transform = PolynomialTransform([[330.2, 289, 20], [310.7, -18, 293]], (319.5, 319.5), 320)
    y, x = np.mgrid[:size, :size].astype(float)
    reference = map_coordinates(image, transform(x, y)[::-1], order=5)
    mask = (x - 320) ** 2 + (y - 300) ** 2 < 300**2
    reference, image = (a + noise * gaussian_filter(rng.normal(size=a.shape), 0.7) for a in (reference, image))
    begin = PolynomialTransform(np.add(transform.coefficients, [[1.3, 1, -1], [-0.9, 1, 1]]), (319.5, 319.5), 320)
    return {"reference": reference, "image": image, "mask": mask, "valid": everything(image)}, begin, transform


@pytest.mark.parametrize("degree", [1, 3])
def test_sums_of_wide_images(degree):
    """Pieces of rows, masked rows, invalid blocks and the border."""
    data, transform, _ = large_pair()
    transform = transform.renormalized(transform.origin, transform.scale, degree=degree)
    # So that a part of the reference falls beside the image.
    transform = PolynomialTransform(transform.coefficients + np.eye(2, 1) * 80, transform.origin, transform.scale)
    data["valid"][200:260, 100:300] = False
    data["image"][400:420, 50:90], data["image"][5, 7], data["reference"][300, 300] = np.nan, np.inf, np.nan
    n = assert_sums_agree(transform=transform, rtol=1e-5, **data)
    assert n < 0.9 * np.count_nonzero(data["mask"])


def test_few_rows_first_changes_time_and_not_the_result(monkeypatch):
    data, begin, true = large_pair(noise=0.5)
    fit = maximize_correlation(start=begin, **data)
    exact = maximize_correlation(start=begin, tolerance=1e-4, **data)
    monkeypatch.setattr(correlate, "_LEAST_COARSE", np.inf)
    full = maximize_correlation(start=begin, **data)
    assert fit.converged
    assert full.converged
    assert rms_error(fit.transform, true) < 0.05
    for other in (fit, full):
        assert rms_error(other.transform, exact.transform) < 0.005
    # A loss of the sparse fit is no loss of the fit.
    monkeypatch.setattr(correlate, "_LEAST_COARSE", 1)
    small = maximize_correlation(start=begin, min_pixels=30_000, **data)
    assert small.converged
    assert rms_error(small.transform, full.transform) < 0.01


def test_noise_does_not_shorten_the_steps(monkeypatch):
    data, begin, _ = large_pair(noise=1.0)
    monkeypatch.setattr(correlate, "_LEAST_COARSE", np.inf)
    exact = maximize_correlation(start=begin, tolerance=1e-5, max_iterations=100, **data)
    fit = maximize_correlation(start=begin, **data)
    monkeypatch.setattr(correlate, "_RELAXATION", (1.0, 1.0))
    plain = maximize_correlation(start=begin, **data)
    assert fit.iterations < plain.iterations
    assert rms_error(fit.transform, exact.transform) < 0.005


def test_lower_terms_alone():
    """Fitting a shift with everything else known, and not at all where more is missing."""
    reference, image, true = pair(2)
    masks = {"mask": everything(reference), "valid": everything(image)}
    begin = PolynomialTransform(
        np.column_stack([true.coefficients[:, 0] + [1.5, -1], true.coefficients[:, 1:]]), true.origin, true.scale
    )
    fit = maximize_correlation(reference, image, begin, degree=0, **masks)
    assert fit.converged
    np.testing.assert_array_equal(fit.transform.coefficients[:, 1:], true.coefficients[:, 1:])
    assert rms_error(fit.transform, true) < 0.01
    fitted = np.flatnonzero(np.diag(fit.covariance))
    assert fitted.tolist() == [0, 6]
    affine = maximize_correlation(reference, image, start(2), degree=1, **masks)
    assert not affine.transform.coefficients[:, 3:].any()
    assert rms_error(affine.transform, true) > 0.2


def test_same_bits_in_every_thread():
    data, begin, _ = large_pair(noise=0.5)
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(lambda _: maximize_correlation(start=begin, **data), range(8)))
    alone = maximize_correlation(start=begin, **data)
    for fit in fits:
        np.testing.assert_array_equal(fit.transform.coefficients, alone.transform.coefficients)
        np.testing.assert_array_equal(fit.covariance, alone.covariance)
        names = [f.name for f in fields(fit) if f.name not in ("transform", "covariance")]
        assert [getattr(fit, name) for name in names] == [getattr(alone, name) for name in names]


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_recovers_the_transform(degree):
    reference, image, true = pair(degree)
    fit = maximize_correlation(reference, image, start(degree), mask=everything(reference), valid=everything(image))
    assert fit.converged
    assert fit.reason == "converged"
    assert fit.score > 0.99
    assert rms_error(fit.transform, true) < 0.02 < 1 < rms_error(start(degree), true)


def test_scale_and_offset_of_the_brightness_do_not_matter():
    reference, image, _ = pair(1)
    masks = {"mask": everything(reference), "valid": everything(image)}
    first = maximize_correlation(reference, image, start(1), **masks)
    # As bright as the visible Sun beside its granules.
    second = maximize_correlation(3 * reference + 1000, 0.1 * image - 40, start(1), **masks)
    assert second.score == pytest.approx(first.score, abs=1e-4)
    assert rms_error(second.transform, first.transform) < 1e-3


def test_invalid_pixels_do_not_count():
    reference, image, true = pair(1)
    valid, mask = everything(image), everything(reference)
    broken, spoiled = image.copy(), reference.copy()
    broken[100:130, 60:100], valid[100:130, 60:100] = np.nan, False
    spoiled[:40], mask[:40] = 1e6, False
    fit = maximize_correlation(spoiled, broken, start(1), mask=mask, valid=valid)
    assert fit.converged
    assert rms_error(fit.transform, true) < 0.03


def test_error_bars_of_white_noise():
    """Scatter of the coefficients over realizations of the noise against their covariance."""
    reference, image, true = pair(1)
    masks = {"mask": everything(reference), "valid": everything(image)}
    found, sigmas = [], []
    for seed in range(50):
        noisy = reference + np.random.default_rng(seed).normal(0, 0.5, reference.shape)
        fit = maximize_correlation(noisy, image, true, tolerance=1e-4, **masks)
        found.append(fit.transform.coefficients.ravel())
        sigmas.append(np.sqrt(np.diag(fit.covariance)))
    ratio = np.std(found, axis=0) / np.mean(sigmas, axis=0)
    # 50 realizations tell a standard deviation to 10 %.
    np.testing.assert_allclose(ratio, 1, atol=0.35)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mask": np.zeros((SIZE, SIZE), bool)}, "no overlap"),
        ({"image": np.zeros((SIZE + 80, SIZE + 80))}, "no overlap"),
        ({"start": PolynomialTransform([[1e4, 80, 0], [0, 0, 80]], (79.5, 79.5), 80)}, "no overlap"),
        ({"start": PolynomialTransform([[np.nan, 80, 0], [0, 0, 80]], (79.5, 79.5), 80)}, "start is not finite"),
        ({"max_iterations": 2}, "iteration limit"),
    ],
)
def test_failures_say_why(change, reason):
    reference, image, _ = pair(1)
    arguments = {"reference": reference, "image": image, "start": start(1), "mask": everything(reference)} | {
        "valid": everything(image)
    }
    fit = maximize_correlation(**(arguments | change))
    assert not fit.converged
    assert fit.reason == reason


def test_wrong_arguments_are_refused():
    reference, image, _ = pair(1)
    with pytest.raises(ValueError, match=r"got mask of shape \(3, 3\)"):
        maximize_correlation(reference, image, start(1), mask=np.ones((3, 3)), valid=everything(image))
    with pytest.raises(ValueError, match="got degree 2, expected 0 to 1"):
        maximize_correlation(reference, image, start(1), mask=everything(reference), valid=everything(image), degree=2)


@pytest.mark.parametrize("sigma", [(0.62, 0.65), (6.2, 3), (0.05, 40), 0])
def test_blur_is_that_of_scipy(sigma):
    image = np.random.default_rng(2).normal(size=(70, 90)).astype(np.float32)
    expected = gaussian_filter(image, sigma, mode="constant", truncate=3)
    np.testing.assert_allclose(prefilter.blur(image, sigma), expected, atol=2e-6)


def test_filter_does_not_see_brightness_or_slow_trends():
    image = np.exp(0.3 * scene())
    y, x = np.mgrid[: SIZE + 80, : SIZE + 80] / (SIZE + 80)
    first = log_difference_of_gaussians(image, 1, 6)
    second = log_difference_of_gaussians(40 * image * (1 + 0.5 * x + 0.2 * y), 1, 6)
    inner = slice(20, -20), slice(20, -20)
    assert np.corrcoef(first[inner].ravel(), second[inner].ravel())[0, 1] > 0.995


def test_filter_ignores_what_is_invalid():
    image = np.exp(0.3 * scene())
    valid = np.ones(image.shape, bool)
    valid[:, 120:] = False
    spoiled = np.where(valid, image, 1e7)
    spoiled[50, 50] = np.nan
    filtered = log_difference_of_gaussians(spoiled, 1, 6, valid=valid)
    expected = log_difference_of_gaussians(image[:, :120], 1, 6)
    assert not filtered[:, 120:].any()
    assert filtered[50, 50] == 0
    far = np.ones((SIZE + 80, 120), bool)
    far[25:75, 25:75] = False
    np.testing.assert_allclose(filtered[:, :120][far], expected[far], atol=0.01)


def test_filter_of_nothing_is_nothing():
    assert not log_difference_of_gaussians(np.full((9, 9), np.nan), 1, 3).any()
    with pytest.raises(ValueError, match="two dimensions"):
        log_difference_of_gaussians(np.zeros(3), 1, 3)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        log_difference_of_gaussians(np.zeros((3, 3)), 1, 3, valid=np.ones((2, 2)))


@pytest.mark.parametrize(("photons", "seeds", "limit"), daily((100, 4, 0.003), (9, 16, 0.01)))
def test_noise_does_not_draw_fits_between_the_pixels(photons, seeds, limit):
    """The short form of ``benchmarks/truth.py locking``; biases were 0.21, 0.04 at the first fraction."""
    truth = benchmark("truth")
    for fraction in (0.1, 0.5):
        found = truth.locking(photons, [fraction], seeds, transform="shift")
        # Three standard deviations of the mean error of so few pairs.
        assert abs(found["bias"][0]) < limit + 3 * found["bound"][0] / np.sqrt(seeds)
        assert found["rms"][0] < 1.5 * found["bound"][0]
