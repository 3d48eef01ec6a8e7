"""Cutting a window out of a frame, as the trackers of this field do it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.errors import InputError
from fartrack.geometry import Box, Window

Image = npt.NDArray[np.uint8]
GivenImage = npt.NDArray[Any]
"""What a program hands over: OpenCV's types do not say that its frames are uint8, so that is seen when one is used."""
GIVEN, OWN = (0, 255, 0), (255, 0, 255)
"""Tints of what a template shows outside of its box: of the box that was given, and of those that the tracker found.
Far apart, rare in pictures, and the same in RGB and BGR."""
STEEP, BRIGHTEST = 1.6, 6.0
"""How a dark crop is brightened: by this power of what it lacks, so that the darker ones come near to daylight and
those that are nearly bright enough hardly change; and by how much at most, for beyond all there is is noise."""
WHOLE = 1500
"""Side in pixels of the largest window that is made whole when it reaches out of the frame."""


def cut(frame: Image, window: Window, size: int) -> Image:
    """Cut and resize; what lies outside the frame is black.

    The frame's last row and column count as outside: the released tracker pads one pixel more than it needs there,
    and its weights (and the field's conventions) have seen it so.

    A window that reaches out is made whole before it is resized, up to a side of `WHOLE` pixels. A larger one is only
    read where it is needed, or a target that fills a frame of 4K would have 200 MB copied in every frame: that rounds
    positions to 1/32 of a pixel, which changes values by a few steps at most.

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
    reaches_out = left or top or right or bottom
    if reaches_out and side > WHOLE and max(inside.shape) < 1 << 15:  # OpenCV counts in 16 bits there
        scale = side / size  # pixel i of the crop lies at (i + 0.5) * scale - 0.5 of the window, as `resize` has it
        where = np.array([[scale, 0, (scale - 1) / 2 - left], [0, scale, (scale - 1) / 2 - top]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(inside, where, (size, size), flags=how)  # type: ignore[return-value]
    if reaches_out:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)  # type: ignore[assignment]
    return cv2.resize(inside, (size, size))  # type: ignore[return-value]


def lighten(crop: Image, below: float) -> Image:
    """Brighten a dark crop, so that a target is the same thing by night and once the light is on.

    Args:
        crop: (size, size, 3) uint8; what is black in it, as outside of the frame, does not count.
        below: what mean of its values makes it dark; 0 leaves every crop as it is.

    Returns:
        (size, size, 3) uint8; the same array where the mean is that high.
    """
    if not below:
        return crop
    flat = crop.reshape(len(crop), -1)
    mean = cv2.sumElems(flat)[0] / max(1, cv2.countNonZero(flat))
    if mean >= below:
        return crop
    gain = min(BRIGHTEST, (below / max(1.0, mean)) ** STEEP)
    return cv2.LUT(crop, np.rint(np.minimum(255, gain * np.arange(256))).astype(np.uint8))  # type: ignore[return-value]


def tint_outside(crop: Image, window: Window, box: Box, share: float, colour: Sequence[int] = OWN) -> Image:
    """Tint what lies outside of a box, so that a template says which part of it is the target.

    Args:
        crop: (size, size, 3) uint8 that was cut out of `window`.
        window: in pixels of the frame.
        box: x, y, w, h in pixels of the frame; pixels on its edge are tinted in part.
        share: of the tint, 0 to 1.
        colour: of the tint, `GIVEN` or `OWN`.

    Returns:
        (size, size, 3) uint8.
    """
    if not share:
        return crop
    size, scale = len(crop), len(crop) / window.side
    tinted = cv2.addWeighted(crop, 1 - share, _plain(size, tuple(colour)), share, 0)
    columns, across = _covered((box[0] - window.x) * scale, (box[0] + box[2] - window.x) * scale, size)
    rows, down = _covered((box[1] - window.y) * scale, (box[1] + box[3] - window.y) * scale, size)
    if len(across) and len(down):  # where the box is, and only there, the two are blended
        inside = down[:, None] * across
        blended = cv2.blendLinear(crop[rows, columns], tinted[rows, columns], inside, 1 - inside)
        tinted[rows, columns] = blended
    return tinted  # type: ignore[return-value]


def _covered(begin: float, end: float, size: int) -> tuple[slice, npt.NDArray[np.float32]]:
    """Which of so many pixels in a row an interval touches, and the share of each that it covers."""
    first, last = max(0, math.floor(begin)), min(size, math.ceil(end))
    shares = np.ones(max(0, last - first), np.float32)
    if len(shares):
        shares[0] -= max(0.0, begin - first)
        shares[-1] -= max(0.0, last - end)
    return slice(first, last), shares


@cache
def _plain(size: int, colour: tuple[int, ...]) -> Image:
    """A picture of one colour; there are few, and each is needed in every frame."""
    return np.full((size, size, 3), colour, np.uint8)


def as_bgr(frame: object) -> Image:
    """A frame as (H, W, 3) uint8 BGR: grayscale and BGRA are converted, BGR is passed on untouched.

    Raises:
        InputError: not an image of that kind.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        kind = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"frame is {kind}: give a NumPy array of uint8, H x W x 3 in BGR")
    if frame.size == 0:
        raise InputError(f"frame of shape {frame.shape} is empty: give H x W x 3")
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]
    if frame.ndim == 3 and frame.shape[2] == 4:
        return cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)  # type: ignore[return-value]
    if frame.ndim == 3 and frame.shape[2] == 3:
        return frame
    raise InputError(f"frame has shape {frame.shape}: give H x W x 3 in BGR (or H x W gray, or H x W x 4 BGRA)")
