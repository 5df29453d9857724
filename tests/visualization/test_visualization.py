"""Pictures: what is drawn is the cube's data, and odd input draws too."""

import io
from pathlib import Path

import numpy as np
import pytest
from helpers import make_cube, make_lazy
from matplotlib.figure import Figure
from reproject import reproject_interp

import astropy.units as u
from ndcube.meta import NDMeta
from sunpy.map import Map

from esis_ndcube import ESIS_1, Flight
from esis_ndcube.flags import Flag
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference

LABELS = ["Solar X [arcsec]", "Solar Y [arcsec]"]


@pytest.fixture
def cube():
    return make_cube((3, 4, 30, 40), channels=(1, 2, 3, 4))


def changed(cube, *, flight=None, **parts):
    meta = NDMeta({**cube.meta, "flight": flight or cube.flight}, axes=dict(cube.meta.axes))
    values = {"mask": cube.mask, "flags": cube.flags, "unit": cube.unit, "meta": meta, **parts}
    return ESISLevel3Cube(values.pop("data", cube.data), wcs=cube.wcs, **values)


def draw(figure):
    """Draw a figure, which is when most goes wrong; warnings are errors."""
    figure.savefig(io.BytesIO(), dpi=30)
    return [axis for axis in figure.axes if axis.get_images()]


def shown(axis):
    """The values of the one image of a panel, NaN where it shows none."""
    (image,) = axis.get_images()
    assert image.origin == "lower"
    return np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)


def valid(image):
    return np.where(image.mask, np.nan, image.data).astype(float)


def labels(axis):
    return [coordinate.get_axislabel() for coordinate in axis.coords]


@pytest.mark.slow
def test_channels_are_the_data(cube):
    figure = plot_channels(cube, 110)
    panels = draw(figure)
    assert [axis.get_title() for axis in panels] == [f"Channel {n}" for n in (1, 2, 3, 4)]
    for index, axis in enumerate(panels):
        np.testing.assert_array_equal(shown(axis), valid(cube[1, index]))
        # The panel's coordinates are those of the image.
        expected = cube[1, index].wcs.pixel_to_world_values(7, 3)
        np.testing.assert_array_equal(axis.wcs.pixel_to_world_values(7, 3), expected)
        assert all(coordinate.get_format_unit() == u.arcsec for coordinate in axis.coords)
    assert labels(panels[2]) == LABELS
    assert [text.strip() for text in labels(panels[1])] == ["", ""]
    assert figure.get_suptitle() == f"ESIS O V, {cube.time[1].isot[:19].replace('T', ' ')} UTC, frame 110"
    (bar,) = [axis for axis in figure.axes if not axis.get_images()]
    assert bar.get_ylabel() == "O V [ph / pix]"
    # One scale for all, from what is valid.
    norms = [axis.get_images()[0].norm for axis in panels]
    spike = cube.flags[1] & Flag.SPIKE != 0
    expected = cube.data[1][~cube.mask[1] & np.isfinite(cube.data[1]) & ~spike]
    for norm in norms:
        assert (norm.vmin, norm.vmax) == (norms[0].vmin, norms[0].vmax)
    np.testing.assert_allclose(norms[0].vmax, np.percentile(expected, 99.7))
    np.testing.assert_allclose(norms[0].vmin, np.percentile(expected, 0.5))


def test_arrows_point_toward_longer_wavelength(cube):
    """Along +u of the detector as the pose has it, solar north up."""
    for index, axis in enumerate(draw(plot_channels(cube))):
        (arrow,) = [text for text in axis.texts if text.arrow_patch is not None]
        direction = np.subtract(arrow.xy, arrow.xyann)
        matrix = ESIS_1.pose(index + 1)[:, :2]
        along = np.linalg.solve(matrix, [1, 0])
        angle = np.degrees(np.arctan2(*direction[::-1]) - np.arctan2(*along[::-1]))
        assert abs((angle + 180) % 360 - 180) < 3


@pytest.mark.slow
def test_first_exposure_by_default(cube):
    np.testing.assert_array_equal(shown(draw(plot_channels(cube[:, :1]))[0]), valid(cube[0, 0]))


def test_difference(cube):
    figure = plot_difference(cube, 3, 1, 111)
    (axis,) = draw(figure)
    bad = cube.mask[2, 2] | cube.mask[2, 0] | ((cube.flags[2, 2] | cube.flags[2, 0]) & Flag.OVERLAP != 0)
    expected = np.where(bad, np.nan, cube.data[2, 2] - cube.data[2, 0])
    assert np.isfinite(expected).sum() > 100
    np.testing.assert_array_equal(shown(axis), expected.astype(float))
    assert axis.get_title() == "Channel 3 minus channel 1"
    low, high = axis.get_images()[0].get_clim()
    assert high == -low
    np.testing.assert_allclose(high, np.nanpercentile(np.abs(expected), 99.7), rtol=1e-6)
    assert labels(axis) == LABELS


NOT_NORMALIZED = "not normalized: call cube.normalize_intensities() first"


def test_a_difference_of_brightness_is_no_doppler_shift(cube):
    """Where the channels are not normalized, text and picture say so and what to do."""
    assert "brightness" not in f"{cube}{cube.difference(3, 1)}"
    values = {key: value for key, value in cube.meta.items() if key != "normalization"}
    axes = {key: axis for key, axis in cube.meta.axes.items() if key != "normalization"}
    plain = changed(cube, meta=NDMeta(values, axes=axes))
    for part in (plain, plain[0], plain.difference(3, 1), plain.difference(3, 1)[0]):
        assert f"\n  brightness: {NOT_NORMALIZED}\n" in f"{part}\n"
    assert draw(plot_difference(plain, 3, 1))[0].get_title() == f"Channel 3 minus channel 1\n{NOT_NORMALIZED}"
    # One channel is compared with none.
    assert "brightness" not in str(plain[:, 1])
    step = ProcessingStep("normalize_intensities")
    normalized = changed(plain, meta=NDMeta({**values, "history": (*cube.history, step)}, axes=axes))
    assert "brightness" not in f"{normalized}{normalized.difference(3, 1)}"


@pytest.mark.slow
def test_with_reference(cube):
    rng = np.random.default_rng(0)
    cube = changed(cube, flags=np.where(rng.random(cube.data.shape) < 0.9, cube.flags & 238, cube.flags))
    grid = cube[1, 0].wcs
    header = grid.to_header()
    header["CRPIX1"] += 2.25
    header["INSTRUME"], header["WAVELNTH"], header["WAVEUNIT"] = "Test", 30.4, "nm"
    reference = Map(rng.random((36, 46)), header)
    figure = plot_with_reference(cube, reference, 110)
    left, right = draw(figure)
    invalid = cube.mask[1] | np.isnan(cube.data[1])
    outside = (cube.flags[1] & (Flag.OUTSIDE | Flag.MISSING) != 0).any(axis=0) | invalid.all(axis=0)
    expected = np.full(outside.shape, np.nan)
    for y, x in np.argwhere(~outside):
        expected[y, x] = min(cube.data[1, c, y, x] for c in range(4) if not invalid[c, y, x])
    assert np.isfinite(expected).sum() > 20
    np.testing.assert_array_equal(shown(left), expected)
    image, _ = reproject_interp((reference.data, reference.wcs), grid, shape_out=(30, 40))
    np.testing.assert_array_equal(shown(right), np.where(outside, np.nan, image))
    assert left.get_title() == "Minimum of the channels"
    assert right.get_title() == "Test 30.4 nm 2019-09-30 18:06:18"
    assert [axis.get_ylabel() for axis in figure.axes if axis not in (left, right)] == [
        "O V [ph / pix]",
        "Test 30.4 nm",
    ]
    assert right.get_images()[0].get_cmap().name == "inferno"
    header["INSTRUME"], header["WAVELNTH"], header["WAVEUNIT"] = "AIA_1", 304, "Angstrom"
    header["TELESCOP"] = "SDO/AIA"
    _, right = draw(plot_with_reference(cube, Map(reference.data, header), 110))
    assert right.get_images()[0].get_cmap().name == "sdoaia304"
    assert "frame 110" in figure.get_suptitle()


def test_one_channel_and_one_exposure(cube):
    figure = plot_channels(cube[2:, 1:2])
    (axis,) = draw(figure)
    np.testing.assert_array_equal(shown(axis), valid(cube[2, 1]))
    assert axis.get_title() == "Channel 2"
    assert labels(axis) == LABELS


@pytest.mark.slow
def test_a_cube_of_one_exposure(cube):
    for one in (cube[1, 1:3], cube[1:2, 1:3]):
        panels = draw(plot_channels(one))
        np.testing.assert_array_equal(shown(panels[1]), valid(cube[1, 2]))
        draw(plot_difference(one, 2, 3, 110))
    with pytest.raises(ValueError, match="got frame 109, expected one of the cube's: 110"):
        plot_channels(cube[1], 109)


@pytest.mark.slow
def test_lazy_cubes_read_the_exposure_once(cube):
    cube = cube[:, :3]
    for function, channels in ((plot_channels, {0, 1, 2}), (lambda *a: plot_difference(a[0], 1, 3, a[1]), {0, 2})):
        lazy, data, mask = make_lazy(cube)
        expected, found = draw(function(cube, 110)), draw(function(lazy, 110))
        np.testing.assert_array_equal([shown(a) for a in found], [shown(a) for a in expected])
        assert sorted(data) == sorted(mask) == [(1, channel) for channel in sorted(channels)]


@pytest.mark.slow
def test_arrows_follow_the_grid(cube):
    """On a grid that is rolled and has oblong pixels they point the same way on the Sun."""
    target = cube[0, 0].wcs.deepcopy()
    target.wcs.pc = np.array([[0.6, -0.8], [0.8, 0.6]])
    target.wcs.cdelt = target.wcs.cdelt * (1, 1.5)
    (upright, *_), (rolled, *_) = (draw(plot_channels(one)) for one in (cube[:, :1], cube[:, :1].reproject_to(target)))

    def angle(axis):
        (arrow,) = [text for text in axis.texts if text.arrow_patch is not None]
        lon, lat = axis.wcs.pixel_to_world_values(*np.transpose([arrow.xyann, arrow.xy]))
        return np.degrees(np.arctan2(np.diff(lat), np.diff((lon + 180) % 360)))[0]

    np.testing.assert_allclose(angle(upright), ESIS_1.channel(1).dispersion_angle.to_value(u.deg), atol=0.01)
    np.testing.assert_allclose(angle(rolled), angle(upright), atol=0.01)


@pytest.mark.slow
def test_level_1(cube):
    """Frames of the detector, on which the wavelength grows with x."""
    panels = draw(plot_channels(make_cube((1, 3, 20, 30), level=1)))
    assert labels(panels[2]) == ["Detector x [pix]", "Detector y [pix]"]
    for axis in panels:
        (arrow,) = [text for text in axis.texts if text.arrow_patch is not None]
        dx, dy = np.subtract(arrow.xy, arrow.xyann)
        assert dx > 0
        assert dy == 0


@pytest.mark.slow
def test_six_channels():
    flight = Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml")
    cube = changed(make_cube((1, 6, 20, 20)), flight=flight)
    panels = draw(plot_channels(cube))
    assert [axis.get_title() for axis in panels] == [f"Channel {n}" for n in range(1, 7)]
    assert [axis.get_subplotspec().get_geometry()[:2] for axis in panels] == [(2, 3)] * 6


@pytest.mark.slow
def test_missing_channel(cube):
    cube.data[0, 1] = np.nan
    panels = draw(plot_channels(cube))
    assert [axis.get_title() for axis in panels][:2] == ["Channel 1", "Channel 2, no data"]
    assert np.isnan(shown(panels[1])).all()
    (axis,) = draw(plot_difference(cube, 1, 2))
    assert np.isnan(shown(axis)).all()


@pytest.mark.slow
def test_nothing_at_all(cube):
    empty = changed(cube, data=np.full_like(cube.data, np.nan))
    reference = Map(np.ones((20, 20)), cube[0, 0].wcs.to_header())
    assert all(np.isnan(shown(axis)).all() for axis in draw(plot_channels(empty)))
    assert all(np.isnan(shown(axis)).all() for axis in draw(plot_with_reference(empty, reference)))


@pytest.mark.slow
def test_constant_and_negative(cube):
    flat = changed(cube, data=np.full_like(cube.data, -3), flags=np.zeros_like(cube.flags), mask=None)
    assert (shown(draw(plot_channels(flat))[0]) == -3).all()
    assert (shown(draw(plot_difference(flat, 1, 2))[0]) == 0).all()


@pytest.mark.slow
def test_without_mask_and_flags(cube):
    bare = changed(cube, mask=None, flags=None, unit=None)
    figure = plot_channels(bare)
    draw(figure)
    (bar,) = [axis for axis in figure.axes if not axis.get_images()]
    assert bar.get_ylabel() == "O V"
    difference = cube.data[0, 0].astype(float) - cube.data[0, 1]
    np.testing.assert_allclose(shown(draw(plot_difference(bare, 1, 2))[0]), difference, rtol=1e-5, atol=1e-5)
    reference = Map(np.ones((20, 20)), cube[0, 0].wcs.to_header())
    lowest = np.where(np.isnan(cube.data[0]), np.inf, cube.data[0]).min(axis=0)
    np.testing.assert_array_equal(shown(draw(plot_with_reference(bare, reference))[0]), lowest)


@pytest.mark.slow
def test_given_figures_are_drawn_on(cube):
    reference = Map(np.ones((20, 20)), cube[0, 0].wcs.to_header())
    for panels, draw_on in (
        (4, lambda figure: plot_channels(cube, figure=figure)),
        (1, lambda figure: plot_difference(cube, 1, 2, figure=figure)),
        (2, lambda figure: plot_with_reference(cube, reference, figure=figure)),
    ):
        given = Figure(layout="constrained")
        assert draw_on(given) is given
        assert len(draw(given)) == panels


@pytest.mark.slow
def test_the_cube_is_not_changed(cube):
    before = cube.data.copy()
    draw(plot_channels(cube))
    draw(plot_difference(cube, 1, 2))
    np.testing.assert_array_equal(cube.data, before)


def test_bad_input(cube):
    reference = Map(np.ones((20, 20)), cube[0, 0].wcs.to_header())
    functions = (
        plot_channels,
        lambda cube, frame: plot_difference(cube, 1, 2, frame),
        lambda cube, frame: plot_with_reference(cube, reference, frame),
    )
    for function in functions:
        with pytest.raises(ValueError, match="got frame 7, expected one of the cube's: 109, 110, 111"):
            function(cube, 7)
        with pytest.raises(ValueError, match="slice with ranges"):
            function(cube[:, 0], None)
    with pytest.raises(ValueError, match="got channel 9"):
        plot_difference(cube, 1, 9)
