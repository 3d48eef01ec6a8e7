"""The pack format: tar shards of pictures with an index, decoded once into flat tensors that stay in memory.

A shard holds `NAME.webp` pictures, `NAME.png` masks and a last member `index.jsonl` with one picture a line:
``{"file", "source", "mask"?, "objects": [{"box": [x, y, w, h], "class", "mask"?}], "track"?: {"id", "frame"}}``.
A frame of a track has one object; several targets of a video are several tracks, each with its own lines.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fartrack.errors import InputError

log = logging.getLogger(__name__)

LEVELS = 3
"""Sizes kept of each picture: whole, half, quarter. Crops that shrink read a smaller one, or they alias."""

MAX_BROKEN = 0.01
"""Share of broken pictures or boxes above which reading stops."""

Row = dict[str, Any]
"""A line of an index."""
Levels = list[np.ndarray]
"""A picture as (h, w, 4) uint8 in all its sizes."""


@dataclass
class Pictures:
    """Every picture as RGBA pixels in one flat tensor; A is the number of the object that a pixel belongs to."""

    pixels: Tensor
    """(P,) int32: the four bytes R, G, B, A of each pixel."""
    offset: Tensor
    """(N, LEVELS) int64: where each level of a picture starts."""
    size: Tensor
    """(N, LEVELS, 2) int64: width and height."""

    def rgba(self, number: int, level: int = 0) -> npt.NDArray[np.uint8]:
        """(h, w, 4) of one size of a picture that lies in this machine's memory; not a copy."""
        (w, h), start = self.size[number, level].tolist(), int(self.offset[number, level])
        flat = self.pixels[start : start + w * h].numpy()
        return flat.view(np.uint8).reshape(h, w, 4)

    def to(self, device: torch.device) -> Pictures:
        """The same on another device."""
        return Pictures(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass
class Objects:
    """One row per annotated object."""

    picture: Tensor
    """(M,) int64."""
    box: Tensor
    """(M, 4) float32 x, y, w, h in pixels of the picture."""
    mask: Tensor
    """(M,) int64: the value of A that is this object, 0 when there is no mask to trust."""
    kind: Tensor
    """(M,) int64: class within its source, over all sources."""
    source: Tensor
    """(M,) int64."""
    track: Tensor
    """(M,) int64: number of its track, -1 for stills."""
    frame: Tensor
    """(M,) int64: place in time within its track."""
    alone: Tensor
    """(M,) bool: a cut-out without surroundings of its own."""
    outline: Tensor
    """(M, 4) float32 x, y, w, h around the object's mask, its box where it has none: what it fills once it is cut out.
    Masks may lie half a pixel aside of their boxes, for many were scaled by their nearest pixels."""

    def same(self, a: Tensor, b: Tensor) -> Tensor:
        """Whether rows show one picture, or frames of one track."""
        return (self.picture[a] == self.picture[b]) | ((self.track[a] == self.track[b]) & (self.track[a] >= 0))

    def to(self, device: torch.device) -> Objects:
        """The same on another device."""
        return Objects(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass
class Pack:
    """A decoded training pack."""

    pictures: Pictures
    objects: Objects
    sources: list[str]
    files: list[str]
    """Name of each picture, in order."""
    picture_source: Tensor
    """(N,) int64."""
    fingerprint: str
    skipped: list[str]
    """Pictures or annotations that could not be used, each with its reason."""

    def cut_out(self, number: int) -> bool:
        """Whether a picture is a cut-out without surroundings."""
        return bool((self.objects.alone & (self.objects.picture == number)).any())

    def to(self, device: torch.device) -> Pack:
        """The same with its tables on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("pictures", "objects", "picture_source")}
        return replace(self, **moved)


def read_pack(paths: Sequence[Path], workers: int = 2) -> Pack:
    """Decode shards.

    Args:
        paths: tar files, or folders of them.
        workers: decoding threads.

    Raises:
        FileNotFoundError: a path does not exist.
        InputError: a path is no shard, or too many pictures or boxes are broken.
    """
    shards = find_shards(paths)
    digest = hashlib.sha256()

    def decoded() -> Iterator[tuple[Row, Levels | str]]:
        with ThreadPoolExecutor(workers) as pool:
            for shard in shards:
                entries = list(_entries(shard, digest))
                for (row, _, _), levels in zip(entries, pool.map(_decode, entries), strict=True):
                    yield {**row, "where": f"{shard.name}/{row['file']}"}, levels

    pack = assemble(decoded())
    pack.fingerprint = digest.hexdigest()[:16]
    return pack


def assemble(decoded: Iterable[tuple[Row, Levels | str]], tally: Tally | None = None, judge: bool = True) -> Pack:
    """Tables of pictures and objects out of rows of an index with their pictures, or with what is wrong with them.

    Args:
        decoded: rows and pictures.
        tally: of other parts of the same data; None when this is all.
        judge: stop when too much is broken.

    Raises:
        InputError: more than one in a hundred pictures or boxes cannot be used, or none is left.
    """
    # One array that grows where it lies: pieces to be joined would take their memory twice.
    flat, filled = np.empty(1 << 22, np.int32), 0
    rows: list[Row] = []
    skipped: list[str] = []
    sizes: list[list[tuple[int, int]]] = []
    total = 0
    for row, levels in decoded:
        total += 1
        if isinstance(levels, str):
            skipped.append(f"{row.get('where', row['file'])}: {levels}")
            continue
        for level in levels:
            pixels = level.reshape(-1, 4).view(np.int32).ravel()
            if filled + len(pixels) > len(flat):
                flat.resize(max(filled + len(pixels), len(flat) * 6 // 5), refcheck=False)
            flat[filled : filled + len(pixels)] = pixels
            filled += len(pixels)
        masked = [item for item in row["objects"] if item.get("mask")]
        owner = np.ascontiguousarray(levels[0][..., 3]) if masked else levels[0]
        for item in masked:
            item["outline"] = outline(owner, int(item["mask"]))
        sizes.append([(level.shape[1], level.shape[0]) for level in levels])
        rows.append(row)
    tally = tally or Tally()
    tally.add(skipped, total, "pictures", judge)
    if not rows:
        raise InputError("there is not one picture to train on: check --data")
    flat.resize(filled, refcheck=False)
    size = torch.tensor(sizes, dtype=torch.int64)
    count = (size[..., 0] * size[..., 1]).flatten()
    offset = (count.cumsum(0) - count).view(-1, LEVELS)
    pictures = Pictures(torch.from_numpy(flat), offset, size)
    names = sorted({row["source"] for row in rows})
    picture_source = torch.tensor([names.index(row["source"]) for row in rows])
    objects, bad = _objects(rows, size[:, 0], names)
    tally.add(bad, sum(len(row["objects"]) for row in rows), "boxes", judge)
    return Pack(pictures, objects, names, [r["file"] for r in rows], picture_source, "", skipped + bad)


def empty_pack() -> Pack:
    """One without pictures, of which nothing can be drawn."""
    size = torch.zeros(0, LEVELS, 2, dtype=torch.int64)
    pictures = Pictures(torch.zeros(0, dtype=torch.int32), size[..., 0], size)
    objects, _ = _objects([], size[:, 0], [])
    return Pack(pictures, objects, ["nothing"], [], size[:, 0, 0], "", [])


class Tally:
    """What is broken of data that is read in several parts: one in a hundred of all of it is too much, not of one."""

    def __init__(self) -> None:
        self.total, self.broken = Counter[str](), Counter[str]()
        self.first: dict[str, str] = {}

    def add(self, problems: Sequence[str], total: int, what: str, judge: bool = True) -> None:
        """Name what is broken of a part in the log, and stop when it is too much of all parts so far.

        Raises:
            InputError: more than one in a hundred, unless a part is not to be judged (it is counted all the same).
        """
        for line in list(dict.fromkeys(problems))[:20]:  # a recording without pictures is one problem of many of them
            log.warning("skipped %s", line)
        if problems:
            log.warning("%d of %d %s are broken and were skipped", len(problems), total, what)
            self.first.setdefault(what, problems[0])
        self.total[what] += total
        self.broken[what] += len(problems)
        if judge and self.broken[what] > MAX_BROKEN * self.total[what]:
            raise InputError(
                f"{self.broken[what]} of {self.total[what]} {what} are broken, first {self.first[what]}: check the data"
            )


def find_shards(paths: Sequence[Path]) -> list[Path]:
    """Tar files among paths and in folders.

    Raises:
        FileNotFoundError: a path does not exist.
        InputError: a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"training data {path} does not exist: give a shard (.tar) or a folder of shards")
        shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not shards:
            raise InputError(f"{path} holds no .tar shards: give the folder that does")
        found += shards
    return found


def _entries(shard: Path, digest: Any) -> Iterator[tuple[Row, bytes, bytes | None]]:
    try:
        with tarfile.open(shard) as tar:
            members = {m.name: m for m in tar.getmembers()}
            index = tar.extractfile(members["index.jsonl"])
            assert index is not None
            text = index.read()
            digest.update(text)
            for line in text.splitlines():
                row = json.loads(line)
                picture = tar.extractfile(members[row["file"]])
                mask = tar.extractfile(members[row["mask"]]) if row.get("mask") else None
                assert picture is not None
                yield row, picture.read(), mask.read() if mask else None
    except (tarfile.TarError, KeyError, TypeError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{shard} is not a whole shard ({type(error).__name__}: {error}): copy it again") from None


def _decode(entry: tuple[Row, bytes, bytes | None]) -> Levels | str:
    row, data, mask = entry
    if flaw := _flaw(row):
        return flaw
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        return "the picture cannot be decoded"
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    owner = np.zeros(image.shape[:2], np.uint8)
    if image.shape[2] == 4:  # a sprite: its alpha is the mask of its only object
        owner = (image[..., 3] > 127).astype(np.uint8)
        row["alone"] = True
        for item in row["objects"]:
            item["mask"] = 1
    if mask is not None:
        decoded = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_GRAYSCALE) if mask else None
        if decoded is None or decoded.shape != owner.shape:
            return "the mask cannot be decoded or has another size"
        owner = decoded
    return pyramid(image[..., :3], owner)


def _flaw(row: Row) -> str | None:
    """What keeps a line of an index, which anybody may have written, from being used."""
    try:
        if not isinstance(row["source"], str):
            raise TypeError(f"source is {row['source']!r}, no text")
        if track := row.get("track"):
            hash(track["id"]), int(track["frame"])
            if len(row["objects"]) > 1:  # one would be taken for the other
                raise ValueError(f"{len(row['objects'])} objects in a frame of track {track['id']}: a line for each")
        for item in row["objects"]:
            hash(item["class"]), int(item.get("mask") or 0)
            _, _, _, _ = (float(v) for v in item["box"])
    except (KeyError, TypeError, ValueError) as error:
        return f"its line of the index cannot be used ({type(error).__name__}: {error})"
    return None


def pyramid(bgr: np.ndarray, owner: np.ndarray) -> Levels:
    """All sizes of a picture as RGBA, A being the number of the object that a pixel belongs to."""
    levels = [np.ascontiguousarray(np.dstack([bgr[..., ::-1], owner]))]
    for level in range(1, LEVELS):
        h, w = levels[-1].shape[:2]
        half = (max(1, (w + 1) // 2), max(1, (h + 1) // 2))
        colour = cv2.resize(levels[-1][..., :3], half, interpolation=cv2.INTER_AREA)
        # Next to the cell's middle. Its first pixel would be off by half a cell, which a mask's box would show.
        rows, columns = (
            np.minimum((np.arange(new) << level) + (1 << level - 1), old - 1)
            for new, old in zip(half[::-1], owner.shape, strict=True)
        )
        levels.append(np.dstack([colour, owner[np.ix_(rows, columns)]]))
    return levels


def outline(owner: np.ndarray, label: int) -> list[float] | None:
    """x, y, w, h around the pixels of a mask that have a label; None when there are none."""
    x, y, w, h = cv2.boundingRect((owner == label).view(np.uint8))
    return [float(v) for v in (x, y, w, h)] if w else None


def shows(box: Sequence[float], width: int, height: int) -> bool:
    """Whether 3 pixels of a box x, y, w, h or more, each way, are in a picture of that size."""
    x, y, w, h = box
    return min(x + w, width) - max(x, 0) >= 3 and min(y + h, height) - max(y, 0) >= 3


def _objects(rows: list[Row], size: Tensor, names: list[str]) -> tuple[Objects, list[str]]:
    table: list[tuple[int, ...]] = []
    boxes: list[list[float]] = []
    outlines: list[list[float]] = []
    kinds: dict[tuple[str, str], int] = {}
    tracks: dict[str, int] = {}
    bad: list[str] = []
    for number, row in enumerate(rows):
        width, height = (int(v) for v in size[number])
        track = row.get("track")
        for item in row["objects"]:
            x, y, w, h = (float(v) for v in item["box"])
            if not (np.isfinite([x, y, w, h]).all() and shows((x, y, w, h), width, height)):
                bad.append(f"{row['file']}: box {item['box']} is outside the picture or under 3 px")
                continue
            around = item.get("outline") if row.get("mask_label") != "auto" else None
            trusted = int(item["mask"]) if around else 0  # a mask without a pixel would be a target that nobody sees
            table.append(
                (
                    number,
                    trusted,
                    kinds.setdefault((row["source"], item["class"]), len(kinds)),
                    names.index(row["source"]),
                    tracks.setdefault(track["id"], len(tracks)) if track else -1,
                    int(track["frame"]) if track else 0,
                    bool(row.get("alone")),
                )
            )
            boxes.append([x, y, w, h])
            outlines.append(around or [x, y, w, h])
    columns = torch.tensor(table, dtype=torch.int64).view(-1, 7).T.contiguous()
    picture, mask, kind, source, track_no, frame, alone = columns
    box, around_masks = (torch.tensor(b, dtype=torch.float32).view(-1, 4) for b in (boxes, outlines))
    return Objects(picture, box, mask, kind, source, track_no, frame, alone.bool(), around_masks), bad
