"""Many passes instead of one: measures with less chance in them.

In one pass through a long sequence a rounding decides once whether the target is lost for all of the rest; over
fourteen sequences that alone swings by two points of AO. No benchmark counts so: it is for comparing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fartrack.errors import InputError
from fartrack.evaluation.sequences import Dataset, ImageFrames, Sequence

Mask = NDArray[np.bool_]

AT = "@"
"""Stands between a sequence's name and the frame that a pass begins with."""


def begun_anew(dataset: Dataset, frames: int) -> Dataset:
    """The same frames in passes of so many that begin half of that apart, each from its own true box.

    Every frame is in two of them, but for the first half of the first pass, which is in that alone.
    What is left at the end of a sequence joins the last pass. A pass begins with the first frame that shows the target
    in a box; one without any is left out.

    Args:
        dataset: with public boxes.
        frames: of a pass, at least 2.

    Raises:
        InputError: too few frames, or boxes that are not public.
    """
    if frames < 2:
        raise InputError(f"passes of {frames} frames: give 2 or more")

    def spans(seen: Mask) -> Iterator[tuple[int, int]]:
        for first in (0, frames // 2):
            starts = range(first, max(first + 1, len(seen) - frames // 2), frames)
            for begin, end in zip(starts, [*starts[1:], len(seen)], strict=True):
                there = np.flatnonzero(seen[begin:end])
                if len(there) > 1:
                    yield begin + int(there[0]), end

    return _passes(dataset, f"passes-{frames}", spans)


def begun_later(dataset: Dataset, starts: int) -> Dataset:
    """The same sequences, each in as many passes to its end, from the first frames that show the target in a box.

    Args:
        dataset: with public boxes.
        starts: passes of each sequence, at least 2; fewer where it has not as many such frames before its last.

    Raises:
        InputError: too few passes, or boxes that are not public.
    """
    if starts < 2:
        raise InputError(f"{starts} starts: give 2 or more")

    def spans(seen: Mask) -> Iterator[tuple[int, int]]:
        for begin in np.flatnonzero(seen)[:-1][:starts]:
            yield int(begin), len(seen)

    return _passes(dataset, f"starts-{starts}", spans)


def _passes(dataset: Dataset, how: str, spans: Callable[[Mask], Iterator[tuple[int, int]]]) -> Dataset:
    """A data set of its own, so that results of it are not taken for those of one pass.

    `spans` gives the first frame of each pass through a sequence, and the one after its last, from which of its frames
    show the target in a box.
    """
    if dataset.hidden:
        raise InputError(f"{dataset.name}: its boxes are not public, so no pass can begin with one")
    dataset = dataset.read_once()  # not once more for each pass
    names: list[str] = []
    whole: set[str] = set()
    for name in dataset.names:
        try:
            s = _in_pictures(dataset.load(name))
        except InputError:  # it stays under its own name, so that it fails alone when its turn comes, and once
            whole.add(name)
            names.append(name)
            continue
        # Where the target is hidden at the seams, two passes begin with the same frame: they are one.
        names += dict.fromkeys(f"{name}{AT}{begin}-{end}" for begin, end in spans(s.shown))
    read = partial(_read_pass, dataset.read, frozenset(whole))
    # No published number is of passes, so that nothing is said of sequences that are not there.
    return replace(dataset, name=f"{dataset.name}-{how}", names=tuple(names), read=read, missing=(), whole=0)


def _in_pictures(s: Sequence) -> Sequence:
    """The sequence, unless it is a video: each pass would have to be decoded from its start."""
    if isinstance(s.frames, ImageFrames):
        return s
    raise InputError(
        f"{s.name} is a video, and passes need its frames as pictures: extract them into img/0001.jpg and so on"
    )


def _read_pass(read: Callable[[Path, str], Sequence], whole: frozenset[str], root: Path, name: str) -> Sequence:
    if name in whole:
        return _in_pictures(read(root, name))
    of, _, span = name.rpartition(AT)
    begin, end = map(int, span.split("-"))
    s = read(root, of)
    assert isinstance(s.frames, ImageFrames)
    frames = replace(s.frames, names=s.frames.names[begin:end])
    cover = None if s.cover is None else s.cover[begin:end]
    return replace(s, name=name, frames=frames, boxes=s.boxes[begin:end], visible=s.visible[begin:end], cover=cover)
