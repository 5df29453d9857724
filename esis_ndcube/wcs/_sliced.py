"""The rest of a WCS when a slice cannot be FITS."""

from astropy.wcs.wcsapi import SlicedLowLevelWCS
from astropy.wcs.wcsapi.fitswcs import SlicedFITSWCS

from esis_ndcube.wcs._index import normalize_item

__all__ = ["SlicedESISWCS"]


class SlicedESISWCS(SlicedFITSWCS):
    """
    Part of an `ESISWCS` that FITS cannot express: a row or a column of the celestial pair.

    Parameters
    ----------
    wcs : `ESISWCS`
        The WCS, with one pixel along the dropped axes.
    slices : `tuple`
        Zero for the dropped axes, and ``slice(None)`` for the others, in array order.

    Examples
    --------
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.wcs import level3_wcs
    >>> row = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])[0, 1, 100]
    >>> row.pixel_n_dim, row.world_n_dim, row.channels
    (1, 2, 2)
    """

    @property
    def times(self):
        """As `ESISWCS.times`."""
        return self._wcs.times

    @property
    def channels(self):
        """As `ESISWCS.channels`."""
        return self._wcs.channels

    @property
    def exposure_time(self):
        """As `ESISWCS.exposure_time`."""
        return self._wcs.exposure_time

    @property
    def array_axis_names(self):
        """As `ESISWCS.array_axis_names`."""
        names = zip(self._wcs.array_axis_names, self._slices_array, strict=True)
        return [name for name, item in names if isinstance(item, slice)]

    @property
    def dropped_world_dimensions(self):
        """As `ESISWCS.dropped_world_dimensions`, with the celestial coordinates if both axes are gone."""
        here = SlicedLowLevelWCS.dropped_world_dimensions.fget(self)
        dropped = self._wcs.dropped_world_dimensions
        if not here or not dropped:
            return here or dropped
        merged = {key: [*here[key], *dropped[key]] for key in dropped if isinstance(dropped[key], list)}
        classes = here["world_axis_object_classes"] | dropped["world_axis_object_classes"]
        return {**merged, "world_axis_object_classes": classes, "serialized_classes": False}

    def __getitem__(self, item):
        item = iter(normalize_item(item, self.array_shape))
        return self._wcs[tuple(next(item) if isinstance(x, slice) else x for x in self._slices_array)]
