"""Frames from files, folders, streams and cameras; and one line for everything that is none of these."""

import errno
import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.video import reader
from fartrack.video.pictures import natural
from fartrack.video.reader import frames_from_source
from fartrack.video.upright import Upright
from videos import clip, picture, read_all, read_until_error, write_images, write_video


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


@pytest.mark.parametrize("source", ["", "  "])
def test_nameless(source):
    with pytest.raises(InputError, match="no name"):
        frames_from_source(source)


@pytest.mark.parametrize(
    "source", [None, [np.zeros((4, 4, 3), np.uint8)], np.zeros((4, 4, 3), np.uint8), b"a.mp4", True]
)
def test_no_source_at_all(source):
    """A list of frames has been taken for a file whose name held all of their pixels."""
    with pytest.raises(InputError, match=f"the source is a {type(source).__name__}; give a video") as caught:
        frames_from_source(source)
    assert len(str(caught.value)) < 200


# What goes wrong on the way


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
        monkeypatch.setattr(Upright, "__call__", fail)
    else:
        path = write_images(tmp_path / "frames", [picture(0)])
        error = cv2.error("(-4:Insufficient memory) Failed to allocate 6220800 bytes")
        monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(InputError) as caught:
        frames_from_source(path)
    message = str(caught.value)
    assert str(path) in message and "not enough memory (or threads)" in message and "close other programs" in message
    assert "repair" not in message and "replace" not in message and "not a video" not in message


@pytest.mark.parametrize("live", [False, True])
def test_going_on_after_an_interruption_is_no_end(tmp_path, monkeypatch, live):
    """A signal's handler that raises while a frame is read: the loop that was begun anew ended as if the video had."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    frames = frames_from_source(0 if live else clip(tmp_path / "a.mp4", 20))
    assert [next(frames).index for _ in range(2)] == [0, 1]
    monkeypatch.setattr(Upright, "__call__", interrupt)
    monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic=interrupt))
    with pytest.raises(KeyboardInterrupt):
        list(frames)
    again = "anew" if live else "anew with start=2"
    for _ in range(2):
        with pytest.raises(InputError, match=f"reading was interrupted at frame 2; open it {again}$"):
            next(frames)
    frames.close()
    assert list(frames) == []


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
