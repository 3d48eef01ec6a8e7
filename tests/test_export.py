"""One model in every engine: the same numbers."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch

import fartrack
from fartrack import geometry, models
from fartrack.cli.main import main
from fartrack.errors import InputError
from fartrack.export import export, state_of, weights_of
from fartrack.memory import most_salient
from fartrack.network import without_idle_biases
from fartrack.runtime import Output, embed, open_runtime
from fartrack.runtime.torch_ import Torch
from fartrack.static import Static
from fartrack.target import Target
from manual import program
from small import BOX, SMALL, call, frames, network

CALLS = [call(SMALL, batch, tokens, seed) for seed, (batch, tokens) in enumerate(itertools.product((1, 3), (49, 37)))]


def engines(model):
    pytest.importorskip("openvino")
    return {
        "torch": open_runtime(model.weights, "torch", 1),
        "onnxruntime": open_runtime(model.onnx, "onnxruntime", 1),
        "openvino": open_runtime(model.onnx, "openvino", 1),
    }


def test_engines_agree(tiny_model):
    runtimes = engines(tiny_model)
    assert {r.config for r in runtimes.values()} == {SMALL}
    for inputs in CALLS:
        expected = runtimes["torch"](*inputs.values())
        for name in ("onnxruntime", "openvino"):
            given = runtimes[name](*inputs.values())
            for field, a, b in zip(Output._fields, expected, given, strict=True):
                assert a.dtype == b.dtype == np.float32
                np.testing.assert_allclose(b, a, atol=1e-3 if field == "logits" else 1e-4, err_msg=f"{name} {field}")


def test_engines_track_alike(tiny_model):
    images, boxes = frames(6), {}
    for name in engines(tiny_model):
        path = tiny_model.weights if name == "torch" else tiny_model.onnx
        tracker = fartrack.Tracker(path, name, 1)
        tracker.init(images[0], BOX)
        boxes[name] = np.array([tracker.update(f)[1] for f in images[1:]])
    np.testing.assert_allclose(boxes["onnxruntime"], boxes["torch"], atol=0.05)
    np.testing.assert_allclose(boxes["openvino"], boxes["torch"], atol=0.05)


def test_outputs_are_not_overwritten_by_the_next_call(tiny_model):
    for runtime in engines(tiny_model).values():
        first = runtime(*CALLS[0].values())
        copies = [x.copy() for x in first]
        runtime(*call(SMALL, seed=9, tokens=49).values())
        for x, copy in zip(first, copies, strict=True):
            np.testing.assert_array_equal(x, copy)


def test_batch_is_several_single_calls(tiny_model):
    batch = CALLS[2]
    for runtime in engines(tiny_model).values():
        whole = runtime(*batch.values())
        for i in range(3):
            one = runtime(*(a[i : i + 1] for a in batch.values()))
            for a, b in zip(whole, one, strict=True):
                np.testing.assert_allclose(a[i : i + 1], b, atol=1e-4)


def test_a_file_reads_what_its_network_remembers(tmp_path):
    """One-way memory was of keys and values with their biases in PyTorch, and without them in files."""
    net = network(SMALL.replace(attention="oneway"))
    for block in net.blocks:
        torch.nn.init.normal_(block.attn.qkv.bias)
    inputs = call(net.config)
    export(net, tmp_path / "m.onnx", "fp32", inputs=[inputs])
    engines = Torch.of(net), open_runtime(tmp_path / "m.onnx", "onnxruntime", 1)
    tokens = [engine(*inputs.values()).tokens for engine in engines]
    np.testing.assert_allclose(tokens[1], tokens[0], atol=1e-4)
    memory = np.repeat(tokens[0][:, None], 4, 1)
    ours, theirs = (engine(inputs["search"], inputs["template"], memory).logits for engine in engines)
    np.testing.assert_allclose(theirs, ours, atol=1e-3)


def test_embed_is_what_a_frame_gives(tiny_model):
    runtime = open_runtime(tiny_model.onnx, "onnxruntime", 1)
    template = CALLS[0]["template"]
    np.testing.assert_allclose(embed(runtime, template), runtime(*CALLS[0].values()).tokens, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"trajectory": 2}, {"attention": "oneway"}, {"keep": 1.0}, {"templates": 2}], ids=str
)
def test_other_configs(tmp_path, changes):
    config = SMALL.replace(**changes)
    parity = export(network(config), tmp_path / "m.onnx", "fp32", inputs=[call(config), call(config, 2, 49)])
    assert parity.logits < 1e-3
    tracker = fartrack.Tracker(tmp_path / "m.onnx", threads=1)
    assert tracker.config == config
    images = frames(4)
    tracker.init(images[0], BOX)
    assert all(tracker.update(f)[1][2] >= 10 for f in images[1:])


def test_weights_come_back(tiny_model, tmp_path):
    """But for biases that change nothing, which another layer's takes in."""
    net = models.load_network(tiny_model.weights)
    weights, same = weights_of(tiny_model.onnx)
    assert same == net.config
    written = without_idle_biases(net).state_dict()
    assert set(weights) == set(written)
    for name, value in written.items():
        torch.testing.assert_close(weights[name], value, atol=0, rtol=0)
    changed = {name for name, value in net.state_dict().items() if not value.equal(weights[name])}
    assert {name.removeprefix("blocks.").partition(".")[2] for name in changed} == {"attn.qkv.bias", "attn.proj.bias"}
    assert all(written[f"blocks.{i}.attn.qkv.bias"][: net.config.width].any() for i in range(net.config.depth))


def test_rounded_weights_are_not_exported_again(tmp_path):
    """Who gives the int8 file is told to give the float one, which is what an export is made of."""
    export(network(), tmp_path / "m.onnx", "int8", inputs=CALLS[:1])
    with pytest.raises(InputError, match=r"m\.onnx is int8, .*: give the float model that it was made of"):
        models.load_network(tmp_path / "m.onnx")


def test_half_precision_files_are_smaller_and_near(tiny_model, tmp_path):
    net = models.load_network(tiny_model.weights)
    export(net, tmp_path / "half.onnx", "fp16", inputs=CALLS[:2])
    assert (tmp_path / "half.onnx").stat().st_size < 0.62 * tiny_model.onnx.stat().st_size
    weights, _ = weights_of(tmp_path / "half.onnx")
    for name, value in state_of(without_idle_biases(net)).items():
        np.testing.assert_allclose(weights[name], value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("static", [False, True])
def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch, static):
    monkeypatch.setitem(fartrack.export.BOUND, "fp32", (0.0, 0.0))
    with pytest.raises(InputError, match="not written"):
        export(network(), tmp_path / "m.onnx", "fp32", inputs=CALLS[:1], fixed=static)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_not_taken_for_this_ones(tmp_path):
    """Its unchecked files lay where this one worked and were moved over the user's own."""
    (tmp_path / ".m.part").mkdir()
    (tmp_path / ".m.part/m.json").write_text("unchecked")
    (tmp_path / "m.json").write_text("mine")
    export(network(), tmp_path / "m.onnx", "fp32", inputs=CALLS[:1])
    assert (tmp_path / "m.json").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".m.part", "m.json", "m.onnx"]


def test_two_exports_at_once_leave_each_other_alone(tmp_path, monkeypatch):
    """m.onnx in half and m.xml, say: the one that ended first took the other's files away or moved them unchecked."""
    compare = fartrack.export.compare

    def meanwhile(*call):
        monkeypatch.setattr(fartrack.export, "compare", compare)
        export(network(), tmp_path / "m.onnx", "fp16", inputs=CALLS[:1])
        return compare(*call)

    monkeypatch.setattr(fartrack.export, "compare", meanwhile)
    export(network(), tmp_path / "m.onnx", "fp32", inputs=CALLS[:1])
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("value", "precision", "says"),
    [
        (torch.nan, "fp32", r"m\.onnx is not written: words has values that are not finite"),
        (1e5, "fp16", "words has values above 65504.* take fp32"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")  # what libraries say of other things is no matter here
def test_numbers_that_a_file_cannot_hold(tmp_path, value, precision, says):
    """The report said that NaN logits differ by 0; half precision made large weights infinite with a warning."""
    net = network()
    with torch.no_grad():
        net.words[0, 0] = value
    with pytest.raises(InputError, match=says):
        export(net, tmp_path / "m.onnx", precision, inputs=CALLS[:1])
    assert list(tmp_path.iterdir()) == []


def test_damage_is_seen_where_it_is_left_out(tmp_path):
    net = network()
    with torch.no_grad():
        net.blocks[0].attn.qkv.bias[SMALL.width] = float("nan")
    with pytest.raises(InputError, match=r"blocks\.0\.attn\.qkv\.bias has values that are not finite"):
        export(net, tmp_path / "m.onnx", "fp32", inputs=CALLS[:1])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("m.onnx", {"precision": "fp8"}, "fp8"),
        ("m.onnx", {"form": "coreml"}, "coreml"),
        ("m.bin", {}, r"\.onnx"),
        ("m.onnx", {"inputs": []}, "no call to compare it on"),
        ("file/m.onnx", {}, "cannot be written"),
    ],
)
def test_wrong_wishes(tmp_path, name, options, says):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=says):
        export(network(), tmp_path / name, **{"precision": "fp32", "inputs": CALLS[:1], **options})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_nothing_of_others_is_replaced_by_an_openvino_file(tmp_path):
    """A .bin took the place of anything that was called so, and stayed alone where the .xml found a folder."""
    pytest.importorskip("openvino")
    (tmp_path / "folder.xml").mkdir()
    (tmp_path / "data.bin").write_text("mine")
    (tmp_path / "both.bin").mkdir()
    (tmp_path / "other.xml").write_text("<annotation>")
    (tmp_path / "other.bin").write_text("of that")
    for name, says in (
        ("folder.xml", r"folder\.xml is a folder: choose another --out"),
        ("both.xml", r"both\.bin is a folder: choose another --out"),
        ("other.xml", r"other\.bin, which"),
        ("data.xml", r"data\.bin, which \S+data\.xml would come with, is there already: move it, or choose another"),
    ):
        with pytest.raises(InputError, match=says):
            export(network(), tmp_path / name, "fp32", form="openvino", inputs=CALLS[:1])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "both.bin",
        "data.bin",
        "folder.xml",
        "other.bin",
        "other.xml",
    ]
    assert (tmp_path / "data.bin").read_text() == "mine"
    for _ in range(2):  # its own are
        export(network(), tmp_path / "m.xml", "fp32", form="openvino", inputs=CALLS[:1])


def test_command_makes_a_model_that_keeps_more(tiny_model, tmp_path):
    out = tmp_path / "whole.onnx"
    assert main(["export", str(tiny_model.weights), "--keep", "1", "--out", str(out)]) == 0
    assert weights_of(out)[1].keep == 1


def test_command_makes_a_model_that_takes_fewer_templates(tmp_path):
    """And what is packaged takes one from every tenth, as the accuracy tables have it."""
    out = tmp_path / "fast.onnx"
    assert main(["export", "pico", "--update-interval", "2", "--precision", "fp16", "--out", str(out)]) == 0
    assert weights_of(out)[1].renewal == 2
    assert weights_of(models.find("pico"))[1].renewal == 10


@pytest.mark.parametrize("count", [2, 3, 7])
def test_command_makes_a_model_of_another_number_of_templates(tmp_path, count):
    """Fewer are faster; the file is compared with PyTorch before it is kept."""
    out = tmp_path / "few.onnx"
    assert main(["export", "femto", "--templates", str(count), "--precision", "fp16", "--out", str(out)]) == 0
    assert weights_of(out)[1].templates == count
    tracker, frame = fartrack.Tracker(out, "onnxruntime", 1), np.full((120, 160, 3), 90, np.uint8)
    frame[40:70, 60:100] = 200
    tracker.init(frame, (60, 40, 40, 30))
    for _ in range(count + 2):  # until all slots are filled
        _, box = tracker.update(frame)
    assert geometry.iou(box, (60, 40, 40, 30)) > 0.5


STATIC = [{}, {"attention": "oneway"}, {"attention": "oneway", "trajectory": 1, "keep": 1.0}, {"templates": 2}]


@pytest.mark.parametrize("changes", STATIC, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_static_file_is_the_network_at_one_shape(tmp_path, changes, precision):
    """In a later frame and in the given one, which runs with a memory of zeros."""
    config = SMALL.replace(**changes)
    net = network(config)
    later = call(config, seed=3)
    given = call(config, seed=4) | {"memory": np.zeros_like(later["memory"])}
    export(net, tmp_path / "m.onnx", precision, inputs=[later, given], fixed=True)
    run, reference = Static(tmp_path / "m.onnx"), Torch.of(net)
    atol = 1e-4 if precision == "fp32" else 0.1
    for inputs in (later, given):
        for ours, theirs in zip(reference(*inputs.values()), run(*inputs.values()), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(theirs, ours, atol=atol)


@pytest.mark.parametrize("changes", STATIC, ids=str)
def test_a_static_file_has_no_open_size_and_says_what_it_takes(tmp_path, changes):
    config = SMALL.replace(**changes)
    export(network(config), tmp_path / "m.onnx", "fp32", inputs=[call(config), call(config, 1, 49)], fixed=True)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [o.domain for o in model.opset_import] == [""]
    graph = model.graph
    known = {v.name: v.type.tensor_type for v in [*graph.value_info, *graph.output, *graph.input]}
    assert {name for node in graph.node for name in node.output} <= known.keys()
    assert all(d.dim_value > 0 for kind in known.values() for d in kind.shape.dim)
    constants = {t.name for t in graph.initializer}
    for node in graph.node:  # nothing is computed from constants, nor any shape
        assert not constants.issuperset(node.input)
        assert constants.issuperset(node.input[1:]) or node.op_type not in ("Slice", "Reshape", "Split", "Pad")
    assert not {"Shape", "Gather"} & {n.op_type for n in graph.node} - ({"Gather"} if config.trajectory else set())
    about = {p.key: p.value for p in model.metadata_props}
    said = json.loads(about["inputs"])
    assert "fixed" in about["static"] and said.keys() == {i.name for i in graph.input}
    for i in graph.input:
        numbers = "int64" if i.name == "trajectory" else "float32"
        assert i.type.tensor_type.elem_type == getattr(onnx.TensorProto, "INT64" if numbers == "int64" else "FLOAT")
        shape = tuple(d.dim_value for d in i.type.tensor_type.shape.dim)
        assert said[i.name].startswith(f"{shape} {numbers}") and i.doc_string == said[i.name]


def test_a_static_half_file_is_half_and_the_same_as_the_network_rounded_once(tmp_path):
    """What is folded is stored in half only where that loses nothing."""
    net = network()
    export(net, tmp_path / "whole.onnx", "fp32", inputs=CALLS[:1], fixed=True)
    export(net, tmp_path / "half.onnx", "fp16", inputs=CALLS[:1], fixed=True)
    assert (tmp_path / "half.onnx").stat().st_size < 0.75 * (tmp_path / "whole.onnx").stat().st_size
    export(net, tmp_path / "open.onnx", "fp16", inputs=CALLS[:1])
    inputs = call(SMALL).values()
    expected = open_runtime(tmp_path / "open.onnx", "onnxruntime", 1)(*inputs)
    for ours, theirs in zip(expected, Static(tmp_path / "half.onnx")(*inputs), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_a_static_file_is_not_opened_to_track(tmp_path, capsys, monkeypatch):
    """Engines gave tracebacks, each its own."""
    ov = pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    export(network(), tmp_path / "m.onnx", "fp32", inputs=CALLS[:1], fixed=True)
    ov.save_model(ov.Core().read_model("m.onnx"), "m.xml")
    opened = [("m.onnx", name) for name in (None, "onnxruntime", "openvino", "opencv", "torch")]
    for file, runtime in [*opened, ("m.xml", None)]:
        with pytest.raises(InputError, match=rf"^{file} has fixed shapes, for other runtimes .*without --static$"):
            fartrack.Tracker(Path(file), runtime)
    assert main(["export", "m.onnx", "--out", "again.onnx"]) == 2
    told = capsys.readouterr().err
    assert "has fixed shapes" in told and told.count("\n") == 1


def test_command_makes_a_static_file_that_tracks_as_the_manual_says(tmp_path, monkeypatch):
    """Its program with the lines changed that it names, and the rule of the first frame."""
    monkeypatch.chdir(tmp_path)
    assert main(["export", "femto", "--static"]) == 0
    Path("alone.py").write_text(program("udiff"), encoding="utf-8")

    images, config = frames(5), weights_of(models.find("femto"))[1]
    run, shape = Static(Path("femto-static.onnx")), (1, 4, config.kept_tokens, config.memory_width)
    target = Target(config, images[0], BOX)
    template = target.first_template(images[0])
    target.start(template, np.empty((1, config.memory_width), np.float32))  # for the crop alone
    first = run(target.look(images[0]).search[None], template[None], np.zeros(shape, np.float32))
    target.start(template, first.tokens[0][most_salient(first.saliency[0], config.kept_tokens)])
    expected = []
    for i, image in enumerate(images):
        cv2.imwrite(f"{i:03d}.png", image)
        if i:
            search, crop, memory, _ = target.look(image)
            assert memory.shape == shape[1:]
            output = run(search[None], crop[None], memory[None])
            target.absorb(image, Output(*(x[0] for x in output)))
            expected.append((*target.box, target.score))
    command = [sys.executable, "alone.py", "femto-static.onnx", "%03d.png", ",".join(map(str, BOX))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    given = np.array([[float(v) for v in line.split(",")] for line in done.stdout.splitlines()])
    np.testing.assert_allclose(given, expected, atol=0.02)


def test_command_refuses_in_one_line(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = [
        (["nosuch.safetensors"], "nosuch.safetensors"),
        ([str(tiny_model.onnx), "--out", str(tiny_model.onnx)], "the model itself"),
        ([str(tiny_model.weights), "--precision", "fp8"], "fp8"),
        ([str(tiny_model.weights), "--out", "m.txt"], "m.txt"),
        ([str(tiny_model.weights), "--keep", "2"], "keep"),
        ([str(tiny_model.weights), "--update-interval", "0"], "update_interval must be at least 1"),
        ([str(tiny_model.weights), "--update-interval", "2"], "has joint attention, where every frame needs a new"),
        ([str(tiny_model.weights), "--templates", "3"], "with joint attention each template slot has an identity"),
        (["femto", "--templates", "0"], "templates must be at least 1"),
        (["femto", "--static", "--format", "openvino"], "--static files are ONNX, for other runtimes to convert"),
        (["femto", "--static", "--precision", "int8"], "--static files are fp32 or fp16"),
        (["femto", "--static", "--update-interval", "2"], "a static file takes a new template in every frame; give --"),
        (["femto", "--static", "--templates", "1"], "a static file needs --templates 2 or more"),
    ]
    for args, says in wrong:
        assert main(["export", *args]) == 2
        told = capsys.readouterr().err
        assert says in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("package", "says"),
    [("onnx", 'pip install ".[train]" in a checkout of fartrack'), ("openvino", "pip install openvino")],
)
def test_command_says_what_to_install(tiny_model, capsys, monkeypatch, package, says):
    """In the plain install, what is named can be installed: fartrack and its extras are not on PyPI."""
    monkeypatch.setitem(sys.modules, package, None)
    if package == "onnx":
        monkeypatch.delitem(sys.modules, "fartrack.export")
    assert main(["export", str(tiny_model.weights), "--format", "openvino"]) == 2
    assert capsys.readouterr().err == f"fartrack: export needs {package}: {says}\n"


def test_an_openvino_that_is_too_old_is_refused_before_the_work(tiny_model, capsys, monkeypatch, tmp_path):
    pytest.importorskip("openvino")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2025.2.0")
    monkeypatch.setattr("fartrack.export.export", lambda *given, **more: pytest.fail("worked for nothing"))
    arguments = ["export", str(tiny_model.weights), "--format", "openvino", "--out", str(tmp_path / "x.xml")]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "needs openvino 2025.3 or newer, here is 2025.2.0" in told and told.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_a_stopped_export_leaves_nothing(tmp_path):
    """A folder of megabytes with a hidden name stayed after SIGTERM, as a job's time limit sends it."""
    start = "import sys; from fartrack.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "export", "pico", "--out", tmp_path / "pico.onnx"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < end:
            time.sleep(0.02)
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        process.terminate()
        assert process.wait(60) == 143
    assert not list(tmp_path.iterdir())
