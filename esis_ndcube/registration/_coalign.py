"""One name for the alignment of whole flights and of any two images."""

from astropy.nddata import NDData

from esis_ndcube.registration._image_inputs import ACCEPTED
from esis_ndcube.registration.exposures import coalign_frames
from esis_ndcube.registration.images import coalign_images
from esis_ndcube.utils.checks import is_cube

__all__ = ["coalign"]


def coalign(image, reference=None, **options):
    """
    Align images with a reference: all frames of a flight, or any one image.

    Parameters
    ----------
    image : `~esis_ndcube.ESISLevel1Cube` or image
        The frames of a flight, which `~esis_ndcube.registration.coalign_frames` aligns with the Sun and with each
        other. Or one image, which `~esis_ndcube.registration.coalign_images` aligns with another image: an array with
        axes (y, x), a pair (array, WCS), a `~sunpy.map.GenericMap`, or an `~astropy.nddata.NDData` or `~ndcube.NDCube`
        with axes (y, x).
    reference : optional
        The reference. For frames: one or many images of the Sun, a cube, or the number of a channel; by default the
        flight's own pose. For an image: another image.
    **options
        Options of the two functions.

    Returns
    -------
    `~esis_ndcube.registration.Coalignment` or `~esis_ndcube.registration.ImageAlignment`
        The first for frames, the second for an image.

    Raises
    ------
    TypeError
        If ``image`` is of neither kind, or there is no such option.
    ValueError
        As the two functions.

    See Also
    --------
    esis_ndcube.registration.coalign_frames : Options and results for the frames of a flight.
    esis_ndcube.registration.coalign_images : Options and results for two images.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube, coalign
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> coalign(level1, rotate=True).final[0, 0]  # doctest: +SKIP
    <Alignment final of channel 1, frame 109, O V>

    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> scene = np.exp(4 * gaussian_filter(np.random.default_rng(1).normal(size=(120, 120)), 2))
    >>> coalign(scene[5:105, 8:108], scene[:100, :100], transform="shift").converged
    True
    """
    if is_cube(image, 1):
        return coalign_frames(image, reference, **options)
    if isinstance(image, tuple | list | NDData) or hasattr(image, "__array__"):
        return coalign_images(image, reference, **options)
    msg = f"got {type(image).__name__} to be aligned, expected an ESISLevel1Cube, or {ACCEPTED}"
    raise TypeError(msg)
