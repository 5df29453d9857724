"""Arrays of any kind: the door through which they come to functions of plain ones, and what works on all of them."""

import functools
import inspect

import dask.array as da
import numpy as np
from scipy.ndimage import distance_transform_cdt

import astropy.units as u
from astropy.utils.masked import Masked


def split_mask(array):
    """
    Take apart an array and its mask.

    Parameters
    ----------
    array : array-like
        The array, perhaps a `numpy.ma.MaskedArray` or an astropy ``Masked`` array, quantity or column.

    Returns
    -------
    array : array-like
        What there is without the mask.
    mask : `numpy.ndarray` of `bool`
        The mask, or one value for all, or None.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.utils.masked import Masked
    >>> from esis_ndcube.utils.arrays import split_mask
    >>> split_mask(Masked([1, 2], mask=[False, True]))
    (array([1, 2]), array([False,  True]))
    """
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.getdata(array), np.ma.getmask(array)
    return (array.unmasked, array.mask) if isinstance(array, Masked) else (array, None)


def plain_array(values, name):
    """
    The numbers that are meant: NaN where they are masked, computed if lazy, in the byte order of this machine.

    Parameters
    ----------
    values : array-like
        A number, numbers, or a plain, masked or lazy array of them; what has a unit only without dimension.
    name : `str`
        What errors call it.

    Returns
    -------
    `numpy.ndarray`
        Not copied unless it must be.

    Raises
    ------
    TypeError
        If it has a unit, or is no array.
    """
    values, mask = split_mask(values)
    if isinstance(values, u.Quantity):
        if values.unit != u.dimensionless_unscaled:
            msg = f"got {name} in {values.unit}, expected plain numbers: take `.to_value(unit)`"
            raise TypeError(msg)
        values = values.value
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        msg = f"got {name} of type {type(values).__name__}, expected an array of real numbers: take its `.data`"
        raise TypeError(msg)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if mask is None:
        return array
    if array.dtype.kind == "b":
        # Of flags and choices: what is masked is not chosen.
        return array & ~mask
    return np.where(mask, np.array(np.nan, dtype=np.result_type(array, np.float32)), array)


def plain_arrays(*names):
    """
    A decorator: the named arguments come as `plain_array` makes them, those that are None as they are.

    Parameters
    ----------
    *names : `str`
        Parameters of the function.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            for name in names:
                if bound.arguments.get(name) is not None:
                    bound.arguments[name] = plain_array(bound.arguments[name], name)
            return function(*bound.args, **bound.kwargs)

        return wrapper

    return decorate


def is_lazy(*arrays):
    """Whether any of the arrays is a Dask array."""
    return any(hasattr(array, "dask") for array in arrays)


def invalid_pixels(data, mask, item=...):
    """Pixels of an array, or of a part of it, that are not finite, or masked by an array or one value; perhaps lazy."""
    bad = ~np.isfinite(data[item])
    return bad if mask is None else bad | (mask[item] if np.ndim(mask) else mask)


def eroded(region, steps):
    """
    Pixels of which all within so many steps along rows and columns are in a region, none of them beyond the image.

    As `scipy.ndimage.binary_erosion` with so many ``iterations``, in a time that does not grow with them.
    """
    return distance_transform_cdt(np.pad(np.ascontiguousarray(region), 1), metric="taxicab")[1:-1, 1:-1] > steps


def wide_type(dtype):
    """
    A type that holds sums, differences and products of values of a type.

    Whole numbers become 64 bits long, unsigned ones that are so already floating numbers, as numpy has it for
    these together with signed ones; floating numbers of 16 bits become 32 bits long. Others stay, in native byte order.
    """
    if dtype.kind in "biu":
        return np.dtype(float if dtype == np.uint64 else np.int64)
    return np.result_type(dtype, np.float32) if dtype.kind == "f" else dtype


def wide(array):
    """The array in its `wide_type`."""
    return array.astype(wide_type(array.dtype), copy=False)


def elementwise(function, *arrays):
    """
    Call a function of arrays that can be broadcast, lazily if one of them is lazy.

    No warnings of what comes out infinite or unknown; None and numbers are passed on.
    """
    if not is_lazy(*arrays):
        return _quietly(function, *arrays)
    ndim = max(np.ndim(array) for array in arrays if array is not None)
    pairs = []
    for array in arrays:
        single = array is None or np.ndim(array) == 0
        pairs += (array, None) if single else (da.asarray(array), tuple(range(ndim - np.ndim(array), ndim)))
    return da.blockwise(functools.partial(_quietly, function), tuple(range(ndim)), *pairs)


def _quietly(function, *arrays):
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return function(*arrays)


def parse_mask(mask):
    """
    Make a mask one of `bool`.

    Parameters
    ----------
    mask : array-like of `bool` or `int`
        The mask, perhaps lazy, or one value, or None.

    Returns
    -------
    array-like of `bool`
        The same array, if it is one of `bool`; of integers, where they are not 0.

    Raises
    ------
    ValueError
        If it is of another type.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.utils.arrays import parse_mask
    >>> parse_mask(np.array([0, 1, 64]))
    array([False,  True,  True])
    """
    if mask is None or isinstance(mask, bool):
        return mask
    mask = mask if hasattr(mask, "dtype") else np.asarray(mask)
    if mask.dtype.kind not in "biu":
        msg = f"got a mask of type {mask.dtype}, expected bool, True where data are invalid: compare it with a value"
        raise ValueError(msg)
    return mask if mask.dtype == bool else mask != 0
