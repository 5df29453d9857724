"""The place where brightness rises across a side of the field stop: all steps are tried at once."""

import numpy as np
from scipy.special import ndtr

# Gaussian widths of the rise in pixels: the point spread function, and a field stop out of focus.
_WIDTHS = 0.7, 1.0, 1.5, 2.2, 3.2
_STEP = 0.1


class RiseFinder:
    """
    Least-squares fit of a rise to profiles.

    A profile is a constant outside and a straight line inside, joined by a Gaussian-smoothed step.
    For a given place and width of the step the fit is linear. So every place on a fine grid can be tried, and the fit
    needs no start value.

    Parameters
    ----------
    distance : `numpy.ndarray`
        Distances from the predicted edge, positive inside, evenly spaced.
    reach : `float`
        Largest distance of the rise from the prediction.
    """

    def __init__(self, distance, reach):
        self._places = np.arange(-round(reach / _STEP), round(reach / _STEP) + 1) * _STEP
        self._count = distance.size
        bases, rows = [], []
        for width in _WIDTHS:
            for place in self._places:
                inside = ndtr((distance - place) / width)
                design = np.column_stack([np.ones_like(distance), inside, inside * (distance - place)])
                basis, triangle = np.linalg.qr(design)
                bases.append(basis)
                # Coefficients are inverse @ (basis.T @ profile); the second is the height of the rise.
                rows.append(np.linalg.inv(triangle)[1])
        # A row for each base of each step.
        self._bases = np.ascontiguousarray(np.array(bases).transpose(0, 2, 1).reshape(-1, distance.size))
        self._rows = np.array(rows)

    def __call__(self, profiles):
        """
        Place of the rise, its error, and its height over the height's error.

        ``profiles`` has shape (n, distances); rows that hold a NaN give NaN.
        """
        good = np.isfinite(profiles).all(axis=1)
        place, error, contrast = np.full((3, len(profiles)), np.nan)
        if not good.any():
            return place, error, contrast
        # The squares of the residuals must not drown in the squares of the mean.
        centered = profiles[good] - profiles[good].mean(axis=1, keepdims=True)
        # Not by BLAS: its last bits depend on its number of threads, which differs between processes.
        parts = np.einsum("md,nd->nm", self._bases, centered).reshape(len(centered), len(self._rows), -1)
        squares = (centered**2).sum(axis=1)[:, None] - (parts**2).sum(axis=2)
        squares = squares.reshape(len(centered), len(_WIDTHS), -1)
        width = squares.min(axis=2).argmin(axis=1)
        curve = np.take_along_axis(squares, width[:, None, None], axis=1)[:, 0]
        index = curve.argmin(axis=1)
        # A minimum at the end of the range is no minimum.
        inner = np.clip(index, 1, curve.shape[1] - 2)
        low, middle, high = (curve[np.arange(len(curve)), inner + step] for step in (-1, 0, 1))
        bend = low - 2 * middle + high
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self._places[inner] + _STEP * 0.5 * (low - high) / bend
            variance = np.maximum(middle, 0) / (self._count - 5)
            sigma = _STEP * np.sqrt(2 * variance / bend)
            best = width * len(self._places) + inner
            row = self._rows[best]
            height = (row * parts[np.arange(len(parts)), best]).sum(axis=1) / np.sqrt(variance * (row**2).sum(axis=1))
        found[(index != inner) | ~(bend > 0)] = np.nan
        place[good], error[good], contrast[good] = found, sigma, height
        return place, error, contrast
