"""Follow one target through a whole video, or several."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fartrack import geometry
from fartrack.errors import InputError
from fartrack.video.reader import VideoSource, check_start, frames_from_source

if TYPE_CHECKING:
    import numpy.typing as npt

    from fartrack.crops import Image
    from fartrack.geometry import Box
    from fartrack.insight import Insight
    from fartrack.multitracker import MultiTracker
    from fartrack.target import GivenBox


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
    box: GivenBox,
    *,
    start: int = 0,
    model: str | Path = "pico",
    runtime: str | None = None,
    threads: int | None = None,
    explain: bool = False,
    seek: bool = False,
    tracker: SingleTracker | None = None,
) -> Generator[Result]:
    """Follow the target inside a box through a video: one result per frame, as soon as it is there.

    The first result is frame `start` with the box as given, score 1 and found True.

    Args:
        source: a video file, a folder of images, a webcam number, the address of a stream, or what
            `frames_from_source` returned (then `start` was given there; another one is refused) and nobody has read
            from yet.
        box: x, y, w, h of the target in frame `start`, in pixels.
        start: number of the frame that the box belongs to, from 0; frames before it are passed over.
        model: "femto", "pico", "nano", "tiny" or the path of a model file.
        runtime: "onnxruntime", "openvino", "openvino-bf16", "opencv", "torch" or "cuda"; None is what is fastest on
            this CPU without loss (`fartrack.runtime.choice`) for a packaged model, and what reads it for a file.
        threads: CPU threads of the network; None leaves the choice to the runtime.
        explain: give the results an `insight`, which `fartrack.video.explain` draws.
        seek: look for a target that has been lost for a while elsewhere in the frame as well (`fartrack.seek`).
        tracker: used instead of a new one of the five options above; one video after the other.

    Raises:
        FileNotFoundError: there is no such video or model.
        InputError: the source, the box, the start, the model, the runtime or the tracker is wrong; before the first
            result.
            When the video breaks off or changes size later, the results before it have been delivered; so they have
            when the tracker was given to another call meanwhile.
    """
    if tracker is not None:
        check_single(tracker)
    with _opened(source, start) as frames:
        first_box = geometry.check_box(box, frames.width, frames.height)
        if tracker is None:
            from fartrack.tracker import Tracker

            tracker = Tracker(model, runtime, threads, explain, seek)
        tracker.init(frames.first.image, first_box)
    return _follow(frames, tracker, first_box, claim(tracker))


def track_all(
    source: str | int | Path | VideoSource,
    boxes: Sequence[GivenBox] | npt.NDArray[Any],
    *,
    start: int = 0,
    model: str | Path = "pico",
    runtime: str | None = None,
    threads: int | None = None,
    seek: bool = False,
    tracker: MultiTracker | None = None,
) -> Generator[tuple[Result, ...]]:
    """Follow several targets through a video: for each frame one result of each, in the order of their boxes.

    They share the decoded frames and run as one batch. Arguments and errors are those of `track`, with several boxes
    in frame `start`, and a `MultiTracker` without targets as the tracker.
    """
    from fartrack.multitracker import MultiTracker

    if tracker is not None and not isinstance(tracker, MultiTracker):
        raise InputError(
            f"tracker is {kind_of(tracker)}: give a MultiTracker without targets; one target is followed with `track`"
        )
    with _opened(source, start) as frames:
        first = [geometry.check_box(box, frames.width, frames.height) for box in _several(boxes)]
        if not first:
            raise InputError("there is no box to track: give one or more")
        if tracker is None:
            tracker = MultiTracker(model, runtime, threads, seek)
        elif len(tracker):
            raise InputError(f"the tracker follows {len(tracker)} targets already: give a new MultiTracker")
        numbers = [tracker.add(frames.first.image, box) for box in first]
    return _follow_all(frames, tracker, dict(zip(numbers, first, strict=True)))


def check_untouched(frames: VideoSource, start: int = 0) -> None:
    """Refuse a source whose next frame is not the one that a box was given for.

    Args:
        frames: which know where they start.
        start: the frame that was asked for as well; 0 where none was.

    Raises:
        InputError: with what to do instead.
    """
    if start not in (0, frames.first.index):
        raise InputError(
            f"start is {start}, but {frames.name} was opened at frame {frames.first.index}: open it with that start, "
            "and leave it out here"
        )
    if not frames.untouched:
        raise InputError(
            f"{frames.name}: frames of it were read already, or it was closed: open it anew with start=N, or use the "
            "`init` and `update` of a Tracker"
        )


def check_single(tracker: object, what: str = "tracker is") -> None:
    """Refuse what one target cannot be followed with. Its `score` is not asked for: there may be none before `init`.

    Args:
        tracker: that was given.
        what: the words before its kind.

    Raises:
        InputError: with what to give instead.
    """
    has_both = all(callable(getattr(tracker, name, None)) for name in ("init", "update"))
    opencv = type(tracker).__module__.partition(".")[0] == "cv2"  # wants integers, and has no score
    if isinstance(tracker, type) or not has_both or opencv:
        raise InputError(
            f"{what} {kind_of(tracker)}: give a Tracker, or an object with init(frame, box), where the box is of "
            "floats, update(frame) and score; several targets are followed with `track_all`"
        )


def kind_of(given: object) -> str:
    """What something is, for a person who meant something else."""
    if isinstance(given, type):
        return f"the class {given.__name__}, not made yet"
    return repr(given) if isinstance(given, str) else f"a {type(given).__name__}"


def _several(boxes: object) -> list[object]:
    """The boxes of several targets; one box alone is a likely slip."""
    try:
        given = list(boxes)  # type: ignore[call-overload]
    except TypeError:
        given = [boxes]
    if any(box is None or isinstance(box, Real | str) for box in given):
        raise InputError("boxes is no list of boxes: give one, such as [(x, y, w, h)], for a single target too")
    return given


@contextmanager
def _opened(source: str | int | Path | VideoSource, start: int) -> Iterator[VideoSource]:
    """The frames of a source; they are closed only where what is done first fails, for they are read afterwards."""
    start = check_start(start)
    if isinstance(source, VideoSource):
        check_untouched(source, start)
    frames = source if isinstance(source, VideoSource) else frames_from_source(source, start)
    try:
        yield frames
    except BaseException:
        frames.close()
        raise


def _follow_all(frames: VideoSource, tracker: MultiTracker, boxes: dict[int, Box]) -> Generator[tuple[Result, ...]]:
    with frames:
        check_untouched(frames)
        first = next(frames)
        yield tuple(Result(first.index, box, 1.0, True, first.image, first.time) for box in boxes.values())
        for frame in frames:
            there = tracker.update(frame.image)
            if gone := boxes.keys() - there.keys():
                raise InputError(
                    f"target {min(gone)} was removed from the tracker that `track_all` runs on: leave its targets "
                    "alone, or use its `add` and `update` yourself"
                )
            yield tuple(
                Result(frame.index, box, score, found, frame.image, frame.time)
                for found, box, score in (there[number] for number in boxes)
            )


def _follow(frames: VideoSource, tracker: SingleTracker, box: Box, call: object) -> Generator[Result]:
    with frames:
        check_ours(tracker, call)
        check_untouched(frames)
        first = next(frames)
        yield Result(first.index, box, 1.0, True, first.image, first.time)
        for frame in frames:
            check_ours(tracker, call)
            found, box = tracker.update(frame.image)
            insight = getattr(tracker, "insight", None)
            yield Result(frame.index, box, tracker.score, found, frame.image, frame.time, insight)


def claim(tracker: SingleTracker) -> object:
    """Take a tracker for a new call: what `check_ours` knows it by."""
    call = object()
    if hasattr(tracker, "started_by"):
        tracker.started_by = call
    return call


def check_ours(tracker: SingleTracker, call: object) -> None:
    """Refuse a tracker that another call has claimed since. What a program does with its `init` is its own affair.

    Raises:
        InputError: with what to do instead.
    """
    if getattr(tracker, "started_by", call) is not call:
        raise InputError(
            "the tracker was started on something else meanwhile: read one video to its end before the next, or give "
            "each its own"
        )
