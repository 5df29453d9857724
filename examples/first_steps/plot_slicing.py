"""
=================================
Slicing, coordinates and cropping
=================================

A part of a cube has the coordinates of that part: of the Sun, in time, and the channel.
"""

import matplotlib.pyplot as plt
import numpy as np

import astropy.units as u
from astropy.coordinates import SkyCoord

from esis_ndcube.simulate import simulate_flight, true_cube

# %%
# `~esis_ndcube.simulate.true_cube` makes a simulated cube with the true alignment, without any fit.
# This cube has twelve exposures.

simulated = simulate_flight(size=4, n_exposures=12, extinction=None)
cube = true_cube(simulated)
for length, name in zip(cube.shape, cube.array_axis_physical_types, strict=True):
    print(f"{length:4} {', '.join(name)}")

# %%
# Indices count from 0, channel numbers from 1.
# An image remembers its channel, frame and time.

image = cube[5, 1]
print(f"index 1 is channel {image.channel}, index 5 is frame {image.frame_number} at {image.time.isot}")

# %%
# The FITS header of an image has the time of its own exposure.

header = image.wcs.to_header()
for key in ("CTYPE1", "CRVAL1", "CDELT1", "DATE-AVG"):
    print(f"{key:8} = {header[key]!r}")

# %%
# The WCS converts pixels to places on the Sun, and back.

x, y = simulated.truth.event.position
position = image.wcs.pixel_to_world(x, y)
print(f"pixel ({x:.1f}, {y:.1f}) is at {position.Tx:.2f}, {position.Ty:.2f}")
print("and back:", np.round(image.wcs.world_to_pixel(position), 6))

# %%
# ``crop`` cuts out 30 arcsec about this place in all exposures and channels.
# None stands for the axes that are not cropped.

corners = [
    SkyCoord(position.Tx + side * 15 * u.arcsec, position.Ty + side * 15 * u.arcsec, frame=position.frame)
    for side in (-1, 1)
]
part = cube.crop([corners[0], None, None], [corners[1], None, None])
print(part)

# %%
# The place through all exposures, in two channels: the wings of the event move in opposite directions.

figure, panels = plt.subplots(2, 6, figsize=(11, 4.4), layout="constrained")
limit = np.nanpercentile(part.data, 99.8)
for row, channel in zip(panels, (2, 4), strict=True):
    for axes, index in zip(row, range(0, 12, 2), strict=True):
        shown = part[index, channel - 1]
        artist = axes.imshow(shown.data, origin="lower", cmap="inferno", vmin=0, vmax=limit)
        axes.set(xticks=[], yticks=[], title=shown.time.isot[11:19])
    row[0].set_ylabel(f"Channel {channel}")
figure.colorbar(artist, ax=panels, label=f"{part.line} [{part.unit}]")
