"""Clips that are moved: what is drawn stays in its box, and chance is the seed's alone."""

import cv2
import numpy as np
import pytest

from fartrack.training.motion import Motion, affine_about, draw_light, draw_motion, relit


def ellipses(count=16, width=160, height=120):
    """Frames with one bright ellipse that walks to the right, and its boxes."""
    frames, boxes = [], []
    for i in range(count):
        centre, half = (60 + 2 * i, 60), (22, 12)
        frame = np.zeros((height, width, 3), np.uint8)
        cv2.ellipse(frame, centre, half, 0, 0, 360, (200, 200, 200), -1)
        frames.append(frame)
        boxes.append([centre[0] - half[0], centre[1] - half[1], 2 * half[0], 2 * half[1]])
    return frames, np.array(boxes, float)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_go_with_what_is_shown(seed):
    """A box that lags behind its target would teach the tracker to be off."""
    frames, boxes = ellipses()
    motion = draw_motion(boxes, 160, 120, np.random.default_rng(seed))
    seen = 0
    for i, (x, y, w, h) in enumerate(motion.boxes(boxes)):
        shown = motion.show(frames[i], i)[..., 0]
        inside = x > 1 and y > 1 and x + w < 159 and y + h < 119
        if not inside:
            continue
        there = np.argwhere(shown > (int(shown.max()) + int(shown.min())) // 2)
        near = ((there > [y - 3, x - 3]) & (there < [y + h + 3, x + w + 3])).all(1)  # not its mirror image
        top, left = there[near].min(0)
        bottom, right = there[near].max(0) + 1
        np.testing.assert_allclose([left, top, right, bottom], [x, y, x + w, y + h], atol=2.5)
        seen += 1
    assert seen > 2


@pytest.mark.parametrize("angle", [0.0, 1.0, 2.0, 3.1])
def test_boxes_are_true_to_a_part_of_a_pixel_however_far_a_clip_has_rolled(angle):
    frame = np.full((200, 200, 3), 20, np.uint8)
    frame[84:116, 80:120] = 220
    box = np.array([[80.0, 84.0, 40.0, 32.0]])
    centre = box[:, :2] + box[:, 2:] / 2
    affine = affine_about(centre, centre + 3.0, np.ones(1), np.ones(1), np.array([angle]))
    motion = Motion(affine, np.array([[1.0, 1.0, 1.0, 0.0]]))
    shown = motion.show(frame, 0)[..., 0].astype(float) - 20
    y, x = np.indices(shown.shape) + 0.5
    middle = [(x * shown).sum() / shown.sum(), (y * shown).sum() / shown.sum()]
    (left, top, width, height) = motion.boxes(box)[0]
    np.testing.assert_allclose(middle, [left + width / 2, top + height / 2], atol=0.05)


def test_target_stays_in_view():
    boxes = np.tile([2.0, 2.0, 30.0, 20.0], (40, 1))
    boxes[10:20] = np.nan  # not seen for a while
    for seed in range(30):
        motion = draw_motion(boxes, 100, 80, np.random.default_rng(seed))
        moved = motion.boxes(boxes)
        assert np.isnan(moved[10:20]).all()
        assert np.isfinite(motion.affine).all()
        centre = moved[:, :2] + moved[:, 2:] / 2
        centre = centre[np.isfinite(centre).all(1)]
        assert (centre > -1e-6).all()
        assert (centre < [100 + 1e-6, 80 + 1e-6]).all()


def test_chance_is_the_seeds():
    _, boxes = ellipses()
    first, again, other = (draw_motion(boxes, 160, 120, np.random.default_rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.affine, again.affine)
    np.testing.assert_array_equal(first.light, again.light)
    assert (first.affine != other.affine).any()


def test_now_and_then_the_light_becomes_another_within_some_frames():
    """A dark room in which somebody finds the switch, a road that leaves the fog, a lamp of another colour."""
    lights = [draw_light(60, lambda: np.zeros(60), np.random.default_rng(seed)) for seed in range(300)]
    changing = [light for light in lights if np.ptp(light, 0).max() > 0.1]
    assert 0.15 < len(changing) / len(lights) < 0.4
    hazy = [light for light in changing if light[:, 3].any()]
    coloured = [light for light in changing if (light[:, 0] != light[:, 2]).any()]
    plain = [light[:, 0] for light in changing if not light[:, 3].any() and (light[:, 0] == light[:, 2]).all()]
    assert min(len(hazy), len(coloured), len(plain)) > len(changing) / 6
    assert min(light.min() for light in plain) < 0.5 and max(light.max() for light in plain) > 1.5
    assert {light[0] < light[-1] for light in plain} == {True, False}
    for light in lights:  # what is seen stays within what a picture can hold, or the target would be gone
        assert light[:, :3].min() > 0.14 and light[:, 3].min() >= 0 and light[:, 3].max() < 160


def test_relit_is_what_the_light_says():
    frame = np.arange(0, 240, 5, np.uint8).reshape(4, 4, 3)
    assert relit(frame, np.array([1.0, 1, 1, 0])) is frame
    expected = np.clip(np.rint(frame * np.array([0.5, 1.0, 2.0]) - 20), 0, 255)
    np.testing.assert_array_equal(relit(frame, np.array([0.5, 1, 2, -20])), expected)
