"""Take the vignetting out of a cube, and put it back."""

from collections.abc import Mapping

import numpy as np

from ndcube.meta import NDMeta
from sunpy.util.exceptions import warn_user

from esis_ndcube.provenance import ProcessingStep
from esis_ndcube.vignetting._images import chosen_alignments, image_positions
from esis_ndcube.vignetting.fit import fit_vignetting
from esis_ndcube.vignetting.model import Vignetting

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
    >>> from esis_ndcube.vignetting import correct_vignetting
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> correct_vignetting(cube, [0.436, 0.340, 0.382, 0.495]).vignetting.slopes  # doctest: +SKIP
    {1: 0.436, 2: 0.34, 3: 0.382, 4: 0.495}
    """
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
    >>> from esis_ndcube.vignetting import uncorrect_vignetting
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> uncorrect_vignetting(cube).vignetting is None  # doctest: +SKIP
    True
    """
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
    axes = cube.wcs.array_axis_names
    if cube.channel is None or not {"y", "x"} <= set(axes):
        msg = f"got a cube with the axes {', '.join(axes)}, expected images of known channels"
        raise ValueError(msg)
    dtype = np.result_type(cube.data.dtype, np.float32)
    data = np.array(cube.data, dtype=dtype)
    # Leading axes of exposures and channels, of which slices may lack one or both.
    images = data.reshape(-1, *data.shape[-2:])
    uncertainty = None if cube.uncertainty is None else cube.uncertainty.array.astype(dtype)
    errors = None if uncertainty is None else uncertainty.reshape(images.shape)
    alignments = np.empty(data.shape[:-2], dtype=object)
    alignments[...] = chosen_alignments(cube)
    wcs = cube.wcs.celestial
    for index, alignment in enumerate(alignments.flat):
        if alignment is None:
            continue
        position, _ = image_positions(alignment, wcs, images.shape[1:])
        field = vignetting.evaluate(alignment.channel, position).astype(np.float32)
        operation(images[index], field, out=images[index])
        if errors is not None:
            operation(errors[index], np.abs(field), out=errors[index])
    kind = type(cube.uncertainty)
    corrected = type(cube)(
        data,
        wcs=cube.wcs,
        uncertainty=None if uncertainty is None else kind(uncertainty, unit=cube.uncertainty.unit),
        mask=cube.mask,
        flags=cube.flags,
        # Metadata that know their axes are copied by the cube.
        meta=cube.meta if isinstance(cube.meta, NDMeta) else dict(cube.meta),
        unit=cube.unit,
    )
    corrected.meta.update({"vignetting": left, "history": (*cube.history, step)})
    return corrected
