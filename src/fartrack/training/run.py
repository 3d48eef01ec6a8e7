"""Starting a stage: `fartrack train STAGE ...`, or without any extra package

python -m fartrack.training.run STAGE --steps 1000 --model.depth 15 --data DIR
torchrun --nproc-per-node 8 -m fartrack.training.run STAGE ...
"""

from __future__ import annotations

import dataclasses
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, cast

import cv2
import torch
from torch import Tensor

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.files import at_home
from fartrack.guard import guarded
from fartrack.signals import noted
from fartrack.training import checkpoint
from fartrack.training.arguments import parse
from fartrack.training.backbone import BackboneTrainer, can_match, matching, with_backgrounds
from fartrack.training.cache import read_cached
from fartrack.training.data import Resident, Supply, describe_pack, find_data, open_data
from fartrack.training.features import TABLE, TeacherFeatures, make_features
from fartrack.training.finish import check_outputs, export_run, written
from fartrack.training.frame import Distiller, FrameTrainer
from fartrack.training.loop import LAST, Trainer
from fartrack.training.options import (
    STAGES,
    Backbone,
    Distill,
    Export,
    Features,
    Frame,
    Run,
    Sparsify,
    check_values,
    idle,
)
from fartrack.training.parallel import Parallel, join
from fartrack.training.preview import save_preview
from fartrack.training.progress import Progress
from fartrack.training.removal import RemovalTrainer
from fartrack.training.sequence import SequenceTrainer
from fartrack.training.speed import report
from fartrack.training.start import depth_of, open_start, with_score
from fartrack.training.teacher import open_teacher

log = logging.getLogger("fartrack.training")
TRAINERS: dict[type, type[Trainer]] = {
    Backbone: BackboneTrainer, Frame: FrameTrainer, Distill: Distiller, Sparsify: SequenceTrainer,
}  # fmt: skip


def start(options: Features | Run | Export) -> int:
    """Run a stage; returns the exit code.

    Raises:
        InputError: something given is wrong.
        FileNotFoundError: something given is not there.
    """
    speak()
    check_values(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    if isinstance(options, Features):
        return _features(options)
    if isinstance(options, Export):
        return _export(options)
    parallel = join(options.device)
    try:
        return _train(options, parallel)
    finally:
        parallel.leave()


def _train(options: Run, parallel: Parallel) -> int:
    if not parallel.first:
        logging.getLogger("fartrack").setLevel(logging.ERROR)
    trainer = make_trainer(options, parallel)
    options = cast(Run, trainer.train)
    if parallel.first:
        save_preview(options.out / "preview.png", trainer.make(trainer.step))
        log.info("preview: %s", options.out / "preview.png")
    if options.profile:
        said = report(trainer)  # which all processes take part in
        if parallel.first:
            print(said)
        return 0
    unit = "clips" if isinstance(trainer, SequenceTrainer) else "samples"
    with stop_noted(trainer) as stopped_by:
        if parallel.first:
            with (
                Progress(options.out, trainer.step, options.steps, options.minutes, unit) as progress,
                closing(trainer.run(options.minutes)) as rows,
            ):
                for row in rows:
                    progress.tell(row)
            log.info("step %d of %d, saved in %s", trainer.step, options.steps, options.out / LAST)
        else:
            for _ in trainer.run(options.minutes):
                pass
    number = stopped_by()
    return 128 + number if number else 0


def make_trainer(
    options: Run, parallel: Parallel | None = None, supply: Supply | None = None, on_purpose: bool = False
) -> Trainer:
    """The trainer of a stage, ready to run: data opened, weights or an earlier state taken over.

    Args:
        options: of the stage.
        parallel: the other processes.
        supply: the data, when it is open already.
        on_purpose: the network is meant to differ from the one that it begins from, and nothing is said of that.

    Raises:
        InputError: options that do not go together, or a file or data that they do not fit.
        FileNotFoundError: something given is not there.
    """
    parallel = parallel or Parallel()
    device = pick_device(options.device, parallel)
    kind = _kind(options)
    _check_given(options, kind)
    earlier = _earlier(options)
    options = _completed(options, kind, earlier)
    kind.check_options(options.model, options, parallel.world, options.features is not None)
    more = {"teacher": open_teacher(options.teacher)} if isinstance(options, Backbone) and options.teacher else {}
    if earlier is not None:
        kind.check_state(earlier.path, earlier.state, options.model, options.optimizer)
    weights, model = _first_weights(options, kind, earlier, on_purpose)
    options = dataclasses.replace(options, model=model)
    # Only now: it takes minutes.
    supply = _supply(options, parallel, supply)
    trainer = kind(model, options, supply, _teacher_features(options, supply), device, parallel, **more)
    if weights is not None:
        _begin_with(trainer, weights)
    if isinstance(trainer, RemovalTrainer):
        trainer.teach(trainer.average)
    if earlier is not None:
        _go_on_with(trainer, earlier)
    _refuse_other_steps(trainer)
    _say_what_is_measured(trainer, new=earlier is None or not earlier.own)
    return trainer


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What a run goes on with."""

    path: Path
    state: dict[str, Any]
    own: bool
    """The run's own checkpoint; else it branches off from another's."""

    @property
    def base(self) -> int:
        """The step at which the run branched off from another, 0 for one that did not."""
        return int(self.state["base"] if self.own else self.state["step"])


def _kind(options: Run) -> type[Trainer]:
    removes = isinstance(options, Distill) and options.method == "removal"
    return RemovalTrainer if removes else TRAINERS[type(options)]


def _check_given(options: Run, kind: type[Trainer]) -> None:
    """Refuse options that contradict each other, or lack another one."""
    removes = kind is RemovalTrainer
    if options.init and options.resume and not removes:
        raise InputError("--init and --resume both say what to begin with: give one of them")
    if isinstance(options, Distill):
        _check_method(options)
    if options.above and not options.init:
        raise InputError(f"--above {options.above} has nothing to stand on: give --init")
    if removes and not options.init:
        raise InputError("--method removal needs a trained network to take layers from: give --init")
    if options.features and not (options.features / TABLE).exists():
        raise FileNotFoundError(f"--features {options.features} has no {TABLE}: make it with `fartrack train features`")


def _check_method(options: Distill) -> None:
    """Refuse options that the other way of distilling has, or that say the same."""
    removes, lowest, depth = options.method == "removal", options.lowest, options.model.depth
    if options.exits and lowest != Distill.lowest:
        raise InputError(f"--lowest {lowest} and --exits both say which layers read the box: give one of them")
    if unused := idle(options, Distill(), ("lowest",) if removes else ("remove", "fade")):
        other = "layer-by-layer" if removes else "removal"
        raise InputError(
            f"--method {options.method} has no use for {' and '.join(unused)}: leave it out, or give --method {other}"
        )
    if not removes and not options.exits and not 1 <= lowest < depth:
        raise InputError(f"--lowest {lowest} is not in 1..{depth - 1}: choose another")


def _earlier(options: Run) -> Earlier | None:
    """The checkpoint in the run's folder, else the one of --resume, if there is either."""
    last = options.out / LAST
    if last.exists():
        return Earlier(last, checkpoint.load(last)[1], own=True)
    if options.resume is None:
        return None
    state = checkpoint.load(options.resume)[1]
    if "step" not in state:  # a decoded pack's tables, say
        raise InputError(f"--resume {options.resume} is no checkpoint of a run: give its last.safetensors")
    return Earlier(options.resume, state, own=False)


def _completed(options: Run, kind: type[Trainer], earlier: Earlier | None) -> Run:
    """The options with what they leave open: the exits of a distillation, and steps counted from where it branched."""
    if isinstance(options, Distill) and kind is not RemovalTrainer and not options.exits:
        options = dataclasses.replace(options, exits=tuple(range(options.lowest, options.model.depth + 1)))
    return dataclasses.replace(options, steps=options.steps + (earlier.base if earlier is not None else 0))


def _first_weights(
    options: Run, kind: type[Trainer], earlier: Earlier | None, on_purpose: bool
) -> tuple[dict[str, Tensor] | None, ModelConfig]:
    """Weights to begin with, if any, and the network's config with the score that goes with what it begins from."""
    # What goes on has its weights; but what layers are removed from is taught by the network that it began with.
    begins = kind is RemovalTrainer or earlier is None
    weights, own = None, None
    if options.init and begins:
        weights, own = open_start(options.init, options.model, options.above, on_purpose)
    told = earlier.state["model"] if earlier is not None else vars(own) if own is not None else {}
    return weights, with_score(options.model, told)


def _supply(options: Run, parallel: Parallel, supply: Supply | None) -> Supply:
    """The data, opened unless it is; as the stage wants it."""
    supply = supply or open_data(
        options.data, memory=options.memory, steps=options.chunk_steps, workers=options.workers, seed=options.seed,
        gap=options.synth.gap, tracks=isinstance(options, Sparsify), rank=parallel.rank,
        cache=options.cache,
    )  # fmt: skip
    if isinstance(options, Backbone) and isinstance(supply, Resident):
        return Resident(with_backgrounds(supply.pack))
    return supply


def _teacher_features(options: Run, supply: Supply) -> TeacherFeatures | None:
    if not options.features:
        return None
    if not isinstance(supply, Resident):
        raise InputError("--features holds the pictures of a pack: train on packs alone, or leave it out")
    return TeacherFeatures(options.features, supply.pack)


def _begin_with(trainer: Trainer, weights: dict[str, Tensor]) -> None:
    new = trainer.start_from(weights)
    init = cast(Run, trainer.train).init
    log.info("start: %s, %d layers%s", init, depth_of(weights), f"; new: {', '.join(new)}" if new else "")


def _go_on_with(trainer: Trainer, earlier: Earlier) -> None:
    trainer.base = earlier.base
    trainer.load(earlier.path)
    how = "going on with" if earlier.own else "branching off from"
    log.info("%s %s at step %d", how, earlier.path, trainer.step)
    now = trainer.supply.fingerprint
    if (before := earlier.state["data"]) != now:
        log.warning(
            "%s learned from other data (fingerprint %s, now %s): what is held out now may have been among it",
            earlier.path, before, now,
        )  # fmt: skip


def _refuse_other_steps(trainer: Trainer) -> None:
    """All processes go on from the same step, or the mean of their gradients is of no network."""
    step = torch.tensor(float(trainer.step), device=trainer.device)
    if float(trainer.parallel.mean(step)) != trainer.step:
        raise InputError(
            f"not every process has step {trainer.step} of {trainer.train.out / LAST}: "
            "give an --out that all machines share, or copy it"
        )


def _say_what_is_measured(trainer: Trainer, new: bool) -> None:
    """What the curve will lack; and for a new backbone what its teacher reaches."""
    # Late, for shares of the data that are streamed are decoded for the step they are asked for.
    if isinstance(trainer, BackboneTrainer):
        if not can_match(trainer.sampler):
            log.warning("the matching number needs tracks, and the data has none: it is left out")
        elif trainer.teacher is not None and new and trainer.parallel.first:
            reached = matching(trainer.teacher, trainer.sampler, trainer.config)
            log.info("matching number of the teacher: %.3f", reached)
    elif not trainer.measurable:
        log.warning("nothing fit for measuring is held out of the data, it is too small: there will be losses alone")


def pick_device(name: str, parallel: Parallel | None = None) -> str:
    """A device for "auto", "cpu" or "cuda"; processes of a machine share its GPUs evenly.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise InputError(f"--device {name!r} is unknown: choose auto, cpu or cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: PyTorch sees no GPU here; choose cpu")
    if kind == "cuda":
        torch.set_float32_matmul_precision("high")
        # On Hopper cuDNN's attention gives gradients that are not numbers for some lengths (pytorch issue 196678).
        torch.backends.cuda.enable_cudnn_sdp(False)
        if name == "cuda" and parallel:
            name = f"cuda:{parallel.local % torch.cuda.device_count()}"
    return name


def _features(options: Features) -> int:
    found = find_data(options.data)
    packs = [path for name, path in found if name == "pack"]
    if not packs:
        raise InputError("features are cached for packs only: give --data DIR (shards)")
    device = pick_device(options.device)
    teacher = open_teacher(options.teacher).to(device)
    pack = read_cached(packs, options.workers, options.cache)
    log.info("%s", describe_pack(pack))
    end = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    for done, count in make_features(
        pack, teacher, options.out, options.channels, options.batch, device, options.workers,
        first=options.first, basis=options.basis, enough=lambda: time.monotonic() >= end,
    ):  # fmt: skip
        log.info("features: %d of %d pictures", done, count)
    log.info("features are in %s: give --features %s", options.out, options.out)
    return 0


def _export(options: Export) -> int:
    device = pick_device(options.device)
    check_outputs(options.checkpoint, options.out, options.depths, options.also, options.onnx, options.state)
    sampler = None
    if options.samples:
        supply = open_data(
            options.data, memory=options.memory, workers=options.workers, tracks=True, cache=options.cache
        )
        sampler = supply.to(torch.device(device)).held_out
    files = export_run(
        options.checkpoint, options.out, options.depths, sampler, options.samples, options.score_clips,
        also=options.also, onnx=options.onnx, precision=options.precision, device=device,
    )  # fmt: skip
    if options.state:
        checkpoint.compact(options.checkpoint, options.state)
    for file in [*written(files, options.onnx), *([options.state] if options.state else [])]:
        log.info("%s", file)
    return 0


def stop_noted(trainer: Trainer) -> AbstractContextManager[Callable[[], int]]:
    """Let the first signal to stop (Ctrl-C, SIGTERM, SIGHUP) end the run after its step, saved; the second one at once.

    Gives what says which of them came, 0 for none.
    """

    def stop() -> None:
        trainer.stop = True
        log.warning("stopping after this step; the run will be saved")

    return noted(stop, always=(signal.SIGINT, signal.SIGTERM))


def speak() -> None:
    """Log to stderr, plainly."""
    logger = logging.getLogger("fartrack")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m fartrack.training.run STAGE ...`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in STAGES:
        print(f"usage: python -m fartrack.training.run {{{','.join(STAGES)}}} [--help]", file=sys.stderr)
        return 2
    return guarded(lambda: start(at_home(parse(STAGES[words[0]], words[1:], f"run {words[0]}"))))


if __name__ == "__main__":
    sys.exit(main())
