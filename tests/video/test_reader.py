"""Frames from files, folders, streams and cameras; and one line for everything that is none of these."""

import contextlib
import errno
import functools
import gc
import http.server
import os
import struct
import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.video import reader
from fartrack.video.pictures import natural
from fartrack.video.reader import frames_from_source
from videos import clip, cut_off, damage, picture, quadrants, write_images, write_video


def read_all(source, start=0):
    with frames_from_source(source, start) as frames:
        return list(frames)


def read_until_error(source):
    """The frames that came, and the message of the error that followed."""
    seen = []
    with pytest.raises(InputError) as caught, frames_from_source(source) as frames:
        seen.extend(frames)
    message = str(caught.value)
    assert "\n" not in message
    return seen, message


def test_file(tmp_path):
    path = clip(tmp_path / "a.mp4", 20)
    with frames_from_source(path) as source:
        assert (source.width, source.height, source.count, source.live) == (96, 64, 20, False)
        assert source.fps == 25
        assert source.name == str(path)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.time for frame in frames] == [i / 25 for i in range(20)]
    assert frames[3].image.shape == (64, 96, 3)
    assert frames[3].image.dtype == np.uint8
    assert np.abs(frames[3].image.astype(int) - picture(3)).mean() < 10  # H.264 blurs the noise


def test_start(tmp_path):
    path = clip(tmp_path / "a.mp4", 20)
    frames = read_all(path, 15)
    assert [frame.index for frame in frames] == [15, 16, 17, 18, 19]
    assert frames[0].time == 15 / 25


def test_start_beyond_the_end(tmp_path):
    path = clip(tmp_path / "a.mp4", 20)
    with pytest.raises(InputError, match="start frame 20 is beyond its end, the last frame is 19"):
        frames_from_source(path, 20)
    with pytest.raises(InputError, match="negative"):
        frames_from_source(path, -1)


@pytest.mark.parametrize("start", [1.5, "1", None])
def test_a_start_that_is_no_frame(tmp_path, start):
    """1.5 was rounded without a word."""
    with pytest.raises(InputError, match=r"start is .*: give the number of a frame"):
        frames_from_source(clip(tmp_path / "a.mp4", 4), start)


def test_untouched(tmp_path):
    write_images(tmp_path / "frames", map(picture, range(3)))
    with frames_from_source(tmp_path / "frames", 1) as source:
        assert source.first.index == 1 and source.untouched
        next(source)
        assert not source.untouched
    source = frames_from_source(tmp_path / "frames")
    source.close()
    assert not source.untouched


def test_variable_frame_rate(tmp_path):
    ticks = [0, 40, 50, 190, 200, 201, 1000]
    path = write_video(
        tmp_path / "a.mkv", map(picture, range(7)), ticks=ticks, time_base=Fraction(1, 1000), format="matroska"
    )
    assert [frame.time for frame in read_all(path)] == [tick / 1000 for tick in ticks]


def test_times_begin_at_zero(tmp_path):
    path = clip(tmp_path / "a.ts", 5, time_base=Fraction(1, 90000), format="mpegts")
    assert [round(frame.time, 6) for frame in read_all(path)] == [i / 25 for i in range(5)]


# Rotation as the display matrix counts it: positive is counterclockwise when shown.
@pytest.mark.parametrize(
    ("rotation", "turn"),
    [
        (-90, cv2.ROTATE_90_CLOCKWISE),  # a phone held upright
        (90, cv2.ROTATE_90_COUNTERCLOCKWISE),
        (180, cv2.ROTATE_180),
    ],
)
def test_rotation(tmp_path, rotation, turn):
    path = write_video(tmp_path / "a.mp4", [quadrants()] * 3, rotation=rotation)
    expected = cv2.rotate(quadrants(), turn)
    with frames_from_source(path) as source:
        assert (source.height, source.width) == expected.shape[:2]
        for frame in source:
            assert np.abs(frame.image.astype(int) - expected).mean() < 8
            assert frame.image.flags.c_contiguous


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([1, 0, 0, 1], lambda image: image),
        ([-1, 0, 0, 1], lambda image: image[:, ::-1]),  # mirrored, as some front cameras are
        ([1, 0, 0, -1], lambda image: image[::-1]),
        ([0, 1, 1, 0], lambda image: image.transpose(1, 0, 2)),
        ([0, 1, -1, 0], lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
    ],
)
def test_display_matrix(tmp_path, matrix, expected):
    plain = write_video(tmp_path / "a.mp4", [quadrants(), quadrants()[::-1]])
    a, b, c, d = (65536 * v for v in matrix)
    data = bytearray(plain.read_bytes())
    begin = data.index(b"tkhd") + 44
    data[begin : begin + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "b.mp4").write_bytes(data)
    for before, after in zip(read_all(plain), read_all(tmp_path / "b.mp4"), strict=True):
        assert np.array_equal(after.image, expected(before.image))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_pictures_with_exif(tmp_path, orientation):
    """PyAV has no name for EXIF among a picture's side data, and reads none of them for it."""
    tiff = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)
    jpeg = cv2.imencode(".jpg", quadrants())[1].tobytes()
    jpeg = jpeg[:2] + struct.pack(">HH6s", 0xFFE1, 8 + len(tiff), b"Exif\0\0") + tiff + jpeg[2:]
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for tick in range(3):
            packet = av.Packet(jpeg)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, tick, tick, Fraction(1, 25)
            packet.is_keyframe = True
            container.mux(packet)
    expected = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    frames = read_all(tmp_path / "a.avi")
    assert [frame.image.shape for frame in frames] == [expected.shape] * 3
    assert all(np.abs(frame.image.astype(int) - expected).mean() < 8 for frame in frames)


def test_swapped_times_are_sorted():
    """Some recorders give neighbours each other's times; the decoder's order is right (seen: 0, 101, 67, 134, 34)."""

    def frames():
        for i, seconds in enumerate([0, 101, 67, 134, 34, 234, 201, 267, 167]):
            yield reader.Frame(i, seconds, picture(i))
        return 9

    result = list(reader._times_sorted(frames()))
    assert [frame.index for frame in result] == list(range(9))
    assert [frame.time for frame in result] == [0, 34, 67, 101, 134, 167, 201, 234, 267]


@pytest.mark.parametrize("width", [64, 48])
def test_pixel_aspect_turns_with_the_picture(tmp_path, width):
    path = write_video(tmp_path / "a.mp4", [quadrants()] * 2, rotation=90)
    with frames_from_source(path) as source:
        assert source.pixel_aspect == 1
    with av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(quadrants(width), format="bgr24")))
        container.mux(stream.encode(None))
    with frames_from_source(tmp_path / "b.mp4") as source:
        assert source.pixel_aspect == Fraction(3, 4)


# What reading leaves behind


@pytest.fixture
def no_collector():
    """What holds on to itself stays: memory that waits for the garbage collector is gigabytes in 4K."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def pictures_alive(width=96):
    return sum(type(thing) is av.VideoFrame and thing.width == width for thing in gc.get_objects())


def thread_count():
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("the threads of libraries are counted on Linux only")
    return len(list(tasks.iterdir()))


@pytest.mark.parametrize("rotation", [None, 180])
def test_decoded_pictures_go_at_once(tmp_path, no_collector, rotation):
    """Each picture has waited for the collector, and a process forked meanwhile hung when it collected them."""
    path = clip(tmp_path / "a.mp4", 60, rotation=rotation)
    before = pictures_alive()
    with frames_from_source(path) as source:
        for _ in source:
            pass
        assert pictures_alive() - before < 10  # the frames that are held back, and the one at hand
    del source, _
    assert pictures_alive() == before


def test_threads_go_with_the_video(tmp_path, no_collector):
    """Each picture had threads of its own: programs that read many videos ran out of them."""
    path = clip(tmp_path / "a.mp4", 60)
    before = thread_count()
    with frames_from_source(path) as source:
        next(source)
        reading = thread_count()
        assert len(list(source)) == 59
        assert thread_count() <= reading
    sources = []
    for _ in range(20):
        sources.append(frames_from_source(path))
        sources[-1].close()
    assert thread_count() - before < 10  # one that has ended may still be counted for a moment


def test_threads_go_with_a_broken_video(tmp_path, no_collector):
    """Who collects the errors of a night does not collect decoders."""
    whole = clip(tmp_path / "a.mkv", 40, format="matroska", time_base=Fraction(1, 1000))
    broken = damage(whole, tmp_path / "b.mkv")
    before = thread_count()
    errors = []
    for _ in range(10):
        with pytest.raises(InputError) as caught, frames_from_source(broken) as source:
            list(source)
        errors.append(caught.value)
    assert thread_count() - before < 10


# Folders


def test_natural_order():
    names = ["10.jpg", "9.jpg", "a2b10.png", "a2b9.png", "A1.png", "frame.png"]
    assert sorted(names, key=natural) == ["9.jpg", "10.jpg", "A1.png", "a2b9.png", "a2b10.png", "frame.png"]


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp", "JPEG", "tif"])
def test_folder(tmp_path, kind):
    folder = write_images(tmp_path / "frames", map(picture, range(12)), "{:d}." + kind)
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._0.png").write_bytes(b"what a Mac leaves behind")
    with frames_from_source(str(folder)) as source:
        assert (source.count, source.fps, source.time_base) == (12, 25, Fraction(1, 25))
        frames = list(source)
    assert [frame.time for frame in frames] == [i / 25 for i in range(12)]
    for frame in frames:  # 10 comes after 9
        assert np.abs(frame.image.astype(int) - picture(frame.index)).mean() < 12


def test_gray_images_come_as_bgr(tmp_path):
    folder = write_images(tmp_path / "frames", [picture(0)[..., 0]])
    assert read_all(folder)[0].image.shape == (64, 96, 3)


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no images in this folder"):
        frames_from_source(tmp_path)


@pytest.mark.parametrize("broken", [b"", b"no image", "half"])
def test_broken_image(tmp_path, capfd, broken):
    folder = write_images(tmp_path / "frames", map(picture, range(5)))
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[: len(whole) // 2] if broken == "half" else broken)
    seen, message = read_until_error(folder)
    assert len(seen) == 3
    assert "3.png: frame 3 cannot be read as an image" in message
    assert capfd.readouterr().err == ""  # OpenCV and libpng keep quiet


@pytest.mark.parametrize("other", [picture(0, 98, 64), picture(0, 96, 66)])
def test_frames_change_size_in_a_folder(tmp_path, other):
    folder = write_images(tmp_path / "frames", [picture(0), picture(1), other, picture(3)])
    seen, message = read_until_error(folder)
    assert len(seen) == 2
    assert f"frame 2 is {other.shape[1]} x {other.shape[0]}, the frames before it are 96 x 64" in message


def test_frames_change_size_in_a_video(tmp_path):
    """MPEG-TS allows a new size in the middle, as television does."""
    small = write_video(tmp_path / "a.ts", map(picture, range(5)), time_base=Fraction(1, 90000), format="mpegts")
    large = write_video(
        tmp_path / "b.ts", [picture(i, 128, 96) for i in range(5)], time_base=Fraction(1, 90000), format="mpegts"
    )
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    seen, message = read_until_error(both)
    assert 1 <= len(seen) <= 5
    assert f"frame {len(seen)} is 128 x 96" in message


# What is not a video


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nope\.mp4: no such file or folder"):
        frames_from_source(tmp_path / "nope.mp4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", "the file is empty"),
        ("notes.txt", b"hello\n" * 50, "not a video"),
        ("noise.mp4", bytes(range(256)) * 20, "not a video"),
        ("table.csv", b"a,b\n1,2\n", "not a video"),
        ("log.txt", b"hello\n" * 2000, "no picture in it"),  # which FFmpeg would draw
    ],
)
def test_not_a_video(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        frames_from_source(tmp_path / name)
    assert name in str(caught.value)


def test_sound_only(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no picture in it"):
        frames_from_source(tmp_path / "a.wav")


def test_animated_webp(tmp_path):
    """FFmpeg, which reads none, calls it damaged."""

    def chunk(name, data):
        return name + struct.pack("<I", len(data)) + data

    still = cv2.imencode(".webp", picture(0))[1].tobytes()[12:]
    sides = struct.pack("<I", 95)[:3] + struct.pack("<I", 63)[:3]  # less one
    shown = chunk(b"ANMF", bytes(6) + sides + bytes([40, 0, 0, 0]) + still)
    whole = b"WEBP" + chunk(b"VP8X", bytes([2, 0, 0, 0]) + sides) + chunk(b"ANIM", bytes(6)) + shown * 3
    (tmp_path / "a.webp").write_bytes(chunk(b"RIFF", whole))
    with pytest.raises(InputError, match=r"a\.webp: an animated WebP cannot be read; convert it"):
        frames_from_source(tmp_path / "a.webp")


def test_video_without_frames(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.start_encoding()
    with pytest.raises(InputError):
        frames_from_source(path)


@pytest.mark.parametrize("source", ["", "  "])
def test_nameless(source):
    with pytest.raises(InputError, match="no name"):
        frames_from_source(source)


# What breaks off


@pytest.mark.parametrize("harm", [cut_off, damage])
@pytest.mark.parametrize(
    ("suffix", "format", "options"),
    [("mp4", "mp4", {"movflags": "+faststart"}), ("mkv", "matroska", {}), ("avi", "avi", {})],
)
def test_breaks_off(tmp_path, harm, suffix, format, options):
    whole = write_video(
        tmp_path / f"a.{suffix}",
        (np.roll(picture(0, 192, 128), 5 * i, 1) for i in range(40)),
        format=format,
        options=options,
        codec="mjpeg" if suffix == "avi" else "libx264",
        time_base=Fraction(1, 25) if suffix == "avi" else Fraction(1, 1000),
    )
    assert len(read_all(whole)) == 40
    seen, message = read_until_error(harm(whole, tmp_path / f"b.{suffix}"))
    assert 15 <= len(seen) < 40
    assert f"b.{suffix}: it breaks off at frame {len(seen)} (" in message
    assert [frame.index for frame in seen] == list(range(len(seen)))


@pytest.mark.parametrize(
    "source", [None, [np.zeros((4, 4, 3), np.uint8)], np.zeros((4, 4, 3), np.uint8), b"a.mp4", True]
)
def test_no_source_at_all(source):
    """A list of frames has been taken for a file whose name held all of their pixels."""
    with pytest.raises(InputError, match=f"the source is a {type(source).__name__}; give a video") as caught:
        frames_from_source(source)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("kind", ["open", "decode", "image"])
def test_too_little_memory_is_not_blamed_on_the_video(tmp_path, monkeypatch, kind):
    """It was said to break off, or to be no video, and to be repaired."""
    path = clip(tmp_path / "a.mp4", 5)

    def fail(*_, **__):
        raise error

    if kind == "open":
        error = av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")
        monkeypatch.setattr(av, "open", fail)
    elif kind == "decode":
        error = av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")  # no more threads
        monkeypatch.setattr(reader._Upright, "__call__", fail)
    else:
        path = write_images(tmp_path / "frames", [picture(0)])
        error = cv2.error("(-4:Insufficient memory) Failed to allocate 6220800 bytes")
        monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(InputError) as caught:
        frames_from_source(path)
    message = str(caught.value)
    assert str(path) in message and "not enough memory (or threads)" in message and "close other programs" in message
    assert "repair" not in message and "replace" not in message and "not a video" not in message


def test_a_file_called_like_a_shortage_is_none(tmp_path):
    """FFmpeg's words for a damaged file hold its name."""
    path = tmp_path / "out of memory" / "bad_alloc.mp4"
    path.parent.mkdir()
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match="not a video"):
        frames_from_source(path)


def test_a_damaged_file_whose_numbers_are_senseless_is_not_the_machines_fault_alone(tmp_path):
    """FFmpeg asks for as much memory as a header says, and then calls it a lack of memory."""
    content = bytearray(clip(tmp_path / "a.mp4", 20).read_bytes())
    content[content.find(b"stts") + 8] = 0x7F
    path = tmp_path / "b.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not enough memory .* or the file is damaged"):
        frames_from_source(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_damaged_video_from_a_pipe_is_not_waited_for(tmp_path):
    """It was opened a second time, to see whether it is an animated WebP."""
    os.mkfifo(tmp_path / "pipe")
    assert not reader._is_animated_webp(str(tmp_path / "pipe"))


def test_index_at_the_end_is_lost(tmp_path):
    """Cut in two, an MP4 with its index at the end is nothing."""
    whole = clip(tmp_path / "a.mp4", 20)
    with pytest.raises(InputError, match="cut off; check that it plays"):
        frames_from_source(cut_off(whole, tmp_path / "b.mp4"))


def test_breaks_off_before_start(tmp_path):
    whole = clip(tmp_path / "a.mp4", 40, options={"movflags": "+faststart"})
    with pytest.raises(InputError, match="breaks off at frame"):
        frames_from_source(cut_off(whole, tmp_path / "b.mp4"), 35)


@pytest.mark.parametrize("live", [False, True])
def test_going_on_after_an_interruption_is_no_end(tmp_path, monkeypatch, live):
    """A signal's handler that raises while a frame is read: the loop that was begun anew ended as if the video had."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    frames = frames_from_source(0 if live else clip(tmp_path / "a.mp4", 20))
    assert [next(frames).index for _ in range(2)] == [0, 1]
    monkeypatch.setattr(reader._Upright, "__call__", interrupt)
    monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic=interrupt))
    with pytest.raises(KeyboardInterrupt):
        list(frames)
    again = "anew" if live else "anew with start=2"
    for _ in range(2):
        with pytest.raises(InputError, match=f"reading was interrupted at frame 2; open it {again}$"):
            next(frames)
    frames.close()
    assert list(frames) == []


# Streams


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "STREAM_TIMEOUT", 60.0)  # the machine may be busy

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_stream(tmp_path, server):
    clip(tmp_path / "a.mp4", 10)
    with frames_from_source(f"http://user:secret@{server}/a.mp4") as source:
        assert source.name == f"http://{server}/a.mp4"  # the password stays with us
        assert source.count == 10
        assert len(list(source)) == 10


def test_live_stream_passes_over_damage(tmp_path, server):
    """MPEG-TS over HTTP has no length that anybody promised: packets that got lost do not end it."""
    whole = clip(tmp_path / "a.ts", 60, time_base=Fraction(1, 90000), format="mpegts")
    data = bytearray(whole.read_bytes())
    for i in range(20, 24):  # packets of 188 bytes; their headers stay
        data[188 * i + 8 : 188 * (i + 1)] = bytes(180)
    whole.write_bytes(data)
    assert len(read_all(f"http://{server}/a.ts")) >= 30


@pytest.mark.parametrize("ends", [False, True])
def test_a_silent_stream_is_closed_by_another_thread(tmp_path, monkeypatch, ends):
    """It failed with "generator already executing", and the camera stayed open."""
    data = clip(tmp_path / "a.ts", 60, time_base=Fraction(1, 90000), format="mpegts").read_bytes()
    monkeypatch.setattr(reader, "STREAM_TIMEOUT", 1.0 if ends else 60.0)
    silent, go_on = threading.Event(), threading.Event()

    class Stalling(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data[: len(data) * 3 // 4])
            silent.set()
            go_on.wait()
            with contextlib.suppress(OSError):
                self.wfile.write(data[len(data) * 3 // 4 :])

        def log_message(self, *_):
            pass

    seen, errors = [], []

    def read():
        try:
            seen.extend(source)
        except BaseException as error:
            errors.append(error)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        source = frames_from_source(f"http://127.0.0.1:{server.server_port}/a.ts")
        thread = threading.Thread(target=read)
        thread.start()
        assert silent.wait(60)
        before = -1
        while not (seen and before == len(seen) and source._frames.gi_running):
            before = len(seen)
            time.sleep(0.2)
        source.close()
        if not ends:
            go_on.set()
        thread.join(60)
        assert not thread.is_alive() and errors == []
        assert 0 < len(seen) < 60 and list(source) == []
        assert source._frames.gi_frame is None  # the connection is closed
        go_on.set()
        server.shutdown()


def test_a_webcam_is_closed_by_another_thread(monkeypatch):
    sources = []

    class Closed(Camera):
        def read(self):
            for source in sources:
                thread = threading.Thread(target=source.close)
                thread.start()
                thread.join()
            return super().read()

    monkeypatch.setattr(cv2, "VideoCapture", Closed)
    frames = frames_from_source(0)
    sources.append(frames)
    assert len(list(frames)) == 1 and Closed.released


def test_stream_that_is_not_there(server):
    with pytest.raises(InputError, match="the stream cannot be opened") as caught:
        frames_from_source(f"http://user:secret@{server}/nope.mp4")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:pa[ss@camera:554/live", "rtsp://camera:554/live"),  # was a traceback
        ("rtsp://admin:pa#ss/word?@camera/live", "rtsp://camera/live"),  # signs that should have been escaped
        ("rtsp://u:p@ss@camera/live", "rtsp://camera/live"),
        ("rtsp://admin:2024#cam@127.0.0.1:1/stream", "rtsp://127.0.0.1:1/stream"),  # not a port
        ("rtsp://admin:2024/cam@127.0.0.1:1/stream", "rtsp://127.0.0.1:1/stream"),
        ("rtsp://admin:2024?cam@127.0.0.1:1/stream", "rtsp://127.0.0.1:1/stream"),
        ("rtsp://user:p@a/ss@host/x", "rtsp://host/x"),
        ("rtsp://127.0.0.1:1/user=admin_password=tlJwpbo6_channel=1.sdp?real_stream", "rtsp://127.0.0.1:1/user=..."),
        ("rtsp://camera:1/channel=1_password=a_b/c_stream=0.sdp", "rtsp://camera:1/channel=1_password=..."),
        ("rtsp://u:p@camera:554/live?password=p@s#s&channel=1", "rtsp://camera:554/live?password=...&channel=1"),
        ("http://server/video?src=rtsp://admin:secret@camera/live", "http://camera/live"),  # one in another
        ("http://camera:80/video?user=admin&pwd=secret&channel=1", "http://camera:80/video?user=...&pwd=...&channel=1"),
        ("https://store/a.mp4?X-Amz-Signature=abc", "https://store/a.mp4?X-Amz-Signature=..."),
        ("rtsp://[::1]:8554/live", "rtsp://[::1]:8554/live"),
        ("http://camera:8080/@front/live", "http://camera:8080/@front/live"),
        ("rtsp://[::1/live", "rtsp://[::1/live"),  # was a traceback too
    ],
)
def test_passwords_are_not_shown(monkeypatch, address, shown):
    def refuse(*_, **__):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(InputError) as caught:
        frames_from_source(address)
    assert str(caught.value) == f"{shown}: the stream cannot be opened (Connection refused); check the address"


# Webcams


class Camera:
    """cv2.VideoCapture with three frames, then unplugged."""

    released = False
    opened = True

    def __init__(self, number):
        self.number, self.left = number, 3

    def isOpened(self):
        return self.opened

    def get(self, what):
        return 0.0

    def read(self):
        self.left -= 1
        return (True, picture(0)) if self.left >= 0 else (False, None)

    def release(self):
        type(self).released = True


@pytest.mark.parametrize("number", [0, "0", " 2 ", np.int64(0)])
def test_webcam(monkeypatch, number):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "released", False)
    seen, message = read_until_error(number)
    assert len(seen) == 3
    assert seen[0].time == 0 <= seen[1].time <= seen[2].time
    assert f"webcam {int(number)}: it breaks off at frame 3" in message
    assert Camera.released


def test_no_webcam(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "opened", False)
    with pytest.raises(InputError, match="webcam 7: it cannot be opened"):
        frames_from_source("7")
    with pytest.raises(InputError, match="count from 0"):
        frames_from_source(-1)


def test_a_path_of_digits_is_no_webcam(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "0", [picture(0)])
    assert len(read_all(tmp_path.joinpath("0").relative_to(tmp_path))) == 1
    assert len(read_all("./0")) == 1
