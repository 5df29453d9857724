"""The problems for every method: pairs of images of a simulated flight, and the true places."""

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from time import process_time

import numpy as np
from reproject import reproject_interp
from scipy.ndimage import binary_erosion, map_coordinates

import astropy.units as u
import sunpy.map

from esis_ndcube import ESISLevel1Cube
from esis_ndcube.field_stop.region import line_region
from esis_ndcube.registration import PolynomialTransform, log_difference_of_gaussians
from esis_ndcube.registration.reference import bin_image, observed_grid, pixel_size
from esis_ndcube.simulate import simulate_flight

PYRAMID = 4, 1
_MARGIN = 3.0  # pixels next to the field stop that no method is given
_STEP = 8
_PERTURBATION = 20.0, 2.0, 0.02  # pixels, degrees, relative


@dataclass(eq=False)
class Problem:
    """
    One image that is to be registered with a reference.

    A solution is a function of grid pixels (x, y) that returns pixels (u, v) of ``image``.

    Attributes
    ----------
    task : str
        "sun" (affine to the reference image) or "channel" (quadratic to the reference channel).
    degree : int
        Degree of the polynomial that the task asks for.
    reference, mask : numpy.ndarray
        The reference on the grid, 0 where there is none, and its valid pixels.
    image, valid : numpy.ndarray
        The image in its own detector pixels, and its valid pixels.
    start : PolynomialTransform
        The same for all methods, affine.
    true, shown : callable
        True places of grid points in the image, and of the features that the reference shows there: the smooth velocity
        field of the simulation displaces these, and no registration can tell this from distortion.
    points : numpy.ndarray
        Grid points of the field of view at which errors are taken, shape (2, n).
    widths : astropy.units.Quantity
        Widths of the filter, fine and coarse.
    scale : tuple
        Pixel sizes in arcsec: of the grid, and of the image in (v, u).
    """

    name: str
    task: str
    degree: int
    reference: np.ndarray
    mask: np.ndarray
    image: np.ndarray
    valid: np.ndarray
    start: PolynomialTransform
    true: object
    shown: object
    points: np.ndarray
    widths: u.Quantity
    scale: tuple
    filter_seconds: dict = field(default_factory=dict)
    _levels: dict = field(default_factory=dict)

    def level(self, factor):
        """Filtered reference, mask, image and valid pixels after binning; how long the image took is kept."""
        if factor not in self._levels:
            grid, detector = self.scale[0] * factor, np.array(self.scale[1]) * factor
            fine, coarse = self.widths.to_value(u.arcsec) * factor
            reference, mask = bin_image(self.reference, self.mask, factor)
            reference = log_difference_of_gaussians(reference, fine / grid, coarse / grid, valid=mask)
            seconds = []
            # Twice, because parts that are the same for all exposures of a channel are kept.
            for _ in range(2):
                begin = process_time()
                image, valid = bin_image(self.image, self.valid, factor)
                filtered = log_difference_of_gaussians(
                    image, tuple(fine / detector), tuple(coarse / detector), valid=valid
                )
                seconds.append(process_time() - begin)
            self.filter_seconds[factor] = min(seconds)
            self._levels[factor] = reference, binary_erosion(mask, iterations=2), filtered, valid
        return self._levels[factor]

    def warped(self, *, filtered):
        """
        Reference, image and valid pixels, both on the grid: the image as the start puts it there.

        For tools that take two images of one size; the means are taken off, and they are 0 where there is no image.
        """
        return self._warped[int(filtered)]

    @cached_property
    def _warped(self):
        y, x = np.mgrid[: self.reference.shape[0], : self.reference.shape[1]]
        position = np.stack(self.start(x, y)[::-1])
        there = map_coordinates(self.valid.astype("f4"), position, order=1) > 0.999
        result = []
        reference, mask, image, _ = self.level(1)
        for one, two in ((self.reference, self.image), (reference, image)):
            moved = map_coordinates(two, position, order=3, mode="constant")
            # Without the means the edge of the field of view is not the strongest feature.
            one, moved = np.where(mask, one - one[mask].mean(), 0), np.where(there, moved - moved[there].mean(), 0)
            result.append((one.astype("f4"), moved.astype("f4"), there & mask))
        return result

    def error(self, solution):
        """RMS error over the field in pixels of the grid."""
        target = np.array(self.true(*self.points))
        found = np.array(solution(*self.points))
        if self.task == "sun":
            # The truth bends; an affine map is compared with the affine map that is nearest to the truth.
            target, found = (_project(a, self.points, 1) for a in (target, found))
        return self._rms(found - target)

    def floor(self):
        """Error of the polynomial that fits best to the features where the velocity field puts them."""
        shown = _project(np.array(self.shown(*self.points)), self.points, self.degree)
        return self.error(lambda x, y: shown)

    def bend(self):
        """RMS distance of the truth from the nearest affine map."""
        target = np.array(self.true(*self.points))
        return self._rms(target - _project(target, self.points, 1))

    def _rms(self, difference):
        matrix = self.start.coefficients[:, 1:3] / self.start.scale
        return float(np.sqrt(np.mean(np.sum(np.linalg.solve(matrix, difference) ** 2, axis=0))))


def polynomial(x, y, values, degree, start, keep=None):
    """The polynomial transform that fits best to displacements that were found at grid pixels."""
    keep = slice(None) if keep is None else keep
    basis = _basis(x[keep], y[keep], _exponents(degree), start.origin, start.scale)
    coefficients = [np.linalg.lstsq(basis, v[keep], rcond=None)[0] for v in values]
    return PolynomialTransform(coefficients, start.origin, start.scale)


def _exponents(degree):
    return [(total - j, j) for total in range(degree + 1) for j in range(total + 1)]


def _basis(x, y, exponents, origin, scale):
    x, y = (x - origin[0]) / scale, (y - origin[1]) / scale
    return np.stack([x**i * y**j for i, j in exponents], axis=-1)


def _project(values, points, degree):
    basis = _basis(*points, _exponents(degree), points.mean(1), np.ptp(points))
    return (basis @ np.linalg.lstsq(basis, values.T, rcond=None)[0]).T


def make_problems(*, size="full", seed=0, exposures=1, perturbed=False):
    """
    Problems of both tasks of a simulated flight.

    Returns
    -------
    list of Problem
        For every exposure one for each channel ("sun"), and one for each but the reference channel ("channel").
    """
    simulated = simulate_flight(size=size, seed=seed, n_exposures=exposures, missing=False, blank=False)
    with tempfile.TemporaryDirectory() as folder:
        files = simulated.write(folder)
        level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight)
        maps = [sunpy.map.Map(path) for path in files.reference]
        for item in maps:
            item.data  # noqa: B018 (read before the file is gone)
        rng = np.random.default_rng([seed, 99])
        problems = []
        for index in range(exposures):
            problems += _of_exposure(simulated, level1, index, maps, rng if perturbed else None)
    return problems


def _of_exposure(simulated, level1, index, maps, rng):
    flight, frame = simulated.flight, int(level1.frame_number[index])
    nearest = min(maps, key=lambda m: abs((m.reference_date - level1.time[index]).to_value(u.s)))
    grid = observed_grid(flight, nearest.observer_coordinate, nearest.reference_date)
    sun, _ = reproject_interp((nearest.data, nearest.wcs), grid, shape_out=flight.grid_shape, order="bilinear")
    channels = [int(c) for c in level1.channel]
    images = {c: _image(flight, level1, index, c) for c in channels}
    truth = simulated.truth
    y, x = np.mgrid[: flight.grid_shape[0], : flight.grid_shape[1]].astype(float)
    anchor = flight.reference_channel
    image, valid, (left, bottom) = images[anchor]
    column, row = truth.to_detector(frame, anchor, x, y)
    position = np.stack([row - bottom, column - left])
    covered = map_coordinates(valid.astype("f4"), position, order=1) > 0.999
    target = map_coordinates(image, position, order=3, mode="constant")
    fine, coarse = flight.registration_widths.to_value(u.arcsec)
    for task, degree in (("sun", 1), ("channel", 2)):
        for c in channels:
            if task == "channel" and c == anchor:
                continue
            image, valid, corner = images[c]
            corner = np.array(corner)
            start = _start(flight, c, corner, rng)
            inside = line_region(flight, c, flight.pose_line, *truth.to_detector(frame, c, x, y))
            # Another passband differs most at large scales: coalign() halves the coarse width there, and so do we.
            widths = (fine, coarse) if task == "channel" else (fine, max(coarse / 2, 4 * fine))
            reference, mask = (target, covered) if task == "channel" else (sun, np.isfinite(sun))
            keep = inside[::_STEP, ::_STEP]
            yield Problem(
                name=f"{task} {frame}/{c}",
                task=task,
                degree=degree,
                reference=np.where(mask, reference, 0).astype("f4"),
                mask=mask,
                image=image,
                valid=valid,
                start=start,
                true=_locator(truth, frame, c, corner),
                shown=_locator(truth, frame, c, corner, doppler=True, anchor=anchor if task == "channel" else None),
                points=np.stack([x[::_STEP, ::_STEP][keep], y[::_STEP, ::_STEP][keep]]),
                widths=widths * u.arcsec,
                scale=(pixel_size(grid), tuple(flight.detector.pixel_scale.to_value(u.arcsec)[::-1])),
            )


def _image(flight, level1, index, channel):
    """The line's part of a frame, its valid pixels, and its lower left corner (u, v)."""
    data = np.asarray(level1.data[index, list(level1.channel).index(channel)])
    row, column = np.ogrid[: data.shape[0], : data.shape[1]]
    valid = line_region(flight, channel, flight.pose_line, column, row, margin=_MARGIN)
    if level1.mask is not None:
        valid &= ~level1.mask[index, list(level1.channel).index(channel)]
    valid &= np.isfinite(data)
    rows, columns = (np.nonzero(valid.any(axis))[0] for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return np.where(valid, data, 0)[box].astype("f4"), valid[box], (columns[0], rows[0])


def _start(flight, channel, corner, rng):
    rows, columns = flight.grid_shape
    middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
    matrix = np.array(flight.pose(channel, flight.pose_line))
    matrix[:, 2] -= corner
    if rng is not None:
        shift, roll, scale = np.array(_PERTURBATION) * rng.choice([-1, 1], 3)
        # A smaller flight has a smaller field; the same error is fewer of its pixels.
        shift = shift * min(1.0, max(rows, columns) / 1000) * np.array([0.6, 0.8])
        roll = np.radians(roll)
        turn = (1 + scale) * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        matrix = matrix @ np.vstack([np.column_stack([turn, middle - turn @ middle + shift]), [0, 0, 1]])
    return PolynomialTransform.from_affine(matrix, origin=middle, scale=max(rows, columns) / 2)


def _locator(truth, frame, channel, corner, *, doppler=False, anchor=None):
    def locate(x, y):
        if anchor is not None:
            x, y = truth.to_grid(frame, anchor, *truth.to_detector(frame, anchor, x, y), doppler=True)
        column, row = truth.to_detector(frame, channel, x, y, doppler=doppler)
        return column - corner[0], row - corner[1]

    return locate
