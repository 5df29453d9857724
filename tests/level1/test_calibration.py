"""Raw frames: finding, reading, calibrating."""

import gzip
import logging
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rawframes import BIAS, COLUMNS, ROWS, raw_image, tiny_flight, write_frame

from astropy.io import fits
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESIS_1, Flight
from esis_ndcube.level1 import calibration
from esis_ndcube.level1.frames import FrameError, find_frames, read_frame, sort_frames

FLIGHT = tiny_flight()
DETECTOR = FLIGHT.detector


@pytest.fixture
def raw():
    return np.random.default_rng(3).integers(3000, 4000, DETECTOR.raw_shape)


@pytest.fixture
def folder(tmp_path, raw):
    for channel in (2, 1):
        for frame, suffix in {21: "fits", 20: "fit.gz", 6: "fits.fz", 12: "fts"}.items():
            # Names that sort differently from the headers.
            write_frame(tmp_path / f"{9 - channel}{99 - frame}.{suffix}", FLIGHT, channel, frame, raw)
    return tmp_path


@pytest.mark.parametrize("form", ["folder", "string", "glob", "list", "mixed"])
def test_frames_are_found_however_named_and_sorted_by_header(folder, form):
    paths = {
        "folder": folder,
        "string": str(folder),
        "glob": str(folder / "*.f*"),
        "list": sorted(folder.iterdir()),
        "mixed": [folder, folder / "778.fits", str(folder / "7*")],
    }[form]
    found = find_frames(paths, FLIGHT)
    assert [(f.frame_number, f.channel) for f in found] == [(n, c) for n in (6, 12, 20, 21) for c in (1, 2)]


def test_light_dark_and_neither(folder, caplog):
    with caplog.at_level(logging.INFO, logger="esis_ndcube"):
        light, dark = sort_frames(find_frames(folder, FLIGHT), FLIGHT)
    assert [f.frame_number for f in light] == [20, 20, 21, 21]
    assert [f.frame_number for f in dark] == [6, 6]
    assert "[12]" in caplog.text


@pytest.mark.parametrize("suffix", ["fits", "fit.gz", "fits.fz", "fit"])
def test_every_kind_of_file_gives_its_pixels(tmp_path, raw, suffix):
    write_frame(tmp_path / f"a.{suffix}", FLIGHT, 3, 22, raw)
    (frame,) = find_frames(tmp_path, FLIGHT)
    image = read_frame(frame, FLIGHT)
    np.testing.assert_array_equal(image, raw)
    assert image.dtype.isnative


@pytest.mark.parametrize(("meaning", "shift"), [("start", 4.0), ("middle", 0.0), ("end", -4.0)])
def test_mid_time_follows_the_meaning_of_the_stamp_and_the_clock(tmp_path, raw, meaning, shift):
    flight = tiny_flight(time_stamp=f'"{meaning}"')
    path = write_frame(tmp_path / "a.fits", flight, 1, 20, raw, stamp="2021-01-02T03:04:05.5", exposure_time=8.0)
    (frame,) = find_frames(path, flight)
    assert frame.exposure_time == pytest.approx(8.0, abs=1e-9)
    expected = np.datetime64("2021-01-02T03:04:05.750000") + np.timedelta64(int(shift * 1e6), "us")
    assert abs(frame.mid_time(flight).datetime64 - expected) < np.timedelta64(1, "us")


def test_commanded_exposure_where_none_is_measured(tmp_path, raw):
    path = write_frame(tmp_path / "a.fits", FLIGHT, 1, 20, raw, exposure_time=7.5)
    fits.delval(path, FLIGHT.files.measured_exposure)
    assert find_frames(path, FLIGHT)[0].exposure_time == 7.5


def test_nothing_found_says_what_was_looked_for(tmp_path):
    with pytest.raises(FrameError, match=rf"no FITS files in {tmp_path}.*\.fit\.gz"):
        find_frames(tmp_path, FLIGHT)
    with pytest.raises(FrameError, match=r"no such file or folder: .*nowhere"):
        find_frames(tmp_path / "nowhere", FLIGHT)
    with pytest.raises(FrameError, match="an empty list"):
        find_frames([], FLIGHT)


def test_foreign_files_are_left_out_with_a_warning(folder):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(folder / "map.fits")
    with pytest.warns(SunpyUserWarning, match=r"1 FITS files are left out.*map\.fits"):
        assert len(find_frames(folder, FLIGHT)) == 8


def test_only_foreign_files(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "map.fits")
    with (
        pytest.warns(SunpyUserWarning, match="left out"),
        pytest.raises(FrameError, match=r"no raw frames of TINY among the 1 FITS files.*ESIS1, ESIS2"),
    ):
        find_frames(tmp_path, FLIGHT)


def damage(path, raw, kind):
    """Write a file that is damaged in some way, and return what the error should say."""
    if kind == "text":
        path.write_text("not FITS")
        return "not a readable FITS file"
    if kind == "shape":
        write_frame(path, FLIGHT, 1, 25, raw[:, :-1])
        return r"shape \(48, 83\), expected \(48, 84\)"
    write_frame(path, FLIGHT, 1, 25, raw)
    if kind == "keyword":
        fits.delval(path, FLIGHT.files.frame)
        return f"no header keyword {FLIGHT.files.frame}"
    if kind == "value":
        fits.setval(path, FLIGHT.files.time, value="yesterday")
        return "header value that cannot be read"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return "cut short|not a readable FITS"


@pytest.mark.parametrize("kind", ["text", "shape", "keyword", "value", "truncated"])
# astropy warns of truncation, on top of our error
@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_bad_file_is_named_and_can_be_skipped(folder, raw, kind):
    path = folder / "bad.fits"
    problem = damage(path, raw, kind)
    with pytest.raises(FrameError, match=rf"bad\.fits.*({problem})"):
        find_frames(folder, FLIGHT)
    with pytest.warns(SunpyUserWarning, match=r"Skipped: .*bad\.fits"):
        assert len(find_frames(folder, FLIGHT, on_error="skip")) == 8


def test_truncated_gzip_is_found_when_read(tmp_path, raw):
    path = write_frame(tmp_path / "a.fit.gz", FLIGHT, 1, 20, raw)
    path.write_bytes(path.read_bytes()[:-400])
    # Some cuts show when the header is read already.
    with pytest.raises(FrameError, match=r"a\.fit\.gz is (damaged|not a readable)"):
        read_frame(*find_frames(tmp_path, FLIGHT), FLIGHT)


def test_truncated_tile_compressed_file(tmp_path, raw):
    path = write_frame(tmp_path / "a.fits.fz", FLIGHT, 1, 20, raw)
    path.write_bytes(path.read_bytes()[:-3500])
    with pytest.raises(FrameError, match=r"a\.fits\.fz"):
        find_frames(tmp_path, FLIGHT)


def test_gzip_of_junk(tmp_path):
    (tmp_path / "a.fit.gz").write_bytes(gzip.compress(b"x" * 10000))
    with pytest.raises(FrameError, match=r"a\.fit\.gz is not a readable FITS file"):
        find_frames(tmp_path, FLIGHT)


def test_two_files_for_one_slot_are_both_named(folder, raw):
    write_frame(folder / "again.fits", FLIGHT, 1, 20, raw)
    with pytest.raises(FrameError, match=r"frame 20 of channel 1: .*879\.fit\.gz and .*again\.fits"):
        find_frames(folder, FLIGHT)


def test_on_error_is_checked(folder):
    with pytest.raises(ValueError, match="on_error='ignore'"):
        find_frames(folder, FLIGHT, on_error="ignore")


def test_bias_withstands_hits_in_the_blank_columns():
    raw = raw_image(np.full((ROWS, COLUMNS), 500.0), FLIGHT.channel(1))
    raw[3:7, 2:10] = 20000
    raw[30, 75:80] = 65535
    image, bias = calibration.subtract_bias(raw, DETECTOR)
    np.testing.assert_allclose(bias, BIAS)
    assert image[0, 0] == 0
    assert raw[0, 0] == BIAS[0]  # the input is left alone


@settings(max_examples=30)
@given(
    channel=st.integers(1, 4),
    bias=st.lists(st.floats(1000, 5000), min_size=4, max_size=4),
    stray=st.floats(0, 300),
    seed=st.integers(0, 2**20),
)
def test_calibration_undoes_the_camera(channel, bias, stray, seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 2000, (ROWS, COLUMNS))
    truth[-6:] = 0  # one of the strips sees no Sun
    dark = rng.uniform(-2, 40, (ROWS, COLUMNS))
    channel = FLIGHT.channel(channel)
    raw = raw_image(truth, channel, dark=dark, stray=stray, bias=bias)
    image, found = calibration.calibrate(raw, dark, channel, DETECTOR)
    np.testing.assert_allclose(image, truth, atol=0.01)
    assert found == pytest.approx(stray, abs=0.01)


def test_calibration_without_flip():
    flight = tiny_flight(flip_y="false")
    truth = np.random.default_rng(1).uniform(0, 2000, (ROWS, COLUMNS))
    truth[:6] = 0
    raw = raw_image(truth[::-1], flight.channel(1))
    image, _ = calibration.calibrate(raw, np.zeros((ROWS, COLUMNS)), flight.channel(1), flight.detector)
    np.testing.assert_allclose(image, truth, atol=0.01)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 19])
def test_master_dark_weight_is_its_variance(count):
    darks = np.random.default_rng(2).normal(5, 3, (count, 100, 200))
    dark, weight = calibration.master_dark(darks)
    assert dark.mean() == pytest.approx(5, abs=0.1)
    assert dark.var() / 9 == pytest.approx(weight, rel=0.08)


def test_master_dark_shows_no_hits():
    darks = np.zeros((3, 10, 10))
    darks[0, 2, 2] = darks[1, 5, 5] = 30000
    assert calibration.master_dark(darks)[0].max() == 0


def test_read_noise_by_quadrant_despite_hits_and_rounding():
    rng = np.random.default_rng(5)
    noise = np.array([1.5, 2.0, 2.5, 3.0])
    shape = ESIS_1.detector.shape
    sigma = np.block([[np.full((520, 1024), noise[i]) for i in row] for row in ((0, 1), (3, 2))])
    pattern = rng.uniform(0, 50, shape)
    darks = [np.rint(pattern + rng.normal(0, sigma)) for _ in range(3)]
    darks[1][rng.random(shape) < 2e-4] += 3000
    # Rounding adds a variance of 1/12.
    expected = np.sqrt(noise**2 + 1 / 12)
    np.testing.assert_allclose(calibration.measure_read_noise(darks, ESIS_1.detector), expected, rtol=0.01)


def test_read_noise_needs_two_darks():
    with pytest.raises(ValueError, match="got 1 dark, expected at least 2"):
        calibration.measure_read_noise([np.zeros(DETECTOR.shape)], DETECTOR)


def test_stray_light_is_that_of_the_darker_strip():
    image = np.full((20, 10), 500.0)
    image[:4] = 40
    image[-4:] = 30
    image[-4:, :2] = 900  # the field stop reaches in
    assert calibration.stray_light(image, 4) == pytest.approx(30)
    assert calibration.stray_light(image, 0) == 0


def test_variance_of_electrons_against_photons_thrown_one_by_one():
    rng = np.random.default_rng(8)
    photons, per_photon, fano, read_noise = 40, 5.47, 0.1, 6.0
    number = rng.poisson(photons, 200_000)
    electrons = rng.normal(number * per_photon, np.sqrt(number * per_photon * fano))
    electrons += rng.normal(0, read_noise, number.size)
    variance = calibration.electron_variance(np.array(photons * per_photon), per_photon, read_noise, fano)
    assert electrons.var() == pytest.approx(variance, rel=0.02)


def test_variance_and_correlation_of_charge_against_electrons_that_spread_one_by_one():
    rng = np.random.default_rng(9)
    detector, line = ESIS_1.detector, "O V"
    collection, per_photon = ESIS_1.channel(3).charge_collection, ESIS_1.electrons_per_photon(line).value
    signal, side = detector.typical_signal, 300
    # As many photons more as they lose of their charge.
    charge = rng.poisson(signal / per_photon / collection, (side, side)) * (collection * per_photon)
    charge = rng.normal(charge, np.sqrt(charge * collection * detector.fano_factor))
    y, x = (index.ravel() for index in np.indices((side, side)))
    number = np.rint(np.maximum(charge, 0)).astype(int).ravel()
    y, x = np.repeat(y, number), np.repeat(x, number)
    place = rng.choice(detector.charge_kernel.size, len(y), p=detector.charge_kernel.ravel())
    reach = detector.charge_kernel.shape[0] // 2
    rows, columns = np.divmod(place, 2 * reach + 1)
    y, x = (y + rows - reach) % side, (x + columns - reach) % side
    electrons = np.bincount(y * side + x, minlength=side**2).reshape(side, side).astype(float)
    noise = detector.read_noise * np.mean(ESIS_1.channel(3).gain)
    electrons += rng.normal(0, noise, electrons.shape)
    variance = calibration.electron_variance(
        signal, per_photon, noise, detector.fano_factor, collection=collection, kernel=detector.charge_kernel
    )
    assert electrons.mean() == pytest.approx(signal, rel=0.01)
    assert electrons.var() == pytest.approx(variance, rel=0.02)
    electrons -= electrons.mean()
    correlation = calibration.noise_correlation(ESIS_1, 3, line)
    middle = correlation.shape[0] // 2
    for row, column in ((0, 1), (1, 0), (1, 1), (0, 2), (3, 3)):
        measured = np.mean(electrons * np.roll(electrons, (row, column), (0, 1))) / variance
        assert measured == pytest.approx(correlation[middle + row, middle + column], abs=0.01)


def test_charge_that_stays_is_not_correlated():
    flight = Flight.from_toml(re.sub(r"^(charge_|typical_)\w+ = .*\n", "", ESIS_1.toml, flags=re.MULTILINE))
    np.testing.assert_array_equal(calibration.noise_correlation(flight, 1), [[1]])
    np.testing.assert_array_equal(flight.detector.charge_kernel, [[1]])
    assert flight.channel(2).charge_collection == 1


def test_each_column_counts_for_its_line():
    factors = calibration.line_factors(FLIGHT)
    he, o = (FLIGHT.electrons_per_photon(line).value for line in ("He I", "O V"))
    expected = np.where(np.arange(COLUMNS) <= 26, he, o)
    np.testing.assert_allclose(np.delete(factors, 26), np.delete(expected, 26), rtol=1e-6)
    assert he > o


@pytest.mark.flight_data
@pytest.mark.parametrize("channel", [1, 4])
def test_master_dark_of_the_flight(flight_data, channel):
    folder = flight_data if list(flight_data.glob("ESIS*")) else flight_data / "esis_level0"
    reference = folder.parent / "esis_derived" / f"ESIS{channel}_master_dark.fits"
    if not reference.exists():
        pytest.skip(f"no {reference.name}")
    detector = ESIS_1.detector
    _, dark = sort_frames(find_frames(str(folder / f"ESIS{channel}_*"), ESIS_1), ESIS_1)
    images = [calibration.subtract_bias(read_frame(frame, ESIS_1), detector)[0] for frame in dark]
    images = [calibration.trim(image, detector) for image in images]
    noise = calibration.measure_read_noise(images, detector)
    assert (noise > 2.1).all()
    assert (noise < 3.2).all()
    master, weight = calibration.master_dark(images)
    with fits.open(reference) as hdul:
        expected = calibration.trim(hdul[1].data * hdul[1].header["SCALE"], detector)
    difference = (master - expected)[np.abs(expected) < 20]
    # Seven darks against nineteen, of which these are a part: they agree but for the noise of few darks, and
    # for the wander of the bias, a tenth of a DN from frame to frame.
    assert abs(np.median(difference)) < 0.15
    assert 1.4826 * np.median(np.abs(difference)) < noise.mean() * np.sqrt(weight)
