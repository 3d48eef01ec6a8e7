"""Write frames as a video that plays anywhere: H.264, yuv420p, MP4."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
import cv2

from fartrack.crops import GivenImage, as_bgr
from fartrack.errors import InputError

QUALITY = "23"
"""x264's constant rate factor: 18 looks like the source, 28 is small."""
LARGEST_SIDE = 16_384
"""Pixels; x264 takes no more."""


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse frames of which no video can be made.

    Raises:
        InputError: with the size and what is possible.
    """
    if max(width, height) > LARGEST_SIDE:
        raise InputError(
            f"{path}: H.264 has no frames of {width} x {height}, only up to {LARGEST_SIDE} a side; "
            "shrink them first, or leave the video out (--no-video)"
        )


class VideoWriter:
    """An MP4 of a fixed frame size, each frame at its own time.

    It is written under a temporary name in the same folder and renamed by `close()`. As a context manager it closes
    on errors and Ctrl-C as well, so that the frames so far are a playable file. Without a single frame there is no
    file.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        *,
        fps: Fraction | float = Fraction(25),
        time_base: Fraction = Fraction(1, 90_000),
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """Frames are `width` x `height` pixels; their times are kept to the nearest multiple of `time_base` seconds.

        `fps` is the average rate: it steers the encoder and says how long the last frame stays. Raises `InputError`
        when the file cannot be created, the frames are too large for a video, or `fps` is no rate.
        """
        check_size(Path(path), width, height)
        try:
            fps = fps if isinstance(fps, Fraction) else Fraction(float(fps))
        except (TypeError, ValueError, OverflowError):
            fps = Fraction(0)
        if fps <= 0:
            raise InputError(f"{path}: fps is no number above 0: give the frames per second, such as 25 or 29.97")
        self.path = Path(path)
        self.width, self.height = width, height
        self._temporary = self.path.with_name(f".{self.path.name}.part")
        try:
            self._temporary.touch()  # FFmpeg would notice with the first frame only
            # The index goes to the front, so that a browser can start before it has the whole file.
            # Whole, because FFmpeg takes what stands before a colon for a protocol.
            self._container = av.open(
                str(self._temporary.absolute()), "w", format="mp4", container_options={"movflags": "+faststart"}
            )
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from None
        stream = self._container.add_stream("libx264", rate=min(fps, Fraction(240)).limit_denominator(65_535))
        # Chroma has half the resolution, so sides are even: an odd one gets its last line twice.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "superfast", "crf": QUALITY}
        stream.codec_context.time_base = time_base
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._stream = stream
        self._time_base = time_base
        self._tick = max(1, round(1 / fps / time_base))
        self._origin: float | None = None
        self._last = -1
        self._count = 0
        self._open = True

    def write(self, image: GivenImage, seconds: float) -> None:
        """Append a frame (height x width x 3 uint8 BGR; gray and BGRA work too) shown at `seconds`.

        The first frame's time becomes 0. A time that does not lie after the frame before is moved to just after it.
        """
        picture = as_bgr(image)
        if picture.shape[:2] != (self.height, self.width):
            there, expected = f"{picture.shape[1]} x {picture.shape[0]}", f"{self.width} x {self.height}"
            raise InputError(f"{self.path}: a frame is {there} but the video was begun with {expected}: give that size")
        if self._origin is None:
            self._origin = seconds
        if self.width % 2 or self.height % 2:
            picture = cv2.copyMakeBorder(  # type: ignore[assignment]
                picture, 0, self.height % 2, 0, self.width % 2, cv2.BORDER_REPLICATE
            )
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts = self._last = max(round((seconds - self._origin) / self._time_base), self._last + 1)
        frame.time_base = self._time_base
        frame.duration = self._tick
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self.path}: writing stopped ({error.strerror}); is the disk full?") from None
        self._count += 1

    def close(self) -> None:
        """Finish the file and give it its name; closing twice does no harm."""
        if not self._open:
            return
        self._open = False
        if not self._count:
            with contextlib.suppress(av.error.FFmpegError):  # it misses the header that nobody needs
                self._container.close()
            self._temporary.unlink(missing_ok=True)
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            with contextlib.suppress(OSError):  # it does not play, and others may need the room
                self._temporary.unlink(missing_ok=True)
            raise InputError(f"{self.path}: cannot be finished ({error.strerror}); is the disk full?") from None
        try:
            self._temporary.replace(self.path)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be replaced ({error.strerror}); the new video is whole beside it, as "
                f"{self._temporary.name}: rename it"
            ) from None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
