"""Result files: written as pytracking does, read from wherever others wrote theirs, packed for the servers.

SEQ.txt        x y w h of every frame, separated by tabs; the first line is the box that was given
SEQ_time.txt   seconds of every call, the first is `init`
SEQ_score.txt  the tracker's own score of every box, where it has one
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fartrack.errors import InputError
from fartrack.evaluation.annotations import read_boxes, read_table, read_text
from fartrack.evaluation.metrics import Rules, SequenceScore, Summary, score_sequence, summarise, together
from fartrack.evaluation.sequences import Dataset, Sequence
from fartrack.files import readable, write_whole

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pass:
    """What one tracker said about one sequence: N x 4 boxes, N times in seconds, N scores where it has them.

    `damaged` says which files of times or scores are there but cannot be used.
    """

    boxes: Array
    times: Array | None = None
    scores: Array | None = None
    damaged: tuple[str, ...] = ()


# --- files ------------------------------------------------------------------------------------------------------------


def write_pass(folder: Path, name: str, result: Pass) -> None:
    """Write the files of one sequence; SEQ.txt comes last, so that it stands for all of them."""
    for kind, values in (("time", result.times), ("score", result.scores)):
        path = folder / f"{name}_{kind}.txt"
        if values is None:
            path.unlink(missing_ok=True)  # of a pass before this one
        else:
            write_whole(path, _lines(values[:, None], "%.6f"))
    write_whole(folder / f"{name}.txt", _lines(result.boxes, "%.4f"))


def _lines(table: Array, form: str, separator: str = "\t") -> str:
    return "".join(separator.join(form % value for value in row) + "\n" for row in table)


def find_result(folder: Path, name: str, dataset: Dataset) -> Path | None:
    """File of a sequence in a folder of results: ours, pytracking's (uav_bike1.txt), got10k's (SEQ/SEQ_001.txt).

    The second target of a video is NAME_2, NAME-2 or NAME.2, whoever wrote it, unless another sequence is called so.
    OTB's Human4_2 is Human4 for most: its first annotation is empty.
    """
    part = re.fullmatch(r"(.+)_(\d+)", name)
    others = [f"{part[1]}{mark}{part[2]}" for mark in "-." if part] + ["Human4"] * (name == "Human4_2")
    taken = dataset.left_out.union(dataset.names)
    names = [dataset.prefix + name, name, *(other for other in others if other not in taken)]
    places = [place for entry in names for place in (f"{entry}.txt", f"{entry}/{entry}_001.txt")]
    return next((folder / place for place in places if (folder / place).is_file()), None)


def repetitions(path: Path, folder: Path) -> list[Path]:
    """A result file of a folder alone, or got10k's SEQ/SEQ_001.txt with those beside it: SEQ_002.txt ..."""
    if path.parent == folder:
        return [path]
    return sorted(file for file in path.parent.iterdir() if file.suffix == ".txt" and _is_repetition(file))


def _is_repetition(path: Path) -> bool:
    return re.fullmatch(rf"{re.escape(path.parent.name)}_\d+", path.stem) is not None


def read_pass(path: Path, count: int, repetition: int = 0) -> Pass:
    """Read a sequence's result file and those beside it; every one has `count` lines.

    `repetition` is the column of got10k's times that belongs to this file.
    """
    boxes = read_boxes(path)
    if len(boxes) != count:
        raise InputError(f"{path}: {len(boxes)} boxes for {count} frames; remove the file and run the sequence again")
    if (boxes[:, 2:] < 0).any():
        line = int((boxes[:, 2:] < 0).any(1).argmax()) + 1
        raise InputError(f"{path}, line {line}: a box of negative size; x y w h were expected")
    stems = [path.stem, path.parent.name] if _is_repetition(path) else [path.stem]
    values: dict[str, Array] = {}
    damaged: list[str] = []
    for kind in ("time", "score"):
        files = [path.with_name(f"{stem}_{kind}.txt") for stem in stems]
        for file in [file for file in files if file.is_file()][:1]:
            try:
                values[kind] = _read_column(file, count, repetition, finite=kind == "score")
            except InputError as error:  # the boxes are whole all the same
                damaged.append(str(error))
    return Pass(boxes, values.get("time"), values.get("score"), tuple(damaged))


def _read_column(path: Path, count: int, index: int, finite: bool) -> Array:
    """One column of a table; got10k has one for each repetition."""
    first = read_text(path).split("\n", 1)[0]
    table = read_table(path, max(1, len(first.replace(",", " ").split())))
    if len(table) != count:
        raise InputError(f"{path}: {len(table)} lines for {count} frames")
    if index >= table.shape[1]:
        raise InputError(f"{path}: no column for repetition {index + 1}")
    if finite and not np.isfinite(table[:, index]).all():
        raise InputError(f"{path}: finite numbers were expected")
    return table[:, index]


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Annotations:
    """All sequences of a data set, and those whose annotation or frames cannot be used, with the reason."""

    dataset: Dataset
    sequences: Mapping[str, Sequence]
    unusable: Mapping[str, str]


def load_annotations(dataset: Dataset) -> Annotations:
    """Load every sequence once."""
    sequences: dict[str, Sequence] = {}
    unusable: dict[str, str] = {}
    for name in dataset.names:
        try:
            sequences[name] = dataset.load(name)
        except InputError as error:
            unusable[name] = str(error)
    return Annotations(dataset, sequences, unusable)


@dataclass(frozen=True)
class Scored:
    """One tracker's results on a data set: its scores, and the sequences that count for nothing, with the reason.

    `damaged` are sequences whose boxes count, but without their times or scores, with the reason.
    """

    label: str
    folder: Path
    scores: Mapping[str, SequenceScore]
    problems: Mapping[str, str] = field(default_factory=dict)
    summary: Summary | None = None  # None when nothing could be scored
    damaged: Mapping[str, str] = field(default_factory=dict)


def score_folder(label: str, folder: str | Path, annotations: Annotations) -> Scored:
    """Score a folder of result files. A missing, damaged or mislabelled one is named, not counted as zero."""
    dataset, folder = annotations.dataset, Path(folder)
    scores: dict[str, SequenceScore] = {}
    problems, damaged = dict(annotations.unusable), {}
    for name, sequence in annotations.sequences.items():
        path = find_result(folder, name, dataset)
        if path is None:
            problems[name] = f"no result in {folder}"
            continue
        try:
            passes = [read_pass(file, len(sequence), index) for index, file in enumerate(repetitions(path, folder))]
            scores[name] = together([_score(result, sequence, dataset.rules) for result in passes])
        except InputError as error:
            problems[name] = str(error)
            continue
        if reasons := [reason for result in passes for reason in result.damaged]:
            damaged[name] = reasons[0]
    summary = summarise(list(scores.values()), dataset.rules) if scores else None
    return Scored(label, folder, scores, problems, summary, damaged)


def _score(result: Pass, sequence: Sequence, rules: Rules) -> SequenceScore:
    return score_sequence(
        sequence.name,
        result.boxes,
        sequence.boxes,
        rules,
        visible=sequence.visible,
        cover=sequence.cover,
        size=sequence.frame_size() if rules.pooled else None,
        scores=result.scores,
        times=result.times,
    )


@dataclass(frozen=True)
class Column:
    """A column of the table: the field of `Summary`, its heading and what it is."""

    key: str
    heading: str
    meaning: str
    percent: bool = True

    def text(self, summary: Summary) -> str:
        """The number as it is printed; a dash where there is none."""
        value = getattr(summary, self.key)
        if not np.isfinite(value):
            return "-"
        return f"{100 * value:.1f}" if self.percent else f"{value:.1f}" if value < 10 else f"{value:.0f}"


COLUMNS = (
    Column("ao", "AO", "average overlap, first frame left out"),
    Column("sr50", "SR50", "share of frames with overlap above 0.5"),
    Column("sr75", "SR75", "share of frames with overlap above 0.75"),
    Column("auc", "AUC", "mean of the success curve over 21 thresholds"),
    Column("precision", "P", "share of frames with centres at most 20 px apart"),
    Column("normalised", "Pnorm", "the same at 0.20 of the target's size"),
    Column("fps", "fps", "updates per second, decoded frame in, box out", percent=False),
    Column("auroc", "AUROC", "how well the score tells overlap above 0.5 from the rest"),
)


def notes(annotations: Annotations, scored: Iterable[Scored]) -> list[str]:
    """What a reader of the table has to know: absent sequences, blank frames, results that count in part or not."""
    dataset = annotations.dataset
    lines = []
    listed = max(len(dataset.missing) + len(dataset), dataset.whole)
    if listed > len(dataset):
        lines.append(f"{dataset.root} holds {len(dataset)} of the {listed} sequences of {dataset.name}; "
                     f"not comparable to published numbers")  # fmt: skip
    if dataset.remark:
        lines.append(dataset.remark)
    scored = list(scored)
    for entry in scored:
        if entry.problems:
            some = _some([f"{name}: {reason}" for name, reason in entry.problems.items()])
            lines.append(f"{entry.label}: {len(entry.problems)} of {len(dataset)} sequences do not count ({some})")
        if entry.damaged:
            some = _some([f"{name}: {reason}" for name, reason in entry.damaged.items()])
            lines.append(
                f"{entry.label}: {len(entry.damaged)} sequences count without some of their times or scores ({some})"
            )
        again = [score for score in entry.scores.values() if score.repetitions > 1]
        if again:
            most = max(score.repetitions for score in again)
            lines.append(f"{entry.label}: {len(again)} sequences were run up to {most} times, and every run counts")
        rated = sum(len(score.scores) > 0 for score in entry.scores.values())
        if 0 < rated < len(entry.scores):
            lines.append(
                f"{entry.label}: AUROC of {rated} of {len(entry.scores)} sequences, the others have no scores to judge"
            )
    empty = sorted({name for entry in scored for name, score in entry.scores.items() if not score.judged})
    if empty:
        lines.append(f"nothing to judge after the first frame, left out of AUC, P and Pnorm: {_some(empty)}")
    blank = max((entry.summary.blank for entry in scored if entry.summary), default=0)
    if blank:
        rule = "count as missed" if dataset.rules.blank_counts else "are left out"
        lines.append(f"{blank} frames without a box of the target {rule} in AUC (docs/benchmarks.md)")
    return lines


def _some(items: list[str]) -> str:
    """The first three, and how many more there are."""
    return "; ".join([*items[:3], *([f"and {len(items) - 3} more"] if len(items) > 3 else [])])


# --- submissions ------------------------------------------------------------------------------------------------------


def pack_submission(dataset: Dataset, folder: Path, path: Path) -> None:
    """Pack results for the benchmark's server: GOT-10k's SEQ/SEQ_001.txt and SEQ/SEQ_time.txt, TrackingNet's SEQ.txt.

    Every sequence has to be there, with a line for every frame.

    Raises:
        InputError: something is not there or does not fit; every result that does not fit is named.
    """
    if dataset.missing:
        raise InputError(
            f"{dataset.root}: {len(dataset.missing)} sequences are not there, first {dataset.missing[0]}; "
            "the server wants all of them"
        )
    if len(dataset) < dataset.whole:
        raise InputError(
            f"{dataset.root}: only {len(dataset)} of the {dataset.whole} sequences are there; the server wants all"
        )
    if odd := next((name for name in dataset.names if readable(name) != name), None):
        raise InputError(f"{dataset.root}: the name {readable(odd)} is no text; give it the one that the server knows")
    sources = {name: find_result(folder, name, dataset) for name in dataset.names}
    entries: list[tuple[str, str]] = []
    problems: list[str] = []
    if lacking := [name for name, source in sources.items() if source is None]:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        wanted = f"the server wants all {len(dataset)}, run it again first"
        problems.append(f"{folder}: no result for {lacking[0]}{more}; {wanted}")
    for name, source in sources.items():
        try:
            entries += [] if source is None else _submitted(dataset, name, source)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("; ".join(problems))
    _write_zip(path, entries)


def _submitted(dataset: Dataset, name: str, source: Path) -> list[tuple[str, str]]:
    """Names and texts of the files of one sequence, as the server wants them."""
    result = read_pass(source, len(dataset.load(name)))
    if result.damaged:
        raise InputError(result.damaged[0])
    if not dataset.name.startswith("got10k"):
        return [(f"{name}.txt", _lines(result.boxes, "%.2f", ","))]
    times = result.times if result.times is not None else np.zeros(len(result.boxes))
    return [
        (f"{name}/{name}_001.txt", _lines(result.boxes, "%.3f", ",")),
        (f"{name}/{name}_time.txt", _lines(times[:, None], "%.6f", ",")),
    ]


def _write_zip(path: Path, entries: Iterable[tuple[str, str]]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries:
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)  # no clock in it: same bytes again
    write_whole(path, packed.getvalue())
