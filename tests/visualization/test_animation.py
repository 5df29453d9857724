"""Movies: every exposure on one scale, and a file that is whole or not there."""

from pathlib import Path

import numpy as np
import pytest
from helpers import make_context, make_cube, make_lazy
from matplotlib import colormaps
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.colors import Normalize
from PIL import Image

from esis_ndcube import Flight
from esis_ndcube.flags import Flag
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.visualization import animate


@pytest.fixture(scope="module")
def cube():
    return make_cube((3, 2, 20, 24))


@pytest.fixture
def frames(monkeypatch):
    """The content of each frame of a movie: title, panels, their images and scales."""
    found, grab = [], PillowWriter.grab_frame

    def record(writer, **options):
        panels = [axis for axis in writer.fig.axes if axis.get_images()]
        images = [axis.get_images()[0] for axis in panels]
        frame = {
            "title": writer.fig.get_suptitle(),
            "panels": [axis.get_title() for axis in panels],
            "images": [np.ma.filled(image.get_array().astype(float), np.nan) for image in images],
            "scales": [(image.norm.vmin, image.norm.vmax, image.get_cmap().name) for image in images],
            "places": [tuple(axis.get_position().bounds) for axis in writer.fig.axes],
            "bars": [axis.get_ylabel() for axis in writer.fig.axes if not axis.get_images()],
        }
        found.append(frame)
        grab(writer, **options)

    monkeypatch.setattr(PillowWriter, "grab_frame", record)
    return found


def valid(image):
    return np.where(image.mask, np.nan, image.data).astype(float)


def time(cube, index):
    return cube.time[index].isot[:19].replace("T", " ")


@pytest.mark.slow
def test_every_exposure_on_one_scale(cube, frames, tmp_path):
    path = cube.animate(tmp_path / "flight.gif", dpi=30, fps=4)
    assert path == tmp_path / "flight.gif"
    with Image.open(path) as movie:
        assert movie.n_frames == 3
        assert movie.info["duration"] == 250
        assert movie.info["loop"] == 0
    assert [name.name for name in tmp_path.iterdir()] == ["flight.gif"]
    for index, frame in enumerate(frames):
        assert frame["title"] == f"ESIS O V, {time(cube, index)} UTC, frame {109 + index}"
        assert frame["panels"] == ["Channel 1", "Channel 2"]
        for channel, image in enumerate(frame["images"]):
            np.testing.assert_array_equal(image, valid(cube[index, channel]))
        # Nothing moves, and no color changes its meaning.
        assert frame["scales"] == frames[0]["scales"]
        assert frame["places"] == frames[0]["places"]
    spike = cube.flags & Flag.SPIKE != 0
    values = cube.data[np.isfinite(cube.data) & ~cube.mask & ~spike]
    np.testing.assert_allclose(frames[0]["scales"][0][:2], np.percentile(values, (0.5, 99.7)))
    assert {scale[2] for scale in frames[0]["scales"]} == {"inferno"}
    assert frames[0]["bars"] == ["O V [ph / pix]"]


@pytest.mark.slow
def test_colors_of_the_file(cube, tmp_path):
    """The pixels of the file have the color of the values, on the scale that is given."""
    data = np.broadcast_to(np.array([2.0, 5.0, 9.0])[:, None, None], (3, 20, 24))
    flat = ESISLevel3Cube(data, wcs=cube[:, 0].wcs, meta=cube[:, 0].meta)
    path = animate(flat, tmp_path / "flat.gif", norm=Normalize(0, 10), cmap="viridis", dpi=40)
    with Image.open(path) as movie:
        for index, value in enumerate((2, 5, 9)):
            movie.seek(index)
            colors = np.asarray(movie.convert("RGB")).reshape(-1, 3).astype(int)
            expected = np.array(colormaps["viridis"](value / 10, bytes=True))[:3].astype(int)
            assert (np.abs(colors - expected).max(axis=1) < 8).mean() > 0.3


@pytest.mark.slow
def test_context_beside(cube, frames, tmp_path):
    context = make_context(cube)
    cube.animate(tmp_path / "both.gif", context=context, dpi=30)
    for index, frame in enumerate(frames):
        *_, image = frame["images"]
        np.testing.assert_allclose(image, valid(cube[index, 0]), rtol=1e-6)
        assert frame["panels"] == ["Channel 1", "Channel 2", f"AIA 304.0 Angstrom, {time(cube, index)[11:]}"]
        assert frame["scales"] == frames[0]["scales"]
    assert frames[0]["bars"] == ["O V [ph / pix]", "AIA 304.0 Angstrom [DN]"]
    # Alone, it is a cube as well.
    context.animate(tmp_path / "context.gif", dpi=30)
    assert len(frames) == 6


@pytest.mark.slow
def test_differences(cube, frames, tmp_path):
    cube.difference(2, 1).animate(tmp_path / "difference.gif", dpi=30)
    low, high, name = frames[0]["scales"][0]
    assert low == -high
    assert name == "RdBu_r"
    assert frames[0]["panels"] == ["Channel 2 minus channel 1"]


@pytest.mark.slow
def test_six_channels_and_level_1(frames, tmp_path):
    flight = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")
    true_cube(simulate_flight(flight, size=4, n_exposures=1)).animate(tmp_path / "six.gif", dpi=30)
    assert frames[0]["panels"] == [f"Channel {n}" for n in range(1, 7)]
    make_cube((1, 2, 10, 12), level=1).animate(tmp_path / "level1.gif", dpi=30)
    assert frames[1]["bars"] == ["ESIS [electron]"]


@pytest.mark.slow
def test_blank_exposures(cube, frames, tmp_path):
    data = cube.data.copy()
    data[0], data[2, 1] = np.nan, np.nan
    blank = ESISLevel3Cube(data, wcs=cube.wcs, mask=cube.mask, meta=cube.meta)
    blank.animate(tmp_path / "blank.gif", dpi=30)
    names = [
        ["Channel 1, no data", "Channel 2, no data"],
        ["Channel 1", "Channel 2"],
        ["Channel 1", "Channel 2, no data"],
    ]
    assert [frame["panels"] for frame in frames] == names


@pytest.mark.slow
def test_lazy_cubes_are_read_an_exposure_at_a_time(cube, frames, tmp_path):
    lazy, data, _ = make_lazy(cube)
    lazy.animate(tmp_path / "lazy.gif", dpi=30)
    images = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    # Once for the scale, and once for the frames.
    assert sorted(data[:6]) == sorted(data[6:]) == images
    assert [index for index, _ in data[6:]] == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(frames[2]["images"][1], valid(cube[2, 1]))


@pytest.mark.parametrize("name", ["flight.gif", "flight.mp4"])
@pytest.mark.parametrize("method", ["finish", "grab_frame"])
@pytest.mark.slow
def test_nothing_is_left_of_a_movie_that_failed(cube, monkeypatch, tmp_path, name, method):
    if name.endswith("mp4") and not FFMpegWriter.isAvailable():
        pytest.skip("ffmpeg is not installed")
    cls = {"flight.gif": PillowWriter, "flight.mp4": FFMpegWriter}[name]
    works = getattr(cls, method)

    def fail(writer):
        works(writer)
        raise OSError("the disk is full")  # noqa: EM101

    monkeypatch.setattr(cls, method, fail)
    with pytest.raises(OSError, match="the disk is full"):
        cube[:2, :1].animate(tmp_path / name, dpi=30)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_files_are_not_replaced_unasked(cube, tmp_path):
    path = tmp_path / "flight.gif"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        cube.animate(path)
    assert path.read_text() == "mine"
    cube[:2, :1].animate(path, overwrite=True, dpi=30)
    with Image.open(path) as movie:
        assert movie.n_frames == 2


@pytest.mark.slow
def test_progress_bar(cube, tmp_path, capsys):
    cube[:1, :1].animate(tmp_path / "one.gif", dpi=30)
    assert capsys.readouterr().err == ""
    cube[:1, :1].animate(tmp_path / "two.gif", dpi=30, progress=True)
    assert "Movie: 100%" in capsys.readouterr().err


def test_mp4_without_ffmpeg(cube, tmp_path, monkeypatch):
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(FileNotFoundError, match=r"ffmpeg, which is not found; write a \.gif, or install"):
        cube.animate(tmp_path / "flight.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="ffmpeg is not installed")
def test_mp4(cube, tmp_path):
    path = cube.animate(tmp_path / "flight.mp4", dpi=31)
    content = path.read_bytes()
    assert content[4:8] == b"ftyp"
    assert b"moov" in content
    assert [name.name for name in tmp_path.iterdir()] == ["flight.mp4"]


def test_wrong_input(cube, tmp_path):
    with pytest.raises(ValueError, match=r"got the file flight.avi, expected a name that ends with .gif or .mp4"):
        cube.animate(tmp_path / "flight.avi")
    for part in (cube[0], cube[0, 0], cube[:, :, 3]):
        with pytest.raises(ValueError, match=r"expected \(time, channel, y, x\) or \(time, y, x\)"):
            part.animate(tmp_path / "flight.gif")
    for context in (make_context(cube)[:2], make_context(make_cube((3, 1, 20, 24), seed=1))):
        with pytest.raises(ValueError, match=r"expected \(3, 20, 24\) and the same times"):
            cube.animate(tmp_path / "flight.gif", context=context)
    with pytest.raises(TypeError, match=r"got a context of type ndarray, expected a ContextCube: use cube.context"):
        cube.animate(tmp_path / "flight.gif", context=cube.data)
    with pytest.raises(FileNotFoundError, match="make it first"):
        cube.animate(tmp_path / "no" / "flight.gif")
