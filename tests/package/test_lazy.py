"""
Lazy cubes give the same results as plain ones.

Every public method, and every function that takes a cube, is called with a plain cube and with the same one as Dask
arrays. A function that is missing in the tables here fails `test_nothing_is_forgotten`.
"""

import functools
import importlib
import inspect
import re
import weakref
from pathlib import Path

import dask
import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import Page, assert_bits_equal, assert_values_equal, make_context, make_cube
from matplotlib.figure import Figure

import astropy.units as u
from astropy.nddata import NDData
from astropy.table import Table
from ndcube import NDCube, NDCubeSequence
from sunpy.map import Map

from esis_ndcube import ESISLevel1Cube, ESISLevel3Cube, coalign, fit_vignetting, velocity_map
from esis_ndcube.corrections.masks import PolygonMask
from esis_ndcube.corrections.vignetting import Vignetting, masked_difference_trend
from esis_ndcube.field_stop.edges import find_edges
from esis_ndcube.io.asdf import write_asdf
from esis_ndcube.io.fits import exposure_header
from esis_ndcube.io.images import image_header
from esis_ndcube.level3.context import ContextCube
from esis_ndcube.level3.velocity import projection, rotation_velocity
from esis_ndcube.operations import clip_points, combine, raise_to, region_mean
from esis_ndcube.quality import (
    correlation_ratio,
    correlation_table,
    offset_to_map,
    pair_correlation,
    pair_offset,
    summary,
    throughput,
    tile_residual,
)
from esis_ndcube.registration import coalign_images
from esis_ndcube.report import _sections, write_report
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference
from esis_ndcube.wcs._coordinates import carry_coordinates

SLOPES = [0.44, 0.57, 0.52, 0.46]
POLYGON = [(-100, 0), (100, 0), (0, 80)] * u.arcsec


def moved(cube):
    wcs = cube.wcs.celestial.deepcopy()
    wcs.wcs.crpix = wcs.wcs.crpix + 0.5
    return wcs


def image_axes(cube):
    """1 along each axis but those of the image."""
    return (1,) * (cube.data.ndim - 2)


def corners(cube):
    rest = [None] * (cube.data.ndim - 2)
    return [[cube.wcs.celestial.pixel_to_world(x, y), *rest] for x, y in ((2, 1), (5, 4))]


def quantities(cube):
    return [[corner.Tx, corner.Ty, *rest] for corner, *rest in corners(cube)]


def fill(cube, **options):
    return cube.fill_masked(-1.0, uncertainty_fill_value=None if cube.uncertainty is None else 2.0, **options)


def fill_in_place(cube):
    copy = cube * 1
    fill(copy, fill_in_place=True)
    return copy


def drawn(result):
    """The pixels of everything that is drawn."""
    figure = result if isinstance(result, Figure) else result.figure
    arrays = [np.ma.filled(image.get_array(), 0) for axes in figure.axes for image in axes.images]
    assert arrays
    plt.close("all")
    return arrays


def plot(cube):
    image = cube[(0,) * (cube.data.ndim - 2)]
    return drawn(image.plot())


def image_map(cube):
    """A map in memory."""
    image = cube[0, 0].to_map()
    return Map(np.asarray(image.data), image.meta)


def in_file(write, suffix, read=lambda path: path.read_bytes()):
    """The contents of a file or folder that was written of a cube."""

    def apply(cube, folder):
        path = folder / f"written{suffix}"
        write(cube, path)
        return read(path)

    return apply


def contents(folder):
    from astropy.io import fits

    # Their headers say when they were written.
    return {path.name: np.array(fits.getdata(path)) for path in sorted(folder.iterdir())}


def read_fits(path):
    from astropy.io import fits

    with fits.open(path) as hdulist:
        return [np.array(hdu.data) for hdu in hdulist if isinstance(hdu, (fits.PrimaryHDU, fits.ImageHDU))]


def pictures(path):
    page = Page(path.read_text())
    assert page.images
    return [image["src"] for image in page.images], page.tables


# Functions for all cubes: each takes the cube, or the cube and a folder.
METHODS = {
    "animate": in_file(lambda cube, path: cube[:2, :1].animate(path, dpi=30), ".gif"),
    "axis_world_coords": lambda cube: cube[0].axis_world_coords(),
    "axis_world_coords_values": lambda cube: cube[0].axis_world_coords_values(),
    "crop": lambda cube: cube.crop(*corners(cube)),
    "crop_by_values": lambda cube: cube.crop_by_values(*quantities(cube)),
    "explode_along_axis": lambda cube: cube.explode_along_axis(0),
    "fill_masked": lambda cube: [fill(cube), fill(cube, unmask=True), fill_in_place(cube)],
    "plot": plot,
    "rebin": lambda cube: [
        cube.rebin((*image_axes(cube), 2, 2), operation) for operation in (np.mean, np.sum, np.min, np.max)
    ],
    "reproject_to": lambda cube: cube.reproject_to(moved(cube)),
    "squeeze": lambda cube: cube[:1].squeeze(),
    "to": lambda cube: [cube.to(cube.unit * 10), cube.to(cube.unit / u.s) if cube.exposure_time is not None else None],
    "to_nddata": lambda cube: cube.to_nddata(),
    "write": in_file(lambda cube, path: cube.write(path), ".fits", read_fits),
    "write_images": in_file(lambda cube, path: cube.write_images(path), "_images", contents),
}
LEVEL3 = METHODS | {
    "clean_region": lambda cube: cube.clean_region(lines=[]),
    "context": lambda cube: cube.context([image_map(cube)]),
    "correct": lambda cube: cube.correct(Vignetting.of_flight(cube.flight, cube.line)),
    "correct_vignetting": lambda cube: [
        cube.correct_vignetting(SLOPES),
        cube[:, 1].correct_vignetting(SLOPES[1:2]),
        cube[..., 90:110, 90:112].reproject_to(moved(cube[..., 90:110, 90:112])).correct_vignetting(SLOPES),
    ],
    "detector_to_world": lambda cube: (
        cube.detector_to_world(1000, 500, frame_number=cube.frame_number[0], channel=2).Tx
    ),
    "difference": lambda cube: [cube.difference(2, 3), cube.difference(1, 1)],
    "mask_pixels": lambda cube: [cube.mask_pixels(cube.data > 30), cube.mask_pixels(np.eye(*cube.shape[-2:]) > 0)],
    "mask_polygons": lambda cube: cube.mask_polygons(PolygonMask(POLYGON)),
    "masked_means": lambda cube: cube.masked_means(),
    "min_images": lambda cube: cube.min_images(),
    "normalize_intensities": lambda cube: cube.normalize_intensities(),
    "dispersion": lambda cube: cube.dispersion(),
    "pointing": lambda cube: cube.pointing(),
    "to_map": lambda cube: cube[0, 1].to_map(),
    "uncorrect": lambda cube: cube.correct_vignetting(SLOPES).uncorrect("vignetting"),
    "uncorrect_vignetting": lambda cube: cube.correct_vignetting(SLOPES).uncorrect_vignetting(),
    "world_to_detector": lambda cube: cube.world_to_detector(
        cube.wcs.celestial.pixel_to_world(9, 9), frame_number=cube.frame_number[0], channel=1
    ),
}
LEVEL1 = METHODS | {
    "to_electrons": lambda cube: [cube.to_electrons(), cube.to_photons("O V").to_electrons()],
    "to_photons": lambda cube: cube.to_photons("O V"),
}
# Of detector pixels.
NOT_LEVEL1 = {"crop", "crop_by_values", "reproject_to"}
# Of frames of the whole detector, which test_level1.py has.
OF_FRAMES = {"subtract_stray_light"}
# Functions that methods of one name call.
BY_METHODS = {
    "animate",
    "clean_region",
    "context_cube",
    "convert_unit",
    "correct",
    "correct_vignetting",
    "difference",
    "mask_pixels",
    "mask_polygons",
    "masked_means",
    "min_images",
    "normalize_intensities",
    "rebin",
    "reproject_to",
    "uncorrect",
    "uncorrect_vignetting",
    "write_fits",
    "write_images",
}
# Lazy ones are compared with plain ones in test_scale.py, where there is a flight from raw frames.
OF_RAW_FLIGHTS = {"coalign_frames", "form_level3"}
# Of many Level-1 exposures; lazy ones are compared with plain ones in tests/quality/test_noise.py.
OF_MANY_FRAMES = {"noise_table"}
READERS = {"read_asdf", "read_fits", "read_legacy"}
# Looks at the times only.
OF_TIMES = {"nearest_images"}
FUNCTIONS = {
    "region_mean": lambda cube: region_mean(cube, np.ones(cube.shape[-2:], dtype=bool)).uncertainty,
    "clip_points": lambda cube: clip_points(cube, [[None, 2, None], [None, 3, None]]),
    "coalign": lambda cube: coalign(cube[0, 1], cube[0, 0], transform="shift", widths=None).transform.coefficients,
    "coalign_images": lambda cube: (
        coalign_images(cube[0, 1], cube[0, 0], transform="shift", widths=None).transform.coefficients
    ),
    "combine": lambda cube: [
        *(combine(cube, operation, 2 * cube.unit) for operation in ("add", "subtract", "multiply", "divide")),
        *(combine(cube, operation, cube[0]) for operation in ("add", "subtract", "multiply", "divide")),
        combine(cube, "divide", np.arange(1.0, 1 + cube.shape[-1]), reflected=True),
    ],
    "correlation_ratio": lambda cube: correlation_ratio(cube, cube * 2),
    "correlation_table": lambda cube: correlation_table(cube),
    "exposure_header": lambda cube: str(exposure_header(cube[0, 1])),
    "find_edges": lambda cube: find_edges(cube).shift,
    "fit_vignetting": lambda cube: [fit_vignetting(cube, method).slopes for method in ("joint", "difference-slopes")],
    "image_header": lambda cube: str(image_header(cube[0, 1], "x")),
    "masked_difference_trend": lambda cube: masked_difference_trend(cube),
    "offset_to_map": lambda cube: offset_to_map(cube, image_map(cube)),
    "pair_correlation": lambda cube: [pair_correlation(cube), pair_correlation(cube, region="octagon", clip=99)],
    "pair_offset": lambda cube: pair_offset(cube),
    "plot_channels": lambda cube: drawn(plot_channels(cube)),
    "plot_difference": lambda cube: drawn(plot_difference(cube, 1, 2)),
    "plot_with_reference": lambda cube: drawn(plot_with_reference(cube, image_map(cube))),
    "raise_to": lambda cube: [raise_to(cube, 2), raise_to(cube, -1)],
    "projection": lambda cube: (operator := projection(cube)).rmatvec(np.ones(operator.shape[0])),
    "rotation_velocity": lambda cube: rotation_velocity(cube),
    "summary": lambda cube: summary(cube),
    "throughput": lambda cube: throughput(cube),
    "tile_residual": lambda cube: tile_residual(cube),
    "write_asdf": in_file(lambda cube, path: write_asdf(cube, path), ".asdf", lambda path: ESISLevel3Cube.read(path)),
    "velocity_map": lambda cube: velocity_map(cube, method="window"),
    "write_report": in_file(lambda cube, path: write_report(cube[:1, :2], path), ".html", pictures),
}
# Results that are measured on the images, though what they are applied to stays lazy.
MEASURED = {"context", "fill_masked", "mask_pixels", "normalize_intensities", "plot", "velocity_map"}


def lazy_copy(cube, chunks):
    """The cube with Dask arrays."""

    def lazy(array):
        return None if array is None else da.from_array(array, chunks=chunks, asarray=False)

    uncertainty = cube.uncertainty
    copy = type(cube)(
        lazy(cube.data),
        wcs=cube.wcs,
        mask=lazy(cube.mask),
        flags=lazy(cube.flags),
        uncertainty=None if uncertainty is None else type(uncertainty)(lazy(uncertainty.array), copy=False),
        unit=cube.unit,
        meta=cube.meta,
    )
    carry_coordinates(cube, copy)
    return copy


def assert_same(plain, lazy):
    """Results of a plain and of a lazy cube are of one kind and have the same bits."""
    assert type(plain).__name__ == type(lazy).__name__ or isinstance(lazy, da.Array)
    if isinstance(plain, NDCube):
        names = [name for name in ("data", "mask", "flags") if hasattr(plain, name)]
        one, two = (
            [*(getattr(cube, name) for name in names), getattr(cube.uncertainty, "array", None)]
            for cube in (plain, lazy)
        )
        # At once, so that what they share is computed once.
        for expected, array, computed in zip(one, two, dask.compute(*two), strict=True):
            if isinstance(array, da.Array):
                assert (array.dtype, array.shape) == (computed.dtype, computed.shape)
            assert_same(expected, computed)
        assert type(plain.uncertainty) is type(lazy.uncertainty)
        assert getattr(plain.uncertainty, "unit", None) == getattr(lazy.uncertainty, "unit", None)
        assert plain.unit == lazy.unit
        assert str(plain) == str(lazy).replace(", lazy", "")
    elif isinstance(plain, (NDCubeSequence, NDData)):
        assert_same(plain.data, lazy.data)
        assert_same(getattr(plain, "mask", None), getattr(lazy, "mask", None))
    elif isinstance(plain, (list, tuple)):
        for one, two in zip(plain, lazy, strict=True):
            assert_same(one, two)
    elif isinstance(plain, dict):
        assert_same(list(plain.items()), list(lazy.items()))
    elif hasattr(plain, "uncertainty_type"):
        assert_same(plain.array, lazy.array)
        assert plain.unit == lazy.unit
    elif isinstance(plain, Table):
        assert plain.colnames == lazy.colnames
        for name in plain.colnames:
            assert_values_equal(plain[name], lazy[name])
    elif isinstance(plain, np.ndarray) and plain.dtype != object and not hasattr(plain, "unit"):
        assert lazy.dtype == np.asarray(lazy).dtype
        assert_bits_equal(plain, lazy)
    elif isinstance(plain, (str, bytes, int, float, type(None))):
        assert plain == lazy
    else:
        assert_values_equal(plain, lazy)


def call(function, cube, folder):
    return function(cube, folder) if len(inspect.signature(function).parameters) == 2 else function(cube)


def cubes_in(result):
    """All cubes that are, or are in, a result."""
    if isinstance(result, NDCube):
        return [result]
    parts = result.data if isinstance(result, NDCubeSequence) else result if isinstance(result, (list, tuple)) else ()
    return [cube for part in parts for cube in cubes_in(part)]


def refuse(*args, **kwargs):
    pytest.fail("an operation on a lazy cube computed it")


def check(name, function, cube, chunks, folder):
    """The same bits, whatever the chunks; and what gives cubes computes nothing but what it measures."""
    folders = [folder / f"{number}" for number in range(1 + len(chunks))]
    for path in folders:
        path.mkdir()
    plain = call(function, cube, folders[0])
    for chunk, path in zip(chunks, folders[1:], strict=True):
        lazy = lazy_copy(cube, chunk)
        if cubes_in(plain) and name not in MEASURED and not name.startswith("write"):
            with dask.config.set(scheduler=refuse):
                result = call(function, lazy, path)
        else:
            result = call(function, lazy, path)
        if name not in ("context", "velocity_map", "write_asdf"):
            assert all(isinstance(part.data, da.Array) for part in cubes_in(result))
        assert_same(plain, result)


@pytest.fixture(scope="module")
def real():
    """A cube of a simulated flight, on which everything can be measured."""
    return true_cube(simulate_flight(size=8, n_exposures=2))


@functools.cache
def small(cls):
    if cls is ContextCube:
        return make_context(make_cube((3, 2, 12, 14)))
    cube = make_cube((2, 3, 12, 14), level=3 if cls is ESISLevel3Cube else 1, alignments=cls is ESISLevel3Cube)
    return cube


CASES = [(ESISLevel3Cube, name) for name in METHODS]
CASES += [(ESISLevel1Cube, name) for name in LEVEL1 if name not in NOT_LEVEL1]
CASES += [(ContextCube, name) for name in METHODS]

ON_REAL = [*(name for name in LEVEL3 if name not in METHODS), *FUNCTIONS]
# A chunk for each image, for each exposure and part of an image, and for all.
CHUNKS = [(1, 1, -1, -1), (1, -1, 100, 150), -1]


# They draw, measure noise or fit, for seconds each.
LONG = {
    *("animate", "correct_vignetting", "fit_vignetting", "masked_means", "normalize_intensities", "throughput"),
    *("write_report",),
}


def maybe_slow(*values):
    """Parameters of a test, of which the last is the name of what is called: daily what is fast, of Level 3."""
    marks = pytest.mark.slow if values[-1] in LONG or values[0] in (ESISLevel1Cube, ContextCube) else ()
    return pytest.param(*values, marks=marks, id="-".join(getattr(value, "__name__", value) for value in values))


@pytest.mark.slow
@pytest.mark.parametrize("name", [maybe_slow(name) for name in ON_REAL])
def test_on_real_images(name, real, tmp_path, monkeypatch):
    # Coarse figures are the same ones; those in dark colors are left out.
    monkeypatch.setattr("esis_ndcube.report._pictures._DPI", 40)
    light = _sections.figure_picture
    monkeypatch.setattr(
        _sections, "figure_picture", lambda draw, dark, **kw: ("", 1, 1) if dark else light(draw, dark, **kw)
    )
    # Slow functions get parts of images only, or whole images if they look at all of an image anyway.
    chunks = CHUNKS[:1] if name in FUNCTIONS else CHUNKS[1:2] if name in LONG else CHUNKS
    check(name, {**LEVEL3, **FUNCTIONS}[name], real, chunks, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "name"), [maybe_slow(*case) for case in CASES])
def test_method(cls, name, tmp_path):
    cube = small(cls)
    methods = LEVEL1 if cls is ESISLevel1Cube else METHODS
    chunks = [(1,) * (cube.data.ndim - 2) + (-1, -1), -1]
    check(name, methods[name], cube, chunks[:1] if name in LONG else chunks, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cls", [ESISLevel3Cube, ESISLevel1Cube, ContextCube])
def test_attributes(cls):
    cube = small(cls)
    lazy = lazy_copy(cube, -1)
    with dask.config.set(scheduler=refuse):
        values = {name: getattr(lazy, name) for name in attributes(cls) if name not in ("dimensions", "quantity")}
    for name, value in (values | {"quantity": lazy.quantity}).items():
        plain = getattr(cube, name)
        if name in ("combined_wcs", "extra_coords", "global_coords", "meta", "plotter", "wcs"):
            assert type(value) is type(plain)
        elif isinstance(plain, tuple) or name in ("flight", "headers", "history"):
            assert value == plain
        else:
            assert_same(plain, value)


def public(cls):
    names = [name for name in dir(cls) if not name.startswith("_")]
    return {name: inspect.getattr_static(cls, name) for name in names}


def attributes(cls):
    names = {name for name, value in public(cls).items() if not callable(value) and not isinstance(value, classmethod)}
    return names - {"read", "write"}


@pytest.mark.parametrize(
    ("cls", "tested"),
    [
        (ESISLevel3Cube, {*LEVEL3}),
        (ESISLevel1Cube, {*LEVEL1} | OF_FRAMES),
        (ContextCube, {*METHODS}),
    ],
)
def test_no_method_is_forgotten(cls, tested):
    methods = {name for name, value in public(cls).items() if not isinstance(value, classmethod)}
    assert methods - attributes(cls) - {"read"} == tested


def test_no_function_is_forgotten():
    page = Path(__file__).parents[2] / "docs" / "reference.rst"
    if not page.exists():
        pytest.skip("the documentation is not part of this distribution")
    found = set()
    for name in re.findall(r"automodapi:: (\S+)", page.read_text()):
        module = importlib.import_module(name)
        for key in module.__all__:
            function = getattr(module, key)
            text = (inspect.isfunction(function) and inspect.getdoc(function)) or ""
            if re.search("ESISLevel[13]Cube|ESISCube|NDCube", text.partition("Parameters")[2].partition("Returns")[0]):
                found.add(key)
    assert found == {*FUNCTIONS} | BY_METHODS | OF_RAW_FLIGHTS | OF_MANY_FRAMES | READERS | OF_TIMES


class Counter:
    """Images that tell how many of them were in memory at once."""

    def __init__(self, array):
        self.array, self.shape, self.ndim, self.dtype = array, array.shape, array.ndim, array.dtype
        self.now = self.most = 0

    def __getitem__(self, item):
        part = self.array[item].copy()
        count = int(np.prod(part.shape[:-2]))
        self.now += count
        self.most = max(self.most, self.now)
        weakref.finalize(part, self._let_go, count)
        return part

    def _let_go(self, count):
        self.now -= count


@pytest.mark.parametrize(
    "name",
    [
        *("correct_vignetting", "mask_pixels", "masked_means", "mask_polygons", "normalize_intensities"),
        *("clean_region", "fit_vignetting", "masked_difference_trend", "pair_correlation", "pair_offset"),
        *("tile_residual", "throughput", "write", "write_images", "find_edges", "min_images", "reproject_to"),
    ],
)
@pytest.mark.slow
def test_no_more_images_than_those_of_an_exposure_are_in_memory(name, real, tmp_path):
    lazy = lazy_copy(real, (1, 1, -1, -1))
    counter = Counter(real.data)
    lazy._data = da.from_array(counter, chunks=(1, 1, -1, -1), asarray=False, meta=real.data, name=False)
    with dask.config.set(scheduler="synchronous"):
        result = call({**LEVEL3, **FUNCTIONS}[name], lazy, tmp_path)
        for cube in cubes_in(result):
            for index in np.ndindex(cube.shape[:-2]):
                cube.data[index].compute()
    assert 0 < counter.most <= real.shape[1]
    # There would be more.
    assert real.data[..., 0, 0].size > real.shape[1]
