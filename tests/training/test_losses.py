"""By hand-computed examples."""

import math

import pytest
import torch

from fartrack.config import ModelConfig
from fartrack.training import losses

CONFIG = ModelConfig(bins=5, low=0.0, high=1.0)  # words 0..4 stand for 0, 0.25, 0.5, 0.75, 1; five special ones


def box(*values):
    return torch.tensor([values], dtype=torch.float32)


@pytest.mark.parametrize(
    ("p", "g", "value"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 1, 1), (2, 2, 3, 3), 0),
        ((0, 0, 4, 1), (0, 0, 1, 1), 1 / 4),
        ((1, 1, 0, 0), (0, 0, 1, 1), 0),  # a box turned inside out
    ],
)
def test_iou(p, g, value):
    assert losses.iou(box(*p), box(*g)).item() == pytest.approx(value, abs=1e-6)


def test_siou_of_equal_boxes_is_zero():
    assert losses.siou(box(0.2, 0.2, 0.6, 0.8), box(0.2, 0.2, 0.6, 0.8)).item() == pytest.approx(0, abs=1e-5)


def test_siou_of_boxes_side_by_side():
    """Shifted along x by half a width: no angle to pay for, IoU 1/3, enclosing width 1.5 widths, equal shapes."""
    distance = 1 - math.exp(-2 * (0.5 / 1.5) ** 2)  # the angle cost is 0
    expected = 1 - 1 / 3 + distance / 2
    assert losses.siou(box(0, 0, 1, 1), box(0.5, 0, 1.5, 1)).item() == pytest.approx(expected, abs=1e-4)


def test_siou_of_a_diagonal_shift():
    """At 45 degrees the angle cost is 1, so that the exponent's factor is 2 - 1."""
    distance = 2 * (1 - math.exp(-((0.5 / 1.5) ** 2)))
    expected = 1 - 0.25 / 1.75 + distance / 2
    assert losses.siou(box(0, 0, 1, 1), box(0.5, 0.5, 1.5, 1.5)).item() == pytest.approx(expected, abs=1e-4)


def test_siou_of_another_shape():
    """Same centre, twice as wide: IoU 1/2, only the width differs."""
    expected = 1 - 0.5 + (1 - math.exp(-0.5)) ** 4 / 2
    assert losses.siou(box(-0.5, 0, 1.5, 1), box(0, 0, 1, 1)).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("p", [(0, 0, 0, 0), (0.5, 0.5, 0.5, 0.5), (1, 1, 0, 0), (5, 5, 6, 6), (0, 0, 1, 1)])
def test_siou_has_a_gradient_everywhere(p):
    prediction = box(*p).requires_grad_()
    losses.siou(prediction, box(0, 0, 1, 1)).sum().backward()
    assert torch.isfinite(prediction.grad).all()


def test_cross_entropy_of_hard_words():
    """Even logits over ten words cost ln 10; a sure right answer costs nothing."""
    truth = box(0.25, 0.5, 0.75, 1.0)
    assert losses.word_cross_entropy(torch.zeros(1, 4, 10), truth, CONFIG).item() == pytest.approx(
        math.log(10), abs=1e-5
    )
    sure = torch.full((1, 4, 10), -50.0)
    for coordinate, word in enumerate((1, 2, 3, 4)):
        sure[0, coordinate, word] = 50
    assert losses.word_cross_entropy(sure, truth, CONFIG).item() == pytest.approx(0, abs=1e-5)


def test_cross_entropy_of_soft_words_is_least_at_the_target():
    truth = box(0.5, 0.5, 0.5, 0.5)
    grid = torch.arange(10)
    best = -0.5 * (grid - 2.0).square() - 100 * (grid >= 5)
    here = losses.word_cross_entropy(best.expand(1, 4, 10), truth, CONFIG, sigma=1.0)
    p = torch.softmax(best.double(), 0)
    assert here.item() == pytest.approx(float(-(p[:5] * p[:5].log()).sum()), abs=1e-4)
    for other in (best.roll(1), 2 * best, torch.zeros(10)):
        assert losses.word_cross_entropy(other.expand(1, 4, 10), truth, CONFIG, sigma=1.0) > here


def test_narrow_words_are_hard_ones():
    """Between two words nothing was left of a narrow bell, and the loss was not a number."""
    logits, truth = torch.randn(1, 4, 10), box(0.1, 0.4, 0.6, 0.99)
    narrow = losses.word_cross_entropy(logits, truth, CONFIG, sigma=0.01)
    torch.testing.assert_close(narrow, losses.word_cross_entropy(logits, truth, CONFIG))
    at_the_end = losses.word_cross_entropy(logits, box(-1, 2, 0, 1), CONFIG, sigma=2.0)
    assert torch.isfinite(at_the_end).all()


def test_distillation_is_kl_of_the_layer_above():
    """The layer above says two words, half each; the one below all five alike. No gradient goes to the teacher."""
    logits = torch.zeros(2, 1, 4, 10)
    logits[1, ..., 0], logits[1, ..., 1], logits[1, ..., 2:5] = 0, 0, -50  # the teacher: words 0 and 1, half each
    logits.requires_grad_()
    value = losses.distillation(logits, CONFIG)
    assert value.item() == pytest.approx(math.log(0.5 / 0.2), abs=1e-4)
    value.backward()
    assert logits.grad[1].abs().sum() == 0 and logits.grad[0].abs().sum() > 0
    assert logits.grad[0, ..., 5:].abs().sum() == 0  # special words take no part


def test_cells_that_a_box_covers():
    cover = losses.inside_box(box(0.25, 0.0, 0.75, 0.5), 2).view(2, 2)
    assert torch.allclose(cover, torch.tensor([[0.5, 0.5], [0.0, 0.0]]))


def test_dense_loss_of_a_perfect_prediction():
    truth = box(0.0, 0.0, 0.5, 0.5)
    prediction = torch.zeros(1, 4, 5)
    prediction[..., 0] = torch.tensor([50.0, -50, -50, -50])
    prediction[0, 0, 1:] = torch.tensor([-0.25, -0.25, 0.25, 0.25])  # from the token's centre at 0.25
    bce, offset = losses.dense(prediction, truth, 2)
    assert bce.item() == pytest.approx(0, abs=1e-6) and offset.item() == pytest.approx(0, abs=1e-5)


def test_attention_on_the_target():
    look = torch.tensor([0.25, 0.75, 0.0, 0.0]).expand(1, 4, 4)
    inside = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert losses.attention_on_target(look, inside).item() == pytest.approx(-math.log(0.251), abs=1e-5)


def test_feature_distance_counts_only_what_is_shown():
    ours, theirs = torch.eye(2).repeat(2, 1)[:3], torch.tensor([[1.0, 0], [1, 0], [-1, 0]])
    weight = torch.tensor([1.0, 1.0, 0.0])
    assert losses.feature_distance(ours, theirs, weight).item() == pytest.approx(0.5)
    assert losses.feature_distance(ours, theirs, weight, mass=torch.tensor(4.0)).item() == pytest.approx(0.25)


def test_words_of_coordinates_outside_are_clipped():
    assert losses.coordinate_words(box(-9.0, 0.5, 0.3, 9.0), CONFIG)[0].tolist() == pytest.approx([0, 2, 1.2, 4])
