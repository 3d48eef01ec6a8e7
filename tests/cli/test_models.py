"""`fartrack models`: the table."""

import json

import pytest

from fartrack import models
from fartrack.cli.main import main

CARD = {
    "name": "pico",
    "layers": 6,
    "parameters": 3_100_000,
    "scores": {"dev": {"ao": 61.24, "sr50": 75, "sr75": 40.5, "auc": 60.1, "precision": 80.0}},
    "trained_on": ["one set", "another set"],
    "licence": "Apache-2.0",
}


@pytest.fixture
def weights(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    return tmp_path


def test_table(weights, capsys):
    (weights / "pico.onnx").write_bytes(bytes(6_400_000))
    (weights / "pico.json").write_text(json.dumps(CARD))
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    for cell in ("pico", "6", "3.1 M", "6.4 MB", "61.2", "75.0", "40.5", "one set, another set", "Apache-2.0"):
        assert cell in said


@pytest.mark.parametrize("card", [None, {}, {"scores": {}}, {"scores": {"dev": {"ao": None}}}, {"scores": None}, []])
def test_a_card_may_say_little(weights, capsys, card):
    (weights / "tiny.onnx").write_bytes(bytes(1000))
    if card is not None:
        (weights / "tiny.json").write_text(json.dumps(card))
    assert main(["models"]) == 0
    assert "tiny" in capsys.readouterr().out


def test_broken_card(weights, capsys):
    (weights / "tiny.onnx").write_bytes(bytes(1000))
    (weights / "tiny.json").write_text("{")
    assert main(["models"]) == 2
    assert "tiny.json: not a model card" in capsys.readouterr().err


def test_nothing_packaged(weights, capsys):
    assert main(["models"]) == 2
    assert "no models are packaged" in capsys.readouterr().err
