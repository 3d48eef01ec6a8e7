from dataclasses import replace

import numpy as np
import pytest
import torch

from fartrack import geometry
from fartrack.network import FARTrack
from fartrack.runtime import Output
from fartrack.step import TrackStep
from fartrack.target import Target
from fartrack.training import rollout
from fartrack.training.rollout import one_pass, roll


def test_clips_are_tracked_as_the_tracker_does(config, tracks, pool):
    """Side by side, in one batch, clips get the boxes that `Target` and `TrackStep` give each alone."""
    torch.manual_seed(0)
    step = TrackStep(FARTrack(config)).eval()
    clips = [tracks.clip(0, 5), tracks.clip(1, 5)]
    tracking = rollout.Tracking(step, config, clips, pool)
    together = [tracking.frame(i).boxes for i in range(1, 5)]

    def ask(*arrays):
        with torch.no_grad():
            return Output(*(t.numpy() for t in step(*(torch.from_numpy(a)[None] for a in arrays))))

    for which, clip in enumerate(clips):
        target = Target(config, clip.frames[0], clip.boxes[0])
        crop = target.first_template(clip.frames[0])
        search = np.zeros((config.search_size, config.search_size, 3), np.uint8)
        memory = np.zeros((config.templates - 1, config.template_tokens, config.width), np.float32)
        target.start(crop, ask(search, crop, memory).tokens[0])
        for number in range(1, 5):
            inputs = target.look(clip.frames[number])[:3]
            target.absorb(clip.frames[number], Output(*(part[0] for part in ask(*inputs))))
            np.testing.assert_allclose(together[number - 1][which], target.box, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_recorded_step_follows_weights_that_learn(config):
    """On a GPU the tracking of clips is recorded once, and must not go on with the weights of that day."""
    step = TrackStep(FARTrack(config)).cuda().eval()
    recorded = rollout.Replayed(step)
    c = config
    crops = [torch.randint(256, (2, s, s, 3), dtype=torch.uint8).cuda() for s in (c.search_size, c.template_size)]
    memory = torch.randn(2, c.templates - 1, c.kept_tokens, c.memory_width).cuda()
    for _ in range(2):
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            answers = recorded(*crops, memory)
            for ours, theirs in zip(answers, step(*crops, memory), strict=True):
                torch.testing.assert_close(ours.float(), theirs.float(), atol=0.05, rtol=0.05)
            for p in step.parameters():
                p.add_(0.05 * torch.randn_like(p))
            assert (recorded(*crops, memory)[1] - answers[1]).abs().max() > 0.1


class Still(torch.nn.Module):
    """Always says that the target is small and in the upper left corner of the crop."""

    def __init__(self, config):
        super().__init__()
        self.net = FARTrack(config)

    def forward(self, search, template, memory):
        c, b = self.net.config, len(search)
        box = torch.tensor([0.0, 0.0, 0.02, 0.02]).expand(b, 4)
        tokens = torch.zeros(b, c.template_tokens, c.width)
        return box, torch.zeros(b, 4, c.words), torch.zeros(b, c.template_tokens), tokens


@pytest.mark.parametrize(("lost_frames", "back"), [(0, [1, 2, 3]), (2, [3])])
def test_a_lost_tracker_goes_on_for_a_while_before_it_is_put_back(config, tracks, pool, lost_frames, back):
    """Else no training frame shows templates of something else with the target beside it."""
    clip = tracks.clip(0, 5)
    shown = []

    class Watched(rollout.Tracking):
        def frame(self, number):
            shown.append(self.targets[0].box)
            return super().frame(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "Tracking", Watched)
        roll(Still(config), config, [clip], pool, lost_frames=lost_frames)
    near = [number for number in range(1, 4) if overlaps(shown[number], clip.boxes[number])]
    assert near == back


def test_past_boxes_do_not_tell_where_a_knocked_box_was(config, tracks, pool, monkeypatch):
    """In a video the newest of them is always the box that is searched around: training must not show another."""
    seen = []

    class Watched(rollout.Tracking):
        def frame(self, number):
            seen.extend((target.box, target.past[-1]) for target in self.targets)
            return super().frame(number)

    monkeypatch.setattr(rollout, "Tracking", Watched)
    config = config.replace(trajectory=2)
    roll(TrackStep(FARTrack(config)), config, [tracks.clip(0, 5)], pool, shake=1.0)
    assert len(seen) == 4 and all(box == newest for box, newest in seen)


def test_frames_in_which_the_target_is_not_seen_do_not_count(config, tracks, pool):
    """They counted as misses, and a target that came back had its tracker put there at once."""
    step, clip = TrackStep(FARTrack(config)).eval(), tracks.clip(0, 5)
    hidden = clip.boxes.copy()
    hidden[2:4] = np.nan
    seen, part = one_pass(step, config, [clip], pool)[0], one_pass(step, config, [replace(clip, boxes=hidden)], pool)[0]
    tracking = rollout.Tracking(step, config, [clip], pool)
    values = [geometry.iou(tracking.frame(i).boxes, clip.boxes[i : i + 1])[0] for i in range(1, 5)]
    assert seen == pytest.approx(np.mean(values)) and part == pytest.approx(np.mean([values[0], values[3]]))
    rolled = roll(step, config, [replace(clip, boxes=hidden)], pool, lost_frames=9)
    assert rolled.weight[1:3, 0].tolist() == [0, 0] and rolled.overlap == pytest.approx(part)


def overlaps(box, truth):
    return geometry.iou(np.array([box]), np.array([truth]))[0] > 0


def test_truth_and_boxes_are_in_the_same_units(config, tracks, pool):
    class Sure(torch.nn.Module):
        """Always says the middle of the crop, in the size of the target."""

        def __init__(self):
            super().__init__()
            self.net = FARTrack(config)

        def forward(self, search, template, memory):
            b = len(search)
            half = 0.5 / config.search_factor
            box = torch.tensor([0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half]).expand(b, 4)
            n, d = config.template_tokens, config.width
            return box, torch.zeros(b, 4, config.words), torch.zeros(b, n), torch.zeros(b, n, d)

    clip = tracks.clip(0)
    tracking = rollout.Tracking(Sure(), config, [clip], pool)
    moment = tracking.frame(1)
    x0, y0, x1, y1 = moment.truth[0]
    assert (x1 - x0) * (y1 - y0) == pytest.approx(1 / config.search_factor**2, rel=0.1)
    centre = clip.boxes[1][:2] + clip.boxes[1][2:] / 2 - (clip.boxes[0][:2] + clip.boxes[0][2:] / 2)
    side = (clip.boxes[0][2] * clip.boxes[0][3]) ** 0.5 * config.search_factor
    assert np.allclose([(x0 + x1) / 2 - 0.5, (y0 + y1) / 2 - 0.5], centre / side, atol=0.03)


def test_clips_of_several_lengths_are_measured_alone(config, tracks, pool):
    step = TrackStep(FARTrack(config)).eval()
    clips = [tracks.clip(0, 3), tracks.clip(1, 5)]
    both = one_pass(step, config, clips, pool)
    assert both == pytest.approx([one_pass(step, config, [clip], pool)[0] for clip in clips], abs=1e-4)
