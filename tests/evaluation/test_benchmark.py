"""`fartrack benchmark`: that it measures what it says; never how long something took."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from fartrack import export, graph, models
from fartrack.cli import benchmark as command
from fartrack.cli.main import main
from fartrack.config import ModelConfig
from fartrack.evaluation import benchmark, counting
from fartrack.evaluation.benchmark import Contestant, Floor
from fartrack.evaluation.peers import Nano, OpenCVs
from fartrack.network import FARTrack
from fartrack.tracker import Tracker
from template_tracker import TemplateTracker, moving_square

TINY = ModelConfig(name="tiny", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(graph.build(export.state_of(FARTrack(TINY)), TINY, "fp16").SerializeToString())
    return path


def test_race_counts_turns_without_their_first_frame():
    frames, boxes = moving_square(9)
    a, b = (Contestant(name, TemplateTracker()) for name in "ab")
    calls = []
    floor = Floor(TINY, "fp32", {"here": lambda: calls.append(1)})
    benchmark.race([a, b], [floor], frames, boxes[0], rounds=3, warmup=1)
    assert [len(turn) for turn in a.frame] == [benchmark.TURN] * 3
    assert len(b.network) == 3
    assert a.tracker.started > 1  # the clip is shorter than what was run
    assert len(floor.times["here"]) == 3
    assert len(calls) == 2 * 4


def test_ratio_is_taken_round_by_round():
    slow, quick = Contestant("slow", TemplateTracker()), Contestant("quick", TemplateTracker())
    slow.frame, quick.frame = [[2.0], [20.0], [4.0]], [[1.0], [10.0], [1.0]]  # the machine was busy in the second
    assert benchmark.ratio(slow, quick) == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int8-bf16"])
def test_floor_runs_the_products(precision):
    floor = benchmark.floor_of(TINY, precision, 1)
    assert set(floor.runs) == ({"torch", "onnxruntime"} if precision == "fp32" else {"torch"})
    for run in floor.runs.values():
        run()


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


def took(seconds, *named, **more):
    """Who took so long for each frame, in two turns."""
    one = Contestant(*named, **more)
    one.frame, one.network = ([[seconds * share] * benchmark.TURN] * 2 for share in (1, 0.5))
    return one


def test_what_one_target_more_costs(model):
    """Of a tracker in the same arithmetic: the packaged one, in int8, stood for the one in bfloat16."""
    engine = "openvino-bf16"
    packaged = took(0.002, "small as packaged", None, engine, "int8-bf16", TINY, file=model)
    alone = took(0.010, f"small {engine}", None, engine, "bf16", TINY, file=model)
    three = took(0.022 / 3, "  each of 3 targets", None, engine, "bf16", TINY, targets=3, file=model)
    row = command._row(three, [packaged, alone, three], [], {})
    assert row["extra_target"] == pytest.approx(0.6)  # two more for 12 ms, where a tracker of its own takes 10
    assert "extra_target" not in command._row(three, [packaged, three], [], {})


def test_only_packaged_models_have_the_scores_of_their_cards(tmp_path):
    """A file of one's own that is called pico.onnx was drawn with the accuracy of the packaged pico."""
    for file, known in ((models.find("pico"), True), (tmp_path / "pico.onnx", False)):
        one = took(0.01, "pico onnxruntime", None, "onnxruntime", "fp16", TINY, file=file)
        assert ("score" in command._row(one, [one], [], {})) == known
    assert command._row(one, [one], [], {"pico": 40.0})["score"] == 40


def test_released_layout_of_a_file_with_a_blank_in_its_name(tmp_path):
    """Its name ended at the blank, and nothing was compared with."""
    one = Contestant("my net onnxruntime", None, "onnxruntime", "fp32", TINY, file=tmp_path / "my net.onnx")
    (tmp_path / "my net.onnx").touch()
    names = [dense.name for dense in command._dense([one], [tmp_path / "my net.onnx"], 1)]
    assert names == ["released layout, 2 layers", "  the same, fused attention"]


def test_peers_that_threads_make_slower_are_run_with_one_as_well(monkeypatch, tiny_model):
    """NanoTrack V3 took twice as long with two threads as with one, and that was its only row."""
    made: list[tuple[str, int]] = []
    for kind in (OpenCVs, Nano):
        monkeypatch.setattr(kind, "open", lambda peer: made.append((peer.label, peer.threads)))
    monkeypatch.setattr(command, "_opencv_peers", lambda: ["kcf"])
    of = command.Benchmark(
        model=((str(tiny_model.onnx),),), runtime=(("onnxruntime",),), no_dense=True, peer=(("nanotrackv3:D",),)
    )
    names = [one.name for one in of._contestants(2)][1:]
    assert names == ["kcf", "nanotrackv3", "nanotrackv3, one thread"]
    assert made == [("kcf", 2), ("nanotrackv3", 2), ("nanotrackv3", 1)]


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


def test_two_thousand_frames_do_not_grow(model):
    """Template memory, the runtime's arenas and the tracker's lists are bounded.

    What else this process does can take memory once; what grows with time grows every time.
    """
    frames, boxes = moving_square(12)

    def grown() -> int:
        before, after = benchmark.growth(Tracker(model, threads=1), frames, boxes[0], 2000, settle=400)
        return after - before

    assert any(grown() < 1e6 for _ in range(3))


def test_models_of_one_name_are_told_apart(tmp_path, monkeypatch, capsys):
    """a/m.onnx and b/m.onnx were rows of the same name, and LABEL=MODEL was refused."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/m.onnx", "b/m.onnx", "lr=1/n.onnx", "o.onnx", "o.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = ["a/m.onnx", "b/m.onnx", "lr=1/n.onnx", "o.onnx", "o.safetensors", "mine=a/m.onnx", "pico"]
    names = [name for name, _ in command._named(given)]
    assert names == ["a/m", "b/m", "n", "o.onnx", "o.safetensors", "mine", "pico"]
    assert [path for _, path in command._named(["x=b/m.onnx", "b/m.onnx"])] == [Path("b/m.onnx")] * 2
    assert command._named(["a/m.onnx"])[0][0] == "m"
    assert main(["benchmark", "--model", "a/m.onnx", "a/m.onnx"]) == 2
    assert "two of them are called 'm'; tell them apart with LABEL=MODEL" in capsys.readouterr().err


def test_a_table_that_cannot_be_written_is_printed(model, tmp_path, capsys):
    """Minutes of measuring were lost."""
    (tmp_path / "benchmark.json").mkdir()
    given = ["--model", f"mine={model}", "--runtime", "onnxruntime", "--rounds", "1", "--no-dense", "--no-floor"]
    assert main(["benchmark", *given, "--threads", "1", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "mine onnxruntime" in said.out and "benchmark.json" in said.err


@pytest.mark.parametrize(("options", "kept"), [({"rounds": 1}, 16), ({"rounds": 15}, 86), ({"growth": 9}, 193)])
def test_no_more_frames_are_decoded_than_are_seen(options, kept):
    """300 were kept whatever was asked for: two gigabytes of a 1080p video."""
    frames, _ = command.Benchmark(**options)._frames()
    assert len(frames) == kept


def test_all_frames_are_seen():
    frames, boxes = moving_square(benchmark.frames_of(2, 1))
    one = Contestant("a", TemplateTracker())
    benchmark.race([one], [], frames, boxes[0], rounds=2, warmup=1)
    assert one.position == len(frames) - 1 and one.tracker.started == 1


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
