"""Read a thousand exposures lazily, and see whether memory or handles grow."""

import gc
import os
from pathlib import Path

import numpy as np

from esis_ndcube import ESISLevel1Cube, ESISLevel3Cube, form_level3

PROCESS = Path("/proc/self")
# Bytes that memory may grow, and exposures after which it is looked at.
GROWTH, STEP = 16 << 20, 25


def soak(count, flight, folder, rng):
    """Use exposures of lazy cubes one after the other; yields for each what grew, or None."""
    level1 = ESISLevel1Cube.from_raw(flight.files.raw, flight.flight, lazy=True)
    path = folder / "l3.fits"
    form_level3(level1, flight.maps, output=path)
    limit = None
    for number in range(count):
        # Of raw frames now and then, because their calibration takes longest.
        if number % 10 == 0:
            image = level1[number % level1.shape[0]]
        else:
            image = ESISLevel3Cube.read(path, lazy=True)[number % level1.shape[0]]
        total = float(np.nansum(image.data.compute()))
        if number % STEP == 0:
            gc.collect()
        memory = int(PROCESS.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        used = memory, len(list(PROCESS.joinpath("fd").iterdir()))
        if number == count // 10 // STEP * STEP:
            limit = memory + GROWTH, used[1]
        flat = limit is None or number % STEP or (used[0] <= limit[0] and used[1] <= limit[1])
        yield None if total and flat else f"exposure {number}: memory and handles {used}, expected at most {limit}"
