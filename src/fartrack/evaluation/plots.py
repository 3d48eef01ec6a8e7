"""Pictures drawn with matplotlib: a report's curves, bars, reliability and filmstrips of failures; a plot of speeds."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.evaluation.failures import LOST_BELOW, Failure
from fartrack.evaluation.metrics import (
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    PIXEL_THRESHOLDS,
    PRECISION_AT,
    Summary,
    reliability,
)
from fartrack.evaluation.results import Annotations, Scored, find_result, read_pass
from fartrack.evaluation.sequences import Sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Corner = Literal["lower left", "lower right", "upper left"]
COLOURS = ("#d1495b", "#2e6f95", "#e0a030", "#8062a6", "#4fa3a5", "#5d6b7c", "#c97b9b", "#9c6b4a", "#7a9e3f", "#3d4f9f")
TRUTH = "#20c060"
INK, SOFT, LINE = "#1c2430", "#5d6b7c", "#dde3ea"
MOST_BARS, MOST_SERIES = 40, 6
MOST_INSIDE = 4
"""Entries of a legend that leave the curves behind it to be seen."""
LINES = ("solid", "dashed", "dotted")
"""As matplotlib and CSS call them."""
FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "IPAexGothic", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip
"""For names in scripts that matplotlib's own font has not."""


class Style(NamedTuple):
    """How a tracker is told from the others, wherever it is drawn."""

    colour: str
    line: str


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each tracker: where the colours have run out, they come again with other lines."""
    rounds = [Style(colour, line) for line in LINES for colour in COLOURS]
    return {label: rounds[index % len(rounds)] for index, label in enumerate(labels)}


def _missing() -> InputError:
    return InputError("report: matplotlib is not installed; pip install matplotlib")


@contextmanager
def any_script() -> Iterator[None]:
    """While pictures are drawn: names in any script that this machine has a font for, and no complaint about others."""
    try:
        import matplotlib
        from matplotlib.font_manager import fontManager
    except ImportError:
        raise _missing() from None
    here = {font.name for font in fontManager.ttflist}
    family = [*matplotlib.rcParams["font.family"], *(name for name in FONTS if name in here)]
    with matplotlib.rc_context({"font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        yield


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise _missing() from None
    return Figure((width, height), dpi=150, facecolor="white")


def _dress(
    axes: Axes, x: str, y: str, xlim: tuple[float, float], ylim: tuple[float, float], grid: str = "both"
) -> None:
    """The look shared by all plots."""
    axes.set_xlabel(x, color=SOFT, fontsize=9)
    axes.set_ylabel(y, color=SOFT, fontsize=9)
    axes.set_xlim(*xlim)
    axes.set_ylim(*ylim)
    axes.grid(True, axis=grid, color=LINE, lw=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, labelsize=8.5, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom")
        axes.spines[side].set_color(LINE)


def _legend(axes: Axes, inside: Corner, size: float, columns: int) -> None:
    """In the plot where few lines are, else below it, for which the picture grows; the layout is made here."""
    look: dict[str, Any] = {"frameon": True, "framealpha": 0.9, "edgecolor": "white", "labelcolor": INK}
    handles, labels = axes.get_legend_handles_labels()
    figure: Any = axes.figure
    if len(handles) <= MOST_INSIDE:
        if handles:
            axes.legend(loc=inside, fontsize=size, **look)
        figure.tight_layout(w_pad=3)
        return
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    room = figure.get_figwidth() * 72 / (0.6 * size)  # letters in a row, about
    columns = max(1, min(columns, int(room / (max(len(label) for label in labels) + 7))))
    figure.set_figheight(figure.get_figheight() + -(-len(handles) // columns) * 1.45 * size / 72)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=size, **look)


def plain(name: str) -> str:
    """A name as it is: `$` begins a formula in matplotlib, and what begins with `_` is left out of legends.

    Bytes of it that are no UTF-8 are escaped, of which matplotlib makes a TypeError.
    """
    text = name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def png(figure: Figure) -> bytes:
    """The bytes of a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def jpeg(figure: Figure) -> bytes:
    """Pictures of photographs: a tenth of the PNG."""
    pixels: Any = cv2.imdecode(np.frombuffer(png(figure), np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


# --- all sequences ----------------------------------------------------------------------------------------------------


def _curves(
    entries: Items[Scored],
    styles: dict[str, Style],
    x: NDArray[np.float64],
    curve: str,
    value: str,
    title: str,
    xlabel: str,
    legend: Corner,
    mark: float | None = None,
) -> Figure:
    """One line a tracker; the legend is sorted by the number that stands for the curve."""
    figure = _figure(4.7, 3.9)
    axes = figure.add_subplot()
    _dress(axes, xlabel, "% of frames", (float(x[0]), float(x[-1])), (0, 100))
    if mark is not None:
        axes.axvline(mark, color=SOFT, lw=0.9, ls=":")

    def number(summary: Summary | None) -> float:
        return float(getattr(summary, value))

    for rank, entry in enumerate(sorted(entries, key=lambda entry: -number(entry.summary))):
        told = f"{100 * number(entry.summary):.1f}" if np.isfinite(number(entry.summary)) else "-"
        axes.plot(
            x,
            100 * getattr(entry.summary, curve),
            color=styles[entry.label].colour,
            ls=styles[entry.label].line,
            lw=2.4 if entry is entries[0] else 1.7,
            label=f"{told}  {plain(entry.label)}",
            zorder=3 - 0.01 * rank,
        )
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    _legend(axes, legend, 8.5, 2)
    return figure


def draw_success(entries: Items[Scored], styles: dict[str, Style]) -> Figure:
    """Share of frames by overlap. The first entry's line is the thick one, here and below."""
    return _curves(
        entries, styles, OVERLAP_THRESHOLDS, "success_curve", "auc", "Success, by AUC", "overlap above", "lower left"
    )


def draw_precision(entries: Items[Scored], styles: dict[str, Style]) -> Figure:
    """Share of frames by distance of the centres."""
    mark = float(PIXEL_THRESHOLDS[PRECISION_AT])
    return _curves(
        entries, styles, PIXEL_THRESHOLDS, "precision_curve", "precision", "Precision, at 20 px",
        "centre within (px)", "lower right", mark,
    )  # fmt: skip


def draw_normalised(entries: Items[Scored], styles: dict[str, Style]) -> Figure:
    """Share of frames by distance of the centres in target sizes."""
    mark = float(NORMALISED_THRESHOLDS[PRECISION_AT])
    return _curves(
        entries, styles, NORMALISED_THRESHOLDS, "normalised_curve", "normalised", "Normalised precision, at 0.20",
        "centre within (share of the target's size)", "lower right", mark,
    )  # fmt: skip


def draw_sequences(entries: Items[Scored], subject: Scored, styles: dict[str, Style]) -> Figure:
    """Average overlap of each sequence, the subject's worst on top."""
    everyone = [subject, *(entry for entry in entries if entry.label != subject.label)]
    shown = everyone[:MOST_SERIES]
    judged = {name: score.ao for name, score in subject.scores.items() if np.isfinite(score.ao)}
    names = sorted(judged, key=lambda name: judged[name])
    cut = names[:MOST_BARS]
    thick = 0.8 / len(shown)
    figure = _figure(10.5, 1.1 + max(1, len(cut)) * max(0.26, 0.115 * len(shown) + 0.06))
    axes = figure.add_subplot()
    _dress(axes, "average overlap, %", "", (0, 100), (len(cut) - 0.45, -0.55), grid="x")
    for place, entry in enumerate(shown):
        values = [100 * entry.scores[name].ao if name in entry.scores else 0.0 for name in cut]
        offset = (place - (len(shown) - 1) / 2) * thick
        axes.barh(
            np.arange(len(cut)) + offset, values, thick * 0.88, color=styles[entry.label].colour,
            alpha=1 if place == 0 else 0.55, label=plain(entry.label),
        )  # fmt: skip
        for row, name in enumerate(cut):
            if name not in entry.scores:
                axes.text(0.6, row + offset, "no result", fontsize=6, color=SOFT, va="center")
    axes.set_yticks(np.arange(len(cut)), [plain(name) for name in cut])
    axes.tick_params(axis="y", labelsize=9, labelcolor=INK)
    axes.spines["left"].set_visible(True)
    title = "Average overlap" if len(cut) == len(names) else f"Average overlap, the worst {len(cut)} of {len(names)}"
    title += f" (sorted by {plain(subject.label)})"
    if len(shown) < len(everyone):
        title += f", {len(shown)} of {len(everyone)} trackers"
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=26)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.005, 1.0), ncols=len(shown), frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1, handleheight=1, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip
    figure.tight_layout()
    return figure


def draw_reliability(entries: Items[Scored], styles: dict[str, Style]) -> Figure:
    """Share of right frames by score, and how often each score is given."""
    figure = _figure(10.5, 4.3)
    axes, counts = figure.subplots(1, 2, width_ratios=(1, 1))
    _dress(axes, "score", "frames with overlap above 0.5, %", (0, 1), (0, 100))
    axes.plot([0, 1], [0, 100], color=SOFT, lw=0.9, ls=":")
    _dress(counts, "score", "share of frames, %", (0, 1), (0, 100))
    highest = 1.0
    # Scores beyond 0..1, as of somebody else's tracker, have no place here, and no calibration error.
    rated = [entry for entry in entries if entry.summary and np.isfinite(entry.summary.calibration_error)]
    for place, entry in enumerate(rated):
        scores, right = _own_scores(entry)
        assert entry.summary is not None
        table = reliability(scores, right)
        used = table.count > 0
        size = 18 + 150 * table.count[used] / table.count.sum()
        colour, line = styles[entry.label]
        error, auroc = 100 * entry.summary.calibration_error, 100 * entry.summary.auroc
        told = f"{auroc:.1f}" if np.isfinite(auroc) else "-"
        label = f"{plain(entry.label)}: AUROC {told}, calibration error {error:.1f}"
        axes.plot(table.score[used], 100 * table.right[used], color=colour, ls=line, lw=1.8, label=label)
        dots = axes.scatter(table.score[used], 100 * table.right[used], s=size, color=colour, zorder=3, ec="white")
        dots.set_clip_on(False)
        share = 100 * table.count / table.count.sum()
        wide = 0.08 / len(rated)
        counts.bar(
            table.edges[:-1] + 0.01 + (place + 0.5) * wide,
            share,
            wide * 0.9,
            color=colour,
            alpha=1 if line == "solid" else 0.5,
        )
        highest = max(highest, float(share.max()))
    counts.set_ylim(0, min(100, highest * 1.1))
    axes.set_title("Is the score right?", loc="left", fontsize=11, fontweight="bold", color=INK)
    counts.set_title("How often is it given?", loc="left", fontsize=11, fontweight="bold", color=INK)
    if not rated:
        axes.text(0.5, 50, "no tracker here wrote scores from 0 to 1", ha="center", color=SOFT)
    _legend(axes, "upper left", 8, 3)
    return figure


def _own_scores(entry: Scored) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores = [score.scores for score in entry.scores.values()]
    right = [score.right for score in entry.scores.values()]
    return (np.concatenate(scores), np.concatenate(right)) if scores else (np.empty(0), np.empty(0, bool))


# --- speed ------------------------------------------------------------------------------------------------------------


def draw_speed(rows: Items[dict[str, Any]]) -> Figure:
    """Accuracy over speed of rows of `fartrack benchmark` that have a score; our models are red."""
    figure = _figure(7, 4.5)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    for row in rows:
        at = row["fps"], row["score"]
        axes.scatter(*at, color=COLOURS[0] if "layers" in row else SOFT, s=30)
        axes.annotate(plain(row["name"]), at, xytext=(5, 3), textcoords="offset points", fontsize=8, color=INK)
    axes.set_xscale("log")
    _dress(axes, "frames per second, decoded frame to box", "average overlap, %", axes.get_xlim(), axes.get_ylim())
    axes.tick_params(which="minor", colors=SOFT, labelsize=8.5, length=0)
    return figure


# --- one failure ------------------------------------------------------------------------------------------------------


CELLS = 6
IN_STRIPS = 4
"""Trackers whose boxes are drawn into one filmstrip: of more none could be told from the others."""


def _strip_frames(failure: Failure, count: int) -> list[int]:
    """Frames that tell the story: before, the first and the last of the stretch, between, and after."""
    length = failure.last - failure.first
    wanted = [failure.first - 10, failure.first - 3, failure.first, failure.first + length // 2, failure.last]
    wanted.append(failure.last + 10)
    frames = {min(max(0, frame), count - 1) for frame in wanted}
    spare = [failure.first + length * part // 4 for part in (1, 3)] if length >= 4 else []
    spare += [frame for way in range(3, count, 3) for frame in (failure.first - way, failure.last + way)]
    for frame in spare:  # a short stretch, or one at an end of the video
        if len(frames) < CELLS and 0 <= frame < count:
            frames.add(frame)
    return sorted(frames)


def draw_strip(
    annotations: Annotations, failure: Failure, subject: Scored, others: Items[Scored], styles: dict[str, Style]
) -> bytes:
    """Frames of a failure with the true box and everyone's, over the overlap of the whole sequence."""
    sequence = annotations.sequences[failure.name]
    frames = _strip_frames(failure, len(sequence))
    passes = {}
    for entry in [subject, *(entry for entry in others if entry.label != subject.label)][:IN_STRIPS]:
        path = find_result(entry.folder, sequence.name, annotations.dataset)
        if path is not None and sequence.name in entry.scores:
            passes[entry.label] = read_pass(path, len(sequence))
    overlaps = {entry.label: entry.scores[sequence.name].overlaps for entry in others if entry.label in passes}

    width, cell, gap, height = 12.4, 1.96, 0.075, 3.6  # inches
    figure = _figure(width, height)

    def place(left: float, bottom: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

    for column, index in enumerate(frames):
        axes = place(0.15 + column * (cell + gap), 1.42, cell, cell * 3 / 4)
        _draw_cell(axes, sequence, index, {label: passes[label].boxes[index] for label in passes}, styles)
        overlap, scores = overlaps[subject.label][index], passes[subject.label].scores
        state = "no box" if np.isnan(overlap) else f"{overlap:.2f}"
        colour = COLOURS[0] if overlap < LOST_BELOW else INK
        score = "" if scores is None else f"   score {scores[index]:.2f}"
        axes.text(0, 1.03, f"{index}", transform=axes.transAxes, fontsize=9, color=SOFT)
        text = f"overlap {state}{score}"
        axes.text(1, 1.03, text, transform=axes.transAxes, fontsize=9, color=colour, ha="right")

    line = place(0.55, 0.42, width - 0.75, 0.78)
    for label in reversed(list(passes)):
        main = label == subject.label
        wide, dense = (1.8, 1.0) if main else (0.9, 0.6)
        line.plot(overlaps[label], color=styles[label].colour, lw=wide, alpha=dense, label=plain(label))
    if failure.lost:
        line.axvspan(failure.first - 0.5, failure.last + 0.5, color=COLOURS[0], alpha=0.12, lw=0)
    for index in frames:
        line.axvline(index, color=SOFT, lw=0.8, ls=":")
    _dress(line, "frame", "overlap", (0, max(1, len(sequence) - 1)), (0, 1))
    handles, labels = line.get_legend_handles_labels()
    (true,) = line.plot([], [], color=TRUTH, ls=(0, (3, 1.5)), lw=2)
    figure.legend(
        [true, *handles[::-1]],
        ["true box", *labels[::-1]],
        loc="upper right",
        bbox_to_anchor=(0.995, 1.015),
        ncols=5,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    state = f"lost in frames {failure.first} to {failure.last}" if failure.lost else "not lost, lowest overlap"
    title = figure.text(0.012, 0.955, plain(sequence.name), fontsize=12, fontweight="bold", color=INK, va="baseline")
    line.annotate(
        f"AO {100 * failure.ao:.1f}, {state}", (1, 0), xycoords=title, xytext=(10, 0), textcoords="offset points",
        fontsize=9.5, color=SOFT, va="baseline", annotation_clip=False,
    )  # fmt: skip
    return jpeg(figure)


def _draw_cell(
    axes: Axes, sequence: Sequence, index: int, boxes: dict[str, NDArray[np.float64]], styles: dict[str, Style]
) -> None:
    """One frame around the target; the first of `boxes` is the subject's."""
    picture = sequence.frames[index]
    left, top, width, height = _view(picture, sequence.boxes[index], next(iter(boxes.values())))
    axes.imshow(picture[..., ::-1], interpolation="bilinear", aspect="auto")
    axes.set_xlim(left, left + width)
    axes.set_ylim(top + height, top)
    axes.set_xticks([])
    axes.set_yticks([])
    for place, (label, box) in reversed(list(enumerate(boxes.items()))):
        _draw_box(axes, box, styles[label].colour, 2.6 if place == 0 else 1.2)
    _draw_box(axes, sequence.boxes[index], TRUTH, 1.8, dashed=True)
    for spine in axes.spines.values():
        spine.set_color(LINE)


def _view(picture: Image, truth: NDArray[np.float64], box: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The part of a frame that shows both boxes and some surroundings, 4:3."""
    height, width = picture.shape[:2]
    corners = [np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]]) for b in (truth, box) if np.isfinite(b).all()]
    low, high = np.min([c[:2] for c in corners], 0), np.max([c[2:] for c in corners], 0)
    low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    centre = (low + high) / 2
    across = max(1.8 * (high[0] - low[0]), 1.8 * (high[1] - low[1]) * 4 / 3, width / 6, 48)
    across = min(across, width, height * 4 / 3)
    down = across * 3 / 4
    left = float(np.clip(centre[0] - across / 2, 0, width - across))
    top = float(np.clip(centre[1] - down / 2, 0, height - down))
    return left, top, float(across), float(down)


def _draw_box(axes: Axes, box: NDArray[np.float64], colour: str, width: float, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    if not np.isfinite(box).all():
        return
    style = (0, (3, 1.5)) if dashed else "solid"
    patch = Rectangle((box[0], box[1]), box[2], box[3], fill=False, ec=colour, lw=width, ls=style)
    patch.set_path_effects([Stroke(linewidth=width + 0.9, foreground="#00000080"), Normal()])
    axes.add_patch(patch)
