"""From a checkpoint to model files: averaged weights, cut to the depths wanted, with a score that means something."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from fartrack.step import TrackStep
from fartrack.training import losses
from fartrack.training.clips import Clip, begins_in_view
from fartrack.training.logistic import auroc, fit_logistic
from fartrack.training.options import PAPER
from fartrack.training.presence import drawers, fit_presence
from fartrack.training.render import Samples, render
from fartrack.training.rollout import Tracking, overlap
from fartrack.training.sequence import prefix
from fartrack.training.start import cut, read_same, read_trained
from fartrack.training.synth import Sampler, plan

Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

NAMES = {config.depth: name for name, config in PRESETS.items()}
AS_TRACKED = replace(PAPER, centre_jitter=2.0, scale_jitter=0.25, blur_share=0.3, template_scale_jitter=0.18)
"""Held-out samples about as hard as a tracker's frames."""
TOGETHER = 16
"""Clips that are tracked side by side."""


@dataclass(frozen=True)
class Calibration:
    """What the score of a model is worth."""

    bias: float
    slope: float
    shape: float
    """0 where no clips were tracked."""
    presence: str
    """`score_presence` of the config; empty where it was not asked for."""
    auroc: float
    """Chance that a frame with IoU above 0.5 scores above one without."""
    error: float
    """Mean difference between score and share of hits, over ten bins (expected calibration error)."""
    hits: float
    """Share of frames with IoU above 0.5."""
    frames: int
    """It was fitted on, of clips as they were tracked; of samples, half without their target, where no clips were."""
    iou: float
    """Mean IoU over held-out samples that show the target."""


@dataclass(frozen=True)
class Evidence:
    """What the score goes by, and whether the box was right, for E depths and N frames."""

    entropy: Floats
    """(E, N)."""
    change: Floats
    """(E, N)."""
    hit: npt.NDArray[np.bool_]
    """(E, N)."""
    part: npt.NDArray[np.int64]
    """(N,) number of the clip, or of the sample: what is fitted on is not measured on."""
    present: Floats
    """(E, N) chance that the target is in the search crop, as the network's config has it."""
    there: npt.NDArray[np.bool_]
    """(N,) whether it is in the frame."""


class Mistaken(Sampler):
    """Draws search frames that show another object of the target's source: the target is replaced by a distractor."""

    def __init__(self, sampler: Sampler) -> None:
        vars(self).update(vars(sampler))

    def draw(self, batch: int, crops: int, track_share: float, gap: int, rng: torch.Generator) -> Tensor:
        """As `Sampler.draw`, with the last column replaced."""
        rows = super().draw(batch, crops, track_share, gap, rng)
        other = self.same_source(self.pack.objects.source[rows[:, -1]], rng)
        return torch.cat([rows[:, :-1], other.unsqueeze(1)], 1)


def calibrate(
    net: FARTrack,
    sampler: Sampler,
    depths: Sequence[int],
    samples: int,
    clips: int = 0,
    device: str = "cpu",
    learned: Sampler | None = None,
    presence_clips: int = 0,
) -> dict[int, Calibration]:
    """Fit the score of each depth on held-out clips as they are tracked, else on samples.

    It is measured on the clips (or samples) that it was not fitted on, by halves; all of them make the score. Where
    presence is asked for, the rest of the score is fitted on frames that the target is in.

    Args:
        net: the network.
        sampler: of what is held out.
        depths: after which layers a box is read.
        samples: held-out samples for the mean IoU.
        clips: to be tracked; 0, or data of which no clips can be made, leaves the samples.
        device: where the network is.
        learned: what was trained on.
        presence_clips: of that, to be tracked for what says whether the target is there; 0 does not ask.
    """
    lines = dict.fromkeys(depths, "")
    if clips and learned is not None and presence_clips:
        with ThreadPoolExecutor(os.cpu_count() or 1, "targets") as pool:
            source = _on_cpu(learned)
            lines = {depth: fit_presence(prefix(net, depth), source, presence_clips, pool) for depth in sorted(depths)}
    evidence, overlaps = of_samples(net, sampler, depths, samples, device=device)
    if clips and (tracked := of_clips(net, sampler, lines, clips)) is not None:
        evidence = tracked
    elif clips:
        log.warning("nothing that is held out is a track or has a mask: the score is fitted on samples, not on clips")
    odd = evidence.part % 2 == 1
    result = {}
    for row, depth in enumerate(sorted(depths)):
        x, hit = np.stack([evidence.entropy[row], evidence.change[row]], 1), evidence.hit[row]
        score = np.empty(len(x))
        used = evidence.there if lines[depth] else np.ones(len(x), bool)
        for half in (odd, ~odd):
            b = fit_logistic(x[half & used], hit[half & used])
            score[~half] = evidence.present[row, ~half] / (1 + np.exp(-(b[0] + x[~half] @ b[1:])))
        bins = np.minimum((score * 10).astype(int), 9)
        error = sum(abs(float((score - hit)[bins == k].sum())) for k in range(10)) / len(score)
        bias, slope, shape = (float(v) for v in fit_logistic(x[used], hit[used]))
        result[depth] = Calibration(
            bias, slope, shape if evidence.change.any() else 0.0, lines[depth], auroc(score, hit), error,
            hits=float(hit.mean()), frames=len(hit), iou=float(overlaps[row].mean()),
        )  # fmt: skip
    return result


@torch.no_grad()
def of_clips(
    net: FARTrack, sampler: Sampler, lines: Mapping[int, str], clips: int, length: int = 96
) -> Evidence | None:
    """Held-out clips, tracked once from their first boxes: every other of a track, given motion, the others scenes.

    None when the data has neither. `lines` are what says of presence after each layer that is read.
    """
    kinds = drawers(_on_cpu(sampler), length)
    if not kinds:
        return None
    # Neighbours are of one kind, so that both kinds are fitted and measured on.
    drawn = (kinds[i // 2 % len(kinds)](np.random.default_rng([4242, i])) for i in itertools.count())
    wanted = itertools.islice(filter(begins_in_view, drawn), clips)
    parts: list[tuple[Floats, Floats, Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]] = []
    frames = length - 1
    with ThreadPoolExecutor(os.cpu_count() or 1, "targets") as pool:
        while some := list(itertools.islice(wanted, TOGETHER)):  # their frames take megabytes
            told = [_tracked(prefix(net, depth), line, some, pool) for depth, line in sorted(lines.items())]
            parts.append(tuple(np.stack(rows) for rows in zip(*told, strict=True)))  # type: ignore[arg-type]
            log.info("for the score %d of %d clips are tracked", sum(len(hit[0]) for *_, hit in parts) // frames, clips)
    entropy, change, present, there, hit = (np.concatenate(one, 1) for one in zip(*parts, strict=True))
    part = np.repeat(np.arange(hit.shape[1] // frames), frames)
    return Evidence(entropy, change, hit, part, present, there[0])


def _on_cpu(sampler: Sampler) -> Sampler:
    """Where OpenCV cuts crops, as the tracker does."""
    cpu = torch.device("cpu")
    return copy.copy(sampler).to(cpu, sampler.pack.to(cpu))


def _tracked(
    net: FARTrack, line: str, clips: Sequence[Clip], pool: ThreadPoolExecutor
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(N,) entropy, change, presence, in view and hit of every frame of every clip, clip after clip."""
    config = net.config.replace(score_presence=line)
    with torch.autocast(net.words.device.type, torch.bfloat16):
        tracking = Tracking(TrackStep(net), net.config, clips, pool)
        rows = []
        for number in range(1, len(clips[0].boxes)):
            boxes = tracking.frame(number).boxes
            overlaps = overlap(boxes, np.array([clip.boxes[number] for clip in clips]))
            change = np.array([target.change for target in tracking.targets])
            numbers = vocabulary.entropy(tracking.logits, config), change, vocabulary.presence(tracking.logits, config)
            rows.append([*numbers, np.isfinite(overlaps), np.nan_to_num(overlaps) > 0.5])
    entropy, change, present, there, hit = (np.stack(one, 1).ravel() for one in zip(*rows, strict=True))
    return (*(v.astype(np.float64) for v in (entropy, change, present)), there, hit)  # type: ignore[return-value]


@torch.no_grad()
def of_samples(
    net: FARTrack, sampler: Sampler, depths: Sequence[int], samples: int, batch: int = 64, device: str = "cpu"
) -> tuple[Evidence, npt.NDArray[np.float32]]:
    """Held-out samples, half with the target, a quarter without, a quarter with another; and (E, M) IoU of the first.

    Nothing has changed its shape in them.
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
        value = losses.iou(decode(logits, config), s.box.expand(len(logits), -1, -1))
        return vocabulary.entropy(logits.float().cpu().numpy(), config), value

    for number in range(max(2, -(-samples // (2 * batch)))):
        rng = torch.Generator(device).manual_seed(4242 + number)
        drawn = plan(sampler, config, AS_TRACKED, batch, config.templates, rng)
        s = render(sampler.pack.pictures, o, drawn, config)
        unsure, value = look(s)
        entropy.append(unsure)
        hits.append((value > 0.5).cpu().numpy())
        overlaps.append(value.cpu().numpy())
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
    x = np.concatenate(entropy, 1).astype(np.float64)
    part, there = np.arange(x.shape[1]), np.ones(x.shape[1], bool)
    evidence = Evidence(x, np.zeros_like(x), np.concatenate(hits, 1), part, np.ones_like(x), there)
    return evidence, np.concatenate(overlaps, 1)


def export_run(
    path: Path,
    out: Path,
    depths: Sequence[int],
    sampler: Sampler | None,
    samples: int,
    clips: int = 0,
    *,
    learned: Sampler | None = None,
    presence_clips: int = 0,
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
        clips: how many held-out clips are tracked for it.
        learned: of what was trained on.
        presence_clips: clips of that, for what the score says of presence.
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
    names = {depth: _name(config, depth) for depth in chosen}
    if len(set(names.values())) < len(names):
        raise InputError(
            f"the model of {path} is called {config.name}, as one of fewer layers will be: give other --depths"
        )
    taught = set(state["train"].get("exits") or [config.depth])
    if unread := [depth for depth in chosen if depth not in taught]:
        log.warning("%s has not learned to read a box after layers %s: give its stage --exits", path, unread)
    if sampler and samples and sampler.empty:
        raise InputError(
            "nothing of the data is held out, it is too small to calibrate the score on: add data, or give --samples 0"
        )
    net = FARTrack(config).to(device)
    net.load_state_dict(weights)
    found = {}
    if sampler and samples:
        found = calibrate(net.eval(), sampler, chosen, samples, clips, device, learned, presence_clips)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for depth in chosen:
        name = names[depth]
        own = config.replace(name=name, depth=depth)
        if depth in found:
            bias, slope, shape = (round(v, 4) for v in (found[depth].bias, found[depth].slope, found[depth].shape))
            line = found[depth].presence
            own = own.replace(score_bias=bias, score_slope=slope, score_shape=shape, score_presence=line)
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


def _name(config: ModelConfig, depth: int) -> str:
    """What a model of a network's first layers is called: the whole one as its `--model.name` says."""
    named = depth == config.depth and config.name not in PRESETS
    return config.name if named else NAMES.get(depth, f"depth{depth}")


def averaged(weights: dict[str, Tensor], config: ModelConfig, also: Sequence[Path]) -> dict[str, Tensor]:
    """Mean of weights and those in other files.

    Raises:
        FileNotFoundError: no such file.
        InputError: one is of another network.
    """
    others = [read_same(path, config, weights, "--also") for path in also]
    total = {name: value.float() + sum(other[name].float() for other in others) for name, value in weights.items()}
    return {name: value / (1 + len(also)) for name, value in total.items()}


def told(calibration: Calibration) -> dict[str, Any]:
    """What a card says of it: whether presence is asked for, not the numbers."""
    return asdict(calibration) | {"presence": bool(calibration.presence)}


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
        "calibration": told(calibration) if calibration else None,
        "averaged_with": [path.name for path in also],
        "training": train,
    }
    write_whole(path, json.dumps(card, indent=1) + "\n")
