"""Cutting a window out of a frame, as the trackers of this field do it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.geometry import Window

Image = npt.NDArray[np.uint8]


def cut(frame: Image, window: Window, size: int) -> Image:
    """Cut and resize; what lies outside the frame is black.

    The frame's last row and column count as outside: the released tracker pads one pixel more than it needs there,
    and its weights (and the field's conventions) have seen it so.

    Args:
        frame: (H, W, 3) uint8, any channel order.
        window: square of the frame.
        size: side of the result in pixels.

    Returns:
        (size, size, 3) uint8, the frame's channel order.
    """
    height, width = frame.shape[0] - 1, frame.shape[1] - 1
    x, y, side = window
    left, top, right, bottom = max(0, -x), max(0, -y), max(0, x + side - width), max(0, y + side - height)
    if left >= side or top >= side or right >= side or bottom >= side:
        return np.zeros((size, size, 3), np.uint8)
    inside = frame[y + top : y + side - bottom, x + left : x + side - right]
    if left or top or right or bottom:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)  # type: ignore[assignment]
    return cv2.resize(inside, (size, size))  # type: ignore[return-value]


def as_bgr(frame: object) -> Image:
    """A frame as (H, W, 3) uint8 BGR: grayscale and BGRA are converted, BGR is passed on untouched.

    Raises:
        ValueError: not an image of that kind.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        kind = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"frame is {kind}: give a NumPy array of uint8, H x W x 3 in BGR")
    if frame.size == 0:
        raise ValueError(f"frame of shape {frame.shape} is empty: give H x W x 3")
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]
    if frame.ndim == 3 and frame.shape[2] == 4:
        return cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)  # type: ignore[return-value]
    if frame.ndim == 3 and frame.shape[2] == 3:
        return frame
    raise ValueError(f"frame has shape {frame.shape}: give H x W x 3 in BGR (or H x W gray, or H x W x 4 BGRA)")
