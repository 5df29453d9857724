"""Alignments as WCS, as text, and through tables, files and pickles without loss."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from helpers import assert_bits_equal, make_alignments, make_cube, make_times
from hypothesis import given, settings
from hypothesis import strategies as st

import astropy.units as u
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from ndcube.meta import NDMeta
from sunpy.coordinates import HeliographicStonyhurst

from esis_ndcube import ESIS_1
from esis_ndcube.io._values import hdu_from_table, table_from_hdu
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.registration import Alignment, PolynomialTransform, alignments_from_table, alignments_to_table
from esis_ndcube.registration.reference import observed_grid

TIME = Time("2019-09-30T18:08:36.612345678")
SIZES = {1: 3, 2: 6, 3: 10}


@pytest.fixture(scope="module")
def grid():
    """A grid whose numbers have all their digits."""
    observer = HeliographicStonyhurst(-0.1 / 3 * u.deg, 20 / 3 * u.deg, 1.0015 / 0.99 * u.AU, obstime=TIME)
    result = observed_grid(ESIS_1, observer, TIME)
    result.wcs.pc = [[np.cos(0.01), -np.sin(0.01)], [np.sin(0.01), np.cos(0.01)]]
    result.wcs.crval = 1 / 3e3, -2 / 7e3
    result.wcs.set()
    return result


def make(grid, degree=2, channel=2, seed=0, **changes):
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(0, 2, (2, SIZES[degree]))
    coefficients[:, :3] += [[1500, 202, 480], [500, -457, 192]]
    transform = PolynomialTransform(coefficients, rng.normal(634.5, 1, 2), 635 + rng.random())
    size = coefficients.size
    values = {
        "transform": transform,
        "grid": grid,
        "channel": channel,
        "frame_number": 124,
        "line": "O V",
        "stage": "final",
        "reference": "channel 2, the \u00c5ngstr\u00f6m one ",
        "time": TIME + seed * 10.123 * u.s,
        "shape": (1040, 2048),
        "score": rng.random(),
        "iterations": 7,
        "n_pixels": 123456,
        "converged": bool(seed % 2),
        "reason": "converged",
        "condition": 1 / 3 + seed,
        "covariance": rng.normal(size=(size, size)),
        "reference_covariance": rng.normal(size=(size, size)),
    }
    return Alignment(**(values | changes))


def wrapped(degrees):
    """Arcsec, longitudes on either side of 0."""
    return ((np.array(degrees) + 180) % 360 - 180) * 3600


def assert_same(one, two):
    for field in dataclasses.fields(Alignment):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if field.name == "transform":
            assert_bits_equal(a.coefficients, b.coefficients)
            assert_bits_equal(a.origin, b.origin)
            assert a.scale == b.scale
        elif field.name == "grid":
            assert_same_grid(a, b)
        elif field.name == "time":
            assert (a.jd1, a.jd2, a.scale, a.format) == (b.jd1, b.jd2, b.scale, b.format)
        elif field.name.endswith("covariance") and a is not None:
            assert_bits_equal(a, b)
        else:
            assert type(a) is type(b)
            assert a == b or (a != a and b != b)


def assert_same_grid(a, b):
    assert a.array_shape == b.array_shape
    for name in ("crpix", "cdelt", "crval", "mjdobs", "mjdavg", "lonpole", "latpole"):
        assert_bits_equal(getattr(a.wcs, name), getattr(b.wcs, name))
    assert_bits_equal(a.wcs.get_pc(), b.wcs.get_pc())
    for name in ("hgln_obs", "hglt_obs", "dsun_obs", "rsun_ref"):
        assert getattr(a.wcs.aux, name) == getattr(b.wcs.aux, name)
    assert (list(a.wcs.ctype), a.wcs.dateobs, a.wcs.dateavg) == (list(b.wcs.ctype), b.wcs.dateobs, b.wcs.dateavg)
    assert list(a.wcs.cunit) == list(b.wcs.cunit)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_gwcs_is_the_alignment(grid, degree):
    alignment = make(grid, degree)
    wcs = alignment.to_gwcs()
    rng = np.random.default_rng(1)
    column, row = rng.uniform(1000, 2000, 200), rng.uniform(0, 1000, 200)
    lon, lat = alignment.detector_to_world(column, row)
    assert lon.unit == lat.unit == u.arcsec
    assert np.abs(lon.value).max() < 1500
    values = wrapped(wcs.pixel_to_world_values(column, row))
    np.testing.assert_allclose(values, [lon.value, lat.value], rtol=0, atol=1e-9)
    coordinate = wcs.pixel_to_world(column, row)
    np.testing.assert_allclose(coordinate.Tx.to_value("arcsec"), lon.value, rtol=0, atol=1e-9)
    np.testing.assert_allclose(coordinate.Ty.to_value("arcsec"), lat.value, rtol=0, atol=1e-9)
    pixels = np.array(wcs.world_to_pixel_values(*(values / 3600)))
    np.testing.assert_allclose(pixels, [column, row], rtol=0, atol=1e-6)
    np.testing.assert_allclose(alignment.world_to_detector(lon, lat), pixels, rtol=0, atol=1e-9)
    np.testing.assert_allclose(wcs.world_to_pixel(coordinate), [column, row], rtol=0, atol=1e-6)
    # The transform of the grid's own pixels, by the grid's own WCS.
    x, y = rng.uniform(300, 900, (2, 50))
    sky = alignment.grid.pixel_to_world(x, y)
    np.testing.assert_allclose(
        alignment.world_to_detector(sky.Tx, sky.Ty), alignment.transform(x, y), rtol=0, atol=1e-6
    )
    frame = wcs.output_frame.reference_frame
    assert frame.obstime == alignment.time
    assert frame.observer.lon.deg == grid.wcs.aux.hgln_obs
    assert frame.observer.radius.to_value("m") == grid.wcs.aux.dsun_obs
    assert wcs.array_shape == alignment.shape


def test_gwcs_in_arcsec_and_without_observer():
    grid = ESIS_1.grid.deepcopy()
    alignment = Alignment.from_pose(ESIS_1, 3, frame_number=124, line="O V", time=TIME, grid=grid)
    column, row = np.array([1300.0, 1700.0]), np.array([100.0, 900.0])
    values = wrapped(alignment.to_gwcs().pixel_to_world_values(column, row))
    expected = [q.to_value("arcsec") for q in alignment.detector_to_world(column, row)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9)
    # By hand: the tangent projection of 0.6 arcsec pixels about the reference pixel.
    x, y = alignment.transform.inverse(column, row)
    plane = (np.stack([x, y]) + 1 - np.array(ESIS_1.grid_crpix)[:, None]) * 0.6 / 206264.806247
    lon = np.arctan2(plane[0], 1)
    lat = np.arctan(plane[1] * np.cos(lon))
    np.testing.assert_allclose(values, np.degrees([lon, lat]) * 3600, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "how", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a)), dataclasses.replace]
)
def test_copies(grid, how):
    alignment = make(grid)
    other = how(alignment)
    assert_same(alignment, other)
    assert not other.covariance.flags.writeable
    assert not other.reference_covariance.flags.writeable
    pixel = np.array([1500.0]), np.array([400.0])
    expected = alignment.to_gwcs().pixel_to_world_values(*pixel)
    np.testing.assert_array_equal(other.to_gwcs().pixel_to_world_values(*pixel), expected)


def test_gwcs_copies(grid):
    wcs = make(grid).to_gwcs()
    for other in (copy.deepcopy(wcs), pickle.loads(pickle.dumps(wcs))):
        assert other(1500.0, 400.0) == wcs(1500.0, 400.0)
        np.testing.assert_allclose(other.invert(*wcs(1500.0, 400.0)), (1500, 400), atol=1e-6)


def round_trips(table, tmp_path):
    """The table as it is, as the package writes it, and as plain astropy does."""
    yield table
    hdu = hdu_from_table(table, "A")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits", overwrite=True)
    with fits.open(tmp_path / "a.fits") as hdulist:
        again = table_from_hdu(hdulist[1])
    # The meta stand elsewhere in the file.
    again.meta.update(table.meta)
    yield again


@settings(max_examples=10)
@given(data=st.data())
def test_tables_lose_nothing(tmp_path_factory, grid, data):
    shape = data.draw(st.sampled_from([(), (3,), (2, 3), (4, 1)]))
    array = np.empty(shape, dtype=object)
    for n, index in enumerate(np.ndindex(shape)):
        kind = data.draw(st.sampled_from([None, 1, 2, 3]))
        if kind:
            scale = data.draw(st.sampled_from(["utc", "tai", "tt"]))
            time = getattr(TIME + n * 10.123456789 * u.s, scale)
            time.format = data.draw(st.sampled_from(["isot", "mjd"]))
            odd = data.draw(st.booleans())
            changes = {"covariance": None, "score": np.nan, "reason": "", "reference_covariance": None} if odd else {}
            array[index] = make(grid, kind, channel=n % 4 + 1, seed=n, time=time, **changes)
    for table in round_trips(alignments_to_table(array), tmp_path_factory.mktemp("a")):
        result = alignments_from_table(table)
        assert result.shape == array.shape
        for index in np.ndindex(shape):
            assert (result[index] is None) == (array[index] is None)
            if array[index] is not None:
                assert_same(result[index], array[index])


def test_lists_are_tables_too(grid):
    one = make(grid)
    result = alignments_from_table(alignments_to_table([[None, one]]))
    assert result.shape == (1, 2)
    assert_same(result[0, 1], one)


def test_through_a_cube_file(grid, tmp_path):
    cube = make_cube((2, 3, 4, 5), alignments=True)
    array = np.empty((2, 3), dtype=object)
    for n, index in enumerate([(0, 0), (0, 2), (1, 1)]):
        array[index] = make(grid, n + 1, seed=n)
    meta = NDMeta({**cube.meta, "alignment_final": array}, axes=dict(cube.meta.axes))
    ESISLevel3Cube(cube.data, wcs=cube.wcs, meta=meta).write(tmp_path / "l3.fits")
    result = ESISLevel3Cube.read(tmp_path / "l3.fits").alignment
    assert [a is None for a in result.ravel()] == [a is None for a in array.ravel()]
    for index in [(0, 0), (0, 2), (1, 1)]:
        assert_same(result[index], array[index])


def test_bad_tables(grid):
    other = make_alignments([109], [1], make_times(1))[0, 0]
    with pytest.raises(ValueError, match="2 grids and 1 detector shapes"):
        alignments_to_table([make(grid), other])
    with pytest.raises(ValueError, match="1 grids and 2 detector shapes"):
        alignments_to_table([make(grid), make(grid, shape=(5, 5))])
    with pytest.raises(ValueError, match="not a table of alignments"):
        alignments_from_table(Table({"a": [1]}))
    table = alignments_to_table([make(grid)])
    del table["origin"]
    with pytest.raises(ValueError, match=r"not a table of alignments: .*origin"):
        alignments_from_table(table)
    table = alignments_to_table([make(grid)])
    table["degree"] = 4
    with pytest.raises(ValueError, match="not a table of alignments"):
        alignments_from_table(table)


def test_text(grid):
    """Rotation, shear, scales and shift as they were put in."""
    rotation, shear, scales = np.radians(-67.25), np.radians(0.5), (0.82, 0.78)
    # Axis u is turned by half of the shear one way and v the other way.
    a, b = rotation + shear / 2, rotation - shear / 2
    matrix = [
        [scales[0] * np.cos(a), -scales[0] * np.sin(a)],
        [scales[1] * np.sin(b), scales[1] * np.cos(b)],
    ]
    center = np.array([634.5, 634.5])
    offset = np.array([1538.25, 505.5]) - matrix @ center
    transform = PolynomialTransform.from_affine(np.column_stack([matrix, offset]), origin=center, scale=635)
    unknown = {"covariance": None, "reference_covariance": None}
    alignment = make(grid, transform=transform, score=0.87654, reference="AIA", **unknown)
    assert str(alignment).splitlines() == [
        "Channel 2, frame 124, O V: final from AIA, score 0.8765 (converged)",
        "  rotation -67.250 deg, shear 0.500 deg, scale 0.8200 x 0.7800",
        "  grid center at detector pixel (1538.25, 505.50)",
    ]
    assert "score" not in str(dataclasses.replace(alignment, stage="pose"))
    assert repr(alignment) == "<Alignment final of channel 2, frame 124, O V>"


def test_pose_is_the_flights():
    for channel in ESIS_1.channels:
        alignment = Alignment.from_pose(ESIS_1, channel.number, frame_number=124, line="ov", time=TIME)
        x, y = np.array([100.0, 634.5, 900.0]), np.array([700.0, 634.5, 20.0])
        expected = channel.center[:, None] + channel.matrix @ (np.stack([x, y]) - 634.5)
        np.testing.assert_allclose(alignment.transform(x, y), expected, rtol=0, atol=1e-9)
        assert (alignment.line, alignment.stage, alignment.shape) == ("O V", "pose", (1040, 2048))
        assert np.isnan(alignment.covariance).all()
    for wrong in ({"line": "Fe XX", "channel": 1}, {"line": "O V", "channel": 9}):
        with pytest.raises(ValueError, match="unknown"):
            Alignment.from_pose(ESIS_1, wrong["channel"], frame_number=1, line=wrong["line"], time=TIME)


@pytest.mark.slow
def test_uncertainty_of_coordinates(grid):
    """Against the scatter of coordinates whose coefficients are drawn from the covariance."""
    rng = np.random.default_rng(3)
    root, other = (rng.normal(0, 0.05, (12, 12)) for _ in range(2))
    alignment = make(grid, covariance=root @ root.T, reference_covariance=other @ other.T)
    x, y = np.array([300.0, 634.5, 900.0]), np.array([500.0, 634.5, 200.0])
    for relative, errors in ((True, [root]), (False, [root, other])):
        draws = sum(rng.normal(size=(600, 12)) @ r.T for r in errors).reshape(-1, 2, 6)
        shifted = [
            dataclasses.replace(
                alignment,
                transform=PolynomialTransform(
                    alignment.transform.coefficients + d, alignment.transform.origin, alignment.transform.scale
                ),
            )
            for d in draws
        ]
        at = alignment.transform(x, y)
        scatter = np.std([[q.to_value("arcsec") for q in a.detector_to_world(*at)] for a in shifted], axis=0)
        sigma = [q.to_value("arcsec") for q in alignment.coordinate_uncertainty(x, y, relative=relative)]
        np.testing.assert_allclose(sigma, scatter, rtol=0.12)
    y, x = np.indices((4, 5))
    assert alignment.coordinate_uncertainty(x, y)[1].shape == (4, 5)
    lost = make(grid, covariance=None)
    assert np.isnan(lost.coordinate_uncertainty(1, 1)[0])


def test_covariances_of_another_size_are_refused(grid):
    with pytest.raises(ValueError, match=r"got a covariance of shape \(6, 6\), expected \(12, 12\)"):
        make(grid, covariance=np.eye(6))


def test_is_frozen(grid):
    covariance = np.eye(12)
    alignment = make(grid, covariance=covariance)
    covariance[0, 0] = 5
    assert alignment.covariance[0, 0] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        alignment.channel = 1
    with pytest.raises(ValueError, match="read-only"):
        alignment.covariance[0, 0] = 1
