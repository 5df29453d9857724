"""The Level-3 cube's own methods."""

import dataclasses

import numpy as np
import pytest
from helpers import make_cube

import astropy.units as u

from esis_ndcube import ESIS_1
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.registration.transform import PolynomialTransform


@pytest.fixture(scope="module")
def cube():
    return make_cube(alignments=True)


def test_min_images(cube):
    result = cube.min_images()
    assert result.shape == (5, 12, 14)
    values = np.where(cube.mask | np.isnan(cube.data), np.inf, cube.data)
    expected = np.array([[[min(values[t, :, y, x]) for x in range(14)] for y in range(12)] for t in range(5)])
    good = np.isfinite(expected)
    assert not good.all()
    np.testing.assert_array_equal(result.data[good], expected[good])
    assert np.isnan(result.data[~good]).all()
    np.testing.assert_array_equal(result.mask, ~good)
    assert result.channel is None
    assert "file" not in result.meta
    assert result.history[-1].name == "min_images"
    assert np.all(result[1].time == cube.time[1])
    with pytest.raises(ValueError, match="channel axis"):
        cube[:, 0].min_images()


def test_difference(cube):
    result = cube[:, :, 2:5].difference(3, 1)
    part = cube[:, :, 2:5]
    np.testing.assert_array_equal(result.data, part.data[:, 2] - part.data[:, 0])
    expected = np.sqrt(part.uncertainty.array[:, 2] ** 2 + part.uncertainty.array[:, 0] ** 2)
    np.testing.assert_allclose(result.uncertainty.array, expected, rtol=1e-6)
    np.testing.assert_array_equal(result.mask, part.mask[:, 2] | part.mask[:, 0])
    np.testing.assert_array_equal(result.flags, part.flags[:, 2] | part.flags[:, 0])
    assert result.unit == cube.unit
    assert "channel" not in result.global_coords
    np.testing.assert_array_equal(cube[2].difference(2, 1).data, cube.data[2, 1] - cube.data[2, 0])
    assert len(cube.history) == 2
    np.testing.assert_allclose(result.exposure_time, part.exposure_time[:, [2, 0]].mean(1), rtol=1e-15)
    assert np.all(abs(result.mid_time - part.mid_time[:, 0]) < 1 * u.us)
    assert result[1].exposure_time == result.exposure_time[1]
    assert result.to("ph / (s arcsec2)").shape == result.shape
    assert result.history[-1].parameters["dropped"] == ["file", "normalization", "alignment_final", "alignment_linear"]
    assert not np.nanmax(cube.difference(2, 2).uncertainty.array)
    with pytest.raises(ValueError, match="channel 4, expected one of 1, 2, 3"):
        cube.difference(4, 1)


def test_to_map(cube):
    image = cube[1, 2, 3:10, 2:9]
    sunpy_map = image.to_map()
    np.testing.assert_array_equal(sunpy_map.data, image.data)
    np.testing.assert_array_equal(sunpy_map.mask, image.mask)
    assert sunpy_map.unit == image.unit
    assert sunpy_map.wavelength == 629.732 * u.AA
    assert (sunpy_map.instrument, sunpy_map.detector) == ("ESIS", "ESIS3")
    assert abs((sunpy_map.reference_date - image.time).to_value("s")) < 1e-6
    assert abs(sunpy_map.scale.axis1.to_value("arcsec / pix") - 0.6) < 1e-12
    mine, theirs = image.wcs.pixel_to_world(3, 4), sunpy_map.pixel_to_world(3 * u.pix, 4 * u.pix)
    assert abs(mine.Tx - theirs.Tx).to_value("arcsec") < 1e-9
    assert abs(mine.Ty - theirs.Ty).to_value("arcsec") < 1e-9
    assert sunpy_map.observer_coordinate.lat == mine.observer.lat
    assert image.uncertainty.parent_nddata is image
    for wrong in (cube, cube[0], cube[0, 0, 3]):
        with pytest.raises(ValueError, match="image of one exposure"):
            wrong.to_map()


def shifted(alignment, dx=0.0, dy=0.0, roll=0.0):
    """The alignment of a Sun that moved (arcsec) and turned (deg, about the field center) on the sky."""
    x, y = (float(v.ravel()[0]) for v in alignment.transform.inverse(*center_of(alignment)[:, None]))
    matrix = np.array(alignment.transform.jacobian([x], [y])).reshape(2, 2)
    turn = np.radians(roll)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    new = matrix @ rotation
    offset = center_of(alignment) + matrix @ (np.array([dx, dy]) / 0.6) - new @ [x, y]
    transform = PolynomialTransform.from_affine(
        np.column_stack([new, offset]), origin=alignment.transform.origin, scale=alignment.transform.scale
    )
    return dataclasses.replace(alignment, transform=transform)


def center_of(alignment):
    return ESIS_1.field_stop(alignment.channel, "O V").mean(axis=0)


def test_pointing_finds_known_motion(cube):
    moves = {109: (8.0, -1.0, 0.5), 113: (-3.0, 2.0, -0.2)}
    alignments = cube.alignment_linear.copy()
    for frame, move in moves.items():
        for j in range(3):
            alignments[frame - 109, j] = shifted(alignments[frame - 109, j], *move)
    alignments[1, 1] = None
    meta = cube.meta
    meta = type(meta)({**meta, "alignment_final": alignments}, axes=dict(meta.axes))
    moved = ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=meta)
    table = moved.pointing()
    assert table.colnames == ["time", "frame_number", "channel", "dx", "dy", "roll", "status"]
    assert (table["dx"].unit, table["roll"].unit) == (u.arcsec, u.deg)
    assert table.meta["reference_frame_number"] == 111
    for row in table:
        values = u.Quantity(
            [row["dx"].to_value("arcsec"), row["dy"].to_value("arcsec"), row["roll"].to_value("deg")]
        ).value
        if (row["frame_number"], row["channel"]) == (110, 2):
            assert np.isnan(values).all()
        else:
            np.testing.assert_allclose(values, moves.get(row["frame_number"], (0, 0, 0)), atol=1e-9)
    other = moved[:, 2].pointing(109)
    np.testing.assert_allclose(other["roll"][-1].to_value("deg"), -0.7, atol=1e-9)
    with pytest.raises(ValueError, match="expected one of the cube's"):
        moved.pointing(90)
    with pytest.raises(ValueError, match="no alignments"):
        make_cube((2, 2, 3, 3)).pointing()


def test_alignment_is_that_of_the_stage():
    cube = make_cube((1, 2, 3, 3), alignments=True)
    for stage, alignments in {"linear": cube.alignment_linear, "final": cube.alignment_final}.items():
        cube.meta["stage"] = stage
        assert cube.alignment is alignments


def test_alignment_of_a_slice(cube):
    assert cube.alignment.shape == (5, 3)
    assert cube[1, 2].alignment is cube.alignment[1, 2]
    assert cube[1:3].alignment_linear.shape == (2, 3)
    assert (cube.stage, cube.reference, cube.vignetting.line) == ("final", "flight pose", "O V")
    assert cube[1:3, 0].normalization.shape == (2,)
