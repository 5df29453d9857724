"""The ingredients of a simulated flight, and their amounts."""

from dataclasses import dataclass, fields

import numpy as np

import astropy.units as u

__all__ = ["SimulationConfig"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulationConfig:
    """
    The ingredients of a simulated flight.

    Every ingredient is switched off by ``False``, by 0, or by `None` if it has no number.

    Attributes
    ----------
    brightness : `float`
        Mean photons per detector pixel and exposure in the flight's pose line, before vignetting.
    noise : `bool`
        Photon noise, with the line's electrons per photon and the detector's Fano factor.
    read_noise : `bool`
        Read noise, the flight's value times a factor of 0.7 to 1.1 by quadrant.
    bias : `float`
        Mean bias in DN; quadrants differ by about 4 %.
    dark : `float`
        Mean dark signal in DN; quadrants differ, and 1 pixel in 10000 is hot.
    stray_light : `float`
        Even stray light in DN, which the atmosphere dims as it dims the Sun.
    spikes : `int`
        Particle hits per frame.
    other_lines : `bool`
        Lines in addition to the pose line, including contaminants.
    event : `float`
        Largest Doppler shift of the explosive event, in detector pixels.
    velocity : `~astropy.units.Quantity`
        Upper limit of the smooth velocity field.
    evolution : `bool`
        A scene that changes from exposure to exposure.
    charge_spread : `bool`
        Charge that spreads over pixels, and is collected in part, with the values of the flight's detector.
    blur : `float`
        Gaussian width (sigma), in detector pixels, of the optics' blur at the edge of the field; it grows from nothing
        at a point in the field that differs from channel to channel.
    field_stop : `bool`
        The field stop's outline; without it every line fills the rectangle around the outline.
    vignetting : `bool`
        One vignetting slope per channel, which is that of the flight.
    distortion, cubic_distortion : `float`
        Largest displacement by any one quadratic or cubic term at the edge of the field, in detector pixels.
    drift : `~astropy.units.Quantity`
        Drift of the Sun in solar x and y over all light frames of the flight.
    roll : `~astropy.units.Quantity`
        Scatter of the roll.
    channel_drift : `~astropy.units.Quantity`
        Largest drift of one channel against the others.
    pose_error : `~astropy.units.Quantity`
        Scatter by channel of the pointing about the flight's starting pose.
    extinction : `tuple` of `float`, optional
        Transmission of the atmosphere in the first and last exposure of a whole flight; a shorter run is dimmed less.
    missing, blank : `bool` or `tuple`
        One frame that was never written, and one without light; two attributes give their frame and channel.
    others : `bool`
        Frames that are neither light nor darks, as in the first flight: the first frame of all has no exposure time and
        the next an odd one, and there are two such frames between the light and the darks.
    reference_brightness : `float`
        Mean photons per pixel of the reference images.

    Examples
    --------
    >>> from esis_ndcube.simulate import SimulationConfig
    >>> SimulationConfig(spikes=0, missing=False).spikes
    0
    """

    brightness: float = 18.0
    noise: bool = True
    read_noise: bool = True
    bias: float = 3600.0
    dark: float = 0.6
    stray_light: float = 4.0
    spikes: int = 200
    other_lines: bool = True
    event: float = 8.0
    velocity: u.Quantity = 5 * u.km / u.s
    evolution: bool = True
    charge_spread: bool = True
    blur: float = 0.0
    field_stop: bool = True
    vignetting: bool = True
    distortion: float = 1.5
    cubic_distortion: float = 0.0
    drift: u.Quantity = (8.0, 1.0) * u.arcsec
    roll: u.Quantity = 0.03 * u.deg
    channel_drift: u.Quantity = 0.4 * u.arcsec
    pose_error: u.Quantity = 0.5 * u.arcsec
    extinction: tuple[float, float] | None = (0.5, 0.15)
    missing: bool | tuple[int, int] = True
    blank: bool | tuple[int, int] = True
    others: bool = True
    reference_brightness: float = 60.0

    def __post_init__(self):
        units = {"velocity": "km/s", "drift": "arcsec", "roll": "deg", "channel_drift": "arcsec"}
        units["pose_error"] = "arcsec"
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in units:
                # 0 needs no unit, so that an ingredient can be switched off by a plain number.
                value = 0 * u.Unit(units[field.name]) if _is_zero(value) else u.Quantity(value)
                if not value.unit.is_equivalent(units[field.name]):
                    msg = f"{field.name}: got {value}, expected a quantity in {units[field.name]}"
                    raise ValueError(msg)
                if field.name == "drift" and value.shape != (2,):
                    value = u.Quantity([value, value]) if value == 0 else value
                object.__setattr__(self, field.name, value)
            elif field.name in ("missing", "blank", "extinction"):
                continue
            elif not value >= 0:
                msg = f"{field.name}: got {value!r}, expected 0 or more"
                raise ValueError(msg)
        if self.drift.shape != (2,):
            msg = f"drift: got {self.drift}, expected two values, along solar x and y"
            raise ValueError(msg)
        if self.extinction and not all(0 < value <= 1 for value in self.extinction):
            msg = f"extinction: got {self.extinction}, expected two transmissions above 0 and up to 1"
            raise ValueError(msg)

    def _key(self):
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(
            (str(value.unit), *np.ravel(value.value).tolist()) if isinstance(value, u.Quantity) else value
            for value in values
        )

    def __eq__(self, other):
        return isinstance(other, SimulationConfig) and self._key() == other._key()

    def __hash__(self):
        return hash(self._key())


def _is_zero(value):
    return value is None or value is False or (isinstance(value, int | float) and value == 0)
