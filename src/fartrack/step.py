"""One frame of tracking as a function of tensors: what is exported, and what the torch runtime calls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fartrack.network import Block, FARTrack, decode


class TrackStep(nn.Module):
    """Normalisation, embedding, encoder, decoding and saliency in one graph."""

    def __init__(self, net: FARTrack) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, search: Tensor, template: Tensor, memory: Tensor, trajectory: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Track one frame; shapes as in `fartrack.runtime.Runtime`.

        Args:
            search: (B, S, S, 3) uint8 RGB.
            template: (B, s, s, 3) uint8 RGB, the newest; with one-way attention (B, 0, s, 3) where none is new.
            memory: (B, slots - 1, n, M) what was stored of older templates, oldest first; (B, slots, n, M) then.
            trajectory: (B, 4 * past boxes) int64 words.

        Returns:
            box, logits, saliency, tokens: the fields of `fartrack.runtime.Output`.
        """
        net = self.net
        if net.config.attention == "oneway":
            return self._one_way(search, template, memory, trajectory)
        last = net.config.templates - 1
        tokens = net.embed_template(net.normalise(template.permute(0, 3, 1, 2)))
        identity = torch.stack([net.slot_identity(i) for i in range(net.config.templates)])
        templates = [memory[:, i] + identity[i] for i in range(last)]
        templates.append(tokens + identity[last])
        out = net(
            templates, net.embed_search(net.normalise(search.permute(0, 3, 1, 2))), trajectory, want_saliency=True
        )
        logits = out.logits[-1]
        assert out.saliency is not None
        return decode(logits, net.config), logits, out.saliency, tokens

    def _one_way(
        self, search: Tensor, template: Tensor, memory: Tensor, trajectory: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same when templates see only themselves: older ones are there as keys and values alone."""
        net, c = self.net, self.net.config
        d = c.width
        seen = net.embed_search(net.normalise(search.permute(0, 3, 1, 2)))
        tokens = seen[:, :0]
        if template.shape[1]:
            whole = net.embed_template(net.normalise(template.permute(0, 3, 1, 2)))
            tokens = whole + net.slot_identity(c.templates - 1)
        x = torch.cat([tokens, *net.after_templates(seen, trajectory)], 1)
        (b, n, _), newest = x.shape, tokens.shape[1]
        older = memory.flatten(1, 2)
        m = older.shape[1]
        rows = net.saliency_rows(newest, n)
        stored, saliency = [], torch.zeros(b, newest, device=x.device)
        for i, block in enumerate(net.blocks):
            assert isinstance(block, Block)
            heads = block.attn.split
            q, k, v = block.attn.qkv(block.norm1(x)).split(d, dim=-1)
            stored += [k[:, :newest], v[:, :newest]]
            keys = heads(torch.cat([older[..., 2 * i * d : (2 * i + 1) * d], k], 1))
            values = heads(torch.cat([older[..., (2 * i + 1) * d : (2 * i + 2) * d], v], 1))
            q = heads(q)
            mixed = F.scaled_dot_product_attention(q[:, :, newest:], keys, values)
            if newest:
                own = F.scaled_dot_product_attention(q[:, :, :newest], heads(k[:, :newest]), heads(v[:, :newest]))
                mixed = torch.cat([own, mixed], 2)
            weights = (q[:, :, rows] @ keys.transpose(-1, -2) / (d // c.heads) ** 0.5).softmax(-1)
            saliency = saliency + weights[..., m : m + newest].mean(1).sum(1)
            x = block.after(x, block.attn.merge(mixed))
        logits = net.read(x[:, -4:])
        return decode(logits, c), logits, saliency, torch.cat(stored, -1)
