"""The alignments of all frames of a flight: look at them, edit, write and read them."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from astropy.table import Table
from astropy.time import Time

from esis_ndcube.registration._status import alignment_text
from esis_ndcube.registration.alignment import grid_header
from esis_ndcube.registration.alignment_table import alignments_from_table, alignments_to_table, swap_columns
from esis_ndcube.utils.output import temporary_output
from esis_ndcube.utils.whole import pass_scarcity

__all__ = ["Coalignment"]

_STAGES = "linear", "final"


@dataclass(frozen=True, eq=False)
class Coalignment:
    """
    Alignments of all frames of a Level-1 cube.

    `~esis_ndcube.coalign` makes one, and `~esis_ndcube.form_level3` forms a cube from it.
    It can be edited in between: `without` leaves images out, and `with_alignment` replaces an alignment.

    Attributes
    ----------
    linear, final : `numpy.ndarray`
        Objects `~esis_ndcube.Alignment`, or None without a frame, shape (time, channel): after the affine fit to the
        reference, and after the quadratic fit to the reference channel.
    grid : `~astropy.wcs.WCS`
        The celestial WCS of the common grid, with its observer.
    line : `str`
        The spectral line.
    reference : `str`
        Source of the pointing.
    reference_times : `list`
        Time of the reference image of each exposure, or None if there is none.
    reference_channel : `int`
        Number of the channel that the others were aligned with.
    options : `dict`
        Choices of the fit, as for `~esis_ndcube.registration.coalign_frames`: ``model`` (the model that was used),
        ``degree``, ``max_gap`` in seconds and ``rotate``.
    joint : `~esis_ndcube.registration.Joint`, optional
        The joint model, if it was fitted.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel1Cube, coalign, form_level3
    >>> level1 = ESISLevel1Cube.from_raw("frames")  # doctest: +SKIP
    >>> found = coalign(level1)  # doctest: +SKIP
    >>> found.linear[0, 0].score, found.final[0, 0].score  # doctest: +SKIP
    >>> cube = form_level3(level1, found.without(frame_number=138))  # doctest: +SKIP
    """

    linear: np.ndarray
    final: np.ndarray
    grid: object
    line: str
    reference: str
    reference_times: list
    reference_channel: int
    options: dict = field(default_factory=dict)
    joint: object = None

    def __str__(self):
        rows = [f"  {name}: {alignment_text(getattr(self, name))}" for name in _STAGES]
        return "\n".join([f"Coalignment with {self.reference}", *rows])

    def without(self, frame_number, channel=None):
        """
        Leave an image out, or an exposure.

        Parameters
        ----------
        frame_number : `int`
            Raw frame number.
        channel : `int`, optional
            Channel number; by default all channels of the exposure.

        Returns
        -------
        `Coalignment`
            A copy with None in the place of these alignments; a cube that is formed with it has no image there.

        Raises
        ------
        ValueError
            If there is no such image.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel1Cube, coalign
        >>> found = coalign(ESISLevel1Cube.from_raw("frames"))  # doctest: +SKIP
        >>> found.without(frame_number=138, channel=1).final[-1, 0] is None  # doctest: +SKIP
        True
        """
        chosen = self._find(frame_number, channel)
        arrays = {name: getattr(self, name).copy() for name in _STAGES}
        for array in arrays.values():
            array[chosen] = None
        return dataclasses.replace(self, **arrays)

    def with_alignment(self, alignment):
        """
        Replace an alignment.

        Parameters
        ----------
        alignment : `~esis_ndcube.Alignment`
            The new alignment, on the same grid; its frame, channel and stage give its place.

        Returns
        -------
        `Coalignment`
            A copy with the new alignment.

        Raises
        ------
        ValueError
            If there is no such image, the line or the grid is a different one, or the stage is neither ``"linear"`` nor
            ``"final"``.

        Examples
        --------
        >>> from dataclasses import replace
        >>> from esis_ndcube import ESISLevel1Cube, coalign
        >>> found = coalign(ESISLevel1Cube.from_raw("frames"))  # doctest: +SKIP
        >>> found.with_alignment(replace(found.linear[3, 1], stage="final")).final[3, 1]  # doctest: +SKIP
        """
        if alignment.stage not in _STAGES:
            msg = f"got an alignment of stage {alignment.stage!r}, expected 'linear' or 'final'"
            raise ValueError(msg)
        if alignment.line != self.line:
            msg = f"got an alignment of line {alignment.line!r}, expected {self.line!r}"
            raise ValueError(msg)
        if grid_header(alignment.grid) != grid_header(self.grid):
            msg = "got an alignment on another grid, expected one on the grid of the others: fit it with this reference"
            raise ValueError(msg)
        chosen = self._find(alignment.frame_number, alignment.channel)
        array = getattr(self, alignment.stage).copy()
        array[chosen] = dataclasses.replace(alignment, grid=self.grid)
        return dataclasses.replace(self, **{alignment.stage: array})

    def _find(self, frame_number, channel):
        """True for the images of an exposure and a channel, or of all channels of the exposure."""
        known = {name: np.full(self.linear.shape, -1) for name in ("frame_number", "channel")}
        for array in (self.linear, self.final):
            for index, alignment in np.ndenumerate(array):
                if alignment is not None:
                    for name, numbers in known.items():
                        numbers[index] = getattr(alignment, name)
        chosen = (known["frame_number"] == frame_number) & (
            (known["channel"] == channel) if channel is not None else True
        )
        if not chosen.any():
            msg = (
                f"got frame {frame_number}{'' if channel is None else f', channel {channel}'}, expected an image that "
                "has an alignment"
            )
            raise ValueError(msg)
        return chosen

    def to_table(self):
        """
        Make a table of all alignments.

        Returns
        -------
        `~astropy.table.Table`
            A row for each alignment, as in `~esis_ndcube.registration.alignments_to_table`; linear alignments come
            first. Its ``meta`` holds the entries that are common to all.

        Raises
        ------
        ValueError
            If there are no alignments.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel1Cube, coalign
        >>> table = coalign(ESISLevel1Cube.from_raw("frames")).to_table()  # doctest: +SKIP
        >>> table[table["status"] == "weak"]["frame_number", "channel", "error"]  # doctest: +SKIP
        """
        result = alignments_to_table(np.concatenate([self.linear, self.final]))
        if not len(result):
            msg = "got a coalignment of no images, expected at least one alignment"
            raise ValueError(msg)
        result.meta |= {name: getattr(self, name) for name in ("line", "reference", "reference_channel")}
        result.meta["options"] = dict(self.options)
        result.meta["reference_times"] = [
            None if time is None else [float(time.jd1), float(time.jd2), time.scale, time.format]
            for time in self.reference_times
        ]
        return result

    def write(self, path, *, overwrite=False):
        """
        Write the alignments to a text file, an astropy table in the format ECSV.

        Parameters
        ----------
        path : path-like
            The file.
        overwrite : `bool`, optional
            Whether to replace a file that exists.

        Raises
        ------
        FileExistsError
            If the file exists and ``overwrite`` is not set.
        OSError
            If the file cannot be written.
        ValueError
            If there are no alignments.

        Notes
        -----
        The file does not hold the joint model, but holds the alignments that come from it.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel1Cube, coalign
        >>> coalign(ESISLevel1Cube.from_raw("frames")).write("coalignment.ecsv")  # doctest: +SKIP
        """
        table = swap_columns(self.to_table())
        with temporary_output(path, overwrite=overwrite) as temporary:
            table.write(temporary, format="ascii.ecsv", overwrite=True)

    @classmethod
    def read(cls, path):
        """
        Read alignments from a file.

        Parameters
        ----------
        path : path-like
            A file that `write` wrote.

        Returns
        -------
        `Coalignment`
            The alignments, with the same bits as before; without the joint model.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is another kind of file, or damaged.

        Examples
        --------
        >>> from esis_ndcube import Coalignment, ESISLevel1Cube, form_level3
        >>> found = Coalignment.read("coalignment.ecsv")  # doctest: +SKIP
        >>> form_level3(ESISLevel1Cube.from_raw("frames"), found)  # doctest: +SKIP
        """
        try:
            table = swap_columns(Table.read(path, format="ascii.ecsv"))
            meta = table.meta
            linear, final = np.split(alignments_from_table(table), 2)
            times = [
                None if entry is None else Time(*entry[:2], scale=entry[2], format="jd")
                for entry in meta["reference_times"]
            ]
            for time, entry in zip(times, meta["reference_times"], strict=True):
                if time is not None:
                    time.format = entry[3]
            common = {name: meta[name] for name in ("line", "reference", "reference_channel", "options")}
        except FileNotFoundError:
            raise
        except Exception as error:  # damage can meet the reader of tables anywhere
            pass_scarcity(error, path)
            msg = f"{path} is not a file of Coalignment.write, or damaged: {error}; write it again"
            raise ValueError(msg) from error
        grid = next(alignment.grid for alignment in (*linear.flat, *final.flat) if alignment is not None)
        return cls(linear, final, grid, reference_times=times, **common)
