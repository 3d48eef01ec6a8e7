"""The measures of the field as plain NumPy functions, and how each benchmark counts.

Boxes are N x 4 arrays of `x, y, w, h`. The numbers agree with the public toolkits to the last digit they print:
got10k's pooled AO and SR; pytracking's success AUC, precision and normalised precision. docs/benchmarks.md states the
rules in words; tests/evaluation/test_metrics.py works each of them by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fartrack.evaluation.annotations import has_area
from fartrack.geometry import iou

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

OVERLAP_THRESHOLDS: Array = np.linspace(0, 1, 21)
PIXEL_THRESHOLDS: Array = np.arange(51.0)
NORMALISED_THRESHOLDS: Array = np.arange(51) / 100
BINS = 10
"""Of scores from 0 to 1, in which they are compared with how often they are right."""
PRECISION_AT = 20  # index into both: 20 pixels, 0.20 of the target's size


@dataclass(frozen=True)
class Rules:
    """How a benchmark counts. A blank frame is one without a usable box: no numbers, no area, or target not visible.

    A blank frame never counts as overlapping. The other fields say whether it is in the denominator and whether it
    passes the two precision tests; odd as they are, published numbers were made so.
    """

    pooled: bool = False
    """GOT-10k: all frames of all sequences in one pot, boxes clipped to the frame, frames with cover 0 left out."""
    blank_counts: bool = True
    """Blank frames are in the denominator."""
    blank_distance: bool = False
    """Blank frames pass the precision test (UAV123)."""
    blank_normalised: bool = False
    """Blank frames pass the normalised precision test (pytracking, all but the next)."""
    unseen_misses: bool = False
    """Where the target is known to be absent, blank frames fail both tests (LaSOT, VastTrack)."""


# --- boxes ------------------------------------------------------------------------------------------------------------


def clip_boxes(boxes: ArrayLike, size: tuple[int, int]) -> Array:
    """Cut boxes to a frame of `size` (width, height)."""
    array, limit = np.asarray(boxes, np.float64), np.asarray(size, np.float64)
    low = np.clip(array[..., :2], 0, limit)
    # The corner is moved before the side is cut, so a box that begins outside keeps its length: GOT-10k's rule.
    return np.concatenate([low, np.clip(array[..., 2:], 0, limit - low)], -1)


def centre_distances(boxes: ArrayLike, truth: ArrayLike) -> Array:
    """Pixels between the centres."""
    return np.sqrt(((_centres(boxes) - _centres(truth)) ** 2).sum(-1))


def normalised_distances(boxes: ArrayLike, truth: ArrayLike) -> Array:
    """Distance of the centres with x in widths and y in heights of the true box."""
    size = np.asarray(truth, np.float64)[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Divided first, then subtracted: with whole-pixel boxes many distances are 0.20 to the last bit but one, and
        # this order puts them on the side of the threshold where the toolkits have them.
        return np.sqrt(((_centres(boxes) / size - _centres(truth) / size) ** 2).sum(-1))


def _centres(boxes: ArrayLike) -> Array:
    """Centres of the pixels that boxes cover: half a pixel less than those of their areas."""
    array = np.asarray(boxes, np.float64)
    return array[..., :2] + 0.5 * (array[..., 2:] - 1)


def fill_empty(boxes: ArrayLike, truth: ArrayLike) -> Array:
    """Replace boxes without area by the one before, as pytracking does with a tracker that gave up.

    Where the annotation is NaN it leaves them, so one from before the target's return is what is repeated after it.
    """
    filled, absent = np.array(boxes, np.float64), np.isnan(np.asarray(truth)).any(1)
    for index in range(1, len(filled)):
        if (filled[index, 2:] <= 0).any() and not absent[index]:
            filled[index] = filled[index - 1]
    return filled


# --- curves -----------------------------------------------------------------------------------------------------------


def success_curve(overlaps: ArrayLike) -> Array:
    """Share of frames whose overlap is strictly above each of `OVERLAP_THRESHOLDS`; NaN without frames."""
    return _shares(np.asarray(overlaps)[:, None] > OVERLAP_THRESHOLDS)


def precision_curve(distances: ArrayLike, thresholds: ArrayLike = PIXEL_THRESHOLDS) -> Array:
    """Share of frames whose distance is at most each threshold; NaN without frames."""
    return _shares(np.asarray(distances)[:, None] <= np.asarray(thresholds))


def _shares(passed: Flags) -> Array:
    return passed.mean(0) if len(passed) else np.full(passed.shape[1], np.nan)


def auroc(scores: ArrayLike, right: ArrayLike) -> float:
    """Chance that a right frame scores higher than a wrong one (ties count half); NaN when one kind is missing."""
    values, labels = np.asarray(scores, np.float64), np.asarray(right, bool)
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mean rank of equal values, from 1
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


@dataclass(frozen=True)
class Reliability:
    """What a score is worth, in equal bins of it: NaN where a bin is empty."""

    edges: Array
    score: Array
    right: Array
    count: NDArray[np.int64]


def reliability(scores: ArrayLike, right: ArrayLike) -> Reliability:
    """Mean score and share of right frames in each of `BINS` equal bins of 0..1 (1 belongs to the last)."""
    values, labels = np.asarray(scores, np.float64), np.asarray(right, np.float64)
    index = np.clip((values * BINS).astype(int), 0, BINS - 1)
    count = np.bincount(index, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(index, values, BINS) / count
        share = np.bincount(index, labels, BINS) / count
    return Reliability(np.linspace(0, 1, BINS + 1), mean, share, count)


def expected_calibration_error(scores: ArrayLike, right: ArrayLike) -> float:
    """Mean distance between score and share of right frames over the bins, weighted by frames.

    NaN without frames, and of scores that are not in 0..1: they rank frames but are no chances.
    """
    values = np.asarray(scores, np.float64)
    if not len(values) or values.min() < 0 or values.max() > 1:
        return float("nan")
    table = reliability(values, right)
    used = table.count > 0
    return float(np.average(np.abs(table.score - table.right)[used], weights=table.count[used]))


# --- one sequence, one data set ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SequenceScore:
    """One tracker on one sequence. Curves and means follow the benchmark's rules; the arrays are per frame.

    The curves are NaN where no frame after the first counts: that one's box was given.
    """

    name: str
    frames: int
    blank: int  # frames without a usable box
    overlaps: Array  # NaN in blank frames
    pool: Array  # overlaps that AO and SR are made of
    success: Array  # 21 values
    precision: Array  # 51 values
    normalised: Array  # 51 values
    scores: Array  # the tracker's own score of the judged frames; empty when it has none
    right: Flags  # of the same frames: overlap above 0.5
    seconds: float  # of all timed updates; NaN when there are none
    updates: int  # those that were timed
    repetitions: int = 1

    @property
    def ao(self) -> float:
        """Mean overlap without the first frame."""
        return float(self.pool.mean()) if len(self.pool) else float("nan")

    @property
    def auc(self) -> float:
        """Mean of the success curve."""
        return float(self.success.mean())

    @property
    def judged(self) -> bool:
        """Whether any frame after the first counts in the curves."""
        return bool(np.isfinite(self.success).all())


def score_sequence(
    name: str,
    boxes: ArrayLike,
    truth: ArrayLike,
    rules: Rules,
    *,
    visible: ArrayLike | None = None,
    cover: ArrayLike | None = None,
    size: tuple[int, int] | None = None,
    scores: ArrayLike | None = None,
    times: ArrayLike | None = None,
) -> SequenceScore:
    """Score a tracker's boxes against the true ones, N x 4 each.

    `visible` and `cover` are the annotation's flags; `size` (width, height) is needed where rules are pooled.
    `scores` and `times` (seconds) are the tracker's own, one a frame; a time that is not above 0 is none.
    """
    true = np.asarray(truth, np.float64)
    seen = np.ones(len(true), bool) if visible is None else np.asarray(visible, bool)
    covered = np.ones(len(true), bool) if cover is None else np.asarray(cover) > 0
    if np.shape(boxes) != true.shape:
        raise ValueError(f"{name}: {len(np.asarray(boxes))} boxes for {len(true)} frames")
    predicted = fill_empty(boxes, true)
    predicted[0] = true[0]  # the first box was given
    usable = has_area(true) & seen & covered
    overlap = np.where(usable, iou(predicted, true), np.nan)

    distance = np.where(usable, centre_distances(predicted, true), -1.0 if rules.blank_distance else np.inf)
    normalised = np.where(usable, normalised_distances(predicted, true), -1.0 if rules.blank_normalised else np.inf)
    if rules.unseen_misses:
        distance[~seen] = normalised[~seen] = np.inf
    counted = np.ones(len(true), bool) if rules.blank_counts else usable
    counted = counted & counted[1:].any()  # the first box was given: alone it says nothing

    if rules.pooled:
        if size is None:
            raise ValueError(f"{name}: the frame size is needed to clip boxes")
        # GOT-10k looks at cover alone and at the boxes as they are, also at a true box without area.
        judged = covered[1:] & np.isfinite(true[1:]).all(1)
        pool = iou(clip_boxes(np.asarray(boxes, np.float64)[1:], size), clip_boxes(true[1:], size))[judged]
    else:
        pool = overlap[1:][usable[1:]]

    # The score is judged wherever it can be right or wrong: frames with a box, and frames known to be without target,
    # where no box is right. Frames that nobody labelled say nothing.
    rated = (usable | ~seen | ~covered)[1:]
    own = np.empty(0) if scores is None else np.asarray(scores, np.float64)[1:][rated]
    spent = np.empty(0) if times is None else np.asarray(times, np.float64)[1:]
    spent = spent[np.isfinite(spent) & (spent > 0)]
    return SequenceScore(
        name=name,
        frames=len(true),
        blank=int((~usable).sum()),
        overlaps=overlap,
        pool=pool,
        success=success_curve(np.nan_to_num(overlap, nan=-1.0)[counted]),
        precision=precision_curve(distance[counted]),
        normalised=precision_curve(normalised[counted], NORMALISED_THRESHOLDS),
        scores=own,
        right=(np.nan_to_num(overlap, nan=-1.0) > 0.5)[1:][rated] if scores is not None else np.empty(0, bool),
        seconds=float(spent.sum()) if len(spent) else float("nan"),
        updates=len(spent),
    )


def together(repetitions: Sequence[SequenceScore]) -> SequenceScore:
    """One score of several runs through a sequence: every frame of each counts alike, as in GOT-10k's toolkit.

    `overlaps`, of which failures are shown, stay those of the first.
    """

    def mean(curve: str) -> Array:
        return np.asarray(np.mean([getattr(score, curve) for score in repetitions], 0))

    timed = [score for score in repetitions if score.updates]
    return replace(
        repetitions[0],
        pool=np.concatenate([score.pool for score in repetitions]),
        success=mean("success"),
        precision=mean("precision"),
        normalised=mean("normalised"),
        scores=np.concatenate([score.scores for score in repetitions]),
        right=np.concatenate([score.right for score in repetitions]),
        seconds=sum(score.seconds for score in timed) if timed else float("nan"),
        updates=sum(score.updates for score in timed),
        repetitions=len(repetitions),
    )


@dataclass(frozen=True)
class Summary:
    """One tracker on one data set: shares 0..1, NaN where there is nothing to count."""

    sequences: int
    frames: int
    blank: int
    ao: float
    sr50: float
    sr75: float
    auc: float
    precision: float
    normalised: float
    normalised_auc: float  # mean over the 51 thresholds, the number TrackingNet's server gives
    auroc: float
    calibration_error: float
    fps: float
    success_curve: Array
    precision_curve: Array
    normalised_curve: Array


def summarise(results: Sequence[SequenceScore], rules: Rules) -> Summary:
    """Average over sequences, or over all frames in one pot where the benchmark does so."""
    if not results:
        raise ValueError("no sequence to summarise")
    judged = [result for result in results if result.judged] or results
    success, precision, normalised = (
        np.mean([getattr(result, curve) for result in judged], 0) for curve in ("success", "precision", "normalised")
    )
    pools = [result.pool for result in results if len(result.pool)]
    if rules.pooled:
        pools = [np.concatenate(pools)] if pools else []
    rated = [result for result in results if len(result.scores)]
    scores = np.concatenate([result.scores for result in rated]) if rated else np.empty(0)
    right = np.concatenate([result.right for result in rated]) if rated else np.empty(0, bool)
    timed = [result for result in results if result.updates]
    seconds = sum(result.seconds for result in timed)

    def over_pools(measure: Array | list[float]) -> float:
        return float(np.mean(measure)) if len(measure) else float("nan")

    return Summary(
        sequences=len(results),
        frames=sum(result.frames for result in results),
        blank=sum(result.blank for result in results),
        ao=over_pools([float(pool.mean()) for pool in pools]),
        sr50=over_pools([float((pool > 0.5).mean()) for pool in pools]),
        sr75=over_pools([float((pool > 0.75).mean()) for pool in pools]),
        auc=float(success.mean()),
        precision=float(precision[PRECISION_AT]),
        normalised=float(normalised[PRECISION_AT]),
        normalised_auc=float(normalised.mean()),
        auroc=auroc(scores, right) if len(scores) else float("nan"),
        calibration_error=expected_calibration_error(scores, right),
        fps=sum(result.updates for result in timed) / seconds if seconds else float("nan"),
        success_curve=success,
        precision_curve=precision,
        normalised_curve=normalised,
    )
