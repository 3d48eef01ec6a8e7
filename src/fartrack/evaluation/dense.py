"""The layout that was released, as a tracker: what this package's speed is measured against.

Every frame embeds all five templates again and sends all 445 tokens through every layer; pruned tokens are masked, not
removed, and attention is written out because saliency is read from its weights. PyTorch eager, float32. With the same
weights it gives the same boxes as `fartrack.Tracker` (a test compares them): only the time differs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fartrack import crops, geometry, vocabulary
from fartrack.config import RELEASE, ModelConfig
from fartrack.crops import Image
from fartrack.geometry import Box, Window
from fartrack.memory import most_salient, sample_history
from fartrack.network import Block, FARTrack, decode
from fartrack.target import COMPARED


def released(config: ModelConfig) -> ModelConfig:
    """A network of the released layout, as deep: its crops are as large as they were there, whatever ours are."""
    sizes = {name: RELEASE[name] for name in ("template_size", "search_size")}
    return config.replace(attention="joint", trajectory=0, **sizes)


class DenseTracker:
    """`init` and `update` like `fartrack.Tracker`, by the released layout."""

    def __init__(self, net: FARTrack, attention: Literal["explicit", "fused"] = "explicit") -> None:
        """Take a network with joint attention.

        Args:
            net: the network.
            attention: "fused" uses PyTorch's fused kernel, and computes the weights only of the rows that saliency
                reads: kinder to the reference than what was released.
        """
        self.net, self.config, self.fused = net.eval(), net.config, attention == "fused"
        self.network_seconds = 0.0
        self.box: Box = (0.0, 0.0, 0.0, 0.0)
        self._scores = [1.0]
        self._shapes: list[tuple[float, float]] = []
        self._crops: list[Image] = []
        self._visible: list[Tensor] = []

    def init(self, frame: Image, box: Sequence[float]) -> None:
        """Start on a frame, afresh."""
        x, y, w, h = (float(v) for v in box)
        self.box = (x, y, w, h)
        self._crops, self._visible = [self._template(frame, crops.GIVEN)], []
        self._scores, self._shapes = [1.0], [(w, h)]

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Find the target in the next frame."""
        c = self.config
        search, window = self._cut(frame, c.search_factor, c.search_size)
        slots = sample_history(len(self._crops) - 1, c.templates, c.memory)
        whole = torch.ones(c.template_tokens, dtype=torch.bool)
        visible = torch.cat([self._visible[i] if i < len(self._visible) else whole for i in slots])
        begun = time.perf_counter()
        coordinates, saliency, logits = self._network(np.stack([self._crops[i] for i in slots]), search[None], visible)
        self.network_seconds += time.perf_counter() - begun
        height, width = frame.shape[:2]
        margin = min(c.margin, width, height)
        box = geometry.from_window(coordinates, window, self.box if c.decoding == "release" else None)
        change = geometry.change_of_shape(geometry.clip(box, width, height, margin), self._shapes)
        score = float(vocabulary.score(logits, c, change))
        given = score >= c.lost_below or not c.withhold
        if given:
            mask = torch.zeros(c.template_tokens, dtype=torch.bool)
            mask[torch.from_numpy(most_salient(saliency, c.kept_tokens))] = True
            self._visible.append(mask)
        self._scores = [*self._scores, score][-c.patience :]
        box = geometry.towards(self.box, box, vocabulary.share(self._scores, c))
        self.box = geometry.clip(box, width, height, margin)
        self._shapes = [*self._shapes, self.box[2:]][-COMPARED:]
        if given:
            self._crops.append(self._template(frame, crops.OWN))
        return True, self.box

    def _template(self, frame: Image, tint: Sequence[int]) -> Image:
        c = self.config
        crop, window = self._cut(frame, c.template_factor, c.template_size)
        return crops.tint_outside(crop, window, self.box, c.template_tint, tint)

    def _cut(self, frame: Image, factor: float, size: int) -> tuple[Image, Window]:
        window = geometry.window_around(self.box, factor)
        crop = crops.lighten(crops.cut(frame, window, size), self.config.lighten)
        return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB), window  # type: ignore[return-value]

    @torch.inference_mode()
    def _network(self, templates: Image, search: Image, visible: Tensor) -> tuple[list[float], np.ndarray, np.ndarray]:
        net, c = self.net, self.config
        pictures = (torch.from_numpy(p).permute(0, 3, 1, 2) for p in (templates, search))
        embedded, looked = (net.normalise(p) for p in pictures)
        identity = torch.stack([net.slot_identity(i) for i in range(c.templates)])
        tokens = (net.embed_template(embedded) + identity[:, None]).flatten(0, 1)[None]
        x = torch.cat([tokens, net.embed_search(looked), net.command_tokens()[None]], 1)
        n, m = x.shape[1], tokens.shape[1]
        mask = F.pad(visible, (0, n - m), value=True)
        rows = net.saliency_rows(m, n)
        saliency = torch.zeros(n)
        for block in net.blocks:
            assert isinstance(block, Block)
            x, received = self._layer(block, x, mask, rows)
            saliency = saliency + received
        logits = net.read(x[:, -4:])
        newest = saliency[m - c.template_tokens : m]
        return decode(logits, c)[0].tolist(), newest.numpy(), logits[0].numpy()

    def _layer(self, block: Block, x: Tensor, mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        a = block.attn
        b, n, d = x.shape
        split = a.qkv(block.norm1(x)).view(b, n, 3, a.heads, d // a.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        scale = 1 / math.sqrt(d // a.heads)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[None, None, None])
            weights = (q[:, :, rows] @ k.transpose(-2, -1) * scale).masked_fill(~mask, -math.inf).softmax(-1)
        else:
            whole = (q @ k.transpose(-2, -1) * scale).masked_fill(~mask, -math.inf).softmax(-1)
            y, weights = whole @ v, whole[:, :, rows]
        x = x + a.proj(y.transpose(1, 2).reshape(b, n, d))
        return x + block.mlp(block.norm2(x)), weights.mean(1).sum((0, 1))
