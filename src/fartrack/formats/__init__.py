"""Labelling formats: the table of their writers and readers, and finding out which one a file is in."""

from __future__ import annotations

import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fartrack.errors import InputError
from fartrack.formats import boxes_csv, coco, cvat, mot, yolo
from fartrack.formats.tracks import Box, Track, Video, check_tracks

__all__ = ["FORMATS", "Box", "Format", "Track", "Video", "detect_format", "read_boxes", "write_boxes"]


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is written, read and named in a folder of results."""

    write: Callable[[Path, Sequence[Track], Video], Path]
    read: Callable[[Path, Video | None], list[Track]]
    target: str
    """The name of the file or folder; `yolo` and `mot` are folders."""


FORMATS: dict[str, Format] = {
    "csv": Format(boxes_csv.write, boxes_csv.read, "boxes.csv"),
    "mot": Format(mot.write, mot.read, "mot"),
    "coco": Format(coco.write, coco.read, "coco.json"),
    "cvat": Format(cvat.write, cvat.read, "cvat.xml"),
    "yolo": Format(yolo.write, yolo.read, "yolo"),
}


def write_boxes(format: str, path: str | Path, tracks: Sequence[Track], video: Video) -> Path:
    """Write tracks to a file or folder in the named format."""
    if format not in FORMATS:
        raise InputError(f"format {format!r}: not known; choose from {', '.join(FORMATS)}")
    return FORMATS[format].write(Path(path), tracks, video)


def read_boxes(path: str | Path, video: Video) -> list[Track]:
    """Read boxes in any of the formats and check them against the video they are meant for."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    if path.is_file() and zipfile.is_zipfile(path):
        return _read_zip(path, video)
    tracks = FORMATS[detect_format(path)].read(path, video)
    check_tracks(tracks, video, str(path))
    return tracks


def detect_format(path: Path) -> str:
    """Which format a file or folder is in, by what it holds."""
    if path.is_dir():
        if (path / "gt" / "gt.txt").exists() or (path / "gt.txt").exists():
            return "mot"
        if (path / "data.yaml").exists() or (path / "labels").is_dir():
            return "yolo"
        raise InputError(f"{path}: neither a MOT folder (gt/gt.txt) nor a YOLO folder (labels/); give the file itself")
    if path.suffix.lower() in (".yaml", ".yml"):
        return "yolo"
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line.strip() for line in file if line.strip()), "")
    except UnicodeDecodeError:
        first = "\0"
    if first.startswith("<"):
        return "cvat"
    if first.startswith(("{", "[")):
        return "coco"
    cells = first.replace(",", " ").replace(";", " ").split()
    if "frame" in (cell.strip('"').lower() for cell in cells):
        return "csv"
    if len(cells) >= 6 and all(_is_number(cell) for cell in cells):
        return "mot"
    if len(cells) == 5 and path.parent.name in ("labels", "train"):
        raise InputError(f"{path}: one YOLO label file is one frame; give the folder that holds 'labels'")
    raise InputError(
        f"{path}: not recognised as csv, MOT, COCO, CVAT or YOLO; a csv begins with {','.join(boxes_csv.COLUMNS)}"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_zip(path: Path, video: Video) -> list[Track]:
    """What CVAT hands out: a zip with the annotation file in it, perhaps beside the images."""
    wanted = (".xml", ".json", ".txt", ".csv", ".yaml", ".ini")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    *above, last = name.split("/")
                    if last.lower().endswith(wanted) and not last.startswith("._") and "__MACOSX" not in above:
                        archive.extract(name, folder)
        except RuntimeError:  # what zipfile raises for a password and for an unknown method
            raise InputError(f"{path}: encrypted or packed in an unusual way; unpack it and give the file") from None
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError):
            raise InputError(f"{path}: a damaged zip; export or download it again") from None
        inside = Path(folder)
        files = sorted(p for p in inside.rglob("*") if p.suffix.lower() in (".xml", ".json", ".csv"))
        folders = sorted(
            {p.parents[1] for p in inside.rglob("gt/gt.txt")} | {p.parent for p in inside.rglob("data.yaml")}
        )
        found = files or folders
        if len(found) != 1:
            what = "no annotation file" if not found else f"{len(found)} annotation files"
            raise InputError(f"{path}: {what} in the zip; unpack it and give the file")
        try:
            return read_boxes(found[0], video)
        except InputError as error:  # name the zip, not the temporary folder
            raise InputError(str(error).replace(str(inside), str(path))) from None
