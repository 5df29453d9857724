"""Images of other telescopes on the grid and at the times of a cube."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

import astropy.units as u
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.time import Time
from ndcube.meta import NDMeta
from sunpy.coordinates import Helioprojective
from sunpy.map import GenericMap
from sunpy.util.exceptions import warn_user

from esis_ndcube.cube import ESISCube
from esis_ndcube.io._planes import image_data
from esis_ndcube.io.images import file_stem, image_header, write_image_files
from esis_ndcube.registration._reference_sources import map_name
from esis_ndcube.registration.aia import POINTING_KEYWORD, add_uncertainty, point_map
from esis_ndcube.registration.reference import warn_of_gap
from esis_ndcube.resample import interpolate, propagate_uncertainty
from esis_ndcube.utils.checks import check_cube, named_axes, split_images
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.times import nearest_in_time
from esis_ndcube.utils.uncertainty import standard_deviation
from esis_ndcube.wcs._coordinates import carry_coordinates
from esis_ndcube.wcs._derived import forget_channel
from esis_ndcube.wcs._sun import seen_pixels

__all__ = ["ContextCube", "context_cube"]

# Keywords that an image's own header gives, and not the header of the exposure.
_OWN_KEYWORDS = (
    *("TELESCOP", "INSTRUME", "DETECTOR", "WAVELNTH", "WAVEUNIT", "XPOSURE", "EXPTIME", "CONTENT"),
    POINTING_KEYWORD,
)
# The source of the pointing of images that nobody has pointed anew.
_HEADERS = "headers of the images"


class ContextCube(ESISCube):
    """
    Images of another telescope on the grid and at the times of an ESIS cube.

    Array axes (time, y, x), in the unit of the images; `context_cube` makes one.
    ``time`` holds the times of the exposures; `image_time` says when the images were taken.
    The parameters are those of `~esis_ndcube.cube.ESISCube`.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> aia = cube.context(sunpy.map.Map("aia/*.fits"))  # doctest: +SKIP
    >>> aia.time_difference.max()  # doctest: +SKIP
    <Quantity 5.9 s>
    """

    @property
    def name(self):
        """Name of the images (`str`)."""
        return self._get_meta("context_name")

    @property
    def image_time(self):
        """When each exposure's image was taken (`~astropy.time.Time`, shape (time,)); masked where there is none."""
        return self._get_meta("context_time")

    @property
    def time_difference(self):
        """Time of the image minus that of the exposure (`~astropy.units.Quantity` in s, shape (time,))."""
        image_time = self.image_time
        return None if image_time is None else (image_time - self.time).to(u.s)

    @property
    def headers(self):
        """Headers of the images (`list` of `~astropy.io.fits.Header`, one per exposure); None where there is none."""
        texts = self._get_meta("context_header")
        if texts is None:
            return None
        return [fits.Header.fromstring(text) if text else None for text in np.atleast_1d(texts)]

    @property
    def pointing_source(self):
        """Source of the pointing of the images (`str`)."""
        return self._get_meta("context_pointing")

    def write_images(self, directory, *, label=None, tar=None, overwrite=False):
        """
        Write one FITS image per exposure, each on its exposure's grid.

        Parameters
        ----------
        directory : path-like
            Folder, which is made if need be.
        label : `str`, optional
            Beginning of the files' names, which is also the value of their keyword ``LABEL``; by default `name`.
        tar : path-like, optional
            An archive to put the files in as well; compressed where its name ends in ``.gz``.
        overwrite : `bool`, optional
            Whether files that exist may be replaced.

        Returns
        -------
        `list` of `pathlib.Path`
            The files ``{label}_{frame}.fits``; exposures without image have no file. ``DATE-AVG`` is the time of the
            exposure, to which the coordinates belong; ``DATE-IMG`` is the time of the image.

        Raises
        ------
        FileExistsError
            If a file exists and ``overwrite`` is not set; nothing is written then.
        ValueError
            If the exposures have no frame numbers, or the cube is not of whole images.

        Examples
        --------
        >>> import sunpy.map
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> aia = cube.context(sunpy.map.Map("aia/*.fits"))  # doctest: +SKIP
        >>> files = aia.write_images("aia_on_grid", label="AIA_304")  # doctest: +SKIP
        """
        if getattr(self.wcs, "array_axis_names", [])[-2:] != ["y", "x"] or self.frame_number is None:
            msg = f"got a cube of shape {self.data.shape}, expected whole images of exposures with frame numbers"
            raise ValueError(msg)
        label = self.name if label is None else label
        images = {
            Path(directory) / f"{file_stem(label)}_{int(image.frame_number):05d}.fits": image
            for image in split_images(self)
            if image.headers[0] is not None
        }

        def make(image, _):
            return fits.PrimaryHDU(image_data(image.data), image._image_header(label))

        return write_image_files(images, make, tar=tar, overwrite=overwrite, inputs=[self])

    def _image_header(self, label):
        """Keywords of the exposure's grid, and of the telescope from the image's own header."""
        header, own = image_header(self, label), self.headers[0]
        for key in _OWN_KEYWORDS:
            header.remove(key, ignore_missing=True)
            if key in own:
                header[key] = own[key]
        header["DATE-IMG"] = (str(self.image_time.utc.isot), "when the image was taken, UTC")
        return header

    def _summary(self):
        return {"image": self.name, **super()._summary(), "pointing": self.pointing_source}


def context_cube(
    cube,
    maps,
    *,
    max_gap=None,
    order="bilinear",
    pointing_table=None,
    error_table=None,
    progress=False,
):
    """
    Put the images of another telescope on the grid and at the times of a cube.

    Each exposure gets the image that is nearest in time, which is interpolated once.
    Coordinates are transformed between the two observers by sunpy, on the sphere of the Sun; beyond the limb, in the
    plane through its center.
    The Sun's rotation between image and exposure is left in.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        The cube, or a part of it with axes y and x.
    maps : `~sunpy.map.GenericMap`, or a `list` or `~sunpy.map.MapSequence` of them
        The images, all of one unit.
    max_gap : `~astropy.units.Quantity`, optional
        Largest time between an exposure and its image; without an image within this time, the result is NaN and masked.
        By default the nearest image is taken, with a warning if it is more than ten minutes away.
    order : `int` or `str`, optional
        As for `~esis_ndcube.resample.reproject_alignment`.
    pointing_table : `~astropy.table.QTable`, optional
        Pointing of AIA, by which its images are pointed first, as by `~esis_ndcube.registration.aia.point_map`. By
        default they are pointed as their headers say.
    error_table : `~astropy.table.QTable`, path-like or ``"SSW"``, optional
        Errors of AIA, from which the uncertainty of its images follows, as by
        `~esis_ndcube.registration.aia.add_uncertainty`. By default the uncertainty is that of the maps, if they have
        one.
    progress : `bool`, optional
        Show a progress bar.

    Returns
    -------
    `ContextCube`
        Array axes (time, y, x), or (y, x) for the cube of one exposure; masked where the images have no valid pixels.
        Coordinates that were added to the cube go along, except extra coordinates along the channels.

    Raises
    ------
    ImportError
        If there is a table and aiapy is not installed (``pip install esis_ndcube[aia]``).
    TypeError
        If there is anything but sunpy Maps among the images.
    ValueError
        If there are no images, they are not in helioprojective coordinates or not all in one unit, none of them is
        within ``max_gap``, none shows any of the field of view, or a table is not for them.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        If exposures have no image within ``max_gap``; or without ``max_gap``, if images are more than ten minutes away.

    Examples
    --------
    >>> import sunpy.map
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.level3.context import context_cube
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> context_cube(cube, sunpy.map.Map("aia_304.fits")).image_time  # doctest: +SKIP
    """
    check_cube(cube, 3)
    maps = _check_maps(maps)
    whole, cube = cube, _one_channel(cube)
    timed, exposures = cube.data.ndim == 3, split_images(cube)
    times = cube.time.reshape(len(exposures))
    chosen = _nearest(maps, times, max_gap)
    images = {index: _prepare(maps[index], pointing_table, error_table) for index in sorted({*chosen} - {None})}
    pairs = tqdm(zip(chosen, exposures, strict=True), "Context", len(chosen), disable=not progress, leave=False)
    results = [_resample(images.get(index), exposure.wcs, order) for index, exposure in pairs]
    data, sigma = (np.stack(parts) if timed else parts[0] for parts in zip(*results, strict=True))
    if not np.isfinite(data).any():
        away = abs((images[min(images)].reference_date - times).to_value(u.s)).min() * u.s
        msg = (
            f"got {map_name(maps[min(images)])!r}, {away:.0f} from the nearest exposure, which shows nothing of the "
            "cube's field of view: is it an image of that region and time?"
        )
        raise ValueError(msg)
    values = _values([None if index is None else images[index] for index in chosen], timed)
    result = ContextCube(
        data,
        wcs=forget_channel(cube.wcs),
        uncertainty=None if np.isnan(sigma).all() else StdDevUncertainty(sigma),
        mask=~np.isfinite(data),
        meta=_meta(cube, values, timed, ProcessingStep("context", {"images": values["context_name"], "order": order})),
        unit=maps[0].unit,
    )
    names = whole.wcs.array_axis_names
    carry_coordinates(whole, result, [axis for axis, name in enumerate(names) if name == "channel"])
    return result


def _check_maps(maps):
    maps = [maps] if isinstance(maps, GenericMap) else list(maps)
    for item in maps:
        if not isinstance(item, GenericMap):
            msg = (
                f"got an image of type {type(item).__name__}, expected sunpy Maps: read files with sunpy.map.Map(path)"
            )
            raise TypeError(msg)
        if not isinstance(item.coordinate_frame, Helioprojective):
            msg = f"got the image {map_name(item)!r}, expected one in helioprojective coordinates"
            raise ValueError(msg)
        if item.unit != maps[0].unit:
            msg = f"got images in {maps[0].unit} and in {item.unit}, expected all in one unit"
            raise ValueError(msg)
    if not maps:
        msg = "got an empty list of images, expected at least one sunpy Map"
        raise ValueError(msg)
    return maps


def _one_channel(cube):
    """The cube's first channel, with axes (time, y, x) or (y, x)."""
    names = named_axes(cube)
    if names[-2:] != ["y", "x"] or cube.time is None:
        msg = f"got a cube with axes {names}, expected y and x to be the last: context is made for whole images"
        raise ValueError(msg)
    return cube[tuple(0 if name == "channel" else slice(None) for name in names)]


def _nearest(maps, times, max_gap):
    """Index of the image nearest to each time, or None if there is none within ``max_gap``."""
    chosen, seconds = nearest_in_time([item.reference_date for item in maps], times, max_gap)
    if max_gap is None:
        warn_of_gap("images", np.abs(seconds).max() * u.s)
    without = [time.isot[:19] for time, index in zip(times, chosen, strict=True) if index is None]
    if len(without) == len(chosen):
        msg = f"none of the images is within {max_gap} of an exposure: is the date right, or the gap too small?"
        raise ValueError(msg)
    if without:
        warn_user(f"{len(without)} exposures have no image within {max_gap} and are left out: {', '.join(without)}")
    return chosen


def _prepare(item, pointing_table, error_table):
    """The image with its best pointing and uncertainty."""
    if pointing_table is not None:
        item = point_map(item, pointing_table)
    return item if error_table is None else add_uncertainty(item, error_table)


def _resample(item, wcs, order):
    """The image and its standard deviation on a grid, NaN where there is none."""
    nothing = np.full(wcs.array_shape, np.nan, dtype=np.float32)
    if item is None:
        return nothing, nothing
    y, x = np.indices(wcs.array_shape)
    position = seen_pixels(wcs, item.wcs, x, y, screen=item.observer_coordinate)
    image = np.asarray(item.data, dtype=np.float32)
    data, _ = interpolate(image, *position, order=order, valid=None if item.mask is None else ~item.mask)
    noise = standard_deviation(item, item.unit)
    if noise is None:
        return data, nothing
    sigma = propagate_uncertainty(np.asarray(noise, dtype=np.float32), *position, order=order)
    return data, np.where(np.isfinite(data), sigma, np.nan)


def _values(images, timed):
    """Metadata of the image of each exposure."""
    known = [item for item in images if item is not None]
    names = sorted({map_name(item) for item in known})
    dates = Time([(item or known[0]).reference_date.utc.isot for item in images], scale="utc")
    dates[[item is None for item in images]] = np.ma.masked
    headers = np.array(
        ["" if item is None else item.fits_header.tostring(endcard=False, padding=False) for item in images]
    )
    return {
        "context_name": " and ".join(names),
        "context_time": dates if timed else dates[0],
        "context_header": headers if timed else str(headers[0]),
        "context_pointing": " and ".join(sorted({item.meta.get(POINTING_KEYWORD, _HEADERS) for item in known})),
    }


def _meta(cube, values, timed, step):
    kept = {key: cube.meta[key] for key in ("flight", "frame_number") if cube.meta is not None and key in cube.meta}
    axes = {key: 0 for key in ("frame_number", "context_time", "context_header") if timed and key in {*kept, *values}}
    return NDMeta({**kept, **values, "history": (step,)}, axes=axes)
