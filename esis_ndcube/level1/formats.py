"""Level-1 data in the forms of the ESIS team: per-image files, and objects of their package."""

from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.time import Time

from esis_ndcube.flags import Flag, complete_flags
from esis_ndcube.io._planes import image_data
from esis_ndcube.io._values import unit_text
from esis_ndcube.io.images import write_image_files
from esis_ndcube.level1.calibration import electron_variance, gain_image, line_factors, orient
from esis_ndcube.level1.frames import (
    FrameError,
    check_exposure,
    list_files,
    read_cards,
    read_time,
    stamp_to_middle,
    warn_unusual,
    whole_number,
)
from esis_ndcube.level1.planes import PHOTONS, Planes, Times
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.utils.uncertainty import standard_deviation
from esis_ndcube.utils.whole import open_whole, pass_scarcity

_DIGITAL = (u.DN, u.adu, u.ct)
_PLANES = "PRIMARY", "UNCERT", "FLAGS"


def write_images(cube, directory, *, overwrite=False):
    """Write one FITS file per image; see `esis_ndcube.level1.ESISLevel1Cube.write_images`."""
    if cube.data.ndim != 4:
        msg = f"got a cube with {cube.data.ndim} axes, expected (time, channel, y, x): slice with ranges"
        raise ValueError(msg)
    directory = Path(directory)
    images = {}
    for i in range(cube.data.shape[0]):
        for j, channel in enumerate(np.atleast_1d(cube.channel)):
            if cube.meta["file"][i, j]:
                stamp = _stamp(cube.mid_time[i, j], cube.exposure_time[i, j], cube.flight)
                images[directory / f"ESIS_Level1_{stamp.isot}_{channel}.fits"] = i, j, int(channel), stamp
    there = [path.name for path in images if path.exists()]
    if there and not overwrite:
        msg = f"{directory} has {', '.join(there[:3])} already; pass overwrite=True to replace such files"
        raise OSError(msg)
    return write_image_files(images, lambda place, _: _image_hdus(cube, *place), overwrite=overwrite, inputs=[cube])


def read_images(paths, flight, unit=None, first_frame_number=None):
    """Parts of a cube from files; see `esis_ndcube.level1.ESISLevel1Cube.from_images`."""
    found = [_read_image(path, flight, unit) for path in list_files(paths)]
    warn_unusual({image["path"]: (image["exposure_time"], image["middle"].isot) for image in found}, flight)
    start = min(image["middle"] for image in found)
    first = flight.light_frames[0][0] if first_frame_number is None else first_frame_number
    slots = {}
    for image in found:
        number = image["frame_number"]
        if number is None:
            number = first + _count((image["middle"] - start).to_value(u.s), flight)
        other = slots.setdefault((number, image["channel"]), image)
        if other is not image:
            msg = (
                f"two files hold frame {number} of channel {image['channel']}: {other['path']} and "
                f"{image['path']}; keep one of them"
            )
            raise FrameError(msg)
    units = {image["unit"] for image in found}
    if len(units) > 1:
        msg = f"the files are in different units: {', '.join(map(str, units))}"
        raise ValueError(msg)
    unit = units.pop()
    numbers, channels = (sorted({key[i] for key in slots}) for i in (0, 1))
    shape = len(numbers), len(channels)
    planes = Planes((*shape, *flight.detector.shape))
    offset, exposure_time, files = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, "", dtype=object)
    for (number, channel), image in slots.items():
        index = numbers.index(number), channels.index(channel)
        _put(planes, index, image, unit, flight)
        offset[index] = (image["middle"] - start).to_value(u.s)
        exposure_time[index], files[index] = image["exposure_time"], image["path"].name
    times = Times.from_offsets(start, offset, exposure_time, files, numbers, flight)
    line = found[0]["line"]
    stray = {image["stray_light"] for image in found}
    if len(stray) > 1:
        msg = "some files keep their stray light and others do not (STRAYLT): read them separately"
        raise ValueError(msg)
    files_read = sorted(image["path"].name for image in found)
    history = (ProcessingStep("from_images", {"files": files_read, "stray_light": stray.pop()}),)
    unit = u.electron if unit in _DIGITAL else unit
    return planes, times, numbers, channels, flight, unit, history, line


def unpack_esis(obj, flight, frame_numbers=None):
    """Parts of a cube from an object; see `esis_ndcube.level1.ESISLevel1Cube.from_esis`."""
    if hasattr(obj, "outputs") and hasattr(obj, "inputs"):
        data, middle, exposure_time, channels, known = _unpack_named(obj, flight)
        flip = False
    elif hasattr(obj, "intensity") and hasattr(obj, "start_time"):
        data, exposure_time = u.Quantity(obj.intensity), u.Quantity(obj.exposure_length, u.s)
        middle = stamp_to_middle(Time(obj.start_time), exposure_time.value, flight)
        channels, known, flip = _number(obj.cam_id), None, True
    elif hasattr(obj, "intensity") and hasattr(obj, "time"):
        data, exposure_time = u.Quantity(obj.intensity), u.Quantity(obj.exposure_length, u.s)
        middle, channels, known, flip = Time(obj.time), _number(obj.channel), None, True
    else:
        msg = (
            f"got {type(obj).__name__}, expected a Level-1 object of the esis package: with outputs and "
            "inputs, or with intensity, exposure_length and time or start_time"
        )
        raise TypeError(msg)
    if data.ndim != 4 or data.shape[2:] != flight.detector.shape:
        rows, columns = flight.detector.shape
        msg = f"got images of shape {data.shape}, expected (time, channel, {rows}, {columns})"
        raise ValueError(msg)
    shape = data.shape[:2]
    channels = np.broadcast_to(channels, shape)[0].tolist()
    for channel in channels:
        flight.channel(channel)
    exposure_time = np.broadcast_to(exposure_time.to_value(u.s), shape).copy()
    middle = middle.reshape(-1, 1) if middle.ndim == 1 else middle
    start = middle.min()
    offset = np.broadcast_to((middle - start).to_value(u.s), shape).copy()
    frame_numbers = known if frame_numbers is None else frame_numbers
    if frame_numbers is None:
        frame_numbers = [flight.light_frames[0][0] + _count(seconds, flight) for seconds in offset.mean(axis=1)]
    if len(frame_numbers) != shape[0] or len(set(frame_numbers)) != shape[0]:
        msg = f"got frame numbers {list(frame_numbers)}, expected {shape[0]} different ones"
        raise ValueError(msg)
    unit = _check_unit(data.unit)
    planes = Planes(data.shape)
    # A cube's exposures and channels increase.
    rows, columns = np.argsort(frame_numbers), np.argsort(channels)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            image = data.value[row, column]
            image = {
                "data": orient(image, flight.detector) if flip else image,
                "channel": channels[column],
            }
            _put(planes, (i, j), image, unit, flight)
    pick = np.ix_(rows, columns)
    files = np.full(shape, f"{type(obj).__module__}.{type(obj).__qualname__}", dtype=object)
    numbers = [int(frame_numbers[row]) for row in rows]
    times = Times.from_offsets(start, offset[pick], exposure_time[pick], files, numbers, flight)
    history = (ProcessingStep("from_esis", {"type": files[0, 0], "stray_light": "kept"}),)
    unit = u.electron if unit in _DIGITAL else unit
    return planes, times, numbers, [channels[column] for column in columns], flight, unit, history


def _image_hdus(cube, i, j, channel, stamp):
    """One image as HDUs, in the camera's orientation."""
    detector, keys = cube.flight.detector, cube.flight.files
    exposure_time = cube.exposure_time[i, j].to(u.s)
    begin, end = cube.mid_time[i, j] - exposure_time / 2, cube.mid_time[i, j] + exposure_time / 2
    header = fits.Header()
    header["CAM_ID"] = channel, "channel"
    header["DATE_OBS"] = stamp.isot, f"time stamp of the camera: {cube.flight.time_stamp} of exposure"
    header["IMG_EXP"] = float(exposure_time.value), "[s] exposure"
    for key, time in {"DATE-BEG": begin, "DATE-AVG": cube.mid_time[i, j], "DATE-END": end}.items():
        time = time.copy(format="isot")
        time.precision = 9
        header[key] = time.value
    header["TIMESYS"] = "UTC"
    header["FRAME"] = int(cube.frame_number[i]), f"raw frame number ({keys.frame})"
    header["BUNIT"] = unit_text(cube.unit)
    header["INSTRUME"] = cube.flight.instrument
    header["LVL_NUM"] = 1
    header["STRAYLT"] = "subtracted" if cube.stray_light_subtracted else "kept", "what became of stray light"
    if cube.line is not None:
        header["LINE"] = cube.line
    hdus = [fits.PrimaryHDU(image_data(orient(cube.data[i, j], detector)), header)]
    planes = {
        "UNCERT": standard_deviation(cube[i, j], cube.unit),
        "FLAGS": None if cube.flags is None else cube.flags[i, j],
    }
    for name, plane in planes.items():
        if plane is not None:
            hdus.append(fits.ImageHDU(image_data(orient(plane, detector), name), name=name))
    return fits.HDUList(hdus)


def _read_image(path, flight, unit):
    """The contents of one per-image file, as a dictionary."""
    keys = "CAM_ID", "DATE_OBS", "IMG_EXP", "FRAME", "DATE-AVG", "BUNIT", "LINE", "STRAYLT"
    try:
        with open_whole(path) as hdul:
            hdus = {hdu.name: hdu for hdu in hdul if hdu.name in _PLANES}
            shapes = {name: hdu.shape for name, hdu in hdus.items()}
            header = read_cards(hdul[0].header, keys)
            wrong = [f"{shape} of {name}" for name, shape in shapes.items() if shape != flight.detector.shape]
            # An image of another shape is not unpacked, because it may be of any size.
            planes = {} if wrong else {name: hdu.data for name, hdu in hdus.items()}
    except Exception as error:  # astropy raises many classes for a damaged file
        pass_scarcity(error, path)
        msg = f"{path} is damaged or not FITS: {type(error).__name__}: {error}; get it again"
        raise FrameError(msg) from error
    missing = [key for key in keys[:3] if key not in header]
    if missing or wrong:
        msg = (
            f"{path} is no Level-1 image of {flight.name}: expected CAM_ID, DATE_OBS, IMG_EXP and shape "
            f"{flight.detector.shape}, got shape {', '.join(wrong) or flight.detector.shape}"
            + (f", without {missing}" if missing else "")
            + "; leave it out, or name its flight with flight="
        )
        raise FrameError(msg)
    unit = header.get("BUNIT", unit)
    if unit is None:
        msg = f"{path} does not say its unit: pass unit='photon / pix', unit='electron' or unit='DN'"
        raise ValueError(msg)
    try:
        exposure_time = check_exposure(float(header["IMG_EXP"]))
        if "DATE-AVG" in header:
            middle = read_time(header["DATE-AVG"], "DATE-AVG")
        else:
            middle = stamp_to_middle(read_time(header["DATE_OBS"], "DATE_OBS"), exposure_time, flight)
        channel = flight.channel(whole_number(header, "CAM_ID")).number
        frame_number = whole_number(header, "FRAME") if "FRAME" in header else None
        unit = _check_unit(u.Unit(unit))
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{path} has a header value that cannot be used: {error}; get it again"
        raise FrameError(msg) from error
    image = {name.lower(): orient(plane, flight.detector) for name, plane in planes.items()}
    return {
        "path": path,
        "channel": channel,
        "frame_number": frame_number,
        "middle": middle,
        "exposure_time": exposure_time,
        "unit": unit,
        "line": header.get("LINE"),
        "stray_light": header.get("STRAYLT", "kept"),
        "data": image.pop("primary"),
        **image,
    }


def _put(planes, index, image, unit, flight):
    """Fill one image in; uncertainty and flags are made if the image lacks them."""
    channel, detector = flight.channel(image["channel"]), flight.detector
    data = np.asarray(image["data"], dtype=np.float32)
    gain = orient(gain_image(channel.gain, detector), detector)
    if unit in _DIGITAL:
        data = data * gain
    flags = image.get("flags")
    if flags is None:
        flags = complete_flags(None, data, None)
        for columns in channel.bad_columns:
            flags[:, slice(*columns)] |= int(Flag.BAD_PIXEL)
    sigma = image.get("uncert")
    if sigma is None:
        factors = line_factors(flight)
        scale = factors if unit == PHOTONS else np.float32(1)
        read_noise = gain * np.float32(detector.read_noise)
        charge = {"collection": channel.charge_collection, "kernel": detector.charge_kernel}
        variance = electron_variance(data * scale, factors, read_noise, detector.fano_factor, **charge)
        sigma = np.sqrt(variance) / scale
    planes.data[index], planes.sigma[index], planes.flags[index] = data, sigma, flags


def _unpack_named(obj, flight):
    """Data, mid-exposure times, exposures, channels and frame numbers of an object of named arrays."""
    images = obj.axis_time, obj.axis_channel
    data = u.Quantity(_named(obj.outputs, (*images, obj.axis_y, obj.axis_x)))
    inputs = obj.inputs
    exposure_time = u.Quantity(_named(inputs.timedelta, images))
    middle = stamp_to_middle(Time(_named(inputs.time_start, images)), exposure_time.to_value(u.s), flight)
    names = getattr(inputs, "camera_id", None)
    if names is not None:
        numbers = {channel.camera: channel.number for channel in flight.channels}
    else:
        names, numbers = (
            inputs.serial_number,
            {str(channel.serial): channel.number for channel in flight.channels},
        )
    names = np.atleast_2d(_named(names, images))[0]
    try:
        channels = np.array([numbers[str(name).strip()] for name in names])
    except KeyError as error:
        msg = f"got the camera {error}, expected one of {', '.join(numbers)}"
        raise ValueError(msg) from None
    frame_numbers = getattr(inputs, "sequence_number", None)
    if frame_numbers is not None:
        frame_numbers = np.atleast_2d(_named(frame_numbers, images))[:, 0].astype(int).tolist()
    return data, middle, exposure_time, channels, frame_numbers


def _named(array, axes):
    """A named array as a plain one, with the requested axes; an axis that it lacks has length 1."""
    values, names = getattr(array, "ndarray", array), getattr(array, "axes", ())
    names = (names,) if isinstance(names, str) else tuple(names or ())
    if not hasattr(values, "transpose"):
        values = np.asarray(values)
    values = values.transpose(*[names.index(axis) for axis in axes if axis in names]) if len(names) > 1 else values
    lengths = dict(zip([axis for axis in axes if axis in names], values.shape, strict=True))
    return values.reshape(tuple(lengths.get(axis, 1) for axis in axes))


def _number(channel):
    return np.asarray(getattr(channel, "value", channel)).astype(int)


def _stamp(middle, exposure_time, flight):
    """The camera's time stamp, the inverse of `stamp_to_middle`, to the millisecond."""
    halves = {"start": -0.5, "middle": 0.0, "end": 0.5}[flight.time_stamp]
    stamp = (middle + halves * exposure_time - flight.clock_offset).copy(format="isot")
    stamp.precision = 3
    return stamp


def _count(seconds, flight):
    return round(float(seconds) / flight.cadence.to_value(u.s))


def _check_unit(unit):
    """Bring a unit to electrons, photons per pixel or digital numbers."""
    if unit == u.photon:
        return PHOTONS
    if unit in (u.electron, PHOTONS, *_DIGITAL):
        return unit
    msg = f"got the unit {unit}, expected electron, photon / pix, photon, or DN"
    raise ValueError(msg)
