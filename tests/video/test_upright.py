"""Pictures that are stored lying down or mirrored come as they are meant to be seen."""

import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from fartrack.video.reader import frames_from_source
from videos import quadrants, read_all, write_video


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
