import pytest

from fartrack.evaluation.counting import dense_products, macs
from fartrack.training.frame import FrameTrainer
from fartrack.training.options import Sparsify, TrainConfig
from fartrack.training.sequence import TAKEN, SequenceTrainer
from fartrack.training.speed import counted_flops, report, step_flops


@pytest.mark.parametrize("attention", ["oneway", "joint"])
def test_operations_are_counted_as_they_are_worked_out(attention, config, pack, tmp_path):
    """Or more use of a card would be read out of a profile than there is."""
    config = config.replace(depth=8, attention=attention)
    train = TrainConfig(out=tmp_path, batch=4, dense_weight=0, look_weight=0, compile="default")
    trainer = FrameTrainer(config, train, pack)
    worked_out = 4 * step_flops(config, config.templates, 1)
    assert counted_flops(trainer) == pytest.approx(worked_out, rel=0.05)


def test_the_profile_of_clips_counts_shared_templates_once(config, pack, tmp_path):
    """Or a user would read more use of a card out of it than there is."""
    config = config.replace(attention="oneway")
    train = Sparsify(out=tmp_path, batch=2, frames=8, micro=32, compile="off")
    trainer = SequenceTrainer(config, train, pack)
    assert counted_flops(trainer) < 0.8 * 2 * 7 * 6 * macs(dense_products(config))
    assert all(p.grad is None for p in trainer.parameters())
    said = report(trainer, steps=1)
    assert "model FLOP utilisation" in said and all(f"%  {name}\n" in said for name in TAKEN)
    assert "%  of learning, each update: optimiser and average\n" in said  # not one more part of a step
