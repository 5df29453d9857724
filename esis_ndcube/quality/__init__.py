"""Numbers that say how good a flight file and a Level-3 cube are, and figures of them."""

from esis_ndcube.corrections.vignetting.trend import masked_difference_trend
from esis_ndcube.quality.correlation import correlation_ratio, correlation_table, pair_correlation
from esis_ndcube.quality.flight import FlightCheck, check_flight
from esis_ndcube.quality.noise import noise_table
from esis_ndcube.quality.reference import offset_to_map
from esis_ndcube.quality.shifts import image_shift, pair_offset, tile_residual
from esis_ndcube.quality.tables import summary
from esis_ndcube.quality.throughput import throughput

__all__ = [
    "FlightCheck",
    "check_flight",
    "correlation_ratio",
    "correlation_table",
    "image_shift",
    "masked_difference_trend",
    "noise_table",
    "offset_to_map",
    "pair_correlation",
    "pair_offset",
    "summary",
    "throughput",
    "tile_residual",
]
