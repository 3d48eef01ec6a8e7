"""Write frames as a video that plays anywhere: H.264, yuv420p, MP4."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from numbers import Rational, Real
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import av.error
import cv2

from fartrack.crops import GivenImage, as_bgr
from fartrack.errors import InputError
from fartrack.files import beside
from fartrack.shortage import ADVICE, is_full, is_shortage

ENCODER: Final = "libx264"
QUALITY = "23"
"""x264's constant rate factor: 18 looks like the source, 28 is small."""
LARGEST_SIDE = 16_384
"""Pixels; x264 takes no more."""
LONGEST = (1 << 31) // 6
"""Units of time from a frame to the next. MP4 has 31 bits for the time from decoding to showing, which is up to five
frames with x264's B-frames."""
FINE = 10_000
"""FFmpeg doubles the units of time in a second until there are as many."""


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse frames of which no video can be made.

    Raises:
        InputError: with the size and what is possible.
    """
    if not all(isinstance(side, Real) and side >= 1 and side % 1 == 0 for side in (width, height)):
        raise InputError(f"{path}: a video has no frames of {width} x {height}: give both in whole pixels, 1 or more")
    if max(width, height) > LARGEST_SIDE:
        raise InputError(
            f"{path}: H.264 has no frames of {width} x {height}, only up to {LARGEST_SIDE} a side; "
            "shrink them first, or leave the video out (--no-video)"
        )


def check_encoder(path: Path) -> None:
    """Refuse to begin a video where FFmpeg was built without x264, as some distributions do for its licence.

    Raises:
        InputError: with what to do.
    """
    try:
        av.Codec(ENCODER, "w")
    except ValueError:
        raise InputError(
            f"{path}: this FFmpeg has no H.264 encoder ({ENCODER}): pip install --force-reinstall av, or leave the "
            "video out (--no-video)"
        ) from None


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
        when the file cannot be created, FFmpeg has no encoder for it, no video has frames of that size, `fps` is no
        rate, or `time_base` or `pixel_aspect` no fraction.
        """
        check_size(Path(path), width, height)
        check_encoder(Path(path))
        try:
            fps = fps if isinstance(fps, Fraction) else Fraction(float(fps))
        except (TypeError, ValueError, OverflowError):
            fps = Fraction(0)
        if fps <= 0:
            raise InputError(f"{path}: fps is no number above 0: give the frames per second, such as 25 or 29.97")
        for name, value, example in (("time_base", time_base, "1, 1000"), ("pixel_aspect", pixel_aspect, "4, 3")):
            if not (isinstance(value, Rational) and value > 0 and max(value.numerator, value.denominator) < 1 << 31):
                raise InputError(f"{path}: {name} is {value!r}: give a fraction above 0, such as Fraction({example})")
        self.path = Path(path)
        self.width, self.height = width, height = int(width), int(height)
        self._temporary = beside(self.path, ".part")
        try:
            self._temporary.touch()  # FFmpeg would notice with the first frame only
            # The index goes to the front, so that a browser can start before it has the whole file.
            # Whole, because FFmpeg takes what stands before a colon for a protocol.
            self._container = av.open(
                str(self._temporary.absolute()), "w", format="mp4", container_options={"movflags": "+faststart"}
            )
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from None
        stream = self._container.add_stream(ENCODER, rate=min(fps, Fraction(240)).limit_denominator(65_535))
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
        units = time_base.denominator
        while units < FINE:
            units *= 2
        self._longest = max(1, int(LONGEST / (units * time_base)))
        self._last = -1
        self._count = 0
        self._open = True

    @property
    def count(self) -> int:
        """How many frames were written."""
        return self._count

    def write(self, image: GivenImage, seconds: float) -> None:
        """Append a frame (height x width x 3 uint8 BGR; gray and BGRA work too) shown at `seconds`.

        The first frame's time becomes 0. A time that does not lie after the frame before is moved to just after it. A
        pause that is too long for an MP4 is shortened.
        """
        if not self._open:
            raise InputError(f"{self.path}: the video is closed: write before that, or begin another one")
        if not math.isfinite(seconds):
            raise InputError(f"{self.path}: a frame is shown at {seconds} s: give the seconds since the first one")
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
        tick, latest = round((seconds - self._origin) / self._time_base), self._last + self._longest
        if tick > latest:
            self._origin += float((tick - latest) * self._time_base)  # so that what follows keeps its distance
            tick = latest
        frame.pts = self._last = max(tick, self._last + 1)
        frame.time_base = self._time_base
        frame.duration = self._tick
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self.path}: writing stopped ({error.strerror}); {_advice(error)}") from None
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
            raise InputError(f"{self.path}: cannot be finished ({error.strerror}); {_advice(error)}") from None
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


def _advice(error: av.error.FFmpegError | OSError) -> str:
    """What to do when FFmpeg cannot write on."""
    if is_shortage(error):
        return f"not enough memory (or threads): {ADVICE}, or leave the video out"
    return "is the disk full?" if is_full(error) else "try another folder, or leave the video out"
