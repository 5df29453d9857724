"""Resampling, against reproject, functions of the sky, and Monte Carlo."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reproject import reproject_exact, reproject_interp

import astropy.units as u
from astropy.wcs import WCS
from astropy.wcs.wcsapi import SlicedLowLevelWCS
from sunpy.coordinates import HeliographicStonyhurst

from esis_ndcube import ESIS_1
from esis_ndcube.registration import Alignment, PolynomialTransform
from esis_ndcube.registration.reference import observed_grid
from esis_ndcube.resample import detector_coordinates, interpolate, propagate_uncertainty, reproject_alignment
from esis_ndcube.simulate import shrink

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
    return bent(Alignment.from_pose(SMALL, 2, frame=124, line="O V", time=TIME, grid=grid))


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


@pytest.mark.parametrize(
    ("name", "order"),
    [("own", 0), ("all", 0), *((name, order) for name in GRIDS for order in ("bilinear", "bicubic"))],
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
    with pytest.raises(TypeError, match="expected a tuple"):
        reproject_alignment(frame, alignment.grid)
    with pytest.raises(TypeError, match="expected a tuple"):
        reproject_alignment((frame, alignment.grid), alignment.grid)
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
    """What is not known of a pixel does not make its neighbors more certain."""
    sigma = np.full((9, 9), 2.0)
    sigma[4, 4] = np.nan
    position = np.array([4.4]), np.array([4.4])
    np.testing.assert_array_equal(
        propagate_uncertainty(sigma, *position), propagate_uncertainty(np.full((9, 9), 2.0), *position)
    )
