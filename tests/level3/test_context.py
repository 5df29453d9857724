"""Images of other telescopes on a cube's grid, against a scene with a formula and against plain reproject."""

import importlib.resources

import numpy as np
import pytest
from helpers import make_cube
from reproject import reproject_interp

import astropy.units as u
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.io import ascii
from astropy.nddata import StdDevUncertainty
from astropy.table import QTable
from astropy.time import Time
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective, get_earth

from esis_ndcube import ESIS_1, ESISLevel3Cube
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.level3.context import ContextCube, context_cube
from esis_ndcube.registration._reference_sources import _map_source
from esis_ndcube.wcs import level3_wcs


@pytest.fixture(scope="module")
def cube():
    return make_cube((4, 2, 40, 36))


def scene(frame):
    """A smooth function of the coordinates, in arcsec."""
    x, y = (angle.wrap_at("180d").to_value(u.arcsec) for angle in (frame.Tx, frame.Ty.view(type(frame.Tx))))
    return 100 + 20 * np.sin(x / 15) * np.cos(y / 12 + 0.3)


def make_map(time, *, observer=None, shape=(60, 64), scale=1.4, instrument="AIA_4", value=None, **header):
    """A map about the field of the cubes of `make_cube`, as the observer sees it."""
    time = Time(time)
    observer = get_earth(time) if observer is None else observer
    center = SkyCoord(5 * u.arcsec, 10 * u.arcsec, frame=Helioprojective(observer=observer, obstime=time))
    meta = sunpy.map.make_fitswcs_header(
        np.empty(shape),
        center,
        scale=[scale, scale] * u.arcsec / u.pix,
        rotation_angle=12 * u.deg,
        instrument=instrument,
        telescope="SDO/AIA",
        wavelength=304 * u.AA,
        unit=u.DN / u.pix,
    )
    meta.update(header)
    one = sunpy.map.Map(np.zeros(shape), meta)
    y, x = np.indices(shape)
    return sunpy.map.Map(scene(one.wcs.pixel_to_world(x, y)) if value is None else np.full(shape, value), meta)


def series(cube, offsets, **kwargs):
    return [make_map(cube.time[0] + offset * u.s, **kwargs) for offset in offsets]


def test_what_the_scene_is_there(cube):
    """The observer of the cube looks from Earth too, so that coordinates agree."""
    context = context_cube(cube, make_map(cube.time[1]), order="bicubic")
    assert (type(context), context.name) == (ContextCube, "AIA 304.0 Angstrom")
    assert context.shape == (4, 40, 36)
    y, x = np.indices(context.shape[1:])
    for index in range(4):
        world = cube[index, 0].wcs.pixel_to_world(x, y)
        np.testing.assert_allclose(context.data[index], scene(world), atol=0.02)
    assert not context.mask.any()
    assert context.unit == u.DN / u.pix


def test_another_observer_as_plain_reproject_sees_it(cube):
    time = cube.time[2]
    observer = SkyCoord(3 * u.deg, 6 * u.deg, 0.9 * u.AU, frame=HeliographicStonyhurst(obstime=time))
    one = make_map(time, observer=observer, shape=(80, 300))
    image = cube[2, 1]
    context = context_cube(image, one)
    expected, footprint = reproject_interp((one.data, one.wcs), image.wcs, shape_out=image.shape)
    assert context.shape == image.shape
    assert footprint.any()
    both = np.isfinite(expected) & np.isfinite(context.data)
    assert both.sum() > 0.9 * footprint.sum()
    np.testing.assert_allclose(context.data[both], expected[both], rtol=1e-5)


@pytest.mark.slow
def test_nearest_image_with_its_own_time_and_header(cube):
    exposures = (cube.time - cube.time[0]).to_value(u.s)
    offsets = np.array([-5, exposures[1] + 2, exposures[1] - 3, exposures[3] + 4])
    maps = series(cube, offsets)
    for index, item in enumerate(maps):
        item.meta["number"] = index
    context = context_cube(cube, maps)
    nearest = [np.argmin(abs(offsets - t)) for t in exposures]
    assert [header["NUMBER"] for header in context.headers] == nearest
    np.testing.assert_allclose(context.time_difference.to_value(u.s), offsets[nearest] - exposures, atol=1e-3)
    # Slices carry what belongs to them.
    assert context[1].headers[0]["NUMBER"] == nearest[1]
    np.testing.assert_allclose(context[2:].time_difference.to_value(u.s), (offsets[nearest] - exposures)[2:], atol=1e-3)
    np.testing.assert_array_equal(context.frame_number, cube.frame_number)
    assert "channel" not in context[0].global_coords
    assert context.time.shape == (4,)
    assert abs((context[3].time - cube.time[3]).to_value(u.s)) < 1e-6


def test_gaps(cube):
    maps = series(cube, [0])
    with pytest.warns(match="3 exposures have no image within 4.0 s"):
        context = context_cube(cube, maps, max_gap=4 * u.s)
    assert not context.mask[0].any()
    assert context.mask[1:].all()
    assert np.isnan(context.data[1:]).all()
    assert context.headers[2] is None
    assert context.image_time.mask.tolist() == [False, True, True, True]
    with pytest.raises(ValueError, match="none of the images is within"):
        context_cube(cube, series(cube, [1000]), max_gap=1 * u.s)


def test_images_of_hours_before(cube):
    """Nobody is given them without a word."""
    exposure = cube[0, 0]
    early = make_map(cube.time[0] - 3 * u.hour)
    with pytest.warns(match=r"180 minutes away .*is the date right\? .* give max_gap=18[01] "):
        context = context_cube(exposure, early)
    wanted = context_cube(exposure, early, max_gap=181 * u.min)
    np.testing.assert_array_equal(wanted.data, context.data)
    # The nearest one counts.
    context_cube(exposure, [early, make_map(cube.time[0] + 9 * u.min)])


def test_maps_that_do_not_say_what_they_are(cube):
    exposure, one = cube[0, 0], make_map(cube.time[0], instrument="IMAGER_1")
    keys = "instrume", "telescop", "wavelnth", "waveunit", "detector", "obsrvtry"
    for left, name in (
        ((), "image"),
        (("wavelnth", "waveunit"), "304.0 Angstrom"),
        (("instrume",), "IMAGER 1"),
        (("telescop",), "SDO/AIA"),
    ):
        meta = {key: value for key, value in one.meta.items() if key not in keys or key in left}
        given = sunpy.map.Map(one.data, meta)
        context = context_cube(exposure, given)
        assert context.name == name
        assert f"image: {name}" in str(context)
        source = _map_source(given)
        assert source.name.startswith((name, given.observatory or name))
        assert "None" not in source.name


def test_uncertainty_and_mask_of_the_map(cube):
    one = make_map(cube.time[0], value=7.0)
    mask = np.zeros(one.data.shape, bool)
    mask[25:35, 25:35] = True
    one = sunpy.map.Map(one.data, one.meta, mask=mask, uncertainty=StdDevUncertainty(np.full(one.data.shape, 2.0)))
    context = context_cube(cube[0, 0], one)
    assert 0 < context.mask.sum() < context.mask.size
    valid = ~context.mask
    np.testing.assert_allclose(context.data[valid], 7, rtol=1e-6)
    # Of four pixels with weights that add to 1.
    sigma = context.uncertainty.array[valid]
    assert sigma.max() <= 2
    assert sigma.min() >= 1 - 1e-6
    assert np.ptp(sigma) > 0.3
    assert np.isnan(context.uncertainty.array[context.mask]).all()
    assert context_cube(cube[0, 0], make_map(cube.time[0])).uncertainty is None


def test_round_trip(cube, tmp_path):
    maps = series(cube, [0, 60])
    with pytest.warns(match="no image"):
        context = context_cube(cube, maps, max_gap=12 * u.s)
    context.write(tmp_path / "context.fits")
    back = ContextCube.read(tmp_path / "context.fits")
    np.testing.assert_array_equal(back.data, context.data)
    np.testing.assert_array_equal(back.image_time.mask, context.image_time.mask)
    np.testing.assert_array_equal(back.time_difference.filled(0 * u.s), context.time_difference.filled(0 * u.s))
    assert back.headers == context.headers
    assert (back.name, back.pointing_source, str(back)) == (context.name, context.pointing_source, str(context))
    with pytest.raises(CubeFileError, match="level"):
        type(cube).read(tmp_path / "context.fits")


def noise(counts, counts_per_photon, compression):
    """Shot noise, that of compression, dark, readout and digits of an image of AIA."""
    shot = np.sqrt(counts / counts_per_photon) * counts_per_photon
    return np.sqrt(shot**2 + (shot / compression) ** 2 + 0.18**2 + 1.14**2 + 1 / 12)


@pytest.mark.slow
def test_tables_of_aia(cube):
    pytest.importorskip("aiapy")
    time = cube.time[0]
    # Only full-disk images of full size are pointed by the table; this one is pointed 30 arcsec off.
    small = make_map(time, shape=(64, 64), scale=0.6)
    meta = {**small.meta, "naxis1": 4096, "naxis2": 4096, "crpix1": 2048.5, "crpix2": 2048.5, "crval1": 0, "crval2": 0}
    meta |= {"t_obs": time.isot, "sat_rot": 0.0, "pc1_1": 1.0, "pc1_2": 0.0, "pc2_1": 0.0, "pc2_2": 1.0, "lvl_num": 1}
    data = np.zeros((4096, 4096), np.float32)
    data[2055:2067, 2100:2112] = 50
    one = sunpy.map.Map(data, meta)
    pointing = QTable({"T_START": [time - 1 * u.hour], "T_STOP": [time + 1 * u.hour]})
    for name, value in {"X0": 2047.5 + 50, "Y0": 2047.5}.items():
        pointing[f"A_304_{name}"] = [value] * u.pix
    pointing["A_304_IMSCALE"] = [0.6] * u.arcsec / u.pix
    pointing["A_304_INSTROT"] = [0.0] * u.deg
    errors = QTable({"WAVELNTH": [304] * u.AA, "DNPERPHT": [3.0] * u.DN / u.ph, "COMPRESS": [5.0]})
    errors["CHIANTI"] = [0.1]
    image = cube[0, 0]
    before = context_cube(image, one)
    after = context_cube(image, one, order=0, pointing_table=pointing, error_table=errors)
    assert before.pointing_source != after.pointing_source
    # The patch lies 50 pixels right of the center, where the table has the Sun's.
    assert np.nanmax(before.data) == 0
    assert np.nanmax(after.data) == 50
    y, x = np.nonzero(after.data > 25)
    middle = image.wcs.pixel_to_world(x.mean(), y.mean())
    assert abs(middle.Tx.wrap_at("180d").to_value(u.arcsec) - (2105.5 - 2097.5) * 0.6) < 0.4
    assert abs(middle.Ty.to_value(u.arcsec) - (2060.5 - 2047.5) * 0.6) < 0.4
    by_hand = noise(50, 3, 5)
    # At the sides of the patch the variance is smoothed.
    np.testing.assert_allclose(np.median(after.uncertainty.array[after.data == 50]), by_hand, rtol=1e-5)
    other = make_map(time, instrument="HMI")
    with pytest.raises(ValueError, match=r"got 'HMI .*of 64 x 60 pixels .*expected a full-disk image of AIA"):
        context_cube(image, other, pointing_table=pointing)
    with pytest.raises(ValueError, match=r"got the error table of AIA for 'HMI .*expected an image of AIA"):
        context_cube(image, other, error_table=errors)
    # The table of the team, as aiapy reads it from a file.
    table = importlib.resources.files("aiapy") / "tests" / "data" / "aia_V3_error_table.txt"
    published = context_cube(image, make_map(time, value=50.0), order=0, error_table=str(table))
    row = next(row for row in ascii.read(str(table)) if row["WAVELNTH"] == 304)
    np.testing.assert_allclose(published.uncertainty.array, noise(50, row["DNPERPHT"], row["COMPRESS"]), rtol=1e-5)


def test_bad_input(cube):
    one = make_map(cube.time[0])
    with pytest.raises(TypeError, match="type str"):
        context_cube(cube, ["aia.fits"])
    with pytest.raises(ValueError, match="empty list"):
        context_cube(cube, [])
    with pytest.raises(ValueError, match="expected all in one unit"):
        context_cube(cube, [one, make_map(cube.time[0], bunit="ct")])
    with pytest.raises(ValueError, match="y and x to be the last"):
        context_cube(cube[0, 0, 3], one)
    far = make_map(cube.time[0], value=1.0, crval1=800.0)
    with pytest.raises(ValueError, match="nothing of the cube's field of view"):
        context_cube(cube, far)


@pytest.mark.slow
def test_facade(cube):
    one = make_map(cube.time[0])
    np.testing.assert_array_equal(cube.context(one, order=1).data, context_cube(cube, one, order=1).data)
    both = series(cube, [0, 30])
    sequence = sunpy.map.Map(both, sequence=True)
    np.testing.assert_array_equal(cube.context(sequence).data, cube.context(both).data)
    with pytest.raises(ValueError, match=r"got 'aia\.fits', expected one of aia_94, aia_131, "):
        cube.context("aia.fits")
    with pytest.raises(TypeError, match=r"got int, expected a name such as 'AIA 304', a query, or sunpy Maps: read"):
        cube.context(304)


AIA_AND_HMI = [
    "aia/AIA20110319_105400_0171.fits",
    "aia/AIA304_20240416_111541_8bit_crop.fits",
    "aia/aia_171_cutout.fits",
    "aia/aia_171_level1.fits",
    "other/resampled_hmi.fits",
]


@pytest.mark.flight_data
@pytest.mark.filterwarnings("ignore:The meta key  is not valid ascii")
@pytest.mark.parametrize("name", AIA_AND_HMI)
def test_images_of_sdo_as_plain_reproject_sees_them(flight_data, name):
    """Level 1 and 1.5, a cutout, binned and turned ones."""
    one = sunpy.map.Map(flight_data / name)
    wcs = level3_wcs(ESIS_1.grid, Time([one.reference_date.utc.isot]), [1])[:, :, 500:660, 540:700]
    image = ESISLevel3Cube(np.zeros((1, 1, 160, 160)), wcs=wcs, meta={"flight": ESIS_1})[0, 0]
    context = image.context(one)
    expected, _ = reproject_interp((one.data.astype(float), one.wcs), image.wcs, shape_out=image.shape)
    np.testing.assert_array_equal(context.mask, np.isnan(expected))
    good = ~context.mask
    assert good.sum() > 1000
    np.testing.assert_allclose(context.data[good], expected[good], atol=1e-5 * np.nanmax(abs(one.data)))
    assert abs(context.time_difference) < 1 * u.ms
    # No image of another year is that of the flight.
    with pytest.raises(ValueError, match=r"got .* s from the nearest exposure, .*image of that region and time"):
        make_cube((1, 1, 40, 36)).context(one, max_gap=20 * u.yr)


@pytest.mark.flight_data
@pytest.mark.filterwarnings("ignore:Missing metadata for observer")
def test_digitized_image(flight_data):
    """On its own grid points, spaced by several of ours, the image is what it was."""
    one = sunpy.map.Map(flight_data / "esis_derived" / "aia_304_20190930_1808_digitized.fits")
    cube = make_cube((1, 1, 200, 200))[0, 0]
    context = cube.context(one)
    y, x = np.indices(cube.shape)
    i, j = one.wcs.world_to_pixel(cube.wcs.pixel_to_world(x, y))
    near = (abs(i - np.rint(i)) < 0.05) & (abs(j - np.rint(j)) < 0.05)
    assert near.sum() > 100
    expected = one.data[np.rint(j[near]).astype(int), np.rint(i[near]).astype(int)]
    assert np.corrcoef(context.data[near], expected)[0, 1] > 0.999
