"""Raw frames of a flight from a server, the whole chain from the network to a cube, and Fido beside our clients."""

import dataclasses
import gzip
import io
import itertools
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner
from helpers import daily
from jsoc_server import EMAIL, FAULTS_OF_FILES, FileServer, JsocServer, Record, check_errors
from rawframes import tiny_flight, with_archive, write_flight
from vso_server import VsoServer

import astropy.units as u
import sunpy.map
from astropy.io import fits
from astropy.time import Time
from sunpy.net import Fido
from sunpy.net import attrs as a
from sunpy.net.vso import vso

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube, Flight, FlightError, coalign
from esis_ndcube.cli import main
from esis_ndcube.level1.frames import find_frames, sort_frames
from esis_ndcube.net import ArchiveError, ESISContextClient, ESISFlightClient, RetryPolicy, attrs
from esis_ndcube.net.fetch import fetch_flight, nearest_images
from esis_ndcube.simulate import simulate_flight

pytestmark = pytest.mark.usefixtures("closed_loops")

QUICK = RetryPolicy(tries=3, pause=0 * u.s, timeout=2 * u.s, poll=0.01 * u.s, patience=5 * u.s)
LIGHT, DARK = (20, 21, 23), (5, 6, 40)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(ESISFlightClient, "policy", QUICK)
    monkeypatch.setattr(ESISContextClient, "policy", QUICK)
    monkeypatch.delenv("JSOC_EMAIL", raising=False)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Raw frames of a tiny flight by their names."""
    flight, folder = tiny_flight(), tmp_path_factory.mktemp("tiny")
    write_flight(folder, flight, light=LIGHT, dark=DARK)
    packed = {}
    for frame in find_frames(folder, flight):
        with fits.open(frame.path) as hdul:
            stream = io.BytesIO()
            fits.PrimaryHDU(hdul[frame.hdu].data, fits.Header(hdul[frame.hdu].header)).writeto(stream)
        name = flight.files.pattern.format(channel=frame.channel, frame=frame.frame_number)
        packed[name] = gzip.compress(stream.getvalue(), mtime=0)
    return packed


@pytest.fixture
def server(contents):
    with FileServer() as server:
        server.files = {f"frames/{name}": content for name, content in contents.items()}
        yield server


def fetch(server, path, *attributes, **kwargs):
    flight = with_archive(tiny_flight(), server.url, sorted(LIGHT + DARK))
    result = Fido.search(a.esis.Flight(flight), a.Level(0), *attributes)
    return result, Fido.fetch(result, path=path, progress=False, **kwargs)


def check_files(files, contents):
    assert sorted(Path(file).name for file in files) == sorted(contents)
    # Plain booleans: pytest would show the bytes.
    assert all([Path(file).read_bytes() == contents[Path(file).name] for file in files])  # noqa: C419


def test_frames_of_the_first_flight():
    (table,) = Fido.search(a.esis.Flight.f1, a.Level(0))
    assert len(table) == 284
    assert set(table["Camera"]) == {"ESIS1", "ESIS2", "ESIS3", "ESIS4"}
    kinds = {kind: set(table["Frame"][table["Kind"] == kind].tolist()) for kind in ("light", "dark", "other")}
    assert kinds["light"] == set(range(109, 139))
    assert kinds["dark"] == {*range(98, 104), *range(154, 167)}
    assert table["URL"][0] == "https://github.com/esis-mission/esis-data-2019/raw/main/fits/ESIS1_00096.fit.gz"
    (part,) = Fido.search(a.esis.Flight.f1, a.Level(0), a.Time("2019-09-30T18:08:30", "2019-09-30T18:08:50"))
    assert part["Frame"].tolist() == [124] * 4 + [125] * 4
    # In the middle between two exposures it is one of them.
    times = ESIS_1.mid_time(np.array([103, 104]))
    middle = times[0] + (times[1] - times[0]) / 2
    (one,) = Fido.search(a.esis.Flight.f1, a.Level(0), a.Time(times[0], times[1], near=middle))
    assert one["Frame"].tolist() == [103] * 4
    (none,) = Fido.search(a.esis.Flight.f1, a.Level(0), a.Time("2019-10-30", "2019-10-31", near="2019-10-30"))
    assert len(none) == 0
    assert len(Fido.fetch(none, progress=False)) == 0


def test_frames_of_another_flight():
    flight = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")
    first = flight.light_frames[0][0]
    flight = with_archive(flight, "https://example.org/", [first, first + 1], time_frame=first)
    (table,) = Fido.search(a.esis.Flight(flight), a.Level(0))
    assert table["Channel"].tolist() == 2 * [channel.number for channel in flight.channels]
    assert table["Camera"].tolist() == 2 * [channel.camera for channel in flight.channels]
    assert abs((table["Time"][-1] - table["Time"][0]) - flight.cadence) < 1 * u.us


def test_next_flight_needs_no_code(tmp_path, monkeypatch):
    """Its file in the folder of flights is all."""
    (tmp_path / "esis_1.toml").write_text(ESIS_1.toml)
    second = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")
    frame = second.light_frames[0][0]
    second = with_archive(second, "https://example.org/", [frame], time_frame=frame, short_name="f2")
    (tmp_path / "second.toml").write_text(second.toml)
    monkeypatch.setattr(attrs.resources, "files", lambda name: tmp_path)
    assert a.esis.Flight("f2").flight == second
    assert a.esis.Flight("F1").flight == ESIS_1
    assert {"f1", "f2"} <= {name for name, _ in ESISContextClient.register_values()[attrs.Flight]}
    (result,) = Fido.search(a.esis.Flight("f2"), a.Level(0))
    assert result["Channel"].tolist() == [channel.number for channel in second.channels]
    with pytest.raises(ValueError, match=r"got flight 'f3', expected f1 \(ESIS_1\), f2 \("):
        a.esis.Flight("f3")


@pytest.mark.flight_data
def test_time_line_of_the_first_flight(flight_data):
    # Frames that are neither light nor dark do not keep to it.
    frames = itertools.chain(*sort_frames(find_frames(flight_data / "esis_level0", ESIS_1), ESIS_1))
    apart = [(frame.mid_time(ESIS_1) - ESIS_1.mid_time(frame.frame_number)).to_value(u.s) for frame in frames]
    assert np.abs(apart).max() < 0.01


def test_wrong_queries():
    with pytest.raises(ValueError, match="got level 1, expected 0"):
        Fido.search(a.esis.Flight.f1, a.Level(1))
    with pytest.raises(FlightError, match=r"flight ESIS_1_small has no public raw frames: its file has no \[archive\]"):
        Fido.search(a.esis.Flight(simulate_flight(size=8).flight), a.Level(0))
    for key, value, problem in (
        ("short_name", "F 1", "expected lower-case letters"),
        ("url", "ftp://example.org", "expected an address"),
        ("frames", [[9, 8]], "expected ranges"),
        ("time", "yesterday", "expected a date and time"),
    ):
        table = tomllib.loads(ESIS_1.toml)
        table["archive"][key] = value
        with pytest.raises(FlightError, match=rf"archive\.{key}: got .*{problem}"):
            Flight.from_toml(tomli_w.dumps(table))


@pytest.mark.slow
def test_frames_are_fetched_once(server, contents, tmp_path):
    result, files = fetch(server, tmp_path)
    check_files(files, contents)
    assert set(server.downloads().values()) == {1}
    before = len(server.requests)
    assert list(Fido.fetch(result, path=tmp_path, progress=False)) == list(files)
    assert len(server.requests) == before
    Fido.fetch(result[0][:2], path=tmp_path, progress=False, overwrite=True)
    assert server.count("file") == len(files) + 2
    # Patterns of Fido may name columns.
    (one,) = Fido.fetch(result[0][0], path=tmp_path / "{camera}" / "{file}", progress=False)
    assert Path(one).parent.name == result[0]["Camera"][0]


@pytest.mark.parametrize("fault", daily(*FAULTS_OF_FILES))
def test_faults(server, contents, monkeypatch, tmp_path, fault):
    monkeypatch.setattr(ESISFlightClient, "policy", dataclasses.replace(QUICK, timeout=0.5 * u.s))
    # Some take their time, so that several are under way at once.
    server.faults["file"] = ["late", fault, "late", fault, "late"]
    _, files = fetch(server, tmp_path / "twice")
    check_files(files, contents)
    assert 2 <= server.most_at_a_time <= 5


def test_frames_that_are_gone_are_named(server, contents, tmp_path):
    gone = sorted(contents)[3]
    del server.files[f"frames/{gone}"]
    result, files = fetch(server, tmp_path)
    check_errors(files, "HTTP status 404 after 3 tries")
    (error,) = files.errors
    assert error.url == f"{server.url}frames/{gone}"
    check_files(files, {name: content for name, content in contents.items() if name != gone})
    assert {path.name for path in tmp_path.iterdir()} == contents.keys() - {gone}
    # The function that needs all of the frames names the missing one.
    flight = result[0].flight
    match = rf"1 of {len(contents)} files are missing: {gone}: HTTP status 404 after 3 tries\. The other files are kept"
    with pytest.raises(ArchiveError, match=match):
        fetch_flight(flight, tmp_path, reference=False)
    server.files[f"frames/{gone}"] = contents[gone]
    check_files(Fido.fetch(result, path=tmp_path, progress=False), contents)


@pytest.fixture(scope="module")
def simulated(small_flight):
    return small_flight.simulated


@pytest.fixture(scope="module")
def simulated_files(small_flight):
    return small_flight.files


@pytest.fixture(scope="module")
def reference_records(simulated):
    """The simulated reference images as records of AIA."""
    records = []
    for index, time in enumerate(simulated.reference_times):
        data, header = simulated.reference(index)
        t_rec, t_obs = time.isot[:19] + "Z", time.isot[:22] + "Z"
        header = fits.Header(header)
        header.update({"T_REC": t_rec, "T_OBS": t_obs})
        stream = io.BytesIO()
        fits.PrimaryHDU(data, header).writeto(stream, checksum=True)
        records.append(Record(t_rec, t_obs, "0x00000000", stream.getvalue()))
    return records


@pytest.fixture
def network(simulated, simulated_files, reference_records, monkeypatch, tmp_path):
    """Both servers, with a simulated small flight behind them, and its flight file."""
    import drms

    with FileServer() as frames, JsocServer(reference_records, polls=1) as jsoc:
        monkeypatch.setitem(drms.config._server_configs, "jsoc", jsoc.config())
        frames.files = {f"frames/{path.name}": path.read_bytes() for path in simulated_files.raw}
        numbers = sorted(simulated.dark_frame_numbers + simulated.frame_numbers + simulated.other_frame_numbers)
        first = simulated.frame_numbers[0]
        flight = with_archive(simulated.flight, frames.url, numbers, time_frame=first, time=simulated.mid_time(first))
        path = tmp_path / "flight.toml"
        path.write_text(flight.toml)
        yield frames, jsoc, path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_whole_chain(network, small_flight, monkeypatch, tmp_path):
    """From two servers to a Level-3 file and its AIA cube, the same as from the files themselves."""
    frames, jsoc, flight = network
    command = ["level3", "--fetch", "f1", "--flight", flight, "--folder", tmp_path / "f1", "-o", tmp_path / "l3.fits"]
    result = run(*command)
    assert result.exit_code == 1
    assert "register at http" in result.output
    assert not frames.requests
    monkeypatch.setenv("JSOC_EMAIL", EMAIL)
    frames.faults["file"], jsoc.faults["file"] = ["flip"], ["short, no length"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    cube = ESISLevel3Cube.read(tmp_path / "l3.fits")
    np.testing.assert_array_equal(cube.data, small_flight.level3.data)
    aia = cube.context(path=tmp_path / "f1" / "reference")
    assert jsoc.count("export") == 1
    assert aia.shape == (2, *small_flight.flight.grid_shape)
    assert abs(aia.time_difference).max() < 6.5 * u.s
    # Both show the same Sun: shifted, they are less alike.
    good = cube.clean_region() & ~aia.mask.any(axis=0)
    right = np.corrcoef(aia.data[0][good], cube.data[0, 0][good])[0, 1]
    for shift in (6, 0), (-6, 0), (0, 6), (0, -6):
        moved = np.roll(aia.data[0], shift, (0, 1))
        assert np.corrcoef(moved[good], cube.data[0, 0][good])[0, 1] < right - 0.005
    by_hand = cube.context([sunpy.map.Map(path) for path in sorted((tmp_path / "f1" / "reference").iterdir())])
    np.testing.assert_array_equal(aia.data, by_hand.data)
    # Once more, with nothing to fetch.
    before = len(frames.requests), jsoc.count("file")
    assert len(fetch_flight(Flight.read(flight), tmp_path / "f1").raw) == 4 * (2 + 2)
    assert (len(frames.requests), jsoc.count("file")) == before


@pytest.mark.parametrize("folder", ["f1", None])
@pytest.mark.slow
def test_flight_without_an_address(
    network, simulated, simulated_files, reference_records, monkeypatch, tmp_path, folder
):
    """The files that ``--vso`` fetches, into a folder of one's own or that of sunpy."""
    import drms

    _, _, flight = network
    monkeypatch.setattr(sunpy.config, "get", lambda section, key: str(tmp_path / key))
    with VsoServer(reference_records) as server:
        monkeypatch.setitem(drms.config._server_configs, "jsoc", server.config())
        monkeypatch.setattr(vso, "DEFAULT_URL_PORT", server.mirrors())
        files = fetch_flight(Flight.read(flight), folder and tmp_path / folder, provider="vso")
    assert server.count("address") == server.count("export") == 0
    others = [
        f"ESIS{channel}_{frame:05d}.fit.gz" for frame in simulated.other_frame_numbers for channel in (1, 2, 3, 4)
    ]
    assert sorted([*others, *(path.name for path in files.raw)]) == sorted(path.name for path in simulated_files.raw)
    exposures = [simulated.mid_time(frame) for frame in simulated.frame_numbers]
    nearest = sorted({int(np.argmin(abs((simulated.reference_times - time).sec))) for time in exposures})
    assert [path.read_bytes() for path in files.reference] == [server.records[index].content for index in nearest]
    home = tmp_path / "f1" if folder else tmp_path / "download_dir" / simulated.flight.name
    assert {path.parent.parent for path in (*files.raw, *files.reference)} == {home}


@pytest.mark.slow
def test_all_rows_of_a_search_make_a_cube(network, simulated, simulated_files, tmp_path):
    """As the documentation has it; the first row is the frame without exposure time."""
    flight = Flight.read(network[2])
    rows = Fido.search(a.esis.Flight(flight), a.Level(0))
    assert (rows[0]["Frame"][0], rows[0]["Kind"][0]) == (96, "other")
    files = Fido.fetch(rows, path=tmp_path / "raw", progress=False)
    assert len(files) == len(simulated_files.raw)
    level1 = ESISLevel1Cube.from_raw(files, flight)
    assert tuple(level1.frame_number) == simulated.frame_numbers
    chosen = fetch_flight(flight, tmp_path, reference=False).raw
    assert len(chosen) == len(files) - 4 * len(simulated.other_frame_numbers)
    np.testing.assert_array_equal(level1.data, ESISLevel1Cube.from_raw(chosen, flight).data)


def full_disk_record(simulated, offset):
    """A simulated reference as a full-disk image of AIA whose header looks this many pixels beside the Sun."""
    data, header = simulated.reference(1)
    header = fits.Header(header)
    whole = np.zeros((4096, 4096), np.float32)
    corner = 1900, 1950
    whole[corner[1] : corner[1] + data.shape[0], corner[0] : corner[0] + data.shape[1]] = data
    center = sunpy.map.Map(data, header).wcs.world_to_pixel_values(0, 0) + np.array(corner)
    for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"):
        del header[key]
    header.update({"CRPIX1": center[0] + 1 + offset, "CRPIX2": center[1] + 1, "CRVAL1": 0, "CRVAL2": 0})
    time = simulated.reference_times[1]
    t_rec, t_obs = time.isot[:19] + "Z", time.isot[:22] + "Z"
    # A table tells the rotation of the camera, the header that of the spacecraft.
    roll = np.degrees(np.arctan2(*[simulated.reference(1)[1][key] for key in ("PC2_1", "PC1_1")]))
    header.update({"T_REC": t_rec, "T_OBS": t_obs, "SAT_ROT": 0.0, "CROTA2": roll})
    stream = io.BytesIO()
    fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(whole, header, quantize_level=0.0, compression_type="GZIP_2")]
    ).writeto(stream, checksum=True)
    table = {"T_START": (time - 1 * u.h).isot[:19] + "Z", "T_STOP": (time + 2 * u.h).isot[:19] + "Z"}
    values = {"X0": center[0], "Y0": center[1], "IMSCALE": header["CDELT1"], "INSTROT": roll}
    table |= {f"A_304_{key}": repr(float(value)) for key, value in values.items()}
    return Record(t_rec, t_obs, "0x00000000", stream.getvalue()), table


@pytest.mark.slow
def test_references_are_pointed_by_the_table(network, small_flight, monkeypatch, tmp_path):
    """The header's error of 12 arcsec is in neither the cube nor its AIA images, and both say so."""
    pytest.importorskip("aiapy")
    _, jsoc, flight = network
    monkeypatch.setenv("JSOC_EMAIL", EMAIL)
    record, row = full_disk_record(small_flight.simulated, 20)
    jsoc.records, jsoc.tables["aia.master_pointing3h"] = [record], [row]
    options = ["--flight", flight, "--no-vignetting", "--no-normalize"]
    result = run("level3", "--fetch", "f1", *options, "--folder", tmp_path / "f1", "-o", tmp_path / "l3.fits")
    assert result.exit_code == 0, result.output
    cube = ESISLevel3Cube.read(tmp_path / "l3.fits")
    assert "pointing table of AIA" in cube.reference
    aia = cube.context(path=tmp_path / "f1" / "reference")
    assert aia.pointing_source == "pointing table of AIA"
    reference = small_flight.maps[1]
    local = coalign(small_flight.level1, reference).final
    for fetched, by_hand in zip(cube.alignment.flat, local.flat, strict=True):
        one, two = (alignment.to_gwcs().pixel_to_world(1500.0 / 5, 520.0 / 5) for alignment in (fetched, by_hand))
        assert abs(one.Tx - two.Tx) < 0.05 * u.arcsec
        assert abs(one.Ty - two.Ty) < 0.05 * u.arcsec
    expected = cube.context(reference)
    good = ~expected.mask & cube.clean_region()
    assert np.corrcoef(aia.data[good], expected.data[good])[0, 1] > 0.999


def test_fetch_of_the_command_line(network, tmp_path):
    _, _, flight = network
    for arguments, message in (
        (["--fetch", "f2"], "got flight 'f2', expected f1 (ESIS_1)"),
        (["--fetch", "f2", "--flight", flight], "got flight 'f2', expected ESIS_1_small or f1"),
        (["--fetch", "f1", flight], "and --fetch f1, expected one of the two"),
        ([], "got neither PATHS nor --fetch"),
        ([flight, "--vso"], "got --folder or --vso without --fetch"),
    ):
        result = run("level3", *arguments, "-o", tmp_path / "l3.fits")
        assert result.exit_code == 1
        assert message in result.output


def test_images_of_a_context(network, simulated, monkeypatch, tmp_path):
    from helpers import make_cube

    monkeypatch.setenv("JSOC_EMAIL", EMAIL)
    cube = make_cube((2, 1, 30, 34))
    maps = [sunpy.map.Map(*simulated.reference(0))]
    context = cube.context(maps)
    files = context.write_images(tmp_path / "images", label="AIA 304")
    assert [path.name for path in files] == ["AIA_304_00109.fits", "AIA_304_00110.fits"]
    one = sunpy.map.Map(files[1])
    np.testing.assert_array_equal(one.data, context.data[1])
    assert (one.meta["label"], one.meta["instrume"], one.wavelength) == ("AIA 304", "AIA", 304 * u.AA)
    assert one.exposure_time == maps[0].exposure_time
    assert abs((Time(one.meta["date-img"]) - maps[0].reference_date).to_value(u.s)) < 1e-6
    assert abs((one.reference_date - cube.time[1]).to_value(u.s)) < 1e-6
    corner, expected = one.pixel_to_world(0 * u.pix, 0 * u.pix), context[1].wcs.pixel_to_world(0, 0)
    assert abs(corner.Tx - expected.Tx) < 1e-6 * u.arcsec
    assert abs(corner.Ty - expected.Ty) < 1e-6 * u.arcsec
    with pytest.raises(FileExistsError, match="exists"):
        context.write_images(tmp_path / "images", label="AIA 304")
    assert len(context[0].write_images(tmp_path / "images", label="AIA 304", overwrite=True)) == 1
    with pytest.raises(ValueError, match="expected whole images"):
        context[0, 3:4, 2].write_images(tmp_path)


def test_context_of_a_query(network, simulated, monkeypatch, tmp_path):
    """Gaps of a query are gaps of the cube, and a query without any image is an error."""
    from helpers import make_cube

    monkeypatch.setenv("JSOC_EMAIL", EMAIL)
    cube = make_cube((2, 1, 30, 34))
    assert nearest_images(cube, "AIA 304") == a.esis.Exposures(cube.time) & a.esis.Context.aia_304
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="no usable image of aia_304 near any"):
            cube.context(max_gap=1 * u.ms, path=tmp_path)
        with pytest.raises(ValueError, match="got 'AIA 305'"):
            cube.context("AIA 305")
        with pytest.raises(ValueError, match="got 'HMI velocity'"):
            cube.context("HMI velocity")
