"""The tracker: state of one target in one video."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from fartrack import crops, geometry, models, vocabulary
from fartrack.crops import Image
from fartrack.geometry import Box, Window
from fartrack.memory import TemplateMemory
from fartrack.runtime import Output, Runtime, embed, open_runtime


class Tracker:
    """Follows one target through the frames of a video.

    Drops in where an OpenCV tracker stood:

        tracker = fartrack.Tracker("pico")
        tracker.init(frame, (x, y, w, h))
        found, (x, y, w, h) = tracker.update(frame)

    Frames are H x W x 3 uint8 BGR (gray and BGRA work too) and are never modified; boxes are in pixels.
    """

    def __init__(
        self, model: str | os.PathLike[str] = "pico", runtime: str = "onnxruntime", threads: int | None = None
    ) -> None:
        """Load a model.

        Args:
            model: "pico", "nano", "tiny" or the path of a model file.
            runtime: "onnxruntime", "openvino" or "torch".
            threads: CPU threads of the network; None leaves the choice to the runtime.

        Raises:
            FileNotFoundError: no such model.
            ValueError: the runtime is unknown or not installed, or the file is not a model.
        """
        self.runtime: Runtime = open_runtime(models.find(model), runtime, threads)
        self.config = self.runtime.config
        self.network_seconds = 0.0
        """Time spent in the network so far, over all videos."""
        self.score = 0.0
        """0 to 1: the chance that the last box overlaps the target by more than half."""
        self._state: _State | None = None

    def init(self, frame: Image, box: Sequence[float]) -> None:
        """Start on a frame, afresh.

        Raises:
            ValueError: the frame is no image, or the box is not a box in it; the old state stays.
        """
        image = crops.as_bgr(frame)
        height, width = image.shape[:2]
        start = geometry.check_box(box, width, height)
        memory = TemplateMemory(self.config)
        crop = self._template(image, start)
        begun = time.perf_counter()
        tokens = embed(self.runtime, crop[None])[0]
        self.network_seconds += time.perf_counter() - begun
        memory.start(crop, tokens)
        past = deque([start], maxlen=max(1, self.config.trajectory))
        self._state = _State(start, (width, height), memory, past)
        self.score = 1.0

    def update(self, frame: Image) -> tuple[bool, Box]:
        """Find the target in the next frame.

        Returns:
            Whether it was found (the score says so) and its box x, y, w, h in pixels.

        Raises:
            ValueError: `init` was not called, the frame is no image or has another size; the state stays.
        """
        if self._state is None:
            raise ValueError("tracker has no target: call init(frame, box) first")
        image = crops.as_bgr(frame)
        self._state.check(image)
        window, inputs = prepare(self._state, image, self.runtime)
        begun = time.perf_counter()
        output = self.runtime(*(None if x is None else x[None] for x in inputs))  # type: ignore[arg-type]
        self.network_seconds += time.perf_counter() - begun
        one = Output(*(x[0] for x in output))
        self.score = absorb(self._state, image, window, one, self.runtime)
        return self.score >= self.config.lost_below, self._state.box

    def getTrackingScore(self) -> float:  # noqa: N802 - OpenCV's name for it
        """The score of the last update, under OpenCV's name."""
        return self.score

    def _template(self, image: Image, box: Sequence[float]) -> Image:
        return cut_template(image, box, self.runtime)


class _State:
    """What is remembered of one target."""

    def __init__(self, box: Box, size: tuple[int, int], memory: TemplateMemory, past: deque[Box]) -> None:
        self.box = box
        self.size = size
        self.memory = memory
        self.past = past

    def check(self, image: Image) -> None:
        height, width = image.shape[:2]
        if (width, height) != self.size:
            was = f"{self.size[0]} x {self.size[1]}"
            raise ValueError(f"frame is {width} x {height} but the video began with {was}: call init again")


def cut_template(image: Image, box: Sequence[float], runtime: Runtime) -> Image:
    """(s, s, 3) uint8 RGB template around a box."""
    c = runtime.config
    return _rgb(crops.cut(image, geometry.window_around(box, c.template_factor), c.template_size))


def prepare(
    state: _State, image: Image, runtime: Runtime
) -> tuple[Window, tuple[Image, Image, np.ndarray, np.ndarray | None]]:
    """The search window of a frame and the network's inputs, without a batch axis."""
    c = runtime.config
    window = geometry.window_around(state.box, c.search_factor)
    search = _rgb(crops.cut(image, window, c.search_size))
    words = None
    if c.trajectory:
        # Past boxes in units of this search crop, oldest first; before there are enough, the oldest is repeated.
        boxes = [state.past[0]] * (c.trajectory - len(state.past)) + list(state.past)
        corners = [[b[0], b[1], b[0] + b[2], b[1] + b[3]] for b in boxes]
        origin = np.array([window.x, window.y, window.x, window.y])
        words = vocabulary.to_words((np.array(corners) - origin) / window.side, c).ravel()
    assert state.memory.newest_crop is not None
    return window, (search, state.memory.newest_crop, state.memory.older(), words)


def absorb(state: _State, image: Image, window: Window, output: Output, runtime: Runtime) -> float:
    """Take in what the network said of a frame (without a batch axis): box, memory and score."""
    c = runtime.config
    width, height = state.size
    box = geometry.from_window(output.box.tolist(), window, state.box)
    state.box = geometry.clip(box, width, height, min(c.margin, width, height))
    state.past.append(state.box)
    state.memory.settle(output.tokens, output.saliency)
    state.memory.add(cut_template(image, state.box, runtime))
    return float(vocabulary.score(output.logits, c))


def _rgb(bgr: Image) -> Image:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
