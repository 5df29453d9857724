"""Images from the Virtual Solar Observatory, by sunpy's own client; only its SOAP service is a stand-in."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from jsoc_server import JsocServer, aia_records

import astropy.units as u
from astropy.time import Time
from sunpy.net import Fido, vso
from sunpy.net import attrs as a

import esis_ndcube.net
from esis_ndcube.net import ArchiveError, RetryPolicy

pytestmark = pytest.mark.usefixtures("closed_loops")

EXPOSURES = Time("2019-09-30T18:06:06.642") + 10 * np.arange(6) * u.s
QUICK = RetryPolicy(tries=2, pause=0 * u.s, timeout=2 * u.s)


class Soap(dict):
    """An answer of the service, with keys as attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class Api:
    """The VSO's service: what it is asked, and what it answers of the records of a server."""

    def __init__(self, server):
        self.server, self.service, self.queries, self.failures = server, self, [], 0

    def set_ns_prefix(self, *args):
        pass

    def get_type(self, name):
        if name == "VSO:QueryRequestBlock":
            return lambda: defaultdict(lambda: None)
        return lambda *args, **kwargs: args[0] if args else Soap(kwargs)

    def Query(self, request):
        self.queries.append(request["block"])
        if self.failures:
            self.failures -= 1
            msg = "no route to the VSO"
            raise ConnectionError(msg)
        items = [
            Soap(
                provider="JSOC", source="SDO", instrument="AIA", physobs="intensity", size=66200.0,
                fileid=f"aia__lev1:304:{index}", extent=None,
                time=Soap(start=record.t_rec[:19].replace("-", "").replace("T", "").replace(":", ""), end=None),
                wave=Soap(wavemin="304", wavemax="304", waveunit="Angstrom", wavetype="NARROW"),
            )
            for index, record in enumerate(self.server.records)
        ]  # fmt: skip
        answer = Soap(provider="JSOC", record=Soap(recorditem=items), error=None)

        class Response(list):
            provideritem = [answer]

        return Response([answer])

    def GetData(self, request):
        (wanted,) = request["request"]["datacontainer"]["datarequestitem"]
        items = []
        for name in wanted["fileiditem"]["fileid"]:
            self.server.files[name] = self.server.records[int(name.split(":")[-1])].content
            items.append(Soap(url=self.server.url + name, fileiditem=Soap(fileid=[name])))
        method = Soap(methodtype=["URL-FILE_Rice"])
        item = Soap(status=None, getdataitem=Soap(dataitem=items), method=method, provider="JSOC")
        return Soap(getdataresponseitem=[item])


@pytest.fixture
def network(monkeypatch):
    import drms

    monkeypatch.setattr(esis_ndcube.net.ESISContextClient, "policy", QUICK)
    monkeypatch.delenv("JSOC_EMAIL", raising=False)
    with JsocServer(aia_records("2019-09-30T18:05:06", 20)) as server:
        monkeypatch.setitem(drms.config._server_configs, "jsoc", server.config())
        api = Api(server)
        monkeypatch.setattr(vso.VSOClient, "__init__", lambda self: setattr(self, "api", api))
        yield server, api


def fetch(path):
    result = Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context.aia_304)
    return result, Fido.fetch(result, path=path, progress=False, provider="vso")


def test_without_address(network, tmp_path):
    server, api = network
    result, files = fetch(tmp_path)
    by_name = {record.t_rec: record.content for record in server.records}
    assert [Path(file).read_bytes() for file in files] == [by_name[n] for n in dict.fromkeys(result[0]["Record"])]
    assert server.count("export") == server.count("address") == 0
    (query,) = api.queries
    assert (query["instrument"], query["source"], query["wave"]["wavemin"]) == ("AIA", "SDO", 304)
    assert server.most_at_a_time == 1
    # The names are those of JSOC, so that the cache serves both.
    assert list(Fido.fetch(result, path=tmp_path, progress=False)) == list(files)


def test_faults(network, tmp_path):
    server, api = network
    api.failures = 1
    server.faults["file"] = ["500"]
    _, files = fetch(tmp_path / "one")
    assert len(files) == 5
    api.failures = 2
    with pytest.raises(ArchiveError, match=r"the search for SDO/AIA 304 .* at the VSO failed 2 times.*no route"):
        fetch(tmp_path / "two")


def test_images_that_the_vso_lacks_are_named(network, tmp_path):
    server, _ = network
    result = Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context.aia_304)
    gone = result[0]["Record"][2]
    server.records = [record for record in server.records if record.t_rec != gone]
    with pytest.raises(ArchiveError, match=rf"1 of 5 files are not offered.*{gone.replace(':', '')}"):
        Fido.fetch(result, path=tmp_path, progress=False, provider="vso")
