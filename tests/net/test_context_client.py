"""Images nearest to exposures, through the real Fido, drms and parfive, from a real server with faults on demand."""

import dataclasses
import socket
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import daily
from jsoc_server import (
    EMAIL,
    FAULTS_OF_ANSWERS,
    FAULTS_OF_EXPORTS,
    FAULTS_OF_FILES,
    JsocServer,
    Record,
    aia_content,
    aia_records,
    check_errors,
)

import astropy.units as u
import sunpy.map
from astropy.time import Time
from sunpy.net import Fido
from sunpy.net import attrs as a
from sunpy.time import parse_time
from sunpy.util.exceptions import SunpyUserWarning

import esis_ndcube.net
from esis_ndcube.net import ArchiveError, ESISContextClient, RetryPolicy

pytestmark = pytest.mark.usefixtures("closed_loops")

START = "2019-09-30T18:05:06"
FIRST = Time("2019-09-30T18:06:06.642")
EXPOSURES = FIRST + 10 * np.arange(28) * u.s
FEW = EXPOSURES[:7]
QUICK = RetryPolicy(tries=3, pause=0 * u.s, timeout=2 * u.s, poll=0.01 * u.s, patience=5 * u.s)


@pytest.fixture(scope="module")
def records():
    return aia_records(START, 40)


@pytest.fixture
def serve(monkeypatch):
    """Start a JSOC and let drms find it."""
    running = []

    def start(records, **kwargs):
        import drms

        server = JsocServer(records, **kwargs).__enter__()
        running.append(server)
        monkeypatch.setitem(drms.config._server_configs, "jsoc", server.config())
        return server

    monkeypatch.setattr(ESISContextClient, "policy", QUICK)
    monkeypatch.delenv("JSOC_EMAIL", raising=False)
    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def impatient(serve, monkeypatch):
    """Give up soon what a server stalls at."""
    monkeypatch.setattr(ESISContextClient, "policy", dataclasses.replace(QUICK, timeout=0.5 * u.s))
    before = socket.getdefaulttimeout()
    # The policy of drms, which has no setting of its own.
    socket.setdefaulttimeout(0.5)
    yield
    socket.setdefaulttimeout(before)


def search(*extra, times=EXPOSURES):
    return Fido.search(a.esis.Exposures(times), a.esis.Context.aia_304, *extra)


def fetch(result, path, **kwargs):
    return Fido.fetch(result, path=path, progress=False, **kwargs)


def nearest_by_hand(records, times):
    """Index of the record nearest to each time."""
    observed = Time([record.t_obs.rstrip("Z") for record in records if int(record.quality, 0) == 0])
    there, wanted = ((stamps - FIRST).sec.tolist() for stamps in (observed, times))
    return [min(range(len(there)), key=lambda index: abs(there[index] - second)) for second in wanted]


def check_files(files, records, times=EXPOSURES):
    """The files are those of the nearest good records, byte for byte."""
    good = [record for record in records if int(record.quality, 0) == 0]
    wanted = [good[index] for index in dict.fromkeys(nearest_by_hand(records, times))]
    assert not files.errors
    assert [Path(file).read_bytes() for file in files] == [record.content for record in wanted]


@pytest.mark.slow
def test_counts(serve, records, tmp_path):
    """28 exposures at 10 s against 12 s: few requests, one export, each file once, and none again."""
    server = serve(records, polls=2)
    # Some take their time, so that others would be seen beside them.
    server.faults["file"] = ["late"] * 3
    result = search(a.jsoc.Notify(EMAIL))
    assert len(server.requests) <= 2
    (table,) = result
    assert len(table) == 28
    by_hand = nearest_by_hand(records, EXPOSURES)
    observed = Time([record.t_obs.rstrip("Z") for record in records])[by_hand]
    np.testing.assert_allclose(table["Delta t"].unmasked.to_value(u.s), (observed - EXPOSURES).sec, atol=1e-6)
    assert abs((table["Exposure"] - EXPOSURES).sec).max() < 1e-6
    assert not table["Gap"].any()
    files = fetch(result, tmp_path)
    assert 21 <= len(files) <= 24
    check_files(files, records)
    assert server.count("export") == 1
    assert server.count("address") == 1
    assert list(server.downloads().values()) == [1] * len(files)
    assert server.most_at_a_time == 1
    # Nothing is left but the files.
    assert len(list(tmp_path.iterdir())) == len(files)
    before = len(server.requests)
    assert list(fetch(result, tmp_path)) == list(files)
    assert len(server.requests) == before
    # A part of the result is a part of the files.
    check_files(fetch(result[0][3:5], tmp_path), records, EXPOSURES[3:5])
    assert list(fetch(result[0][0], tmp_path)) == [files[0]]
    sunpy.map.Map(files[0])


@pytest.mark.slow
def test_order_of_answers_does_not_matter(serve, records, tmp_path):
    serve(records, shuffled=True)
    check_files(fetch(search(a.jsoc.Notify(EMAIL)), tmp_path), records)


@pytest.mark.slow
def test_bad_quality_and_gaps(serve, tmp_path):
    records = aia_records(START, 40, gap=range(12, 17), bad=(7, 25))
    serve(records)
    with pytest.warns(SunpyUserWarning, match=r"exposures have no usable image.*2 of bad quality.* within 18 s"):
        (table,) = search(a.jsoc.Notify(EMAIL))
    good = [record for record in records if int(record.quality, 0) == 0]
    observed = Time([record.t_obs.rstrip("Z") for record in good])[nearest_by_hand(records, EXPOSURES)]
    apart = abs((observed - EXPOSURES).sec)
    np.testing.assert_array_equal(table["Gap"], apart > 18)
    assert 0 < table["Gap"].sum() < 28
    np.testing.assert_array_equal(table["Delta t"].mask, table["Gap"])
    np.testing.assert_array_equal(table["Time"].mask, table["Gap"])
    files = fetch(table, tmp_path)
    check_files(files, records, EXPOSURES[~table["Gap"]])
    with pytest.warns(SunpyUserWarning, match="have no usable image"):
        (narrow,) = search(a.esis.MaxGap(2 * u.s))
    assert narrow["Gap"].sum() == (apart > 2).sum()
    (wide,) = search(a.esis.MaxGap(1 * u.min))
    assert not wide["Gap"].any()
    assert "Delta t" in "\n".join(table.pformat(max_width=-1))


def test_nothing_there(serve, tmp_path):
    server = serve([])
    with pytest.warns(SunpyUserWarning, match="28 of 28 exposures have no usable image"):
        result = search()
    assert len(result[0]) == 28
    assert result[0]["Gap"].all()
    assert len(fetch(result, tmp_path)) == 0
    assert server.count("export") == 0


@pytest.mark.slow
def test_records_without_image(serve):
    records = aia_records(START, 40)
    records[8].t_obs = "-4712-01-01T11:59:28Z"
    records[9].quality = "MISSING"
    serve(records)
    (table,) = search(a.esis.MaxGap(30 * u.s))
    names = {record.t_rec for record in (records[8], records[9])}
    assert not names & set(table["Record"])


def test_series_in_atomic_time(serve, tmp_path):
    """HMI names its records by TAI, without a wavelength."""
    records = []
    for record in aia_records("2019-09-30T18:04:53", 12, cadence=45 * u.s):
        times = [Time(text.rstrip("Z"), scale="utc").tai for text in (record.t_rec, record.t_obs)]
        t_rec, t_obs = (
            time.strftime("%Y.%m.%d_%H:%M:%S.%f")[:length] for time, length in zip(times, (19, 23), strict=True)
        )
        content = aia_content(t_rec + "_TAI", t_obs + "_TAI", wavelength=None)
        records.append(Record(t_rec + "_TAI", t_obs + "_TAI", "0x00000000", content, None))
    serve(records, shuffled=True)
    result = Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context.hmi_los, a.jsoc.Notify(EMAIL))
    files = fetch(result, tmp_path)
    observed = Time([parse_time(record.t_obs).utc.isot for record in records])
    wanted = dict.fromkeys(int(np.abs((observed - time).sec).argmin()) for time in EXPOSURES)
    assert [Path(file).read_bytes() for file in files] == [records[index].content for index in wanted]
    assert len(wanted) > 5
    assert all(Path(file).name.startswith("hmi.M_45s.2019") for file in files)


def test_times_of_the_flight(serve, records):
    serve(records)
    (table,) = Fido.search(a.esis.Flight.f1, a.esis.Context.aia_304)
    assert len(table) == 30
    assert abs((table["Exposure"][15] - Time("2019-09-30T18:08:36.642")).sec) < 1e-6


@pytest.mark.slow
def test_address(serve, records, tmp_path, monkeypatch):
    server = serve(records)
    result = search()
    with pytest.raises(ValueError, match=r"got none: register at http://jsoc\S+, then add a\.jsoc\.Notify"):
        fetch(result, tmp_path)
    assert server.count("export") == 0
    with pytest.raises(ValueError, match=r"does not know the e-mail address who@example\.org: register it at http"):
        fetch(search(a.jsoc.Notify("who@example.org")), tmp_path)
    assert server.count("export") == 0
    monkeypatch.setenv("JSOC_EMAIL", EMAIL)
    check_files(fetch(result, tmp_path), records)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", daily(*FAULTS_OF_ANSWERS))
def test_answers_that_fail_once_are_asked_for_again(serve, records, tmp_path, fault):
    server = serve(records, polls=1)
    for place in ("search", "address", "export", "status"):
        server.faults[place] = [fault]
    check_files(fetch(search(a.jsoc.Notify(EMAIL), times=FEW), tmp_path), records, FEW)
    assert not any(server.faults.values())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", daily(*FAULTS_OF_FILES))
def test_files_that_fail_once_are_fetched_again(serve, records, tmp_path, fault):
    server = serve(records)
    server.faults["file"] = [None, None, fault]
    check_files(fetch(search(a.jsoc.Notify(EMAIL), times=FEW), tmp_path), records, FEW)
    assert sum(count - 1 for count in server.downloads().values()) == (fault != "late")
    assert server.count("export") == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", daily(*(fault for fault in FAULTS_OF_FILES if fault != "late")))
def test_files_that_always_fail_are_named(serve, records, tmp_path, fault):
    server = serve(records)
    result = search(a.jsoc.Notify(EMAIL), times=EXPOSURES[:6])
    # One file, so that the fault is always its own.
    # aiohttp asks a second time where a connection was closed.
    server.faults["file"] = [fault] * 6
    server.files["other"] = records[30].content
    single = result[0][:1]
    check_errors(fetch(single, tmp_path), " after 3 tries$")
    assert not list(tmp_path.iterdir())


def test_what_could_be_had_is_kept(serve, records, tmp_path):
    server = serve(records)
    result = search(a.jsoc.Notify(EMAIL), times=FEW)
    count = len(set(result[0]["Record"]))
    server.faults["file"] = [None] * (count - 2) + ["500"] * 6
    files = fetch(result, tmp_path)
    check_errors(files, "HTTP status 500 after 3 tries", count=2)
    assert sorted(map(str, tmp_path.iterdir())) == sorted(files)
    assert len(files) == count - 2
    before = server.count("file")
    check_files(fetch(result, tmp_path), records, FEW)
    assert server.count("file") == before + 2
    # The first export still has them.
    assert server.count("export") == 1


def test_damaged_files_of_the_cache_are_fetched_again(serve, records, tmp_path):
    server = serve(records)
    result = search(a.jsoc.Notify(EMAIL), times=FEW)
    files = fetch(result, tmp_path)
    content = bytearray(Path(files[1]).read_bytes())
    content[-1000] ^= 4
    Path(files[1]).write_bytes(content)
    Path(files[3]).write_bytes(Path(files[4]).read_bytes())
    before = server.count("file")
    check_files(fetch(result, tmp_path), records, FEW)
    assert server.count("file") == before + 2


@pytest.mark.parametrize("lacking", [{"checksum": False}, {"wavelength": None}])
@pytest.mark.slow
def test_files_without_checksum_or_keyword_are_reported(serve, tmp_path, lacking):
    records = aia_records(START, 40, **lacking)
    server = serve(records)
    result = search(a.jsoc.Notify(EMAIL), times=EXPOSURES[:4])
    with pytest.warns(SunpyUserWarning, match=r"unverified, because they lack checksums or keywords.*\.fits"):
        check_files(fetch(result, tmp_path / "whole"), records, EXPOSURES[:4])
    # A wrong length is still seen.
    server.faults["file"] = ["short, no length", "short"]
    with pytest.warns(SunpyUserWarning, match="unverified"):
        check_files(fetch(result, tmp_path / "cut"), records, EXPOSURES[:4])


@pytest.mark.parametrize("fault", daily(*FAULTS_OF_EXPORTS))
def test_exports_that_are_refused(serve, records, tmp_path, fault):
    server = serve(records, polls=1)
    server.faults["export"] = [fault]
    check_files(fetch(search(a.jsoc.Notify(EMAIL), times=FEW), tmp_path / "once"), records, FEW)
    server.faults["export"] = [fault] * 3
    if fault == "status 6":
        # Not found yet: it is found when asked for.
        check_files(fetch(search(a.jsoc.Notify(EMAIL), times=FEW), tmp_path / "always"), records, FEW)
        return
    refusal = rf"refused with {fault[7:]} \[{fault.replace(' ', '=')}\]"
    match = f"the export of 6 images of SDO/AIA 304 .* failed 3 times.*{refusal}"
    check_errors(fetch(search(a.jsoc.Notify(EMAIL), times=FEW), tmp_path / "always"), match, count=6)


@pytest.mark.parametrize("fault", daily(*FAULTS_OF_EXPORTS))
def test_exports_that_fail(serve, records, tmp_path, fault):
    server = serve(records, polls=1)
    result = search(a.jsoc.Notify(EMAIL), times=FEW)
    server.faults["status"] = [fault] * (20 if fault == "status 6" else 1)
    failure = "does not know request" if fault == "status 6" else rf"refused \[{fault.replace(' ', '=')}\]"
    check_errors(fetch(result, tmp_path), f"the export of 6 images .* failed.*{failure}", count=6)
    server.faults["status"].clear()
    check_files(fetch(result, tmp_path), records, FEW)


def test_request_that_is_not_ready_is_asked_for_again(serve, records, tmp_path, monkeypatch):
    server = serve(records, polls=10**6)
    result = search(a.jsoc.Notify(EMAIL), times=FEW)
    monkeypatch.setattr(
        ESISContextClient, "policy", RetryPolicy(tries=2, pause=0 * u.s, poll=0.01 * u.s, patience=0.1 * u.s)
    )
    match = r"not ready after \d+ s: fetch the same result again.* JSOC_20190930_334"
    check_errors(fetch(result, tmp_path), match, count=6)
    next(iter(server.exports.values()))[0] = 1
    check_files(fetch(result, tmp_path), records, FEW)
    assert server.count("export") == 1


def test_request_that_has_expired_is_made_again(serve, records, tmp_path):
    server = serve(records)
    result = search(a.jsoc.Notify(EMAIL), times=FEW)
    result[0].requests = {" ".join(["aia_304", *sorted(set(result[0]["Record"]))]): "JSOC_20180101_001"}
    check_files(fetch(result, tmp_path), records, FEW)
    assert server.count("export") == 1


def test_records_that_are_not_exported_are_named(serve, records, tmp_path):
    server = serve(records)
    result = search(a.jsoc.Notify(EMAIL), times=FEW)
    gone = result[0]["Record"][4]
    server.records = [record for record in records if record.t_rec != gone]
    files = fetch(result, tmp_path)
    check_errors(files, "is not offered for download by JSOC")
    assert gone.replace(":", "") in str(files.errors[0].exception)
    assert len(files) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("place", daily("search", "address", "export", "status", "file"))
def test_server_that_stops_answering(serve, records, tmp_path, place):
    server = serve(records, polls=1)
    server.faults[place] = ["stall"] * 20
    if place == "search":
        with pytest.raises(ArchiveError, match=r"the search for SDO/AIA 304.* failed 3 times"):
            search(times=EXPOSURES[:1])
        return
    what = {"address": "the check of the e-mail address.* failed 3 times", "file": "Timeout.* after 3 tries"}
    files = fetch(search(a.jsoc.Notify(EMAIL), times=EXPOSURES[:1]), tmp_path)
    check_errors(files, what.get(place, "the .* failed 3 times"))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("impatient")
@pytest.mark.slow
def test_random_faults(serve, records, tmp_path):
    """Each of 20 runs ends in the complete and correct set, or in errors that say what is missing."""
    complete = sum(random_run(serve, records, tmp_path / str(seed), seed) for seed in range(20))
    # Both ends are met, or nothing would be tested.
    assert 4 <= complete <= 16


def random_run(serve, records, folder, seed):
    """Whether a run with random faults was complete; what it left is correct in any case."""
    rng = np.random.default_rng(seed)
    server = serve(records, polls=int(rng.integers(3)), shuffled=bool(rng.integers(2)))
    server.random = np.random.default_rng(seed)
    places = {
        "search": FAULTS_OF_ANSWERS,
        "address": FAULTS_OF_ANSWERS,
        "export": (*FAULTS_OF_ANSWERS, *FAULTS_OF_EXPORTS),
        "status": (*FAULTS_OF_ANSWERS, *FAULTS_OF_EXPORTS),
        "file": FAULTS_OF_FILES,
    }
    share = rng.choice([0.1, 0.3, 0.6])
    for place, faults in places.items():
        # Of those that stall only one, because it takes its time.
        faults = [fault for fault in faults if fault != "stall"]
        server.faults[place] = [str(rng.choice(faults)) if rng.random() < share else None for _ in range(60)]
    if rng.random() < 0.3:
        server.faults[str(rng.choice(list(places)))][rng.integers(2)] = "stall"
    times = EXPOSURES[: rng.integers(1, 9)]
    wanted = {record_name(records[index]): records[index] for index in nearest_by_hand(records, times)}
    folder.mkdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SunpyUserWarning)
        try:
            files = fetch(search(a.jsoc.Notify(EMAIL), times=times), folder)
        except ArchiveError:
            # An error of the search, without which nothing is known.
            assert server.count("search") >= 3, seed
            assert server.count("address") == 0, seed
            return False
    there = {path.name for path in folder.iterdir()}
    # Files without a checksum have been reported.
    unverified = " ".join(str(item.message) for item in caught)
    for name in there:
        assert name in unverified or (folder / name).read_bytes() == wanted[name].content, (seed, name)
    lacking = {str(error.exception).partition(":")[0] for error in files.errors}
    assert there == wanted.keys() - lacking, seed
    assert [Path(file).name for file in files] == [name for name in wanted if name not in lacking], seed
    return not lacking


def record_name(record):
    return f"aia.lev1_euv_12s.{record.t_rec.replace(':', '')}.304.image.fits"


def test_wrong_arguments(serve, records, tmp_path):
    server = serve(records)
    with pytest.raises(ValueError, match="got provider 'nasa', expected 'jsoc' or 'vso'"):
        fetch(search(), tmp_path, provider="nasa")
    with pytest.raises(ValueError, match="got 'aia_305', expected one of aia_94"):
        a.esis.Context("aia_305")
    with pytest.raises(ValueError, match=r"got 12\.0 arcsec, expected one time"):
        a.esis.MaxGap(12 * u.arcsec)
    with pytest.raises(ValueError, match="got inf s, expected one time"):
        a.esis.MaxGap(np.inf * u.s)
    for none in ([], Time([], format="mjd")):
        with pytest.raises(ValueError, match="got no times"):
            a.esis.Exposures(none)
    masked = EXPOSURES.copy()
    masked[3:5] = np.ma.masked
    with pytest.raises(ValueError, match="got 2 masked times among 28"):
        a.esis.Exposures(masked)
    with pytest.raises(ValueError, match=r"got exposures over 2\.0 d, expected at most 1 d"):
        search(times=EXPOSURES[:2] + [0, 2] * u.day)
    (tmp_path / "file").touch()
    check_errors(fetch(search(times=FEW), tmp_path / "file" / "below"), "NotADirectoryError", count=6)
    assert server.count("export") == 0
    with pytest.raises(ValueError, match="got overwrite='always', expected True, False or 'unique'"):
        fetch(search(), tmp_path, overwrite="always")
    for key in ("nokey", "", "gap.no", "time.value:d"):
        with pytest.raises(ValueError, match=r"got .* in the pattern .*, expected names out of exposure, time"):
            fetch(search(), tmp_path / f"{{{key}}}" / "{file}")
    with pytest.raises(ValueError, match=r"got flight 'f9', expected f1 \(ESIS_1\)"):
        a.esis.Flight("f9")


def test_queries_that_can_not_be_answered(serve, records):
    """Nobody else knows our attributes, and Fido would only say that nobody understands the query."""
    server = serve(records)
    exposures, context = a.esis.Exposures(FEW), a.esis.Context.aia_304
    for query, given in (
        ([context], "Context"),
        ([exposures], "Exposures"),
        ([exposures, a.esis.Flight.f1, context], "Exposures, Flight, Context"),
        ([a.esis.Flight.f1, a.Level(0), context], "Flight, Level, Context"),
        ([exposures, context, a.Instrument("AIA")], "Exposures, Context, Instrument"),
    ):
        with pytest.raises(ValueError, match=f"got a query with {given}, expected a.esis.Context and either"):
            Fido.search(*query)
    for query, given in (
        ([a.esis.Flight.f1], "Flight"),
        ([a.esis.Flight.f1, a.Level(0), a.Instrument("ESIS")], "Flight, Level, Instrument"),
    ):
        with pytest.raises(ValueError, match=f"got a query with {given}, expected a.esis.Flight and a.Level"):
            Fido.search(*query)
    assert not server.requests


@pytest.mark.flight_data
def test_real_file_of_jsoc(serve, flight_data, tmp_path):
    """Its names and checksums are as expected: nothing is reported as unverified, and a flipped bit is seen."""
    content = (flight_data / "aia" / "aia_171_cutout.fits").read_bytes()
    observed = sunpy.map.Map(flight_data / "aia" / "aia_171_cutout.fits").meta["t_obs"]
    server = serve([Record("2013-03-10T12:00:01Z", f"{observed}Z", "0x00000000", content, 171)])
    server.faults["file"] = ["flip"]
    near = a.esis.Exposures(Time(observed) + [-4, 3] * u.s)
    result = Fido.search(near, a.esis.Context("AIA 171"), a.jsoc.Notify(EMAIL))
    (file,) = fetch(result, tmp_path)
    assert Path(file).read_bytes() == content
    assert server.count("file") == 2


def test_exposures_in_any_order(serve, records, tmp_path):
    serve(records)
    order = [5, 0, 3, 0]
    (table,) = search(a.jsoc.Notify(EMAIL), times=EXPOSURES[order])
    assert table["Record"].tolist() == [records[i].t_rec for i in nearest_by_hand(records, EXPOSURES[order])]
    check_files(fetch(table, tmp_path), records, EXPOSURES[order])
    # Two choices are two results.
    either = a.esis.Exposures(FEW[:2]) | a.esis.Exposures(FEW)
    assert [len(part) for part in Fido.search(either, a.esis.Context.aia_304)] == [2, 7]


@pytest.mark.slow
def test_fetches_at_the_same_time(serve, records, tmp_path):
    """Files that two sessions fetch into one folder are whole."""
    serve(records)
    result = search(a.jsoc.Notify(EMAIL), times=FEW)
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(ESISContextClient().fetch, result[0], path=tmp_path, progress=False) for _ in range(4)]
    for task in tasks:
        check_files(task.result(), records, FEW)
    assert len(list(tmp_path.iterdir())) == len(tasks[0].result())


def test_attributes():
    one, two = a.esis.Exposures(EXPOSURES), a.esis.Exposures(EXPOSURES.tai)
    assert one == two
    assert hash(one) == hash(two)
    assert one != a.esis.Exposures(EXPOSURES[1:])
    assert abs((one.times - EXPOSURES).sec).max() < 1e-8
    assert a.esis.Flight.f1 == a.esis.Flight.esis_1 == a.esis.Flight(esis_ndcube.ESIS_1)
    assert {"aia_304", "hmi_los", "hmi_continuum", "aia_94", "aia_4500"} <= set(dir(a.esis.Context))
    assert "f1" in dir(a.esis.Flight)
    for name in ("AIA 304", "aia304", "AIA-304"):
        assert a.esis.Context(name) == a.esis.Context.aia_304
    assert a.esis.Flight("ESIS 1") == a.esis.Flight.f1
    assert "ESIS_1" in str(a.esis.Flight)
    for client in (ESISContextClient(), esis_ndcube.net.ESISFlightClient()):
        assert type(client).__name__ in str(client)
