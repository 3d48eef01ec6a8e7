"""One frame of tracking as an ONNX graph, written node by node.

It computes what `fartrack.step.TrackStep` computes (a test compares them), laid out so that an engine has less to do:

- normalisation sits in the patch embedding's weights, so pixels go in as bytes and both crops share one product;
- the last layer computes only what is read: queries of the commands and of the rows whose attention makes saliency,
  the MLP of four tokens, and no keys or values: they are folded into those few rows;
- with one-way attention the older templates are not tokens but keys and values, computed when they were the newest,
  and in a frame without a new one, whose picture has no rows, none is computed at all;
- saliency multiplies a block-diagonal query with the keys as they lie, and takes one softmax for all layers;
- attention goes head by head, so that each product is shared by all cores: as one product of three heads, two cores
  would work on two and then one (OpenVINO, which fuses attention, is given it whole: see its runtime);
- patches are gathered as rows of pixels, queries, keys and values are products of their own: nothing is copied twice;
- only operators of the ONNX standard in shapes that engines fuse (GELU with its bias, layer norm, attention).

Float weights lie in the file under the network's own names (`net.blocks.0.mlp.fc1.weight.T` is transposed, `.half` is
float16) and what derives from them is computed by nodes that an engine folds when it loads the file: so the network can
be read back, and half-precision weights are rounded once. Needs onnx and NumPy, not torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fartrack import __version__
from fartrack.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from fartrack.errors import InputError

Array = npt.NDArray[np.float32]
Value = tuple[str, int, list[str | int | None]]
"""Name, type and shape of an input or output."""
MEAN, STD = (255 * np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
OPSET, IR = 17, 8
LAST = np.iinfo(np.int64).max
SMALL = 1024
"""Arrays of fewer numbers stay float32 in a half-precision file."""
LEVELS = 127
"""Of int8 weights, to either side of zero."""
GREY = 118
"""About what pixels are on average: what int8 takes them from, so that rounded weights matter least."""

LABELS = {
    "search": "(batch, S, S, 3) uint8 RGB: the search crop, a square of factor * sqrt(w * h) around the last box",
    "template": "(batch, s, s, 3) uint8 RGB: the newest template, cut from the previous frame around its box",
    "memory": "(batch, slots - 1, kept, M) float32: what `tokens` said of the older templates, oldest first",
    "trajectory": "(batch, 4 * past boxes) int64: past boxes as words, oldest first",
    "box": "(batch, 4) float32: x0, y0, x1, y1 in units of the search crop's side",
    "logits": "(batch, 4, words) float32: per coordinate, over the vocabulary",
    "saliency": "(batch, tokens) float32: attention that the newest template's tokens received",
    "tokens": "(batch, tokens, M) float32: the newest template; keep its most salient tokens for `memory`",
}
BETWEEN = {
    "template": "; with one-way attention (batch, 0, s, 3) in a frame without a new one",
    "memory": "; (batch, slots, kept, M) in a frame without a new one",
}
STATIC = (
    "every size is fixed: one target, a new template in every frame, templates pruned. In the given frame run once "
    "with a memory of zeros, then fill each slot with the most salient of its tokens"
)
"""What a file of fixed shapes says of itself under "static"."""


@dataclass(frozen=True)
class Ranges:
    """What int8 needs to know of the activations, per linear layer (`fartrack.quantise` measures it)."""

    bounds: dict[str, tuple[float, float]]
    """Smallest and largest value of the layer's input that is represented."""
    stretch: dict[str, Array]
    """Per input channel: what it is divided by before rounding (and its weights multiplied with)."""


@dataclass
class Sites:
    """Where in a graph the linear layers read: layer name -> tensor name."""

    tensors: dict[str, str] = field(default_factory=dict)


def build(
    weights: Mapping[str, Array],
    config: ModelConfig,
    precision: str = "fp32",
    ranges: Ranges | None = None,
    sites: Sites | None = None,
    *,
    static: bool = False,
) -> onnx.ModelProto:
    """The graph of a network.

    Args:
        weights: the network's state dict as float32 arrays.
        config: of the network.
        precision: "fp32", "fp16" (weights stored in half, arithmetic in float32) or "int8" (needs `ranges`).
        ranges: of the activations, for int8.
        sites: filled with the inputs of the linear layers, for those who measure ranges.
        static: one target, a new template in every frame, pruned templates in the memory, pixels as float32, and
            plainer operators where other runtimes misread ours (`fartrack.static` makes a file of it).
    """
    if precision == "int8" and static:
        raise InputError("a file of fixed sizes takes pixels as float32, and is not made in int8: take fp32 or fp16")
    if precision == "int8" and ranges is None:
        raise InputError("int8 needs the ranges of the activations: measure them with fartrack.quantise.measure")
    return _Builder(weights, config, precision, ranges, sites or Sites(), static).model()


class _Builder:
    """Collects nodes and arrays; every method that computes returns the name of a tensor."""

    def __init__(
        self,
        weights: Mapping[str, Array],
        config: ModelConfig,
        precision: str,
        ranges: Ranges | None,
        sites: Sites,
        static: bool,
    ) -> None:
        self.weights, self.config, self.precision, self.ranges, self.sites = weights, config, precision, ranges, sites
        self.static = static
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, npt.NDArray[np.generic]] = {}
        self.made: dict[str, str] = {}
        self.oneway = config.attention == "oneway"
        self.tail = config.search_tokens + config.trajectory_tokens + 4
        """Tokens after the templates'."""
        # Counted from the end, because the number of kept tokens before them varies.
        self.salient = np.array([row - self.tail for row in config.salient_rows] + [-4, -3, -2, -1])
        """Rows of the tokens that are read in the last layer: some of the search crop's, and the commands'."""
        self.asking = len(config.salient_rows) + (0 if config.saliency == "centre-token" else 4)
        """The first so many of them ask for saliency."""
        self.new = ""
        """How many tokens the new template has, with one-way attention; none where there is no new one."""
        self.asked = ""
        """How many rows ask for saliency, times `new`: none where there is nothing to decide."""
        self.older, self.own = "", list[str]()
        """With one-way attention: keys and values of the older templates, and of the new one layer by layer."""
        self.attentions: list[tuple[tuple[tuple[str, str, str], ...], str]] = []
        """Queries, keys and values of the parts of each attention and its result, for engines that fuse it."""

    # -- writing ------------------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: object, name: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Add a node; inputs are tensor names or arrays. Returns its (first) output's name."""
        taken = [x if isinstance(x, str) else self.constant(np.asarray(x)) for x in inputs]
        base = name or f"{kind}_{len(self.nodes)}"
        names = [base] if outputs == 1 else [f"{base}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, taken, names, name=f"{kind}_{len(self.nodes)}", **attributes))
        return names[0]

    def constant(self, array: npt.NDArray[np.generic], name: str = "") -> str:
        """Add an array (floats as float32)."""
        name = name or f"constant_{len(self.arrays)}"
        self.arrays[name] = np.ascontiguousarray(array.astype(np.float32) if array.dtype == np.float64 else array)
        return name

    def weight(self, name: str, transposed: bool = False) -> str:
        """One of the network's arrays, stored as the precision asks."""
        key = f"net.{name}" + (".T" if transposed else "")
        if key not in self.made:
            array = self.weights[name].T if transposed else self.weights[name]
            if self.precision == "fp32" or array.size < SMALL:
                self.made[key] = self.constant(array, key)
            else:
                half = self.constant(array.astype(np.float16), key + ".half")
                self.made[key] = self.op("Cast", half, name=key, to=TensorProto.FLOAT)
        return self.made[key]

    def cut(self, x: str, axis: int, start: int, stop: int = LAST) -> str:
        """x[start:stop] along an axis."""
        return self.op("Slice", x, *(np.array([v]) for v in (start, stop, axis)))

    def split(self, x: str, parts: int) -> list[str]:
        """Equal parts of the last axis."""
        if parts == 1:
            return [x]
        sizes = f"split.{parts}"  # said, though the standard knows them: pnnx (ncnn) does not
        if sizes not in self.arrays:
            self.constant(np.full(parts, self.config.width // parts), sizes)
        first = self.op("Split", x, sizes, axis=-1, outputs=parts)
        return [f"{first.removesuffix('.0')}.{i}" for i in range(parts)]

    def rows(self, x: str, which: npt.NDArray[np.int64]) -> str:
        """Rows of (B, N, D), counted from the end."""
        if not self.static:
            return self.op("Gather", x, which, axis=1)
        runs = np.split(which, np.flatnonzero(np.diff(which) != 1) + 1)  # pnnx takes one row of a Gather for all
        cuts = [self.cut(x, 1, int(run[0]), int(run[-1]) + 1 or LAST) for run in runs]
        return self.op("Concat", *cuts, axis=1) if len(cuts) > 1 else cuts[0]

    # -- layers -------------------------------------------------------------------------------------------------

    def norm(self, x: str, name: str, eps: float, feeds: str = "") -> str:
        """Layer norm; when it feeds an int8 layer, that layer's stretch is divided out here, for nothing."""
        if self.precision == "int8" and self.ranges and feeds in self.ranges.stretch:
            stretch = self.ranges.stretch[feeds]
            w, b = (self.constant(self.weights[f"{name}.{part}"] / stretch) for part in ("weight", "bias"))
        else:
            w, b = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", x, w, b, axis=-1, epsilon=eps)

    def linear(
        self,
        x: str,
        name: str,
        columns: tuple[int, int] | None = None,
        gain: Array | None = None,
        exact: bool = False,
    ) -> str:
        """x @ W.T + b, of which only some outputs (`columns`), each times its gain; `exact` is float, also in int8."""
        if not exact:
            self.sites.tensors.setdefault(name, x)
        start, stop = columns or (0, len(self.weights[f"{name}.bias"]))
        if not exact and self.precision == "int8" and self.ranges and name in self.ranges.bounds:
            return self._linear_int8(x, name, slice(start, stop), gain)

        def wanted(whole: str, axis: int) -> str:
            some = self.cut(whole, axis, start, stop) if columns else whole
            return some if gain is None else self.op("Mul", some, gain)

        product = self.op("MatMul", x, wanted(self.weight(f"{name}.weight", transposed=True), 1))
        if start and not self.weights[f"{name}.bias"][start:stop].any():  # keys and values, which `export` leaves none
            return product
        return self.op("Add", product, wanted(self.weight(f"{name}.bias"), 0))

    def _linear_int8(self, x: str, name: str, columns: slice, gain: Array | None) -> str:
        assert self.ranges is not None
        w = self.weights[f"{name}.weight"][columns].T
        if name in self.ranges.stretch:
            w = w * self.ranges.stretch[name][:, None]
        bias = self.weights[f"{name}.bias"][columns]
        if gain is not None:
            w, bias = w * gain, bias * gain
        product = self.op("MatMul", self._round(x, *self.ranges.bounds[name]), self._restored(*rounded(w)))
        return self.op("Add", product, bias.astype(np.float32)) if bias.any() else product

    def _round(self, x: str, low: float, high: float) -> str:
        """Round to 256 steps from low to high, zero among them."""
        key = f"{x}.rounded"
        if key not in self.made:
            low, high = min(low, 0.0), max(high, 0.0)
            scale = max(high - low, 1e-8) / 255
            about = np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)
            whole = self.op("QuantizeLinear", x, *about)
            self.made[key] = self.op("DequantizeLinear", whole, *about)
        return self.made[key]

    def _restored(self, whole: npt.NDArray[np.int8], scale: Array) -> str:
        """What was rounded as numbers again, which engines leave as int8 within a product."""
        return self.op("DequantizeLinear", whole, scale, np.zeros(len(scale), np.int8), axis=1)

    def attend(self, *parts: tuple[str, str, str]) -> str:
        """Attention of (B, N, D) queries, scaled already, to keys and values; of several parts, one after the other."""
        rows = []
        for part in parts:
            mixed = []
            for query, key, value in zip(*(self.split(x, self.config.heads) for x in part), strict=True):
                scores = self.op("MatMul", query, self.op("Transpose", key, perm=(0, 2, 1)))
                mixed.append(self.op("MatMul", self.op("Softmax", scores, axis=-1), value))
            rows.append(self.op("Concat", *mixed, axis=2))
        result = self.op("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
        self.attentions.append((parts, result))
        return result

    def attend_last(self, y: str, name: str) -> tuple[str, str]:
        """Attention of the few rows only that are read, of which the last four are the commands.

        Keys and values of N tokens are not needed for it: ``q (y W)^T = (q W^T) y^T`` and ``p (y W) = (p y) W``. The
        bias of the keys adds the same to all scores of a row, so it leaves the softmax as it is.

        Returns:
            Scores that saliency is made of, (B, heads * rows, N), and what the commands take in, (B, 4, D).
        """
        c = self.config
        d, heads, rows, each = c.width, c.heads, len(self.salient), c.width // c.heads
        w, b = self.weight(f"{name}.weight", transposed=True), self.weight(f"{name}.bias")
        keys = self.op("Transpose", self.cut(w, 1, d, 2 * d), perm=(1, 0))
        keys = self.op("Reshape", keys, np.array([heads, each, d]))
        values = self.op("Reshape", self.cut(w, 1, 2 * d, 3 * d), np.array([d, heads, each]))
        values = self.op("Transpose", values, perm=(1, 0, 2))

        gain = np.full(d, each**-0.5, np.float32)
        q = self.linear(self.rows(y, self.salient), name, (0, d), gain, exact=True)
        q = self.op("Transpose", self.op("Reshape", q, np.array([0, rows, heads, each])), perm=(0, 2, 1, 3))
        q = self.op("Reshape", self.op("MatMul", q, keys), np.array([0, heads * rows, d]))
        scores = self.op("MatMul", q, self.op("Transpose", y, perm=(0, 2, 1)))
        scores = self.op("Reshape", scores, np.array([0, heads, rows, -1]))
        asked, commands = (
            self.op("Reshape", self.cut(scores, 2, *part), np.array([0, heads * count, -1]))
            for part, count in (((0, self.asking), self.asking), ((-4,), 4))
        )
        seen = self.op("MatMul", self.op("Softmax", commands, axis=-1), y)
        mixed = self.op("MatMul", self.op("Reshape", seen, np.array([0, heads, 4, d])), values)
        mixed = self.op("Reshape", self.op("Transpose", mixed, perm=(0, 2, 1, 3)), np.array([0, 4, d]))
        if self.weights[f"{name}.bias"][2 * d :].any():
            mixed = self.op("Add", mixed, self.cut(b, 0, 2 * d))
        return asked, mixed

    def scores(self, q: str, k: str) -> str:
        """(B, heads * rows, N) scores of a few rows, without taking the keys apart into heads."""
        c = self.config
        own = np.repeat(np.eye(c.heads, dtype=np.float32), c.width // c.heads, axis=1)[:, None]
        apart = self.op(
            "Reshape", self.op("Mul", self.op("Unsqueeze", q, np.array([1])), own), np.array([0, -1, c.width])
        )
        return self.op("MatMul", apart, self.op("Transpose", k, perm=(0, 2, 1)))

    def gelu(self, x: str) -> str:
        """The exact one, in the form that engines recognise."""
        erf = self.op("Erf", self.op("Div", x, np.array(math.sqrt(2), np.float32)))
        once = self.op("Mul", x, self.op("Add", erf, np.array(1, np.float32)))
        return self.op("Mul", once, np.array(0.5, np.float32))

    # -- the network --------------------------------------------------------------------------------------------

    def patches(self, image: str, grid: int) -> str:
        """(B, S, S, 3) bytes -> (B, grid^2, patch * patch * 3) bytes; of a template without rows (B, 0, ...)."""
        p = self.config.patch
        if image == "template" or self.static:  # too small for what follows to matter, and that wants the height
            x = self.op("Reshape", image, np.array([0, -1, p, grid, 3 * p]))
            x = self.op("Transpose", x, perm=(0, 1, 3, 2, 4))
            return self.op("Reshape", x, np.array([0, -1, 3 * p * p]))
        rows = self.op("Reshape", image, np.array([0, grid * p * grid, 3 * p]))
        order = np.arange(grid * p * grid).reshape(grid, p, grid).transpose(0, 2, 1)  # engines copy whole rows so
        x = self.op("Gather", rows, order.ravel(), axis=1)
        return self.op("Reshape", x, np.array([0, grid * grid, 3 * p * p]))

    def embed(self) -> str:
        """All tokens but the trajectory's; writes the output `tokens` on the way.

        With one-way attention the older templates' are not among them, and all slots share one identity.
        """
        c = self.config
        joint = not self.oneway
        new = self.patches("template", c.template_grid)
        x = self.op("Concat", new, self.patches("search", c.search_grid), axis=1)
        x, bias = (self._embed_int8 if self.precision == "int8" else self._embed_float)(x)

        identity = self.weight("identity")
        newest = self.op("Gather", identity, np.array([c.templates - 1 if joint else 0]), axis=0)
        nobody = self.op("Add", self.weight("pos_template"), bias)
        words = self.cut(self.weight("words"), 0, c.coordinate_words, c.coordinate_words + 4)
        where = self.op("Add", self.op("Gather", identity, np.array([c.templates]), axis=0), bias)
        offsets = self.op(
            "Concat",
            self.op("Add", nobody, newest),
            self.op("Add", self.weight("pos_search"), where),
            self.op("Add", words, self.weight("pos_command")),
            axis=0,
        )
        if not joint:  # without a new template there are fewer, the last ones
            self.new = self.op("Slice", self.op("Shape", new), *(np.array([v]) for v in (1, 2, 0)))
            rest = c.search_tokens + 4
            first = self.op("Sub", np.array([-rest]), self.new)
            offsets = self.op("Slice", offsets, first, np.array([LAST]), np.array([0]))
        # The four rows of padding become the commands, and nothing depends on the size of the batch.
        x = self.op("Add", self.op("Pad", x, np.array([0, 0, 0, 0, 4, 0])), offsets)
        if joint:
            self.op("Sub", self.cut(x, 1, 0, c.template_tokens), newest, name="tokens")
        if c.templates == 1 or not joint:
            return x
        slots = self.op("Unsqueeze", self.cut(identity, 0, 0, c.templates - 1), np.array([1]))
        older = self.op("Reshape", self.op("Add", "memory", slots), np.array([0, -1, c.width]))
        return self.op("Concat", older, x, axis=1)

    def _embed_float(self, pixels: str) -> tuple[str, str]:
        """The product of the patches' pixels with the embedding's weights, which normalise them too, and its bias."""
        grid2 = self.config.patch**2
        w = self.op("Transpose", self.weight("patch_embed.weight"), perm=(2, 3, 1, 0))
        w = self.op("Reshape", w, np.array([3 * grid2, self.config.width]))
        w = self.op("Mul", w, np.tile(1 / STD, grid2)[:, None])
        grey = self.op("MatMul", np.tile(MEAN, grid2)[None], w)
        x = pixels if self.static else self.op("Cast", pixels, to=TensorProto.FLOAT)
        return self.op("MatMul", x, w), self.op("Sub", self.weight("patch_embed.bias"), grey)

    def _embed_int8(self, pixels: str) -> tuple[str, str]:
        """The same where only the weights are rounded: pixels are bytes, and stay what they are."""
        grid2 = self.config.patch**2
        w = self.weights["patch_embed.weight"].transpose(2, 3, 1, 0).reshape(3 * grid2, -1)
        whole, scale = rounded(w / np.tile(STD, grid2)[:, None])
        grey = (np.tile(MEAN, grid2) - GREY) @ (whole * scale)
        x = self.op("DequantizeLinear", pixels, np.array(1, np.float32), np.array(GREY, np.uint8))
        product = self.op("MatMul", x, self._restored(whole, scale))
        return product, self.constant(self.weights["patch_embed.bias"] - grey.astype(np.float32))

    def with_trajectory(self, x: str) -> str:
        """Put the words of past boxes before the commands."""
        if not self.config.trajectory:
            return x
        past = self.op(
            "Add", self.op("Gather", self.weight("words"), "trajectory", axis=0), self.weight("pos_trajectory")
        )
        return self.op("Concat", self.cut(x, 1, 0, -4), past, self.cut(x, 1, -4), axis=1)

    def model(self) -> onnx.ModelProto:
        """Put it together."""
        c = self.config
        x = self.with_trajectory(self.embed())
        if self.oneway:
            self.older = self.op("Reshape", "memory", np.array([0, -1, c.memory_width]))
            self.asked = self.op("Mul", self.new, np.array([self.asking]))
        asked = []
        for layer in range(c.depth):
            name, last = f"blocks.{layer}", layer == c.depth - 1
            folded = last and not self.oneway  # then no token's keys and values are needed
            y = self.norm(x, f"{name}.norm1", c.block_eps, feeds="" if folded else f"{name}.attn.qkv")
            if last:
                x = self.cut(x, 1, -4)
            scores, mixed = self.attend_last(y, f"{name}.attn.qkv") if folded else self.attention(y, layer)
            asked.append(scores)
            x = self.op("Add", x, self.linear(mixed, f"{name}.attn.proj"))
            y = self.norm(x, f"{name}.norm2", c.block_eps, feeds=f"{name}.mlp.fc1")
            y = self.gelu(self.linear(y, f"{name}.mlp.fc1"))
            x = self.op("Add", x, self.linear(y, f"{name}.mlp.fc2"))
        if self.oneway:
            self.op("Concat", *self.own, axis=2, name="tokens")
        self.read(x)
        self.saliency(asked)
        return self._wrap()

    def attention(self, y: str, layer: int) -> tuple[str, str]:
        """What the tokens `y`, (B, N, D), or in the last layer the commands alone, take in from all.

        Returns:
            Scores that saliency is made of, (B, heads * rows, keys), and what is taken in, (B, N or 4, D).
        """
        name, d = f"blocks.{layer}.attn.qkv", self.config.width
        scale = np.full(d, (d // self.config.heads) ** -0.5, np.float32)
        k, v = (self.linear(y, name, (i * d, i * d + d)) for i in (1, 2))
        last = layer == self.config.depth - 1
        if last:
            rows = self.linear(self.rows(y, self.salient), name, (0, d), scale)
            q, asking = self.cut(rows, 1, -4), self.cut(rows, 1, 0, self.asking)
        else:
            q = self.linear(y, name, (0, d), scale)
            asking = self.rows(q, self.salient[: self.asking])
        if not self.oneway:
            return self.scores(asking, k), self.attend((q, k, v))

        own = [self.cut(t, 1, 0, -self.tail) for t in (k, v)]
        self.own += own
        if self.older:
            kept = [self.cut(self.older, 2, (2 * layer + i) * d, (2 * layer + i + 1) * d) for i in range(2)]
            k, v = (self.op("Concat", *pair, axis=1) for pair in zip(kept, (k, v), strict=True))
        asking = self.op("Slice", asking, np.array([0]), self.asked, np.array([1]))
        scores = self.scores(asking, k)
        if last:
            return scores, self.attend((q, k, v))
        alone, rest = self.cut(q, 1, 0, -self.tail), self.cut(q, 1, -self.tail)
        return scores, self.attend((alone, own[0], own[1]), (rest, k, v))

    def saliency(self, asked: list[str]) -> None:
        """Write the output `saliency`: the attention that the newest template's tokens get, of all layers' scores."""
        c = self.config
        weights = self.op("Softmax", self.op("Concat", *asked, axis=1), axis=-1)
        end = -self.tail
        begin = self.op("Sub", np.array([end]), self.new) if self.oneway else np.array([end - c.template_tokens])
        weights = self.op("Slice", weights, begin, np.array([end]), np.array([2]))
        mean = self.op("Mul", weights, np.array(1 / c.heads, np.float32))
        if self.static:  # pnnx loses the axis of a sum
            total = self.op("MatMul", np.ones((1, 1, c.depth * c.heads * self.asking), np.float32), mean)
            self.op("Reshape", total, np.array([1, c.template_tokens]), name="saliency")
        else:
            self.op("ReduceSum", mean, np.array([1]), name="saliency", keepdims=0)

    def read(self, commands: str) -> None:
        """Write the outputs `logits` and `box`, as `fartrack.network.decode` does."""
        c = self.config
        x = self.norm(commands, "norm", c.final_eps)
        table = self.op("Transpose", self.weight("words"), perm=(1, 0))
        self.op("Add", self.op("MatMul", x, table), self.weight("word_bias"), name="logits")
        coordinates = self.cut("logits", 2, 0, c.coordinate_words)
        release = c.decoding == "release"
        # The first of the most likely words; an ArgMax takes OpenVINO longer than three layers' norms.
        words, count = ("logits", c.words) if release else (coordinates, c.coordinate_words)
        likely = self.op("Equal", words, self.op("ReduceMax", words, axes=[2]))
        best = self.op("Where", likely, np.arange(count, dtype=np.float32), np.array(count, np.float32))
        best = self.op("ReduceMin", best, axes=[2], keepdims=0)
        unit = 1 / (c.bins - 1)
        best = self.op("Mul", best, np.array(0.5 * unit, np.float32))
        best = self.op("Add", best, np.array(0.5 * (c.low + (0.5 * unit if release else 0)), np.float32))
        step = 1 / c.bins if release else unit
        grid = 0.5 * (c.low + step * np.arange(c.coordinate_words))
        # Not a product of matrices: those are rounded where an engine computes in bfloat16, by a fifth of a pixel.
        mean = self.op("Mul", self.op("Softmax", coordinates, axis=-1), grid.astype(np.float32))
        self.op("Add", best, self.op("ReduceSum", mean, np.array([2]), keepdims=0), name="box")

    def _wrap(self) -> onnx.ModelProto:
        c = self.config
        byte, real, whole = TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64
        oneway = self.oneway
        new: str | int = "new" if oneway else c.template_tokens
        inputs: list[Value] = [
            ("search", byte, ["batch", c.search_size, c.search_size, 3]),
            ("template", byte, ["batch", "rows" if oneway else c.template_size, c.template_size, 3]),
            ("memory", real, ["batch", "slots" if oneway else c.templates - 1, "kept", c.memory_width]),
        ]
        if c.trajectory:
            inputs.append(("trajectory", whole, ["batch", c.trajectory_tokens]))
        outputs: list[Value] = [
            ("box", real, ["batch", 4]),
            ("logits", real, ["batch", 4, c.words]),
            ("saliency", real, ["batch", new]),
            ("tokens", real, ["batch", new, c.memory_width]),
        ]
        labels = {n: LABELS[n] + BETWEEN.get(n, "") for n, _, _ in inputs + outputs}
        if self.static:
            inputs, outputs, labels = self._fixed(inputs), self._fixed(outputs), {}
            for n, kind, shape in inputs + outputs:
                numbers = "int64" if kind == whole else "float32, 0..255, RGB" if shape[-1] == 3 else "float32"
                labels[n] = f"({', '.join(map(str, shape))}) {numbers}: {LABELS[n].partition(': ')[2]}"
        taken, given = (
            [helper.make_tensor_value_info(n, kind, shape, doc_string=labels[n]) for n, kind, shape in group]
            for group in (inputs, outputs)
        )
        arrays = [numpy_helper.from_array(a, n) for n, a in self.arrays.items()]
        graph = helper.make_graph(self.nodes, f"fartrack-{c.name}", taken, given, arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        model.producer_name, model.producer_version = "fartrack", __version__
        about = {
            "fartrack": c.to_json(),
            "fartrack_version": __version__,
            "variant": c.name,
            "precision": self.precision,
            **({"static": STATIC} if self.static else {"attention": json.dumps(self.attentions)}),
            "inputs": json.dumps({n: labels[n] for n, _, _ in inputs}),
            "outputs": json.dumps({n: labels[n] for n, _, _ in outputs}),
        }
        helper.set_model_props(model, about)
        return model

    def _fixed(self, values: list[Value]) -> list[Value]:
        """With numbers for the sizes that are left open, and float32 for bytes."""
        c = self.config
        sizes = {"batch": 1, "rows": c.template_size, "slots": c.templates - 1, "kept": c.kept_tokens}
        sizes["new"] = c.template_tokens
        byte, real = TensorProto.UINT8, TensorProto.FLOAT
        return [(n, real if kind == byte else kind, [sizes.get(str(d), d) for d in dims]) for n, kind, dims in values]


def rounded(w: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """Weights (in, out) as int8, and the step of each output."""
    scale = weight_scale(w)
    return np.clip(np.rint(w / scale), -LEVELS, LEVELS).astype(np.int8), scale


def weight_scale(w: Array) -> Array:
    """Per output (column) the step that rounds the weights (in, out) with the least squared error."""
    full = np.maximum(np.abs(w).max(0), 1e-8) / LEVELS
    best, least = full, np.full(w.shape[1], np.inf)
    for share in np.linspace(1, 0.7, 13):
        scale = (full * share).astype(np.float32)
        error = np.square(np.clip(np.rint(w / scale), -LEVELS, LEVELS) * scale - w).sum(0)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best.astype(np.float32)
