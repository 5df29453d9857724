"""
Compare ways to register images of a simulated flight: ``python benchmarks/registration.py``.

README.rst explains the columns.
"""

# ruff: noqa: E402
import argparse
import os
import sys
from pathlib import Path

# One thread each, or the times could not be compared; libraries read these when they are imported.
for _name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

import bench_methods as methods
import bench_solar as solar
import numpy as np
from bench_methods import Method
from bench_problems import PYRAMID, make_problems
from bench_table import installed, lines, make_table, one_pass, ratios


def all_methods(limit):
    """Every method; the time limit in seconds is that of the slow ones."""
    image, affine, shift = "scikit-image", "affine", "shift"
    cv2 = "opencv-python-headless" if installed("opencv-python-headless") else "opencv-python"
    return [
        Method("ours", "esis_ndcube", "affine / quadratic", methods.ours, quadratic=True, filtered=PYRAMID),
        Method("ours, no pyramid", "esis_ndcube", affine, methods.ours_plain, filtered=(1,)),
        Method("legacy", "scipy", affine, methods.legacy(limit), images=1, tasks=("sun",)),
        Method("cv2 ECC, raw", cv2, affine, methods.ecc(filtered=False, blur=1)),
        Method("cv2 ECC, filtered", cv2, affine, methods.ecc(filtered=True, blur=5), filtered=(1,)),
        Method(
            "cv2 ECC, filtered, multi-scale", cv2, affine, methods.ecc(filtered=True, blur=5, pyramid=True),
            filtered=(1,),
        ),
        Method("skimage phase correlation, filtered", image, shift, methods.phase_correlation, filtered=(1,)),
        Method("skimage ORB + RANSAC, filtered", image, affine, methods.orb, images=1, filtered=(1,)),
        Method(
            "skimage ILK flow, filtered", image, "dense flow", methods.optical_flow(smooth=False), images=1,
            filtered=(1,),
        ),
        Method(
            "skimage ILK flow + polynomial, filtered", image, "affine / quadratic", methods.optical_flow(smooth=True),
            images=1, quadratic=True, filtered=(1,),
        ),
        Method("pystackreg, raw", "pystackreg", affine, methods.stackreg(filtered=False)),
        Method("pystackreg, filtered", "pystackreg", affine, methods.stackreg(filtered=True), filtered=(1,)),
        Method("sunkit-image, raw", "sunkit-image", shift, solar.match_template(filtered=False), images=2),
        Method(
            "sunkit-image, filtered", "sunkit-image", shift, solar.match_template(filtered=True), images=2,
            filtered=(1,),
        ),
        Method("sunxcorr, raw", "sunxcorr", "shift, whole px", solar.sunxcorr(filtered=False), images=1,
               processes=True),
        Method(
            "sunxcorr, filtered", "sunxcorr", "shift, whole px", solar.sunxcorr(filtered=True), images=1, filtered=(1,),
            processes=True,
        ),
        Method("euispice-coreg, raw", "euispice-coreg", "shift, roll", solar.euispice(filtered=False), images=1),
        Method(
            "euispice-coreg, filtered", "euispice-coreg", "shift, roll", solar.euispice(filtered=True),
            images=1, filtered=(1,),
        ),
    ]  # fmt: skip


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--size", default="full", help='"full", "small", or how many times smaller (default: full)')
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exposures", type=int, default=1, help="exposures of the simulated flight (default: 1)")
    parser.add_argument("--methods", nargs="+", metavar="TEXT", help="only methods whose name contains one of these")
    parser.add_argument("--start", choices=("pose", "perturbed"), default="pose", help="where every method starts")
    parser.add_argument("--repeats", type=int, default=3, help="the least time of so many counts (default: 3)")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which the legacy method is stopped")
    parser.add_argument("--output", type=Path, help="also write the table, as ECSV")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    options = parser.parse_args(arguments)
    if options.output and options.output.exists() and not options.overwrite:
        parser.error(f"{options.output} exists: choose another name, or give --overwrite")
    size = options.size if options.size in ("full", "small") else float(options.size)

    chosen = all_methods(options.limit)
    if options.methods:
        chosen = [m for m in chosen if any(text.lower() in m.name.lower() for text in options.methods)]
        if not chosen:
            parser.error(f"no method matches {options.methods}: {[m.name for m in all_methods(0)]}")
    problems = make_problems(
        size=size, seed=options.seed, exposures=options.exposures, perturbed=options.start == "perturbed"
    )
    # Filtered and compiled before anything is timed.
    for problem in problems:
        for factor in PYRAMID:
            problem.level(factor)
    methods.ours(problems[0])(), methods.ours(problems[-1])()

    table = make_table(
        chosen,
        problems,
        repeats=options.repeats,
        progress=lambda name: print(f"... {name}", file=sys.stderr, flush=True),
    )
    quotients = ratios(table, one_pass(problems[0]))
    table.meta["what"] = _describe(options, problems)
    print(*table.meta["what"], sep="\n")
    print(*lines(table), "", *lines(quotients), sep="\n")
    if options.output:
        table.meta["ratios"] = {str(row["ratio"]): float(row["value"]) for row in quotients}
        temporary = options.output.with_suffix(".part")
        table.write(temporary, format="ascii.ecsv", overwrite=True)
        temporary.replace(options.output)
    return table


def _describe(options, problems):
    sun, channel = ([p for p in problems if p.task == task] for task in ("sun", "channel"))
    names = "esis_ndcube", "numpy", "scipy", "numba", "astropy", "sunpy"
    return [
        f"simulated flight, size {options.size}, seed {options.seed}, {options.exposures} exposure(s), "
        f"start: {options.start}, grid of {problems[0].reference.shape}, one thread",
        "versions: " + ", ".join(f"{name} {installed(name)}" for name in names),
        "errors: RMS over the field in pixels of the grid; times: seconds of one processor per image, without reading, "
        "filtering and warping to the start",
        f"sun: affine to the reference image, against the nearest affine map ({_median(p.bend() for p in sun):.2f} px "
        f"RMS from the truth); {_median(p.floor() for p in sun):.3f} is the velocity field's",
        f"channel: quadratic to the reference channel where a method can, against the truth (an affine map misses it "
        f"by {_median(p.bend() for p in channel):.2f} px); {_median(p.floor() for p in channel):.3f} is the "
        f"velocity field's",
        "",
    ]


def _median(values):
    return np.median(list(values))


if __name__ == "__main__":
    main()
