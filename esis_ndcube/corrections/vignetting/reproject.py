"""The vignetting on any grid, through an alignment."""

import itertools

import numpy as np

from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.resample._reproject import parse_blocks, parse_output, parse_output_array, run_blocks
from esis_ndcube.resample.alignment import _coordinates

__all__ = ["reproject_vignetting"]


def reproject_vignetting(
    vignetting,
    output_projection,
    shape_out=None,
    *,
    alignment,
    output_array=None,
    output_footprint=None,
    return_footprint=True,
    block_size=None,
    parallel=False,
):
    """
    Evaluate the vignetting on any grid.

    The vignetting belongs to the field stop, which is fixed on the detector. An alignment gives the place of the
    detector on the Sun in one exposure.
    The output is like that of the functions of `reproject`.

    Parameters
    ----------
    vignetting : `~esis_ndcube.Vignetting`
        The vignetting.
    output_projection : `~astropy.wcs.WCS`, any other WCS, or `~astropy.io.fits.Header`
        Two-dimensional celestial WCS of the result, as for `~esis_ndcube.resample.reproject_alignment`.
    shape_out : `tuple` of `int`, optional
        Rows and columns of the result; by default those of ``output_projection``.
    alignment : `~esis_ndcube.Alignment` or array of them
        Alignment of the exposure and channel. For an array of alignments, for example ``cube.alignment``, each image is
        evaluated, and the result has the dimensions of the array first. The result is NaN for None.
    output_array, output_footprint : `numpy.ndarray`, optional
        Arrays of a floating type to put the result in.
    return_footprint : `bool`, optional
        Whether to return the footprint as well.
    block_size, parallel : optional
        As for `~esis_ndcube.resample.reproject_alignment`.

    Returns
    -------
    array : `numpy.ndarray`
        V, by which data are divided, float64; NaN outside of the detector.
    footprint : `numpy.ndarray`
        1 on the detector, else 0. V has a meaning inside the field stop only, see
        `~esis_ndcube.field_stop.line_region`.

    Raises
    ------
    TypeError
        If ``alignment`` is no alignment, or ``output_projection`` is no WCS.
    ValueError
        If an alignment is of another line, or of a channel without slope, or no output shape is given.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube import ESIS_1, Alignment, Vignetting
    >>> from esis_ndcube.corrections.vignetting import reproject_vignetting
    >>> vignetting = Vignetting.of_flight(ESIS_1, "O V")
    >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> array, footprint = reproject_vignetting(vignetting, ESIS_1.grid, alignment=alignment)
    >>> array[600, [300, 600, 900]].round(3)
    array([1.348, 1.24 , 1.133])
    """
    alignments = np.empty(np.shape(alignment) if isinstance(alignment, np.ndarray) else (), dtype=object)
    alignments[...] = alignment
    for item in alignments.flat:
        if item is not None:
            _check(vignetting, item)
    wcs, shape_out = parse_output(output_projection, shape_out, alignments.shape)
    *_, rows, columns = parse_blocks(block_size, parallel, shape_out)
    wants_footprint = return_footprint or output_footprint is not None
    array = parse_output_array(output_array, shape_out, float, "output_array")
    footprint = parse_output_array(output_footprint, shape_out, float, "output_footprint") if wants_footprint else None
    for index in itertools.product(*map(range, alignments.shape)):
        if alignments[index] is None:
            array[index] = np.nan
            if wants_footprint:
                footprint[index] = 0
            continue

        def store(rows, columns, result, index=index):
            for output, part in zip((array, footprint), result, strict=True):
                if output is not None:
                    output[(*index, rows, columns)] = part

        run_blocks(_evaluate_block, store, vignetting, wcs, alignments[index], [rows, columns], parallel)
    return (array, footprint) if return_footprint else array


def _check(vignetting, alignment):
    if not isinstance(alignment, Alignment):
        msg = f"got an alignment of type {type(alignment).__name__}, expected an Alignment or an array of them"
        raise TypeError(msg)
    if alignment.line != vignetting.line:
        msg = f"got the vignetting of {vignetting.line} and an alignment of {alignment.line}, expected one line"
        raise ValueError(msg)
    if alignment.channel not in vignetting.slopes:
        numbers = ", ".join(map(str, vignetting.slopes))
        msg = f"got an alignment of channel {alignment.channel}, expected one with a slope: {numbers}"
        raise ValueError(msg)


def _evaluate_block(vignetting, alignment, wcs, rows, columns):
    u, v = _coordinates(alignment, wcs, rows, columns)
    height, width = alignment.shape
    inside = (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5)
    return np.where(inside, vignetting.evaluate(alignment.channel, u), np.nan), inside
