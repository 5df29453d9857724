"""Whether a function was given the kind of cube that it is made for."""

_MEND = {1: "ESISLevel1Cube.from_raw makes one of raw frames", 3: "form_level3 makes one of Level-1 frames"}


def check_cube(cube, *levels):
    """
    Refuse what is no cube, or one of another level.

    Parameters
    ----------
    cube : object
        What was given.
    *levels : `int`
        The levels that are expected; none for any cube of this package.

    Raises
    ------
    TypeError
        If it is no cube of this package.
    ValueError
        If it is of another level.

    Examples
    --------
    >>> from esis_ndcube._checks import check_cube
    >>> check_cube(None, 3)
    Traceback (most recent call last):
        ...
    TypeError: got NoneType, expected an ESISLevel3Cube: form_level3 makes one of Level-1 frames
    """
    kind = type(cube).__name__
    expected = " or ".join(f"an ESISLevel{level}Cube" for level in levels) or "an ESISCube, of any level"
    mend = "".join(f": {_MEND[level]}" for level in levels[:1])
    # This room stands before those of the cubes.
    if not hasattr(cube, "_level") or isinstance(cube, type):
        msg = f"got {kind}, expected {expected}{mend}"
        raise TypeError(msg)
    if levels and cube._level not in levels:
        msg = f"got an {kind}, expected {expected}{mend}"
        raise ValueError(msg)
