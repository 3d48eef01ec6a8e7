from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny_pack import TINY, write_shard

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@pytest.fixture
def config():
    return TINY


@pytest.fixture(scope="session")
def shard(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "tiny-00.tar"
    write_shard(path, np.random.default_rng(0))
    return path


@pytest.fixture(scope="session")
def pack(shard):
    from fartrack.training.pack import read_pack

    return read_pack([shard])


@pytest.fixture
def tracks(pack):
    from fartrack.training.clips import Tracks
    from fartrack.training.synth import Sampler

    return Tracks(Sampler(pack, held_out=0))


@pytest.fixture
def pool():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        yield pool
