"""`fartrack evaluate`: run trackers over a benchmark and print the table."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from fartrack.cli.options import ENGINE_CHOICE
from fartrack.errors import InputError

if TYPE_CHECKING:
    from fartrack.evaluation.peers import Model
    from fartrack.evaluation.results import Annotations, Scored
    from fartrack.evaluation.run import Outcome
    from fartrack.evaluation.sequences import Dataset

SUMMARY = "summary.json"
SEEN = {"uav123": "UAV123"}
"""Data sets of which parts are in what the packaged weights were trained on."""


@dataclass(frozen=True)
class Evaluate:
    """Run trackers over every sequence of a benchmark, once each, then print accuracy and speed.

    Results are text files, one of each kind per sequence, written as each sequence ends: run the same command again
    and it goes on where it was. A sequence that fails is named and does not stop the others; the exit code is then 1.

    Other trackers run the same way: csrt, kcf and mil of OpenCV, nanotrackv2:DIR and nanotrackv3:DIR with the ONNX
    files in DIR, my.module:make with whatever has init and update. LABEL=MODEL gives a row its name.
    """

    dataset: Annotated[Positional[str], arg(metavar="DATASET")]
    """folder, otb, lasot, lasot-ext, got10k-val, got10k-test, trackingnet, uav123, nfs, vasttrack, davis or vot."""
    root: Annotated[Path, arg(metavar="DIR")]
    """Folder of the benchmark (docs/benchmarks.md says what it looks like)."""
    model: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="MODEL...")] = ()
    """Packaged model, model file or another tracker; several make several rows. Default: pico."""
    runtime: Annotated[str | None, arg(metavar="RUNTIME", help=f"Engine of our models: {ENGINE_CHOICE}")] = None
    seek: bool = False
    """Our models look for a lost target elsewhere in the frame too, which the paper's tracker does not."""
    threads: Annotated[int, arg(metavar="N")] = 1
    """CPU threads of each tracker. Results are the same bytes only for the same number."""
    workers: Annotated[int, arg(metavar="N")] = 1
    """Sequences at a time, each in a process of its own. Speeds are honest while there is a core for each thread."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder for the results, one folder in it for each model. Default: out/evaluation/DATASET."""
    only: Annotated[tuple[str, ...], arg(metavar="NAME...")] = ()
    """Run these sequences alone."""
    passes: Annotated[int, arg(metavar="N")] = 0
    """Instead of one pass through each sequence many short ones, of so many frames, from true boxes half of that apart:
    a measure with less chance in it, for comparing. No benchmark counts so. 0: one pass."""
    starts: Annotated[int, arg(metavar="K")] = 0
    """Instead of one pass through each sequence so many, from its first K frames to its end. 0: one pass."""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """Run on a Ray cluster (auto, HOST:PORT, ray://HOST:PORT), or on one started here (local)."""

    def run(self) -> int:
        """Evaluate, print the table, and return 1 when something failed."""
        from fartrack.evaluation.datasets import open_dataset
        from fartrack.evaluation.passes import begun_anew, begun_later
        from fartrack.evaluation.peers import parse_model, refuse_twins
        from fartrack.evaluation.results import load_annotations, score_folder

        if self.workers < 1 or self.threads < 1:
            raise InputError("--workers and --threads: give 1 or more")
        if self.passes and self.starts:
            raise InputError("--passes and --starts are two measures: give one of them")
        specs = [spec for group in self.model for spec in group] or ["pico"]
        models = [parse_model(spec, self.runtime, self.threads, self.seek) for spec in specs]
        labels = [model.label for model in models]
        refuse_twins(labels)
        dataset = open_dataset(self.dataset, self.root).read_once()
        if self.only:
            dataset = dataset.only(list(self.only))
        if self.passes:
            dataset = begun_anew(dataset, self.passes)
        if self.starts:
            dataset = begun_later(dataset, self.starts)
        for model in models:
            model.open()  # one that cannot be opened is said before hours are spent on the others

        out = self.out or Path("out", "evaluation", dataset.name)
        failed = 0
        for model in models:
            failed += len(self._evaluate(dataset, model, out / model.label).failed)
        if dataset.hidden:
            return self._submit(dataset, models, out) or int(failed > 0)
        annotations = load_annotations(dataset)
        scored = [score_folder(model.label, out / model.label, annotations) for model in models]
        earlier = [score_folder(name, out / name, annotations) for name in _others(out, dataset, labels)]
        _write_summary(out / SUMMARY, annotations, [*scored, *earlier])
        _print_table(annotations, scored)
        seen = _packaged_of(models) if self.dataset in SEEN else ""
        if seen:
            print(f"note: parts of {SEEN[self.dataset]} are in the training data of {seen}: do not report as unseen")
        return int(failed > 0 or any(entry.problems for entry in scored))

    def _evaluate(self, dataset: Dataset, model: Model, folder: Path) -> Outcome:
        """Run one tracker under a progress bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from fartrack import __version__
        from fartrack.evaluation.run import FAILURES, Event, evaluate

        console = Console(stderr=True)
        progress = Progress(
            TextColumn("{task.description}", markup=False),  # a name such as `m[v1]`
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("sequences  {task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        about = {"dataset": dataset.name, **model.fingerprint(), "threads": str(self.threads), "fartrack": __version__}
        with progress:
            bar = _Bar(progress, model.label, len(dataset))

            def on_event(event: Event) -> None:
                bar.tell(event)
                if event.kind == "failed":
                    print(f"fartrack: {model.label}: {event.name} failed: {event.reason}", file=sys.stderr)

            outcome = evaluate(
                dataset, model.open, folder, self.workers,
                threads=self.threads, ray=self.ray, about=about, on_event=on_event,
            )  # fmt: skip
        if outcome.resumed:
            print(f"fartrack: {model.label}: {len(outcome.resumed)} sequences were there already", file=sys.stderr)
        if outcome.failed:
            where = folder / FAILURES
            print(
                f"fartrack: {model.label}: {len(outcome.failed)} of {len(dataset)} failed, see {where}", file=sys.stderr
            )
        return outcome

    def _submit(self, dataset: Dataset, models: list[Model], out: Path) -> int:
        """Pack results for the server of a benchmark whose annotation is not public."""
        from fartrack.evaluation.results import pack_submission

        if self.only:
            print("fartrack: no submission: --only leaves sequences out, and the server wants all", file=sys.stderr)
            return 0
        code = 0
        for model in models:
            path = out / f"{model.label}_{dataset.name}.zip"
            try:
                pack_submission(dataset, out / model.label, path)
                print(f"{path}  (upload this to the benchmark's server)")
            except InputError as error:
                print(f"fartrack: no submission of {model.label}: {error}", file=sys.stderr)
                if path.is_file():  # it would be taken for this run's; the results make it again
                    path.unlink()
                    print(f"fartrack: removed {path}, which an earlier run made", file=sys.stderr)
                code = 1
        return code


def _packaged_of(models: list[Model]) -> str:
    """The rows that a packaged name runs in."""
    from fartrack.evaluation.peers import Ours
    from fartrack.models import packaged

    names = {path.stem for path in packaged()}
    return ", ".join(model.label for model in models if isinstance(model, Ours) and model.model in names)


class _Bar:
    """One progress bar: sequences, with the part of those that are running."""

    def __init__(self, progress: Any, label: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total, speed="")
        self._parts: dict[str, float] = {}
        self._ended = 0

    def tell(self, event: Any) -> None:
        """Move the bar."""
        if event.kind == "frames":
            self._parts[event.name] = event.frames / event.total
        else:
            self._parts.pop(event.name, None)
            self._ended += 1
        speed = ""
        if event.result is not None and len(event.result.times) > 1:
            speed = f"{(len(event.result.times) - 1) / max(1e-9, float(event.result.times[1:].sum())):.0f} fps"
            self._progress.update(self._task, speed=speed)
        self._progress.update(self._task, completed=self._ended + sum(self._parts.values()))


def _print_table(annotations: Annotations, scored: list[Scored]) -> None:
    from rich.console import Console
    from rich.table import Table

    from fartrack.evaluation.results import COLUMNS, notes

    dataset = annotations.dataset
    count = "1 sequence" if len(dataset) == 1 else f"{len(dataset)} sequences"
    title = f"{dataset.name}, {count} of {dataset.root}"
    table = Table(title=title, title_justify="left")
    table.add_column("tracker", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column("sequences", justify="right", no_wrap=True)
    for entry in scored:
        numbers = [column.text(entry.summary) if entry.summary else "-" for column in COLUMNS]
        table.add_row(entry.label, *numbers, f"{len(entry.scores)}/{len(dataset)}")
    width = None if Console().is_terminal else 120
    Console(width=width, markup=False, emoji=False).print(table)  # names such as `m[v1]` are no markup
    for line in notes(annotations, scored):
        print(f"note: {line}")


def _others(out: Path, dataset: Dataset, labels: list[str]) -> list[str]:
    """Trackers whose results of earlier commands lie there: the summary is of all of them."""
    from fartrack.evaluation.run import belongs_to

    folders = sorted(folder for folder in out.iterdir() if folder.is_dir() and folder.name not in labels)
    return [folder.name for folder in folders if belongs_to(folder).get("dataset") == dataset.name]


def _write_summary(path: Path, annotations: Annotations, scored: list[Scored]) -> None:
    """The numbers of every tracker there, and of each sequence, for other programs."""
    from fartrack.files import write_whole

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return [plain(v) for v in value.tolist()] if hasattr(value, "tolist") else value

    models = {}
    for entry in scored:
        summary = {} if entry.summary is None else {key: plain(v) for key, v in asdict(entry.summary).items()}
        sequences = {
            name: {"ao": plain(score.ao), "auc": plain(score.auc), "frames": score.frames, "blank": score.blank}
            for name, score in entry.scores.items()
        }
        models[entry.label] = {"summary": summary, "sequences": sequences, "problems": dict(entry.problems)}
    dataset = annotations.dataset
    data = {"dataset": dataset.name, "sequences": len(dataset), "missing": dataset.missing, "models": models}
    write_whole(path, json.dumps(data, indent=1) + "\n")
