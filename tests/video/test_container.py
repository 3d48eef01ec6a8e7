"""Frames of video files and streams: their times, what breaks off, and what reading leaves behind."""

import contextlib
import functools
import gc
import http.server
import os
import struct
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.video import container
from fartrack.video.frame import Frame
from fartrack.video.reader import frames_from_source
from videos import clip, cut_off, damage, picture, quadrants, read_all, read_until_error, write_video


def test_variable_frame_rate(tmp_path):
    ticks = [0, 40, 50, 190, 200, 201, 1000]
    path = write_video(
        tmp_path / "a.mkv", map(picture, range(7)), ticks=ticks, time_base=Fraction(1, 1000), format="matroska"
    )
    assert [frame.time for frame in read_all(path)] == [tick / 1000 for tick in ticks]


def test_times_begin_at_zero(tmp_path):
    path = clip(tmp_path / "a.ts", 5, time_base=Fraction(1, 90000), format="mpegts")
    assert [round(frame.time, 6) for frame in read_all(path)] == [i / 25 for i in range(5)]


def test_swapped_times_are_sorted():
    """Some recorders give neighbours each other's times; the decoder's order is right (seen: 0, 101, 67, 134, 34)."""

    def frames():
        for i, seconds in enumerate([0, 101, 67, 134, 34, 234, 201, 267, 167]):
            yield Frame(i, seconds, picture(i))
        return 9

    result = list(container._times_sorted(frames()))
    assert [frame.index for frame in result] == list(range(9))
    assert [frame.time for frame in result] == [0, 34, 67, 101, 134, 167, 201, 234, 267]


@pytest.mark.parametrize("width", [64, 48])
def test_pixel_aspect_turns_with_the_picture(tmp_path, width):
    path = write_video(tmp_path / "a.mp4", [quadrants()] * 2, rotation=90)
    with frames_from_source(path) as source:
        assert source.pixel_aspect == 1
    with av.open(str(tmp_path / "b.mp4"), "w") as writing:
        stream = writing.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)
        writing.mux(stream.encode(av.VideoFrame.from_ndarray(quadrants(width), format="bgr24")))
        writing.mux(stream.encode(None))
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


def test_sound_only(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as writing:
        stream = writing.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        writing.mux(stream.encode(frame))
        writing.mux(stream.encode(None))
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
    with av.open(str(path), "w") as writing:
        stream = writing.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        writing.start_encoding()
    with pytest.raises(InputError):
        frames_from_source(path)


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
    assert not container._is_animated_webp(str(tmp_path / "pipe"))


def test_index_at_the_end_is_lost(tmp_path):
    """Cut in two, an MP4 with its index at the end is nothing."""
    whole = clip(tmp_path / "a.mp4", 20)
    with pytest.raises(InputError, match="cut off; check that it plays"):
        frames_from_source(cut_off(whole, tmp_path / "b.mp4"))


def test_breaks_off_before_start(tmp_path):
    whole = clip(tmp_path / "a.mp4", 40, options={"movflags": "+faststart"})
    with pytest.raises(InputError, match="breaks off at frame"):
        frames_from_source(cut_off(whole, tmp_path / "b.mp4"), 35)


# Streams


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "STREAM_TIMEOUT", 60.0)  # the machine may be busy

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
    monkeypatch.setattr(container, "STREAM_TIMEOUT", 1.0 if ends else 60.0)
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


def test_stream_that_is_not_there(server):
    with pytest.raises(InputError, match="the stream cannot be opened") as caught:
        frames_from_source(f"http://user:secret@{server}/nope.mp4")
    assert "secret" not in str(caught.value)
