"""The time axis and the channel axis: their cards, their tables, and the facts of each exposure."""

import re
from dataclasses import dataclass

import numpy as np

import astropy.units as u
from astropy.coordinates import BaseCoordinateFrame, SkyCoord
from astropy.io import fits
from astropy.time import Time, TimeDelta
from sunpy.coordinates import get_earth

from esis_ndcube.wcs._digits import set_number
from esis_ndcube.wcs._sun import place_values, stonyhurst

# CTYPEs of the two axes, as a line and as a table. FITS allows four letters before -TAB.
TIME = ("UTC", "UTC--TAB")
CHANNEL = ("CAMERA_ID", "CAME-TAB")
# Name of the extension and of the column that a -TAB axis refers to.
TABLES = {"UTC--TAB": "TIME", "CAME-TAB": "CHANNEL"}


@dataclass(frozen=True, eq=False)
class Exposures:
    """The facts of each exposure for the header of a slice, in step with the time axis."""

    seconds: np.ndarray  # mid-exposure, since MJDREF
    duration: np.ndarray | None  # s
    observer: np.ndarray | None  # Stonyhurst longitude and latitude in deg, distance in m

    def __getitem__(self, item):
        return Exposures(*(None if x is None else x[item] for x in (self.seconds, self.duration, self.observer)))


def exposures_of(times, exposure_time, *, observer=None, earth=False):
    """The exposures, and the MJD of the midnight before the first, from which their seconds count."""
    times = Time(times, scale="utc") if not isinstance(times, Time) else times.utc
    if times.ndim != 1 or not times.size or np.any(times.masked and times.mask):
        msg = f"got times of shape {times.shape}, expected one known time for each exposure, shape (time,)"
        raise ValueError(msg)
    reference = np.floor(times[0].mjd)
    seconds = np.asarray((times - Time(reference, format="mjd", scale="utc")).to_value("s"), dtype=float)
    if not (np.diff(seconds) > 0).all():
        msg = f"got the times {times.isot.tolist()}, expected increasing ones"
        raise ValueError(msg)
    duration = None
    if exposure_time is not None:
        duration = np.broadcast_to(u.Quantity(exposure_time).to_value("s"), seconds.shape).astype(float)
    place = _observer_values(observer, times) if observer is not None or earth else None
    return Exposures(seconds, duration, place), reference


def _observer_values(observer, times):
    """Stonyhurst longitude and latitude in deg and distance in m, one row for each time; Earth's for None."""
    if observer is None:
        observer = get_earth(times)
    elif not isinstance(observer, (SkyCoord, BaseCoordinateFrame)):
        msg = f"got an observer of type {type(observer).__name__}, expected a SkyCoord or a coordinate frame"
        raise TypeError(msg)
    else:
        obstime = getattr(observer, "obstime", None)
        obstime = (times if observer.shape else times[0]) if obstime is None else obstime
        observer = stonyhurst(observer, obstime)
    return np.column_stack([np.broadcast_to(value, times.shape) for value in place_values(observer)]).astype(float)


def time_from_seconds(mjdref, seconds):
    """Times from seconds since MJDREF."""
    time = Time(*mjdref, format="mjd", scale="utc") + TimeDelta(seconds, format="sec")
    time.format = "isot"
    return time


def time_cards(exposures):
    """Cards of a time axis, and the values of its table or None."""
    cards = {"CTYPE": "UTC--TAB", "CNAME": "time", "CUNIT": "s", "CRPIX": 1.0, "CRVAL": 1.0, "CDELT": 1.0}
    if exposures.seconds.size > 1:
        return cards, exposures.seconds
    # A table of one row can only be read at its one pixel; a line has pixel edges, and times outside.
    width = 1.0 if exposures.duration is None else float(exposures.duration[0])
    return cards | {"CTYPE": "UTC", "CRVAL": float(exposures.seconds[0]), "CDELT": width}, None


def channel_cards(channels):
    """Cards of a channel axis, and the values of its table or None."""
    cards = {"CTYPE": "CAMERA_ID", "CNAME": "channel", "CUNIT": "", "CRPIX": 1.0, "CRVAL": 1.0, "CDELT": 1.0}
    steps = np.unique(np.diff(channels))
    if steps.size > 1:
        return cards | {"CTYPE": "CAME-TAB"}, channels.astype(float)
    return cards | {"CRVAL": float(channels[0]), "CDELT": float(steps[0]) if steps.size else 1.0}, None


def set_axis(header, number, cards):
    """Replace the cards of an axis; in place."""
    for key in [key for key in header if re.fullmatch(rf"(PS|PV){number}_\d+", key)]:
        del header[key]
    for key, value in cards.items():
        if isinstance(value, float):
            set_number(header, f"{key}{number}", value)
        else:
            header[f"{key}{number}"] = value
    if cards["CTYPE"] in TABLES:
        name = TABLES[cards["CTYPE"]]
        header.update({f"PS{number}_0": name, f"PS{number}_1": name})
        header.update({f"PV{number}_{m}": 1 for m in (1, 2, 3)})


def table_hdu(name, values, unit, column=None):
    """The extension that a -TAB axis refers to, with one column, by default of the same name."""
    column = fits.Column(
        name=column or name,
        format=f"{len(values)}D",
        dim=f"(1,{len(values)})",
        unit=str(unit or "") or None,
        array=np.asarray(values, dtype=float).reshape(1, -1, 1),
    )
    return fits.BinTableHDU.from_columns([column], name=name, ver=1)
