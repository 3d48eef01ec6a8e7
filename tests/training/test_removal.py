import pytest
import torch

from fartrack.errors import InputError
from fartrack.training.options import Distill
from fartrack.training.removal import RemovalTrainer


def test_layers_that_have_gone_stay_away(pack, config, tmp_path):
    """A finished run that was given more steps had them back, at 80 %."""
    common = {"batch": 4, "remove": (0,), "dense_weight": 0, "look_weight": 0, "precision": "float32", "log_every": 1}
    for steps, strengths in ((4, [1, 0.5, 0, 0]), (9, [0] * 5)):
        trainer = RemovalTrainer(config, Distill(out=tmp_path, steps=steps, **common), pack)
        trainer.teach(trainer.average)
        if steps > 4:
            trainer.load(tmp_path / "last.safetensors")
        seen = []
        while trainer.step < steps:
            trainer.train_step()
            seen.append(float(trainer.strength))
        trainer.save()
        assert seen == strengths


@pytest.mark.parametrize("attention", ["oneway", "joint"])
def test_layers_fade_whichever_way_the_network_is_read(attention, pack, config, tmp_path):
    """Or the whole network would be trained, and exported without layers that nobody took away."""
    train = Distill(out=tmp_path, batch=4, remove=(0,), dense_weight=0, look_weight=0, precision="float32")
    trainer = RemovalTrainer(config.replace(attention=attention), train, pack)
    samples, slots = trainer.samples(trainer.sampler, 0, 4), list(range(trainer.templates))
    whole = trainer.forward(samples, slots, (3,)).logits
    trainer.strength.zero_()
    assert not torch.allclose(trainer.forward(samples, slots, (3,)).logits, whole, atol=1e-3)


def test_the_last_layer_that_is_read_cannot_fade(config, tmp_path):
    """Of it only the commands are computed: it stayed at full strength, and was taken out of what was measured."""
    train = Distill(out=tmp_path, remove=(0, 1), exits=(1, 2))
    with pytest.raises(InputError, match="has layer 1, the last that --exits 2"):
        RemovalTrainer.check_options(config, train)
    RemovalTrainer.check_options(config, Distill(out=tmp_path, remove=(0, 1), exits=(2, 3)))
