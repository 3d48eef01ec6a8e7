"""Frames of a video file or a stream, through FFmpeg."""

from __future__ import annotations

import errno
import re
import threading
from collections import deque
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path

import av
import av.container
import av.error
import av.video

from fartrack.errors import InputError
from fartrack.shortage import ADVICE, is_shortage
from fartrack.video.frame import USUAL_FPS, Frame
from fartrack.video.upright import Upright

STREAM_TIMEOUT = 10.0
"""Seconds of silence after which a stream counts as broken."""


class Container:
    """A video file or a stream, opened: what it says of itself, and its frames, once."""

    def __init__(self, address: str, name: str, *, is_file: bool) -> None:
        """Open it.

        Args:
            address: for FFmpeg.
            name: what messages call it.
            is_file: and not a stream.

        Raises:
            InputError: it cannot be opened, or there is no picture in it.
        """
        self.name, self.is_file = name, is_file
        self._container = container = _open(address, name, is_file=is_file)
        # The picture of an album is a video stream too, for FFmpeg.
        streams = [s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic]
        if not streams or container.format.name == "tty":  # which draws the letters of any text
            container.close()
            raise InputError(f"{name}: there is no picture in it, only other data; give a video")
        self._stream = stream = streams[0]
        self.live = not is_file and not container.duration and not stream.duration
        if not self.live:
            stream.thread_type = "AUTO"  # decodes ahead on other cores; a camera should rather answer at once
        self.fps = stream.average_rate or stream.guessed_rate or Fraction(USUAL_FPS)
        self.time_base = stream.time_base or 1 / self.fps
        self._aspect = stream.sample_aspect_ratio or Fraction(1)
        kind = container.format.name
        # These demuxers know every packet before the first is read; AVI's own count includes frames that were dropped.
        indexed = len(stream.index_entries) if kind.startswith(("mov", "avi")) else 0
        self.count = None if self.live else (indexed if indexed > 1 else stream.frames) or self._estimated_count()
        self.closed = threading.Event()
        """Set it to have the reading end with the next packet."""
        self._packets = indexed if is_file and kind.startswith("mov") else 0  # that there should be, 0 if not known
        self._read, self._end = 0, Fraction(0)  # packets so far, and when what they show is over, in seconds
        self._upright = Upright()
        self._index = 0  # of the next picture
        self._origin: int | None = None

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel divided by its height, as shown, once a frame was read."""
        return 1 / self._aspect if self._upright.lying else self._aspect

    def frames(self, start: int) -> Generator[Frame, None, int]:
        """Frames from frame `start` on; returns how many there were from frame 0 on, and closes the container.

        Raises:
            InputError: it breaks off.
        """
        decoded = self._decoded(start)
        return decoded if self.live else _times_sorted(decoded)

    def _decoded(self, start: int) -> Generator[Frame, None, int]:
        with self._container, closing(self._upright):
            try:
                for packet in self._container.demux(self._stream):
                    if self.closed.is_set():  # damaged packets give no frame at which it would be noticed
                        return self._index
                    self._note(packet)
                    try:
                        pictures = packet.decode()
                    except av.error.InvalidDataError:
                        if self.live:
                            continue  # packets get lost on the way; the next key frame mends it
                        for picture in _in_flight(self._stream):
                            if frame := self._framed(picture, start):
                                yield frame
                        raise
                    for picture in pictures:
                        if frame := self._framed(picture, start):  # type: ignore[arg-type]
                            yield frame
            except av.error.FFmpegError as error:
                if is_shortage(error) or (self.is_file and error.errno == errno.EAGAIN):  # no thread could be started
                    raise too_little(self.name, f"at frame {self._index}", error, is_file=self.is_file) from None
                raise self._broken(_reason(error)) from None
            self._check_end()
        return self._index

    def _note(self, packet: av.Packet) -> None:
        """Count a packet, and until when it is shown."""
        if not packet.size:
            return
        self._read += 1
        shown = packet.dts if packet.pts is None else packet.pts
        if shown is not None and packet.time_base is not None:
            self._end = max(self._end, (shown + (packet.duration or 0)) * packet.time_base)

    def _framed(self, picture: av.VideoFrame, start: int) -> Frame | None:
        """Number the picture and, from `start` on, convert it."""
        number, self._index = self._index, self._index + 1
        if self._origin is None and picture.pts is not None:
            self._origin = picture.pts
        if number < start:
            return None
        if picture.pts is None or self._origin is None or picture.time_base is None:
            seconds = float(number / self.fps)
        else:
            seconds = float((picture.pts - self._origin) * picture.time_base)
        return Frame(number, seconds, self._upright(picture))

    def _check_end(self) -> None:
        """Complain about a file that was cut off: it often just ends, without an error."""
        if self._read < self._packets:
            raise self._broken(f"{self._read} of {self._packets} packets are there")
        promised, end = self._promised_end() if self.is_file else None, self._end
        if self._packets or promised is None:
            return
        if promised - end > max(3 / self.fps, min(Fraction(1, 2), promised / 10)):
            raise self._broken(f"it should last {float(promised):.1f} s and lasts {float(end):.1f} s")

    def _broken(self, reason: str) -> InputError:
        if self.is_file and not self._index and _is_animated_webp(self._container.name):
            return InputError(f"{self.name}: an animated WebP cannot be read; convert it to MP4 or GIF")
        advice = "repair the video, or cut it there" if self.is_file else "check the connection"
        return InputError(f"{self.name}: it breaks off at frame {self._index} ({reason}); {advice}")

    def _promised_end(self) -> Fraction | None:
        """When the container says that the stream ends, in seconds, or None."""
        container, stream = self._container, self._stream
        if container.format.name == "avi" and stream.frames and stream.time_base:
            return stream.frames * stream.time_base  # its duration is guessed from the size of the file
        if stream.duration and stream.time_base:
            return ((stream.start_time or 0) + stream.duration) * stream.time_base
        tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
        if tag:
            return 3600 * int(tag[1]) + 60 * int(tag[2]) + Fraction(tag[3])
        if container.duration and len(container.streams) == 1:
            return Fraction((container.start_time or 0) + container.duration, av.time_base)
        return None

    def _estimated_count(self) -> int | None:
        end = self._promised_end()
        if end is None and self._container.duration:
            end = Fraction(self._container.duration, av.time_base)
        return round(end * self.fps) if end else None


def _open(address: str, name: str, *, is_file: bool) -> av.container.InputContainer:
    options = {"rtsp_transport": "tcp"} if address.lower().startswith("rtsp") else {}
    try:
        return av.open(address, options=options, timeout=None if is_file else STREAM_TIMEOUT)
    except (av.error.FFmpegError, OSError, ValueError) as error:  # PyAV's own errors are not all OSErrors
        if is_shortage(error, address):
            raise too_little(name, "to open it", error, is_file=is_file) from None
        if not is_file:
            raise InputError(f"{name}: the stream cannot be opened ({_reason(error)}); check the address") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{name}: no permission to read it") from None
        raise InputError(
            f"{name}: not a video, or one that is cut off; check that it plays, copy it once more, or convert it"
        ) from None


def _times_sorted(frames: Generator[Frame, None, int], window: int = 4) -> Generator[Frame, None, int]:
    """The same frames in the same order with their times put in order.

    Some recorders and old AVI files swap the times of neighbouring frames, while the decoder's order is right. The
    last `window` frames are held back for it, and delivered when the reading fails.
    """
    held: deque[Frame] = deque()
    times: list[float] = []
    failure = ""
    count = 0
    with closing(frames):
        while True:
            try:
                frame = next(frames)
            except StopIteration as end:
                count = end.value
                break
            except InputError as error:
                failure = str(error)  # the error itself holds on to the decoder and its threads
                break
            held.append(frame)
            heappush(times, frame.time)
            if len(held) > window:
                yield replace(held.popleft(), time=heappop(times))
        while held:
            yield replace(held.popleft(), time=heappop(times))
    if failure:
        raise InputError(failure)
    return count


def _in_flight(stream: av.VideoStream) -> list[av.VideoFrame]:
    """Pictures that the decoder's threads still hold when it meets a broken packet."""
    try:
        return stream.codec_context.decode(None)
    except av.error.FFmpegError:
        return []


def _is_animated_webp(path: str) -> bool:
    """Whether the header of a file says so."""
    head = b""
    if Path(path).is_file():  # a pipe would be waited for
        with suppress(OSError), Path(path).open("rb") as file:
            head = file.read(21)
    return len(head) == 21 and head[:4] + head[8:16] == b"RIFFWEBPVP8X" and bool(head[20] & 2)


def too_little(name: str, where: str, error: BaseException, *, is_file: bool) -> InputError:
    """What to say where the machine is short of something; or the file, whose numbers FFmpeg takes on trust."""
    or_damaged = ", or the file is damaged" if is_file and isinstance(error, MemoryError) else ""
    return InputError(f"{name}: not enough memory (or threads) {where}{or_damaged} ({_reason(error)}); {ADVICE}")


def _reason(error: BaseException) -> str:
    """FFmpeg's words for an error, without the address, which may hold a password."""
    if isinstance(error, av.error.InvalidDataError):
        return "damaged data"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words.splitlines()[0].removeprefix("[Errno ").strip().rstrip(".")
