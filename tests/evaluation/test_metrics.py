"""Every measure on examples small enough to check by hand."""

import numpy as np
import pytest

from fartrack.evaluation.metrics import (
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    Rules,
    auroc,
    centre_distances,
    clip_boxes,
    expected_calibration_error,
    fill_empty,
    normalised_distances,
    precision_curve,
    reliability,
    score_sequence,
    success_curve,
    summarise,
    together,
)

NAN = [np.nan] * 4
BOX = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # half of BOX: overlap 0.5
AWAY = [100.0, 0.0, 10.0, 10.0]  # overlap 0, centre 100 px off


PLAIN = Rules()


def score(boxes, truth, rules=PLAIN, **more):
    return score_sequence("s", boxes, truth, rules, **more)


# --- pieces


def test_success_is_strictly_above():
    curve = success_curve([0.5, 0.5, 1.0, 0.0])
    assert len(curve) == len(OVERLAP_THRESHOLDS) == 21
    assert curve[0] == 0.75  # 0 is not above 0
    assert curve[9] == 0.75  # 0.45
    assert curve[10] == 0.25  # 0.5 is not above 0.5
    assert curve[20] == 0.0  # nothing is above 1


def test_a_perfect_tracker_has_20_of_21():
    """The last threshold is 1, and no overlap is above it: the best AUC is 95.2."""
    assert success_curve([1.0, 1.0]).mean() == pytest.approx(20 / 21)


def test_precision_is_at_most():
    assert precision_curve([20.0, 20.5, 3.0])[20] == pytest.approx(2 / 3)


def test_distances():
    truth = [[0, 0, 10, 20]]
    boxes = [[3, 4, 10, 20]]
    assert centre_distances(boxes, truth) == 5.0
    assert normalised_distances(boxes, truth) == pytest.approx(np.hypot(3 / 10, 4 / 20))
    assert centre_distances([[0, 0, 14, 20]], truth) == 2.0  # wider to the right: the centre moves half of it


def test_whole_pixels_fall_on_the_side_where_the_toolkits_have_them():
    """One pixel off a width of five is 0.2; whether it counts at 0.20 hangs on the order of the arithmetic."""
    truth, boxes = np.array([[3.0, 0, 5, 5], [9.0, 0, 5, 5]]), np.array([[4.0, 0, 5, 5], [10.0, 0, 5, 5]])
    centres = (boxes[:, 0] + 2) / 5 - (truth[:, 0] + 2) / 5  # 1.2 - 1 and 2.4 - 2.2
    expected = (np.abs(centres) <= NORMALISED_THRESHOLDS[20]).mean()
    assert precision_curve(normalised_distances(boxes, truth), NORMALISED_THRESHOLDS)[20] == expected


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ([10, 10, 20, 20], [10, 10, 20, 20]),
        ([90, 70, 20, 20], [90, 70, 10, 10]),
        ([-10, -10, 20, 20], [0, 0, 20, 20]),  # GOT-10k moves the corner and keeps the length
        ([200, 0, 5, 5], [100, 0, 0, 5]),
    ],
)
def test_clip(box, clipped):
    assert clip_boxes([box], (100, 80)).tolist() == [clipped]


def test_fill_empty_repeats_the_box_before():
    filled = fill_empty([BOX, [5, 5, 0, 0], [1, 1, 3, 0], HALF], [BOX] * 4)
    assert filled.tolist() == [BOX, BOX, BOX, HALF]


def test_a_tracker_that_gave_up_while_the_target_was_absent():
    """Its last good box came back with the target, more AUC on UAV123 than pytracking gives."""
    empty = [0.0] * 4
    assert fill_empty([BOX, empty, empty, HALF], [BOX, NAN, BOX, BOX]).tolist() == [BOX, empty, empty, HALF]
    assert score([BOX, empty, empty], [BOX, NAN, BOX]).pool.tolist() == [0.0]


@pytest.mark.parametrize(
    ("scores", "right", "area"),
    [
        ([0.9, 0.8, 0.2], [1, 1, 0], 1.0),
        ([0.1, 0.8, 0.2], [1, 1, 0], 0.5),  # pairs (0.1, 0.2) wrong, (0.8, 0.2) right
        ([0.5, 0.5], [1, 0], 0.5),  # a tie counts half
        ([0.5, 0.5, 0.9, 0.5], [1, 0, 1, 0], 0.75),  # of four pairs two ties and two right
    ],
)
def test_auroc(scores, right, area):
    assert auroc(scores, right) == pytest.approx(area)


def test_auroc_needs_both_kinds():
    assert np.isnan(auroc([0.1, 0.2], [1, 1]))
    assert np.isnan(auroc([0.1, 0.2], [0, 0]))


def test_reliability_and_calibration_error():
    scores, right = [0.05, 0.15, 0.95, 1.0], [0, 1, 1, 0]
    table = reliability(scores, right)
    assert table.count.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert table.score[9] == pytest.approx(0.975)
    assert table.right[9] == 0.5
    assert np.isnan(table.right[5])
    assert expected_calibration_error(scores, right) == pytest.approx((0.05 + 0.85 + 2 * 0.475) / 4)
    assert np.isnan(expected_calibration_error([], []))


@pytest.mark.parametrize("scores", [[7.5, 0.5], [-0.1, 0.5]])
def test_scores_that_are_no_chances_have_no_calibration_error(scores):
    """It was 350 %, say."""
    assert np.isnan(expected_calibration_error(scores, [1, 0]))


# --- one sequence


def test_the_first_box_was_given():
    """It counts in the curves as right whatever the file says, and is left out of AO."""
    result = score([AWAY, BOX, HALF, AWAY], [BOX] * 4)
    assert result.pool.tolist() == [1.0, 0.5, 0.0]
    assert result.ao == 0.5
    assert result.success[10] == 0.5  # frames 0 and 1 of four
    assert result.precision[20] == 0.75


def test_blank_frames_left_out():
    """Frames without a box, where the benchmark has no rule of its own (any folder, DAVIS, VOT)."""
    result = score([BOX, BOX, AWAY, BOX], [BOX, NAN, BOX, [0, 0, 0, 0]], Rules(blank_counts=False))
    assert result.blank == 2
    assert result.success[0] == 0.5
    assert result.precision[20] == 0.5


def test_blank_frames_of_otb():
    """pytracking: in the denominator, missed in overlap and distance, and passed in normalised distance."""
    result = score([BOX, BOX, BOX, BOX], [BOX, BOX, BOX, [0, 0, 0, 0]], Rules(blank_normalised=True))
    assert (result.success[0], result.precision[20], result.normalised[20]) == (0.75, 0.75, 1.0)


def test_blank_frames_of_uav123():
    """NaN frames pass both precision tests: -1 is at most 20."""
    rules = Rules(blank_distance=True, blank_normalised=True)
    result = score([BOX, AWAY, BOX, AWAY], [BOX, BOX, NAN, NAN], rules)
    assert (result.success[0], result.precision[20], result.normalised[20]) == (0.25, 0.75, 0.75)


def test_absent_frames_of_lasot():
    """A frame flagged absent fails everything, though it may have a box; a blank one that is not flagged passes one."""
    rules = Rules(blank_normalised=True, unseen_misses=True)
    truth, visible = [BOX, BOX, [0, 0, 0, 0], [0, 0, 0, 0]], [True, False, False, True]
    result = score([BOX] * 4, truth, rules, visible=visible)
    assert (result.success[0], result.precision[20], result.normalised[20]) == (0.25, 0.25, 0.5)


def test_the_rule_alone_moves_the_number():
    boxes, truth = [BOX] * 10, [BOX] * 8 + [NAN] * 2
    kept, dropped = (score(boxes, truth, Rules(blank_counts=counts)).auc for counts in (True, False))
    assert dropped == pytest.approx(kept * 10 / 8)


def test_got10k_clips_and_looks_at_cover():
    """Frame 0 is out, frame 2 is covered; in frame 1 the part outside the frame does not count against anybody."""
    truth = [BOX, [90, 0, 20, 10], BOX, BOX]
    boxes = [BOX, [90, 0, 10, 10], AWAY, HALF]
    result = score(boxes, truth, Rules(pooled=True, blank_counts=False), cover=[8, 8, 0, 8], size=(100, 80))
    assert result.pool.tolist() == [1.0, 0.5]
    assert result.frames - result.blank == 3


def test_got10k_needs_the_frame_size():
    with pytest.raises(ValueError, match="frame size"):
        score([BOX], [BOX], Rules(pooled=True))


def test_scores_are_judged_where_they_can_be_wrong():
    """Frames without any label say nothing; where the target is known to be absent, no box is right."""
    truth, visible = [BOX, BOX, NAN, [0, 0, 0, 0]], [True, True, True, False]
    result = score([BOX] * 4, truth, visible=visible, scores=[1, 0.9, 0.8, 0.1])
    assert result.scores.tolist() == [0.9, 0.1]
    assert result.right.tolist() == [True, False]


def test_length_has_to_agree():
    with pytest.raises(ValueError, match="1 boxes for 2 frames"):
        score([BOX], [BOX, BOX])


# --- data sets


def two_sequences(rules, **more):
    long = score([BOX] * 5, [BOX] * 5, rules, **more)
    short = score([BOX, AWAY], [BOX] * 2, rules, **more)
    return summarise([long, short], rules)


def test_mean_over_sequences():
    """A long sequence counts as much as a short one."""
    summary = two_sequences(Rules())
    assert (summary.ao, summary.sr50) == (0.5, 0.5)
    assert summary.auc == pytest.approx(0.75 * 20 / 21)
    assert summary.frames == 7


def test_pooled_frames():
    """GOT-10k: every frame counts the same, four right and one wrong."""
    summary = two_sequences(Rules(pooled=True, blank_counts=False), size=(200, 100))
    assert (summary.ao, summary.sr50, summary.sr75) == (0.8, 0.8, 0.8)


def test_speed_leaves_init_out():
    timed = score([BOX] * 3, [BOX] * 3, times=[5.0, 0.1, 0.3])
    untimed = score([BOX] * 3, [BOX] * 3)
    assert summarise([timed, untimed], Rules()).fps == pytest.approx(2 / 0.4)
    assert np.isnan(summarise([untimed], Rules()).fps)


def test_times_that_are_none_are_no_speed():
    """One NaN among the times took the speed, and a negative one made it another; got10k leaves both out."""
    timed = score([BOX] * 6, [BOX] * 6, times=[5.0, 0.1, np.nan, 0.3, 0.0, -1.0])
    assert summarise([timed], PLAIN).fps == pytest.approx(2 / 0.4)


def test_several_runs_through_a_sequence():
    """Who repeats runs as GOT-10k does had the numbers of the first alone; its toolkit takes all frames of all."""
    runs = [score([BOX, second], [BOX] * 2, scores=[1, 0.5], times=[1, t]) for second, t in ((BOX, 0.1), (AWAY, 0.3))]
    both = together(runs)
    assert (both.ao, both.success[0], both.precision[20]) == (0.5, 0.75, 0.75)
    assert both.scores.tolist() == [0.5, 0.5] and both.right.tolist() == [True, False]
    assert summarise([both], PLAIN).fps == pytest.approx(2 / 0.4)


def test_no_score_is_no_number():
    summary = summarise([score([BOX] * 3, [BOX] * 3)], Rules())
    assert np.isnan(summary.auroc)
    assert np.isnan(summary.calibration_error)


def test_single_frame_sequences_have_no_ao_and_break_nothing():
    single, usual = score([BOX], [BOX]), score([BOX, HALF], [BOX, BOX])
    assert summarise([single, usual], Rules()).ao == 0.5


@pytest.mark.parametrize("alone", [score([BOX], [BOX]), score([BOX] * 2, [BOX, NAN], Rules(blank_counts=False))])
def test_the_given_box_alone_says_nothing(alone):
    """Every tracker had 95 % of AUC and 100 % of P for such a sequence, and AO left it out."""
    lost = score([BOX, AWAY], [BOX] * 2)
    assert not alone.judged and lost.judged
    for summary in (summarise([alone, lost], PLAIN), summarise([lost], PLAIN)):
        assert (summary.auc, summary.precision) == (pytest.approx(0.5 * 20 / 21), 0.5)
    assert np.isnan(summarise([alone], PLAIN).auc)


def test_a_sequence_that_is_covered_throughout():
    """One such sequence of GOT-10k took AUC, P and Pnorm from the whole set."""
    rules = Rules(pooled=True, blank_counts=False)
    covered = score([BOX] * 2, [BOX] * 2, rules, cover=[0, 0], size=(100, 80))
    lost = score([BOX, AWAY], [BOX] * 2, rules, size=(200, 80))
    assert summarise([covered, lost], rules).auc == pytest.approx(0.5 * 20 / 21)
