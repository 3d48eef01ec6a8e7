"""Tiny videos for the tests, made on the spot."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.video.reader import frames_from_source

TEXTURE = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)


def picture(index, width=96, height=64):
    """A gray frame with a textured square that moves right by a pixel a frame."""
    image = np.full((height, width, 3), 90, np.uint8)
    x = min(8 + index, width - 24)
    image[20:44, x : x + 24] = TEXTURE
    return image


def quadrants(width=64, height=48):
    """Blue, green / red, white: shows how a picture is turned."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    image[height // 2 :, width // 2 :] = (255, 255, 255)
    return image


def write_video(
    path, images, *, ticks=None, time_base=Fraction(1, 12800), codec="libx264", format=None, rotation=None, options=None
):
    """Encode BGR images; `ticks` are their times in units of `time_base` (25 frames per second by default)."""
    images = list(images)
    ticks = ticks or [round(i / 25 / time_base) for i in range(len(images))]
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format=format, container_options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = 10
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "18"}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for image, tick in zip(images, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def clip(path, count=20, **more):
    """A video of `count` pictures."""
    return write_video(path, (picture(i) for i in range(count)), **more)


def write_images(folder, images, name="{:d}.png"):
    """A folder of images."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        assert cv2.imwrite(str(folder / name.format(i)), image)
    return folder


def cut_off(path, target, share=0.6):
    """A copy of a file that ends early."""
    data = Path(path).read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def damage(path, target, share=0.6):
    """A copy of a file with noise in it."""
    data = bytearray(Path(path).read_bytes())
    begin = int(len(data) * share)
    noise = np.random.default_rng(1).integers(0, 255, len(data) - begin, dtype=np.uint8).tobytes()
    data[begin:] = noise
    target.write_bytes(data)
    return target


def read_all(source, start=0):
    """Its frames."""
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
