"""The Level-3 cube: every exposure and channel on one grid of the Sun."""

import numpy as np

from esis_ndcube.cube import ESISCube

__all__ = ["ESISLevel3Cube"]


class ESISLevel3Cube(ESISCube):
    """
    Level-3 cube: co-aligned images of one spectral line on a grid of the Sun.

    Array axes (time, channel, y, x); make one with ``form_level3``, or read one.
    """

    _level = 3

    @property
    def alignment(self):
        """Final alignments (`numpy.ndarray` of `Alignment`, shape (time, channel)); one for a single image."""
        return self._get_meta("alignment")

    @property
    def alignment_linear(self):
        """Linear alignments with the reference, as `alignment`."""
        return self._get_meta("alignment_linear")

    @property
    def stage(self):
        """The alignment that the images were made with (`str`): ``"linear"`` or ``"final"``."""
        return self._get_meta("stage")

    @property
    def reference(self):
        """What the pointing comes from (`str`)."""
        return self._get_meta("reference")

    @property
    def vignetting(self):
        """The vignetting that was taken out (`Vignetting`), or None."""
        return self._get_meta("vignetting")

    @property
    def normalization(self):
        """Factors that the images were multiplied with (`numpy.ndarray`, shape (time, channel)), or None."""
        return self._get_meta("normalization")
