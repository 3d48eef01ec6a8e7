"""How fast the network is on a GPU: one target, and many as one batch.

    python -m fartrack.evaluation.gpu pico nano tiny

The network alone, as a CUDA graph in float16, its inputs on the GPU already; beside it the released layout run eagerly
in float32 (five templates embedded, every token in every layer), and what cannot be beaten: the matrix products at the
card's measured peak, the weights and what is remembered read once, and as many launches that do nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fartrack.errors import InputError, lacks_package

try:
    import torch
except ModuleNotFoundError as error:
    lacks_package(error, __name__, "fartrack.evaluation.gpu")

from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from fartrack.config import PRESETS, ModelConfig
from fartrack.evaluation import counting
from fartrack.evaluation.dense import released
from fartrack.guard import guarded
from fartrack.network import FARTrack
from fartrack.runtime.cuda_ import Recorded, halved
from fartrack.step import TrackStep

BATCHES = (1, 16, 64, 256, 1024)
REPEATS = 30


@dataclass(frozen=True)
class Card:
    """What the GPU reaches."""

    name: str
    flops: float
    """Floating-point operations a second of a large float16 product."""
    bandwidth: float
    """Bytes a second of a large copy, read and written."""


def inputs(config: ModelConfig, batch: int, device: str = "cuda") -> list[Tensor]:
    """Arguments of `TrackStep` in the steady state, in a frame with a new template; of chance's making."""
    c = config
    return [
        torch.randint(256, (batch, c.search_size, c.search_size, 3), dtype=torch.uint8, device=device),
        torch.randint(256, (batch, c.template_size, c.template_size, 3), dtype=torch.uint8, device=device),
        torch.randn(batch, c.templates - 1, c.kept_tokens, c.memory_width, dtype=torch.half, device=device),
    ]


def dense(net: FARTrack) -> Callable[[], Any]:
    """A frame of the released layout, one target."""
    c = net.config
    templates = torch.rand(c.templates, 3, c.template_size, c.template_size, device="cuda") * 255
    search = torch.rand(1, 3, c.search_size, c.search_size, device="cuda") * 255

    def frame() -> Any:
        tokens = net.embed_template(net.normalise(templates))
        slots = [tokens[i : i + 1] + net.slot_identity(i) for i in range(c.templates)]
        return net(slots, net.embed_search(net.normalise(search)), want_saliency=True)

    return frame


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median time of one run, by the GPU's clock."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[len(times) // 2] / 1e3


def measure_card() -> Card:
    """Its two ceilings."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.half)
    big = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(big)
    flops = 2 * 8192**3 / seconds(lambda: a @ a, 10)
    return Card(torch.cuda.get_device_name(), flops, 2 * big.numel() / seconds(lambda: other.copy_(big), 10))


def launches(run: Callable[[], Any]) -> int:
    """Kernels of one run."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    return sum(event.count for event in seen.key_averages() if event.self_device_time_total > 0)


def idle(count: int) -> float:
    """Seconds of so many launches that do nothing to speak of, as a graph."""
    nothing = torch.zeros(1, device="cuda")

    def step(x: Tensor) -> Tensor:
        for _ in range(count):
            x.add_(1)
        return x

    return seconds(Recorded(step, [nothing]).graph.replay)


@torch.inference_mode()
def lines(config: ModelConfig, card: Card, batches: Sequence[int]) -> list[str]:
    """The table's rows of one model."""
    slow = seconds(dense(FARTrack(released(config)).cuda().eval()))
    step = TrackStep(halved(FARTrack(config).cuda())).eval()
    work, rows = 2 * counting.macs(counting.products(config)), []
    for batch in batches:
        given = inputs(config, batch)
        graph = Recorded(step, given)
        took = seconds(graph.graph.replay)
        moved = 2 * counting.parameters(config) + sum(t.numel() * t.element_size() for t in given)
        floor = max(work * batch / card.flops, moved / card.bandwidth)
        least = f"{1e3 * floor:.3f}"
        if batch == 1:
            count = launches(lambda: step(*given))  # noqa: B023 (called at once)
            least += f" ({1e3 * idle(count):.2f} for {count} launches)"
        rows.append(
            f"| {config.name} | {batch} | {1e3 * took:.2f} | {batch / took:,.0f} | {work * batch / took / 1e12:.0f} | "
            f"{least} | {slow * batch / took:.1f} |"
        )
    return rows


def report(names: Sequence[str]) -> int:
    """Print the table of some packaged models; 0, as a program's exit code, where that went well.

    Raises:
        InputError: there is no such model, or no GPU.
    """
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise InputError(f"model {unknown[0]!r} is unknown: choose from {', '.join(PRESETS)}")
    if not torch.cuda.is_available():
        raise InputError("PyTorch sees no GPU here: run it on a machine with one")
    card = measure_card()
    print(f"{card.name}: {card.flops / 1e12:.0f} TFLOP/s in float16, {card.bandwidth / 1e12:.2f} TB/s")
    print("| model | targets | ms | targets a second | TFLOP/s | floor, ms | times the released layout |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        for line in lines(PRESETS[name], card, BATCHES):
            print(line, flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m fartrack.evaluation.gpu MODEL...`."""
    names = list(sys.argv[1:] if arguments is None else arguments) or list(PRESETS)
    return guarded(lambda: report(names))


if __name__ == "__main__":
    sys.exit(main())
