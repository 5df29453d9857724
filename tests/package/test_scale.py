"""Flights of any length: the same bits lazily, streamed to a file, on threads and on a cluster."""

import os
import pickle
import shutil
from collections import Counter
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
from flights import FAULTY
from helpers import assert_bits_equal, assert_cubes_equal, make_cube

from astropy.io import fits
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESISLevel1Cube, ESISLevel3Cube, form_level3
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.level1._scratch import Scratch
from esis_ndcube.level1.frames import FrameError

FAULTS = ["frame 123 is missing in channels [1]", "2 of 8 frames could not be aligned"]


def expected(function, *args, **kwargs):
    """Call a function that warns of the missing and the blank frame, and of nothing else."""
    with pytest.warns(SunpyUserWarning) as caught:
        result = function(*args, **kwargs)
    for warning in caught:
        assert any(text in str(warning.message) for text in FAULTS)
    return result


@pytest.fixture(scope="session")
def flight(flights):
    """A small flight with a missing and a blank frame, and its cube formed in memory."""
    flight = flights(**FAULTY)
    expected(lambda: flight.level3)
    return flight


@pytest.fixture(scope="session")
def lazy(flight):
    return expected(flight.read, lazy=True)


@pytest.fixture(scope="session")
def written(flight, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "l3.fits"
    flight.level3.write(path)
    return path


def assert_files_equal(one, two):
    """The same bytes but for when they were written, under which name, and the sums over that."""
    ignored = ["DATE", "FILENAME", "CHECKSUM"]
    difference = fits.FITSDiff(one, two, ignore_keywords=ignored, ignore_comments=["CHECKSUM", "DATASUM"])
    assert difference.identical, difference.report()
    with fits.open(two, checksum=True) as hdulist, fits.open(one) as other:
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdulist)
        for a, b in zip(hdulist, other, strict=True):
            # FITSDiff does not tell one NaN from another.
            assert a.header.get("DATASUM") == b.header.get("DATASUM")
            assert a.fileinfo()["datLoc"] == b.fileinfo()["datLoc"]
    assert one.stat().st_size == two.stat().st_size


# --------------------------------------------------------------------------------------------------- lazy Level 1


@pytest.mark.slow
def test_lazy_level1_has_the_same_bits(flight, lazy):
    for array in (lazy.data, lazy.uncertainty.array, lazy.mask, lazy.flags):
        assert isinstance(array, da.Array)
        assert array.chunksize == (1, 1, *flight.simulated.flight.detector.shape)
    assert_cubes_equal(lazy, flight.level1)
    image = lazy[1, 1]
    assert_bits_equal(image.data, flight.level1.data[1, 1])
    assert_bits_equal(image.flags, flight.level1.flags[1, 1])


@pytest.fixture
def calibrated(monkeypatch):
    """Frame numbers and channels of the frames that are read, as often as they are."""
    from esis_ndcube.level1 import raw

    read, real = [], raw.read_frame
    monkeypatch.setattr(
        raw, "read_frame", lambda frame, *args: read.append((frame.frame_number, frame.channel)) or real(frame, *args)
    )
    return read


@pytest.mark.slow
def test_a_frame_is_calibrated_once_for_all_its_planes(lazy, calibrated):
    dask.compute(lazy.data[0, 1], lazy.uncertainty.array[0, 1], lazy.mask[0, 1], lazy.flags[0, 1])
    assert calibrated == [(123, 2)]


@pytest.mark.slow
def test_frames_in_a_scratch_folder_are_calibrated_once(flight, calibrated, written, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    level1 = expected(flight.read, lazy=True, scratch=folder)
    calibrated.clear()
    expected(form_level3, pickle.loads(pickle.dumps(level1)), flight.maps, output=tmp_path / "l3.fits")
    assert sorted(calibrated) == [(f, c) for f in (123, 124) for c in range(1, 5) if (f, c) != (123, 1)]
    assert_files_equal(tmp_path / "l3.fits", written)
    calibrated.clear()
    assert_cubes_equal(level1, flight.level1)
    assert not calibrated


def test_what_a_scratch_folder_does_not_give_is_calibrated(small_flight, calibrated, tmp_path, monkeypatch):
    level1 = small_flight.read(lazy=True, scratch=tmp_path)[1, 1]
    truth = small_flight.level1.data[1, 1]
    calibrated.clear()
    assert_bits_equal(level1.data.compute(), truth)
    (kept,) = tmp_path.iterdir()
    content = bytearray(kept.read_bytes())
    for damaged in (content[:-1000], content[:5000] + bytes(4) + content[5004:], b""):
        kept.write_bytes(damaged)
        assert_bits_equal(level1.data.compute(), truth)
    kept.unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**30 + 1}))
    assert_bits_equal(level1.data.compute(), truth)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    tmp_path.rmdir()
    assert_bits_equal(level1.data.compute(), truth)
    assert not tmp_path.exists()


def test_a_damaged_scratch_file_gives_the_planes_or_nothing(tmp_path):
    scratch, frame = Scratch(tmp_path, reserved=0), SimpleNamespace(frame_number=1, channel=2)
    rng = np.random.default_rng(0)
    planes = *rng.normal(size=(2, 4, 6)).astype("f4"), rng.integers(0, 9, (4, 6)).astype("u2")
    scratch.write(frame, planes)
    (path,) = tmp_path.iterdir()
    content, refused = path.read_bytes(), 0
    for place, byte in enumerate(content):
        path.write_bytes(content[:place] + bytes([byte ^ 1 << place % 8]) + content[place + 1 :])
        found = scratch.read(frame)
        refused += found is None
        if found is not None:
            for one, other in zip(found, planes, strict=True):
                assert_bits_equal(one, other)
    assert refused > len(content) / 2


def test_a_scratch_folder_is_one_of_lazy_frames(tmp_path):
    with pytest.raises(NotADirectoryError, match="none', expected a folder"):
        ESISLevel1Cube.from_raw(tmp_path, lazy=True, scratch=tmp_path / "none")
    with pytest.raises(ValueError, match="expected lazy=True"):
        ESISLevel1Cube.from_raw(tmp_path, scratch=tmp_path)


@pytest.mark.slow
def test_damaged_frames_are_met_when_used(flight, tmp_path, monkeypatch):
    # Of these small frames the beginning, which is looked at before, would be all.
    monkeypatch.setattr("esis_ndcube.utils.whole._HEADER", 4 * 2880)
    for path in flight.files.raw:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (broken,) = tmp_path.glob("*4_00124*")
    content = bytearray(broken.read_bytes())
    content[-5] ^= 1
    broken.write_bytes(content)
    flight_of = flight.simulated.flight
    strict, lenient = (
        expected(ESISLevel1Cube.from_raw, tmp_path, flight_of, lazy=True, on_error=on_error)
        for on_error in ("raise", "skip")
    )
    with pytest.raises(FrameError, match=f"{broken.name} is damaged"):
        strict[1, 3].data.compute()
    with pytest.warns(SunpyUserWarning, match=f"Skipped: .*{broken.name} is damaged"):
        assert np.isnan(lenient[1, 3].data.compute()).all()
    with pytest.raises(FrameError, match=f"{broken.name} is damaged"):
        form_level3(strict, flight.maps, output=tmp_path / "l3.fits")
    assert not list(tmp_path.glob("*l3.fits*"))


# ------------------------------------------------------------------------------------------------------ streaming


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "source"),
    [({"workers": 1}, "lazy"), ({"workers": 2}, "level1")],
)
def test_a_streamed_file_is_the_written_one(options, source, flight, lazy, written, calibrated, tmp_path):
    """And lazy frames are calibrated once in each pass."""
    path = tmp_path / "streamed.fits"
    level1 = lazy if source == "lazy" else flight.level1
    cube = expected(form_level3, level1, flight.maps, output=path, **options)
    if source == "lazy":
        # The blank one, which is not resampled, only once.
        read = {(f, c): 2 for f in (123, 124) for c in range(1, 5) if (f, c) != (123, 1)} | {(124, 3): 1}
        assert Counter(calibrated) == read
    assert isinstance(cube.data, da.Array)
    assert_files_equal(written, path)
    assert_cubes_equal(cube, flight.level3)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("options", [{"normalize": False}, {"vignetting": False, "stage": "linear", "order": 1}])
@pytest.mark.slow
def test_a_streamed_file_with_other_options(options, flight, tmp_path):
    path = tmp_path / "streamed.fits"
    form_level3(flight.level1, flight.aligned, output=path, **options)
    cube = form_level3(flight.level1, flight.aligned, **options)
    assert_cubes_equal(ESISLevel3Cube.read(path), cube)
    cube.write(tmp_path / "written.fits")
    assert_files_equal(tmp_path / "written.fits", path)


@pytest.mark.slow
def test_a_compressed_file_is_read_at_once(flight, tmp_path):
    cube = form_level3(flight.level1, flight.aligned, output=tmp_path / "l3.fits.gz")
    assert isinstance(cube.data, np.ndarray)
    assert_cubes_equal(cube, flight.level3)
    with pytest.raises(ValueError, match=r"got the compressed file .*l3\.fits\.gz, expected an uncompressed one"):
        ESISLevel3Cube.read(tmp_path / "l3.fits.gz", lazy=True)


def test_output_is_looked_at_before_any_work(small_flight, tmp_path, monkeypatch):
    monkeypatch.setattr("esis_ndcube.level3.form.coalign", lambda *args, **kwargs: pytest.fail("worked"))
    (tmp_path / "there.fits").write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        form_level3(small_flight.level1, output=tmp_path / "there.fits")
    with pytest.raises(FileNotFoundError, match="make it first"):
        form_level3(small_flight.level1, output=tmp_path / "no" / "l3.fits")
    assert (tmp_path / "there.fits").read_text() == "precious"


def test_an_interrupted_run_leaves_nothing(small_flight, tmp_path, monkeypatch):
    def interrupt(*args, **options):
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyboardInterrupt

    path = tmp_path / "l3.fits"
    path.write_text("precious")
    monkeypatch.setattr("esis_ndcube.corrections.normalize.image_means", interrupt)
    with pytest.raises(KeyboardInterrupt):
        form_level3(small_flight.level1, small_flight.maps, output=path, overwrite=True)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


# -------------------------------------------------------------------------------------------------- lazy reading


@pytest.mark.slow
def test_a_lazy_cube_reads_only_what_is_used(written, flight, monkeypatch):
    from esis_ndcube.io._planes import Plane

    cube = ESISLevel3Cube.read(written, lazy=True)
    for array in (cube.data, cube.uncertainty.array, cube.mask, cube.flags):
        assert array.chunksize == (1, 1, *cube.data.shape[2:])
    read, real = [], Plane.__getitem__
    monkeypatch.setattr(Plane, "__getitem__", lambda plane, item: read.append(item) or real(plane, item))
    image = cube[1, 1]
    assert str(image) == str(flight.level3[1, 1]).replace("float32", "float32, lazy")
    assert not read
    assert_bits_equal(image.data, flight.level3.data[1, 1])
    image.plot()
    assert {tuple(int(np.arange(3)[part].item()) for part in item[:2]) for item in read} == {(1, 1)}
    assert image.to_map().data.shape == image.data.shape


@pytest.mark.slow
def test_a_lazy_cube_can_be_pickled_and_written(written, tmp_path):
    cube = pickle.loads(pickle.dumps(ESISLevel3Cube.read(written, lazy=True)))
    assert len(pickle.dumps(cube.data)) < 10**5
    cube.write(tmp_path / "again.fits")
    assert_files_equal(written, tmp_path / "again.fits")


# One path reads all types and all parts: each type meets one kind of part.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "item"),
    [
        *((np.uint16, ()), (np.int16, (0,)), (np.uint32, (slice(1, 3), 1)), (np.int32, (1, 1))),
        *((np.uint8, ()), (np.int8, (0,)), (np.float64, (1, 1))),
    ],
)
def test_types_and_parts_of_cubes_lazily(dtype, item, tmp_path):
    cube = make_cube((3, 2, 5, 7), dtype=dtype)[item or slice(None)]
    cube.write(tmp_path / "cube.fits")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "cube.fits"), cube)
    lazy = ESISLevel3Cube.read(tmp_path / "cube.fits", lazy=True)
    assert_cubes_equal(lazy, cube)
    with fits.open(tmp_path / "cube.fits") as hdulist:
        np.testing.assert_array_equal(hdulist["DATA"].data, cube.data)


def test_damage_of_a_lazy_file(small_flight, tmp_path):
    path = tmp_path / "l3.fits"
    small_flight.level3.write(path)
    content = bytearray(path.read_bytes())
    with fits.open(path) as hdulist:
        content[hdulist["UNCERT"].fileinfo()["datLoc"] + 7] ^= 1
    path.write_bytes(content)
    cube = ESISLevel3Cube.read(path, lazy=True)
    with pytest.raises(CubeFileError, match="checksum of UNCERT does not agree"):
        ESISLevel3Cube.read(path, lazy=True, verify=True)
    path.write_bytes(content + b"x")
    with pytest.raises(OSError, match="has been changed since it was read lazily: read it again"):
        cube[0, 0].data.compute()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CubeFileError):
        ESISLevel3Cube.read(path, lazy=True)


def test_lazy_files_that_are_replaced_are_noticed(small_flight, tmp_path):
    """Also by files of the same length and time."""
    small_flight.level3.write(tmp_path / "l3.fits")
    raw = shutil.copytree(small_flight.path / "raw", tmp_path / "raw")
    path = next(raw.glob("*1_00124*"))
    level1 = ESISLevel1Cube.from_raw(raw, small_flight.flight, lazy=True)
    level3 = ESISLevel3Cube.read(tmp_path / "l3.fits", lazy=True)
    for file, cube in {tmp_path / "l3.fits": level3, path: level1}.items():
        cube[1, 0].data.compute()
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        other = tmp_path / "other"
        other.write_bytes(file.read_bytes())
        os.utime(other, ns=times)
        other.replace(file)
        with pytest.raises(OSError, match=rf"{file.name} has been changed since it was read lazily: read it again"):
            cube[1, 0].data.compute()


# ------------------------------------------------------------------------------------------------------- clusters


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits(client, flight, lazy, written, tmp_path):
    cube = expected(form_level3, lazy, flight.maps, output=tmp_path / "l3.fits")
    assert_files_equal(written, tmp_path / "l3.fits")
    assert_cubes_equal(cube, flight.level3)


@pytest.mark.slow
def test_a_cluster_with_cubes_in_memory(client, flight):
    assert_cubes_equal(expected(flight.read), flight.level1)
    assert_cubes_equal(expected(form_level3, flight.level1, flight.maps), flight.level3)
