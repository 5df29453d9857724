"""One model for all exposures: a static distortion per channel and a rigid pointing per exposure."""

from dataclasses import dataclass, replace

import numpy as np

from sunpy.util.exceptions import warn_user

from esis_ndcube.registration._image_inputs import sample_pixels
from esis_ndcube.registration.transform import PolynomialTransform, nearest_transform, rms_distance

__all__ = ["LEAST_EXPOSURES", "Joint", "fit_joint", "usable_times"]

# Fewer exposures than this cannot tell a static distortion from their own errors.
LEAST_EXPOSURES = 3

# Reduced chi-square of a static distortion is about 1.
_MAX_CHI_SQUARE = 3.0
_ITERATIONS = 4
_SAMPLES = 25


@dataclass(frozen=True, eq=False)
class Joint:
    """
    Alignments that share one static distortion per channel.

    Attributes
    ----------
    alignments : `numpy.ndarray`
        Objects `~esis_ndcube.Alignment`, shape (time, channel), of stage ``"final"``; alignments that could not enter
        the model stay as they were given.
    residual : `numpy.ndarray`
        RMS distance in detector pixels of each alignment from the fit to its exposure alone, shape (time, channel); NaN
        if there is none. If the distance is larger than the alignments' uncertainty, the distortion was not static.
    chi_square : `dict`
        Reduced chi-square of each channel by number: the distance of the independent fits from the model, in units of
        their error bars. Above 1 the distortion was not static; below 1 the independent fits have common errors, from
        features that stay from exposure to exposure.
    static : `dict`
        Static map of each channel by number, a `PolynomialTransform`.
    motion : `numpy.ndarray`
        Shift along x and y in pixels of the grid and roll in radian about its middle, relative to the static map, shape
        (time, channel, 3); NaN if there is none.
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
        The place at which the model expects a frame that could not enter it.

        The shift is that of the nearest exposure of the channel. If the reference channel was seen in both exposures,
        its motion from one to the other is added.

        Parameters
        ----------
        time, channel : `int`
            Indices of exposure and channel, from 0.

        Returns
        -------
        `tuple` of `PolynomialTransform` and `numpy.ndarray`
            The transform and the covariance of its coefficients relative to the reference, as for the nearest exposure,
            or None if the channel has no static map.

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

    The covariance of the result is that of the least squares, times chi-square if it is above 1. If chi-square is below
    1 by more than its own scatter, the independent fits have errors that do not change from exposure to exposure. The
    missing share of chi-square is the share of these errors in the variances, and no number of exposures makes it
    smaller.

    Parameters
    ----------
    alignments : `numpy.ndarray`
        Objects `~esis_ndcube.Alignment`, shape (time, channel), of independent fits.
    reference_channel : `int`
        Number of the channel that the others were aligned with.

    Returns
    -------
    `Joint`
        The alignments of the model. A warning names the channels whose distortion was not static.

    Raises
    ------
    ValueError
        If there is no such channel, or there are fewer than three exposures with a good reference channel.

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
    times = usable_times(alignments, anchor)
    if len(times) < LEAST_EXPOSURES:
        msg = f"got {len(times)} exposures with a good channel {reference_channel}, expected {LEAST_EXPOSURES} or more"
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
            if len(before) < LEAST_EXPOSURES:
                continue
            fitted = _solve(before, rolls={t: anchored.motions[t][2] for t in times})
        static[number], chi_square[number] = fitted.static, fitted.chi_square
        for t, transform in fitted.transforms.items():
            motion[t, channel] = fitted.motions[t]
            residual[t, channel] = rms_distance(transform, before[t].transform, x, y)
            changes = {"transform": transform, "covariance": fitted.covariances[t]}
            if channel != anchor:
                changes["reference_covariance"] = carried(anchored.transforms[t], transform, anchored.covariances[t])
            result[t, channel] = replace(alignments[t, channel], **changes)
    if changing := {number: value for number, value in chi_square.items() if value > _MAX_CHI_SQUARE}:
        rows = ", ".join(f"channel {number} (chi-square {value:.3g})" for number, value in changing.items())
        warn_user(
            f"the distortion changes from exposure to exposure by more than the errors of the maps: {rows}; "
            f'give model="independent" for maps that may differ'
        )
    return Joint(result, residual, chi_square, static, motion, int(reference_channel))


def carried(before, after, covariance):
    """
    Errors of one map in another map that was measured against it.

    Parameters
    ----------
    before, after : `PolynomialTransform`
        Maps from the same grid.
    covariance : `numpy.ndarray`
        Covariance of the coefficients of ``before``, shape (2 n, 2 n).

    Returns
    -------
    `numpy.ndarray`
        Covariance of the coefficients of ``after``; ``before`` may have fewer coefficients.
    """
    here, there = (transform.jacobian(*transform.origin) for transform in (after, before))
    sizes = (transform.coefficients.shape[1] for transform in (after, before))
    carry = np.kron(here @ np.linalg.inv(there), np.eye(*sizes))
    return carry @ covariance @ carry.T


def usable_times(alignments, channel):
    """
    Exposures whose alignment can enter the model.

    Parameters
    ----------
    alignments : `numpy.ndarray`
        Objects `~esis_ndcube.Alignment` or None, shape (time, channel).
    channel : `int`
        Index of the channel.

    Returns
    -------
    `list` of `int`
        Indices of the exposures.
    """
    return [t for t, row in enumerate(alignments) if _usable(row[channel])]


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
    The alignment as it would be with another alignment of the reference channel.

    The measurement says which pixels of the two detectors show the same place. The pixel of the reference channel lay
    at ``before`` on the grid and lies at ``after``.
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
    """Static map and motions of one channel from alignments by exposure; rolls are found if they are not given."""
    times = sorted(measured)
    first = measured[times[0]].transform
    degree = max(measured[t].transform.degree for t in times)
    maps = [measured[t].transform.renormalized(first.origin, first.scale, degree=degree) for t in times]
    data = np.array([transform.coefficients.ravel() for transform in maps])
    weights = np.linalg.inv([_covariance(measured[t], data.shape[1]) for t in times])
    free = 3 if rolls is None else 2
    turns = np.array([0.0 if rolls is None else rolls[t] for t in times])
    scale = np.sqrt(np.diag(weights.sum(axis=0)))
    static = data.mean(axis=0)
    for _ in range(_ITERATIONS):
        basis = _motion_basis(PolynomialTransform(static.reshape(2, -1), first.origin, first.scale))
        moving, targets = basis[:, :free], data - turns[:, None] * basis[:, 2]
        # The motions of each exposure are solved for first, for a given static map; the rest is small.
        own = np.linalg.inv(moving.T @ weights @ moving)
        follow = own @ moving.T @ weights
        keep = np.eye(len(static)) - moving @ follow
        reduced = keep.transpose(0, 2, 1) @ weights @ keep
        # A motion that all exposures have in common may stand in either part; the pseudoinverse leaves it open.
        inverse = _pseudoinverse(reduced.sum(axis=0), scale, free)
        static = inverse @ np.einsum("tij,tj->i", reduced, targets)
        motions = np.einsum("tij,tj->ti", follow, targets - static)
        # The mean motion belongs to the static map.
        mean = motions.mean(axis=0)
        static, motions = static + moving @ mean, motions - mean
    fitted = static + motions @ moving.T
    off = targets - fitted
    freedom = len(times) * (len(static) - free) - len(static)
    chi_square = float(np.einsum("ti,tij,tj->", off, weights, off) / freedom)
    # Chi-square has a scatter of its own, which must not count as lasting errors.
    short = 1 - chi_square if 1 - chi_square > 2 * np.sqrt(2 / freedom) else 0.0
    # Weak exposures have little weight in the static map, and so do their errors.
    lasting = short * np.linalg.inv(weights.mean(axis=0))
    factor = 1 - short if short else max(chi_square, 1.0)
    errors = factor * (keep @ inverse @ keep.transpose(0, 2, 1) + moving @ own @ moving.T) + lasting
    maps = (fitted + turns[:, None] * basis[:, 2]).reshape(len(times), 2, -1)
    return _Solution(
        static=PolynomialTransform(static.reshape(2, -1), first.origin, first.scale),
        chi_square=chi_square,
        transforms={t: PolynomialTransform(m, first.origin, first.scale) for t, m in zip(times, maps, strict=True)},
        covariances=dict(zip(times, errors, strict=True)),
        motions=dict(zip(times, np.column_stack([motions, turns])[:, :3], strict=True)),
    )


def _pseudoinverse(matrix, scale, free):
    """Pseudoinverse of a symmetric matrix with a given number of missing directions, and rows of given scales."""
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    values, vectors = values[free:], vectors[:, free:] / scale[:, None]
    return (vectors / values) @ vectors.T


def _covariance(alignment, size):
    """Covariance of a given number of coefficients; coefficients beyond the map's degree are exactly 0."""
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
