"""The alignment of two images as a method of sunkit-image."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from esis_ndcube.registration.images import coalign_images

__all__ = ["coalign_arrays", "register"]

_KINDS = "shift", "affine"
# The first version with a registry; it needs Python 3.12.
_FIRST_VERSION = "0.7"


def register(name="log_dog"):
    """
    Offer the alignment of this package to ``sunkit_image.coalignment.coalign_map``.

    The function puts `coalign_arrays` under a name in sunkit-image's registry of methods, for the running session. An
    import alone does nothing.

    Parameters
    ----------
    name : `str`, optional
        The name of the method; the default is that of the filter, a logarithm and difference of Gaussians.

    Returns
    -------
    `str`
        The name.

    Raises
    ------
    ImportError
        If sunkit-image is not installed, or has a version without a registry.
    ValueError
        If another method has the name.

    Examples
    --------
    >>> import sunpy.map
    >>> from sunkit_image.coalignment import coalign_map  # doctest: +SKIP
    >>> from esis_ndcube.registration import sunkit
    >>> sunkit.register()  # doctest: +SKIP
    'log_dog'
    >>> image, reference = sunpy.map.Map("aia_304.fits", "aia_1600.fits")  # doctest: +SKIP
    >>> coalign_map(image, reference, method="log_dog")  # doctest: +SKIP
    """
    try:
        from sunkit_image.coalignment.register import REGISTERED_METHODS, register_coalignment_method
    except ImportError as error:
        msg = (
            f"got {_installed()}, expected sunkit-image {_FIRST_VERSION} or later, the first with a registry of "
            f"coalignment methods, which needs Python 3.12 or later: without it, use esis_ndcube.coalign"
        )
        raise ImportError(msg) from error
    if REGISTERED_METHODS.get(name, coalign_arrays) is not coalign_arrays:
        msg = f"got the name {name!r}, which another method has, expected none of {', '.join(REGISTERED_METHODS)}"
        raise ValueError(msg)
    register_coalignment_method(name)(coalign_arrays)
    return name


def _installed():
    try:
        return f"sunkit-image {version('sunkit-image')}"
    except PackageNotFoundError:
        return "no sunkit-image"


def coalign_arrays(target_array, reference_array, *, transform="shift", **options):
    """
    Align two arrays, with the result in the form of sunkit-image.

    Parameters
    ----------
    target_array, reference_array : `numpy.ndarray`
        Images with axes (y, x), of any shapes.
    transform : `str`, optional
        ``"shift"``, the only kind that ``coalign_map`` of sunkit-image 0.7 can write into a Map, or ``"affine"``.
    **options
        ``start``, ``widths`` and ``search``, as for `~esis_ndcube.registration.coalign_images`.

    Returns
    -------
    ``sunkit_image.coalignment.interface.AffineParams``
        Scale, rotation matrix and translation that map pixels (x, y) of the target to those of the reference:
        ``scale * rotation_matrix @ (x, y) + translation``. With shear the matrix is not orthogonal.

    Raises
    ------
    ImportError
        If sunkit-image has no such form.
    ValueError
        If the arrays could not be aligned, the transform has no such form, or as
        `~esis_ndcube.registration.coalign_images`.

    Examples
    --------
    >>> from esis_ndcube.registration.sunkit import coalign_arrays
    >>> coalign_arrays(image, reference).translation  # doctest: +SKIP
    (8.0, 5.0)
    """
    from sunkit_image.coalignment.interface import AffineParams

    if transform not in _KINDS:
        msg = f"got transform {transform!r}, expected {' or '.join(_KINDS)}: sunkit-image has no form for others"
        raise ValueError(msg)
    alignment = coalign_images(np.asarray(target_array), np.asarray(reference_array), transform=transform, **options)
    if not alignment.converged:
        msg = f"the images could not be aligned: {alignment.reason}"
        raise ValueError(msg)
    matrix = np.linalg.inv(alignment.transform.jacobian(0.0, 0.0))
    scale = np.linalg.norm(matrix, axis=0)
    if transform == "shift":
        # Exactly, because sunkit-image tests it.
        matrix, scale = np.eye(2), np.ones(2)
    x, y = alignment.inverse(0.0, 0.0)
    return AffineParams(scale=scale, rotation_matrix=matrix / scale, translation=(float(x), float(y)))
