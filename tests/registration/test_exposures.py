"""Co-alignment of whole flights, against simulated truth."""

import tomllib

import numpy as np
import pytest
import tomli_w

import astropy.units as u
from ndcube.meta import NDMeta
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import Alignment, Coalignment, ESISLevel1Cube, Flight, coalign
from esis_ndcube.registration import PolynomialTransform, alignments_from_table, alignments_to_table
from esis_ndcube.registration._frame import Frame
from esis_ndcube.registration.reference import bin_image, pixel_size, prepare_references
from esis_ndcube.simulate.demo import coordinate_error

# Frames of darks and others that an alignment does not see are few.
FEW = {"n_darks": 2, "others": False}


@pytest.fixture(scope="module")
def half(flights):
    """Two exposures of a third of the size with all ingredients; the missing and the blank frame are among them."""
    flight = flights(n_exposures=2, size=3, seed=5, **FEW)
    # Level-1 names the frames that it lacks.
    with pytest.warns(match="frame"):
        return flight.simulated, flight.level1, flight.maps


@pytest.fixture(scope="module")
def aligned(half):
    with pytest.warns(match="could not be aligned"):
        return coalign(half[1], half[2])


@pytest.fixture(scope="module")
def small(flights):
    flight = flights(n_exposures=2, size=4, seed=2, n_darks=2, other_lines=False, missing=False, blank=False)
    return flight.simulated, flight.level1, flight.maps


def errors(alignments, simulated):
    """RMS error of the coordinates of every good alignment, in pixels of the grid."""
    good = [a for a in alignments.flat if a.converged]
    return np.array([np.sqrt(np.mean(np.sum(np.square(coordinate_error(a, simulated)[2:]), axis=0))) for a in good])


@pytest.mark.slow
def test_coordinates_of_a_flight(half, aligned):
    simulated = half[0]
    final, linear = errors(aligned.final, simulated), errors(aligned.linear, simulated)
    assert len(final) == 6
    # Errors go with one over the side of the field: thrice those of full size, which benchmarks/accuracy.py measures.
    assert np.median(final) <= 0.36
    assert final.max() <= 0.6
    # The truth bends by more than a pixel, which an affine map cannot follow.
    assert np.median(linear) > 3 * np.median(final)


@pytest.mark.slow
def test_no_good_alignment_is_called_weak(aligned):
    states = [alignment.status for alignment in aligned.final.flat]
    assert states.count("weak") == 0
    lost = states.count("not aligned")
    text = str(aligned).splitlines()
    assert text[0] == f"Coalignment with {aligned.reference}"
    assert text[2].endswith(f"{len(states) - lost} of {len(states)} images aligned, {lost} not aligned")


@pytest.mark.slow
def test_channels_agree_better_than_with_the_reference(half, aligned):
    """Errors that the channels have in common do not matter for the difference of two of them."""
    simulated = half[0]
    rows, columns = simulated.flight.grid_shape
    y, x = np.mgrid[100 : rows - 100 : 20, 100 : columns - 100 : 20].astype(float)
    for row in aligned.final:
        offsets = []
        for alignment in row:
            if alignment.converged:
                true = simulated.truth.to_detector(alignment.frame_number, alignment.channel, x, y, doppler=True)
                offsets.append(np.subtract(alignment.transform.inverse(*true), (x, y)))
        spread = np.array(offsets) - np.mean(offsets, axis=0)
        assert np.sqrt(np.mean(np.sum(spread**2, axis=1))) < 0.21


@pytest.mark.slow
def test_faulty_frames_are_told(half, aligned):
    simulated = half[0]
    faulty = {simulated.missing, simulated.blank}
    for alignment in aligned.final.flat:
        assert alignment.converged != ((alignment.frame_number, alignment.channel) in faulty)
        if not alignment.converged:
            assert alignment.reason


@pytest.mark.slow
def test_alignments_say_what_they_are(half, aligned):
    simulated, level1, maps = half
    assert aligned.final.shape == aligned.linear.shape == level1.data.shape[:2]
    assert aligned.reference_channel == simulated.flight.reference_channel
    for (i, j), alignment in np.ndenumerate(aligned.final):
        assert alignment.frame_number == level1.frame_number[i]
        assert alignment.channel == level1.channel[j]
        assert alignment.shape == level1.data.shape[-2:]
    good = [a for a in aligned.final.flat if a.converged]
    assert {a.stage for a in good} == {"final"}
    assert {a.transform.degree for a in good} == {2}
    assert {a.transform.degree for a in aligned.linear.flat} == {1}
    assert all(a.reference.startswith("channel") for a in good if a.channel != aligned.reference_channel)
    # Each exposure goes with the reference image nearest in time.
    for time, reference in zip(level1.time, aligned.reference_times, strict=True):
        distances = [abs((m.reference_date - time).sec) for m in maps]
        assert abs((reference - time).sec) == pytest.approx(min(distances))
    # The grid sees the Sun from where the first reference did.
    first = next(m for m in maps if m.reference_date == aligned.reference_times[0])
    assert aligned.grid.wcs.aux.dsun_obs == pytest.approx(first.observer_coordinate.radius.to_value("m"), rel=1e-9)


@pytest.mark.slow
def test_exposures_do_not_depend_on_each_other_or_on_the_workers(small):
    """And nothing is changed."""
    _, level1, maps = small
    before = level1.data.copy(), level1.flags.copy(), maps[0].data.copy()
    both = coalign(level1, maps, workers=2)
    alone = coalign(level1[1:], maps, workers=1)
    for a, b in zip(alone.final[0], both.final[1], strict=True):
        np.testing.assert_array_equal(a.transform.coefficients, b.transform.coefficients)
        np.testing.assert_array_equal(a.covariance, b.covariance)
    for a, b in zip(before, (level1.data, level1.flags, maps[0].data), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_a_reference_the_pose_is_the_pointing(small):
    simulated, level1, _ = small
    result = coalign(level1)
    flight = simulated.flight
    assert result.reference.startswith("flight pose")
    assert str(flight.pose_frame) in result.reference
    row = result.final[list(level1.frame_number).index(flight.pose_frame)]
    pose = PolynomialTransform.from_affine(flight.pose(flight.reference_channel))
    x, y = np.array([100.0, 200.0, 150.0]), np.array([100.0, 150.0, 220.0])
    own = row[flight.reference_channel - 1].transform(x, y)
    np.testing.assert_allclose(own, pose(x, y), atol=0.05)
    # The other channels' poses are off by up to 0.5 arcsec; the fit mends that.
    for alignment in row:
        true = np.array(simulated.truth.to_detector(alignment.frame_number, alignment.channel, x, y, doppler=True))
        reference = simulated.truth.to_detector(alignment.frame_number, flight.reference_channel, x, y, doppler=True)
        common = np.subtract(own, reference)
        jacobians = [t.jacobian(x, y) for t in (alignment.transform, row[flight.reference_channel - 1].transform)]
        moved = np.einsum("nij,njk,kn->in", jacobians[0], np.linalg.inv(jacobians[1]), common)
        error = np.array(alignment.transform(x, y)) - true - moved
        assert np.abs(error).max() < 0.4


def test_another_reference_channel(small):
    simulated, level1, maps = small
    result = coalign(level1, maps, reference_channel=3)
    assert result.reference_channel == 3
    assert result.final[0, 0].reference == "channel 3"
    assert result.final[0, 2].reference != "channel 3"
    assert np.median(errors(result.final, simulated)) < np.median(errors(result.linear, simulated))


def test_a_coarse_reference_keeps_the_reference_channel_affine(small):
    _, level1, maps = small
    coarse = [m.superpixel([4, 4] * u.pix) for m in maps]
    result = coalign(level1, coarse)
    assert {a.transform.degree for a in result.final[:, 1]} == {1}
    assert {a.transform.degree for a in result.final[:, 0]} == {2}
    assert all(a.converged for a in result.final.flat)


def test_bad_references_are_errors(small):
    _, level1, maps = small
    far = maps[0].shift_reference_coord(3000 * u.arcsec, 0 * u.arcsec)
    with pytest.raises(ValueError, match=r"covers 0% of the field of view"):
        coalign(level1, far)
    with pytest.raises(TypeError, match="ndarray"):
        coalign(level1, [maps[0].data])
    with pytest.raises(ValueError, match="empty list"):
        coalign(level1, [])
    with pytest.raises(ValueError, match=r"reference channel 9.*\[1, 2, 3, 4\]"):
        coalign(level1, maps, reference_channel=9)
    with pytest.raises(ValueError, match=r"unknown line 'Fe XII'.*O V"):
        coalign(level1, maps, line="Fe XII")


def test_a_frame_without_light_anywhere_can_not_point(small):
    level1 = small[1]
    dark = ESISLevel1Cube(
        np.zeros_like(level1.data),
        wcs=level1.wcs,
        mask=level1.mask,
        flags=level1.flags,
        meta=level1.meta,
        unit="electron",
    )
    with pytest.raises(ValueError, match="no usable frame"):
        coalign(dark)


@pytest.mark.slow
def test_a_corner_of_the_sun_is_no_alignment(small):
    """Where a few percent of the field of view show anything, a fit may look good and be anywhere."""
    _, level1, maps = small
    data = level1.data.copy()
    vertices = level1.flight.field_stop(1).mean(axis=0).astype(int)
    seen = np.zeros(data.shape[2:], dtype=bool)
    seen[vertices[1] - 24 : vertices[1] + 24, vertices[0] - 24 : vertices[0] + 24] = True
    data[0, 0][~seen] = 0
    parts = {name: getattr(level1, name) for name in ("wcs", "uncertainty", "mask", "flags", "unit", "meta")}
    with pytest.warns(match="frames could not be aligned"):
        aligned = coalign(ESISLevel1Cube(data, **parts), maps)
    for alignment in (aligned.linear[0, 0], aligned.final[0, 0]):
        assert not alignment.converged
        assert "pixels overlap" in alignment.reason
    assert aligned.final[0, 1].converged


def test_binned_transforms_are_the_same_map(small):
    simulated, level1, maps = small
    references = prepare_references(level1, maps, line="O V", reference_channel=2)
    time, grid = level1.mid_time[0, 0], references.grid
    pose = Alignment.from_pose(level1.flight, 1, frame_number=level1.frame_number[0], line="O V", time=time, grid=grid)
    frame = Frame(level1.data[0, 0], level1.mask[0, 0], pose, simulated.flight)
    transform = pose.transform
    binned = frame.to_binned(transform, 4)
    # Pixel (x, y) of an image binned by 4 has its center at 4 x + 1.5 of the unbinned one.
    x, y = 20.0, 31.0
    u, v = transform(4 * x + 1.5, 4 * y + 1.5)
    box_v, box_u = (part.start for part in frame.box)
    np.testing.assert_allclose(binned(x, y), ((u - box_u - 1.5) / 4, (v - box_v - 1.5) / 4), rtol=1e-12)
    back = frame.from_binned(binned, 4)
    np.testing.assert_allclose(back.coefficients, transform.coefficients, rtol=1e-12)


def test_bins_are_means_of_valid_pixels():
    rng = np.random.default_rng(0)
    image, valid = rng.normal(size=(9, 13)), rng.random((9, 13)) > 0.4
    image[0, 0], valid[0, 0] = np.nan, False
    binned, good = bin_image(image, valid, 2)
    assert binned.shape == (4, 6)
    for y, x in np.ndindex(4, 6):
        block = slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2)
        assert good[y, x] == (valid[block].sum() >= 2)
        if valid[block].any():
            assert binned[y, x] == pytest.approx(image[block][valid[block]].mean())


def test_pixel_size_of_a_turned_grid(small):
    grid = small[0].flight.grid.deepcopy()
    grid.wcs.pc = [[0.6, -0.8], [0.8, 0.6]]
    assert pixel_size(grid) == pytest.approx(0.6, rel=1e-6)


@pytest.mark.slow
def test_a_pose_far_off_is_searched_for(small):
    """All poses of the flight wrong by 30 arcsec, 4 degrees and 2 %, as if nobody had measured them."""
    simulated, level1, maps = small
    turn = np.radians(4)
    wrong = 1.02 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    table = tomllib.loads(simulated.flight.toml)
    for row in table["channels"]:
        row["field_stop"] = simulated.flight.channel(row["number"]).field_stop.tolist()
        row["center"] = (np.array(row["center"]) + np.array(row["matrix"]) @ [40.0, -30.0]).tolist()
        row["matrix"] = (np.array(row["matrix"]) @ wrong).tolist()
    meta = NDMeta(dict(level1.meta) | {"flight": Flight.from_toml(tomli_w.dumps(table))}, axes=level1.meta.axes)
    parts = {"wcs": level1.wcs, "mask": level1.mask, "flags": level1.flags, "unit": level1.unit}
    lost = ESISLevel1Cube(level1.data, meta=meta, **parts)[:1]
    found, known = (coalign(cube, maps) for cube in (lost, level1[:1]))
    assert all(a.converged for a in found.final.flat)
    x, y = np.array([100.0, 200.0, 150.0]), np.array([100.0, 150.0, 220.0])
    for a, b in zip(found.linear.flat, known.linear.flat, strict=True):
        np.testing.assert_allclose(a.transform(x, y), b.transform(x, y), atol=0.1)


def test_the_joint_model_needs_exposures(small):
    _, level1, maps = small
    with pytest.raises(ValueError, match="got 2 exposures with a good channel 2, expected 3"):
        coalign(level1, maps, model="joint")
    assert coalign(level1, maps).options["model"] == "independent"
    with pytest.raises(ValueError, match="got model 'static', expected 'independent' or 'joint', or None"):
        coalign(level1, maps, model="static")


@pytest.fixture(scope="module")
def several(flights):
    """Four exposures: a joint model needs three of which a channel can be aligned."""
    return flights(n_exposures=4, size=4, seed=4, missing=False, blank=False, **FEW)


@pytest.mark.slow
def test_the_joint_model_of_a_flight(several, tmp_path):
    simulated, joint = several.simulated, several.aligned
    alone = coalign(several.level1, several.maps, model="independent")
    assert alone.joint is None
    assert joint.options["model"] == "joint"
    assert joint.joint.residual.shape == (4, 4)
    joint.write(tmp_path / "joint.ecsv")
    back = Coalignment.read(tmp_path / "joint.ecsv")
    assert back.options == joint.options
    for a, b in zip(back.final.flat, joint.final.flat, strict=True):
        np.testing.assert_array_equal(a.transform.coefficients, b.transform.coefficients)
        np.testing.assert_array_equal(a.covariance, b.covariance)
    # Its changes are of the size of the errors of the independent fits, and it makes them no larger.
    before = errors(alone.final, simulated)
    assert 0 < np.nanmax(joint.joint.residual) < np.max(before)
    assert np.median(errors(joint.final, simulated)) < 1.05 * np.median(before)
    for a, b in zip(alone.linear.flat, joint.linear.flat, strict=True):
        np.testing.assert_array_equal(a.transform.coefficients, b.transform.coefficients)


@pytest.mark.slow
def test_error_bars_of_coordinates(half, aligned):
    """Errors, of features, agree with their variances; noise alone would leave chi-square above 10."""
    simulated, found = half[0], aligned
    rows, columns = simulated.flight.grid_shape
    y, x = (a.ravel() for a in np.mgrid[100 : rows - 100 : 20, 100 : columns - 100 : 20].astype(float))
    sky, relative = [], []
    for row in found.final:
        anchor = row[found.reference_channel - 1]
        seen = simulated.truth.to_detector(anchor.frame_number, anchor.channel, x, y, doppler=True)
        for alignment in row:
            if not alignment.converged:
                continue
            true = simulated.truth.to_detector(alignment.frame_number, alignment.channel, x, y, doppler=True)
            off = np.subtract(alignment.transform.inverse(*true), (x, y)) * 0.6
            sigma = [q.to_value(u.arcsec) for q in alignment.coordinate_uncertainty(x, y)]
            sky.append(np.mean((off / sigma) ** 2))
            if alignment is not anchor:
                off = np.subtract(alignment.transform.inverse(*true), anchor.transform.inverse(*seen)) * 0.6
                sigma = [q.to_value(u.arcsec) for q in alignment.coordinate_uncertainty(x, y, relative=True)]
                relative.append(np.mean((off / sigma) ** 2))
    # Exposures and channels have features in common, which make few of these numbers independent.
    assert 0.4 < np.mean(sky) < 2.5
    assert 0.5 < np.mean(relative) < 2.0


@pytest.mark.slow
def test_the_joint_model_carries_weak_frames(several):
    """A frame in which a map cannot be fitted is shifted from the model's; one without light stays lost."""
    simulated, level1, maps = several.simulated, several.level1, several.maps
    data, rng = np.array(level1.data), np.random.default_rng(0)
    spread = data[3, 3].std()
    data[3, 3] = 0.08 * data[3, 3] + rng.normal(0, 0.25 * spread, data[3, 3].shape)
    data[2, 0] = rng.normal(0, 10, data[2, 0].shape)
    parts = {name: getattr(level1, name) for name in ("wcs", "meta", "mask", "flags", "unit")}
    weak = ESISLevel1Cube(data, **parts)
    with pytest.warns(match="frame 125 channel 4"):
        alone = coalign(weak, maps, model="independent")
    assert not alone.final[3, 3].converged
    with pytest.warns(match=r"1 of 16 frames could not be aligned and are left out: frame 124 channel 1"):
        joint = coalign(weak, maps)
    carried = joint.final[3, 3]
    assert carried.converged
    assert carried.reason == "shifted from the joint model"
    assert errors(joint.final[3:, 3:], simulated)[0] < 0.6
    lon, lat = carried.coordinate_uncertainty(200, 200)
    assert 0 < lon < 0.6 * u.arcsec
    assert np.isfinite(lat)


@pytest.mark.slow
def test_cubic_maps_follow_a_cubic_distortion(flights):
    flight = flights(n_exposures=1, size=4, seed=6, cubic_distortion=3.0, **FEW)
    simulated, level1, maps = flight.simulated, flight.level1, flight.maps
    with pytest.warns(SunpyUserWarning, match=r"maps lack terms .* \(degree 3, .* give degree=3 for cubic maps"):
        found = coalign(level1, maps)
    for alignment in found.final.flat:
        assert alignment.misfit.degree == 3
        assert alignments_from_table(alignments_to_table([[alignment]]))[0, 0].misfit == alignment.misfit
    quadratic, cubic = (errors(some.final, simulated) for some in (found, coalign(level1, maps, degree=3)))
    assert np.median(cubic) < 0.7 * np.median(quadratic)
    with pytest.raises(ValueError, match="got degree 4 for the final maps, expected 2 or 3"):
        coalign(level1, maps, degree=4)
