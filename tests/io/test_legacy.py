"""Legacy pickles: the same images and coordinates as the team's own classes give, and nothing in them is run."""

import contextlib
import os
import pickle
import sys
import types
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import assert_bits_equal, assert_cubes_equal, load_script
from hypothesis import HealthCheck, given, settings
from scipy.ndimage import map_coordinates

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from ndcube import NDCube
from sunpy.util.exceptions import SunpyUserWarning

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube, Flight, reproject_alignment
from esis_ndcube.cube import ESISCube
from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.io.legacy import read_legacy_alignments
from esis_ndcube.level3.context import ContextCube

LEVEL3 = "esis.data.level_3"
COALIGNMENT = "kgpy.img.coalignment.image_coalignment"


@pytest.fixture(scope="module")
def folder(request):
    return request.path.parents[1] / "data" / "legacy"


@pytest.fixture(scope="module")
def expected(folder):
    """The output of the team's classes for the files, from the run that made them."""
    with np.load(folder / "expected.npz") as file:
        return dict(file)


def read(path, **kwargs):
    with pytest.warns(SunpyUserWarning, match="repaired the channels"):
        return ESISLevel3Cube.read(path, **kwargs)


def test_images_and_coordinates(folder, expected):
    cube = read(folder / "ov_Level3_final.pickle")
    assert cube.unit == u.photon / u.pix
    assert_bits_equal(cube.data, expected["final"])
    # The class divides by its vignetting and multiplies by numbers of one per image, here found independently.
    ratio = cube.data * expected["vignetting"] / expected["updated"]
    np.testing.assert_allclose(ratio, ratio[..., :1, :1] + 0 * ratio, rtol=1e-12)
    assert cube.mask.dtype == bool
    np.testing.assert_array_equal(cube.mask, expected["mask"] == 0)
    assert 0.1 < cube.mask.mean() < 0.9
    world = np.array(cube.wcs.pixel_to_world_values(*expected["pixels"]))
    np.testing.assert_allclose(world[:2] * 3600, expected["world"][:2] * 3600, atol=1e-6, rtol=0)
    # The repairs: a channel and a cadence, of 10.41 s.
    np.testing.assert_array_equal(world[2], expected["world"][2] - 1)
    late = (Time(expected["times"], scale="utc") - cube.time).to_value(u.s)
    np.testing.assert_allclose(late, 10.41, atol=1e-3)
    assert cube.time[0].isot == "2019-09-30T18:06:08.437"
    assert cube.channel.tolist() == [1, 2, 3, 4]
    assert cube.frame_number.tolist() == [109, 110, 111]
    assert (cube.line, cube.flight, cube.stage) == ("O V", ESIS_1, "final")
    assert cube.vignetting.slopes == {1: 0.436, 2: 0.340, 3: 0.382, 4: 0.495}
    header = cube[1, 2].wcs.to_header()
    assert header["DATE-AVG"] == "2019-09-30T18:06:18.847000032"
    assert abs(header["HGLN_OBS"]) < 1e-6
    assert 6 < header["HGLT_OBS"] < 7
    names = "read_legacy repair_channels repair_times repair_observer repair_mask correct_vignetting"
    assert [step.name for step in cube.history] == names.split()
    assert "Channel Index 1" in cube.meta["description"]
    with pytest.raises(ValueError, match="corrected already"):
        cube.correct_vignetting()


@pytest.mark.parametrize(
    ("name", "truth", "attribute", "stage"),
    [
        ("ov_Level3_initial.pickle", "initial", "alignment_linear", "linear"),
        ("ov_Level3_final.pickle", "updated", "alignment_final", "final"),
    ],
)
@pytest.mark.slow
def test_alignments_make_the_same_images(folder, expected, name, truth, attribute, stage):
    cube = read(folder / name)
    alignments = getattr(cube, attribute)
    assert cube.alignment is alignments
    frame = load_script(folder / "scene.py").frame
    y, x = np.indices(cube.shape[-2:])
    for (t, c), alignment in np.ndenumerate(alignments):
        assert (alignment.frame_number, alignment.channel, alignment.stage) == (109 + t, 1 + c, stage)
        image = frame(t, c)
        u_pixel, v_pixel = alignment.transform(x, y)
        by_scipy = map_coordinates(image, [v_pixel, u_pixel], mode="mirror")
        np.testing.assert_allclose(by_scipy, expected[truth][t, c], atol=1e-6, rtol=0)
        if t == c:
            by_us, _ = reproject_alignment((image, alignment), alignment.grid)
            np.testing.assert_allclose(by_us, expected[truth][t, c], atol=1e-6, rtol=0)
    world = cube[1, 1].wcs.pixel_to_world_values(3.0, 4.0)
    back = alignments[1, 1].world_to_detector(*(world * u.deg))
    np.testing.assert_allclose(back, alignments[1, 1].transform(3.0, 4.0), atol=1e-6)


def test_the_cube_is_one_of_ours(folder, tmp_path):
    cube = read(folder / "ov_Level3_final.pickle")
    for name in ("a.fits", "a.asdf"):
        cube.write(tmp_path / name)
        assert_cubes_equal(ESISLevel3Cube.read(tmp_path / name), cube)
    assert cube[1:, 0].alignment[0].frame_number == 110
    assert cube.difference(2, 3).shape == (3, 13, 13)
    assert cube[0, 0].uncorrect_vignetting().vignetting is None


def test_missing_transforms(folder, tmp_path):
    path = tmp_path / "ov_Level3_final.pickle"
    path.write_bytes((folder / path.name).read_bytes())
    cube = read(path)
    assert cube.alignment is None
    assert cube.stage is None
    cube = read(path, transforms=folder / "ov_Level3_transform_updated.pickle")
    assert cube.alignment.shape == (3, 4)
    with pytest.raises(FileNotFoundError):
        ESISLevel3Cube.read(path, transforms=tmp_path / "none.pickle")


def test_given_observer(folder):
    place = SkyCoord(3 * u.deg, 2 * u.deg, 0.9 * u.AU, frame="heliographic_stonyhurst", obstime="2019-09-30")
    with pytest.warns(SunpyUserWarning) as caught:
        cube = ESISLevel3Cube.read(folder / "ov_Level3_initial.pickle", observer=place)
    assert "observer" not in str(caught[0].message)
    assert cube[0, 0].wcs.wcs.aux.hglt_obs == pytest.approx(2)


def test_other_readers(folder):
    with pytest.warns(SunpyUserWarning):
        assert type(ESISCube.read(folder / "ov_Level3_initial.pickle")) is ESISCube
    for cls in (ESISLevel1Cube, ContextCube):
        with pytest.raises(CubeFileError, match=f"expected a file of an {cls.__name__}: read Level-3 pickles with"):
            cls.read(folder / "ov_Level3_initial.pickle")
    with pytest.raises(CubeFileError, match="TransformCube, expected esis"):
        ESISLevel3Cube.read(folder / "ov_Level3_transform.pickle")
    with pytest.raises(FileNotFoundError):
        ESISLevel3Cube.read(folder / "none.pickle")


def test_names_of_files(folder, tmp_path):
    path = folder / "ov_Level3_initial.pickle"
    for name in ("a.pkl", "a.PICKLE", "a.dat"):
        (tmp_path / name).write_bytes(path.read_bytes())
    expected = read(path)
    for name in (tmp_path / "a.pkl", str(tmp_path / "a.PICKLE")):
        assert_bits_equal(read(name).data, expected.data)
    with pytest.raises(CubeFileError, match="read it with format='legacy'"):
        ESISLevel3Cube.read(tmp_path / "a.dat")
    assert_bits_equal(read(tmp_path / "a.dat", format="legacy").data, expected.data)
    with pytest.raises(ValueError, match="lazy=True for the format 'legacy'"):
        ESISLevel3Cube.read(path, lazy=True)


# ------------------------------------------------------------------------------------------ files made here
# Stand-ins of the same module paths and attributes, which pickle looks up while it writes.


@pytest.fixture
def legacy(monkeypatch):
    """Classes of the team's packages by their names, importable while a file is written."""
    made = types.SimpleNamespace()
    for path, names in {LEVEL3: ["Level_3"], COALIGNMENT: ["TransformCube", "ImageTransform"]}.items():
        module = types.ModuleType(path)
        for name in names:
            cls = type(name, (), {"__module__": path})
            setattr(module, name, cls)
            setattr(made, name, cls)
        if path == COALIGNMENT:
            for name in ("modified_affine", "quadratic_transform"):
                function = types.FunctionType((lambda: None).__code__, {}, name)
                function.__module__, function.__qualname__ = path, name
                setattr(module, name, function)
                setattr(made, name, function)
        parts = path.split(".")
        for n in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:n]), types.ModuleType(".".join(parts[:n])))
        monkeypatch.setitem(sys.modules, path, module)
    return made


def fill(obj, **state):
    obj.__dict__.update(state)
    return obj


def make_level3(legacy, channels=4, *, fault=1, mask=None, line="ov", shape=(2, 5, 6), **state):
    header = {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CTYPE3": "CAMERA_ID", "CTYPE4": "UTC"}
    header |= {"CUNIT1": "deg", "CUNIT2": "deg", "CUNIT3": "pix", "CUNIT4": "s", "CDELT3": 1, "CDELT4": 10.0}
    header |= {"CDELT1": 1 / 6000, "CDELT2": 1 / 6000, "CRVAL3": 1, "CRPIX3": 1 - fault, "CRPIX4": 1}
    header |= {"CRVAL4": 10.0 * fault, "MJDREF": 58756.75, "DATEREF": "2019-09-30T18:00:00.000"}
    data = np.arange(np.prod(shape) * channels, dtype=float).reshape(shape[0], channels, *shape[1:])
    observation = NDCube(data, WCS(header), meta={"Description": "made here"}, mask=mask)
    parts = {"observation": observation, "transformation_objects": None, "spectral_line_name": line}
    parts |= {"lev1_sequences": np.arange(shape[0]), "lev1_cameras": np.arange(channels)}
    return fill(legacy.Level_3(), **{"vignetting_correction_params": None} | parts | state)


@pytest.mark.parametrize("protocol", [4, 5])
def test_ndcube_of_today(tmp_path, legacy, protocol):
    obj = make_level3(legacy)
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(obj, protocol))
    cube = read(tmp_path / "a.pickle")
    assert_bits_equal(cube.data, obj.observation.data)
    assert cube.data.flags.writeable
    assert cube.mask is None
    assert cube.alignment is None
    assert cube.time.isot.tolist() == ["2019-09-30T18:00:00.000", "2019-09-30T18:00:10.000"]


def test_only_found_faults_are_repaired(tmp_path, legacy):
    good = make_level3(legacy, fault=0, mask=np.zeros((2, 4, 5, 6), dtype=bool))
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(good, 4))
    with pytest.warns(SunpyUserWarning) as caught:
        cube = ESISLevel3Cube.read(tmp_path / "a.pickle")
    assert str(caught[0].message) == "a.pickle: repaired the observer, which was missing and now is Earth"
    assert [step.name for step in cube.history] == ["read_legacy", "repair_observer"]
    assert not cube.mask.any()
    assert cube.channel.tolist() == [1, 2, 3, 4]
    assert cube.time[0].isot == "2019-09-30T18:00:00.000"


def test_second_flight(tmp_path, legacy, request):
    flight = Flight.read(request.path.parents[1] / "data" / "second_flight.toml")
    line = flight.formable_lines[0]
    numbers = [channel.number for channel in flight.channels]
    obj = make_level3(legacy, len(numbers), line=line.replace(" ", "").lower())
    obj.vignetting_correction_params = np.linspace(0.1, 0.6, len(numbers))
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(obj, 5))
    cube = read(tmp_path / "a.pickle", flight=flight)
    assert (cube.line, cube.channel.tolist()) == (line, numbers)
    assert cube.frame_number[0] == flight.light_frames[0][0]
    assert list(cube.vignetting.slopes.values()) == obj.vignetting_correction_params.tolist()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"line": "xx"}, "line 'xx', expected one of O V"),
        ({"mask": np.full((2, 4, 5, 6), 0.5)}, "expected zeros and ones"),
        ({"channels": 5}, "channel 5"),
        ({"lev1_cameras": np.arange(3)}, "expected \\(2, 3, y, x\\)"),
        ({"observation": None}, "expected an object ndcube.ndcube.NDCube"),
        ({"lev1_sequences": np.array(["a", "b"])}, "expected numbers"),
        ({"vignetting_correction_params": np.ones(3)}, "shorter|longer"),
    ],
)
def test_other_structures(tmp_path, legacy, state, message):
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(make_level3(legacy, **state), 4))
    with pytest.raises(CubeFileError, match=message):
        ESISLevel3Cube.read(tmp_path / "a.pickle")


def make_transforms(legacy, crop, count=2):
    item = {
        "transform": np.array([1.2, 1.25, 0.0, 0.0, 0.0, 0.0, -22.5]),
        "origin": np.array([920, 924]),
        "transform_func": legacy.modified_affine,
        "initial_crop": (slice(None), slice(999, None)),
        "initial_pad": ((400, 400), (400, 400)),
        "post_transform_size": (4096, 4096),
        "post_transform_translation": (np.int64(1100), np.int64(1150)),
        "post_transform_crop": crop,
    }
    rows = [[fill(legacy.ImageTransform(), **item) for _ in range(4)] for _ in range(count)]
    return fill(legacy.TransformCube(), transform_cube=rows)


def test_transforms_of_a_whole_flight(tmp_path, legacy):
    path = tmp_path / "ov_Level3_transform.pickle"
    crop = slice(1380, 2650), slice(1435, 2705)
    path.write_bytes(pickle.dumps(make_transforms(legacy, crop), 4))
    alignments = read_legacy_alignments(path, "O V")
    assert alignments.shape == (2, 4)
    one = alignments[1, 2]
    assert (one.frame_number, one.channel, one.line, one.stage) == (110, 3, "O V", "linear")
    assert one.time == ESIS_1.mid_time(110)
    # By the recipe, the origin of the padded frame stays, is moved by the roll of the image, and cut out.
    x, y = 924 + 1150 - 1435, 920 + 1100 - 1380
    np.testing.assert_allclose(one.transform(x, y), (924 - 400 + 999, 920 - 400), atol=1e-9)
    with pytest.raises(ValueError, match="line"):
        read_legacy_alignments(path, "no such line")


@pytest.mark.parametrize("crop", [(slice(1381, 2651), slice(1435, 2705)), (slice(1380, 2649), slice(1435, 2704))])
def test_transforms_to_another_grid(tmp_path, legacy, crop):
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(make_transforms(legacy, crop), 4))
    with pytest.raises(CubeFileError, match="pixels around"):
        read_legacy_alignments(path, "O V")


def test_transforms_of_another_cube(folder, tmp_path, legacy):
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(make_transforms(legacy, (slice(1990, 2003), slice(2064, 2077))), 4))
    with pytest.raises(CubeFileError, match=r"2 exposures of 4 channels, expected \(3, 4\)"):
        ESISLevel3Cube.read(folder / "ov_Level3_final.pickle", transforms=path)


# ------------------------------------------------------------------------------------------ hostile files


class Evil:
    """Unpickling it calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def text(value):
    value = value.encode()
    return b"\x8c" + bytes([len(value)]) + value


def global_(module, name):
    return text(module) + text(name) + b"\x93"


PROTO = b"\x80\x04"
HOSTILE = {
    "dotted": PROTO + global_(LEVEL3, "Level_3.__init__.__globals__") + b".",
    "dotted module": PROTO + global_("numpy.core.multiarray", "scalar.__class__") + b".",
    "getattr": PROTO + global_("builtins", "getattr") + global_("os", "path") + text("os") + b"\x86R.",
    "import": PROTO + global_("builtins", "__import__") + text("antigravity") + b"\x85R.",
    "numpy": PROTO + global_("numpy.testing._private.utils", "runstring") + text("1/0") + b"}\x86R.",
    "partial": PROTO + global_("functools", "partial") + global_("os", "system") + b"\x85R.",
    "protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "instance": b"(S'true'\nios\nsystem\n.",
    "object": b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "extension": b"\x80\x02\x82\xf0.",
    "persistent": PROTO + text("x") + b"Q.",
    "persistent 0": b"Px\n.",
    "keywords": PROTO + global_(LEVEL3, "Level_3") + b")}\x92.",
    "no class": PROTO + text(LEVEL3) + b")\x81.",
    "buffer": b"\x80\x05\x97.",
    "empty": b"",
    "nothing": PROTO,
    "number": PROTO + b"K\x01.",
    "class itself": PROTO + global_(LEVEL3, "Level_3") + b".",
    "huge": PROTO + b"\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "text": b"Dear colleagues,",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "system", lambda *args: pytest.fail("a program was run"))
    path = tmp_path / "a.pickle"
    path.write_bytes(HOSTILE[name])
    modules = set(sys.modules)
    for function in (ESISLevel3Cube.read, lambda path: read_legacy_alignments(path, "O V")):
        with pytest.raises(CubeFileError):
            function(path)
    assert "antigravity" not in sys.modules
    assert not {name for name in set(sys.modules) - modules if name.startswith(("esis.", "kgpy"))}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, exec, print, getattr, open])
def test_hostile_calls(tmp_path, legacy, protocol, function):
    marker = tmp_path / "marker"
    args = {os.system: f"touch {marker}", eval: f"open({str(marker)!r}, 'w')", exec: f"open({str(marker)!r}, 'w')"}
    evil = Evil(function, *((marker, "w") if function in (getattr, open) else (args.get(function, "x"),)))
    objects = [
        evil,
        np.array([1, evil], dtype=object),
        make_level3(legacy, spectral_line_name=evil),
        make_level3(legacy, lev1_cameras=np.array([evil, 1], dtype=object)),
    ]
    for obj in objects:
        path = tmp_path / "a.pickle"
        path.write_bytes(pickle.dumps(obj, protocol))
        with pytest.raises(CubeFileError, match="refused"):
            ESISLevel3Cube.read(path)
    assert not marker.exists()


def test_arrays_of_objects(tmp_path, legacy):
    # Only names that are allowed, but an array that would hold pointers.
    for dtype in (object, "U3", "M8[s]", [("a", "f8")], "V8"):
        cameras = np.zeros(4, dtype=dtype)
        (tmp_path / "a.pickle").write_bytes(pickle.dumps(make_level3(legacy, lev1_cameras=cameras), 4))
        with pytest.raises(CubeFileError):
            ESISLevel3Cube.read(tmp_path / "a.pickle")


def test_state_of_the_classes_is_not_kept(folder, tmp_path):
    # BUILD on a class itself, with attributes for it: what it changes must end with the file.
    attack = global_(LEVEL3, "Level_3") + b"}N" + text("__setstate__") + text("x") + b"s\x86b0"
    good = (folder / "ov_Level3_initial.pickle").read_bytes()
    path = tmp_path / "a.pickle"
    path.write_bytes(PROTO + attack + b"N.")
    with pytest.raises(CubeFileError):
        ESISLevel3Cube.read(path)
    path.write_bytes(good)
    assert read(path).shape == (3, 4, 13, 13)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), torn=st.booleans())
@pytest.mark.slow
def test_damaged_files(folder, tmp_path, place, value, torn):
    for name in ("ov_Level3_initial.pickle", "ov_Level3_transform.pickle"):
        content = bytearray((folder / name).read_bytes())
        index = int(place * len(content))
        content = content[:index] if torn else content[:index] + bytes([value]) + content[index + 1 :]
        path = tmp_path / "a.pickle"
        path.write_bytes(content)
        if torn:
            with pytest.raises(CubeFileError, match="is damaged"):
                ESISLevel3Cube.read(path)
            continue
        # A byte of the numbers may be any; all else is an error of the one class.
        with warnings.catch_warnings(), contextlib.suppress(CubeFileError):
            warnings.simplefilter("ignore")
            if "transform" in name:
                ESISLevel3Cube.read(folder / "ov_Level3_initial.pickle", transforms=path)
            else:
                ESISLevel3Cube.read(path)
