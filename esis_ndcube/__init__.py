"""Level-3 data of the EUV Snapshot Imaging Spectrograph (ESIS), and of flights like it."""

# This import is the first, and stands here. Python maps and unmaps memory at each call that crosses a page of its
# stack: the same imports from deep inside take half a second longer.
import sunpy.map as _sunpy_map  # noqa: F401

from esis_ndcube.corrections.vignetting import Vignetting, fit_vignetting, reproject_vignetting
from esis_ndcube.flight import ESIS_1, ESIS_2, Flight, FlightError
from esis_ndcube.level1 import ESISLevel1Cube
from esis_ndcube.level3 import ESISLevel3Cube
from esis_ndcube.level3.form import form_level3
from esis_ndcube.level3.map import ESISMap
from esis_ndcube.level3.velocity import ESISVelocityCube, velocity_map
from esis_ndcube.registration._coalign import coalign
from esis_ndcube.registration.alignment import Alignment
from esis_ndcube.registration.coalignment import Coalignment
from esis_ndcube.resample import reproject_alignment
from esis_ndcube.utils.provenance import package_version as _package_version

__version__ = _package_version()

__all__ = [
    "ESIS_1",
    "ESIS_2",
    "Alignment",
    "Coalignment",
    "ESISLevel1Cube",
    "ESISLevel3Cube",
    "ESISMap",
    "ESISVelocityCube",
    "Flight",
    "FlightError",
    "Vignetting",
    "coalign",
    "fit_vignetting",
    "form_level3",
    "reproject_alignment",
    "reproject_vignetting",
    "velocity_map",
]
