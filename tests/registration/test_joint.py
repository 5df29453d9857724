"""The joint model, on alignments that are made of it."""

from dataclasses import replace

import numpy as np
import pytest

from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESIS_1, Alignment
from esis_ndcube.registration import PolynomialTransform, fit_joint
from esis_ndcube.registration.joint import _motion_basis

ORIGIN, SCALE = (634.5, 634.5), 635.0
TIMES = 8
# The error of the reference channel's own alignment is larger, and common to all channels.
SIGMA, COMMON = 0.02, 0.1


def static_map(channel):
    rng = np.random.default_rng(channel)
    pose = PolynomialTransform.from_affine(ESIS_1.pose(channel), origin=ORIGIN, scale=SCALE)
    bend = np.zeros((2, 6))
    bend[:, 3:] = rng.uniform(-1.5, 1.5, (2, 3))
    return PolynomialTransform(pose.renormalized(ORIGIN, SCALE, degree=2).coefficients + bend, ORIGIN, SCALE)


def moved(transform, dx, dy, roll):
    """The map after a rigid motion of the grid about its origin, exactly."""
    cos, sin = np.cos(roll), np.sin(roll)
    x0, y0 = ORIGIN
    motion = [[cos, -sin, x0 + dx - cos * x0 + sin * y0], [sin, cos, y0 + dy - sin * x0 - cos * y0]]
    inner = PolynomialTransform.from_affine(motion, origin=ORIGIN, scale=SCALE)
    return transform.compose(inner)


def wobble(rng, size):
    """Errors of coefficients and their covariance."""
    sigma = size * rng.uniform(0.5, 1.5, 12)
    return rng.normal(0, sigma).reshape(2, 6), np.diag(sigma**2)


def make(seed=0, sigma=SIGMA, common=COMMON):
    """Independent alignments, and the maps that are true, shapes (time, channel)."""
    rng = np.random.default_rng(seed)
    alignments, truth = np.empty((TIMES, 4), object), np.empty((TIMES, 4), object)
    drift = np.linspace(-6, 6, TIMES)
    for t in range(TIMES):
        roll, shifts = (
            np.radians(rng.normal(0, 0.02)),
            np.add(rng.uniform(-0.3, 0.3, (4, 2)), (drift[t], 0.2 * drift[t])),
        )
        error, covariance = wobble(rng, common)
        # The effect of the reference channel's error on the grid, and with it on every channel.
        anchor = moved(static_map(2), *shifts[1], roll)
        seen = PolynomialTransform(anchor.coefficients + error, ORIGIN, SCALE)
        for channel in range(1, 5):
            true = moved(static_map(channel), *shifts[channel - 1], roll)
            found, own = seen, covariance
            if channel != 2:
                x, y = np.meshgrid(*2 * (np.linspace(100, 1170, 15),))
                position = true(*anchor.inverse(*seen(x, y)))
                error, own = wobble(rng, sigma)
                found = PolynomialTransform(fit(position, x, y).coefficients + error, ORIGIN, SCALE)
            pose = Alignment.from_pose(ESIS_1, channel, frame_number=110 + t, line="O V", time="2019-09-30T18:08:00")
            truth[t, channel - 1] = true
            alignments[t, channel - 1] = replace(
                pose, transform=found, stage="final", covariance=own, score=0.9, reason="converged"
            )
    return alignments, truth


def fit(position, x, y):
    xn, yn = (x.ravel() - ORIGIN[0]) / SCALE, (y.ravel() - ORIGIN[1]) / SCALE
    terms = np.stack([np.ones_like(xn), xn, yn, xn**2, xn * yn, yn**2], axis=1)
    values = np.stack([p.ravel() for p in position], axis=1)
    return PolynomialTransform(np.linalg.lstsq(terms, values, rcond=None)[0].T, ORIGIN, SCALE)


def error(alignments, truth, channel):
    x, y = np.meshgrid(*2 * (np.linspace(200, 1070, 12),))
    offs = [
        np.subtract(a.transform(x, y), b(x, y))
        for a, b in zip(alignments[:, channel - 1], truth[:, channel - 1], strict=True)
    ]
    return float(np.sqrt(np.mean(np.sum(np.square(offs), axis=1))))


def test_without_noise_nothing_is_changed():
    alignments, truth = make(sigma=1e-6, common=1e-6)
    # The model is linear in the motions, which shows where there is no noise.
    with pytest.warns(SunpyUserWarning, match="from exposure to exposure"):
        joint = fit_joint(alignments, reference_channel=2)
    assert np.nanmax(joint.residual) < 2e-3
    assert max(error(joint.alignments, truth, channel) for channel in (1, 2, 3, 4)) < 2e-3


def test_affine_maps_stay_affine():
    """A reference channel that is known by affine maps; numbers that cannot err do not count as agreement."""
    chi_square = []
    for seed in range(4):
        alignments, _ = make(seed)
        for row in alignments[:, :2]:
            affine = PolynomialTransform(row[1].transform.coefficients[:, :3], ORIGIN, SCALE)
            kept = [0, 1, 2, 6, 7, 8]
            row[1] = replace(row[1], transform=affine, covariance=row[1].covariance[np.ix_(kept, kept)])
        joint = fit_joint(alignments[:, 1:2], reference_channel=2)
        assert {a.transform.degree for a in joint.alignments.flat} == {1}
        chi_square.append(joint.chi_square[2])
    # Three times the scatter of the mean.
    assert np.mean(chi_square) == pytest.approx(1, abs=0.5)


@pytest.mark.slow
def test_is_nearer_to_the_truth_than_the_independent_fits():
    gains = []
    for seed in range(4):
        alignments, truth = make(seed)
        joint = fit_joint(alignments, reference_channel=2)
        for channel in (1, 2, 3, 4):
            gains.append(error(joint.alignments, truth, channel) / error(alignments, truth, channel))
    # The shifts, two thirds of the error here, are as free as before; the rest falls with the number of exposures.
    assert np.mean(gains) < 0.9
    assert max(gains) < 1.0


@pytest.mark.slow
def test_chi_square_and_error_bars():
    offs, chi_square = [], []
    for seed in range(12):
        alignments, truth = make(seed)
        joint = fit_joint(alignments, reference_channel=2)
        chi_square += joint.chi_square.values()
        # The reference channel has an absolute error bar, the others one relative to it.
        for t in range(TIMES):
            off = joint.alignments[t, 1].transform.coefficients - truth[t, 1].coefficients
            offs.append(off.ravel() / np.sqrt(np.diag(joint.alignments[t, 1].covariance)))
    assert np.mean(chi_square) == pytest.approx(1, abs=0.15)
    assert np.sqrt(np.mean(np.square(offs))) == pytest.approx(1, abs=0.2)


def test_a_distortion_that_is_not_static_shows():
    alignments, _ = make()
    wrong = alignments[3, 3]
    bent = wrong.transform.coefficients + np.array([[0, 0, 0, 0.5, 0, 0], [0] * 6])
    alignments[3, 3] = replace(wrong, transform=PolynomialTransform(bent, ORIGIN, SCALE))
    with pytest.warns(SunpyUserWarning, match=r"from exposure to exposure .*: channel 4 \(chi-square .*\); give"):
        joint = fit_joint(alignments, reference_channel=2)
    assert joint.chi_square[4] > 2 > max(joint.chi_square[channel] for channel in (1, 2, 3))
    assert np.nanargmax(joint.residual[:, 3]) == 3


def test_what_can_not_enter_the_model_stays():
    alignments, _ = make()
    alignments[2, 0] = replace(alignments[2, 0], converged=False, reason="no valid pixels")
    alignments[5, 1] = replace(alignments[5, 1], converged=False, reason="no valid pixels")
    joint = fit_joint(alignments, reference_channel=2)
    assert joint.alignments[2, 0] is alignments[2, 0]
    assert all(a is b for a, b in zip(joint.alignments[5], alignments[5], strict=True))
    assert np.isnan(joint.residual[2, 0])
    assert np.isnan(joint.residual[5]).all()
    assert np.isfinite(joint.residual[2, 1:]).all()


def test_does_not_change_its_input():
    alignments, _ = make()
    before = [a.transform.coefficients.copy() for a in alignments.flat]
    fit_joint(alignments, reference_channel=2)
    for a, coefficients in zip(alignments.flat, before, strict=True):
        np.testing.assert_array_equal(a.transform.coefficients, coefficients)


def test_too_little_to_tell():
    alignments, _ = make()
    with pytest.raises(ValueError, match="got 2 exposures with a good channel 2, expected 3"):
        fit_joint(alignments[:2], reference_channel=2)
    with pytest.raises(ValueError, match=r"got reference channel 7, expected one of \[1, 2, 3, 4\]"):
        fit_joint(alignments, reference_channel=7)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_small_motions_of_a_map(degree):
    """The change of the coefficients, against the exact composition with a small motion."""
    rng = np.random.default_rng(degree)
    like = static_map(1).renormalized(ORIGIN, SCALE, degree=max(degree, 2))
    terms = {1: 3, 2: 6, 3: 10}[degree]
    static = PolynomialTransform(like.coefficients[:, :terms] if degree < 3 else like.coefficients, ORIGIN, SCALE)
    static = PolynomialTransform(static.coefficients + rng.normal(0, 0.5, (2, terms)), ORIGIN, SCALE)
    basis = _motion_basis(static)
    for number, motion in enumerate(np.diag([1e-3, 1e-3, 1e-6])):
        exact = moved(static, *motion).coefficients - static.coefficients
        np.testing.assert_allclose(basis[:, number] * motion[number], exact.ravel(), atol=1e-8)


def test_cubic_maps():
    alignments, truth = make(sigma=1e-6, common=1e-6)
    cubic = np.empty_like(alignments)
    for index, alignment in np.ndenumerate(alignments):
        transform = alignment.transform.renormalized(ORIGIN, SCALE, degree=3)
        cubic[index] = replace(alignment, transform=transform, covariance=np.eye(20) * 1e-12)
    with pytest.warns(SunpyUserWarning, match="from exposure to exposure"):
        joint = fit_joint(cubic, reference_channel=2)
    assert {a.transform.degree for a in joint.alignments.flat} == {3}
    assert max(error(joint.alignments, truth, channel) for channel in (1, 2, 3, 4)) < 3e-3
