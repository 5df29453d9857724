"""
Calibrate raw camera frames.

The steps are those of the ESIS team (Parker et al. 2022, section on Level-1): bias from the blank columns,
master dark, trimming, gain, stray light.
All functions work on bare arrays of one frame; *raw* arrays are laid out as the camera writes them, *active*
ones hold only the pixels that see light.
"""

from itertools import pairwise

import numpy as np
from scipy.ndimage import distance_transform_edt

from esis_ndcube.flight.instrument import ByQuadrant
from esis_ndcube.utils.arrays import plain_array, plain_arrays
from esis_ndcube.utils.noise import autocorrelation, trim_correlation

__all__ = [
    "calibrate",
    "electron_variance",
    "gain_image",
    "line_factors",
    "master_dark",
    "measure_read_noise",
    "noise_correlation",
    "orient",
    "quadrants",
    "stray_light",
    "subtract_bias",
    "trim",
]

_BIAS_CUT, _DARK_CUT, _STRAY_CUT = 0.25, 0.25, 0.30


def quadrants(shape, split_column):
    """
    The quadrants of a frame.

    Parameters
    ----------
    shape : `tuple` of `int`
        Rows and columns.
    split_column : `int`
        First column of the right-hand quadrants; rows are split in the middle.

    Returns
    -------
    `~esis_ndcube.flight.ByQuadrant` of `tuple` of `slice`
        Rows and columns.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.level1.calibration import quadrants
    >>> [int(np.arange(4).reshape(2, 2)[q].item()) for q in quadrants((2, 2), 1)]
    [0, 1, 3, 2]
    """
    low, high = slice(0, shape[0] // 2), slice(shape[0] // 2, shape[0])
    left, right = slice(0, split_column), slice(split_column, shape[1])
    return ByQuadrant(low_low=(low, left), high_low=(low, right), high_high=(high, right), low_high=(high, left))


@plain_arrays("raw")
def subtract_bias(raw, detector):
    """
    Subtract the bias of each quadrant.

    Parameters
    ----------
    raw : `numpy.ndarray`
        Raw frame in DN.
    detector : `~esis_ndcube.flight.Detector`
        Layout.

    Returns
    -------
    image : `numpy.ndarray`
        Raw layout, float32, DN.
    bias : `numpy.ndarray`
        The four biases in DN, as `quadrants` has them: trimmed means (25 % off either end) of the blank columns.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import subtract_bias
    >>> image, bias = subtract_bias(np.full(ESIS_1.detector.raw_shape, 3360, np.uint16), ESIS_1.detector)
    >>> bias.tolist(), float(image.max())
    ([3360.0, 3360.0, 3360.0, 3360.0], 0.0)
    """
    image = np.array(raw, dtype=np.float32)
    blank = [slice(*columns) for columns in detector.blank_columns]
    bias = np.empty(4)
    for i, (rows, columns) in enumerate(quadrants(detector.raw_shape, detector.split_column)):
        side = blank[columns.start >= detector.split_column]
        bias[i] = _trimmed_mean(raw[rows, side], _BIAS_CUT)
        image[rows, columns] -= np.float32(bias[i])
    return image, bias


@plain_arrays("image")
def trim(image, detector):
    """
    Keep the pixels that see light.

    Parameters
    ----------
    image : `numpy.ndarray`
        Raw layout.
    detector : `~esis_ndcube.flight.Detector`
        Layout.

    Returns
    -------
    `numpy.ndarray`
        Active area: the columns of both halves joined, rows as in the raw frame.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import trim
    >>> trim(np.zeros(ESIS_1.detector.raw_shape), ESIS_1.detector).shape
    (1040, 2048)
    """
    return np.concatenate([image[:, slice(*columns)] for columns in detector.active_columns], axis=1)


@plain_arrays("image")
def orient(image, detector):
    """
    Undo the flip of the optics.

    Parameters
    ----------
    image : `numpy.ndarray`
        Active area with its rows as in the raw frame.
    detector : `~esis_ndcube.flight.Detector`
        The detector, which says whether there is a flip.

    Returns
    -------
    `numpy.ndarray`
        Active area in the Level-1 orientation; a view.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import orient
    >>> orient(np.array([[1], [2]]), ESIS_1.detector).tolist()
    [[2], [1]]
    """
    return image[::-1] if detector.flip_y else image


def gain_image(values, detector):
    """
    Spread one value per quadrant over the active area.

    Parameters
    ----------
    values : `~esis_ndcube.flight.ByQuadrant` of `float`
        For example the gain of each quadrant.
    detector : `~esis_ndcube.flight.Detector`
        Layout.

    Returns
    -------
    `numpy.ndarray`
        Active area with its rows as in the raw frame, float32.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import gain_image
    >>> gain = gain_image(ESIS_1.channel(1).gain, ESIS_1.detector)
    >>> gain[0, 0].round(2), gain[-1, 0].round(2)
    (np.float32(2.57), np.float32(2.5))
    """
    image = np.empty(detector.shape, dtype=np.float32)
    for value, where in zip(values, _active_quadrants(detector), strict=True):
        image[where] = value
    return image


def master_dark(darks):
    """
    Combine dark frames.

    Parameters
    ----------
    darks : sequence of `numpy.ndarray`
        Bias-subtracted darks in DN, all of one camera, active area.

    Returns
    -------
    dark : `numpy.ndarray`
        Master dark in DN, float32: the mean of the middle half of each pixel's values, at least without the
        lowest and highest where there are three frames or more, so that particle hits do not enter.
    weight : `float`
        Variance of the master dark over that of one frame.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.level1.calibration import master_dark
    >>> dark, weight = master_dark([np.full((1, 1), value) for value in (1.0, 2.0, 900.0)])
    >>> float(dark[0, 0]), round(weight, 2)
    (2.0, 0.44)
    """
    stack = np.stack([np.asarray(plain_array(dark, "a dark"), dtype=np.float32) for dark in darks])
    count = len(stack)
    cut = max(int(_DARK_CUT * count), 1) if count >= 3 else 0
    stack.sort(axis=0)
    dark = stack[cut : count - cut].mean(axis=0)
    # Relative variance of a trimmed mean of normal values: 1 for no cut, pi / 2 for the median.
    return dark, (1 + (np.pi / 2 - 1) * (2 * cut / count) ** 1.5) / count


def measure_read_noise(darks, detector):
    """
    Measure the read noise of each quadrant from differences of darks.

    Parameters
    ----------
    darks : sequence of `numpy.ndarray`
        At least two bias-subtracted darks in DN, all of one camera, active area.
    detector : `~esis_ndcube.flight.Detector`
        Layout.

    Returns
    -------
    `numpy.ndarray`
        Standard deviation of one frame in DN, shape (4,), as `quadrants` has them, particle hits excluded.

    Raises
    ------
    ValueError
        If there is but one dark.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import measure_read_noise
    >>> darks = np.random.default_rng(1).normal(0, 3, (2, *ESIS_1.detector.shape))
    >>> measure_read_noise(darks, ESIS_1.detector).round(1)
    array([3., 3., 3., 3.])
    """
    if len(darks) < 2:
        msg = f"got {len(darks)} dark, expected at least 2 to measure the read noise from their differences"
        raise ValueError(msg)
    darks = [plain_array(dark, "a dark") for dark in darks]
    variance = np.zeros(4)
    for first, second in pairwise(darks):
        difference = np.subtract(first, second, dtype=np.float32)
        variance += [_clipped_variance(difference[where]) / 2 for where in _active_quadrants(detector)]
    return np.sqrt(variance / (len(darks) - 1))


@plain_arrays("image")
def stray_light(image, rows):
    """
    Level of stray light: the brightness where the detector does not see the Sun.

    Parameters
    ----------
    image : `numpy.ndarray`
        Active area. Values that are not finite do not count.
    rows : `int`
        Height of the strips at either end.

    Returns
    -------
    `float`
        The smaller of the trimmed means (30 % off either end) of the two strips, because the field stop's image may
        reach into one of them. 0 without strips, NaN if no value is finite.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.level1.calibration import stray_light
    >>> stray_light(np.array([[5.0], [100.0], [7.0]]), 1)
    5.0
    """
    if not rows:
        return 0.0
    return float(np.fmin(*(_trimmed_mean(strip, _STRAY_CUT) for strip in (image[:rows], image[-rows:]))))


@plain_arrays("raw", "dark")
def calibrate(raw, dark, channel, detector):
    """
    Turn a raw frame into electrons.

    Parameters
    ----------
    raw : `numpy.ndarray`
        Raw frame in DN.
    dark : `numpy.ndarray`
        Master dark in DN, active area with its rows as in the raw frame.
    channel : `~esis_ndcube.flight.Channel`
        The channel, with its gains.
    detector : `~esis_ndcube.flight.Detector`
        Layout.

    Returns
    -------
    image : `numpy.ndarray`
        Electrons, ``(raw - bias - dark) * gain - stray light``, float32, active area in the Level-1
        orientation.
    stray : `float`
        The stray light that was subtracted, in electrons.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import calibrate
    >>> raw = np.full(ESIS_1.detector.raw_shape, 3360, np.uint16)
    >>> raw[500, 1500] = 3460
    >>> image, stray = calibrate(raw, np.zeros(ESIS_1.detector.shape), ESIS_1.channel(1), ESIS_1.detector)
    >>> image[1039 - 500, 1500 - 54], stray
    (np.float32(253.0), 0.0)
    """
    image, _ = subtract_bias(raw, detector)
    image = (trim(image, detector) - np.asarray(dark, dtype=np.float32)) * gain_image(channel.gain, detector)
    stray = stray_light(image, detector.stray_light_rows)
    return np.ascontiguousarray(orient(image, detector)) - np.float32(stray), stray


def line_factors(flight):
    """
    Electrons per photon in each column of the active area.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight, with the lines and their columns.

    Returns
    -------
    `numpy.ndarray`
        Shape (columns,), float32. A column counts for the brightest line that occupies it. A column of no line counts
        for the nearest line.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import line_factors
    >>> line_factors(ESIS_1)[[0, 1500]].round(2)
    array([5.89, 5.47], dtype=float32)
    """
    factors = np.zeros(flight.detector.shape[1], dtype=np.float32)
    for line in sorted((line for line in flight.lines if line.columns), key=lambda line: line.intensity):
        factors[slice(*line.columns)] = flight.electrons_per_photon(line).value
    nearest = distance_transform_edt(factors == 0, return_distances=False, return_indices=True)
    return factors[nearest[0]]


@plain_arrays("electrons", "factors", "read_noise")
def electron_variance(electrons, factors, read_noise, fano, *, collection=1.0, kernel=((1.0,),)):
    r"""
    Variance of the electrons that photons have freed in a pixel.

    A photon frees e electrons, with a variance of e times the Fano factor F. Photons obey Poisson's law, so N electrons
    vary by :math:`N m`. Here :math:`m = c\,(e + F)` is the mean square over the mean of the charge that a photon leaves
    in the pixels; c is less than 1 if some charge is lost.
    If each of these electrons falls into another pixel with the probabilities h, pixels share the noise of the photons,
    and a single pixel has less of it: :math:`N [1 + (m - 1) \sum h^2]`. The read noise adds to this.

    Parameters
    ----------
    electrons : `numpy.ndarray`
        All electrons that light has freed, including stray light. Values less than 0 count as 0.
    factors : `numpy.ndarray`
        Electrons per photon, of a shape that broadcasts.
    read_noise : `numpy.ndarray`
        Read noise in electrons, of a shape that broadcasts.
    fano : `float`
        Fano factor.
    collection : `float`, optional
        The factor c, `~esis_ndcube.flight.Channel.charge_collection` of the channel.
    kernel : `numpy.ndarray`, optional
        The probabilities h, `~esis_ndcube.flight.Detector.charge_kernel` of the detector.

    Returns
    -------
    `numpy.ndarray`
        Variance in electrons squared.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.level1.calibration import electron_variance
    >>> float(electron_variance(np.array(100.0), 5.4, 6.0, 0.1))
    586.0

    A quarter of the charge goes to each of four pixels:

    >>> kernel = np.full((2, 2), 0.25)
    >>> float(electron_variance(np.array(100.0), 5.4, 6.0, 0.1, kernel=kernel))
    248.5
    """
    shared = np.sum(np.square(kernel))
    # 1 + (m - 1) sum(h^2), in two terms of the type of the factors.
    per_electron = (factors + np.float32(fano)) * np.float32(collection * shared) + np.float32(1 - shared)
    return np.maximum(electrons, 0) * per_electron + np.square(read_noise)


def noise_correlation(flight, channel, line=None):
    r"""
    Correlation of the noise of neighboring pixels of a camera.

    As for `electron_variance`, the covariance of the electrons of two pixels at a distance d is :math:`N (m - 1) \sum_i
    h_i h_{i + d}`. It is stated for the flight's typical signal: the share of the read noise, which pixels do not
    share, depends on the brightness.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight, with its detector.
    channel : `int`
        Channel number.
    line : `str`, optional
        The line of the photons; by default the flight's pose line.

    Returns
    -------
    `numpy.ndarray`
        Correlation by distance in pixels, axes (y, x), odd lengths and 1 in the middle; of one pixel if the flight does
        not say how charge spreads.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import noise_correlation
    >>> correlation = noise_correlation(ESIS_1, 1)
    >>> middle = correlation.shape[0] // 2
    >>> correlation[middle, middle : middle + 3].round(2)
    array([1.  , 0.13, 0.02])
    """
    detector, camera = flight.detector, flight.channel(channel)
    signal = detector.typical_signal
    charge = camera.charge_collection * (
        flight.electrons_per_photon(flight.pose_line if line is None else line).value + detector.fano_factor
    )
    covariance = signal * (charge - 1) * autocorrelation(detector.charge_kernel)
    middle = tuple(n // 2 for n in covariance.shape)
    covariance[middle] += signal + (detector.read_noise * np.mean(camera.gain)) ** 2
    return trim_correlation(covariance / covariance[middle])


def _trimmed_mean(values, cut):
    """Trimmed mean of the finite values; NaN if there are none."""
    values = values[np.isfinite(values)]
    from scipy.stats import trim_mean

    return trim_mean(values, cut) if values.size else np.nan


def _active_quadrants(detector):
    left = detector.active_columns[0]
    return quadrants(detector.shape, left[1] - left[0])


def _clipped_variance(values):
    values = values[np.isfinite(values)]
    if not values.size:
        return np.nan
    # Digital numbers are whole: medians are coarse, those of a part are the same, and they serve only to clip.
    some = values[:: max(1, values.size // 100_000)]
    middle = np.median(some)
    values = values - middle
    spread = max(1.4826 * np.median(np.abs(some - middle)), 1.0)
    return np.square(values[np.abs(values) < 5 * spread], dtype=float).mean()
