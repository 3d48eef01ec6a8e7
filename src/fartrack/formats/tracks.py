"""What every labelling format is written from and read into: a video, its tracks, their boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from fartrack.errors import InputError

FRAME = "frame_{:06d}"
"""CVAT's name for frame i of a video, without an ending."""


@dataclass(frozen=True, slots=True)
class Box:
    """One target in one frame: frames count from 0, (x, y) is the top-left corner in pixels."""

    frame: int
    x: float
    y: float
    w: float
    h: float
    score: float = 1.0
    found: bool = True
    """False: the tracker did not find the target here; the box is its last guess."""
    keyframe: bool = True
    """False: the labelling tool made this box up between two others (only CVAT says so)."""

    @property
    def xywh(self) -> tuple[float, float, float, float]:
        """The box as the tracker takes it."""
        return self.x, self.y, self.w, self.h


@dataclass(frozen=True, slots=True)
class Track:
    """One target through the video: boxes in ascending frame order, at most one per frame."""

    id: int
    label: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Video:
    """What the formats say about the video. `frames` is how many it has in all, tracked or not."""

    name: str
    width: int
    height: int
    fps: float
    frames: int
    images: tuple[str, ...] = ()
    """The names of a folder's images from frame 0 on; empty for a video file."""


def make_tracks(boxes: Iterable[tuple[int, str, Box]], where: str) -> list[Track]:
    """Group (target id, label, box) into tracks; two boxes of one target in one frame are refused.

    `where` names the file for the message.
    """
    grouped: dict[int, dict[int, Box]] = {}
    labels: dict[int, str] = {}
    for id, label, box in boxes:
        if labels.setdefault(id, label) != label:
            raise InputError(
                f"{where}: target {id} is called {labels[id]!r} and, in frame {box.frame}, {label!r}; "
                "give each target one label, or each label its own target id"
            )
        track = grouped.setdefault(id, {})
        if box.frame in track:
            raise InputError(f"{where}: frame {box.frame} has two boxes of target {id}; keep one, or give them two ids")
        track[box.frame] = box
    return [Track(id, labels[id], tuple(track[f] for f in sorted(track))) for id, track in grouped.items()]


def checked_box(box: Box, where: str) -> Box:
    """The box, or an InputError that begins with `where` (file and line or frame) when it cannot be one."""
    if box.frame < 0:
        raise InputError(f"{where}: frame {box.frame} does not exist; check how the file counts its frames")
    if not all(math.isfinite(v) for v in (*box.xywh, box.score)):
        raise InputError(f"{where}: the box is not made of finite numbers; correct it or delete the entry")
    if box.found and (box.w <= 0 or box.h <= 0):
        raise InputError(f"{where}: the box is {box.w:g} x {box.h:g} pixels; correct it or delete the entry")
    return box


def upright(x: float, y: float, w: float, h: float, degrees: float) -> tuple[float, float, float, float]:
    """The upright box around one that is turned about its middle: what a tracker can follow."""
    if not degrees:
        return x, y, w, h
    turn = math.radians(degrees)
    sine, cosine = abs(math.sin(turn)), abs(math.cos(turn))
    wide, high = w * cosine + h * sine, w * sine + h * cosine
    return x + (w - wide) / 2, y + (h - high) / 2, wide, high


def frame_number(name: str) -> int | None:
    """The last number in a file's name; None where there is none."""
    match = re.search(r"(\d+)(?=\D*$)", name)
    return int(match[1]) if match else None


def frames_by_name(names: Sequence[str], video: Video | None, where: str | None) -> list[int] | None:
    """The frames whose images are called like these files, with this ending or another; None where not all are.

    Raises:
        InputError: only some are, so that numbers may count otherwise; it begins with `where`. Without that they are
            as good as none.
    """
    images = video.images if video is not None else ()
    frames: dict[str, int | None] = {}
    for frame, image in enumerate(images):
        stem = PurePath(image).stem
        frames[stem] = None if stem in frames else frame  # 1.jpg beside 1.png
    frames.update((image, frame) for frame, image in enumerate(images))
    files = [re.split(r"[/\\]", name)[-1] for name in names]
    found = [frames.get(file, frames.get(PurePath(file).stem)) for file in files]
    known = [frame for frame in found if frame is not None]
    if video is not None and where is not None and known and len(known) < len(found):
        raise InputError(
            f"{where}: {names[found.index(known[0])]} is called like an image of {video.name}, "
            f"{names[found.index(None)]} like none; give labels of these images only, all called like their images"
        )
    return known if len(known) == len(found) else None


def check_size(where: str, width: int, height: int, video: Video) -> None:
    """Refuse boxes that were drawn on frames of another size."""
    if (width, height) != (video.width, video.height):
        raise InputError(
            f"{where}: labelled on frames of {width} x {height}, but {video.name} has {video.width} x {video.height}; "
            "use the video that was labelled, or scale the boxes"
        )


def check_tracks(tracks: Sequence[Track], video: Video, where: str) -> None:
    """Refuse boxes in frames the video does not have, and boxes that lie outside its frames."""
    if not any(track.boxes for track in tracks):
        raise InputError(f"{where}: there is no box in it; draw at least one and save it again")
    for track in tracks:
        for box in track.boxes:
            if video.frames and box.frame >= video.frames:
                raise InputError(
                    f"{where}: frame {box.frame} has a box, but {video.name} has {video.frames} frames "
                    f"(0 to {video.frames - 1}); use the video that was labelled, check how the file counts "
                    "frames, or delete the entry"
                )
            inside = box.x < video.width and box.y < video.height and box.x + box.w > 0 and box.y + box.h > 0
            if box.found and not inside:
                raise InputError(
                    f"{where}: the box in frame {box.frame} lies outside the {video.width} x {video.height} frame; "
                    "use the video that was labelled, or correct the box"
                )


def labels_of(tracks: Iterable[Track]) -> list[str]:
    """The labels that occur, in order of appearance."""
    return list(dict.fromkeys(track.label for track in tracks))


def boxes_by_frame(tracks: Iterable[Track]) -> dict[int, list[tuple[Track, Box]]]:
    """All boxes, frame by frame in ascending order; within a frame in the order of the tracks."""
    frames: dict[int, list[tuple[Track, Box]]] = {}
    for track in tracks:
        for box in track.boxes:
            frames.setdefault(box.frame, []).append((track, box))
    return dict(sorted(frames.items()))


def read_text(path: Path) -> str:
    """The text of a file (a byte order mark is dropped), or one line that says why not."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start}); save it as UTF-8") from None


def rounded_score(score: float) -> float:
    """A score to four digits. Only a given box has exactly 1, only a frame said to be without the target exactly 0."""
    return min(max(round(score, 4), 0.0001), 0.9999) if 0 < score < 1 else round(score, 4)


def number(value: float, digits: int = 3) -> str:
    """A number as the text formats write it: fixed precision, no trailing zeros."""
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
