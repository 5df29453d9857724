"""From a query or a flight to files and maps: search and fetch in one."""

import hashlib
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import sunpy.map
from sunpy import config
from sunpy.net import Fido
from sunpy.net import attrs as a
from sunpy.net.attr import Attr

from esis_ndcube.level1.frames import find_frames
from esis_ndcube.net import jsoc
from esis_ndcube.net.attrs import Context, Exposures, MaxGap, attrs_by_type
from esis_ndcube.net.attrs import Flight as FlightAttr
from esis_ndcube.net.context import ESISContextClient
from esis_ndcube.net.download import ArchiveError, list_names
from esis_ndcube.net.flight import ESISFlightClient
from esis_ndcube.net.pointing import point_maps
from esis_ndcube.net.retry import RetryPolicy
from esis_ndcube.net.series import plain_name
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.output import part_folder, place

__all__ = ["FlightFiles", "fetch_flight", "fetch_maps", "fetch_references", "named_flight", "nearest_images"]


@dataclass(frozen=True)
class FlightFiles:
    """
    The files from which a Level-3 cube is formed.

    Attributes
    ----------
    raw : `list` of `pathlib.Path`
        Raw frames, light and dark.
    reference : `list` of `pathlib.Path`
        Images of the reference passband nearest to the exposures.

    Examples
    --------
    >>> from esis_ndcube.net.fetch import FlightFiles
    >>> FlightFiles([], []).raw
    []
    """

    raw: list[Path]
    reference: list[Path]


def named_flight(name, flight=None):
    """
    Look up a flight by its name.

    Parameters
    ----------
    name : `str`
        Name, short name or file, as for `esis_ndcube.net.attrs.Flight`.
    flight : `~esis_ndcube.Flight`, optional
        A flight to take instead of the flights that come with the package; its name must fit.

    Returns
    -------
    `~esis_ndcube.Flight`
        The flight.

    Raises
    ------
    ValueError
        If no flight has that name.

    Examples
    --------
    >>> from esis_ndcube.net.fetch import named_flight
    >>> named_flight("f1").name
    'ESIS_1'
    """
    if flight is None:
        return FlightAttr(name).flight
    names = flight.name, flight.require_archive().short_name
    if plain_name(name) not in map(plain_name, names):
        msg = f"got flight {name!r}, expected {' or '.join(names)}, which the flight file describes"
        raise ValueError(msg)
    return flight


def fetch_flight(flight, folder, *, provider="jsoc", reference=True, progress=False):
    """
    Fetch the raw frames of a flight, and the reference images nearest to its exposures.

    Files that are there already are not fetched again.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    folder : path-like or None
        Where to keep the files, in ``raw`` and ``reference``; by default in a folder with the flight's name in sunpy's
        folder for downloads.
    provider : {"jsoc", "vso"}, optional
        Where to fetch reference images from, as for `esis_ndcube.net.ESISContextClient.fetch`.
    reference : `bool`, optional
        Whether to fetch the reference images.
    progress : `bool`, optional
        Show progress bars.

    Returns
    -------
    `FlightFiles`
        The files.

    Raises
    ------
    ArchiveError
        If a file could not be fetched.
    ValueError
        If the frames are not public, the reference passband is not among those that can be fetched, or JSOC does not
        know the e-mail address.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.net.fetch import fetch_flight
    >>> files = fetch_flight(ESIS_1, "f1")  # doctest: +SKIP
    """
    folder = Path(config.get("downloads", "download_dir"), flight.name) if folder is None else Path(folder)
    frames = Fido.search(FlightAttr(flight), a.Level(0))[0]
    if reference:
        context = Context(flight.reference.name)
        if provider == "jsoc":
            # These errors would otherwise only come to light after the raw frames.
            jsoc.find_email()
    frames = frames[frames["Kind"] != "other"]
    raw = _fetch(ESISFlightClient, frames, folder / "raw", progress=progress)
    if not reference:
        return FlightFiles(raw, [])
    light = [frame for frame in find_frames(raw, flight) if flight.is_light(frame.frame_number)]
    times = sorted({frame.frame_number: frame.mid_time(flight).isot for frame in light}.values())
    images = Fido.search(Exposures(times), context)[0]
    return FlightFiles(
        raw, _fetch(ESISContextClient, images, folder / "reference", progress=progress, provider=provider)
    )


def fetch_references(flight, folder=None, *, policy=None):
    """
    Fetch the public archive of a flight's reference images, and unpack it.

    The folder is there whole or not at all. A folder that is there already is not fetched again.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    folder : path-like, optional
        Folder to make for the images; by default ``references`` in a folder with the flight's name in sunpy's folder
        for downloads.
    policy : `~esis_ndcube.net.RetryPolicy`, optional
        How many times to try, and how long to wait.

    Returns
    -------
    `pathlib.Path`
        The folder.

    Raises
    ------
    ArchiveError
        If the archive could not be fetched, has another SHA-256, or cannot be unpacked safely.
    FileExistsError
        If a file has the name of the folder.
    ValueError
        If the flight has no such archive.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.net.fetch import fetch_references
    >>> folder = fetch_references(ESIS_1, "references")  # doctest: +SKIP
    """
    archive, policy = flight.require_archive(), policy or RetryPolicy()
    if archive.references_url is None:
        msg = f"flight {flight.name} has no public reference images: its file has no references_url in [archive]"
        raise ValueError(msg)
    if folder is None:
        folder = Path(config.get("downloads", "download_dir"), flight.name, "references")
    folder = Path(folder)
    if folder.is_dir():
        return folder
    if folder.exists():
        msg = f"cannot make the folder {folder}: it is a file; give another name"
        raise FileExistsError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with part_folder(folder) as part:
        packed, unpacked = part / "archive.tar", part / "unpacked"
        policy.call(_fetch_archive, archive, packed, policy, doing=f"fetching {archive.references_url}")
        try:
            with tarfile.open(packed) as tar:
                tar.extractall(unpacked, filter="data")
        except tarfile.TarError as error:
            msg = f"{archive.references_url} cannot be unpacked: {error}; ask its authors"
            raise ArchiveError(msg) from error
        inner = [*unpacked.iterdir()]
        # Many archives hold one folder with all of their files.
        place({inner[0] if len(inner) == 1 and inner[0].is_dir() else unpacked: folder})
    return folder


def _fetch_archive(archive, path, policy):
    """Download the archive of references, and compare its SHA-256."""
    found = hashlib.sha256()
    with (
        urllib.request.urlopen(archive.references_url, timeout=policy.timeout.to_value("s")) as stream,
        path.open("wb") as file,
    ):
        while block := stream.read(2**20):
            found.update(block)
            file.write(block)
    if found.hexdigest() != archive.references_sha256:
        msg = f"got a file with SHA-256 {found.hexdigest()}, expected {archive.references_sha256}"
        raise ArchiveError(msg)


def nearest_images(cube, name=None, *, max_gap=None):
    """
    Build the query for the images nearest to the exposures of a cube.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        The cube.
    name : `str`, optional
        Name of the images, as `~esis_ndcube.net.attrs.Context`; by default those that the cube's line is aligned with.
    max_gap : `~astropy.units.Quantity`, optional
        As `~esis_ndcube.net.attrs.MaxGap`.

    Returns
    -------
    `~sunpy.net.attr.Attr`
        For `sunpy.net.Fido`, or for `fetch_maps`.

    Raises
    ------
    TypeError
        If the argument is not a cube.
    ValueError
        If there are no such images, or the cube is of another level, has no time, or has no flight with a reference.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1, ESISLevel3Cube
    >>> from esis_ndcube.net.fetch import nearest_images
    >>> from esis_ndcube.wcs import level3_wcs
    >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1])[:, :, 600:605, 600:607]
    >>> nearest_images(ESISLevel3Cube(np.zeros((1, 1, 5, 7)), wcs=wcs), "AIA 304")
    <AttrAnd([<esis_ndcube.net.attrs.Exposures(1 from 2019-09-30T18:08:00.000)>, ...])>
    """
    check_cube(cube, 3)
    if cube.time is None:
        msg = "got a cube without time, expected one with times, to find the images nearest to it"
        raise ValueError(msg)
    if name is None and cube.flight is None:
        msg = "got a cube without flight, whose reference is not known: name the images, for example 'AIA 304'"
        raise ValueError(msg)
    if name is None:
        name = (cube.flight.reference if cube.line is None else cube.flight.line_reference(cube.line)).name
    query = Exposures(cube.time) & Context(name)
    return query if max_gap is None else query & MaxGap(max_gap)


def fetch_maps(query, *, path=None, provider="jsoc", point=True, progress=False):
    """
    Search for images, fetch them, and read them.

    Parameters
    ----------
    query : `~sunpy.net.attr.Attr`
        Query, as `nearest_images` makes it.
    path : path-like, optional
        Folder of the files, as for `esis_ndcube.net.ESISContextClient.fetch`.
    provider : {"jsoc", "vso"}, optional
        Where to fetch from, as for `esis_ndcube.net.ESISContextClient.fetch`.
    point : `bool`, optional
        Whether to point images of AIA anew, as by `~esis_ndcube.net.pointing.point_maps`, or as their headers say.
    progress : `bool`, optional
        Show a progress bar.

    Returns
    -------
    maps : `list` of `~sunpy.map.GenericMap`
        The images, each once.
    max_gap : `~astropy.units.Quantity`
        The largest time from an exposure to its image that the query allows.

    Raises
    ------
    ArchiveError
        If JSOC does not answer, or an image could not be fetched.
    TypeError
        If the argument is not a query.
    ValueError
        If there is no image near any of the exposures, or JSOC does not know the e-mail address.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.net.fetch import fetch_maps, nearest_images
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> maps, _ = fetch_maps(nearest_images(cube, "AIA 304"))  # doctest: +SKIP
    """
    if not isinstance(query, Attr):
        msg = (
            f"got {type(query).__name__}, expected a name such as 'AIA 304', a query, or sunpy Maps: read "
            "files with sunpy.map.Map(path)"
        )
        raise TypeError(msg)
    attributes = attrs_by_type([query])
    images = Fido.search(query)[0]
    if images["Gap"].all():
        msg = f"there is no usable image of {images['Context'][0]} near any of the exposures: is the date right?"
        raise ValueError(msg)
    files = _fetch(ESISContextClient, images, path, progress=progress, provider=provider)
    max_gap = attributes[MaxGap].value if MaxGap in attributes else attributes[Context].series.max_gap
    maps = [sunpy.map.Map(file) for file in files]
    return (point_maps(maps, policy=ESISContextClient.policy) if point else maps), max_gap


def _fetch(client, result, path, **kwargs):
    # Not by Fido, which opens its own downloader beside the client's.
    done = client().fetch(result, path=path, **kwargs)
    if done.errors:
        msg = (
            f"{len(done.errors)} of {len(done) + len(done.errors)} files are missing: "
            f"{list_names([str(error.exception) for error in done.errors])}. "
            "The other files are kept; fetch again to try the missing ones"
        )
        raise ArchiveError(msg)
    return [Path(file) for file in done]
