"""What a frame changes of a target."""

import numpy as np
import pytest

from fartrack.config import ModelConfig
from fartrack.runtime import Output
from fartrack.target import COMPARED, Target
from small import SMALL, frames

START = (60.0, 40.0, 20.0, 20.0)
WARY = SMALL.replace(score_bias=6.0, score_slope=-1.0, score_shape=-3.0)


def started(config: ModelConfig) -> Target:
    image = frames(1)[0]
    target = Target(config, image, START)
    target.start(target.first_template(image), np.zeros((config.template_tokens, config.memory_width), np.float32))
    return target


def scores(target: Target, lengths: list[float]) -> np.ndarray:
    """Of frames in which the network is equally sure of boxes around the same point, of these lengths."""
    image, c, told = frames(1)[0], target.config, []
    for length in lengths:
        target.look(image)
        x, y, side = target.window
        corners = np.array([70 - length / 2 - x, 50 - length / 2 - y, 70 + length / 2 - x, 50 + length / 2 - y]) / side
        target.absorb(
            image,
            Output(
                corners.astype(np.float32),
                np.zeros((4, c.words), np.float32),
                np.ones(c.template_tokens, np.float32),
                np.zeros((c.template_tokens, c.memory_width), np.float32),
            ),
        )
        told.append(target.score)
    return np.array(told)


def test_a_box_that_changes_at_once_is_doubted_and_one_that_grows_slowly_is_not():
    """Whoever acts on the score would follow a box that slipped onto a part of the thing, or onto all around it."""
    usual = scores(started(WARY), [20] * 5)
    assert np.ptp(usual) < 1e-3 and usual[0] > 0.3
    odds = usual[-1] / (1 - usual[-1])
    slipped = scores(started(WARY), [20, 20, 40])[-1]
    assert slipped / (1 - slipped) == pytest.approx(odds / 8, rel=0.02)  # twice the length, to the third power
    assert scores(started(WARY), list(np.geomspace(20, 40, 100))).min() > slipped + 0.1
    assert scores(started(SMALL), [20, 20, 40])[-1] == pytest.approx(scores(started(SMALL), [20] * 3)[-1])


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
