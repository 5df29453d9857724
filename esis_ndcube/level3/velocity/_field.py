"""Velocities as a field that conserves the light."""

import numpy as np
import scipy.fft

from esis_ndcube.level3.velocity._frame import wavenumber

# The velocity before any image is seen: Gaussian fields of these widths (sigma) in arcsec, each of so many km/s.
_VELOCITY = {1.8: 3.6, 3.6: 3.6, 8.4: 3.6}
# The variance of the velocity along the line of sight, about that of the line: the same, in (km/s)**2.
_VARIANCE = {2.4: 300.0, 4.8: 300.0}
# The light that only one channel sees, for example of a faint other line: the same, in parts of the mean brightness.
_EXTRA = {8.0: 0.03, 20.0: 0.05}
# The scene that the gradients are taken of is at least this part of its mean, so that a velocity is defined there.
_LEAST = 0.1
_FIRST_BLUR = 0.9  # arcsec
_ROUNDS = 2
# Iterations end at this part of the first residual, in the norm of the preconditioner.
_ENOUGH, _MOST = 1e-3, 80
# The preconditioner counts this part of the mean weight, because waves in gaps have less weight than the mean.
_PART = 0.1


def fit_field(frame, pattern=None):
    """
    The scene of a frame, its velocity and its variance of velocity, each of shape (y, x).

    The images are linear in the scene I, in I v and in I w: least squares with the weights of the pixels and Gaussian
    priors of given power spectra on I, v and w, solved by conjugate gradients. I in the products is that of the round
    before. ``pattern`` are displacements that the velocity makes instead of those along the dispersion.
    """
    scene = np.maximum(frame.smooth(frame.mean, _FIRST_BLUR), _LEAST * frame.mean.mean())
    start = None
    for _ in range(_ROUNDS):
        model = _Model(frame, scene, pattern)
        start = model.solve(start)
        found, velocity, variance = model.parts(start)
        result = scene, velocity, variance
        scene = np.maximum(found, _LEAST * frame.mean.mean())
    return result


class _Model:
    """
    The linear model about a scene.

    Its unknowns are Fourier transforms of real fields, divided by the square root of their prior's power: the scene
    less its mean, velocity, variance, and the light that only one channel sees.
    """

    def __init__(self, frame, scene, pattern):
        projection = frame.projection
        self.size, (rows, columns) = projection.fft_shape, scene.shape
        self.inner = np.s_[..., :rows, :columns]
        count = len(frame.images)
        self.weights = np.zeros((count, *self.size), np.float32)
        self.weights[self.inner] = frame.weights
        self.level = np.float32(frame.mean.mean())
        self.data = np.zeros_like(self.weights)
        self.data[self.inner] = frame.images - self.level
        self.scene = np.full(self.size, self.level, np.float32)
        self.scene[self.inner] = scene
        self.transfer = projection.transfers(pattern).astype(np.complex64)
        extra = _amplitude(frame, _EXTRA) * self.level
        self.prior = np.array([_scene_amplitude(frame), *_amplitudes(frame), *[extra] * count], np.float32)
        # The curvature, if all pixels had the mean weight and the scene one brightness.
        mean = self.weights.mean(axis=(1, 2))
        curvature = np.empty_like(self.prior)
        curvature[:3] = np.einsum("k,ikyx->iyx", mean, np.abs(self.transfer) ** 2)
        curvature[1:3] *= np.mean(scene**2)
        curvature[3:] = mean[:, None, None]
        self.inverse = 1 / (1 + _PART * self.prior**2 * curvature)
        # A real transform has one half of the waves, but those of the first column, and of the last of an even number.
        self.single = [0] if self.size[1] % 2 else [0, -1]

    def parts(self, unknowns):
        """The scene, the velocity and the variance."""
        found = self._real(unknowns[:3] * self.prior[:3])[self.inner]
        return found[0] + self.level, found[1], found[2]

    def solve(self, start=None):
        """The unknowns, by conjugate gradients from a start."""
        right = self._back(self.data)
        unknowns = np.zeros_like(right) if start is None else start.copy()
        rest = right if start is None else right - self._normal(start)
        first = self._dot(right, self.inverse * right)
        direction = self.inverse * rest
        before = self._dot(rest, direction)
        for _ in range(_MOST):
            if not before > _ENOUGH**2 * first:
                break
            product = self._normal(direction)
            step = np.float32(before / self._dot(direction, product))
            unknowns += step * direction
            rest = rest - step * product
            ready = self.inverse * rest
            now = self._dot(rest, ready)
            direction = ready + np.float32(now / before) * direction
            before = now
        return unknowns

    def _normal(self, unknowns):
        return self._back(self._images(unknowns)) + unknowns

    def _images(self, unknowns):
        spectra = self._times_scene(unknowns * self.prior)
        images = np.empty_like(self.data)
        for k, image in enumerate(images):
            image[:] = self._real(spectra[3 + k] + sum(self.transfer[i, k] * spectra[i] for i in range(3)))
        return images

    def _back(self, images):
        spectra = np.zeros(self.prior.shape, np.complex64)
        for k, image in enumerate(images):
            spectra[3 + k] = scipy.fft.rfft2(image * self.weights[k], norm="ortho")
            for i in range(3):
                spectra[i] += self.transfer[i, k].conj() * spectra[3 + k]
        return self._times_scene(spectra) * self.prior

    def _times_scene(self, spectra):
        for i in (1, 2):
            spectra[i] = scipy.fft.rfft2(self.scene * self._real(spectra[i]), norm="ortho")
        return spectra

    def _real(self, spectra):
        return scipy.fft.irfft2(spectra, self.size, norm="ortho")

    def _dot(self, one, other):
        once = sum(np.vdot(one[..., column], other[..., column]).real for column in self.single)
        return float(2 * np.vdot(one, other).real - once)


def _amplitudes(frame):
    """Square roots of the power spectra of the velocity and of the variance, for white noise of unit variance."""
    return [_amplitude(frame, scales) for scales in (_VELOCITY, _VARIANCE)]


def _amplitude(frame, scales):
    wave = wavenumber(frame.projection.fft_shape, frame.scale)
    parts = [(sigma * width) ** 2 * np.exp(-((2 * np.pi * width * wave) ** 2)) for width, sigma in scales.items()]
    return np.sqrt(4 * np.pi * sum(parts) / np.prod(frame.scale))


def _scene_amplitude(frame):
    """The same of the scene, isotropic: from the mean image, without its noise."""
    size = frame.projection.fft_shape
    wave = wavenumber(size, frame.scale)
    seen = frame.weights.any(axis=0)
    departures = np.where(seen, frame.mean - frame.mean[seen].mean(), 0)
    power = np.abs(scipy.fft.rfft2(departures, size)) ** 2 / seen.sum()
    noise = np.mean(1 / frame.weights.sum(axis=0)[seen])
    ring = (wave * max(size) * max(frame.scale) / 2).astype(int)
    means = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    return np.sqrt(np.maximum(means - noise, 0.01 * noise)[ring])


def draw_fields(frame, rng):
    """A velocity and a variance of velocity from their priors, each of shape (y, x)."""
    size, (rows, columns) = frame.projection.fft_shape, frame.images.shape[1:]
    for amplitude in _amplitudes(frame):
        white = scipy.fft.rfft2(rng.standard_normal(size, dtype=np.float32))
        yield scipy.fft.irfft2(white * amplitude, size)[:rows, :columns].astype(np.float32)
