"""Form a Level-3 cube: every step in order, nothing else."""

from functools import partial

import numpy as np

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from ndcube.meta import NDMeta

from esis_ndcube.flags import Flag
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.mask import line_region, overlapping_lines
from esis_ndcube.normalize import clean_means, normalization_factors
from esis_ndcube.parallel import compute, delayed
from esis_ndcube.provenance import ProcessingStep
from esis_ndcube.registration import coalign
from esis_ndcube.resample import detector_coordinates, interpolate, propagate_uncertainty
from esis_ndcube.vignetting import Vignetting
from esis_ndcube.wcs import level3_wcs

__all__ = ["form_level3"]


def form_level3(
    level1,
    reference=None,
    *,
    line=None,
    stage="final",
    reference_channel=None,
    model="independent",
    max_gap=None,
    rotate=False,
    vignetting=True,
    normalize=True,
    order="bicubic",
    workers=None,
    progress=False,
):
    """
    Form a Level-3 cube from Level-1 frames.

    The frames are co-aligned (`~esis_ndcube.coalign`), each is resampled once from its own pixels to the flight's
    output grid, invalid pixels are masked and overlapping spectral lines flagged, and the images are divided by the
    vignetting and scaled to one brightness.

    Parameters
    ----------
    level1 : `~esis_ndcube.ESISLevel1Cube`
        Frames, shape (time, channel, y, x), in electrons.
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
    max_gap, rotate : optional
        Largest time between exposure and reference, and whether to model the rotation of the Sun in it, as for
        `~esis_ndcube.coalign`.
    vignetting : `bool` or `~esis_ndcube.Vignetting`, optional
        Whether to divide by the vignetting: the flight's own or the given one.
    normalize : `bool`, optional
        Whether to scale the images to the brightest exposure of the brightest channel.
    order : `int` or `str`, optional
        Order of the interpolating spline, as for `~esis_ndcube.reproject_alignment`.
    workers : `int`, optional
        Number of threads; by default Dask's active scheduler decides.
    progress : `bool`, optional
        Show progress bars.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        Photons per detector pixel and exposure, shape (time, channel, y, x).
        Outside of the field stop the data are kept and masked; where there is no frame they are NaN and masked.

    Raises
    ------
    ValueError
        If the line, stage or channel is unknown, the vignetting is another line's or flight's, or a reference does
        not overlap the field of view.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel1Cube, form_level3
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> cube = form_level3(level1, sunpy.map.Map("aia_304.fits"), line="O V")  # doctest: +SKIP
    """
    flight = level1.flight
    line = flight.line(flight.pose_line if line is None else line)
    if stage not in ("linear", "final"):
        msg = f"got stage {stage!r}, expected 'linear' or 'final'"
        raise ValueError(msg)
    vignetting = _vignetting(vignetting, flight, line)
    alignments = coalign(
        level1,
        reference,
        line=line.name,
        reference_channel=reference_channel,
        model=model,
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
    data, sigma, flags = _resample_all(level1, chosen, line, vignetting, order, workers, progress)
    mask = (flags & Flag.INVALID).astype(bool)
    steps = [
        ProcessingStep(
            "coalign",
            {
                "reference": alignments.reference,
                "reference_channel": alignments.reference_channel,
                "stage": stage,
                "model": model,
                "max_gap": None if max_gap is None else u.Quantity(max_gap).to_value(u.s),
                "rotate": rotate,
            },
        ),
        ProcessingStep("resample", {"order": order}),
    ]
    if vignetting is not None:
        slopes = {str(number): slope for number, slope in vignetting.slopes.items()}
        steps.append(ProcessingStep("correct_vignetting", {"slopes": slopes, "source": vignetting.source}))
    factors = None
    if normalize:
        factors = normalization_factors(clean_means(data, mask, flags))
        steps.append(ProcessingStep("normalize_intensities"))
        scale = factors[..., None, None].astype(np.float32)
        # An image that could not be measured has no factor, and is invalid.
        data *= scale
        sigma *= scale
        unknown = ~np.isfinite(factors)
        mask[unknown] = True
        flags[unknown] |= np.uint8(Flag.MISSING)
    meta = _meta(level1, alignments, line, stage, vignetting, factors, steps)
    wcs = level3_wcs(
        alignments.grid,
        level1.time,
        level1.channel,
        observer=_observer(alignments.grid),
        exposure=np.nanmax(level1.exposure, axis=1),
    )
    return ESISLevel3Cube(
        data,
        wcs=wcs,
        uncertainty=StdDevUncertainty(sigma),
        mask=mask,
        flags=flags,
        meta=meta,
        unit=u.photon / u.pix,
    )


def _vignetting(vignetting, flight, line):
    if vignetting is False or vignetting is None:
        return None
    if vignetting is True:
        return Vignetting.of_flight(flight, line.name)
    if not isinstance(vignetting, Vignetting):
        msg = f"got vignetting of type {type(vignetting).__name__}, expected True, False or a Vignetting"
        raise TypeError(msg)
    if vignetting.flight != flight or vignetting.line != line.name:
        msg = (
            f"got the vignetting of {vignetting.line} of flight {vignetting.flight.name}, "
            f"expected that of {line.name} of flight {flight.name}"
        )
        raise ValueError(msg)
    return vignetting


def _resample_all(level1, alignments, line, vignetting, order, workers, progress):
    """Resample every frame straight into the arrays of the cube."""
    shape = (*alignments.shape, *level1.flight.grid_shape)
    data = np.full(shape, np.nan, dtype=np.float32)
    sigma = np.full(shape, np.nan, dtype=np.float32)
    flags = np.full(shape, Flag.MISSING, dtype=np.uint8)
    tasks = [
        delayed(partial(_resample_into, (data, sigma, flags), level1, index, alignment, line, vignetting, order))
        for index, alignment in np.ndenumerate(alignments)
        if alignment is not None and alignment.converged
    ]
    compute(tasks, workers=workers, description="Resampling" if progress else None)
    return data, sigma, flags


def _resample_into(target, level1, index, alignment, line, vignetting, order):
    data, sigma, flags = (array[index] for array in target)
    flight = level1.flight
    wcs = alignment.grid
    u_pixel, v_pixel = detector_coordinates(alignment, wcs, data.shape)
    # Beyond the line's columns another line is imaged: nothing there belongs to this cube.
    first, stop = line.columns
    columns = slice(first, stop)
    inside = (u_pixel >= first - 0.5) & (u_pixel <= stop - 0.5)
    position = u_pixel - first, v_pixel
    frame = level1.data[index][:, columns] / flight.electrons_per_photon(line).value
    noise = level1.uncertainty.array[index][:, columns] / flight.electrons_per_photon(line).value
    bad = level1.flags[index][:, columns]
    # Invalid pixels are masked below and not left out here: Level-1 has mended what would spoil its neighbors.
    array, footprint = interpolate(frame.astype(np.float32), *position, order=order)
    footprint &= inside
    error = propagate_uncertainty(noise, *position, order=order)
    if vignetting is not None:
        correction = vignetting.evaluate(alignment.channel, u_pixel).astype(np.float32)
        array /= correction
        error /= np.abs(correction)
    data[footprint], sigma[footprint] = array[footprint], error[footprint]
    nearest = bad[
        np.clip(np.rint(v_pixel), 0, bad.shape[0] - 1).astype(int),
        np.clip(np.rint(position[0]), 0, bad.shape[1] - 1).astype(int),
    ]
    result = np.where(footprint, nearest, Flag.OUTSIDE).astype(flags.dtype)
    result[~line_region(flight, alignment.channel, line, u_pixel, v_pixel)] |= np.uint8(Flag.OUTSIDE)
    for rank, other in enumerate(overlapping_lines(flight, line)):
        overlap = line_region(flight, alignment.channel, other, u_pixel, v_pixel)
        result[overlap & footprint] |= np.uint8(Flag.OVERLAP if rank == 0 else Flag.OVERLAP_FAINT)
    flags[...] = result


def _observer(grid):
    """The references' observer."""
    from sunpy.coordinates import HeliographicStonyhurst

    aux, time = grid.wcs.aux, grid.wcs.dateavg
    return HeliographicStonyhurst(aux.hgln_obs * u.deg, aux.hglt_obs * u.deg, aux.dsun_obs * u.m, obstime=time)


def _meta(level1, alignments, line, stage, vignetting, factors, steps):
    values = {key: level1.meta[key] for key in ("flight", "frame", "file", "mid_time", "exposure")}
    axes = {"frame": 0, "file": (0, 1), "mid_time": (0, 1), "exposure": (0, 1)}
    values |= {
        "level": 3,
        "line": line.name,
        "stage": stage,
        "reference": alignments.reference,
        "alignment": alignments.final,
        "alignment_linear": alignments.linear,
        "vignetting": vignetting,
        "normalization": factors,
        "history": (*level1.history, *steps),
    }
    axes |= {"alignment": (0, 1), "alignment_linear": (0, 1)}
    if factors is not None:
        axes["normalization"] = (0, 1)
    return NDMeta(values, axes=axes)
