"""The sunpy Map of one Level-3 image."""

from sunpy.map import GenericMap, Map

from esis_ndcube.io.fits import exposure_header
from esis_ndcube.visualization.style import DIVERGING, NO_DATA, in_memory, scale, valid_values

__all__ = ["ESISMap"]

# The color map of the passband that shows the same layer of the atmosphere.
_COLORMAP = "sdoaia304"


class ESISMap(GenericMap):
    """
    Image of one exposure of one channel of ESIS, or of a flight like it.

    The EUV Snapshot Imaging Spectrograph is a slitless spectrograph on a sounding rocket: several cameras image the
    same octagonal field of the Sun in the light of a few EUV lines, each dispersed in another direction.
    A map is the image of one of them in one line, on a grid of the Sun; ``cube[0, 0].to_map()`` makes one, and
    `sunpy.map.Map` of an image that was saved.

    Notes
    -----
    ``detector`` names the camera, ``wavelength`` is the wavelength of the line, and ``reference_date`` is the middle of
    the exposure.
    Plots have the same scale as plots of cubes: the range leaves out the faintest 0.5 % and the brightest 0.3 % of the
    valid pixels, so that neither spikes nor masked pixels decide it. Values with two signs, for example differences of
    channels, get a linear scale about zero and another color map. ``plot(norm=...)``, ``plot(clip_interval=...)``,
    ``plot(vmax=...)`` and entries of ``plot_settings`` take precedence.

    References
    ----------
    * :cite:t:`Parker2022`

    Examples
    --------
    >>> import numpy as np
    >>> import sunpy.map
    >>> import esis_ndcube
    >>> header = {"instrume": "ESIS", "detector": "ESIS2", "ctype1": "HPLN-TAN", "ctype2": "HPLT-TAN",
    ...           "cunit1": "arcsec", "cunit2": "arcsec", "wavelnth": 629.732, "waveunit": "Angstrom",
    ...           "date-obs": "2019-09-30T18:08:31.6", "date-avg": "2019-09-30T18:08:36.6"}
    >>> sunpy.map.Map(np.ones((4, 4)), header).name
    'ESIS2 629.732 Angstrom 2019-09-30 18:08:31'
    """

    # Pixels that set the scale of a map that was made from a cube, whose flags know particle hits.
    _values = None

    @classmethod
    def is_datasource_for(cls, data, header, **kwargs):
        """
        Whether a header is that of an image of ESIS.

        Parameters
        ----------
        data : `numpy.ndarray`
            The image, which is not used.
        header : `dict`
            The header.
        **kwargs
            Not used.

        Returns
        -------
        `bool`
            Whether the ``INSTRUME`` of the header is ESIS, or begins with it.

        Examples
        --------
        >>> from esis_ndcube import ESISMap
        >>> ESISMap.is_datasource_for(None, {"instrume": "AIA"})
        False
        """
        return str(header.get("instrume", "")).startswith("ESIS")

    def plot(self, *, annotate=True, clip_interval=None, **kwargs):
        """
        Plot the map, as `sunpy.map.GenericMap.plot`, with a range that spikes and masked pixels do not affect.

        Masked pixels are gray.

        Parameters
        ----------
        annotate : `bool`, optional
            Whether to label the axes.
        clip_interval : `~astropy.units.Quantity`, optional
            Two percentiles, as for `sunpy.map.GenericMap.plot`.
        **kwargs
            As for `sunpy.map.GenericMap.plot`.

        Returns
        -------
        `~matplotlib.image.AxesImage`
            As `sunpy.map.GenericMap.plot`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube[15, 0].to_map().plot()  # doctest: +SKIP
        """
        chosen = self.plot_settings.get("norm")
        if kwargs.get("norm") is None and clip_interval is None and (chosen is None or not chosen.scaled()):
            limits = {name: kwargs.pop(name, None) for name in ("vmin", "vmax")}
            values = valid_values(self) if self._values is None else self._values
            kwargs["norm"], colormap = scale(values, self.unit, **limits)
            cmap = self.plot_settings.get("cmap")
            if colormap == DIVERGING and getattr(cmap, "name", cmap) == _COLORMAP:
                kwargs.setdefault("cmap", colormap)
        shown = super().plot(clip_interval=clip_interval, annotate=annotate, **kwargs)
        shown.axes.set_facecolor(NO_DATA)
        if annotate:
            for coordinate, name in zip(shown.axes.coords, "XY", strict=True):
                coordinate.set_axislabel(f"Solar {name} [{coordinate.get_format_unit()}]")
        return shown

    @property
    def nickname(self):
        """The camera (`str`); the instrument, for an image that was made from several cameras."""
        return super().nickname or self.instrument

    @nickname.setter
    def nickname(self, name):
        self._nickname = name

    def _get_cmap_name(self):
        return _COLORMAP


def cube_map(cube):
    """The Map of a cube of one image, as the method ``to_map`` of cubes explains."""
    uncertainty = cube.uncertainty
    if uncertainty is not None:
        # A copy, which does not know the cube.
        uncertainty = type(uncertainty)(uncertainty.array, unit=uncertainty.unit)
    result = Map(cube.data, exposure_header(cube), mask=cube.mask, uncertainty=uncertainty)
    if isinstance(result, ESISMap) and cube.flags is not None:
        # A Map has no flags, and so its scale would also follow from mended particle hits.
        result._values = valid_values(in_memory(cube))
    return result
