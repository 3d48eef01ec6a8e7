"""Scenes: the target is where its box says, whatever is done to it, and chance is the seed's alone."""

import numpy as np
import pytest
import torch

from fartrack.training import scenes
from fartrack.training.motion import affine_about
from fartrack.training.scenes import Cast
from fartrack.training.synth import Sampler


@pytest.fixture
def cast(pack):
    return Cast(Sampler(pack, held_out=0))


def test_cast_has_masks_only(pack, cast):
    masks = pack.objects.mask
    assert len(cast)
    assert all(bool((masks[rows] > 0).all()) for rows in cast.rows)


@pytest.mark.parametrize("seed", range(2, 10))
def test_target_fills_its_box(cast, seed, monkeypatch):
    """A box that is off or loose would teach the tracker so, which the scenes are there to mend."""
    monkeypatch.setattr(scenes, "PART_SHARE", 0.0)
    monkeypatch.setattr(scenes, "LOOSE_SHARE", 0.0)
    scene = cast.clip(24, np.random.default_rng(seed)).frames.scene
    boxes = cast.clip(24, np.random.default_rng(seed)).boxes
    # The target is the actor whose boxes they are.
    target = next(a for a in scene.actors if np.allclose(a.box(3), boxes[3]))
    compared = 0
    for number, (x, y, w, h) in enumerate(boxes):
        inside = x > 2 and y > 2 and x + w < scene.size[0] - 2 and y + h < scene.size[1] - 2
        if not inside:
            continue
        black, white = (np.full((scene.size[1], scene.size[0], 3), level, np.uint8) for level in (0, 255))
        target.show(black, number, 0.0)
        target.show(white, number, 0.0)
        hidden = white.astype(int).min(2) - black.min(2)  # 255 where neither ground is covered
        rows, columns = np.nonzero(hidden < 128)
        shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(shown, [x, y, x + w, y + h], atol=2)
        compared += 1
    assert compared


def test_frames_are_pictures_of_one_size_and_the_seeds(cast):
    clip, again, other = (cast.clip(12, np.random.default_rng(s)) for s in (3, 3, 4))
    assert len(clip.frames) == len(clip.boxes) == 12
    sizes = {clip.frames[i].shape for i in range(12)}
    assert len(sizes) == 1
    assert clip.frames[5].dtype == np.uint8
    assert (clip.frames[5] == again.frames[5]).all()
    assert (clip.boxes == again.boxes).all()
    assert clip.frames[5].shape != other.frames[5].shape or (clip.frames[5] != other.frames[5]).any()
    assert (clip.frames[0] != clip.frames[11]).any()


def test_the_first_box_says_what_of_an_actor_is_meant(cast, monkeypatch):
    """A part stays the same part, however the actor moves; or a head's box would become the person's."""
    monkeypatch.setattr(scenes, "LOOSE_SHARE", 0.0)
    parts = 0
    for seed in range(12):
        monkeypatch.setattr(scenes, "PART_SHARE", 0.0)
        whole = cast.clip(24, np.random.default_rng(seed)).boxes
        monkeypatch.setattr(scenes, "PART_SHARE", 1.0)
        part = cast.clip(24, np.random.default_rng(seed)).boxes
        assert (part[:, :2] >= whole[:, :2] - 1e-6).all()
        assert (part[:, :2] + part[:, 2:] <= whole[:, :2] + whole[:, 2:] + 1e-6).all()
        share = part[:, 2:].prod(1) / whole[:, 2:].prod(1)
        parts += bool(share.max() < 0.9)
    assert parts > 6


def test_a_loose_box_stays_as_loose(cast, monkeypatch):
    monkeypatch.setattr(scenes, "PART_SHARE", 0.0)
    monkeypatch.setattr(scenes, "ROLL_SHARE", 0.0)
    monkeypatch.setattr(scenes, "SWAY", 0.0)
    monkeypatch.setattr(scenes, "SLANT", 0.0)
    for seed in range(6):
        monkeypatch.setattr(scenes, "LOOSE_SHARE", 0.0)
        tight = cast.clip(24, np.random.default_rng(seed)).boxes
        monkeypatch.setattr(scenes, "LOOSE_SHARE", 1.0)
        loose = cast.clip(24, np.random.default_rng(seed)).boxes
        ratio = loose[:, 2:] / tight[:, 2:]
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-6)
        assert np.abs(np.log(ratio[0])).max() > 0.02


def test_target_stays_within_reach(cast):
    """A target that is gone for good teaches nothing; one that leaves a little does."""
    for seed in range(12):
        clip = cast.clip(60, np.random.default_rng(seed))
        width, height = clip.frames.scene.size
        centre = clip.boxes[:, :2] + clip.boxes[:, 2:] / 2
        assert (centre > 0).all()
        assert (centre < [width, height]).all()
        assert (clip.boxes[:, 2:] > 1).all()


def test_blur_follows_the_way():
    assert scenes._line(np.array([0.3, 0.1])).size == 1
    line = scenes._line(np.array([8.0, 0.0]))
    assert line.sum() == pytest.approx(1)
    assert (line.sum(1) > 0).sum() == 1
    assert (line.sum(0) > 0).sum() == 9


def test_what_turns_about_its_middle_is_not_blurred(cast):
    actor = cast._actor(0, 40.0, (160, 120), np.tile(np.eye(2, 3), (4, 1, 1)), np.random.default_rng(0))
    poses, still = actor.poses[:1], np.zeros(2, int)
    middle = np.tile([80.0, 60.0], (2, 1))
    turns = affine_about(poses[0].middle, middle, np.ones(2), np.ones(2), np.array([0.0, 0.5]))
    turning = scenes.Actor(poses, still, turns)
    sharp, blurred = (np.zeros((120, 160, 3), np.uint8) for _ in range(2))
    turning.show(sharp, 1, 0.0)
    turning.show(blurred, 1, 0.6)
    assert sharp.any() and (sharp == blurred).all()


def test_an_actor_is_as_long_as_its_mask_says(pack, cast):
    """Boxes may be drawn around what is hidden too: actors would be too small, or many times too large."""
    rows, boxes = next(rows for rows in cast.rows if len(rows) == 1), pack.objects.box.clone()
    try:
        for factor in (0.2, 1, 5):
            pack.objects.box[rows] = boxes[rows] * torch.tensor([1, 1, factor, factor])
            (pose,) = cast._poses(rows, 60.0, np.random.default_rng(0))
            assert np.ptp(pose.outline, 0).prod() ** 0.5 == pytest.approx(60, rel=0.05)
    finally:
        pack.objects.box[:] = boxes


def test_a_darker_actor_is_dark(cast):
    """What fell below black came back as gray."""
    row = next(rows[0] for rows in cast.rows if len(rows) == 1)
    dark = [cast._cut_out(row, 1.0, 1.0, level).pixels.astype(int) for level in (0.0, -40.0)]
    whole = (dark[0][..., 3:] == 255) & (dark[1][..., 3:] == 255)
    assert (whole & (dark[0][..., :3] < 40)).any()
    np.testing.assert_array_equal((dark[1] * whole)[..., :3], (np.maximum(dark[0] - 40, 0) * whole)[..., :3])


def test_an_object_that_its_mask_forgot_is_its_box(pack, cast):
    """One wrong label in a data set must not stop a run."""
    row = next(rows[0] for rows in cast.rows if len(rows) == 1)
    label = int(pack.objects.mask[row])
    pack.objects.mask[row] = 200
    try:
        sides = np.ptp(cast._cut_out(row, 1.0, 1.0, 0.0).outline, 0)
    finally:
        pack.objects.mask[row] = label
    np.testing.assert_allclose(sides, pack.objects.box[row, 2:], atol=2)
