"""Masks by hand: polygons on the detector or on the Sun, from numbers, files or the mouse."""

from esis_ndcube.polygons.apply import mask_pixels, mask_polygons
from esis_ndcube.polygons.files import read_polygons, write_polygons
from esis_ndcube.polygons.model import PolygonMask
from esis_ndcube.polygons.select import PolygonSelection

__all__ = ["PolygonMask", "PolygonSelection", "mask_pixels", "mask_polygons", "read_polygons", "write_polygons"]
