"""OpenVINO: often the fastest on Intel and AMD CPUs (`pip install openvino`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.models import not_whole
from fartrack.runtime import Bytes, Floats, Output

OUTPUTS = Output._fields
ROWS = 8
"""Attention is split among cores along the queries only when their number divides: it is made a multiple of this."""


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
        keys = ("fartrack", "precision", "attention")
        try:
            self.model = self.core.read_model(path.resolve())  # what it refers to lies beside the file, not a link
            there = [key for key in keys if self.model.has_rt_info(["framework", key])]
            about = {key: str(self.model.get_rt_info(["framework", key]).astype(str)) for key in there}
        except (RuntimeError, UnicodeDecodeError) as error:
            raise not_whole(path, str(error).strip().splitlines()[-1][:200]) from None
        if "fartrack" not in about:
            raise InputError(f"{path} is not a fartrack model: make one with `fartrack export`")
        self.config = ModelConfig.from_json(about["fartrack"], path)
        self.precision = about.get("precision", "fp32")
        self._attentions = about.get("attention")
        self._compiled: dict[tuple[int, int], ov.InferRequest] = {}

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
        if self._attentions is not None:
            join_heads(model, json.loads(self._attentions), self.config)
        return self.core.compile_model(model, "CPU").create_infer_request()


def join_heads(model: ov.Model, attentions: list[tuple[list[list[str]], str]], config: ModelConfig) -> None:
    """Put the heads of each attention together in one product, which OpenVINO fuses with the softmax between.

    Args:
        model: with a fixed number of tokens; changed.
        attentions: names of each one's (B, N, D) queries, keys and values, part by part, and of its result.
        config: of the network.
    """
    heads, width = config.heads, config.width
    apart = op.constant(np.array([0, -1, heads, width // heads]))
    together = op.constant(np.array([0, -1, width]))
    order = op.constant(np.array([0, 2, 1, 3]))
    there = {name: output for node in model.get_ordered_ops() for output in node.outputs() for name in output.names}
    for parts, result in attentions:
        rows = []
        for q, k, v in ([there[name] for name in part] for part in parts):
            more = -q.get_partial_shape()[1].get_length() % ROWS
            q = op.pad(q, np.array([0, 0, 0]), np.array([0, more, 0]), "constant") if more else q
            query, key, value = (op.transpose(op.reshape(x, apart, True), order) for x in (q, k, v))
            mixed = op.matmul(op.softmax(op.matmul(query, key, False, True), -1), value, False, False)
            if more:
                mixed = op.slice(mixed, np.array([0]), np.array([-more]), np.array([1]), np.array([2]))
            rows.append(mixed)
        whole = rows[0] if len(rows) == 1 else op.concat(rows, 2)
        there[result].replace(op.reshape(op.transpose(whole, order), together, True).output(0))


class OpenVinoBf16(OpenVino):
    """The same in bfloat16, on CPUs that compute in it: faster, and a little less exact."""

    arithmetic = "bf16"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("this CPU does not compute in bfloat16: use --runtime openvino")
        super().__init__(path, threads)
        self.precision = "int8-bf16" if self.precision == "int8" else "bf16"
