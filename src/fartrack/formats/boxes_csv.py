"""Our own table: one row per frame, `frame,x,y,w,h,score,found`, and `id` as a last column for several targets."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from fartrack.errors import InputError
from fartrack.files import whole_file
from fartrack.formats.tracks import (
    Box,
    Track,
    Video,
    boxes_by_frame,
    checked_box,
    make_tracks,
    number,
    read_text,
    rounded_score,
)

COLUMNS = ("frame", "x", "y", "w", "h", "score", "found")
TRUE = {"1", "true", "yes"}
FALSE = {"0", "false", "no"}


def row(box: Box) -> list[str]:
    """One row of the table, without id."""
    return [str(box.frame), *(number(v) for v in box.xywh), number(rounded_score(box.score), 4), str(int(box.found))]


def write(path: Path, tracks: Sequence[Track], video: Video) -> Path:
    """Write the table. A box that was not found keeps its row, with found 0."""
    with_id = len(tracks) > 1
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "id"] if with_id else COLUMNS)
        for boxes in boxes_by_frame(tracks).values():
            writer.writerows([*row(box), str(track.id)] if with_id else row(box) for track, box in boxes)
    return path


def read(path: Path, video: Video | None = None) -> list[Track]:
    """Read the table. Only frame, x, y, w and h must be there; columns may stand in any order."""
    return make_tracks(_boxes(path), str(path))


def _boxes(path: Path) -> Iterator[tuple[int, str, Box]]:
    lines = read_text(path).splitlines()
    first = next((line for line in lines if line.strip()), "")
    between = next((mark for mark in ";\t" if mark in first), ",")  # written where decimals have a comma
    rows = _rows(path, lines, between)
    head, names = next(rows, (1, []))
    names = [name.strip().lower() for name in names]
    missing = [name for name in COLUMNS[:5] if name not in names]
    if missing:
        raise InputError(
            f"{path}: line {head} lacks the column {missing[0]!r}; the first line must name the columns: "
            f"{','.join(COLUMNS)}"
        )
    for line, given in rows:
        where = f"{path}: line {line}"
        extra = given[len(names) :]
        cells = dict(zip_longest(names, given[: len(names)], fillvalue=""))
        if any(cell.strip() for cell in extra):
            raise InputError(
                f"{where}: {len(names) + len(extra)} cells for {len(names)} columns; write one number per column, "
                "with a decimal point"
            )
        try:
            x, y, w, h = (_decimal(cells[name]) for name in ("x", "y", "w", "h"))
            score, found = _decimal(cells.get("score") or "1"), _flag(cells.get("found") or "1")
            box = Box(int(cells["frame"]), x, y, w, h, score, found)
            id = int(cells.get("id") or 1)
        except ValueError as error:
            raise InputError(f"{where}: {error}; each row is {','.join(names)}") from None
        yield id, (cells.get("label") or "target"), checked_box(box, where)


def _rows(path: Path, lines: Sequence[str], between: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the number of the line in which it begins; empty rows are left out."""
    reader = csv.reader(lines, delimiter=between, skipinitialspace=True)
    while True:
        begin = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:  # such as a cell that is too long
            raise InputError(f"{path}: line {begin}: {error}; close the quotation mark that opens there") from None
        # At the end of the file csv closes an open cell by itself, and the rows in it would be lost.
        if begin < reader.line_num == len(lines) and sum(line.count('"') for line in lines[begin - 1 :]) % 2:
            raise InputError(f"{path}: line {begin}: a quotation mark opens there and is not closed; close it")
        if cells is None:
            return
        if cells:
            yield begin, cells


def _decimal(text: str) -> float:
    return float(text.replace(",", "."))


def _flag(text: str) -> bool:
    if text.strip().lower() in TRUE:
        return True
    if text.strip().lower() in FALSE:
        return False
    raise ValueError(f"found is {text!r}, not 0 or 1")
