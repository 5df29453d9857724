"""Images side by side: axes of the sky or the detector, their labels, and arrows along the dispersion."""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

import astropy.units as u

from esis_ndcube.visualization.style import NO_DATA, image_data, panel_title, value_label
from esis_ndcube.wcs import ESISWCS, SlicedESISWCS

# Pixels are colored as they are. By default matplotlib colors all of a large image at once, which takes 100 bytes a
# pixel.
PIXELS = {"origin": "lower", "interpolation": "nearest", "interpolation_stage": "data"}

_LABELS = {
    "custom:pos.helioprojective.lon": ("Solar X", u.arcsec),
    "custom:pos.helioprojective.lat": ("Solar Y", u.arcsec),
    "custom:pos.detector.x": ("Detector x", u.pix),
    "custom:pos.detector.y": ("Detector y", u.pix),
    "custom:instrument.channel": ("Channel", None),
    "time": ("Time", u.s),
}


@dataclass(frozen=True, eq=False)
class Panels:
    """A figure and its title, with the axes and the image of each panel."""

    figure: object
    heading: object
    axes: list
    artists: list


def draw_panels(groups, heading, *, figure=None, values=None):
    """
    Draw images side by side.

    Parameters
    ----------
    groups : `list` of `tuple`
        Images on one scale: `~esis_ndcube.cube.ESISCube` with axes y and x, and their norm and color map.
    heading : `str`
        The title of the figure.
    figure : `~matplotlib.figure.Figure`, optional
        Where to draw.
    values : iterator of `numpy.ndarray`, optional
        Function that gives the values to show of each image; by default its data where they are valid.

    Returns
    -------
    `Panels`
        A figure with a color bar for each group, and arrows toward longer wavelength.
    """
    count = sum(len(images) for images, _, _ in groups)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    figure = new_figure(figure, 1 + 4.4 * columns, 4.2 * rows)
    heading = figure.suptitle(heading)
    axes, artists = [], []
    arrows = False
    for images, norm, colormap in groups:
        first = len(axes)
        for image in images:
            index = len(axes)
            axis = figure.add_subplot(rows, columns, index + 1, projection=image.wcs)
            data = image_data(image) if values is None else next(values)
            artists.append(axis.imshow(data, norm=norm, cmap=colormap, **PIXELS))
            axis.set_title(name_panel(image, data))
            axis.set_facecolor(NO_DATA)
            label_axes(axis, image.wcs, x=index + columns >= count, y=index % columns == 0)
            if image.flight is not None and image.channel is not None:
                _draw_arrow(axis, image)
                arrows = True
            axes.append(axis)
        figure.colorbar(artists[-1], ax=axes[first:], label=value_label(images[0]), shrink=0.8)
    if arrows:
        figure.supxlabel("Arrows point to longer wavelengths", fontsize="small")
    return Panels(figure, heading, axes, artists)


def name_panel(image, data):
    """The title of an image with these values."""
    return panel_title(image) + ("" if np.isfinite(data).any() else ", no data")


def new_figure(figure, width, height):
    """A figure of a size in inches, if none is given."""
    return Figure(figsize=(width, height), layout="constrained") if figure is None else figure


def explain_arrows(figure, arrows, length, heading):
    """
    Write a heading, and below it an arrow of a round length in pixels.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        The figure.
    arrows : `~matplotlib.quiver.Quiver`
        The arrows of one of its panels.
    length : `float`
        About the length of the arrow.
    heading : `str`
        The heading.
    """
    # The second line, which is empty, keeps the place of the arrow free.
    heading = figure.suptitle(f"{heading}\n ")
    length = float(f"{length:.1g}")
    y = 1 - (3 + 1.8 * heading.get_fontsize()) / 72 / figure.get_figheight()
    color = heading.get_color()
    style = {"coordinates": "figure", "labelpos": "E", "color": color, "labelcolor": color}
    arrows.axes.quiverkey(arrows, 0.5, y, length, f"{length:g} pix", **style)


def label_axes(axes, wcs, *, x=True, y=True, units=None):
    """
    Label the coordinates of a plot.

    Parameters
    ----------
    axes : `~astropy.visualization.wcsaxes.WCSAxes`
        The axes.
    wcs : `~astropy.wcs.wcsapi.BaseLowLevelWCS`
        Their WCS.
    x, y : `bool`, optional
        Whether to show labels and numbers of the horizontal and the vertical coordinate of an image.
    units : `list` of `~astropy.units.Unit`, optional
        Unit of each coordinate that differs from the usual unit.
    """
    shown = (x, y, *[True] * wcs.world_n_dim)
    for index, (coordinate, kind) in enumerate(zip(axes.coords, wcs.world_axis_physical_types, strict=True)):
        for name, value in coordinate_style(wcs, kind, units and units[index]).items():
            set_style = getattr(coordinate, f"set_{name}")
            set_style(**value) if isinstance(value, dict) else set_style(value)
        if not shown[index]:
            coordinate.set_axislabel(" ")
            coordinate.set_ticklabel_visible(False)


def coordinate_style(wcs, kind, unit=None):
    """
    Unit, format and label of a coordinate, as mpl-animators and WCSAxes name them.

    ``kind`` is the coordinate's physical type; an unknown type has None for all.
    """
    if kind not in _LABELS:
        return {}
    label, usual = _LABELS[kind]
    unit = u.Unit(unit) if unit is not None else usual
    if kind == "time" and (day := _epoch(wcs)):
        # A WCSAxes has no format of dates.
        label = f"Time since {day} 00:00 UTC"
    style = {"axislabel": label if unit is None else f"{label} [{unit}]"}
    if unit is None:
        return {**style, "ticks": {"spacing": 1 * u.one}}
    style["format_unit"] = unit
    return {**style, "major_formatter": "s"} if unit == u.arcsec else style


def _epoch(wcs):
    """The day from which the seconds of one of our WCS count."""
    inner = wcs._wcs if isinstance(wcs, SlicedESISWCS) else wcs
    return inner.wcs.dateref[:10] if isinstance(inner, ESISWCS) else ""


def _draw_arrow(axes, image):
    """Draw an arrow toward longer wavelength, whichever way the pixels lie on the sky."""
    direction = np.array([1.0, 0.0])
    if image.wcs.has_celestial:
        angle = image.flight.channel(image.channel).dispersion_angle.to_value(u.rad)
        direction = np.linalg.solve(image.wcs.celestial.pixel_scale_matrix, [np.cos(angle), np.sin(angle)])
    height, width = image.shape
    middle = 0.1 * min(height, width) * np.ones(2) - 0.5
    step = 0.07 * min(height, width) * direction / np.hypot(*direction)
    arrow = {"arrowstyle": "->", "color": "white", "lw": 1.5}
    axes.annotate("", middle + step, middle - step, xycoords="data", arrowprops=arrow)
