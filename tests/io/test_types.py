"""Cubes are read back equal, whatever their arrays, units, masks and metadata, or they are refused."""

import numpy as np
import pytest
from helpers import daily, make_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import astropy.units as u
from astropy.io import fits
from astropy.nddata import (
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.time import Time
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS
from ndcube.meta import NDMeta

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube
from esis_ndcube.cube import ESISCube
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.level3.context import ContextCube
from esis_ndcube.wcs import level3_wcs

SHAPE = 2, 2, 3, 4
LAYOUTS = {
    "plain": lambda x: x,
    "fortran": np.asfortranarray,
    "reversed": lambda x: x[..., ::-1, ::-1][..., ::-1, ::-1],
    "turned": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
}
FORMATS = ["fits", "asdf"]


@pytest.fixture(scope="module")
def wcs():
    grid = ESIS_1.grid.deepcopy()
    grid.array_shape = SHAPE[2:]
    return level3_wcs(grid, Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10.4"]), [1, 2], exposure_time=10 * u.s)


def values(dtype, seed=0):
    """Numbers over the whole range of a type."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(SHAPE) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, SHAPE, dtype=dtype.newbyteorder("="), endpoint=True).astype(dtype)
    return (rng.normal(size=SHAPE) * 10.0 ** rng.integers(-30, 30, SHAPE)).astype(dtype)


def there_and_back(cube, path, **kwargs):
    cube.write(path, overwrite=True)
    return type(cube).read(path, **kwargs)


TYPES = st.builds(
    lambda kind, order: np.dtype(kind).newbyteorder(order),
    st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?"]),
    st.sampled_from("<>"),
)


@settings(max_examples=12, deadline=None)
@given(TYPES, TYPES, TYPES.filter(lambda x: x.kind == "u"), st.sampled_from(sorted(LAYOUTS)))
@pytest.mark.slow
def test_types_and_layouts(tmp_path_factory, wcs, data, sigma, flags, layout):
    folder = tmp_path_factory.mktemp("types")
    lay = LAYOUTS[layout]
    given = [lay(values(dtype, seed)) for seed, dtype in enumerate((data, sigma, flags))]
    for array in given:
        array.flags.writeable = False
    uncertainty = StdDevUncertainty(given[1], copy=False)
    cube = ESISLevel3Cube(given[0], wcs=wcs, uncertainty=uncertainty, flags=given[2])
    for name in ("a.fits", "a.fits.gz", "a.asdf"):
        cube.write(folder / name)
    for name, kwargs in (("a.fits", {}), ("a.fits", {"lazy": True}), ("a.fits.gz", {}), ("a.asdf", {})):
        back = ESISLevel3Cube.read(folder / name, **kwargs)
        for array, other in zip(given, (back.data, back.uncertainty.array, back.flags), strict=True):
            assert_array_equal(np.asarray(other), array)
        assert back.data.dtype.newbyteorder("=") == data.newbyteorder("=")
    # Warnings of wrong checksums are errors.
    with fits.open(folder / "a.fits", checksum=True) as hdulist:
        for name, array in zip(("DATA", "UNCERT", "FLAGS"), given, strict=True):
            assert_array_equal(hdulist[name].data, array)


@pytest.mark.parametrize("dtype", [">f4", ">i2", "<f4", "u2", ">u4"])
@pytest.mark.parametrize("level", [1, 3])
def test_types_of_image_files(tmp_path, dtype, level):
    cube = make_cube((1, 2, 3, 4), level=level)
    data = np.arange(24).reshape(cube.shape).astype(dtype)
    before = data.copy()
    cube = type(cube)(data, wcs=cube.wcs, meta=cube.meta, unit=cube.unit)
    for path, image in zip(cube.write_images(tmp_path), before[0], strict=True):
        with fits.open(path, checksum=True) as hdulist:
            rows = -1 if level == 1 else 1
            assert_array_equal(hdulist[0].data, image[::rows])
    assert_array_equal(data, before)


@pytest.mark.parametrize("kind", [VarianceUncertainty, InverseVariance])
def test_sigma_in_image_files(tmp_path, kind):
    cube = make_cube((1, 1, 3, 4), level=1)
    sigma = np.linspace(1, 2, 12).reshape(cube.shape)
    part = kind(sigma**2 if kind is VarianceUncertainty else sigma**-2)
    cube = type(cube)(cube.data, wcs=cube.wcs, meta=cube.meta, unit=cube.unit, uncertainty=part)
    with fits.open(cube.write_images(tmp_path)[0]) as hdulist:
        np.testing.assert_allclose(hdulist["UNCERT"].data[::-1], sigma[0, 0], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["f2", ">f2", "g", "c8", "c16", "U3"])
@pytest.mark.parametrize("part", ["data", "uncertainty"])
def test_types_that_fits_has_not(tmp_path, wcs, dtype, part):
    array = np.ones(SHAPE).astype(dtype)
    if part == "data":
        cube = ESISLevel3Cube(array, wcs=wcs, meta={"flight": ESIS_1})
    elif array.dtype.kind == "f":
        cube = ESISLevel3Cube(np.ones(SHAPE), wcs=wcs, uncertainty=StdDevUncertainty(array))
    else:
        return
    with pytest.raises(TypeError, match="convert it with astype"):
        cube.write(tmp_path / "a.fits")
    if part == "data":
        with pytest.raises(TypeError, match="convert it with astype"):
            cube.write_images(tmp_path)
    if dtype in ("g", "U3"):
        with pytest.raises(TypeError, match="64 bits"):
            cube.write(tmp_path / "a.asdf")
    assert not list(tmp_path.iterdir())


def test_memory_map(tmp_path, wcs):
    fits.PrimaryHDU(values("f4")).writeto(tmp_path / "raw.fits")
    with fits.open(tmp_path / "raw.fits", memmap=True) as hdulist:
        back = there_and_back(ESISLevel3Cube(hdulist[0].data, wcs=wcs), tmp_path / "a.fits")
    assert_array_equal(back.data, values("f4"))


@pytest.mark.parametrize("name", ["a.fits", "a.asdf"])
def test_masked_arrays_and_quantities(tmp_path, wcs, name):
    data, mask = values(">f4"), values("?", 1)
    for array in (np.ma.array(data, mask=mask), Masked(data, mask=mask), Masked(data, mask=mask) * u.ph):
        back = there_and_back(ESISLevel3Cube(array, wcs=wcs), tmp_path / name)
        assert_array_equal(back.data, data)
        assert_array_equal(back.mask, mask)
        assert back.unit == getattr(array, "unit", None)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "lazy"), [("fits", False), ("fits", True), ("asdf", False)])
@pytest.mark.parametrize(
    "mask",
    [True, False, np.True_, np.False_, np.array(True), 1, 0, None, "i8", ">i4", "u1", "list", "dask"],
)
def test_masks(tmp_path, wcs, mask, suffix, lazy):
    bits = values("?", 1)
    if isinstance(mask, str):
        import dask.array as da

        mask = {"list": bits.tolist, "dask": lambda: da.from_array(bits * 2)}.get(
            mask, lambda: bits * np.array(2, mask)
        )()
    kwargs = {"lazy": True} if lazy else {}
    back = there_and_back(ESISLevel3Cube(values("f4"), wcs=wcs, mask=mask), tmp_path / f"a.{suffix}", **kwargs)
    if np.ndim(mask):
        assert back.mask.dtype.kind == "b"
        assert_array_equal(np.asarray(back.mask), bits)
    else:
        assert back.mask is (None if mask is None else bool(mask))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", daily(*FORMATS))
@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance, UnknownUncertainty])
@pytest.mark.parametrize("unit", [None, "1000 ph / pix"])
def test_uncertainties(tmp_path, wcs, kind, unit, suffix):
    array = values(">f4")
    array[0] = 0
    if unit is not None and kind is not StdDevUncertainty:
        unit = {VarianceUncertainty: "ph2 / pix2", InverseVariance: "pix2 / ph2", UnknownUncertainty: None}[kind]
    cube = ESISLevel3Cube(values("f4"), wcs=wcs, unit="ph / pix", uncertainty=kind(array, unit=unit))
    back = there_and_back(cube, tmp_path / f"a.{suffix}").uncertainty
    assert type(back) is kind
    assert back.unit == cube.uncertainty.unit
    assert_array_equal(back.array, array)


@pytest.mark.parametrize("suffix", daily(*FORMATS))
def test_nothing_as_uncertainty(tmp_path, wcs, suffix):
    cube = ESISLevel3Cube(values("f4"), wcs=wcs, uncertainty=StdDevUncertainty(None))
    assert there_and_back(cube, tmp_path / f"a.{suffix}").uncertainty is None


UNITS = [
    *("1000 electron", "ph / (s arcsec2)", "", "DN", "erg", "Angstrom", "adu / s", "%", "1e-17 erg / (s cm2 AA)"),
    *("solRad", "ph(1/2)", "uas", "mag"),
]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", daily(*FORMATS))
@pytest.mark.parametrize("unit", UNITS)
def test_units(tmp_path, wcs, unit, suffix):
    cube = ESISLevel3Cube(values("f4"), wcs=wcs, unit=unit)
    assert there_and_back(cube, tmp_path / f"a.{suffix}").unit == u.Unit(unit)


def test_unit_with_many_digits(tmp_path, wcs):
    unit = u.Unit(u.ph / 3)
    cube = ESISLevel3Cube(values("f4"), wcs=wcs, unit=unit, meta={"limit": 2 * unit})
    back = there_and_back(cube, tmp_path / "a.fits")
    assert back.unit.scale == back.meta["limit"].unit.scale == unit.scale
    with pytest.raises(TypeError, match=r"0\.3333333333333333 ph"):
        cube.write(tmp_path / "a.asdf")
    assert there_and_back(ESISLevel3Cube(cube.data, wcs=wcs, unit="dex(cm / s2)"), tmp_path / "b.fits").unit == u.dex(
        u.cm / u.s**2
    )


@pytest.mark.parametrize("suffix", daily(*FORMATS))
def test_unit_of_ones_own(tmp_path, wcs, suffix):
    furlong = u.def_unit("furlong", 201.168 * u.m)
    for kwargs in ({"unit": furlong}, {"unit": "m", "meta": {"length": 2 * furlong}}):
        with pytest.raises(TypeError, match="furlong"):
            ESISLevel3Cube(values("f4"), wcs=wcs, **kwargs).write(tmp_path / f"a.{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", daily(*FORMATS))
@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", ">i8", "u8", "?", "f2", ">f4", ">f8", "g", "c16", "U4"])
def test_metadata_of_axes(tmp_path, wcs, dtype, suffix):
    numbers = np.array([[1, 0], [2, 100]]).astype(dtype)
    meta = {"normalization": numbers, "frame_number": numbers[:, 0], "other": numbers}
    if numbers.dtype.kind in "iuf":
        meta["exposure_time"] = u.Quantity(numbers, u.Unit(u.s / 3), dtype=dtype)
    axes = {key: (0, 1)[: value.ndim] for key, value in meta.items()}
    cube = ESISLevel3Cube(values("f4"), wcs=wcs, meta=NDMeta(meta, axes=axes))
    back = there_and_back(cube, tmp_path / f"a.{suffix}").meta
    for key, value in meta.items():
        assert_array_equal(np.asarray(back[key]), np.asarray(value))
        assert back[key].dtype.kind == value.dtype.kind
        assert getattr(back[key], "unit", None) == getattr(value, "unit", None)


@pytest.mark.parametrize("suffix", daily(*FORMATS))
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (5, 1, "key 5"),
        ("frame_number", np.ma.array([[1, 2]], mask=[[0, 1]]), "MaskedArray"),
        ("thing", {1, 2}, "type set"),
        ("text", b"abc", "type bytes"),
    ],
)
def test_metadata_that_no_file_holds(tmp_path, wcs, key, value, words, suffix):
    with pytest.raises(TypeError, match=words):
        ESISLevel3Cube(values("f4"), wcs=wcs, meta={key: value}).write(tmp_path / f"a.{suffix}")
    assert not list(tmp_path.iterdir())


# As in the docstrings; metadata without axes; other levels than those of the class.
METAS = [
    None,
    {},
    {"flight": ESIS_1, "line": "O V"},
    {"level": 3},
    {"level": None},
    {"level": "3"},
    {"frame_number": np.array([109, 110]), "exposure_time": [10, 10.5] * u.s, "file": [["a"], ["b", "c"]]},
    NDMeta({"line": "O V"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
# Each class with some of the metadata, of which none has to do with the class but the level.
@pytest.mark.parametrize(
    ("cls", "meta"),
    [
        *zip([ESISCube, ESISLevel1Cube, ESISLevel3Cube, ContextCube] * 2, METAS, strict=True),
        *((cls, {"level": 3}) for cls in (ESISCube, ESISLevel1Cube, ESISLevel3Cube)),
    ],
)
def test_every_class_reads_what_it_wrote(tmp_path, wcs, cls, meta, suffix):
    cube = cls(values("f4"), wcs=wcs, unit="ph / pix", meta=meta)
    back = there_and_back(cube, tmp_path / f"a.{suffix}")
    assert type(back) is cls
    assert_array_equal(back.data, cube.data)
    assert set(back.meta) == set(meta or {})
    for key, value in (meta or {}).items():
        assert np.all(back.meta[key] == value)


@pytest.mark.parametrize("suffix", daily(*FORMATS))
@pytest.mark.parametrize(
    "item", [0, (0, 1), (slice(None), 1), (0, 0, slice(1, 2)), (slice(1, 2), 0, slice(None), slice(0, 1))]
)
def test_slices_are_read(tmp_path, wcs, item, suffix):
    part = ESISLevel3Cube(values(">f4"), wcs=wcs)[item]
    assert_array_equal(there_and_back(part, tmp_path / f"a.{suffix}").data, values(">f4")[item])


class OurCube(ESISLevel3Cube):
    """A class of a user."""


@pytest.mark.parametrize("suffix", daily(*FORMATS))
def test_no_message_names_the_call_that_failed(tmp_path, wcs, suffix):
    classes = [ESISCube, ESISLevel1Cube, ESISLevel3Cube, ContextCube]
    for cls in classes:
        path = tmp_path / f"{cls.__name__}.{suffix}"
        cls(values("f4"), wcs=wcs).write(path)
        for reader in classes[1:]:
            if reader is cls:
                continue
            with pytest.raises(CubeFileError) as caught:
                reader.read(path)
            assert f"{reader.__name__}.read" not in str(caught.value)
            assert f"read it with {cls.__name__}.read" in str(caught.value)


def test_subclasses(tmp_path, wcs):
    for cls, reader in ((OurCube, ESISLevel3Cube), (ESISLevel3Cube, OurCube), (OurCube, OurCube)):
        cls(values("f4"), wcs=wcs).write(tmp_path / "a.fits", overwrite=True)
        assert type(reader.read(tmp_path / "a.fits")) is reader


@pytest.mark.parametrize("suffix", daily(*FORMATS))
def test_foreign_wcs(tmp_path, wcs, suffix):
    plain = WCS(naxis=4)
    plain.array_shape = SHAPE
    for foreign in (plain, HighLevelWCSWrapper(SlicedLowLevelWCS(wcs, slice(None)))):
        cube = ESISLevel3Cube(values("f4"), wcs=foreign)
        with pytest.raises(ValueError, match="expected one with an ESISWCS: make it with level3_wcs"):
            cube.write(tmp_path / f"a.{suffix}")
        with pytest.raises(ValueError, match="expected images"):
            cube.write_images(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.asdf"])
def test_outline(tmp_path, name):
    cube = make_cube((2, 2, 3, 4), alignments=True)
    cube.write(tmp_path / name)
    back = ESISLevel3Cube.read(tmp_path / name, outline=True)
    assert str(back) == str(cube)
    assert (back.data.dtype, back.mask.dtype, back.flags.dtype) == (cube.data.dtype, cube.mask.dtype, cube.flags.dtype)
    assert {back.data.strides, back.mask.strides, back.uncertainty.array.strides} == {(0, 0, 0, 0)}
    assert back.history == cube.history
    assert_array_equal(back.time.jd2, cube.time.jd2)


def test_outline_reads_no_image(tmp_path):
    make_cube((2, 2, 30, 40)).write(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdulist:
        image, table = (hdulist.fileinfo(name)["datLoc"] for name in ("DATA", "EXPOSURE"))
    content = bytearray((tmp_path / "a.fits").read_bytes())
    content[image + 100] ^= 1
    (tmp_path / "image.fits").write_bytes(content)
    content[table + 1] ^= 1
    (tmp_path / "table.fits").write_bytes(content)
    assert ESISLevel3Cube.read(tmp_path / "image.fits", outline=True).shape == (2, 2, 30, 40)
    with pytest.raises(CubeFileError, match="checksum of DATA"):
        ESISLevel3Cube.read(tmp_path / "image.fits")
    with pytest.raises(CubeFileError, match="checksum of EXPOSURE"):
        ESISLevel3Cube.read(tmp_path / "table.fits", outline=True)
    (tmp_path / "half.fits").write_bytes(content[: image + 3000])
    with pytest.raises(CubeFileError):
        ESISLevel3Cube.read(tmp_path / "half.fits", outline=True)
