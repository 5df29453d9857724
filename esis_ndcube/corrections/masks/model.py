"""A polygon on the detector or on the Sun, and the pixels inside of it."""

from dataclasses import dataclass

import numpy as np
from matplotlib.path import Path as Outline

import astropy.units as u
from sunpy.util.exceptions import warn_user

from esis_ndcube.corrections.correction import CorrectionImage, image_facts
from esis_ndcube.corrections.masks._sides import check_sides
from esis_ndcube.utils.arrays import invalid_pixels
from esis_ndcube.utils.checks import check_axes, check_cube
from esis_ndcube.wcs._sun import celestial_frame, is_hidden, wrap

__all__ = ["PolygonMask"]

# Nobody draws more vertices; each side is compared with all others.
_MOST = 5000


@dataclass(frozen=True, eq=False)
class PolygonMask:
    """
    A polygon that makes the pixels inside of it bad.

    Attributes
    ----------
    vertices : `~astropy.units.Quantity`
        Shape (n, 2). Vertices in pixels are detector pixels (u, v) of a Level-1 frame, 0-based centers. Vertices as
        angles are helioprojective (x, y) in the frame of the cube. Numbers without a unit are detector pixels.
        The last vertex may repeat the first.
    channels, frame_numbers : `tuple` of `int` or None
        Channel numbers and raw frame numbers of the images to mask; None for all.

    Raises
    ------
    ValueError
        If there are fewer than three vertices or more than 5000, a vertex is not finite, sides cross or touch each
        other, or a channel or frame number is no whole number.
    astropy.units.UnitTypeError
        If the unit is neither pixel nor an angle.

    Examples
    --------
    >>> import astropy.units as u
    >>> from esis_ndcube.corrections.masks import PolygonMask
    >>> scratch = PolygonMask([(1100, 400), (1180, 400), (1180, 420)], channels=1)
    >>> scratch.coordinates, scratch.channels
    ('detector', (1,))
    >>> PolygonMask([(-100, 0), (100, 0), (0, 80)] * u.arcsec).coordinates
    'sky'
    >>> PolygonMask([(0, 0), (9, 9), (9, 0), (0, 9)])
    Traceback (most recent call last):
        ...
    ValueError: got a polygon whose sides 0 and 2 meet, expected one that does not cross itself: ...
    """

    vertices: u.Quantity
    channels: tuple | None = None
    frame_numbers: tuple | None = None

    def __post_init__(self):
        vertices = u.Quantity(self.vertices, copy=True)
        if vertices.unit == u.one:
            vertices = vertices.value * u.pix
        if vertices.unit != u.pix:
            if not vertices.unit.is_equivalent(u.arcsec):
                msg = f"got vertices in {vertices.unit}, expected detector pixels or angles"
                raise u.UnitTypeError(msg)
            vertices = vertices.to(u.arcsec)
        if vertices.ndim != 2 or vertices.shape[1] != 2:
            msg = f"got vertices of shape {vertices.shape}, expected (n, 2)"
            raise ValueError(msg)
        if len(vertices) and (vertices[0] == vertices[-1]).all():
            vertices = vertices[:-1]
        if len(vertices) < 3:
            msg = f"got a polygon of {len(vertices)} vertices, expected at least 3"
            raise ValueError(msg)
        if len(vertices) > _MOST:
            msg = f"got a polygon of {len(vertices)} vertices, expected at most {_MOST}: leave some out"
            raise ValueError(msg)
        if not np.isfinite(vertices).all():
            msg = "got a polygon with a vertex that is not finite: leave it out"
            raise ValueError(msg)
        check_sides(vertices.value)
        vertices.setflags(write=False)
        object.__setattr__(self, "vertices", vertices)
        for name in ("channels", "frame_numbers"):
            numbers = getattr(self, name)
            if numbers is not None:
                object.__setattr__(self, name, _whole_numbers(name, numbers))

    @property
    def coordinates(self):
        """Kind of the coordinates (`str`): ``"detector"`` or ``"sky"``."""
        return "detector" if self.vertices.unit == u.pix else "sky"

    @classmethod
    def from_skycoord(cls, coordinates, image, *, channels=None, frame_numbers=None):
        """
        A polygon on the Sun from coordinates in any frame.

        Parameters
        ----------
        coordinates : `~astropy.coordinates.SkyCoord`
            The vertices, shape (n,).
        image : `~esis_ndcube.ESISLevel3Cube`
            An image of the cube to be masked, with its observer: shape (y, x).
        channels, frame_numbers : `int` or sequence of `int`, optional
            As for `PolygonMask`.

        Returns
        -------
        `PolygonMask`
            The polygon.

        Raises
        ------
        ValueError
            If the Sun hides a vertex from the observer.

        Examples
        --------
        >>> from esis_ndcube.corrections.masks import PolygonMask
        >>> flare = PolygonMask.from_skycoord(coordinates, cube[0, 0])  # doctest: +SKIP
        """
        there = coordinates.transform_to(celestial_frame(image.wcs))
        if (hidden := is_hidden(there, coordinates)).any():
            msg = f"got the vertices {coordinates[hidden]}, expected those that the image's observer can see"
            raise ValueError(msg)
        pixels = np.stack(image.wcs.world_to_pixel(there), axis=-1)
        return cls(image_coordinates(image.wcs, pixels), channels, frame_numbers)

    def to_dict(self):
        """
        The polygon as plain values, by the names in a file.

        Returns
        -------
        `dict`
            ``coordinates``, ``vertices`` in pixels or arcsec, and ``channels`` and ``frames`` if the polygon is not for
            all of them.

        Examples
        --------
        >>> from esis_ndcube.corrections.masks import PolygonMask
        >>> PolygonMask([(0, 0), (4, 0), (4, 4)], channels=1).to_dict()
        {'coordinates': 'detector', 'vertices': [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]], 'channels': [1]}
        """
        table = {"coordinates": self.coordinates, "vertices": self.vertices.value.tolist()}
        for name, numbers in (("channels", self.channels), ("frames", self.frame_numbers)):
            if numbers is not None:
                table[name] = list(numbers)
        return table

    def evaluate(self, cube):
        """
        The pixels of a cube that are inside of the polygon.

        Parameters
        ----------
        cube : `~esis_ndcube.ESISLevel3Cube` or `~esis_ndcube.ESISLevel1Cube`
            Shape (time, channel, y, x).
            The detector pixels of a Level-3 cube follow from the alignment that each image was resampled with.

        Returns
        -------
        `numpy.ndarray`
            Boolean, of the cube's shape, True where the center of the pixel is inside.

        Raises
        ------
        ValueError
            If the cube has other axes, or the polygon's coordinates do not lead to its pixels.

        Warns
        -----
        sunpy.util.exceptions.SunpyUserWarning
            If the polygon is for no image of the cube.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> from esis_ndcube.corrections.masks import PolygonMask
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> PolygonMask([(1100, 400), (1180, 400), (1180, 420)]).evaluate(cube).sum()  # doctest: +SKIP
        """
        self._check(cube)
        shape = cube.data.shape
        images = [CorrectionImage(mask=np.zeros(shape[2:], bool), **facts) for facts in image_facts(cube).values()]
        return np.reshape([self._inside(image) for image in images], shape)

    def _check(self, cube):
        """Refuse a cube without coordinates of the polygon's kind, and warn if the polygon is for no image of it."""
        check_cube(cube)
        check_axes(cube)
        concerned = [facts for facts in image_facts(cube).values() if self._concerns(**facts)]
        if not concerned:
            warn_user(
                f"a polygon for channels {self.channels} and frames {self.frame_numbers} is for no image of this cube"
            )
        for facts in concerned:
            place = _own_coordinates(facts["wcs"])
            if self.coordinates == place:
                continue
            if place == "detector":
                msg = (
                    "got a polygon on the Sun and Level-1 frames, which are not aligned: mask the Level-3 cube with it"
                )
                raise ValueError(msg)
            if facts["alignment"] is None and not np.all(invalid_pixels(cube.data, cube.mask, facts["index"])):
                msg = (
                    f"the image of frame {facts['frame_number']}, channel {facts['channel']} has no alignment to "
                    "place detector pixels with: give the polygon on the Sun"
                )
                raise ValueError(msg)

    def _inside(self, image):
        """True where the centers of an image's pixels are inside; False for an image that the polygon is not for."""
        if not self._concerns(image.channel, image.frame_number):
            return np.zeros(image.shape, dtype=bool)
        if self.coordinates == _own_coordinates(image.wcs):
            y, x = np.indices(image.shape)
            return _contains(image_pixels(image.wcs, self.vertices), x, y)
        if image.detector is None:
            return np.zeros(image.shape, dtype=bool)
        return _contains(self.vertices.value, *image.detector)

    def _concerns(self, channel, frame_number, **_):
        return (self.channels is None or channel in self.channels) and (
            self.frame_numbers is None or frame_number in self.frame_numbers
        )


def _whole_numbers(name, numbers):
    numbers = [numbers] if np.ndim(numbers) == 0 else list(numbers)
    if any(isinstance(number, bool | np.bool_) or int(number) != number for number in numbers):
        msg = f"got {name} {numbers}, expected whole numbers: leave {name} out for all"
        raise ValueError(msg)
    return tuple(int(number) for number in numbers)


def _own_coordinates(wcs):
    return "detector" if u.Unit(wcs.low_level_wcs.world_axis_units[0]) == u.pix else "sky"


def image_coordinates(wcs, pixels):
    """Detector or sky coordinates of pixels (x, y) of an image, both of shape (n, 2)."""
    wcs = wcs.low_level_wcs
    values = wcs.pixel_to_world_values(*pixels.T)
    world = [np.asarray(v) * u.Unit(unit) for v, unit in zip(values, wcs.world_axis_units, strict=True)]
    if world[0].unit != u.pix:
        world[0] = wrap(world[0], 180 * u.deg)
    return u.Quantity(world).T


def image_pixels(wcs, coordinates):
    """Pixels (x, y) of an image at detector or sky coordinates, the way back."""
    wcs = wcs.low_level_wcs
    world = (coordinates[:, axis].to_value(unit) for axis, unit in enumerate(wcs.world_axis_units))
    return np.stack(wcs.world_to_pixel_values(*world), axis=-1)


def _contains(vertices, x, y):
    """Whether points are inside of a polygon; points with NaN are not."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    # False for NaN
    near = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
    near[near] = Outline(vertices).contains_points(np.column_stack([x[near], y[near]]))
    return near
