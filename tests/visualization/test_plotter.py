"""The plots of ``cube.plot``: valid data, on the right scale, with the right names."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import make_context, make_cube, make_lazy
from matplotlib.colors import LogNorm
from mpl_animators import ArrayAnimatorWCS

import astropy.units as u
from astropy.visualization import AsinhStretch, ImageNormalize
from astropy.visualization.wcsaxes import WCSAxes
from ndcube import NDCube
from ndcube.visualization.mpl_plotter import MatplotlibPlotter

from esis_ndcube import Flight
from esis_ndcube.flags import Flag
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.visualization import ESISPlotter

SUN = ["Solar X [arcsec]", "Solar Y [arcsec]"]


@pytest.fixture(autouse=True)
def figure():
    """A figure of its own for each test, which is drawn at the end; warnings are errors."""
    with plt.rc_context({"figure.dpi": 40}):
        figure = plt.figure()
        yield figure
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
        plt.close("all")


@pytest.fixture(scope="module")
def cube():
    return make_cube((3, 4, 30, 40), channels=(1, 2, 3, 4))


def valid(cube):
    return np.where(cube.mask | ~np.isfinite(cube.data), np.nan, cube.data)


def shown(axes):
    (image,) = axes.get_images()
    return np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)


def norm_of(axes):
    return axes.get_images()[0].norm


def labels(axes):
    return [coordinate.get_axislabel() for coordinate in axes.coords]


def limits(values, flags):
    values = values[np.isfinite(values) & (flags & Flag.SPIKE == 0)]
    return np.percentile(values, 0.5), np.percentile(values, 99.7)


def changed(cube, **parts):
    values = {"mask": cube.mask, "flags": cube.flags, "unit": cube.unit, "meta": cube.meta, **parts}
    return ESISLevel3Cube(values.pop("data", cube.data), wcs=cube.wcs, **values)


# -------------------------------------------------------------------------------------------------------------- images


def test_an_image(cube, figure):
    image = cube[1, 2]
    axes = image.plot()
    assert isinstance(axes, WCSAxes)
    assert axes.figure is figure
    np.testing.assert_array_equal(shown(axes), valid(image).astype(float))
    norm = norm_of(axes)
    np.testing.assert_allclose((norm.vmin, norm.vmax), limits(valid(image), image.flags))
    # As astropy's own stretch of that range.
    values = np.linspace(norm.vmin, norm.vmax, 7)
    expected = ImageNormalize(vmin=norm.vmin, vmax=norm.vmax, stretch=AsinhStretch(0.3))(values)
    np.testing.assert_allclose(norm(values), expected)
    assert axes.get_images()[0].get_cmap().name == "inferno"
    assert axes.get_aspect() == 1
    assert labels(axes) == SUN
    assert [coordinate.get_format_unit() for coordinate in axes.coords] == [u.arcsec] * 2
    np.testing.assert_array_equal(axes.wcs.pixel_to_world_values(7, 3), image.wcs.pixel_to_world_values(7, 3))
    time = image.time.isot[:19].replace("T", " ")
    assert axes.get_title() == f"ESIS O V, channel 3\n{time} UTC, frame 110"
    (bar,) = [other for other in figure.axes if other is not axes]
    assert bar.get_ylabel() == "O V [ph / pix]"


@pytest.mark.parametrize("known_by", ["flags", "mask"])
def test_known_spikes_do_not_decide(cube, known_by):
    clean = changed(cube, flags=np.zeros_like(cube.flags))
    parts = {"data": clean.data.copy(), "mask": clean.mask.copy(), "flags": clean.flags.copy()}
    parts["data"][0, 0, 3:9, 3:5] = 1e7
    parts[known_by][0, 0, 3:9, 3:5] = {"flags": Flag.SPIKE, "mask": True}[known_by]
    norm = norm_of(changed(cube, **parts)[0, 0].plot())
    values = valid(clean[0, 0]).copy()
    values[3:9, 3:5] = np.nan
    np.testing.assert_allclose((norm.vmin, norm.vmax), limits(values, clean.flags[0, 0]))


def test_few_unknown_spikes_of_a_large_image_do_not_decide():
    rng = np.random.default_rng(0)
    cube = make_cube((1, 1, 1000, 900))
    data = rng.normal(20, 2, cube.shape).astype(np.float32)
    data[0, 0].flat[rng.choice(900_000, 500, replace=False)] = 1e5
    norm = norm_of(changed(cube, data=data, mask=None, flags=None)[0, 0].plot())
    assert abs(norm.vmax - (20 + 2.75 * 2)) < 0.5
    # From a sample of the pixels.
    assert abs(norm.vmin - (20 - 2.576 * 2)) < 0.1


def test_given_keywords_win(cube, figure):
    image = cube[0, 0]
    given = LogNorm(1, 50)
    axes = image.plot(norm=given, cmap="gray", interpolation="bilinear", aspect=2, colorbar=False)
    artist = axes.get_images()[0]
    assert artist.norm is given
    assert artist.get_cmap().name == "gray"
    assert artist.get_interpolation() == "bilinear"
    assert axes.get_aspect() == 2
    assert figure.axes == [axes]
    plt.figure()
    axes = image.plot(vmax=30)
    assert norm_of(axes).vmax == 30
    np.testing.assert_allclose(norm_of(axes).vmin, limits(valid(image), image.flags)[0])
    plt.figure()
    assert (norm_of(image.plot(vmin=-5, vmax=5)).vmin, norm_of(image.plot(vmin=-5, vmax=5)).vmax) == (-5, 5)


def test_given_axes_and_units(cube, figure):
    axes = figure.add_subplot(1, 2, 2, projection=cube[0, 0].wcs)
    units = [u.arcmin, ..., u.deg]
    assert cube[0, 0].plot(axes=axes, axes_units=units) is axes
    assert units == [u.arcmin, ..., u.deg]
    assert figure.axes == [axes]
    # In array order, so that latitude comes first.
    assert labels(axes) == ["Solar X [deg]", "Solar Y [arcmin]"]
    assert [coordinate.get_format_unit() for coordinate in axes.coords] == [u.deg, u.arcmin]
    axes.set_title("Mine")
    plt.figure()
    axes = cube[0, 0].plot(data_unit="ph / (s pix)", colorbar=True)
    expected = valid(cube[0, 0]) / cube.exposure_time[0, 0].to_value(u.s)
    np.testing.assert_allclose(shown(axes), expected, rtol=1e-6)
    bar = axes.figure.axes[1]
    assert bar.get_ylabel() == "O V [ph / (pix s)]"
    with pytest.raises(u.UnitConversionError):
        cube[0, 0].plot(data_unit="K")


def test_plots_do_not_lie_on_one_another(cube, figure):
    first = cube[0, 0].plot()
    second = cube[0, 0, 3].plot()
    assert first.figure is figure
    assert second.figure is not figure
    assert second.figure is plt.gcf()


def test_another_wcs(cube):
    other = cube[0, 0].wcs.deepcopy()
    other.wcs.cdelt = other.wcs.cdelt * 3
    axes = cube[0, 0].plot(wcs=other)
    np.testing.assert_array_equal(axes.wcs.pixel_to_world_values(7, 3), other.pixel_to_world_values(7, 3))
    assert labels(axes) == SUN


def test_transposed(cube):
    axes = cube[0, 0].plot(plot_axes=["x", "y"])
    np.testing.assert_array_equal(shown(axes), valid(cube[0, 0]).T.astype(float))


def test_values_with_two_signs(cube):
    difference = changed(cube, flags=np.zeros_like(cube.flags)).difference(2, 3)[0]
    axes = difference.plot()
    np.testing.assert_array_equal(shown(axes), valid(difference).astype(float))
    norm, artist = norm_of(axes), axes.get_images()[0]
    expected = np.nanpercentile(np.abs(valid(difference)), 99.7)
    np.testing.assert_allclose((norm.vmin, norm.vmax), (-expected, expected))
    assert artist.get_cmap().name == "RdBu_r"
    np.testing.assert_allclose(norm([-expected, 0, expected / 2]), [0, 0.5, 0.75])
    assert axes.get_title().startswith("ESIS O V, channel 2 minus channel 3\n")


def test_a_magnetic_field_has_two_signs_and_noise_has_not(cube):
    assert norm_of(make_context(cube, unit="G")[0].plot()).vmin < 0
    plt.figure()
    data = np.random.default_rng(0).normal(2, 1.5, cube.shape)
    weak = changed(cube, data=data)[0, 0].plot()
    assert norm_of(weak).vmin == 0
    assert weak.get_images()[0].get_cmap().name == "inferno"


def test_slices_of_aligned_cubes():
    cube = make_cube((5, 3, 12, 14), alignments=True)
    for part in (cube[:, 1, :, 6], cube[2, :, 3], cube[:, 1, :, 4:7]):
        plt.figure()
        assert part.plot() is not None


def test_nothing_to_show(cube):
    axes = changed(cube, data=np.full_like(cube.data, np.nan))[0, 0].plot()
    assert np.isnan(shown(axes)).all()


def test_level_1():
    axes = make_cube((2, 2, 20, 30), level=1)[1, 1].plot()
    assert labels(axes) == ["Detector x [pix]", "Detector y [pix]"]
    assert axes.figure.axes[1].get_ylabel() == "ESIS [electron]"


def test_context(cube):
    axes = make_context(cube)[2].plot()
    np.testing.assert_allclose(shown(axes), valid(cube[2, 0]), rtol=1e-6)
    assert axes.get_title().splitlines()[0] == f"AIA 304.0 Angstrom, {cube.time[2].isot[11:19]}"
    assert axes.figure.axes[1].get_ylabel() == "AIA 304.0 Angstrom [DN]"


def test_images_of_other_axes(cube):
    """Time along an axis is no length."""
    axes = cube[:, 1, 4].plot()
    np.testing.assert_array_equal(shown(axes), valid(cube[:, 1, 4]).astype(float))
    assert axes.get_aspect() == "auto"
    assert labels(axes)[2] == "Time since 2019-09-30 00:00 UTC [s]"
    seconds = axes.wcs.pixel_to_world_values(0, 2)[2]
    np.testing.assert_allclose(seconds, (cube.time[2].mjd % 1) * 86400, atol=1e-4)
    plt.figure()
    assert labels(cube[:, :, 4, 5].plot())[0] == "Channel"


# --------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("item", "label"),
    [
        ((0, 1, 4), SUN[0]),
        ((slice(None), 1, 4, 7), "Time since 2019-09-30 00:00 UTC [s]"),
        ((0, slice(None), 4, 7), "Channel"),
    ],
)
def test_lines(cube, item, label):
    line = cube[item]
    axes = line.plot(color="k")
    data, _, (bars,) = axes.containers[0]
    np.testing.assert_array_equal(np.ma.filled(data.get_ydata().astype(float), np.nan), valid(line).astype(float))
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments() if len(segment) == 2]
    good = np.isfinite(valid(line))
    np.testing.assert_allclose(lengths, 2 * line.uncertainty.array[good], rtol=1e-4)
    assert data.get_color() == "k"
    # A single value has no line to its neighbors.
    assert data.get_marker() == "."
    assert labels(axes)[0] == label
    assert axes.get_ylabel() == "O V [ph / pix]"


@pytest.mark.slow
def test_whole_numbers(cube):
    counts = make_cube((3, 2, 8, 9), dtype=np.uint16)
    animator = counts.plot(plot_axes=[None, None, None, "x"], ylim="fixed")
    values = np.ma.masked_array(counts.data, counts.mask)
    assert animator.axes.get_ylim() == (values.min(), values.max())
    plt.figure()
    np.testing.assert_array_equal(shown(counts[0, 0].plot()), np.where(counts.mask, np.nan, counts.data)[0, 0])


def test_extra_coordinates(cube):
    line = cube[:, 1, 4, 7]
    line.extra_coords.add("altitude", 0, [200, 230, 250] * u.km, physical_types="custom:altitude")
    axes = line.plot(axes_coordinates=["custom:altitude"])
    axes.figure.draw_without_rendering()
    # Astropy 6 has no method for it.
    visible = [c.get_ticklabel_visible() if hasattr(c, "get_ticklabel_visible") else c.ticklabels.get_visible()
               for c in axes.coords]  # fmt: skip
    shown_here = [c.get_axislabel() for c, here in zip(axes.coords, visible, strict=True) if here]
    assert len(shown_here) == 1
    assert "altitude" in shown_here[0]


def test_given_markers_win(cube):
    assert cube[0, 0, 4].plot(fmt="o").containers[0][0].get_marker() == "o"
    assert cube[0, 0, 4].plot(marker="x").containers[0][0].get_marker() == "x"


# ------------------------------------------------------------------------------------------------------------- sliders


def slide(animator, number, value):
    animator.sliders[number]._slider.set_val(value)


@pytest.mark.slow
def test_sliders(cube):
    animator = cube.plot()
    assert isinstance(animator, ArrayAnimatorWCS)
    axes = animator.axes
    texts = [slider._slider.valtext.get_text() for slider in animator.sliders]
    assert texts == [cube.time[0].isot[11:19], "1"]
    np.testing.assert_array_equal(shown(axes), valid(cube[0, 0]).astype(float))
    before = norm_of(axes).vmin, norm_of(axes).vmax
    # The scale is that of the exposure in the middle, and stays.
    np.testing.assert_allclose(before, limits(valid(cube[1]), cube.flags[1]))
    for time, channel in ((2, 0), (2, 3), (1, 3)):
        slide(animator, 0, time)
        slide(animator, 1, channel)
        image = cube[time, channel]
        np.testing.assert_array_equal(shown(axes), valid(image).astype(float))
        seconds = image.time.isot[:19].replace("T", " ")
        assert axes.get_title() == f"ESIS O V, channel {channel + 1}\n{seconds} UTC, frame {109 + time}"
        texts = [slider._slider.valtext.get_text() for slider in animator.sliders]
        assert texts == [seconds[11:], str(channel + 1)]
        assert labels(axes)[:2] == SUN
        assert axes.coords[0].get_format_unit() == u.arcsec
    assert (norm_of(axes).vmin, norm_of(axes).vmax) == before
    assert animator.cax.get_ylabel() == "O V [ph / pix]"


@pytest.mark.slow
def test_the_animator_makes_movies_of_its_own(cube):
    animator = cube.plot()
    movie = animator.get_animation(slider=1)
    for channel in (3, 1, 2):
        movie._draw_frame(channel)
        assert f"channel {channel + 1}\n" in animator.axes.get_title()
    # Or else matplotlib warns, whenever it is collected, that nothing was rendered.
    movie._draw_was_started = True


@pytest.mark.slow
def test_a_slider_between_two_exposures(cube):
    animator = cube.plot()
    slide(animator, 0, 0.7)
    assert animator.sliders[0]._slider.valtext.get_text() == cube.time[0].isot[11:19]
    assert "frame 109" in animator.axes.get_title()


@pytest.mark.slow
def test_sliders_of_fewer_axes(cube):
    animator = cube[1].plot(colorbar=False, cmap="gray")
    slide(animator, 0, 2)
    np.testing.assert_array_equal(shown(animator.axes), valid(cube[1, 2]).astype(float))
    assert animator.axes.get_images()[0].get_cmap().name == "gray"
    assert not animator.if_colorbar
    plt.figure()
    animator = cube[:, 1].plot(vmin=3)
    slide(animator, 0, 2)
    np.testing.assert_array_equal(shown(animator.axes), valid(cube[2, 1]).astype(float))
    assert norm_of(animator.axes).vmin == 3
    animator = cube[:, 1].plot(clip_interval=(5, 95) * u.percent)
    np.testing.assert_allclose(norm_of(animator.axes).vmax, np.nanpercentile(valid(cube[0, 1]), 95), rtol=0.1)


@pytest.mark.slow
def test_lines_with_sliders(cube):
    animator = cube[:, 1].plot(plot_axes=[None, None, "x"], ylim="fixed")
    slide(animator, 0, 1)
    slide(animator, 1, 7)
    (line,) = animator.axes.get_lines()
    np.testing.assert_array_equal(np.ma.filled(line.get_ydata().astype(float), np.nan), valid(cube[1, 1, 7]))
    bounds = np.nanmin(valid(cube[:, 1])), np.nanmax(valid(cube[:, 1]))
    np.testing.assert_allclose(animator.axes.get_ylim(), bounds)
    assert animator.axes.get_ylabel() == "O V [ph / pix]"
    assert "frame 110" in animator.axes.get_title()


@pytest.mark.slow
def test_blank_exposures_do_not_decide(cube):
    data = cube.data.copy()
    data[1] = np.nan
    animator = changed(cube, data=data).plot()
    np.testing.assert_allclose(norm_of(animator.axes).vmax, limits(valid(cube[0]), cube.flags[0])[1])
    assert np.isnan(shown(changed(cube, data=np.full_like(data, np.nan)).plot().axes)).all()


@pytest.mark.slow
def test_six_channels():
    cube = true_cube(
        simulate_flight(Flight.read(Path(__file__).parents[1] / "data" / "second_flight.toml"), size=4, n_exposures=2)
    )
    animator = cube.plot()
    slide(animator, 1, 5)
    assert animator.axes.get_title().startswith("ESIS-II Ne VII, channel 6\n2027-08-14")


# --------------------------------------------------------------------------------------------------------- lazy cubes


def test_lazy_images_are_read_once(cube):
    lazy, data, mask = make_lazy(cube)
    expected, found = cube[1, 2].plot(colorbar=False), None
    plt.figure()
    found = lazy[1, 2].plot()
    np.testing.assert_array_equal(shown(found), shown(expected))
    assert data == mask == [(1, 2)]


@pytest.mark.slow
def test_lazy_sliders_read_what_they_show(cube):
    lazy, data, mask = make_lazy(cube)
    animator = lazy.plot()
    # The middle exposure, for the scale, and the first image.
    assert sorted(data) == sorted(mask) == [(0, 0), *((1, channel) for channel in range(4))]
    slide(animator, 0, 2)
    np.testing.assert_array_equal(shown(animator.axes), valid(cube[2, 0]).astype(float))
    assert len(data) == 6
    assert data[-1] == (2, 0)


def test_lazy_lines(cube):
    lazy, data, _ = make_lazy(cube)
    axes = lazy[0, 1, 4].plot()
    np.testing.assert_array_equal(
        np.ma.filled(axes.containers[0][0].get_ydata().astype(float), np.nan), valid(cube[0, 1, 4])
    )
    assert data == [(0, 1)]


# ----------------------------------------------------------------------------------------------- the ways of ndcube


def test_the_plotter_is_that_of_our_cubes_only(cube):
    image = cube[0, 0]
    assert type(image.plotter) is ESISPlotter
    assert "arcsec on the Sun" in image.plot.__doc__
    assert "arcsec on the Sun" not in NDCube.plot.__doc__
    plain = NDCube(cube.data[0, 0], wcs=cube[0, 0].wcs)
    assert type(plain.plotter) is MatplotlibPlotter


def test_another_plotter_can_be_set(cube):
    other = cube[0, 0]
    other.plotter = MatplotlibPlotter
    assert other.plot().get_title() == ""


def test_wrong_input(cube):
    with pytest.raises(ValueError, match="'x' must be in plot_axes"):
        cube.plot(plot_axes=["y", None, None, None])
    with pytest.raises(u.UnitsError, match="not convertible"):
        cube[0, 0].plot(axes_units=["s", "s"])
