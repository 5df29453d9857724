"""The public archive of a flight's reference images, from a server."""

import hashlib
import io
import tarfile
import tomllib

import pytest
import tomli_w
from click.testing import CliRunner
from jsoc_server import FileServer, aia_content
from rawframes import tiny_flight, with_archive

import astropy.units as u

from esis_ndcube import Flight, FlightError
from esis_ndcube.cli import main
from esis_ndcube.net import ArchiveError, RetryPolicy
from esis_ndcube.net.fetch import fetch_references

QUICK = RetryPolicy(tries=2, pause=0 * u.s, timeout=2 * u.s)
START = "2019-09-30T18:05:06"
IMAGES = {f"aia_{index}.fits": aia_content(START, START, value=index) for index in (1, 2)}


def pack(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def server():
    with FileServer() as server:
        server.files = {"aia.tar": pack(IMAGES)}
        yield server


def flight_at(server, **changes):
    table = tomllib.loads(with_archive(tiny_flight(), server.url, [20]).toml)
    table["archive"] |= {
        "references_url": server.url + "aia.tar",
        "references_sha256": hashlib.sha256(server.files["aia.tar"]).hexdigest(),
    } | changes
    return Flight.from_toml(tomli_w.dumps(table))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_fetches_once(server, tmp_path):
    (tmp_path / "flight.toml").write_text(flight_at(server).toml)
    folder = tmp_path / "new" / "aia"
    arguments = ["fetch", "references", "--folder", str(folder), "--flight", str(tmp_path / "flight.toml")]
    for _ in range(2):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        assert f"The images are in {folder}" in result.output
        assert contents(folder) == IMAGES
        assert server.downloads() == {"/aia.tar": 1}
    assert [path.name for path in folder.parent.iterdir()] == ["aia"]


@pytest.mark.parametrize("fault", ["404", "500", "html", "flip", "cut", "short, no length", "close"])
def test_a_fault_leaves_nothing_and_is_tried_again(server, tmp_path, fault):
    flight = flight_at(server)
    server.faults["file"] = [fault] * 2
    with pytest.raises(ArchiveError, match=r"fetching \S+aia.tar failed 2 times"):
        fetch_references(flight, tmp_path / "aia", policy=QUICK)
    assert not list(tmp_path.iterdir())
    server.faults["file"] = [fault]
    assert contents(fetch_references(flight, tmp_path / "aia", policy=QUICK)) == IMAGES


def test_the_only_folder_of_an_archive_is_left_out(server, tmp_path):
    server.files["aia.tar"] = pack({f"aia-lev1/{name}": content for name, content in IMAGES.items()})
    assert contents(fetch_references(flight_at(server), tmp_path / "aia", policy=QUICK)) == IMAGES


@pytest.mark.parametrize("name", ["../outside.fits", "a/../../outside.fits"])
def test_nothing_is_unpacked_outside(server, tmp_path, name):
    server.files["aia.tar"] = pack(IMAGES | {name: b"bad"})
    with pytest.raises(ArchiveError, match=r"cannot be unpacked: .*outside"):
        fetch_references(flight_at(server), tmp_path / "aia", policy=QUICK)
    assert not list(tmp_path.iterdir())


def test_flights_without_it_and_wrong_entries(server, tmp_path):
    with pytest.raises(ValueError, match="has no public reference images"):
        fetch_references(with_archive(tiny_flight(), server.url, [20]), tmp_path / "aia")
    (tmp_path / "aia").write_text("mine")
    with pytest.raises(FileExistsError, match="it is a file; give another name"):
        fetch_references(flight_at(server), tmp_path / "aia")
    for key, wrong in {"references_url": "ftp://example.org/aia.tar", "references_sha256": "48E5"}.items():
        with pytest.raises(FlightError, match=rf"archive\.{key}: got .*{wrong}.*, expected"):
            flight_at(server, **{key: wrong})
