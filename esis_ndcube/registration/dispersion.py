"""Direction and size of the displacement in the Sun's image by motions along the line of sight."""

import numpy as np

import astropy.units as u
from astropy import constants as const
from astropy.table import QTable

from esis_ndcube.registration.pointing import by_channel
from esis_ndcube.utils.checks import named_axes
from esis_ndcube.wcs._sun import high_level, same_directions, seen_pixels

__all__ = ["cube_dispersion"]

# Detector pixels on both sides of the middle over which the displacement is measured.
_HALF = 10.0


def cube_dispersion(cube):
    """
    The table of a cube of Level 3, as its method ``dispersion`` explains.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        A cube with alignments, or a part of one that has both directions of the sky.

    Returns
    -------
    `~astropy.table.QTable`
        A row for each channel.

    Raises
    ------
    ValueError
        If the cube has no alignments, or not both directions of the sky.
    """
    named_axes(cube)
    if cube.alignment is None or cube.channel is None:
        msg = "this cube has no alignments of channels: cubes of form_level3, and parts of them, have a dispersion"
        raise ValueError(msg)
    flight, line = cube.flight, cube.flight.line(cube.line)
    celestial = getattr(cube.wcs, "celestial", None)
    if celestial is None:
        msg = "got a cut through the sky, expected both of its directions: call dispersion() before you cut"
        raise ValueError(msg)
    channels = np.atleast_1d(cube.channel)
    steps = [
        _mean([_steps(alignment, flight, celestial) for alignment in column if alignment is not None])
        for column in by_channel(cube, cube.alignment).T
    ]
    sky, pixels = (np.array(parts) for parts in zip(*steps, strict=True))
    length = np.hypot(*pixels.T) * u.pix
    wavelength = flight.detector.dispersion / length
    table = QTable()
    table["channel"] = channels.astype(int)
    table["direction"] = np.degrees(np.arctan2(sky[:, 1], sky[:, 0])) * u.deg
    table["dx"], table["dy"] = (pixels / length.value[:, None]).T
    table["velocity"] = (const.c * wavelength / line.wavelength).to(u.km / u.s / u.pix)
    table["wavelength"] = wavelength.to(u.AA / u.pix)
    table["rest_wavelength"] = np.full(channels.size, line.wavelength.to_value(u.AA)) * u.AA
    table["direction"].info.format = table["velocity"].info.format = ".1f"
    return table


def _steps(alignment, flight, celestial):
    """Displacement by a detector pixel along the dispersion, on the sky in arcsec and in pixels of the cube."""
    u_pixel, v_pixel = flight.field_stop(alignment.channel, alignment.line).mean(axis=0)
    ends = u_pixel + np.array([-_HALF, _HALF]), np.full(2, v_pixel)
    longitude, latitude = alignment.detector_to_world(*ends)
    if same_directions(celestial, alignment.grid, dates=False):
        # Meanwhile the Sun turns, but both ends alike.
        there = celestial.world_to_pixel_values(longitude.to_value(u.deg), latitude.to_value(u.deg))
    else:
        there = seen_pixels(alignment.to_gwcs(), high_level(celestial), *ends)
    return [
        np.ravel([np.diff(np.asarray(values)) / (2 * _HALF) for values in pair])
        for pair in ((longitude.to_value(u.arcsec), latitude.to_value(u.arcsec)), there)
    ]


def _mean(steps):
    return np.mean(steps, axis=0) if steps else np.full((2, 2), np.nan)
