"""
======================
Fitting the vignetting
======================

Every channel is brighter on one side of its field stop.
All channels see one Sun, so that its slopes follow from their differences; in a simulated flight the true ones are
known.
"""

import matplotlib.pyplot as plt
import numpy as np

from astropy.table import Table

from esis_ndcube import fit_vignetting, reproject_vignetting
from esis_ndcube.quality import masked_difference_trend
from esis_ndcube.simulate import simulate_flight, true_cube

simulated = simulate_flight(size=2, n_exposures=2)
cube = true_cube(simulated)

# %%
# Both methods, beside the truth.
# The simulated flight has a second line in the compared region, like the real one; the joint fit includes this line.

fits = {method: fit_vignetting(cube, method=method) for method in ("joint", "difference-slopes")}
table = Table({"channel": cube.channel})
table["true"] = [simulated.truth.vignetting_slope(int(number)) for number in cube.channel]
for method, fit in fits.items():
    table[method] = [fit.slopes[int(number)] for number in cube.channel]
    table[f"error bar, {method}"] = [fit.errors[int(number)] for number in cube.channel]
for name in table.colnames[1:]:
    table[name].info.format = ".3f"
print("\n".join(table.pformat(max_width=-1)))

# %%
# The division by the field removes the slope from the difference of two channels.

corrected = cube.correct_vignetting(fits["joint"])
for name, item in (("before", cube), ("after", corrected)):
    trend = np.abs(masked_difference_trend(item)["trend"])
    print(f"trends of all pairs {name}: {np.mean(trend):.2f} photons in the mean, {np.max(trend):.2f} at most")

# %%
# The difference of two channels before and after.

clean = cube.clean_region(channels=[2, 3])
figure = plt.figure(figsize=(10, 4.4), layout="constrained")
for panel, (name, item) in enumerate((("before", cube), ("after", corrected)), 1):
    axes = figure.add_subplot(1, 2, panel, projection=cube.wcs[0, 0])
    difference = item.normalize_intensities().difference(2, 3)
    shown = np.where(clean, difference.data[0], np.nan)
    artist = axes.imshow(shown, origin="lower", cmap="RdBu_r", vmin=-15, vmax=15)
    axes.set(title=f"Channel 2 minus 3, {name}", facecolor="0.5")
    axes.set(xlabel="Solar X [arcsec]", ylabel="Solar Y [arcsec]")
figure.colorbar(artist, ax=figure.axes, label=f"Difference [{cube.unit}]")

# %%
# The field of every channel in one exposure, as it lies on the Sun: fitted in white, true in dashed black.

fields, _ = reproject_vignetting(fits["joint"], cube.wcs[0, 0], alignment=cube.alignment[0])
y, x = np.indices(fields.shape[1:])
figure = plt.figure(figsize=(12, 3.4), layout="constrained")
for index, field in enumerate(fields):
    number = int(cube.channel[index])
    axes = figure.add_subplot(1, 4, index + 1, projection=cube.wcs[0, index])
    column, _ = simulated.truth.to_detector(cube.frame_number[0], number, x, y)
    true = simulated.truth.vignetting(number, column)
    field, true = (np.where(cube.mask[0, index], np.nan, values) for values in (field, true))
    artist = axes.imshow(field, origin="lower", vmin=1, vmax=1.6)
    for values, color, style in ((field, "white", "solid"), (true, "black", "dashed")):
        axes.contour(values, levels=np.arange(1.05, 1.6, 0.1), colors=color, linewidths=1, linestyles=style)
    axes.set(title=f"Channel {number}", xlabel=" ", ylabel=" ", facecolor="0.5")
    axes.coords[1].set_ticklabel_visible(index == 0)
figure.colorbar(artist, ax=figure.axes, label="Vignetting", shrink=0.8)
