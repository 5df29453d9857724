"""Velocities: the forward model against other arithmetic, and maps against scenes whose light was moved."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import velocities
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import StdDevUncertainty
from ndcube.meta import NDMeta
from sunpy.coordinates import Heliocentric, HeliographicStonyhurst
from sunpy.sun.models import differential_rotation

from esis_ndcube import ESISLevel3Cube, ESISMap, ESISVelocityCube, velocity_map
from esis_ndcube.flags import Flag
from esis_ndcube.level3.velocity import Projection, projection, rotation_velocity
from esis_ndcube.level3.velocity.maps import apply_response
from esis_ndcube.level3.velocity.projection import displacements

SPEED = u.km / u.s
PER_SPEED = u.pix / SPEED
FAN = np.array([(np.cos(angle), np.sin(angle)) for angle in np.radians(22.5 + 45 * np.arange(4))]) / 14.4
SIZE = velocities.SIZE
FWHM = velocities.FWHM


@pytest.fixture(scope="module")
def small():
    """Velocities that vary over 5 pixels."""
    return velocities.Truth(5, 6)


@pytest.fixture(scope="module")
def found(small):
    return velocity_map(small.cube, fwhm=FWHM * u.arcsec)


def inner(image, margin=12):
    return image[margin:-margin, margin:-margin]


def correlate(found, truth):
    return np.corrcoef(inner(found).ravel(), inner(truth).ravel())[0, 1]


# The forward model

SHAPES = st.tuples(st.integers(1, 30), st.integers(1, 30))


@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1), bins=st.integers(0, 4), line=st.sampled_from([0, 29.0]))
def test_the_transpose_is_exact(shape, seed, bins, line):
    rng = np.random.default_rng(seed)
    operator = Projection(
        rng.normal(size=(3, 2)) / 14 * PER_SPEED,
        shape,
        velocities=rng.normal(size=bins) * 30 * SPEED if bins else None,
        line_width=line * SPEED,
        field_stop=rng.random(shape),
        response=rng.random((3, *shape)),
    )
    one, other = rng.normal(size=operator.shape[1]), rng.normal(size=operator.shape[0])
    forward, back = operator @ one, operator.rmatvec(other)
    size = np.linalg.norm(forward) * np.linalg.norm(other)
    np.testing.assert_allclose(forward @ other, one @ back, atol=1e-12 * size)


def blob(shape=(60, 70), width=3.0):
    scene = np.zeros(shape)
    scene[shape[0] // 2, shape[1] // 2] = 1000
    return gaussian_filter(scene, width)


def project(operator, scene, background=0.0):
    vector = np.append(np.ravel(scene), np.full(operator.images_shape[0], background))
    return (operator @ vector).reshape(operator.images_shape)


def test_light_in_bins_is_displaced():
    speeds = np.array([-40, 0, 25.0])
    scenes = np.array([blob(width=width) for width in (2, 3, 4)])
    images = project(Projection(FAN * PER_SPEED, scenes.shape[1:], velocities=speeds * SPEED), scenes)
    for image, (dx, dy) in zip(images, FAN, strict=True):
        moved = sum(shift(scene, (dy * v, dx * v), order=5) for scene, v in zip(scenes, speeds, strict=True))
        np.testing.assert_allclose(image, moved, atol=2e-4 * moved.max())


def test_moments_are_those_of_bins():
    """For displacements that are small beside the scene, to the third order."""
    speeds, shares = np.array([-12, 3, 15.0]), np.array([0.3, 0.5, 0.2])
    scene = blob(width=5)
    moments = np.array([(shares * speeds**n).sum() * scene for n in range(3)])
    one = project(Projection(FAN * PER_SPEED, scene.shape), moments)
    other = project(Projection(FAN * PER_SPEED, scene.shape, velocities=speeds * SPEED), shares[:, None, None] * scene)
    third = (shares * np.abs(speeds / 14.4 / 5) ** 3).sum()
    np.testing.assert_allclose(one, other, atol=0.5 * third * scene.max())


def test_the_line_is_a_gaussian_along_the_dispersion():
    scene = blob(width=3)
    along_x = np.array([[1, 0], [0, 1]]) / 14.4 * PER_SPEED
    images = project(Projection(along_x, scene.shape, line_width=28.8 * SPEED), [scene, 0 * scene, 0 * scene])
    for image, widths in zip(images, [(0, 2), (2, 0)], strict=True):
        np.testing.assert_allclose(image, gaussian_filter(scene, widths, truncate=6), atol=1e-3 * scene.max())


def test_field_stop_response_and_background():
    scene, stop, response = blob(), np.zeros((60, 70)), np.linspace(1, 2, 4)[:, None, None]
    stop[20:40, 20:40] = 1
    operator = Projection(FAN * PER_SPEED, stop.shape, velocities=[0] * SPEED, field_stop=stop, response=response)
    images = project(operator, scene, background=7.0)
    np.testing.assert_allclose(images, response * (scene * stop) + 7, atol=1e-9)


@pytest.mark.parametrize("channel", range(4))
def test_what_moves_away_is_displaced_along_the_dispersion(channel):
    """As ``cube.dispersion()`` has it, which is tested against a detector."""
    cube = velocities.make_cube(np.zeros((1, 4, 60, 70)), 1)
    row = cube.dispersion()[channel]
    image = project(projection(cube, velocities=[50] * SPEED), blob())[channel]
    y, x = np.indices(image.shape)
    place = np.array([(image * x).sum(), (image * y).sum()]) / image.sum() - (35, 30)
    expected = (50 * SPEED / row["velocity"]).value * np.array([row["dx"], row["dy"]])
    np.testing.assert_allclose(place, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("field_stop of shape", {"field_stop": np.ones((3, 3))}),
        ("response of shape", {"response": np.ones((3, 1, 1))}),
    ],
)
def test_wrong_shapes_are_refused(words, options):
    with pytest.raises(ValueError, match=words):
        Projection(FAN * PER_SPEED, (20, 20), **options)
    with pytest.raises(ValueError, match="displacements of shape"):
        Projection([1, 2] * PER_SPEED, (20, 20))


# Maps


def test_velocities_that_vary_over_a_few_pixels_are_found(small, found):
    assert correlate(found.data[0], small.smoothed()) > 0.8


def test_the_map_shows_what_the_response_lets_through(small, found):
    """With the stated errors: they hold."""
    expected = through(found.response, small.smoothed())
    difference = inner(found.data[0] - expected)
    error = inner(found.uncertainty.array[0])
    # About 100 windows of the map are independent, so that chi-square is known to 14 %.
    assert 0.6 < np.mean((difference - difference.mean()) ** 2) / np.mean(error**2) < 1.3
    truth, seen = inner(expected).ravel(), inner(found.data[0]).ravel()
    assert np.cov(truth, seen)[0, 1] / truth.var() == pytest.approx(1, abs=0.15)


def through(response, velocity):
    return apply_response(velocity, response, (1.2, 1.2))


def test_no_velocity_is_none():
    """Nulls are no larger than expected, and the map is noise of the stated size."""
    quiet = velocity_map(velocities.Truth(5, 1e-6).cube)
    assert inner(quiet.data[0]).std() < 1.1 * np.sqrt(np.mean(inner(quiet.uncertainty.array[0]) ** 2))
    assert quiet.systematic < 1 * SPEED
    assert len(quiet.response) > 3
    assert np.isfinite(quiet.response["response"]).all()


@pytest.mark.slow
def test_random_errors_are_those_of_the_velocities_that_are_there():
    """And not those of the prior's, which vary over a few pixels."""
    truth = velocities.Truth(20, 6, size=480)
    found = velocity_map(truth.cube)
    difference = inner(found.data[0] - through(found.response, truth.smoothed()))
    random = np.mean(inner(found.uncertainty.array[0]) ** 2) - found.systematic.value**2
    # About 400 windows are independent.
    assert difference.var() / random == pytest.approx(1, abs=0.25)


@pytest.mark.slow
def test_the_stated_error_covers_the_light_of_a_second_line():
    truth = velocities.Truth(5, 6, size=480, flaw=velocities.second_line)
    found = velocity_map(truth.cube)
    difference = inner(found.data[0] - through(found.response, truth.smoothed()))
    error = inner(found.uncertainty.array[0])
    # Without the light the deviation is half as large.
    assert difference.std() > 3
    assert difference.var() / np.mean(error**2) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("method", ["field", "window"])
def test_smooth_velocities_are_found_by_both(method):
    truth = velocities.Truth(20, 6, line=5.0, noise=False)
    assert correlate(velocity_map(truth.cube, method=method, line_width=5 * SPEED).data[0], truth.smoothed()) > 0.95


def test_windows_follow_large_displacements():
    """Of eight pixels, 115 km/s, where a field of small displacements cannot."""
    truth = velocities.Truth(60, 60, line=1.0, noise=False)
    found = velocity_map(truth.cube, method="window", fwhm=14 * u.arcsec).data[0]
    expected = truth.smoothed(14)
    assert np.abs(inner(expected)).max() > 90
    assert np.median(np.abs(inner(found, 20) - inner(expected, 20))) < 3


def test_a_pattern_that_no_velocity_makes_is_told(small):
    """Channels that are misplaced across their dispersion, by half a pixel here and there."""
    across = displacements(small.cube).value @ np.array([[0, 1], [-1, 0]])
    wrong = velocities.random_field((SIZE, SIZE), 20, 10, seed=9)
    moved = [
        shifted - plain
        for shifted, plain in zip(
            velocities.move_light(small.scene, wrong, 0.0, across),
            velocities.move_light(small.scene, 0 * wrong, 0.0, across),
            strict=True,
        )
    ]
    cube = small.cube
    told = velocity_map(velocities.make_cube([cube.data[0] + np.array(moved)], cube.uncertainty.array[0]))
    row = told.nulls[list(told.nulls["pattern"]).index("across")]
    assert row["measured"] > 1.5 * row["expected"]
    assert told.systematic > 1 * SPEED


def test_sign_and_rest_position():
    """A grain that moves away is positive, and stands where it would without a velocity."""
    scene = np.full((2 * SIZE, 2 * SIZE), 5.0)
    y, x = np.indices(scene.shape)
    grains = [(150, 180), (260, 300), (350, 140), (330, 350)]
    for row, column in grains:
        scene += 200 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 6**2))
    speeds = [12, -12, 12, -12]
    velocity = np.zeros(scene.shape)
    for (row, column), speed in zip(grains, speeds, strict=True):
        velocity += speed * (np.hypot(y - row, x - column) < 24)
    empty = velocities.make_cube(np.zeros((1, 4, SIZE, SIZE)), 1)
    images = velocities.move_light(scene, velocity, 1.0, displacements(empty).value)
    found = velocity_map(velocities.make_cube([images], 0.3), line_width=1 * SPEED).data[0]
    for (row, column), speed in zip(grains, speeds, strict=True):
        assert found[row // 4, column // 4] == pytest.approx(speed, rel=0.25)


# Cubes


def test_the_cube_of_velocities(small, found, tmp_path):
    assert isinstance(found, ESISVelocityCube)
    assert found.unit == SPEED
    assert found.shape == (1, SIZE // 2, SIZE // 2)
    assert found.history[-1].name == "velocity_map"
    assert found.frame_number.tolist() == [124]
    assert found.channel is None
    assert found.noise_correlation is None
    # A pixel of the map is four of the cube's.
    there = small.cube[0, 0].wcs.world_to_pixel(found[0].wcs.pixel_to_world(10, 20))
    np.testing.assert_allclose(there, (20.5, 40.5), atol=1e-6)
    for name in ("v.fits", "v.asdf"):
        found.write(tmp_path / name)
        again = ESISVelocityCube.read(tmp_path / name)
        np.testing.assert_array_equal(again.data, found.data)
        np.testing.assert_array_equal(again.uncertainty.array, found.uncertainty.array)
        assert again.systematic == found.systematic
        for table in ("response", "nulls"):
            assert getattr(again, table).as_array().tolist() == getattr(found, table).as_array().tolist()
            assert getattr(again, table).colnames == getattr(found, table).colnames
    part = pickle.loads(pickle.dumps(found[0, 10:50]))
    assert part.systematic == found.systematic
    assert found.to("m / s").unit == u.m / u.s
    shown = found[0].to_map()
    assert isinstance(shown, ESISMap)
    assert shown.unit == SPEED
    norm, limits = shown.plot().norm, shown.data[~found.mask[0]]
    assert norm.vmin == -norm.vmax
    assert norm.vmax < np.abs(limits).max() * 1.01
    found[0].plot()


def test_the_same_numbers_by_any_way(small):
    """Alone or among others, lazy, of other types and units, in threads, and the input as it was."""
    one = small.cube
    other = velocities.make_cube([one.data[0][:, ::-1], one.data[0]], one.uncertainty.array[0], frame_number=123)
    before = other.data.copy(), other.mask.copy(), other.flags.copy()
    both = velocity_map(other, method="window")
    alone = velocity_map(one, method="window")
    np.testing.assert_array_equal(both.data[1], alone.data[0])
    for now, then in zip((other.data, other.mask, other.flags), before, strict=True):
        np.testing.assert_array_equal(now, then)
    image = velocity_map(one[0], method="window")
    assert image.shape == alone.shape[1:]
    np.testing.assert_array_equal(image.data, alone.data[0])
    big = ESISLevel3Cube(
        one.data.astype(">f8"), wcs=one.wcs, meta=one.meta, mask=one.mask, flags=one.flags, unit=one.unit
    )
    big.uncertainty = StdDevUncertainty(one.uncertainty.array.astype(">f8"))
    np.testing.assert_allclose(velocity_map(big, method="window").data, alone.data, atol=1e-3)
    for factor in (3, 1e-20, 1e20):
        scaled = ESISLevel3Cube(
            one.data * factor, wcs=one.wcs, meta=one.meta, mask=one.mask, flags=one.flags, unit="electron / pix"
        )
        scaled.uncertainty = StdDevUncertainty(one.uncertainty.array * factor)
        np.testing.assert_allclose(velocity_map(scaled, method="window").data, alone.data, atol=1e-2)
    for array in (one.data, one.mask, one.flags, one.uncertainty.array):
        array.flags.writeable = False
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda _: velocity_map(one, method="window"), range(2)):
            np.testing.assert_array_equal(result.data, alone.data)


def test_a_lazy_file(small, tmp_path):
    small.cube.write(tmp_path / "l3.fits")
    lazy = ESISLevel3Cube.read(tmp_path / "l3.fits", lazy=True)
    np.testing.assert_array_equal(
        velocity_map(lazy, method="window").data, velocity_map(small.cube, method="window").data
    )


def test_what_is_not_valid_does_not_count(small, found):
    cube = small.cube
    data, mask, flags = cube.data.copy(), cube.mask.copy(), cube.flags.copy()
    data[0, 1, 100:104, 60:64] = np.nan
    mask[0, 2, 30:34, 100:104] = True
    data[0, 2, 30:34, 100:104] = 1e6
    # The light of another line in two channels leaves too few there.
    flags[0, 2:, 160:] = Flag.OVERLAP
    data[0, 2:, 160:] *= 3
    again = ESISLevel3Cube(
        data, wcs=cube.wcs, meta=cube.meta, uncertainty=cube.uncertainty, mask=mask, flags=flags, unit=cube.unit
    )
    result = velocity_map(again)
    assert np.isfinite(result.data[~result.mask]).all()
    assert result.mask[0, 90:].all()
    assert not result.mask[0, 5:70, 5:-5].any()
    assert correlate(result.data[0, :60], found.data[0, :60]) > 0.95
    assert not velocity_map(again, overlap=True).mask[0, 5:-5, 5:-5].any()


def test_rotation_of_the_sun(found):
    """A place that is carried along for a minute has come nearer, or gone away, by as much."""
    speed = rotation_velocity(found)
    assert speed.shape == found.shape[1:]
    image = found[0]
    here = image.wcs.pixel_to_world([10, 110], [100, 20])
    there = HeliographicStonyhurst(obstime=image.time)
    place = here.transform_to(there)
    day = differential_rotation(1 * u.day, place.lat, model="howard", frame_time="sidereal")
    step = (day / (1 * u.day) * (1 * u.min)).to(u.deg)
    later = SkyCoord(place.lon + step, place.lat, place.radius, frame=there)
    frame = Heliocentric(observer=here.observer, obstime=image.time)
    away = -(later.transform_to(frame).z - place.transform_to(frame).z) / (1 * u.min)
    np.testing.assert_allclose(speed[[100, 20], [10, 110]].value, away.to_value(SPEED), atol=2e-3)
    back = found + speed
    assert isinstance(back, ESISVelocityCube)
    np.testing.assert_allclose(back.data, found.data + speed.value.astype(np.float32), atol=1e-5)
    with pytest.raises(ValueError, match="axes"):
        rotation_velocity(found[0, 5])


def test_refusals(small):
    cube = small.cube
    with pytest.raises(TypeError, match="expected an ESISLevel3Cube"):
        velocity_map(cube.data)
    with pytest.raises(ValueError, match="axes"):
        velocity_map(cube[:, 0])
    with pytest.raises(ValueError, match="2 channels, expected 3 or more"):
        velocity_map(cube[:, :2])
    with pytest.raises(ValueError, match="expected 'field' or 'window'"):
        velocity_map(cube, method="best")
    for wrong in (0 * u.arcsec, -1 * u.arcsec, np.nan * u.arcsec, 7, 7 * u.km, [7, 8] * u.arcsec):
        with pytest.raises(ValueError, match="fwhm"):
            velocity_map(cube, fwhm=wrong)
    masked = cube.mask_pixels(np.ones(cube.shape, dtype=bool))
    dark = velocities.make_cube(np.zeros(cube.shape), 1)
    for nothing in (masked, dark, velocities.make_cube(-cube.data, 1), cube[..., 10:13, 10:40]):
        with pytest.raises(ValueError, match="no exposure with light that 3 channels see over a window of 7 arcsec"):
            velocity_map(nothing)
    with pytest.raises(ValueError, match="over a window of 400 arcsec"):
        velocity_map(cube, fwhm=400 * u.arcsec)
    bare = ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=cube.meta, unit=cube.unit)
    with pytest.raises(ValueError, match="without uncertainty"):
        velocity_map(bare)
    values = dict(cube.meta) | {"alignment_final": np.array([[cube.alignment[0, 0], None, *cube.alignment[0, 2:]]])}
    lost = ESISLevel3Cube(
        cube.data,
        wcs=cube.wcs,
        uncertainty=cube.uncertainty,
        meta=NDMeta(values, axes={"frame_number": 0, "alignment_final": (0, 1)}),
        unit=cube.unit,
    )
    with pytest.raises(ValueError, match="channels 2 without an alignment"):
        projection(lost)


def test_a_channel_without_alignment_is_left_out(small):
    cube = small.cube
    alignments = np.array([[*cube.alignment[0, :3], None]], dtype=object)
    lost = ESISLevel3Cube(
        cube.data,
        wcs=cube.wcs,
        uncertainty=cube.uncertainty,
        meta=NDMeta(dict(cube.meta) | {"alignment_final": alignments}, axes=cube.meta.axes),
        flags=cube.flags,
        unit=cube.unit,
    )
    one, other = (velocity_map(each, method="window") for each in (lost, cube[:, :3]))
    np.testing.assert_allclose(one.data, other.data, atol=1e-3)
