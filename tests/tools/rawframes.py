"""Raw frames of a small invented flight, written as files."""

import re
import tomllib

import numpy as np
import tomli_w

import astropy.units as u
from astropy.io import fits
from astropy.time import Time

from esis_ndcube import ESIS_1, Flight

ROWS, HALF, BLANK, OVERSCAN = 48, 30, 10, 2
COLUMNS = 2 * HALF
SETTINGS = {
    "name": '"TINY"',
    "launch": "2021-01-02T03:00:00Z",
    "light_frames": "[[20, 29]]",
    "dark_frames": "[[5, 8], [40, 45]]",
    "clock_offset": '"0.25 s"',
    "raw_shape": f"[{ROWS}, {2 * (HALF + BLANK + OVERSCAN)}]",
    "split_column": f"{HALF + BLANK + OVERSCAN}",
    "blank_columns": "[[2, 10], [74, 82]]",
    "active_columns": "[[10, 40], [44, 74]]",
    "stray_light_rows": "6",
    "saturation": "60000",
}


def tiny_flight(**settings):
    """A flight with 48 x 60 pixels and two lines; settings are TOML text by key."""
    text = ESIS_1.toml
    for key, value in {**SETTINGS, **settings}.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        assert count == 1, key
    text = text.replace("columns = [999, 2048]", "columns = [34, 60]").replace(
        "columns = [0, 800]", "columns = [0, 20]"
    )
    text = re.sub(r"^bad_columns = .*\n", "", text, flags=re.MULTILINE)
    text = text.replace("serial = 7\n", "serial = 7\nbad_columns = [[3, 5]]\n")
    return Flight.from_toml(text)


BIAS = (3300.0, 3410.0, 3520.0, 3630.0)


def raw_image(active, channel, *, dark=0.0, stray=0.0, bias=BIAS, read_noise=0.0, rng=None):
    """
    The camera's answer to electrons, pixel by pixel quadrant, without the code under test.

    ``active`` is in the Level-1 orientation: y against the rows of the camera.
    """
    seen = np.flipud(np.asarray(active, dtype=float) + stray)
    raw = np.zeros((ROWS, 2 * (HALF + BLANK + OVERSCAN)))
    low, high = slice(0, ROWS // 2), slice(ROWS // 2, ROWS)
    places = [
        (low, slice(0, 42), slice(10, 40), slice(0, HALF)),
        (low, slice(42, 84), slice(44, 74), slice(HALF, COLUMNS)),
        (high, slice(42, 84), slice(44, 74), slice(HALF, COLUMNS)),
        (high, slice(0, 42), slice(10, 40), slice(0, HALF)),
    ]
    dark = np.broadcast_to(dark, (ROWS, COLUMNS))
    for level, gain, (rows, whole, columns, seen_columns) in zip(bias, channel.gain, places, strict=True):
        raw[rows, whole] += level
        raw[rows, columns] += seen[rows, seen_columns] / gain + dark[rows, seen_columns]
    if read_noise:
        raw += rng.normal(0, read_noise, raw.shape)
    return raw


def write_frame(path, flight, channel, frame, raw, *, stamp=None, exposure_time=10.0, **cards):
    """Write a frame; the kind of file follows from its name."""
    keys = flight.files
    stamp = stamp or flight.launch + (10.0 * frame + 0.125) * u.s
    header = fits.Header()
    header[keys.time] = Time(stamp).isot + "Z"
    header[keys.camera] = flight.channel(channel).camera
    header[keys.frame] = frame
    header[keys.exposure] = round((exposure_time * u.s / keys.exposure_unit).to_value(u.one))
    header[keys.measured_exposure] = round((exposure_time * u.s / keys.measured_exposure_unit).to_value(u.one))
    header.update(cards)
    data = np.clip(np.rint(raw), 0, 65535).astype(np.uint16)
    if str(path).endswith(".fz"):
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type="RICE_1")]
    else:
        hdus = [fits.PrimaryHDU(data, header)]
    fits.HDUList(hdus).writeto(path)
    return path


def dark_pattern():
    """Dark signal in DN, with the rows of the camera."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return 8 * ((x + 2 * y) % 5)


def write_flight(
    folder, flight, *, light=(20, 21, 23), dark=(5, 6, 40), channels=(1, 2, 3, 4), scene=None, stray=50.0, seed=1
):
    """Write a folder of frames and return the true electrons, shape (time, channel, y, x)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    pattern = dark_pattern()
    truth = np.zeros((len(light), len(channels), ROWS, COLUMNS))
    for j, channel in enumerate(channels):
        for frame in dark:
            raw = raw_image(0 * x, flight.channel(channel), dark=pattern, read_noise=2.0, rng=rng)
            write_frame(folder / f"c{channel}_{frame:05d}.fit.gz", flight, channel, frame, raw)
        for i, frame in enumerate(light):
            sun = 900 * np.exp(-(((x - 30 - i) / 9.0) ** 2) - ((y - 20 - 2 * j) / 5.0) ** 2)
            truth[i, j] = sun if scene is None else scene
            raw = raw_image(truth[i, j], flight.channel(channel), dark=pattern, stray=stray, read_noise=2.0, rng=rng)
            suffix = (".fits", ".fit.gz", ".fits.fz")[(i + j) % 3]
            write_frame(folder / f"c{channel}_{frame:05d}{suffix}", flight, channel, frame, raw)
    return truth


def with_archive(flight, url, frames, *, time_frame=1, time=None, short_name="f1"):
    """The flight, its frames public at a server."""
    table = tomllib.loads(flight.toml)
    table["archive"] = {
        "short_name": short_name,
        "url": url + "frames/",
        "frames": [[int(frame), int(frame)] for frame in frames],
        "time_frame": int(time_frame),
        "time": (flight.launch if time is None else time).to_datetime(),
    }
    return Flight.from_toml(tomli_w.dumps(table))
