"""The layout that was released, as a tracker: what this package's speed is measured against.

Every frame embeds all five templates again and sends all 445 tokens through every layer; pruned tokens are masked, not
removed, and attention is written out because saliency is read from its weights. PyTorch eager, float32. With the same
weights it gives the same boxes as `fartrack.Tracker` (a test compares them): only the time differs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fartrack.config import RELEASE, ModelConfig
from fartrack.crops import Image
from fartrack.geometry import Box
from fartrack.memory import TemplateMemory
from fartrack.network import Block, FARTrack, decode
from fartrack.runtime import Output
from fartrack.target import Target


def released(config: ModelConfig) -> ModelConfig:
    """A network of the released layout, as deep: its crops are as large as they were there, whatever ours are."""
    sizes = {name: RELEASE[name] for name in ("template_size", "search_size")}
    return config.replace(attention="joint", trajectory=0, **sizes)


class Pictures(TemplateMemory):
    """The tracker's memory, where a template is its picture and which tokens of it are seen: all are embedded again."""

    def older(self) -> Any:
        """(picture, mask) of all slots but the newest, oldest first."""
        return self.settled()

    def pruned(self, tokens: Any, keep: npt.NDArray[np.int64]) -> Any:
        """The newest's picture, with a mask for the tokens that stay."""
        mask = torch.zeros(self.config.template_tokens, dtype=torch.bool)
        mask[torch.from_numpy(keep)] = True
        return self.newest_crop, mask


class DenseTracker:
    """`init` and `update` like `fartrack.Tracker`, by the released layout."""

    target: Target

    def __init__(self, net: FARTrack, attention: Literal["explicit", "fused"] = "explicit") -> None:
        """Take a network with joint attention.

        Args:
            net: the network.
            attention: "fused" uses PyTorch's fused kernel, and computes the weights only of the rows that saliency
                reads: kinder to the reference than what was released.
        """
        self.net, self.config, self.fused = net.eval(), net.config, attention == "fused"
        self.network_seconds = 0.0
        self._whole = torch.ones(net.config.template_tokens, dtype=torch.bool)
        self._nothing = np.empty((0, 0), np.float32)

    def init(self, frame: Image, box: Sequence[float]) -> None:
        """Start on a frame, afresh."""
        self.target = Target(self.config, frame, box, memory=Pictures(self.config))
        template = self.target.first_template(frame)
        self.target.start(template, (template, self._whole))  # type: ignore[arg-type]

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Find the target in the next frame."""
        look = self.target.look(frame)
        pictures, masks = zip(*look.memory, (look.template, self._whole), strict=True)
        begun = time.perf_counter()
        output = self._network(np.stack(pictures), look.search[None], torch.cat(masks))
        self.network_seconds += time.perf_counter() - begun
        self.target.absorb(frame, output)
        return self.target.found, self.target.box

    @torch.inference_mode()
    def _network(self, templates: Image, search: Image, visible: Tensor) -> Output:
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
        newest = saliency[m - c.template_tokens : m].numpy()
        return Output(decode(logits, c)[0].numpy(), logits[0].numpy(), newest, self._nothing)

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
