"""The Level-1 cube: from raw frames, from the team's files and objects."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from rawframes import COLUMNS, ROWS, dark_pattern, raw_image, tiny_flight, write_flight, write_frame
from scipy.stats import trim_mean

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube.flags import Flag
from esis_ndcube.io.fits import read_fits, write_fits
from esis_ndcube.level1 import ESISLevel1Cube
from esis_ndcube.level1.frames import FrameError

FLIGHT = tiny_flight()
QUADRANTS = "low_low", "high_low", "high_high", "low_high"
SHAPE = ROWS, COLUMNS


@pytest.fixture(scope="module")
def flight_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flight") / "raw"
    return folder, write_flight(folder, FLIGHT)


@pytest.fixture(scope="module")
def cube(flight_folder):
    return ESISLevel1Cube.from_raw(flight_folder[0], FLIGHT, workers=1)


@pytest.fixture
def folder(tmp_path):
    """Frames to spoil."""
    write_flight(tmp_path / "raw", FLIGHT, light=(20, 22), channels=(1, 2))
    return tmp_path / "raw"


# the small folder has frames of two of the four channels
two_channels = pytest.mark.filterwarnings("ignore:no light frames of channels")


def has(cube, flag):
    return (cube.flags & int(flag)) != 0


def test_electrons_come_back(cube, flight_folder):
    truth = flight_folder[1]
    assert cube.data.shape == truth.shape == (3, 4, *SHAPE)
    assert cube.data.dtype == np.float32
    assert cube.unit == u.electron
    assert cube.frame_number.tolist() == [20, 21, 23]
    assert cube.channel.tolist() == [1, 2, 3, 4]
    assert cube.flight == FLIGHT
    error = cube.data - truth
    # Read noise of 2 DN at 2.5 electrons per DN, and that of the darks; no pattern, bias or stray light.
    assert 5 < error.std() < 7.5
    np.testing.assert_allclose(error.mean(axis=(2, 3)), 0, atol=2.0)
    assert np.isfinite(cube.data).all()


def test_uncertainty_is_photon_noise_and_read_noise(cube, flight_folder):
    truth = flight_folder[1]
    sigma = cube.uncertainty.array
    where = np.argwhere(truth[0, 0] > 700)
    for y, x in where[::25]:
        line = "O V" if x >= 28 else "He I"
        per_photon = (12398.42 / FLIGHT.line(line).wavelength.value) / 3.6
        # The true variance of N electrons, of stray light too: 50 electrons of it.
        charge = FLIGHT.channel(1).charge_collection * (per_photon + 0.1)
        shared = np.sum(FLIGHT.detector.charge_kernel**2)
        expected = np.sqrt((truth[0, 0, y, x] + 50) * (1 + (charge - 1) * shared) + (2 * 2.55) ** 2 * 1.5)
        assert sigma[0, 0, y, x] == pytest.approx(expected, rel=0.04)


@two_channels
def test_uncertainty_counts_the_noise_of_the_darks(tmp_path):
    """Where there is no light the scatter is that of the frame and of the three darks: 1.2 times that of the frame."""
    write_flight(tmp_path, FLIGHT, light=range(20, 24), channels=(1,), scene=np.zeros(SHAPE), stray=0.0)
    cube = ESISLevel1Cube.from_raw(tmp_path, FLIGHT)
    # Noise that looks like light has a photon noise, which is zero for values below zero.
    pulls = (cube.data / cube.uncertainty.array)[cube.data < 0]
    assert np.mean(pulls**2) == pytest.approx(1, rel=0.1)


def test_times_are_true(cube):
    # The tiny flight stamps the end of 10 s exposures, 10 s apart, with a clock that is 0.25 s late.
    launch = np.datetime64("2021-01-02T03:00:00.125")
    for i, number in enumerate((20, 21, 23)):
        expected = launch + np.timedelta64(10_000 * number - 5_000 + 250, "ms")
        assert abs(cube.time[i].datetime64 - expected) < np.timedelta64(1, "us")
        assert abs(cube.mid_time[i, 2].datetime64 - expected) < np.timedelta64(1, "us")
    np.testing.assert_allclose(cube.exposure_time.to_value(u.s), 10, atol=1e-6)
    assert cube.meta["file"][0, 0] == "c1_00020.fits"
    assert cube[1].meta["file"].tolist() == [
        f"c{c}_00021.{s}" for c, s in zip((1, 2, 3, 4), ("fit.gz", "fits.fz", "fits", "fit.gz"), strict=True)
    ]


def test_bad_columns_are_masked(cube):
    masked = cube.mask[:, 1].all(axis=(0, 1))
    assert np.flatnonzero(masked).tolist() == [3, 4]
    assert not cube.mask[:, [0, 2, 3]].any()
    np.testing.assert_array_equal(has(cube, Flag.BAD_PIXEL), cube.mask)


def test_number_of_threads_does_not_matter(cube, flight_folder):
    other = ESISLevel1Cube.from_raw(flight_folder[0], FLIGHT, workers=2, progress=True)
    np.testing.assert_array_equal(other.data, cube.data)
    np.testing.assert_array_equal(other.uncertainty.array, cube.uncertainty.array)
    np.testing.assert_array_equal(other.flags, cube.flags)
    assert other.history == cube.history


def test_subset_of_frames_and_channels(cube, flight_folder):
    part = ESISLevel1Cube.from_raw(flight_folder[0], FLIGHT, frame_numbers=range(21, 30), channels=[3, 1])
    assert part.frame_number.tolist() == [21, 23]
    assert part.channel.tolist() == [1, 3]
    np.testing.assert_array_equal(part.data, cube.data[1:, [0, 2]])


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"frame_numbers": [7]}, r"got frames \[7\], expected some of \[20, 21, 23\]"),
        ({"channels": [9]}, "unknown channel 9"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
    ],
)
def test_impossible_selection(flight_folder, wanted, problem):
    with pytest.raises(ValueError, match=problem):
        ESISLevel1Cube.from_raw(flight_folder[0], FLIGHT, **wanted)


@pytest.mark.slow
@two_channels
def test_spikes_are_mended_and_kept_on_the_map(folder):
    clean = ESISLevel1Cube.from_raw(folder, FLIGHT)
    scene = write_flight(folder.parent / "other", FLIGHT, light=(21,), channels=(1,), seed=5)[0, 0]
    dark = dark_pattern()
    raw = raw_image(scene, FLIGHT.channel(1), dark=dark, stray=50.0, read_noise=2.0, rng=np.random.default_rng(5))
    # The camera's row 17 is row 30 of the cube; its column 54 is column 40.
    raw[17, 54] += 4000
    write_frame(folder / "hit.fits", FLIGHT, 1, 24, raw)
    with pytest.warns(SunpyUserWarning, match=r"frame 24 is missing in channels \[2\]"):
        mended = ESISLevel1Cube.from_raw(folder, FLIGHT)
    with pytest.warns(SunpyUserWarning, match="frame 24 is missing"):
        kept = ESISLevel1Cube.from_raw(folder, FLIGHT, despike=False)
    assert np.argwhere(has(mended, Flag.SPIKE)).tolist() == [[2, 0, 30, 40]]
    assert not has(kept, Flag.SPIKE).any()
    with pytest.warns(SunpyUserWarning, match="frame 24 is missing"):
        blind = ESISLevel1Cube.from_raw(folder, FLIGHT, despike={"sigma": 1e6})
    assert not has(blind, Flag.SPIKE).any()
    assert blind.history[0].parameters["despike"] == {"sigma": 1e6}
    assert not mended.mask[2, 0].any()
    assert kept.data[2, 0, 30, 40] > 3900 * FLIGHT.channel(1).gain.high_low
    assert mended.data[2, 0, 30, 40] == pytest.approx(scene[30, 40], abs=60)
    assert mended.uncertainty.array[2, 0, 30, 40] > kept.uncertainty.array[2, 0, 30, 39]
    assert mended.history != kept.history
    np.testing.assert_array_equal(mended.data[:2], clean.data)


@two_channels
def test_missing_camera_is_kept_as_a_gap(folder):
    next(folder.glob("c2_00022*")).unlink()
    with pytest.warns(SunpyUserWarning, match=r"frame 22 is missing in channels \[2\]"):
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT)
    assert cube.data.shape[:2] == (2, 2)
    assert np.isnan(cube.data[1, 1]).all()
    assert np.isnan(cube.uncertainty.array[1, 1]).all()
    assert cube.mask[1, 1].all()
    assert (cube.flags[1, 1] == int(Flag.MISSING)).all()
    assert np.isfinite(cube.data[1, 0]).all()
    assert cube.meta["file"][1].tolist() == ["c1_00022.fit.gz", ""]
    assert cube.mid_time[1, 1].isot == cube.mid_time[1, 0].isot
    assert np.isnan(cube.exposure_time[1, 1])


def test_a_channel_without_frames_is_left_out(folder):
    with pytest.warns(SunpyUserWarning, match=r"no light frames of channels \[3, 4\] of TINY"):
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT)
    assert cube.channel.tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"no light frames of channels \[4\], only of \[1, 2\]"):
        ESISLevel1Cube.from_raw(folder, FLIGHT, channels=[1, 4])


@two_channels
def test_blank_frame_is_masked(folder):
    next(folder.glob("c1_00022*")).unlink()
    write_frame(folder / "blank.fits", FLIGHT, 1, 22, np.zeros(FLIGHT.detector.raw_shape))
    with pytest.warns(SunpyUserWarning, match=r"blank\.fits is blank, all its pixels are 0"):
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT)
    assert cube.mask[1, 0].all()
    assert np.isnan(cube.data[1, 0]).all()
    assert np.isfinite(cube.data[1, 1]).all()
    assert cube.meta["file"][1, 0] == "blank.fits"


@two_channels
def test_saturated_pixels_are_masked(folder):
    rng = np.random.default_rng(1)
    raw = raw_image(np.zeros(SHAPE), FLIGHT.channel(1), dark=dark_pattern(), read_noise=2.0, rng=rng)
    raw[10:12, 20] = 65535
    write_frame(folder / "hot.fits", FLIGHT, 1, 24, raw)
    with pytest.warns(SunpyUserWarning, match="frame 24 is missing"):
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT)
    assert np.argwhere(has(cube, Flag.SATURATED)).tolist() == [[2, 0, 36, 10], [2, 0, 37, 10]]
    assert cube.mask[2, 0].sum() == 2
    assert np.abs(cube.data[2, 0]).max() < 60


@two_channels
def test_no_darks_and_how_to_mend_it(folder, tmp_path):
    elsewhere = tmp_path / "darks"
    elsewhere.mkdir()
    expected = ESISLevel1Cube.from_raw(folder, FLIGHT)
    for path in sorted(folder.glob("c?_000[04][056]*")):
        path.rename(elsewhere / path.name)
    with pytest.raises(FrameError, match=r"no darks of channel 1: expected frame numbers 5-8, 40-45; .*darks="):
        ESISLevel1Cube.from_raw(folder, FLIGHT)
    cube = ESISLevel1Cube.from_raw(folder, FLIGHT, darks=elsewhere)
    np.testing.assert_array_equal(cube.data, expected.data)


@two_channels
def test_one_dark_with_a_spike_does(folder):
    for path in folder.glob("c1_000[04][56]*"):
        path.unlink()
    path = folder / "c1_00040.fit.gz"
    with fits.open(path) as hdul:
        data, header = hdul[0].data.copy(), hdul[0].header.copy()
    data[20, 60] += 3000
    path.unlink()
    fits.writeto(folder / "dark.fits", data, header)
    cube = ESISLevel1Cube.from_raw(folder, FLIGHT)
    assert cube.data[:, 0].min() > -150
    assert cube.history[0].parameters["read_noise"]["1"] == dict.fromkeys(QUADRANTS, FLIGHT.detector.read_noise)


@pytest.mark.slow
@two_channels
@pytest.mark.parametrize("place", ["light", "dark"])
def test_damaged_file_stops_or_is_skipped(folder, place):
    path = folder / {"light": "c1_00022.fit.gz", "dark": "c1_00005.fit.gz"}[place]
    # Bad pixels behind a good header, found only when the image is read.
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(FrameError, match=rf"{path.name}"):
        ESISLevel1Cube.from_raw(folder, FLIGHT)
    with pytest.warns(SunpyUserWarning) as caught:
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT, on_error="skip")
    assert any(f"Skipped: {path}" in str(w.message) for w in caught)
    assert np.isfinite(cube.data[:, 1]).all()
    assert cube.mask[1, 0].all() == (place == "light")


def spoil(path, kind):
    """Make a frame one that cannot be used."""
    with fits.open(path) as hdul:
        data, header = hdul[0].data.copy(), hdul[0].header.copy()
    keys = FLIGHT.files
    if kind == "no exposure":
        header[keys.exposure] = header[keys.measured_exposure] = 0
    elif kind == "odd exposure":
        header[keys.exposure] = "long"
        del header[keys.measured_exposure]
    elif kind == "no exposure card":
        del header[keys.exposure], header[keys.measured_exposure]
    elif kind == "no time":
        del header[keys.time]
    elif kind == "other time":
        header[keys.time] = "yesterday"
    elif kind == "other size":
        data = data[:, :-2]
    elif kind == "blank":
        data[:] = 0
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
    if kind == "twice":
        (path.parent / f"again_{path.name}").write_bytes(path.read_bytes())
    elif kind == "cut short":
        path.write_bytes(path.read_bytes()[: -2880 * 3])
    elif kind == "damaged":
        content = bytearray(path.read_bytes())
        content[-2880] ^= 0xFF
        path.write_bytes(content)


SPOILED = (
    "no exposure", "odd exposure", "no exposure card", "no time", "other time", "other size", "blank", "twice",
    "cut short", "damaged",
)  # fmt: skip


@two_channels
@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("kind", SPOILED)
@pytest.mark.parametrize("unused", ["neither", "another frame", "another channel"])
@pytest.mark.slow
def test_headers_are_judged_only_where_a_frame_is_used(folder, caplog, kind, unused):
    expected = ESISLevel1Cube.from_raw(folder, FLIGHT, frame_numbers=[20], channels=[1])
    number, channel = {"neither": (33, 1), "another frame": (21, 1), "another channel": (20, 2)}[unused]
    path = folder / "spoiled.fits"
    for other in folder.glob(f"c{channel}_{number:05d}*"):
        other.unlink()
    write_frame(path, FLIGHT, channel, number, np.full(FLIGHT.detector.raw_shape, 3000.0))
    spoil(path, kind)
    with caplog.at_level("INFO", logger="esis_ndcube"):
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT, frame_numbers=[20], channels=[1])
    np.testing.assert_array_equal(cube.data, expected.data)
    assert cube.history == expected.history
    assert ("[33] are neither light frames nor darks" in caplog.text) == (unused == "neither")


@pytest.mark.slow
@two_channels
@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("kind", [kind for kind in SPOILED if kind not in ("blank", "damaged")])
@pytest.mark.parametrize("number", [21, 7])
def test_headers_are_judged_where_a_frame_is_used(folder, kind, number):
    path = write_frame(folder / "spoiled.fits", FLIGHT, 1, number, np.full(FLIGHT.detector.raw_shape, 3000.0))
    spoil(path, kind)
    with pytest.raises(FrameError, match=r"spoiled\.fits"):
        ESISLevel1Cube.from_raw(folder, FLIGHT)


def test_only_frames_that_are_neither(folder):
    path = write_frame(
        folder / "other.fits", FLIGHT, 1, 33, np.full(FLIGHT.detector.raw_shape, 3000.0), exposure_time=0
    )
    with pytest.raises(FrameError, match="no light frames of TINY: expected frame numbers 20-29"):
        ESISLevel1Cube.from_raw(path, FLIGHT)


@pytest.mark.slow
@two_channels
def test_more_darks_from_the_folder_itself(folder, tmp_path):
    """Only the darks of the flight's frames are taken, each once; a frame of another number is the user's word."""
    expected = ESISLevel1Cube.from_raw(folder, FLIGHT)
    write_frame(folder / "after.fits", FLIGHT, 1, 30, np.full(FLIGHT.detector.raw_shape, 9000.0))
    copies = tmp_path / "copies"
    copies.mkdir()
    for path in folder.glob("*"):
        (copies / path.name).write_bytes(path.read_bytes())
    for darks in (folder, copies):
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT, darks=darks)
        np.testing.assert_array_equal(cube.data, expected.data)
        assert cube.history == expected.history
    write_frame(copies / "laboratory.fits", FLIGHT, 1, 999, np.full(FLIGHT.detector.raw_shape, 9000.0))
    cube = ESISLevel1Cube.from_raw(folder, FLIGHT, darks=copies / "laboratory.fits")
    assert "laboratory.fits" in cube.history[0].parameters["darks"]
    write_frame(copies / "bias.fits", FLIGHT, 1, 998, np.full(FLIGHT.detector.raw_shape, 9000.0), exposure_time=0)
    with pytest.raises(FrameError, match=r"bias\.fits.*exposure 0\.0 s, expected more than 0"):
        ESISLevel1Cube.from_raw(folder, FLIGHT, darks=copies / "bias.fits")


def test_no_light_frames(folder):
    with pytest.raises(FrameError, match="no light frames of TINY: expected frame numbers 20-29"):
        ESISLevel1Cube.from_raw(list(folder.glob("c?_0000*")), FLIGHT)


def test_photons_of_a_line(cube):
    photons = cube.to_photons("he i")
    factor = 12398.42 / 584.334 / 3.6
    assert photons.unit == u.photon / u.pix
    assert photons.line == "He I"
    np.testing.assert_allclose(photons.data, cube.data / factor, rtol=1e-5)
    np.testing.assert_allclose(photons.uncertainty.array, cube.uncertainty.array / factor, rtol=1e-5)
    np.testing.assert_array_equal(photons.mask, cube.mask)
    np.testing.assert_array_equal(photons.flags, cube.flags)
    assert [step.name for step in photons.history] == ["level0", "to_photons"]
    assert cube.line is None
    assert len(cube.history) == 1
    assert photons[1, 0].line == "He I"
    with pytest.raises(ValueError, match="unknown line 'Fe XII': flight TINY forms cubes of O V, He I"):
        cube.to_photons("Fe XII")
    with pytest.raises(ValueError, match="got a cube in ph / pix, expected one in electrons"):
        photons.to_photons("O V")


def same(one, other):
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(one.uncertainty.array, other.uncertainty.array)
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.flags, other.flags)
    assert one.frame_number.tolist() == other.frame_number.tolist()
    assert one.channel.tolist() == other.channel.tolist()
    assert one.unit == other.unit
    assert np.abs((one.mid_time - other.mid_time).to_value(u.s)).max() < 1e-6
    np.testing.assert_allclose(one.exposure_time.value, other.exposure_time.value)


@two_channels
def test_file_there_and_back(folder, tmp_path):
    next(folder.glob("c2_00022*")).unlink()
    with pytest.warns(SunpyUserWarning, match="frame 22 is missing"):
        cube = ESISLevel1Cube.from_raw(folder, FLIGHT)
    write_fits(cube, tmp_path / "l1.fits")
    back = read_fits(tmp_path / "l1.fits", ESISLevel1Cube)
    same(back, cube)
    assert isinstance(back, ESISLevel1Cube)
    assert back.history == cube.history
    assert back.meta["file"].tolist() == cube.meta["file"].tolist()


def test_images_there_and_back(cube, tmp_path):
    files = cube.write_images(tmp_path / "images")
    assert len(files) == 12
    assert files[1].name == "ESIS_Level1_2021-01-02T03:03:20.125_2.fits"
    same(ESISLevel1Cube.from_images(tmp_path / "images", FLIGHT), cube)
    photons = cube.to_photons("O V")
    photons.write_images(tmp_path / "photons")
    back = ESISLevel1Cube.from_images(tmp_path / "photons", FLIGHT)
    same(back, photons)
    assert back.line == "O V"


def test_images_are_laid_out_as_the_team_does(cube, tmp_path):
    path = cube.write_images(tmp_path)[5]
    with fits.open(path) as hdul:
        header = hdul[0].header
        assert header["CAM_ID"] == 2
        assert header["DATE_OBS"] == "2021-01-02T03:03:30.125"  # the camera's stamp, the end of exposure
        assert header["IMG_EXP"] == pytest.approx(10)
        np.testing.assert_array_equal(hdul[0].data, cube.data[1, 1, ::-1])


def test_images_are_not_overwritten_unasked(cube, tmp_path):
    files = cube[:1].write_images(tmp_path)
    with pytest.raises(OSError, match=r"has ESIS_Level1_.* already; pass overwrite=True"):
        cube.write_images(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert len(cube.write_images(tmp_path, overwrite=True)) == 12
    with pytest.raises(ValueError, match="got a cube with 3 axes"):
        cube[0].write_images(tmp_path)


def team_file(path, image, channel, stamp, **cards):
    """A file like those of Level_1.to_fits of the team's code."""
    header = fits.Header({"CAM_ID": channel, "DATE_OBS": stamp, "IMG_EXP": 10.0, **cards})
    fits.HDUList([fits.PrimaryHDU(image, header)]).writeto(path)


def test_images_of_the_team(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.uniform(10, 300, (2, 2, *SHAPE))
    for i, stamp in enumerate(("2021-01-02T03:05:00.000", "2021-01-02T03:05:30.000")):
        for j, channel in enumerate((2, 4)):
            team_file(tmp_path / f"ESIS_Level1_{stamp}_{channel}.fits", images[i, j], channel, stamp)
    with pytest.raises(ValueError, match=r"does not say its unit: pass unit="):
        ESISLevel1Cube.from_images(tmp_path, FLIGHT)
    cube = ESISLevel1Cube.from_images(tmp_path, FLIGHT, unit="photon")
    assert cube.frame_number.tolist() == [20, 23]
    assert cube.channel.tolist() == [2, 4]
    assert cube.unit == u.photon / u.pix
    assert cube.time.isot.tolist() == ["2021-01-02T03:04:55.250", "2021-01-02T03:05:25.250"]
    np.testing.assert_array_equal(cube.data, images[:, :, ::-1].astype(np.float32))
    per_photon = FLIGHT.electrons_per_photon("O V").value
    charge = FLIGHT.channel(4).charge_collection * (per_photon + 0.1)
    photon = (1 + (charge - 1) * np.sum(FLIGHT.detector.charge_kernel**2)) / per_photon
    expected = np.sqrt(cube.data[0, 1, 5, 50] * photon + (3 * FLIGHT.channel(4).gain.high_high / per_photon) ** 2)
    assert cube.uncertainty.array[0, 1, 5, 50] == pytest.approx(expected, rel=1e-4)
    assert ESISLevel1Cube.from_images(tmp_path, FLIGHT, unit="photon", first_frame_number=25).frame_number.tolist() == [
        25,
        28,
    ]
    digital = ESISLevel1Cube.from_images(tmp_path, FLIGHT, unit="DN")
    assert digital.unit == u.electron
    # Row 5 of the cube is high in the camera's rows; column 50 is right: the third quadrant.
    assert digital.data[0, 1, 5, 50] == pytest.approx(images[0, 1, -6, 50] * FLIGHT.channel(4).gain.high_high, rel=1e-5)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda p: team_file(p / "a.fits", np.zeros((3, 3)), 1, "2021-01-02T03:05:00"),
            r"got shape \(3, 3\)",
        ),
        (lambda p: fits.PrimaryHDU(np.zeros(SHAPE)).writeto(p / "a.fits"), "without.*CAM_ID"),
        (lambda p: (p / "a.fits").write_text("x"), "damaged or not FITS"),
        (
            lambda p: [team_file(p / f"{n}.fits", np.zeros(SHAPE), 1, "2021-01-02T03:05:00") for n in "ab"],
            r"two files hold frame 20 of channel 1: .*a\.fits and .*b\.fits",
        ),
    ],
)
def test_bad_images(tmp_path, spoil, problem):
    spoil(tmp_path)
    with pytest.raises(FrameError, match=problem):
        ESISLevel1Cube.from_images(tmp_path, FLIGHT, unit="electron")


def named(values, *axes):
    """A stand-in for an array of the named_arrays package."""
    return SimpleNamespace(ndarray=values, axes=axes)


def test_object_of_the_present_esis_package(cube):
    """As in esis 1.10 with msfc_ccd 1.2: named arrays, flipped in y, time_start is the camera's stamp."""
    stamps = cube.mid_time + 5 * u.s - FLIGHT.clock_offset
    inputs = SimpleNamespace(
        time_start=named(stamps, "time", "channel"),
        timedelta=named(np.full((4, 3), 10.0) * u.s, "channel", "time"),
        serial_number=named(np.array(["6", "7", "9", "10"]), "channel"),
        camera_id=None,
        sequence_number=named(np.array([20, 21, 23]), "time"),
    )
    outputs = named(np.moveaxis(cube.data, 3, 0) * u.electron, "detector_x", "time", "channel", "detector_y")
    obj = SimpleNamespace(
        inputs=inputs,
        outputs=outputs,
        axis_time="time",
        axis_channel="channel",
        axis_x="detector_x",
        axis_y="detector_y",
    )
    taken = ESISLevel1Cube.from_esis(obj, FLIGHT)
    np.testing.assert_array_equal(taken.data, cube.data)
    assert taken.unit == u.electron
    assert taken.frame_number.tolist() == [20, 21, 23]
    assert taken.channel.tolist() == [1, 2, 3, 4]
    assert np.abs((taken.mid_time - cube.mid_time).to_value(u.s)).max() < 1e-6
    obj.inputs.camera_id = named(np.array(["ESIS4", "ESIS2", "ESIS3", "ESIS1"]), "channel")
    obj.inputs.sequence_number = None
    swapped = ESISLevel1Cube.from_esis(obj, FLIGHT)
    np.testing.assert_array_equal(swapped.data, cube.data[:, [3, 1, 2, 0]])
    assert swapped.frame_number.tolist() == [20, 21, 23]
    obj.inputs.camera_id = named(np.array(["ESIS4", "ESIS2", "ESIS3", "OTHER"]), "channel")
    with pytest.raises(ValueError, match="got the camera 'OTHER', expected one of ESIS1"):
        ESISLevel1Cube.from_esis(obj, FLIGHT)


def named_object(cube, images):
    """A stand-in for the team's object, with its attributes."""
    inputs = SimpleNamespace(
        time_start=named(cube.mid_time + 5 * u.s - FLIGHT.clock_offset, "time", "channel"),
        timedelta=named(np.full((4, 3), 10.0) * u.s, "channel", "time"),
        serial_number=named(np.array(["6", "7", "9", "10"]), "channel"),
        camera_id=None,
        sequence_number=named(np.array([20, 21, 23]), "time"),
    )
    outputs = named(images * u.electron, "time", "channel", "detector_y", "detector_x")
    axes = {"axis_time": "time", "axis_channel": "channel", "axis_x": "detector_x", "axis_y": "detector_y"}
    return SimpleNamespace(inputs=inputs, outputs=outputs, **axes)


def test_stray_light_of_the_team(cube, caplog):
    """The team's stray light is kept and reported, or subtracted as from raw frames: each image's own level."""
    assert cube.stray_light_subtracted
    levels = 10.0 + np.arange(12).reshape(3, 4)
    obj = named_object(cube, cube.data + levels[..., None, None])
    with caplog.at_level("INFO", logger="esis_ndcube"):
        kept = ESISLevel1Cube.from_esis(obj, FLIGHT)
    assert "keep their stray light: cube.subtract_stray_light()" in caplog.text
    assert kept.history[-1].parameters["stray_light"] == "kept"
    assert not kept.stray_light_subtracted
    own = ESISLevel1Cube.from_esis(named_object(cube, cube.data), FLIGHT).subtract_stray_light()
    for taken in (kept.subtract_stray_light(), ESISLevel1Cube.from_esis(obj, FLIGHT, subtract_stray_light=True)):
        np.testing.assert_allclose(taken.data, own.data, atol=0.01)
        np.testing.assert_allclose(np.subtract(taken.history[-1].parameters["levels"],
                                               own.history[-1].parameters["levels"]), levels, atol=0.01)  # fmt: skip
        assert [step.name for step in taken.history] == ["from_esis", "subtract_stray_light"]
        np.testing.assert_array_equal(taken.uncertainty.array, kept.uncertainty.array)
        # Nothing is left in the strips, except in the brighter one.
        strips = taken.data[:, :, [*range(6), *range(ROWS - 6, ROWS)]].reshape(3, 4, 2, -1)
        np.testing.assert_allclose(np.median(strips, axis=-1).min(axis=-1), 0, atol=1.5)
        with pytest.raises(ValueError, match="is subtracted already"):
            taken.subtract_stray_light()
    np.testing.assert_array_equal(kept.data, (cube.data + levels[..., None, None]).astype(np.float32))
    with pytest.raises(ValueError, match="is subtracted already"):
        cube.subtract_stray_light()
    with pytest.raises(ValueError, match=r"got images of shape \(48, 50\), expected \(48, 60\): do it before"):
        kept[:, :, :, 5:55].subtract_stray_light()


def test_stray_light_of_missing_frames(cube):
    images = np.array(cube.data)
    images[1, 2] = np.nan
    taken = ESISLevel1Cube.from_esis(named_object(cube, images), FLIGHT, subtract_stray_light=True)
    assert np.isnan(taken.data[1, 2]).all()
    assert np.isfinite(np.delete(taken.data.reshape(12, *SHAPE), 6, axis=0)).all()
    assert taken.history[-1].parameters["levels"][1][2] is None


@pytest.mark.parametrize("kind", ["integers", "lazy", "masked", "big-endian"])
def test_stray_light_of_odd_images(cube, kind):
    data = np.round(cube.data + 12).astype(np.float32)
    bad = np.zeros(data.shape, dtype=bool)
    bad[..., :2, :] = kind == "masked"
    odd = {
        "integers": data.astype(np.int16),
        "lazy": da.from_array(data, chunks=(1, 2, -1, -1)),
        "masked": np.where(bad, np.float32(9e9), data),
        "big-endian": data.astype(">f4"),
    }[kind]
    level1 = ESISLevel1Cube(odd, wcs=cube.wcs, mask=bad, meta={"flight": FLIGHT}, unit="electron")
    rows = FLIGHT.detector.stray_light_rows
    taken = level1.subtract_stray_light()
    assert isinstance(taken.data, da.Array) == (kind == "lazy")
    for index in np.ndindex(data.shape[:2]):
        image = np.where(bad[index], np.nan, data[index])
        strips = [strip[np.isfinite(strip)] for strip in (image[:rows], image[-rows:])]
        level = min(trim_mean(strip, 0.3) for strip in strips if strip.size)
        expected = np.where(bad[index], 0, data[index] - level)
        np.testing.assert_allclose(np.where(bad[index], 0, taken.data[index]), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_files_know_what_became_of_stray_light(cube, tmp_path):
    cube.write_images(tmp_path / "raw")
    assert ESISLevel1Cube.from_images(tmp_path / "raw", FLIGHT).stray_light_subtracted
    kept = ESISLevel1Cube.from_esis(named_object(cube, cube.data + 10), FLIGHT)
    kept.write_images(tmp_path / "team")
    again = ESISLevel1Cube.from_images(tmp_path / "team", FLIGHT)
    assert not again.stray_light_subtracted
    np.testing.assert_array_equal(again.subtract_stray_light().data, kept.subtract_stray_light().data)
    (tmp_path / "raw").joinpath(next((tmp_path / "raw").iterdir()).name).unlink()
    for path in sorted((tmp_path / "team").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match=r"some files keep their stray light and others do not \(STRAYLT\)"):
        ESISLevel1Cube.from_images([tmp_path / "raw" / "*_4.fits", tmp_path / "team"], FLIGHT)


def test_object_of_esis_0_1(cube):
    """Attributes as in version 0.1.1: mid-exposure times, not flipped."""
    obj = SimpleNamespace(
        intensity=cube.data[:, :, ::-1] * u.photon,
        time=cube.mid_time,
        exposure_length=cube.exposure_time,
        channel=np.array([1, 2, 3, 4]) * u.chan,
        time_index=np.array([4, 5, 7]),
    )
    taken = ESISLevel1Cube.from_esis(obj, FLIGHT)
    np.testing.assert_array_equal(taken.data, cube.data)
    assert taken.unit == u.photon / u.pix
    assert taken.frame_number.tolist() == [20, 21, 23]
    assert np.abs((taken.mid_time - cube.mid_time).to_value(u.s)).max() < 1e-6
    assert ESISLevel1Cube.from_esis(obj, FLIGHT, frame_numbers=[22, 25, 26]).frame_number.tolist() == [22, 25, 26]
    with pytest.raises(ValueError, match=r"got frame numbers \[20, 20, 21\], expected 3 different ones"):
        ESISLevel1Cube.from_esis(obj, FLIGHT, frame_numbers=[20, 20, 21])


def test_object_of_the_first_code(cube):
    """As in the code before 0.1: digital numbers, start_time is the camera's stamp, cam_id per frame."""
    gain = np.ones(SHAPE)
    obj = SimpleNamespace(
        intensity=np.full((1, 2, *SHAPE), 100.0) * u.ct,
        start_time=Time([["2021-01-02T03:05:00", "2021-01-02T03:05:00"]]),
        exposure_length=[[10_000, 10_000]] * u.ms,
        cam_id=[[1, 3]] * u.chan,
    )
    taken = ESISLevel1Cube.from_esis(obj, FLIGHT)
    assert taken.unit == u.electron
    assert taken.time.isot.tolist() == ["2021-01-02T03:04:55.250"]
    for i, channel in enumerate((1, 3)):
        gains = FLIGHT.channel(channel).gain
        low_left, low_right, high_right, high_left = (
            100 * g for g in (gains.low_low, gains.high_low, gains.high_high, gains.low_high)
        )
        half = ROWS // 2, COLUMNS // 2
        expected = np.block(
            [
                [high_left * gain[: half[0], : half[1]], high_right * gain[: half[0], half[1] :]],
                [low_left * gain[half[0] :, : half[1]], low_right * gain[half[0] :, half[1] :]],
            ]
        )
        np.testing.assert_allclose(taken.data[0, i], expected, rtol=1e-6)


def test_object_of_another_kind():
    with pytest.raises(TypeError, match="got int, expected a Level-1 object of the esis package"):
        ESISLevel1Cube.from_esis(3, FLIGHT)
    obj = SimpleNamespace(
        intensity=np.zeros((1, 2, 3, 4)) * u.electron,
        time=Time(["2021-01-02T03:05:00"]),
        exposure_length=[10] * u.s,
        channel=[1, 2],
    )
    with pytest.raises(ValueError, match=r"got images of shape \(1, 2, 3, 4\), expected \(time, channel, 48, 60\)"):
        ESISLevel1Cube.from_esis(obj, FLIGHT)
    obj.intensity = np.zeros((1, 2, *SHAPE)) * u.m
    with pytest.raises(ValueError, match="got the unit m, expected electron"):
        ESISLevel1Cube.from_esis(obj, FLIGHT)
