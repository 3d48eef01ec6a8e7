"""The got10k toolkit's tracker interface around ours (`pip install got10k six`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fartrack.errors import InputError
from fartrack.toolkits import name_of

try:
    from got10k.trackers import Tracker as ToolkitTracker
except ImportError as missing:
    raise InputError(f"got10k: {missing.name} is not installed; pip install got10k six") from None

if TYPE_CHECKING:
    from fartrack.tracking import SingleTracker


class GOT10kTracker(ToolkitTracker):  # type: ignore[misc]  # the toolkit has no types
    """Hand this to one of the toolkit's experiments: `ExperimentGOT10k(root, subset="val").run(GOT10kTracker())`."""

    def __init__(
        self,
        model: str | os.PathLike[str] = "pico",
        *,
        name: str | None = None,
        tracker_factory: Callable[[], SingleTracker] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name=name or name_of(model), is_deterministic=True)
        if tracker_factory is None:
            from fartrack import Tracker

            self.tracker: SingleTracker = Tracker(model, **options)
        else:
            self.tracker = tracker_factory()

    def init(self, image: Any, box: np.ndarray) -> None:
        """Start on a target; `image` is a PIL image in RGB."""
        x, y, w, h = (float(v) for v in box)
        self.tracker.init(bgr(image), (x, y, w, h))

    def update(self, image: Any) -> np.ndarray:
        """The box in the next image, also when the tracker is not sure: the toolkit wants one for every frame."""
        _, box = self.tracker.update(bgr(image))
        return np.asarray(box, dtype=float)


def bgr(image: Any) -> np.ndarray:
    """A PIL image as the tracker takes frames."""
    return cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)
