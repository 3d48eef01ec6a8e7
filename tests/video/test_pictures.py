"""Images: one that is whole is read, one that is not is None, and OpenCV is as loud afterwards as before."""

import struct
import zlib
from contextlib import ExitStack

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.video.pictures import image_files, quiet_opencv, read_image
from fartrack.video.reader import frames_from_source
from videos import picture, write_images


def png(width, height):
    """A PNG that promises more than it holds."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def bmp(width, height):
    """A BMP that promises more than it holds."""
    size = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + size + bytes(900)


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**30, 2**30)])
@pytest.mark.parametrize(("name", "header"), [("1.png", png), ("1.bmp", bmp)])
def test_absurd_size(tmp_path, name, header, size):
    """It was a traceback of OpenCV's in the middle of a folder."""
    folder = write_images(tmp_path / "frames", [picture(0)])
    (folder / name).write_bytes(header(*size))
    assert read_image(folder / name) is None
    with frames_from_source(folder) as frames, pytest.raises(InputError, match=f"{name}: frame 1 cannot be read"):
        list(frames)


def test_bytes_after_the_end_of_a_png(tmp_path):
    """Tools append what they know of an image; it was refused as cut off."""
    folder = write_images(tmp_path / "frames", [picture(0)])
    with (folder / "0.png").open("ab") as file:
        file.write(bytes(range(256)))
    assert np.array_equal(read_image(folder / "0.png"), picture(0))


def test_names_with_the_same_number(tmp_path, monkeypatch):
    """1.jpg and 01.jpg came in the order of the disk, so that boxes belonged to other frames on another machine."""
    names = ["2.jpg", "1.jpg", "01.jpg", "A.jpg", "a.jpg"]
    for listed in (names, names[::-1]):
        monkeypatch.setattr(type(tmp_path), "iterdir", lambda folder, listed=listed: (folder / n for n in listed))
        assert [file.name for file in image_files(tmp_path)] == ["01.jpg", "1.jpg", "2.jpg", "A.jpg", "a.jpg"]


@pytest.fixture
def log():
    """What sets OpenCV's log level; warnings are on."""
    log = getattr(cv2.utils, "logging", cv2)
    before = log.getLogLevel()
    log.setLogLevel(3)
    yield log
    log.setLogLevel(before)


def test_the_log_level_comes_back(log):
    """Two threads that read at once have left OpenCV silent for the whole process."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(quiet_opencv())
    second.enter_context(quiet_opencv())
    first.close()
    assert log.getLogLevel() == 0  # the second still reads
    second.close()
    assert log.getLogLevel() == 3
