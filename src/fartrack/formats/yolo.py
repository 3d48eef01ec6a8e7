"""YOLO folder: `data.yaml`, `train.txt`, `images/train/frame_000000.jpg` and `labels/train/frame_000000.txt`.

A line is `class centre-x centre-y width height` in parts of the frame. YOLO knows no hidden boxes: where the target
was not found the label file is empty, and the frame is left out of `train.txt`, because an unlabelled target would
teach a detector the wrong thing. Two targets that share a label get their id as a sixth column (the layout of
Ultralytics' and CVAT's tracks).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from fartrack.errors import InputError
from fartrack.files import write_whole
from fartrack.formats.tracks import (
    Box,
    Track,
    Video,
    boxes_by_frame,
    check_size,
    checked_box,
    labels_of,
    make_tracks,
    number,
    read_text,
    whole_file,
)

STEM = "frame_{:06d}"
SIZE = re.compile(r"^# frames of (\d+) x (\d+)", re.MULTILINE)


def write(path: Path, tracks: Sequence[Track], video: Video) -> Path:
    """Write the labels, the list of images and data.yaml; the images come from `write_image`."""
    names = labels_of(tracks)
    by_frame = boxes_by_frame(tracks)
    with_id = max(Counter(track.label for track in tracks).values(), default=0) > 1
    labels = path / "labels" / "train"
    labels.mkdir(parents=True, exist_ok=True)
    listed: list[str] = []
    for frame, boxes in by_frame.items():
        lines = [line for track, box in boxes if (line := _line(names.index(track.label), track, box, video, with_id))]
        with whole_file(labels / f"{STEM.format(frame)}.txt") as file:
            file.write("".join(line + "\n" for line in lines))
        if len(lines) == len(boxes):
            listed.append(f"./images/train/{STEM.format(frame)}.jpg\n")
    expected = {f"{STEM.format(frame)}.txt" for frame in by_frame}
    for stale in labels.glob("frame_*.txt"):  # from an earlier, longer run
        if stale.name not in expected:
            stale.unlink()
    with whole_file(path / "train.txt") as file:
        file.writelines(listed)
    with whole_file(path / "data.yaml") as file:
        file.write(f"# {video.name}, tracked by fartrack\n# frames of {video.width} x {video.height}\n")
        file.write("train: train.txt\nval: train.txt\nnames:\n")
        file.writelines(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(names))
    return path


def write_image(path: Path, frame: int, image: np.ndarray) -> Path:
    """Save one frame where `data.yaml` expects it. Call it while the video is being tracked."""
    target = path / "images" / "train" / f"{STEM.format(frame)}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not by OpenCV's `imwrite`, which cannot write to every path.
    write_whole(target, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return target


def _line(kind: int, track: Track, box: Box, video: Video, with_id: bool) -> str | None:
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
    return " ".join([str(kind), *(number(v, 6) for v in values), *([str(track.id)] if with_id else [])])


def read(path: Path, video: Video | None = None) -> list[Track]:
    """Read a YOLO folder, or its data.yaml. The frame is the last number in a label file's name."""
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
    return make_tracks(_boxes(files, _names(description, text), width, height), str(folder))


def _boxes(files: list[Path], names: list[str], width: int, height: int) -> Iterator[tuple[int, str, Box]]:
    for path in files:
        match = re.search(r"(\d+)(?=\D*$)", path.stem)
        if match is None:
            raise InputError(f"{path}: its name holds no frame number; name it like {STEM.format(12)}.txt")
        kinds: set[int] = set()
        for line, row in enumerate(read_text(path).splitlines(), 1):
            cells = row.split()
            if not cells:
                continue
            where = f"{path}: line {line}"
            try:
                if len(cells) not in (5, 6):
                    raise ValueError(f"{len(cells)} columns")
                kind = int(cells[0])
                x, y, w, h = (float(cell) for cell in cells[1:5])
                # Without an id column a class is one target; ids then count from 1.
                id = int(cells[5]) if len(cells) == 6 else 1 + kind
            except ValueError as error:
                raise InputError(f"{where}: {error}; a line is class centre-x centre-y width height [id]") from None
            if max(abs(v) for v in (x, y, w, h)) > 2:
                raise InputError(f"{where}: YOLO boxes are parts of the frame, from 0 to 1; divide by its size")
            if len(cells) == 5 and kind in kinds:
                raise InputError(f"{where}: a second box of class {kind}; add the target's id as a sixth column")
            kinds.add(kind)
            left, top = (x - w / 2) * width, (y - h / 2) * height
            box = checked_box(Box(int(match[1]), left, top, w * width, h * height), where)
            yield id, names[kind] if 0 <= kind < len(names) else f"class {kind}", box


def _names(path: Path, text: str) -> list[str]:
    """The class names of data.yaml: `names: [a, b]`, or one per line as `- a` or `0: a`."""
    start = re.search(r"^names:[ \t]*(.*)$", text, re.MULTILINE)
    if start is None:
        return []
    inline = start[1].split(" #")[0].strip()
    if inline:
        items = [item for item in inline.strip("[]{}").split(",") if item.strip()]
    else:
        block = re.match(r"(?:[ \t]*\n|[ \t]*-.*\n?|[ \t]+.*\n?)*", text[start.end() + 1 :])
        items = [item for item in (block[0] if block else "").splitlines() if item.strip()]
    names: list[str] = []
    for item in items:
        value = re.sub(r"^\s*(-|\d+\s*:)\s*", "", item).strip()
        names.append(value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value)
    return names
