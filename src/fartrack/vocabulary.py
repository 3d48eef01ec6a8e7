"""Coordinates as words, and what the distributions over them say about certainty. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fartrack.config import ModelConfig

Floats = npt.NDArray[np.float32]


def to_words(coordinates: npt.ArrayLike, config: ModelConfig) -> npt.NDArray[np.int64]:
    """Coordinates in units of the search crop -> nearest words, clipped to the vocabulary's range."""
    word = np.rint((np.asarray(coordinates, np.float64) - config.low) * (config.bins - 1))
    return np.clip(word, 0, config.coordinate_words - 1).astype(np.int64)


def to_coordinates(words: npt.ArrayLike, config: ModelConfig) -> Floats:
    """Words -> coordinates in units of the search crop."""
    return (np.asarray(words, np.float64) / (config.bins - 1) + config.low).astype(np.float32)


def distributions(logits: Floats, config: ModelConfig) -> Floats:
    """(..., 4, words) logits -> (..., 4, coordinate words) probabilities."""
    z = logits[..., : config.coordinate_words]
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(logits: Floats, config: ModelConfig) -> Floats:
    """(..., 4, words) -> (...) mean entropy of the four coordinate distributions, in nats."""
    z = logits[..., : config.coordinate_words].astype(np.float64)
    z -= z.max()  # of all coordinates at once: float64 reaches far enough, and every call costs
    e = np.exp(z)
    total = e.sum(-1)
    return (np.log(total) - (e * z).sum(-1) / total).mean(-1).astype(np.float32)


def share(scores: Sequence[float], config: ModelConfig) -> float:
    """How much of the way from the last box to the newest is gone, 0 to 1; `scores` are those of the last frames."""
    if config.trust == 0:
        return 1.0
    score = max(scores)
    return min(1.0, max(0.0, (score - config.doubt) / (config.trust - config.doubt)))


def score(logits: Floats, config: ModelConfig, change: float = 0.0) -> Floats:
    """Calibrated chance, 0 to 1, that a box overlaps the target by more than half.

    Args:
        logits: (..., 4, words) that it was read from.
        config: of the network.
        change: of the box's shape, as `fartrack.geometry.change_of_shape` has it.
    """
    z = config.score_bias + config.score_slope * entropy(logits, config) + config.score_shape * change
    return 1 / (1 + np.exp(-z))
