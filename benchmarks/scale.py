"""Time and memory of forming Level-3 cubes of many exposures, streamed from Level 1 to FITS."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

_UNIT = 2**10 if sys.platform.startswith("linux") else 1
_GB = 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for simulated frames, which are kept, and cubes, which are not")
    runs = ["28x1", "112x1", "28x4", "112x4", "448x4"]
    parser.add_argument("--runs", nargs="+", default=runs, help="exposures x how many times the field is shrunk")
    parser.add_argument("--schedulers", nargs="+", default=["threads", "cluster"], choices=["threads", "cluster"])
    parser.add_argument("--workers", nargs="+", type=int, default=[2], help="threads, or processes of a LocalCluster")
    parser.add_argument("--distinct", type=int, default=4, help="different exposures, which are repeated")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        settings = json.loads(options.child)
        print(
            json.dumps(
                simulate(options.folder, **settings) if "distinct" in settings else measure(options.folder, **settings)
            )
        )
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for run in options.runs:
        exposures, size = run.split("x")
        # In a process of its own: processes inherit the peak memory of the one that starts them.
        call(options, size=float(size), distinct=options.distinct)
        for scheduler in options.schedulers:
            # The first run compiles what is not compiled yet.
            call(options, exposures=1, size=size, scheduler=scheduler, workers=1)
            for workers in options.workers:
                row = call(options, exposures=int(exposures), size=size, scheduler=scheduler, workers=workers)
                rows.append({"run": run, "scheduler": f"{workers} {scheduler}", **row})
                print(rows[-1], file=sys.stderr)
    report(rows)


def simulate(folder, size, distinct):
    """Level-1 frames of a few exposures, and their reference images."""
    from esis_ndcube import ESISLevel1Cube
    from esis_ndcube.simulate import simulate_flight

    path = folder / f"level1_{size:g}_{distinct}.fits"
    if path.exists():
        return
    settings = {"n_exposures": distinct, "size": size, "missing": False, "blank": False}
    simulated = simulate_flight(**settings)
    files = simulated.write(folder / f"flight_{size:g}_{distinct}", overwrite=True)
    ESISLevel1Cube.from_raw(files.raw, simulated.flight).write(path)


class Repeated:
    """An array in a file whose exposures come again and again; no more of it is in memory than is asked for."""

    def __init__(self, array, count):
        self.array, self.shape, self.dtype, self.ndim = array, (count, *array.shape[1:]), array.dtype, array.ndim

    def __getitem__(self, item):
        first, *rest = item
        # Dask asks for one exposure at a time, by a number or a range.
        index = np.arange(self.shape[0])[first] % self.array.shape[0]
        first = slice(int(index[0]), int(index[0]) + 1) if np.ndim(index) else int(index)
        return self.array[(first, *rest)].compute(scheduler="sync")


def repeat(base, count):
    """A lazy cube of so many exposures, with frame numbers and times of their own."""
    import dask.array as da

    import astropy.units as u
    from astropy.nddata import StdDevUncertainty
    from ndcube.meta import NDMeta

    from esis_ndcube import ESISLevel1Cube
    from esis_ndcube.wcs import level1_wcs

    take, cadence = np.arange(count) % base.shape[0], base.flight.cadence
    later = np.arange(count) // base.shape[0] * base.shape[0] * cadence
    values = {
        **base.meta,
        "frame_number": base.frame_number[0] + np.arange(count),
        "mid_time": base.mid_time[take] + later[:, None],
    }
    values |= {key: base.meta[key][take] for key in ("file", "exposure_time")}
    wcs = level1_wcs(
        base.shape[2:], base.time[take] + later, base.channel, base.exposure_time[take].mean(axis=1).to(u.s)
    )
    arrays = (
        da.from_array(Repeated(array, count), chunks=(1, 1, *base.shape[2:]), name=False, asarray=False)
        for array in (base.data, base.uncertainty.array, base.mask, base.flags)
    )
    data, sigma, mask, flags = arrays
    return ESISLevel1Cube(
        data,
        wcs=wcs,
        uncertainty=StdDevUncertainty(sigma, copy=False),
        mask=mask,
        flags=flags,
        unit=base.unit,
        meta=NDMeta(values, axes=dict(base.meta.axes)),
    )


def reference_maps(folder, base, count):
    """The reference image nearest to each exposure, as taken at its time."""
    import sunpy.map

    maps = [sunpy.map.Map(path) for path in sorted(folder.iterdir())]
    near = [min(maps, key=lambda item: abs(item.reference_date - time)) for time in base.time]
    result = []
    for index in range(count):
        item = near[index % len(near)]
        header = item.fits_header.copy()
        shift = index // len(near) * len(near) * base.flight.cadence
        for key in ("DATE-OBS", "DATE-AVG", "DATE-BEG", "DATE-END", "T_OBS"):
            header.pop(key, None)
        header["DATE-OBS"] = header["DATE-AVG"] = (item.reference_date + shift).isot
        result.append(sunpy.map.Map(item.data, header))
    return result


def measure(folder, *, exposures, size, scheduler, workers):
    """Form one cube in this process, and say how long each stage took and how much memory the processes had."""
    import contextlib

    from esis_ndcube import ESISLevel1Cube, form_level3
    from esis_ndcube.corrections import normalize
    from esis_ndcube.io._file import CubeFile
    from esis_ndcube.level3 import form

    (path,) = folder.glob(f"level1_{float(size):g}_*.fits")
    base = ESISLevel1Cube.read(path, lazy=True)
    level1 = repeat(base, exposures)
    maps = reference_maps(folder / path.stem.replace("level1", "flight") / "reference", base, exposures)
    output = folder / f"scale_{os.getpid()}.fits"
    marks = []

    def marked(name, function, *, after=False):
        def call(*args, **kwargs):
            marks.extend([] if after else [(name, time.perf_counter())])
            result = function(*args, **kwargs)
            marks.extend([(name, time.perf_counter())] if after else [])
            return result

        return call

    form.coalign = marked("align", form.coalign, after=True)
    normalize.image_means = marked("resample", normalize.image_means)
    CubeFile.finish = marked("normalize", CubeFile.finish)
    with contextlib.ExitStack() as stack:
        client = None
        if scheduler == "cluster":
            import distributed

            cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            client = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
            client.run(warm)
        idle = peak()
        start, used = time.perf_counter(), time.process_time()
        cube = form_level3(level1, maps, output=output, workers=None if client else workers)
        marks.append(("finish", time.perf_counter()))
        result = {"frames": exposures * len(level1.channel), "wall": marks[-1][1] - start}
        for name, moment in marks:
            result[name], start = moment - start, moment
        result["CPU"] = time.process_time() - used
        result["idle GB"], result["main GB"] = idle, peak()
        if client is not None:
            result["worker GB"] = max(client.run(peak).values())
        result["file GB"] = output.stat().st_size / _GB
        result["sums"] = data_sums(output)
        assert cube.shape[0] == exposures
    output.unlink()
    return result


def warm():
    """The imports of every process are not part of the flight's memory or time."""
    import esis_ndcube.level3.form  # noqa: F401


def peak():
    """Largest memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / _GB


def data_sums(path):
    """A checksum that tells whether two cubes have the same bits."""
    from astropy.io import fits

    with fits.open(path) as hdulist:
        return [hdulist[name].header["DATASUM"] for name in ("DATA", "UNCERT", "MASK", "FLAGS")]


def call(options, **settings):
    command = [sys.executable, __file__, str(options.folder), "--child", json.dumps(settings)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def report(rows):
    from astropy.table import Table

    same = {}
    for row in rows:
        same.setdefault(row["run"], set()).add(tuple(row.pop("sums")))
        row["ms/frame"] = 1000 * row["wall"] / row["frames"]
    names = ["run", "scheduler", "wall", "align", "resample", "normalize", "finish", "ms/frame", "main GB", "worker GB"]
    table = Table({name: [row.get(name, np.nan) for row in rows] for name in [*names, "file GB"]})
    for name in table.colnames[2:]:
        table[name].info.format = ".2f" if "GB" in name else ".1f"
    print("\n".join(table.pformat(max_width=-1)))
    for run, sums in same.items():
        print(f"{run}: {'the same bits' if len(sums) == 1 else 'DIFFERENT BITS'} in all runs")


if __name__ == "__main__":
    main()
