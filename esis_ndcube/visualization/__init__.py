"""Pictures and movies of cubes."""

from esis_ndcube.visualization.animation import animate
from esis_ndcube.visualization.images import plot_channels, plot_difference, plot_with_reference
from esis_ndcube.visualization.plotter import ESISPlotter

__all__ = ["ESISPlotter", "animate", "plot_channels", "plot_difference", "plot_with_reference"]
