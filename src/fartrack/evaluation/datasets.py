"""The benchmarks as lists of sequences.

`open_dataset("lasot", root)` lists names only; `dataset.load(name)` reads the annotation of one sequence, and its
frames are read one by one. So opening is quick, a damaged sequence fails alone, and one sequence is a unit of work
that can be sent to another process or machine.

How each benchmark counts is in its `Rules` (metrics.py); docs/benchmarks.md says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fartrack.errors import InputError
from fartrack.evaluation.annotations import (
    Boxes,
    has_box,
    image_names,
    read_boxes,
    read_flags,
    read_mask,
    read_mask_boxes,
    read_names,
    read_nfs,
    read_regions,
    read_table,
    read_text,
)
from fartrack.evaluation.metrics import Rules
from fartrack.evaluation.sequences import Dataset, ImageFrames, Sequence, VideoFrames
from fartrack.video.pictures import image_files, natural

# --- shared pieces ----------------------------------------------------------------------------------------------------


def _sequence(name: str, folder: Path, boxes: Boxes, visible: NDArray[np.bool_] | None = None) -> Sequence:
    """Sequence of all pictures of a folder."""
    seen = np.ones(len(boxes), bool) if visible is None else visible
    return Sequence(name, ImageFrames(folder, image_names(folder)), boxes, seen)


def _numbered(folder: Path, first: int) -> ImageFrames:
    """Pictures whose numbers go up by one from `first`: where one box is given, no count of boxes misses a picture."""
    names = image_names(folder)
    for number, file in enumerate(names, first):
        if _number(file) != number:
            raise InputError(
                f"{folder}: {file} stands where the picture of number {number} was expected; "
                "unpack or download the sequence again"
            )
    return ImageFrames(folder, names)


def _first_only(box: Boxes, count: int) -> Boxes:
    """Boxes of a hidden annotation: the first row is given, the others are not."""
    boxes = np.full((count, 4), np.nan)
    boxes[0] = box[0]
    return boxes


def _folder(root: Path) -> Path:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds the data set")
    return root


def _subfolders(root: Path) -> list[Path]:
    return sorted((entry for entry in root.iterdir() if entry.is_dir()), key=lambda entry: natural(entry.name))


def visible_files(folder: Path, pattern: str = "*.txt") -> list[Path]:
    """Files of such names in order, without those that macOS lays beside them (`._NAME.txt`)."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _unique(found: Iterable[tuple[str, Path]]) -> tuple[str, ...]:
    """Names of sequences, of which one would never be run if two were the same."""
    places: dict[str, Path] = {}
    for name, place in found:
        if (other := places.setdefault(name, place)) != place:
            raise InputError(f"{other} and {place} are both the sequence {name}; rename one of the two")
    return tuple(places)


def _not_one(root: Path, dataset: str, looked_for: str) -> InputError:
    return InputError(f"{root}: not a {dataset} folder; looked for {looked_for}")


def _among(root: Path, *parts: str) -> Path:
    """Return the first of root/part that exists, else the root itself: people give either."""
    return next((root / part for part in parts if (root / part).is_dir()), root)


def _split(official: list[str], found: Callable[[str], bool]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Official names that are there, and those that are not; one that is listed twice is one sequence."""
    names = list(dict.fromkeys(official))
    there = tuple(name for name in names if found(name))
    return there, tuple(name for name in names if name not in set(there))


# --- folder, OTB ------------------------------------------------------------------------------------------------------

# Frames (by number, both included) of OTB sequences whose annotation covers a part of the pictures. Tiger1's first five
# boxes are there but do not count.
OTB_SPANS = {
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
    "Tiger1": (6, 354),
}
_TRUTH_NAMES = ("groundtruth_rect.txt", "groundtruth.txt")
VIDEO_TYPES = (".mp4", ".avi", ".mkv", ".mov", ".webm")


def _truth_files(folder: Path) -> dict[str, Path]:
    """Annotations in a sequence's folder: suffix of the name -> file (Jogging has two: `_1` and `_2`)."""
    for name in _TRUTH_NAMES:
        if (folder / name).is_file():
            return {"": folder / name}
    several = sorted(folder.glob("groundtruth_rect.*.txt"))
    return {f"_{path.name.split('.')[1]}": path for path in several if read_text(path).strip()}


def _pictures(folder: Path) -> ImageFrames | VideoFrames:
    """Frames in NAME/img, in NAME itself, or in the one video of NAME."""
    if (folder / "img").is_dir():
        return ImageFrames(folder / "img", image_names(folder / "img"))
    videos = [path for path in visible_files(folder, "*") if path.suffix.lower() in VIDEO_TYPES]
    if len(videos) == 1:
        return VideoFrames(videos[0])
    if videos and not image_files(folder):
        names = ", ".join(path.name for path in videos)
        raise InputError(f"{folder}: {len(videos)} videos in it ({names}); leave the one that the boxes belong to")
    return ImageFrames(folder, image_names(folder))


def _by_folder(root: Path, name: str) -> tuple[Path, Path]:
    """Folder and annotation of a sequence: NAME, or the part of NAME before `_1`."""
    for stem, suffix in ((name, ""), (name.rpartition("_")[0], "_" + name.rpartition("_")[2])):
        folder = root / stem
        if stem and folder.is_dir() and suffix in (files := _truth_files(folder)):
            return folder, files[suffix]
    raise InputError(f"{root / name}: no {_TRUTH_NAMES[0]} there; is the data set complete?")


def _read_folder(root: Path, name: str) -> Sequence:
    folder, truth = _by_folder(root, name)
    boxes = read_boxes(truth, blank="nan")
    visible = has_box(boxes)
    if truth.name in _TRUTH_NAMES:  # of several targets nobody could tell whose they are
        visible &= ~hidden_by_labels(folder, len(boxes))
    return Sequence(name, _pictures(folder), boxes, visible)


def _read_otb(root: Path, name: str) -> Sequence:
    folder, truth = _by_folder(root, name)
    boxes, frames = read_boxes(truth), _pictures(folder)
    if name in OTB_SPANS and isinstance(frames, ImageFrames):
        first, last = OTB_SPANS[name]
        inside = tuple(file for file in frames.names if first <= _number(file) <= last)
        if name == "Tiger1" and len(boxes) == last:
            boxes = boxes[first - 1 :]
        if len(boxes) == len(inside):
            frames = ImageFrames(frames.folder, inside)
    return Sequence(name, frames, boxes, np.ones(len(boxes), bool))


def _number(file: str) -> int:
    digits = "".join(character for character in Path(file).stem if character.isdigit())
    return int(digits) if digits else -1


def _folder_names(root: Path, dataset: str) -> tuple[str, ...]:
    names = _unique(
        (f"{folder.name}{suffix}", truth)
        for folder in _subfolders(_folder(root))
        for suffix, truth in _truth_files(folder).items()
    )
    if not names:
        raise _not_one(root, dataset, "NAME/img/*.jpg with NAME/groundtruth_rect.txt beside them, found none")
    return names


def open_folder(root: Path) -> Dataset:
    """Any folder of NAME/img/*.jpg (or one video) with NAME/groundtruth_rect.txt; NaN lines are frames without box.

    Where GOT-10k's absence.label and cover.label lie beside it, the frames that they mark are hidden.
    """
    return Dataset("folder", root, _folder_names(root, "sequence"), _read_folder, Rules(blank_counts=False))


def open_otb(root: Path) -> Dataset:
    """OTB-2015 (or the part of it that is there): NAME/img, NAME/groundtruth_rect.txt."""
    return Dataset("otb", root, _folder_names(root, "OTB"), _read_otb, Rules(blank_normalised=True))


# --- LaSOT ------------------------------------------------------------------------------------------------------------

# Numbers of the 280 test sequences (protocol II): class: numbers.
LASOT_TEST = """
airplane:1,9,13,15 basketball:1,6,7,11 bear:2,4,6,17 bicycle:2,7,9,18 bird:2,3,15,17 boat:3,4,12,17 book:3,10,11,19
bottle:1,12,14,18 bus:2,5,17,19 car:2,6,9,17 cat:1,3,18,20 cattle:2,7,12,13 chameleon:3,6,11,20 coin:3,6,7,18
crab:3,6,12,18 crocodile:3,4,10,14 cup:1,4,7,17 deer:4,8,10,14 dog:1,7,15,19 drone:2,7,13,15 electricfan:1,10,18,20
elephant:1,12,16,18 flag:2,3,5,9 fox:2,3,5,20 frog:3,4,9,20 gametarget:1,2,7,13 gecko:1,5,16,19 giraffe:2,10,13,15
goldfish:3,7,8,10 gorilla:4,6,9,13 guitar:3,8,10,16 hand:2,3,9,16 hat:1,2,5,18 helmet:5,11,13,19 hippo:1,7,9,20
horse:1,4,12,15 kangaroo:2,5,11,14 kite:4,6,10,15 leopard:1,7,16,20 licenseplate:6,12,13,15 lion:1,5,12,20
lizard:1,3,6,13 microphone:2,6,14,16 monkey:3,4,9,17 motorcycle:1,3,9,18 mouse:1,8,9,17 person:1,5,10,12
pig:2,10,13,18 pool:3,7,12,15 rabbit:10,13,17,19 racing:10,15,16,20 robot:1,5,8,19 rubicCube:1,6,14,19 sepia:6,8,13,16
shark:2,3,5,6 sheep:3,5,7,9 skateboard:3,8,16,19 spider:14,16,18,20 squirrel:8,11,13,19 surfboard:4,5,8,12
swing:10,14,17,20 tank:6,9,14,16 tiger:4,6,12,18 train:1,7,11,20 truck:3,6,7,16 turtle:5,8,9,16 umbrella:2,9,17,19
volleyball:1,13,18,19 yoyo:7,15,17,19 zebra:10,14,16,17
"""
LASOT_EXT_CLASSES = """
atv badminton cosplay dancingshoe footbag frisbee jianzi lantern misc opossum paddle raccoon rhino skatingshoe wingsuit
"""


def lasot_test_names() -> list[str]:
    """Names of LaSOT's 280 test sequences."""
    classes = (entry.split(":") for entry in LASOT_TEST.split())
    return [f"{name}-{number}" for name, numbers in classes for number in numbers.split(",")]


def lasot_ext_names() -> list[str]:
    """Names of LaSOT-ext's 150 sequences: ten of each of fifteen classes."""
    return [f"{name}-{number}" for name in LASOT_EXT_CLASSES.split() for number in range(1, 11)]


def class_folder(root: Path, name: str) -> Path:
    """CLASS/CLASS-N, or CLASS-N right under the root."""
    nested = root / name.rpartition("-")[0] / name
    return nested if nested.is_dir() else root / name


def _read_lasot(root: Path, name: str) -> Sequence:
    folder = class_folder(root, name)
    boxes = read_boxes(folder / "groundtruth.txt")
    hidden, outside = (read_flags(folder / f"{label}.txt", len(boxes)) for label in ("full_occlusion", "out_of_view"))
    return _sequence(name, folder / "img", boxes, (hidden == 0) & (outside == 0))


def _open_lasot(name: str, title: str, official: list[str], root: Path, rules: Rules) -> Dataset:
    home = _among(_folder(root), "LaSOTTesting", "LaSOTBenchmark", "LaSOT_extension_subset")
    there, missing = _split(official, lambda entry: (class_folder(home, entry) / "groundtruth.txt").is_file())
    if not there:
        raise _not_one(root, title, f"{official[0].rpartition('-')[0]}/{official[0]}/groundtruth.txt and the like")
    return Dataset(name, home, there, _read_lasot, rules, missing=missing)


def open_lasot(root: Path) -> Dataset:
    """LaSOT's test split: CLASS/CLASS-N/{img,groundtruth.txt,full_occlusion.txt,out_of_view.txt}."""
    rules = Rules(blank_normalised=True, unseen_misses=True)
    return _open_lasot("lasot", "LaSOT", lasot_test_names(), root, rules)


def open_lasot_ext(root: Path) -> Dataset:
    """LaSOT-ext, 150 sequences, laid out as LaSOT."""
    return _open_lasot("lasot-ext", "LaSOT-ext", lasot_ext_names(), root, Rules(blank_normalised=True))


# --- GOT-10k ----------------------------------------------------------------------------------------------------------


def hidden_by_labels(folder: Path, count: int) -> NDArray[np.bool_]:
    """(N,) frames in which the target is absent or wholly covered, as far as GOT-10k's two labels are there."""
    hidden = np.zeros(count, bool)
    for label, means in (("absence.label", 1), ("cover.label", 0)):
        if (folder / label).is_file():
            hidden |= read_flags(folder / label, count) == means
    return hidden


def _read_got10k_val(root: Path, name: str) -> Sequence:
    folder = root / name
    boxes = read_boxes(folder / "groundtruth.txt")
    cover = read_flags(folder / "cover.label", len(boxes))
    absent = read_flags(folder / "absence.label", len(boxes))
    sequence = _sequence(name, folder, boxes, absent == 0)
    return replace(sequence, cover=cover, size=read_got10k_size(folder / "meta_info.ini"))


def read_got10k_size(path: Path) -> tuple[int, int] | None:
    """Frame size in GOT-10k's meta_info.ini (`resolution: (1920, 1080)`); None when there is no such line."""
    if not path.is_file():
        return None
    for line in read_text(path).splitlines():
        if line.startswith("resolution"):
            digits = "".join(character if character.isdigit() else " " for character in line).split()
            if len(digits) == 2 and min(size := (int(digits[0]), int(digits[1]))) > 0:
                return size
    return None


def _read_got10k_test(root: Path, name: str) -> Sequence:
    frames = _numbered(root / name, 1)
    boxes = _first_only(read_table(root / name / "groundtruth.txt"), len(frames))
    return Sequence(name, frames, boxes, np.ones(len(boxes), bool))


def _open_got10k(root: Path, part: str) -> Dataset:
    home = _among(_folder(root), part, f"full_data/{part}")
    if (home / "list.txt").is_file():
        names, missing = _split(list(read_names(home / "list.txt")), lambda name: (home / name).is_dir())
    else:
        names, missing = tuple(entry.name for entry in _subfolders(home) if (entry / "groundtruth.txt").is_file()), ()
    if not names:
        raise _not_one(root, "GOT-10k", f"{part}/list.txt and {part}/GOT-10k_{part.title()}_000001/groundtruth.txt")
    read = _read_got10k_val if part == "val" else _read_got10k_test
    rules = Rules(pooled=True, blank_counts=False)
    return Dataset(f"got10k-{part}", home, names, read, rules, hidden=part == "test", missing=missing)


def open_got10k_val(root: Path) -> Dataset:
    """GOT-10k's validation split: val/list.txt, val/NAME/{*.jpg,groundtruth.txt,cover.label,absence.label}."""
    return _open_got10k(root, "val")


def open_got10k_test(root: Path) -> Dataset:
    """GOT-10k's test split: one box each, results go to the server."""
    return _open_got10k(root, "test")


# --- TrackingNet, UAV123, NfS -----------------------------------------------------------------------------------------


def _read_trackingnet(root: Path, name: str) -> Sequence:
    frames = _numbered(root / "frames" / name, 0)
    boxes = _first_only(read_table(root / "anno" / f"{name}.txt"), len(frames))
    return Sequence(name, frames, boxes, np.ones(len(boxes), bool))


def open_trackingnet(root: Path) -> Dataset:
    """TrackingNet's test split: TEST/frames/NAME/0.jpg, TEST/anno/NAME.txt with one box; results go to the server."""
    home = _among(_folder(root), "TEST")
    names = tuple(path.stem for path in visible_files(home / "anno"))
    if not names or not (home / "frames").is_dir():
        raise _not_one(root, "TrackingNet", "TEST/anno/*.txt and TEST/frames/NAME/*.jpg")
    missing = tuple(folder.name for folder in _subfolders(home / "frames") if folder.name not in set(names))
    return Dataset("trackingnet", home, names, _read_trackingnet, hidden=True, missing=missing)


# First frames of the UAV123 sequences that are parts of one video: video: first frame of part 1, 2, ...
UAV123_PARTS = {
    "bird1": (1, 775, 1573),
    "car1": (1, 751, 1627),
    "car6": (1, 487, 1807, 2953, 3925),
    "car8": (1, 1357),
    "car16": (1, 415),
    "group1": (1, 1333, 2515, 3925),
    "group2": (1, 907, 1771),
    "group3": (1, 1567, 2827, 4369),
    "person2": (1, 1189),
    "person4": (1, 1501),
    "person5": (1, 877),
    "person7": (1, 1249),
    "person8": (1, 1075),
    "person12": (1, 601),
    "person14": (1, 847, 1813),
    "person17": (1, 1501),
    "person19": (1, 1243, 2791),
    "truck4": (1, 577),
    "uav1": (1, 1555, 2473),
}


def _read_uav123(root: Path, name: str) -> Sequence:
    boxes = read_boxes(root / "anno" / "UAV123" / f"{name}.txt", blank="nan")
    video, _, part = name.rpartition("_")
    visible = has_box(boxes)
    if video not in UAV123_PARTS or part == "s":  # car1_s is a synthetic video of its own
        return _sequence(name, root / "data_seq" / "UAV123" / name, boxes, visible)
    folder, parts = root / "data_seq" / "UAV123" / video, len(UAV123_PARTS[video])
    if part not in map(str, range(1, parts + 1)):
        raise InputError(f"{name}: UAV123 has {video}_1 to {video}_{parts}; remove this annotation")
    first = UAV123_PARTS[video][int(part) - 1]
    inside = tuple(file for file in image_names(folder) if first <= _number(file) < first + len(boxes))
    return Sequence(name, ImageFrames(folder, inside), boxes, visible)


def open_uav123(root: Path) -> Dataset:
    """UAV123: data_seq/UAV123/VIDEO/*.jpg, anno/UAV123/NAME.txt; NaN lines are frames without target."""
    home = _among(_folder(root), "UAV123/data_seq")
    home = home.parent if home.name == "data_seq" else home
    names = tuple(sorted((path.stem for path in visible_files(home / "anno" / "UAV123")), key=natural))
    if not names or not (home / "data_seq" / "UAV123").is_dir():
        raise _not_one(root, "UAV123", "anno/UAV123/*.txt and data_seq/UAV123/VIDEO/*.jpg")
    rules = Rules(blank_distance=True, blank_normalised=True)
    return Dataset("uav123", home, names, _read_uav123, rules, prefix="uav_")


def _read_nfs(root: Path, name: str) -> Sequence:
    own = root / name / "30"
    if own.is_dir():
        boxes, folder = read_nfs(own / f"{name}.txt"), own / name
    else:
        plain, prefixed = root / "anno" / f"{name}.txt", root / "anno" / f"nfs_{name}.txt"
        boxes = read_boxes(prefixed if prefixed.is_file() else plain)
        folder = root / "sequences" / name
    names = image_names(folder)
    if len(boxes) > 2 * len(names):
        boxes = boxes[::8]  # some 30 fps folders carry the annotation of all 240 frames a second
    numbers = [_number(file) for file in names]
    if len(set(np.diff(numbers))) > 1:  # counts need not tell: many have one box more or less
        raise InputError(f"{folder}: the numbers of its pictures have a gap; unpack or download the sequence again")
    if numbers[0] == 1 and abs(len(boxes) - len(names)) == 1:  # the last frame of some has no box, or it is not there
        count = min(len(boxes), len(names))
        boxes, names = boxes[:count], names[:count]
    return Sequence(name, ImageFrames(folder, names), boxes, has_box(boxes))


def open_nfs(root: Path) -> Dataset:
    """NfS at 30 fps: NAME/30/NAME/*.jpg with NAME/30/NAME.txt, or sequences/NAME with anno/NAME.txt (tab, x y w h)."""
    own = [folder.name for folder in _subfolders(_folder(root)) if (folder / "30" / f"{folder.name}.txt").is_file()]
    converted = _unique((path.stem.removeprefix("nfs_"), path) for path in visible_files(root / "anno"))
    names = tuple(own) or converted
    if not names:
        raise _not_one(root, "NfS", "NAME/30/NAME.txt and NAME/30/NAME/*.jpg, or anno/NAME.txt and sequences/NAME")
    return Dataset("nfs", root, names, _read_nfs, Rules(blank_normalised=True), prefix="nfs_")


# --- VastTrack, DAVIS, VOT --------------------------------------------------------------------------------------------


def vasttrack_truth(folder: Path) -> Path | None:
    """The annotation in a sequence's folder, however its name is written; None where there is none."""
    return next((folder / name for name in ("Groundtruth.txt", "groundtruth.txt") if (folder / name).is_file()), None)


def _read_vasttrack(root: Path, name: str) -> Sequence:
    folder = class_folder(root, name)
    truth = vasttrack_truth(folder)
    if truth is None:
        raise InputError(f"{folder}: no Groundtruth.txt in it; is the data set complete?")
    boxes = read_boxes(truth)
    return _sequence(name, _among(folder, "img", "imgs"), boxes, np.asarray((boxes != 0).any(1)))


def open_vasttrack(root: Path) -> Dataset:
    """VastTrack's test split: CLASS/CLASS-N/{img or imgs,Groundtruth.txt}; a *test*list*.txt in the root counts."""
    home = _among(_folder(root), "test", "Test")
    lists = visible_files(home, "*test*list*.txt") + visible_files(root, "*test*list*.txt")
    if lists:
        official = list(read_names(lists[0]))
        names, missing = _split(official, lambda name: vasttrack_truth(class_folder(home, name)) is not None)
    else:
        below = [entry for folder in _subfolders(home) for entry in (folder, *_subfolders(folder))]
        names, missing = tuple(entry.name for entry in below if vasttrack_truth(entry)), ()
    if not names:
        raise _not_one(root, "VastTrack", "CLASS/CLASS-N/Groundtruth.txt with CLASS/CLASS-N/img/*.jpg")
    rules = Rules(blank_normalised=True, unseen_misses=True)
    return Dataset("vasttrack", home, names, _read_vasttrack, rules, missing=missing)


def davis_list(root: Path, split: str) -> list[str] | None:
    """Videos of a split of DAVIS, of 2017's list or else of 2016's; None where there is neither.

    A list has a name a line, or, as 2016 has it, a line for each picture and its mask.
    """
    lists = (root / "ImageSets" / part / f"{split}.txt" for part in ("2017", "2016", "480p", "1080p"))
    listed = next((path for path in lists if path.is_file()), None)
    if listed is None:
        return None
    lines = read_names(listed)
    return list(dict.fromkeys(PurePosixPath(line.split()[0]).parent.name if line[0] == "/" else line for line in lines))


def davis_without_list(root: Path, split: str) -> str:
    """What there is to say of a root of which every folder is taken."""
    other = "training" if split == "val" else "validation"
    return (
        f"{root} has no ImageSets/2017/{split}.txt (2016: ImageSets/480p/{split}.txt): every folder is taken, "
        f"those of the {other} split too"
    )


def _davis_folders(root: Path) -> tuple[Path, Path]:
    """Folders of pictures and masks, at 480p where both sizes are there."""
    for size in ("480p", "Full-Resolution", "1080p", ""):
        pictures, masks = root / "JPEGImages" / size, root / "Annotations" / size
        if pictures.is_dir() and masks.is_dir():
            return pictures, masks
    raise _not_one(root, "DAVIS", "JPEGImages/480p/NAME/*.jpg and Annotations/480p/NAME/*.png")


def _davis_masks(masks: Path, video: str) -> list[Path]:
    return [masks / video / name for name in image_names(masks / video)]


def _read_davis(root: Path, name: str) -> Sequence:
    pictures, masks = _davis_folders(root)
    video, number = name, ""
    if not (masks / video).is_dir():
        video, _, number = name.rpartition("_")
    objects = read_mask_boxes(_davis_masks(masks, video))
    # The one object of the first mask; one of a smaller number may come into view later.
    key = int(number) if number.isdigit() else next((n for n, boxes in objects.items() if has_box(boxes)[0]), -1)
    if key not in objects:
        raise InputError(f"{masks / video}: no object {number or 1} in these masks")
    boxes = objects[key]
    return _sequence(name, pictures / video, boxes, has_box(boxes))


def open_davis(root: Path) -> Dataset:
    """DAVIS: one sequence for each object of the first mask, boxes around its pixels; the validation list."""
    _, masks = _davis_folders(_folder(root))
    listed = davis_list(root, "val")
    videos = [folder.name for folder in _subfolders(masks)] if listed is None else listed
    there, missing = _split(videos, lambda video: (masks / video).is_dir())
    found: list[tuple[str, Path]] = []
    for video in there:
        objects = [int(number) for number in np.unique(read_mask(_davis_masks(masks, video)[0])) if number > 0]
        names = [video] if len(objects) <= 1 else [f"{video}_{number}" for number in objects]
        found += [(name, masks / video) for name in names]
    if not found:
        raise _not_one(root, "DAVIS", "Annotations/480p/NAME/*.png of the names in ImageSets/2017/val.txt")
    remark = davis_without_list(root, "val") if listed is None else ""
    rules = Rules(blank_counts=False)
    return Dataset("davis", root, _unique(found), _read_davis, rules, missing=missing, remark=remark)


def _vot_truth(folder: Path) -> dict[str, Path]:
    """Ground truths in a folder: one target (""), or one file for each object (VOTS)."""
    if (folder / "groundtruth.txt").is_file():
        return {"": folder / "groundtruth.txt"}
    return {f"_{path.stem.partition('_')[2]}": path for path in sorted(folder.glob("groundtruth_*.txt"))}


def _vot_label(path: Path, count: int) -> NDArray[np.bool_]:
    """Frames marked with a 1; the file may end early or late, as VOT's own toolkit takes it."""
    marked = [line.strip() == "1" for line in read_text(path).splitlines()]
    return np.array([*marked[:count], *[False] * (count - len(marked))])


def _read_vot(root: Path, name: str) -> Sequence:
    for stem, suffix in ((name, ""), *((name[:at], name[at:]) for at, mark in enumerate(name) if mark == "_")):
        truth = _vot_truth(root / stem).get(suffix)
        if truth is not None:
            folder = _among(root / stem, "color", "img")
            boxes = read_regions(truth)
            visible = has_box(boxes)
            for label in ("full_occlusion.label", "full_occlusion.tag"):
                if (root / stem / label).is_file():
                    visible &= ~_vot_label(root / stem / label, len(boxes))
            return _sequence(name, folder, boxes, visible)
    raise InputError(f"{root / name}: no groundtruth.txt there; is the data set complete?")


def open_vot(root: Path) -> Dataset:
    """VOT-style folders: list.txt, NAME/groundtruth.txt (boxes, polygons or masks), NAME/color/*.jpg or NAME/*.jpg.

    One pass from the first region's upright box; this is not VOT's own experiment (for that there is TraX).
    """
    home = _among(_folder(root), "sequences")
    listed = list(read_names(home / "list.txt")) if (home / "list.txt").is_file() else None
    folders, missing = _split(listed or [f.name for f in _subfolders(home)], lambda name: bool(_vot_truth(home / name)))
    names = _unique(
        (f"{folder}{suffix}", truth) for folder in folders for suffix, truth in _vot_truth(home / folder).items()
    )
    if not names:
        raise _not_one(root, "VOT", "list.txt and NAME/groundtruth.txt with NAME/color/*.jpg or NAME/*.jpg")
    missing = missing if listed else ()
    return Dataset("vot", home, names, _read_vot, Rules(blank_counts=False), missing=missing)


DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "folder": open_folder,
    "otb": open_otb,
    "lasot": open_lasot,
    "lasot-ext": open_lasot_ext,
    "got10k-val": open_got10k_val,
    "got10k-test": open_got10k_test,
    "trackingnet": open_trackingnet,
    "uav123": open_uav123,
    "nfs": open_nfs,
    "vasttrack": open_vasttrack,
    "davis": open_davis,
    "vot": open_vot,
}


WHOLE = {"otb": 100, "got10k-val": 180, "got10k-test": 180, "trackingnet": 511, "uav123": 123, "nfs": 100}
"""Sequences of benchmarks whose names are read from the root alone."""
OTB_PARTS = (50, 51)
"""Sequences of OTB-50 and OTB-2013, which are benchmarks of their own."""


def open_dataset(name: str, root: str | Path) -> Dataset:
    """List the sequences of a benchmark in a folder."""
    if name not in DATASETS:
        raise InputError(f"data set {name!r} is not known; there are {', '.join(DATASETS)}")
    dataset = DATASETS[name](Path(root).expanduser())
    official_part = name == "otb" and len(dataset) in OTB_PARTS
    return replace(dataset, whole=0 if official_part else WHOLE.get(name, 0))
