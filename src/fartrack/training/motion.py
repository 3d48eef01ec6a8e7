"""Motion that a clip did not have: turned, zoomed, shifted and lit anew along its way.

Tracks of a small pack are short, and a network that has seen them often follows them too well to learn from its own
errors. The target stays in the middle of what is done to a frame, so that its path in the clip is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.crops import Image

Floats = npt.NDArray[np.float64]

ROLL_SHARE, ROLL, SWAY = 0.3, 0.2, 0.15
"""Of clips, how many roll over; by how many radians a frame at most; and how far the others sway to either side."""
ZOOM = 0.35
"""Logarithm by which a target grows or shrinks on the way, at most; half of it in one direction only."""
SHIFT = 0.25
"""Of the camera from frame to frame, at most, as a share of the target's length."""
LIGHT_SHARE, GAIN, OFFSET = 0.5, 0.35, 40.0
"""Of clips, how many change in brightness; by which logarithm, and by how many levels."""
FADE_SHARE, FADE = 0.3, (0.15, 2.2)
"""Of clips, in how many the light becomes another within some frames, and the factors between which it is then darker
or brighter in a third of them."""
HAZE, FOG, LAMP = (0.2, 0.7), (90.0, 220.0), 0.3
"""In another third, the share that a fog takes over, and its level; in the last, where the colour changes, the
deviation of the logarithm of each channel's factor."""


@dataclass(frozen=True)
class Motion:
    """What happens to each of L frames."""

    affine: Floats
    """(L, 2, 3) from pixels of the clip to pixels of what is shown; corners of pixels are at whole numbers."""
    light: Floats
    """(L, 4) factors of B, G, R and level added."""

    def show(self, frame: Image, number: int) -> Image:
        """Frame `number`, (H, W, 3) uint8, moved and lit; what lies outside is the frame mirrored."""
        height, width = frame.shape[:2]
        matrix = between_centres(self.affine[number])
        moved = cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        return relit(moved, self.light[number])  # type: ignore[arg-type]

    def boxes(self, boxes: Floats) -> Floats:
        """(L, 4) x, y, w, h of targets once moved: upright around the turned box, taken for an ellipse."""
        m, half = self.affine, boxes[:, 2:] / 2
        centre = np.einsum("nij,nj->ni", m[..., :2], boxes[:, :2] + half) + m[..., 2]
        half = np.sqrt(np.einsum("nij,nj->ni", m[..., :2] ** 2, half**2))
        return np.concatenate([centre - half, 2 * half], 1)


def draw_motion(boxes: Floats, width: int, height: int, rng: np.random.Generator) -> Motion:
    """Chance's motion for a clip.

    Args:
        boxes: (L, 4) x, y, w, h of the target in pixels; NaN where it is not seen, there the last one counts.
        width, height: of its frames.
        rng: all chance comes from it.
    """
    count = len(boxes)
    seen = np.isfinite(boxes).all(1)
    last = np.maximum.accumulate(np.where(seen, np.arange(count), 0))
    boxes = boxes[last]
    way = np.linspace(0, 1, count)
    if rng.random() < ROLL_SHARE:
        angle = ROLL * rng.uniform(-1, 1) * np.arange(count)
    else:
        angle = SWAY * rng.uniform(-1, 1) * _swing(way, rng)
    zoom = np.exp(0.5 * ZOOM * (rng.uniform(-1, 1) * way + rng.uniform(-1, 1) * _swing(way, rng)))
    length = np.sqrt(boxes[:, 2:].prod(1))
    shift = np.cumsum(SHIFT * length[:, None] * rng.uniform(-1, 1) * rng.uniform(-1, 1, (count, 2)), 0)

    centre = boxes[:, :2] + boxes[:, 2:] / 2
    goal = np.clip(centre + shift, 0, [width, height])  # half of the target stays in the frame, along each axis
    light = draw_light(count, lambda: _swing(way, rng), rng)
    return Motion(affine_about(centre, goal, zoom, zoom, angle), light)


def draw_light(count: int, wave: Callable[[], Floats], rng: np.random.Generator) -> Floats:
    """(L, 4) factors of B, G, R and level added in each frame; `wave` draws (L,) within -1 and 1."""
    light = np.tile([1.0, 1.0, 1.0, 0.0], (count, 1))
    if rng.random() < LIGHT_SHARE:
        light[:, :3] = np.exp(GAIN * rng.uniform(-1, 1) * wave())[:, None]
        light[:, 3] = OFFSET * rng.uniform(-1, 1) * wave()
    if rng.random() < FADE_SHARE:
        since = np.arange(count) - rng.uniform(0.1, 0.9) * count
        off = 1 / (1 + np.exp(np.clip(rng.choice([-1, 1]) * since / rng.uniform(0.2, 6), -50, 50)))
        kind = int(rng.integers(3))
        if kind == 0:
            light *= np.exp(rng.uniform(*np.log(FADE)) * off)[:, None]
        elif kind == 1:
            haze = rng.uniform(*HAZE) * off
            light *= 1 - haze[:, None]
            light[:, 3] += haze * rng.uniform(*FOG)
        else:
            light[:, :3] *= np.exp(LAMP * rng.normal(size=3) * off[:, None])
    return light


def relit(frame: Image, light: Floats) -> Image:
    """A frame, (H, W, 3) uint8, in another light: (4,) factors of B, G, R and level added."""
    if (light == [1, 1, 1, 0]).all():
        return frame
    values = np.arange(256)[:, None] * light[:3] + light[3]
    return cv2.LUT(frame, np.clip(np.rint(values), 0, 255).astype(np.uint8)[:, None])  # type: ignore[return-value]


def affine_about(
    middle: Floats,
    at: Floats,
    across: Floats,
    along: Floats,
    angle: npt.NDArray[np.floating],
    slant: Floats | float = 0.0,
) -> Floats:
    """(L, 2, 3) that scale by (across, along), shear and turn about `middle`, which comes to lie `at`."""
    cos, sin = np.cos(angle), np.sin(angle)
    sheared = slant * along
    turned = np.stack(
        [
            np.stack([cos * across, cos * sheared - sin * along], -1),
            np.stack([sin * across, sin * sheared + cos * along], -1),
        ],
        -2,
    )
    middle = np.broadcast_to(middle, at.shape)
    return np.concatenate([turned, (at - np.einsum("nij,nj->ni", turned, middle))[..., None]], -1)


def between_centres(affine: Floats) -> Floats:
    """(2, 3) for OpenCV, which has the middle of a pixel at whole numbers."""
    matrix = affine.copy()
    matrix[:, 2] += affine[:, :2].sum(1) / 2 - 0.5
    return matrix


def _swing(way: Floats, rng: np.random.Generator) -> Floats:
    """A wave that begins at 0, of up to two periods along the way."""
    return np.sin(2 * np.pi * rng.uniform(0.25, 2) * way)
