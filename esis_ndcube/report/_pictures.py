"""Pictures as text, which a page holds itself."""

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from esis_ndcube.flags import Flag
from esis_ndcube.visualization.style import (
    COLORMAP,
    DIVERGING,
    difference_limit,
    flagged,
    good_images,
    image_data,
    intensity_norm,
)
from esis_ndcube.visualization.web import encode, shrink, source

# Images are averaged in blocks to at most this many pixels along a side, so that some 30 exposures stay a few MB.
_SIDE = 480
# The page shows pictures at two thirds of this, so that they are sharp on a fine screen.
_DPI = 144
# Scales follow from every such row and column.
_SPARSE = 4


def image_pictures(cube, pair):
    """
    Every image of a cube, and the difference of a pair of channels in each exposure, on scales of the good exposures.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    pair : `tuple` of `int` or None
        Channel numbers of the difference, if the page has one.

    Yields
    ------
    `list` of `str`
        For each exposure, a picture per channel and the difference; empty if there are no data.
    """
    # Exposures are read one by one: several copies of the cube at once would fill the memory.
    good = good_images(cube)
    sparse = [_values(cube, *index)[::_SPARSE, ::_SPARSE] for index in np.argwhere(good).tolist()]
    norm = intensity_norm(np.concatenate([a[np.isfinite(a)] for a in sparse]))
    indices = [] if pair is None else [list(cube.channel).index(number) for number in pair]
    limit = 1
    if indices:
        both = good[:, indices].all(axis=1)
        times = np.flatnonzero(both if both.any() else ~both)
        sparse = [_difference(cube, time, indices)[::_SPARSE, ::_SPARSE] for time in times]
        limit = difference_limit(np.concatenate([a[np.isfinite(a)] for a in sparse]))
    for time in range(cube.shape[0]):
        images = [shrink(_values(cube, time, c), _SIDE) for c in range(cube.shape[1])]
        pictures = [encode(norm(image), COLORMAP) if np.isfinite(image).any() else "" for image in images]
        if indices:
            difference = shrink(_difference(cube, time, indices), _SIDE)
            seen = np.isfinite(difference).any()
            pictures.append(encode((difference / limit + 1) / 2, DIVERGING) if seen else "")
        yield pictures


def figure_picture(draw, dark, *, lossless):
    """
    Draw a figure in light or dark colors on a transparent ground.

    Parameters
    ----------
    draw : callable
        Function that makes a `~matplotlib.figure.Figure` or `~matplotlib.axes.Axes`.
    dark : `bool`
        Whether the page is dark.
    lossless : `bool`
        Whether the figure has lines, and not images of the Sun.

    Returns
    -------
    source : `str`
        The picture.
    width, height : `int`
        Its size in pixels.
    """
    with style.context(["default", "dark_background"] if dark else "default"):
        figure = draw().get_figure()
        figure.set(dpi=_DPI, facecolor="none")
        for axes in figure.axes:
            if not axes.get_images():
                axes.set_facecolor("none")
        canvas = FigureCanvasAgg(figure)
        # Axes of the sky draw themselves when their layout is made, which would leave labels at other places.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    return source(image, **({"lossless": True} if lossless else {"quality": 85})), *image.size


def _values(cube, time, channel):
    # In memory, because Dask adds up in another order.
    return np.asarray(image_data(cube[time, channel]))


def _difference(cube, time, indices):
    overlap = [np.asarray(flagged(cube[time, index], Flag.OVERLAP)) for index in indices]
    first, second = (
        np.where(lit, np.nan, _values(cube, time, index)) for lit, index in zip(overlap, indices, strict=True)
    )
    return first - second
