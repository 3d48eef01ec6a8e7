"""Clips tracked as the tracker does it, side by side: what the sequence level learns from, and what its curve measures.

The tracking is done by `fartrack.target` and `fartrack.step`, the code that tracks videos: what is trained on is what
will be seen. A template's mask is decided once, in the frame in which it is the newest, and inherited from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fartrack import geometry
from fartrack.config import ModelConfig
from fartrack.memory import TemplateMemory, most_salient
from fartrack.runtime import Output as Answer
from fartrack.runtime.cuda_ import Recorded
from fartrack.target import Target
from fartrack.training.clips import Clip


@dataclass
class Moment:
    """One frame of several clips as the network saw it."""

    search: Tensor
    """(B, S, S, 3)."""
    template: Tensor
    """(B, s, s, 3) the newest ones."""
    trajectory: Tensor | None
    slots: list[int]
    """Numbers of the templates that filled the slots."""
    kept: npt.NDArray[np.int64]
    """(B, n) tokens of the newest template that stay: decided now, for good."""
    truth: npt.NDArray[np.float32]
    """(B, 4) x0, y0, x1, y1 of the target in units of the search crop; NaN where it is not seen."""
    boxes: npt.NDArray[np.float64]
    """(B, 4) where the tracker says that it is, in pixels."""


class MemoryOnDevice(TemplateMemory):
    """The tracker's memory, whose tokens are tensors that stay where the network is: they are megabytes a frame.

    What is done to all targets' tokens is done by `Tracking` in one call: a GPU that several processes share makes each
    wait for its turn.
    """

    def older(self) -> Any:
        """(n, D) tensors of all slots but the newest, oldest first."""
        return self.settled()

    def pruned(self, tokens: Any, keep: npt.NDArray[np.int64]) -> Any:
        """`Tracking` has pruned them."""
        return tokens


class Replayed(nn.Module):
    """A step on a GPU, recorded once for each shape of its inputs: hundreds of launches become one."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step
        self._graphs: dict[Any, Recorded] = {}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """As the step."""
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._graphs:
            # Weights learn: their copies in half precision are made in every replay, not kept from the first.
            halves = torch.is_autocast_enabled("cuda")
            with torch.autocast("cuda", torch.bfloat16, enabled=halves, cache_enabled=False):
                self._graphs[key] = Recorded(self.step, [tensor.clone() for tensor in inputs])
        return tuple(part.clone() for part in self._graphs[key](inputs))


class Tracking:
    """Several clips tracked side by side, one call of the network for each frame of all."""

    def __init__(self, step: nn.Module, config: ModelConfig, clips: Sequence[Clip], pool: ThreadPoolExecutor) -> None:
        # All clips' slots hold templates of the same frames; and what a wrong one does is what is to be learned. Every
        # frame gives one, for a clip is short.
        config = config.replace(withhold=False, doubt=0.0, trust=0.0, update_interval=1)
        self.step, self.config, self.clips, self.pool = step, config, list(clips), pool
        self.device = next(step.parameters()).device
        self.logits = np.zeros((0, 4, config.words), np.float32)
        """(B, 4, words) of the last frame."""
        self.targets = [
            Target(config, clip.frames[0], clip.boxes[0].tolist(), memory=MemoryOnDevice(config)) for clip in self.clips
        ]
        crops = [target.first_template(clip.frames[0]) for target, clip in zip(self.targets, self.clips, strict=True)]
        c, b = config, len(self.clips)
        nothing = torch.zeros(b, c.templates - 1, c.template_tokens, c.memory_width, device=self.device)
        words = np.full((b, c.trajectory_tokens), c.padding_word) if c.trajectory else None
        search = self._there(np.zeros((b, c.search_size, c.search_size, 3), np.uint8))
        self._newest = self._there(np.stack(crops))
        tokens = self._ask(search, self._newest, nothing, self._past(words)).tokens
        for target, crop, own in zip(self.targets, crops, tokens, strict=True):
            target.start(crop, own)

    def _there(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _past(self, words: npt.NDArray[np.int64] | None) -> Tensor | None:
        return None if words is None else self._there(words)

    @torch.no_grad()
    def _ask(self, search: Tensor, template: Tensor, memory: Tensor, words: Tensor | None) -> Answer:
        box, logits, saliency, tokens = self.step(search, template, memory, *([] if words is None else [words]))
        said = [part.flatten(1).float() for part in (box, logits, saliency)]
        widths = [part.shape[1] for part in said]
        boxes, flat, salient = torch.cat(said, 1).cpu().split(widths, 1)
        return Answer(boxes.numpy(), flat.view(logits.shape).numpy(), salient.numpy(), tokens)

    def frame(self, number: int) -> Moment:
        """Track the next frame of every clip."""
        pairs = list(zip(self.targets, self.clips, strict=True))
        looks = list(self.pool.map(lambda pair: pair[0].look(pair[1].frames[number]), pairs))
        search = self._there(np.stack([look.search for look in looks]))
        template = self._there(np.stack([look.template for look in looks]))
        memory = self._memory([look.memory for look in looks])  # type: ignore[misc]
        past = [look.trajectory for look in looks if look.trajectory is not None]
        words = self._past(np.stack(past) if past else None)
        slots = self.targets[0].memory.frames()
        truth = np.array([self._truth(target, clip.boxes[number]) for target, clip in pairs], np.float32)
        answer = self._ask(search, template, memory, words)
        self.logits = answer.logits
        if template.shape[1]:
            self._newest = template
        kept = np.stack([most_salient(saliency, self.config.kept_tokens) for saliency in answer.saliency])
        everyone: Any = answer.tokens
        rows = self._there(kept).unsqueeze(-1).expand(-1, -1, everyone.shape[-1])
        tokens = everyone.gather(1, rows)

        def absorb(i: int) -> None:
            own = Answer(answer.box[i], answer.logits[i], answer.saliency[i], tokens[i])
            self.targets[i].absorb(self.clips[i].frames[number], own)

        list(self.pool.map(absorb, range(len(pairs))))
        boxes = np.array([target.box for target in self.targets])
        if not template.shape[1]:  # of the only template no frame decides but the first: all of it stays
            kept = np.tile(np.arange(self.config.kept_tokens), (len(pairs), 1))
        return Moment(search, self._newest, words, slots, kept, truth, boxes)

    def _memory(self, slots: Sequence[Sequence[Tensor]]) -> Tensor:
        """(B, slots - 1, n, D) of what each target's memory gave; a tracker of one template has no slots."""
        flat = [tokens for own in slots for tokens in own]
        if not flat:
            return torch.zeros(len(slots), 0, self.config.kept_tokens, self.config.memory_width, device=self.device)
        return torch.stack(flat).unflatten(0, (len(slots), -1))

    def _truth(self, target: Target, box: npt.NDArray[np.float64]) -> list[float]:
        x, y, w, h = box.tolist()
        whole = (0.0, 0.0, 1.0, 1.0)
        left, top, side, _ = geometry.from_window(
            whole, target.window, target.box if self.config.decoding == "release" else None
        )
        return [(x - left) / side, (y - top) / side, (x + w - left) / side, (y + h - top) / side]

    def drop(self, keep: Sequence[int]) -> None:
        """Go on with some of the clips only."""
        self.targets, self.clips = [self.targets[i] for i in keep], [self.clips[i] for i in keep]
        self._newest = self._newest[list(keep)]


def one_pass(step: nn.Module, config: ModelConfig, clips: Sequence[Clip], pool: ThreadPoolExecutor) -> list[float]:
    """Average overlap of each clip, tracked once from its first box; frames without a box do not count."""
    overlaps: list[list[float]] = [[] for _ in clips]
    running = list(range(len(clips)))
    tracking = Tracking(step, config, clips, pool)
    for number in range(1, max(len(clip.boxes) for clip in clips)):
        on = [i for i, which in enumerate(running) if number < len(clips[which].boxes)]
        if len(on) < len(running):
            tracking.drop(on)
            running = [running[i] for i in on]
        boxes = tracking.frame(number).boxes
        truth = np.array([clips[which].boxes[number] for which in running])
        for which, value in zip(running, overlap(boxes, truth), strict=True):
            if np.isfinite(value):
                overlaps[which].append(float(value))
    return [float(np.mean(values)) if values else float("nan") for values in overlaps]


@dataclass
class Rollout:
    """Frames of clips as the network saw them, to be trained on; L frames were tracked."""

    search: Tensor
    """(L, B, 3, S, S) uint8."""
    templates: Tensor
    """(L, B, 3, s, s) uint8: template f was cut in frame f."""
    slots: Tensor
    """(L, T) numbers of the templates in the slots."""
    kept: Tensor
    """(L, B, n) tokens of template f that stay once frame f + 1 has decided."""
    truth: Tensor
    """(L, B, 4)."""
    weight: Tensor
    """(L, B) 1 where the target was in view, else 0."""
    trajectory: Tensor | None
    overlap: float
    """Mean IoU of the tracker's boxes."""


def roll(
    step: nn.Module,
    config: ModelConfig,
    clips: Sequence[Clip],
    pool: ThreadPoolExecutor,
    shake: float = 0.0,
    lost_frames: int = 0,
) -> Rollout:
    """Track clips of the same length and keep what was seen.

    A tracker that has lost its target may find it again, with templates of what it took for it; after `lost_frames`
    frames its box is put back to the truth. Now and then (`shake`) a box is knocked aside before a frame.
    """
    rngs = [np.random.default_rng(clip.seed) for clip in clips]
    lost = np.zeros(len(clips), int)
    tracking = Tracking(step, config, clips, pool)
    moments, overlaps = [], []
    for number in range(1, len(clips[0].boxes)):
        for target, rng in zip(tracking.targets, rngs, strict=True):
            if rng.random() < shake:
                target.move(knocked(target.box, rng))
        moment = tracking.frame(number)
        moments.append(moment)
        truth = np.array([clip.boxes[number] for clip in tracking.clips])
        overlaps.append(overlap(moment.boxes, truth))
        lost = np.where(overlaps[-1] > 0, 0, lost + (overlaps[-1] == 0))
        for i, (target, box, rng) in enumerate(zip(tracking.targets, truth, rngs, strict=True)):
            if lost[i] > lost_frames and np.isfinite(box).all():
                target.move(knocked(tuple(box.tolist()), rng), anew=True)
                lost[i] = 0
    truths = torch.from_numpy(np.stack([m.truth for m in moments]))
    middle = (truths[..., :2] + truths[..., 2:]) / 2
    in_view = torch.isfinite(truths).all(-1) & ((middle > 0) & (middle < 1)).all(-1)
    device, words = tracking.device, [m.trajectory for m in moments if m.trajectory is not None]

    def pictures(stack: list[Tensor]) -> Tensor:
        return torch.stack(stack).permute(0, 1, 4, 2, 3)

    return Rollout(
        search=pictures([m.search for m in moments]),
        templates=pictures([m.template for m in moments]),
        slots=torch.tensor([m.slots for m in moments], device=device),
        kept=torch.from_numpy(np.stack([m.kept for m in moments])).to(device),
        truth=torch.nan_to_num(truths).to(device),
        weight=in_view.float().to(device),
        trajectory=torch.stack(words) if words else None,
        overlap=float(np.nanmean(np.stack(overlaps))),
    )


def overlap(boxes: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(B,) IoU of boxes, NaN where the target is not seen."""
    return np.where(np.isfinite(truth).all(-1), geometry.iou(boxes, truth), np.nan)


def knocked(box: Sequence[float], rng: np.random.Generator) -> geometry.Box:
    """A box as a tracker that slipped would have it."""
    x, y, w, h = box
    length, grow = (w * h) ** 0.5, np.exp(0.2 * rng.normal(size=2))
    dx, dy = 0.4 * length * rng.uniform(-1, 1, 2)
    return (
        float(x + dx + (1 - grow[0]) * w / 2),
        float(y + dy + (1 - grow[1]) * h / 2),
        float(w * grow[0]),
        float(h * grow[1]),
    )
