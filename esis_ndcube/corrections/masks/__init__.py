"""Masks of cubes: by hand, as polygons or pixels, and the region that is clean in all images."""

from esis_ndcube.corrections.masks.apply import HandMask, mask_pixels, mask_polygons
from esis_ndcube.corrections.masks.clean import clean_region
from esis_ndcube.corrections.masks.files import read_polygons, write_polygons
from esis_ndcube.corrections.masks.model import PolygonMask
from esis_ndcube.corrections.masks.select import PolygonSelection

__all__ = [
    "HandMask",
    "PolygonMask",
    "PolygonSelection",
    "clean_region",
    "mask_pixels",
    "mask_polygons",
    "read_polygons",
    "write_polygons",
]
