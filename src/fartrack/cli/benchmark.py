"""`fartrack benchmark`: how fast it is here, beside others."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import UseAppendAction, arg

from fartrack import __version__
from fartrack.engines import ENGINES
from fartrack.errors import InputError
from fartrack.files import write_whole

if TYPE_CHECKING:
    from fartrack.crops import Image
    from fartrack.geometry import Box

LONGEST = 300
"""Frames of a video that are kept, at most; of 1080p they take two gigabytes."""


@dataclass(frozen=True)
class Benchmark:
    """Measure speed: from a decoded frame to its box, and the network alone.

    Every model runs in every engine that is installed, in turns with the layout that was released (five templates
    embedded again and 445 tokens in every frame, PyTorch eager) and with OpenCV's trackers, so that a busy machine
    slows all alike: trust the ratios, which are taken turn by turn. The floor is the time of the matrix products alone.

    Writes benchmark.json, and speed.png when matplotlib is there and scores are known (from model cards or --scores).
    """

    model: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="MODEL...")] = ()
    """Packaged models or model files; by default every packaged one. LABEL=MODEL gives its rows a name."""
    runtime: Annotated[
        tuple[tuple[str, ...], ...],
        UseAppendAction,
        arg(metavar="RUNTIME...", help=f"Engines: {', '.join(ENGINES)}; by default those installed, but cuda."),
    ] = ()
    threads: Annotated[int | None, arg(metavar="N")] = None
    """CPU threads of everything; by default all cores."""
    peer: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="TRACKER...")] = ()
    """Others: csrt, kcf (run by themselves where OpenCV has them), nanotrackv2-opencv:DIR, nanotrackv3:DIR
    (in ONNX Runtime, with one thread as well), ..."""
    targets: Annotated[int, arg(metavar="N")] = 1
    """Also track so many targets at once with MultiTracker; its rows give the time of each."""
    no_dense: bool = False
    """Leave out the released layout (it needs PyTorch)."""
    no_floor: bool = False
    """Leave out the floor (it needs PyTorch or onnx)."""
    rounds: Annotated[int, arg(metavar="N")] = 15
    """Turns of ten frames that each gets."""
    video: Annotated[str | None, arg(metavar="SOURCE")] = None
    """Video to track in, with --box; by default the packaged clip."""
    box: Annotated[str | None, arg(metavar="X,Y,W,H")] = None
    """Target in the first frame of --video."""
    growth: Annotated[int, arg(metavar="FRAMES")] = 0
    """Instead: track this many frames with the first model and say how much memory grew; 20000 is a good number."""
    scores: Annotated[Path | None, arg(metavar="FILE")] = None
    """JSON of {name: accuracy in %} for the plot; names as in the table, or their part before the first space."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out/benchmark")
    """Folder for the results."""

    def run(self) -> int:
        """Measure, print and write."""
        from fartrack.evaluation import benchmark, contestants

        for name, number in (("--rounds", self.rounds), ("--targets", self.targets)):
            if number < 1:
                raise InputError(f"{name} is {number}: give 1 or more")
        if self.growth < 0:
            raise InputError(f"--growth is {self.growth}: give a number of frames")
        threads = benchmark.cores() if self.threads is None else self.threads
        if threads < 1:
            raise InputError(f"--threads is {threads}: give 1 or more")
        scores = _read_scores(self.scores)
        frames, box = self._frames()
        if self.growth:
            return self._grow(frames, box, threads)
        peers = [p for group in self.peer for p in group]
        everybody = contestants.gather(
            self._models, self._runtimes, peers, threads, self.targets, dense=not self.no_dense
        )
        floors = [] if self.no_floor else benchmark.floors_of(everybody, threads)
        self.out.mkdir(parents=True, exist_ok=True)

        from rich.progress import Progress

        warmup = benchmark.WARMUP
        with Progress(transient=True) as bar:
            task = bar.add_task("measuring", total=self.rounds + warmup)
            benchmark.race(
                everybody, floors, frames, box, self.rounds, warmup, lambda done: bar.update(task, completed=done)
            )
        height, width = frames[0].shape[:2]
        result = {
            "fartrack": __version__,
            "processor": benchmark.processor(),
            "threads": threads,
            "versions": benchmark.versions(),
            "frame": [width, height],
            "timed": "update(frame): decoded frame in, box out; milliseconds",
            "frames": self.rounds * benchmark.TURN,
            "warm_up": f"{warmup} rounds, and the first of every {benchmark.TURN + 1} consecutive frames",
            "rows": [benchmark.row_of(one, everybody, floors, scores) for one in everybody],
            "floors": [
                {
                    "model": f.config.name,
                    "update_interval": f.config.renewal,
                    "precision": f.precision,
                    "milliseconds": 1e3 * f.seconds(),
                }
                for f in floors
            ],
        }
        _print(result)  # first: whatever becomes of the files, minutes were spent on it
        write_whole(self.out / "benchmark.json", json.dumps(result, indent=1) + "\n")
        print(self.out / "benchmark.json")
        if plot(result["rows"], self.out / "speed.png"):  # type: ignore[arg-type]
            print(self.out / "speed.png")
        return 0

    @property
    def _models(self) -> list[str]:
        return [m for group in self.model for m in group]

    @property
    def _runtimes(self) -> list[str]:
        return [r for group in self.runtime for r in group]

    def _frames(self) -> tuple[list[Image], Box]:
        from fartrack.cli.parse import parse_box
        from fartrack.evaluation import benchmark
        from fartrack.geometry import check_box
        from fartrack.video.demo import CLIP, about
        from fartrack.video.reader import frames_from_source

        if (self.video is None) != (self.box is None):
            raise InputError("--video and --box belong together: give both, or neither for the packaged clip")
        count = LONGEST if self.growth else min(LONGEST, benchmark.frames_of(self.rounds))
        box = about()["box"] if self.box is None else parse_box(self.box)
        with frames_from_source(self.video or CLIP) as source:
            checked = check_box(box, source.width, source.height)
            frames = [frame.image for frame in itertools.islice(source, count)]
        if len(frames) < 2:
            raise InputError(f"{self.video} has {len(frames)} frame: give a video of at least two")
        return frames, checked

    def _grow(self, frames: list[Image], box: Box, threads: int) -> int:
        from fartrack import models
        from fartrack.evaluation import benchmark
        from fartrack.evaluation.peers import labelled
        from fartrack.tracker import Tracker

        texts = self._models or [path.stem for path in models.packaged()]
        runtime = next(iter(self._runtimes), "onnxruntime")
        if not texts:
            raise InputError("no models are packaged: give a model file with --model FILE")
        label, model = labelled(texts[0])
        name = f"{label or model} {runtime}"
        before, after = benchmark.growth(Tracker(model, runtime, threads), frames, box, self.growth)
        grown = (after - before) / 1e6
        early, late = benchmark.SETTLE, self.growth
        print(f"{name}: {before / 1e6:.1f} MB after {early} frames, {grown:+.2f} MB after {late} more")
        return 0


def _read_scores(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        return {str(k): float(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not JSON of {{name: accuracy}} ({error})") from None


def _print(result: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    table.add_column("", no_wrap=True)
    for name in (
        "precision",
        "ms",
        "p95",
        "fps",
        "network ms",
        "p95",
        "around",
        "x released",
        "floor ms",
        "x floor",
        "M par.",
        "G MAC",
    ):
        table.add_column(name, justify="right")

    def shown(row: dict[str, Any], key: str, form: str, scale: float = 1) -> str:
        return format(row[key] * scale, form) if key in row else "-"

    for row in result["rows"]:
        table.add_row(
            row["name"],
            row["precision"] or "-",
            shown(row, "frame_median", ".2f"),
            shown(row, "frame_p95", ".2f"),
            shown(row, "fps", ".0f"),
            shown(row, "network_median", ".2f"),
            shown(row, "network_p95", ".2f"),
            shown(row, "around", ".0%"),
            shown(row, "times_released", ".2f"),
            shown(row, "floor", ".2f"),
            shown(row, "over_floor", ".2f"),
            shown(row, "parameters", ".2f", 1e-6),
            shown(row, "macs", ".2f", 1e-9),
        )
    width = None if Console().is_terminal else 200
    console = Console(width=width, markup=False, emoji=False)  # names such as `m[v1]` are no markup
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    console.print(f"{result['processor']}, {result['threads']} threads; {versions}")
    console.print(table)
    for row in result["rows"]:
        if "extra_target" in row:
            share = f"{row['extra_target']:.0%} of a tracker of its own"
            console.print(f"{row['name']}: one target more costs {share} ({row['precision']})")
    console.print(
        f"milliseconds from a decoded {result['frame'][0]} x {result['frame'][1]} frame to its box, median of "
        f"the turns' means ({result['frames']} frames), p95 of frames; warm-up: {result['warm_up']}"
    )


def plot(rows: Sequence[dict[str, Any]], path: Path) -> bool:
    """Accuracy over speed of the rows that have a score; whether there was anything to draw with."""
    points = [row for row in rows if "score" in row]
    if not points or not importlib.util.find_spec("matplotlib"):
        return False
    from fartrack.evaluation import plots

    with plots.any_script():
        write_whole(path, plots.png(plots.draw_speed(points)))
    return True
