"""Training state on disk: safetensors for tensors, JSON for the rest; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from fartrack.errors import InputError
from fartrack.files import suffix_of, write_whole


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able state into one file; an older file stays until the new one is whole.

    Raises:
        InputError: the folder cannot be written or the disk is full; the older file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        write_whole(path, serialise(whole, {"state": json.dumps(state)}))
    except OSError as error:
        why = error.strerror or error  # without the path, which is there already
        raise InputError(f"{path} cannot be written ({why}): free some space or choose another folder") from None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: no such file.
        InputError: the file is no checkpoint of ours, or is cut short.
    """
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {path} does not exist: check the path")
    if path.is_dir():
        raise InputError(f"checkpoint {path} is a folder: give the file in it, last.safetensors say")
    if suffix_of(path) in (".onnx", ".xml"):
        raise _model_file(path)
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            if "fartrack" in said:
                raise _model_file(path)
            state = json.loads(said["state"])
            return {k: file.get_tensor(k) for k in file.keys()}, state  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a whole fartrack checkpoint ({error}): copy it again") from None


def _model_file(path: Path) -> InputError:
    return InputError(f"{path} is a model file, not a checkpoint: give a run's last.safetensors")


def compact(path: Path, out: Path) -> None:
    """Copy a checkpoint in half precision: weights in float16, what optimisers remember in bfloat16.

    A run goes on from it nearly as from the whole one, in its own precision; it is what is worth keeping in git.

    Raises:
        FileNotFoundError: no such file.
        InputError: it is no checkpoint of ours, or `out` cannot be written.
    """
    tensors, state = load(path)
    small = {
        k: v.to(torch.bfloat16 if k.startswith("optim.") else torch.float16)
        if v.is_floating_point() and v.numel() > 1
        else v
        for k, v in tensors.items()
    }
    save(out, small, state)


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
