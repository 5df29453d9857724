"""The common layout of the writers and the readers."""

from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty

from esis_ndcube.corrections import CORRECTIONS
from esis_ndcube.flight import Flight
from esis_ndcube.utils.provenance import ProcessingStep

# The number is raised when the layout changes so that older versions of the package would misread it; see
# docs/fits_layout.rst.
LAYOUT = 1

# Metadata that are columns of EXPOSURE, with one value for each frame or for each exposure.
COLUMNS = {
    "frame_number": ("FRAME",),
    "file": ("FILE",),
    "mid_time": ("JD1", "JD2"),
    "exposure_time": ("EXPTIME",),
    "field_stop_u": ("STOP_U",),
    "field_stop_v": ("STOP_V",),
} | {key: names for kind in CORRECTIONS for key, names in kind.columns.items()}
# Corrections that have a table of their own, by their key in the metadata.
TABLES = {kind.key: kind for kind in CORRECTIONS if kind.key and not kind.columns}
# Extensions of the alignments, by their key in the metadata.
ALIGNMENTS = {"alignment_final": "ALIGNMENT", "alignment_linear": "ALIGNMENT_LINEAR"}
# Names that differ in files, swapped: a user's own key with the name that ours has in files is not mistaken for ours.
_SWAPPED = {
    "frame_number": "frame",
    "frame": "frame_number",
    "exposure_time": "exposure",
    "exposure": "exposure_time",
    "alignment_final": "alignment",
    "alignment": "alignment_final",
}
# Classes of other values that have a form of their own.
_CLASSES = {"flight": Flight} | TABLES
# Classes of uncertainties, by the names that astropy gives them.
UNCERTAINTIES = {
    kind(None).uncertainty_type: kind
    for kind in (StdDevUncertainty, VarianceUncertainty, InverseVariance, UnknownUncertainty)
}
# Columns of the observer: longitude, latitude, distance.
OBSERVER = ("HGLN_OBS", "HGLT_OBS", "DSUN_OBS")


def swap_name(name):
    """The name in files of a name in Python, and the reverse."""
    return _SWAPPED.get(name, name)


def kinds_of(meta):
    """Yield each key of metadata, its value, and its kind if it has a form of its own in files, else None."""
    for key, value in meta.items():
        if not isinstance(key, str):
            msg = f"got metadata with the key {key!r}, expected text: rename it first"
            raise TypeError(msg)
        kind = None
        if key in ALIGNMENTS and value is not None:
            kind = "alignment"
        elif key == "history" and isinstance(value, tuple) and all(isinstance(x, ProcessingStep) for x in value):
            kind = "history"
        elif key in _CLASSES and isinstance(value, _CLASSES[key]):
            kind = key
        if kind in TABLES and not isinstance(meta.get("flight"), Flight):
            msg = f"got metadata {key!r} without the flight that it belongs to: put it into the metadata 'flight'"
            raise TypeError(msg)
        yield key, value, kind
