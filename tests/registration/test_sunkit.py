"""The adapter to sunkit-image, against its real registry where there is one, or else a stand-in of the interface."""

import importlib.util
import sys
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from helpers import view
from scipy.ndimage import gaussian_filter

import astropy.units as u
import sunpy.map
from astropy.coordinates import SkyCoord
from sunpy.coordinates import Helioprojective, get_earth

from esis_ndcube.registration import PolynomialTransform, sunkit


def has_registry():
    try:
        return importlib.util.find_spec("sunkit_image.coalignment.register") is not None
    except ImportError:
        return False


class AffineParams(NamedTuple):
    """The fields of sunkit-image 0.7."""

    scale: tuple
    rotation_matrix: tuple
    translation: tuple


@pytest.fixture
def registry(monkeypatch):
    """The registry: that of sunkit-image, or one with its names and what it does with them."""
    if has_registry():
        from sunkit_image.coalignment.register import REGISTERED_METHODS

        before = dict(REGISTERED_METHODS)
        yield REGISTERED_METHODS
        REGISTERED_METHODS.clear()
        REGISTERED_METHODS.update(before)
        return
    methods = {"match_template": len}
    package, register, interface = (
        ModuleType(f"sunkit_image.coalignment{end}") for end in ("", ".register", ".interface")
    )
    register.REGISTERED_METHODS = methods
    register.register_coalignment_method = lambda name: lambda function: methods.setdefault(name, function)
    interface.AffineParams = AffineParams
    for module in (package, register, interface):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield methods


def scene(size=200):
    rough = gaussian_filter(np.random.default_rng(3).normal(size=(size, size)), 2)
    return 100 * np.exp(rough / rough.std() / 2)


def test_the_method_is_registered_once_asked_for(registry):
    assert "log_dog" not in registry
    assert sunkit.register() == "log_dog"
    assert registry["log_dog"] is sunkit.coalign_arrays
    # Again is no harm, another's name is.
    sunkit.register()
    assert sunkit.register("ours") == "ours"
    with pytest.raises(ValueError, match="'match_template', which another method has"):
        sunkit.register("match_template")


def test_a_shift_is_one_exactly(registry):
    image = scene()
    sunkit.register()
    result = registry["log_dog"](image[5:160, 8:190], image[:170, :180])
    assert type(result).__name__ == "AffineParams"
    assert (np.asarray(result.rotation_matrix) == np.eye(2)).all()
    assert (np.asarray(result.scale) == np.ones(2)).all()
    np.testing.assert_allclose(result.translation, (8, 5), atol=0.02)


def test_an_affine_map_is_what_the_formula_says(registry):
    truth = PolynomialTransform.from_affine([[1.01, 0.03, -6.0], [-0.025, 0.99, 4.0]])
    image = scene()
    result = sunkit.coalign_arrays(image, view(image, truth, (190, 190)), transform="affine")
    for pixel in ((40.0, 60.0), (150.0, 90.0)):
        here = result.scale * result.rotation_matrix @ pixel + result.translation
        np.testing.assert_allclose(here, truth.inverse(*pixel), atol=0.03)
    np.testing.assert_allclose(np.linalg.norm(result.rotation_matrix, axis=0), 1, rtol=1e-12)


def test_what_can_not_be_is_told(registry):
    image = scene()
    with pytest.raises(ValueError, match="got transform 'cubic', expected shift or affine"):
        sunkit.coalign_arrays(image, image, transform="cubic")
    noise = np.random.default_rng(0).poisson(100, image.shape)
    with pytest.raises(ValueError, match="could not be aligned: "):
        sunkit.coalign_arrays(image, noise)


@pytest.mark.skipif(has_registry(), reason="this sunkit-image has a registry")
def test_a_version_without_a_registry_is_told():
    with pytest.raises(ImportError, match=r"got sunkit-image 0\.6.*expected sunkit-image 0\.7 or later.*Python 3\.12"):
        sunkit.register()


def test_without_sunkit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "sunkit_image.coalignment.register", None)
    monkeypatch.setattr(sunkit, "_installed", lambda: "no sunkit-image")
    with pytest.raises(ImportError, match="got no sunkit-image, expected"):
        sunkit.register()


@pytest.mark.skipif(not has_registry(), reason="needs sunkit-image 0.7 or later, which needs Python 3.12")
def test_maps_through_sunkit_image(registry):
    """Its own function moves the Map by what ours found, in arcsec."""
    from sunkit_image.coalignment import coalign_map

    time, image = "2019-09-30T18:08:00", scene()
    frame = Helioprojective(observer=get_earth(time), obstime=time)

    def make(data, x, y):
        center = SkyCoord(x * u.arcsec, y * u.arcsec, frame=frame)
        header = sunpy.map.make_fitswcs_header(data, center, scale=[0.6, 0.6] * u.arcsec / u.pix)
        return sunpy.map.Map(data, header)

    reference, target = make(image, 0, 0), make(image[20:180, 30:190], 7, -5)
    sunkit.register()
    aligned = coalign_map(target, reference, method="log_dog", search=True)
    # Its middle pixel (79.5, 79.5) is (109.5, 99.5) of the reference's, 10 and 0 pixels from the middle.
    assert abs(aligned.center.Tx - 6 * u.arcsec) < 0.02 * u.arcsec
    assert abs(aligned.center.Ty) < 0.02 * u.arcsec
