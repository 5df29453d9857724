"""Mean brightness of small blocks of the images, over pixels that are clean in all channels that see a block."""

from typing import NamedTuple

import numpy as np

import astropy.units as u

from esis_ndcube.corrections.correction import image_positions
from esis_ndcube.corrections.vignetting._images import clean_pixels, second_lines
from esis_ndcube.corrections.vignetting.model import stop_position
from esis_ndcube.field_stop.region import distance_inside
from esis_ndcube.utils.arrays import eroded

# Blocks across the field stop, and least number of pixels across a block. Blocks are small against the gradients of the
# vignetting, and so large that the logarithm of a mean is the mean of the logarithm to 0.1 %.
_ACROSS = 72
_LEAST = 6
# Tiles along each axis; the errors of different tiles are taken as independent.
_TILES = 8
# Distance from edges in pixels of the grid; edges are soft and move on the detector.
_MARGIN = 4
# Share of a block that has to be clean.
_CLEAN = 0.8


class Blocks(NamedTuple):
    """
    Block means of a cube.

    Attributes
    ----------
    size : `int`
        Pixels along the side of a block.
    tile : `numpy.ndarray`
        Number of the tile of each block, shape (block,).
    share : `numpy.ndarray`
        Share of each block's pixels that was used, shape (exposure, channel, block); 0 for a block without such pixels.
    brightness, place : `numpy.ndarray`
        Means of the data and of the position in the field stop, of that shape.
    lines : `list` of `~esis_ndcube.flight.Line`
        Fainter lines that overlap the blocks.
    cover : `numpy.ndarray`
        Share of the used pixels that each line falls on, shape (line, exposure, channel, block).
    behind : `numpy.ndarray`
        Position of each line in its own field stop, less that of the cube's line, shape (line, channel).
    origin : `numpy.ndarray`
        Grid pixel (x, y) of the part of the Sun that each line shows there,
        shape (line, exposure, channel, 2, block).
    """

    size: int
    tile: np.ndarray
    share: np.ndarray
    brightness: np.ndarray
    place: np.ndarray
    lines: list
    cover: np.ndarray
    behind: np.ndarray
    origin: np.ndarray


def block_means(cube, alignments, present):
    """The block means of a cube (`Blocks`)."""
    flight, line = cube.flight, cube.flight.line(cube.line)
    count, channels, *shape = cube.data.shape
    pixel = np.abs(flight.grid_cdelt).min() * u.arcsec
    size = max(_LEAST, round((flight.field_stop_width / pixel / _ACROSS).to_value(u.one)))
    rows, columns = (length // size for length in shape)
    if rows < _TILES or columns < _TILES:
        msg = f"got images of {shape[0]} x {shape[1]} pixels, expected at least {_TILES * size} x {_TILES * size}"
        raise ValueError(msg)
    lines = second_lines(cube, alignments)
    full = count, channels, rows, columns
    share, brightness, place = np.zeros(full), np.zeros(full), np.zeros(full)
    cover = np.zeros((len(lines), *full))
    wcs = cube.wcs.celestial
    for time in np.flatnonzero(present.any(axis=1)):
        here = np.flatnonzero(present[time])
        clean = {c: eroded(clean_pixels(cube, time, c), _MARGIN) for c in here}
        sees = {c: _means(clean[c], size) > _CLEAN for c in here}
        # All channels that see a block are compared on the same pixels of it.
        usable = np.logical_and.reduce(
            [clean[c] | ~_spread(sees[c], size, shape) for c in here]
        ) & np.logical_or.reduce([_spread(sees[c], size, shape) for c in here])
        part = _means(usable, size)
        enough = (part > _CLEAN / 2) & (np.sum([sees[c] for c in here], axis=0) >= 2)
        for c in here:
            alignment = alignments[time, c]
            u_pixel, v_pixel = image_positions(alignment, wcs, shape)
            good = enough & sees[c]
            share[time, c] = np.where(good, part, 0)
            region = usable, part, good
            brightness[time, c] = _means_of(np.asarray(cube.data[time, c]), *region, size)
            place[time, c] = _means_of(stop_position(flight, alignment.channel, line, u_pixel), *region, size)
            for number, other in enumerate(lines):
                stop = flight.field_stop(alignment.channel, other)
                cover[number, time, c] = _means_of(distance_inside(stop, u_pixel, v_pixel) >= 0, *region, size)
    if not (share > 0).any():
        msg = "no part of the images is clean in two channels: there is nothing to compare"
        raise ValueError(msg)
    lit = [number for number in range(len(lines)) if (cover[number] * share).any()]
    lines = [lines[number] for number in lit]
    y, x = np.indices((rows, columns))
    flat = *full[:2], rows * columns
    return Blocks(
        size=size,
        tile=((y * _TILES // rows) * _TILES + x * _TILES // columns).ravel(),
        share=share.reshape(flat),
        brightness=brightness.reshape(flat),
        place=place.reshape(flat),
        lines=lines,
        cover=cover[lit].reshape(len(lines), *flat),
        behind=np.array([[_behind(flight, c, line, other) for c in cube.channel] for other in lines]).reshape(
            len(lines), channels
        ),
        origin=_origins(cube, alignments, line, lines, size, x, y),
    )


def _means(values, size):
    """Means over the blocks that fit into an image."""
    rows, columns = (length // size for length in values.shape)
    values = values[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return values.mean(axis=(1, 3), dtype=float)


def _means_of(values, usable, part, good, size):
    """Means of the usable pixels, given their share in each block, for the good blocks."""
    return np.divide(_means(np.where(usable, values, 0), size), part, out=np.zeros_like(part), where=good)


def _spread(blocks, size, shape):
    """The image in which each block has one value; False beyond the last block."""
    image = np.zeros(shape, dtype=bool)
    values = np.kron(blocks, np.ones((size, size), dtype=bool))
    image[: values.shape[0], : values.shape[1]] = values
    return image


def _behind(flight, channel, line, other):
    """Position of another line in the field stop, less that of the cube's line, at one detector pixel."""
    return float(stop_position(flight, int(channel), other, 0.0) - stop_position(flight, int(channel), line, 0.0))


def _origins(cube, alignments, line, lines, size, x, y):
    """Grid pixels whose light in other lines falls on the detector pixels of the blocks' centers."""
    flight, wcs = cube.flight, cube.wcs.celestial
    # Block centers, in pixels of the alignments' grid.
    corner = np.subtract(next(filter(None, alignments.flat)).grid.wcs.crpix, wcs.wcs.crpix)
    x, y = (index * size + (size - 1) / 2 + first for index, first in zip((x.ravel(), y.ravel()), corner, strict=True))
    result = np.zeros((len(lines), *alignments.shape, 2, x.size))
    for index, alignment in np.ndenumerate(alignments):
        for number, other in enumerate(lines):
            if alignment is not None:
                shift = flight.pose(alignment.channel, other) - flight.pose(alignment.channel, line)
                result[(number, *index)] = _solve(alignment.transform, shift, x, y)
    return result


def _solve(transform, shift, x, y):
    """The pixels from which a transform that is shifted by an affine map leads to the same place as from x, y."""
    target = np.stack(transform(x, y))
    at = np.stack([x, y])
    slope = np.linalg.inv(transform.jacobian(x.mean(), y.mean()) + shift[:, :2])
    # Images of other lines are nearly shifted copies: the steps shrink by a factor of 100 each, and a pixel is enough.
    for _ in range(4):
        at = at + slope @ (target - np.stack(transform(*at)) - shift[:, :2] @ at - shift[:, 2:])
    return at
