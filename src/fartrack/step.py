"""One frame of tracking as a function of tensors: what is exported, and what the torch runtime calls."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fartrack.network import FARTrack, decode


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
            template: (B, s, s, 3) uint8 RGB, the newest.
            memory: (B, slots - 1, n, D) older templates' tokens, oldest first, without identity.
            trajectory: (B, 4 * past boxes) int64 words.

        Returns:
            box, logits, saliency, tokens: the fields of `fartrack.runtime.Output`.
        """
        net = self.net
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
