"""The effects of importing the package, in an interpreter that has not done so yet."""

import json
import subprocess
import sys

import pytest
from helpers import make_cube

# One interpreter for all tests, because each takes seconds to import what we need.
SCRIPT = """
import contextlib, io, json, socket, sys, warnings

class NoSocket(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")

def kind():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return type(sunpy.map.Map(sys.argv[1])).__name__

usual, socket.socket, said, result = socket.socket, NoSocket, io.StringIO(), {}
with contextlib.redirect_stderr(said):
    import ndcube, sunpy.map
    before = set(sys.modules)
    result["map before"] = kind()
    import esis_ndcube
result |= {"new": sorted(set(sys.modules) - before), "map": kind(), "said": said.getvalue()}
socket.socket = usual
assert not any(name.startswith("sunpy.net") for name in sys.modules)

import astropy.units as u
from sunpy.net import Fido, attrs as a

time, wave = a.Time("2019-09-30T18:00", "2019-09-30T18:20"), a.Wavelength(304 * u.AA)
names = ("AIA", "HMI", "EIT", "LASCO", "XRT", "EVE", "GOES", "LYRA", "NoRH", "RHESSI", "GBM", "SUVI", "SWAP",
         "GONG", "IRIS", "EIS", "SECCHI", "NOAA-Indices", "SRS-Table", "HEK")
queries = [(time, a.Instrument(name)) for name in names]
queries += [(time, a.Instrument(name), wave) for name in names[:12]]
queries += [(time, a.Instrument(name), a.Level(level)) for name in names[:4] for level in (0, 1, 2)]
queries += [(time, a.jsoc.Series("aia.lev1_euv_12s")), (time, a.jsoc.Series("hmi.M_45s"), a.jsoc.Notify("a@b.c"))]
queries += [(time,), (time, wave), (time, a.Level(0)), (time, a.Physobs("intensity")), (time, a.Source("SDO"))]
queries += [(time, a.Provider("JSOC"), a.Sample(12 * u.s))]

def chosen():
    result = []
    for query in queries:
        try:
            result.append(sorted(client.__name__ for client in Fido._check_registered_widgets(*query)))
        except Exception as error:
            result.append(type(error).__name__)
    return result

result["queries before"] = chosen()
import esis_ndcube.net
result["queries"] = chosen()
ours = (a.esis.Flight.f1, a.Level(0)), (a.esis.Flight.f1, a.esis.Context.aia_304)
result["ours"] = [[client.__name__ for client in Fido._check_registered_widgets(*query)] for query in ours]
print(json.dumps(result))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The output of the interpreter."""
    path = tmp_path_factory.mktemp("import") / "image.fits"
    make_cube((1, 1, 5, 6))[0, 0].to_map().save(path)
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_is_cheap_and_silent(imported):
    """Modules that are slow to import, or of use to few, wait until they are used."""
    assert not imported["said"]
    new = imported["new"]
    assert "esis_ndcube.level3.form" in new
    heavy = ("numba", "llvmlite", "astroscrappy", "sunpy.net", "aiapy", "distributed", "click", "drms", "asdf")
    assert not [name for name in new if name.startswith(heavy)]
    late = ("esis_ndcube.cli", "esis_ndcube.simulate.demo", "esis_ndcube.simulate")
    assert not [name for name in new if name.startswith(late)]


def test_import_of_the_package_alone_makes_maps_ours(imported):
    assert (imported["map before"], imported["map"]) == ("GenericMap", "ESISMap")


def test_ordinary_queries_go_where_they_went(imported):
    before = imported["queries before"]
    assert len(before) >= 50
    assert before == imported["queries"]
    assert sum(bool(clients) for clients in before) == len(before)
    # Queries of ours are nobody else's.
    assert imported["ours"] == [["ESISFlightClient"], ["ESISContextClient"]]
