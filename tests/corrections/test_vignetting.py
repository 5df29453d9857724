"""The vignetting model, its field and its correction, against the formula by hand and the simulated flight."""

import tomllib

import numpy as np
import pytest
from helpers import assert_cubes_equal
from reproject import reproject_interp
from scipy.ndimage import binary_erosion

from astropy.io import fits
from astropy.table import Table

from esis_ndcube import ESIS_1, ESISLevel3Cube, Vignetting
from esis_ndcube.corrections.vignetting import correct_vignetting, reproject_vignetting, uncorrect_vignetting
from esis_ndcube.field_stop.region import line_region
from esis_ndcube.flags import Flag
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.utils.provenance import ProcessingStep

SLOPES = {1: 0.35, 2: 0.28, 3: 0.34, 4: 0.6}


@pytest.mark.parametrize("line", ["O V", "He I"])
def test_formula_by_hand(line):
    """r_0 = 345 and r_t = 684 arcsec, pixels of 0.734 arcsec; the middle of the stop of channel 2 from the file."""
    row = tomllib.loads(ESIS_1.toml)["channels"][1]
    stop = np.array({"O V": row["field_stop"], "He I": row["lines"][0]["field_stop"]}[line])
    middle = (stop[:, 0].min() + stop[:, 0].max()) / 2
    vignetting = Vignetting(SLOPES, ESIS_1, line)
    np.testing.assert_allclose(vignetting.evaluate(2, middle), 1 + 0.28 * 345 / 684, rtol=1e-12)
    # 684 arcsec toward shorter wavelength, which is smaller x.
    np.testing.assert_allclose(vignetting.evaluate(2, middle - 684 / 0.734), 1 + 0.28 * (345 + 684) / 684, rtol=1e-12)
    np.testing.assert_allclose(vignetting.evaluate(2, [middle + 345 / 0.734]), [1.0], rtol=1e-12)
    x = np.linspace(1000, 2000, 11).reshape(1, 11)
    values = vignetting.evaluate(4, x)
    assert values.shape == x.shape
    assert (np.diff(values[0]) < 0).all()
    assert np.isnan(vignetting.evaluate(4, np.nan))


@pytest.mark.parametrize("channel", [1, 2, 3, 4])
@pytest.mark.parametrize("line", ["O V", "He I"])
def test_never_brightens_inside_the_field_stop(channel, line):
    vignetting = Vignetting.of_flight(ESIS_1, line)
    assert vignetting.slopes == {c.number: c.vignetting_slope for c in ESIS_1.channels}
    assert vignetting.slopes[channel] > 0.1
    y, x = np.mgrid[0:1040:5, 0:2048:5]
    inside = line_region(ESIS_1, channel, line, x, y)
    values = vignetting.evaluate(channel, x)[inside]
    assert inside.any()
    assert values.min() > 0.99
    # Across the stop it falls by the slope, within the widths' difference.
    if line == "O V":
        assert abs(np.ptp(values) / vignetting.slopes[channel] - 1) < 0.06


def test_is_what_the_simulated_flight_has():
    simulated = simulate_flight(size=6)
    for line in ("O V", "He I"):
        vignetting = Vignetting.of_flight(simulated.flight, line)
        x = np.arange(simulated.flight.detector.shape[1])
        for channel in SLOPES:
            expected = simulated.truth.vignetting(channel, x, line=line)
            assert np.ptp(expected) > 0.1
            np.testing.assert_allclose(vignetting.evaluate(channel, x), expected, rtol=1e-12)
    # The pictures show the same: a frame with vignetting over the same frame without.
    plain = simulate_flight(size=6, vignetting=False)
    frame = simulated.frame_numbers[0]
    ratio = simulated.photons(frame, 4, line="O V") / np.maximum(plain.photons(frame, 4, line="O V"), 1e-6)
    rows, columns = ratio.shape
    y, x = np.mgrid[:rows, :columns]
    deep = line_region(simulated.flight, 4, "O V", x, y, margin=6)
    expected = Vignetting.of_flight(simulated.flight, "O V").evaluate(4, x)
    np.testing.assert_allclose(ratio[deep], expected[deep], rtol=0.02)
    np.testing.assert_allclose(np.median(ratio[deep] / expected[deep]), 1, rtol=1e-3)


def test_table(tmp_path):
    vignetting = Vignetting({4: 1 / 3, 2: -0.1}, ESIS_1, "hei", source="the d\u00e9j\u00e0 vu of 2026")
    assert vignetting.line == "He I"
    table = vignetting.to_table()
    again = Vignetting.from_table(table, ESIS_1)
    assert (again.slopes, again.line, again.source, again.flight) == (
        vignetting.slopes,
        vignetting.line,
        vignetting.source,
        ESIS_1,
    )
    # The numbers through a FITS table.
    fits.BinTableHDU(Table(table, meta={})).writeto(tmp_path / "a.fits")
    read = Table.read(tmp_path / "a.fits", hdu=1)
    read.meta.update(table.meta)
    assert Vignetting.from_table(read, ESIS_1).slopes == vignetting.slopes


def test_some_channels_only():
    vignetting = Vignetting({2: 0.5}, ESIS_1, "O V")
    assert vignetting.source == "given"
    assert vignetting.evaluate(2, 1500.0) > 1
    with pytest.raises(ValueError, match="got channel 3, expected one with a slope: 2"):
        vignetting.evaluate(3, 1500.0)


@pytest.mark.parametrize("slope", [1.2, -1.01, np.nan, np.inf])
def test_impossible_slope(slope):
    with pytest.raises(ValueError, match="for channel 2, expected -1 to 1"):
        Vignetting({1: 0.2, 2: slope}, ESIS_1, "O V")


def test_unknown_channel_and_line():
    with pytest.raises(ValueError, match="unknown channel 7"):
        Vignetting({7: 0.2}, ESIS_1, "O V")
    with pytest.raises(ValueError, match="O V, He I"):
        Vignetting({1: 0.2}, ESIS_1, "Fe XX")
    with pytest.raises(ValueError, match="O V, He I"):
        # A contaminant has no place of its own.
        Vignetting.of_flight(ESIS_1, "Mg X 609")


def test_slopes_are_its_own():
    slopes = {1: 0.2}
    vignetting = Vignetting(slopes, ESIS_1, "O V")
    slopes[1] = 0.9
    assert vignetting.slopes == {1: 0.2}


def test_errors_and_covariance():
    covariance = np.array([[4e-4, 1e-4], [1e-4, 9e-4]])
    vignetting = Vignetting({2: 0.3, 3: 0.4}, ESIS_1, "O V", covariance=covariance, systematic=0.01)
    np.testing.assert_allclose(list(vignetting.errors.values()), [np.sqrt(5e-4), np.sqrt(1e-3)], rtol=1e-12)
    assert "channel 3: 0.400 +- 0.032" in str(vignetting)
    covariance[0, 0] = 1
    assert vignetting.covariance[0, 0] == 4e-4
    with pytest.raises(ValueError, match="read-only"):
        vignetting.covariance[0, 0] = 1
    assert np.isnan(list(Vignetting.of_flight(ESIS_1, "O V").errors.values())).all()
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \(1, 1\)"):
        Vignetting({2: 0.3}, ESIS_1, "O V", covariance=np.eye(2))
    with pytest.raises(ValueError, match="variances of 0 or more"):
        Vignetting({2: 0.3}, ESIS_1, "O V", covariance=[[-1.0]])
    with pytest.raises(ValueError, match="systematic error of -1"):
        Vignetting({2: 0.3}, ESIS_1, "O V", systematic=-1)


@pytest.fixture(scope="module")
def simulated():
    return simulate_flight(size=6, n_exposures=2, other_lines=False)


@pytest.fixture(scope="module")
def cube(simulated):
    return true_cube(simulated)


def test_correction_is_the_formula(cube):
    """The data divided by the formula at each pixel's place on the detector, written out."""
    corrected = cube.correct_vignetting([0.436, 0.340, 0.382, 0.495])
    flight = cube.flight
    y, x = np.mgrid[: cube.shape[2], : cube.shape[3]]
    for channel, slope in {1: 0.436, 4: 0.495}.items():
        u_pixel, _ = cube.alignment[1, channel - 1].transform(x, y)
        stop = flight.field_stop(channel)[:, 0]
        r = ((stop.min() + stop.max()) / 2 - u_pixel) * 0.734
        expected = 1 + slope * (r + 345 / 6) / (684 / 6)
        index = 1, channel - 1
        good = ~cube.mask[index]
        np.testing.assert_allclose((cube.data[index] / corrected.data[index])[good], expected[good], rtol=1e-6)
        sigma = cube.uncertainty.array[index] / corrected.uncertainty.array[index]
        np.testing.assert_allclose(sigma[good], expected[good], rtol=1e-6)
    assert corrected.data.dtype == cube.data.dtype
    np.testing.assert_array_equal(corrected.mask, cube.mask)
    np.testing.assert_array_equal(corrected.flags, cube.flags)
    assert corrected.unit == cube.unit
    assert corrected.vignetting.slopes == {1: 0.436, 2: 0.34, 3: 0.382, 4: 0.495}
    assert cube.vignetting is None
    slopes = {"1": 0.436, "2": 0.34, "3": 0.382, "4": 0.495}
    assert corrected.history == (ProcessingStep("correct_vignetting", {"slopes": slopes, "source": "given"}),)


def test_correction_by_the_true_slopes_levels_the_channels(simulated):
    """Without noise, all channels see one Sun, within what the interpolation leaves of it."""
    flat = true_cube(simulate_flight(simulated.flight, size=1, n_exposures=1, other_lines=False, noise=False,
                                     read_noise=False, velocity=0, event=0))  # fmt: skip
    corrected = flat.correct_vignetting(Vignetting.of_flight(flat.flight, "O V"))
    # The edge of the field stop is soft.
    inside = binary_erosion(~flat.mask.any(axis=(0, 1)), iterations=4)
    before, after = (np.log(c.data[0][:, inside]) for c in (flat, corrected))
    before, after = (np.std(logs - logs.mean(axis=0)) for logs in (before, after))
    assert before > 0.06
    assert after < 0.2 * before


@pytest.mark.slow
def test_what_the_pipeline_does(small_flight):
    """The pipeline's correction, to the last bit, and undone to rounding."""
    from esis_ndcube import form_level3

    level1 = small_flight.level1[:1]
    plain = form_level3(level1, vignetting=False, normalize=False)
    theirs = form_level3(level1, normalize=False)
    ours = plain.correct_vignetting(Vignetting.of_flight(small_flight.flight, "O V"))
    assert_cubes_equal(ours, theirs)
    undone = ours.uncorrect_vignetting()
    np.testing.assert_allclose(undone.data, plain.data, rtol=3e-7)
    np.testing.assert_allclose(undone.uncertainty.array, plain.uncertainty.array, rtol=3e-7)
    assert undone.vignetting is None
    assert [step.name for step in undone.history[-2:]] == ["correct_vignetting", "uncorrect_vignetting"]


def test_parts_of_a_cube(cube):
    """A cut before the correction gives the same as a cut after it."""
    slopes = {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}
    whole = cube.correct_vignetting(slopes)
    for item in (
        (0, 0),
        (slice(None), 1),
        (1, slice(1, 3), slice(40, 100), slice(30, 120)),
        (slice(0, 1), slice(2, 4)),
    ):
        part, expected = cube[item].correct_vignetting(slopes), whole[item]
        np.testing.assert_allclose(part.data, expected.data, rtol=2e-7)
        np.testing.assert_allclose(part.uncertainty.array, expected.uncertainty.array, rtol=2e-7)
        np.testing.assert_array_equal(part.channel, expected.channel)


def test_no_alignment_no_change(cube):
    """An image without alignment stays as it is: it has no data."""
    part = cube[:]
    part.meta["alignment_final"] = part.alignment.copy()
    part.meta["alignment_final"][0, 1] = None
    corrected = part.correct_vignetting([0.4] * 4)
    np.testing.assert_array_equal(corrected.data[0, 1], cube.data[0, 1])
    assert not np.array_equal(corrected.data[1, 1], cube.data[1, 1])


def test_survives_a_file(cube, tmp_path):
    covariance = np.array([[1, 0.2, 0.1, 0], [0.2, 1, 0, 0], [0.1, 0, 1 / 3, 0], [0, 0, 0, 2]]) * 1e-4
    vignetting = Vignetting(
        dict(zip((1, 2, 3, 4), (1 / 3, 0.3, 0.2, 0.1), strict=True)), cube.flight, "O V", source="a fit",
        covariance=covariance, systematic=1 / 7, contamination={"Mg X 624": 0.1 / 3},
    )  # fmt: skip
    corrected = cube.correct_vignetting(vignetting)
    corrected.write(tmp_path / "a.fits")
    read = ESISLevel3Cube.read(tmp_path / "a.fits")
    assert_cubes_equal(read, corrected)
    np.testing.assert_array_equal(read.vignetting.covariance, covariance)
    assert read.vignetting.systematic == 1 / 7
    assert read.vignetting.contamination == {"Mg X 624": 0.1 / 3}
    assert read.vignetting.errors == vignetting.errors
    with pytest.raises(ValueError, match="corrected already, by the slopes from a fit"):
        read.correct_vignetting(vignetting)
    assert read.uncorrect_vignetting().vignetting is None


def test_wrong_corrections(cube):
    vignetting = Vignetting.of_flight(cube.flight, "O V")
    corrected = cube.correct_vignetting(vignetting)
    with pytest.raises(ValueError, match=r"corrected already.*uncorrect_vignetting"):
        corrected.correct_vignetting(vignetting)
    with pytest.raises(ValueError, match=r"corrected already.*uncorrect_vignetting"):
        corrected.correct_vignetting()
    with pytest.raises(ValueError, match="nothing to undo"):
        uncorrect_vignetting(cube)
    with pytest.raises(ValueError, match="of O V of flight ESIS_1, expected that of O V of flight ESIS_1_small"):
        correct_vignetting(cube, Vignetting.of_flight(ESIS_1, "O V"))
    with pytest.raises(ValueError, match="of He I of flight ESIS_1_small, expected that of O V"):
        correct_vignetting(cube, Vignetting.of_flight(cube.flight, "He I"))
    with pytest.raises(ValueError, match=r"shape \(3,\), expected one for each of the channels 1, 2, 3, 4"):
        correct_vignetting(cube, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"slope of 1\.5 for channel 2, expected -1 to 1"):
        correct_vignetting(cube, [0.1, 1.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="got channel 1, expected one with a slope: 2"):
        correct_vignetting(cube, {2: 0.3})
    with pytest.raises(ValueError, match="images of known channels"):
        correct_vignetting(cube.difference(1, 2), {1: 0.3})
    with pytest.raises(ValueError, match="images of known channels"):
        correct_vignetting(cube[0, 0, 10], {1: 0.3})
    lonely = cube[:]
    lonely.meta["alignment_final"] = None
    with pytest.raises(ValueError, match="without alignments"):
        correct_vignetting(lonely, [0.4] * 4)
    normalized = cube[:]
    normalized.meta["normalization"] = np.ones((2, 4))
    with pytest.warns(UserWarning, match="normalize them once more"):
        correct_vignetting(normalized, [0.4] * 4)


def test_field_on_a_grid_as_reproject_has_it(cube):
    """The field on the detector, resampled by plain reproject: exact, because it is linear."""
    vignetting = Vignetting.of_flight(cube.flight, "O V")
    grid = cube.alignment[0, 0].grid
    array, footprint = reproject_vignetting(vignetting, grid, alignment=cube.alignment)
    assert array.shape == footprint.shape == cube.shape
    rows, columns = cube.flight.detector.shape
    for channel in (1, 4):
        alignment = cube.alignment[1, channel - 1]
        field = np.broadcast_to(vignetting.evaluate(channel, np.arange(columns)), (rows, columns))
        theirs, seen = reproject_interp((field, alignment.to_gwcs()), grid, shape_out=cube.shape[2:], order="bilinear")
        ours = array[1, channel - 1]
        # reproject extends the outermost half pixel as a constant.
        u_pixel, _ = alignment.transform(*np.meshgrid(np.arange(cube.shape[3]), np.arange(cube.shape[2])))
        inner = (u_pixel > 0) & (u_pixel < columns - 1) & (seen > 0)
        assert inner.mean() > 0.5
        np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-9)
        np.testing.assert_array_equal(footprint[1, channel - 1] > 0, seen > 0)
        assert np.isnan(ours[seen == 0]).all()
    # A cube is divided by it.
    corrected = cube.correct_vignetting(vignetting)
    good = ~cube.mask
    np.testing.assert_allclose((cube.data / corrected.data)[good], array[good], rtol=1e-6)


def test_field_on_another_grid(cube):
    """On a coarser and turned grid, at the same place on the Sun."""
    vignetting = Vignetting.of_flight(cube.flight, "O V")
    alignment = cube.alignment[0, 2]
    target = alignment.grid.deepcopy()
    target.wcs.cdelt = target.wcs.cdelt * 2
    target.wcs.pc = [[0.8, -0.6], [0.6, 0.8]]
    target.wcs.crpix = 60, 55
    target.wcs.set()
    array, footprint = reproject_vignetting(vignetting, target, (110, 120), alignment=alignment)
    assert array.shape == (110, 120)
    sky = target.pixel_to_world(70, 40)
    u_pixel, _ = alignment.world_to_detector(sky.Tx, sky.Ty)
    np.testing.assert_allclose(array[40, 70], vignetting.evaluate(3, u_pixel), atol=1e-9)
    assert footprint[40, 70] == 1
    blocks = np.empty((110, 120))
    result = reproject_vignetting(
        vignetting, target, (110, 120), alignment=alignment, block_size=(50, 33), parallel=2, return_footprint=False,
        output_array=blocks,
    )  # fmt: skip
    assert result is blocks
    np.testing.assert_array_equal(blocks, array)


def test_field_needs_the_right_alignment(cube):
    vignetting = Vignetting.of_flight(cube.flight, "He I")
    grid = cube.alignment[0, 0].grid
    with pytest.raises(ValueError, match="vignetting of He I and an alignment of O V"):
        reproject_vignetting(vignetting, grid, alignment=cube.alignment)
    with pytest.raises(ValueError, match="alignment of channel 3, expected one with a slope: 1"):
        reproject_vignetting(Vignetting({1: 0.3}, cube.flight, "O V"), grid, alignment=cube.alignment[0, 2])
    with pytest.raises(TypeError, match="alignment of type int"):
        reproject_vignetting(vignetting, grid, alignment=3)
    array = np.empty(2, dtype=object)
    array[1] = cube.alignment[0, 0]
    field, footprint = reproject_vignetting(Vignetting.of_flight(cube.flight, "O V"), grid, alignment=array)
    assert np.isnan(field[0]).all()
    assert not footprint[0].any()
    assert footprint[1].any()


@pytest.mark.slow
def test_true_cube_is_masked_and_flagged_like_the_pipelines(simulated):
    other = true_cube(simulate_flight(size=6, n_exposures=1))
    assert (other.flags & Flag.OVERLAP > 0).any(axis=(2, 3)).all()
    np.testing.assert_array_equal(other.mask, (other.flags & Flag.INVALID) > 0)
