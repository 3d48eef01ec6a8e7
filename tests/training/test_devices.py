"""What a GPU's user would see at the first step: a tensor that was left on the CPU."""

import numpy as np
import pytest
import torch

from elsewhere import device
from fartrack.network import FARTrack
from fartrack.training import finish
from fartrack.training.frame import FrameTrainer
from fartrack.training.options import Sparsify, TrainConfig
from fartrack.training.sequence import SequenceTrainer
from fartrack.training.synth import Sampler

COMMON = {"steps": 3, "optimizer": "muon", "exits": (2, 3), "warmup": 1, "log_every": 1, "check_every": 2}
RUNS = {
    "frame": (FrameTrainer, lambda out: TrainConfig(out=out, batch=8, templates=3, **COMMON)),
    "sparsify": (SequenceTrainer, lambda out: Sparsify(out=out, batch=4, frames=6, micro=4, updates=2, **COMMON)),
}


@pytest.fixture(autouse=True)
def quiet(recwarn):
    """Loading into what says that it is "meta" warns of every tensor."""


def test_the_stand_in_finds_what_a_gpu_would():
    with device() as there:
        a = torch.randn(3, 2, device=there)
        assert (a * 2).device.type == there and (a * 2).cpu().device.type == "cpu" and (a * 0).sum().item() == 0
        with pytest.raises(AssertionError, match="two devices"):
            a + torch.zeros(3, 2)


@pytest.mark.parametrize("attention", ["oneway", "joint"])
@pytest.mark.parametrize("stage", RUNS)
def test_no_tensor_is_left_on_the_cpu(stage, attention, config, pack, tmp_path):
    """Sampling, tracking, learning, measuring and saving, on a device of its own."""
    kind, options = RUNS[stage]
    with device() as there:
        trainer = kind(config.replace(attention=attention), options(tmp_path), pack, None, there)
        rows = list(trainer.run())
    assert len(rows) == 3 and (tmp_path / "last.safetensors").exists()


def test_the_score_is_calibrated_there_too(config, pack, monkeypatch):
    """OpenCV cuts the clips' crops, and `export` has moved the pictures to where the samples are made."""
    drawn = np.random.default_rng(0)
    monkeypatch.setattr(finish, "overlap", lambda boxes, truth: drawn.random(len(boxes)))
    with device() as there:
        sampler = Sampler(pack, held_out=0)
        sampler.to(there, pack.to(there))
        net = FARTrack(config).eval().to(there)
        found = finish.calibrate(net, sampler, (2, 3), 64, clips=4, device=there)
        assert sampler.stills.device.type == sampler.pack.pictures.pixels.device.type == there
    assert found[2].frames == found[3].frames == 4 * 95
