"""The vignetting of the instrument: its model, its field on any grid, its fit, and the correction."""

from esis_ndcube.corrections.vignetting.correct import correct_vignetting, uncorrect_vignetting
from esis_ndcube.corrections.vignetting.fit import fit_vignetting
from esis_ndcube.corrections.vignetting.model import Vignetting
from esis_ndcube.corrections.vignetting.reproject import reproject_vignetting
from esis_ndcube.corrections.vignetting.trend import masked_difference_trend

__all__ = [
    "Vignetting",
    "correct_vignetting",
    "fit_vignetting",
    "masked_difference_trend",
    "reproject_vignetting",
    "uncorrect_vignetting",
]
