"""Packaged models and model files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fartrack.config import ModelConfig
from fartrack.errors import INSTALL_TRAIN, InputError
from fartrack.files import suffix_of, write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from fartrack.network import FARTrack

WEIGHTS = Path(__file__).parent / "weights"


def packaged() -> list[Path]:
    """The ONNX files that come with the package, shallowest first."""
    order = {"femto": 0, "pico": 1, "nano": 2, "tiny": 3}
    return sorted(WEIGHTS.glob("*.onnx"), key=lambda p: (order.get(p.stem, 9), p.stem))


def find(model: str | os.PathLike[str]) -> Path:
    """The file of a packaged model's name, or the path itself.

    A packaged name means that model, whatever the working directory holds: a file that is called so is `./pico`, as
    text (a `Path` leaves the dot out), or its absolute path.

    Raises:
        FileNotFoundError: neither.
        InputError: it is no text and no path.
    """
    named = {p.stem: p for p in packaged()}
    choices = f"choose {', '.join(named)} or give" if named else "give"
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"model {model!r} is no name: {choices} the path of a model file")
    name = os.fspath(model)
    if name in named:
        return named[name]
    path = Path(model)
    if name and path.exists():  # an empty name would be the working directory
        return path
    if path.suffix:
        raise FileNotFoundError(f"model file {path} does not exist: check the path, or see `fartrack models`")
    if not named:
        raise FileNotFoundError(
            f"model {name!r} is not in {WEIGHTS}: the package's models cannot be read from an archive; unpack it, or "
            "give a model file"
        )
    raise FileNotFoundError(f"model {name!r} is unknown: {choices} a model file")


def int8_of(path: Path) -> Path:
    """Where the int8 file of a packaged model lies, if it has one."""
    return path.parent / "int8" / path.name


def card(path: Path) -> dict[str, Any]:
    """The model card beside a model file; empty when there is none.

    Raises:
        InputError: it cannot be read, is no JSON, or a part that is read of it is of another kind.
    """
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    try:
        found: object = json.loads(beside.read_text(encoding="utf-8"))
        wrong = _wrong_in_card(found)
    except (OSError, ValueError, RecursionError) as error:
        wrong = getattr(error, "strerror", None) or "JSON"
    if wrong:
        raise InputError(f"{beside}: not a model card ({wrong}); install fartrack again, or make the model again")
    return found  # type: ignore[return-value]  # as was looked at


def _wrong_in_card(found: object) -> str:
    """The part of a card that is of another kind than what reads it expects; none may be there, or be null."""
    if not isinstance(found, dict):
        return "JSON"
    for name, kind in (("parameters", int | float), ("bytes", int | float), ("scores", dict), ("fast", list)):
        if found.get(name) is not None and not isinstance(found[name], kind):
            return name
    dev = (found.get("scores") or {}).get("dev") or {}
    if not isinstance(dev, dict) or not isinstance(dev.get("ao") or 0, int | float):
        return "scores"
    for entry in found.get("fast") or []:
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
            return "fast"
    return ""


def save_weights(path: Path, weights: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Write weights with their config, whole or not at all (needs safetensors)."""
    from safetensors.torch import save

    write_whole(path, save({k: v.contiguous() for k, v in weights.items()}, {"fartrack": config.to_json()}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], ModelConfig]:
    """Weights and config of a safetensors file, in float32 (needs torch).

    Raises:
        FileNotFoundError: no such file.
        InputError: not safetensors, cut short, not ours, or a checkpoint, of which a model file is still to be made;
            or the package that reads it is not installed.
    """
    check_model_file(path)
    if suffix_of(path) == ".xml":
        raise InputError(f"{path} is in OpenVINO's format: give the .onnx or .safetensors file that it was made of")
    try:
        if suffix_of(path) == ".onnx":
            from fartrack.export import weights_of

            return weights_of(path)
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:  # PyTorch came without what else the extra brings
        raise InputError(f"PyTorch needs {error.name} to read {path}: {INSTALL_TRAIN}") from None
    try:
        path.open("rb").close()  # safe_open says of a file that may not be read that there is none
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if "state" in about:
                raise InputError(
                    f"{path} is a training checkpoint: make model files of it with `fartrack train export "
                    f"--checkpoint {path}`"
                )
            if "fartrack" not in about:
                raise InputError(f"{path} holds no fartrack config: make it with `fartrack import` or `fartrack train`")
            return {k: file.get_tensor(k).float() for k in file.keys()}, ModelConfig.from_json(about["fartrack"], path)  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): copy it again") from None
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def check_model_file(path: Path) -> None:
    """Refuse what cannot be a model file, by its kind and name.

    Raises:
        InputError: a folder, or a checkpoint of the paper's authors, of which a model file is still to be made.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"model {path} is not a file: give an .onnx or .safetensors file")
    if suffix_of(path) in (".pth", ".pt", ".tar", ".ckpt"):
        raise InputError(f"{path} is a PyTorch checkpoint: make a model file of it with `fartrack import {path}`")


def load_network(path: Path) -> FARTrack:
    """The network of a model file, ready to run (needs torch).

    Raises:
        InputError: not a model file, or its weights are not finite or not those that its config asks for.
    """
    from fartrack.network import FARTrack

    weights, config = load_weights(path)
    net = FARTrack(config)
    for name, like in net.state_dict().items():
        if name not in weights:
            raise InputError(f"{path} lacks {name}: it is not a whole fartrack model; make it again")
        if weights[name].shape != like.shape:
            there, here = tuple(weights[name].shape), tuple(like.shape)
            raise InputError(f"{path}: {name} has shape {there}, its config asks for {here}; make it again")
        if not weights[name].isfinite().all():
            raise InputError(f"{path}: {name} has values that are not finite: it tracks nothing; make it again")
    net.load_state_dict({k: weights[k] for k in net.state_dict()})
    return net.eval()
