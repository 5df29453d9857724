"""The tools that a solar physicist would otherwise take; they fit the pointing of images on the sky."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np

import astropy.units as u
import sunpy.map
from astropy.io import fits


def _header(problem):
    """A plain header in arcsec: all of these tools add to CRVAL."""
    rows, columns = problem.reference.shape
    pixel = problem.scale[0]
    return fits.Header(
        {
            "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
            "CDELT1": pixel, "CDELT2": pixel, "CRVAL1": 0.0, "CRVAL2": 0.0,
            "CRPIX1": (columns + 1) / 2, "CRPIX2": (rows + 1) / 2,
            "PC1_1": 1.0, "PC1_2": 0.0, "PC2_1": 0.0, "PC2_2": 1.0, "CROTA": 0.0,
            "DATE-OBS": "2019-09-30T18:08:00", "DATE-AVG": "2019-09-30T18:08:00",
            "HGLN_OBS": 0.0, "HGLT_OBS": 6.7, "DSUN_OBS": 1.498e11, "RSUN_REF": 6.957e8,
        }
    )  # fmt: skip


def _maps(problem, *, filtered):
    reference, image, _ = problem.warped(filtered=filtered)
    header = _header(problem)
    return sunpy.map.Map(reference, header), sunpy.map.Map(image, header)


def _shifted(problem, dx, dy):
    """Solution where the image must be moved by so many grid pixels."""
    return lambda x, y: problem.start(x - dx, y - dy)


def match_template(*, filtered):
    """sunkit-image; the template is the default one, the middle half of the reference."""

    def prepare(problem):
        from sunkit_image.coalignment import calculate_match_template_shift

        sequence = sunpy.map.Map(*_maps(problem, filtered=filtered), sequence=True)

        def fit():
            shifts = calculate_match_template_shift(sequence, layer_index=0)
            dx, dy = (shifts[axis][1].to_value(u.arcsec) / problem.scale[0] for axis in "xy")
            # The tool says how far the content of the second image is off.
            return _shifted(problem, -dx, -dy)

        return fit

    return prepare


def sunxcorr(*, filtered, reach=12):
    """sunxcorr, one worker process (the time holds its start)."""

    def prepare(problem):
        from sunxcorr import Orchestrator, SingleMapProcess
        from sunxcorr.worker_setup import shutdown_persistent_workers

        reference, image = _maps(problem, filtered=filtered)

        def fit():
            root = Orchestrator(n_workers=1)
            root.base_target_map, root.reference_map, root.verbose = image, reference, 0
            root.add_child(SingleMapProcess(max_shift=reach * u.arcsec))
            with contextlib.redirect_stdout(io.StringIO()):
                root.execute()
            result = root.get_final_result()
            # It leaves its worker running.
            if root.worker_processes:
                shutdown_persistent_workers(root.task_queue, root.worker_processes)
            dx, dy = (q.to_value(u.arcsec) / problem.scale[0] for q in result.shift_arcsec)
            return _shifted(problem, dx, dy)

        return fit

    return prepare


def euispice(*, filtered):
    """
    euispice-coreg: it tries every value on a grid of header values, so that this goes from coarse to fine.

    Pointing in steps of 2 arcsec, then of 0.5; roll; and the pointing once more, with its own Gaussian fit.
    The scales stay: version 0.4.0 raises AttributeError for any lag of CDELT2, and leaves CDELT1 as it is.
    """

    def prepare(problem):
        from euispice_coreg.hdrshift.alignment import Alignment

        folder = tempfile.TemporaryDirectory()
        paths = [str(Path(folder.name) / name) for name in ("reference.fits", "image.fits")]
        header = _header(problem)
        reference, image, _ = problem.warped(filtered=filtered)
        for path, data in zip(paths, (reference, image), strict=True):
            # NaN is what it leaves out; the border is no part of the image.
            fits.writeto(path, np.where(data == 0, np.nan, data), header)
        stages = [
            {"lag_crval1": np.arange(-6, 6.1, 2), "lag_crval2": np.arange(-6, 6.1, 2)},
            {"lag_crval1": np.arange(-1.5, 1.6, 0.5), "lag_crval2": np.arange(-1.5, 1.6, 0.5)},
            {"lag_crota": np.arange(-4, 5) * 0.02},
            {"lag_crval1": np.arange(-0.4, 0.41, 0.2), "lag_crval2": np.arange(-0.4, 0.41, 0.2)},
        ]

        def fit():
            folder  # noqa: B018 (lives as long as this function)
            total = dict.fromkeys(_LAGS, 0.0)
            for stage in stages:
                with fits.open(paths[1], mode="update") as hdus:
                    hdus[0].header.update(_moved_header(header, total))
                lags = {name: stage.get(name, np.array([0.0])) for name in _LAGS}
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    tool = Alignment(
                        paths[0], paths[1], **lags, unit_lag="arcsec", lag_solar_r=np.array([1.004]), parallelism=False
                    )
                    # Version 0.4.0 puts an array of one number where numpy 2.4 wants the number.
                    correlate = tool.correlation_function
                    tool.correlation_function = lambda *a, f=correlate, **k: float(np.ravel(f(*a, **k))[0])
                    result = tool.align_using_helioprojective()
                for name, value in zip(_LAGS, result.shift_arcsec, strict=True):
                    total[name] += float(value)
            return _from_header(problem, _moved_header(header, total))

        return fit

    return prepare


_LAGS = "lag_crval1", "lag_crval2", "lag_cdelt1", "lag_cdelt2", "lag_crota"


def _moved_header(header, lags):
    """The header after corrections, as euispice-coreg understands them."""
    result = header.copy()
    for key in ("CRVAL1", "CRVAL2", "CDELT1", "CDELT2", "CROTA"):
        result[key] += lags["lag_" + key.lower()]
    roll, ratio = np.radians(result["CROTA"]), result["CDELT2"] / result["CDELT1"]
    result["PC1_1"] = result["PC2_2"] = np.cos(roll)
    result["PC1_2"], result["PC2_1"] = -ratio * np.sin(roll), np.sin(roll) / ratio
    return result


def _from_header(problem, header):
    """The solution in a header: pixels of the image and of the reference are at the same place on the sky."""
    pixel = problem.scale[0]
    pc = np.array([[header[f"PC{i}_{j}"] for j in (1, 2)] for i in (1, 2)])
    matrix = np.array([[header["CDELT1"]], [header["CDELT2"]]]) * pc
    value = np.array([header["CRVAL1"], header["CRVAL2"]])
    middle = np.array([header["CRPIX1"], header["CRPIX2"]]) - 1

    def solution(x, y):
        sky = pixel * (np.stack([x, y]) - middle[:, None])
        return problem.start(*(np.linalg.solve(matrix, sky - value[:, None]) + middle[:, None]))

    return solution
