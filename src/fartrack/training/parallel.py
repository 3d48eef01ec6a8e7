"""One run over several processes and machines, each with a part of every batch; started by `torchrun`.

Gradients are averaged by hand, in one collective over one flat buffer: it works alike for every stage, with gradients
gathered over several passes, and under `torch.compile`. A small network gains nothing from overlapping it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Parallel:
    """Who this process is among all."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Number of this process on its machine: which GPU it takes."""

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean of all gradients."""
        if self.world == 1:
            return
        have = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in have])
        dist.all_reduce(flat)
        parts = (flat / self.world).split([g.numel() for g in have])
        torch._foreach_copy_(have, [part.view_as(g) for part, g in zip(parts, have, strict=True)])

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a value over all processes, without gradient."""
        if self.world == 1:
            return value.detach()
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def agree(self, flag: bool) -> bool:
        """The first process's word, for everybody."""
        if self.world == 1:
            return flag
        word = torch.tensor([int(flag)], device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.broadcast(word, 0)
        return bool(word.item())

    def same_start(self, tensors: Iterable[Tensor]) -> None:
        """Everybody begins with the first process's weights."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def leave(self) -> None:
        """Take leave of the other processes."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join(device: str) -> Parallel:
    """Meet the other processes when `torchrun` started this one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Parallel()
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(local)
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
    return Parallel(rank, world, local)
