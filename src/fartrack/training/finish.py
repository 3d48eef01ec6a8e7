"""From a checkpoint to model files: averaged weights, cut to the depths wanted, with a score that means something."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
from collections.abc import Callable, Sequence
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
from fartrack.evaluation.metrics import auroc, expected_calibration_error
from fartrack.files import identity, write_whole
from fartrack.models import save_weights
from fartrack.network import FARTrack, decode, parameters_of_encoder
from fartrack.step import TrackStep
from fartrack.training import losses
from fartrack.training.clips import Clip, Tracks, begins_in_view
from fartrack.training.options import PAPER
from fartrack.training.render import Samples, render
from fartrack.training.rollout import Tracking, overlap
from fartrack.training.scenes import Cast
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


def _one_sided(hit: npt.NDArray[np.bool_]) -> bool:
    """Whether all are hits, or none: nothing can be fitted to that."""
    return bool(hit.all() or not hit.any())


def fit_logistic(x: Floats, hit: npt.NDArray[np.bool_]) -> Floats:
    """Coefficients of ``sigmoid(b[0] + x @ b[1:])`` with the greatest likelihood (a little ridge keeps them finite).

    Args:
        x: (N, k).
        hit: (N,).

    Raises:
        InputError: all are hits, or none.
    """
    if _one_sided(hit):
        raise InputError(f"the score cannot be fitted: {int(hit.sum())} of {len(hit)} boxes were hits")
    mean, deviation = x.mean(0), np.maximum(x.std(0), 1e-9)
    design = np.concatenate([np.ones((len(x), 1)), (x - mean) / deviation], 1)
    w = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = design.T @ (p - hit) + 1e-3 * w
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-3 * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    slopes = w[1:] / deviation
    return np.concatenate([[w[0] - slopes @ mean], slopes])


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
    net: FARTrack, sampler: Sampler, depths: Sequence[int], samples: int, clips: int = 0, device: str = "cpu"
) -> dict[int, Calibration]:
    """Fit the score of each depth on held-out clips as they are tracked, else on samples.

    It is measured on the clips (or samples) that it was not fitted on, by halves; all of them make the score. A depth
    that has no hits, or nothing but hits, in one half is left out, with a warning.

    Args:
        net: the network.
        sampler: of what is held out.
        depths: after which layers a box is read.
        samples: held-out samples for the mean IoU.
        clips: to be tracked; 0, or data of which no clips can be made, leaves the samples.
        device: where the network is.
    """
    evidence, overlaps = of_samples(net, sampler, depths, samples, device=device)
    advice = "give --data with more videos"
    if clips and (tracked := of_clips(net, sampler, depths, clips)) is not None:
        evidence = tracked
        advice += ", or more --score-clips"
    elif clips:
        log.warning("nothing that is held out is a track or has a mask: the score is fitted on samples, not on clips")
    odd = evidence.part % 2 == 1
    result = {}
    for row, depth in enumerate(sorted(depths)):
        x, hit = np.stack([evidence.entropy[row], evidence.change[row]], 1), evidence.hit[row]
        if _one_sided(hit[odd]) or _one_sided(hit[~odd]):
            log.warning(
                "the score after layer %d cannot be calibrated and stays as it was: %d of %d held-out boxes were hits, "
                "and each half of them needs hits and misses; %s", depth, hit.sum(), len(hit), advice,
            )  # fmt: skip
            continue
        score = np.empty(len(x))
        for half in (odd, ~odd):
            b = fit_logistic(x[half], hit[half])
            score[~half] = 1 / (1 + np.exp(-(b[0] + x[~half] @ b[1:])))
        bias, slope, shape = (float(v) for v in fit_logistic(x, hit))
        result[depth] = Calibration(
            bias, slope, shape if evidence.change.any() else 0.0,
            auroc(score, hit), expected_calibration_error(score, hit),
            hits=float(hit.mean()), frames=len(hit), iou=float(overlaps[row].mean()),
        )  # fmt: skip
    return result


@torch.no_grad()
def of_clips(net: FARTrack, sampler: Sampler, depths: Sequence[int], clips: int, length: int = 96) -> Evidence | None:
    """Held-out clips, tracked once from their first boxes: every other of a track, given motion, the others scenes.

    None when the data has neither.
    """
    cpu = torch.device("cpu")  # where OpenCV cuts crops, as the tracker does
    sampler = copy.copy(sampler).to(cpu, sampler.pack.to(cpu))
    tracks, cast = Tracks(sampler), Cast(sampler)
    kinds: list[Callable[[np.random.Generator], Clip]] = []
    if len(tracks):
        kinds.append(lambda rng: tracks.clip(int(rng.choice(len(tracks), p=tracks.weight)), length, rng, moved=0.8))
    if len(cast):
        kinds.append(lambda rng: cast.clip(length, rng))
    if not kinds:
        return None
    # Neighbours are of one kind, so that both kinds are fitted and measured on.
    drawn = (kinds[i // 2 % len(kinds)](np.random.default_rng([4242, i])) for i in itertools.count())
    wanted = itertools.islice(filter(begins_in_view, drawn), clips)
    parts: list[tuple[Floats, Floats, npt.NDArray[np.bool_]]] = []
    frames = length - 1
    log.info("for the score clips are tracked, %d at a time, which takes minutes on a CPU", min(TOGETHER, clips))
    with ThreadPoolExecutor(os.cpu_count() or 1, "targets") as pool:
        while some := list(itertools.islice(wanted, TOGETHER)):  # their frames take megabytes
            told = [_tracked(prefix(net, depth), some, pool) for depth in sorted(depths)]
            parts.append(tuple(np.stack(rows) for rows in zip(*told, strict=True)))  # type: ignore[arg-type]
            log.info("for the score %d of %d clips are tracked", sum(len(hit[0]) for *_, hit in parts) // frames, clips)
    entropy, change, hit = (np.concatenate(one, 1) for one in zip(*parts, strict=True))
    return Evidence(entropy, change, hit, np.repeat(np.arange(hit.shape[1] // frames), frames))


def _tracked(
    net: FARTrack, clips: Sequence[Clip], pool: ThreadPoolExecutor
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """(N,) entropy, change and hit of every frame of every clip, clip after clip."""
    with torch.autocast(net.words.device.type, torch.bfloat16):
        tracking = Tracking(TrackStep(net), net.config, clips, pool)
        rows = []
        for number in range(1, len(clips[0].boxes)):
            boxes = tracking.frame(number).boxes
            overlaps = overlap(boxes, np.array([clip.boxes[number] for clip in clips]))
            change = np.array([target.change for target in tracking.targets])
            rows.append([vocabulary.entropy(tracking.logits, net.config), change, np.nan_to_num(overlaps) > 0.5])
    entropy, change, hit = (np.stack(one, 1).ravel() for one in zip(*rows, strict=True))
    return entropy.astype(np.float64), change.astype(np.float64), hit.astype(bool)


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
            words = losses.trajectory_words(s.trajectory, config)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = net(tokens, net.embed_search(net.normalise(s.search)), words, exits=tuple(sorted(depths))).logits
        value = losses.iou(decode(logits, config), s.box.expand(len(logits), -1, -1))
        return vocabulary.entropy(logits.float().cpu().numpy(), config), value

    rounds = max(2, -(-samples // (2 * batch)))
    for number in range(rounds):
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
        if (number + 1) % 4 == 0 or number + 1 == rounds:
            log.info("for the score %d of %d samples are measured", 2 * batch * (number + 1), 2 * batch * rounds)
    x = np.concatenate(entropy, 1).astype(np.float64)
    evidence = Evidence(x, np.zeros_like(x), np.concatenate(hits, 1), np.arange(x.shape[1]))
    return evidence, np.concatenate(overlaps, 1)


def export_run(
    path: Path,
    out: Path,
    depths: Sequence[int],
    sampler: Sampler | None,
    samples: int,
    clips: int = 0,
    *,
    also: Sequence[Path] = (),
    onnx: bool = True,
    precision: str = "fp16",
    device: str = "cpu",
) -> list[Path]:
    """Write model files and cards of a checkpoint. A score that cannot be calibrated stays as the checkpoint has it.

    Args:
        path: the checkpoint.
        out: folder for the files.
        depths: prefixes to write; none means all exits that have a name, else the whole network.
        sampler: of held-out samples, to calibrate on.
        samples: how many of them; 0 leaves the score as it is.
        clips: how many held-out clips are tracked for it.
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
    files = _model_files(path, config, state, out, depths)
    _refuse_to_replace(list(files.values()), [path, *also], onnx)
    weights = averaged(weights, config, also)
    chosen = list(files)
    taught = set(state["train"].get("exits") or [config.depth])
    if unread := [depth for depth in chosen if depth not in taught]:
        log.warning("%s has not learned to read a box after layers %s: give its stage --exits", path, unread)
    if sampler and samples and sampler.empty:
        log.warning("nothing of the data is held out, it is too small: the score is not calibrated and stays as it was")
        sampler = None
    net = FARTrack(config).to(device)
    net.load_state_dict(weights)
    found = calibrate(net.eval(), sampler, chosen, samples, clips, device) if sampler and samples else {}
    out.mkdir(parents=True, exist_ok=True)
    for depth, file in files.items():
        own = config.replace(name=file.stem, depth=depth)
        if depth in found:
            bias, slope, shape = (round(v, 4) for v in (found[depth].bias, found[depth].slope, found[depth].shape))
            own = own.replace(score_bias=bias, score_slope=slope, score_shape=shape)
        small = FARTrack(own)
        small.load_state_dict(cut(weights, depth))
        save_weights(file, small.state_dict(), own)
        if onnx:
            from fartrack.export import export

            export(small, file.with_suffix(".onnx"), precision)
        _write_card(file.with_suffix(".json"), small, state, found.get(depth), also)
    return list(files.values())


def check_outputs(
    path: Path, out: Path, depths: Sequence[int], also: Sequence[Path], onnx: bool, state: Path | None = None
) -> None:
    """Refuse an export that would replace what it reads, or itself, before data is read for its score.

    That its files will prune otherwise than was learned is warned of.

    Args:
        path: the checkpoint.
        out: folder for the model files.
        depths: as for `export_run`.
        also: the other files that are read.
        onnx: whether ONNX files are written.
        state: a file to keep the whole state in.

    Raises:
        FileNotFoundError: no such checkpoint.
        InputError: as `export_run`, or naming the file that would be lost.
    """
    _, config, told = read_trained(path)
    files = list(_model_files(path, config, told, out, depths).values())
    _refuse_to_replace(files, [path, *also], onnx)
    if told["train"].get("method") == "runtime":
        log.warning(
            "%s learned with --method runtime, but a model file prunes as --method sequence has it: "
            "it will not track as it was trained", path,
        )  # fmt: skip
    if state is not None:
        for read in (path, *also):
            if _same(state, read):
                raise InputError(f"--state {state} is {read} itself, which is read: give another name")
        if twice := next((file for file in written(files, onnx) if _same(state, file)), None):
            raise InputError(f"--state {state} is {twice}, which --out will hold: give another name")


def _model_files(
    path: Path, config: ModelConfig, state: dict[str, Any], out: Path, depths: Sequence[int]
) -> dict[int, Path]:
    """The safetensors file of each depth of a checkpoint that is to be written, shallowest first."""
    exits = [depth for depth in state["train"].get("exits", []) if depth in NAMES]
    chosen = sorted(set(depths or exits or [config.depth]))
    if chosen[-1] > config.depth or chosen[0] < 1:
        raise InputError(f"--depths {tuple(chosen)}: {path} has {config.depth} layers")
    names = {depth: _name(config, depth) for depth in chosen}
    if len(set(names.values())) < len(names):
        raise InputError(
            f"the model of {path} is called {config.name}, as one of fewer layers will be: give other --depths"
        )
    return {depth: out / f"{name}.safetensors" for depth, name in names.items()}


def written(files: Sequence[Path], onnx: bool) -> list[Path]:
    """All that an export writes: a card beside each model file, and an ONNX file where wanted."""
    suffixes = (".safetensors", ".json", ".onnx") if onnx else (".safetensors", ".json")
    return [file.with_suffix(suffix) for file in files for suffix in suffixes]


def _refuse_to_replace(files: Sequence[Path], reads: Sequence[Path], onnx: bool) -> None:
    for file in written(files, onnx):
        if lost := next((read for read in reads if _same(file, read)), None):
            raise InputError(f"{file} is {lost} itself, which is read: give another --out")
        if file.suffix == ".onnx":
            from fartrack.sharing import refuse_to_replace

            refuse_to_replace(file)


def _same(one: Path, other: Path) -> bool:
    return identity(one.resolve()) == identity(other.resolve())


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
        "stage": state["stage"],
        "steps": state["step"],
        "samples": state.get("samples", state["step"] * train["batch"]),
        "start": train.get("init"),
        **{k: state[k] for k in ("data", "commit", "hardware", "torch", "python") if k in state},
        "calibration": asdict(calibration) if calibration else None,
        "averaged_with": [path.name for path in also],
        "training": train,
    }
    write_whole(path, json.dumps(card, indent=1) + "\n")
