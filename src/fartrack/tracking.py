"""Follow one target through a whole video, or several."""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fartrack import geometry
from fartrack.errors import InputError
from fartrack.video.reader import VideoSource, frames_from_source

if TYPE_CHECKING:
    from fartrack.crops import Image
    from fartrack.geometry import Box
    from fartrack.insight import Insight
    from fartrack.multitracker import MultiTracker


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of the target in one frame."""

    frame: int
    """Number of the frame in the video, from 0."""
    box: Box
    """x, y, w, h in pixels; the last guess when the target was not found."""
    score: float
    """0 to 1: the chance that the box overlaps the target by more than half."""
    found: bool
    """Whether the target is in sight, as far as the score says."""
    image: Image
    """The frame, H x W x 3 uint8 BGR."""
    time: float
    """Seconds after the video's first frame."""
    insight: Insight | None = None
    """With `explain`: what the tracker saw and thought; None in the frame where the box was given."""


class SingleTracker(Protocol):
    """What `track` needs of a tracker: `fartrack.Tracker` has it."""

    @property
    def score(self) -> float:
        """How sure the last `update` was, 0 to 1."""
        ...

    def init(self, frame: Image, box: Sequence[float], /) -> None:
        """Start on a frame."""

    def update(self, frame: Image, /) -> tuple[bool, Box]:
        """Find the target in the next frame."""
        ...


def track(
    source: str | int | Path | VideoSource,
    box: Sequence[float],
    *,
    start: int = 0,
    model: str | Path = "pico",
    runtime: str | None = None,
    threads: int | None = None,
    explain: bool = False,
    seek: bool = False,
    tracker: SingleTracker | None = None,
) -> Iterator[Result]:
    """Follow the target inside a box through a video: one result per frame, as soon as it is there.

    The first result is frame `start` with the box as given, score 1 and found True.

    Args:
        source: a video file, a folder of images, a webcam number, the address of a stream, or what
            `frames_from_source` returned (then `start` was given there).
        box: x, y, w, h of the target in frame `start`, in pixels.
        start: number of the frame that the box belongs to, from 0; frames before it are passed over.
        model: "femto", "pico", "nano", "tiny" or the path of a model file.
        runtime: "onnxruntime", "openvino", "openvino-bf16", "torch" or "cuda"; None is what is fastest on this CPU
            without loss (`fartrack.runtime.choice`) for a packaged model, and what reads it for a file.
        threads: CPU threads of the network; None leaves the choice to the runtime.
        explain: give the results an `insight`, which `fartrack.video.explain` draws.
        seek: look for a target that has been lost for a while elsewhere in the frame as well (`fartrack.seek`).
        tracker: used instead of a new one of the five options above.

    Raises:
        FileNotFoundError: there is no such video or model.
        InputError: the source, the box, the start, the model or the runtime is wrong; before the first result.
            When the video breaks off or changes size later, the results before it have been delivered.
    """
    with _opened(source, start) as frames:
        first_box = geometry.check_box(box, frames.width, frames.height)
        if tracker is None:
            from fartrack.tracker import Tracker

            tracker = Tracker(model, runtime, threads, explain, seek)
        tracker.init(frames.first.image, first_box)
    return _follow(frames, tracker, first_box)


def track_all(
    source: str | int | Path | VideoSource,
    boxes: Sequence[Sequence[float]],
    *,
    start: int = 0,
    model: str | Path = "pico",
    runtime: str | None = None,
    threads: int | None = None,
    seek: bool = False,
    tracker: MultiTracker | None = None,
) -> Iterator[tuple[Result, ...]]:
    """Follow several targets through a video: for each frame one result of each, in the order of their boxes.

    They share the decoded frames and run as one batch. Arguments and errors are those of `track`, with several boxes
    in frame `start`, and a `MultiTracker` without targets as the tracker.
    """
    with _opened(source, start) as frames:
        first = [geometry.check_box(box, frames.width, frames.height) for box in boxes]
        if not first:
            raise InputError("there is no box to track: give one or more")
        if tracker is None:
            from fartrack.multitracker import MultiTracker

            tracker = MultiTracker(model, runtime, threads, seek)
        elif len(tracker):
            raise InputError(f"the tracker follows {len(tracker)} targets already: give a new MultiTracker")
        numbers = [tracker.add(frames.first.image, box) for box in first]
    return _follow_all(frames, tracker, dict(zip(numbers, first, strict=True)))


@contextmanager
def _opened(source: str | int | Path | VideoSource, start: int) -> Iterator[VideoSource]:
    """The frames of a source; they are closed only where what is done first fails, for they are read afterwards."""
    try:
        start = operator.index(start)
    except TypeError:
        raise InputError(f"start is {start!r}: give the number of a frame, from 0") from None
    frames = source if isinstance(source, VideoSource) else frames_from_source(source, start)
    try:
        yield frames
    except BaseException:
        frames.close()
        raise


def _follow_all(frames: VideoSource, tracker: MultiTracker, boxes: dict[int, Box]) -> Generator[tuple[Result, ...]]:
    with frames:
        first = next(frames)
        yield tuple(Result(first.index, box, 1.0, True, first.image, first.time) for box in boxes.values())
        for frame in frames:
            there = tracker.update(frame.image)
            yield tuple(
                Result(frame.index, box, score, found, frame.image, frame.time)
                for found, box, score in (there[number] for number in boxes)
            )


def _follow(frames: VideoSource, tracker: SingleTracker, box: Box) -> Generator[Result]:
    with frames:
        first = next(frames)
        yield Result(first.index, box, 1.0, True, first.image, first.time)
        for frame in frames:
            found, box = tracker.update(frame.image)
            insight = getattr(tracker, "insight", None)
            yield Result(frame.index, box, tracker.score, found, frame.image, frame.time, insight)
