"""Flights read from configuration files."""

import copy
import json
import pickle
import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import astropy.units as u
from astropy.time import Time

from esis_ndcube import ESIS_1, ESIS_2, Flight, FlightError
from esis_ndcube.flight.instrument import ByQuadrant, Line

SECOND_FILE = Path(__file__).parents[1] / "data" / "second_flight.toml"
SECOND = Flight.read(SECOND_FILE)
GAIN = "gain = { low_low = 1.94, high_low = 1.87, high_high = 1.97, low_high = 1.97 }"


def line(flight, name):
    return next(line for line in flight.lines if line.name == name)


# -------------------------------------------------------------------------------------------------- reading


def test_first_flight():
    assert ESIS_1.name == "ESIS_1"
    assert ESIS_1.launch == Time("2019-09-30T18:04:00", scale="utc")
    assert [channel.number for channel in ESIS_1.channels] == [1, 2, 3, 4]
    assert [channel.dispersion_angle.value for channel in ESIS_1.channels] == [22.5, 67.5, 112.5, 157.5]
    assert ESIS_1.detector.raw_shape == (1040, 2152)
    assert ESIS_1.detector.shape == (1040, 2048)
    assert ESIS_1.grid_shape == (1270, 1270)
    assert ESIS_1.formable_lines == ["O V", "He I"]
    assert [row.intensity for row in ESIS_1.lines] == [1.0, 0.70, 0.25, 0.13, 0.13, 0.11, 0.06, 0.07]
    assert ESIS_1.channel(1).gain == ByQuadrant(low_low=2.57, low_high=2.50, high_high=2.52, high_low=2.53)
    assert ESIS_1.channel(4).gain == ByQuadrant(low_low=2.60, low_high=2.60, high_high=2.54, high_low=2.58)
    assert ESIS_1.time_stamp == "end"
    assert ESIS_1.cadence == 10 * u.s


def test_second_flight_has_other_numbers():
    assert str(SECOND) == "SECOND: An invented second flight"
    assert repr(SECOND) == "<Flight SECOND: 6 channels, Si XII, Ne VII>"
    assert SECOND.detector.shape == (400, 760)
    assert SECOND.grid_shape == (500, 470)
    assert SECOND.files.pattern.format(channel=3, frame=12) == "second-0012-camera3.fits"
    angles = [channel.dispersion_angle.to_value(u.deg) for channel in SECOND.channels]
    assert angles == [-22.5 + 45 * j for j in range(6)]


def test_second_flight_of_esis_is_its_design():
    assert [channel.dispersion_angle.value for channel in ESIS_2.channels] == [-22.5 + 45 * j for j in range(6)]
    assert ESIS_2.formable_lines == ["Ne VII", "Si XII"]
    assert ESIS_2.field_stop_width == 431 * u.arcsec
    assert ESIS_2.detector.shape == (1040, 2048)
    np.testing.assert_allclose(1 / ESIS_2.detector.pixel_scale.value, [2.155, 2.083], rtol=1e-3)
    np.testing.assert_allclose(ESIS_2.line_offset("Si XII"), 1513.1 - 533.3, atol=0.1)
    for channel in ESIS_2.channels:
        np.testing.assert_allclose(ESIS_2.line_pose(channel.number, "Ne VII").center, [533.3, 519.5])
        np.testing.assert_allclose(ESIS_2.line_pose(channel.number, "Si XII").center, [1513.1, 519.5])
    assert {"gain", "vignetting_slope", "pose"} <= set(ESIS_2.not_measured)
    assert not ESIS_1.not_measured


def test_lines_have_their_own_reference_or_that_of_the_flight():
    assert {name: ESIS_2.line_reference(name).name for name in ESIS_2.formable_lines} == {
        "Ne VII": "AIA 171",
        "Si XII": "AIA 211",
    }
    assert ESIS_2.line_reference("Si XII").wavelength == 211 * u.AA
    assert {ESIS_1.line_reference(name).name for name in ESIS_1.formable_lines} == {"AIA 304"}


def test_an_incomplete_reference_of_a_line_is_named():
    text = ESIS_2.toml.replace('instrument = "AIA", wavelength = "211 Angstrom"', 'wavelength = "211 Angstrom"')
    with pytest.raises(FlightError, match=r"lines\[1\]\.reference\.instrument: missing"):
        Flight.from_toml(text)


def test_the_matrices_point_along_the_dispersion():
    for flight in (ESIS_1, ESIS_2, SECOND):
        for channel in flight.channels:
            # The direction on the sky of +u: the row of the matrix, with square pixels on the grid.
            found = np.degrees(np.arctan2(channel.matrix[0, 1], channel.matrix[0, 0]))
            away = (found - channel.dispersion_angle.to_value(u.deg) + 180) % 360 - 180
            assert abs(away) < 1.5
            assert np.linalg.det(channel.matrix) > 0


@pytest.mark.flight_data
def test_poses_are_those_measured_on_the_flight(flight_data):
    measured = json.loads((flight_data / "esis_derived" / "pose_2019_frame00124.json").read_text())
    assert measured["frame"] == ESIS_1.pose_frame
    rng = np.random.default_rng(0)
    for number, camera in measured["cameras"].items():
        for x, y in rng.uniform(0, 1270, (5, 2)):
            expected = np.array(camera["center"]) + np.array(camera["M"]) @ [x - 634.5, y - 634.5]
            np.testing.assert_allclose(ESIS_1.pose(int(number)) @ [x, y, 1], expected, rtol=0, atol=1e-9)


def test_a_file_and_its_text_are_the_same_flight(tmp_path):
    path = tmp_path / "flight.toml"
    path.write_text(SECOND.toml, encoding="utf-8")
    assert Flight.read(path) == Flight.read(str(path)) == Flight.from_toml(SECOND.toml) == SECOND


def test_an_absent_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Flight.read(tmp_path / "none.toml")


def test_a_file_that_is_not_toml_is_named(tmp_path):
    path = tmp_path / "flight.toml"
    path.write_text("name = = 3", encoding="utf-8")
    with pytest.raises(FlightError, match=r"flight\.toml is not a flight file in TOML: .*line 1"):
        Flight.read(path)


# --------------------------------------------------------------------------------------------- broken files


def entries(table, where=""):
    """Every entry of a configuration, as the error messages name it."""
    for key, value in table.items():
        if isinstance(value, dict) and key != "gain":
            yield from entries(value, f"{where}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, row in enumerate(value):
                yield from entries(row, f"{where}{key}[{index}].")
        else:
            yield f"{where}{key}"


OPTIONAL = {"columns", "bad_columns", "field_stop"}
REQUIRED = [
    name
    for name in entries(tomllib.loads(SECOND.toml))
    if name.split(".")[-1] not in OPTIONAL and not any(f"[{index}]" in name for index in range(1, 9))
]


def without(text, name):
    """The text of a configuration with the lines of one entry taken out."""
    *tables, key = name.replace("[0]", "").split(".")
    section, kept, done = [], [], False
    for row in text.splitlines():
        if row.startswith("["):
            section = row.strip("[]").split(".")
        found = section == tables and row.split("=")[0].strip() == key and not done
        done |= found
        if not found:
            kept.append(row)
    assert done, name
    return "\n".join(kept)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_entry_is_named(name):
    with pytest.raises(FlightError) as error:
        Flight.from_toml(without(SECOND.toml, name), source="my.toml")
    assert str(error.value).startswith(f"flight file my.toml: {name}: missing, expected ")


@pytest.mark.parametrize("name", ["files", "timeline", "detector", "field_stop", "grid", "lines", "channels"])
def test_a_missing_table_is_named(name):
    text = SECOND.toml.replace(f"[{name}]", "[other]")
    with pytest.raises(FlightError, match=rf"flight file <string>: {name}: missing"):
        Flight.from_toml(text)


BROKEN = [
    ("reference_channel = 4", 'reference_channel = 4\nnot_measured = ["gian"]', "not_measured: got ['gian'], expected"),
    ("reference_channel = 4", "reference_channel = 4\nnot_measured = [[1]]", "not_measured: got [[1]], expected some"),
    ('name = "SECOND"', 'name = "2nd"', "name: got '2nd', expected letters"),
    ('name = "SECOND"', "name = 3", "name: got 3, expected str"),
    ("launch = 2027-08-14T17:30:00Z", 'launch = "noon"', "launch: got 'noon', expected a date"),
    ("launch = 2027-08-14T17:30:00Z", "launch = 3", "launch: got 3, expected"),
    ("reference_channel = 4", "reference_channel = 7", "reference_channel: got 7, expected one of"),
    ("reference_channel = 4", "reference_channel = 0", "reference_channel: got 0, expected more than 0"),
    ("reference_channel = 4", "reference_channel = true", "reference_channel: got True, expected int"),
    ("{frame:04d}", "7", "files.pattern: got 'second-7-camera{channel}.fits', expected both"),
    ("{frame:04d}", "{image}", "files.pattern: got 'second-{image}-camera{channel}.fits', expected a temp"),
    ('exposure_unit = "1 s"', 'exposure_unit = "1 m"', "files.exposure_unit: got '1 m', expected a quantity"),
    ('"1 us"', '"0 us"', "files.measured_exposure_unit: got '0 us', expected a quantity above 0"),
    ('cadence = "6 s"', 'cadence = "-6 s"', "timeline.cadence: got '-6 s', expected a quantity above 0"),
    ('cadence = "6 s"', "cadence = 6", "timeline.cadence: got 6, expected str"),
    ('cadence = "6 s"', 'cadence = "nan s"', "timeline.cadence: got 'nan s', expected"),
    ("[[12, 31], [33, 40]]", "[[31, 12]]", "timeline.light_frames: got [[31, 12]], expected ranges"),
    ("[[12, 31], [33, 40]]", "[]", "timeline.light_frames: got [], expected n x 2 int numbers"),
    ("[[12, 31], [33, 40]]", "[[12, 31.5]]", "timeline.light_frames: got [[12, 31.5]], expected"),
    ("[[1, 6], [50, 55]]", "[[1, 12]]", "timeline.dark_frames: got ((1, 12),), expected no frame of light"),
    ('time_stamp = "start"', 'time_stamp = "late"', "timeline.time_stamp: got 'late', expected 'start'"),
    ('"0.25 s"', '"0.25 K"', "timeline.clock_offset: got '0.25 K', expected a quantity in s"),
    ("raw_shape = [400, 812]", "raw_shape = [400, -812]", "detector.raw_shape: got [400, -812], expected"),
    ("raw_shape = [400, 812]", "raw_shape = [400]", "detector.raw_shape: got [400], expected 2 positive int"),
    ("split_column = 386", "split_column = 812", "detector.split_column: got 812, expected less than"),
    ("[[3, 23], [789, 809]]", "[[3, 23], [789, 900]]", "detector.blank_columns: got"),
    ("[[3, 23], [789, 809]]", "[[3, 23]]", "detector.blank_columns: got [[3, 23]], expected 2 x 2"),
    ("[[24, 384], [388, 788]]", "[[24, 388], [388, 788]]", "detector.active_columns: got"),
    ("[[24, 384], [388, 788]]", "[[24, 24], [388, 788]]", "detector.active_columns: got [[24, 24]"),
    ("flip_y = false", "flip_y = 0", "detector.flip_y: got 0, expected bool"),
    ("saturation = 16383", "saturation = 0", "detector.saturation: got 0.0, expected more than 0"),
    ("saturation = 16383", "saturation = inf", "detector.saturation: got inf, expected a finite number"),
    ("pixel_scale = [0.48, 0.5]", "pixel_scale = [0.48, 0]", "detector.pixel_scale: got [0.48, 0], expected"),
    ("pixel_scale = [0.48, 0.5]", 'pixel_scale = ["a", "b"]', "detector.pixel_scale: got ['a', 'b'],"),
    ('"0.0855 Angstrom"', '"0.0855 furlong"', "detector.dispersion: got '0.0855 furlong', expected"),
    ('"3.66 eV"', '"3.66 s"', "detector.energy_per_electron: got '3.66 s', expected a quantity in eV"),
    ("fano_factor = 0.12", "fano_factor = 1.0", "detector.fano_factor: got 1.0, expected 0 to 1"),
    (
        "read_noise = 4.0",
        'read_noise = 4.0\ncharge_spread = [[0.5, 1.0]]\ntypical_signal = "90 electron"',
        "detector.charge_spread: got [[0.5, 1.0]], expected parts of the charge that add up to 1",
    ),
    (
        "read_noise = 4.0",
        'read_noise = 4.0\ncharge_spread = [[1.0, -1.0]]\ntypical_signal = "90 electron"',
        "detector.charge_spread: got [[1.0, -1.0]], expected parts",
    ),
    (
        "read_noise = 4.0",
        "read_noise = 4.0\ncharge_spread = [[1.0, 0.5]]",
        "detector.typical_signal: missing, expected str",
    ),
    ("read_noise = 4.0", "read_noise = -4.0", "detector.read_noise: got -4.0, expected more than 0"),
    ("stray_light_rows = 14", "stray_light_rows = 201", "detector.stray_light_rows: got 201, expected 0 to"),
    ("sides = 6", "sides = 2", "field_stop.sides: got 2, expected at least 3"),
    (
        'width = "150 arcsec"',
        'width = "150 m"',
        "field_stop.width: got '150 m', expected a quantity in arcsec",
    ),
    ('coarse = "2.4 arcsec"', 'coarse = "0.3 arcsec"', "registration.coarse: got 0.3 arcsec, expected more"),
    ('wavelength = "171 Angstrom"', 'wavelength = "0 nm"', "reference.wavelength: got '0 nm', expected"),
    ("shape = [500, 470]", "shape = [500, 470.5]", "grid.shape: got [500, 470.5], expected 2 positive int"),
    ("crpix = [260.5, 225.0]", "crpix = [260.5]", "grid.crpix: got [260.5], expected 2 float numbers"),
    ("cdelt = [0.4, 0.4]", "cdelt = [-0.4, 0.4]", "grid.cdelt: got [-0.4, 0.4], expected 2 positive float"),
    ('line = "Ne VII"', 'line = "Mg VII"', "pose.line: got 'Mg VII', expected the name of a line with"),
    ("frame = 24", "frame = -1", "pose.frame: got -1, expected more than 0"),
    (
        "columns = [0, 360]",
        "columns = [0, 761]",
        "lines[1].columns: got (0, 761), expected a range of the 760",
    ),
    ("columns = [0, 360]", "columns = [360, 0]", "lines[1].columns: got (360, 0), expected a range"),
    ("intensity = 0.9", "intensity = 0", "lines[1].intensity: got 0.0, expected more than 0"),
    ("number = 2", "number = 3", "channels: got the numbers [1, 3, 3, 4, 5, 6], expected 1, 2"),
    ("vignetting_slope = 0.45", "vignetting_slope = 1.5", "channels[1].vignetting_slope: got 1.5, expected"),
    (
        GAIN,
        "gain = [1.94, 1.87, 1.97, 1.97]",
        "channels[0].gain: got the list [1.94, 1.87, 1.97, 1.97], whose order is not known, expected "
        "gain = { low_low = ..., high_low = ..., high_high = ..., low_high = ... }, x first",
    ),
    (GAIN, "gain = 1.94", "channels[0].gain: got 1.94, expected dict"),
    (
        GAIN,
        GAIN.replace("high_low", "Q2"),
        "channels[0].gain.Q2: got a key that is no quadrant, expected low_low, high_low, high_high",
    ),
    (GAIN, GAIN.replace("high_low = 1.87, ", ""), "channels[0].gain.high_low: missing, expected float"),
    (GAIN, GAIN.replace("1.87", "-1.87"), "channels[0].gain.high_low: got -1.87, expected more than 0"),
    ("bad_columns = [[97, 99]]", "bad_columns = [[97, 799]]", "channels[2].bad_columns: got [[97, 799]]"),
    ("bad_columns = [[97, 99]]", "field_stop = [[1, 2]]", "channels[2].field_stop: got [[1, 2]], expected 6"),
]


@pytest.mark.parametrize(("good", "bad", "message"), BROKEN, ids=[message[:40] for _, _, message in BROKEN])
def test_an_impossible_value_is_named(good, bad, message):
    assert good in SECOND.toml
    with pytest.raises(FlightError) as error:
        Flight.from_toml(SECOND.toml.replace(good, bad, 1), source="my.toml")
    assert message in str(error.value)
    assert "my.toml" in str(error.value)


@pytest.mark.parametrize("matrix", ["[[1, 2], [2, 4]]", "[[0, 0], [0, 0]]"])
def test_a_matrix_without_inverse_is_named(matrix):
    rows = [row if not row.startswith("matrix") else f"matrix = {matrix}" for row in SECOND.toml.splitlines()]
    with pytest.raises(FlightError, match=r"channels\[0\]\.matrix: got .* expected a matrix that can be inv"):
        Flight.from_toml("\n".join(rows))


# ------------------------------------------------------------------------------------- lines, poses, stops


def test_lines_are_found_by_name():
    assert ESIS_1.line("O V").wavelength == 629.732 * u.AA
    assert ESIS_1.line(" he i") is ESIS_1.line("HeI") is ESIS_1.line(ESIS_1.line("He I"))
    assert ESIS_1.line("He I").columns == (0, 800)


@pytest.mark.parametrize("name", ["Fe XV", "Mg X 609", "", "O V I"])
def test_an_unknown_line_is_an_error_that_lists_the_known(name):
    with pytest.raises(ValueError, match=f"unknown line {name!r}: flight ESIS_1 forms cubes of O V, He I"):
        ESIS_1.line(name)


@pytest.mark.parametrize("number", [0, 5, -1, "2"])
def test_an_unknown_channel_is_an_error_that_lists_the_known(number):
    with pytest.raises(ValueError, match=f"unknown channel {number!r}: flight ESIS_1 has channels 1, 2, 3, 4"):
        ESIS_1.channel(number)


def test_electrons_per_photon_by_hand():
    # 12398.4 eV Angstrom over the wavelength, over the energy per electron.
    found = ESIS_1.electrons_per_photon("O V")
    assert found.unit == u.electron / u.photon
    assert found.value == pytest.approx(12398.42 / 629.732 / 3.6, rel=1e-6)
    assert ESIS_1.electrons_per_photon("He I").value == pytest.approx(12398.42 / 584.334 / 3.6, rel=1e-6)
    assert SECOND.electrons_per_photon("Ne VII").value == pytest.approx(12398.42 / 465.221 / 3.66, rel=1e-6)


def test_line_offsets_by_hand():
    assert ESIS_1.line_offset("O V") == 0
    assert ESIS_1.line_offset("He I") == pytest.approx((584.334 - 629.732) / 0.037)
    assert ESIS_1.line_offset(line(ESIS_1, "Mg X 609")) == pytest.approx((609.793 - 629.732) / 0.037)
    assert SECOND.line_offset("Ne VII") == 0
    assert SECOND.line_offset("Si XII") == pytest.approx((499.406 - 465.221) / 0.0855)
    with pytest.raises(ValueError, match="unknown line 'Mg X 609'"):
        ESIS_1.line_offset("Mg X 609")


@given(
    number=st.integers(1, 6),
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
    name=st.sampled_from([None, "Ne VII", "Si XII"]),
)
def test_poses_by_hand(number, x, y, name):
    channel = SECOND.channels[number - 1]
    (a, b), (c, d) = channel.matrix
    expected = (
        channel.center[0] + a * (x - 235) + b * (y - 250),
        channel.center[1] + c * (x - 235) + d * (y - 250),
    )
    shift = (499.406 - 465.221) / 0.0855 if name == "Si XII" else 0
    found = SECOND.pose(number, name) @ [x, y, 1]
    np.testing.assert_allclose(found, np.add(expected, [shift, 0]), atol=1e-8)


def test_the_pivot_looks_at_the_center_of_the_channel():
    for channel in ESIS_1.channels:
        np.testing.assert_allclose(ESIS_1.pose(channel.number) @ [634.5, 634.5, 1], channel.center, rtol=1e-12)


def test_a_regular_field_stop_by_hand():
    # A hexagon of 150 arcsec across the flats that lie across the dispersion.
    center = SECOND.channel(1).center
    stop = (SECOND.field_stop(1) - center) * [0.48, 0.5]
    np.testing.assert_allclose(np.hypot(*stop.T), 75 / np.cos(np.radians(30)), rtol=1e-12)
    assert stop[:, 0].max() == pytest.approx(75)
    assert np.isclose(stop[:, 0], 75).sum() == 2
    angles = np.unwrap(np.arctan2(stop[:, 1], stop[:, 0]))
    np.testing.assert_allclose(np.diff(angles), np.radians(60), rtol=1e-9)


def test_a_measured_field_stop_and_its_other_lines():
    stop = ESIS_1.field_stop(3)
    assert stop.shape == (8, 2)
    size = np.ptp(stop, axis=0) * [0.734, 0.770]
    np.testing.assert_allclose(size, 690, rtol=0.015)
    # Measured in He I too: within 2 % of the nominal dispersion, and lines between are in proportion.
    helium = ESIS_1.field_stop(3, "He I") - stop
    np.testing.assert_allclose(helium[:, 0], -45.398 / 0.037, rtol=0.02)
    mg = line(ESIS_1, "Mg X 624")
    np.testing.assert_allclose(ESIS_1.field_stop(3, mg) - stop, helium * (4.791 / 45.398), atol=1e-6)


def test_a_line_pose_between_and_beside_the_measured_ones():
    for channel in ESIS_1.channels:
        first, second = channel.poses
        middle = Line("between", (first.wavelength + second.wavelength) / 2, 1.0)
        beyond = Line("beyond", 2 * second.wavelength - first.wavelength, 1.0)
        for part in ("center", "matrix", "field_stop"):
            a, b = getattr(first, part), getattr(second, part)
            half, twice = (getattr(ESIS_1.line_pose(channel.number, x), part) for x in (middle, beyond))
            np.testing.assert_allclose(half, (a + b) / 2, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(twice, 2 * b - a, rtol=1e-9, atol=1e-9)


def test_a_channel_measured_in_one_line_is_shifted_by_the_dispersion():
    moved = SECOND.line_pose(2, "Si XII").center - SECOND.line_pose(2).center
    np.testing.assert_allclose(moved, [(499.406 - 465.221) / 0.0855, 0], rtol=1e-9)
    np.testing.assert_array_equal(SECOND.line_pose(2, "Si XII").matrix, SECOND.channel(2).matrix)


@pytest.mark.parametrize("name", ["O V", "Fe XVI"])
def test_a_channels_other_lines_must_be_other_lines(name):
    text = ESIS_1.toml.replace('[[channels.lines]]\nname = "He I"', f'[[channels.lines]]\nname = "{name}"', 1)
    with pytest.raises(FlightError, match=rf"channels\[0\]\.lines\[0\]\.name: got '{name}'"):
        Flight.from_toml(text)


def test_the_grid_is_the_output_grid():
    assert ESIS_1.grid.array_shape == (1270, 1270)
    assert ESIS_1.grid.wcs.ctype[0] == "HPLN-TAN"
    world = ESIS_1.grid.wcs_pix2world([[612.5, 667.5], [613.5, 667.5], [612.5, 668.5]], 0) * 3600
    np.testing.assert_allclose(world, [[0, 0], [0.6, 0], [0, 0.6]], atol=1e-6)
    assert SECOND.grid.wcs_pix2world([[259.5, 224.0]], 0)[0] * 3600 == pytest.approx([-200, 350])


def test_kinds_of_frames():
    light = [frame for frame in range(80, 180) if ESIS_1.is_light(frame)]
    assert light == list(range(109, 139))
    assert [ESIS_1.is_dark(frame) for frame in (97, 98, 103, 104, 153, 154, 166, 167)] == [
        False,
        True,
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert SECOND.is_light(31)
    assert not SECOND.is_light(32)


# ----------------------------------------------------------------------------------------- a value for life


def test_flights_are_equal_by_their_configuration():
    again = Flight.from_toml(ESIS_1.toml)
    assert again is not ESIS_1
    assert again == ESIS_1
    assert hash(again) == hash(ESIS_1)
    assert ESIS_1 != SECOND
    assert ESIS_1.toml != ESIS_1
    assert {ESIS_1: "first", SECOND: "second"}[again] == "first"


@pytest.mark.parametrize("flight", [ESIS_1, ESIS_2, SECOND], ids=["2019", "2027", "invented"])
def test_flights_are_copied_and_pickled(flight):
    # With the cached grid and without.
    for _ in range(2):
        for twin in (pickle.loads(pickle.dumps(flight)), copy.deepcopy(flight)):
            assert twin == flight
            np.testing.assert_array_equal(twin.pose(2), flight.pose(2))
            np.testing.assert_array_equal(twin.field_stop(2), flight.field_stop(2))
        assert flight.grid.array_shape == flight.grid_shape


def test_flights_are_frozen():
    with pytest.raises(FrozenInstanceError):
        ESIS_1.cadence = 12 * u.s
    with pytest.raises(FrozenInstanceError):
        ESIS_1.detector.flip_y = False
    for values in (ESIS_1.channel(1).center, ESIS_1.channel(1).matrix, ESIS_1.channel(1).field_stop):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
    before = ESIS_1.pose(1)
    before[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        ESIS_1.field_stop(1)[:] = 0
    assert np.linalg.det(ESIS_1.pose(1)[:, :2]) > 0.6
    assert ESIS_1.field_stop(1).min() > 100


def test_a_pickled_flight_has_the_same_grid():
    """To the last bit, also after the grid has been used."""
    before = ESIS_1.grid
    flight = pickle.loads(pickle.dumps(ESIS_1))
    assert flight == ESIS_1
    for name in ("crpix", "crval", "cdelt"):
        assert getattr(flight.grid.wcs, name).tolist() == getattr(before.wcs, name).tolist()
