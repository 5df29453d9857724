"""The simulated flight holds everything that it should, and its truth is true."""

import functools
import pickle
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from scipy.ndimage import label, map_coordinates, median_filter

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from esis_ndcube import ESIS_1, ESISLevel1Cube, Flight
from esis_ndcube.simulate import SimulationConfig, shrink, simulate_flight

SECOND = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")
SIZE = 5
MIDDLE = 124
# A Sun and a camera without anything that is not asked for.
PLAIN = {
    "noise": False,
    "read_noise": False,
    "bias": 0,
    "dark": 0,
    "stray_light": 0,
    "spikes": 0,
    "other_lines": False,
    "event": 0,
    "velocity": 0,
    "evolution": False,
    "charge_spread": False,
    "vignetting": False,
    "distortion": 0,
    "drift": 0,
    "roll": 0,
    "channel_drift": 0,
    "pose_error": 0,
    "extinction": None,
    "missing": False,
    "blank": False,
}


def plain(flight=ESIS_1, *, size=SIZE, n_exposures=4, **ingredients):
    return simulate_flight(flight, size=size, n_exposures=n_exposures, **{**PLAIN, **ingredients})


def active(flight, raw):
    """The pixels that see light, rows as in Level 1."""
    image = np.hstack([raw[:, a:b] for a, b in flight.detector.active_columns]).astype(float)
    return image[::-1] if flight.detector.flip_y else image


def quadrants(flight):
    rows, columns = flight.detector.raw_shape
    half, split = rows // 2, flight.detector.split_column
    low, high, left, right = slice(half), slice(half, rows), slice(split), slice(split, columns)
    return [(low, left), (low, right), (high, right), (high, left)]


def electrons(sim, frame_number, channel):
    """Electrons of a raw frame of a simulation with an even bias of 0."""
    raw = sim.raw(frame_number, channel).astype(float)
    for part, gain in zip(quadrants(sim.flight), sim.flight.channel(channel).gain, strict=True):
        raw[part] *= gain
    return active(sim.flight, raw)


def inside(flight, channel, line, margin):
    """Pixels inside the field stop, by matplotlib's own test; negative margins enlarge it."""
    rows, columns = flight.detector.shape
    v, u_ = np.mgrid[:rows, :columns]
    stop = flight.field_stop(channel, line)
    away = stop - stop.mean(axis=0)
    stop = stop.mean(axis=0) + away * (1 - margin / np.abs(away).max())
    return Polygon(stop).contains_points(np.column_stack([u_.ravel(), v.ravel()])).reshape(rows, columns)


def on_grid(sim, image, frame_number, channel, line=None):
    """An image on the output grid, NaN outside the field stop."""
    y, x = np.mgrid[: sim.flight.grid_shape[0], : sim.flight.grid_shape[1]]
    u_, v = sim.truth.to_detector(frame_number, channel, x, y, line=line)
    stop = sim.flight.field_stop(channel, sim.flight.line(line or sim.flight.pose_line))
    points = np.column_stack([u_.ravel(), v.ravel()])
    # The sign of matplotlib's margin depends on the sense of rotation.
    good = [Polygon(stop).contains_points(points, radius=radius) for radius in (-3, 3)]
    good = np.logical_and(*good).reshape(x.shape)
    return np.where(good, map_coordinates(image, [v, u_], order=1, cval=np.nan), np.nan)


def correlation(first, second):
    good = np.isfinite(first) & np.isfinite(second)
    return np.corrcoef(first[good], second[good])[0, 1]


@pytest.fixture(scope="module")
def small():
    return simulate_flight(size=SIZE, n_exposures=4, n_darks=1)


@pytest.fixture(scope="module")
def full():
    """One exposure of the whole field, as channel 2 saw it, in DN above the bias."""
    sim = simulate_flight(size="full", n_exposures=4)
    raw = sim.raw(MIDDLE, 2).astype(float)
    for part in quadrants(sim.flight):
        blank = sim.flight.detector.blank_columns[int(part[1].start is not None and part[1].start > 0)]
        raw[part] -= np.median(raw[part[0], slice(*blank)])
    image = active(sim.flight, raw)
    calm = median_filter(image, 3)
    return sim, np.where(image - calm > 40, calm, image)


# ------------------------------------------------------------------------------------------------ geometry


@functools.cache
def whole(flight):
    return simulate_flight(flight, size="full")


@pytest.mark.slow
@pytest.mark.parametrize("flight", [ESIS_1, SECOND], ids=str)
@given(data=st.data())
def test_truth_inverts(flight, data):
    sim = whole(flight)
    channel = data.draw(st.integers(1, len(flight.channels)))
    frame_number = data.draw(st.sampled_from(sim.frame_numbers))
    line = data.draw(st.sampled_from(flight.lines))
    doppler = data.draw(st.booleans())
    x = data.draw(st.floats(0, flight.grid_shape[1]))
    y = data.draw(st.floats(0, flight.grid_shape[0]))
    at = sim.truth.to_detector(frame_number, channel, x, y, line=line, doppler=doppler)
    back = sim.truth.to_grid(frame_number, channel, *at, line=line, doppler=doppler)
    np.testing.assert_allclose(back, [x, y], atol=1e-6, rtol=0)


def test_without_motion_the_pose_is_the_truth():
    sim = plain()
    for channel in (1, 4):
        for line in ("O V", "He I", "Mg X 609"):
            matrix = sim.flight.pose(channel, next(known for known in sim.flight.lines if known.name == line))
            found = sim.truth.to_detector(MIDDLE, channel, 12.0, 200.5, line=line)
            np.testing.assert_allclose(found, matrix @ [12.0, 200.5, 1], rtol=1e-12)


def test_drift_of_a_whole_flight():
    sim = plain(n_exposures=None, size="full", drift=(8, 1) * u.arcsec)
    assert sim.frame_numbers == tuple(range(109, 139))
    first, last = (np.array(sim.truth.to_detector(frame_number, 3, 600.0, 600.0)) for frame_number in (109, 138))
    moved = np.linalg.solve(sim.flight.channel(3).matrix, last - first) * 0.6
    np.testing.assert_allclose(moved, [8 * 29 / 30, 29 / 30], atol=0.4)


def test_channels_drift_apart_by_up_to_0_4_arcsec():
    sim = plain(n_exposures=None, size="full", channel_drift=0.4 * u.arcsec)
    paths = []
    for channel in sim.flight.channels:
        at = [sim.truth.to_detector(frame_number, channel.number, 600.0, 600.0) for frame_number in sim.frame_numbers]
        still = sim.flight.pose(channel.number) @ [600, 600, 1]
        paths.append(np.linalg.solve(channel.matrix, (np.array(at) - still).T) * 0.6)
    paths = np.array(paths)
    assert np.abs(paths).max() <= 0.4 + 1e-9
    assert (np.ptp(paths, axis=2) > 0.1).all()
    assert np.abs(paths[0] - paths[2]).max() > 0.1


def test_roll_scatters_about_the_pivot():
    sim = plain(n_exposures=None, size="full", roll=0.03 * u.deg)
    pivot_x, pivot_y = (sim.flight.grid_crpix[0] - 1, sim.flight.grid_crpix[1] - 1)
    rolls = []
    for frame_number in sim.frame_numbers:
        a, b = (sim.truth.to_detector(frame_number, 1, pivot_x + d, pivot_y) for d in (0.0, 500.0))
        turned = np.linalg.solve(sim.flight.channel(1).matrix, np.subtract(b, a))
        rolls.append(np.degrees(np.arctan2(turned[1], turned[0])))
    assert 0.018 < np.std(rolls) < 0.045


@pytest.mark.parametrize(("terms", "least", "most"), [("distortion", 0.4, 5.0), ("cubic_distortion", 0.1, 5.0)])
def test_distortion_of_few_pixels_by_channel(terms, least, most):
    sim = plain(size="full", **{terms: 1.5})
    y, x = (grid.ravel() for grid in np.mgrid[150:1100:20, 150:1100:20])
    fits_ = []
    for channel in (1, 3):
        s, t = (x - 600) / 600, (y - 600) / 600
        degree = 2 if terms == "distortion" else 3
        basis = np.column_stack([s**i * t**j for i in range(4) for j in range(4 - i) if i + j <= degree])
        lower = np.column_stack([s**i * t**j for i in range(4) for j in range(4 - i) if i + j < degree])
        at = np.array(sim.truth.to_detector(MIDDLE, channel, x, y)).T
        exact = at - basis @ np.linalg.lstsq(basis, at, rcond=None)[0]
        assert np.abs(exact).max() < 1e-8
        bent = at - lower @ np.linalg.lstsq(lower, at, rcond=None)[0]
        assert least < np.abs(bent).max() < 5
        fits_.append(bent)
    assert np.abs(fits_[0] - fits_[1]).max() > 0.2


def test_unknown_frames_channels_and_lines_are_errors(small):
    with pytest.raises(ValueError, match=r"unknown frame 7: .* are \(122, 123, 124, 125\)"):
        small.truth.to_detector(7, 1, 0.0, 0.0)
    with pytest.raises(ValueError, match="unknown channel 9"):
        small.truth.to_detector(MIDDLE, 9, 0.0, 0.0)
    with pytest.raises(ValueError, match="unknown line 'Fe XX': flight ESIS_1_small shows O V, He I"):
        small.truth.to_detector(MIDDLE, 1, 0.0, 0.0, line="Fe XX")
    with pytest.raises(ValueError, match="unknown frame 7"):
        small.raw(7, 1)


@pytest.mark.parametrize("flight", [ESIS_1, SECOND], ids=str)
def test_images_lie_where_the_truth_says(flight):
    size = SIZE if flight is ESIS_1 else "full"
    moving = {"drift": (8, 1) * u.arcsec, "roll": 0.3 * u.deg, "distortion": 1.5, "pose_error": 1 * u.arcsec}
    sim = plain(flight, size=size, velocity=10 * u.km / u.s, **moving)
    frame_number, shape = sim.frame_numbers[-1], sim.flight.grid_shape
    y, x = np.mgrid[shape[0] // 3 : shape[0] * 2 // 3, shape[1] // 3 : shape[1] * 2 // 3]
    seen = []
    for channel in (1, 2, 4):
        at = sim.truth.to_detector(frame_number, channel, x, y, doppler=True)
        seen.append(map_coordinates(sim.photons(frame_number, channel).astype(float), at[::-1], order=5))
    for image in seen[1:]:
        # The shift between two channels by least squares on the gradient, with the sampling of either.
        difference = image - seen[0]
        gradient = np.stack([g.ravel() for g in np.gradient(seen[0])], axis=1)
        shift = np.linalg.lstsq(gradient, difference.ravel(), rcond=None)[0]
        assert np.abs(shift).max() < 0.01
        assert np.std(difference) < 0.03 * np.std(seen[0])


# ------------------------------------------------------------------------------------------------- the Sun


@pytest.mark.slow
def test_scene_has_the_contrast_of_the_quiet_sun(full):
    sim, image = full
    column, row = np.round(sim.flight.channel(2).center).astype(int)
    box = image[row - 240 : row + 240, column - 240 : column + 240]
    # Percentiles over the mean of frame 00124 of channel 2: 0.31, 0.57, 0.84, 1.25, 2.14, 3.23.
    found = np.percentile(box, [5, 25, 50, 75, 95, 99]) / box.mean()
    np.testing.assert_allclose(found, [0.31, 0.57, 0.84, 1.25, 2.14, 3.23], rtol=0.15)
    assert 35 < box.mean() < 70


@pytest.mark.flight_data
@pytest.mark.slow
def test_scene_looks_like_a_real_frame(full, flight_data):
    sim, image = full
    folder = flight_data / "esis_level0"
    dark = np.median([fits.getdata(folder / f"ESIS2_00{n}.fits.fz") for n in (100, 101, 102)], axis=0)
    real = active(sim.flight, fits.getdata(folder / "ESIS2_00124.fit.gz") - dark)
    column, row = np.round(sim.flight.channel(2).center).astype(int)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(480), np.fft.fftfreq(480))) * 480
    power = []
    for whole in (real, image):
        box = whole[row - 240 : row + 240, column - 240 : column + 240]
        calm = median_filter(box, 3)
        box = np.where(np.abs(box - calm) > 40, calm, box) / box.mean()
        spectrum = np.abs(np.fft.fft2((box - 1) * np.outer(np.hanning(480), np.hanning(480)))) ** 2
        rings = pairwise((3, 12, 24, 36, 48, 72, 128, 240))
        power.append([np.log10(spectrum[(k >= a) & (k < b)].mean()) for a, b in rings])
    # From supergranules down to the noise of single pixels, over four decades.
    np.testing.assert_allclose(power[1], power[0], atol=0.35)


@pytest.mark.slow
def test_reference_passband_is_another_scene(full):
    """Inside the field stop, at full resolution, on the output grid, noise and spectral overlap included."""
    sim, image = full
    seen = on_grid(sim, image, MIDDLE, 2)
    nearest = np.argmin(np.abs((sim.reference_times - sim.mid_time(MIDDLE)).to_value(u.s)))
    data, header = sim.reference(int(nearest))
    y, x = np.mgrid[: sim.flight.grid_shape[0], : sim.flight.grid_shape[1]]
    world = sim.flight.grid.wcs_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
    pixels = WCS(header["C*"] + header["PC*"]).wcs_world2pix(world, 0).T
    reference = map_coordinates(data, pixels[::-1], order=1, cval=np.nan).reshape(x.shape)
    assert np.isfinite(reference).all()
    assert 0.40 < correlation(seen, reference) < 0.52
    # And it shows the same place: the correlation peaks there, by a parabola through three shifts.
    for axis in (0, 1):
        low, middle, high = (correlation(seen, np.roll(reference, shift, axis)) for shift in (-3, 0, 3))
        assert middle > max(low, high) + 0.02
        assert abs(3 * (low - high) / (low - 2 * middle + high) / 2) < 0.3


@pytest.mark.slow
def test_helium_is_beside_and_akin(full):
    sim, image = full
    oxygen, helium = (on_grid(sim, image, MIDDLE, 2, line=line) for line in ("O V", "He I"))
    assert 0.58 < correlation(oxygen, helium) < 0.74
    photons = sim.photons(MIDDLE, 2, line="He I")
    assert not photons[:, 850:].any()
    assert photons[500, 50:700].min() > 0


def test_contaminants_are_displaced_and_faint():
    sim = plain(other_lines=True)
    own = sim.photons(MIDDLE, 2, line="O V")
    for name, strength in (("Mg X 609", 0.25), ("Mg X 624", 0.13)):
        line = next(line for line in sim.flight.lines if line.name == name)
        photons = sim.photons(MIDDLE, 2, line=line)
        ratio = photons[inside(sim.flight, 2, line, 5)].mean() / own[inside(sim.flight, 2, "O V", 5)].mean()
        assert ratio == pytest.approx(strength, rel=0.15)
        columns = np.flatnonzero(photons.any(axis=0))
        moved = columns.min() - np.flatnonzero(own.any(axis=0)).min()
        assert moved == pytest.approx(sim.flight.line_offset(line), abs=1.5)
    total = sum(sim.photons(MIDDLE, 2, line=line).astype(float) for line in sim.flight.lines)
    np.testing.assert_allclose(sim.photons(MIDDLE, 2), total, rtol=1e-5)


def test_scene_evolves_slowly():
    sim = plain(evolution=True, size=3)
    first, second, last = (sim.photons(frame_number, 2) for frame_number in sim.frame_numbers[1:])
    good = inside(sim.flight, 2, "O V", 4)
    near, far = (np.corrcoef(first[good], other[good])[0, 1] for other in (second, last))
    assert 0.97 < far < near < 0.9995
    still = plain(size=3)
    assert np.array_equal(still.photons(122, 2), still.photons(125, 2))


def test_explosive_event_is_doppler_shifted_along_the_dispersion():
    sim, calm = plain(event=8), plain()
    spots = {}
    for channel in (1, 4):
        extra = sim.photons(MIDDLE, channel).astype(float) - calm.photons(MIDDLE, channel)
        at_u, at_v = sim.truth.to_detector(MIDDLE, channel, *sim.truth.event.position)
        rows, columns = np.mgrid[: extra.shape[0], : extra.shape[1]]
        mean_u, mean_v = (np.sum(extra * w) / extra.sum() for w in (columns, rows))
        assert mean_u - at_u > 1.5
        assert mean_v == pytest.approx(at_v, abs=0.05)
        width_u = np.sqrt(np.sum(extra * (columns - mean_u) ** 2) / extra.sum())
        width_v = np.sqrt(np.sum(extra * (rows - mean_v) ** 2) / extra.sum())
        assert width_u > 1.8 * width_v
        assert extra[rows == np.round(at_v)].max() > 5 * calm.config.brightness
        spots[channel] = np.array(sim.truth.to_grid(MIDDLE, channel, mean_u, mean_v))
    # Each channel puts it elsewhere on the sky.
    assert np.hypot(*(spots[1] - spots[4])) > 2
    # And it is over at either end.
    for frame_number in (sim.frame_numbers[0], sim.frame_numbers[-1]):
        assert np.array_equal(sim.photons(frame_number, 1), calm.photons(frame_number, 1))


def test_velocity_field_is_smooth_and_slow():
    sim = plain(size="full", velocity=10 * u.km / u.s)
    y, x = np.mgrid[:1270:10, :1270:10]
    velocity = sim.truth.velocity(x, y)
    assert velocity.unit == u.km / u.s
    assert np.abs(velocity).max() <= 10 * u.km / u.s
    assert velocity.std() > 1 * u.km / u.s
    # Over 6 arcsec it hardly changes.
    assert np.abs(np.diff(velocity.value, axis=1)).max() < 1.5
    # 17.5 km/s move O V by one pixel.
    shift = sim.truth.doppler_shift(300.0, 700.0)
    assert shift == pytest.approx(sim.truth.velocity(300.0, 700.0).value / 17.6, rel=0.01)
    with_it, without = (sim.truth.to_detector(MIDDLE, 1, 300.0, 700.0, doppler=flag) for flag in (True, False))
    np.testing.assert_allclose(np.subtract(with_it, without), [shift, 0], atol=1e-9)


def test_atmosphere_dims_both_ends():
    short = plain(extinction=(0.5, 0.15), size=8)
    bright = [short.photons(frame_number, 1).mean() for frame_number in short.frame_numbers]
    assert bright[0] < 0.95 * bright[1]
    assert bright[3] < 0.9 * bright[2]
    whole = plain(n_exposures=None, size=8, extinction=(0.5, 0.15))
    bright = np.array([whole.photons(frame_number, 1).mean() for frame_number in (109, 124, 138)])
    np.testing.assert_allclose(bright / bright[1], [0.5, 1, 0.15], atol=0.08)


# ---------------------------------------------------------------------------------------------- the cameras


@pytest.mark.parametrize("flight", [ESIS_1, SECOND], ids=str)
def test_field_stop_bounds_the_image(flight):
    sim = plain(flight, size=SIZE if flight is ESIS_1 else "full")
    photons = sim.photons(sim.frame_numbers[0], 3)
    outer, inner = (inside(sim.flight, 3, flight.pose_line, margin) for margin in (-3, 3))
    assert not photons[~outer].any()
    assert photons[inner].min() > 0
    assert 0.3 < outer.mean() / (np.ptp(np.flatnonzero(outer.any(axis=0))) / outer.shape[1]) < 1
    open_ = plain(flight, size=SIZE if flight is ESIS_1 else "full", field_stop=False)
    assert np.count_nonzero(open_.photons(sim.frame_numbers[0], 3)) > 1.1 * np.count_nonzero(photons)


def test_vignetting_brightens_short_wavelengths():
    sim, flat = plain(vignetting=True), plain()
    for channel, slope in ((1, 0.436), (4, 0.495)):
        good = inside(sim.flight, channel, "O V", 2)
        ratio = np.full(good.shape, np.nan)
        np.divide(sim.photons(MIDDLE, channel), flat.photons(MIDDLE, channel), out=ratio, where=good)
        row = ratio[int(sim.flight.channel(channel).center[1])]
        columns = np.flatnonzero(np.isfinite(row))
        measured = np.polyfit(columns, row[columns], 1)
        # 684 arcsec over the size, of 0.734 arcsec per pixel, make the whole slope.
        assert -measured[0] * 684 / SIZE / 0.734 == pytest.approx(slope, rel=0.01)
        assert sim.truth.vignetting_slope(channel) == slope
        assert row[columns].min() >= 0.99
        assert row[columns[0]] == pytest.approx(1 + slope, abs=0.03)
    assert flat.truth.vignetting_slope(4) == 0


def test_photon_noise_has_the_electrons_of_a_photon():
    sim = plain(noise=True, size=2)
    mean = sim.photons(MIDDLE, 1).astype(float)
    good = inside(sim.flight, 1, "O V", 3) & (mean > 5)
    seen = electrons(sim, MIDDLE, 1)
    # 19.689 eV per photon and 3.6 eV per electron; Fano factor 0.1; rounding to whole DN.
    expected = 5.469 * mean[good]
    assert seen[good].mean() == pytest.approx(expected.mean(), rel=0.003)
    variance = (5.469 + 0.1) * expected + 2.54**2 / 12
    assert np.mean((seen[good] - expected) ** 2 / variance) == pytest.approx(1, abs=0.02)


def test_noise_off_is_noiseless():
    sim = plain()
    difference = electrons(sim, MIDDLE, 1) - 5.469 * sim.photons(MIDDLE, 1)
    assert np.abs(difference).max() < 0.5 * max(sim.flight.channel(1).gain) + 0.1


def test_charge_spreads_to_the_neighbors():
    spread, sharp = plain(noise=True, charge_spread=True), plain(noise=True)
    images = [electrons(sim, MIDDLE, 1) for sim in (spread, sharp)]
    assert images[0].sum() == pytest.approx(images[1].sum(), rel=2e-3)
    good = inside(spread.flight, 1, "O V", 6)
    rough = [np.diff(image, axis=1)[good[:, 1:]].std() for image in images]
    assert rough[0] < 0.8 * rough[1]


def test_blur_grows_away_from_the_focus():
    """It takes the contrast off and no light, and moves nothing."""
    blurred, sharp = plain(blur=2.0, field_stop=False), plain(field_stop=False)
    for channel in (1, 3):
        images = [sim.photons(MIDDLE, channel) for sim in (blurred, sharp)]
        stop, focus = sharp.flight.field_stop(channel), blurred.truth.focus(channel)
        y, x = np.indices(images[0].shape)
        good = inside(sharp.flight, channel, "O V", 8)
        assert good[tuple(np.rint(focus[::-1]).astype(int))]
        assert images[0][good].sum() == pytest.approx(images[1][good].sum(), rel=5e-3)
        distance = np.hypot(x - focus[0], y - focus[1])
        near, far = good & (distance < 30), good & (distance > 0.8 * np.hypot(*(stop - focus).T).max())
        rough = [[np.diff(image, axis=1)[part[:, 1:]].std() for part in (near, far)] for image in images]
        assert rough[0][0] > 0.97 * rough[1][0]
        assert rough[0][1] < 0.85 * rough[1][1]


def test_bias_dark_and_read_noise_differ_by_quadrant():
    sim = simulate_flight(size=2, spikes=0, dark=2.0, n_darks=2)
    flight, frame_number = sim.flight, sim.dark_frame_numbers[0]
    for channel in (1, 3):
        raw = sim.raw(frame_number, channel).astype(float)
        bias, dark, noise = [], [], []
        for part in quadrants(flight):
            side = int(part[1].start is not None and part[1].start > 0)
            blank = raw[part[0], slice(*flight.detector.blank_columns[side])]
            lit = raw[part[0], slice(*flight.detector.active_columns[side])]
            bias.append(blank.mean())
            dark.append(lit[lit < np.median(lit) + 15].mean() - blank.mean())
            noise.append(blank.std())
        assert np.ptp(bias) > 20
        assert 3000 < min(bias) < max(bias) < 4200
        assert 0.5 < np.mean(dark) < 3.5
        assert np.ptp(dark) > 0.2
        assert 2.0 < min(noise) < max(noise) < 3.5
        assert np.ptp(noise) > 0.05
    hot = sim.raw(frame_number, 1).astype(float) - median_filter(sim.raw(frame_number, 1), 3)
    again = sim.raw(sim.dark_frame_numbers[1], 1).astype(float) - median_filter(
        sim.raw(sim.dark_frame_numbers[1], 1), 3
    )
    assert np.count_nonzero((hot > 25) & (again > 25)) > 3


def test_stray_light_is_even():
    sim = plain(stray_light=7)
    raw = sim.raw(MIDDLE, 1)
    assert set(active(sim.flight, raw)[0].astype(int)) <= {6, 7, 8}
    assert not raw[:, slice(*sim.flight.detector.blank_columns[0])].any()


@pytest.mark.slow
def test_spikes_are_where_the_truth_says():
    with_them, without = plain(spikes=200, size=2), plain(size=2)
    struck, calm = (active(sim.flight, sim.raw(MIDDLE, 2)) for sim in (with_them, without))
    struck -= calm
    mask = with_them.spikes(MIDDLE, 2)
    assert np.array_equal(struck > 10, mask)
    blobs, count = label(mask, np.ones((3, 3)))
    assert 170 < count <= 200
    sizes = np.bincount(blobs.ravel())[1:]
    assert np.median(sizes) <= 2
    assert sizes.max() >= 8
    assert not np.array_equal(mask, with_them.spikes(123, 2))
    amplitude = np.log(struck[mask])
    assert 0.5 < amplitude.std() < 2


@pytest.mark.slow
def test_missing_and_blank_frames(small, tmp_path):
    assert small.missing == (123, 3)
    assert small.blank == (124, 4)
    good, blank = (active(small.flight, small.raw(124, channel)) for channel in (2, 4))
    lit = inside(small.flight, 4, "O V", 4)
    assert np.median(good[lit]) - np.median(good[:5]) > 15
    assert abs(np.median(blank[lit]) - np.median(small.raw(small.dark_frame_numbers[0], 4))) < 300
    paths = simulate_flight(size=10, n_darks=1, n_exposures=2).write(tmp_path).raw
    assert len(paths) == (2 + 1 + 4) * 4 - 1
    assert "ESIS3_00123.fit.gz" not in {path.name for path in paths}
    assert "ESIS3_00124.fit.gz" in {path.name for path in paths}


@pytest.mark.parametrize("n_exposures", [2, 3, 4, 6, 30])
def test_faults_hit_different_exposures_and_spare_the_reference_channel(n_exposures):
    sim = simulate_flight(n_exposures=n_exposures, size=8)
    assert sim.missing[0] != sim.blank[0]
    assert 2 not in (sim.missing[1], sim.blank[1])
    assert {sim.missing[0], sim.blank[0]} <= set(sim.frame_numbers)


def test_one_exposure_alone_is_kept_whole():
    sim = simulate_flight(n_exposures=1, size=8)
    assert sim.frame_numbers == (124,)
    assert sim.missing is None
    assert sim.blank is None
    assert simulate_flight(size=8, missing=(125, 1)).missing == (125, 1)


def test_blank_frame_has_no_light():
    sim = plain(blank=(124, 1))
    assert not sim.raw(124, 1).any()
    assert sim.raw(124, 2).any()


# ------------------------------------------------------------------------------------------------ the files


@pytest.mark.slow
def test_frames_are_the_same_every_time(small):
    first = small.raw(125, 1)
    small.raw(122, 3)
    assert np.array_equal(first, small.raw(125, 1))
    assert np.array_equal(first, pickle.loads(pickle.dumps(small)).raw(125, 1))
    assert np.array_equal(first, simulate_flight(size=SIZE, n_darks=1).raw(125, 1))
    assert not np.array_equal(first, simulate_flight(size=SIZE, seed=1).raw(125, 1))
    assert not np.array_equal(first, small.raw(125, 2))
    with pytest.raises(FrozenInstanceError):
        small.seed = 3


@pytest.mark.parametrize("flight", [ESIS_1, SECOND], ids=str)
@pytest.mark.slow
def test_files_are_in_the_format_of_the_flight(flight, tmp_path):
    sim = simulate_flight(flight, size=6 if flight is ESIS_1 else 2, n_exposures=2, n_darks=1)
    paths = sim.write(tmp_path / "new")
    files = sim.flight.files
    by_name = {path.name: path for path in paths.raw}
    assert len(by_name) == (3 + len(sim.other_frame_numbers)) * len(flight.channels) - 1
    frame_number = sim.frame_numbers[0]
    name = files.pattern.format(channel=2, frame=frame_number)
    with fits.open(by_name[name]) as hdus:
        header, data = hdus[0].header, hdus[0].data
        assert data.dtype == np.uint16
        assert data.shape == sim.flight.detector.raw_shape
        assert np.array_equal(data, sim.raw(frame_number, 2))
    assert header[files.camera] == flight.channel(2).camera
    assert header[files.frame] == frame_number
    assert header[files.exposure] * files.exposure_unit == flight.cadence
    assert header[files.measured_exposure] * files.measured_exposure_unit == flight.cadence
    stamp = Time(header[files.time].removesuffix("Z"))
    late = {"start": -0.5, "end": 0.5}[flight.time_stamp] * flight.cadence - flight.clock_offset
    assert abs(stamp - (sim.mid_time(frame_number) + late)) < 1 * u.ms
    assert abs(sim.mid_time(frame_number + 1) - sim.mid_time(frame_number) - flight.cadence) < 1 * u.us
    assert not [path for path in (tmp_path / "new").rglob("*") if path.name.startswith(".")]
    assert all(flight.is_light(number) for number in sim.frame_numbers)
    assert all(flight.is_dark(number) for number in sim.dark_frame_numbers)


@pytest.mark.slow
def test_frames_that_are_neither(tmp_path):
    """The other frames of the first flight, as in its headers: exposures of 0 and 11.235 s, one after the other."""
    sim = simulate_flight(size=8, n_exposures=2, n_darks=2, missing=False, other_lines=False)
    assert sim.other_frame_numbers == (96, 97, 139, 153)
    files = sim.write(tmp_path).raw
    cards = {}
    for path in files:
        header = fits.getheader(path)
        cards[header["IMG_ISN"]] = [header["IMG_TS"], header["IMG_EXP"], header["MEAS_EXP"]]
    assert sorted(cards) == sorted((*sim.other_frame_numbers, *sim.frame_numbers, *sim.dark_frame_numbers))
    assert [card[1:] for frame_number, card in sorted(cards.items()) if frame_number < 99] == [
        [0, 0], [11235, 449400000], [10000, 400000000]
    ]  # fmt: skip
    assert all(card[1:] == [10000, 400000000] for frame_number, card in cards.items() if frame_number > 97)
    ends = Time([cards[frame_number][0].removesuffix("Z") for frame_number in (96, 97, 98)])
    np.testing.assert_allclose(np.diff(ends.unix), [11.235, 10], atol=1e-3)
    level1 = ESISLevel1Cube.from_raw(tmp_path / "raw", sim.flight)
    plain = simulate_flight(size=8, n_exposures=2, n_darks=2, missing=False, other_lines=False, others=False)
    assert plain.other_frame_numbers == ()
    expected = ESISLevel1Cube.from_raw(plain.write(tmp_path / "plain").raw, sim.flight)
    assert level1.frame_number.tolist() == [123, 124]
    np.testing.assert_array_equal(level1.data, expected.data)
    assert level1.history == expected.history


def test_a_flight_whose_first_frame_is_1():
    assert simulate_flight(SECOND, size=8).other_frame_numbers == (0, 41, 49)


@pytest.mark.slow
def test_files_are_not_overwritten(tmp_path):
    sim = simulate_flight(size=8, n_exposures=1, n_darks=0, other_lines=False, others=False)
    paths = sim.write(tmp_path)
    before = paths.raw[0].read_bytes()
    with pytest.raises(FileExistsError, match=r"ESIS1_00124.fit.gz exists: .*overwrite=True"):
        sim.write(tmp_path)
    assert sim.write(tmp_path, overwrite=True) == paths
    assert paths.raw[0].read_bytes() == before


@pytest.mark.slow
def test_packed_files_are_packed(tmp_path):
    flight = Flight.from_toml(SECOND.toml.replace("camera{channel}.fits", "camera{channel}.fits.fz"))
    sim = simulate_flight(flight, size=4, n_exposures=1, n_darks=0, other_lines=False, others=False)
    (path,) = [path for path in sim.write(tmp_path).raw if path.name == "second-0024-camera2.fits.fz"]
    with fits.open(path) as hdus:
        assert hdus[1].header["T_START"].startswith("2027-08-14")
        assert np.array_equal(hdus[1].data, sim.raw(24, 2))


@pytest.mark.parametrize(("flight", "wavelength"), [(ESIS_1, 304), (SECOND, 171)], ids=["first", "second"])
@pytest.mark.slow
def test_reference_images_open_as_maps(flight, wavelength, tmp_path):
    import sunpy.map

    sim = simulate_flight(
        flight, size=8 if flight is ESIS_1 else 3, n_exposures=2, n_darks=0, other_lines=False, others=False
    )
    maps = sunpy.map.Map(sim.write(tmp_path).reference)
    assert [type(image).__name__ for image in maps] == ["AIAMap"] * len(sim.reference_times)
    image = maps[0]
    assert image.wavelength == wavelength * u.angstrom
    assert image.observatory == "SDO"
    assert image.observer_coordinate.radius.to_value(u.AU) == pytest.approx(1, abs=0.02)
    assert abs(image.reference_date - sim.reference_times[0]) < 1 * u.ms
    assert (maps[1].date - maps[0].date).to_value(u.s) == pytest.approx(12, abs=1e-3)
    # An image for every exposure within half a cadence, on pixels that are not those of the output grid.
    for frame_number in sim.frame_numbers:
        assert np.abs((sim.reference_times - sim.mid_time(frame_number)).to_value(u.s)).min() <= 6
    assert np.degrees(np.arctan2(image.rotation_matrix[1, 0], image.rotation_matrix[0, 0])) == pytest.approx(0.12)
    corners = sim.flight.grid.wcs_pix2world([[0, 0], np.array(sim.flight.grid_shape[::-1]) - 1], 0)
    pixels = WCS(image.fits_header["C*"] + image.fits_header["PC*"]).wcs_world2pix(corners, 0)
    assert (np.abs(pixels - np.round(pixels)) > 0.02).any()
    assert (pixels > 0).all()
    assert (pixels < np.array(image.data.shape[::-1]) - 1).all()


# --------------------------------------------------------------------------------------- smaller and invented


def test_shrunk_flight_keeps_its_proportions():
    small = shrink(ESIS_1, 4)
    assert small.name == "ESIS_1_small"
    assert small.detector.shape == (260, 512)
    np.testing.assert_array_equal(small.detector.pixel_scale.value, [0.734, 0.770])
    assert small.grid_cdelt == ESIS_1.grid_cdelt
    blank = np.ptp(small.detector.blank_columns, axis=1)
    np.testing.assert_array_equal(blank, np.ptp(ESIS_1.detector.blank_columns, axis=1))
    for channel in range(1, 5):
        for line in ("O V", "He I"):
            stop, whole = small.field_stop(channel, line), ESIS_1.field_stop(channel, line)
            np.testing.assert_allclose(stop + 0.5, (whole + 0.5) / 4, atol=1e-6)
        # The middle of the field still looks at the same place of the Sun.
        looks = []
        for flight in (small, ESIS_1):
            pose = flight.pose(channel)
            pixel = np.linalg.solve(pose[:, :2], flight.channel(channel).center - pose[:, 2])
            looks.append(flight.grid.wcs_pix2world([pixel], 0)[0] * 3600)
        np.testing.assert_allclose(looks[0], looks[1], atol=1e-6)
    assert shrink(ESIS_1, 1) is ESIS_1
    assert Flight.from_toml(small.toml) == small


@pytest.mark.parametrize("factor", [0.05, 0, 40])
def test_impossible_shrinking_is_an_error(factor):
    with pytest.raises(ValueError, match=f"factor: got {factor}, expected 0.1 to"):
        shrink(ESIS_1, factor)


def test_enlarged_flight_keeps_its_proportions():
    large = shrink(SECOND, 0.5)
    assert large.field_stop_width == 2 * SECOND.field_stop_width
    assert large.grid_shape == (1000, 940)
    assert large.detector.shape == (800, 1520)
    # The features in the middle of the field stop are still there.
    for channel, other in zip(large.channels, SECOND.channels, strict=True):
        np.testing.assert_allclose((channel.center + 0.5) / 2, other.center + 0.5)
        np.testing.assert_allclose((channel.field_stop + 0.5) / 2, other.field_stop + 0.5, atol=0.1)


def test_the_second_flight_shares_nothing_with_the_first():
    sim = simulate_flight(SECOND, size="full")
    assert len(sim.flight.channels) == 6
    assert sim.frame_numbers == (22, 23, 24, 25)
    raw = sim.raw(24, 1)
    assert raw.shape == (400, 812)
    column, row = np.round(SECOND.channel(1).center).astype(int)
    box = active(SECOND, raw)[row - 80 : row + 80, column - 80 : column + 80]
    assert box.std() > 40
    # Channels 1 and 5 disperse in opposite directions.
    a, b = (SECOND.channel(number).matrix[0] for number in (1, 5))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) < -0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_exposures": 0}, "n_exposures: got 0, expected 1 to 30"),
        ({"n_exposures": 31}, "n_exposures: got 31, expected 1 to 30"),
        ({"n_darks": 99}, "n_darks: got 99, expected 0 to 19"),
        ({"size": "huge"}, "size: got 'huge'"),
        ({"rain": True}, r"unknown ingredients \['rain'\]: expected some of"),
        ({"spikes": -1}, "spikes: got -1, expected 0 or more"),
        ({"velocity": 3 * u.s}, "velocity: got 3.0 s, expected a quantity in km/s"),
        ({"drift": 3 * u.arcsec}, "drift: got 3.0 arcsec, expected two values"),
        ({"extinction": (0.0, 0.5)}, "extinction: got"),
    ],
)
def test_impossible_arguments_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_flight(**arguments)


def test_ingredients_change_a_configuration():
    config = SimulationConfig(spikes=3)
    assert simulate_flight(config=config, stray_light=9).config == replace(config, stray_light=9)
    assert simulate_flight(drift=None).config.drift.shape == (2,)
