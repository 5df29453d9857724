"""Arithmetic of cubes with numbers, Quantities, arrays and cubes, and conversion of units."""

import operator
from functools import partial
from typing import NamedTuple

import numpy as np

import astropy.units as u
from astropy.nddata import NDData
from ndcube import NDCube

from esis_ndcube.operations._parts import rebuild
from esis_ndcube.utils.arrays import elementwise, is_lazy, parse_mask, split_mask, wide, wide_type
from esis_ndcube.utils.checks import check_cube, is_cube
from esis_ndcube.utils.noise import stack_correlations
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import make_uncertainty, standard_deviation, warn_without_uncertainty
from esis_ndcube.wcs._derived import forget_channel
from esis_ndcube.wcs.meta import with_entries

__all__ = ["combine", "convert_unit", "raise_to"]

_OPERATORS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}
# Two grids are equal if their corners agree to this, in pixels.
_SAME_GRID = 1e-6


class _Operand(NamedTuple):
    data: object
    unit: u.UnitBase | None = None
    sigma: object = None
    mask: object = None
    flags: object = None


def combine(cube, operation, value, *, reflected=False):
    """
    Add, subtract, multiply or divide a cube and a number, Quantity, array or cube.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube; the result takes its class, coordinates and metadata.
    operation : `str`
        ``"add"``, ``"subtract"``, ``"multiply"`` or ``"divide"``.
    value : number, `~astropy.units.Quantity`, array-like, `~astropy.nddata.NDData` or `~esis_ndcube.cube.ESISCube`
        The other operand, of a shape that can be broadcast to the cube's. Arrays and Quantities may be masked by numpy
        or astropy. The axes of a cube are matched by name, and its pixels must lie in the same places as those of the
        first cube; times and channels may differ.
    reflected : `bool`, optional
        Whether ``value`` is the left operand.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube. A pixel that is masked or flagged in one of the operands is so in the result.
        If the two operands are of two single channels, the result is of no channel.

    Raises
    ------
    ValueError
        If the shape of the value does not fit, or the pixels of two cubes lie in different places.
    TypeError
        If units do not fit, which is also an `~astropy.units.UnitConversionError`, or the value is of another type.

    Notes
    -----
    Whole numbers are added, subtracted and multiplied in 64 bits, whatever the length of their type, so that
    differences may be negative. Unsigned numbers of 64 bits, and products of two arrays of more than 16 bits, become
    floating-point numbers. Floating-point numbers of 16 bits are converted to 32 bits.

    Numbers, Quantities, arrays and cubes without uncertainty count as exact, and two operands as independent: the
    squares of their errors add. The two operands of ``cube * cube`` are recognized as one cube; two parts of the same
    cube are not. The correlation of the result's noise is the mean of the correlations of two operands with
    uncertainties.

    Times and metadata of the other cube are not kept; its frame and channel stand in the history.

    Examples
    --------
    >>> import numpy as np
    >>> import astropy.units as u
    >>> from astropy.nddata import StdDevUncertainty
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.wcs import level1_wcs
    >>> wcs = level1_wcs((1, 2), Time(["2019-09-30T18:08:00"]), [1, 2])
    >>> cube = ESISCube([[[[1.0, 2]], [[3, 4]]]], wcs=wcs, uncertainty=StdDevUncertainty(np.ones((1, 2, 1, 2))))
    >>> difference = cube[:, 1] - cube[:, 0]
    >>> difference.data, difference.uncertainty.array
    (array([[[2., 2.]]]), array([[[1.41421356, 1.41421356]]]))
    >>> (cube * (-2 * u.electron)).uncertainty.array.max()
    np.float64(2.0)
    """
    check_cube(cube)
    other = _parse(cube, value)
    own = _Operand(cube.data, cube.unit, standard_deviation(cube, cube.unit), cube.mask, cube.flags)
    first, second = (other, own) if reflected else (own, other)
    _check_shape(cube, other)
    data, sigma, unit = _compute(operation, first, second, same=value is cube)
    if cube.uncertainty is not None and sigma is None:
        warn_without_uncertainty("the uncertainty of the cube is of unknown kind")
    step = _describe(value, other) | ({"reflected": True} if reflected else {})
    wcs = None
    numbers = [cube.channel, value.channel] if is_cube(value) else []
    if numbers and np.ndim(numbers[0]) == np.ndim(numbers[1]) == 0 and numbers[0] != numbers[1]:
        wcs = forget_channel(cube.wcs)
        if None not in numbers:
            step["channels"] = numbers[::-1] if reflected else numbers
    return rebuild(
        cube,
        ProcessingStep(operation, step),
        data=data,
        unit=unit,
        wcs=wcs,
        meta=_join_correlations(cube, value, own.sigma, other.sigma, None if wcs is not None else cube.channel),
        uncertainty=make_uncertainty(cube.uncertainty if cube.uncertainty is not None else value, sigma),
        mask=_unite(cube, own.mask, other.mask),
        flags=_unite(cube, own.flags, other.flags),
    )


def raise_to(cube, exponent):
    """
    Raise a cube to a power.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube.
    exponent : number or array-like
        The exponent, which is exact. An array, of a shape that can be broadcast to the cube's, is only for a cube
        without
        unit.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube, of floating-point numbers also for a cube of whole numbers; its uncertainty is that of linear
        propagation, ``abs(n x^(n - 1)) sigma``.

    Raises
    ------
    TypeError
        If the exponent is neither a number nor an array, or the unit would differ from pixel to pixel.
    ValueError
        If the shape of the exponent does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.operations import raise_to
    >>> from esis_ndcube.wcs import level1_wcs
    >>> cube = ESISCube(np.full((1, 1, 1, 2), 3.0), wcs=level1_wcs((1, 2), Time(["2019-09-30T18:08:00"]), [1]))
    >>> raise_to(cube, 2).data
    array([[[[9., 9.]]]])
    """
    check_cube(cube)
    exponent, described = _parse_exponent(cube, exponent)
    data = cube.data.astype(float) if cube.data.dtype.kind in "biu" else wide(cube.data)
    sigma = standard_deviation(cube, cube.unit)
    if sigma is not None:
        sigma = elementwise(_sigma_of_power, data, sigma, exponent)
    return rebuild(
        cube,
        ProcessingStep("power", described),
        data=data**exponent,
        unit=cube.unit if np.ndim(exponent) or cube.unit is None else cube.unit**exponent,
        uncertainty=make_uncertainty(cube.uncertainty, sigma),
    )


def _join_correlations(cube, value, own, other, channel):
    """Metadata with the mean correlation of the noise of those operands that have noise."""
    parts = [(cube, own)] if other is None or value is cube else [(cube, own), (value, other)]
    known = [getattr(one, "noise_correlation", None) for one, sigma in parts if sigma is not None]
    if all(one is None for one in known):
        return (
            with_entries(cube.meta, {"noise_correlation": (None, None)}) if cube.noise_correlation is not None else None
        )
    # Pixels count as independent if nothing else is known.
    known = [np.ones((1, 1)) if one is None else one for one in known]
    numbers = np.atleast_1d(channel)
    entry = {}
    for index, number in enumerate(numbers):
        ones = [one if one.ndim == 2 else one[index if len(one) > 1 else 0] for one in known]
        entry[str(number)] = stack_correlations(ones).mean(axis=0)
    return with_entries({} if cube.meta is None else cube.meta, {"noise_correlation": (entry, None)})


def _sigma_of_power(data, sigma, exponent):
    return abs(exponent * data ** (exponent - 1)) * sigma


def _parse_exponent(cube, exponent):
    """The exponent, and its text in the history."""
    other = None if isinstance(exponent, NDData) else _parse(cube, exponent)
    if other is None or other.unit is not None or other.mask is not None:
        msg = f"got an exponent of type {type(exponent).__name__}, expected a number or a plain array"
        raise TypeError(msg)
    if np.ndim(other.data) == 0:
        return other.data, {"exponent": float(other.data)}
    if cube.unit not in (None, u.dimensionless_unscaled):
        msg = f"got an array of exponents for a cube in {cube.unit}, expected a number: units of pixels would differ"
        raise TypeError(msg)
    _check_shape(cube, other)
    return other.data, {"shape": list(map(int, np.shape(other.data)))}


def convert_unit(cube, unit, *, equivalencies=()):
    """
    Convert a cube to another unit.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube.
    unit : `~astropy.units.Unit` or `str`
        The new unit. Values per pixel and exposure can also be converted to values per second, with the exposure
        times of the cube, and to values per solid angle on the sky, with the size of the flight's detector pixels.
    equivalencies : `list`, optional
        As for `astropy.units.Unit.to`; only equivalencies that scale.

    Returns
    -------
    `~esis_ndcube.cube.ESISCube`
        A new cube.

    Raises
    ------
    astropy.units.UnitConversionError
        If the units do not fit.
    ValueError
        If the conversion does more than scale.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.operations import convert_unit
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> convert_unit(cube, "ph / (s arcsec2)").unit  # doctest: +SKIP
    Unit("ph / (arcsec2 s)")
    """
    check_cube(cube)
    unit = u.Unit(unit)
    if cube.unit is None:
        msg = f"got a cube without unit, expected one with a unit that can be converted to {unit}"
        raise u.UnitConversionError(msg)
    factor = _factor(cube, unit, list(equivalencies))
    sigma = standard_deviation(cube, cube.unit)
    return rebuild(
        cube,
        ProcessingStep("convert", {"from": cube.unit.to_string(), "to": unit.to_string()}),
        data=wide(cube.data) * factor,
        unit=unit,
        uncertainty=make_uncertainty(cube.uncertainty, None if sigma is None else sigma * abs(factor)),
    )


def _factor(cube, unit, equivalencies):
    """Factor of the conversion: a number, or an array that can be broadcast to the data."""
    for per_second, per_angle in ((False, False), (True, False), (False, True), (True, True)):
        if (per_second and cube.exposure_time is None) or (per_angle and cube.flight is None):
            continue
        rate = cube.unit / u.s**per_second * (u.pix / u.arcsec**2) ** per_angle
        if not rate.is_equivalent(unit, equivalencies):
            continue
        zero, one, two = rate.to(unit, np.array([0.0, 1.0, 2.0]), equivalencies=equivalencies)
        if zero != 0 or not np.isclose(two, 2 * one, rtol=1e-12, atol=0):
            msg = (
                f"got a conversion from {cube.unit} to {unit} that does more than scale, expected one that only scales"
            )
            raise ValueError(msg)
        factor = float(one)
        if per_angle:
            factor /= float(np.prod(cube.flight.detector.pixel_scale.to_value("arcsec")))
        return factor / _exposures(cube) if per_second else factor
    msg = f"got the unit {unit}, expected one that {cube.unit} can be converted to"
    if cube.exposure_time is None or cube.flight is None:
        msg += ", or rates, for which the cube would need its flight and exposure times"
    raise u.UnitConversionError(msg)


def _exposures(cube):
    """Exposure times in s, of the type of the data and broadcast along the image."""
    seconds = cube.exposure_time.to_value("s")
    dtype = wide_type(cube.data.dtype) if cube.data.dtype.kind == "f" else float
    axes = getattr(cube.meta, "axes", {}).get("exposure_time", ())
    shape = [n if axis in axes else 1 for axis, n in enumerate(cube.shape)]
    return np.asarray(seconds, dtype=dtype).reshape(shape)


def _parse(cube, value):
    """The other operand, with axes that fit those of the cube."""
    if is_cube(value):
        return _parse_cube(cube, value)
    if isinstance(value, NDCube) or (isinstance(value, NDData) and value.wcs is not None):
        msg = f"got a {type(value).__name__} with coordinates, expected cubes of this package, or data without a WCS"
        raise TypeError(msg)
    if isinstance(value, NDData):
        # Metadata of other objects may also be called flags.
        return _Operand(value.data, value.unit, standard_deviation(value, value.unit), parse_mask(value.mask))
    if isinstance(value, u.UnitBase):
        return _Operand(1, value)
    unit = getattr(value, "unit", None)
    value, mask = split_mask(value)
    if isinstance(value, u.Quantity):
        value = value.value
    if not is_lazy(value):
        given, value = value, np.asarray(value)
        if value.dtype.kind not in "biuf":
            msg = f"got a value of type {type(given).__name__}, expected numbers, Quantities, arrays or cubes"
            raise TypeError(msg)
        # A number does not change the type of the data.
        value = value.item() if not value.ndim else value
    return _Operand(value, unit, mask=mask)


def _parse_cube(cube, value):
    names, own = value._from_wcs("array_axis_names"), cube._from_wcs("array_axis_names")
    if names is None or own is None:
        msg = "got a cube whose WCS is not of esis_ndcube, so that its axes have no names: use its .data"
        raise TypeError(msg)
    if not set(names) <= set(own):
        msg = f"got a cube with axes {names}, expected some of {own}: put the cube that has more axes on the left"
        raise ValueError(msg)
    lengths = dict(zip(own, cube.shape, strict=True))
    for name, length in zip(names, value.shape, strict=True):
        if length not in (1, lengths[name]):
            msg = f"got a cube with {length} along {name}, expected {lengths[name]}: slice one of them"
            raise ValueError(msg)
    _check_grid(cube, value, lengths)
    item = tuple(slice(None) if name in names else None for name in own)

    def place(array):
        return array[item] if np.ndim(array) else array

    sigma = standard_deviation(value, value.unit)
    sigma = sigma if sigma is None else place(sigma)
    return _Operand(place(value.data), value.unit, sigma, place(value.mask), place(value.flags))


def _check_shape(cube, other):
    try:
        fits = np.broadcast_shapes(np.shape(other.data), cube.data.shape) == cube.data.shape
    except ValueError:
        fits = False
    if not fits:
        msg = f"got a value of shape {np.shape(other.data)}, expected one that fits the shape of the cube, {cube.shape}"
        raise ValueError(msg)


def _check_grid(cube, value, lengths):
    """Refuse cubes whose pixels lie in different places."""
    if cube.wcs.pixel_n_dim != len(lengths) or not {"x", "y"} <= set(lengths):
        return
    if not {"x", "y"} <= set(value.wcs.array_axis_names):
        return
    corners = np.array([[0, lengths["x"] - 1, 0], [0, 0, lengths["y"] - 1]], dtype=float)
    worlds = []
    for wcs in (cube.wcs, value.wcs):
        names = wcs.array_axis_names[::-1]
        pixels = [corners["xy".index(name)] if name in "xy" else np.zeros(3) for name in names]
        image = [wcs.array_axis_names[::-1].index(name) for name in "xy"]
        worlds.append(np.array(wcs.pixel_to_world_values(*pixels))[image])
    scale = np.abs(worlds[0][:, 1:] - worlds[0][:, :1]).max() / max(corners.max(), 1)
    if not np.allclose(*worlds, rtol=0, atol=_SAME_GRID * scale if scale else 1e-12):
        msg = (
            "got a cube whose pixels lie elsewhere, expected the same grid: use reproject_to first, or slice both alike"
        )
        raise ValueError(msg)


def _compute(operation, first, second, *, same):
    """Data, standard deviation and unit."""
    a, b = _wide(first.data, second.data, product=operation == "multiply")
    unit, sigma = first.unit, second.sigma
    if operation in ("add", "subtract"):
        if first.unit != second.unit:
            own, other = (part.unit or u.dimensionless_unscaled for part in (first, second))
            scale = _scale(own, other)
            b = b * scale
            sigma = None if sigma is None else sigma * scale
    else:
        parts = [part.unit or u.dimensionless_unscaled for part in (first, second)]
        unit = None if first.unit is second.unit is None else _OPERATORS[operation](*parts)
    data = _OPERATORS[operation](a, b)
    # The result of two numbers is exact.
    if first.sigma is None and sigma is None:
        return data, None, unit
    total = elementwise(partial(_SIGMA[operation], same=same), a, b, first.sigma, sigma)
    shape = data.shape
    return data, total if total.shape == shape else total + np.zeros(shape, dtype=total.dtype), unit


def _wide(a, b, *, product):
    """Two operands, in types that hold the result: whole numbers, unless the other operand is floating-point."""
    arrays = [x for x in (a, b) if np.ndim(x)]
    if any(x.dtype.kind == "f" for x in arrays):
        return [wide(x) if np.ndim(x) and x.dtype.kind == "f" else x for x in (a, b)]
    long = product and len(arrays) == 2 and min(x.dtype.itemsize for x in arrays) > 2
    return [x if not np.ndim(x) else x.astype(float) if long else wide(x) for x in (a, b)]


def _sigma_of_sum(a, b, one, two, *, same, sign=1):
    if one is None or two is None:
        return abs(two if one is None else one)
    return abs(one + sign * two) if same else np.hypot(one, two)


def _sigma_of_product(a, b, one, two, *, same):
    return _sigma_of_sum(a, b, None if one is None else b * one, None if two is None else a * two, same=same)


def _sigma_of_ratio(a, b, one, two, *, same):
    one = None if one is None else np.divide(1, b) * one
    two = None if two is None else -a / (b * b) * two
    return _sigma_of_sum(a, b, one, two, same=same)


_SIGMA = {
    "add": _sigma_of_sum,
    "subtract": partial(_sigma_of_sum, sign=-1),
    "multiply": _sigma_of_product,
    "divide": _sigma_of_ratio,
}


def _scale(own, other):
    """Ratio of one unit to another."""
    try:
        return other.to(own)
    except u.UnitConversionError as error:
        names = [unit.to_string() or "no unit" for unit in (own, other)]
        msg = f"got values in {names[0]} and in {names[1]}, expected units that fit: multiply one by a unit"
        raise UnitsDoNotFit(msg) from error


class UnitsDoNotFit(u.UnitConversionError, TypeError):
    """Error of ndcube for operands whose units do not fit, and error of astropy for units."""


def _unite(cube, one, other):
    """Bits that are set in one of two masks or planes of flags; each may be None."""
    if one is None and other is None:
        return None
    if one is None or other is None:
        plane = other if one is None else one
    else:
        plane = one | other
    return plane if np.shape(plane) in ((), cube.shape) else plane | np.zeros(cube.shape, dtype=plane.dtype)


def _describe(value, operand):
    """Text of an operand for the history."""
    if is_cube(value):
        parts = {"frame_number": value.frame_number, "channel": value.channel}
        return {name: np.asarray(part).tolist() for name, part in parts.items() if part is not None}
    unit = {} if operand.unit is None else {"unit": operand.unit.to_string()}
    if np.ndim(operand.data) == 0:
        return {"value": float(operand.data), **unit}
    return {"shape": list(map(int, np.shape(operand.data))), **unit}
