"""
Odd but legitimate inputs, and what their results must have to do with those of plain ones.

A stranger makes of a plain input, an array or a cube, an odd one and the plain one that means the same; its relation
is what must hold between the results of both.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import dask.array as da
import matplotlib as mpl
import numpy as np
from scipy.ndimage import binary_erosion

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import (
    InverseVariance,
    NDData,
    NDUncertainty,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.table import Column, Table
from astropy.time import Time
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS
from ndcube import NDCube, NDCubeSequence
from sunpy.coordinates import HeliographicStonyhurst
from sunpy.map import GenericMap, Map

from esis_ndcube.wcs import ESISWCS, level3_wcs

# ---------------------------------------------------------------------------------------------------- relations


def parts(result, name="result"):
    """All arrays and other values that a result consists of, by name; what is lazy is computed."""
    if isinstance(result, NDData | GenericMap):
        data = np.asarray(result.data)
        mask, flags, uncertainty = (getattr(result, key, None) for key in ("mask", "flags", "uncertainty"))
        yield f"{name}.data", data
        yield f"{name}.unit", str(result.unit)
        yield f"{name}.mask", np.broadcast_to(False if mask is None else np.asarray(mask), data.shape)
        yield f"{name}.flags", None if flags is None else np.asarray(flags)
        yield from parts(uncertainty, f"{name}.uncertainty")
    elif isinstance(result, NDUncertainty):
        known = result.array is not None and not isinstance(result, UnknownUncertainty)
        with np.errstate(divide="ignore"):
            yield name, np.asarray(result.represent_as(StdDevUncertainty).array) if known else None
    elif isinstance(result, NDCubeSequence):
        yield from parts(list(result.data), name)
    elif isinstance(result, Masked):
        yield from parts((np.asarray(result.unmasked), result.mask, str(getattr(result, "unit", ""))), name)
    elif isinstance(result, u.Quantity):
        yield name, result.value
        yield f"{name}.unit", str(result.unit)
    elif isinstance(result, Time):
        yield name, result.jd
    elif isinstance(result, Column) and result.unit:
        yield from parts(result.quantity, name)
    elif isinstance(result, Table):
        yield from parts({column: result[column] for column in result.colnames}, name)
    elif isinstance(result, dict):
        for key, value in result.items():
            yield from parts(value, f"{name}[{key!r}]")
    elif isinstance(result, list | tuple):
        for index, value in enumerate(result):
            yield from parts(value, f"{name}[{index}]")
    elif isinstance(result, np.ndarray) and result.dtype == object:
        yield from parts(result.tolist(), name)
    elif isinstance(result, mpl.figure.Figure):
        yield from parts(result.axes, name)
    elif isinstance(result, mpl.axes.Axes):
        for index, image in enumerate(result.images):
            yield f"{name}.image{index}", np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
            yield f"{name}.limits{index}", np.array(image.get_clim(), dtype=float)
        for index, line in enumerate(result.lines):
            yield f"{name}.line{index}", np.asarray(line.get_xydata(), dtype=float)
    elif isinstance(result, Path) and result.suffix == ".fits":
        with fits.open(result) as hdus:
            for hdu in hdus:
                if hdu.is_image and hdu.data is not None:
                    yield f"{name}.{hdu.name}", hdu.data.astype(hdu.data.dtype.newbyteorder("="))
    elif isinstance(result, WCS):
        yield name, repr(result.to_header())
    elif is_dataclass(result):
        yield from parts({field.name: getattr(result, field.name) for field in fields(result)}, name)
    elif isinstance(result, np.ndarray | da.Array | np.generic | float | int):
        yield name, np.asarray(result)
    else:
        yield name, None if result is None or callable(result) else str(result)


def pairs(odd, plain):
    """The parts of two results, side by side."""
    odd, plain = dict(parts(odd)), dict(parts(plain))
    assert list(odd) == list(plain)
    for name, value in odd.items():
        assert (value is None) == (plain[name] is None), name
        if value is not None:
            yield name, value, plain[name]


def bits(odd, plain):
    """Layout, byte order and laziness change no bit and no type; what is only passed on may stay big-endian."""
    for name, one, other in pairs(odd, plain):
        if isinstance(one, str):
            assert one == other, name
        else:
            one = one.astype(one.dtype.newbyteorder("="))
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name
            assert one.tobytes() == other.tobytes(), f"{name}: {one.ravel()[:9]} and not {other.ravel()[:9]}"


def near(one, other, name, rtol):
    if isinstance(one, str):
        assert one == other, name
        return
    assert one.shape == other.shape, name
    if one.dtype.kind in "US":
        np.testing.assert_array_equal(one, other, err_msg=name)
        return
    known = np.abs(other[np.isfinite(other)], dtype=float)
    np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * known.max(initial=0), err_msg=name)


def close(odd, plain, rtol=1e-6):
    """Another type of number changes no more than the last digits."""
    for name, one, other in pairs(odd, plain):
        near(one, other, name, rtol)


def valid(odd, plain, rtol=1e-6):
    """The same pixels are valid, with the same values; what stands in the others does not matter."""
    pixels = {}
    for name, one, other in pairs(odd, plain):
        if name.endswith(".mask"):
            continue
        if name.endswith(".data"):
            for key, result, array in ((0, odd, one), (1, plain, other)):
                mask = dict(parts(result))[name.removesuffix(".data") + ".mask"]
                pixels[key] = np.isfinite(array) & ~mask
            np.testing.assert_array_equal(pixels[0], pixels[1], err_msg=name)
        if pixels and np.shape(one) == pixels[0].shape:
            one, other = one[pixels[0]], other[pixels[0]]
        near(one, other, name, rtol)


def pointwise(holes=None, reach=0):
    """NaN gives NaN or False, and pixels farther away than ``reach`` the same bits."""

    def relation(odd, plain):
        for name, one, other in pairs(odd, plain):
            if not isinstance(one, str):
                lost = (holes or block)(one.shape)
                kept = ~lost
                if reach:
                    lost, kept = (binary_erosion(pixels, iterations=reach) for pixels in (lost, kept))
                assert not (np.isfinite(one) & (one != 0))[lost].any(), name
                assert one[kept].tobytes() == other[kept].tobytes(), name

    return relation


def elsewhere(odd, plain, rtol=0.0):
    """Some NaN give no more NaN, and what is left is the same."""
    for name, one, other in pairs(odd, plain):
        if not isinstance(one, str):
            known = np.isfinite(one) & np.isfinite(other)
            assert (~known).sum() <= block((99, 99)).sum() + (~np.isfinite(other)).sum(), name
            near(one[known], other[known], name, rtol)


def nearly(odd, plain):
    """Means of a few pixels less."""
    elsewhere(odd, plain, 0.02)


def few(odd, plain):
    """Of hardly anything follows hardly anything."""
    for name, one, _ in pairs(odd, plain):
        if not isinstance(one, str):
            assert (np.isfinite(one) & (one != 0)).sum() <= 4, name


def converted(odd, plain):
    """The same, each in its own unit."""
    odd, plain = list(parts(odd)), list(parts(plain))
    units = [
        {name.removesuffix(".unit"): value for name, value in one if name.endswith(".unit")} for one in (odd, plain)
    ]
    assert [name for name, _ in odd] == [name for name, _ in plain]
    for (name, one), (_, other) in zip(odd, plain, strict=True):
        if name.endswith(".unit") or one is None:
            continue
        key = name.removesuffix(".data").removesuffix(".uncertainty")
        factor = 1.0
        if key in units[0] and not name.endswith((".mask", ".flags")):
            factor = u.Unit(units[0][key]).to(u.Unit(units[1][key]))
        near(one if isinstance(one, str) else one * factor if factor != 1 else one, other, name, 1e-6)


def unsure(odd, plain):
    """The same without uncertainty: errors are missing or NaN."""
    odd, plain = dict(parts(odd)), dict(parts(plain))
    for name, value in plain.items():
        if "uncertainty" in name or "error" in name:
            one = odd.get(name)
            assert one is None or isinstance(one, str) or np.isnan(one).all(), name
        elif isinstance(value, np.ndarray):
            assert odd[name].tobytes() == value.tobytes(), name
        else:
            assert odd[name] == value, name


def piece(item):
    """An operation on a part gives the same as on the whole."""

    def relation(odd, plain):
        if isinstance(odd, Table):
            keys = [
                name
                for name in ("frame_number", "time", "channel", "first", "second", "x", "y")
                if name in odd.colnames
            ]
            rows, wanted = ([[str(row[name]) for name in keys] for row in table] for table in (plain, odd))
            close(odd, plain[[rows.index(row) for row in wanted]])
            return
        for name, one, other in pairs(odd, plain):
            if not isinstance(one, str):
                assert one.tobytes() == np.ascontiguousarray(other[item]).tobytes(), name

    return relation


def observed(odd, plain):
    """The same numbers; what has coordinates has those of the observer."""
    bits(odd, plain)
    if isinstance(odd, NDCube) and isinstance(odd.wcs, ESISWCS):
        one, other = (cube.wcs.celestial.wcs.aux.hgln_obs for cube in (odd, plain))
        assert abs(one - other - 30) < 1e-3


def constant(value):
    def relation(odd, plain):
        for name, one, _ in pairs(odd, plain):
            np.testing.assert_array_equal(one, value, err_msg=name)

    return relation


@dataclass(frozen=True)
class Refused:
    """The documented refusal, with a piece of its message that says what was expected."""

    error: type
    piece: str


# ------------------------------------------------------------------------------------------------------- arrays


def same(x):
    return x


def mapped(array):
    """A memory map, as numpy makes it."""
    with tempfile.TemporaryFile() as file:
        file.write(array.tobytes())
        file.flush()
        return np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)


def read_only(array):
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def strided(array):
    """Every other element of an array twice as large; the others would be seen."""
    large = np.full([2 * n for n in array.shape], 77).astype(array.dtype)
    view = large[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


def backward(array):
    step = (slice(None, None, -1),) * array.ndim
    return array[step].copy()[step]


def block(shape, *, small=True):
    """Some pixels of each image, or all others but one."""
    pixels = np.zeros(shape, dtype=bool)
    pixels[(..., *(slice(2, 5) for _ in shape[-2:]))] = True
    one = np.zeros(shape, dtype=bool)
    one[(..., *(slice(6, 7) for _ in shape[-2:]))] = True
    return pixels if small else ~one


def all_but_one(shape):
    return block(shape, small=False)


def everything(shape):
    return np.ones(shape, dtype=bool)


def nothing(shape):
    return np.zeros(shape, dtype=bool)


def without(array, pixels):
    return np.where(pixels, array.dtype.type(np.nan), array) if array.dtype.kind == "f" else array


def garbage(array, pixels):
    """Numbers under a mask that no result can miss."""
    return np.where(pixels, array.dtype.type(-3e4), array)


def whole(array):
    return np.round(array).astype(array.dtype)


LAID_OUT = "big-endian", "read-only", "memory map", "Fortran", "strided", "backward", "Dask"


def beside(change, name):
    """The change of numbers; flags and choices of pixels beside them are only laid out in another way."""

    def apply(x):
        choice = isinstance(x, np.ndarray) and x.dtype.kind in ("b", "u")
        return x if choice and name not in LAID_OUT else change(x)

    return apply


@dataclass(frozen=True)
class Stranger:
    """
    An odd input.

    ``odd`` makes it of a plain one, and ``plain`` what means the same; ``relation`` is what must hold between the
    results, or the refusal.
    """

    name: str
    odd: Callable
    plain: Callable = same
    relation: Callable | Refused = bits


HEADER = {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CDELT1": 0.6,
          "CDELT2": 0.6, "CRPIX1": 5.25, "CRPIX2": 0.25, "DATE-OBS": "2019-09-30T18:08:00", "HGLN_OBS": 0.0,
          "HGLT_OBS": 6.8, "DSUN_OBS": 1.498e11}  # fmt: skip
LAYOUTS = [
    Stranger("big-endian", lambda a: a.astype(a.dtype.newbyteorder(">"))),
    Stranger("read-only", read_only),
    Stranger("memory map", mapped),
    Stranger("Fortran", np.asfortranarray),
    Stranger("strided", strided),
    Stranger("backward", backward),
    Stranger("Dask", lambda a: da.from_array(a, chunks=(1,) * (a.ndim - 2) + a.shape[-2:])),
]
TYPES = [
    Stranger("float64", lambda a: a.astype(float), same, close),
    Stranger("integer", lambda a: np.round(a).astype(np.int16), whole, close),
    Stranger("unsigned", lambda a: np.round(np.abs(a)).astype(np.uint16), lambda a: whole(np.abs(a)), close),
]


def masked(container):
    return (
        lambda a: container(garbage(a, block(a.shape)), mask=block(a.shape)),
        lambda a: without(a, block(a.shape)),
    )


CONTAINERS = [
    Stranger("numpy.ma", *masked(np.ma.array)),
    Stranger("Masked", *masked(Masked)),
    Stranger("Quantity", lambda a: a * u.DN, same, Refused(TypeError, "expected plain numbers")),
    Stranger("NDData", *masked(NDData), Refused(TypeError, "expected an array")),
    Stranger("HDU", lambda a: fits.ImageHDU(a, fits.Header(HEADER)), same, Refused(TypeError, "expected an array")),
    Stranger("Map", lambda a: Map(a, HEADER), same, Refused(TypeError, "expected an array")),
]
HOLES = [
    Stranger("NaN block", lambda a: without(a, block(a.shape)), same, pointwise()),
    Stranger("one valid pixel", lambda a: without(a, all_but_one(a.shape)), same, pointwise(all_but_one)),
    Stranger("all NaN", lambda a: without(a, everything(a.shape)), same, pointwise(everything)),
]

ARRAYS = LAYOUTS + TYPES + CONTAINERS + HOLES


def hidden(holes):
    """Pixels that are not valid, with garbage in them."""
    kinds = {"b": lambda a, pixels: a & ~pixels, "f": garbage}
    return lambda a: kinds.get(a.dtype.kind, lambda a, pixels: a)(a, holes(a.shape))


# For functions that are told which pixels are valid.
MASKED = LAYOUTS + TYPES + CONTAINERS
HIDING = [
    Stranger(one.name, one.odd, hidden(holes))
    for one, holes in zip(HOLES, (block, all_but_one, everything), strict=True)
]
MASKED += HIDING
# A Map has two axes.
MASKED_STACKS = [one for one in MASKED if one.name != "Map"]


# -------------------------------------------------------------------------------------------------------- cubes


def rebuild(cube, **changed):
    """The cube with some of its parts changed."""
    names = "data", "wcs", "uncertainty", "mask", "meta", "unit", "flags"
    return type(cube)(**{name: getattr(cube, name) for name in names} | changed)


def everywhere(change):
    """The change to all arrays of a cube."""

    def apply(cube):
        arrays = {name: change(getattr(cube, name)) for name in ("data", "mask", "flags")}
        return rebuild(cube, uncertainty=StdDevUncertainty(change(cube.uncertainty.array), copy=False), **arrays)

    return apply


def data(change):
    return lambda cube: rebuild(cube, data=change(cube.data))


def with_mask(change, *, old=True):
    """The cube with the pixels masked that ``change`` chooses, and garbage under the mask."""

    def apply(cube):
        pixels = change(cube.shape)
        return rebuild(cube, data=garbage(cube.data, pixels), mask=cube.mask | pixels if old else pixels)

    return apply


def with_uncertainty(change):
    return lambda cube: rebuild(cube, uncertainty=change(cube.uncertainty.array))


def other_unit(cube):
    unit = u.Unit(1000 * cube.unit)
    sigma = StdDevUncertainty(cube.uncertainty.array / 1000)
    return rebuild(cube, data=cube.data / 1000, uncertainty=sigma, unit=unit)


def some_zero(array):
    return np.where(block(array.shape), array.dtype.type(0), array**-2)


def other_observer(cube):
    """As seen from another place: only coordinates know it."""
    aux, names = cube.wcs.celestial.wcs.aux, cube.wcs.array_axis_names
    place = (aux.hgln_obs + 30) * u.deg, aux.hglt_obs * u.deg, aux.dsun_obs * u.m
    observer = SkyCoord(*place, frame=HeliographicStonyhurst(obstime=cube.time[0]))
    exposure_time = cube.exposure_time[:, 0] if "channel" in names else None
    return rebuild(
        cube,
        wcs=level3_wcs(cube.wcs.celestial, cube.time, cube.channel, observer=observer, exposure_time=exposure_time),
    )


def plain_astropy(cube):
    header = cube.wcs.celestial.to_header()
    full = WCS(naxis=cube.data.ndim)
    full.wcs.ctype = [header["CTYPE1"], header["CTYPE2"], "CHANNEL", "TIME"][: cube.data.ndim]
    for name in ("crpix", "crval", "cdelt"):
        getattr(full.wcs, name)[:2] = getattr(cube.wcs.celestial.wcs, name)
    full.wcs.set()
    return rebuild(cube, wcs=full)


def wrapped(cube):
    return rebuild(cube, wcs=HighLevelWCSWrapper(SlicedLowLevelWCS(cube.wcs, [slice(None)] * cube.data.ndim)))


def contained(kind):
    """A cube of what has a mask of its own."""
    return lambda c: rebuild(c, data=kind(garbage(c.data, block(c.shape)), mask=block(c.shape)), mask=None)


def emptied(holes):
    return lambda c: rebuild(c, data=without(c.data, holes(c.shape)))


CUBES = [
    *[Stranger(one.name, everywhere(one.odd)) for one in LAYOUTS],
    Stranger("float64", everywhere(lambda a: a.astype(float) if a.dtype.kind == "f" else a), same, close),
    *[Stranger(one.name, data(one.odd), data(one.plain), close) for one in TYPES[1:]],
    Stranger("NaN block", emptied(block), with_mask(block), valid),
    Stranger("one valid pixel", emptied(all_but_one), with_mask(all_but_one), valid),
    Stranger("all NaN", emptied(everything), with_mask(everything), valid),
    Stranger("mask False", lambda c: rebuild(c, mask=False), with_mask(nothing, old=False)),
    Stranger("mask True", lambda c: rebuild(c, mask=True), with_mask(everything), valid),
    Stranger("no mask", lambda c: rebuild(c, mask=None), with_mask(nothing, old=False)),
    Stranger("variance", with_uncertainty(lambda s: VarianceUncertainty(s**2)), same, close),
    Stranger("inverse variance", with_uncertainty(lambda s: InverseVariance(s**-2)), same, close),
    Stranger(
        "inverse variance 0",
        with_uncertainty(lambda s: InverseVariance(some_zero(s))),
        with_uncertainty(lambda s: StdDevUncertainty(np.where(block(s.shape), s.dtype.type(np.inf), s))),
        close,
    ),
    Stranger("unknown uncertainty", with_uncertainty(UnknownUncertainty), same, unsure),
    Stranger("no uncertainty", with_uncertainty(lambda s: None), same, unsure),
    Stranger("other unit", other_unit, same, converted),
    Stranger("one exposure", lambda c: c[:1], same, piece(np.s_[:1])),
    Stranger("one channel", lambda c: c[:, :1], same, piece(np.s_[:, :1])),
    Stranger("one image", lambda c: c[0, 0], same, piece(np.s_[0, 0])),
    Stranger("other observer", other_observer, same, observed),
    Stranger("astropy WCS", plain_astropy),
    Stranger("sliced wrapper", wrapped),
]


def only(*names):
    return [one for one in CUBES if one.name in names]


# For functions that take long.
FEW = only("big-endian", "Fortran", "Dask", "NaN block", "no mask", "variance", "other unit")
# For those to which only the coordinates matter.
PLACES = only(
    "big-endian", "one exposure", "one channel", "one image", "other observer", "astropy WCS", "sliced wrapper"
)
# Images of several channels have one place.
SHARED = [one for one in CUBES if one.name != "other observer"]
# Detector pixels have no observer.
FRAMES = [one for one in CUBES if one.name not in ("other observer", "astropy WCS")]
# Differences that the constructor removes once and for all.
CONTENTS = [
    *[
        Stranger(name, contained(kind), with_mask(block, old=False))
        for name, kind in {"numpy.ma": np.ma.array, "Masked": Masked, "NDData": NDData}.items()
    ],
    Stranger("Quantity", lambda c: rebuild(c, data=c.data * c.unit, unit=None)),
    Stranger("HDU", lambda c: rebuild(c, data=fits.ImageHDU(c.data)), same, Refused(TypeError, "numpy array")),
]
