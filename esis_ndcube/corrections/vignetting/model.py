"""The vignetting of the instrument, a linear function of the position in the field stop."""

from dataclasses import dataclass, field

import numpy as np

import astropy.units as u
from astropy.table import Table

from esis_ndcube.corrections.correction import Correction
from esis_ndcube.corrections.vignetting._images import chosen_alignments
from esis_ndcube.utils.arrays import plain_array

__all__ = ["Vignetting", "stop_position"]


def stop_position(flight, channel, line, x):
    """
    Position of a detector pixel in the field stop, on the vignetting's scale.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    channel : `int`
        Channel number.
    line : `str` or `~esis_ndcube.flight.Line`
        The spectral line; contaminants are given as `~esis_ndcube.flight.Line`.
    x : array-like
        Detector pixel along the dispersion, 0-based centers.

    Returns
    -------
    `numpy.ndarray`
        :math:`(r + r_0) / r_t` of `Vignetting`, of the shape of ``x``: about 0 at the side of the field stop
        toward longer wavelength and 1 at the other one.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.corrections.vignetting.model import stop_position
    >>> stop_position(ESIS_1, 4, "O V", [1100.0, 1900.0]).round(2)
    array([0.96, 0.11])
    """
    stop = flight.field_stop(channel, line)[:, 0]
    center = (stop.min() + stop.max()) / 2
    distance = (center - plain_array(x, "x")) * flight.detector.pixel_scale[0].to_value(u.arcsec)
    zero, width = (q.to_value(u.arcsec) for q in (flight.vignetting_zero, flight.vignetting_width))
    return (distance + zero) / width


@dataclass(frozen=True, eq=False)
class Vignetting(Correction):
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
        Source of the slopes.
    covariance : `numpy.ndarray`
        Covariance of the slopes from the scatter of the data, in the order of ``slopes``; NaN if it is not known.
    systematic : `float`
        Standard deviation of errors that the scatter of the data does not show, equal and independent for all slopes.
    contamination : `dict`
        Brightness of other lines that were also fitted, relative to this line's mean, by the name of the line.

    Raises
    ------
    ValueError
        If a slope is not within -1 to 1, the flight has no such channel or line, or the covariance does not fit these
        slopes.

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
    covariance: np.ndarray = field(default=None, repr=False)
    systematic: float = 0.0
    contamination: dict = field(default_factory=dict)

    key = "vignetting"
    default = True
    help = "Do not correct the vignetting."

    def __post_init__(self):
        slopes = {int(number): float(slope) for number, slope in dict(self.slopes).items()}
        for number, slope in slopes.items():
            self.flight.channel(number)
            if not -1 <= slope <= 1:
                msg = f"got a slope of {slope} for channel {number}, expected -1 to 1"
                raise ValueError(msg)
        size = len(slopes)
        covariance = np.full((size, size), np.nan) if self.covariance is None else self.covariance
        covariance = np.array(covariance, dtype=float)
        if covariance.shape != (size, size) or (np.diag(covariance) < 0).any():
            msg = f"got a covariance of shape {covariance.shape}, expected ({size}, {size}) with variances of 0 or more"
            raise ValueError(msg)
        covariance.setflags(write=False)
        if not self.systematic >= 0:
            msg = f"got a systematic error of {self.systematic}, expected 0 or more"
            raise ValueError(msg)
        object.__setattr__(self, "slopes", slopes)
        object.__setattr__(self, "line", self.flight.line(self.line).name)
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "systematic", float(self.systematic))
        contamination = {str(name): float(value) for name, value in dict(self.contamination).items()}
        object.__setattr__(self, "contamination", contamination)

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

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "He I").source
        'flight ESIS_1'
        """
        slopes = {channel.number: channel.vignetting_slope for channel in flight.channels}
        return cls(slopes, flight, line, source=f"flight {flight.name}")

    @classmethod
    def choose(cls, choice, flight, line):
        return cls.of_flight(flight, line) if choice is True else super().choose(choice, flight, line)

    def __str__(self):
        errors = self.errors
        rows = [
            f"  channel {number}: {slope:.3f}" + (f" +- {errors[number]:.3f}" if np.isfinite(errors[number]) else "")
            for number, slope in self.slopes.items()
        ]
        rows += [f"  {name}: {value:.3f} of {self.line}" for name, value in self.contamination.items()]
        return "\n".join([f"Vignetting in {self.line} from {self.source}", *rows])

    @property
    def errors(self):
        """Standard error of each slope with the systematic error, by channel number (`dict`); NaN if unknown."""
        variances = np.diag(self.covariance) + self.systematic**2
        return dict(zip(self.slopes, np.sqrt(variances).tolist(), strict=True))

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

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "O V").evaluate(2, [1100.0, 1900.0]).round(2)
        array([1.33, 1.04])
        """
        return 1 + self._slope(channel) * stop_position(self.flight, channel, self.line, x)

    def _slope(self, channel):
        if channel not in self.slopes:
            msg = f"got channel {channel}, expected one with a slope: {', '.join(map(str, self.slopes))}"
            raise ValueError(msg)
        return self.slopes[channel]

    def apply(self, image):
        return image if image.detector is None else image.over(self._field(image))

    def undo(self, image):
        return image if image.detector is None else image.times(self._field(image))

    def _field(self, image):
        return self.evaluate(image.channel, image.detector[0]).astype(np.float32)

    @classmethod
    def check_missing(cls, cube):
        if cube.vignetting is not None:
            msg = (
                f"the vignetting is corrected already, by the slopes from {cube.vignetting.source}: "
                "to replace them, call uncorrect_vignetting() first"
            )
            raise ValueError(msg)

    def check_cube(self, cube):
        super().check_cube(cube)
        chosen_alignments(cube)
        for number in np.atleast_1d(cube.channel).tolist():
            self._slope(number)

    def parameters(self):
        return {"slopes": {str(number): slope for number, slope in self.slopes.items()}, "source": self.source}

    @classmethod
    def fact(cls, correction):
        title, text = super().fact(correction)
        return title, text if correction is None else f"{text}, {correction.source}"

    def report(self, cube):
        names = "channel", "slope", "error"
        return f"Vignetting, {self.source}", Table(
            [list(self.slopes), list(self.slopes.values()), list(self.errors.values())], names=names
        )

    def check(self, flight, line):
        if flight is None or line is None:
            msg = "got a cube without flight or line, whose vignetting is not known: expected one of form_level3"
            raise ValueError(msg)
        if self.flight != flight or self.line != line:
            msg = (
                f"got the vignetting of {self.line} of flight {self.flight.name}, "
                f"expected that of {line} of flight {flight.name}"
            )
            raise ValueError(msg)

    def to_table(self):
        """
        Write the vignetting as a table.

        Returns
        -------
        `~astropy.table.Table`
            A row per channel; its ``meta`` holds the values that belong to no channel. The table does not hold the
            flight.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "O V").to_table().colnames
        ['channel', 'slope', 'covariance']
        """
        table = Table({"channel": list(self.slopes), "slope": list(self.slopes.values())})
        table["covariance"] = self.covariance
        table.meta.update(
            LINE=self.line, SOURCE=self.source, SYSTEMATIC=self.systematic, CONTAMINATION=self.contamination
        )
        return table

    @classmethod
    def from_table(cls, table, flight):
        """
        Read the vignetting from a table.

        Parameters
        ----------
        table : `~astropy.table.Table`
            A table that `to_table` wrote, with or without errors.
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
        return cls(
            slopes,
            flight,
            table.meta["LINE"],
            source=table.meta["SOURCE"],
            covariance=np.asarray(table["covariance"]) if "covariance" in table.colnames else None,
            systematic=table.meta.get("SYSTEMATIC", 0.0),
            contamination=table.meta.get("CONTAMINATION", {}),
        )
