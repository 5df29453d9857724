"""
How far the pointing of the 2019 cube is from that of AIA.

The cube is pointed by one digitized image with pixels of 3 arcsec. Where the co-temporal AIA 304 files are at hand,
this says by how much it is off; without them it compares the cube with the digitized image again.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

import astropy.units as u
import sunpy.map
from astropy.table import vstack

from esis_ndcube import ESIS_1, ESISLevel1Cube, form_level3
from esis_ndcube.level1.frames import find_frames, sort_frames
from esis_ndcube.quality import offset_to_map

REFERENCE = "aia_304_20190930_1808_digitized.fits"


def pointing_offsets(cube, maps):
    """
    Offset of every channel from each image, in the exposure nearest in time, as `offset_to_map` has it.

    Images more than half a cadence away from all exposures are left out.
    """
    least = [np.abs((cube.time - item.reference_date).to_value(u.s)).min() for item in maps]
    near = [item for item, gap in zip(maps, least, strict=True) if gap <= cube.flight.cadence.to_value(u.s) / 2]
    tables = [offset_to_map(cube, item) for item in near]
    for table, item in zip(tables, near, strict=True):
        table["image"] = item.reference_date.isot
    return vstack(tables) if tables else None


def nearest_frames(frames, maps):
    """Frame numbers of the exposures nearest in time to the images."""
    times = {frame.frame_number: frame.mid_time(ESIS_1) for frame in frames}
    return sorted({min(times, key=lambda n: abs((times[n] - item.reference_date).to_value(u.s))) for item in maps})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with esis_level0/ and esis_derived/" + REFERENCE)
    parser.add_argument("--aia", type=Path, help="folder of AIA 304 files (FITS), by default the digitized image only")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Missing metadata")
    reference = sunpy.map.Map(arguments.folder / "esis_derived" / REFERENCE)
    paths = sorted(p for p in arguments.aia.iterdir() if ".fit" in p.name) if arguments.aia else []
    maps = [sunpy.map.Map(path) for path in paths] or [reference]
    light, _ = sort_frames(find_frames(arguments.folder / "esis_level0", ESIS_1), ESIS_1)
    level1 = ESISLevel1Cube.from_raw(arguments.folder / "esis_level0", frame_numbers=nearest_frames(light, maps))
    table = pointing_offsets(form_level3(level1, reference, vignetting=False, normalize=False), maps)
    if table is None:
        parser.error(f"no image is within {ESIS_1.cadence / 2} of an exposure")
    print(table)
    for name in ("dx", "dy"):
        values = table[name].to_value(u.arcsec)
        print(f"{name}: mean {np.nanmean(values):+.2f}, scatter {np.nanstd(values):.2f} arcsec, {len(values)} images")


if __name__ == "__main__":
    main()
