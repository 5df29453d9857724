"""The sunpy Map of one Level-3 image."""

import numpy as np

from astropy.visualization import AsinhStretch, ImageNormalize
from sunpy.map import GenericMap

__all__ = ["ESISMap"]

# That of the passband which shows the same layer of the atmosphere.
_COLORMAP = "sdoaia304"
_PERCENTILES = 0.5, 99.7
_STRETCH = 0.3


class ESISMap(GenericMap):
    """
    Image of one exposure of one channel of ESIS, or of a flight like it.

    The EUV Snapshot Imaging Spectrograph is a slitless spectrograph on a sounding rocket: several cameras image the
    same octagonal field of the Sun in the light of a few EUV lines, each dispersed in another direction.
    A map is the image of one of them in one line, on a grid of the Sun; ``cube[0, 0].to_map()`` makes one, and
    `sunpy.map.Map` of an image that was saved.

    Notes
    -----
    ``detector`` names the camera, ``wavelength`` is that of the line, ``reference_date`` the middle of the exposure.
    Plots leave out the faintest 0.5 % and the brightest 0.3 % of the valid pixels when they choose their range, so
    that neither spikes nor masked pixels decide; ``plot(norm=...)``, ``plot(clip_interval=...)``,
    ``plot(vmax=...)`` and ``plot_settings["norm"]`` take precedence.

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

    @classmethod
    def is_datasource_for(cls, data, header, **kwargs):
        """
        Whether a header is that of such an image.

        Parameters
        ----------
        data : `numpy.ndarray`
            The image; not looked at.
        header : `dict`
            The header.
        **kwargs
            Not looked at.

        Returns
        -------
        `bool`
            Whether its ``INSTRUME`` is ESIS, or begins with it.

        Examples
        --------
        >>> from esis_ndcube import ESISMap
        >>> ESISMap.is_datasource_for(None, {"instrume": "AIA"})
        False
        """
        return str(header.get("instrume", "")).startswith("ESIS")

    def plot(self, *, clip_interval=None, **kwargs):
        """
        Plot the map, as `sunpy.map.GenericMap.plot`, with a norm that spikes and masked pixels do not decide.

        Parameters
        ----------
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
        if "norm" not in kwargs and clip_interval is None and (chosen is None or not chosen.scaled()):
            kwargs["norm"] = self._norm(kwargs.pop("vmin", None), kwargs.pop("vmax", None))
        return super().plot(clip_interval=clip_interval, **kwargs)

    def _norm(self, vmin, vmax):
        valid = np.isfinite(self.data)
        if self.mask is not None:
            valid &= ~self.mask
        low, high = np.percentile(self.data[valid], _PERCENTILES) if valid.any() else (0, 1)
        vmin, vmax = max(low, 0) if vmin is None else vmin, max(high, 1e-6) if vmax is None else vmax
        return ImageNormalize(vmin=vmin, vmax=vmax, stretch=AsinhStretch(_STRETCH), clip=False)

    def _get_cmap_name(self):
        return _COLORMAP
