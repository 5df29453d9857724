"""From raw frames to a Level-3 cube, through the functions."""

import errno
import warnings

import numpy as np
import pytest
from flights import FAULTY
from helpers import assert_bits_equal, assert_cubes_equal, assert_values_equal

import astropy.units as u
import sunpy.map
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESIS_1, ESISLevel1Cube, Vignetting, coalign, form_level3
from esis_ndcube.flags import Flag
from esis_ndcube.resample import correlation_factor
from esis_ndcube.simulate.demo import coordinate_error


@pytest.fixture
def flight(small_flight):
    return small_flight


@pytest.fixture
def level1(small_flight):
    return small_flight.level1


@pytest.fixture
def cube(small_flight):
    return small_flight.level3


@pytest.fixture(scope="module")
def plain(small_flight):
    return form_level3(small_flight.level1, small_flight.aligned, vignetting=False, normalize=False)


# -------------------------------------------------------------------------------------------------- the whole


@pytest.mark.slow
def test_forming_twice_gives_the_same_bits(flight, level1, cube):
    before = level1.data.copy(), level1.flags.copy(), level1.uncertainty.array.copy()
    assert_cubes_equal(form_level3(level1, flight.maps[::-1], workers=1), cube)
    assert_cubes_equal(flight.read(workers=1), level1)
    for array, old in zip((level1.data, level1.flags, level1.uncertainty.array), before, strict=True):
        assert_bits_equal(array, old)


def test_what_a_cube_holds(flight, level1, cube):
    assert cube.shape == (2, 4, *flight.flight.grid_shape)
    assert cube.unit == u.photon / u.pix
    assert (cube.line, cube.stage) == ("O V", "final")
    assert cube.reference == f"SDO 304.0 Angstrom {flight.maps[1].date.isot}"
    assert_values_equal(cube.meta["mid_time"], level1.meta["mid_time"])
    assert [step.name for step in cube.history] == [
        "level0", "coalign", "resample", "correct_vignetting", "normalize_intensities",
    ]  # fmt: skip
    for time in range(2):
        true = flight.simulated.mid_time(int(cube.frame_number[time]))
        assert abs(cube.time[time] - true) < 1 * u.ms
    assert all(a.converged and a.stage == "final" for a in cube.alignment.flat)
    assert all(a.converged and a.stage == "linear" for a in cube.alignment_linear.flat)
    # Every frame is valid over its field stop, whose area is known.
    octagon = 2 * (np.sqrt(2) - 1) * (flight.flight.field_stop_width / (0.6 * u.arcsec)) ** 2
    np.testing.assert_allclose((~cube.mask).sum((2, 3)), octagon.value, rtol=0.1)
    assert np.isfinite(cube.data[~cube.mask]).all()
    assert (cube.uncertainty.array[~cube.mask] > 0).all()


def test_space_is_reserved_before_the_frames_are_aligned(flight, level1, tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setattr("esis_ndcube.level3.form.coalign", lambda *_, **__: pytest.fail("aligned"))
    with pytest.raises(OSError, match=r"cannot write l3.fits .*: it needs \d+ bytes, No space left on device"):
        form_level3(level1, flight.maps, output=tmp_path / "l3.fits")
    assert not list(tmp_path.iterdir())


def test_normalized_images_have_one_mean(cube):
    clean = ~(cube.mask | (cube.flags & Flag.OVERLAP != 0)).any((0, 1))
    means = cube.data[:, :, clean].mean(-1, dtype=float)
    np.testing.assert_allclose(means, means.max(), rtol=1e-4)
    assert cube.normalization.min() == 1


@pytest.mark.slow
def test_vignetting_and_normalization_are_factors(flight, level1, cube, plain):
    assert (plain.vignetting, plain.normalization) == (None, None)
    assert [step.name for step in plain.history] == ["level0", "coalign", "resample"]
    own = form_level3(level1, flight.aligned, vignetting=cube.vignetting)
    assert_cubes_equal(own, cube)
    # The field is brighter than in its middle by the vignetting where that is more than 1.
    inside = ~(cube.mask | plain.mask)
    ratio = plain.data / np.where(inside, cube.data, np.nan) * cube.normalization[..., None, None]
    slopes = cube.vignetting.slopes
    for channel in range(4):
        values = ratio[0, channel][np.isfinite(ratio[0, channel])]
        assert np.ptp(np.percentile(values, [1, 99])) == pytest.approx(slopes[channel + 1], rel=0.5)


@pytest.mark.slow
def test_one_normalization(flight, level1, cube):
    """The normalization of a formed cube is that of the method, with its errors, to the last bit of the images."""
    after = form_level3(level1, flight.aligned, normalize=False).normalize_intensities()
    assert_bits_equal(after.normalization, cube.normalization)
    assert_bits_equal(after.data, cube.data)
    assert_bits_equal(after.uncertainty.array, cube.uncertainty.array)
    assert after.history == cube.history
    assert np.isfinite(cube.normalization_error).all()
    assert (cube.normalization_error > 0).sum() == cube.normalization.size - 1
    np.testing.assert_allclose(cube.normalization_error, after.normalization_error, rtol=1e-6)


@pytest.mark.slow
def test_linear_stage_is_the_first_fit(flight, level1, cube):
    linear = form_level3(level1, flight.maps, stage="linear")
    assert linear.stage == "linear"
    for key in ("alignment_final", "alignment_linear"):
        assert_values_equal(linear.meta[key], cube.meta[key])
    assert not np.array_equal(linear.data, cube.data, equal_nan=True)
    # The final cube shows the Sun in its place, the linear one does not: the distortion is up to 1.5 pixels. The error
    # of the pointing is the same in both.
    first, last = (
        np.median([np.hypot(*coordinate_error(a, flight.simulated)[2:]).mean() for a in alignments.flat])
        for alignments in (cube.alignment_linear, cube.alignment)
    )
    assert last < 0.9 * first


# ---------------------------------------------------------------------------------------------------- subsets


@pytest.mark.slow
def test_a_single_exposure_is_that_of_the_whole(flight, plain):
    """No result depends on another exposure."""
    options = {"normalize": False, "vignetting": False}
    for index, frame in enumerate(flight.simulated.frame_numbers):
        one = form_level3(flight.read(frame_numbers=[frame]), flight.maps, **options)
        assert one.shape == (1, *plain.shape[1:])
        assert one.frame_number.tolist() == [frame]
        assert_bits_equal(one.data[0], plain.data[index])
        assert_bits_equal(one.flags[0], plain.flags[index])
        assert_values_equal(one.alignment[0], plain.alignment[index])
        assert abs(one.time[0] - plain.time[index]) < 1 * u.ns


@pytest.mark.slow
def test_two_channels(flight, plain):
    two = form_level3(flight.read(channels=[4, 2]), flight.maps, vignetting=False, normalize=False)
    assert two.channel.tolist() == [2, 4]
    assert_bits_equal(two.data, plain.data[:, [1, 3]])
    assert two[0, 1].channel == 4


def test_one_channel_alone(flight):
    one = form_level3(flight.read(channels=[2], frame_numbers=[124]), flight.maps)
    assert one.shape[:2] == (1, 1)
    assert one.normalization.tolist() == [[1.0]]
    assert one.alignment[0, 0].converged


@pytest.mark.slow
def test_subset_without_the_reference_channel(flight):
    level1 = flight.read(channels=[1, 3])
    with pytest.raises(
        ValueError, match=r"got reference channel 2, expected one of the cube's channels \[1, 3\]: choose it"
    ):
        form_level3(level1, flight.maps)
    cube = form_level3(level1, coalign(level1, flight.maps, reference_channel=3))
    assert all(a.converged for a in cube.alignment.flat)
    assert cube.alignment[0, 0].reference == "channel 3"
    step = cube.history[1]
    assert (step.name, step.parameters["reference_channel"]) == ("coalign", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_numbers": [99, 200]}, r"got frames \[99, 200\], expected some of \[123, 124\]"),
        ({"frame_numbers": []}, r"got frames \[\], expected some of \[123, 124\]"),
        ({"channels": [5]}, "unknown channel 5: flight ESIS_1_small has channels 1, 2, 3, 4"),
        ({"channels": []}, r"got no channels, expected some of \[1, 2, 3, 4\]"),
    ],
)
def test_subsets_that_are_not_there(options, message, flight):
    with pytest.raises(ValueError, match=message):
        flight.read(**options)


# ----------------------------------------------------------------------------------------------------- faults


@pytest.mark.slow
def test_missing_and_blank_frames_harm_no_other(flights, plain):
    faulty = flights(**FAULTY)
    with pytest.warns(SunpyUserWarning, match=r"frame 123 is missing in channels \[1\]; it is masked"):
        level1 = faulty.read()
    with pytest.warns(SunpyUserWarning) as caught:
        cube = form_level3(level1, faulty.maps, vignetting=False, normalize=False)
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("2 of 8 frames could not be aligned and are left out: frame 123 channel 1 (no valid")
    assert "frame 124 channel 3" in message
    for index, name in (((0, 0), "missing"), ((1, 2), "blank")):
        assert np.isnan(cube.data[index]).all(), name
        assert np.isnan(cube.uncertainty.array[index]).all(), name
        assert cube.mask[index].all(), name
        assert (cube.flags[index] & Flag.MISSING).all(), name
        assert cube.alignment[index] is None or not cube.alignment[index].converged
    assert cube.meta["file"][0, 0] == ""
    assert np.isnan(cube.meta["exposure_time"][0, 0])
    # The header knows how long the exposure was from the other cameras.
    assert cube[0, 0].wcs.to_header()["DATE-BEG"][:23] == "2019-09-30T18:08:20.000"
    # All others are as they would be without the faults.
    for index in np.ndindex(2, 4):
        if index not in ((0, 0), (1, 2)):
            assert_bits_equal(cube.data[index], plain.data[index])
            assert_values_equal(cube.alignment[index], plain.alignment[index])


@pytest.mark.slow
def test_an_exposure_without_its_reference_channel(flight, level1):
    """The others stay aligned with the reference image, and a warning says so."""
    parts = {name: getattr(level1, name) for name in ("wcs", "uncertainty", "flags", "unit", "meta")}
    mask = level1.mask.copy()
    mask[0, 1] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SunpyUserWarning)
        cube = form_level3(ESISLevel1Cube(level1.data, mask=mask, **parts), flight.maps)
    messages = [str(warning.message) for warning in caught]
    assert sum("in frames [123] the reference channel could not be aligned" in text for text in messages) == 1
    references = [[a.reference if a.converged else None for a in row] for row in cube.alignment]
    sun = cube.alignment_linear[0, 0].reference
    assert sun.startswith("SDO")
    assert references[0] == [sun, None, sun, sun]
    assert references[1][0] == "channel 2"
    # The image of the Sun shows the distortion as well.
    assert {a.transform.degree for a in cube.alignment[0] if a.converged} == {2}
    assert np.isfinite(cube.data[0, 0][~cube.mask[0, 0]]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"line": "Fe IX"}, ValueError, "unknown line 'Fe IX': flight ESIS_1_small forms cubes of O V, He I"),
        ({"line": "Mg X 609"}, ValueError, "unknown line"),
        ({"stage": "quadratic"}, ValueError, "got stage 'quadratic', expected 'linear' or 'final'"),
        ({"vignetting": 0.4}, TypeError, "got vignetting of type float, expected True, False or a Vignetting"),
        ({"workers": 0}, ValueError, "got 0 workers, expected at least 1"),
        ({"reference": []}, ValueError, "got an empty list of references"),
        ({"reference": ["aia.fits"]}, TypeError, r"type str, expected a sunpy Map.*: read files with sunpy\.map\.Map"),
        ({"reference": np.zeros((3, 3))}, TypeError, "type ndarray, expected a sunpy Map"),
    ],
)
def test_impossible_arguments(options, error, message, level1):
    reference = options.get("reference")
    options = {key: value for key, value in options.items() if key != "reference"}
    with pytest.raises(error, match=message):
        form_level3(level1, reference, **options)


@pytest.mark.parametrize("which", ["line", "flight"])
def test_vignetting_of_something_else(which, level1):
    wrong = Vignetting.of_flight(level1.flight, "He I") if which == "line" else Vignetting.of_flight(ESIS_1, "O V")
    with pytest.raises(ValueError, match=r"got the vignetting of .* of flight .*, expected that of O V of flight E"):
        form_level3(level1, vignetting=wrong)


def test_reference_that_shows_another_place(flight, level1):
    header = flight.maps[0].fits_header.copy()
    header["CRVAL1"] += 3000
    wrong = sunpy.map.Map(flight.maps[0].data, header)
    with pytest.raises(ValueError, match=r"covers 0% of the field of view, expected at least 50%"):
        form_level3(level1, wrong)


@pytest.mark.slow
def test_an_exposure_is_as_long_as_the_longest_of_its_channels(flight, level1):
    meta = level1.meta.copy()
    meta["exposure_time"] = [[9.0, 10.0, 8.0, 9.5], [10.0, np.nan, 11.0, 9.0]] * u.s
    parts = {name: getattr(level1, name) for name in ("wcs", "uncertainty", "mask", "flags", "unit")}
    unequal = ESISLevel1Cube(level1.data, meta=meta, **parts)
    cube = form_level3(unequal, flight.aligned, stage="linear", vignetting=False, normalize=False)
    assert cube.wcs.exposure_time.to_value("s").tolist() == [10, 11]


def test_frames_that_do_not_know_what_their_pixels_share(flight, level1, cube):
    """The noise that neighbors share by resampling is known nevertheless."""
    meta = {key: value for key, value in level1.meta.items() if key != "noise_correlation"}
    parts = {name: getattr(level1, name) for name in ("wcs", "uncertainty", "mask", "flags", "unit")}
    bare = ESISLevel1Cube(level1.data, meta=meta, **parts)
    found = form_level3(bare, flight.aligned, stage="linear", normalize=False)
    for index, alignment in enumerate(cube.alignment_linear[0]):
        if alignment is not None and alignment.converged:
            factor = np.sqrt(found.noise_correlation[index].sum())
            assert factor == pytest.approx(correlation_factor(alignment), rel=0.01)
            assert factor < np.sqrt(cube.noise_correlation[index].sum())
