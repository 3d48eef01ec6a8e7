"""Files of one family that keep once what they have in common: read as any other, by every engine."""

import hashlib
import importlib.util
import json
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch

from fartrack import models
from fartrack.config import PRESETS
from fartrack.errors import InputError
from fartrack.export import export, weights_of
from fartrack.network import FARTrack
from fartrack.runtime import open_runtime
from fartrack.sharing import main, share
from small import SMALL, call, network


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A network and its first layers, twice, each in a file of its own."""
    folder = tmp_path_factory.mktemp("family")
    deep = network(SMALL.replace(depth=4))
    for name, depth in (("first", 2), ("middle", 3), ("deep", 4)):
        net = FARTrack(SMALL.replace(depth=depth)).eval()
        net.load_state_dict({name: deep.state_dict()[name] for name in net.state_dict()})
        export(net, folder / f"{name}.onnx", inputs=[call()])
    (folder / "middle.json").write_text('{"name": "middle"}')
    return folder


@pytest.fixture
def shared(family, tmp_path):
    """The same after `share`, and the one that lies in both others as it was."""
    folder = tmp_path / "shared"
    shutil.copytree(family, folder)
    shutil.copy(folder / "middle.onnx", folder / "before.onnx")
    saved = share([folder / f"{name}.onnx" for name in ("first", "deep", "middle")])
    assert (folder / "first.onnx").read_bytes() == (family / "first.onnx").read_bytes()  # a model to take alone
    for name, less, least in zip(("deep", "middle"), saved, (0.3, 0.5), strict=True):
        now, before = ((there / f"{name}.onnx").stat().st_size for there in (folder, family))
        assert less == before - now > least * before
    assert json.loads((folder / "middle.json").read_text()) == {"name": "middle", "bytes": before}
    return folder


def same(path: Path, other: Path, engine: str) -> None:
    for a, b in zip(*(open_runtime(p, engine, 1)(*call().values()) for p in (path, other)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_every_engine_reads_it(shared, engine, tmp_path):
    pytest.importorskip(engine)
    same(shared / "middle.onnx", shared / "before.onnx", engine)
    link = tmp_path / "link.onnx"  # some installers link every file to a store
    link.symlink_to(shared / "middle.onnx")
    same(link, shared / "before.onnx", engine)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_a_link_to_a_file_whose_tensors_another_tool_put_beside_it(shared, engine, tmp_path):
    pytest.importorskip(engine)
    (tmp_path / "there").mkdir()
    model = onnx.load(shared / "before.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props if entry.key != "crc32"}
    onnx.helper.set_model_props(model, about)
    onnx.save(model, tmp_path / "there" / "m.onnx", save_as_external_data=True, location="m.data")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "there" / "m.onnx")
    same(tmp_path / "link.onnx", tmp_path / "there" / "m.onnx", engine)


def test_its_weights_are_read_and_exported_whole(shared, tmp_path):
    export(models.load_network(shared / "middle.onnx"), tmp_path / "whole.onnx", inputs=[call()])
    assert weights_of(tmp_path / "whole.onnx")[0].keys() == weights_of(shared / "before.onnx")[0].keys()
    same(tmp_path / "whole.onnx", shared / "before.onnx", "onnxruntime")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_alone_it_says_what_is_missing(shared, engine, tmp_path):
    pytest.importorskip(engine)
    alone = shutil.copy(shared / "middle.onnx", tmp_path)
    with pytest.raises(InputError, match=r"middle\.onnx has tensors in another file, which is not beside it"):
        open_runtime(Path(alone), engine, 1)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_beside_another_training_it_tracks_nothing(shared, engine):
    """Engines take what lies at a place, whatever it is: boxes were off by pixels, or NaN, without a word."""
    pytest.importorskip(engine)
    content = bytearray((shared / "first.onnx").read_bytes())
    content[len(content) // 2] ^= 1  # of the same size
    (shared / "first.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"middle\.onnx has tensors in another file, which is not beside it as it was"):
        open_runtime(shared / "middle.onnx", engine, 1)


ENGINES = ["onnxruntime", "openvino", "opencv", "torch"]


def missing(engine):
    return not hasattr(cv2.dnn, "ENGINE_NEW") if engine == "opencv" else not importlib.util.find_spec(engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cache_of_links_to_files_without_their_names(shared, engine, tmp_path):
    """As of Hugging Face's downloads: what lay beside a link was not looked for, and some engines follow no links."""
    if missing(engine):
        pytest.skip(f"no {engine}")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for number, name in enumerate(("first", "deep", "middle")):
        shutil.copy(shared / f"{name}.onnx", tmp_path / "blobs" / str(number))
        (tmp_path / "snapshot" / f"{name}.onnx").symlink_to(f"../blobs/{number}")
    same(tmp_path / "snapshot/middle.onnx", shared / "before.onnx", engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_folder_in_place_of_what_others_lean_on(shared, engine):
    """It was taken for one that had been looked at."""
    if missing(engine):
        pytest.skip(f"no {engine}")
    (shared / "first.onnx").unlink()
    (shared / "first.onnx").mkdir()
    with pytest.raises(
        InputError, match=r"middle\.onnx has tensors in .*first\.onnx, which cannot be read \(.*\): put"
    ):
        open_runtime(shared / "middle.onnx", engine, 1)


def test_what_lies_in_a_file_with_a_long_name(family, tmp_path):
    """From 128 characters on its checksum was not looked at."""
    base = tmp_path / f"{'n' * 150}.onnx"
    shutil.copy(family / "deep.onnx", base)
    shutil.copy(family / "middle.onnx", tmp_path / "m.onnx")
    share([base, tmp_path / "m.onnx"])
    same(tmp_path / "m.onnx", family / "middle.onnx", "onnxruntime")
    content = bytearray(base.read_bytes())
    content[len(content) // 2] ^= 1
    base.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.onnx has tensors in another file, which is not beside it as it was"):
        open_runtime(tmp_path / "m.onnx")


def test_what_others_lean_on_is_not_replaced(shared):
    """`fartrack export pico` in a copy of the package's folder took tiny's and nano's tensors away."""
    (shared / "a.onnx").write_text("no model")
    before = (shared / "first.onnx").read_bytes()
    with pytest.raises(InputError, match=r"first\.onnx holds tensors of deep\.onnx"):
        export(network(SMALL), shared / "first.onnx", inputs=[call()])
    assert (shared / "first.onnx").read_bytes() == before
    export(network(SMALL), shared / "middle.onnx", inputs=[call()])  # nothing lies in that


def test_what_cannot_share(family, shared, tmp_path, capsys):
    shutil.copy(family / "first.onnx", tmp_path)
    stranger = network(SMALL, seed=1)
    for weights in stranger.parameters():  # all of them, as after a training of its own
        weights.data += 0.01 * torch.randn_like(weights)
    export(stranger, shared / "stranger.onnx", inputs=[call()])
    untouched = {path.name: path.read_bytes() for path in shared.iterdir()}
    for paths, reason in (
        ([family / "deep.onnx", tmp_path / "first.onnx"], "in its own folder"),
        ([family / "deep.onnx", family / "deep.onnx"], "in its own folder"),
        ([shared / "first.onnx", shared / "middle.onnx"], "refers to another file already"),
        ([shared / "first.onnx", shared / "before.onnx", shared / "stranger.onnx"], "few tensors in common"),
        ([shared / "first.onnx", shared / "none.onnx"], "none.onnx does not exist: check the path"),
        ([shared / "first.onnx"], "usage"),
    ):
        assert main([str(path) for path in paths]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
    assert {path.name: path.read_bytes() for path in shared.iterdir()} == untouched


@pytest.mark.parametrize(("module", "package"), [("sharing", "onnx"), ("evaluation.gpu", "torch")])
def test_programs_without_what_they_need(monkeypatch, capsys, module, package):
    """In the plain install they ended in a traceback."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"fartrack.{module}", raising=False)
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(f"fartrack.{module}", run_name="__main__")
    assert caught.value.code == 2
    said = f'fartrack: fartrack.{module} needs {package}: pip install ".[train]" in a checkout of fartrack\n'
    assert capsys.readouterr().err == said


def test_packaged_files_that_share_are_of_the_weights_beside_them():
    """Weights of pico that are packaged without the others' being made again would be theirs too, at other places."""
    sharing = set()
    for path in models.WEIGHTS.rglob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if place:
                other = (path.parent / place["location"]).read_bytes()
                assert place["checksum"] == hashlib.sha1(other, usedforsecurity=False).hexdigest()
                sharing.add(path.relative_to(models.WEIGHTS).as_posix())
    assert {"nano.onnx", "tiny.onnx"} <= sharing


def test_packaged_models_are_the_first_layers_of_one_another():
    *shallow, (deepest, _) = [weights_of(models.find(name)) for name in PRESETS]  # femto has weights of its own
    for weights, _ in shallow:
        for name, value in weights.items():
            assert value.equal(deepest[name]), name
