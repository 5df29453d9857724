"""How well the channels of the 2019 flight agree, and how far the measures of this can be trusted."""

import argparse
import time
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
from accuracy import perturbed
from scipy.ndimage import binary_erosion, gaussian_filter

import astropy.units as u
import sunpy.map
from astropy.table import join

from esis_ndcube import ESIS_1, ESISLevel1Cube, ESISLevel3Cube, coalign, form_level3
from esis_ndcube.field_stop.region import line_region
from esis_ndcube.flags import Flag
from esis_ndcube.quality import image_shift, offset_to_map, pair_correlation, pair_offset, tile_residual
from esis_ndcube.registration import log_difference_of_gaussians
from esis_ndcube.resample import interpolate

GOOD = slice(0, 15)  # frames 109 to 133
KEYS = "first", "second", "x", "y"
REFERENCE = "aia_304_20190930_1808_digitized.fits"


def rms(vectors):
    return float(np.sqrt(np.mean(np.sum(np.square(vectors), axis=0))))


def vectors(table, suffix=""):
    return np.array([table["dx" + suffix], table["dy" + suffix]])


def by_pair(table):
    return table.group_by(["frame_number", "first", "second"]).groups


def correlations(linear, final):
    print("correlation of the pairs, frames 109 to 133: linear, quadratic, pairs that improve, least gain")
    for region, clip in (("full", None), ("octagon", None), ("clean", None), ("full", 99.5), ("octagon", 99.5)):
        before, after = (pair_correlation(cube, region=region, clip=clip)["correlation"] for cube in (linear, final))
        gain = after - before
        print(
            f"  {region:8s} clip {clip or '-':>4}  {before.mean():.4f} {after.mean():.4f}  "
            f"{(gain > 0).sum()} of {len(gain)}  {gain.min():+.5f}"
        )
    print(f"  full, frames 110 to 133: {pair_correlation(final[1:])['correlation'].mean():.4f}")


def residuals(final):
    tiles = tile_residual(final)
    later = tiles[tiles["frame_number"] > 109]
    frames = [rms(vectors(later[later["frame_number"] == frame])) for frame in np.unique(later["frame_number"])]
    print(
        f"tile residual, frames 110 to 133: {rms(vectors(later)):.3f}, by frame {min(frames):.3f} to {max(frames):.3f}"
    )
    for first, second in ((124, 125), (118, 119), (110, 133)):
        both = join(*(tiles[tiles["frame_number"] == frame] for frame in (first, second)), keys=KEYS)
        change = rms(vectors(both, "_2") - vectors(both, "_1")) / np.sqrt(2)
        same = np.mean(np.sum(vectors(both, "_1") * vectors(both, "_2"), axis=0))
        print(f"  frames {first} and {second}: change {change:.3f} (over sqrt 2), in common {np.sqrt(same):.3f}")
    print("offset of the pairs, largest: whole field, mean of tiles, median of tiles")
    whole = pair_offset(final)
    means = [np.hypot(*vectors(group).mean(axis=1)) for group in by_pair(tiles)]
    medians = [np.hypot(*np.median(vectors(group), axis=1)) for group in by_pair(tiles)]
    print(f"  {np.hypot(*vectors(whole)).max():.3f} {max(means):.3f} {max(medians):.3f}")
    for i, j in combinations(range(1, 5), 2):
        pair = whole[(whole["first"] == i) & (whole["second"] == j)]
        size = np.hypot(*vectors(pair))
        print(f"  channels {i} and {j}: mean {vectors(pair).mean(axis=1).round(3)}, largest {size.max():.3f}")


def weights(final, index):
    """Offsets of the pairs with other filters, and in the bright and in the dark half of the field."""
    images, flags = np.asarray(final.data[index]), final.flags[index]
    stops = [binary_erosion(f & (Flag.OUTSIDE | Flag.MISSING) == 0, iterations=12) for f in flags]
    smooth = gaussian_filter(np.nan_to_num(images).mean(axis=0), 10)
    red = [np.linalg.inv(a.transform.jacobian(630.0, 640.0))[:, 0] for a in final.alignment[index]]
    number = final.frame_number[index]
    print(f"frame {number}: offset of the pairs by widths of the filter; redshift of bright against dark")
    for widths in ((1, 4), (1, 8), (2, 8), (2, 16)):
        filtered = [
            log_difference_of_gaussians(a, *widths, valid=f & Flag.INVALID == 0)
            for a, f in zip(images, flags, strict=True)
        ]
        sizes, shifts = [], []
        for i, j in combinations(range(4), 2):
            inside = stops[i] & stops[j]
            sizes.append(np.hypot(*image_shift(filtered[i], filtered[j], inside=inside)))
            bright = smooth > np.median(smooth[inside])
            parts = [image_shift(filtered[i], filtered[j], inside=inside & half) for half in (bright, ~bright)]
            along = red[j] - red[i]
            shifts.append(np.subtract(*parts) @ along / (along @ along))
        print(f"  {widths}: {np.round(sizes, 3)}, {np.round(shifts, 3)} detector pixels")


def injections(final, level1, index):
    part, frames = final[index : index + 1], level1.data[index]
    before = tile_residual(part)
    first, stop = ESIS_1.line("O V").columns
    y, x = np.mgrid[: part.shape[2], : part.shape[3]].astype(float)
    one = np.ones_like(x)

    def displaced(fields):
        data = np.array(part.data)
        for c, (dx, dy) in fields.items():
            u_pixel, v_pixel = part.alignment[0, c].transform(x - dx, y - dy)
            photons = frames[c, :, first:stop] / ESIS_1.electrons_per_photon("O V").value
            image, footprint = interpolate(photons.astype(np.float32), u_pixel - first, v_pixel)
            data[0, c] = np.where(footprint & (u_pixel >= first - 0.5) & (u_pixel <= stop - 0.5), image, np.nan)
        mask = part.mask | ~np.isfinite(data)
        return ESISLevel3Cube(data, wcs=part.wcs, meta=part.meta, mask=mask, flags=part.flags, unit=part.unit)

    def report(name, fields):
        both = join(before, tile_residual(displaced(fields)), keys=KEYS)
        expected = np.zeros((2, len(both)))
        for row, tile in enumerate(both):
            where = tuple(slice(int(tile[k] - 63.5), int(tile[k] + 64.5)) for k in ("y", "x"))
            for sign, channel in ((1, tile["second"]), (-1, tile["first"])):
                for axis, field in enumerate(fields.get(channel - 1, ())):
                    expected[axis, row] += sign * field[where].mean()
        found = vectors(both, "_2") - vectors(both, "_1")
        hit = expected.any(axis=0)
        error = (found - expected)[:, hit]
        print(
            f"  {name:34s} {rms(expected[:, hit]):.3f}  {rms(error):.4f}  {np.hypot(*error).max():.3f}  "
            f"{np.sum(found * expected) / np.sum(expected**2):.3f}"
        )

    def doppler(velocity):
        fields = {}
        for c in range(4):
            red = np.linalg.inv(part.alignment[0, c].transform.jacobian(x[::127, ::127], y[::127, ::127]))[..., 0]
            fields[c] = tuple(velocity * red.mean(axis=(0, 1))[axis] for axis in (0, 1))
        return fields

    print(f"frame {part.frame_number[0]}, injected: RMS of the tiles' means, RMS error, largest, slope")
    for size in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0):
        report(f"shift {size} along x", {2: (size * one, 0 * one)})
    report("shift 1.0 oblique", {2: (np.sqrt(0.5) * one, -np.sqrt(0.5) * one)})
    report("stretch 0.1 %", {2: (1e-3 * (x - 640), 0 * x)})
    report("roll 0.05 deg", {2: (-np.radians(0.05) * (y - 630), np.radians(0.05) * (x - 640))})
    report("quadratic, 0.5 at 500", {2: (0.5 * ((x - 640) / 500) ** 2, 0.3 * (x - 640) * (y - 630) / 500**2)})
    for length in (1000, 500, 250):
        report(f"Doppler wave of {length}", doppler(0.5 * np.sin(2 * np.pi * (0.6 * x + 0.8 * y) / length)))
    for width in (60, 30, 15, 8, 4):
        patches = gaussian_filter(np.random.default_rng(0).normal(size=x.shape), width)
        report(f"Doppler patches of sigma {width}", doppler(patches * 0.5 / patches.std()))


def distance(before, after, seen=None, detector=None):
    """RMS distance in grid pixels, over the field stop or what another alignment's detector can see of it."""
    y, x = np.mgrid[:1270:10, :1270:10].astype(float)
    u_pixel, v_pixel = before.transform(x, y)
    inside = line_region(ESIS_1, before.channel, "O V", u_pixel, v_pixel)
    if seen is not None:
        inside &= seen(*detector.transform(x, y))
    moved = np.array(before.transform.inverse(*after.transform(x, y)))
    return rms((moved - (x, y))[:, inside])


def realigned(level1, index, data, mask, reference):
    part = level1[index : index + 1]
    cube = ESISLevel1Cube(data, wcs=part.wcs, meta=part.meta, mask=mask, flags=part.flags, unit=part.unit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return coalign(cube, reference).final[0]


def event(final, level1, reference):
    print("alignment with and without 40 pixels about the explosive event: RMS distance of each channel")
    v_pixel, u_pixel = np.mgrid[: level1.shape[2], : level1.shape[3]].astype(float)
    for frame in (116, 119, 121, 123, 124):
        index = list(final.frame_number).index(frame)
        before = final.alignment[index]
        mask = np.array(level1.mask[index])
        for plane, alignment in zip(mask, before, strict=True):
            x, y = alignment.transform.inverse(u_pixel, v_pixel)
            plane |= np.hypot(x - 697, y - 526) < 40
        after = realigned(level1, index, level1.data[index : index + 1], mask[None], reference)
        print(f"  frame {frame}: {np.round(list(map(distance, before, after)), 4)}")


def injuries(final, level1, index, reference):
    print("frame 124 with something wrong in one channel: RMS distance of each channel, and in what can be seen")
    rng = np.random.default_rng(0)

    def block(data, mask):
        data[400:600, 1400:1600] = np.nan

    def saturated(data, mask):
        data[400:600, 1400:1600] = 1.6e5
        mask[400:600, 1400:1600] = True

    def spikes(data, mask):
        data[rng.integers(0, data.shape[0], 200), rng.integers(0, data.shape[1], 200)] += rng.exponential(2000, 200)

    def blank(data, mask):
        data[:] = rng.normal(0, 10, data.shape)

    def lower(data, mask):
        data[:520] = rng.normal(0, 10, data[:520].shape)

    def upper(data, mask):
        data[520:] = 0

    def right(data, mask):
        data[:, 1520:] = np.nan

    seen = {lower: lambda u, v: v > 530, upper: lambda u, v: v < 510, right: lambda u, v: u < 1510}
    for channel in (3, 2):
        hurt = final.alignment[index, channel - 1]
        for injure in (block, saturated, spikes, blank, lower, upper, right):
            data, mask = (np.array(part[index : index + 1]) for part in (level1.data, level1.mask))
            injure(data[0, channel - 1], mask[0, channel - 1])
            pairs = zip(final.alignment[index], realigned(level1, index, data, mask, reference), strict=True)
            cells = [
                f"{distance(before, after):.4f} {distance(before, after, seen.get(injure), hurt):.4f}"
                if after.converged
                else after.reason
                for before, after in pairs
            ]
            print(f"  channel {channel} {injure.__name__:10s} {' | '.join(cells)}")


def coarse_starts(final, level1, index, reference, trials=25):
    print("frame 124 from poses that are off by 60 pixels, 5 degrees and 3 per cent: RMS distance of each channel")
    found = []
    for trial in range(trials):
        lost = perturbed(level1[index : index + 1], 60, 5, 0.03, trial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            after = coalign(lost, reference).final[0]
        found += [distance(a, b) if b.converged else np.inf for a, b in zip(final.alignment[index], after, strict=True)]
    print(f"  {(np.array(found) < 0.1).sum()} of {len(found)} within 0.1, largest {max(found):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with esis_level0/ and esis_derived/" + REFERENCE)
    folder = parser.parse_args().folder
    warnings.filterwarnings("ignore", message="Missing metadata")
    # A warning of frame 138, which is nearly extinct.
    warnings.filterwarnings("ignore", message="1 of 64 frames could not be aligned")
    began = time.process_time()
    reference = sunpy.map.Map(folder / "esis_derived" / REFERENCE)
    level1 = ESISLevel1Cube.from_raw(folder / "esis_level0")
    options = {"vignetting": False, "normalize": False}
    linear, final = (form_level3(level1, reference, stage=stage, **options)[GOOD] for stage in ("linear", "final"))
    index = list(final.frame_number).index(124)
    correlations(linear, final)
    offsets = offset_to_map(final, reference, frame_number=124)
    pixels = np.hypot(offsets["dx"], offsets["dy"]).to_value(u.arcsec) / 0.6
    print(f"offset to the digitized AIA image, frame 124: {np.round(pixels, 2)} pixels")
    residuals(final)
    weights(final, index)
    injections(final, level1, index)
    event(final, level1, reference)
    injuries(final, level1, index, reference)
    coarse_starts(final, level1, index, reference)
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
