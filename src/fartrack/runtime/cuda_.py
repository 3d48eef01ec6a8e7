"""PyTorch on an NVIDIA GPU: half precision, and one CUDA graph for each shape of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fartrack.errors import InputError
from fartrack.models import load_network
from fartrack.network import FARTrack, without_idle_biases
from fartrack.runtime import Bytes, Floats, Output, checked
from fartrack.step import TrackStep

WARM_UP = 3
"""Calls before a graph is recorded, in which libraries choose their kernels."""


class Cuda:
    """The network on the GPU. The first call of each batch size takes longer: its graph is recorded."""

    precision = "fp16"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if not torch.cuda.is_available():
            raise InputError("runtime cuda: PyTorch sees no GPU here; choose another runtime")
        if threads is not None:
            torch.set_num_threads(threads)
        net = without_idle_biases(load_network(path))
        self._path = path
        # Every frame gives a template: a call waits for launches, not for tokens, and targets of which some have a new
        # one would make batches of ever other sizes, each of which is recorded and kept.
        self.config = net.config.replace(update_interval=1)
        self.step = TrackStep(halved(net.cuda())).eval()
        self._graphs: dict[tuple[tuple[int, ...], ...], Recorded] = {}

    @torch.inference_mode()
    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """See `fartrack.runtime.Runtime`."""
        arrays = [search, template, memory] + ([] if trajectory is None else [trajectory])
        given = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
        shapes = tuple(tuple(t.shape) for t in given)
        if shapes not in self._graphs:
            there = [t.to("cuda", torch.half if t.is_floating_point() else t.dtype) for t in given]
            self._graphs[shapes] = Recorded(self.step, there)
        return checked(self._path, Output(*(t.float().cpu().numpy() for t in self._graphs[shapes](given))))


class Recorded:
    """One call of the network as a CUDA graph: its hundreds of launches become one."""

    def __init__(self, step: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        """Record.

        Args:
            step: the network.
            inputs: on the GPU; they are the graph's own, others are copied there.
        """
        self.inputs = list(inputs)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                step(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = step(*self.inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run on inputs from anywhere; what is returned is overwritten by the next call."""
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new)
        self.graph.replay()
        return self.outputs


def halved(net: FARTrack) -> FARTrack:
    """The same network with weights in float16, but for what reads the words: an expectation over hundreds of them."""
    net.half()
    net.norm.float()
    for name in ("words", "word_bias"):
        parameter = getattr(net, name)
        parameter.data = parameter.data.float()
    return net
