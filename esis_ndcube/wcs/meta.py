"""Metadata of cubes: copies of them, and slices of the entries that belong to axes."""

import copy

import numpy as np

from ndcube.meta import NDMeta


class _Meta(NDMeta):
    """Metadata that can be pickled: ndcube's class sets its items before it is ready."""

    def __reduce__(self):
        return type(self), (dict(self), self.key_comments, self.axes, self.data_shape)


def copy_meta(meta):
    """
    Copy metadata, the container and not the values.

    Parameters
    ----------
    meta : `~ndcube.meta.NDMeta` or `dict`
        The metadata.

    Returns
    -------
    `~ndcube.meta.NDMeta` or `dict`
        The copy; of an `~ndcube.meta.NDMeta` with its axes and comments.

    Examples
    --------
    >>> from esis_ndcube.wcs.meta import copy_meta
    >>> copy_meta({"line": "O V"})
    {'line': 'O V'}
    """
    if not isinstance(meta, NDMeta):
        return copy.copy(meta)
    return remake_meta(meta, dict(meta), dict(meta.axes), meta.data_shape)


def remake_meta(meta, values, axes, shape):
    """Metadata with other values, their axes, and the shape of the data; comments of values that are left stay."""
    comments = {key: text for key, text in meta.key_comments.items() if key in values}
    return _Meta(values, key_comments=comments, axes=axes, data_shape=shape)


def with_entries(meta, entries):
    """A copy of metadata with other entries: value, and axes or None, by key."""
    if not isinstance(meta, NDMeta):
        return copy_meta(meta) | {key: value for key, (value, _) in entries.items()}
    axes = {key: of for key, of in meta.axes.items() if key not in entries}
    axes |= {key: of for key, (_, of) in entries.items() if of is not None}
    return remake_meta(meta, dict(meta) | {key: value for key, (value, _) in entries.items()}, axes, meta.data_shape)


def slice_meta(meta, item, shape):
    """Slice the values that belong to axes."""
    kept = [axis for axis, x in enumerate(item) if isinstance(x, slice)]
    values, axes = dict(meta), {}
    for key, of in meta.axes.items():
        of = [int(axis) for axis in of]
        value = values[key]
        if tuple(np.shape(value)) != tuple(shape[axis] for axis in of):
            msg = f"got metadata {key!r} of shape {np.shape(value)}, expected one for each index of axes {of}"
            raise ValueError(msg)
        values[key] = value[tuple(item[axis] for axis in of)]
        if left := [kept.index(axis) for axis in of if axis in kept]:
            axes[key] = left
    return remake_meta(meta, values, axes, [item[axis].stop - item[axis].start for axis in kept])
