"""Whether a polygon crosses itself."""

import itertools

import numpy as np


def check_sides(vertices):
    """
    Refuse polygons whose sides meet elsewhere than at their common vertex.

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
    count = len(vertices)
    for i, j in itertools.combinations(range(count), 2):
        if j == i + 1 or (i == 0 and j == count - 1):
            first, second = (i, j) if j == i + 1 else (j, i)
            before, after = vertices[first] - ends[first], ends[second] - vertices[second]
            # Neighbors share a vertex, and must not lie on each other.
            meet = _cross(before, after) == 0 and before @ after >= 0
        else:
            meet = _segments_meet(vertices[i], ends[i], vertices[j], ends[j])
        if meet:
            msg = (
                f"got a polygon whose sides {i} and {j} meet, expected one that does not cross itself: give the "
                "vertices in order around it"
            )
            raise ValueError(msg)


def _cross(a, b):
    return a[0] * b[1] - a[1] * b[0]


def _segments_meet(a, b, c, d):
    """Whether two segments have a point in common."""
    turns = [np.sign(_cross(q - p, r - p)) for p, q, r in ((a, b, c), (a, b, d), (c, d, a), (c, d, b))]
    if turns[0] != turns[1] and turns[2] != turns[3]:
        return True
    # An end that lies on the line of the other segment may lie on the segment.
    return any(
        turn == 0 and (np.minimum(p, q) <= r).all() and (r <= np.maximum(p, q)).all()
        for turn, (p, q, r) in zip(turns, ((a, b, c), (a, b, d), (c, d, a), (c, d, b)), strict=True)
    )
