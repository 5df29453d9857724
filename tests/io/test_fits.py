"""FITS files: there and back to the last bit, readable by others, damage noticed."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import assert_bits_equal, assert_cubes_equal, assert_values_equal, make_cube
from hypothesis import HealthCheck, given, settings

import astropy.units as u
import sunpy.map
from astropy.io import fits
from astropy.nddata import InverseVariance, VarianceUncertainty
from astropy.time import Time
from astropy.wcs import WCS

from esis_ndcube import ESIS_1, Flight, FlightError
from esis_ndcube.cube import ESISCube
from esis_ndcube.io._planes import Plane
from esis_ndcube.io._values import decode, encode, escape, unescape
from esis_ndcube.io.fits import CubeFileError, check_output
from esis_ndcube.level1 import ESISLevel1Cube
from esis_ndcube.level3 import ESISLevel3Cube

QUICK = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def cubes(draw):
    shape = tuple(draw(st.integers(1, n)) for n in (4, 4, 5, 5))
    channels = sorted(draw(st.sets(st.integers(1, 6), min_size=shape[1], max_size=shape[1])) if shape[1] < 5 else ())
    channels = [c for c in channels if c < 5] if max(channels) < 5 else list(range(1, shape[1] + 1))
    dtype = draw(st.sampled_from([np.float32, np.float64, np.int16, np.uint16, np.int32]))
    cube = make_cube(
        shape, channels=channels, dtype=dtype, seed=draw(st.integers(0, 99)), alignments=draw(st.booleans())
    )
    item = []
    for n in shape[:2]:
        start = draw(st.integers(0, n - 1))
        item.append(start if draw(st.booleans()) else slice(start, draw(st.integers(start + 1, n))))
    for n in shape[2:]:
        start = draw(st.integers(0, n - 1))
        item.append(slice(start, draw(st.integers(start + 1, n))))
    return cube[tuple(item)]


@QUICK
@given(cube=cubes())
@pytest.mark.slow
def test_round_trip(tmp_path, cube):
    path = tmp_path / "cube.fits"
    before = cube.data.copy()
    cube.write(path, overwrite=True)
    assert_bits_equal(cube.data, before)
    assert_cubes_equal(ESISLevel3Cube.read(path), cube)
    assert [p.name for p in tmp_path.iterdir()] == ["cube.fits"]


@pytest.mark.parametrize("kind", [VarianceUncertainty, InverseVariance, None])
def test_bare_cubes(tmp_path, kind):
    full = make_cube((2, 2, 3, 4))
    uncertainty = None if kind is None else kind(full.uncertainty.array)
    cube = ESISCube(full.data, wcs=full.wcs, uncertainty=uncertainty, meta=full.meta)
    cube.global_coords.add("note", "custom:note", 3 * u.s)
    cube.write(tmp_path / "a.fits.gz")
    again = ESISCube.read(tmp_path / "a.fits.gz")
    assert_cubes_equal(again, cube)
    assert again.unit is None
    assert again.global_coords["note"] == 3 * u.s


def test_nan_payload_survives(tmp_path):
    cube = make_cube((1, 1, 2, 2))
    cube.data.view(np.uint32)[0, 0, 0] = 0x7FC12345, 0xFFC00001
    cube.write(tmp_path / "a.fits")
    assert_bits_equal(ESISLevel3Cube.read(tmp_path / "a.fits").data, cube.data)


@pytest.mark.parametrize("channels", [(1, 2, 3), (1, 2, 4)])
def test_plain_astropy_reads_the_file(tmp_path, channels):
    cube = make_cube(channels=channels)
    cube.write(tmp_path / "l3.fits")
    with fits.open(tmp_path / "l3.fits", checksum=True) as hdulist:
        assert [hdu.name for hdu in hdulist[:5]] == ["PRIMARY", "DATA", "UNCERT", "MASK", "FLAGS"]
        assert {"TIME", "EXPOSURE", "FLIGHT", "PROCESSING", "META"} <= {hdu.name for hdu in hdulist}
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdulist)
        header = hdulist["DATA"].header
        wcs = WCS(header, hdulist)
        assert type(wcs) is WCS
        reference = Time(header["MJDREF"], format="mjd", scale="utc")
        for t in range(5):
            for c in range(3):
                world = wcs.pixel_to_world_values(3, 4, c, t)
                assert world[2] == channels[c]
                assert abs((reference + world[3] * u.s - cube.time[t]).to_value("s")) < 1e-6
                np.testing.assert_array_equal(world[:2], cube.wcs.pixel_to_world_values(3, 4, c, t)[:2])
        assert header["BUNIT"] == "ph / pix"
        assert (header["WAVELNTH"], header["WAVEUNIT"], header["LVL_NUM"]) == (629.732, "Angstrom", 3)
        assert (header["TELESCOP"], header["INSTRUME"], header["TIMESYS"]) == ("ESIS", "ESIS", "UTC")
        primary = hdulist[0].header
        assert (primary["FILENAME"], primary["PRSTEP1"], primary["PRSTEP2"]) == ("l3.fits", "bias", "despike")
        assert primary["DATE-AVG"] == cube.wcs.wcs.dateavg
        assert hdulist["MASK"].data.dtype == np.uint8
        table = hdulist["EXPOSURE"].data
        assert len(table) == 15
        assert table["FILE"][4] == cube.meta["file"][1, 1]
        assert table["DATE_AVG"][4] == cube.time[1].isot


def test_map_of_an_image_file(tmp_path):
    cube = make_cube()[2, 1]
    cube.write(tmp_path / "image.fits")
    with fits.open(tmp_path / "image.fits") as hdulist:
        header = hdulist["DATA"].header
        assert (header["CHANNEL"], header["FRAME"], header["DETECTOR"]) == (2, 111, "ESIS2")
        one = sunpy.map.Map(hdulist["DATA"].data, header)
    assert abs((one.reference_date - cube.time).to_value("s")) < 1e-6


def test_overwrite_rules(tmp_path):
    cube, path = make_cube((1, 1, 2, 2)), tmp_path / "a.fits"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        cube.write(path)
    assert path.read_text() == "precious"
    cube.write(path, overwrite=True)
    assert ESISLevel3Cube.read(path).shape == (1, 1, 2, 2)
    with pytest.raises(IsADirectoryError):
        cube.write(tmp_path, overwrite=True)
    with pytest.raises(FileNotFoundError, match="make it first"):
        cube.write(tmp_path / "no" / "a.fits")
    assert check_output(tmp_path / "b.fits") == tmp_path / "b.fits"


def test_unwritable_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *args: False)
    with pytest.raises(PermissionError, match="no permission"):
        check_output(tmp_path / "a.fits")


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    cube, path = make_cube((1, 1, 2, 2)), tmp_path / "a.fits"
    cube.write(path)
    before = path.read_bytes()

    def full(self, index, values):
        self.path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Plane, "__setitem__", full)
    with pytest.raises(OSError, match="No space"):
        cube.write(path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.fits"
    cube = make_cube((2, 2, 4, 5))
    cube.write(path)
    return cube, path.read_bytes()


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_damage_is_noticed(tmp_path, good, place, bit):
    cube, content = good
    damaged = bytearray(content)
    damaged[int(place * len(content))] ^= 1 << bit
    path = tmp_path / "damaged.fits"
    path.write_bytes(damaged)
    try:
        again = ESISLevel3Cube.read(path)
    except CubeFileError:
        return
    # Only the padding after the data is not summed.
    assert_cubes_equal(again, cube)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True))
def test_truncation_is_noticed(tmp_path, good, place):
    path = tmp_path / "cut.fits"
    path.write_bytes(good[1][: int(place * (len(good[1]) - 2880))])
    with pytest.raises(CubeFileError):
        ESISLevel3Cube.read(path)


def test_flipped_pixel_is_named(tmp_path, good):
    damaged = bytearray(good[1])
    damaged[good[1].index(good[0].data.astype(">f4").tobytes()) + 8] ^= 1
    (tmp_path / "a.fits").write_bytes(damaged)
    with pytest.raises(CubeFileError, match="checksum of DATA"):
        ESISLevel3Cube.read(tmp_path / "a.fits")


def test_foreign_files(tmp_path):
    path = tmp_path / "x.fits"
    path.write_text("hello")
    with pytest.raises(CubeFileError, match="cannot be read as FITS"):
        ESISLevel3Cube.read(path)
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(path, overwrite=True)
    with pytest.raises(CubeFileError, match="not a cube of esis_ndcube"):
        ESISLevel3Cube.read(path)
    header = fits.Header([("ESISFITS", 99)])
    fits.PrimaryHDU(header=header).writeto(path, overwrite=True)
    with pytest.raises(CubeFileError, match="layout 99"):
        ESISLevel3Cube.read(path)
    with pytest.raises(FileNotFoundError):
        ESISLevel3Cube.read(tmp_path / "none.fits")


def test_wrong_level(tmp_path):
    make_cube((1, 2, 3, 4), level=1).write(tmp_path / "l1.fits")
    with pytest.raises(CubeFileError, match="level 1, expected level 3: read it with ESISLevel1Cube"):
        ESISLevel3Cube.read(tmp_path / "l1.fits")
    assert ESISCube.read(tmp_path / "l1.fits").meta["level"] == 1
    make_cube((1, 2, 3, 4)).write(tmp_path / "l3.fits")
    with pytest.raises(CubeFileError, match="level 3, expected level 1: read it with ESISLevel3Cube"):
        ESISLevel1Cube.read(tmp_path / "l3.fits")
    assert type(ESISLevel1Cube.read(tmp_path / "l1.fits")) is ESISLevel1Cube


def test_what_fits_can_not_hold(tmp_path):
    cube = make_cube((2, 2, 3, 4))
    with pytest.raises(ValueError, match="range of one row"):
        cube[0, 0, 1].write(tmp_path / "a.fits")
    cube.meta["thing"] = object()
    with pytest.raises(TypeError, match="'thing'"):
        cube.write(tmp_path / "a.fits")
    assert not list(tmp_path.iterdir())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(VALUES)
@pytest.mark.slow
def test_values(value):
    again = decode(encode(value))
    assert again == value
    assert type(again) is type(value)


@settings(max_examples=40)
@given(st.text())
def test_text(text):
    escaped = escape(text)
    assert unescape(escaped) == text
    assert escaped.isascii()
    assert escaped == escaped.rstrip()


def test_masked_time():
    times = Time(["2019-09-30T18:00:00", "2019-09-30T18:00:10"])
    times[1] = np.ma.masked
    assert_values_equal(decode(encode(times)), times)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cube.fits", "cube.asdf"])
@pytest.mark.parametrize(("key", "value"), [("vignetting", "unknown"), ("vignetting", None), ("history", ())])
def test_metadata_that_are_no_objects(tmp_path, name, key, value):
    if name.endswith(".asdf"):
        pytest.importorskip("asdf")
    cube = make_cube((1, 1, 2, 2))
    cube.meta[key] = value
    cube.write(tmp_path / name)
    assert ESISLevel3Cube.read(tmp_path / name).meta[key] == value


@pytest.mark.parametrize("name", ["cube.fits", "cube.asdf"])
def test_gains_of_files_written_before_quadrants_had_names(tmp_path, monkeypatch, name):
    """They are those that the cube was made with; a flight file like that is refused."""
    if name.endswith(".asdf"):
        pytest.importorskip("asdf")
    cube = make_cube((2, 2, 3, 4))
    text, count = re.subn(r"^gain = \{ low_low = (.*), high_low = (.*), high_high = (.*), low_high = (.*) \}$",
                          r"gain = [\1, \2, \3, \4]", ESIS_1.toml, flags=re.MULTILINE)  # fmt: skip
    assert count == 4
    with pytest.raises(FlightError, match="whose order is not known"):
        Flight.from_toml(text)
    with monkeypatch.context() as patch:
        patch.setitem(vars(cube.flight), "toml", text)
        cube.write(tmp_path / name)
    assert cube.flight == ESIS_1
    again = ESISLevel3Cube.read(tmp_path / name)
    assert [channel.gain for channel in again.flight.channels] == [channel.gain for channel in ESIS_1.channels]
