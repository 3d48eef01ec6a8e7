"""Two gloo processes, started by torchrun, get the gradients that one process gets."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fartrack.errors import InputError
from fartrack.training import checkpoint
from fartrack.training.data import Resident
from fartrack.training.frame import FrameTrainer
from fartrack.training.loop import LAST
from fartrack.training.options import Sparsify, TrainConfig
from fartrack.training.pack import read_pack
from fartrack.training.parallel import Parallel, join
from fartrack.training.sequence import SequenceTrainer

CONFIGS = {
    "frame": lambda out: TrainConfig(out=out, batch=8, templates=2, exits=(2, 3), precision="float32", seed=3),
    "sparsify": lambda out: Sparsify(out=out, batch=4, frames=4, micro=5, precision="float32", seed=3),
}


def gradients(stage, shard, config, out, parallel):
    kind = SequenceTrainer if stage == "sparsify" else FrameTrainer
    trainer = kind(config, CONFIGS[stage](out), read_pack([shard]), None, "cpu", parallel)
    with torch.no_grad():  # what the first process has is what counts
        trainer.net.word_bias.add_(0.1 * parallel.rank)
    parallel.same_start(trainer.net.parameters())
    parts = trainer.gradients(0)
    parallel.average_gradients(trainer.parameters())
    found = {n: p.grad.clone() for n, p in trainer.net.named_parameters() if p.grad is not None}
    return found | {"loss": parallel.mean(parts["loss"]).reshape(1)}


def main():
    from tiny_pack import TINY

    torch.set_num_threads(1)
    shard, out = Path(sys.argv[1]), Path(sys.argv[2])
    parallel = join("cpu")
    assert parallel.world == 2 and parallel.agree(parallel.first)
    for stage in CONFIGS:
        found = gradients(stage, shard, TINY, out, parallel)
        if parallel.first:
            save_file(found, out / f"{stage}.safetensors")
    broken(shard, TINY, out / "broken", parallel)
    with suppress(RuntimeError):  # the other one has gone already
        parallel.leave()


def broken(shard, config, out, parallel):
    """The second process's share cannot be read at step 2; then the second process is gone at step 4."""

    class Supply(Resident):
        def reads(self, step):
            return step == 2

        def at(self, step):
            if step == 2 and not parallel.first and not again:
                raise InputError("9 of 99 pictures are broken")
            if step == 4 and not parallel.first:
                os._exit(0)
            return super().at(step)

    again = False
    train = TrainConfig(out=out, steps=9, batch=4, templates=2, precision="float32", save_every=100, log_every=100)
    for _ in range(2):
        trainer = FrameTrainer(config, train, Supply(read_pack([shard])), None, "cpu", parallel)
        if again:
            trainer.load(out / LAST)
        try:
            list(trainer.run())
        except InputError as error:
            if parallel.first:
                step = checkpoint.load(out / LAST)[1]["step"]
                (out / f"said-{int(again)}").write_text(f"{step} {trainer.step} {error}")
        parallel.agree(True) if not again else None
        again = True


@pytest.fixture(scope="module")
def two(shard, tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    here = Path(__file__).parents[1]
    paths = os.pathsep.join([str(here), str(here.parent / "src")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    command = [*launch, "--rdzv-endpoint", "localhost:0", __file__, str(shard), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("stage", CONFIGS)
def test_two_processes_have_the_gradients_of_one(two, shard, config, tmp_path, stage):
    alone = gradients(stage, shard, config, tmp_path, Parallel())
    both = load_file(two / f"{stage}.safetensors")
    assert set(alone) == set(both)
    for name, value in alone.items():
        scale = value.abs().max().clamp(min=1e-6)
        assert (both[name] - value).abs().max() / scale < 2e-3, name


def test_what_was_learned_is_saved_when_another_process_cannot_go_on(two):
    """The first one ended in a traceback of its connection, and every step since the last save was lost."""
    assert (two / "broken/said-0").read_text().startswith("2 2 another process of the run cannot go on")
    saved, step, said = (two / "broken/said-1").read_text().split(" ", 2)
    assert saved == step > "2" and said.startswith("another process of the run is gone")


if __name__ == "__main__":
    main()
