"""
The effect of maximizing the raw correlation on the real flight: ``python benchmarks/raw_correlation.py FOLDER``.

The frames are aligned twice, with the filter and without it, and the same is measured for both alignments.
"""

import argparse
import contextlib
import warnings
from pathlib import Path

import numpy as np
from accuracy import unfiltered

import sunpy.map
from astropy.table import Table

from esis_ndcube import ESISLevel1Cube, form_level3
from esis_ndcube.quality import pair_correlation, tile_residual


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the raw frames and the digitized AIA image of the 2019 flight")
    parser.add_argument("--frames", nargs=2, type=int, default=(109, 133), help="first and last raw frame")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Missing metadata for observer")
    first, last = arguments.frames
    level1 = ESISLevel1Cube.from_raw(arguments.folder / "esis_level0", lazy=True)
    level1 = level1[slice(*np.searchsorted(level1.frame_number, (first, last + 1)))]
    reference = sunpy.map.Map(next((arguments.folder / "esis_derived").glob("aia_304_*.fits")))
    rows = []
    for images, context in (("filtered", contextlib.nullcontext()), ("as they are", unfiltered())):
        with context:
            cube = form_level3(level1, reference, vignetting=False, normalize=False)
        tiles = tile_residual(cube)
        by_frame = [
            np.sqrt(np.mean(group["dx"] ** 2 + group["dy"] ** 2)) for group in tiles.group_by("frame_number").groups
        ]
        correlations = [
            pair_correlation(cube, region=region, clip=clip)["correlation"].mean()
            for region, clip in (("full", None), ("octagon", 99.5))
        ]
        rows.append((images, np.median(by_frame), max(by_frame), *correlations))
    table = Table(rows=rows, names=("images", "tiles median", "tiles worst", "correlation, full", "octagon, clipped"))
    for name in table.colnames[1:3]:
        table[name].info.format = ".3f"
    for name in table.colnames[3:]:
        table[name].info.format = ".5f"
    frames = level1.frame_number
    print(f"frames {frames[0]} to {frames[-1]}, {len(frames)} exposures; residual in tiles by frame, in pixels")
    print("\n".join(table.pformat(max_width=-1)))


if __name__ == "__main__":
    main()
