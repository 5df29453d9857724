"""The plotter behind ``cube.plot``: ndcube's, with our scales and labels; it computes only the shown part."""

import matplotlib.pyplot as plt
import numpy as np

from ndcube.visualization.mpl_plotter import MatplotlibPlotter
from ndcube.visualization.plotting_utils import prep_plot_kwargs

from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.visualization._panels import PIXELS, coordinate_style, label_axes
from esis_ndcube.visualization.style import (
    NO_DATA,
    axis_names,
    good_images,
    heading,
    in_memory,
    scale,
    valid_values,
    value_label,
)

__all__ = ["ESISPlotter"]


class ESISPlotter(MatplotlibPlotter):
    """
    Plotter of ESIS cubes, as `ndcube.visualization.mpl_plotter.MatplotlibPlotter`.

    Every cube has such a plotter as its ``plotter``, and ``cube.plot`` is the method `plot`.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("l3.fits", lazy=True)  # doctest: +SKIP
    >>> cube.plotter.plot().fig.savefig("sliders.png")  # doctest: +SKIP
    """

    def plot(
        self,
        axes=None,
        plot_axes=None,
        axes_coordinates=None,
        axes_units=None,
        data_unit=None,
        wcs=None,
        *,
        colorbar=None,
        **kwargs,
    ):
        """
        Plot the cube: an image, a line, or an image with a slider for each further axis.

        The scale runs from the 0.5th to the 99.7th percentile of the valid pixels without mended particle hits, by a
        hyperbolic arcsine. Values with two signs, for example differences of channels, get a linear scale about zero
        and another color map.
        With sliders, the scale is that of the exposure in the middle, and stays.
        Of a lazy cube only the shown part and that exposure are computed.

        Parameters
        ----------
        axes : `~astropy.visualization.wcsaxes.WCSAxes`, optional
            Where to draw an image or a line; by default in the current figure if it is empty, or else in a new one.
        plot_axes : `list`, optional
            Role of each array axis: ``"x"``, ``"y"`` or None for a slider.
        axes_coordinates : `list`, optional
            Coordinates to show, as for `ndcube.NDCube.plot`.
        axes_units : `list`, optional
            Unit of each world coordinate in array order, or None for the usual one: arcsec on the Sun.
        data_unit : `~astropy.units.Unit`, optional
            Unit of the values, to which `~esis_ndcube.cube.ESISCube.to` converts them.
        wcs : `~astropy.wcs.wcsapi.BaseHighLevelWCS`, optional
            Another WCS for the coordinates.
        colorbar : `bool`, optional
            Whether to draw a color bar; by default only without ``axes``.
        **kwargs
            For `~matplotlib.axes.Axes.imshow`, `~matplotlib.axes.Axes.plot` or ``mpl_animators.ArrayAnimatorWCS``;
            ``norm``, ``vmin``, ``vmax``, ``cmap`` and all other arguments take precedence.

        Returns
        -------
        `~astropy.visualization.wcsaxes.WCSAxes` or ``mpl_animators.ArrayAnimatorWCS``
            An animator if there are sliders: keep it, or the sliders stop working.

        Raises
        ------
        ValueError
            If ``plot_axes`` or ``axes_coordinates`` do not fit the cube.
        ~astropy.units.UnitsError
            If a unit does not fit.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits", lazy=True)  # doctest: +SKIP
        >>> cube[15, 0].plot(vmax=200)  # doctest: +SKIP
        >>> sliders = cube.plot()  # doctest: +SKIP
        """
        cube = self._ndcube if data_unit is None else self._ndcube.to(data_unit)
        cube = in_memory(cube) if cube.data.ndim < 3 else cube
        if cube is not self._ndcube:
            places = axes, plot_axes, axes_coordinates, axes_units
            return type(self)(cube).plot(*places, wcs=wcs, colorbar=colorbar, **kwargs)
        # ndcube's own choice. Lists are copied, because ndcube would change them.
        own_wcs = cube.combined_wcs if axes_coordinates else cube.wcs
        plot_wcs = own_wcs if wcs is None else wcs
        options = [_copy(given) for given in (plot_axes, axes_coordinates, axes_units)]
        shown, _, units = prep_plot_kwargs(cube.data.ndim, plot_wcs.low_level_wcs, *map(_copy, options))
        image = cube.data.ndim > 1 and "y" in shown
        sliders = cube.data.ndim > 1 + image
        if image:
            kwargs = _image_options(cube, shown[::-1], kwargs)
        elif not {"fmt", "marker"} & set(kwargs):
            # Single values between invalid ones would be invisible.
            kwargs = {"marker": ".", **kwargs}
        if sliders:
            kwargs["colorbar"] = image and colorbar is not False
        elif axes is None:
            colorbar = colorbar is not False
            if plt.gcf().axes:
                # Otherwise titles and color bars would overlap.
                plt.figure()
        result = super().plot(axes, *options, wcs=wcs, **kwargs)
        if sliders:
            return result
        label_axes(result, result.wcs, units=units)
        result.set_title(heading(cube), fontsize="medium")
        if not image:
            result.set_ylabel(value_label(cube))
            return result
        result.set_facecolor(NO_DATA)
        if colorbar:
            result.figure.colorbar(result.get_images()[-1], ax=result, label=value_label(cube))
        return result

    def _animate_cube(self, *args, **kwargs):
        animator = super()._animate_cube(*args, **kwargs)
        _name_exposures(animator, self._ndcube)
        return animator

    def _prep_animate_args(self, wcs, plot_axes, axes_units, data_unit):
        """The part of a cube that ndcube shows, without computing all of it."""
        kinds = wcs.world_axis_physical_types
        units = axes_units or [None] * len(kinds)
        styles = {kind: coordinate_style(wcs, kind, unit) for kind, unit in zip(kinds, units, strict=True)}
        return _Images(self._ndcube), wcs, [0 if name is None else name for name in plot_axes], styles


class _Images:
    """The data of a cube, of which a part is computed, and masked, on demand."""

    def __init__(self, cube):
        self._cube = cube
        self.shape, self.ndim, self.dtype = cube.data.shape, cube.data.ndim, cube.data.dtype
        self._last = None, None

    def __getitem__(self, item):
        # ndcube asks for each part several times in turn.
        if self._last[0] != item:
            part = in_memory(self._cube[item])
            self._last = item, np.ma.masked_array(part.data, invalid_pixels(part.data, part.mask))
        return self._last[1]

    def min(self):
        return self._limit(np.nanmin)

    def max(self):
        return self._limit(np.nanmax)

    def _limit(self, function):
        parts = [self[(index,)] for index in range(self.shape[0])]
        return function([function(part.astype(float).filled(np.nan)) for part in parts])


def _copy(values):
    return list(values) if isinstance(values, list | tuple) else values


def _image_options(cube, plot_axes, options):
    """Options of an image: the given ones, and ours."""
    defaults = PIXELS.copy()
    # Degrees of the sky and detector pixels are alike along both axes, but time and channel are not.
    if {name for name, axis in zip(axis_names(cube), plot_axes, strict=True) if axis} != {"x", "y"}:
        defaults["aspect"] = "auto"
    limits = {}
    chosen = options.get("norm") is not None or "clip_interval" in options
    if not chosen:
        options = {key: value for key, value in options.items() if key != "norm"}
        limits = {name: options.pop(name, None) for name in ("vmin", "vmax")}
    norm, defaults["cmap"] = scale(_sample(cube), cube.unit, **limits)
    if not chosen:
        defaults["norm"] = norm
    return {**defaults, **options}


def _sample(cube):
    """Values that set the scale: of the good exposure nearest to the middle, if the image is one of many."""
    if cube.data.ndim < 3 or axis_names(cube)[0] != "time":
        return valid_values(in_memory(cube))
    count, good = cube.shape[0], good_images(cube).reshape(cube.shape[0], -1).any(axis=1)
    for index in sorted(range(count), key=lambda index: (not good[index], abs(index - (count - 1) // 2))):
        values = valid_values(in_memory(cube[index]))
        if values.size:
            break
    return values


def _name_exposures(animator, cube):
    """Describe the shown image on the sliders and above the plot, now and after each step."""
    texts = {"channel": [str(number) for number in np.atleast_1d(cube.channel)]}
    if cube.time is not None:
        texts["time"] = [time[11:19] for time in np.atleast_1d(cube.time.utc.isot)]

    def show():
        animator.axes.set_title(heading(cube[animator.frame_index]), fontsize="small")
        for axis, slider in zip(animator.slider_axes, animator.sliders, strict=False):
            if (name := axis_names(cube)[axis]) in texts:
                slider._slider.valtext.set_text(texts[name][animator.frame_slice[axis]])

    def named(update):
        def step(*arguments):
            update(*arguments)
            show()

        return step

    # Movies of the animator go through these as well.
    animator.slider_functions = [named(update) for update in animator.slider_functions]
    show()
    if animator.plot_dimensionality == 1:
        animator.axes.set_ylabel(value_label(cube))
        return
    animator.axes.set_facecolor(NO_DATA)
    if animator.if_colorbar:
        animator.colorbar.set_label(value_label(cube))
