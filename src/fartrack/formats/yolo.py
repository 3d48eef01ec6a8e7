"""YOLO folder: `data.yaml`, `train.txt`, `images/train/frame_000000.jpg` and `labels/train/frame_000000.txt`.

Of a folder of images both are called like the image.
A line is `class centre-x centre-y width height` in parts of the frame. YOLO knows no hidden boxes: where the target
was not found the label file is empty, and the frame is left out of `train.txt`, because an unlabelled target would
teach a detector the wrong thing. Where two targets share a label, `tracks.txt` says which box is whose: the label
files have no column for it (Ultralytics refuses a sixth; it is read nevertheless, other tools write tracks so).
`written.txt` lists the labels and images that were written, so that a later run can remove them and nothing else.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path, PurePath

import cv2
import numpy as np

from fartrack.errors import InputError
from fartrack.files import whole_file, write_whole
from fartrack.formats.tracks import (
    FRAME,
    Box,
    Track,
    Video,
    boxes_by_frame,
    check_size,
    checked_box,
    frame_number,
    frames_by_name,
    labels_of,
    make_tracks,
    number,
    read_text,
)
from fartrack.video.pictures import IMAGE_TYPES

TRACKS = "tracks.txt"
RECORD = "written.txt"
LISTS = ("data.yaml", "train.txt", TRACKS)
OURS = re.compile(r"(?:labels/train/[^/\\]+\.txt|images/train/[^/\\]+\.jpg)")
HOW_TO_NAME = "add the target's id as a sixth column"
SIZE = re.compile(r"^# frames of (\d+) x (\d+)$", re.MULTILINE)  # above it stands the video's name


def write(path: Path, tracks: Sequence[Track], video: Video) -> Path:
    """Write the labels, the list of images and data.yaml; the images come from `write_image`."""
    names = labels_of(tracks)
    by_frame = boxes_by_frame(tracks)
    stem = stem_of(video)
    shared = max(Counter(track.label for track in tracks).values(), default=0) > 1
    labels = path / "labels" / "train"
    labels.mkdir(parents=True, exist_ok=True)
    earlier = _written(path, {f"labels/train/{stem(frame)}.txt" for frame in range(len(video.images))})
    expected = {f"labels/train/{stem(frame)}.txt" for frame in by_frame}
    stale = {name for name in earlier if name.startswith("labels/")} - expected
    for name in stale:
        (path / name).unlink(missing_ok=True)
    with whole_file(path / RECORD) as file:
        file.writelines(f"{name}\n" for name in sorted((earlier - stale) | expected))
    listed: list[str] = []
    owners: list[str] = []
    for frame, boxes in by_frame.items():
        lines = [(line, t.id) for t, box in boxes if (line := _line(names.index(t.label), box, video))]
        name = f"{stem(frame)}.txt"
        with whole_file(labels / name) as file:
            file.write("".join(line + "\n" for line, _ in lines))
        owners += [f"train/{name} {line} {id}\n" for line, id in lines]
        if len(lines) == len(boxes):
            listed.append(f"./images/train/{stem(frame)}.jpg\n")
    if shared:
        with whole_file(path / TRACKS) as file:
            file.writelines(owners)
    else:
        (path / TRACKS).unlink(missing_ok=True)
    with whole_file(path / "train.txt") as file:
        file.writelines(listed)
    with whole_file(path / "data.yaml") as file:
        file.write(f"# {video.name}, tracked by fartrack\n# frames of {video.width} x {video.height}\n")
        file.write("train: train.txt\nval: train.txt\nnames:\n")
        file.writelines(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(names))
    return path


def foreign(path: Path) -> list[str]:
    """What may not have been written here and would be overwritten or mixed with; none where a record tells it apart.

    Raises:
        InputError: a folder is where a file has to be, or the record is no text.
    """
    for name in (RECORD, *LISTS):
        if (path / name).is_dir():
            raise InputError(f"{path / name}: it is a folder and has to become a file; remove it, or write elsewhere")
    known = _written(path)
    if (path / RECORD).exists():
        return []
    files = [*(path / "labels").rglob("*.txt"), *(path / "images").rglob("*")]
    kinds = (*IMAGE_TYPES, ".txt")
    there = {file.relative_to(path).as_posix() for file in files if file.suffix.lower() in kinds}
    lists = [] if _described_here(path) else [name for name in LISTS if (path / name).exists()]
    return [*lists, *sorted(there - known)]


def clear(path: Path) -> None:
    """Remove what earlier runs wrote into a folder, so that the next one's labels and images are alone there."""
    earlier = _written(path)
    if earlier:
        for name in (*sorted(earlier), *LISTS, RECORD):
            (path / name).unlink(missing_ok=True)


def _written(path: Path, names: Set[str] = frozenset()) -> set[str]:
    """The labels and images that were written into a folder: `labels/train/frame_000000.txt` and so on.

    Older versions kept no record. Theirs is what train.txt lists and, as frames without the target are not in it, empty
    labels with a name that `write` gives: `frame_000000`, or `names`. Anything else may be somebody's own.
    """
    if (path / RECORD).exists():
        return {line for line in read_text(path / RECORD).split("\n") if OURS.fullmatch(line)}
    if not _described_here(path):
        return set()
    listed = read_text(path / "train.txt") if (path / "train.txt").exists() else ""
    ours = set(re.findall(r"^\./images/train/([^/\\\n]+)\.jpg$", listed, re.MULTILINE))
    labels = (path / "labels" / "train").glob("frame_*.txt")
    ours |= {file.stem for file in labels if re.fullmatch(r"frame_\d{6,}", file.stem) and not file.stat().st_size}
    return {name for stem in ours for name in (f"images/train/{stem}.jpg", f"labels/train/{stem}.txt")} | names


def _described_here(path: Path) -> bool:
    """Whether a folder's data.yaml is of `write`."""
    try:
        return bool(SIZE.search((path / "data.yaml").read_text(encoding="utf-8-sig")))
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def stem_of(video: Video) -> Callable[[int], str]:
    """How a frame's two files are called: like the image in its folder, unless two of those would share a name."""
    stems = [PurePath(image).stem for image in video.images]
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = []
    return lambda frame: stems[frame] if frame < len(stems) else FRAME.format(frame)


def write_image(path: Path, frame: int, image: np.ndarray, stem: str | None = None) -> Path:
    """Save one frame where `data.yaml` expects it. Call it while the video is being tracked.

    `stem` is what `stem_of` says, where the frame is an image of a folder.
    """
    target = path / "images" / "train" / f"{stem or FRAME.format(frame)}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    record = path / RECORD
    earlier = set() if record.exists() else _written(path)  # of an older version: the new record has to know it
    try:
        with record.open("a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(f"{name}\n" for name in (*sorted(earlier), f"images/train/{target.name}"))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(record)) from None
    # Not by OpenCV's `imwrite`, which cannot write to every path.
    write_whole(target, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return target


def _line(kind: int, box: Box, video: Video) -> str | None:
    """The label line, the box cut to the frame; None when nothing of it can be labelled."""
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    right, bottom = min(box.x + box.w, video.width), min(box.y + box.h, video.height)
    if not box.found or right <= left or bottom <= top:
        return None
    values = (
        (left + right) / 2 / video.width,
        (top + bottom) / 2 / video.height,
        (right - left) / video.width,
        (bottom - top) / video.height,
    )
    return " ".join([str(kind), *(number(v, 6) for v in values)])


def read(path: Path, video: Video | None = None) -> list[Track]:
    """Read a YOLO folder, or its data.yaml; see `_frames` for which frame a label file belongs to."""
    folder = path if path.is_dir() else path.parent
    description = folder / "data.yaml"
    text = read_text(description) if description.exists() else ""
    size = SIZE.search(text)
    if video is None and size is None:
        raise InputError(f"{folder}: YOLO boxes are parts of a frame; say which video they belong to")
    if video is not None and size is not None:
        check_size(str(description), int(size[1]), int(size[2]), video)
    width, height = (video.width, video.height) if video is not None else (int(size[1]), int(size[2]))  # type: ignore[index]
    files = sorted((folder / "labels").rglob("*.txt"))
    if not files:
        raise InputError(f"{folder}: no label file in {folder / 'labels'}; give the folder that holds 'labels'")
    frames = _frames(folder, files, video)
    names = _names(description, text)
    owners = _owners(folder / TRACKS)
    tracks = make_tracks(_boxes(folder, frames, names, owners, width, height), str(folder))
    if not names and len({track.label for track in tracks}) == 1:
        return [replace(track, label="target") for track in tracks]
    return tracks


def _frames(folder: Path, files: list[Path], video: Video | None) -> dict[Path, int]:
    """Which frame each label file belongs to: the one that is called so, else the last number in the file's name.

    Ultralytics' own results of a video, `clip_1.txt`, count from 1.
    """
    names = [file.name for file in files]
    if named := frames_by_name(names, video, str(folder)):
        return dict(zip(files, named, strict=True))
    ultralytics = re.escape(PurePath(video.name).stem if video is not None else "") + r"_[1-9]\d*\.txt"
    first = int(all(re.fullmatch(ultralytics, name) for name in names))
    frames: dict[Path, int] = {}
    for path in files:
        frame = frame_number(path.stem)
        if frame is None:
            raise InputError(
                f"{path}: its name holds no frame number; name it like {FRAME.format(12)}.txt or, for a folder of "
                "images, like its image"
            )
        frames[path] = frame - first
    return frames


Owners = dict[str, list[tuple[list[str], int]]]


def _owners(path: Path) -> Owners:
    """What tracks.txt says, {label file: [(the five columns of a line, id)]}; nothing where there is none."""
    owners: Owners = {}
    for line, row in enumerate(read_text(path).splitlines() if path.exists() else (), 1):
        if not row.strip():
            continue
        name, *cells = row.rsplit(maxsplit=6)
        try:
            if len(cells) != 6:
                raise ValueError(f"{1 + len(cells)} columns")
            owners.setdefault(name, []).append((cells[:5], int(cells[5])))
        except ValueError as error:
            raise InputError(
                f"{path}: line {line}: {error}; a line is file class centre-x centre-y width height id"
            ) from None
    return owners


def _boxes(
    folder: Path, frames: dict[Path, int], names: dict[int, str], owners: Owners, width: int, height: int
) -> Iterator[tuple[int, str, Box]]:
    shared = {cells[0] for boxes in owners.values() for cells, _ in boxes}
    for path, frame in frames.items():
        kinds: set[int] = set()
        lines = [(line, row.split()) for line, row in enumerate(read_text(path).splitlines(), 1) if row.strip()]
        known = owners.get(path.relative_to(folder / "labels").as_posix(), [])
        ids = _ids([cells for _, cells in lines], known)
        for (line, cells), owner in zip(lines, ids, strict=True):
            where = f"{path}: line {line}"
            try:
                if len(cells) not in (5, 6):
                    raise ValueError(f"{len(cells)} columns")
                kind = int(cells[0])
                x, y, w, h = (float(cell) for cell in cells[1:5])
                # Without an id a class is one target; ids then count from 1.
                id = int(cells[5]) if len(cells) == 6 else 1 + kind if owner is None else owner
            except ValueError as error:
                raise InputError(f"{where}: {error}; a line is class centre-x centre-y width height [id]") from None
            if max(abs(v) for v in (x, y, w, h)) > 2:
                raise InputError(f"{where}: YOLO boxes are parts of the frame, from 0 to 1; divide by its size")
            if len(cells) == 5 and owner is None:
                if cells[0] in shared:
                    raise InputError(f"{where}: {TRACKS} does not say whose box it is; {HOW_TO_NAME}")
                if kind in kinds:
                    raise InputError(f"{where}: a second box of class {kind}; {HOW_TO_NAME}")
            kinds.add(kind)
            left, top = (x - w / 2) * width, (y - h / 2) * height
            box = checked_box(Box(frame, left, top, w * width, h * height), where)
            yield id, names.get(kind, f"class {kind}"), box


def _ids(rows: list[list[str]], known: list[tuple[list[str], int]]) -> list[int | None]:
    """Whose the rows of a label file are: by what did not change, else by order where no box of the class is new."""
    left = list(known)
    ids: list[int | None] = []
    for cells in rows:
        same = next((entry for entry in left if entry[0] == cells), None)
        ids.append(same[1] if same else None)
        if same:
            left.remove(same)
    for kind in {cells[0] for cells in rows}:
        moved = [i for i, cells in enumerate(rows) if ids[i] is None and len(cells) == 5 and cells[0] == kind]
        others = [id for cells, id in left if cells[0] == kind]
        if len(moved) == len(others):
            for i, id in zip(moved, others, strict=True):
                ids[i] = id
    return ids


# The part of YAML that lists of names are written in.
QUOTED = r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\''
COMMENT = re.compile(
    rf"((?<![^\s\[{{,:-])(?:{QUOTED}))|(?:^|(?<=\s))#[^\n]*", re.MULTILINE
)  # or a quoted text: no comment
KEY = r"(?:[\"']?(\d+)[\"']?\s*:\s*)"
FLOW = re.compile(rf"\s*{KEY}?({QUOTED}|[^\s,\[\]{{}}][^,\[\]{{}}\n]*)?\s*([,\]}}])")  # one item between brackets
BLOCK = re.compile(rf"(?:[ \t]*-[ \t]+|[ \t]+{KEY})(\S.*)")  # one item on its line


def _names(path: Path, text: str) -> dict[int, str]:
    """The class names of data.yaml: `names: [a, b]` or `{0: a}`, or one per line as `- a` or `0: a`."""
    text = COMMENT.sub(lambda match: match[1] or "", text)
    start = re.search(r"^names[ \t]*:(?=\s|$)[ \t]*", text, re.MULTILINE)
    if start is None:
        return {}
    rest = text[start.end() :]
    items: list[tuple[str | None, str]] = []
    if rest.lstrip()[:1] in ("[", "{"):
        place, closed = rest.index(rest.lstrip()[0]) + 1, False
        while not closed:
            item = FLOW.match(rest, place)
            if item is None:
                raise InputError(f"{path}: the list of names is damaged; write one `0: name` per line below `names:`")
            if item[2] is not None:
                items.append((item[1], item[2]))
            place, closed = item.end(), item[3] != ","
    else:
        inline, *below = rest.split("\n")
        items += [(None, inline)] if inline.strip() else []
        for line in below:
            if not line.strip():
                continue
            if line[0] not in " \t-" or line.startswith("---"):
                break
            item = BLOCK.match(line)
            if item is None:
                raise InputError(f"{path}: {line.strip()!r} is no class name; write one `0: name` per line")
            items.append((item[1], item[2]))
    return {place if key is None else int(key): _scalar(value.strip()) for place, (key, value) in enumerate(items)}


def _scalar(text: str) -> str:
    """A YAML text without its quotes."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    try:
        return str(json.loads(text))  # how `write` makes it
    except json.JSONDecodeError:
        return text[1:-1]
