"""Poses come back from positions on the sky and on the detector, and bad tables are named."""

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import astropy.units as u
from astropy.coordinates import Angle
from astropy.table import QTable, Table, vstack

from esis_ndcube import ESIS_1, ESIS_2, Flight
from esis_ndcube.cli import main
from esis_ndcube.flight import FlightError, fit_flight
from esis_ndcube.quality import check_flight


def trace(flight, channel, line, sky):
    """Points that a flight's pose carries from the sky to the detector."""
    x, y = flight.grid.world_to_pixel_values(*(np.transpose(sky) / 3600))
    column, row = flight.pose(channel, line) @ [x, y, np.ones_like(x)]
    table = Table({"longitude": np.transpose(sky)[0], "latitude": np.transpose(sky)[1], "u": column, "v": row})
    table["channel"], table["line"] = channel, line
    return table


def field(flight, count=5, half=200.0):
    x, y = np.meshgrid(*[np.linspace(-half, half, count)] * 2)
    return np.column_stack([x.ravel(), y.ravel()])


def every(flight, lines=None, sky=None):
    sky = field(flight) if sky is None else sky
    channels = [channel.number for channel in flight.channels]
    return vstack([trace(flight, n, line, sky) for n in channels for line in lines or flight.formable_lines])


def same_poses(one, other, tolerance):
    for channel in other.channels:
        for line in other.formable_lines:
            found, true = one.line_pose(channel.number, line), other.line_pose(channel.number, line)
            np.testing.assert_allclose(found.center, true.center, rtol=0, atol=tolerance)
            np.testing.assert_allclose(found.matrix, true.matrix, rtol=0, atol=tolerance)


def rough(flight):
    """The flight with other nominal poses in all lines."""
    points = every(flight)
    points["u"] += 31 + 0.02 * points["longitude"]
    points["v"] -= 17
    return fit_flight(points, flight).flight


@pytest.mark.parametrize("flight", [ESIS_1, ESIS_2], ids=["2019", "2027"])
def test_poses_come_back(flight):
    start = rough(flight)
    assert abs(start.channel(1).center - flight.channel(1).center).min() > 10
    fit = fit_flight(every(flight), start)
    same_poses(fit.flight, flight, 1e-6)
    assert [(line.channel, line.line, line.points) for line in fit.lines] == [
        (channel.number, line, 25) for channel in flight.channels for line in flight.formable_lines
    ]
    assert max(line.residual for line in fit.lines) < 1e-6
    assert {check.status for check in check_flight(fit.flight)} == {"ok", "not known"}


def test_dispersion_and_its_direction_come_from_two_lines():
    fit = fit_flight(every(ESIS_2), ESIS_2)
    for found, true in zip(fit.flight.channels, ESIS_2.channels, strict=True):
        assert abs(Angle(found.dispersion_angle - true.dispersion_angle).wrap_at("180d")) < 1e-3 * u.deg
    # The file has both centers to 0.1 pixels, and the dispersion to four digits.
    assert abs(fit.flight.detector.dispersion / ESIS_2.detector.dispersion - 1) < 1e-3
    points = every(ESIS_2)
    moved = points["line"] == "Si XII"
    points["u"][moved] += 0.01 * ESIS_2.line_offset("Si XII")
    points["v"][moved] += 0.02 * ESIS_2.line_offset("Si XII")
    turned = fit_flight(points, ESIS_2).flight
    assert abs(turned.detector.dispersion * 1.01 / fit.flight.detector.dispersion - 1).value < 1e-3
    expected = np.degrees(np.arctan2(0.02 * 0.480, 1.01 * 0.464))
    for one, other in zip(turned.channels, fit.flight.channels, strict=True):
        change = Angle(one.dispersion_angle - other.dispersion_angle).wrap_at("180d")
        assert abs(change.value - expected) < 0.01


def test_entries_without_points_stay():
    points = trace(ESIS_1, 2, "O V", field(ESIS_1))
    points["u"] += 5
    fit = fit_flight(points, ESIS_1)
    np.testing.assert_allclose(fit.flight.channel(2).center, ESIS_1.channel(2).center + np.array([5, 0]), atol=1e-6)
    np.testing.assert_array_equal(fit.flight.channel(2).field_stop, ESIS_1.channel(2).field_stop)
    assert fit.flight.channel(2).dispersion_angle == ESIS_1.channel(2).dispersion_angle
    assert fit.flight.detector.dispersion == ESIS_1.detector.dispersion
    np.testing.assert_array_equal(fit.flight.pose(2, "He I"), ESIS_1.pose(2, "He I"))
    for number in (1, 3, 4):
        np.testing.assert_array_equal(fit.flight.pose(number), ESIS_1.pose(number))


def test_line_that_the_file_lacks_gets_a_pose():
    points = trace(ESIS_2, 3, "Si XII", field(ESIS_2))
    text = ESIS_2.toml
    for _ in ESIS_2.channels:
        at = text.index("[[channels.lines]]")
        end = text.find("[[channels]]", at)
        text = text[:at] + (text[end:] if end > 0 else "")
    assert "channels.lines" not in text
    fit = fit_flight(points, Flight.from_toml(text))
    np.testing.assert_allclose(fit.flight.pose(3, "Si XII"), ESIS_2.pose(3, "Si XII"), atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.05, 2), st.integers(0, 2**32 - 1))
def test_residual_is_the_error_of_a_coordinate(noise, seed):
    random = np.random.default_rng(seed)
    points = trace(ESIS_2, 4, "Ne VII", random.uniform(-200, 200, (400, 2)))
    for name in ("u", "v"):
        points[name] += random.normal(0, noise, len(points))
    (line,) = fit_flight(points, ESIS_2).lines
    # The standard deviation of 800 numbers is known to 2.5 %.
    assert abs(line.residual / noise - 1) < 0.15


def test_few_points_do_not_make_the_residual_small():
    random = np.random.default_rng(8)
    sky = [[-200, -200], [200, -200], [200, 200], [-200, 200]]
    squares = []
    for _ in range(300):
        points = trace(ESIS_2, 4, "Ne VII", sky)
        points["u"] += random.normal(0, 0.3, 4)
        points["v"] += random.normal(0, 0.3, 4)
        squares.append(fit_flight(points, ESIS_2).lines[0].residual ** 2)
    assert abs(np.sqrt(np.mean(squares)) / 0.3 - 1) < 0.1


@settings(deadline=None, max_examples=30)
@given(st.floats(-14, 14), st.floats(0.5, 2), st.tuples(*[st.floats(-500, 500)] * 2), st.integers(0, 2**32 - 1))
def test_any_pose_comes_back(turn, scale, shift, seed):
    cosine, sine = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
    points = trace(ESIS_1, 3, "O V", np.random.default_rng(seed).uniform(-300, 300, (9, 2)))
    pivot = ESIS_1.channel(3).center
    change = np.array([[cosine, sine], [-sine, cosine]])
    points["u"], points["v"] = change @ (np.array([points["u"], points["v"]]) - pivot[:, None]) + np.reshape(
        pivot + shift, (2, 1)
    )
    found = fit_flight(points, ESIS_1).flight.channel(3)
    np.testing.assert_allclose(found.center, pivot + shift, atol=1e-6)
    np.testing.assert_allclose(found.matrix, change @ ESIS_1.channel(3).matrix, atol=1e-6)


def with_corners(flight, line="O V", channel=2):
    """Points of the field, and the corners of the field stop in another order."""
    points = trace(flight, channel, line, field(flight))
    points["corner"] = False
    corners = flight.field_stop(channel, line)
    pose = flight.line_pose(channel, line)
    x, y = np.linalg.solve(pose.matrix, (corners - pose.center).T) + np.reshape(flight.pose_pivot, (2, 1))
    sky = np.transpose(flight.grid.pixel_to_world_values(x, y)) * 3600
    marked = trace(flight, channel, line, (sky + 180 * 3600) % (360 * 3600) - 180 * 3600)
    marked["corner"] = True
    return vstack([points, marked[::-1], points[:3]])


@pytest.mark.parametrize("line", ["O V", "He I"])
def test_corners_become_the_field_stop(line):
    fit = fit_flight(with_corners(ESIS_1, line), ESIS_1)
    np.testing.assert_allclose(fit.flight.field_stop(2, line), ESIS_1.field_stop(2, line), atol=1e-6)
    fit = fit_flight(with_corners(ESIS_2, "Ne VII"), ESIS_2)
    np.testing.assert_allclose(fit.flight.field_stop(2), ESIS_2.field_stop(2), atol=1e-6)


def test_nothing_given_is_changed():
    points = every(ESIS_2)
    before, text = points.copy(), ESIS_2.toml
    fit_flight(points, ESIS_2)
    assert all((points[name] == before[name]).all() for name in before.colnames)
    assert ESIS_2.toml == text


def test_units_of_columns_count():
    points = QTable(every(ESIS_2))
    points["longitude"] = (points["longitude"] * u.arcsec).to(u.deg)
    points["latitude"] = (points["latitude"] * u.arcsec).to(u.arcmin)
    points["u"] *= u.pix
    same_poses(fit_flight(points, ESIS_2).flight, ESIS_2, 1e-6)


def without_columns(points):
    points.remove_columns(["u", "latitude"])


def few(points):
    points.remove_rows(slice(0, 22))


def on_a_line(points):
    points["latitude"][:25] = 3 * points["longitude"][:25]


def on_a_line_of_the_detector(points):
    points["v"][:25] = points["u"][:25]


def other_channel(points):
    points["channel"][3] = 7


def other_line(points):
    points["line"][3] = "O V"


def word_for_a_channel(points):
    points["channel"] = ["ESIS1"] * len(points)


def word_for_a_pixel(points):
    points["u"] = ["left"] * len(points)


def wrong_unit(points):
    points["v"].unit = "mm"


def infinite(points):
    points["v"][4] = np.inf


def far(points):
    points["longitude"][4] = 100 * 3600


def empty(points):
    points["u"] = np.ma.masked_greater(points["u"], 500)


def one_corner(points):
    points["corner"] = 0
    points["corner"][2] = 1


def wrong_mark(points):
    points["corner"] = "yes"


def falls(points):
    points["u"] *= -1
    points["v"] *= -1


def none(points):
    points.remove_rows(slice(None))


WRONG = [
    (without_columns, "got a table without latitude, u, expected the columns channel, line, longitude"),
    (none, "got a table without rows"),
    (few, "channel 1 in Ne VII: got 3 points, expected at least 4"),
    (on_a_line, "channel 1 in Ne VII: got points that lie on a line to .* of the grid"),
    (on_a_line_of_the_detector, "channel 1 in Ne VII: got points that lie on a line to .* of the detector"),
    (other_channel, "unknown channel 7: flight ESIS_2 has channels 1, 2"),
    (other_line, "got the line O V, expected lines of flight ESIS_2: Ne VII, Si XII"),
    (word_for_a_channel, "got the column channel of kind <U5"),
    (word_for_a_pixel, "got a column u that is not in pix"),
    (wrong_unit, "got a column v that is not in pix"),
    (infinite, "v = inf pix in row 5"),
    (far, "longitude = 360000.0 arcsec, .* in row 5"),
    (empty, "got empty cells in u"),
    (one_corner, "channel 1 in Ne VII: got 1 corners of the field stop, expected none, or all 8"),
    (wrong_mark, "got 'yes' in the column corner"),
    (falls, "channel 1: got u that falls by 28.7 pixels per angstrom"),
]


@pytest.mark.parametrize(("change", "text"), WRONG, ids=[change.__name__ for change, _ in WRONG])
def test_wrong_tables_are_named(change, text):
    points = every(ESIS_2)
    change(points)
    with pytest.raises(ValueError, match=text):
        fit_flight(points, ESIS_2)


def test_the_name_of_a_file_is_no_table():
    with pytest.raises(TypeError, match=r"got str, expected an astropy Table: Table\.read"):
        fit_flight("trace.ecsv", ESIS_2)


def test_a_sky_of_other_signs_disagrees_with_the_angle():
    points = every(ESIS_2, ["Ne VII"])
    points["longitude"] *= -1
    points["latitude"] *= -1
    with pytest.raises(FlightError, match=r"expected about the dispersion_angle of -22\.5"):
        fit_flight(points, ESIS_2)


@pytest.mark.parametrize("ending", ["ecsv", "csv", "fits"])
def test_command_writes_a_file_that_the_check_passes(ending, tmp_path):
    base, table, output = (tmp_path / name for name in ("base.toml", f"points.{ending}", "next.toml"))
    base.write_text(rough(ESIS_1).toml, encoding="utf-8")
    points = vstack([every(ESIS_1), with_corners(ESIS_1)])
    points["corner"] = points["corner"].filled(False)
    points.write(table)
    arguments = ["flight", "fit", str(table), "--flight", str(base), "--output", str(output)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    same_poses(Flight.read(output), ESIS_1, 1e-6)
    assert result.output.splitlines()[2] == "channel 2 in O V: 61 points, residual 0.000 pixels"
    assert len(result.output.splitlines()) == 8
    result = CliRunner().invoke(main, ["flight", "check", str(output)])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "exists: give another name" in result.output


def test_command_names_a_table_of_an_unknown_kind(tmp_path):
    base, table = tmp_path / "base.toml", tmp_path / "points.xyz"
    base.write_text(ESIS_1.toml, encoding="utf-8")
    table.write_text("1 2 3", encoding="utf-8")
    arguments = ["flight", "fit", str(table), "--flight", str(base), "--output", str(tmp_path / "next.toml")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "expected a file with the ending .ecsv, .csv or .fits" in result.output
