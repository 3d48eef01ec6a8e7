"""A network small enough for tests, with random weights that matter, and frames to track on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fartrack.config import ModelConfig

SMALL = ModelConfig(name="small", depth=2, width=48, heads=3)
"""Crops, grids and vocabulary as in the real ones: 49 tokens of a template, 37 kept, 196 of the search crop."""


@dataclass(frozen=True)
class SmallModel:
    """The same weights in every form."""

    config: ModelConfig
    weights: Path
    """safetensors, for the torch runtime."""
    onnx: Path


def network(config: ModelConfig = SMALL, seed: int = 0):
    """A network whose biases matter too, and whose box stays near the middle of the search crop."""
    import torch

    from fartrack.network import FARTrack

    torch.manual_seed(seed)
    net = FARTrack(config).eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
        turn = torch.linalg.qr(torch.randn(config.width, 4))[0].T
        word = torch.arange(config.words)
        for i, coordinate in enumerate((0.375, 0.375, 0.625, 0.625)):
            middle = (coordinate - config.low) * (config.bins - 1)
            bump = torch.exp(-(((word - middle) / 12) ** 2)) * (word < config.coordinate_words)
            net.pos_command[i] += 12 * turn[i]
            net.words += bump[:, None] * turn[i]
    return net


def call(config: ModelConfig = SMALL, batch: int = 1, tokens: int | None = None, seed: int = 0, new: bool = True):
    """One call of the network, by the names of its inputs; of a frame with a new template or without."""
    rng = np.random.default_rng(seed)
    tokens = config.kept_tokens if tokens is None else tokens
    inputs = {
        "search": rng.integers(0, 256, (batch, config.search_size, config.search_size, 3), np.uint8),
        "template": rng.integers(0, 256, (batch, new * config.template_size, config.template_size, 3), np.uint8),
        "memory": rng.normal(0, 0.4, (batch, config.templates - new, tokens, config.memory_width)).astype(np.float32),
    }
    if config.trajectory:
        inputs["trajectory"] = rng.integers(0, config.words, (batch, config.trajectory_tokens))
    return inputs


def frames(count: int, height: int = 120, width: int = 160, seed: int = 0) -> list[np.ndarray]:
    """A noisy square that moves over noise, H x W x 3 uint8; it begins at (60, 40, 24, 20)."""
    rng = np.random.default_rng(seed)
    back = rng.integers(0, 120, (height, width, 3), np.uint8)
    thing = rng.integers(0, 256, (20, 24, 3), np.uint8)
    made = []
    for t in range(count):
        image = back.copy()
        x, y = 60 + (3 * t) % 60, 40 + (2 * t) % 40
        image[y : y + 20, x : x + 24] = thing
        made.append(image)
    return made


BOX = (60.0, 40.0, 24.0, 20.0)
