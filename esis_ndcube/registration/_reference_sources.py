"""The kinds of references, as images of the Sun in one form for the registration."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from ndcube import NDCube
from sunpy.coordinates import Helioprojective, get_earth
from sunpy.map import GenericMap
from sunpy.util.exceptions import warn_user

from esis_ndcube.field_stop.region import line_region
from esis_ndcube.flags import Flag, frame_flags
from esis_ndcube.registration._grid import observed_grid, pixel_size
from esis_ndcube.registration.aia import POINTING_KEYWORD
from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.utils._spline import evaluate, prepare
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import is_cube, split_images
from esis_ndcube.wcs._sun import frame_observer, high_level, wrap

# Images with pixels larger than this many pixels of the grid are interpolated by a spline, others linearly.
_COARSE = 1.5
# Pixels around those that the grid needs, so that the spline does not see the edge.
_MARGIN = 16
# Least part of the field stop that a frame must show to be its own reference.
_MIN_LIT = 0.5

_ACCEPTED = (
    "a sunpy Map, a list or MapSequence of them, an NDCube with axes (y, x) or (time, y, x), a Level-3 cube, the "
    "number of a channel, or None: read files with sunpy.map.Map(path)"
)


@dataclass(frozen=True, eq=False)
class Source:
    """
    An image of the Sun in its original form.

    ``image`` is a Map or a cube with axes (y, x), ``wcs`` its celestial WCS, ``time`` the time of the image,
    ``observer`` the place of the observer, ``resolution`` the size of its pixels in arcsec, and ``wavelength`` that of
    its passband if it is known.
    """

    name: str
    time: Time
    observer: object
    resolution: float
    image: object
    wcs: object
    detailed: bool = True
    wavelength: u.Quantity | None = None

    def resample(self, longitude, latitude, pixel):
        """The image at helioprojective coordinates (deg) of its own observer; ``pixel`` is their step."""
        x, y = self._position(longitude, latitude)
        order = 3 if self.resolution > _COARSE * pixel else 1
        return _sample(self._data(), x, y, order)

    def _position(self, longitude, latitude):
        # Transformations of astropy are not thread-safe.
        low = copy.deepcopy(self.wcs).low_level_wcs
        lon, lat = _axes(low)
        world = [None, None]
        for axis, values in ((lon, longitude), (lat, latitude)):
            world[axis] = values * u.deg.to(low.world_axis_units[axis])
        return low.world_to_pixel_values(*world)

    def _data(self):
        data = np.asarray(self.image.data)
        data = data.astype(np.result_type(data.dtype, np.float32), copy=False)
        return data if self.image.mask is None else np.where(self.image.mask, np.nan, data)


@dataclass(frozen=True, eq=False)
class FrameSource(Source):
    """A frame of the Level-1 cube; ``image`` holds its pixels, NaN outside the field stop, ``wcs`` is its pose."""

    # A channel bends like itself: its own image cannot tell how.
    detailed: bool = False

    def resample(self, longitude, latitude, pixel):
        """Interpolate as in any `Source`, but always by a spline."""
        return _sample(self.image, *self._position(longitude, latitude), 3)

    def _position(self, longitude, latitude):
        pose = replace(self.wcs, grid=self.wcs.grid.deepcopy())
        return pose.world_to_detector(longitude * u.deg, latitude * u.deg)


def _sample(data, x, y, order):
    """Interpolate, and read only the necessary part of the image."""
    inside = np.isfinite(x) & np.isfinite(y)
    box = []
    for position, length in zip((y, x), data.shape, strict=True):
        first, last = (position[inside].min(), position[inside].max()) if inside.any() else (0, 0)
        start, stop = np.clip([np.floor(first) - _MARGIN, np.ceil(last) + _MARGIN + 1], 0, length).astype(int)
        box.append(slice(start, stop))
    part = data[tuple(box)]
    if not part.size:
        return np.full(x.shape, np.nan, dtype=np.float32)
    return evaluate(prepare(part, order), x - box[1].start, y - box[0].start)[0]


def reference_sources(level1, reference, *, line, reference_channel):
    """
    The images of a reference, in the order of their times.

    Parameters and errors are those of `~esis_ndcube.registration.reference.prepare_references`.
    """
    if reference is None:
        return [_frame_source(level1, line, reference_channel)]
    if isinstance(reference, (int, np.integer)) and not isinstance(reference, bool):
        return [_frame_source(level1, line, int(reference))]
    sources = list(_flatten(reference))
    if not sources:
        kind = "empty list of references" if isinstance(reference, (list, tuple)) else "empty reference"
        msg = f"got an {kind}, expected {_ACCEPTED}"
        raise ValueError(msg)
    sources = _of_passband(sources, level1.flight.line_reference(line))
    return sorted(sources, key=lambda source: source.time)


def _of_passband(sources, passband):
    """Of images of several passbands, those of the passband; other images are all the user's choice."""
    own = [source for source in sources if source.wavelength is not None and source.wavelength == passband.wavelength]
    others = {str(source.wavelength) for source in sources if source.wavelength != passband.wavelength}
    if len(others) > 1 and not own:
        warn_user(
            f"the reference images are of {', '.join(sorted(others))}, and none is of {passband.name}: each exposure "
            "uses the nearest in time; give images of one passband"
        )
    return own or sources


def _flatten(reference):
    if isinstance(reference, GenericMap):
        yield _map_source(reference)
    elif isinstance(reference, NDCube):
        yield from _cube_sources(reference)
    elif isinstance(reference, (str, Path, np.ndarray)) or not hasattr(reference, "__getitem__"):
        msg = f"got a reference of type {type(reference).__name__}, expected {_ACCEPTED}"
        raise TypeError(msg)
    else:
        for item in reference:
            yield from _flatten(item)


def _map_source(item):
    label = _join_names((item.observatory, item.instrument, item.nickname), item.wavelength)
    if item.data.ndim != 2 or not isinstance(item.coordinate_frame, Helioprojective):
        msg = f"got the reference {label!r}, expected an image of the Sun in helioprojective coordinates"
        raise ValueError(msg)
    path = item.meta.get("filename") or item.meta.get("file_name")
    label = Path(str(path)).name if path else label
    time = item.reference_date
    resolution = _resolution(item.wcs.low_level_wcs, item.data.shape)
    name = ", ".join(filter(None, [f"{label} {time.isot}", item.meta.get(POINTING_KEYWORD)]))
    wavelength = item.wavelength if isinstance(item.wavelength, u.Quantity) else None
    return Source(name, time, item.observer_coordinate, resolution, item, item.wcs, wavelength=wavelength)


def _cube_sources(cube):
    if is_cube(cube):
        cube = _one_channel(cube)
    if cube.data.ndim not in (2, 3):
        msg = f"got a reference cube of shape {cube.data.shape}, expected axes (y, x) or (time, y, x)"
        raise ValueError(msg)
    # An exposure that could not be aligned gives no image.
    return [_image_source(image) for image in split_images(cube) if not np.all(invalid_pixels(image.data, image.mask))]


def _one_channel(cube):
    """A cube of ESIS without its channel axis: in the channel that the other channels were aligned with."""
    names = cube.wcs.array_axis_names
    if "channel" not in names:
        return cube
    numbers = cube.channel.tolist()
    number = numbers[0] if len(numbers) == 1 else None
    for step in cube.history:
        if step.name == "coalign" and number is None:
            number = step.parameters.get("reference_channel")
    if number not in numbers:
        msg = (
            f"got a reference cube of the channels {numbers}, in which its own reference channel {number} is not: "
            f"choose one, for example cube[:, :1]"
        )
        raise ValueError(msg)
    return cube[tuple(numbers.index(number) if name == "channel" else slice(None) for name in names)]


def _image_source(image):
    wcs = high_level(image.wcs)
    low = wcs.low_level_wcs
    types = low.world_axis_physical_types
    if low.world_n_dim != 2 or not all("helioprojective" in str(kind) for kind in types):
        msg = f"got a reference cube whose images have the axes {types}, expected helioprojective coordinates only"
        raise ValueError(msg)
    place = wcs.pixel_to_world(0, 0)
    frame = place.frame if isinstance(place, SkyCoord) else None
    time = _image_time(image, frame)
    name = f"{_cube_name(image)} {time.isot}"
    observer = frame_observer(frame)
    observer = get_earth(time) if observer is None else observer
    return Source(name, time, observer, _resolution(low, image.data.shape), image, wcs)


def _image_time(image, frame):
    """Time of an image: its own, that of the axes that were sliced away, or that of its WCS."""
    found = [getattr(image, "image_time", None), getattr(image, "time", None), *image.global_coords.values()]
    found.append(getattr(frame, "obstime", None))
    for value in found:
        if isinstance(value, Time) and value.size == 1:
            return value.unmasked.ravel()[0]
    msg = "got a reference cube without times: expected them in its WCS, its extra coordinates or DATE-AVG"
    raise ValueError(msg)


def _cube_name(image):
    if not is_cube(image):
        return type(image).__name__
    if getattr(image, "name", None):
        return image.name
    parts = (
        getattr(image.flight, "name", None),
        image.line,
        "" if image.channel is None else f"channel {image.channel}",
    )
    return " ".join(part for part in parts if part)


def _axes(low):
    """The world axes that are longitude and latitude."""
    kinds = [str(kind) for kind in low.world_axis_physical_types]
    return (0, 1) if kinds[0].endswith("lon") else (1, 0)


def _resolution(low, shape):
    """Geometric mean of the sides of the pixel in the middle, in arcsec."""
    y, x = ((n - 1) / 2 for n in shape)
    lon, lat = _axes(low)
    world = np.array(low.pixel_to_world_values([x - 0.5, x + 0.5, x, x], [y, y, y - 0.5, y + 0.5]))
    world = np.stack([world[axis] * u.Unit(low.world_axis_units[axis]).to(u.arcsec) for axis in (lon, lat)])
    sides = wrap(world[:, 1::2] - world[:, ::2], 180 * 3600)
    sides[0] *= np.cos(world[1].mean() * u.arcsec.to(u.rad))
    return float(np.sqrt(abs(np.linalg.det(sides))))


def _frame_source(level1, line, number):
    """A channel in the exposure nearest to that of the flight's pose, with the pointing of the pose."""
    numbers = [int(channel) for channel in np.atleast_1d(level1.channel)]
    if number not in numbers:
        msg = f"got channel {number} as the reference, expected one of the cube's channels {numbers}"
        raise ValueError(msg)
    flight, index = level1.flight, numbers.index(number)
    rows, columns = level1.data.shape[-2:]
    y, x = np.ogrid[:rows, :columns]
    region = line_region(flight, number, line, x, y)
    for time in np.argsort(np.abs(level1.frame_number - flight.pose_frame), kind="stable"):
        image = np.where(region, np.asarray(level1.data[time, index], dtype=np.float32), np.float32(np.nan))
        image[frame_flags(level1, (time, index)) & int(Flag.INVALID) != 0] = np.nan
        if np.isfinite(image[region]).mean() > _MIN_LIT and np.nanstd(image) > 0:
            break
    else:
        msg = f"channel {number} has no usable frame to point the others by: give a reference image"
        raise ValueError(msg)
    frame_number, mid_time = int(level1.frame_number[time]), level1.meta["mid_time"][time, index]
    earth = get_earth(mid_time)
    grid = observed_grid(flight, earth, mid_time)
    pose = Alignment.from_pose(flight, number, frame_number=frame_number, line=line, time=mid_time, grid=grid)
    name = f"flight pose, channel {number} of frame {frame_number}"
    return FrameSource(name, mid_time, earth, pixel_size(grid), image, pose)


def map_name(item):
    """Title of a Map, in sunpy's words but without the date, because each image has a date of its own."""
    return _join_names((item.nickname, item.instrument, item.observatory), item.measurement)


def _join_names(names, measurement):
    """The first name that is there, and the measured quantity."""
    known = [next(filter(None, names), ""), "" if measurement is None else str(measurement)]
    return " ".join(filter(None, known)) or "image"
