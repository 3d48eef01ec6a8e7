"""Coordinates as words, and back."""

import numpy as np
import pytest

from fartrack import vocabulary
from fartrack.config import RELEASE, ModelConfig

PAPER = ModelConfig()
RELEASED = ModelConfig(**RELEASE)


@pytest.mark.parametrize(
    ("coordinate", "word"),
    [(-0.5, 0), (0.0, 150), (0.5, 299), (1.5, 598), (-3.0, 0), (9.0, 599)],  # (c + 0.5) * 299, clipped
)
def test_words_of_coordinates(coordinate, word):
    assert vocabulary.to_words(coordinate, PAPER) == word


def test_round_trip_within_half_a_word():
    c = np.random.default_rng(0).uniform(-0.5, 1.5, 1000)
    back = vocabulary.to_coordinates(vocabulary.to_words(c, PAPER), PAPER)
    assert np.abs(back - c).max() <= 0.5 / 299 + 1e-6


def peaked(words, height=60.0):
    logits = np.zeros((4, 605), np.float32)
    logits[np.arange(4), words] = height
    return logits


def test_distributions_are_over_coordinate_words_only():
    logits = peaked([600, 601, 602, 604])
    p = vocabulary.distributions(logits, PAPER)
    assert p.shape == (4, 600)
    np.testing.assert_allclose(p, 1 / 600, rtol=1e-5)


def test_entropy_from_certain_to_clueless():
    assert vocabulary.entropy(peaked([1, 2, 3, 4]), PAPER) == pytest.approx(0, abs=1e-4)
    assert vocabulary.entropy(np.zeros((4, 605), np.float32), PAPER) == pytest.approx(np.log(600), rel=1e-5)
    assert vocabulary.entropy(1e4 * peaked([1, 2, 3, 4]), PAPER) == pytest.approx(0, abs=1e-4)  # no overflow


def test_score_falls_with_entropy_and_stays_between_0_and_1():
    sharpness = np.array([60, 12, 8, 6, 3, 0], np.float32)
    scores = vocabulary.score(np.stack([peaked([9] * 4, s) for s in sharpness]), PAPER)
    assert ((scores > 0) & (scores < 1)).all()
    assert (np.diff(scores) < 0).all()


def test_score_falls_where_the_shape_changes_if_the_model_says_so():
    """A tracker that slips is as sure of itself as one that does not: its box gives it away."""
    logits = peaked([9] * 4, 8)
    plain, wary = PAPER.replace(score_bias=1.0), PAPER.replace(score_bias=1.0, score_shape=-2.0)
    still = vocabulary.score(logits, plain)
    assert vocabulary.score(logits, plain, 1.0) == still == vocabulary.score(logits, wary)
    odds = [s / (1 - s) for s in (still, vocabulary.score(logits, wary, 0.5))]
    assert odds[0] / odds[1] == pytest.approx(np.e, rel=1e-5)


torch = pytest.importorskip("torch")


def decode(logits, config):
    from fartrack.network import decode

    return decode(torch.from_numpy(logits), config).numpy()


def test_paper_decodes_a_certain_word_to_its_own_coordinate():
    words = [0, 150, 299, 598]
    np.testing.assert_allclose(decode(peaked(words), PAPER), vocabulary.to_coordinates(words, PAPER), atol=1e-5)


def test_release_adds_half_a_word_to_one_and_uses_another_grid_for_the_other():
    words = np.array([0, 150, 299, 598])
    expected = ((words + 0.5) / 299 - 0.5 + words / 300 - 0.5) / 2
    np.testing.assert_allclose(decode(peaked(words), RELEASED), expected, atol=1e-5)


def test_special_words_win_in_the_release_only():
    logits = np.zeros((4, 605), np.float32)
    logits[:, 300] = 30
    logits[:, 604] = 40
    best = (604.5 / 299 - 0.5 + 0.5) / 2
    np.testing.assert_allclose(decode(logits, RELEASED), best, atol=1e-5)
    np.testing.assert_allclose(decode(logits, PAPER), 300 / 299 - 0.5, atol=1e-5)


def test_two_equal_peaks_are_decoded_to_their_mean_and_the_first():
    logits = peaked([100] * 4)
    logits[:, 300] = 60
    expected = ((100 / 299 - 0.5) + (200 / 299 - 0.5)) / 2
    np.testing.assert_allclose(decode(logits, PAPER), expected, atol=1e-5)


def test_decoding_agrees_with_the_second_implementation():
    from parity import reference

    logits = np.random.default_rng(0).normal(0, 3, (4, 605)).astype(np.float32)
    np.testing.assert_allclose(decode(logits, RELEASED), reference.decoded(logits), atol=1e-6)
