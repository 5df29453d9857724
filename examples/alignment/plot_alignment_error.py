"""
===============================
How certain is an alignment?
===============================

Every alignment has error bars, at each pixel.
A simulated flight shows whether the error bars are right.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import sunpy.map

from esis_ndcube import ESISLevel1Cube, coalign
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.simulate.demo import coordinate_error

# %%
# Smooth velocities on the Sun look like distortions, and are no part of the error bar, so this simulation has none.

simulated = simulate_flight(size=2, n_exposures=2, missing=False, blank=False, velocity=0)
with tempfile.TemporaryDirectory() as folder:
    files = simulated.write(folder)
    level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight)
    alignments = coalign(level1, [sunpy.map.Map(path) for path in files.reference])

alignment = alignments.final[0, 0]
print(alignment)

# %%
# The true error of the recovered coordinates, and the standard deviation that the alignment states for them.

scale = simulated.flight.grid_cdelt[0]
x, y, dx, dy = coordinate_error(alignment, simulated)
sigma = np.hypot(*(sigma.to_value("arcsec") for sigma in alignment.coordinate_uncertainty(x, y)))
error = np.hypot(dx, dy) * scale
print(f"true error: {np.sqrt(np.mean(error**2)):.3f} arcsec RMS, stated: {np.sqrt(np.mean(sigma**2)):.3f} arcsec")

# %%
# All alignments of both exposures: the mean of (error / stated)², which is 1 in the long run if the error bars are
# right.
# These few share their errors through the reference channel, so that their mean scatters about 1;
# ``benchmarks/accuracy.py`` prints it for a whole flight.

ratios = []
for item in alignments.final.flat:
    x_all, y_all, dx_all, dy_all = coordinate_error(item, simulated)
    sigma_x, sigma_y = (s.to_value("arcsec") for s in item.coordinate_uncertainty(x_all, y_all))
    ratios.append(np.mean(((dx_all * scale) / sigma_x) ** 2 + ((dy_all * scale) / sigma_y) ** 2) / 2)
print(
    f"mean over {len(ratios)} alignments: {np.mean(ratios):.2f}, smallest {min(ratios):.2f}, largest {max(ratios):.2f}"
)

# %%
# Toward the edge of the field the map is held from one side only, and its error grows; outside of it the map is
# extrapolated.

rows, columns = np.indices(simulated.flight.grid_shape)
sigma_map = np.hypot(*(s.to_value("arcsec") for s in alignment.coordinate_uncertainty(columns, rows)))
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharex=True, sharey=True)
limit = np.percentile(np.concatenate([error, sigma]), 99.5)
left.scatter(x, y, c=error, s=9, vmin=0, vmax=limit, cmap="viridis")
left.set_title(f"True error, channel {alignment.channel}, frame {alignment.frame_number}")
artist = right.imshow(sigma_map, origin="lower", vmin=0, vmax=limit, cmap="viridis")
right.contour(sigma_map, levels=np.linspace(0, limit, 7)[1:-1], colors="white", linewidths=0.7)
right.set_title("Stated standard deviation")
for axes in (left, right):
    axes.set(xlabel="x [pixel]", ylabel="y [pixel]", aspect="equal")
figure.colorbar(artist, ax=[left, right], label="Error [arcsec]")
