"""
Accuracy of the alignment of whole simulated flights: ``python benchmarks/accuracy.py``.

README.rst explains the columns.
"""

import argparse
import contextlib
import tempfile
import tomllib
import warnings
from time import perf_counter
from unittest import mock

import numpy as np
import tomli_w

import astropy.units as u
import sunpy.map
from astropy.table import Table
from ndcube.meta import NDMeta

from esis_ndcube import ESIS_1, ESISLevel1Cube, Flight, coalign
from esis_ndcube.field_stop.region import line_region
from esis_ndcube.registration import _frame, fit_joint
from esis_ndcube.registration import reference as reference_module
from esis_ndcube.registration.transform import point_covariances
from esis_ndcube.simulate import simulate_flight

_STEP = 24  # grid pixels between the points at which errors are taken
_MARGIN = 3.0  # detector pixels from the sides of the field stop


def perturbed(level1, shift, roll, scale, seed):
    """
    The same frames of a flight whose poses are wrong.

    Every channel looks ``shift`` pixels of the grid away, in another direction each, and is turned by ``roll`` degrees
    and larger by ``scale``, one way or the other.
    """
    rng = np.random.default_rng([seed, 7])
    flight = level1.flight
    table = tomllib.loads(flight.toml)
    for row in table["channels"]:
        channel = flight.channel(row["number"])
        angle, turn = rng.uniform(0, 2 * np.pi), np.radians(roll * rng.choice([-1, 1]))
        change = (1 + scale * rng.choice([-1, 1])) * np.array(
            [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        )
        moved = shift * np.array([np.cos(angle), np.sin(angle)])
        for part, pose in zip((row, *row.get("lines", ())), channel.poses, strict=True):
            # The field stop is seen where it is, wherever the Sun is thought to be.
            part["field_stop"] = pose.field_stop.tolist()
            part["center"] = (pose.center + pose.matrix @ moved).tolist()
            part["matrix"] = (pose.matrix @ change).tolist()
    meta = NDMeta(dict(level1.meta) | {"flight": Flight.from_toml(tomli_w.dumps(table))}, axes=level1.meta.axes)
    parts = {name: getattr(level1, name) for name in ("wcs", "uncertainty", "mask", "flags", "unit")}
    return ESISLevel1Cube(level1.data, meta=meta, **parts)


@contextlib.contextmanager
def unfiltered():
    """The same fits on unfiltered images: they maximize the raw correlation."""

    def plain(image, fine, coarse, *, valid=None):
        valid = np.isfinite(image) if valid is None else valid
        return np.where(valid, image - image[valid].mean() if valid.any() else 0, 0).astype(np.float32)

    with (
        mock.patch.object(_frame, "log_difference_of_gaussians", plain),
        mock.patch.object(reference_module, "log_difference_of_gaussians", plain),
    ):
        yield


class Truth:
    """Errors of alignments against the truth of a simulated flight, in pixels of the grid."""

    def __init__(self, simulated):
        self.simulated, self.points = simulated, {}
        rows, columns = simulated.flight.grid_shape
        step = max(2, min(_STEP, rows // 20))
        self.y, self.x = (a.ravel() for a in np.mgrid[0:rows:step, 0:columns:step].astype(float))

    def at(self, alignment):
        """Grid points in the field of view, and the true places of these points and of the features that are seen
        there."""
        key = alignment.frame_number, alignment.channel
        if key not in self.points:
            truth, flight = self.simulated.truth, self.simulated.flight
            u, v = truth.to_detector(*key, self.x, self.y)
            inside = line_region(flight, key[1], flight.pose_line, u, v, margin=_MARGIN)
            x, y = self.x[inside], self.y[inside]
            both = [np.array(truth.to_detector(*key, x, y, doppler=doppler)) for doppler in (False, True)]
            self.points[key] = x, y, *both
        return self.points[key]

    def linear(self, alignment):
        """Errors from the affine map that is nearest to the truth."""
        x, y, true, _ = self.at(alignment)
        terms = alignment.transform.terms(x, y)[:, :3]
        off = np.array(alignment.transform(x, y)) - true
        return self._rms(alignment, terms @ np.linalg.lstsq(terms, off.T, rcond=None)[0])

    def final(self, alignment):
        """Errors from the truth."""
        x, y, true, _ = self.at(alignment)
        return self._rms(alignment, (np.array(alignment.transform(x, y)) - true).T)

    def internal(self, alignment, anchor, *, doppler=False):
        """Errors from the true place in the other channel of points that the reference channel sees."""
        x, y, *both = self.at(alignment)
        on_grid = self._seen(alignment, anchor, x, y, doppler)
        return self._rms(alignment, (np.array(alignment.transform(*on_grid)) - both[int(doppler)]).T)

    def chi_square(self, alignment, anchor=None):
        """Mean squared error over its variance, of the features, as far as a map of the degree can follow them."""
        x, y, _, true = self.at(alignment)
        covariance = alignment.covariance
        if anchor is not None:
            x, y = self._seen(alignment, anchor, x, y, True)
        elif alignment.reference_covariance is not None:
            covariance = covariance + alignment.reference_covariance
        terms = alignment.transform.terms(x, y)
        off = terms @ np.linalg.lstsq(terms, (np.array(alignment.transform(x, y)) - true).T, rcond=None)[0]
        variances = np.diagonal(point_covariances(terms, covariance), axis1=1, axis2=2)
        return float(np.mean(off**2 / variances))

    def _seen(self, alignment, anchor, x, y, doppler):
        truth = self.simulated.truth
        return anchor.transform.inverse(*truth.to_detector(anchor.frame_number, anchor.channel, x, y, doppler=doppler))

    def _rms(self, alignment, off):
        matrix = self.simulated.flight.pose(alignment.channel)[:, :2]
        return float(np.sqrt(np.mean(np.sum(np.linalg.solve(matrix, off.T) ** 2, axis=0))))


def measure(simulated, linear, final, reference_channel):
    """All errors and chi-squares of the alignments of a flight."""
    truth = Truth(simulated)
    index = [int(a.channel) for a in final[0]].index(reference_channel)
    pairs = [
        (a, row[index]) for row in final for a in row if a is not row[index] and a.converged and row[index].converged
    ]
    good = [a for a in final.flat if a.converged]
    return {
        "linear": [truth.linear(a) for a in linear.flat if a.converged],
        "final": [truth.final(a) for a in good],
        "internal": [truth.internal(*pair) for pair in pairs],
        "internal, features": [truth.internal(*pair, doppler=True) for pair in pairs],
        "chi2": [truth.chi_square(a) for a in good],
        "chi2, internal": [truth.chi_square(*pair) for pair in pairs],
    }


def run(simulated, *, start=(20.0, 2.0, 0.02), raw=True, degree=2, workers=None):
    """Simulate, reduce and align a flight, and return a table of errors: median and worst, or the mean chi-square."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Warnings of the missing, the blank and the failing frames.
        warnings.simplefilter("ignore")
        files = simulated.write(folder)
        level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight, workers=workers)
        maps = [sunpy.map.Map(path) for path in files.reference]
        for item in maps:
            item.data  # noqa: B018 (read before the file is gone)
        # A start with twice the field of view is no start.
        share = min(1.0, min(simulated.flight.grid_shape) / min(ESIS_1.grid_shape))
        lost = perturbed(level1, start[0] * share, *start[1:], simulated.seed)
        rows = []
        for name, context in (("filtered", contextlib.nullcontext()), *([("raw", unfiltered())] if raw else [])):
            with context:
                begin = perf_counter()
                found = coalign(lost, maps, model="independent", degree=degree, workers=workers)
                seconds = perf_counter() - begin
            finals = {"independent": found.final}
            if len(found.final) > 2:
                finals["joint"] = fit_joint(found.final, reference_channel=found.reference_channel).alignments
            for model, final in finals.items():
                values = measure(simulated, found.linear, final, found.reference_channel)
                row = {"images": name, "model": model, "aligned": sum(a.converged for a in final.flat)}
                for key, numbers in values.items():
                    if key.startswith("chi2"):
                        row[key] = np.mean(numbers)
                    else:
                        row[f"{key} median"], row[f"{key} worst"] = np.median(numbers), np.max(numbers)
                rows.append({**row, "s": seconds})
    table = Table(rows)
    for name in table.colnames[3:]:
        table[name].info.format = ".3f" if "chi2" not in name and name != "s" else ".2f"
    return table


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--flight", help="configuration file of another flight")
    parser.add_argument("--exposures", type=int, default=28, help="exposures (default: 28)")
    parser.add_argument("--size", type=float, default=1.0, help="factor by which the field is smaller (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--start", nargs=3, type=float, default=(20.0, 2.0, 0.02), metavar=("PIXELS", "DEGREES", "SCALE"),
        help="error of the poses (default: 20 2 0.02)",
    )  # fmt: skip
    parser.add_argument("--cubic", type=float, default=0.0, help="cubic distortion in pixels (default: 0)")
    parser.add_argument("--blur", type=float, default=0.0, help="blur at the edge of the field in pixels (default: 0)")
    parser.add_argument("--velocity", type=float, default=5.0, help="limit of smooth velocities in km/s (default: 5)")
    parser.add_argument("--degree", type=int, default=2, help="degree of the final maps (default: 2)")
    parser.add_argument("--no-raw", action="store_true", help="leave the fits on raw images out")
    parser.add_argument("--workers", type=int)
    options = parser.parse_args(arguments)
    flight = ESIS_1 if options.flight is None else Flight.read(options.flight)
    simulated = simulate_flight(
        flight, n_exposures=options.exposures, size=options.size, seed=options.seed, n_darks=6,
        cubic_distortion=options.cubic, blur=options.blur, velocity=options.velocity * u.km / u.s,
    )  # fmt: skip
    flight, (pixels, degrees, scale) = simulated.flight, options.start
    print(
        f"{flight.name}: {len(simulated.frame_numbers)} exposures of {len(flight.channels)} channels, grid of "
        f"{flight.grid_shape}, seed {options.seed}, cubic distortion {options.cubic} px, blur {options.blur} px, "
        f"velocities to {options.velocity} km/s, poses "
        f"off by {pixels} px, {degrees} deg, {scale:.0%}, final maps of degree {options.degree}"
    )
    table = run(simulated, start=options.start, raw=not options.no_raw, degree=options.degree, workers=options.workers)
    print(*table.pformat(max_width=-1, max_lines=-1), sep="\n")
    return table


if __name__ == "__main__":
    main()
