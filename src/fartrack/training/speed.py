"""Where the time of a step goes, and how much of the machine it uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fartrack.config import ModelConfig
from fartrack.evaluation.counting import macs, training_products
from fartrack.training.loop import Trainer
from fartrack.training.sampled import SampleTrainer
from fartrack.training.sequence import TAKEN


def step_flops(config: ModelConfig, templates: int, exits: int) -> float:
    """Floating-point operations of training on one sample: two a MAC, the backward pass twice the forward one."""
    return 6 * macs(training_products(config, templates, exits))


def counted_flops(trainer: Trainer) -> float:
    """Of one step's gradients as they are made: at sequence level frames share templates, others are tracked only."""
    # Fused attention is not counted on every device, nor is what is compiled.
    with (
        torch.compiler.set_stance("force_eager"),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        trainer.gradients(trainer.step)
    for p in trainer.parameters():
        p.grad = None
    return float(counter.get_total_flops())


def peak_flops(device: torch.device, half: bool) -> float:
    """What this machine's matrix product reaches, measured: the honest hundred per cent."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if half else torch.float32)
    return 2 * side**3 / _seconds(lambda: a @ a, device, 10)


def _seconds(function: Callable[[], Any], device: torch.device, times: int, warm: bool = True) -> float:
    if warm:
        function()
    _wait(device)
    begun = time.perf_counter()
    for _ in range(times):
        function()
    _wait(device)
    return (time.perf_counter() - begun) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(trainer: Trainer, steps: int = 10) -> str:
    """Train a few steps and say what they cost, part by part; the trainer is not to be used afterwards."""
    device, t = trainer.device, trainer.train
    for _ in range(3):
        trainer.train_step()
    whole = _seconds(trainer.train_step, device, steps)
    parts: dict[str, float] = {}
    update = "optimiser and average"
    frames = t.batch * max(1, getattr(t, "frames", 2) - 1)
    if isinstance(trainer, SampleTrainer):
        flops = step_flops(trainer.config, trainer.templates, len(trainer.exits)) * frames / trainer.parallel.world
        trainer._maker = None  # one thing after the other, or the parts cannot be told apart
        made = trainer.make(trainer.step)
        parts["making samples"] = _seconds(lambda: trainer.make(trainer.step), device, steps)
        parts["forward and loss"] = _seconds(lambda: trainer.loss(made, trainer.step), device, steps)
        both = _seconds(lambda: trainer.loss(made, trainer.step)[0].backward(), device, steps)
        for p in trainer.parameters():
            p.grad = None
        parts["backward"] = both - parts["forward and loss"]
    else:
        flops = counted_flops(trainer)
        told = [trainer.train_step() for _ in range(steps)]
        for name in TAKEN:
            parts[name] = sum(float(row[f"seconds_{name}"]) for row in told) / steps
        update = f"of {TAKEN[-1]}, each update: {update}"
    spent = 0.0
    for _ in range(steps):
        trainer.gradients(trainer.step)
        spent += _seconds(trainer.update, device, 1, warm=False)
    parts[update] = spent / steps

    peak = peak_flops(device, t.precision == "bfloat16")
    lines = [
        f"{frames / whole:,.0f} frames a second, {1000 * whole:,.1f} ms a step of {frames} frames "
        f"({t.precision}, compile {t.compile})",
        f"{flops / whole / 1e12:.3g} of {peak / 1e12:.3g} TFLOP/s that a matrix product reaches here: "
        f"model FLOP utilisation {100 * flops / whole / peak:.1f} %",
        *(f"  {1000 * value:8.1f} ms  {100 * value / whole:3.0f} %  {name}" for name, value in parts.items()),
    ]
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as seen:
        trainer.train_step()
        _wait(device)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda e: -getattr(e, key))[:12]
    lines.append("operations that take longest, in one step:")
    lines += [f"  {getattr(e, key) / 1e3:8.1f} ms  {e.count:5d} x  {e.key[:80]}" for e in events]
    if device.type == "cuda":
        lines.append(f"memory: {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB at most")
    return "\n".join(lines)
