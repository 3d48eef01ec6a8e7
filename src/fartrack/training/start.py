"""Weights to start a stage from, whatever file they are in."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.files import suffix_of
from fartrack.models import load_weights
from fartrack.network import resized_grids
from fartrack.release import open_backbone
from fartrack.training import checkpoint

log = logging.getLogger(__name__)

SILENT = re.compile(r"\.(attn\.proj|mlp\.fc2)\.")
"""What a layer adds to its input goes through these: where they are zero it does nothing."""
WORDS = ("bins", "low", "high")
"""What a word stands for: of another range there may be as many."""
SCORE = ("score_bias", "score_slope", "score_shape", "lost_below")
"""Fields of a config that say what a network's certainty is worth: they go with its weights."""
ALIKE = ("width", "heads", "mlp_ratio", "patch", *WORDS)
"""Fields of a config without which weights are of no use: no stage makes one value of them into another."""


def read_start(path: Path, config: ModelConfig, above: Path | None = None) -> dict[str, Tensor]:
    """As `open_start`, the weights alone."""
    return open_start(path, config, above)[0]


def open_start(
    path: Path, config: ModelConfig, above: Path | None = None, on_purpose: bool = False
) -> tuple[dict[str, Tensor], ModelConfig | None]:
    """Weights for a network of `config`, and the config of the tracker whose box it reads at first, None for a ViT.

    Args:
        path: a checkpoint of a run (its averaged weights are taken), a model file, or a timm or MAE ViT-Tiny.
        config: of the network to be. Deeper than the file: its last layers are copied for a ViT; behind a tracker's
            new layers are put that at first change nothing. Shallower: the first layers are taken, with a warning. All
            else in which a tracker differs is named in another.
        above: another such file, whose layers are put behind a shallower `path`'s instead of new ones.
        on_purpose: it is meant to differ in that all else, and nothing is said.

    Raises:
        FileNotFoundError: no such file.
        InputError: a file is none of these, or of a network that is not as wide, say; the difference is named.
    """
    weights, own = _read(path, config, "--init")
    _refuse_other(own, config, f"--init {path}")
    if not on_purpose:
        _say_other(own, config, path)
    result, have = fit(weights, config), depth_of(weights)
    read = own
    if own is not None and have > config.depth:
        log.warning(
            "--init %s: takes the first %d of its %d layers: give --model.depth %d for all",
            path, config.depth, have, have,
        )  # fmt: skip
    if above is not None:
        if own is None:
            raise InputError(f"--init {path} is a ViT, which fills all layers: leave out --above, which stands on top")
        top, theirs = _read(above, config, "--above")
        read = theirs
        _refuse_other(theirs, config, f"--above {above}")
        if depth_of(top) < config.depth:
            raise InputError(
                f"--above {above} has {depth_of(top)} layers and the network {config.depth}: give one as deep"
            )
        below = cut(top, have)
        result |= {k: v for k, v in cut(top, config.depth).items() if k not in below}
    return result, read


def with_score(config: ModelConfig, told: Mapping[str, Any]) -> ModelConfig:
    """A config with what makes the score of another one's fields, but where it says something of its own."""
    plain = ModelConfig()
    kept = {name: told[name] for name in SCORE if name in told and getattr(config, name) == getattr(plain, name)}
    return config.replace(**kept)


def read_same(path: Path, config: ModelConfig, like: Mapping[str, Tensor], option: str) -> dict[str, Tensor]:
    """Weights of another training of the same network; its crops may be of other sizes, and it may be deeper.

    A shallower one has layers of `like` on top that do nothing, as they did when they were put there.

    Args:
        path: as for `read_start`.
        config: of the network.
        like: the network's own weights.
        option: that named the file, for messages.

    Raises:
        FileNotFoundError: no such file.
        InputError: it is of another network.
    """
    weights, own = _read(path, config, option)
    for name in ("heads", "attention", *WORDS):  # no shape tells of them
        if own is not None and (theirs := getattr(own, name)) != (ours := getattr(config, name)):
            raise InputError(f"{option} {path} has {name} {theirs}, not {ours}: give weights of the same network")
    have = depth_of(weights)
    weights = fit(weights, config)
    grown = {k: v for k, v in like.items() if k not in cut(like, have)}
    weights |= {k: v * 0 if SILENT.search(k) else v for k, v in grown.items()}
    wrong = next((k for k, v in like.items() if k not in weights or weights[k].shape != v.shape), None)
    if wrong is not None:
        raise InputError(f"{option} {path} does not fit in {wrong}: give weights of the same network")
    return weights


def read_trained(path: Path) -> tuple[dict[str, Tensor], ModelConfig, dict[str, Any]]:
    """Averaged weights, config and state of a checkpoint; layers that `removal` fades out are left out."""
    tensors, state = checkpoint.load(path)
    weights, config = checkpoint.part(tensors, "average."), ModelConfig.from_json(json.dumps(state["model"]), path)
    if state.get("stage") == "removal":
        gone = tuple(state["train"]["remove"])
        weights, config = without(weights, gone), config.replace(depth=config.depth - len(gone))
        exits = [e - sum(layer < e for layer in gone) for e in state["train"].get("exits", [])]
        state = {**state, "train": {**state["train"], "exits": exits}}
    return weights, config, state


def _refuse_other(own: ModelConfig | None, config: ModelConfig, what: str) -> None:
    """Refuse a tracker's weights that fit by half, or whose words mean other places."""
    other = [name for name in ALIKE if own is not None and getattr(own, name) != getattr(config, name)]
    if other:
        differs = "; ".join(f"{name}: {getattr(own, name)} there, {getattr(config, name)} here" for name in other)
        give = " ".join(_option(name, getattr(own, name)) for name in other)
        raise InputError(f"{what} is of another network ({differs}): give {give}")


def _say_other(own: ModelConfig | None, config: ModelConfig, path: Path) -> None:
    """Warn of all in which a network is not what the tracker was that it begins from: nothing of that comes along."""
    if own is None:
        return
    told = ("name", "depth", *SCORE)
    other = [name for name, mine in asdict(config).items() if name not in told and getattr(own, name) != mine]
    if not other:
        return
    differs = "; ".join(f"{name}: {getattr(own, name)} there, {getattr(config, name)} here" for name in other)
    give = " ".join(_option(name, getattr(own, name)) for name in other)
    log.warning("--init %s is of another network or tracker (%s): give %s to keep it as it was", path, differs, give)


def _option(name: str, value: object) -> str:
    """What gives a field of the config a value."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--model.{name}" if value else f"--model.no-{name}"
    return f"--model.{name} {value}"


def _read(path: Path, config: ModelConfig, option: str) -> tuple[dict[str, Tensor], ModelConfig | None]:
    """What a file that an option names holds, in its own depth where it is a tracker's, with that one's config."""
    if not path.exists():
        raise FileNotFoundError(f"{option} {path} does not exist: check the path")
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder: give the file in it, last.safetensors say")
    suffix = suffix_of(path)
    about = _about(path, option) if suffix == ".safetensors" else {}
    if "state" in about:
        weights, own, _ = read_trained(path)
    elif "fartrack" in about or suffix in (".onnx", ".xml"):
        weights, own = load_weights(path)
    else:
        opened = open_backbone(path, config)
        log.warning("%s %s: %s", option, path, opened)  # keys used, not needed and missing
        return opened.weights, None
    return _one_identity(weights) if own.attention == "oneway" else weights, own


def _about(path: Path, option: str) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{option} {path} is not a whole safetensors file ({error}): copy it again") from None


def _one_identity(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """One-way templates share the first slot's identity; the others', never learned, become like it."""
    identity = weights["identity"]
    return weights | {"identity": torch.cat([identity[:1].expand(len(identity) - 1, -1), identity[-1:]])}


def depth_of(weights: Mapping[str, Tensor]) -> int:
    """Layers that weights have."""
    return 1 + max((int(m[1]) for name in weights if (m := re.match(r"blocks\.(\d+)\.", name))), default=-1)


def fit(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Weights of a tracker cut or grown to another depth, other sizes of crops and another number of templates.

    New slots are like those that lie as far back, from the first to the newest. New layers are copies of the last one
    whose output projections are zero: the network stays what it was.
    """
    have = depth_of(weights)
    if have == 0:
        raise InputError("--init holds no encoder layers: give a checkpoint, a model file or a ViT-Tiny")
    result = resized_grids(cut(weights, config.depth), config)
    if "identity" in result:
        # From the newest back, so that a single slot is the newest's.
        slots = torch.linspace(len(result["identity"]) - 2, 0, config.templates).round().int().flip(0)
        result["identity"] = result["identity"][[*slots.tolist(), -1]]
    for layer in range(have, config.depth):
        for name, value in weights.items():
            if name.startswith(f"blocks.{have - 1}."):
                own = name.removeprefix(f"blocks.{have - 1}.")
                result[f"blocks.{layer}.{own}"] = value * 0 if SILENT.search(name) else value.clone()
    return result


def cut(weights: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The first layers, and everything that is not a layer."""
    layer = re.compile(r"blocks\.(\d+)\.")
    return {name: value for name, value in weights.items() if not (m := layer.match(name)) or int(m[1]) < depth}


def without(weights: Mapping[str, Tensor], layers: tuple[int, ...]) -> dict[str, Tensor]:
    """Take layers (0-based) out and number the others anew."""
    stay = [i for i in range(depth_of(weights)) if i not in layers]
    result = {name: value for name, value in weights.items() if not name.startswith("blocks.")}
    for new, old in enumerate(stay):
        start = f"blocks.{old}."
        result |= {f"blocks.{new}.{k.removeprefix(start)}": v for k, v in weights.items() if k.startswith(start)}
    return result
