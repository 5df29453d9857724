"""
Every operation of a cube, and a proof of each thing that it keeps.

``python tests/tools/operations_table.py`` runs all of them and writes docs/operations_table.inc;
test_operations_table.py runs them too, and fails if that file says anything else.
"""

import copy
import itertools
import pickle
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from helpers import assert_values_equal, make_cube
from reproject import reproject_adaptive
from scipy.ndimage import distance_transform_edt

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from ndcube import NDCollection, NDCubeSequence

from esis_ndcube.wcs import ESISWCS

PAGE = Path(__file__).parents[2] / "docs" / "operations_table.inc"
# Bins and shifts of the image, pixels: y before x.
SHAPE = 2, 3, 12, 14
BIN, SHIFT = (3, 2), (-2, 3)
FACTOR = np.linspace(-2, 3, 14)
SECONDS = make_cube(SHAPE).exposure_time.value[:, :, None, None]


@dataclass(frozen=True)
class Operation:
    """
    An operation on (..., y, x), and the truth about its result.

    ``source`` gives for the output's pixel coordinates (x, y) those in the input; ``arrays`` does to the data,
    standard deviation and validity what the operation does, by other means.
    """

    label: str
    apply: Callable
    arrays: Callable
    source: Callable = lambda x, y: (x, y)
    unit: Callable = lambda unit: unit
    # The input: all of the cube, and a part of which time or channel was sliced away.
    start: Callable = lambda cube: cube
    part: Callable = lambda cube: cube[1, 2]
    # The steps that the history grows by.
    steps: tuple = ()
    # Metadata of the result from those of the cube; None where there is no channel axis left.
    planes: Callable | None = lambda value: value
    # Whether it is for cubes on the sky only.
    celestial: bool = False
    # Properties that do not survive, and their text in the table.
    lacks: dict = field(default_factory=dict)
    # The operation on a lazy cube, if it is not the same.
    lazy: Callable | None = None

    @cached_property
    def example(self):
        """A cube, and the result of the operation."""
        cube = whole(self)
        return cube, self.apply(cube)


def cut(item):
    return lambda *arrays: tuple(array[item] for array in arrays)


def offset(x0, y0):
    return lambda x, y: (x + x0, y + y0)


def item(cube):
    return (*(slice(None),) * (cube.data.ndim - 2), slice(2, 8), slice(3, 10))


def corners(cube):
    """World coordinates of the pixels x = 3, y = 2 and x = 9, y = 7 of the input."""
    wcs = cube.wcs.celestial
    return wcs.pixel_to_world(3, 2), wcs.pixel_to_world(9, 7)


def crop(cube):
    rest = [None] * (cube.data.ndim - 2)
    first, last = corners(cube)
    return cube.crop([first, *rest], [last, *rest])


def crop_by_values(cube):
    rest = [None] * (cube.data.ndim - 2)
    return cube.crop_by_values(*[[corner.Tx, corner.Ty, *rest] for corner in corners(cube)])


def collection(cube):
    return NDCollection([("a", cube), ("b", cube)], aligned_axes="all")[item(cube)]["b"]


def sequence(cube):
    """A cube in two pieces, of one exposure and of the others."""
    return NDCubeSequence([cube[:1], cube[1:]], common_axis=0)


def crop_sequence(cube):
    rest = [None] * (cube.data.ndim - 2)
    first, last = corners(cube)
    return NDCubeSequence([cube, cube]).crop([first, *rest], [last, *rest]).data[1]


def round_trip(suffix, **options):
    """To a file and back."""

    def apply(cube):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"cube.{suffix}"
            cube.write(path)
            return type(cube).read(path, **options)

    return apply


def read_lazily(cube):
    """A lazy cube of a file, which is there as long as the cube."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "cube.fits"
    with dask.config.set(scheduler="synchronous"):
        cube.write(path)
    result = type(cube).read(path, lazy=True)
    weakref.finalize(result, folder.cleanup)
    return result


def rebin(operation):
    return lambda cube: cube.rebin((1,) * (cube.data.ndim - 2) + BIN, operation)


def mean_exposure(data, sigma, bad):
    """Means of the valid ones of all exposures."""
    count = (~bad).sum(0, keepdims=True)
    with np.errstate(invalid="ignore"):
        means = np.where(bad, 0, data).sum(0, keepdims=True) / count
        errors = np.sqrt(np.where(bad, 0, sigma**2).sum(0, keepdims=True)) / count
    return means, errors, count == 0


def binned(*, mean):
    def loop(data, sigma, bad):
        fy, fx = BIN
        shape = (*data.shape[:-2], data.shape[-2] // fy, data.shape[-1] // fx)
        results = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, bool)
        for index in np.ndindex(shape):
            *plane, y, x = index
            pixels = [(*plane, y * fy + j, x * fx + i) for j, i in itertools.product(range(fy), range(fx))]
            pixels = [pixel for pixel in pixels if not bad[pixel]]
            results[2][index] = not pixels
            if pixels:
                count = len(pixels) if mean else 1
                results[0][index] = sum(float(data[pixel]) for pixel in pixels) / count
                results[1][index] = sum(float(sigma[pixel]) ** 2 for pixel in pixels) ** 0.5 / count
        return results

    return loop


def target(cube):
    """The grid of the input, moved by whole pixels."""
    wcs = cube.wcs.celestial.deepcopy()
    wcs.wcs.crpix = wcs.wcs.crpix - np.array(SHIFT[::-1])
    return wcs


def target_4d(cube):
    """The grid of another cube, with other times."""
    wcs = make_cube((2, 3, *cube.shape[-2:]), seed=5).wcs
    wcs.wcs.crpix = [*target(cube).wcs.crpix, *wcs.wcs.crpix[2:]]
    return wcs


def reproject(algorithm, grid=target):
    return lambda cube: cube.reproject_to(grid(cube), algorithm, shape_out=cube.shape[-2:])


def moved(data, sigma, bad):
    """Whole pixels aside, with nothing beyond the edges."""
    ny, nx = data.shape[-2:]
    y, x = np.indices((ny, nx)) + np.array(SHIFT)[:, None, None]
    inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    place = (..., np.clip(y, 0, ny - 1), np.clip(x, 0, nx - 1))
    return data[place], sigma[place], bad[place] | ~inside


def impulses(data, sigma, bad):
    """The smoothing of `reproject.reproject_adaptive`, pixel by pixel, of one standard deviation for all pixels."""
    shape = data.shape[-2:]
    cube = make_cube((1, 1, *shape))
    pair = cube.wcs.celestial, target(cube)
    images = np.eye(data[0, 0].size).reshape(-1, *shape)
    weights = reproject_adaptive((images, pair[0]), pair[1], shape_out=shape, return_footprint=False)
    covered = np.isfinite(weights[0])
    weights = np.nan_to_num(weights).reshape(-1, covered.size).T
    results = [], [], []
    for plane in np.ndindex(data.shape[:-2]):
        good = ~bad[plane]
        nearest = tuple(distance_transform_edt(~good, return_distances=False, return_indices=True))
        results[0].append((weights @ data[plane][nearest].ravel()).reshape(shape))
        results[1].append((((weights**2) @ (sigma[plane][nearest] ** 2).ravel()) ** 0.5).reshape(shape))
        results[2].append((weights @ good.ravel() < 0.5).reshape(shape) | ~covered)
    return tuple(np.array(result).reshape(data.shape) for result in results)


def other(cube):
    """A cube of the same place with other numbers."""
    rng = np.random.default_rng(9)
    return type(cube)(
        rng.uniform(1, 2, cube.shape).astype(np.float32),
        wcs=cube.wcs,
        unit=cube.unit,
        mask=rng.random(cube.shape) < 0.1,
        uncertainty=StdDevUncertainty(rng.random(cube.shape).astype(np.float32)),
    )


def with_other(function):
    def arrays(data, sigma, bad):
        rng = np.random.default_rng(9)
        values = rng.uniform(1, 2, data.shape).astype(np.float32).astype(float)
        mask = rng.random(data.shape) < 0.1
        errors = rng.random(data.shape).astype(np.float32).astype(float)
        return (*function(data, sigma, values, errors), bad | mask)

    return arrays


def difference(data, sigma, bad):
    one, two = np.s_[..., 2, :, :], np.s_[..., 0, :, :]
    return data[one] - data[two], (sigma[one] ** 2 + sigma[two] ** 2) ** 0.5, bad[one] | bad[two]


def lowest(data, sigma, bad):
    """The standard deviation of the channel with the lowest valid value."""
    values = np.where(bad, np.inf, data)
    results = np.full((3, *np.delete(data.shape, -3)), np.nan)
    for *plane, y, x in np.ndindex(results.shape[1:]):
        pixels = [(values[(*plane, c, y, x)], sigma[(*plane, c, y, x)]) for c in range(data.shape[-3])]
        results[(slice(None), *plane, y, x)] = (*min(pixels), np.isinf(min(pixels)[0]))
    return results[0], results[1], results[2].astype(bool)


def same(*arrays):
    return arrays


IMAGE = {"arrays": cut(np.s_[..., 2:8, 3:10]), "source": offset(3, 2)}
MOVED = {"arrays": moved, "source": offset(*SHIFT[::-1]), "steps": ("reproject",), "celestial": True}
BINNED = {"source": lambda x, y: (BIN[1] * (x + 0.5) - 0.5, BIN[0] * (y + 0.5) - 0.5), "steps": ("rebin",)}
CHANNELS = {"part": lambda c: c[1], "planes": None, "celestial": True}

OPERATIONS = [
    Operation("Slice", lambda c: c[item(c)], **IMAGE),
    Operation("``crop``", crop, celestial=True, **IMAGE),
    Operation("``crop_by_values``", crop_by_values, celestial=True, **IMAGE),
    Operation(
        "``squeeze``",
        lambda c: c.squeeze(),
        cut(np.s_[0]),
        start=lambda c: c[:1],
        part=lambda c: c[1:2, 2],
        planes=lambda value: value[0],
    ),
    Operation(
        "``explode_along_axis``",
        lambda c: c.explode_along_axis(0)[1],
        cut(np.s_[1]),
        part=lambda c: c[:, 2],
        planes=lambda value: value[1],
    ),
    Operation("Slice of an `~ndcube.NDCubeSequence`", lambda c: NDCubeSequence([c, c])[(1, *item(c))], **IMAGE),
    Operation(
        "``index_as_cube`` of a sequence",
        lambda c: sequence(c).index_as_cube[0:2].data[1],
        cut(np.s_[1:2]),
        part=lambda c: c[:, 2],
        planes=lambda value: value[1:2],
    ),
    Operation("``crop`` of a sequence", crop_sequence, celestial=True, **IMAGE),
    Operation(
        "``explode_along_axis`` of a sequence",
        lambda c: NDCubeSequence([c, c]).explode_along_axis(0).data[3],
        cut(np.s_[1]),
        part=lambda c: c[:, 2],
        planes=lambda value: value[1],
    ),
    Operation("Slice of an `~ndcube.NDCollection`", collection, **IMAGE),
    Operation("``rebin``, mean", rebin(np.mean), binned(mean=True), **BINNED),
    Operation("``rebin``, sum", rebin(np.sum), binned(mean=False), **BINNED),
    Operation(
        "``rebin``, exposures",
        lambda c: c.rebin((2,) + (1,) * (c.data.ndim - 1)),
        mean_exposure,
        part=lambda c: c[:, 2],
        planes=lambda value: value[:1] + (value - value[0]).mean(),
        steps=("rebin",),
        lacks={"Metadata": "what the exposures share"},
    ),
    Operation("``reproject_to``, interpolation", reproject("interpolation"), **MOVED),
    Operation("``reproject_to``, exact", reproject("exact"), **MOVED),
    Operation("``reproject_to``, adaptive", reproject("adaptive"), **MOVED | {"arrays": impulses}),
    Operation("``reproject_to`` the WCS of a cube", reproject("interpolation", target_4d), **MOVED),
    Operation("``-cube``", lambda c: -c, lambda d, s, b: (-d, s, b), steps=("multiply",)),
    Operation("``cube * -2``", lambda c: c * -2, lambda d, s, b: (-2 * d, 2 * s, b), steps=("multiply",)),
    Operation(
        "``cube / Quantity``",
        lambda c: c / (4 * u.s),
        lambda d, s, b: (d / 4, s / 4, b),
        unit=lambda unit: unit / u.s,
        steps=("divide",),
    ),
    Operation("``Quantity - cube``", lambda c: 5 * c.unit - c, lambda d, s, b: (5 - d, s, b), steps=("subtract",)),
    Operation(
        "``1 / cube``",
        lambda c: 1 / c,
        lambda d, s, b: (1 / d, s / d**2, b),
        unit=lambda unit: 1 / unit,
        steps=("divide",),
    ),
    Operation(
        "``cube * array``",
        lambda c: c * FACTOR,
        lambda d, s, b: (d * FACTOR, s * abs(FACTOR), b),
        steps=("multiply",),
    ),
    Operation(
        "``cube ** 2``",
        lambda c: c**2,
        lambda d, s, b: (d * d, 2 * abs(d) * s, b),
        unit=lambda unit: unit**2,
        steps=("power",),
    ),
    Operation(
        "``cube + cube``",
        lambda c: c + other(c),
        with_other(lambda d, s, e, t: (d + e, (s**2 + t**2) ** 0.5)),
        steps=("add",),
    ),
    Operation(
        "``cube - cube``",
        lambda c: c - other(c),
        with_other(lambda d, s, e, t: (d - e, (s**2 + t**2) ** 0.5)),
        steps=("subtract",),
    ),
    Operation(
        "``cube * cube``",
        lambda c: c * other(c),
        with_other(lambda d, s, e, t: (d * e, ((e * s) ** 2 + (d * t) ** 2) ** 0.5)),
        unit=lambda unit: unit**2,
        steps=("multiply",),
    ),
    Operation(
        "``cube / cube``",
        lambda c: c / other(c),
        with_other(lambda d, s, e, t: (d / e, ((s / e) ** 2 + (d * t / e**2) ** 2) ** 0.5)),
        unit=lambda unit: unit / unit,
        steps=("divide",),
    ),
    Operation(
        "``to``",
        lambda c: c.to(c.unit * 100),
        lambda d, s, b: (d / 100, s / 100, b),
        unit=lambda unit: unit * 100,
        steps=("convert",),
    ),
    Operation(
        "``to`` a rate",
        lambda c: c.to(c.unit / u.s),
        lambda d, s, b: (d / SECONDS, s / SECONDS, b),
        unit=lambda unit: unit / u.s,
        steps=("convert",),
    ),
    Operation("``difference``", lambda c: c.difference(3, 1), difference, steps=("difference",), **CHANNELS),
    Operation("``min_images``", lambda c: c.min_images(), lowest, steps=("min_images",), **CHANNELS),
    Operation("``copy.deepcopy``", copy.deepcopy, same),
    Operation("``pickle``", lambda c: pickle.loads(pickle.dumps(c)), same),
    Operation("FITS, ``write`` and ``read``", round_trip("fits"), same, lazy=read_lazily),
    Operation("ASDF, ``write`` and ``read``", round_trip("asdf"), same, lacks={"Lazy": "no"}),
]


def whole(operation, level=3, *, sigma=None):
    cube = make_cube(SHAPE, level=level, alignments=level == 3)
    # Without it no bin is bad altogether.
    cube.mask[0, :, 3:9, 4:8] = True
    if sigma is not None:
        cube.uncertainty.array[...] = sigma
    return operation.start(cube)


def truth(operation, cube):
    bad = cube.mask | np.isnan(cube.data)
    with np.errstate(invalid="ignore"):
        return operation.arrays(cube.data.astype(float), cube.uncertainty.array.astype(float), bad)


def prove_unit(operation):
    """The unit is the expected one, and data in it are the expected numbers where valid."""
    cube, result = operation.example
    data, _, bad = truth(operation, cube)
    assert result.unit == operation.unit(cube.unit)
    assert result.uncertainty.unit == result.unit
    np.testing.assert_allclose(result.data[~bad], data[~bad], rtol=2e-6, atol=2e-6)
    assert (~bad).sum() > 20


def prove_mask(operation):
    """Pixels that are masked or NaN are so in the result, and no others; flags of valid pixels go along."""
    cube, result = operation.example
    _, _, bad = truth(operation, cube)
    assert result.mask.dtype == bool
    np.testing.assert_array_equal(result.mask | np.isnan(result.data), bad)
    assert bad.any()
    assert not bad.all()
    assert result.flags.shape == result.shape
    flagged = whole(operation)
    flagged._flags = np.full_like(cube.flags, 32)
    assert (operation.apply(flagged).flags[~bad] == 32).all()


def prove_uncertainty(operation):
    """The standard deviation of valid pixels is the expected one, and no bad pixel reaches it."""
    cube, result = operation.example
    if operation.arrays is impulses:
        cube = whole(operation, sigma=0.25)
        result = operation.apply(cube)
    _, sigma, bad = truth(operation, cube)
    assert type(result.uncertainty) is StdDevUncertainty
    assert result.uncertainty.parent_nddata is result
    assert cube.uncertainty.parent_nddata is cube
    # Transformed positions are off by 1e-8 pixels, which is that much of a neighbor's variance.
    np.testing.assert_allclose(result.uncertainty.array[~bad], sigma[~bad], rtol=1e-5, atol=1e-7)
    assert (result.uncertainty.array[~bad] >= 0).all()


def prove_wcs(operation):
    """A FITS WCS, with every pixel where it was, to 1e-6 arcsec and 1e-3 s."""
    cube, result = operation.example
    assert type(result.wcs) is ESISWCS
    assert result.wcs.array_shape == result.shape
    assert result.wcs.to_header()["CTYPE1"] == "HPLN-TAN"
    y, x = np.indices(result.shape[-2:])
    before = cube.wcs.celestial.pixel_to_world_values(*operation.source(x, y))
    after = result.wcs.celestial.pixel_to_world_values(x, y)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6 / 3600)
    expected = cube.time if operation.planes is None else operation.planes(cube.time)
    assert np.all(abs((result.time - expected).to_value("s")) < 1e-3)


def prove_dropped(operation):
    """Time and channel that were sliced away are remembered, and so is what the user added."""
    cube = operation.part(make_cube(SHAPE, alignments=True))
    before, after = dict(cube.global_coords.items()), dict(operation.apply(cube).global_coords.items())
    assert before
    for name, value in before.items():
        assert after[name] == value
    cube.global_coords.add("note", "custom:note", 1)
    assert operation.apply(cube).global_coords["note"] == 1


def prove_meta(operation):
    """Metadata follow the axes, and the history grows by what was done."""
    cube, result = operation.example
    for key in ("flight", "line", "stage", "reference", "vignetting"):
        assert_values_equal(result.meta[key], cube.meta[key])
    names = [step.name for step in cube.history]
    assert names == ["bias", "despike"]
    assert [step.name for step in result.history] == names + list(operation.steps)
    frame = cube.frame_number if operation.planes is None else operation.planes(cube.frame_number)
    np.testing.assert_array_equal(result.frame_number, frame)
    if operation.planes is not None:
        for key in ("file", "exposure_time", "normalization", "alignment_final"):
            assert_values_equal(result.meta[key], operation.planes(cube.meta[key]))
        assert np.all(result.mid_time == operation.planes(cube.mid_time))
    result.meta["stage"] = "linear"
    assert cube.stage == "final"
    result.meta["stage"] = "final"


def prove_class(operation):
    """Class and type stay, of both kinds of cube, and the input is left alone."""
    for level in (3,) if operation.celestial else (3, 1):
        cube = whole(operation, level)
        before = copy.deepcopy(cube)
        result = operation.apply(cube)
        assert type(result) is type(cube)
        assert result.data.dtype == (float if operation.label == "``cube * array``" else cube.data.dtype)
        for name in ("data", "mask", "flags"):
            np.testing.assert_array_equal(getattr(cube, name), getattr(before, name))
        np.testing.assert_array_equal(cube.uncertainty.array, before.uncertainty.array)
        assert cube.history == before.history


def lazy_copy(cube):
    """The cube with Dask arrays, a chunk for each image."""

    def lazy(array):
        return da.from_array(array, chunks=(1,) * (array.ndim - 2) + array.shape[-2:])

    return type(cube)(
        lazy(cube.data),
        wcs=cube.wcs,
        mask=lazy(cube.mask),
        flags=lazy(cube.flags),
        uncertainty=StdDevUncertainty(lazy(cube.uncertainty.array), copy=False),
        unit=cube.unit,
        meta=cube.meta,
    )


def refuse(*args, **kwargs):
    msg = "an operation on a lazy cube computed it"
    raise AssertionError(msg)


def prove_lazy(operation):
    """A lazy cube is not computed by the operation, and gives the same when it is."""
    cube, expected = operation.example
    lazy = lazy_copy(cube)
    with dask.config.set(scheduler=refuse):
        result = (operation.lazy or operation.apply)(lazy)
    one, two = (
        {"uncertainty": cube.uncertainty.array} | {name: getattr(cube, name) for name in ("data", "mask", "flags")}
        for cube in (result, expected)
    )
    # At once, so that what they share is computed once.
    (computed,) = dask.compute(one)
    for name, array in one.items():
        assert isinstance(array, da.Array), name
        np.testing.assert_array_equal(computed[name], two[name])
    # Types are told before anything is computed.
    assert result.data.dtype == expected.data.dtype == computed["data"].dtype
    assert result.shape == expected.shape


PROPERTIES = {
    "Unit": prove_unit,
    "Mask, flags": prove_mask,
    "Uncertainty": prove_uncertainty,
    "WCS": prove_wcs,
    "Dropped coordinates": prove_dropped,
    "Metadata": prove_meta,
    "Class": prove_class,
    "Lazy": prove_lazy,
}


def judge(operation, name):
    """The text of a cell of the table."""
    try:
        PROPERTIES[name](operation)
    except Exception:
        return operation.lacks.get(name, "not proved")
    return "yes"


def render():
    """The table, in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - Operation"]
    lines += [f"     - {name}" for name in PROPERTIES]
    for operation in OPERATIONS:
        lines.append(f"   * - {operation.label}")
        lines += [f"     - {judge(operation, name)}" for name in PROPERTIES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
