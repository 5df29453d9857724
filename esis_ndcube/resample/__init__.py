"""Resampling of frames, and of images of any grid, onto a grid of the Sun, with their uncertainty."""

from esis_ndcube.resample.alignment import (
    correlation_factor,
    detector_coordinates,
    interpolate,
    propagate_uncertainty,
    reproject_alignment,
    resampled_correlation,
)

__all__ = [
    "correlation_factor",
    "detector_coordinates",
    "interpolate",
    "propagate_uncertainty",
    "reproject_alignment",
    "resampled_correlation",
]
