"""Opening other people's checkpoints: the authors' trackers, and MAE or timm ViT-Tiny for training's start.

A checkpoint is a pickle, and a pickle can hold code; it is read by PyTorch's restricted reader only
(``weights_only=True``), and none of its code runs. What the released trackers do differently from the paper is written
down in `fartrack.config.RELEASE` and goes into the imported file; nothing else in the package knows of it.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fartrack.config import PRESETS, RELEASE, RELEASE_UNMASKED, ModelConfig
from fartrack.errors import InputError, gist
from fartrack.models import save_weights
from fartrack.network import FARTrack, resized_grids

BLOCKS = 12
"""Layers that the released encoder has under `blocks`, a ViT's; three more follow under `extension`."""

# Our name: theirs, under "backbone." unless it stands alone.
TOP = {
    "identity": "identity",
    "words": "backbone.word_embeddings.weight",
    "word_bias": "backbone.output_bias",
    "pos_template": "backbone.pos_embed_z0",
    "pos_search": "backbone.pos_embed_x",
    "pos_command": "backbone.position_embeddings.weight",
    "patch_embed.weight": "backbone.patch_embed.proj.weight",
    "patch_embed.bias": "backbone.patch_embed.proj.bias",
    "norm.weight": "backbone.norm.weight",
    "norm.bias": "backbone.norm.bias",
}
BLOCK = [f"{part}.{kind}" for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias")]


@dataclass(frozen=True)
class Opened:
    """What a checkpoint gave."""

    weights: dict[str, Tensor]
    """Under the names of `fartrack.network.FARTrack`, float32."""
    config: ModelConfig
    stage: str
    """"sparse" (with the norms of masked training), "unmasked" (frame-level or distilled) or "backbone"."""
    used: int
    """Tensors of the file that went in."""
    unused: tuple[str, ...]
    """The file's other tensors."""
    missing: tuple[str, ...] = ()
    """Our tensors that the file does not have; they keep their initial values (backbones only)."""

    def __str__(self) -> str:
        new = f", {len(self.missing)} of ours not in it ({', '.join(self.missing)})" if self.missing else ""
        return f"{self.stage}, {self.used} tensors used, {len(self.unused)} not needed{new}"


def import_release(checkpoint: Path, model: str, out: Path, keep: float | None = None) -> Opened:
    """Make a model file out of a released checkpoint.

    Args:
        checkpoint: the authors' ``*.pth.tar``.
        model: "tiny", "nano" or "pico"; all three are in every checkpoint, as its first 15, 10 or 6 layers.
        out: the .safetensors file to write, whole or not at all.
        keep: share of a template's tokens that stays; None takes what the checkpoint was trained with.

    Raises:
        FileNotFoundError: no such checkpoint.
        InputError: it is no released checkpoint, or `out` cannot be written.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out} must end in .safetensors: an ONNX file is made from that by `fartrack export`")
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise InputError(f"--out {out} is the checkpoint itself: choose another name")
    opened = open_release(checkpoint, model, keep)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(out, opened.weights, opened.config)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({gist(error)}): choose another --out") from None
    return opened


def open_release(path: Path, model: str = "tiny", keep: float | None = None) -> Opened:
    """Weights and config of a released tracker: frame-level, distilled or sparse.

    Args:
        path: the authors' ``*.pth.tar``.
        model: "tiny", "nano" or "pico".
        keep: share of a template's tokens that stays. None is 0.75 for sparse checkpoints and 1 for the others, which
            never saw a pruned template.

    Raises:
        FileNotFoundError: no such file.
        InputError: the file needs more than tensors, lacks keys, has other shapes, or is no checkpoint.
    """
    if model not in PRESETS:
        raise InputError(f"model {model!r} is unknown: choose one of {', '.join(PRESETS)}")
    state = _state_dict(path, read_pickle(path))
    sparse = any(".masknorm" in k for k in state)
    config = PRESETS[model].replace(**(RELEASE if sparse else RELEASE_UNMASKED))
    if keep is not None:
        config = config.replace(keep=keep)
    names = dict(TOP)
    for i in range(config.depth):
        theirs = f"backbone.blocks.{i}." if i < BLOCKS else f"backbone.extension.{i - BLOCKS}."
        names |= {f"blocks.{i}.{k}": theirs + k for k in BLOCK}
        for n, kind in ((n, kind) for n in (1, 2) for kind in ("weight", "bias")):
            # Masked training has norms of its own; the plain ones are then left over from the stage before.
            names[f"blocks.{i}.norm{n}.{kind}"] = theirs + (f"masknorm{n}.norm.{kind}" if sparse else f"norm{n}.{kind}")
    lacking = [v for v in names.values() if v not in state]
    if lacking:
        raise InputError(f"{path} lacks {_several(lacking)}: it is no released FARTrack that holds a {model}")
    like = {k: v.shape for k, v in FARTrack(config).state_dict().items()}
    weights = {}
    for ours, theirs in names.items():
        shape = tuple(like[ours])
        # Embeddings that are added to a batch carry an axis for it.
        whole = (1, *shape) if ours in ("identity", "pos_template", "pos_search") else shape
        weights[ours] = _tensor(path, theirs, state[theirs], whole).reshape(shape)
    weights["pos_trajectory"] = torch.zeros(like["pos_trajectory"])
    _limit_commands(weights["words"], config)
    return Opened(weights, config, "sparse" if sparse else "unmasked", len(names), _rest(state, names.values()))


def open_backbone(path: Path, config: ModelConfig) -> Opened:
    """What an MAE or timm (also DeiT) ViT-Tiny/16 checkpoint can give a network to be trained.

    Layers beyond the file's are copied from its last ones: three for tiny, as the paper does. Position embeddings are
    resized to the grids. The number of heads cannot be seen in a file, and pixels are always normalised as ImageNet's.

    Args:
        path: a pickle or a .safetensors file.
        config: of the network.

    Raises:
        FileNotFoundError: no such file.
        InputError: the file needs more than tensors, is no such ViT, or has other shapes.
    """
    state = _vit_state(path)
    count = 1 + max((int(m[1]) for k in state if (m := re.match(r"blocks\.(\d+)\.", k))), default=-1)
    if config.depth > 2 * count:
        raise InputError(f"{path} has {count} layers, too few to start a network of {config.depth} from")
    net = FARTrack(config)
    names = {"patch_embed.weight": "patch_embed.proj.weight", "patch_embed.bias": "patch_embed.proj.bias"}
    kinds = [*BLOCK, *(f"norm{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias"))]
    for i in range(config.depth):
        source = i if i < count else i - (config.depth - count)
        names |= {f"blocks.{i}.{k}": f"blocks.{source}.{k}" for k in kinds}
    lacking = [v for v in names.values() if v not in state]
    if lacking:
        raise InputError(f"{path} lacks {_several(lacking)}: it is no plain ViT")
    # LayerScale (ls1.gamma), norms of queries and keys: left out, the layers would not do what they learnt.
    more = [k for k in state if (m := re.match(r"blocks\.\d+\.(.+)", k)) and m[1] not in kinds]
    if more:
        raise InputError(f"{path} has {_several(more)}: it is no plain ViT")
    names |= {k: k for k in ("norm.weight", "norm.bias") if k in state}  # absent where a ViT pools before its norm
    like = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    weights = {ours: _tensor(path, theirs, state[theirs], like[ours]) for ours, theirs in names.items()}
    used = set(names.values())
    if "pos_embed" in state:
        used.add("pos_embed")
        positions = _grid(path, state["pos_embed"], config.width)
        weights |= resized_grids({"pos_template": positions, "pos_search": positions}, config)
    missing = tuple(k for k, v in like.items() if k not in weights and math.prod(v))
    return Opened(weights, config, "backbone", len(used), _rest(state, used), missing)


def read_pickle(path: Path) -> Any:
    """Whatever a PyTorch checkpoint holds, without running any code of it.

    Raises:
        FileNotFoundError: no such file.
        InputError: it is no checkpoint, is cut short, or needs code to be run.
    """
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {path} does not exist: check the path")
    if not path.is_file():
        raise InputError(f"checkpoint {path} is not a file: give a .pth.tar, .pth or .pt file")
    refuse_damaged(path)
    names: list[str] = []
    while True:
        try:
            with _bookkeeping(names), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            needs = re.search(r"GLOBAL (\S+)", str(error))
            if needs and needs[1].startswith("lib.") and needs[1] not in names:
                names.append(needs[1])
                continue
            if needs:
                raise InputError(
                    f"checkpoint {path} needs {needs[1]}, which could run code: it is not opened; "
                    "save its state_dict alone with torch.save, where you trust it"
                ) from None
            raise InputError(f"{path} is not a PyTorch checkpoint: give the file as it was downloaded") from None
        except OSError as error:
            raise InputError(f"checkpoint {path} cannot be read ({error.strerror or gist(error)})") from None
        except Exception as error:  # a broken file fails in many ways, no two releases of PyTorch alike
            raise InputError(f"{path} is not a whole PyTorch checkpoint ({gist(error)}): download it again") from None


def refuse_damaged(path: Path) -> None:
    """Refuse a checkpoint in PyTorch's zip format of which a part is not as it was written: PyTorch does not look.

    Raises:
        InputError: with the part's name.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04" or not zipfile.is_zipfile(file):
                return  # in the old format, or cut short, which PyTorch says
            with zipfile.ZipFile(file) as parts:
                damaged = _damaged(parts)
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read ({error.strerror or gist(error)})") from None
    except Exception as error:  # where the damage is in what it says of its parts
        raise InputError(f"{path} is not a whole PyTorch checkpoint ({gist(error)}): download it again") from None
    if damaged is not None:
        raise InputError(f"{path} is damaged at {damaged}: download it again")


def _damaged(parts: zipfile.ZipFile) -> str | None:
    """The first part that is not as it was written; PyTorch can be told to write sums that fit none of them."""
    bad = []
    for name in parts.namelist():
        try:
            with parts.open(name) as part:
                while part.read(1 << 20):
                    pass
        except zipfile.BadZipFile:
            bad.append(name)
    return bad[0] if bad and len(bad) < len(parts.namelist()) else None


class _Unread:
    """Stands in for a class of the training code that wrote a checkpoint; holds nothing and does nothing."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


@contextlib.contextmanager
def _bookkeeping(names: list[str]) -> Iterator[None]:
    """Let classes of these names be read as nothing.

    Training code of this family pickles its settings and statistics (`lib.train.admin...`) beside the weights. They
    are not wanted, and their classes are never looked up: an empty class of ours stands under each name.
    """
    stand_ins = [(type("_Unread", (_Unread,), {}), name) for name in names]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        yield


def _state_dict(path: Path, content: object) -> dict[str, object]:
    """The network's part of a released checkpoint: under "net", or the file is nothing else."""
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a checkpoint: give the authors' .pth.tar file")
    state = content.get("net", content)
    if not isinstance(state, Mapping):
        raise InputError(f"{path} holds a {type(state).__name__} under 'net', not weights: give the authors' file")
    state = {str(k).removeprefix("module."): v for k, v in state.items()}
    if not any(k.startswith("backbone.") for k in state):
        has = ", ".join(list(state)[:4]) or "nothing"
        raise InputError(f"{path} is no released FARTrack checkpoint: it has no backbone.* weights (it holds {has})")
    return state


def _vit_state(path: Path) -> dict[str, object]:
    """A ViT's tensors, wherever in the file they are and whatever prefix they have."""
    if path.suffix == ".safetensors" and path.is_file():
        try:
            content: Any = load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is not a whole safetensors file ({gist(error)}): download it again") from None
    else:
        content = read_pickle(path)
    end = "patch_embed.proj.weight"
    for state in [content, *(content.values() if isinstance(content, Mapping) else [])]:
        if not isinstance(state, Mapping):
            continue
        prefix = next((str(k).removesuffix(end) for k in state if str(k).endswith(end)), None)
        if prefix is not None:
            found = {str(k).removeprefix(prefix): v for k, v in state.items() if str(k).startswith(prefix)}
            if any(k.startswith("extension.") for k in found):
                raise InputError(f"{path} is a released tracker, not a backbone: use `fartrack import`")
            return found
    raise InputError(f"{path} is no ViT checkpoint: no {end} in it; give an MAE or timm ViT-Tiny/16")


def _tensor(path: Path, name: str, value: object, shape: tuple[int, ...]) -> Tensor:
    """A weight as float32, or what is wrong with it."""
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point or value.layout != torch.strided:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{path}: {name} is {kind}, not weights in floating point")
    if value.is_meta:
        raise InputError(f"{path}: {name} has a shape and no values (device meta): save the weights themselves")
    if value.is_nested:
        raise InputError(f"{path}: {name} holds tensors of several shapes, this model's has {shape}")
    if tuple(value.shape) != shape:
        raise InputError(f"{path}: {name} has shape {tuple(value.shape)}, this model's is {shape}")
    value = value.detach().float().clone()
    if not torch.isfinite(value).all():
        raise InputError(f"{path}: {name} has values that are not finite")
    return value


def _limit_commands(words: Tensor, config: ModelConfig) -> None:
    """The released embedding shortens the rows that it looks up to length 1, in place, so also as output weights."""
    rows = words[config.coordinate_words : config.padding_word]
    length = rows.norm(dim=1, keepdim=True)
    rows *= torch.where(length > 1, 1 / (length + 1e-7), 1.0)


def _grid(path: Path, value: object, width: int) -> Tensor:
    """(side^2, width) position embeddings without the class token's (and DeiT's second one)."""
    count = value.shape[1] if isinstance(value, Tensor) and value.ndim == 3 else 0
    side = math.isqrt(count)
    positions = _tensor(path, "pos_embed", value, (1, count, width))
    if side < 2:
        raise InputError(f"{path}: pos_embed has {count} positions, no grid of a picture's patches")
    return positions[0, count - side * side :]


def _rest(state: Mapping[str, object], used: Any) -> tuple[str, ...]:
    used = set(used)
    return tuple(k for k in state if k not in used)


def _several(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more keys"
