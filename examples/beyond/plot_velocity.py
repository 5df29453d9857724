"""
============
Velocity map
============

From the differences of all channels to a map of the velocity along the line of sight.
"""

import matplotlib.pyplot as plt

from esis_ndcube import velocity_map
from esis_ndcube.operations import min_images
from esis_ndcube.simulate import simulate_flight, true_cube

# %%
# The simulated flight has an explosive event, most of whose light recedes.
# ``event`` is its largest Doppler shift, in detector pixels.

simulated = simulate_flight(size=2, n_exposures=1, event=2, missing=False, blank=False)
cube = true_cube(simulated).correct_vignetting().normalize_intensities()
velocities = velocity_map(cube)
print(velocities)

# %%
# The brightness, and the velocity where it is valid.
# The circle marks the event. Red is away from us.
# The strong spots south of the event are no velocities: they are the event in fainter lines, which do not lie on it.
# With ``simulate_flight(other_lines=False)`` they are gone.

velocity = velocities[0]
image = min_images(cube[0])
place = cube.wcs.celestial.pixel_to_world(*simulated.truth.event.position)

figure = plt.figure(figsize=(12, 5), layout="constrained")
for number, (panel, name, options) in enumerate(
    [(image, "Minimum of the channels", {}), (velocity, "Velocity", {"cmap": "RdBu_r", "vmin": -20, "vmax": 20})]
):
    axes = figure.add_subplot(1, 2, number + 1, projection=panel.wcs)
    panel.plot(axes=axes, **options)
    axes.plot(*panel.wcs.celestial.world_to_pixel(place), "o", markersize=25, markerfacecolor="none", color="black")
    axes.set_title(name)
    figure.colorbar(axes.images[0], ax=axes, label=f"{name} [{panel.unit}]")
axes.text(0.02, 0.02, "red: away from us\nblue: toward us", transform=axes.transAxes)

# %%
# Displacements that no velocity makes tell how far the map can be believed: where they are measured larger than
# expected, the difference is part of the error.

print(velocities.nulls)
print(f"systematic error: {velocities.systematic:.1f}")
