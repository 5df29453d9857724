"""Level 3: the cube on the Sun, all steps to it in order, and images of other telescopes beside it."""

from esis_ndcube.level3.context import ContextCube, context_cube
from esis_ndcube.level3.cube import ESISLevel3Cube
from esis_ndcube.level3.form import form_level3
from esis_ndcube.level3.map import ESISMap

__all__ = ["ContextCube", "ESISLevel3Cube", "ESISMap", "context_cube", "form_level3"]
