"""Resample Level-1 frames once through their alignment, in the way of `reproject`."""

import itertools

import dask.array as da
import numpy as np
from reproject import reproject_interp

from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.resample._reproject import (
    parse_blocks,
    parse_image,
    parse_input,
    parse_output,
    parse_output_array,
    run_blocks,
)
from esis_ndcube.utils._spline import (
    MIN_WEIGHT,
    SHARED_REACH,
    deviations,
    evaluate,
    parse_order,
    prepare,
    prepare_variance,
    response,
    result_type,
    shared_weights,
)
from esis_ndcube.utils.arrays import plain_arrays
from esis_ndcube.utils.noise import resample_correlation
from esis_ndcube.wcs._sun import same_directions, seen_pixels

__all__ = [
    "correlation_factor",
    "detector_coordinates",
    "interpolate",
    "propagate_uncertainty",
    "reproject_alignment",
    "resampled_correlation",
]


def reproject_alignment(
    input_data,
    output_projection,
    shape_out=None,
    hdu_in=0,
    order="bicubic",
    roundtrip_coords=True,
    output_array=None,
    output_footprint=None,
    return_footprint=True,
    block_size=None,
    parallel=False,
    return_type=None,
    dask_method=None,
    *,
    return_uncertainty=False,
):
    """
    Resample Level-1 frames on the Sun, once, through their alignment.

    It is called like the functions of `reproject`, and can take their place, for example as the ``reproject_function``
    of `reproject.mosaicking.reproject_and_coadd`.
    Values are surface brightnesses: they are interpolated, not multiplied by any pixel area.

    Parameters
    ----------
    input_data : object
        One of

        * a `tuple` of a frame and its `~esis_ndcube.Alignment`, or the WCS that `~esis_ndcube.Alignment.to_gwcs` gives;
          the frame is an array of shape (..., v, u), or an `~astropy.nddata.NDData` or cube of that shape;
        * an `~astropy.nddata.NDData` or cube whose WCS is what `~esis_ndcube.Alignment.to_gwcs` gives,
          or whose WCS is not celestial and whose ``meta["alignment"]`` is an `~esis_ndcube.Alignment`;
        * anything else that `reproject.reproject_interp` takes. That function then does all of the work: an image that
          already is on the Sun has no alignment.

        Pixels that are not finite are invalid, and so are masked pixels of an `~astropy.nddata.NDData` or a masked
        array.
        Leading dimensions are frames of one alignment, whose coordinates are found only once.
    output_projection : `~astropy.wcs.WCS`, any other WCS, or `~astropy.io.fits.Header`
        Two-dimensional celestial WCS of the result.
        Helioprojective coordinates without observer and time are those of the alignment's own grid.
    shape_out : `tuple` of `int`, optional
        Rows and columns of the result; by default those of ``output_projection``.
    hdu_in : `int` or `str`, optional
        Passed on to `reproject.reproject_interp`, if that function does the work.
    order : `int` or `str`, optional
        Order of the spline: 0 to 3, or ``"nearest-neighbor"``, ``"bilinear"``, ``"biquadratic"``, ``"bicubic"``.
    roundtrip_coords : `bool`, optional
        Passed on to `reproject.reproject_interp`, if that function does the work: an alignment leaves one way only.
    output_array, output_footprint : `numpy.ndarray`, optional
        Arrays of a floating type for the result, for example memory maps.
    return_footprint : `bool`, optional
        Whether to return the footprint as well.
    block_size : `tuple` of `int` or ``"auto"``, optional
        Rows and columns of the blocks of the output, which are done one by one, or a size along each axis of the
        output; -1 is all of an axis. Each thread holds the coordinates of one block. By default there is one block.
    parallel : `bool`, `int` or ``"current-scheduler"``, optional
        Whether to do the blocks in parallel, on that number of threads or with Dask's active scheduler.
    return_type : {"numpy", "dask"}, optional
        Kind of the arrays; those of Dask hold what is computed already, unless `reproject.reproject_interp` does the
        work.
    dask_method : {"memmap", "none"}, optional
        Passed on to `reproject.reproject_interp`, if that function does the work.
    return_uncertainty : `bool`, optional
        Whether to return the uncertainty as well, for an `~astropy.nddata.NDData` that has one.

    Returns
    -------
    array : `numpy.ndarray`
        The frames on the output grid, NaN outside the footprint, float32 for float32 frames.
        It has the same bits whatever the blocks and the number of threads.
    The bits are the same whatever the blocks and the number of threads.
        1 where the result has valid input, else 0.
    uncertainty : `numpy.ndarray`
        Standard deviation, see `~esis_ndcube.resample.propagate_uncertainty`; only with ``return_uncertainty=True``.
        The noise of a cube of one channel is correlated by its ``noise_correlation``; pixels of other input are
        independent.

    Raises
    ------
    TypeError
        If ``input_data`` is none of the above, or ``output_projection`` is no WCS.
    ValueError
        If the frame does not have the alignment's shape, the order, block size, number of threads or kind of the arrays
        is not possible, no output shape is given, or the uncertainty is wanted for input that has none.

    See Also
    --------
    reproject.reproject_interp : The same result from ``Alignment.to_gwcs()``.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration import Alignment
    >>> from esis_ndcube.resample import reproject_alignment
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> array, footprint = reproject_alignment((np.ones((1040, 2048)), alignment), ESIS_1.grid, order=1)
    >>> array.shape, float(np.nanmax(array))
    ((1270, 1270), 1.0)

    With its uncertainty, in blocks and on two threads:

    >>> from astropy.nddata import NDData, StdDevUncertainty
    >>> frame = NDData(np.ones((1040, 2048)), uncertainty=StdDevUncertainty(np.full((1040, 2048), 0.1)))
    >>> array, footprint, sigma = reproject_alignment(
    ...     (frame, alignment), ESIS_1.grid, return_uncertainty=True, block_size="auto", parallel=2
    ... )
    >>> bool(np.nanmax(sigma) <= 0.1)
    True
    """
    order = parse_order(order)
    later = {"return_type": return_type, "dask_method": dask_method}
    if return_type not in (None, "numpy", "dask"):
        msg = f"got return_type={return_type!r}, expected 'numpy' or 'dask'"
        raise ValueError(msg)
    source = parse_input(input_data)
    if return_uncertainty and (source is None or source.sigma is None):
        msg = "got no uncertainty with an alignment, expected an NDData with one: or leave return_uncertainty out"
        raise ValueError(msg)
    if source is None:
        options = {
            "roundtrip_coords": roundtrip_coords,
            "output_array": output_array,
            "output_footprint": output_footprint,
            "return_footprint": return_footprint,
            "block_size": block_size,
            "parallel": parallel,
            # Older versions do not get arguments that they do not know.
            **{name: value for name, value in later.items() if value is not None},
        }
        return _reproject_image(input_data, output_projection, shape_out, hdu_in=hdu_in, order=order, **options)
    data, leading = source.data, source.data.shape[:-2]
    if shape_out is None and output_array is not None:
        shape_out = output_array.shape
    wcs, shape_out = parse_output(output_projection, shape_out, leading)
    *outer, rows, columns = parse_blocks(block_size, parallel, shape_out)
    outputs = [parse_output_array(output_array, shape_out, result_type(data), "output_array")]
    # Without this argument the footprint would only be thrown away.
    wants_footprint = return_footprint or output_footprint is not None
    outputs.append(
        parse_output_array(output_footprint, shape_out, float, "output_footprint") if wants_footprint else None
    )
    outputs.append(np.empty(shape_out, dtype=np.float32) if return_uncertainty else None)

    for chunk in itertools.product(*outer):
        planes = list(itertools.product(*(range(part.start, part.stop) for part in chunk)))
        splines = [prepare(data[i], order, None if source.valid is None else source.valid[i]) for i in planes]
        variances = [
            prepare_variance(source.sigma[i], order, source.correlation) if return_uncertainty else None for i in planes
        ]

        def store(rows, columns, results, planes=planes):
            for plane, parts in zip(planes, results, strict=True):
                for output, part in zip(outputs, parts, strict=True):
                    if output is not None:
                        output[(*plane, rows, columns)] = part

        run_blocks(_resample_block, store, (splines, variances), wcs, source.alignment, [rows, columns], parallel)
    wanted = True, return_footprint, return_uncertainty
    results = tuple(output for output, want in zip(outputs, wanted, strict=True) if want)
    if return_type == "dask":
        results = tuple(map(da.from_array, results))
    return results if len(results) > 1 else results[0]


def _reproject_image(input_data, output_projection, shape_out, *, hdu_in, order, **options):
    """Output of `reproject.reproject_interp`, where invalid pixels of the image count as those of frames do."""
    wanted = options.pop("return_footprint")
    # `reproject_interp` does not fill a footprint that it does not return.
    wants_footprint = wanted or options["output_footprint"] is not None
    input_data, good = parse_image(input_data, hdu_in)
    results = reproject_interp(
        input_data,
        output_projection,
        shape_out,
        hdu_in=hdu_in,
        order=order,
        return_footprint=wants_footprint,
        **options,
    )
    array, footprint = results if wants_footprint else (results, None)
    if good is not None:
        # The weight on valid pixels.
        options |= {"output_array": None, "output_footprint": None, "return_footprint": False}
        weights = good.astype(np.float32), input_data[1]
        weight = reproject_interp(weights, output_projection, array.shape, order=min(order, 1), **options)
        bad = ~(weight >= MIN_WEIGHT - 1e-6)
        array[bad] = np.nan
        if footprint is not None:
            footprint[bad] = 0
    return (array, footprint) if wanted else array


def _resample_block(shared, alignment, wcs, rows, columns):
    """Values, footprint and uncertainty (or None) of a block of the output for each prepared frame."""
    u, v = _coordinates(alignment, wcs, rows, columns)
    results = []
    for spline, variance in zip(*shared, strict=True):
        array, footprint = evaluate(spline, u, v)
        sigma = None
        if variance is not None:
            sigma = deviations(variance, u, v)
            sigma[~footprint] = np.nan
        results.append((array, footprint, sigma))
    return results


def detector_coordinates(alignment, wcs, shape):
    """
    Detector pixels of every pixel of a grid.

    Parameters
    ----------
    alignment : `~esis_ndcube.Alignment`
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
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> detector_coordinates(alignment, ESIS_1.grid, (2, 2))[0].round(2)
    array([[799.47, 800.24],
           [799.78, 800.54]])
    """
    return _coordinates(alignment, wcs, *(slice(0, n) for n in shape))


def _coordinates(alignment, wcs, rows, columns):
    """Detector pixels of part of a grid."""
    # Row and column vectors: the polynomials broadcast them.
    x = np.arange(columns.start, columns.stop, dtype=float)[None, :]
    y = np.arange(rows.start, rows.stop, dtype=float)[:, None]
    return _positions(alignment, wcs, x, y)


def _positions(alignment, wcs, x, y):
    """Detector pixels of pixels of a grid."""
    grid = alignment.grid
    if _same_pixels(wcs, grid):
        return alignment.transform(x, y)
    x, y = np.broadcast_arrays(x, y)
    if same_directions(wcs, grid):
        return alignment.transform(*grid.world_to_pixel_values(*wcs.pixel_to_world_values(x, y)))
    return seen_pixels(wcs, alignment.to_gwcs(), x, y)


def _same_pixels(a, b):
    # The comparison leaves out dates and observer.
    return a is b or (same_directions(a, b) and not a.has_distortion and a.wcs.compare(b.wcs, 1))


@plain_arrays("frame", "u", "v", "valid")
def interpolate(frame, u, v, *, order="bicubic", valid=None):
    """
    Interpolate a frame at detector pixels.

    Parameters
    ----------
    frame : `numpy.ndarray`
        Shape (v, u). Pixels that are not finite are invalid.
    u, v : `numpy.ndarray`
        Positions, all of one shape.
    order : `int` or `str`, optional
        As for `reproject_alignment`.
    valid : `numpy.ndarray`, optional
        Valid pixels, if there are invalid ones that are finite.

    Returns
    -------
    array : `numpy.ndarray`
        Interpolated values, float32 for a float32 frame; NaN if less than half of the weight is on valid pixels.
    footprint : `numpy.ndarray`
        Boolean: True where the result is valid.

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
    order = parse_order(order)
    if np.ndim(frame) != 2:
        msg = f"got a frame of shape {np.shape(frame)}, expected two dimensions"
        raise ValueError(msg)
    return evaluate(prepare(np.asarray(frame), order, valid), u, v)


@plain_arrays("sigma", "u", "v")
def propagate_uncertainty(sigma, u, v, *, order="bicubic", correlation=None):
    r"""
    Standard deviation of interpolated values.

    The variance of a sum with weights :math:`w_i` is :math:`\sum_{ij} w_i w_j \rho_{ij} \sigma_i \sigma_j`, with the
    Let the variance change slowly over the reach of the weights, which are those of a cardinal spline along x and y.
    The variance is then :math:`\sigma^2` times a factor that depends only on the fractional pixels :math:`\delta_x,
    \delta_y`.
    It is the uncertainty of each single value; `resampled_correlation` gives the noise that neighbors share.

    Parameters
    ----------
    sigma : `numpy.ndarray`
        Standard deviation of the frame's pixels, shape (v, u); a value that is not finite is replaced by the nearest
        one.
    u, v : `numpy.ndarray`
        Positions, all of one shape.
    order : `int` or `str`, optional
        As for `reproject_alignment`.
    correlation : `numpy.ndarray`, optional
        Correlation of the noise of pixels by their distance, axes (v, u), odd lengths and 1 in the middle, as
        `~esis_ndcube.level1.calibration.noise_correlation` gives it; by default the pixels are independent.

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
    return deviations(prepare_variance(sigma, parse_order(order), correlation), u, v)


def resampled_correlation(alignment, wcs=None, *, order="bicubic", position=None, correlation=None):
    r"""
    Correlation of the noise of neighboring pixels of a resampled image.

    Neighboring pixels of a resampled image are made from the same pixels of the frame, which share noise themselves.
    Let :math:`\rho` be the correlation of the frame's pixels, :math:`J` the derivative of the detector position by the
    output pixel, and :math:`w` the interpolation weights. The covariance of two output pixels at a distance d, averaged
    over their places on the detector's pixels, is proportional to :math:`\sum_k \rho_k\,R(J d - k)`. Here :math:`R(t) =
    \int w(s)\,w(s + t)\,ds` is the autocorrelation along x times that along y.

    Parameters
    ----------
    alignment : `~esis_ndcube.Alignment` or `~esis_ndcube.registration.PolynomialTransform`
        The alignment, or its transform.
    wcs : `~astropy.wcs.WCS`, optional
        Celestial WCS of the result, by default the alignment's own grid.
    order : `int` or `str`, optional
        As for `reproject_alignment`.
    position : `tuple`, optional
        Pixel (x, y) of the result at which J is taken; by default the middle. The J of a flight changes by parts of a
        percent over the field.
    correlation : `numpy.ndarray`, optional
        As for `propagate_uncertainty`.

    Returns
    -------
    `numpy.ndarray`
        Correlation by distance in output pixels, axes (y, x), odd lengths and 1 in the middle. The correlation beyond
        its edges adds up to less than 1 %.

    Raises
    ------
    TypeError
        If ``wcs`` is given for a transform, which has no place on the sky.
    ValueError
        If the order is unknown, or the position is not given and the size of ``wcs`` is not known.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level1.calibration import noise_correlation
    >>> from esis_ndcube.registration import Alignment
    >>> from esis_ndcube.resample import resampled_correlation
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> result = resampled_correlation(alignment, correlation=noise_correlation(ESIS_1, 1))
    >>> middle = result.shape[0] // 2
    >>> result[middle, middle : middle + 3].round(2)
    array([ 1.  ,  0.43, -0.  ])
    """
    order = parse_order(order)
    jacobian = _jacobian(alignment, wcs, position)
    correlation = np.ones((1, 1)) if correlation is None else np.asarray(correlation, dtype=float)
    result, _ = resample_correlation(correlation, jacobian, shared_weights(order), SHARED_REACH)
    return result


def correlation_factor(alignment, wcs=None, *, order="bicubic", position=None):
    r"""
    Ratio of the noise of a mean over many resampled pixels to the noise for independent pixels.

    Neighboring pixels of a resampled image are made from the same pixels of the frame, and usually a resampled image
    has more pixels than the frame.
    Take a mean over an area much larger than a pixel. Its uncertainty is this factor times the uncertainty that
    independent pixels with the stated uncertainties would give.

    Let :math:`J` be the derivative of the detector position by the output pixel and :math:`\hat w` the Fourier
    transform of the interpolation weights.
    The mean over :math:`N` output pixels has the variance
    :math:`\sigma^2 \sum_k |\hat w(J^{-T} k)|^2 / (N |\det J|)`, where the pairs of integers :math:`k` other than 0
    are the aliases of an output grid that is coarser than the detector.
    The variance of a single one is :math:`\sigma^2 (\int w^2)^2` on average, with the one-dimensional integral of
    `propagate_uncertainty`. The factor is the square root of :math:`N` times their ratio,
    :math:`\sqrt{\sum_k |\hat w(J^{-T} k)|^2 / |\det J|} \,/ \int w^2`.
    The factor holds if the output pixels fall on all parts of detector pixels alike. They do so unless the grids are
    parallel and their pixel sizes are in a ratio of small integers.

    Parameters
    ----------
    alignment : `~esis_ndcube.Alignment` or `~esis_ndcube.registration.PolynomialTransform`
        The alignment, or its transform.
    wcs : `~astropy.wcs.WCS`, optional
        Celestial WCS of the result, by default the alignment's own grid.
    order : `int` or `str`, optional
        As for `reproject_alignment`.
    position : `tuple`, optional
        Pixel (x, y) of the result, numbers or arrays; by default the middle of the grid.

    Returns
    -------
    `float` or `numpy.ndarray`
        The factor, of the shape of the position.

    Raises
    ------
    TypeError
        If ``wcs`` is given for a transform, which has no place on the sky.
    ValueError
        If the order is unknown, or the position is not given and the size of ``wcs`` is not known.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration import Alignment
    >>> from esis_ndcube.resample import correlation_factor
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> round(correlation_factor(alignment), 2)
    1.43
    """
    order = parse_order(order)
    jacobian = _jacobian(alignment, wcs, position)
    inverse = np.linalg.inv(jacobian)
    # The response beyond 8 cycles per pixel is nothing; k = J^T f.
    reach = int(np.ceil(8 * np.max(np.nan_to_num(np.abs(jacobian).sum((-2, -1))))))
    k = np.stack(np.meshgrid(*2 * [np.arange(-reach, reach + 1)]), axis=-1).reshape(-1, 2)
    frequency = np.einsum("ki,...ij->...kj", k, inverse)
    aliases = np.prod(response(frequency, order) ** 2, axis=-1).sum(-1)
    single = np.sqrt(shared_weights(order)(0, 0))
    with np.errstate(invalid="ignore"):
        # NaN for a position of NaN.
        factor = np.sqrt(aliases / np.abs(np.linalg.det(jacobian))) / single
    return float(factor) if np.ndim(factor) == 0 else factor


def _jacobian(alignment, wcs, position):
    """Derivatives of the detector position by the output pixel, shape (..., 2, 2)."""
    transform = alignment.transform if isinstance(alignment, Alignment) else alignment
    if wcs is None:
        return transform.jacobian(*(transform.origin if position is None else position))
    if not isinstance(alignment, Alignment):
        msg = f"got a WCS for a {type(alignment).__name__}, expected an Alignment: or leave the WCS out"
        raise TypeError(msg)
    wcs, shape = parse_output(wcs, (1, 1) if position is not None else None)
    x, y = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if position is None else position
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    step = 0.5
    # All neighbors at once: a transformation between frames takes as long for one point as for many.
    right, left, above, below = np.moveaxis(
        _positions(alignment, wcs, np.add.outer(x, [step, -step, 0, 0]), np.add.outer(y, [0, 0, step, -step])), -1, 0
    )
    columns = (right - left) / (2 * step), (above - below) / (2 * step)
    return np.moveaxis(np.array(columns), (1, 0), (-2, -1))
