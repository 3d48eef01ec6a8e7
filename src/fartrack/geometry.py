"""Boxes and crop windows, pure functions. A box is (x, y, w, h) in pixels of the frame, top-left origin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fartrack.errors import InputError

Box = tuple[float, float, float, float]


class Window(NamedTuple):
    """A square of the frame, in whole pixels; it may stick out of the frame."""

    x: int
    y: int
    side: int


def window_around(box: Sequence[float], factor: float) -> Window:
    """The square around a box with side ``ceil(factor * sqrt(w * h))`` (section 3.1)."""
    x, y, w, h = box
    side = max(1, math.ceil(math.sqrt(w * h) * factor))
    return Window(round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side)


def from_window(corners: Sequence[float], window: Window, centre_of: Sequence[float] | None = None) -> Box:
    """A box of the frame from corners in units of a search window.

    Args:
        corners: x0, y0, x1, y1 in units of the window's side.
        window: the search window.
        centre_of: a box whose exact centre is taken for the window's, which was rounded to whole pixels.
    """
    x0, y0, x1, y1 = (float(c) * window.side for c in corners)
    left, top = float(window.x), float(window.y)
    if centre_of is not None:
        x, y, w, h = centre_of
        left, top = x + 0.5 * w - 0.5 * window.side, y + 0.5 * h - 0.5 * window.side
    return left + x0, top + y0, x1 - x0, y1 - y0


def towards(old: Sequence[float], new: Sequence[float], share: float) -> Box:
    """The box a share of the way from an old one to a new one; 1 is the new one."""
    if share == 1:
        x, y, w, h = new
    else:
        x, y, w, h = (a + share * (b - a) for a, b in zip(old, new, strict=True))
    return x, y, w, h


def clip(box: Sequence[float], width: int, height: int, margin: float) -> Box:
    """Keep at least `margin` pixels of a box inside the frame, and its sides at least that long."""
    x0, y0, w, h = (float(v) for v in box)
    x1, y1, margin = x0 + w, y0 + h, float(margin)  # a whole number would stand in the box
    x0, x1 = min(max(0.0, x0), width - margin), max(margin, min(x1, float(width)))
    y0, y1 = min(max(0.0, y0), height - margin), max(margin, min(y1, float(height)))
    return x0, y0, max(margin, x1 - x0), max(margin, y1 - y0)


EMPTY = 1e-3
"""Pixels for which a side of none is taken."""


def change_of_shape(box: Sequence[float], before: Sequence[Sequence[float]]) -> float:
    """How far a box's width or height, whichever is further, lies from their medians, as a logarithm: ln 2 is twice.

    Args:
        box: x, y, w, h.
        before: w, h of boxes to compare with.
    """
    usual = [_median(lengths) for lengths in zip(*before, strict=True)]
    return max(abs(math.log(max(now, EMPTY) / max(then, EMPTY))) for now, then in zip(box[2:], usual, strict=True))


def _median(values: Sequence[float]) -> float:
    """`statistics.median` in half of its time, for it is asked for in every frame."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes (..., 4), broadcast; 0 where both are empty."""
    p, q = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(p[..., :2], q[..., :2])
    high = np.minimum(p[..., :2] + p[..., 2:], q[..., :2] + q[..., 2:])
    inter = np.clip(high - low, 0, None).prod(-1)
    union = p[..., 2:].prod(-1) + q[..., 2:].prod(-1) - inter
    return np.divide(inter, union, out=np.zeros_like(union), where=union > 0)


SMALLEST_SIDE = 4
"""The shortest side, in pixels, of a box that a person gives: less is a slip of the hand."""
LARGEST_AREA, LONGEST_SIDE = 4.0, 100.0
"""Of any box: its area in frames, and its sides in longer sides of the frame. A crop is padded to a multiple of its
box's area: without a bound a slip of the hand, or a box in other units, takes all memory."""


def check_box(box: object, width: int, height: int) -> Box:
    """A box as four floats, or a clear complaint.

    Raises:
        InputError: not four finite numbers in an order, no area, in parts of the frame, or outside a frame of
            width x height pixels or far larger.
    """
    try:
        if isinstance(box, str | bytes | bytearray | Set | Mapping):
            raise TypeError
        x, y, w, h = (float(v) for v in box)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        told = " ".join(repr(box).split())[:100]  # an array's takes several lines
        raise InputError(f"box {told} is not four numbers: give x, y, w, h in pixels") from None
    shown = f"box {x:g},{y:g},{w:g},{h:g}"
    if not all(math.isfinite(v) for v in (x, y, w, h)):
        raise InputError(f"{shown} has a value that is not a finite number: give x, y, w, h in pixels")
    if w <= 0 or h <= 0:
        raise InputError(f"{shown} has no area: width and height must be positive")
    if min(x, y) >= 0 and max(x, y, w, h) <= 1:
        raise InputError(f"{shown} lies within one pixel: give x, y, w, h in pixels, not in parts of the frame")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise InputError(f"{shown} lies outside the {width} x {height} frame: give a box that overlaps it")
    if w * h > LARGEST_AREA * width * height or max(w, h) > LONGEST_SIDE * max(width, height):
        raise InputError(
            f"{shown} is far larger than the {width} x {height} frame: give x, y, w, h of the object in its pixels"
        )
    return x, y, w, h


def check_given(box: object, width: int, height: int) -> Box:
    """A box that a person gave, as four floats, or a clear complaint: it must show enough to be followed.

    Raises:
        InputError: as `check_box`, and for a side under `SMALLEST_SIDE`.
    """
    x, y, w, h = check_box(box, width, height)
    if min(w, h) < SMALLEST_SIDE:
        raise InputError(
            f"box {x:g},{y:g},{w:g},{h:g} is too small to follow: give one that holds the whole object "
            f"(sides of at least {SMALLEST_SIDE} pixels)"
        )
    return x, y, w, h
