"""Speed, measured so that it can be believed.

What is timed is `update(frame)`: a decoded frame in, a box out; and inside of it the call of the network. Everything
runs in one process, in turns of a few consecutive frames, so that a machine that gets busy slows all alike; the first
frame of a turn is not counted, because another's threads and caches are still there. A turn's time is the mean of its
frames, because not every frame has a new template; its ratios to others' are taken round by round, and medians given.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fartrack.config import ModelConfig
from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.evaluation import counting
from fartrack.evaluation.counting import Product
from fartrack.evaluation.peers import TrackerLike
from fartrack.geometry import Box
from fartrack.multitracker import MultiTracker

TURN = 4
"""Frames a contestant runs in a row, with and without new templates; one more comes first and is not counted."""
WARMUP = 2
"""Turns of everybody before those that are counted."""
SETTLE = 500
"""Frames after which memory is first looked at: until then buffers and the template memory fill up."""
REST = 0.03
"""Seconds before a turn, in which the threads of the one before stop waiting for work on the cores."""


@dataclass
class Contestant:
    """Something that is timed, and the times it took, one list per turn."""

    name: str
    tracker: TrackerLike
    runtime: str = ""
    precision: str = ""
    config: ModelConfig | None = None
    dense: bool = False
    targets: int = 1
    """Targets tracked at once; times are divided by it."""
    file: Path | None = None
    """The model's; none of the released layout and of peers."""
    frame: list[list[float]] = field(default_factory=list)
    network: list[list[float]] = field(default_factory=list)
    position: int = 0

    @property
    def work(self) -> list[Product]:
        """The matrix products of `cycle` frames; none for peers."""
        if self.config is None:
            return []
        return counting.dense_products(self.config) if self.dense else counting.cycle(self.config)

    @property
    def cycle(self) -> int:
        """Frames from one new template to the next."""
        return 1 if self.config is None or self.dense else self.config.renewal


class Crowd:
    """Several targets of a `MultiTracker` as one tracker: boxes around the one given."""

    def __init__(self, tracker: MultiTracker, targets: int) -> None:
        self.tracker, self.targets = tracker, targets
        tracker.prepare()  # or it would begin with them one by one

    @property
    def network_seconds(self) -> float:
        """Time in the network so far."""
        return self.tracker.network_seconds

    def init(self, frame: Image, box: Box) -> None:
        """Start all of them, afresh."""
        for number in list(self.tracker):
            self.tracker.remove(number)
        x, y, w, h = box
        for i in range(self.targets):
            self.tracker.add(frame, (x + w * 0.1 * (i % 3 - 1), y + h * 0.1 * (i // 3 % 3 - 1), w, h))

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Find all; the first one is returned."""
        found, box, _ = next(iter(self.tracker.update(frame).values()))
        return found, box


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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name."""
    with suppress(OSError):  # not on every system, and not to be read in every sandbox
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def frames_of(rounds: int, warmup: int = WARMUP) -> int:
    """Frames of a video that are seen in so many rounds."""
    return (warmup + rounds) * (TURN + 1) + 1


def race(
    contestants: Sequence[Contestant],
    floors: Sequence[Floor],
    frames: Sequence[Image],
    box: Box,
    rounds: int,
    warmup: int = WARMUP,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Time everybody in turns.

    Args:
        contestants: their times are appended.
        floors: the same.
        frames: a decoded video; who reaches its end begins again, untimed.
        box: in the first frame.
        rounds: turns of everybody that are counted.
        warmup: turns before that.
        progress: told the number of rounds done.
    """
    for one in contestants:
        one.tracker.init(frames[0], box)
        one.position = 0
    gc.collect()
    gc.disable()
    try:
        for number in range(warmup + rounds):
            for one in contestants:
                frame, network = _turn(one, frames, box)
                if number >= warmup:
                    one.frame.append(frame)
                    one.network.append(network)
            for floor in floors:
                for engine, run in floor.runs.items():
                    run()
                    begun = time.perf_counter()
                    run()
                    if number >= warmup:
                        floor.times.setdefault(engine, []).append(time.perf_counter() - begun)
            progress(number + 1)
    finally:
        gc.enable()


def _turn(one: Contestant, frames: Sequence[Image], box: Box) -> tuple[list[float], list[float]]:
    frame, network = [], []
    time.sleep(REST)
    for number in range(TURN + 1):
        one.position += 1
        if one.position >= len(frames):
            one.tracker.init(frames[0], box)
            one.position = 1
        before = getattr(one.tracker, "network_seconds", 0.0)
        begun = time.perf_counter()
        one.tracker.update(frames[one.position])
        seconds = time.perf_counter() - begun
        if number:
            frame.append(seconds / one.targets)
            network.append((getattr(one.tracker, "network_seconds", 0.0) - before) / one.targets)
    return frame, network


def ratio(reference: Contestant, one: Contestant) -> float:
    """How many times as fast as the reference: the median over the rounds."""
    return float(np.median([np.mean(r) / np.mean(o) for r, o in zip(reference.frame, one.frame, strict=True)]))


# -- the floor -------------------------------------------------------------------------------------------------------


def floor_of(config: ModelConfig, precision: str, threads: int) -> Floor | None:
    """The products of `counting.cycle` in the engines at hand: PyTorch for every precision, ONNX Runtime for float32.

    "int8" multiplies weights in int8 and the attention in float32, "int8-bf16" the attention in bfloat16.
    """
    work = counting.cycle(config)
    runs: dict[str, Callable[[], object]] = {}
    if importlib.util.find_spec("torch"):
        runs["torch"] = _torch_products(work, precision)
    if precision in ("fp32", "fp16") and importlib.util.find_spec("onnx"):
        runs["onnxruntime"] = _onnx_products(work, threads)
    return Floor(config, precision, runs) if runs else None


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


# -- memory ------------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that this process holds.

    Raises:
        InputError: the system does not say (only Linux does).
    """
    status = Path("/proc/self/statm")
    if not status.exists():
        raise InputError("memory growth can only be measured on Linux: leave --growth out here")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(
    tracker: TrackerLike, frames: Sequence[Image], box: Box, count: int, settle: int = SETTLE
) -> tuple[int, int]:
    """Resident bytes after `settle` frames and after `count` more, in one endless video without a new start.

    The clip is played forwards and backwards, so that it never jumps.
    """
    there_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    tracker.init(frames[0], box)
    for number in range(settle):
        tracker.update(frames[there_and_back[(number + 1) % len(there_and_back)]])
    gc.collect()
    before = resident()
    for number in range(settle, settle + count):
        tracker.update(frames[there_and_back[(number + 1) % len(there_and_back)]])
    gc.collect()
    return before, resident()
