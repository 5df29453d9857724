"""Images of one exposure: all channels, two of them, and the reference."""

import numpy as np
from reproject import reproject_interp

from astropy.visualization import ImageNormalize
from sunpy.map import GenericMap

from esis_ndcube.flags import Flag
from esis_ndcube.registration._reference_sources import map_name
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_cube, find_number, split_images
from esis_ndcube.visualization._panels import PIXELS, draw_panels, label_axes, new_figure
from esis_ndcube.visualization.style import (
    COLORMAP,
    DIVERGING,
    NO_DATA,
    axis_names,
    difference_limit,
    flagged,
    good_images,
    image_and_sample,
    in_memory,
    intensity_norm,
    title,
    value_label,
)

__all__ = ["plot_channels", "plot_difference", "plot_with_reference"]


def plot_channels(cube, frame_number=None, *, figure=None):
    """
    Show all channels of one exposure.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        Array axes (time, channel, y, x), or (channel, y, x).
    frame_number : `int`, optional
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
        If the cube has no such exposure, or no such axes.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.visualization import plot_channels
    >>> plot_channels(ESISLevel3Cube.read("l3.fits"), 124).savefig("channels.png")  # doctest: +SKIP
    """
    check_cube(cube)
    exposure = _exposure(cube, frame_number)
    images = split_images(exposure)
    # One after the other, so that masks and flags of only one image are in memory; matplotlib copies its input.
    values, samples = map(list, zip(*map(image_and_sample, images), strict=True))
    samples = [sample for sample, good in zip(samples, good_images(exposure), strict=True) if good]
    group = images, intensity_norm(np.concatenate(samples)), COLORMAP
    shown = (values.pop(0) for _ in images)
    return draw_panels([group], title(exposure), figure=figure, values=shown).figure


def plot_difference(cube, first, second, frame_number=None, *, figure=None):
    """
    Show the difference of two channels of one exposure.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Array axes (time, channel, y, x), or (channel, y, x).
    first, second : `int`
        Channel numbers; the second is taken from the first.
    frame_number : `int`, optional
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
        If the cube has no such exposure or channel, or no such axes.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.visualization import plot_difference
    >>> plot_difference(ESISLevel3Cube.read("l3.fits"), 2, 3).savefig("difference.png")  # doctest: +SKIP
    """
    check_cube(cube, 3)
    difference = in_memory(_exposure(cube, frame_number).difference(first, second))
    bad = invalid_pixels(difference.data, difference.mask) | flagged(difference, Flag.OVERLAP)
    limit = difference_limit(difference.data[~bad])
    norm = ImageNormalize(vmin=-limit, vmax=limit, clip=False)
    figure = new_figure(figure, 7, 6)
    values = iter([np.where(bad, np.nan, difference.data)])
    return draw_panels([([difference], norm, DIVERGING)], title(difference), figure=figure, values=values).figure


def plot_with_reference(cube, reference, frame_number=None, *, figure=None):
    """
    Show the channels of one exposure beside a reference image.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        Array axes (time, channel, y, x), or (channel, y, x).
    reference : `~sunpy.map.GenericMap`
        The image.
    frame_number : `int`, optional
        Raw frame number, by default the first.
    figure : `~matplotlib.figure.Figure`, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The minimum over the channels, which has no overlapping line left, and the image on the same grid.

    Raises
    ------
    ValueError
        If the cube has no such exposure, or no such axes.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.visualization import plot_with_reference
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> figure = plot_with_reference(cube, sunpy.map.Map("aia_304.fits"), 124)  # doctest: +SKIP
    """
    check_cube(cube)
    exposure = in_memory(_exposure(cube, frame_number))
    image = exposure[0]
    # A bad pixel of one channel is no loss, but the minimum is taken only where all channels looked.
    unseen = invalid_pixels(exposure.data, exposure.mask)
    bad = flagged(exposure, Flag.OUTSIDE | Flag.MISSING).any(axis=0) | unseen.all(axis=0)
    data = np.where(bad, np.nan, np.where(unseen, np.inf, exposure.data).min(axis=0))
    values = reference.data if reference.mask is None else np.where(reference.mask, np.nan, reference.data)
    other, _ = reproject_interp((values, reference.wcs), image.wcs, shape_out=data.shape)
    figure = new_figure(figure, 12.5, 5.5)
    name = map_name(reference)
    unit = "" if reference.unit is None else f" [{reference.unit}]"
    heading = f"{name} {reference.date.strftime('%Y-%m-%d %H:%M:%S')}"
    # A Map of no known telescope has a gray palette, whose middle is the color of no data.
    palette = COLORMAP if type(reference) is GenericMap else reference.cmap
    panels = [
        (data, "Minimum of the channels", COLORMAP, value_label(image)),
        (np.where(bad, np.nan, other), heading, palette, name + unit),
    ]
    for panel, (values, heading, palette, label) in enumerate(panels, 1):
        axis = figure.add_subplot(1, 2, panel, projection=image.wcs)
        artist = axis.imshow(values, norm=intensity_norm(values), cmap=palette, **PIXELS)
        axis.set_title(heading if np.isfinite(values).any() else f"{heading}, no data", fontsize="medium")
        axis.set_facecolor(NO_DATA)
        label_axes(axis, image.wcs, y=panel == 1)
        figure.colorbar(artist, ax=axis, label=label, shrink=0.8)
    figure.suptitle(title(exposure))
    return figure


def _exposure(cube, frame_number):
    """One exposure of a cube, or the cube if it has no time axis."""
    names = axis_names(cube)
    if names[-3:] != ["channel", "y", "x"]:
        msg = f"got a cube with axes {names}, expected (time, channel, y, x) or (channel, y, x): slice with ranges"
        raise ValueError(msg)
    frames = [] if cube.frame_number is None else cube.frame_number
    index = 0 if frame_number is None else find_number("frame", frame_number, frames, "the cube's: ")
    return cube if names[0] == "channel" else cube[index]
