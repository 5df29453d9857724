"""The place of the field stop on the detector for each line, and its edges in a frame."""

from esis_ndcube.field_stop.edges import FieldStopEdges, find_edges, find_shift
from esis_ndcube.field_stop.region import distance_inside, line_region, lit_region, overlapping_lines

__all__ = [
    "FieldStopEdges",
    "distance_inside",
    "find_edges",
    "find_shift",
    "line_region",
    "lit_region",
    "overlapping_lines",
]
