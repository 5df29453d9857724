"""Polynomial maps of the plane, with exact derivatives, composition and inverse."""

from dataclasses import dataclass

import numpy as np

from esis_ndcube.utils.arrays import plain_array
from esis_ndcube.wcs._sun import wrap

__all__ = ["PolynomialTransform"]

# Number of terms of a polynomial of each degree.
TERMS = {1: 3, 2: 6, 3: 10}


@dataclass(frozen=True, eq=False)
class PolynomialTransform:
    r"""
    A polynomial map from pixels (x, y) of one image to pixels (u, v) of another.

    With :math:`X = (x - x_0) / s` and :math:`Y = (y - y_0) / s`,

    .. math:: u = \sum_{i + j \le d} a_{ij} X^i Y^j, \qquad v = \sum_{i + j \le d} b_{ij} X^i Y^j .

    Parameters
    ----------
    coefficients : array-like
        Shape (2, n): coefficients of u and of v, terms ordered 1, X, Y, X^2, XY, Y^2, ...;
        n is 3 for an affine, 6 for a quadratic and 10 for a cubic map.
    origin : array-like
        The pixel :math:`(x_0, y_0)`.
    scale : `float`
        The length :math:`s` in pixels; the half size of the image keeps all terms of like size.

    Raises
    ------
    ValueError
        If the coefficients are not those of one of these degrees.

    Examples
    --------
    >>> from esis_ndcube.registration import PolynomialTransform
    >>> shift = PolynomialTransform.from_affine([[1, 0, 3], [0, 1, -2]])
    >>> shift([10], [20])
    (array([13.]), array([18.]))
    >>> shift.inverse([13], [18])
    (array([10.]), array([20.]))
    """

    coefficients: np.ndarray
    origin: np.ndarray = (0.0, 0.0)
    scale: float = 1.0

    def __post_init__(self):
        coefficients = np.array(self.coefficients, dtype=float)
        shapes = [(2, n) for n in TERMS.values()]
        if coefficients.shape not in shapes:
            msg = f"got coefficients of shape {coefficients.shape}, expected one of {', '.join(map(str, shapes))}"
            raise ValueError(msg)
        origin = np.array(self.origin, dtype=float)
        for array in (coefficients, origin):
            array.setflags(write=False)
        object.__setattr__(self, "coefficients", coefficients)
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "scale", float(self.scale))

    @classmethod
    def from_affine(cls, matrix, *, origin=(0.0, 0.0), scale=1.0):
        """
        Make an affine transform from a matrix.

        Parameters
        ----------
        matrix : array-like
            Shape (2, 3): ``[u, v] = matrix @ [x, y, 1]``.
        origin, scale : optional
            Normalization of the result.

        Returns
        -------
        `PolynomialTransform`
            The transform, of degree 1.

        Examples
        --------
        >>> from esis_ndcube.registration import PolynomialTransform
        >>> PolynomialTransform.from_affine([[2, 0, 0], [0, 2, 0]], origin=(5, 5), scale=10)([1], [2])
        (array([2.]), array([4.]))
        """
        matrix = np.asarray(matrix, dtype=float)
        constant = matrix[:, :2] @ np.asarray(origin, dtype=float) + matrix[:, 2]
        return cls(np.column_stack([constant, matrix[:, :2] * scale]), origin, scale)

    @property
    def degree(self):
        """Degree of the polynomial (`int`)."""
        return next(degree for degree, n in TERMS.items() if n == self.coefficients.shape[1])

    @property
    def exponents(self):
        """Exponents (i, j) of X and Y of each term (`numpy.ndarray`, shape (n, 2))."""
        return exponents(self.degree)

    def _basis(self, x, y):
        x = (np.asarray(plain_array(x, "x"), dtype=float) - self.origin[0]) / self.scale
        y = (np.asarray(plain_array(y, "y"), dtype=float) - self.origin[1]) / self.scale
        return x, y

    def __call__(self, x, y):
        """
        Map pixels.

        Parameters
        ----------
        x, y : array-like
            Pixel coordinates of one shape.

        Returns
        -------
        u, v : `numpy.ndarray`
            Mapped coordinates, of that shape.
        """
        x, y = self._basis(x, y)
        return tuple(_evaluate(row, x, y, self.degree) for row in self.coefficients)

    @property
    def grids(self):
        """
        Coefficients by exponents (`numpy.ndarray`, shape (2, degree + 1, degree + 1)).

        The factor of X^i Y^j is at [:, i, j].
        """
        grids = np.zeros((2, self.degree + 1, self.degree + 1))
        i, j = self.exponents.T
        grids[:, i, j] = self.coefficients
        return grids

    def terms(self, x, y):
        """
        The polynomial terms that the coefficients multiply.

        Parameters
        ----------
        x, y : array-like
            Pixel coordinates of one shape.

        Returns
        -------
        `numpy.ndarray`
            Shape (..., n): 1, X, Y, X^2, XY, Y^2, ...

        Examples
        --------
        >>> from esis_ndcube.registration import PolynomialTransform
        >>> PolynomialTransform.from_affine([[1, 0, 0], [0, 1, 0]], origin=(5, 5), scale=10).terms([15], [0])
        array([[ 1. ,  1. , -0.5]])
        """
        x, y = self._basis(x, y)
        return np.stack([x**i * y**j for i, j in self.exponents], axis=-1)

    def jacobian(self, x, y):
        """
        Derivatives of the map.

        Parameters
        ----------
        x, y : array-like
            Pixel coordinates of one shape.

        Returns
        -------
        `numpy.ndarray`
            Shape (..., 2, 2): ``[[du/dx, du/dy], [dv/dx, dv/dy]]``.

        Examples
        --------
        >>> from esis_ndcube.registration import PolynomialTransform
        >>> PolynomialTransform.from_affine([[2, 1, 0], [0, 3, 0]]).jacobian(0, 0)
        array([[2., 1.],
               [0., 3.]])
        """
        x, y = self._basis(x, y)
        powers = self.exponents
        result = np.empty((*np.broadcast(x, y).shape, 2, 2))
        for row, values in enumerate(self.coefficients):
            dx = sum(c * i * x ** max(i - 1, 0) * y**j for c, (i, j) in zip(values, powers, strict=True))
            dy = sum(c * j * x**i * y ** max(j - 1, 0) for c, (i, j) in zip(values, powers, strict=True))
            result[..., row, 0], result[..., row, 1] = dx / self.scale, dy / self.scale
        return result

    def inverse(self, u, v, *, tolerance=1e-10, max_iterations=30):
        """
        Find the pixels that map to given pixels, by Newton's method.

        Parameters
        ----------
        u, v : array-like
            Coordinates in the target image, of one shape.
        tolerance : `float`, optional
            Largest step in pixels at which the iteration has converged.
        max_iterations : `int`, optional
            Largest number of steps; a result that has not converged by then is NaN.

        Returns
        -------
        x, y : `numpy.ndarray`
            Coordinates of that shape.

        Examples
        --------
        >>> from esis_ndcube.registration import PolynomialTransform
        >>> bend = PolynomialTransform([[0, 1, 0, 1e-4, 0, 0], [0, 0, 1, 0, 0, 0]])
        >>> x, y = bend.inverse(*bend(300.0, 20.0))
        >>> bool(abs(x - 300) < 1e-9)
        True
        """
        u, v = (np.asarray(plain_array(values, name), dtype=float) for values, name in ((u, "u"), (v, "v")))
        u, v = np.broadcast_arrays(u, v)
        linear = self.coefficients[:, 1:3] / self.scale
        start = np.linalg.solve(linear, np.stack([u, v]).reshape(2, -1) - self.coefficients[:, :1])
        x, y = (start + self.origin[:, None]).reshape(2, *u.shape)
        if self.degree == 1:
            return x, y
        step = np.full(u.shape, np.inf)
        for _ in range(max_iterations):
            fu, fv = self(x, y)
            du, dv = u - fu, v - fv
            j = self.jacobian(x, y)
            with np.errstate(divide="ignore", invalid="ignore"):
                determinant = j[..., 0, 0] * j[..., 1, 1] - j[..., 0, 1] * j[..., 1, 0]
                dx = (j[..., 1, 1] * du - j[..., 0, 1] * dv) / determinant
                dy = (j[..., 0, 0] * dv - j[..., 1, 0] * du) / determinant
            x, y = x + dx, y + dy
            step = np.hypot(dx, dy)
            if not (step > tolerance).any():
                break
        failed = ~(step <= tolerance)
        return np.where(failed, np.nan, x), np.where(failed, np.nan, y)

    def renormalized(self, origin, scale, *, degree=None):
        """
        Write the same map about another origin and with another scale.

        Parameters
        ----------
        origin : array-like
            The new pixel :math:`(x_0, y_0)`.
        scale : `float`
            The new length :math:`s`.
        degree : `int`, optional
            Degree of the result; by default the map's own, which is also the least.

        Returns
        -------
        `PolynomialTransform`
            The same map.

        Examples
        --------
        >>> from esis_ndcube.registration import PolynomialTransform
        >>> PolynomialTransform.from_affine([[1, 0, 3], [0, 1, 0]]).renormalized((5, 0), 10).coefficients
        array([[ 8., 10.,  0.],
               [ 0.,  0., 10.]])
        """
        identity = PolynomialTransform.from_affine(np.eye(2, 3), origin=origin, scale=scale)
        return self.compose(identity, degree=degree)

    def compose(self, inner, *, degree=None):
        """
        The map that applies ``inner`` first and this map after it.

        Parameters
        ----------
        inner : `PolynomialTransform`
            The map applied first; the result has its origin and scale.
        degree : `int`, optional
            Degree of the result, by default the product of both degrees.

        Returns
        -------
        `PolynomialTransform`
            ``self(inner(x, y))``, exactly.

        Raises
        ------
        ValueError
            If the composition has a higher degree than a transform can have.

        Examples
        --------
        >>> from esis_ndcube.registration import PolynomialTransform
        >>> double = PolynomialTransform.from_affine([[2, 0, 0], [0, 2, 0]])
        >>> shift = PolynomialTransform.from_affine([[1, 0, 3], [0, 1, 0]])
        >>> double.compose(shift)([1], [1])
        (array([8.]), array([2.]))
        """
        exact = self.degree * inner.degree
        degree = exact if degree is None else degree
        if not exact <= degree <= max(TERMS):
            msg = (
                f"composing degrees {self.degree} and {inner.degree} gives degree {exact}, "
                f"which does not fit into {min(degree, max(TERMS))}"
            )
            raise ValueError(msg)
        x, y = _as_grids(inner, self)
        size = degree + 1
        powers = [[None] * (self.degree + 1) for _ in range(2)]
        for axis, grid in enumerate((x, y)):
            powers[axis][0] = np.ones((1, 1))
            for k in range(1, self.degree + 1):
                powers[axis][k] = _multiply(powers[axis][k - 1], grid)
        coefficients = np.empty((2, len(exponents(degree))))
        for row, values in enumerate(self.coefficients):
            total = np.zeros((size, size))
            for value, (i, j) in zip(values, self.exponents, strict=True):
                term = _multiply(powers[0][i], powers[1][j])
                n, m = min(size, term.shape[0]), min(size, term.shape[1])
                total[:n, :m] += value * term[:n, :m]
            coefficients[row] = [total[i, j] for i, j in exponents(degree)]
        return PolynomialTransform(coefficients, inner.origin, inner.scale)

    def decompose(self, x, y):
        """
        Rotation, scales, shear and position of the map about a pixel.

        Parameters
        ----------
        x, y : `float`
            The pixel.

        Returns
        -------
        `dict`
            ``rotation`` and ``shear`` in degrees, ``scale_x`` and ``scale_y`` (target pixels per pixel along the
            target's axes), ``u`` and ``v`` (the pixel's image): the Jacobian is
            ``diag(scale_x, scale_y) @ [[1, tan(shear)], [0, 1]] @ R(rotation)`` up to the rows' norms.

        Examples
        --------
        >>> from esis_ndcube.registration import PolynomialTransform
        >>> turn = PolynomialTransform.from_affine([[0, -2, 0], [2, 0, 0]])
        >>> {key: float(round(value, 6)) + 0 for key, value in turn.decompose(0, 0).items()}
        {'u': 0.0, 'v': 0.0, 'scale_x': 2.0, 'scale_y': 2.0, 'rotation': 90.0, 'shear': 0.0}
        """
        (a, b), (c, d) = self.jacobian(float(x), float(y))
        u, v = self(float(x), float(y))
        row_u, row_v = np.arctan2(-b, a), np.arctan2(c, d)
        shear = wrap(row_u - row_v, np.pi)
        rotation = row_v + shear / 2
        return {
            "u": float(u),
            "v": float(v),
            "scale_x": float(np.hypot(a, b)),
            "scale_y": float(np.hypot(c, d)),
            "rotation": float(np.degrees(wrap(rotation, np.pi))),
            "shear": float(np.degrees(shear)),
        }


def center_and_scale(shape):
    """Origin and length of the transforms from images of a shape."""
    rows, columns = shape
    return ((columns - 1) / 2, (rows - 1) / 2), max(rows, columns) / 2


def nearest_transform(x, y, target, like):
    """The polynomial nearest to a map given at points, of the degree and about the origin of another transform."""
    coefficients = np.linalg.lstsq(like.terms(x, y), np.stack(target, axis=1), rcond=None)[0].T
    return PolynomialTransform(coefficients, like.origin, like.scale)


def rms_distance(one, other, x, y):
    """RMS distance of two maps at points, in pixels of the image."""
    return float(np.sqrt(np.mean(np.sum(np.subtract(one(x, y), other(x, y)) ** 2, axis=0))))


def stretch_and_turn(before, after):
    """Largest change of length (relative) and the turn (radian) between two maps, at the origin of the first."""
    x, y = before.origin
    change = np.linalg.solve(before.jacobian(x, y), after.jacobian(x, y))
    stretch = np.abs(np.linalg.svd(change, compute_uv=False) - 1).max()
    return stretch, np.arctan2(change[1, 0] - change[0, 1], change[0, 0] + change[1, 1])


def point_covariances(terms, covariance):
    """Covariances of (u, v), shape (..., 2, 2), from the terms at points and the covariance of the coefficients."""
    n = terms.shape[-1]
    return np.einsum("...k,ikjl,...l->...ij", terms, covariance.reshape(2, n, 2, n), terms, optimize=True)


def binned(transform, factor, corner=(0, 0)):
    """The same map between binned pixels; those of the image count from a corner."""
    shift = (factor - 1) / 2
    coefficients = transform.coefficients.copy()
    coefficients[:, 0] -= np.add(corner, shift)
    return PolynomialTransform(coefficients / factor, (transform.origin - shift) / factor, transform.scale / factor)


def unbinned(transform, factor, corner=(0, 0)):
    """Undo `binned`."""
    shift = (factor - 1) / 2
    coefficients = transform.coefficients * factor
    coefficients[:, 0] += np.add(corner, shift)
    return PolynomialTransform(coefficients, transform.origin * factor + shift, transform.scale * factor)


def exponents(degree):
    """Exponents (i, j) of the terms of a bivariate polynomial, by total degree: shape (n, 2)."""
    return np.array([(total - j, j) for total in range(degree + 1) for j in range(total + 1)])


def _evaluate(values, x, y, degree):
    """Horner's rule in Y of Horner's rules in X, which is fast on large arrays."""
    grid = np.zeros((degree + 1, degree + 1))
    for value, (i, j) in zip(values, exponents(degree), strict=True):
        grid[j, i] = value
    result = np.zeros(np.broadcast(x, y).shape)
    for j in range(degree, -1, -1):
        row = np.full(np.shape(x), grid[j, degree - j])
        for i in range(degree - j - 1, -1, -1):
            row = row * x
            row += grid[j, i]
        result *= y
        result += row
    return result[()]


def _as_grids(inner, outer):
    """The normalized outer coordinates as coefficient grids [i, j] in the inner ones."""
    grids = []
    for row, origin in zip(inner.coefficients, outer.origin, strict=True):
        grid = np.zeros((inner.degree + 1, inner.degree + 1))
        for value, (i, j) in zip(row, inner.exponents, strict=True):
            grid[i, j] = value
        grid[0, 0] -= origin
        grids.append(grid / outer.scale)
    return grids


def _multiply(a, b):
    """Product of two polynomials given as coefficient grids."""
    result = np.zeros(np.add(a.shape, b.shape) - 1)
    for i, j in np.argwhere(a):
        result[i : i + b.shape[0], j : j + b.shape[1]] += a[i, j] * b
    return result
