"""
Every bad input once: who makes it, who reads it, and how it is refused.

``BAD`` is the table. A message has three parts: what came, what was expected, and how to mend it; where the file is one
that people write, the entry that is named is what to mend.
"""

import gzip
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from helpers import make_cube
from rawframes import COLUMNS, ROWS, raw_image, tiny_flight, write_flight, write_frame

from astropy.io import fits

from esis_ndcube import ESIS_1, Coalignment, ESISLevel1Cube, ESISLevel3Cube, Flight
from esis_ndcube.cli import _read_maps
from esis_ndcube.corrections.masks import read_polygons
from esis_ndcube.flight import FlightError
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.level1.frames import FrameError, find_frames, read_frame

# Numbers of the limits that every reader keeps.
SECONDS, BYTES = 10, 2**30


@dataclass(frozen=True)
class BadInput:
    """
    One bad input.

    ``make`` writes it to a folder and gives its path, ``read`` is to raise ``error`` with all ``words``; a ``bomb``
    would take time or memory if it were believed, so it is tried under limits.
    """

    name: str
    make: Callable
    read: Callable
    error: type
    words: tuple
    bomb: bool = False


FLIGHT = tiny_flight()
KEYS = FLIGHT.files
SUFFIXES = ".fits", ".fit.gz", ".fits.fz"


@cache
def _good(kind):
    """The bytes of a good file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"good{kind}"
        if kind in SUFFIXES:
            image = raw_image(np.add.outer(np.arange(ROWS), np.arange(COLUMNS)), FLIGHT.channel(1))
            write_frame(path, FLIGHT, 1, 20, image)
        elif kind == "level1.fits":
            write_flight(Path(folder) / "raw", FLIGHT, light=[20], dark=[5], channels=[1])
            (path,) = ESISLevel1Cube.from_raw(Path(folder) / "raw", FLIGHT, despike=False, channels=[1]).write_images(
                folder
            )
        elif kind == "reference.fits":
            image = make_cube((1, 1, 6, 7))[0, 0]
            fits.PrimaryHDU(image.data, image.wcs.to_header()).writeto(path, checksum=True)
        else:
            make_cube((2, 2, 6, 7), alignments=True).write(path)
        return path.read_bytes()


def _edited(kind, edit, folder, *, checksum=False):
    """A good file, whose HDUs are then changed."""
    path, packed = folder / f"bad{kind}", kind.endswith(".gz")
    path.write_bytes(gzip.decompress(_good(kind)) if packed else _good(kind))
    # The header of a packed image that stands in the file.
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        edit(hdus[-1])
        if checksum:
            for hdu in hdus:
                hdu.add_checksum()
        hdus.flush(output_verify="ignore")
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def _bytes(kind, change, folder):
    """A good file whose bytes are then changed."""
    path = folder / f"bad{kind}"
    path.write_bytes(change(_good(kind)))
    return path


def _flip(content, place=-3000):
    """One bit, which is one of the image, and not of the zeros that fill the last block."""
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def _card(key, text):
    """Give a card another text, of which nothing need be FITS."""

    def change(content):
        cards = [content[i : i + 80] for i in range(0, len(content), 80)]
        old = next(card for card in cards if card.startswith(key.encode().ljust(8)))
        return content.replace(old, f"{key:8}= {text}".encode("latin-1").ljust(80), 1)

    return change


def _set(key, value):
    return lambda hdu: hdu.header.set(key, value)


def _twice(key, value):
    return lambda hdu: hdu.header.append((key, value), end=True)


def _fill(value):
    def edit(hdu):
        hdu.data = np.full(hdu.data.shape, value, dtype=np.float32)

    return edit


# ----------------------------------------------------------------------------------------------------- raw frames


def read_raw(path):
    """The images in a file, as `ESISLevel1Cube.from_raw` reads them."""
    return [read_frame(frame, FLIGHT) for frame in find_frames([path], FLIGHT)]


def _summed(kind, folder):
    """A frame with checksums, of which one bit is then turned over."""
    path = _edited(kind, lambda hdu: None, folder, checksum=True)
    path.write_bytes(_flip(path.read_bytes()))
    return path


def _packed(start, filling, count, folder):
    """A small file that unpacks to many megabytes."""
    path = folder / "bomb.fits.gz"
    path.write_bytes(gzip.compress(start) + count * gzip.compress(100 * 2**20 * filling))
    return path


AGAIN = "get it again, or pass on_error='skip'"


def _raw(name, make, *words, **options):
    return BadInput(f"raw frame: {name}", make, read_raw, FrameError, (*words, AGAIN), **options)


RAW = [
    _raw("flipped bit, .fits", partial(_summed, ".fits"), "is damaged", "the checksum of HDU 0 does not agree"),
    _raw("flipped bit, .fits.fz", partial(_summed, ".fits.fz"), "is damaged", "the checksum of HDU 1 does not agree"),
    _raw(
        "flipped bit, .fit.gz",
        partial(_bytes, ".fit.gz", partial(_flip, place=-6)),
        "Error -3 while",
        "incorrect data check",
    ),
    *(
        _raw(f"half of a file, {kind}", partial(_bytes, kind, lambda c: c[: len(c) // 2]), expected)
        for kind, expected in zip(
            SUFFIXES, ("is cut short: ", "it is cut short", "no HDU in what follows"), strict=True
        )
    ),
    *(
        _raw(f"{name}, {kind}", partial(_edited, kind, edit), *words)
        for kind in SUFFIXES
        for name, edit, words in [
            ("fraction of a frame", _set(KEYS.frame, 20.7), (f"{KEYS.frame} is 20.7", "expected a whole number")),
            ("frame that is true", _set(KEYS.frame, True), (f"{KEYS.frame} is True", "expected a whole number")),
            (
                "two frame numbers",
                _twice(KEYS.frame, 21),
                ("there with the values 20, 21", "expected one"),
            ),
            ("two cameras", _twice(KEYS.camera, "ESIS2"), ("the values 'ESIS1', 'ESIS2'", "expected one")),
            ("two exposures", _twice(KEYS.measured_exposure, 1), ("the values 400000000, 1", "expected one")),
            ("endless exposure", _set(KEYS.measured_exposure, 1e300), ("exposure 2.5e+292 s", "expected more than 0")),
            ("negative exposure", _set(KEYS.measured_exposure, -1), ("exposure -2.5e-08 s", "expected more than 0")),
            ("text for a frame", _set(KEYS.frame, "twenty"), ("'twenty'", "a header value that cannot be read")),
            ("text for a time", _set(KEYS.time, "tomorrow"), ("tomorrow", "expected a time")),
            ("day that is not", _set(KEYS.time, "2021-02-30T03:00:00"), ("2021-02-30", "expected a time")),
        ]
    ),
    _raw(
        "no number in it", partial(_edited, ".fits", _fill(np.nan)), "holds no number", "expected an image of numbers"
    ),
    _raw(
        "only infinities", partial(_edited, ".fits", _fill(np.inf)), "holds no number", "expected an image of numbers"
    ),
    *(
        _raw(f"damaged card {key}", partial(_bytes, ".fits", _card(key, "'\xff")), "not a readable FITS file")
        for key in ("NAXIS", "BITPIX")
    ),
    # So long that the next header is this one again.
    _raw(
        "negative length",
        partial(_bytes, ".fits", lambda c: _card("NAXIS2", "-1".rjust(20))(_card("NAXIS1", "1440".rjust(20))(c))),
        "HDU 0 has NAXIS2 = -1",
        "expected no length below 0",
        bomb=True,
    ),
    _raw(
        "endless header",
        lambda folder: _packed(b"SIMPLE  =                    T".ljust(80), b" ", 3, folder),
        "its header does not end",
        "within 1048576 bytes",
        bomb=True,
    ),
    _raw(
        "much after the image",
        lambda folder: _packed(_good(".fits"), b"\0", 30, folder),
        "it unpacks to more than",
        "expected an image",
        bomb=True,
    ),
    *(
        BadInput(
            f"raw frame: {count} rows",
            partial(_bytes, ".fits", _card("NAXIS2", str(count).rjust(20))),
            read_raw,
            FrameError,
            (f"holds an image of shape ({count}, 84)", "expected (48, 84)", "leave it out"),
            bomb=True,
        )
        for count in (10**6, 10**12)
    ),
]

# -------------------------------------------------------------------------------------------- images of other files


def read_image(path):
    """As a Level-1 image."""
    return ESISLevel1Cube.from_images([path], FLIGHT)


def read_reference(path):
    """As the command reads --reference."""
    return _read_maps([path])


def _unsummed(change):
    """A change of cards that does not tell itself by the checksum."""
    return lambda content: change(_card("CHECKSUM", "''")(_card("DATASUM", "''")(content)))


def _changed(kind, reader, error, mend, changes):
    """Bad inputs by name, each with its change of the bytes of a good file, and words."""
    title = {"level1": "Level-1 image", "reference": "reference", "level3": "Level-3 file"}[kind.split(".")[0]]
    return [
        BadInput(f"{title}: {name}", partial(_bytes, kind, change), reader, error, (*words, mend), bomb=name in BOMBS)
        for name, (change, *words) in changes.items()
    ]


def _cards(**cards):
    def change(content):
        for key, text in cards.items():
            content = _card(key, text)(content)
        return content

    return _unsummed(change)


BOMBS = "negative length", "a thousand billion rows", "endless header"
BLANKS = gzip.compress(b"SIMPLE  =                    T".ljust(80)) + 3 * gzip.compress(100 * 2**20 * b" ")
UNUSABLE = "a header value that cannot be used"
IMAGES = [
    *_changed(
        "level1.fits",
        read_image,
        FrameError,
        "get it again",
        {
            "flipped bit": (_flip, "is damaged or not FITS", "the checksum of HDU 2 does not agree"),
            "half of a file": (lambda content: content[: len(content) // 2], "is damaged or not FITS", "is cut short"),
            "fraction of a channel": (_cards(CAM_ID="1.5"), UNUSABLE, "CAM_ID is 1.5, expected a whole number"),
            "channel that is true": (_cards(CAM_ID="T"), UNUSABLE, "CAM_ID is True, expected a whole number"),
            "unknown channel": (_cards(CAM_ID="9"), UNUSABLE, "unknown channel 9"),
            "fraction of a frame": (_cards(FRAME="20.5"), UNUSABLE, "FRAME is 20.5, expected a whole number"),
            "endless exposure": (_cards(IMG_EXP="1E300"), UNUSABLE, "exposure 1e+300 s, expected more than 0"),
            "no exposure": (_cards(IMG_EXP="0"), UNUSABLE, "exposure 0.0 s, expected more than 0"),
            "text for a time": (_cards(**{"DATE-AVG": "'tomorrow'"}), UNUSABLE, "'tomorrow', expected a time"),
            "unknown unit": (_cards(BUNIT="'furlong'"), UNUSABLE, "'furlong' did not parse as unit"),
            "card that is none": (_cards(IMG_EXP="'\xff"), "is damaged or not FITS", "Unparsable card (IMG_EXP)"),
            "negative length": (
                _cards(NAXIS1="720", NAXIS2="-1", BITPIX="32"),
                "is damaged or not FITS",
                "HDU 0 has NAXIS2 = -1, expected no length below 0",
            ),
            "endless header": (lambda _: BLANKS, "is damaged or not FITS", "it unpacks to more than"),
        },
    ),
    *_changed(
        "reference.fits",
        read_reference,
        ValueError,
        "get it again",
        {
            "flipped bit": (partial(_flip, place=-2800), "that sunpy can read", "the checksum of HDU 0 does not agree"),
            "half of a file": (lambda content: content[: len(content) // 2], "that sunpy can read", "reference"),
            "negative length": (_cards(NAXIS1="360", NAXIS2="-1", BITPIX="-64"), "that sunpy can read", "reference"),
            "a thousand billion rows": (_cards(NAXIS2=str(10**12)), "that sunpy can read", "is cut short"),
            "endless header": (lambda _: BLANKS, "that sunpy can read", "it unpacks to more than"),
        },
    ),
    *_changed(
        "level3.fits",
        ESISLevel3Cube.read,
        CubeFileError,
        "get it again",
        {
            "flipped bit": (partial(_flip, place=5 * 2880 + 100), "is damaged", "checksum of DATA does not agree"),
            "half of a file": (lambda content: content[: len(content) // 2], "cannot be read as FITS", ""),
            "negative length": (_card("NAXIS2", "-1"), "has NAXIS2 = -1", "expected no length below 0"),
            "a thousand billion rows": (_card("NAXIS4", str(10**12)), "cannot be read as FITS", ""),
            "endless header": (lambda _: BLANKS, "its header does not end", "within 1048576 bytes"),
        },
    ),
]

# --------------------------------------------------------------------------------------- files that people write


def _text(name, text, folder):
    path = folder / name
    path.write_text(text)
    return path


def _flight(name, old, new, *words, **options):
    """The first flight, with one entry replaced."""
    assert ESIS_1.toml.count(old), old
    make = partial(_text, "flight.toml", ESIS_1.toml.replace(old, new, 1))
    return BadInput(f"flight: {name}", make, Flight.read, FlightError, ("flight.toml", *words), **options)


LIGHT, PATTERN = "light_frames = [[109, 138]]", 'pattern = "ESIS{channel}_{frame:05d}.fit.gz"'
FLIGHTS = [
    *(
        _flight(f"misspelt {key}", f"{key} = ", f"{wrong} = ", f"{wrong}: got a key that no flight has", expected)
        for key, wrong, expected in [
            ("bad_columns", "bad_colums", "expected bad_columns"),
            ("charge_collection", "charge_colection", "expected charge_collection"),
            ("charge_spread", "charge_spred", "expected charge_spread"),
        ]
    ),
    _flight("misspelt table", "[archive]", "[archives]", "archives: got a key", "expected archive"),
    _flight(
        "misspelt tables", "[[channels.lines]]", "[[channels.line]]", "channels[0].line: got a key", "expected lines"
    ),
    _flight("foreign key", "serial = 6", "serial = 6\ncolor = 1", "channels[0].color: got a key", "expected one of"),
    _flight(
        "dark and light", LIGHT, "light_frames = [[90, 138]]", "dark_frames: got", "expected no frame of light_frames"
    ),
    _flight("pose in the dark", "\nframe = 124", "\nframe = 99", "pose.frame: got 99", "expected none of dark_frames"),
    _flight("wide field stop", '"690 arcsec"', '"900 arcsec"', "width: got 900", "expected it to fit into the grid"),
    *(
        _flight(
            f"angle of {angle}", "angle = 22.5", f"angle = {angle}", "x points to 21.6", f"dispersion_angle of {angle}"
        )
        for angle in ("-22.5", "67.5", "202.5")
    ),
    *(
        _flight(
            f"folder in {pattern}", PATTERN, f"pattern = '{pattern}'", "files.pattern: got", "expected the name of a"
        )
        for pattern in (
            "../{channel}_{frame}",
            "/tmp/{channel}_{frame}",
            "{channel}/{frame}",
            "..\\{channel}_{frame}",
            "C:{channel}_{frame}",
        )
    ),
    *(
        _flight(
            f"pattern {pattern}",
            PATTERN,
            f"pattern = '{pattern}'",
            "files.pattern: got",
            "expected a template",
            bomb=True,
        )
        for pattern in (
            "{channel:>3000000000}{frame}",
            "{channel}{frame:03000000000d}",
            "{channel:{frame}}",
            "{channel.__class__}{frame}",
            "{channel!r:>99}{frame}",
        )
    ),
    _flight(
        "many sides", "sides = 8", "sides = 1000000000", "sides: got", "expected at least 3 and at most 100", bomb=True
    ),
    *(
        _flight(f"many frames, {old}", old, new, "got [[", "expected ranges up to 1000000", bomb=True)
        for old, new in [
            (LIGHT, "light_frames = [[200, 1000000000000]]"),
            ("frames = [[96, 166]]", "frames = [[96, 1000000000000]]"),
            ("dark_frames = [[98, 103]", "dark_frames = [[98, 1000000000000]"),
        ]
    ),
    _flight(
        "large grid", "shape = [1270, 1270]", "shape = [1000000, 1270]", "grid.shape: got", "expected numbers up to"
    ),
    _flight("large camera", "[1040, 2152]", "[1000000, 2152]", "detector.raw_shape: got", "expected numbers up to"),
    _flight("long number", "saturation = 65535", f"saturation = 1{400 * '0'}", "saturation: got", "expected float"),
    _flight(
        "longer number", "saturation = 65535", f"saturation = 1{9999 * '0'}", "not a flight file", "Exceeds the limit"
    ),
    _flight("long list", "crpix = [613.5, 668.5]", f"crpix = [1{400 * '0'}, 1]", "crpix: got", "expected 2 float"),
    _flight("nested brackets", "[files]", f"x = {20000 * '['}", "is not a flight file in TOML", "recursion", bomb=True),
    _flight("time that is none", "launch = 2019-09-30T18:04:00Z", "launch = {}", "launch: got {}", "expected a date"),
]

DRAWN = "[[polygon]]\ncoordinates = 'detector'\nvertices = [[1, 1], [5, 1], [5, 5]]\n"


def _polygon(name, text, *words, **options):
    make = partial(_text, "polygons.toml", text)
    return BadInput(f"polygons: {name}", make, read_polygons, ValueError, ("polygons.toml", *words), **options)


POLYGONS = [
    *(
        _polygon(f"{key} {value}", f"{DRAWN}{key} = {value}", "polygon 1", "got", "expected whole numbers")
        for key in ("channels", "frames")
        for value in ("[1.7]", "[true]", "[1, 2.5]", "1.7")
    ),
    _polygon("misspelt key", f"{DRAWN}channls = [1]", "polygon 1", "channls", "expected coordinates"),
    _polygon("no tables", "polygon = 3", "no file of polygons", "expected TOML with a table [[polygon]]"),
    _polygon("tables of nothing", "polygon = [3]", "no file of polygons", "expected TOML with a table [[polygon]]"),
    _polygon("nested brackets", f"x = {20000 * '['}", "no file of polygons", "expected TOML", bomb=True),
    # A parabola whose last vertex is a step too far to the left.
    _polygon(
        "sides that meet among many",
        DRAWN.replace("[[1, 1]", str([*([i, i * i] for i in range(1998)), [1000, 1997**2]])[:-1]),
        "polygon 1",
        "sides 0 and 2000 meet",
        "expected one that does not cross itself: give the vertices in order",
        bomb=True,
    ),
    _polygon(
        "many vertices",
        DRAWN.replace("[[1, 1]", str([[i, i * i] for i in range(8998)])[:-1]),
        "polygon of 9000 vertices",
        "expected at most 5000",
        "leave some out",
        bomb=True,
    ),
]

# ------------------------------------------------------------------------------------------- files of programs


def _write(name, content, folder):
    path = folder / name
    path.write_bytes(content)
    return path


def _pickle_text(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


# A tuple of twice the same, 25 deep; lists of it, filled when the outer ones are there.
TUPLES = b")\x94" + b"".join(b"h" + bytes([i, ord("h"), i]) + b"\x86\x94" for i in range(25))
LISTS = b"]\x94" + b"".join(b"]\x94(h" + bytes([i, ord("h"), i]) + b"e" for i in range(25))
CLASS = _pickle_text("esis.data.level_3") + _pickle_text("Level_3") + b"\x93"
PICKLES = [
    BadInput(
        f"pickle: {name}",
        partial(_write, "nested.pickle", b"\x80\x04" + content + b"."),
        ESISLevel3Cube.read,
        CubeFileError,
        ("its parts that are used again", "expected a few thousand", "it was not loaded"),
        bomb=True,
    )
    for name, content in {
        "nested tuples as a value": CLASS + b")\x81}" + _pickle_text("observation") + TUPLES + b"sb",
        "nested tuples as a key": CLASS + b")\x81}" + TUPLES + _pickle_text("x") + b"sb",
        "nested tuples as a key that is left over": b"}" + TUPLES + _pickle_text("x") + b"s" + CLASS + b")\x81",
        "nested lists": LISTS,
    }.items()
]

ASDF = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n"


def _aliases(depth, width):
    """Lists of aliases of the list before."""
    lists = [
        b"a0: &a0 [1]",
        *(b"a%d: &a%d [%s]" % (n, n, b",".join([b"*a%d" % (n - 1)] * width)) for n in range(1, depth)),
    ]
    return b"\n".join(lists)


def _asdf(name, content, *words, **options):
    make = partial(_write, "bad.asdf", ASDF + content + b"\n...\n")
    words = "is damaged or not ASDF", *words, "get it again"
    return BadInput(f"ASDF: {name}", make, ESISLevel3Cube.read, CubeFileError, words, **options)


def _damaged_asdf(old, new, folder):
    """A good file with a damaged word, of which asdf only warns."""
    content = _good(".asdf")
    assert old in content, old
    return _write("bad.asdf", content.replace(old, new, 1), folder)


ASDFS = [
    _asdf("aliases nested ten deep", _aliases(10, 9), "aliases stand for", "expected at most 100000", bomb=True),
    _asdf("aliases nested forty deep", _aliases(40, 2), "aliases stand for", "expected at most 100000", bomb=True),
    _asdf("nested brackets", b"a: " + 20000 * b"[", "exceeded maximum nesting depth", bomb=True),
    *(
        BadInput(
            f"ASDF: damaged {old.decode()}",
            partial(_damaged_asdf, old, new),
            ESISLevel3Cube.read,
            CubeFileError,
            ("is damaged or not ASDF", words, "get it again"),
        )
        for old, new, words in [
            (b"tags/flight-1.0.0", b"tags/fright-1.0.0", ""),
            (b"tags/processing_step-1.0.0", b"tags/processing_step-1.0.8", "is not recognized"),
            (b"tags/wcs-1.0.0", b"tags/wcs-9.0.0", ""),
            (b"reference_channel", b"reference_chanel?", "failed to convert"),
            (b"CTYPE1  = ", b"CTYPE1  ? ", ""),
        ]
    ),
]

COALIGNMENTS = [
    BadInput(
        f"coalignment: {name}",
        partial(_write, "coalignment.ecsv", content),
        Coalignment.read,
        ValueError,
        ("coalignment.ecsv is not a file of Coalignment.write, or damaged", "write it again"),
        bomb=True,
    )
    for name, content in {
        "nothing": b"",
        "text": b"Dear colleagues,",
        "aliases": b"# %ECSV 1.0\n# ---\n"
        + b"".join(b"# " + line + b"\n" for line in _aliases(10, 9).split(b"\n"))
        + b"a\n1\n",
        "nested brackets": b"# %ECSV 1.0\n# ---\n# meta: " + 20000 * b"[" + b"\na\n1\n",
        "endless shape": b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\n"
        b"# meta: {SHAPE: '1000000000000 2'}\n# schema: astropy-2.0\na\n",
    }.items()
]

BAD = [*RAW, *IMAGES, *FLIGHTS, *POLYGONS, *PICKLES, *ASDFS, *COALIGNMENTS]
