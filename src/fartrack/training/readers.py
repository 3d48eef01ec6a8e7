"""Data sets as lists of recordings: where the frames are and what is annotated, with official splits and exclusions.

Nothing is decoded here. Annotations are read (by `fartrack.evaluation.annotations`), frames are looked for, and what
is missing or broken is named with its reason, so that a data set copied by half is noticed at the start.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.errors import InputError
from fartrack.evaluation.annotations import (
    Boxes,
    image_names,
    read_boxes,
    read_flags,
    read_frame,
    read_mask,
    read_mask_boxes,
    read_names,
)
from fartrack.evaluation.datasets import (
    DATASETS,
    class_folder,
    davis_list,
    davis_without_list,
    hidden_by_labels,
    lasot_test_names,
    open_dataset,
    vasttrack_truth,
    visible_files,
)
from fartrack.evaluation.sequences import ImageFrames
from fartrack.training.clips import Frames
from fartrack.training.got10k_vot import EXCLUDED

log = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Recording:
    """A video of one target, or one still picture of several."""

    source: str
    name: str
    boxes: npt.NDArray[np.float32]
    """(N, 4) x, y, w, h: of each frame, NaN where the target is not seen; of each object in a still picture."""
    frames: Callable[[], Frames]
    """Finds the frames (when first needed: listing millions of files takes minutes); each is read when asked for."""
    kinds: tuple[str, ...] = ("object",)
    """Class of the target, or of each object of a still picture."""
    still: bool = False
    mask: Callable[[int, tuple[int, int]], npt.NDArray[np.uint8]] | None = None
    """(frame, (height, width)) -> number of the object that each pixel belongs to, 1 or the still picture's row + 1."""
    video: str | None = None
    """Name that recordings of other targets, or parts, of the same video share; None: there are none."""


@dataclass
class Listing:
    """What was found of a data set."""

    source: str
    recordings: list[Recording] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Official sequences that are not there."""
    broken: list[str] = field(default_factory=list)
    """Sequences that cannot be read, each with its reason."""
    excluded: int = 0
    """Sequences left out on purpose: test splits, overlaps with VOT."""

    def summary(self) -> str:
        """One line for the start of a run."""
        pictures = sum(1 if one.still else len(one.boxes) for one in self.recordings)
        parts = [f"{len(self.recordings):,} clips", f"{pictures:,} pictures"]
        if self.excluded:
            parts.append(f"{self.excluded:,} excluded")
        if self.missing:
            parts.append(f"{len(self.missing):,} MISSING (first {self.missing[0]})")
        if self.broken:
            parts.append(f"{len(self.broken):,} BROKEN (first {self.broken[0]})")
        return f"{self.source}: {', '.join(parts)}"


@dataclass(frozen=True)
class Files:
    """Pictures in a folder, listed when first asked for."""

    folder: Path
    count: int
    names: tuple[str, ...] = ()
    """Of the pictures that are there: the last ones may be lacking."""
    first: int = 1
    """Number of the first picture."""

    def found(self) -> Files:
        """With the names filled in.

        Raises:
            InputError: not as many pictures as boxes, and it is not the last few alone that are lacking.
        """
        names = image_names(self.folder)
        cut_off = 0.9 * self.count < len(names) < self.count and _run_on(names, self.first)
        if len(names) != self.count and not cut_off:
            raise InputError(self._lacks(names))
        return replace(self, names=names)

    def _lacks(self, names: tuple[str, ...]) -> str:
        return f"{self.folder}: {len(names)} pictures for {self.count} boxes; is the data set complete?"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image:
        if index >= len(self.names):
            raise InputError(self._lacks(self.names))
        return read_frame(self.folder / self.names[index])


def _run_on(names: Sequence[str], first: int) -> bool:
    """Whether the numbers that pictures are called by follow one another from the first one on."""
    stems = [name.partition(".")[0] for name in names]
    return all(stem.isdecimal() for stem in stems) and [*map(int, stems)] == [*range(first, first + len(stems))]


def _video(
    source: str, name: str, boxes: Boxes, folder: Path, kind: str = "object", first: int = 1, **more: Any
) -> Recording:
    """A recording of pictures in one folder; frames without area count as unseen."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; the frames of this sequence were looked for there")
    boxes = np.where((boxes[:, 2:] > 0).all(1, keepdims=True), boxes, np.nan)
    frames = Files(folder, len(boxes), first=first)
    return Recording(source, name, boxes.astype(np.float32), frames.found, (kind,), **more)


def _gather(source: str, names: Iterable[str], read: Callable[[str], Recording], workers: int) -> Listing:
    """Read annotations side by side; a sequence that fails is named and left out."""
    listing = Listing(source)

    def attempt(name: str) -> Recording | str:
        try:
            recording = read(name)
        except InputError as error:
            return f"{name}: {error}"
        return recording if np.isfinite(recording.boxes).all(1).any() else f"{name}: not one box"

    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(attempt, names):
            if isinstance(result, str):
                listing.broken.append(result)
            else:
                listing.recordings.append(result)
    return listing


def _inside(root: Path, *parts: str) -> Path:
    """The first of root/part that is there, else the root: people give either."""
    if not root.is_dir():
        raise FileNotFoundError(f"training data {root} does not exist: check --data and FARTRACK_DATA")
    return next((root / part for part in parts if (root / part).is_dir()), root)


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir())


def _some(listing: Listing, root: Path, looked_for: str) -> Listing:
    if not listing.recordings:
        broken = f"; first problem: {listing.broken[0]}" if listing.broken else ""
        raise InputError(f"{root}: no {listing.source} to train on; looked for {looked_for}{broken}")
    return listing


# -- videos ----------------------------------------------------------------------------------------------------


def got10k(root: Path, workers: int = 8) -> Listing:
    """GOT-10k's training split without the 1,000 sequences excluded for VOT."""
    home = _inside(root, "train", "full_data/train", "full_data/train_data")
    there = set(_folders(home))
    official = list(read_names(home / "list.txt")) if (home / "list.txt").is_file() else sorted(there)
    own = [name for name in official if not name.startswith("GOT-10k_") and (home / name / "groundtruth.txt").is_file()]
    if own:
        log.warning(
            "got10k: %d sequences of %s are not called GOT-10k_Train_* (the first is %s) and are left out: "
            "move them into a folder of their own and give --data folder=DIR", len(own), home, own[0],
        )  # fmt: skip
    wanted = [name for name in official if name not in EXCLUDED and name.startswith("GOT-10k_Train")]

    def read(name: str) -> Recording:
        boxes = read_boxes(home / name / "groundtruth.txt")
        boxes[hidden_by_labels(home / name, len(boxes))] = np.nan
        return _video("got10k", name, boxes, home / name)

    listing = _gather("got10k", (name for name in wanted if name in there), read, workers)
    listing.missing = [name for name in wanted if name not in there]
    listing.excluded = len(official) - len(wanted) - len(own)
    return _some(listing, root, "train/GOT-10k_Train_000001/groundtruth.txt")


def lasot(root: Path, workers: int = 8) -> Listing:
    """LaSOT's training split of protocol II: the 1,120 sequences that are not in the test split."""
    home = _inside(root, "LaSOTBenchmark")
    test = set(lasot_test_names())
    classes = sorted({name.rpartition("-")[0] for name in test})
    official = [f"{kind}-{number}" for kind in classes for number in range(1, 21)]
    wanted = [name for name in official if name not in test]

    def folder(name: str) -> Path:
        return class_folder(home, name)

    def read(name: str) -> Recording:
        boxes = read_boxes(folder(name) / "groundtruth.txt")
        for label in ("full_occlusion.txt", "out_of_view.txt"):
            if (folder(name) / label).is_file():
                boxes[read_flags(folder(name) / label, len(boxes)) == 1] = np.nan
        return _video("lasot", name, boxes, folder(name) / "img", name.rpartition("-")[0])

    listing = _gather("lasot", (name for name in wanted if folder(name).is_dir()), read, workers)
    listing.missing = [name for name in wanted if not folder(name).is_dir()]
    listing.excluded = sum(folder(name).is_dir() for name in test)
    return _some(listing, root, "airplane/airplane-2/groundtruth.txt and airplane-2/img/*.jpg")


def trackingnet(root: Path, workers: int = 8) -> Listing:
    """TrackingNet's training chunks: TRAIN_0 .. TRAIN_11, each with anno/NAME.txt and frames/NAME/0.jpg."""
    home = _inside(root, "trackingnet", "TrackingNet")
    chunks = [home / name for name in _folders(home) if name.startswith("TRAIN_")]
    names = [f"{chunk.name}/{path.stem}" for chunk in chunks for path in visible_files(chunk / "anno")]

    def read(name: str) -> Recording:
        chunk, _, video = name.partition("/")
        boxes = read_boxes(home / chunk / "anno" / f"{video}.txt")
        of_it = f"{chunk}/{video.rpartition('_')[0] or video}"  # the others are of other objects
        return _video("trackingnet", name, boxes, home / chunk / "frames" / video, first=0, video=of_it)

    listing = _gather("trackingnet", names, read, workers)
    listing.missing = [f"TRAIN_{i}" for i in range(12) if not (home / f"TRAIN_{i}" / "anno").is_dir()]
    return _some(listing, root, "TRAIN_0/anno/*.txt and TRAIN_0/frames/NAME/0.jpg")


def vasttrack(root: Path, workers: int = 8) -> Listing:
    """VastTrack: CLASS/CLASS-N/{img or imgs, Groundtruth.txt}, without the names in a *test*list*.txt."""
    home = _inside(root, "train", "Train")
    lists = sorted({*visible_files(home, "*test*list*.txt"), *visible_files(root, "*test*list*.txt")})
    test = {name for path in lists for name in read_names(path)}
    found: dict[str, Path] = {}
    for kind in _folders(home):
        for name in [kind, *(f"{kind}/{name}" for name in _folders(home / kind))]:
            truth = vasttrack_truth(home / name)
            if truth is not None:
                found[name.rpartition("/")[2]] = truth

    def read(name: str) -> Recording:
        folder = found[name].parent
        return _video(
            "vasttrack", name, read_boxes(found[name]), _inside(folder, "img", "imgs"), name.rpartition("-")[0]
        )

    wanted = [name for name in sorted(found) if name not in test]
    listing = _gather("vasttrack", wanted, read, workers)
    listing.excluded = len(found) - len(wanted)
    return _some(listing, root, "CLASS/CLASS-N/Groundtruth.txt with CLASS/CLASS-N/img/*.jpg")


def _masked(source: str, pictures: Path, masks: Path, videos: list[str], workers: int) -> Listing:
    """Videos with a mask PNG beside each frame: one recording per object."""
    found: dict[str, tuple[list[Path], Boxes, int]] = {}

    def look(video: str) -> dict[int, Boxes] | str:
        try:
            return read_mask_boxes([masks / video / name for name in image_names(masks / video)])
        except InputError as error:
            return f"{video}: {error}"

    broken = []
    with ThreadPoolExecutor(workers) as pool:
        for video, objects in zip(videos, pool.map(look, videos), strict=True):
            if isinstance(objects, str):
                broken.append(objects)
                continue
            paths = [masks / video / name for name in image_names(masks / video)]
            if len(objects) > 1:  # beside others 255 is what belongs to none; alone it is the object (DAVIS 2016)
                objects.pop(255, None)
            found |= {f"{video}_{number}": (paths, boxes, number) for number, boxes in objects.items()}

    def read(name: str) -> Recording:
        paths, boxes, number = found[name]

        def mask(frame: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
            owner = (read_mask(paths[frame]) == number).astype(np.uint8)
            if owner.shape != size:
                raise InputError(f"{paths[frame]}: the mask is not as large as its picture")
            return owner

        # Masks may be there for some frames only (YouTube-VOS has every fifth): those frames are the recording.
        names = tuple(
            next((p.name for p in (pictures / paths[0].parent.name).glob(f"{path.stem}.*")), "") for path in paths
        )
        if "" in names:
            raise InputError(f"{paths[names.index('')]}: no picture belongs to this mask")
        frames = Files(pictures / paths[0].parent.name, len(paths), names)
        return Recording(source, name, boxes.astype(np.float32), lambda: frames, mask=mask, video=paths[0].parent.name)

    listing = _gather(source, found, read, workers)
    listing.broken = broken + listing.broken
    return listing


def davis(root: Path, workers: int = 8) -> Listing:
    """DAVIS: the training list of 2017, else that of 2016, each object a recording with masks."""
    home = _inside(root, "DAVIS")
    size = next((s for s in ("480p", "Full-Resolution", "1080p") if (home / "Annotations" / s).is_dir()), "")
    masks = home / "Annotations" / size
    listed = davis_list(home, "train")
    there = set(_folders(masks)) if masks.is_dir() else set()
    wanted = sorted(there) if listed is None else listed
    if there and listed is None:
        log.warning("davis: %s", davis_without_list(home, "train"))
    listing = _masked("davis", home / "JPEGImages" / size, masks, [name for name in wanted if name in there], workers)
    listing.missing = [name for name in wanted if name not in there]
    listing.excluded = len(there - set(wanted))
    return _some(listing, root, "Annotations/480p/NAME/*.png of the names in ImageSets/2017/train.txt")


def youtubevos(root: Path, workers: int = 8) -> Listing:
    """YouTube-VOS: train/{JPEGImages,Annotations}/NAME, each object a recording with masks."""
    home = _inside(root, "train")
    masks = home / "Annotations"
    videos = _folders(masks) if masks.is_dir() else []
    listing = _masked("youtube-vos", home / "JPEGImages", masks, videos, workers)
    return _some(listing, root, "train/Annotations/NAME/*.png and train/JPEGImages/NAME/*.jpg")


def benchmark(name: str, root: Path, workers: int = 8) -> Listing:
    """Any data set of `fartrack evaluate` with public boxes, all its sequences."""
    dataset = open_dataset(name, root)
    if dataset.hidden:
        raise InputError(f"{name}: its boxes are not public, so it cannot be trained on")

    def read(sequence_name: str) -> Recording:
        sequence = dataset.read(dataset.root, sequence_name)  # not `load`: the target may come in late
        boxes = np.where(sequence.shown[:, None], sequence.boxes, np.nan).astype(np.float32)
        # Parts of one video, and its other targets, are sequences of their own.
        place = sequence.frames.folder if isinstance(sequence.frames, ImageFrames) else None
        video = place.relative_to(root).as_posix() if place and place.is_relative_to(root) else None
        return Recording(name, sequence_name, boxes, lambda: sequence.frames, video=video)

    listing = _gather(name, dataset.names, read, workers)
    listing.missing = list(dataset.missing)
    return _some(listing, root, "the folders of docs/benchmarks.md")


# -- still pictures --------------------------------------------------------------------------------------------


def coco(root: Path, workers: int = 8) -> Listing:
    """COCO 2017's training pictures, every object with its polygon; crowds are left out."""
    home = _inside(root, "coco", "COCO")
    path = home / "annotations" / "instances_train2017.json"
    if not path.is_file():
        raise InputError(
            f"{root}: no coco to train on; looked for annotations/instances_train2017.json and train2017/*.jpg"
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        kinds = {entry["id"]: entry["name"] for entry in index["categories"]}
        files = {entry["id"]: entry["file_name"] for entry in index["images"]}
        objects: dict[int, list[dict[str, Any]]] = {}
        listing = Listing("coco")
        for entry in index["annotations"]:
            box = entry.get("bbox")
            if entry.get("iscrowd"):
                listing.excluded += 1
            elif isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box):
                objects.setdefault(entry["image_id"], []).append(entry)
            else:
                listing.broken.append(f"annotation {entry.get('id')}: its bbox is {box}, not four numbers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # the first of JSON and of UTF-8
        raise InputError(f"{path} is not COCO's annotation ({type(error).__name__}: {error}): copy it again") from None
    folder = _inside(home, "train2017")
    there = {entry.name for entry in folder.iterdir()}
    for number, entries in objects.items():
        name = files.get(number, str(number))
        if name not in there:
            listing.missing.append(name)
            continue
        boxes = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        polygons = [entry.get("segmentation") for entry in entries]
        names = tuple(str(kinds.get(entry.get("category_id"), "object")) for entry in entries)
        frames, mask = partial(Files, folder, 1, (name,)), partial(_polygons, polygons)
        listing.recordings.append(Recording("coco", name, boxes, frames, names, True, mask))
    return _some(listing, root, "annotations/instances_train2017.json and train2017/*.jpg")


def _polygons(objects: list[Any], _frame: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Owner of each pixel; of objects that overlap the smaller ones, drawn last, are whole."""
    owner = np.zeros(size, np.uint8)
    shapes = []
    for row, polygons in enumerate(objects[:254], 1):
        if isinstance(polygons, list):
            try:
                points = [np.array(ring, np.float32).reshape(-1, 2).round() for ring in polygons]
            except (ValueError, TypeError):
                raise InputError(f"the polygon of object {row} is no list of x and y") from None
            if not all(np.isfinite(ring).all() for ring in points):
                raise InputError(f"the polygon of object {row} has a point that is no finite number")
            rings = [ring.astype(np.int32) for ring in points if len(ring) > 2]
            shapes.append((sum(cv2.contourArea(ring) for ring in rings), row, rings))
    for _, row, rings in sorted(shapes, key=lambda shape: -shape[0]):
        for ring in rings:  # one by one: where two overlap, one call would leave a hole
            cv2.fillPoly(owner, [ring], row)  # type: ignore[call-overload]
    return owner


READERS: dict[str, Callable[[Path, int], Listing]] = {
    "got10k": got10k,
    "lasot": lasot,
    "trackingnet": trackingnet,
    "coco": coco,
    "vasttrack": vasttrack,
    "davis": davis,
    "youtube-vos": youtubevos,
    **{name: partial(benchmark, name) for name in ("lasot-ext", "got10k-val", "uav123", "nfs", "otb", "vot", "folder")},
}
assert set(READERS) - {"got10k", "lasot", "trackingnet", "coco", "vasttrack", "davis", "youtube-vos"} <= set(DATASETS)
