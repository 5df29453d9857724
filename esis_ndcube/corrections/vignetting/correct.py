"""Divide a cube by the vignetting, and undo it."""

from collections.abc import Mapping

import numpy as np

from sunpy.util.exceptions import warn_user

from esis_ndcube.corrections.correction import correct, uncorrect
from esis_ndcube.corrections.vignetting.fit import fit_vignetting
from esis_ndcube.corrections.vignetting.model import Vignetting
from esis_ndcube.utils.checks import check_cube

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
        By default the vignetting is fitted to the cube.
    method : `str`, optional
        How to fit it, as for `~esis_ndcube.fit_vignetting`.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        A new cube, with the vignetting in ``cube.vignetting``.

    Raises
    ------
    ValueError
        If the cube is corrected already, the vignetting is of another line or flight or lacks a channel, a slope is not
        within -1 to 1, or the cube has no alignments.

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
    Vignetting.check_missing(cube)
    vignetting = fit_vignetting(cube, method=method) if vignetting is None else _parse(cube, vignetting)
    if cube.normalization is not None:
        warn_user("the images were normalized before their vignetting was corrected: normalize them once more")
    return correct(cube, vignetting)


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
        A new cube, as it was before the correction, except for the rounding of its data's type.

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
    return uncorrect(cube, Vignetting)


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
    return vignetting
