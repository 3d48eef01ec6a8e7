"""`fartrack ablate`: what each choice of the method is worth, under one small budget."""

from __future__ import annotations

from dataclasses import dataclass

from fartrack.cli.train import need_torch
from fartrack.training import options


@dataclass(frozen=True)
class Ablate(options.Ablate):
    """Train small versions under one budget and print tables of what each choice of the method is worth.

    Every row is a chain of stages whose runs are kept in --out: a run that several rows share is made once, and the
    same command goes on where it was stopped.
    """

    def run(self) -> int:
        """Train, measure and print."""
        need_torch()
        from fartrack.training.ablate import ablate

        return ablate(self)
