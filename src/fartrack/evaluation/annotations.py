"""Reading the annotation files of the benchmarks: pure functions from a file to an array.

Every box is `(x, y, w, h)` in pixels; a frame without a box is a row of NaN. Whatever cannot be read is an
`InputError` that names the file and the line. Training readers use these as well.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.video.pictures import image_files, read_image

Boxes = NDArray[np.float64]


def read_frame(path: Path) -> Image:
    """Read one picture as H x W x 3 BGR."""
    try:
        image = read_image(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); is the data set complete?") from None
    if image is None:
        raise InputError(f"{path}: not a readable picture; unpack or download this file again")
    return image


def image_names(folder: Path) -> tuple[str, ...]:
    """Names of the pictures in a folder in the order of their numbers (2.jpg before 10.jpg)."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; the frames of this sequence were looked for there")
    names = tuple(file.name for file in image_files(folder))
    if not names:
        raise InputError(f"{folder}: no pictures in it; the frames of this sequence were looked for there")
    return names


def has_box(boxes: Boxes) -> NDArray[np.bool_]:
    """Rows that are not NaN."""
    return np.asarray(~np.isnan(boxes).any(1))


def has_area(boxes: Boxes) -> NDArray[np.bool_]:
    """Rows that are finite and have an area: boxes that a tracker can begin with or be measured on."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1))


def read_text(path: Path) -> str:
    """Read a text file."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); is the data set complete?") from None


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of names, one a line; blank lines do not count."""
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


def read_table(path: Path, columns: int = 4) -> Boxes:
    """Read numbers, `columns` on each line, separated by commas, tabs or spaces. NaN is a number here."""
    text = read_text(path)
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path}: empty; {columns} numbers a line were expected")
    separators = str.maketrans(",;\t", "   ")
    try:
        table = np.array([line.translate(separators).split() for line in lines], np.float64)
        if table.ndim == 2 and table.shape[1] == columns:
            return table
    except ValueError:
        pass  # some line is wrong: the slow way finds which
    for number, line in enumerate(lines, 1):
        fields = line.translate(separators).split()
        if len(fields) != columns:
            raise InputError(f"{path}, line {number}: {columns} numbers were expected, found {line.strip()[:60]!r}")
        for field in fields:
            try:
                float(field)
            except ValueError:
                raise InputError(f"{path}, line {number}: {field!r} is not a number") from None
    raise InputError(f"{path}: cannot be read as {columns} numbers a line")


def read_boxes(path: Path, blank: str = "error") -> Boxes:
    """Read `x y w h` lines.

    `blank` says how a line of NaN is taken: "nan" when the benchmark writes absence so (UAV123), "error" when a NaN
    can only be a damaged file. A line with some numbers and some NaN is always an error.
    """
    boxes = read_table(path)
    missing = np.isnan(boxes)
    wrong = missing.any(1) & (~missing.all(1) if blank == "nan" else True) | np.isinf(boxes).any(1)
    if wrong.any():
        line = int(wrong.argmax()) + 1
        raise InputError(f"{path}, line {line}: the box is not four finite numbers; correct it or remove the frame")
    return boxes


def read_flags(path: Path, count: int) -> NDArray[np.int64]:
    """Read `count` whole numbers, one a line or all in one line (LaSOT's and GOT-10k's labels)."""
    fields = read_text(path).replace(",", " ").split()
    try:
        flags = np.array([int(float(field)) for field in fields], np.int64)
    except (ValueError, OverflowError):  # NaN, infinity
        raise InputError(f"{path}: only numbers were expected") from None
    if len(flags) != count:
        raise InputError(f"{path}: {len(flags)} labels for {count} frames; download the annotation again")
    return flags


def read_nfs(path: Path) -> Boxes:
    """Read NfS's own annotation: id, left, top, right, bottom, frame, lost, ..., "class" on each line.

    A line whose "lost" is 1 has no box.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split()
        try:
            left, top, right, bottom = (float(field) for field in fields[1:5])
            lost = len(fields) > 6 and int(fields[6]) == 1
        except ValueError:
            raise InputError(f"{path}, line {number}: not an annotation of NfS: {line.strip()[:60]!r}") from None
        rows.append([np.nan] * 4 if lost else [left, top, right - left, bottom - top])
    if not rows:
        raise InputError(f"{path}: empty; the annotation of a sequence was expected")
    return np.array(rows)


def read_regions(path: Path) -> Boxes:
    """Read a VOT ground truth as upright boxes: rectangles, polygons, masks (`m x,y,w,h,runs...`) and special codes.

    A polygon becomes the smallest upright box around it, a mask the box of its pixels; a special code (one number:
    unknown or absent) and a NaN become a row of NaN.
    """
    lines = read_text(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path}: empty; a region a line was expected")
    boxes = np.full((len(lines), 4), np.nan)
    for index, line in enumerate(lines):
        text = line.strip()
        try:
            if text.startswith("m"):
                boxes[index] = _mask_region([int(field) for field in text[1:].split(",")])
                continue
            values = np.array([float(field) for field in re.split(r"[,\s]+", text)])
        except ValueError:
            raise InputError(f"{path}, line {index + 1}: not a region: {text[:60]!r}") from None
        if len(values) == 1 or np.isnan(values).any():
            continue
        if len(values) == 4:
            boxes[index] = values
        elif len(values) >= 6 and len(values) % 2 == 0:
            low, high = values.reshape(-1, 2).min(0), values.reshape(-1, 2).max(0)
            boxes[index] = (*low, *(high - low))
        else:
            raise InputError(f"{path}, line {index + 1}: {len(values)} numbers are neither a box nor a polygon")
    return boxes


def _mask_region(numbers: list[int]) -> tuple[float, float, float, float]:
    """Box of a mask given as x, y, w, h of its window and run lengths over the window's rows, zeros first."""
    x, y, width, height, *runs = numbers
    if width <= 0 or height <= 0:
        return (np.nan, np.nan, np.nan, np.nan)
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    if len(flat) > width * height:
        raise ValueError
    window = np.zeros(width * height, bool)
    window[: len(flat)] = flat == 1
    left, top, w, h = mask_box(window.reshape(height, width))
    return (x + left, y + top, w, h)


def mask_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Box around the pixels that are set, to their outer edges; NaN when there are none."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(columns):
        return (np.nan, np.nan, np.nan, np.nan)
    left, top = int(columns[0]), int(rows[0])
    return (left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)


def read_mask(path: Path) -> NDArray[np.int64]:
    """Read a mask PNG as object numbers: the palette's index, or the gray value itself.

    OpenCV turns a palette picture into colours, so that the palette is read from the file and the colours are
    turned back.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); is the data set complete?") from None
    palette = _png_palette(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise InputError(f"{path}: not a readable picture; unpack or download this file again")
    if palette is None:
        if image.ndim == 3 and (image[..., :3] != image[..., :1]).any():
            raise InputError(f"{path}: a mask in colours without a palette; object numbers were expected")
        return np.asarray(image if image.ndim == 2 else image[..., 0], np.int64)
    colour = np.asarray(image[..., :3], np.int64) @ (1, 1 << 8, 1 << 16)  # OpenCV gives B, G, R
    keys = palette[:, ::-1].astype(np.int64) @ (1, 1 << 8, 1 << 16)
    unique, first = np.unique(keys, return_index=True)
    return first[np.searchsorted(unique, colour).clip(0, len(unique) - 1)]


def _png_palette(data: bytes) -> NDArray[np.uint8] | None:
    """Palette of a PNG file as N x 3 RGB, None when it has none."""
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"PLTE":
            return np.frombuffer(data, np.uint8, length, position + 8).reshape(-1, 3)
        if kind == b"IDAT":
            break
        position += 12 + length
    return None


def read_mask_boxes(paths: Iterable[Path]) -> dict[int, Boxes]:
    """Boxes of every object in a list of mask pictures: object number -> N x 4, NaN where it is not to be seen."""
    frames = list(paths)
    boxes: dict[int, Boxes] = {}
    for index, path in enumerate(frames):
        mask = read_mask(path)
        for number in np.unique(mask):
            if number > 0:
                rows = boxes.setdefault(int(number), np.full((len(frames), 4), np.nan))
                rows[index] = mask_box(mask == number)
    return dict(sorted(boxes.items()))
