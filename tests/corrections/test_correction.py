"""A correction is one file and one line: a made-up one applies, undoes, is written, read and reported."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from helpers import assert_cubes_equal, daily

import astropy.units as u

import esis_ndcube
from esis_ndcube import ESISLevel3Cube, Vignetting, form_level3
from esis_ndcube.corrections import CORRECTIONS
from esis_ndcube.corrections.correction import correct, uncorrect
from esis_ndcube.corrections.masks import HandMask, PolygonMask, write_polygons
from esis_ndcube.corrections.normalize import Normalization
from esis_ndcube.io._layout import TABLES
from esis_ndcube.io.fits import CubeFileError

# Light that is the same all over an image, a number for each channel.
MADE_UP = """
from dataclasses import dataclass, replace

from astropy.table import Table

from esis_ndcube.corrections.correction import Correction


@dataclass(frozen=True)
class StrayLight(Correction):
    levels: dict

    key = "stray_light"
    help = "Take the same light out of every image."

    @classmethod
    def choose(cls, choice, flight, line):
        if choice is True:
            return cls({channel.number: 0.25 for channel in flight.channels})
        return super().choose(choice, flight, line)

    def apply(self, image):
        return replace(image, data=image.data - image.data.dtype.type(self.levels[image.channel]))

    def undo(self, image):
        return replace(image, data=image.data + image.data.dtype.type(self.levels[image.channel]))

    def to_table(self):
        return Table({"channel": list(self.levels), "level": list(self.levels.values())})

    @classmethod
    def from_table(cls, table, flight):
        return cls(dict(zip(table["channel"].tolist(), table["level"].tolist(), strict=True)))
"""
LINE = '        "stray_light:StrayLight",\n'
USE = """
import pathlib, sys

import numpy as np
import sunpy.map

import esis_ndcube
from esis_ndcube import ESISLevel1Cube, ESISLevel3Cube, Flight, coalign, form_level3
from esis_ndcube.cli import main
from esis_ndcube.corrections.correction import correct, uncorrect
from esis_ndcube.corrections.stray_light import StrayLight
from esis_ndcube.report import _sections, write_report

package, flight_folder, folder = map(pathlib.Path, sys.argv[1:])
assert pathlib.Path(esis_ndcube.__file__).parent == package
flight = Flight.read(flight_folder / "flight.toml")
level1 = ESISLevel1Cube.from_raw(flight_folder / "raw", flight, frame_numbers=[123])
maps = [sunpy.map.Map(path) for path in sorted((flight_folder / "reference").iterdir())]
options = {"stage": "linear", "normalize": False, "vignetting": False}
aligned = coalign(level1, maps)
plain = form_level3(level1, aligned, **options)
made = StrayLight({1: 0.5, 2: 1.0, 3: 1.5, 4: 2.0})

# It applies, in the pipeline as by hand.
formed = form_level3(level1, aligned, stray_light=made, **options)
by_hand = correct(plain, made)
for cube in (formed, by_hand, plain.correct(made)):
    taken = plain.data - np.array([0.5, 1, 1.5, 2], "f4")[:, None, None]
    np.testing.assert_array_equal(cube.data, taken)
    assert [step.name for step in cube.history][-1] == "correct_stray_light"
    assert cube.meta["stray_light"] == made
assert plain.meta["stray_light"] is None

# It is taken back.
for back in (uncorrect(formed, StrayLight), formed.uncorrect("stray_light")):
    np.testing.assert_allclose(back.data, plain.data, atol=1e-4)
    assert back.meta["stray_light"] is None

# It is written and read.
for name in ("a.fits", "a.asdf"):
    formed.write(folder / name)
    assert ESISLevel3Cube.read(folder / name).meta["stray_light"] == made

# It is reported, and the command finds it; what the figures show of it is nothing new.
_sections.figure_picture = lambda *args, **options: ("", 1, 1)
write_report(formed, folder / "page.html")
text = (folder / "page.html").read_text()
assert "Stray light" in text and "1.5000" in text
frames = [path for path in sorted((flight_folder / "raw").iterdir()) if "_00124" not in path.name]
arguments = ["level3", *frames, "--flight", flight_folder / "flight.toml", "-o", folder / "b.fits"]
main([*map(str, arguments), "--stray-light", "--no-normalize", "--no-vignetting"], standalone_mode=False)
assert set(ESISLevel3Cube.read(folder / "b.fits").meta["stray_light"].levels.values()) == {0.25}
print("all done")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cube")
def test_a_correction_is_one_file_and_one_line(tmp_path, small_flight):
    pytest.importorskip("asdf")
    package = tmp_path / "site" / "esis_ndcube"
    # With what is compiled already, for the cube at the latest, which would take half a minute again.
    shutil.copytree(Path(esis_ndcube.__file__).parent, package)
    (package / "corrections" / "stray_light.py").write_text(MADE_UP)
    listing = package / "corrections" / "__init__.py"
    before, last, after = listing.read_text().partition('        "normalize:Normalization",\n')
    listing.write_text(before + last + LINE + after)
    script = tmp_path / "use.py"
    script.write_text(USE)
    command = [sys.executable, script, package, small_flight.path, tmp_path]
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.stdout.splitlines()[-1:] == ["all done"], done.stderr


@pytest.fixture(scope="module")
def cube(small_flight):
    return form_level3(small_flight.level1, small_flight.aligned, stage="linear", vignetting=False, normalize=False)


def test_what_is_no_correction(cube, small_flight):
    with pytest.raises(TypeError, match="got dict, expected a Correction"):
        cube.correct({1: 0.3})
    with pytest.raises(ValueError, match="got 'stray_light', expected one of 'vignetting', 'normalization'"):
        cube.uncorrect("stray_light")
    with pytest.raises(TypeError, match="has no option 'stray_light'"):
        form_level3(small_flight.level1, stray_light=True)
    with pytest.raises(TypeError, match="got normalize of type str, expected True, False or a Normalization"):
        Normalization.choose("yes", cube.flight, cube.line)


def test_normalization_is_taken_back(cube):
    normalized = cube.normalize_intensities()
    back = normalized.uncorrect("normalization")
    np.testing.assert_allclose(back.data, cube.data, rtol=1e-6)
    np.testing.assert_allclose(back.uncertainty.array, cube.uncertainty.array, rtol=1e-6)
    assert back.normalization is None
    assert back[0].normalization is None
    assert back.history[-1].name == "uncorrect_normalization"
    assert_cubes_equal(back.normalize_intensities()[0], back.normalize_intensities()[0])
    np.testing.assert_allclose(back.normalize_intensities().normalization, normalized.normalization, rtol=1e-6)


def test_given_factors_are_taken(cube, small_flight):
    factors = np.arange(1.0, 9.0).reshape(2, 4)
    options = {"stage": "linear", "vignetting": False, "normalize": Normalization(factors)}
    formed = form_level3(small_flight.level1, small_flight.aligned, **options)
    np.testing.assert_array_equal(formed.data, cube.correct(Normalization(factors)).data)
    np.testing.assert_array_equal(formed.normalization, factors)
    with pytest.raises(ValueError, match=r"factors of shape \(4,\), expected \(2, 4\)"):
        cube.correct(Normalization(factors[0]))


def test_masks_by_hand_while_a_cube_is_formed(cube, small_flight, tmp_path):
    """As on the formed cube, and before the images are normalized."""
    masks = [
        PolygonMask(np.add(middle(cube, 0), [(-9, -9), (9, -9), (9, 9)]), channels=[1]),
        PolygonMask([(-100, -100), (0, -100), (0, 0)] * u.arcsec, frame_numbers=[124]),
    ]
    write_polygons(masks, tmp_path / "masks.toml")
    options = {"stage": "linear", "vignetting": False}
    formed = form_level3(small_flight.level1, small_flight.aligned, masks=masks, normalize=False, **options)
    by_hand = cube.mask_polygons(masks)
    assert by_hand.mask.sum() > cube.mask.sum() + 100
    assert_cubes_equal(formed, by_hand)
    normalized = form_level3(small_flight.level1, small_flight.aligned, masks=tmp_path / "masks.toml", **options)
    assert_cubes_equal(normalized, by_hand.normalize_intensities())
    with pytest.raises(ValueError, match=r"masks\.toml as input and as output"):
        form_level3(
            small_flight.level1, small_flight.maps, masks=tmp_path / "masks.toml", output=tmp_path / "masks.toml",
            overwrite=True,
        )  # fmt: skip
    with pytest.raises(TypeError, match="got masks of type bool, expected False or a HandMask"):
        HandMask.choose(True, cube.flight, cube.line)
    with pytest.raises(ValueError, match="expected one of 'vignetting', 'normalization'"):
        formed.uncorrect("masks")


def middle(cube, channel):
    """Detector pixel of the middle of an image."""
    y, x = (n // 2 for n in cube.shape[2:])
    return np.array(cube.alignment[0, channel].transform(x, y))


@pytest.mark.parametrize("kind", daily(*(kind for kind in CORRECTIONS if kind.key)))
def test_lazy_and_in_memory_are_the_same(cube, tmp_path, kind):
    """Each image is made when it is asked for, with its uncertainty."""
    cube.write(tmp_path / "a.fits")
    correction = Vignetting.of_flight(cube.flight, cube.line) if kind is Vignetting else kind.fit(cube)
    lazy = ESISLevel3Cube.read(tmp_path / "a.fits", lazy=True).correct(correction)
    assert isinstance(lazy.data, da.Array)
    assert lazy.data.chunks == ESISLevel3Cube.read(tmp_path / "a.fits", lazy=True).data.chunks
    now = correct(cube, correction)
    for part in (np.s_[:], np.s_[1, 2], np.s_[0], np.s_[:, 1]):
        assert_cubes_equal(lazy[part], now[part])
    np.testing.assert_array_equal(uncorrect(lazy, kind).data, uncorrect(now, kind).data)


@pytest.mark.parametrize("name", daily("a.fits", "a.asdf"))
def test_files_refuse_a_correction_without_its_flight(cube, tmp_path, name):
    """The table of a vignetting has no flight: that of the cube is its own."""
    if name.endswith(".asdf"):
        pytest.importorskip("asdf")
    lonely = cube.correct(Vignetting.of_flight(cube.flight, cube.line))
    lonely.meta["flight"] = None
    with pytest.raises(TypeError, match="'vignetting' without the flight that it belongs to"):
        lonely.write(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_correction_that_this_version_does_not_know(cube, tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    cube.correct(Vignetting.of_flight(cube.flight, cube.line)).write(path)
    monkeypatch.delitem(TABLES, "vignetting")
    with pytest.raises(CubeFileError, match="'vignetting' are of the kind 'vignetting', which this version"):
        ESISLevel3Cube.read(path)
