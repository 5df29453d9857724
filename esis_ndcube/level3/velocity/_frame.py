"""The images of one exposure, as the estimators of velocity take them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

import astropy.units as u

from esis_ndcube.flags import Flag
from esis_ndcube.level3.velocity.projection import PER_SPEED, Projection
from esis_ndcube.registration.prefilter import blur
from esis_ndcube.utils.arrays import eroded, invalid_pixels
from esis_ndcube.utils.uncertainty import standard_deviation

_SPEED = u.km / u.s
# The brightness of the channels is made equal in Gaussian windows of this width (sigma), in arcsec: what is left of
# vignetting and throughput is smooth.
_GAIN_WINDOW = 25.0
_FAR = 1e-3
# Gaussians end at this many sigma.
_TRUNCATE = 4.0
# The stated variance is averaged over so many pixels (sigma), because that of a single pixel follows its own noise.
_NOISE_WINDOW = 2.0
# Light that is displaced over an edge is missed: the edges of images are left out as far as that goes, in km/s.
_EDGE = 60.0
# A velocity needs so many channels, and all but one of those that work.
FEWEST = 3


@dataclass(frozen=True, eq=False)
class Frame:
    """
    The images of one exposure, of equal brightness and a mean of 1.

    Attributes
    ----------
    images, weights : `numpy.ndarray`
        Images and inverse variances, shape (channel, y, x); 0 where an image is not valid.
    correlation : `numpy.ndarray`
        Correlation of the noise of neighboring pixels, shape (channel, y, x).
    displacement : `numpy.ndarray`
        Displacement by a velocity in pixels per km/s, shape (channel, 2).
    scale : `tuple` of `float`
        Size of a pixel along y and x in arcsec.
    line_width : `float`
        Width (sigma) of the line in km/s.
    """

    images: np.ndarray
    weights: np.ndarray
    correlation: np.ndarray
    displacement: np.ndarray
    scale: tuple[float, float]
    line_width: float

    @cached_property
    def projection(self):
        """The operator from moments of a scene to the images."""
        return Projection(
            self.displacement * PER_SPEED,
            self.images.shape[1:],
            line_width=self.line_width * _SPEED,
            dtype=np.float32,
        )

    def smooth(self, image, sigma):
        """Blur images by a Gaussian of a width in arcsec, with nothing beyond their edges."""
        widths = [sigma / scale for scale in self.scale]
        if np.ndim(image) > 2:
            return np.stack([blur(one, widths, _TRUNCATE) for one in image])
        return blur(image, widths, _TRUNCATE)

    @cached_property
    def mean(self):
        """The weighted mean of the images, and the median of it where there is none."""
        total = self.weights.sum(axis=0)
        mean = (self.weights * self.images).sum(axis=0) / np.where(total > 0, total, 1)
        return np.where(total > 0, mean, np.median(mean[total > 0]))

    def information(self, pattern):
        """
        How well the images tell a displacement along a pattern, per (km/s)**2 and pixel, shape (y, x).

        The inverse variance of a displacement by what is not common to the channels, at the brightness of the mean.
        """
        gradient = np.gradient(self.smooth(self.mean, self.scale[0]))
        total = self.weights.sum(axis=0)
        total[total == 0] = 1
        common = np.tensordot(pattern.T, self.weights, 1) / total
        parts = (pattern.T[:, :, None, None] - common[:, None]) * np.array(gradient[::-1])[:, None]
        return (self.weights * parts.sum(axis=0) ** 2).sum(axis=0)

    def seen(self, scene, velocity, variance, rng):
        """The frame of a scene whose light has these velocities, and more variance of velocity, with new noise."""
        moments = np.stack([scene, scene * velocity, scene * variance])
        vector = np.append(moments.ravel(), np.zeros(len(self.images))).astype(np.float32)
        images = self.projection.matvec(vector).reshape(self.images.shape)
        valid = self.weights > 0
        sigma = np.where(valid, 1 / np.sqrt(np.where(valid, self.weights, 1)), 0)
        noise = np.stack([correlated_noise(one, sigma.shape[1:], rng) for one in self.correlation])
        return replace(
            self, images=np.where(valid, images + sigma / growth(self.correlation)[:, None, None] * noise, 0)
        )


def pixel_scale(wcs):
    """Size of a pixel along y and x in arcsec."""
    return tuple(u.Quantity(wcs.celestial.proj_plane_pixel_scales()).to_value(u.arcsec)[::-1])


def wavenumber(shape, scale):
    """Cycles per arcsec of the waves of a real transform of a shape, on pixels of a scale (y, x)."""
    y, x = scipy.fft.fftfreq(shape[0], scale[0]), scipy.fft.rfftfreq(shape[1], scale[1])
    return np.hypot(y[:, None], x)


def growth(correlation):
    """How much larger the error of a mean over many pixels is than that of independent ones, for each channel."""
    return np.sqrt(np.maximum(correlation.sum(axis=(1, 2)), 1))


def correlated_noise(correlation, shape, rng):
    """Noise of unit variance with a correlation of neighboring pixels."""
    size = tuple(scipy.fft.next_fast_len(n + m, real=True) for n, m in zip(shape, correlation.shape, strict=True))
    padded = np.zeros(size)
    padded[: correlation.shape[0], : correlation.shape[1]] = correlation
    padded = np.roll(padded, [-(n // 2) for n in correlation.shape], axis=(0, 1))
    power = np.maximum(scipy.fft.rfft2(padded).real, 0)
    white = scipy.fft.rfft2(rng.standard_normal(size, dtype=np.float32))
    return scipy.fft.irfft2(white * np.sqrt(power), size)[: shape[0], : shape[1]].astype(np.float32)


def make_frame(exposure, displacement, line_width):
    """
    The frame of the part of an exposure that enough channels see, and where that is in the exposure.

    The exposure is a cube of shape (channel, y, x). Pixels that are not valid do not count, and near the edges of the
    field stop and of the brightest other line none does; nor does a channel whose displacement is not known. Returns
    None, None where too few channels see anything, or no light.
    """
    bad = np.array(invalid_pixels(exposure.data, exposure.mask))
    edge = bad
    if exposure.flags is not None:
        edge = np.asarray(exposure.flags) & (Flag.OUTSIDE | Flag.OVERLAP | Flag.MISSING) != 0
    known = np.isfinite(displacement).all(axis=1)
    displacement = np.where(known[:, None], displacement, 0)
    steps = int(np.ceil(_EDGE * np.hypot(*displacement.T).max()))
    sigma = np.array(standard_deviation(exposure, exposure.unit), dtype=np.float64)
    valid = (
        known[:, None, None] & ~bad & np.stack([eroded(~one, steps) for one in edge]) & np.isfinite(sigma) & (sigma > 0)
    )
    valid &= valid.sum(axis=0) >= max(FEWEST, valid.any(axis=(1, 2)).sum() - 1)
    if not valid.any():
        return None, None
    # With the surroundings that light comes from.
    box = tuple(
        slice(max(found[0] - steps, 0), found[-1] + 1 + steps)
        for found in map(np.flatnonzero, (valid.any((0, 2)), valid.any((0, 1))))
    )
    valid, sigma = valid[:, *box], np.where(valid, sigma, 0)[:, *box]
    images = np.where(valid, np.asarray(exposure.data)[:, *box], 0).astype(np.float64)
    correlation = exposure.noise_correlation
    correlation = np.ones((len(images), 1, 1)) if correlation is None else correlation
    scale = pixel_scale(exposure.wcs)
    frame = Frame(images, valid.astype(np.float64), correlation, displacement, scale, line_width)
    near = [gaussian_filter(part, [0, _NOISE_WINDOW, _NOISE_WINDOW]) for part in (sigma**2, frame.weights)]
    gains = _gains(frame)
    factor = (gains * growth(correlation)[:, None, None]) ** 2
    weights = np.where(valid, near[1] / np.where(valid, near[0] * factor, 1), 0)
    images = images * gains
    level = images[valid].mean()
    if not level > 0:
        return None, None
    # Of a mean of 1, so that no unit is too large or too small.
    images, weights = images / level, weights * level**2
    return replace(frame, images=images.astype(np.float32), weights=weights.astype(np.float32)), box


def _gains(frame):
    """Factors that give all channels the same brightness in windows, over the pixels that all of them see."""
    works = frame.weights.any(axis=(1, 2))
    common = frame.weights[works].all(axis=0)
    if not common.any():
        return np.ones(frame.images.shape)
    # Far from these pixels it is the ratio of the means over all of them.
    means = np.array(
        [
            frame.smooth(np.where(common, one, 0), _GAIN_WINDOW) + _FAR * max(one[common].mean(), 0)
            for one in frame.images
        ]
    )
    if not means.max() > 0:
        return np.ones(frame.images.shape)
    positive = np.maximum(means, 1e-6 * means.max())
    return np.where(works[:, None, None], means[works].mean(axis=0) / positive, 1)
