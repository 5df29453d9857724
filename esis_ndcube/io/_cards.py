"""Keywords that describe the data."""

import json
from datetime import UTC, datetime

import numpy as np

import astropy.units as u

from esis_ndcube.io._values import escape, unit_text
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.provenance import package_version
from esis_ndcube.wcs import ESISWCS
from esis_ndcube.wcs._digits import set_number

# Characters of text that one card can hold.
_LINE = 67


def exposure_header(cube):
    """
    Make the header of an image.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        One exposure of one channel, or a part of it, with axes (y, x).

    Returns
    -------
    `~astropy.io.fits.Header`
        WCS, dates, observer, instrument and unit.

    Raises
    ------
    ValueError
        If the cube is not such an image.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1, ESISLevel3Cube
    >>> from esis_ndcube.io.fits import exposure_header
    >>> from esis_ndcube.wcs import level3_wcs
    >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1])[:, :, 600:605, 600:607]
    >>> cube = ESISLevel3Cube(np.zeros((1, 1, 5, 7)), wcs=wcs, unit="ph / pix", meta={"flight": ESIS_1})
    >>> header = exposure_header(cube[0, 0])
    >>> header["DATE-AVG"], header["DETECTOR"], header["CUNIT1"]
    ('2019-09-30T18:08:00.000000000', 'ESIS1', 'arcsec')
    """
    check_cube(cube)
    if not isinstance(cube.wcs, ESISWCS) or cube.wcs.naxis != 2 or cube.wcs.array_axis_names != ["y", "x"]:
        msg = f"got a cube of shape {cube.data.shape}, expected an image of one exposure, for example cube[0, 0]"
        raise ValueError(msg)
    header = cube.wcs.to_header(relax=True)
    for axis in (1, 2):
        # Degrees are the unit of the WCS library; arcsec is that of solar images.
        if header.get(f"CUNIT{axis}") == "deg":
            header[f"CUNIT{axis}"] = "arcsec"
            for key in ("CDELT", "CRVAL"):
                set_number(header, f"{key}{axis}", header[f"{key}{axis}"] * 3600, "[arcsec]")
    add_cards(header, cube)
    return header


def add_cards(header, cube):
    """Add the keywords that describe the data of a cube to a header; in place."""
    flight, channel, frame_number = cube.flight, cube.channel, cube.frame_number
    cards = {
        "BUNIT": (None if cube.unit is None else unit_text(cube.unit), "unit of the data"),
        "BTYPE": (_data_type(cube.unit), "what the data are"),
        "LVL_NUM": (cube._get_meta("level"), "level of processing"),
        "LINE": (cube.line, "spectral line"),
        "STAGE": (cube._get_meta("stage"), "alignment that the images were made with"),
        "REFERENC": (cube._get_meta("reference"), "where the pointing comes from"),
        "ORIGIN": ("esis_ndcube", "where the data were processed"),
        "CREATOR": (f"esis_ndcube {package_version()}", "software"),
    }
    if flight is not None:
        cards |= {
            "TELESCOP": (flight.instrument, "telescope"),
            "INSTRUME": (flight.instrument, "instrument"),
            "FLIGHT": (flight.name, "flight"),
            "OBS_TITL": (flight.title, "title of the flight"),
        }
        numbers = [] if channel is None else np.atleast_1d(channel)
        cards["DETECTOR"] = (",".join(flight.channel(number).camera for number in numbers), "camera")
        if cube.line is not None:
            wavelength = flight.line(cube.line).wavelength
            cards["WAVELNTH"] = (float(wavelength.value), f"[{wavelength.unit}] wavelength of the line")
            cards["WAVEUNIT"] = (wavelength.unit.to_string(), "unit of WAVELNTH")
    if channel is not None and np.ndim(channel) == 0:
        cards["CHANNEL"] = (int(channel), "channel number")
    if frame_number is not None and np.ndim(frame_number) == 0:
        cards["FRAME"] = (int(frame_number), "raw frame number")
    for n, step in enumerate(cube.history, start=1):
        cards[f"PRSTEP{n}"] = (step.name, "processing step")
        cards[f"PRVER{n}"] = (step.version, "version of esis_ndcube that did it")
        cards[f"PRPARA{n}"] = (json.dumps(step.parameters), "its parameters")
    for key, (value, comment) in cards.items():
        if value is not None and value != "":
            value = escape(value) if isinstance(value, str) else value
            # astropy warns of a comment that does not fit.
            header[key] = (value, comment) if len(str(value)) + len(comment) < 60 else value
            if len(str(value)) > _LINE:
                header["LONGSTRN"] = ("OGIP 1.0", "text may go on in CONTINUE")


def add_file_cards(header, name):
    """Add the keywords of SOLARNET for data in a file, in addition to those that describe the data; in place."""
    header["FILENAME"] = escape(name)
    header["DATE"] = (datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "when this file was written, UTC")
    header["OBS_HDU"] = (1, "whether this HDU holds observations")
    header["SOLARNET"] = (0.5, "SOLARNET: all that is mandatory")


def _data_type(unit):
    # Logarithmic units have none.
    bases = getattr(unit, "bases", ())
    return {u.photon: "photons", u.electron: "electrons"}.get(bases[0] if bases else None)
