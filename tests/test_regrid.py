"""Images of other telescopes on the grid, against reproject."""

import numpy as np
import pytest
from reproject import reproject_interp

from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from sunpy.coordinates import get_earth

from esis_ndcube import ESIS_1
from esis_ndcube.registration._regrid import _positions, regrid
from esis_ndcube.registration.reference import observed_grid

DATE = "2019-09-30T18:08:36"


def image_wcs(scale, *, roll=0.0, shift=0.0):
    """The WCS of a full-disk image by an observer on the Earth."""
    grid = observed_grid(ESIS_1, get_earth(DATE), DATE)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "HPLN-TAN", "HPLT-TAN"
    wcs.wcs.cunit = "arcsec", "arcsec"
    wcs.wcs.cdelt = scale, scale
    wcs.wcs.crpix = 1228.8 / scale + shift, 1229.3 / scale
    cos, sin = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    wcs.wcs.dateobs = wcs.wcs.dateavg = DATE
    for name in ("hgln_obs", "hglt_obs", "dsun_obs", "rsun_ref"):
        setattr(wcs.wcs.aux, name, getattr(grid.wcs.aux, name))
    wcs.wcs.set()
    return wcs, grid


def random_image(scale, seed=0):
    size = int(2457.6 / scale)
    return np.random.default_rng(seed).normal(100, 20, (size, size))


def test_positions_are_those_of_every_pixel():
    wcs, grid = image_wcs(0.6, roll=3.0)
    y, x = np.mgrid[: grid.array_shape[0] : 7, : grid.array_shape[1] : 5].astype(float)
    exact = pixel_to_pixel(grid, wcs, x, y)
    for found, true in zip(_positions(wcs, grid, grid.array_shape), exact, strict=True):
        np.testing.assert_allclose(found[::7, ::5], true, atol=1e-7)


@pytest.mark.parametrize(("scale", "roll", "order"), [(0.6, 0.0, "bilinear"), (3.0, 5.0, "bicubic")])
def test_values_are_those_of_reproject(scale, roll, order):
    wcs, grid = image_wcs(scale, roll=roll)
    grid = grid[300:500, 200:450]
    data = random_image(scale)
    expected, _ = reproject_interp((data, wcs), grid, shape_out=grid.array_shape, order=order)
    found = regrid(data, wcs, grid, grid.array_shape, bicubic=order == "bicubic")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_nothing_where_the_image_has_nothing():
    wcs, grid = image_wcs(1.2)
    data = random_image(1.2)
    y, x = pixel_to_pixel(grid, wcs, 600.0, 700.0)[::-1]
    data[int(y) - 5 : int(y) + 6, int(x) - 5 : int(x) + 6] = np.nan
    found = regrid(data, wcs, grid, grid.array_shape, bicubic=True)
    assert np.isnan(found[700, 600])
    assert np.isnan(found).sum() == pytest.approx(11**2 * 4, rel=0.15)
    aside, _ = image_wcs(1.2, shift=4000)
    assert np.isnan(regrid(data, aside, grid, grid.array_shape)).all()
