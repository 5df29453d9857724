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

from esis_ndcube import ESISLevel3Cube
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference
from esis_ndcube.visualization.style import COLORMAP, DIVERGING

FOLDER = Path(__file__).parent / "_static"
# The frame nearest in time to the digitized AIA image.
FRAME = 124
# Colors of the color map and grays: a palette keeps each file below 150 kB.
COLORS, GRAYS = 96, 32


def save(figure, name, colormap):
    """Write a figure as a PNG file with a palette of the color map and grays."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    colors = [plt.get_cmap(colormap)(np.linspace(0, 1, COLORS)), plt.get_cmap("gray")(np.linspace(0, 1, GRAYS))]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(255 * np.concatenate(colors)[:, :3]).astype(np.uint8).tobytes())
    image = Image.open(buffer).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    image.save(FOLDER / name, optimize=True)


def main():
    """Draw the channels, the difference of two of them, and the AIA image beside their minimum."""
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
    save(plot_with_reference(cube, reference, FRAME, figure=figure(10, 4.8)), "aia.png", COLORMAP)


if __name__ == "__main__":
    main()
