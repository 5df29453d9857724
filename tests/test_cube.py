"""The common part of both cubes: slices keep everything, copies are whole."""

import copy
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import assert_bits_equal, assert_cubes_equal, assert_values_equal, make_cube

from astropy.nddata import StdDevUncertainty
from astropy.time import Time

from esis_ndcube.cube import ESISCube
from esis_ndcube.flags import Flag
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.wcs import ESISWCS, SlicedESISWCS

ITEMS = [
    ...,
    (0,),
    (-1, 1),
    (slice(-3, None), slice(0, 2)),
    (slice(None), 2, slice(3, 9), slice(-5, -1)),
    (1, 2, 3),
]


@pytest.fixture(scope="module")
def cube():
    return make_cube()


@pytest.mark.parametrize("item", ITEMS)
def test_slices_keep_everything(cube, item):
    part = cube[item]
    assert type(part) is ESISLevel3Cube
    assert_bits_equal(part.data, cube.data[item])
    assert_bits_equal(part.mask, cube.mask[item])
    assert_bits_equal(part.flags, cube.flags[item])
    assert_bits_equal(part.uncertainty.array, cube.uncertainty.array[item])
    assert part.unit == cube.unit
    planes = item[:2] if isinstance(item, tuple) else ()
    np.testing.assert_array_equal(part.meta["file"], cube.meta["file"][planes])
    np.testing.assert_array_equal(part.exposure_time, cube.exposure_time[planes])
    np.testing.assert_array_equal(part.frame_number, cube.frame_number[planes[:1]])
    assert np.all(part.mid_time == cube.mid_time[planes])
    assert np.all(np.abs((part.time - cube.time[planes[:1]]).to_value("s")) < 1e-9)
    assert part.flight is cube.flight
    assert isinstance(part.wcs, SlicedESISWCS if item == (1, 2, 3) else ESISWCS)


@pytest.mark.parametrize("item", [..., (0,), (-1, 1), (slice(1, 4),), (slice(None), 2), (..., slice(3, 9)), (1, 2, 3)])
def test_every_value_of_images_follows(item):
    cube = make_cube(alignments=True)
    for key in ("field_stop_u", "field_stop_v", "normalization_error"):
        cube.meta.add(key, np.random.default_rng(len(key)).random(cube.shape[:2]), axes=(0, 1))
    part = cube[item]
    assert list(part.meta) == list(cube.meta)
    planes = item[:2] if isinstance(item, tuple) and item[0] is not ... else ()
    names = [name for name in ("time", "channel") if name in part.wcs.array_axis_names]
    for key, axes in cube.meta.axes.items():
        assert_values_equal(part.meta[key], cube.meta[key][planes[: len(axes)]])
        left = [name for name in ("time", "channel")[: len(axes)] if name in names]
        assert [part.wcs.array_axis_names[axis] for axis in part.meta.axes.get(key, ())] == left
    # Binned images, and the parts of the cube one by one.
    if part.data.ndim == 4:
        for result in (part.rebin((1, 1, 3, 1)), part.explode_along_axis(1).data[2]):
            planes = (slice(None), 2) if result.data.ndim == 3 else ()
            for key, axes in part.meta.axes.items():
                assert_values_equal(result.meta[key], part.meta[key][planes[: len(axes)]])


def test_scalars_after_integers(cube):
    image = cube[2, 1]
    assert isinstance(image.time, Time)
    assert image.time.isscalar
    assert (image.channel, image.frame_number, image.line) == (2, 111, "O V")
    assert image.meta["file"] == "2_2.fits"


def test_global_coords_hold_what_was_dropped(cube):
    image = cube[2, 1]
    assert image.global_coords["channel"] == 2
    assert abs((image.global_coords["time"] - cube.time[2]).to_value("s")) < 1e-9
    for row in (image[10], cube[2, 1, 10], cube[:, :, 10][2, 1]):
        assert row.global_coords["channel"] == 2
        assert row.global_coords["time"] == image.global_coords["time"]
    series = cube[:, 1, 3, 4]
    assert series.global_coords["channel"] == 2
    expected = cube.wcs.pixel_to_world(4, 3, 1, 0)[0]
    # The frames differ in time, so the values are compared.
    assert abs(series.global_coords["helioprojective"].Tx - expected.Tx).to_value("arcsec") < 1e-9
    assert len(cube.global_coords) == 0


def test_global_coords_are_not_shared(cube):
    a, b = cube[0], cube[1]
    a.global_coords.add("note", "custom:note", 1)
    part = a[0]
    assert "note" in part.global_coords
    part.global_coords.add("more", "custom:more", 2)
    assert [("note" in x.global_coords, "more" in x.global_coords) for x in (cube, b, a)] == [
        (False, False),
        (False, False),
        (True, False),
    ]


@pytest.mark.parametrize("item", [(slice(0, 2),), (0,), (0, 0), (0, 0, 3), (slice(None), 0, 3, 4)])
@pytest.mark.slow
def test_copies_before_and_after_plotting(item):
    part = make_cube((3, 2, 6, 7))[item]
    for _ in range(2):
        for again in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part), copy.copy(part)):
            assert type(again) is type(part)
            assert_bits_equal(again.data, part.data)
            assert_bits_equal(again.flags, part.flags)
            assert again.global_coords.keys() == part.global_coords.keys()
            if isinstance(part.wcs, ESISWCS):
                assert_cubes_equal(again, part)
        part.plot()
        plt.gcf().canvas.draw()
        plt.close("all")


def test_coordinates_along_axes(cube):
    values = cube.axis_world_coords_values()
    assert values._fields[:2] == ("time", "custom_instrument_channel")
    np.testing.assert_array_equal(values[1].value, [1, 2, 3])
    assert np.all(cube.axis_world_coords("time")[0] == cube.time)


def test_arithmetic_keeps_flags_and_input(cube):
    before = pickle.dumps(cube)
    doubled = cube * 2
    assert_bits_equal(doubled.flags, cube.flags)
    assert type(doubled) is ESISLevel3Cube
    assert doubled.frame_number.tolist() == cube.frame_number.tolist()
    assert pickle.dumps(cube) == before


def test_text(cube):
    assert str(cube).splitlines()[0] == "ESISLevel3Cube: 5 time x 3 channel x 12 y x 14 x, ph / pix, float32"
    assert "steps: bias, despike" in str(cube)
    assert "(frame 111)" in str(cube[2, 1])
    assert repr(cube[2, 1, 3]).startswith("<ESISLevel3Cube: 14 x,")


@pytest.mark.parametrize("item", [None, slice(None, None, 2), [0, 1], np.zeros(5, bool), (0, 0, 0, 0), slice(2, 2)])
def test_refused_indices(cube, item):
    with pytest.raises(IndexError):
        cube[item]


@pytest.mark.parametrize("name", ["mask", "flags", "uncertainty"])
def test_planes_of_another_shape_are_refused(cube, name):
    wrong = np.zeros((2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match=name):
        ESISCube(cube.data, wcs=cube.wcs, **{name: StdDevUncertainty(wrong) if name == "uncertainty" else wrong})


@pytest.mark.parametrize("mask", [True, False, None])
def test_one_mask_for_all(cube, mask, caplog):
    part = ESISLevel3Cube(cube.data, wcs=cube.wcs, mask=mask)[1, 2]
    assert part.mask is mask
    assert not caplog.records


def test_signed_flags_are_refused(cube):
    with pytest.raises(ValueError, match="unsigned"):
        ESISCube(cube.data, wcs=cube.wcs, flags=cube.flags.astype(int))


def test_given_metadata_are_not_changed(cube):
    meta = cube.meta
    before = list(meta), dict(meta.axes), tuple(meta.data_shape)
    ESISCube(cube.data, wcs=cube.wcs, meta=meta)[0, 0]
    assert (list(meta), dict(meta.axes), tuple(meta.data_shape)) == before


def test_flags_that_inform_are_not_invalid():
    assert not Flag.INVALID & (Flag.SPIKE | Flag.OVERLAP)
    assert Flag.INVALID == 1 + 2 + 4 + 16


def test_step_is_what_json_holds():
    step = ProcessingStep("a", {"x": (1, 2)}, "1")
    assert ProcessingStep.from_json(step.to_json()) == step
    assert str(step) == "a(x=[1, 2])"
    with pytest.raises(TypeError, match="JSON"):
        ProcessingStep("a", {"x": np.zeros(2)})
