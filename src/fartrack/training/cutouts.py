"""Objects without their surroundings, and what one picture of an object cannot show: its other side, and how it bends.

Both are guesses. A turning thing is a cylinder whose back is another picture; a bending one is a ribbon. What they are
there for is that a box stays true while most of what the template showed goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.training.motion import Floats

Bytes = npt.NDArray[np.uint8]

SPINE, STRIDE = 41, 5
"""Points along a bent thing, and pixels between those for which the nearest of them is looked for."""


@dataclass(frozen=True)
class CutOut:
    """An object without its surroundings."""

    pixels: Bytes
    """(h, w, 4) B, G, R times A, and A."""
    outline: Floats
    """(P, 2) corners of its convex hull."""
    origin: npt.NDArray[np.float32] | None = None
    """(h, w, 2) which share of the width and height of the unbent thing each pixel comes from, where it is bent."""

    @property
    def middle(self) -> Floats:
        """(2,) x, y of its box's."""
        return (self.outline.min(0) + self.outline.max(0)) / 2

    def part(self, low: Floats, high: Floats) -> Floats | None:
        """(P, 2) outline of what lies between two corners, (2,) shares of its unbent box; None if that is next to
        nothing of it."""
        alpha = self.pixels[..., 3]
        corner, sides = self.outline.min(0), np.ptp(self.outline, 0)
        if self.origin is None:
            (x0, y0), (x1, y1) = (np.rint(corner + share * sides).astype(int) for share in (low, high))
            found = outline(alpha[y0:y1, x0:x1])
            if found is None or np.ptp(found, 0).min() < 0.5 * min(x1 - x0, y1 - y0):
                return None
            return found + np.array([x0, y0])
        within = ((self.origin >= low) & (self.origin <= high)).all(-1)
        found = outline(np.where(within, alpha, np.uint8(0)))
        return None if found is None or np.ptp(found, 0).min() < 2 else found


def outline(alpha: npt.NDArray[Any]) -> Floats | None:
    """(P, 2) corners of the convex hull of what is at least half there; None where nothing is."""
    rows, columns = np.nonzero(alpha > 127)
    if not len(rows):
        return None
    corners = [np.stack([columns + dx, rows + dy], -1) for dx in (0, 1) for dy in (0, 1)]
    return cv2.convexHull(np.concatenate(corners).astype(np.int32)).reshape(-1, 2).astype(float)


def turned(thing: CutOut, back: Bytes, angles: Floats) -> list[CutOut]:
    """It turned about its upright axis by each of some angles in radians, in the same outline.

    Args:
        thing: not bent.
        back: (h, w, 3) BGR of any size, what its other side looks like.
        angles: (N,), 0 shows the picture, pi the back.
    """
    alpha = thing.pixels[..., 3]
    height, width = alpha.shape
    there = alpha > 0
    left = there.argmax(1).astype(np.float32)
    across = np.maximum(width - there[:, ::-1].argmax(1) - left, 1)[:, None]  # of each row
    place = np.clip((np.arange(width) + 0.5 - left[:, None]) / across, 0, 1)
    seen_at = np.arcsin(2 * place - 1)
    front = thing.pixels[..., :3] * (255 / np.maximum(alpha, 1)[..., None].astype(np.float32))
    sheets = np.hstack([np.clip(front, 0, 255).astype(np.uint8), cv2.resize(back, (width, height))])
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, 1)
    poses = []
    for angle in angles:
        at = seen_at + angle
        behind = np.cos(at) < 0
        column = left[:, None] + across * (np.sin(at) * np.where(behind, -1, 1) + 1) / 2 - 0.5
        column = np.clip(column, left[:, None], left[:, None] + across - 1) + np.where(behind, width, 0)
        bgr = cv2.remap(sheets, column.astype(np.float32), rows, cv2.INTER_LINEAR)
        pixels = np.dstack([np.rint(bgr * (alpha[..., None] / np.float32(255))).astype(np.uint8), alpha])
        poses.append(replace(thing, pixels=np.ascontiguousarray(pixels)))
    return poses


def bent(thing: CutOut, about: float, softness: float, angles: Floats) -> list[CutOut]:
    """It bent along its longer side by each of some angles in radians.

    Args:
        thing: not bent.
        about: where along that side the middle of the bend is, 0 to 1.
        softness: over which share of the side it bends.
        angles: (N,) by which its one end is turned against the other.
    """
    short, long = sorted(thing.pixels.shape[:2])
    corner, sides = thing.outline.min(0), np.ptp(thing.outline, 0)
    poses = []
    for angle in angles:
        x, y = _ribbon(short, long, about, softness, angle)
        if thing.pixels.shape[1] == long > short:  # it lies
            x, y = np.ascontiguousarray(y.T), np.ascontiguousarray(x.T)
        pixels = cv2.remap(thing.pixels, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        hull = outline(pixels[..., 3])
        origin = ((np.stack([x, y], -1) + 0.5 - corner) / sides).astype(np.float32)
        poses.append(CutOut(pixels, thing.outline if hull is None else hull, origin))  # type: ignore[arg-type]
    return poses


def _ribbon(width: int, height: int, about: float, softness: float, angle: float) -> tuple[Any, Any]:
    """Columns and rows (h', w') float32 of an upright picture that each pixel of the bent one shows."""
    share = (np.arange(SPINE) + 0.5) / SPINE
    ramp = np.clip((share - about) / softness + 0.5, 0, 1)
    heading = angle * (ramp * ramp * (3 - 2 * ramp))
    heading -= heading[SPINE // 2]  # its middle keeps its direction
    along = np.stack([np.sin(heading), np.cos(heading)], -1)
    aside = np.stack([np.cos(heading), -np.sin(heading)], -1)
    spine = np.cumsum(along, 0) * (height / SPINE)
    spine -= along * (height / SPINE / 2)  # each at the middle of its piece
    edges = np.concatenate([spine + side * width / 2 * aside for side in (-1, 1)])
    low = edges.min(0) - 2
    columns, rows = (np.ceil((edges.max(0) + 2 - low) / STRIDE).astype(int)).tolist()
    x = low[0] + (np.arange(columns) + 0.5) * STRIDE
    y = low[1] + (np.arange(rows) + 0.5) * STRIDE
    at = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    nearest = ((at[:, None] - spine) ** 2).sum(-1).argmin(1)
    away = at - spine[nearest]
    aside_of = width / 2 + (away * aside[nearest]).sum(-1) - 0.5
    along_of = share[nearest] * height + (away * along[nearest]).sum(-1) - 0.5
    size = columns * STRIDE, rows * STRIDE
    return tuple(
        cv2.resize(values.reshape(rows, columns).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        for values in (aside_of, along_of)
    )  # type: ignore[return-value]
