"""
=================
AIA beside a cube
=================

Images of another telescope on the grid and at the times of a cube.
The images are simulated too; those of the real AIA come with ``cube.context("AIA 304")``.
"""

import matplotlib.pyplot as plt
import numpy as np

import sunpy.map

from esis_ndcube.registration import log_difference_of_gaussians
from esis_ndcube.simulate import simulate_flight, true_cube
from esis_ndcube.visualization import plot_with_reference

simulated = simulate_flight(size="small", n_exposures=4)
cube = true_cube(simulated)
images = [sunpy.map.Map(*simulated.reference(index)) for index in range(len(simulated.reference_times))]
print(f"{len(images)} images of {images[0].name[:7]}, with pixels of {images[0].scale.axis1:.2f}")

# %%
# Each exposure gets the image that is nearest in time, interpolated once.

aia = cube.context(images)
print(aia)
print("image minus exposure:", aia.time_difference)

# %%
# Both have the same pixels, so they can be compared directly: which channel looks most like AIA?

clean = cube.clean_region()
for index, channel in enumerate(cube.channel):
    both = [
        np.corrcoef(cube.data[time, index][clean], aia.data[time][clean])[0, 1]
        for time in range(len(cube.frame_number))
    ]
    print(f"channel {channel}: correlation {np.mean(both):.3f}")

# %%
# The two telescopes see different passbands, and their images differ by more than noise.
# Registration filters both images to bring out their common structures.

image, other = cube[1, 1], aia[1]
valid = ~image.mask & ~other.mask
filtered = [log_difference_of_gaussians(item.data, 1, 8, valid=valid) for item in (image, other)]
for name, pair in (("as they are", (image.data, other.data)), ("filtered", filtered)):
    print(f"{name}: correlation {np.corrcoef(pair[0][valid], pair[1][valid])[0, 1]:.3f}")

# %%
# Both images, and both filtered.

plot_with_reference(cube, images[1], cube.frame_number[1], figure=plt.figure(figsize=(11, 4.9), layout="constrained"))

# %%

figure = plt.figure(figsize=(11, 4.9), layout="constrained")
for panel, (title, shown) in enumerate(zip((f"ESIS {cube.line}", "AIA 304"), filtered, strict=True), 1):
    axes = figure.add_subplot(1, 2, panel, projection=image.wcs)
    artist = axes.imshow(np.where(valid, shown, np.nan), origin="lower", cmap="RdBu_r", vmin=-0.8, vmax=0.8)
    axes.set(title=f"{title}, filtered", xlabel="Solar X [arcsec]", ylabel="Solar Y [arcsec]", facecolor="0.5")
figure.colorbar(artist, ax=figure.axes, label="Filtered logarithm of the brightness")
