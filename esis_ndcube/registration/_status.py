"""The quality of alignments, in words."""

import numpy as np


def alignment_text(alignments):
    """
    Describe how good alignments are, and how many there are.

    Parameters
    ----------
    alignments : array-like of `~esis_ndcube.Alignment` or None
        The alignments of one image or of many.

    Returns
    -------
    `str`
        Score, and the numbers of images that are aligned, weak and not aligned.
    """
    every = np.ravel(np.array(alignments, dtype=object))
    parts = []
    if scores := [a.score for a in every if a is not None and np.isfinite(a.score)]:
        parts.append(f"{'median ' if every.size > 1 else ''}score {np.median(scores):.3f}")
    states = [image_status(alignment) for alignment in every]
    weak = [alignment for alignment, state in zip(every, states, strict=True) if state == "weak"]
    if every.size > 1:
        parts.append(f"{states.count('aligned')} of {every.size} images aligned")
    if weak:
        errors = [alignment.error.to_value("arcsec") for alignment in weak]
        what = [f"error {' to '.join(dict.fromkeys(f'{e:.2f}' for e in (min(errors), max(errors))))} arcsec or more"]
        if every.size > 1:
            what.insert(0, "frame " + ", ".join(map(str, dict.fromkeys(alignment.frame_number for alignment in weak))))
        parts.append(f"{len(weak) if every.size > 1 else ''} weak ({', '.join(what)})".lstrip())
    if count := states.count("not aligned"):
        parts.append(f"{count} not aligned" if every.size > 1 else "not aligned")
    return ", ".join(parts)


def image_status(alignment):
    """The status of an alignment; without an alignment, the image is not aligned."""
    return "not aligned" if alignment is None else alignment.status
