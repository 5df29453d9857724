"""Images of scenes with velocities, by moving their light: a truth that knows nothing of moments or transforms."""

import numpy as np
from scipy.ndimage import gaussian_filter

from esis_ndcube.simulate.scene import Sky, recipe

# Points of the line's Gaussian, and their shares.
_POINTS, _SHARES = np.polynomial.hermite_e.hermegauss(5)
_FINE = 2


def bin_image(image, factor=_FINE):
    rows, columns = (n // factor for n in image.shape)
    return image.reshape(rows, factor, columns, factor).mean(axis=(1, 3))


def make_scene(flight, shape, pixel, seed=0, brightness=30.0):
    """A scene of the quiet Sun on pixels half as large, of a size in arcsec."""
    sky = Sky(seed, max(shape) * pixel, pixel / _FINE)
    scene = sky.scene(recipe(flight, flight.line(flight.pose_line)), 0.0)
    y, x = ((np.arange(n * _FINE) + 0.5) / _FINE - n / 2 for n in shape)
    return brightness * sky.sample(scene, *np.meshgrid(x * pixel, y * pixel)).astype(float)


def random_field(shape, width, rms, seed=0):
    """A Gaussian field of a width in the pixels of the images, on the finer pixels."""
    fine = tuple(n * _FINE for n in shape)
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(fine), width * _FINE, mode="wrap")
    return field * (rms / field.std())


def move_light(scene, velocity, width, displacement):
    """The image of each channel, shape (channel, y, x): light of each fine pixel falls on the four nearest to it."""
    images = []
    for dx, dy in displacement:
        image = np.zeros(scene.size)
        for point, share in zip(_POINTS, _SHARES / _SHARES.sum(), strict=True):
            y, x = np.indices(scene.shape, dtype=float)
            x += dx * _FINE * (velocity + point * width)
            y += dy * _FINE * (velocity + point * width)
            left, low = np.floor(x).astype(int), np.floor(y).astype(int)
            for row, column in np.ndindex(2, 2):
                part = np.abs(1 - column - (x - left)) * np.abs(1 - row - (y - low))
                place = np.ravel_multi_index((low + row, left + column), scene.shape, mode="wrap")
                image += np.bincount(place.ravel(), (share * scene * part).ravel(), scene.size)
        images.append(bin_image(image.reshape(scene.shape)))
    return np.array(images)


def smooth_velocity(scene, velocity, sigma):
    """What a map shows at best: the velocity weighted with the light, in Gaussian windows of a width in pixels."""
    light, momentum = (gaussian_filter(bin_image(part), sigma, mode="constant") for part in (scene, scene * velocity))
    return momentum / light
