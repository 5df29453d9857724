"""The Level-1 cube: calibrated frames on the detector."""

import logging
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from ndcube.meta import NDMeta

from esis_ndcube.cube import ESISCube
from esis_ndcube.flags import Flag
from esis_ndcube.flight import ESIS_1
from esis_ndcube.flight.instrument import ByQuadrant
from esis_ndcube.level1.calibration import noise_correlation, stray_light
from esis_ndcube.level1.formats import read_images, unpack_esis, write_images
from esis_ndcube.level1.frames import (
    check_on_error,
    find_frames,
    may_be_dark,
    sort_frames,
)
from esis_ndcube.level1.planes import PHOTONS, Times
from esis_ndcube.level1.raw import arrange_frames, calibrate_darks, fill_planes, lazy_planes
from esis_ndcube.utils.arrays import wide
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import make_uncertainty, standard_deviation
from esis_ndcube.wcs import level1_wcs
from esis_ndcube.wcs.meta import copy_meta

__all__ = ["ESISLevel1Cube"]

_log = logging.getLogger(__name__)


class ESISLevel1Cube(ESISCube):
    """
    Level-1 cube: calibrated frames of all channels on their detectors.

    Array axes (time, channel, y, x); x and y are columns and rows of the detector's active area, 0-based
    centers, with the flip of the optics undone.
    Make a cube with `from_raw`, `from_esis` or `from_images`, or read one.

    Attributes of the metadata, by key: ``"frame_number"`` the raw frame numbers, shape (time,); ``"file"`` the raw
    files, shape (time, channel), empty where there is no frame; ``"mid_time"`` and ``"exposure_time"`` of every
    frame.

    Examples
    --------
    >>> from esis_ndcube.level1 import ESISLevel1Cube
    >>> cube = ESISLevel1Cube.from_raw("flight/raw/")  # doctest: +SKIP
    >>> cube[0, 1].to_photons("O V").unit  # doctest: +SKIP
    Unit("ph / pix")
    """

    _level = 1

    @classmethod
    def from_raw(
        cls,
        paths,
        flight=ESIS_1,
        *,
        darks=None,
        despike=True,
        frame_numbers=None,
        channels=None,
        on_error="raise",
        lazy=False,
        scratch=None,
        workers=None,
        progress=False,
    ):
        """
        Calibrate raw camera frames.

        Bias, dark, trimming, gain, stray light, spikes, times and noise, by `esis_ndcube.level1.calibration` and
        `esis_ndcube.level1.despike`.

        Parameters
        ----------
        paths : path-like or iterable of path-like
            Files, folders and glob patterns that hold light frames and darks; the flight's time line tells them apart.
        flight : `~esis_ndcube.Flight`, optional
            The flight.
        darks : path-like or iterable of path-like, optional
            More files, folders and glob patterns to take darks from: all frames there, except frames that are no darks
            by the flight's time line.
        despike : `bool` or `dict`, optional
            Whether to find and mend the marks of particles; a dictionary holds keyword arguments of
            `~esis_ndcube.level1.despike.find_spikes`. Mended pixels are marked with `~esis_ndcube.flags.Flag.SPIKE`.
        frame_numbers, channels : iterable of `int`, optional
            Raw frame numbers and channel numbers to take; by default all that are found.
        on_error : {"raise", "skip"}, optional
            Reaction to a damaged file: stop, or leave it out, with a warning.
        lazy : `bool`, optional
            Whether to calibrate each frame only when it is used, every time anew, so that it need not stay in memory.
            The cube then has Dask arrays with a chunk for each frame. Its files must stay where they are, and damaged
            and blank files are only found when they are used.
        scratch : path-like, optional
            Folder to keep lazy frames in, so that each is calibrated only once: a file for each frame, of 21 MB for the
            flight of 2019. A frame is kept while the disk has free space for all frames once more and 1 GB, because the
            cube that is made from them needs this space; other frames are calibrated each time. Remove the folder after
            the cube.
        workers : `int`, optional
            Number of threads; by default Dask's active scheduler decides.
        progress : `bool`, optional
            Whether to show a progress bar.

        Returns
        -------
        `ESISLevel1Cube`
            Electrons, float32, shape (time, channel, y, x), exposures in the order of their frame numbers.
            If a camera has no frame of an exposure, the data are NaN, masked, and marked with
            `~esis_ndcube.flags.Flag.MISSING`.

        Raises
        ------
        ~esis_ndcube.level1.frames.FrameError
            If no light frames or no darks are found, a file is damaged, a frame has the wrong shape, or two
            files hold the same frame.
        ValueError
            If a frame or channel is asked for that is not there, or a scratch folder is given for frames that are not
            lazy.
        NotADirectoryError
            If there is no such folder.

        Warns
        -----
        sunpy.util.exceptions.SunpyUserWarning
            For missing, blank and skipped frames.

        Notes
        -----
        The uncertainty is that of single pixels, by `~esis_ndcube.level1.calibration.electron_variance`; the noise of
        the master dark adds to it. The electrons of a photon are those of the line in whose columns the pixel lies, or
        of the nearest line.
        If charge spreads over several pixels, these share their noise: ``cube.noise_correlation`` says how much, and
        `~esis_ndcube.operations.rebin` and `~esis_ndcube.operations.region_mean` include it.

        Examples
        --------
        >>> from esis_ndcube.level1 import ESISLevel1Cube
        >>> cube = ESISLevel1Cube.from_raw("flight/raw/", frame_numbers=range(120, 130))  # doctest: +SKIP
        """
        check_on_error(on_error)
        if scratch is not None and not lazy:
            msg = "got a scratch folder for frames in memory, expected lazy=True: or leave scratch out"
            raise ValueError(msg)
        if scratch is not None and not Path(scratch).is_dir():
            msg = f"got scratch={str(scratch)!r}, expected a folder: make it first"
            raise NotADirectoryError(msg)
        frame_numbers, channels = (
            None if numbers is None else [int(n) for n in numbers] for numbers in (frame_numbers, channels)
        )

        def used(number, channel):
            wanted = flight.is_dark(number) or (
                flight.is_light(number) and (frame_numbers is None or number in frame_numbers)
            )
            return wanted and (channels is None or channel in channels)

        light, dark = sort_frames(find_frames(paths, flight, on_error=on_error, used=used), flight)
        if darks is not None:
            extra = find_frames(
                darks,
                flight,
                on_error=on_error,
                used=lambda number, channel: (channels is None or channel in channels) and may_be_dark(number, flight),
            )
            # A frame that is found twice, also as a copy, would halve the measured noise.
            known = {(f.frame_number, f.channel, f.stamp) for f in dark}
            new = [f for f in extra if (f.frame_number, f.channel, f.stamp) not in known]
            dark += [f for f in new if may_be_dark(f.frame_number, flight)]
        slots, numbers, channels = arrange_frames(light, flight, frame_numbers, channels)
        calibration = {
            channel: calibrate_darks([f for f in dark if f.channel == channel], channel, flight, on_error, workers)
            for channel in channels
        }
        work = slots, numbers, channels, calibration, {"flight": flight, "despike": despike}
        if lazy:
            planes = lazy_planes(*work, on_error=on_error, scratch=scratch)
        else:
            title = "Level-1" if progress else None
            planes = fill_planes(*work, on_error=on_error, workers=workers, description=title)
        history = (
            ProcessingStep(
                "level0",
                {
                    "darks": sorted({f.path.name for c in channels for f in calibration[c].frames}),
                    "read_noise": {
                        str(c): ByQuadrant(*np.round(calibration[c].read_noise, 3).tolist())._asdict() for c in channels
                    },
                    "despike": despike if isinstance(despike, dict) else bool(despike),
                },
            ),
        )
        times = Times.from_slots(slots, numbers, channels, flight)
        return cls._assemble(planes, times, numbers, channels, flight, u.electron, history)

    @classmethod
    def _assemble(cls, planes, times, numbers, channels, flight, unit, history, line=None):
        """Put a cube together from its planes."""
        mean = times.middle.min() + (times.middle - times.middle.min()).to(u.s).mean(axis=1)
        exposure_time = u.Quantity([row[np.isfinite(row)].mean() for row in times.exposure_time])
        values = {
            "flight": flight,
            "level": 1,
            "frame_number": np.array(numbers, dtype=int),
            "file": times.files,
            "mid_time": times.middle,
            "exposure_time": times.exposure_time,
            "history": history,
            "noise_correlation": {str(n): noise_correlation(flight, n, line) for n in channels},
        }
        if line is not None:
            values["line"] = line
        axes = {"frame_number": (0,), "file": (0, 1), "mid_time": (0, 1), "exposure_time": (0, 1)}
        return cls(
            planes.data,
            wcs=level1_wcs(planes.data.shape[2:], mean, channels, exposure_time),
            uncertainty=StdDevUncertainty(planes.sigma, copy=False),
            mask=(planes.flags & int(Flag.INVALID)) != 0,
            meta=NDMeta(values, axes=axes),
            unit=unit,
            flags=planes.flags,
        )

    def to_photons(self, line):
        """
        Express the data in photons of a line.

        Parameters
        ----------
        line : `str` or `~esis_ndcube.flight.Line`
            The line, for all columns: other lines' photons are counted as if they were of this line.

        Returns
        -------
        `ESISLevel1Cube`
            Photons per pixel and exposure; the uncertainty is scaled too.

        Raises
        ------
        ValueError
            If the flight has no such line, or the cube is in photons already, or cannot be converted to electrons.

        Examples
        --------
        >>> from esis_ndcube.level1 import ESISLevel1Cube
        >>> cube = ESISLevel1Cube.from_raw("flight/raw/")  # doctest: +SKIP
        >>> cube.to_photons("O V").unit  # doctest: +SKIP
        Unit("ph / pix")
        """
        line = self._known_flight().line(line)
        if self.unit != u.electron:
            if self.unit is not None and self.unit.is_equivalent(PHOTONS):
                msg = f"got a cube in {self.unit}, expected one in electrons: to_electrons() goes back"
                raise ValueError(msg)
            return self.to_electrons().to_photons(line)
        factor = self.flight.electrons_per_photon(line).value
        step = ProcessingStep("to_photons", {"line": line.name, "electrons_per_photon": factor})
        return self._scaled(lambda values: values / np.float32(factor), PHOTONS, step, line.name)

    def to_electrons(self):
        """
        Express the data in electrons.

        Returns
        -------
        `ESISLevel1Cube`
            Electrons per pixel and exposure; the cube itself if it is in electrons already.
            Rates are multiplied by the exposure times, and photons by the electrons that one photon of the cube's line
            frees, which is exact for a cube that `to_photons` made.

        Raises
        ------
        ValueError
            If the cube has no unit, or one that cannot be converted, or photons of no known line.

        Examples
        --------
        >>> from esis_ndcube.level1 import ESISLevel1Cube
        >>> cube = ESISLevel1Cube.from_raw("flight/raw/")  # doctest: +SKIP
        >>> cube.to_photons("O V").to_electrons().unit  # doctest: +SKIP
        Unit("electron")
        """
        unit = self.unit
        if unit == u.electron:
            return self
        # A value is that of a pixel, whether the unit says "per pixel" or not.
        wholes = [] if unit is None else [unit * pixel * time for pixel in (u.one, u.pix) for time in (u.one, u.s)]
        whole = next((w for w in wholes if w.is_equivalent(u.electron) or w.is_equivalent(u.photon)), None)
        if whole is None:
            msg = (
                f"got a Level-1 cube {f'in {unit}' if unit else 'without unit'}, expected electrons: give it the unit, "
                "or multiply it by a Quantity that converts it to electrons"
            )
            raise ValueError(msg)
        photons = whole.is_equivalent(u.photon)
        if photons and self.line is None:
            msg = (
                f"got a Level-1 cube in {unit} of an unknown line, expected electrons, or photons of a line as "
                "to_photons makes them: multiply it by flight.electrons_per_photon(line)"
            )
            raise ValueError(msg)
        factor = whole.to(u.photon if photons else u.electron)
        if photons:
            factor *= self._known_flight().electrons_per_photon(self.line).value
        factor = np.float32(factor)
        if wholes.index(whole) % 2:
            if self.exposure_time is None:
                msg = f"got a Level-1 cube in {unit} without exposure times, expected electrons: multiply it by them"
                raise ValueError(msg)
            seconds = np.asarray(self.exposure_time.to_value(u.s), dtype=np.float32)
            factor = factor * seconds.reshape(seconds.shape + (1,) * (self.data.ndim - seconds.ndim))
        step = ProcessingStep("to_electrons", {"from": unit.to_string()})
        return self._scaled(lambda values: values * factor, u.electron, step, None)

    def _known_flight(self):
        if self.flight is None:
            msg = "got a Level-1 cube without a flight, expected meta['flight'], as from_raw and from_images set it"
            raise ValueError(msg)
        return self.flight

    def _with(self, step, *, line, data, **parts):
        """The cube with other values."""
        meta = copy_meta(self.meta) or {}
        meta.pop("line", None)
        meta.update({"history": (*self.history, step)} | ({} if line is None else {"line": line}))
        return self._new_instance(data=data, meta=meta, **parts)

    def _scaled(self, scale, unit, step, line):
        """The cube in another unit; ``scale`` is called with its data and standard deviation."""
        sigma = standard_deviation(self, self.unit)
        uncertainty = make_uncertainty(self.uncertainty, None if sigma is None else scale(sigma))
        return self._with(step, line=line, data=scale(self.data), uncertainty=uncertainty, unit=unit)

    @property
    def stray_light_subtracted(self):
        """Whether the level of stray light is subtracted from the images (`bool`), as far as the history says."""
        done = {"level0", "subtract_stray_light"}
        return any(s.name in done or s.parameters.get("stray_light") == "subtracted" for s in self.history)

    def subtract_stray_light(self):
        """
        Subtract the level of stray light from every image, as `from_raw` does.

        Level-1 data of the ESIS team contain stray light: 10 to 17 electrons in the 2019 flight.

        Returns
        -------
        `ESISLevel1Cube`
            The cube without the `~esis_ndcube.level1.calibration.stray_light` of the valid pixels of each image, in its
            unit; the history has the levels. The uncertainty stays, because stray light has noise too.

        Raises
        ------
        ValueError
            If it is subtracted already, or rows or columns of the detector are missing.

        Examples
        --------
        >>> from esis_ndcube.level1 import ESISLevel1Cube
        >>> cube = ESISLevel1Cube.from_images("ESIS_Level1/", unit="electron")  # doctest: +SKIP
        >>> cube.subtract_stray_light().history[-1].parameters["levels"]  # doctest: +SKIP
        """
        if self.stray_light_subtracted:
            msg = "the stray light of this cube is subtracted already (see cube.history): use the cube as it is"
            raise ValueError(msg)
        detector = self.flight.detector
        if self.data.shape[-2:] != detector.shape:
            msg = f"got images of shape {self.data.shape[-2:]}, expected {detector.shape}: do it before cropping"
            raise ValueError(msg)
        levels = np.empty(self.data.shape[:-2])
        for index in np.ndindex(levels.shape):
            # An image at a time, because they may be lazy.
            image = np.asarray(np.where(self._mask_part(index), np.nan, self.data[index]))
            levels[index] = stray_light(image, detector.stray_light_rows)
        known = np.where(np.isfinite(levels), np.round(levels, 3), None).tolist()
        data = wide(self.data)
        values = levels.astype(data.dtype if data.dtype.kind == "f" else float)
        step = ProcessingStep("subtract_stray_light", {"levels": known})
        return self._with(step, line=self.line, data=data - values[..., None, None])

    @classmethod
    def from_esis(cls, obj, flight=ESIS_1, *, frame_numbers=None, subtract_stray_light=False):
        """
        Convert a Level-1 object of the ESIS team's own ``esis`` package.

        Parameters
        ----------
        obj : object
            An ``esis.data.Level_1``: of the present package (``outputs``, ``inputs``), of its version 0.1
            (``intensity``, ``time``, ``exposure_length``, ``channel``), or of the code before that (``intensity``,
            ``start_time``, ``exposure_length``, ``cam_id``). Only these attributes are used, so that the package need
            not be installed.
        flight : `~esis_ndcube.Flight`, optional
            The flight.
        frame_numbers : sequence of `int`, optional
            Raw frame numbers, one per exposure, if the object does not know them; by default they are counted in
            cadences from the flight's first light frame.
        subtract_stray_light : `bool`, optional
            Whether to subtract the stray light, as `from_raw` does and the team does not; by default it is kept, and
            history and log say so.

        Returns
        -------
        `ESISLevel1Cube`
            A cube in the object's unit: electrons, or photons per pixel; digital numbers become electrons.

        Raises
        ------
        TypeError
            If the object has none of these sets of attributes.
        ValueError
            If shape, unit or cameras do not fit the flight.

        Notes
        -----
        The present package takes the camera's time stamp for the start of the exposure and calls it ``time_start``;
        here the flight says which time it is.

        Examples
        --------
        >>> from esis_ndcube.level1 import ESISLevel1Cube
        >>> from esis.flights.f1.data import level_1  # doctest: +SKIP
        >>> ESISLevel1Cube.from_esis(level_1())  # doctest: +SKIP
        """
        cube = cls._assemble(*unpack_esis(obj, flight, frame_numbers))
        return cube.subtract_stray_light() if subtract_stray_light else _tell_stray_light(cube)

    @classmethod
    def from_images(cls, paths, flight=ESIS_1, *, unit=None, first_frame_number=None):
        """
        Read per-image Level-1 files of `write_images` or of the ESIS team's ``Level_1.to_fits``.

        Parameters
        ----------
        paths : path-like or iterable of path-like
            Files, folders and glob patterns.
        flight : `~esis_ndcube.Flight`, optional
            The flight.
        unit : `~astropy.units.Unit`, optional
            Unit of files without ``BUNIT``, for example those of the team.
        first_frame_number : `int`, optional
            Raw frame number of the earliest image, if the files do not say it; other images are counted in cadences
            from it. By default the flight's first light frame.

        Returns
        -------
        `ESISLevel1Cube`
            The images, sorted by time and camera.

        Raises
        ------
        ~esis_ndcube.level1.frames.FrameError
            If no files are found, one is damaged, or is not such an image.
        ValueError
            If the unit is not known.

        Examples
        --------
        >>> from esis_ndcube.level1 import ESISLevel1Cube
        >>> ESISLevel1Cube.from_images("ESIS_Level1/", unit="photon / pix")  # doctest: +SKIP
        """
        return _tell_stray_light(cls._assemble(*read_images(paths, flight, unit, first_frame_number)))

    def write_images(self, directory, *, overwrite=False):
        """
        Write one FITS file per image, as the ESIS team's ``Level_1.to_fits`` does.

        The image is the primary array, with its rows in the order of the camera; ``CAM_ID`` is the channel,
        ``DATE_OBS`` the camera's time stamp and ``IMG_EXP`` the exposure in s.
        Frame number, true times, unit, uncertainty and flags are added to what the team writes.

        Parameters
        ----------
        directory : path-like
            Folder, which is made if need be.
        overwrite : `bool`, optional
            Whether files that exist may be replaced.

        Returns
        -------
        `list` of `pathlib.Path`
            The files ``ESIS_Level1_{stamp}_{channel}.fits``; missing frames have no file.

        Raises
        ------
        OSError
            If a file exists, or cannot be written; nothing is written if any file exists.
        ValueError
            If the cube is not four-dimensional.

        Examples
        --------
        >>> from esis_ndcube.level1 import ESISLevel1Cube
        >>> cube = ESISLevel1Cube.from_raw("flight/raw/")  # doctest: +SKIP
        >>> files = cube.write_images("ESIS_Level1/")  # doctest: +SKIP
        """
        return write_images(self, directory, overwrite=overwrite)


def _tell_stray_light(cube):
    if not cube.stray_light_subtracted:
        _log.info("The images keep their stray light: cube.subtract_stray_light() takes it out.")
    return cube
