"""PyTorch: runs safetensors checkpoints, and is the reference for the others (`pip install torch`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fartrack.models import load_network
from fartrack.network import FARTrack, without_idle_biases
from fartrack.runtime import Bytes, Floats, Output, checked, note_threads, refuse_forked
from fartrack.step import TrackStep


class Torch:
    """The network itself, in float32."""

    precision = "fp32"
    _path = Path("the network")  # of one in memory

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._take(load_network(path))
        self._path = path

    @classmethod
    def of(cls, net: FARTrack) -> Torch:
        """The runtime of a network in memory."""
        runtime = cls.__new__(cls)
        runtime._take(net)
        return runtime

    def _take(self, net: FARTrack) -> None:
        if torch.get_num_threads() > 1:
            note_threads("torch")
        self.config = net.config
        self.step = TrackStep(without_idle_biases(net)).eval()  # as in files, so that each reads what others remember

    @torch.inference_mode()
    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """See `fartrack.runtime.Runtime`."""
        refuse_forked("torch")
        arrays = [search, template, memory] + ([] if trajectory is None else [trajectory])
        answers = self.step(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
        return checked(self._path, Output(*(t.numpy() for t in answers)))
