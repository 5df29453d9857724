"""Everything that a reference may be, against scenes with a formula on the surface of the Sun."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from reproject import reproject_interp

import astropy.units as u
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.nddata import StdDevUncertainty
from astropy.time import Time
from astropy.wcs import WCS
from ndcube import NDCube
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective, get_earth
from sunpy.sun.models import differential_rotation
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import coalign, form_level3
from esis_ndcube.registration import _view
from esis_ndcube.registration.reference import Once, Reference, observed_grid, prepare_references
from esis_ndcube.simulate.demo import coordinate_error


@pytest.fixture(scope="module")
def small(flights):
    flight = flights(n_exposures=2, size=4, seed=2, n_darks=2, other_lines=False, missing=False, blank=False)
    return flight.simulated, flight.level1, flight.maps


@pytest.fixture(scope="module")
def level3(small):
    return form_level3(small[1], small[2])


def prepare(level1, reference, **kwargs):
    return prepare_references(level1, reference, line="O V", reference_channel=2, **kwargs)


def surface(lon, lat):
    """A scene that is painted on the Sun, of degrees; waves of about 50 arcsec."""
    return 100 + 20 * np.sin(2.1 * lon) * np.cos(1.9 * lat + 0.4) + 5 * np.sin(0.9 * lon + 1.3 * lat)


def degrees(place, time, observer=None):
    """Heliographic longitude and latitude of helioprojective coordinates."""
    there = SkyCoord(place.Tx, place.Ty, frame=Helioprojective(observer=observer or get_earth(time), obstime=time))
    there = there.transform_to(HeliographicStonyhurst(obstime=time))
    return there.lon.to_value(u.deg), there.lat.to_value(u.deg)


def painted(time, *, observer=None, shape=(420, 420), scale=2.4, center=(0, 0)):
    """A map of that scene."""
    time = Time(time)
    observer = get_earth(time) if observer is None else observer
    frame = Helioprojective(observer=observer, obstime=time)
    middle = SkyCoord(*center * u.arcsec, frame=frame)
    meta = sunpy.map.make_fitswcs_header(np.empty(shape), middle, scale=[scale, scale] * u.arcsec / u.pix)
    y, x = np.indices(shape)
    place = sunpy.map.Map(np.zeros(shape), meta).wcs.pixel_to_world(x, y)
    return sunpy.map.Map(surface(*degrees(place, time, observer)), meta)


def grid_places(flight, time):
    rows, columns = flight.grid_shape
    y, x = np.indices((rows, columns))
    return observed_grid(flight, get_earth(time), time).pixel_to_world(x, y)


def synodic(lat, interval):
    """Degrees that the surface turns, seen from the Earth."""
    turn = differential_rotation(interval, lat * u.deg, model="howard", frame_time="synodic")
    return turn.wrap_at(180 * u.deg).to_value(u.deg)


@pytest.mark.slow
def test_each_exposure_has_the_nearest_image_brought_once(small):
    _, level1, maps = small
    references = prepare(level1, maps[::-1])
    for image, time in zip(references.images, level1.time, strict=True):
        nearest = min(maps, key=lambda m: abs((m.reference_date - time).sec))
        assert image.time == nearest.reference_date
        grid = observed_grid(level1.flight, nearest.observer_coordinate, image.time)
        expected, footprint = reproject_interp((nearest.data, nearest.wcs), grid, shape_out=level1.flight.grid_shape)
        both = np.isfinite(expected) & np.isfinite(image.data)
        assert both.sum() > 0.99 * footprint.sum()
        np.testing.assert_allclose(image.data[both], expected[both], rtol=1e-5, atol=1e-4 * np.nanstd(expected))
    shared = prepare(level1, maps[0])
    assert shared.images[0] is shared.images[1]


def test_a_sequence_of_maps_is_a_list_of_them(small):
    _, level1, maps = small
    sequence = sunpy.map.Map(maps, sequence=True)
    for a, b in zip(prepare(level1, sequence).images, prepare(level1, maps).images, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.slow
def test_another_observer_is_brought_to_the_view_from_earth(small):
    _, level1, _ = small
    time = level1.time[0]
    observer = SkyCoord(12 * u.deg, -4 * u.deg, 0.7 * u.AU, frame=HeliographicStonyhurst(obstime=time))
    one = painted(time, observer=observer, shape=(900, 900), scale=1.6)
    image = prepare(level1, one).images[0]
    expected = surface(*degrees(grid_places(level1.flight, time), time))
    assert np.isfinite(image.data).mean() > 0.99
    assert np.nanmax(np.abs(image.data - expected)) < 0.15
    # Left as it is seen from there, it is a different image altogether.
    plain = painted(time).data
    assert np.std(plain - one.data[240:660, 240:660]) > 10


@pytest.mark.parametrize("hours", [-6.0, 0.5, 30.0])
@pytest.mark.slow
def test_the_modeled_rotation_is_that_of_the_surface(small, hours):
    """Against the rate of rotation itself, which `propagate_with_solar_surface` has no part in."""
    _, level1, _ = small
    exposure = level1.time[0]
    taken = exposure - hours * u.hour
    # The warning is for images that are left as they are too.
    with pytest.warns(match="minutes away"):
        references = prepare(level1, painted(taken), rotate=True)
    image = references.images[0].load()
    lon, lat = degrees(grid_places(level1.flight, exposure), exposure)
    expected = surface(lon - synodic(lat, hours * u.hour), lat)
    assert np.nanmax(np.abs(image.data - expected)) < 0.2
    assert np.isfinite(image.data).mean() > 0.99
    with pytest.warns(match="minutes away"):
        left = prepare(level1, painted(taken)).images[0]
    assert np.nanstd(left.data - expected) > 3


def test_size_of_the_rotation_at_the_disk_center():
    """The number of the documentation: 0.0026 arcsec per second."""
    time, interval = Time("2019-09-30T18:08:00"), 300 * u.s
    grid = WCS(naxis=2)
    grid.wcs.ctype, grid.wcs.cunit, grid.wcs.cdelt = ["HPLN-TAN", "HPLT-TAN"], ["arcsec"] * 2, [0.6, 0.6]
    grid.wcs.crpix = 8.5, 8.5
    flight = SimpleNamespace(grid=grid, grid_shape=(16, 16))
    source = SimpleNamespace(observer=get_earth(time), time=time)
    shift = _view.shifts(source, flight, turned_to=time + interval) * 3600
    per_second = -shift[:, 1, 1] / interval.value
    # The Earth looks at the latitude B0 = 6.7 deg, which goes round the axis.
    b0 = get_earth(time).lat
    rate = synodic(b0.deg, 1 * u.day) / 86400 * u.deg
    distance = get_earth(time).radius - 695700 * u.km
    expected = rate.to_value(u.arcsec) * (np.cos(b0) * 695700 * u.km / distance).to_value(u.one)
    assert per_second[0] == pytest.approx(expected, rel=2e-3)
    assert per_second[0] == pytest.approx(0.0026, abs=5e-5)


def test_beyond_the_limb_the_image_stays_and_what_was_hidden_is_missing():
    time = Time("2019-09-30T18:08:00")
    grid = WCS(naxis=2)
    grid.wcs.ctype, grid.wcs.cunit, grid.wcs.cdelt = ["HPLN-TAN", "HPLT-TAN"], ["arcsec"] * 2, [4.0, 4.0]
    grid.wcs.crval = -960, 0
    grid.wcs.crpix = 60, 60
    flight = SimpleNamespace(grid=grid, grid_shape=(119, 119))
    source = SimpleNamespace(observer=get_earth(time), time=time)
    y, x = np.mgrid[:119, :119]
    place = grid.pixel_to_world_values(x, y)
    radius = np.hypot((place[0] + 180) % 360 - 180, place[1]) * 3600
    world = _view.longitude_latitude(flight, _view.shifts(source, flight, turned_to=time + 2 * u.day))
    plain = _view.longitude_latitude(flight, None)
    far = radius > 1010
    np.testing.assert_allclose(world[:, far], plain[:, far], atol=1e-12)
    # Two days before, the eastern 27 degrees of the equator were on the far side: up to 960 * cos(27 deg) from it.
    row = world[0, 59]
    hidden = np.isnan(row)
    assert hidden[(radius[59] < 925) & (radius[59] > 890)].all()
    assert not hidden[radius[59] < 820].any()


@pytest.mark.slow
def test_rotation_moves_the_alignment(small):
    """The same image with an earlier date: the features have turned west until the exposure."""
    _, level1, maps = small
    interval = 400 * u.s
    date = maps[0].reference_date - interval
    header = dict(maps[0].fits_header) | {"date-obs": date.isot, "t_obs": date.isot}
    earlier = sunpy.map.Map(maps[0].data, header)
    assert abs(earlier.reference_date - date) < 5 * u.s
    left, turned = (coalign(level1, earlier, rotate=rotate) for rotate in (False, True))
    rows, columns = level1.flight.grid_shape
    for index, time in enumerate(level1.time):
        gap = (time - earlier.reference_date).to_value(u.s)
        for a, b in zip(left.final[index], turned.final[index], strict=True):
            assert a.converged
            assert b.converged
            # Where on the grid the detector pixel lies now, that was in the middle before.
            x, y = b.transform.inverse(*a.transform((columns - 1) / 2, (rows - 1) / 2))
            moved = (x - (columns - 1) / 2) * level1.flight.grid_cdelt[0]
            assert moved == pytest.approx(0.00258 * gap, abs=0.15)
            assert abs(y - (rows - 1) / 2) < 0.15


@pytest.mark.slow
def test_rotated_exposures_do_not_depend_on_each_other_or_on_the_workers(small):
    _, level1, maps = small
    both = coalign(level1, maps[:1], rotate=True, workers=2)
    alone = coalign(level1[1:], maps[:1], rotate=True, workers=1)
    for a, b in zip(alone.final[0], both.final[1], strict=True):
        np.testing.assert_array_equal(a.transform.coefficients, b.transform.coefficients)


@pytest.mark.slow
def test_exposures_without_a_reference_near_in_time_are_left_out(small):
    _, level1, maps = small
    first = min(maps, key=lambda m: abs((m.reference_date - level1.time[0]).sec))
    gaps = [abs((first.reference_date - time).to(u.s)) for time in level1.time]
    limit = (gaps[0] + gaps[1]) / 2
    with pytest.warns(
        match=rf"4 of 8 frames.*frame {level1.frame_number[1]} channel 1 \(no reference within max_gap\)"
    ):
        result = coalign(level1, first, max_gap=limit)
    assert all(a.converged for a in result.final[0])
    assert [a.reason for a in result.final[1]] == ["no reference within max_gap"] * 4
    assert result.reference_times[1] is None
    with pytest.warns(match="no reference within max_gap"):
        cube = form_level3(level1, coalign(level1, first, max_gap=limit), vignetting=False)
    assert np.isnan(cube.data[1]).all()
    assert cube.mask[1].all()
    assert np.isfinite(cube.data[0]).any()
    step = next(step for step in cube.history if step.name == "coalign")
    assert step.parameters["max_gap"] == pytest.approx(limit.to_value(u.s))
    assert step.parameters["rotate"] is False
    with pytest.raises(ValueError, match=r"no reference is within 0.001 s of an exposure, the nearest is"):
        coalign(level1, first, max_gap=1 * u.ms)
    with pytest.raises(u.UnitConversionError):
        coalign(level1, first, max_gap=1 * u.m)


@pytest.mark.slow
def test_a_formed_cube_as_the_reference(small, level3):
    simulated, level1, _ = small
    references = prepare(level1, level3)
    number = list(level3.channel).index(level1.flight.reference_channel)
    for index, image in enumerate(image.load() for image in references.images):
        assert image.time == level3.time[index]
        expected = np.where(level3.mask[index, number], np.nan, level3.data[index, number])
        inside = np.isfinite(image.data)
        np.testing.assert_allclose(image.data[inside], expected[inside], rtol=1e-4)
        assert inside.sum() >= 0.99 * np.isfinite(expected).sum()
    result = coalign(level1, level3)
    assert "channel 2" in result.reference
    own, new = (
        [np.sqrt(np.mean(np.square(coordinate_error(a, simulated)[2:]))) for a in alignments.flat]
        for alignments in (level3.alignment, result.final)
    )
    assert (np.array(new) < np.array(own) + 0.05).all()
    other = prepare(level1, level3[:, 2:3])
    assert "channel 3" in other.name
    with pytest.raises(ValueError, match=r"channels \[3, 4\].*reference channel 2 is not"):
        prepare(level1, level3[:, 2:])


@pytest.mark.slow
def test_an_exposure_that_could_not_be_aligned_is_no_reference(small, level3):
    data = level3.data.copy()
    data[0] = np.nan
    torn = type(level3)(data, wcs=level3.wcs, mask=level3.mask, meta=level3.meta, unit=level3.unit)
    references = prepare(small[1], torn)
    assert [image.time for image in references.images] == [level3.time[1]] * 2
    with pytest.raises(ValueError, match="empty reference"):
        prepare(small[1], type(level3)(data[:1], wcs=level3.wcs[:1], meta=level3[:1].meta))


@pytest.mark.slow
def test_a_context_cube_as_the_reference(small, level3):
    _, level1, maps = small
    context = level3.context(maps)
    references = prepare(level1, context)
    for image, direct, time in zip(references.images, prepare(level1, maps).images, context.image_time, strict=True):
        assert image.time == time
        both = np.isfinite(image.data) & np.isfinite(direct.data)
        assert both.mean() > 0.9
        assert np.corrcoef(image.data[both], direct.data[both])[0, 1] > 0.9999


@pytest.mark.slow
def test_any_cube_with_times_as_the_reference(small):
    _, level1, _ = small
    times = level1.time[0] + [-500, 3, 40] * u.s
    maps = [painted(time) for time in times]
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "HPLN-TAN", "HPLT-TAN", "UTC"
    wcs.wcs.cunit = "arcsec", "arcsec", "s"
    wcs.wcs.cdelt = 2.4, 2.4, 43.0
    wcs.wcs.crpix = 210.5, 210.5, 2
    wcs.wcs.crval = 0, 0, 0
    wcs.wcs.mjdref = times[1].jd1 - 2400000.5, times[1].jd2
    wcs.array_shape = 3, 420, 420
    data = np.stack([m.data for m in maps])
    cube = NDCube(data[1:], wcs=wcs[1:], uncertainty=StdDevUncertainty(np.ones_like(data[1:])))
    references = prepare(level1, cube)
    # An observer that is not told is on the Earth.
    for image, time in zip(references.images, level1.time, strict=True):
        nearest = np.abs((times[1:] - time).to_value(u.s)).argmin()
        assert abs(image.time - times[1:][nearest]) < 1 * u.ms
        expected = prepare(level1, maps[1:][nearest]).images[0].data
        np.testing.assert_allclose(image.data, expected, rtol=1e-5)


def test_a_cube_of_one_image_is_as_its_map(small):
    _, level1, maps = small
    one = maps[0]
    mask = np.zeros(one.data.shape, dtype=bool)
    mask[100:110, 50:70] = True
    masked = type(one)(one.data, one.meta, mask=mask)
    a, b = (prepare(level1, r).images[0] for r in (masked, NDCube(one.data, wcs=one.wcs, mask=mask)))
    np.testing.assert_array_equal(a.data, b.data)
    assert abs(a.time - b.time) < 1 * u.ms
    assert a.resolution == b.resolution
    assert np.isnan(a.data).any()


def test_another_channel_is_pointed_by_the_pose(small):
    simulated, level1, _ = small
    # A channel says nothing of its own distortion.
    with pytest.warns(SunpyUserWarning, match=r"maps lack terms .* \(degree 2"):
        result = coalign(level1, 3)
    flight = simulated.flight
    assert result.reference == f"flight pose, channel 3 of frame {flight.pose_frame}"
    assert result.reference_channel == flight.reference_channel
    row = result.linear[list(level1.frame_number).index(flight.pose_frame)]
    x, y = np.array([100.0, 200.0, 150.0]), np.array([100.0, 150.0, 220.0])
    pose = (flight.pose(3) @ np.stack([x, y, np.ones(3)]))[:2]
    np.testing.assert_allclose(row[2].transform(x, y), pose, atol=0.02)
    assert np.abs(np.subtract(row[1].transform(x, y), (flight.pose(2) @ np.stack([x, y, np.ones(3)]))[:2])).max() > 0.02
    with pytest.raises(ValueError, match=r"got channel 7 as the reference, expected one of .* \[1, 2, 3, 4\]"):
        coalign(level1, 7)


def test_a_channel_can_be_turned_too(small):
    """Pixels of the channel move over the grid as the surface does."""
    _, level1, _ = small
    left, turned = prepare(level1, None), prepare(level1, None, rotate=True)
    frame = list(level1.frame_number).index(level1.flight.pose_frame)
    other = 1 - frame
    same = turned.images[frame].load().data
    np.testing.assert_allclose(same, left.images[frame].data, rtol=1e-3, atol=1e-3 * np.nanstd(same))
    moved = turned.images[other].load().data
    assert not np.array_equal(np.nan_to_num(moved), np.nan_to_num(same))


@pytest.mark.slow
def test_references_travel_to_other_processes(small, level3):
    _, level1, maps = small
    for reference in (maps[0], NDCube(maps[0].data, wcs=maps[0].wcs), level3, None):
        here = prepare(level1, reference, rotate=True).images[0]
        there = pickle.loads(pickle.dumps(here)).load()
        np.testing.assert_array_equal(there.data, here.load().data)


def test_what_is_no_reference_is_told(small, level3):
    _, level1, maps = small
    with pytest.raises(ValueError, match=r"got a Level-1 cube of shape .*expected axes \(time, channel, y, x\)"):
        coalign(level1[0], maps)
    for wrong in ("aia.fits", maps[0].data, True, 3.5, {"a": maps[0]}):
        with pytest.raises(TypeError, match=r"got a reference of type \w+, expected a sunpy Map, a list"):
            coalign(level1, wrong)
    with pytest.raises(ValueError, match="expected helioprojective"):
        coalign(level1, level1[:, 0])
    with pytest.raises(ValueError, match=r"expected axes \(y, x\) or \(time, y, x\)"):
        coalign(level1, level3[0, 0, 5])


def test_exposures_that_share_an_image_load_it_once():
    """From several threads, and in another process what was loaded arrives."""
    calls = []

    class Image:
        def load(self):
            calls.append(threading.get_ident())
            return Reference("an image", Time("2019-09-30"), np.ones((2, 2)), 0.6, 0.6, detailed=True)

    once = Once(Image())
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: once.load(), range(8)))
    assert len(calls) == 1
    assert all(reference is loaded[0] for reference in loaded)
    assert pickle.loads(pickle.dumps(once)).name == "an image"
    assert len(calls) == 1
