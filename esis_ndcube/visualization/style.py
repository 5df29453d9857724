"""The common style of pictures of cubes: the pixels that they show, their scale, and their titles."""

import re
from types import SimpleNamespace

import dask
import numpy as np

import astropy.units as u
from astropy.visualization import AsinhStretch, ImageNormalize

from esis_ndcube.corrections.normalize import NOT_NORMALIZED
from esis_ndcube.flags import Flag
from esis_ndcube.operations._parts import rebuild
from esis_ndcube.utils.arrays import invalid_pixels, is_lazy

COLORMAP = "inferno"
DIVERGING = "RdBu_r"
# Gray, a color that neither color map has.
NO_DATA = "0.5"
_PERCENTILES = 0.5, 99.7
# Values that reach below zero by at least this part of their reach above zero are differences, and not noisy
# brightness.
_SIGNED = 0.5
_SPEED = u.km / u.s
# Upper end of a scale of values that are all 0.
_LEAST = 1e-6
# Scales follow from at most about this many pixels of an image.
_SAMPLE = 4e5
# Steps that make one image of several channels.
_JOINED = {
    "difference": "minus",
    "min_images": "minimum",
    "subtract": "minus",
    "add": "plus",
    "multiply": "times",
    "divide": "by",
}


def compares_unnormalized(cube):
    """Whether a cube compares the original brightness of Level-3 channels: in itself, or as a difference."""
    steps = {step.name for step in cube.history}
    if cube._level != 3 or not steps or cube._get_meta("normalization") is not None or "normalize_intensities" in steps:
        return False
    if cube.channel is not None:
        return np.size(cube.channel) > 1
    # A difference has no factors of its own, but its history tells that its channels had them.
    had = any("normalization" in step.parameters.get("dropped", ()) for step in cube.history)
    return made_of_channels(cube)[0] == "minus" and not had


def good_images(cube):
    """The images that set scales, of the shape of the leading axes: if possible, not weakly aligned ones."""
    alignments = getattr(cube, "alignment", None)
    if alignments is None:
        return np.ones(cube.data.shape[:-2], dtype=bool)
    alignments = np.array(alignments, dtype=object)
    good = np.array([a is None or a.status != "weak" for a in alignments.flat], dtype=bool).reshape(alignments.shape)
    return good if good.any() else ~good


def image_data(image):
    """The values of an image, NaN where they are invalid."""
    return np.where(invalid_pixels(image.data, image.mask), np.nan, image.data)


def flagged(cube, flag):
    """Pixels with a flag, of the data's shape."""
    return np.zeros(cube.data.shape, dtype=bool) if cube.flags is None else cube.flags & flag != 0


def in_memory(cube):
    """The cube, with its lazy arrays computed together, so that their common source is read once."""
    uncertainty = cube.uncertainty
    arrays = {"data": cube.data, "mask": cube.mask, "flags": cube.flags}
    # Only lines have error bars.
    sigma = uncertainty.array if uncertainty is not None and cube.data.ndim == 1 else None
    if not is_lazy(*arrays.values(), sigma):
        return cube
    arrays, sigma = dask.compute(arrays, sigma)
    return rebuild(cube, **arrays, uncertainty=None if sigma is None else type(uncertainty)(sigma, uncertainty.unit))


def image_and_sample(cube):
    """
    The values of an image, NaN where they are invalid, and its `valid_values`.

    The arrays of a lazy cube are computed and let go; a cube of them would stay until Python looks for cycles.
    """
    data, mask, flags = dask.compute(cube.data, cube.mask, cube.flags)
    pixels = SimpleNamespace(data=data, mask=mask, flags=flags)
    return image_data(pixels), valid_values(pixels)


def middle_exposure(cube):
    """The exposure in the middle of a cube of images, in memory; all of a cube without a time axis."""
    return in_memory(cube[(cube.shape[0] - 1) // 2] if axis_names(cube)[0] == "time" else cube)


def axis_names(cube):
    """Names of the array axes."""
    return getattr(cube.wcs, "array_axis_names", None) or [f"axis {axis}" for axis in range(cube.data.ndim)]


def valid_values(cube):
    """
    Values that may set a scale.

    A sample of the values that are valid, without mended particle hits, from the images that `good_images` names.
    """
    step = int(max(1, np.sqrt(np.prod(cube.data.shape[-2:], dtype=float) / _SAMPLE)))
    every = (..., *(slice(None, None, step) for _ in cube.data.shape[-2:]))
    bad = invalid_pixels(cube.data, cube.mask, every)
    # A Map has no flags.
    flags = getattr(cube, "flags", None)
    if flags is not None:
        bad = bad | (flags[every] & Flag.SPIKE != 0)
    # The axes of a slice may be time and y, of which one is an axis of images.
    good = good_images(cube)
    good = good.reshape(*good.shape, *[1] * (cube.data.ndim - good.ndim))
    bad = bad | ~np.broadcast_to(good, cube.data.shape)[every]
    return cube.data[every][~bad]


def intensity_norm(values, *, vmin=None, vmax=None):
    """The scale of images with these valid values, and with the given limits."""
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, _PERCENTILES) if values.size else (0, 1)
    return _norm((max(low, 0), high if high > 0 else _LEAST), (vmin, vmax), stretch=AsinhStretch(0.3))


def difference_limit(values):
    """Limit on both sides of the scale of differences with these valid values."""
    limit = np.percentile(np.abs(values), _PERCENTILES[1]) if values.size else 1
    return limit if limit > 0 else _LEAST


def scale(values, unit=None, *, vmin=None, vmax=None):
    """
    Norm and color map of images with these valid values: for brightness, or for values with two signs.

    Given limits are kept.
    """
    low, high = np.percentile(values, _PERCENTILES) if values.size else (0, 1)
    signed = unit is not None and any(unit.is_equivalent(one) for one in (u.T, _SPEED))
    if signed or -low > _SIGNED * max(high, 0):
        limit = difference_limit(values)
        return _norm((-limit, limit), (vmin, vmax)), DIVERGING
    return intensity_norm(values, vmin=vmin, vmax=vmax), COLORMAP


def _norm(limits, given, **options):
    """A norm with the given limits, and others that leave a range between them."""
    vmin, vmax = (limit if value is None else value for limit, value in zip(limits, given, strict=True))
    if vmin >= vmax and None in given:
        if given[0] is None:
            vmin = vmax - max(abs(vmax), _LEAST)
        else:
            vmax = vmin + max(abs(vmin), _LEAST)
    return ImageNormalize(vmin=vmin, vmax=vmax, clip=False, **options)


def value_label(cube):
    """Name of the values, with their unit."""
    speed = cube.unit is not None and cube.unit.is_equivalent(_SPEED)
    what = (
        _context_name(cube)
        or ("Velocity" if speed else cube.line)
        or (cube.flight and cube.flight.instrument)
        or "Data"
    )
    return what if cube.unit is None else f"{what} [{cube.unit}]"


def title(cube):
    """Instrument and line, and the exposure if there is only one."""
    return ", ".join(filter(None, [_instrument(cube), exposure_title(cube)]))


def heading(cube):
    """Title of a plot on its own, in two lines: with the channel, if there is only one."""
    panel = panel_title(cube)
    if not _context_name(cube):
        panel = ", ".join(filter(None, [_instrument(cube), panel[:1].lower() + panel[1:]]))
    return "\n".join(filter(None, [panel, exposure_title(cube)]))


def made_of_channels(cube):
    """The word and the channels from which a cube of no single channel was made; empty if they are not known."""
    for step in reversed(cube.history) if cube.channel is None else ():
        if step.name in _JOINED and "channels" in step.parameters:
            return _JOINED[step.name], step.parameters["channels"]
    return "", []


def panel_title(cube):
    """Name of the channel or combination of channels; for another telescope, the name and the time of its image."""
    if name := _context_name(cube):
        time = cube.image_time
        return name if time is None or np.ndim(time.mask) or time.mask else f"{name}, {str(time.utc.isot)[11:19]}"
    if cube.channel is not None and np.ndim(cube.channel) == 0:
        status = getattr(getattr(cube, "alignment", None), "status", None)
        return f"Channel {cube.channel}{', weak alignment' if status == 'weak' else ''}"
    word, numbers = made_of_channels(cube)
    if word == "minimum":
        return "Minimum of the channels"
    name = f" {word} ".join(f"channel {number}" for number in numbers).capitalize()
    return f"{name}\n{NOT_NORMALIZED}" if compares_unnormalized(cube) else name


def exposure_title(cube):
    """Time and frame of a cube of one exposure."""
    if cube.time is None or not cube.time.isscalar:
        return ""
    frame = "" if cube.frame_number is None or np.ndim(cube.frame_number) else f", frame {cube.frame_number}"
    return f"{cube.time.utc.isot[:19].replace('T', ' ')} UTC{frame}"


def _instrument(cube):
    return _context_name(cube) or " ".join(filter(None, [cube.flight and cube.flight.instrument, cube.line]))


def _context_name(cube):
    """The name of another telescope's images, without the time that sunpy adds."""
    name = cube._get_meta("context_name")
    return name and (re.split(r" ?\d{4}-\d\d-\d\d", name)[0] or name)
