"""Images in files and folders. Nothing here needs PyAV: training on a bare GPU machine reads its data with it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fartrack.crops import Image
from fartrack.shortage import is_shortage

IMAGE_TYPES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
PNG_END = b"IEND\xaeB`\x82"
"""The last chunk of a whole PNG. Some programs append data of their own to it."""


def read_image(path: Path) -> Image | None:
    """Read one image as H x W x 3 BGR, upright; None when it is not a readable image.

    Raises `OSError` when the file cannot be opened, and `MemoryError` when there is no room for the image.
    """
    data = np.fromfile(path, np.uint8)  # not cv2.imread: that one cannot open every name on Windows
    if data.size == 0:
        return None
    if data[:4].tobytes() == b"\x89PNG" and PNG_END not in data.tobytes():
        return None  # cut off; libpng would print a line of its own
    with quiet_opencv():
        try:
            return cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[return-value]
        except cv2.error as error:  # also OpenCV's word for a header that asks for more pixels than it takes
            if is_shortage(error):
                raise MemoryError("Cannot allocate memory") from None
            return None


def image_files(folder: Path) -> list[Path]:
    """The images in a folder in the order of the numbers in their names (2.jpg before 10.jpg)."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_TYPES and not f.name.startswith("."))
    return sorted(files, key=lambda f: (natural(f.name), f.name))  # 01.jpg and 1.jpg are the same number


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that takes the digits in a name as numbers."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name.casefold()) if p]


class _LogLevel:
    """OpenCV's log level: one for the process, so the first thread to lower it keeps it, the last one restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = self._before = 0

    def lower(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = self._log.getLogLevel()
                self._log.setLogLevel(0)
            self._users += 1

    def restore(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._log.setLogLevel(self._before)

    @property
    def _log(self) -> Any:
        return getattr(cv2.utils, "logging", cv2)  # OpenCV 5 and 4


_log_level = _LogLevel()


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV prints warnings about what we turn into one message."""
    _log_level.lower()
    try:
        yield
    finally:
        _log_level.restore()
