"""Velocities along the line of sight: the forward model of the images, and maps by it."""

from esis_ndcube.level3.velocity.cube import ESISVelocityCube
from esis_ndcube.level3.velocity.maps import velocity_map
from esis_ndcube.level3.velocity.projection import Projection, projection
from esis_ndcube.level3.velocity.rotation import rotation_velocity

__all__ = ["ESISVelocityCube", "Projection", "projection", "rotation_velocity", "velocity_map"]
