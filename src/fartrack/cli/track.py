"""`fartrack track`: follow one object through a video and write down where it was."""

from __future__ import annotations

import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from fartrack.errors import InputError
from fartrack.files import identity, local_path, readable, write_whole
from fartrack.signals import end_by, ignored, noted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fartrack.cli.labels import Labels
    from fartrack.geometry import Box
    from fartrack.tracking import Result
    from fartrack.video.reader import VideoSource

TABLE, VIDEO, STRIP = "boxes.csv", "tracked.mp4", "strip.png"
LABELS = "labels"
"""What goes wrong with them while frames come in, which is YOLO's images."""
FRAMES = ("img", "color")
"""Data sets call the folder of every sequence's pictures so."""


@dataclass(frozen=True)
class Track:
    """Follow one object through a video, or several.

    Give the object's box in the first frame with --box, once for each object, or draw it with --select; or correct
    earlier results with --boxes.

    Three files come out, and Ctrl-C, SIGTERM or a broken video keeps what is there:

    boxes.csv: frame, x, y, w, h, score, found; one row per frame, written as it goes. With several objects one row for
    each of them, and a column id: 1, 2, ... in the order of their boxes.

    tracked.mp4: the video with box, score and frame number.

    strip.png: some frames of it at a glance.
    """

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """Video file, folder of images, webcam number (0 is the first), or address of a stream (rtsp://, http://)."""
    box: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="X,Y,W,H")] = ()
    """Where the object is in the start frame: left, top, width and height in pixels. Several objects: several times."""
    start: Annotated[int, arg(metavar="FRAME")] = 0
    """Frame in which the box is, counted from 0; frames before it get no row."""
    select: bool = False
    """Draw the box of one object in a browser instead of giving it."""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """With --select: address to listen on; 0.0.0.0 lets you draw from another machine."""
    port: Annotated[int, arg(metavar="PORT")] = 0
    """With --select: port to listen on; 0 takes a free one."""
    boxes: Annotated[Path | None, arg(metavar="FILE")] = None
    """Corrections: boxes in some frames (csv, MOT, COCO, CVAT, YOLO); tracks both ways to the middle between them."""
    before: Annotated[Path | None, arg(metavar="FILE")] = None
    """With --boxes: the file as it was before it was corrected; then only what was changed counts."""
    format: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME")] = ()
    """Write labels as mot, coco, cvat or yolo too; several with commas (boxes.csv is always there)."""
    label: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TEXT")] = ()
    """What the object is called in the labels, target by default; with several objects once for all, or for each. With
    --boxes it is for those without a label in that file and in --before; several count in the order of the ids."""
    model: Annotated[str, arg(metavar="MODEL")] = "pico"
    """Packaged model (see fartrack models) or the path of a model file."""
    runtime: Annotated[str | None, arg(metavar="RUNTIME")] = None
    """Engine that runs the network: onnxruntime, openvino, openvino-bf16, opencv, torch or cuda. By default what is
    fastest here without loss for a packaged model, and for a file what reads it."""
    threads: Annotated[int | None, arg(metavar="N")] = None
    """CPU threads of the network; by default the engine decides."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder for the results, where earlier ones are overwritten; by default out/ and the name of the source, with a
    number behind it where there are results already."""
    no_video: bool = False
    """Do not write tracked.mp4, which takes a good part of the time."""
    seek: bool = False
    """Look for an object that has been lost for a while elsewhere in the frame as well: after it has left the view, or
    a cut. Frames in which it is looked for take twice as long."""
    explain: bool = False
    """Show beside each frame of tracked.mp4 what the tracker saw: templates, search crop, distributions, score."""

    def run(self) -> int:
        """Track, write, and say how it went."""
        if bool(self.box) + self.select + (self.boxes is not None) != 1:
            raise InputError(
                "give the object's box with --box X,Y,W,H, draw it with --select, or correct results with --boxes FILE "
                "(one of the three)"
            )
        if self.before is not None and self.boxes is None:
            raise InputError("--before: it says what --boxes changed; give --boxes too")
        if self.explain and (self.no_video or self.boxes is not None or len(self.box) > 1):
            other = "--no-video" if self.no_video else "--boxes" if self.boxes is not None else "all but one --box"
            raise InputError(f"--explain draws into the video of one object: leave out {other}")
        boxes = [parse_box(text) for text in self.box]
        names = parse_labels(self.label, len(self.label) if self.boxes is not None else len(boxes) or 1)

        from fartrack import geometry
        from fartrack.cli.labels import Corrections, Labels, parse_formats
        from fartrack.multitracker import MultiTracker
        from fartrack.tracker import Tracker
        from fartrack.tracking import track, track_all
        from fartrack.video.reader import frames_from_source
        from fartrack.video.writer import check_encoder, check_size

        formats = parse_formats(self.format)
        with frames_from_source(self.source, self.start) as frames:
            for box in boxes:
                geometry.check_given(box, frames.width, frames.height)
            given = None
            if self.boxes is not None:
                given = Corrections(self.boxes, self.before, self.source, frames, self.label)
            how = (self.model, self.runtime, self.threads)
            together = [MultiTracker(*how, self.seek)] if len(boxes) > 1 else []
            count = len(given.tracks) if given else 1 - len(together)
            alone = [Tracker(*how, self.explain, self.seek) for _ in range(count)]
            trackers: list[Tracker | MultiTracker] = [*together, *alone]
            if self.select:
                from fartrack.video.select import select_box

                boxes = [select_box(frames.first.image, host=self.host, port=self.port)]
            default = Path("out", _name(self.source) + ("-corrected" if given else ""))
            if not self.no_video:
                check_encoder((self.out or default) / VIDEO)
            if not (self.no_video or self.explain):  # whose pictures are scaled
                check_size((self.out or default) / VIDEO, frames.width, frames.height)
            folder = make_folder(self.out or untouched(default), formats, self.source, self.boxes, self.before)
            results: Iterable[tuple[Result, ...]]
            if given:
                targets = [(one.id, one.label) for one in given.tracks]
                waiting = iter(alone)
                results = given.track(frames, lambda: next(waiting))
            elif together:
                targets = list(enumerate(names, 1))
                results = track_all(frames, boxes, tracker=together[0])
            else:
                targets = [(1, names[0])]
                results = ((result,) for result in track(frames, boxes[0], tracker=alone[0]))
            begun, before = time.perf_counter(), sum(t.network_seconds for t in trackers)
            labels = Labels(folder, formats, targets, frames)
            outputs = _Outputs(folder, frames, labels, video=not self.no_video, explain=self.explain)
            try:
                with noted() as stopped, outputs:
                    for some in results:
                        outputs.add(some)
                        if number := stopped():
                            end_by(number)
                        if outputs.failed:
                            break
                    else:
                        outputs.finished = True
            finally:  # also when the video breaks off or a person has seen enough
                seconds = time.perf_counter() - begun
                outputs.report(seconds, sum(t.network_seconds for t in trackers) - before)
        return 0


def parse_box(text: str) -> Box:
    """The four numbers of `X,Y,W,H`."""
    try:
        x, y, w, h = (float(part) for part in re.split(r"[,;\s]+", text.strip(" \t()[]")))
    except ValueError:
        raise InputError(f"box {text!r} is not four numbers: give X,Y,W,H in pixels, such as 310,120,80,140") from None
    return x, y, w, h


def parse_labels(texts: Sequence[str], count: int) -> list[str]:
    """A name for each of so many objects."""
    for text in texts:
        if not text.strip() or not text.isprintable():
            raise InputError(f"--label {text!r} cannot be written into label files: {_cause(text)}")
    if len(texts) not in (0, 1, count):
        objects = f"{count} object" + "s" * (count != 1)
        raise InputError(f"--label is given {len(texts)} times for {objects}: give one label, or one for each")
    return list(texts) if len(texts) > 1 else list(texts or ("target",)) * count


def _cause(text: str) -> str:
    """Why a label is none, and what to do."""
    if not re.search(r"[\ud800-\udfff]", text):
        return "give a name of one line"
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return "its bytes are no UTF-8; type it in a terminal that uses UTF-8"
    return f"it is no text in this locale, which knows {encoding} alone; set LC_ALL=C.UTF-8 or PYTHONUTF8=1"


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
    from fartrack.formats import FORMATS, yolo

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


def _name(source: str) -> str:
    """A folder name for the results of a source."""
    if source.isdecimal():
        return f"webcam-{source}"
    if "://" in source and not source.strip().lower().startswith("file://"):
        return "stream"
    place = local_path(source).resolve()
    if place.is_dir():
        return readable(place.parent.name if place.name.lower() in FRAMES else place.name) or "frames"
    return readable(place.stem) or "video"


class _Outputs:
    """Everything that is written while tracking. As a context manager it finishes the files whatever happens."""

    def __init__(self, folder: Path, frames: VideoSource, labels: Labels, *, video: bool, explain: bool) -> None:
        from fartrack.video.draw import Filmstrip
        from fartrack.video.explain import Explainer

        self.folder, self.frames, self.labels, self.video = folder, frames, labels, video
        self.finished = False  # whether the video came to its end
        self.strip = Filmstrip()
        self.explainer = Explainer(frames.width, frames.height) if explain else None
        self.written: list[Path] = []
        self._failures: dict[str, InputError | OSError] = {}  # the first of each output
        self.count = 0
        self._whole = 0  # bytes of the table
        self.found = [0] * len(labels.targets)  # frames in which each was found

    def __enter__(self) -> _Outputs:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        from fartrack.formats import boxes_csv
        from fartrack.video.writer import VideoWriter

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
        from fartrack.formats import boxes_csv, tracks
        from fartrack.video.draw import draw_result

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
        from fartrack.formats import FORMATS

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
        import cv2

        path = self.folder / STRIP
        good, png = cv2.imencode(".png", self.strip.image())
        if good:
            with self._failure_noted(STRIP):
                write_whole(path, png.tobytes())
                self.written.append(path)
