"""
==================
First cube and map
==================

From raw camera frames to a Level-3 cube, and from the cube to a sunpy Map.
"""

import tempfile

import matplotlib.pyplot as plt

import astropy.units as u
import sunpy.map

from esis_ndcube import ESISLevel1Cube, form_level3
from esis_ndcube.simulate import simulate_flight

# %%
# This example simulates a flight of two exposures.
# Its files are those of a real flight: one for each exposure and camera, darks, and images of AIA 304.
# `~esis_ndcube.ESISLevel1Cube.from_raw` makes Level 1 of the files: the frames on their detectors, without bias, dark
# signal and particle hits, in electrons.

simulated = simulate_flight(size="small", n_exposures=2, missing=False, blank=False)

with tempfile.TemporaryDirectory() as folder:
    files = simulated.write(folder)
    print(f"{len(files.raw)} raw frames such as {files.raw[-1].name}, {len(files.reference)} images of AIA")
    level1 = ESISLevel1Cube.from_raw(files.raw, simulated.flight)
    references = [sunpy.map.Map(path) for path in files.reference]

print(level1)

# %%
# `~esis_ndcube.form_level3` aligns the frames with AIA and with each other, and resamples each frame once.

cube = form_level3(level1, references)
print(cube)

# %%
# Square brackets cut the axes time, channel, y and x.
# ``to_map`` turns one image into a sunpy Map.

image = cube[0, 1]
esis_map = image.to_map()
print(f"channel {image.channel}, frame {image.frame_number}, {esis_map.wavelength}")
print(f"seen from {esis_map.dsun.to(u.AU):.3f}")

# %%
# sunpy draws the Map, and for example the graticule of the Sun.

figure = plt.figure(figsize=(8, 7), layout="constrained")
axes = figure.add_subplot(projection=esis_map)
esis_map.plot(axes=axes)
esis_map.draw_grid(axes=axes, grid_spacing=5 * u.deg, color="white", alpha=0.4, annotate=False)
figure.colorbar(axes.images[0], ax=axes, label=f"{cube.line} [{cube.unit}]", shrink=0.8)
