"""The facts of a flight that are known before there are data, and the flights that come with the package."""

from esis_ndcube.flight.fit import FlightFit, LineFit, fit_flight
from esis_ndcube.flight.flight import ESIS_1, ESIS_2, Flight
from esis_ndcube.flight.instrument import (
    Archive,
    ByQuadrant,
    Channel,
    Detector,
    FlightError,
    FrameFiles,
    Line,
    LinePose,
    Passband,
)

__all__ = [
    "ESIS_1",
    "ESIS_2",
    "Archive",
    "ByQuadrant",
    "Channel",
    "Detector",
    "Flight",
    "FlightError",
    "FlightFit",
    "FrameFiles",
    "Line",
    "LineFit",
    "LinePose",
    "Passband",
    "fit_flight",
]
