"""The main job on the raw frames of the 2019 flight."""

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import assert_cubes_equal

import astropy.units as u
import sunpy.map
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube, form_level3
from esis_ndcube.cli import main
from esis_ndcube.flags import Flag
from esis_ndcube.quality import offset_to_map, pair_correlation, tile_residual

pytestmark = [
    pytest.mark.flight_data,
    # The digitized image has no observer and no solar radius; sunpy says so.
    pytest.mark.filterwarnings("ignore:Missing metadata for observer"),
    # Of frame 138, which is nearly extinct.
    pytest.mark.filterwarnings("ignore:1 of 64 frames could not be aligned"),
]

FRAMES = [109, 110, 112, 113, 115, 116, 118, 119, 121, 123, 124, 125, 127, 130, 133, 138]


@pytest.fixture(scope="module")
def reference(flight_data):
    return flight_data / "esis_derived" / "aia_304_20190930_1808_digitized.fits"


@pytest.fixture(scope="module")
def path(flight_data, reference, tmp_path_factory):
    """The Level-3 file that the command line makes of all light frames."""
    path = tmp_path_factory.mktemp("level3") / "l3.fits"
    options = ["--reference", str(reference), "--no-vignetting", "--no-normalize", "--output", str(path)]
    result = CliRunner().invoke(main, ["level3", str(flight_data / "esis_level0"), *options])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def cube(path):
    return ESISLevel3Cube.read(path)


@pytest.fixture(scope="module")
def good(cube):
    """Frames 110 to 133."""
    return cube[1:15]


def test_all_light_frames_with_their_own_times(cube):
    assert cube.shape == (16, 4, 1270, 1270)
    assert list(cube.frame) == FRAMES
    # Time stamps are the ends of exposures of 10 s: frame 124 ended at 18:08:41.642.
    assert abs((cube.time[FRAMES.index(124)] - Time("2019-09-30T18:08:36.642")).to_value(u.s)) < 1e-3
    seconds = (cube.time - cube.time[0]).to_value(u.s)
    np.testing.assert_allclose(seconds, 10 * np.subtract(FRAMES, 109), atol=0.02)
    assert set(np.round(np.diff(seconds))) == {10, 20, 30, 50}


def test_correlation_of_the_channels(good):
    """The published figures are 0.9086 after the linear and 0.9095 after the quadratic step."""
    assert pair_correlation(good)["correlation"].mean() >= 0.914


def test_residual_misalignment_in_tiles(good):
    tiles = tile_residual(good)
    squares = tiles["dx"] ** 2 + tiles["dy"] ** 2
    assert np.sqrt(np.mean(squares)) <= 0.20
    for frame in good.frame:
        assert np.sqrt(np.mean(squares[tiles["frame"] == frame])) <= 0.22


def test_offset_to_the_digitized_aia_image(cube, reference):
    table = offset_to_map(cube, sunpy.map.Map(reference), frame=124)
    pixels = np.hypot(table["dx"], table["dy"]).to_value(u.arcsec) / 0.6
    assert len(pixels) == 4
    assert pixels.max() <= 0.3
    assert min(table["correlation"]) > 0.75


def test_the_field_stop_is_where_the_light_is(cube):
    """Across the sides of the octagon the brightness falls to the level of stray light and faint lines."""
    from scipy.ndimage import binary_dilation, binary_erosion

    for index in (1, 10, 14):
        for channel in range(4):
            image = cube[index, channel]
            inside = image.flags & Flag.OUTSIDE == 0
            rim = inside & ~binary_erosion(inside, iterations=8)
            beyond = binary_dilation(inside, iterations=10) & ~binary_dilation(inside, iterations=2)
            # Where the Mg X octagon ends less than there is of it inside.
            beyond &= np.isfinite(image.data)
            assert np.mean(image.data[beyond]) < 0.45 * np.mean(image.data[rim])


def test_weak_and_lost_frames_do_not_stop_the_run(cube):
    """Frame 138 is nearly extinct; what is wrong with it is said and masked."""
    for channel, alignment in enumerate(cube.alignment[-1]):
        if not alignment.converged:
            assert np.isnan(cube.data[-1, channel]).all()
            assert cube.mask[-1, channel].all()
    assert all(a.converged for row in cube.alignment[:-1] for a in row)


def test_motion_of_the_sun_on_the_detectors(cube):
    """About 8 arcsec in yaw and 1 in pitch over the flight, hardly any roll, the same to 0.4 arcsec in all channels."""
    table = cube[:15].pointing()
    first, last = table[table["frame"] == 109], table[table["frame"] == 133]
    yaw = (first["dx"] - last["dx"]).to_value(u.arcsec)
    assert ((yaw > 4) & (yaw < 8)).all()
    assert np.ptp(yaw) < 0.8
    assert np.abs(table["dy"].to_value(u.arcsec)).max() < 1.5
    assert np.abs(table["roll"].to_value(u.deg)).max() < 0.03


def test_the_file_gives_back_the_cube(cube, path, tmp_path):
    part = cube[8:12, :, 200:900, 100:1100]
    part.write(tmp_path / "part.fits")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "part.fits"), part)


def test_plain_astropy_and_sunpy_read_the_file(cube, path):
    with fits.open(path, memmap=True) as hdulist:
        wcs = WCS(hdulist["DATA"].header, hdulist)
        assert hdulist["DATA"].header["BUNIT"] == "ph / pix"
        world = wcs.pixel_to_world_values(612.5, 667.5, 1, 10)
    np.testing.assert_allclose(world[:2], 0, atol=1e-9)
    assert world[2] == pytest.approx(2)
    image = sunpy.map.Map(cube[10, 1].data, cube[10, 1].wcs.to_header())
    assert image.scale[0].to_value(u.arcsec / u.pix) == pytest.approx(0.6)
    assert abs((image.reference_date - cube.time[10]).to_value(u.s)) < 1e-3


def test_headers_of_slices(cube):
    header = cube[0, 0].wcs.to_header()
    assert header["DATE-AVG"].startswith("2019-09-30T18:06:06.6")
    assert header["DATE-BEG"] < header["DATE-AVG"] < header["DATE-END"]
    part = cube[15, 1, 100:700, 200:900].wcs.to_header()
    assert part["DATE-AVG"].startswith("2019-09-30T18:10:56.6")
    assert part["CRPIX1"] == pytest.approx(613.5 - 200)
    assert part["CRPIX2"] == pytest.approx(668.5 - 100)
    assert part["DSUN_OBS"] == pytest.approx(1.0015 * u.au.to(u.m), rel=0.001)


@pytest.mark.filterwarnings("ignore:the reference channel")
def test_he_i_is_a_line_too(flight_data, reference):
    """The published correlations are 0.662 and 0.666."""
    level1 = ESISLevel1Cube.from_raw(flight_data / "esis_level0", ESIS_1, frames=[124])
    cube = form_level3(level1, sunpy.map.Map(reference), line="He I", vignetting=False, normalize=False)
    assert cube.line == "He I"
    assert all(a.converged for a in cube.alignment.flat)
    assert pair_correlation(cube)["correlation"].mean() > 0.666
    assert max(np.hypot(*(offset_to_map(cube, sunpy.map.Map(reference))[n].value for n in ("dx", "dy")))) < 1.0
