"""
======================
Masks and clean region
======================

The mask, the flags, and the pixels to compare.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import astropy.units as u

from esis_ndcube.corrections.masks import PolygonMask
from esis_ndcube.flags import Flag
from esis_ndcube.simulate import simulate_flight, true_cube

cube = true_cube(simulate_flight(size="small", n_exposures=2))

# %%
# The mask is True where a pixel is invalid.
# Light of another line does not make a pixel invalid: the pixel is flagged and kept.

flags = cube.flags[0]
for flag in (Flag.OUTSIDE, Flag.OVERLAP, Flag.OVERLAP_FAINT):
    counts = [f"{np.mean(flags[channel] & flag != 0):.0%}" for channel in range(len(flags))]
    print(f"{flag.name:13} in channels 1 to {len(flags)}: {', '.join(counts)}")

# %%
# A polygon on the Sun masks a defect that only the eye finds, in some frames or channels or in all.

square = np.array([(-80, -60), (-50, -60), (-50, -30), (-80, -30)]) * u.arcsec
masked = cube.mask_polygons(PolygonMask(square, channels=2))
print(f"{np.count_nonzero(masked.mask) - np.count_nonzero(cube.mask)} more pixels are masked")

# %%
# The clean region has the pixels that are valid, and free of other lines' light, in all chosen images.
# It is larger for fewer channels.

for channels in ([2, 3], [1, 2, 3, 4]):
    for lines in ((), None, "all"):
        clean = masked.clean_region(channels=channels, lines=lines)
        what = {(): "valid", None: "without the brightest other line", "all": "without all other lines"}[lines]
        print(f"channels {channels}, {what}: {np.mean(clean):.1%} of the grid")

# %%
# Each channel with its flagged pixels, and the clean region of all channels.

figure = plt.figure(figsize=(12, 3.1), layout="constrained")
tint = ListedColormap(["#3b8bc4"])
for index, channel in enumerate(masked.channel):
    image = masked[0, index]
    axes = figure.add_subplot(1, 5, index + 1, projection=image.wcs)
    image.plot(axes=axes, vmin=0, vmax=60)
    overlap = (image.flags & Flag.OVERLAP != 0) & ~image.mask
    axes.imshow(np.where(overlap, 0.0, np.nan), origin="lower", cmap=tint, alpha=0.8)
    axes.set(title=f"Channel {channel}", xlabel=" ", ylabel=" ")
    axes.coords[1].set_ticklabel_visible(index == 0)
axes = figure.add_subplot(1, 5, 5, projection=image.wcs)
clean = masked.clean_region(frame_numbers=masked.frame_number[0])
lowest = masked.min_images()[0]
lowest.mask_pixels(~clean).plot(axes=axes, vmin=0, vmax=60)
axes.set(title="Clean in all", xlabel=" ", ylabel=" ")
figure.colorbar(axes.images[0], ax=axes, label=f"{lowest.line} [{lowest.unit}]", shrink=0.8)
axes.coords[1].set_ticklabel_visible(False)
figure.suptitle("Blue: light of the brightest other line")
