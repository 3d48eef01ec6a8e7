"""Images in files and folders. Nothing here needs PyAV: training on a bare GPU machine reads its data with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from fartrack.crops import Image

IMAGE_TYPES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def read_image(path: Path) -> Image | None:
    """Read one image as H x W x 3 BGR, upright; None when it is not a readable image.

    Raises `OSError` when the file cannot be opened.
    """
    data = np.fromfile(path, np.uint8)  # not cv2.imread: that one cannot open every name on Windows
    if data.size == 0:
        return None
    if data[:4].tobytes() == b"\x89PNG" and b"IEND" not in data[-64:].tobytes():
        return None  # cut off; libpng would print a line of its own
    with quiet_opencv():
        return cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[return-value]


def image_files(folder: Path) -> list[Path]:
    """The images in a folder in the order of the numbers in their names (2.jpg before 10.jpg)."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_TYPES and not f.name.startswith("."))
    return sorted(files, key=lambda f: natural(f.name))


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that takes the digits in a name as numbers."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name.casefold()) if p]


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV prints warnings about what we turn into one message."""
    log = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 and 4
    level = log.getLogLevel()
    log.setLogLevel(0)
    try:
        yield
    finally:
        log.setLogLevel(level)
