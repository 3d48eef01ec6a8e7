"""What `fartrack track` writes, and where."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from fartrack.cli.labels import Labels
from fartrack.errors import InputError
from fartrack.files import identity, local_path, readable, write_whole
from fartrack.formats import FORMATS, boxes_csv, tracks, yolo
from fartrack.signals import ignored
from fartrack.tracking import Result
from fartrack.video.draw import Filmstrip, draw_result
from fartrack.video.explain import Explainer
from fartrack.video.reader import VideoSource
from fartrack.video.writer import VideoWriter

TABLE, VIDEO, STRIP = "boxes.csv", "tracked.mp4", "strip.png"
LABELS = "labels"
"""What goes wrong with them while frames come in, which is YOLO's images."""
FRAMES = ("img", "color")
"""Data sets call the folder of every sequence's pictures so."""


def untouched(folder: Path) -> Path:
    """The folder, or the first of NAME-2, NAME-3, ... in which nothing is: results of another run are finished work.

    It is made here and holds an empty table, so that two runs at once do not share one.
    """
    for number in itertools.count(1):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            candidate.mkdir(parents=True, exist_ok=True)
            if not any(candidate.iterdir()):
                (candidate / TABLE).touch(exist_ok=False)
                return candidate
        except FileExistsError:
            continue  # a file of that name, or another run was faster
        except OSError:
            return candidate  # `make_folder` says what is wrong
    raise AssertionError("unreachable")


def make_folder(folder: Path, formats: Sequence[str], source: str, *others: Path | None) -> Path:
    """Make the output folder, unless writing there would destroy the source or other input, or is not possible."""

    def around(path: Path) -> set[tuple[int, int] | Path]:
        return {identity(one) for one in (path, *path.parents)}

    # By `realpath`: Path.resolve raises RuntimeError where links run in a circle.
    place = Path(os.path.realpath(folder))
    origin = Path(os.path.realpath(local_path(source)))
    names = (TABLE, VIDEO, STRIP, *(FORMATS[name].target for name in formats))
    # The table and what is in folders would be written through a link.
    targets = {name: identity(Path(os.path.realpath(place / name))) for name in names}
    whole = {identity(place), *(targets[name] for name in (TABLE, VIDEO, STRIP))}
    if identity(origin) in whole or ("yolo" in formats and targets[FORMATS["yolo"].target] in around(origin)):
        raise InputError(f"{folder}: the results would mix with the source {source}; choose another folder with --out")
    for other in others:
        if other is None:
            continue
        above = around(other.resolve())
        if other.is_symlink():  # the results could take the place of the link
            above |= around(other.parent.resolve())
        if above & {identity(place), *targets.values()}:
            raise InputError(f"{folder}: the results could overwrite {other}; choose another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{TABLE}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); choose another folder with --out") from None
    for path in (folder / name for name in names):
        if path.exists() and path.is_dir() == bool(path.suffix):  # after the work it would be too late to say so
            kinds = ("a folder", "a file") if path.suffix else ("a file", "a folder")
            raise InputError(f"{path}: it is {kinds[0]} and has to become {kinds[1]}; choose another folder with --out")
    if "yolo" in formats and (foreign := yolo.foreign(folder / FORMATS["yolo"].target)):
        raise InputError(
            f"{folder / FORMATS['yolo'].target}: it holds files that may be of other origin ({foreign[0]}) and "
            "would be overwritten or count as this video's; remove that folder, or choose another one with --out"
        )
    return folder


def name_of(source: str) -> str:
    """A folder name for the results of a source."""
    if source.isdecimal():
        return f"webcam-{source}"
    if "://" in source and not source.strip().lower().startswith("file://"):
        return "stream"
    place = local_path(source).resolve()
    if place.is_dir():
        return readable(place.parent.name if place.name.lower() in FRAMES else place.name) or "frames"
    return readable(place.stem) or "video"


class Outputs:
    """Everything that is written while tracking. As a context manager it finishes the files whatever happens."""

    def __init__(self, folder: Path, frames: VideoSource, labels: Labels, *, video: bool, explain: bool) -> None:
        self.folder, self.frames, self.labels, self.video = folder, frames, labels, video
        self.finished = False  # whether the video came to its end
        self.strip = Filmstrip()
        self.explainer = Explainer(frames.width, frames.height) if explain else None
        self.written: list[Path] = []
        self._failures: dict[str, InputError | OSError] = {}  # the first of each output
        self.count = 0
        self._whole = 0  # bytes of the table
        self.found = [0] * len(labels.targets)  # frames in which each was found

    def __enter__(self) -> Outputs:
        source = self.frames
        with ExitStack() as stack:
            try:
                self._table = stack.enter_context((self.folder / TABLE).open("wb", buffering=0))
            except OSError as error:
                raise InputError(f"{self.folder / TABLE}: cannot be written ({error.strerror})") from None
            self._write_rows([(*boxes_csv.COLUMNS, "id") if len(self.labels.targets) > 1 else boxes_csv.COLUMNS])
            self.written.append(self.folder / TABLE)
            for format in reversed(self.labels.formats):  # what is entered last is done first
                stack.callback(self._write_labels, format)
            stack.callback(self._write_strip)
            self._writer: VideoWriter | None = None
            if self.video:
                width, height = self.explainer.size if self.explainer else (source.width, source.height)
                self._writer = VideoWriter(
                    self.folder / VIDEO,
                    width,
                    height,
                    fps=source.fps,
                    time_base=source.time_base,
                    pixel_aspect=source.pixel_aspect,
                )
                stack.callback(self._finish_video)
            console = Console(stderr=True)
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),  # a name such as `[dog].mp4`
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("frame {task.completed:.0f}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal:
                stack.enter_context(self._progress)
            total = None if source.count is None else max(1, source.count - source.first.index)
            self._task = self._progress.add_task(Path(source.name).name, total=total, rate="")
            self._begun = time.perf_counter()
            self._stack = stack.pop_all()
        return self

    @property
    def failed(self) -> bool:
        """Whether a file could not be written on; it is named in the end."""
        return bool(self._failures)

    @contextmanager
    def _failure_noted(self, output: str) -> Iterator[None]:
        """An output that fails costs no other, and each is named in the end, once."""
        try:
            yield
        except (InputError, OSError) as error:
            self._failures.setdefault(output, error)

    def _put(self, output: str, write: Callable[[], object]) -> None:
        with self._failure_noted(output):
            write()

    def add(self, results: Sequence[Result]) -> None:
        """Write one frame's rows, one for each target, and its picture where pictures are wanted.

        All outputs get the frame, also where one of them fails; that is to be seen in `failed`.
        """
        first = results[0]
        canvas = first.image
        rows: list[list[str]] = []
        for result, (id, _) in zip(results, self.labels.targets, strict=True):
            cells = boxes_csv.row(tracks.Box(result.frame, *result.box, result.score, result.found))
            rows.append([*cells, str(id)] if len(results) > 1 else cells)
            if self._writer and not self.explainer:
                name = str(id) if len(results) > 1 else ""
                canvas = draw_result(canvas, result.box, result.score, result.frame, result.found, name)
        if self.explainer:
            canvas = self.explainer.draw(first.image, first.box, first.score, first.frame, first.found, first.insight)
        self.count += 1
        self.found = [seen + result.found for seen, result in zip(self.found, results, strict=True)]
        others = [(result.box, result.found) for result in results[1:]]
        writer = self._writer
        with ExitStack() as all_the_same:  # the last is done first
            all_the_same.callback(self._put, LABELS, lambda: self.labels.add(results))
            if writer:
                all_the_same.callback(self._put, VIDEO, lambda: writer.write(canvas, first.time))
            all_the_same.callback(self._put, TABLE, lambda: self._write_rows(rows))
            self.strip.add(first.image, first.box, first.score, first.frame, first.found, others)
        rate = self.count / (time.perf_counter() - self._begun)
        self._progress.update(self._task, advance=1, rate=f"{rate:.1f} frames/s")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._failure_noted("the progress bar"), ignored():
            self._stack.close()
        if not self._failures:
            return
        before = [error] if isinstance(error, InputError | OSError) else []
        if len(both := [*before, *self._failures.values()]) == 1:
            raise both[0]
        raise ExceptionGroup("files that failed", both)

    def report(self, seconds: float, network: float) -> None:
        """Say on standard output what was done. Speeds leave the first frame out, where nothing is searched."""
        if not self.count:
            return
        searched = max(0, self.count - 1)
        frames = f"{self.count} frame" + "s" * (self.count > 1)
        if len(self.found) == 1:
            print(f"{frames}, the object found in {self.found[0]}")
        else:
            each = ", ".join(f"{id} in {n}" for (id, _), n in zip(self.labels.targets, self.found, strict=True))
            print(f"{frames}, objects found: {each}")
        if searched and seconds > 0 and network > 0:
            fps, alone = searched / seconds, searched / network
            print(f"{fps:.1f} frames per second end to end, {alone:.1f} the network alone")
        for path in self.written:
            print(path)
        sys.stdout.flush()
        known = [self.folder / name for name in (TABLE, VIDEO, STRIP, *(format.target for format in FORMATS.values()))]
        asked = [self.folder / FORMATS[name].target for name in self.labels.formats]
        begun = [path for path in asked if path.is_dir()]  # also one that failed on the way
        if earlier := [path.name for path in known if path not in (*self.written, *begun) and path.exists()]:
            print(f"fartrack: {self.folder} also holds {', '.join(earlier)} of an earlier run", file=sys.stderr)

    def _write_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """The rows of a frame, all of them or none."""
        text = "".join(",".join(cells) + "\n" for cells in rows).encode()
        left = text
        try:
            while left:  # a full disk may take a part of it
                left = left[self._table.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._table.truncate(self._whole)
            raise OSError(error.errno, error.strerror, str(self.folder / TABLE)) from None
        self._whole += len(text)

    def _finish_video(self) -> None:
        """What was written is named when it is whole."""
        assert self._writer
        with self._failure_noted(VIDEO):
            self._writer.close()
            if self._writer.count:
                self.written.append(self._writer.path)

    def _write_labels(self, format: str) -> None:
        """In one format: where it fails, the others are written all the same."""
        with self._failure_noted(format):
            if path := self.labels.write(format, self.finished):
                self.written.append(path)

    def _write_strip(self) -> None:
        """Whole or not at all, like the video."""
        if not self.count:
            return

        path = self.folder / STRIP
        good, png = cv2.imencode(".png", self.strip.image())
        if good:
            with self._failure_noted(STRIP):
                write_whole(path, png.tobytes())
                self.written.append(path)
