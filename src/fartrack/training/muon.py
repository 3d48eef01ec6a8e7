"""PyTorch's Muon for a GPU: matrices of one shape are made orthogonal together, not one by one.

A ViT has dozens of small matrices of four shapes, and each alone is hundreds of launches that keep a GPU waiting.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class GroupedMuon(torch.optim.Muon):
    """The same update, options and state as `torch.optim.Muon` with ``adjust_lr_fn="match_rms_adamw"``."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; see `torch.optim.Muon`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            for shape, params in alike.items():
                grads = [p.grad for p in params if p.grad is not None]
                buffers = [self._momentum(p) for p in params]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                ahead = torch.stack(torch._foreach_lerp(grads, buffers, group["momentum"]))
                updates = orthogonal(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"])
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(shape) ** 0.5  # as large as AdamW's
                torch._foreach_add_(params, list(updates.to(params[0].dtype).unbind()), alpha=-group["lr"] * size)
        return loss

    def _momentum(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        return state["momentum_buffer"]


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """(N, A, B) -> (N, A, B) bfloat16 with all singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = coefficients
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
