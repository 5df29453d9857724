"""Form a Level-3 cube: every step in order, nothing else."""

from functools import partial
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from ndcube.meta import NDMeta
from sunpy.coordinates import HeliographicStonyhurst

from esis_ndcube.corrections.normalize import (
    factor_errors,
    image_means,
    mean_error,
    normalization_factors,
    normalization_step,
)
from esis_ndcube.corrections.vignetting import Vignetting
from esis_ndcube.field_stop.edges import find_shift
from esis_ndcube.field_stop.region import line_region, overlapping_lines
from esis_ndcube.flags import Flag, complete_flags
from esis_ndcube.io._file import cube_file
from esis_ndcube.io.fits import check_output
from esis_ndcube.level3.cube import ESISLevel3Cube
from esis_ndcube.registration import coalign
from esis_ndcube.resample import correlation_factor, detector_coordinates, interpolate, propagate_uncertainty
from esis_ndcube.utils._spline import nearest
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.parallel import delayed, share, stream
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import standard_deviation
from esis_ndcube.wcs import level3_wcs

__all__ = ["form_level3"]

# Arrays of the cube, by the names of their HDUs.
_TYPES = {"DATA": np.float32, "UNCERT": np.float32, "MASK": bool, "FLAGS": np.uint8}
# Metadata that the frames must have.
_NEEDED = "flight", "frame", "file", "mid_time", "exposure"


def form_level3(
    level1,
    reference=None,
    *,
    line=None,
    stage="final",
    reference_channel=None,
    model="independent",
    degree=2,
    max_gap=None,
    rotate=False,
    vignetting=True,
    normalize=True,
    order="bicubic",
    output=None,
    overwrite=False,
    workers=None,
    progress=False,
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
        Frames, shape (time, channel, y, x), in electrons or what `~esis_ndcube.ESISLevel1Cube.to_electrons` makes them
        of. Without uncertainty the result has none; what the mask says of pixels counts beside the flags.
    reference : `~sunpy.map.GenericMap`, `list` of them, `~ndcube.NDCube` or `int`, optional
        Images of the Sun to align with, as for `~esis_ndcube.coalign`; by default the flight's pose is the pointing.
    line : `str`, optional
        The spectral line, by default the one that the flight's pose was measured in.
    stage : `str`, optional
        ``"final"``, or ``"linear"`` for images that are aligned by the affine map to the reference only.
    reference_channel : `int`, optional
        Number of the channel that the others are aligned with, by default the flight's choice.
    model : `str`, optional
        ``"independent"`` or ``"joint"`` final alignments, as for `~esis_ndcube.coalign`.
    degree : `int`, optional
        Degree of the final maps, 2 or 3, as for `~esis_ndcube.coalign`.
    max_gap, rotate : optional
        Largest time between exposure and reference, and whether to model the rotation of the Sun in it, as for
        `~esis_ndcube.coalign`.
    vignetting : `bool` or `~esis_ndcube.Vignetting`, optional
        Whether to divide by the vignetting: the flight's own or the given one.
    normalize : `bool`, optional
        Whether to scale the images to the brightest exposure of the brightest channel.
    order : `int` or `str`, optional
        Order of the interpolating spline, as for `~esis_ndcube.resample.reproject_alignment`.
    output : path-like, optional
        FITS file to write. The images then go to the file as they are made, and need not fit in memory together.
    overwrite : `bool`, optional
        Whether to replace a file that exists.
    workers : `int`, optional
        Number of threads; by default the active `distributed.Client` does the work, or as many threads as there are
        processors. The result has the same bits whatever they are.
    progress : `bool`, optional
        Show progress bars.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        Photons per detector pixel and exposure, shape (time, channel, y, x).
        Outside of the field stop the data are kept and masked; where there is no frame they are NaN and masked.
        With ``output`` it is read lazily from the file, unless that is compressed: what
        ``ESISLevel3Cube.read(output, lazy=True)`` gives.

    Raises
    ------
    OSError
        If the file exists and is not to be replaced, or can not be written; before any work is done, if possible.
    ValueError
        If the line, stage or channel is unknown, the vignetting is another line's or flight's, a reference does not
        overlap the field of view, the frames are not to be had in electrons, or the output is one of the inputs.
    TypeError
        If the frames are no cube.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel1Cube, form_level3
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> cube = form_level3(level1, sunpy.map.Map("aia_304.fits"), line="O V")  # doctest: +SKIP

    With memory for the frames in work only:

    >>> level1 = ESISLevel1Cube.from_raw("frames", lazy=True)  # doctest: +SKIP
    >>> cube = form_level3(level1, sunpy.map.Map("aia_304.fits"), output="l3.fits")  # doctest: +SKIP
    """
    level1 = _checked(level1)
    flight = level1.flight
    line = flight.line(flight.pose_line if line is None else line)
    if stage not in ("linear", "final"):
        msg = f"got stage {stage!r}, expected 'linear' or 'final'"
        raise ValueError(msg)
    vignetting = _vignetting(vignetting, flight, line)
    if output is not None:
        check_output(output, overwrite, inputs=_inputs(level1, reference, output))
    alignments = coalign(
        level1,
        reference,
        line=line.name,
        reference_channel=reference_channel,
        model=model,
        degree=degree,
        max_gap=max_gap,
        rotate=rotate,
        workers=workers,
        progress=progress,
    )
    chosen = alignments.final if stage == "final" else alignments.linear
    if not any(alignment.converged for alignment in chosen.flat):
        reasons = ", ".join(sorted({alignment.reason for alignment in chosen.flat}))
        msg = f"no frame could be aligned with {alignments.reference} ({reasons}): is it an image of the same Sun?"
        raise ValueError(msg)
    shape = (*chosen.shape, *flight.grid_shape)
    steps = [
        ProcessingStep(
            "coalign",
            {
                "reference": alignments.reference,
                "reference_channel": alignments.reference_channel,
                "stage": stage,
                "model": model,
                "degree": degree,
                "max_gap": None if max_gap is None else u.Quantity(max_gap).to_value(u.s),
                "rotate": rotate,
            },
        ),
        ProcessingStep("resample", {"order": order}),
    ]
    if vignetting is not None:
        slopes = {str(number): slope for number, slope in vignetting.slopes.items()}
        steps.append(ProcessingStep("correct_vignetting", {"slopes": slopes, "source": vignetting.source}))
    if normalize:
        steps.append(normalization_step())

    sigma = standard_deviation(level1, level1.unit)
    types = {name: dtype for name, dtype in _TYPES.items() if name != "UNCERT" or sigma is not None}
    images = partial(
        _fill, level1=level1, sigma=sigma, alignments=chosen, line=line, vignetting=vignetting, order=order
    )
    images = partial(images, normalize=normalize, workers=workers, progress=progress)
    cube = partial(
        _cube, level1=level1, alignments=alignments, line=line, stage=stage, vignetting=vignetting, steps=steps
    )
    if output is None:
        planes = {name: np.empty(shape, dtype) for name, dtype in types.items()}
        return cube(planes, measured=images(planes))
    # What the file is begun with: the values come image by image, and the factors last.
    empty = {name: np.broadcast_to(np.zeros((), dtype), shape) for name, dtype in types.items()}
    with cube_file(cube(empty, measured=_unmeasured(shape[:2], normalize)), output, overwrite=overwrite) as file:
        file.finish(cube(empty, measured=images(file.planes)))
    return ESISLevel3Cube.read(output, lazy=not str(output).endswith(".gz"))


def _checked(level1):
    """The frames in electrons."""
    check_cube(level1, 1)
    if lacking := [key for key in _NEEDED if level1._get_meta(key) is None]:
        msg = f"got a Level-1 cube without {', '.join(lacking)} in its metadata, as from_raw and from_images set them"
        raise ValueError(msg)
    return level1.to_electrons()


def _inputs(level1, reference, output):
    """What an output may not replace; a cube in memory knows the names of its raw frames only."""
    references = reference if isinstance(reference, list | tuple) else [reference]
    named = [output] if Path(output).name in np.asarray(level1.meta["file"]) else []
    return [level1, *references, *named]


def _vignetting(vignetting, flight, line):
    if vignetting is False or vignetting is None:
        return None
    if vignetting is True:
        return Vignetting.of_flight(flight, line.name)
    if not isinstance(vignetting, Vignetting):
        msg = f"got vignetting of type {type(vignetting).__name__}, expected True, False or a Vignetting"
        raise TypeError(msg)
    vignetting.check(flight, line.name)
    return vignetting


def _unmeasured(shape, normalize):
    """Metadata that come out of the resampling, one value for each image, before it."""
    names = ["field_stop_u", "field_stop_v", *(["normalization", "normalization_error"] if normalize else [])]
    return {name: np.full(shape, np.nan) for name in names}


def _fill(planes, *, level1, sigma, alignments, line, vignetting, order, normalize, workers, progress):
    """Resample every frame into the arrays of the cube, and scale them; returns what was measured of every image."""
    measured = _unmeasured(alignments.shape, normalize)
    shape = planes["DATA"].shape[2:]
    missing = {
        "DATA": np.full(shape, np.nan, np.float32),
        "UNCERT": np.full(shape, np.nan, np.float32),
        "FLAGS": np.full(shape, Flag.MISSING, np.uint8),
    }
    measured_planes = [name for name in ("DATA", "UNCERT") if name in planes]
    aligned = [index for index, a in np.ndenumerate(alignments) if a is not None and a.converged]
    tasks = (
        _resampling(level1, sigma, index, alignments[index], line, vignetting, order, workers) for index in aligned
    )
    results = stream(tasks, total=len(aligned), workers=workers, description="Resampling" if progress else None)
    for index, alignment in np.ndenumerate(alignments):
        images = missing
        if alignment is not None and alignment.converged:
            images, (measured["field_stop_u"][index], measured["field_stop_v"][index]) = next(results)
        for name in (*measured_planes, "FLAGS"):
            planes[name][index] = images[name]
        planes["MASK"][index] = (images["FLAGS"] & Flag.INVALID).astype(bool)
    if not normalize:
        return measured
    error = partial(_mean_error, planes["UNCERT"], alignments, order) if "UNCERT" in planes else None
    means, errors, _ = image_means(planes["DATA"], planes["MASK"], planes["FLAGS"], error=error)
    factors = normalization_factors(means)
    for index, factor in np.ndenumerate(factors):
        for name in measured_planes:
            planes[name][index] = planes[name][index] * np.float32(factor)
        if not np.isfinite(factor):
            # An image that could not be measured has no factor, and is invalid.
            planes["MASK"][index] = True
            planes["FLAGS"][index] = planes["FLAGS"][index] | np.uint8(Flag.MISSING)
    return measured | {"normalization": factors, "normalization_error": factor_errors(means, errors)}


def _mean_error(sigma, alignments, order, index, region):
    rows, columns = np.nonzero(region)
    alignment = alignments[index]
    factor = correlation_factor(alignment, alignment.grid, order=order, position=(columns.mean(), rows.mean()))
    return mean_error(sigma[index], region, factor)


def _resampling(level1, sigma, index, alignment, line, vignetting, order, workers):
    """The task to resample one frame, of which it needs the line's columns only."""
    columns = slice(*line.columns)
    arrays = level1.data, sigma, level1.flags, level1.mask
    parts = [
        share(array[(*index, slice(None), columns)], workers=workers) if np.ndim(array) else array for array in arrays
    ]
    task = partial(_resample, flight=level1.flight, alignment=alignment, line=line, vignetting=vignetting, order=order)
    return delayed(task, *parts)


def _resample(frame, noise, flags, mask, *, flight, alignment, line, vignetting, order):
    """Arrays of one image, by the names of their HDUs, and the shift of its field stop."""
    u_pixel, v_pixel = detector_coordinates(alignment, alignment.grid, flight.grid_shape)
    # Beyond the line's columns another line is imaged: nothing there belongs to this cube.
    first, stop = line.columns
    inside = (u_pixel >= first - 0.5) & (u_pixel <= stop - 0.5)
    position = u_pixel - first, v_pixel
    electrons = flight.electrons_per_photon(line).value
    bad = complete_flags(flags, frame, mask)
    # Invalid pixels are masked below and not left out here: Level-1 has mended what would spoil its neighbors.
    data, footprint = interpolate((frame / electrons).astype(np.float32), *position, order=order)
    footprint &= inside
    images = {"DATA": data}
    if noise is not None:
        images["UNCERT"] = propagate_uncertainty(noise / electrons, *position, order=order)
    if vignetting is not None:
        correction = vignetting.evaluate(alignment.channel, u_pixel).astype(np.float32)
        for name, image in images.items():
            image /= correction if name == "DATA" else np.abs(correction)
    for image in images.values():
        image[~footprint] = np.nan
    flags = np.where(footprint, nearest(bad.astype(np.uint8), *position), np.uint8(Flag.OUTSIDE))
    # The field stop moves on the detector, apart from the Sun.
    shift = find_shift(frame, bad, flight=flight, channel=alignment.channel, line=line, first_column=first)
    region = partial(line_region, flight, alignment.channel, x=u_pixel, y=v_pixel, shift=shift)
    flags[~region(line)] |= np.uint8(Flag.OUTSIDE)
    for rank, other in enumerate(overlapping_lines(flight, line)):
        flags[region(other) & footprint] |= np.uint8(Flag.OVERLAP if rank == 0 else Flag.OVERLAP_FAINT)
    return images | {"FLAGS": flags}, shift


def _cube(planes, *, level1, alignments, line, stage, vignetting, steps, measured):
    wcs = level3_wcs(
        alignments.grid,
        level1.time,
        level1.channel,
        observer=_observer(alignments.grid),
        exposure=np.nanmax(level1.exposure, axis=1),
    )
    return ESISLevel3Cube(
        planes["DATA"],
        wcs=wcs,
        uncertainty=StdDevUncertainty(planes["UNCERT"], copy=False) if "UNCERT" in planes else None,
        mask=planes["MASK"],
        flags=planes["FLAGS"],
        meta=_meta(level1, alignments, line, stage, vignetting, measured, steps),
        unit=u.photon / u.pix,
    )


def _observer(grid):
    """The references' observer."""
    aux, time = grid.wcs.aux, grid.wcs.dateavg
    return HeliographicStonyhurst(aux.hgln_obs * u.deg, aux.hglt_obs * u.deg, aux.dsun_obs * u.m, obstime=time)


def _meta(level1, alignments, line, stage, vignetting, measured, steps):
    values = {key: level1.meta[key] for key in _NEEDED}
    axes = {"frame": 0, "file": (0, 1), "mid_time": (0, 1), "exposure": (0, 1)}
    values |= {
        "level": 3,
        "line": line.name,
        "stage": stage,
        "reference": alignments.reference,
        "alignment": alignments.final,
        "alignment_linear": alignments.linear,
        "vignetting": vignetting,
        "normalization": None,
        "history": (*level1.history, *steps),
    }
    values |= measured
    axes |= dict.fromkeys(("alignment", "alignment_linear", *measured), (0, 1))
    return NDMeta(values, axes=axes)
