"""The tracker of one target."""

from __future__ import annotations

import os
import time
from typing import NoReturn

from fartrack import crops
from fartrack.crops import GivenImage
from fartrack.errors import InputError
from fartrack.geometry import Box
from fartrack.insight import Insight
from fartrack.runtime import Output, Runtime, embed, open_runtime
from fartrack.runtime.choice import choose
from fartrack.target import GivenBox, Target


class Tracker:
    """Follows one target through the frames of a video.

    Drops in where an OpenCV tracker stood, but for the boxes, which are floats, finer than a pixel:

        tracker = fartrack.Tracker("pico")
        tracker.init(frame, (x, y, w, h))
        found, box = tracker.update(frame)
        x, y, w, h = map(round, box)  # for cv2.rectangle, which wants integers

    Frames are H x W x 3 uint8 BGR (gray and BGRA work too) and are never modified; boxes are in pixels.

    One tracker is for one thread at a time, from `init` to the last `update`: threads and processes make trackers of
    their own. Trackers are not copied or pickled.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "pico",
        runtime: str | None = None,
        threads: int | None = None,
        explain: bool = False,
        seek: bool = False,
    ) -> None:
        """Load a model.

        Args:
            model: "femto", "pico", "nano", "tiny" or the path of a model file.
            runtime: "onnxruntime", "openvino", "openvino-bf16", "opencv", "torch" or "cuda"; None is what is fastest on
                this CPU without loss (`fartrack.runtime.choice`) for a packaged model, and what reads it for a file.
            threads: CPU threads of the network; None leaves the choice to the runtime.
            explain: keep what was seen in every frame, for `insight`.
            seek: look for a target that has been lost for a while elsewhere in the frame as well (`fartrack.seek`);
                such a frame takes twice as long.

        Raises:
            FileNotFoundError: no such model.
            InputError: the runtime is unknown or not installed, or the file is not a model.
        """
        self.runtime: Runtime = open_runtime(*choose(model, runtime), threads)
        self.config = self.runtime.config
        self.network_seconds = 0.0
        """Time spent in the network so far, over all videos."""
        self.target: Target | None = None
        self.explain = explain
        self.seek = seek
        self.started_by: object = None
        """The newest call of `track` or `track_between` that has this tracker: an earlier one would follow the wrong
        target."""

    @property
    def score(self) -> float:
        """0 to 1: the chance that the last box overlaps the target by more than half; 0 before `init`."""
        return self.target.score if self.target else 0.0

    @property
    def insight(self) -> Insight | None:
        """What the last update saw and thought (with `explain`): templates, tokens, distributions."""
        return self.target.insight if self.target else None

    def init(self, frame: GivenImage, box: GivenBox) -> None:
        """Start on a frame, afresh.

        Raises:
            InputError: the frame is no image, or the box is not a box in it; the old state stays.
        """
        image = crops.as_bgr(frame)
        target = Target(self.config, image, box, self.explain, seeks=self.seek)
        template = target.first_template(image)
        begun = time.perf_counter()
        tokens = embed(self.runtime, template[None])[0]
        self.network_seconds += time.perf_counter() - begun
        target.start(template, tokens)
        self.target = target

    def update(self, frame: GivenImage) -> tuple[bool, Box]:
        """Find the target in the next frame.

        Returns:
            Whether it was found (the score says so) and its box x, y, w, h in pixels.

        Raises:
            InputError: `init` was not called, the frame is no image or has another size; the state stays.
        """
        if self.target is None:
            raise InputError("tracker has no target: call init(frame, box) first")
        image = crops.as_bgr(frame)
        self.target.check(image)
        search, template, memory, trajectory = self.target.look(image)
        words = None if trajectory is None else trajectory[None]
        elsewhere = self.target.elsewhere(image)
        outputs = []
        for crop in [search] if elsewhere is None else [search, elsewhere]:
            begun = time.perf_counter()
            output = self.runtime(crop[None], template[None], memory[None], words)
            self.network_seconds += time.perf_counter() - begun
            outputs.append(Output(*(x[0] for x in output)))
        self.target.absorb(image, *outputs)
        return self.target.found, self.target.box

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Tracker is not copied or pickled: make another one of the same model")

    def getTrackingScore(self) -> float:
        """The score of the last update, under OpenCV's name."""
        return self.score
