"""
Pytest plugin: put a class or function of ours in the place of its parent, and run the parent's own tests on it.

``python tests/conformance/run.py`` runs the installed suites with it.
A test that does not pass must stand in reasons.toml, and a test that stands there must not pass.
"""

import functools
import json
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from astropy.wcs import WCS

from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.level3.map import ESISMap
from esis_ndcube.wcs import ESISWCS

REASONS = Path(__file__).with_name("reasons.toml")
KINDS = "ours is right", "documented deviation", "not applicable"


@dataclass(frozen=True)
class Suite:
    """Tests of a parent, the short selection of them for every change, and the function that swaps the parent."""

    subject: str
    parent: str
    tests: tuple
    short: tuple
    swap: Callable
    # Tests of something else, which only take time.
    without: tuple = ()

    @property
    def package(self):
        return self.tests[0].split(".")[0]

    @property
    def version(self):
        return version(self.package)


def replace(new, name, *modules):
    """Put something in the place of a name of some modules."""
    for module in modules:
        setattr(import_module(module), name, new)


class CubeOfPixels(ESISLevel3Cube):
    """Cubes want a WCS, which tests of NDData do not give: they get one of plain pixels."""

    def __init__(self, data, wcs=None, **options):
        if wcs is None and getattr(data, "wcs", None) is None:
            # Some stand-ins for arrays have a method of that name.
            shape = data.shape if hasattr(data, "shape") else np.shape(data)
            wcs = WCS(naxis=(len(shape) if isinstance(shape, tuple) else 1) or 1)
        super().__init__(data, wcs=wcs, **options)


def swap_cube():
    replace(ESISLevel3Cube, "NDCube", "ndcube", "ndcube.ndcube")


def swap_wcs():
    replace(ESISWCS, "WCS", "astropy.wcs", "astropy.wcs.wcs")


def swap_nddata():
    replace(CubeOfPixels, "NDData", "astropy.nddata", "astropy.nddata.nddata")


def swap_map():
    """Images without an instrument, and those of AIA, which most tests take, are made ours."""
    import sunpy.map

    sunpy.map.Map.registry.pop(sunpy.map.sources.AIAMap)
    sunpy.map.Map.default_widget_type = ESISMap
    replace(ESISMap, "GenericMap", "sunpy.map", "sunpy.map.mapbase")


def swap_reproject():
    """Ours calls the parent for images that are on the sky already, which must stay the parent then."""
    import reproject

    from esis_ndcube.resample import reproject_alignment

    parent, running = reproject.reproject_interp, []

    @functools.wraps(reproject_alignment)
    def function(*args, **options):
        if running:
            return parent(*args, **options)
        running.append(True)
        try:
            return reproject_alignment(*args, **options)
        finally:
            running.pop()

    modules = "reproject", "reproject.interpolation", "reproject.interpolation._high_level"
    replace(function, "reproject_interp", *modules)


def swap_client():
    from esis_ndcube.net import ESISContextClient, ESISFlightClient

    replace(ESISFlightClient, "NoRHClient", "sunpy.net.dataretriever.sources.norh", "sunpy.net.dataretriever")
    replace(ESISContextClient, "ESISContextClient", "sunpy.net.dataretriever")


SUITES = {
    "ndcube": Suite(
        "ESISLevel3Cube",
        "NDCube",
        ("ndcube",),
        ("ndcube.tests", "ndcube.visualization"),
        swap_cube,
    ),
    "astropy.wcs": Suite(
        "ESISWCS",
        "WCS",
        ("astropy.wcs",),
        ("astropy.wcs.wcsapi", "astropy.wcs.tests.test_tab"),
        swap_wcs,
    ),
    "astropy.nddata": Suite(
        "ESISLevel3Cube",
        "NDData",
        ("astropy.nddata.tests.test_nddata",),
        ("astropy.nddata.tests.test_nddata",),
        swap_nddata,
        ("astropy/nddata/tests/test_nddata.py::test_collapse",),
    ),
    "sunpy.map": Suite(
        "ESISMap",
        "GenericMap",
        # Not the factory, which chooses among the map sources, and not the figures.
        tuple(
            f"sunpy.map.tests.test_{name}"
            for name in (
                "mapbase",
                "mapbase_dask",
                "maputils",
                "mapsequence",
                "compositemap",
                "header_helper",
                "reproject_to",
            )
        ),
        ("sunpy.map.tests.test_compositemap",),
        swap_map,
    ),
    "sunpy.net": Suite(
        "ESISFlightClient, ESISContextClient",
        "NoRHClient",
        ("sunpy.net.tests.test_baseclient", "sunpy.net.dataretriever.sources.tests.test_norh"),
        ("sunpy.net.tests.test_baseclient", "sunpy.net.dataretriever.sources.tests.test_norh"),
        swap_client,
    ),
    "reproject": Suite(
        "reproject_alignment",
        "reproject_interp",
        ("reproject.interpolation", "reproject.mosaicking", "reproject.tests.test_high_level"),
        # Each of them takes seconds.
        (),
        swap_reproject,
    ),
}


def read_reasons(name, path=REASONS):
    """Entries for the installed version of the parent, or else for the last one that is known."""
    versions = tomllib.loads(path.read_text()).get(name, {})
    last = list(versions)[-1] if versions else None
    return versions.get(SUITES[name].version, versions.get(last, []))


def known_versions(name):
    return list(tomllib.loads(REASONS.read_text()).get(name, {}))


def pytest_addoption(parser):
    parser.addoption("--swap", choices=SUITES, help="which parent gives way to ours")
    parser.addoption("--reasons", type=Path, default=REASONS, help="the file of what may fail")
    parser.addoption("--tally", type=Path, help="a file for the numbers of the run")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    SUITES[config.option.swap].swap()
    entries = read_reasons(config.option.swap, config.option.reasons)
    config.pluginmanager.register(Judge(entries, config.option.tally))


class Judge:
    """Expects the tests in reasons.toml, and no others, to fail, and counts."""

    def __init__(self, entries, tally):
        self.entries, self.tally = entries, tally
        self.counts, self.kinds = Counter(), {}

    def pytest_collection_modifyitems(self, items):
        # A test without brackets stands for all that are made of it.
        by_id = {}
        for item in items:
            for key in {item.nodeid, item.nodeid.split("[")[0]}:
                by_id.setdefault(key, []).append(item)
        files = {item.nodeid.split("::")[0] for item in items}
        gone = []
        for entry in self.entries:
            if entry["kind"] not in KINDS:
                msg = f"got the kind {entry['kind']!r}, expected one of {', '.join(KINDS)}"
                raise pytest.UsageError(msg)
            for test in entry["tests"]:
                if test not in by_id and test.split("::")[0] in files:
                    gone.append(test)
                for item in by_id.get(test, ()):
                    item.add_marker(pytest.mark.xfail(reason=entry["why"], strict=True), append=False)
                    self.kinds[item.nodeid] = entry["kind"]
        if gone:
            msg = f"these tests with a reason are no longer there, or have another name: {', '.join(gone)}"
            raise pytest.UsageError(msg)

    def pytest_runtest_logreport(self, report):
        expected = self.kinds.get(report.nodeid) if hasattr(report, "wasxfail") else None
        if expected and report.skipped:
            self.counts[expected] += 1
        elif report.failed:
            self.counts["failed"] += 1
        elif report.skipped or hasattr(report, "wasxfail"):
            self.counts["skipped"] += 1
        elif report.when == "call":
            self.counts["passed"] += 1

    def pytest_collectreport(self, report):
        self.counts["failed"] += report.failed

    def pytest_sessionfinish(self):
        if self.tally:
            self.tally.write_text(json.dumps(self.counts))
