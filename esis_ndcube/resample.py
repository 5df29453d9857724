"""Resample Level-1 frames once through their alignment, as `reproject` would."""

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates, spline_filter

from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseLowLevelWCS, HighLevelWCSWrapper

from esis_ndcube.registration.alignment import Alignment

__all__ = ["detector_coordinates", "interpolate", "propagate_uncertainty", "reproject_alignment"]

_ORDERS = {"nearest-neighbor": 0, "bilinear": 1, "biquadratic": 2, "bicubic": 3}
# An output pixel is valid if at least this much of its bilinear weight falls on valid pixels.
_MIN_WEIGHT = 0.5


def reproject_alignment(input_data, output_projection, shape_out=None, *, order="bicubic", return_footprint=True):
    """
    Resample a Level-1 frame on the Sun, once.

    Values are surface brightnesses: they are interpolated, not multiplied by any pixel area.

    Parameters
    ----------
    input_data : `tuple`
        A frame, shape (v, u), and its `~esis_ndcube.registration.Alignment`. Pixels that are not finite are invalid.
    output_projection : `~astropy.wcs.WCS` or `~astropy.io.fits.Header`
        Celestial WCS of the result.
        Helioprojective coordinates without observer and time are those of the alignment's own grid.
    shape_out : `tuple` of `int`, optional
        Rows and columns of the result; by default those of ``output_projection``.
    order : `int` or `str`, optional
        Order of the spline: 0 to 3, or ``"nearest-neighbor"``, ``"bilinear"``, ``"biquadratic"``, ``"bicubic"``.
    return_footprint : `bool`, optional
        Whether to return the footprint as well.

    Returns
    -------
    array : `numpy.ndarray`
        The frame on the output grid, NaN outside the footprint.
    footprint : `numpy.ndarray`
        1 where the result has valid input, else 0.

    Raises
    ------
    TypeError
        If ``input_data`` is not a frame and its alignment, or ``output_projection`` is no WCS.
    ValueError
        If the frame does not have the alignment's shape, the order is unknown, or no output shape is given.

    See Also
    --------
    reproject.reproject_interp : The same, fed with ``Alignment.to_gwcs()``.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration import Alignment
    >>> from esis_ndcube.resample import reproject_alignment
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> array, footprint = reproject_alignment((np.ones((1040, 2048)), alignment), ESIS_1.grid, order=1)
    >>> array.shape, float(np.nanmax(array))
    ((1270, 1270), 1.0)
    """
    frame, alignment = _parse_input(input_data)
    wcs, shape_out = _parse_output(output_projection, shape_out)
    u, v = detector_coordinates(alignment, wcs, shape_out)
    array, footprint = interpolate(frame, u, v, order=order)
    return (array, footprint.astype(float)) if return_footprint else array


def _parse_input(input_data):
    if not (isinstance(input_data, tuple) and len(input_data) == 2 and isinstance(input_data[1], Alignment)):
        msg = f"got input_data of type {type(input_data).__name__}, expected a tuple (frame, Alignment)"
        raise TypeError(msg)
    frame, alignment = np.asarray(input_data[0]), input_data[1]
    if frame.shape != alignment.shape:
        msg = f"got a frame of shape {frame.shape}, expected that of the alignment's detector, {alignment.shape}"
        raise ValueError(msg)
    return frame, alignment


def _parse_output(output_projection, shape_out):
    wcs = WCS(output_projection) if isinstance(output_projection, fits.Header) else output_projection
    if not isinstance(wcs, (BaseLowLevelWCS, BaseHighLevelWCS)):
        msg = f"got an output projection of type {type(wcs).__name__}, expected a WCS or a FITS header"
        raise TypeError(msg)
    wcs = wcs if isinstance(wcs, BaseHighLevelWCS) else HighLevelWCSWrapper(wcs)
    shape_out = wcs.low_level_wcs.array_shape if shape_out is None else shape_out
    if wcs.low_level_wcs.pixel_n_dim != 2:
        msg = f"got an output projection with {wcs.low_level_wcs.pixel_n_dim} axes, expected 2: take wcs.celestial"
        raise ValueError(msg)
    if shape_out is None or len(shape_out) != 2:
        msg = f"got an output shape of {shape_out}, expected (rows, columns): give shape_out"
        raise ValueError(msg)
    return wcs, tuple(shape_out)


def detector_coordinates(alignment, wcs, shape):
    """
    Detector pixels of every pixel of a grid.

    Parameters
    ----------
    alignment : `~esis_ndcube.registration.Alignment`
        The alignment of the frame.
    wcs : `~astropy.wcs.WCS`
        Celestial WCS of the grid.
    shape : `tuple` of `int`
        Rows and columns of the grid.

    Returns
    -------
    u, v : `numpy.ndarray`
        Of that shape, NaN where the grid does not see the Sun's surroundings.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration import Alignment
    >>> from esis_ndcube.resample import detector_coordinates
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> detector_coordinates(alignment, ESIS_1.grid, (2, 2))[0].round(2)
    array([[799.47, 800.24],
           [799.78, 800.54]])
    """
    rows, columns = shape
    # Row and column vectors: the polynomials broadcast them.
    x, y = np.arange(columns, dtype=float)[None, :], np.arange(rows, dtype=float)[:, None]
    grid = alignment.grid
    if _same_pixels(wcs, grid):
        return alignment.transform(x, y)
    x, y = np.broadcast_arrays(x, y)
    if _same_frame(wcs, grid):
        return alignment.transform(*grid.world_to_pixel_values(*wcs.pixel_to_world_values(x, y)))
    return pixel_to_pixel(wcs, alignment.to_gwcs(), x, y)


def _same_pixels(a, b):
    # The comparison leaves out dates and observer.
    return a is b or (_same_frame(a, b) and not a.has_distortion and a.wcs.compare(b.wcs, 1))


def _same_frame(a, b):
    """Whether world values mean the same; nearly always the observer and time are the same."""
    if not isinstance(a, WCS) or a.naxis != 2:
        return False
    if a.world_axis_physical_types != b.world_axis_physical_types or a.world_axis_units != b.world_axis_units:
        return False
    observation = _observation(a)
    return observation == _observation(b) or all(value in (None, "") for value in observation)


def _observation(wcs):
    """Observer and time as a WCS states them."""
    aux, prm = wcs.wcs.aux, wcs.wcs
    return aux.hgln_obs, aux.crln_obs, aux.hglt_obs, aux.dsun_obs, prm.dateavg, prm.dateobs


def interpolate(frame, u, v, *, order="bicubic", valid=None):
    """
    Interpolate a frame at detector pixels.

    Parameters
    ----------
    frame : `numpy.ndarray`
        Shape (v, u). Pixels that are not finite are invalid.
    u, v : `numpy.ndarray`
        Where, of one shape.
    order : `int` or `str`, optional
        As for `reproject_alignment`.
    valid : `numpy.ndarray`, optional
        Valid pixels, if there are invalid ones that are finite.

    Returns
    -------
    array : `numpy.ndarray`
        Interpolated values, float32 for a float32 frame, NaN where less than half of the weight is on valid pixels.
    footprint : `numpy.ndarray`
        Boolean: where the result is valid.

    Raises
    ------
    ValueError
        If the order is unknown, or the frame is not two-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.resample import interpolate
    >>> interpolate(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0.5, 5]), np.array([0.5, 0]), order=1)
    (array([1.5, nan]), array([ True, False]))
    """
    order = _parse_order(order)
    if np.ndim(frame) != 2:
        msg = f"got a frame of shape {np.shape(frame)}, expected two dimensions"
        raise ValueError(msg)
    frame, (u, v) = np.asarray(frame), np.broadcast_arrays(u, v)
    good = np.isfinite(frame) if valid is None else np.isfinite(frame) & valid
    dtype = np.float32 if frame.dtype.kind == "f" and frame.dtype.itemsize <= 4 else float
    frame = frame.astype(dtype, copy=False)
    rows, columns = frame.shape
    # As in reproject, the footprint ends at the outer edges of the pixels.
    footprint = (u >= -0.5) & (u <= columns - 0.5) & (v >= -0.5) & (v <= rows - 0.5)
    if not good.any():
        return np.full(u.shape, np.nan, dtype=dtype), np.zeros(u.shape, dtype=bool)
    if not good.all():
        frame = _fill(frame, good)
        footprint &= _linear(good.astype(np.float32), u, v) >= _MIN_WEIGHT
    array = map_coordinates(frame, [v, u], order=order, mode="nearest", output=dtype)
    array[~footprint] = np.nan
    return array, footprint


def _parse_order(order):
    parsed = _ORDERS.get(order, order) if isinstance(order, str) else order
    if isinstance(parsed, str) or parsed not in _ORDERS.values():
        msg = f"got order {order!r}, expected 0 to 3 or one of {', '.join(_ORDERS)}"
        raise ValueError(msg)
    return int(parsed)


def _fill(image, good):
    """Put the nearest good pixel in place of each bad one, which a spline would spread."""
    return image[tuple(distance_transform_edt(~good, return_distances=False, return_indices=True))]


def propagate_uncertainty(sigma, u, v, *, order="bicubic"):
    r"""
    Standard deviation of interpolated values whose input pixels are independent.

    The variance of a sum with weights :math:`w_i` is :math:`\sum w_i^2 \sigma_i^2`.
    With weights that depend on the distance to the pixels along x and y only, and a variance that changes slowly over
    their reach of a few pixels, this is :math:`k(\delta_x)\,k(\delta_y)\,\sigma^2` with :math:`k = \sum w^2` of the
    one-dimensional cardinal spline at the fractional pixel :math:`\delta`.

    Parameters
    ----------
    sigma : `numpy.ndarray`
        Standard deviation of the frame's pixels, shape (v, u); where it is not finite the nearest one counts.
    u, v : `numpy.ndarray`
        Where, of one shape.
    order : `int` or `str`, optional
        As for `reproject_alignment`.

    Returns
    -------
    `numpy.ndarray`
        Standard deviations at those positions, float32.

    Raises
    ------
    ValueError
        If the order is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.resample import propagate_uncertainty
    >>> propagate_uncertainty(np.full((9, 9), 2.0), np.array([4.0, 4.5]), np.array([4.0, 4.5]), order=1)
    array([2., 1.], dtype=float32)
    """
    order = _parse_order(order)
    u, v = np.broadcast_arrays(u, v)
    variance = np.square(sigma, dtype=np.float32)
    good = np.isfinite(variance)
    if not good.any():
        return np.full(u.shape, np.nan, dtype=np.float32)
    variance = variance if good.all() else _fill(variance, good)
    result = np.maximum(_linear(variance, u, v), 0)
    table = _squared_weights(order)
    for coordinate in (u, v):
        # NaN positions are invalid anyway.
        fraction = np.nan_to_num(coordinate - np.floor(coordinate))
        result *= table[np.rint(fraction * (len(table) - 1)).astype(int)]
    return np.sqrt(result)


def _linear(image, u, v):
    return map_coordinates(image, [v, u], order=1, mode="nearest", output=np.float32)


def _squared_weights(order, steps=200, half=12):
    """Sum of squares of the interpolation weights at fractional pixels 0, 1/steps, ..., 1."""
    unit = np.zeros(4 * half + 1)
    unit[2 * half] = 1.0
    spline = spline_filter(unit, order=order) if order > 1 else unit
    fractions = np.linspace(0, 1, steps + 1)
    # The weight of pixel i at position x is the cardinal spline at x - i.
    positions = 2 * half + fractions[:, None] + np.arange(-half, half + 1)
    weights = map_coordinates(spline, [positions], order=order, prefilter=False, mode="constant")
    return np.square(weights).sum(1)
