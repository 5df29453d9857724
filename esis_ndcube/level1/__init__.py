"""Level 1: from raw camera frames to calibrated frames, on their detectors."""

from esis_ndcube.level1.cube import ESISLevel1Cube

__all__ = ["ESISLevel1Cube"]
