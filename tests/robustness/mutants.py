"""Change bytes of good files, and see whether their readers believe them."""

import hashlib
import json
import resource
import shutil
import signal
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from helpers import make_cube
from rawframes import COLUMNS, ROWS, raw_image, tiny_flight, write_flight, write_frame
from trial import run_alone
from writers import FOUND, POLYGONS

from astropy.io import fits

from esis_ndcube import Coalignment, ESISLevel1Cube, ESISLevel3Cube, Flight
from esis_ndcube.cli import _read_maps
from esis_ndcube.corrections.masks import read_polygons, write_polygons
from esis_ndcube.level1.frames import find_frames, read_frame

ALLOWED = OSError, ValueError, TypeError, MemoryError
SECONDS, BYTES = 10, 2**30
LEGACY = Path(__file__).parents[1] / "data" / "legacy" / "ov_Level3_final.pickle"
FLIGHT = tiny_flight()


class _SlowError(BaseException):
    pass


@cache
def cube():
    return make_cube((2, 2, 12, 14), alignments=True)


def make_frame(path):
    image = raw_image(np.add.outer(np.arange(ROWS), np.arange(COLUMNS)), FLIGHT.channel(1))
    write_frame(path, FLIGHT, 1, 20, image)
    plain = path.replace(path.with_name(f"plain_{path.name}"))
    with fits.open(plain) as hdus:
        hdus.writeto(path, checksum=True)


def make_image(path):
    write_flight(path.parent / "raw", FLIGHT, light=[20], dark=[5], channels=[1])
    level1 = ESISLevel1Cube.from_raw(path.parent / "raw", FLIGHT, despike=False, channels=[1])
    (image,) = level1.write_images(path.parent / "images")
    # Its name says its channel.
    shutil.copy(image, path)


def make_reference(path):
    image = cube()[0, 0]
    fits.PrimaryHDU(image.data, image.wcs.to_header()).writeto(path, checksum=True)


def read_raw(path):
    (frame,) = find_frames([path], FLIGHT)
    return read_frame(frame, FLIGHT), frame.channel, frame.frame_number, frame.stamp, frame.exposure_time


def of_cube(found):
    return found.data, found.mask, found.flags, found.uncertainty.array, repr(found.wcs.to_header())


# By the name of a file: what makes it, what reads all that it says, and whether sums stand in it.
READERS = {
    "frame.fits": (make_frame, read_raw, True),
    "frame.fits.gz": (make_frame, read_raw, True),
    "frame.fits.fz": (make_frame, read_raw, True),
    "ESIS_Level1_2021-01-02T03:03:20.000_1.fits": (
        make_image,
        lambda path: of_cube(ESISLevel1Cube.from_images([path], FLIGHT)),
        True,
    ),
    "level1.fits": (
        lambda path: make_cube((1, 2, 12, 14), level=1).write(path),
        lambda path: of_cube(ESISLevel1Cube.read(path)),
        True,
    ),
    "level3.fits": (lambda path: cube().write(path), lambda path: of_cube(ESISLevel3Cube.read(path)), True),
    "level3.fits.gz": (lambda path: cube().write(path), lambda path: of_cube(ESISLevel3Cube.read(path)), True),
    # Sums of ASDF are those of the arrays.
    "level3.asdf": (lambda path: cube().write(path), lambda path: of_cube(ESISLevel3Cube.read(path))[:4], True),
    "reference.fits": (make_reference, lambda path: [image.data for image in _read_maps([path])], True),
    "flight.toml": (lambda path: path.write_text(FLIGHT.toml), lambda path: [Flight.read(path).toml], False),
    "polygons.toml": (lambda path: write_polygons(POLYGONS[:3], path), read_polygons, False),
    "found.ecsv": (FOUND.write, lambda path: [Coalignment.read(path)], False),
    "legacy.pickle": (
        lambda path: shutil.copy(LEGACY, path),
        lambda path: of_legacy(ESISLevel3Cube.read(path)),
        False,
    ),
}


def of_legacy(found):
    return found.data, found.mask


def mutate(count, flight, folder, rng):
    """Read changed files; yields what was lost of each, or None."""
    per = -(-count // len(READERS))
    for name in READERS:
        place = folder / f"{name}.mutants"
        place.mkdir()
        left = min(per, count)
        count -= left
        log = place / "log"
        log.touch()
        seeds = [int(seed) for seed in rng.integers(2**63, size=left)]
        while seeds:
            # A mutant that ends the process is the last of its log.
            done = len(log.read_text().splitlines())
            ending = run_alone(_read_mutants, name, place, seeds, timeout=600)
            lines = log.read_text().splitlines()[done:]
            if len(lines) < len(seeds) and ending.error is not None:
                raise ending.error
            for line in lines:
                seed, outcome = json.loads(line)
                yield None if outcome is None else f"{name}, {seed}: {outcome}"
            if len(lines) < len(seeds):
                yield f"{name}, {seeds[len(lines)]}: it ended the process, exit code {ending.code}"
            seeds = seeds[len(lines) + 1 :]


def _read_mutants(name, place, seeds):
    make, read, sums = READERS[name]
    path = place / name
    warnings.simplefilter("ignore")
    if not path.with_suffix(".good").exists():
        make(path)
        path.replace(path.with_suffix(".good"))
    content = path.with_suffix(".good").read_bytes()
    path.write_bytes(content)
    expected = digest(read(path))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, -1))
    signal.signal(signal.SIGALRM, _alarm)
    with (place / "log").open("a") as log:
        for seed in seeds:
            path.write_bytes(change(content, np.random.default_rng(seed)))
            log.write(json.dumps([seed, _judge(read, path, expected, sums)]) + "\n")
            log.flush()


def _alarm(*_):
    raise _SlowError


def _judge(read, path, expected, sums):
    """A fault in the way that a reader takes a changed file, or None."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        found = digest(read(path))
    except ALLOWED:
        return None
    except _SlowError:
        return f"it took more than {SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "other values were accepted" if sums and found != expected else None


def change(content, rng):
    """Bytes with some of them flipped, overwritten, cut out, doubled or added."""
    result = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place, length = int(rng.integers(len(result) or 1)), int(rng.integers(1, 40))
        match rng.integers(6):
            case 0 | 1:
                result[place : place + 1] = bytes(byte ^ 1 << rng.integers(8) for byte in result[place : place + 1])
            case 2:
                result[place : place + length] = rng.bytes(len(result[place : place + length]))
            case 3:
                del result[place : place + length]
            case 4:
                result[place:place] = rng.bytes(length)
            case 5:
                del result[place:]
    return bytes(result)


def digest(parts):
    """A number for values, of which equal ones have the same."""
    found = hashlib.sha256()
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return found.hexdigest()
