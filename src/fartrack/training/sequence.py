"""Sequence level (section 3.2): clips are tracked with the model's own boxes, memory and masks, then trained on.

`fartrack.training.rollout` does the tracking.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.network import FARTrack, decode
from fartrack.step import TrackStep
from fartrack.training import losses
from fartrack.training.clips import Clip, Tracks, begins_in_view
from fartrack.training.loop import Parts, Trainer
from fartrack.training.options import Sparsify, idle
from fartrack.training.rollout import Replayed, Rollout, one_pass, roll
from fartrack.training.scenes import Cast
from fartrack.training.synth import Sampler

Pairs = list[tuple[int, int]]
T = TypeVar("T")

log = logging.getLogger(__name__)

IDLE = ("dense_weight", "look_weight", "feature_weight", "features", "curriculum", "residual")
"""Options of all stages that this one has no use for, as for how samples are drawn: clips are no samples."""

TAKEN = ("waiting", "tracking", "learning")
"""Parts of a step whose seconds are told: until its clips are made, and the other two."""

# -- training --------------------------------------------------------------------------------------------------


class SequenceTrainer(Trainer):
    """The sparsification stage. With several exits each step's clips are tracked by one of them, all are trained."""

    stage = "sparsify"
    train: Sparsify

    def __init__(self, model: ModelConfig, train: Sparsify, *more: Any, **named: Any) -> None:
        """As `Trainer`."""
        super().__init__(model, train, *more, **named)
        plain = Sparsify()
        unused = idle(train, plain, IDLE)
        unused += ["--templates"] if train.templates < min(model.templates, plain.templates) else []
        unused += ["--synth.*"] if replace(train.synth, gap=plain.synth.gap) != plain.synth else []
        if unused:
            log.warning("sparsify has no use for %s: clips are tracked as they are", ", ".join(unused))
        threads = max(1, min(16, (os.cpu_count() or 1) // self.parallel.beside))
        self.pool = ThreadPoolExecutor(threads, "targets")
        self._sources: list[tuple[Sampler, Tracks, Cast | None]] = []
        self._recorded: dict[int, Replayed] = {}
        self.sight: SharedTemplates | OwnTemplates
        if model.attention == "oneway":
            self.sight = SharedTemplates(self.net, few_shapes=train.compile != "off")
        else:
            self.sight = OwnTemplates(self.net, prunes_in_pass=train.method == "runtime")
        self.look: Callable[..., Tensor] = self._compiled(self.sight.look)

    @classmethod
    def check_options(cls, model: ModelConfig, train: Sparsify, processes: int = 1, features: bool = False) -> None:
        """As `Trainer`."""
        super().check_options(model, train, processes, features)
        if train.method == "runtime" and model.attention == "oneway":
            raise InputError(
                "--method runtime prunes within a pass, but one-way templates are computed before it: "
                "give --model.attention joint"
            )
        if train.method == "runtime" and len(set(train.exits)) > 1:
            raise InputError(
                f"--method runtime prunes after a third of the layers, which is another layer for each of --exits "
                f"{train.exits}: give one exit, or --method sequence"
            )
        share = train.batch // processes
        if not 1 <= train.updates <= share:
            raise InputError(
                f"--updates {train.updates} is not in 1..{share}, the clips of a process in a step: choose another"
            )

    @property
    def pictures_on(self) -> torch.device:
        """Crops are cut by OpenCV, as the tracker does it."""
        return torch.device("cpu")

    def sources(self, step: int) -> tuple[list[Tracks], list[Cast]]:
        """What clips are taken from: tracks of each data set that has any, and objects with masks if scenes are wanted.

        Raises:
            InputError: clips of one of the two kinds are wanted, and there are none.
        """
        samplers = self.supply.all_at(step)
        if [one for one, *_ in self._sources] != samplers:
            known = {id(one[0]): one for one in self._sources}
            self._sources = [
                known.get(id(s)) or (s, Tracks(s), Cast(s) if self.train.scenes else None) for s in samplers
            ]
        tracks = [some for _, some, _ in self._sources if some]
        casts = [some for *_, some in self._sources if some]
        if self.train.scenes and not casts:
            raise InputError("--scenes needs objects with masks, and the data has none: add a data set with masks")
        if self.train.scenes < 1 and not tracks:
            raise InputError(
                "sparsify needs tracks of video frames, and the data has none: "
                "add a data set of videos, or give --scenes 1 if it has masks"
            )
        return tracks, casts

    def make(self, step: int) -> list[Clip]:
        """This process's clips of a step."""
        t, (tracks, casts) = self.train, self.sources(step)

        def clip(rng: np.random.Generator) -> Clip:
            while not begins_in_view(drawn := draw(rng)):
                pass
            return drawn

        def draw(rng: np.random.Generator) -> Clip:
            if t.scenes and rng.random() < t.scenes:
                return _one_of(casts, rng).clip(t.frames, rng)
            some = _one_of(tracks, rng)
            return some.clip(int(rng.choice(len(some), p=some.weight)), t.frames, rng, t.moved)

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
        rolled, first, rest = self.rolled(step, self.made(step))
        return {**self._learn(rolled, first, rest), **self._about(rolled)}

    def train_step(self) -> Parts:
        """Track the clips once, then learn from what was seen in as many updates as wanted.

        What it took is told in seconds: until the clips were there, to track them, and to learn.
        """
        t, marks = self.train, [time.perf_counter()]
        clips = self.made(self.step)
        marks.append(time.perf_counter())
        rolled, first, rest = self.rolled(self.step, clips)
        marks.append(time.perf_counter())
        order = np.random.default_rng([t.seed, self.step, self.parallel.rank, 1]).permutation(len(rest))
        rows = []
        for i in range(t.updates):
            parts = self._learn(rolled, first[i :: t.updates], [rest[k] for k in sorted(order[i :: t.updates])])
            rows.append({"norm": self.update(), **parts})
        self.step += 1
        means = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
        told = {**means, **self._about(rolled)}
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the next thing done is to track, which waits in any case
        marks.append(time.perf_counter())
        seconds = torch.tensor(np.diff(marks), dtype=torch.float32, device=self.device)
        return {**told, **{f"seconds_{name}": value for name, value in zip(TAKEN, seconds, strict=True)}}

    def rolled(self, step: int, clips: list[Clip]) -> tuple[Rollout, Pairs, Pairs]:
        """A step's clips, tracked, and frame and clip of what is to be learned, the first frames apart."""
        t = self.train
        driver = self.exits[int(np.random.default_rng([t.seed, step]).integers(len(self.exits)))]
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
                logits = self.look(*seen, self.exits)
            count = len(weight)
            total, parts = losses.tracking(logits, truth, self.config, self.train, weight * count / mass)
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
        """Micro-batches: what `look` is given, truth, weight.

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
            yield (*self.sight.gather(r, slots, b, kept), r.search[i, b], words), r.truth[i, b], r.weight[i, b]

    @property
    def measurable(self) -> bool:
        """Whether any track is held out."""
        return len(Tracks(self.supply.held_out)) > 0

    @torch.no_grad()
    def check(self) -> dict[str, float]:
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


def _one_of(some: Sequence[T], rng: np.random.Generator) -> T:
    """Each as likely; no chance is used up where there is one."""
    return some[int(rng.integers(len(some)))] if len(some) > 1 else some[0]


def prefix(net: FARTrack, depth: int) -> FARTrack:
    """The first layers of a network, sharing its weights."""
    small = copy.copy(net)
    small._modules = {**net._modules, "blocks": net.blocks[:depth]}
    small.config = net.config.replace(depth=depth)
    return small


# -- what frames saw -------------------------------------------------------------------------------------------


class SharedTemplates:
    """Of a one-way network, whose templates saw themselves alone and whole: each is computed once for all frames."""

    def __init__(self, net: FARTrack, few_shapes: bool) -> None:
        """For a network; with `few_shapes`, for a compiler, there are multiples of the frames as templates."""
        self.net, self.few_shapes = net, few_shapes

    def gather(self, r: Rollout, slots: Tensor, clip: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """(U, 3, s, s) every template once, and (N, m) which of all their tokens each frame sees."""
        n = self.net.config.template_tokens
        which, where = (slots * r.templates.shape[1] + clip.unsqueeze(1)).unique(return_inverse=True)
        if self.few_shapes:
            which = F.pad(which, (0, -len(which) % len(clip)))
        older, newest = where[:, :-1, None] * n, where[:, -1:] * n
        everything = torch.arange(n, device=where.device)
        rows = torch.cat([(older + (everything if kept is None else kept)).flatten(1), newest + everything], 1)
        return r.templates.flatten(0, 1)[which], rows

    def look(
        self, templates: Tensor, rows: Tensor, search: Tensor, words: Tensor | None, exits: tuple[int, ...]
    ) -> Tensor:
        """What was gathered, and (N, 3, S, S) -> logits (E, N, 4, words)."""
        net = self.net
        tokens = net.embed_template(net.normalise(templates)) + net.slot_identity(0)
        past = [
            layer.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
            for layer in net.remember(tokens, max(exits))
        ]
        return net.look(past, net.embed_search(net.normalise(search)), words, exits)


class OwnTemplates:
    """Of a joint network, whose templates see the frame: they are computed for each anew."""

    def __init__(self, net: FARTrack, prunes_in_pass: bool) -> None:
        """For a network; `prunes_in_pass` is the baseline's way."""
        self.net, self.prunes_in_pass = net, prunes_in_pass

    def gather(self, r: Rollout, slots: Tensor, clip: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(N, T, 3, s, s) the templates of each frame, and (N, T - 1, n) which tokens of the older are left."""
        return r.templates[slots, clip.unsqueeze(1)], kept

    def look(
        self, templates: Tensor, kept: Tensor | None, search: Tensor, words: Tensor | None, exits: tuple[int, ...]
    ) -> Tensor:
        """What was gathered, and (N, 3, S, S) -> logits (E, N, 4, words); tokens that went are not there."""
        net = self.net
        b, t = templates.shape[:2]
        past = net.embed_template(net.normalise(templates.flatten(0, 1))).unflatten(0, (b, t))
        older = past[:, :-1]
        if kept is not None:
            older = older.gather(2, kept.unsqueeze(-1).expand(-1, -1, -1, older.shape[-1]))
        tokens = [older[:, i] + net.slot_identity(i) for i in range(t - 1)] + [past[:, -1] + net.slot_identity(t - 1)]
        seen = net.embed_search(net.normalise(search))
        if self.prunes_in_pass:
            return runtime_forward(net, tokens, seen, words, exits)
        return net(tokens, seen, words, exits=exits).logits


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
) -> Tensor:
    """Logits of a forward pass that drops older templates' tokens after a third of its layers.

    Their saliency so far decides, in every frame anew; the first third pays for all tokens (section 3.2's rival).
    """
    c = net.config
    t, n = len(templates), c.template_tokens
    m = t * n
    x = torch.cat([*templates, *net.after_templates(search, words)], 1)
    salient = net.saliency_rows(m, x.shape[1])
    logits, received = [], torch.zeros(len(x), m, device=x.device)
    last = max(exits)
    for layer, block in enumerate(net.blocks[:last], 1):
        deciding = layer <= max(1, last // 3)
        x, look = block(x, (), salient if deciding else None, slice(0, m))
        if deciding:
            received = received + look.sum(1)
        if layer == max(1, last // 3) and t > 1:
            best = received[:, : m - n].unflatten(1, (t - 1, n)).topk(c.kept_tokens, dim=-1).indices.sort(-1).values
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
