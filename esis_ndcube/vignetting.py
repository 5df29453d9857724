"""The vignetting of the instrument, a linear function of the position in the field stop."""

from dataclasses import dataclass

import numpy as np

import astropy.units as u
from astropy.table import Table

__all__ = ["Vignetting"]


@dataclass(frozen=True, eq=False)
class Vignetting:
    r"""
    Vignetting of every channel of a flight in one spectral line.

    .. math:: V = 1 + m \, \frac{r + r_0}{r_t}

    with one slope :math:`m` per channel, and :math:`r` the distance from the center of the field stop toward shorter
    wavelength, where the instrument is brighter (Parker et al. 2022, section on vignetting; :math:`r_0` and
    :math:`r_t` are the flight's ``vignetting_zero`` and ``vignetting_width``).
    Data are divided by V, which is 1 or more inside the field stop for slopes of 0 or more.

    Attributes
    ----------
    slopes : `dict`
        Slope of each channel, by channel number.
    flight : `~esis_ndcube.Flight`
        The flight.
    line : `str`
        The spectral line.
    source : `str`
        Where the slopes come from.

    Raises
    ------
    ValueError
        If a slope is not within -1 to 1, or the flight has no such channel or line.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1, Vignetting
    >>> vignetting = Vignetting.of_flight(ESIS_1, "O V")
    >>> vignetting.slopes
    {1: 0.436, 2: 0.34, 3: 0.382, 4: 0.495}
    >>> vignetting.evaluate(4, [1100.0, 1900.0]).round(2)
    array([1.48, 1.05])
    """

    slopes: dict
    flight: object
    line: str
    source: str = "given"

    def __post_init__(self):
        slopes = {int(number): float(slope) for number, slope in dict(self.slopes).items()}
        for number, slope in slopes.items():
            self.flight.channel(number)
            if not -1 <= slope <= 1:
                msg = f"got a slope of {slope} for channel {number}, expected -1 to 1"
                raise ValueError(msg)
        object.__setattr__(self, "slopes", slopes)
        object.__setattr__(self, "line", self.flight.line(self.line).name)

    @classmethod
    def of_flight(cls, flight, line):
        """
        The vignetting that a flight's configuration states.

        Parameters
        ----------
        flight : `~esis_ndcube.Flight`
            The flight.
        line : `str`
            The spectral line.

        Returns
        -------
        `Vignetting`
            With the flight's slopes.
        """
        slopes = {channel.number: channel.vignetting_slope for channel in flight.channels}
        return cls(slopes, flight, line, source=f"flight {flight.name}")

    def evaluate(self, channel, x):
        """
        Evaluate the vignetting on a detector.

        Parameters
        ----------
        channel : `int`
            Channel number.
        x : array-like
            Detector pixel along the dispersion, 0-based centers.

        Returns
        -------
        `numpy.ndarray`
            V, of the shape of ``x``.

        Raises
        ------
        ValueError
            If there is no slope for the channel.
        """
        if channel not in self.slopes:
            msg = f"got channel {channel}, expected one with a slope: {', '.join(map(str, self.slopes))}"
            raise ValueError(msg)
        stop = self.flight.field_stop(channel, self.line)[:, 0]
        center = (stop.min() + stop.max()) / 2
        distance = (center - np.asarray(x)) * self.flight.detector.pixel_scale[0].to_value(u.arcsec)
        zero, width = (q.to_value(u.arcsec) for q in (self.flight.vignetting_zero, self.flight.vignetting_width))
        return 1 + self.slopes[channel] * (distance + zero) / width

    def to_table(self):
        """
        Write the vignetting as a table.

        Returns
        -------
        `~astropy.table.Table`
            A row per channel; line and source are in its ``meta``. The flight is not in it.
        """
        table = Table({"channel": list(self.slopes), "slope": list(self.slopes.values())})
        table.meta.update(LINE=self.line, SOURCE=self.source)
        return table

    @classmethod
    def from_table(cls, table, flight):
        """
        Read the vignetting from a table.

        Parameters
        ----------
        table : `~astropy.table.Table`
            As `to_table` writes it.
        flight : `~esis_ndcube.Flight`
            The flight.

        Returns
        -------
        `Vignetting`
            The vignetting.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> table = Vignetting.of_flight(ESIS_1, "He I").to_table()
        >>> Vignetting.from_table(table, ESIS_1).line
        'He I'
        """
        slopes = dict(zip(table["channel"].tolist(), table["slope"].tolist(), strict=True))
        return cls(slopes, flight, table.meta["LINE"], source=table.meta["SOURCE"])
