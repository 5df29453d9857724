"""The ESIS team's pickles of Level-3 objects and of transforms, which are read without running any of their code."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from ndcube.meta import NDMeta
from sunpy.util.exceptions import warn_user

from esis_ndcube.corrections.vignetting import Vignetting
from esis_ndcube.flight import ESIS_1, Flight
from esis_ndcube.io import _unpickle
from esis_ndcube.io.fits import CubeFileError, can_read
from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.registration.transform import PolynomialTransform
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.wcs import level3_wcs

__all__ = ["read_legacy", "read_legacy_alignments"]

_LEVEL3 = "esis.data.level_3.Level_3"
_NDCUBE = "ndcube.ndcube.NDCube"
_WCS = "astropy.wcs.wcs.__WCS_unpickle__"
_COALIGNMENT = "kgpy.img.coalignment.image_coalignment"
_AXES = ["HPLN-TAN", "HPLT-TAN", "CAMERA_ID", "UTC"]
# Errors that damage or an unexpected structure causes.
_ERRORS = (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError)


def read_legacy(path, cls, *, flight=ESIS_1, transforms=None, observer=None):
    r"""
    Read a Level-3 object that the ESIS team pickled; ``ESISLevel3Cube.read("ov_Level3_final.pickle")`` does the same.

    The file is parsed and none of it is run. No package except the requirements of this package is needed.
    The images are as in the file. The known faults of such files are repaired: channel numbers and times that are one
    step late, a missing observer, and a mask that is 1 where the data are good. Every repair is a step of
    ``cube.history``, and a warning names them all.

    Parameters
    ----------
    path : path-like
        The pickle.
    cls : `type`
        Class of the cube, as `~esis_ndcube.ESISLevel3Cube`.
    flight : `~esis_ndcube.Flight`, optional
        The flight; the file's sequence 0 is its first light frame.
    transforms : path-like, optional
        The pickle of the transforms that made the images; by default the file that the object names, if it is in the
        same folder.
    observer : `~astropy.coordinates.SkyCoord`, optional
        The observer, one for all exposures or one for each; by default Earth.

    Returns
    -------
    `~esis_ndcube.ESISLevel3Cube`
        Array axes (time, channel, y, x). The times are those of the file: the camera's stamps, extrapolated from the
        first two. ``flight.mid_time(frame_number)`` is better.

    Raises
    ------
    ~esis_ndcube.io.fits.CubeFileError
        If the file is damaged, asks for anything that such files do not need, or does not fit the flight.
    FileNotFoundError
        If there is no such file.

    Warns
    -----
    sunpy.util.exceptions.SunpyUserWarning
        The warning names the repaired faults.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> cube = ESISLevel3Cube.read("ov_Level3_final.pickle")  # doctest: +SKIP
    >>> print(*cube.history, sep="\n")  # doctest: +SKIP
    """
    path = Path(path)
    if not can_read(cls, "ESISLevel3Cube", 3):
        msg = f"{path} is a pickle, expected a file of an {cls.__name__}: read Level-3 pickles with ESISLevel3Cube.read"
        raise CubeFileError(msg)
    state = _unpickle.load(path, _LEVEL3)
    try:
        parts, meta, repairs, named = _parse_level3(state, flight, observer)
    except _ERRORS as error:
        msg = f"{path} is not such a Level-3 object: {error}"
        raise CubeFileError(msg) from error
    if transforms is None and named is not None and (path.parent / named).is_file():
        transforms = path.parent / named
    source = {"file": path.name, "transforms": None if transforms is None else Path(transforms).name}
    steps = [ProcessingStep("read_legacy", source | {"description": meta["description"]})]
    steps += [ProcessingStep(name, parameters) for name, parameters in repairs.items()]
    if meta["vignetting"] is not None:
        steps.append(meta["vignetting"].history_step())
    meta["history"], axes = tuple(steps), {"frame_number": (0,)}
    if transforms is not None:
        wcs = parts["wcs"]
        # The numbers of the cube's WCS; `fix` would add others.
        grid = WCS(wcs.celestial.to_header(relax=True), fix=False)
        grid.array_shape = wcs.array_shape[-2:]
        images = _Images(wcs.times, meta["frame_number"], wcs.channels, grid, meta["line"], flight)
        alignments = _read_transforms(Path(transforms), images)
        meta["stage"] = alignments[0, 0].stage
        key = "alignment_linear" if meta["stage"] == "linear" else "alignment_final"
        meta[key], axes[key] = alignments, (0, 1)
    if repairs:
        warn_user(f"{path.name}: repaired {'; '.join(step['what'] for step in repairs.values())}")
    return cls(**parts, meta=NDMeta(meta, axes=axes))


def read_legacy_alignments(path, line, *, flight=ESIS_1):
    """
    Read the transforms that the ESIS team pickled for a whole flight, as alignments.

    `read_legacy` calls it for the cube that it reads.

    Parameters
    ----------
    path : path-like
        The pickle of a ``TransformCube``.
    line : `str`
        The spectral line, which the file does not name.
    flight : `~esis_ndcube.Flight`, optional
        The flight; the transforms are from its grid to its exposures, from the first light frame on.

    Returns
    -------
    `numpy.ndarray`
        `~esis_ndcube.Alignment` objects, shape (time, channel), of stage ``"linear"`` or ``"final"``; they have no
        covariance.

    Raises
    ------
    ~esis_ndcube.io.fits.CubeFileError
        If the file is damaged, asks for anything that such files do not need, or does not fit the flight.
    FileNotFoundError
        If there is no such file.
    ValueError
        If the flight has no such line.

    Examples
    --------
    >>> from esis_ndcube.io.legacy import read_legacy_alignments
    >>> read_legacy_alignments("ov_Level3_transform.pickle", "O V").shape  # doctest: +SKIP
    (28, 4)
    """
    first, last = flight.light_frames[0]
    frame_numbers = np.arange(first, last + 1)
    times = Time([flight.mid_time(int(number)) for number in frame_numbers])
    channels = np.array([channel.number for channel in flight.channels])
    images = _Images(times, frame_numbers, channels, flight.grid, flight.line(line).name, flight)
    return _read_transforms(Path(path), images, part=True)


@dataclass(frozen=True)
class _Images:
    """Facts of the images that the file of transforms does not hold."""

    times: Time
    frame_numbers: np.ndarray
    channels: np.ndarray
    grid: WCS
    line: str
    flight: Flight


def _read_transforms(path, images, *, part=False):
    """Alignments of images, shape (time, channel); with ``part``, of all exposures that have transforms."""
    state = _unpickle.load(path, f"{_COALIGNMENT}.TransformCube")
    try:
        rows = [[_parse_transform(item) for item in row] for row in state["transform_cube"]]
        shape = (len(rows) if part else images.frame_numbers.size), images.channels.size
        if (
            len(rows) != shape[0]
            or not rows
            or shape[0] > images.frame_numbers.size
            or {len(row) for row in rows} != {shape[1]}
        ):
            msg = f"got transforms of {len(rows)} exposures of {len(rows and rows[0])} channels, expected {shape}"
            raise ValueError(msg)
        for _, crop, size, _ in (item for row in rows for item in row):
            _check_grid(images.grid, crop, size)
    except _ERRORS as error:
        msg = f"{path} does not hold such transforms: {error}"
        raise CubeFileError(msg) from error
    array = np.empty(shape, dtype=object)
    for (i, j), _ in np.ndenumerate(array):
        transform, _, _, stage = rows[i][j]
        array[i, j] = Alignment(
            transform=transform,
            grid=images.grid,
            channel=int(images.channels[j]),
            frame_number=int(images.frame_numbers[i]),
            line=images.line,
            stage=stage,
            reference=images.flight.reference.name,
            time=images.times[i],
            shape=images.flight.detector.shape,
            reason=f"read from {path.name}",
        )
    return array


def _parse_level3(state, flight, observer):
    """Arguments of the cube's class, its metadata, the repairs, and the name of the file of transforms."""
    observation = _unpickle.state_of(state["observation"], _NDCUBE)
    if observation.get("_unit") is not None or observation.get("_uncertainty") is not None:
        msg = "it has a unit or an uncertainty, which objects of that class do not have"
        raise ValueError(msg)
    data = _unpickle.to_array(observation["_data"])
    sequences, cameras = (_unpickle.to_array(state[key]).astype(int) for key in ("lev1_sequences", "lev1_cameras"))
    if data.ndim != 4 or data.shape[:2] != (sequences.size, cameras.size):
        msg = f"got data of shape {data.shape}, expected ({sequences.size}, {cameras.size}, y, x)"
        raise ValueError(msg)
    channels = cameras + 1
    for number in channels.tolist():
        flight.channel(number)
    wcs = _parse_wcs(observation["_wcs"])
    times, repairs = _repair_axes(wcs, channels, len(data))
    celestial = wcs.celestial
    celestial.array_shape = data.shape[-2:]
    if observer is None:
        repairs["repair_observer"] = {"what": "the observer, which was missing and now is Earth"}
    line = _line(flight, state["spectral_line_name"])
    mask = None
    if observation.get("_mask") is not None:
        mask = _unpickle.to_array(observation["_mask"])
        if mask.shape != data.shape or not np.isin(mask, (0, 1)).all():
            msg = f"got a mask of shape {mask.shape}, expected zeros and ones of shape {data.shape}"
            raise ValueError(msg)
        if mask.dtype != bool:
            mask = mask == 0
            repairs["repair_mask"] = {"what": "the mask, which was 1 where the data are good"}
    frame_numbers = flight.light_frames[0][0] + sequences
    meta = {
        "flight": flight,
        "level": 3,
        "line": line,
        "stage": None,
        "reference": flight.reference.name,
        "frame_number": frame_numbers,
        "alignment_final": None,
        "alignment_linear": None,
        "vignetting": _vignetting(state.get("vignetting_correction_params"), channels, flight, line),
        "normalization": None,
        "description": str((observation.get("_meta") or {}).get("Description", "")),
    }
    named = state.get("transformation_objects")
    # The path is from another machine, perhaps of another system.
    is_path = str(getattr(named, "name", "")).startswith("pathlib.") and named.args
    named = re.split(r"[/\\]", str(named.args[-1]))[-1] if is_path else None
    parts = {
        "data": data,
        "wcs": level3_wcs(celestial, times, channels, observer=observer),
        "mask": mask,
        "unit": u.photon / u.pix,
    }
    return parts, meta, repairs, named


def _parse_wcs(record):
    """The WCS of a file, which is a FITS file within the pickle."""
    if getattr(record, "name", None) != _WCS:
        msg = f"it has no WCS of FITS but {getattr(record, 'name', None) or type(record).__name__}"
        raise ValueError(msg)
    with fits.open(io.BytesIO(record.args[-1])) as hdulist:
        header = hdulist[0].header.copy()
    # astropy would warn that there is no image.
    del header["NAXIS"]
    wcs = WCS(header, fix=False)
    if list(wcs.wcs.ctype) != _AXES:
        msg = f"got a WCS with the axes {list(wcs.wcs.ctype)}, expected {_AXES}"
        raise ValueError(msg)
    return wcs


def _repair_axes(wcs, channels, count):
    """The times of the exposures, and the faults of channels and times."""
    repairs = {}
    pixels = np.zeros((max(count, channels.size), 4))
    pixels[:, 2] = pixels[:, 3] = np.arange(len(pixels))
    world = wcs.wcs_pix2world(pixels, 0)
    said = np.round(world[: channels.size, 2]).astype(int)
    if (said != channels).any():
        repairs["repair_channels"] = {
            "what": f"the channels, which read {_list(said)} and are {_list(channels)}",
            "read": said.tolist(),
        }
    seconds = world[:count, 3]
    if seconds[0] != 0:
        # The reference time is that of the first exposure.
        repairs["repair_times"] = {
            "what": f"the times, which were {seconds[0]:g} s late",
            "late": float(seconds[0]),
        }
    times = Time(*wcs.wcs.mjdref, format="mjd", scale="utc") + (seconds - seconds[0]) * u.s
    times.format = "isot"
    return times, repairs


def _line(flight, name):
    """The flight's line with a name written like ``ov``."""
    for line in flight.lines:
        if line.name.replace(" ", "").lower() == str(name).replace(" ", "").lower():
            return line.name
    msg = f"got the line {name!r}, expected one of {', '.join(line.name for line in flight.lines)}"
    raise ValueError(msg)


def _vignetting(slopes, channels, flight, line):
    if slopes is None:
        return None
    slopes = _unpickle.to_array(slopes)
    return Vignetting(dict(zip(channels.tolist(), slopes.tolist(), strict=True)), flight, line, source="legacy pickle")


def _parse_transform(record):
    """
    The map from the image's pixels to the detector's, the cropped and full size of the image, and the stage.

    The recipe takes the columns ``initial_crop`` of the frame, adds ``initial_pad``, maps the result (rows and columns
    about ``origin``), puts it in the corner of an image of ``post_transform_size``, rolls it by
    ``post_transform_translation`` and cuts out ``post_transform_crop``.
    """
    state = _unpickle.state_of(record, f"{_COALIGNMENT}.ImageTransform")
    origin = _unpickle.to_array(state["origin"]).astype(float)
    numbers = _unpickle.to_array(state["transform"]).astype(float)
    stage = {"modified_affine": "linear", "quadratic_transform": "final"}[state["transform_func"].__name__]
    if numbers.shape != {"linear": (7,), "final": (12,)}[stage] or origin.shape != (2,):
        msg = f"got {numbers.size} parameters about {origin}, expected 7 of an affine or 12 of a quadratic transform"
        raise ValueError(msg)
    start = np.array([_unpickle.to_slice(part).start or 0 for part in state["initial_crop"]])
    pad = np.array([_unpickle.to_number(pair[0]) for pair in state["initial_pad"]])
    move = np.array([_unpickle.to_number(n) for n in state["post_transform_translation"]])
    crop = tuple(_unpickle.to_slice(part) for part in state["post_transform_crop"])
    size = tuple(_unpickle.to_number(n) for n in state["post_transform_size"])
    # Rows (0) and columns (1) of the padded frame as polynomials of rows X and columns Y of the image: 1, X, Y, XY, X2,
    # Y2.
    terms = np.zeros((2, 6))
    if stage == "final":
        terms[:] = numbers.reshape(2, 6)
    else:
        terms[:, 1:3], terms[:, 0] = _affine_matrix(numbers), -numbers[4:6]
    terms[:, 0] += origin + start - pad
    # The same for columns and rows, in the order of our polynomials: 1, X, Y, X2, XY, Y2.
    terms = terms[::-1][:, [0, 2, 1, 5, 3, 4] if stage == "final" else [0, 2, 1]]
    place = origin + move - [part.start for part in crop]
    return PolynomialTransform(terms, origin=place[::-1]), crop, size, stage


def _affine_matrix(numbers):
    """Matrix from the image to the padded frame; the fit's numbers are scales, shears, displacements and roll."""
    scale_x, scale_y, shear_x, shear_y, _, _, roll = numbers
    cosine, sine = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    rotate = np.array([[cosine, -sine], [sine, cosine]])
    return np.linalg.inv(rotate @ np.array([[1, shear_x], [shear_y, 1]]) @ np.diag([scale_y, scale_x]))


def _check_grid(grid, crop, size):
    """Make sure that transforms lead to the pixels of a grid."""
    rows, columns = (part.stop - part.start for part in crop)
    # The Sun's center is in the middle of the image before the cut.
    center = [(n + 1) / 2 - part.start for n, part in zip(size[::-1], crop[::-1], strict=True)]
    if (rows, columns) != tuple(grid.array_shape) or not np.allclose(grid.wcs.crpix, center, atol=0.5):
        msg = (
            f"got transforms to {rows} x {columns} pixels around {center}, expected transforms to "
            f"{grid.array_shape[0]} x {grid.array_shape[1]} pixels around {grid.wcs.crpix.tolist()}"
        )
        raise ValueError(msg)


def _list(numbers):
    return ", ".join(map(str, numbers))
