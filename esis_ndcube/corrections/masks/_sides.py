"""Whether a polygon crosses itself."""

import numpy as np


def check_sides(vertices):
    """
    Refuse polygons whose sides meet anywhere except at their common vertices.

    Parameters
    ----------
    vertices : `numpy.ndarray`
        Shape (n, 2).

    Raises
    ------
    ValueError
        If two sides meet.
    """
    ends = np.roll(vertices, -1, axis=0)
    low, high = np.minimum(vertices, ends), np.maximum(vertices, ends)
    for i in range(len(vertices) - 1):
        # Few sides are so near that they must be compared; the boxes around the others are apart.
        meet = ((low[i + 1 :] <= high[i]) & (high[i + 1 :] >= low[i])).all(axis=-1)
        near = i + 1 + np.flatnonzero(meet)
        meet[meet] = _segments_meet(vertices[i], ends[i], vertices[near], ends[near])
        # Neighbors share a vertex, and must not lie on each other.
        meet[0] = _fold(vertices[i], ends[i], ends[i + 1])
        if i == 0:
            meet[-1] = _fold(vertices[-1], ends[-1], ends[0])
        if meet.any():
            msg = (
                f"got a polygon whose sides {i} and {i + 1 + np.argmax(meet)} meet, expected one that does not cross "
                "itself: give the vertices in order around it"
            )
            raise ValueError(msg)


def _fold(start, middle, end):
    """Whether the side from the middle to the end lies on the side that leads to it."""
    return _cross(start - middle, end - middle) == 0 and (start - middle) @ (end - middle) >= 0


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _segments_meet(a, b, c, d):
    """Whether a segment has a point in common with each of the others."""
    corners = [(a, b, c), (a, b, d), (c, d, a), (c, d, b)]
    turns = [np.sign(_cross(q - p, r - p)) for p, q, r in corners]
    meet = (turns[0] != turns[1]) & (turns[2] != turns[3])
    for turn, (p, q, r) in zip(turns, corners, strict=True):
        # An end that lies on the line of the other segment may lie on the segment.
        if (turn == 0).any():
            meet |= (turn == 0) & (np.minimum(p, q) <= r).all(axis=-1) & (r <= np.maximum(p, q)).all(axis=-1)
    return meet
