"""The measured noise of frames, against noise that is known."""

import dask.array as da
import numpy as np
import pytest
from helpers import benchmark
from scipy import ndimage

import astropy.units as u
import sunpy.map
from astropy.nddata import StdDevUncertainty
from astropy.time import Time, TimeDelta

from esis_ndcube import ESIS_1, ESISLevel1Cube, form_level3
from esis_ndcube.flags import Flag
from esis_ndcube.quality import noise_table
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.wcs import level1_wcs

# Uneven, as where a frame is missing.
SECONDS = np.array([0.0, 10, 20, 40, 50, 70])
READ_NOISE = 6.0
GAIN = 5.0
# Charge that neighbors get.
KERNEL = np.array([[0.02, 0.08, 0.02], [0.08, 0.6, 0.08], [0.02, 0.08, 0.02]])


def photons(shape, seconds, drift):
    """A smooth Sun that drifts along the rows, and a dark strip."""
    y, x = np.indices(shape)
    sun = 60 + 30 * np.sin((x - drift * seconds) / 9) * np.cos(y / 11)
    return np.where(y < shape[0] // 3, 0, sun)


def make(kernel=None, *, drift=0.0, shape=(150, 160), seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for seconds in SECONDS:
        charge = GAIN * rng.poisson(photons(shape, seconds, drift)).astype(float)
        charge = charge if kernel is None else ndimage.convolve(charge, kernel, mode="wrap")
        frames.append(charge + rng.normal(0, READ_NOISE, shape))
    data = np.stack(frames)[:, None].astype(np.float32)
    expected = np.stack([photons(shape, seconds, drift) for seconds in SECONDS])[:, None]
    sigma = np.sqrt(GAIN**2 * expected + READ_NOISE**2)
    times = Time("2019-09-30T18:08:00") + TimeDelta(SECONDS * u.s)
    wcs = level1_wcs(shape, times, [1])
    meta = {"flight": ESIS_1}
    return ESISLevel1Cube(data, wcs=wcs, uncertainty=StdDevUncertainty(sigma), unit=u.electron, meta=meta)


def expected_ratio(kernel, box):
    """Variance of a box's sum over that of independent pixels, where photons are all of the noise."""
    size = box + 2
    # Share of the charge of each pixel's photons that is collected in the box.
    inside = np.zeros((size + 2, size + 2))
    inside[2 : 2 + box, 2 : 2 + box] = 1
    return np.sum(ndimage.convolve(inside, kernel) ** 2) / box**2


@pytest.mark.parametrize("order", [1, 3, 5])
def test_noise_as_stated(order):
    table = noise_table(make(), boxes=(1, 4), orders=[order], quiet=1)
    assert (np.abs(table["ratio"] - 1) < 4 * table["error"]).all()
    # An error of a variance of n boxes is the root of 2 / n, for a single difference.
    if order == 5:
        np.testing.assert_allclose(table["error"], np.sqrt(2 / table["count"]), rtol=0.15)


def test_slope_and_intercept_are_gain_and_read_noise():
    (row,) = noise_table(make(), boxes=(1,), orders=[3], quiet=1)
    assert abs(row["slope"].to_value(u.electron) / GAIN - 1) < 0.06
    # The lit part alone has them: 60 photons of variance 1500, with a read noise of 36 under it.
    assert abs(row["intercept"].to_value(u.electron**2) - READ_NOISE**2) < 120


def test_shared_charge():
    """Each box against the sum over its photons of the charge that falls into the box."""
    table = noise_table(make(KERNEL, shape=(240, 240)), boxes=(1, 2, 4, 8), orders=[3], quiet=1)
    part = 60 * GAIN**2 / (60 * GAIN**2 + READ_NOISE**2)
    for row in table:
        expected = expected_ratio(KERNEL, row["box"]) * part + 1 - part
        assert abs(row["ratio"] - expected) < 4 * row["error"] + 0.01, row["box"]
    assert table["ratio"][0] < 0.5 < 0.8 < table["ratio"][-1]


def test_drift_is_taken_out_by_high_orders():
    drifting, still = (make(drift=drift, seed=4) for drift in (0.06, 0.0))
    first, third, fifth = (noise_table(drifting, boxes=(1, 8), orders=[n], quiet=1)["ratio"] for n in (1, 3, 5))
    assert first[1] > 1.5
    assert abs(third[1] / fifth[1] - 1) < 0.25
    for n, ratios in ((3, third), (5, fifth)):
        np.testing.assert_allclose(ratios, noise_table(still, boxes=(1, 8), orders=[n], quiet=1)["ratio"], rtol=0.2)


def test_bad_pixels_do_not_count():
    cube = make()
    table = noise_table(cube, boxes=(1, 2), orders=[3], quiet=1)
    data, flags = cube.data.copy(), np.zeros(cube.data.shape, np.uint8)
    data[2, 0, 100, :80] = 1e6
    data[3, 0, 110, :80] = np.nan
    flags[2, 0, 100, :80] = Flag.BAD_PIXEL
    spoiled = ESISLevel1Cube(data, wcs=cube.wcs, uncertainty=cube.uncertainty, flags=flags, unit=cube.unit)
    other = noise_table(spoiled, boxes=(1, 2), orders=[3], quiet=1)
    np.testing.assert_allclose(other["ratio"], table["ratio"], rtol=0.02)
    assert other["count"][0] == table["count"][0] - 160


def test_lazy_frames_give_the_same():
    cube = make()
    lazy = ESISLevel1Cube(
        da.from_array(cube.data, chunks=(1, 1, 150, 160)),
        wcs=cube.wcs,
        uncertainty=StdDevUncertainty(da.from_array(cube.uncertainty.array, chunks=(1, 1, 150, 160))),
        unit=cube.unit,
    )
    table, other = (noise_table(one, boxes=(1, 4), quiet=1) for one in (cube, lazy))
    for name in table.colnames:
        np.testing.assert_array_equal(table[name], other[name])


def test_nothing_lit():
    cube = make()
    dark = ESISLevel1Cube(cube.data * 0, wcs=cube.wcs, uncertainty=cube.uncertainty, mask=True, unit=cube.unit)
    table = noise_table(dark, boxes=(1,), orders=[3])
    assert np.isnan(table["ratio"]).all()
    assert table["count"][0] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"orders": [6]}, "got order 6 and 6 exposures"),
        ({"orders": [0]}, "got order 0"),
        ({"orders": [1.5]}, r"got order 1\.5"),
        ({"boxes": ()}, r"got boxes \[\], expected sides of 1 to 150 pixels"),
        ({"boxes": (1, 151)}, "expected sides of 1 to 150"),
        ({"quiet": 0}, "got quiet=0"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=words):
        noise_table(make(), **options)


def test_without_uncertainty():
    cube = make()
    cube.uncertainty = None
    with pytest.raises(ValueError, match="without uncertainty"):
        noise_table(cube)


@pytest.fixture(scope="module")
def still_flight(tmp_path_factory):
    """Level 1 and Level 3 of a simulated flight on which nothing moves."""
    still = {"evolution": False, "velocity": 0, "event": 0, "drift": 0, "roll": 0, "channel_drift": 0}
    clean = {"extinction": None, "missing": False, "blank": False, "spikes": 0}
    simulated = simulate_flight(size=4, n_exposures=6, n_darks=12, seed=3, **still, **clean)
    frames = simulated.write(tmp_path_factory.mktemp("still")).raw
    level1 = ESISLevel1Cube.from_raw(frames, simulated.flight)
    return level1, form_level3(level1), frames


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 3])
def test_simulated_noise_is_as_stated(still_flight, level):
    table = noise_table(still_flight[level // 2], boxes=(1, 2, 4, 8), orders=[3], quiet=1)
    assert (np.abs(table["ratio"] - 1) < np.maximum(0.05, 4 * table["error"])).all(), table
    together = [np.mean(table["ratio"][table["box"] == box]) for box in (1, 2, 4, 8)]
    np.testing.assert_allclose(together, 1, atol=0.05)


@pytest.mark.slow
def test_the_model_of_the_charge_is_found_again(still_flight):
    level1, _, frames = still_flight
    bench = benchmark("noise")
    near, tail, width, *collections = bench.fit(ESISLevel1Cube.from_raw(frames, bench.independent(level1.flight)))
    _, (true_near, true_width), (true_tail, _) = level1.flight.detector.charge_spread
    # About three times the scatter over other seeds: so few pixels of so small a flight are faint.
    found, true = np.array([near, tail, width]), np.array([true_near, true_tail, true_width])
    assert (np.abs(found - true) < [0.1, 0.12, 0.12]).all()
    np.testing.assert_allclose(collections, [c.charge_collection for c in level1.flight.channels], rtol=0.2)


@pytest.mark.slow
def test_significance_of_a_difference_has_unit_width():
    """Two channels that see the same Sun differ by their noise."""
    quiet = {"velocity": 0, "event": 0, "other_lines": False, "vignetting": False, "extinction": None}
    cube = true_cube(simulate_flight(size=2, n_exposures=1, seed=3, blank=False, missing=False, **quiet))
    for first, second in ((1, 2), (2, 3)):
        difference = cube.difference(first, second)
        rows, columns = (n // 4 * 4 for n in difference.shape[1:])
        for pixels in (1, 4):
            part = difference[:, :rows, :columns].rebin((1, pixels, pixels), handle_mask=np.any)
            good = ~part.mask & (part.flags == 0)
            significance = (part.data / part.uncertainty.array)[good]
            assert 0.95 < significance.std() < 1.05, (first, second, pixels)


@pytest.fixture(scope="module")
def flight_frames(flight_data):
    return ESISLevel1Cube.from_raw(flight_data / "esis_level0", frame_numbers=range(109, 117))


@pytest.mark.flight_data
@pytest.mark.filterwarnings("ignore:Missing metadata for observer")
@pytest.mark.parametrize("level", [1, 3])
def test_noise_of_the_flight_is_as_stated(flight_data, flight_frames, level):
    """On frames that the model was not fitted to; both orders agree, so that the drift is gone."""
    # The half of O V has 1100 boxes of 8 pixels or more, whose ratio has an error of 0.04 and is 1 within 0.15.
    cube = flight_frames[..., 900:]
    if level == 3:
        image = flight_data / "esis_derived" / "aia_304_20190930_1808_digitized.fits"
        # Two channels: all of them go the same way.
        # As many are in a fifth of the field.
        cube = form_level3(flight_frames[:, 1:3], sunpy.map.Map(image))[:, :, 400:900, 300:1000]
    table = noise_table(cube, boxes=(1, 4, 8))
    third, fifth = (table[table["order"] == order] for order in (3, 5))
    assert len(third) == len(fifth) == 3 * cube.shape[1]
    small = third["box"] < 8
    np.testing.assert_allclose(third["ratio"][small], fifth["ratio"][small], rtol=0.05)
    for part in (third, fifth):
        assert (part["ratio"] > 0.85).all(), part
        assert (part["ratio"] < 1.15).all(), part
