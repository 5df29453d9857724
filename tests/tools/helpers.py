"""Tools for several tests: small cubes, and comparisons of two of them."""

import base64
import importlib.util
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

import astropy.units as u
from astropy.nddata import StdDevUncertainty
from astropy.time import Time
from ndcube.meta import NDMeta

from esis_ndcube import ESIS_1
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.utils.provenance import ProcessingStep
from esis_ndcube.wcs import level1_wcs, level3_wcs

START = Time("2019-09-30T18:06:08.123456789")


def make_times(count, seed=0):
    """Irregular times, about a cadence apart."""
    steps = np.random.default_rng(seed).uniform(10, 31, count)
    return START + (np.cumsum(steps) - steps[0]) * u.s


def make_cube(shape=(5, 3, 12, 14), *, level=3, channels=None, dtype=np.float32, seed=0, alignments=False):
    """A cube of random numbers with everything that a cube can have; some pixels are NaN."""
    rng = np.random.default_rng(seed)
    times, exposure_time = make_times(shape[0], seed), rng.uniform(9.9, 10.1, shape[0]) * u.s
    channels = np.arange(1, shape[1] + 1) if channels is None else np.asarray(channels)
    if level == 3:
        grid = ESIS_1.grid.deepcopy()
        grid.array_shape = shape[2:]
        grid.wcs.crpix = 5.25, 1 / 3
        wcs = level3_wcs(grid, times, channels, exposure_time=exposure_time)
        cls, unit = ESISLevel3Cube, u.photon / u.pix
    else:
        from esis_ndcube.level1 import ESISLevel1Cube as cls

        wcs, unit = level1_wcs(shape[2:], times, channels, exposure_time=exposure_time), u.electron
    data = rng.normal(20, 5, shape)
    if np.dtype(dtype).kind == "f":
        data[rng.random(shape) < 0.1] = np.nan
    data = data.astype(dtype)
    planes = shape[:2]
    exact = times[:, None] + np.zeros(planes) * u.s
    meta = {
        "flight": ESIS_1,
        "level": level,
        "frame_number": np.arange(109, 109 + shape[0]),
        "file": np.array([[f"{c}_{t}.fits" for c in channels] for t in range(shape[0])]),
        "mid_time": exact,
        "exposure_time": np.broadcast_to(exposure_time[:, None], planes, subok=True).copy(),
        "history": (ProcessingStep("bias", {"cut": 0.25}), ProcessingStep("despike", {})),
    }
    axes = {"frame_number": (0,), "file": (0, 1), "mid_time": (0, 1), "exposure_time": (0, 1)}
    if level == 3:
        meta |= {
            "line": "O V",
            "stage": "final",
            "reference": "flight pose",
            "alignment_final": None,
            "alignment_linear": None,
            "vignetting": None,
            "normalization": rng.uniform(0.9, 1.1, planes),
        }
        axes["normalization"] = (0, 1)
        if alignments:
            from esis_ndcube.corrections.vignetting import Vignetting

            meta["alignment_final"] = make_alignments(meta["frame_number"], channels, times)
            meta["alignment_linear"] = meta["alignment_final"].copy()
            meta["alignment_final"][0, 0] = None
            meta["vignetting"] = Vignetting.of_flight(ESIS_1, "O V")
            axes |= {"alignment_final": (0, 1), "alignment_linear": (0, 1)}
    flags = rng.integers(0, 64, shape).astype(np.uint8)
    return cls(
        data,
        wcs=wcs,
        uncertainty=StdDevUncertainty(rng.random(shape).astype(np.float32)),
        mask=rng.random(shape) < 0.2,
        flags=flags,
        meta=NDMeta(meta, axes=axes),
        unit=unit,
    )


def make_alignments(frames, channels, times):
    """Alignments of the flight's pose, shape (time, channel)."""
    from esis_ndcube.registration.alignment import Alignment

    array = np.empty((len(frames), len(channels)), dtype=object)
    for (i, j), _ in np.ndenumerate(array):
        array[i, j] = Alignment.from_pose(
            ESIS_1, int(channels[j]), frame_number=int(frames[i]), line="O V", time=times[i], grid=ESIS_1.grid
        )
    return array


def assert_wcs_equal(one, two):
    """The same WCS, to the last bit."""
    assert type(one) is type(two)
    assert one.array_shape == two.array_shape
    for name in ("crpix", "crval", "cdelt", "mjdref"):
        np.testing.assert_array_equal(getattr(one.wcs, name), getattr(two.wcs, name))
    np.testing.assert_array_equal(one.wcs.get_pc(), two.wcs.get_pc())
    assert list(one.wcs.ctype) == list(two.wcs.ctype)
    assert repr(one.to_header()) == repr(two.to_header())
    for a, b in zip(one.wcs.tab, two.wcs.tab, strict=True):
        np.testing.assert_array_equal(a.coord, b.coord)
    assert one._dropped == two._dropped
    np.testing.assert_array_equal(one.channels, two.channels)
    for name in ("seconds", "duration", "observer"):
        np.testing.assert_array_equal(getattr(one._exposures, name), getattr(two._exposures, name))


def assert_bits_equal(one, two):
    """The same numbers, NaN too, of the same type."""
    assert np.asarray(one).dtype == np.asarray(two).dtype
    assert np.shape(one) == np.shape(two)
    assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(two).tobytes()


def assert_cubes_equal(one, two):
    """Everything the same, to the last bit."""
    assert type(one) is type(two)
    assert_bits_equal(one.data, two.data)
    assert one.unit == two.unit
    for name in ("mask", "flags"):
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert_bits_equal(a, b)
    assert type(one.uncertainty) is type(two.uncertainty)
    if one.uncertainty is not None:
        assert_bits_equal(one.uncertainty.array, two.uncertainty.array)
        assert one.uncertainty.unit == two.uncertainty.unit
    assert_wcs_equal(one.wcs, two.wcs)
    assert list(one.meta) == list(two.meta)
    for key, a in one.meta.items():
        assert_values_equal(a, two.meta[key])
    axes = [{key: list(map(int, of)) for key, of in cube.meta.axes.items()} for cube in (one, two)]
    assert axes[0] == axes[1]
    assert dict(one.global_coords.physical_types) == dict(two.global_coords.physical_types)


def benchmark(name):
    """A module of the benchmarks, which are no package; where they are not there the test is skipped."""
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    if not path.exists():
        pytest.skip("the benchmarks are not part of this distribution")
    return load_script(path)


def load_script(path):
    """A module that is not part of any package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_values_equal(a, b):
    """The same metadata value."""
    if isinstance(a, Time):
        assert (a.scale, a.shape) == (b.scale, b.shape)
        np.testing.assert_array_equal(a.mask, b.mask)
        for part in ("jd1", "jd2"):
            parts = [np.ma.filled(np.ma.asarray(getattr(x, part)), 0.0) for x in (a, b)]
            np.testing.assert_array_equal(*parts)
    elif isinstance(a, u.Quantity):
        assert a.unit == b.unit
        assert_bits_equal(a.value, b.value)
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert a.shape == b.shape
        for x, y in zip(a.ravel(), b.ravel(), strict=True):
            assert_values_equal(x, y)
    elif isinstance(a, (np.ndarray, np.generic)) and a.dtype.kind != "U":
        assert_bits_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert_values_equal(value, b[key])
    elif hasattr(a, "transform"):
        assert_bits_equal(a.transform.coefficients, b.transform.coefficients)
        assert_bits_equal(a.covariance, b.covariance)
        assert_values_equal(a.reference_covariance, b.reference_covariance)
        assert (a.channel, a.frame_number, a.line, a.stage, a.shape) == (
            b.channel,
            b.frame_number,
            b.line,
            b.stage,
            b.shape,
        )
        assert_values_equal(a.time, b.time)
    elif hasattr(a, "slopes"):
        assert (a.slopes, a.line, a.source, a.systematic) == (b.slopes, b.line, b.source, b.systematic)
        assert a.contamination == b.contamination
        assert_bits_equal(a.covariance, b.covariance)
    else:
        np.testing.assert_array_equal(a, b)


def slow(*values):
    """Parameters of a test that is not for every day."""
    return pytest.param(*values, marks=pytest.mark.slow)


def daily(first, *others):
    """Parameters of which the first is for every day."""
    return [first, *(slow(*other) if isinstance(other, tuple) else slow(other) for other in others)]


class Page(HTMLParser):
    """The parts of a page that tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.tables, self.ids = [], [], [], []
        self._open, self._text = [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "link", "img", "input", "br"):
            self._open.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[key] for key in ("src", "href") if key in attrs]
        if tag == "img":
            self.images.append(attrs)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1].append(data)
        if self._open and self._open[-1] == "caption":
            self.tables[-1].insert(0, data)
        self._text.append(data)

    @property
    def text(self):
        return " ".join("".join(self._text).split())

    def table(self, caption):
        (found,) = [rows[2:] for rows in self.tables if rows[0] == caption]
        return found


def picture(source):
    head, data = source.split(",", 1)
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def is_gray(shown):
    """Pixels of a picture in the color of no data, as far as WebP keeps colors."""
    return np.abs(shown[..., :3].astype(int) - 127).max(axis=-1) < 12


class Recorder:
    """An array that remembers which of its images were read."""

    def __init__(self, array):
        self.array, self.shape, self.ndim, self.dtype = array, array.shape, array.ndim, array.dtype
        self.read = []

    def __getitem__(self, item):
        first, second = (np.atleast_1d(np.arange(n)[part]) for n, part in zip(self.shape, item[:2], strict=False))
        self.read += [(int(i), int(j)) for i in first for j in second]
        return self.array[item]


def make_lazy(cube):
    """A cube whose arrays are read image by image, and what remembers which of the data and of the mask were."""
    import dask.array as da

    def lazy(array):
        recorder = Recorder(np.asarray(array))
        chunks = (*(1,) * (array.ndim - 2), *array.shape[-2:])
        return da.from_array(recorder, chunks=chunks, name=False, asarray=False, meta=recorder.array), recorder

    parts = {name: lazy(getattr(cube, name)) for name in ("data", "mask", "flags")}
    uncertainty = type(cube.uncertainty)(lazy(cube.uncertainty.array)[0])
    arrays = {name: array for name, (array, _) in parts.items()}
    copy = type(cube)(**arrays, wcs=cube.wcs, uncertainty=uncertainty, meta=cube.meta, unit=cube.unit)
    return copy, parts["data"][1].read, parts["mask"][1].read


def make_context(cube, unit="DN"):
    """Images of another telescope, which are the cube's first channel."""
    import sunpy.map

    maps = []
    for index in range(cube.shape[0]):
        header = cube[index, 0].wcs.to_header()
        header.update({"TELESCOP": "SDO/AIA", "INSTRUME": "AIA_4", "WAVELNTH": 304, "WAVEUNIT": "Angstrom"})
        maps.append(
            sunpy.map.Map(np.where(cube[index, 0].mask, np.nan, cube[index, 0].data), {**header, "BUNIT": unit})
        )
    return cube.context(maps, order="nearest-neighbor")


def view(scene, transform, shape, noise=None):
    """The image that the transform makes of a scene: image(x, y) = scene(transform(x, y)), NaN outside of it."""
    y, x = np.indices(shape, dtype=float)
    values = map_coordinates(scene, np.stack(transform(x, y)[::-1]), order=3, cval=np.nan)
    return values if noise is None else noise.poisson(np.maximum(np.nan_to_num(values), 0)).astype(float)
