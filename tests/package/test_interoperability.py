"""Other programs read our files: astropy, sunpy and ndcube without this package, CFITSIO, SOLARNET, GDL."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from helpers import make_cube

import astropy.units as u
import sunpy.map
from astropy.io import fits
from astropy.wcs import WCS
from sunpy.map import Map

from esis_ndcube import ESIS_1, ESISLevel3Cube, Flight
from esis_ndcube.wcs import level3_wcs

FITSVERIFY = shutil.which("fitsverify")
GDL = shutil.which("gdl")


@pytest.fixture(scope="module")
def cube():
    return make_cube((3, 4, 12, 14), alignments=True)


@pytest.fixture(scope="module")
def rolled():
    """A cube whose grid is rolled by 30 degrees and lies off the Sun's center."""
    grid = ESIS_1.grid.deepcopy()
    grid.array_shape = 9, 11
    cosine, sine = np.cos(np.radians(30)), np.sin(np.radians(30))
    grid.wcs.pc = [[cosine, -sine], [sine, cosine]]
    grid.wcs.crpix = -300, 200
    wcs = level3_wcs(grid, make_cube((2, 1, 2, 2)).time, [2], exposure_time=10 * u.s)
    data = np.arange(2 * 99, dtype=np.float32).reshape(2, 1, 9, 11)
    return ESISLevel3Cube(data, wcs=wcs, unit="ph / pix", meta={"flight": ESIS_1, "line": "O V"})


@pytest.fixture(scope="module")
def files(cube, rolled, tmp_path_factory):
    """One file of each kind that we write."""
    folder = tmp_path_factory.mktemp("files")
    cube.write(folder / "l3.fits")
    if importlib.util.find_spec("asdf_astropy"):
        cube.write(folder / "l3.asdf")
    make_cube((2, 3, 6, 5), channels=(1, 2, 4)).write(folder / "uneven.fits")
    make_cube((2, 2, 6, 5), level=1).write(folder / "l1.fits")
    cube[1, 2].write(folder / "image.fits")
    cube[:, 1, 2:7].write(folder / "part.fits")
    cube.write_images(folder / "images")
    rolled.write_images(folder / "rolled")
    maps = [Map(np.ones((12, 14)), cube[i, 0].wcs.to_header()) for i in range(3)]
    cube.context(maps).write_images(folder / "context", label="AIA 304")
    return folder


OTHERS = """
import json, sys, warnings
sys.modules["esis_ndcube"] = None
import astropy.units as u
import numpy as np
import sunpy.map
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.time import Time
from astropy.wcs import WCS
from ndcube import NDCube

warnings.simplefilter("error")
folder = sys.argv[1]
result = {}
with fits.open(folder + "/l3.fits", checksum=True) as hdus:
    hdus.verify("exception")
    header = hdus["DATA"].header
    wcs = WCS(header, hdus)
    result["world"] = [float(x) for x in wcs.pixel_to_world_values(3, 4, 2, 1)]
    result["back"] = [float(x) for x in wcs.world_to_pixel_values(*result["world"])]
    cube = NDCube(hdus["DATA"].data, wcs, unit=header["BUNIT"], mask=hdus["MASK"].data.astype(bool),
                  uncertainty=StdDevUncertainty(hdus["UNCERT"].data))
    image = cube[1, 2]
    result["pixel"] = float(image.data[4, 3])
    result["time"] = str(image.global_coords["time"].utc.isot)
    result["channel"] = float(image.global_coords["channel"].value)
    sky = image.wcs.pixel_to_world(3, 4)
    result["sky"] = [sky.Tx.arcsec, sky.Ty.arcsec]
    cropped = cube.crop(wcs.pixel_to_world(2, 2, 1, 0), wcs.pixel_to_world(5, 6, 2, 1))
    result["cropped"] = cropped.data.shape
    row = hdus["EXPOSURE"].data[1 * 4 + 2]
    result["row"] = [int(row["CHANNEL"]), int(row["FRAME"]), str(row["FILE"]), str(row["DATE_AVG"])]
    result["steps"] = [str(step) for step in hdus["PROCESSING"].data["STEP"]]
name = sys.argv[2]
one = sunpy.map.Map(name)
result["map"] = type(one).__name__
place = one.wcs.pixel_to_world(3, 4)
result["map sky"] = [place.Tx.arcsec, place.Ty.arcsec]
result["map date"] = one.reference_date.isot
result["map unit"] = str(one.unit)
result["map line"] = str(one.wavelength)
result["map observer"] = [one.observer_coordinate.lat.deg, one.observer_coordinate.radius.m]
result["submap"] = one.submap([2, 2] * u.pix, width=3 * u.pix, height=3 * u.pix).data.shape
try:
    import asdf, asdf_astropy
except ModuleNotFoundError:
    pass
else:
    # Without us there are no objects, but the tree and its arrays; asdf says so.
    warnings.simplefilter("ignore")
    with asdf.open(folder + "/l3.asdf") as file:
        tree = file["cube"]
        result["asdf"] = tree["data"].shape, str(tree["unit"]), float(tree["uncertainty"]["array"][0, 1, 2, 3])
print(json.dumps(result))
"""


@pytest.mark.slow
def test_without_this_package(cube, files):
    path = next(iter((files / "images").glob("*_1_*_3.fits")))
    code = [sys.executable, "-c", OTHERS, str(files), str(path)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    image = cube[1, 2]
    world = cube.wcs.pixel_to_world_values(3, 4, 2, 1)
    np.testing.assert_allclose(result["world"], world, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result["back"], [3, 4, 2, 1], atol=1e-6)
    assert result["pixel"] == image.data[4, 3] or np.isnan(image.data[4, 3])
    assert (result["time"], result["channel"]) == (image.time.isot, 3.0)
    sky = [((float(value) + 180) % 360 - 180) * 3600 for value in world[:2]]
    np.testing.assert_allclose(result["sky"], sky, atol=1e-6)
    np.testing.assert_allclose(result["map sky"], sky, atol=1e-6)
    assert result["cropped"] == [2, 2, 5, 4]
    assert result["row"] == [3, cube.frame_number[1], cube.meta["file"][1, 2], image.time.isot]
    assert [json.loads(step)["name"] for step in result["steps"]] == ["bias", "despike"]
    assert result["map"] == "GenericMap"
    assert (result["map date"], result["map unit"], result["map line"]) == (
        image.time.isot,
        "ph / pix",
        "629.732 Angstrom",
    )
    aux = image.wcs.wcs.aux
    np.testing.assert_allclose(result["map observer"], [aux.hglt_obs, aux.dsun_obs], rtol=1e-9)
    assert result["submap"] == [4, 4]
    if importlib.util.find_spec("asdf_astropy"):
        assert result["asdf"] == [[3, 4, 12, 14], "ph / pix", float(cube.uncertainty.array[0, 1, 2, 3])]


def test_per_image_files(cube, tmp_path):
    files = cube.write_images(tmp_path / "images", tar=tmp_path / "all.tar.gz")
    stamps = [time.isot for time in cube.time]
    assert [path.name for path in files[:5]] == [
        *(f"ESIS_Level3_0_{stamps[0]}_{channel}.fits" for channel in (1, 2, 3, 4)),
        f"ESIS_Level3_1_{stamps[1]}_1.fits",
    ]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted(path.name for path in files)
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert archive.getnames() == [path.name for path in files]
        assert archive.extractfile(files[3].name).read() == files[3].read_bytes()
    with fits.open(files[6], checksum=True) as hdus:
        [hdu] = hdus
        image, header = cube[1, 2], hdu.header
        np.testing.assert_array_equal(hdu.data, image.data)
        assert (header["CAM_ID"], header["SEQUENCE"], header["FRAME"]) == (3, 1, 110)
        assert header["DATE_OBS"] == header["DATE-OBS"] == image.wcs.wcs.dateobs
        assert header["EXPTIME"] == image.wcs.wcs.xposure
        assert (header["FILENAME"], header["LABEL"]) == (files[6].name, "ESIS_Level3")
    assert sunpy.map.Map(files[6]).wavelength == 629.732 * u.AA
    with pytest.raises(FileExistsError, match="overwrite=True"):
        cube[1:].write_images(tmp_path / "images")
    with pytest.raises(FileExistsError, match=r"all\.tar\.gz"):
        cube.write_images(tmp_path / "other", tar=tmp_path / "all.tar.gz")
    assert not (tmp_path / "other").exists()
    # Parts keep the numbers of the whole.
    [again] = cube[1, 2].write_images(tmp_path / "images", overwrite=True)
    assert again == files[6]
    [labelled] = cube[:1, 2].write_images(tmp_path, label="He I/test", tar=tmp_path / "one.tar")
    assert labelled.name == f"He_I_test_0_{stamps[0]}_3.fits"
    assert fits.getheader(labelled)["LABEL"] == "He I/test"
    with pytest.raises(ValueError, match="known exposures and channels"):
        cube.difference(1, 2).write_images(tmp_path)
    with pytest.raises(ValueError, match="images"):
        cube[0, 0, 3].write_images(tmp_path)


def test_images_of_another_flight(tmp_path, request):
    flight = Flight.read(request.path.parents[1] / "data" / "second_flight.toml")
    cube = make_cube((1, 2, 3, 4))
    cube.meta.update({"flight": flight, "line": None, "frame_number": np.array([flight.light_frames[0][0] + 7])})
    name = cube.write_images(tmp_path)[1].name
    assert name == f"{flight.instrument}_Level3_7_{cube.time[0].isot}_2.fits"
    bare = ESISLevel3Cube(cube.data, wcs=cube.wcs)
    assert bare[:, 0].write_images(tmp_path)[0].name == f"Level3_0_{cube.time[0].isot}_1.fits"


@pytest.mark.slow
def test_center_and_roll(rolled, files):
    # As SolarSoft's maps have it: the center of the image, and the roll counter-clockwise about it, in the plane.
    for path in sorted((files / "rolled").iterdir()):
        header = fits.getheader(path)
        assert header["CROTA2"] == pytest.approx(30, abs=1e-9)
        x, y = (header["NAXIS1"] + 1) / 2 - header["CRPIX1"], (header["NAXIS2"] + 1) / 2 - header["CRPIX2"]
        cosine, sine = np.cos(np.radians(30)), np.sin(np.radians(30))
        assert header["XCEN"] == pytest.approx(0.6 * (cosine * x - sine * y), abs=1e-3)
        assert header["YCEN"] == pytest.approx(0.6 * (sine * x + cosine * y), abs=1e-3)
        # CROTA2 beside PCi_j changes nothing for those who read PCi_j.
        wcs = WCS(header)
        np.testing.assert_allclose(
            wcs.pixel_to_world_values(10, 8), rolled[0, 0].wcs.pixel_to_world_values(10, 8), atol=1e-12
        )


@pytest.mark.skipif(FITSVERIFY is None, reason="fitsverify of CFITSIO is not installed (Debian: fitsverify)")
def test_cfitsio_finds_no_fault(files):
    paths = sorted(map(str, files.rglob("*.fits")))
    done = subprocess.run([FITSVERIFY, "-q", *paths], capture_output=True, text=True, check=False)
    rows = done.stdout.strip().splitlines()
    assert len(rows) == len(paths) > 15
    # Warnings fail, too.
    assert [row for row in rows if not row.startswith("verification OK")] == []


def test_astropy_finds_no_fault(files):
    for path in files.rglob("*.fits"):
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")
            assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)


def test_solarnet(files):
    """To run it: ``pip install --no-deps solarnet_metadata``, whose pins are those of an old astropy."""
    validation = pytest.importorskip("solarnet_metadata.validation")
    whole = [files / f"{name}.fits" for name in ("l3", "uneven", "l1")]
    images = [*(files / "images").iterdir(), *(files / "rolled").iterdir()]
    for path in [*whole, *images]:
        header = fits.getheader(path, 0 if path in images else "DATA")
        assert header["OBS_HDU"] == 1
        found = validation.validate_header(header, is_obs=True, warn_data_type=True, warn_empty_keyword=True)
        # A keyword that is not in its list, for example LINE, does not violate it.
        assert [text for text in found if "not found in the schema" not in text] == []
    header = fits.getheader(files / "l3.fits", 0)
    found = validation.validate_header(header, is_primary=True, warn_data_type=True)
    assert [text for text in found if "not found in the schema" not in text] == []


GDL_SCRIPT = """
!path = !path + ':' + expand_path('+/usr/share/gnudatalanguage/astrolib')
data = readfits('{path}', header, /silent)
print, 'size', size(data, /dimensions)
print, 'value', data[3, 4], format='(A, " ", E20.10)'
foreach key, ['XCEN', 'YCEN', 'CROTA2', 'CDELT1', 'CDELT2', 'CRPIX1', 'CRVAL1', 'EXPTIME'] do $
  print, key, sxpar(header, key), format='(A, " ", E25.15)'
print, 'DATE_OBS ', sxpar(header, 'DATE_OBS')
; Coordinates of pixel (3, 4) as plot_map of SolarSoft has them, for a map without roll.
nx = sxpar(header, 'NAXIS1') & ny = sxpar(header, 'NAXIS2')
x = sxpar(header, 'XCEN') + (3 - (nx - 1) / 2.0d) * sxpar(header, 'CDELT1')
y = sxpar(header, 'YCEN') + (4 - (ny - 1) / 2.0d) * sxpar(header, 'CDELT2')
print, 'sky', x, y, format='(A, " ", 2E25.15)'
exit
"""


@pytest.mark.skipif(GDL is None, reason="GNU Data Language is not installed (Debian: gnudatalanguage, gdl-astrolib)")
def test_idl_reads_the_images(cube, files, tmp_path):
    path = next(iter((files / "images").glob("*_1_*_3.fits")))
    image = cube[1, 2]
    (tmp_path / "read.pro").write_text(GDL_SCRIPT.format(path=path))
    done = subprocess.run([GDL, "-quiet", str(tmp_path / "read.pro")], capture_output=True, text=True, check=False)
    if "READFITS" in done.stderr + done.stdout and "size" not in done.stdout:
        pytest.skip("GNU Data Language has no READFITS (Debian: gdl-astrolib)")
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines() if line.strip())
    assert rows["size"].split() == ["14", "12"], done
    header = fits.getheader(path)
    assert float(rows["value"]) == pytest.approx(image.data[4, 3], rel=1e-7, nan_ok=True)
    for key in ("XCEN", "YCEN", "CROTA2", "CDELT1", "CDELT2", "CRPIX1", "CRVAL1", "EXPTIME"):
        # Numbers of few digits are single precision there.
        assert float(rows[key]) == pytest.approx(header[key], rel=1e-7, abs=1e-12)
    assert rows["DATE_OBS"].strip() == header["DATE_OBS"]
    sky = np.array(rows["sky"].split(), dtype=float)
    place = image.wcs.pixel_to_world(3, 4)
    np.testing.assert_allclose(sky, [place.Tx.to_value(u.arcsec), place.Ty.to_value(u.arcsec)], atol=1e-4)
