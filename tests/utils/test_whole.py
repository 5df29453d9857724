"""Damage is told from what the machine lacks, and files without sums are read as ever."""

import gzip
import os

import numpy as np
import pytest
from bad_inputs import FLIGHT, KEYS, _bytes, _cards, _edited, _set, read_image, read_raw, read_reference
from helpers import make_cube

from astropy.io import fits
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import Coalignment, ESISLevel3Cube
from esis_ndcube.level1.frames import FrameError, find_frames, read_frame
from esis_ndcube.net.validate import check_image
from esis_ndcube.utils import whole

READERS = {
    "raw frame": (lambda path: find_frames([path], FLIGHT, on_error="skip"), ".fits"),
    "Level-1 image": (read_image, ".fits"),
    "reference": (read_reference, ".fits"),
    "Level-3 file": (ESISLevel3Cube.read, ".fits"),
    "ASDF file": (ESISLevel3Cube.read, ".asdf"),
    "pickle": (ESISLevel3Cube.read, ".pickle"),
    "coalignment": (Coalignment.read, ".ecsv"),
    "download": (check_image, ".fits"),
}


@pytest.fixture
def image(tmp_path):
    """A frame as the camera wrote it, without sums."""
    return _edited(".fits", lambda hdu: None, tmp_path)


@pytest.fixture
def no_handles():
    """No file can be opened, because as many are open as may be."""
    resource = pytest.importorskip("resource", reason="this system has no such limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", READERS)
def test_lack_of_handles_is_no_damage(name, tmp_path, request):
    read, suffix = READERS[name]
    path = tmp_path / f"good{suffix}"
    path.write_bytes(b"")
    request.getfixturevalue("no_handles")
    with pytest.raises(OSError, match=r"[Tt]oo many open files") as caught:
        read(path)
    assert type(caught.value) is OSError


@pytest.mark.parametrize("name", ["raw frame", "image of a raw frame", "Level-1 image", "reference", "download"])
def test_lack_of_memory_is_no_damage(name, image, monkeypatch):
    (frame,) = find_frames([image], FLIGHT)
    read = READERS[name][0] if name in READERS else lambda path: read_frame(frame, FLIGHT)

    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(fits, "open", fail)
    with pytest.raises(MemoryError, match=r"bad\.fits was not read: no memory for all it holds, expected more"):
        read(image)


def test_cause_of_an_error_is_looked_at():
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            msg = "no FITS"
            raise ValueError(msg) from error
    except ValueError as error:
        with pytest.raises(MemoryError, match=r"a\.fits was not read"):
            whole.pass_scarcity(error, "a.fits")


def test_files_without_sums_are_read(image):
    assert "CHECKSUM" not in fits.getheader(image)
    (found,) = read_raw(image)
    np.testing.assert_array_equal(found, fits.getdata(image))


def test_sums_that_are_not_known_claim_nothing(tmp_path):
    def blank(hdu):
        hdu.header["CHECKSUM"] = hdu.header["DATASUM"] = ""

    assert len(read_raw(_edited(".fits", blank, tmp_path))) == 1


def test_bytes_that_follow_do_no_harm(image):
    expected = read_raw(image)
    image.write_bytes(image.read_bytes() + bytes(2880))
    with pytest.warns(UserWarning, match="Unexpected extra padding"):
        np.testing.assert_array_equal(read_raw(image), expected)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (
            KEYS.measured_exposure,
            10**7,
            "1 files have exposures far from the cadence of 10 s: bad.fits; are they of TINY",
        ),
        (KEYS.measured_exposure, 10**10, "exposures far from the cadence"),
        (KEYS.time, "2022-01-02T03:03:20.125", "1 files have times more than a day from the launch, 2021-01-02"),
        (KEYS.time, "2020-12-31T03:03:20.125", "times more than a day from the launch"),
    ],
)
def test_unusual_headers_are_warned_of(tmp_path, key, value, problem):
    path = _edited(".fits", _set(key, value), tmp_path)
    with pytest.warns(SunpyUserWarning, match=problem):
        assert len(find_frames([path], FLIGHT)) == 1


@pytest.mark.parametrize(
    ("cards", "problem"),
    [
        ({"IMG_EXP": "0.25"}, "1 files have exposures far from the cadence of 10 s: badlevel1.fits; are they of TINY"),
        ({"DATE-AVG": "'2022-01-02T03:03:15'"}, "1 files have times more than a day from the launch"),
    ],
)
def test_unusual_images_are_warned_of(tmp_path, cards, problem):
    with pytest.warns(SunpyUserWarning, match=problem):
        assert read_image(_bytes("level1.fits", _cards(**cards), tmp_path)).shape[:2] == (1, 1)


def test_unused_frames_are_not_looked_at(tmp_path):
    path = _edited(".fits", _set(KEYS.measured_exposure, 10**7), tmp_path)
    assert len(find_frames([path], FLIGHT, used=lambda number, channel: False)) == 1


def test_frames_in_several_parts(tmp_path, image):
    """As programs write that pack in parallel."""
    content, path = image.read_bytes(), tmp_path / "parts.fits.gz"
    path.write_bytes(b"".join(gzip.compress(content[i : i + 1000]) for i in range(0, len(content), 1000)) + bytes(512))
    np.testing.assert_array_equal(read_raw(path), read_raw(image))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(FrameError, match="cut short"):
        find_frames([path], FLIGHT)


def test_level3_files_have_their_own_sums(tmp_path):
    cube = make_cube((1, 1, 5, 6))
    cube.write(tmp_path / "l3.fits.gz")
    assert ESISLevel3Cube.read(tmp_path / "l3.fits.gz").shape == cube.shape
    # Sums of astropy are those of the standard.
    assert check_image(tmp_path / "l3.fits.gz")


@pytest.fixture
def summed(tmp_path):
    """A FITS file of two HDUs with sums, and where the second one begins."""
    path = tmp_path / "summed.fits"
    hdulist = fits.HDUList([fits.PrimaryHDU(np.arange(6.0)), fits.ImageHDU(np.arange(4), name="FLAGS")])
    hdulist[0].header["NOTE"] = 1, "the sums follow"
    hdulist.writeto(path, checksum=True)
    with fits.open(path) as hdul:
        return path, hdul[1].fileinfo()["hdrLoc"]


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_a_later_hdu_is_not_lost_unseen(summed):
    """A header that is cut off in the middle is none to astropy, which takes the file to end before it."""
    path, start = summed
    content = path.read_bytes()
    path.write_bytes(content[: start + 100])
    with pytest.raises(ValueError, match="it has 100 bytes after its last HDU, expected none"), whole.open_whole(path):
        pass


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_cards_that_have_moved_do_not_take_the_sums_along(summed):
    path, _ = summed
    content = path.read_bytes()
    place = content.index(b"CHECKSUM=")
    # Blanks of the end take the place of the bytes that are lost.
    end = content.index(b"END     ")
    path.write_bytes(content[: place - 40] + content[place - 37 : end - 3] + b" " * 6 + content[end:])
    problem = "the cards of HDU 0 are not where they belong, CHECKSUM and DATASUM"
    with pytest.raises(ValueError, match=problem), whole.open_whole(path):
        pass
