"""The demonstration: a simulated flight from end to end, of the first flight and of an invented one."""

import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import assert_cubes_equal, make_cube

import astropy.units as u

from esis_ndcube import Alignment, ESISLevel3Cube, Flight
from esis_ndcube.cli import main
from esis_ndcube.field_stop.region import line_region
from esis_ndcube.quality import summary
from esis_ndcube.simulate import demo, simulate_flight
from esis_ndcube.simulate.demo import coordinate_error, run_demo

SECOND_FILE = Path(__file__).parents[1] / "data" / "second_flight.toml"
FAULTS = "is missing in channels", "could not be aligned"


def invoke(*arguments, expect=FAULTS):
    """Run a command; warnings that are not expected are errors."""
    with warnings.catch_warnings():
        for message in expect:
            warnings.filterwarnings("always", message=f".*{message}")
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit | None), repr(result.exception)
    return result


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Folder and output of a demonstration of a small flight."""
    path = tmp_path_factory.mktemp("first")
    return path, invoke("demo", path, "--size", 5, "--exposures", 2)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Folder and output of a demonstration of the invented flight."""
    path = tmp_path_factory.mktemp("second")
    return path, invoke("demo", path, "--exposures", 2, "--flight", SECOND_FILE)


@pytest.mark.slow
def test_demo_writes_and_says_what(first):
    path, result = first
    assert result.exit_code == 0, result.output
    names = {"l3.fits", "flight.toml", "channels.png", "reference.png", "difference.png", "coordinate_error.png"}
    assert {item.name for item in path.iterdir()} == names | {"raw", "reference"}
    for picture in path.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert str(picture) in result.output
    assert str(path / "l3.fits") in result.output
    table = result.output.split("Quality")[1]
    assert all(name in table for name in ("correlation", "residual", "aligned", "error"))
    assert re.search(r"^ +123 2019-09-30T18:08:25.000 .* 3 +0 +0\.\d{4}", table, re.M)
    # One frame was never written and another one has no light; nothing else is wrong, and each is told once.
    assert result.stderr.count("Warning: ") == 2
    assert "frame 123 is missing in channels [3]" in result.stderr
    assert "2 of 8 frames could not be aligned" in result.stderr


@pytest.mark.parametrize("larger", [1, 20])
def test_the_map_of_errors_follows_the_errors(larger, monkeypatch):
    x, y = (part.ravel() for part in np.meshgrid(*[np.arange(0, 200, 8.0)] * 2))
    error = larger * np.linspace(0.01, 0.1, x.size)
    monkeypatch.setattr(demo, "coordinate_error", lambda *_: (x, y, error, 0 * error))
    cube = make_cube((2, 3, 12, 14), alignments=True)
    figure = demo._plot_error(cube, None, 1)
    shown = [axis.collections for axis in figure.axes if axis.get_title().startswith("Channel")]
    assert len(shown) == 3
    for points, arrows in shown:
        np.testing.assert_allclose(points.norm.vmax, np.percentile(np.tile(error, 3), 99))
        # The longest arrow of a typical field reaches the next one.
        np.testing.assert_allclose(arrows.U.max() / arrows.scale, 64, rtol=0.05)


@pytest.mark.slow
def test_the_command_that_demo_names_forms_the_same_cube(first):
    path, result = first
    words = shlex.split(result.stdout.strip().splitlines()[-1])
    assert words[0] == "esis-ndcube"
    again = invoke(*words[1:])
    assert again.exit_code == 0, again.output
    made = Path(words[words.index("--output") + 1])
    assert_cubes_equal(ESISLevel3Cube.read(made), ESISLevel3Cube.read(path / "l3.fits"))
    made.unlink()


@pytest.mark.parametrize("name", ["l3.fits", "channels.png", "flight.toml"])
def test_demo_overwrites_nothing(name, tmp_path):
    (tmp_path / name).write_text("mine")
    result = invoke("demo", tmp_path, "--size", 8)
    assert result.exit_code == 1
    assert f"{name} exists" in result.output
    assert "--overwrite" in result.output
    assert [item.read_text() for item in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exposures", 99], "got 99, expected 1 to 30"),
        (["--exposures", 1], "1 is not in the range x>=2"),
        (["--size", 0.2], "0.2 is not in the range x>=1"),
        (["--size", 90], "got 90.0, expected 0.1 to 32"),
        (["--seed", -1], "-1 is not in the range x>=0"),
        (["--workers", 0], "0 is not in the range x>=1"),
    ],
)
def test_impossible_demonstrations_leave_nothing(arguments, message, tmp_path):
    result = invoke("demo", tmp_path / "new", *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not (tmp_path / "new").exists()


def test_demo_where_a_file_is(tmp_path):
    (tmp_path / "file").touch()
    assert "is a file" in invoke("demo", tmp_path / "file").output


@pytest.mark.slow
def test_demo_of_a_field_that_is_too_small(tmp_path):
    """Where hardly anything can be aligned there still is a result, and no picture of a channel that is lost."""
    with warnings.catch_warnings():
        for message in FAULTS:
            warnings.filterwarnings("ignore", message=f".*{message}")
        demo = run_demo(tmp_path, n_exposures=2, size=10, seed=1, workers=1)
    assert sum(not a.converged for a in demo.cube.alignment.flat) > 2
    assert demo.path == tmp_path / "l3.fits"
    assert demo.flight_file.read_text() == demo.simulated.flight.toml
    assert all(picture.parent == tmp_path and picture.exists() for picture in demo.pictures)
    assert (demo.quality["aligned"] + demo.quality["weak"]).tolist() == [
        sum(a.converged for a in row) for row in demo.cube.alignment
    ]


# ----------------------------------------------------------------------------------------- error of coordinates


def test_a_perfect_alignment_has_no_error():
    simulated = simulate_flight(
        size=5, n_exposures=2, drift=0, roll=0, channel_drift=0, pose_error=0, distortion=0, missing=False
    )
    for channel in (1, 3):
        pose = pose_of(simulated, channel)
        x, y, dx, dy = coordinate_error(pose, simulated)
        assert x.size > 300
        assert np.abs([dx, dy]).max() < 1e-6
        assert np.all((x % 8 == 0) & (y % 8 == 0))


def test_the_error_of_a_shifted_pose_is_the_shift():
    simulated = simulate_flight(size=5, n_exposures=2, roll=0, distortion=0, pose_error=0.7 * u.arcsec)
    truth = simulated.truth
    frame_number = simulated.frame_numbers[1]
    for channel in (1, 2):
        # A Sun that is shifted by s is found at x when its pose is not corrected, and truly is at x - s.
        shift = truth.shift[1, channel - 1] / simulated.flight.grid_cdelt
        _, _, dx, dy = coordinate_error(pose_of(simulated, channel, frame_number), simulated)
        np.testing.assert_allclose([dx, dy], np.broadcast_to(shift[:, None], (2, dx.size)), atol=1e-6)


def pose_of(simulated, channel, frame_number=None):
    frame_number = simulated.frame_numbers[0] if frame_number is None else frame_number
    return Alignment.from_pose(
        simulated.flight,
        channel,
        frame_number=frame_number,
        line="O V",
        time=simulated.mid_time(frame_number),
        grid=simulated.flight.grid,
    )


# --------------------------------------------------------------------------------------------- the second flight


def errors(alignments, simulated):
    """RMS error in pixels, NaN where not aligned, and error on the whole grid, shape (time, channel, 2, y, x)."""
    rows, columns = simulated.flight.grid_shape
    y, x = np.mgrid[:rows:8, :columns:8].astype(float)
    maps = np.full((*alignments.shape, 2, *x.shape), np.nan)
    for index, alignment in np.ndenumerate(alignments):
        if alignment is not None and alignment.converged:
            true = simulated.truth.to_detector(alignment.frame_number, alignment.channel, x, y, line=alignment.line)
            inside = line_region(simulated.flight, alignment.channel, alignment.line, *true)
            found = np.stack(alignment.transform.inverse(*true))
            maps[index] = np.where(inside, found - [x, y], np.nan)
    return rms(maps), maps


def rms(maps):
    squares = np.square(maps).sum(-3)
    return np.sqrt(np.ma.masked_invalid(squares).mean((-2, -1)).filled(np.nan))


@pytest.fixture(scope="module")
def second_truth():
    return simulate_flight(Flight.read(SECOND_FILE), size="full", n_exposures=2)


@pytest.mark.slow
def test_second_flight_through_the_command_line(second, second_truth):
    path, result = second
    assert result.exit_code == 0, result.output
    assert "2 time x 6 channel x 500 y x 470 x" in result.output
    assert len(list((path / "raw").iterdir())) == (2 + 3 + 3) * 6 - 1
    cube = ESISLevel3Cube.read(path / "l3.fits")
    assert cube.flight == Flight.read(SECOND_FILE)
    assert (cube.line, cube.channel.tolist(), cube.frame_number.tolist()) == ("Ne VII", [1, 2, 3, 4, 5, 6], [23, 24])
    seconds = (cube.time - second_truth.mid_time(23)).to_value(u.s)
    np.testing.assert_allclose(seconds, [0, 6], atol=1e-3)
    information = invoke("info", path / "l3.fits", "--quality").output
    assert "flight: SECOND" in information
    row = r"^ +23  2027-08-14T\S+  1 \(0\.\d+\), .* 5 \(not aligned: no valid pixels\), 6 \(0\.\d+\)$"
    assert re.search(row, information, re.M)
    assert "171" in cube.reference


@pytest.mark.slow
def test_second_flight_survives_its_file(second, tmp_path):
    cube = ESISLevel3Cube.read(second[0] / "l3.fits")
    cube.write(tmp_path / "again.fits")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "again.fits"), cube)
    part = cube[1, 2:5, 100:300, 50:-50]
    part.write(tmp_path / "part.fits")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "part.fits"), part)


@pytest.mark.slow
def test_second_flight_is_aligned(second, second_truth):
    """
    Coordinates are right, and better after the second fit than after the first one.

    The field is small, 7 % of the first flight's in area, and so is what can be learned from it.
    Measured over two seeds: 0.31 to 0.59 px in the end with a median of 0.40 px, and 0.09 to 0.35 px between
    channels.
    """
    cube = ESISLevel3Cube.read(second[0] / "l3.fits")
    faults = {second_truth.missing, second_truth.blank}
    converged = {(a.frame_number, a.channel) for a in cube.alignment.flat if a is not None and a.converged}
    assert converged == {(f, c) for f in (23, 24) for c in range(1, 7)} - faults
    (final, maps), (linear, _) = (errors(a, second_truth) for a in (cube.alignment, cube.alignment_linear))
    assert np.isnan(final).sum() == 2
    assert np.nanmax(final) < 0.65
    assert np.nanmedian(final) < 0.5
    assert np.nanmedian(final) < 0.6 * np.nanmedian(linear)
    between = rms(maps - maps[:, [second_truth.flight.reference_channel - 1]])
    assert np.nanmax(between) < 0.4
    # As the table says, which averages over the channels.
    table = summary(cube)
    assert table["aligned"].tolist() == [5, 5]
    assert table["weak"].tolist() == [0, 0]
    said = [float(line.split()[-1]) for line in re.findall(r"^ +2[34] .*", second[1].stdout, re.M)]
    np.testing.assert_allclose(said, np.nanmean(final, axis=1), atol=6e-5)


@pytest.mark.slow
def test_faulty_frames_of_the_second_flight_harm_no_other(second, second_truth):
    cube = ESISLevel3Cube.read(second[0] / "l3.fits")
    for number, (frame_number, channel) in enumerate((second_truth.missing, second_truth.blank)):
        index = frame_number - 23, channel - 1
        assert np.isnan(cube.data[index]).all()
        assert cube.mask[index].all()
        assert (cube.meta["file"][index] == "") == (number == 0)
    # The rest of an exposure is one Sun of one brightness.
    good = np.isfinite(cube.data).any((2, 3))
    assert good.sum(axis=1).tolist() == [5, 5]
    for index in (0, 1):
        means = [cube.data[index, j][~cube.mask[index, j]].mean() for j in np.flatnonzero(good[index])]
        assert np.ptp(means) < 0.05 * np.mean(means)
