"""
The main job on raw frames of the 2019 flight.

Seven of its exposures are enough: the first and the last bright ones, some at the top, two in turn, the one of the
explosive event and the nearly extinct one. benchmarks/flight_quality.py prints the figures of all sixteen.
"""

import itertools

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import assert_bits_equal, assert_cubes_equal, assert_values_equal, benchmark
from scipy.ndimage import gaussian_filter

import astropy.units as u
import sunpy.map
from astropy.io import fits
from astropy.table import join
from astropy.time import Time
from astropy.wcs import WCS
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESIS_1, Alignment, ESISLevel1Cube, ESISLevel3Cube, coalign, form_level3
from esis_ndcube.cli import main
from esis_ndcube.corrections.vignetting import fit_vignetting, masked_difference_trend
from esis_ndcube.field_stop.edges import find_edges
from esis_ndcube.field_stop.region import line_region
from esis_ndcube.flags import Flag
from esis_ndcube.level1.frames import find_frames, sort_frames
from esis_ndcube.quality import offset_to_map, pair_correlation, pair_offset, tile_residual
from esis_ndcube.registration import fit_joint, maximize_correlation
from esis_ndcube.resample import interpolate, reproject_alignment

pytestmark = [
    pytest.mark.flight_data,
    # The digitized image has no observer and no solar radius; sunpy says so.
    pytest.mark.filterwarnings("ignore:Missing metadata for observer"),
    # Of frame 138, which is nearly extinct.
    pytest.mark.filterwarnings("ignore:1 of 28 frames could not be aligned"),
]

LIGHT = [109, 110, 112, 113, 115, 116, 118, 119, 121, 123, 124, 125, 127, 130, 133, 138]
FRAMES = [109, 110, 121, 124, 125, 133, 138]


@pytest.fixture(scope="module")
def reference(flight_data):
    return flight_data / "esis_derived" / "aia_304_20190930_1808_digitized.fits"


@pytest.fixture(scope="module")
def frames(flight_data):
    return find_frames(flight_data / "esis_level0", ESIS_1)


@pytest.fixture(scope="module")
def light_and_darks(frames):
    return sort_frames(frames, ESIS_1)


@pytest.fixture(scope="module")
def level1(flight_data):
    return ESISLevel1Cube.from_raw(flight_data / "esis_level0", frame_numbers=FRAMES)


@pytest.fixture(scope="module")
def path(level1, reference, tmp_path_factory):
    """The Level-3 file of the exposures."""
    path = tmp_path_factory.mktemp("level3") / "l3.fits"
    form_level3(level1, sunpy.map.Map(reference), vignetting=False, normalize=False, output=path)
    return path


@pytest.fixture(scope="module")
def cube(path):
    return ESISLevel3Cube.read(path)


@pytest.fixture(scope="module")
def alone(level1, reference):
    """Alignments of frames 121, 124 and 125, each exposure for itself, by number of the frame."""
    found = coalign(exposures_of(level1, [121, 125]), sunpy.map.Map(reference), model="independent")
    return dict(zip([121, 124, 125], found.final, strict=True))


@pytest.fixture(scope="module")
def good(cube):
    """Without those of little light: frames 110 to 133."""
    return cube[1:6]


@pytest.fixture(scope="module")
def good_tiles(good):
    return tile_residual(good)


def level3_like(cube, data):
    """A cube like another, with other data."""
    mask = cube.mask | ~np.isfinite(data)
    return ESISLevel3Cube(data, wcs=cube.wcs, meta=cube.meta, mask=mask, flags=cube.flags, unit=cube.unit)


def test_all_light_frames_with_their_own_times(cube, light_and_darks):
    light, darks = light_and_darks
    level1 = ESISLevel1Cube.from_raw([frame.path for frame in (*light, *darks[:4])], lazy=True)
    assert level1.shape == (16, 4, 1040, 2048)
    assert cube.shape == (7, 4, 1270, 1270)
    for some, numbers in (level1, LIGHT), (cube, FRAMES):
        assert list(some.frame_number) == numbers
        # Time stamps are the ends of exposures of 10 s: frame 124 ended at 18:08:41.642.
        assert abs((some.time[numbers.index(124)] - Time("2019-09-30T18:08:36.642")).to_value(u.s)) < 1e-3
        seconds = (some.time - some.time[0]).to_value(u.s)
        np.testing.assert_allclose(seconds, 10 * np.subtract(numbers, 109), atol=0.02)


def test_frames_of_the_flight(frames, level1):
    kinds = {frame.frame_number: frame.exposure_time for frame in frames}
    assert set(kinds) == {*LIGHT, 96, 97, *range(99, 103), 139, 153, 157, 158, 166}
    assert (kinds[96], round(kinds[97], 3)) == (0, 11.235)
    assert level1.flight == ESIS_1
    cube = level1[FRAMES.index(124) : FRAMES.index(125) + 1]
    # IMG_TS is 18:08:41.642, the end of 10 s.
    assert abs((cube.mid_time[0, 0] - Time("2019-09-30T18:08:36.642")).to_value(u.s)) < 0.001
    assert abs((cube.time[1] - cube.time[0]).to_value(u.s) - 10) < 0.002
    spikes = (cube.flags & int(Flag.SPIKE) != 0).sum(axis=(2, 3))
    assert (spikes > 100).all()
    assert (spikes < 1000).all()
    photons = cube.to_photons("O V").data[:, :, :, 1100:1900]
    assert (np.median(photons, axis=(2, 3)) > 5).all()
    # Two frames in turn differ by little more than their uncertainty, because the Sun drifts.
    difference = np.diff(cube.data, axis=0)[0, :, 300:700, 1200:1800]
    sigma = np.sqrt(np.square(cube.uncertainty.array).sum(axis=0))[:, 300:700, 1200:1800]
    pulls = difference / sigma
    scatter = 1.4826 * np.median(np.abs(pulls - np.median(pulls)))
    assert 0.95 < scatter < 1.15


@pytest.mark.filterwarnings("ignore:no light frames of channels")
def test_the_command_line_forms_the_same_of_a_frame(level1, light_and_darks, reference, tmp_path):
    """Of two channels, which do not need the others."""
    light, darks = light_and_darks
    frames = [frame for frame in (*light, *darks) if frame.frame_number == 124 or frame in darks]
    frames = [str(frame.path) for frame in frames if frame.channel <= 2]
    output = tmp_path / "l3.fits"
    options = ["--reference", str(reference), "--no-vignetting", "--no-normalize", "--output", str(output)]
    result = CliRunner().invoke(main, ["level3", *frames, *options])
    assert result.exit_code == 0, result.output
    index = FRAMES.index(124)
    cube = form_level3(level1[index : index + 1], sunpy.map.Map(reference), vignetting=False, normalize=False)
    one, part = ESISLevel3Cube.read(output), cube[:, :2]
    for name in ("data", "mask", "flags"):
        assert_bits_equal(getattr(one, name), getattr(part, name))
    assert_bits_equal(one.uncertainty.array, part.uncertainty.array)
    assert_values_equal(one.alignment, part.alignment)


def test_light_is_continuous_over_the_borders_of_the_quadrants(flight_data):
    """In the raw frames, with the gains in the flight file's quadrants and in no others."""
    gains = benchmark("gains")
    steps = gains.border_steps(flight_data / "esis_level0")
    own, *others = (gains.chi_square(steps, places) for places in gains.all_places())
    assert len(steps) == 16
    assert len(others) == 23
    # Four gains of each channel that are given and 16 steps.
    assert own < 30
    assert min(others) > 3 * own
    assert gains.chi_square(steps, gains.exchanged()) > 5 * own


def test_correlation_of_the_channels(good):
    """The published figures are 0.9086 after the linear and 0.9095 after the quadratic step."""
    # All of frames 110 to 133 have 0.9153; these five, one of them with the explosive event, have 0.9125.
    assert pair_correlation(good)["correlation"].mean() >= 0.912


def test_residual_misalignment_in_tiles(good, good_tiles):
    tiles = good_tiles
    squares = tiles["dx"] ** 2 + tiles["dy"] ** 2
    assert np.sqrt(np.mean(squares)) <= 0.165
    for frame in good.frame_number:
        assert np.sqrt(np.mean(squares[tiles["frame_number"] == frame])) <= 0.22


def test_every_pair_improves_from_the_linear_to_the_quadratic_step(cube, level1):
    """Of images clipped at their 99.5th percentile; unclipped, one explosive event hides the gain."""
    good, first = cube[:3], ESIS_1.line("O V").columns[0]
    data = np.empty(good.shape, dtype=np.float32)
    for index, alignment in np.ndenumerate(good.meta["alignment_linear"]):
        frame = np.array(level1.data[index])
        frame[:, :first] = np.nan
        data[index] = reproject_alignment((frame, alignment), alignment.grid, return_footprint=False)
    linear = level3_like(good, data)
    before, after = (pair_correlation(part, clip=99.5)["correlation"] for part in (linear, good))
    assert len(before) == 18
    assert (after - before).min() > 1e-4


def test_offset_of_the_channels_as_a_whole(cube):
    """Most in channels 1 and 4, whose dispersions are the farthest apart, and none is measured against the other."""
    for index in (0, FRAMES.index(124)):
        offsets = pair_offset(cube[index : index + 1])
        assert len(offsets) == 6
        size = np.hypot(offsets["dx"], offsets["dy"])
        assert size.max() <= 0.08
        # The channels that were aligned with each other.
        assert size[(offsets["first"] == 2) | (offsets["second"] == 2)].max() < 0.02


def test_offset_to_the_digitized_aia_image(cube, reference):
    table = offset_to_map(cube, sunpy.map.Map(reference), frame_number=124)
    pixels = np.hypot(table["dx"], table["dy"]).to_value(u.arcsec) / 0.6
    assert len(pixels) == 4
    assert pixels.max() <= 0.3
    assert min(table["correlation"]) > 0.75


def test_pointing_is_checked_with_any_images(cube, reference):
    """An image whose header is off by some arcsec shows that the cube is off by as much, the other way."""
    pointing = benchmark("pointing")
    good = sunpy.map.Map(reference)
    header = dict(good.meta)
    header["crval1"], header["crval2"] = header["crval1"] + 1.5, header["crval2"] - 0.9
    late = dict(header) | {"date-obs": "2019-09-30T18:30:00", "t_obs": "2019-09-30T18:30:00"}
    maps = [good, sunpy.map.Map(good.data, header), sunpy.map.Map(good.data, late)]
    table = pointing.pointing_offsets(cube, maps)
    assert len(table) == 8
    for name, moved in (("dx", -1.5), ("dy", 0.9)):
        change = (table[name][4:] - table[name][:4]).to_value(u.arcsec)
        np.testing.assert_allclose(change, moved, atol=0.15)
    with_itself = np.hypot(table["dx"], table["dy"])[:4].to_value(u.arcsec)
    assert with_itself.max() < 0.18


def test_aia_on_the_grid_of_a_cube(cube, reference):
    """The published correlation with AIA 304 of whole images, dark outside the field stop, is 0.487 at best."""
    exposure = cube[FRAMES.index(124)]
    aia = exposure.context(sunpy.map.Map(reference))
    assert aia.shape == (1270, 1270)
    for image in exposure.data:
        whole = np.nan_to_num(image)
        correlation = np.corrcoef(whole.ravel(), aia.data.ravel())[0, 1]
        assert correlation > 0.5
        for shift in (4, 0), (-4, 0), (0, 4), (0, -4):
            assert np.corrcoef(np.roll(whole, shift, (0, 1)).ravel(), aia.data.ravel())[0, 1] < correlation
    inside = ~exposure.mask & np.isfinite(exposure.data)
    pairs = [np.corrcoef(image[good], aia.data[good])[0, 1] for image, good in zip(exposure.data, inside, strict=True)]
    assert min(pairs) > 0.75


def test_the_field_stop_is_where_the_light_is(cube):
    """Across the sides of the octagon the brightness falls to the level of stray light and faint lines."""
    from scipy.ndimage import binary_dilation, binary_erosion

    for index in (1, 3, 5):
        for channel in range(4):
            image = cube[index, channel]
            inside = image.flags & Flag.OUTSIDE == 0
            rim = inside & ~binary_erosion(inside, iterations=8)
            beyond = binary_dilation(inside, iterations=10) & ~binary_dilation(inside, iterations=2)
            # Where the Mg X octagon ends less than there is of it inside.
            beyond &= np.isfinite(image.data)
            assert np.mean(image.data[beyond]) < 0.45 * np.mean(image.data[rim])


@pytest.fixture(scope="module")
def edges(cube):
    return find_edges(cube)


def test_sides_of_the_field_stop_are_found_where_predicted(edges):
    """Frame 138, of which a few percent of the light are left, is found too, but drifted on."""
    sides = np.abs(edges.sides)
    assert (np.isfinite(sides[:-1]).sum(axis=-1) >= 6).all()
    assert np.nanmax(sides[:-1]) <= 2
    # The residual after the shift of each exposure.
    assert np.nanmax(np.abs(edges.residual)) <= 1.5
    # Which every image is known well enough to be placed with.
    np.testing.assert_array_equal(edges.placement(), edges.shift)
    # Noise, from exposures 10 s apart, without the drift, which is smooth.
    drift = (edges.shift[5] - edges.shift[2]) / (133 - 121)
    step = edges.shift[FRAMES.index(125)] - edges.shift[FRAMES.index(124)]
    assert np.sqrt(np.mean((step - drift) ** 2) / 2) < 0.1


def test_three_drifts(cube, edges):
    """The field stop moves on the detectors, and with the Sun's own motion by (+9, -3) px in the cube until 137."""
    moved = np.ptp(edges.shift[:-1], axis=0)
    assert moved.max() <= 2
    assert moved.min() > 1
    for channel in range(4):
        center = cube.flight.field_stop(channel + 1).mean(axis=0)
        first, last = (
            np.array(cube.alignment[t, channel].transform.inverse(*(center + edges.shift[t, channel]))) for t in (0, 5)
        )
        # Frame 133 is 24/28 of the way.
        np.testing.assert_allclose(last - first, np.array([9, -3]) * 24 / 28, atol=1.2)


def test_absorption_curve_of_the_atmosphere(cube):
    """Most light at the top of the flight; the channels see the same atmosphere."""
    table = cube.masked_means()
    means = table["mean"].value.reshape(7, 4)
    assert set(means.argmax(axis=0)) == {FRAMES.index(121)}
    curve = means[:-1] / means[FRAMES.index(121)]
    assert np.ptp(curve, axis=1).max() < 0.06
    assert (table["error"] / table["mean"]).value.reshape(7, 4)[:-1].max() < 1e-3
    normalized = cube[2:4].normalize_intensities()
    assert normalized.normalization.min() == 1
    assert normalized.normalization_error.max() < 3e-3


def test_weak_and_lost_frames_do_not_stop_the_run(cube):
    """Frame 138 is nearly extinct; what is wrong with it is said and masked."""
    for channel, alignment in enumerate(cube.alignment[-1]):
        if not alignment.converged:
            assert np.isnan(cube.data[-1, channel]).all()
            assert cube.mask[-1, channel].all()
    assert all(a.converged for row in cube.alignment[:-1] for a in row)


def test_only_the_nearly_extinct_frame_is_weak(cube, path):
    assert {a.status for row in cube.alignment[:-1] for a in row} == {"aligned"}
    weak = cube.alignment[-1]
    assert {a.status for a in weak} == {"weak"}
    # Relative to the reference channel; what that one's error is depends on the reference image.
    others = [channel for channel, number in enumerate(cube.channel) if number != 2]
    for channel in others:
        assert weak[channel].error > 2 * max(row[channel].error for row in cube.alignment[:-1])
    assert ", 24 of 28 images aligned, 4 weak (frame 138, error 0." in str(cube)
    result = CliRunner().invoke(main, ["info", str(path)])
    assert result.output.count(", weak, stated error 0.") == 4
    with fits.open(path) as hdulist:
        assert set(hdulist["ALIGNMENT"].data["status"][-4:]) == {"weak"}


def test_motion_of_the_sun_on_the_detectors(cube):
    """About 8 arcsec in yaw and 1 in pitch over the flight, hardly any roll, the same to 0.4 arcsec in all channels."""
    table = cube[:-1].pointing()
    first, last = table[table["frame_number"] == 109], table[table["frame_number"] == 133]
    yaw = (first["dx"] - last["dx"]).to_value(u.arcsec)
    assert ((yaw > 4) & (yaw < 8)).all()
    assert np.ptp(yaw) < 0.8
    assert np.abs(table["dy"].to_value(u.arcsec)).max() < 1.5
    assert np.abs(table["roll"].to_value(u.deg)).max() < 0.03


def test_the_file_gives_back_the_cube(cube, path, tmp_path):
    part = cube[2:4, :, 200:900, 100:1100]
    part.write(tmp_path / "part.fits")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "part.fits"), part)


def test_plain_astropy_and_sunpy_read_the_file(cube, path):
    with fits.open(path, memmap=True) as hdulist:
        wcs = WCS(hdulist["DATA"].header, hdulist)
        assert hdulist["DATA"].header["BUNIT"] == "ph / pix"
        world = wcs.pixel_to_world_values(612.5, 667.5, 1, 10)
    np.testing.assert_allclose(world[:2], 0, atol=1e-9)
    assert world[2] == pytest.approx(2)
    image = sunpy.map.Map(cube[3, 1].data, cube[3, 1].wcs.to_header())
    assert image.scale[0].to_value(u.arcsec / u.pix) == pytest.approx(0.6)
    assert abs((image.reference_date - cube.time[3]).to_value(u.s)) < 1e-3


def test_published_vignetting_method(good):
    """Fitted to the first exposures, judged on the last; 2.5 to 7.5 photons before."""
    fit = fit_vignetting(good[:2], "difference-slopes")
    before, after = (masked_difference_trend(c) for c in (good[3:], good[3:].correct_vignetting(fit)))
    trends = {}
    for table in (before, after):
        for first, second in itertools.combinations(good.channel, 2):
            pair = table[(table["first"] == first) & (table["second"] == second)]
            trends.setdefault((first, second), []).append(np.abs(pair["trend"].mean()))
    assert min(old for old, _ in trends.values()) > 2.4
    assert trends[2, 3][1] <= 0.4
    assert max(new for _, new in trends.values()) <= 0.8


def test_joint_vignetting(good):
    """Halves of the flight agree within the scatter of the frames, and the second line is there."""
    early, late = (fit_vignetting(part) for part in (good[:2], good[3:]))
    slopes = np.array([list(fit.slopes.values()) for fit in (early, late)])
    assert np.abs(slopes[0] - slopes[1]).max() < 0.02
    assert ((slopes > 0.25) & (slopes < 0.5)).all()
    assert max(early.errors.values()) < 0.04
    for fit in (early, late):
        assert 0.04 < fit.contamination["Mg X 624"] < 0.1


def test_headers_of_slices(cube):
    header = cube[0, 0].wcs.to_header()
    assert header["DATE-AVG"].startswith("2019-09-30T18:06:06.6")
    assert header["DATE-BEG"] < header["DATE-AVG"] < header["DATE-END"]
    part = cube[-1, 1, 100:700, 200:900].wcs.to_header()
    assert part["DATE-AVG"].startswith("2019-09-30T18:10:56.6")
    assert part["CRPIX1"] == pytest.approx(613.5 - 200)
    assert part["CRPIX2"] == pytest.approx(668.5 - 100)
    assert part["DSUN_OBS"] == pytest.approx(1.0015 * u.au.to(u.m), rel=0.001)


@pytest.mark.filterwarnings("ignore:the reference channel")
def test_he_i_is_a_line_too(level1, reference):
    """The published correlations are 0.662 and 0.666."""
    # The digitized image shows too little for a quadratic map of the reference channel.
    with pytest.warns(SunpyUserWarning, match=r"lack terms of the next degree.* channel 2 \(degree 2"):
        cube = form_level3(
            exposures_of(level1, [124]), sunpy.map.Map(reference), line="He I", vignetting=False, normalize=False
        )
    assert cube.line == "He I"
    assert all(a.converged for a in cube.alignment.flat)
    assert pair_correlation(cube)["correlation"].mean() > 0.666
    assert max(np.hypot(*(offset_to_map(cube, sunpy.map.Map(reference))[n].value for n in ("dx", "dy")))) < 1.0


@pytest.fixture(scope="module")
def exposure(cube, level1):
    """Frame 124: its Level-3 cube, and a function that resamples it, once, with its channels displaced."""
    index = FRAMES.index(124)
    part, frames = cube[index : index + 1], level1.data[index]
    first, stop = ESIS_1.line("O V").columns
    y, x = np.mgrid[: part.shape[2], : part.shape[3]].astype(float)

    def displaced(displacements):
        data = np.array(part.data)
        for channel, (dx, dy) in displacements.items():
            u_pixel, v_pixel = part.alignment[0, channel - 1].transform(x - dx, y - dy)
            photons = frames[channel - 1, :, first:stop] / ESIS_1.electrons_per_photon("O V").value
            image, footprint = interpolate(photons.astype(np.float32), u_pixel - first, v_pixel)
            footprint &= (u_pixel >= first - 0.5) & (u_pixel <= stop - 0.5)
            data[0, channel - 1] = np.where(footprint, image, np.nan)
        return level3_like(part, data)

    return part, displaced, x, y


@pytest.fixture(scope="module")
def tiles(good_tiles):
    return good_tiles[good_tiles["frame_number"] == 124]


def recovered(tiles, moved, displacements):
    """Change of the shifts of the tiles, and the displacements' mean over each tile, shape (2, tiles)."""
    after = tile_residual(moved)
    both = join(tiles, after, keys=("first", "second", "x", "y"))
    assert len(both) >= len(tiles) - 2
    expected = np.zeros((2, len(both)))
    for row, tile in enumerate(both):
        y, x = (slice(int(tile[name] - 63.5), int(tile[name] + 64.5)) for name in ("y", "x"))
        for sign, channel in ((1, tile["second"]), (-1, tile["first"])):
            for axis, field in enumerate(displacements.get(channel, ())):
                expected[axis, row] += sign * field[y, x].mean()
    return np.array([both["dx_2"] - both["dx_1"], both["dy_2"] - both["dy_1"]]), expected


def rms(vectors):
    return np.sqrt(np.mean(np.sum(np.square(vectors), axis=0)))


def test_resampling_again_gives_the_cube(exposure):
    part, displaced, x, _ = exposure
    np.testing.assert_array_equal(displaced({3: (0 * x, 0 * x)}).data, part.data)


def test_injected_shifts_are_recovered(exposure, tiles):
    _, displaced, x, _ = exposure
    for dx, dy in ((0.1, 0.0), (0.5, -0.5)):
        fields = {3: (dx + 0 * x, dy + 0 * x)}
        found, expected = recovered(tiles, displaced(fields), fields)
        moved = expected.any(axis=0)
        np.testing.assert_array_equal(found[:, ~moved], 0)
        error = (found - expected)[:, moved]
        assert rms(error) < 0.015
        assert np.abs(error.mean(axis=1)).max() < 0.003
        # Small shifts come out up to 1.6 per cent too small.
        assert np.sum(found * expected) / np.sum(expected**2) == pytest.approx(1, abs=0.02)


def test_injected_gradients_are_recovered(exposure, tiles):
    """A stretch of 0.1 per cent along x in channel 1 and a roll of 0.05 degrees in channel 3."""
    _, displaced, x, y = exposure
    roll = np.radians(0.05)
    fields = {1: (1e-3 * (x - 640), 0 * x), 3: (-roll * (y - 630), roll * (x - 640))}
    found, expected = recovered(tiles, displaced(fields), fields)
    assert rms(expected) > 0.25
    assert rms(found - expected) < 0.015
    # The pair of channels 2 and 4.
    np.testing.assert_array_equal(found[:, ~expected.any(axis=0)], 0)


def doppler(part, x, y, velocity):
    """Displacement of every channel along its dispersion, by ``velocity`` detector pixels."""
    fields = {}
    for channel in range(1, 5):
        inverse = np.linalg.inv(part.alignment[0, channel - 1].transform.jacobian(x[::127, ::127], y[::127, ::127]))
        # It hardly changes over the field.
        fields[channel] = tuple(velocity * inverse[..., axis, 0].mean() for axis in (0, 1))
    return fields


def test_injected_doppler_shifts_are_recovered(exposure, tiles):
    """Smooth ones are; of patches smaller than the tiles it is their mean, weighted by the structures in the tile."""
    part, displaced, x, y = exposure
    wave = 0.5 * np.sin(2 * np.pi * (0.6 * x + 0.8 * y) / 1000)
    patches = gaussian_filter(np.random.default_rng(0).normal(size=x.shape), 30)
    patches *= 0.5 / patches.std()
    for velocity, accuracy, slope in ((wave, 0.025, 0.02), (patches, 0.1, 0.08)):
        fields = doppler(part, x, y, velocity)
        found, expected = recovered(tiles, displaced(fields), fields)
        assert rms(expected) > 0.4
        assert rms(found - expected) < accuracy
        assert np.sum(found * expected) / np.sum(expected**2) == pytest.approx(1, abs=slope)


def test_residual_is_the_sun_more_than_noise(good_tiles):
    """Within 10 s the shifts of the tiles hardly change, within 230 s they do: motions of the Sun, not of the fit."""
    changes = []
    for first, second in ((124, 125), (110, 133)):
        parts = [good_tiles[good_tiles["frame_number"] == frame] for frame in (first, second)]
        both = join(*parts, keys=("first", "second", "x", "y"))
        changes.append(rms([both[name + "_2"] - both[name + "_1"] for name in ("dx", "dy")]) / np.sqrt(2))
    assert changes[0] < 0.08
    assert changes[1] > 1.5 * changes[0]


def distance(alignment, other, where=None):
    """RMS distance of two alignments' positions on the grid, over the field stop."""
    y, x = np.mgrid[:1270:10, :1270:10].astype(float)
    u_pixel, v_pixel = alignment.transform(x, y)
    inside = line_region(ESIS_1, alignment.channel, "O V", u_pixel, v_pixel)
    if where is not None:
        inside &= where(u_pixel, v_pixel)
    x, y = x[inside], y[inside]
    return rms(np.subtract(other.transform.inverse(*alignment.transform(x, y)), (x, y)))


def exposures_of(level1, frames, data=None, mask=None):
    """Some exposures of a Level-1 cube, with other data or mask."""
    index = slice(FRAMES.index(frames[0]), FRAMES.index(frames[-1]) + 1)
    part = level1[index]
    data, mask = (own if new is None else new for own, new in ((part.data, data), (part.mask, mask)))
    return ESISLevel1Cube(data, wcs=part.wcs, meta=part.meta, mask=mask, flags=part.flags, unit=part.unit)


def test_a_pose_far_off_is_searched_for(alone, level1, reference):
    """60 pixels, 5 degrees and 3 per cent off, in the reference channel of frame 124 and another one."""
    index = FRAMES.index(124)
    lost = benchmark("accuracy").perturbed(level1[index : index + 1, :2], 60, 5, 0.03, 1)
    pose = Alignment.from_pose(lost.flight, 1, frame_number=124, line="O V", time=lost.time[0])
    assert distance(alone[124][0], pose) > 50
    found = coalign(lost, sunpy.map.Map(reference)).final[0]
    assert len(found) == 2
    assert max(map(distance, alone[124], found)) < 0.02


def test_the_joint_model_carries_the_last_frame(cube, alone):
    """Frame 138, of which a few per cent of the light are left: its maps are bent by noise, those of the model not."""
    for last, before in zip(cube.alignment[-1], cube.alignment[-2], strict=True):
        assert last.converged
        assert distance(last, before) < 5
        # The rotation from the frame before is that of the instrument.
        turns = [a.transform.decompose(634.5, 634.5)["rotation"] for a in (last, before)]
        assert abs(turns[1] - turns[0]) < 0.05
    # Where the frames are good it changes little.
    for number, row in alone.items():
        assert max(map(distance, row, cube.alignment[FRAMES.index(number)])) < 0.15
    joint = fit_joint(np.array(list(alone.values())), reference_channel=2)
    assert max(joint.chi_square.values()) < 1.5
    assert np.nanmedian(joint.residual) < 0.05


def test_explosive_event_does_not_pull_the_alignment(cube, alone, level1, reference):
    """Frame 121, with and without the 40 pixels about the event, which Doppler shifts move by up to 8 pixels."""
    index = FRAMES.index(121)
    before = alone[121]
    event = np.zeros(level1.shape[1:], dtype=bool)
    for channel, alignment in enumerate(before):
        u_pixel, v_pixel = (int(pixel) for pixel in alignment.transform(697.0, 526.0))
        near = slice(v_pixel - 80, v_pixel + 80), slice(u_pixel - 80, u_pixel + 80)
        rows, columns = np.mgrid[near].astype(float)
        x, y = alignment.transform.inverse(columns, rows)
        event[channel][near] = np.hypot(x - 697, y - 526) < 40
    assert (event.sum(axis=(1, 2)) > 3000).all()
    masked = exposures_of(level1, [121], mask=(level1.mask[index] | event)[None])
    after = coalign(masked, sunpy.map.Map(reference)).final[0]
    assert max(map(distance, before, after)) < 0.04

    # Relative to channel 2, and what maximizing the correlation of the images as they are makes of it.
    def relative(channel, transforms):
        y, x = np.mgrid[200:1070:30, 200:1070:30].astype(float)
        return np.subtract(transforms[channel].inverse(*before[channel].transform(x, y)), (x, y))

    moved = [relative(channel, [a.transform for a in after]) for channel in range(4)]
    ours = max(np.sqrt(np.mean(np.sum((m - moved[1]) ** 2, axis=0))) for m in moved)
    assert ours < 0.02
    target = np.nan_to_num(cube.data[index, 1])
    inside = cube.flags[index, 1] & Flag.OUTSIDE == 0
    y, x = np.mgrid[: target.shape[0], : target.shape[1]]
    legacy = []
    for use in (inside, inside & (np.hypot(x - 697, y - 526) >= 40)):
        frame = np.nan_to_num(level1.data[index, 0])
        fit = maximize_correlation(target, frame, before[0].transform, mask=use, valid=np.ones_like(frame, dtype=bool))
        y_grid, x_grid = np.mgrid[200:1070:30, 200:1070:30].astype(float)
        legacy.append(np.array(fit.transform.inverse(*before[0].transform(x_grid, y_grid))))
    assert rms((legacy[1] - legacy[0]).reshape(2, -1)) > 10 * ours


@pytest.fixture(scope="module")
def injured(level1, reference):
    """Frames 124 and 125 with something wrong in most channels, but not in the reference channel."""
    part = exposures_of(level1, [124, 125])
    data, mask, rng = np.array(part.data), np.array(part.mask), np.random.default_rng(0)
    # 124: spikes left in, an occulted camera, dark but for noise, and a blank one; 125: a block without data.
    hit = rng.integers(0, data.shape[2], 200), rng.integers(0, data.shape[3], 200)
    data[0, 0][hit] += rng.exponential(2000, 200)
    data[0, 2, 520:] = rng.normal(0, 10, data[0, 2, 520:].shape)
    data[0, 3] = rng.normal(0, 10, data[0, 3].shape)
    data[1, 2, 400:600, 1400:1600] = np.nan
    # A saturated block, as Level-1 flags it.
    data[1, 3, 300:400, 1500:1600] = 1.6e5
    mask[1, 3, 300:400, 1500:1600] = True
    with pytest.warns(match=r"frame 124 channel 4 \("):
        return coalign(exposures_of(level1, [124, 125], data=data, mask=mask), sunpy.map.Map(reference)).final


def test_injuries_stay_where_they_are(alone, injured):
    """Frames that nothing happened to are aligned to the same bits; the blank one is named and left out."""
    hurt = {(0, 0), (0, 2), (0, 3), (1, 2), (1, 3)}
    for (row, channel), alignment in np.ndenumerate(injured):
        before = alone[124 + row][channel]
        same = np.array_equal(alignment.transform.coefficients, before.transform.coefficients)
        assert same == ((row, channel) not in hurt)
        assert alignment.converged == ((row, channel) != (0, 3))
    assert injured[0, 3].reason


def test_injured_frames_are_aligned_with_what_is_left_of_them(alone, injured):
    first, second = alone[124], alone[125]
    assert distance(first[0], injured[0, 0]) < 0.02
    assert distance(first[2], injured[0, 2], where=lambda u, v: v < 510) < 0.1
    assert distance(second[2], injured[1, 2]) < 0.02
    assert distance(second[3], injured[1, 3]) < 0.02


def test_injured_reference_channel(alone, level1, reference):
    """The channels stay together; the pointing is as good as what is left of the reference channel lets it be."""
    part = exposures_of(level1, [124])
    data = np.array(part.data)
    data[0, 1, 400:600, 1400:1600] = np.nan
    after = coalign(exposures_of(level1, [124], data=data), sunpy.map.Map(reference)).final[0]
    before = alone[124]
    assert max(map(distance, before, after)) < 0.06
    y, x = np.mgrid[200:1070:30, 200:1070:30].astype(float)
    moved = [np.subtract(b.transform.inverse(*a.transform(x, y)), (x, y)) for a, b in zip(before, after, strict=True)]
    assert max(rms((m - moved[1]).reshape(2, -1)) for m in moved) < 0.03
