"""The sunpy Map source, through sunpy's own factory."""

from pathlib import Path

import numpy as np
import pytest
from helpers import make_cube
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from reproject import reproject_interp

import astropy.units as u
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.time import Time
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective
from sunpy.map.sources import AIAMap

from esis_ndcube import ESISLevel3Cube, ESISMap, Flight
from esis_ndcube.wcs import level3_wcs


@pytest.fixture
def image():
    return make_cube()[2, 1]


@pytest.fixture
def esis_map(image):
    return image.to_map()


def drawn(one, **kwargs):
    axes = Figure().add_subplot(projection=one)
    return one.plot(axes=axes, **kwargs)


def test_what_the_map_knows(image, esis_map):
    assert type(esis_map) is ESISMap
    assert (esis_map.instrument, esis_map.detector, esis_map.nickname) == ("ESIS", "ESIS2", "ESIS2")
    assert (esis_map.wavelength, esis_map.unit, esis_map.processing_level) == (629.732 * u.AA, image.unit, 3)
    assert abs((esis_map.reference_date - image.time).to_value("s")) < 1e-6
    assert esis_map.exposure_time == image.wcs.exposure_time
    assert esis_map.cmap.name == "sdoaia304"
    observer = image.wcs.pixel_to_world(0, 0).observer
    assert esis_map.observer_coordinate.separation_3d(observer).to_value("m") < 1


def test_saved_and_read_back(esis_map, tmp_path):
    esis_map.save(tmp_path / "map.fits")
    back = sunpy.map.Map(tmp_path / "map.fits")
    assert type(back) is ESISMap
    np.testing.assert_array_equal(back.data, esis_map.data)
    assert (back.name, back.unit, back.wavelength) == (esis_map.name, esis_map.unit, esis_map.wavelength)
    assert back.reference_date == esis_map.reference_date
    here, there = (m.pixel_to_world(*([3, 4] * u.pix)) for m in (esis_map, back))
    assert here.separation(there).to_value("arcsec") < 1e-9


def test_image_file_of_a_cube(image, tmp_path):
    """The data are the first extension; those after it are no images of the Sun."""
    image.write(tmp_path / "image.fits")
    back = sunpy.map.Map(tmp_path / "image.fits", hdus=1)
    assert type(back) is ESISMap
    np.testing.assert_array_equal(back.data, image.data)


def test_other_instruments_keep_their_sources(esis_map):
    header = {**esis_map.meta, "instrume": "AIA_4", "telescop": "SDO/AIA"}
    assert type(sunpy.map.Map(esis_map.data, header)) is AIAMap
    assert type(sunpy.map.Map(esis_map.data, {**esis_map.meta, "instrume": "ESIS-II"})) is ESISMap


def test_operations_of_sunpy(esis_map):
    part = esis_map.submap([1, 1] * u.pix, top_right=[3, 2] * u.pix)
    assert type(part) is ESISMap
    np.testing.assert_array_equal(part.data, esis_map.data[1:3, 1:4])
    assert part.uncertainty is None or part.uncertainty.array.shape == part.data.shape
    filled = sunpy.map.Map(np.nan_to_num(esis_map.data), esis_map.meta)
    np.testing.assert_allclose(filled.reproject_to(esis_map.wcs).data, filled.data, rtol=1e-6, atol=1e-6)


def test_reprojected_to_another_observer(esis_map):
    """As plain reproject has it; sunpy makes a map without instrument of it."""
    time = esis_map.reference_date
    observer = SkyCoord(4 * u.deg, -5 * u.deg, 0.8 * u.AU, frame=HeliographicStonyhurst(obstime=time))
    center = esis_map.center.transform_to(Helioprojective(observer=observer, obstime=time))
    header = sunpy.map.make_fitswcs_header((20, 24), center, scale=[0.5, 0.5] * u.arcsec / u.pix)
    seen = esis_map.reproject_to(header)
    expected, _ = reproject_interp((esis_map.data, esis_map.wcs), seen.wcs, shape_out=(20, 24))
    assert np.isfinite(expected).sum() > 50
    np.testing.assert_allclose(seen.data, expected, rtol=1e-8)
    assert abs(seen.observer_coordinate.lon - 4 * u.deg) < 1e-9 * u.deg


def test_a_flight_of_six_channels(tmp_path):
    """Nothing of the first flight is built in: the header describes the image."""
    flight = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")
    channel, line = flight.channels[-1].number, flight.lines[0]
    wcs = level3_wcs(flight.grid, Time(["2027-07-01T18:00:00"]), [channel])[:, :, 100:130, 200:240]
    meta = {"flight": flight, "line": line.name}
    one = ESISLevel3Cube(np.ones((1, 1, 30, 40)), wcs=wcs, unit="ph / pix", meta=meta)[0, 0].to_map()
    one.save(tmp_path / "six.fits")
    back = sunpy.map.Map(tmp_path / "six.fits")
    assert type(back) is ESISMap
    assert (back.instrument, back.detector) == (flight.instrument, flight.channel(channel).camera)
    assert back.wavelength == line.wavelength
    assert back.scale.axis1 == one.scale.axis1


def test_grid_and_limb(esis_map):
    axes = Figure().add_subplot(projection=esis_map)
    esis_map.plot(axes=axes)
    esis_map.draw_grid(axes=axes)
    visible, _ = esis_map.draw_limb(axes=axes)
    vertices = SkyCoord(*(visible.get_xy().T * u.deg), frame=esis_map.coordinate_frame)
    radius = np.hypot(vertices.Tx.wrap_at("180d"), vertices.Ty).to_value("arcsec")
    np.testing.assert_allclose(radius, esis_map.rsun_obs.to_value("arcsec"), rtol=1e-3)


def test_masked_pixels_are_gray(image):
    data = np.where(np.arange(image.shape[1]) < 5, np.nan, image.data)
    one = type(image)(data, wcs=image.wcs, unit=image.unit, meta=image.meta, mask=np.isnan(data)).to_map()
    figure = Figure(dpi=100)
    axes = figure.add_subplot(projection=one)
    one.plot(axes=axes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    x, y = axes.transData.transform((2, image.shape[0] / 2)).astype(int)
    assert np.asarray(canvas.buffer_rgba())[-y, x].tolist() == [128, 128, 128, 255]
    assert [coordinate.get_axislabel() for coordinate in axes.coords] == ["Solar X [arcsec]", "Solar Y [arcsec]"]
    bare = figure.add_subplot(projection=one)
    one.plot(axes=bare, annotate=False)
    assert "Solar X [arcsec]" not in [coordinate.get_axislabel() for coordinate in bare.coords]


def test_neither_spikes_nor_masked_pixels_decide_the_norm(image):
    rng = np.random.default_rng(3)
    data = rng.uniform(10, 20, (200, 200)).astype("f4")
    data[5, 5], data[100:, :100] = 1e6, -1e6
    header = {**image.to_map().meta, "naxis1": 200, "naxis2": 200}
    norm = drawn(sunpy.map.Map(data, header, mask=data == -1e6)).norm
    assert 10 <= norm.vmin < 10.2
    assert 19.8 < norm.vmax <= 20


def test_what_the_user_asks_for_takes_precedence(esis_map):
    clipped = drawn(esis_map, clip_interval=(10, 90) * u.percent).norm
    expected = np.nanpercentile(esis_map.data, [10, 90])
    np.testing.assert_allclose([clipped.vmin, clipped.vmax], expected, rtol=1e-6)
    ranged = drawn(esis_map, vmin=2, vmax=3).norm
    assert (ranged.vmin, ranged.vmax) == (2, 3)
    norm = LogNorm(1, 7)
    assert isinstance(drawn(esis_map, norm=norm).norm, LogNorm)
    esis_map.plot_settings["norm"] = norm
    assert (drawn(esis_map).norm.vmin, drawn(esis_map).norm.vmax) == (1, 7)


def test_map_without_any_valid_pixel(esis_map):
    blank = sunpy.map.Map(np.full_like(esis_map.data, np.nan), esis_map.meta)
    assert drawn(blank).get_array().mask.all()


def limits(one, **kwargs):
    norm = drawn(one, **kwargs).norm
    return norm.vmin, norm.vmax


def cube_picture(cube, **kwargs):
    axes = Figure().add_subplot(projection=cube.wcs)
    return cube.plot(axes=axes, **kwargs).get_images()[0]


ODD_IMAGES = {
    "two signs": lambda image: image - 20,
    "all negative": lambda image: -np.abs(image) - 1,
    "all NaN": lambda image: image * np.nan,
    "one pixel": lambda image: np.where(np.arange(image.size).reshape(image.shape) == 5, image, np.nan),
    "constant": lambda image: np.full(image.shape, 7.0),
    "zero": lambda image: np.zeros(image.shape),
    "faint": lambda image: image * 1e-12,
    "big-endian": lambda image: image.astype(">f4"),
    "integers": lambda image: np.nan_to_num(image).astype(np.int16),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ODD_IMAGES)
@pytest.mark.parametrize("given", [{}, {"vmin": 100}, {"vmax": 1}, {"vmax": -5}, {"vmin": 2, "vmax": 9}])
def test_the_scale_is_that_of_the_cube(image, kind, given):
    odd = ODD_IMAGES[kind](image.data)
    cube = type(image)(odd, wcs=image.wcs, unit=image.unit, meta=image.meta)
    here, there = drawn(cube.to_map(), **given), cube_picture(cube, **given)
    assert (here.norm.vmin, here.norm.vmax) == (there.norm.vmin, there.norm.vmax)
    assert (type(here.norm), type(here.norm.stretch)) == (type(there.norm), type(there.norm.stretch))
    assert (here.cmap.name == "RdBu_r") == (there.cmap.name == "RdBu_r")
    assert here.norm.vmin < here.norm.vmax
    assert given.items() <= {"vmin": here.norm.vmin, "vmax": here.norm.vmax}.items()
    # Each value that is not off the scale can be told from the others.
    here.figure.canvas.draw()


def test_a_difference_shows_both_halves():
    difference = make_cube((1, 2, 40, 44)).difference(1, 2)[0]
    one = difference.to_map()
    picture = drawn(one)
    low, high = np.nanmin(one.data), np.nanmax(one.data)
    assert picture.norm.vmin == -picture.norm.vmax
    assert picture.norm.vmin < 0.8 * low
    assert picture.norm.vmax > 0.8 * high
    assert picture.cmap.name == "RdBu_r"
    assert one.name.startswith("ESIS 629.732 Angstrom 2019")
    # A chosen scale stays.
    assert drawn(one, cmap="gray").cmap.name == "gray"
    one.plot_settings["cmap"] = "viridis"
    assert drawn(one).cmap.name == "viridis"
    assert limits(one, norm=None) == limits(one)


def test_mended_hits_do_not_decide_the_scale_of_a_map(image):
    from esis_ndcube.flags import Flag

    flags = np.zeros(image.shape, dtype=np.uint8)
    flags[2, :8] = Flag.SPIKE
    data = np.where(flags, 1e6, image.data)
    cube = type(image)(data, wcs=image.wcs, unit=image.unit, meta=image.meta, flags=flags)
    assert limits(cube.to_map()) == (cube_picture(cube).norm.vmin, cube_picture(cube).norm.vmax)
    assert limits(cube.to_map())[1] < 1e3
