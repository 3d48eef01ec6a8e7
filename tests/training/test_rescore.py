import json

import numpy as np
import pytest

from fartrack import models
from fartrack.runtime import open_runtime
from fartrack.training import rescore
from fartrack.training.finish import Calibration
from fartrack.training.presence import encoded
from small import SMALL, call, network


def test_a_new_score_leaves_the_network_as_it_is(tmp_path, monkeypatch):
    """In the float and the int8 file and in the card; the other models of the package stay as they are."""
    pytest.importorskip("onnx")
    from fartrack.export import export

    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    for name in ("pico", "femto"):
        for path in (tmp_path / f"{name}.onnx", tmp_path / "int8" / f"{name}.onnx"):
            export(network(SMALL.replace(name=name)), path, inputs=[call()])
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name, "calibration": {"how": "so"}}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("femto.*")}
    logits = open_runtime(tmp_path / "pico.onnx", "onnxruntime", 1)(*call().values()).logits
    line = encoded(np.arange(4.0 * SMALL.coordinate_words + 1))
    rescore.write({"pico": Calibration(4.0, -1.0, -0.5, line, 0.9, 0.01, hits=0.8, frames=10, iou=0.7)})
    for path in (tmp_path / "pico.onnx", tmp_path / "int8/pico.onnx"):
        engine = open_runtime(path, "onnxruntime", 1)
        assert engine.config == SMALL.replace(
            name="pico", score_bias=4.0, score_slope=-1.0, score_shape=-0.5, score_presence=line
        )
    np.testing.assert_array_equal(
        open_runtime(tmp_path / "pico.onnx", "onnxruntime", 1)(*call().values()).logits, logits
    )
    card = json.loads((tmp_path / "pico.json").read_text())["calibration"]
    assert card["how"] == "so" and card["auroc"] == 0.9 and card["presence"] is True
    assert all(path.read_bytes() == content for path, content in before.items() if path.suffix == ".onnx")


def test_it_says_how_it_is_run(capsys):
    for words in ([], ["--data", "x"]):
        assert rescore.main(words) == 2
        assert "usage: python -m fartrack.training.rescore MODEL" in capsys.readouterr().err
    assert rescore.main(["nobody", "--data", "x"]) == 2
    assert "nobody" in capsys.readouterr().err
