"""From a scene to the numbers that a camera writes."""

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import gaussian_filter

import astropy.constants as const
import astropy.units as u

__all__ = ["Quadrants", "hits", "line_photons", "read_out", "signal_electrons"]

# Distance in pixels of the knots of a rendered line's coordinates, which bend much less than that.
_KNOTS = 24
_EDGE = 0.6  # Half width in pixels of the soft edge of the field stop.


def line_photons(truth, sky, scene, frame_number, channel, line):
    """
    Mean photons of one line.

    Parameters
    ----------
    truth : `Truth`
        The geometry.
    sky : `Sky`
        Function that samples the scene.
    scene : `numpy.ndarray`
        The line's scene.
    frame_number, channel : `int`
        Raw frame number and channel number.
    line : `~esis_ndcube.flight.Line`
        The line.

    Returns
    -------
    photons : `numpy.ndarray`
        Photons per pixel of the part of the detector that the line illuminates.
    where : `tuple` of `slice`
        The slices of that part, axes (y, x); None for both if the line misses the detector.
    """
    flight, config = truth.flight, truth.config
    stop = flight.field_stop(channel, line)
    shape = np.array(flight.detector.shape[::-1])
    low = np.clip(np.floor(stop.min(axis=0)).astype(int) - 2, 0, shape)
    high = np.clip(np.ceil(stop.max(axis=0)).astype(int) + 3, 0, shape)
    if (high <= low).any():
        return None, None
    columns, rows = (np.arange(a, b, dtype=float) for a, b in zip(low, high, strict=True))
    x, y = _sky_coordinates(truth, frame_number, channel, line, columns, rows)
    photons = sky.sample(scene, x, y)
    photons *= truth.vignetting(channel, columns, line=line).astype(np.float32)
    if config.field_stop:
        photons *= _inside(stop, columns, rows)
    relative = line.intensity / flight.line(flight.pose_line).intensity
    photons *= np.float32(config.brightness * relative)
    event = truth.event
    if event is not None and event.strength[truth.frame_numbers.index(frame_number)]:
        _add_event(photons, truth, frame_number, channel, line, columns, rows, relative)
    photons *= np.float32(truth.extinction[truth.frame_numbers.index(frame_number)])
    if config.blur:
        photons = _blurred(photons, truth.focus(channel, line), stop, columns, rows, config.blur)
    return photons, (slice(low[1], high[1]), slice(low[0], high[0]))


def _sky_coordinates(truth, frame_number, channel, line, columns, rows):
    """Sky in arcsec from the middle of the scene, for every pixel: exact on knots and splines between."""
    knots = [np.linspace(w[0] - 1, w[-1] + 1, max(6, w.size // _KNOTS + 2)) for w in (columns, rows)]
    at = np.meshgrid(*knots, indexing="ij")
    x, y = truth.to_grid(frame_number, channel, *at, line=line, doppler=True)
    sx, sy = truth._arcsec(x, y)
    center = truth._center.mean(axis=0)
    return [
        RectBivariateSpline(knots[1], knots[0], (value - middle).T)(rows, columns).astype(np.float32)
        for value, middle in zip((sx, sy), center, strict=True)
    ]


def _inside(stop, columns, rows):
    """Transmission of a convex polygon with a soft edge, shape (v, u)."""
    depth = None
    orientation = np.sign(np.sum(stop[:, 0] * (np.roll(stop[:, 1], -1) - np.roll(stop[:, 1], 1))))
    for start, end in zip(stop, np.roll(stop, -1, axis=0), strict=True):
        along = (end - start) / np.hypot(*(end - start)) * orientation
        side = along[0] * (rows[:, None] - start[1]).astype(np.float32) - along[1] * (columns - start[0]).astype(
            np.float32
        )
        depth = side if depth is None else np.minimum(depth, side, out=depth)
    return np.clip(depth / (2 * _EDGE) + 0.5, 0, 1, out=depth)


def _blurred(photons, focus, stop, columns, rows, width):
    """The image through optics that are sharp only in their focus: more and more is spread away from it."""
    reach = np.hypot(*(stop - focus).T).max()
    distance = np.hypot((rows - focus[1])[:, None], columns - focus[0])
    share = np.minimum((distance / reach) ** 2, 1).astype(np.float32)
    # Light is spread from the place where it falls, so that no light is lost or made.
    return photons * (1 - share) + gaussian_filter(photons * share, width, mode="nearest")


def _add_event(photons, truth, frame_number, channel, line, columns, rows, relative):
    event, flight = truth.event, truth.flight
    at_u, at_v = truth.to_detector(frame_number, channel, *event.position, line=line, doppler=True)
    strength = event.strength[truth.frame_numbers.index(frame_number)] * relative
    strength *= truth.vignetting(channel, at_u, line=line) / (2 * np.pi * event.width**2)
    # Equal velocities shift a line in proportion to its wavelength.
    stretch = (line.wavelength / flight.line(flight.pose_line).wavelength).to_value(u.one)
    across = np.exp(-0.5 * ((rows - at_v) / event.width) ** 2)
    along = sum(
        share * np.exp(-0.5 * ((columns - at_u - shift * stretch) / event.width) ** 2)
        for share, shift in zip(event.shares, event.shifts, strict=True)
    )
    photons += (strength * across[:, None] * along).astype(np.float32)


def electrons_per_photon(flight, line):
    """Electrons per photon of any line, including contaminants."""
    energy = (const.h * const.c / line.wavelength).to(u.eV)
    return (energy / flight.detector.energy_per_electron).to_value(u.one)


def signal_electrons(truth, channel, photons, gains, rng):
    """
    Electrons that the photons free, with photon noise, Fano noise and charge spread.

    If a photon leaves a part c of its charge, 1 / c times as many photons make the same signal. Charge spreads electron
    by electron: pixels get the average number of electrons, and noise with the variance of the multinomial law.

    Parameters
    ----------
    truth : `Truth`
        The ingredients.
    channel : `int`
        Channel number.
    photons : `numpy.ndarray`
        Mean photons per pixel.
    gains : `numpy.ndarray`
        Mean electrons per photon in each pixel: photons of lines at other wavelengths free other numbers of electrons.
    rng : `numpy.random.Generator`
        Random numbers.

    Returns
    -------
    `numpy.ndarray`
        Electrons.
    """
    config, detector = truth.config, truth.flight.detector
    part = np.float32(truth.flight.channel(channel).charge_collection if config.charge_spread else 1)
    if config.noise:
        photons = rng.poisson(photons / part).astype(np.float32) * part
    electrons = photons * gains
    if config.noise:
        fano = np.sqrt(part * np.float32(detector.fano_factor) * electrons)
        electrons += fano * rng.standard_normal(electrons.shape, dtype=np.float32)
    if config.charge_spread and detector.charge_kernel.size > 1:
        electrons = _spread(electrons, detector.charge_kernel, rng if config.noise else None)
    return electrons


def _spread(electrons, kernel, rng):
    """Charge after each electron went to a nearby pixel by chance, or after the average number went there."""
    reach = kernel.shape[0] // 2
    padded = np.pad(electrons, reach, mode="edge")
    shape = [next_fast_len(n, real=True) for n in padded.shape]
    response = rfft2(kernel.astype(np.float32), shape)
    inside = tuple(slice(2 * reach, 2 * reach + n) for n in electrons.shape)
    result = irfft2(rfft2(padded, shape) * response, shape)[inside]
    if rng is not None:
        # A pixel lacks the electrons that another pixel has gained: their covariance is that of independent electrons
        # less the autocorrelation of the kernel.
        white = rfft2(rng.standard_normal(shape, dtype=np.float32))
        apart = irfft2(white * np.sqrt(np.maximum(1 - np.abs(response) ** 2, 0)), shape)[inside]
        result += np.sqrt(np.maximum(result, 0)) * apart
    return result


def hits(truth, rng):
    """
    Electrons of particle hits on the active area.

    Parameters
    ----------
    truth : `Truth`
        The ingredients.
    rng : `numpy.random.Generator`
        Random numbers.

    Returns
    -------
    rows, columns : `numpy.ndarray`
        Pixels that were hit, unflipped rows of the raw frame and columns of the active area.
    electrons : `numpy.ndarray`
        Electrons that the hits freed there; a pixel may be hit twice.
    """
    height, width = truth.flight.detector.shape
    count = truth.config.spikes
    start = rng.uniform([0, 0], [height, width], (count, 2))
    # Most hits come straight down; one in forty draws a track.
    length = np.where(rng.random(count) < 0.025, rng.uniform(8, 40, count), rng.integers(1, 4, count))
    angle = rng.uniform(0, 2 * np.pi, count)
    energy = rng.lognormal(np.log(600.0), 1.1, count)
    pixels = length.astype(int)
    steps = np.concatenate([np.arange(n) for n in (0, *pixels)])
    rows, columns = (
        np.floor(np.repeat(first, pixels) + steps * np.repeat(turn, pixels)).astype(int)
        for first, turn in zip(start.T, (np.sin(angle), np.cos(angle)), strict=True)
    )
    shares = np.concatenate([rng.dirichlet(np.ones(n)) for n in pixels] or [[]])
    # Never below 100 electrons in a pixel, so that all spikes in the list of the truth are visible.
    electrons = 100 + np.repeat(energy, pixels) * shares
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return rows[inside], columns[inside], electrons[inside]


class Quadrants:
    """
    The fixed properties of a camera's four quadrants.

    Parameters
    ----------
    truth : `Truth`
        The ingredients.
    channel : `int`
        Channel number.

    Attributes
    ----------
    bias, dark, read_noise : `numpy.ndarray`
        Bias, dark signal and read noise in DN by quadrant, in the order of the channel's gains, shape (4,).
    ceiling : `float`
        Largest DN.
    hot : `tuple` of `numpy.ndarray`
        Rows, active columns and DN of hot pixels.
    """

    def __init__(self, truth, channel):
        flight, config = truth.flight, truth.config
        rng = np.random.default_rng([truth.seed, 2, channel])
        self._detector, self._gain = flight.detector, flight.channel(channel).gain
        self.ceiling = np.ceil(flight.detector.saturation)
        self.bias = config.bias * rng.normal(1, 0.04, 4)
        self.dark = config.dark * rng.uniform(0.5, 1.5, 4)
        self.read_noise = flight.detector.read_noise * rng.uniform(0.7, 1.1, 4) * config.read_noise
        height, width = flight.detector.shape
        count = round(height * width / 10000) if config.dark else 0
        self.hot = (*rng.integers(0, [[height], [width]], (2, count)), rng.uniform(5, 60, count))

    def parts(self):
        """The raw rows and columns of each quadrant (`list` of `tuple` of `slice`)."""
        (rows, columns), split = self._detector.raw_shape, self._detector.split_column
        low, high = slice(0, rows // 2), slice(rows // 2, rows)
        left, right = slice(0, split), slice(split, columns)
        return [(low, left), (low, right), (high, right), (high, left)]

    def to_raw(self, active):
        """Put an active area with unflipped rows into a raw frame that is 0 elsewhere."""
        raw = np.zeros(self._detector.raw_shape, np.float32)
        done = 0
        for start, stop in self._detector.active_columns:
            raw[:, start:stop] = active[:, done : done + stop - start]
            done += stop - start
        return raw

    def gain_image(self):
        """Electrons per DN of the raw frame's pixels, shape of a raw frame."""
        image = np.empty(self._detector.raw_shape, np.float32)
        for part, gain in zip(self.parts(), self._gain, strict=True):
            image[part] = gain
        return image


def read_out(quadrants, electrons, rng):
    """
    Read a camera out.

    Parameters
    ----------
    quadrants : `Quadrants`
        The camera.
    electrons : `numpy.ndarray`
        Signal on the active area with unflipped rows, spikes included.
    rng : `numpy.random.Generator`
        Random numbers.

    Returns
    -------
    `numpy.ndarray`
        The raw frame, uint16.
    """
    # A camera has no numbers beyond its saturation.
    ceiling = min(quadrants.ceiling, 65535)
    raw = quadrants.to_raw(electrons)
    raw /= quadrants.gain_image()
    dark = np.zeros(electrons.shape, np.float32)
    rows, columns, level = quadrants.hot
    dark[rows, columns] = level
    one = np.ones(electrons.shape, np.float32)
    dark, one = quadrants.to_raw(dark), quadrants.to_raw(one)
    noise = rng.standard_normal(raw.shape, dtype=np.float32)
    drift = rng.normal(0, 1, 4) if quadrants.bias.any() else np.zeros(4)
    for number, part in enumerate(quadrants.parts()):
        # The bias wanders by some DN from frame to frame, and so it is measured on every frame.
        raw[part] += np.float32(quadrants.bias[number] + 2 * drift[number])
        raw[part] += np.float32(quadrants.dark[number]) * one[part] + dark[part]
        raw[part] += np.float32(quadrants.read_noise[number]) * noise[part]
    return np.clip(np.rint(raw, out=raw), 0, ceiling, out=raw).astype(np.uint16)
