"""Frame level (sections 3.1, 3.3 and 4 of the paper): templates and a search crop, read after one layer or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fartrack.config import ModelConfig
from fartrack.network import Output, decode
from fartrack.training import losses
from fartrack.training.loop import Parts
from fartrack.training.options import TrainConfig
from fartrack.training.render import Samples
from fartrack.training.sampled import SampleTrainer

CHECKED = (4, 64)
"""Batches of how many held-out samples are measured on."""


class Auxiliary(nn.Module):
    """Heads that only training reads."""

    def __init__(self, config: ModelConfig, layers: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(config.width, 5) for _ in layers)
        self.feature = nn.Linear(config.width, max(1, channels))


class FrameTrainer(SampleTrainer):
    """Coordinate words by cross entropy and SIoU; several exits teach each other."""

    stage = "frame"
    aux: Auxiliary
    whole_layers = False
    """Call layers as wholes: somebody listens to them."""

    def __init__(self, model: ModelConfig, train: TrainConfig, *more: Any, **named: Any) -> None:
        """As `Trainer`."""
        super().__init__(model, train, *more, **named)
        self.look: Callable[..., Output] = self._compiled(self._look)

    def _auxiliary(self) -> Auxiliary:
        return Auxiliary(self.config, self.dense_layers, self.features.channels if self.features else 0)

    @property
    def dense_layers(self) -> tuple[int, ...]:
        """Whose search tokens have a loss of their own. Not the last: there only the commands need computing."""
        depth = self.config.depth
        return tuple(sorted({max(1, depth * 2 // 3), max(1, depth - 1)}))

    @property
    def look_layers(self) -> tuple[int, ...]:
        """Whose commands should attend to the target."""
        depth = self.config.depth
        return tuple(range(max(1, depth * 3 // 4), depth + 1))

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        """Whose tokens the losses of this run read."""
        t = self.train
        dense = self.dense_layers if t.dense_weight else ()
        feature = (t.feature_layer,) if self.features and t.feature_weight else ()
        return tuple(sorted({*dense, *feature}))

    def slots(self, rng: np.random.Generator) -> list[int]:
        """Which of the network's slots templates stand in: the first always, the newest mostly."""
        n, t = self.config.templates, self.templates
        if t >= n:
            return list(range(n))
        if t == 1:
            return [int(rng.integers(n))]
        return [0, *sorted(rng.choice(np.arange(1, n), t - 1, replace=False).tolist())]

    def slots_of(self, step: int) -> list[int]:
        """The slots of a step."""
        return self.slots(np.random.default_rng([self.train.seed, step]))

    # -- forward -----------------------------------------------------------------------------------------------

    def _look(
        self,
        templates: Tensor,
        search: Tensor,
        slots: Tensor,
        trajectory: Tensor | None,
        exits: tuple[int, ...],
        hidden: tuple[int, ...],
        looks: tuple[int, ...],
    ) -> Output:
        """Crops -> the network's output: one function of tensors, so that it can be compiled as a whole."""
        net = self.net
        b, t = templates.shape[:2]
        past = net.embed_template(net.normalise(templates.flatten(0, 1))).unflatten(0, (b, t))
        past = past + net.slot_identity(slots).view(-1, 1, net.config.width)
        words = None if trajectory is None else losses.trajectory_words(trajectory, self.config)
        seen = net.embed_search(net.normalise(search))
        if self.train.residual == "bfloat16":
            past, seen = past.bfloat16(), seen.bfloat16()
        if self.config.attention == "oneway" and not (hidden or looks or self.whole_layers):
            # All templates in one call a layer.
            remembered = net.remember(past.flatten(0, 1), max(exits))
            older = [layer.unflatten(0, (b, t)).flatten(1, 2) for layer in remembered]
            return Output(net.look(older, seen, words, exits), None, [], [])
        return net(list(past.unbind(1)), seen, words, exits=exits, hidden_at=hidden, looks_at=looks)

    def forward(
        self,
        s: Samples,
        slots: list[int],
        exits: tuple[int, ...],
        hidden: tuple[int, ...] = (),
        looks: tuple[int, ...] = (),
        compiled: bool = False,
    ) -> Output:
        """Run the network on samples whose templates stand in `slots`."""
        look = self.look if compiled else self._look
        at = torch.tensor(slots).to(self.device, non_blocking=True)
        return look(s.templates, s.search, at, s.trajectory, exits, hidden, looks)

    # -- losses ------------------------------------------------------------------------------------------------

    def loss(self, s: Samples, step: int) -> tuple[Tensor, Parts]:
        """Of what the network says of one batch."""
        looks = self.look_layers if self.train.look_weight else ()
        with self.autocast():
            out = self.forward(s, self.slots_of(step), self.exits, self.hidden_layers, looks, compiled=True)
        return self.loss_of(out, s, step)

    def loss_of(self, out: Output, s: Samples, step: int) -> tuple[Tensor, Parts]:
        """Of an output: tracking, and what the search tokens, the attention and the teacher's features add."""
        t, config = self.train, self.config
        tokens = dict(zip(self.hidden_layers, out.hidden, strict=True))
        total, parts = losses.tracking(out.logits, s.box, config, t)
        m = self.templates * config.template_tokens
        if t.dense_weight:
            for head, layer in zip(self.aux.dense, self.dense_layers, strict=True):
                search = tokens[layer][:, m : m + config.search_tokens].float()
                bce, offset = losses.dense(head(search), s.box, config.search_grid)
                parts[f"bce{layer}"], parts[f"box{layer}"] = bce, offset
                total = total + t.dense_weight * (bce + offset) / len(self.dense_layers)
        if out.looks:
            truth = losses.inside_box(s.box, config.search_grid)
            parts["look"] = torch.stack([losses.attention_on_target(look, truth) for look in out.looks]).mean()
            total = total + t.look_weight * parts["look"]
        if self.features and t.feature_weight:
            pack = self.supply.at(step).pack
            x = tokens[t.feature_layer].float()
            seen, seen_weight = self.features.at(s.pictures[:, -1], s.search_grid, pack)
            past, past_weight = self.features.at(s.pictures[:, :-1].flatten(), s.template_grid.flatten(0, 1), pack)
            x = torch.cat([x[:, :m].flatten(0, 1), x[:, m : m + config.search_tokens].flatten(0, 1)])
            weight = torch.cat([past_weight, seen_weight])
            mass = self.parallel.mean(weight.sum())
            parts["feature"] = losses.feature_distance(self.aux.feature(x), torch.cat([past, seen]), weight, mass)
            total = total + t.feature_weight * parts["feature"]
        return total, parts

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Mean IoU of one search crop on pictures held out, if any, with the averaged weights: the fast curve."""
        if not self.measurable:
            return {}
        batches, batch = CHECKED
        values = []
        with self.averaged(), torch.compiler.set_stance("force_eager"):  # a batch of another size, now and then
            for i in range(batches):
                s = self.samples(self.held_out, 77_000 + i, batch)
                with self.autocast():
                    out = self.forward(s, self.slots(np.random.default_rng(i)), self.exits)
                values.append(losses.iou(decode(out.logits, self.config), s.box).cpu())
        value = torch.cat(values, 1)
        result = {f"held_out_iou_{layer}": float(v) for layer, v in zip(self.exits, value.mean(1), strict=True)}
        return result | {"held_out_sr50": float((value[-1] > 0.5).float().mean())}


class Distiller(FrameTrainer):
    """Layer-by-layer distillation: frame level with several exits, by a name of its own, so that neither goes on with
    the other's run."""

    stage = "distill"
