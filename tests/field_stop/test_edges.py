"""The sides of the field stop, found in frames whose truth is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import astropy.units as u
from astropy.time import Time

from esis_ndcube import ESIS_1, ESISLevel1Cube, Flight, form_level3
from esis_ndcube.field_stop.edges import find_edges
from esis_ndcube.field_stop.region import distance_inside, line_region, overlapping_lines
from esis_ndcube.flags import Flag
from esis_ndcube.resample import detector_coordinates
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.simulate.truth import find_line
from esis_ndcube.wcs import level1_wcs

SECOND = "data/second_flight.toml"


def draw(flight, channel, line, shift, rng, *, photons=18.0):
    """A frame of grainy brightness behind the moved field stop, blurred, with photon noise."""
    rows, columns = flight.detector.shape
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    scene = photons * np.exp(gaussian_filter(rng.normal(size=(rows, columns)), 3) * 4)
    inside = np.clip(distance_inside(flight.field_stop(channel, line) + shift, x, y) + 0.5, 0, 1)
    return rng.poisson(gaussian_filter(scene * inside, 0.9) + 1.0).astype(np.float32)


def normals(vertices):
    """Inward normals, by turning the sides."""
    along = np.roll(vertices, -1, axis=0) - vertices
    return (along / np.linalg.norm(along, axis=1, keepdims=True)) @ [[0, 1], [-1, 0]]


def frames(flight, images):
    """The part of a cube that `find_edges` needs."""
    data = np.asarray(images)
    numbers = [channel.number for channel in flight.channels][: data.shape[1]]
    times = Time("2019-09-30T18:08:00") + 10 * np.arange(len(data)) * u.s
    meta = {"flight": flight, "frame_number": np.arange(1, len(data) + 1)}
    wcs = level1_wcs(data.shape[2:], times, numbers)
    return ESISLevel1Cube(data, wcs=wcs, flags=np.zeros(data.shape, "u1"), meta=meta, unit="electron")


SETTINGS = {"n_exposures": 2, "n_darks": 2, "others": False, "seed": 4, "missing": False, "blank": True}


@pytest.fixture(scope="module")
def flight(flights):
    return flights(**SETTINGS)


@pytest.fixture(scope="module")
def simulated():
    """The same without its files, which take a while to write."""
    return simulate_flight(**SETTINGS)


@pytest.fixture(scope="module")
def level1(flight):
    return flight.level1


@pytest.fixture(scope="module")
def edges(level1):
    return find_edges(level1)


@pytest.fixture(scope="module")
def cube(level1):
    with pytest.warns(match="1 of 8 frames could not be aligned"):
        return form_level3(level1, vignetting=False, normalize=False)


def test_known_shifts(simulated):
    """Shifts by parts of a pixel come back, and the stated errors are the true ones."""
    rng, flight = np.random.default_rng(0), simulated.flight
    truth = rng.uniform(-2, 2, (20, 1, 2))
    cube = frames(flight, [[draw(flight, 1, flight.pose_line, shift[0], rng)] for shift in truth])
    edges = find_edges(cube, workers=1)
    error = edges.shift - truth
    # A tenth of the 2 pixels that masks need, and no bias beyond three standard deviations of the mean.
    assert np.sqrt(np.mean(error**2)) < 0.2
    assert (np.abs(error.mean(axis=(0, 1))) < 3 * error.std(axis=(0, 1)) / np.sqrt(20)).all()
    # 40 pulls know their scatter to 11 %.
    assert 0.67 < np.sqrt(np.mean((error / edges.error) ** 2)) < 1.33
    # Every side moved by its share of the shift.
    left = edges.residual - np.einsum("tcd,sd->tcs", truth - edges.shift, normals(flight.field_stop(1)))
    assert np.nanmedian(np.abs(left)) < 0.3
    assert np.nanmedian(np.abs(edges.sides)) > 0.8


def test_placement(simulated):
    """The regions of images come nearer to the true ones, and a shift that was not found moves nothing."""
    rng, flight = np.random.default_rng(4), simulated.flight
    truth = rng.uniform(0.7, 2, (4, 1, 2)) * rng.choice([-1, 1], (4, 1, 2))
    images = [[draw(flight, 1, flight.pose_line, shift[0], rng)] for shift in truth]
    # An empty frame.
    images[2][0][:] = 1
    edges = find_edges(frames(flight, images), workers=1)
    assert np.isnan(edges.shift[2]).all()
    placed = edges.placement()
    np.testing.assert_array_equal(placed[2], 0)
    rows, columns = flight.detector.shape
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))

    def wrong(shift, time):
        regions = [line_region(flight, 1, flight.pose_line, x, y, shift=a) for a in (shift, truth[time, 0])]
        return np.sum(regions[0] != regions[1])

    for time in (0, 1, 3):
        np.testing.assert_array_equal(placed[time], edges.shift[time])
        assert wrong(placed[time, 0], time) < 0.3 * wrong((0, 0), time)
    # A shift that is not known well enough is not used, image by image.
    limit = np.sort(edges.error.max(axis=-1).ravel())[1]
    strict = edges.placement(largest_error=limit)
    known = edges.error.max(axis=-1) <= limit
    assert known.sum() == 2
    np.testing.assert_array_equal(strict[known], edges.shift[known])
    assert not strict[~known].any()


def test_six_channels_and_six_sides(request):
    flight = Flight.read(request.path.parents[1] / SECOND)
    rng = np.random.default_rng(1)
    truth = rng.uniform(-1.5, 1.5, (len(flight.channels), 2))
    images = [draw(flight, c.number, flight.pose_line, truth[i], rng) for i, c in enumerate(flight.channels)]
    edges = find_edges(frames(flight, [images]), workers=1)
    assert edges.sides.shape == (1, 6, 6)
    np.testing.assert_allclose(edges.shift[0], truth, atol=0.35)


@pytest.mark.slow
def test_simulated_flight(edges, simulated):
    """The simulated field stop is where the flight file says, apart from what the scene does to the edges."""
    there = np.ones((2, 4), bool)
    frame, channel = simulated.blank
    there[edges.frame_numbers.index(frame), edges.channels.index(channel)] = False
    assert np.isnan(edges.shift[~there]).all()
    assert np.isfinite(edges.shift[there]).all()
    assert np.sqrt(np.mean(edges.shift[there] ** 2)) < 0.3
    assert np.nanmax(np.abs(edges.sides)) < 2
    table = edges.table()
    assert table.colnames == ["frame_number", "channel", "du", "du_error", "dv", "dv_error", "parts", "residual"]
    assert len(table) == 8
    np.testing.assert_array_equal(edges.shift_of(edges.frame_numbers[1], 2), edges.shift[1, 1])


@pytest.mark.slow
def test_level3_cube_gives_the_same(edges, cube):
    """Through the alignments the same sides are found, in a part of the cube too."""
    direct, through = edges, find_edges(cube)
    good = np.isfinite(direct.shift) & np.isfinite(through.shift)
    assert good.sum() >= 12
    apart = np.abs(direct.shift - through.shift)[good]
    assert np.median(apart) < 0.1
    assert apart.max() < 0.3
    # The upper right quarter has a whole side in each of the four images; at a wrong place none would be the same.
    part = find_edges(cube[:, 1:3, 150:, 150:])
    assert np.isclose(part.sides, through.sides[:, 1:3], atol=1e-6).any(axis=-1).all()
    with pytest.raises(ValueError, match=r"expected one of He I"):
        find_edges(cube, line="He I")


@pytest.mark.slow
def test_wrong_input(level1, edges):
    with pytest.raises(ValueError, match=r"expected \(time, channel, y, x\)"):
        find_edges(level1[0])
    with pytest.raises(ValueError, match="expected a distance above 0"):
        find_edges(level1, reach=0)
    with pytest.raises(ValueError, match=r"got frame 1, channel 2, expected one of frames"):
        edges.shift_of(1, 2)


def test_line_region_moves_with_the_shift():
    y, x = np.mgrid[0:1040:7, 900:2048:7]
    still = line_region(ESIS_1, 3, "O V", x + 3.0, y - 2.0, margin=1.0)
    moved = line_region(ESIS_1, 3, "O V", x, y, margin=1.0, shift=(-3.0, 2.0))
    np.testing.assert_array_equal(moved, still)
    assert (moved != line_region(ESIS_1, 3, "O V", x, y, margin=1.0)).any()


@pytest.mark.slow
def test_bad_pixels_do_not_count(level1, edges):
    data, flags = level1.data.copy(), level1.flags.copy()
    data[:, :, 40:44], flags[:, :, 40:44] = 1e6, Flag.BAD_PIXEL
    spoilt = ESISLevel1Cube(data, wcs=level1.wcs, flags=flags, meta=level1.meta, unit=level1.unit)
    shift = find_edges(spoilt).shift
    good = np.isfinite(edges.shift)
    np.testing.assert_allclose(shift[good], edges.shift[good], atol=0.5)


@pytest.mark.slow
def test_level3_is_placed_by_the_edges_of_each_frame(edges, cube):
    """Each image is flagged where its own field stop is, whatever other exposures there are."""
    known = np.array([[alignment.converged for alignment in row] for row in cube.alignment])
    found = np.stack([cube.meta["field_stop_u"], cube.meta["field_stop_v"]], axis=-1)
    np.testing.assert_array_equal(found[known], edges.placement()[known])
    assert known.sum() == 7
    assert np.isnan(found[~known]).all()
    for index in zip(*np.nonzero(known), strict=True):
        position = detector_coordinates(cube.alignment[index], cube.wcs[index], cube.shape[-2:])
        inside = line_region(cube.flight, index[1] + 1, cube.line, *position, shift=found[index])
        seen = np.isfinite(cube.data[index])
        np.testing.assert_array_equal((cube.flags[index] & Flag.OUTSIDE == 0)[seen], inside[seen])
        assert inside[seen].any()


@pytest.mark.slow
def test_clean_of_one_faint_line(cube):
    """A line without a flag of its own is placed through the alignment; all of them together have one."""
    names = [line.name for line in overlapping_lines(cube.flight, cube.line)]
    faint = find_line(cube.flight, "O III")
    assert faint.name in names[1:]
    here = {"channels": 2, "frame_numbers": cube.frame_number[0]}
    own = cube.clean_region(lines=[], **here)
    position = detector_coordinates(cube.alignment[0, 1], cube.wcs[0, 1], cube.shape[-2:])
    shift = [cube.meta[key][0, 1] for key in ("field_stop_u", "field_stop_v")]
    expected = own & ~line_region(cube.flight, 2, faint, *position, shift=shift)
    assert 0 < expected.sum() < own.sum()
    np.testing.assert_array_equal(cube.clean_region(lines="O III", **here), expected)
    together = own.copy()
    for name in names:
        together &= ~line_region(cube.flight, 2, find_line(cube.flight, name), *position, shift=shift)
    np.testing.assert_array_equal(cube.clean_region(lines="all", **here), together)
