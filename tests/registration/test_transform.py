import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from esis_ndcube.registration import PolynomialTransform

COEFFICIENTS = st.integers(1, 3).flatmap(
    lambda degree: arrays(
        float, (2, (degree + 1) * (degree + 2) // 2), elements=st.floats(-1, 1, allow_subnormal=False)
    )
)


def near_identity(rng, degree, bend=2.0):
    """An affine map of pixels with higher terms of a few pixels."""
    terms = (degree + 1) * (degree + 2) // 2
    coefficients = rng.uniform(-bend, bend, (2, terms))
    coefficients[:, :3] = [[700, 480, 190], [300, -190, 470]]
    return PolynomialTransform(coefficients, origin=(634.5, 634.5), scale=635)


def brute_force(transform, x, y):
    xn, yn = (x - transform.origin[0]) / transform.scale, (y - transform.origin[1]) / transform.scale
    terms, degree = [], 0
    while len(terms) < transform.coefficients.shape[1]:
        terms += [xn ** (degree - j) * yn**j for j in range(degree + 1)]
        degree += 1
    return [sum(c * term for c, term in zip(row, terms, strict=True)) for row in transform.coefficients]


@given(COEFFICIENTS, st.floats(-5, 5), st.floats(-5, 5))
def test_evaluates_the_polynomial(coefficients, x, y):
    transform = PolynomialTransform(coefficients, origin=(0.5, -1), scale=3)
    np.testing.assert_allclose(transform(x, y), brute_force(transform, x, y), rtol=1e-9, atol=1e-12)


def test_broadcasts_row_and_column_vectors():
    transform = near_identity(np.random.default_rng(1), 3)
    x, y = np.arange(7.0)[None, :], np.arange(5.0)[:, None]
    full = transform(*np.broadcast_arrays(x, y))
    np.testing.assert_allclose(transform(x, y), full, rtol=1e-14)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_jacobian_is_the_derivative(degree):
    transform = near_identity(np.random.default_rng(degree), degree)
    x, y, h = np.array([3.0, 500.0]), np.array([900.0, 20.0]), 1e-3
    numeric = np.stack(
        [
            (np.array(transform(x + h, y)) - transform(x - h, y)) / (2 * h),
            (np.array(transform(x, y + h)) - transform(x, y - h)) / (2 * h),
        ],
        axis=-1,
    )
    np.testing.assert_allclose(transform.jacobian(x, y), np.moveaxis(numeric, 0, -2), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("degree", [1, 2, 3])
@given(st.integers(0, 2**31), st.floats(0, 1270), st.floats(0, 1270))
def test_inverse_closes(degree, seed, x, y):
    transform = near_identity(np.random.default_rng(seed), degree)
    np.testing.assert_allclose(transform.inverse(*transform(x, y)), (x, y), atol=1e-8)


def test_inverse_without_solution_is_nan():
    # u = X^2 is never negative.
    transform = PolynomialTransform([[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]])
    with pytest.raises(np.linalg.LinAlgError):
        transform.inverse(-1.0, 0.0)
    bent = PolynomialTransform([[0, 0.1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]])
    assert np.isnan(bent.inverse(-5.0, 0.0)).all()


@given(st.integers(0, 2**31))
def test_composition_is_exact(seed):
    rng = np.random.default_rng(seed)
    outer, inner = near_identity(rng, 1), near_identity(rng, 3)
    x, y = rng.uniform(0, 1270, (2, 20))
    np.testing.assert_allclose(outer.compose(inner)(x, y), outer(*inner(x, y)), rtol=1e-11)
    outer = near_identity(rng, 3)
    inner = PolynomialTransform.from_affine([[0.5, 0.1, 3], [-0.1, 0.5, 7]], origin=(3, 4), scale=50)
    np.testing.assert_allclose(outer.compose(inner)(x, y), outer(*inner(x, y)), rtol=1e-11)


def test_renormalizing_changes_nothing_but_the_coefficients():
    transform = near_identity(np.random.default_rng(0), 2)
    other = transform.renormalized((10, 20), 7.0, degree=3)
    assert other.degree == 3
    assert other.scale == 7.0
    np.testing.assert_allclose(other(300.0, 900.0), transform(300.0, 900.0), rtol=1e-12)


def test_refuses_what_is_no_polynomial_of_degree_3():
    quadratic = near_identity(np.random.default_rng(0), 2)
    with pytest.raises(ValueError, match="degree 4"):
        quadratic.compose(quadratic)
    with pytest.raises(ValueError, match=r"shape \(2, 4\)"):
        PolynomialTransform(np.zeros((2, 4)))


@given(st.floats(-179, 179), st.floats(0.5, 2), st.floats(0.5, 2), st.floats(-5, 5))
def test_decomposition_rebuilds_the_matrix(rotation, scale_x, scale_y, shear):
    up, down = np.radians(rotation + shear / 2), np.radians(rotation - shear / 2)
    matrix = [
        [scale_x * np.cos(up), -scale_x * np.sin(up), 3],
        [scale_y * np.sin(down), scale_y * np.cos(down), 4],
    ]
    found = PolynomialTransform.from_affine(matrix).decompose(0, 0)
    expected = {"rotation": rotation, "shear": shear, "scale_x": scale_x, "scale_y": scale_y, "u": 3, "v": 4}
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9)


def test_is_frozen():
    transform = PolynomialTransform.from_affine(np.eye(2, 3))
    with pytest.raises(ValueError, match="read-only"):
        transform.coefficients[0, 0] = 1
    with pytest.raises(AttributeError):
        transform.scale = 2
