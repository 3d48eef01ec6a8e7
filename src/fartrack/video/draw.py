"""Draw what the tracker says onto frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from fartrack.crops import GivenImage, Image, as_bgr
from fartrack.geometry import Box

Colour = tuple[int, int, int]

FOUND: Colour = (80, 220, 40)
LOST: Colour = (40, 120, 255)
INK: Colour = (255, 255, 255)
EDGE: Colour = (0, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_result(image: GivenImage, box: Box, score: float, frame: int, found: bool = True, name: str = "") -> Image:
    """A copy of the frame with its box, its score and its number; lost targets get a dashed box of another colour.

    `image` is H x W x 3 uint8 BGR (gray and BGRA work too), the box in its pixels. Lines and letters grow with the
    frame. A `name` stands before the score, where there are several targets.
    """
    canvas = as_bgr(image).copy()
    _draw_box(canvas, box, found)
    rows, columns = canvas.shape[:2]
    height = max(9, round(min(rows, columns) / 26))
    label = f"{name}: " * bool(name) + _state(score, found)
    plate = _Plate(canvas, label, height, (box[0], box[1]))
    if box[1] < plate.tall and box[1] + box[3] + plate.tall < rows:  # no room above the box
        plate = _Plate(canvas, label, height, (box[0], box[1] + box[3] + plate.tall))
    number = _Plate(canvas, f"frame {frame}", height, (0, 0))
    if plate.overlaps(number):
        number = _Plate(canvas, f"frame {frame}", height, (0, rows))
    if plate.overlaps(number):
        number = _Plate(canvas, f"frame {frame}", height, (columns, rows))
    number.draw(EDGE, INK)
    plate.draw(FOUND if found else LOST, EDGE)
    return canvas


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """One frame offered to a strip, its box in the picture's pixels."""

    image: Image
    box: Box
    score: float
    frame: int
    found: bool
    others: tuple[tuple[Box, bool], ...] = ()
    """Boxes of other targets, and whether they were found."""

    def shrunk(self, height: int, width: int) -> _Cell:
        """The same as large as it fits into height x width pixels."""
        rows, columns = self.image.shape[:2]
        scale = min(height / rows, width / columns)
        size = (max(8, round(columns * scale)), max(8, round(rows * scale)))
        small: Image = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]

        def scaled(box: Box) -> Box:
            x, y, w, h = (v * scale for v in box)
            return x, y, w, h

        others = tuple((scaled(box), found) for box, found in self.others)
        return replace(self, image=small, box=scaled(self.box), others=others)


class Filmstrip:
    """Evenly chosen frames of a video of unknown length, as one picture.

    Frames are added one by one; at most `4 * count` small copies are kept, however long the video is.
    """

    def __init__(self, count: int = 8, cell_height: int = 240, width: int = 1400) -> None:
        """`count` frames of at most `cell_height` pixels, in rows of about `width` pixels at most."""
        self.count, self.cell_height, self.width = count, cell_height, width
        self._kept: list[_Cell] = []
        self._newest: _Cell | None = None
        self._step, self._seen = 1, 0

    def add(
        self,
        image: GivenImage,
        box: Box,
        score: float,
        frame: int,
        found: bool = True,
        others: Sequence[tuple[Box, bool]] = (),
    ) -> None:
        """Offer the next frame; the first arguments are those of `draw_result`. The image is not to be changed later.

        `others` are the boxes of other targets, and whether they were found.
        """
        self._newest = _Cell(as_bgr(image), box, score, frame, found, tuple(others))
        if self._seen % self._step == 0:
            self._kept.append(self._newest.shrunk(self.cell_height, self.width))
            if len(self._kept) > 4 * self.count:
                self._kept = self._kept[::2]
                self._step *= 2
        self._seen += 1

    def image(self) -> Image:
        """The strip: first frame, last frame and evenly chosen ones between; raises `ValueError` without frames."""
        if self._newest is None:
            raise ValueError("a filmstrip needs at least one frame")
        cells = list(self._kept)
        if cells[-1].frame != self._newest.frame:
            cells.append(self._newest.shrunk(self.cell_height, self.width))
        numbers = np.array([cell.frame for cell in cells])
        wanted = np.linspace(numbers[0], numbers[-1], min(self.count, len(cells)))
        chosen = sorted({int(np.abs(numbers - n).argmin()) for n in wanted})
        tiles = [self._tile(cells[i]) for i in chosen]
        columns = max(1, min(len(tiles), round(self.width / tiles[0].shape[1])))
        columns = -(-len(tiles) // -(-len(tiles) // columns))  # rows of equal length rather than a short last one
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
        rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
        return np.vstack(rows)

    def _tile(self, cell: _Cell) -> Image:
        """The small picture with its box, and below it the frame number and the score."""
        picture = cell.image.copy()
        targets = [(cell.box, cell.found), *cell.others]
        for box, found in targets:
            _draw_box(picture, box, found)
        height = max(8, self.cell_height // 18)
        caption = np.full((2 * height, picture.shape[1], 3), 24, np.uint8)
        state = _state(cell.score, cell.found)
        if cell.others:
            state = f"{sum(found for _, found in targets)} of {len(targets)}"
        draw_text(caption, f"frame {cell.frame}", (height // 2, height * 3 // 2), height, INK)
        wide = text_size(state, height)[0]
        colour = FOUND if cell.found else LOST
        draw_text(caption, state, (picture.shape[1] - wide - height // 2, height * 3 // 2), height, colour)
        tile = np.vstack([picture, caption])
        return cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(24, 24, 24))  # type: ignore[return-value]


def _state(score: float, found: bool) -> str:
    return f"{score:.2f}" if found else f"lost {score:.2f}"


def _draw_box(canvas: Image, box: Box, found: bool) -> None:
    """A line with a dark edge, so that it shows on any background."""
    x, y, w, h = box
    if not np.isfinite(box).all():
        return
    limit = 4.0 * max(canvas.shape)  # OpenCV takes 32-bit corners
    left, top, right, bottom = (round(float(np.clip(v, -limit, limit))) for v in (x, y, x + w, y + h))
    thick = max(2, round(min(canvas.shape[:2]) / 240))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    lines = list(zip(corners, corners[1:] + corners[:1], strict=True))
    if not found:
        lines = [dash for a, b in lines for dash in _dashes(a, b, 6 * thick + 4)]
    for colour, width in ((EDGE, thick + 2), (FOUND if found else LOST, thick)):
        for a, b in lines:
            cv2.line(canvas, a, b, colour, width)


def _dashes(a: tuple[int, int], b: tuple[int, int], length: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Every second piece of a line, about `length` pixels each, the ends included."""
    pieces = max(1, round(np.hypot(b[0] - a[0], b[1] - a[1]) / length)) | 1
    ts = np.linspace(0, 1, pieces + 1)
    points = [(round(a[0] + t * (b[0] - a[0])), round(a[1] + t * (b[1] - a[1]))) for t in ts]
    return [(points[i], points[i + 1]) for i in range(0, pieces, 2)]


class _Plate:
    """Text on a filled plate whose lower left corner is at `anchor`, moved into the frame, smaller if too wide."""

    def __init__(self, canvas: Image, text: str, height: int, anchor: tuple[float, float]) -> None:
        rows, columns = canvas.shape[:2]
        self.pad = max(2, height // 3)
        wide, tall = text_size(text, height)
        if wide + 2 * self.pad > columns:
            height = max(4, height * (columns - 2 * self.pad) // max(1, wide))
            wide, tall = text_size(text, height)
        self.canvas, self.text, self.height = canvas, text, height
        self.wide, self.tall = wide + 2 * self.pad, tall + 2 * self.pad
        x, y = np.nan_to_num(anchor)
        self.left = int(np.clip(x, 0, max(0, columns - self.wide)))
        self.top = int(np.clip(y - self.tall, 0, max(0, rows - self.tall)))

    def overlaps(self, other: _Plate) -> bool:
        """Whether both want some of the same pixels."""
        return (
            self.left < other.left + other.wide
            and other.left < self.left + self.wide
            and self.top < other.top + other.tall
            and other.top < self.top + self.tall
        )

    def draw(self, colour: Colour, ink: Colour) -> None:
        """Onto the canvas."""
        right, bottom = self.left + self.wide, self.top + self.tall
        cv2.rectangle(self.canvas, (self.left, self.top), (right, bottom), colour, cv2.FILLED)
        draw_text(self.canvas, self.text, (self.left + self.pad, bottom - self.pad), self.height, ink)


def draw_text(canvas: Image, text: str, origin: tuple[int, int], height: int, colour: Colour) -> None:
    """Text whose capitals are about `height` pixels tall, its baseline beginning at `origin`."""
    scale, thick = _scale(height)
    cv2.putText(canvas, text, origin, FONT, scale, colour, thick, cv2.LINE_AA)


def text_size(text: str, height: int) -> tuple[int, int]:
    """Width and height in pixels of what `draw_text` draws."""
    scale, thick = _scale(height)
    (wide, tall), _ = cv2.getTextSize(text, FONT, scale, thick)
    return wide, tall


def _scale(height: int) -> tuple[float, int]:
    """OpenCV's scale and line width for capitals of about `height` pixels."""
    return height / 22, max(1, round(height / 14))
