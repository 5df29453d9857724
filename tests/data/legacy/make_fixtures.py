"""
Make the legacy pickles that the tests read, with the classes of the ESIS team's public packages.

Run it with a Python of its own, never with that of esis_ndcube::

    python3.9 -m venv legacy
    legacy/bin/pip install -r tests/data/legacy/requirements.txt
    legacy/bin/pip install --no-deps kgpy==0.1.1 euv-snapshot-imaging-spectrograph==0.1.1
    legacy/bin/python tests/data/legacy/make_fixtures.py

The fits of the legacy system take hours and need SDO/AIA, so that the transforms are chosen here; all else is done by
the methods of the packages: images by ``ImageTransform.transform_image``, the quadratic start by
``modified_affine_to_quadratic``, the mask, the vignetting and the normalization by those of ``Level_3``.
The frames are a formula, that of scene.py, which the tests evaluate as well; the images are a small part of the usual
ones.
"""

import os
import pathlib
import tempfile
import types

import numpy as np
from esis.data import level_3
from kgpy.img.coalignment import image_coalignment as coalignment
from scene import SHAPE, frame

from astropy.time import Time
from astropy.wcs import WCS
from ndcube import NDCube

FOLDER = pathlib.Path(__file__).parent
# Part of the AIA image of 4096 x 4096 pixels of 0.6 arcsec; the usual one is (1380, 2650), (1435, 2705).
# Square, as the vignetting needs it.
CROP = slice(1990, 2003), slice(2064, 2077)
SEQUENCES, CAMERAS = np.arange(3), np.arange(4)
START, CADENCE = "2019-09-30T18:06:08.437", 10.41  # stamps of the camera; the second is what the files extrapolate


def affine(sequence, camera):
    """Parameters as the fit to AIA gives them: scales, shears, displacements and the roll."""
    scale = 1 / np.cos(np.radians(16))
    roll = -(22.5 + 45 * camera) + 0.3 * camera - 0.02 * sequence
    return np.array([1 / (0.79 * scale), 1 / 0.79, 0.002 * camera, 0.001, 0.4, 0.2 + 0.1 * sequence, roll])


def transform_cube():
    pad = 400
    cropping = slice(None), slice(SHAPE[1] // 2 - 25, None)
    padding = (pad, pad), (pad, pad)
    padded = SHAPE[0] + 2 * pad, SHAPE[1] // 2 + 25 + 2 * pad
    origin = np.array(padded) // 2
    rows = []
    for sequence in SEQUENCES:
        row = []
        for camera in CAMERAS:
            # Where the peak of the correlation puts the image, as integers of numpy.
            peak = np.unravel_index(4096 * (2036 + 3 * camera) + 2061 - 2 * sequence, (4096, 4096))
            move = -padded[0] // 2 + peak[0], -padded[1] // 2 + peak[1]
            row.append(
                coalignment.ImageTransform(
                    affine(sequence, camera),
                    origin,
                    coalignment.modified_affine,
                    cropping,
                    padding,
                    (4096, 4096),
                    move,
                    CROP,
                )
            )
        rows.append(row)
    return coalignment.TransformCube(rows)


def make_quadratic(cube):
    """Change the transforms as the second fit does: a start from the first one, then other numbers."""
    for sequence, row in enumerate(cube.transform_cube):
        for camera, transform in enumerate(row):
            transform.transform = coalignment.modified_affine_to_quadratic(transform.transform, transform.origin)
            transform.transform_func = coalignment.quadratic_transform
            if camera != 1:
                change = np.array([0.3, 2e-4, -1e-4, 2e-7, -3e-7, 1e-7, -0.2, 1e-4, 3e-4, -1e-7, 2e-7, 3e-7])
                transform.transform = transform.transform + change * (1 + sequence - camera)
    return cube


def images(cube):
    return np.array(
        [[t.transform_image(frame(s, c)) for c, t in enumerate(row)] for s, row in enumerate(cube.transform_cube)]
    )


def header(shape):
    """The cards of ``Level_3.from_aia_level1``: camera 0 reads 2, and the first exposure is a cadence late."""
    start = Time(START)
    rows, columns = CROP
    return {
        **{f"NAXIS{i + 1}": n for i, n in enumerate(shape[::-1])},
        "DATEOBS": str(start),
        "DATEREF": str(start),
        "MJDREF": start.mjd,
        "CTYPE1": "HPLN-TAN",
        "CTYPE2": "HPLT-TAN",
        "CTYPE3": "CAMERA_ID",
        "CTYPE4": "UTC",
        "CRVAL1": 0.0,
        "CRVAL2": 0.0,
        "CRVAL3": 1,
        "CRVAL4": CADENCE,
        "CRPIX1": 2048.5 - columns.start,
        "CRPIX2": 2048.5 - rows.start,
        "CRPIX3": 0,
        "CRPIX4": 1,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CUNIT3": "pix",
        "CUNIT4": "s",
        "CDELT1": 0.6 / 3600,
        "CDELT2": 0.6 / 3600,
        "CDELT3": 1,
        "CDELT4": CADENCE,
    }


def level3(data, transforms, text):
    observation = NDCube(data, WCS(header(data.shape)), meta={"Description": text})
    return level_3.Level_3(observation, transforms, SEQUENCES, CAMERAS, "ov")


def save(obj, name, transforms):
    obj.transformation_objects = pathlib.Path("flight") / transforms
    obj.to_pickle(FOLDER / name)
    return level_3.Level_3.from_pickle(FOLDER / name)


def main():
    cube = transform_cube()
    first = images(cube)
    cube.to_pickle(FOLDER / "ov_Level3_transform.pickle")
    initial = level3(first, None, "Level_3 was formed via a linear co-alignment of ESIS Level-1 and AIA 304")
    initial = save(initial, "ov_Level3_initial.pickle", "ov_Level3_transform.pickle")

    cube = make_quadratic(cube)
    updated = images(cube)
    path = FOLDER / "ov_Level3_transform_updated.pickle"
    cube.to_pickle(path)
    final = level3(
        updated.copy(),
        path,
        "Level 3 data produced via coalignment with AIA 304 and an updated internal "
        "alignment of ESIS channels to Channel Index 1",
    )
    with tempfile.TemporaryDirectory() as folder:
        level_3.mgx_masks = []
        for camera in CAMERAS:
            # Corners (x, y) on the frame of a polygon that cuts through the images.
            step = np.array([14.0, 0.0]) if camera % 2 else np.array([0.0, 14.0])
            middle = np.array(np.mean(detector_corners(cube.transform_cube[0][camera]), axis=0))
            corners = middle + np.array([[-40, -40], [40, -40], [40, 40], [-40, 40]]) + 40 * step / 14 + 1
            level_3.mgx_masks.append(pathlib.Path(folder) / f"{camera}.csv")
            np.savetxt(level_3.mgx_masks[-1], corners, delimiter=",")
        frames = np.array([[frame(s, c) for c in CAMERAS] for s in SEQUENCES])
        final.add_mask(types.SimpleNamespace(intensity=frames))
    final.correct_vignetting(np.array([0.436, 0.340, 0.382, 0.495])).normalize_intensities()
    final = save(final, "ov_Level3_final.pickle", path.name)

    # The output of the packages themselves for the files that were just written.
    pixels = np.indices(first.shape)[::-1].reshape(4, -1)[:, ::37]
    np.savez_compressed(
        FOLDER / "expected.npz",
        initial=first,
        updated=updated,
        final=final.observation.data,
        mask=final.observation.mask,
        vignetting=final.vignetting_correction(),
        times=final.time.isot,
        pixels=pixels,
        world=final.observation.wcs.pixel_to_world_values(*pixels),
    )


def detector_corners(transform):
    """Where corners of an image lie on the frame, (x, y): the map of `ImageTransform.transform_image`, by a ramp."""
    v, u = np.indices(SHAPE, dtype=float)
    return np.array([transform.transform_image(ramp)[::12, ::12].ravel() for ramp in (u, v)]).T


if __name__ == "__main__":
    os.chdir(FOLDER)
    main()
