import pytest
import torch

from fartrack.training.options import Distill
from fartrack.training.removal import RemovalTrainer


@pytest.mark.parametrize("attention", ["oneway", "joint"])
def test_layers_fade_whichever_way_the_network_is_read(attention, pack, config, tmp_path):
    """Or the whole network would be trained, and exported without layers that nobody took away."""
    train = Distill(out=tmp_path, batch=4, remove=(0,), dense_weight=0, look_weight=0, precision="float32")
    trainer = RemovalTrainer(config.replace(attention=attention), train, pack)
    samples, slots = trainer.samples(trainer.sampler, 0, 4), list(range(trainer.templates))
    whole = trainer.forward(samples, slots, (3,)).logits
    trainer.strength.zero_()
    assert not torch.allclose(trainer.forward(samples, slots, (3,)).logits, whole, atol=1e-3)
