"""Sequence level (section 3.2): clips are tracked with the model's own boxes, memory and masks, then trained on.

The tracking is done by `fartrack.target` and `fartrack.step`, the code that tracks videos: what is trained on is what
will be seen. A template's mask is decided once, in the frame in which it is the newest, and inherited from there on.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fartrack import geometry
from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.memory import TemplateMemory, most_salient
from fartrack.network import FARTrack, decode
from fartrack.runtime import Output as Answer
from fartrack.runtime.cuda_ import Recorded
from fartrack.step import TrackStep
from fartrack.target import Target
from fartrack.training.clips import Clip, Tracks
from fartrack.training.loop import Parts, Trainer
from fartrack.training.options import Sparsify
from fartrack.training.scenes import Cast
from fartrack.training.synth import Sampler

Pairs = list[tuple[int, int]]

log = logging.getLogger(__name__)

IDLE = ("dense_weight", "look_weight", "feature_weight", "features", "curriculum", "residual")
"""Options of all stages that this one has no use for, as for how samples are drawn: clips are no samples."""

# -- tracking clips --------------------------------------------------------------------------------------------


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
        # All clips' slots hold templates of the same frames; and what a wrong one does is what is to be learned.
        config = config.replace(withhold=False, doubt=0.0, trust=0.0)
        self.step, self.config, self.clips, self.pool = step, config, list(clips), pool
        self.device = next(step.parameters()).device
        self.targets = [
            Target(config, clip.frames[0], clip.boxes[0].tolist(), memory=MemoryOnDevice(config)) for clip in self.clips
        ]
        crops = [target.first_template(clip.frames[0]) for target, clip in zip(self.targets, self.clips, strict=True)]
        c, b = config, len(self.clips)
        nothing = torch.zeros(b, c.templates - 1, c.template_tokens, c.memory_width, device=self.device)
        words = np.full((b, c.trajectory_tokens), c.padding_word) if c.trajectory else None
        search = self._there(np.zeros((b, c.search_size, c.search_size, 3), np.uint8))
        tokens = self._ask(search, self._there(np.stack(crops)), nothing, self._past(words)).tokens
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
        search, template = (self._there(np.stack([look[i] for look in looks])) for i in range(2))
        memory = self._memory([look[2] for look in looks])  # type: ignore[misc]
        words = self._past(
            np.stack([look[3] for look in looks if look[3] is not None]) if self.config.trajectory else None
        )
        slots = self.targets[0].memory.frames()
        truth = np.array([self._truth(target, clip.boxes[number]) for target, clip in pairs], np.float32)
        answer = self._ask(search, template, memory, words)
        kept = np.stack([most_salient(saliency, self.config.kept_tokens) for saliency in answer.saliency])
        everyone: Any = answer.tokens
        rows = self._there(kept).unsqueeze(-1).expand(-1, -1, everyone.shape[-1])
        tokens = everyone.gather(1, rows)

        def absorb(i: int) -> None:
            own = Answer(answer.box[i], answer.logits[i], answer.saliency[i], tokens[i])
            self.targets[i].absorb(self.clips[i].frames[number], own)

        list(self.pool.map(absorb, range(len(pairs))))
        boxes = np.array([target.box for target in self.targets])
        return Moment(search, template, words, slots, kept, truth, boxes)

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


def begins_in_view(clip: Clip) -> bool:
    """Whether the middle of a clip's first box lies in its first frame."""
    (height, width), (x, y, w, h) = clip.frames[0].shape[:2], clip.boxes[0].tolist()
    return bool(0 < x + w / 2 < width and 0 < y + h / 2 < height)


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


# -- training --------------------------------------------------------------------------------------------------


class SequenceTrainer(Trainer):
    """The sparsification stage. With several exits each step's clips are tracked by one of them, all are trained."""

    stage = "sparsify"
    train: Sparsify
    together = 1

    def __init__(self, model: ModelConfig, train: Sparsify, *more: Any, **named: Any) -> None:
        """As `Trainer`."""
        super().__init__(model, train, *more, **named)
        if train.method == "runtime" and model.attention == "oneway":
            raise InputError(
                "--method runtime prunes within a pass, but one-way templates are computed before it: "
                "give --model.attention joint"
            )
        plain = Sparsify()
        idle = [f"--{name.replace('_', '-')}" for name in IDLE if getattr(train, name) != getattr(plain, name)]
        idle += ["--templates"] if train.templates < min(model.templates, plain.templates) else []
        idle += ["--synth.*"] if replace(train.synth, gap=plain.synth.gap) != plain.synth else []
        if idle:
            log.warning("sparsify has no use for %s: clips are tracked as they are", ", ".join(idle))
        share = train.batch // self.parallel.world
        if not 1 <= train.updates <= share:
            raise InputError(
                f"--updates {train.updates} is not in 1..{share}, the clips of a process in a step: choose another"
            )
        threads = max(1, min(16, (os.cpu_count() or 1) // self.parallel.beside))
        self.pool = ThreadPoolExecutor(threads, "targets")
        self._sources: tuple[Sampler, Tracks, Cast | None] | None = None
        self._recorded: dict[int, Replayed] = {}
        shared = model.attention == "oneway"
        self.seen_by = self._once if shared else self._each
        self.look_kept = self._compiled(self._look_once if shared else self._look_each)

    @property
    def pictures_on(self) -> torch.device:
        """Crops are cut by OpenCV, as the tracker does it."""
        return torch.device("cpu")

    def sources(self, step: int) -> tuple[Tracks, Cast | None]:
        """What a step's clips are taken from; nobody is cast when no scene is wanted."""
        sampler = self.supply.at(step)
        if self._sources is None or self._sources[0] is not sampler:
            tracks, cast = Tracks(sampler), Cast(sampler) if self.train.scenes else None
            if cast is not None and not len(cast):
                raise InputError("--scenes needs objects with masks, and the data has none: add a data set with masks")
            if not len(tracks) and self.train.scenes < 1:
                raise InputError(
                    "sparsify needs tracks of video frames, and the data has none: "
                    "add a data set of videos, or give --scenes 1 if it has masks"
                )
            self._sources = (sampler, tracks, cast)
        return self._sources[1:]

    def make(self, step: int) -> list[Clip]:
        """This process's clips of a step."""
        t, (tracks, cast) = self.train, self.sources(step)

        def clip(rng: np.random.Generator) -> Clip:
            while not begins_in_view(drawn := draw(rng)):
                pass
            return drawn

        def draw(rng: np.random.Generator) -> Clip:
            if cast is not None and rng.random() < t.scenes:
                return cast.clip(t.frames, rng)
            return tracks.clip(int(rng.choice(len(tracks), p=tracks.weight)), t.frames, rng, t.moved)

        mine = range(t.batch)[self.parallel.rank :: self.parallel.world]
        clips = [clip(np.random.default_rng([t.seed, step, i])) for i in mine]
        if self.device.type != "cpu":  # the CPU has time for the pictures while the network has a device of its own
            for each in clips:
                for number in range(len(each.boxes)):
                    each.frames[number]  # is kept
        return clips

    def step_of(self, depth: int) -> nn.Module:
        """What tracks with the first layers of the network."""
        net = prefix(self.net, depth)
        return RuntimeStep(net) if self.train.method == "runtime" else TrackStep(net)

    def _replayed(self, depth: int) -> Replayed:
        """The same for one size of batch, the clips of a step."""
        if depth not in self._recorded:
            self._recorded[depth] = Replayed(self.step_of(depth))
        return self._recorded[depth]

    def tracking_config(self, depth: int) -> ModelConfig:
        """What the targets of such a tracker remember."""
        return tracking_config(self.config.replace(depth=depth), self.train.method)

    def gradients(self, step: int) -> Parts:
        """Track the clips, then fill in the gradients of all that is learned from what was seen."""
        rolled, first, rest = self.rolled(step)
        return {**self._learn(rolled, first, rest), **self._about(rolled)}

    def train_step(self) -> Parts:
        """Track the clips once, then learn from what was seen in as many updates as wanted."""
        t = self.train
        rolled, first, rest = self.rolled(self.step)
        order = np.random.default_rng([t.seed, self.step, self.parallel.rank, 1]).permutation(len(rest))
        rows = []
        for i in range(t.updates):
            parts = self._learn(rolled, first[i :: t.updates], [rest[k] for k in sorted(order[i :: t.updates])])
            rows.append({"norm": self.update(), **parts})
        self.step += 1
        means = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
        return {**means, **self._about(rolled)}

    def rolled(self, step: int) -> tuple[Rollout, Pairs, Pairs]:
        """A step's clips, tracked, and frame and clip of what is to be learned, the first frames apart."""
        t = self.train
        driver = self.exits[int(np.random.default_rng([t.seed, step]).integers(len(self.exits)))]
        clips = self.made(step)
        with self.autocast():
            recorded = self.device.type == "cuda" and t.method == "sequence"
            look = self._replayed(driver) if recorded else self.step_of(driver)
            rolled = roll(look, self.tracking_config(driver), clips, self.pool, t.shake, t.lost_frames)
        return rolled, *self._learned(rolled, np.random.default_rng([t.seed, step, self.parallel.rank]))

    def _about(self, rolled: Rollout) -> Parts:
        """How the tracking went."""
        overlap = torch.tensor(rolled.overlap, device=self.device)
        return {"in_view": self.parallel.mean(rolled.weight.mean()), "rolled_iou": self.parallel.mean(overlap)}

    def _learn(self, rolled: Rollout, first: Pairs, rest: Pairs) -> Parts:
        """Add the gradients of some of the frames."""
        frame, clip = torch.tensor(first + rest, device=rolled.weight.device).T
        mass = self.parallel.mean(rolled.weight[frame, clip].sum()).clamp(min=1)
        sums: Parts = {}
        for seen, truth, weight in self._batches(rolled, first, rest):
            with self.autocast():
                logits = self.look_kept(*seen, self.exits)
            count = len(weight)
            total, parts = self.track_loss(logits, truth, weight * count / mass)
            total.backward()
            for name, value in {"loss": total, **parts}.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach()
        return sums

    def _learned(self, r: Rollout, rng: np.random.Generator) -> tuple[Pairs, Pairs]:
        """Frame and clip of what is trained on, the first frames apart; out of view only what else is missing."""
        length, clips = r.weight.shape
        taken = min(self.train.learn or length, length) - 1
        order = rng.random((length - 1, clips)) + (r.weight[1:] == 0).cpu().numpy()
        frames = np.sort(np.argsort(order, 0)[:taken], 0) + 1
        # A clip's frames lie side by side, for they share templates.
        return [(0, b) for b in range(clips)], [(int(i), b) for b, column in enumerate(frames.T) for i in column]

    def _batches(
        self, r: Rollout, first: Pairs, rest: Pairs
    ) -> Iterator[tuple[tuple[Tensor | None, ...], Tensor, Tensor]]:
        """Micro-batches: what `look_kept` is given, truth, weight.

        In the first frame nothing has been decided yet and every template is whole: a batch of its own.
        """
        whole = self.config.kept_tokens == self.config.template_tokens or self.train.method == "runtime"

        def micro(pairs: Pairs) -> list[Pairs]:
            return [pairs[i : i + self.train.micro] for i in range(0, len(pairs), self.train.micro)]

        parts = [(pairs, False) for pairs in micro(first)] + [(pairs, not whole) for pairs in micro(rest)]
        for pairs, pruned in parts:
            i, b = torch.tensor(pairs, device=r.weight.device).T
            slots = r.slots[i]
            kept = r.kept[slots[:, :-1], b.unsqueeze(1)] if pruned else None
            words = None if r.trajectory is None else r.trajectory[i, b]
            yield (*self.seen_by(r, slots, b, kept), r.search[i, b], words), r.truth[i, b], r.weight[i, b]

    def _once(self, r: Rollout, slots: Tensor, clip: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """(U, 3, s, s) every template once, and (N, m) which of all their tokens each frame sees."""
        n = self.config.template_tokens
        which, where = (slots * r.templates.shape[1] + clip.unsqueeze(1)).unique(return_inverse=True)
        if self.train.compile != "off":  # few shapes
            which = F.pad(which, (0, -len(which) % len(clip)))
        older, newest = where[:, :-1, None] * n, where[:, -1:] * n
        everything = torch.arange(n, device=where.device)
        rows = torch.cat([(older + (everything if kept is None else kept)).flatten(1), newest + everything], 1)
        return r.templates.flatten(0, 1)[which], rows

    def _each(self, r: Rollout, slots: Tensor, clip: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(N, T, 3, s, s) the templates of each frame, and (N, T - 1, n) which tokens of the older are left."""
        return r.templates[slots, clip.unsqueeze(1)], kept

    def _look_once(
        self, templates: Tensor, rows: Tensor, search: Tensor, words: Tensor | None, exits: tuple[int, ...]
    ) -> Tensor:
        """What `_once` gives, (N, 3, S, S) -> logits (E, N, 4, words). One-way templates saw themselves whole."""
        net = self.net
        tokens = net.embed_template(net.normalise(templates)) + net.slot_identity(0)
        past = [
            layer.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
            for layer in net.remember(tokens, max(exits))
        ]
        return net.look(past, net.embed_search(net.normalise(search)), words, exits)

    def _look_each(
        self, templates: Tensor, kept: Tensor | None, search: Tensor, words: Tensor | None, exits: tuple[int, ...]
    ) -> Tensor:
        """What `_each` gives, (N, 3, S, S) -> logits (E, N, 4, words); tokens that went are not there."""
        net = self.net
        b, t = templates.shape[:2]
        past = net.embed_template(net.normalise(templates.flatten(0, 1))).unflatten(0, (b, t))
        older = past[:, :-1]
        if kept is not None:
            older = older.gather(2, kept.unsqueeze(-1).expand(-1, -1, -1, older.shape[-1]))
        tokens = [older[:, i] + net.slot_identity(i) for i in range(t - 1)] + [past[:, -1] + net.slot_identity(t - 1)]
        seen = net.embed_search(net.normalise(search))
        if self.train.method == "runtime":
            return runtime_forward(net, tokens, seen, words, exits)
        return net(tokens, seen, words, exits=exits).logits

    @property
    def measurable(self) -> bool:
        """Whether any track is held out."""
        return len(Tracks(self.supply.held_out)) > 0

    @torch.no_grad()
    def check(self, batches: int = 4, batch: int = 64) -> dict[str, float]:
        """Average overlap of one pass over held-out tracks, if any, with the averaged weights, for each exit."""
        tracks = Tracks(self.supply.held_out)
        if not len(tracks):
            return {}
        clips = [tracks.clip(i) for i in range(min(len(tracks), 32))]
        values = {}
        with self.averaged(), self.autocast():
            for depth in self.exits:
                overlaps = one_pass(self.step_of(depth), self.tracking_config(depth), clips, self.pool)
                values[f"held_out_ao_{depth}"] = float(np.nanmean(overlaps))
        return values


def prefix(net: FARTrack, depth: int) -> FARTrack:
    """The first layers of a network, sharing its weights."""
    small = copy.copy(net)
    small._modules = {**net._modules, "blocks": net.blocks[:depth]}
    small.config = net.config.replace(depth=depth)
    return small


# -- the baseline: deciding at run time ------------------------------------------------------------------------


def tracking_config(config: ModelConfig, method: str) -> ModelConfig:
    """What a tracker remembers: whole templates when every frame decides anew."""
    return config.replace(keep=1.0) if method == "runtime" else config


def runtime_forward(
    net: FARTrack,
    templates: Sequence[Tensor],
    search: Tensor,
    words: Tensor | None,
    exits: Sequence[int],
    keep: float | None = None,
) -> Tensor:
    """Logits of a forward pass that drops older templates' tokens after a third of its layers.

    Their saliency so far decides, in every frame anew; the first third pays for all tokens (section 3.2's rival).
    """
    c = net.config
    t, n = len(templates), c.template_tokens
    m = t * n
    x = torch.cat([*templates, *net.after_templates(search, words)], 1)
    salient = torch.cat(
        [torch.tensor(c.salient_rows, device=x.device) + m, torch.arange(x.shape[1] - 4, x.shape[1], device=x.device)]
    )
    kept = n - int(n * (1 - (c.keep if keep is None else keep)))
    logits, received = [], torch.zeros(len(x), m, device=x.device)
    last = max(exits)
    for layer, block in enumerate(net.blocks[:last], 1):
        deciding = layer <= max(1, last // 3)
        x, look = block(x, (), salient if deciding else None, slice(0, m))
        if deciding:
            received = received + look.sum(1)
        if layer == max(1, last // 3) and t > 1:
            best = received[:, : m - n].unflatten(1, (t - 1, n)).topk(kept, dim=-1).indices.sort(-1).values
            rows = (best + n * torch.arange(t - 1, device=x.device).view(1, -1, 1)).flatten(1)
            older = x[:, : m - n].gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
            x = torch.cat([older, x[:, m - n :]], 1)
        if layer in exits:
            logits.append(net.read(x[:, -4:]))
    return torch.stack(logits)


class RuntimeStep(nn.Module):
    """`TrackStep` of the baseline; the memory it is given holds whole templates."""

    def __init__(self, net: FARTrack) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, search: Tensor, template: Tensor, memory: Tensor, words: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `fartrack.step.TrackStep`; the saliency is even, for nothing is decided for later."""
        net, last = self.net, self.net.config.templates - 1
        tokens = net.embed_template(net.normalise(template.permute(0, 3, 1, 2)))
        templates = [memory[:, i] + net.slot_identity(i) for i in range(last)] + [tokens + net.slot_identity(last)]
        seen = net.embed_search(net.normalise(search.permute(0, 3, 1, 2)))
        logits = runtime_forward(net, templates, seen, words, (net.config.depth,))[-1]
        return decode(logits, net.config), logits, torch.ones_like(tokens[..., 0]), tokens
