"""The co-alignment of any two images, against known maps, brute force, plain reproject, and real images."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from helpers import benchmark, make_cube, view
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, shift

import astropy.units as u
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from ndcube import NDCube
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective, get_earth
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import coalign
from esis_ndcube.registration import (
    ImageAlignment,
    PolynomialTransform,
    Search,
    coalign_images,
    coarse_search,
    correlation_surface,
)

SIZE = 260


def make_scene(seed=0, size=SIZE, smooth=2.0):
    """A positive image with bright points, that a spline follows."""
    rng = np.random.default_rng(seed)
    rough = sum(a * _normed(gaussian_filter(rng.normal(size=(size, size)), s)) for a, s in ((0.5, smooth), (0.5, 8)))
    return 200 * np.exp(rough)


def _normed(image):
    return (image - image.mean()) / image.std()


def centered(matrix, offset, *, size=SIZE, bend=()):
    """A map of the plane about the middle of an image."""
    middle = (size - 1) / 2
    linear = np.column_stack([np.add(offset, middle), np.asarray(matrix, dtype=float) * size / 2])
    return PolynomialTransform(np.column_stack([linear, *bend]), (middle, middle), size / 2)


def rotation(degrees, scale=1.0):
    turn = np.radians(degrees)
    return scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def error(alignment, truth, shape=(SIZE, SIZE), margin=20):
    """RMS distance from the true map in pixels of the image."""
    y, x = np.mgrid[margin : shape[0] - margin : 8, margin : shape[1] - margin : 8].astype(float)
    off = np.subtract(alignment.transform(x, y), truth(x, y))
    return np.sqrt(np.mean(np.sum(off**2, axis=0)))


BEND = [[1.5, -0.8], [0.6, 1.1], [-0.9, 0.4]]
TRUTHS = {
    "shift": centered(np.eye(2), (3.37, -5.21)),
    "affine": centered(rotation(1.5, 1.02) @ [[1, 0.01], [0, 0.99]], (2.3, 4.1)),
    "quadratic": centered(rotation(-0.7, 0.99), (-2.6, 1.7), bend=BEND),
    "cubic": centered(rotation(0.4), (1.2, -0.8), bend=[*BEND, [0.7, -0.5], [-0.6, 0.3], [0.4, 0.8], [0.5, -0.7]]),
}


@pytest.mark.parametrize("other_passband", [False, True])
@pytest.mark.parametrize("kind", TRUTHS)
@pytest.mark.slow
def test_known_maps_are_found_in_noise(kind, other_passband):
    """The image shows at T(x) what the reference shows at x."""
    truth = TRUTHS[kind]
    rng = np.random.default_rng(3)
    image = make_scene()
    reference = view(image, truth, (SIZE, SIZE))
    if other_passband:
        # Another response to the same, structures of its own, a gradient and another level.
        own = make_scene(seed=9)
        reference = (30 * reference**0.6 + 0.3 * own) * np.linspace(0.6, 1.4, SIZE)
    outside = np.isnan(reference)
    reference = rng.poisson(np.nan_to_num(reference)).astype(float)
    reference[outside] = np.nan
    alignment = coalign(rng.poisson(image), reference, transform=kind)
    assert alignment.converged
    assert alignment.kind == kind
    assert error(alignment, truth) < 0.05
    x, y = np.array([40.0, 150.0, 200.0]), np.array([60.0, 200.0, 90.0])
    np.testing.assert_allclose(alignment.inverse(*alignment.transform(x, y)), (x, y), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "distance"), [(100, 10), (260, 20)])
def test_displacements_that_the_fit_captures(size, distance):
    for seed, direction in enumerate(np.radians([0, 75, 150, 225, 300])):
        truth = PolynomialTransform.from_affine(
            [[1, 0, distance * np.cos(direction)], [0, 1, distance * np.sin(direction)]]
        )
        image = make_scene(seed, size)
        alignment = coalign(image, view(image, truth, image.shape))
        assert alignment.converged
        np.testing.assert_allclose(alignment.transform(size / 2, size / 2), truth(size / 2, size / 2), atol=0.05)


def test_a_smaller_transform_does_not_follow_the_distortion():
    truth = TRUTHS["quadratic"]
    image = make_scene()
    reference = view(image, truth, (SIZE, SIZE))
    errors = []
    for kind, degree in (("shift", 1), ("affine", 2)):
        with pytest.warns(SunpyUserWarning, match=f"need terms of degree {degree}, which the {kind} transform lacks"):
            found = coalign(image, reference, transform=kind)
        assert found.misfit.significant
        errors.append(error(found, truth))
        # That is about the error that it tells of.
        assert found.misfit.size == pytest.approx(errors[-1], rel=0.5)
    large = coalign(image, reference, transform="quadratic")
    assert not large.misfit.significant or large.misfit.size < 0.02
    errors.append(error(large, truth))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02


def test_blocks_that_are_missing_do_not_matter():
    truth = TRUTHS["affine"]
    image = make_scene()
    reference = view(image, truth, (SIZE, SIZE))
    image[40:100, 60:130] = np.nan
    image[200:230, :90] = np.inf
    mask = np.zeros(reference.shape, dtype=bool)
    mask[120:180, 30:90] = True
    # Masked pixels are bright garbage.
    reference[mask] = 1e5
    for masked in (NDData(reference, mask=mask), np.ma.array(reference, mask=mask)):
        alignment = coalign(image, masked)
        assert alignment.converged
        assert error(alignment, truth) < 0.05
    assert error(coalign(image, reference), truth) > error(alignment, truth)


@pytest.mark.parametrize(
    "search", [None, Search(60, rolls=np.arange(-25, 26) * u.deg, scales=np.arange(0.9, 1.05, 0.02))]
)
@pytest.mark.slow
def test_the_search_finds_what_the_fit_does_not_capture(search):
    truth = centered(rotation(17.3, 0.93), (-31.0, 22.0))
    image = make_scene(seed=5)
    reference = view(image, truth, (SIZE, SIZE))
    alignment = coalign(image, reference, search=search)
    assert alignment.converged == (search is not None)
    if search is not None:
        assert error(alignment, truth, margin=40) < 0.05


@pytest.mark.parametrize("swapped", [False, True])
def test_a_small_image_is_found_in_a_large_one(swapped):
    large = make_scene(seed=6, size=400)
    small = large[210:280, 90:170]
    truth = PolynomialTransform.from_affine([[1, 0, -90], [0, 1, -210]])
    pair = (large, small) if swapped else (small, large)
    # The same pixels to start from are those of one corner.
    alignment = coalign(*pair, transform="shift", search=Search(300))
    assert alignment.converged
    expected = truth.inverse(35.0, 40.0) if swapped else truth(125.0, 250.0)
    np.testing.assert_allclose(alignment.transform(*((35.0, 40.0) if swapped else (125.0, 250.0))), expected, atol=0.05)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_pixels_of_different_size(factor):
    """Filter and bins are those of the coarser pixels."""
    shape = (int(SIZE / factor),) * 2
    scene = make_scene(seed=7, smooth=2.0 * max(factor, 1))
    start = PolynomialTransform.from_affine([[factor, 0, 0], [0, factor, 0]])
    truth = PolynomialTransform.from_affine([[factor, 0, 2.2 * factor], [0, factor, -1.4 * factor]])
    reference = view(scene, truth, shape)
    alignment = coalign(scene, reference, start=start)
    assert alignment.converged
    assert error(alignment, truth, shape=shape) < 0.05 * max(factor, 1)


def make_map(data, *, scale, center=(0, 0), roll=0, time="2019-09-30T18:08:00", observer=None, **kwargs):
    observer = get_earth(time) if observer is None else observer
    place = SkyCoord(*center * u.arcsec, frame=Helioprojective(observer=observer, obstime=time))
    angle = roll * u.deg
    meta = sunpy.map.make_fitswcs_header(
        data, place, scale=[scale, scale] * u.arcsec / u.pix, rotation_angle=angle, instrument="none", **kwargs
    )
    return sunpy.map.Map(data, meta)


def map_of(scene, wcs_scene, shape, **kwargs):
    """A map that shows the scene of another WCS where its own WCS says."""
    empty = make_map(np.zeros(shape), **kwargs)
    y, x = np.indices(shape)
    position = pixel_to_pixel(empty.wcs, wcs_scene, x, y)
    return make_map(map_coordinates(scene, position[::-1], order=3, cval=np.nan), **kwargs)


@pytest.fixture(scope="module")
def maps():
    """Two maps of one scene; the second has another scale, roll and center, and is wrong by (4, -3) arcsec."""
    scene = make_scene(seed=11, size=400)
    first = make_map(scene, scale=0.6)
    true = map_of(scene, first.wcs, (150, 170), scale=0.9, center=(12, -20), roll=7)
    wrong = true.shift_reference_coord(4 * u.arcsec, -3 * u.arcsec)
    return first, true, wrong


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shift", "affine"])
def test_the_coordinates_of_maps_are_the_start_and_are_corrected(maps, kind):
    reference, true, wrong = maps
    alignment = coalign(wrong, reference, transform=kind)
    assert alignment.converged
    y, x = np.mgrid[140:260:20, 140:260:20].astype(float)
    expected = pixel_to_pixel(reference.wcs, true.wcs, x, y)
    np.testing.assert_allclose(alignment.transform(x, y), expected, atol=0.05)
    corrected = alignment.align_map(wrong)
    assert type(corrected) is type(wrong)
    v, h = np.mgrid[:150:30, :170:30]
    off = corrected.wcs.pixel_to_world(h, v).separation(true.wcs.pixel_to_world(h, v)).to_value(u.arcsec)
    assert off.max() < 0.06
    assert wrong.wcs.pixel_to_world(85, 75).separation(true.wcs.pixel_to_world(85, 75)) > 4.9 * u.arcsec
    # Tools see it: what another package puts on the reference's pixels is the reference.
    again = corrected.reproject_to(reference.wcs)
    inside = np.isfinite(again.data)
    assert np.corrcoef(again.data[inside], reference.data[inside])[0, 1] > 0.995
    assert corrected.reference_date == wrong.reference_date
    wcs = alignment.corrected_wcs(wrong.wcs)
    np.testing.assert_allclose(wcs.wcs.crpix, corrected.wcs.wcs.crpix)
    assert wcs.array_shape == wrong.data.shape


@pytest.mark.slow
def test_every_form_of_an_image_is_the_same_image(maps):
    reference, _, wrong = maps
    expected = coalign(wrong, reference).transform.coefficients
    forms = [lambda m: (m.data, m.wcs), lambda m: NDData(m.data, wcs=m.wcs), lambda m: NDCube(m.data, wcs=m.wcs)]
    for form in forms:
        np.testing.assert_array_equal(coalign(form(wrong), form(reference)).transform.coefficients, expected)
    # One without coordinates is only of use with a start.
    start = coalign(wrong, reference).transform
    alone = coalign(wrong.data, reference, start=start)
    np.testing.assert_allclose(alone.transform.coefficients, expected, atol=0.02)


def test_another_form_of_matrix_in_the_header(maps):
    reference, true, wrong = maps
    header = wrong.wcs.to_header()
    for keys in ({"CD": True}, {"CROTA2": True}):
        changed = header.copy()
        for key in [key for key in changed if key.startswith("PC")]:
            del changed[key]
        if "CD" in keys:
            matrix = wrong.wcs.pixel_scale_matrix
            for i, j in np.ndindex(2, 2):
                changed[f"CD{i + 1}_{j + 1}"] = matrix[i, j]
            del changed["CDELT1"], changed["CDELT2"]
        else:
            changed["CROTA2"] = 7.0
        wcs = WCS(changed)
        corrected = coalign((wrong.data, wcs), reference).corrected_wcs(wcs)
        off = corrected.pixel_to_world(85, 75).separation(true.wcs.pixel_to_world(85, 75))
        assert off < 0.06 * u.arcsec


def test_without_a_wcs_the_image_gets_the_one_of_the_reference(maps):
    reference, true, _ = maps
    start = PolynomialTransform.from_affine([[0.66, 0.08, -55], [-0.08, 0.66, -18]])
    alignment = coalign(true.data, reference, start=start, search=Search(20))
    assert alignment.converged
    off = alignment.corrected_wcs().pixel_to_world(85, 75).separation(true.wcs.pixel_to_world(85, 75))
    assert off < 0.05 * u.arcsec


def test_observers_apart_are_left_out_of_the_correction():
    """Both maps show what is painted on the sphere; the second is wrong by a shift alone."""
    time = "2019-09-30T18:08:00"
    scene = make_scene(seed=12, size=500)
    paint = make_map(scene, scale=1.2)
    observer = SkyCoord(5 * u.deg, -2 * u.deg, 0.8 * u.AU, frame=HeliographicStonyhurst(obstime=time))
    true = map_of(scene, paint.wcs, (220, 220), scale=1.5, observer=observer, center=(-30, 25))
    wrong = true.shift_reference_coord(-5 * u.arcsec, 3 * u.arcsec)
    alignment = coalign(wrong, paint)
    corrected = alignment.align_map(wrong)
    # An affine map leaves the curvature of the parallax over the field: it is near to the affine map that is nearest to
    # the truth where the filter does not see the edge.
    y, x = (a.ravel().astype(float) for a in np.mgrid[0:500:7, 0:500:7])
    there = np.stack(pixel_to_pixel(paint.wcs, true.wcs, x, y), axis=1)
    inside = ((there > 5) & (there < 214)).all(axis=1)
    own = alignment.transform
    coefficients = np.linalg.lstsq(own.terms(x, y)[inside], there[inside], rcond=None)[0].T
    nearest = replace(alignment, transform=PolynomialTransform(coefficients, own.origin, own.scale)).align_map(wrong)
    v, h = np.mgrid[20:200:30, 20:200:30]
    off = corrected.wcs.pixel_to_world(h, v).separation(nearest.wcs.pixel_to_world(h, v))
    assert off.max() < 0.3 * u.arcsec
    assert corrected.observer_coordinate.separation_3d(true.observer_coordinate) < 1 * u.km


def brute_force(reference, warped, mask, there, reach):
    values = np.empty((2 * reach + 1,) * 2)
    rows, columns = reference.shape
    for j, i in np.ndindex(values.shape):
        dy, dx = j - reach, i - reach
        a = slice(max(0, -dy), rows - max(0, dy)), slice(max(0, -dx), columns - max(0, dx))
        b = slice(max(0, dy), rows - max(0, -dy)), slice(max(0, dx), columns - max(0, -dx))
        both = mask[a] & there[b]
        values[j, i] = np.corrcoef(reference[a][both], warped[b][both])[0, 1]
    return values


def test_the_surface_is_what_brute_force_gives():
    rng = np.random.default_rng(0)
    one, other = make_scene(1, 90)[:70], make_scene(2, 90)[:70]
    other = other + shift(one, (3, -2), order=1, mode="nearest")
    mask, there = (rng.random((70, 90)) > 0.3 for _ in range(2))
    surface = correlation_surface(one, np.where(there, other, np.nan), reach=6, mask=mask)
    np.testing.assert_allclose(surface.values, brute_force(one, other, mask, there, 6), atol=1e-9)
    np.testing.assert_array_equal(surface.dx, np.arange(-6, 7))
    row, column = np.unravel_index(surface.values.argmax(), surface.values.shape)
    # The second one shows the same three rows above and two columns to the left.
    assert (surface.dx[column], surface.dy[row]) == (-2, 3)
    np.testing.assert_allclose(surface.peak[:2], (-2, 3), atol=0.2)


def test_the_peak_of_a_parabola():
    x = np.arange(-4, 5)
    values = 0.9 - 0.01 * (x - 1.3) ** 2 - 0.02 * (x[:, None] + 0.4) ** 2
    from esis_ndcube.registration import CorrelationSurface

    np.testing.assert_allclose(CorrelationSurface(values, x, x).peak, (1.3, -0.4, 0.9), atol=1e-12)


@pytest.mark.parametrize("widths", [(1.0, 8.0), None])
def test_the_surface_has_its_maximum_at_the_solution(widths):
    truth = TRUTHS["affine"]
    image = make_scene()
    reference = view(image, truth, (SIZE, SIZE), np.random.default_rng(2))
    alignment = coalign(image, reference, surface=10, widths=widths)
    surface = alignment.surface
    assert surface.values.shape == (21, 21)
    dx, dy, height = surface.peak
    assert np.hypot(dx, dy) < 0.05
    assert np.nanargmax(surface.values) == 10 * 21 + 10
    assert surface.values[10, 10] == pytest.approx(alignment.score, abs=0.01)
    assert height >= surface.values[10, 10]
    assert coalign(image, reference, widths=widths).surface is None
    # A solution that is off by three pixels has it there.
    start = PolynomialTransform.from_affine([[1, 0, 3], [0, 1, -2]])
    fixed = correlation_surface(
        view(image, PolynomialTransform.from_affine(np.eye(2, 3)), (200, 200)), view(image, start, (200, 200)), reach=5
    )
    np.testing.assert_allclose(fixed.peak[:2], (-3, 2), atol=0.05)


def test_the_image_on_the_pixels_of_the_reference():
    truth = TRUTHS["quadratic"]
    image = make_scene()
    reference = view(image, truth, (SIZE, SIZE - 20))
    alignment = coalign(image, reference, transform="quadratic")
    before = image.copy()
    array, footprint = alignment.apply(image)
    np.testing.assert_array_equal(image, before)
    assert array.shape == footprint.shape == (SIZE, SIZE - 20)
    assert set(np.unique(footprint)) == {0.0, 1.0}
    np.testing.assert_array_equal(np.isfinite(array), footprint == 1)
    u_pixel, v_pixel = truth(*np.indices(array.shape, dtype=float)[::-1])
    far_in = (u_pixel > 1) & (u_pixel < SIZE - 2) & (v_pixel > 1) & (v_pixel < SIZE - 2)
    assert footprint[far_in].all()
    assert not footprint[(u_pixel < -1) | (v_pixel < -1) | (u_pixel > SIZE) | (v_pixel > SIZE)].any()
    assert np.sqrt(np.mean((array - reference)[far_in] ** 2)) < 0.02 * reference[far_in].std()
    # Another image of the same pixels.
    ramp = alignment.apply(np.tile(np.arange(SIZE, dtype=float), (SIZE, 1)), order=1)[0]
    np.testing.assert_allclose(ramp[far_in], u_pixel[far_in], atol=0.1)
    with pytest.raises(ValueError, match=r"got an image of shape \(10, 10\), expected .*\(260, 260\)"):
        alignment.apply(np.eye(10))
    with pytest.raises(ValueError, match="got order 'lanczos'"):
        alignment.apply(image, order="lanczos")


@pytest.mark.slow
def test_images_that_have_nothing_in_common_are_not_aligned():
    rng = np.random.default_rng(8)
    for kind in ("shift", "affine", "cubic"):
        for a, b in ((make_scene(20), make_scene(21)), rng.poisson(100, (2, SIZE, SIZE))):
            alignment = coalign(a, b, transform=kind, search=Search(40))
            assert not alignment.converged
            assert alignment.reason != "converged"
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "HPLN-TAN", "HPLT-TAN"
    alone = coalign(make_scene(20), (make_scene(21), wcs))
    with pytest.raises(ValueError, match="could not be aligned"):
        alone.corrected_wcs()


@pytest.mark.slow
def test_the_covariance_is_that_of_the_noise():
    scene = make_scene(seed=13, size=140)
    truth = PolynomialTransform.from_affine([[1, 0, 1.3], [0, 1, -0.6]])
    clean = view(scene, truth, (140, 140))
    rng = np.random.default_rng(4)
    found, sigma = [], []
    for _ in range(30):
        noisy = [np.where(np.isnan(a), np.nan, a + rng.normal(0, 90, a.shape)) for a in (scene, clean)]
        alignment = coalign(noisy[0], noisy[1], transform="shift")
        found.append(np.subtract(alignment.transform(70, 70), truth(70, 70)))
        sigma.append(np.sqrt(np.diag(alignment.covariance)[[0, 3]]))
    assert 0.6 < np.std(found) / np.mean(sigma) < 1.7
    # Three quarters of the coefficients were not fitted.
    assert (np.diag(alignment.covariance) == 0).sum() == 4


def test_nothing_is_changed_and_the_result_is_the_same_each_time(maps):
    reference, _, wrong = maps
    before = [m.data.copy() for m in (reference, wrong)]
    first, second = coalign(wrong, reference), coalign_images(wrong, reference)
    assert isinstance(first, ImageAlignment)
    np.testing.assert_array_equal(first.transform.coefficients, second.transform.coefficients)
    for m, data in zip((reference, wrong), before, strict=True):
        np.testing.assert_array_equal(m.data, data)
    assert "affine" in str(first)
    assert repr(first).startswith("<ImageAlignment: affine")


def test_negative_images_need_no_filter():
    rng = np.random.default_rng(6)
    scene = gaussian_filter(rng.normal(size=(SIZE, SIZE)), 3)
    reference = view(scene, TRUTHS["affine"], (SIZE, SIZE))
    assert error(coalign(scene, reference, widths=None), TRUTHS["affine"]) < 0.05
    with pytest.raises(ValueError, match=r"median of -?[\d.e-]+, .* widths=None"):
        coalign(scene - 1, reference)


def test_what_is_wrong_is_told(maps):
    scene = make_scene(size=80)
    with pytest.raises(TypeError, match=r"got str to be aligned, expected an ESISLevel1Cube, or an array"):
        coalign("image.fits", scene)
    with pytest.raises(TypeError, match=r"got a reference of type str, expected an array"):
        coalign(scene, "image.fits")
    with pytest.raises(ValueError, match=r"got an image of shape \(2, 80, 80\)"):
        coalign(np.stack([scene, scene]), scene)
    with pytest.raises(ValueError, match=r"type complex128, expected real numbers"):
        coalign(scene * 1j, scene)
    with pytest.raises(ValueError, match=r"got a reference that is 5.0 everywhere"):
        coalign(scene, np.full((80, 80), 5.0))
    with pytest.raises(ValueError, match=r"got an image without valid pixels"):
        coalign(np.full((80, 80), np.nan), scene)
    with pytest.raises(ValueError, match=r"got transform 'rigid', expected one of shift, affine, quadratic, cubic"):
        coalign(scene, scene, transform="rigid")
    for widths in ((8, 1), (0, 5), 3):
        with pytest.raises(ValueError, match="got widths"):
            coalign(scene, scene, widths=widths)
    with pytest.raises(TypeError, match="got a start of type list"):
        coalign(scene, scene, start=[1, 2])
    with pytest.raises(TypeError, match="got a search of type int"):
        coalign(scene, scene, search=20)
    with pytest.raises(ValueError, match="got shift -1"):
        Search(-1)
    with pytest.raises(ValueError, match=r"got a reach of 80 pixels, expected 1 to 79"):
        coalign(scene, scene, surface=80)
    with pytest.raises(ValueError, match="of one shape"):
        correlation_surface(scene, scene[1:], reach=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'workers'"):
        coalign(scene, scene, workers=2)


def test_what_is_wrong_with_coordinates_is_told(maps):
    reference, _, wrong = maps
    scene = make_scene(size=80)
    spectrum = WCS(naxis=2)
    spectrum.wcs.ctype = "WAVE", "HPLT-TAN"
    detector = WCS(naxis=2)
    with pytest.raises(ValueError, match="expected celestial longitude and latitude"):
        coalign((scene, detector), scene)
    with pytest.raises(TypeError, match="WCS of type dict"):
        coalign((scene, {}), scene)
    far = wrong.shift_reference_coord(900 * u.arcsec, 0 * u.arcsec)
    with pytest.raises(ValueError, match="the images overlap by 0 pixels"):
        coalign(far, reference)
    with pytest.raises(ValueError, match=r"the images overlap by \d+ pixels, expected at least 60"):
        coalign(scene, scene, start=PolynomialTransform.from_affine([[1, 0, 75], [0, 1, 75]]))
    with pytest.raises(ValueError, match="do not overlap anywhere in the range"):
        coalign(scene, scene, start=PolynomialTransform.from_affine([[1, 0, 300], [0, 1, 0]]), search=Search(5))
    with pytest.raises(ValueError, match="the reference has no WCS"):
        coalign(wrong.data, wrong.data).align_map(wrong)
    quadratic = coalign(wrong, reference, transform="quadratic")
    with pytest.raises(ValueError, match="a quadratic transform cannot be written as CRPIX and PC"):
        quadratic.corrected_wcs(wrong.wcs)
    affine = coalign(wrong, reference)
    with pytest.raises(TypeError, match="got ndarray, expected a sunpy Map"):
        affine.align_map(wrong.data)
    with pytest.raises(ValueError, match=r"got a Map of shape \(400, 400\)"):
        affine.align_map(reference)


def test_the_search_counts_the_overlap_of_the_smaller_one():
    """A small image can be anywhere in a large one, of which it covers little."""
    scene = make_scene(seed=14, size=200)
    small = np.zeros_like(scene)
    small[40:80, 120:160] = scene[60:100, 90:130]
    valid = small > 0
    start = PolynomialTransform.from_affine(np.eye(2, 3))
    level = scene.mean()
    found, score = coarse_search(
        scene - level, np.where(valid, small - level, 0), start,
        mask=np.ones_like(valid), valid=valid, rolls=[0], scales=[1], shift=50,
    )  # fmt: skip
    assert score > 0.999
    np.testing.assert_allclose(found(100.0, 80.0), (130.0, 60.0), atol=1e-9)


def test_frames_of_a_flight_go_the_other_way(monkeypatch):
    for name in ("coalign_frames", "coalign_images"):
        monkeypatch.setattr(f"esis_ndcube.registration._coalign.{name}", lambda *given, name=name, **options: name)
    assert coalign(make_cube((1, 2, 5, 6), level=1)) == "coalign_frames"
    images = make_cube((1, 2, 5, 6))[0, 0], np.ones((3, 3)), da.ones((3, 3)), (np.ones((3, 3)), None)
    assert {coalign(image) for image in images} == {"coalign_images"}
    with pytest.raises(TypeError, match="got str to be aligned, expected an ESISLevel1Cube, or "):
        coalign("frames")


@pytest.mark.flight_data
def test_eit_and_trace(flight_data):
    """He II 304 at 2.6 arcsec from L1 and 1600 A at 0.5 arcsec from the Earth, eight minutes apart; SOHO was rolled."""
    folder = flight_data / "eit_trace"
    names = "efz20060208.184020_EIT304.fits", "stra_01600_a1_20060208_184829.fts"
    earth = get_earth("2006-02-08T18:44")
    data, meta = [], []
    # The files do not tell where they were taken from.
    for name, distance in zip(names, (0.99, 1.0), strict=True):
        one = sunpy.map.Map(folder / name)
        place = {
            "rsun_ref": 6.957e8,
            "hgln_obs": 0.0,
            "hglt_obs": earth.lat.deg,
            "dsun_obs": distance * earth.radius.to_value(u.m),
        }
        data.append(one.data.astype(float))
        meta.append(dict(one.meta) | place)
    data[0] -= 830
    trace = sunpy.map.Map(data[1], meta[1])
    eit = sunpy.map.Map(data[0], meta[0] | {"crota2": meta[0]["sc_roll"]})
    forth = coalign(eit, trace)
    back = coalign(trace, eit)
    assert forth.converged
    assert back.converged
    # Two fits with different pixels, filters and samples agree to a fraction of the coarser pixel.
    x, y = (a.ravel() for a in np.mgrid[150:900:150, 150:900:150].astype(float))
    there = np.subtract(back.transform(*forth.transform(x, y)), (x, y)) * 0.5 / 2.63
    assert np.sqrt(np.mean(np.sum(there**2, axis=0))) < 0.25
    # From L1 the Sun is a hundredth larger.
    scales = forth.transform.decompose(511.5, 511.5)
    assert np.sqrt(scales["scale_x"] * scales["scale_y"]) * 2.63 / 0.5 == pytest.approx(1.01, abs=0.015)
    # With the roll as the header has it, upside down, they have nothing in common; the search finds out.
    plain = sunpy.map.Map(data[0], meta[0])
    assert not coalign(plain, trace).converged
    found = coalign(plain, trace, search=Search(60, rolls=[0, 90, 180, 270] * u.deg))
    np.testing.assert_allclose(found.transform(x, y), forth.transform(x, y), atol=0.1)
    corrected = forth.align_map(eit)
    again = corrected.reproject_to(trace.wcs)
    # Half a pixel of EIT is left by the affine map, over the field.
    with pytest.warns(SunpyUserWarning, match="need terms of degree 1"):
        shifted = coalign(again, trace, transform="shift")
    assert shifted.transform(511.5, 511.5) == pytest.approx((511.5, 511.5), abs=0.25 * 2.63 / 0.5)


@pytest.mark.flight_data
@pytest.mark.parametrize("kind", ["shift", "affine", "quadratic"])
def test_known_maps_of_a_real_image(flight_data, kind):
    """An AIA 171 image, as it is and as another camera would have seen it, which smoothed it a little."""
    image = sunpy.map.Map(flight_data / "aia" / "aia_171_cutout.fits").data[150:550, 150:550].astype(float)
    inner = PolynomialTransform.from_affine([[1, 0, 70], [0, 1, 70]])
    truth = inner.compose(TRUTHS[kind])
    reference = view(gaussian_filter(image, 0.7), truth, (SIZE, SIZE))
    alignment = coalign(image, reference, transform=kind, start=inner)
    assert alignment.converged
    assert error(alignment, truth) < 0.05


@pytest.mark.flight_data
def test_successive_frames_of_iris(flight_data):
    """Two slit-jaw images with black borders, and one of them moved by a known shift."""
    from astropy.io import fits

    data = fits.getdata(flight_data / "iris" / "iris_l2_20130801_074720_4040000014_SJI_1400_t000.fits").astype(float)
    first, second = np.where(data > -100, data, np.nan) + 20
    direct = coalign(second, first, transform="shift")
    assert direct.converged
    motion = PolynomialTransform.from_affine([[1, 0, 4.3], [0, 1, -2.7]])
    nearest = distance_transform_edt(np.isnan(second), return_distances=False, return_indices=True)
    moved = view(second[tuple(nearest)], motion, second.shape)
    moved[~(view(np.isfinite(second).astype(float), motion, second.shape) > 0.9)] = np.nan
    own = coalign(moved, second, transform="shift")
    np.testing.assert_allclose(motion(*own.transform(100, 100)), (100, 100), atol=0.02)
    # Against the other frame, in which the Sun has changed.
    shifted = coalign(moved, first, transform="shift")
    off = np.subtract(direct.transform(100, 100), shifted.transform(100, 100))
    np.testing.assert_allclose(off, (4.3, -2.7), atol=0.1)


def moved(seed=0, size=200, shift=(3, 2)):
    """Two images with noise of their own; the first shows at x + shift what the second shows at x."""
    (dx, dy), scene = shift, make_scene(seed, size + 16)
    rng = np.random.default_rng(seed)
    parts = scene[8 : size + 8, 8 : size + 8], scene[8 + dy : size + 8 + dy, 8 + dx : size + 8 + dx]
    return [rng.poisson(part).astype(float) for part in parts]


def center_error(alignment, shift=(3, 2)):
    middle = alignment.transform.origin
    return np.hypot(*(np.subtract(alignment.transform(*middle), middle) - shift))


def test_gaps_and_hot_pixels_of_the_detector_do_not_capture_fits():
    image, reference = moved()
    for one in (image, reference):
        one[70:120, 50:110] = 0
        one[150:165] = 0
    with pytest.warns(SunpyUserWarning, match="in the same place of both images, and had drawn the alignment"):
        found = coalign(image, reference)
    assert found.converged
    assert center_error(found) < 0.05
    image, reference = moved(1)
    hot = np.random.default_rng(2).random(image.shape) < 5e-4
    for one in (image, reference):
        one[hot] = 60 * np.median(one)
    with pytest.warns(SunpyUserWarning, match="in the same place"):
        found = coalign(image, reference)
    assert center_error(found) < 0.05


@pytest.mark.slow
def test_large_images_with_nothing_fixed_are_taken_whole():
    """Features that are dark or bright at the same place by chance are not fixed on the detector: no warning."""
    image, reference, true = benchmark("truth").solar_pair(0, 30, size=1200, shift=(4.3, -2.6))
    assert center_error(coalign(image, reference), true) < 0.005


def test_one_field_stop_before_two_suns_is_no_alignment():
    image, reference = moved(3)[0], moved(4)[0]
    y, x = np.indices(image.shape) - 99.5
    for one in (image, reference):
        one[np.hypot(x, y) > 85] *= 0.02
    found = coalign(image, reference)
    assert not found.converged


def test_inverted_contrast_is_told():
    image, reference = moved(5)
    found = coalign(1.2 * image.max() - image, reference, widths=None)
    assert not found.converged
    assert "contrast is inverted" in found.reason


def test_scenes_with_little_in_common():
    """The short form of ``benchmarks/truth.py false``."""
    _, errors = benchmark("truth").false_maxima(6, size=160)
    assert (errors < 2).all()


@pytest.mark.parametrize("size", [16, 32, 70])
def test_small_images_say_so(size):
    image, reference = moved(6, size, shift=(1, 1))
    if size == 16:
        with pytest.raises(ValueError, match="the images overlap by"):
            coalign(image, reference)
        return
    found = coalign(image, reference, transform="shift")
    assert center_error(found, (1, 1)) < 0.1
    assert found.converged == (size > 60)
    if size < 60:
        assert found.reason.startswith("too small")


def test_odd_images_are_aligned():
    image, reference = moved(7)
    rng = np.random.default_rng(8)
    holes = [np.where(rng.random(one.shape) < 0.3, np.nan, one) for one in (image, reference)]
    assert center_error(coalign(*holes)) < 0.08
    assert center_error(coalign(*holes, widths=None)) < 0.05
    expected = coalign(image, reference)
    assert center_error(expected) < 0.03
    # Beyond single precision, as lists, and faint on a bright ground.
    scaled = coalign(1e40 * image, 1e-60 * reference)
    np.testing.assert_allclose(scaled.transform.coefficients, expected.transform.coefficients, atol=1e-3)
    listed = coalign(image.tolist(), reference.tolist())
    np.testing.assert_allclose(listed.transform.coefficients, expected.transform.coefficients, atol=1e-3)
    assert center_error(coalign(image / 100 + 1e6, reference / 100 + 1e6)) < 0.05
    for rows in ([[np.nan, 1, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]):
        with pytest.raises(ValueError, match=r"got a start with coefficients .* expected finite numbers"):
            coalign(image, reference, start=PolynomialTransform(rows))


def test_terms_that_are_missing_are_told():
    """A quadratic distortion of a third of a pixel, which an affine fit does not follow, and one that has none."""
    truth = centered(np.eye(2), (1.2, -0.7), bend=[[0.6, -0.4], [0.3, 0.5], [-0.4, 0.2]])
    image = make_scene(15)
    reference = view(image, truth, (SIZE, SIZE))
    with pytest.warns(SunpyUserWarning, match="need terms of degree 2"):
        found = coalign(image, reference)
    assert found.misfit.degree == 2
    assert found.misfit.probability < 1e-4
    assert found.misfit.size == pytest.approx(error(found, truth), rel=0.5)
    image, reference = moved(16)
    assert coalign(image, reference).misfit.probability > 1e-3
