import numpy as np
import pytest
import torch

from fartrack import vocabulary
from fartrack.errors import InputError
from fartrack.network import FARTrack
from fartrack.training import presence
from fartrack.training.clips import Clip, interrupted
from fartrack.training.presence import fit_presence
from fartrack.training.synth import Sampler


def frames(value, height, width, count=6):
    return [np.full((height, width, 3), value + i, np.uint8) for i in range(count)]


def test_an_interrupted_clip_shows_another_and_has_no_box_there():
    boxes = np.full((6, 4), 5.0)
    clip = interrupted(Clip(frames(0, 20, 30), boxes, 7), Clip(frames(100, 40, 40), boxes), range(2, 4))
    assert [int(clip.frames[i][0, 0, 0]) for i in range(len(clip.frames))] == [0, 1, 102, 103, 4, 5]
    assert {clip.frames[i].shape for i in range(6)} == {(20, 30, 3)}
    assert np.isnan(clip.boxes).all(1).tolist() == [False, False, True, True, False, False]
    assert np.isfinite(boxes).all() and clip.seed == 7


def test_the_line_tells_frames_with_the_target_from_those_of_another_clip(pack, config, monkeypatch):
    """Whatever the network is sure of: here one number of what its third command has read is other when it is gone."""
    torch.manual_seed(0)
    net, rng = FARTrack(config), np.random.default_rng(0)
    net.word_bias.data.normal_()
    words = (net.words.detach().numpy(), net.word_bias.detach().numpy())

    def logits(gone):
        features = rng.normal(size=(len(gone), 4, config.width))
        features[:, 2, 5] = np.where(gone, -3, 3)
        return (features @ words[0].T + words[1]).astype(np.float32)

    class Told:
        def __init__(self, step, config, clips, pool):
            self.clips = clips

        def frame(self, number):
            self.logits = logits(np.array([np.isnan(clip.boxes[number, 0]) for clip in self.clips]))
            return self

        @property
        def boxes(self):
            return np.zeros((len(self.clips), 4))

    monkeypatch.setattr(presence, "Tracking", Told)
    monkeypatch.setattr(presence, "overlap", lambda boxes, truth: np.where(np.isfinite(truth).all(-1), 0.8, np.nan))
    asked = config.replace(score_presence=fit_presence(net, Sampler(pack, held_out=0), 12, None))
    gone = np.arange(400) % 2 == 0
    chance = vocabulary.presence(logits(gone), asked)
    assert ((chance < 0.5) == gone).mean() > 0.9
    monkeypatch.setattr(presence, "overlap", lambda boxes, truth: np.zeros(len(boxes)))
    with pytest.raises(InputError, match=r"0 of \d+ held-out boxes were hits"):
        fit_presence(net, Sampler(pack, held_out=0), 4, None)


def test_data_of_which_no_clips_are_made_asks_nothing(pack, config, monkeypatch):
    monkeypatch.setattr(presence, "drawers", lambda *_: [])
    assert fit_presence(FARTrack(config), Sampler(pack, held_out=0), 4, None) == ""
