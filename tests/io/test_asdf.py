"""ASDF files: there and back to the last bit, through the entry points."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import (
    assert_bits_equal,
    assert_cubes_equal,
    assert_values_equal,
    assert_wcs_equal,
    make_alignments,
    make_cube,
    make_times,
    slow,
)

import astropy.units as u
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from ndcube import NDCube
from ndcube.extra_coords import TimeTableCoordinate
from sunpy.map import Map

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube, Flight, Vignetting
from esis_ndcube.cube import ESISCube
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.registration import alignments_from_table, alignments_to_table
from esis_ndcube.utils.provenance import ProcessingStep

asdf = pytest.importorskip("asdf")


def store(path, value):
    """A value written by asdf itself, and read again."""
    asdf.AsdfFile({"value": value}).write_to(path)
    with asdf.open(path, lazy_load=False, memmap=False) as file:
        return file["value"]


@pytest.mark.parametrize(
    "item",
    [
        (...,),
        (2, 1),
        (slice(1, 4), 1, slice(2, 9), slice(3, 8)),
        (slice(None), slice(0, 3, None)),
        (3, slice(1, 3)),
    ],
)
@pytest.mark.parametrize("channels", [(1, 2, 3), slow((1, 2, 4))])
def test_round_trip(tmp_path, item, channels):
    cube = make_cube(channels=channels, alignments=True)[item]
    cube.write(tmp_path / "cube.asdf")
    again = ESISLevel3Cube.read(tmp_path / "cube.asdf")
    assert_cubes_equal(again, cube)
    assert again.history == cube.history
    assert again.flight == cube.flight
    assert {key: str(value) for key, value in again.global_coords.items()} == {
        key: str(value) for key, value in cube.global_coords.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["cube.asdf"]


@pytest.mark.parametrize("item", [(0, 1, 3), (slice(1, 3), 1, slice(None), 4), (2, slice(None), 3, slice(2, 7))])
def test_rows_and_columns(tmp_path, item):
    cube = make_cube(alignments=True)[item]
    cube.write(tmp_path / "row.asdf")
    again = ESISLevel3Cube.read(tmp_path / "row.asdf")
    assert_bits_equal(again.data, cube.data)
    assert_bits_equal(again.mask, cube.mask)
    assert_wcs_equal(again.wcs.low_level_wcs._wcs, cube.wcs.low_level_wcs._wcs)
    pixel = [np.arange(n) / 2 for n in (3,) * cube.data.ndim]
    np.testing.assert_array_equal(again.wcs.pixel_to_world_values(*pixel), cube.wcs.pixel_to_world_values(*pixel))
    assert again.time.isot == cube.time.isot if again.time.isscalar else (again.time == cube.time).all()
    assert {key: str(value) for key, value in again.global_coords.items()} == {
        key: str(value) for key, value in cube.global_coords.items()
    }
    assert {"time", "channel"} & set(again.global_coords) or item[0] == slice(1, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        (StdDevUncertainty, "DN"),
        (VarianceUncertainty, "electron"),
        (InverseVariance, "ph / (s arcsec2)"),
        (UnknownUncertainty, "1e-3 ph"),
        (StdDevUncertainty, ""),
        (None, None),
    ],
)
def test_units_and_uncertainties(tmp_path, kind, unit):
    full = make_cube((2, 2, 3, 4))
    uncertainty = None if kind is None else kind(full.uncertainty.array)
    cube = ESISCube(full.data, wcs=full.wcs, uncertainty=uncertainty, meta=full.meta, unit=unit, mask=True)
    cube.global_coords.add("note", "custom:note", 3 * u.s)
    cube.write(tmp_path / "a.asdf")
    again = ESISCube.read(tmp_path / "a.asdf")
    assert_cubes_equal(again, cube)
    assert again.mask is True
    assert again.global_coords["note"] == 3 * u.s


@pytest.mark.parametrize("dtype", [">f4", "<f8", "i2", "u2", "i4", "u4"])
def test_types(tmp_path, dtype):
    cube = make_cube((1, 2, 3, 4), dtype=np.float32)
    values = np.nan_to_num(cube.data).astype(dtype)
    cube = ESISLevel3Cube(values, wcs=cube.wcs, meta={"x": np.float32(2), "y": (1, [None, {"z": None}]), "n": None})
    cube.write(tmp_path / "a.asdf")
    again = ESISLevel3Cube.read(tmp_path / "a.asdf")
    assert_bits_equal(again.data, values)
    assert again.meta == cube.meta
    assert type(again.meta["x"]) is np.float32


def test_nan_payload_survives(tmp_path):
    cube = make_cube((1, 1, 2, 2))
    cube.data.view(np.uint32)[0, 0, 0] = 0x7FC12345, 0xFFC00001
    cube.write(tmp_path / "a.asdf")
    assert_bits_equal(ESISLevel3Cube.read(tmp_path / "a.asdf").data, cube.data)


def test_other_cubes(tmp_path):
    level1 = make_cube((2, 2, 3, 4), level=1)
    level1.write(tmp_path / "l1.asdf")
    assert_cubes_equal(ESISLevel1Cube.read(tmp_path / "l1.asdf"), level1)
    assert type(ESISCube.read(tmp_path / "l1.asdf")) is ESISLevel1Cube
    with pytest.raises(CubeFileError, match="ESISLevel1Cube, expected class ESISLevel3Cube: read it with"):
        ESISLevel3Cube.read(tmp_path / "l1.asdf")
    cube = make_cube((2, 2, 6, 6))
    maps = [Map(np.ones((6, 6)), cube[i, 0].wcs.to_header()) for i in range(2)]
    context = cube.context(maps)
    context.write(tmp_path / "context.asdf")
    again = type(context).read(tmp_path / "context.asdf")
    assert_cubes_equal(again, context)
    assert again.headers[0] == context.headers[0]


def test_lazy_cubes(tmp_path):
    cube = make_cube((2, 2, 3, 4))
    cube.write(tmp_path / "a.fits")
    ESISLevel3Cube.read(tmp_path / "a.fits", lazy=True).write(tmp_path / "a.asdf")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "a.asdf"), cube)


def test_second_flight(tmp_path, request):
    flight = Flight.read(request.path.parents[1] / "data" / "second_flight.toml")
    cube = make_cube((1, 2, 3, 4))
    cube.meta["flight"] = flight
    cube.meta["line"] = flight.formable_lines[0]
    cube.meta["vignetting"] = Vignetting.of_flight(flight, flight.formable_lines[0])
    cube.write(tmp_path / "a.asdf")
    again = ESISLevel3Cube.read(tmp_path / "a.asdf")
    assert_cubes_equal(again, cube)
    assert again.flight == flight == again.vignetting.flight


def test_alignments(tmp_path):
    times = make_times(2)
    alignments = make_alignments([109, 110], [1, 2], times)
    one = alignments[0, 1]
    shape = one.covariance.shape
    fitted = replace(
        one,
        stage="final",
        score=np.float64(0.4),
        n_pixels=np.int64(7),
        converged=np.bool_(True),
        covariance=np.full(shape, 1 / 3),
        reference_covariance=np.full(shape, 0.1),
    )
    for number, alignment in enumerate((one, fitted)):
        again = store(tmp_path / f"{number}.asdf", alignment)
        assert_values_equal(again, alignment)
        assert_bits_equal(again.transform.origin, alignment.transform.origin)
        assert again.transform.scale == alignment.transform.scale
        for name in ("score", "iterations", "n_pixels", "converged", "reason", "condition", "reference"):
            np.testing.assert_array_equal(getattr(again, name), getattr(alignment, name))
        assert again.grid.to_header(relax=True) == alignment.grid.to_header(relax=True)
        assert again.grid.array_shape == alignment.grid.array_shape
        world = alignment.detector_to_world([1100.0, 1500.0], [300.0, 500.0])
        for a, b in zip(again.detector_to_world([1100.0, 1500.0], [300.0, 500.0]), world, strict=True):
            assert_values_equal(a, b)
    table = store(tmp_path / "table.asdf", alignments_to_table(alignments))
    assert_values_equal(alignments_from_table(table), alignments)


def test_vignetting(tmp_path):
    vignetting = Vignetting(
        {2: 1 / 3, 4: 0.5},
        ESIS_1,
        "O V",
        source="fit",
        covariance=[[1e-4, 1e-5], [1e-5, 2e-4]],
        systematic=0.1,
        contamination={"Mg X 609.793": 0.25},
    )
    for number, item in enumerate((vignetting, Vignetting.of_flight(ESIS_1, "He I"))):
        again = store(tmp_path / f"{number}.asdf", item)
        assert_values_equal(again, item)
        assert again.flight == ESIS_1


def test_steps(tmp_path):
    step = ProcessingStep("mask", {"channels": [1, 2], "none": None, "deep": {"a": [0.1, None, "ä "]}}, "0.1")
    assert store(tmp_path / "a.asdf", step) == step


def test_plain_ndcube_beside_ours(tmp_path):
    # One file may hold both: ours must not take over the converters of ndcube.
    cube = make_cube((1, 1, 3, 4))
    plain = NDCube(np.zeros((3, 4)), wcs=ESIS_1.grid)
    again = store(tmp_path / "a.asdf", {"ours": cube, "plain": plain})
    assert type(again["plain"]) is NDCube
    assert_cubes_equal(again["ours"], cube)


def test_damage_is_noticed(tmp_path):
    cube, path = make_cube((2, 2, 4, 5)), tmp_path / "a.asdf"
    cube.write(path)
    content = path.read_bytes()
    place = content.index(cube.data.tobytes())
    flipped = bytearray(content)
    flipped[place + 8] ^= 1
    for damaged in (flipped, content[: place + 40], content[:300], b"#ASDF 1.0.0\n%YAML 1.1\n---\n{", b"hello"):
        path.write_bytes(damaged)
        with pytest.raises(CubeFileError, match="damaged or not ASDF"):
            ESISLevel3Cube.read(path)


def test_foreign_files(tmp_path):
    asdf.AsdfFile({"cube": [1, 2]}).write_to(tmp_path / "a.asdf")
    with pytest.raises(CubeFileError, match="holds no cube"):
        ESISLevel3Cube.read(tmp_path / "a.asdf")
    with pytest.raises(FileNotFoundError):
        ESISLevel3Cube.read(tmp_path / "none.asdf")


def test_what_asdf_can_not_hold(tmp_path):
    cube = make_cube((2, 2, 3, 4))
    cube.meta["thing"] = object()
    with pytest.raises(TypeError, match="'thing'"):
        cube.write(tmp_path / "a.asdf")
    cube = make_cube((2, 2, 3, 4))
    cube.extra_coords.add("stamp", 0, TimeTableCoordinate(cube.time))
    with pytest.raises(TypeError, match="extra_coords"):
        cube.write(tmp_path / "a.asdf")
    assert not list(tmp_path.iterdir())


def test_overwrite_rules(tmp_path):
    cube, path = make_cube((1, 1, 2, 2)), tmp_path / "a.asdf"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        cube.write(path)
    assert path.read_text() == "precious"
    cube.write(path, overwrite=True)
    assert_cubes_equal(ESISLevel3Cube.read(path), cube)
    cube.write(tmp_path / "odd.name", format="asdf")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "odd.name", format="asdf"), cube)


@pytest.mark.parametrize("name", ["asdf", "asdf_astropy"])
def test_missing_package(tmp_path, monkeypatch, name):
    cube = make_cube((1, 1, 2, 2))
    cube.write(tmp_path / "a.asdf")
    monkeypatch.setitem(sys.modules, name, None)
    for action in (lambda: cube.write(tmp_path / "b.asdf"), lambda: ESISLevel3Cube.read(tmp_path / "a.asdf")):
        with pytest.raises(ModuleNotFoundError, match=rf"{name}, .*esis_ndcube\[asdf\]"):
            action()


def test_every_tag_has_a_sound_schema():
    from asdf.schema import check_schema, load_schema

    from esis_ndcube.io.asdf.entry_points import get_extensions

    [extension] = get_extensions()
    tags = {definition.tag_uri: definition.schema_uris for definition in extension.tags}
    assert len(tags) == len(extension.converters)
    for tag, [schema] in tags.items():
        assert tag.rsplit("/", 1)[1] == schema.rsplit("/", 1)[1]
        check_schema(load_schema(schema, resolve_references=True))


def test_files_that_break_the_schema(tmp_path):
    cube = make_cube((1, 1, 2, 2))
    cube.write(tmp_path / "a.asdf")
    content = (tmp_path / "a.asdf").read_bytes()
    (tmp_path / "a.asdf").write_bytes(content.replace(b"class: ESISLevel3Cube", b"class: ESISLevel9Cube"))
    with pytest.raises(CubeFileError, match="ESISLevel9Cube"):
        ESISLevel3Cube.read(tmp_path / "a.asdf")


def test_an_extension_that_failed_to_load(tmp_path):
    """Asdf only warns, for example where there was no memory for it."""
    cube = make_cube((2, 2, 6, 5))
    with asdf.config_context() as config:
        config.remove_extension(package="esis_ndcube")
        with pytest.raises(ImportError, match="could not load its extensions of esis_ndcube"):
            cube.write(tmp_path / "cube.asdf")
    assert not list(tmp_path.iterdir())
