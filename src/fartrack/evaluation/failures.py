"""Finding where a tracker fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fartrack.evaluation.results import Scored

LOST_BELOW, FOUND_ABOVE, LOST_FRAMES = 0.1, 0.5, 5
"""A target is lost when overlap falls below the first, until it is above the second, with that many frames below."""


@dataclass(frozen=True)
class Failure:
    """The worst stretch of a sequence: frames first .. last, and whether the target was really lost there."""

    name: str
    first: int
    last: int
    lost: bool
    ao: float


def find_failure(name: str, overlaps: NDArray[np.float64], ao: float) -> Failure:
    """Where most frames were lost in one go; where none were, the frame of the lowest overlap."""
    worst, span = 0, (0, 0)
    first, low = -1, 0  # of the stretch one is in
    for frame, overlap in enumerate(overlaps):  # comparisons with NaN, a frame without a box to judge by, are false
        if first < 0 and overlap < LOST_BELOW:
            first, low = frame, 0
        if first >= 0:
            low += bool(overlap < LOST_BELOW)
            if low > worst:
                worst, span = low, (first, frame)
            if overlap > FOUND_ABOVE:
                first = -1
    if worst >= LOST_FRAMES:
        return Failure(name, *span, lost=True, ao=ao)
    lowest = int(np.nanargmin(overlaps))
    return Failure(name, lowest, lowest, lost=False, ao=ao)


def worst_failures(scored: Scored, count: int) -> list[Failure]:
    """The sequences with the lowest average overlap: those where the target was lost come first."""
    found = [
        find_failure(name, score.overlaps, score.ao)
        for name, score in scored.scores.items()
        if np.isfinite(score.overlaps[1:]).any()
    ]
    return sorted(found, key=lambda failure: (not failure.lost, failure.ao))[:count]
