"""Numbers that say how good a Level-3 cube is."""

from itertools import combinations

import numpy as np
from scipy.ndimage import binary_erosion

import astropy.units as u
from astropy.table import QTable, Table

from esis_ndcube.flags import Flag
from esis_ndcube.registration import log_difference_of_gaussians
from esis_ndcube.registration.reference import observed_grid, pixel_size

__all__ = ["offset_to_map", "pair_correlation", "summary", "tile_residual"]

_REGIONS = ("full", "octagon", "clean")
# Tiles of 128 pixels every 96 pixels, in images filtered with Gaussians of 1 and 8 pixels.
_TILE, _STEP = 128, 96
_FINE, _COARSE = 1.0, 8.0
_REACH = 3
_EROSION = 12


def pair_correlation(cube, *, region="full"):
    """
    Zero-lag correlation of every pair of channels in every exposure.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    region : `str`, optional
        ``"full"``: the whole frame with NaN as 0, as the figures of the first flight were published;
        ``"octagon"``: where both channels are valid; ``"clean"``: there without overlapping lines.

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure and pair: ``frame``, ``first`` and ``second`` (channel numbers), ``correlation``.

    Raises
    ------
    ValueError
        If the region is unknown, the cube does not have all four axes, or ``"clean"`` is asked of one without flags.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import pair_correlation
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> float(pair_correlation(cube)["correlation"].mean())  # doctest: +SKIP
    0.9145
    """
    if region not in _REGIONS:
        msg = f"got region {region!r}, expected one of {', '.join(_REGIONS)}"
        raise ValueError(msg)
    _check(cube, flags=region == "clean")
    rows = []
    for time, frame in enumerate(cube.frame):
        data, bad = np.asarray(cube.data[time]), _invalid(cube, time)
        if region == "clean":
            bad = bad | (np.asarray(cube.flags[time]) & Flag.OVERLAP != 0)
        present = np.isfinite(data).any((1, 2))
        for i, j in combinations(range(len(data)), 2):
            if not (present[i] and present[j]):
                value = np.nan
            elif region == "full":
                value = _correlation(*(np.where(np.isfinite(data[k]), data[k], 0).ravel() for k in (i, j)))
            else:
                good = ~(bad[i] | bad[j])
                value = _correlation(data[i][good], data[j][good])
            rows.append((int(frame), int(cube.channel[i]), int(cube.channel[j]), value))
    return Table(rows=rows, names=("frame", "first", "second", "correlation"))


def tile_residual(cube):
    """
    Misalignment of every pair of channels that is left in small tiles.

    Images are filtered by `~esis_ndcube.registration.log_difference_of_gaussians` (1 and 8 pixels), cut into tiles of
    128 pixels every 96 pixels inside of the field stop, and each tile is shifted to the maximum of its
    cross-correlation, as `tile_shift` finds it.
    A Doppler shift that a whole tile has in common counts as a shift.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure, pair and tile: ``frame``, ``first``, ``second``, ``x``, ``y`` (center of the tile),
        ``dx``, ``dy`` in pixels: how far the second channel lies from the first.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, or no flags.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import tile_residual
    >>> tiles = tile_residual(ESISLevel3Cube.read("l3.fits"))  # doctest: +SKIP
    >>> float(np.sqrt(np.mean(tiles["dx"] ** 2 + tiles["dy"] ** 2)))  # doctest: +SKIP
    0.19
    """
    _check(cube, flags=True)
    rows = []
    for time, frame in enumerate(cube.frame):
        data, good = np.asarray(cube.data[time]), ~_invalid(cube, time)
        present = good.any((1, 2))
        filtered = [
            log_difference_of_gaussians(image, _FINE, _COARSE, valid=valid) if there else None
            for image, valid, there in zip(data, good, present, strict=True)
        ]
        for i, j in combinations(range(len(data)), 2):
            if not (present[i] and present[j]):
                continue
            inside = binary_erosion(_field_stop(cube, time, i) & _field_stop(cube, time, j), iterations=_EROSION)
            for x, y, dx, dy in _tile_shifts(filtered[i], filtered[j], inside):
                rows.append((int(frame), int(cube.channel[i]), int(cube.channel[j]), x, y, dx, dy))
    return Table(rows=rows or None, names=("frame", "first", "second", "x", "y", "dx", "dy"))


def _field_stop(cube, time, channel):
    return np.asarray(cube.flags[time, channel]) & (Flag.OUTSIDE | Flag.MISSING) == 0


def tile_shift(first, second):
    """
    Shift of one image from another, to a fraction of a pixel.

    The maximum of the correlation is that of a quadratic surface through its nine values around the largest one.
    On filtered images of a network scene, without noise, it is within 0.005 px for any shift.
    A parabola along each axis would be within 0.02 px there, and 0.2 px off where structures are long and oblique.

    Parameters
    ----------
    first, second : `numpy.ndarray`
        Images of one shape with a mean of about 0.

    Returns
    -------
    dx, dy : `float`
        Position of the maximum of the cross-correlation; NaN if it is not within 3 pixels, or the images are smaller
        than 13 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube.quality import tile_shift
    >>> scene = gaussian_filter(np.random.default_rng(0).normal(size=(80, 80)), 2)
    >>> dx, dy = tile_shift(scene[8:-8, 8:-8], scene[8:-8, 6:-10])
    >>> bool(abs(dx - 2) < 0.05), bool(abs(dy) < 0.05)
    (True, True)
    """
    n = _REACH
    rows, columns = first.shape
    if min(rows, columns) <= 4 * n:
        return np.nan, np.nan
    core = first[n:-n, n:-n]
    core = core - core.mean()
    size = 2 * n + 1
    surface = np.empty((size, size))
    for k in range(size):
        for m in range(size):
            other = second[k : k + rows - 2 * n, m : m + columns - 2 * n]
            # The energy of the window differs from shift to shift, and must not pull the maximum.
            energy = np.vdot(other, other) - other.size * float(other.mean()) ** 2
            surface[k, m] = np.vdot(core, other) / np.sqrt(max(energy, 1e-30))
    k, m = np.unravel_index(surface.argmax(), surface.shape)
    if not (0 < k < size - 1 and 0 < m < size - 1):
        return np.nan, np.nan
    dx, dy = _vertex(surface[k - 1 : k + 2, m - 1 : m + 2])
    return float(m - n + dx), float(k - n + dy)


def _vertex(s):
    """Maximum of the quadratic surface through 3 x 3 values around a maximum."""
    gradient = np.array([s[1, 2] - s[1, 0], s[2, 1] - s[0, 1]]) / 2
    xx, yy = s[1, 0] - 2 * s[1, 1] + s[1, 2], s[0, 1] - 2 * s[1, 1] + s[2, 1]
    xy = (s[2, 2] - s[2, 0] - s[0, 2] + s[0, 0]) / 4
    if xx * yy > xy**2:
        step = -np.linalg.solve([[xx, xy], [xy, yy]], gradient)
        if np.abs(step).max() <= 1:
            return step
    # Nearly a ridge: along each axis then.
    return -gradient / np.minimum([xx, yy], -1e-30)


def _tile_shifts(first, second, inside):
    rows, columns = inside.shape
    for y in range(0, rows - _TILE + 1, _STEP):
        for x in range(0, columns - _TILE + 1, _STEP):
            tile = slice(y, y + _TILE), slice(x, x + _TILE)
            if not inside[tile].all():
                continue
            dx, dy = tile_shift(first[tile], second[tile])
            if np.isfinite(dx):
                yield x + (_TILE - 1) / 2, y + (_TILE - 1) / 2, dx, dy


def offset_to_map(cube, reference, *, frame=None):
    """
    Offset and correlation of every channel to a reference image, at the reference's own resolution.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).
    reference : `~sunpy.map.GenericMap`
        The image.
    frame : `int`, optional
        Raw frame number of the exposure; by default the one nearest in time to the image.

    Returns
    -------
    `~astropy.table.QTable`
        A row per channel: ``frame``, ``channel``, ``dx`` and ``dy`` (how far the channel lies from the reference) in
        arcsec, ``correlation`` inside of the field stop.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, no flags, or no such exposure.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import offset_to_map
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> table = offset_to_map(cube, sunpy.map.Map("aia_304.fits"))  # doctest: +SKIP
    """
    from reproject import reproject_interp

    _check(cube, flags=True)
    if frame is None:
        time = int(np.abs((cube.time - reference.reference_date).to_value(u.s)).argmin())
    elif frame in list(cube.frame):
        time = list(cube.frame).index(frame)
    else:
        msg = f"got frame {frame}, expected one of the cube's: {', '.join(map(str, cube.frame))}"
        raise ValueError(msg)
    # The images are compared on the coarser of both grids. The cube may be a part of the flight's grid.
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
        good = _field_stop(cube, time, index) & np.isfinite(cube.data[time, index])
        blocks = (slice(shape[0] * factor), slice(shape[1] * factor))
        split = (shape[0], factor, shape[1], factor)
        inside = good[blocks].reshape(split).all((1, 3)) & np.isfinite(image)
        if not inside.any():
            rows.append((int(cube.frame[time]), int(channel), np.nan * u.arcsec, np.nan * u.arcsec, np.nan))
            continue
        mean = np.where(good, cube.data[time, index], 0)[blocks].reshape(split).mean((1, 3))
        filtered = [log_difference_of_gaussians(a, _FINE, _COARSE, valid=inside) for a in (image, mean)]
        y, x = np.nonzero(inside)
        box = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
        dx, dy = tile_shift(filtered[0][box], filtered[1][box])
        scale = pixel_size(coarse) * u.arcsec
        value = _correlation(image[inside], mean[inside])
        rows.append((int(cube.frame[time]), int(channel), dx * scale, dy * scale, value))
    return QTable(rows=rows, names=("frame", "channel", "dx", "dy", "correlation"))


def summary(cube):
    """
    The quality of every exposure in one table.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure: ``frame``, ``time``, mean ``correlation`` of the pairs of channels over the full frame and
        over the field stop, RMS ``residual`` of the tiles in pixels, number of channels ``aligned``.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, or no flags.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import summary
    >>> summary(ESISLevel3Cube.read("l3.fits")).pprint()  # doctest: +SKIP
    """
    _check(cube)
    full, octagon, tiles = pair_correlation(cube), pair_correlation(cube, region="octagon"), tile_residual(cube)
    rows = []
    for time, frame in enumerate(cube.frame):
        of_frame = tiles[tiles["frame"] == frame] if len(tiles) else tiles
        residual = np.sqrt(np.mean(of_frame["dx"] ** 2 + of_frame["dy"] ** 2)) if len(of_frame) else np.nan
        alignments = () if cube.alignment is None else cube.alignment[time]
        aligned = sum(a is not None and a.converged for a in alignments)
        means = [_mean(table["correlation"][table["frame"] == frame]) for table in (full, octagon)]
        rows.append((int(frame), cube.time[time].isot, *means, residual, aligned))
    names = "frame", "time", "correlation full", "correlation octagon", "residual", "aligned"
    table = Table(rows=rows, names=names)
    table["residual"].unit = u.pix
    for name in names[2:5]:
        table[name].info.format = ".4f"
    return table


def _mean(values):
    values = np.asarray(values)[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


def _correlation(a, b):
    a, b = (np.asarray(x, dtype=float) for x in (a, b))
    if a.size < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return np.nan
    return float(np.corrcoef(a, b)[0, 1])


def _invalid(cube, time):
    bad = ~np.isfinite(cube.data[time])
    return bad if cube.mask is None else bad | np.asarray(cube.mask[time])


def _check(cube, *, flags=False):
    if cube.data.ndim != 4:
        msg = f"got a cube of shape {cube.data.shape}, expected (time, channel, y, x): slice with ranges"
        raise ValueError(msg)
    if flags and cube.flags is None:
        msg = "got a cube without flags, which say where the field stop and overlapping lines are"
        raise ValueError(msg)
