"""The parts of the work that other packages do too, on one simulated frame whose truth is known."""

import tempfile
import warnings
from time import process_time

import bench_methods as methods
import numpy as np
from bench_problems import make_problems
from bench_table import installed
from reproject import reproject_interp

import sunpy.map
from astropy.table import Table

from esis_ndcube import ESISLevel1Cube, coalign
from esis_ndcube.level1.despike import estimate_noise, find_spikes
from esis_ndcube.resample import reproject_alignment
from esis_ndcube.simulate import simulate_flight

# Settings of the Laplacian method that are tried, the defaults first; the best of them by truth is printed too.
_CONTRASTS = 5.0, 2.0, 1.0, 0.5
_FINE_SHARES = 0.3, 0.1, 0.5


def table(size, limit):
    """
    Processor time of one image and quality of the result, by task and package.

    Parameters
    ----------
    size : str or float
        Number of the simulated flight's frame.
    limit : float
        Seconds after which the legacy alignment is stopped.

    Returns
    -------
    `~astropy.table.Table`
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulated = simulate_flight(size=size, n_exposures=1, missing=False, blank=False)
        files = simulated.write(folder)
        rows += _spikes(simulated, ESISLevel1Cube.from_raw(files.raw, simulated.flight, despike=False))
        level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight)
        rows += _resampling(level1, [sunpy.map.Map(path) for path in files.reference])
        rows += _alignment(size, limit)
    found = Table(rows=rows, names=("task", "package", "s", "result"))
    found["s"].info.format = ".2f"
    return found


def _timed(function, *args, **kwargs):
    """Result and processor time; the first call compiles and imports."""
    function(*args, **kwargs)
    begin = process_time()
    result = function(*args, **kwargs)
    return result, process_time() - begin


def _spikes(simulated, level1):
    frame_number, channel = int(level1.frame_number[0]), int(level1.channel[0])
    image, bad = (np.array(a[0, 0]) for a in (level1.data, level1.mask))
    image[bad] = np.median(image[~bad])
    truth = simulated.spikes(frame_number, channel)
    floor, slope = estimate_noise(image)

    def row(package, function, *args, **kwargs):
        found, seconds = _timed(function, *args, **kwargs)
        return ("spikes", package, seconds, _score(found & ~bad, truth & ~bad))

    yield row("esis_ndcube", find_spikes, image)
    if installed("astroscrappy"):
        from astroscrappy import detect_cosmics

        # In units in which the noise is that of Poisson, as the method has it.
        options = {"gain": 1.0, "readnoise": float(np.sqrt(floor) / slope), "satlevel": np.inf, "cleantype": "medmask"}

        def laplacian(contrast, share):
            scaled = (image / slope).astype("f4")
            return detect_cosmics(scaled, objlim=contrast, sigfrac=share, **options)[0]

        default = _CONTRASTS[0], _FINE_SHARES[0]
        best = max(
            ((a, b) for a in _CONTRASTS for b in _FINE_SHARES),
            key=lambda o: _quality(laplacian(*o) & ~bad, truth & ~bad),
        )
        for name, setting in (("defaults", default), ("best of 12 settings", best)):
            yield row(f"astroscrappy {installed('astroscrappy')}, {name}", laplacian, *setting)
    if installed("ccdproc"):
        from ccdproc import cosmicray_median

        def median():
            sigma = np.sqrt(np.maximum(floor + slope * image, floor))
            return cosmicray_median(image, error_image=sigma, thresh=5, mbox=5)[1]

        yield row(f"ccdproc {installed('ccdproc')}, median", median)


def _quality(found, truth):
    """Harmonic mean of the shares of true pixels that are found and of found ones that are true."""
    return 2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1)


def _score(found, truth):
    return f"{(found & truth).sum() / truth.sum():.1%} of the hit pixels, {(found & ~truth).sum()} others"


def _resampling(level1, maps):
    alignment = coalign(level1, maps).final[0, 0]
    image = np.nan_to_num(np.asarray(level1.data[0, 0]))
    shape = level1.flight.grid_shape
    for order in ("bilinear", "bicubic"):
        ours, seconds = _timed(reproject_alignment, (image, alignment), alignment.grid, shape, order=order)
        theirs, other = _timed(reproject_interp, (image, alignment.to_gwcs()), alignment.grid, shape, order=order)
        both = np.isfinite(ours[0]) & np.isfinite(theirs[0])
        off = np.abs(ours[0] - theirs[0])[both].max() / image.max()
        yield (f"{order} resampling", "esis_ndcube", seconds, "with the footprint")
        version = installed("reproject")
        yield (
            f"{order} resampling",
            f"reproject {version}",
            other,
            f"differs by at most {off:.0e} of the largest value",
        )


def _alignment(size, limit):
    problem = next(p for p in make_problems(size=size) if p.task == "sun")
    cases = [("esis_ndcube, no pyramid", methods.ours_plain)]
    cv2 = next((name for name in ("opencv-python-headless", "opencv-python") if installed(name)), None)
    if cv2:
        cases.append((f"{cv2} {installed(cv2)}, ECC", methods.ecc(filtered=True, blur=5)))
    for name, prepare in cases:
        solution, seconds = _timed(prepare(problem))
        yield ("affine fit, filtered", name, seconds, f"{problem.error(solution):.3f} px from the truth")
    begin = process_time()
    try:
        solution, end = methods.legacy(limit)(problem)(), ""
    except methods.Stopped as stop:
        solution, end = stop.args[0], ", stopped"
    yield ("affine fit", "legacy way", process_time() - begin, f"{problem.error(solution):.3f} px from the truth{end}")
