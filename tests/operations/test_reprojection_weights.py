"""Sums of the squares of the weights of `reproject`, against images of points that give the weights one by one."""

import numpy as np
import pytest

from astropy.wcs import WCS

from esis_ndcube.operations.reprojection import _Grid, _Sigma

SHAPE = 21, 26
# Points so far from one another that none of two counts for the same pixel.
STEP = 13


def make_wcs(scale, angle, crpix, mirror=1):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("HPLN-TAN", "HPLT-TAN"), ("deg", "deg")
    wcs.wcs.cdelt, wcs.wcs.crpix = (mirror * scale / 3600, scale / 3600), crpix
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    wcs.wcs.pc, wcs.wcs.dateobs = [[c, -s], [s, c]], "2019-09-30T18:00:00"
    return wcs


TARGETS = {
    "shifted": (make_wcs(1, 0, (10.3, 9.9)), (20, 22)),
    "turned": (make_wcs(1.2, 17, (8, 7)), (16, 18)),
    "mirrored": (make_wcs(1.2, 17, (8, 7), -1), (16, 18)),
    "coarser": (make_wcs(2.3, 5, (4, 5)), (9, 10)),
    "finer": (make_wcs(0.5, 5, (15, 14)), (26, 24)),
}
ADAPTIVE = [
    {},
    {"kernel": "Hann"},
    {"kernel_width": 1.8, "sample_region_width": 4.5, "center_jacobian": True},
    {"conserve_flux": True},
    *({"boundary_mode": mode} for mode in ("constant", "grid-constant", "ignore", "ignore_threshold", "nearest")),
    {"x_cyclic": True, "boundary_mode": "ignore"},
    {"x_cyclic": True, "boundary_mode": "nearest"},
]


# Daily every target, and every option on one of them.
CASES = [
    pytest.param(options, name, marks=pytest.mark.slow if options and name != "shifted" else (), id=f"{options}-{name}")
    for options in (None, *ADAPTIVE)
    for name in TARGETS
]


@pytest.mark.parametrize(("options", "name"), CASES)
def test_weights_are_those_of_points(name, options):
    target, shape = TARGETS[name]
    algorithm = "exact" if options is None else "adaptive"
    grid = _Grid(make_wcs(1, 0, (10, 10)), target, shape, algorithm, options or {})
    points = np.zeros((STEP, STEP, *SHAPE))
    for y, x in np.ndindex(STEP, STEP):
        points[y, x, y::STEP, x::STEP] = 1
    expected = np.square(grid.call(points)[0]).sum(axis=(0, 1))
    seen = np.isfinite(expected)
    assert seen.any()
    sigma = _Sigma(grid, np.dtype(float))(np.full(SHAPE, 3.0), np.zeros(SHAPE, dtype=bool))
    np.testing.assert_allclose(sigma[seen], 3 * np.sqrt(expected[seen]), rtol=1e-6, atol=1e-7)
