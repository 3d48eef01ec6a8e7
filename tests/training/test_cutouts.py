"""Turned and bent cut-outs: what a template showed goes, the box stays true."""

import numpy as np
import pytest

from fartrack.training.cutouts import CutOut, bent, outline, turned

RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)


def striped(width, height, room=2):
    """A cut-out, red above and green below."""
    pixels = np.zeros((height + 2 * room, width + 2 * room, 4), np.uint8)
    inside = pixels[room:-room, room:-room]
    inside[..., 3] = 255
    inside[: height // 2, :, :3], inside[height // 2 :, :, :3] = RED, GREEN
    return CutOut(pixels, outline(pixels[..., 3]))


def test_a_turned_thing_shows_its_back_in_the_same_outline():
    thing = striped(40, 60)
    back = np.full((10, 10, 3), BLUE, np.uint8)
    front, side, behind, round_ = turned(thing, back, np.array([0, np.pi / 2, np.pi, 2 * np.pi]))
    for pose in (front, side, behind, round_):
        assert (pose.pixels[..., 3] == thing.pixels[..., 3]).all()
        assert (pose.outline == thing.outline).all()
    assert np.abs(front.pixels.astype(int) - thing.pixels).max() <= 1
    assert np.abs(round_.pixels.astype(int) - thing.pixels).max() <= 1
    assert (behind.pixels[5:-5, 5:-5, :3] == BLUE).all()
    blue = (side.pixels[5:-5, 2:-2, :3] == BLUE).all(-1)
    assert 0.4 < blue.mean() < 0.6
    assert blue[:, -10:].all() or blue[:, :10].all()


@pytest.mark.parametrize("size", [(20, 80), (80, 20)])
def test_a_bent_thing_stays_as_long_and_its_outline_fits(size):
    thing = striped(*size)
    straight, curled, other = bent(thing, 0.5, 0.3, np.array([0.0, 1.4, -1.4]))
    np.testing.assert_allclose(np.ptp(straight.outline, 0), size, atol=1)
    seen = (thing.pixels[..., 3] > 127).sum()
    for pose in (curled, other):
        there = pose.pixels[..., 3] > 127
        assert 0.9 < there.sum() / seen < 1.1
        rows, columns = np.nonzero(there)
        np.testing.assert_allclose(pose.outline.min(0), [columns.min(), rows.min()])
        np.testing.assert_allclose(pose.outline.max(0), [columns.max() + 1, rows.max() + 1])
        assert np.ptp(pose.outline, 0)[np.argmin(size)] > 1.4 * min(size)
        assert np.ptp(pose.outline, 0)[np.argmax(size)] < max(size) - 2


def test_a_part_of_a_bent_thing_stays_the_same_part():
    """A diver's head is where the diver's head went, not where it was in the box."""
    thing = striped(20, 80)
    for pose in [thing, *bent(thing, 0.5, 0.3, np.array([-1.2, 0.0, 1.2]))]:
        found = pose.part(np.array([0, 0]), np.array([1, 0.5]))
        x0, y0 = found.min(0).astype(int)
        x1, y1 = found.max(0).astype(int)
        inside = pose.pixels[y0:y1, x0:x1]
        red = (pose.pixels[..., 2] > 127).sum()
        assert (inside[..., 2] > 127).sum() > 0.95 * red
        assert (x1 - x0) * (y1 - y0) < 2.2 * red


def test_next_to_nothing_is_no_part():
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:4, :4] = pixels[-4:, -4:] = 255
    thing = CutOut(pixels, outline(pixels[..., 3]))
    assert thing.part(np.array([0.3, 0.3]), np.array([0.7, 0.7])) is None
