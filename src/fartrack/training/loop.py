"""Frame-level training and self-distillation: one loop, read top to bottom (sections 3.1, 3.3 and 4 of the paper)."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.network import FARTrack, decode, expectation
from fartrack.training import checkpoint, losses
from fartrack.training.features import TeacherFeatures
from fartrack.training.pack import Pack
from fartrack.training.render import Samples, render
from fartrack.training.synth import Sampler, SynthConfig, easier, plan


@dataclass(frozen=True)
class TrainConfig:
    """One run. Steps count optimiser steps; a run stops after `steps` and goes on from there when given more."""

    out: Path
    steps: int = 10_000
    batch: int = 32
    templates: int = 5
    """Templates per sample; fewer than the network's slots are spread over them."""
    exits: tuple[int, ...] = ()
    """Layers (1-based) that read their commands; none means the last. Several switch self-distillation on."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 4e-4
    encoder_lr: float = 1.0
    """Factor on the learning rate of the encoder's blocks and patch embedding."""
    weight_decay: float = 0.05
    warmup: int = 200
    decay: int = 0
    """Last steps of the run, over which the learning rate falls to zero."""
    clip: float = 1.0
    ema: float = 0.999
    word_sigma: float = 2.0
    """Width of the cross entropy's Gaussian target, in words; 0 is the paper's hard target."""
    siou_weight: float = 2.0
    ce_weight: float = 2.0
    kl_weight: float = 0.01
    dense_weight: float = 1.0
    """Auxiliary losses on the search tokens, dropped after training; 0 switches them off."""
    look_weight: float = 0.3
    """Auxiliary: the commands' attention in the last third of the layers should lie on the target."""
    feature_weight: float = 1.0
    feature_layer: int = 4
    """Where the teacher's features are distilled, when there are any."""
    curriculum: int = 0
    """Samples over which jitter, distractors and occluders grow to their full size."""
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    save_every: int = 200
    log_every: int = 20
    check_every: int = 500
    synth: SynthConfig = field(default_factory=SynthConfig)


class Auxiliary(nn.Module):
    """Heads that only training reads."""

    def __init__(self, config: ModelConfig, layers: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(config.width, 5) for _ in layers)
        self.feature = nn.Linear(config.width, max(1, channels))


class Trainer:
    """State of one run: network, its moving average, auxiliary heads, optimisers and the step."""

    def __init__(
        self, model: ModelConfig, train: TrainConfig, pack: Pack, features: TeacherFeatures | None, device: str = "cpu"
    ) -> None:
        torch.manual_seed(train.seed)
        self.config, self.train, self.pack, self.features = model, train, pack, features
        self.device = torch.device(device)
        self.exits = train.exits or (model.depth,)
        self.dense_layers = tuple(sorted({max(1, model.depth * 2 // 3), model.depth}))
        self.look_layers = tuple(range(max(1, model.depth * 3 // 4), model.depth + 1))
        self.net = FARTrack(model).to(self.device)
        self.aux = Auxiliary(model, self.dense_layers, features.channels if features else 0).to(self.device)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.sampler = Sampler(pack).to(self.device)
        self.held_out = Sampler(pack, train=False).to(self.device)
        self.step = 0
        self._ahead: tuple[int, Future[Samples]] | None = None
        self._maker = ThreadPoolExecutor(1, "samples") if self.device.type == "cpu" else None
        self.optimizers = list(self._optimizers())

    def _optimizers(self) -> Iterator[torch.optim.Optimizer]:
        t = self.train
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        matrices = []
        for name, p in [*self.net.named_parameters(), *self.aux.named_parameters()]:
            encoder = name.startswith(("blocks", "patch_embed"))
            if t.optimizer == "muon" and name.startswith("blocks") and p.ndim == 2:
                matrices.append(p)
            else:
                groups.setdefault((encoder, p.ndim > 1 and name.endswith("weight")), []).append(p)
        listed = [
            {"params": ps, "base": t.lr * (t.encoder_lr if encoder else 1), "weight_decay": t.weight_decay * decays}
            for (encoder, decays), ps in groups.items()
        ]
        yield torch.optim.AdamW(listed, lr=t.lr, betas=(0.9, 0.98), fused=True)
        if matrices:
            group = {"params": matrices, "base": t.lr * t.encoder_lr}
            yield torch.optim.Muon([group], lr=t.lr, weight_decay=t.weight_decay, adjust_lr_fn="match_rms_adamw")

    # -- one step ----------------------------------------------------------------------------------------------

    def schedule(self, step: int) -> float:
        """Warm-up, constant, decay."""
        t = self.train
        rise = min(1.0, (step + 1) / max(1, t.warmup))
        fall = min(1.0, (t.steps - step) / t.decay) if t.decay else 1.0
        return rise * fall

    def samples(self, sampler: Sampler, seed: int, batch: int, amount: float = 1.0) -> Samples:
        """The batch of a seed, always the same one, so that a resumed run sees what it would have seen."""
        rng = torch.Generator(self.device).manual_seed(seed)
        drawn = plan(
            self.pack, sampler, self.config, easier(self.train.synth, amount), batch, self.train.templates, rng
        )
        return render(self.pack.pictures, self.pack.objects, drawn, self.config)

    def forward(
        self, s: Samples, slots: list[int], exits: tuple[int, ...], hidden: tuple[int, ...], looks: tuple[int, ...] = ()
    ) -> Any:
        """Run the network on samples whose templates stand in `slots`."""
        net = self.net
        b, t = s.templates.shape[:2]
        past = net.embed_template(net.normalise(s.templates.flatten(0, 1)))
        past = past.unflatten(0, (b, t))
        templates = [past[:, i] + net.slot_identity(slot) for i, slot in enumerate(slots)]
        search = net.embed_search(net.normalise(s.search))
        return net(templates, search, exits=exits, hidden_at=hidden, looks_at=looks)

    def slots(self, rng: np.random.Generator) -> list[int]:
        """Which of the network's slots this step's templates stand in: the first always, the newest mostly."""
        n, t = self.config.templates, self.train.templates
        if t >= n:
            return list(range(n))
        if t == 1:
            return [int(rng.integers(n))]
        return [0, *sorted(rng.choice(np.arange(1, n), t - 1, replace=False).tolist())]

    def loss(self, s: Samples, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss of one batch and its parts."""
        t, config = self.train, self.config
        slots = self.slots(np.random.default_rng([t.seed, step]))
        hidden = self.dense_layers + ((t.feature_layer,) if self.features else ())
        hidden = tuple(sorted(set(hidden)))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=t.precision == "bfloat16"):
            out = self.forward(s, slots, self.exits, hidden, self.look_layers if t.look_weight else ())
        tokens = dict(zip(hidden, out.hidden, strict=True))
        box = expectation(out.logits, config)
        ce = losses.word_cross_entropy(out.logits, s.box.expand_as(box), config, t.word_sigma).mean()
        siou = losses.siou(box, s.box.expand_as(box)).mean()
        parts = {"ce": ce, "siou": siou, "iou": losses.iou(box[-1], s.box).mean()}
        total = t.ce_weight * ce + t.siou_weight * siou
        if len(self.exits) > 1:
            parts["kl"] = losses.distillation(out.logits, config)
            total = total + t.kl_weight * parts["kl"]
        m = t.templates * config.template_tokens
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
            pictures = self.pack.objects.picture[s.objects]
            x = tokens[t.feature_layer].float()
            seen, seen_weight = self.features.at(pictures[:, -1], s.search_grid)
            past, past_weight = self.features.at(pictures[:, :-1].flatten(), s.template_grid.flatten(0, 1))
            ours = self.aux.feature(
                torch.cat([x[:, :m].flatten(0, 1), x[:, m : m + config.search_tokens].flatten(0, 1)])
            )
            weight = torch.cat([past_weight, seen_weight])
            parts["feature"] = losses.feature_distance(ours, torch.cat([past, seen]), weight)
            total = total + t.feature_weight * parts["feature"]
        return total, parts

    def _samples_of(self, step: int) -> Samples:
        """The samples of a step. On the CPU another thread makes those of the next step meanwhile."""
        t = self.train

        def make(step: int) -> Samples:
            amount = step * t.batch / t.curriculum if t.curriculum else 1.0
            return self.samples(self.sampler, t.seed * 1_000_003 + step, t.batch, amount)

        if self._maker is None:
            return make(step)
        ready = self._ahead[1].result() if self._ahead and self._ahead[0] == step else make(step)
        self._ahead = (step + 1, self._maker.submit(make, step + 1))
        return ready

    def train_step(self) -> dict[str, Tensor]:
        """One optimiser step."""
        t = self.train
        total, parts = self.loss(self._samples_of(self.step), self.step)
        total.backward()
        norm = nn.utils.clip_grad_norm_([*self.net.parameters(), *self.aux.parameters()], t.clip)
        if not torch.isfinite(norm):
            raise InputError(f"the loss is not finite at step {self.step}: the last checkpoint in {t.out} is good")
        rate = self.schedule(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        momentum = min(t.ema, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            live = self.net.state_dict()
            torch._foreach_lerp_([self.average[k] for k in live], list(live.values()), 1 - momentum)
        return {"loss": total.detach(), "norm": norm, **{k: v.detach() for k, v in parts.items()}}

    @torch.no_grad()
    def check(self, batches: int = 4, batch: int = 64) -> dict[str, float]:
        """Mean IoU of one search crop on pictures held out, with the averaged weights: the fast curve."""
        live = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.average)
        values = []
        for i in range(batches):
            s = self.samples(self.held_out, 77_000 + i, batch)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16"):
                out = self.forward(s, self.slots(np.random.default_rng(i)), self.exits, ())
            values.append(losses.iou(decode(out.logits, self.config), s.box).cpu())
        self.net.load_state_dict(live)
        value = torch.cat(values, 1)
        result = {f"held_out_iou_{layer}": float(v) for layer, v in zip(self.exits, value.mean(1), strict=True)}
        return result | {"held_out_sr50": float((value[-1] > 0.5).float().mean())}

    # -- saving and going on -----------------------------------------------------------------------------------

    def save(self, name: str = "last.safetensors") -> Path:
        """Everything that resuming needs, in one file."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"aux.{k}": v for k, v in self.aux.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, slot in optimizer.state_dict()["state"].items():
                tensors |= {f"optim.{i}.{j}.{k}": torch.as_tensor(v) for k, v in slot.items()}
        path = self.train.out / name
        state = {"step": self.step, "model": json.loads(self.config.to_json()), "train": describe(self.train)}
        checkpoint.save(path, tensors, state | provenance(self.pack))
        return path

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same model.

        Raises:
            InputError: the checkpoint is of another config; the difference is named.
        """
        tensors, state = checkpoint.load(path)
        mine, theirs = json.loads(self.config.to_json()), state["model"]
        differs = [f"{k}: {theirs.get(k)} there, {mine[k]} here" for k in mine if theirs.get(k) != mine[k]]
        if differs:
            raise InputError(f"{path} is of another config ({'; '.join(differs)}): give the same model options")
        self.net.load_state_dict(checkpoint.part(tensors, "net."))
        self.aux.load_state_dict(checkpoint.part(tensors, "aux."))
        self.average = {k: v.to(self.device) for k, v in checkpoint.part(tensors, "average.").items()}
        for i, optimizer in enumerate(self.optimizers):
            whole = optimizer.state_dict()
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in checkpoint.part(tensors, f"optim.{i}.").items():
                number, name = key.split(".", 1)
                slots.setdefault(int(number), {})[name] = value
            optimizer.load_state_dict({**whole, "state": slots})
        self.step = state["step"]

    def start_from(self, weights: dict[str, Tensor]) -> list[str]:
        """Take over weights by name where shapes agree, for a new stage; returns the names that were not found."""
        own = self.net.state_dict()
        found = {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}
        self.net.load_state_dict(found, strict=False)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        return sorted(set(own) - set(found))

    def run(self, minutes: float | None = None) -> Iterator[dict[str, float]]:
        """Train until `steps` or until time is up, saving and logging; yields a row of metrics now and then."""
        t = self.train
        t.out.mkdir(parents=True, exist_ok=True)
        begun, last, mark, rows = time.monotonic(), time.monotonic(), self.step, []
        with (t.out / "metrics.jsonl").open("a") as log:
            while self.step < t.steps and (minutes is None or time.monotonic() - begun < 60 * minutes):
                rows.append(self.train_step())
                row: dict[str, float] = {}
                if self.step % t.log_every == 0:
                    row = {k: float(torch.stack([r[k].float() for r in rows]).mean()) for k in rows[0]}
                    now = time.monotonic()
                    row["samples_per_second"] = (self.step - mark) * t.batch / (now - last)
                    rows, last, mark = [], now, self.step
                if self.step % t.check_every == 0:
                    row |= self.check()
                if row:
                    row = {"step": self.step, "samples": self.step * t.batch, **row}
                    log.write(json.dumps({k: round(v, 5) for k, v in row.items()}) + "\n")
                    log.flush()
                    yield row
                if self.step % t.save_every == 0:
                    self.save()
        self.save()


def describe(config: Any) -> dict[str, Any]:
    """A dataclass as JSON-able fields."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def provenance(pack: Pack) -> dict[str, str]:
    """What it takes to make a run again: data, code and versions."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return {
        "data": pack.fingerprint,
        "commit": git.stdout.strip() or "not a git checkout",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
