"""A Level-3 cube of a simulated flight with the true geometry, for tests of the steps after the co-alignment."""

import numpy as np

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from astropy.time import Time
from ndcube.meta import NDMeta
from sunpy.coordinates import get_earth

from esis_ndcube.field_stop.region import line_region, overlapping_lines
from esis_ndcube.flags import Flag
from esis_ndcube.level1.calibration import electron_variance, noise_correlation
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.registration import Alignment, PolynomialTransform
from esis_ndcube.registration._image_inputs import sample_pixels
from esis_ndcube.registration.reference import observed_grid
from esis_ndcube.registration.transform import TERMS, center_and_scale, nearest_transform
from esis_ndcube.resample import (
    detector_coordinates,
    propagate_uncertainty,
    reproject_alignment,
    resampled_correlation,
)
from esis_ndcube.simulate import camera
from esis_ndcube.wcs import level3_wcs

__all__ = ["true_alignment", "true_cube"]


def true_alignment(simulated, frame_number, channel, *, line=None, grid=None):
    """
    The alignment of a simulated frame, from the truth.

    Parameters
    ----------
    simulated : `~esis_ndcube.simulate.SimulatedFlight`
        The simulated flight.
    frame_number, channel : `int`
        Raw frame number and channel number.
    line : `str`, optional
        The spectral line, by default the flight's pose line.
    grid : `~astropy.wcs.WCS`, optional
        The flight's grid; by default as seen from the Earth in the middle exposure.

    Returns
    -------
    `~esis_ndcube.Alignment`
        The exact map, which is a polynomial; Doppler shifts are not in it.

    Examples
    --------
    >>> from esis_ndcube.simulate import simulate_flight, true_alignment
    >>> simulated = simulate_flight(size=8)
    >>> alignment = true_alignment(simulated, 124, 2)
    >>> u, v = simulated.truth.to_detector(124, 2, 50.0, 60.0)
    >>> bool(abs(alignment.transform(50.0, 60.0)[0] - u) < 1e-9)
    True
    """
    flight = simulated.flight
    line = flight.line(flight.pose_line if line is None else line)
    degree = 3 if simulated.config.cubic_distortion else 2
    like = PolynomialTransform(np.zeros((2, TERMS[degree])), *center_and_scale(flight.grid_shape))
    x, y = sample_pixels(flight.grid_shape, 8)
    target = simulated.truth.to_detector(frame_number, channel, x, y, line=line)
    return Alignment(
        transform=nearest_transform(x, y, target, like),
        grid=_grid(simulated) if grid is None else grid,
        channel=int(channel),
        frame_number=int(frame_number),
        line=line.name,
        stage="final",
        reference="simulated truth",
        time=simulated.mid_time(frame_number),
        shape=flight.detector.shape,
        reason="truth",
    )


def _grid(simulated):
    time = simulated.mid_time(simulated.frame_numbers[len(simulated.frame_numbers) // 2])
    return observed_grid(simulated.flight, get_earth(time), time)


def true_cube(simulated, *, line=None, order="bicubic"):
    """
    Form a Level-3 cube of a simulated flight with the true geometry, without vignetting correction.

    Photon, Fano and read noise are those of the raw frames. The cube is for tests of the steps after Level 1 and the
    co-alignment: bias, dark, stray light, particle hits, and missing and blank frames are left out.

    Parameters
    ----------
    simulated : `~esis_ndcube.simulate.SimulatedFlight`
        The simulated flight.
    line : `str`, optional
        The spectral line, by default the flight's pose line.
    order : `int` or `str`, optional
        Order of the interpolating spline.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        The cube that `~esis_ndcube.form_level3` would make with ``vignetting=False`` and ``normalize=False``.

    Examples
    --------
    >>> from esis_ndcube.simulate import simulate_flight, true_cube
    >>> true_cube(simulate_flight(size=8, n_exposures=1)).shape
    (1, 4, 159, 159)
    """
    flight, frame_numbers = simulated.flight, simulated.frame_numbers
    line = flight.line(flight.pose_line if line is None else line)
    numbers = [channel.number for channel in flight.channels]
    shape = (len(frame_numbers), len(numbers), *flight.grid_shape)
    data, sigma = np.empty(shape, np.float32), np.empty(shape, np.float32)
    grid = _grid(simulated)
    flags, alignments = np.empty(shape, np.uint8), np.empty(shape[:2], dtype=object)
    correlations = {}
    for index in np.ndindex(shape[:2]):
        frame_number, channel = frame_numbers[index[0]], numbers[index[1]]
        alignment = alignments[index] = true_alignment(simulated, frame_number, channel, line=line.name, grid=grid)
        image, noise = _level1(simulated, frame_number, channel, line)
        correlation = noise_correlation(flight, channel, line) if simulated.config.charge_spread else None
        position = detector_coordinates(alignment, grid, flight.grid_shape)
        array, footprint = reproject_alignment((image, alignment), grid, order=order)
        data[index] = array
        sigma[index] = propagate_uncertainty(noise, *position, order=order, correlation=correlation)
        if not index[0]:
            correlations[str(channel)] = resampled_correlation(alignment, order=order, correlation=correlation)
        flags[index] = np.where((footprint > 0) & line_region(flight, channel, line, *position), 0, Flag.OUTSIDE)
        for rank, other in enumerate(overlapping_lines(flight, line)):
            overlap = line_region(flight, channel, other, *position) & (footprint > 0)
            flags[index][overlap] |= np.uint8(Flag.OVERLAP if rank == 0 else Flag.OVERLAP_FAINT)
    times = Time([simulated.mid_time(frame_number) for frame_number in frame_numbers])
    exposure_time = np.broadcast_to(flight.cadence.to_value(u.s), shape[:2]).copy() * u.s
    meta = {
        "flight": flight,
        "frame_number": np.array(frame_numbers),
        "mid_time": times[:, None] + np.zeros(shape[:2]) * u.s,
        "exposure_time": exposure_time,
        "level": 3,
        "line": line.name,
        "stage": "final",
        "reference": "simulated truth",
        "alignment_final": alignments,
        "alignment_linear": alignments,
        "vignetting": None,
        "normalization": None,
        "noise_correlation": correlations,
        "history": (),
    }
    axes = {
        "frame_number": 0,
        "mid_time": (0, 1),
        "exposure_time": (0, 1),
        "alignment_final": (0, 1),
        "alignment_linear": (0, 1),
    }
    return ESISLevel3Cube(
        data,
        wcs=level3_wcs(grid, times, numbers, observer=get_earth(times[0]), exposure_time=exposure_time[:, 0]),
        uncertainty=StdDevUncertainty(sigma),
        mask=(flags & Flag.INVALID).astype(bool),
        flags=flags,
        meta=NDMeta(meta, axes=axes),
        unit=u.photon / u.pix,
    )


def _level1(simulated, frame_number, channel, line):
    """Photons of the line per pixel of the active area and their standard deviation."""
    photons, gains = simulated._signal(frame_number, channel, simulated._lines)
    gain = camera.electrons_per_photon(simulated.flight, line)
    detector = simulated.flight.detector
    read = detector.read_noise * np.mean(simulated.flight.channel(channel).gain) * simulated.config.read_noise
    rng = simulated._rng("true cube", frame_number, channel)
    electrons = camera.signal_electrons(simulated.truth, channel, photons, gains, rng)
    electrons += rng.normal(0, 1, photons.shape) * read
    charge = {}
    if simulated.config.charge_spread:
        charge = {
            "collection": simulated.flight.channel(channel).charge_collection,
            "kernel": detector.charge_kernel,
        }
    mean = photons * gains * simulated.config.noise
    variance = electron_variance(mean, gains, read, detector.fano_factor, **charge)
    return (electrons / gain).astype(np.float32), (np.sqrt(variance) / gain).astype(np.float32)
