"""What the tracker saw and thought in one frame, for pictures of the method; made only when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fartrack.crops import Image
from fartrack.geometry import Window


@dataclass(frozen=True, slots=True, eq=False)
class TemplateView:
    """A template as a picture, with the tokens that are left of it."""

    number: int
    """The frame that it was cropped from, counted from the starting frame, which is 0."""
    picture: Image
    """(S, S, 3) uint8 RGB."""
    kept: npt.NDArray[np.int64] | None
    """Indices of its tokens (row by row) that the network reads; None is all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Insight:
    """One frame, as the network had it and as it answered."""

    frame: int
    """Number of the frame, counted from the starting frame, which is 0."""
    templates: tuple[TemplateView, ...]
    """What filled the slots, oldest first; the last one is the newest, and whole in the first frame that it is used."""
    settled: npt.NDArray[np.int64]
    """The newest template's tokens that stay: decided in the frame in which it was new."""
    saliency: npt.NDArray[np.float32]
    """(template tokens,) attention that the newest template's tokens received in the frame in which it was
    new, which decided it."""
    window: Window
    """The search window in the frame."""
    search: Image
    """(S, S, 3) uint8 RGB: the search crop."""
    corners: tuple[float, float, float, float]
    """x0, y0, x1, y1 as decoded, in units of the search crop's side."""
    distributions: npt.NDArray[np.float32]
    """(4, coordinate words) probabilities of x0, y0, x1, y1."""
    low: float
    """Coordinate of the first word, in units of the search crop's side."""
    high: float
    """Coordinate after the last word."""
    tokens: int
    """Tokens that the network read."""
    dense: int
    """Tokens that it would have read had none been pruned."""
    lost_below: float
    """The score under which a target counts as lost."""
