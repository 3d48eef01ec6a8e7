"""Starting a stage: `fartrack train STAGE ...`, or without any extra package

python -m fartrack.training.run STAGE --steps 1000 --model.depth 15 --data DIR
torchrun --nproc-per-node 8 -m fartrack.training.run STAGE ...
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import signal
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn

import cv2
import torch

from fartrack.errors import InputError
from fartrack.files import at_home
from fartrack.signals import handled
from fartrack.training import checkpoint
from fartrack.training.backbone import BackboneTrainer, can_match, matching, with_backgrounds
from fartrack.training.cache import read_cached
from fartrack.training.data import Resident, Supply, describe_pack, find_data, open_data
from fartrack.training.features import TABLE, TeacherFeatures, make_features
from fartrack.training.finish import check_outputs, export_run
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
    options = typing.cast(Run, trainer.train)
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


def make_trainer(options: Run, parallel: Parallel | None = None, supply: Supply | None = None) -> Trainer:
    """The trainer of a stage, ready to run: data opened, weights or an earlier state taken over.

    Args:
        options: of the stage.
        parallel: the other processes.
        supply: the data, when it is open already.
    """
    parallel = parallel or Parallel()
    device = pick_device(options.device, parallel)
    last = options.out / LAST
    removes = isinstance(options, Distill) and options.method == "removal"
    if options.init and options.resume and not removes:
        raise InputError("--init and --resume both say what to begin with: give one of them")
    base = _base(options, last)
    model = options.model
    if isinstance(options, Distill):
        _check_method(options)
        if not removes and not options.exits:
            options = dataclasses.replace(options, exits=tuple(range(options.lowest, model.depth + 1)))
    options = dataclasses.replace(options, steps=base + options.steps)
    if options.above and not options.init:
        raise InputError(f"--above {options.above} has nothing to stand on: give --init")
    if removes and not options.init:
        raise InputError("--method removal needs a trained network to take layers from: give --init")
    if options.features and not (options.features / TABLE).exists():
        raise FileNotFoundError(f"--features {options.features} has no {TABLE}: make it with `fartrack train features`")
    kind = RemovalTrainer if removes else TRAINERS[type(options)]
    kind.check_options(model, options, parallel.world, options.features is not None)
    more = {"teacher": open_teacher(options.teacher)} if isinstance(options, Backbone) and options.teacher else {}
    source = last if last.exists() else options.resume
    state = checkpoint.load(source)[1] if source is not None else {}
    if source is not None:
        kind.check_state(source, state, model, options.optimizer)
    # What goes on has its weights; but what layers are removed from is taught by the network that it began with.
    begins = removes or source is None
    weights, own = open_start(options.init, model, options.above) if options.init and begins else (None, None)
    model = with_score(model, state["model"] if source is not None else vars(own) if own is not None else {})
    options = dataclasses.replace(options, model=model)
    supply = supply or open_data(
        options.data, memory=options.memory, steps=options.chunk_steps, workers=options.workers, seed=options.seed,
        gap=options.synth.gap, tracks=isinstance(options, Sparsify), rank=parallel.rank,
        cache=options.cache,
    )  # fmt: skip
    if isinstance(options, Backbone) and isinstance(supply, Resident):
        supply = Resident(with_backgrounds(supply.pack))
    features = None
    if options.features:
        if not isinstance(supply, Resident):
            raise InputError("--features holds the pictures of a pack: train on packs alone, or leave it out")
        features = TeacherFeatures(options.features, supply.pack)
    trainer = kind(model, options, supply, features, device, parallel, **more)
    trainer.base = base
    if weights is not None:
        missing = trainer.start_from(weights)
        log.info(
            "start: %s, %d layers%s", options.init, depth_of(weights), f"; new: {', '.join(missing)}" if missing else ""
        )
    if isinstance(trainer, RemovalTrainer):
        trainer.teach(trainer.average)
    if source is not None:
        trainer.load(source)
        log.info("%s %s at step %d", "going on with" if source == last else "branching off from", source, trainer.step)
        now = trainer.supply.fingerprint
        if (before := state.get("data", now)) != now:
            log.warning(
                "%s learned from other data (fingerprint %s, now %s): what is held out now may have been among it",
                source, before, now,
            )  # fmt: skip
    step = torch.tensor(float(trainer.step), device=trainer.device)
    if float(parallel.mean(step)) != trainer.step:
        raise InputError(
            f"not every process has step {trainer.step} of {last}: give an --out that all machines share, or copy it"
        )
    # Only now: shares of the data that are streamed are decoded for the step they are asked for.
    if isinstance(trainer, BackboneTrainer):
        if not can_match(trainer.sampler):
            log.warning("the matching number needs tracks, and the data has none: it is left out")
        elif trainer.teacher is not None and not last.exists() and parallel.first:
            log.info("matching number of the teacher: %.3f", matching(trainer.teacher, trainer.sampler, model))
    elif not trainer.measurable:
        log.warning("nothing fit for measuring is held out of the data, it is too small: there will be losses alone")
    return trainer


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


def _base(options: Run, last: Path) -> int:
    """The step at which a run branched off from another, 0 for one that did not."""
    if last.exists():
        return int(checkpoint.load(last)[1].get("base", 0))
    if options.resume is None:
        return 0
    state = checkpoint.load(options.resume)[1]
    if "step" not in state:  # a decoded pack's tables, say
        raise InputError(f"--resume {options.resume} is no checkpoint of a run: give its last.safetensors")
    return int(state["step"])


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
    for file in [*files, *([options.state] if options.state else [])]:
        log.info("%s", file)
    return 0


@contextmanager
def stop_noted(trainer: Trainer) -> Iterator[Callable[[], int]]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP end the run after its step, saved; the second one ends it at once.

    Gives what says which of them came, 0 for none.
    """
    caught: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        trainer.stop = True
        log.warning("stopping after this step; the run will be saved")

    # A closed terminal ends a run too, unless `nohup` has it go on.
    closed = [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL else []
    with handled(stop, (signal.SIGINT, signal.SIGTERM, *closed)):
        yield lambda: caught[0] if caught else 0


def speak() -> None:
    """Log to stderr, plainly."""
    logger = logging.getLogger("fartrack")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


# -- options without tyro --------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, as tyro's command line does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; --help lists the options")


def parse(kind: type, arguments: Sequence[str], program: str = "run") -> Any:
    """A frozen dataclass of options from ``--name value``; nested ones have dotted names, `--json FILE` gives many.

    Raises:
        InputError: there is no such option or value, or the file is no JSON.
    """
    parser = _Parser(program, allow_abbrev=False)
    parser.add_argument("--json", type=Path, help="file with options by name, dotted or nested")
    _add(parser, kind, "")
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    path = given.pop("json", None)
    if path is not None:
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"--json {path} cannot be read: {error}") from None
        if not isinstance(read, dict):
            raise InputError(f'--json {path} holds no options by name: give an object, such as {{"steps": 100}}')
        filed = _flat(read)
        words: list[str] = []
        for name, value in filed.items():
            if isinstance(value, bool):
                words.append(f"--{name if value else _negative(name)}")
            elif value is not None:
                words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        given = {k: v for k, v in vars(parser.parse_args(words)).items() if v is not None and k != "json"} | given
    return _build(kind, given, "")


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        name = before + name.replace("_", "-")
        result |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return result


def _add(parser: argparse.ArgumentParser, kind: type, before: str) -> None:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = before + field.name.replace("_", "-"), hints[field.name]
        if dataclasses.is_dataclass(hint):
            _add(parser, typing.cast(type, hint), f"{name}.")
            continue
        required = not before and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        if typing.get_origin(hint) is Literal:
            parser.add_argument(f"--{name}", choices=typing.get_args(hint), required=required)
        elif typing.get_origin(hint) is tuple:
            parser.add_argument(
                f"--{name}", nargs="*", action="extend", type=typing.get_args(hint)[0], required=required
            )
        elif hint is bool:
            key = before + field.name
            parser.add_argument(f"--{name}", dest=key, action="store_true", default=None)
            parser.add_argument(f"--{_negative(name)}", dest=key, action="store_false", default=None)
        else:
            parser.add_argument(f"--{name}", type=hint, required=required)


def _negative(name: str) -> str:
    """``model.withhold`` -> ``model.no-withhold``, as tyro has it."""
    before, dot, own = name.rpartition(".")
    return f"{before}{dot}no-{own}"


def _build(kind: type, given: dict[str, Any], before: str, default: Any = None) -> Any:
    values = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        key = before + field.name  # argparse turns dashes into underscores, dots stay
        if dataclasses.is_dataclass(hints[field.name]):
            own = getattr(default, field.name) if default is not None else _default(field)
            values[field.name] = _build(typing.cast(type, hints[field.name]), given, f"{key}.", own)
        elif key in given:
            values[field.name] = tuple(given[key]) if isinstance(given[key], list) else given[key]
        elif default is not None:
            values[field.name] = getattr(default, field.name)
    return kind(**values)


def _default(field: Any) -> Any:
    return field.default_factory() if field.default is dataclasses.MISSING else field.default


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m fartrack.training.run STAGE ...`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in STAGES:
        print(f"usage: python -m fartrack.training.run {{{','.join(STAGES)}}} [--help]", file=sys.stderr)
        return 2
    try:
        return start(at_home(parse(STAGES[words[0]], words[1:], f"run {words[0]}")))
    except (InputError, OSError) as error:
        print("fartrack:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fartrack: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
