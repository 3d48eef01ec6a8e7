"""One run over several processes and machines, each with a part of every batch; started by `torchrun`.

Gradients are averaged by hand, in one collective over one flat buffer: it works alike for every stage, with gradients
gathered over several passes, and under `torch.compile`. A small network gains nothing from overlapping it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fartrack.errors import InputError


@dataclass(frozen=True)
class Parallel:
    """Who this process is among all."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Number of this process on its machine."""
    beside: int = 1
    """How many of them share that machine."""

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean of all gradients."""
        if self.world == 1:
            return
        have = [p.grad for p in parameters if p.grad is not None]
        flat = _summed(torch.cat([g.flatten() for g in have]))
        parts = (flat / self.world).split([g.numel() for g in have])
        torch._foreach_copy_(have, [part.view_as(g) for part, g in zip(parts, have, strict=True)])

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a value over all processes, without gradient."""
        if self.world == 1:
            return value.detach()
        return _summed(value.detach().clone()) / self.world

    def agree(self, flag: bool) -> bool:
        """The first process's word, for everybody."""
        if self.world == 1:
            return flag
        word = torch.tensor([int(flag)], device="cuda" if dist.get_backend() == "nccl" else "cpu")
        with _others_there():
            dist.broadcast(word, 0)
        return bool(word.item())

    def same_start(self, tensors: Iterable[Tensor]) -> None:
        """Everybody begins with the first process's weights."""
        if self.world > 1:
            for tensor in tensors:
                there = _where_they_meet(tensor.detach())
                dist.broadcast(there, 0)
                tensor.detach().copy_(there)

    def leave(self) -> None:
        """Take leave of the other processes."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _where_they_meet(tensor: Tensor) -> Tensor:
    """Processes that share a GPU meet in the machine's memory; the same tensor where they need not."""
    return tensor if dist.get_backend() == "nccl" else tensor.cpu()


@contextmanager
def _others_there() -> Iterator[None]:
    """Say it in one line when another process has ended meanwhile (NCCL notices that only after minutes)."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            "another process of the run is gone: see what it said last, then go on with the same command"
        ) from error


def _summed(tensor: Tensor) -> Tensor:
    there = _where_they_meet(tensor)
    with _others_there():
        dist.all_reduce(there)
    return there.to(tensor.device)


def join(device: str) -> Parallel:
    """Meet the other processes when `torchrun` started this one.

    Each takes a GPU of its own. Where a machine has fewer, some share one: for the sequence level, whose clips want
    many CPU cores.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Parallel()
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if gpus:
        torch.cuda.set_device(local % gpus)
    dist.init_process_group("nccl" if gpus >= beside else "gloo")
    return Parallel(rank, world, local, beside)
