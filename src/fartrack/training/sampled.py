"""Stages whose steps are batches of drawn samples: all that another one adds is a loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from fartrack.config import ModelConfig
from fartrack.training.loop import Parts, Trainer
from fartrack.training.options import TrainConfig, easier
from fartrack.training.parallel import Parallel
from fartrack.training.render import Samples, render, render_torch
from fartrack.training.synth import Sampler, plan


class SampleTrainer(Trainer):
    """A step is one batch of samples; its gradients are those of one `loss`."""

    together = 2
    """Samples lend each other occluders."""

    def __init__(self, model: ModelConfig, train: TrainConfig, *more: Any, **named: Any) -> None:
        """As `Trainer`."""
        super().__init__(model, train, *more, **named)
        self.templates = min(train.templates, model.templates)
        # A graph would want every batch at the same address, so that crops are compiled without.
        compiles = train.compile != "off" and self.device.type == "cuda"
        self._draw = torch.compile(render_torch, dynamic=False) if compiles else None

    @abstractmethod
    def loss(self, s: Samples, step: int) -> tuple[Tensor, Parts]:
        """The whole loss of one batch, and its parts."""

    @property
    def sampler(self) -> Sampler:
        """What this step's samples are drawn from."""
        return self.supply.at(self.step)

    @property
    def held_out(self) -> Sampler:
        """What is measured on."""
        return self.supply.held_out

    @property
    def measurable(self) -> bool:
        """Whether any sample is held out."""
        return not self.held_out.empty

    def samples(
        self, sampler: Sampler, seed: int, batch: int, amount: float = 1.0, parallel: Parallel | None = None
    ) -> Samples:
        """The batch of a seed, always the same one, so that a resumed run sees what it would have seen."""
        rng = torch.Generator(self.device).manual_seed(seed)
        drawn = plan(sampler, self.config, easier(self.train.synth, amount), batch, self.templates, rng)
        if parallel and parallel.world > 1:
            drawn = drawn.part(parallel.rank, parallel.world)
        return render(sampler.pack.pictures, sampler.pack.objects, drawn, self.config, self._draw)

    def make(self, step: int) -> Samples:
        """This process's samples of a step."""
        t = self.train
        # In eight stages, for each number of distractors is compiled anew.
        amount = min(8, 8 * self.seen(step) // t.curriculum) / 8 if t.curriculum else 1.0
        return self.samples(self.supply.at(step), t.seed * 1_000_003 + step, t.batch, amount, self.parallel)

    def gradients(self, step: int) -> Parts:
        """Those of the loss of its samples."""
        total, parts = self.loss(self.made(step), step)
        total.backward()
        return {"loss": total.detach(), **{k: v.detach() for k, v in parts.items()}}
