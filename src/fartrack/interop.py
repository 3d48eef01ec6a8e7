"""Results as other libraries want them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fartrack.errors import InputError

if TYPE_CHECKING:
    from supervision import Detections

    from fartrack.geometry import Box
    from fartrack.tracking import Result


def to_supervision(
    result: Result | Sequence[Result] | Mapping[int, tuple[bool, Box, float]],
    *,
    tracker_id: int = 1,
    class_id: int = 0,
) -> Detections:
    """A result as supervision's `Detections`, with tracker id and confidence, ready for its annotators.

    Takes what `track` yields, what `track_all` yields (the tracker ids are then 1, 2, ... in the order of the boxes),
    or what `MultiTracker.update` returns (its ids then become the tracker ids).
    Targets that were not found are left out: an annotator would draw a box where there is nothing.

    Raises:
        InputError: supervision is not installed, or `result` is none of the three.
    """
    try:
        from supervision import Detections
    except ImportError:
        raise InputError("to_supervision: supervision is not installed; pip install supervision") from None
    try:
        if isinstance(result, Mapping):
            targets = [(id, box, score) for id, (found, box, score) in result.items() if found]
        else:
            several = enumerate(result, start=1) if isinstance(result, Sequence) else [(tracker_id, result)]
            targets = [(id, one.box, one.score) for id, one in several if one.found]
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"to_supervision: a {type(result).__name__} is no result: give what `track` or `track_all` yields for one "
            "frame, or what `MultiTracker.update` returns"
        ) from None
    xywh = np.array([box for _, box, _ in targets], dtype=np.float32).reshape(-1, 4)
    return Detections(
        xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        confidence=np.array([score for _, _, score in targets], dtype=np.float32),
        class_id=np.full(len(targets), class_id, dtype=int),
        tracker_id=np.array([id for id, _, _ in targets], dtype=int),
    )
