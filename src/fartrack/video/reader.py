"""Frames from whatever holds a video: a file, a folder of images, a webcam or a stream."""

from __future__ import annotations

import errno
import operator
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import av.container
import av.error
import av.filter
import av.video
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.files import local_path
from fartrack.shortage import ADVICE, is_shortage
from fartrack.video.pictures import IMAGE_TYPES, image_files, quiet_opencv, read_image

FOLDER_FPS = 25
"""Frames per second of a folder of images, which does not say."""
STREAM_TIMEOUT = 10.0
"""Seconds of silence after which a stream counts as broken."""
SIDE_DATA = 64
"""More than FFmpeg has kinds of side data."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame: its number counted from 0, its time in seconds after frame 0, its pixels (H x W x 3 uint8 BGR)."""

    index: int
    time: float
    image: Image


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
        return _open_container(text, _without_password(text), start, is_file=False)
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
    options = {"rtsp_transport": "tcp"} if address.lower().startswith("rtsp") else {}
    try:
        container = av.open(address, options=options, timeout=None if is_file else STREAM_TIMEOUT)
    except (av.error.FFmpegError, OSError, ValueError) as error:  # PyAV's own errors are not all OSErrors
        if is_shortage(error, address):
            raise _too_little(name, "to open it", error, is_file=is_file) from None
        if not is_file:
            raise InputError(f"{name}: the stream cannot be opened ({_reason(error)}); check the address") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{name}: no permission to read it") from None
        raise InputError(
            f"{name}: not a video, or one that is cut off; check that it plays, copy it once more, or convert it"
        ) from None
    # The picture of an album is a video stream too, for FFmpeg.
    streams = [s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic]
    if not streams or container.format.name == "tty":  # which draws the letters of any text
        container.close()
        raise InputError(f"{name}: there is no picture in it, only other data; give a video")
    stream = streams[0]
    live = not is_file and not container.duration and not stream.duration
    if not live:
        stream.thread_type = "AUTO"  # decodes ahead on other cores; a camera should rather answer at once
    fps = stream.average_rate or stream.guessed_rate or Fraction(FOLDER_FPS)
    kind = container.format.name
    # These demuxers know every packet before the first is read; AVI's own count includes frames that were dropped.
    indexed = len(stream.index_entries) if kind.startswith(("mov", "avi")) else 0
    packets = indexed if is_file and kind.startswith("mov") else 0
    aspect = stream.sample_aspect_ratio or Fraction(1)
    upright = _Upright()
    closed = threading.Event()
    frames = _container_frames(
        container, stream, name, start, fps, upright, closed, live=live, is_file=is_file, packets=packets
    )
    source = VideoSource(
        name,
        frames if live else _times_sorted(frames),
        start=start,
        fps=fps,
        time_base=stream.time_base or 1 / fps,
        count=None if live else (indexed if indexed > 1 else stream.frames) or _estimated_count(container, stream, fps),
        live=live,
        closed=closed,
    )
    source.pixel_aspect = 1 / aspect if upright.lying else aspect
    return source


def _container_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    name: str,
    start: int,
    fps: Fraction,
    upright: _Upright,
    closed: threading.Event,
    *,
    live: bool,
    is_file: bool,
    packets: int,
) -> Generator[Frame, None, int]:
    """Decode one stream; returns how many frames there were. `packets`: how many there should be, 0 if not known."""
    index = 0
    origin: int | None = None

    def framed(picture: av.VideoFrame) -> Frame | None:
        """Number the picture and, from `start` on, convert it."""
        nonlocal index, origin
        number, index = index, index + 1
        if origin is None and picture.pts is not None:
            origin = picture.pts
        if number < start:
            return None
        if picture.pts is None or origin is None or picture.time_base is None:
            seconds = float(number / fps)
        else:
            seconds = float((picture.pts - origin) * picture.time_base)
        return Frame(number, seconds, upright(picture))

    def broken(reason: str) -> InputError:
        if is_file and not index and _is_animated_webp(container.name):
            return InputError(f"{name}: an animated WebP cannot be read; convert it to MP4 or GIF")
        advice = "repair the video, or cut it there" if is_file else "check the connection"
        return InputError(f"{name}: it breaks off at frame {index} ({reason}); {advice}")

    with container, closing(upright):
        read, end = 0, Fraction(0)
        try:
            for packet in container.demux(stream):
                if closed.is_set():  # damaged packets give no frame at which it would be noticed
                    return index
                if packet.size:
                    read += 1
                    shown = packet.dts if packet.pts is None else packet.pts
                    if shown is not None and packet.time_base is not None:
                        end = max(end, (shown + (packet.duration or 0)) * packet.time_base)
                try:
                    pictures = packet.decode()
                except av.error.InvalidDataError:
                    if live:
                        continue  # packets get lost on the way; the next key frame mends it
                    for picture in _in_flight(stream):
                        if frame := framed(picture):
                            yield frame
                    raise
                for picture in pictures:
                    if frame := framed(picture):  # type: ignore[arg-type]
                        yield frame
        except av.error.FFmpegError as error:
            if is_shortage(error) or (is_file and error.errno == errno.EAGAIN):  # no thread could be started
                raise _too_little(name, f"at frame {index}", error, is_file=is_file) from None
            raise broken(_reason(error)) from None
        # A file that was cut off often just ends, without an error.
        promised = _promised_end(container, stream) if is_file else None
        if read < packets:
            raise broken(f"{read} of {packets} packets are there")
        if not packets and promised is not None and promised - end > max(3 / fps, min(Fraction(1, 2), promised / 10)):
            raise broken(f"it should last {float(promised):.1f} s and lasts {float(end):.1f} s")
    return index


def _is_animated_webp(path: str) -> bool:
    """Whether the header of a file says so."""
    head = b""
    if Path(path).is_file():  # a pipe would be waited for
        with suppress(OSError), Path(path).open("rb") as file:
            head = file.read(21)
    return len(head) == 21 and head[:4] + head[8:16] == b"RIFFWEBPVP8X" and bool(head[20] & 2)


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


def _promised_end(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """When the container says that the stream ends, in seconds, or None."""
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


def _estimated_count(container: av.container.InputContainer, stream: av.VideoStream, fps: Fraction) -> int | None:
    end = _promised_end(container, stream)
    if end is None and container.duration:
        end = Fraction(container.duration, av.time_base)
    return round(end * fps) if end else None


class _Upright:
    """Pictures of one source as BGR, turned and mirrored as the display matrix says (phones film lying down)."""

    def __init__(self) -> None:
        # PyAV's `to_ndarray(format=...)` hangs a converter with threads of its own on every picture.
        self._converter = VideoReformatter()
        self._matrices: dict[int, bytes | None] = {}
        self.lying = False  # whether the last picture was stored on its side

    def __call__(self, picture: av.VideoFrame) -> Image:
        image = cast(Image, self._converter.reformat(picture, format="bgr24").to_ndarray())
        turn = picture.rotation
        if turn not in self._matrices:
            self._matrices[turn] = _display_matrix(picture)
        matrix = self._matrices[turn]
        self.lying = matrix is not None and _lies(matrix)
        return _turned(image, matrix)

    def close(self) -> None:
        """End the converter's threads now; an error that somebody keeps holds on to this object."""
        del self._converter


def _display_matrix(picture: av.VideoFrame) -> bytes | None:
    # PyAV's side data and their picture hold each other until the garbage collector comes, so a tiny copy is asked.
    tiny = VideoReformatter().reformat(picture, 16, 16, format="gray", interpolation="POINT", threads=1)
    try:
        matrix = tiny.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV reads none where it has no name for one of them, such as EXIF
        matrix = _named_only(tiny).side_data.get("DISPLAYMATRIX")
    return None if matrix is None else bytes(cast(Any, matrix))


def _named_only(picture: av.VideoFrame) -> av.VideoFrame:
    """The picture without the side data that PyAV has no name for."""
    named = {kind.value for kind in Type}
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base or Fraction(1)
    )
    unnamed = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in range(SIDE_DATA) if kind not in named]
    graph.link_nodes(source, *unnamed, graph.add("buffersink")).configure()
    graph.vpush(picture)
    return graph.vpull()


def _lies(matrix: bytes) -> bool:
    """Whether it makes rows of columns."""
    a, b = np.frombuffer(matrix, "<i4")[:2].tolist()
    return abs(b) > abs(a)


def _turned(image: Image, matrix: bytes | None) -> Image:
    if matrix is not None:
        # x' = a x + c y, y' = b x + d y in 16.16 fixed point; turns by other than 90 degrees do not occur in practice.
        a, b, _, c, d = np.frombuffer(matrix, "<i4")[:5].tolist()
        if _lies(matrix):
            image, a, d = image.transpose(1, 0, 2), c, b
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image, np.uint8)


# Folders of images


def _open_folder(folder: Path, start: int) -> VideoSource:
    files = image_files(folder)
    if not files:
        kinds = ", ".join(sorted(t[1:] for t in IMAGE_TYPES))
        raise InputError(f"{folder}: there are no images in this folder ({kinds}); give the folder that holds them")
    fps = Fraction(FOLDER_FPS)
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
            raise _too_little(str(file), f"at frame {index}", error, is_file=True) from None
        if image is None:
            raise InputError(f"{file}: frame {index} cannot be read as an image; replace or remove the file")
        yield Frame(index, index / FOLDER_FPS, image)
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


# Helpers


SECRET = r"[\w.-]*(?:user|usr|login|pass|pw|psw|secret|token|key|auth|sig|cred)[\w.-]*"
"""Parameters of an address that are nobody's business; many cameras take the password as one."""


def _without_password(address: str) -> str:
    # By hand: addresses whose passwords hold unescaped signs (`[`, `#`, `/`) are refused or cut elsewhere by urllib.
    # Where it is open what such a sign means, rather too much is left out than a part of a password shown.
    scheme, _, rest = address.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    more = rest[len(host) :]
    *named, host = host.rsplit("@", 1)
    # Some cameras have their parameters in the path: /user=admin_password=secret_channel=1.sdp
    value = r"(?:(?![&;][\w.-]+=).)*"
    more = re.sub(rf"(?<![\w.-])({SECRET}=){value}", r"\1...", more, flags=re.IGNORECASE | re.DOTALL)
    no_port = re.match(r"[^:\[]*:(?!\d*$)", host)
    rest = host + more
    left_over = re.match(r".*@" if named or no_port else r".*:.*[^/]@", rest, re.DOTALL)
    return f"{scheme}://{rest[left_over.end() :] if left_over else rest}"


def _is_busy(error: BaseException) -> bool:
    """Whether a generator was asked for something while another thread is in it."""
    return isinstance(error, ValueError) and "already executing" in str(error)


def _too_little(name: str, where: str, error: BaseException, *, is_file: bool) -> InputError:
    """What to say where the machine is short of something; or the file, whose numbers FFmpeg takes on trust."""
    or_damaged = ", or the file is damaged" if is_file and isinstance(error, MemoryError) else ""
    return InputError(f"{name}: not enough memory (or threads) {where}{or_damaged} ({_reason(error)}); {ADVICE}")


def _reason(error: BaseException) -> str:
    """FFmpeg's words for an error, without the address, which may hold a password."""
    if isinstance(error, av.error.InvalidDataError):
        return "damaged data"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words.splitlines()[0].removeprefix("[Errno ").strip().rstrip(".")
