"""Tiny benchmarks on disk, each in its own layout."""

import struct
import zlib

import cv2
import numpy as np

from template_tracker import moving_square

LINE = np.array([[10.0 + 3 * i, 40.0, 20.0, 20.0] for i in range(100)])
"""True boxes of `moving_square`."""


def write_frames(folder, count=6, first=1, digits=4, hidden=(), step=3):
    """Frames of a patch that moves over noise, as first.jpg ... in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(moving_square(count, step=step, hidden=hidden)[0]):
        cv2.imwrite(str(folder / f"{first + i:0{digits}d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])


def write_boxes(path, boxes, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(separator.join(f"{v:g}" for v in box) for box in boxes) + "\n")


def write_flags(path, flags, separator="\n"):
    path.write_text(separator.join(str(int(flag)) for flag in flags) + "\n")


def folder_set(root, names=("a", "b", "c"), count=6):
    """NAME/img/*.jpg and NAME/groundtruth_rect.txt; the squares move at different speeds."""
    for step, name in enumerate(names, 2):
        write_frames(root / name / "img", count, step=step)
        write_boxes(root / name / "groundtruth_rect.txt", [(10 + step * i, 40, 20, 20) for i in range(count)])
    return root


def got10k_set(root, part="val", names=("GOT-10k_Val_000001", "GOT-10k_Val_000002"), count=5):
    """GOT-10k's layout; in `val` the third frame of each is covered."""
    for name in names:
        folder = root / part / name
        write_frames(folder, count, digits=8)
        write_boxes(folder / "groundtruth.txt", LINE[:count] if part == "val" else LINE[:1])
        if part == "val":
            write_flags(folder / "cover.label", [8, 8, 0, *[8] * (count - 3)])
            write_flags(folder / "absence.label", [0, 0, 1, *[0] * (count - 3)])
            (folder / "meta_info.ini").write_text("[METAINFO]\nanno_fps: 10Hz\nresolution: (160, 120)\n")
    (root / part / "list.txt").write_text("\n".join(names) + "\n")
    return root


def trackingnet_set(root, names=("x_1", "y_2"), count=12):
    """TrackingNet's layout: 0.jpg, 1.jpg ... 10.jpg, one box."""
    for name in names:
        write_frames(root / "TEST" / "frames" / name, count, first=0, digits=1)
        write_boxes(root / "TEST" / "anno" / f"{name}.txt", LINE[:1])
    return root


def palette_png(mask, colours):
    """A PNG with a palette, put together by hand: OpenCV writes none."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = mask.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in mask.astype(np.uint8))
    palette = bytes(np.array(colours, np.uint8).reshape(-1))
    parts = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
