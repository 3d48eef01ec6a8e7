import pytest
import torch

from fartrack.training.frame import FrameTrainer
from fartrack.training.options import TrainConfig


def options(tmp_path, **changes):
    return TrainConfig(**{"out": tmp_path, "batch": 8, "templates": 2, "precision": "float32", **changes})


def test_exits_may_come_in_any_order(pack, config, tmp_path):
    """Names of the curve go with the layers, however they were asked for."""
    trainer = FrameTrainer(config, options(tmp_path, exits=(3, 1, 3)), pack)
    assert trainer.exits == (1, 3)
    assert {"held_out_iou_1", "held_out_iou_3"} <= set(trainer.check())


@pytest.mark.parametrize(
    "change", [{"trajectory": 2}, {"attention": "oneway"}, {"templates": 1}, {"decoding": "release"}]
)
def test_other_networks_train_too(pack, config, tmp_path, change):
    model = config.replace(**change)
    trainer = FrameTrainer(model, options(tmp_path, templates=min(2, model.templates)), pack)
    assert torch.isfinite(trainer.train_step()["loss"])


def test_templates_in_one_call_say_the_same(pack, config, tmp_path):
    """Without auxiliary losses one-way templates take a shorter way: the weights must not know."""
    trainer = FrameTrainer(config.replace(attention="oneway"), options(tmp_path, templates=3, exits=(1, 3)), pack)
    samples, slots = trainer.samples(trainer.sampler, 0, 4), [0, 1, 2]
    short = trainer.forward(samples, slots, (1, 3)).logits
    whole = trainer.forward(samples, slots, (1, 3), hidden=(1,)).logits
    torch.testing.assert_close(short, whole)
