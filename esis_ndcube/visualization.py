"""Pictures of Level-3 cubes."""

import math

import numpy as np

import astropy.units as u

from esis_ndcube._drawing import COLORMAP, DIVERGING, difference_limit, flagged, intensity_norm, invalid
from esis_ndcube.flags import Flag

__all__ = ["plot_channels", "plot_difference", "plot_with_reference"]

_NO_DATA = "0.5"


def plot_channels(cube, frame=None, *, figure=None):
    """
    Show all channels of one exposure.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    frame : `int`, optional
        Raw frame number, by default the first.
    figure : `~matplotlib.figure.Figure`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        A panel per channel, solar north up, with an arrow toward longer wavelength.

    Raises
    ------
    ValueError
        If the cube has no such exposure, or not all four axes.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.visualization import plot_channels
    >>> plot_channels(ESISLevel3Cube.read("l3.fits"), 124).savefig("channels.png")  # doctest: +SKIP
    """
    exposure = _exposure(cube, frame)
    norm = intensity_norm(exposure.data[~invalid(exposure)])
    figure, axes = _panels(exposure, figure)
    for index, axis in enumerate(axes):
        image = exposure[index]
        artist = axis.imshow(image.data, norm=norm, cmap=COLORMAP, origin="lower", interpolation="nearest")
        _dispersion_arrow(axis, cube.flight.channel(image.channel))
        axis.set_title(f"Channel {image.channel}" + (", no data" if invalid(image).all() else ""))
    _finish(figure, axes, artist, exposure)
    return figure


def plot_difference(cube, first, second, frame=None, *, figure=None):
    """
    Show the difference of two channels of one exposure.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    first, second : `int`
        Channel numbers; the second is taken from the first.
    frame : `int`, optional
        Raw frame number, by default the first.
    figure : `~matplotlib.figure.Figure`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The difference where both channels are valid and no bright line overlaps.

    Raises
    ------
    ValueError
        If the cube has no such exposure or channel, or not all four axes.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.visualization import plot_difference
    >>> plot_difference(ESISLevel3Cube.read("l3.fits"), 2, 3).savefig("difference.png")  # doctest: +SKIP
    """
    difference = _exposure(cube, frame).difference(first, second)
    bad = invalid(difference) | flagged(difference, Flag.OVERLAP)
    data = np.where(bad, np.nan, difference.data)
    limit = difference_limit(data[~bad])
    figure = _new_figure(figure, 7, 6)
    axis = figure.add_subplot(projection=difference.wcs)
    artist = axis.imshow(data, vmin=-limit, vmax=limit, cmap=DIVERGING, origin="lower", interpolation="nearest")
    axis.set_title(f"Channel {first} minus channel {second}")
    _finish(figure, [axis], artist, difference)
    return figure


def plot_with_reference(cube, reference, frame=None, *, figure=None):
    """
    Show the channels of one exposure beside a reference image.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    reference : `~sunpy.map.GenericMap`
        The image.
    frame : `int`, optional
        Raw frame number, by default the first.
    figure : `~matplotlib.figure.Figure`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The minimum over the channels, in which no overlapping line is left, and the image on the same grid.

    Raises
    ------
    ValueError
        If the cube has no such exposure, or not all four axes.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.visualization import plot_with_reference
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> figure = plot_with_reference(cube, sunpy.map.Map("aia_304.fits"), 124)  # doctest: +SKIP
    """
    from reproject import reproject_interp

    exposure = _exposure(cube, frame)
    image = exposure[0]
    # A bad pixel of one channel is no loss, but the minimum is taken only where all channels looked.
    unseen = invalid(exposure)
    bad = flagged(exposure, Flag.OUTSIDE | Flag.MISSING).any(axis=0) | unseen.all(axis=0)
    data = np.where(bad, np.nan, np.where(unseen, np.inf, exposure.data).min(axis=0))
    other, _ = reproject_interp((reference.data, reference.wcs), image.wcs, shape_out=data.shape)
    figure = _new_figure(figure, 12.5, 5.5)
    titles = "Minimum of the channels", str(reference.name)
    for panel, (values, title) in enumerate(zip((data, np.where(bad, np.nan, other)), titles, strict=True), 1):
        axis = figure.add_subplot(1, 2, panel, projection=image.wcs)
        axis.imshow(values, norm=intensity_norm(values), cmap=COLORMAP, origin="lower", interpolation="nearest")
        axis.set_title(title, fontsize="medium")
        axis.set_facecolor(_NO_DATA)
        _label(axis, first=panel == 1)
    _title(figure, exposure)
    return figure


def _new_figure(figure, width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained") if figure is None else figure


def _exposure(cube, frame):
    if cube.data.ndim != 4:
        msg = f"got a cube of shape {cube.data.shape}, expected (time, channel, y, x): slice with ranges"
        raise ValueError(msg)
    frames = [int(number) for number in cube.frame]
    if frame is not None and frame not in frames:
        msg = f"got frame {frame}, expected one of the cube's: {', '.join(map(str, frames))}"
        raise ValueError(msg)
    return cube[0 if frame is None else frames.index(frame)]


def _panels(exposure, figure):
    count = exposure.shape[0]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    figure = _new_figure(figure, 1 + 4.4 * columns, 4.2 * rows)
    axes = []
    for index in range(count):
        axis = figure.add_subplot(rows, columns, index + 1, projection=exposure[index].wcs)
        _label(axis, first=index % columns == 0, last=index + columns >= count)
        axes.append(axis)
    return figure, axes


def _label(axis, *, first=True, last=True):
    for coordinate, name, shown in zip(axis.coords, ("x", "y"), (last, first), strict=True):
        coordinate.set_format_unit(u.arcsec)
        coordinate.set_major_formatter("s")
        coordinate.set_axislabel(f"Helioprojective {name} [arcsec]" if shown else " ")
        coordinate.set_ticklabel_visible(shown)


def _finish(figure, axes, artist, exposure):
    unit = f" [{exposure.unit}]" if exposure.unit is not None else ""
    figure.colorbar(artist, ax=axes, label=f"{exposure.line}{unit}", shrink=0.8)
    for axis in axes:
        axis.set_facecolor(_NO_DATA)
    if len(axes) == 1:
        _label(axes[0])
    _title(figure, exposure)


def _title(figure, exposure):
    figure.suptitle(f"{exposure.flight.instrument} {exposure.line}, {exposure.time.isot[:19]}, frame {exposure.frame}")


def _dispersion_arrow(axis, channel):
    angle = channel.dispersion_angle.to_value(u.rad)
    start = np.array([0.1, 0.1])
    step = 0.07 * np.array([np.cos(angle), np.sin(angle)])
    axis.annotate(
        "",
        start + step,
        start - step,
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "->", "color": "white", "lw": 1.5},
    )
