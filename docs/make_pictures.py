"""
Make the pictures of the start page and the README from a Level-3 file of the 2019 flight.

    python docs/make_pictures.py l3.fits aia_304.fits
"""

import argparse
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import sunpy.map

from esis_ndcube import ESISLevel3Cube, velocity_map
from esis_ndcube.operations import min_images
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference
from esis_ndcube.visualization.style import COLORMAP, DIVERGING, title

FOLDER = Path(__file__).parent / "_static"
# The frame nearest in time to the digitized AIA image.
FRAME = 124
# Colors of the color map and grays: a palette keeps each file below 150 kB.
COLORS, GRAYS = 96, 32
# End of the scale of velocities, in km/s.
LIMIT = 12


def save(figure, name, *colormaps):
    """Write a figure as a PNG file with a palette of the color maps and grays."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    colors = [plt.get_cmap(colormap)(np.linspace(0, 1, COLORS)) for colormap in colormaps]
    colors.append(plt.get_cmap("gray")(np.linspace(0, 1, GRAYS)))
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(255 * np.concatenate(colors)[:, :3]).astype(np.uint8).tobytes())
    image = Image.open(buffer).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    image.save(FOLDER / name, optimize=True)


def plot_velocity(exposure, figure):
    """Draw the minimum of the channels and their velocity, where the velocity is valid."""
    velocity = velocity_map(exposure)
    image = min_images(exposure)
    image = image.rebin(tuple(np.array(image.shape) // velocity.shape)).mask_pixels(velocity.mask)
    valid = ~velocity.mask
    box = tuple(slice(found[0], found[-1] + 1) for found in map(np.flatnonzero, (valid.any(1), valid.any(0))))
    speeds = {"cmap": DIVERGING, "vmin": -LIMIT, "vmax": LIMIT}
    panels = (image, f"Minimum of the channels [{image.unit}]", {}), (velocity, f"Velocity [{velocity.unit}]", speeds)
    for number, (panel, label, options) in enumerate(panels):
        axes = figure.add_subplot(1, 2, number + 1, projection=panel[box].wcs)
        panel[box].plot(axes=axes, **options)
        axes.set_title("")
        figure.colorbar(axes.images[0], ax=axes, label=label, location="top")
    figure.suptitle(title(velocity))
    return figure


def main():
    """Draw the channels, the difference of two, the AIA image beside their minimum, and the velocity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cube", help="Level-3 file of the 2019 flight")
    parser.add_argument("reference", help="image of AIA 304")
    arguments = parser.parse_args()
    cube = ESISLevel3Cube.read(arguments.cube, lazy=True)
    reference = sunpy.map.Map(arguments.reference)

    def figure(width, height):
        return plt.figure(figsize=(width, height), dpi=72, layout="constrained")

    save(plot_channels(cube, FRAME, figure=figure(8.4, 7.4)), "channels.png", COLORMAP)
    save(plot_difference(cube, 2, 3, FRAME, figure=figure(7.6, 6.4)), "difference.png", DIVERGING)
    save(plot_with_reference(cube, reference, FRAME, figure=figure(10, 4.8)), "aia.png", COLORMAP, reference.cmap)
    exposure = cube[list(cube.frame_number).index(FRAME)]
    save(plot_velocity(exposure, figure(10, 4.4)), "velocity.png", COLORMAP, DIVERGING)


if __name__ == "__main__":
    main()
