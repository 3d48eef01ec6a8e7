"""The floor of a network's time: its matrix products alone, in the engines at hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fartrack.config import ModelConfig
from fartrack.evaluation import counting
from fartrack.evaluation.counting import Product


@dataclass
class Floor:
    """The matrix products of frames from one new template to the next, at one precision, in the engines at hand."""

    config: ModelConfig
    precision: str
    runs: dict[str, Callable[[], object]]
    times: dict[str, list[float]] = field(default_factory=dict)

    def seconds(self) -> float:
        """A frame's, as the median of the fastest engine."""
        return min(float(np.median(t)) for t in self.times.values()) / self.config.renewal


def floor_of(config: ModelConfig, precision: str, threads: int) -> Floor | None:
    """Those of `counting.frames_of_cycle` in each engine: PyTorch for every precision, ONNX Runtime for float32.

    "int8" multiplies weights in int8 and the attention in float32, "int8-bf16" the attention in bfloat16.
    """
    frames = counting.frames_of_cycle(config)
    runs: dict[str, Callable[[], object]] = {}
    if importlib.util.find_spec("torch"):
        runs["torch"] = _in_turn([(_torch_products(work, precision), count) for work, count in frames])
    if precision in ("fp32", "fp16") and importlib.util.find_spec("onnx"):
        runs["onnxruntime"] = _in_turn([(_onnx_products(work, threads), count) for work, count in frames])
    return Floor(config, precision, runs) if runs else None


def _in_turn(parts: Sequence[tuple[Callable[[], object], int]]) -> Callable[[], None]:
    """Each as often as wanted: frames of one kind have the same weights, as the network's have."""

    def run() -> None:
        for part, count in parts:
            for _ in range(count):
                part()

    return run


def _torch_products(work: Sequence[Product], precision: str) -> Callable[[], object]:
    import torch

    linear = {"int8": torch.int8, "int8-bf16": torch.int8, "bf16": torch.bfloat16}.get(precision, torch.float32)
    attention = torch.bfloat16 if precision in ("bf16", "int8-bf16") else torch.float32
    calls: list[tuple[Callable[..., object], Any, Any, int]] = []
    for p in work:
        kind = linear if p.kind == "linear" else attention
        if kind == torch.int8 and p.m >= 16:
            a, b = (torch.randint(-99, 99, s, dtype=kind) for s in ((p.m, p.k), (p.k, p.n)))
            calls.append((torch._int_mm, a, b, p.times))  # type: ignore[attr-defined]
        else:
            kind = torch.float32 if kind == torch.int8 else kind
            a, b = (torch.rand(p.batch, *s).to(kind) for s in ((p.m, p.k), (p.k, p.n)))
            calls.append((torch.matmul, a, b, p.times))

    @torch.inference_mode()
    def run() -> None:
        for multiply, a, b, count in calls:
            for _ in range(count):
                multiply(a, b)

    return run


def _onnx_products(work: Sequence[Product], threads: int) -> Callable[[], object]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from fartrack.graph import IR, OPSET

    random = np.random.default_rng(0)
    nodes, arrays, taken, given = [], [], [], []
    feeds: dict[str, Any] = {}

    def value(name: str, shape: tuple[int, ...] | None) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    for i, p in enumerate(work):
        left = random.random((p.batch, p.m, p.k), dtype=np.float32)
        feeds[f"a{i}"] = left
        taken.append(value(f"a{i}", left.shape))
        for j in range(p.times):
            # Each has a right side of its own: equal products would be computed once.
            at, right = f"{i}.{j}", random.random((p.batch, p.k, p.n), dtype=np.float32)
            if p.kind == "linear":
                arrays.append(numpy_helper.from_array(right[0], f"b{at}"))
            else:
                feeds[f"b{at}"] = right
                taken.append(value(f"b{at}", right.shape))
            nodes.append(helper.make_node("MatMul", [f"a{i}", f"b{at}"], [f"y{at}"]))
            nodes.append(helper.make_node("Slice", [f"y{at}", "zero", "one", "zero"], [f"o{at}"]))
            nodes.append(helper.make_node("Slice", [f"o{at}", "zero", "one", "one"], [f"p{at}"]))
            given.append(value(f"p{at}", None))
    arrays += [numpy_helper.from_array(np.array([n]), name) for n, name in ((0, "zero"), (1, "one"))]
    graph = helper.make_graph(nodes, "products", taken, given, arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)
