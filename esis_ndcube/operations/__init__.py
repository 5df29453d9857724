"""
Operations on a cube as a whole, which lose no part of it.

Functions that make new cubes from cubes. Unit, mask, flags, uncertainty, WCS, coordinates that were sliced away,
metadata, history and class go along, and lazy cubes stay lazy.
The methods and operators of the cubes call them.
"""

from esis_ndcube.operations.arithmetic import combine, convert_unit, raise_to
from esis_ndcube.operations.binning import rebin
from esis_ndcube.operations.channels import difference, min_images
from esis_ndcube.operations.cropping import clip_points
from esis_ndcube.operations.region import RegionMean, region_mean
from esis_ndcube.operations.reprojection import reproject_to

__all__ = [
    "RegionMean",
    "clip_points",
    "combine",
    "convert_unit",
    "difference",
    "min_images",
    "raise_to",
    "rebin",
    "region_mean",
    "reproject_to",
]
