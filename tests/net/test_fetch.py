"""One ``Fido.fetch`` of several clients: available files arrive, others are errors, as with sunpy's own clients."""

import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import parfive
import pytest
from jsoc_server import EMAIL, FileServer, JsocServer, aia_content, aia_records, check_errors
from rawframes import tiny_flight, with_archive

import astropy.units as u
import sunpy
from astropy.table import vstack
from astropy.time import Time, TimeDelta
from astropy.utils.metadata import MergeConflictWarning
from sunpy.net import Fido
from sunpy.net import attrs as a
from sunpy.net.dataretriever import QueryResponse
from sunpy.net.dataretriever.sources.lyra import LYRAClient

from esis_ndcube.net import ESISContextClient, ESISFlightClient, RetryPolicy
from esis_ndcube.net.paths import target_path
from esis_ndcube.net.validate import check_image

pytestmark = [pytest.mark.usefixtures("closed_loops"), pytest.mark.filterwarnings("ignore:unverified")]

QUICK = RetryPolicy(tries=2, pause=0 * u.s, timeout=2 * u.s, poll=0.01 * u.s, patience=5 * u.s)
START = "2019-09-30T18:05:06"
EXPOSURES = Time("2019-09-30T18:06:06.642") + [0, 12, 24] * u.s
GONE = "ESIS2_00020.fit.gz"


@pytest.fixture(scope="module")
def records():
    return aia_records(START, 20)


@pytest.fixture(scope="module")
def contents():
    names = [f"frames/ESIS{camera}_{frame:05}.fit.gz" for frame in (20, 21) for camera in (1, 2, 3, 4)]
    files = {name: aia_content(START, START, value=index) for index, name in enumerate(names)}
    return files | {"other/lyra.fits": b"of another client"}


@pytest.fixture
def servers(monkeypatch, records, contents):
    """A server of raw frames and another client's file, and JSOC."""
    import drms

    for client in (ESISFlightClient, ESISContextClient):
        monkeypatch.setattr(client, "policy", QUICK)
    monkeypatch.setenv("JSOC_EMAIL", EMAIL)
    with FileServer() as frames, JsocServer(records) as jsoc:
        monkeypatch.setitem(drms.config._server_configs, "jsoc", jsoc.config())
        frames.files = dict(contents)
        yield frames, jsoc


def queries(frames):
    """Results of our two clients and one of sunpy's own."""
    flight = with_archive(tiny_flight(), frames.url, [20, 21])
    raw = Fido.search(a.esis.Flight(flight), a.Level(0))[0]
    images = Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context.aia_304)[0]
    other = QueryResponse([{"url": frames.url + "other/lyra.fits"}], client=LYRAClient())
    return raw, images, other


def names(folder):
    """All files below a folder."""
    return sorted(path.name for path in Path(folder).rglob("*") if not path.is_dir())


def fetch(*results, path, **kwargs):
    return Fido.fetch(*results, path=path, progress=False, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_one_missing_file_cancels_nobody(servers, tmp_path, order):
    frames, jsoc = servers
    results = queries(frames)
    images = results[1]
    content = frames.files.pop(f"frames/{GONE}")
    lost = images["Record"][1]
    kept, jsoc.records = jsoc.records, [record for record in jsoc.records if record.t_rec != lost]
    files = fetch(*[results[index] for index in order], path=tmp_path)
    check_errors(files, "(HTTP status 404 after 2 tries|is not offered for download by JSOC)", count=2)
    assert {error.url for error in files.errors} == {f"{frames.url}frames/{GONE}", "http://jsoc.stanford.edu"}
    assert sorted(Path(file).name for file in files) == names(tmp_path)
    assert len(files) == 7 + 2 + 1
    # A second fetch of the results gets what is missing.
    frames.files[f"frames/{GONE}"], jsoc.records = content, kept
    jsoc.exports.clear()
    again = fetch(*results, path=tmp_path)
    assert not again.errors
    assert len(again) == len(names(tmp_path)) == 8 + 3 + 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, "404", "short, no length", "html"])
def test_files_are_tried_again_by_their_errors(servers, tmp_path, fault):
    """As sunpy documents it, ``Fido.fetch(files)``; what is fetched then is as whole as what was fetched before."""
    frames, _ = servers
    frames.faults["file"] = ["500"] * 2
    raw, images, _ = queries(frames)
    files = fetch(raw[:1], images[:1], path=tmp_path)
    check_errors(files, "HTTP status 500 after 2 tries")
    (image,) = files
    frames.faults["file"] = [fault] * 8
    files = fetch(files, path=tmp_path)
    if fault is None:
        assert not files.errors
        assert names(tmp_path) == sorted(["ESIS1_00020.fit.gz", Path(image).name])
        assert (tmp_path / "ESIS1_00020.fit.gz").read_bytes() == frames.files["frames/ESIS1_00020.fit.gz"]
    else:
        assert names(tmp_path) == [Path(image).name]
        check_errors(files, "after 2 tries")


def test_images_without_an_address(servers, tmp_path):
    """A page of JSOC is not taken for an image that is tried again."""
    frames, jsoc = servers
    _, images, _ = queries(frames)
    jsoc.faults["export"] = ["status 4"] * 2
    files = fetch(images, path=tmp_path)
    check_errors(files, "the export of 3 images", count=3)
    for error in files.errors:
        with pytest.raises(OSError, match="has no address yet: fetch the result of the search again"):
            error.filepath_partial(None, error.url)
    assert not names(tmp_path)
    assert len(fetch(images, path=tmp_path)) == 3


def test_server_that_refuses(servers, tmp_path):
    frames, _ = servers
    raw, images, _ = queries(frames)
    with FileServer() as closed:
        pass
    raw["URL"] = [url.replace(frames.url, closed.url) for url in raw["URL"]]
    raw["URL"][0] = "gopher://example.org/a.fits"
    files = fetch(raw, images, path=tmp_path)
    assert len(files) == len(names(tmp_path)) == 3
    texts = [str(error.exception) for error in files.errors]
    assert len(texts) == 8
    assert "URL must start with" in texts[0]
    assert all("Connect" in text for text in texts[1:])


def test_places_that_can_not_be_written(servers, tmp_path):
    frames, _ = servers
    raw, images, _ = queries(frames)
    (tmp_path / "ESIS2").touch()
    (tmp_path / "ESIS3" / "ESIS3_00020.fit.gz").mkdir(parents=True)
    files = fetch(raw, path=tmp_path / "{camera}" / "{file}")
    check_errors(files, "(NotADirectory|FileExists|IsADirectory)Error", count=3)
    assert [Path(file).parent.name for file in files] == ["ESIS1", "ESIS4", "ESIS1", "ESIS3", "ESIS4"]
    # A name longer than disks have.
    files = fetch(raw[:1], images[:1], path=tmp_path / ("{file}" * 15))
    check_errors(files, "File name too long", count=2)


def test_ways_to_say_where(servers, monkeypatch, tmp_path):
    frames, _ = servers
    raw = queries(frames)[0]
    monkeypatch.setattr(sunpy.config, "get", lambda section, key: str(tmp_path / "none"))
    for path, expected in (
        (None, "none/ESIS1_00020.fit.gz"),
        (str(tmp_path / "str"), "str/ESIS1_00020.fit.gz"),
        (tmp_path / "path", "path/ESIS1_00020.fit.gz"),
        (f"{tmp_path}/{{kind}}/{{frame:03}}_{{file}}", "light/020_ESIS1_00020.fit.gz"),
        (tmp_path / "{time.mjd:.0f}" / "{file}", f"{raw['Time'][0].mjd:.0f}/ESIS1_00020.fit.gz"),
    ):
        assert list(fetch(raw[0], path=path)) == [str(tmp_path / expected)]


@pytest.mark.slow
def test_settings_of_the_user(servers, tmp_path):
    frames, jsoc = servers
    raw, images, _ = queries(frames)
    before = fetch(raw[:2], images[:1], path=tmp_path)
    unique = fetch(raw[:2], images[:1], path=tmp_path, overwrite="unique")
    assert not unique.errors
    assert not {*unique} & {*before}
    assert [Path(file).read_bytes() for file in unique] == [Path(file).read_bytes() for file in before]
    assert len(names(tmp_path)) == 6
    assert list(fetch(raw[:2], images[:1], path=tmp_path, overwrite=True)) == list(before)
    assert frames.count("file") + jsoc.count("file") == 3 * 3
    sessions = []

    def session(config):
        sessions.append(config.headers)
        return parfive.config._default_aiohttp_session(config)

    config = parfive.SessionConfig(headers={"X-Token": "1"}, aiohttp_session_generator=session)
    downloader = parfive.Downloader(max_conn=1, progress=False, overwrite=True, config=config)
    assert list(fetch(raw[:2], images[:1], path=tmp_path, downloader=downloader)) == list(before)
    assert [headers["X-Token"] for headers in sessions] == ["1", "1"]
    assert config.headers == {"X-Token": "1"}
    assert not config.done_callbacks
    frames.most_at_a_time = 0
    frames.faults["file"] = ["late"] * 4
    ESISFlightClient().fetch(raw[:4], path=tmp_path / "one", progress=False, max_conn=1)
    assert frames.most_at_a_time == 1


def test_parts_of_a_result(servers, tmp_path):
    frames, _ = servers
    raw, images, _ = queries(frames)
    raw.sort(["Channel", "Frame"], reverse=True)
    for part in (raw[:3], raw[raw["Channel"] == 2], raw.group_by("Frame").groups[1], raw[[0, 0, 5]], raw.copy()):
        files = fetch(part, path=tmp_path)
        assert [Path(file).name for file in files] == list(dict.fromkeys(part["File"]))
    assert list(fetch(raw[:0], path=tmp_path)) == []
    for table, lacking in ((raw, "File, URL"), (images, "Gap, Context, Record")):
        with pytest.raises(ValueError, match=f"got a table without .*{lacking}, expected all columns"):
            fetch(table.show("Time"), path=tmp_path)


@pytest.mark.slow
def test_stacked_results_of_two_passbands(servers, tmp_path):
    """Their records have the same names."""
    _, jsoc = servers
    jsoc.records += aia_records(START, 20, wavelength=171, value=7)
    for record in jsoc.records[20:]:
        record.wavelength = 171
    one, two = (Fido.search(a.esis.Exposures(EXPOSURES), a.esis.Context(name))[0] for name in ("aia_304", "aia_171"))
    assert one["Record"].tolist() == two["Record"].tolist()
    with warnings.catch_warnings():
        # Of their clients, as with every stack of results.
        warnings.simplefilter("ignore", MergeConflictWarning)
        both = vstack([one, two])
    files = fetch(both, path=tmp_path)
    content = {(record.t_rec, record.wavelength): record.content for record in jsoc.records}
    wanted = [content[name, wavelength] for wavelength in (304, 171) for name in one["Record"]]
    assert [Path(file).read_bytes() for file in files] == wanted
    assert not files.errors
    assert jsoc.count("export") == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This download has been started in a thread")
def test_threads(servers, tmp_path):
    frames, _ = servers
    raw, images, _ = queries(frames)
    del frames.files[f"frames/{GONE}"]
    with ThreadPoolExecutor(3) as pool:
        tasks = [pool.submit(fetch, raw, images, path=tmp_path) for _ in range(3)]
    for task in tasks:
        check_errors(task.result(), "HTTP status 404")
        assert len(task.result()) == len(names(tmp_path)) == 7 + 3


def test_threads_leave_the_filters_of_warnings(contents, tmp_path):
    path = tmp_path / "image.fits"
    path.write_bytes(contents["frames/ESIS1_00020.fit.gz"])
    filters, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check_image, [path] * 40))
    sys.setswitchinterval(interval)
    left, warnings.filters[:] = list(warnings.filters), filters
    assert left == filters


def test_interrupt_ends_a_fetch(servers, tmp_path):
    frames, _ = servers
    raw = queries(frames)[0]
    frames.faults["file"] = [None, *["stall"] * 20]
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fetch(raw, path=tmp_path)
    timer.join()
    assert len(names(tmp_path)) == 1


def test_one_exposure_near_a_time(servers):
    frames, _ = servers
    flight = a.esis.Flight(with_archive(tiny_flight(), frames.url, [20, 21]))
    (raw,) = Fido.search(flight, a.Level(0))
    first, last = raw["Time"][0], raw["Time"][-1]
    (near,) = Fido.search(flight, a.Level(0), a.Time(first.tai, last.tt + 1 * u.s, near=last.tdb))
    assert near["Frame"].tolist() == [21] * 4
    (none,) = Fido.search(flight, a.Level(0), a.Time(last + 1 * u.s, last + 2 * u.s, near=last))
    assert len(none) == 0


@pytest.mark.parametrize("name", ["../outside.fits", "/outside.fits", "raw/outside.fits", "..", r"..\\outside.fits"])
def test_names_that_lead_out_of_the_folder(name, tmp_path):
    """As a table may have them that a flight file or a server wrote."""
    for pattern in (tmp_path / "raw", tmp_path / "raw" / "{file}"):
        with pytest.raises(ValueError, match=r"got the file .* expected a name without folders"):
            target_path(pattern, name, None)


def test_other_ways_to_write_attributes():
    minute = a.esis.MaxGap(1 * u.min)
    assert a.esis.MaxGap(TimeDelta(60, format="sec")) == a.esis.MaxGap(timedelta(minutes=1)) == minute
    for value in (None, [12] * u.s, 12, TimeDelta(-1, format="sec")):
        with pytest.raises(ValueError, match="expected one time above 0, for example 12"):
            a.esis.MaxGap(value)
    assert a.esis.Exposures("2019/09/30 18:06:06") == a.esis.Exposures(["2019-09-30T18:06:06"])
