"""
==================
ESIS Level 3 data
==================

This page repeats the steps of the notebook that came with the published Level-3 data, with this package: from the
comparison with AIA to the corrected differences of the channels.

The page is executed when it is built.
If the environment variable ``ESIS_FLIGHT_DATA`` names a folder with raw frames of the flight, the page uses these;
otherwise it simulates a flight of a third of the size, whose numbers are no measurements.
"""

# %%
# The cubes
# =========
#
# One cube is aligned by the affine map to AIA 304 only, the other one by the quadratic step as well.
# Neither cube is corrected for vignetting or normalized, because the steps below show both corrections.

import os
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import sunpy.map
from astropy.table import Table

from esis_ndcube import ESIS_1, ESISLevel1Cube, form_level3, reproject_vignetting
from esis_ndcube.quality import (
    correlation_ratio,
    correlation_table,
    masked_difference_trend,
    offset_to_map,
    throughput,
)
from esis_ndcube.quality.figures import plot_correlation_ratio, plot_difference_trend, plot_throughput
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference

folder = os.environ.get("ESIS_FLIGHT_DATA")
if folder:
    # The last frame is nearly without light, and the digitized image does not name its observer.
    for message in ("1 of 64 frames could not be aligned", "Missing metadata for observer"):
        warnings.filterwarnings("ignore", message=message)
    raw = Path(folder) / "esis_level0"
    flight, references = ESIS_1, sorted((Path(folder) / "esis_derived").glob("aia_304_*.fits"))
else:
    simulated = simulate_flight(size="small", n_exposures=4, missing=False, blank=False)
    files = simulated.write(tempfile.mkdtemp())
    flight, raw, references = simulated.flight, files.raw, files.reference
level1 = ESISLevel1Cube.from_raw(raw, flight)
references = [sunpy.map.Map(path) for path in references]


def form(line, stage):
    cube = form_level3(level1, references, line=line, stage=stage, vignetting=False, normalize=False)
    # Of the flight, the exposures up to frame 133: later ones are dimmed by the atmosphere.
    return cube[: np.searchsorted(cube.frame_number, 134)]


linear, final = form("O V", "linear"), form("O V", "final")
print("Data of the 2019 flight." if folder else "SIMULATED DATA: the numbers below are no measurements.")
print(final)

# %%
# Comparison with AIA 304
# =======================
#
# The exposure nearest in time to the AIA image, at AIA's own resolution in the table.

frame_number = 124
reference = min(
    references, key=lambda image: abs(image.reference_date - final.time[list(final.frame_number).index(frame_number)])
)
plot_with_reference(final, reference, frame_number, figure=plt.figure(figsize=(11, 4.8), layout="constrained"))
offsets = offset_to_map(final, reference, frame_number=frame_number)
print(offsets)

# %%
# Correlation before and after the quadratic step
# ===============================================
#
# The zero-lag correlation of every pair of channels, mean over pairs and exposures.

regions = "full", "octagon", "clean", "clipped"
correlations = {"linear": correlation_table(linear), "quadratic": correlation_table(final)}
rows = [(name, *(table[region].mean() for region in regions)) for name, table in correlations.items()]
means = Table(rows=rows, names=("alignment", *regions))
for region in regions:
    means[region].info.format = ".4f"
print(means)

# %%
# The ratio of both, for every pair and exposure: over the full frame, where one explosive event has much weight, and
# with the images clipped at their 99.5th percentile.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
plot_correlation_ratio(correlation_ratio(final, linear), axes=left).set_title("Full frame")
ratio = correlation_ratio(final, linear, region="octagon", clip=99.5)
plot_correlation_ratio(ratio, axes=right).set_title("Octagon, clipped")
print(f"Improved by the quadratic step: {(ratio['ratio'] > 1).sum()} of {len(ratio)}")

# %%
# The images
# ==========
#
# All channels of one exposure, with the mask applied, in the projection of the cube.
# A slice of the cube has a WCS that matplotlib takes as it is.

index = list(final.frame_number).index(frame_number)
figure = plt.figure(figsize=(9, 8.4), layout="constrained")
for channel in range(final.shape[1]):
    image = final[index, channel]
    axes = figure.add_subplot(2, 2, channel + 1, projection=final.wcs[index, channel])
    image.plot(axes=axes, colorbar=True)

# %%
# `~esis_ndcube.visualization.plot_channels` draws the same, with one scale and arrows toward longer wavelength.

plot_channels(final, frame_number, figure=plt.figure(figsize=(9.8, 8.4), layout="constrained"))

# %%
# Vignetting
# ==========
#
# The difference of channels 2 and 3 has a slope from side to side, and so have the differences of all pairs.
# For the picture the channels are brought to one brightness.

plot_difference(
    final.normalize_intensities(), 2, 3, frame_number, figure=plt.figure(figsize=(7, 6), layout="constrained")
)

# %%
# The published method fits the vignetting to all exposures and pairs; then the images are divided by it.

corrected = final.correct_vignetting(method="difference-slopes")
print(corrected.vignetting)

# %%
# The field that the images were divided by, in the same exposure.

fields, _ = reproject_vignetting(corrected.vignetting, final.wcs[index, 0], alignment=final.alignment[index])
fields[final.mask[index]] = np.nan
figure = plt.figure(figsize=(11, 3.2), layout="constrained")
for channel, field in enumerate(fields):
    axes = figure.add_subplot(1, len(fields), channel + 1, projection=final.wcs[index, channel])
    artist = axes.imshow(field, origin="lower", vmin=1, vmax=np.nanmax(fields))
    axes.set(title=f"Channel {final.channel[channel]}", facecolor="0.5")
    axes.coords[1].set_ticklabel_visible(channel == 0)
    axes.coords[0].set_axislabel(" ")
    axes.coords[1].set_axislabel(" ")
figure.colorbar(artist, ax=figure.axes, label="Vignetting", shrink=0.8)

# %%
# The difference after the correction, and the trends of all pairs before and after, in photons.

normalized = corrected.normalize_intensities()
plot_difference(normalized, 2, 3, frame_number, figure=plt.figure(figsize=(7, 6), layout="constrained"))

# %%

figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
trends = {}
for axes, (name, cube) in zip(panels, {"before": final, "after": corrected}.items(), strict=True):
    trends[name] = masked_difference_trend(cube)
    plot_difference_trend(trends[name], axes=axes).set_title(f"{name} the correction".capitalize())

# %%
# Normalization
# =============
#
# All images are scaled to the brightest exposure of the brightest channel.
# The inverse of the factors shows the absorption by the atmosphere above the rocket.

print(f"factors from {np.nanmin(normalized.normalization):.3f} to {np.nanmax(normalized.normalization):.3f}")
plot_throughput(throughput(normalized), axes=plt.subplots(figsize=(7, 4), layout="constrained")[1])

# %%
# Coordinates
# ===========
#
# The WCS of the cube, and the header of one exposure, whose time is its own.

print(normalized.wcs)

# %%

print(repr(normalized[index, 0].wcs.to_header()))

# %%
# Numbers
# =======
#
# The table compares our numbers with the published ones of :cite:t:`Parker2022` and of the notebook.
# Two things differ where the flight is used: the published numbers are means over 28 exposures, of which those in the
# data folder up to frame 133 are taken here; and the published correlations with AIA are of a sequence of
# full-resolution images over the full frame, while here it is one digitized image, at its own resolution of 3 arcsec,
# inside of the field stop and for frame 124 only.

helium = {stage: correlation_table(form("He I", stage))["full"].mean() for stage in ("linear", "final")}
trend = {name: np.abs(table["trend"][(table["first"] == 2) & (table["second"] == 3)]) for name, table in trends.items()}
rows = [
    ("O V with AIA 304, mean", f"{np.mean(offsets['correlation']):.3f}", "0.463"),
    ("O V with AIA 304, largest", f"{np.max(offsets['correlation']):.3f}", "0.487"),
    ("O V, linear", f"{means['full'][0]:.4f}", "0.9086"),
    ("O V, quadratic", f"{means['full'][1]:.4f}", "0.9095"),
    ("He I, linear", f"{helium['linear']:.3f}", "0.662"),
    ("He I, quadratic", f"{helium['final']:.3f}", "0.666"),
    ("Trend of 2-3 before [photons]", f"{np.mean(trend['before']):.2f}", "about 5"),
    ("Trend of 2-3 after [photons]", f"{np.mean(trend['after']):.2f}", "0.4"),
]
table = Table(rows=rows, names=("quantity", "here" if folder else "simulated", "published"))
print("Data of the 2019 flight." if folder else "SIMULATED DATA beside the published numbers of the flight.")
print("\n".join(table.pformat(align=["<", ">", ">"])))
