"""How well maps of velocity show velocities that are known, and what they show of a cube of Level 3."""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import astropy.units as u

from esis_ndcube import ESISLevel3Cube, velocity_map
from esis_ndcube.level3.velocity.maps import apply_response

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tools"))

from velocities import FLAWS, Truth

FIELDS = (5, 6.0), (20, 6.0)  # width in pixels, RMS in km/s
WIDTHS = 7, 11  # arcsec
MARGIN = 12
SCALE = 1.2, 1.2  # arcsec


def inner(image):
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN].ravel()


def compare(truth, fwhm, method):
    """Correlation, slope, slope through the response, chi-square, and RMS of truth and error."""
    found = velocity_map(truth.cube, method=method, fwhm=fwhm * u.arcsec)
    expected = truth.smoothed(fwhm)
    through = apply_response(expected, found.response, SCALE)
    seen, true, passed = inner(found.data[0]), inner(expected), inner(through)
    error = inner(found.uncertainty.array[0])
    difference = seen - passed - np.mean(seen - passed)
    return (
        np.corrcoef(seen, true)[0, 1],
        np.cov(seen, true)[0, 1] / true.var(),
        np.cov(seen, passed)[0, 1] / passed.var(),
        np.mean(difference**2) / np.mean(error**2),
        true.std(),
        np.sqrt(np.mean(error**2)),
    )


def print_truth(seeds, size, method):
    print(f"{method}: means of {seeds} scenes of {size} pixels, velocities of 6 km/s, and their scatter")
    print("field px  fwhm  correlation     slope           slope/response  chi-square      truth  error km/s")
    for width, rms in FIELDS:
        truths = [Truth(width, rms, seed=10 * seed, size=size) for seed in range(seeds)]
        for fwhm in WIDTHS:
            rows = np.array([compare(truth, fwhm, method) for truth in truths])
            mean, scatter = rows.mean(axis=0), rows.std(axis=0)
            cells = "".join(f"{f'{m:.3f} +- {s:.3f}':16}" for m, s in zip(mean[:4], scatter, strict=False))
            print(f"{width:8}  {fwhm:4}  {cells}{mean[4]:5.2f}  {mean[5]:5.2f}", flush=True)


def print_flaws(seeds, size, method):
    """Print stated errors beside deviations, where the instrument has a flaw that the estimator does not know."""
    print("\nfield px  fwhm  flaw          deviation  stated  systematic  chi-square")
    (width, rms), fwhm = FIELDS[0], WIDTHS[0]
    for name, flaw in {"none": None, **FLAWS}.items():
        rows = []
        for seed in range(seeds):
            truth = Truth(width, rms, seed=10 * seed, size=size, flaw=flaw)
            found = velocity_map(truth.cube, method=method, fwhm=fwhm * u.arcsec)
            difference = inner(found.data[0]) - inner(apply_response(truth.smoothed(fwhm), found.response, SCALE))
            stated = np.mean(inner(found.uncertainty.array[0]) ** 2)
            rows.append((difference.var(), stated, found.systematic.value**2, difference.var() / stated))
        mean = np.mean(rows, axis=0)
        cells = "  ".join(f"{value:{width}.2f}" for value, width in zip(np.sqrt(mean[:3]), (9, 6, 10), strict=True))
        print(f"{width:8}  {fwhm:4}  {name:12}  {cells}  {mean[3]:10.2f}", flush=True)


def print_cube(path, method, frames):
    cube = ESISLevel3Cube.read(path, lazy=True)
    chosen = [i for i, number in enumerate(cube.frame_number) if number in frames]
    cube = cube[chosen[0] : chosen[-1] + 1]
    begin = time.process_time()
    found = velocity_map(cube, method=method)
    seconds = (time.process_time() - begin) / len(cube.data)
    print(f"\n{path}, {method}: frames {cube.frame_number.tolist()}, {seconds:.1f} s of processor time per exposure")
    print(found.nulls)
    rms = [np.sqrt(np.nanmean(part**2)) for part in (found.data, found.uncertainty.array)]
    print(f"RMS {rms[0]:.2f} km/s, error {rms[1]:.2f} km/s, systematic {found.systematic:.2f}")
    everywhere = np.isfinite(found.data).all(axis=0)
    covariance = np.cov(*(found.data[start::2, everywhere].mean(axis=0) for start in (0, 1)))
    print(
        f"odd and even exposures: correlation {covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]):.2f}, "
        f"in common {np.sqrt(max(covariance[0, 1], 0)):.2f} km/s"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cube", nargs="?", help="a Level-3 file of a real flight")
    parser.add_argument("--frames", default="115-125", help="its frames to look at (115-125)")
    parser.add_argument("--method", default="field", choices=["field", "window"])
    parser.add_argument("--seeds", type=int, default=10, help="number of scenes")
    parser.add_argument("--size", type=int, default=480, help="their size in pixels of Level 3")
    arguments = parser.parse_args()
    if arguments.seeds:
        print_truth(arguments.seeds, arguments.size, arguments.method)
        print_flaws(arguments.seeds, arguments.size, arguments.method)
    if arguments.cube:
        first, last = map(int, arguments.frames.split("-"))
        print_cube(arguments.cube, arguments.method, range(first, last + 1))


if __name__ == "__main__":
    main()
