"""From a few boxes to a box in every frame: track from each of them, both ways, to the middle between two.

A person who corrects a labelled video gives the frames that were wrong. Between two given boxes the first half is
tracked forwards from the earlier one and the second half backwards from the later one; before the first box the
video is tracked backwards to its start, after the last one forwards to its end. A frame given as "not there" (None)
says that the target is gone from that frame until the next box.

The video is read once, forwards. Only the frames that wait to be tracked backwards are kept: half of one gap, in
memory as far as `memory` bytes reach and as JPEG files in a temporary folder beyond that.
"""

from __future__ import annotations

import operator
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from fartrack import geometry
from fartrack.crops import GivenImage, Image, as_bgr
from fartrack.errors import InputError
from fartrack.formats.tracks import Box as LabelledBox
from fartrack.formats.tracks import Track
from fartrack.geometry import Box
from fartrack.target import GivenBox
from fartrack.tracking import Result, SingleTracker, check_ours, check_single, check_untouched, claim, kind_of
from fartrack.video.frame import USUAL_FPS, Frame
from fartrack.video.pictures import read_image
from fartrack.video.reader import VideoSource, check_start, frames_from_source

Keyframes = Mapping[int, GivenBox | None]
TOLERANCE = 1.0  # pixels; less is rounding, not a correction
MEMORY = 512 << 20
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
NOTHING: Image = np.empty((0, 0, 3), np.uint8)


def keyframes_of(track: Track, before: Track | None = None, tolerance: float = TOLERANCE) -> dict[int, Box | None]:
    """What a person said in a file of boxes: {frame: box, or None where the target is not there}.

    Boxes that the labelling tool filled in are left out. With `before`, the same target as it was before it was
    corrected, these count: what was given already in an earlier round or else its first box (see `_given`), what was
    changed by more than `tolerance` pixels, the box that follows a "gone", and where the tracker had only lost the
    target, what now has a score of exactly 0.
    """
    old = {box.frame: box for box in before.boxes} if before is not None else {}
    kept = _given(before) if before is not None else set()
    scored = before is not None and _scored(before)
    keyframes: dict[int, Box | None] = {}
    gone = False  # what the frames so far say of the next one
    for box in track.boxes:
        if not box.keyframe:
            continue
        was = old.get(box.frame)
        if before is None or box.frame in kept:
            counts = True
        elif box.found:
            counts = gone or was is None or not same_place(box, was, tolerance)
        elif box.score == 0 and (was is None or was.score != 0):  # a person's word: the tracker writes more
            counts = True
        elif was is not None:
            counts = was.found or (scored and was.score == 0 and not gone)  # 0: said to be gone, not only lost
        else:  # a frame without a box is one without the target, except that the first box is followed backwards too
            counts = not keyframes and not gone
        if counts:
            keyframes[box.frame] = box.xywh if box.found else None
            gone = not box.found
    return keyframes


def same_place(one: LabelledBox, other: LabelledBox, tolerance: float = TOLERANCE) -> bool:
    """Whether both show the target, and no side differs by more than `tolerance` pixels."""
    both = one.found and other.found
    return both and max(abs(a - b) for a, b in zip(one.xywh, other.xywh, strict=True)) <= tolerance


def _given(track: Track) -> set[int]:
    """The frames whose boxes somebody had given: those with score 1; where no score says so, the first."""
    found = [box for box in track.boxes if box.found]
    given = {box.frame for box in found if box.score == 1} if _scored(track) else set()
    return given or {box.frame for box in found[:1]}


def _scored(track: Track) -> bool:
    """Whether the scores tell what was said from what was tracked; where all are 1 the file holds none.

    A given box has score 1, one that was tracked has less; where the target was said to be gone the score is 0, where
    it was only lost it is more.
    """
    return any(box.score != 1 for box in track.boxes)


def track_between(
    frames: VideoSource | Iterable[GivenImage] | str | int | Path,
    keyframes: Keyframes,
    tracker_factory: Callable[[], SingleTracker],
    *,
    start: int = 0,
    memory: int = MEMORY,
) -> Generator[Result]:
    """Track between given boxes: one result per frame, in ascending order.

    The results of given frames are the boxes as given, score 1; where the target is said to be gone they are not
    found, score 0, at its last box.

    Args:
        frames: what `frames_from_source` returned and nobody has read from yet, what it takes, or images from frame 0
            on.
        keyframes: {frame: (x, y, w, h)}, or None for a frame without the target.
        tracker_factory: makes the tracker, as the class `Tracker` does; called once.
        start: the first frame wanted; a `VideoSource` knows its own, and another one is refused.
        memory: bytes of frames held in memory before the rest goes to a temporary folder.

    Raises:
        FileNotFoundError: there is no such video.
        InputError: before the first result when a box is wrong, when none is given or one lies before `start`, or what
            is given is of another kind; when an image comes that has not the size of the first one, or the tracker was
            given to another call meanwhile; after the last frame when the video ends before a given one.
    """
    start = check_start(start)
    if not callable(tracker_factory):
        raise InputError(
            f"tracker_factory is {kind_of(tracker_factory)}: give what makes a tracker, such as the class Tracker, or "
            'lambda: Tracker("tiny")'
        )
    if isinstance(frames, str | int | os.PathLike):
        frames = frames_from_source(frames, start)
    if isinstance(frames, VideoSource):
        check_untouched(frames, start)
    name = frames.name if isinstance(frames, VideoSource) else "the video"
    try:
        keyframes = _numbers(keyframes)
        if isinstance(frames, VideoSource):
            start = frames.first.index
            _checked(keyframes, frames.width, frames.height)
        _check_start(keyframes, start)
        if isinstance(frames, Sequence) and max(keyframes) >= len(frames):
            raise InputError(_missing(max(keyframes), len(frames), name))
        numbered = frames if isinstance(frames, VideoSource) else _numbered(_images(frames), start)
        tracker = tracker_factory()
        check_single(tracker, "tracker_factory makes")
    except BaseException:
        if isinstance(frames, VideoSource):
            frames.close()
        raise
    return _Between(numbered, keyframes, tracker, start, memory, name).run()


def _numbers(keyframes: Keyframes) -> Keyframes:
    """A copy whose keys are whole numbers; others would match no frame, or not be in an order."""
    if not isinstance(keyframes, Mapping):
        raise InputError(
            f"corrections: keyframes is a {type(keyframes).__name__}: give a dict {{frame: (x, y, w, h)}}, with None "
            "for a frame without the target"
        )
    whole: dict[int, GivenBox | None] = {}
    for frame, box in keyframes.items():
        try:
            whole[operator.index(frame)] = box
        except TypeError:
            raise InputError(f"corrections: {frame!r} is no frame: give its number, from 0") from None
    return whole


def _images(frames: Iterable[GivenImage]) -> Iterator[GivenImage]:
    try:
        return iter(frames)
    except TypeError:
        raise InputError(
            f"the frames are a {type(frames).__name__}: give images, a video or what `frames_from_source` returned"
        ) from None


def _checked(keyframes: Keyframes, width: int, height: int) -> dict[int, Box | None]:
    boxes: dict[int, Box | None] = {}
    for frame, box in keyframes.items():
        try:
            boxes[frame] = None if box is None else geometry.check_given(box, width, height)
        except InputError as error:
            raise InputError(f"corrections: frame {frame}: {error}") from None
    return boxes


def _check_start(keyframes: Keyframes, start: int) -> None:
    if all(box is None for box in keyframes.values()):
        raise InputError("corrections: no frame with a box is given; give at least one")
    first = min(keyframes)
    if first < start:
        raise InputError(f"corrections: frame {first} is given, but tracking starts at frame {start}; start earlier")


def check_keyframes(keyframes: Keyframes, frames: VideoSource) -> None:
    """Complain of what `track_between` would, where that is too late because it has something else open by then.

    Raises:
        InputError: a box is wrong, none is given, or one lies before the first frame wanted.
    """
    _checked(keyframes, frames.width, frames.height)
    _check_start(keyframes, frames.first.index)


def _missing(key: int, count: int, name: str) -> str:
    return (
        f"corrections: frame {key} is given, but {name} has {count} frames (0 to {count - 1}); "
        "use the video that was labelled, or leave that frame out"
    )


class _Between:
    """One run over one video."""

    def __init__(
        self,
        frames: VideoSource | Iterator[Frame],
        keyframes: Keyframes,
        tracker: SingleTracker,
        start: int,
        memory: int,
        name: str,
    ) -> None:
        self.video = frames if isinstance(frames, VideoSource) else None
        self.frames = iter(frames)
        self.given = keyframes
        self.keyframes: dict[int, Box | None] = {}  # known to be boxes once a frame says how large it is
        self.tracker = tracker
        self.call = claim(tracker)
        self.memory = memory
        self.name = name
        self.position = start  # the next frame that `pull` reads
        self.ahead: Frame | None = None
        self.gone = False  # whether the newest keyframe says that the target is not there
        self.box: Box

    def run(self) -> Generator[Result]:
        """All results, ascending."""
        try:
            if self.video is not None:
                check_untouched(self.video)
            self.ahead = next(self.frames, None)
            if self.ahead is None:
                raise InputError(_missing(min(self.given), self.position, self.name))
            height, width = self.ahead.image.shape[:2]
            self.keyframes = _checked(self.given, width, height)
            self.box = next(box for _, box in sorted(self.keyframes.items()) if box is not None)
            started = False
            for key in sorted(self.keyframes):
                yield from self.gap(key, started)
                frame, box = self.pull(), self.keyframes[key]
                if frame is None:
                    raise InputError(_missing(key, self.position, self.name))
                if box is not None:
                    self.init(frame, box)
                    self.box = box
                started, self.gone = True, box is None
                yield self.result(frame, float(not self.gone), not self.gone)
            while (frame := self.pull()) is not None:
                yield self.forwards(frame)
        finally:
            if self.video is not None:
                self.video.close()

    def gap(self, key: int, started: bool) -> Iterator[Result]:
        """The frames before a keyframe: some forwards from the keyframe before it, some backwards from this one."""
        box = self.keyframes[key]
        if box is None or self.gone:
            turn = key
        elif started:
            turn = (self.position - 1 + key) // 2 + 1
        else:
            turn = self.position
        self.gone = self.gone or not started  # without a box before it there is nothing to follow forwards
        while self.position < turn and (frame := self.pull()) is not None:
            yield self.forwards(frame)
        if turn < key:
            yield from self.backwards(key)

    def backwards(self, key: int) -> Iterator[Result]:
        """The frames from here to a keyframe, tracked from it."""
        box = self.keyframes[key]
        assert box is not None
        with _Kept(self.memory, copy=self.video is None) as kept:
            failure: InputError | None = None
            try:
                while self.position < key and (frame := self.pull()) is not None:
                    kept.add(frame)
                last = self.pull()
            except InputError as error:
                last, failure = None, error
            if last is None:  # the keyframe cannot be reached; what was read on the way is not thrown away
                for i in range(len(kept)):  # not found where no box comes before them: other targets may have one
                    yield self.forwards(kept[i])
                if failure is not None:
                    raise failure
                return
            self.ahead, self.position = last, self.position - 1
            self.init(last, box)
            found = []
            for i in reversed(range(len(kept))):
                seen, where = self.update(kept[i])
                found.append((where, self.tracker.score, seen))
            for i, (where, score, seen) in enumerate(reversed(found)):
                frame = kept[i]
                yield Result(frame.index, where, score, seen, frame.image, frame.time)

    def pull(self) -> Frame | None:
        """The next frame of the video, None at its end."""
        if self.ahead is None:
            frame = next(self.frames, None)
        else:
            frame, self.ahead = self.ahead, None
        self.position += frame is not None
        return frame

    def forwards(self, frame: Frame) -> Result:
        """The next frame; not found when the target is known to be gone."""
        if self.gone:
            return self.result(frame, 0.0, False)
        found, self.box = self.update(frame)
        return self.result(frame, self.tracker.score, found)

    def init(self, frame: Frame, box: Box) -> None:
        """Start the tracker, which is still ours, on a frame."""
        check_ours(self.tracker, self.call)
        self.tracker.init(frame.image, box)

    def update(self, frame: Frame) -> tuple[bool, Box]:
        """Find the target in the next frame with it."""
        check_ours(self.tracker, self.call)
        return self.tracker.update(frame.image)

    def result(self, frame: Frame, score: float, found: bool) -> Result:
        """A result at the newest box."""
        return Result(frame.index, self.box, score, found, frame.image, frame.time)


class _Kept:
    """Frames that wait to be tracked backwards, in the order in which they were added."""

    def __init__(self, memory: int, copy: bool) -> None:
        self.left = memory
        self.copy = copy
        self.frames: list[Frame] = []
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.frames.clear()
        if self.folder is not None:
            self.folder.cleanup()

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, frame: Frame) -> None:
        """Keep one frame."""
        if self.left >= frame.image.nbytes:
            self.left -= frame.image.nbytes
            # A program may read all its frames into one array.
            self.frames.append(replace(frame, image=frame.image.copy()) if self.copy else frame)
            return
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="fartrack-")
        path = self._path(frame)
        try:
            path.write_bytes(cv2.imencode(path.suffix, frame.image, JPEG)[1].tobytes())
        except OSError:
            raise OSError(
                f"{path}: could not be written; free some space, or give boxes closer to each other"
            ) from None
        self.frames.append(replace(frame, image=NOTHING))

    def __getitem__(self, index: int) -> Frame:
        frame = self.frames[index]
        if frame.image is not NOTHING:
            return frame
        image = read_image(self._path(frame))
        if image is None:
            raise OSError(f"{self._path(frame)}: a frame kept for tracking backwards is damaged; run it again")
        return replace(frame, image=image)

    def _path(self, frame: Frame) -> Path:
        assert self.folder is not None
        return Path(self.folder.name) / f"{frame.index}.jpg"


def _numbered(images: Iterable[GivenImage], start: int) -> Iterator[Frame]:
    first = None
    for index, image in enumerate(images):
        if index >= start:
            try:
                bgr = as_bgr(image)
            except InputError as error:
                raise InputError(f"image {index}: {error}") from None
            height, width = bgr.shape[:2]
            first = first or (width, height)
            if (width, height) != first:
                raise InputError(
                    f"image {index}: is {width} x {height}, the first is {first[0]} x {first[1]}: give images of one "
                    "size"
                )
            yield Frame(index, index / USUAL_FPS, bgr)
