"""The kinds of images that can be co-aligned, and the map between two images that follows from their coordinates."""

from dataclasses import dataclass, replace

import numpy as np

from astropy.coordinates import ConvertError, SkyCoord
from astropy.nddata import NDData
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseLowLevelWCS

from esis_ndcube.registration.transform import TERMS, PolynomialTransform, center_and_scale, nearest_transform
from esis_ndcube.utils.arrays import parse_mask, split_mask
from esis_ndcube.wcs._sun import high_level, observer, seen_pixels

ACCEPTED = "an array with axes (y, x), (array, WCS), a sunpy Map, or an NDData or NDCube with axes (y, x)"

# Points along each axis at which coordinates are compared.
_SAMPLES = 21


@dataclass(frozen=True, eq=False)
class Image:
    """An image, NaN for missing values, its celestial WCS or None, and its valid pixels."""

    data: np.ndarray
    wcs: object
    valid: np.ndarray

    def where(self, chosen):
        """The image with the chosen pixels only."""
        return replace(self, valid=self.valid & chosen)


def parse_image(given, name):
    """The `Image` from an input; ``name`` is its name in errors."""
    data, wcs, mask = given, None, None
    if isinstance(given, NDData):
        data, wcs, mask = given.data, given.wcs, given.mask
    elif isinstance(given, tuple) and len(given) == 2:
        data, wcs = given
    if isinstance(data, list):
        data = np.asarray(data)
    data, masked = split_mask(data)
    if not isinstance(data, np.ndarray) and not hasattr(data, "__array__"):
        msg = f"got {name} of type {type(given).__name__}, expected {ACCEPTED}"
        raise TypeError(msg)
    data = np.asarray(data)
    if data.ndim != 2 or data.dtype.kind not in "buif":
        msg = f"got {name} of shape {data.shape} and type {data.dtype}, expected real numbers with axes (y, x)"
        raise ValueError(msg)
    # Double precision keeps faint structures on a bright ground, and values that single precision does not hold.
    single = data.dtype.itemsize <= 2 or (data.dtype.kind == "f" and data.dtype.itemsize == 4)
    data = data.astype(np.float32 if single else np.float64, copy=False)
    valid = np.isfinite(data)
    for bad in (parse_mask(mask), masked):
        if bad is not None:
            valid &= ~np.broadcast_to(np.asarray(bad), data.shape)
    values = data
    if not valid.all():
        values, data = data[valid], np.where(valid, data, data.dtype.type(np.nan))
    if not values.size or np.ptp(values) == 0:
        what = "without valid pixels" if not values.size else f"that is {values.flat[0]} everywhere"
        msg = f"got {name} {what}, expected an image with some structure"
        raise ValueError(msg)
    return Image(data, parse_wcs(wcs, name), valid)


def parse_wcs(wcs, name):
    """The WCS as a high-level one, or None."""
    if wcs is None:
        return None
    if not isinstance(wcs, (BaseLowLevelWCS, BaseHighLevelWCS)):
        msg = f"got {name} with a WCS of type {type(wcs).__name__}, expected one of astropy's interface"
        raise TypeError(msg)
    wcs = high_level(wcs)
    low = wcs.low_level_wcs
    classes = [entry[0] for entry in low.world_axis_object_classes.values()]
    if low.pixel_n_dim != 2 or classes != [SkyCoord]:
        msg = (
            f"got {name} with a WCS of the axes {list(low.world_axis_physical_types)}, expected celestial longitude "
            f"and latitude: give the array alone to start from equal pixels"
        )
        raise ValueError(msg)
    return wcs


def map_pixels(first, second, x, y):
    """
    Pixels of the second WCS that show the same places as pixels of the first WCS; NaN for places that it does not show.

    Between observers, coordinates are transformed on the sphere of the Sun, and beyond the limb in the plane through
    its center. The rotation of the Sun is left in.
    """
    try:
        return np.array(seen_pixels(first, second, x, y, screen=observer(first)))
    except ConvertError as error:
        msg = f"the coordinates of the images cannot be transformed into each other: {error}"
        raise ValueError(msg) from error


def sample_pixels(shape, count=_SAMPLES):
    """Points spread over an image (x, y), flat, with a given number along each axis."""
    x, y = np.meshgrid(*(np.linspace(0, n - 1, count) for n in shape[::-1]))
    return x.ravel(), y.ravel()


def start_from_wcs(image, reference, degree):
    """The polynomial map from reference to image pixels that is nearest to the two WCS."""
    like = PolynomialTransform(np.zeros((2, TERMS[degree])), *center_and_scale(reference.data.shape))
    x, y = sample_pixels(reference.data.shape)
    u, v = map_pixels(reference.wcs, image.wcs, x, y)
    known = np.isfinite(u) & np.isfinite(v)
    rows, columns = image.data.shape
    # Places far outside of the image do not matter for the map, and may not be anywhere near it.
    near = known & (np.abs(u - columns / 2) <= columns) & (np.abs(v - rows / 2) <= rows)
    if near.sum() < 2 * TERMS[degree]:
        # A small image in a large reference: find the map in the other direction.
        u, v = sample_pixels(image.data.shape)
        x, y = map_pixels(image.wcs, reference.wcs, u, v)
        near = np.isfinite(x) & np.isfinite(y)
    if near.sum() < 2 * TERMS[degree]:
        msg = "the images do not overlap: their coordinates have no place in common; if these are wrong, give a start="
        raise ValueError(msg)
    x, y, u, v = (values[near] for values in (x, y, u, v))
    return nearest_transform(x, y, (u, v), like)
