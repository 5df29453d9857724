"""The result of coalign is looked at, edited, written, read and used."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_cubes_equal

import astropy.units as u
from astropy.table import Table

from esis_ndcube import Coalignment, Flight, coalign, form_level3
from esis_ndcube.flags import Flag
from esis_ndcube.registration.alignment import grid_header


@pytest.fixture(scope="module")
def level1(small_flight):
    return small_flight.level1


@pytest.fixture(scope="module")
def maps(small_flight):
    return small_flight.maps


@pytest.fixture(scope="module")
def found(level1, maps):
    return coalign(level1, maps, max_gap=1 * u.hour)


@pytest.fixture(scope="module")
def cube(level1, found):
    return form_level3(level1, found)


@pytest.fixture(scope="module")
def plain(level1, found):
    return form_level3(level1, found, vignetting=False, normalize=False)


def assert_alignments_equal(one, other):
    assert one.shape == other.shape
    for a, b in zip(one.flat, other.flat, strict=True):
        if a is None or b is None:
            assert a is b
            continue
        np.testing.assert_array_equal(a.transform.coefficients, b.transform.coefficients)
        np.testing.assert_array_equal(a.covariance, b.covariance)
        for name in ("frame_number", "channel", "line", "stage", "reference", "score", "converged", "reason", "shape"):
            assert getattr(a, name) == getattr(b, name) or getattr(a, name) != getattr(a, name), name
        assert (a.time.jd1, a.time.jd2, a.time.scale) == (b.time.jd1, b.time.jd2, b.time.scale)
        assert grid_header(a.grid) == grid_header(b.grid)


@pytest.mark.slow
def test_a_coalignment_gives_the_bits_that_its_reference_gives(small_flight, level1, maps):
    """Here the first fit; tests/level3/test_form_level3.py has the final one with all corrections."""
    options = {"stage": "linear", "vignetting": False, "normalize": False}
    assert_cubes_equal(form_level3(level1, small_flight.aligned, **options), form_level3(level1, maps, **options))


@pytest.mark.slow
def test_nothing_is_fitted_again(level1, found, cube, monkeypatch):
    monkeypatch.setattr("esis_ndcube.level3.form.coalign", lambda *args, **kwargs: pytest.fail("fitted"))
    assert_cubes_equal(form_level3(level1, found), cube)
    (step,) = [step for step in cube.history if step.name == "coalign"]
    assert step.parameters["max_gap"] == 3600
    assert step.parameters["model"] == "independent"


@pytest.mark.slow
def test_written_and_read(level1, found, cube, tmp_path):
    path = tmp_path / "found.ecsv"
    found.write(path)
    # Files keep the name of the column that the first of them had.
    assert "frame" in Table.read(path, format="ascii.ecsv").colnames
    assert "frame_number" in found.to_table().colnames
    back = Coalignment.read(path)
    assert_alignments_equal(back.linear, found.linear)
    assert_alignments_equal(back.final, found.final)
    for name in ("line", "reference", "reference_channel", "options"):
        assert getattr(back, name) == getattr(found, name)
    assert [time.isot for time in back.reference_times] == [time.isot for time in found.reference_times]
    assert {time.scale for time in back.reference_times} == {time.scale for time in found.reference_times}
    assert_cubes_equal(form_level3(level1, back), cube)
    with pytest.raises(FileExistsError):
        found.write(path)
    found.without(frame_number=int(level1.frame_number[0])).write(path, overwrite=True)
    assert Coalignment.read(path).final[0, 0] is None


def test_what_is_no_such_file(tmp_path, found):
    with pytest.raises(FileNotFoundError):
        Coalignment.read(tmp_path / "none.ecsv")
    Table({"a": [1]}).write(tmp_path / "a.ecsv")
    with pytest.raises(ValueError, match=r"a\.ecsv is not a file of Coalignment\.write, or damaged"):
        Coalignment.read(tmp_path / "a.ecsv")
    found.write(tmp_path / "b.ecsv")
    text = (tmp_path / "b.ecsv").read_text()
    (tmp_path / "b.ecsv").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="or damaged"):
        Coalignment.read(tmp_path / "b.ecsv")


def test_looked_at(found):
    table = found.to_table()
    assert len(table) == 2 * found.final.size
    assert table["stage"].tolist() == ["linear"] * found.linear.size + ["final"] * found.final.size
    assert "Coalignment with" in str(found)


def test_an_image_is_left_out(level1, found, plain):
    frame, whole = int(level1.frame_number[1]), plain
    without = form_level3(level1, found.without(frame, channel=2), vignetting=False, normalize=False)
    out = np.zeros(whole.shape[:2], dtype=bool)
    out[1, 1] = True
    assert without.mask[out].all()
    assert np.isnan(without.data[out]).all()
    assert (without.flags[out] == Flag.MISSING).all()
    np.testing.assert_array_equal(without.data[~out], whole.data[~out])
    np.testing.assert_array_equal(without.mask[~out], whole.mask[~out])
    assert without.alignment[1, 1] is None
    # The factors follow from the images that are left, and the result is written and read as any.
    assert np.isfinite(form_level3(level1, found.without(frame)).normalization[0]).all()
    assert found.final[1, 1] is not None


@pytest.mark.slow
def test_another_alignment_is_put_in(level1, found, plain):
    chosen = found.linear[1, 0]
    other = found.with_alignment(replace(chosen, stage="final"))
    images = form_level3(level1, other, vignetting=False, normalize=False)
    linear = form_level3(level1, found, stage="linear", vignetting=False, normalize=False)
    np.testing.assert_array_equal(images.data[1, 0], linear.data[1, 0])
    assert not np.array_equal(images.data[1, 0], plain.data[1, 0], equal_nan=True)
    np.testing.assert_array_equal(images.data[:1], plain.data[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference_channel": 7}, r"got reference channel 7, expected one of .*\[1, 2, 3, 4\]"),
        ({"model": "static"}, "got model 'static', expected 'independent' or 'joint'"),
        ({"degree": 4}, "got degree 4 for the final maps, expected 2 or 3"),
    ],
)
def test_impossible_choices(level1, maps, options, message):
    with pytest.raises(ValueError, match=message):
        coalign(level1, maps, **options)


def test_what_does_not_belong_is_refused(level1, found):
    chosen = found.final[0, 0]
    with pytest.raises(ValueError, match="got frame 7, expected an image that has an alignment"):
        found.without(7)
    with pytest.raises(ValueError, match=r"got frame \d+, channel 9, expected an image that has an alignment"):
        found.without(int(level1.frame_number[0]), 9)
    with pytest.raises(ValueError, match="got an alignment of stage 'pose', expected 'linear' or 'final'"):
        found.with_alignment(replace(chosen, stage="pose"))
    with pytest.raises(ValueError, match="got an alignment of line 'He I', expected 'O V'"):
        found.with_alignment(replace(chosen, line="He I"))
    grid = chosen.grid.deepcopy()
    grid.wcs.crpix += 1
    with pytest.raises(ValueError, match="on another grid"):
        found.with_alignment(replace(chosen, grid=grid))
    with pytest.raises(ValueError, match="expected an image that has an alignment"):
        found.with_alignment(replace(chosen, frame_number=7))
    with pytest.raises(ValueError, match=r"got line 'He I' and a coalignment of 'O V'"):
        form_level3(level1, found, line="He I")
    with pytest.raises(ValueError, match=r"got a coalignment of shape \(2, 4\) and frames of shape \(1, 4\)"):
        form_level3(level1[:1], found)
    turned = replace(found, linear=found.linear[::-1], final=found.final[::-1])
    with pytest.raises(ValueError, match=r"got a coalignment with frame \d+, channel 1 in the place of frame \d+"):
        form_level3(level1, turned)
    nothing = found
    for frame in level1.frame_number:
        nothing = nothing.without(int(frame))
    with pytest.raises(ValueError, match=r"no frame could be aligned with .* \(left out\)"):
        form_level3(level1, nothing)
    with pytest.raises(ValueError, match="got a coalignment of no images"):
        nothing.to_table()


def test_of_part_of_a_flight(level1, found, plain):
    part = replace(found, linear=found.linear[1:, :2], final=found.final[1:, :2])
    cube = form_level3(level1[1:, :2], part, vignetting=False, normalize=False)
    np.testing.assert_array_equal(cube.data, plain.data[1:, :2])
    assert isinstance(cube.flight, Flight)
