"""Which arithmetic a packaged model runs with: what was measured to hold, where the machine can."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import Mock

import pytest

from fartrack import Tracker, models
from fartrack.evaluation import fast
from fartrack.runtime import choice
from fartrack.sharing import referred
from small_sets import folder_set

THERE = ModuleSpec("engine", None, origin="engine/__init__.py")


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package with one model whose card knows nothing, on a machine that has everything."""
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    monkeypatch.setattr(choice, "runs_here", lambda precision, engine: True)
    monkeypatch.setattr(choice, "_loads", lambda engine: True)
    monkeypatch.setattr(choice, "features", lambda: "AuthenticAMD")
    path = tmp_path / "pico.onnx"
    path.write_bytes(b"float")
    path.with_suffix(".json").write_text('{"name": "pico"}')
    models.int8_of(path).parent.mkdir()
    models.int8_of(path).write_bytes(b"rounded")
    return path


def decide(path, **ao):
    by = {("pico", "onnxruntime"): "plain", ("int8", "onnxruntime"): "int8"}
    by |= {("pico", "openvino-bf16"): "bf16", ("int8", "openvino-bf16"): "both", ("int8", "openvino"): "int8"}

    def measured(file, engine):
        return ao[by["int8" if file.parent.name == "int8" else "pico", engine]]

    return fast.decide(path, measured)


def test_only_what_holds_its_accuracy_is_written(packaged):
    found = decide(packaged, plain=50.0, int8=49.6, bf16=49.4, both=49.9)
    card = json.loads(packaged.with_suffix(".json").read_text())
    assert card["fast"] == [["int8", "openvino-bf16"], ["int8", "openvino"], ["int8", "onnxruntime"]]
    assert card["fast_ao"] == found
    assert card["name"] == "pico"
    assert models.int8_of(packaged).exists()


def test_an_int8_file_of_no_use_goes(packaged):
    decide(packaged, plain=50.0, int8=40.0, bf16=50.0, both=40.0)
    assert not models.int8_of(packaged).exists()
    assert choice.choose("pico") == (packaged, "openvino-bf16")


def test_an_int8_file_without_room_is_measured_and_left_out(packaged):
    found = fast.decide(packaged, lambda file, engine: 50.0, room=11e-6)  # 5 bytes and 7
    assert json.loads(packaged.with_suffix(".json").read_text())["fast"] == [["fp16", "openvino-bf16"]]
    assert found["int8 onnxruntime"] == 50.0
    assert not models.int8_of(packaged).exists()
    models.int8_of(packaged).write_bytes(b"rounded")
    fast.decide(packaged, lambda file, engine: 50.0, room=13e-6)
    assert models.int8_of(packaged).exists()


def test_a_name_gets_the_first_that_runs_here(packaged, monkeypatch):
    assert choice.choose("pico") == (packaged, None)
    decide(packaged, plain=50.0, int8=50.0, bf16=50.0, both=50.0)
    assert choice.choose("pico") == (models.int8_of(packaged), "openvino-bf16")
    monkeypatch.setattr(choice, "runs_here", lambda precision, engine: engine == "onnxruntime")
    assert choice.choose("pico") == (models.int8_of(packaged), "onnxruntime")
    monkeypatch.setattr(choice, "runs_here", lambda precision, engine: False)
    assert choice.choose("pico") == (packaged, None)


def test_a_named_engine_or_file_is_what_was_named(packaged):
    decide(packaged, plain=50.0, int8=50.0, bf16=50.0, both=50.0)
    assert choice.choose("pico", "onnxruntime") == (packaged, "onnxruntime")
    assert choice.choose(packaged) == (packaged, None)


def test_what_the_cpu_must_have(monkeypatch):
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None if name == "openvino" else THERE)
    monkeypatch.setattr(choice, "features", lambda: "avx2 avx512_vnni")
    assert choice.runs_here("int8", "onnxruntime")
    assert not choice.runs_here("int8", "openvino-bf16")
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: THERE)
    assert not choice.runs_here("fp16", "openvino-bf16")
    monkeypatch.setattr(choice, "features", lambda: "amx_bf16 avx_vnni")
    assert choice.runs_here("int8", "openvino-bf16")
    monkeypatch.setattr(choice.importlib.metadata, "version", lambda name: "2025.2.0")
    assert not choice.runs_here("int8", "openvino-bf16")
    assert choice.runs_here("int8", "onnxruntime")
    monkeypatch.setattr(choice, "features", lambda: "")
    assert not choice.runs_here("int8", "onnxruntime")


def test_a_folder_called_like_an_engine_is_none(tmp_path, monkeypatch):
    """As of somebody's OpenVINO models, beside the script."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    del sys.modules["openvino"]
    (tmp_path / "openvino").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(choice, "features", lambda: "avx512_vnni")
    assert not choice.runs_here("int8", "openvino")


def test_an_engine_that_is_broken_is_passed_over(packaged, monkeypatch):
    decide(packaged, plain=50.0, int8=50.0, bf16=50.0, both=50.0)
    monkeypatch.setattr(choice, "_loads", lambda engine: "openvino" not in engine)
    assert choice.choose("pico")[1] in (None, "onnxruntime")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "openvino", None)  # importing it fails
    assert not choice._loads("openvino-bf16")
    for error in (AttributeError("no Core"), OSError("libtbb.so")):
        monkeypatch.setattr(choice.importlib, "import_module", Mock(side_effect=error))
        assert not choice._loads("openvino")
    error = ImportError("interrupted")
    error.__context__ = KeyboardInterrupt()
    monkeypatch.setattr(choice.importlib, "import_module", Mock(side_effect=error))
    with pytest.raises(ImportError):
        choice._loads("openvino")


def test_a_cpu_that_may_not_be_asked(monkeypatch):
    """Some sandboxes forbid to read /proc/cpuinfo."""
    monkeypatch.setattr(choice.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Path, "read_text", lambda *args, **more: (_ for _ in ()).throw(PermissionError("no")))
    assert choice.features.__wrapped__() == ""


def test_bfloat16_is_passed_over_where_float32_is_faster(packaged, monkeypatch):
    """Intel computes in it at speed with AMX alone, which some virtual machines hide."""
    decide(packaged, plain=50.0, int8=50.0, bf16=50.0, both=50.0)
    for features, engine in (
        ("GenuineIntel avx512_bf16 avx512_vnni", "openvino"),
        ("GenuineIntel avx512_bf16 avx512_vnni amx_bf16", "openvino-bf16"),
        ("AuthenticAMD avx512_bf16 avx512_vnni", "openvino-bf16"),
    ):
        monkeypatch.setattr(choice, "features", lambda features=features: features)
        assert choice.choose("pico") == (models.int8_of(packaged), engine)
    decide(packaged, plain=50.0, int8=40.0, bf16=50.0, both=40.0)
    monkeypatch.setattr(choice, "features", lambda: "GenuineIntel avx512_bf16")
    assert choice.choose("pico") == (packaged, None)


@pytest.fixture
def small(tmp_path, tiny_model, monkeypatch):
    """A package with the small model, on a machine that runs int8 in ONNX Runtime."""
    path = tmp_path / "weights" / "small.onnx"
    path.parent.mkdir()
    path.write_bytes(tiny_model.onnx.read_bytes())
    monkeypatch.setattr(models, "WEIGHTS", path.parent)
    monkeypatch.setattr(choice, "runs_here", lambda precision, engine: engine == "onnxruntime")
    return path


def test_command_makes_and_measures(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fast, "LOSS", 100.0)
    sequences = folder_set(tmp_path / "set", names=("a", "b"))
    given = ["small", "--sequences", str(sequences), "--crops", str(sequences), "--out", str(tmp_path / "out")]
    assert fast.main(given) == 0
    ao = models.card(small)["fast_ao"]
    assert set(ao) == {"fp16 onnxruntime", "int8 onnxruntime"}
    assert 1 < ao["int8 onnxruntime"] < 100
    assert Tracker("small", threads=1).runtime.precision == "int8"
    assert "int8 onnxruntime" in capsys.readouterr().out


def test_lengths_of_passes_count_alike(small, tmp_path, monkeypatch):
    """One target lost by a rounding is worth less so."""
    monkeypatch.setattr(fast, "measure", lambda sequences, out, workers, frames, model, engine: float(frames))
    sequences = folder_set(tmp_path / "set", names=("a",))
    given = ["small", "--sequences", str(sequences), "--crops", str(sequences), "--frames", "10", "30"]
    assert fast.main(given) == 0
    assert models.card(small)["fast_ao"] == {"fp16 onnxruntime": 20.0, "int8 onnxruntime": 20.0}


def test_what_a_family_has_in_common_is_kept_once(small, tmp_path, monkeypatch, capsys):
    """Or a release were more steps by hand, in the right order, and the package over its 40 MB without one of them."""
    twin = small.with_name("twin.onnx")
    twin.write_bytes(small.read_bytes())
    whole = fast.room_taken(small.parent)
    monkeypatch.setattr(fast, "measure", lambda *more: 50.0)
    sequences = str(folder_set(tmp_path / "set", names=("a",)))
    given = ["small", "twin", "--sequences", sequences, "--crops", sequences, "--share", "small", "twin", "--room"]
    for _ in range(2):  # again when int8 is made anew
        assert fast.main([*given, str(1.7 * whole)]) == 0
        assert [referred(path) for path in (small, twin)] == [set(), {"small.onnx"}]
        assert [referred(models.int8_of(path)) for path in (small, twin)] == [set(), {"small.onnx"}]
    assert Tracker("twin", threads=1).runtime.precision == "int8"
    assert fast.main([*given, str(0.5 * whole)]) == 2
    assert f"more than --room {0.5 * whole:g}" in capsys.readouterr().err
    before = models.int8_of(small).read_bytes()  # twin's tensors lie in it
    assert fast.main(["small", "--sequences", sequences, "--crops", sequences]) == 2
    assert "small.onnx, which would be made anew: name twin too" in capsys.readouterr().err
    assert models.int8_of(small).read_bytes() == before


def test_wrong_file_in_one_line(small, tmp_path, capsys):
    sequences = folder_set(tmp_path / "set", names=("a",))
    assert fast.main(["small", "--sequences", str(sequences), "--crops", str(tmp_path / "none.tar")]) == 2
    told = capsys.readouterr().err
    assert "none.tar" in told and told.count("\n") == 1


def test_no_length_in_one_line(small, tmp_path, capsys):
    assert fast.main(["small", "--sequences", str(tmp_path), "--frames"]) == 2
    told = capsys.readouterr().err
    assert "--frames" in told and told.count("\n") == 1


def test_what_is_wrong_costs_no_int8_file(small, tmp_path, monkeypatch, capsys):
    """It was removed before anything was looked at."""
    models.int8_of(small).parent.mkdir()
    models.int8_of(small).write_bytes(b"rounded")
    sequences = str(folder_set(tmp_path / "set", names=("a",)))

    def refused(*more):
        assert fast.main(["small", "--out", str(tmp_path / "out"), *more]) == 2
        assert models.int8_of(small).read_bytes() == b"rounded"
        return capsys.readouterr().err

    assert "nosuch: no such folder" in refused("--sequences", str(tmp_path / "nosuch"))
    assert "no.tar cannot be read" in refused("--sequences", sequences, "--crops", str(tmp_path / "no.tar"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "fartrack.export")
    assert 'int8 files need onnx: pip install ".[train]"' in refused("--sequences", sequences)


def test_a_failure_leaves_the_package_as_it_was(small, tmp_path, monkeypatch, capsys):
    """The int8 files of all models named later were gone then, and their names ran in float without a word."""
    twin = small.with_name("twin.onnx")
    twin.write_bytes(small.read_bytes())
    models.int8_of(small).parent.mkdir()
    for path in (small, twin):
        models.int8_of(path).write_bytes(path.name.encode())
        path.with_suffix(".json").write_text("{}")
    sequences = str(folder_set(tmp_path / "set", names=("a",)))
    given = ["small", "twin", "--sequences", sequences, "--crops", sequences, "--out"]

    def second(sequences, out, workers, frames, model, engine):
        if "twin" in str(out):
            raise KeyboardInterrupt
        return 50.0

    monkeypatch.setattr(fast, "measure", second)
    assert fast.main([*given, str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.endswith("fartrack: stopped\n")
    (tmp_path / "taken").touch()
    assert fast.main([*given, str(tmp_path / "taken")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for path in (small, twin):
        assert models.int8_of(path).read_bytes() == path.name.encode()
        assert path.with_suffix(".json").read_text() == "{}"
