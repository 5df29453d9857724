"""Registration: polynomial transforms, the filter, the fit, and alignments of a whole flight."""

from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.registration.alignment_table import alignments_from_table, alignments_to_table
from esis_ndcube.registration.correlate import Fit, maximize_correlation
from esis_ndcube.registration.exposures import Coalignment, coalign
from esis_ndcube.registration.joint import Joint, fit_joint
from esis_ndcube.registration.prefilter import log_difference_of_gaussians
from esis_ndcube.registration.search import coarse_search
from esis_ndcube.registration.transform import PolynomialTransform

__all__ = [
    "Alignment",
    "Coalignment",
    "Fit",
    "Joint",
    "PolynomialTransform",
    "alignments_from_table",
    "alignments_to_table",
    "coalign",
    "coarse_search",
    "fit_joint",
    "log_difference_of_gaussians",
    "maximize_correlation",
]
