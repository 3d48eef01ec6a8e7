"""Losses, pure functions of tensors. Boxes are (..., 4) x0, y0, x1, y1 in units of the search crop."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fartrack.config import ModelConfig
from fartrack.network import expectation
from fartrack.training.options import TrainConfig


def iou(p: Tensor, g: Tensor) -> Tensor:
    """Intersection over union; degenerate boxes give 0."""
    low, high = torch.maximum(p[..., :2], g[..., :2]), torch.minimum(p[..., 2:], g[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area = (p[..., 2:] - p[..., :2]).clamp(min=0).prod(-1) + (g[..., 2:] - g[..., :2]).clamp(min=0).prod(-1)
    return inter / (area - inter).clamp(min=1e-9)


def siou(p: Tensor, g: Tensor) -> Tensor:
    """SIoU loss (Gevorgyan 2022): ``1 - IoU + (distance + shape) / 2``, with every division guarded."""
    eps = 1e-7
    centre = (p[..., :2] + p[..., 2:] - g[..., :2] - g[..., 2:]).abs() / 2
    length = (centre.square().sum(-1) + eps).sqrt()
    sine = (centre[..., 1] / length).clamp(0, 1 - 1e-6)
    angle = 1 - 2 * torch.sin(torch.arcsin(sine) - math.pi / 4).square()
    enclosing = torch.maximum(p[..., 2:], g[..., 2:]) - torch.minimum(p[..., :2], g[..., :2])
    rho = (centre / enclosing.clamp(min=1e-4)).square()
    distance = (1 - torch.exp(-(2 - angle).unsqueeze(-1) * rho)).sum(-1)
    ps, gs = (p[..., 2:] - p[..., :2]), (g[..., 2:] - g[..., :2])
    omega = (ps - gs).abs() / torch.maximum(ps, gs).clamp(min=1e-4)
    shape = (1 - torch.exp(-omega)).pow(4).sum(-1)
    return 1 - iou(p, g) + (distance + shape) / 2


def tracking(
    logits: Tensor, truth: Tensor, config: ModelConfig, train: TrainConfig, weight: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy, SIoU and self-distillation of all exits, weighted as the options say; and each by its name.

    Args:
        logits: (E, B, 4, words).
        truth: (B, 4).
        config: of the network.
        train: whose weights count.
        weight: (B,) of the samples, of mean 1; none counts all alike.
    """
    box, truth = expectation(logits, config), truth.expand(len(logits), -1, -1)
    even = torch.ones_like(truth[0, :, 0]) if weight is None else weight
    ce = (word_cross_entropy(logits, truth, config, train.word_sigma) * even).mean()
    near = (siou(box, truth) * even).mean()
    parts = {"ce": ce, "siou": near, "iou": (iou(box[-1], truth[-1]) * even).mean()}
    total = train.ce_weight * ce + train.siou_weight * near
    if len(logits) > 1:
        parts["kl"] = distillation(logits, config, even)
        total = total + train.kl_weight * parts["kl"]
    return total, parts


def coordinate_words(box: Tensor, config: ModelConfig) -> Tensor:
    """Coordinates as (fractional) words, clipped to the vocabulary: ``(c - low) * (bins - 1)``."""
    return ((box - config.low) * (config.bins - 1)).clamp(0, config.coordinate_words - 1)


def trajectory_words(boxes: Tensor, config: ModelConfig) -> Tensor:
    """(B, N, 4) past boxes -> (B, 4 N) int64 words, as `fartrack.target` gives them to the network."""
    return coordinate_words(boxes, config).round().long().flatten(1)


def word_cross_entropy(logits: Tensor, box: Tensor, config: ModelConfig, sigma: float = 0.0) -> Tensor:
    """Cross entropy over all words, per sample: (..., 4, words), (..., 4) -> (...).

    Args:
        logits: of the network.
        box: true coordinates.
        config: of the network.
        sigma: width in words of a Gaussian target; 0 is the paper's hard target.
    """
    word = coordinate_words(box, config)
    log_p = logits.float().log_softmax(-1)
    if sigma == 0:
        return -log_p.gather(-1, word.round().long().unsqueeze(-1)).squeeze(-1).mean(-1)
    grid = torch.arange(config.words, device=box.device)
    bell = -0.5 * ((grid - word.unsqueeze(-1)) / sigma).square()
    target = bell.masked_fill(grid >= config.coordinate_words, -torch.inf).softmax(-1)  # however narrow, of sum 1
    return -(target * log_p).sum(-1).mean(-1)


def distillation(logits: Tensor, config: ModelConfig, weight: Tensor | None = None) -> Tensor:
    """Layer k + 1 teaches layer k (TSSD, section 3.3): (E, B, 4, words) -> scalar KL, mean over batch and exits."""
    c = config.coordinate_words
    log_p = logits[..., :c].float().log_softmax(-1)
    divergence = kl(log_p[1:].detach(), log_p[:-1]).mean(-1)
    return (divergence if weight is None else divergence * weight).mean()


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities over the last axis."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def inside_box(box: Tensor, grid: int) -> Tensor:
    """(B, 4) -> (B, grid * grid) share of each token's cell that the box covers."""
    edge = torch.arange(grid, device=box.device) / grid
    low, high = box[:, :2].unsqueeze(-1), box[:, 2:].unsqueeze(-1)
    cover = (torch.minimum(high, edge + 1 / grid) - torch.maximum(low, edge)).clamp(min=0) * grid
    return (cover[:, 1].unsqueeze(2) * cover[:, 0].unsqueeze(1)).flatten(1)


def dense(prediction: Tensor, box: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """What the search tokens themselves know, an auxiliary of training.

    Args:
        prediction: (B, grid * grid, 5): inside the box or not (logit), and the box as offsets from the token.
        box: (B, 4).
        grid: tokens along one side.

    Returns:
        Two scalars: binary cross entropy (targets weighted up to a quarter of the sum) and 1 - IoU plus L1 inside.
    """
    truth = inside_box(box, grid)
    positive = truth.sum(1, keepdim=True).clamp(min=1)
    weight = 1 + truth * (0.33 * (grid * grid - positive) / positive - 1).clamp(min=0)
    bce = F.binary_cross_entropy_with_logits(prediction[..., 0].float(), truth, weight)
    at = (torch.arange(grid, device=box.device) + 0.5) / grid
    y, x = torch.meshgrid(at, at, indexing="ij")
    place = torch.stack([x, y, x, y], -1).view(1, -1, 4)
    p, g = place + prediction[..., 1:].float(), box.unsqueeze(1).expand(-1, grid * grid, -1)
    error = (1 - iou(p, g)) + 2 * (p - g).abs().sum(-1)
    return bce, (error * truth / positive).sum(1).mean()


def attention_on_target(look: Tensor, inside: Tensor) -> Tensor:
    """``-log`` of the attention mass that falls on the target: (B, 4, tokens), (B, tokens) -> scalar."""
    return -((look.float() * inside.unsqueeze(1)).sum(-1) + 1e-3).log().mean()


def feature_distance(student: Tensor, teacher: Tensor, weight: Tensor, mass: Tensor | None = None) -> Tensor:
    """Mean ``1 - cosine`` of features where weight says that they show the same thing.

    Args:
        student: (N, C).
        teacher: (N, C).
        weight: (N,).
        mass: what the weighted sum is divided by, when it is not these weights' own sum (several processes).
    """
    distance = 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)
    return (distance * weight).sum() / (weight.sum() if mass is None else mass).clamp(min=1)
