"""Combinations of several channels: their difference, and the light that all of them see."""

import numpy as np

from esis_ndcube.operations._parts import join_values, rebuild
from esis_ndcube.operations.arithmetic import combine
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_cube, find_number
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.wcs._derived import forget_channel
from esis_ndcube.wcs.meta import with_entries

__all__ = ["difference", "min_images"]


def min_images(cube):
    """
    Pixelwise minimum over the channels; ``cube.min_images()`` does the same.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Cube with a channel axis.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        As `~esis_ndcube.ESISLevel3Cube.min_images`.

    Raises
    ------
    ValueError
        If the cube has no channel axis.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.operations import min_images
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> min_images(cube)[0].plot()  # doctest: +SKIP
    """
    check_cube(cube, 3)
    axis = _channel_axis(cube)
    before = (slice(None),) * axis
    invalid = invalid_pixels(cube.data, cube.mask)
    values = np.where(invalid, np.inf, cube.data)
    lowest, empty = values.argmin(axis=axis), invalid.all(axis=axis)

    def pick(array):
        # Not by index, which lazy arrays do not have.
        picked = array[(*before, 0)]
        for index in range(1, cube.shape[axis]):
            picked = np.where(lowest == index, array[(*before, index)], picked)
        return picked

    data = np.where(empty, np.nan, pick(cube.data))
    data = data.astype(np.result_type(cube.data.dtype, np.float32), copy=False)
    uncertainty = cube.uncertainty
    if uncertainty is not None:
        uncertainty = type(uncertainty)(pick(uncertainty.array), unit=uncertainty.unit, copy=False)
    flags = None if cube.flags is None else pick(cube.flags)
    parts = {"data": data, "uncertainty": uncertainty, "mask": empty, "flags": flags}
    return _join_channels(cube, "min_images", cube.channel.tolist(), parts)


def difference(cube, first, second):
    """
    One channel minus another; ``cube.difference(first, second)`` does the same.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Cube with a channel axis.
    first, second : `int`
        Channel numbers, from 1.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        As `~esis_ndcube.ESISLevel3Cube.difference`.

    Raises
    ------
    ValueError
        If the cube lacks one of the two channels.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.operations import difference
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> difference(cube, 2, 3)[0].plot()  # doctest: +SKIP
    """
    check_cube(cube, 3)
    before = (slice(None),) * _channel_axis(cube)
    one = cube[(*before, find_number("channel", first, cube.channel))]
    # A channel is not independent of itself.
    two = one if first == second else cube[(*before, find_number("channel", second, cube.channel))]
    result = combine(one, "subtract", two)
    parts = {name: getattr(result, name) for name in ("data", "uncertainty", "mask", "flags")}
    return _join_channels(cube, "difference", [int(first), int(second)], parts)


def _channel_axis(cube):
    names = cube._from_wcs("array_axis_names") or []
    if "channel" not in names:
        msg = f"got a cube of shape {cube.data.shape} without a channel axis, expected several channels"
        raise ValueError(msg)
    return names.index("channel")


def _join_channels(cube, name, channels, parts):
    """A cube without channel axis, of no single channel."""
    axis = _channel_axis(cube)
    first = cube[(*(slice(None),) * axis, 0)]
    meta, dropped = first.meta, []
    if meta is not None:
        indices = [find_number("channel", number, cube.channel) for number in channels]
        for key, axes in getattr(cube.meta, "axes", {}).items():
            if axis in axes:
                joined = _join_meta(cube, key, list(map(int, axes)).index(axis), indices)
                if joined is None:
                    # Metadata of one channel say nothing of the result.
                    del meta[key]
                    dropped.append(key)
                else:
                    meta[key] = joined
    if cube.noise_correlation is not None:
        mean = np.mean([cube.noise_correlation[find_number("channel", n, cube.channel)] for n in channels], axis=0)
        meta = with_entries(meta, {"noise_correlation": ({str(None): mean}, None)})
    step = ProcessingStep(name, {"channels": channels} | ({"dropped": dropped} if dropped else {}))
    wcs = forget_channel(first.wcs)
    return rebuild(cube, step, lost=(axis,), **parts, wcs=wcs, meta=meta)


def _join_meta(cube, key, axis, indices):
    """Metadata of all channels from the metadata of some channels, or None."""
    values = cube.meta[key][(*(slice(None),) * axis, indices)]
    joined = join_values(key, values, [len(indices) if i == axis else 1 for i in range(values.ndim)])
    return None if joined is None else joined[(*(slice(None),) * axis, 0)]
