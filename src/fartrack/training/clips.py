"""Clips for the sequence level: tracks of a pack as videos of one target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fartrack.crops import Image
from fartrack.training.motion import Motion, draw_motion
from fartrack.training.synth import Sampler

SHORTEST = 4
"""Frames of a track that is a video."""


class Frames(Protocol):
    """Pictures in order, each H x W x 3 BGR and read or made when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Image: ...


@dataclass(frozen=True)
class Clip:
    """A video of one target with its boxes."""

    frames: Frames
    boxes: npt.NDArray[np.float64]
    """(L, 4) x, y, w, h; NaN where the target is not seen."""
    seed: int = 0
    """Of the knocks that its tracker is given in training."""


class PackFrames:
    """Pictures of a track, the way a video gives them; one may come several times, to and fro."""

    def __init__(self, sampler: Sampler, pictures: Sequence[int], mirrored: bool, motion: Motion | None = None) -> None:
        self.store, self.numbers = sampler.pack.pictures, list(pictures)
        self.mirrored, self.motion = mirrored, motion
        self._made: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> Image:
        number = self.numbers[index]
        known = number if self.motion is None else index
        if known not in self._made:
            frame = np.ascontiguousarray(self.store.rgba(number)[:, :: -1 if self.mirrored else 1, 2::-1])
            self._made[known] = frame if self.motion is None else self.motion.show(frame, index)
        return self._made[known]


class Tracks:
    """Tracks of a sampler that are videos: pictures of one size, none of them a cut-out."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        pack, o = sampler.pack, sampler.pack.objects
        self.rows: list[list[int]] = []
        weight: list[float] = []
        often = sampler.track_reach.diff(prepend=sampler.track_reach.new_zeros(1)).tolist()
        starts, counts = sampler.track_start.tolist(), sampler.track_count.tolist()
        for start, count, drawn in zip(starts, counts, often, strict=True):
            rows = sampler.track_rows[start : start + count]
            sizes = pack.pictures.size[o.picture[rows], 0]
            sprite = pack.sources[int(o.source[rows[0]])] == "sprite"
            cut_out = sprite or bool(o.alone[rows].any())
            if count >= SHORTEST and bool((sizes == sizes[0]).all()) and not cut_out:
                self.rows.append(rows.tolist())
                weight.append(drawn)
        self.weight = np.array(weight) / max(1e-12, sum(weight))
        """How often each is drawn, as for single frames."""

    def __len__(self) -> int:
        return len(self.rows)

    def clip(
        self, track: int, length: int | None = None, rng: np.random.Generator | None = None, moved: float = 0.0
    ) -> Clip:
        """A track, or as many of its frames as wanted; one that is too short is gone through to and fro.

        With chance (`rng`) it is mirrored or goes backwards, and in a share of `moved` is given motion besides.
        """
        rows, mirrored = self.rows[track], False
        if rng is not None:
            mirrored = bool(rng.random() < 0.5)
            rows = rows[::-1] if rng.random() < 0.5 else rows
            if length is not None and len(rows) > length:
                begin = int(rng.integers(len(rows) - length + 1))
                rows = rows[begin : begin + length]
        order = [*range(len(rows)), *range(len(rows) - 2, 0, -1)]
        rows = [rows[order[i % len(order)]] for i in range(length or len(rows))]
        o = self.sampler.pack.objects
        boxes = o.box[rows].double().numpy()
        pictures = o.picture[rows].tolist()
        width, height = self.sampler.pack.pictures.size[pictures[0], 0].tolist()
        if mirrored:
            boxes = np.concatenate([width - boxes[:, :1] - boxes[:, 2:3], boxes[:, 1:]], 1)
        seed = 0 if rng is None else int(rng.integers(2**31))
        motion = None
        if rng is not None and rng.random() < moved:
            motion = draw_motion(boxes, width, height, rng)
            boxes = motion.boxes(boxes)
        return Clip(PackFrames(self.sampler, pictures, mirrored, motion), boxes, seed)


def begins_in_view(clip: Clip) -> bool:
    """Whether the middle of a clip's first box lies in its first frame."""
    (height, width), (x, y, w, h) = clip.frames[0].shape[:2], clip.boxes[0].tolist()
    return bool(0 < x + w / 2 < width and 0 < y + h / 2 < height)
