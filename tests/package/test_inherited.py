"""Inherited methods of our classes are called, and fail, as those of their parents."""

import inspect
import operator
import warnings

import numpy as np
import pytest
from helpers import assert_bits_equal, assert_cubes_equal, make_cube
from reproject import reproject_interp

import astropy.units as u
from astropy.nddata import NDData, StdDevUncertainty, UnknownUncertainty
from astropy.wcs import WCS
from ndcube import NDCube
from ndcube.utils.cube import propagate_rebin_uncertainties
from ndcube.utils.exceptions import NDCubeUserWarning
from ndcube.visualization import PlotterDescriptor
from ndcube.wcs.tools import unwrap_wcs_to_fitswcs
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESIS_1, Alignment
from esis_ndcube.cube import ESISCube
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.resample import reproject_alignment


@pytest.fixture
def cube():
    return make_cube((4, 3, 12, 14))


def foreign(shape=(6, 8)):
    """A plain helioprojective WCS, which is none of ours."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("HPLN-TAN", "HPLT-TAN"), ("arcsec", "arcsec")
    wcs.wcs.cdelt, wcs.wcs.crpix = (2.0, 2.0), (3.0, 2.0)
    wcs.array_shape = shape
    wcs.wcs.set()
    return wcs


def names(function):
    return [name for name, given in inspect.signature(function).parameters.items() if given.kind.value == 1]


@pytest.mark.parametrize("method", ["rebin", "reproject_to", "to", "crop", "crop_by_values", "squeeze"])
def test_methods_take_the_positions_and_names_of_ndcube(method):
    assert names(getattr(ESISLevel3Cube, method)) == names(getattr(NDCube, method))


def test_reproject_alignment_takes_the_positions_and_names_of_reproject():
    theirs, ours = names(reproject_interp), names(reproject_alignment)
    # Older versions have fewer at the end.
    assert ours[: len(theirs)] == theirs


@pytest.mark.slow
def test_positional_rebin_and_reproject_to(cube):
    named = cube.rebin((1, 1, 3, 2), operation=np.sum, operation_ignores_mask=True, handle_mask=np.any, new_unit="J")
    assert_cubes_equal(cube.rebin((1, 1, 3, 2), np.sum, True, np.any, True, "J"), named)
    target = cube.wcs.celestial
    one, footprint = cube.reproject_to(target, "exact", (5, 6), True)
    two, again = cube.reproject_to(target, algorithm="exact", shape_out=(5, 6), return_footprint=True)
    assert_cubes_equal(one, two)
    assert_bits_equal(footprint, again)


def test_rebin_propagates_as_it_is_told(cube):
    bins = (1, 1, 3, 2)
    assert_cubes_equal(cube.rebin(bins, propagate_uncertainties=True), cube.rebin(bins))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without = cube.rebin(bins, np.median, propagate_uncertainties=False)
    assert without.uncertainty is None
    assert cube.uncertainty is not None
    assert cube.uncertainty.parent_nddata is cube
    ones = ESISLevel3Cube(np.ones(cube.shape), wcs=cube.wcs, uncertainty=StdDevUncertainty(np.full(cube.shape, 2.0)))
    binned = ones.rebin(bins, np.sum, propagate_uncertainties=propagate_rebin_uncertainties)
    np.testing.assert_allclose(binned.uncertainty.array, 2 * np.sqrt(6))
    assert isinstance(binned.wcs, type(cube.wcs))


def test_to_by_the_name_of_ndcube(cube):
    assert cube.to(new_unit="1000 ph / pix").unit == u.Unit("1000 ph / pix")


def test_units_that_do_not_fit_are_errors_of_both_kinds(cube):
    for kind in (TypeError, u.UnitConversionError):
        with pytest.raises(kind, match="multiply one by a unit"):
            cube + 10.0
        with pytest.raises(kind, match="expected units that fit"):
            cube - 1 * u.m


class Other:
    """Objects that know themselves how to go together with a cube."""

    def __radd__(self, cube):
        return "right"

    __rsub__ = __rmul__ = __rtruediv__ = __rpow__ = __radd__


@pytest.mark.parametrize("sign", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
def test_other_classes_have_their_turn(cube, sign):
    assert sign(cube, Other()) == "right"
    with pytest.raises(TypeError):
        sign(cube, object())


def test_power_of_an_array(cube):
    plain = ESISLevel3Cube(cube.data, wcs=cube.wcs, uncertainty=cube.uncertainty)
    exponent = np.linspace(1, 3, 14)
    result = plain**exponent
    np.testing.assert_allclose(result.data, cube.data**exponent, rtol=1e-6)
    sigma = abs(exponent * cube.data ** (exponent - 1)) * cube.uncertainty.array
    np.testing.assert_allclose(result.uncertainty.array, sigma, rtol=1e-5)
    with pytest.raises(TypeError, match="units of pixels would differ"):
        cube**exponent
    with pytest.raises(ValueError, match="fits the shape"):
        plain ** np.ones(13)
    for value in (2 * u.s, NDData(exponent), "2"):
        with pytest.raises(TypeError, match="got a"):
            plain**value


def test_plot_without_plotter(cube):
    class Bare(ESISLevel3Cube):
        plotter = PlotterDescriptor(default_type=None)

    with pytest.raises(NotImplementedError, match="no default plotting"):
        Bare(cube.data, wcs=cube.wcs).plot()


@pytest.mark.parametrize("kind", [NDCubeUserWarning, SunpyUserWarning])
def test_warnings_are_found_where_each_package_filters_them(cube, kind):
    with pytest.warns(kind, match="no uncertainty"):
        cube.rebin((1, 1, 3, 2), np.median)
    unknown = ESISLevel3Cube(cube.data, wcs=cube.wcs, uncertainty=UnknownUncertainty(cube.data))
    with pytest.warns(kind, match="no uncertainty"):
        unknown**2


def test_wcs_slices_of_lists_and_steps(cube):
    wcs, plain = cube.wcs, WCS(cube.wcs.celestial.to_header())
    plain.array_shape = (12, 14)
    sliced = wcs.slice([slice(1, 3), 0, slice(2, 12, 2), slice(1, 13, 3)])
    expected = plain[2:12:2, 1:13:3]
    assert sliced.array_shape == (2, *expected.array_shape)
    np.testing.assert_array_equal(sliced.celestial.wcs.crpix, expected.wcs.crpix)
    np.testing.assert_array_equal(sliced.celestial.wcs.cdelt, expected.wcs.cdelt)
    np.testing.assert_array_equal(sliced.times.jd2, cube.time[1:3].jd2)
    image = wcs[0, 1]
    np.testing.assert_array_equal(image.slice([slice(None, None, 2), slice(None)]).wcs.cdelt, plain[::2].wcs.cdelt)
    for name, item in ("time", slice(None, None, 2)), ("channel", (slice(None), slice(None, None, 2))):
        with pytest.raises(IndexError, match=f"step of 2 along {name}"):
            wcs[item]
    with pytest.raises(IndexError, match="without step"):
        cube[..., ::2]


def test_a_single_pixel_of_a_wcs_is_an_error_of_astropy(cube):
    with pytest.raises(ValueError, match=r"Cannot slice WCS.*single value"):
        cube.wcs[0, 0, 0, 0]


def test_unwrap_wcs_to_fitswcs(cube):
    row = cube.wcs[1, 2, 5]
    unwrapped, dropped = unwrap_wcs_to_fitswcs(row)
    assert dropped.tolist() == [True, False]
    pixels = np.arange(14.0)
    whole = cube.wcs.celestial.pixel_to_world_values(pixels, np.full(14, 5.0))
    np.testing.assert_allclose(unwrapped.pixel_to_world_values(pixels, np.zeros(14)), whole, rtol=1e-12)


def test_cubes_with_a_foreign_wcs():
    rng = np.random.default_rng(0)
    data = rng.integers(1, 50, (6, 8)).astype(float)
    ours, theirs = ESISCube(data, wcs=foreign()), NDCube(data, wcs=foreign())
    target = foreign((5, 5))
    target.wcs.crpix = 2.5, 2.5
    expected = theirs.reproject_to(target)
    result = ours.reproject_to(target)
    assert type(result) is ESISCube
    assert_bits_equal(result.data, expected.data)
    points = [[theirs[2].wcs.pixel_to_world(pixel)] for pixel in (2, 5)]
    np.testing.assert_array_equal(ours[2].crop(*points).data, theirs[2].crop(*points).data)
    with_unit = ESISCube(data, wcs=foreign(), unit="ct", mask=data < 15)
    with pytest.warns(NDCubeUserWarning, match="loses their unit, mask"):
        with_unit.reproject_to(target)
    np.testing.assert_array_equal(ours.rebin((2, 2)).data, theirs.rebin((2, 2)).data)
    with pytest.raises(TypeError, match="WCS is not of esis_ndcube"):
        ours + ours
    np.testing.assert_array_equal((ours + ours.data).data, 2 * data)


def test_reproject_alignment_is_called_as_reproject():
    alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    frame = np.random.default_rng(0).normal(20, 5, (1040, 2048)).astype(np.float32)
    source, shape = (frame, alignment), (50, 60)
    expected = reproject_alignment(source, ESIS_1.grid, shape_out=shape, order=1)
    result = reproject_alignment(source, ESIS_1.grid, shape, 0, 1, False, return_type="numpy", dask_method="none")
    for one, two in zip(result, expected, strict=True):
        assert_bits_equal(one, two)
    lazy = reproject_alignment(source, ESIS_1.grid, shape, order=1, return_type="dask")
    for one, two in zip(lazy, expected, strict=True):
        assert hasattr(one, "dask")
        assert_bits_equal(one.compute(), two)
    with pytest.raises(ValueError, match="return_type='list'"):
        reproject_alignment(source, ESIS_1.grid, shape, return_type="list")
    plain = np.ones((6, 8)), foreign()
    theirs = reproject_interp(plain, foreign(), (6, 8), 0, "bilinear", False, block_size=(6, 8), return_type="dask")
    ours = reproject_alignment(plain, foreign(), (6, 8), 0, "bilinear", False, block_size=(6, 8), return_type="dask")
    assert type(ours[0]) is type(theirs[0])
    np.testing.assert_array_equal(ours[0].compute(), theirs[0].compute())
