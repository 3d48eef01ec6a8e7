"""Draw what the tracker saw and thought beside each frame: `fartrack track --explain`.

A panel of 3 : 4 stands to the right of the frame. From top to bottom: the templates, with the tokens that were pruned
in grey; the search crop with the box, and along its edges the distributions of the box's four coordinates; the
attention that decides what the newest template loses; the score over time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.crops import GivenImage, Image, as_bgr
from fartrack.geometry import Box
from fartrack.insight import Insight, TemplateView
from fartrack.video.draw import EDGE, FOUND, INK, LOST, Colour, draw_result, draw_text, text_size

WIDE, HIGH = 540, 720
"""Size of the panel in units; how many pixels a unit has follows from the frame."""
LOWEST, HIGHEST, WIDEST = 540, 1080, 1920
"""Pixels: frames are scaled to these heights so that the panel can be read, and to at most this width."""

GROUND: Colour = (28, 25, 23)
WELL: Colour = (44, 40, 37)
GRID: Colour = (78, 72, 67)
SOFT: Colour = (170, 163, 156)
EDGES: tuple[tuple[str, Colour], ...] = (
    ("x0", (255, 190, 60)),
    ("y0", (200, 130, 255)),
    ("x1", (60, 170, 255)),
    ("y1", (110, 225, 160)),
)
"""Left, top, right and bottom edge of the box, in the order of the network's coordinates."""

MARGIN = 20
TEMPLATE_TOP, TEMPLATE_SIDE, TEMPLATE_GAP = 48, 92, 10
CROP_TOP, CROP_SIDE = 268, 300
BAND, BAND_GAP = 66, 5
SIDE_LEFT = 404
"""Where the column beside the search crop begins."""
PLOT_TOP, PLOT_HIGH = 618, 84
FLAT = 0.02
"""A distribution whose highest word has this probability or less is not drawn to the full height."""


class Explainer:
    """Makes the pictures of one video; it remembers the scores of its last frames."""

    def __init__(self, width: int, height: int, history: int = 300, lowest: int = LOWEST) -> None:
        """For frames of width x height pixels; pictures get at least `lowest` pixels tall."""
        self.scale = min(float(np.clip(height, lowest, HIGHEST)) / height, WIDEST / width)
        self.frame_size = (max(1, round(width * self.scale)), max(1, round(height * self.scale)))
        high = max(lowest, self.frame_size[1])
        high += high % 2
        wide = round(high * WIDE / HIGH)
        self.unit = high / HIGH
        self.size = (self.frame_size[0] + wide + (self.frame_size[0] + wide) % 2, high)
        """Width and height of the pictures, even."""
        self.scores: deque[tuple[int, float, bool]] = deque(maxlen=history)

    def draw(
        self, image: GivenImage, box: Box, score: float, frame: int, found: bool, insight: Insight | None
    ) -> Image:
        """The frame with its box, dark outside the search window, and the panel beside it.

        The first five arguments are those of `draw_result`; there is no insight in the frame where the box was given.
        """
        image = as_bgr(image)
        self.scores.append((frame, score, found))
        width, height = self.frame_size
        canvas = np.full((self.size[1], self.size[0], 3), GROUND, np.uint8)
        way = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        small: Image = cv2.resize(image, (width, height), interpolation=way)  # type: ignore[assignment]
        if insight is not None:
            small = _lit(small, [self.scale * v for v in insight.window])
        top = (self.size[1] - height) // 2
        x, y, w, h = (self.scale * v for v in box)
        canvas[top : top + height, :width] = draw_result(small, (x, y, w, h), score, frame, found)
        panel = _Panel(canvas[:, width:], self.unit)
        _draw_templates(panel, insight, frame)
        _draw_search(panel, insight, score, found)
        _draw_scores(panel, self.scores, insight)
        return canvas


class _Panel:
    """Part of a picture that is drawn on in units."""

    def __init__(self, pixels: Image, unit: float) -> None:
        self.pixels, self.unit = pixels, unit

    def at(self, x: float, y: float) -> tuple[int, int]:
        """The pixel of a point."""
        return round(x * self.unit), round(y * self.unit)

    def _shape(self, points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        return np.rint(np.asarray(points, np.float64) * self.unit).astype(np.int32).reshape(-1, 1, 2)

    def text(
        self, text: str, x: float, y: float, colour: Colour = SOFT, height: float = 10.5, right: bool = False
    ) -> None:
        """Text whose baseline begins (or ends, `right`) at a point."""
        size = max(5, round(height * self.unit))
        left, base = self.at(x, y)
        if right:
            left -= text_size(text, size)[0]
        draw_text(self.pixels, text, (left, base), size, colour)

    def box(self, x: float, y: float, w: float, h: float, colour: Colour, thick: float | None = None) -> None:
        """A rectangle, filled without a thickness."""
        line = cv2.FILLED if thick is None else max(1, round(thick * self.unit))
        cv2.rectangle(self.pixels, self.at(x, y), self.at(x + w, y + h), colour, line)

    def line(self, points: npt.ArrayLike, colour: Colour, thick: float = 1) -> None:
        """A smooth line through points (N, 2)."""
        cv2.polylines(self.pixels, [self._shape(points)], False, colour, max(1, round(thick * self.unit)), cv2.LINE_AA)

    def area(self, points: npt.ArrayLike, colour: Colour, opacity: float) -> None:
        """A filled shape with corners (N, 2) that lets what lies below shine through."""
        shape = self._shape(points)
        left, top, wide, high = cv2.boundingRect(shape)
        right, bottom = min(left + wide, self.pixels.shape[1]), min(top + high, self.pixels.shape[0])
        left, top = max(0, left), max(0, top)
        part = self.pixels[top:bottom, left:right]
        if not part.size:
            return
        filled = part.copy()
        cv2.fillPoly(filled, [shape - np.array([left, top])], colour, cv2.LINE_AA)
        part[:] = cv2.addWeighted(filled, opacity, part, 1 - opacity, 0)

    def picture(self, picture: Image, x: float, y: float, side: float) -> None:
        """A square BGR picture."""
        (left, top), (right, bottom) = self.at(x, y), self.at(x + side, y + side)
        way = cv2.INTER_AREA if picture.shape[0] > right - left else cv2.INTER_LINEAR
        self.pixels[top:bottom, left:right] = cv2.resize(picture, (right - left, bottom - top), interpolation=way)


# --- templates --------------------------------------------------------------------------------------------------------


def without_tokens(picture: Image, kept: npt.NDArray[np.integer] | None, tokens: int, left: float = 0.3) -> Image:
    """A copy of a template in which the tokens that are not kept are grey and dark.

    Args:
        picture: (S, S, 3) uint8.
        kept: indices of the kept tokens, row by row; None is all.
        tokens: how many there are, a square number.
        left: brightness of the others.
    """
    grid = round(tokens**0.5)
    mask = np.ones(tokens, bool)
    if kept is not None:
        mask[:] = False
        mask[kept] = True
    patch = picture.shape[0] // grid
    whole = np.kron(mask.reshape(grid, grid), np.ones((patch, patch), bool))[..., None]
    gray = picture.mean(-1, keepdims=True) * left + 20
    shown = np.where(whole, picture, gray)
    shown[patch::patch] *= 0.8  # a fine grid
    shown[:, patch::patch] *= 0.8
    return shown.astype(np.uint8)


def _draw_templates(panel: _Panel, insight: Insight | None, frame: int) -> None:
    """The row at the top: what fills the template slots, oldest first."""
    panel.text("TEMPLATES", MARGIN, TEMPLATE_TOP - 12, INK)
    slots = 5 if insight is None else len(insight.templates)
    side = min(float(TEMPLATE_SIDE), (WIDE - 2 * MARGIN + TEMPLATE_GAP) / slots - TEMPLATE_GAP)
    if insight is None:
        said = "the box was given here: the search begins with the next frame"
    else:
        said = f"the network reads {insight.tokens} tokens of {insight.dense}"
    panel.text(said, WIDE - MARGIN, TEMPLATE_TOP - 12, right=True)
    for slot in range(slots):
        x = MARGIN + slot * (side + TEMPLATE_GAP)
        if insight is None:
            panel.box(x, TEMPLATE_TOP, side, side, WELL)
            continue
        view, newest = insight.templates[slot], slot == slots - 1
        _draw_template(panel, insight, view, newest, x, side)
        number = frame - insight.frame + view.number
        text = "frame before" if number == frame - 1 and side > 80 else f"frame {number}" if side > 60 else str(number)
        panel.text(text, x, TEMPLATE_TOP + side + 17, INK if newest else SOFT)


def _draw_template(panel: _Panel, insight: Insight, view: TemplateView, newest: bool, x: float, side: float) -> None:
    """One template; of a new one, what is about to be pruned is half gone."""
    tokens = len(insight.saliency)
    bgr = view.picture[..., ::-1]
    kept, left = (insight.settled, 0.75) if view.kept is None else (view.kept, 0.3)
    panel.picture(without_tokens(bgr, kept, tokens, left), x, TEMPLATE_TOP, side)
    if newest:
        panel.box(x - 1, TEMPLATE_TOP - 1, side + 2, side + 2, INK, 1.5)


# --- search crop ------------------------------------------------------------------------------------------------------


def _draw_search(panel: _Panel, insight: Insight | None, score: float, found: bool) -> None:
    """The search crop with the box; above it the distributions of x0 and x1, to its right those of y0 and y1."""
    panel.text("SEARCH CROP", MARGIN, CROP_TOP - BAND - BAND_GAP - 12, INK)
    panel.text("and where the four coordinates of the box may lie", MARGIN + 110, CROP_TOP - BAND - BAND_GAP - 12)
    right = MARGIN + CROP_SIDE + BAND_GAP
    panel.box(MARGIN, CROP_TOP - BAND - BAND_GAP, CROP_SIDE, BAND, WELL)
    panel.box(right, CROP_TOP, BAND, CROP_SIDE, WELL)
    if insight is None:
        panel.box(MARGIN, CROP_TOP, CROP_SIDE, CROP_SIDE, WELL)
        return
    panel.picture(insight.search[..., ::-1], MARGIN, CROP_TOP, CROP_SIDE)
    highest = max(FLAT, float(insight.distributions.max()))
    words = insight.distributions.shape[1]
    spots = insight.low + (insight.high - insight.low) * np.arange(words) / max(1, words - 1)
    inside = (spots >= 0) & (spots <= 1)
    along = CROP_SIDE * spots[inside]
    corners = [float(np.clip(c, 0, 1)) * CROP_SIDE for c in insight.corners]
    for axis, ((name, colour), values, corner) in enumerate(zip(EDGES, insight.distributions, corners, strict=True)):
        heights = (BAND - 8) * values[inside] / highest
        if axis % 2 == 0:
            base = CROP_TOP - BAND_GAP
            curve = np.stack([MARGIN + along, base - heights], 1)
            panel.area(np.vstack([(MARGIN, base), curve, (MARGIN + CROP_SIDE, base)]), colour, 0.35)
            panel.line([(MARGIN + corner, CROP_TOP - BAND_GAP - BAND), (MARGIN + corner, base)], colour, 0.8)
        else:
            curve = np.stack([right + heights, CROP_TOP + along], 1)
            panel.area(np.vstack([(right, CROP_TOP), curve, (right, CROP_TOP + CROP_SIDE)]), colour, 0.35)
            panel.line([(right, CROP_TOP + corner), (right + BAND, CROP_TOP + corner)], colour, 0.8)
        panel.line(curve, colour, 1.4)
        x, y = right + 2 + 32 * (axis // 2), CROP_TOP - BAND - BAND_GAP + 22 + 26 * (axis % 2)
        panel.text(name, x, y, colour, 10)
    _draw_edges(panel, corners)
    _draw_saliency(panel, insight)
    nats = float(-(insight.distributions * np.log(np.maximum(insight.distributions, 1e-12))).sum(-1).mean())
    for i, (what, value) in enumerate((("spread", f"{nats:.1f} nats"), ("score", f"{score:.2f}"))):
        y = CROP_TOP + CROP_SIDE - 64 + 36 * i
        panel.text(what, SIDE_LEFT, y)
        panel.text(value, SIDE_LEFT, y + 18, INK if what == "spread" else FOUND if found else LOST, 13)


def _draw_edges(panel: _Panel, corners: Sequence[float]) -> None:
    """The box in the crop, each edge in the colour of its distribution."""
    x0, y0, x1, y1 = (v + start for v, start in zip(corners, (MARGIN, CROP_TOP) * 2, strict=True))
    lines = (((x0, y0), (x0, y1)), ((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x0, y1), (x1, y1)))
    for thick, dark in ((4.5, True), (2.2, False)):
        for (_, colour), line in zip(EDGES, lines, strict=True):
            panel.line(line, EDGE if dark else colour, thick)


def _draw_saliency(panel: _Panel, insight: Insight) -> None:
    """The attention that the newest template's tokens received: what decides its mask."""
    side, top = 112.0, CROP_TOP + 36.0
    for i, text in enumerate(("attention to the", "newest template")):
        panel.text(text, SIDE_LEFT, CROP_TOP + 9 + 16 * i)
    grid = round(len(insight.saliency) ** 0.5)
    heat = insight.saliency.reshape(grid, grid)
    heat = (heat - heat.min()) / max(1e-9, float(np.ptp(heat)))
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)
    size = 16 * grid
    large = cv2.resize(colours, (size, size), interpolation=cv2.INTER_NEAREST)
    gray = cv2.cvtColor(cv2.resize(insight.templates[-1].picture, (size, size)), cv2.COLOR_RGB2GRAY)[..., None]
    panel.picture((0.72 * large + 0.28 * gray).astype(np.uint8), SIDE_LEFT, top, side)
    step = side / grid
    gone = np.setdiff1d(np.arange(len(insight.saliency)), insight.settled)
    for row, column in zip(*np.divmod(gone, grid), strict=True):
        x, y = SIDE_LEFT + column * step, top + row * step
        panel.line([(x + 0.3 * step, y + 0.3 * step), (x + 0.7 * step, y + 0.7 * step)], SOFT)
        panel.line([(x + 0.7 * step, y + 0.3 * step), (x + 0.3 * step, y + 0.7 * step)], SOFT)
    panel.text(f"the {len(gone)} least", SIDE_LEFT, top + side + 17)
    panel.text("attended are", SIDE_LEFT, top + side + 33)
    panel.text("pruned", SIDE_LEFT, top + side + 49)


# --- score ------------------------------------------------------------------------------------------------------------


def _draw_scores(panel: _Panel, scores: Sequence[tuple[int, float, bool]], insight: Insight | None) -> None:
    """The score of the last frames, and the line under which a target counts as lost."""
    wide = WIDE - 2 * MARGIN
    panel.text("SCORE", MARGIN, PLOT_TOP - 10, INK)
    panel.text(f"frame {scores[-1][0]}", WIDE - MARGIN, PLOT_TOP - 10, right=True)
    panel.box(MARGIN, PLOT_TOP, wide, PLOT_HIGH, WELL)
    if insight is not None:
        y = PLOT_TOP + PLOT_HIGH * (1 - insight.lost_below)
        panel.line([(MARGIN, y), (MARGIN + wide, y)], GRID)
        panel.text("lost", MARGIN + 5, y + 14, SOFT, 8.5)
    step = wide / max(100, len(scores) - 1)
    points = [
        (MARGIN + step * i, PLOT_TOP + 3 + (PLOT_HIGH - 6) * (1 - score)) for i, (_, score, _) in enumerate(scores)
    ]
    floor = PLOT_TOP + PLOT_HIGH
    panel.area([(points[0][0], floor), *points, (points[-1][0], floor)], FOUND, 0.15)
    for i in range(1, len(points)):
        panel.line(points[i - 1 : i + 1], FOUND if scores[i][2] else LOST, 1.5)
    cv2.circle(panel.pixels, panel.at(*points[-1]), max(2, round(3 * panel.unit)), INK, cv2.FILLED, cv2.LINE_AA)


def _lit(picture: Image, square: Sequence[float]) -> Image:
    """A copy that is darker outside the search window: what the tracker does not look at."""
    rows, columns = picture.shape[:2]
    x, y, side = square
    left, right = (int(np.clip(round(v), 0, columns)) for v in (x, x + side))
    top, bottom = (int(np.clip(round(v), 0, rows)) for v in (y, y + side))
    canvas = (0.45 * picture).astype(np.uint8)
    canvas[top:bottom, left:right] = picture[top:bottom, left:right]
    return canvas
