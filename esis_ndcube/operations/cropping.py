"""Points to crop by, adjusted for a cube that knows its times and channels."""

import numpy as np

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time

from esis_ndcube.utils.checks import check_cube
from esis_ndcube.wcs import ESISWCS
from esis_ndcube.wcs._sun import is_hidden

__all__ = ["clip_points"]


def clip_points(cube, points, *, units=None, values=False):
    """
    Adjust points for `ndcube.NDCube.crop`, which cannot find times before the first exposure or after the last.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube.
    points : sequence
        Points. Each is a sequence of coordinates in world order, as for `ndcube.NDCube.crop`, or of values as for
        `ndcube.NDCube.crop_by_values`; channels may be plain numbers.
    units : sequence, optional
        Units of the values that have no unit.
    values : `bool`, optional
        Whether the points are values.

    Returns
    -------
    `list` of `list`
        The points, with times and channels between the first and the last of the cube.

    Raises
    ------
    ValueError
        If all times, or all channels, lie outside of the cube, or a position is not on the sky that the WCS describes.

    Examples
    --------
    >>> import numpy as np
    >>> import astropy.units as u
    >>> from astropy.time import Time
    >>> from esis_ndcube.cube import ESISCube
    >>> from esis_ndcube.operations import clip_points
    >>> from esis_ndcube.wcs import level1_wcs
    >>> times = Time(["2019-09-30T18:08:00", "2019-09-30T18:08:10.4"])
    >>> cube = ESISCube(np.zeros((2, 1, 3, 3)), wcs=level1_wcs((3, 3), times, [1]))
    >>> early, late = Time("2019-09-30T18:00:00"), Time("2019-09-30T18:08:09")
    >>> points = [None, None, None, early], [None, None, None, late]
    >>> tuple(point[-1].isot for point in clip_points(cube, points))
    ('2019-09-30T18:08:00.000', '2019-09-30T18:08:09.000')
    """
    check_cube(cube)
    points = [list(point) if isinstance(point, (tuple, list)) else [point] for point in points]
    wcs = cube.wcs
    _check_positions(wcs, [part for point in points for part in point if isinstance(part, SkyCoord)])
    if not isinstance(wcs, ESISWCS):
        return points
    kinds = _kinds(wcs, values)
    if values:
        _check_pairs(kinds, points)
    for place, kind in enumerate(kinds):
        given = [point[place] for point in points if len(point) == len(kinds)]
        unit = None if units is None or len(units) != len(kinds) else units[place]
        if kind not in ("time", "channel") or not any(part is not None for part in given):
            continue
        clipped = (_clip_times if kind == "time" else _clip_channels)(wcs, given, values=values, unit=unit)
        for point, part in zip((point for point in points if len(point) == len(kinds)), clipped, strict=True):
            point[place] = part
    return points


def _kinds(wcs, values):
    """Name of the array axis of each world axis, or of each high-level object."""
    names = wcs.array_axis_names[::-1]
    if values:
        return names
    objects = {}
    for name, component in zip(names, wcs.world_axis_object_components, strict=True):
        objects.setdefault(component[0], name)
    return list(objects.values())


def _check_pairs(kinds, points):
    """Refuse a position with only one coordinate, which determines no pixel."""
    for point in points:
        given = [kind for kind, value in zip(kinds, point, strict=False) if value is not None and kind in "xy"]
        if len(given) == 1:
            msg = f"got the point {point} with one coordinate of a position, expected both or None for both"
            raise ValueError(msg)


def _check_positions(wcs, positions):
    """Refuse positions that the Sun hides, and positions that are not on the sky that the WCS describes."""
    # A WCS of another kind may be wrapped.
    classes = getattr(wcs, "low_level_wcs", wcs).world_axis_object_classes
    frames = [kwargs["frame"] for kind, _, kwargs, *_ in classes.values() if kind is SkyCoord]
    for position in positions if frames else ():
        there = position.transform_to(frames[0])
        known = np.isfinite(there.spherical.lon) & np.isfinite(there.spherical.lat)
        if isinstance(wcs, ESISWCS):
            known &= np.isfinite(wcs.celestial.world_to_pixel(there)).all(axis=0)
        if not np.all(known & ~is_hidden(there, position)):
            msg = f"got the position {position}, expected one that the cube's observer can see"
            raise ValueError(msg)


def _clip_times(wcs, given, *, values, unit):
    times = wcs.times
    half = 0 if wcs.exposure_time is None else wcs.exposure_time.to_value("s") / 2
    seconds = wcs._exposures.seconds
    first, last = (seconds - half).min(), (seconds + half).max()
    origin = times[0] - seconds[0] * u.s

    def to_seconds(time):
        if isinstance(time, Time):
            return (time - origin).to_value("s")
        return u.Quantity(time, unit if not isinstance(time, u.Quantity) else None).to_value("s")

    known = [part for part in given if values or isinstance(part, Time)]
    offsets = np.array([to_seconds(part) for part in known if part is not None], dtype=float)
    if offsets.size and (np.all(offsets < first) or np.all(offsets > last)):
        span = f"{times[0].isot} to {times[-1].isot}"
        told = ", ".join(str(part if values else part.isot) for part in known if part is not None)
        msg = f"got the times {told}, expected some of those of the cube, {span}"
        raise ValueError(msg)
    clipped = []
    for part in given:
        if part is None or (not values and not isinstance(part, Time)):
            clipped.append(part)
            continue
        offset = to_seconds(part)
        inside = np.clip(offset, seconds[0], seconds[-1])
        if values:
            clipped.append(inside * u.s)
        else:
            clipped.append(part if inside == offset else times[0 if offset < seconds[0] else -1])
    return clipped


def _clip_channels(wcs, given, *, values, unit):
    del values, unit
    channels = wcs.channels
    numbers = [None if part is None else float(u.Quantity(part).to_value(u.one)) for part in given]
    known = np.array([number for number in numbers if number is not None])
    if np.all(known < channels[0]) or np.all(known > channels[-1]):
        msg = f"got the channels {known.tolist()}, expected some of {', '.join(map(str, channels))}"
        raise ValueError(msg)
    return [None if n is None else u.Quantity(np.clip(n, channels[0], channels[-1])) for n in numbers]
