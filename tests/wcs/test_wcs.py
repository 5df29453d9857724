"""The WCS: exact times, true FITS slices, headers."""

import copy
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import assert_wcs_equal, make_times
from hypothesis import given, settings

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS, DistortionLookupTable
from sunpy.coordinates import HeliographicStonyhurst, get_earth

from esis_ndcube import ESIS_1, ESISLevel3Cube
from esis_ndcube.wcs import ESISWCS, SlicedESISWCS, level1_wcs, level3_wcs, normalize_item
from esis_ndcube.wcs._digits import set_number

SHAPE = (6, 4, 1270, 1270)
TIMES = make_times(6)


@pytest.fixture(scope="module", params=[(1, 2, 3, 4), (1, 2, 4, 7)], ids=["even", "uneven"])
def wcs(request):
    return level3_wcs(ESIS_1.grid, TIMES, request.param, exposure_time=10 * u.s)


@st.composite
def items(draw, shape, celestial_integers=True):
    """An index that numpy takes too, of integers and ranges of either sign."""
    result = []
    for axis, n in enumerate(shape[: draw(st.integers(1, len(shape)))]):
        if draw(st.booleans()) and (axis < 2 or celestial_integers):
            result.append(draw(st.integers(-n, n - 1)))
        else:
            start = draw(st.integers(0, n - 1))
            stop = draw(st.integers(start + 1, n))
            result.append(slice(start - n if draw(st.booleans()) else start, stop - n if stop < n else None))
    return tuple(result)


def world_of_slice(parent, item, pixel):
    """World values of the parent at a pixel of the slice (in FITS order), from the item alone."""
    item = item + (slice(None),) * (len(SHAPE) - len(item))
    pixel = iter(pixel[::-1])
    full = [
        x % n if not isinstance(x, slice) else x.indices(n)[0] + next(pixel) for x, n in zip(item, SHAPE, strict=True)
    ]
    return np.array(parent.pixel_to_world_values(*full[::-1]))


@pytest.mark.slow
@settings(max_examples=50)
@given(item=items(SHAPE), where=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_slices_have_the_world_values_of_the_parent(wcs, item, where):
    try:
        part = wcs[item]
    except ValueError:
        assert len(item) == 4
        assert not any(isinstance(x, slice) for x in item)
        return
    expected_shape = np.broadcast_to(0, SHAPE)[item].shape
    assert part.array_shape == expected_shape
    pixel = [round(f * (n - 1)) for f, n in zip(where, expected_shape[::-1], strict=False)]
    expected = world_of_slice(wcs, item, pixel)
    world = np.atleast_1d(part.pixel_to_world_values(*pixel)).ravel()
    full = item + (slice(None),) * (4 - len(item))
    gone = {name for name, x in zip(("time", "channel", "y", "x"), full, strict=True) if not isinstance(x, slice)}
    kept = [name not in gone for name in ("channel", "time")]
    if not {"x", "y"} <= gone:
        celestial = [(a - b + 180) % 360 - 180 for a, b in zip(world[:2], expected[:2], strict=True)]
        np.testing.assert_allclose(np.array(celestial) * 3600, 0, atol=1e-9)
        world = world[2:]
    others = [value for value, keep in zip(expected[2:], kept, strict=True) if keep]
    np.testing.assert_allclose(world, others, rtol=0, atol=1e-6)
    assert isinstance(part, SlicedESISWCS if gone & {"x", "y"} else ESISWCS)
    dropped = part.dropped_world_dimensions
    values = dict(zip(dropped.get("world_axis_names", ()), dropped.get("value", ()), strict=True))
    assert gone & {"time", "channel"} == values.keys() & {"time", "channel"}
    for name, value in zip(("channel", "time"), expected[2:], strict=True):
        if name in values:
            assert values[name] == pytest.approx(value, abs=1e-6)


@pytest.mark.slow
@settings(max_examples=20)
@given(first=items(SHAPE, celestial_integers=False), data=st.data())
def test_slicing_twice_is_slicing_once(wcs, first, data):
    part = wcs[first]
    second = data.draw(items(part.array_shape))
    names = part.array_axis_names
    second = tuple(
        slice(x % n, x % n + 1) if not isinstance(x, slice) and name in "xy" else x
        for x, n, name in zip(second, part.array_shape, names, strict=False)
    )
    twice = part[second]
    starts, inner = [], iter([*second, *(slice(None),) * (len(names) - len(second))])
    for x, n in zip([*first, *(slice(None),) * (4 - len(first))], SHAPE, strict=True):
        if not isinstance(x, slice):
            starts.append(x)
            continue
        start, stop, _ = x.indices(n)
        y = next(inner)
        if isinstance(y, slice):
            a, b, _ = y.indices(stop - start)
            starts.append(slice(start + a, start + b))
        else:
            starts.append(start + y % (stop - start))
    assert_wcs_equal(twice, wcs[tuple(starts)])


def test_times_are_exact(wcs):
    for i, time in enumerate(TIMES):
        world = wcs.pixel_to_world(0, 0, 0, i)[-1]
        assert abs((world - time).to_value("s")) < 1e-9
        assert abs((wcs[i].times - time).to_value("s")) < 1e-9
    assert np.abs((wcs.times - TIMES).to_value("s")).max() < 1e-9


def test_plain_astropy_reads_the_header_and_tables(wcs):
    hdulist = wcs.to_fits()
    hdulist[0].header["NAXIS"] = 0
    with pytest.warns(match="more axes"):
        plain = WCS(hdulist[0].header, hdulist)
    assert type(plain) is WCS
    grid = np.meshgrid([0, 1000], [3, 777], np.arange(4), np.arange(6))
    for mine, theirs in zip(wcs.pixel_to_world_values(*grid), plain.pixel_to_world_values(*grid), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(plain.pixel_to_world_values(0, 0, np.arange(4), 0)[2], wcs.channels)


def test_image_header():
    times = Time(["2019-09-30T18:08:00.25", "2019-09-30T18:08:10.5", "2019-09-30T18:08:30"])
    places = HeliographicStonyhurst([0.1, 0.2, 0.3] * u.deg, [6, 7, 8] * u.deg, [1, 1.01, 1.02] * u.AU, obstime=times)
    wcs = level3_wcs(ESIS_1.grid, times, [1, 3], exposure_time=[10, 9, 8] * u.s, observer=SkyCoord(places))
    header = wcs[1, 1, 100:700, 200:900].to_header()
    assert (header["CRPIX1"], header["CRPIX2"]) == (613.5 - 200, 668.5 - 100)
    assert header["DATE-AVG"] == "2019-09-30T18:08:10.500000000"
    assert header["DATE-BEG"] == header["DATE-OBS"] == "2019-09-30T18:08:06.000000000"
    assert header["DATE-END"] == "2019-09-30T18:08:15.000000000"
    assert header["MJD-AVG"] == pytest.approx(times[1].mjd, abs=1e-11)
    assert header["XPOSURE"] == 9
    assert (header["HGLN_OBS"], header["HGLT_OBS"]) == pytest.approx((0.2, 7))
    assert header["DSUN_OBS"] == pytest.approx((1.01 * u.AU).to_value("m"))
    assert header["RSUN_REF"] == pytest.approx(6.957e8)
    assert header["WCSAXES"] == 2
    assert wcs[:2].wcs.datebeg == "2019-09-30T18:07:55.250000000"
    assert wcs[:2].wcs.dateend == "2019-09-30T18:08:15.000000000"
    assert repr(ESISWCS(header).to_header()) == repr(header)


def test_default_observer_is_earth(wcs):
    earth = get_earth(TIMES[2])
    part = wcs[2, 0]
    assert part.wcs.aux.hglt_obs == pytest.approx(earth.lat.deg, abs=1e-9)
    assert part.wcs.aux.dsun_obs == pytest.approx(earth.radius.to_value("m"), rel=1e-12)


def test_header_has_every_digit():
    grid = ESIS_1.grid.deepcopy()
    grid.wcs.crpix = 1 / 3, np.pi * 100
    grid.wcs.crval = 1e-3 / 7, -1 / 9
    grid.wcs.pc = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    wcs = level3_wcs(grid, TIMES, [2])[0, 0]
    plain = WCS(wcs.to_header())
    for name in ("crpix", "crval", "cdelt"):
        np.testing.assert_array_equal(getattr(plain.wcs, name), getattr(wcs.wcs, name))
        np.testing.assert_array_equal(getattr(plain.wcs, name), getattr(grid.wcs, name))
    np.testing.assert_array_equal(plain.wcs.pc, grid.wcs.pc)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("item", [..., (0, 0), (slice(1, 3), 2), (slice(2, 3),)])
def test_copies_are_equal(wcs, copier, item):
    part = wcs[item]
    assert_wcs_equal(copier(part), part)


def test_row_can_be_pickled_and_sliced(wcs):
    row = wcs[2, 1, 10]
    again = pickle.loads(pickle.dumps(row))
    assert again.pixel_to_world_values(7) == row.pixel_to_world_values(7)
    assert_wcs_equal(wcs[2, 1][10]._wcs, row._wcs)
    assert_wcs_equal(wcs[:, :, 10][2, 1]._wcs, row._wcs)
    assert row[5:9].pixel_to_world_values(0) == row.pixel_to_world_values(5)
    assert row.array_axis_names == ["x"]
    assert not hasattr(row, "to_header")


def test_single_exposure_is_on_a_line(wcs):
    part = wcs[3:4]
    assert part.wcs.ctype[3] == "UTC"
    edges = part.pixel_to_world_values(0, 0, 0, np.array([-0.5, 0.5]))[3]
    assert np.diff(edges) == pytest.approx(10)


def test_dropaxis(wcs):
    with pytest.raises(ValueError, match="already the two-dimensional"):
        wcs[0, 0].dropaxis(0)
    with pytest.raises(ValueError, match="celestial pair"):
        wcs.dropaxis(1)
    assert wcs.dropaxis(3).naxis == 3
    assert wcs.celestial.naxis == 2


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (None, "None"),
        (slice(None, None, 2), "step of 2"),
        (slice(None, None, -1), "step of -1"),
        (slice(3, 3), "selects nothing"),
        (slice(5, 2), "selects nothing"),
        (np.array([True, False]), "masks"),
        ([0, 1], "masks"),
        (True, "bool"),
        (1.0, "float"),
        (slice(0.5, 2), "range of integers"),
        (6, "-6 to 5"),
        (-7, "-6 to 5"),
        ((0, 0, 0, 0, 0), "5 indices"),
        ((..., 0, ...), "more than one"),
        ((0, slice(None, None, -1)), "step"),
    ],
)
def test_bad_indices(wcs, item, words):
    with pytest.raises(IndexError, match=words) as error:
        wcs[item]
    assert "\n" not in str(error.value)


@given(item=items((5, 3, 7)))
def test_normalize_item_agrees_with_numpy(item):
    array = np.arange(105).reshape(5, 3, 7)
    normal = normalize_item(item, array.shape)
    np.testing.assert_array_equal(array[normal], array[item])
    assert all(x.start >= 0 if isinstance(x, slice) else x >= 0 for x in normal)


def test_level1_axes_are_independent():
    wcs = level1_wcs((5, 7), TIMES, [1, 3])
    assert wcs.array_axis_names == ["time", "channel", "y", "x"]
    row = wcs[0, 1, 4]
    assert isinstance(row, ESISWCS)
    assert row.pixel_to_world_values(6) == 6
    assert wcs[..., 2:, 3:].pixel_to_world_values(1, 1, 0, 0)[:2] == (4, 3)
    assert row.channels == 3


@pytest.mark.parametrize(
    ("times", "channels", "words"),
    [
        (TIMES[::-1], [1], "increasing"),
        (TIMES[0], [1], "shape"),
        (TIMES, [2, 1], "increasing whole"),
        (TIMES, [], "increasing whole"),
        (TIMES, [1.5], "increasing whole"),
    ],
)
def test_bad_axes(times, channels, words):
    with pytest.raises(ValueError, match=words):
        level3_wcs(ESIS_1.grid, times, channels)


def test_bad_celestial():
    with pytest.raises(ValueError, match="celestial"):
        level3_wcs(WCS(naxis=2), TIMES, [1])
    grid = ESIS_1.grid.deepcopy()
    grid.array_shape = None
    with pytest.raises(ValueError, match="unknown size"):
        level3_wcs(grid, TIMES, [1])
    with pytest.raises(TypeError, match="observer"):
        level3_wcs(ESIS_1.grid, TIMES, [1], observer="SDO")


SIZES = st.floats(-12, 0).map(lambda exponent: 10.0**exponent)
SIGNED = st.builds(lambda size, sign: size * sign, SIZES, st.sampled_from([-1, 1])) | st.just(0.0)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    cdelt=st.tuples(SIZES, SIZES),
    crval=st.tuples(SIGNED, SIGNED),
    roll=SIGNED,
    crpix=st.tuples(st.floats(-1e6, 1e6), SIGNED),
    place=st.tuples(SIGNED, SIGNED, st.floats(0.1, 2)),
    count=st.integers(1, 2),
)
def test_numbers_of_any_size_are_legal_cards(tmp_path_factory, cdelt, crval, roll, crpix, place, count):
    grid = ESIS_1.grid.deepcopy()
    grid.array_shape = 3, 4
    grid.wcs.cdelt, grid.wcs.crval, grid.wcs.crpix = cdelt, crval, crpix
    grid.wcs.pc = [[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]
    frame = HeliographicStonyhurst(place[0] * u.deg, place[1] * u.deg, place[2] * u.AU, obstime=TIMES[0])
    wcs = level3_wcs(grid, TIMES[:count], [1, 2], observer=SkyCoord(frame), exposure_time=np.pi * u.s)
    cube = ESISLevel3Cube(np.ones(wcs.array_shape), wcs=wcs)
    header = cube[0, 0].wcs.to_header()
    fits.PrimaryHDU(header=fits.Header.fromstring(header.tostring())).verify("exception")
    path = tmp_path_factory.mktemp("small") / "a.fits"
    cube.write(path)
    with fits.open(path, checksum=True) as hdulist:
        hdulist.verify("exception")
        plain = WCS(hdulist["DATA"].header, hdulist)
    for other in (WCS(header), plain, ESISLevel3Cube.read(path).wcs):
        for name in ("crpix", "crval", "cdelt"):
            np.testing.assert_array_equal(getattr(other.wcs, name)[:2], getattr(grid.wcs, name))
        np.testing.assert_array_equal(other.wcs.get_pc()[:2, :2], grid.wcs.get_pc())
        for name in ("hgln_obs", "hglt_obs", "dsun_obs"):
            assert getattr(other.wcs.aux, name) == getattr(wcs.wcs.aux, name)
    for image in cube[0].write_images(path.parent):
        with fits.open(image, checksum=True) as hdulist:
            hdulist.verify("exception")
            scale = WCS(hdulist[0].header).wcs.get_cdelt()
        np.testing.assert_allclose(scale, cdelt, rtol=1e-15)


HELIO = {
    **{"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRPIX1": 100 / 3},
    **{"CRPIX2": -200 / 7, "CRVAL1": 10 / 3, "CRVAL2": -1e-3 / 7, "CDELT1": 0.6 / 7, "CDELT2": 0.6 / 9},
    **{"HGLN_OBS": 1 / 3, "HGLT_OBS": 7 / 3, "DSUN_OBS": 1.5e11 / 7, "RSUN_REF": 6.96e8 / 3},
}
TURNED = HELIO | {"PC1_2": -1 / 3e3, "PC2_1": 1 / 7e3}
SIP = TURNED | {"CTYPE1": "HPLN-TAN-SIP", "CTYPE2": "HPLT-TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": -1e-5 / 7}
CUBIC = TURNED | {"NAXIS": 3, "NAXIS1": 4, "NAXIS2": 5, "NAXIS3": 6, "CTYPE3": "WAVE", "CUNIT3": "nm"}
CUBIC |= {"CRVAL3": 629.7 / 3, "CDELT3": 0.037 / 3, "CRPIX3": 1 / 3}
SKY = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 100 / 3, "CRVAL2": 50 / 7, "CDELT1": -1e-4 / 3}
SKY |= {"CDELT2": 1e-4 / 3, "CRPIX1": 1 / 3, "CRPIX2": 2 / 3, "EQUINOX": 2000 + 1 / 7, "RADESYS": "FK5"}
SKY |= {"RESTFRQ": 1e9 / 7, "VELOSYS": 1 / 3, "ZSOURCE": 1 / 7}
OPTIONS = {
    "key": ({f"{name}A": value for name, value in SKY.items()}, {"key": "A"}),
    "units": (TURNED, {"preserve_units": True}),
    "unfixed": (TURNED, {"fix": False}),
    "strict": (TURNED, {"relax": False}),
    "units translated": (TURNED, {"translate_units": "shd"}),
    "matrix": ({name: x for name, x in HELIO.items() if name[:-1] != "CDELT"} | {"CD1_1": 1 / 3, "CD2_2": 1 / 7}, {}),
    "sip": (SIP, {}),
    "sip and units": (SIP, {"preserve_units": True}),
    "three": (CUBIC, {}),
    "three and units": (CUBIC, {"preserve_units": True}),
    "two of three": (CUBIC, {"naxis": 2}),
    "image of three": (CUBIC, {"naxis": ["celestial"]}),
    "spectrum of three": (CUBIC, {"naxis": ["spectral"]}),
    "nothing": (None, {"naxis": 3}),
    "lookup": (TURNED, {}),
}
# Cases that astropy before 7.1 does not know.
OPTIONS = {name: x for name, x in OPTIONS.items() if hasattr(WCS, "preserve_units") or "preserve_units" not in x[1]}


@pytest.mark.slow
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("name", OPTIONS)
def test_copies_of_any_wcs_are_what_plain_astropy_has(name, copier):
    cards, options = OPTIONS[name]
    header = None if cards is None else fits.Header()
    for keyword, value in (cards or {}).items():
        if isinstance(value, float):
            set_number(header, keyword, value)
        else:
            header[keyword] = value
    plain, ours = WCS(header, **options), ESISWCS(header, **options)
    if name == "lookup":
        table = np.arange(20, dtype=np.float32).reshape(4, 5) / 3, (1, 1), (1 / 3, 1), (10, 12.5)
        for wcs in (plain, ours):
            wcs.cpdis1, wcs.det2im2 = DistortionLookupTable(*table), DistortionLookupTable(*table)
    pixel = np.random.default_rng(0).uniform(-50, 50, (10, plain.naxis))
    pairs = [(plain, copier(ours)), (plain, copier(copier(ours)))]
    if plain.naxis > 1:
        pairs += [(plain[1:3], copier(ours)[1:3]), (plain[1:3], copier(ours[1:3]))]
    if plain.naxis == 3:
        pairs += [(plain.sub([2, 1]), copier(ours).sub([2, 1])), (plain.sub([2, 1]), copier(ours.sub([2, 1])))]
    for expected, wcs in pairs:
        where = pixel[:, : expected.naxis]
        np.testing.assert_array_equal(wcs.all_pix2world(where, 0), expected.all_pix2world(where, 0))
        for part in ("alt", "ctype", "cunit", "equinox", "radesys", "restfrq", "velosys", "zsource"):
            np.testing.assert_array_equal(getattr(wcs.wcs, part), getattr(expected.wcs, part))
        for part in ("preserve_units", "pixel_shape", "pixel_bounds", "world_axis_units"):
            assert getattr(wcs, part, None) == getattr(expected, part, None)
        assert wcs.wcs.aux.dsun_obs == expected.wcs.aux.dsun_obs


def test_alternative_header_has_every_digit():
    wcs = level3_wcs(ESIS_1.grid, TIMES, [2])[0, 0]
    wcs.wcs.crval = 1e-5 / 3, -1e-7 / 7
    header = wcs.to_header(key="B")
    fits.PrimaryHDU(header=header).verify("exception")
    np.testing.assert_array_equal(WCS(header, key="B").wcs.crval, wcs.wcs.crval)
    assert wcs.wcs.alt == " "
    assert (header["CRVAL1B"], header["CRVAL2B"]) == (1e-5 / 3, -1e-7 / 7)
