"""NanoTrack (HonglinChu/SiamTrackers) through ONNX Runtime, from its two published files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.geometry import Box
from fartrack.protobuf import fields, varint


@dataclass(frozen=True)
class NanoSettings:
    """The three numbers NanoTrack decodes with."""

    window: float
    penalty: float
    rate: float


NANO_SETTINGS = {"nanotrackv2": NanoSettings(0.490, 0.150, 0.385), "nanotrackv3": NanoSettings(0.455, 0.138, 0.348)}
TEMPLATE, SEARCH, STRIDE = 127, 255, 16


class NanoTrack:
    """The tracker, of any version: the files and three numbers make the difference."""

    def __init__(self, folder: Path, settings: NanoSettings, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads

        def open_session(model: str | bytes) -> Any:
            try:
                return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime's errors have no common base
                raise InputError(f"{folder}: ONNX Runtime cannot open NanoTrack's files ({error})") from None

        backbone, head = nano_files(folder)
        self._backbone, self._head = open_session(str(backbone)), open_session(str(head))
        self._backbone_small = open_session(_for_template(backbone.read_bytes()))
        side = self._head.get_outputs()[0].shape[-1]
        hann = np.hanning(side)
        self._settings = settings
        self._window = np.outer(hann, hann)
        self._grid = (np.arange(side) - side // 2) * float(STRIDE)
        self._template: NDArray[np.float32] = np.empty(0, np.float32)
        self._fill: NDArray[np.float64] = np.zeros(3)
        self._centre, self._size = np.zeros(2), np.zeros(2)
        self.score = 0.0

    def init(self, frame: Image, box: Box) -> None:
        """Remember the target's look."""
        x, y, w, h = box
        self._centre = np.array([x + w / 2, y + h / 2])
        self._size = np.array([w, h], float)
        self._fill = frame.mean((0, 1))
        crop = self._crop(frame, self._context(), TEMPLATE)
        self._template = self._backbone_small.run(None, {"input": crop})[0]
        self.score = 1.0

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Follow the target to the next frame."""
        settings, context = self._settings, self._context()
        scale = TEMPLATE / context
        crop = self._crop(frame, context * SEARCH / TEMPLATE, SEARCH)
        features = self._backbone.run(None, {"input": crop})[0]
        classes, sides = self._head.run(None, {"input1": self._template, "input2": features})
        score = 1 / (1 + np.exp(classes[0, 0].astype(float) - classes[0, 1]))
        left, top, right, bottom = sides[0].astype(float)
        across, down = self._grid[None, :], self._grid[:, None]
        w, h = left + right, top + bottom
        x, y = across + (right - left) / 2, down + (bottom - top) / 2

        change = _larger(_padded(w, h) / _padded(*(self._size * scale)))
        ratio = _larger((self._size[0] / self._size[1]) / (w / h))
        penalty = np.exp(-(change * ratio - 1) * settings.penalty)
        ranked = penalty * score * (1 - settings.window) + self._window * settings.window
        best = np.unravel_index(int(ranked.argmax()), ranked.shape)

        rate = float(penalty[best] * score[best] * settings.rate)
        self._centre = self._centre + np.array([x[best], y[best]]) / scale
        self._size = self._size * (1 - rate) + np.array([w[best], h[best]]) / scale * rate
        height, width = frame.shape[:2]
        self._centre = np.clip(self._centre, 0, (width, height))
        self._size = np.clip(self._size, 10, (width, height))
        self.score = float(score[best])
        corner = self._centre - self._size / 2
        return True, (float(corner[0]), float(corner[1]), float(self._size[0]), float(self._size[1]))

    def _context(self) -> float:
        """Side of the template crop in the frame."""
        return float(_padded(*self._size))

    def _crop(self, frame: Image, extent: float, size: int) -> NDArray[np.float32]:
        """Square of `extent` pixels around the target, resized to `size`; outside the frame its mean colour.

        Corner and side are cut to whole pixels, each on its own: half a pixel more or less moves AO by three points.
        """
        height, width = frame.shape[:2]
        left, top = (math.floor(value - extent / 2) for value in self._centre)
        side = max(1, int(extent))
        window = np.empty((side, side, 3), np.uint8)
        window[:] = self._fill
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        if x1 > x0 and y1 > y0:
            window[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
        return np.ascontiguousarray(cv2.resize(window, (size, size)).transpose(2, 0, 1)[None], np.float32)


def _padded(w: Any, h: Any) -> Any:
    padding = (w + h) / 2
    return np.sqrt((w + padding) * (h + padding))


def _larger(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(ratio, 1 / ratio)


def _for_template(model: bytes) -> bytes:
    """The same backbone for 127 px crops: the files fix the input to 255 px though the layers take any size.

    A few bytes of the file are changed, so that no ONNX library is needed: the written-down shapes between the layers
    are dropped, and the input's shape, four length-prefixed numbers, gets 127 written in two bytes as 255 was.
    """
    batch, side, small = b"\x0a\x02\x08\x01", b"\x0a\x03\x08\xff\x01", b"\x0a\x03\x08\xff\x00"
    shape = batch + b"\x0a\x02\x08\x03" + side * 2
    if model.count(shape) != 1:
        raise InputError("NanoTrack's backbone was expected to take 1 x 3 x 255 x 255; these are other files")
    model = model.replace(shape, batch + b"\x0a\x02\x08\x03" + small * 2)
    changed = b""
    for number, whole, payload in fields(model):
        if number == 7:  # the graph; its fields 12 and 13 are the outputs and the shapes between the layers
            graph = b""
            for inner, field, _ in fields(payload):
                graph += field.replace(b"\x0a\x02\x08\x10" * 2, b"\x0a\x02\x08\x08" * 2) if inner == 12 else b""
                graph += field if inner not in (12, 13) else b""
            whole = b"\x3a" + varint(len(graph)) + graph
        changed += whole
    return changed


def nano_files(folder: Path) -> tuple[Path, Path]:
    """Backbone and head in a folder."""
    found = []
    for part in ("backbone", "head"):
        files = sorted(folder.glob(f"*{part}*.onnx"))
        if len(files) != 1:
            raise InputError(f"{folder}: looked for one *{part}*.onnx of NanoTrack, found {len(files)}")
        found.append(files[0])
    return found[0], found[1]
