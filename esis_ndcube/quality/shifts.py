"""How far the channels of a cube lie from each other."""

from itertools import combinations

import numpy as np

import astropy.units as u
from astropy.table import Table

from esis_ndcube.quality._cube import check, compiled_type, field_stop, filtered
from esis_ndcube.registration._image_inputs import parse_image
from esis_ndcube.utils.arrays import eroded, invalid_pixels, plain_arrays

__all__ = ["image_shift", "pair_offset", "tile_residual"]

# Tiles of 128 pixels every 96 pixels, this far inside of the field stop.
_TILE, _STEP = 128, 96
_EROSION = 12
_REACH = 3
_PAIR_NAMES = "frame_number", "first", "second"
_TILE_NAMES = "x", "y", "dx", "dy"


def tile_residual(cube, reference=None):
    """
    Misalignment in small tiles, of every pair of channels of a cube or of two images.

    Images are filtered by `~esis_ndcube.registration.log_difference_of_gaussians` (1 and 8 pixels), cut into tiles of
    128 pixels every 96 pixels inside of the field stop, and each tile is shifted to the maximum of its
    cross-correlation, as `image_shift` finds it.
    A tile without a maximum within 3 pixels has no row.

    Errors of the alignment and motions on the Sun look the same: a Doppler shift moves each channel along its own
    dispersion.
    Displacements were put into a real exposure of the 2019 flight. They came out as follows, as RMS over all tiles and
    pairs.

    * Shifts of 0.05 to 1 pixel: within 0.001 to 0.011 pixels; small ones come out 1.6 % too small.
    * A stretch of 0.1 %, a roll of 0.05 degrees, a quadratic distortion (0.2 to 0.3 pixels): within 0.007 pixels.
    * Doppler shifts of 0.3 to 0.5 pixels that are smooth over 1000, 500 and 250 pixels: within 0.02, 0.03 and
      0.06 pixels.
    * Doppler shifts in patches: the result is their mean over the tile, weighted by the structures in it, which is
      within 0.1 pixels of the plain mean. Patches of a few pixels, for example single brightenings, mostly average out:
      of 0.5 pixels RMS with a Gaussian width of 4 pixels, 0.09 pixels are left.

    The residual does not show errors that all channels have in common, such as an error of their pointing.
    Between exposures 10 s apart the shifts change by 0.06 to 0.09 pixels; divided by the square root of 2 this is the
    noise. Over 230 s they change by 0.13 pixels. So most of the 0.16 pixels of the flight come from motions on the Sun.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube` or array-like
        Shape (time, channel, y, x); or an image of shape (y, x), as
        `~esis_ndcube.registration.coalign_images` takes them, that was aligned with the reference and lies on its
        pixels.
    reference : array-like, optional
        The other image, if the first argument is an image.

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure, pair and tile: ``frame_number``, ``first``, ``second``, ``x``, ``y`` (center of the tile),
        ``dx``, ``dy`` in pixels: how far the second channel lies from the first. For two images only the last four
        columns, and how far the image lies from the reference.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, or has no flags, or the images have different shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import tile_residual
    >>> tiles = tile_residual(ESISLevel3Cube.read("l3.fits"))  # doctest: +SKIP
    >>> float(np.sqrt(np.mean(tiles["dx"] ** 2 + tiles["dy"] ** 2)))  # doctest: +SKIP
    0.16

    Of two images:

    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube import coalign
    >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(310, 310)), 2))
    >>> image, reference = scene[5:305, 8:308], scene[:300, :300]
    >>> tiles = tile_residual(coalign(image, reference).apply(image)[0], reference)
    >>> len(tiles), bool(np.abs(tiles["dx"]).max() < 0.02)
    (1, True)
    """
    if reference is not None:
        names, pairs = (), [_image_pair(cube, reference)]
    else:
        names, pairs = _PAIR_NAMES, _pairs(cube)
    return _tile_table([row for pair in pairs for row in _tile_rows(*pair)], names)


def _tile_table(rows, names=_PAIR_NAMES):
    return _in_pixels(Table(rows=rows or None, names=(*names, *_TILE_NAMES)), _TILE_NAMES)


def _tile_rows(head, first, second, inside):
    for y in range(0, inside.shape[0] - _TILE + 1, _STEP):
        for x in range(0, inside.shape[1] - _TILE + 1, _STEP):
            tile = slice(y, y + _TILE), slice(x, x + _TILE)
            if not inside[tile].all():
                continue
            dx, dy = image_shift(first[tile], second[tile])
            if np.isfinite(dx):
                yield *head, x + (_TILE - 1) / 2, y + (_TILE - 1) / 2, dx, dy


def pair_offset(cube):
    """
    Offset of every pair of channels as a whole.

    The offset is the one translation of the second image that makes it most like the first over the whole field stop,
    on images filtered as for `tile_residual`.
    One number for the whole field needs weights, and the weights matter: the lines of bright regions of the Sun are
    redshifted against those of dark regions, by 0.1 detector pixels or 1.7 km/s in the 2019 flight.
    The maximum of the correlation, which the alignment maximizes too, weighs every pixel by its structure in the
    filtered images. The mean over tiles weighs all tiles alike, and the median over tiles leaves bright ones out.
    Wider filters give the bright network more weight.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `~astropy.table.Table`
        A row per exposure and pair: ``frame_number``, ``first``, ``second``, ``dx``, ``dy`` in pixels: how far the
        second channel lies from the first.

    Raises
    ------
    ValueError
        If the cube does not have all four axes, or has no flags.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.quality import pair_offset
    >>> offsets = pair_offset(ESISLevel3Cube.read("l3.fits"))  # doctest: +SKIP
    >>> float(np.hypot(offsets["dx"], offsets["dy"]).max())  # doctest: +SKIP
    0.08
    """
    return _offset_table([_offset_row(*pair) for pair in _pairs(cube)])


def _offset_table(rows):
    return _in_pixels(Table(rows=rows or None, names=(*_PAIR_NAMES, "dx", "dy")), ("dx", "dy"))


def _in_pixels(table, names):
    for name in names:
        table[name].unit = u.pix
    return table


def _offset_row(head, first, second, inside):
    seen = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    y, x = (slice(max(i[0] - _REACH, 0), i[-1] + 1 + _REACH) for i in seen)
    return *head, *image_shift(first[y, x], second[y, x], inside=inside[y, x])


def shift_tables(cube):
    """
    `tile_residual` and `pair_offset` of a cube in one pass: its images are filtered once for both.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Shape (time, channel, y, x).

    Returns
    -------
    `dict`
        Both tables, by the names ``"tiles"`` and ``"offsets"``.
    """
    tiles, offsets = [], []
    for pair in _pairs(cube):
        tiles += _tile_rows(*pair)
        offsets.append(_offset_row(*pair))
    return {"tiles": _tile_table(tiles), "offsets": _offset_table(offsets)}


def _pairs(cube):
    """Frame and channels, both filtered images and the pixels to compare, for every pair that has such pixels."""
    check(cube, flags=True)
    for time, frame_number in enumerate(cube.frame_number):
        good = ~np.asarray(invalid_pixels(cube.data, cube.mask, time))
        images = [
            filtered(image, valid) if valid.any() else None
            for image, valid in zip(np.asarray(cube.data[time]), good, strict=True)
        ]
        stops = [eroded(field_stop(cube, time, i), _EROSION) for i in range(len(images))]
        for i, j in combinations(range(len(images)), 2):
            inside = stops[i] & stops[j]
            if images[i] is not None and images[j] is not None and inside.any():
                yield (int(frame_number), int(cube.channel[i]), int(cube.channel[j])), images[i], images[j], inside


def _image_pair(image, reference):
    """The same for two images."""
    first, second = parse_image(reference, "a reference"), parse_image(image, "an image")
    if first.data.shape != second.data.shape:
        msg = (
            f"got an image of shape {second.data.shape} and a reference of shape {first.data.shape}, expected one on "
            f"the pixels of the other: coalign(image, reference).apply(image)[0]"
        )
        raise ValueError(msg)
    inside = eroded(first.valid & second.valid, _EROSION)
    return (), *(filtered(one.data, one.valid) for one in (first, second)), inside


@plain_arrays("first", "second", "inside")
def image_shift(first, second, *, inside=None):
    """
    Shift of one image from another, to a fraction of a pixel.

    The maximum of the correlation is that of a quadratic surface through its nine values around the largest one.
    The correlation is normalized by the energy of the part of the second image that it is taken with.
    On filtered images of a network scene, without noise, it is within 0.005 px for any shift.
    A parabola along each axis would be within 0.02 px there, but 0.2 px off on long and oblique structures.

    Parameters
    ----------
    first, second : `numpy.ndarray`
        Images of one shape.
    inside : `numpy.ndarray`, optional
        Pixels of the first image to compare, of the same shape; pixels within 3 pixels of its edges are never compared.

    Returns
    -------
    dx, dy : `float`
        Position of the maximum of the cross-correlation; NaN if it is not within 3 pixels, or the images are smaller
        than 13 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from esis_ndcube.quality import image_shift
    >>> scene = gaussian_filter(np.random.default_rng(0).normal(size=(80, 80)), 2)
    >>> dx, dy = image_shift(scene[8:-8, 8:-8], scene[8:-8, 6:-10])
    >>> bool(abs(dx - 2) < 0.05), bool(abs(dy) < 0.05)
    (True, True)
    """
    from esis_ndcube.quality._kernel import shifted_sums

    n = _REACH
    if min(first.shape) <= 4 * n:
        return np.nan, np.nan
    core = compiled_type(first[n:-n, n:-n])
    weight = np.ones_like(core) if inside is None else inside[n:-n, n:-n].astype(core.dtype)
    count = np.count_nonzero(weight)
    if not count:
        return np.nan, np.nan
    core = (core - np.mean(core, where=weight != 0, dtype=float).astype(core.dtype)) * weight
    size = 2 * n + 1
    sums = shifted_sums(core, weight, np.ascontiguousarray(second, dtype=core.dtype))
    total, square, product = np.moveaxis(sums, -1, 0)
    # The energy of the window differs from shift to shift, and must not pull the maximum.
    surface = product / np.sqrt(np.maximum(square - total**2 / count, 1e-30))
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
    # The surface is nearly a ridge: take the maximum along each axis.
    return -gradient / np.minimum([xx, yy], -1e-30)
