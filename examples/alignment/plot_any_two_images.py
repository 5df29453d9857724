"""
========================
Co-align any two images
========================

`~esis_ndcube.coalign` aligns any two images of one scene, here an image of AIA 304 in the simulated flight, whose
pointing was spoiled, with an image of ESIS.
"""

import matplotlib.pyplot as plt
import numpy as np

import astropy.units as u
import sunpy.map

from esis_ndcube import coalign
from esis_ndcube.simulate import simulate_flight, true_cube

simulated = simulate_flight(size="small", n_exposures=1)
esis = true_cube(simulated)[0, 1].to_map()

# %%
# The AIA image is rotated by 1.5 degrees and shifted by 6 and 4 arcsec.

data, header = simulated.reference(0)
spoiled = sunpy.map.Map(data, header).rotate(1.5 * u.deg, missing=np.nan)
spoiled = spoiled.shift_reference_coord(6 * u.arcsec, -4 * u.arcsec)

# %%
# The maps' own coordinates are where the fit starts.
# ``surface`` asks for the correlation at shifts about the solution as well.

alignment = coalign(spoiled, esis, surface=12)
print(alignment)

# %%
# The map from ESIS to AIA has this rotation, and the corrected coordinates are those of the first image.

corrected = alignment.align_map(spoiled)
truth = sunpy.map.Map(data, header)
center = np.array(truth.data.shape[::-1]) / 2 * u.pix
moved = corrected.world_to_pixel(truth.pixel_to_world(*center))
before = spoiled.world_to_pixel(truth.pixel_to_world(*center))
there = np.array(spoiled.data.shape[::-1]) / 2 * u.pix
scale = truth.scale.axis1
for name, pixel in (("before", before), ("after", moved)):
    offset = np.hypot(pixel.x - there[0], pixel.y - there[1]) * scale
    print(f"pointing error at the center {name}: {offset.to(u.arcsec):.2f}")

# %%
# The surface has one maximum, and its place is the solution.
# A second maximum of the same height, or a ridge, would mean that the alignment is not reliable.

surface = alignment.surface
dx, dy, height = surface.peak
print(f"maximum {height:.3f} at shift ({dx:.3f}, {dy:.3f})")

# %%

figure = plt.figure(figsize=(11.5, 3.9), layout="constrained")
outside = ~np.isfinite(esis.data) | esis.mask
aligned, _ = alignment.apply(spoiled)
for panel, (title, image) in enumerate({"ESIS O V": esis.data, "AIA 304, aligned": aligned}.items(), 1):
    axes = figure.add_subplot(1, 3, panel, projection=esis)
    palette = "inferno" if image is esis.data else "sdoaia304"
    axes.imshow(np.where(outside, np.nan, image), origin="lower", cmap=palette, vmax=np.nanpercentile(image, 99.7))
    axes.set(title=title, xlabel="Solar X [arcsec]", ylabel="Solar Y [arcsec]", facecolor="0.5")
axes = figure.add_subplot(1, 3, 3)
artist = axes.pcolormesh(surface.dx, surface.dy, surface.values, cmap="viridis")
axes.plot(dx, dy, "k+", ms=12)
axes.set(title="Correlation", xlabel="shift along x [pixel]", ylabel="shift along y [pixel]", aspect="equal")
figure.colorbar(artist, ax=axes, label="Correlation")
