"""The description of a cube in words; its pixels are not read, because they may be lazy."""

import numpy as np

from esis_ndcube.corrections.normalize import NOT_NORMALIZED
from esis_ndcube.registration._status import alignment_text
from esis_ndcube.utils.arrays import is_lazy
from esis_ndcube.visualization.style import axis_names, compares_unnormalized, made_of_channels


def heading_line(cube):
    """Class, axes, unit and type of a cube, in one line."""
    axes = " x ".join(f"{n} {name}" for n, name in zip(cube.data.shape, axis_names(cube), strict=True))
    lazy = ", lazy" if is_lazy(cube.data) else ""
    return f"{type(cube).__name__}: {axes}, {cube.unit or 'no unit'}, {cube.data.dtype}{lazy}"


def summarize_cube(cube):
    """
    Facts of a cube by name; None or empty for unknown facts.

    Parameters
    ----------
    cube : `~esis_ndcube.cube.ESISCube`
        The cube.

    Returns
    -------
    `dict` of `str`
        The facts, in the order to show them.
    """
    single_file = cube._get_meta("file")
    return {
        "flight": None if cube.flight is None else cube.flight.name,
        "line": cube.line,
        "time": _times(cube),
        "exposure": _durations(cube.exposure_time),
        "channel": _channels(cube),
        "file": str(single_file) if single_file is not None and np.ndim(single_file) == 0 else None,
        "steps": ", ".join(step.name for step in cube.history),
        "brightness": NOT_NORMALIZED if compares_unnormalized(cube) else None,
        "alignment": _alignment(cube),
        "reference": cube._get_meta("reference"),
    }


def _channels(cube):
    """The channels, or the combination of channels."""
    if cube.channel is not None:
        return ", ".join(map(str, np.atleast_1d(cube.channel)))
    word, numbers = made_of_channels(cube)
    return f"minimum of {', '.join(map(str, numbers))}" if word == "minimum" else f" {word} ".join(map(str, numbers))


def _times(cube):
    if cube.time is None:
        return None
    times = np.atleast_1d(cube.time.isot)
    span = times[0] if times.size == 1 else f"{times[0]} to {times[-1]}"
    if cube.frame_number is None:
        return str(span)
    numbers = np.atleast_1d(cube.frame_number)
    return f"{span} (frame {numbers[0]}{f' to {numbers[-1]}' if numbers.size > 1 else ''})"


def _durations(exposure_time):
    """The shortest and the longest exposure time; a single one if they are alike."""
    if exposure_time is None:
        return None
    values = np.atleast_1d(exposure_time.to_value("s"))
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    texts = dict.fromkeys(f"{value:.2f}" for value in (values.min(), values.max()))
    return " to ".join(texts) + " s"


def _alignment(cube):
    """The stage of the alignment, and how good it is."""
    stage, alignments = cube._get_meta("stage"), getattr(cube, "alignment", None)
    if cube.channel is None:
        # No single alignment stands for all of them.
        return stage
    if alignments is None:
        # The image may also be one whose fit failed.
        return stage and f"{stage}, alignment not known"
    return ", ".join(filter(None, [stage, alignment_text(alignments)]))
