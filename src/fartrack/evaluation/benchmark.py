"""Speed, measured so that it can be believed.

What is timed is `update(frame)`: a decoded frame in, a box out; and inside of it the call of the network. Everything
runs in one process, in turns of a few consecutive frames, so that a machine that gets busy slows all alike; the first
frame of a turn is not counted, because another's threads and caches are still there. A turn's time is the mean of its
frames, because not every frame has a new template; its ratios to others' are taken round by round, and medians given.
"""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fartrack import models
from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.evaluation import counting
from fartrack.evaluation.contestants import Contestant
from fartrack.evaluation.floor import Floor, floor_of
from fartrack.evaluation.peers import TrackerLike
from fartrack.geometry import Box

TURN = 10
"""Frames a contestant runs in a row, one of which brings the packaged models a new template (all do where they are
unsure); one more comes first and is not counted."""
WARMUP = 2
"""Turns of everybody before those that are counted."""
SETTLE = 500
"""Frames after which memory is first looked at: until then buffers and the template memory fill up."""
REST = 0.03
"""Seconds before a turn, in which the threads of the one before stop waiting for work on the cores."""


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


def versions() -> dict[str, str]:
    """Of the packages that decide speed, of those that are installed."""
    found = {}
    for package in ("numpy", "onnxruntime", "openvino", "torch", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def floors_of(contestants: Sequence[Contestant], threads: int) -> list[Floor]:
    """A floor for each network and arithmetic of ours, where there is an engine for it."""
    wanted = {(c.config, c.arithmetic) for c in contestants if c.config is not None and not c.dense}
    floors = (floor_of(config, precision, threads) for config, precision in sorted(wanted, key=str))
    return [floor for floor in floors if floor is not None]


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


def row_of(
    one: Contestant, all_: Sequence[Contestant], floors: Sequence[Floor], scores: dict[str, float]
) -> dict[str, Any]:
    """What the table, the plot and benchmark.json say of one of them, in milliseconds; `scores` are accuracies."""
    frames, networks = (1e3 * np.array(turns) for turns in (one.frame, one.network))
    frame, network = frames.mean(1), networks.mean(1)
    row: dict[str, Any] = {
        "name": one.name.strip(),
        "runtime": one.runtime,
        "precision": one.precision,
        "frame_median": float(np.median(frame)),
        "frame_p95": float(np.quantile(frames, 0.95)),
        "fps": float(1e3 / np.median(frame)),
    }
    if one.config is not None:
        row |= {
            "network_median": float(np.median(network)),
            "network_p95": float(np.quantile(networks, 0.95)),
            "around": float(np.median((frame - network) / frame)),
            "layers": one.config.depth,
            "parameters": counting.parameters(one.config),
            "macs": counting.macs(one.work) / one.cycle,
        }
        same = [c for c in all_ if c.dense and c.config is not None and c.config.depth == one.config.depth]
        if same:
            row["times_released"] = ratio(same[0], one)
        floor = next((f for f in floors if (f.config, f.precision) == (one.config, one.arithmetic)), None)
        if floor is not None and not one.dense:
            row["floor"] = 1e3 * floor.seconds()
            row["over_floor"] = row["network_median"] / row["floor"]
    score = scores.get(one.name.strip(), scores.get(one.name.split()[0]))
    if one.targets > 1:
        row["targets"] = one.targets
        kind = (one.file, one.runtime, one.precision)
        alone = next((c for c in all_ if c.targets == 1 and (c.file, c.runtime, c.precision) == kind), None)
        if alone is not None:  # what each but the first costs, of what a tracker of its own costs
            share = 1 / ratio(alone, one)
            row["extra_target"] = (one.targets * share - 1) / (one.targets - 1)
    elif score is None and one.file in models.packaged():
        dev = (models.card(one.file).get("scores") or {}).get("dev") or {}
        score = dev.get("ao")
    if score is not None:
        row["score"] = float(score)
    return row


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
