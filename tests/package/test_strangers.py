"""Every public function, given odd but legitimate inputs."""

import itertools
import re
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import make_context, make_cube
from public import public_objects
from scipy.ndimage import gaussian_filter
from strangers import (
    ARRAYS,
    CONTENTS,
    CUBES,
    FEW,
    FRAMES,
    HIDING,
    LAYOUTS,
    MASKED,
    PLACES,
    SHARED,
    TYPES,
    Refused,
    all_but_one,
    beside,
    bits,
    block,
    close,
    constant,
    elsewhere,
    everything,
    few,
    nearly,
    only,
    pairs,
    parts,
    pointwise,
    rebuild,
    same,
    valid,
)

import astropy.units as u
from astropy.io import fits
from astropy.nddata import NDData, StdDevUncertainty
from astropy.table import Table
from astropy.utils.masked import Masked
from ndcube.meta import NDMeta
from sunpy.map import GenericMap, Map

from esis_ndcube import (
    coalign,
    field_stop,
    form_level3,
    operations,
    quality,
    registration,
    resample,
    velocity_map,
    visualization,
)
from esis_ndcube.corrections import masks, normalize
from esis_ndcube.corrections.vignetting import (
    Vignetting,
    fit_vignetting,
    masked_difference_trend,
)
from esis_ndcube.cube import ESISCube
from esis_ndcube.io import fits as io_fits
from esis_ndcube.io import images as io_images
from esis_ndcube.io.asdf import read_asdf, write_asdf
from esis_ndcube.io.fits import exposure_header
from esis_ndcube.level1 import calibration, despike
from esis_ndcube.level3.context import context_cube
from esis_ndcube.net.fetch import nearest_images
from esis_ndcube.registration import PolynomialTransform, aia
from esis_ndcube.simulate import simulate_flight, true_alignment, true_cube


class Data:
    """The plain inputs."""

    def __init__(self, folder, small_flight):
        self.folder, self.number = folder, itertools.count()
        rng = np.random.default_rng(1)
        self.simulated = simulate_flight(size=8, n_exposures=2, seed=1, missing=False, blank=False)
        self.flight = self.simulated.flight
        self.detector, self.frames = self.flight.detector, self.simulated.frame_numbers
        scene = np.exp(4 * gaussian_filter(rng.normal(size=(70, 80)), 2)) * 100
        self.scene, self.moved = (scene[a : a + 60, a : a + 70].astype(np.float32) for a in (4, 3))
        self.image = rng.uniform(50, 3e4, self.detector.shape).astype(np.float32)
        rows, columns = np.indices(self.detector.shape)
        inside = field_stop.line_region(self.flight, 1, "O V", columns, rows, shift=(1, -2))
        self.stop = (inside * 100 + 5 * gaussian_filter(self.image / 3e4, 1)).astype(np.float32)
        # Its left third is dark.
        self.dim = np.where(columns < 90, self.image * 0.001, self.image).astype(np.float32)
        self.raw = (self.simulated.raw(self.frames[0], 1)).astype(np.float32)
        self.darks = [rng.normal(30, 3, self.detector.shape).astype(np.float32) for _ in range(3)]
        self.x, self.y = np.meshgrid(np.arange(40.0, 52), np.arange(60.0, 70))
        self.images = np.stack([self.scene, self.moved])[:, None]
        self.good = np.ones(self.scene.shape, dtype=bool)
        self.good[40:44, 40:44] = False
        self.start = PolynomialTransform.from_affine([[1, 0, -0.7], [0, 1, -0.8]], origin=(35, 30), scale=35)
        self.bent = PolynomialTransform([[30, 30, 1, 0.2, 0.1, 0.3], [20, 2, 30, 0.3, 0.2, 0.1]], (35, 30), 35)
        self.alignment = true_alignment(self.simulated, self.frames[0], 1)
        self.found = coalign(self.moved, self.scene, transform="shift")
        self.vignetting = Vignetting.of_flight(self.flight, "O V")
        self.truth = self.simulated.truth
        cube = make_cube((2, 2, 12, 14), alignments=True)
        cube.data[np.isnan(cube.data)] = 20
        cube.meta["alignment_final"][0, 0] = cube.meta["alignment_final"][1, 0]
        self.cube = cube
        self.raw_frames = small_flight.level1[:1, :2]
        self.level1 = make_cube((2, 2, 12, 14), level=1)
        self.level1.data[np.isnan(self.level1.data)] = 20
        self.context = self._context(cube)
        self.target = cube.wcs.celestial[1:, 2:]
        self.target.array_shape = 11, 12
        self.corners = cube.wcs.celestial.pixel_to_world([3, 9, 8], [2, 7, 9])
        pixels = cube.wcs.celestial.pixel_to_world_values([3, 9, 8], [2, 3, 9])
        self.polygon = masks.PolygonMask(((np.array(pixels).T + 180) % 360 - 180) * u.deg)
        sun = true_cube(self.simulated)[:, :2, 20:140, 20:140]
        seen = np.isfinite(sun.data)
        self.sun = rebuild(sun, data=np.where(seen, sun.data, 0).astype(np.float32), mask=sun.mask | ~seen)
        self.corrected = self.sun.correct_vignetting(self.vignetting)
        meta = {key: value for key, value in self.sun.meta.items() if not key.startswith("alignment")}
        axes = {key: axis for key, axis in self.sun.meta.axes.items() if key in meta}
        self.unaligned = rebuild(self.sun, meta=NDMeta(meta, axes=axes))
        four = true_cube(self.simulated)[:, :, 40:110, 40:110]
        seen = np.isfinite(four.data)
        self.four = rebuild(four, data=np.where(seen, four.data, 0).astype(np.float32), mask=four.mask | ~seen)
        self.map = self._map(self.sun)
        self.placed = replace(self.found, reference_wcs=self.map.wcs, image_shape=self.map.data.shape)

    def _context(self, cube):
        one = make_context(cube)
        sigma = StdDevUncertainty(np.random.default_rng(2).uniform(1, 2, one.shape).astype(np.float32))
        filled = np.where(np.isfinite(one.data), one.data, 20).astype(np.float32)
        return rebuild(one, data=filled, uncertainty=sigma, mask=one.mask, flags=np.zeros(one.shape, "u1"))

    def _map(self, cube):
        """The view of another telescope of the field of view."""
        header = cube[0, 1].wcs.to_header()
        header.update(
            {"TELESCOP": "SDO/AIA", "INSTRUME": "AIA_4", "WAVELNTH": 304, "WAVEUNIT": "Angstrom", "BUNIT": "DN"}
        )
        return Map(np.where(np.isfinite(cube.data[0, 1]), cube.data[0, 1], 1).astype(np.float32), header)

    def new(self, suffix=""):
        return self.folder / f"{next(self.number)}{suffix}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory, small_flight):
    return Data(tmp_path_factory.mktemp("strangers"), small_flight)


@dataclass(frozen=True)
class Entry:
    """
    How to call a function: ``call(s, d)`` makes with ``s`` a stranger of any of the plain inputs ``d``.

    ``but`` says for which strangers the relation is another one than theirs.
    """

    call: object
    rows: list
    but: dict = field(default_factory=dict)


def arrays(call, *holes, but=None, rows=ARRAYS):
    """Of arrays; ``holes`` are the relations of a block of NaN, of one valid pixel and of none."""
    names = "NaN block", "one valid pixel", "all NaN"
    return Entry(call, rows, dict(zip(names, holes, strict=bool(holes))) | (but or {}))


def cubes(call, but=None, rows=CUBES):
    return Entry(call, rows, but or {})


def xy(method, *holes, but=None):
    return arrays(lambda s, d: method(d, s(d.x), s(d.y)), *holes, but=but)


def coordinate(x):
    """In arcsec, as far as that can be said."""
    if isinstance(x, np.ma.MaskedArray):
        return Masked(x.data, mask=x.mask) * u.arcsec
    return x if isinstance(x, NDData | fits.ImageHDU | GenericMap) else x * u.arcsec


def same_place(odd, plain):
    """The same alignment, to a few hundredths of a pixel."""
    np.testing.assert_allclose(odd.transform(30, 25), plain.transform(30, 25), atol=0.05)
    assert odd.converged


def few_lost(odd, plain):
    """A hole in an image is a hole in what is made of it, somewhat larger."""
    for name, one, other in pairs(odd, plain):
        lost = np.isfinite(other) & ~np.isfinite(one) | (one != other)
        assert 0 < lost.sum() < 0.05 * lost.size, name


NO_STRUCTURE = Refused(ValueError, "expected an image with some structure")
NO_VALID = Refused(ValueError, "without valid pixels, expected")
NO_UNIT, NO_NUMBER = Refused(u.UnitConversionError, "convertible"), Refused(TypeError, "numeric type")
# Of an image that is to be recognized neither unit nor container matter.
IMAGE = {"Quantity": bits, "NDData": bits, "HDU": Refused(TypeError, "expected"), "Map": bits}
# Sums in another order.
ORDER = {"Fortran": close}
ALIKE = {"Fortran": same_place, "Map": same_place}


def corners(cube, d):
    """Pixels x = 3, y = 2 and x = 9, y = 7, as points to crop by."""
    return [[corner, *[None] * (cube.data.ndim - 2)] for corner in d.corners[:2]]


def values(cube, d):
    return [[corner.Tx, corner.Ty, *[None] * (cube.data.ndim - 2)] for corner in d.corners[:2]]


def put(write, cube, path):
    write(cube, path)
    return path


def image(cube):
    return cube[(0,) * (cube.data.ndim - 2)] if cube.data.ndim > 2 else cube


def first_of(points):
    return [point[0] for point in points]


def fresh(one):
    """A Map drawn in a figure of its own."""
    plt.figure()
    return one.plot().axes


def words(query):
    return [str(getattr(attr, "value", None) or attr.isot) for attr in query.attrs]


def stored(files):
    """The data of the first image of each file."""
    return [next(array for name, array in parts(file) if array.ndim) for file in files]


def cards(header):
    return {key: header[key] for key in header if key not in ("HISTORY", "COMMENT", "", "DATE")}


def pointwise_data(holes=None):
    return lambda odd, plain: pointwise(holes)(odd.data, plain.data)


def in_unit(odd, plain):
    assert odd.unit == plain.unit * u.DN
    bits(odd.data, plain.data)


def scaled(odd, plain):
    """Files and pictures are in the cube's own unit."""
    close([1000 * part for _, part in parts(odd)], [part for _, part in parts(plain)])


def elsewhere_on_the_sun(odd, plain):
    """Seen 30 deg away the target shows other pixels."""
    assert odd.shape == plain.shape
    assert odd.data.tobytes() != plain.data.tobytes()


def not_lower(odd, plain):
    """The minimum over fewer channels."""
    known = np.isfinite(odd.data) & ~plain.mask
    assert (odd.data >= plain.data)[known].all()


def larger(odd, plain):
    """Fewer images have a larger clean region."""
    if isinstance(odd, Table):
        assert (odd["pixels"] >= plain["pixels"][0]).all()
    else:
        assert (odd >= plain).all()
        assert odd.any()


def inside(table):
    """Without what counts pixels that are masked, or NaN as 0, as it was published."""
    return table[[name for name in table.colnames if name not in ("full", "clipped", "correlation full")]]


def roughly(odd, plain):
    """To 0.01 arcsec: the frame of one time for all exposures."""
    np.testing.assert_allclose((odd.vertices - plain.vertices).to_value("arcsec"), 0, atol=0.01)


def faintly(odd, plain):
    """Logarithms of other numbers in float32."""
    close(odd, plain, 1e-4)


def another(odd, plain):
    assert odd != plain


def foreshortened(odd, plain):
    """Pixels of another view, but the directions on the sky of the alignments."""
    assert (odd["direction"] == plain["direction"]).all()
    np.testing.assert_allclose(odd["velocity"].value, plain["velocity"].value, rtol=0.2)
    assert (odd["velocity"] != plain["velocity"]).all()


SEEN = {"other observer": another}
FOREIGN = "astropy WCS", "sliced wrapper"
UNNAMED = dict.fromkeys(FOREIGN, Refused(TypeError, "use its .data"))
# As its parent, which wants all axes.
TWO_AXES = dict.fromkeys(FOREIGN, Refused(ValueError, "input and output WCS should match"))
FOREIGN_REFUSED = dict.fromkeys(FOREIGN, Refused(ValueError, "expected"))
NO_CHANNEL = Refused(ValueError, "without a channel axis, expected")
CHANNELS = {"one channel": Refused(ValueError, "expected one of 1"), "one image": NO_CHANNEL}
PARTS = FOREIGN_REFUSED | {"one image": Refused(ValueError, "expected (time, channel, y, x)")}
FOUR_AXES = {"one image": Refused(ValueError, "expected (time, channel, y, x)")}
JOINED = dict.fromkeys(FOREIGN, NO_CHANNEL)
ONE = dict.fromkeys(("one exposure", "one channel", "one image"), bits)
UNCHANGED = ONE
PLACED = {"other observer": Refused(ValueError, "outside")}
DRAWN = ONE | {"other unit": scaled, "NaN block": bits, "one valid pixel": bits, "all NaN": bits, "mask True": bits}
STORED = {"NaN block": elsewhere, "other unit": scaled}
NOTHING_CLEAN = dict.fromkeys(
    ("one valid pixel", "all NaN", "mask True"), Refused(ValueError, "have no clean region in common")
)
# One valid pixel is one of another line, of which a warning tells.
NO_REGION = dict.fromkeys(("all NaN", "mask True"), Refused(ValueError, "have no valid region in common"))
FEWER = dict.fromkeys(("one exposure", "one channel"), larger)
ALL_CLEAN = dict(list(NOTHING_CLEAN.items())[1:]) | FEWER
NO_PLACE = dict.fromkeys(FOREIGN, Refused(ValueError, "no detector coordinates"))
NO_TIME = dict.fromkeys(FOREIGN, Refused(ValueError, "got a cube without time"))
CONTEXT = FOREIGN_REFUSED | {
    "other observer": Refused(ValueError, "shows nothing of the cube's field of view"),
    "one channel": bits,
    "one image": lambda odd, plain: bits(odd, plain[0]),
}


# Files take long.
STORED_ROWS = only("big-endian", "Fortran", "Dask", "variance")

TABLE = {
    "level1.calibration.subtract_bias": arrays(
        lambda s, d: calibration.subtract_bias(s(d.raw), d.detector), nearly, few, few
    ),
    "level1.calibration.trim": arrays(lambda s, d: calibration.trim(s(d.raw), d.detector), elsewhere, few, few),
    "level1.calibration.orient": arrays(lambda s, d: calibration.orient(s(d.image), d.detector), elsewhere, few, few),
    "level1.calibration.stray_light": arrays(lambda s, d: calibration.stray_light(s(d.image), 8), nearly, few, few),
    "level1.calibration.master_dark": arrays(lambda s, d: calibration.master_dark([s(dark) for dark in d.darks])[0]),
    "level1.calibration.measure_read_noise": arrays(
        lambda s, d: calibration.measure_read_noise([s(x) for x in d.darks], d.detector), nearly, few, few
    ),
    "level1.calibration.calibrate": arrays(
        lambda s, d: calibration.calibrate(s(d.raw), s(d.darks[0]), d.flight.channel(1), d.detector), nearly, few, few
    ),
    "level1.calibration.electron_variance": arrays(
        lambda s, d: calibration.electron_variance(s(d.image), 5.4, 6.0, 0.1)
    ),
    "level1.despike.estimate_noise": arrays(
        lambda s, d: despike.estimate_noise(s(d.image)), nearly, constant(0.0), constant(0.0)
    ),
    "level1.despike.find_spikes": arrays(lambda s, d: despike.find_spikes(s(d.image))),
    "level1.despike.mend_spikes": arrays(
        lambda s, d: despike.mend_spikes(s(d.image), s(d.image > 29900))[0],
        pointwise(block, 3),
        pointwise(all_but_one, 3),
        pointwise(everything, 3),
    ),
    "field_stop.region.distance_inside": xy(
        lambda d, x, y: field_stop.distance_inside([(0, 0), (90, 0), (90, 65)], x, y)
    ),
    "field_stop.region.line_region": xy(lambda d, x, y: field_stop.line_region(d.flight, 1, "O V", x, y)),
    "field_stop.region.lit_region": arrays(
        lambda s, d: field_stop.lit_region(s(d.dim), s(d.image > 1000)), rows=MASKED
    ),
    "registration.prefilter.log_difference_of_gaussians": arrays(
        lambda s, d: registration.log_difference_of_gaussians(s(d.scene), 1.0, 4.0, valid=s(d.good)), rows=MASKED
    ),
    "registration.surface.correlation_surface": arrays(
        lambda s, d: registration.correlation_surface(s(d.scene), s(d.moved), reach=2, mask=s(d.good), valid=s(d.good)),
        rows=MASKED,
        but=ORDER,
    ),
    "registration.search.coarse_search": arrays(
        lambda s, d: registration.coarse_search(
            s(d.scene), s(d.moved), d.start, mask=s(d.good), valid=s(d.good), rolls=[0.0], scales=[1.0], shift=3
        ),
        rows=MASKED,
    ),
    "registration.correlate.maximize_correlation": arrays(
        lambda s, d: registration.maximize_correlation(
            s(d.scene), s(d.moved), d.start, mask=s(d.good), valid=s(d.good)
        ),
        rows=MASKED,
    ),
    "registration.images.coalign_images": arrays(
        lambda s, d: registration.coalign_images(s(d.scene), s(d.moved), transform="shift"),
        same_place,
        NO_STRUCTURE,
        NO_VALID,
        but=IMAGE | ALIKE,
    ),
    "registration._coalign.coalign": arrays(
        lambda s, d: coalign(s(d.scene), s(d.moved), transform="shift"),
        same_place,
        NO_STRUCTURE,
        NO_VALID,
        but=IMAGE | ALIKE,
    ),
    "registration.transform.PolynomialTransform.terms": xy(
        lambda d, x, y: list(np.moveaxis(d.start.terms(x, y), -1, 0))[1:]
    ),
    "registration.transform.PolynomialTransform.jacobian": xy(
        lambda d, x, y: list(np.moveaxis(d.bent.jacobian(x, y).reshape(10, 12, 4), -1, 0))
    ),
    "registration.transform.PolynomialTransform.inverse": xy(
        lambda d, x, y: d.bent.inverse(x, y), pointwise(), few, few
    ),
    "registration.image_alignment.ImageAlignment.inverse": xy(lambda d, x, y: d.found.inverse(x, y)),
    "registration.image_alignment.ImageAlignment.apply": arrays(
        lambda s, d: d.found.apply(s(d.moved)), few_lost, NO_STRUCTURE, NO_VALID, but=IMAGE
    ),
    "registration.alignment.Alignment.world_to_detector": xy(
        lambda d, x, y: d.alignment.world_to_detector(coordinate(x), coordinate(y)),
        but={"Quantity": NO_UNIT} | dict.fromkeys(("NDData", "HDU", "Map"), NO_NUMBER),
    ),
    "registration.alignment.Alignment.detector_to_world": xy(lambda d, x, y: d.alignment.detector_to_world(x, y)),
    "registration.alignment.Alignment.coordinate_uncertainty": xy(
        lambda d, x, y: d.alignment.coordinate_uncertainty(x, y)
    ),
    "resample.alignment.interpolate": arrays(
        lambda s, d: resample.interpolate(s(d.scene), s(d.x - 30.2), s(d.y - 30.7)), pointwise(), few, few
    ),
    "resample.alignment.propagate_uncertainty": arrays(
        lambda s, d: resample.propagate_uncertainty(s(d.scene), s(d.x - 30.2), s(d.y - 30.7)), pointwise(), few, few
    ),
    "resample.alignment.correlation_factor": xy(
        lambda d, x, y: resample.correlation_factor(d.alignment, position=(x, y))
    ),
    "resample.alignment.reproject_alignment": arrays(
        lambda s, d: resample.reproject_alignment((s(d.image), d.alignment), d.flight.grid),
        bits,
        few,
        few,
        but=IMAGE,
    ),
    "corrections.vignetting.model.Vignetting.evaluate": arrays(lambda s, d: d.vignetting.evaluate(1, s(d.x))),
    "corrections.normalize.image_means": arrays(
        lambda s, d: normalize.image_means(s(d.images), ~s(d.images > 20), s((d.images < 30).astype("u1"))),
        rows=LAYOUTS + TYPES + HIDING,
    ),
    "corrections.normalize.factor_errors": arrays(
        lambda s, d: normalize.factor_errors(s(d.scene[:9, :8]), s(d.scene[:9, :8] / 90)), rows=LAYOUTS + TYPES[:1]
    ),
    "corrections.normalize.normalization_factors": arrays(
        lambda s, d: normalize.normalization_factors(s(d.scene[:9, :8])),
        pointwise(),
        few,
        Refused(ValueError, "nothing to normalize by"),
    ),
    "quality.shifts.image_shift": arrays(
        lambda s, d: quality.image_shift(s(np.log(d.scene) - 4), s(np.log(d.moved) - 4), inside=s(d.good)),
        constant(np.nan),
        constant(np.nan),
        constant(np.nan),
        but=ORDER,
    ),
    "field_stop.edges.find_shift": arrays(
        lambda s, d: field_stop.find_shift(
            s(d.stop), s((d.image < 900).astype("u1")), flight=d.flight, channel=1, line="O V"
        ),
        bits,
        constant(0.0),
        constant(0.0),
    ),
    "simulate.truth.Truth.vignetting": arrays(lambda s, d: d.truth.vignetting(1, s(d.x))),
    "simulate.truth.Truth.velocity": xy(lambda d, x, y: d.truth.velocity(x, y)),
    "simulate.truth.Truth.doppler_shift": xy(lambda d, x, y: d.truth.doppler_shift(x, y)),
    "simulate.truth.Truth.to_detector": xy(lambda d, x, y: d.truth.to_detector(d.frames[0], 1, x, y)),
    "simulate.truth.Truth.to_grid": xy(lambda d, x, y: d.truth.to_grid(d.frames[0], 1, x, y)),
    "cube.ESISCube / level3.cube.ESISLevel3Cube": cubes(lambda s, d: s(d.cube), rows=CUBES + CONTENTS),
    "level1.cube.ESISLevel1Cube": cubes(lambda s, d: s(d.level1), rows=FRAMES + CONTENTS),
    "level3.context.ContextCube": cubes(lambda s, d: s(d.context), rows=SHARED + CONTENTS),
    "cube.ESISCube.explode_along_axis": cubes(lambda s, d: s(d.cube).explode_along_axis(-2)[5], rows=FEW + PLACES[1:]),
    "cube.ESISCube.crop": cubes(lambda s, d: (c := s(d.cube)).crop(*corners(c, d)), PLACED, rows=FEW + PLACES[1:]),
    "cube.ESISCube.crop_by_values": cubes(lambda s, d: (c := s(d.cube)).crop_by_values(*values(c, d)), rows=PLACES),
    "operations.cropping.clip_points": cubes(
        lambda s, d: first_of(operations.clip_points((c := s(d.cube)), corners(c, d))), UNCHANGED, rows=PLACES
    ),
    "operations.binning.rebin / cube.ESISCube.rebin": cubes(
        lambda s, d: (c := s(d.cube)).rebin((1,) * (c.data.ndim - 2) + (3, 2), np.sum)
    ),
    "operations.arithmetic.convert_unit / cube.ESISCube.to": cubes(lambda s, d: s(d.cube).to("10 photon / pix")),
    "operations.arithmetic.raise_to": cubes(lambda s, d: operations.raise_to(s(d.cube), 2)),
    "operations.arithmetic.combine": cubes(lambda s, d: operations.combine(s(d.cube), "multiply", 2 * u.s)),
    "operations.arithmetic.combine: two cubes": cubes(
        lambda s, d: operations.combine((c := s(d.cube)), "add", c), UNNAMED
    ),
    "operations.arithmetic.combine: value": arrays(
        lambda s, d: operations.combine(d.cube[0, 0], "multiply", s(d.cube.data[0, 0])),
        pointwise_data(),
        pointwise_data(all_but_one),
        pointwise_data(everything),
        but={
            "numpy.ma": valid,
            "Masked": valid,
            "Quantity": in_unit,
            "Map": Refused(TypeError, "expected"),
            "HDU": Refused(TypeError, "expected"),
            "NDData": valid,
        },
    ),
    "operations.reprojection.reproject_to / cube.ESISCube.reproject_to": cubes(
        lambda s, d: s(d.cube).reproject_to(d.target),
        TWO_AXES | {"other observer": elsewhere_on_the_sun},
        rows=FEW + PLACES[4:],
    ),
    "cube.ESISCube.plot / visualization.plotter.ESISPlotter.plot": cubes(
        lambda s, d: image(s(d.cube)).plot(), DRAWN, rows=FEW + PLACES[4:]
    ),
    "operations.channels.difference / level3.cube.ESISLevel3Cube.difference": cubes(
        lambda s, d: s(d.cube).difference(1, 2), CHANNELS | JOINED
    ),
    "operations.channels.min_images / level3.cube.ESISLevel3Cube.min_images": cubes(
        lambda s, d: s(d.cube).min_images(), {"one channel": not_lower, "one image": NO_CHANNEL} | JOINED
    ),
    "level3.cube.ESISLevel3Cube.to_map": cubes(lambda s, d: image(s(d.cube)).to_map(), ONE | FOREIGN_REFUSED),
    "level3.map.ESISMap / level3.map.ESISMap.plot": cubes(
        lambda s, d: fresh(image(s(d.cube)).to_map()),
        ONE | FOREIGN_REFUSED | DRAWN,
        rows=FEW + PLACES[1:] + only("mask False", "mask True"),
    ),
    "io.images.write_images / level3.cube.ESISLevel3Cube.write_images": cubes(
        lambda s, d: stored(s(d.cube).write_images(d.new())), STORED, rows=FEW
    ),
    "level1.cube.ESISLevel1Cube.write_images": cubes(
        lambda s, d: stored(s(d.level1).write_images(d.new())), STORED, rows=FEW
    ),
    "level3.context.ContextCube.write_images": cubes(
        lambda s, d: stored(s(d.context).write_images(d.new())), STORED, rows=FEW
    ),
    "io.images.image_header": cubes(
        lambda s, d: cards(io_images.image_header(image(s(d.cube)), "x")), SEEN | ONE | FOREIGN_REFUSED, rows=PLACES
    ),
    "io._cards.exposure_header": cubes(
        lambda s, d: cards(exposure_header(image(s(d.cube)))), SEEN | ONE | FOREIGN_REFUSED, rows=PLACES
    ),
    "level1.cube.ESISLevel1Cube.to_photons": cubes(lambda s, d: s(d.level1).to_photons("O V"), rows=FRAMES),
    "level1.cube.ESISLevel1Cube.to_electrons": cubes(lambda s, d: s(d.level1).to_electrons(), rows=FRAMES),
    "level1.cube.ESISLevel1Cube.subtract_stray_light": cubes(lambda s, d: s(d.level1).subtract_stray_light(), rows=FEW),
    "io.fits.write_fits": cubes(
        lambda s, d: io_fits.read_fits(put(io_fits.write_fits, s(d.cube), d.new(".fits")), ESISCube), rows=STORED_ROWS
    ),
    "io.asdf.write_asdf": cubes(
        lambda s, d: read_asdf(put(write_asdf, s(d.cube), d.new(".asdf")), ESISCube), rows=STORED_ROWS
    ),
    "corrections.masks.clean.clean_region / level3.cube.ESISLevel3Cube.clean_region": cubes(
        lambda s, d: s(d.cube).clean_region(lines=[]), ALL_CLEAN | PARTS
    ),
    "corrections.masks.apply.mask_polygons / level3.cube.ESISLevel3Cube.mask_polygons": cubes(
        lambda s, d: s(d.cube).mask_polygons(d.polygon), FOUR_AXES
    ),
    "corrections.masks.model.PolygonMask.evaluate": cubes(
        lambda s, d: d.polygon.evaluate(s(d.cube)), FOUR_AXES, rows=PLACES
    ),
    "corrections.masks.model.PolygonMask.from_skycoord": cubes(
        lambda s, d: masks.PolygonMask.from_skycoord(d.corners[[0, 1, 2]], image(s(d.cube))),
        SEEN | ONE | dict.fromkeys(FOREIGN, roughly),
        rows=PLACES,
    ),
    "corrections.masks.select.PolygonSelection / corrections.masks.select.PolygonSelection.polygon": cubes(
        lambda s, d: masks.PolygonSelection(image(s(d.cube)), polygon=d.polygon).polygon(), ONE, rows=PLACES
    ),
    "corrections.masks.apply.mask_pixels / level3.cube.ESISLevel3Cube.mask_pixels": cubes(
        lambda s, d: (c := s(d.cube)).mask_pixels(block(c.shape))
    ),
    "corrections.masks.apply.mask_pixels: mask": arrays(
        lambda s, d: masks.mask_pixels(d.cube, s(block(d.cube.shape))), rows=LAYOUTS
    ),
    "corrections.normalize.masked_means / level3.cube.ESISLevel3Cube.masked_means": cubes(
        lambda s, d: s(d.unaligned).masked_means(),
        NO_REGION | FEWER | PARTS,
        [one for one in CUBES if one.name != "one valid pixel"],
    ),
    "corrections.normalize.normalize_intensities / level3.cube.ESISLevel3Cube.normalize_intensities "
    "/ corrections.normalize.Normalization.fit": cubes(lambda s, d: s(d.sun).normalize_intensities(), rows=STORED_ROWS),
    "corrections.vignetting.correct.correct_vignetting / level3.cube.ESISLevel3Cube.correct_vignetting "
    "/ corrections.correction.correct / level3.cube.ESISLevel3Cube.correct": cubes(
        lambda s, d: s(d.sun).correct_vignetting(d.vignetting), FOREIGN_REFUSED
    ),
    "corrections.vignetting.correct.uncorrect_vignetting / level3.cube.ESISLevel3Cube.uncorrect_vignetting "
    "/ corrections.correction.uncorrect / level3.cube.ESISLevel3Cube.uncorrect": cubes(
        lambda s, d: s(d.corrected).uncorrect_vignetting(), FOREIGN_REFUSED
    ),
    "corrections.vignetting.fit.fit_vignetting": cubes(
        lambda s, d: fit_vignetting(s(d.sun), "difference-slopes").slopes, rows=STORED_ROWS
    ),
    "corrections.vignetting.trend.masked_difference_trend": cubes(
        lambda s, d: masked_difference_trend(s(d.sun)), ORDER, rows=FEW
    ),
    "level3.form.form_level3": cubes(
        lambda s, d: form_level3(s(d.raw_frames), stage="linear", vignetting=False, normalize=False), rows=STORED_ROWS
    ),
    "registration.exposures.coalign_frames": cubes(
        lambda s, d: [one.transform.coefficients for one in coalign(s(d.raw_frames)).linear.flat],
        rows=only("big-endian", "Dask"),
    ),
    "visualization.animation.animate / level1.cube.ESISLevel1Cube.animate": cubes(
        lambda s, d: np.frombuffer(put(type(d.cube).animate, s(d.cube)[:, :1], d.new(".gif")).read_bytes(), "u1"),
        rows=only("big-endian"),
    ),
    "level3.cube.ESISLevel3Cube.dispersion": cubes(
        lambda s, d: s(d.cube).dispersion(), FOREIGN_REFUSED | {"other observer": foreshortened}, rows=PLACES
    ),
    "level3.cube.ESISLevel3Cube.pointing": cubes(lambda s, d: s(d.cube).pointing(), FOREIGN_REFUSED, rows=PLACES),
    "level3.cube.ESISLevel3Cube.detector_to_world": cubes(
        lambda s, d: s(d.cube).detector_to_world(d.x, d.y, frame_number=109, channel=1), ONE | NO_PLACE, rows=PLACES
    ),
    "level3.cube.ESISLevel3Cube.world_to_detector": cubes(
        lambda s, d: s(d.cube).world_to_detector(d.corners, frame_number=109, channel=1), ONE | NO_PLACE, rows=PLACES
    ),
    "net.fetch.nearest_images": cubes(
        lambda s, d: words(nearest_images(s(d.cube), "AIA 304")),
        ONE | NO_TIME | {"one exposure": another, "one image": another},
        rows=PLACES,
    ),
    "level3.context.context_cube / level3.cube.ESISLevel3Cube.context": cubes(
        lambda s, d: s(d.cube).context(d.map), CONTEXT, rows=PLACES
    ),
    "level3.context.context_cube: map": arrays(
        lambda s, d: context_cube(d.sun[0, 0], Map(s(d.map.data), d.map.meta)), but={}, rows=LAYOUTS + TYPES
    ),
    "level3.velocity.maps.velocity_map": cubes(
        lambda s, d: velocity_map(s(d.four), method="window"), {"other unit": faintly}, rows=FEW
    ),
    "field_stop.edges.find_edges": cubes(lambda s, d: field_stop.find_edges(s(d.sun)).shift, rows=FEW),
    "quality.throughput.throughput": cubes(lambda s, d: quality.throughput(s(d.unaligned)), rows=FEW),
    "quality.correlation.correlation_ratio": cubes(
        lambda s, d: quality.correlation_ratio(s(d.sun), d.corrected, region="octagon"), rows=FEW
    ),
    "quality.correlation.correlation_table": cubes(lambda s, d: inside(quality.correlation_table(s(d.sun))), rows=FEW),
    "quality.correlation.pair_correlation": cubes(
        lambda s, d: quality.pair_correlation(s(d.sun), region="octagon"), PARTS
    ),
    "operations.region.region_mean": cubes(
        lambda s, d: operations.region_mean(s(d.cube), np.ones(d.cube.shape[-2:], dtype=bool)).mean, rows=FEW
    ),
    "quality.noise.noise_table": cubes(
        lambda s, d: inside(quality.noise_table(s(d.level1), boxes=(1,), orders=[1])), rows=FEW
    ),
    "quality.shifts.pair_offset": cubes(lambda s, d: quality.pair_offset(s(d.sun)), PARTS | {"other unit": faintly}),
    "quality.shifts.tile_residual": cubes(lambda s, d: quality.tile_residual(s(d.sun)), PARTS),
    "quality.tables.summary": cubes(lambda s, d: inside(quality.summary(s(d.sun))), rows=FEW),
    "quality.reference.offset_to_map": cubes(
        lambda s, d: quality.offset_to_map(s(d.sun), d.map), {"other unit": faintly}, rows=FEW
    ),
    "quality.reference.offset_to_map: map": arrays(
        lambda s, d: quality.offset_to_map(d.sun, Map(s(d.map.data), d.map.meta)),
        but={"Dask": close},
        rows=LAYOUTS + TYPES,
    ),
    "registration.image_alignment.ImageAlignment.align_map": arrays(
        lambda s, d: d.placed.align_map(Map(s(d.map.data), d.map.meta)), rows=LAYOUTS + TYPES
    ),
    "registration.aia.can_be_pointed": arrays(
        lambda s, d: aia.can_be_pointed(Map(s(d.map.data), d.map.meta)), rows=LAYOUTS
    ),
    "visualization.images.plot_channels": cubes(lambda s, d: visualization.plot_channels(s(d.cube)), DRAWN, rows=FEW),
    "visualization.images.plot_difference": cubes(
        lambda s, d: visualization.plot_difference(s(d.cube), 1, 2), DRAWN, rows=FEW
    ),
    "visualization.images.plot_with_reference": cubes(
        lambda s, d: visualization.plot_with_reference(s(d.sun), d.map).axes[0], DRAWN, rows=FEW
    ),
}

# ---------------------------------------------------------------------------------------------------- the tests

# Take paths, names, numbers, tables or nothing, or give what others take: no arrays, images, cubes or maps.
NO_DATA_IN = (
    "corrections.correction.Correction",
    "flight.fit.",
    "flight.flight.",
    "flight.instrument.",
    "utils.provenance.",
    "net.",
    "quality.figures.",
    "wcs.",
    "simulate.demo.",
)
NO_DATA = {
    "quality.flight.FlightCheck",
    "quality.flight.check_flight",
    "level3.velocity.projection.Projection",
    "level3.velocity.projection.Projection.transfer",
    "level3.velocity.projection.Projection.transfers",
    "level3.velocity.projection.projection",
    "level3.velocity.rotation.rotation_velocity",
    "level1.calibration.noise_correlation",
    "operations.region.RegionMean",
    "resample.alignment.resampled_correlation",
    "registration.alignment.Alignment",
    "registration.alignment.Alignment.from_pose",
    "registration.alignment.Alignment.to_gwcs",
    "registration.coalignment.Coalignment",
    "level1.cube.ESISLevel1Cube.from_raw",
    "level1.cube.ESISLevel1Cube.from_images",
    "level3.map.ESISMap.is_datasource_for",
    "corrections.vignetting.model.Vignetting",
    "corrections.vignetting.model.Vignetting.of_flight",
    "corrections.vignetting.model.Vignetting.check",
    "corrections.vignetting.model.Vignetting.to_table",
    "corrections.vignetting.model.Vignetting.from_table",
    *(
        f"corrections.{cls}.{method}"
        for cls in ("vignetting.model.Vignetting", "normalize.Normalization")
        for method in (
            "apply",
            "check_cube",
            "check_missing",
            "choose",
            "fact",
            "parameters",
            "report",
            "undo",
        )
    ),
    "corrections.masks.apply.HandMask",
    "corrections.masks.apply.HandMask.apply",
    "corrections.masks.apply.HandMask.check_cube",
    "corrections.masks.apply.HandMask.choose",
    "corrections.masks.apply.HandMask.of",
    "corrections.masks.apply.HandMask.parameters",
    "corrections.normalize.Normalization",
    "corrections.normalize.Normalization.entries",
    "corrections.normalize.Normalization.of_cube",
    "corrections.normalize.Normalization.unknown",
    "corrections.vignetting.reproject.reproject_vignetting",
    "flags.Flag",
    "registration.coalignment.Coalignment.read",
    "registration.coalignment.Coalignment.to_table",
    "registration.coalignment.Coalignment.with_alignment",
    "registration.coalignment.Coalignment.without",
    "registration.coalignment.Coalignment.write",
    "io.fits.CubeFileError",
    "utils.output.check_output",
    "io.fits.read_fits",
    "io.asdf.read_asdf",
    "io.images.write_image_files",
    "io.legacy.read_legacy",
    "io.legacy.read_legacy_alignments",
    "level1.frames.FrameError",
    "level1.frames.RawFrame",
    "level1.frames.RawFrame.mid_time",
    "level1.frames.find_frames",
    "level1.frames.list_files",
    "level1.frames.read_frame",
    "level1.frames.sort_frames",
    "level1.frames.stamp_to_middle",
    "level1.calibration.gain_image",
    "level1.calibration.line_factors",
    "level1.calibration.quadrants",
    "registration.surface.CorrelationSurface",
    "registration.correlate.Fit",
    "registration.image_alignment.ImageAlignment",
    "registration.image_alignment.ImageAlignment.corrected_wcs",
    "registration._errors.Misfit",
    "registration._errors.Misfit.binned",
    "registration.joint.Joint",
    "registration.joint.Joint.predict",
    "registration.transform.PolynomialTransform",
    "registration.transform.PolynomialTransform.from_affine",
    "registration.transform.PolynomialTransform.renormalized",
    "registration.transform.PolynomialTransform.compose",
    "registration.transform.PolynomialTransform.decompose",
    "registration.images.Search",
    "registration.alignment_table.alignments_from_table",
    "registration.alignment_table.alignments_to_table",
    "registration.joint.fit_joint",
    "registration.sunkit.register",
    "resample.alignment.detector_coordinates",
    "field_stop.region.overlapping_lines",
    "corrections.masks.model.PolygonMask",
    "corrections.masks.model.PolygonMask.to_dict",
    "corrections.masks.files.read_polygons",
    "corrections.masks.files.write_polygons",
    "field_stop.edges.FieldStopEdges",
    "field_stop.edges.FieldStopEdges.shift_of",
    "field_stop.edges.FieldStopEdges.placement",
    "field_stop.edges.FieldStopEdges.table",
    "registration.pointing.pointing_table",
    "visualization.plotter.ESISPlotter",
    "simulate.truth.ExplosiveEvent",
    "simulate.flight.SimulatedFiles",
    "simulate.flight.SimulatedFlight",
    "simulate.flight.SimulatedFlight.mid_time",
    "simulate.flight.SimulatedFlight.exposure_time",
    "simulate.flight.SimulatedFlight.photons",
    "simulate.flight.SimulatedFlight.spikes",
    "simulate.flight.SimulatedFlight.raw",
    "simulate.flight.SimulatedFlight.header",
    "simulate.flight.SimulatedFlight.reference",
    "simulate.flight.SimulatedFlight.write",
    "simulate.config.SimulationConfig",
    "simulate.truth.Truth",
    "simulate.truth.Truth.focus",
    "simulate.truth.Truth.vignetting_slope",
    "simulate.shrink.shrink",
    "simulate.flight.simulate_flight",
    "simulate.cube.true_alignment",
    "simulate.cube.true_cube",
}

# Functions that are not tried here, with the reason.
NOT_TRIED = {
    "report.page.write_report": "shows what quality measures, ten seconds for each call: test_lazy.py has a lazy one",
    "registration.sunkit.coalign_arrays": "is coalign_images, and needs sunkit-image",
    "registration.aia.point_map": "needs aiapy and its tables",
    "registration.aia.add_uncertainty": "needs aiapy and its tables",
    "level3.velocity.cube.ESISVelocityCube": "is an ESISCube, and has no flags to be changed",
    "level3.velocity.cube.ESISVelocityCube.to_map": "is that of ESISLevel3Cube",
    "level1.cube.ESISLevel1Cube.from_esis": "needs what esis makes",
}


def cells():
    """Every function with every stranger; daily only with one of them."""
    for name, entry in TABLE.items():
        for index, stranger in enumerate(entry.rows):
            marks = pytest.mark.slow if index else ()
            yield pytest.param(entry, stranger, id=f"{name}-{stranger.name}", marks=marks)


def outcome(call):
    """The result, or the error."""
    try:
        return call(), None
    except Exception as error:
        return None, error


def judge(entry, stranger, plain, known):
    """Whether a stranger is treated as it should be; ``known`` keeps results of plain inputs."""
    relation = entry.but.get(stranger.name, stranger.relation)
    odd, means = stranger.odd, stranger.plain
    if stranger not in HIDING:
        odd, means = beside(odd, stranger.name), beside(means, stranger.name)
    with warnings.catch_warnings():
        if stranger.name == "unknown uncertainty":
            warnings.filterwarnings("ignore", "the result has no uncertainty")
        if isinstance(relation, Refused):
            with pytest.raises(relation.error, match=re.escape(relation.piece)):
                entry.call(odd, plain)
            return
        result, error = outcome(lambda: entry.call(odd, plain))
        key = id(entry), stranger.name if stranger.plain is not same else None
        if key not in known:
            known[key] = outcome(lambda: entry.call(means, plain))
        expected, refusal = known[key]
        if refusal is None and error is not None:
            raise error
        if refusal is not None:
            # Inputs that mean the same are refused in the same words.
            assert isinstance(refusal, ValueError)
            assert (type(error), str(error)) == (type(refusal), str(refusal))
            return
        relation(result, expected)


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize(("entry", "stranger"), list(cells()))
def test_stranger(plain, known, entry, stranger):
    judge(entry, stranger, plain, known)


def public_functions():
    """Names of every public function: the same function may have several."""
    names = {}
    for label, thing in public_objects().items():
        if not isinstance(thing, property | cached_property):
            names.setdefault(id(thing), set()).add(label.removeprefix("esis_ndcube."))
    return list(names.values())


def test_every_function_is_there():
    tried = {name for key in TABLE for name in key.split(": ")[0].split(" / ")}
    public = public_functions()
    missing = [
        sorted(names)
        for names in public
        if not names & (tried | NO_DATA | NOT_TRIED.keys()) and not any(n.startswith(NO_DATA_IN) for n in names)
    ]
    assert not missing, "give these functions strangers, or say that they take no data"
    gone = (tried | NO_DATA | NOT_TRIED.keys()) - {name for names in public for name in names}
    assert not gone, "these functions are no longer there"
    assert not tried & (NO_DATA | NOT_TRIED.keys())


# Functions with a fault each, and strangers that tell.
BROKEN = [
    ("swaps bytes", arrays(lambda s, d: np.frombuffer(np.asarray(s(d.image)).tobytes(), "f4")), ["big-endian"]),
    ("takes memory as it lies", arrays(lambda s, d: np.asarray(s(d.image)).ravel(order="K")), ["Fortran"]),
    ("takes what is behind a view", arrays(lambda s, d: a if (a := np.asarray(s(d.image))).base is None else a.base),
     ["strided", "backward"]),
    ("computes nothing", arrays(lambda s, d: x.shape if isinstance(x := s(d.image), da.Array) else x), ["Dask"]),
    ("writes into its input", arrays(lambda s, d: np.add(x := np.asarray(s(d.scene)), 0, out=x)),
     ["read-only", "memory map"]),
    ("overflows", arrays(lambda s, d: (a := np.asarray(s(d.image))) * a.dtype.type(3)), ["integer", "unsigned"]),
    ("ignores masks", arrays(lambda s, d: np.asarray(getattr(s(d.image), "unmasked", s(d.image)))),
     ["numpy.ma", "Masked"]),
    ("takes anything", arrays(lambda s, d: np.asarray(getattr(s(d.image), "data", s(d.image)), dtype=object)),
     ["Quantity", "NDData", "HDU", "Map"]),
    ("spreads NaN", arrays(lambda s, d: s(d.image) * np.sum(s(d.image))), ["NaN block"]),
    ("fills NaN", arrays(lambda s, d: np.nan_to_num(s(d.image), nan=1.0)), ["NaN block", "one valid pixel", "all NaN"]),
    ("ignores the mask of a cube", cubes(lambda s, d: float(np.asarray(s(d.cube).data).sum())),
     ["NaN block", "one valid pixel", "all NaN"]),
    ("forgets the mask of a cube", cubes(lambda s, d: rebuild(s(d.cube), mask=None)), ["NaN block", "mask True"]),
    ("drops the unit", cubes(lambda s, d: np.asarray(s(d.cube).data)), ["other unit"]),
    ("takes variances for deviations",
     cubes(lambda s, d: rebuild(s(d.cube), uncertainty=StdDevUncertainty(s(d.cube).uncertainty.array))),
     ["variance", "inverse variance", "inverse variance 0"]),
    ("invents an uncertainty", cubes(lambda s, d: rebuild(s(d.cube), uncertainty=StdDevUncertainty(s(d.cube).data))),
     ["no uncertainty", "unknown uncertainty"]),
    ("scales by what it is given", cubes(lambda s, d: rebuild(c := s(d.cube), data=c.data / c.data.mean())),
     ["one exposure", "one channel", "one image"]),
    ("forgets the observer", cubes(lambda s, d: rebuild(s(d.cube), wcs=d.cube.wcs)), ["other observer"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "name"), [pytest.param(e, n, id=f"{fault}-{n}") for fault, e, names in BROKEN for n in names]
)
def test_table_sees_faults(plain, entry, name):
    (stranger,) = [one for one in entry.rows if one.name == name]
    with pytest.raises((AssertionError, ValueError, TypeError, pytest.fail.Exception)):
        judge(entry, stranger, plain, {})
