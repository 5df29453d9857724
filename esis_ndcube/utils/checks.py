"""Checks that a function was given the right kind of cube, and the meaning of names and numbers in a cube."""

import numpy as np

_MEND = {1: "ESISLevel1Cube.from_raw makes one of raw frames", 3: "form_level3 makes one of Level-1 frames"}


def is_cube(value, *levels):
    """
    Whether a value is a cube of this package, which is known by its level, because this room stands before those of the
    cubes.

    Parameters
    ----------
    value : object
        The value.
    *levels : `int`
        The possible levels; none for any level.

    Returns
    -------
    `bool`
        Whether the value is such a cube.

    Examples
    --------
    >>> from esis_ndcube.utils.checks import is_cube
    >>> is_cube(None)
    False
    """
    return hasattr(value, "_level") and not isinstance(value, type) and (not levels or value._level in levels)


def check_cube(cube, *levels):
    """
    Refuse a value that is not a cube, or a cube of another level.

    Parameters
    ----------
    cube : object
        The value.
    *levels : `int`
        The expected levels; none for any cube of this package.

    Raises
    ------
    TypeError
        If the value is not a cube of this package.
    ValueError
        If the cube is of another level.

    Examples
    --------
    >>> from esis_ndcube.utils.checks import check_cube
    >>> check_cube(None, 3)
    Traceback (most recent call last):
        ...
    TypeError: got NoneType, expected an ESISLevel3Cube: form_level3 makes one of Level-1 frames
    """
    kind = type(cube).__name__
    expected = " or ".join(f"an ESISLevel{level}Cube" for level in levels) or "an ESISCube, of any level"
    mend = "".join(f": {_MEND[level]}" for level in levels[:1])
    if not is_cube(cube):
        msg = f"got {kind}, expected {expected}{mend}"
        raise TypeError(msg)
    if not is_cube(cube, *levels):
        msg = f"got an {kind}, expected {expected}{mend}"
        raise ValueError(msg)


def is_plain_name(name):
    r"""
    Whether a text is the name of a file, and leads out of no folder on any system.

    Parameters
    ----------
    name : `str`
        The text.

    Returns
    -------
    `bool`
        Whether the text is a name.

    Examples
    --------
    >>> from esis_ndcube.utils.checks import is_plain_name
    >>> [is_plain_name(name) for name in ("a.fits", "../a.fits", r"C:\a.fits")]
    [True, False, False]
    """
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def check_axes(cube, *needed):
    """Refuse a cube without all four axes, or without one of the required attributes."""
    if cube.data.ndim != 4:
        msg = f"got a cube of shape {cube.data.shape}, expected (time, channel, y, x): slice with ranges"
        raise ValueError(msg)
    for name in needed:
        if getattr(cube, name) is None:
            msg = f"got a cube without {name}, expected one of form_level3, or part of one"
            raise ValueError(msg)


def split_images(cube):
    """The images of a cube with several channels or exposures, of all or the only one."""
    return [cube] if cube.data.ndim == 2 else [cube[index] for index in range(len(cube.data))]


def find_number(name, number, numbers, of=""):
    """Index of a frame or channel number among those of a cube."""
    numbers = np.atleast_1d(numbers).tolist()
    if number not in numbers:
        msg = f"got {name} {number!r}, expected one of {of}{', '.join(map(str, numbers)) or 'it knows none'}"
        raise ValueError(msg)
    return numbers.index(number)


def named_axes(cube):
    """
    The names of a cube's array axes; a cube whose WCS does not have them is refused.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube.

    Returns
    -------
    `list` of `str`
        Some of ``"time"``, ``"channel"``, ``"y"`` and ``"x"``.

    Raises
    ------
    ValueError
        If the WCS of the cube is of another class than those of this package.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.utils.checks import named_axes
    >>> named_axes(ESISLevel3Cube(np.zeros((2, 2)), wcs=WCS(naxis=2)))
    Traceback (most recent call last):
        ...
    ValueError: got a cube with a WCS that does not tell exposures and channels, expected an ESISWCS, as that of ...
    """
    names = cube._from_wcs("array_axis_names")
    if names is None:
        msg = (
            f"got a cube with a {type(cube.wcs).__name__} that does not tell exposures and channels, expected an "
            "ESISWCS, as that of form_level3: make one with esis_ndcube.wcs.level3_wcs"
        )
        raise ValueError(msg)
    return names
