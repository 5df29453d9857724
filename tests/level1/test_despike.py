"""Particles go, the Sun stays."""

import numpy as np
import pytest

from esis_ndcube import ESIS_1
from esis_ndcube.level1 import calibration
from esis_ndcube.level1.despike import estimate_noise, find_spikes, mend_spikes
from esis_ndcube.level1.frames import find_frames, read_frame, sort_frames

FWHM_TO_SIGMA = 1 / 2.3548


def blob(shape, y, x, fwhm_y, fwhm_x=None):
    """A Gaussian of height 1."""
    sy, sx = fwhm_y * FWHM_TO_SIGMA, (fwhm_x or fwhm_y) * FWHM_TO_SIGMA
    rows, columns = ((np.arange(n) - at) / s for n, at, s in zip(shape, (y, x), (sy, sx), strict=True))
    return np.outer(np.exp(-(rows**2) / 2), np.exp(-(columns**2) / 2))


@pytest.fixture(scope="module")
def scene():
    """A network-like scene of 200 to 2000 electrons with photon noise, and the noise of its pixels."""
    rng = np.random.default_rng(4)
    shape = 300, 320
    truth = np.full(shape, 150.0)
    for _ in range(500):
        truth += rng.exponential(250) * blob(shape, *rng.uniform(0, shape), rng.uniform(3, 7))
    variance = 1.4 * truth + 50
    return rng.normal(truth, np.sqrt(variance)), np.sqrt(variance)


def place(rng, shape, count, room):
    """Random places that are apart from each other."""
    taken, places = np.zeros(shape, dtype=bool), []
    while len(places) < count:
        y, x = rng.integers(room, shape[0] - room), rng.integers(room, shape[1] - room)
        if not taken[y - room : y + room, x - room : x + room].any():
            taken[y, x] = True
            places.append((y, x))
    return places


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 2, 3])
def test_spikes_of_ten_sigma_and_more_are_found(scene, length):
    image, sigma = scene
    image = image.copy()
    rng = np.random.default_rng(length)
    steps = [(0, 1), (1, 0), (1, 1), (1, -1)]
    hits = []
    for y, x in place(rng, image.shape, 150, 8):
        dy, dx = steps[rng.integers(4)]
        height = rng.choice([12, 15, 20, 50, 300])
        pixels = [(y + i * dy, x + i * dx) for i in range(length)]
        for pixel in pixels:
            image[pixel] += height * sigma[pixel]
        hits += pixels
    spikes = find_spikes(image)
    assert np.mean([spikes[hit] for hit in hits]) >= 0.95
    # All other marked pixels lie beside a hit.
    near = np.zeros(image.shape, dtype=bool)
    for y, x in hits:
        near[y - 2 : y + 3, x - 2 : x + 3] = True
    assert (spikes & ~near).sum() <= 3


@pytest.mark.slow
def test_nothing_is_found_where_there_is_nothing(scene):
    assert find_spikes(scene[0]).sum() <= 3


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_brightenings_as_wide_as_the_optics_make_them_stay(scene, fwhm):
    image, sigma = scene
    rng = np.random.default_rng(int(10 * fwhm))
    added = np.zeros(image.shape)
    for y, x in place(rng, image.shape, 40, 14):
        shift = rng.uniform(-0.5, 0.5, 2)
        added += rng.uniform(5, 60) * sigma[y, x] * blob(image.shape, y + shift[0], x + shift[1], fwhm)
    bright = image + added + rng.normal(0, np.sqrt(1.4 * added))
    spikes = find_spikes(bright)
    mended, _ = mend_spikes(bright, spikes)
    assert (bright - mended).sum() <= 0.01 * added.sum()


def test_thick_track_goes_from_its_rim_inward():
    rng = np.random.default_rng(2)
    image = rng.normal(100, 5, (60, 60))
    truth = np.zeros(image.shape, dtype=bool)
    for i in range(30):
        truth[15 + i, 10 + i : 12 + i] = True
    image[truth] += rng.uniform(300, 5000, truth.sum())
    spikes = find_spikes(image)
    assert spikes[truth].all()
    mended, _ = mend_spikes(image, spikes)
    assert abs(mended[truth].mean() - 100) < 5


def test_noise_is_measured_despite_spikes():
    rng = np.random.default_rng(6)
    signal = np.tile(np.linspace(0, 800, 600), (400, 1))
    image = rng.normal(signal, np.sqrt(30 + 3 * signal))
    image[rng.random(image.shape) < 1e-3] += 5000
    floor, slope = estimate_noise(image)
    assert floor == pytest.approx(30, rel=0.35)
    assert slope == pytest.approx(3, rel=0.05)


def test_mended_values_and_their_variance_are_honest():
    rng = np.random.default_rng(9)
    y, x = np.mgrid[:200, :200]
    truth = 300 + 60 * np.sin(x / 6) * np.cos(y / 5)
    image = rng.normal(truth, 10)
    spikes = np.zeros(image.shape, dtype=bool)
    spikes[5:195:6, 5:195:6] = True
    mended, variance = mend_spikes(np.where(spikes, 1e4, image), spikes)
    pulls = (mended - truth)[spikes] / np.sqrt(variance)
    assert 0.2 < pulls.std() < 1.1
    np.testing.assert_array_equal(mended[~spikes], image[~spikes])


def test_invalid_pixels_are_neither_spikes_nor_used():
    rng = np.random.default_rng(11)
    image = rng.normal(100, 5, (50, 50))
    image[10:13] = np.nan
    image[14, 20] += 500
    image[30, 30] += 500
    spikes = find_spikes(image)
    assert np.argwhere(spikes).tolist() == [[14, 20], [30, 30]]
    assert mend_spikes(image, spikes)[0][14, 20] == pytest.approx(100, abs=15)


def test_spike_at_the_border():
    image = np.random.default_rng(12).normal(100, 5, (50, 50))
    for place in [(0, 0), (0, 25), (49, 49), (20, 49)]:
        image[place] += 400
    spikes = find_spikes(image)
    assert spikes.sum() == 4
    assert mend_spikes(image, spikes)[0].max() < 140


def test_nothing_left_to_mend_with():
    image = np.full((20, 20), 7.0)
    spikes = np.ones(image.shape, dtype=bool)
    mended, variance = mend_spikes(image, spikes)
    assert np.isnan(mended).all()
    assert np.isnan(variance).all()


def test_flat_and_empty_frames():
    assert not find_spikes(np.zeros((30, 30))).any()
    assert not find_spikes(np.full((30, 30), np.nan)).any()


@pytest.mark.parametrize("wrong", [{"sigma": 0}, {"fwhm": -1.0}])
def test_impossible_parameters(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"got {name}=.*expected more than 0"):
        find_spikes(np.zeros((9, 9)), **wrong)


@pytest.mark.flight_data
@pytest.mark.parametrize("channel", [1, 2, 3, 4])
def test_flight_frames_keep_the_sun(flight_data, channel):
    """Injected one-frame brightenings of 3 arcsec stay, and so do features that the frames before and after show
    too."""
    folder = flight_data if list(flight_data.glob("ESIS*")) else flight_data / "esis_level0"
    detector = ESIS_1.detector
    light, dark = sort_frames(find_frames(str(folder / f"ESIS{channel}_*"), ESIS_1), ESIS_1)
    frames = {f.frame_number: f for f in light}
    darks = [calibration.subtract_bias(read_frame(frame, ESIS_1), detector)[0] for frame in dark[:4]]
    dark, _ = calibration.master_dark([calibration.trim(image, detector) for image in darks])
    before, image, after = (
        calibration.calibrate(read_frame(frames[n], ESIS_1), dark, ESIS_1.channel(channel), detector)[0]
        for n in (123, 124, 125)
    )
    spikes = find_spikes(image)
    clean, _ = mend_spikes(image, spikes)
    assert 100 < spikes.sum() < 1000
    # A spike is in one frame; the losses of a real feature are in the others too.
    for columns in ESIS_1.channel(channel).bad_columns:
        spikes[:, slice(*columns)] = False
    lost, there = (image - clean)[spikes], ((before + after) / 2 - clean)[spikes]
    # Nothing bright is lost: the explosive event keeps its core. In the dark some hot pixels go.
    assert not ((there > lost / 2) & (clean[spikes] > 1000)).any()
    assert np.mean(there > lost / 2) < 0.08
    assert abs(there.sum()) < 0.05 * lost.sum()

    rng = np.random.default_rng(channel)
    floor, slope = estimate_noise(image)
    added = np.zeros(image.shape)
    size = (3 / detector.pixel_scale.value)[::-1]
    for y, x in place(rng, image.shape, 150, 20):
        height = rng.uniform(5, 80) * np.sqrt(floor + slope * max(clean[y, x], 0))
        window = slice(y - 14, y + 15), slice(x - 14, x + 15)
        added[window] += height * blob((29, 29), *(14 + rng.uniform(-0.5, 0.5, 2)), *size)
    bright = clean + added + rng.normal(0, np.sqrt(slope * added))
    found = find_spikes(bright)
    changed = np.abs(bright - mend_spikes(bright, found)[0])[added > 1].sum()
    assert changed <= 0.01 * added.sum()
