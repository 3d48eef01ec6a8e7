"""Many passes instead of one: measures with less chance in them.

In one pass through a long sequence a rounding decides once whether the target is lost for all of the rest; over
fourteen sequences that alone swings by two points of AO. No benchmark counts so: it is for comparing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fartrack.errors import InputError
from fartrack.evaluation.annotations import has_box
from fartrack.evaluation.datasets import Dataset, ImageFrames, Sequence

AT = "@"
"""Stands between a sequence's name and the frame that a pass begins with."""


def begun_anew(dataset: Dataset, frames: int) -> Dataset:
    """The same frames twice, in passes of so many that begin half of that apart, each from its own true box.

    What is left at the end of a sequence joins the last pass. A pass begins with the first frame that has a box; one
    without any is left out.

    Args:
        dataset: with public boxes.
        frames: of a pass, at least 2.

    Raises:
        InputError: too few frames, or boxes that are not public.
    """
    if frames < 2:
        raise InputError(f"passes of {frames} frames: give 2 or more")
    _refuse_hidden(dataset)
    names = []
    for name in dataset.names:
        boxes = dataset.load(name).boxes
        for first in (0, frames // 2):
            starts = range(first, max(first + 1, len(boxes) - frames // 2), frames)
            for begin, end in zip(starts, [*starts[1:], len(boxes)], strict=True):
                there = np.flatnonzero(has_box(boxes[begin:end]))
                if len(there) > 1:
                    names.append(f"{name}{AT}{begin + there[0]}-{end}")
    return _passes(dataset, f"passes-{frames}", names)


def begun_later(dataset: Dataset, starts: int) -> Dataset:
    """The same sequences, each in as many passes to its end, from the first frames that have a box.

    Args:
        dataset: with public boxes.
        starts: passes of each sequence, at least 2; fewer where it has not as many frames with boxes before its last.

    Raises:
        InputError: too few passes, or boxes that are not public.
    """
    if starts < 2:
        raise InputError(f"{starts} starts: give 2 or more")
    _refuse_hidden(dataset)
    names = []
    for name in dataset.names:
        boxes = dataset.load(name).boxes
        there = np.flatnonzero(has_box(boxes))
        names += [f"{name}{AT}{begin}-{len(boxes)}" for begin in there[:-1][:starts]]
    return _passes(dataset, f"starts-{starts}", names)


def _refuse_hidden(dataset: Dataset) -> None:
    if dataset.hidden:
        raise InputError(f"{dataset.name}: its boxes are not public, so no pass can begin with one")


def _passes(dataset: Dataset, how: str, names: list[str]) -> Dataset:
    """A data set of its own, so that results of it are not taken for those of one pass."""
    called = f"{dataset.name}-{how}"
    return replace(dataset, name=called, names=tuple(names), read=partial(_read_pass, dataset.read))


def _read_pass(read: Callable[[Path, str], Sequence], root: Path, name: str) -> Sequence:
    whole, _, span = name.rpartition(AT)
    begin, end = map(int, span.split("-"))
    s = read(root, whole)
    if not isinstance(s.frames, ImageFrames):
        raise InputError(f"{whole} is a video: passes need its frames as pictures")
    frames = replace(s.frames, names=s.frames.names[begin:end])
    return replace(s, name=name, frames=frames, boxes=s.boxes[begin:end], visible=s.visible[begin:end])
