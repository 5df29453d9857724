"""Level-1 cubes as they may come: in other units, with other uncertainties, masks, types and memory."""

import dask.array as da
import numpy as np
import pytest
from helpers import daily

import astropy.units as u
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESISLevel1Cube, form_level3
from esis_ndcube.field_stop.edges import find_edges
from esis_ndcube.flags import Flag

PER_PHOTON = {name: 12398.4198 / wavelength / 3.6 for name, wavelength in (("O V", 629.732), ("He I", 584.334))}


def form(level1, **options):
    return form_level3(level1, **{"stage": "linear", "vignetting": False, "normalize": False} | options)


@pytest.fixture(scope="module")
def level1(small_flight):
    return small_flight.level1[:1, :2]


@pytest.fixture(scope="module")
def expected(level1):
    return form(level1)


def like(level1, **parts):
    """The cube with some of its parts replaced."""
    uncertainty = StdDevUncertainty(level1.uncertainty.array)
    own = {"data": level1.data, "uncertainty": uncertainty, "mask": level1.mask, "flags": level1.flags}
    return ESISLevel1Cube(**{"wcs": level1.wcs, "meta": level1.meta, "unit": level1.unit} | own | parts)


def rate(level1):
    return like(
        level1,
        data=level1.data / np.float32(10),
        uncertainty=StdDevUncertainty(level1.uncertainty.array / np.float32(10)),
        unit="electron / s",
    )


UNITS = {
    "1000 electron": lambda cube: cube.to("1000 electron"),
    "electron / pix": lambda cube: like(cube, unit="electron / pix"),
    "photons of this line": lambda cube: cube.to_photons("O V"),
    "photons of another line": lambda cube: cube.to_photons("He I"),
    "kilophotons": lambda cube: cube.to_photons("O V").to("1000 ph / pix"),
    "electron / s": rate,
    "electron / s, by the cube": lambda cube: cube.to("electron / s"),
    "photons times electrons per photon": lambda cube: (
        cube.to_photons("He I") * (PER_PHOTON["He I"] * u.electron / u.ph)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("unit", daily(*UNITS))
def test_units_that_are_electrons(level1, expected, unit):
    cube = UNITS[unit](level1)
    electrons = cube.to_electrons()
    assert electrons.unit == u.electron
    np.testing.assert_allclose(electrons.data, level1.data, rtol=2e-6)
    np.testing.assert_allclose(electrons.uncertainty.array, level1.uncertainty.array, rtol=2e-6)
    assert electrons.line is None
    formed, of_electrons = form(cube), form(electrons)
    np.testing.assert_array_equal(formed.data, of_electrons.data)
    np.testing.assert_array_equal(formed.uncertainty.array, of_electrons.uncertainty.array)
    assert formed.unit == expected.unit
    # Alignments are fitted to values that differ in their last bits.
    inside = ~expected.mask
    tolerance = 1e-3 * np.nanstd(expected.data)
    np.testing.assert_allclose(formed.data[inside], expected.data[inside], rtol=1e-4, atol=tolerance)


def test_unit_that_loses_no_bit(level1, expected):
    sigma = StdDevUncertainty(level1.uncertainty.array / np.float32(1024))
    formed = form(like(level1, data=level1.data / np.float32(1024), uncertainty=sigma, unit="1024 electron"))
    np.testing.assert_array_equal(formed.data, expected.data)
    np.testing.assert_array_equal(formed.uncertainty.array, expected.uncertainty.array)


@pytest.mark.parametrize(
    ("unit", "problem"),
    [
        (None, "got a Level-1 cube without unit, expected electrons"),
        ("DN", "got a Level-1 cube in DN, expected electrons"),
        ("m", "got a Level-1 cube in m, expected electrons"),
        ("ph / pix", r"got a Level-1 cube in ph / pix of an unknown line, .* flight\.electrons_per_photon"),
    ],
)
def test_units_that_are_none(level1, unit, problem):
    with pytest.raises(ValueError, match=problem):
        form(like(level1, unit=unit))


def test_electrons_stay_what_they_are(level1):
    assert level1.to_electrons() is level1
    photons = level1.to_photons("O V")
    np.testing.assert_allclose(photons.data * PER_PHOTON["O V"], level1.data, rtol=1e-6)
    again = level1.to("1000 electron").to_photons("O V")
    np.testing.assert_allclose(again.data, photons.data, rtol=1e-6)
    with pytest.raises(ValueError, match=r"in ph / pix, expected one in electrons: to_electrons\(\) goes back"):
        photons.to_photons("O V")


def with_sigma(kind, unit=None):
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    return lambda cube: like(cube, uncertainty=kind(cube.uncertainty.array.astype(float) ** power, unit=unit))


UNCERTAINTIES = {
    "variance": with_sigma(VarianceUncertainty),
    "inverse variance": with_sigma(InverseVariance),
    "own unit": lambda cube: like(
        cube, uncertainty=StdDevUncertainty(cube.uncertainty.array / 1000.0, unit="1000 electron")
    ),
}


@pytest.mark.parametrize("kind", daily(*UNCERTAINTIES))
def test_uncertainties(level1, expected, kind):
    formed = form(UNCERTAINTIES[kind](level1))
    np.testing.assert_array_equal(formed.data, expected.data)
    np.testing.assert_allclose(formed.uncertainty.array, expected.uncertainty.array, rtol=1e-5)


@pytest.mark.parametrize("output", [True, False])
@pytest.mark.parametrize("kind", [None, UnknownUncertainty])
@pytest.mark.slow
def test_without_uncertainty(level1, expected, tmp_path, kind, output):
    cube = like(level1, uncertainty=kind and kind(level1.uncertainty.array))
    options = {"output": tmp_path / "l3.fits"} if output else {}
    if kind is None:
        formed = form(cube, **options)
    else:
        with pytest.warns(SunpyUserWarning, match="no uncertainty"):
            formed = form(cube, **options)
    assert formed.uncertainty is None
    np.testing.assert_array_equal(np.asarray(formed.data), expected.data)
    np.testing.assert_array_equal(np.asarray(formed.flags), expected.flags)


@pytest.mark.slow
def test_normalization_without_uncertainty(level1):
    formed = form(like(level1, uncertainty=None), normalize=True)
    np.testing.assert_array_equal(formed.data, form(level1, normalize=True).data)


LAYOUTS = {
    "float64": lambda x: x.astype(float),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "Fortran": np.asfortranarray,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "lazy": lambda x: da.from_array(x, chunks=(1, 1, 40, 50)),
}


@pytest.mark.parametrize("layout", daily(*LAYOUTS))
def test_memory(level1, expected, layout):
    change = LAYOUTS[layout]
    cube = like(level1, data=change(level1.data), uncertainty=StdDevUncertainty(change(level1.uncertainty.array)))
    formed = form(cube)
    if layout == "float64":
        np.testing.assert_allclose(formed.data, expected.data, rtol=1e-6, atol=1e-6 * np.nanstd(expected.data))
    else:
        np.testing.assert_array_equal(formed.data, expected.data)
    np.testing.assert_allclose(formed.uncertainty.array, expected.uncertainty.array, rtol=1e-6)
    np.testing.assert_array_equal(formed.flags, expected.flags)


def block(level1):
    """A bad part of the frame, where the field stop is."""
    bad = np.zeros(level1.shape, dtype=bool)
    rows, columns = (slice(2 * n // 5, n // 2) for n in level1.shape[2:])
    bad[0, 1, rows, columns.start + level1.shape[3] // 4 : columns.stop + level1.shape[3] // 4] = True
    return bad


@pytest.mark.slow
def test_what_is_invalid_is_invalid_however_it_is_said(level1, expected):
    bad = block(level1)
    flags = np.where(bad, level1.flags | level1.flags.dtype.type(Flag.BAD_PIXEL), level1.flags)
    said = form(like(level1, flags=flags, mask=level1.mask | bad))
    assert (said.mask & ~expected.mask).sum() > 20
    for other in (
        like(level1, mask=level1.mask | bad),
        like(level1, mask=level1.mask | bad, flags=None),
        like(level1, flags=flags, mask=None),
    ):
        formed = form(other)
        np.testing.assert_array_equal(formed.mask, said.mask)
        np.testing.assert_array_equal(formed.data, said.data)
        # Without flags it is not known where particles hit.
        kept = ~np.uint8(0 if other.flags is not None else Flag.SPIKE)
        np.testing.assert_array_equal(formed.flags & kept, said.flags & kept)
        np.testing.assert_array_equal(find_edges(other).shift, find_edges(like(level1, flags=flags)).shift)


def test_not_a_number_is_invalid(level1, expected):
    bad = block(level1)
    formed = form(like(level1, data=np.where(bad, np.float32(np.nan), level1.data)))
    assert (formed.mask & ~expected.mask).sum() > 20
    assert np.isfinite(formed.data[~formed.mask]).all()


@pytest.mark.parametrize("mask", [None, False, np.False_])
@pytest.mark.slow
def test_masks_of_one_value(level1, expected, mask):
    formed = form(like(level1, mask=mask))
    np.testing.assert_array_equal(formed.data, expected.data)


def test_all_masked(level1):
    with pytest.raises(ValueError, match="no usable frame"):
        form(like(level1, mask=True))


@pytest.mark.parametrize("lacking", ["flight", "frame_number", "file", "mid_time", "exposure_time"])
def test_metadata_that_lack(level1, lacking):
    meta = {key: value for key, value in level1.meta.items() if key != lacking}
    with pytest.raises(ValueError, match=f"got a Level-1 cube without {lacking} in its metadata"):
        form(like(level1, meta=meta))
