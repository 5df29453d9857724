"""Registration: polynomial transforms, the filter, the fit, and alignments of whole flights and of any two images."""

from esis_ndcube.registration._coalign import coalign
from esis_ndcube.registration._errors import Misfit
from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.registration.alignment_table import alignments_from_table, alignments_to_table
from esis_ndcube.registration.coalignment import Coalignment
from esis_ndcube.registration.correlate import Fit, maximize_correlation
from esis_ndcube.registration.exposures import coalign_frames
from esis_ndcube.registration.image_alignment import ImageAlignment
from esis_ndcube.registration.images import Search, coalign_images
from esis_ndcube.registration.joint import Joint, fit_joint
from esis_ndcube.registration.prefilter import log_difference_of_gaussians
from esis_ndcube.registration.search import coarse_search
from esis_ndcube.registration.surface import CorrelationSurface, correlation_surface
from esis_ndcube.registration.transform import PolynomialTransform

__all__ = [
    "Alignment",
    "Coalignment",
    "CorrelationSurface",
    "Fit",
    "ImageAlignment",
    "Joint",
    "Misfit",
    "PolynomialTransform",
    "Search",
    "alignments_from_table",
    "alignments_to_table",
    "coalign",
    "coalign_frames",
    "coalign_images",
    "coarse_search",
    "correlation_surface",
    "fit_joint",
    "log_difference_of_gaussians",
    "maximize_correlation",
]
