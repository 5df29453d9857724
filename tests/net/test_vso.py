"""Images from the Virtual Solar Observatory, through the real Fido, sunpy's own client and zeep, from a real server."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import vso_server
from helpers import daily
from jsoc_server import FAULTS_OF_ANSWERS, aia_records, check_errors

import astropy.units as u
from astropy.time import Time
from sunpy.net import Fido
from sunpy.net import attrs as a
from sunpy.net.vso import vso

import esis_ndcube.net
from esis_ndcube.net import RetryPolicy

pytestmark = [
    pytest.mark.usefixtures("closed_loops"),
    # The words of sunpy for a mirror of the VSO that does not answer.
    pytest.mark.filterwarnings("ignore:Connection to http"),
]

EXPOSURES = Time("2019-09-30T18:06:06.642") + 10 * np.arange(6) * u.s
QUICK = RetryPolicy(tries=3, pause=0 * u.s, timeout=0.5 * u.s)


@pytest.fixture
def server(monkeypatch):
    import drms

    monkeypatch.setattr(esis_ndcube.net.ESISContextClient, "policy", QUICK)
    monkeypatch.delenv("JSOC_EMAIL", raising=False)
    with vso_server.VsoServer(aia_records("2019-09-30T18:05:06", 20), shuffled=True) as server:
        monkeypatch.setitem(drms.config._server_configs, "jsoc", server.config())
        monkeypatch.setattr(vso, "DEFAULT_URL_PORT", server.mirrors())
        yield server


def fetch(path, **kwargs):
    result = Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context.aia_304)
    return result, Fido.fetch(result, path=path, progress=False, provider="vso", **kwargs)


def check_files(server, result, files):
    by_name = {record.t_rec: record.content for record in server.records}
    assert [Path(file).read_bytes() for file in files] == [by_name[n] for n in dict.fromkeys(result[0]["Record"])]


@pytest.mark.slow
def test_without_address(server, tmp_path):
    # Some take their time, so that others would be seen beside them.
    server.faults["file"] = ["late"] * 3
    result, files = fetch(tmp_path)
    check_files(server, result, files)
    assert server.count("export") == server.count("address") == 0
    assert server.count("query") == server.count("data") == 1
    assert set(server.downloads().values()) == {1}
    assert server.most_at_a_time == 1
    # The names are those of JSOC, so that the cache serves both.
    before = len(server.requests)
    assert list(Fido.fetch(result, path=tmp_path, progress=False)) == list(files)
    assert len(server.requests) == before


@pytest.mark.slow
def test_mirror(server, tmp_path):
    check_files(server, *fetch(tmp_path, site="NSO"))
    assert server.site == "NSO"
    fetch(tmp_path, overwrite=True)
    assert server.site is None


@pytest.mark.slow
@pytest.mark.parametrize("fault", daily(*FAULTS_OF_ANSWERS))
@pytest.mark.parametrize("place", ["query", "data"])
def test_answers_that_fail_once_are_asked_for_again(server, tmp_path, place, fault):
    server.faults[place] = [fault]
    server.faults["file"] = ["500"]
    check_files(server, *fetch(tmp_path))


@pytest.mark.parametrize("fault", daily("500", "html", "close", "cut"))
def test_service_that_can_not_be_had_once(server, tmp_path, fault):
    server.faults["wsdl"] = [fault, None, fault]
    check_files(server, *fetch(tmp_path))


@pytest.mark.slow
def test_answers_that_always_fail(server, tmp_path):
    for place, what in (
        ("wsdl", "the connection to the VSO"),
        ("query", "the search for SDO/AIA 304 .* at the VSO"),
        ("data", "the question where SDO/AIA 304 .* is at the VSO"),
    ):
        server.faults[place] = ["500"] * 20
        check_errors(fetch(tmp_path)[1], f"{what} failed 3 times", count=5)
        server.faults.clear()
    server.faults["data"] = ["501"] * 3
    check_errors(fetch(tmp_path)[1], "the question where .* failed 3 times", count=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_images_that_the_vso_lacks_are_named(server, tmp_path):
    result = Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context.aia_304)
    gone = result[0]["Record"][2]
    server.records = [record for record in server.records if record.t_rec != gone]
    files = Fido.fetch(result, path=tmp_path, progress=False, provider="vso")
    check_errors(files, "is not offered for download by VSO")
    assert gone.replace(":", "") in str(files.errors[0].exception)
    assert len(files) == len(list(tmp_path.iterdir())) == 4


def test_another_image_than_the_one_that_was_asked_for(server, tmp_path):
    """The VSO knows images by their times only; the header has the last word."""
    result = Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context.aia_304)
    index = next(i for i, record in enumerate(server.records) if record.t_rec == result[0]["Record"][2])
    server.records[index] = dataclasses.replace(server.records[index], content=server.records[0].content)
    files = Fido.fetch(result, path=tmp_path, progress=False, provider="vso")
    check_errors(files, "is another image: its T_OBS is .* after 3 tries")
    assert len(list(tmp_path.iterdir())) == 4
