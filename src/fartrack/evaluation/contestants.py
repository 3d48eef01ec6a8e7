"""Who is timed by `fartrack benchmark`: models in every engine, the released layout, other trackers."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2

from fartrack import models
from fartrack.config import ModelConfig
from fartrack.crops import Image
from fartrack.engines import ENGINES
from fartrack.errors import InputError
from fartrack.evaluation import counting
from fartrack.evaluation.counting import Product
from fartrack.evaluation.peers import Nano, TrackerLike, labelled, parse_model, refuse_twins
from fartrack.geometry import Box
from fartrack.multitracker import MultiTracker
from fartrack.runtime.choice import choose
from fartrack.tracker import Tracker

RUNTIMES = [name for name in ENGINES if name != "cuda"]
"""Where none is asked for: those of the CPU."""


@dataclass
class Contestant:
    """Something that is timed, and the times it took, one list per turn."""

    name: str
    tracker: TrackerLike
    runtime: str = ""
    precision: str = ""
    config: ModelConfig | None = None
    dense: bool = False
    targets: int = 1
    """Targets tracked at once; times are divided by it."""
    file: Path | None = None
    """The model's; none of the released layout and of peers."""
    frame: list[list[float]] = field(default_factory=list)
    network: list[list[float]] = field(default_factory=list)
    position: int = 0

    @property
    def arithmetic(self) -> str:
        """What is computed with: weights stored in half are computed with in float32."""
        return self.precision.replace("fp16", "fp32")

    @property
    def work(self) -> list[Product]:
        """The matrix products of `cycle` frames; none for peers."""
        if self.config is None:
            return []
        return counting.dense_products(self.config) if self.dense else counting.cycle(self.config)

    @property
    def cycle(self) -> int:
        """Frames from one new template to the next."""
        return 1 if self.config is None or self.dense else self.config.renewal


class Crowd:
    """Several targets of a `MultiTracker` as one tracker: the one given several times, a little aside, so that each is
    as easy as the one that a tracker of its own follows."""

    def __init__(self, tracker: MultiTracker, targets: int) -> None:
        self.tracker, self.targets = tracker, targets
        tracker.prepare()  # or it would begin with them one by one

    @property
    def network_seconds(self) -> float:
        """Time in the network so far."""
        return self.tracker.network_seconds

    def init(self, frame: Image, box: Box) -> None:
        """Start all of them, afresh."""
        for number in list(self.tracker):
            self.tracker.remove(number)
        x, y, w, h = box
        for i in range(self.targets):
            self.tracker.add(frame, (x + w * 0.02 * (i % 3 - 1), y + h * 0.02 * (i // 3 % 3 - 1), w, h))

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Find all; the first one is returned."""
        found, box, _ = next(iter(self.tracker.update(frame).values()))
        return found, box


def gather(
    texts: Sequence[str], runtimes: Sequence[str], peers: Sequence[str], threads: int, targets: int, dense: bool
) -> list[Contestant]:
    """Open everybody.

    Args:
        texts: models as they were given, by default every packaged one.
        runtimes: engines, by default those installed, but cuda.
        peers: other trackers, besides those of OpenCV.
        threads: CPU threads of each.
        targets: also so many at once, where it is more than one.
        dense: the released layout, where PyTorch is there.

    Raises:
        InputError: a model or tracker cannot be opened.
    """
    cv2.setNumThreads(threads)
    rows = named(texts)
    found = [one for label, path in rows for one in _of_model(label, path, runtimes, threads, targets)]
    if dense and importlib.util.find_spec("torch"):
        found += _dense(found, [path for _, path in rows], threads)
    for spec in [*_opencv_peers(), *peers]:
        peer = parse_model(spec, threads=threads)
        found.append(Contestant(peer.label, peer.open()))
        if threads > 1 and isinstance(peer, Nano):  # ONNX Runtime shares its small products among two at a loss
            found.append(Contestant(f"{peer.label}, one thread", replace(peer, threads=1).open()))
    return found


def _of_model(label: str, path: Path, asked: Sequence[str], threads: int, targets: int) -> Iterator[Contestant]:
    """A model in every engine that can run it, and a packaged one as it is run by default."""
    file, engine = choose(path.stem) if path.parent == models.WEIGHTS else (path, None)
    if engine is not None and not asked:
        tracker = Tracker(file, engine, threads)
        precision = tracker.runtime.precision
        yield Contestant(f"{label} as packaged", tracker, engine, precision, tracker.config, file=path)
    refused: list[InputError] = []
    for runtime in asked or RUNTIMES:
        try:
            tracker = Tracker(path, runtime, threads)
        except InputError as error:
            refused.append(error)
            if asked or len(refused) == len(RUNTIMES):
                raise refused[0] from None
            continue  # not installed, or it cannot run this kind of file
        config, precision = tracker.config, getattr(tracker.runtime, "precision", "")
        yield Contestant(f"{label} {runtime}", tracker, runtime, precision, config, file=path)
        if targets > 1:
            crowd = Crowd(MultiTracker(path, runtime, threads), targets)
            name = f"  {label}, each of {targets} targets, {runtime}"
            yield Contestant(name, crowd, runtime, precision, config, targets=targets, file=path)


def named(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """The models, every packaged one where none is given, with the names of their rows.

    Those without a label have their files', with as much of their folders as tells them apart.

    Raises:
        InputError: two are called the same, or there is none.
    """
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
    return [name.lower() for name in ("CSRT", "KCF") if hasattr(getattr(cv2, f"Tracker{name}", None), "create")]
