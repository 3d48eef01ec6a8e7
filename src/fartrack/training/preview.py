"""Pictures of what a run is about to be trained on: most failed trainings are seen there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.files import write_whole
from fartrack.training.clips import Clip
from fartrack.training.render import Samples

Image = npt.NDArray[np.uint8]
GREEN = (0, 220, 0)
ROWS, COLUMNS, SIDE = 16, 8, 160
"""Samples or clips at most; frames shown of a clip, and the side of their tiles in pixels."""


def save_preview(path: Path, made: Samples | Sequence[Clip]) -> None:
    """Write a sheet: a sample a row, its templates and its search crop with the box; or a clip a row."""
    sheet = _samples(made) if isinstance(made, Samples) else _clips(made)
    done, data = cv2.imencode(".png", sheet)
    assert done
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data.tobytes())


def _bgr(crop: Any) -> Image:
    picture = crop.permute(1, 2, 0).clamp(0, 255).byte().cpu().numpy()
    return np.ascontiguousarray(picture[..., ::-1])


def _samples(s: Samples) -> Image:
    side = s.search.shape[-1]
    lines = []
    # Tracks come first and distractors last: show some of all.
    for i in np.linspace(0, len(s.search) - 1, min(ROWS, len(s.search))).round().astype(int).tolist():
        search = _bgr(s.search[i])
        x0, y0, x1, y1 = (round(v * side) for v in s.box[i].tolist())
        cv2.rectangle(search, (x0, y0), (x1, y1), GREEN, 2)
        small = [np.asarray(cv2.resize(_bgr(t), (side // 2, side // 2)), np.uint8) for t in s.templates[i]]
        small += [np.zeros_like(small[0])] * (len(small) % 2)
        lines.append(
            np.concatenate(
                [search, np.concatenate([np.concatenate(small[k : k + 2]) for k in range(0, len(small), 2)], 1)], 1
            )
        )
    lines += [np.zeros_like(lines[0])] * (len(lines) % 2)
    half = len(lines) // 2
    return np.concatenate([np.concatenate(lines[:half]), np.concatenate(lines[half:])], 1)


def _clips(clips: Sequence[Clip]) -> Image:
    lines = []
    for clip in clips[:ROWS]:
        tiles = []
        for i in np.linspace(0, len(clip.boxes) - 1, COLUMNS).round().astype(int).tolist():
            frame = clip.frames[i].copy()
            if np.isfinite(clip.boxes[i]).all():
                x, y, w, h = clip.boxes[i].tolist()
                cv2.rectangle(frame, (round(x), round(y)), (round(x + w), round(y + h)), GREEN, 2)
            scale = SIDE / max(frame.shape[:2])
            small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            tile = np.zeros((SIDE, SIDE, 3), np.uint8)
            tile[: small.shape[0], : small.shape[1]] = small[:SIDE, :SIDE]
            tiles.append(tile)
        lines.append(np.concatenate(tiles, 1))
    return np.concatenate(lines)
