import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from esis_ndcube.registration import PolynomialTransform, log_difference_of_gaussians, maximize_correlation
from esis_ndcube.registration.correlate import _pass

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


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_sums_agree_with_brute_force(degree):
    """Correlation, gradient and normal matrix against their definitions, written out."""
    reference, image, transform = pair(degree)
    rng = np.random.default_rng(3)
    mask = rng.random(reference.shape) > 0.9
    valid = rng.random(image.shape) > 0.05
    state = _pass(image, valid.view(np.uint8), reference, mask.view(np.uint8), transform, 1)
    rows = []
    for y, x in np.argwhere(mask):
        u, v = (float(c) for c in transform(float(x), float(y)))
        i, j = int(np.floor(u)), int(np.floor(v))
        if not valid[j : j + 2, i : i + 2].all():
            continue
        a, b, c, d = image[j : j + 2, i : i + 2].ravel().astype(float)
        fu, fv = u - i, v - j
        w = (1 - fv) * ((1 - fu) * a + fu * b) + fv * ((1 - fu) * c + fu * d)
        gu, gv = (1 - fv) * (b - a) + fv * (d - c), (1 - fu) * (c - a) + fu * (d - b)
        xn, yn = (x - 79.5) / 80, (y - 79.5) / 80
        terms = np.array([xn**p * yn**q for p, q in transform.exponents])
        rows.append([w, reference[y, x], *(gu * terms), *(gv * terms)])
    rows = np.array(rows)
    covariance = np.cov(rows, rowvar=False, bias=True)
    assert state.n == len(rows)
    assert state.score == pytest.approx(np.corrcoef(rows[:, 0], rows[:, 1])[0, 1], rel=1e-4)
    # The kernel multiplies single-precision pixels.
    scale = np.abs(covariance[2:, 2:]).max()
    np.testing.assert_allclose(state.normal, covariance[2:, 2:], atol=1e-4 * scale)
    np.testing.assert_allclose(state.gw, covariance[2:, 0], atol=1e-4 * scale)
    np.testing.assert_allclose(state.gr, covariance[2:, 1], atol=1e-4 * scale)


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
    second = maximize_correlation(3 * reference + 10, 0.1 * image - 4, start(1), **masks)
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
