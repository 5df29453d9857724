"""Settings and fixtures that all tests share."""

import asyncio
import functools
import os
import shutil
from pathlib import Path

import hypothesis
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
# Threads of linear algebra wait for each other in loops: on small arrays they take several times the processor time.
# In time for SciPy and for processes that tests start; NumPy, which plugins import, needs it from outside (tox.ini).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# No deadline: a first call may compile. Continuous integration draws the same examples every time.
hypothesis.settings.register_profile("esis", deadline=None)
hypothesis.settings.register_profile("esis-ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("esis-ci" if os.environ.get("CI") else "esis")

# Their examples make flights, reports and movies.
SLOW_DOCTESTS = (
    "esis_ndcube.field_stop.edges.FieldStopEdges",
    "esis_ndcube.report.page.write_report",
    "esis_ndcube.simulate.flight.SimulatedFiles",
    "esis_ndcube.visualization.animation.animate",
)
NO_FLIGHT_DATA = "ESIS_FLIGHT_DATA does not name a folder with the raw frames of the 2019 flight"


def _flight_data_folder():
    name = os.environ.get("ESIS_FLIGHT_DATA")
    return Path(name).resolve() if name and Path(name).is_dir() else None


def pytest_collection_modifyitems(items):
    """Mark slow tests that do not say so, and skip tests that are marked ``flight_data`` if there are no data."""
    # Tests on the cluster come last, because the cluster takes processor time as long as it is there.
    items.sort(key=lambda item: "cluster" in getattr(item, "fixturenames", ()))
    missing = _flight_data_folder() is None
    for item in items:
        of_flight = item.get_closest_marker("flight_data")
        if of_flight or item.name in SLOW_DOCTESTS or item.name.endswith(".rst"):
            item.add_marker(pytest.mark.slow)
        if of_flight and missing:
            item.add_marker(pytest.mark.skip(reason=NO_FLIGHT_DATA))


@pytest.fixture(scope="session")
def flight_data():
    """The folder with the raw frames of the 2019 flight."""
    folder = _flight_data_folder()
    if folder is None:
        pytest.skip(NO_FLIGHT_DATA)
    return folder


@pytest.fixture(scope="session")
def flights(tmp_path_factory):
    """Simulated flights on disk by their settings, each made once; tests must not change them."""
    from flights import SimulatedFolder

    @functools.cache
    def make(**settings):
        return SimulatedFolder(tmp_path_factory.mktemp("flight"), **settings)

    return make


@pytest.fixture(scope="session")
def small_flight(flights):
    """The usual one: two exposures of small frames, of which none is missing or blank."""
    return flights(size=5, n_exposures=2, n_darks=2, missing=False, blank=False)


@pytest.fixture(scope="session")
def cluster():
    """Two worker processes on this machine, which import the package but once."""
    # Only here: its import takes long, and few tests need it.
    import distributed

    # Linear algebra gives the same bits on two threads as on one but for NumPy 1.
    threads = "1" if np.__version__.startswith("1.") else "2"
    options = {"n_workers": 2, "threads_per_worker": 1, "env": {"OPENBLAS_NUM_THREADS": threads}}
    with distributed.LocalCluster(dashboard_address="127.0.0.1:0", **options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """The workers of the cluster do the work of a test that asks for this."""
    import distributed

    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def closed_loops(monkeypatch):
    """Close the event loops of downloads, which Fido leaves to a garbage collector that may run in any thread."""
    loops, new_event_loop = [], asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loops.append(new_event_loop()) or loops[-1])
    yield
    for loop in loops:
        loop.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, found in programs.items() if found is None]
    if missing:
        pytest.skip(f"no browser to look at the page with: {', '.join(missing)} not found")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed, which drives the browser")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    yield driver
    driver.quit()
