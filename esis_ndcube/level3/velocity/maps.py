"""From the images of several channels to maps of the velocity along the line of sight."""

from dataclasses import dataclass
from functools import partial

import dask
import dask.array as da
import numpy as np
import scipy.fft
from tqdm import tqdm

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from astropy.stats import gaussian_sigma_to_fwhm, mad_std

from esis_ndcube.flags import Flag
from esis_ndcube.level3.velocity._field import draw_fields, fit_field
from esis_ndcube.level3.velocity._frame import FEWEST, Frame, make_frame, pixel_scale, wavenumber
from esis_ndcube.level3.velocity._window import fit_window
from esis_ndcube.level3.velocity.cube import ESISVelocityCube
from esis_ndcube.level3.velocity.projection import displacements
from esis_ndcube.operations import min_images, rebin
from esis_ndcube.operations._parts import rebuild
from esis_ndcube.utils.checks import check_cube, named_axes
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.wcs.meta import with_entries

__all__ = ["velocity_map"]

_SPEED = u.km / u.s
# Velocities are found on pixels of about this size, in arcsec.
_PIXEL = 1.2
# A map is valid where this part of its window is seen by all but one of the channels.
_COVERED = 0.5
# Classes of pixels by what their windows tell of a velocity, for the errors.
_CLASSES = 10
# Waves for which the response is measured, in units of the map's FWHM.
_WAVES = (1, 1.4, 2, 2.8, 4, 5.7, 8, 11, 16)
# Shorter ones, which count for the size of velocities if this part of them is found.
_FINE, _SEEN = (0.5, 0.7), 0.2
# A larger velocity, in units of the scatter, is an event.
_EVENTS = 4
# Of the prior's velocity, no more than this is put in.
_LARGEST = 3.0


def velocity_map(
    cube,
    *,
    method="field",
    fwhm=7 * u.arcsec,
    line_width=29 * u.km / u.s,
    overlap=False,
    seed=0,
    progress=False,
):
    r"""
    Maps of the velocity along the line of sight, from the differences between the channels.

    A velocity displaces the light in each channel along its own dispersion, and only what differs between the channels
    tells it. Two methods find it:

    ``"field"``
        The images are :math:`I - (e_k \cdot \nabla)(I v) + \frac{1}{2} (e_k \cdot \nabla)^2 (I w)`, which conserves the
        light, with the scene I, the velocity v and its variance w about that of the line; all three are fitted at once
        to all pixels, with Gaussian priors. It is the better one where velocities vary over a few arcseconds.
    ``"window"``
        One velocity in each Gaussian window, found from wide to narrow windows. It follows displacements of many
        pixels, and is faster.

    Velocities are relative to the mean of the field: what is uniform, or changes smoothly over the whole field of view
    as polynomials of the degree of the alignments do, was taken for a displacement when the channels were aligned, and
    is missing. That holds for the rotation of the Sun too.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Cube with axes (time, channel, y, x) or (channel, y, x), alignments, uncertainty and three channels or more. Its
        vignetting should be corrected.
    method : `str`, optional
        ``"field"`` or ``"window"``.
    fwhm : `~astropy.units.Quantity`, optional
        Width (FWHM) of the Gaussian by which the map is smoothed, weighted with the brightness; for ``"window"`` that
        of the windows.
    line_width : `~astropy.units.Quantity`, optional
        Width (sigma) of the line in velocity, thermal and not.
    overlap : `bool`, optional
        Whether pixels count that also see the brightest other line (`Flag.OVERLAP <esis_ndcube.flags.Flag>`). Its light
        is taken for velocities there; only what is much brighter than it tells something.
    seed : `int`, optional
        Seed of the simulated exposures that the errors come from.
    progress : `bool`, optional
        Show a progress bar.

    Returns
    -------
    `~esis_ndcube.ESISVelocityCube`
        Velocities in km/s, positive away from us, on pixels of about 1.2 arcsec, which are whole numbers of those of
        the cube; masked where fewer than all but one of the channels see half of the window.

        The uncertainty has two parts. The random one comes from a simulated exposure for each real one: the scene that
        was found, with random velocities and noise put in, goes through the same estimator, and the deviations from
        what the `~ESISVelocityCube.response` lets through are the error, by what the window tells. The random
        velocities are as large as those that are found. The systematic one
        is what the exposure in the middle shows of displacements that no velocity makes, beyond what a simulated one
        shows of them (`~ESISVelocityCube.nulls`).

    Raises
    ------
    TypeError
        If this is no cube.
    ValueError
        If the cube has other axes, no alignments, no uncertainty or too few channels, no exposure has images of three
        channels, or an argument is wrong.

    Notes
    -----
    The response says which part of a velocity the map shows: divide by it where an unbiased value for one scale is
    needed, and compare models only after they went through it.

    Examples
    --------
    >>> import astropy.units as u
    >>> from esis_ndcube import velocity_map
    >>> from esis_ndcube.simulate import simulate_flight, true_cube
    >>> cube = true_cube(simulate_flight(size=8, n_exposures=1))
    >>> velocities = velocity_map(cube, fwhm=10 * u.arcsec)
    >>> velocities.shape, velocities.unit
    ((1, 79, 79), Unit("km / s"))
    """
    check_cube(cube, 3)
    names = named_axes(cube)
    if names[-3:] != ["channel", "y", "x"]:
        msg = f"got a cube with axes {names}, expected time, channel, y and x, or the last three: slice with ranges"
        raise ValueError(msg)
    if method not in ("field", "window"):
        msg = f"got the method {method!r}, expected 'field' or 'window'"
        raise ValueError(msg)
    if cube.uncertainty is None:
        msg = "got a cube without uncertainty, expected one that has it, as cubes of form_level3 have"
        raise ValueError(msg)
    if len(np.atleast_1d(cube.channel)) < FEWEST:
        msg = f"got {len(np.atleast_1d(cube.channel))} channels, expected {FEWEST} or more"
        raise ValueError(msg)
    fwhm = _positive("fwhm", fwhm, u.arcsec)
    line_width = _positive("line_width", line_width, _SPEED, zero=True)
    bins = [
        max(1, min(round(_PIXEL / size), n)) for size, n in zip(pixel_scale(cube.wcs), cube.shape[-2:], strict=True)
    ]
    cube = cube[(..., *(slice(0, n - n % b) for n, b in zip(cube.shape[-2:], bins, strict=True)))]
    exposures = [cube[i] for i in range(len(cube.data))] if len(names) == 4 else [cube]
    sigma = fwhm / gaussian_sigma_to_fwhm
    fit = fit_field if method == "field" else partial(fit_window, width=sigma)

    # The exposure nearest to the middle that has a result stands for all in what is not measured for each.
    order = sorted(range(len(exposures)), key=lambda i: abs(i - len(exposures) // 2))
    velocity = error = checked = None
    for index in tqdm(order, "Velocities", disable=not progress, leave=False):
        binned = _bin(exposures[index], bins, overlap)
        displacement = displacements(exposures[index]).value / bins[::-1]
        frame, box = make_frame(binned, displacement, line_width if method == "field" else 0.0)
        if velocity is None:
            velocity, error = np.full((2, len(exposures), *binned.shape[-2:]), np.nan, np.float32)
        if frame is None or not _inside(frame, sigma).any():
            continue
        number = exposures[index].frame_number
        seeds = [seed, index if number is None else number]
        fitted = fit(frame)
        if checked is None:
            # The response is that to the prior's velocities; then those that are simulated become as large as is found.
            first = _measure(frame, fitted, fit, sigma, seeds)
        result = _measure(frame, fitted, fit, sigma, seeds, first.sizes, first.response)
        if checked is None:
            checked = first.response, *_null_patterns(frame, fit, sigma, result)
        velocity[index, *box] = result.velocity
        error[index, *box] = result.error * np.sqrt(1 + checked[2] ** 2 / np.nanmean(result.error**2))
    if checked is None:
        msg = (
            f"got no exposure with light that {FEWEST} channels see over a window of {fwhm:g} arcsec, expected some: "
            "are the images masked, or is the field smaller?"
        )
        raise ValueError(msg)
    response, nulls, systematic = checked
    if len(names) == 3:
        velocity, error = velocity[0], error[0]
    options = {"method": method, "fwhm": f"{fwhm} arcsec", "line_width": f"{line_width} km/s"}
    options |= {"overlap": bool(overlap), "seed": seed}
    return _make_cube(
        cube,
        bins,
        velocity,
        error,
        {
            "velocity_response": response,
            "velocity_nulls": nulls,
            "velocity_systematic": systematic * _SPEED,
        },
        ProcessingStep("velocity_map", options),
    )


def _positive(name, value, unit, zero=False):
    try:
        number = u.Quantity(value).to_value(unit)
    except (u.UnitsError, TypeError) as error:
        msg = f"got {name}={value!r}, expected a quantity in {unit}"
        raise ValueError(msg) from error
    if np.ndim(number) or not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        msg = f"got {name}={value}, expected one finite value above 0"
        raise ValueError(msg)
    return float(number)


def _bin(exposure, bins, overlap):
    """One exposure on larger pixels, in memory, without pixels that see another line or without their flag."""
    uncertainty = exposure.uncertainty
    parts = {"data": exposure.data, "mask": exposure.mask, "flags": exposure.flags}
    parts, sigma = dask.compute(parts, uncertainty.array)
    exposure = rebuild(exposure, **parts, uncertainty=type(uncertainty)(sigma, unit=uncertainty.unit, copy=False))
    if exposure.flags is not None:
        other = exposure.flags & exposure.flags.dtype.type(Flag.OVERLAP)
        if overlap:
            exposure = rebuild(exposure, flags=exposure.flags ^ other)
        elif other.any():
            exposure = exposure.mask_pixels(other != 0)
    return exposure if max(bins) == 1 else rebin(exposure, (1, *bins))


@dataclass(frozen=True, eq=False)
class _Result:
    """
    The velocities of a frame.

    Velocity and random error in km/s, NaN where they are not valid; the response; the simulated frame; and how large
    its velocity, by wavelength, and its variance would have to be, in units of their priors, to give what the frame
    gives.
    """

    velocity: np.ndarray
    error: np.ndarray
    response: dict
    simulated: Frame
    sizes: tuple[dict, float]


def _measure(frame, fitted, fit, sigma, seeds, sizes=None, response=None):
    """The `_Result` of a frame, to which a scene was fitted."""
    inside = _inside(frame, sigma)
    scene, *fields = fitted
    velocity = _smooth(frame, scene, fields[0], sigma)
    # The same estimator sees what is known: the scene that was found, with other velocities.
    rng = np.random.default_rng(seeds)
    draws = list(draw_fields(frame, rng))
    if sizes is not None:
        draws = [apply_response(draws[0], sizes[0], frame.scale), sizes[1] * draws[1]]
    truth = _smooth(frame, scene, draws[0], sigma)
    simulated = frame.seen(scene, *draws, rng)
    again, *found = fit(simulated)
    if sizes is None:
        known = list(zip(fields, found, draws, strict=True))
        sizes = _sizes_by_wave(frame, *known[0], inside, sigma), _size(*(one[inside] for one in known[1]))
    found = _smooth(frame, again, found[0], sigma)
    if response is None:
        response = _measure_response(frame, truth, found, inside, sigma)
    deviation = found - apply_response(truth, response, frame.scale)
    told = np.log(frame.smooth(frame.information(frame.displacement), sigma) + 1e-12)
    error = np.interp(told, *_by_class(told[inside], deviation[inside]))
    return _Result(*(np.where(inside, one, np.nan) for one in (velocity, error)), response, simulated, sizes)


def _inside(frame, sigma):
    """Where enough of a window is seen."""
    return frame.smooth(frame.weights.any(axis=0), sigma) > _COVERED


def _size(field, found, drawn):
    """How much larger what was drawn has to be, so that what is found of it is as large as a field."""
    power = np.mean(drawn**2)
    if not power > 0:
        return 0.0
    slope = np.mean(found * drawn) / power
    noise = np.mean((found - slope * drawn) ** 2)
    # Few places with large velocities do not decide.
    large = mad_std(field) ** 2
    return min(float(np.sqrt(max(large - noise, 0) / power) / slope), _LARGEST) if slope > 0 else 1.0


def _smooth(frame, scene, velocity, sigma):
    weight = np.where(frame.weights.any(axis=0), scene, 0)
    return frame.smooth(weight * velocity, sigma) / np.maximum(frame.smooth(weight, sigma), 1e-3 * scene.mean())


def _wavelength(shape, scale):
    """Lengths in arcsec of the waves of a real transform."""
    with np.errstate(divide="ignore"):
        return 1 / wavenumber(shape, scale)


def _sizes_by_wave(frame, field, found, drawn, inside, sigma):
    """Sizes as `_size` has them, by wavelength; waves of which too little is found are as their neighbors."""
    limit = _EVENTS * mad_std(field[inside])
    # Few places with large velocities do not decide.
    images = *(np.clip(one, -limit, limit) for one in (field, found)), drawn
    field_waves, found_waves, drawn_waves = _spectra(images, frame.smooth(inside, sigma), inside)
    ring, waves = _rings(frame, inside.shape, _FINE + _WAVES, sigma)
    products = np.abs(drawn_waves) ** 2, (drawn_waves.conj() * found_waves).real
    products += np.abs(field_waves) ** 2, np.abs(found_waves) ** 2
    own, both, large, again = (np.bincount(ring, part.ravel(), len(waves) + 2)[1:-1] for part in products)
    slope = both / np.where(own > 0, own, 1)
    kept = slope > _SEEN
    if not kept.any():
        return {"wavelength": waves[:1], "response": [_size(*(one[inside] for one in (field, found, drawn)))]}
    slope, own, both, large, again = (one[kept] for one in (slope, own, both, large, again))
    sizes = np.sqrt(np.maximum(large - (again - slope * both), 0) / own) / slope
    return {"wavelength": waves[kept], "response": np.minimum(sizes, _LARGEST).tolist()}


def _spectra(images, window, inside):
    """Fourier transforms of images about their means, where they are valid."""
    return [scipy.fft.rfft2(window * (image - image[inside].mean())) for image in images]


def _rings(frame, shape, factors, sigma):
    """The class of each wave by its wavelength, 0 for shorter ones, and the wavelength of each class in arcsec."""
    edges = np.array(factors) * sigma * gaussian_sigma_to_fwhm
    return np.digitize(_wavelength(shape, frame.scale).ravel(), edges), np.sqrt(edges[:-1] * edges[1:]) * u.arcsec


def _measure_response(frame, truth, found, inside, sigma):
    one, other = _spectra((truth, found), frame.smooth(inside, sigma), inside)
    ring, waves = _rings(frame, truth.shape, _WAVES, sigma)
    products = (one.conj() * other).real, np.abs(one) ** 2
    both, own = (np.bincount(ring, part.ravel(), len(waves) + 2)[1:-1] for part in products)
    kept = own > 0
    return {"wavelength": waves[kept], "response": (both[kept] / own[kept]).tolist()}


def apply_response(velocity, response, scale):
    """The part of a velocity, shape (y, x) on pixels of a scale (y, x) in arcsec, that a response lets through."""
    spectrum = scipy.fft.rfft2(velocity)
    if len(response["response"]):
        known = np.log(response["wavelength"].to_value(u.arcsec))
        spectrum = spectrum * np.interp(np.log(_wavelength(velocity.shape, scale)), known, response["response"])
    return scipy.fft.irfft2(spectrum, velocity.shape)


def _by_class(told, deviation):
    """RMS deviation in classes of pixels, by the mean of what their windows tell."""
    order = np.array_split(np.argsort(told), min(_CLASSES, told.size))
    return [told[part].mean() for part in order], [np.sqrt(np.mean(deviation[part] ** 2)) for part in order]


def _null_patterns(frame, fit, sigma, result):
    """Displacements that no velocity makes, as columns, and the systematic error that they tell of, in km/s."""
    inside = np.isfinite(result.velocity)
    along = frame.displacement
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    signs = (-1.0) ** np.arange(len(along))[:, None]
    rows, own = [], frame.information(along)[inside].mean()
    for name, pattern in {"across": across, "alternating": along * signs, "across alternating": across * signs}.items():
        rms = []
        for each in (frame, result.simulated):
            scene, amount, _ = fit(each, pattern=pattern)
            rms.append(_smooth(each, scene, amount, sigma)[inside].std())
        # A chance displacement comes out larger where the images tell less of it.
        scale = np.sqrt(frame.information(pattern)[inside].mean() / own)
        rows.append((name, *rms, scale * np.sqrt(max(rms[0] ** 2 - rms[1] ** 2, 0))))
    names, *columns = zip(*rows, strict=True)
    columns = (np.array(column, dtype=float) * _SPEED for column in columns)
    nulls = {"pattern": list(names)} | dict(zip(("measured", "expected", "systematic"), columns, strict=True))
    return nulls, float(np.sqrt(np.mean([row[3] ** 2 for row in rows])))


def _make_cube(cube, bins, velocity, error, values, step):
    """The cube of maps, with the coordinates and the metadata of what all channels have in common."""
    # Without pixels, which would be binned for nothing.
    empty = type(cube)(da.zeros(cube.shape, chunks=cube.shape), wcs=cube.wcs, meta=cube.meta, unit=cube.unit)
    frame = min_images(rebin(empty, (*[1] * (len(cube.shape) - 2), *bins)))
    meta = with_entries(frame.meta, {key: (value, None) for key, value in values.items()})
    meta = with_entries(meta, {"history": ((*cube.history, step), None), "noise_correlation": (None, None)})
    return ESISVelocityCube(
        velocity,
        wcs=frame.wcs,
        uncertainty=StdDevUncertainty(error),
        mask=~np.isfinite(velocity),
        meta=meta,
        unit=_SPEED,
    )
