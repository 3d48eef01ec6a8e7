"""What is remembered of one target, and how a frame changes it. Trackers of one and of many are built on this."""

from __future__ import annotations

import copy
import itertools
import math
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fartrack import crops, geometry, seek, vocabulary
from fartrack.config import ModelConfig
from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.geometry import Box, Window
from fartrack.insight import Insight, TemplateView
from fartrack.memory import TemplateMemory, most_salient
from fartrack.runtime import Output

GivenBox = Sequence[float] | npt.NDArray[Any]
"""x, y, w, h as a program hands them over; detectors give arrays."""
COMPARED = 30
"""Frames with whose boxes the newest one's shape is compared: things seldom change at once, trackers that slip do."""
AT_FIRST = 10
"""Frames after the given one that each give a template, whatever `update_interval` says: little is known yet."""
SURE = 0.9
"""So does a frame with a lower score than this: without templates of what changes more targets are lost."""


class Look(NamedTuple):
    """What the network is given for one target in one frame, without a batch axis."""

    search: Image
    """(S, S, 3) uint8 RGB."""
    template: Image
    """(s, s, 3) uint8 RGB, the newest; (0, s, 3) where none is new."""
    memory: npt.NDArray[np.float32]
    """(slots - 1, n, M) of the older templates, oldest first; (slots, n, M) of all where none is new."""
    trajectory: npt.NDArray[np.int64] | None
    """(4 * past boxes,) words, for models that read them."""


class _Seen(NamedTuple):
    """What the network says of one search crop."""

    output: Output
    window: Window
    """The crop's, in the frame."""
    box: Box
    change: float
    """How much the box differs in shape from those it is compared with."""
    score: float


class Target:
    """State of one target: its box, its templates, its past boxes.

    A frame goes in two steps with the network between them, so that several targets can share one call:
    `look` gives the network's inputs, `absorb` takes its answer.
    """

    def __init__(
        self,
        config: ModelConfig,
        image: Image,
        box: GivenBox,
        explain: bool = False,
        memory: TemplateMemory | None = None,
        seeks: bool = False,
    ) -> None:
        """Begin on a frame.

        Args:
            config: of the network.
            image: (H, W, 3) uint8 BGR.
            box: x, y, w, h in pixels.
            explain: keep what `insight` shows.
            memory: where templates are remembered; none makes one.
            seeks: once it is lost, look for it elsewhere in the frame too (`fartrack.seek`).

        Raises:
            ValueError: the box is not a box in this frame.
        """
        height, width = image.shape[:2]
        self.config = config
        self.size = (width, height)
        self.box: Box = geometry.check_box(box, width, height)
        self.scores: deque[float] = deque([1.0], maxlen=config.patience)
        self.margin = config.margin if config.decoding == "release" else min(config.margin, *self.box[2:])
        """Pixels. A target that is given smaller than the config's margin may stay so."""
        self.memory = TemplateMemory(config, pictures=explain) if memory is None else memory
        self.past: deque[Box] = deque([self.box], maxlen=max(1, config.trajectory))
        self.window = geometry.window_around(self.box, config.search_factor)
        self.explain = explain
        self.insight: Insight | None = None
        """What was seen in the last frame; None before the first search, or without `explain`."""
        self.seeks = seeks
        self.lost_for = 0
        """Frames in a row in which it was not found."""
        self.change = 0.0
        """Of the box's shape in the last frame: a part of its score."""
        self._shapes = deque([self.box[2:]], maxlen=COMPARED)
        self._held = deque([self.box[2:]], maxlen=seek.REMEMBERED)
        self._places: Iterator[Window] | None = None
        self._place = self.window
        self._frame = self._given = 0
        self._decided: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None = None

    def first_template(self, image: Image) -> Image:
        """(s, s, 3) uint8 RGB template around the starting box."""
        return self._template(image, crops.GIVEN)

    def start(self, template: Image, tokens: npt.NDArray[np.float32]) -> None:
        """Take the first template and its embedded tokens."""
        self.memory.start(template, tokens)

    def check(self, image: Image) -> None:
        """Refuse a frame of another size than the first.

        Raises:
            InputError: with both sizes.
        """
        height, width = image.shape[:2]
        if (width, height) != self.size:
            was = f"{self.size[0]} x {self.size[1]}"
            raise InputError(
                f"frame is {width} x {height} but the video began with {was}: begin again on it, with `init` or, for "
                "several targets, a new MultiTracker"
            )

    def look(self, image: Image) -> Look:
        """The network's inputs for a frame."""
        c = self.config
        self.window = geometry.window_around(self.box, c.search_factor)
        search = _rgb(self._cut(image, self.window, c.search_size))
        new = self.memory.newest_crop
        template = np.empty((0, c.template_size, 3), np.uint8) if new is None else new
        return Look(search, template, self.memory.older(), self._trajectory(self.window))

    def elsewhere(self, image: Image) -> Image | None:
        """After `look`: another search crop for the same memory, where a target that is lost may be; mostly None."""
        if not self.seeks or self.lost_for < seek.PATIENCE:
            return None
        c = self.config
        place = None if self._places is None else next(self._places, None)
        if place is None:  # also where an exception, as of a signal, ended what made them
            box, length = self.box, statistics.median(math.sqrt(w * h) for w, h in self._held)
            side = c.search_factor * length
            # Every round is made anew: `itertools.cycle` would remember all windows of one, tens of megabytes.
            rounds = (seek.places(box, side, *self.size) for _ in itertools.repeat(None))
            self._places = itertools.chain.from_iterable(rounds)
            place = next(self._places)
        self._place = place
        return _rgb(self._cut(image, self._place, c.search_size))

    def absorb(self, image: Image, output: Output, other: Output | None = None) -> None:
        """Take in what the network said of the frame (without a batch axis): box, score, templates.

        Args:
            image: the frame.
            output: of the crop that `look` made.
            other: of the one that `elsewhere` made.
        """
        vars(self).update(vars(self.after(image, output, other)))  # in one step, which no signal divides

    def after(self, image: Image, output: Output, other: Output | None = None) -> Target:
        """The target as `absorb` would make it; this one stays as it is.

        Whatever interrupts it (Ctrl-C, a time limit, want of memory), a frame counts whole or not at all.
        """
        c = self.config
        new = self._copied()
        seen = self._seen(output, self.window, self._shapes, self.box if c.decoding == "release" else None)
        # Since it was lost the box may have become another: what comes in elsewhere has the shape of before.
        far = None if other is None else self._seen(other, self._place, self._held)
        if far is not None and far.score > max(seek.TRUST, c.lost_below, seen.score):
            seen = far
            new._jump(seen)
        else:
            new._follow(seen)
        new._remember()
        new._frame += 1
        if new.explain:
            new.insight = new._insight(image, seen.output, new.memory.views())
        if new.found or not c.withhold:
            if new.memory.newest_crop is not None:
                new.memory.settle(seen.output.tokens, seen.output.saliency)
            if new._gives():
                new.memory.add(new._template(image, crops.OWN), new._frame)
                new._given = new._frame
        return new

    def move(self, box: Box, anew: bool = False) -> None:
        """Take another box for the one of the last frame; `anew` also forgets where the target was before."""
        self.box, self.lost_for, self._places = box, 0, None
        for shapes in (self._shapes, self._held):
            shapes.clear()
            shapes.append(box[2:])
        if anew:
            self.past.clear()
        else:
            self.past.pop()
        self.past.append(box)

    @property
    def score(self) -> float:
        """Of the last frame; 1 where the box was given."""
        return self.scores[-1]

    @property
    def found(self) -> bool:
        """Whether the score says that the target is in the box."""
        return self.score >= self.config.lost_below

    def _gives(self) -> bool:
        """Whether the frame gives a template, though `update_interval` does not want one of each."""
        if self.config.templates == 1:
            return False
        return self._frame <= AT_FIRST or self.score < SURE or self._frame - self._given >= self.config.renewal

    def _copied(self) -> Target:
        """What a frame may change is a copy; crops and tokens, which are only replaced, are shared."""
        new = copy.copy(self)
        new.scores, new.past = self.scores.copy(), self.past.copy()
        new._shapes, new._held = self._shapes.copy(), self._held.copy()
        new.memory = copy.copy(self.memory)
        return new

    def _seen(
        self, output: Output, window: Window, shapes: Sequence[Sequence[float]], last: Box | None = None
    ) -> _Seen:
        """The box that the network wrote, and its score; `last` is the box of the frame before, for `from_window`."""
        box = geometry.from_window(output.box.tolist(), window, last)
        change = geometry.change_of_shape(self._clipped(box), shapes)
        return _Seen(output, window, box, change, float(vocabulary.score(output.logits, self.config, change)))

    def _follow(self, seen: _Seen) -> None:
        """Take what was seen around the last box, or a part of the way there."""
        self.scores.append(seen.score)
        self._take(seen, geometry.towards(self.box, seen.box, vocabulary.share(self.scores, self.config)))

    def _jump(self, seen: _Seen) -> None:
        """Take what was seen elsewhere, whole: half way there is nothing."""
        self.scores.append(seen.score)
        self.past.clear()
        self._shapes = deque(self._held, maxlen=COMPARED)  # of what was taken for it meanwhile none
        self._take(seen, seen.box)

    def _take(self, seen: _Seen, box: Box) -> None:
        self.window, self.change, self.box = seen.window, seen.change, self._clipped(box)
        self.past.append(self.box)
        self._shapes.append(self.box[2:])

    def _clipped(self, box: Box) -> Box:
        width, height = self.size
        return geometry.clip(box, width, height, min(self.margin, width, height))

    def _remember(self) -> None:
        if self.found:
            self.lost_for = 0
            if self.score > seek.TRUST:  # else it may soon be lost again, and the search goes on where it was
                self._places = None
            self._held.append(self.box[2:])
        else:
            self.lost_for += 1

    def _template(self, image: Image, tint: Sequence[int]) -> Image:
        c = self.config
        window = geometry.window_around(self.box, c.template_factor)
        crop = self._cut(image, window, c.template_size)
        return _rgb(crops.tint_outside(crop, window, self.box, c.template_tint, tint))

    def _cut(self, image: Image, window: Window, size: int) -> Image:
        return crops.lighten(crops.cut(image, window, size), self.config.lighten)

    def _insight(self, image: Image, output: Output, seen: tuple[TemplateView, ...]) -> Insight:
        """The frame just absorbed; the search crop is cut once more, so that nothing has to carry it."""
        c = self.config
        if self.memory.newest_crop is not None or self._decided is None:
            self._decided = most_salient(output.saliency, c.kept_tokens), output.saliency
        kept, saliency = self._decided
        read = sum(c.template_tokens if view.kept is None else len(view.kept) for view in seen)
        return Insight(
            templates=seen,
            frame=self._frame,
            settled=kept,
            saliency=saliency,
            window=self.window,
            search=_rgb(self._cut(image, self.window, c.search_size)),
            corners=tuple(output.box.tolist()),
            distributions=vocabulary.distributions(output.logits, c),
            low=c.low,
            high=c.high,
            tokens=c.tokens - c.templates * c.template_tokens + read,
            dense=c.tokens,
            lost_below=c.lost_below,
        )

    def _trajectory(self, window: Window) -> npt.NDArray[np.int64] | None:
        """Words of the past boxes in units of this search crop, oldest first; the oldest fills up at the start."""
        c = self.config
        if not c.trajectory:
            return None
        boxes = [self.past[0]] * (c.trajectory - len(self.past)) + list(self.past)
        corners = np.array([[b[0], b[1], b[0] + b[2], b[1] + b[3]] for b in boxes])
        origin = np.array([window.x, window.y, window.x, window.y])
        return vocabulary.to_words((corners - origin) / window.side, c).ravel()


def _rgb(bgr: Image) -> Image:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
