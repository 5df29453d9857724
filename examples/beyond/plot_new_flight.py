"""
=================
Another flight
=================

One file holds all facts about a flight.
This page writes the file of an invented flight with six channels, and processes it: how-to :ref:`new-flight` says what
to think of at each step.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import sunpy.map

from esis_ndcube import ESISLevel1Cube, Flight, form_level3
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.simulate.demo import coordinate_error
from esis_ndcube.visualization import plot_channels

# %%
# Everything but the channels. Nothing here is of a real instrument.

facts = """
name = "SIX"
title = "An invented flight with six channels"
instrument = "SIX"
launch = 2027-08-14T17:30:00Z
reference_channel = 3

[files]
pattern = "six_{frame:04d}_{channel}.fits"
time = "DATE-BEG"
camera = "DETECTOR"
frame = "FRAME"
exposure = "EXPTIME"
exposure_unit = "1 s"
measured_exposure = "XPOSURE"
measured_exposure_unit = "1 ms"

[timeline]
cadence = "8 s"
light_frames = [[11, 40]]
dark_frames = [[1, 10]]
time_stamp = "start"
clock_offset = "0 s"

[detector]
raw_shape = [400, 812]
split_column = 406
blank_columns = [[3, 23], [789, 809]]
active_columns = [[24, 406], [406, 788]]
flip_y = false
saturation = 16383
pixel_scale = [0.5, 0.5]
dispersion = "0.0855 Angstrom"
energy_per_electron = "3.66 eV"
fano_factor = 0.12
read_noise = 4.0
psf_fwhm = 2.3
stray_light_rows = 14

[field_stop]
sides = 8
width = "160 arcsec"

[vignetting]
zero = "80 arcsec"
width = "160 arcsec"
margin = "30 arcsec"

[reference]
name = "AIA 171"
instrument = "AIA"
wavelength = "171 Angstrom"

[registration]
fine = "0.5 arcsec"
coarse = "4 arcsec"

[grid]
shape = [440, 440]
crpix = [220.5, 220.5]
crval = [0.0, 0.0]
cdelt = [0.4, 0.4]

[pose]
frame = 25
line = "Ne VII"
pivot = [219.5, 219.5]

[[lines]]
name = "Ne VII"
wavelength = "465.221 Angstrom"
intensity = 1.0
columns = [0, 370]

[[lines]]
name = "Si XII"
wavelength = "499.406 Angstrom"
intensity = 0.6
columns = [400, 764]
"""

# %%
# A channel is a camera, the direction of its dispersion, and where it looked: the map from pixels of the output grid
# to pixels of the detector.
# With nominal angles and scales it is a rotation, which registration starts from and refines.

for number in range(1, 7):
    angle = -22.5 + 45 * (number - 1)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    matrix = 0.4 / 0.5 * np.array([[cosine, sine], [-sine, cosine]])
    facts += f"""
[[channels]]
number = {number}
camera = "CAM{number}"
serial = {number}
dispersion_angle = {angle}
vignetting_slope = {0.25 + 0.05 * number:.2f}
gain = {{ low_low = 2.0, high_low = 2.0, high_high = 2.0, low_high = 2.0 }}
center = [180.0, 200.0]
matrix = {matrix.round(6).tolist()}
"""

flight = Flight.from_toml(facts)
print(flight)
print(repr(flight))

# %%
# The simulator uses the same file, so the whole processing can be rehearsed before the flight.

simulated = simulate_flight(flight, size="full", n_exposures=2, missing=False, blank=False)
with tempfile.TemporaryDirectory() as folder:
    files = simulated.write(folder)
    print(files.raw[-1].name)
    level1 = ESISLevel1Cube.from_raw(files.raw, flight)
    cube = form_level3(level1, [sunpy.map.Map(path) for path in files.reference])
print(cube)

# %%
# The errors of the recovered coordinates.

for alignment in cube.alignment[0]:
    _, _, dx, dy = coordinate_error(alignment, simulated)
    print(f"channel {alignment.channel}: {np.sqrt(np.mean(dx**2 + dy**2)):.3f} pixels RMS ({alignment.reason})")

# %%
# All pictures and tables adapt to the number of channels.

plot_channels(cube, figure=plt.figure(figsize=(12, 7.6), layout="constrained"))
