"""The joint fit: slopes, gains, the Sun and the image of a second line from block means of all images."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from scipy import sparse
from scipy.spatial.distance import cdist

import astropy.units as u

from esis_ndcube.corrections.vignetting._blocks import block_means
from esis_ndcube.corrections.vignetting._difference_slopes import SlopesFit

# The image of a second line is a random field: its standard deviation relative to its mean, and the length in which its
# correlation falls to 1/e. The quiet corona varies by about half its mean over some 14 arcsec; twice this variation
# keeps the fit from taking a bright patch for vignetting.
_CONTRAST = 1.0
_LENGTH = 14 * u.arcsec
# Distance of the nodes of that field, in blocks.
_STEP = 1.5

_HUBER = 1.345  # standard deviations, 95 % efficient for Gaussian errors (Huber 1964)
# Largest last step of a slope, in its standard errors.
_TOLERANCE = 0.02
_ITERATIONS = 60
_RANGE = -0.95, 1.0
# A slope with a larger standard error is not determined.
_UNDETERMINED = 0.2

# Standard error of a slope beyond the estimated one, without and per brightness of second lines: measured on 20
# simulated flights (benchmarks/vignetting.py).
_SYSTEMATIC = 0.001, 0.01


def fit_joint_slopes(cube, alignments, present):
    """The slopes that agree with all images (`SlopesFit`)."""
    blocks = block_means(cube, alignments, present)
    use = (blocks.share > 0) & (blocks.brightness > 0)
    use &= use.sum(axis=1, keepdims=True) >= 2
    if blind := [int(n) for n, any_block in zip(cube.channel, use.any(axis=(0, 2)), strict=True) if not any_block]:
        msg = f"channel {', '.join(map(str, blind))} has no clean region in common with another one"
        raise ValueError(msg)
    pixel = np.abs(cube.flight.grid_cdelt).min() * u.arcsec
    model = _Model(blocks, use, (_LENGTH / pixel).to_value(u.one))
    state, covariance = model.fit()
    systematic = float(np.hypot(_SYSTEMATIC[0], _SYSTEMATIC[1] * np.abs(state.means).sum()))
    names = [line.name for line in blocks.lines]
    return SlopesFit(state.slopes, covariance, systematic, dict(zip(names, state.means.tolist(), strict=True)))


class _State(NamedTuple):
    """Parameters: slopes, mean of each second line, its field at the nodes, log gains, brightness of the Sun."""

    slopes: np.ndarray
    means: np.ndarray
    field: np.ndarray
    gains: np.ndarray
    sun: np.ndarray


class _Model:
    r"""
    The model of the block means and its least squares.

    .. math:: \log Y_{tcb} = g_{tc} + \log[(1 + m_c f_{tcb}) S_{tb}
              + \overline{S}_t \sum_l C_{ltcb} (1 + m_c f_{ltcb}) z_l(\mathbf{x}_{ltcb})]

    for exposure t, channel c and block b: gains g, slopes m, positions f in the field stop, the Sun S; and for each
    second line l its cover C and its field z, relative to the mean brightness of the Sun, at its own place x.
    Gauss-Newton steps, from which the Sun is eliminated block by block; z has a Gaussian prior about its mean.
    """

    def __init__(self, blocks, use, length):
        self.blocks, self.use = blocks, use
        self.logs = np.log(np.where(use, blocks.brightness, 1))
        channels = use.shape[1]
        seen = use.any(axis=2)
        # One channel of each exposure has the gain 1.
        free = seen & (np.cumsum(seen, axis=1) > 1)
        self.n_slopes, self.n_lines = channels, len(blocks.lines)
        self.first_gain = channels + self.n_lines
        self.gain = np.full(seen.shape, -1)
        self.gain[free] = self.first_gain + np.arange(free.sum())
        self.first_node = self.first_gain + int(free.sum())
        self._place_nodes(blocks.size * _STEP, length)
        self.size = self.first_node + len(self.line_of_node)
        # Degrees of freedom that the Sun takes, for the scatter.
        self.inflation = np.sqrt(use.sum() / (use.sum() - use.any(axis=1).sum()))

    def _place_nodes(self, step, length):
        """Nodes of the second lines' fields that the blocks touch, the blocks' weights on them, and their prior."""
        blocks = self.blocks
        self.columns, self.weights, positions, lines = [], [], [], []
        for number in range(self.n_lines):
            at = blocks.origin[number]
            lit = self.use & (blocks.cover[number] > 0)
            place = (np.moveaxis(at, 2, 0) - [[[[np.floor(axis[lit].min())]]] for axis in np.moveaxis(at, 2, 0)]) / step
            place = np.where(lit, place, 0)
            low = np.floor(place).astype(int)
            part = place - low
            width = int(low[0].max()) + 2
            index = np.stack([(low[1] + j) * width + low[0] + i for j in (0, 1) for i in (0, 1)])
            weight = np.stack(
                [(part[1] if j else 1 - part[1]) * (part[0] if i else 1 - part[0]) for j in (0, 1) for i in (0, 1)]
            )
            touched, index = np.unique(np.where(lit, index, index[:, lit].min()), return_inverse=True)
            self.columns.append(index.reshape(weight.shape) + sum(map(len, positions)))
            self.weights.append(weight * lit)
            positions.append(np.column_stack([touched % width, touched // width]) * step)
            lines += [number] * len(touched)
        self.line_of_node = np.array(lines, dtype=int)
        blocks_of_prior = [
            np.linalg.inv(np.exp(-cdist(xy, xy) / length) + 1e-6 * np.eye(len(xy))) / _CONTRAST**2 for xy in positions
        ]
        self.prior = scipy.linalg.block_diag(*blocks_of_prior) if blocks_of_prior else np.zeros((0, 0))

    def fit(self):
        """The parameters (`_State`), and the covariance of the slopes."""
        counts = self.use.sum(axis=1)
        mean = np.divide((self.logs * self.use).sum(axis=1), counts, out=np.zeros(counts.shape), where=counts > 0)
        means = np.full(self.n_lines, 0.1)
        state = _State(
            np.full(self.n_slopes, 0.4), means, means[self.line_of_node], np.zeros(self.gain.shape), np.exp(mean) / 1.2
        )
        for _ in range(_ITERATIONS):
            normal, gradient, scores, suns = self._normal_equations(state)
            prior = self._prior_matrix(state.means)
            gradient[self.first_node :] -= prior[self.first_node :, self.first_node :] @ self._departure(state)
            try:
                factor = scipy.linalg.cho_factor(normal + prior)
            except np.linalg.LinAlgError as error:
                msg = "the channels do not determine their slopes: are two of them antiparallel, or alone in a region?"
                raise ValueError(msg) from error
            step = scipy.linalg.cho_solve(factor, gradient)
            state = self._move(state, step, suns)
            inverse = scipy.linalg.cho_solve(factor, np.eye(self.size)[:, : self.n_slopes])
            if (np.abs(step[: self.n_slopes]) < _TOLERANCE * np.sqrt(np.diag(inverse))).all():
                break
        else:
            msg = f"the slopes {state.slopes.round(3).tolist()} did not settle in {_ITERATIONS} steps"
            raise ValueError(msg)
        covariance = self._covariance(inverse, prior, scores)
        errors = np.sqrt(np.diag(covariance))
        at_limit = (state.slopes <= _RANGE[0]) | (state.slopes >= _RANGE[1])
        if at_limit.any() or not (errors < _UNDETERMINED).all():
            msg = (
                f"the channels do not determine their slopes: got {state.slopes.round(3).tolist()} "
                f"+- {errors.round(3).tolist()}"
            )
            raise ValueError(msg)
        return state, covariance

    def _normal_equations(self, state):
        """Normal matrix and gradient without the Sun, the tiles' shares of the gradient, and how to find the Sun."""
        normal, gradient = np.zeros((self.size, self.size)), np.zeros(self.size)
        n_tiles = int(self.blocks.tile.max()) + 1
        scores, suns = np.zeros((n_tiles, self.size)), []
        for time in range(len(self.use)):
            if not self.use[time].any():
                suns.append(None)
                continue
            jacobian, sun, weights, residuals, block = self._linearize(state, time)
            rows, count = np.arange(len(block)), self.use.shape[2]
            eliminate = sparse.csr_matrix((sun, (rows, block)), shape=(len(block), count))
            weighted = sparse.diags(weights) @ jacobian
            inner = np.asarray(eliminate.T @ (weights * sun)).ravel()
            inverse = np.divide(1.0, inner, out=np.zeros(count), where=inner > 0)
            cross, right = (eliminate.T @ weighted).tocsr(), eliminate.T @ (weights * residuals)
            normal += (jacobian.T @ weighted - cross.T @ sparse.diags(inverse) @ cross).toarray()
            score = weights * (residuals - sun * (inverse * right)[block])
            gradient += jacobian.T @ score
            collect = sparse.csr_matrix((score, (self.blocks.tile[block], rows)), shape=(n_tiles, len(block)))
            scores += (collect @ jacobian).toarray()
            suns.append((cross, inverse, right))
        return normal, gradient, scores, suns

    def second_light(self, state, time):
        """
        Light of the second lines in one exposure, before the gains, for every used channel and block.

        The result also has, for each line, the derivatives by its field and by the slope of the channel.
        """
        blocks, use = self.blocks, self.use[time]
        channel, _ = np.nonzero(use)
        level = state.sun[time][use.any(axis=0)].mean()
        slopes, light, derivatives = state.slopes[channel], np.zeros(len(channel)), []
        for number in range(self.n_lines):
            columns, shares = (part[number][:, time][:, use] for part in (self.columns, self.weights))
            field = (state.field[columns] * shares).sum(axis=0)
            cover = level * blocks.cover[number, time][use]
            along = blocks.place[time][use] + blocks.behind[number][channel]
            light += cover * (1 + slopes * along) * field
            derivatives.append((cover * (1 + slopes * along), cover * along * field, columns, shares))
        return light, derivatives

    def _linearize(self, state, time):
        """Derivatives of the model of one exposure, its weights and residuals, for every used channel and block."""
        blocks, use = self.blocks, self.use[time]
        channel, block = np.nonzero(use)
        rows = np.arange(len(block))
        place, sun, slopes = blocks.place[time][use], state.sun[time][block], state.slopes[channel]
        light, derivatives = self.second_light(state, time)
        total, by_slope = (1 + slopes * place) * sun + light, place * sun
        entries = []
        for number, (by_field, by_slope_of_line, columns, shares) in enumerate(derivatives):
            by_slope = by_slope + by_slope_of_line
            entries.append((by_field, rows, np.full(len(rows), self.n_slopes + number)))
            entries += [
                (by_field * share, rows, self.first_node + column)
                for share, column in zip(shares, columns, strict=True)
            ]
        # A first step from a distant start may make light negative; light does not stay negative.
        total = np.maximum(total, 0.1 * (1 + slopes * place) * sun)
        entries.append((by_slope, rows, channel))
        entries = [(value / total, row, column) for value, row, column in entries]
        gain = self.gain[time][channel]
        entries.append((np.ones((gain >= 0).sum()), rows[gain >= 0], gain[gain >= 0]))
        values, row, column = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        jacobian = sparse.csr_matrix((values, (row, column)), shape=(len(rows), self.size))
        residuals = self.logs[time][use] - state.gains[time][channel] - np.log(total)
        scatter = 1.4826 * np.median(np.abs(residuals)) * self.inflation + 1e-9
        weights = blocks.share[time][use] / scatter**2 / np.maximum(1, np.abs(residuals) / (_HUBER * scatter))
        return jacobian, (1 + slopes * place) * sun / total, weights, residuals, block

    def _prior_matrix(self, means):
        """Inverse covariance of the second lines' fields, in the place of their nodes."""
        matrix = np.zeros((self.size, self.size))
        # Never zero, so that a missing line has a field of zero.
        deviation = np.maximum(np.abs(means), 1e-4)[self.line_of_node]
        matrix[self.first_node :, self.first_node :] = self.prior / np.outer(deviation, deviation)
        return matrix

    def _departure(self, state):
        return state.field - state.means[self.line_of_node]

    def _move(self, state, step, suns):
        slopes = np.clip(state.slopes + step[: self.n_slopes], *_RANGE)
        means = state.means + step[self.n_slopes : self.first_gain]
        field = means[self.line_of_node] + self._departure(state) + step[self.first_node :]
        gains = state.gains.copy()
        gains[self.gain >= 0] += step[self.gain[self.gain >= 0]]
        sun = state.sun.copy()
        for time, parts in enumerate(suns):
            if parts is not None:
                cross, inverse, right = parts
                sun[time] *= np.exp(np.clip(inverse * (right - cross @ step), -1, 1))
        return _State(slopes, means, field, gains, sun)

    def _covariance(self, inverse, prior, scores):
        """
        Covariance of the slopes from the scatter of the tiles, and of the fields from their prior (sandwich).

        The covariance is at least the one from the scatter of the blocks alone: a few tiles may agree by chance.
        """
        count = np.any(scores != 0, axis=1).sum()
        tiles = scores @ inverse
        covariance = tiles.T @ tiles * count / (count - 1) + inverse.T @ prior @ inverse
        independent = inverse[: self.n_slopes]
        return max(covariance, (independent + independent.T) / 2, key=np.trace)
