"""``level3 --all-lines``: a file for each line of a flight, from one reading of the frames."""

import shutil

import pytest
from click.testing import CliRunner
from helpers import assert_cubes_equal

from esis_ndcube import ESIS_2, ESISLevel1Cube, ESISLevel3Cube, form_level3
from esis_ndcube.cli import main
from esis_ndcube.level1._scratch import Scratch

LINES = {"Ne VII": "l3_NeVII.fits", "Si XII": "l3_SiXII.fits"}


@pytest.fixture(scope="module")
def made(flights):
    return flights(flight=ESIS_2, n_exposures=1, size=4, missing=False, blank=False)


def run(made, output, *options, references="reference"):
    folder = made.path
    paths = ["level3", folder / "raw", "-r", folder / references, "--flight", folder / "flight.toml", "-o", output]
    return CliRunner().invoke(main, [str(item) for item in [*paths, "--all-lines", *options]])


@pytest.fixture
def calibrated(monkeypatch):
    """The frames that are calibrated, each as often as that happens."""
    frames, write = [], Scratch.write

    def count(self, frame, images):
        frames.append((frame.channel, frame.frame_number))
        write(self, frame, images)

    monkeypatch.setattr(Scratch, "write", count)
    return frames


@pytest.mark.slow
def test_each_line_has_the_file_of_its_own_command(made, calibrated, tmp_path):
    result = run(made, tmp_path / "l3.fits")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(LINES.values())
    assert len(calibrated) == len(set(calibrated)) == len(ESIS_2.channels)
    for line, name in LINES.items():
        assert_cubes_equal(ESISLevel3Cube.read(tmp_path / name), form_level3(made.level1, made.maps, line=line))
        assert f"Written to {tmp_path / name}" in result.output
        assert f"Resampling 1 exposures in {line} ..." in result.output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*could not be aligned")
def test_a_line_that_fails_does_not_lose_the_others(made, tmp_path):
    """Without images of AIA 211 nothing can be aligned in Si XII."""
    own = tmp_path / "references"
    own.mkdir()
    for path, item in zip(made.files.reference, made.maps, strict=True):
        if item.wavelength.to_value("Angstrom") == 171:
            shutil.copy(path, own)
    result = run(made, tmp_path / "l3.fits", references=own)
    assert result.exit_code == 1
    assert "Error: 1 of 2 lines have no file: Si XII: no frame could be aligned" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [LINES["Ne VII"], "references"]
    assert ESISLevel3Cube.read(tmp_path / LINES["Ne VII"]).line == "Ne VII"


@pytest.mark.parametrize("name", ["l3.fits", "l3.2027.fits.gz"])
def test_a_file_that_exists_is_refused_before_any_work(made, tmp_path, monkeypatch, name):
    def begin(*args, **kwargs):
        msg = "work has begun"
        raise ValueError(msg)

    monkeypatch.setattr(ESISLevel1Cube, "from_raw", begin)
    path = tmp_path / name.replace(".fits", "_SiXII.fits")
    path.write_text("mine")
    result = run(made, tmp_path / name)
    assert f"{path.name} exists: give another name, or overwrite=True (--overwrite)" in result.output
    assert "work has begun" in run(made, tmp_path / name, "--overwrite").output
    assert path.read_text() == "mine"


def test_all_lines_or_one(made, tmp_path):
    result = run(made, tmp_path / "l3.fits", "--line", "Si XII")
    assert "Error: got --line 'Si XII' and --all-lines, expected one of the two" in result.output
    assert not list(tmp_path.iterdir())
