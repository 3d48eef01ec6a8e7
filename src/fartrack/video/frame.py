"""One frame of a video."""

from __future__ import annotations

from dataclasses import dataclass

from fartrack.crops import Image

USUAL_FPS = 25
"""Frames per second of what does not say how many: folders of images, some streams."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame: its number counted from 0, its time in seconds after frame 0, its pixels (H x W x 3 uint8 BGR)."""

    index: int
    time: float
    image: Image
