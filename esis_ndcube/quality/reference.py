"""How well a cube fits other images of the Sun."""

import numpy as np
from reproject import reproject_interp

import astropy.units as u
from astropy.table import QTable

from esis_ndcube.quality._cube import check, coefficient, field_stop, filtered
from esis_ndcube.quality.shifts import image_shift
from esis_ndcube.registration.reference import observed_grid, pixel_size, warn_of_gap
from esis_ndcube.utils.checks import find_number
from esis_ndcube.utils.times import nearest_in_time

__all__ = ["offset_to_map"]


def offset_to_map(cube, reference, *, frame_number=None):
    """
    Offset and correlation of every channel to a reference image, at the reference's own resolution.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    reference : `~sunpy.map.GenericMap`
        The image.
    frame_number : `int`, optional
        Raw frame number of the exposure; by default the one nearest in time to the image.

    Returns
    -------
    `~astropy.table.QTable`
        A row per channel: ``frame_number``, ``channel``, ``dx`` and ``dy`` (how far the channel lies from the
        reference) in arcsec, and ``correlation`` inside of the field stop. The offsets measure the fit. They do not
        include an error of the reference's own pointing: for the digitized image of the 2019 flight this error is +1.5,
        +1.3 arcsec, measured against the team's fit.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, has no flags, or has no such exposure.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import offset_to_map
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> table = offset_to_map(cube, sunpy.map.Map("aia_304.fits"))  # doctest: +SKIP
    """
    check(cube, flags=True)
    if frame_number is None:
        (time,), seconds = nearest_in_time(cube.time, reference.reference_date)
        warn_of_gap("images", abs(seconds[0]) * u.s, "frame_number")
    else:
        time = find_number("frame", frame_number, cube.frame_number, "the cube's: ")
    # The images are compared on the coarser of the two grids. The cube may be a part of the flight's grid.
    grid = observed_grid(cube.flight, reference.observer_coordinate, reference.reference_date)
    grid.wcs.crpix = cube[time, 0].wcs.wcs.crpix
    factor = max(1, round(pixel_size(reference.wcs) / pixel_size(grid)))
    shape = tuple(n // factor for n in cube.data.shape[-2:])
    coarse = grid[::factor, ::factor]
    coarse.array_shape = shape
    image = np.where(False if reference.mask is None else reference.mask, np.nan, reference.data)
    image, _ = reproject_interp((image, reference.wcs), coarse, shape_out=shape)
    rows = []
    for index, channel in enumerate(cube.channel):
        # Dask adds up in another order.
        data = np.asarray(cube.data[time, index])
        good = field_stop(cube, time, index) & np.isfinite(data)
        blocks = (slice(shape[0] * factor), slice(shape[1] * factor))
        split = (shape[0], factor, shape[1], factor)
        inside = good[blocks].reshape(split).all((1, 3)) & np.isfinite(image)
        if not inside.any():
            rows.append((int(cube.frame_number[time]), int(channel), np.nan * u.arcsec, np.nan * u.arcsec, np.nan))
            continue
        mean = np.where(good, data, 0)[blocks].reshape(split).mean((1, 3))
        first, second = (filtered(a, inside) for a in (image, mean))
        y, x = np.nonzero(inside)
        box = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
        dx, dy = image_shift(first[box], second[box])
        scale = pixel_size(coarse) * u.arcsec
        value = coefficient(np.where(inside, image, 0), mean, inside)
        rows.append((int(cube.frame_number[time]), int(channel), dx * scale, dy * scale, value))
    table = QTable(rows=rows, names=("frame_number", "channel", "dx", "dy", "correlation"))
    for name in ("dx", "dy", "correlation"):
        table[name].info.format = ".3f"
    return table
