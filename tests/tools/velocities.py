"""Images of scenes with velocities, by moving their light: a truth that knows nothing of moments or transforms."""

import numpy as np
from scipy.ndimage import gaussian_filter, shift

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from astropy.time import Time
from ndcube.meta import NDMeta

from esis_ndcube import ESIS_1, Alignment, ESISLevel3Cube
from esis_ndcube.level3.velocity.projection import displacements
from esis_ndcube.simulate.scene import Sky, recipe
from esis_ndcube.wcs import level3_wcs

SIZE = 240
FWHM = 7.0
_CHANNELS = [1, 2, 3, 4]
_CORNER = 400

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
    """The best that a map can show: the velocity weighted with the light, in Gaussian windows of a width in pixels."""
    light, momentum = (gaussian_filter(bin_image(part), sigma, mode="constant") for part in (scene, scene * velocity))
    return momentum / light


def make_cube(images, sigma, *, frame_number=124, channels=_CHANNELS, flags=True):
    """A cube of exposures, shape (time, channel, y, x), in the middle of the first flight's grid."""
    images = np.asarray(images, dtype=np.float32)
    numbers = frame_number + np.arange(len(images))
    times = Time("2019-09-30T18:08:36.6") + 10 * u.s * np.arange(len(images))
    alignments = np.array(
        [
            [
                Alignment.from_pose(ESIS_1, channel, frame_number=int(number), line="O V", time=time, grid=ESIS_1.grid)
                for channel in channels
            ]
            for number, time in zip(numbers, times, strict=True)
        ],
        dtype=object,
    )
    values = {"flight": ESIS_1, "line": "O V", "frame_number": numbers, "alignment_final": alignments}
    rows, columns = images.shape[2:]
    wcs = level3_wcs(ESIS_1.grid, times, channels)[:, :, _CORNER : _CORNER + rows, _CORNER : _CORNER + columns]
    return ESISLevel3Cube(
        images,
        wcs=wcs,
        uncertainty=StdDevUncertainty(np.broadcast_to(np.float32(sigma), images.shape).copy()),
        mask=np.zeros(images.shape, dtype=bool),
        flags=np.zeros(images.shape, dtype=np.uint16) if flags else None,
        meta=NDMeta(values, axes={"frame_number": 0, "alignment_final": (0, 1)}),
        unit="ph / pix",
    )


def wider(images, directions):
    """A point-spread function that is a fifth wider in one channel than in the others (1 px)."""
    return [gaussian_filter(images[0], np.sqrt(1.2**2 - 1)), *images[1:]]


def coma(images, directions):
    """A tenth of the light of one channel, of a width of 1 px, 1.5 px aside."""
    return [0.9 * images[0] + 0.1 * shift(gaussian_filter(images[0], 1.0), (1.5, 0), mode="wrap"), *images[1:]]


def second_line(images, directions):
    """Another image in a line of 13 %, 130 px away along the dispersion."""
    moved = (
        shift(one, -130 * np.array([dy, dx]), mode="constant") for one, (dx, dy) in zip(images, directions, strict=True)
    )
    return [one + 0.13 * other for one, other in zip(images, moved, strict=True)]


def gains(images, directions):
    """Gains that are off by 3 %."""
    return [one * factor for one, factor in zip(images, (1.03, 0.97, 1.03, 0.97), strict=True)]


FLAWS = {function.__name__: function for function in (wider, coma, second_line, gains)}


class Truth:
    """A cube of one scene, and its velocity on pixels of the scene; a flaw is a function of images and dispersions."""

    def __init__(self, width, rms, *, line=29.0, seed=0, size=SIZE, noise=True, flaw=None):
        self.scene = make_scene(ESIS_1, (size, size), 0.6, seed=seed)
        self.velocity = random_field((size, size), width, rms, seed=seed + 1)
        empty = make_cube(np.zeros((1, 4, size, size)), 1)
        pattern = displacements(empty).value
        images = move_light(self.scene, self.velocity, line, pattern)
        if flaw is not None:
            images = np.array(flaw(images, pattern / np.hypot(*pattern.T)[:, None]))
        sigma = np.sqrt(1.5 * images.mean(axis=0) + 0.25)
        rng = np.random.default_rng(seed + 2)
        self.cube = make_cube([images + noise * sigma * rng.standard_normal(images.shape)], sigma)

    def smoothed(self, fwhm=FWHM):
        """The truth of a map, on its pixels."""
        return bin_image(smooth_velocity(self.scene, self.velocity, fwhm / 0.6 / np.sqrt(8 * np.log(2))))
