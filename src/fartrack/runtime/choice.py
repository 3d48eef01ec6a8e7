"""What a packaged model runs with when nobody says: the fastest here of what was found to hold its accuracy."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
from functools import cache
from pathlib import Path

from fartrack import models
from fartrack.errors import InputError

OLDEST = {"openvino": (2025, 3)}
"""Versions that engines must have: older ones of OpenVINO cannot read our int8 files, and before 2025 none of them."""


def choose(model: str | os.PathLike[str], runtime: str | None = None) -> tuple[Path, str | None]:
    """The file and the engine of a model.

    A packaged name alone gets the first entry under "fast" in its card that this machine can run (int8 needs VNNI,
    bfloat16 a CPU that is fast in it, OpenVINO must be installed and not too old), else its float file in ONNX Runtime.
    Who names an engine, or a file, gets the float file in it, or that file.

    Args:
        model: "femto", "pico", "nano", "tiny" or the path of a model file.
        runtime: an engine; None leaves the choice.

    Returns:
        The file, and the engine or None for the one that reads the file.

    Raises:
        FileNotFoundError: no such model.
    """
    path = models.find(model)
    if runtime is not None or path == Path(model):
        return path, runtime
    try:
        fast = models.card(path).get("fast") or []
    except InputError:  # of one that is damaged nothing is needed: the float file runs
        fast = []
    for precision, engine in fast:
        file = models.int8_of(path) if precision == "int8" else path
        if file.exists() and runs_here(precision, engine) and not slow_here(engine) and _loads(engine):
            return file, engine
    return path, None


def runs_here(precision: str, engine: str) -> bool:
    """Whether the engine is installed, and the CPU is known to have what it computes with."""
    package = engine.partition("-")[0]
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    # A folder that is only called so, as somebody's of OpenVINO models, has no origin.
    if found is None or found.origin is None or too_old(package) is not None:
        return False
    if precision == "int8" and "vnni" not in features():
        return False
    return not engine.endswith("-bf16") or "_bf16" in features()


def _loads(engine: str) -> bool:
    """Whether the engine can be imported: nobody asked for it, so one that is broken is passed over."""
    try:
        importlib.import_module(engine.partition("-")[0])
    except Exception as error:  # whatever is wrong with it, but for what only came while it was loaded
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise
        return False
    return True


def slow_here(engine: str) -> bool:
    """Whether bfloat16 is slower than float32: Intel without AMX needs 1.6 times as long (docs/speed.md)."""
    return engine.endswith("-bf16") and "GenuineIntel" in features() and "amx_bf16" not in features()


def too_old(package: str) -> str | None:
    """The version of an engine that is installed, where it is older than it must be."""
    if package not in OLDEST:
        return None
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # put there by other means than pip: not known
        return None
    return version if tuple(map(int, version.split(".")[:2])) < OLDEST[package] else None


@cache
def features() -> str:
    """Who made the CPU and what it can do, as Linux lists it for x86; empty where that is not known."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not on every system, and not to be read in every sandbox
        return ""
    found = (next((line.partition(":")[2] for line in lines if line.startswith(k)), "") for k in ("vendor_id", "flags"))
    return " ".join(found)
