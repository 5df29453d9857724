"""The parts of which cubes and operands may be made: masks of all kinds, whole numbers, uncertainties of all kinds."""

import functools
import itertools

import dask
import dask.array as da
import numpy as np
import pytest
from helpers import assert_bits_equal, daily, make_cube, make_lazy

import astropy.units as u
from astropy.nddata import InverseVariance, NDData, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.utils.masked import Masked
from ndcube import ExtraCoords
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESISLevel3Cube, coalign
from esis_ndcube.corrections.vignetting import Vignetting

SHAPE = (2, 3, 12, 14)
BAD = np.arange(12 * 14).reshape(12, 14) % 5 == 0
VALUES = np.linspace(1, 3, BAD.size).reshape(BAD.shape)

OPERATIONS = {
    "*": lambda cube, x: cube * x,
    "reflected *": lambda cube, x: x * cube,
    "/": lambda cube, x: cube / x,
    "reflected /": lambda cube, x: x / cube,
    "+": lambda cube, x: cube + x,
    "reflected +": lambda cube, x: x + cube,
    "-": lambda cube, x: cube - x,
    "reflected -": lambda cube, x: x - cube,
}
MASKED = {
    "astropy": lambda unit: Masked(VALUES, mask=BAD) * unit,
    "astropy quantity": lambda unit: Masked(VALUES << unit, mask=BAD),
    "astropy, one value": lambda unit: Masked(2.0, mask=True) * unit,
    "numpy": lambda unit: np.ma.array(VALUES, mask=BAD),
    "numpy, nothing masked": lambda unit: np.ma.array(VALUES),
    "numpy, one value": lambda unit: np.ma.masked,
    "nddata": lambda unit: NDData(VALUES, mask=BAD, unit=unit),
    "nddata of numpy": lambda unit: NDData(np.ma.array(VALUES, mask=BAD), unit=unit),
    "nddata, mask of integers": lambda unit: NDData(VALUES, mask=BAD.astype(np.uint8) * 64, unit=unit),
    "nddata, all masked": lambda unit: NDData(VALUES, mask=True, unit=unit),
}
NOTHING = "numpy, nothing masked"
ALL = ("astropy, one value", "numpy, one value", "nddata, all masked")


@pytest.fixture
def cube():
    return make_cube(SHAPE, alignments=True)


def changed(cube, **parts):
    kept = {name: getattr(cube, name) for name in ("data", "wcs", "uncertainty", "mask", "flags", "meta", "unit")}
    return type(cube)(**kept | parts)


@pytest.mark.parametrize("kind", daily(*MASKED))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_masks_of_operands_are_kept(operation, kind, cube):
    # numpy's have no unit.
    cube = changed(cube, unit=None) if kind.startswith("numpy") else cube
    unit = u.one if kind.startswith("numpy") else cube.unit
    if kind.startswith("nddata") and operation.startswith("reflected"):
        pytest.skip("has no operators")
    if kind == "numpy, one value" and operation == "/":
        pytest.skip("it is a masked zero")
    bad = np.zeros(SHAPE, bool) if kind == NOTHING else np.ones(SHAPE, bool) if kind in ALL else BAD
    for one in (cube, changed(cube, mask=None), make_lazy(cube)[0]):
        result = OPERATIONS[operation](one, MASKED[kind](unit))
        assert type(result) is ESISLevel3Cube
        expected = bad | (False if one.mask is None else np.asarray(one.mask))
        np.testing.assert_array_equal(np.broadcast_to(result.mask, SHAPE), np.broadcast_to(expected, SHAPE))
    if kind not in ALL:
        numbers = OPERATIONS[operation](cube.data.astype(float), VALUES)
        np.testing.assert_allclose(np.where(bad, 0, result.data), np.where(bad, 0, numbers), rtol=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        Masked(np.ones(SHAPE), mask=np.broadcast_to(BAD, SHAPE)),
        Masked(np.ones(SHAPE) << u.ph, mask=np.broadcast_to(BAD, SHAPE)),
        np.ma.array(np.ones(SHAPE), mask=np.broadcast_to(BAD, SHAPE)),
        NDData(np.ma.array(np.ones(SHAPE), mask=np.broadcast_to(BAD, SHAPE)), unit="ph"),
    ],
    ids=["masked", "masked quantity", "numpy", "nddata"],
)
def test_cubes_of_masked_arrays(data, cube):
    result = ESISLevel3Cube(data, wcs=cube.wcs)
    assert type(result.data) is np.ndarray
    np.testing.assert_array_equal(result.mask, np.broadcast_to(BAD, SHAPE))
    assert result.unit == getattr(data, "unit", None)
    if not isinstance(data, NDData):
        # A mask of one's own is one more, and not in place of it.
        other = np.zeros(SHAPE, bool)
        other[0] = True
        np.testing.assert_array_equal(ESISLevel3Cube(data, wcs=cube.wcs, mask=other).mask, BAD | other)


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [False, True])
def test_masks_of_integers_and_of_one_value(lazy, cube):
    integers = BAD.astype(np.int16) * 4 + np.zeros(SHAPE, np.int16)
    given = da.from_array(integers) if lazy else integers
    result = changed(cube, mask=given)
    assert result.mask.dtype == bool
    assert isinstance(result.mask, da.Array) == lazy
    np.testing.assert_array_equal(result.mask, np.broadcast_to(BAD, SHAPE))
    result.mask = 1
    assert result.mask == np.True_
    with pytest.raises(ValueError, match="got a mask of type float64, expected bool"):
        changed(cube, mask=np.ones(SHAPE))
    for value in (True, np.True_, False, np.array(False)):
        one, full = changed(cube, mask=value), changed(cube, mask=np.full(SHAPE, bool(value)))
        for do in (
            lambda c: c.rebin((1, 1, 2, 2)),
            lambda c: c.difference(1, 2),
            lambda c: c.min_images(),
            lambda c: c * 2,
            lambda c: c.mask_pixels(BAD),
            lambda c: c.uncorrect_vignetting(),
        ):
            got, expected = do(one), do(full)
            assert_bits_equal(got.data, expected.data)
            np.testing.assert_array_equal(np.broadcast_to(got.mask, got.shape), expected.mask)


@pytest.mark.slow
def test_plain_data_with_a_lazy_mask_and_the_reverse(cube):
    lazy = make_lazy(cube)[0]
    for do in (
        lambda c: c.rebin((1, 1, 2, 2)),
        lambda c: c.difference(1, 2),
        lambda c: c.min_images(),
        lambda c: c * c,
        lambda c: c.mask_pixels(BAD),
        lambda c: c.uncorrect_vignetting(),
        lambda c: c.reproject_to(c.wcs),
    ):
        expected = do(cube)
        for mixed in (changed(cube, mask=lazy.mask), changed(lazy, mask=cube.mask), changed(cube, flags=lazy.flags)):
            got = do(mixed)
            # Their common parts are computed once.
            arrays = dask.compute(got.data, got.mask, got.flags, got.uncertainty.array)
            for array, name in zip(arrays, ("data", "mask", "flags"), strict=False):
                np.testing.assert_array_equal(array, getattr(expected, name))
            np.testing.assert_array_equal(arrays[-1], expected.uncertainty.array)


@pytest.mark.parametrize("kind", ["astropy", "astropy quantity", "numpy", "nddata", "integers", "pair"])
def test_masked_pixels_are_not_coaligned(kind):
    from scipy.ndimage import gaussian_filter

    scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(80, 80)), 2))
    image, reference = scene[5:70, 8:73].copy(), scene[:65, :65]
    bad = np.zeros(image.shape, bool)
    bad[20:35, 10:30] = True
    expected = coalign(np.where(bad, np.nan, image), reference, transform="shift").transform.coefficients
    image[bad] = 1e6 * scene[:15, :20].ravel()
    given = {
        "astropy": lambda: Masked(image, mask=bad),
        "astropy quantity": lambda: Masked(image << u.DN, mask=bad),
        "numpy": lambda: np.ma.array(image, mask=bad),
        "nddata": lambda: NDData(image, mask=bad),
        "integers": lambda: NDData(image, mask=bad * 2),
        "pair": lambda: (Masked(image, mask=bad), None),
    }[kind]()
    assert_bits_equal(coalign(given, reference, transform="shift").transform.coefficients, expected)


# ------------------------------------------------------------------------------------------------- whole numbers

WHOLE = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, ">i2", np.int32, np.uint32, np.uint64]


def whole(dtype, seed=0):
    """The largest and the smallest values of a type, as cube and as Python's own numbers, which have no limits."""
    dtype = np.dtype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    # Sums of four of 64 bits are those of numpy.
    high = high // 8 if dtype.itemsize == 8 else high
    numbers = np.random.default_rng(seed).choice(np.array([low, low + 1, high - 1, high], object), (1, 3, 2, 4))
    cube = make_cube((1, 3, 2, 4))
    cube = ESISLevel3Cube(numbers.astype(dtype), wcs=cube.wcs, unit=cube.unit, meta=cube.meta)
    return cube, cube.data.astype(object) * 1


@pytest.mark.parametrize(
    ("dtype", "lazy"),
    # The type decides, lazily as well: a short one, another byte order and a long one do for Dask.
    daily(*((dtype, False) for dtype in WHOLE), *((dtype, True) for dtype in (np.int8, ">i2", np.uint64))),
)
def test_whole_numbers_do_not_overflow(dtype, lazy):
    (one, a), (two, b) = whole(dtype), whole(dtype, 1)
    if lazy:
        one, two = (changed(cube, data=da.from_array(cube.data)) for cube in (one, two))
    pairs = [
        (one + two, a + b),
        (one - two, a - b),
        (-one, -a),
        (one - 5 * one.unit, a - 5),
        (one**3, a**3),
        (one.difference(1, 2), a[:, 0] - a[:, 1]),
        (one.to(one.unit / 1000), a * 1000),
        (one.rebin((1, 1, 2, 2), np.sum), a.reshape(1, 3, 1, 2, 2, 2).sum((3, 5))),
        (one.rebin((1, 1, 2, 2)), a.reshape(1, 3, 1, 2, 2, 2).sum((3, 5)) / 4),
        (one.rebin((1, 1, 2, 2), np.max), a.reshape(1, 3, 1, 2, 2, 2).max((3, 5))),
    ]
    pairs.append((one * two, a * b))
    # Floating numbers hold 53 bits, also of the smaller number of a difference.
    last = 2.0**10 if dtype == np.uint64 else 0
    for result, expected in pairs:
        found = np.asarray(result.data).astype(float)
        np.testing.assert_allclose(found, expected.astype(float), rtol=5e-16, atol=last)
        assert result.data.dtype == np.asarray(result.data).dtype
    assert one.rebin((1, 1, 2, 2), np.sum).data.dtype == np.empty(0, dtype).sum().dtype


def test_short_floating_numbers_do_not_overflow():
    cube, _ = whole(np.int16)
    cube = changed(cube, data=np.full(cube.shape, 60000, np.float16))
    for result, value in (
        (cube + cube, 2 * 59990.0 + 20),
        (cube * 2, 2 * 60000.0),
        (cube**2, 60000.0**2),
        (cube.rebin((1, 1, 2, 2), np.sum), 4 * 60000.0),
        (cube.to(cube.unit / 100), 6e6),
    ):
        np.testing.assert_allclose(result.data, np.float64(np.float16(60000)) * value / 60000, rtol=1e-6)


def test_uncertainties_of_whole_numbers():
    cube, _ = whole(np.int16)
    for kind, power in ((StdDevUncertainty, 1), (VarianceUncertainty, 2)):
        one = changed(cube, uncertainty=kind(np.full(cube.shape, 200, np.uint8)))
        result = one + one.rebin((1, 1, 1, 1))[..., :]
        expected = (2 * 200**2) ** 0.5 if power == 1 else 400
        np.testing.assert_allclose(result.uncertainty.array, expected)


# ------------------------------------------------------------------------------------------------- uncertainties

DO = {
    "add": lambda c: c + c[0],
    "multiply": lambda c: c * -2,
    "divide": lambda c: 1 / c,
    "power": lambda c: c**2,
    "convert": lambda c: c.to(c.unit * 100),
    "rate": lambda c: c.to("ph / (s arcsec2)"),
    "rebin": lambda c: c.rebin((1, 1, 2, 2)),
    "rebin with unit": lambda c: c.rebin((1, 1, 2, 2), np.sum, new_unit=c.unit * u.pix),
    "reproject": lambda c: c.reproject_to(c.wcs),
    "difference": lambda c: c.difference(2, 1),
    "min": lambda c: c.min_images(),
    "slice": lambda c: c[1:],
    "normalize": lambda c: c.normalize_intensities(region=GOOD),
    "vignetting": lambda c: c.uncorrect_vignetting(),
    "mask": lambda c: c.mask_pixels(BAD),
}
GOOD = np.zeros((12, 14), bool)
GOOD[3:9, 4:9] = True


def measurable(cube):
    """A cube without invalid pixels, that is not normalized, with another alignment for each image."""
    meta = cube.meta.copy() if not hasattr(cube.meta, "axes") else cube[:].meta
    del meta["normalization"]
    return changed(cube, data=np.nan_to_num(cube.data, nan=3.0) + 1, mask=None, meta=meta)


@functools.cache
def propagated(name):
    """A measurable cube with standard deviations, and what an operation makes of it."""
    cube = measurable(make_cube(SHAPE, alignments=True))
    cube = changed(cube, uncertainty=StdDevUncertainty(cube.uncertainty.array.astype(float) + 0.5))
    return cube, DO[name](cube)


@pytest.mark.slow
# All kinds are made standard deviations in one place: each operation meets variances and one other kind.
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("variance", name) for name in DO),
        *zip(itertools.cycle(["inverse", "unit", "inverse unit"]), DO, strict=False),
    ],
)
def test_every_kind_of_uncertainty_is_propagated_alike(kind, name):
    cube, plain = propagated(name)
    sigma = cube.uncertainty.array
    given = {
        "variance": VarianceUncertainty(sigma**2),
        "inverse": InverseVariance(sigma**-2),
        "unit": StdDevUncertainty(sigma * 1000, unit=cube.unit / 1000),
        "inverse unit": InverseVariance(sigma**-2 / 1e6, unit=(cube.unit / 1000) ** -2),
    }[kind]
    expected = plain.uncertainty.array
    result = DO[name](changed(cube, uncertainty=given))
    assert type(result.uncertainty) is type(given)
    own = result.uncertainty.represent_as(StdDevUncertainty)
    found = (own.array * own.unit).to_value(result.unit)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(result.data, plain.data)
    assert result.unit == plain.unit


@pytest.mark.slow
@pytest.mark.parametrize("lazy", daily(False, True))
@pytest.mark.parametrize("name", DO)
def test_uncertainties_without_end_or_meaning(name, lazy, cube):
    """An inverse variance of 0 is an infinite error, and of a negative one nothing is known; none of them warns."""
    cube = measurable(cube)
    weights = np.ones(SHAPE)
    weights[:, :, 0] = 0
    weights[:, :, 1] = -1
    weights[:, :, 2] = np.nan
    cube = changed(cube, uncertainty=InverseVariance(weights))
    result = DO[name](make_lazy(changed(cube, mask=np.zeros(SHAPE, bool)))[0] if lazy else cube)
    array = np.asarray(result.uncertainty.array)
    assert not np.any(array[..., 0, :] > 0)
    assert np.isfinite(array[..., 6:, :]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", DO)
def test_uncertainties_that_are_none_or_unknown(name, cube):
    cube = measurable(cube)
    for empty in (StdDevUncertainty(None), UnknownUncertainty(None)):
        one = changed(cube, uncertainty=empty)
        assert one.uncertainty is None
        assert DO[name](one).uncertainty is None
    unknown = changed(cube, uncertainty=UnknownUncertainty(np.ones(SHAPE)))
    if name in ("min", "slice", "mask"):
        assert type(DO[name](unknown).uncertainty) is UnknownUncertainty
        return
    with pytest.warns(SunpyUserWarning, match="no uncertainty"):
        assert DO[name](unknown).uncertainty is None


def test_one_uncertainty_for_all_pixels(cube):
    one, full = (changed(cube, uncertainty=StdDevUncertainty(x)) for x in (2.0, np.full(SHAPE, 2.0)))
    assert_bits_equal((one[1] * 3).uncertainty.array, (full[1] * 3).uncertainty.array)


# -------------------------------------------------------------------------------------- coordinates of the user's

CARRY = DO | {
    "context": lambda c: c.context([c[0, 0].to_map()]),
    "subtract": lambda c: c[:, 1] - c[:, 0],
    "exposures": lambda c: c.rebin((2, 1, 1, 1)),
}


@pytest.mark.parametrize("name", CARRY)
@pytest.mark.slow
def test_coordinates_that_were_added_go_along(name, cube):
    cube = measurable(cube)
    cube.global_coords.add("note", "custom:note", 7)
    cube.extra_coords.add("height", 0, [150, 160] * u.km)
    cube.extra_coords.add("angle", 1, [1, 2, 3] * u.deg)
    cube.extra_coords.add("row", 2, np.arange(12) * u.one)
    result = CARRY[name](cube)
    assert result.global_coords["note"] == 7
    (table,) = result.extra_coords["height"]._lookup_tables[0][1].table
    heights = {"slice": [160], "exposures": [155]}.get(name, [150, 160])
    np.testing.assert_allclose(table.to_value("km"), heights)
    lost = {"reproject": ["row"], "difference": ["angle"], "min": ["angle"], "context": ["angle"]}.get(name, [])
    lost = ["angle"] if name == "subtract" else lost
    assert {*result.extra_coords.keys()} == {"height", "angle", "row"} - {*lost}
    if lost and name not in ("context", "subtract"):
        assert set(lost) <= set(result.history[-1].parameters["dropped"])
    if "row" not in lost:
        (axes, table), *_ = result.extra_coords["row"]._lookup_tables
        expected = np.arange(12).reshape(6, 2).mean(1) if name.startswith("rebin") else np.arange(12)
        np.testing.assert_allclose(table.table[0], expected)
        assert result.shape[np.atleast_1d(axes)[0]] == len(expected)
    # One that was sliced away before is not forgotten.
    if name not in ("slice", "add", "exposures"):
        image = cube[1]
        assert image.global_coords["height"] == 160 * u.km
        if name not in ("subtract", "normalize", "rebin", "rebin with unit"):
            continue_with = {"context": lambda c: c.context([c[0].to_map()])}.get(name)
            assert continue_with is None or continue_with(image).global_coords["height"] == 160 * u.km
        assert (image * 2)[:, 3:].global_coords["height"] == 160 * u.km


def test_coordinates_of_a_wcs_go_along(cube):
    from astropy.wcs import WCS

    wcs = WCS(naxis=1)
    wcs.wcs.ctype, wcs.wcs.cunit, wcs.wcs.cdelt, wcs.wcs.cname = ["LINEAR"], ["km"], [10], ["height"]
    wcs.wcs.set()
    coordinates = ExtraCoords()
    coordinates.wcs, coordinates.mapping = wcs, (0,)
    cube._extra_coords = coordinates
    for result in (cube * 2, cube[1], cube.difference(2, 1), cube.rebin((2, 1, 1, 1))[0]):
        assert result.extra_coords.mapping == (0,)
        np.testing.assert_allclose(result.extra_coords.wcs.pixel_to_world_values(np.arange(2)), [10, 20])
    binned = cube.rebin((1, 1, 1, 2))
    assert binned.extra_coords.mapping == (0,)
    np.testing.assert_allclose(binned.extra_coords.wcs.pixel_to_world_values([0, 1]), [15, 35])
    moved = cube.reproject_to(cube.wcs)
    assert moved.extra_coords.is_empty
    assert moved.history[-1].parameters["dropped"] == ["height"]


def test_a_slice_has_extra_coordinates_of_its_own(cube):
    part = cube[0]
    part.extra_coords.add("angle", 0, [1, 2, 3] * u.deg)
    assert cube.extra_coords.is_empty


@pytest.mark.parametrize(
    ("make", "channels", "title"),
    [
        (lambda c: c.difference(2, 3), "2 minus 3", "Channel 2 minus channel 3"),
        (lambda c: c.difference(2, 3) * 2, "2 minus 3", "Channel 2 minus channel 3"),
        (lambda c: c[:, 2] - c[:, 0], "3 minus 1", "Channel 3 minus channel 1"),
        (lambda c: c[:, 2] / c[:, 0], "3 by 1", "Channel 3 by channel 1"),
        (lambda c: c.min_images().rebin((1, 2, 2)), "minimum of 1, 2, 3", "Minimum of the channels"),
        (lambda c: c[:, :2].min_images(), "minimum of 1, 2", "Minimum of the channels"),
    ],
)
def test_what_is_made_of_channels_says_so(make, channels, title, cube):
    result = make(cube)
    assert f"\n  channel: {channels}\n" in str(result)
    assert "\n  alignment: final\n" in str(result)
    assert channels in result._repr_html_()
    from esis_ndcube.visualization.style import panel_title

    assert panel_title(result) == title


def test_slopes_of_a_variance(cube):
    """The variance is divided by the square of the vignetting."""
    cube = measurable(cube)
    cube.meta["vignetting"] = Vignetting({1: 0.4, 2: 0.5, 3: 0.6}, cube.flight, "O V")
    one = changed(cube, uncertainty=VarianceUncertainty(np.square(cube.data))).uncorrect_vignetting()
    np.testing.assert_allclose(one.uncertainty.array, np.square(one.data), rtol=1e-5)
