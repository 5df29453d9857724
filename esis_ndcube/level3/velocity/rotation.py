"""The rotation of the Sun, as velocities along the line of sight."""

import numpy as np

import astropy.units as u
from sunpy.coordinates import Heliocentric, HeliographicStonyhurst
from sunpy.sun.models import differential_rotation

from esis_ndcube.utils.checks import check_cube, named_axes
from esis_ndcube.wcs._sun import celestial_frame, high_level

__all__ = ["rotation_velocity"]


def rotation_velocity(cube):
    r"""
    Velocity along the line of sight by the rotation of the Sun, which maps of velocity lack.

    A place at the distance x west of the central meridian recedes by :math:`\omega(\varphi)\,x \cos B_0`, with the
    sidereal rate :math:`\omega` at its latitude, that of `sunpy.sun.models.differential_rotation`, and the latitude
    :math:`B_0` of the observer.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        Maps of velocity, or any cube with axes y and x.

    Returns
    -------
    `~astropy.units.Quantity`
        In km/s, positive away from us, shape (y, x), at the time of the first exposure; 0 beyond the limb.

    Raises
    ------
    TypeError, ValueError
        If this is no cube, or it has not both axes.

    Examples
    --------
    >>> from esis_ndcube.level3.velocity import rotation_velocity
    >>> from esis_ndcube.simulate import simulate_flight, true_cube
    >>> cube = true_cube(simulate_flight(size=8, n_exposures=1))
    >>> rotation_velocity(cube)[80, [0, 158]].round(2)
    <Quantity [-0.07,  0.13] km / s>

    ``velocities + rotation_velocity(velocities)`` puts the rotation back into maps of velocity.
    """
    check_cube(cube)
    if named_axes(cube)[-2:] != ["y", "x"]:
        msg = f"got a cube with axes {named_axes(cube)}, expected y and x at the end: slice with ranges"
        raise ValueError(msg)
    image = cube[(*[0] * (len(cube.shape) - 2), ...)]
    y, x = np.indices(image.shape)
    sky = high_level(image.wcs).pixel_to_world(x, y)
    frame = celestial_frame(image.wcs)
    with np.errstate(invalid="ignore"):
        latitude = sky.transform_to(HeliographicStonyhurst(obstime=frame.obstime)).lat
        west = sky.transform_to(Heliocentric(observer=frame.observer, obstime=frame.obstime)).x
    rate = differential_rotation(1 * u.s, latitude, model="howard", frame_time="sidereal") / u.s
    tilt = frame.observer.transform_to(HeliographicStonyhurst(obstime=frame.obstime)).lat
    speed = (rate.to(u.rad / u.s) * west * np.cos(tilt)).to(u.km / u.s, u.dimensionless_angles())
    return np.nan_to_num(speed)
