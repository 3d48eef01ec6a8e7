"""int8 and bfloat16 for packaged models: made, measured on sequences, and used by default where accuracy holds.

    python -m fartrack.evaluation.fast pico nano tiny --sequences DIR --crops FILE --share pico tiny nano

writes `weights/int8/NAME.onnx` and in the model's card "fast" (what holds, fastest first, for
`fartrack.runtime.choice`) and "fast_ao" (what was measured), then keeps once what the files of a family have in common
(`fartrack.sharing`). To be run again whenever the weights change.

Accuracy is compared over many short passes (`fartrack.evaluation.passes`): one long pass swings by two points through a
rounding, four times what is asked.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated

from tyro.conf import Positional, arg

from fartrack import models
from fartrack.errors import INSTALL_TRAIN, InputError
from fartrack.evaluation.datasets import open_folder
from fartrack.evaluation.passes import begun_anew
from fartrack.evaluation.results import load_annotations, score_folder
from fartrack.evaluation.run import evaluate
from fartrack.files import write_whole
from fartrack.guard import guarded
from fartrack.tracker import Tracker

CANDIDATES = (("int8", "openvino-bf16"), ("fp16", "openvino-bf16"), ("int8", "openvino"), ("int8", "onnxruntime"))
"""Precision of the file and engine, fastest first, as `fartrack benchmark` found them."""
FLOAT = ("fp16", "onnxruntime")
LOSS = 0.5
"""Points of AO that may be lost."""

Measure = Callable[[Path, str], float]
"""(model file, engine) -> AO in %."""


@dataclass(frozen=True)
class Fast:
    """Make int8 files of packaged models, and find out which arithmetic holds their accuracy."""

    model: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL...")]
    """Names of packaged models."""
    sequences: Annotated[Path, arg(metavar="DIR")]
    """Where AO is measured: NAME/img/*.jpg with NAME/groundtruth_rect.txt."""
    crops: Annotated[Path | None, arg(metavar="PATH")] = None
    """Where int8 takes its ranges, not from those sequences: a folder like that, or a video-*.tar of the training pack;
    else the demo clip."""
    frames: Annotated[tuple[int, ...], arg(metavar="N...")] = (40, 60)
    """Frames of a pass: sequences are begun anew with the true box at every half of that. 0: one pass through each.
    Of several lengths the mean of their AO counts: of one alone, a target lost by a rounding is worth half a point."""
    workers: Annotated[int, arg(metavar="N")] = 1
    """Sequences at a time."""
    share: Annotated[tuple[str, ...], arg(metavar="MODEL...")] = ()
    """Packaged models of one family, the first to stay whole: what they have in common is then kept once."""
    room: Annotated[float, arg(metavar="MB")] = 38.7
    """What all model files of the package may take together; int8 files beyond that are left out, the last first. With
    --share that is looked at in the end, and nothing is left out."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out/fast")
    """Folder for the results; what is there already is not measured again."""

    def run(self) -> int:
        """Make, measure, write."""
        if not self.frames:
            raise InputError("--frames has no number: give at least one, as 60")
        family = [models.find(name) for name in self.share]
        open_folder(self.sequences)  # what is wrong with them is said before anything is removed
        try:
            import fartrack.export
            import fartrack.sharing  # noqa: F401 - what is missing as well
        except ModuleNotFoundError as error:
            raise InputError(f"int8 files need {error.name}: {INSTALL_TRAIN}") from None
        self.out.mkdir(parents=True, exist_ok=True)
        paths = [models.find(name) for name in self.model]
        rounded = [models.int8_of(path) for path in paths]
        _check_none_depends(rounded)
        with _as_before_if_it_fails([*rounded, *(path.with_suffix(".json") for path in paths)]):
            for number, name in enumerate(self.model, start=1):
                found = self._decide(name, rounded[number:])
                print(name, *(f"{label} {ao:.1f}" for label, ao in found.items()), sep="  ")
        if family:
            self._share(family)
        return 0

    def _share(self, family: Sequence[Path]) -> None:
        """Keep once what the files have in common, in float and in int8, unless that is so already."""
        from fartrack.sharing import referred, share

        for files in (family, [path for path in map(models.int8_of, family) if path.exists()]):
            if not any(referred(path) for path in files):
                share(files)
        size = room_taken(family[0].parent)
        if size > self.room:
            raise InputError(f"the model files take {size:.1f} MB, more than --room {self.room:g}: leave one out")

    def _decide(self, name: str, later: Sequence[Path]) -> dict[str, float]:
        """Make and measure; files that are made anew `later` are not in its way."""
        from fartrack.export import export

        path = models.find(name)
        rounded = models.int8_of(path)
        for file in later:
            file.unlink(missing_ok=True)
        print(export(models.load_network(path), rounded, "int8", crops=self.crops))

        def mean(model: Path, engine: str) -> float:
            return fmean(
                measure(self.sequences, self.out / f"{name}-{frames}", self.workers, frames, model, engine)
                for frames in self.frames
            )

        return decide(path, mean, math.inf if self.share else self.room)


@contextmanager
def _as_before_if_it_fails(files: Sequence[Path]) -> Iterator[None]:
    """Put all of them back, also on Ctrl-C: tensors of one may lie in another, and hours lie between them."""
    before = {file: file.read_bytes() for file in files if file.exists()}
    try:
        yield
    except BaseException:
        for file, content in before.items():
            write_whole(file, content)
        raise


def _check_none_depends(made: Sequence[Path]) -> None:
    """Refuse to make files anew in which tensors of others lie."""
    from fartrack.sharing import referred

    for other in sorted({file for path in made for file in path.parent.glob("*.onnx")} - set(made)):
        if parts := sorted(referred(other) & {path.name for path in made}):
            raise InputError(f"tensors of {other} lie in {parts[0]}, which would be made anew: name {other.stem} too")


def decide(path: Path, ao_of: Measure, room: float = math.inf) -> dict[str, float]:
    """Measure a model in every arithmetic that this machine can run, and write into its card what holds.

    Args:
        path: the float file; its int8 file lies in `models.int8_of(path)` and is removed when it is of no use.
        ao_of: measures.
        room: MB for all model files of the folder, this int8 file among them.

    Returns:
        AO in % by "precision engine"; the float one is the first.
    """
    from fartrack.runtime.choice import runs_here

    rounded = models.int8_of(path)
    found = {" ".join(FLOAT): ao_of(path, FLOAT[1])}
    least = found[" ".join(FLOAT)] - LOSS
    fast = []
    fits = room_taken(path.parent) <= room
    if not fits:
        print(f"{rounded} does not fit into --room {room:g}: it is measured and left out")
    for precision, engine in CANDIDATES:
        if runs_here(precision, engine):
            ao = ao_of(rounded if precision == "int8" else path, engine)
            found[f"{precision} {engine}"] = ao
            if ao >= least and (precision != "int8" or fits):
                fast.append([precision, engine])
    card = models.card(path) | {"fast": fast, "fast_ao": {label: round(ao, 2) for label, ao in found.items()}}
    write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    if not any(precision == "int8" for precision, _ in fast):
        rounded.unlink(missing_ok=True)
    return found


def room_taken(folder: Path) -> float:
    """MB of all model files in it."""
    return sum(file.stat().st_size for file in folder.rglob("*.onnx")) / 1e6


def measure(sequences: Path, out: Path, workers: int, frames: int, model: Path, engine: str) -> float:
    """AO in % of a model over a folder of sequences in passes of so many frames (0: whole), one thread.

    Raises:
        InputError: a sequence failed.
    """
    dataset = open_folder(sequences)
    dataset = begun_anew(dataset, frames) if frames else dataset
    label = f"{hashlib.sha256(model.read_bytes()).hexdigest()[:12]}-{engine}"
    outcome = evaluate(dataset, partial(Tracker, model, engine, 1), out / label, workers)
    if outcome.failed:
        raise InputError(f"{', '.join(outcome.failed)} failed with {model} in {engine}: see {out / label}")
    summary = score_folder(label, out / label, load_annotations(dataset)).summary
    if summary is None or summary.ao is None:
        raise InputError(f"{sequences} has no boxes to compare with: give a folder with groundtruth_rect.txt")
    return 100 * summary.ao


def main(arguments: list[str] | None = None) -> int:
    """Run it from the command line."""
    import tyro

    return guarded(lambda: tyro.cli(Fast, args=arguments, prog="python -m fartrack.evaluation.fast").run())


if __name__ == "__main__":
    sys.exit(main())
