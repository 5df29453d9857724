"""The series of images that can be fetched for a flight."""

from dataclasses import dataclass

import astropy.units as u

__all__ = ["SERIES", "Series", "find_series", "plain_name"]


@dataclass(frozen=True)
class Series:
    """
    One series of images of the Sun.

    Attributes
    ----------
    name, title : `str`
        Word for the series in ``a.esis.Context``, and a title that says what it shows.
    instrument : `str`
        Instrument that takes the images.
    drms : `str`
        Name of the series at the Joint Science Operations Center (JSOC).
    segment : `str`
        Its segment that holds the image.
    cadence : `~astropy.units.Quantity`
        Time from image to image.
    wavelength : `~astropy.units.Quantity` or None
        Wavelength, where the series has several.
    physobs : `str`
        Observed quantity, as the Virtual Solar Observatory (VSO) calls it.

    Examples
    --------
    >>> from esis_ndcube.net.series import find_series
    >>> find_series("AIA 304").drms
    'aia.lev1_euv_12s'
    """

    name: str
    title: str
    instrument: str
    drms: str
    segment: str
    cadence: u.Quantity
    wavelength: u.Quantity | None
    physobs: str

    @property
    def max_gap(self):
        """Default of the largest time to an exposure (`~astropy.units.Quantity`); one image may be missing."""
        return 1.5 * self.cadence

    def record_set(self, times):
        """
        The records of some times, or of a range of times.

        Parameters
        ----------
        times : `str`
            Times as JSOC writes them.

        Returns
        -------
        `str`
            Name of the records at JSOC.

        Examples
        --------
        >>> from esis_ndcube.net.series import find_series
        >>> find_series("aia_304").record_set("2019-09-30T18:08:42Z")
        'aia.lev1_euv_12s[2019-09-30T18:08:42Z][304]'
        """
        wavelength = "" if self.wavelength is None else f"[{self.wavelength.to_value(u.AA):.0f}]"
        return f"{self.drms}[{times}]{wavelength}"

    def file_name(self, record_time):
        """
        Name of the file that holds an image.

        Parameters
        ----------
        record_time : `str`
            The time that names the record, as JSOC writes it.

        Returns
        -------
        `str`
            The name, much as JSOC gives it to exported files.

        Examples
        --------
        >>> from esis_ndcube.net.series import find_series
        >>> find_series("aia_304").file_name("2019-09-30T18:08:42Z")
        'aia.lev1_euv_12s.2019-09-30T180842Z.304.image.fits'
        """
        # JSOC also takes the points out of a TAI time.
        time = record_time.replace(":", "").replace(".", "")
        wavelength = "" if self.wavelength is None else f".{self.wavelength.to_value(u.AA):.0f}"
        return f"{self.drms}.{time}{wavelength}.{self.segment}.fits"


def _aia(wavelength, drms, cadence):
    return Series(
        name=f"aia_{wavelength}",
        title=f"SDO/AIA {wavelength} Angstrom, full disk, Level 1",
        instrument="AIA",
        drms=drms,
        segment="image",
        cadence=cadence,
        wavelength=wavelength * u.AA,
        physobs="intensity",
    )


def _hmi(name, title, drms, segment, physobs):
    return Series(name, f"SDO/HMI {title}, full disk", "HMI", drms, segment, 45 * u.s, None, physobs)


SERIES = {
    series.name: series
    for series in (
        *(_aia(w, "aia.lev1_euv_12s", 12 * u.s) for w in (94, 131, 171, 193, 211, 304, 335)),
        *(_aia(w, "aia.lev1_uv_24s", 24 * u.s) for w in (1600, 1700)),
        _aia(4500, "aia.lev1_vis_1h", 1 * u.h),
        _hmi("hmi_los", "line-of-sight magnetic field", "hmi.M_45s", "magnetogram", "LOS_magnetic_field"),
        _hmi("hmi_continuum", "continuum intensity", "hmi.Ic_45s", "continuum", "intensity"),
    )
}
"""Every series, by name (`dict` of `Series`)."""


def find_series(name):
    """
    Look up a series.

    Parameters
    ----------
    name : `str`
        Its name; only letters and digits matter, so that ``"AIA 304"`` means ``"aia_304"``.

    Returns
    -------
    `Series`
        The series.

    Raises
    ------
    ValueError
        If there is no such series.

    Examples
    --------
    >>> from esis_ndcube.net.series import find_series
    >>> find_series("HMI LOS").title
    'SDO/HMI line-of-sight magnetic field, full disk'
    """
    for series in SERIES.values():
        if plain_name(series.name) == plain_name(name):
            return series
    msg = f"got {name!r}, expected one of {', '.join(SERIES)}"
    raise ValueError(msg)


def plain_name(name):
    """
    Reduce a name to the part that does not depend on the way of writing it.

    Parameters
    ----------
    name : `str`
        The name.

    Returns
    -------
    `str`
        Its letters, in lower case, and digits.

    Examples
    --------
    >>> from esis_ndcube.net.series import plain_name
    >>> plain_name("AIA 304") == plain_name("aia_304")
    True
    """
    return "".join(filter(str.isalnum, str(name).lower()))
