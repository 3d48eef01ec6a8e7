"""MOTChallenge text: `frame,id,left,top,width,height,flag,class,visibility,score`, everything counted from 1.

Written either as one `.txt` file or as a sequence folder (`gt/gt.txt`, `gt/labels.txt`, `seqinfo.ini`), which is what
CVAT ("MOT 1.1"), Datumaro and TrackEval read. The first pixel of a frame is (1, 1), as the benchmark defines it.
A box that was not found has flag 0 ("do not consider") and visibility 0 (fully occluded). The flag is 0 or 1 because
readers of ground truth make it a whole number; the tracker's score is a tenth column, which they leave unread.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Sequence
from pathlib import Path

from fartrack.errors import InputError
from fartrack.files import whole_file
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
    rounded_score,
)


def write(path: Path, tracks: Sequence[Track], video: Video) -> Path:
    """Write the text file (`path` ends in .txt) or the sequence folder."""
    if path.suffix.lower() == ".txt":
        _write_text(path, tracks)
        return path
    _write_text(path / "gt" / "gt.txt", tracks)
    with whole_file(path / "gt" / "labels.txt") as file:
        file.write("\n".join(labels_of(tracks)) + "\n")
    name = video.name.replace("%", "%%")  # readers that use Python's ConfigParser take one % for a reference
    with whole_file(path / "seqinfo.ini") as file:
        file.write(
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate={round(video.fps)}\nseqLength={video.frames}\n"
            f"imWidth={video.width}\nimHeight={video.height}\nimExt=.jpg\n"
        )
    return path


def _write_text(path: Path, tracks: Sequence[Track]) -> None:
    classes = {label: 1 + i for i, label in enumerate(labels_of(tracks))}
    shift = max(0, 1 - min((track.id for track in tracks), default=1))  # ids count from 1, CVAT's from 0
    with whole_file(path) as file:
        for frame, boxes in boxes_by_frame(tracks).items():
            for track, box in boxes:
                corner = f"{number(box.x + 1)},{number(box.y + 1)},{number(box.w)},{number(box.h)}"
                file.write(
                    f"{frame + 1},{track.id + shift},{corner},{int(box.found)},"
                    f"{classes[track.label]},{int(box.found)},{number(rounded_score(box.score), 4)}\n"
                )


def read(path: Path, video: Video | None = None) -> list[Track]:
    """Read a text file or a sequence folder; 6 to 10 columns, split by commas or blanks.

    The seventh may be a score too, as trackers write it into their results.
    """
    if path.is_dir():
        path = next((p for p in (path / "gt" / "gt.txt", path / "gt.txt") if p.exists()), path / "gt" / "gt.txt")
    text = read_text(path)
    if video is not None:
        _check_seqinfo(path.parent.parent / "seqinfo.ini", video)
    names_file = path.parent / "labels.txt"
    names = read_text(names_file).split("\n") if names_file.exists() else []
    return make_tracks(_boxes(path, text, [name.strip() for name in names]), str(path))


def _boxes(path: Path, text: str, names: list[str]) -> Iterator[tuple[int, str, Box]]:
    for line, row in enumerate(text.splitlines(), 1):
        cells = row.replace(",", " ").split()
        if not cells:
            continue
        where = f"{path}: line {line}"
        try:
            if len(cells) < 6:
                raise ValueError(f"{len(cells)} columns")
            frame, id, x, y, w, h = (float(cell) for cell in cells[:6])
            confidence = float(cells[6]) if len(cells) > 6 else 1.0
            kind = float(cells[7]) if len(cells) > 7 else -1.0  # -1: not given
            if frame != int(frame) or id != int(id):
                raise ValueError("frame and id must be whole numbers")
        except (ValueError, OverflowError) as error:
            raise InputError(f"{where}: {error}; a row is frame,id,left,top,width,height[,confidence,...]") from None
        if frame < 1:
            raise InputError(f"{where}: frame {frame:g}, but MOTChallenge counts frames from 1; renumber the file")
        label = names[int(kind) - 1] if 1 <= kind <= len(names) else "target"
        score = _score(cells)
        if score is None:  # detectors write other ranges; of a box that is not considered there is no score
            score = min(max(confidence, 0.0), 1.0) if confidence else 1.0
        box = Box(int(frame) - 1, x - 1, y - 1, w, h, score, found=confidence != 0)
        yield int(id), label or "target", checked_box(box, where)


def _score(cells: list[str]) -> float | None:
    """Our tenth column. In files of others it is -1 or a place in the world; then class and visibility are no such."""
    if len(cells) != 10:
        return None
    try:
        flag, kind, visibility, score = (float(cell) for cell in cells[6:])
    except ValueError:
        return None
    ours = flag == visibility and flag in (0, 1) and kind >= 1 and kind == round(kind) and 0 <= score <= 1
    return score if ours else None


def _check_seqinfo(path: Path, video: Video) -> None:
    if not path.exists():
        return
    parser = configparser.ConfigParser()
    try:
        parser.read_string(read_text(path))
        width, height = parser.getint("Sequence", "imWidth"), parser.getint("Sequence", "imHeight")
    except (configparser.Error, ValueError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; correct it or delete it") from None
    check_size(str(path), width, height, video)
