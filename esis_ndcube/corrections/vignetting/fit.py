"""Fit the vignetting to a cube, by the published method or by all of the images at once."""

import numpy as np

from esis_ndcube.corrections.correction import on_grid
from esis_ndcube.corrections.vignetting._difference_slopes import fit_difference_slopes
from esis_ndcube.corrections.vignetting._images import check, chosen_alignments
from esis_ndcube.corrections.vignetting._joint import fit_joint_slopes
from esis_ndcube.corrections.vignetting.model import Vignetting
from esis_ndcube.utils.arrays import invalid_pixels

__all__ = ["fit_vignetting"]

_METHODS = {"joint": fit_joint_slopes, "difference-slopes": fit_difference_slopes}


def fit_vignetting(cube, method="joint"):
    r"""
    Find the vignetting of every channel from the differences of the channels.

    All channels see one Sun through different vignettings: a slope that differs from channel to channel is not the
    Sun's.

    ``"joint"`` compares the logarithms of the mean brightness in small blocks of the images. One fit finds the blocks'
    brightness on the Sun, one gain for every image, the slopes, and the images of the faint lines that overlap the
    compared pixels. The fit is a least-squares fit with Huber's weights. The Schur complement eliminates the brightness
    of the blocks. The image of a faint line is common to all channels, and a random field about its mean.
    The covariance of the slopes is that between tiles of the images, and so includes errors that are the same in all
    exposures.

    ``"difference-slopes"`` is the published method (Parker et al. 2022): it minimizes

    .. math:: Q = \frac{1}{n} \sqrt{\sum s^2}

    over all n pairs of channels and exposures, where s is the slope of the straight line through the column means
    of the difference of two images, each divided by its vignetting and its mean over the region that is clean in all
    channels. It is nearly blind to some combinations of the slopes, and takes the light of faint lines for vignetting.
    Its covariance is from the scatter of the exposures, and does not include this error.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        A cube whose vignetting is not corrected, shape (time, channel, y, x).
    method : `str`, optional
        ``"joint"``, the more accurate method on simulated flights, or ``"difference-slopes"``.

    Returns
    -------
    `~esis_ndcube.Vignetting`
        The vignetting, with its errors.

    Raises
    ------
    ValueError
        If the cube is corrected already, has less than two channels, a channel without images, no flags or alignments,
        no region that is clean in several channels, or channels whose directions leave the slopes undetermined.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.corrections.vignetting import fit_vignetting
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> print(fit_vignetting(cube))  # doctest: +SKIP
    """
    if method not in _METHODS:
        msg = f"got method {method!r}, expected one of {', '.join(map(repr, _METHODS))}"
        raise ValueError(msg)
    check(cube)
    if cube.vignetting is not None:
        msg = (
            f"the vignetting is corrected already, by the slopes from {cube.vignetting.source}: "
            "call uncorrect_vignetting() first"
        )
        raise ValueError(msg)
    alignments = chosen_alignments(cube)
    present = np.zeros(alignments.shape, dtype=bool)
    for index, alignment in np.ndenumerate(alignments):
        present[index] = alignment is not None and not np.all(invalid_pixels(cube.data, cube.mask, index))
    if lacking := [int(n) for n, any_image in zip(cube.channel, present.any(axis=0), strict=True) if not any_image]:
        msg = f"channel {', '.join(map(str, lacking))} has no image in any exposure: leave it out of the cube"
        raise ValueError(msg)
    wcs = cube.wcs.celestial
    if not all(on_grid(alignment, wcs) for alignment in alignments.flat if alignment is not None):
        msg = "got a cube on another grid than its alignments: fit the vignetting before the cube is reprojected"
        raise ValueError(msg)
    result = _METHODS[method](cube, alignments, present)
    frames = np.atleast_1d(cube.frame_number)[present.any(axis=1)]
    slopes = dict(zip(np.asarray(cube.channel).tolist(), result.slopes.tolist(), strict=True))
    return Vignetting(
        slopes,
        cube.flight,
        cube.line,
        source=f"{method} fit to {len(frames)} exposures, frames {frames[0]} to {frames[-1]}",
        covariance=result.covariance,
        systematic=result.systematic,
        contamination=result.contamination,
    )
