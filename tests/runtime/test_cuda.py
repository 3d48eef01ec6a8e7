import numpy as np
import pytest
import torch

from fartrack.config import PICO
from fartrack.errors import InputError
from fartrack.evaluation import gpu
from fartrack.models import save_weights
from fartrack.network import FARTrack
from fartrack.runtime import open_runtime
from fartrack.runtime.cuda_ import halved

ONE_WAY = PICO.replace(depth=2, width=48, template_size=48, search_size=96, bins=40, update_interval=2)
BARE = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / "a.safetensors", FARTrack(ONE_WAY).state_dict(), ONE_WAY)
    return tmp_path / "a.safetensors"


@BARE
def test_without_a_gpu_it_is_said_at_once(file, capsys):
    with pytest.raises(InputError, match="no GPU here; choose another runtime"):
        open_runtime(file, "cuda")
    assert gpu.main(["pico"]) == 2
    assert capsys.readouterr().err == "fartrack: PyTorch sees no GPU here: run it on a machine with one\n"


def test_only_packaged_models_have_figures(capsys):
    assert gpu.main(["giant"]) == 2
    assert capsys.readouterr().err == "fartrack: model 'giant' is unknown: choose from pico, nano, tiny\n"


@pytest.mark.parametrize("attention", ["oneway", "joint"])
def test_half_precision_reaches_the_words_in_full(attention):
    """Boxes are expectations over hundreds of words: those stay in float32."""
    from fartrack.step import TrackStep

    config = ONE_WAY.replace(attention=attention)
    net = FARTrack(config).eval()
    search, template, memory = gpu.inputs(config, 2, "cpu")
    calls = [(template, memory)]
    if config.rests:  # a frame without a new template
        calls.append((template[:, :0], torch.cat([memory, memory[:, :1]], 1)))
    with torch.inference_mode():
        whole = [TrackStep(net)(search, *call[:-1], call[-1].float()) for call in calls]
        half = [TrackStep(halved(net))(search, *call) for call in calls]
    for floats, halves in zip(whole, half, strict=True):
        assert halves[1].dtype == torch.float32 and halves[3].dtype == torch.float16
        assert (halves[0] - floats[0]).abs().max() < 0.01


@GPU
def test_graphs_give_what_the_cpu_gives(file):
    rng = np.random.default_rng(0)
    plain, fast = open_runtime(file, "torch"), open_runtime(file, "cuda")
    whole, kept_tokens = ONE_WAY.template_tokens, ONE_WAY.kept_tokens
    for batch, kept, new in ((1, whole, 1), (1, kept_tokens, 1), (3, kept_tokens, 1), (1, kept_tokens, 0)):
        for _ in range(2):  # the first call records, the second runs what was recorded
            search = rng.integers(0, 256, (batch, 96, 96, 3), np.uint8)
            template = rng.integers(0, 256, (batch, 48 * new, 48, 3), np.uint8)
            shape = batch, ONE_WAY.templates - new, kept, ONE_WAY.memory_width
            memory = rng.normal(size=shape).astype(np.float32)
            expected, got = plain(search, template, memory), fast(search, template, memory)
            assert np.abs(expected.box - got.box).max() < 0.01
