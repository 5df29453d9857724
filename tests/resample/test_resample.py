"""Resampling, against reproject, scipy, functions of the sky, and Monte Carlo."""

import dataclasses
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
from helpers import make_cube, make_times
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyavm import AVM
from reproject import reproject_exact, reproject_interp
from reproject.mosaicking import reproject_and_coadd
from scipy.ndimage import binary_dilation, map_coordinates

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import NDData, StdDevUncertainty, VarianceUncertainty
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from astropy.wcs.wcsapi import SlicedLowLevelWCS
from ndcube import NDCube
from ndcube.meta import NDMeta
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective

from esis_ndcube import ESIS_1, ESISLevel3Cube
from esis_ndcube.registration import Alignment, PolynomialTransform
from esis_ndcube.registration.reference import observed_grid
from esis_ndcube.resample import (
    correlation_factor,
    detector_coordinates,
    interpolate,
    propagate_uncertainty,
    reproject_alignment,
)
from esis_ndcube.simulate import shrink
from esis_ndcube.wcs import level1_wcs, level3_wcs

TIME = "2019-09-30T18:08:36.612"
SMALL = shrink(ESIS_1, 6)
ORDERS = ["nearest-neighbor", "bilinear", "biquadratic", "bicubic"]


def bent(alignment, bend=1.5):
    """The alignment with a distortion of a few pixels."""
    rng = np.random.default_rng(alignment.channel)
    start = alignment.transform.renormalized(alignment.transform.origin, alignment.transform.scale, degree=2)
    coefficients = start.coefficients.copy()
    coefficients[:, 3:] += rng.uniform(-bend, bend, (2, 3))
    transform = PolynomialTransform(coefficients, start.origin, start.scale)
    return dataclasses.replace(alignment, transform=transform, stage="final")


@pytest.fixture(scope="module")
def alignment():
    observer = HeliographicStonyhurst(0 * u.deg, 6.75 * u.deg, 1.0015 * u.AU, obstime=TIME)
    grid = observed_grid(SMALL, observer, TIME)
    return bent(Alignment.from_pose(SMALL, 2, frame_number=124, line="O V", time=TIME, grid=grid))


def sky(longitude, latitude):
    """A smooth scene on the sky, of arcsec."""
    return 20 + 6 * np.sin(longitude / 7) * np.cos(latitude / 9) + 3 * np.cos((longitude + 2 * latitude) / 11)


@pytest.fixture(scope="module")
def frame(alignment):
    rows, columns = alignment.shape
    v, h = np.mgrid[:rows, :columns]
    return sky(*(q.value for q in alignment.detector_to_world(h, v)))


def other_grid(alignment, *, longitude=0.0, seconds=0, angle=0.0, scale=1.0):
    grid = alignment.grid.deepcopy()
    time = alignment.time + seconds * u.s
    aux = grid.wcs.aux
    observer = HeliographicStonyhurst(
        (aux.hgln_obs + longitude) * u.deg, aux.hglt_obs * u.deg, aux.dsun_obs * u.m, obstime=time
    )
    grid = observed_grid(SMALL, observer, time)
    turn = np.radians(angle)
    grid.wcs.pc = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    grid.wcs.cdelt = grid.wcs.cdelt * scale
    grid.wcs.set()
    return grid


GRIDS = {
    "own": {},
    "rotated": {"angle": 20.0},
    "coarse": {"scale": 1.7},
    "observer": {"longitude": 0.01},
    "date": {"seconds": 60},
    "all": {"angle": -35.0, "scale": 1.3, "longitude": -0.5, "seconds": 120},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "order"),
    # Every grid and every order, but the order has no part in where the pixels are.
    [*(("all", order) for order in (0, "bilinear", "bicubic")), ("own", 0)]
    + [(name, ORDERS[1 + 2 * (number % 2)]) for number, name in enumerate(GRIDS)],
)
def test_agrees_with_reproject(alignment, frame, name, order):
    target = other_grid(alignment, **GRIDS[name])
    ours, footprint = reproject_alignment((frame, alignment), target, order=order)
    theirs, expected = reproject_interp((frame, alignment.to_gwcs()), target, shape_out=SMALL.grid_shape, order=order)
    u_pixel, v_pixel = detector_coordinates(alignment, target, SMALL.grid_shape)
    rows, columns = alignment.shape
    # reproject ends its spline in another way.
    edge = np.minimum(np.minimum(u_pixel, columns - 1 - u_pixel), np.minimum(v_pixel, rows - 1 - v_pixel))
    deep = edge > 6
    assert deep.mean() > 0.2
    difference = np.abs(ours - theirs)[deep]
    assert np.isfinite(difference).all()
    if order == 0:
        # A rounding error may choose the neighbor.
        assert (difference > 0).mean() < 1e-3
    else:
        assert difference.max() < 1e-3 * frame.max()
    assert footprint.dtype == float
    np.testing.assert_array_equal(footprint, np.isfinite(ours))
    away = np.abs(edge + 0.5) > 1e-6
    np.testing.assert_array_equal(footprint[away], expected[away])


def test_observer_matters(alignment, frame):
    """0.01 deg of the observer's longitude moves features by the same angle of rotation: 0.17 arcsec."""
    target = other_grid(alignment, longitude=0.01)
    moved = np.array(detector_coordinates(alignment, target, SMALL.grid_shape))
    own = np.array(detector_coordinates(alignment, alignment.grid, SMALL.grid_shape))
    step = np.hypot(*(moved - own))
    expected = np.radians(0.01) * 959 / 0.75
    np.testing.assert_allclose(np.median(step), expected, rtol=0.1)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", ["own", "rotated"])
def test_recovers_the_sky(alignment, frame, order, name):
    target = other_grid(alignment, **GRIDS[name])
    array, footprint = reproject_alignment((frame, alignment), target, order=order)
    y, x = np.nonzero(footprint)
    lon, lat = target.pixel_to_world_values(x, y)
    truth = sky((lon + 180) % 360 * 3600 - 648000, lat * 3600)
    error = np.abs(array[y, x] - truth)
    # Half the second derivative for linear interpolation; splines do much better away from the edge.
    assert np.median(error) < {1: 0.03, 2: 1e-3, 3: 1e-3}[order]
    assert error.max() < 0.6


def test_conserves_brightness(alignment, frame):
    """Surface brightness times area is what reproject_exact finds, which weighs pixels by their overlap."""
    # It needs a FITS WCS of the detector: an affine alignment has one.
    matrix = alignment.transform.coefficients[:, 1:3] / alignment.transform.scale
    affine = dataclasses.replace(
        alignment,
        transform=PolynomialTransform(
            alignment.transform.coefficients[:, :3], alignment.transform.origin, alignment.transform.scale
        ),
    )
    detector = WCS(naxis=2)
    detector.wcs.ctype = "HPLN-TAN", "HPLT-TAN"
    detector.wcs.cunit = "deg", "deg"
    center = np.array(affine.transform(*(alignment.grid.wcs.crpix - 1)))
    detector.wcs.crpix = center + 1
    detector.wcs.cdelt = alignment.grid.wcs.cdelt
    detector.wcs.pc = np.linalg.inv(matrix)
    detector.wcs.set()
    target = WCS(naxis=2)
    target.wcs.ctype = "HPLN-TAN", "HPLT-TAN"
    target.wcs.cunit = "deg", "deg"
    target.wcs.cdelt = alignment.grid.wcs.cdelt
    target.wcs.crpix = alignment.grid.wcs.crpix
    target.wcs.set()
    for wcs in (detector, target):
        for key in ("hgln_obs", "hglt_obs", "dsun_obs"):
            setattr(wcs.wcs.aux, key, getattr(alignment.grid.wcs.aux, key))
        wcs.wcs.dateavg = alignment.grid.wcs.dateavg
    box = slice(70, 150), slice(70, 150)
    exact, _ = reproject_exact((frame, detector), target[box], shape_out=(80, 80), parallel=False)
    for order in (1, 2, 3):
        array = reproject_alignment((frame, affine), alignment.grid, order=order, return_footprint=False)[box]
        np.testing.assert_allclose(array.sum(), exact.sum(), rtol=1e-3)


def test_targets(alignment, frame):
    expected, _ = reproject_alignment((frame, alignment), alignment.grid)
    # The flight's own grid has no observer: its coordinates are the alignment's.
    for target in (SMALL.grid, alignment.grid.deepcopy()):
        np.testing.assert_array_equal(reproject_alignment((frame, alignment), target)[0], expected)
    part = reproject_alignment((frame, alignment), SMALL.grid[10:60, 20:90], return_footprint=False)
    np.testing.assert_allclose(part, expected[10:60, 20:90], rtol=1e-6, atol=1e-6)
    header = alignment.grid.to_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 30, 20
    array, _ = reproject_alignment((frame, alignment), header)
    np.testing.assert_allclose(array, expected[:20, :30], rtol=1e-6, atol=1e-6)
    low_level = SlicedLowLevelWCS(alignment.grid, [slice(10, 60), slice(20, 90)])
    array, _ = reproject_alignment((frame, alignment), low_level)
    np.testing.assert_allclose(array, expected[10:60, 20:90], rtol=1e-6, atol=1e-6)
    assert reproject_alignment((frame, alignment), SMALL.grid, (7, 9))[0].shape == (7, 9)


def test_other_coordinates_are_not_taken_for_helioprojective(alignment, frame):
    grid = alignment.grid.deepcopy()
    grid.wcs.ctype = "HGLN-TAN", "HGLT-TAN"
    grid.wcs.cdelt = 0.03, 0.03
    grid.wcs.set()
    ours, footprint = reproject_alignment((frame, alignment), grid)
    theirs, _ = reproject_interp((frame, alignment.to_gwcs()), grid, shape_out=SMALL.grid_shape, order="bicubic")
    both = (footprint > 0) & np.isfinite(theirs)
    assert both.sum() > 1000
    assert np.median(np.abs(ours - theirs)[both]) < 1e-3


def test_bad_input(alignment, frame):
    nowhere = NDData(frame)
    for wrong in (frame, (frame, None), (frame, alignment, 1), (frame.tolist(), alignment.grid), nowhere, alignment):
        with pytest.raises(TypeError, match=r"expected one of\s+.*Alignment"):
            reproject_alignment(wrong, alignment.grid)
    # A cube of several alignments is no image.
    several = NDData(frame, meta={"alignment": np.array([alignment, None])})
    with pytest.raises(TypeError, match="expected one of"):
        reproject_alignment(several, alignment.grid)
    with pytest.raises(ValueError, match="expected that of the alignment's detector"):
        reproject_alignment((frame[1:], alignment), alignment.grid)
    with pytest.raises(TypeError, match="expected a WCS"):
        reproject_alignment((frame, alignment), "grid")
    bare = alignment.grid.deepcopy()
    bare.array_shape = None
    with pytest.raises(ValueError, match="give shape_out"):
        reproject_alignment((frame, alignment), bare)
    with pytest.raises(ValueError, match="3 axes, expected 2"):
        reproject_alignment((frame, alignment), WCS(naxis=3), (2, 2, 2))
    with pytest.raises(ValueError, match="expected a celestial one"):
        reproject_alignment((frame, alignment), WCS(naxis=2), (2, 2))
    for shape in ((3,), (4, 5, 6), ()):
        with pytest.raises(ValueError, match="rows, columns"):
            reproject_alignment((frame, alignment), alignment.grid, shape)
    for block_size in (7, "all", (3,), (3, 0), (3, -2), (1, 2, 3)):
        with pytest.raises(ValueError, match="block size"):
            reproject_alignment((frame, alignment), alignment.grid, block_size=block_size)
    for parallel in ("yes", 1.5, None, 0, -1):
        with pytest.raises(ValueError, match="number of threads"):
            reproject_alignment((frame, alignment), alignment.grid, parallel=parallel)
    for wrong in (np.zeros((2, 3)), np.zeros(SMALL.grid_shape, dtype=int)):
        with pytest.raises(ValueError, match="floating type"):
            reproject_alignment((frame, alignment), alignment.grid, SMALL.grid_shape, output_array=wrong)
    for wrong in ((frame, alignment), (NDData(frame), alignment), (frame, alignment.grid)):
        with pytest.raises(ValueError, match="no uncertainty"):
            reproject_alignment(wrong, alignment.grid, return_uncertainty=True)
    for order in (4, -1, "cubic", None):
        with pytest.raises(ValueError, match="expected 0 to 3"):
            reproject_alignment((frame, alignment), alignment.grid, order=order)
        with pytest.raises(ValueError, match="expected 0 to 3"):
            propagate_uncertainty(frame, np.zeros(3), np.zeros(3), order=order)
    with pytest.raises(ValueError, match="two dimensions"):
        interpolate(frame[None], np.zeros(3), np.zeros(3))


@pytest.mark.parametrize(
    ("given", "returned"), [("f4", "f4"), (">f4", "f4"), ("f8", "f8"), (">f8", "f8"), ("u2", "f8"), ("f2", "f4")]
)
def test_types(given, returned):
    frame = np.arange(40.0).reshape(5, 8).astype(given)
    before = frame.copy()
    array, footprint = interpolate(frame, np.array([2.25]), np.array([3.5]), order=1)
    assert array.dtype == np.dtype(returned)
    assert footprint.dtype == bool
    np.testing.assert_allclose(array, 2.25 + 8 * 3.5)
    np.testing.assert_array_equal(frame, before)


def test_orders_by_name():
    frame = np.random.default_rng(0).normal(size=(20, 30))
    x, y = np.random.default_rng(1).uniform(3, 16, (2, 50))
    for number, name in enumerate(ORDERS):
        np.testing.assert_array_equal(interpolate(frame, x, y, order=name), interpolate(frame, x, y, order=number))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), order=st.integers(0, 3), explicit=st.booleans())
def test_invalid_pixels_never_leak(seed, order, explicit):
    rng = np.random.default_rng(seed)
    frame, bad = rng.normal(size=(14, 17)), rng.random((14, 17)) < 0.2
    x, y = rng.uniform(-3, 20, (2, 300))
    results = []
    for _ in range(2):
        changed = frame.copy()
        changed[bad] = rng.choice([1e30, -5.0, np.inf, np.nan], bad.sum()) if explicit else np.nan
        if not explicit:
            changed[bad] *= rng.choice([1, -1], bad.sum())
        results.append(interpolate(changed, x, y, order=order, valid=~bad if explicit else None))
    np.testing.assert_array_equal(*(array for array, _ in results))
    np.testing.assert_array_equal(*(footprint for _, footprint in results))
    array, footprint = results[0]
    np.testing.assert_array_equal(np.isfinite(array), footprint)
    # The footprint by hand: on the detector, and half of the bilinear weight on good pixels.
    columns, rows = np.arange(-1, 18), np.arange(-1, 15)
    near_x = np.maximum(0, 1 - np.abs(x[:, None] - columns))
    near_y = np.maximum(0, 1 - np.abs(y[:, None] - rows))
    good = ~bad[np.ix_(np.clip(rows, 0, 13), np.clip(columns, 0, 16))]
    weight = np.einsum("kx,ky,yx->k", near_x, near_y, good)
    on_detector = (x >= -0.5) & (x <= 16.5) & (y >= -0.5) & (y <= 13.5)
    clear = np.abs(weight - 0.5) > 1e-5
    np.testing.assert_array_equal(footprint[clear], (on_detector & (weight > 0.5))[clear])


@pytest.mark.parametrize("order", range(4))
def test_edges_do_not_wrap(order):
    """A bright column at one edge is not seen from the other."""
    frame = np.zeros((12, 12))
    frame[:, -1] = frame[-1] = 1e6
    x, y = np.meshgrid(np.linspace(-2, 2, 41), np.linspace(-2, 2, 41))
    array, footprint = interpolate(frame, x, y, order=order)
    inside = (x >= -0.5) & (y >= -0.5)
    np.testing.assert_array_equal(footprint, inside)
    assert np.abs(array[inside]).max() < 1e6 * 1e-3
    assert np.isnan(array[~inside]).all()


def test_nothing_valid():
    array, footprint = interpolate(np.full((5, 6), np.nan, "f4"), np.ones((2, 3)), np.ones((2, 3)))
    assert np.isnan(array).all()
    assert array.dtype == np.float32
    assert array.shape == footprint.shape == (2, 3)
    assert not footprint.any()
    assert np.isnan(propagate_uncertainty(np.full((5, 6), np.nan), np.ones(3), np.ones(3))).all()


def test_positions_that_are_no_numbers():
    frame = np.ones((5, 6))
    array, footprint = interpolate(frame, np.array([np.nan, 2.0, np.inf]), np.array([1.0, np.nan, 2.0]))
    assert np.isnan(array).all()
    assert not footprint.any()


@pytest.mark.parametrize("order", range(4))
def test_uncertainty_by_monte_carlo(alignment, order):
    """The scatter of resampled noise, on average and by the phase in the pixel."""
    rng = np.random.default_rng(order)
    rows, columns = 60, 70
    y, x = np.mgrid[:rows, :columns]
    sigma = 2 + 0.01 * x + 0.02 * y
    # A rotated grid across these pixels, of about the same pixel size.
    turn = np.radians(22.5)
    i, j = np.meshgrid(np.arange(-18.0, 18), np.arange(-18.0, 18))
    h = 35 + 0.78 * (np.cos(turn) * i - np.sin(turn) * j)
    v = 30 + 0.82 * (np.sin(turn) * i + np.cos(turn) * j)
    predicted = propagate_uncertainty(sigma, h, v, order=order)
    assert predicted.dtype == np.float32
    count = 400
    total = np.zeros(h.shape)
    for _ in range(count):
        total += interpolate(sigma * rng.normal(size=sigma.shape), h, v, order=order)[0] ** 2
    ratio = total / count / predicted**2
    assert abs(np.sqrt(ratio.mean()) - 1) < 0.02
    # By the distance from the nearest pixel, where the weights differ by a factor of 2.
    distance = np.hypot(h - np.rint(h), v - np.rint(v))
    for low, high in ((0, 0.2), (0.2, 0.35), (0.35, 0.5), (0.5, 0.71)):
        here = (distance >= low) & (distance < high)
        assert here.sum() > 60
        assert abs(np.sqrt(ratio[here].mean()) - 1) < 0.05


def test_uncertainty_beside_invalid_pixels():
    """A pixel with unknown noise does not make its neighbors more certain."""
    sigma = np.full((9, 9), 2.0)
    sigma[4, 4] = np.nan
    position = np.array([4.4]), np.array([4.4])
    np.testing.assert_array_equal(
        propagate_uncertainty(sigma, *position), propagate_uncertainty(np.full((9, 9), 2.0), *position)
    )


def plain_meta(alignment):
    return {"alignment": alignment}


INPUTS = {
    "gwcs": lambda frame, a: (frame, a.to_gwcs()),
    "dask": lambda frame, a: (da.from_array(frame, chunks=50), a),
    "NDData and alignment": lambda frame, a: (NDData(frame), a),
    "NDData": lambda frame, a: NDData(frame, wcs=a.to_gwcs()),
    "NDCube": lambda frame, a: NDCube(frame, wcs=a.to_gwcs()),
    "meta": lambda frame, a: NDData(frame, meta=plain_meta(a)),
    "Level 1": lambda frame, a: NDCube(
        frame, wcs=level1_wcs(a.shape, make_times(2), [1, 2])[0, 0], meta=NDMeta(plain_meta(a))
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(alignment, frame, name):
    expected = reproject_alignment((frame, alignment), SMALL.grid)
    for ours, theirs in zip(reproject_alignment(INPUTS[name](frame, alignment), SMALL.grid), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_on_the_sun_is_left_to_reproject(alignment, frame):
    image = reproject_alignment((frame, alignment), alignment.grid, return_footprint=False)
    image = np.nan_to_num(image)
    target = other_grid(alignment, angle=20.0)
    expected = reproject_interp((image, alignment.grid), target, shape_out=(90, 80), order="bicubic")
    assert np.isfinite(expected[0]).sum() > 5000
    header = alignment.grid.to_header()
    # A Level-3 image carries the alignment that it was made with, which must not be applied again.
    level3 = NDData(image, wcs=alignment.grid, meta=plain_meta(alignment))
    forms = {
        "pair": (image, alignment.grid),
        "header": (image, header),
        "HDU": fits.ImageHDU(image, header),
        "list": fits.HDUList([fits.PrimaryHDU(image, header)]),
        "level3": level3,
    }
    for form in forms.values():
        for ours, theirs in zip(reproject_alignment(form, target, (90, 80)), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7)
    array = np.zeros((90, 80))
    result = reproject_alignment(
        (image, alignment.grid), target, (90, 80), order=1, output_array=array, return_footprint=False
    )
    np.testing.assert_array_equal(array, result)
    assert np.abs(array - expected[0])[expected[1] > 0].max() > 1e-3


def test_coadd(alignment, frame):
    """As the function of reproject's mosaics."""
    expected = reproject_alignment((frame, alignment), SMALL.grid)
    array, footprint = reproject_and_coadd(
        [(frame, alignment.to_gwcs()), (frame + 2, alignment.to_gwcs())],
        alignment.grid,
        shape_out=SMALL.grid_shape,
        reproject_function=reproject_alignment,
    )
    inside = expected[1] > 0
    np.testing.assert_array_equal(footprint, 2 * expected[1])
    np.testing.assert_allclose(array[inside], expected[0][inside] + 1, rtol=1e-6)


def test_masked_pixels_are_invalid(alignment, frame):
    mask = np.random.default_rng(3).random(frame.shape) < 0.1
    spoiled = np.where(mask, 1e9, frame)
    expected = reproject_alignment((np.where(mask, np.nan, frame), alignment), SMALL.grid)
    result = reproject_alignment((NDData(spoiled, mask=mask), alignment), SMALL.grid)
    for ours, theirs in zip(result, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("block_size", [None, (50, -1), (2, 1, 100, 100)])
def test_leading_dimensions(alignment, frame, block_size):
    rng = np.random.default_rng(0)
    frames = frame + rng.normal(size=(2, 3, 1, 1))
    frames[0, 1, 40:60, 50:90] = np.nan
    sigma = rng.uniform(1, 2, frames.shape)
    cube = NDData(frames, uncertainty=StdDevUncertainty(sigma))
    results = reproject_alignment((cube, alignment), SMALL.grid, return_uncertainty=True, block_size=block_size)
    for part in results:
        assert part.shape == (2, 3, *SMALL.grid_shape)
    for i, j in np.ndindex(2, 3):
        single = NDData(frames[i, j], uncertainty=VarianceUncertainty(sigma[i, j] ** 2))
        expected = reproject_alignment((single, alignment), SMALL.grid, return_uncertainty=True)
        for ours, theirs in zip(results[:2], expected[:2], strict=True):
            np.testing.assert_array_equal(ours[i, j], theirs)
        np.testing.assert_allclose(results[2][i, j], expected[2], rtol=1e-6)
    full = reproject_alignment((frames, alignment), SMALL.grid, (2, 3, 30, 40), return_footprint=False)
    np.testing.assert_array_equal(full, results[0][:, :, :30, :40])
    with pytest.raises(ValueError, match=r"expected \(2, 3, rows, columns\)"):
        reproject_alignment((frames, alignment), SMALL.grid, (3, 2, 30, 40))


def test_uncertainty_goes_along(alignment, frame):
    sigma = np.random.default_rng(0).uniform(1, 2, frame.shape)
    data = NDData(frame, uncertainty=StdDevUncertainty(sigma), wcs=alignment.to_gwcs())
    target = other_grid(alignment, **GRIDS["rotated"])
    array, footprint, error = reproject_alignment(data, target, order=1, return_uncertainty=True)
    expected = propagate_uncertainty(sigma, *detector_coordinates(alignment, target, array.shape), order=1)
    inside = footprint > 0
    np.testing.assert_array_equal(error[inside], expected[inside])
    assert np.isnan(error[~inside]).all()
    array2, error2 = reproject_alignment(data, target, order=1, return_uncertainty=True, return_footprint=False)
    np.testing.assert_array_equal(array, array2)
    np.testing.assert_array_equal(error, error2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own", "all"])
def test_blocks_give_the_same_bits(alignment, frame, name):
    target = other_grid(alignment, **GRIDS[name])
    noisy = np.random.default_rng(1).normal(frame, 3).astype("f4")
    noisy[30:50, 100:130] = np.nan
    data = NDData(noisy, uncertainty=StdDevUncertainty(np.sqrt(np.abs(noisy))))
    expected = reproject_alignment((data, alignment), target, return_uncertainty=True)
    assert 0.2 < expected[1].mean() < 1
    choices = [
        {"block_size": (75, 83)},
        {"block_size": "auto"},
        {"block_size": (60, -1), "parallel": 2},
        {"block_size": (110, 150), "parallel": True},
        {"parallel": 1},
        {"block_size": (100, 100), "parallel": "current-scheduler"},
    ]
    for choice in choices:
        with dask.config.set(scheduler="synchronous"):
            results = reproject_alignment((data, alignment), target, return_uncertainty=True, **choice)
        for ours, theirs in zip(results, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_block_bounds_the_memory(alignment, frame):
    shape = 1200, 1200
    output = np.empty(shape, dtype="f4")
    peaks = []
    for block_size in (None, (100, 100)):
        tracemalloc.start()
        reproject_alignment(
            (frame, alignment), SMALL.grid, shape, order=1, output_array=output,
            return_footprint=False, block_size=block_size,
        )  # fmt: skip
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The frame itself takes 0.5 MB, coordinates of the whole output 23 MB.
    assert peaks[0] > 20e6
    assert peaks[1] < 4e6


def test_output_arrays(alignment, frame, tmp_path):
    expected = reproject_alignment((frame, alignment), SMALL.grid)
    array = np.memmap(tmp_path / "array", dtype=">f4", mode="w+", shape=SMALL.grid_shape)
    footprint = np.empty(SMALL.grid_shape, dtype="f4")
    bare = SMALL.grid.deepcopy()
    bare.array_shape = None
    result = reproject_alignment((frame, alignment), bare, output_array=array, output_footprint=footprint)
    assert result[0] is array
    assert result[1] is footprint
    np.testing.assert_array_equal(array, expected[0].astype("f4"))
    np.testing.assert_array_equal(footprint, expected[1])


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    order=st.integers(0, 3),
    dtype=st.sampled_from(["f4", "f8"]),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_agrees_with_scipy(seed, order, dtype, shape):
    rng = np.random.default_rng(seed)
    frame = rng.normal(50, 20, shape).astype(dtype)
    x, y = (rng.uniform(-0.5, n - 0.5, (4, 25)) for n in shape[::-1])
    array, footprint = interpolate(frame, x, y, order=order)
    assert footprint.all()
    expected = map_coordinates(frame.astype(float), [y, x], order=order, mode="nearest")
    np.testing.assert_allclose(array, expected, rtol=0, atol=1e-12 * 100 if dtype == "f8" else 100 * 2e-7)


def turned(scale, angle):
    turn = np.radians(angle)
    matrix = scale * np.array([[np.cos(turn), -1.1 * np.sin(turn)], [np.sin(turn), 1.1 * np.cos(turn)]])
    return PolynomialTransform.from_affine(np.column_stack([matrix, [300.3, 300.7]]))


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "order"), [(0.8, 0), (0.8, 1), (0.8, 3), (0.55, 2), (1.3, 1), (1.6, 3), (1.7, 0)])
def test_correlation_factor_by_monte_carlo(scale, order):
    """The scatter of means over many pixels, in units of that of independent pixels."""
    transform = turned(scale, 23.0)
    rng = np.random.default_rng(order)
    side = 50 if scale < 1 else 25
    half = 25 * int(200 / (1.1 * scale * 25))
    i = np.arange(-half, half)
    x, y = transform(i[None, :] + 0.0, i[:, None] + 0.0)
    means, size = [], len(i) // side
    for _ in range(20):
        array, footprint = interpolate(rng.normal(size=(600, 600)), x, y, order=order)
        assert footprint.all()
        means.append(array.reshape(size, side, size, side).mean((1, 3)))
    single = np.sqrt(np.mean(propagate_uncertainty(np.ones((600, 600)), x, y, order=order) ** 2))
    measured = np.sqrt(np.mean(np.square(means))) / (single / side)
    assert abs(measured / correlation_factor(transform, order=order) - 1) < 0.05


def test_correlation_factor_of_a_grid(alignment):
    own = correlation_factor(alignment)
    assert isinstance(own, float)
    np.testing.assert_allclose(correlation_factor(alignment, alignment.grid), own, rtol=1e-3)
    x, y = np.array([[20.0, 100, 190]]), np.array([[100.0], [30]])
    field = correlation_factor(alignment, position=(x, y))
    assert field.shape == (2, 3)
    np.testing.assert_allclose(
        correlation_factor(alignment, alignment.grid.deepcopy(), position=(x, y)), field, rtol=1e-3
    )
    # Linear interpolation to half the pixels, twice the length: four times as many share a pixel.
    fine = correlation_factor(alignment, other_grid(alignment, scale=0.5), position=(106, 106), order=1)
    coarse = correlation_factor(alignment, other_grid(alignment, scale=0.25), position=(106, 106), order=1)
    np.testing.assert_allclose(coarse / fine, 2, rtol=0.01)
    with pytest.raises(TypeError, match="expected an Alignment"):
        correlation_factor(alignment.transform, alignment.grid)
    with pytest.raises(ValueError, match="expected 0 to 3"):
        correlation_factor(alignment, order=4)


@pytest.fixture(scope="module")
def cube(alignment):
    """Images of two frames and channels, the linear alignments without the distortion."""
    final, linear = np.empty((2, 2), dtype=object), np.empty((2, 2), dtype=object)
    times = make_times(2)
    for i, j in np.ndindex(2, 2):
        pose = Alignment.from_pose(SMALL, j + 2, frame_number=124 + i, line="O V", time=times[i], grid=alignment.grid)
        linear[i, j], final[i, j] = pose, bent(pose, 1.0 + i)
    final[1, 0] = None
    meta = NDMeta(
        {"flight": SMALL, "frame_number": np.array([124, 125]), "alignment_final": final, "alignment_linear": linear,
         "stage": "final"},
        axes={"frame_number": 0, "alignment_final": (0, 1), "alignment_linear": (0, 1)},
    )  # fmt: skip
    observer = HeliographicStonyhurst(0 * u.deg, 6.75 * u.deg, 1.0015 * u.AU, obstime=times)
    wcs = level3_wcs(SMALL.grid, times, [2, 3], observer=observer)
    return ESISLevel3Cube(np.zeros((2, 2, *SMALL.grid_shape)), wcs=wcs, meta=meta, unit="ph / pix")


@pytest.mark.slow
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(), (1,), (40,), (3, 5)]),
    frame_number=st.sampled_from([124, 125]),
    other=st.booleans(),
)
def test_detector_coordinates_close(cube, seed, shape, frame_number, other):
    rng = np.random.default_rng(seed)
    rows, columns = SMALL.detector.shape
    h, v = rng.uniform(0, columns - 1, shape), rng.uniform(0, rows - 1, shape)
    sky_coordinate = cube.detector_to_world(h, v, frame_number=frame_number, channel=3)
    assert sky_coordinate.shape == shape
    if other:
        sky_coordinate = sky_coordinate.transform_to("geocentricmeanecliptic")
    back = cube.world_to_detector(sky_coordinate, frame_number=frame_number, channel=3)
    assert np.shape(back[0]) == shape
    np.testing.assert_allclose(back, [h, v], rtol=0, atol=1e-6)


def test_coordinates_of_an_image(cube):
    image = cube[0, 1]
    sky_coordinate = image.detector_to_world([150.0, 160.0], [70.0, 80.0])
    assert isinstance(sky_coordinate, SkyCoord)
    assert isinstance(sky_coordinate.frame, Helioprojective)
    assert np.abs((sky_coordinate.obstime - image.time).to_value("s")) < 1e-6
    np.testing.assert_allclose(sky_coordinate.observer.lat.deg, 6.75)
    alignment = cube.alignment[0, 1]
    # The pixel of the image that shows the same place is the one that the transform starts from.
    x, y = image.wcs.world_to_pixel(sky_coordinate)
    np.testing.assert_allclose(alignment.transform(x, y), [[150, 160], [70, 80]], atol=1e-5)
    # A place on the rotating Sun is on other pixels of the next exposure.
    place = sky_coordinate.transform_to(HeliographicStonyhurst(obstime=image.time))
    np.testing.assert_allclose(image.world_to_detector(place), [[150, 160], [70, 80]], atol=1e-6)
    linear = ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=NDMeta({**cube.meta, "stage": "linear"}, axes=cube.meta.axes))
    expected = cube.alignment_linear[1, 0].detector_to_world(150.0, 70.0)
    found = linear.detector_to_world(150.0, 70.0, frame_number=125, channel=2)
    np.testing.assert_allclose([found.Tx.arcsec, found.Ty.arcsec], [q.value for q in expected], atol=1e-9)


def test_coordinates_of_no_image(cube):
    for part, name in ((cube, "2 frames"), (cube[0], "2 channels")):
        with pytest.raises(ValueError, match=f"cube of {name}, expected one"):
            part.detector_to_world(1, 2)
    with pytest.raises(ValueError, match="frame 9, expected one of 124, 125"):
        cube.detector_to_world(1, 2, frame_number=9, channel=2)
    with pytest.raises(ValueError, match="frame 125, channel 2 has no alignment"):
        cube[1, 0].detector_to_world(1, 2)
    with pytest.raises(ValueError, match="no single channel"):
        cube[0].min_images().detector_to_world(1, 2)
    with pytest.raises(ValueError, match="has no alignment"):
        make_cube((2, 2, 3, 3)).detector_to_world(1, 2, frame_number=110, channel=1)


def image_forms(values, bad, wcs, path):
    """An image on the Sun with invalid pixels, in all the ways that `reproject` takes, and masked arrays."""
    empty = np.where(bad, np.nan, values)
    read_only = empty.copy()
    read_only.setflags(write=False)
    header = wcs.to_header()
    fits.writeto(path, empty, header)
    return {
        "array": (empty, wcs),
        "header": (empty, header),
        "masked": (np.ma.array(values, mask=bad), wcs),
        "masked integers": (np.ma.array(values.astype(np.int16), mask=bad), wcs),
        "Masked": (Masked(values, mask=bad), wcs),
        "NDData": NDData(values, mask=bad, wcs=wcs),
        "HDU": fits.PrimaryHDU(empty, header),
        "HDUList": fits.HDUList([fits.PrimaryHDU(empty, header)]),
        "file": path,
        "Dask": (da.from_array(empty, chunks=20), wcs),
        "big-endian": (empty.astype(">f4"), wcs),
        "Fortran": (np.asfortranarray(empty), wcs),
        "read-only": (read_only, wcs),
        "stack": (np.stack([empty, empty]), wcs),
    }


FORMS = [
    *("array", "header", "masked", "masked integers", "Masked", "NDData", "HDU", "HDUList", "file", "Dask"),
    *("big-endian", "Fortran", "read-only", "stack"),
]


@pytest.fixture
def on_the_sun(alignment):
    """An image of whole numbers, its grid and another one, moved by a part of a pixel."""
    target = alignment.grid.deepcopy()
    target.wcs.crpix += 0.3, 0.2
    shape = alignment.grid.array_shape
    return np.random.default_rng(5).integers(50, 90, shape).astype(float), alignment.grid, target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "order"),
    # The kind that a form is read as does not depend on the order.
    [*((form, 1) for form in FORMS), *((form, order) for form in ("array", "NDData", "stack") for order in (0, 3))],
)
def test_invalid_pixels_of_an_image_on_the_sun(on_the_sun, tmp_path, form, order):
    values, wcs, target = on_the_sun
    bad = np.zeros(values.shape, dtype=bool)
    bad[60:64, 70:75] = bad[3, 3] = True
    given = image_forms(values, bad, wcs, tmp_path / "image.fits")[form]
    array, footprint = reproject_alignment(given, target, values.shape, order=order)
    expected, there = reproject_interp((values, wcs), target, values.shape, order=order)
    y, x = np.indices(values.shape)
    position = wcs.world_to_pixel_values(*target.pixel_to_world_values(x, y))
    weight = map_coordinates((~bad).astype(float), position[::-1], order=min(order, 1), mode="nearest")
    valid = (weight >= 0.5) & np.isfinite(expected)
    assert not valid[61:63, 71:74].any()
    # Splines see other values nearby, by a tenth as much at each further pixel.
    far = valid & ~binary_dilation(bad, iterations=16 if order > 1 else 2)
    for one, covered in zip(np.atleast_3d(array.T).T, np.atleast_3d(footprint.T).T, strict=True):
        np.testing.assert_array_equal(np.isfinite(one), valid)
        np.testing.assert_array_equal(covered, np.where(valid, there, 0))
        np.testing.assert_allclose(one[far], expected[far], rtol=1e-6)
        assert one[valid].min() > 30


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_pictures_with_their_coordinates_inside(tmp_path, kind):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.radesys, wcs.wcs.equinox = ("RA---TAN", "DEC--TAN"), "FK5", 2000
    wcs.wcs.crpix, wcs.wcs.cdelt, wcs.wcs.crval = (8, 6), (-0.1, 0.1), (30, 20)
    colors = np.random.default_rng(1).integers(0, 255, (12, 15, 3), dtype=np.uint8)
    Image.fromarray(colors).save(tmp_path / f"plain.{kind}")
    path = str(tmp_path / f"picture.{kind}")
    AVM.from_wcs(wcs, shape=(12, 15)).embed(str(tmp_path / f"plain.{kind}"), path)
    target = wcs.deepcopy()
    target.wcs.crpix += 0.3, 0.2
    for order in ("bilinear", "bicubic"):
        array, footprint = reproject_alignment(path, target, shape_out=(12, 15), order=order)
        expected = reproject_interp(path, target, shape_out=(12, 15), order=order)
        assert array.shape == (3, 12, 15)
        np.testing.assert_array_equal(array, expected[0])
        np.testing.assert_array_equal(footprint, expected[1])


def test_images_on_the_sun_without_invalid_pixels_or_with_nothing_else(on_the_sun):
    values, wcs, target = on_the_sun
    expected = reproject_interp((values, wcs), target, values.shape, order=3)
    for image in ((values, wcs), NDData(values, mask=np.zeros(values.shape, dtype=bool), wcs=wcs)):
        np.testing.assert_array_equal(reproject_alignment(image, target, values.shape), expected)
    array, footprint = reproject_alignment((values * np.nan, wcs), target, values.shape)
    assert np.isnan(array).all()
    assert not footprint.any()
    one = wcs[10:11, 10:11]
    np.testing.assert_allclose(reproject_alignment((values[10:11, 10:11], one), one, (1, 1))[0], values[10:11, 10:11])


@pytest.mark.slow
def test_outputs_of_invalid_images_on_the_sun(on_the_sun):
    values, wcs, target = on_the_sun
    values[60:64, 70:75] = np.nan
    expected, covered = reproject_alignment((values, wcs), target, values.shape, order=1)
    output, footprint = np.empty(values.shape), np.empty(values.shape)
    result = reproject_alignment(
        (values, wcs),
        target,
        values.shape,
        order=1,
        output_array=output,
        output_footprint=footprint,
        return_footprint=False,
        block_size=(80, 100),
    )
    assert result is output
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(footprint, covered)


@pytest.mark.parametrize("kind", [np.ma.MaskedArray, Masked])
def test_masked_arrays_with_an_alignment(alignment, frame, kind):
    mask = np.zeros(frame.shape, dtype=bool)
    mask[60:70, 150:160] = True
    given = kind(np.where(mask, 1e6, frame), mask=mask)
    expected = reproject_alignment((np.where(mask, np.nan, frame), alignment), alignment.grid)
    for one, other in zip(reproject_alignment((given, alignment), alignment.grid), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 0 < (expected[1] == 0).sum() < expected[1].size
