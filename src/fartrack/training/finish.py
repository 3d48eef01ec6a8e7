"""From a checkpoint to model files: averaged weights, cut to the depths wanted, with a score that means something."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fartrack import vocabulary
from fartrack.config import PRESETS, ModelConfig
from fartrack.errors import InputError
from fartrack.files import write_whole
from fartrack.models import save_weights
from fartrack.network import FARTrack, decode, parameters_of_encoder
from fartrack.training import losses
from fartrack.training.options import PAPER
from fartrack.training.render import Samples, render
from fartrack.training.start import cut, read_same, read_trained
from fartrack.training.synth import Sampler, plan

log = logging.getLogger(__name__)

NAMES = {config.depth: name for name, config in PRESETS.items()}
AS_TRACKED = replace(PAPER, centre_jitter=2.0, scale_jitter=0.25, blur_share=0.3, template_scale_jitter=0.18)
"""Held-out samples about as hard as a tracker's frames."""


@dataclass(frozen=True)
class Calibration:
    """What the score of a model is worth."""

    bias: float
    slope: float
    auroc: float
    """Chance that a frame with IoU above 0.5 scores above one without."""
    error: float
    """Mean difference between score and share of hits, over ten bins (expected calibration error)."""
    hits: float
    """Share of samples with IoU above 0.5; half of the samples do not show the target."""
    iou: float
    """Mean IoU where the target is in view."""


def fit_logistic(x: npt.NDArray[np.float64], hit: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Bias and slope of ``sigmoid(bias + slope * x)`` with the greatest likelihood (a little ridge keeps it finite).

    Raises:
        InputError: all are hits, or none.
    """
    if hit.all() or not hit.any():
        raise InputError(f"the score cannot be calibrated: {int(hit.sum())} of {len(hit)} held-out samples were hits")
    mean, deviation = x.mean(), max(float(x.std()), 1e-9)
    design = np.stack([np.ones_like(x), (x - mean) / deviation], 1)
    w = np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = design.T @ (p - hit) + 1e-3 * w
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        w -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    slope = float(w[1] / deviation)
    return float(w[0] - slope * mean), slope


def auroc(score: npt.NDArray[np.float64], hit: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, by ranks; ties count half."""
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]
    n = int(hit.sum())
    return float((rank[hit].sum() - n * (n + 1) / 2) / max(1, n * (len(hit) - n)))


class Mistaken(Sampler):
    """Draws search frames that show another object of the target's source: the target is replaced by a distractor."""

    def __init__(self, sampler: Sampler) -> None:
        vars(self).update(vars(sampler))

    def draw(self, batch: int, crops: int, track_share: float, gap: int, rng: torch.Generator) -> Tensor:
        """As `Sampler.draw`, with the last column replaced."""
        rows = super().draw(batch, crops, track_share, gap, rng)
        other = self.same_source(self.pack.objects.source[rows[:, -1]], rng)
        return torch.cat([rows[:, :-1], other.unsqueeze(1)], 1)


@torch.no_grad()
def calibrate(
    net: FARTrack, sampler: Sampler, depths: Sequence[int], samples: int, batch: int = 64, device: str = "cpu"
) -> dict[int, Calibration]:
    """Fit the score of each depth on held-out samples: half with the target, a quarter without, a quarter with another.

    Every other sample fits, the others measure.
    """
    config, o = net.config, sampler.pack.objects
    templates = list(range(config.templates))
    entropy: list[npt.NDArray[np.float32]] = []
    hits: list[npt.NDArray[np.bool_]] = []
    overlaps: list[npt.NDArray[np.float32]] = []

    def look(s: Samples) -> tuple[npt.NDArray[np.float32], Tensor]:
        past = net.embed_template(net.normalise(s.templates.flatten(0, 1))).unflatten(0, (-1, len(templates)))
        tokens = [past[:, i] + net.slot_identity(i) for i in templates]
        words = None
        if s.trajectory is not None:
            words = losses.coordinate_words(s.trajectory, config).round().long().flatten(1)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = net(tokens, net.embed_search(net.normalise(s.search)), words, exits=tuple(sorted(depths))).logits
        overlap = losses.iou(decode(logits, config), s.box.expand(len(logits), -1, -1))
        return vocabulary.entropy(logits.float().cpu().numpy(), config), overlap

    for number in range(max(2, -(-samples // (2 * batch)))):
        rng = torch.Generator(device).manual_seed(4242 + number)
        drawn = plan(sampler, config, AS_TRACKED, batch, config.templates, rng)
        s = render(sampler.pack.pictures, o, drawn, config)
        unsure, overlap = look(s)
        entropy.append(unsure)
        hits.append((overlap > 0.5).cpu().numpy())
        overlaps.append(overlap.cpu().numpy())
        if number % 2:
            s.search = s.search.roll(1, 0)  # somebody else's surroundings: the target is absent
            shown = drawn.objects[:, -1].roll(1, 0)
        else:
            drawn = plan(Mistaken(sampler), config, AS_TRACKED, batch, config.templates, rng)
            s = render(sampler.pack.pictures, o, drawn, config)
            shown = drawn.objects[:, -1]
        keep = (~o.same(drawn.objects[:, 0], shown)).cpu().numpy()
        unsure, _ = look(s)
        entropy.append(unsure[:, keep])
        hits.append(np.zeros((len(depths), int(keep.sum())), bool))
    x, hit = np.concatenate(entropy, 1).astype(np.float64), np.concatenate(hits, 1)
    fit = np.arange(x.shape[1]) % 2 == 0
    result = {}
    for row, depth in enumerate(sorted(depths)):
        bias, slope = fit_logistic(x[row, fit], hit[row, fit])
        score, truth = 1 / (1 + np.exp(-(bias + slope * x[row, ~fit]))), hit[row, ~fit]
        bins = np.minimum((score * 10).astype(int), 9)
        error = sum(abs(float((score - truth)[bins == b].sum())) for b in range(10)) / len(score)
        mean = float(np.concatenate(overlaps, 1)[row].mean())
        result[depth] = Calibration(bias, slope, auroc(score, truth), error, float(truth.mean()), mean)
    return result


def export_run(
    path: Path,
    out: Path,
    depths: Sequence[int],
    sampler: Sampler | None,
    samples: int,
    *,
    also: Sequence[Path] = (),
    onnx: bool = True,
    precision: str = "fp16",
    device: str = "cpu",
) -> list[Path]:
    """Write model files and cards of a checkpoint.

    Args:
        path: the checkpoint.
        out: folder for the files.
        depths: prefixes to write; none means all exits that have a name, else the whole network.
        sampler: of held-out samples, to calibrate on.
        samples: how many of them; 0 leaves the score as it is.
        also: checkpoints or model files whose weights are averaged with those of `path`.
        onnx: write ONNX files as well.
        precision: of the weights in the ONNX files.
        device: where to calibrate.

    Returns:
        The safetensors files, shallowest first.

    Raises:
        FileNotFoundError: no such checkpoint.
        InputError: a depth that the checkpoint has not, weights that do not fit, or a file that cannot be written.
    """
    weights, config, state = read_trained(path)
    weights = averaged(weights, config, also)
    exits = [depth for depth in state["train"].get("exits", []) if depth in NAMES]
    chosen = sorted(set(depths or exits or [config.depth]))
    if chosen[-1] > config.depth or chosen[0] < 1:
        raise InputError(f"--depths {tuple(chosen)}: {path} has {config.depth} layers")
    taught = set(state["train"].get("exits") or [config.depth])
    if unread := [depth for depth in chosen if depth not in taught]:
        log.warning("%s has not learned to read a box after layers %s: give its stage --exits", path, unread)
    if sampler and samples and sampler.empty:
        raise InputError(
            "nothing of the data is held out, it is too small to calibrate the score on: add data, or give --samples 0"
        )
    net = FARTrack(config).to(device)
    net.load_state_dict(weights)
    found = calibrate(net.eval(), sampler, chosen, samples, device=device) if sampler and samples else {}
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for depth in chosen:
        name = NAMES.get(depth, f"depth{depth}")
        own = config.replace(name=name, depth=depth)
        if depth in found:
            own = own.replace(score_bias=round(found[depth].bias, 4), score_slope=round(found[depth].slope, 4))
        small = FARTrack(own)
        small.load_state_dict(cut(weights, depth))
        file = out / f"{name}.safetensors"
        save_weights(file, small.state_dict(), own)
        if onnx:
            from fartrack.export import export

            export(small, file.with_suffix(".onnx"), precision)
        _write_card(file.with_suffix(".json"), small, state, found.get(depth), also)
        files.append(file)
    return files


def averaged(weights: dict[str, Tensor], config: ModelConfig, also: Sequence[Path]) -> dict[str, Tensor]:
    """Mean of weights and those in other files.

    Raises:
        FileNotFoundError: no such file.
        InputError: one is of another network.
    """
    others = [read_same(path, config, weights, "--also") for path in also]
    total = {name: value.float() + sum(other[name].float() for other in others) for name, value in weights.items()}
    return {name: value / (1 + len(also)) for name, value in total.items()}


def _write_card(
    path: Path, net: FARTrack, state: dict[str, Any], calibration: Calibration | None, also: Sequence[Path]
) -> None:
    """What is known of the weights here; licences and scores are added by whoever publishes them."""
    train = state["train"]
    card: dict[str, Any] = {
        "name": net.config.name,
        "layers": net.config.depth,
        "parameters": sum(p.numel() for p in net.parameters()),
        "encoder_parameters": parameters_of_encoder(net),
        "stage": state.get("stage", "frame"),
        "steps": state["step"],
        "samples": state.get("samples", state["step"] * train["batch"]),
        "start": train.get("init"),
        **{k: state[k] for k in ("data", "commit", "hardware", "torch", "python") if k in state},
        "calibration": asdict(calibration) if calibration else None,
        "averaged_with": [path.name for path in also],
        "training": train,
    }
    write_whole(path, json.dumps(card, indent=1) + "\n")
