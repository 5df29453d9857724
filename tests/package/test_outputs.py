"""No output destroys an input, by whatever name it goes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rawframes import tiny_flight, write_flight

import sunpy.map
from astropy.time import Time

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube, form_level3
from esis_ndcube.cli import main
from esis_ndcube.io.fits import check_output
from esis_ndcube.report import write_report
from esis_ndcube.visualization import animate
from esis_ndcube.wcs import level3_wcs

REFUSED = "as input and as output; give another name"


@pytest.fixture(scope="module")
def simulated(small_flight):
    return small_flight.simulated


@pytest.fixture(scope="module")
def original(small_flight, tmp_path_factory):
    folder = shutil.copytree(small_flight.path, tmp_path_factory.mktemp("original"), dirs_exist_ok=True)
    small_flight.level3.write(folder / "l3.fits")
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """Copies of all inputs."""
    for path in original.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(original)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def other_name(path, kind, monkeypatch):
    """The file by another name."""
    link = path.parent / f"other_{path.name}"
    if kind == "same":
        return path
    if kind == "relative":
        monkeypatch.chdir(path.parent)
        return Path(path.name)
    if kind == "detour":
        return path.parent / ".." / path.parent.name / path.name
    if kind == "symlink":
        link.symlink_to(path)
    else:
        os.link(path, link)
    return link


# All commands ask check_output, so that each meets one other name.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "target", "kind"),
    [
        ("report l3.fits -o {}", "l3.fits", "same"),
        ("report l3.fits --reference {image} -o {}", "{image}", "symlink"),
        ("level3 raw --flight flight.toml -o {}", "flight.toml", "relative"),
        ("level3 raw --flight flight.toml -o {}", "raw/ESIS2_00124.fit.gz", "detour"),
        ("level3 raw/*_0012?.fit.gz --darks raw --flight flight.toml -o {}", "raw/ESIS2_00098.fit.gz", "hard link"),
        ("level3 raw --reference reference --flight flight.toml -o {}", "{image}", "symlink"),
    ],
)
def test_commands(folder, monkeypatch, command, target, kind):
    image = sorted((folder / "reference").iterdir())[0].relative_to(folder)
    path = other_name(folder / target.format(image=image), kind, monkeypatch)
    before = contents(folder)
    words = [word.format(path, image=folder / image) for word in command.split()]
    words = [str(folder / word) if (folder / word.partition("*")[0]).exists() else word for word in words[1:]]
    words = [word for word in words if word != str(folder)]
    result = CliRunner().invoke(main, [command.split()[0], *words, "--overwrite"])
    assert result.exit_code == 1, result.output
    assert REFUSED in result.output
    assert contents(folder) == before


def test_demonstration(folder):
    before = contents(folder)
    arguments = ["demo", str(folder), "--flight", str(folder / "flight.toml"), "--overwrite"]
    result = CliRunner().invoke(main, arguments)
    assert REFUSED in result.output
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("kind", "lazy"),
    [
        *((kind, True) for kind in ("same", "relative", "detour", "symlink", "hard link")),
        # A cube in memory knows the names of its frames only.
        *((kind, False) for kind in ("same", "relative", "detour")),
    ],
)
@pytest.mark.slow
def test_raw_frames_of_a_cube(tmp_path, monkeypatch, kind, lazy):
    flight = tiny_flight()
    write_flight(tmp_path / "raw", flight)
    level1 = ESISLevel1Cube.from_raw(tmp_path / "raw", flight, lazy=lazy)
    path = other_name(tmp_path / "raw" / "c2_00021.fits.fz", kind, monkeypatch)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=REFUSED):
        form_level3(level1[1:2, 1:3], output=path, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_lazy_files_of_a_cube(folder, simulated):
    level1 = ESISLevel1Cube.from_raw(folder / "raw", simulated.flight)
    level1.write(folder / "l1.fits")
    level1 = ESISLevel1Cube.read(folder / "l1.fits", lazy=True)
    lazy = ESISLevel3Cube.read(folder / "l3.fits", lazy=True)
    (folder / "movie.gif").symlink_to(folder / "l3.fits")
    before = contents(folder)
    image = lazy[0, 0]
    name = f"ESIS_Level3_0_{Time(image.time, precision=3).isot}_1.fits"
    (folder / "images").mkdir()
    calls = [
        lambda: form_level3(level1, output=folder / "l1.fits", overwrite=True),
        lambda: form_level3(level1, lazy, output=folder / "l3.fits", overwrite=True),
        lambda: write_report(lazy[:1] * 2, folder / "l3.fits", overwrite=True),
        lambda: animate(lazy, folder / "movie.gif", overwrite=True),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=REFUSED):
            call()
        assert contents(folder) == before
    sequence = image.frame_number - image.flight.light_frames[0][0]
    (folder / "images" / name.replace("_0_", f"_{sequence}_", 1)).symlink_to(folder / "l3.fits")
    with pytest.raises(ValueError, match=REFUSED):
        image.write_images(folder / "images", overwrite=True)
    assert contents(folder) == before


@pytest.mark.slow
def test_a_lazy_cube_may_be_written_over_its_own_file(folder):
    """The new file is whole before the old one goes."""
    expected = ESISLevel3Cube.read(folder / "l3.fits")
    lazy = ESISLevel3Cube.read(folder / "l3.fits", lazy=True)
    (lazy * 2).write(folder / "l3.fits", overwrite=True)
    np.testing.assert_array_equal(ESISLevel3Cube.read(folder / "l3.fits").data, 2 * expected.data)
    with pytest.raises(OSError, match=r"has been changed since it was read lazily: read it again"):
        lazy.data.compute()


def test_archive_among_its_own_files(tmp_path):
    wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:36.642"]), [1])[:, :, 600:605, 600:607]
    cube = ESISLevel3Cube(np.zeros((1, 1, 5, 7)), wcs=wcs, meta={"flight": ESIS_1})
    (path,) = cube.write_images(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="one of the files to put in it"):
        cube.write_images(tmp_path, tar=path, overwrite=True)
    assert contents(tmp_path) == before


def test_a_new_file_and_other_things_are_no_inputs(tmp_path):
    path = tmp_path / "new.fits"
    check_output(path, inputs=[path, tmp_path / "none.fits", None, 3])
    path.touch()
    check_output(path, overwrite=True, inputs=[None, tmp_path / "none.fits", sunpy.map.Map])
    with pytest.raises(ValueError, match=REFUSED):
        check_output(path, overwrite=True, inputs=[str(path)])
