"""
Faults of upstream packages that our cubes and WCS do not have.

Where the test of the plain class passes, upstream is fixed: take away ours, and the test.
"""

import pickle

import numpy as np
import pytest
from helpers import START, make_cube

import astropy.units as u
from astropy.nddata import NDData, StdDevUncertainty
from astropy.utils import minversion
from astropy.wcs import WCS
from ndcube import NDCollection, NDCube, NDCubeSequence
from ndcube.meta import NDMeta


def ours():
    return make_cube((4, 3, 12, 14))


def plain():
    """The same of ndcube and astropy alone."""
    cube = ours()
    hdulist = cube.wcs.to_fits(relax=True)
    wcs = WCS(hdulist[0].header, hdulist, fix=False)
    axes = {key: tuple(map(int, of)) for key, of in cube.meta.axes.items()}
    parts = {"mask": cube.mask, "uncertainty": StdDevUncertainty(cube.uncertainty.array), "unit": cube.unit}
    return NDCube(cube.data, wcs=wcs, meta=NDMeta(dict(cube.meta), axes=axes), **parts)


def slices_have_a_header(cube):
    assert cube[1, 2].wcs.to_header()["CTYPE1"] == "HPLN-TAN"


def negative_indices(cube):
    np.testing.assert_array_equal(cube[-1].data, cube.data[-1])


def empty_slices_are_refused(cube):
    with pytest.raises(IndexError):
        cube[2:2]


def global_coords_are_not_shared(cube):
    part = cube[:2]
    part.global_coords.add("note", "custom:note", 1)
    assert "note" not in cube.global_coords


def reprojection_keeps_the_unit(cube):
    assert cube[0, 0].reproject_to(target(cube), shape_out=(12, 14)).unit == cube.unit


def reprojection_keeps_the_mask(cube):
    assert cube[0, 0].reproject_to(target(cube), shape_out=(12, 14)).mask is not None


def reprojection_keeps_the_uncertainty(cube):
    assert cube[0, 0].reproject_to(target(cube), shape_out=(12, 14)).uncertainty is not None


def reprojection_keeps_dropped_coordinates(cube):
    assert set(cube[0, 0].reproject_to(target(cube), shape_out=(12, 14)).global_coords) >= {"time"}


def rebin_keeps_the_uncertainty(cube):
    assert cube.rebin((1, 1, 2, 2)).uncertainty is not None


def rebin_keeps_a_header(cube):
    assert cube[0, 0].rebin((2, 2)).wcs.to_header()["CTYPE1"] == "HPLN-TAN"


def rebin_keeps_dropped_coordinates(cube):
    assert set(cube[0, 0].rebin((2, 2)).global_coords) >= {"time"}


def operands_are_left_alone(cube):
    before = cube.uncertainty.array.copy()
    _ = cube / NDData(np.full(cube.data.shape, 2.0))
    assert cube.uncertainty.parent_nddata is cube
    np.testing.assert_array_equal(cube.uncertainty.array, before)


def sigma_is_not_negative(cube):
    assert (cube * -1).uncertainty.array.min() >= 0


def exploded_parts_have_metadata(cube):
    assert cube.explode_along_axis(0)[1].meta["frame_number"] == cube.meta["frame_number"][1]


def times_are_clipped(cube):
    part = cube.crop([None, None, START - 100 * u.s], [None, None, START + 5 * u.s])
    assert part.shape == (3, 12, 14)


def sequences_are_cropped_along_some_axes(cube):
    corners = [target(cube).pixel_to_world(*pixel) for pixel in ((3, 2), (9, 7))]
    assert NDCubeSequence([cube]).crop(*[[corner, None, None] for corner in corners]).shape == (1, 4, 3, 6, 7)


def table_wcs_are_pickled(cube):
    again = pickle.loads(pickle.dumps(cube.wcs))
    assert np.all(again.pixel_to_world_values(1, 2, 0, 3) == cube.wcs.pixel_to_world_values(1, 2, 0, 3))


def tables_are_written(cube):
    assert "TIME" in cube.wcs.to_fits()


def numbers_are_written_whole(cube):
    crval = cube.wcs.deepcopy()
    crval.wcs.crval = [1 / 3, 1 / 7, *crval.wcs.crval[2:]]
    assert crval.to_header()["CRVAL1"] == 1 / 3


def every_axis_has_a_physical_type(cube):
    assert None not in cube.wcs.world_axis_physical_types


def metadata_are_pickled(cube):
    assert pickle.loads(pickle.dumps(cube.meta))["line"] == "O V"


def target(cube):
    """The celestial part of the WCS, by astropy alone."""
    return WCS(ours().wcs.celestial.to_header())


TRAPS = [
    slices_have_a_header,
    negative_indices,
    empty_slices_are_refused,
    global_coords_are_not_shared,
    reprojection_keeps_the_unit,
    reprojection_keeps_the_mask,
    reprojection_keeps_the_uncertainty,
    reprojection_keeps_dropped_coordinates,
    rebin_keeps_the_uncertainty,
    rebin_keeps_a_header,
    rebin_keeps_dropped_coordinates,
    operands_are_left_alone,
    sigma_is_not_negative,
    exploded_parts_have_metadata,
    times_are_clipped,
    sequences_are_cropped_along_some_axes,
    table_wcs_are_pickled,
    tables_are_written,
    numbers_are_written_whole,
    every_axis_has_a_physical_type,
    metadata_are_pickled,
]


def negative_indices_of_sequences(cube):
    part = NDCubeSequence([cube[:1], cube[1:]], common_axis=0).index_as_cube[-1]
    np.testing.assert_array_equal(part.data, cube.data[-1])


def collections_are_pickled(cube):
    collection = NDCollection([("a", cube), ("b", cube)], aligned_axes="all")
    assert set(pickle.loads(pickle.dumps(collection))) == {"a", "b"}


@pytest.mark.xfail(strict=True, reason="upstream, in classes that are not ours; docs/operations.rst says so")
@pytest.mark.parametrize("trap", [negative_indices_of_sequences, collections_are_pickled])
def test_what_we_do_not_mend(trap):
    trap(ours())


@pytest.mark.slow
@pytest.mark.parametrize("trap", TRAPS)
def test_ours_is_right(trap):
    trap(ours())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.xfail(strict=True, reason="upstream")
@pytest.mark.parametrize(
    "trap",
    # Which astropy 6.1 takes.
    [trap for trap in TRAPS if trap is not negative_indices or minversion("astropy", "7.0")],
)
def test_plain_is_wrong(trap):
    trap(plain())
