"""`fartrack track`: follow one object through a video and write down where it was."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from fartrack.cli.options import Model, Runtime, Threads
from fartrack.cli.parse import parse_box, parse_formats, parse_labels
from fartrack.errors import InputError
from fartrack.signals import end_by, noted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fartrack.tracking import Result


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
    model: Model = "pico"
    runtime: Runtime = None
    threads: Threads = None
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
        formats = parse_formats(self.format)
        names = parse_labels(self.label, len(self.label) if self.boxes is not None else len(boxes) or 1)

        from fartrack import geometry
        from fartrack.cli.labels import Corrections, Labels
        from fartrack.cli.outputs import VIDEO, Outputs, make_folder, name_of, untouched
        from fartrack.multitracker import MultiTracker
        from fartrack.tracker import Tracker
        from fartrack.tracking import track, track_all
        from fartrack.video.reader import frames_from_source
        from fartrack.video.writer import check_encoder, check_size

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
            default = Path("out", name_of(self.source) + ("-corrected" if given else ""))
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
            outputs = Outputs(folder, frames, labels, video=not self.no_video, explain=self.explain)
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
