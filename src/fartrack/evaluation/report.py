"""Results as pictures: curves, bars, score reliability, filmstrips of the worst failures, one page with all of it.

Everything is drawn from result files, so that trackers that were run elsewhere join in.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import string
from collections.abc import Sequence as Items
from pathlib import Path

import numpy as np

from fartrack.errors import InputError
from fartrack.evaluation import plots
from fartrack.evaluation.failures import FOUND_ABOVE, LOST_BELOW, LOST_FRAMES, worst_failures
from fartrack.evaluation.results import COLUMNS, Annotations, Scored, find_result, notes
from fartrack.evaluation.sequences import Dataset
from fartrack.files import write_whole


def find_trackers(results: Items[Path], dataset: Dataset) -> list[tuple[str, Path]]:
    """Folders that hold results of this data set, with a label each: those given, and those in a folder given."""
    folders: list[Path] = []
    for given in results:
        if not given.is_dir():
            raise InputError(f"{given}: no such folder of results")
        if _holds_results(given, dataset):
            folders.append(given)
            continue
        below = [folder for folder in sorted(given.iterdir()) if folder.is_dir() and _holds_results(folder, dataset)]
        if not below:
            raise InputError(
                f"{given}: no results of {dataset.name} in it; looked for {dataset.names[0]}.txt and the like, there "
                f"and one folder below"
            )
        folders += below
    names = [folder.resolve().name for folder in folders]
    labels = [
        name if names.count(name) == 1 else f"{folder.resolve().parent.name}/{name}"
        for name, folder in zip(names, folders, strict=True)
    ]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"two folders of results are called {twice!r}; rename one or give each once")
    return list(zip(labels, folders, strict=True))


def _holds_results(folder: Path, dataset: Dataset) -> bool:
    return any(find_result(folder, name, dataset) for name in dataset.names)


@plots.any_script()
def write_report(
    annotations: Annotations, scored: Items[Scored], subject: Scored, out: Path, failures: int = 6
) -> Path:
    """Draw everything into a folder; return the page."""
    out.mkdir(parents=True, exist_ok=True)
    known = [entry for entry in scored if entry.summary is not None]
    known.sort(key=lambda entry: entry.label != subject.label)  # the subject first, the others in their order
    styles = plots.styles(entry.label for entry in known)
    figures = {
        "success": plots.draw_success(known, styles),
        "precision": plots.draw_precision(known, styles),
        "normalised": plots.draw_normalised(known, styles),
        "sequences": plots.draw_sequences(known, subject, styles),
        "reliability": plots.draw_reliability(known, styles),
    }
    pictures: dict[str, bytes] = {}
    for name, figure in figures.items():
        pictures[name] = plots.png(figure)
        write_whole(out / f"{name}.png", pictures[name])
    for earlier in out.glob("failure_*_*.jpg"):
        earlier.unlink()
    strips: list[tuple[str, bytes]] = []
    remarks = notes(annotations, scored)
    for failure in worst_failures(subject, failures):
        try:
            picture = plots.draw_strip(annotations, failure, subject, known, styles)
        except InputError as error:  # a frame that cannot be read: the numbers need none
            remarks.append(f"{failure.name}: its failure cannot be shown ({error})")
            continue
        write_whole(out / f"failure_{len(strips) + 1}_{failure.name}.jpg", picture)
        strips.append((failure.name, picture))
    _write_tables(out, annotations, known)
    page = _page(annotations, known, subject, remarks, styles, pictures, strips)
    write_whole(out / "report.html", _utf8(page))
    return out / "report.html"


# --- tables and the page ----------------------------------------------------------------------------------------------


def _write_tables(out: Path, annotations: Annotations, entries: Items[Scored]) -> None:
    """The numbers of the page for spreadsheets: one row a tracker, and one a sequence."""
    rows = [["tracker", *(column.key for column in COLUMNS), "sequences"]]
    for entry in entries:
        numbers = [f"{getattr(entry.summary, column.key):.6g}" for column in COLUMNS]
        rows.append([entry.label, *numbers, str(len(entry.scores))])
    write_whole(out / "table.csv", _utf8(_csv(rows)))
    rows = [["sequence", *(entry.label for entry in entries)]]
    for name in annotations.dataset.names:
        rows.append([name, *(f"{e.scores[name].ao:.6g}" if name in e.scores else "" for e in entries)])
    write_whole(out / "sequences.csv", _utf8(_csv(rows)))


def _csv(rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _utf8(text: str) -> bytes:
    """What names have in them that is no UTF-8 is escaped: they stay different."""
    return text.encode("utf-8", "backslashreplace")


def _page(
    annotations: Annotations,
    known: Items[Scored],
    subject: Scored,
    remarks: Items[str],
    styles: dict[str, plots.Style],
    pictures: dict[str, bytes],
    strips: list[tuple[str, bytes]],
) -> str:
    dataset = annotations.dataset
    lost = sum(failure.lost for failure in worst_failures(subject, len(subject.scores)))
    items = "".join(f"<li>{html.escape(line)}</li>" for line in remarks)
    curves = "".join(
        f'<figure class="card">{_img(pictures[name], f"{name} curves")}</figure>'
        for name in ("success", "precision", "normalised")
    )
    template = string.Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"{dataset.name}: {', '.join(entry.label for entry in known)}"),
        subtitle=html.escape(f"{len(dataset)} sequences of {dataset.root}, one pass from the first box"),
        table=_html_table(dataset, known, styles),
        notes=f'<ul class="notes">{items}</ul>' if items else "",
        curves=curves,
        bars=_img(pictures["sequences"], "average overlap of each sequence"),
        reliability=_img(pictures["reliability"], "share of right frames by score")
        + "<figcaption>A score is honest when the line follows the diagonal; it is useful when right and wrong frames "
        "get different scores (AUROC; 50 is chance). Dots grow with the number of frames.</figcaption>",
        subject=html.escape(subject.label),
        failures_text=f"Lost: overlap below {LOST_BELOW} in at least {LOST_FRAMES} frames before it is above "
        f"{FOUND_ABOVE} again. It happens in {lost} of {len(subject.scores)} sequences. Those with the lowest average "
        f"overlap, each with the frames around its worst stretch{_left_out(known)}:",
        failures="".join(
            f'<figure class="card strip">{_img(picture, f"failure in {name}", "jpeg")}</figure>'
            for name, picture in strips
        ),
        sequences=_html_sequences(annotations, known),
    )


def _left_out(known: Items[Scored]) -> str:
    others = plots.IN_STRIPS - 1
    return f", with the boxes of the first {others} other trackers alone" if len(known) > plots.IN_STRIPS else ""


def _img(picture: bytes, alt: str, kind: str = "png") -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(picture).decode()}">'


def _html_table(dataset: Dataset, entries: Items[Scored], styles: dict[str, plots.Style]) -> str:
    heads = "".join(f'<th title="{html.escape(column.meaning)}">{column.heading}</th>' for column in COLUMNS)
    best = {
        column.key: max((getattr(entry.summary, column.key) for entry in entries), default=0.0, key=_or_less)
        for column in COLUMNS
    }
    rows = ""
    for entry in entries:
        if entry.summary is None:
            continue
        cells = ""
        for column in COLUMNS:
            top = len(entries) > 1 and getattr(entry.summary, column.key) == best[column.key]
            cells += f"<td{' class=best' if top else ''}>{column.text(entry.summary)}</td>"
        colour, line = styles[entry.label]
        key = f'<span class="key" style="border-top:3px {line} {colour}"></span>'
        count = f"<td>{len(entry.scores)}/{len(dataset)}</td>"
        rows += f"<tr><td>{key}{html.escape(entry.label)}</td>{cells}{count}</tr>"
    return f"<table><tr><th>tracker</th>{heads}<th>sequences</th></tr>{rows}</table>"


def _or_less(value: float) -> float:
    return value if np.isfinite(value) else -np.inf


def _html_sequences(annotations: Annotations, entries: Items[Scored]) -> str:
    heads = "".join(f"<th>{html.escape(entry.label)}</th>" for entry in entries)
    rows = ""
    for name in annotations.dataset.names:
        cells = "".join(
            f"<td>{100 * e.scores[name].ao:.1f}</td>" if name in e.scores else "<td>-</td>" for e in entries
        )
        frames = len(annotations.sequences[name]) if name in annotations.sequences else "-"
        rows += f"<tr><td>{html.escape(name)}</td><td>{frames}</td>{cells}</tr>"
    return f"<table><tr><th>sequence</th><th>frames</th>{heads}</tr>{rows}</table>"
