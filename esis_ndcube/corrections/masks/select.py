"""Draw and edit a polygon with the mouse."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.widgets import PolygonSelector

from esis_ndcube.corrections.masks.model import PolygonMask, image_coordinates, image_pixels

__all__ = ["PolygonSelection"]


class PolygonSelection:
    """
    A polygon that is drawn and edited with the mouse, with `matplotlib.widgets.PolygonSelector`.

    Click to set the vertices. Drag a vertex to move it; drag with shift held to move all. Press escape to begin anew.

    Parameters
    ----------
    image : `~esis_ndcube.ESISLevel3Cube` or `~esis_ndcube.ESISLevel1Cube`
        One exposure of one channel, shape (y, x).
    axes : `~matplotlib.axes.Axes`, optional
        Axes that show the image in its pixels; by default it is drawn in a new pyplot figure.
    polygon : `PolygonMask`, optional
        A polygon in the image's own coordinates to begin with.

    Attributes
    ----------
    selector : `~matplotlib.widgets.PolygonSelector`
        The widget.

    Raises
    ------
    ValueError
        If the image has other axes, or the polygon other coordinates.

    Examples
    --------
    >>> from esis_ndcube.corrections.masks import PolygonSelection
    >>> selection = PolygonSelection(cube[15, 0])  # doctest: +SKIP
    >>> masked = cube.mask_polygons([selection.polygon()])  # doctest: +SKIP
    """

    def __init__(self, image, *, axes=None, polygon=None):
        if image.data.ndim != 2:
            msg = f"got a cube of shape {image.data.shape}, expected one image, for example cube[0, 0]"
            raise ValueError(msg)
        self._image = image
        own = "sky" if hasattr(image, "alignment") else "detector"
        if polygon is not None and polygon.coordinates != own:
            msg = f"got a polygon in {polygon.coordinates} coordinates, expected {own} ones for this image"
            raise ValueError(msg)
        if axes is None:
            axes = image.plot(plt.figure().add_subplot(projection=image.wcs), colorbar=True)
        self.selector = PolygonSelector(axes, lambda vertices: None)
        if polygon is not None:
            self.selector.verts = image_pixels(image.wcs, polygon.vertices)

    def polygon(self, *, channels=None, frame_numbers=None):
        """
        The polygon as it is drawn now.

        Parameters
        ----------
        channels, frame_numbers : `int` or sequence of `int`, optional
            The images that the polygon is for, by default all.

        Returns
        -------
        `PolygonMask`
            In the image's own coordinates.

        Raises
        ------
        ValueError
            As `PolygonMask`, for example if fewer than three vertices are drawn.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> from esis_ndcube.corrections.masks import PolygonSelection
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> selection = PolygonSelection(cube[15, 0])  # doctest: +SKIP
        >>> masked = cube.mask_polygons(selection.polygon(channels=1))  # doctest: +SKIP
        """
        pixels = np.array(self.selector.verts, dtype=float).reshape(-1, 2)
        return PolygonMask(image_coordinates(self._image.wcs, pixels), channels, frame_numbers)
