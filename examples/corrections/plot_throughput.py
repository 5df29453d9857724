"""
=============================
Normalization and throughput
=============================

The rocket falls back into the atmosphere, which absorbs more and more of the light.
Normalization brings all images to one brightness, and its factors give the absorption curve.
Two channels are enough to see the curve.
"""

import matplotlib.pyplot as plt
import numpy as np

from esis_ndcube.quality import throughput
from esis_ndcube.quality.figures import plot_throughput
from esis_ndcube.simulate import simulate_flight, true_cube

simulated = simulate_flight(size=6, n_exposures=28, event=0, evolution=False, other_lines=False)
cube = true_cube(simulated)[:, :2]
print(cube)

# %%
# Each image is scaled to the brightest exposure of the brightest channel, by its mean over the region that is clean in
# all images.
# The cube keeps the factors.

normalized = cube.normalize_intensities()
print(f"factors from {normalized.normalization.min():.2f} to {normalized.normalization.max():.2f}")
clean = cube.clean_region()
for name, item in {"before": cube, "after": normalized}.items():
    means = item.data[:, :, clean].mean(axis=2)
    print(f"means {name}: {means.min():.3f} to {means.max():.3f} {item.unit}")

# %%
# The same region in three exposures, before and after.

figure, panels = plt.subplots(2, 3, figsize=(9, 6.2), layout="constrained")
for row, item in zip(panels, (cube, normalized), strict=True):
    for axes, index in zip(row, (0, len(cube.frame_number) // 2, -2), strict=True):
        image = item[index, 0]
        shown = np.where(image.mask, np.nan, image.data)
        artist = axes.imshow(shown, origin="lower", cmap="inferno", vmin=0, vmax=60)
        axes.set_title(f"{image.time.isot[11:19]}, {'as it is' if item is cube else 'normalized'}")
        axes.set(xticks=[], yticks=[], facecolor="0.5")
figure.colorbar(artist, ax=panels, label=f"{cube.line} [{cube.unit}]", shrink=0.8)

# %%
# The inverse of the factors is the absorption curve, the same in both channels.
# The simulation knows the true transmission of the atmosphere.
# On the real Sun, changes of brightness in the field of view affect the curve too; this scene does not change.

curve = throughput(normalized)
truth = simulated.truth.extinction / simulated.truth.extinction.max()
average = curve["throughput"].value.reshape(cube.shape[:2]).mean(axis=1)
print(f"largest difference from the truth: {np.abs(average - truth).max():.3f}")
axes = plot_throughput(curve, axes=plt.subplots(figsize=(7.5, 4), layout="constrained")[1])
axes.plot(cube.frame_number, truth, "k--", label="truth")
axes.legend()
