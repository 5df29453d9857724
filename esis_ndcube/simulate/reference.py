"""Images of the reference passband, in the form of those of its own telescope."""

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.wcs import WCS
from sunpy.coordinates import get_earth, sun

__all__ = ["image"]

_ROLL = np.radians(0.12)
_OFFSET = 0.37, -0.22  # pixels
_MARGIN = 1.06
_DN_PER_PHOTON = 4.0
_TELESCOPES = {"AIA": "SDO/AIA"}


def image(truth, sky, scene, time, rng, passband):
    """
    Take a reference image.

    Parameters
    ----------
    truth : `Truth`
        The ingredients.
    sky : `Sky`
        Function that samples the scene.
    scene : `numpy.ndarray`
        The scene of the reference passband.
    time : `~astropy.time.Time`
        When.
    rng : `numpy.random.Generator`
        Random numbers.
    passband : `~esis_ndcube.flight.Passband`
        The reference passband.

    Returns
    -------
    data : `numpy.ndarray`
        The image in DN, float32, axes (y, x), on pixels of its own that cover the flight's output grid.
    header : `~astropy.io.fits.Header`
        The header.
    """
    flight = truth.flight
    step = float(np.mean(flight.grid_cdelt))
    middle = (np.array(flight.grid_shape[::-1]) - 1) / 2
    extent = np.array(flight.grid_shape[::-1]) * flight.grid_cdelt
    shape = np.ceil(_MARGIN * extent / step).astype(int)[::-1]
    wcs = _wcs(shape, step, np.array(truth._arcsec(*middle)))
    y, x = np.mgrid[: shape[0], : shape[1]]
    world = wcs.wcs_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
    # From degrees on the sky to pixels of the output grid: both see the Sun from the same place.
    at = flight.grid.wcs_world2pix(world, 0)
    sky_at = truth._arcsec(*at.T)
    center = truth._center.mean(axis=0)
    scene = sky.sample(scene, *(value - c for value, c in zip(sky_at, center, strict=True)))
    photons = truth.config.reference_brightness * scene.reshape(shape)
    if truth.config.noise:
        photons = rng.poisson(photons) + rng.normal(0, 1, photons.shape)
    return (_DN_PER_PHOTON * photons).astype(np.float32), _header(passband, time, wcs)


def _wcs(shape, step, center):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "HPLN-TAN", "HPLT-TAN"
    wcs.wcs.cunit = "arcsec", "arcsec"
    wcs.wcs.cdelt = step, step
    # The image is off the middle and rolled, so that no program works without the WCS.
    wcs.wcs.crpix = (shape[::-1] + 1) / 2 + _OFFSET
    wcs.wcs.crval = center
    wcs.wcs.pc = [[np.cos(_ROLL), -np.sin(_ROLL)], [np.sin(_ROLL), np.cos(_ROLL)]]
    return wcs


def _header(passband, time, wcs):
    # Importing sunpy.coordinates is slow, and only images need it.
    earth = get_earth(time)
    header = fits.Header()
    header["TELESCOP"] = _TELESCOPES.get(passband.instrument, passband.instrument)
    header["INSTRUME"] = passband.instrument
    header["WAVELNTH"] = round(passband.wavelength.to_value("Angstrom"))
    header["WAVEUNIT"] = "angstrom"
    header["DATE-OBS"] = time.isot
    header["T_OBS"] = time.isot + "Z"
    header["EXPTIME"] = 2.0
    header["BUNIT"] = "DN"
    header["LVL_NUM"] = 1.0
    header["QUALITY"] = 0
    for axis in (1, 2):
        header[f"CTYPE{axis}"] = wcs.wcs.ctype[axis - 1]
        header[f"CUNIT{axis}"] = "arcsec"
        # The WCS may count in degrees by now.
        factor = u.Unit(wcs.wcs.cunit[axis - 1]).to(u.arcsec)
        header[f"CDELT{axis}"] = float(wcs.wcs.cdelt[axis - 1] * factor)
        header[f"CRVAL{axis}"] = float(wcs.wcs.crval[axis - 1] * factor)
        header[f"CRPIX{axis}"] = float(wcs.wcs.crpix[axis - 1])
        for other in (1, 2):
            header[f"PC{axis}_{other}"] = float(wcs.wcs.pc[axis - 1, other - 1])
    header["HGLN_OBS"] = earth.lon.to_value(u.deg)
    header["HGLT_OBS"] = earth.lat.to_value(u.deg)
    header["DSUN_OBS"] = earth.radius.to_value(u.m)
    header["RSUN_REF"] = 6.957e8
    header["RSUN_OBS"] = sun.angular_radius(time).to_value(u.arcsec)
    return header
