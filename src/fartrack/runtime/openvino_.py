"""OpenVINO: often the fastest on Intel and AMD CPUs (`pip install "fartrack[openvino]"`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.runtime import Bytes, Floats, Output

OUTPUTS = Output._fields


class OpenVino:
    """One model file, compiled for fixed shapes, which run faster: a tracker needs only two.

    Several targets share the same two with the size of the batch left open.
    """

    arithmetic = "f32"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.core = ov.Core()
        if threads is not None:
            self.core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads})
        # Accuracy is checked in float32; half precision must be asked for, not slip in.
        self.core.set_property("CPU", {"INFERENCE_PRECISION_HINT": self.arithmetic, "PERFORMANCE_HINT": "LATENCY"})
        try:
            self.model = self.core.read_model(path)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise InputError(f"{path} is not a whole model ({reason}): export or copy it again") from None
        if not self.model.has_rt_info(["framework", "fartrack"]):
            raise InputError(f"{path} is not a fartrack model: make one with `fartrack export`")
        self.config = ModelConfig.from_json(self._about("fartrack"))
        self.precision = self._about("precision") if self.model.has_rt_info(["framework", "precision"]) else "fp32"
        self._compiled: dict[tuple[int, int], ov.InferRequest] = {}

    def _about(self, key: str) -> str:
        return str(self.model.get_rt_info(["framework", key]).astype(str))

    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """See `fartrack.runtime.Runtime`."""
        feeds: dict[str, npt.NDArray[np.generic]] = {"search": search, "template": template, "memory": memory}
        if trajectory is not None:
            feeds["trajectory"] = trajectory
        batch, kept = 1 if len(memory) == 1 else -1, memory.shape[2]
        if (batch, kept) not in self._compiled:
            # Both lengths at once, or the second frame of a video would wait for its own.
            for length in {kept, self.config.template_tokens, self.config.kept_tokens}:
                self._compiled[batch, length] = self._compile(feeds, batch, length)
        request = self._compiled[batch, kept]
        request.infer(feeds, share_inputs=True)
        return Output(*(request.get_tensor(name).data.copy() for name in OUTPUTS))

    def _compile(self, feeds: Mapping[str, npt.NDArray[np.generic]], batch: int, kept: int) -> ov.InferRequest:
        shapes = {name: [batch, *value.shape[1:]] for name, value in feeds.items()}
        shapes["memory"][2] = kept
        model = self.model.clone()
        model.reshape({name: ov.PartialShape(shape) for name, shape in shapes.items()})
        return self.core.compile_model(model, "CPU").create_infer_request()


class OpenVinoBf16(OpenVino):
    """The same in bfloat16, on CPUs that compute in it: faster, and a little less exact."""

    arithmetic = "bf16"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("this CPU does not compute in bfloat16: use --runtime openvino")
        super().__init__(path, threads)
        self.precision = "int8-bf16" if self.precision == "int8" else "bf16"
