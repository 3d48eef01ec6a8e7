import dataclasses
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fartrack.errors import InputError
from fartrack.models import save_weights
from fartrack.training import checkpoint, loop
from fartrack.training.data import Resident
from fartrack.training.frame import FrameTrainer
from fartrack.training.loop import compile_layers
from fartrack.training.options import PAPER, Sparsify, TrainConfig
from fartrack.training.parallel import Parallel
from fartrack.training.sequence import SequenceTrainer

EASY = dataclasses.replace(PAPER, centre_jitter=1.0, scale_jitter=0.1, distractor_share=0, occluder_share=0, light=0.1)


def options(tmp_path, **changes):
    common = {"out": tmp_path, "steps": 6, "batch": 8, "templates": 2, "warmup": 2, "log_every": 2, "check_every": 100}
    return TrainConfig(**{**common, "save_every": 100, "precision": "float32", "synth": EASY, **changes})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True))


def test_the_loss_falls(pack, config, tmp_path):
    trainer = FrameTrainer(config, options(tmp_path, steps=40, batch=16, lr=3e-3, log_every=10), pack)
    rows = list(trainer.run())
    assert rows[-1]["loss"] < 0.75 * rows[0]["loss"]
    assert rows[-1]["samples"] == 40 * 16
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()] == [10, 20, 30, 40]


@pytest.mark.parametrize("attention", ["oneway", "joint"])
def test_all_layers_share_what_is_compiled(attention, pack, config, tmp_path):
    """Or a deep network's start would take minutes of a GPU that is lent by the minute."""
    config = config.replace(attention=attention, depth=6)
    train = options(tmp_path, exits=(3, 6), dense_weight=0, look_weight=0)
    trainer = FrameTrainer(config, train, pack)
    plain, _ = trainer.loss(trainer.make(0), 0)
    torch.compiler.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    compile_layers(trainer.net, backend="eager")
    shared, _ = trainer.loss(trainer.make(0), 0)
    shared.backward()
    assert torch.allclose(plain, shared, rtol=1e-5)
    # One-way: templates and the rest apart, the last layer of each by itself.
    assert graphs["unique_graphs"] - before == (4 if attention == "oneway" else 2)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(pack, config, tmp_path, optimizer):
    both = {"optimizer": optimizer, "decay": 2, "curriculum": 40, "exits": (1, 3)}
    whole = FrameTrainer(config, options(tmp_path / "whole", **both), pack)
    list(whole.run())
    first = FrameTrainer(config, options(tmp_path / "parts", **both), pack)
    for _ in range(3):
        first.train_step()
    first.save()
    second = FrameTrainer(config, options(tmp_path / "parts", **both), pack)
    second.load(tmp_path / "parts" / "last.safetensors")
    assert second.step == 3
    list(second.run())
    assert same(whole, second)
    assert all(torch.equal(whole.average[k], second.average[k]) for k in whole.average)


def test_a_run_goes_on_with_crops_of_other_sizes(pack, config, tmp_path):
    first = FrameTrainer(config, options(tmp_path / "large"), pack)
    list(first.run())
    smaller = config.replace(
        search_size=config.search_size - 2 * config.patch, template_size=config.template_size - config.patch
    )
    second = FrameTrainer(smaller, options(tmp_path / "small", steps=8), pack)
    second.load(tmp_path / "large" / "last.safetensors")
    assert torch.equal(second.net.words, first.net.words)
    assert second.net.pos_search.shape == (smaller.search_tokens, config.width)
    assert second.net.pos_template.shape == (smaller.template_tokens, config.width)
    list(second.run())
    assert second.step == 8
    second.save()
    third = FrameTrainer(smaller, options(tmp_path / "small", steps=8), pack)
    third.load(tmp_path / "small" / "last.safetensors")
    assert same(second, third)


def test_a_run_stops_when_told_and_is_saved(pack, config, tmp_path):
    trainer = FrameTrainer(config, options(tmp_path, steps=1000, log_every=1), pack)
    for _ in trainer.run():
        trainer.stop = True
    assert trainer.step <= 3
    assert checkpoint.load(tmp_path / "last.safetensors")[1]["step"] == trainer.step


class Alone(Parallel):
    """The first of two processes; what it would hear from the other one is what it says itself."""

    def average_gradients(self, parameters):
        pass

    def mean(self, value):
        return value.detach()

    def same_start(self, tensors):
        pass

    def agree(self, flag):
        return flag

    @staticmethod
    def stumble():
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("log_every", [1, 2])
def test_what_was_learned_before_data_that_is_broken_is_saved(pack, config, tmp_path, log_every):
    """A share of a large data set may turn out to be unreadable after hours."""

    class Broken(Resident):
        def at(self, step):
            if step >= 3:
                raise InputError("9 of 99 pictures are broken")
            return super().at(step)

    trainer = FrameTrainer(config, options(tmp_path, steps=1000, log_every=log_every), Broken(pack))
    with pytest.raises(InputError, match="9 of 99"):
        list(trainer.run())
    assert checkpoint.load(tmp_path / "last.safetensors")[1]["step"] == trainer.step == 3


@pytest.mark.parametrize("fails", ["keeping", "logging", "telling"])
def test_however_a_run_ends_what_was_learned_is_saved(pack, config, tmp_path, monkeypatch, fails):
    """The disk is full, or whoever read the lines of progress has gone."""
    trainer = FrameTrainer(config, options(tmp_path, steps=1000, log_every=3, keep_every=3), pack)

    def full(*_):
        raise InputError("cannot be written")

    if fails != "telling":
        monkeypatch.setattr(loop, {"keeping": "save_weights", "logging": "_append"}[fails], full)
    with pytest.raises((InputError, BrokenPipeError)), closing(trainer.run()) as rows:
        for _ in rows:
            raise BrokenPipeError
    assert checkpoint.load(tmp_path / "last.safetensors")[1]["step"] == trainer.step == 3


def test_half_an_update_is_not_saved(pack, config, tmp_path):
    trainer = FrameTrainer(config, options(tmp_path, steps=1000, log_every=1), pack)
    with pytest.raises(RuntimeError, match="out of memory"):
        for _ in trainer.run():
            trainer.optimizers[0].step = Alone.stumble
    assert trainer.step == 1 and not list(tmp_path.glob("*.safetensors"))


def test_one_of_several_processes_stops_after_its_step(pack, config, tmp_path):
    """torchrun kills what has not ended 30 s after SIGTERM: steps until the next line of the log may be minutes."""
    trainer = FrameTrainer(config, options(tmp_path, steps=1000, log_every=500), pack, parallel=Alone(0, 2))
    trainer.stop = True
    assert list(trainer.run()) == []
    assert trainer.step == checkpoint.load(tmp_path / "last.safetensors")[1]["step"] == 1


def test_clips_are_shared_one_by_one_and_samples_in_pairs(pack, config, tmp_path):
    """Two processes may have a clip each; samples lend each other occluders."""
    clips = Sparsify(out=tmp_path, batch=2, frames=4, precision="float32")
    assert len(SequenceTrainer(config, clips, pack, parallel=Alone(1, 2)).make(0)) == 1
    for kind, train, share in (
        (SequenceTrainer, dataclasses.replace(clips, batch=3), 2),
        (FrameTrainer, options(tmp_path, batch=6), 4),
    ):
        with pytest.raises(InputError, match=f"is no multiple of {share}"):
            kind(config, train, pack, parallel=Alone(0, 2))


def test_a_checkpoint_says_how_it_was_made(pack, config, tmp_path):
    trainer = FrameTrainer(config, options(tmp_path), pack)
    state = checkpoint.load(trainer.save())[1]
    assert state["data"] == pack.fingerprint and state["train"]["seed"] == 0 and state["model"]["depth"] == 3
    assert {"commit", "torch", "numpy", "opencv", "python", "hardware"} <= set(state)


def test_a_machine_without_git_can_train(pack, config, tmp_path, monkeypatch):
    """Images for GPUs often lack it: the first checkpoint ended the run in a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    saved = FrameTrainer(config, options(tmp_path), pack).save()
    assert checkpoint.load(saved)[1]["commit"] == "not a git checkout"


@pytest.mark.parametrize(
    ("change", "named"),
    [({"depth": 2}, "depth: 3 there, 2 here"), ({"keep": 0.5}, "keep: 0.75 there, 0.5 here")],
)
def test_a_checkpoint_of_another_config_is_refused(pack, config, tmp_path, change, named):
    FrameTrainer(config, options(tmp_path), pack).save()
    other = FrameTrainer(config.replace(**change), options(tmp_path), pack)
    with pytest.raises(InputError, match=named):
        other.load(tmp_path / "last.safetensors")


def test_a_checkpoint_of_another_optimiser_is_refused(pack, config, tmp_path):
    """Its moments would be taken for those of other parameters."""
    FrameTrainer(config, options(tmp_path, optimizer="muon"), pack).save()
    with pytest.raises(InputError, match="optimizer: muon there, adamw here"):
        FrameTrainer(config, options(tmp_path), pack).load(tmp_path / "last.safetensors")


def test_moments_stay_with_their_parameters(pack, config, tmp_path):
    """A run that goes on with other layers frozen, or without the auxiliary heads, keeps what it knows of the rest."""
    first = FrameTrainer(config, options(tmp_path), pack)
    first.train_step()
    first.save()
    second = FrameTrainer(config, options(tmp_path, freeze=2), pack)
    second.load(tmp_path / "last.safetensors")
    name, p = next((n, p) for n, p in second.net.named_parameters() if p.requires_grad)
    before = first.optimizers[0].state[dict(first.net.named_parameters())[name]]
    assert torch.equal(second.optimizers[0].state[p]["exp_avg"], before["exp_avg"])
    second.train_step()


def test_frozen_layers_stand_still_in_the_average_too(pack, config, tmp_path):
    """It went on towards where they stand: what is exported of a branch that froze them had other layers."""
    first = FrameTrainer(config, options(tmp_path, lr=1e-2), pack)
    first.train_step()
    first.save()
    second = FrameTrainer(config, options(tmp_path, freeze=2), pack)
    second.load(tmp_path / "last.safetensors")
    still = [name for name, p in second.net.named_parameters() if not p.requires_grad]
    assert any(not torch.equal(first.average[name], first.net.state_dict()[name]) for name in still)
    second.train_step()
    second.save()
    third = FrameTrainer(config, options(tmp_path, freeze=2), pack)
    third.load(tmp_path / "last.safetensors")
    assert same(second, third)
    third.train_step()
    for name in still:
        assert torch.equal(third.average[name], first.average[name])
        assert torch.equal(third.net.state_dict()[name], first.average[name])


def test_a_resumed_run_writes_each_step_once(pack, config, tmp_path):
    """Killed after lines of the log that no checkpoint holds, one of them cut short."""
    list(FrameTrainer(config, options(tmp_path, steps=2, log_every=1), pack).run())
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 3}) + "\n" + '{"step": 4, "lo')
    second = FrameTrainer(config, options(tmp_path, steps=4, log_every=1), pack)
    second.load(tmp_path / "last.safetensors")
    list(second.run())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and all("loss" in row for row in rows)


def test_another_score_is_no_other_config(pack, config, tmp_path):
    FrameTrainer(config, options(tmp_path), pack).save()
    other = FrameTrainer(config.replace(name="x", score_bias=1.0), options(tmp_path), pack)
    other.load(tmp_path / "last.safetensors")
    assert (other.config.name, other.config.score_bias) == ("x", 1.0)


def test_samples_are_counted_over_batches_of_several_sizes_and_half_precision_will_do(pack, config, tmp_path):
    trainer = FrameTrainer(config, options(tmp_path, optimizer="muon"), pack)
    trainer.train_step()
    whole = trainer.save()
    checkpoint.compact(whole, tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * whole.stat().st_size
    other = FrameTrainer(config, options(tmp_path, batch=4, optimizer="muon"), pack)
    other.load(tmp_path / "half.safetensors")
    other.train_step()
    assert other.seen(other.step) == 8 + 4
    assert all(v.dtype == torch.float32 for v in other.average.values() if v.is_floating_point())
    assert checkpoint.load(other.save())[1]["samples"] == 12


def test_nan_stops_and_keeps_the_last_checkpoint(pack, config, tmp_path):
    trainer = FrameTrainer(config, options(tmp_path, save_every=2), pack)
    healthy = trainer.loss

    def loss(s, step):
        total, parts = healthy(s, step)
        return (total * float("nan") if step == 3 else total), parts

    trainer.loss = loss
    with pytest.raises(InputError, match=r"the loss is nan.*step 4: the last checkpoint in .* is good"):
        list(trainer.run())
    tensors, state = checkpoint.load(tmp_path / "last.safetensors")
    assert state["step"] == 2
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


def test_weights_that_are_kept_are_numbers(pack, config, tmp_path):
    """On a GPU the loss is not looked at in every step."""
    trainer = FrameTrainer(config, options(tmp_path, log_every=100, keep_every=2), pack)
    trainer.device = SimpleNamespace(type="cuda")

    def broken():
        trainer.step += 1
        return {"loss": torch.tensor(float("nan")), "norm": torch.tensor(1.0)}

    trainer.train_step = broken
    with pytest.raises(InputError, match=r"the loss is nan.*step 2: begin again with"):  # nothing is saved
        list(trainer.run())
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_full_disk_loses_nothing(pack, config, tmp_path, monkeypatch):
    trainer = FrameTrainer(config, options(tmp_path), pack)
    before = trainer.save().read_bytes()
    trainer.train_step()

    write = Path.write_bytes

    def full(path, data):
        write(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        trainer.save()
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_what_a_killed_run_left_behind_goes(pack, config, tmp_path):
    (tmp_path / ".last.safetensors.1234.part").write_bytes(b"half")
    list(FrameTrainer(config, options(tmp_path, steps=1), pack).run())
    assert not list(tmp_path.glob(".*.part"))


def test_others_may_read_a_checkpoint_as_any_file(pack, config, tmp_path):
    """safetensors makes files that nobody but their owner can read."""
    (tmp_path / "plain").write_bytes(b"")
    saved = FrameTrainer(config, options(tmp_path), pack).save()
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_model_file_given_as_a_checkpoint_is_named(pack, config, tmp_path):
    """`--keep-every` writes them beside the checkpoint."""
    save_weights(tmp_path / "step-0000008.safetensors", *FrameTrainer(config, options(tmp_path), pack).kept())
    with pytest.raises(InputError, match=r"step-0000008.safetensors is a model file.*last.safetensors"):
        checkpoint.load(tmp_path / "step-0000008.safetensors")


def test_a_cut_checkpoint_is_named(pack, config, tmp_path):
    path = FrameTrainer(config, options(tmp_path), pack).save()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a whole fartrack checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exits": (2, 9)}, "exits"),
        ({"decay": 99}, "decay"),
    ],
)
def test_options_that_cannot_be_are_refused(pack, config, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        FrameTrainer(config, options(tmp_path, **change), pack)
