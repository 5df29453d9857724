"""Places that an observer does not see, by plain sunpy; observers that are told apart in many threads at once."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
from helpers import make_cube
from scipy.ndimage import binary_erosion, gaussian_filter

import astropy.units as u
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs.utils import pixel_to_pixel
from sunpy.coordinates import (
    HeliographicStonyhurst,
    Helioprojective,
    SphericalScreen,
    propagate_with_solar_surface,
)

from esis_ndcube import ESIS_1, coalign
from esis_ndcube.corrections.masks import PolygonMask
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.level3.context import context_cube
from esis_ndcube.registration import Alignment
from esis_ndcube.registration._image_inputs import map_pixels
from esis_ndcube.registration._view import _turn
from esis_ndcube.resample import detector_coordinates
from esis_ndcube.wcs import level3_wcs

TIME = Time("2019-09-30T18:08:00")
SHAPE = (50, 52)


def observer_at(longitude, *, time=TIME):
    return SkyCoord(longitude * u.deg, 6.7 * u.deg, 1 * u.AU, frame=HeliographicStonyhurst(obstime=time))


def disk_map(longitude, *, time=TIME, rsun=None):
    """The whole Sun as seen from there, in pixels of 45 arcsec."""
    frame = Helioprojective(observer=observer_at(longitude, time=time), obstime=time)
    center = SkyCoord(0 * u.deg, 0 * u.deg, frame=frame)
    header = sunpy.map.make_fitswcs_header(np.empty(SHAPE), center, scale=[45, 45] * u.arcsec / u.pix, unit=u.ct)
    if rsun is not None:
        header["rsun_ref"] = rsun
    y, x = np.indices(SHAPE)
    return sunpy.map.Map(100.0 + x + 3 * y, header)


@pytest.fixture(scope="module")
def cube():
    """The whole Sun as seen from the Earth."""
    wcs = disk_map(0).wcs
    wcs.array_shape = SHAPE
    wcs = level3_wcs(wcs, TIME[None], [1, 2], observer=observer_at(0))
    y, x = np.indices(SHAPE)
    return ESISLevel3Cube(np.broadcast_to(100.0 + x + 3 * y, (1, 2, *SHAPE)).copy(), wcs=wcs, unit="ph / pix")


def visible(first, second):
    """Which pixels of one WCS show a place on the disk, and where the Sun is round, those that the other's sees."""
    y, x = np.indices(SHAPE)
    stonyhurst = HeliographicStonyhurst(obstime=TIME)
    place = SkyCoord(first.pixel_to_world(x, y).make_3d()).transform_to(stonyhurst)
    observer = SkyCoord(second.pixel_to_world(0, 0).observer).transform_to(stonyhurst)
    above = np.sin(place.lat) * np.sin(observer.lat)
    above += np.cos(place.lat) * np.cos(observer.lat) * np.cos(place.lon - observer.lon)
    # False for NaN
    return np.isfinite(place.lon), above > place.radius / observer.radius


LONGITUDES = pytest.mark.parametrize("longitude", [-100, 30, 179])


@LONGITUDES
def test_context_of_another_side(cube, longitude):
    on_disk, there = visible(cube[0, 0].wcs, disk_map(longitude).wcs)
    context = context_cube(cube, disk_map(longitude))
    finite = np.isfinite(context.data[0])
    np.testing.assert_array_equal(finite[on_disk], there[on_disk])


@LONGITUDES
@pytest.mark.parametrize("algorithm", ["interpolation", "adaptive", "exact"])
@pytest.mark.slow
def test_reprojected_to_another_side(cube, longitude, algorithm):
    target = disk_map(longitude).wcs
    on_disk, there = visible(target, cube[0, 0].wcs)
    result, footprint = cube.reproject_to(target, algorithm, shape_out=SHAPE, return_footprint=True)
    finite = np.isfinite(result.data[0, 0])
    assert not finite[on_disk & ~there].any()
    assert not footprint[0, 0][on_disk & ~there].any()
    # Pixels that are cut by a limb may be lost.
    assert finite[binary_erosion(there, iterations=2)].all()
    if algorithm == "interpolation":
        np.testing.assert_array_equal(finite[on_disk], there[on_disk])


def test_far_places_on_the_detector():
    alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time=TIME)
    target = disk_map(-100).wcs
    _, there = visible(target, alignment.to_gwcs())
    u_pixel, v_pixel = detector_coordinates(alignment, target, SHAPE)
    np.testing.assert_array_equal(np.isfinite(u_pixel), there)
    y, x = np.indices(SHAPE)
    expected = np.array(pixel_to_pixel(target, alignment.to_gwcs(), x, y))
    np.testing.assert_allclose([u_pixel[there], v_pixel[there]], expected[:, there], rtol=1e-10)


def test_hidden_positions_are_refused(cube):
    near, far = (
        SkyCoord(longitude * u.deg, [-20, 20] * u.deg, frame=HeliographicStonyhurst(obstime=TIME))
        for longitude in ([-30, 30], [150, 210])
    )
    assert cube[0, 0].crop([near[0]], [near[1]]).shape == cube[0, 0].crop((near[0],), (near[1],)).shape
    with pytest.raises(ValueError, match=r"expected one that the cube's observer can see"):
        cube.crop([far[0], None, None], [far[1], None, None])
    with pytest.raises(ValueError, match=r"expected one that the cube's observer can see"):
        cube[0, 0, 25].crop([far[0]], [far[1]])
    with pytest.raises(ValueError, match=r"expected those that the image's observer can see"):
        PolygonMask.from_skycoord(SkyCoord([*near, far[0]]), cube[0, 0])


def test_hidden_places_have_no_detector_pixel():
    cube = make_cube((2, 2, 12, 14), alignments=True)
    time = cube.time[1]
    places = SkyCoord([0, 180] * u.deg, [5, 5] * u.deg, frame=HeliographicStonyhurst(obstime=time))
    pixels = cube.world_to_detector(places, frame_number=cube.frame_number[1], channel=1)
    np.testing.assert_array_equal(np.isfinite(pixels), [[True, False]] * 2)
    there = cube.alignment[1, 0].to_gwcs().world_to_pixel(places[0])
    np.testing.assert_allclose(np.transpose(pixels)[0], there, rtol=1e-12)


def test_suns_of_two_sizes(cube):
    """Headers of AIA say 696000 km; what is on a smaller Sun is not below its surface."""
    for rsun in (695.0e6, 696.0e6, 697.0e6):
        context = context_cube(cube, disk_map(1, rsun=rsun))
        _, there = visible(cube[0, 0].wcs, disk_map(1).wcs)
        assert np.isfinite(context.data[0])[there].mean() > 0.99


def test_as_with_the_settings_of_sunpy():
    first, second = disk_map(0).wcs, disk_map(60, time=TIME + 1 * u.h).wcs
    y, x = np.indices(SHAPE)
    found = map_pixels(first, second, x, y)
    with SphericalScreen(first.pixel_to_world(0, 0).observer, only_off_disk=True):
        expected = pixel_to_pixel(first, second, x, y)
    on_disk = np.isfinite(first.pixel_to_world(x, y).make_3d().distance)
    # sunpy lets the screen cover the disk where it is nearer.
    expected = np.where(on_disk, pixel_to_pixel(first, second, x, y), expected)
    known = np.isfinite(found).all(axis=0)
    assert known[~on_disk].sum() > 0.5 * (~on_disk).sum()
    np.testing.assert_allclose(np.array(found)[:, known], expected[:, known], rtol=1e-10)
    sky = first.pixel_to_world(x, y)
    with propagate_with_solar_surface():
        turned = sky.make_3d().transform_to(HeliographicStonyhurst(obstime=TIME + 2 * u.h))
    found = _turn(sky, TIME + 2 * u.h)
    separation = SkyCoord(found).separation(SkyCoord(turned.lon, turned.lat, frame=found.frame))
    assert np.nanmax(separation.to_value(u.arcsec)) < 1e-6


@pytest.mark.slow
def test_observers_in_threads():
    """No thread sees the settings of another, nor leaves any."""
    first, second = disk_map(0).wcs, disk_map(20).wcs
    y, x = np.indices(SHAPE)
    expected = map_pixels(first, second, x, y)
    plain = first.pixel_to_world(x, y).make_3d().distance

    def ours(_):
        own = first.deepcopy(), second.deepcopy()
        return map_pixels(*own, x, y)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ours, range(24)))
    for result in results:
        np.testing.assert_array_equal(result, expected)
    assert Helioprojective._assumed_screen is None
    with SphericalScreen(observer_at(90)):
        np.testing.assert_array_equal(map_pixels(first, second, x, y), expected)
    np.testing.assert_array_equal(first.pixel_to_world(x, y).make_3d().distance, plain)


@pytest.mark.slow
def test_coalign_in_threads():
    """Maps of two observers, from four threads, as from one."""
    scene = np.exp(4 * gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 1.5))
    reference, image = (sunpy.map.Map(scene, disk_map(longitude).meta) for longitude in (0, 2))
    alone = coalign(image, reference, transform="shift").transform.coefficients
    with ThreadPoolExecutor(4) as pool:
        together = [
            pool.submit(coalign, deepcopy(image), deepcopy(reference), transform="shift").result for _ in range(16)
        ]
        for result in together:
            np.testing.assert_array_equal(result().transform.coefficients, alone)
    assert Helioprojective._assumed_screen is None
