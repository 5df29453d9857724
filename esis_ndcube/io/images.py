"""One FITS file for each image, as in the ESIS team's Level-3 processing, for IDL and all other programs."""

import contextlib
import re
import tarfile
from pathlib import Path

import numpy as np

import astropy.units as u
from astropy.io import fits

from esis_ndcube.io._cards import add_file_cards, exposure_header
from esis_ndcube.io._planes import image_data
from esis_ndcube.utils.checks import check_cube
from esis_ndcube.utils.output import check_output, full_disk_named, part_folder, place, temporary_output
from esis_ndcube.wcs._digits import set_number
from esis_ndcube.wcs._sun import wrap

__all__ = ["image_header", "write_image_files", "write_images"]


def write_images(cube, directory, *, label=None, tar=None, overwrite=False):
    """
    Write one FITS file per image; ``cube.write_images(directory)`` of a Level-3 cube does the same.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        Images with axes (y, x) of single exposures and channels, in any number.
    directory : path-like
        Folder, which is made if need be.
    label : `str`, optional
        Beginning of the files' names, and value of their keyword ``LABEL``; by default the instrument and ``Level3``.
    tar : path-like, optional
        An archive to put the files in as well; compressed if its name ends in ``.gz``.
    overwrite : `bool`, optional
        Whether files that exist may be replaced.

    Returns
    -------
    `list` of `pathlib.Path`
        The files ``{label}_{sequence}_{date}_{channel}.fits``, not compressed. The image is the primary array, with the
        header of `image_header`, and the file holds nothing else: files of ``cube.write`` hold uncertainty and mask.
        The sequence counts exposures from the flight's first light frame, or from the cube's first exposure if the cube
        has no frame numbers. The date is that of mid-exposure.

    Raises
    ------
    OSError
        If a file exists and ``overwrite`` is not set, or cannot be written; none is written if any exists.
    ValueError
        If the cube is not made of such images, or is read lazily from a file that would be replaced.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1, ESISLevel3Cube
    >>> from esis_ndcube.wcs import level3_wcs
    >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:36.642"]), [1, 2])[:, :, 600:605, 600:607]
    >>> cube = ESISLevel3Cube(np.zeros((1, 2, 5, 7)), wcs=wcs, meta={"flight": ESIS_1})
    >>> [path.name for path in cube[:, 0].write_images(getfixture("tmp_path"))]
    ['ESIS_Level3_0_2019-09-30T18:08:36.642_1.fits']
    """
    check_cube(cube, 3)
    names = getattr(cube.wcs, "array_axis_names", [])
    if names[-2:] != ["y", "x"] or cube.time is None or cube.channel is None:
        axes = ", ".join(names) or f"of a {type(cube.wcs).__name__}"
        msg = f"got a cube with the axes {axes}, expected images (y, x) of known exposures and channels"
        raise ValueError(msg)
    if label is None:
        label = f"{'' if cube.flight is None else cube.flight.instrument + '_'}Level3"
    directory = Path(directory)
    images = {}
    for index in np.ndindex(cube.data.shape[:-2]):
        image = cube[index] if index else cube
        sequence = index[names.index("time")] if "time" in names else 0
        if isinstance(image.frame_number, int) and cube.flight is not None:
            sequence = image.frame_number - cube.flight.light_frames[0][0]
        time = image.time.copy(format="isot")
        time.precision = 3
        name = f"{file_stem(label)}_{sequence}_{time.value}_{image.channel}.fits"
        images[directory / name] = image, sequence, label
    return write_image_files(
        images, lambda parts, name: _image_hdu(*parts, name), tar=tar, overwrite=overwrite, inputs=[cube]
    )


def write_image_files(images, make, *, tar=None, overwrite=False, inputs=()):
    """
    Write files, all or none: they are moved to their places together, when all are whole.

    A new folder appears with all of the files. In an old folder, a process that is killed while it moves the files can
    leave some of them.

    Parameters
    ----------
    images : `dict`
        Sources of the files, by their paths; all are in one folder, which is made if need be.
    make : callable
        Function that makes the `~astropy.io.fits.PrimaryHDU`, or all HDUs, from the source of a file and its name.
    tar : path-like, optional
        An archive to put the files in as well.
    overwrite : `bool`, optional
        Whether files that exist may be replaced.
    inputs : iterable, optional
        Sources of the images, as for `~esis_ndcube.io.fits.check_output`.

    Returns
    -------
    `list` of `pathlib.Path`
        The files.

    Raises
    ------
    OSError
        As `~esis_ndcube.io.fits.check_output`.
    ValueError
        As `~esis_ndcube.io.fits.check_output`, or if the archive has the name of a file in it.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from esis_ndcube.io.images import write_image_files
    >>> path = getfixture("tmp_path") / "a.fits"
    >>> [file.name for file in write_image_files({path: "flat"}, lambda part, name: fits.PrimaryHDU())]
    ['a.fits']
    """
    tar = None if tar is None else Path(tar)
    if tar is not None and tar.resolve() in {path.resolve() for path in images}:
        msg = f"got the archive {tar}, which is one of the files to put in it; give another name"
        raise ValueError(msg)
    if not images:
        return []
    directory = next(iter(images)).parent
    there = directory.is_dir()
    directory.parent.mkdir(parents=True, exist_ok=True)
    inside = tar is not None and tar.resolve().parent == directory.resolve()
    outputs = [*images, *([tar] if inside else [])] if there else [directory]
    for path in [*outputs, *([] if tar is None or inside else [tar])]:
        check_output(path, overwrite, inputs=inputs)
    # In a folder that is there already, because a place beside it may be on another disk.
    place_of_parts = directory / directory.absolute().name if there else directory
    with full_disk_named(directory), part_folder(place_of_parts) as folder:
        made = folder / "images"
        made.mkdir()
        for path, parts in images.items():
            make(parts, path.name).writeto(made / path.name, checksum=True)
        if tar is None:
            archive = contextlib.nullcontext()
        else:
            archive = contextlib.nullcontext(made / tar.name) if inside else temporary_output(tar, overwrite=overwrite)
        with archive as temporary:
            if tar is not None:
                _pack(temporary, [made / path.name for path in images])
            place({made / path.name: path for path in outputs} if there else {made: directory})
    return list(images)


def _pack(path, files):
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for file in files:
            archive.add(file, arcname=file.name)


def image_header(image, label):
    """
    Make the header of an image's file: that of `~esis_ndcube.io.fits.exposure_header`, and the keywords of SolarSoft.

    Parameters
    ----------
    image : `~esis_ndcube.cube.ESISCube`
        One exposure of one channel, or a part of it.
    label : `str`
        Name of the images.

    Returns
    -------
    `~astropy.io.fits.Header`
        The header has ``XCEN`` and ``YCEN`` (coordinates of the image's center, arcsec), ``DATE_OBS`` and ``EXPTIME``
        beside the WCS. In the WCS ``CROTA2`` (degrees counter-clockwise) stands for ``PCi_j``, except on a sheared
        grid.

    Raises
    ------
    ValueError
        If the cube is not such an image.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1, ESISLevel3Cube
    >>> from esis_ndcube.io.images import image_header
    >>> from esis_ndcube.wcs import level3_wcs
    >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1])[:, :, 600:605, 600:607]
    >>> header = image_header(ESISLevel3Cube(np.zeros((1, 1, 5, 7)), wcs=wcs)[0, 0], "ESIS_Level3")
    >>> round(header["XCEN"], 3), round(header["YCEN"], 3), header["CROTA2"]
    (-5.7, -39.3, 0.0)
    """
    header = exposure_header(image)
    rows, columns = image.data.shape
    world = image.wcs.pixel_to_world_values((columns - 1) / 2, (rows - 1) / 2)
    center = [
        float((value * u.Unit(unit)).to_value(u.arcsec))
        for value, unit in zip(world, image.wcs.world_axis_units, strict=True)
    ]
    header["CNAME1"], header["CNAME2"] = "helioprojective longitude", "helioprojective latitude"
    set_number(header, "XCEN", wrap(center[0], 180 * 3600), "[arcsec] center of the image, west")
    set_number(header, "YCEN", center[1], "[arcsec] center of the image, north")
    turn = image.wcs.pixel_scale_matrix / image.wcs.wcs.cdelt
    if np.allclose(turn @ turn.T, np.eye(2), rtol=0, atol=1e-12) and np.linalg.det(turn) > 0:
        # FITS forbids this keyword beside PCi_j, which mean the same.
        for key in list(header["PC?_?"]):
            del header[key]
        set_number(header, "CROTA2", np.degrees(np.arctan2(turn[1, 0], turn[1, 1])), "[deg] counter-clockwise")
    header["DATE_OBS"] = (header["DATE-OBS"], "as DATE-OBS")
    if "XPOSURE" in header:
        header["EXPTIME"] = (header["XPOSURE"], "[s] as XPOSURE")
    header["LABEL"] = label
    return header


def _image_hdu(image, sequence, label, name):
    header = image_header(image, label)
    header["CAM_ID"] = (image.channel, "channel number")
    header["SEQUENCE"] = (int(sequence), "number of the exposure")
    add_file_cards(header, name)
    hdu = fits.PrimaryHDU(image_data(image.data), header)
    hdu.name = "DATA"
    return hdu


def file_stem(label):
    """The beginning of file names, from a label of any text."""
    return re.sub(r"[^\w.-]+", "_", label)
