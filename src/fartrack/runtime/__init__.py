"""Engines that run a model file. One file per engine; all answer the same call."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fartrack.config import ModelConfig
from fartrack.engines import ENGINES
from fartrack.errors import InputError, gist
from fartrack.files import suffix_of
from fartrack.models import check_model_file
from fartrack.runtime.choice import OLDEST, too_old
from fartrack.shortage import ADVICE, is_shortage

# OpenVINO and PyTorch need it, and once the main thread has ended Python refuses to load it.
with contextlib.suppress(RuntimeError):
    import concurrent.futures.thread  # noqa: F401

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Output(NamedTuple):
    """What the network says about a batch of B targets."""

    box: Floats
    """(B, 4) x0, y0, x1, y1 in units of the search crop's side."""
    logits: Floats
    """(B, 4, words)."""
    saliency: Floats
    """(B, template tokens) of the newest template; (B, 0) where none was new."""
    tokens: Floats
    """(B, template tokens, M), or (B, 0, M), what the memory stores of it, M is `config.memory_width`: its embedding
    without the slot's identity, or with one-way attention the keys and values of all layers."""


class Runtime(Protocol):
    """A loaded model."""

    config: ModelConfig
    precision: str
    """What it computes with: "fp32", "fp16" (stored in half; a GPU computes in it too), "bf16", "int8", "int8-bf16"."""

    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """Run one frame.

        Args:
            search: (B, S, S, 3) uint8 RGB.
            template: (B, s, s, 3) uint8 RGB, the newest template; where none is new and attention is one-way,
                (B, 0, s, 3).
            memory: (B, slots - 1, n, M) what was stored of the older templates, oldest first; of all of them,
                (B, slots, n, M), where none is new.
            trajectory: (B, 4 * past boxes) words, for models that read them.
        """
        ...


def open_runtime(path: Path, runtime: str | None = None, threads: int | None = None) -> Runtime:
    """Load a model file into an engine.

    Args:
        path: an ONNX file, safetensors (torch and cuda only) or OpenVINO's .xml (openvino only).
        runtime: "onnxruntime", "openvino", "openvino-bf16", "opencv", "torch" or "cuda"; None is what reads the
            file (onnxruntime for ONNX).
        threads: CPU threads, at most one for each of the machine's; None leaves the choice to the engine.

    Raises:
        FileNotFoundError: no such file.
        InputError: unknown or missing engine, or a file that is not one of our models.
    """
    if runtime is None:
        runtime = {".safetensors": "torch", ".xml": "openvino"}.get(suffix_of(path), "onnxruntime")
    if not isinstance(runtime, str) or runtime not in ENGINES:
        raise InputError(f"runtime {runtime!r} is unknown: choose one of {', '.join(ENGINES)}")
    if threads is not None and (not isinstance(threads, int | np.integer) or threads < 1):
        raise InputError(f"threads is {threads!r}: give a whole number, 1 or more")
    if threads is not None:  # more would only wait for each other, and hundreds bring a machine to a halt
        threads = min(int(threads), os.cpu_count() or int(threads))
    module, name, package, install = ENGINES[runtime]
    if importlib.util.find_spec(package) is None:
        raise InputError(f"runtime {runtime} is not installed: {install}")
    refuse_too_old(runtime)
    if not path.exists():
        raise FileNotFoundError(f"model file {path} does not exist: check the path, or see `fartrack models`")
    check_model_file(path)
    refuse_forked(package)
    if suffix_of(path) == ".safetensors" and runtime not in ("torch", "cuda"):
        raise InputError(f"{path} runs with --runtime torch; for {runtime} make an ONNX file: fartrack export {path}")
    if suffix_of(path) == ".xml" and runtime in ("onnxruntime", "opencv"):
        raise InputError(f"{path} is in OpenVINO's format and runs with --runtime openvino; give the .onnx file")
    try:
        engine = getattr(importlib.import_module(module), name)
    except ImportError as error:  # installed, but not whole or of a version that does not fit
        told = gist(error)
        if is_shortage(error):
            raise InputError(f"not enough memory for runtime {runtime} ({told}): {ADVICE}") from None
        raise InputError(f"runtime {runtime} cannot be loaded ({told}): {install}") from None
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise
        raise InputError(
            f"runtime {runtime} cannot be loaded in a thread once the main thread has ended: import fartrack and make "
            "the tracker before that"
        ) from None
    return engine(path, threads)


def checked(path: Path, output: Output) -> Output:
    """What an engine answered.

    Raises:
        InputError: logits that are not finite: the file is damaged, and the box is anywhere.
    """
    if not np.isfinite(output.logits).all():
        raise InputError(f"{path} gives scores that are not finite: its weights are damaged; export or copy it again")
    return output


def refuse_too_old(runtime: str) -> None:
    """Complain about an installed engine that is older than it must be.

    Raises:
        InputError: with both versions.
    """
    _, _, package, install = ENGINES[runtime]
    if version := too_old(package):
        oldest = ".".join(map(str, OLDEST[package]))
        raise InputError(f"runtime {runtime} needs {package} {oldest} or newer, here is {version}: {install} --upgrade")


_HOMES: dict[str, int] = {}
"""The process in which an engine has threads."""


def note_threads(package: str) -> None:
    """Remember that an engine has threads here: a process that is forked from this one gets none of them."""
    _HOMES.setdefault(package, os.getpid())


def refuse_forked(package: str) -> None:
    """Complain about an engine whose threads stayed behind in the process that this one was forked from.

    Raises:
        InputError: instead of a wait for them without an end.
    """
    if _HOMES.get(package, os.getpid()) != os.getpid():
        raise InputError(
            f"{package} has run in the process that this one was forked from, and would hang here: start processes "
            'with multiprocessing.get_context("spawn"), or make both trackers with runtime="onnxruntime"'
        )


def embed(runtime: Runtime, template: Bytes) -> Floats:
    """(B, s, s, 3) -> (B, template tokens, M): a first template's tokens, by a call whose box is thrown away.

    The call has the shapes of the first frame, so it also warms the engine up.
    """
    c = runtime.config
    b = len(template)
    search = np.zeros((b, c.search_size, c.search_size, 3), np.uint8)
    memory = np.zeros((b, c.templates - 1, c.template_tokens, c.memory_width), np.float32)
    words = np.full((b, c.trajectory_tokens), c.padding_word, np.int64) if c.trajectory else None
    return runtime(search, template, memory, words).tokens
