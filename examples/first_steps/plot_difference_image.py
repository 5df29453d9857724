"""
================
Difference image
================

Light that moves toward us or away from us is displaced along the dispersion of each channel, and each channel
disperses in another direction.
So the difference of two aligned channels shows motion on the Sun.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import sunpy.map

from esis_ndcube import ESISLevel1Cube, form_level3
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.visualization import plot_difference

simulated = simulate_flight(size="small", n_exposures=2, missing=False, blank=False)
with tempfile.TemporaryDirectory() as folder:
    files = simulated.write(folder)
    level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight)
    cube = form_level3(level1, [sunpy.map.Map(path) for path in files.reference])

# %%
# The difference of channels 2 and 3 is a cube without channel axis.
# It keeps times and coordinates, and its uncertainty is that of both images.

difference = cube.difference(2, 3)
print(difference)

# %%
# This code finds the largest difference in units of its uncertainty.
# It uses the pixels that are valid in both channels and free of other lines' light.

clean = cube.clean_region(channels=[2, 3])
significance = np.where(clean, difference.data / difference.uncertainty.array, 0)
index, row, column = np.unravel_index(np.abs(significance).argmax(), significance.shape)
position = difference[index].wcs.pixel_to_world(column, row)
print(
    f"{abs(significance[index, row, column]):.0f} sigma at pixel ({column}, {row}) of frame {cube.frame_number[index]}"
)
print(f"which is at {position.Tx:.0f}, {position.Ty:.0f}")

# %%
# The simulation has an explosive event there, whose wings are displaced to both sides.

x, y = simulated.truth.event.position
print(f"truth: an event at pixel ({x:.0f}, {y:.0f})")

# %%
# Red marks places where channel 2 is brighter, blue places where channel 3 is brighter.
# The fainter pair of marks below is the same event in another spectral line, which each channel displaces along its
# own dispersion; thin lines are bad columns of a detector.

figure = plot_difference(cube, 2, 3, cube.frame_number[index], figure=plt.figure(figsize=(8, 7), layout="constrained"))
figure.axes[0].plot(column, row, "o", ms=26, mfc="none", mec="black", transform=figure.axes[0].get_transform("pixel"))
