"""Traps of ndcube that our cubes do not fall into, and what the table of operations does not cover."""

import dask
import numpy as np
import pytest
from helpers import assert_cubes_equal, daily, make_cube, make_lazy
from reproject import reproject_adaptive, reproject_exact, reproject_interp

import astropy.units as u
from astropy.nddata import NDData, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.time import Time
from astropy.wcs import WCS
from ndcube import NDCube, NDCubeSequence
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube.flags import Flag
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.wcs import ESISWCS


@pytest.fixture
def cube():
    return make_cube((4, 3, 12, 14), alignments=True)


PLACES = [(0, 0), (20, 0), (3, 19), (11.5, 7.25)]


def changed(cube, **parts):
    kept = {name: getattr(cube, name) for name in ("data", "wcs", "uncertainty", "mask", "flags", "meta", "unit")}
    return type(cube)(**kept | parts)


def test_division_by_nddata_leaves_the_cube_alone(cube):
    sigma = cube.uncertainty.array.copy()
    result = cube / NDData(np.full(cube.shape, 2.0))
    assert cube.uncertainty.parent_nddata is cube
    np.testing.assert_array_equal(cube.uncertainty.array, sigma)
    np.testing.assert_allclose(result.uncertainty.array, sigma / 2, rtol=1e-6)


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty])
def test_no_sigma_is_negative_and_kinds_stay(cube, kind):
    values = np.full(cube.shape, 4.0)
    result = changed(cube, uncertainty=kind(values)) * -3
    assert type(result.uncertainty) is kind
    np.testing.assert_allclose(result.uncertainty.array, 12 if kind is StdDevUncertainty else 36)


def test_a_cube_and_itself_are_not_independent(cube):
    assert not np.nanmax((cube - cube).uncertainty.array)
    np.testing.assert_allclose((cube * cube).uncertainty.array, (cube**2).uncertainty.array, rtol=1e-6)


def test_sigma_of_arithmetic_is_that_of_many_trials():
    rng, shape = np.random.default_rng(1), (1, 1, 4, 5)
    cube = make_cube(shape)
    x, y = rng.uniform(10, 20, shape), rng.uniform(10, 20, shape)
    one, two = (
        ESISLevel3Cube(v, wcs=cube.wcs, uncertainty=StdDevUncertainty(np.full(shape, s)))
        for v, s in ((x, 0.2), (y, 0.3))
    )
    a, b = x + rng.normal(0, 0.2, (20000, *shape)), y + rng.normal(0, 0.3, (20000, *shape))
    result = (one * 2 - two) / two + 3 / one
    # `two` stands twice: its errors are taken for independent, which for this sum is what is documented.
    independent = (a * 2 - b) / (y + rng.normal(0, 0.3, b.shape)) + 3 / (x + rng.normal(0, 0.2, a.shape))
    np.testing.assert_allclose(result.uncertainty.array, independent.std(axis=0), rtol=0.05)


def test_operands_that_do_not_fit(cube):
    with pytest.raises(u.UnitConversionError, match="multiply one by a unit"):
        cube + 1
    with pytest.raises(TypeError, match="with coordinates"):
        cube + NDCube(cube.data, wcs=cube.wcs, unit=cube.unit)
    with pytest.raises(ValueError, match="pixels lie elsewhere"):
        cube[..., 1:] - cube[..., :-1]
    with pytest.raises(ValueError, match="slice one of them"):
        cube - cube[1:]
    for value in ("2", None, [cube]):
        with pytest.raises(TypeError, match=f"got a value of type {type(value).__name__}, expected numbers"):
            cube * value
    for shape in ((13,), (2, 4, 3, 12, 14)):
        with pytest.raises(ValueError, match="expected one that fits the shape of the cube"):
            cube * np.ones(shape)
    with pytest.raises(ValueError, match="on the left"):
        cube[0, 0] - cube


def test_axes_of_cubes_are_matched_by_name(cube):
    result = cube - cube[:, 1]
    np.testing.assert_array_equal(result.data, cube.data - cube.data[:, 1:2])
    np.testing.assert_array_equal(result.mask, cube.mask | cube.mask[:, 1:2])
    running = cube[1:] - cube[:-1]
    assert np.all(running.time == cube.time[1:])
    pair = cube[:, 2] - cube[:, 0]
    assert pair.channel is None
    assert pair.history[-1].parameters["channel"] == 1


def test_unknown_uncertainty_is_left_out_aloud(cube):
    with pytest.warns(SunpyUserWarning, match="no uncertainty"):
        result = changed(cube, uncertainty=UnknownUncertainty(np.ones(cube.shape))) * 2
    assert result.uncertainty is None


def test_rates_use_the_numbers_of_the_flight(cube):
    rate = cube.to("ph / (s arcsec2)")
    area = np.prod(cube.flight.detector.pixel_scale.to_value("arcsec"))
    expected = cube.data / cube.exposure_time.to_value("s")[:, :, None, None] / area
    np.testing.assert_allclose(rate.data, expected, rtol=1e-6)
    with pytest.raises(u.UnitConversionError, match="expected one that"):
        cube.to("m")


def test_crop_in_time_clips(cube):
    times = cube.time
    early, late = times[0] - 100 * u.s, times[-1] + 100 * u.s
    assert cube.crop([None, None, early], [None, None, times[1]]).frame_number.tolist() == [109, 110]
    assert cube.crop([None, None, times[2]], [None, None, late]).frame_number.tolist() == [111, 112]
    assert cube.crop([None, 2, early], [None, 3, late]).channel.tolist() == [2, 3]
    seconds = cube.wcs._exposures.seconds
    part = cube.crop_by_values(
        [None, None, None, seconds[0] - 90], [None, None, None, seconds[1]], units=[None] * 3 + ["s"]
    )
    assert part.frame_number.tolist() == [109, 110]
    with pytest.raises(ValueError, match="expected some of those of the cube"):
        cube.crop([None, None, late], [None, None, late + 5 * u.s])
    with pytest.raises(ValueError, match="expected some of 1, 2, 3"):
        cube.crop([None, 7, None], [None, 8, None])


def test_sequences_are_cropped_and_indexed_by_ranges(cube):
    sequence = NDCubeSequence([cube[:1], cube[1:]], common_axis=0)
    corners = [[cube.wcs.celestial.pixel_to_world(x, y), channel, None] for x, y, channel in ((3, 2, 2), (9, 7, 3))]
    cropped = sequence.crop(*corners)
    assert cropped.shape[2:] == (2, 6, 7)
    np.testing.assert_array_equal(cropped.data[1].data, cube.data[1:, 1:, 2:8, 3:10])
    values = [[corner.Tx, corner.Ty, channel, None] for corner, channel, _ in corners]
    assert sequence.crop_by_values(*values).shape == cropped.shape
    parts = sequence.index_as_cube[:3, 1, 2:8].data
    assert [part.frame_number.tolist() for part in parts] == [[109], [110, 111]]
    assert all(part.channel == 2 for part in parts)
    np.testing.assert_array_equal(parts[1].data, cube.data[1:3, 1, 2:8])


def test_half_a_position_is_refused(cube):
    with pytest.raises(ValueError, match="one coordinate of a position"):
        cube.crop_by_values([0 * u.arcsec, None, None, None])


def test_whole_numbers_of_numpy_keep_the_type(cube):
    assert (cube ** np.int64(2)).data.dtype == cube.data.dtype


def test_exposures_are_joined(cube):
    result = cube.rebin((2, 1, 1, 1), np.sum)
    seconds = (cube.time - cube.time[0]).to_value("s").reshape(2, 2).mean(1)
    np.testing.assert_allclose((result.time - cube.time[0]).to_value("s"), seconds, atol=1e-6)
    np.testing.assert_allclose(result.exposure_time, cube.exposure_time[::2] + cube.exposure_time[1::2])
    mean = cube.rebin((2, 1, 1, 1))
    np.testing.assert_allclose(mean.exposure_time, result.exposure_time / 2)
    # Light was gathered for as long, whatever is made of it.
    for joined in (result, mean):
        np.testing.assert_allclose(joined.wcs.exposure_time, cube.wcs.exposure_time[::2] + cube.wcs.exposure_time[1::2])
    assert isinstance(result.wcs, ESISWCS)
    # Metadata of single exposures are gone, and the history says so.
    assert result.frame_number is None
    assert "frame_number" in result.history[-1].parameters["dropped"]
    assert result.alignment is None


def test_rebin_knows_rotated_pixels(cube):
    rotated = cube.wcs.deepcopy()
    rotated.wcs.pc = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    part = changed(cube, wcs=rotated)
    for bins in ((1, 1, 2, 2), (1, 1, 3, 2), (1, 1, 12, 1)):
        binned = part.rebin(bins)
        y, x = np.indices(binned.shape[-2:])
        expected = rotated.celestial.pixel_to_world_values(bins[3] * (x + 0.5) - 0.5, bins[2] * (y + 0.5) - 0.5)
        np.testing.assert_allclose(binned.wcs.celestial.pixel_to_world_values(x, y), expected, atol=1e-6 / 3600)


def test_rebin_refuses_and_tells(cube):
    for bins, text in (((1, 3, 1, 1), "different directions"), ((1, 1, 5, 1), "divisors"), ((1, 1), "for each axis")):
        with pytest.raises(ValueError, match=text):
            cube.rebin(bins)
    with pytest.warns(SunpyUserWarning, match="median"):
        result = cube.rebin((1, 1, -1, -1), np.median)
    valid = np.where(cube.mask, np.nan, cube.data)
    np.testing.assert_allclose(result.data[..., 0, 0], np.nanmedian(valid, axis=(2, 3)), rtol=1e-6)
    assert result.uncertainty is None


def test_extremes_and_correlated_pixels(cube):
    flat = np.where(cube.mask, np.nan, cube.data).reshape(4, 3, -1)
    result = cube.rebin((1, 1, -1, -1), np.max)
    np.testing.assert_array_equal(result.data[..., 0, 0], np.nanmax(flat, axis=-1))
    sigma = np.take_along_axis(cube.uncertainty.array.reshape(4, 3, -1), np.nanargmax(flat, -1)[..., None], -1)[..., 0]
    np.testing.assert_array_equal(result.uncertainty.array[..., 0, 0], sigma)
    ratio = (
        cube.rebin((1, 1, 2, 2), correlation_factor=1.43).uncertainty.array / cube.rebin((1, 1, 2, 2)).uncertainty.array
    )
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 1.43, rtol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "function"),
    [("interpolation", reproject_interp), ("adaptive", reproject_adaptive), ("exact", reproject_exact)],
)
@pytest.mark.slow
def test_reprojection_is_that_of_reproject(algorithm, function):
    cube = make_cube((2, 2, 24, 26))
    clean = changed(cube, data=np.nan_to_num(cube.data), mask=None)
    wcs = cube.wcs.celestial.deepcopy()
    wcs.wcs.cdelt = wcs.wcs.cdelt * 1.1
    wcs.wcs.pc = [[0.96, -0.28], [0.28, 0.96]]
    wcs.wcs.crpix = np.add(wcs.wcs.crpix, [0.3, 0.6])
    result, footprint = clean.reproject_to(wcs, algorithm, shape_out=(20, 21), return_footprint=True)
    # The last bit of a pixel size changes results of reproject_exact by 0.003.
    target = result.wcs.celestial
    np.testing.assert_allclose(target.wcs_pix2world(PLACES, 0), wcs.wcs_pix2world(PLACES, 0), rtol=1e-12, atol=1e-14)
    expected, expected_footprint = function((clean.data, cube.wcs.celestial), target, shape_out=(20, 21))
    good = np.isfinite(expected) & (expected_footprint > 0.5)
    assert good.mean() > 0.3
    np.testing.assert_allclose(result.data[good], expected[good], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(footprint[good], expected_footprint[good], atol=1e-6)
    assert (result.flags[result.mask] & Flag.OUTSIDE).any()
    assert np.all(result.time == cube.time)


@pytest.mark.parametrize("algorithm", ["interpolation", "adaptive", "exact"])
@pytest.mark.slow
def test_sigma_of_reprojection_is_that_of_many_trials(algorithm):
    rng, shape = np.random.default_rng(3), (300, 1, 10, 11)
    one = make_cube((1, 1, *shape[2:]))
    wcs = one.wcs.celestial.deepcopy()
    wcs.wcs.cdelt = wcs.wcs.cdelt * 1.2
    wcs.wcs.crpix = np.add(wcs.wcs.crpix, [0.4, 0.3])
    # Noise that varies slowly, as that of an image does.
    y, x = np.indices(shape[2:])
    sigma = np.broadcast_to(1 + 0.03 * x + 0.02 * y, (1, 1, *shape[2:])).copy()
    noise = sigma * rng.normal(size=shape)
    cube = changed(one, data=noise[:1], uncertainty=StdDevUncertainty(sigma), mask=None, flags=None)
    result = cube.reproject_to(wcs, algorithm, shape_out=(8, 8))
    function = {"interpolation": reproject_interp, "adaptive": reproject_adaptive, "exact": reproject_exact}[algorithm]
    trials, _ = function((noise[:, 0], one.wcs.celestial), wcs, shape_out=(8, 8))
    good = np.isfinite(result.data[0, 0]) & np.isfinite(trials).all(axis=0)
    assert good.sum() > 20
    ratio = result.uncertainty.array[0, 0][good] / trials.std(axis=0)[good]
    assert abs(np.median(ratio) - 1) < 0.05
    assert abs(ratio - 1).max() < 0.25


def test_identity_is_exact_and_nan_does_not_spread(cube):
    result = cube.reproject_to(cube.wcs)
    bad = cube.mask | np.isnan(cube.data)
    np.testing.assert_array_equal(np.isnan(result.data), bad)
    np.testing.assert_allclose(result.data[~bad], cube.data[~bad], rtol=1e-6)


def test_target_with_another_observer(cube):
    header = cube[0, 0].wcs.to_header()
    header["HGLN_OBS"] = 0.5
    header["NAXIS1"], header["NAXIS2"] = 14, 12
    result = cube.reproject_to(WCS(header))
    expected, _ = reproject_interp((np.nan_to_num(cube.data), cube.wcs.celestial), WCS(header), shape_out=(12, 14))
    assert result.wcs.wcs.aux.hgln_obs == pytest.approx(0.5)
    assert np.all(result.time == cube.time)
    assert expected.shape == result.shape


def test_reprojection_refuses(cube):
    with pytest.raises(ValueError, match="algorithm 'spline'"):
        cube.reproject_to(cube.wcs, "spline")
    lazy = make_lazy(cube)[0]
    with pytest.raises(ValueError, match="got order 'cubic', expected 0 to 3 or one of nearest-neighbor"):
        lazy.reproject_to(cube.wcs, order="cubic")
    with pytest.raises(TypeError, match="unexpected keyword argument 'kernel'"):
        lazy.reproject_to(cube.wcs, kernel="gaussian")
    with pytest.raises(ValueError, match="whole images on the sky"):
        make_cube((1, 2, 5, 6), level=1).reproject_to(cube.wcs)
    with pytest.raises(ValueError, match="give shape_out"):
        cube.reproject_to(WCS(cube[0, 0].wcs.to_header()))


def test_exploded_parts_keep_their_metadata(cube):
    sequence = cube.explode_along_axis(-4)
    assert [part.frame_number for part in sequence.data] == cube.frame_number.tolist()
    assert sequence.meta["line"] == "O V"
    assert all(part.alignment.shape == (3,) for part in sequence.data)
    with pytest.raises(IndexError, match="got axis 4, expected -4 to 3"):
        cube.explode_along_axis(4)


@pytest.mark.parametrize(
    ("operation", "images"),
    [
        (lambda cube: cube * 2 - cube, [(1, 0)]),
        (lambda cube: cube.to("ph / (s arcsec2)"), [(1, 0)]),
        (lambda cube: cube.reproject_to(cube.wcs, "adaptive"), [(1, 0)]),
        (lambda cube: cube.rebin((1, 1, 2, 2)).difference(3, 1), [(1, 0), (1, 2)]),
        (lambda cube: cube.min_images(), [(1, 0), (1, 1), (1, 2)]),
        (lambda cube: cube.rebin((2, 1, 1, 1)), [(2, 0), (3, 0)]),
        (lambda cube: NDCubeSequence([cube[:1], cube[1:]], common_axis=0).index_as_cube[:3].data[1], [(2, 0)]),
    ],
)
def test_one_image_of_a_lazy_result_reads_what_it_is_made_of(cube, operation, images):
    lazy, read, read_masks = make_lazy(cube)
    result = operation(lazy)
    image = result[1] if result.data.ndim == 3 else result[1, 0]
    assert not read
    assert not read_masks
    dask.compute(image.data, image.mask)
    assert sorted(read) == images
    assert set(read_masks) == set(images)


@pytest.mark.slow
def test_results_can_be_written(cube, tmp_path):
    for number, result in enumerate(
        (cube * 2, cube.rebin((2, 1, 2, 2)), cube.reproject_to(cube.wcs), cube.difference(2, 1))
    ):
        path = tmp_path / f"{number}.fits"
        result.write(path)
        again = ESISLevel3Cube.read(path)
        np.testing.assert_array_equal(again.data, result.data)
        assert [step.name for step in again.history] == [step.name for step in result.history]


@pytest.mark.parametrize("algorithm", daily("interpolation", "adaptive", "exact"))
def test_reprojection_in_parallel_gives_the_same_bits(cube, algorithm):
    target = cube.wcs.celestial
    target.wcs.crpix += 0.4, -0.3
    target.wcs.cdelt *= 1.2
    cube = cube[:1, :1]
    expected, footprint = cube.reproject_to(target, algorithm, return_footprint=True)
    assert np.isfinite(expected.data).mean() > 0.2
    options = {"block_size": (6, 7), "parallel": 2, "return_footprint": True}
    result, again = cube.reproject_to(target, algorithm, **options)
    # The history is the same as well.
    assert_cubes_equal(result, expected)
    np.testing.assert_array_equal(again, footprint)


def test_extra_coordinates_go_along(cube):
    cube.extra_coords.add("score", 0, np.arange(4.0) * u.one)
    cube.extra_coords.add("when", (0,), cube.time)
    for result in (cube * 2, cube.reproject_to(cube.wcs)):
        assert set(result.extra_coords.keys()) == {"score", "when"}
        coordinates = result.axis_world_coords(wcs=result.extra_coords)
        (score,) = [part for part in coordinates if isinstance(part, u.Quantity)]
        (when,) = [part for part in coordinates if isinstance(part, Time)]
        np.testing.assert_allclose(score.value, np.arange(4.0))
        assert np.all(abs((when - cube.time).to_value("s")) < 1e-6)
