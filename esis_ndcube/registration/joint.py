"""One model for all exposures: a static distortion per channel and a rigid pointing per exposure."""

from dataclasses import dataclass, replace

import numpy as np

from esis_ndcube.registration._image_inputs import sample_pixels
from esis_ndcube.registration.transform import PolynomialTransform, nearest_transform, rms_distance

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
        Objects `~esis_ndcube.Alignment`, shape (time, channel), of stage ``"final"``; those that could not enter the
        model are as they were given.
    residual : `numpy.ndarray`
        RMS distance in detector pixels of each alignment from the one that was fitted to its exposure alone, shape
        (time, channel); NaN where there is none. Where it is larger than the alignments' uncertainty, the distortion
        was not static.
    chi_square : `dict`
        Reduced chi-square of each channel by number: how far the independent fits lie from the model, in units of
        their error bars. Above 1 the distortion was not static; below 1 the independent fits have errors in common,
        made by features that stay from exposure to exposure.
    static : `dict`
        Static map of each channel by number, a `PolynomialTransform`.
    motion : `numpy.ndarray`
        Shift along x and y in pixels of the grid and roll in radian about its middle, relative to the static map,
        shape (time, channel, 3); NaN where there is none.
    reference_channel : `int`
        Number of the channel that the others were aligned with.

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
    static: dict
    motion: np.ndarray
    reference_channel: int

    def predict(self, time, channel):
        """
        Where the model expects a frame that could not enter it.

        The shift is that of the nearest exposure of the channel. If the reference channel was seen in both exposures,
        its motion from one to the other is added.

        Parameters
        ----------
        time, channel : `int`
            Indices of exposure and channel, from 0.

        Returns
        -------
        `tuple` of `PolynomialTransform` and `numpy.ndarray`
            The transform and the covariance of its coefficients relative to the reference, as that of the nearest
            exposure, or None where the channel has no static map.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel1Cube, coalign
        >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
        >>> coalign(level1, model="joint").joint.predict(15, 3)  # doctest: +SKIP
        """
        numbers = [int(alignment.channel) for alignment in self.alignments[0]]
        if numbers[channel] not in self.static:
            return None
        known = np.flatnonzero(np.isfinite(self.motion[:, channel, 0]))
        nearest = known[np.abs(known - time).argmin()]
        anchor = self.motion[:, numbers.index(self.reference_channel)]
        turn = anchor[time] - anchor[nearest]
        motion = self.motion[nearest, channel] + np.where(np.isfinite(turn), turn, 0)
        static = self.static[numbers[channel]]
        coefficients = static.coefficients.ravel() + _motion_basis(static) @ motion
        transform = PolynomialTransform(coefficients.reshape(2, -1), static.origin, static.scale)
        return transform, self.alignments[nearest, channel].covariance


def fit_joint(alignments, *, reference_channel):
    r"""
    Replace independent alignments by one static distortion per channel and a rigid pointing per exposure.

    The map of channel c in exposure t is :math:`S_c(x + d_{tc} + \theta_t\,\hat z \times x)`: the static quadratic map
    :math:`S_c` after a shift per channel and exposure and a roll per exposure that all channels have in common.
    Linear in the small motions, the coefficients of every independent fit are :math:`s_c + B_c m_{tc}`, and all of
    them are solved for by least squares, weighted with the inverse covariances of the fits.
    First the reference channel's static map, shifts and rolls follow from its own alignments; then those of the other
    channels, measured against it in the same exposure, so that the errors of the reference channel's independent
    alignments do not enter.

    The covariance of the result is that of the least squares, times chi-square where that is above 1.
    Where it is below 1 by more than its own scatter, what it is short of is the share of the independent fits'
    variances that does not change from exposure to exposure, and that no number of exposures makes smaller.

    Parameters
    ----------
    alignments : `numpy.ndarray`
        Objects `~esis_ndcube.Alignment`, shape (time, channel), of independent fits.
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
    result, residual = alignments.copy(), np.full(alignments.shape, np.nan)
    motion = np.full((*alignments.shape, 3), np.nan)
    chi_square, static = {}, {}
    x, y = _samples(alignments[times[0], anchor])
    own = {t: alignments[t, anchor] for t in times}
    anchored = _solve(own)
    for channel, number in enumerate(numbers):
        fitted, before = anchored, own
        if channel != anchor:
            before = {
                t: _measured_against(alignments[t, channel], own[t].transform, anchored.transforms[t], x, y)
                for t in times
                if _usable(alignments[t, channel])
            }
            if len(before) < _LEAST_EXPOSURES:
                continue
            fitted = _solve(before, rolls={t: anchored.motions[t][2] for t in times})
        static[number], chi_square[number] = fitted.static, fitted.chi_square
        for t, transform in fitted.transforms.items():
            motion[t, channel] = fitted.motions[t]
            residual[t, channel] = rms_distance(transform, before[t].transform, x, y)
            changes = {"transform": transform, "covariance": fitted.covariances[t], "misfit": None}
            if channel != anchor:
                changes["reference_covariance"] = carried(anchored.transforms[t], transform, anchored.covariances[t])
            result[t, channel] = replace(alignments[t, channel], **changes)
    return Joint(result, residual, chi_square, static, motion, int(reference_channel))


def carried(before, after, covariance):
    """
    What errors of one map become in another that was measured against it.

    Parameters
    ----------
    before, after : `PolynomialTransform`
        Maps from the same grid.
    covariance : `numpy.ndarray`
        Covariance of the coefficients of ``before``, shape (2 n, 2 n).

    Returns
    -------
    `numpy.ndarray`
        Covariance of the coefficients of ``after``, of which ``before`` may have fewer.
    """
    here, there = (transform.jacobian(*transform.origin) for transform in (after, before))
    sizes = (transform.coefficients.shape[1] for transform in (after, before))
    carry = np.kron(here @ np.linalg.inv(there), np.eye(*sizes))
    return carry @ covariance @ carry.T


def _usable(alignment):
    return alignment is not None and alignment.converged and np.isfinite(alignment.covariance).all()


def _samples(alignment):
    """Grid pixels that fall on the detector, thinned out."""
    x, y = sample_pixels(alignment.grid.array_shape, _SAMPLES)
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
    target = alignment.transform(*on_old_grid)
    return replace(alignment, transform=nearest_transform(x, y, target, alignment.transform))


@dataclass(frozen=True, eq=False)
class _Solution:
    """Static map of one channel; transforms, their covariances and motions by exposure."""

    static: PolynomialTransform
    chi_square: float
    transforms: dict
    covariances: dict
    motions: dict


def _solve(measured, rolls=None):
    """Static map and motions of one channel from alignments by exposure; the rolls are found if they are not given."""
    times = sorted(measured)
    first = measured[times[0]].transform
    degree = max(2, *(measured[t].transform.degree for t in times))
    maps = [measured[t].transform.renormalized(first.origin, first.scale, degree=degree) for t in times]
    data, size = [transform.coefficients.ravel() for transform in maps], maps[0].coefficients.size
    covariances = [_covariance(measured[t], size) for t in times]
    weights = [np.linalg.inv(covariance) for covariance in covariances]
    free = 3 if rolls is None else 2
    turns = [0.0 if rolls is None else rolls[t] for t in times]
    count = size + free * len(times)
    static = np.mean(data, axis=0)
    for _ in range(_ITERATIONS):
        basis = _motion_basis(PolynomialTransform(static.reshape(2, -1), first.origin, first.scale))
        designs = [_design(k, basis[:, :free], count) for k in range(len(times))]
        targets = [values - basis[:, 2] * turn for values, turn in zip(data, turns, strict=True)]
        normal = sum(d.T @ w @ d for d, w in zip(designs, weights, strict=True))
        right = sum(d.T @ w @ target for d, w, target in zip(designs, weights, targets, strict=True))
        # The mean motion belongs to the static map.
        for m in range(free):
            gauge = np.zeros(count)
            gauge[size + m :: free] = 1
            normal += np.outer(gauge, gauge) * np.trace(normal) / count
        scale = np.sqrt(np.diag(normal))
        inverse = np.linalg.inv(normal / np.outer(scale, scale)) / np.outer(scale, scale)
        solution = inverse @ right
        static = solution[:size]
    motions = np.column_stack([solution[size:].reshape(len(times), free), turns])[:, :3]
    off = [target - design @ solution for target, design in zip(targets, designs, strict=True)]
    freedom = len(times) * (size - free) - size
    chi_square = float(sum(o @ w @ o for o, w in zip(off, weights, strict=True)) / freedom)
    # Chi-square has a scatter of its own, which must not pass for errors that last.
    short = 1 - chi_square if 1 - chi_square > 2 * np.sqrt(2 / freedom) else 0.0
    lasting = short * np.mean(covariances, axis=0)
    return _Solution(
        static=PolynomialTransform(static.reshape(2, -1), first.origin, first.scale),
        chi_square=chi_square,
        transforms={
            t: PolynomialTransform((values - o).reshape(2, -1), first.origin, first.scale)
            for t, values, o in zip(times, data, off, strict=True)
        },
        covariances={
            t: (1 - short if short else max(chi_square, 1.0)) * design @ inverse @ design.T + lasting
            for t, design in zip(times, designs, strict=True)
        },
        motions=dict(zip(times, motions, strict=True)),
    )


def _design(number, basis, count):
    """What the static map and the motion of one exposure add to its coefficients."""
    size, free = basis.shape
    design = np.zeros((size, count))
    design[:, :size] = np.eye(size)
    first = size + free * number
    design[:, first : first + free] = basis
    return design


def _covariance(alignment, size):
    """Covariance of so many coefficients; those that a map of a lower degree lacks are 0 without doubt."""
    lower = alignment.covariance.shape[0]
    covariance = np.zeros((size, size)) if lower == size else 1e-12 * np.eye(size)
    # Terms of lower degree come first, in u and in v.
    kept = np.concatenate([np.arange(lower // 2), size // 2 + np.arange(lower // 2)])
    covariance[np.ix_(kept, kept)] += alignment.covariance
    return covariance


def _motion_basis(static):
    """Change of the coefficients by a shift along x, one along y, and a roll of the grid: shape (2 n, 3)."""
    powers = [tuple(power) for power in static.exponents.tolist()]
    place = {power: number for number, power in enumerate(powers)}
    basis = np.zeros((2, len(powers), 3))
    for row, values in enumerate(static.coefficients):
        for value, (i, j) in zip(values, powers, strict=True):
            # The gradient of X^i Y^j, and (dx, dy) = roll * (-y, x) times it.
            if i:
                basis[row, place[i - 1, j], 0] += value * i / static.scale
                basis[row, place[i - 1, j + 1], 2] -= value * i
            if j:
                basis[row, place[i, j - 1], 1] += value * j / static.scale
                basis[row, place[i + 1, j - 1], 2] += value * j
    return basis.reshape(-1, 3)
