"""
===================
To another grid
===================

A cube on coarser pixels, and on a map of the surface.
The result keeps unit, mask, flags, uncertainty, times and channels.
"""

import matplotlib.pyplot as plt
import numpy as np

import astropy.units as u
import sunpy.map
from astropy.coordinates import SkyCoord
from sunpy.coordinates import HeliographicStonyhurst

from esis_ndcube.simulate import simulate_flight, true_cube

cube = true_cube(simulate_flight(size="small", n_exposures=2))

# %%
# Pixels of 2.4 arcsec: bins of 4 by 4.
# Resampled pixels share noise, which the uncertainty of a bin includes.

whole = cube[..., 3:423, 3:423]
coarse = whole.rebin((1, 1, 4, 4))
print(coarse)
print(f"{np.nanmedian(whole.uncertainty.array):.2f} -> {np.nanmedian(coarse.uncertainty.array):.2f} {coarse.unit}")

# %%
# A map of the surface, in degrees of Stonyhurst longitude and latitude.

frame = HeliographicStonyhurst(obstime=cube.time[0])
target = sunpy.map.make_fitswcs_header(
    (300, 300),
    SkyCoord(0 * u.deg, 0 * u.deg, frame=frame),
    reference_pixel=[150, 50] * u.pix,
    scale=[0.05, 0.05] * u.deg / u.pix,
    projection_code="CAR",
)
surface = cube.reproject_to(sunpy.map.Map(np.zeros((300, 300)), target).wcs)
print(surface)

# %%
# All three, and their values at one bright place.

place = cube.wcs[0, 1].pixel_to_world(*np.unravel_index(np.nanargmax(cube.data[0, 1]), cube.shape[2:])[::-1])
for name, item in {"0.6 arcsec": cube, "2.4 arcsec": coarse, "heliographic": surface}.items():
    x, y = item.wcs[0, 1].world_to_pixel(place)
    print(f"{name}: pixel ({x:.1f}, {y:.1f}), {item.data[0, 1, round(float(y)), round(float(x))]:.0f} {item.unit}")
# %%

figure = plt.figure(figsize=(12, 4.2), layout="constrained")
for panel, (title, item) in enumerate({"0.6 arcsec": cube, "2.4 arcsec": coarse, "Heliographic": surface}.items(), 1):
    image = item[0, 1]
    axes = figure.add_subplot(1, 3, panel, projection=image.wcs)
    image.plot(axes=axes, vmin=0, vmax=60, colorbar=True)
    axes.set(title=title, xlabel=" ", ylabel=" ")
    axes.coords.grid(color="white", alpha=0.3)
