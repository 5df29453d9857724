"""Indices made explicit, after the rules of numpy."""

import operator
from collections.abc import Iterable

import numpy as np


def normalize_item(item, shape, *, steps=False):
    """
    Make an index explicit, after the rules of numpy, or refuse it.

    Parameters
    ----------
    item : `int`, `slice`, ``...`` or `tuple` of them
        The index; negative numbers count from the end.
    shape : `tuple` of `int`
        Shape of the indexed array.
    steps : `bool`, optional
        Whether ranges may have a step, from 1.

    Returns
    -------
    `tuple` of `int` and `slice`
        One for each axis: an integer from 0, or a range with start and stop.

    Raises
    ------
    IndexError
        If the index is anything else, out of range, has a step where it may not, or selects nothing.

    Examples
    --------
    >>> from esis_ndcube.wcs import normalize_item
    >>> normalize_item((-1, ..., slice(-10, None)), (28, 4, 1270, 1270))
    (27, slice(0, 4, None), slice(0, 1270, None), slice(1260, 1270, None))
    """
    shape = tuple(shape)
    items = item if isinstance(item, tuple) else (item,)
    dots = [i for i, x in enumerate(items) if x is Ellipsis]
    if len(dots) > 1:
        msg = f"got more than one '...' in the index {item}, expected at most one"
        raise IndexError(msg)
    if dots:
        fill = (slice(None),) * (len(shape) - len(items) + 1)
        items = items[: dots[0]] + fill + items[dots[0] + 1 :]
    if len(items) > len(shape):
        msg = f"got {len(items)} indices, expected at most {len(shape)}, the number of axes"
        raise IndexError(msg)
    items += (slice(None),) * (len(shape) - len(items))
    return tuple(_normalize_one(x, n, axis, steps) for axis, (x, n) in enumerate(zip(items, shape, strict=True)))


def _normalize_one(item, length, axis, steps):
    if isinstance(item, slice):
        if item.step not in (None, 1) and not (steps and hasattr(item.step, "__index__") and item.step > 0):
            expected = "with one from 1" if steps else "without step"
            msg = f"got a step of {item.step} along axis {axis}, expected a range {expected}"
            raise IndexError(msg)
        try:
            start, stop, step = item.indices(length)
        except TypeError:
            msg = f"got {item} along axis {axis}, expected a range of integers"
            raise IndexError(msg) from None
        if stop <= start:
            msg = f"got {item.start}:{item.stop} along axis {axis} of length {length}, which selects nothing"
            raise IndexError(msg)
        return slice(start, stop, None if step == 1 else step)
    try:
        if isinstance(item, (bool, np.bool_, Iterable)):
            raise TypeError
        index = operator.index(item)
    except TypeError:
        kind = "None" if item is None else type(item).__name__
        msg = f"got {kind} as index of axis {axis}, expected integers and ranges (no masks, lists or None)"
        raise IndexError(msg) from None
    if not -length <= index < length:
        msg = f"got index {index} along axis {axis}, expected {-length} to {length - 1}"
        raise IndexError(msg)
    return index % length
