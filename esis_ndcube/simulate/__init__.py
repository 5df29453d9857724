"""Simulated flights with known truth."""

from esis_ndcube.simulate.config import SimulationConfig
from esis_ndcube.simulate.cube import true_alignment, true_cube
from esis_ndcube.simulate.flight import SimulatedFiles, SimulatedFlight, simulate_flight
from esis_ndcube.simulate.shrink import shrink
from esis_ndcube.simulate.truth import ExplosiveEvent, Truth

__all__ = [
    "ExplosiveEvent",
    "SimulatedFiles",
    "SimulatedFlight",
    "SimulationConfig",
    "Truth",
    "shrink",
    "simulate_flight",
    "true_alignment",
    "true_cube",
]
