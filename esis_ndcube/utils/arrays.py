"""Arrays of any kind: their way into functions of plain arrays, and functions for all kinds."""

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
        The data without the mask.
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
    The numbers of an array: NaN where they are masked, computed if lazy, in the byte order of this machine.

    Parameters
    ----------
    values : array-like
        A number, numbers, or a plain, masked or lazy array of them; an array with a unit only if it is dimensionless.
    name : `str`
        Name of the array in errors.

    Returns
    -------
    `numpy.ndarray`
        The plain array, which is copied only if necessary.

    Raises
    ------
    TypeError
        If the values have a unit, or are no array.
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
        # An array of flags or choices: masked elements are not chosen.
        return array & ~mask
    return np.where(mask, np.array(np.nan, dtype=np.result_type(array, np.float32)), array)


def plain_arrays(*names):
    """
    A decorator: the named arguments pass through `plain_array`; those that are None stay None.

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
    Pixels whose whole neighborhood is in a region, within a number of steps along rows and columns; none beyond the
    image.

    The result is that of `scipy.ndimage.binary_erosion` with this number of ``iterations``, in a time that does not
    grow with it.
    """
    return distance_transform_cdt(np.pad(np.ascontiguousarray(region), 1), metric="taxicab")[1:-1, 1:-1] > steps


def wide_type(dtype):
    """
    A type that holds sums, differences and products of values of a type.

    Whole numbers become 64 bits long. Unsigned numbers of 64 bits become floating-point numbers, as in numpy for these
    together with signed ones. Floating-point numbers of 16 bits become 32 bits long. Other types stay, in native byte
    order.
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

    There are no warnings of infinite or unknown results; None and numbers are passed on.
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
    Make a mask of `bool`.

    Parameters
    ----------
    mask : array-like of `bool` or `int`
        The mask, perhaps lazy, or one value, or None.

    Returns
    -------
    array-like of `bool`
        The same array, if it is of `bool`; for integers, true where they are not 0.

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
