import numpy as np
import pytest
from scipy.ndimage import center_of_mass

import astropy.units as u
from astropy import constants as const
from astropy.time import Time
from ndcube.meta import NDMeta

from esis_ndcube import ESIS_1, Alignment, ESISLevel3Cube
from esis_ndcube.resample import reproject_alignment
from esis_ndcube.wcs import level3_wcs

TIME = Time(["2019-09-30T18:08:36.6"])
CHANNELS = [1, 2, 3, 4]
VELOCITY = 60 * u.km / u.s


@pytest.fixture(scope="module")
def alignments():
    pose = {"frame_number": 124, "line": "O V", "time": TIME[0], "grid": ESIS_1.grid}
    return np.array([[Alignment.from_pose(ESIS_1, channel, **pose) for channel in CHANNELS]], dtype=object)


@pytest.fixture(scope="module")
def cube(alignments):
    """No light, but where it would be."""
    values = {"flight": ESIS_1, "line": "O V", "frame_number": np.array([124]), "alignment_final": alignments}
    meta = NDMeta(values, axes={"frame_number": 0, "alignment_final": (0, 1)})
    data = np.zeros((1, 4, *ESIS_1.grid_shape), dtype=np.float32)
    wcs = level3_wcs(ESIS_1.grid, TIME, CHANNELS)
    return ESISLevel3Cube(data, wcs=wcs, meta=meta, unit="ph / pix")


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_source_that_moves_away_is_displaced_along_the_direction(cube, alignments, channel):
    alignment = alignments[0, channel - 1]
    column, row = ESIS_1.field_stop(channel, "O V").mean(axis=0)
    shift = (ESIS_1.line("O V").wavelength * VELOCITY / const.c / ESIS_1.detector.dispersion).to_value(u.one)
    y, x = np.mgrid[: ESIS_1.detector.shape[0], : ESIS_1.detector.shape[1]]
    seen = []
    for step in (0, shift):
        source = np.exp(-((x - column - step) ** 2 + (y - row) ** 2) / (2 * 3**2))
        image, _ = reproject_alignment((source, alignment), ESIS_1.grid, ESIS_1.grid_shape)
        seen.append(center_of_mass(np.nan_to_num(image))[::-1])
    row = cube.dispersion()[channel - 1]
    expected = (VELOCITY / row["velocity"]).to_value(u.pix) * np.array([row["dx"], row["dy"]])
    np.testing.assert_allclose(np.subtract(seen[1], seen[0]), expected, atol=0.01)


def test_longer_wavelengths_fall_on_larger_columns():
    """As the flight's own poses, measured in two lines, have it."""
    helium, oxygen = (ESIS_1.line(name) for name in ("He I", "O V"))
    assert helium.wavelength < oxygen.wavelength
    for channel in CHANNELS:
        centers = [ESIS_1.field_stop(channel, line.name).mean(axis=0) for line in (helium, oxygen)]
        distance = (oxygen.wavelength - helium.wavelength) / ESIS_1.detector.dispersion
        assert centers[1][0] - centers[0][0] == pytest.approx(distance.to_value(u.one), rel=0.02)


def test_the_numbers_of_the_flight(cube):
    table = cube.dispersion()
    np.testing.assert_allclose(table["direction"].to_value(u.deg), [22.5, 67.5, 112.5, 157.5], atol=2)
    np.testing.assert_allclose(table["velocity"].to_value(u.km / u.s / u.pix), 14.4, rtol=0.02)
    assert (table["rest_wavelength"] == ESIS_1.line("O V").wavelength).all()
    ratio = table["wavelength"] / table["rest_wavelength"] * const.c / table["velocity"]
    np.testing.assert_allclose(ratio.to_value(u.one), 1)


def test_parts_bins_and_other_grids(cube):
    whole = cube.dispersion()
    names = "direction", "dx", "dy", "velocity"
    for part in (cube[0, 2], cube[0, 2:3, 100:300, 50:70]):
        row = part.dispersion()
        assert list(row["channel"]) == [3]
        for name in names:
            assert u.allclose(row[name], whole[name][2:3], rtol=1e-4)
    # A pixel of twice the size is displaced by twice the velocity.
    binned = cube.rebin((1, 1, 2, 2)).dispersion()
    assert u.allclose(binned["velocity"], 2 * whole["velocity"], rtol=1e-4)
    assert u.allclose(binned["direction"], whole["direction"])
    tall = cube.rebin((1, 1, 1, 5)).dispersion()
    slope = tall["dy"] / tall["dx"]
    np.testing.assert_allclose(slope, 5 * whole["dy"] / whole["dx"], rtol=1e-3)


def test_images_without_alignment(cube):
    some = cube.alignment.copy()
    some[0, 1] = None
    meta = NDMeta(dict(cube.meta) | {"alignment_final": some}, axes=cube.meta.axes)
    table = ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=meta).dispersion()
    assert np.isnan(table["velocity"][1])
    assert np.isfinite(np.delete(table["velocity"], 1)).all()
    bare = {"flight": ESIS_1, "line": "O V"}
    with pytest.raises(ValueError, match="has no alignments"):
        ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=bare).dispersion()
    loose = ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=dict(cube.meta))
    with pytest.raises(ValueError, match=r"got alignments of shape \(1, 4\) in a cube of 1 exposures and 1 channels"):
        loose[0, 2].dispersion()
    with pytest.raises(ValueError, match="got a cut through the sky"):
        cube[0, 0, 5].dispersion()
