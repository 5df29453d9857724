"""The FITS WCS of ESIS cubes: exact exposure times, a channel axis, and slices that stay FITS."""

from esis_ndcube.wcs._index import normalize_item
from esis_ndcube.wcs._sliced import SlicedESISWCS
from esis_ndcube.wcs.build import level1_wcs, level3_wcs
from esis_ndcube.wcs.fitswcs import ESISWCS

__all__ = ["ESISWCS", "SlicedESISWCS", "level1_wcs", "level3_wcs", "normalize_item"]
