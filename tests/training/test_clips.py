"""Tracks as videos: to and fro, mirrored, moved; the boxes go along."""

import numpy as np
import pytest


def test_tracks_are_videos_not_cut_outs(pack, tracks):
    assert len(tracks) == 5
    clip = tracks.clip(0)
    assert len(clip.frames) == len(clip.boxes) == 5 and clip.frames[0].shape == (120, 140, 3)


def test_short_tracks_go_to_and_fro(tracks):
    clip = tracks.clip(0, 12)
    numbers = clip.frames.numbers
    assert numbers[:5] == [*numbers[8:12], numbers[4]] or numbers[5:9] == numbers[3::-1]
    assert numbers[0] == numbers[8]


def test_a_mirrored_clip_has_mirrored_boxes(tracks):
    plain = tracks.clip(0, 5)
    for seed in range(20):
        other = tracks.clip(0, 5, np.random.default_rng(seed))
        if other.frames.mirrored and other.frames.numbers == plain.frames.numbers:
            assert (other.frames[2] == plain.frames[2][:, ::-1]).all()
            x, _, w, _ = plain.boxes[2]
            assert other.boxes[2][0] == pytest.approx(140 - x - w)
            return
    raise AssertionError("no clip was mirrored")


def test_a_moved_clip_differs_and_is_its_seeds(tracks):
    plain, moved, again = (tracks.clip(0, 12, np.random.default_rng(7), share) for share in (0.0, 1.0, 1.0))
    assert plain.frames.numbers == moved.frames.numbers
    assert (moved.frames[5] != plain.frames[5]).any()
    assert (moved.frames[5] == again.frames[5]).all()
    assert np.abs(moved.boxes - plain.boxes).max() > 1
    np.testing.assert_array_equal(moved.boxes, again.boxes)
    assert (moved.frames[0] != moved.frames[8]).any()  # the same picture, gone through to and fro
