"""The common part of all corrections of the images, and how a correction is applied to a cube and undone."""

import abc
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import ClassVar

import dask.array as da
import numpy as np
from dask.utils import SerializableLock

from astropy.wcs import WCSCOMPARE_ANCILLARY, WCSCOMPARE_CRPIX

from esis_ndcube.operations._parts import rebuild
from esis_ndcube.resample import detector_coordinates
from esis_ndcube.utils.arrays import is_lazy
from esis_ndcube.utils.checks import check_cube, named_axes
from esis_ndcube.utils.parallel import delayed
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import make_uncertainty, standard_deviation
from esis_ndcube.wcs.meta import with_entries

__all__ = ["Correction", "CorrectionImage", "correct", "uncorrect"]


@dataclass(frozen=True, eq=False)
class CorrectionImage:
    """
    One image, in the form that a correction takes.

    Attributes
    ----------
    data, sigma, mask, flags : `numpy.ndarray` or None
        The image, of a floating type, its standard deviations, its mask, and bits of `~esis_ndcube.flags.Flag`, each of
        shape (y, x). Only the parts are there that the correction changes and the cube has.
    index : `tuple` of `int`
        Place of the image on the axes of time and channel, as far as the cube has them.
    channel, frame_number : `int`
        Numbers of the channel and of the raw frame.
    alignment : `~esis_ndcube.Alignment` or None
        The alignment that the image was made with.
    wcs : `~astropy.wcs.WCS`
        WCS of the image: celestial, or that of the detector for Level 1.
    position : `tuple` of `numpy.ndarray` or None
        Detector pixels (u, v) of the pixels, if they are known already.

    Examples
    --------
    >>> import numpy as np
    >>> from esis_ndcube.corrections.correction import CorrectionImage
    >>> CorrectionImage(np.full((1, 2), 3.0), sigma=np.ones((1, 2))).times(-2).sigma
    array([[2., 2.]])
    """

    data: np.ndarray | None = None
    sigma: np.ndarray | None = None
    mask: np.ndarray | None = None
    flags: np.ndarray | None = None
    index: tuple = ()
    channel: int | None = None
    frame_number: int | None = None
    alignment: object = None
    wcs: object = None
    position: tuple | None = None

    @property
    def shape(self):
        """Rows and columns (`tuple` of `int`)."""
        return next(part.shape for part in (self.data, self.sigma, self.mask, self.flags) if part is not None)

    @cached_property
    def detector(self):
        """Detector pixels (u, v) of the pixels (two `numpy.ndarray`, shape (y, x)), or None without an alignment."""
        if self.position is not None or self.alignment is None:
            return self.position
        return image_positions(self.alignment, self.wcs, self.shape)

    def times(self, factor):
        """
        Multiply data and standard deviations.

        Parameters
        ----------
        factor : `float` or `numpy.ndarray`
            One factor for all pixels, or one for each; it takes the type of the data.

        Returns
        -------
        `CorrectionImage`
            The image.

        Examples
        --------
        >>> import numpy as np
        >>> from esis_ndcube.corrections.correction import CorrectionImage
        >>> CorrectionImage(np.full((1, 2), 3.0)).times(2).data
        array([[6., 6.]])
        """
        return self._scaled(np.multiply, factor)

    def over(self, divisor):
        """
        Divide data and standard deviations.

        Parameters
        ----------
        divisor : `float` or `numpy.ndarray`
            One divisor for all pixels, or one for each; it takes the type of the data.

        Returns
        -------
        `CorrectionImage`
            The image.

        Examples
        --------
        >>> import numpy as np
        >>> from esis_ndcube.corrections.correction import CorrectionImage
        >>> CorrectionImage(np.full((1, 2), 3.0)).over(2).data
        array([[1.5, 1.5]])
        """
        return self._scaled(np.divide, divisor)

    def _scaled(self, operation, value):
        value = np.asarray(value).astype(self.data.dtype)
        sigma = None if self.sigma is None else operation(self.sigma, np.abs(value))
        return replace(self, data=operation(self.data, value), sigma=sigma)


class Correction(abc.ABC):
    """
    A correction of the images, with all that the rest of the package needs to know of it.

    A subclass is a frozen dataclass of the data that the correction needs, and stands in
    ``esis_ndcube.corrections.CORRECTIONS``. `~esis_ndcube.form_level3` takes it as an option, cubes keep it in their
    metadata, files hold its table, reports show it, and the command has a switch for it.

    Attributes
    ----------
    key : `str` or None
        Key of the metadata that keep the correction; in capitals, name of its table in FITS files. None if only the
        history keeps the correction, so that it cannot be undone.
    option : `str`
        Name of the option of `~esis_ndcube.form_level3`; by default the ``key``.
    default : `bool`
        Whether `~esis_ndcube.form_level3` applies the correction by default.
    help : `str`
        Help of the command's switch, which leaves the correction out, or asks for it if it is no ``default``.
    step, undo_step : `str`
        Names in the history of cubes; by default ``correct_`` and ``uncorrect_`` with the ``key``.
    takes_file : `bool`
        Whether the command's switch takes the name of a file.
    levels : `tuple` of `int`
        Levels of the cubes that the correction is for.
    changes : `tuple` of `str`
        Parts of the cube that it changes, of ``data``, ``sigma``, ``mask`` and ``flags``.
    columns : `dict`
        Place of its metadata in FITS files: names of columns of EXPOSURE by key. Empty if it has a table.

    Examples
    --------
    >>> from esis_ndcube.corrections import CORRECTIONS
    >>> [(correction.option, correction.step) for correction in CORRECTIONS]
    [('vignetting', 'correct_vignetting'), ('masks', 'mask_polygons'), ('normalize', 'normalize_intensities')]
    """

    key: ClassVar[str]
    option: ClassVar[str]
    default: ClassVar[bool] = False
    help: ClassVar[str] = ""
    step: ClassVar[str]
    undo_step: ClassVar[str]
    takes_file: ClassVar[bool] = False
    levels: ClassVar[tuple] = (3,)
    changes: ClassVar[tuple] = ("data", "sigma")
    columns: ClassVar[dict] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, value in (("option", "{}"), ("step", "correct_{}"), ("undo_step", "uncorrect_{}")):
            if name not in cls.__dict__:
                setattr(cls, name, value.format(cls.key))

    @abc.abstractmethod
    def apply(self, image):
        """
        Correct one image.

        Parameters
        ----------
        image : `~esis_ndcube.corrections.correction.CorrectionImage`
            The image.

        Returns
        -------
        `~esis_ndcube.corrections.correction.CorrectionImage`
            A new image.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> import numpy as np
        >>> from esis_ndcube.corrections.correction import CorrectionImage
        >>> image = CorrectionImage(np.ones((1, 2)), channel=2, position=(np.array([[1100, 1900]]), None))
        >>> Vignetting.of_flight(ESIS_1, "O V").apply(image).data.round(2)
        array([[0.75, 0.96]])
        """

    def undo(self, image):
        """
        Undo the correction of one image.

        Parameters
        ----------
        image : `~esis_ndcube.corrections.correction.CorrectionImage`
            The image.

        Returns
        -------
        `~esis_ndcube.corrections.correction.CorrectionImage`
            A new image.

        Raises
        ------
        NotImplementedError
            If the correction kept nothing to undo it with.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> import numpy as np
        >>> from esis_ndcube.corrections.correction import CorrectionImage
        >>> image = CorrectionImage(np.ones((1, 2)), channel=2, position=(np.array([[1100, 1900]]), None))
        >>> Vignetting.of_flight(ESIS_1, "O V").undo(image).data.round(2)
        array([[1.33, 1.04]])
        """
        msg = f"{type(self).__name__} cannot be undone"
        raise NotImplementedError(msg)

    @classmethod
    def choose(cls, choice, flight, line):
        """
        The correction that an option of `~esis_ndcube.form_level3` asks for.

        Parameters
        ----------
        choice : object
            The choice, which is not False or None.
        flight : `~esis_ndcube.Flight`
            The flight.
        line : `str`
            The spectral line.

        Returns
        -------
        `~esis_ndcube.corrections.correction.Correction` or None
            The correction, or None if it has to be fitted to the images first.

        Raises
        ------
        TypeError
            If the choice is not such a correction.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.choose(True, ESIS_1, "O V").source
        'flight ESIS_1'
        """
        if not isinstance(choice, cls):
            expected = "True, False" if cls.default else "False"
            msg = f"got {cls.option} of type {type(choice).__name__}, expected {expected} or a {cls.__name__}"
            raise TypeError(msg)
        choice.check(flight, line)
        return choice

    @classmethod
    def of_cube(cls, cube):
        """
        The correction that was applied to a cube.

        Parameters
        ----------
        cube : `~esis_ndcube.ESISLevel3Cube`
            The cube.

        Returns
        -------
        `~esis_ndcube.corrections.correction.Correction` or None
            The correction, if it is known.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube, Vignetting
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> Vignetting.of_cube(cube) is cube.vignetting  # doctest: +SKIP
        True
        """
        return None if cls.key is None else cube._get_meta(cls.key)

    @classmethod
    def check_missing(cls, cube):
        """
        Refuse a cube that is corrected already.

        Parameters
        ----------
        cube : `~esis_ndcube.ESISLevel3Cube`
            The cube.

        Raises
        ------
        ValueError
            If the cube is corrected already.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube, Vignetting
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> Vignetting.check_missing(cube.uncorrect("vignetting"))  # doctest: +SKIP
        """
        if cls.of_cube(cube) is not None:
            msg = f"the cube has the correction {cls.key} already: call uncorrect({cls.key!r}) first"
            raise ValueError(msg)

    def check_cube(self, cube):
        """
        Refuse a cube that cannot be corrected.

        Parameters
        ----------
        cube : `~esis_ndcube.ESISLevel3Cube`
            The cube.

        Raises
        ------
        ValueError
            If it is corrected already, has no images of known channels, or is of another flight or line.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, ESISLevel3Cube, Vignetting
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> Vignetting.of_flight(ESIS_1, "O V").check_cube(cube.uncorrect("vignetting"))  # doctest: +SKIP
        """
        _check_images(cube)
        self.check_missing(cube)
        self.check(cube.flight, cube.line)

    def check(self, flight, line):  # noqa: B027  most corrections have nothing to refuse
        """
        Refuse another flight or line than that of the correction; by default any flight and line will do.

        Parameters
        ----------
        flight : `~esis_ndcube.Flight`
            The flight.
        line : `str`
            The spectral line.

        Raises
        ------
        ValueError
            If the correction is of another flight or line.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "O V").check(ESIS_1, "He I")
        Traceback (most recent call last):
            ...
        ValueError: got the vignetting of O V of flight ESIS_1, expected that of He I of flight ESIS_1
        """

    def entries(self):
        """
        The metadata that keep the correction.

        Returns
        -------
        `dict`
            Value and axes by key.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> list(Vignetting.of_flight(ESIS_1, "O V").entries())
        ['vignetting']
        """
        return {} if self.key is None else {self.key: (self, None)}

    def parameters(self):
        """
        The parameters of the correction in the history.

        Returns
        -------
        `dict`
            Parameters of a `~esis_ndcube.utils.provenance.ProcessingStep`.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "O V").parameters()["source"]
        'flight ESIS_1'
        """
        return {}

    def history_step(self):
        """
        The step in the history of a corrected cube.

        Returns
        -------
        `~esis_ndcube.utils.provenance.ProcessingStep`
            The step.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "O V").history_step().name
        'correct_vignetting'
        """
        return ProcessingStep(self.step, self.parameters())

    def to_table(self):
        """
        Write the correction as a table for files.

        Returns
        -------
        `~astropy.table.Table`
            The table; small values may be in its ``meta``.

        Raises
        ------
        NotImplementedError
            If there is no table, for example because files keep the correction in ``columns``.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "O V").to_table().colnames
        ['channel', 'slope', 'covariance']
        """
        msg = f"{type(self).__name__} has no table"
        raise NotImplementedError(msg)

    @classmethod
    def from_table(cls, table, flight):
        """
        Read the correction from a table.

        Parameters
        ----------
        table : `~astropy.table.Table`
            As `to_table` writes it.
        flight : `~esis_ndcube.Flight` or None
            The flight of the cube.

        Returns
        -------
        `~esis_ndcube.corrections.correction.Correction`
            The correction.

        Raises
        ------
        NotImplementedError
            If there is no table, for example because files keep the correction in ``columns``.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> table = Vignetting.of_flight(ESIS_1, "O V").to_table()
        >>> Vignetting.from_table(table, ESIS_1).line
        'O V'
        """
        msg = f"{cls.__name__} has no table"
        raise NotImplementedError(msg)

    @classmethod
    def fact(cls, correction):
        """
        A line of a report on the correction.

        Parameters
        ----------
        correction : `~esis_ndcube.corrections.correction.Correction` or None
            The correction of a cube.

        Returns
        -------
        title, text : `str`
            Name of the corrected effect, and whether it was corrected.

        Examples
        --------
        >>> from esis_ndcube import Vignetting
        >>> Vignetting.fact(None)
        ('Vignetting', 'not corrected')
        """
        return cls.key.replace("_", " ").capitalize(), "not corrected" if correction is None else "corrected"

    def report(self, cube):
        """
        A table of a report on the correction.

        Parameters
        ----------
        cube : `~esis_ndcube.ESISLevel3Cube`
            The corrected cube.

        Returns
        -------
        caption : `str`
            The heading.
        table : `~astropy.table.Table`
            The table; by default that of files.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Vignetting
        >>> Vignetting.of_flight(ESIS_1, "O V").report(None)[0]
        'Vignetting, flight ESIS_1'
        """
        return self.fact(self)[0], self.to_table()


def correct(cube, correction):
    """
    Apply a correction to a cube.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        The cube, or part of one; perhaps lazy.
    correction : `Correction`
        The correction.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        A new cube, with the correction in its metadata and one more step in its history.

    Raises
    ------
    TypeError
        If the argument is not a correction.
    ValueError
        If the cube is corrected already, or the correction is of another line or flight.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube, Vignetting
    >>> from esis_ndcube.corrections.correction import correct
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> correct(cube, Vignetting.of_flight(cube.flight, cube.line)).history[-1].name  # doctest: +SKIP
    'correct_vignetting'
    """
    check_cube(cube, *getattr(correction, "levels", Correction.levels))
    if not isinstance(correction, Correction):
        msg = f"got {type(correction).__name__}, expected a Correction, for example a Vignetting"
        raise TypeError(msg)
    correction.check_cube(cube)
    meta = with_entries(cube.meta, correction.entries())
    return rebuild(cube, correction.history_step(), **_changed(cube, correction, correction.apply), meta=meta)


def uncorrect(cube, kind):
    """
    Undo a correction of a cube.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        The cube, or part of one; perhaps lazy.
    kind : `type`
        The class of the correction.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        A new cube, as it was before, except for the rounding of its data's type.

    Raises
    ------
    ValueError
        If the cube is not corrected.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube, Vignetting
    >>> from esis_ndcube.corrections.correction import uncorrect
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> uncorrect(cube, Vignetting).vignetting is None  # doctest: +SKIP
    True
    """
    check_cube(cube, 3)
    correction = kind.of_cube(cube)
    if correction is None:
        msg = f"the {kind.key or kind.option} of this cube is not corrected: there is nothing to undo"
        raise ValueError(msg)
    _check_images(cube)
    meta = with_entries(cube.meta, dict.fromkeys(correction.entries(), (None, None)))
    return rebuild(cube, ProcessingStep(kind.undo_step), **_changed(cube, correction, correction.undo), meta=meta)


def _check_images(cube):
    axes = named_axes(cube)
    if cube.channel is None or not {"y", "x"} <= set(axes):
        msg = f"got a cube with the axes {', '.join(axes)}, expected images of known channels"
        raise ValueError(msg)


def _changed(cube, correction, function):
    """The parts of a cube that a correction changes, after a function of every image."""
    shape, arrays = cube.data.shape, {}
    if "data" in correction.changes:
        dtype = np.result_type(cube.data.dtype, np.float32)
        sigma = standard_deviation(cube, cube.unit)
        arrays |= {"data": cube.data.astype(dtype), "sigma": None if sigma is None else sigma.astype(dtype)}
    if "mask" in correction.changes:
        arrays |= {"mask": cube._mask_part(...), "flags": cube.flags}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    images = {index: partial(_image, function, tuple(arrays), facts) for index, facts in image_facts(cube).items()}
    if is_lazy(*arrays.values()):
        new = _lazy(arrays, images)
    else:
        new = {name: np.empty(shape, array.dtype) for name, array in arrays.items()}
        for index, image in images.items():
            for array, part in zip(new.values(), image(*(old[index] for old in arrays.values())), strict=True):
                array[index] = part
    if "data" in new:
        new["uncertainty"] = make_uncertainty(cube.uncertainty, new.pop("sigma", None))
    return new


def image_facts(cube):
    """Facts of each image of a cube for corrections, except its parts, by its place on the leading axes."""
    leading, lead = cube.data.shape[:-2], cube.data.ndim - 2
    # Slices may lack one or both axes, and a cube with a WCS of another class all.
    channels = np.broadcast_to(np.array(cube.channel, dtype=object), leading)
    frame_numbers = np.array(cube.frame_number, dtype=object)
    frame_numbers = frame_numbers.reshape(frame_numbers.shape + (1,) * (lead - frame_numbers.ndim))
    frame_numbers = np.broadcast_to(frame_numbers, leading)
    alignments = np.empty(leading, dtype=object)
    alignments[...] = getattr(cube, "alignment", None)
    wcs = cube.wcs.celestial if getattr(cube.wcs, "has_celestial", False) else cube[(0,) * lead].wcs
    return {
        index: {
            "index": index,
            "channel": channels[index],
            "frame_number": frame_numbers[index],
            "alignment": alignments[index],
            "wcs": wcs,
        }
        for index in np.ndindex(leading)
    }


def _image(function, names, facts, *parts):
    """The parts of an image by their names, after a function of the image."""
    image = function(CorrectionImage(**dict(zip(names, parts, strict=True)), **facts))
    return tuple(getattr(image, name) for name in names)


def _lazy(arrays, images):
    """Lazy arrays: each image is made when it is asked for, all parts of it together."""
    arrays = {name: da.asarray(array) for name, array in arrays.items()}
    tasks = {index: delayed(image, *(array[index] for array in arrays.values())) for index, image in images.items()}
    new = {}
    for number, (name, array) in enumerate(arrays.items()):
        parts = [da.from_delayed(task[number], array.shape[-2:], array.dtype) for task in tasks.values()]
        # The last of the leading axes comes first.
        for length in reversed(array.shape[:-2]):
            parts = [da.stack(parts[start : start + length]) for start in range(0, len(parts), length)]
        (new[name],) = parts
    return new


def on_grid(alignment, wcs):
    """Whether the pixels of a celestial WCS are those of the alignment's grid, or of a part of it."""
    # A WCS that was never used lacks the values that wcslib fills in; they count in the comparison.
    for one in (alignment.grid, wcs):
        one.wcs.set()
    # An exposure's WCS has a time and observer of its own, but the Sun stays on its pixels.
    return alignment.grid.wcs.compare(wcs.wcs, WCSCOMPARE_ANCILLARY | WCSCOMPARE_CRPIX)


def grid_corner(alignment, wcs):
    """Pixel (x, y) of the alignment's grid that is the first pixel of an image on this grid."""
    return np.subtract(alignment.grid.wcs.crpix, wcs.wcs.crpix)


def image_positions(alignment, wcs, shape):
    """Detector pixels (u, v) of the pixels of an image with a celestial WCS."""
    if not on_grid(alignment, wcs):
        # A WCS of astropy is not safe to share between threads; on the alignment's own grid no WCS is used.
        with SerializableLock("esis_ndcube.corrections"):
            return detector_coordinates(alignment, wcs, shape)
    x, y = (np.arange(n) + first for n, first in zip(shape[::-1], grid_corner(alignment, wcs), strict=True))
    return alignment.transform(x[None, :], y[:, None])
