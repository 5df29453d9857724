"""Numbers that say how good a Level-3 cube is."""

from esis_ndcube.quality.correlation import pair_correlation
from esis_ndcube.quality.reference import offset_to_map
from esis_ndcube.quality.shifts import image_shift, pair_offset, tile_residual
from esis_ndcube.quality.tables import summary

__all__ = ["image_shift", "offset_to_map", "pair_correlation", "pair_offset", "summary", "tile_residual"]
