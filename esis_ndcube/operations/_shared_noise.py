"""Correlation of the noise of images that `reproject` makes."""

import inspect

import numpy as np
import reproject
from scipy.ndimage import map_coordinates, uniform_filter

from esis_ndcube.utils._spline import SHARED_REACH, parse_order, shared_weights
from esis_ndcube.utils.noise import resample_correlation

# Samples of the weights along a pixel, and along each axis of the whole image of the weights.
_FINE, _MOST = 15, 1000
# A new pixel that is smaller than this on the cube, seen from its side, says nothing of the others.
_SMALLEST = 1e-3


def resampled_correlations(cube, jacobian, algorithm, options):
    """
    The metadata ``noise_correlation`` of a resampled cube, and the ratio of its errors to those of independent pixels,
    for each channel; None and 1 if the noise of the cube is not known.

    ``jacobian`` are the derivatives of the position (x, y) on the cube by the new pixel.
    """
    correlation = cube.noise_correlation
    if correlation is None or not np.linalg.svd(np.nan_to_num(jacobian), compute_uv=False).min() > _SMALLEST:
        return None, np.ones(())
    shared, reach = _shared(jacobian, algorithm, options)
    (alone,) = shared(*np.zeros((2, 1)))
    known = {
        key: resample_correlation(one, jacobian, shared, reach) for key, one in cube.meta["noise_correlation"].items()
    }
    growth = np.sqrt([known[str(number)][1] / alone for number in np.atleast_1d(cube.channel)])
    shape = (-1, 1, 1) if correlation.ndim == 3 else ()
    return {key: result for key, (result, _) in known.items()}, growth.reshape(shape)


def _shared(jacobian, algorithm, options):
    """The integral of the product of the weights of two pixels by their distance, and the distance where it ends."""
    if algorithm == "interpolation":
        return shared_weights(parse_order(options.get("order", "bilinear"))), SHARED_REACH
    weights, reach = (_overlap if algorithm == "exact" else _kernel)(jacobian, options)
    # An odd number, so that one sample is in the middle.
    fine = min(_FINE, int(_MOST / reach / 2)) | 1
    steps = np.arange(-int(np.ceil(reach * fine)), int(np.ceil(reach * fine)) + 1)
    image = weights(*np.meshgrid(steps / fine, steps / fine), fine)
    size = 2 * len(steps)
    products = np.fft.fftshift(np.fft.irfft2(np.abs(np.fft.rfft2(image, (size, size))) ** 2, (size, size)))

    def shared(x, y):
        return map_coordinates(products, np.stack(np.broadcast_arrays(y, x)) * fine + size // 2, order=1)

    return shared, 2 * reach


def _overlap(jacobian, options):
    """Part of each pixel that the new pixel covers, as in `reproject.reproject_exact`."""
    inverse = np.linalg.inv(jacobian)

    def weights(x, y, fine):
        inside = (np.abs(np.tensordot(inverse, [x, y], 1)) <= 0.5).all(axis=0)
        return uniform_filter(inside.astype(float), fine, mode="constant")

    return weights, np.abs(jacobian).sum(axis=1).max() / 2 + 1


def _kernel(jacobian, options):
    """The kernel of DeForest (2004), as in `reproject.reproject_adaptive`."""
    known = inspect.signature(reproject.reproject_adaptive).parameters
    options = {name: parameter.default for name, parameter in known.items()} | options
    turn, sizes, back = np.linalg.svd(jacobian)
    sizes = np.maximum(sizes, 1)
    inverse = np.linalg.inv((turn * sizes) @ back)
    gaussian = options["kernel"].lower() == "gaussian"

    def weights(x, y, fine):
        s, t = np.tensordot(inverse, [x, y], 1)
        if gaussian:
            return np.exp(-2 * (s**2 + t**2) / options["kernel_width"] ** 2)
        return np.where((abs(s) < 1) & (abs(t) < 1), (np.cos(s * np.pi) + 1) * (np.cos(t * np.pi) + 1), 0)

    return weights, sizes.max() * (options["sample_region_width"] / 2 if gaussian else np.sqrt(2))
