"""
============
All channels
============

One exposure in all channels, and their common structures.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import sunpy.map

from esis_ndcube import ESISLevel1Cube, form_level3
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.visualization import plot_channels

simulated = simulate_flight(size="small", n_exposures=2, missing=False, blank=False)
with tempfile.TemporaryDirectory() as folder:
    files = simulated.write(folder)
    level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight)
    cube = form_level3(level1, [sunpy.map.Map(path) for path in files.reference])

# %%
# On the detectors the same Sun is rotated by another angle in each channel, and images in several lines lie side by
# side and overlap.

figure, panels = plt.subplots(2, 2, figsize=(10, 5.4), layout="constrained")
for axes, channel in zip(panels.flat, level1.channel, strict=True):
    frame = level1[0, int(channel) - 1]
    artist = axes.imshow(np.sqrt(np.clip(frame.data, 0, None)), origin="lower", cmap="inferno")
    axes.set_title(f"Channel {channel}, on its detector")
    figure.colorbar(artist, ax=axes, label=f"Square root of brightness [{frame.unit}]", shrink=0.8)

# %%
# In the cube all are upright, in one line, and show the same place at the same pixel.
# Arrows point toward longer wavelength.

plot_channels(cube, cube.frame_number[0], figure=plt.figure(figsize=(9.8, 8.4), layout="constrained"))

# %%
# The zero-lag correlations of the channels, in the pixels that are free of other lines' light in all of them.

clean = cube.clean_region(frame_numbers=cube.frame_number[0])
print(np.corrcoef(cube.data[0][:, clean]).round(3))

# %%
# The pixelwise minimum excludes light that only one channel sees, for example of another line.

lowest = cube.min_images()[0]
axes = plt.subplots(figsize=(7, 6), layout="constrained", subplot_kw={"projection": lowest.wcs})[1]
lowest.plot(axes=axes, colorbar=True)
