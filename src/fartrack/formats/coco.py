"""COCO with videos: `videos`, `tracks`, `images` with video_id and frame_index, `annotations` with track_id and score.

A box that was not found is kept with `"iscrowd": 1` (evaluation and training leave such regions out) and
`"attributes": {"occluded": true, "outside": true}`.
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fartrack.errors import InputError
from fartrack.files import whole_file
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
    read_text,
    rounded_score,
    upright,
)

IMAGE = f"{FRAME}.jpg"


def write(path: Path, tracks: Sequence[Track], video: Video) -> Path:
    """Write the JSON file. Every frame of the video is an image, so that frames without target are known as such."""
    categories = {label: 1 + i for i, label in enumerate(labels_of(tracks))}
    frames = max([video.frames, *(1 + box.frame for track in tracks for box in track.boxes)])
    annotations: list[dict[str, Any]] = []
    for frame, boxes in boxes_by_frame(tracks).items():
        for track, box in boxes:
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": 1 + frame,
                    "video_id": 1,
                    "category_id": categories[track.label],
                    "track_id": track.id,
                    "bbox": [round(v, 3) for v in box.xywh],
                    "area": round(box.w * box.h, 3),
                    "iscrowd": int(not box.found),
                    "score": rounded_score(box.score),
                    "attributes": {"occluded": not box.found, "outside": not box.found, "track_id": track.id},
                }
            )
    size = {"width": video.width, "height": video.height}
    names = [*video.images, *(IMAGE.format(f) for f in range(len(video.images), frames))]
    data = {
        "info": {"description": f"{video.name}, tracked by fartrack"},
        "licenses": [],
        "videos": [{"id": 1, "name": video.name, **size, "fps": video.fps, "length": frames}],
        "tracks": [{"id": t.id, "category_id": categories[t.label], "video_id": 1} for t in tracks],
        "categories": [{"id": id, "name": label, "supercategory": ""} for label, id in categories.items()],
        "images": [
            {"id": 1 + f, "video_id": 1, "frame_index": f, "file_name": names[f], **size} for f in range(frames)
        ],
        "annotations": annotations,
    }
    with whole_file(path) as file:
        json.dump(data, file, default=_plain)
    return path


def _plain(value: object) -> int | float:
    """A number that JSON does not know: NumPy's, or a Fraction, as which a source has its fps."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}, which cannot be written as JSON")


def read(path: Path, video: Video | None = None) -> list[Track]:
    """Read the JSON file, ours or another tool's.

    An image's frame is the one of `video` that is called so, else its frame_index, else the number in its file name.
    """
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}: broken JSON ({error.msg}); save it again") from None
    except (RecursionError, ValueError):  # nested without end, or a number of thousands of digits
        raise InputError(f"{path}: damaged JSON; export it again") from None
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise InputError(
            f"{path}: not a COCO file, it has no list 'images'; export it as COCO with videos or instances"
        )
    if not isinstance(data.get("annotations"), list):
        raise InputError(f"{path}: not a COCO file with boxes, it has no list 'annotations'; export it again")
    return make_tracks(_boxes(path, data, video), str(path))


def _boxes(path: Path, data: dict[str, Any], video: Video | None) -> Iterator[tuple[int, str, Box]]:
    frames: dict[Any, int] = {}
    images = _entries(path, data, "images", "id", "video_id")
    files = [str(image.get("file_name", "")) for image in images]
    indexed = all(isinstance(_index(image), int) for image in images)
    named = frames_by_name(files, video, None if indexed else str(path))
    for order, image in enumerate(images):
        if "id" not in image:
            raise InputError(f"{path}: an entry in 'images' has no 'id'; export the file again")
        frames[image["id"]] = named[order] if named else _frame_of(path, image)
        if video is not None and image.get("width") and image.get("height"):
            check_size(f"{path}: frame {frames[image['id']]}", image["width"], image["height"], video)
    if len({image.get("video_id") for image in data["images"]}) > 1:
        raise InputError(f"{path}: it holds several videos; export the one that is tracked alone")
    names = {c.get("id"): str(c.get("name", "target")) for c in _entries(path, data, "categories", "id")}
    for entry in _entries(path, data, "annotations", "image_id", "category_id"):
        where = f"{path}: annotation {entry.get('id')}"
        if entry.get("image_id") not in frames:
            raise InputError(f"{where}: its image {entry.get('image_id')} is not among 'images'; export the file again")
        attributes = entry.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise InputError(f"{where}: 'attributes' must be an object with names; export the file again")
        ids = (entry.get("track_id"), attributes.get("track_id"), entry.get("instance_id"), 1)
        given = next(id for id in ids if id is not None)
        try:
            id = int(given)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: its track_id {given!r} is no whole number; number the targets") from None
        try:
            x, y, w, h = (float(v) for v in entry["bbox"])
            score = float(entry.get("score", 1.0))
            place = upright(x, y, w, h, float(attributes.get("rotation") or 0))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{where}: 'bbox' must be [x, y, width, height], 'score' and 'rotation' numbers; export the file again"
            ) from None
        box = Box(
            frames[entry["image_id"]],
            *place,
            score=score,
            found=not (attributes.get("outside") or entry.get("iscrowd")),
            keyframe=bool(attributes.get("keyframe", True)),
        )
        yield id, names.get(entry.get("category_id"), "target"), checked_box(box, f"{where} (frame {box.frame})")


def _entries(path: Path, data: dict[str, Any], name: str, *ids: str) -> list[dict[str, Any]]:
    """One of the lists, empty where there is none: objects whose `ids` are numbers or names."""
    entries = data.get(name) or []
    if not isinstance(entries, list):
        raise InputError(f"{path}: {name!r} is not a list; export the file again")
    for place, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: entry {place} of {name!r} is not an object with names; export the file again")
        for id in ids:
            if isinstance(entry.get(id), (list, dict)):
                raise InputError(f"{path}: entry {place} of {name!r}: {id!r} is not a number; export the file again")
    return entries


def _index(image: dict[str, Any]) -> Any:
    return image.get("frame_index", image.get("frame_id"))


def _frame_of(path: Path, image: dict[str, Any]) -> int:
    index = _index(image)
    if isinstance(index, int):
        return index
    number = frame_number(str(image.get("file_name", "")))
    if number is None:
        raise InputError(
            f"{path}: image {image.get('id')} names no frame; give it 'frame_index', or a file name such as "
            f"{IMAGE.format(12)} or, for a folder of images, that of its image"
        )
    return number
