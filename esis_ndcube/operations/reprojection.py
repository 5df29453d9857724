"""Cubes on another grid of the sky."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import reproject
from dask.utils import SerializableLock

from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from astropy.wcs.wcsapi import BaseHighLevelWCS, HighLevelWCSWrapper
from ndcube.meta import NDMeta

from esis_ndcube.flags import Flag
from esis_ndcube.operations._parts import apply_to_blocks, rebuild
from esis_ndcube.operations._shared_noise import resampled_correlations
from esis_ndcube.resample import propagate_uncertainty
from esis_ndcube.resample._reproject import fill_invalid
from esis_ndcube.utils._spline import parse_order
from esis_ndcube.utils.arrays import invalid_pixels, wide_type
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import make_uncertainty, standard_deviation
from esis_ndcube.wcs import ESISWCS
from esis_ndcube.wcs._derived import replace_celestial
from esis_ndcube.wcs._sun import SeenWCS, frame_observer, observer, place_values, seen_pixels, stonyhurst
from esis_ndcube.wcs.meta import copy_meta, remake_meta, with_entries

__all__ = ["reproject_to"]

_ALGORITHMS = {
    "interpolation": "reproject_interp",
    "adaptive": "reproject_adaptive",
    "exact": "reproject_exact",
}
# An output pixel is valid if at least this much of its weight falls on valid pixels.
_MIN_WEIGHT = 0.5


def reproject_to(
    cube,
    target_wcs,
    algorithm="interpolation",
    *,
    shape_out=None,
    return_footprint=False,
    parallel=False,
    **options,
):
    """
    Resample all images of a cube onto another grid of the sky.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube, whose last axes are y and x of a celestial WCS.
    target_wcs : `~astropy.wcs.WCS` or `~astropy.io.fits.Header`
        The grid. The celestial pair is taken from a WCS with more axes, such as that of another cube: times and
        channels stay those of the cube.
    algorithm : `str`, optional
        ``"interpolation"``, ``"adaptive"`` or ``"exact"``, for `reproject.reproject_interp`,
        `reproject.reproject_adaptive` and `reproject.reproject_exact`.
    shape_out : `tuple` of `int`, optional
        Shape (y, x), by default that of the target.
    return_footprint : `bool`, optional
        Whether to return the footprint too.
    parallel : `bool`, `int` or ``"current-scheduler"``, optional
        Whether to do each image in blocks in parallel, on that number of threads, as for the function of that
        algorithm. The bits of the result do not depend on this choice.
    **options
        As for the function of that algorithm, for example ``order``.

    Returns
    -------
    cube : `~esis_ndcube.cube.ESISCube`
        A new cube, of the same unit, times, channels, metadata and class. Its observer is that of the target, if the
        target has one, and its times are those of the cube: the rotation of the Sun between the two dates is left in.
    footprint : `numpy.ndarray`
        The footprint of `reproject`, of the shape of the data; it is 0 where the result is not valid.

    Raises
    ------
    ValueError
        If the cube has no celestial pair at its end, FITS cannot express the target without a distortion, or the
        algorithm or the order is unknown.
    TypeError
        If the algorithm has no such option.

    Notes
    -----
    Pixels that are masked or not finite are not interpolated. A pixel with less than half of its weight on valid pixels
    is NaN and masked; outside of the cube its flags say so. Values under the mask do not survive.
    Flags are those of the nearest pixel.

    Each uncertainty is that of a single pixel, from the variance at its place and the sum of the squares of the weights
    there. If ``cube.noise_correlation`` is known, the uncertainties include the noise that pixels share, and the new
    cube has its own correlation. Both are for the scale and the turn of the middle of the cube, averaged over the
    places of new pixels on the old ones. If the correlation is not known, the new cube has none, although its
    neighboring pixels share the old pixels that they are made of. Extra coordinates and metadata along y and x are
    lost, and the history names them.

    Coordinates are transformed between two observers on the surface of the Sun. Beyond its limb they are transformed on
    a sphere about the cube's observer through the center of the Sun, as in `sunpy.coordinates.SphericalScreen`.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level3 import ESISLevel3Cube
    >>> from esis_ndcube.operations import reproject_to
    >>> from esis_ndcube.wcs import level3_wcs
    >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])[:, :, 600:604, 600:604]
    >>> cube = ESISLevel3Cube(np.arange(32.0).reshape(1, 2, 4, 4), wcs=wcs, unit="ph / pix")
    >>> target = wcs[0, 0].celestial
    >>> target.wcs.crpix -= 0.5
    >>> moved = reproject_to(cube, target, shape_out=(3, 3))
    >>> moved.data[0, 0, 0], moved.unit, moved.channel
    (array([2.5, 3.5, 4.5]), Unit("ph / pix"), array([1, 2]))
    """
    check_cube(cube)
    if algorithm not in _ALGORITHMS:
        msg = f"got the algorithm {algorithm!r}, expected one of {', '.join(map(repr, _ALGORITHMS))}"
        raise ValueError(msg)
    _check_options(algorithm, options)
    _check_cube(cube)
    target, shape = _parse_target(target_wcs, shape_out)
    wcs = replace_celestial(cube.wcs, target, shape, _observer(target))
    leading = cube.data.ndim - 2
    grid = _Grid(cube.wcs.celestial, wcs.celestial, shape, algorithm, {**options, "parallel": parallel})
    bad = invalid_pixels(cube.data, cube.mask)
    dtype = wide_type(cube.data.dtype) if cube.data.dtype.kind == "f" else np.dtype(float)

    def apply(function, arrays, dtype):
        chunks = (1,) * leading + cube.shape[-2:]
        new = (*((1,) * n for n in cube.shape[:-2]), *((n,) for n in shape))
        return apply_to_blocks(function, arrays, chunks, new, dtype)

    data = apply(_Values(grid, dtype), (cube.data, bad), dtype)
    sigma = standard_deviation(cube, cube.unit)
    correlations, growth = resampled_correlations(cube, grid.jacobian(cube.shape[-2:]), algorithm, options)
    if sigma is not None:
        kind = sigma.dtype if sigma.dtype.kind == "f" else np.dtype(float)
        sigma = apply(_Sigma(grid, kind), (sigma, bad), kind) * growth.astype(kind)
        sigma = np.where(np.isfinite(data), sigma, np.nan)
    mask = ~np.isfinite(data)
    flags = cube.flags
    if flags is not None:
        flags = apply(_Flags(grid), (flags,), flags.dtype)
        flags = np.where(mask, flags, flags & ~flags.dtype.type(Flag.INVALID))
    meta, dropped = _resize_meta(cube, data.shape)
    if cube.noise_correlation is not None:
        meta = with_entries(meta, {"noise_correlation": (correlations, None)})
    parameters = {"algorithm": algorithm, "shape": list(map(int, shape))}
    parameters |= {key: value for key, value in options.items() if isinstance(value, (bool, int, float, str))}
    parameters |= {"dropped": dropped} if dropped else {}
    new = rebuild(
        cube,
        ProcessingStep("reproject", parameters),
        lost=(leading, leading + 1),
        data=data,
        wcs=wcs,
        uncertainty=make_uncertainty(cube.uncertainty, sigma),
        mask=mask,
        flags=flags,
        meta=meta,
    )
    if not return_footprint:
        return new
    return new, np.where(np.isfinite(data), grid.footprint(cube.shape[-2:]), 0.0)


def _check_options(algorithm, options):
    """Refuse at once any input that would be refused when a lazy cube is computed."""
    inspect.signature(getattr(reproject, _ALGORITHMS[algorithm])).bind_partial(**options)
    if algorithm == "interpolation":
        parse_order(options.get("order", "bilinear"))


def _check_cube(cube):
    names = cube._from_wcs("array_axis_names")
    if names is None or names[-2:] != ["y", "x"] or not isinstance(cube.wcs, ESISWCS) or not cube.wcs.has_celestial:
        axes = ", ".join(map(str, cube.wcs.world_axis_physical_types))
        msg = (
            f"got a cube of {axes}, expected one with whole images on the sky: "
            "bring frames of Level 1 there with reproject_alignment"
        )
        raise ValueError(msg)


def _parse_target(target, shape_out):
    """Two-dimensional celestial WCS and its shape (y, x)."""
    if isinstance(target, (Mapping, fits.Header)):
        target = WCS(fits.Header(target))
    target = target.low_level_wcs if isinstance(target, BaseHighLevelWCS) else target
    if not isinstance(target, WCS) or not target.has_celestial:
        msg = f"got a target of type {type(target).__name__}, expected a FITS WCS or header with a celestial pair"
        raise ValueError(msg)
    if target.has_distortion:
        msg = "got a target with a distortion, which the time and channel axes of a cube cannot have: leave it out"
        raise ValueError(msg)
    celestial = target.celestial
    shape = celestial.array_shape if shape_out is None else tuple(shape_out)
    if shape is None or len(shape) < 2:
        msg = f"got a target of shape {shape}, expected (y, x): give shape_out, or set the target's array_shape"
        raise ValueError(msg)
    return celestial, tuple(int(n) for n in shape[-2:])


def _observer(target):
    """The `place_values` of the target's observer, or None."""
    own = frame_observer(wcs_to_celestial_frame(target))
    return None if own is None else place_values(stonyhurst(own, own.obstime))


def _resize_meta(cube, shape):
    """Metadata of images of another shape, and the names of the lost ones, which belong to pixels."""
    meta = cube.meta
    if not isinstance(meta, NDMeta):
        return copy_meta(meta), []
    dropped = [key for key, axes in meta.axes.items() if max(axes) >= len(shape) - 2]
    values = {key: value for key, value in meta.items() if key not in dropped}
    axes = {key: of for key, of in meta.axes.items() if key not in dropped}
    return remake_meta(meta, values, axes, shape), dropped


@dataclass
class _Grid:
    """From one celestial WCS to another, by one of the functions of `reproject`; it travels to other processes."""

    source: WCS
    target: WCS
    shape: tuple
    algorithm: str
    options: dict = field(default_factory=dict)

    def call(self, images, name=None, **options):
        """Images and footprint by the algorithm, or another function."""
        name = name or _ALGORITHMS[self.algorithm]
        options = options or self.options
        source, target = self._own_wcs()
        if not self.same_frame:
            # Each function looks for pixels in one direction; observers are told apart in this direction.
            screen = observer(source)
            if name == "reproject_exact":
                source = HighLevelWCSWrapper(SeenWCS(source, target, screen=screen))
            else:
                target = HighLevelWCSWrapper(SeenWCS(target, source, screen=screen))
        return getattr(reproject, name)((images, source), target, shape_out=self.shape, **options)

    @property
    def same_frame(self):
        first, second = map(wcs_to_celestial_frame, (self.source, self.target))
        return first.is_equivalent_frame(second)

    def position(self, *, margin=0, shift=(0.0, 0.0)):
        """Pixels of the source, x and y, for every pixel of the target and of a margin, shifted along x and y."""
        rows, columns = (n + 2 * margin for n in self.shape)
        y, x = np.indices((rows, columns)) - margin
        source, target = self._own_wcs()
        return seen_pixels(target, source, x + shift[0], y + shift[1], screen=observer(source))

    def jacobian(self, shape):
        """Derivatives of the position on the source, whose shape (y, x) is given, by the pixel in the middle."""
        source, target = self._own_wcs()
        screen = observer(source)
        x, y = seen_pixels(source, target, *((n - 1) / 2 for n in shape[::-1]), screen=screen)
        x, y = x + np.array([0.5, -0.5, 0, 0]), y + np.array([0, 0, 0.5, -0.5])
        places = np.array(seen_pixels(target, source, x, y, screen=screen))
        return places[:, ::2] - places[:, 1::2]

    def footprint(self, shape):
        return self.call(np.ones(shape))[1]

    def weight(self, good):
        """Part of the weight of each pixel that is on good pixels."""
        if self.algorithm == "interpolation":
            values, _ = self.call(good.astype(np.float32), order="bilinear")
        else:
            values, _ = self.call(good.astype(np.float32))
        return values

    def _own_wcs(self):
        """Copies for one thread: two threads must not share a WCS of astropy, nor copy one at once."""
        with SerializableLock("esis_ndcube.operations.reprojection"):
            return copy.deepcopy((self.source, self.target))


@dataclass
class _Values:
    grid: _Grid
    dtype: np.dtype

    def __call__(self, data, bad):
        good = ~bad
        values, footprint = self.grid.call(fill_invalid(np.asarray(data, dtype=self.dtype), good))
        # The part of an exact footprint's pixel that is covered.
        values = np.where(footprint >= _MIN_WEIGHT - 1e-6, values, np.nan)
        if self.grid.algorithm == "exact" and not self.grid.same_frame:
            # This function goes the other way, and puts places beyond the source's limb before the target's disk.
            values = np.where(np.isfinite(self.grid.position()).all(axis=0), values, np.nan)
        if not good.all():
            weight = self.grid.weight(good)
            values = np.where(weight >= _MIN_WEIGHT - 1e-6, values, np.nan)
        return values.astype(self.dtype)


@dataclass
class _Sigma:
    grid: _Grid
    dtype: np.dtype

    def __call__(self, sigma, bad):
        values = self._propagate(fill_invalid(np.asarray(sigma, dtype=float), ~bad & np.isfinite(sigma)))
        infinite = np.isinf(sigma) & ~bad
        if infinite.any():
            # A pixel with a part in a pixel of infinite error does not get the error of its neighbors.
            values = np.where(self.grid.weight(~infinite) < 1 - 1e-6, np.inf, values)
        return values.astype(self.dtype)

    def _propagate(self, sigma):
        if self.grid.algorithm == "interpolation":
            order = self.grid.options.get("order", "bilinear")
            position = self.grid.position()
            planes = sigma.reshape(-1, *sigma.shape[-2:])
            values = np.stack([propagate_uncertainty(plane, *position, order=order) for plane in planes])
            return values.reshape(*sigma.shape[:-2], *self.grid.shape)
        sums = _overlap_squares if self.grid.algorithm == "exact" else _kernel_squares
        squares = sums(self.grid, sigma.shape[-2:])
        variance, _ = self.grid.call(np.square(sigma), **self._of_variance())
        # There is no mean variance where nothing but a constant has weight.
        return np.sqrt(np.where(squares == 0, 0, variance * squares))

    def _of_variance(self):
        """Options for the mean variance: the values in place of the surroundings have no variance."""
        options = dict(self.grid.options)
        if self.grid.algorithm == "adaptive":
            options["conserve_flux"] = False
            if options.get("boundary_mode", "").endswith("constant"):
                options["boundary_mode"] = "ignore"
        return options


def _overlap_squares(grid, shape):
    """Sum of the squares of the weights of `reproject.reproject_exact`."""
    from esis_ndcube.operations._weights import overlap_squares

    x, y = grid.position(margin=1, shift=(-0.5, -0.5))
    return overlap_squares(x[1:, 1:], y[1:, 1:], *shape)


def _kernel_squares(grid, shape):
    """The same of `reproject.reproject_adaptive`, for conserved flux times the square of the area of a pixel."""
    from esis_ndcube.operations._weights import kernel_squares

    known = inspect.signature(reproject.reproject_adaptive).parameters
    options = {name: parameter.default for name, parameter in known.items()} | grid.options
    position = np.stack(grid.position(margin=1))
    if options["center_jacobian"]:
        ahead, behind = ([grid.position(shift=step) for step in sign * np.eye(2) / 2] for sign in (1, -1))
        columns = np.subtract(ahead, behind)
    else:
        columns = position[:, 1:-1, 2:] - position[:, 1:-1, :-2], position[:, 2:, 1:-1] - position[:, :-2, 1:-1]
        columns = np.divide(columns, 2)
    jacobian = np.ascontiguousarray(np.transpose(columns, (2, 3, 1, 0)))
    sums = kernel_squares(
        *position[:, 1:-1, 1:-1],
        jacobian,
        *shape,
        gaussian=options["kernel"].lower() == "gaussian",
        width=float(options["kernel_width"]),
        region=float(options["sample_region_width"]),
        filled=options["boundary_mode"].endswith("constant"),
        nearest=options["boundary_mode"] == "nearest",
        cyclic_x=bool(options["x_cyclic"]),
        cyclic_y=bool(options["y_cyclic"]),
    )
    return sums * np.linalg.det(jacobian) ** 2 if options["conserve_flux"] else sums


@dataclass
class _Flags:
    grid: _Grid

    def __call__(self, flags):
        nearest, _ = self.grid.call(np.asarray(flags, dtype=float), "reproject_interp", order="nearest-neighbor")
        outside = ~np.isfinite(nearest)
        return np.where(outside, Flag.OUTSIDE.value, np.nan_to_num(nearest)).astype(flags.dtype)
