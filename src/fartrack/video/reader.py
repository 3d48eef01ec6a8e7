"""Frames from whatever holds a video: a file, a folder of images, a webcam or a stream."""

from __future__ import annotations

import operator
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from fartrack.errors import InputError
from fartrack.files import local_path
from fartrack.video.address import without_password
from fartrack.video.container import Container, too_little
from fartrack.video.frame import USUAL_FPS, Frame
from fartrack.video.pictures import IMAGE_TYPES, image_files, quiet_opencv, read_image


class VideoSource:
    """The frames of one video, from frame `start` to the end, once: `for frame in source`.

    Reading fails loudly: frames before the failure are delivered, then `InputError` names the frame. Use it in a
    `with` statement, or call `close()`, when not all frames are read. An exception that comes from elsewhere while a
    frame is read (a signal's handler, Ctrl-C) ends the reading: it cannot be gone on with, and `InputError` says so.
    """

    name: str
    """What messages call the source; passwords in addresses are left out."""
    width: int
    height: int
    fps: Fraction
    """Average frames per second; the times of the frames are what counts."""
    time_base: Fraction
    """Frame times are multiples of this many seconds; the writer keeps them by using the same one."""
    count: int | None
    """Frames from frame 0 to the end as far as the container knows, else None."""
    live: bool
    """A camera: it has no end, and a damaged packet is passed over."""
    pixel_aspect: Fraction
    """Width of a pixel divided by its height, as shown."""
    images: tuple[str, ...]
    """The names of a folder's images from frame 0 on; empty where frames have no names."""
    first: Frame
    """Frame `start`. It is the first one of the iteration too."""

    def __init__(
        self,
        name: str,
        frames: Generator[Frame, None, int],
        *,
        start: int = 0,
        fps: Fraction,
        time_base: Fraction,
        count: int | None = None,
        live: bool = False,
        pixel_aspect: Fraction = Fraction(1),
        images: tuple[str, ...] = (),
        closed: threading.Event | None = None,
    ) -> None:
        self.name, self.fps, self.time_base, self.count, self.live = name, fps, time_base, count, live
        self.pixel_aspect, self.images = pixel_aspect, images
        self._frames = frames
        self._closed = closed or threading.Event()
        try:
            self.first = next(frames)
        except StopIteration as end:
            seen = end.value or 0
            if seen == 0:
                raise InputError(f"{name}: it holds no frames; give a video that does") from None
            raise InputError(
                f"{name}: start frame {start} is beyond its end, the last frame is {seen - 1}; give a smaller start"
            ) from None
        self.height, self.width = self.first.image.shape[:2]
        self._first_pending = True
        self._next = self.first.index  # the frame to be given out next
        self._interrupted = False

    @property
    def untouched(self) -> bool:
        """Whether it is open and no frame was taken from it yet, so that `first` is the next one."""
        return self._first_pending

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._closed.is_set():
            raise StopIteration
        if self._interrupted:
            again = "" if self.live else f" with start={self._next}"
            raise InputError(f"{self.name}: reading was interrupted at frame {self._next}; open it anew{again}")
        try:
            frame = self._read()
        except (StopIteration, InputError):
            raise
        except BaseException as error:  # it has ended the generator, which would seem to be the video's end
            self._interrupted = not _is_busy(error)
            raise
        self._next = frame.index + 1
        return frame

    def _read(self) -> Frame:
        if self._first_pending:
            self._first_pending = False
            return self.first
        try:
            frame = next(self._frames)
        except (InputError, ValueError) as error:
            # ValueError: the other thread is just closing the frames.
            if self._closed.is_set() and (isinstance(error, InputError) or _is_busy(error)):
                raise StopIteration from None
            raise
        if self._closed.is_set():  # meanwhile, by another thread, which left the rest to this one
            self._end()
            raise StopIteration
        height, width = frame.image.shape[:2]
        if (width, height) != (self.width, self.height):
            self.close()
            raise InputError(
                f"{self.name}: frame {frame.index} is {width} x {height}, the frames before it are "
                f"{self.width} x {self.height}; cut the video there, or bring all frames to one size"
            )
        return frame

    def close(self) -> None:
        """Let go of the file or camera; closing twice does no harm.

        While another thread waits for a frame its loop ends, without an error, when that frame arrives or the stream
        has been silent for its ten seconds; only then the camera is free.
        """
        self._first_pending = False
        self._closed.set()
        self._end()

    def _end(self) -> None:
        try:
            self._frames.close()
        except ValueError as error:
            if not _is_busy(error):
                raise

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_busy(error: BaseException) -> bool:
    """Whether a generator was asked for something while another thread is in it."""
    return isinstance(error, ValueError) and "already executing" in str(error)


def frames_from_source(source: str | int | Path, start: int = 0) -> VideoSource:
    """Open a video and read up to frame `start`.

    `source` is a video file, a folder of images (sorted by the numbers in their names), a webcam number or the
    address of a stream (rtsp://, http:// ...). Frames come upright: rotation that the file asks for is applied.

    Raises `FileNotFoundError` when there is no such file, and `InputError` when it is not a video, is empty,
    breaks off before frame `start` or ends there, or `start` is no number of a frame.
    """
    if not isinstance(source, str | os.PathLike):
        source = _webcam_number(source)
    start = check_start(start)
    if start < 0:
        raise InputError(f"start frame {start} is negative; frames count from 0")
    text = str(source).strip()
    if isinstance(source, int) or (isinstance(source, str) and text.isdecimal()):
        return _open_webcam(int(text), start)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) and not text.lower().startswith("file://"):
        return _open_container(text, without_password(text), start, is_file=False)
    if not text:
        raise InputError("the source has no name; give a video, a folder of images, a webcam number or an address")
    path = local_path(source)
    try:
        if path.is_dir():
            return _open_folder(path, start)
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no such file or folder; give a video, a folder of images, a webcam number or an address"
            )
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty; give a video")
    except PermissionError:
        raise InputError(f"{path}: no permission to read it") from None
    # FFmpeg takes what stands before a colon for a protocol (`12:30:05.mp4`), unless a folder stands before that.
    return _open_container(str(path.absolute()), str(path), start, is_file=True)


def _webcam_number(source: object) -> int:
    """A whole number of any kind, also NumPy's; True would be webcam 1."""
    try:
        if not isinstance(source, bool):
            return operator.index(source)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise InputError(
        f"the source is a {type(source).__name__}; give a video, a folder of images, a webcam number or an address "
        "(frames of your own go to the `init` and `update` of a Tracker)"
    )


def check_start(start: object) -> int:
    """The number of a frame, or a clear complaint: 1.5 would be rounded, and the box belong to another frame.

    Raises:
        InputError: it is no whole number.
    """
    try:
        return operator.index(start)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"start is {start!r}: give the number of a frame, from 0") from None


# Video files and streams


def _open_container(address: str, name: str, start: int, *, is_file: bool) -> VideoSource:
    container = Container(address, name, is_file=is_file)
    source = VideoSource(
        name,
        container.frames(start),
        start=start,
        fps=container.fps,
        time_base=container.time_base,
        count=container.count,
        live=container.live,
        closed=container.closed,
    )
    source.pixel_aspect = container.pixel_aspect
    return source


# Folders of images


def _open_folder(folder: Path, start: int) -> VideoSource:
    files = image_files(folder)
    if not files:
        kinds = ", ".join(sorted(t[1:] for t in IMAGE_TYPES))
        raise InputError(f"{folder}: there are no images in this folder ({kinds}); give the folder that holds them")
    fps = Fraction(USUAL_FPS)
    frames = _folder_frames(files, start)
    names = tuple(file.name for file in files)
    return VideoSource(str(folder), frames, start=start, fps=fps, time_base=1 / fps, count=len(files), images=names)


def _folder_frames(files: list[Path], start: int) -> Generator[Frame, None, int]:
    for index, file in enumerate(files[start:], start):
        try:
            image = read_image(file)
        except OSError as error:
            raise InputError(f"{file}: frame {index} cannot be opened ({error.strerror})") from None
        except MemoryError as error:
            raise too_little(str(file), f"at frame {index}", error, is_file=True) from None
        if image is None:
            raise InputError(f"{file}: frame {index} cannot be read as an image; replace or remove the file")
        yield Frame(index, index / USUAL_FPS, image)
    return len(files)


# Webcams


def _open_webcam(number: int, start: int) -> VideoSource:
    if number < 0:
        raise InputError(f"webcam {number}: webcams count from 0")
    with quiet_opencv():
        camera = cv2.VideoCapture(number)
    name = f"webcam {number}"
    if not camera.isOpened():
        raise InputError(f"{name}: it cannot be opened; check that it is plugged in and no other program uses it")
    fps = camera.get(cv2.CAP_PROP_FPS)
    rate = Fraction(fps).limit_denominator(1001) if 1 <= fps <= 1000 else Fraction(30)  # some drivers say 0
    frames = _webcam_frames(camera.read, camera.release, name, start)
    return VideoSource(name, frames, start=start, fps=rate, time_base=Fraction(1, 90_000), live=True)


def _webcam_frames(
    read: Callable[[], tuple[bool, object]], release: Callable[[], None], name: str, start: int
) -> Generator[Frame, None, int]:
    """Frames with the times at which they arrived."""
    index, origin = 0, 0.0
    try:
        while True:
            good, image = read()
            now = time.monotonic()
            if not good or not isinstance(image, np.ndarray):
                raise InputError(f"{name}: it breaks off at frame {index}; check that it is still plugged in")
            origin = origin or now
            if index >= start:
                yield Frame(index, now - origin, image)
            index += 1
    finally:
        release()
