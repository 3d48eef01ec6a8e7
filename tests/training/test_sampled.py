import dataclasses

import torch

from fartrack.training.frame import FrameTrainer
from fartrack.training.options import TrainConfig
from fartrack.training.parallel import Parallel


def test_one_process_of_two_makes_half_of_the_batch(pack, config, tmp_path):
    trainer = FrameTrainer(config, TrainConfig(out=tmp_path, templates=2), pack)
    whole = trainer.samples(trainer.sampler, 5, 12)
    halves = [trainer.samples(trainer.sampler, 5, 12, parallel=Parallel(rank, 2)) for rank in range(2)]
    rows = [torch.arange(12).view(-1, 2)[rank::2].flatten() for rank in range(2)]
    for half, which in zip(halves, rows, strict=True):
        for field in dataclasses.fields(half):
            ours, theirs = getattr(half, field.name), getattr(whole, field.name)
            if ours is not None:
                torch.testing.assert_close(ours, theirs[which], msg=field.name)
