import numpy as np
import pytest
import torch

from fartrack.errors import InputError
from fartrack.memory import sample_history
from fartrack.network import FARTrack
from fartrack.step import TrackStep
from fartrack.training.clips import Clip, begins_in_view
from fartrack.training.data import Mixed, Resident
from fartrack.training.options import Sparsify
from fartrack.training.pack import read_pack
from fartrack.training.rollout import roll
from fartrack.training.scenes import Scene
from fartrack.training.sequence import SequenceTrainer, prefix
from tiny_pack import write_shard


def options(tmp_path, **changes):
    common = {"out": tmp_path, "steps": 4, "batch": 2, "frames": 6, "micro": 4, "warmup": 1, "log_every": 1}
    return Sparsify(**{**common, "lr": 1e-3, "check_every": 100, "precision": "float32", **changes})


@pytest.mark.parametrize(
    ("attention", "compiled", "templates"),
    [("joint", "off", 5), ("oneway", "off", 5), ("oneway", "default", 5), ("joint", "off", 1), ("oneway", "off", 1)],
)
def test_what_is_trained_on_is_what_was_tracked_with(
    attention, compiled, templates, config, tracks, pool, tmp_path, pack
):
    """Templates with inherited masks, put together again from pictures, give the boxes of the tracking itself."""
    config = config.replace(attention=attention, templates=templates)
    trainer = SequenceTrainer(config, options(tmp_path, micro=100, templates=templates), pack)
    if compiled != "off":
        trainer.sight.few_shapes = True  # too late for a compiler; its shapes alone are looked at
    clips = [tracks.clip(0, 6), tracks.clip(2, 6)]
    step = trainer.step_of(config.depth)
    seen = []

    def spy(*arrays):
        answer = TrackStep(trainer.net)(*arrays)
        seen.append(answer[1])
        return answer

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = step

        def forward(self, *arrays):
            return spy(*arrays)

    rolled = roll(Spy(), config, clips, pool)
    assert rolled.search.shape[:2] == (5, 2) and rolled.kept.shape == (5, 2, config.kept_tokens)
    assert rolled.slots.tolist() == [sample_history(i, config.templates, config.memory) for i in range(5)]
    with torch.no_grad():
        batches = trainer._batches(rolled, *every(trainer, rolled))
        looked_at = [seen for seen, _, _ in batches]
        logits = [trainer.look(*seen, (config.depth,))[0] for seen in looked_at]
    if attention == "oneway" and templates == 5:
        # Five templates of two clips, which eight frames share; a compiler sees multiples of the frames.
        assert [len(templates) for templates, *_ in looked_at] == ([2, 10] if compiled == "off" else [2, 16])
    tracked = torch.stack(seen[1:])  # the first call only embeds
    tracked = torch.cat([tracked[0], tracked[1:].transpose(0, 1).flatten(0, 1)])  # clip after clip
    torch.testing.assert_close(torch.cat(logits), tracked, atol=1e-4, rtol=1e-4)


def every(trainer, rolled):
    return trainer._learned(rolled, np.random.default_rng(0))


def test_a_part_of_the_frames_is_learned_and_those_out_of_view_last(config, pack, tracks, pool, tmp_path):
    trainer = SequenceTrainer(config, options(tmp_path, learn=3), pack)
    rolled = roll(TrackStep(trainer.net), config, [tracks.clip(0, 8), tracks.clip(2, 8)], pool)
    rolled.weight[:] = 0
    rolled.weight[[0, 2, 5], 0] = 1
    rolled.weight[3, 1] = 1
    first, rest = every(trainer, rolled)
    assert first == [(0, 0), (0, 1)] and len(rest) == 4
    assert {i for i, b in rest if b == 0} == {2, 5} and 3 in {i for i, b in rest if b == 1}
    assert all(np.isfinite(row["loss"]) for row in trainer.run())


@pytest.mark.parametrize("change", [{}, {"exits": (2, 3)}, {"method": "runtime"}])
def test_training_on_clips_brings_the_loss_down(config, pack, tmp_path, change):
    trainer = SequenceTrainer(config, options(tmp_path, steps=8, shake=0, **change), Resident(pack, pack))
    rows = list(trainer.run())
    assert min(r["loss"] for r in rows[4:]) < rows[0]["loss"]
    measured = trainer.check()
    assert set(measured) == {f"held_out_ao_{e}" for e in change.get("exits", (3,))}
    assert all(0 < value < 1 for value in measured.values())


def test_a_resumed_run_of_clips_ends_where_an_uninterrupted_one_does(config, pack, tmp_path):
    whole = SequenceTrainer(config, options(tmp_path / "whole", moved=0.5), pack)
    list(whole.run())
    first = SequenceTrainer(config, options(tmp_path / "parts", moved=0.5), pack)
    first.train_step()
    first.save()
    second = SequenceTrainer(config, options(tmp_path / "parts", moved=0.5), pack)
    second.load(tmp_path / "parts" / "last.safetensors")
    list(second.run())
    for a, b in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_clips_may_be_scenes(config, pack, tmp_path):
    """No video is needed for the sequence level, only masks."""
    trainer = SequenceTrainer(config, options(tmp_path, scenes=1.0, frames=6, steps=2), pack)
    clips = trainer.make(0)
    assert all(isinstance(clip.frames.scene, Scene) and len(clip.boxes) == 6 for clip in clips)
    rows = list(trainer.run())
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_tracks_of_one_data_set_and_masks_of_another(config, tmp_path):
    """Each was looked for in the data set whose turn it was: a run ended at its second step."""
    supplies = []
    for sources in (("masked", "sprite"), ("track/drawn",)):

        def alone(rows, files, sources=sources):
            rows[:] = [row for row in rows if row["source"] in sources]

        write_shard(tmp_path / "a.tar", np.random.default_rng(0), edit=alone)
        supplies.append(Resident(read_pack([tmp_path / "a.tar"])))
    trainer = SequenceTrainer(config, options(tmp_path, scenes=0.5, frames=4, batch=8), Mixed(supplies))
    for step in range(3):
        kinds = {type(clip.frames) for clip in trainer.make(step)}
        assert len(kinds) == 2
    (masks, tracks), (some, casts) = supplies, trainer.sources(0)
    assert [one.sampler for one in some] == [tracks.at(0)] and [one.sampler for one in casts] == [masks.at(0)]


def test_scenes_without_masks_are_refused(config, tmp_path):
    write_shard(tmp_path / "bare.tar", np.random.default_rng(0), edit=without_masks)
    trainer = SequenceTrainer(config, options(tmp_path, scenes=0.5), read_pack([tmp_path / "bare.tar"]))
    with pytest.raises(InputError, match="--scenes needs objects with masks"):
        trainer.make(0)


def without_masks(rows, files):
    rows[:] = [row for row in rows if row["source"] not in ("masked", "sprite")]


def test_a_prefix_is_the_first_layers(config):
    torch.manual_seed(0)
    net = FARTrack(config)
    small = prefix(net, 2)
    inputs = torch.rand(1, 64, 64, 3) * 255, torch.rand(1, 32, 32, 3) * 255
    memory = torch.rand(1, config.templates - 1, 12, config.width)
    with torch.no_grad():
        ours = TrackStep(small)(*inputs, memory)[1]
        past = net.embed_template(net.normalise(inputs[1].permute(0, 3, 1, 2)))
        tokens = [memory[:, i] + net.slot_identity(i) for i in range(2)] + [past + net.slot_identity(2)]
        seen = net.embed_search(net.normalise(inputs[0].permute(0, 3, 1, 2)))
        theirs = net(tokens, seen, exits=(2, 3)).logits[0]
    torch.testing.assert_close(ours, theirs)
    assert small.config.depth == 2 and net.config.depth == 3


def test_several_updates_share_a_step_s_frames(config, pack, tmp_path, monkeypatch):
    """Every frame is learned from once, and a run that stops goes on between steps only."""
    trainer = SequenceTrainer(config, options(tmp_path, batch=4, updates=2, learn=4), pack)
    learned, learn = [], trainer._learn
    monkeypatch.setattr(trainer, "_learn", lambda r, first, rest: learned.append(first + rest) or learn(r, first, rest))
    before = [p.detach().clone() for p in trainer.net.parameters()]
    row = trainer.train_step()
    assert trainer.step == 1 and np.isfinite(float(row["loss"]))
    assert [len(share) for share in learned] == [8, 8]
    assert len({*learned[0], *learned[1]}) == 4 * 4
    assert any((a != b).any() for a, b in zip(before, trainer.net.parameters(), strict=True))


def test_more_updates_than_clips_are_refused(config, pack, tmp_path):
    with pytest.raises(InputError, match=r"--updates 3 is not in 1\.\.2"):
        SequenceTrainer(config, options(tmp_path, updates=3), pack)


def test_a_clip_begins_with_its_target_in_view(config, pack, tmp_path, monkeypatch):
    """A tracker cannot be started on what has left the frame; one clip in a thousand was such."""
    trainer = SequenceTrainer(config, options(tmp_path, scenes=1.0), pack)
    good = trainer.make(0)[0]
    width = good.frames[0].shape[1]
    away = Clip(good.frames, np.add(good.boxes, [2 * width, 0, 0, 0]))
    assert begins_in_view(good) and not begins_in_view(away)
    drawn = iter([away, good, away, away, good])
    monkeypatch.setattr(trainer.sources(0)[1][0], "clip", lambda *_: next(drawn))
    assert trainer.make(0) == [good, good]
