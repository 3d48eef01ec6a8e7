"""`fartrack benchmark`: how fast it is here, beside others."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import UseAppendAction, arg

from fartrack import __version__
from fartrack.errors import InputError
from fartrack.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fartrack.crops import Image
    from fartrack.evaluation.benchmark import Contestant, Floor
    from fartrack.geometry import Box

RUNTIMES = ("onnxruntime", "openvino", "openvino-bf16", "opencv", "torch")
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
    runtime: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="RUNTIME...")] = ()
    """Engines: onnxruntime, openvino, openvino-bf16, opencv, torch, cuda; by default those
    installed, but cuda."""
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
    """Turns of four frames that each gets."""
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
        from fartrack.evaluation import benchmark

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
        contestants = self._contestants(threads)
        floors = [] if self.no_floor else _floors(contestants, threads)
        self.out.mkdir(parents=True, exist_ok=True)

        from rich.progress import Progress

        warmup = benchmark.WARMUP
        with Progress(transient=True) as bar:
            task = bar.add_task("measuring", total=self.rounds + warmup)
            benchmark.race(
                contestants, floors, frames, box, self.rounds, warmup, lambda done: bar.update(task, completed=done)
            )
        height, width = frames[0].shape[:2]
        result = {
            "fartrack": __version__,
            "processor": benchmark.processor(),
            "threads": threads,
            "versions": _versions(),
            "frame": [width, height],
            "timed": "update(frame): decoded frame in, box out; milliseconds",
            "frames": self.rounds * benchmark.TURN,
            "warm_up": f"{warmup} rounds, and the first of every {benchmark.TURN + 1} consecutive frames",
            "rows": [_row(one, contestants, floors, scores) for one in contestants],
            "floors": [
                {"model": f.config.name, "precision": f.precision, "milliseconds": 1e3 * f.seconds()} for f in floors
            ],
        }
        _print(result)  # first: whatever becomes of the files, minutes were spent on it
        write_whole(self.out / "benchmark.json", json.dumps(result, indent=1) + "\n")
        print(self.out / "benchmark.json")
        if plot(result["rows"], self.out / "speed.png"):  # type: ignore[arg-type]
            print(self.out / "speed.png")
        return 0

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

    def _contestants(self, threads: int) -> list[Contestant]:
        import cv2

        from fartrack import models
        from fartrack.evaluation.benchmark import Contestant, Crowd
        from fartrack.evaluation.peers import Nano, parse_model
        from fartrack.multitracker import MultiTracker
        from fartrack.runtime.choice import choose
        from fartrack.tracker import Tracker

        cv2.setNumThreads(threads)
        named = _named([m for group in self.model for m in group])
        paths = [path for _, path in named]
        asked = [r for group in self.runtime for r in group]
        found: list[Contestant] = []
        for label, path in named:
            file, engine = choose(path.stem) if path.parent == models.WEIGHTS else (path, None)
            if engine is not None and not asked:
                packaged = Tracker(file, engine, threads)
                name, precision = f"{label} as packaged", packaged.runtime.precision
                found.append(Contestant(name, packaged, engine, precision, packaged.config, file=path))
            refused: list[InputError] = []
            for runtime in asked or RUNTIMES:
                try:
                    tracker = Tracker(path, runtime, threads)
                except InputError as error:
                    refused.append(error)
                    if asked or len(refused) == len(RUNTIMES):
                        raise refused[0] from None
                    continue  # not installed, or it cannot run this kind of file
                name = f"{label} {runtime}"
                precision = getattr(tracker.runtime, "precision", "")
                found.append(Contestant(name, tracker, runtime, precision, tracker.config, file=path))
                if self.targets > 1:
                    crowd = Crowd(MultiTracker(path, runtime, threads), self.targets)
                    name = f"  {label}, each of {self.targets} targets, {runtime}"
                    config, several = tracker.config, self.targets
                    found.append(Contestant(name, crowd, runtime, precision, config, targets=several, file=path))
        if not self.no_dense and importlib.util.find_spec("torch"):
            found += _dense(found, paths, threads)
        for spec in [*_opencv_peers(), *(p for group in self.peer for p in group)]:
            peer = parse_model(spec, threads=threads)
            found.append(Contestant(peer.label, peer.open()))
            if threads > 1 and isinstance(peer, Nano):  # ONNX Runtime shares its small products among two at a loss
                found.append(Contestant(f"{peer.label}, one thread", replace(peer, threads=1).open()))
        return found

    def _grow(self, frames: list[Image], box: Box, threads: int) -> int:
        from fartrack import models
        from fartrack.evaluation import benchmark
        from fartrack.evaluation.peers import labelled
        from fartrack.tracker import Tracker

        paths = [m for group in self.model for m in group] or [p.stem for p in models.packaged()]
        runtime = next((r for group in self.runtime for r in group), "onnxruntime")
        if not paths:
            raise InputError("no models are packaged: give a model file with --model FILE")
        label, model = labelled(paths[0])
        name = f"{label or model} {runtime}"
        before, after = benchmark.growth(Tracker(model, runtime, threads), frames, box, self.growth)
        grown = (after - before) / 1e6
        early, late = benchmark.SETTLE, self.growth
        print(f"{name}: {before / 1e6:.1f} MB after {early} frames, {grown:+.2f} MB after {late} more")
        return 0


def _named(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """The models, every packaged one where none is given, with the names of their rows.

    Those without a label have their files', with as much of their folders as tells them apart.

    Raises:
        InputError: two are called the same, or there is none.
    """
    from fartrack import models
    from fartrack.evaluation.peers import labelled, refuse_twins

    given = [(label, models.find(model)) for label, model in map(labelled, texts)]
    given = given or [("", path) for path in models.packaged()]
    if not given:
        raise InputError("no models are packaged: give model files with --model FILE")
    unlabelled = [_names_of(path) for label, path in given if not label]
    names = [label or _alone(_names_of(path), unlabelled) for label, path in given]
    refuse_twins(names)
    return list(zip(names, (path for _, path in given), strict=True))


def _names_of(path: Path) -> tuple[str, ...]:
    """What a model's rows can be called, the shortest first."""
    folder = path.absolute().parent.name
    return path.stem, path.name, f"{folder}/{path.stem}", f"{folder}/{path.name}", str(path)


def _alone(names: tuple[str, ...], of_all: Sequence[tuple[str, ...]]) -> str:
    """The first that no other has; of a model that is given twice the first."""
    ways = zip(names, zip(*of_all, strict=True), strict=True)
    return next((name for name, others in ways if others.count(name) == 1), names[0])


def _dense(found: Sequence[Contestant], paths: Sequence[Path], threads: int) -> list[Contestant]:
    """The released layout, once for each network that is measured; with its weights where PyTorch can read them."""
    import torch

    from fartrack import models
    from fartrack.evaluation.benchmark import Contestant
    from fartrack.evaluation.dense import DenseTracker, released
    from fartrack.network import FARTrack

    torch.set_num_threads(threads)
    made: dict[int, list[Contestant]] = {}
    for path in paths:
        config = next((c.config for c in found if c.file == path), None)
        if config is None or config.depth in made:
            continue
        config = released(config)
        net = FARTrack(config)
        try:
            loaded = models.load_network(path)
            net = loaded if loaded.config == config else net
        except InputError:
            pass  # rounded to int8: the time does not depend on the weights
        made[config.depth] = [
            Contestant(f"released layout, {config.depth} layers", DenseTracker(net), "torch", "fp32", config, True),
            Contestant("  the same, fused attention", DenseTracker(net, "fused"), "torch", "fp32", config, True),
        ]
    return list(itertools.chain(*made.values()))


def _opencv_peers() -> list[str]:
    import cv2

    return [name.lower() for name in ("CSRT", "KCF") if hasattr(getattr(cv2, f"Tracker{name}", None), "create")]


def _floors(contestants: Sequence[Contestant], threads: int) -> list[Floor]:
    from fartrack.evaluation.benchmark import floor_of

    wanted = {(c.config, _arithmetic(c)) for c in contestants if c.config is not None and not c.dense}
    floors = (floor_of(config, precision, threads) for config, precision in sorted(wanted, key=str))
    return [floor for floor in floors if floor is not None]


def _arithmetic(one: Contestant) -> str:
    """What is computed with: weights stored in half are computed with in float32."""
    return one.precision.replace("fp16", "fp32")


def _row(
    one: Contestant, all_: Sequence[Contestant], floors: Sequence[Floor], scores: dict[str, float]
) -> dict[str, Any]:
    import numpy as np

    from fartrack import models
    from fartrack.evaluation import counting
    from fartrack.evaluation.benchmark import ratio

    frames, networks = (1e3 * np.array(turns) for turns in (one.frame, one.network))
    frame, network = frames.mean(1), networks.mean(1)
    row: dict[str, Any] = {
        "name": one.name.strip(),
        "runtime": one.runtime,
        "precision": one.precision,
        "frame_median": float(np.median(frame)),
        "frame_p95": float(np.quantile(frames, 0.95)),
        "fps": float(1e3 / np.median(frame)),
    }
    if one.config is not None:
        row |= {
            "network_median": float(np.median(network)),
            "network_p95": float(np.quantile(networks, 0.95)),
            "around": float(np.median((frame - network) / frame)),
            "layers": one.config.depth,
            "parameters": counting.parameters(one.config),
            "macs": counting.macs(one.work) / one.cycle,
        }
        same = [c for c in all_ if c.dense and c.config is not None and c.config.depth == one.config.depth]
        if same:
            row["times_released"] = ratio(same[0], one)
        floor = next((f for f in floors if (f.config, f.precision) == (one.config, _arithmetic(one))), None)
        if floor is not None and not one.dense:
            row["floor"] = 1e3 * floor.seconds()
            row["over_floor"] = row["network_median"] / row["floor"]
    score = scores.get(one.name.strip(), scores.get(one.name.split()[0]))
    if one.targets > 1:
        row["targets"] = one.targets
        kind = (one.file, one.runtime, one.precision)
        alone = next((c for c in all_ if c.targets == 1 and (c.file, c.runtime, c.precision) == kind), None)
        if alone is not None:  # what each but the first costs, of what a tracker of its own costs
            share = 1 / ratio(alone, one)
            row["extra_target"] = (one.targets * share - 1) / (one.targets - 1)
    elif score is None and one.file in models.packaged():
        dev = (models.card(one.file).get("scores") or {}).get("dev") or {}
        score = dev.get("ao")
    if score is not None:
        row["score"] = float(score)
    return row


def _read_scores(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        return {str(k): float(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not JSON of {{name: accuracy}} ({error})") from None


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("numpy", "onnxruntime", "openvino", "torch", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


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
        write_whole(path, plots.png(_figure(points)))
    return True


def _figure(points: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy over speed of rows that have a score."""
    from matplotlib.figure import Figure

    from fartrack.evaluation.plots import plain

    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for row in points:
        ours = "layers" in row
        axes.scatter(row["fps"], row["score"], color="#d1495b" if ours else "#5d6b7c", s=30)
        name, at = plain(row["name"]), (row["fps"], row["score"])
        axes.annotate(name, at, xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("frames per second, decoded frame to box")
    axes.set_ylabel("average overlap, %")
    axes.grid(color="#dde3ea")
    axes.set_axisbelow(True)
    return figure
