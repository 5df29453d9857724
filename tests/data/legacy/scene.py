"""The frames that the legacy images are made of; the tests evaluate them as well."""

import numpy as np

SHAPE = 1040, 2048  # of the active detector


def frame(sequence, camera):
    """A frame of Level 1, in the orientation of the sky: the rows of the camera run the other way."""
    v, u = np.indices(SHAPE, dtype=float)
    phase = 0.7 * sequence + 1.9 * camera
    return 60 + 20 * np.sin(u / 9 + phase) * np.cos(v / 7 - phase) + 15 * np.sin((u + 2 * v) / 23) + 5 * np.cos(u / 4)
