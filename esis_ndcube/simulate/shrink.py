"""A smaller or larger flight that is otherwise the same."""

import tomllib

import numpy as np
import tomli_w

from esis_ndcube.flight import Flight

__all__ = ["shrink"]

# Flights larger than this many times the given one are of no use, and fill the memory.
_SMALLEST = 0.1


def shrink(flight, factor):
    """
    Make a flight with a smaller field of view and smaller detectors.

    Pixels keep their size on the sky, so that accuracies in pixels compare; the field stop, the detectors,
    the output grid and the distances of the lines shrink, so that the images lie on the detector as before.

    Parameters
    ----------
    flight : `~esis_ndcube.Flight`
        The flight.
    factor : `float`
        Factor by which the flight is smaller; a factor below 1 enlarges it.

    Returns
    -------
    `~esis_ndcube.Flight`
        The flight of another size, named after the given one.

    Raises
    ------
    ValueError
        If the factor is below 0.1, or so large that nothing is left of the detector.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.simulate import shrink
    >>> small = shrink(ESIS_1, 4)
    >>> small.detector.shape, small.grid_shape, small.field_stop_width
    ((260, 512), (318, 318), <Quantity 172.5 arcsec>)
    """
    detector = flight.detector
    if not _SMALLEST <= factor <= min(detector.shape) / 32:
        msg = (
            f"factor: got {factor}, expected {_SMALLEST} to {min(detector.shape) / 32:.0f}, at least 32 detector pixels"
        )
        raise ValueError(msg)
    if factor == 1:
        return flight
    table = tomllib.loads(flight.toml)
    table["name"] = f"{flight.name}_{'small' if factor > 1 else 'large'}"
    size = f"{factor:g} times smaller" if factor > 1 else f"{1 / factor:g} times larger"
    table["title"] = f"{flight.title}, field of view {size}"
    # The public frames are of another size.
    table.pop("archive", None)
    _shrink_detector(table["detector"], detector, factor)
    columns = sum(stop - start for start, stop in table["detector"]["active_columns"])
    table["field_stop"]["width"] = str(flight.field_stop_width / factor)
    table["vignetting"]["zero"] = str(flight.vignetting_zero / factor)
    table["vignetting"]["width"] = str(flight.vignetting_width / factor)
    table["vignetting"]["margin"] = str(flight.vignetting_margin / factor)
    table["grid"]["shape"] = [max(8, round(length / factor)) for length in flight.grid_shape]
    # Only distances from the pivot are scaled, so that the sky at the pivot stays where it was.
    pivot = np.array(flight.pose_pivot)
    sky = np.array(flight.grid_crval) + (pivot + 1 - flight.grid_crpix) * flight.grid_cdelt
    pivot = _scale(pivot, factor)
    crpix = pivot + 1 - (sky - flight.grid_crval) / flight.grid_cdelt
    table["grid"]["crpix"] = crpix.tolist()
    table["pose"]["pivot"] = pivot.tolist()
    for row, line in zip(table["lines"], flight.lines, strict=True):
        if line.columns:
            start, stop = (min(columns, round(column / factor)) for column in line.columns)
            row["columns"] = [start, max(start + 1, stop)]
    for row, channel in zip(table["channels"], flight.channels, strict=True):
        for part, pose in zip((row, *row.get("lines", ())), channel.poses, strict=True):
            part["center"] = _scale(pose.center, factor).tolist()
            if "field_stop" in part:
                part["field_stop"] = _scale(pose.field_stop, factor).tolist()
        if channel.bad_columns:
            starts = [min(columns - 1, round(start / factor)) for start, _ in channel.bad_columns]
            widths = [stop - start for start, stop in channel.bad_columns]
            row["bad_columns"] = [[start, min(columns, start + n)] for start, n in zip(starts, widths, strict=True)]
    return Flight.from_toml(tomli_w.dumps(table), source=f"{flight.name} shrunk by {factor:g}")


def _shrink_detector(table, detector, factor):
    (left, left_end), (right, right_end) = detector.active_columns
    # Blank and overscan columns keep their number: the bias is measured on them.
    lost_left = left_end - left - max(8, round((left_end - left) / factor))
    lost = lost_left + right_end - right - max(8, round((right_end - right) / factor))

    def moved(column):
        return column - (lost if column >= right_end else lost_left if column >= left_end else 0)

    rows, columns = detector.raw_shape
    table["raw_shape"] = [2 * max(16, round(rows / factor / 2)), moved(columns)]
    table["split_column"] = moved(detector.split_column)
    for key in ("blank_columns", "active_columns"):
        table[key] = [[moved(start), moved(stop)] for start, stop in getattr(detector, key)]
    table["dispersion"] = str(detector.dispersion * factor)
    table["stray_light_rows"] = int(detector.stray_light_rows / factor)


def _scale(pixel, factor):
    return (np.asarray(pixel) + 0.5) / factor - 0.5
