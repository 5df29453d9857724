"""The WCS of a cube whose pixels were binned or resampled: FITS again."""

import numpy as np

from esis_ndcube.wcs._axes import TIME, Exposures, time_cards
from esis_ndcube.wcs._digits import set_number
from esis_ndcube.wcs._sliced import SlicedESISWCS
from esis_ndcube.wcs.fitswcs import ESISWCS, from_header

# The keywords of another grid for the celestial pair, and for its frame.
_AXIS_CARDS = ("CTYPE", "CUNIT", "CRPIX", "CRVAL", "CDELT", "CNAME")
_FRAME_CARDS = ("LONPOLE", "LATPOLE", "RADESYS", "EQUINOX", "RSUN_REF", "CRLN_OBS")


def bin_wcs(wcs, factors):
    """
    The WCS of a cube whose pixels were joined, ``factors`` of them along each array axis.

    The pixel p becomes (p - 1/2)/f + 1/2 in the counting of FITS; times are averaged and exposure times added.
    """
    if isinstance(wcs, SlicedESISWCS):
        given = iter(factors)
        inner = [next(given) if isinstance(item, slice) else 1 for item in wcs._slices_array]
        return SlicedESISWCS(bin_wcs(wcs._wcs, inner), tuple(wcs._slices_array))
    factors = np.array(factors[::-1])
    binned = wcs.deepcopy()
    binned.pixel_shape = tuple(n // f for n, f in zip(wcs.pixel_shape, factors, strict=True))
    time = wcs._axis(TIME)
    image = factors.astype(float)
    if time is not None:
        image[time] = 1
    binned.wcs.crpix = (wcs.wcs.crpix - 0.5) / image + 0.5
    if wcs.wcs.has_cd():
        binned.wcs.cd = wcs.wcs.cd * image
    else:
        binned.wcs.cdelt = wcs.wcs.cdelt * image
        binned.wcs.pc = wcs.wcs.get_pc() * image / image[:, None]
    if time is not None and factors[time] > 1 and wcs._exposures is not None:
        binned._exposures = _bin_exposures(wcs._exposures, int(factors[time]))
        binned = binned._with_axes({time: time_cards(binned._exposures)})
    return binned._stamp()


def _bin_exposures(exposures, factor):
    def join(values, how):
        return None if values is None else how(values.reshape(-1, factor, *values.shape[1:]), axis=1)

    return Exposures(
        join(exposures.seconds, np.mean), join(exposures.duration, np.sum), join(exposures.observer, np.mean)
    )


def replace_celestial(wcs, celestial, shape, observer=None):
    """
    The WCS with the celestial pair of another, two-dimensional one, of ``shape`` (y, x).

    ``observer`` holds Stonyhurst longitude and latitude in deg and distance in m, or is None for the WCS's own.
    """
    header, other = wcs.to_header(relax=True), celestial.to_header(relax=True)
    for key in [key for key in header if key.startswith(("PV1_", "PV2_")) or key in _FRAME_CARDS[:4]]:
        del header[key]
    for key, value in other.items():
        pair = key.startswith(("PC1_", "PC2_", "PV1_", "PV2_"))
        if pair or key in _FRAME_CARDS or (key[-1] in "12" and key[:-1] in _AXIS_CARDS):
            if isinstance(value, float):
                set_number(header, key, value)
            else:
                header[key] = value
    for i in (1, 2):
        for j in (1, 2):
            set_number(header, f"PC{i}_{j}", other.get(f"PC{i}_{j}", float(i == j)))
    exposures = wcs._exposures
    if exposures is not None and observer is not None:
        places = np.tile(np.asarray(observer, dtype=float), (exposures.seconds.size, 1))
        exposures = Exposures(exposures.seconds, exposures.duration, places)
    pixel_shape = (*shape[::-1], *wcs.pixel_shape[2:])
    return from_header(header, wcs.table_hdus(), pixel_shape, exposures, wcs._channels, wcs._dropped)._stamp()


def forget_channel(wcs):
    """
    Remove the memory of a channel from the WCS of a cube of no single channel.

    Parameters
    ----------
    wcs : `~esis_ndcube.wcs.ESISWCS` or `~esis_ndcube.wcs.SlicedESISWCS`
        The WCS of a cube whose channel was sliced away.

    Returns
    -------
    `~esis_ndcube.wcs.ESISWCS` or `~esis_ndcube.wcs.SlicedESISWCS`
        A copy.
    """
    wcs = wcs.deepcopy() if isinstance(wcs, ESISWCS) else wcs
    inner = wcs if isinstance(wcs, ESISWCS) else wcs._wcs
    inner._dropped = tuple(entry for entry in inner._dropped if entry[0] != "channel")
    inner._channels = None
    return wcs
