"""Every engine answers the same call alike."""

import functools
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from fartrack import export, graph, quantise
from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.network import FARTrack, decode
from fartrack.runtime import open_runtime

SMALL = ModelConfig(name="small", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)
OPENVINO = pytest.param(
    "openvino", marks=pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="no openvino")
)
OPENCV = pytest.param("opencv", marks=pytest.mark.skipif(not hasattr(cv2.dnn, "ENGINE_NEW"), reason="OpenCV before 5"))
ENGINES = ["onnxruntime", OPENVINO, OPENCV]


def call(kept=SMALL.kept_tokens, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "search": rng.integers(0, 256, (batch, 96, 96, 3), np.uint8),
        "template": rng.integers(0, 256, (batch, 48, 48, 3), np.uint8),
        "memory": rng.normal(0, 0.4, (batch, 4, kept, 48)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    weights = export.state_of(FARTrack(SMALL))
    ranges = quantise.measure(weights, SMALL, [call(seed=s) for s in range(3)])
    for precision in ("fp16", "int8"):
        model = graph.build(weights, SMALL, precision, ranges)
        (folder / f"{precision}.onnx").write_bytes(model.SerializeToString())
    return folder


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_agree_with_pytorch(files, engine):
    """Two targets at once, whole and pruned templates; answers stay when the next call comes."""
    ours, reference = open_runtime(files / "fp16.onnx", engine, 1), open_runtime(files / "fp16.onnx", "torch")
    assert (ours.precision, reference.precision, ours.config) == ("fp16", "fp32", SMALL)
    getattr(ours, "prepare", lambda: None)()  # together from the first call on
    calls = [call(SMALL.template_tokens), call(batch=2), call(batch=3, seed=1)]
    answers = [ours(*c.values()) for c in calls]
    for given, inputs in zip(answers, calls, strict=True):
        for theirs, plain in zip(given, reference(*inputs.values()), strict=True):
            np.testing.assert_allclose(theirs, plain, atol=2e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_are_read_anew_in_each_call(files, engine):
    """OpenVINO keeps its inputs bound: what changed in the same place counts, and so does the same shape elsewhere."""
    engine, first, second = open_runtime(files / "fp16.onnx", engine, 1), call(), call(seed=1)
    expected = [engine(*inputs.values()).logits for inputs in (first, second, first)]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    held = {name: array.copy() for name, array in first.items()}
    for answer, inputs in zip(expected, (first, second, first), strict=True):
        for name, array in inputs.items():
            held[name][:] = array
        np.testing.assert_array_equal(engine(*held.values()).logits, answer)
    for array in second.values():
        array.flags.writeable = False
    np.testing.assert_array_equal(engine(*second.values()).logits, expected[1])
    turned = (np.asfortranarray(array) for array in first.values())
    np.testing.assert_array_equal(engine(*turned).logits, expected[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_int8_runs_near_the_float_model(files, engine):
    ours = open_runtime(files / "int8.onnx", engine, 1)
    assert ours.precision == "int8"
    plain = open_runtime(files / "fp16.onnx", "onnxruntime", 1)(*call().values()).logits
    assert (ours(*call().values()).logits - plain).std() < 0.1 * plain.std()


@pytest.mark.parametrize("engine", ["onnxruntime", OPENVINO])
def test_frames_without_a_new_template(engine, tmp_path):
    torch.manual_seed(0)
    config = SMALL.replace(attention="oneway", depth=3, update_interval=2)
    inputs = call() | {"memory": call()["memory"].repeat(config.memory_width // SMALL.width, axis=3)}
    weights = export.state_of(FARTrack(config))
    ranges = quantise.measure(weights, config, [inputs])
    for precision in ("fp32", "int8"):
        (tmp_path / f"{precision}.onnx").write_bytes(
            graph.build(weights, config, precision, ranges).SerializeToString()
        )
    whole = inputs["memory"]
    between = inputs | {"template": inputs["template"][:, :0], "memory": np.concatenate([whole, whole[:, :1]], 1)}
    plain, floats, rounded = (
        open_runtime(tmp_path / file, runtime, 1)
        for file, runtime in (("fp32.onnx", "torch"), ("fp32.onnx", engine), ("int8.onnx", engine))
    )
    pairs = [{k: np.concatenate([v, v[:, ::-1]]) for k, v in one.items()} for one in (inputs, between)]
    for given in (inputs, between, *pairs):  # with a new template and without, one target and two
        if len(given["search"]) == 2:
            for runtime in (floats, rounded):
                getattr(runtime, "prepare", lambda: None)()
        expected = plain(*given.values())
        for ours, theirs in zip(floats(*given.values()), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert (rounded(*given.values()).logits - expected.logits).std() < 0.1 * expected.logits.std()


@pytest.mark.parametrize("engine", [OPENCV])
def test_no_frames_without_a_new_template_in_opencv(engine, tmp_path):
    """The empty input ended the process: every frame gives a template, and a file of one template is refused."""
    for config in (
        SMALL.replace(attention="oneway", update_interval=2),
        SMALL.replace(attention="oneway", templates=1),
    ):
        (tmp_path / f"{config.templates}.onnx").write_bytes(
            graph.build(export.state_of(FARTrack(config)), config).SerializeToString()
        )
    assert open_runtime(tmp_path / "5.onnx", engine).config.update_interval == 1
    with pytest.raises(InputError, match=r"1\.onnx has one template, with which runtime opencv cannot run"):
        open_runtime(tmp_path / "1.onnx", engine)


def test_opencv_before_5_is_said(files, monkeypatch):
    monkeypatch.delattr(cv2.dnn, "ENGINE_NEW", raising=False)
    with pytest.raises(InputError, match=r"^runtime opencv needs OpenCV 5\.0 or newer, here is .*: pip install"):
        open_runtime(files / "fp16.onnx", "opencv")


def test_int8_is_nothing_for_pytorch(files):
    with pytest.raises(InputError, match="int8"):
        open_runtime(files / "int8.onnx", "torch")


def test_a_file_of_openvino_is_nothing_for_onnx_runtime(tmp_path):
    """It was said to be damaged."""
    (tmp_path / "a.xml").write_text("<net/>")
    with pytest.raises(InputError, match=r"a\.xml is in OpenVINO's format and runs with --runtime openvino"):
        open_runtime(tmp_path / "a.xml", "onnxruntime")


def test_suffixes_may_be_written_large(files, tmp_path):
    """Such a file was said to be damaged."""
    model = tmp_path / "M.ONNX"
    model.write_bytes((files / "fp16.onnx").read_bytes())
    for engine in (None, "torch"):
        assert open_runtime(model, engine, 1).config == SMALL


def test_half_of_a_model_of_openvino(tmp_path):
    """It was said to be damaged, whose .bin was left behind when it was moved."""
    pytest.importorskip("openvino")
    export.export(FARTrack(SMALL).eval(), tmp_path / "m.xml", form="openvino", inputs=[call()])
    (tmp_path / "m.bin").rename(tmp_path / "n.bin")
    with pytest.raises(InputError, match=r"m\.xml needs its m\.bin beside it"):
        open_runtime(tmp_path / "m.xml", "openvino")


def test_bfloat16_where_the_cpu_has_it(files):
    ov = pytest.importorskip("openvino")
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(InputError, match="bfloat16"):
            open_runtime(files / "fp16.onnx", "openvino-bf16")
        return
    ours = open_runtime(files / "fp16.onnx", "openvino-bf16", 1)
    assert ours.precision == "bf16"
    plain = open_runtime(files / "fp16.onnx", "onnxruntime", 1)(*call().values()).logits
    given = ours(*call().values())
    assert (given.logits - plain).std() < 0.1 * plain.std()
    # Steps of bfloat16 would be a fifth of a pixel: the box is made of the logits in float32.
    np.testing.assert_allclose(given.box, decode(torch.from_numpy(given.logits), SMALL).numpy(), atol=1e-5)


def test_a_second_target_does_not_stop_a_camera(files, monkeypatch):
    """OpenVINO compiled for several targets in the frame in which the second one was there: for up to three seconds."""
    pytest.importorskip("openvino")
    from fartrack.runtime import openvino_

    monkeypatch.setattr(openvino_, "SINGLY", 2)
    runtime = openvino_.OpenVino(files / "fp16.onnx", 1)
    compiled, held = [], threading.Event()
    request = runtime._request

    def slow(batch, *shape):
        if batch == -1:
            assert held.wait(30) and threading.current_thread() is not threading.main_thread()
        compiled.append((batch, *shape))
        return request(batch, *shape)

    monkeypatch.setattr(runtime, "_request", slow)
    both = call(batch=2)
    alone = [runtime(*(value[i : i + 1] for value in both.values())) for i in range(2)]
    for _ in range(2):  # answered while the other is still being compiled
        for given, *apart in zip(runtime(*both.values()), *alone, strict=True):
            np.testing.assert_array_equal(given, np.concatenate(apart))
    assert {batch for batch, *_ in compiled} == {1}
    held.set()
    for given, *apart in zip(runtime(*both.values()), *alone, strict=True):
        np.testing.assert_allclose(given, np.concatenate(apart), atol=2e-3)
    assert len(compiled) == 4 and {batch for batch, *_ in compiled} == {1, -1}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("changes", [{"attention": "oneway", "trajectory": 7}, {"trajectory": 1}], ids=str)
def test_past_boxes_and_both_attentions_in_every_engine(engine, changes, tmp_path):
    torch.manual_seed(0)
    config = SMALL.replace(**changes)
    inputs = call() | {"memory": call()["memory"].repeat(config.memory_width // SMALL.width, axis=3)}
    inputs["trajectory"] = np.random.default_rng(0).integers(0, config.bins, (1, config.trajectory_tokens))
    model = tmp_path / "model.onnx"
    model.write_bytes(graph.build(export.state_of(FARTrack(config)), config).SerializeToString())
    plain = open_runtime(model, "torch", 1)(*inputs.values())
    for ours, theirs in zip(open_runtime(model, engine, 1)(*inputs.values()), plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("changes", [{}, {"attention": "oneway"}, {"trajectory": 1}], ids=str)
def test_heads_joined_for_openvino_give_the_same(changes, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    from fartrack.runtime import openvino_

    torch.manual_seed(0)
    config = SMALL.replace(**changes)
    inputs = call(batch=1) | {"memory": call()["memory"].repeat(config.memory_width // SMALL.width, axis=3)}
    if config.trajectory:
        inputs["trajectory"] = np.full((1, config.trajectory_tokens), 7)
    model = tmp_path / "model.onnx"
    model.write_bytes(graph.build(export.state_of(FARTrack(config)), config).SerializeToString())
    joined = openvino_.OpenVino(model, 1)(*inputs.values())
    seen = []
    monkeypatch.setattr(openvino_, "join_heads", lambda model, attentions, config: seen.extend(attentions))
    apart = openvino_.OpenVino(model, 1)(*inputs.values())
    assert seen
    for ours, plain in zip(joined, apart, strict=True):
        np.testing.assert_allclose(ours, plain, atol=2e-5)


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("openvino", "pip install openvino"),
        ("openvino-bf16", "pip install openvino"),
        ("torch", 'pip install ".[train]" in a checkout of fartrack'),
        ("cuda", 'pip install ".[train]" in a checkout of fartrack'),
    ],
)
def test_what_to_install_for_an_engine(monkeypatch, tmp_path, engine, says):
    """What is named can be installed: fartrack and its extras are not on PyPI."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        open_runtime(tmp_path / "any.onnx", engine)
    assert str(caught.value) == f"runtime {engine} is not installed: {says}"


@pytest.mark.parametrize("engine", ["onnx", ["onnxruntime"], 3])
def test_engines_that_are_unknown(tmp_path, engine):
    with pytest.raises(InputError, match=r"^runtime .* is unknown: choose one of onnxruntime, openvino"):
        open_runtime(tmp_path / "any.onnx", engine)


@pytest.mark.parametrize(("version", "refused"), [("2024.6.0", True), ("2025.2.0", True), ("2025.3.0", False)])
def test_an_openvino_that_is_too_old(files, monkeypatch, version, refused):
    """Of these none could read our int8 files, and before 2025 an ImportError came of every model's name."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if not refused:
        assert open_runtime(files / "fp16.onnx", "openvino", 1).config == SMALL
        return
    with pytest.raises(InputError) as caught:
        open_runtime(files / "fp16.onnx", "openvino", 1)
    says = f"runtime openvino needs openvino 2025.3 or newer, here is {version}: pip install openvino --upgrade"
    assert str(caught.value) == says


def test_an_engine_that_does_not_load(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "fartrack.runtime.onnxruntime_", None)
    with pytest.raises(InputError, match=r"^runtime onnxruntime cannot be loaded \(.*\): pip install onnxruntime$"):
        open_runtime(files / "fp16.onnx")


def test_too_little_memory_is_not_blamed_on_the_installation(files, monkeypatch):
    def short(name):
        raise ImportError(f"{name}.so: std::bad_alloc")

    monkeypatch.setattr("fartrack.runtime.importlib.import_module", short)
    with pytest.raises(InputError, match=r"^not enough memory for runtime onnxruntime "):
        open_runtime(files / "fp16.onnx")


def test_too_little_memory_is_not_blamed_on_the_model(files, monkeypatch):
    """It was said to be not whole, and to be copied again."""

    def session(*_, **__):
        raise RuntimeError(
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc\n"
        )

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(InputError, match=r"not enough memory \(or threads\) for .*: close other programs"):
        open_runtime(files / "fp16.onnx")


def changed(files, path, change):
    """A file of which engines notice only when it runs that a tensor of it was changed."""
    model = onnx.load(files / "fp16.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if change(tensor.name, array):
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_loads_but_does_not_run(files, tmp_path, engine):
    """Its engine's error was a traceback."""

    def change(_, array):
        if array.tolist() == [0, 36, 768]:  # to patches of the search crop
            array[1] = 37
            return True
        return False

    with pytest.raises(InputError) as caught:
        open_runtime(changed(files, tmp_path / "broken.onnx", change), engine, 1)(*call().values())
    assert str(caught.value).startswith(f"{tmp_path / 'broken.onnx'} is not a whole model (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_too_little_memory_in_a_frame_is_not_blamed_on_the_model(files, monkeypatch, engine):
    runtime = open_runtime(files / "fp16.onnx", engine, 1)

    def short(*_, **__):
        raise RuntimeError("std::bad_alloc")

    class Short:
        run = setInput = short

    name, value = {"openvino": ("_infer", short)}.get(engine, ("net" if engine == "opencv" else "session", Short()))
    monkeypatch.setattr(runtime, name, value)
    with pytest.raises(InputError, match=r"^not enough memory \(or threads\) for .*fp16\.onnx \(std::bad_alloc\): "):
        runtime(*call().values())


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_that_are_not_finite(files, tmp_path, engine):
    """A bit of a weight tracked with NaN for a score and exit code 0."""

    def change(name, array):
        if name.startswith("net.norm.bias"):
            array[:] = np.nan
            return True
        return False

    runtime = open_runtime(changed(files, tmp_path / "broken.onnx", change), engine, 1)
    with pytest.raises(InputError, match=r"broken\.onnx gives scores that are not finite: its weights are damaged"):
        runtime(*call().values())


@pytest.mark.parametrize("engine", [*ENGINES, "torch"])
def test_a_damaged_weight_is_found_by_the_checksum(files, tmp_path, engine):
    """It tracked, to somewhere else."""
    export.export(FARTrack(SMALL).eval(), tmp_path / "m.onnx", inputs=[call()])
    whole = bytearray((tmp_path / "m.onnx").read_bytes())
    open_runtime(tmp_path / "m.onnx", engine, 1)
    whole[len(whole) // 2] ^= 1
    (tmp_path / "m.onnx").write_bytes(whole)
    with pytest.raises(InputError, match=r"m\.onnx is not as it was written \(its checksum is another\): export"):
        open_runtime(tmp_path / "m.onnx", engine, 1)


@pytest.mark.parametrize("engine", [*ENGINES, "torch"])
def test_an_empty_file(tmp_path, engine):
    """It was said to be an ONNX file, though not ours."""
    (tmp_path / "m.onnx").touch()
    with pytest.raises(InputError, match=r"m\.onnx is not a whole model \(it is empty\): export or copy it again"):
        open_runtime(tmp_path / "m.onnx", engine, 1)


@pytest.mark.parametrize("engine", [*ENGINES, "torch"])
def test_a_file_damaged_where_it_says_what_it_is(files, tmp_path, engine):
    """A byte that is no UTF-8 in its metadata was a traceback."""
    whole = (files / "fp16.onnx").read_bytes()
    (tmp_path / "broken.onnx").write_bytes(whole.replace(b'"name": "small"', b'"name": "sm\xffll"'))
    with pytest.raises(InputError, match=r"broken\.onnx(: model config cannot be read| is not a whole)"):
        open_runtime(tmp_path / "broken.onnx", engine)


@pytest.mark.parametrize("engine", [*ENGINES, "torch"])
def test_a_broken_config_is_said_of_its_file(files, tmp_path, engine):
    """`heads: 0` in a file's metadata ended in a traceback, and `attention: both` tracked as something else."""
    model = onnx.load(files / "fp16.onnx")
    (about,) = (p for p in model.metadata_props if p.key == "fartrack")
    about.value = about.value.replace('"heads": 3', '"heads": 0')
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(InputError) as caught:
        open_runtime(tmp_path / "broken.onnx", engine)
    says = f"{tmp_path / 'broken.onnx'}: model config 'small': heads must be at least 1; make the file again"
    assert str(caught.value) == says


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the stack for signals")
def test_a_signal_after_models_came_and_went_in_several_threads(files):
    """The stack that OpenVINO gives a thread for its signals went with the last model, in whatever thread that was.

    A Ctrl-C then ended in a segmentation fault.
    """
    pytest.importorskip("openvino")
    program = f"""
import ctypes, gc, signal, threading
from pathlib import Path
import numpy as np
from fartrack.runtime.openvino_ import OpenVino

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def used():
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.start

c = (runtime := OpenVino(Path({str(files / "fp16.onnx")!r}), 1)).config
memory = np.zeros((1, c.templates - 1, c.kept_tokens, c.memory_width), np.float32)
crops = (np.zeros((1, size, size, 3), np.uint8) for size in (c.search_size, c.template_size))
runtime(*crops, memory)
before, models = used(), [runtime]
del runtime
thread = threading.Thread(target=lambda: (models.clear(), gc.collect()))
thread.start()
thread.join()
assert used() == before
signal.signal(signal.SIGINT, lambda *_: print("seen"))
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "seen\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    ("engine", "lives"),
    [("onnxruntime", True), ("openvino", False), pytest.param("opencv", True, marks=OPENCV.marks), ("torch", False)],
)
def test_an_engine_in_a_forked_process(files, engine, lives):
    """OpenVINO and PyTorch leave their threads behind: a child waited for them for ever, without a word."""
    pytest.importorskip(engine if engine != "opencv" else "cv2")
    program = f"""
import multiprocessing
from pathlib import Path
from fartrack.errors import InputError
from fartrack.runtime import embed, open_runtime
import numpy as np

def work():
    runtime = open_runtime(Path({str(files / "fp16.onnx")!r}), {engine!r}, 2)
    return embed(runtime, np.zeros((1, 48, 48, 3), np.uint8)), runtime

def child(ours):
    for call in (work, lambda: embed(ours, np.zeros((1, 48, 48, 3), np.uint8))):
        try:
            call()
            print("lives")
        except InputError as error:
            print(error)

_, ours = work()
process = multiprocessing.get_context("fork").Process(target=child, args=(ours,))
process.start()
process.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    said = done.stdout.splitlines()
    assert len(said) == 2, done.stderr
    if lives:
        assert said == ["lives", "lives"]
    else:
        assert all(line.startswith(f"{engine} has run in the process that this one was forked from") for line in said)


def test_a_thread_goes_on_when_the_main_one_has_ended(files):
    """A second target then was told that the file is not whole, and a new tracker ended in a bare RuntimeError."""
    pytest.importorskip("openvino")
    program = f"""
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from fartrack.runtime import open_runtime

def work():
    threading.main_thread().join()
    runtime = open_runtime(Path({str(files / "fp16.onnx")!r}), "openvino", 1)
    crops = (np.zeros((2, size, size, 3), np.uint8) for size in (96, 48))
    memory = np.zeros((2, 4, {SMALL.kept_tokens}, 48), np.float32)
    print(runtime(*crops, memory).box.shape, runtime.prepare())

threading.Thread(target=work).start()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "(2, 4) None\n", done.stderr


def test_an_engine_that_cannot_be_loaded_at_the_end_of_a_program(files, monkeypatch):
    def late(name):
        raise RuntimeError("can't register atexit after shutdown")

    monkeypatch.setattr("fartrack.runtime.importlib.import_module", late)
    with pytest.raises(InputError, match=r"^runtime onnxruntime cannot be loaded in a thread once the main thread has"):
        open_runtime(files / "fp16.onnx")


def test_threads_that_come_at_once_share_openvinos_core(monkeypatch):
    openvino_ = pytest.importorskip("fartrack.runtime.openvino_")

    def slow():
        time.sleep(0.1)
        return object()

    monkeypatch.setattr(openvino_.ov, "Core", slow)
    monkeypatch.setattr(openvino_, "_core", functools.cache(openvino_._core.__wrapped__))
    with ThreadPoolExecutor(3) as pool:
        assert len({id(core) for core in [work.result() for work in [pool.submit(openvino_.core) for _ in "abc"]]}) == 1
