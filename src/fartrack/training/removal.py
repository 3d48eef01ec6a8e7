"""The baseline of distillation, deep to shallow: layers fade out while the whole network teaches (as MixFormerV2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.network import FARTrack, Output
from fartrack.training import checkpoint, losses
from fartrack.training.frame import FrameTrainer
from fartrack.training.loop import Parts
from fartrack.training.options import Distill
from fartrack.training.render import Samples
from fartrack.training.start import without


class RemovalTrainer(FrameTrainer):
    """Trains the whole network while some layers lose their say; `kept` is what is left in the end."""

    stage = "removal"
    whole_layers = True
    train: Distill

    def __init__(self, model: ModelConfig, train: Distill, *more: Any, **named: Any) -> None:
        """As `Trainer`; `teach` must be called before the first step."""
        self._as_begun = not train.fade
        super().__init__(model, replace(train, fade=train.fade or max(1, train.steps // 2)), *more, **named)
        self.strength = torch.ones((), device=self.device)
        for layer in train.remove:
            self.net.blocks[layer].register_forward_hook(self._fade)
        self.teacher: FARTrack | None = None

    @classmethod
    def check_options(cls, model: ModelConfig, train: Distill, processes: int = 1, features: bool = False) -> None:
        """As `Trainer`."""
        super().check_options(model, train, processes, features)
        if not train.remove or any(not 0 <= layer < model.depth - 1 for layer in train.remove):
            raise InputError(f"--remove {train.remove} must name layers of 0..{model.depth - 2}: the last one stays")
        if len(set(train.remove)) < len(train.remove):
            raise InputError(f"--remove {train.remove} names a layer twice: give each once")
        last = max(train.exits, default=model.depth)
        if last - 1 in train.remove:  # of it only the commands are computed, which no hook hears of
            raise InputError(
                f"--remove {train.remove} has layer {last - 1}, the last that --exits {last} (counted from 1) reads: "
                "it cannot fade; leave it, or give a later exit"
            )

    def _fade(self, _block: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> Any:
        x: Tensor = inputs[0]
        y, received = output
        return x + self.strength.to(x.dtype) * (y - x), received

    def load(self, path: Path) -> None:
        """As `Trainer`; layers that have gone stay away, however many steps are wanted now."""
        super().load(path)
        if self._as_begun and (fade := checkpoint.load(path)[1]["train"].get("fade")):
            self.train = replace(self.train, fade=fade)

    def teach(self, weights: dict[str, Tensor]) -> None:
        """Set the frozen teacher: the whole network as it was at the start."""
        self.teacher = FARTrack(self.config).to(self.device).requires_grad_(False)
        self.teacher.load_state_dict(weights)

    def loss(self, s: Samples, step: int) -> tuple[Tensor, Parts]:
        """As `FrameTrainer`, of layers as weak as they are by now."""
        self.strength.fill_(max(0.0, 1 - step / self.train.fade))
        return super().loss(s, step)

    def loss_of(self, out: Output, s: Samples, step: int) -> tuple[Tensor, Parts]:
        """As `FrameTrainer`, and KL to the teacher's coordinate distributions."""
        assert self.teacher is not None
        total, parts = super().loss_of(out, s, step)
        c = self.config.coordinate_words
        own, self.net = self.net, self.teacher
        try:
            with torch.no_grad(), self.autocast():
                taught = self.forward(s, self.slots_of(step), self.exits).logits[-1]
        finally:
            self.net = own
        ours = out.logits[-1][..., :c].float().log_softmax(-1)
        parts["kl"] = losses.kl(taught[..., :c].float().log_softmax(-1), ours).mean()
        return total + self.train.kl_weight * parts["kl"], parts

    def check(self) -> dict[str, float]:
        """As if the layers had gone already."""
        before = self.strength.clone()
        self.strength.zero_()
        try:
            return super().check()
        finally:
            self.strength.copy_(before)

    def kept(self) -> tuple[dict[str, Tensor], ModelConfig]:
        """The averaged weights without the layers that went."""
        depth = self.config.depth - len(self.train.remove)
        return without(self.average, self.train.remove), self.config.replace(depth=depth, name=f"removal{depth}")
