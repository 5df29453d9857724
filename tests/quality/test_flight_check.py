"""Wrong flight files are named, and right ones pass."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner

from esis_ndcube import ESIS_1, ESIS_2, Flight
from esis_ndcube.cli import main
from esis_ndcube.quality import check_flight

SECOND = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")


def changed(flight, change):
    """The text of a flight file after a change of its table."""
    table = tomllib.loads(flight.toml)
    change(table)
    return tomli_w.dumps(table)


def faults(text, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    return {check.name: check.text for check in check_flight(path) if check.status == "fault"}


@pytest.mark.parametrize("flight", [ESIS_1, ESIS_2, SECOND], ids=["2019", "2027", "invented"])
def test_right_files_pass(flight, tmp_path):
    assert faults(flight.toml, tmp_path) == {}
    checks = check_flight(flight)
    assert len({check.name for check in checks}) == len(checks) == 14
    assert {check.status for check in checks} == {"ok", "not known"}


def test_entries_that_were_not_measured_are_named_with_the_consequence():
    (found,) = (check for check in check_flight(ESIS_2) if check.name == "not measured")
    assert found.status == "not known"
    for name in ESIS_2.not_measured:
        assert f"{name}: " in found.text


def mirror(table):
    for channel in table["channels"]:
        for pose in (channel, *channel.get("lines", ())):
            pose["matrix"][1] = [-value for value in pose["matrix"][1]]


def mirror_one(table):
    table["channels"][1]["matrix"][1] = [-value for value in table["channels"][1]["matrix"][1]]


def zero_angles(table):
    for channel in table["channels"]:
        channel["dispersion_angle"] = 0.0


def zero_angles_and_poses(table):
    zero_angles(table)
    for channel in table["channels"]:
        for pose in (channel, *channel.get("lines", ())):
            pose["matrix"] = table["grid"]["cdelt"] / np.array(table["detector"]["pixel_scale"]) * np.eye(2)
            pose["matrix"] = pose["matrix"].tolist()


def oversize(table):
    table["field_stop"]["width"] = "760 arcsec"
    for channel in table["channels"]:
        for pose in (channel, *channel.get("lines", ())):
            pose.pop("field_stop", None)
    table["detector"]["pixel_scale"][1] = 0.7


def move_grid(table):
    table["pose"]["pivot"][0] += 300


def wrong_scale(table):
    table["detector"]["pixel_scale"] = [0.5, 0.5]


def wrong_dispersion(table):
    table["detector"]["dispersion"] = "0.05 Angstrom"


def wide_lines(table):
    table["lines"][0]["columns"] = [700, 2048]


def near_lines(table):
    table["lines"][1]["wavelength"] = "600 Angstrom"
    for channel in table["channels"]:
        del channel["lines"]


def turn_stop(table):
    table["channels"][2]["field_stop"].reverse()


def narrow_filter(table):
    table["registration"]["fine"] = "0.2 arcsec"


def wide_filter(table):
    table["registration"]["coarse"] = "300 arcsec"


def coarse_grid(table):
    table["grid"] |= {"cdelt": [0.8, 0.8]}


def bright(table):
    table["detector"]["typical_signal"] = "1e6 electron"


WRONG = [
    (mirror, "parity", "every pose is mirrored"),
    (mirror_one, "parity", "channel 2 in O V"),
    (zero_angles, "entries", "channels[0].matrix: got"),
    (zero_angles_and_poses, "dispersion angles", "all channels disperse along 0 degrees"),
    (oversize, "field stop on the detector", "expected at most the detector, 2048 x 1040"),
    (move_grid, "field stop in the grid", "beyond the grid"),
    (wrong_scale, "scale", "correct matrix, pixel_scale or cdelt"),
    (wrong_dispersion, "dispersion", "the lines of channel 1 lie"),
    (wide_lines, "lines", "the columns of O V and He I overlap"),
    (near_lines, "lines", "the field stops of O V and He I overlap"),
    (turn_stop, "field stop on the detector", "the vertices of channel 3 in O V run clockwise"),
    (narrow_filter, "sampling", "registration.fine is 0.33 pixels"),
    (wide_filter, "sampling", "registration.coarse is 300 arcsec"),
    (coarse_grid, "sampling", "a pixel of the grid is 0.8 arcsec"),
    (bright, "counts", "typical_signal is 1e+06 electrons"),
]


@pytest.mark.parametrize(("change", "name", "text"), WRONG, ids=[change.__name__ for change, *_ in WRONG])
def test_wrong_files_are_named(change, name, text, tmp_path):
    found = faults(changed(ESIS_1, change), tmp_path)
    assert text in found[name]


def test_dispersion_angles_of_another_channel_are_named(tmp_path):
    def change(table):
        for channel in table["channels"]:
            channel["dispersion_angle"] *= -1

    assert "expected about the dispersion_angle of -22.5" in faults(changed(ESIS_1, change), tmp_path)["entries"]


def test_stop_larger_than_the_grid_is_named(tmp_path):
    text = ESIS_1.toml.replace('width = "690 arcsec"', 'width = "900 arcsec"')
    assert "field_stop.width: got 900" in faults(text, tmp_path)["entries"]


@pytest.mark.parametrize(
    ("good", "bad"), [("dispersion_angle", "dispersoin_angle"), ("bad_columns", "bad_colums"), ("cadence", "cadense")]
)
def test_misspelt_keys_are_named_with_the_right_key(good, bad, tmp_path):
    found = faults(ESIS_1.toml.replace(f"{good} =", f"{bad} =", 1), tmp_path)["entries"]
    assert bad in found
    assert good in found


def test_command_ends_with_1_for_a_fault(tmp_path):
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    right.write_text(ESIS_1.toml, encoding="utf-8")
    wrong.write_text(changed(ESIS_1, mirror), encoding="utf-8")
    result = CliRunner().invoke(main, ["flight", "check", str(right)])
    assert result.exit_code == 0, result.output
    assert result.output == "".join(f"{check}\n" for check in check_flight(right))
    result = CliRunner().invoke(main, ["flight", "check", str(wrong)])
    assert result.exit_code == 1
    assert "fault      parity: every pose is mirrored" in result.output


def test_lines_that_overlap_are_told_once(tmp_path):
    text = ESIS_2.toml.replace('width = "431 arcsec"', 'width = "460 arcsec"', 1)
    assert faults(text, tmp_path)["lines"].count("the field stops of") == 1
