"""Measures of quality, against shifts and correlations that are known."""

from itertools import combinations

import numpy as np
import pytest
from helpers import make_alignments, make_cube, make_times
from scipy.ndimage import fourier_shift

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from ndcube.meta import NDMeta
from sunpy.map import Map

from esis_ndcube import ESIS_1
from esis_ndcube.flags import Flag
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.quality import image_shift, offset_to_map, pair_correlation, pair_offset, summary, tile_residual
from esis_ndcube.registration import log_difference_of_gaussians
from esis_ndcube.registration.reference import observed_grid
from esis_ndcube.wcs import level3_wcs


class Scene:
    """A positive scene of plane waves with a power law, which can be seen at any positions."""

    def __init__(self, seed=0, waves=150):
        rng = np.random.default_rng(seed)
        # From 60 pixels down to what a point spread of 2 to 3 pixels leaves.
        k = 2 * np.pi / np.geomspace(60, 4.5, waves)
        angle = rng.uniform(0, 2 * np.pi, waves)
        self.kx, self.ky, self.phase = k * np.cos(angle), k * np.sin(angle), rng.uniform(0, 2 * np.pi, waves)
        self.size = k**-0.7 * rng.rayleigh(size=waves)
        self.size /= np.sqrt(np.sum(self.size**2) / 2)

    def __call__(self, x, y):
        """The scene at columns x of shape (1, nx) and rows y of shape (ny, 1), or at maps of both."""
        if len(x) == y.shape[1] == 1:
            # A wave over columns and rows is the product of one over either.
            total = (self.size * np.exp(1j * (y * self.ky + self.phase)) @ np.exp(1j * self.kx[:, None] * x)).real
        else:
            waves = zip(self.kx, self.ky, self.phase, self.size, strict=True)
            total = sum(size * np.cos(kx * x + ky * y + phase) for kx, ky, phase, size in waves)
        return 20 * np.exp(0.5 * total)

    def image(self, size, dx=0.0, dy=0.0, start=0):
        """The scene moved by (dx, dy): its features lie further right and up."""
        pixel = np.arange(start, start + size, dtype=float)
        return self(pixel[None, :] - dx, pixel[:, None] - dy)


def level3(data, *, mask=None, flags=None, channels=None, crpix=None, alignments=True):
    """A Level-3 cube of images, shape (time, channel, y, x)."""
    data = np.asarray(data, dtype=np.float32)
    times = make_times(data.shape[0])
    channels = np.arange(1, data.shape[1] + 1) if channels is None else np.asarray(channels)
    grid = ESIS_1.grid.deepcopy()
    grid.array_shape = data.shape[2:]
    if crpix is not None:
        grid.wcs.crpix = crpix
    frames = np.arange(120, 120 + data.shape[0])
    meta = {"flight": ESIS_1, "level": 3, "line": "O V", "frame_number": frames, "stage": "final"}
    axes = {"frame_number": (0,)}
    if alignments:
        meta["alignment_final"] = make_alignments(frames, channels, times)
        axes["alignment_final"] = (0, 1)
    return ESISLevel3Cube(
        data,
        wcs=level3_wcs(grid, times, channels, exposure_time=10 * u.s),
        uncertainty=StdDevUncertainty(np.ones_like(data)),
        mask=np.isnan(data) if mask is None else mask,
        flags=np.zeros(data.shape, np.uint8) if flags is None else flags,
        meta=NDMeta(meta, axes=axes),
        unit=u.photon / u.pix,
    )


@pytest.fixture(scope="module")
def scene():
    return Scene()


SHIFT = 0.4, -0.3


@pytest.mark.parametrize("seed", range(3))
def test_bias_of_image_shift(seed):
    """Fourier shifts, exact for a periodic scene, over a whole pixel: the bias stated in the docstring."""
    rng = np.random.default_rng(seed)
    size = 192
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    k[0, 0] = 1 / size
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) * k**-1.5).real
    # A network: lognormal, and blurred to the resolution of the instrument, so that a Fourier shift is exact.
    spectrum = np.fft.fft2(np.exp(field / field.std())) * np.exp(-2 * (np.pi * k * 1.0) ** 2)
    images = {}
    for shift in [(0, 0), *((dx, dy) for dx in np.arange(0, 1.01, 0.125) for dy in (0.0, -0.5, 1.37))]:
        image = np.fft.ifft2(fourier_shift(spectrum, shift[::-1])).real
        images[shift] = log_difference_of_gaussians(image, 1, 8)[32:-32, 32:-32]
    errors = [np.subtract(image_shift(images[0, 0], image), shift) for shift, image in images.items()]
    assert np.abs(errors).max() < 0.015
    assert np.sqrt(np.mean(np.square(errors))) < 0.005


def test_image_shift_of_oblique_structures():
    """A maximum that is long and oblique: a parabola along each axis is 0.2 pixel off."""
    scene = Scene(5)
    angle = np.pi / 4 + np.random.default_rng(5).uniform(-0.8, 0.8, scene.kx.size)
    k = np.hypot(scene.kx, scene.ky)
    scene.kx, scene.ky = k * np.cos(angle), k * np.sin(angle)
    first, second = (log_difference_of_gaussians(scene.image(150, *d), 1, 8)[11:-11, 11:-11] for d in ((0, 0), SHIFT))
    np.testing.assert_allclose(image_shift(first, second), SHIFT, atol=0.06)


@pytest.mark.parametrize("shift", [(2.9, 0.0), (0.0, -2.2), (1.6, -1.4)])
def test_image_shift_reach(scene, shift):
    first, second = (log_difference_of_gaussians(scene.image(140, *d), 1, 8) for d in ((0, 0), shift))
    found = image_shift(first, second)
    if max(np.abs(shift)) < 2.5:
        np.testing.assert_allclose(found, shift, atol=0.05)
    else:
        assert np.isnan(found).all()


def test_image_shift_of_nothing(scene):
    image = scene.image(40) - 20
    for a, b in ((image, 0 * image), (0 * image, image), (0 * image, 0 * image), (image[:12, :12], image[:12, :12])):
        assert np.isnan(image_shift(a, b)).all()


SHIFTS = {1: (0.0, 0.0), 2: (0.3, -0.2), 3: (-0.45, 0.1)}


@pytest.mark.slow
def test_tile_residual_finds_shifts(scene):
    data = np.array([[scene.image(340, *shift) for shift in SHIFTS.values()]] * 2)
    tiles = tile_residual(level3(data))
    # 2 x 2 tiles of 128 pixels every 96, 12 pixels or more from the edge.
    assert len(tiles) == 2 * 3 * 4
    assert set(zip(tiles["x"], tiles["y"], strict=True)) == {(a, b) for a in (159.5, 255.5) for b in (159.5, 255.5)}
    assert list(np.unique(tiles["frame_number"])) == [120, 121]
    for i, j in combinations(SHIFTS, 2):
        pair = tiles[(tiles["first"] == i) & (tiles["second"] == j)]
        assert len(pair) == 8
        expected = np.subtract(SHIFTS[j], SHIFTS[i])
        np.testing.assert_allclose(pair["dx"], expected[0], atol=0.02)
        np.testing.assert_allclose(pair["dy"], expected[1], atol=0.02)


def test_tile_residual_does_not_see_what_is_common(scene):
    data = np.array([[scene.image(240, 0.4, 0.3)] * 2])
    tiles = tile_residual(level3(data))
    assert len(tiles) == 1
    np.testing.assert_allclose([tiles["dx"][0], tiles["dy"][0]], 0, atol=1e-3)


@pytest.mark.slow
def test_tile_residual_of_a_gradient(scene):
    """A channel that is stretched: the shift grows from tile to tile."""
    pixel = np.arange(340.0)
    stretched = pixel - 0.004 * (pixel - 207.5)
    data = np.array([[scene.image(340), scene(stretched[None, :], pixel[:, None])]])
    tiles = tile_residual(level3(data))
    np.testing.assert_allclose(tiles["dx"], 0.004 * (tiles["x"] - 207.5), atol=0.03)
    np.testing.assert_allclose(tiles["dy"], 0, atol=0.03)
    assert np.ptp(tiles["dx"]) > 0.3


def test_tile_residual_of_two_images(scene):
    """The channels of a cube, given as images."""
    reference, image = scene.image(340), scene.image(340, 0.4)
    tiles = tile_residual(image, reference)
    assert tiles.colnames == ["x", "y", "dx", "dy"]
    of_cube = tile_residual(level3(np.array([[reference, image]])))
    for name in tiles.colnames:
        inner = {(row["x"], row["y"]): row[name] for row in of_cube}
        for row in tiles:
            # The cube is of single precision.
            assert row[name] == pytest.approx(inner[row["x"], row["y"]], abs=1e-4)
    # Smaller than a tile.
    assert not len(tile_residual(image[:100, :100], reference[:100, :100]))
    masked = np.where(np.arange(340) < 170, image, np.nan)
    assert set(tile_residual(masked, reference)["x"]) < set(tiles["x"])
    with pytest.raises(ValueError, match="expected one on the pixels of the other"):
        tile_residual(image[1:], reference)


def test_tile_residual_with_noise(scene):
    """Photon noise of some 20 photons scatters the tiles, but does not bias them."""
    rng = np.random.default_rng(2)
    data = rng.poisson(np.array([[scene.image(340), scene.image(340, 0.3, -0.2)]] * 3))
    tiles = tile_residual(level3(data))
    assert len(tiles) == 12
    for name, truth in (("dx", 0.3), ("dy", -0.2)):
        assert 0.003 < tiles[name].std() < 0.08
        assert abs(tiles[name].mean() - truth) < 0.04


@pytest.mark.slow
def test_tile_residual_stays_in_the_field_stop(scene):
    data = np.array([[scene.image(340), scene.image(340, 0.3)]])
    flags = np.zeros(data.shape, np.uint8)
    flags[0, 1, :, :150] = Flag.OUTSIDE
    mask = flags != 0
    # Masked pixels, whatever their value.
    data[mask] = 1e6
    tiles = tile_residual(level3(data, mask=mask, flags=flags))
    assert set(tiles["x"]) == {255.5}
    np.testing.assert_allclose(tiles["dx"], 0.3, atol=0.02)
    flags[0, 1] = Flag.MISSING
    data[0, 1] = np.nan
    empty = tile_residual(level3(data, mask=flags != 0, flags=flags))
    assert len(empty) == 0
    assert empty.colnames == tiles.colnames


@pytest.mark.slow
def test_tile_residual_of_doppler_shifts(scene):
    """Each channel moves along its own dispersion: by one velocity in all tiles, or by one that changes over them."""
    angles = np.radians([22.5, 67.5, 112.5])
    pixel = np.arange(340.0)
    x, y = pixel[None, :], pixel[:, None]
    for velocity in (0.3 + 0 * x + 0 * y, 0.4 * np.sin(2 * np.pi * (x + y) / 700)):
        images = [scene(x - velocity * np.cos(a), y - velocity * np.sin(a)) for a in angles]
        tiles = tile_residual(level3(np.array([images])))
        assert len(tiles) == 12
        for row in tiles:
            here = velocity[int(row["y"] - 63.5) : int(row["y"] + 64.5), int(row["x"] - 63.5) : int(row["x"] + 64.5)]
            first, second = angles[row["first"] - 1], angles[row["second"] - 1]
            expected = here.mean() * np.array([np.cos(second) - np.cos(first), np.sin(second) - np.sin(first)])
            np.testing.assert_allclose([row["dx"], row["dy"]], expected, atol=0.03)


@pytest.mark.slow
def test_tiles_beyond_the_reach_are_left_out(scene):
    tiles = tile_residual(level3(np.array([[scene.image(340), scene.image(340, 4.0), scene.image(340, 0.5)]])))
    assert set(zip(tiles["first"], tiles["second"], strict=True)) == {(1, 3)}


@pytest.mark.slow
def test_pair_offset_finds_shifts(scene):
    """The measures ignore everything outside of the field stop, and do not depend on how the image is moved."""
    data = np.array([[scene.image(240, *shift) for shift in SHIFTS.values()]] * 2)
    flags = np.zeros(data.shape, np.uint8)
    flags[..., :60] = Flag.OUTSIDE
    flags[..., 150:, 200:] = Flag.OUTSIDE
    for channel in range(3):
        data[:, channel, :, :60] = scene.image(240, 1.5 * channel, 2.0)[:, :60]
        data[:, channel, 150:, 200:] = scene.image(240, 1.5 * channel, 2.0)[150:, 200:]
    data[1, 2] = np.nan
    offsets = pair_offset(level3(data, mask=np.isnan(data) | (flags != 0), flags=flags))
    assert list(zip(offsets["frame_number"], offsets["first"], offsets["second"], strict=True)) == [
        (120, 1, 2),
        (120, 1, 3),
        (120, 2, 3),
        (121, 1, 2),
    ]
    for row in offsets:
        expected = np.subtract(SHIFTS[int(row["second"])], SHIFTS[int(row["first"])])
        np.testing.assert_allclose([row["dx"], row["dy"]], expected, atol=0.01)


def test_pair_offset_of_a_part_that_moved(scene):
    """The mean shift where all is equally bright; what is faint counts less."""
    still, moved = scene.image(300), scene.image(300, 0.4)
    half = np.arange(300) < 150
    found = []
    for brightness in (1, 0.1):
        data = [[np.where(half, still, brightness * part) for part in (still, moved)]]
        offsets = pair_offset(level3(np.array(data)))
        np.testing.assert_allclose(offsets["dy"][0], 0, atol=0.02)
        found.append(offsets["dx"][0])
    assert found[0] == pytest.approx(0.2, abs=0.03)
    assert 0 < found[1] < 0.6 * found[0]


def test_image_shift_inside_of_a_region(scene):
    """Outside of it anything may happen; only few pixels are compared, and without any there is no shift."""
    first, second = (log_difference_of_gaussians(scene.image(200, *d), 1, 8) for d in ((0, 0), SHIFT))
    y, x = np.mgrid[:200, :200]
    inside = np.hypot(x - 90, y - 110) < 70
    wrong = np.where(np.hypot(x - 90, y - 110) < 75, second, second[::-1])
    np.testing.assert_allclose(image_shift(first, wrong, inside=inside), SHIFT, atol=0.01)
    np.testing.assert_allclose(
        image_shift(first, second, inside=np.ones_like(inside)), image_shift(first, second), atol=1e-4
    )
    assert np.isnan(image_shift(first, second, inside=np.zeros_like(inside))).all()


def test_pair_correlation_of_clipped_images(scene):
    """A bright event that lies elsewhere in the other channel counts no more than the rest of the image."""
    image = scene.image(120)
    data = np.array([[image, image]])
    data[0, 0, 40:43, 40:43] += 1e4
    data[0, 1, 40:43, 48:51] += 1e4
    data[0, :, :, 110:] = np.nan
    cube = level3(data)
    assert pair_correlation(cube)["correlation"][0] < 0.1
    for region in ("full", "octagon"):
        images = [np.where(np.isfinite(a), np.minimum(a, np.nanpercentile(a, 99)), 0) for a in data[0]]
        part = slice(None) if region == "full" else slice(110)
        expected = np.corrcoef(images[0][:, part].ravel(), images[1][:, part].ravel())[0, 1]
        found = pair_correlation(cube, region=region, clip=99)["correlation"][0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found > 0.9
    assert list(pair_correlation(cube, clip=100)["correlation"]) == list(pair_correlation(cube)["correlation"])
    for clip in (0, -1, 101):
        with pytest.raises(ValueError, match="expected a percentile above 0"):
            pair_correlation(cube, clip=clip)


@pytest.mark.parametrize("region", ["full", "octagon", "clean"])
def test_pair_correlation(region):
    cube = make_cube((3, 4, 20, 25), channels=(1, 2, 3, 4))
    cube.data[1, 2] = np.nan
    table = pair_correlation(cube, region=region)
    assert len(table) == 3 * 6
    for row in table:
        t = list(cube.frame_number).index(row["frame_number"])
        i, j = row["first"] - 1, row["second"] - 1
        a, b = cube.data[t, i].astype(float), cube.data[t, j].astype(float)
        if (t == 1) and 2 in (i, j):
            assert np.isnan(row["correlation"])
            continue
        if region == "full":
            a, b = np.nan_to_num(a), np.nan_to_num(b)
            good = np.ones(a.shape, bool)
        else:
            good = np.isfinite(a) & np.isfinite(b) & ~cube.mask[t, i] & ~cube.mask[t, j]
        if region == "clean":
            good &= (cube.flags[t, i] & 32 == 0) & (cube.flags[t, j] & 32 == 0)
        expected = np.corrcoef(a[good], b[good])[0, 1]
        np.testing.assert_allclose(row["correlation"], expected, atol=1e-6)


def test_pair_correlation_of_like_images(scene):
    image = scene.image(60)
    noise = np.random.default_rng(0).normal(0, image.std(), image.shape)
    data = np.array([[image, 3 * image + 5, image + noise]])
    table = pair_correlation(level3(data), region="octagon")
    np.testing.assert_allclose(table["correlation"], [1, 1 / np.sqrt(2), 1 / np.sqrt(2)], atol=0.02)
    # A constant image has no correlation; an infinite pixel counts as no data.
    data[0, 1] = 4
    data[0, 2, 5, 5] = np.inf
    table = pair_correlation(level3(data))
    np.testing.assert_array_equal(np.isfinite(table["correlation"]), [False, True, False])
    assert table["correlation"][1] > 0.6


def test_cubes_without_mask_or_flags(scene):
    full = level3(np.array([[scene.image(240), scene.image(240, 0.3)]]))
    bare = ESISLevel3Cube(full.data, wcs=full.wcs, meta=full.meta)
    for region in ("full", "octagon"):
        assert list(pair_correlation(bare, region=region)["correlation"]) == list(
            pair_correlation(full, region=region)["correlation"]
        )
    for function in (tile_residual, pair_offset, summary, lambda cube: pair_correlation(cube, region="clean")):
        with pytest.raises(ValueError, match="without flags"):
            function(bare)
    no_mask = ESISLevel3Cube(full.data, wcs=full.wcs, meta=full.meta, flags=full.flags)
    assert list(tile_residual(no_mask)["dx"]) == list(tile_residual(full)["dx"])


def test_bad_input(scene):
    cube = make_cube((2, 2, 5, 6))
    with pytest.raises(ValueError, match="expected one of full, octagon, clean"):
        pair_correlation(cube, region="all")
    for function in (pair_correlation, pair_offset, tile_residual, summary):
        for part in (cube[0], cube[:, 1], cube[0, 0]):
            with pytest.raises(ValueError, match=r"expected \(time, channel, y, x\)"):
                function(part)


def reference_map(scene, cube, scale, dx, dy):
    """A Map of the scene with larger pixels, whose features lie (dx, dy) arcsec from those of the cube."""
    time = cube.time[1]
    frame = cube[1, 0].wcs.pixel_to_world(0, 0)
    grid = observed_grid(ESIS_1, frame.observer, time)
    size = int(420 * 0.6 / scale)
    grid.wcs.cdelt = scale / 3600, scale / 3600
    grid.wcs.crpix = 10.3, 12.7
    center = (np.array(cube.data.shape[:1:-1]) / 2 - np.array(cube[1, 0].wcs.wcs.crpix) + 0.5) * 0.6
    grid.wcs.crval = (center - (size / 2 - np.array([10.3, 12.7]) + 0.5) * scale) / 3600
    grid.wcs.set()
    # Fine positions in each pixel, averaged, as a detector does.
    steps = (np.arange(5) - 2) / 5
    total = 0
    for a in steps:
        for b in steps:
            lon, lat = grid.pixel_to_world_values(np.arange(size)[None, :] + a, np.arange(size)[:, None] + b)
            lon = (lon + 180) % 360 - 180
            x = (lon * 3600 - dx) / 0.6 + cube[1, 0].wcs.wcs.crpix[0] - 1
            y = (lat * 3600 - dy) / 0.6 + cube[1, 0].wcs.wcs.crpix[1] - 1
            total = total + scene(x, y)
    header = grid.to_header()
    return Map(total / 25, header)


@pytest.mark.slow
@pytest.mark.parametrize("crop", [False, True])
def test_offset_to_a_map_with_coarse_pixels(crop):
    """A Map of 1.8 arcsec pixels, from which the channels lie a known distance; parts of a cube too."""
    scene = Scene(3, waves=60)
    shifts = ((0.0, 0.0), (0.9, -0.6))
    data = np.array([[scene.image(300, *shift) for shift in shifts]] * 2)
    cube = level3(data, crpix=(120.25, 160.5))
    reference = reference_map(scene, cube, 1.8, 0.5, -0.35)
    part = cube[:, :, 21:290, 10:281] if crop else cube
    table = offset_to_map(part, reference)
    assert list(table["frame_number"]) == [121, 121]
    assert list(table["channel"]) == [1, 2]
    for row, shift in zip(table, shifts, strict=True):
        np.testing.assert_allclose(row["dx"].to_value("arcsec"), 0.6 * shift[0] - 0.5, atol=0.06)
        np.testing.assert_allclose(row["dy"].to_value("arcsec"), 0.6 * shift[1] + 0.35, atol=0.06)
        assert row["correlation"] > 0.9


def test_offset_to_map_without_data():
    scene = Scene(3, waves=20)
    data = np.array([[scene.image(120), np.full((120, 120), np.nan)]] * 2)
    flags = np.where(np.isnan(data), Flag.MISSING, 0).astype(np.uint8)
    cube = level3(data, flags=flags, crpix=(60.0, 60.0))
    reference = reference_map(scene, cube, 1.8, 0, 0)
    table = offset_to_map(cube, reference, frame_number=120)
    assert list(table["frame_number"]) == [120, 120]
    assert np.isfinite(table["dx"][0])
    assert np.isnan(table["dx"][1])
    assert np.isnan(table["correlation"][1])
    # Masked pixels of the reference are none.
    masked = Map(reference.data, reference.meta, mask=np.ones(reference.data.shape, bool))
    assert np.isnan(offset_to_map(cube, masked)["dx"]).all()
    with pytest.raises(ValueError, match=r"got frame 7, expected one of the cube's: 120, 121"):
        offset_to_map(cube, reference, frame_number=7)


def test_summary(scene):
    data = np.array([[scene.image(240, *shift) for shift in SHIFTS.values()]] * 2)
    data[1, 2] = np.nan
    flags = np.where(np.isnan(data), Flag.MISSING, 0).astype(np.uint8)
    cube = level3(data, flags=flags)
    cube.alignment[1, 2] = None
    table = summary(cube)
    assert list(table["frame_number"]) == [120, 121]
    assert list(table["time"]) == list(cube.time.isot)
    assert list(table["aligned"]) == [3, 2]
    tiles, pairs = tile_residual(cube), pair_correlation(cube)
    for row in table:
        here = tiles["frame_number"] == row["frame_number"]
        rms = np.sqrt(np.mean(tiles["dx"][here] ** 2 + tiles["dy"][here] ** 2))
        np.testing.assert_allclose(row["residual"], rms)
        np.testing.assert_allclose(
            row["correlation full"], np.nanmean(pairs["correlation"][pairs["frame_number"] == row["frame_number"]])
        )
    # Three pairs with shifts of 0.36, 0.46 and 0.81 pixels; then one.
    expected = [np.sqrt(np.mean([0.13, 0.2125, 0.6525])), np.sqrt(0.13)]
    np.testing.assert_allclose(table["residual"], expected, atol=0.02)
    assert table["residual"].unit == u.pix
    small = summary(level3(data[:, :, :50, :50], flags=flags[:, :, :50, :50], alignments=False))
    assert np.isnan(small["residual"]).all()
    assert list(small["aligned"]) == [0, 0]
