"""One model for all exposures: a static distortion per channel and a rigid pointing per exposure."""

from dataclasses import dataclass, replace

import numpy as np

from esis_ndcube.registration.transform import PolynomialTransform

__all__ = ["Joint", "fit_joint"]

_ITERATIONS = 4
_SAMPLES = 25
# Fewer exposures than this can not tell a static distortion from their own errors.
_LEAST_EXPOSURES = 3


@dataclass(frozen=True, eq=False)
class Joint:
    """
    Alignments that share one static distortion per channel.

    Attributes
    ----------
    alignments : `numpy.ndarray`
        Objects `Alignment`, shape (time, channel), of stage ``"final"``; those that could not enter the model are as
        they were given.
    residual : `numpy.ndarray`
        RMS distance in detector pixels of each alignment from the one that was fitted to its exposure alone, shape
        (time, channel); NaN where there is none. Where it is larger than the alignments' uncertainty, the distortion
        was not static.
    chi_square : `dict`
        Reduced chi-square of each channel by number: how far the independent fits lie from the model, in units of
        their error bars.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube, coalign
    >>> from esis_ndcube.registration import fit_joint
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> joint = fit_joint(coalign(level1).final, reference_channel=2)  # doctest: +SKIP
    >>> joint.chi_square  # doctest: +SKIP
    {1: 1.1, 2: 0.9, 3: 1.2, 4: 1.0}
    """

    alignments: np.ndarray
    residual: np.ndarray
    chi_square: dict


def fit_joint(alignments, *, reference_channel):
    r"""
    Replace independent alignments by one static distortion per channel and a rigid pointing per exposure.

    The map of channel c in exposure t is :math:`S_c(x + d_{tc} + \theta_t\,\hat z \times x)`: the static quadratic map
    :math:`S_c` after a shift per channel and exposure and a roll per exposure that all channels have in common.
    Linear in the small motions, the coefficients of every independent fit are :math:`s_c + B_c m_{tc}`, and all of
    them are solved for by least squares, weighted with the inverse covariances of the fits, that is with their normal
    matrices.
    First the reference channel's static map, shifts and rolls follow from its own alignments; then those of the other
    channels, measured against it in the same exposure, so that the errors of the reference channel's independent
    alignments do not enter.

    Parameters
    ----------
    alignments : `numpy.ndarray`
        Objects `Alignment`, shape (time, channel), of independent fits.
    reference_channel : `int`
        Number of the channel that the others were aligned with.

    Returns
    -------
    `Joint`
        The alignments of the model.

    Raises
    ------
    ValueError
        If there is no such channel, or fewer than three exposures with a good reference channel.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube, coalign
    >>> from esis_ndcube.registration import fit_joint
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> joint = fit_joint(coalign(level1).final, reference_channel=2)  # doctest: +SKIP
    """
    numbers = [int(alignment.channel) for alignment in alignments[0]]
    if reference_channel not in numbers:
        msg = f"got reference channel {reference_channel}, expected one of {numbers}"
        raise ValueError(msg)
    anchor = numbers.index(reference_channel)
    times = [t for t, row in enumerate(alignments) if _usable(row[anchor])]
    if len(times) < _LEAST_EXPOSURES:
        msg = f"got {len(times)} exposures with a good channel {reference_channel}, expected {_LEAST_EXPOSURES} or more"
        raise ValueError(msg)
    result = alignments.copy()
    residual = np.full(alignments.shape, np.nan)
    chi_square = {}
    x, y = _samples(alignments[times[0], anchor])
    own = {t: alignments[t, anchor] for t in times}
    anchored, rolls = _solve(own, roll=None)
    moved = {t: anchored[t][0] for t in times}
    for channel, number in enumerate(numbers):
        fitted = anchored
        if channel != anchor:
            measured = {
                t: _measured_against(alignments[t, channel], own[t].transform, moved[t], x, y)
                for t in times
                if _usable(alignments[t, channel]) and alignments[t, channel].stage == "final"
            }
            if len(measured) < _LEAST_EXPOSURES:
                continue
            fitted, _ = _solve(measured, roll=rolls)
        chi_square[number] = _chi_square(fitted)
        for t, (transform, covariance, _, before) in fitted.items():
            residual[t, channel] = _distance(transform, before, x, y)
            result[t, channel] = replace(
                alignments[t, channel], transform=transform, covariance=covariance * max(chi_square[number], 1.0)
            )
    return Joint(result, residual, chi_square)


def _usable(alignment):
    return alignment is not None and alignment.converged and np.isfinite(alignment.covariance).all()


def _samples(alignment):
    """Grid pixels that fall on the detector, thinned out."""
    rows, columns = alignment.grid.array_shape
    axes = (np.linspace(0, n - 1, _SAMPLES) for n in (columns, rows))
    x, y = (a.ravel() for a in np.meshgrid(*axes))
    u, v = alignment.transform(x, y)
    inside = (u >= 0) & (u < alignment.shape[1]) & (v >= 0) & (v < alignment.shape[0])
    return x[inside], y[inside]


def _measured_against(alignment, before, after, x, y):
    """
    The alignment as it were if that of the reference channel had been another.

    What was measured is which pixels of both detectors show the same; the pixel of the reference channel lay at
    ``before`` on the grid and lies at ``after``.
    """
    on_old_grid = before.inverse(*after(x, y))
    transform = _fit(alignment.transform(*on_old_grid), alignment.transform, x, y)
    return replace(alignment, transform=transform)


def _fit(target, like, x, y):
    """The polynomial of degree 2, about the origin of ``like``, nearest to a map given at points."""
    terms = _terms(like, x, y)
    coefficients = np.linalg.lstsq(terms.T, np.stack(target, axis=1), rcond=None)[0].T
    return PolynomialTransform(coefficients, like.origin, like.scale)


def _terms(transform, x, y):
    x, y = (x - transform.origin[0]) / transform.scale, (y - transform.origin[1]) / transform.scale
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def _solve(measured, *, roll):
    """
    Static map and motions of one channel.

    ``measured`` holds alignments by exposure; ``roll`` the rolls, or None to find them.
    Returns (transform, covariance, chi-square and degrees of freedom, independent transform) by exposure, and rolls.
    """
    times = sorted(measured)
    first = measured[times[0]].transform
    size = 12
    data, weights = [], []
    for t in times:
        transform = measured[t].transform.renormalized(first.origin, first.scale, degree=2)
        data.append(transform.coefficients.ravel())
        covariance = _covariance(measured[t])
        weights.append(np.linalg.inv(covariance))
    motions = 2 if roll is not None else 3
    static = np.mean(data, axis=0)
    count = size + motions * len(times)
    rolls = dict.fromkeys(times, 0.0) if roll is None else roll
    for _ in range(_ITERATIONS):
        basis = _motion_basis(PolynomialTransform(static.reshape(2, -1), first.origin, first.scale))
        normal, right = np.zeros((count, count)), np.zeros(count)
        for k, _t in enumerate(times):
            design = np.zeros((size, count))
            design[:, :size] = np.eye(size)
            where = slice(size + motions * k, size + motions * (k + 1))
            design[:, where] = basis[:, :motions]
            target = data[k] - (0 if roll is None else basis[:, 2] * roll[_t])
            normal += design.T @ weights[k] @ design
            right += design.T @ weights[k] @ target
        # The mean motion belongs to the static map.
        for m in range(motions):
            gauge = np.zeros(count)
            gauge[size + m :: motions] = 1
            normal += np.outer(gauge, gauge) * np.trace(normal) / count
        scale = np.sqrt(np.diag(normal))
        inverse = np.linalg.inv(normal / np.outer(scale, scale)) / np.outer(scale, scale)
        solution = inverse @ right
        static = solution[:size]
    result = {}
    for k, t in enumerate(times):
        where = slice(size + motions * k, size + motions * (k + 1))
        motion = solution[where]
        coefficients = static + basis[:, :motions] @ motion
        if roll is not None:
            coefficients = coefficients + basis[:, 2] * roll[t]
        else:
            rolls[t] = motion[2]
        design = np.zeros((size, count))
        design[:, :size], design[:, where] = np.eye(size), basis[:, :motions]
        off = data[k] - coefficients
        freedom = size - motions - size / len(times)
        transform = PolynomialTransform(coefficients.reshape(2, -1), first.origin, first.scale)
        result[t] = transform, design @ inverse @ design.T, (off @ weights[k] @ off, freedom), measured[t].transform
    return result, rolls


def _covariance(alignment):
    """Covariance of the coefficients of degree 2; those that an affine map lacks are 0 without doubt."""
    if alignment.transform.degree == 2:
        return alignment.covariance
    covariance = np.eye(12) * 1e-12
    kept = np.array([0, 1, 2, 6, 7, 8])
    covariance[np.ix_(kept, kept)] += alignment.covariance
    return covariance


def _motion_basis(static):
    """Change of the coefficients by a shift along x, one along y, and a roll of the grid: shape (12, 3)."""
    (_, ax, ay, axx, axy, ayy), (_, bx, by, bxx, bxy, byy) = static.coefficients
    columns = []
    for cx, cy, cxx, cxy, cyy in ((ax, ay, axx, axy, ayy), (bx, by, bxx, bxy, byy)):
        along_x = np.array([cx, 2 * cxx, cxy, 0, 0, 0])
        along_y = np.array([cy, cxy, 2 * cyy, 0, 0, 0])
        # (dx, dy) = roll * (-y, x) times the gradient.
        turn = np.array([0, cy, -cx, cxy, 2 * (cyy - cxx), -cxy])
        columns.append(np.column_stack([along_x / static.scale, along_y / static.scale, turn]))
    return np.vstack(columns)


def _chi_square(fitted):
    total = sum(value for _, _, (value, _), _ in fitted.values())
    return float(total / sum(freedom for _, _, (_, freedom), _ in fitted.values()))


def _distance(a, b, x, y):
    return float(np.sqrt(np.mean(np.sum(np.subtract(a(x, y), b(x, y)) ** 2, axis=0))))
