"""Form a Level-3 cube: every step in order, nothing else."""

import contextlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from ndcube.meta import NDMeta

from esis_ndcube.corrections import CORRECTIONS
from esis_ndcube.corrections.correction import CorrectionImage, image_facts
from esis_ndcube.field_stop.edges import find_shift
from esis_ndcube.field_stop.region import line_region, overlapping_lines
from esis_ndcube.flags import Flag, complete_flags
from esis_ndcube.io._file import cube_file
from esis_ndcube.io.fits import check_output
from esis_ndcube.level3.cube import ESISLevel3Cube
from esis_ndcube.registration import Coalignment, coalign
from esis_ndcube.resample import detector_coordinates, interpolate, propagate_uncertainty, resampled_correlation
from esis_ndcube.utils._spline import nearest
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.output import hold_space
from esis_ndcube.utils.parallel import delayed, share, stream
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import standard_deviation
from esis_ndcube.wcs import level3_wcs
from esis_ndcube.wcs._sun import grid_observer
from esis_ndcube.wcs.meta import with_entries

__all__ = ["form_level3"]

# Arrays of the cube, by the names of their HDUs.
_TYPES = {"DATA": np.float32, "UNCERT": np.float32, "MASK": bool, "FLAGS": np.uint8}
# The same arrays, by the names that corrections use.
_PARTS = {"data": "DATA", "sigma": "UNCERT", "mask": "MASK", "flags": "FLAGS"}
# Metadata that the frames must have.
_NEEDED = "flight", "frame_number", "file", "mid_time", "exposure_time"


def form_level3(
    level1,
    reference=None,
    *,
    line=None,
    stage="final",
    vignetting=True,
    normalize=True,
    order="bicubic",
    output=None,
    overwrite=False,
    workers=None,
    progress=False,
    **corrections,
):
    """
    Form a Level-3 cube from Level-1 frames.

    The frames are co-aligned (`~esis_ndcube.coalign`), each is resampled once from its own pixels to the flight's
    output grid, invalid pixels are masked and overlapping spectral lines flagged, and the images are divided by the
    vignetting and scaled to one brightness.
    Mask and flags are placed by the sides of the field stop that are found in each frame
    (`~esis_ndcube.field_stop.find_shift`).

    Parameters
    ----------
    level1 : `~esis_ndcube.ESISLevel1Cube`
        Frames, shape (time, channel, y, x), in electrons or in a unit that `~esis_ndcube.ESISLevel1Cube.to_electrons`
        converts. Without uncertainty the result has none. The mask of the frames counts in addition to the flags.
    reference : `~esis_ndcube.registration.Coalignment`, image or images, `~ndcube.NDCube` or `int`, optional
        Result of `~esis_ndcube.coalign`, perhaps edited; or images of the Sun to align with, as for
        `~esis_ndcube.coalign`, with its default choices. By default the flight's pose gives the pointing.
    line : `str`, optional
        The spectral line; by default the line of the coalignment, or the line in which the flight's pose was measured.
    stage : `str`, optional
        ``"final"``, or ``"linear"`` for images that are aligned only by the affine map to the reference.
    vignetting : `bool` or `~esis_ndcube.Vignetting`, optional
        Whether to divide by the vignetting: the flight's own, or the given one.
    normalize : `bool` or `~esis_ndcube.corrections.normalize.Normalization`, optional
        Whether to scale the images to the brightest exposure of the brightest channel, or given factors.
    order : `int` or `str`, optional
        Order of the interpolating spline, as for `~esis_ndcube.resample.reproject_alignment`.
    output : path-like, optional
        FITS file to write. The images then go to the file as they are made, and need not fit in memory together.
    overwrite : `bool`, optional
        Whether to replace a file that exists.
    workers : `int`, optional
        Number of threads. By default the active `distributed.Client` does the work, or as many threads as there are
        processors. The bits of the result do not depend on this choice.
    progress : `bool`, optional
        Show progress bars.
    **corrections
        Other corrections of ``esis_ndcube.corrections.CORRECTIONS``, by the names of their options: ``masks`` takes the
        polygons that `~esis_ndcube.corrections.masks.mask_polygons` takes.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        Photons per detector pixel and exposure, shape (time, channel, y, x).
        Outside of the field stop the data are kept and masked; without a frame the data are NaN and masked.
        With ``output`` the cube is read lazily from the file, as by ``ESISLevel3Cube.read(output, lazy=True)``, unless
        the file is compressed.

    Raises
    ------
    OSError
        If the file exists and may not be replaced, or cannot be written; before any work is done, if possible.
    ValueError
        If the line or stage is unknown, the vignetting is that of another line or flight, the coalignment is of other
        frames or another line, a reference does not overlap the field of view, the frames cannot be converted to
        electrons, or the output is one of the inputs.
    TypeError
        If the frames are not a cube, or there is no such correction.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel1Cube, coalign, form_level3
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> cube = form_level3(level1, sunpy.map.Map("aia_304.fits"), line="O V")  # doctest: +SKIP

    With other choices of the fit, and a look at its result:

    >>> found = coalign(level1, sunpy.map.Map("aia_304.fits"), model="independent")  # doctest: +SKIP
    >>> cube = form_level3(level1, found.without(frame_number=138))  # doctest: +SKIP

    With memory for a few frames at a time only:

    >>> level1 = ESISLevel1Cube.from_raw("frames", lazy=True)  # doctest: +SKIP
    >>> cube = form_level3(level1, sunpy.map.Map("aia_304.fits"), output="l3.fits")  # doctest: +SKIP
    """
    level1 = _checked(level1)
    found = reference if isinstance(reference, Coalignment) else None
    line = _line(level1.flight, line, found)
    if stage not in ("linear", "final"):
        msg = f"got stage {stage!r}, expected 'linear' or 'final'"
        raise ValueError(msg)
    choices = {"vignetting": vignetting, "normalize": normalize} | corrections
    chosen = _corrections(choices, level1.flight, line)
    if output is not None:
        files = [choice for choice in choices.values() if isinstance(choice, (str, Path))]
        inputs = [*_inputs(level1, reference, output), *files]
        check_output(output, overwrite, inputs=inputs, size=level3_size(level1))
    if found is None:
        held = contextlib.nullcontext() if output is None else hold_space(output, level3_size(level1))
        with held:
            found = coalign(level1, reference, line=line.name, workers=workers, progress=progress)
    recipe = _Recipe(level1, _of_frames(found, level1), line, stage, chosen, order)
    if output is None:
        planes = {name: np.empty(recipe.shape, dtype) for name, dtype in recipe.types.items()}
        return recipe.cube(planes, *_fill(planes, recipe, workers=workers, progress=progress))
    # The file is begun without values: images follow one by one, and measurements of the images come last.
    empty = {name: np.broadcast_to(np.zeros((), dtype), recipe.shape) for name, dtype in recipe.types.items()}
    with cube_file(recipe.cube(empty, *recipe.unmeasured()), output, overwrite=overwrite) as file:
        file.finish(recipe.cube(empty, *_fill(file.planes, recipe, workers=workers, progress=progress)))
    return ESISLevel3Cube.read(output, lazy=not str(output).endswith(".gz"))


def level3_size(level1):
    """Size in bytes of the arrays of the cube that is formed from frames."""
    return int(np.prod(level1.shape[:2])) * image_size(level1.flight, uncertainty=level1.uncertainty is not None)


def image_size(flight, *, uncertainty=True):
    """Size in bytes of the arrays of one image of a cube."""
    names = [name for name in _TYPES if name != "UNCERT" or uncertainty]
    return int(np.prod(flight.grid_shape)) * sum(np.dtype(_TYPES[name]).itemsize for name in names)


@dataclass(frozen=True, eq=False)
class _Recipe:
    """The ingredients of a cube, and the choices that it is made with."""

    level1: object
    found: Coalignment
    line: object
    stage: str
    corrections: dict
    order: int | str

    def __post_init__(self):
        if not self.aligned():
            reasons = ", ".join(sorted({"left out" if one is None else one.reason for one in self.alignments.flat}))
            msg = f"no frame could be aligned with {self.found.reference} ({reasons}): is it an image of the same Sun?"
            raise ValueError(msg)

    def aligned(self):
        """Indices of the images, in order."""
        return [index for index, one in np.ndenumerate(self.alignments) if one is not None and one.converged]

    @property
    def alignments(self):
        """The alignments that the images are made with."""
        return getattr(self.found, self.stage)

    @cached_property
    def sigma(self):
        """Standard deviation of the frames, or None."""
        return standard_deviation(self.level1, self.level1.unit)

    @cached_property
    def shared(self):
        """Correlation of the noise of the frames by channel, None if pixels are independent or it is not known."""
        known = self.level1.noise_correlation
        return [None] * self.level1.shape[1] if known is None else known

    @cached_property
    def noise_correlation(self):
        """Metadata of that name, by channels, or None."""
        if self.sigma is None:
            return None
        result = {}
        for column, number in enumerate(self.level1.channel):
            # One image stands for all exposures, whose scales and rolls are nearly the same; a channel without image
            # has no pixels.
            index = next((index for index in self.aligned() if index[1] == column), self.aligned()[0])
            alignment = self.alignments[index]
            result[str(number)] = resampled_correlation(alignment, order=self.order, correlation=self.shared[column])
        return result

    @property
    def shape(self):
        """Shape of the cube."""
        return *self.alignments.shape, *self.level1.flight.grid_shape

    @property
    def types(self):
        """Types of the arrays of the cube, by the names of their HDUs."""
        return {name: dtype for name, dtype in _TYPES.items() if name != "UNCERT" or self.sigma is not None}

    @property
    def known(self):
        """The corrections that are known before there are images; they are applied while the images are resampled."""
        return [correction for correction in self.corrections.values() if correction is not None]

    @property
    def to_fit(self):
        """The kinds of the other corrections."""
        return [kind for kind, correction in self.corrections.items() if correction is None]

    def unmeasured(self):
        """Placeholders for the shifts of the field stop and the fitted corrections, in the form that `cube` takes."""
        shape = self.alignments.shape
        return np.full((2, *shape), np.nan), [kind.unknown(shape) for kind in self.to_fit]

    def cube(self, planes, shifts, fitted=()):
        """The cube of arrays, shifts of the field stop, shape (2, time, channel), and fitted corrections."""
        level1, grid = self.level1, self.found.grid
        wcs = level3_wcs(
            grid,
            level1.time,
            level1.channel,
            observer=grid_observer(grid, grid.wcs.dateavg),
            exposure_time=np.nanmax(level1.exposure_time, axis=1),
        )
        return ESISLevel3Cube(
            planes["DATA"],
            wcs=wcs,
            uncertainty=StdDevUncertainty(planes["UNCERT"], copy=False) if "UNCERT" in planes else None,
            mask=planes["MASK"],
            flags=planes["FLAGS"],
            meta=self._meta(shifts, [*self.known, *fitted]),
            unit=u.photon / u.pix,
        )

    def _meta(self, shifts, corrections):
        chosen = {name: getattr(self.found, name) for name in ("reference", "reference_channel")}
        steps = [
            ProcessingStep("coalign", {**chosen, "stage": self.stage, **self.found.options}),
            ProcessingStep("resample", {"order": self.order}),
            *(correction.history_step() for correction in corrections),
        ]
        values = {key: self.level1.meta[key] for key in _NEEDED}
        axes = {"frame_number": 0, "file": (0, 1), "mid_time": (0, 1), "exposure_time": (0, 1)}
        values |= {
            "level": 3,
            "line": self.line.name,
            "stage": self.stage,
            "reference": self.found.reference,
            "alignment_final": self.found.final,
            "alignment_linear": self.found.linear,
            **{kind.key: None for kind in CORRECTIONS if kind.key},
            "history": (*self.level1.history, *steps),
            "field_stop_u": shifts[0],
            "field_stop_v": shifts[1],
        }
        if self.noise_correlation is not None:
            values["noise_correlation"] = self.noise_correlation
        axes |= dict.fromkeys(("alignment_final", "alignment_linear", "field_stop_u", "field_stop_v"), (0, 1))
        entries = {key: entry for correction in corrections for key, entry in correction.entries().items()}
        return with_entries(NDMeta(values, axes=axes), entries)


def _checked(level1):
    """The frames in electrons."""
    check_cube(level1, 1)
    if lacking := [key for key in _NEEDED if level1._get_meta(key) is None]:
        msg = (
            f"got a Level-1 cube without {', '.join(lacking)} in its metadata, expected them: from_raw and from_images "
            "set them"
        )
        raise ValueError(msg)
    return level1.to_electrons()


def _inputs(level1, reference, output):
    """Files that an output may not replace; a cube in memory knows only the names of its raw frames."""
    references = reference if isinstance(reference, list | tuple) else [reference]
    named = [output] if Path(output).name in np.asarray(level1.meta["file"]) else []
    return [level1, *references, *named]


def _corrections(choices, flight, line):
    """The wanted corrections in order, by their kinds; None for corrections that are fitted to the images."""
    if unknown := set(choices) - {kind.option for kind in CORRECTIONS}:
        msg = f"form_level3() has no option {', '.join(map(repr, sorted(unknown)))}"
        raise TypeError(msg)
    choices = {kind: choices.get(kind.option, kind.default) for kind in CORRECTIONS}
    return {
        kind: kind.choose(choice, flight, line.name)
        for kind, choice in choices.items()
        if choice is not None and choice is not False
    }


def _line(flight, line, found):
    """The line to make images of; the line of a coalignment, if there is one."""
    if found is None:
        return flight.line(flight.pose_line if line is None else line)
    if line is not None and flight.line(line).name != found.line:
        msg = f"got line {line!r} and a coalignment of {found.line!r}: leave the line out, or coalign in that line"
        raise ValueError(msg)
    return flight.line(found.line)


def _of_frames(found, level1):
    """The coalignment; one of other frames is refused."""
    frame_numbers = np.broadcast_to(level1.frame_number[:, None], level1.shape[:2])
    channels = np.broadcast_to(level1.channel, level1.shape[:2])
    for array in (found.linear, found.final):
        if array.shape != level1.shape[:2]:
            msg = f"got a coalignment of shape {array.shape} and frames of shape {level1.shape[:2]}, expected the same"
            raise ValueError(msg)
        for index, alignment in np.ndenumerate(array):
            if alignment is not None and (alignment.frame_number, alignment.channel) != (
                frame_numbers[index],
                channels[index],
            ):
                msg = (
                    f"got a coalignment with frame {alignment.frame_number}, channel {alignment.channel} in the place "
                    f"of frame {frame_numbers[index]}, channel {channels[index]}: take the coalignment of these frames"
                )
                raise ValueError(msg)
    return found


def _fill(planes, recipe, *, workers, progress):
    """Resample every frame into the arrays of the cube and correct them; the result is for `_Recipe.cube`."""
    alignments, aligned = recipe.alignments, recipe.aligned()
    shifts, fitted = np.full((2, *alignments.shape), np.nan), []
    shape = recipe.shape[2:]
    missing = {
        "DATA": np.full(shape, np.nan, np.float32),
        "UNCERT": np.full(shape, np.nan, np.float32),
        "FLAGS": np.full(shape, Flag.MISSING, np.uint8),
    }
    measured_planes = [name for name in ("DATA", "UNCERT") if name in planes]
    tasks = (_resampling(recipe, index, workers) for index in aligned)
    progress = "Resampling" if progress else None
    with stream(tasks, total=len(aligned), workers=workers, description=progress) as results:
        for index in np.ndindex(alignments.shape):
            images = missing
            if index in aligned:
                images, shifts[:, *index] = next(results)
            for name in (*measured_planes, "FLAGS"):
                planes[name][index] = images[name]
            planes["MASK"][index] = (images["FLAGS"] & Flag.INVALID).astype(bool)
    for kind in recipe.to_fit:
        cube = recipe.cube({name: _readable(plane) for name, plane in planes.items()}, shifts, fitted)
        # This is done here, because other machines of a cluster need not see the file that is being written.
        with dask.config.set(scheduler="synchronous"):
            fitted.append(kind.fit(cube))
        facts = image_facts(cube)
        for index in np.ndindex(alignments.shape):
            parts = {name: planes[plane][index] for name, plane in _PARTS.items() if plane in planes}
            image = fitted[-1].apply(CorrectionImage(**parts, **facts[index]))
            for name, part in parts.items():
                if getattr(image, name) is not part:
                    planes[_PARTS[name]][index] = getattr(image, name)
    return shifts, fitted


def _readable(plane):
    """An array of images, which is lazy if they are in a file."""
    if isinstance(plane, np.ndarray):
        return plane
    return da.from_array(plane, chunks=(1, 1, *plane.shape[2:]), name=False, asarray=False)


def _resampling(recipe, index, workers):
    """The task to resample one frame; it needs only the columns of the line."""
    level1, columns = recipe.level1, slice(*recipe.line.columns)
    arrays = level1.data, recipe.sigma, level1.flags, level1.mask
    parts = [
        share(array[(*index, slice(None), columns)], workers=workers) if np.ndim(array) else array for array in arrays
    ]
    task = partial(
        _resample,
        flight=level1.flight,
        alignment=recipe.alignments[index],
        line=recipe.line,
        index=index,
        corrections=recipe.known,
        order=recipe.order,
        correlation=recipe.shared[index[1]],
    )
    return delayed(task, *parts)


def _resample(frame, noise, flags, mask, *, flight, alignment, line, index, corrections, order, correlation):
    """Arrays of one image, by the names of their HDUs, and the shift of its field stop."""
    u_pixel, v_pixel = detector_coordinates(alignment, alignment.grid, flight.grid_shape)
    # Beyond the line's columns the detector shows another line: nothing there belongs to this cube.
    first, stop = line.columns
    inside = (u_pixel >= first - 0.5) & (u_pixel <= stop - 0.5)
    position = u_pixel - first, v_pixel
    electrons = flight.electrons_per_photon(line).value
    bad = complete_flags(flags, frame, mask)
    # Invalid pixels are masked below and not left out here: Level 1 has mended those that would spoil their neighbors.
    data, footprint = interpolate((frame / electrons).astype(np.float32), *position, order=order)
    footprint &= inside
    sigma = None
    if noise is not None:
        sigma = propagate_uncertainty(noise / electrons, *position, order=order, correlation=correlation)
    flags = np.where(footprint, nearest(bad.astype(np.uint8), *position), np.uint8(Flag.OUTSIDE))
    # The field stop moves on the detector independently of the Sun.
    shift = find_shift(frame, bad, flight=flight, channel=alignment.channel, line=line, first_column=first)
    region = partial(line_region, flight, alignment.channel, x=u_pixel, y=v_pixel, shift=shift)
    flags[~region(line)] |= np.uint8(Flag.OUTSIDE)
    for rank, other in enumerate(overlapping_lines(flight, line)):
        flags[region(other) & footprint] |= np.uint8(Flag.OVERLAP if rank == 0 else Flag.OVERLAP_FAINT)
    image = CorrectionImage(
        data,
        sigma,
        (flags & Flag.INVALID).astype(bool),
        flags,
        index=index,
        channel=alignment.channel,
        frame_number=alignment.frame_number,
        alignment=alignment,
        wcs=alignment.grid,
        position=(u_pixel, v_pixel),
    )
    for correction in corrections:
        image = correction.apply(image)
    images = {"DATA": image.data} | ({} if image.sigma is None else {"UNCERT": image.sigma})
    for array in images.values():
        array[~footprint] = np.nan
    return images | {"FLAGS": image.flags}, shift
