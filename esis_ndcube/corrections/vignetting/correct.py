"""Take the vignetting out of a cube, and put it back."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

import dask.array as da
import numpy as np
from dask.utils import SerializableLock

from sunpy.util.exceptions import warn_user

from esis_ndcube.corrections.vignetting._images import chosen_alignments, image_positions, on_grid
from esis_ndcube.corrections.vignetting.fit import fit_vignetting
from esis_ndcube.corrections.vignetting.model import Vignetting
from esis_ndcube.operations._parts import rebuild
from esis_ndcube.utils.arrays import is_lazy
from esis_ndcube.utils.checks import check_cube, named_axes
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import make_uncertainty, standard_deviation
from esis_ndcube.wcs.meta import copy_meta

__all__ = ["correct_vignetting", "uncorrect_vignetting"]


def correct_vignetting(cube, vignetting=None, *, method="joint"):
    """
    Divide a cube by the vignetting.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        The cube, or part of one.
    vignetting : `~esis_ndcube.Vignetting`, `dict` or sequence of `float`, optional
        The vignetting, or its slopes by channel number or in the order of the cube's channels.
        By default it is fitted to the cube.
    method : `str`, optional
        How to fit it, as for `~esis_ndcube.fit_vignetting`.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        A new cube, with the vignetting in ``cube.vignetting``.

    Raises
    ------
    ValueError
        If the cube is corrected already, the vignetting is that of another line or flight or lacks a channel, a slope
        is not within -1 to 1, or the cube has no alignments.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        If the cube was normalized before.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.corrections.vignetting import correct_vignetting
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> correct_vignetting(cube, [0.436, 0.340, 0.382, 0.495]).vignetting.slopes  # doctest: +SKIP
    {1: 0.436, 2: 0.34, 3: 0.382, 4: 0.495}
    """
    check_cube(cube, 3)
    if cube.vignetting is not None:
        msg = (
            f"the vignetting is corrected already, by the slopes from {cube.vignetting.source}: "
            "to replace them, call uncorrect_vignetting() first"
        )
        raise ValueError(msg)
    vignetting = fit_vignetting(cube, method=method) if vignetting is None else _parse(cube, vignetting)
    if cube.normalization is not None:
        warn_user("the images were normalized before their vignetting was corrected: normalize them once more")
    parameters = {
        "slopes": {str(number): slope for number, slope in vignetting.slopes.items()},
        "source": vignetting.source,
    }
    return _apply(cube, vignetting, np.divide, vignetting, ProcessingStep("correct_vignetting", parameters))


def uncorrect_vignetting(cube):
    """
    Multiply a corrected cube by its vignetting again.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        A cube whose ``vignetting`` is not None.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        A new cube, as it was before the correction but for the rounding of its data's type.

    Raises
    ------
    ValueError
        If the cube is not corrected.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.corrections.vignetting import uncorrect_vignetting
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> uncorrect_vignetting(cube).vignetting is None  # doctest: +SKIP
    True
    """
    check_cube(cube, 3)
    if cube.vignetting is None:
        msg = "the vignetting of this cube is not corrected: there is nothing to undo"
        raise ValueError(msg)
    return _apply(cube, cube.vignetting, np.multiply, None, ProcessingStep("uncorrect_vignetting"))


def _parse(cube, vignetting):
    """A vignetting of the cube's flight, line and channels."""
    if cube.flight is None or cube.line is None:
        msg = "got a cube without flight or line, whose vignetting is not known: expected one of form_level3"
        raise ValueError(msg)
    if not isinstance(vignetting, (Vignetting, Mapping)):
        channels = np.atleast_1d(cube.channel)
        slopes = np.asarray(vignetting, dtype=float)
        if slopes.shape != channels.shape:
            msg = (
                f"got slopes of shape {slopes.shape}, expected one for each of the channels "
                f"{', '.join(map(str, channels))}"
            )
            raise ValueError(msg)
        vignetting = dict(zip(channels.tolist(), slopes.tolist(), strict=True))
    if isinstance(vignetting, Mapping):
        vignetting = Vignetting(vignetting, cube.flight, cube.line)
    vignetting.check(cube.flight, cube.line)
    return vignetting


def _apply(cube, vignetting, operation, left, step):
    """A new cube whose images are divided or multiplied by the vignetting."""
    axes = named_axes(cube)
    if cube.channel is None or not {"y", "x"} <= set(axes):
        msg = f"got a cube with the axes {', '.join(axes)}, expected images of known channels"
        raise ValueError(msg)
    dtype = np.result_type(cube.data.dtype, np.float32)
    sigma = standard_deviation(cube, cube.unit)
    data, errors = cube.data.astype(dtype), None if sigma is None else sigma.astype(dtype)
    # Leading axes of exposures and channels, of which slices may lack one or both.
    alignments = np.empty(data.shape[:-2], dtype=object)
    alignments[...] = chosen_alignments(cube)
    field = partial(_field, vignetting, alignments, cube.wcs.celestial, data.shape[-2:])
    if is_lazy(data, errors):
        chunks = tuple((1,) * n for n in alignments.shape) + tuple((n,) for n in data.shape[-2:])
        fields = da.map_blocks(field, chunks=chunks, dtype=np.float32, meta=np.empty((0,) * data.ndim, np.float32))
        data, errors = operation(data, fields), None if errors is None else operation(errors, abs(fields))
    else:
        for index in np.ndindex(alignments.shape):
            image = field(index)[(0,) * len(index)]
            operation(data[index], image, out=data[index])
            if errors is not None:
                operation(errors[index], np.abs(image), out=errors[index])
    meta = copy_meta(cube.meta)
    meta["vignetting"] = left
    return rebuild(cube, step, data=data, uncertainty=make_uncertainty(cube.uncertainty, errors), meta=meta)


def _field(vignetting, alignments, wcs, shape, block_id):
    """The vignetting of one image, with the dimensions of the cube; 1 for an image without alignment."""
    index = tuple(block_id[: alignments.ndim])
    alignment = alignments[index]
    if alignment is None:
        field = np.ones(shape, dtype=np.float32)
    else:
        # A WCS of astropy is not safe to share between threads; on the alignment's own grid none is asked.
        with nullcontext() if on_grid(alignment, wcs) else SerializableLock("esis_ndcube.corrections.vignetting"):
            position, _ = image_positions(alignment, wcs, shape)
        field = vignetting.evaluate(alignment.channel, position).astype(np.float32)
    return field.reshape((1,) * len(index) + shape)
