"""Masks by hand, against a count of crossings and against the cube's own coordinates."""

import tomllib

import numpy as np
import pytest
from helpers import assert_bits_equal, assert_cubes_equal, make_cube
from matplotlib.backend_bases import KeyEvent, MouseEvent
from matplotlib.figure import Figure

import astropy.units as u
from astropy.coordinates import SkyCoord
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESISLevel3Cube
from esis_ndcube.corrections.masks import (
    PolygonMask,
    PolygonSelection,
    mask_pixels,
    mask_polygons,
    read_polygons,
    write_polygons,
)
from esis_ndcube.flags import Flag
from esis_ndcube.resample import detector_coordinates

STAR = np.array([(3.3, 2.2), (9.1, 3.6), (14.7, 1.4), (12.2, 8.3), (15.8, 14.1), (8.4, 11.2), (1.7, 15.3), (4.9, 8.8)])


def brute_force(vertices, x, y):
    """Whether a point is inside: the sides that a ray to the right meets, counted one by one."""
    inside = False
    for (ax, ay), (bx, by) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            inside = not inside
    return inside


@pytest.fixture(scope="module")
def level1():
    return make_cube((2, 3, 18, 17), level=1)


@pytest.fixture(scope="module")
def level3():
    return make_cube((2, 3, 30, 34), alignments=True)


@pytest.mark.parametrize("turn", [1, -1])
def test_detector_polygon_on_level1_frames(level1, turn):
    found = PolygonMask(STAR[::turn]).evaluate(level1)
    expected = np.array([[brute_force(STAR, x, y) for x in range(17)] for y in range(18)])
    assert 50 < expected.sum() < 200
    assert found.shape == level1.shape
    assert found.dtype == bool
    assert (found == expected).all()
    # Part of a frame keeps its coordinates.
    part = level1[:, :, 2:-3, 4:]
    assert (PolygonMask(STAR).evaluate(part) == expected[2:-3, 4:]).all()


def test_sky_polygon_on_level3(level3):
    """Where the coordinates of every pixel say."""
    x, y = np.meshgrid(np.arange(34), np.arange(30))
    lon, lat = (np.asarray(a) * 3600 for a in level3.wcs[0, 0].pixel_to_world_values(x, y))
    lon = (lon + 180 * 3600) % (360 * 3600) - 180 * 3600
    center, size = np.array([lon.mean(), lat.mean()]), 0.6
    vertices = center + (STAR - 8.6) * size
    expected = np.array([[brute_force(vertices, a, b) for a, b in zip(*r, strict=True)]
                         for r in zip(lon, lat, strict=True)])  # fmt: skip
    assert 50 < expected.sum() < 200
    found = PolygonMask((vertices / 60) * u.arcmin).evaluate(level3)
    assert (found == expected).all()
    coordinates = SkyCoord(*(vertices.T * u.arcsec), frame=level3[0, 0].wcs.pixel_to_world(0, 0).frame)
    polygon = PolygonMask.from_skycoord(coordinates, level3[0, 0])
    np.testing.assert_allclose(polygon.vertices.to_value("arcsec"), vertices, atol=1e-6)
    # A point on the disk, in coordinates of the Sun.
    carrington = coordinates.transform_to("heliographic_stonyhurst")
    np.testing.assert_allclose(
        PolygonMask.from_skycoord(carrington, level3[0, 0]).vertices.to_value("arcsec"), vertices, atol=1e-3
    )


@pytest.mark.slow
def test_detector_polygon_on_level3(level3):
    """Through the alignment of every image; nothing where there is no frame."""
    data = np.array(level3.data)
    data[0, 0] = np.nan
    cube = ESISLevel3Cube(data, wcs=level3.wcs, mask=level3.mask, flags=level3.flags, meta=level3.meta)
    for channel in (2, 3):
        u_pixel, v_pixel = detector_coordinates(cube.alignment[1, channel - 1], cube.wcs[1, channel - 1], (30, 34))
        vertices = np.array([u_pixel.mean(), v_pixel.mean()]) + (STAR - 8.6)
        found = PolygonMask(vertices, channels=channel).evaluate(cube)
        expected = np.array([[brute_force(vertices, u_pixel[y, x], v_pixel[y, x]) for x in range(34)]
                             for y in range(30)])  # fmt: skip
        assert 30 < expected.sum() < 400
        np.testing.assert_array_equal(found[1, channel - 1], expected)
        assert not found[:, [c for c in range(3) if c != channel - 1]].any()
    assert not PolygonMask(vertices).evaluate(cube)[0, 0].any()
    with pytest.raises(ValueError, match="image of frame 109, channel 1 has no alignment"):
        PolygonMask(vertices).evaluate(level3)
    # A masked image is none.
    masked = mask_pixels(level3, ~np.isfinite(data))
    assert not PolygonMask(vertices).evaluate(masked)[0, 0].any()


def test_channels_and_frames(level1):
    every = PolygonMask(STAR).evaluate(level1)[0, 0]
    found = PolygonMask(STAR, channels=[1, 3], frame_numbers=110).evaluate(level1)
    for time, channel in np.ndindex(2, 3):
        expected = every if time == 1 and channel != 1 else np.zeros_like(every)
        np.testing.assert_array_equal(found[time, channel], expected)
    with pytest.warns(SunpyUserWarning, match="is for no image of this cube"):
        assert not PolygonMask(STAR, frame_numbers=7).evaluate(level1).any()


@pytest.mark.parametrize("kind", ["level1", "level3"])
def test_masked_cube_is_a_new_one(kind, request):
    cube = request.getfixturevalue(kind)
    before = cube.mask.copy(), cube.flags.copy(), cube.history
    half = [(-1e4, -1e4), (1e4, -1e4), (1e4, 1e4)] * u.arcsec
    polygon = PolygonMask(half if kind == "level3" else STAR, frame_numbers=110)
    masked = mask_polygons(cube, polygon)
    inside = polygon.evaluate(cube)
    assert inside.any()
    np.testing.assert_array_equal(masked.mask, cube.mask | inside)
    expected = np.where(inside & ~cube.mask, cube.flags | Flag.BAD_PIXEL, cube.flags)
    assert_bits_equal(masked.flags, expected.astype(cube.flags.dtype))
    assert_bits_equal(masked.data, cube.data)
    assert masked.unit == cube.unit
    assert_bits_equal(masked.uncertainty.array, cube.uncertainty.array)
    step = masked.history[-1]
    assert step.name == "mask_polygons"
    # Enough to do it again.
    (table,) = step.parameters["polygons"]
    unit = {"detector": u.pix, "sky": u.arcsec}[table.pop("coordinates")]
    again = PolygonMask(table.pop("vertices") * unit, frame_numbers=table.pop("frames"), **table)
    np.testing.assert_array_equal(again.evaluate(cube), inside)
    for old, new in zip(before[:2], (cube.mask, cube.flags), strict=True):
        np.testing.assert_array_equal(old, new)
    assert cube.history == before[2]


def test_masked_cube_through_a_file(level3, tmp_path):
    polygon = PolygonMask([(-1e4, -1e4), (1e4, -1e4), (1e4, 1e4)] * u.arcsec, channels=2)
    write_polygons([polygon], tmp_path / "polygons.toml")
    masked = level3.mask_polygons(tmp_path / "polygons.toml").mask_pixels(np.eye(30, 34, dtype=bool))
    assert [step.name for step in masked.history[-2:]] == ["mask_polygons", "mask_pixels"]
    masked.write(tmp_path / "l3.fits")
    assert_cubes_equal(ESISLevel3Cube.read(tmp_path / "l3.fits"), masked)


def test_mask_pixels(level3):
    plane = np.random.default_rng(0).random((30, 34)) < 0.1
    np.testing.assert_array_equal(level3.mask_pixels(plane).mask, level3.mask | plane)
    whole = np.random.default_rng(1).random(level3.shape) < 0.1
    bare = ESISLevel3Cube(level3.data, wcs=level3.wcs, meta=level3.meta)
    masked = mask_pixels(bare, whole)
    np.testing.assert_array_equal(masked.mask, whole)
    assert masked.flags is None
    assert mask_pixels(level3[0, 0], plane).mask[plane].all()
    for wrong in (plane[1:], whole[0], plane.astype(int), plane.T):
        with pytest.raises(
            ValueError, match=r"got a mask of shape .* expected \(2, 3, 30, 34\) or \(30, 34\) and bool"
        ):
            mask_pixels(level3, wrong)


def test_file_there_and_back(tmp_path):
    path = tmp_path / "polygons.toml"
    polygons = [PolygonMask(STAR / 3, channels=[1, 4]), PolygonMask(STAR * 17 * u.arcsec, frame_numbers=(124, 125))]
    write_polygons(polygons, path)
    # Files keep the name that the first of them had.
    assert tomllib.loads(path.read_text())["polygon"][1]["frames"] == [124, 125]
    for one, two in zip(polygons, read_polygons(path), strict=True):
        assert_bits_equal(one.vertices.value, two.vertices.value)
        assert (one.coordinates, one.channels, one.frame_numbers) == (two.coordinates, two.channels, two.frame_numbers)
    with pytest.raises(FileExistsError):
        write_polygons(polygons, path)
    write_polygons(polygons[:1], path, overwrite=True)
    assert len(read_polygons(path)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "is no file of polygons"),
        ("[other]\n", "is no file of polygons"),
        ('[[polygon]]\ncoordinates = "moon"\nvertices = [[0, 0], [1, 0], [0, 1]]\n', "polygon 1.*'detector' or 'sky'"),
        ('[[polygon]]\ncoordinates = "sky"\nvertices = [[0, 0], [1, 0]]\n', "polygon 1.*2 vertices"),
        ('[[polygon]]\ncoordinates = "sky"\n', "polygon 1.*vertices"),
        ('[[polygon]]\ncoordinates = "sky"\nvertices = [[0, 0], [1, 0], [0, 1]]\ncolor = 1\n', "polygon 1.*color"),
        (
            '[[polygon]]\ncoordinates = "sky"\nvertices = [[0, 0], [1, 0], [0, 1]]\nframe_numbers = 1\n',
            "polygon 1.*frame_numbers",
        ),
    ],
)
def test_wrong_files(tmp_path, text, words):
    path = tmp_path / "polygons.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_polygons(path)


@pytest.mark.parametrize(
    ("vertices", "words"),
    [
        ([(0, 0), (1, 1)], "got a polygon of 2 vertices, expected at least 3"),
        ([(0, 0), (1, 1), (0, 0)], "got a polygon of 2 vertices"),
        (np.zeros((0, 2)), "got a polygon of 0 vertices"),
        ([(0, 0, 0), (1, 1, 1), (0, 1, 1)], r"got vertices of shape \(3, 3\)"),
        ([(0, 0), (1, np.nan), (0, 1)], "not finite"),
        # A bow tie; a vertex on a side; a side on another; a spike; a vertex given twice.
        ([(0, 0), (9, 9), (9, 0), (0, 9)], "sides 0 and 2 meet"),
        ([(0, 0), (8, 0), (8, 4), (4, 0), (0, 4)], "sides 0 and 2 meet"),
        ([(0, 0), (8, 0), (8, 4), (6, 0), (2, 0), (0, 4)], "sides 0 and 2 meet"),
        ([(0, 0), (8, 0), (4, 0), (4, 4)], "sides 0 and 1 meet"),
        ([(0, 0), (4, 0), (4, 0), (4, 4)], "sides 0 and 1 meet"),
        ([(0, 0), (1, 1), (2, 2)], "meet"),
    ],
)
def test_what_is_no_polygon(vertices, words):
    with pytest.raises(ValueError, match=words):
        PolygonMask(vertices)


def test_every_star_that_does_not_cross_itself():
    """Random orders of vertices: refused if and only if two sides cross, by a parametric solution."""
    rng = np.random.default_rng(3)
    seen = {True: 0, False: 0}
    for _ in range(200):
        vertices = rng.random((5, 2))
        ends = np.roll(vertices, -1, axis=0)
        crosses = False
        for i, j in ((0, 2), (0, 3), (1, 3), (1, 4), (2, 4)):
            matrix = np.column_stack([ends[i] - vertices[i], vertices[j] - ends[j]])
            s, t = np.linalg.solve(matrix, vertices[j] - vertices[i])
            crosses |= 0 <= s <= 1 and 0 <= t <= 1
        seen[crosses] += 1
        if crosses:
            with pytest.raises(ValueError, match="meet"):
                PolygonMask(vertices)
        else:
            PolygonMask(vertices)
    assert min(seen.values()) > 20


def test_wrong_coordinates(level1, level3):
    with pytest.raises(u.UnitTypeError, match="expected detector pixels or angles"):
        PolygonMask(STAR * u.s)
    with pytest.raises(ValueError, match="mask the Level-3 cube with it"):
        PolygonMask(STAR * u.arcsec).evaluate(level1)
    with pytest.raises(ValueError, match="slice with ranges"):
        PolygonMask(STAR).evaluate(level1[0])
    with pytest.raises(ValueError, match="got no polygons"):
        level3.mask_polygons([])
    with pytest.raises(ValueError, match="expected one image"):
        PolygonSelection(level1[0])
    with pytest.raises(ValueError, match="got a polygon in detector coordinates, expected sky ones"):
        PolygonSelection(level3[0, 0], polygon=PolygonMask(STAR))


def act(axes, name, x, y, *, buttons=(), **options):
    """A mouse event at a pixel of the image."""
    canvas = axes.figure.canvas
    px, py = axes.transData.transform((x, y))
    event = MouseEvent(name, canvas, px, py, **options)
    # Matplotlib 3.9 neither takes nor needs it.
    event.buttons = frozenset(buttons)
    canvas.callbacks.process(name, event)


def click(axes, x, y):
    act(axes, "motion_notify_event", x, y)
    act(axes, "button_press_event", x, y, button=1)
    act(axes, "button_release_event", x, y, button=1)


@pytest.mark.parametrize("kind", ["level1", "level3"])
def test_polygon_with_the_mouse(kind, request):
    cube = request.getfixturevalue(kind)
    image = cube[1, 1]
    axes = Figure(figsize=(8, 8)).add_subplot()
    axes.imshow(image.data, origin="lower")
    selection = PolygonSelection(image, axes=axes)
    with pytest.raises(ValueError, match="expected at least 3"):
        selection.polygon()
    drawn = [(2.5, 3.5), (12.5, 2.5), (9.3, 13.4)]
    for x, y in [*drawn, drawn[0]]:
        click(axes, x, y)
    expected = np.array([[brute_force(np.array(drawn), x, y) for x in range(image.shape[1])]
                         for y in range(image.shape[0])])  # fmt: skip
    np.testing.assert_array_equal(selection.polygon(frame_numbers=110).evaluate(cube)[1, 1], expected)
    # A vertex is taken and moved.
    act(axes, "motion_notify_event", 9.3, 13.4)
    act(axes, "button_press_event", 9.3, 13.4, button=1)
    act(axes, "motion_notify_event", 4.5, 15.5, buttons={1})
    act(axes, "button_release_event", 4.5, 15.5, button=1)
    drawn[2] = (4.5, 15.5)
    moved = np.array([[brute_force(np.array(drawn), x, y) for x in range(image.shape[1])]
                      for y in range(image.shape[0])])  # fmt: skip
    assert (moved != expected).any()
    np.testing.assert_array_equal(selection.polygon().evaluate(cube)[1, 1], moved)
    # And goes on from a polygon that is there.
    again = PolygonSelection(image, axes=axes, polygon=selection.polygon(channels=2))
    np.testing.assert_allclose(again.selector.verts, drawn, atol=1e-6)
    canvas = axes.figure.canvas
    act(axes, "motion_notify_event", 1, 1)
    canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, "escape"))
    canvas.callbacks.process("key_release_event", KeyEvent("key_release_event", canvas, "escape"))
    with pytest.raises(ValueError, match="expected at least 3"):
        again.polygon()


def test_polygon_on_a_new_figure(level3):
    import matplotlib.pyplot as plt

    selection = PolygonSelection(level3[0, 0])
    axes, _ = plt.gcf().axes
    assert selection.selector.ax is axes
    visible = np.where(level3.mask[0, 0], np.nan, level3.data[0, 0])
    np.testing.assert_array_equal(np.ma.filled(axes.get_images()[0].get_array(), np.nan), visible)
    plt.close("all")
