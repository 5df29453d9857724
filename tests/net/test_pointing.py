"""Images of AIA pointed by the table at JSOC, through the real Fido, drms and aiapy, from a real server."""

import importlib.util
import warnings

import numpy as np
import pytest
from helpers import daily, make_cube
from jsoc_server import EMAIL, FAULTS_OF_ANSWERS, JsocServer, Record, aia_content

import astropy.units as u
import sunpy.map

from esis_ndcube.net import ESISContextClient, RetryPolicy
from esis_ndcube.net.pointing import find_pointing_table, point_maps
from esis_ndcube.registration.aia import POINTING_KEYWORD, can_be_pointed, point_map

pytest.importorskip("aiapy")
pytestmark = pytest.mark.usefixtures("closed_loops")

QUICK = RetryPolicy(tries=2, pause=0 * u.s, timeout=2 * u.s, poll=0.01 * u.s, patience=5 * u.s)
SIZE, OFFSET, SLOPE = 4096, 40, 8
POINTED, HEADERS = "pointing table of AIA", "headers of the images"


@pytest.fixture(scope="module")
def cube():
    return make_cube((2, 1, 30, 34))


@pytest.fixture(scope="module")
def record(cube):
    """A full-disk image whose values grow by 1 every 8 columns."""
    t_obs = (cube.time[0] + 2 * u.s).isot[:22] + "Z"
    t_rec = t_obs[:19] + "Z"
    content = aia_content(t_rec, t_obs, shape=(SIZE, SIZE), value=np.arange(SIZE) // SLOPE)
    return Record(t_rec, t_obs, "0x00000000", content)


def entry(start, hours=3, **values):
    """A row of the pointing table, as JSOC writes it: the Sun's center lies right of that of the image."""
    values = {"X0": (SIZE - 1) / 2 + OFFSET, "Y0": (SIZE - 1) / 2, "IMSCALE": 2400 / SIZE, "INSTROT": 0, **values}
    row = {"T_START": start.isot[:19] + "Z", "T_STOP": (start + hours * u.h).isot[:19] + "Z"}
    return row | {f"A_304_{key}": str(value) for key, value in values.items()}


@pytest.fixture
def server(record, cube, monkeypatch):
    import drms

    monkeypatch.setattr(ESISContextClient, "policy", QUICK)
    monkeypatch.setenv("JSOC_EMAIL", EMAIL)
    with JsocServer([record]) as server:
        # The Sun lies elsewhere 3 h before and after.
        start = cube.time[0] - 1 * u.h
        rows = [entry(start + hours * u.h, X0=0) for hours in (-6, -3)]
        server.tables["aia.master_pointing3h"] = [*rows, entry(start), entry(start + 3 * u.h, X0=0)]
        monkeypatch.setitem(drms.config._server_configs, "jsoc", server.config())
        yield server


@pytest.mark.slow
def test_pointed_by_default(server, cube, tmp_path):
    """The cube says so, and its images are as far off as the table has it."""
    aia = cube.context("AIA 304", max_gap=30 * u.s, path=tmp_path)
    assert aia.pointing_source == POINTED
    assert server.count("table") == 2
    before = cube.context("AIA 304", max_gap=30 * u.s, path=tmp_path, point=False)
    assert before.pointing_source == HEADERS
    assert server.count("table") == 2
    np.testing.assert_allclose((aia.data - before.data).mean(), OFFSET / SLOPE, rtol=0.02)
    assert aia.headers[0][POINTING_KEYWORD] == POINTED
    aia.write(tmp_path / "aia.fits")
    assert type(aia).read(tmp_path / "aia.fits").pointing_source == POINTED
    # A table that is given needs no network.
    table = find_pointing_table(list(aia.image_time), policy=QUICK)
    count = server.count("table")
    given = cube.context("AIA 304", max_gap=30 * u.s, path=tmp_path, pointing_table=table)
    assert server.count("table") == count
    np.testing.assert_array_equal(given.data, aia.data)


@pytest.mark.slow
@pytest.mark.parametrize("fault", daily(*(fault for fault in FAULTS_OF_ANSWERS if fault != "stall")))
def test_faults(server, record, fault, full_disk):
    server.faults["table"] = [fault]
    (pointed,) = point_maps([full_disk], policy=QUICK)
    assert pointed.meta[POINTING_KEYWORD] == POINTED
    assert POINTING_KEYWORD not in full_disk.meta


@pytest.fixture
def full_disk(record, tmp_path):
    path = tmp_path / "full_disk.fits"
    path.write_bytes(record.content)
    return sunpy.map.Map(path)


def test_table_that_can_not_be_had(server, cube, full_disk):
    start = cube.time[0] - 1 * u.h
    for rows, message in (
        ([entry(start - 24 * u.h)], "the search for the pointing of AIA at JSOC failed 2 times.*as their headers say"),
        ([entry(start - 6 * u.h)], "has no values for AIA 304.*as its header says"),
        ([entry(start, X0="MISSING")], "has no values for AIA 304.*as its header says"),
    ):
        server.tables["aia.master_pointing3h"] = rows
        with pytest.warns(UserWarning, match=message):
            (left,) = point_maps([full_disk], policy=QUICK)
        assert left is full_disk


def test_without_aiapy(server, full_disk, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert point_maps([full_disk], policy=QUICK) == [full_disk]
    assert not server.requests


@pytest.mark.slow
def test_images_that_the_table_is_not_for(server, full_disk):
    """Cutouts, binned images and those of Level 1.5, which lie on another grid, are never moved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        binned = full_disk.resample([1024, 1024] * u.pix)
    registered = sunpy.map.Map(full_disk.data, {**full_disk.meta, "lvl_num": 1.5})
    cutout = full_disk.submap([0, 0] * u.pix, top_right=[99, 99] * u.pix)
    others = [binned, registered, cutout]
    assert not any(map(can_be_pointed, others))
    assert point_maps(others, policy=QUICK) == others
    assert not server.requests
    table = find_pointing_table([full_disk.reference_date], policy=QUICK)
    for item in others:
        with pytest.raises(ValueError, match="expected a full-disk image of AIA, 4096 x 4096 pixels of level 1"):
            point_map(item, table)
