"""Who is timed."""

from pathlib import Path

from fartrack.cli.main import main
from fartrack.config import ModelConfig
from fartrack.evaluation import contestants
from fartrack.evaluation.contestants import Contestant
from fartrack.evaluation.peers import Nano, OpenCVs

TINY = ModelConfig(name="tiny", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)


def test_released_layout_of_a_file_with_a_blank_in_its_name(tmp_path):
    """Its name ended at the blank, and nothing was compared with."""
    one = Contestant("my net onnxruntime", None, "onnxruntime", "fp32", TINY, file=tmp_path / "my net.onnx")
    (tmp_path / "my net.onnx").touch()
    names = [dense.name for dense in contestants._dense([one], [tmp_path / "my net.onnx"], 1)]
    assert names == ["released layout, 2 layers", "  the same, fused attention"]


def test_peers_that_threads_make_slower_are_run_with_one_as_well(monkeypatch, tiny_model):
    """NanoTrack V3 took twice as long with two threads as with one, and that was its only row."""
    made: list[tuple[str, int]] = []
    for kind in (OpenCVs, Nano):
        monkeypatch.setattr(kind, "open", lambda peer: made.append((peer.label, peer.threads)))
    monkeypatch.setattr(contestants, "_opencv_peers", lambda: ["kcf"])
    names = [
        one.name for one in contestants.gather([str(tiny_model.onnx)], ["onnxruntime"], ["nanotrackv3:D"], 2, 1, False)
    ][1:]
    assert names == ["kcf", "nanotrackv3", "nanotrackv3, one thread"]
    assert made == [("kcf", 2), ("nanotrackv3", 2), ("nanotrackv3", 1)]


def test_models_of_one_name_are_told_apart(tmp_path, monkeypatch, capsys):
    """a/m.onnx and b/m.onnx were rows of the same name, and LABEL=MODEL was refused."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/m.onnx", "b/m.onnx", "lr=1/n.onnx", "o.onnx", "o.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = ["a/m.onnx", "b/m.onnx", "lr=1/n.onnx", "o.onnx", "o.safetensors", "mine=a/m.onnx", "pico"]
    names = [name for name, _ in contestants.named(given)]
    assert names == ["a/m", "b/m", "n", "o.onnx", "o.safetensors", "mine", "pico"]
    assert [path for _, path in contestants.named(["x=b/m.onnx", "b/m.onnx"])] == [Path("b/m.onnx")] * 2
    assert contestants.named(["a/m.onnx"])[0][0] == "m"
    assert main(["benchmark", "--model", "a/m.onnx", "a/m.onnx"]) == 2
    assert "two of them are called 'm'; tell them apart with LABEL=MODEL" in capsys.readouterr().err
