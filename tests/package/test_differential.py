"""The same data in a plain NDCube, in a plain WCS and in ours: what both can do comes out the same."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import make_cube
from hypothesis import given, settings
from hypothesis import strategies as st

from astropy.nddata import StdDevUncertainty
from astropy.wcs import WCS
from ndcube import NDCube, NDCubeSequence
from ndcube.wcs.wrappers import CompoundLowLevelWCS, ReorderedLowLevelWCS, ResampledLowLevelWCS

SHAPE = 4, 3, 5, 6
CUBE = make_cube(SHAPE)
# A plain NDCube slices the WCS by the wrappers of astropy, not by the methods of ours.
PLAIN = NDCube(
    CUBE.data, wcs=CUBE.wcs, mask=CUBE.mask, uncertainty=StdDevUncertainty(CUBE.uncertainty.array), unit=CUBE.unit
)
# Its type is not ours, and neither is the way that it reads the table of times.
STOCK = WCS(CUBE.wcs.to_header(), CUBE.wcs.to_fits())


@st.composite
def items(draw):
    """Integers and ranges, at least one range."""
    result = []
    for n in SHAPE[: draw(st.integers(1, 4))]:
        first = draw(st.integers(0, n - 1))
        result.append(draw(st.sampled_from([first, slice(first, draw(st.integers(first + 1, n)))])))
    return tuple(result) if len(result) < 4 or any(isinstance(x, slice) for x in result) else (*result[:3], slice(None))


def grid(shape):
    """Every pixel, in the order of the WCS."""
    return np.indices(shape, dtype=float)[::-1]


def assert_same(ours, plain):
    np.testing.assert_array_equal(ours.data, plain.data)
    np.testing.assert_array_equal(ours.mask, plain.mask)
    np.testing.assert_array_equal(ours.uncertainty.array, plain.uncertainty.array)
    assert ours.unit == plain.unit
    assert ours.shape == plain.shape
    assert ours.array_axis_physical_types == plain.array_axis_physical_types
    pixels = grid(ours.shape)
    np.testing.assert_allclose(
        np.array(ours.wcs.low_level_wcs.pixel_to_world_values(*pixels)),
        np.array(plain.wcs.low_level_wcs.pixel_to_world_values(*pixels)),
        rtol=1e-12,
        atol=1e-12,
    )
    one, two = ours.global_coords, plain.global_coords
    assert set(one.physical_types.values()) == set(two.physical_types.values())
    assert one.keys() == two.keys()
    if "channel" in one:
        assert one["channel"] == two["channel"]
    if "time" in one:
        assert abs(one["time"] - two["time"]).to_value("s") < 1e-9


@pytest.mark.slow
@settings(max_examples=40)
@given(items())
def test_slices(item):
    assert_same(CUBE[item], PLAIN[item])


@settings(max_examples=15)
@given(items(), st.data())
def test_slices_of_slices(item, data):
    ours, plain = CUBE[item], PLAIN[item]
    again = tuple(slice(data.draw(st.integers(0, n - 1)), None) for n in ours.shape)
    assert_same(ours[again], plain[again])


def test_world_values_are_those_of_a_stock_wcs():
    pixels = grid(SHAPE)
    values = STOCK.pixel_to_world_values(*pixels)
    np.testing.assert_array_equal(CUBE.wcs.pixel_to_world_values(*pixels), values)
    back = np.array(CUBE.wcs.world_to_pixel_values(*values))
    np.testing.assert_array_equal(back, np.array(STOCK.world_to_pixel_values(*values)))
    np.testing.assert_array_equal(CUBE.wcs.axis_correlation_matrix, STOCK.axis_correlation_matrix)


@pytest.mark.parametrize("item", [np.s_[:], np.s_[1], np.s_[:, 2], np.s_[1, 2], np.s_[1, 2, 3], np.s_[..., 4]])
def test_axis_world_coords(item):
    ours, plain = CUBE[item], PLAIN[item]
    one, two = ours.axis_world_coords_values(), plain.axis_world_coords_values()
    assert one._fields == two._fields
    for a, b in zip(one, two, strict=True):
        assert a.unit == b.unit
        np.testing.assert_allclose(a.value, b.value, rtol=1e-12, atol=1e-12)
    for a, b in zip(ours.axis_world_coords(), plain.axis_world_coords(), strict=True):
        assert type(a) is type(b)
        assert a.shape == b.shape


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("corners", [((0, 1, 1, 2), (2, 2, 3, 4)), ((1, 0, 0, 0), (1, 2, 4, 5)), ((2, 1, 3, 3),) * 2])
def test_crop(corners, keepdims):
    if corners[0] == corners[1] and not keepdims:
        pytest.skip("a single pixel is no cube")
    points = [PLAIN.wcs.array_index_to_world(*corner) for corner in corners]
    assert_same(CUBE.crop(*points, keepdims=keepdims), PLAIN.crop(*points, keepdims=keepdims))
    values = [PLAIN.wcs.array_index_to_world_values(*corner) for corner in corners]
    units = PLAIN.wcs.world_axis_units
    one, two = (cube.crop_by_values(*values, units=units, keepdims=keepdims) for cube in (CUBE, PLAIN))
    assert_same(one, two)


def test_crop_by_one_coordinate():
    times = PLAIN.axis_world_coords("time")[0]
    points = [None, None, times[1]], [None, None, times[2]]
    assert_same(CUBE.crop(*points), PLAIN.crop(*points))


@pytest.mark.parametrize("item", [np.s_[1, 2], np.s_[1, 2, 3], np.s_[:, 1, 2, 3]])
def test_plots(item):
    values, world = [], []
    for cube in (CUBE[item], PLAIN[item]):
        plt.figure()
        axes = cube.plot()
        images = axes.get_images()
        values.append(np.ma.filled(images[0].get_array() if images else axes.get_lines()[0].get_ydata(), np.nan))
        wcs = getattr(axes.wcs, "low_level_wcs", axes.wcs)
        world.append(np.array(wcs.pixel_to_world_values(*[[0.0, 1.0, 2.5]] * wcs.pixel_n_dim)))
        plt.close("all")
    np.testing.assert_array_equal(*values)
    np.testing.assert_allclose(*world, rtol=1e-12, atol=1e-12)


def test_sequences():
    ours, plain = (NDCubeSequence([cube[:1], cube[1:3], cube[3:]], common_axis=0) for cube in (CUBE, PLAIN))
    assert ours.shape == plain.shape
    assert ours.cube_like_shape == plain.cube_like_shape
    assert ours.array_axis_physical_types == plain.array_axis_physical_types
    assert_same(ours.index_as_cube[1:3, 1].data[0], plain.index_as_cube[1:3, 1].data[0])
    assert_same(ours.index_as_cube[2, 0], plain.index_as_cube[2, 0])
    for one, two in zip(ours[:2, 0:1, 1].data, plain[:2, 0:1, 1].data, strict=True):
        assert_same(one, two)


WRAPPERS = {
    "reordered": lambda wcs: ReorderedLowLevelWCS(wcs, [3, 2, 0, 1], [2, 3, 1, 0]),
    "resampled": lambda wcs: ResampledLowLevelWCS(wcs, [2, 3, 1, 1], [0.5, 1, 0, 0]),
    "compound": lambda wcs: CompoundLowLevelWCS(wcs, wcs.sub([4])),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers(name):
    ours, stock = (WRAPPERS[name](wcs) for wcs in (CUBE.wcs, STOCK))
    pixels = np.random.default_rng(0).uniform(0, 2, (ours.pixel_n_dim, 7))
    values = stock.pixel_to_world_values(*pixels)
    np.testing.assert_array_equal(ours.pixel_to_world_values(*pixels), values)
    np.testing.assert_array_equal(ours.axis_correlation_matrix, stock.axis_correlation_matrix)
    np.testing.assert_array_equal(ours.pixel_bounds or 0, stock.pixel_bounds or 0)
