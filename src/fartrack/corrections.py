"""From a few boxes to a box in every frame: track from each of them, both ways, to the middle between two.

A person who corrects a labelled video gives the frames that were wrong. Between two given boxes the first half is
tracked forwards from the earlier one and the second half backwards from the later one; before the first box the
video is tracked backwards to its start, after the last one forwards to its end. A frame given as "not there" (None)
says that the target is gone from that frame until the next box.

The video is read once, forwards. Only the frames that wait to be tracked backwards are kept: the newest half of one
gap, in memory as far as `memory` bytes reach and as JPEG files in a temporary folder beyond that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import cv2
import numpy as np

from fartrack.errors import InputError
from fartrack.formats.tracks import Track

if TYPE_CHECKING:
    from fartrack import Result

XYWH: TypeAlias = tuple[float, float, float, float]
Keyframes: TypeAlias = Mapping[int, XYWH | None]
MEMORY = 512 << 20


class TrackerLike(Protocol):
    """The part of `fartrack.Tracker` that is used here."""

    def init(self, frame: np.ndarray, box: XYWH, /) -> None:
        """Start on a target."""

    def update(self, frame: np.ndarray, /) -> tuple[bool, XYWH]:
        """Follow it into the next frame."""

    @property
    def score(self) -> float:
        """How sure the last `update` was."""


def keyframes_of(track: Track, before: Track | None = None, tolerance: float = 1.0) -> dict[int, XYWH | None]:
    """What a person said in a file of boxes: {frame: box, or None where the target is not there}.

    Boxes that the labelling tool filled in are left out. With `before`, the same target as it was before it was
    corrected, only its first box and what was changed by more than `tolerance` pixels count.
    """
    given = {box.frame: box for box in track.boxes if box.keyframe}
    if before is not None:
        old = {box.frame: box for box in before.boxes}
        first = min((box.frame for box in before.boxes if box.found), default=-1)
        given = {
            frame: box
            for frame, box in given.items()
            if frame == first
            or frame not in old
            or box.found != old[frame].found
            or (box.found and max(abs(a - b) for a, b in zip(box.xywh, old[frame].xywh, strict=True)) > tolerance)
        }
    return {frame: (given[frame].xywh if given[frame].found else None) for frame in sorted(given)}


def track_between(
    frames: Iterable[np.ndarray],
    keyframes: Keyframes,
    tracker_factory: Callable[[], TrackerLike],
    *,
    start: int = 0,
    memory: int = MEMORY,
) -> Iterator[Result]:
    """Track between given boxes and yield one result per frame, in ascending order.

    Args:
        frames: the video from its first frame on. A sequence (`frames[i]`, `len`) is read in place and nothing of it
            is kept.
        keyframes: {frame: (x, y, w, h)}, or None for a frame without the target.
        tracker_factory: makes the tracker; called once.
        start: the first frame wanted.
        memory: bytes of frames held in memory before the rest goes to a temporary folder.

    Raises:
        InputError: no box among the keyframes, or a keyframe that the video does not have.
    """
    keys = sorted(keyframes)
    if all(keyframes[key] is None for key in keys):
        raise InputError("corrections: no frame with a box is given; give at least one")
    if keys[0] < start:
        raise InputError(f"corrections: frame {keys[0]} has a box, but tracking starts at frame {start}; start earlier")
    if isinstance(frames, Sequence) and keys[-1] >= len(frames):
        raise InputError(_missing(keys[-1], len(frames)))
    return _Between(frames, dict(keyframes), tracker_factory(), start, memory).run()


def _missing(key: int, count: int) -> str:
    return (
        f"corrections: frame {key} has a box, but the video has {count} frames (0 to {count - 1}); "
        "use the video that was labelled, or delete that box"
    )


class _Between:
    """One run over one video."""

    def __init__(
        self, frames: Iterable[np.ndarray], keyframes: Keyframes, tracker: TrackerLike, start: int, memory: int
    ) -> None:
        self.stored: Sequence[np.ndarray] | None = frames if isinstance(frames, Sequence) else None
        self.images = iter(frames)
        self.keyframes = keyframes
        self.tracker = tracker
        self.start = start
        self.memory = memory
        self.ahead: np.ndarray | None = None
        self.position = 0  # the next frame that `pull` reads
        self.last_box: XYWH = next(box for _, box in sorted(keyframes.items()) if box is not None)

    def run(self) -> Iterator[Result]:
        """All results, ascending."""
        while self.position < self.start:
            if self.pull() is None:
                raise InputError(_missing(min(self.keyframes), self.position))
        tracking = False
        for key in sorted(self.keyframes):
            yield from self.gap(key, tracking)
            image = self.pull()
            if image is None:
                raise InputError(_missing(key, self.position))
            box = self.keyframes[key]
            tracking = box is not None
            began = time.perf_counter()
            if box is not None:
                self.tracker.init(image, box)
                self.last_box = box
            yield self.result(key, image, tracking, float(tracking), began)
        while (image := self.pull()) is not None:
            yield self.step(self.position - 1, image, tracking)

    def gap(self, key: int, tracking: bool) -> Iterator[Result]:
        """The frames before a keyframe: some forwards from the one before it, some backwards from it."""
        box, first = self.keyframes[key], self.position
        backwards = first
        if box is None or (first > min(self.keyframes) and not tracking):
            backwards = key
        elif tracking:
            backwards = (first - 1 + key) // 2 + 1
        for frame in range(first, backwards):
            image = self.pull()
            if image is None:
                return
            yield self.step(frame, image, tracking)
        if box is None or backwards == key:
            return
        with _Kept(self.stored, self.memory) as kept:
            for frame in range(backwards, key):
                if (image := self.pull()) is not None:
                    kept.add(frame, image)
            last = self.pull()
            if last is None:  # the keyframe does not exist; what was read on the way is not thrown away
                for frame in range(backwards, self.position):
                    yield self.step(frame, kept.get(frame), tracking)
                return
            self.unread(last)
            self.tracker.init(last, box)
            tracked: list[tuple[XYWH, float, bool, float]] = []
            for frame in reversed(range(backwards, key)):
                began = time.perf_counter()
                found, where = self.tracker.update(kept.get(frame))
                tracked.append((where, self.tracker.score, found, time.perf_counter() - began))
            result = _result_class()
            for frame, (where, score, found, seconds) in zip(range(backwards, key), reversed(tracked), strict=True):
                yield result(frame, where, score, found, kept.get(frame), seconds)

    def pull(self) -> np.ndarray | None:
        """The next frame of the video, None at its end."""
        image, self.ahead = (next(self.images, None), None) if self.ahead is None else (self.ahead, None)
        self.position += image is not None
        return image

    def unread(self, image: np.ndarray) -> None:
        """Give the newest frame back, to be pulled again."""
        self.ahead = image
        self.position -= 1

    def step(self, frame: int, image: np.ndarray, tracking: bool) -> Result:
        """One frame forwards; not found when the target is known to be gone."""
        began = time.perf_counter()
        if not tracking:
            return self.result(frame, image, False, 0.0, began)
        found, self.last_box = self.tracker.update(image)
        return self.result(frame, image, found, self.tracker.score, began)

    def result(self, frame: int, image: np.ndarray, found: bool, score: float, began: float) -> Result:
        """The result of a frame at the last known box."""
        return _result_class()(frame, self.last_box, score, found, image, time.perf_counter() - began)


class _Kept:
    """Frames that wait to be tracked backwards."""

    def __init__(self, stored: Sequence[np.ndarray] | None, memory: int) -> None:
        self.stored = stored
        self.left = memory
        self.images: dict[int, np.ndarray] = {}
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.images.clear()
        if self.folder is not None:
            self.folder.cleanup()

    def add(self, frame: int, image: np.ndarray) -> None:
        """Keep one frame."""
        if self.stored is not None:
            return
        if self.left >= image.nbytes:
            self.left -= image.nbytes
            self.images[frame] = image
            return
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="fartrack-")
        path = self._path(frame)
        if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"{path}: could not be written; free some space, or give boxes closer to each other")

    def get(self, frame: int) -> np.ndarray:
        """One of the frames kept."""
        if self.stored is not None:
            return self.stored[frame]
        if frame in self.images:
            return self.images[frame]
        image = cv2.imread(str(self._path(frame)))
        if image is None:
            raise OSError(f"{self._path(frame)}: a frame kept for tracking backwards is gone; run the command again")
        return image

    def _path(self, frame: int) -> Path:
        assert self.folder is not None
        return Path(self.folder.name) / f"{frame}.jpg"


def _result_class() -> type[Result]:
    from fartrack import Result

    return Result
