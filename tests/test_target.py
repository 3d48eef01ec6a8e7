"""What a frame changes of a target."""

import numpy as np
import pytest

from fartrack import seek
from fartrack.config import ModelConfig
from fartrack.geometry import Box, Window
from fartrack.runtime import Output
from fartrack.target import COMPARED, Target
from small import SMALL, frames

START = (60.0, 40.0, 20.0, 20.0)
WARY = SMALL.replace(score_bias=6.0, score_slope=-1.0, score_shape=-3.0)


def started(config: ModelConfig, box: Box = START) -> Target:
    image = frames(1)[0]
    target = Target(config, image, box)
    target.start(target.first_template(image), np.zeros((config.template_tokens, config.memory_width), np.float32))
    return target


def told(target: Target, window: Window, length: float, peak: float = 0.0) -> Output:
    """A box of this length around the point (70, 50); how far its words stand out of the others says how sure it is."""
    c, (x, y, side) = target.config, window
    logits = np.zeros((4, c.words), np.float32)
    logits[:, 0] = peak
    low, high = (np.array([70 - x, 50 - y]) + half for half in (-length / 2, length / 2))
    tokens = np.zeros((c.template_tokens, c.memory_width), np.float32)
    corners = (np.concatenate([low, high]) / side).astype(np.float32)
    return Output(corners, logits, np.ones(c.template_tokens, np.float32), tokens)


def scores(target: Target, lengths: list[float], peak: float = 0.0) -> np.ndarray:
    """Of frames in which the network is equally sure of boxes around the same point, of these lengths."""
    image, given = frames(1)[0], []
    for length in lengths:
        target.look(image)
        target.absorb(image, told(target, target.window, length, peak))
        given.append(target.score)
    return np.array(given)


def test_a_box_that_changes_at_once_is_doubted_and_one_that_grows_slowly_is_not():
    """Whoever acts on the score would follow a box that slipped onto a part of the thing, or onto all around it."""
    usual = scores(started(WARY), [20] * 5)
    assert np.ptp(usual) < 1e-3 and usual[0] > 0.3
    odds = usual[-1] / (1 - usual[-1])
    slipped = scores(started(WARY), [20, 20, 40])[-1]
    assert slipped / (1 - slipped) == pytest.approx(odds / 8, rel=0.02)  # twice the length, to the third power
    assert scores(started(WARY), list(np.geomspace(20, 40, 100))).min() > slipped + 0.1
    assert scores(started(SMALL), [20, 20, 40])[-1] == pytest.approx(scores(started(SMALL), [20] * 3)[-1])


def test_a_ball_of_a_few_pixels_has_a_box_of_a_few_pixels():
    """A box of ten around it is off centre and overlaps it by a quarter, whatever score is told with it."""
    image, target = frames(1)[0], started(SMALL, (67.0, 47.0, 6.0, 5.0))
    target.look(image)
    target.absorb(image, told(target, target.window, 6))
    assert target.box == pytest.approx((67, 47, 6, 6), abs=1e-3)
    for box, decoding in ((START, "paper"), ((67.0, 47.0, 6.0, 5.0), "release")):  # as trackers of the field have it
        target = started(SMALL.replace(decoding=decoding), box)
        target.look(image)
        target.absorb(image, told(target, target.window, 6))
        assert target.box[2:] == (10, 10)


def test_a_new_shape_becomes_the_usual_one():
    """A thing that was turned, or a cut to a nearer view, must not be called lost for good."""
    target = started(WARY)
    before = scores(target, [20] * COMPARED)[-1]
    after = scores(target, [40] * COMPARED)
    assert after[0] < before - 0.1 and after[-1] == pytest.approx(before, abs=1e-3)


def test_a_box_given_by_hand_has_the_right_shape():
    target = started(WARY)
    usual = scores(target, [20] * COMPARED)[-1]
    target.move((50.0, 30.0, 40.0, 40.0))
    assert scores(target, [40])[0] == pytest.approx(usual, abs=1e-3)
    target.seeks, target.lost_for = True, seek.PATIENCE
    target.elsewhere(frames(1)[0])
    assert target._place.side == 40 * WARY.search_factor  # what is looked for has it too


def test_what_comes_in_elsewhere_is_compared_with_the_shape_before_it_was_lost():
    """Then and from there on: what was taken for it meanwhile called it lost again for half a second."""
    image, target = frames(1)[0], started(WARY.replace(score_bias=4.0))
    usual = scores(target, [20] * COMPARED, peak=9)[-1]
    target.seeks = True
    assert max(scores(target, [40] * COMPARED)) < WARY.lost_below
    for length, jumps in ((40, False), (20, True)):
        target.look(image)
        assert target.elsewhere(image) is not None
        target.absorb(image, told(target, target.window, 40), told(target, target._place, length, peak=9))
        assert (target.window == target._place) is jumps
    assert target.score == pytest.approx(usual, abs=1e-3)
    assert scores(target, [20], peak=9)[0] == pytest.approx(usual, abs=1e-3)
