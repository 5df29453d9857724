"""
Corrections of Level-3 images, and the masks that people draw.

``CORRECTIONS`` lists all corrections, in the order in which `~esis_ndcube.form_level3` applies them. A new correction
is a subclass of `~esis_ndcube.corrections.correction.Correction` in a module of its own, and one more line in this
list.
"""

from pkgutil import resolve_name

__all__ = ["CORRECTIONS"]

CORRECTIONS = tuple(
    resolve_name(f"esis_ndcube.corrections.{name}")
    for name in (
        "vignetting:Vignetting",
        "masks:HandMask",
        "normalize:Normalization",
    )
)
