"""`fartrack benchmark`: that it measures what it says; never how long something took."""

import json
import subprocess
import sys

import cv2
import pytest
import torch

from fartrack import export, graph
from fartrack.cli import benchmark as command
from fartrack.cli.main import main
from fartrack.config import ModelConfig
from fartrack.evaluation import benchmark, counting
from fartrack.network import FARTrack
from template_tracker import moving_square

TINY = ModelConfig(name="tiny", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(graph.build(export.state_of(FARTrack(TINY)), TINY, "fp16").SerializeToString())
    return path


def test_command_writes_a_table(model, tmp_path, capsys, monkeypatch):
    frames, boxes = moving_square(12, size=(160, 120))
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), frame)
    scores = tmp_path / "scores.json"
    scores.write_text('{"small onnxruntime": 50.5}')
    box = ",".join(str(v) for v in boxes[0])
    out = tmp_path / "out"
    given = [
        "--model",
        str(model),
        "--runtime",
        "onnxruntime",
        "torch",
        "--rounds",
        "2",
        "--threads",
        "1",
        "--targets",
        "3",
    ]
    assert (
        main(["benchmark", *given, "--video", str(tmp_path), "--box", box, "--out", str(out), "--scores", str(scores)])
        == 0
    )
    result = json.loads((out / "benchmark.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    ours, dense = rows["small onnxruntime"], rows["released layout, 2 layers"]
    released = TINY.replace(attention="joint", template_size=112, search_size=224)  # whatever the sizes of our crops
    assert dense["macs"] == counting.macs(counting.dense_products(released))
    assert (ours["precision"], rows["small torch"]["precision"]) == ("fp16", "fp32")
    assert ours["parameters"] == counting.parameters(TINY)
    assert ours["macs"] < dense["macs"]
    assert ours["frame_p95"] >= ours["frame_median"] > ours["network_median"] > 0
    assert dense["times_released"] == 1
    assert {"floor", "over_floor", "times_released"} <= set(ours)
    assert ours["score"] == 50.5
    assert result["frames"] == 2 * benchmark.TURN
    crowd = rows["small, each of 3 targets, onnxruntime"]
    assert crowd["targets"] == 3 and "extra_target" in crowd
    told = capsys.readouterr().out
    assert "small onnxruntime" in told
    assert "one target more costs" in told


def test_a_model_that_nothing_runs(tmp_path, capsys):
    """The table was empty and the exit code 0."""
    (tmp_path / "broken.onnx").write_text("this is no model")
    assert main(["benchmark", "--model", str(tmp_path / "broken.onnx"), "--out", str(tmp_path / "out")]) == 2
    assert "broken.onnx is not a whole model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


PLAIN = """
import sys
from pathlib import Path

class Plain:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *more):
        lacking = ("onnx", "onnxscript", "torch", "safetensors", "openvino", "matplotlib")
        return None if name.partition(".")[0] in lacking else self.finder.find_spec(name, *more)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Plain, sys.meta_path)
from fartrack.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_plain_install_measures_the_packaged_clip(model, tmp_path):
    """It lacks onnx, PyTorch and all else that the extras bring; the command crashed there whatever was given."""
    given = ["benchmark", "--model", str(model), "--rounds", "1", "--threads", "1", "--out", str(tmp_path)]
    said = subprocess.run([sys.executable, "-c", PLAIN, *given], capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr
    result = json.loads((tmp_path / "benchmark.json").read_text())
    names = {row["name"] for row in result["rows"]}
    assert "small onnxruntime" in names and not any("torch" in name or "released" in name for name in names)
    assert not list(tmp_path.glob(".*"))


def test_command_measures_growth(model, tmp_path, capsys):
    frames, boxes = moving_square(4)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    box = ",".join(str(v) for v in boxes[0])
    assert main(["benchmark", "--model", str(model), "--video", str(tmp_path), "--box", box, "--growth", "20"]) == 0
    assert "MB after 20 more" in capsys.readouterr().out


def test_a_table_that_cannot_be_written_is_printed(model, tmp_path, capsys):
    """Minutes of measuring were lost."""
    (tmp_path / "benchmark.json").mkdir()
    given = ["--model", f"mine={model}", "--runtime", "onnxruntime", "--rounds", "1", "--no-dense", "--no-floor"]
    assert main(["benchmark", *given, "--threads", "1", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "mine onnxruntime" in said.out and "benchmark.json" in said.err


@pytest.mark.parametrize(("options", "kept"), [({"rounds": 1}, 34), ({"rounds": 15}, 188), ({"growth": 9}, 193)])
def test_no_more_frames_are_decoded_than_are_seen(options, kept):
    """300 were kept whatever was asked for: two gigabytes of a 1080p video."""
    frames, _ = command.Benchmark(**options)._frames()
    assert len(frames) == kept


def test_names_that_mean_something_to_matplotlib(tmp_path, recwarn):
    """`$` began a formula, and the plot ended in a traceback."""
    pytest.importorskip("matplotlib")
    rows = [{"name": name, "fps": 9.0, "score": 50.0} for name in ("$x^$", "m\udce9", "追跡器")]
    assert command.plot(rows, tmp_path / "speed.png")
    assert cv2.imread(str(tmp_path / "speed.png")).shape == (675, 1050, 3)
    assert not recwarn.list


def test_square_brackets_are_shown(capsys):
    """Taken for markup, m[v1] and m[v2] were two rows of the same name."""
    row = {"name": "m[v1]", "precision": "", "frame_median": 1.0, "frame_p95": 1.0, "fps": 1.0, "extra_target": 0.5}
    about = {"processor": "any", "threads": 1, "versions": {}, "frame": [4, 3], "frames": 1, "warm_up": "none"}
    command._print({**about, "rows": [row]})
    assert capsys.readouterr().out.count("m[v1]") == 2  # in the table, and of one target more


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rounds", "0"], "--rounds is 0"),
        (["--targets", "0"], "--targets is 0"),
        (["--threads", "0"], "--threads is 0"),
        (["--video", "clip.mp4"], "belong together"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_wrong_options(options, said, capsys):
    assert main(["benchmark", *options]) == 2
    assert said in capsys.readouterr().err
