"""What the writer and the reader agree on."""

# Raised when the layout changes so that older versions of the package would misread it; see
# docs/fits_layout.rst.
LAYOUT = 1

# Metadata that stand as columns in EXPOSURE, one value for each frame or for each exposure.
COLUMNS = {
    "frame": ("FRAME",),
    "file": ("FILE",),
    "mid_time": ("JD1", "JD2"),
    "exposure": ("EXPTIME",),
    "normalization": ("NORM",),
    "normalization_error": ("NORMERR",),
    "field_stop_u": ("STOP_U",),
    "field_stop_v": ("STOP_V",),
}
# Extensions of the alignments, by their key in the metadata.
ALIGNMENTS = {"alignment": "ALIGNMENT", "alignment_linear": "ALIGNMENT_LINEAR"}
# Columns of the observer: longitude, latitude, distance.
OBSERVER = ("HGLN_OBS", "HGLT_OBS", "DSUN_OBS")
