"""Whether the target is in the search crop at all: a line through the logits, fitted on clips that others interrupt.

A tracker whose newest templates show something else is as sure of its box as ever. What the commands have read tells
more: their features after the last norm, of which the logits are a linear image, so that a line through features is a
line through logits (`fartrack.vocabulary.presence`) and no engine has to give anything else.
"""

from __future__ import annotations

import base64
import itertools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from fartrack.network import FARTrack
from fartrack.step import TrackStep
from fartrack.training.clips import Clip, Tracks, begins_in_view, interrupted
from fartrack.training.logistic import fit_logistic
from fartrack.training.rollout import Tracking, overlap
from fartrack.training.scenes import Cast
from fartrack.training.synth import Sampler

Draw = Callable[[np.random.Generator], Clip]
Floats = npt.NDArray[np.float64]

TOGETHER = 16
"""Clips that are tracked side by side: their frames take megabytes."""
LENGTH = 80
"""Frames of a clip."""
EVERY = 2
"""Frames from one that is fitted on to the next; neighbours are much alike."""
RIDGE = 0.02
"""Of standardised features, for each frame: there are hundreds of them, of a few hundred clips."""

log = logging.getLogger(__name__)


def drawers(sampler: Sampler, length: int) -> list[Draw]:
    """How clips are drawn of what a sampler has: of tracks, given motion, and of scenes; none of what it has not."""
    tracks, cast = Tracks(sampler), Cast(sampler)
    kinds: list[Draw] = []
    if len(tracks):
        kinds.append(lambda rng: tracks.clip(int(rng.choice(len(tracks), p=tracks.weight)), length, rng, moved=0.8))
    if len(cast):
        kinds.append(lambda rng: cast.clip(length, rng))
    return kinds


@torch.no_grad()
def fit_presence(net: FARTrack, sampler: Sampler, clips: int, pool: ThreadPoolExecutor) -> str:
    """`score_presence` for a network's config; empty when the data has nothing that clips are made of.

    Args:
        net: cut to the depth that is read.
        sampler: of what was trained on: what is held out has too few different things.
        clips: to be tracked, every other one interrupted.
        pool: for the targets.

    Raises:
        InputError: the target was never found, or there are too few clips to tell.
    """
    kinds = drawers(sampler, LENGTH)
    if not kinds:
        return ""
    words = net.words[: net.config.coordinate_words].double().cpu().numpy()
    offset = net.word_bias[: net.config.coordinate_words].double().cpu().numpy()
    inverse = np.linalg.pinv(words - words.mean(0))  # logits less their mean -> features
    seen: list[Floats] = []
    found: list[npt.NDArray[np.bool_]] = []
    with torch.autocast(net.words.device.type, torch.bfloat16, enabled=net.words.device.type != "cpu"):
        for begin in range(0, clips, TOGETHER):
            some = [_drawn(kinds, number) for number in range(begin, min(clips, begin + TOGETHER))]
            tracking = Tracking(TrackStep(net), net.config, [clip for clip, _ in some], pool)
            for number in range(1, LENGTH):
                boxes = tracking.frame(number).boxes
                if number % EVERY:
                    continue
                overlaps = overlap(boxes, np.array([clip.boxes[number] for clip, _ in some]))
                gone = np.array([number in away for _, away in some])
                used = gone | (np.nan_to_num(overlaps) > 0.5)
                logits = tracking.logits[used, :, : net.config.coordinate_words].astype(np.float64) - offset
                features = (logits - logits.mean(-1, keepdims=True)) @ inverse.T
                seen.append(features.reshape(len(logits), features.shape[1] * features.shape[2]))
                found.append(~gone[used])
            log.info("for presence %d of %d clips are tracked", begin + len(some), clips)
    x = np.concatenate(seen)
    bias, *slopes = fit_logistic(x, np.concatenate(found), RIDGE * len(x))
    line = np.reshape(slopes, (4, -1)) @ inverse
    return encoded(np.append(line, bias - (line * offset).sum()))


def _drawn(kinds: Sequence[Draw], number: int) -> tuple[Clip, range]:
    """A clip, and the frames in which another is shown."""
    rng = np.random.default_rng([777, number])

    def one() -> Clip:
        return next(filter(begins_in_view, (kinds[int(rng.integers(len(kinds)))](rng) for _ in itertools.count())))

    clip = one()
    if number % 2:
        return clip, range(0)
    begin = int(rng.integers(LENGTH // 6, LENGTH // 2))
    away = range(begin, begin + int(rng.integers(LENGTH // 10, LENGTH // 3)))
    return interrupted(clip, one(), away), away


def encoded(numbers: Floats) -> str:
    """What `fartrack.vocabulary.presence` reads."""
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()
